"""Attack 6: two model files swapped by name."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """Names are bound to contents: swapped files are refused."""
    outcome = row(6)

    assert outcome.found == "refused SML201"
    assert outcome.what
    assert outcome.why
