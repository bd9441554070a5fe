"""Attack 7: a pickle that would run code, offered as the model."""

from collections.abc import Callable

import pytest

from secureml.demo.attacks import Outcome, Stage, offer_a_pickle
from secureml.errors import UnsafeFormatError


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A signed and gated pickle is refused all the same."""
    outcome = row(7)

    assert outcome.found == "refused SML210"
    assert outcome.what
    assert outcome.why


def test_its_code_is_not_run(stage: Stage) -> None:
    """Nothing of the pickle is executed on the way to the refusal."""
    with pytest.raises(UnsafeFormatError, match="pickle"):
        offer_a_pickle(stage)

    assert not (stage.scratch / "code-was-run").exists()
