"""Attack 3: pandas metadata edited, a dictionary reordered."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """Metadata and dictionary order change neither the digest nor the frame."""
    outcome = row(3)

    assert outcome.found == "accepted"
    assert outcome.what
    assert outcome.why
