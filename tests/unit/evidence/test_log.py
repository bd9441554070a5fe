"""A log: opened cheaply, appended to, published, read and proven."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import (
    ConsistencyError,
    FormatError,
    KeyRoleError,
    StoreBusyError,
    StoreError,
    UnexpectedFileError,
    UntrustedSignerError,
    VerificationError,
)
from secureml.evidence import _flock, _writer
from secureml.evidence._files import Files
from secureml.evidence._reader import LogDirectory
from secureml.evidence.log import Log, WriterLock
from secureml.wire import tiles
from secureml.wire.merkle import leaf_hash, root
from secureml.wire.tlogproof import TlogProof

ORIGIN = "log.example/unit"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))


class Memory(Files):
    """A disk that is never late: syncing costs nothing."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Failing(Memory):
    """A disk that fails on demand."""

    def __init__(self) -> None:
        self.fail = self.also = ""
        self.most = 1 << 30
        self.calls: list[str] = []

    def _maybe(self, name: str, number: int) -> None:
        self.calls.append(name)
        if name in {self.fail, self.also}:
            raise OSError(number, os.strerror(number))

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write at most so much; fail when there is no room."""
        if self.fail == "write" and self.most <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = super().write(fd, data[: self.most])
        if self.fail == "write":
            self.most -= done
        return done

    def truncate(self, fd: int, size: int) -> None:
        """Cut, or fail."""
        self._maybe("truncate", errno.EIO)
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        """Fail, or return at once."""
        self._maybe("sync", errno.EIO)
        super().sync(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or fail."""
        self._maybe("rename", errno.EIO)
        super().rename(source, target)


def new(tmp: Path, files: Files | None = None, *, purpose: str = "log") -> Log:
    """Open a log to write, made when there is none."""
    return Log.open(
        tmp / "log",
        private=tmp / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=files or Memory(),
        purpose=purpose,
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A new log."""
    with contextlib.suppress(StoreError), new(tmp_path) as made:
        yield made


# Opening


def test_opening_writes_nothing(tmp_path: Path) -> None:
    """Opening, even to create, takes no lock, starts no thread and writes nothing."""
    before = threading.active_count()

    with new(tmp_path):
        pass

    assert list(tmp_path.iterdir()) == []
    assert before == threading.active_count()


def test_missing_log_is_an_error(tmp_path: Path) -> None:
    """Without create, a lost volume never becomes a new log."""
    with pytest.raises(StoreError, match="there is no log"):
        Log.open(tmp_path / "log", signer=SIGNER)


def test_create_needs_signer_and_origin(tmp_path: Path) -> None:
    """A log begins with a signed checkpoint, which has a name in it."""
    with pytest.raises(ValueError, match="needs a signer"):
        Log.open(tmp_path / "log", origin=ORIGIN, create=True)
    with pytest.raises(ValueError, match="needs an origin"):
        Log.open(tmp_path / "log", signer=SIGNER, create=True)


def test_another_origin_is_refused(tmp_path: Path, log: Log) -> None:
    """A log opened under the name of another is refused at once."""
    log.publish()

    with pytest.raises(ConsistencyError, match="is another log"):
        Log.open(tmp_path / "log", origin="log.example/other")


def test_empty_log_has_a_checkpoint(tmp_path: Path, log: Log) -> None:
    """Publishing a new log writes the checkpoint of nothing, and no tile."""
    note = log.publish()

    assert f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n" in note
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["checkpoint"]
    assert note == log.publish()


def test_default_private_directory_lies_beside(tmp_path: Path) -> None:
    """Without one given, the private directory has the log's name."""
    with Log.open(tmp_path / "log", origin=ORIGIN, signer=SIGNER, create=True) as log:
        log.publish()

    assert (tmp_path / "log.private" / "checkpoints" / "log").is_file()


def test_private_files_are_private(tmp_path: Path, log: Log) -> None:
    """What lies in the private directory is for its owner only."""
    log.append(b"x")
    log.publish()

    private = tmp_path / "private"
    found = [private, *private.rglob("*")]
    assert {0} == {path.stat().st_mode & 0o077 for path in found}


# Appending


def test_indices_count_from_zero(log: Log) -> None:
    """Append returns the position of the entry."""
    assert [log.append(b"x%d" % n) for n in range(3)] == [0, 1, 2]
    assert (log.size, log.pending) == (0, 3)


@pytest.mark.parametrize("size", [1, 65_534, 65_535])
def test_entry_sizes(log: Log, size: int) -> None:
    """An entry has 1 to 65,535 bytes."""
    log.append(b"e" * size)
    log.publish()

    assert b"e" * size == log.entry(0)


@pytest.mark.parametrize("size", [0, 65_536])
def test_wrong_entry_sizes(tmp_path: Path, log: Log, size: int) -> None:
    """An entry of another size is a bug of the caller, found before any work."""
    with pytest.raises(ValueError, match="1 to 65,535 bytes"):
        log.append(b"e" * size)
    assert not (tmp_path / "private").exists()


def test_entry_is_bytes(log: Log) -> None:
    """Text is not an entry."""
    with pytest.raises(TypeError, match="an entry is bytes"):
        log.append("text")  # type: ignore[arg-type]  # that is the test


def test_read_only_log_refuses(tmp_path: Path, log: Log) -> None:
    """Without a signer a log is for reading."""
    log.append(b"x")
    log.publish()
    reader = Log.open(tmp_path / "log")

    with pytest.raises(StoreError, match="open for reading only"):
        reader.append(b"y")
    with pytest.raises(StoreError, match="open for reading only"):
        reader.log_id()
    assert reader.entry(0) == b"x"


def test_closed_log_refuses(log: Log) -> None:
    """After close a log takes nothing."""
    log.append(b"x")
    log.close()
    log.close()

    with pytest.raises(StoreError, match="is closed"):
        log.append(b"y")
    assert log.size == 1


def test_close_publishes(tmp_path: Path, log: Log) -> None:
    """What was pending is under a checkpoint after close."""
    log.append(b"x")
    log.close()

    assert Log.open(tmp_path / "log").size == 1


def test_pending_entries_are_seen_by_their_writer_only(tmp_path: Path, log: Log) -> None:
    """A reader sees nothing beyond the checkpoint."""
    log.append(b"a")
    log.publish()
    log.append(b"b")
    reader = Log.open(tmp_path / "log")

    assert list(log.entries()) == [b"a", b"b"]
    assert list(reader.entries()) == [b"a"]
    with pytest.raises(IndexError):
        reader.entry(1)
    assert log.entry(1) == b"b"


def test_a_long_log_publishes_itself(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded: many or large pending entries are published."""
    monkeypatch.setattr(_writer, "PUBLISH_ENTRIES", 10)
    for n in range(25):
        log.append(b"%d" % n, sync=False)
    assert (log.size, log.pending) == (20, 5)

    monkeypatch.setattr(_writer, "PUBLISH_BYTES", 1_000)
    log.append(b"x" * 1_000, sync=False)
    log.append(b"y", sync=False)
    assert (log.size, log.pending) == (26, 1)


def test_threads_share_a_log(log: Log) -> None:
    """Appends from many threads get one index each, and none is lost."""
    got: list[int] = []

    def work(name: int) -> None:
        got.extend(log.append(b"%d-%d" % (name, n)) for n in range(50))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.publish()

    assert list(range(400)) == sorted(got)
    assert len(set(log.entries())) == 400


def test_threads_share_a_sync(tmp_path: Path) -> None:
    """A sync that began after an entry was written serves all that wait."""
    files = Failing()
    log = new(tmp_path, files)
    log.append(b"first")
    before = files.calls.count("sync")
    for n in range(100):
        log.append(b"%d" % n, sync=False)
    log.flush()
    log.flush()

    assert files.calls.count("sync") - before == 1


# Publishing


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 700])
def test_directory_is_the_specified_one(tmp_path: Path, log: Log, size: int) -> None:
    """After each publication there are exactly the files of c2sp.org/tlog-tiles."""
    entries = [b"entry %d" % n for n in range(size)]
    for n, entry in enumerate(entries):
        log.append(entry, sync=False)
        if n in {0, 3, 200, 255, 256, 600}:
            log.publish()
    log.publish()

    base = tmp_path / "log"
    found = {p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file()}
    assert {tile.path for tile in tiles.layout(size)} | {"checkpoint"} == found
    assert not [p for p in base.rglob("*") if p.is_dir() and not any(p.iterdir())]
    hashes = [leaf_hash(entry) for entry in entries]
    assert root(hashes) == log.prove(0).head.root


def test_stale_partial_tiles_go(tmp_path: Path, log: Log) -> None:
    """A partial tile that a larger one replaces is removed."""
    for _ in range(3):
        log.append(b"x")
        log.publish()

    assert [path.name for path in (tmp_path / "log/tile/0/000.p").iterdir()] == ["3"]


def test_wal_is_empty_after_publishing(tmp_path: Path, log: Log) -> None:
    """What is published is no longer kept privately, but for its checkpoint."""
    log.append(b"x")
    assert (tmp_path / "private/wal/log.wal").stat().st_size
    note = log.publish()

    assert (tmp_path / "private/wal/log.wal").stat().st_size == 0
    assert note == (tmp_path / "private/checkpoints/log").read_text()
    assert note == log.checkpoint_note()


def test_wrong_purpose_changes_nothing(tmp_path: Path) -> None:
    """A key that may not sign this log fails before anything is written to it."""
    log = new(tmp_path, purpose="audit")
    log.append(b"x")

    with pytest.raises(KeyRoleError):
        log.publish()
    assert not (tmp_path / "log").exists()
    assert log.append(b"y") == 1


# Reading and proving


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 300, 513])
def test_every_entry_is_proven(log: Log, size: int) -> None:
    """Each published entry has a proof under the current checkpoint."""
    for n in range(size):
        log.append(b"%d" % n, sync=False)
    log.publish()

    for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        proof = TlogProof.decode(log.prove(index).encode())
        proof.inclusion.verify(b"%d" % index, size=size, root=proof.head.root)


@pytest.mark.parametrize("index", [-1, 1, 2])
def test_proof_of_what_is_not_published(log: Log, index: int) -> None:
    """There is no proof for what is pending or was never there."""
    log.append(b"a")
    log.publish()
    log.append(b"b")

    with pytest.raises(IndexError):
        log.prove(index)


def test_consistency_between_checkpoints(log: Log) -> None:
    """A later log is proven to continue an earlier one."""
    roots = []
    for n in range(300):
        log.append(b"%d" % n, sync=False)
        if n in {0, 6, 99, 256}:
            log.publish()
            roots.append((log.size, log.prove(0).head.root))
    log.publish()
    new_root = log.prove(0).head.root

    for old_size, old_root in roots:
        proof = log.consistency(old_size)
        proof.verify(old_size=old_size, old_root=old_root, size=300, root=new_root)
    first, last = roots[1], roots[2]
    log.consistency(first[0], last[0]).verify(
        old_size=first[0], old_root=first[1], size=last[0], root=last[1]
    )
    with pytest.raises(ValueError, match="not in order"):
        log.consistency(301)


def test_a_changed_log_hands_out_no_proof(tmp_path: Path, log: Log) -> None:
    """A proof that does not hold never leaves the log."""
    log.append(b"a")
    log.append(b"b")
    log.publish()
    tile = tmp_path / "log/tile/0/000.p/2"
    tile.write_bytes(bytes(64))

    with pytest.raises(ConsistencyError, match="does not prove entry 0"):
        log.prove(0)


def test_a_missing_tile_is_named(tmp_path: Path, log: Log) -> None:
    """Reading a log with a hole names the file."""
    log.append(b"a")
    log.publish()
    (tmp_path / "log/tile/entries/000.p/1").unlink()

    with pytest.raises(UnexpectedFileError, match="tile/entries/000"):
        Log.open(tmp_path / "log").entry(0)


def test_a_log_that_moves_too_fast(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that never catches up says so, and that trying again may help."""
    log.append(b"x")
    log.publish()
    reader = Log.open(tmp_path / "log")

    def hashes(*_: object) -> bytes:
        log.append(b"y")
        log.publish()
        raise FileNotFoundError(errno.ENOENT, "gone", "tile/0/000")

    log.append(b"y")
    log.publish()
    monkeypatch.setattr(LogDirectory, "hashes", hashes)
    with pytest.raises(StoreError, match="changes faster than it can be read") as caught:
        reader.prove(0)
    assert caught.value.retryable


def test_a_tile_of_another_length(tmp_path: Path, log: Log) -> None:
    """A tile that is too short is a matter of format."""
    log.append(b"a")
    log.append(b"b")
    log.publish()
    (tmp_path / "log/tile/0/000.p/2").write_bytes(bytes(32))

    with pytest.raises(FormatError, match="it has another length"):
        log.prove(0)


def test_unreadable_files_are_store_errors(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses to read is no statement about the log."""
    log.append(b"a")
    log.publish()
    reader = Log.open(tmp_path / "log")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", fail)
        with pytest.raises(StoreError, match="could not read"):
            reader.entry(0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(StoreError, match="could not read"):
            reader.entry(0)


def test_entries_ranges(log: Log) -> None:
    """Ranges cross bundles, and end where the log does."""
    for n in range(600):
        log.append(b"%d" % n, sync=False)
        if n == 520:
            log.publish()

    assert [b"%d" % n for n in range(250, 530)] == list(log.entries(250, 530))
    assert [b"%d" % n for n in range(590, 600)] == list(log.entries(590, 700))
    assert list(log.entries(600)) == []
    assert list(log.entries(5, 5)) == []
    with pytest.raises(ValueError, match="counted from 0"):
        list(log.entries(-1))


def test_reading_beside_a_writer(tmp_path: Path, log: Log) -> None:
    """A reader that is overtaken between checkpoint and tile reads again."""
    log.append(b"0")
    log.publish()
    reader = Log.open(tmp_path / "log")
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            entries = list(reader.entries())
            if entries != [b"%d" % n for n in range(len(entries))]:
                wrong.append(entries)
            try:
                proof = reader.prove(len(entries) - 1)
                proof.inclusion.verify(entries[-1], size=proof.head.size, root=proof.head.root)
            except VerificationError as error:
                wrong.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(1, 300):
        log.append(b"%d" % n, sync=False)
        log.publish()
    stop.set()
    thread.join()

    assert wrong == []


# One writer


def test_second_process_is_refused(tmp_path: Path, log: Log) -> None:
    """Another process gets a clear error at its first append, and may read."""
    log.append(b"x")
    log.publish()
    code = f"""
import sys
from secureml import keys
from secureml.errors import StoreBusyError
from secureml.evidence.log import Log
signer = keys.generate("ed25519", purposes=frozenset({{"log"}}))
log = Log.open({str(tmp_path / "log")!r}, private={str(tmp_path / "private")!r}, signer=signer)
assert log.entry(0) == b"x"
try:
    log.append(b"y")
except StoreBusyError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )

    assert f"process {os.getpid()} writes to" in done.stdout


def test_lock_is_free_after_close(tmp_path: Path, log: Log) -> None:
    """The next process can write once this one has closed."""
    log.append(b"x")
    log.close()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  in the child
        with new(tmp_path) as again:
            again.append(b"y")
        os.write(write, b"done")
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(read, 10) == b"done"
    assert Log.open(tmp_path / "log").size == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_refused(tmp_path: Path, log: Log) -> None:
    """A child may not append through what it inherited, nor harm its parent's lock."""
    log.append(b"x")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  in the child
        said = []
        for attempt in (lambda: log.append(b"y"), log.publish, lambda: new(tmp_path).append(b"z")):
            try:
                attempt()
                said.append("no error")
            except StoreBusyError as error:
                said.append(error.what)
        log.close()
        os.write(write, "\n".join(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 1_000).decode().split("\n")

    assert sum("is a fork" in one for one in said) == 2
    assert sum(one.startswith("process ") for one in said) == 1
    assert log.append(b"y") == 1
    log.close()
    assert list(Log.open(tmp_path / "log").entries()) == [b"x", b"y"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_dead_parent_leaves_no_lock(tmp_path: Path) -> None:
    """A child that lives on does not keep the lock of the parent it was forked from."""
    ready, told = os.pipe()
    stop, go = os.pipe()
    parent = os.fork()
    if parent == 0:  # pragma: no cover  in the child
        log = new(tmp_path)
        log.append(b"x")
        if os.fork() == 0:
            os.write(told, b"forked")
            os.read(stop, 1)
            os._exit(0)
        os.read(ready, 6)
        os.write(told, b"leaving")
        os._exit(0)
    os.waitpid(parent, 0)
    assert os.read(ready, 10) == b"leaving"

    with new(tmp_path) as log:
        assert log.append(b"y") == 1
    os.write(go, b"!")


def test_two_objects_share_a_writer(tmp_path: Path, log: Log) -> None:
    """A notebook that opens its log twice writes one log."""
    other = new(tmp_path)
    assert [log.append(b"a"), other.append(b"b"), log.append(b"c")] == [0, 1, 2]
    log.close()

    assert other.append(b"d") == 3
    other.close()
    assert list(Log.open(tmp_path / "log").entries()) == [b"a", b"b", b"c", b"d"]


def test_two_logs_share_a_lock(tmp_path: Path) -> None:
    """Statements and predictions of one workspace are written by one process."""
    lock = WriterLock(tmp_path / "private" / "lock")
    logs = [
        Log.open(
            tmp_path / name,
            private=tmp_path / "private",
            origin=f"log.example/{name}",
            signer=SIGNER,
            create=True,
            lock=lock,
        )
        for name in ("log", "audit")
    ]
    for log in logs:
        log.append(log.origin.encode())
    for log in logs:
        log.close()
    lock.release()

    assert list(Log.open(tmp_path / "log").entries()) == [b"log.example/log"]
    assert list(Log.open(tmp_path / "audit").entries()) == [b"log.example/audit"]


def test_another_key_in_one_process_is_refused(tmp_path: Path, log: Log) -> None:
    """One log is not written with two keys at a time."""
    log.append(b"x")
    other = Log.open(
        tmp_path / "log",
        private=tmp_path / "private",
        origin=ORIGIN,
        create=True,
        signer=keys.generate("ed25519", purposes=frozenset({"log"})),
    )

    with pytest.raises(StoreBusyError, match="another key"):
        other.append(b"y")
    assert log.append(b"y") == 1


def test_a_forgotten_log_lets_go(tmp_path: Path) -> None:
    """A log that was dropped without close holds no lock; its entries are kept."""
    log = new(tmp_path)
    log.append(b"x")
    del log

    with new(tmp_path) as again:
        assert again.append(b"y") == 1


def test_a_removed_directory_is_noticed(tmp_path: Path) -> None:
    """Objects for a directory that was removed do not write into the new one's place."""
    old = new(tmp_path)
    old.append(b"old")
    shutil.rmtree(tmp_path / "private")
    with new(tmp_path) as again:
        assert again.append(b"new") == 0
        again.publish()

    assert list(Log.open(tmp_path / "log").entries()) == [b"new"]


def test_no_file_locks_no_writing(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the platform has no file locks, reading works and writing says why not."""
    log.append(b"x")
    log.close()
    monkeypatch.setattr(_flock, "HAS_LOCKS", False)
    other = new(tmp_path)

    assert other.entry(0) == b"x"
    with pytest.raises(StoreError, match="cannot be written on this platform"):
        other.append(b"y")


def test_unlockable_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is named as the cause."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fail)

    with pytest.raises(StoreError, match="could not lock"):
        new(tmp_path).append(b"x")


def test_the_holder_of_the_lock_is_named(tmp_path: Path, log: Log) -> None:
    """The error names the process in the lock file, where there is one."""
    (tmp_path / "private").mkdir()
    for text, who in ((b"1234\n", "^process 1234 writes"), (b"\xff", "^another process writes")):
        with (tmp_path / "private/lock").open("wb") as held:
            held.write(text)
            held.flush()
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(StoreBusyError, match=who) as caught:
                log.append(b"x")
            assert caught.value.retryable

    assert log.append(b"x") == 0


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    """A private directory that is a file is an error of the store."""
    (tmp_path / "private").touch()

    with pytest.raises(StoreError, match="could not open the lock"):
        new(tmp_path).append(b"x")


def test_a_removed_lock_is_taken_again(tmp_path: Path, log: Log) -> None:
    """A lock file that was removed protects nothing any more; the next writer notices."""
    log.append(b"x")
    (tmp_path / "private/lock").unlink()
    other = new(tmp_path)

    assert other.append(b"y") == 1
    assert log.append(b"z") == 2
    (tmp_path / "private/lock").unlink()
    shutil.rmtree(tmp_path / "private/wal")
    assert new(tmp_path).append(b"again") == 0


def test_objects_of_a_replaced_writer_go_on(tmp_path: Path) -> None:
    """When the directory was put back from a copy, every object recovers from it."""
    first, second = new(tmp_path), new(tmp_path)
    first.append(b"a")
    second.append(b"b")
    first.publish()
    shutil.copytree(tmp_path / "private", tmp_path / "copy")
    shutil.rmtree(tmp_path / "private")
    (tmp_path / "copy").rename(tmp_path / "private")
    third = new(tmp_path)

    assert third.append(b"c") == 2
    assert first.append(b"d") == 3
    assert second.publish().splitlines()[1] == "4"


# Failures


@pytest.mark.parametrize("room", [0, 1, 7, 8, 19])
def test_full_disk(tmp_path: Path, room: int) -> None:
    """A write that fails halfway is cut off, said so, and nothing more is taken."""
    files = Failing()
    log = new(tmp_path, files)
    log.append(b"good")
    files.fail, files.most = "write", room
    with pytest.raises(StoreError, match="entry 1 was not written") as caught:
        log.append(b"lost")
    assert caught.value.retryable
    files.fail, files.most = "", 1 << 30
    for attempt in (lambda: log.append(b"more"), log.publish, log.flush, log.acquire):
        with pytest.raises(StoreError, match="takes no more entries"):
            attempt()
    log.close()

    with new(tmp_path) as again:
        assert again.append(b"after") == 1
        assert list(again.entries()) == [b"good", b"after"]


def test_full_disk_that_cannot_be_cut(tmp_path: Path) -> None:
    """Where not even cutting off works, the torn end is dropped at the next opening."""
    files = Failing()
    log = new(tmp_path, files)
    log.append(b"good")

    files.fail, files.most = "write", 5
    files.also = "truncate"
    with pytest.raises(StoreError):
        log.append(b"lost")
    log.close()

    with new(tmp_path) as again:
        again.acquire()
        assert again.recovered is not None
        assert (again.recovered.replayed, again.recovered.discarded) == (1, 5)


def test_short_writes_are_continued(tmp_path: Path) -> None:
    """A system that takes a few bytes at a time gets them all."""
    files = Failing()
    files.most = 3
    with new(tmp_path, files) as log:
        log.append(b"a longer entry")
        log.publish()

    assert list(Log.open(tmp_path / "log").entries()) == [b"a longer entry"]


def test_a_write_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    """A system that takes nothing and reports nothing is not asked for ever."""
    files = Failing()
    log = new(tmp_path, files)
    log.append(b"good")
    files.most = 0

    with pytest.raises(StoreError, match="was not written"):
        log.append(b"lost")


def test_failed_sync_is_final(tmp_path: Path) -> None:
    """A sync that failed is never tried again: the system may have dropped the bytes."""
    files = Failing()
    log = new(tmp_path, files)
    log.append(b"good")
    files.fail = "sync"
    with pytest.raises(StoreError, match="was not written"):
        log.append(b"perhaps")
    files.fail = ""

    with pytest.raises(StoreError, match="takes no more entries"):
        log.append(b"more")


@pytest.mark.parametrize("call", ["rename", "truncate", "write"])
def test_failed_publication(tmp_path: Path, call: str) -> None:
    """A publication that fails loses nothing that was acknowledged."""
    files = Failing()
    log = new(tmp_path, files)
    log.publish()
    log.append(b"good")
    files.fail, files.most = call, 0 if call == "write" else 1 << 30
    with pytest.raises(StoreError, match="could not publish"):
        log.publish()
    log.close()

    with new(tmp_path) as again:
        assert again.append(b"after") == 1
        assert list(again.entries()) == [b"good", b"after"]


def test_failed_sync_while_publishing(tmp_path: Path) -> None:
    """Entries that were never synced are not published after a failed sync."""
    files = Failing()
    log = new(tmp_path, files)
    log.append(b"good", sync=False)
    files.fail = "sync"
    with pytest.raises(StoreError, match="was not written"):
        log.publish()
    log.close()

    assert not (tmp_path / "log").exists()


def test_interrupt_is_recovered(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a write costs nothing: the next append recovers first."""

    class Interrupting(Memory):
        armed = False

        def write(self, fd: int, data: bytes | memoryview) -> int:
            done = super().write(fd, data)
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return done

    files = Interrupting()
    log = new(tmp_path, files)
    log.append(b"a")
    for attempt in (lambda: log.append(b"b"), log.publish):
        files.armed = True
        with pytest.raises(KeyboardInterrupt):
            attempt()
        assert log.append(b"c") == log.size + log.pending - 1
    files.armed = True
    with pytest.raises(KeyboardInterrupt):
        log.append(b"d")
    with log.exclusive() as index:
        assert index == log.append(b"e", sync=False)
    files.armed = True
    with pytest.raises(KeyboardInterrupt):
        log.append(b"f")
    log.publish()
    log.close()

    found = list(Log.open(tmp_path / "log").entries())
    assert found == [b"a", b"b", b"c", b"c", b"d", b"e", b"f"]


# Keys


def test_another_key_cannot_continue(tmp_path: Path, log: Log) -> None:
    """A log is continued by the key that signed it, or one told of it."""
    log.append(b"x")
    log.close()
    other = keys.generate("ed25519", purposes=frozenset({"log"}))

    def again(*previous: keys.Verifier) -> Log:
        return Log.open(
            tmp_path / "log", private=tmp_path / "private", signer=other, previous=previous
        )

    with pytest.raises(UntrustedSignerError, match="not signed by the key"):
        again().append(b"y")
    with again(SIGNER.verifier) as rotated:
        before = rotated.log_id()
        assert rotated.append(b"y") == 1
        rotated.publish()
        assert before.hex() == SIGNER.verifier.fingerprint.removeprefix("sha256:")
        assert rotated.log_id().hex() == other.verifier.fingerprint.removeprefix("sha256:")


def test_a_log_shows_its_name(log: Log) -> None:
    """The repr names origin and place, and no key."""
    log.publish()

    assert repr(log).startswith(f"<Log '{ORIGIN}' in ")
    assert log.directory.name == "log"
    assert Log.open(log.directory).origin == ORIGIN
