"""Attack 8: a model signed by a key that is not trusted."""

from collections.abc import Callable

from secureml.demo.attacks import Outcome


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A stranger's signature is refused."""
    outcome = row(8)

    assert outcome.found == "refused SML203"
    assert outcome.what
    assert outcome.why
