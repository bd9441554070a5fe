"""
A machine that takes down every call, and the disks that a crash of it can leave.

Tests load it by its path.  The model is POSIX and no file system in
particular: what was not synced may be on the disk or not, in any combination,
a write in parts of 512 bytes, and a name apart from the file it leads to.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from secureml.evidence._files import Files

SECTOR = 512
State: TypeAlias = tuple[tuple[str, bytes | None], ...]
"""What a new process sees: paths, and what is in the files; None for a directory."""


class KilledError(BaseException):
    """The process ends here; nothing below may catch it."""


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_all(self, fds: Sequence[int]) -> None:
        """Sync one by one, so that the order is known."""
        for fd in fds:
            self.sync(fd)

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
    def needs(self) -> tuple[tuple[str, object], ...]:
        """What has to be synced for it to be sure to last; any one of them will do."""
        if self.kind in {"write", "truncate"}:
            return (("inode", self.inode),)
        if self.kind == "rename":
            return (("directory", parent(self.to)),)
        if self.kind in {"create", "mkdir", "remove", "rmdir"}:
            return (("directory", parent(self.path)),)
        return ()


class Machine(Memory):
    """
    The system, with a record of every call that changes something.

    Attributes:
        ops: The calls.
        stop: The process is killed after so many calls; 0 for never.
        past: A directory that is made past this machine, for a lock, and noted when it is there.
        dead: Whether it was, so that what it does on its way out does nothing.
        hook: What somebody else does after each of a writer's writes.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ops: list[Op] = []
        self.stop = 0
        self.hook: Callable[[], None] | None = None
        self.past = "private/spool/audit"
        self.dead = False
        self._inodes: dict[int, int] = {}
        self._names: dict[str, int] = {}
        self._directories = {""}
        self._made = 0

    def _name(self, path: Path) -> str:
        name = path.relative_to(self.base).as_posix()
        return "" if name == "." else name

    def note(self, op: Op) -> None:
        """Take a call down, and die if it was the last one."""
        if self.past and (self.base / self.past).is_dir():
            past, self.past = self.past, ""
            self._above(f"{past}/lock")
        self.ops.append(op)
        if len(self.ops) == self.stop:
            self.dead = True
            raise KilledError

    def _live(self) -> None:
        if self.dead:
            raise KilledError

    def _above(self, name: str) -> None:
        """Take down directories that were made past this machine: those of the locks."""
        above = parent(name)
        if above not in self._directories:
            self._above(above)
            self._directories.add(above)
            self.note(Op("mkdir", above))

    def _lock_of(self, name: str) -> None:
        """Take down the lock of a spool, which was made past this machine, before the spool."""
        lock = name.removesuffix("-00000000.spool") + ".lock"
        if lock not in {name + ".lock", *self._names} and (self.base / lock).exists():
            self._made += 1
            self._names[lock] = self._made
            self.note(Op("create", lock, inode=self._made))

    def _opened(self, fd: int, path: Path, *, fresh: bool) -> int:
        name = self._name(path)
        self._above(name)
        real = os.fstat(fd).st_ino
        if name not in self._names:
            self._lock_of(name)
            self._made += 1
            self._names[name] = self._inodes[real] = self._made
            self.note(Op("create", name, inode=self._made))
        elif fresh:
            self.note(Op("truncate", inode=self._names[name]))
        return fd

    def adopt(self, state: State) -> None:
        """Begin with a disk that is there already."""
        for path, data in state:
            name = Path(path)
            if data is None:
                self._directories.add(path)
                self.ops += [Op("mkdir", path), Op("sync_directory", parent(path))]
            else:
                self._made += 1
                self._names[path] = self._made
                self._inodes[(self.base / name).stat().st_ino] = self._made
                self.ops.append(Op("create", path, inode=self._made))
                self.ops.append(Op("write", inode=self._made, data=data))
                self.ops.append(Op("sync", inode=self._made))
                self.ops.append(Op("sync_directory", parent(path)))

    def _inode(self, fd: int) -> int:
        return self._inodes[os.fstat(fd).st_ino]

    def create(self, path: Path, mode: int) -> int:
        """Make a file, and take it down."""
        self._live()
        return self._opened(super().create(path, mode), path, fresh=True)

    def open_append(self, path: Path, mode: int) -> int:
        """Open a file, and take down if it is new."""
        self._live()
        return self._opened(super().open_append(path, mode), path, fresh=False)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, and take it down."""
        self._live()
        done = super().write(fd, data)
        at = os.lseek(fd, 0, os.SEEK_CUR) - done
        self.note(Op("write", inode=self._inode(fd), at=at, data=bytes(data[:done])))
        return done

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write somewhere, and take it down."""
        self._live()
        done = super().write_at(fd, data, offset)
        self.note(Op("write", inode=self._inode(fd), at=offset, data=bytes(data[:done])))
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
            self.hook = hook
        return done

    def truncate(self, fd: int, size: int) -> None:
        """Cut, and take it down if it cuts anything."""
        self._live()
        before = os.fstat(fd).st_size
        super().truncate(fd, size)
        if size != before:
            self.note(Op("truncate", inode=self._inode(fd), at=size))

    def sync(self, fd: int) -> None:
        """Take down that the file is on the disk."""
        self._live()
        self.note(Op("sync", inode=self._inode(fd)))

    def sync_directory(self, path: Path) -> None:
        """Take down that the names are on the disk."""
        self._live()
        self._above(self._name(path / "x"))
        self.note(Op("sync_directory", self._name(path)))

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and take it down."""
        self._live()
        super().rename(source, target)
        inode = self._names.pop(self._name(source))
        self._names[self._name(target)] = inode
        self.note(Op("rename", self._name(source), self._name(target), inode=inode))

    def make_directory(self, path: Path, mode: int) -> None:
        """Make a directory, and take it down."""
        self._live()
        super().make_directory(path, mode)
        self._directories.add(self._name(path))
        self.note(Op("mkdir", self._name(path)))

    def remove(self, path: Path) -> None:
        """Remove a file, and take it down."""
        self._live()
        super().remove(path)
        if self._names.pop(self._name(path), None) is not None:
            self.note(Op("remove", self._name(path)))

    def remove_directory(self, path: Path) -> None:
        """Remove a directory, and take it down."""
        self._live()
        super().remove_directory(path)
        self._directories.discard(self._name(path))
        self.note(Op("rmdir", self._name(path)))


Pieces: TypeAlias = tuple[tuple[int, int], ...]
"""The parts of a write that reached the disk, as offsets into it."""


class Crashes:
    """
    The disks that a crash of one machine can leave, after each of its calls.

    Args:
        ops: The calls.
        single: Also the disks on which of all that was not synced just one call is.
        some: How many more, drawn at random, for each call.
    """

    def __init__(self, ops: Sequence[Op], *, single: bool = True, some: int = 0) -> None:
        self.ops = ops
        self._single = single
        self._some = some
        self._data: dict[object, bytes] = {}

    def after(self, count: int) -> Iterator[State]:
        """
        Yield the disks that a crash after the first *count* calls can leave.

        Of the calls that nothing made sure, all were done, or none, or all but
        one, or just one, or some; and of each write that nothing made sure one
        sector may be missing, and the last one may be torn anywhere.
        """
        before = self.ops[:count]
        sure = self._sure(before)
        loose = [at for at in range(count) if not sure[at]]
        everything = frozenset(loose)
        choices = [everything, frozenset()]
        choices += [everything - {at} for at in loose]
        if self._single:
            choices += [frozenset({at}) for at in loose]
        drawn = random.Random(count)  # noqa: S311  a choice, not a secret
        for _ in range(self._some if len(loose) > 2 else 0):
            choices.append(frozenset(at for at in loose if drawn.random() < 0.5))
        for kept in choices:
            yield self._state(before, sure, kept)
        for at in loose:
            for pieces in missing_sectors(before[at]):
                yield self._state(before, sure, everything, at, pieces)
        if before and before[-1].kind == "write":
            length = len(before[-1].data)
            for cut in sorted({1, length // 2, length - 1} - {0}):
                yield self._state(before, sure, everything, count - 1, ((0, cut),))
                yield self._state(before, sure, frozenset({count - 1}), count - 1, ((0, cut),))

    def _sure(self, before: Sequence[Op]) -> list[bool]:
        synced: set[tuple[str, object]] = set()
        sure = [True] * len(before)
        for at in range(len(before) - 1, -1, -1):
            op = before[at]
            if op.kind == "sync":
                synced.add(("inode", op.inode))
            elif op.kind == "sync_directory":
                synced.add(("directory", op.path))
            elif op.needs:
                sure[at] = not synced.isdisjoint(op.needs)
        return sure

    def _state(
        self,
        before: Sequence[Op],
        sure: list[bool],
        kept: frozenset[int],
        torn: int = -1,
        pieces: Pieces = (),
    ) -> State:
        names: dict[str, int] = {}
        directories: set[str] = {""}
        writes: dict[int, list[int]] = {}
        for at, op in enumerate(before):
            if not (sure[at] or at in kept):
                continue
            kind = op.kind
            if kind in {"write", "truncate"}:
                writes.setdefault(op.inode, []).append(at)
            elif kind == "create":
                names[op.path] = op.inode
            elif kind == "rename":
                names.pop(op.path, None)
                names[op.to] = op.inode
            elif kind == "mkdir":
                directories.add(op.path)
            elif kind == "remove":
                names.pop(op.path, None)
            elif kind == "rmdir":
                directories.discard(op.path)
        reached = {""}
        for path in sorted(directories - {""}):
            if parent(path) in reached:
                reached.add(path)
        found: list[tuple[str, bytes | None]] = [(path, None) for path in reached if path]
        for path, inode in names.items():
            if parent(path) in reached:
                found.append((path, self._content(writes.get(inode, []), torn, pieces)))
        found.sort(key=_path_of)
        return tuple(found)

    def _content(self, writes: list[int], torn: int, pieces: Pieces) -> bytes:
        key = (*writes, -1, torn, pieces) if torn in writes else tuple(writes)
        found = self._data.get(key)
        if found is None:
            data = bytearray()
            for at in writes:
                op = self.ops[at]
                data.extend(bytes(max(0, op.at - len(data))))
                if op.kind == "truncate":
                    del data[op.at :]
                    continue
                for low, high in pieces if at == torn else ((0, len(op.data)),):
                    data.extend(bytes(max(0, op.at + low - len(data))))
                    data[op.at + low : op.at + high] = op.data[low:high]
            found = self._data[key] = bytes(data)
        return found


def _path_of(item: tuple[str, bytes | None]) -> str:
    return item[0]


def missing_sectors(op: Op) -> Iterator[Pieces]:
    """Yield what is left of a write when one sector of it is missing."""
    if op.kind != "write":
        return
    end = op.at + len(op.data)
    if op.at // SECTOR == (end - 1) // SECTOR:
        return
    for start in range(op.at - op.at % SECTOR, end, SECTOR):
        low, high = max(start, op.at) - op.at, min(start + SECTOR, end) - op.at
        if any(op.data[low:high]):
            yield tuple((a, b) for a, b in ((0, low), (high, len(op.data))) if a < b)


def place(state: State, base: Path) -> None:
    """Put a disk's content where a writer can find it."""
    top = str(base)
    for path, data in state:
        where = f"{top}/{path}"
        if data is None:
            os.mkdir(where, 0o700)  # noqa: PTH102  a thousand times, and a Path takes longer
        else:
            fd = os.open(where, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, data)
            os.close(fd)


@contextmanager
def in_memory(other: Path) -> Iterator[Path]:
    """Yield a directory in memory, where the system has one: a thousand disks are written."""
    shared = Path("/dev/shm")  # noqa: S108  removed below
    if not (shared.is_dir() and os.access(shared, os.W_OK)):
        yield other
        return
    made = Path(tempfile.mkdtemp(dir=shared))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
