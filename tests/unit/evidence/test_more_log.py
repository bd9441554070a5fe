"""Committing what is kept elsewhere: as a whole or not at all, and by one writer."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import StoreBusyError, StoreError
from secureml.evidence import _files
from secureml.evidence._files import Files, write_all, write_all_at
from secureml.evidence._lock import WriterLock
from secureml.evidence.log import MAX_ENTRY, Log, verify_log
from secureml.evidence.trust import Identity, Trust

ORIGIN = "log.example/commits"
SIGNER = keys.generate("ed25519", purposes={"log"})
TRUST = Trust(
    (Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN),)
)


class Memory(Files):
    """A disk that is never late, and fails to rename when it is told to."""

    def __init__(self) -> None:
        self.fail: Callable[[Path], bool] = lambda _: False

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or fail."""
        if self.fail(target):
            raise OSError(errno.EIO, "no")
        super().rename(source, target)


def opened(tmp: Path, files: Files | None = None) -> Log:
    """Open the log to write."""
    return Log.open(
        tmp / "log",
        private=tmp / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=files or Memory(),
    )


def test_a_commit_comes_behind_what_is_pending(tmp_path: Path) -> None:
    """Entries that were appended before are before it, and all of it is published."""
    with opened(tmp_path) as log:
        log.append(b"0")
        log.append(b"1")
        note = log.commit([b"2", b"3"])
        assert (log.size, log.pending, note) == (4, 0, log.checkpoint_note())
        assert log.published_note == note
        log.append(b"4")
        assert log.commit([]) == log.checkpoint_note() != note
        assert log.commit([]) == log.checkpoint_note()

    assert list(verify_log(tmp_path / "log", trust=TRUST).entries) == [b"%d" % n for n in range(5)]


@pytest.mark.parametrize("wrong", [b"", bytes(MAX_ENTRY + 1)])
def test_a_commit_is_refused_as_a_whole(tmp_path: Path, wrong: bytes) -> None:
    """One entry that is none, and nothing of the rest is written."""
    with opened(tmp_path) as log:
        log.commit([b"before"])
        with pytest.raises(ValueError, match="1 to 65,535"):
            log.commit([b"good", wrong, b"good"])
        assert log.size == 1
        log.commit([bytes(MAX_ENTRY)])
        assert log.size == 2


@pytest.mark.parametrize("name", ["checkpoint", "000", "300", "44"])
def test_a_commit_that_failed_is_in_the_log_or_not(tmp_path: Path, name: str) -> None:
    """Tiles of entries that are under no checkpoint are swept away; the same may come again."""
    disk = Memory()
    log = opened(tmp_path, disk)
    log.commit([b"%d" % n for n in range(5)])
    disk.fail = lambda path: path.name == name
    rest = [b"%d" % n for n in range(5, 300)]
    try:
        log.commit(rest)
    except StoreError:
        with pytest.raises(StoreError, match="takes no more entries"):
            log.commit(rest)
    disk.fail = lambda _: False
    log.release()
    with opened(tmp_path, disk) as again:
        again.acquire()
        assert again.size in {5, 300}
        if again.size == 5:
            again.commit(rest)

    assert list(verify_log(tmp_path / "log", trust=TRUST).entries) == [
        b"%d" % n for n in range(300)
    ]


def test_a_commit_after_an_interrupt_recovers_first(tmp_path: Path) -> None:
    """What a call that was interrupted left half done is read from the disk again."""
    with opened(tmp_path) as log:
        log.commit([b"0"])
        assert log._writer is not None
        log._writer._torn = True
        log.commit([b"1"])
        log._writer._torn = True
        log.publish()
        assert list(log.entries()) == [b"0", b"1"]


def test_a_log_is_written_under_one_lock(tmp_path: Path) -> None:
    """Two locks for one log would fork it: the second writer is refused, then let in."""
    log = opened(tmp_path)
    log.commit([b"0"])
    twin = log.twin(WriterLock(tmp_path / "another" / "lock"))
    with pytest.raises(StoreBusyError, match="is being written"):
        twin.commit([b"1"])
    log.release()
    twin.commit([b"1"])
    with pytest.raises(StoreBusyError, match="is being written"):
        log.commit([b"2"])
    twin.release()

    assert list(log.entries()) == [b"0", b"1"]
    log.close()


def test_a_log_says_how_it_is_written(tmp_path: Path) -> None:
    """Where its private directory is, through what, with which keys; readers have none of it."""
    disk = Memory()
    with opened(tmp_path, disk) as log:
        assert (log.private, log.files, log.keeping) == (tmp_path / "private", disk, None)
        assert log.verifiers == (SIGNER.verifier,)
        assert log.published_note == ""
        log.publish()
        assert log.verifiers == (SIGNER.verifier,)
        assert not log.hands_over
        other = log.kept(keeping=None)
        assert (other.files, other.keeping) == (disk, None)
    with Log.open(tmp_path / "log") as reader, pytest.raises(StoreError, match="reading only"):
        reader.kept(keeping=None)


class Nothing(Files):
    """A system that takes no byte after the first."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Take one."""
        del fd
        return int(len(data) > 3)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Take one."""
        del fd, offset
        return int(len(data) > 3)


def test_a_system_that_takes_nothing_is_not_asked_for_ever() -> None:
    """No byte and no reason is an error of the device."""
    with pytest.raises(OSError, match="took no byte"):
        write_all(Nothing(), 0, b"1234")
    with pytest.raises(OSError, match="took no byte"):
        write_all_at(Nothing(), 0, b"1234", 0)


def test_without_threads_files_are_synced_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process no thread can be started; each file is synced all the same."""

    class Counting(Files):
        synced: list[int]

        def sync(self, fd: int) -> None:
            self.synced.append(fd)

    def none(_: int) -> None:
        raise RuntimeError

    monkeypatch.setattr(_files, "ThreadPoolExecutor", none)
    files = Counting()
    files.synced = []
    files.sync_all(range(9))

    assert files.synced == list(range(9))
