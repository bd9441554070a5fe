"""
L11: a crash at any write leaves a prefix that holds all that was acknowledged.

A `Machine` runs the writer on real files and takes down every call.  From
that record the disk is put together again as a crash could have left it:
after each call, with what was synced, and with any of the rest lost, kept or
torn.  Each such disk is recovered by an ordinary writer.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import ConsistencyError
from secureml.evidence._files import Files
from secureml.evidence._wal import read_frames
from secureml.evidence.log import Log, verify_log
from secureml.evidence.trust import Identity, Trust, identity_block

ORIGIN = "log.example/crash"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN)
    )
)


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def parent(path: str) -> str:
    """Return the directory that *path* is in."""
    return path.rpartition("/")[0]


@dataclass(frozen=True)
class Op:
    """One call: what it did, to which file or name, and whether it needs a sync to last."""

    kind: str
    path: str = ""
    to: str = ""
    inode: int = 0
    at: int = 0
    data: bytes = b""

    @property
    def needs(self) -> tuple[str, object] | None:
        """What has to be synced for it to be sure to last."""
        if self.kind in {"write", "truncate"}:
            return ("inode", self.inode)
        if self.kind in {"create", "rename", "mkdir", "remove", "rmdir"}:
            return ("directory", parent(self.to or self.path))
        return None


class Machine(Memory):
    """The system, with a record of every call that changes something."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ops: list[Op] = []
        self.inodes: dict[int, int] = {}
        self.lengths: dict[int, int] = {}
        self.names: dict[str, int] = {}
        self.made = 1_000

    def _name(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()

    def _opened(self, fd: int, path: Path, length: int, *, fresh: bool) -> int:
        name = self._name(path)
        if fresh or name not in self.names:
            self.made += 1
            self.names[name] = self.made
            self.lengths[self.made] = 0
            self.ops.append(Op("create", name, inode=self.names[name]))
        self.inodes[fd] = self.names[name]
        self.lengths[self.names[name]] = length
        return fd

    def create(self, path: Path, mode: int) -> int:
        """Make a file, and take it down."""
        return self._opened(super().create(path, mode), path, 0, fresh=True)

    def open_append(self, path: Path, mode: int) -> int:
        """Open a file, and take down if it is new."""
        fd = super().open_append(path, mode)
        return self._opened(fd, path, os.fstat(fd).st_size, fresh=False)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, and take it down."""
        done = super().write(fd, data)
        inode = self.inodes[fd]
        at = self.lengths[inode]
        self.lengths[inode] = at + done
        self.ops.append(Op("write", inode=inode, at=at, data=bytes(data[:done])))
        return done

    def truncate(self, fd: int, size: int) -> None:
        """Cut, and take it down."""
        super().truncate(fd, size)
        self.lengths[self.inodes[fd]] = size
        self.ops.append(Op("truncate", inode=self.inodes[fd], at=size))

    def sync(self, fd: int) -> None:
        """Take down that the file is on the disk."""
        self.ops.append(Op("sync", inode=self.inodes[fd]))

    def sync_directory(self, path: Path) -> None:
        """Take down that the names are on the disk."""
        self.ops.append(Op("sync_directory", self._name(path)))

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and take it down."""
        super().rename(source, target)
        inode = self.names.pop(self._name(source))
        self.names[self._name(target)] = inode
        self.ops.append(Op("rename", self._name(source), self._name(target), inode=inode))

    def make_directory(self, path: Path, mode: int) -> None:
        """Make a directory, and take it down."""
        super().make_directory(path, mode)
        self.ops.append(Op("mkdir", self._name(path)))

    def remove(self, path: Path) -> None:
        """Remove a file, and take it down."""
        super().remove(path)
        self.names.pop(self._name(path), None)
        self.ops.append(Op("remove", self._name(path)))

    def remove_directory(self, path: Path) -> None:
        """Remove a directory, and take it down."""
        super().remove_directory(path)
        self.ops.append(Op("rmdir", self._name(path)))


@dataclass
class Disk:
    """What is on a disk: names, and what they lead to."""

    names: dict[str, int] = field(default_factory=dict)
    directories: set[str] = field(default_factory=lambda: {"", "."})
    data: dict[int, bytearray] = field(default_factory=dict)

    def apply(self, op: Op) -> None:
        """Let one call happen."""
        if op.kind == "create":
            self.names[op.path] = op.inode
        elif op.kind == "write":
            data = self.data.setdefault(op.inode, bytearray())
            data.extend(bytes(max(0, op.at - len(data))))
            data[op.at : op.at + len(op.data)] = op.data
        elif op.kind == "truncate":
            data = self.data.setdefault(op.inode, bytearray())
            data.extend(bytes(max(0, op.at - len(data))))
            del data[op.at :]
        elif op.kind == "rename":
            self.names.pop(op.path, None)
            self.names[op.to] = op.inode
        elif op.kind == "mkdir":
            self.directories.add(op.path)
        elif op.kind == "remove":
            self.names.pop(op.path, None)
        elif op.kind == "rmdir":
            self.directories.discard(op.path)

    def state(self) -> tuple[tuple[str, bytes | None], ...]:
        """Return what a new process would see: a name needs its directories."""

        def reached(path: str) -> bool:
            above = parent(path)
            return not above or (above in self.directories and reached(above))

        found: dict[str, bytes | None] = {
            path: None for path in self.directories - {"", "."} if reached(path)
        }
        for path, inode in self.names.items():
            if reached(path):
                found[path] = bytes(self.data.get(inode, b""))
        return tuple(sorted(found.items()))


def crashes(ops: list[Op], count: int, *, single: bool = True) -> Iterator[Disk]:
    """
    Yield the disks that a crash after the first *count* calls can leave.

    Of the calls that nothing made sure, all were done, or none, or all but
    one, or, when *single*, just one; and the last write may be torn.
    """
    before = ops[:count]
    synced: set[tuple[str, object]] = set()
    sure = [True] * count
    for at in range(count - 1, -1, -1):
        op = before[at]
        if op.kind == "sync":
            synced.add(("inode", op.inode))
        elif op.kind == "sync_directory":
            synced.add(("directory", op.path if op.path != "." else ""))
        elif op.needs is not None:
            sure[at] = op.needs in synced
    loose = [at for at in range(count) if not sure[at]]
    choices = [set(loose), set()]
    choices += [set(loose) - {at} for at in loose]
    choices += [{at} for at in loose if single]
    for kept in choices:
        disk = Disk()
        for at, op in enumerate(before):
            if sure[at] or at in kept:
                disk.apply(op)
        yield disk
    if before and before[-1].kind == "write":
        last = before[-1]
        for cut in {1, len(last.data) // 2, len(last.data) - 1} - {0}:
            disk = Disk()
            for op in before[:-1]:
                disk.apply(op)
            torn = Op("write", inode=last.inode, at=last.at, data=last.data[:cut])
            disk.apply(torn)
            yield disk


def place(state: tuple[tuple[str, bytes | None], ...], base: Path) -> None:
    """Put a disk's content where a writer can find it."""
    for path, data in state:
        if data is None:
            (base / path).mkdir(parents=True, exist_ok=True)
    for path, data in state:
        if data is not None:
            (base / path).write_bytes(data)


def opened(base: Path, files: Files) -> Log:
    """Open the log of a machine."""
    return Log.open(
        base / "log",
        private=base / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=files,
    )


@dataclass
class Story:
    """What a writer did, and what it had acknowledged after how many calls."""

    machine: Machine
    start: int = 0
    single: bool = True
    entries: list[bytes] = field(default_factory=list)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    def append(self, log: Log, *, sync: bool = True) -> None:
        """Append the next entry."""
        self.entries.append(b"entry %d" % len(self.entries))
        log.append(self.entries[-1], sync=sync)
        if sync:
            self.acknowledged.append((len(self.machine.ops), len(self.entries)))

    def publish(self, log: Log) -> None:
        """Publish, which acknowledges everything."""
        note = log.publish()
        self.acknowledged.append((len(self.machine.ops), len(self.entries)))
        self.notes.append((len(self.machine.ops), note))


def begin(base: Path) -> Story:
    """Make the private directory, as a workspace does, and start the record."""
    for name in ("", "private", "private/wal", "private/checkpoints"):
        (base / name).mkdir(exist_ok=True, mode=0o700)
    machine = Machine(base)
    machine.ops += [Op("mkdir", name) for name in ("private",)]
    machine.ops += [Op("mkdir", f"private/{name}") for name in ("wal", "checkpoints")]
    machine.ops += [Op("sync_directory", name) for name in ("", "private")]
    return Story(machine)


def a_short_life(base: Path) -> Story:
    """Begin a log, append, publish, and again, with and without syncing."""
    story = begin(base)
    log = opened(base, story.machine)
    story.publish(log)
    for _ in range(2):
        story.append(log)
    story.publish(log)
    for sync in (True, False, True, False):
        story.append(log, sync=sync)
    story.publish(log)
    story.append(log, sync=False)
    log.close()
    return story


def no_first_checkpoint(base: Path) -> Story:
    """Append before anything was published."""
    story = begin(base)
    log = opened(base, story.machine)
    story.append(log)
    story.append(log)
    story.publish(log)
    log.close()
    return story


def across_a_tile(base: Path) -> Story:
    """Grow over the end of a full tile, with a partial one left behind."""
    story = begin(base)
    quiet = opened(base, story.machine)
    for _ in range(254):
        story.append(quiet, sync=False)
    story.publish(quiet)
    story.start = len(story.machine.ops)
    story.single = False
    for _ in range(4):
        story.append(quiet, sync=False)
    story.publish(quiet)
    story.append(quiet)
    story.publish(quiet)
    quiet.close()
    return story


def a_second_crash(base: Path) -> Story:
    """Recover from a crash in the middle of publishing, and go on."""
    first = base / "first"
    first.mkdir()
    before = a_short_life(first)
    ops = before.machine.ops
    renames = [at for at, op in enumerate(ops) if op.kind == "rename" and "entries" in op.to]
    disk = next(iter(crashes(ops, renames[-1] + 1)))
    second = base / "second"
    second.mkdir()
    place(disk.state(), second)
    machine = Machine(second)
    # What the first crash left is on the disk; the record begins with it.
    for number, (path, data) in enumerate(disk.state(), 1):
        if data is None:
            machine.ops.append(Op("mkdir", path))
            machine.ops.append(Op("sync_directory", parent(path)))
        else:
            machine.names[path] = number
            machine.lengths[number] = len(data)
            machine.ops.append(Op("create", path, inode=number))
            machine.ops.append(Op("write", inode=number, data=data))
            machine.ops.append(Op("sync", inode=number))
            machine.ops.append(Op("sync_directory", parent(path)))
    story = Story(machine, start=len(machine.ops))
    log = opened(second, machine)
    log.acquire()
    story.entries = list(log.entries())
    story.acknowledged.append((story.start, len(story.entries)))
    story.append(log)
    story.publish(log)
    log.close()
    return story


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where the system has one: a thousand disks are written."""
    shared = Path("/dev/shm")  # noqa: S108  removed below
    if not (shared.is_dir() and os.access(shared, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as made:
        yield Path(made)


@pytest.mark.parametrize(
    "life", [a_short_life, no_first_checkpoint, across_a_tile, a_second_crash]
)
def test_every_crash_is_recovered(memory: Path, life: Callable[[Path], Story]) -> None:
    """However a crash leaves the disk, all that was acknowledged comes back, and no more."""
    base = memory / "life"
    base.mkdir()
    story = life(base)
    ops = story.machine.ops
    seen: set[object] = set()
    for count in range(story.start, len(ops) + 1):
        sure = max((size for at, size in story.acknowledged if at <= count), default=0)
        notes = [note for at, note in story.notes if at <= count]
        for disk in crashes(ops, count, single=story.single):
            state = disk.state()
            key = hash((state, sure))
            if key in seen:
                continue
            seen.add(key)
            here = memory / "here"
            shutil.rmtree(here, ignore_errors=True)
            here.mkdir()
            place(state, here)
            with opened(here, Memory()) as log:
                log.acquire()
                found = list(log.entries())
                assert found == story.entries[: len(found)], (count, ops[count - 1])
                assert len(found) >= sure, (count, ops[count - 1])
                log.append(b"after the crash", sync=False)
            verified = verify_log(here / "log", trust=TRUST, remembered=notes)
            assert [*found, b"after the crash"] == list(verified.entries)
    assert len(seen) > 30


# The write-ahead file, byte by byte


def written(base: Path) -> tuple[bytes, list[bytes]]:
    """Return the write-ahead file of a log with one published and four pending entries."""
    log = opened(base, Memory())
    entries = [b"entry %d" % n for n in range(5)]
    log.append(entries[0])
    log.publish()
    for entry in entries[1:]:
        log.append(entry)
    assert log._writer is not None
    assert log._lock is not None
    log._lock.leave(log._writer)
    return (base / "private/wal/log.wal").read_bytes(), entries


@pytest.mark.parametrize("tail", ["cut", "zeros", "garbage"])
def test_every_torn_end(tmp_path: Path, tail: str) -> None:
    """A write-ahead file torn at any byte gives the entries before the tear."""
    whole, entries = written(tmp_path)
    wal = tmp_path / "private/wal/log.wal"
    length = len(whole) // 4
    noise = random.Random(11)  # noqa: S311  rubbish, not a secret
    for cut in range(len(whole) + 1):
        rest = {
            "cut": b"",
            "zeros": bytes(len(whole) - cut),
            "garbage": noise.randbytes(len(whole) - cut),
        }[tail]
        wal.write_bytes(whole[:cut] + rest)
        found = read_frames(wal, published=1)
        assert entries[1 : 1 + cut // length] == found.entries
        assert found.good == cut // length * length
        assert len(whole[:cut] + rest) == found.good + found.torn
    wal.write_bytes(whole[: 2 * length + 3])
    with opened(tmp_path, Memory()) as log:
        assert log.append(b"after") == 3
        assert [*entries[:3], b"after"] == list(log.entries())


def test_every_flipped_byte_before_the_last_frame(tmp_path: Path) -> None:
    """A changed byte with good frames behind it is refused, and nothing is repaired."""
    whole, entries = written(tmp_path)
    wal = tmp_path / "private/wal/log.wal"
    last = len(whole) // 4 * 3
    for at in range(len(whole)):
        for mask in (1, 128, 255):
            changed = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
            wal.write_bytes(changed)
            if at < last:
                with pytest.raises(ConsistencyError, match="was damaged"):
                    read_frames(wal, published=1)
            else:
                # Nobody can tell a changed last frame from a torn one.
                assert entries[1:4] == read_frames(wal, published=1).entries
    wal.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ConsistencyError, match="was damaged"):
        opened(tmp_path, Memory()).append(b"x")


# A real process


WRITER = """
import sys
from pathlib import Path
from secureml import keys
from secureml.evidence.log import Log

base = Path(sys.argv[1])
signer = keys.load(base / "key.pem", purposes=frozenset({"log"}))
log = Log.open(base / "log", private=base / "private", origin=sys.argv[2], signer=signer,
               create=True)
n = log.append(b"hello")
while True:
    n = log.append(b"entry %d" % (n + 1), sync=n % 3 == 0)
    print(n, flush=True)
    if n % 7 == 0:
        log.publish()
"""


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    """A process that is killed at any moment loses no entry that it had acknowledged."""
    signer = keys.create(tmp_path / "key.pem", scheme="ed25519", purposes=frozenset({"log"}))
    trust = Trust.from_toml(
        "version = 1\n\n"
        + identity_block(
            Identity(name="log", verifier=signer.verifier, roles=frozenset({"log"}), origin=ORIGIN)
        )
    )
    pause = random.Random(5)  # noqa: S311  a moment, not a secret
    total = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), ORIGIN],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        last = int(process.stdout.readline())
        time.sleep(pause.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        last = max([last, *(int(line) for line in lines[:-1])])
        with Log.open(tmp_path / "log", private=tmp_path / "private", signer=signer) as log:
            log.acquire()
            found = list(log.entries())
        assert len(found) > last >= total
        for index, entry in enumerate(found):
            assert entry in {b"hello", b"entry %d" % index}
        total = len(found)
        assert total == verify_log(tmp_path / "log", trust=trust).size
