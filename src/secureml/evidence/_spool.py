"""
A spool: where one process puts its records until the sequencer takes them.

No process waits for another: each has files of its own, and one sync makes a
whole batch durable.  Segments are filled with zeros before they are used, so
that a sync writes data and no metadata: two and a half times as fast, measured
on ext4.  One segment is kept ahead, so that a full disk refuses what comes
next, and not what was accepted.

This module writes; `secureml.evidence._drain` reads.

Source: docs/spec/spool.md.
"""

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from secureml.errors import StoreError
from secureml.evidence._files import Files, make_directories, store_error, write_all_at
from secureml.evidence._flock import Hold, hold
from secureml.wire import frame

__all__ = [
    "ACK",
    "BATCH",
    "END",
    "HEAD_SIZE",
    "PIECE",
    "SEGMENT",
    "Head",
    "Spool",
    "ack_path",
    "lock_path",
    "segment_path",
]

HEAD_SIZE: Final = 64
SEGMENT: Final = 4 << 20
"""Bytes of a segment, unless one frame is larger."""

MAGIC: Final = b"secspl1\n"
BATCH: Final = struct.Struct(">BIQQI")
"""Kind 1, details segment, synced, first, count."""

PIECE: Final = struct.Struct(">BI")
END: Final = struct.Struct(">BQ")
ACK: Final = struct.Struct(">QQQ")
_HEAD = struct.Struct(">8s16sI")
_WANTED = struct.Struct(">Q")
_WANTED_AT: Final = 32
_FIRST: Final = 256 << 10
PIECE_SIZE: Final = 8 << 20
_SMALL: Final = 512 << 10
_ZEROS: Final = bytes(1 << 20)


def segment_path(directory: Path, writer: bytes, number: int) -> Path:
    """Return the path of a segment."""
    return directory / f"{writer.hex()}-{number:08d}.spool"


def lock_path(directory: Path, writer: bytes) -> Path:
    """Return the path of the file that the writer keeps locked while it lives."""
    return directory / f"{writer.hex()}.lock"


def ack_path(directory: Path, writer: bytes) -> Path:
    """Return the path of what the sequencer tells the writer."""
    return directory / f"{writer.hex()}.acks"


class Head:
    """
    The first 64 bytes of a segment.

    Attributes:
        writer: 16 bytes.
        number: Of the segment.
        wanted: Records below this number have somebody waiting for a checkpoint.
    """

    __slots__ = ("number", "wanted", "writer")

    def __init__(self, writer: bytes, number: int, wanted: int = 0) -> None:
        self.writer = writer
        self.number = number
        self.wanted = wanted

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        named = _HEAD.pack(MAGIC, self.writer, self.number)
        checked = named + zlib.crc32(named).to_bytes(4)
        return (checked + self.wanted.to_bytes(8)).ljust(HEAD_SIZE, b"\0")

    @classmethod
    def decode(cls, data: bytes) -> "Head | None":
        """Read the 64 bytes; None when they are no head."""
        if len(data) != HEAD_SIZE or zlib.crc32(data[:28]) != int.from_bytes(data[28:32]):
            return None
        magic, writer, number = _HEAD.unpack_from(data)
        return (
            cls(writer, number, *_WANTED.unpack_from(data, _WANTED_AT)) if magic == MAGIC else None
        )


class Spool:
    """
    The spool of one writer; used by one thread at a time.

    Args:
        directory: Where all spools of the log are.
        files: The operating system.
        size: Bytes of a segment; the first ones are smaller, for processes that write little.
        piece: Bytes of a details line that fit in one frame.

    Raises:
        StoreError: The system refuses.

    Attributes:
        writer: 16 random bytes, drawn here.
        synced: Records known to be on the disk.
        broken: Why it takes nothing more; empty while it does.
        full: Why no segment could be made ahead; empty when one was.
        outage: Why records are refused, in a word; empty where it is for want of room.
    """

    outage = ""

    def __init__(
        self, directory: Path, files: Files, *, size: int = SEGMENT, piece: int = PIECE_SIZE
    ) -> None:
        self.directory = directory
        self.writer = b""
        self.synced = 0
        self.broken = ""
        self.full = ""
        self._files = files
        self._size = min(size, _FIRST)
        self._largest = size
        self._piece = piece
        self._number = -1
        self._fd = -1
        self._length = 0
        self._at = 0
        self._count = 0
        self._ahead: tuple[int, int, int] | None = None
        self._lock: Hold | None = None
        self._noted: tuple[int, list[tuple[int, int, int]]] = (0, [])
        changed: set[Path] = set()
        try:
            make_directories(files, directory, mode=0o700, changed=changed)
            # Those too that were there: who made them may have died before it synced them.
            for parent in sorted({*changed, directory.parent, directory.parent.parent}):
                files.sync_directory(parent)
            self._draw()
            self._roll(0)
        except OSError as error:
            self.abandon()
            raise store_error(f"could not make a spool in {str(directory)!r}", error) from error

    def _draw(self) -> None:
        """Draw a name, and lock it; another one where a sequencer clears that lock away."""
        for _ in range(4):
            self.writer = sha256(os.urandom(32)).digest()[:16]
            with contextlib.suppress(BlockingIOError):
                self._lock = hold(lock_path(self.directory, self.writer))
                return
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # pragma: no cover

    @property
    def count(self) -> int:
        """Records written so far."""
        return self._count

    # Write

    def write(
        self,
        bodies: Sequence[bytes],
        lines: Sequence[bytes],
        *,
        details: int,
    ) -> None:
        """
        Write records, numbered on from the last one; durable after `sync`.

        Args:
            bodies: Their JSON.
            lines: Their lines in the details, empty for none.
            details: The details segment that the lines go to.

        Raises:
            StoreError: They are not in the spool.
        """
        self._check()
        start = 0
        total = 0
        for number, (body, line) in enumerate(zip(bodies, lines, strict=True)):
            size = len(body) + len(line)
            if total and total + size > _SMALL:
                self._batch(bodies[start:number], lines[start:number], details)
                start, total = number, 0
            total += size
        if bodies:
            self._batch(bodies[start:], lines[start:], details)

    def _batch(self, bodies: Sequence[bytes], lines: Sequence[bytes], details: int) -> None:
        kind = 1
        if len(bodies) == 1 and len(lines[0]) > self._piece:
            line = lines[0]
            size = self._piece
            pieces = [line[at : at + size] for at in range(0, len(line), size)]
            for number, piece in enumerate(pieces[:-1]):
                self._frame(PIECE.pack(2, number) + piece)
            kind, lines = 4, pieces[-1:]
        count = len(bodies)
        lengths = struct.pack(f">{2 * count}I", *map(len, bodies), *map(len, lines))
        head = BATCH.pack(kind, details, self.synced, self._count, count)
        self._frame(b"".join((head, lengths, *bodies, *lines)))
        self._count += count

    def end(self) -> None:
        """
        Write that the writer is done.

        Raises:
            StoreError: It could not be written.
        """
        self._check()
        self._frame(END.pack(3, self._count))

    def _frame(self, payload: bytes) -> None:
        data = frame.encode(payload)
        try:
            if self._at + len(data) > self._length:
                self._roll(len(data))
            write_all_at(self._files, self._fd, data, self._at)
        except OSError as error:
            self._clear(len(data))
            self._blame(error)
            raise store_error(
                f"records were not written to the spool in {str(self.directory)!r}",
                error,
                fix="make room or repair the disk; nothing that was acknowledged is lost",
            ) from error
        self._at += len(data)

    def _blame(self, error: OSError) -> None:
        """Note why nothing is taken: a full disk is one thing, a broken one another."""
        self.outage = "" if error.errno in _ROOM else "disk-error"

    def _clear(self, size: int) -> None:
        """Take back what a failed write may have left, or take no more."""
        if self._fd < 0 or self._at + size > self._length:
            return
        try:
            write_all_at(self._files, self._fd, bytes(size), self._at)
        except OSError as error:
            self.broken = f"a failed write could not be taken back: {error.strerror or error}"

    def sync(self) -> None:
        """
        Return when every record so far is on the disk.

        Raises:
            StoreError: It may not be, and asking again would not tell.
        """
        self._check()
        if self.synced < self._count:
            self._sync()
            self._stands()
            self.synced = self._count

    def _stands(self) -> None:
        """Refuse to acknowledge what is in a spool that was set aside."""
        held = self._lock
        with contextlib.suppress(OSError):
            if held is not None and os.path.samestat(
                os.fstat(held.fd),
                os.lstat(lock_path(self.directory, self.writer)),
            ):
                return
        self.broken = (
            "its files were moved or removed: what the sequencer cannot read is set aside"
        )
        self._check()

    def _sync(self) -> None:
        try:
            self._files.sync(self._fd)
        except OSError as error:
            self.broken = f"syncing failed: {error.strerror or error}"
            raise store_error(
                f"the spool in {str(self.directory)!r} could not be synced",
                error,
                fix="repair the disk; records from now on go to a new spool",
            ) from error

    def _check(self) -> None:
        if self.broken:
            raise StoreError(
                f"the spool in {str(self.directory)!r} takes no more records",
                why=self.broken,
                fix="make room or repair the disk, and open the audit log again",
            )

    # Segments

    def _roll(self, need: int) -> None:
        if self._fd >= 0:
            # What comes next must never be on the disk without this.
            self._sync()
            self.synced = self._count
        ahead = self._ahead
        if ahead is None or HEAD_SIZE + need > ahead[2]:
            if ahead is not None:
                self._ahead = None
                self._files.close(ahead[1])
                self._files.remove(segment_path(self.directory, self.writer, ahead[0]))
            ahead = self._make(self._number + 1, need)
        self._ahead = None
        if self._fd >= 0:
            self._files.close(self._fd)
        self._number, self._fd, self._length = ahead
        self._at = HEAD_SIZE
        self.make_ahead()

    def make_ahead(self) -> bool:
        """Make the next segment, if there is none; False, and `full`, when the system refuses."""
        if self._ahead is None:
            try:
                self._ahead = self._make(self._number + 1, 0)
            except OSError as error:
                self.full = error.strerror or str(error)
                self._blame(error)
                return False
        self.full = ""
        return True

    def _make(self, number: int, need: int) -> tuple[int, int, int]:
        size = max(self._size, HEAD_SIZE + need)
        self._size = min(2 * self._size, self._largest)
        path = segment_path(self.directory, self.writer, number)
        fd = self._files.create(path, 0o600)
        try:
            write_all_at(self._files, fd, Head(self.writer, number).encode(), 0)
            at = HEAD_SIZE
            while at < size:
                part = memoryview(_ZEROS)[: min(len(_ZEROS), size - at)]
                at += self._files.write_at(fd, part, at)
            self._files.sync(fd)
            self._files.sync_directory(self.directory)
        except OSError:
            self._files.close(fd)
            self._files.remove(path)
            raise
        return number, fd, size

    # What became of it

    def want(self, below: int) -> None:
        """
        Tell the sequencer that somebody waits for the records below this number.

        Raises:
            StoreError: It cannot be told.
        """
        self._check()
        try:
            write_all_at(self._files, self._fd, _WANTED.pack(below), _WANTED_AT)
        except OSError as error:
            raise store_error("the spool cannot be written", error) from error

    def acknowledged(self) -> int:
        """Return how many records are under a checkpoint."""
        ranges = self._read_acks()
        return ranges[-1][0] + ranges[-1][1] if ranges else 0

    def index_of(self, number: int) -> int | None:
        """Return the place of record *number* in the log; None before, and long after."""
        for first, count, index in reversed(self._read_acks()):
            if number >= first:
                return index + number - first if number < first + count else None
        return None

    def exists(self) -> bool:
        """Return whether the sequencer has not removed it."""
        return ack_path(self.directory, self.writer).exists() or any(
            self.directory.glob(f"{self.writer.hex()}-*")
        )

    def _read_acks(self) -> list[tuple[int, int, int]]:
        """Return what was noted; any thread may ask, so all that is known changes at once."""
        at, ranges = self._noted
        try:
            path = ack_path(self.directory, self.writer)
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ranges
        try:
            data = os.pread(fd, 1 << 20, at)
        except OSError:
            # No file: the sequencer puts it aside.
            return ranges
        finally:
            os.close(fd)
        whole = len(data) // ACK.size * ACK.size
        if whole:
            ranges = [*ranges, *ACK.iter_unpack(data[:whole])][-_KEPT:]
            self._noted = at + whole, ranges
        return ranges

    # The end

    def close(self) -> None:
        """Give up the spool; the sequencer removes its files."""
        self._drop_ahead()
        self.abandon()

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            number, fd, _ = self._ahead
            self._ahead = None
            self._files.close(fd)
            # It is blank: what cannot be removed goes with the spool, or is gone already.
            with contextlib.suppress(OSError):
                self._files.remove(segment_path(self.directory, self.writer, number))

    def abandon(self) -> None:
        """Let go of the descriptors alone, as the child of a fork has to."""
        for fd in (self._fd, self._ahead[1] if self._ahead else -1):
            if fd >= 0:
                os.close(fd)
        self._fd = -1
        held, self._lock = self._lock, None
        if held is not None:
            held.close()
        self._ahead = None
        self.broken = self.broken or "it was closed"


_KEPT: Final = 4096
_ROOM: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""What the system says where there is no room."""
