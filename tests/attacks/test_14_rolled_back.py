"""Attack 14: tail and checkpoint rolled back together."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome, Stage


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A remembered checkpoint finds a rollback."""
    outcome = row(14)

    assert outcome.found == "refused SML206"
    assert outcome.what
    assert outcome.why


def test_without_a_checkpoint_it_is_accepted_with_a_warning(stage: Stage) -> None:
    """Nobody can tell a consistent older copy from the present; the report says so."""
    report = stage.verify(stage.story.early)

    assert report.rollback == "not checkable"
    assert [w for w in report.warnings if w.startswith("rollback: not checkable")] != []
