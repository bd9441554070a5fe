"""Attack 11: a gate run again until it turns green."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """Attempts are counted, and a rule can limit them."""
    outcome = row(11)

    assert outcome.found == "refused SML208"
    assert outcome.what
    assert outcome.why
