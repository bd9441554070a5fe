"""Attack 13: the log's tail cut, entries only."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A cut log contradicts its checkpoint."""
    outcome = row(13)

    assert outcome.found == "refused SML209"
    assert outcome.what
    assert outcome.why
