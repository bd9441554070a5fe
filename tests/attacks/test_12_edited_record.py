"""Attack 12: an audit record edited."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """An edited record is found and located."""
    outcome = row(12)

    assert outcome.found == "refused SML201"
    assert outcome.what
    assert outcome.why
