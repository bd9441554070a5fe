"""Attack 10: the gate weakened under the same name."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A gate with another plan does not meet the rule."""
    outcome = row(10)

    assert outcome.found == "refused SML208"
    assert outcome.what
    assert outcome.why
