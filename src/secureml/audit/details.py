"""
Details: the values and salts that the leaves of an audit log commit to.

``details/<segment>.jsonl`` holds one canonical JSON line for each record that
captured something.  A line is appended before its leaf, so a leaf never names
a value that was not written.  Lines may be erased for good; what is left of
the value then is a commitment that nobody can open.

A crash between a line and its leaf leaves a line that no leaf names, always
at the end.  The next writer removes it.

Source: docs/spec/audit-record.md, section "Details".
"""

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from secureml.audit.record import ID
from secureml.audit.value import SALT_SIZE, commit
from secureml.errors import FormatError, StoreError
from secureml.wire import canonical
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.canonical import JSON

__all__ = ["SEGMENT_RECORDS", "Detail", "DetailStore", "Sealed", "read_details", "read_segment"]

SEGMENT_RECORDS: Final = 4096
"""Lines of one details file."""

_FILE: Final = re.compile(r"(\d{6,})\.jsonl", re.ASCII)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class Sealed:
    """
    A captured value and the salt of its commitment.

    Attributes:
        salt: 32 random bytes.
        encoded: The value as audit-value bytes.
    """

    salt: bytes
    encoded: bytes

    @classmethod
    def of(cls, encoded: bytes) -> "Sealed":
        """Draw a fresh salt for *encoded*."""
        return cls(os.urandom(SALT_SIZE), encoded)

    @property
    def commitment(self) -> str:
        """The commitment that the leaf holds, in hex."""
        return commit(self.salt, self.encoded).hex()


@dataclass(frozen=True, slots=True)
class Detail:
    """
    One line: the values of one record.

    Attributes:
        id: The record.
        values: Captured path → value and salt.
    """

    id: str
    values: Mapping[str, Sealed]

    def encode(self) -> bytes:
        """Return the line, newline included."""
        values: dict[str, JSON] = {
            path: {"salt": sealed.salt.hex(), "value": b64encode(sealed.encoded)}
            for path, sealed in self.values.items()
        }
        return canonical.encode({"id": self.id, "v": 1, "values": values}) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "Detail":
        """
        Read a line, newline included.

        Raises:
            FormatError: It is not a details line in the one spelling.
        """
        if not line.endswith(b"\n"):
            raise _malformed(why="the line has no end")
        found = canonical.decode(line[:-1])
        match found:
            case {"id": str(name), "v": 1 as version, "values": dict(values), **rest} if (
                ID.fullmatch(name) and version is not True and not rest
            ):
                return cls(name, {path: _sealed(value) for path, value in values.items()})
        raise _malformed(why="a line is an object of id, v and values")


def _sealed(value: JSON) -> Sealed:
    match value:
        case {"salt": str(salt), "value": str(encoded), **rest} if not rest:
            if re.fullmatch(r"[0-9a-f]{64}", salt):
                return Sealed(bytes.fromhex(salt), b64decode(encoded))
    raise _malformed(
        why="a value is an object of a salt, 64 hex digits, and the encoded value in base64"
    )


def _malformed(*, why: str) -> FormatError:
    return FormatError(
        "this is not a line of an audit log's details",
        why=f"{why} (docs/spec/audit-record.md)",
        fix="the file was edited, cut, or written by something else: compare it with a copy",
    )


def segments(directory: Path) -> list[str]:
    """Return the names of the segments in *directory*, oldest first."""
    try:
        names = os.listdir(directory)  # noqa: PTH208  names are wanted
    except FileNotFoundError:
        return []
    return sorted(found[1] for found in map(_FILE.fullmatch, names) if found)


def read_segment(directory: Path, segment: str) -> Iterator[bytes]:
    """
    Yield the lines of a segment; a missing file has none.

    Raises:
        StoreError: The file cannot be read, or is no regular file.
    """
    path = directory / f"{segment}.jsonl"
    try:
        fd = os.open(path, os.O_RDONLY | _NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        with open(fd, "rb") as file:  # noqa: PTH123  of a file descriptor
            yield from file
    except OSError as error:
        raise _unreadable(path, error) from error


def read_details(directory: Path, segment: str, record: str) -> Detail | None:
    """
    Return the details of one record, or None when they are not there.

    Raises:
        FormatError: Its line is malformed.
        StoreError: The file cannot be read.
    """
    start = b'{"id":"' + record.encode() + b'"'
    for line in read_segment(directory, segment):
        if line.startswith(start):
            return Detail.decode(line)
    return None


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot read {path.name!r} of the audit log's details",
        why=str(error.strerror),
        fix="check the file and its mode",
    )


class DetailStore:
    """
    The writer of a details directory: one for each directory and process.

    Its lock is held from the line to the leaf, so lines and leaves have the
    same order whoever writes them.
    """

    _stores: ClassVar[dict[str, "DetailStore"]] = {}
    _guard: ClassVar = threading.Lock()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.recovered = False
        self.deferred: deque[Callable[[], object]] = deque()
        self.writing = False
        self._fd = -1
        self._segment = 0
        self._lines = 0
        self._offset = 0
        self._dirty = False

    @classmethod
    def at(cls, directory: Path) -> "DetailStore":
        """Return this process's store for *directory*."""
        key = os.path.realpath(directory)
        with cls._guard:
            store = cls._stores.get(key)
            if store is None or store.pid != os.getpid():
                store = cls._stores[key] = cls(directory)
            return store

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

        Raises:
            StoreError: It cannot be written; the file is as before.
        """
        try:
            if self._fd < 0 or self._lines >= SEGMENT_RECORDS:
                self._roll()
            start = self._offset
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                os.ftruncate(self._fd, start)
                raise
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self._offset += len(line)
        self._lines += 1
        self._dirty = True
        return start

    def take_back(self, start: int) -> None:
        """Remove the last line, which no leaf came to name."""
        try:
            os.ftruncate(self._fd, start)
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self._offset = start
        self._lines -= 1

    def sync(self) -> None:
        """
        Make every line durable.

        Raises:
            StoreError: The system could not.
        """
        if not self._dirty:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        self._dirty = False

    def close(self) -> None:
        """Sync and close; the next line opens the file again."""
        self.recovered = False
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1

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
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NOFOLLOW | getattr(os, "O_CLOEXEC", 0)
        self._fd = os.open(path, flags, 0o600)
        if os.fstat(self._fd).st_size != size:
            os.ftruncate(self._fd, size)
        self._segment, self._lines, self._offset = segment, lines, size
        if new:
            self._sync_directory()

    def _sync_directory(self) -> None:
        for directory in (self.directory, self.directory.parent):
            fd = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


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
