"""Beyond the demo's table: what somebody who can write the directory might try."""

import os
import shutil
from pathlib import Path

import pytest

import secureml
from secureml.demo.attacks import Stage
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    StoreError,
    UnexpectedFileError,
)
from secureml.workspace.layout import Layout


def opened(stage: Stage) -> Path:
    """Return the directory with a leaf after its seal, published."""
    root = stage.workshop()
    ws = secureml.open(root, create=False)
    ws.audit_log.append({"config": {"name": "threshold"}, "type": "config"})
    ws.audit_log.publish()
    return root


def test_an_anchored_audit_log_cannot_go(stage: Stage) -> None:
    """A statement log that anchors an audit log contradicts a directory without one."""
    root = stage.copy()
    shutil.rmtree(root / "audit")

    with pytest.raises(ConsistencyError, match="is gone"):
        stage.verify(root)


def test_the_audit_key_does_not_seal_over_the_log_key(stage: Stage) -> None:
    """Who holds the audit key alone may add files, and change none that was sealed before."""
    root = stage.workshop()
    for key in (root.parent / "evidence.private" / "keys").iterdir():
        if not key.name.startswith("audit"):
            key.unlink()
    (root / "data" / "wdbc.parquet").write_bytes(b"other rows")
    with secureml.open(root, create=False, role="serve") as server:
        server.audit_log.append({"config": {"name": "threshold"}, "type": "config"})

    with pytest.raises(DigestMismatchError, match=r"wdbc\.parquet"):
        stage.verify(root)


def test_a_server_may_share_a_sealed_directory(stage: Stage) -> None:
    """What a server adds to a trainer's directory, its own seal names."""
    root = stage.workshop()
    with secureml.open(root, create=False, role="serve") as server:
        server.load_model(root / "model")

    assert stage.verify(root).sealed


@pytest.mark.parametrize("name", ["log", "audit"])
def test_a_log_is_no_link(stage: Stage, name: str) -> None:
    """A log that lies elsewhere could be another one tomorrow."""
    root = stage.copy()
    (root / name).rename(stage.scratch / name)
    (root / name).symlink_to(stage.scratch / name)

    with pytest.raises(UnexpectedFileError, match=name):
        stage.verify(root)


@pytest.mark.parametrize("name", ["zz/foo", "ab/cd", f"AB/{'0' * 62}", f"ab/{'0 ' * 31}"])
def test_what_is_no_blob_does_not_pass_for_one(stage: Stage, name: str) -> None:
    """A file among the blobs of an open directory has a blob's name, in its one spelling."""
    root = opened(stage)
    stage.verify(root)
    path = root / "blobs" / "sha256" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")

    with pytest.raises(UnexpectedFileError, match="nothing signed names it"):
        stage.verify(root)


@pytest.mark.parametrize("name", ["log/checkpoint", "serving/audit/checkpoint"])
def test_a_checkpoint_that_is_a_fifo_is_not_waited_for(stage: Stage, name: str) -> None:
    """Nobody makes a verifier wait by putting a pipe where a file belongs."""
    root = stage.copy()
    notes = Layout.of(stage.story.directory).remembered()
    (root / name).unlink()
    os.mkfifo(root / name)

    with pytest.raises((UnexpectedFileError, FormatError), match="regular file"):
        stage.verify(root, *notes)


def test_details_that_are_a_fifo_are_not_waited_for(stage: Stage) -> None:
    """A trace breaks where the values lie in a pipe; it does not wait."""
    root = stage.copy()
    (path,) = (root / "serving" / "details").iterdir()
    path.unlink()
    os.mkfifo(path)
    trace = secureml.open(root, create=False, trust=stage.trust).trace(stage.story.prediction)

    assert ["captured values"] == [link.name for link in trace.links if not link.ok]


def test_a_name_that_is_too_long_hides_nothing(stage: Stage) -> None:
    """A directory that cannot be listed is an error, never passed over."""
    root = stage.copy()
    here = os.open(root, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("x" * 200, dir_fd=here)
        below = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    with pytest.raises(StoreError, match="cannot be listed"):
        stage.verify(root)


def test_evidence_does_not_nest_for_ever(stage: Stage) -> None:
    """Copies within copies are refused before they cost anything."""
    serving = stage.story.directory / "serving"
    here = root = stage.scratch / "nested"
    for _ in range(12):
        shutil.copytree(serving, here)
        here /= "x"

    with pytest.raises(FormatError, match="too deeply"):
        stage.verify(root)


def test_a_signers_text_makes_no_line_of_a_trace(stage: Stage) -> None:
    """What a signer calls an action is escaped: it cannot look like a link that holds."""
    root = stage.workshop()
    ws = secureml.open(root, create=False)
    call = {"kind": "function", "name": "f"}
    appended = ws.audit_log.append(
        {"type": "call", "call": call, "latency_us": 1, "outcome": "ok", "action": "x\n✓ model"}
    )
    lines = str(ws.trace(appended.id)).splitlines()

    assert not any(line.startswith("✓ model") for line in lines)
    assert any("x\\n✓ model" in line for line in lines)


def test_an_unverified_model_has_no_digest_to_follow(stage: Stage) -> None:
    """A record that says `unverified` is not traced, whatever digest it adds."""
    root = stage.workshop()
    ws = secureml.open(root / "serving", create=False, role="serve")
    record = next(r for _, r in ws.audit_log.records() if r.model and r.type == "call")
    body = {k: v for k, v in record.body.items() if k not in {"details", "in", "out", "record"}}
    with secureml.open(root / "serving", create=False, role="serve", trust=stage.trust) as server:
        server.load_model(root / "model")
        digest = record.body["model"]["digest"]  # type: ignore[call-overload, index]
        body["model"] = {"digest": digest, "name": "diagnosis", "status": "unverified"}
        appended = server.audit_log.append(body)
        trace = server.trace(appended.id)

    assert ["model"] == [link.name for link in trace.links if not link.ok]
