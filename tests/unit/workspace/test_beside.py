"""Receipts, boundary notes and tails beside the logs: they grow after a seal, and are judged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="a workspace imports what registers tables")

import secureml
from secureml import keys
from secureml.cli import main
from secureml.errors import ConsistencyError, UnexpectedFileError
from secureml.evidence import (
    Trust,
    Witness,
    add_signatures,
    sign_cosignature,
)
from secureml.evidence.anchors import Receipt
from secureml.evidence.anchors.keeping import append_receipt
from secureml.evidence.keeping import create_epochs, create_tail
from secureml.wire.note import COSIGNATURE, VKey
from secureml.workspace import Workspace, verify_directory

WITNESS = keys.generate("ed25519", purposes={"witness"})
NAME = "witness.example/w1"


def _count(obj: list[int]) -> int:
    return len(obj)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A served workspace with a record, open."""
    made = secureml.open(tmp_path / "ws", role="serve")
    made.audited(action="count")(_count)([1])
    made.audit_log.publish()
    return made


def witnessed(trust: Trust) -> Trust:
    """Return *trust*, with the witness in it."""
    witness = Witness("w1", VKey(NAME, COSIGNATURE, WITNESS.verifier.raw))
    return replace(trust, witnesses=(witness,), quorum=1, text="")


def cosign(directory: Path) -> None:
    """Let the witness see the audit log, and keep its receipt."""
    note = (directory / "audit" / "checkpoint").read_text("utf-8")
    line = sign_cosignature(note, WITNESS, name=NAME)
    receipt = Receipt("witness", add_signatures(note, [line]), {})
    append_receipt(directory / "anchors" / "audit", "w1", receipt)


def test_receipts_may_come_after_the_seal(ws: Workspace) -> None:
    """A sealed directory takes receipts, stays sealed, and the report says who vouches."""
    trust = witnessed(ws.trust)
    ws.close()
    cosign(ws.path)
    report = verify_directory(ws.path, trust=trust)

    assert report.sealed
    assert 1 == len(report.anchored)
    assert "3 entries by w1 (witness)" in report.anchored[0]
    assert () == report.unanchored
    assert 3 == report.files
    assert report.to_dict()["anchored"] == list(report.anchored)
    assert "anchored" in str(report)


def test_what_nobody_trusted_says_covers_nothing(ws: Workspace) -> None:
    """A receipt by somebody whom the trust does not name leaves the log un-anchored."""
    trust = ws.trust
    ws.close()
    cosign(ws.path)
    report = verify_directory(ws.path, trust=trust)

    assert () == report.anchored
    assert 1 == len(report.unanchored)


def test_the_rest_is_named(ws: Workspace) -> None:
    """Entries behind the last receipt are under the log's own key only."""
    cosign(ws.path)
    trust = witnessed(ws.trust)
    ws.audited(action="count")(_count)([1])
    ws.close()
    (line,) = verify_directory(ws.path, trust=trust).unanchored

    assert "entries 2–3" in line


def test_a_log_that_was_cut_below_a_receipt_is_refused(ws: Workspace, tmp_path: Path) -> None:
    """The log's own key signed what the receipt holds; the log must still begin so."""
    old = shutil.copytree(ws.path, tmp_path / "old")
    trust = ws.trust
    ws.close()
    cosign(ws.path)
    shutil.copytree(ws.path / "anchors", old / "anchors")

    with pytest.raises(ConsistencyError, match="cut or rolled back"):
        verify_directory(old, trust=trust)


def test_a_damaged_receipt_is_a_warning(ws: Workspace) -> None:
    """It counts for nothing, and does not take the log with it."""
    trust = witnessed(ws.trust)
    ws.close()
    cosign(ws.path)
    path = ws.path / "anchors" / "audit" / "w1.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    report = verify_directory(ws.path, trust=trust)

    assert any("receipt 1 of w1 counts for nothing" in line for line in report.warnings)
    assert 1 == len(report.anchored)


@pytest.mark.parametrize(
    "name",
    [
        "anchors/stray",
        "anchors/other/w1.jsonl",
        "anchors/audit/w1.txt",
        "anchors/audit/deep/w1.jsonl",
        "epochs/audit.notes",
        "epochs/stray",
        "tails/other.steps",
        "tails/audit.txt",
    ],
)
def test_strangers_among_them_are_refused(ws: Workspace, name: str) -> None:
    """A directory that no seal names is no hiding place."""
    trust = ws.trust
    ws.close()
    path = ws.path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")

    with pytest.raises(UnexpectedFileError):
        verify_directory(ws.path, trust=trust)


def test_links_among_them_are_refused(ws: Workspace, tmp_path: Path) -> None:
    """Nor is one that lies elsewhere."""
    trust = ws.trust
    ws.close()
    (tmp_path / "elsewhere").mkdir()
    for link in ("anchors", "tails"):
        (ws.path / link).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(secureml.SecureMLError):
            verify_directory(ws.path, trust=trust)
        (ws.path / link).unlink()


def test_a_sealed_tail_is_accounted_for(ws: Workspace) -> None:
    """Its steps grow with the log, never beyond it, and the seal stands."""
    ws.close()
    layout = ws._layout
    create_tail(layout.audit, layout.private, origin=_origin(ws))
    with secureml.open(ws.path, create=False, role="serve") as again:
        again.audited(action="count")(_count)([1])
    report = verify_directory(ws.path, trust=ws.trust)
    steps = layout.tails / "audit.steps"

    assert report.sealed
    assert steps.read_bytes()
    steps.write_bytes(steps.read_bytes() + b"\x7f")
    with pytest.raises(ConsistencyError, match="cut"):
        verify_directory(ws.path, trust=ws.trust)


def test_epoch_keys_are_followed(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory whose audit keys follow each other verifies, traces, asks and is sealed."""
    from secureml.audit import AuditLog
    from secureml.evidence.log import Log

    ws.close()
    layout, origin = ws._layout, _origin(ws)
    key = create_epochs(
        layout.audit, layout.private, origin=origin, first=layout.keys / "audit.pem"
    )
    (own,) = ws.trust.identities
    assert own.verifier == key
    trust = replace(ws.trust, identities=(replace(own, epochs=True),), text="")
    layout.trust.write_text(trust.to_toml(), encoding="utf-8")
    with AuditLog(
        Log.open(layout.audit, private=layout.private, signer=keys.generate("ed25519")),
        details=layout.details,
        private=layout.private,
        epochs=timedelta(microseconds=1),
    ) as log:
        for _ in range(3):
            log.append({"type": "config", "config": {"name": "x"}})
            log.publish()
    notes = layout.epochs / "audit.notes"

    assert notes.read_text("utf-8")
    report = verify_directory(ws.path, trust=trust)
    assert not report.sealed
    assert 0 == main(["log", "verify", str(ws.path)])
    assert 0 == main(["log", "query", str(ws.path), "--type", "epoch"])
    assert 0 == main(["log", "anchors", str(ws.path)])
    capsys.readouterr()
    notes.unlink()
    with pytest.raises(secureml.VerificationError):
        verify_directory(ws.path, trust=trust)


def test_keys_are_followed_where_entries_are_gone(
    ws: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pruned log with epoch keys verifies and answers, and receipts of every epoch count."""
    from secureml.audit import AuditLog, RetentionPolicy
    from secureml.evidence.keeping import Epochs
    from secureml.evidence.log import Log

    ws.close()
    layout, origin = ws._layout, _origin(ws)
    cosign(ws.path)
    create_epochs(layout.audit, layout.private, origin=origin, first=layout.keys / "audit.pem")
    (own,) = ws.trust.identities
    trust = replace(witnessed(ws.trust), identities=(replace(own, epochs=True),))
    layout.trust.write_text(trust.to_toml(), encoding="utf-8")
    when = datetime.now(UTC)
    with AuditLog(
        Log.open(layout.audit, private=layout.private, signer=keys.generate("ed25519")),
        details=layout.details,
        private=layout.private,
        epochs=Epochs(leaves=550),
        clock=lambda: when,
        heartbeat=1e9,
    ) as log:
        log.set_retention(RetentionPolicy(default_days=30))
        for count in (300, 240, 60, 600):
            for _ in range(count):
                log.append({"type": "heartbeat-of-another", "x": {}})
            log.publish()
            cosign(ws.path)
            when += timedelta(days=20)
        pruned = log.prune()
    cosign(ws.path)
    size = int((layout.audit / "checkpoint").read_text("utf-8").splitlines()[1])
    notes = (layout.epochs / "audit.notes").read_text("utf-8")

    assert pruned.bundles >= 1
    assert notes.count(origin + "\n") >= 1
    report = verify_directory(ws.path, trust=trust)
    assert report.minimum == pruned.minimum
    assert not any("counts for nothing" in line for line in report.warnings)
    assert f"{size:,} entries by w1 (witness)" in report.anchored[0]
    for command in (["query", "--type", "epoch"], ["export", "--format", "jsonl"], ["verify"]):
        assert 0 == main(["log", command[0], str(ws.path), *command[1:]])
    capsys.readouterr()
    assert 0 == main(["log", "anchors", str(ws.path)])
    told = capsys.readouterr().out
    assert f"others vouch for {size}" in told
    assert "line " not in told
    # Only what was pruned since is vouched for.
    shutil.rmtree(layout.private / "checkpoints")
    (path,) = (layout.anchors / "audit").iterdir()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
    assert 0 == main(["log", "verify", str(ws.path), "--json"])
    (found,) = json.loads(capsys.readouterr().out)["logs"]
    assert 256 < found["undetected_window"]["first"] < found["minimum"]


def _origin(ws: Workspace) -> str:
    (own,) = ws.trust.identities
    assert own.origin is not None
    return own.origin


@pytest.fixture
def shipped(ws: Workspace, tmp_path: Path) -> Callable[[Trust], list[str]]:
    """Return how the command line is called for a copy, under a trust."""
    ws.close()
    cosign(ws.path)
    copy = shutil.copytree(ws.path, tmp_path / "copy")

    def call(trust: Trust) -> list[str]:
        (tmp_path / "trust.toml").write_text(trust.to_toml(), encoding="utf-8")
        return [str(copy), "--trust", str(tmp_path / "trust.toml")]

    return call


def test_receipts_close_the_window(
    ws: Workspace,
    shipped: Callable[[Trust], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`log verify` counts who is trusted; `log anchors` says who it was."""
    trust = ws.trust

    assert 0 == main(["log", "verify", *shipped(trust)])
    assert "who has the log's key could write them anew" in capsys.readouterr().out
    assert 0 == main(["log", "verify", *shipped(witnessed(trust))])
    assert "none: a checkpoint that is kept elsewhere covers" in capsys.readouterr().out
    assert 0 == main(["log", "anchors", *shipped(witnessed(trust))])
    told = capsys.readouterr().out
    assert "others vouch for 3" in told
    assert (
        "witness w1: 3 entries, not later than " + datetime.now(UTC).strftime("%Y-%m-%d") in told
    )
    assert 0 == main(["log", "anchors", *shipped(trust)])
    assert "1 receipts by others" in capsys.readouterr().out
