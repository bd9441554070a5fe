"""Beyond the demo's table: crashes, writers at work, and two machines of one name."""

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import secureml
from secureml import hashing, keys
from secureml.errors import KeyUnavailableError
from secureml.evidence.trust import Identity, Trust
from secureml.wire.digest import Digest
from secureml.workspace import Workspace, setup, verify_directory

PASSPHRASE = secrets.token_urlsafe()


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace with one dataset, sealed and opened again."""
    with secureml.open(tmp_path / "ws") as made:
        register(made, tmp_path / "a.parquet")
    return secureml.open(tmp_path / "ws", create=False)


def register(ws: Workspace, path: Path) -> None:
    """Log a claim about a small table."""
    pq.write_table(pa.table({"x": [path.name]}), path)
    ws.dataset(path, source="s", licence="l")


def killed(work: Callable[[], object]) -> None:
    """Do *work* in a child that is killed before it comes to an end."""
    child = os.fork()
    if child == 0:  # pragma: no cover  it does not live to report
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)

    assert signal.SIGKILL == os.WTERMSIG(status)


@pytest.mark.parametrize("writes", range(1, 4))
@pytest.mark.parametrize("purpose", ["statements", "log", "audit"])
def test_a_rotation_that_was_cut_off_is_completed(
    ws: Workspace, tmp_path: Path, purpose: str, writes: int
) -> None:
    """Once its leaf is in the log the new key signs, wherever the process died after that."""

    def cut() -> None:
        done = 0
        write = setup._write

        def write_until(path: Path, data: bytes, *, private: bool = True) -> None:
            nonlocal done
            done += 1
            if done == writes:
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, data, private=private)

        setup._write = write_until
        ws.rotate(passphrase=PASSPHRASE, purpose=purpose)

    killed(cut)
    with secureml.open(ws.path, create=False, passphrase=PASSPHRASE) as again:
        register(again, tmp_path / "b.parquet")
        again.audit_log.append({"config": {"name": "threshold"}, "type": "config"})
    report = secureml.open(ws.path, create=False).verify()
    unprotected = secureml.open(ws.path, create=False)

    assert report.sealed
    with pytest.raises(KeyUnavailableError):
        unprotected.rotate(passphrase=PASSPHRASE, purpose=purpose)


def test_pinning_leaves_a_sealed_directory_as_it_is(ws: Workspace) -> None:
    """The published trust file follows with the next seal, so a crash between breaks nothing."""
    verifier = keys.generate().verifier
    peer = Identity(name="peer", verifier=verifier, roles=frozenset({"gate"}))
    ws.pin(Trust((peer,)))
    before = secureml.open(ws.path, create=False).verify()
    ws.close()
    after = secureml.open(ws.path, create=False).verify()

    assert before.sealed
    assert after.sealed
    assert "peer" in (ws.path / "trust.toml").read_text("utf-8")


def test_a_seal_is_announced_before_its_files(ws: Workspace, tmp_path: Path) -> None:
    """Whoever dies while sealing leaves an open directory, not a broken one."""
    register(ws, tmp_path / "b.parquet")
    ws.close()
    again = secureml.open(ws.path, create=False)
    again.pin(Trust((Identity(name="p", verifier=keys.generate().verifier, roles={"gate"}),)))  # type: ignore[arg-type]

    def cut() -> None:
        from secureml.workspace import sealing

        make = sealing.make_seal

        def make_and_die(*args: object) -> None:
            make(*args)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGKILL)

        sealing.make_seal = make_and_die  # type: ignore[assignment]
        again.close()

    killed(cut)

    assert not secureml.open(ws.path, create=False).verify().sealed


def test_a_server_that_died_before_its_record_breaks_nothing(tmp_path: Path) -> None:
    """Claims lie among the blobs only after a leaf has opened the directory."""
    with secureml.open(tmp_path / "srv", role="serve") as server:
        server.audit_log.append({"config": {"name": "threshold"}, "type": "config"})
    again = secureml.open(tmp_path / "srv", create=False, role="serve")
    again.audit_log.begin()
    blobs = secureml.evidence.BlobStore(again.path / "blobs")
    blobs.put(b"claims, and no record yet")

    assert not verify_directory(again.path, trust=again.trust).sealed


def test_details_that_grow_have_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that appends while somebody verifies is no false alarm."""
    server = secureml.open(tmp_path / "srv", role="serve")

    @server.audited(action="score", capture=["x"])
    def score(x: int) -> int:
        return x

    score(1)
    server.checkpoint()

    def hash_still(path: Path) -> Digest:
        assert path.parent.name != "details", "it was hashed while its writer is at work"
        return hashing.hash_file(path)

    monkeypatch.setattr("secureml.workspace.accounting.hash_file", hash_still)

    assert not verify_directory(server.path, trust=server.trust).sealed


def test_a_file_that_is_about_to_be_renamed_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a writer has not renamed yet goes away by itself."""
    server = secureml.open(tmp_path / "srv", role="serve")
    server.audit_log.append({"config": {"name": "threshold"}, "type": "config"})
    server.checkpoint()
    passing = server.path / f".trust.toml.{'0' * 16}.tmp"
    passing.write_bytes(b"half of it")
    monkeypatch.setattr("secureml.workspace.accounting.time.sleep", lambda _: passing.unlink())

    assert not verify_directory(server.path, trust=server.trust).sealed


def test_an_erased_value_breaks_no_trace(tmp_path: Path) -> None:
    """A trace shows what an erasure left; the values are gone on purpose."""
    server = secureml.open(tmp_path / "srv", role="serve")

    @server.audited(action="score", capture=["x"])
    def score(x: int) -> int:
        return x

    with secureml.audit.collect() as records:
        score(1)
    erasure = {"records": [records[0].id]}
    server.audit_log.append({"type": "erasure", "erasure": erasure})
    server.audit_log.publish()
    for path in (server.path / "details").iterdir():
        path.write_bytes(b"")
    broken = [link.name for link in server.trace(records[0].id).links if not link.ok]

    assert ["model"] == broken


def test_two_servers_may_have_one_name(tmp_path: Path) -> None:
    """A reviewed file that names a server of this name is no obstacle to another one."""
    first = secureml.open(tmp_path / "one" / "serving", role="serve")
    reviewed = tmp_path / "trust.toml"
    reviewed.write_text(first.trust.to_toml(), encoding="utf-8")
    made = secureml.open(tmp_path / "two" / "serving", role="serve", trust=reviewed)
    own = secureml.open(tmp_path / "three" / "serving", role="serve")
    later = secureml.open(own.path, create=False, role="serve", trust=reviewed)

    assert 2 == len({identity.name for identity in made.trust.identities})
    assert 2 == len({identity.name for identity in later.trust.identities})
