"""Attack 5: a file added to the model directory."""

from collections.abc import Callable

import pytest

from secureml.demo.attacks import Outcome, Stage
from secureml.errors import UnexpectedFileError


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A model directory with an unsigned file is not loaded."""
    outcome = row(5)

    assert outcome.found == "refused SML209"
    assert outcome.what
    assert outcome.why


@pytest.mark.parametrize("name", [".git/config", "sub/x.json", ".hidden", "model.sig.bak"])
def test_under_any_name(stage: Stage, name: str) -> None:
    """Names that other tools ignore are refused too."""
    path = stage.model()
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"{}")

    with pytest.raises(UnexpectedFileError, match="nothing signed names"):
        stage.load(path)


def test_a_link_is_refused(stage: Stage) -> None:
    """A symbolic link in the directory is refused, wherever it leads."""
    path = stage.model()
    (path / "link.json").symlink_to(path / "features.json")

    with pytest.raises(UnexpectedFileError, match="link"):
        stage.load(path)
