"""Attack 15: the whole directory forged again, consistently, under another key."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A forged directory is refused under the auditor's trust."""
    outcome = row(15)

    assert outcome.found == "refused SML203"
    assert outcome.what
    assert outcome.why
