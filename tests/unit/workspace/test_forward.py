"""Keys that follow each other and a sealed tail, begun in a workspace that exists."""

import json
import secrets
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="a workspace imports what registers tables")

import secureml
from secureml import audit, keys
from secureml.audit._epochs import chained
from secureml.cli import main
from secureml.errors import (
    ConsistencyError,
    KeyUnavailableError,
    StoreBusyError,
    StoreError,
    VerificationError,
)
from secureml.evidence import Trust
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.keeping import Places, create_epochs
from secureml.evidence.log import Log
from secureml.evidence.trust import Identity
from secureml.workspace import Workspace, verify_directory

SECRET = secrets.token_hex()
Captured = pytest.CaptureFixture[str]


def call(ws: Workspace) -> None:
    """Record a call, and publish it."""

    @ws.audited(action="count", capture=["row"])
    def count(row: list[int]) -> int:
        return len(row)

    count([1])
    ws.audit_log.publish()


def hand_over(ws: Workspace, passphrase: str | None = None) -> None:
    """Let some keys follow each other quickly in the closed workspace."""
    layout = ws._layout
    keeping = chained(layout.audit, layout.private, passphrase=passphrase)
    with audit.AuditLog(
        Log.open(layout.audit, private=layout.private, keeping=keeping, purpose="audit"),
        details=layout.details,
        private=layout.private,
        epochs=timedelta(microseconds=1),
    ) as log:
        for _ in range(3):
            log.append({"type": "config", "config": {"name": "x"}})
            log.publish()


@pytest.fixture(params=["serve", "train"])
def ws(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace of either role with a record, open."""
    made = secureml.open(tmp_path / "ws", role=request.param)
    call(made)
    return made


def test_keys_follow_each_other_from_the_present_one_on(ws: Workspace) -> None:
    """The key is the first of a chain, leaves no copy, and everything goes on to verify."""
    layout, before = ws._layout, ws.trust
    old = (layout.keys / "audit.pem").read_bytes()
    first = ws.begin_epochs()
    call(ws)
    ws.close()
    hand_over(ws)
    with secureml.open(ws.path, create=False, role=ws.role) as again:
        call(again)

    assert not (layout.keys / "audit.pem").exists()
    assert all(old != path.read_bytes() for path in layout.private.rglob("*.pem"))
    assert (layout.epochs / "audit.notes").read_bytes().count(b"\n\n") >= 2
    (pinned,) = (i for i in Trust.load(layout.trust).identities if i.epochs)
    assert first == pinned.fingerprint
    assert verify_directory(ws.path, trust=Trust.load(layout.trust)).sealed
    with pytest.raises(VerificationError):
        verify_directory(ws.path, trust=before)
    read = secureml.open(ws.path, create=False, role=ws.role)
    records = [record for _, record in read.audit_log.records() if record.type == "call"]
    assert len(records) == 3
    assert all(record.id in str(read.trace(record.id)) for record in records)


def test_keys_that_follow_each_other_are_not_begun_or_replaced_again(tmp_path: Path) -> None:
    """There is one first key, and none is replaced by hand."""
    ws = secureml.open(tmp_path / "ws")
    ws.begin_epochs()
    with pytest.raises(KeyUnavailableError, match="already"):
        ws.begin_epochs()
    with pytest.raises(KeyUnavailableError, match="no audit key"):
        ws.rotate(purpose="audit", passphrase=SECRET)
    call(ws)
    ws.close()
    assert ws.verify().sealed


def test_protected_keys_are_followed_by_protected_keys(tmp_path: Path) -> None:
    """The passphrase of the key that was rotated in opens all that follow."""
    with secureml.open(tmp_path / "ws") as ws:
        call(ws)
        ws.rotate(purpose="audit", passphrase=SECRET)
        call(ws)
        ws.begin_epochs()
        call(ws)
    hand_over(ws, SECRET)
    found = sorted(Places.of(ws._layout.audit, ws._layout.private).keys.glob("*.pem"))
    assert found
    assert all(map(keys.is_encrypted, found))
    with secureml.open(ws.path, passphrase=SECRET) as again:
        call(again)
    assert again.verify().sealed
    with pytest.raises(KeyUnavailableError):
        secureml.open(ws.path).audit_log.log.acquire()


def test_a_crash_between_the_copy_and_the_original(tmp_path: Path) -> None:
    """The same call again destroys the key that was copied; a key of its own stays."""
    first, other = tmp_path / "first.pem", tmp_path / "other.pem"
    keys.create(first, scheme="ed25519", purposes={"audit"})
    keys.create(other, scheme="ed25519", purposes={"audit"})
    kept = first.read_bytes()
    where = tmp_path / "ev/audit", tmp_path / "private"
    made = create_epochs(*where, origin="log.example/a", first=first)
    first.write_bytes(kept)
    first.chmod(0o600)

    assert made == create_epochs(*where, origin="log.example/a", first=first)
    assert not first.exists()
    with pytest.raises(KeyUnavailableError, match="already"):
        create_epochs(*where, origin="log.example/a", first=other)
    assert other.exists()
    at = Places.of(*where)
    assert EpochKeys.open(at.keys, at.notes, origin="log.example/a").number == 0


def test_others_who_record_are_not_left_behind(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun while another process records."""
    with monkeypatch.context() as patched:
        patched.setattr("secureml.workspace.sealing.others_record", lambda *_: True)
        for begin in (ws.begin_epochs, ws.begin_tail):
            with pytest.raises(StoreBusyError, match="another process"):
                begin()
    assert (ws._layout.keys / "audit.pem").exists()
    call(ws)
    ws.close()
    assert ws.verify().sealed


def test_the_tail_is_sealed_at_once(ws: Workspace, tmp_path: Path, capsys: Captured) -> None:
    """The auditor with the key checks the end; a cut log, and a tail begun anew, are refused."""
    layout = ws._layout
    file = tmp_path / "auditor.key"
    file.write_text(ws.begin_tail().hex() + "\n")
    with pytest.raises(StoreError):
        ws.begin_tail()
    call(ws)
    shutil.copytree(layout.root, tmp_path / "copy")
    call(ws)
    ws.close()
    command = ["log", "verify", str(ws.path), "--json", "--tail-key", str(file)]
    capsys.readouterr()

    assert 0 == main(command)
    (log,) = (log for log in json.loads(capsys.readouterr().out)["logs"] if "tail" in log)
    assert log["tail"]["uncovered"] == 0
    assert log["tail"]["size"] == log["size"]
    assert ws.verify().sealed
    # Cut to where it was before, by somebody who finds the last checkpoint as well.
    shutil.rmtree(layout.private / "checkpoints")
    shutil.rmtree(ws.path)
    shutil.copytree(tmp_path / "copy", ws.path)
    assert 1 == main(command)
    assert "does not end as its sealed tail says" in capsys.readouterr().out
    file.write_text("00" * 32)
    assert 1 == main(command)
    file.write_text("no key")
    assert 2 == main(command)


def test_the_command_line_begins_both(tmp_path: Path, capsys: Captured) -> None:
    """Two commands begin them, and a third tells whether they hold."""
    ws = secureml.open(tmp_path / "ws", role="serve")
    call(ws)
    ws.close()
    key = tmp_path / "auditor.key"

    assert 0 == main(["log", "begin-epochs", str(ws.path)])
    assert 0 == main(["log", "begin-tail", str(ws.path), "--key-out", str(key)])
    assert key.stat().st_mode & 0o777 == 0o600
    assert 0 == main(["log", "verify", str(ws.path), "--tail-key", str(key), "--strict"])
    assert "not cut or changed" in capsys.readouterr().out
    before = key.read_bytes()
    assert 0 != main(["log", "begin-tail", str(ws.path), "--key-out", str(key)])
    assert before == key.read_bytes()
    assert 0 != main(["log", "begin-tail", str(ws.path), "--key-out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
    assert 0 != main(["log", "begin-epochs", str(ws.path)])


def test_a_second_signature_is_asked_for_once(tmp_path: Path) -> None:
    """`secureml.open(also=...)` signs each checkpoint of the audit log twice."""
    try:
        signer = keys.generate("mldsa-44", purposes={"audit"})
    except secureml.SecureMLError:
        pytest.skip("this build of cryptography has no ML-DSA")
    with secureml.open(tmp_path / "ws", role="serve", also=signer) as ws:
        (own,) = ws.trust.identities
        second = Identity(
            name="second", verifier=signer.verifier, roles=own.roles, origin=own.origin
        )
        ws.pin(Trust((second,)))
        call(ws)

    note = (ws.path / "audit" / "checkpoint").read_text("utf-8")
    assert note.count(f"— {own.origin} ") == 2
    assert ws.verify().sealed
    assert 0 == main(["log", "verify", str(ws.path)])
    alone = replace(ws.trust, identities=(second,), text="")
    with pytest.raises((VerificationError, ConsistencyError)):
        verify_directory(ws.path, trust=alone)
