"""Attack 9: a model signed by the trusted key, through the plain function."""

from collections.abc import Callable

import pytest

import secureml
from secureml import keys
from secureml.demo.attacks import Outcome, Stage
from secureml.errors import ChainError


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A trusted signature without claims does not load."""
    outcome = row(9)

    assert outcome.found == "refused SML208"
    assert outcome.what
    assert outcome.why


def test_old_claims_do_not_help(stage: Stage) -> None:
    """Claims of another model beside a trusted signature are refused."""
    path = stage.model()
    (path / "features.json").write_text("[]\n", encoding="utf-8")
    secureml.sign_model(path, key=keys.load(stage.private / "keys" / "statements.pem"))

    with pytest.raises(ChainError, match="model signature"):
        stage.load(path)
