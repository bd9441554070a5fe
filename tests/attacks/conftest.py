"""One story for all attacks: the demo's own chain, built once per worker."""

import itertools
from collections.abc import Callable

import pytest

pytest.importorskip("sklearn", reason="the demo's chain needs scikit-learn")
pytest.importorskip("skops", reason="the demo's chain needs skops")

from secureml.demo.attacks import ATTACKS, Outcome, Stage, run_attack
from secureml.demo.story import Story, tell


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The demo's sealed evidence directory, and what lies beside it."""
    root = tmp_path_factory.mktemp("story")
    (root / "scratch").mkdir()
    return tell(root / "evidence", scratch=root / "scratch", say=lambda *_: None)


_numbers = itertools.count(1_000)


@pytest.fixture
def stage(story: Story) -> Stage:
    """A fresh stage, for one attack."""
    return Stage(story, next(_numbers))


@pytest.fixture
def row(story: Story) -> Callable[[int], Outcome]:
    """Run a row of the demo's table."""

    def run(number: int) -> Outcome:
        title, expected, attack = ATTACKS[number - 1]
        return run_attack(number, title, expected, attack, Stage(story, next(_numbers)))

    return run
