"""Attack 16: a statement back-dated with a retired key."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

import secureml
from secureml import keys
from secureml.demo.attacks import Outcome, Stage
from secureml.errors import ExpiredError
from secureml.evidence.attest import attest
from secureml.evidence.blobs import BlobStore
from secureml.evidence.log import Log
from secureml.evidence.statements import StatementLog


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A retired key signs nothing more, whatever date it writes."""
    outcome = row(16)

    assert outcome.found == "refused SML207"
    assert outcome.what
    assert outcome.why


def test_nor_when_it_is_logged(stage: Stage) -> None:
    """An insider who logs it with an old time is refused by the leaf's place."""
    root = stage.workshop()
    private = stage.scratch / "evidence.private"
    old = keys.load(private / "keys" / "statements.pem")
    with secureml.open(root, create=False) as ws:
        statement = ws.dataset(
            root / "data" / "wdbc.parquet", source="back-dated", licence="x"
        ).statement()
        ws.rotate(passphrase=secrets.token_urlsafe())
        trust = ws.trust
    signer = keys.load(private / "keys" / "log.pem", purposes=frozenset({"log"}))
    with Log.open(root / "log", private=private, signer=signer) as log:
        past = StatementLog(
            log, BlobStore(root / "blobs"), clock=lambda: datetime(2020, 1, 1, tzinfo=UTC)
        )
        past.append(attest(statement, old))

    with pytest.raises(ExpiredError, match="retired"):
        secureml.workspace.verify_directory(root, trust=trust)
