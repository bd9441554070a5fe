"""Recovery: what the first append accepts, repairs and refuses."""

import shutil
import struct
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    SignatureError,
    StoreError,
    UnexpectedFileError,
    VerificationError,
)
from secureml.evidence._files import Files
from secureml.evidence.log import Log, Recovery
from secureml.wire import frame, tiles

ORIGIN = "log.example/unit"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def opened(tmp: Path, *, create: bool = True) -> Log:
    """Open the log to write."""
    return Log.open(
        tmp / "log",
        private=tmp / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=create,
        files=Memory(),
    )


def leave(log: Log) -> None:
    """Die: let go of everything, publish nothing."""
    assert log._writer is not None
    assert log._lock is not None
    log._lock.leave(log._writer)
    log._writer = None


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A log of three published and two pending entries, whose writer died."""
    log = opened(tmp_path)
    for n in range(3):
        log.append(b"entry %d" % n)
    log.publish()
    for n in range(3, 5):
        log.append(b"entry %d" % n)
    leave(log)
    return tmp_path


ALL = [b"entry %d" % n for n in range(5)]


def after(tmp: Path) -> tuple[list[bytes], Recovery | None]:
    """Recover; returns all entries, and what was repaired."""
    with opened(tmp) as log:
        log.acquire()
        log.publish()
        return list(log.entries()), log.recovered


def test_pending_entries_come_back(crashed: Path) -> None:
    """What was acknowledged is there after a crash."""
    assert (ALL, Recovery(2, 0, ())) == after(crashed)
    assert after(crashed) == (ALL, None)


def test_a_clean_log_has_nothing_to_recover(tmp_path: Path) -> None:
    """A log that was closed properly is taken up as it is."""
    with opened(tmp_path) as log:
        log.append(b"x")
    with opened(tmp_path) as log:
        log.acquire()
        assert log.recovered is None
        assert log.size == 1
    assert opened(tmp_path).recovered is None


def test_a_crash_before_emptying_is_harmless(crashed: Path) -> None:
    """Frames that are published already are compared, and not appended again."""
    wal = crashed / "private/wal/log.wal"
    frames = wal.read_bytes()
    assert (ALL, Recovery(2, 0, ())) == after(crashed)
    wal.write_bytes(frames)

    assert after(crashed) == (ALL, None)
    with opened(crashed) as log:
        assert log.append(b"entry 5") == 5


def test_frames_from_before_the_checkpoint_and_after(crashed: Path) -> None:
    """The write-ahead file may begin below the checkpoint."""
    wal = crashed / "private/wal/log.wal"
    old = b"".join(frame.encode(struct.pack(">QQ", n, n) + ALL[n]) for n in (1, 2))
    wal.write_bytes(old + wal.read_bytes())

    assert (ALL, Recovery(2, 0, ())) == after(crashed)


def test_a_torn_end_is_cut(crashed: Path) -> None:
    """Bytes of a write that was never acknowledged are dropped, and counted."""
    wal = crashed / "private/wal/log.wal"
    wal.write_bytes(wal.read_bytes() + b"torn")

    assert (ALL, Recovery(2, 4, ())) == after(crashed)


def test_leftovers_of_a_publication_are_removed(crashed: Path) -> None:
    """Files that a crash left behind no checkpoint are written again when their time comes."""
    base = crashed / "log"
    (base / "tile/0/000.p/5").write_bytes(b"anything")
    (base / "tile/entries/000.p/.writing-5").write_bytes(b"half")
    (base / "tile/entries/000.p/2").write_bytes(b"stale")
    (base / "tile/entries/x001/002.p").mkdir(parents=True)
    (base / ".writing-checkpoint").write_bytes(b"half")
    (crashed / "private/checkpoints/.writing-log").write_bytes(b"half")
    (base / "tile/notes.txt").write_bytes(b"not ours")
    entries, recovery = after(crashed)

    assert entries == ALL
    assert recovery is not None
    assert recovery.removed == (
        "tile/0/000.p/5",
        "tile/entries/000.p/.writing-5",
        "tile/entries/000.p/2",
    )
    found = {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
    expected = {tile.path for tile in tiles.layout(5)}
    assert expected | {"checkpoint", "tile/notes.txt"} == found
    assert not (crashed / "private/checkpoints/.writing-log").exists()


def test_other_logs_files_are_left_alone(crashed: Path) -> None:
    """What the other log of the workspace is writing right now is not removed."""
    other = crashed / "private/checkpoints/.writing-audit"
    other.write_bytes(b"half")
    after(crashed)

    assert other.exists()


def test_a_crash_before_the_first_checkpoint(tmp_path: Path) -> None:
    """A log that died in its very first publication goes on from its write-ahead file."""
    log = opened(tmp_path)
    log.append(b"entry 0")
    leave(log)
    (tmp_path / "log/tile/0/000.p").mkdir(parents=True)
    (tmp_path / "log/tile/0/000.p/1").write_bytes(bytes(32))

    entries, recovery = after(tmp_path)
    assert entries == [b"entry 0"]
    assert Recovery(1, 0, ("tile/0/000.p/1",)) == recovery


# Refused


def test_a_bad_frame_in_the_middle(crashed: Path) -> None:
    """A frame that was damaged while good ones follow is no crash."""
    wal = crashed / "private/wal/log.wal"
    data = bytearray(wal.read_bytes())
    data[10] ^= 1
    wal.write_bytes(data)

    with pytest.raises(ConsistencyError, match=r"write-ahead file .* was damaged"):
        opened(crashed).append(b"x")
    assert bytes(data) == wal.read_bytes()


def test_a_gap(crashed: Path) -> None:
    """Entries missing between checkpoint and write-ahead file are not skipped."""
    wal = crashed / "private/wal/log.wal"
    wal.write_bytes(frame.encode(struct.pack(">QQ", 4, 4) + b"entry 4"))

    with pytest.raises(ConsistencyError, match="entries are missing"):
        opened(crashed).append(b"x")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_frames_that_disagree(crashed: Path, index: int) -> None:
    """A frame below the checkpoint has to be the published entry."""
    wal = crashed / "private/wal/log.wal"
    parts = [
        frame.encode(struct.pack(">QQ", n, n) + (b"?" if n == index else ALL[n])) for n in range(5)
    ]
    wal.write_bytes(b"".join(parts))

    with pytest.raises(ConsistencyError, match="disagree"):
        opened(crashed).append(b"x")


def test_a_rolled_back_directory(crashed: Path) -> None:
    """A directory older than what this machine remembers is not continued."""
    shutil.copytree(crashed / "log", crashed / "old")
    after(crashed)
    shutil.rmtree(crashed / "log")
    (crashed / "old").rename(crashed / "log")

    with pytest.raises(ConsistencyError, match="was rolled back"):
        opened(crashed).append(b"x")


def test_a_lost_directory(crashed: Path) -> None:
    """A directory that vanished is not begun anew, even where creating is allowed."""
    shutil.rmtree(crashed / "log")

    with pytest.raises(ConsistencyError, match="is gone"):
        opened(crashed).append(b"x")


def test_a_lost_checkpoint(crashed: Path) -> None:
    """Tiles without a checkpoint are no new log."""
    (crashed / "log/checkpoint").unlink()
    (crashed / "private/checkpoints/log").unlink()

    with pytest.raises(ConsistencyError, match=r"does not account for it|entries are missing"):
        opened(crashed).append(b"x")
    (crashed / "private/wal/log.wal").unlink()
    with pytest.raises(ConsistencyError, match="does not account for it"):
        opened(crashed).append(b"x")


def test_a_log_that_vanishes_after_opening(crashed: Path) -> None:
    """Without create, the first append looks again whether there is a log."""
    log = opened(crashed, create=False)
    shutil.rmtree(crashed / "log")
    shutil.rmtree(crashed / "private")

    with pytest.raises(StoreError, match="there is no log"):
        log.append(b"x")


def test_a_lost_write_ahead_file(crashed: Path) -> None:
    """Tiles beyond what checkpoint and write-ahead file know are not thrown away."""
    (crashed / "private/wal/log.wal").unlink()
    (crashed / "log/tile/0/000.p/5").write_bytes(bytes(160))

    with pytest.raises(ConsistencyError, match="does not account for it"):
        opened(crashed).append(b"x")
    assert (crashed / "log/tile/0/000.p/5").exists()


def test_a_forked_directory(crashed: Path) -> None:
    """A longer log that does not continue what this machine signed is refused."""
    remembered = (crashed / "private/checkpoints/log").read_bytes()
    shutil.rmtree(crashed / "log")
    shutil.rmtree(crashed / "private")
    with opened(crashed) as log:
        for n in range(9):
            log.append(b"forged %d" % n)
    (crashed / "private/checkpoints/log").write_bytes(remembered)

    with pytest.raises(ConsistencyError, match="was forked"):
        opened(crashed).append(b"x")


def test_another_log_in_its_place(crashed: Path) -> None:
    """A log of another name does not take the place of this one."""
    shutil.rmtree(crashed / "log")
    with Log.open(
        crashed / "log", private=crashed / "other", origin="b.example", signer=SIGNER, create=True
    ) as log:
        for _ in range(9):
            log.append(b"x")
    intruder = Log.open(crashed / "log", private=crashed / "private", signer=SIGNER)

    with pytest.raises(ConsistencyError, match="replaced by another"):
        intruder.append(b"x")


def test_origin_changes_between_opening_and_appending(crashed: Path) -> None:
    """The origin is checked again when it counts."""
    log = opened(crashed)
    shutil.rmtree(crashed / "log")
    shutil.rmtree(crashed / "private")
    with Log.open(
        crashed / "log",
        private=crashed / "private",
        origin="b.example",
        signer=SIGNER,
        create=True,
    ) as other:
        other.publish()

    with pytest.raises(ConsistencyError, match="is another log"):
        log.append(b"x")


@pytest.mark.parametrize(
    "name", ["tile/entries/000.p/3", "tile/0/000.p/3", "checkpoint", "private"]
)
def test_nothing_below_a_checkpoint_is_repaired(crashed: Path, name: str) -> None:
    """A changed byte below the checkpoint stops the writer, and stays as it is."""
    path = crashed / "log" / name
    if name == "private":
        path = crashed / "private/checkpoints/log"
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)

    with pytest.raises((VerificationError, FormatError)) as caught:
        opened(crashed).append(b"x")
    assert bytes(data) == path.read_bytes()
    kinds = {"checkpoint": SignatureError, "private": SignatureError}
    assert isinstance(caught.value, kinds.get(name, DigestMismatchError) | FormatError)


def test_a_missing_tile(crashed: Path) -> None:
    """A file that is gone below the checkpoint stops the writer."""
    (crashed / "log/tile/0/000.p/3").unlink()

    with pytest.raises(UnexpectedFileError, match=r"tile/0/000.p/3"):
        opened(crashed).append(b"x")


def test_a_failed_recovery_holds_no_lock(crashed: Path) -> None:
    """After a refusal nothing is held, so the log can be restored and opened."""
    path = crashed / "log/tile/0/000.p/3"
    good = path.read_bytes()
    path.unlink()
    log = opened(crashed)
    with pytest.raises(UnexpectedFileError):
        log.append(b"x")
    path.write_bytes(good)

    assert log.append(b"x") == 5


def test_unreadable_directories_are_store_errors(
    crashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses during recovery is a StoreError."""

    def fail(*_: object) -> None:
        raise PermissionError(13, "permission denied")

    monkeypatch.setattr(Memory, "remove", fail)
    (crashed / "log/.writing-checkpoint").touch()

    with pytest.raises(StoreError, match="could not recover"):
        opened(crashed).append(b"x")
