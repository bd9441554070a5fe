"""
Writing details: a line before its leaf, and no line that no leaf names.

A crash between a line and its leaf leaves a line over, always at the end.  The
next writer removes it.  A line in the middle that no leaf names is no crash,
and is left for the verification to find.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from secureml._durable import sync_directory
from secureml.audit.details import FLAGS, read_segment, segments
from secureml.errors import StoreError

try:
    import fcntl
except ImportError:  # pragma: no cover  Windows reads details, it does not write them
    _FULL_SYNC = None
else:
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

__all__ = ["SEGMENT_RECORDS", "DetailStore"]

SEGMENT_RECORDS: Final = 4096
"""Lines of one details file."""

_T = TypeVar("_T")


class DetailStore:
    """
    The writer of a details directory: one for each directory and process.

    Its lock is held from the line to the leaf, so lines and leaves have the
    same order whoever writes them.
    """

    _stores: ClassVar[dict[tuple[int, str], "DetailStore"]] = {}

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.RLock()
        self.recovered = False
        self.deferred: deque[Callable[[], object]] = deque()
        self.writing = False
        self._fd = -1
        self._segment = 0
        self._lines = 0
        self._offset = 0
        self._dirty = False
        self.dead = ""

    @classmethod
    def at(cls, directory: Path) -> "DetailStore":
        """Return this process's store for *directory*."""
        # A child made by fork finds none of its parent's, nor their locks.
        key = os.getpid(), os.path.realpath(directory)
        found = cls._stores.setdefault(key, cls(directory))
        if found.dead:
            found = cls._stores[key] = cls(directory)
        return found

    def _check(self) -> None:
        if self.dead:
            raise StoreError(
                f"the audit log's details in {self.directory.name!r} take no more lines",
                why=f"syncing failed: {self.dead}; what is on the disk has to be read anew",
                fix="repair the disk or make room, then open the audit log again",
            )

    def alone(self, work: Callable[[], _T]) -> _T:
        """Do *work* with the lock held, then what had to wait for it; see `deferred`."""
        self.writing = True
        try:
            done = work()
            while self.deferred:
                self.deferred.popleft()()
        finally:
            self.writing = False
        return done

    def recover(self, named: Callable[[str], set[str]], *, fresh: bool) -> int:
        """
        Remove what follows the last line that a leaf names; return how many lines.

        Args:
            named: Returns the ids of the leaves that name a segment.
            fresh: The log has just been begun: one line may be left over from
                a crash, a history may not.

        Raises:
            StoreError: The directory holds a whole history that the log does
                not know, or cannot be read or written.
        """
        self._check()
        removed = 0
        found = segments(self.directory)
        if fresh and sum(1 for name in found for _ in read_segment(self.directory, name)) > 1:
            raise StoreError(
                f"{self.directory.name!r} holds details that the audit log knows nothing of",
                why="the log has just been begun, and the values of many records lie beside it",
                fix="put the audit log back that belongs to them; or move the details away",
            )
        try:
            while found:
                segment = found[-1]
                kept, lines, gone = _tail(self.directory, segment, named(segment))
                removed += gone
                if lines:
                    self._open(int(segment), lines, kept)
                    break
                (self.directory / f"{segment}.jsonl").unlink()
                found.pop()
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self.recovered = True
        return removed

    def next_segment(self) -> str:
        """Return the name of the segment that the next line goes to."""
        number = self._segment + 1 if self._lines >= SEGMENT_RECORDS else self._segment
        return f"{number:06d}"

    def write(self, line: bytes) -> int:
        """
        Append one line; return the offset it starts at.

        Its leaf comes next, and then `settle` or `take_back`.

        Raises:
            StoreError: It cannot be written; the file is as before.
        """
        self._check()
        try:
            if self._fd < 0 or self._lines >= SEGMENT_RECORDS:
                self._roll()
            start = self._offset
            # Until `settle`, an interrupt anywhere leaves a line that has to be looked at.
            self.recovered = False
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                os.ftruncate(self._fd, start)
                self.recovered = True
                raise
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self._offset += len(line)
        self._lines += 1
        self._dirty = True
        return start

    def settle(self) -> None:
        """Note that a leaf names the last line."""
        self.recovered = True

    def take_back(self, start: int) -> None:
        """
        Remove the last line, which no leaf came to name.

        Raises:
            StoreError: It is still there; the next record begins by removing it.
        """
        try:
            os.ftruncate(self._fd, start)
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self._offset = start
        self._lines -= 1
        self.recovered = True

    def sync(self) -> None:
        """
        Make every line durable.

        Raises:
            StoreError: The system could not.
        """
        if not self._dirty:
            return
        self._check()
        try:
            _sync(self._fd)
        except OSError as error:
            # The system may report it once and drop the bytes: asking again proves nothing.
            self.dead = str(error.strerror)
            raise _unwritable(self.directory, error) from error
        self._dirty = False

    def close(self) -> None:
        """Sync and close; the next line opens the file again."""
        self.recovered = False
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self._dirty and not self.dead:
                _sync(fd)
        except OSError as error:
            self.dead = str(error.strerror)
            raise _unwritable(self.directory, error) from error
        finally:
            self._dirty = False
            os.close(fd)

    def _roll(self) -> None:
        if self._lines >= SEGMENT_RECORDS:
            self.sync()
            self._open(self._segment + 1, 0, 0)
        else:
            self._open(self._segment, self._lines, self._offset)

    def _open(self, segment: int, lines: int, size: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.directory.mkdir(mode=0o700, exist_ok=True)
        path = self.directory / f"{segment:06d}.jsonl"
        new = not path.exists()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | FLAGS, 0o600)
        if os.fstat(self._fd).st_size != size:
            os.ftruncate(self._fd, size)
        self._segment, self._lines, self._offset = segment, lines, size
        if new:
            self._sync_directory()

    def _sync_directory(self) -> None:
        for directory in (self.directory, self.directory.parent):
            sync_directory(directory)


def _sync(fd: int) -> None:
    if _FULL_SYNC is not None:  # pragma: no cover  macOS: fsync alone leaves it in the drive
        fcntl.fcntl(fd, _FULL_SYNC)
    else:
        os.fsync(fd)


def _tail(directory: Path, segment: str, named: set[str]) -> tuple[int, int, int]:
    """Return bytes and lines up to the last named line, and how many come after it."""
    kept = lines = at = count = 0
    for line in read_segment(directory, segment):
        at += len(line)
        count += 1
        if line.endswith(b"\n") and line[7:43].decode("ascii", "replace") in named:
            kept, lines = at, count
    return kept, lines, count - lines


def _unwritable(directory: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write the audit log's details in {directory.name!r}",
        why=str(error.strerror),
        fix="make room or set the mode right, and call again",
        retryable=True,
    )
