"""
The write-ahead file: what was acknowledged before it was published.

One frame for each entry, in the length and CRC of `secureml.wire.frame`: the
entry's index, how many entries were known to be on the disk when it was
written (each 8 bytes, big-endian), and the entry.  A frame is one `write`.

A crash may lose or tear what was not synced, and only that.  So a bad frame
ends the file, unless a good one behind it says that the bad one had been
synced: then it is damage, and nothing is repaired.

A frame without an entry announces a batch that is kept elsewhere, in the spools
of an audit log: its number is the size that the log will have.  Tiles up to
there may be on the disk after a crash, and are no sign of a rollback.

A failed write is cut off again, a failed sync is never tried again: the
system may report it once and drop the bytes.  Either way the file takes
nothing more until it was opened and read anew.
"""

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from secureml.errors import ConsistencyError, StoreBusyError, StoreError
from secureml.evidence._files import Files, make_directories, read_file, store_error, write_all
from secureml.evidence._flock import Hold, hold, is_held
from secureml.wire import frame

__all__ = ["Frames", "Wal", "refuse_second_writer"]

_HEAD = struct.Struct(">QQ")
_MAX_ENTRY = 65_535
_ANNOUNCED = b"\xff" * 8
"""Stands for the number of synced entries in an announcement."""
# No frame is longer than 65,535 + 16 bytes, so its length begins so.
_FRAME = re.compile(rb"(?=\x00[\x00\x01])")
LIMIT = 1 << 30
"""No write-ahead file is longer: a log publishes itself long before."""


class Frames:
    """
    What was found in a write-ahead file.

    Attributes:
        first: Index of the first entry, or 0 when there is none.
        entries: The entries, from *first* upwards without a gap.
        good: Length in bytes of the part that holds them.
        torn: Bytes after that, which a crash left.
        announced: Size that an announced batch was to lead to; 0 without one.
    """

    __slots__ = ("announced", "entries", "first", "good", "torn")

    def __init__(
        self, first: int, entries: list[bytes], good: int, torn: int, announced: int = 0
    ) -> None:
        self.first = first
        self.entries = entries
        self.good = good
        self.torn = torn
        self.announced = announced


def read_frames(path: Path, *, published: int) -> Frames:
    """
    Read a write-ahead file; a missing one is empty.

    Args:
        path: The file.
        published: Size of the checkpoint: entries below are safe elsewhere.

    Raises:
        ConsistencyError: It was damaged in a way that no crash explains.
        FormatError: It is longer than any log makes it.
        StoreError: The system could not read it.
    """
    try:
        data = read_file(path, limit=LIMIT)
    except FileNotFoundError:
        return Frames(0, [], 0, 0)
    payloads, good, verdict = frame.scan(data)
    first = 0
    entries: list[bytes] = []
    announced = 0
    for payload in payloads:
        if len(payload) == _HEAD.size and payload.endswith(_ANNOUNCED):
            announced = max(announced, _HEAD.unpack(payload)[0])
            continue
        if not _HEAD.size < len(payload) <= _HEAD.size + _MAX_ENTRY:
            raise _damaged(path, f"a frame holds {len(payload)} bytes, which no entry has")
        index, _ = _HEAD.unpack_from(payload)
        if not entries:
            first = index
        elif index != first + len(entries):
            raise _damaged(path, f"entry {index} follows entry {first + len(entries) - 1}")
        entries.append(payload[_HEAD.size :])
    if verdict == "corrupt":
        safe = max(published, first + len(entries))
        if any(synced > safe for synced in _synced_behind(data, good)):
            raise _damaged(
                path,
                f"the frame at byte {good} is bad, and good frames behind it say that it had "
                "been on the disk",
            )
    return Frames(first, entries, good, len(data) - good, announced)


def _synced_behind(data: bytes, start: int) -> Iterator[int]:
    """Yield what the good frames behind a bad one say to be on the disk."""
    for match in _FRAME.finditer(data, start + 1):
        at = match.start()
        end = at + frame.HEADER_SIZE + int.from_bytes(data[at : at + 4], "big")
        for payload in frame.scan(data[at:end]).payloads[:1]:
            if len(payload) > _HEAD.size and not payload.endswith(_ANNOUNCED, 0, _HEAD.size):
                yield _HEAD.unpack_from(payload)[1]


def _damaged(path: Path, why: str) -> ConsistencyError:
    return ConsistencyError(
        f"the write-ahead file {str(path)!r} was damaged",
        why=f"{why}; a crash can only leave a torn end",
        fix="keep the file, find out what changed it, and restore both directories of the "
        "workspace from the same moment",
    )


def refuse_second_writer(path: Path) -> None:
    """
    Refuse when somebody writes this log under another lock.

    A writer holds its write-ahead file locked, beside the lock that made it
    the writer: two locks for one log would fork it.

    Raises:
        StoreBusyError: Another writer has the file.
    """
    try:
        held = is_held(path)
    except OSError:
        return  # Whoever reads the file says what is wrong with it.
    if held:
        raise _second(path)


def _second(path: Path) -> StoreBusyError:
    return StoreBusyError(
        f"the log of {str(path)!r} is being written",
        why="its write-ahead file is locked: another process, or another log object of this "
        "one, writes it under a lock of its own",
        fix="write through that one: an audit log is written through AuditLog alone",
        retryable=True,
    )


class Wal:
    """A write-ahead file, open for appending."""

    __slots__ = ("_fd", "_files", "_hold", "_length", "_path", "broken")

    def __init__(self, path: Path, files: Files, *, good: int) -> None:
        """
        Open or make the file, and cut it to the *good* part of it.

        Raises:
            StoreError: The system refuses.
        """
        self._path = path
        self._files = files
        self._length = good
        self._fd = -1
        self._hold: Hold | None = None
        self.broken = ""
        changed: set[Path] = set()
        try:
            make_directories(files, path.parent, mode=0o700, changed=changed)
            self._fd = files.open_append(path, 0o600)
            self._hold = hold(path)
            files.truncate(self._fd, good)
            files.sync(self._fd)
            # Also what was there: who made it may have died before its name was on the disk.
            for directory in sorted({*changed, *path.parents[:2]}):
                files.sync_directory(directory)
            for directory in path.parents[2:3]:
                with contextlib.suppress(PermissionError):
                    files.sync_directory(directory)
        except BlockingIOError:
            self.close()
            raise _second(path) from None
        except OSError as error:
            self.close()
            raise store_error(f"could not open {str(path)!r}", error) from error

    def append(self, index: int, synced: int, entry: bytes) -> None:
        """
        Write one frame; it survives this process, and after `sync` the machine.

        Args:
            index: Position of the entry in the log.
            synced: Number of entries that are known to be on the disk.
            entry: The entry.

        Raises:
            StoreError: The frame is not in the file, and no other will be.
        """
        data = frame.encode(_HEAD.pack(index, synced) + entry)
        try:
            write_all(self._files, self._fd, data)
        except OSError as error:
            self.broken = f"writing failed: {error.strerror or error}"
            try:
                self._files.truncate(self._fd, self._length)
            except OSError as second:
                self.broken += f"; cutting it off failed: {second.strerror or second}"
            raise self._refused(error, index) from error
        self._length += len(data)

    def announce(self, size: int) -> None:
        """
        Write that a batch kept elsewhere will bring the log to *size* entries.

        Raises:
            StoreError: The frame is not in the file, and no other will be.
        """
        self.append(size, int.from_bytes(_ANNOUNCED), b"")

    def sync(self, index: int) -> None:
        """
        Return when all that was appended is on the disk.

        Raises:
            StoreError: It may not be, and asking again would not tell.
        """
        try:
            self._files.sync(self._fd)
        except OSError as error:
            self.broken = f"syncing failed: {error.strerror or error}"
            raise self._refused(error, index) from error

    def reset(self) -> None:
        """
        Empty the file: all that was in it is published.

        Synced, since a frame written over old ones of the same length would
        otherwise leave good frames that do not follow each other.
        """
        self._files.truncate(self._fd, 0)
        self._files.sync(self._fd)
        self._length = 0

    def is_at(self, path: Path) -> bool:
        """Return whether *path* still names the file that is open."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._fd))
        except OSError:
            return False

    def close(self) -> None:
        """Close the file; nothing is written."""
        fd, self._fd = self._fd, -1
        held, self._hold = self._hold, None
        if held is not None:
            held.close()
        if fd >= 0:
            self._files.close(fd)

    def __del__(self) -> None:
        self.close()

    def _refused(self, error: OSError, index: int) -> StoreError:
        return store_error(
            f"entry {index} was not written to {str(self._path)!r}",
            error,
            fix="make room or repair the disk, then open the log again: it takes no more "
            "entries until what is on the disk was read anew",
        )
