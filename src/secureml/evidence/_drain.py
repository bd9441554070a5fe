"""
Reading a spool: what the sequencer takes, in order, and never twice.

A frame that is not whole may be one that its writer is in the middle of: while
the writer lives and has not gone on, it is waited for.  Behind a writer that
is gone it is a torn end, unless a good frame says that it had been synced:
then it is damage, and the spool is set aside as it is.

Source: docs/spec/spool.md.
"""

import contextlib
import errno
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secureml.evidence._files import Files, write_all
from secureml.evidence._flock import hold, is_held
from secureml.evidence._judging import LARGEST, frame_at, is_torn_head, was_synced
from secureml.evidence._spool import (
    ACK,
    BATCH,
    END,
    HEAD_SIZE,
    PIECE,
    Head,
    ack_path,
    lock_path,
    segment_path,
)
from secureml.wire import frame

__all__ = ["ASIDE", "Batch", "Drain", "sweep", "writers"]

ASIDE: Final = "aside"
"""Directory of the spools that were set aside."""

_LONGEST: Final = 1 << 30
"""Bytes of a details line: nobody reads a longer one."""

_NAME: Final = re.compile(r"([0-9a-f]{32})-([0-9]{8})\.spool", re.ASCII)
_HOSTILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM})
"""What the system says of a file that is no file, or not for its owner."""


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Records of one writer, one after another.

    Attributes:
        writer: 16 bytes.
        first: Number of the first one.
        bodies: Their JSON.
        lines: Their lines in the details, empty for none.
        details: Number of the details segment that the lines belong to.
    """

    writer: bytes
    first: int
    bodies: list[bytes]
    lines: list[bytes]
    details: int

    def since(self, mark: int) -> "Batch":
        """Return the part from record *mark* on."""
        cut = mark - self.first
        if cut <= 0:
            return self
        return Batch(self.writer, mark, self.bodies[cut:], self.lines[cut:], self.details)


def _segments(directory: Path) -> dict[bytes, list[int]]:
    """Return the numbers of every writer's segments, in order."""
    found: dict[bytes, list[int]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory)):  # noqa: PTH208  names are wanted
            match = _NAME.fullmatch(name)
            if match is not None:
                found.setdefault(bytes.fromhex(match[1]), []).append(int(match[2]))
    return found


def writers(directory: Path) -> Iterator[bytes]:
    """Yield the writer of every spool in *directory*."""
    yield from _segments(directory)


def sweep(directory: Path, files: Files) -> None:
    """Remove the locks and acks that a crash left where no spool is any more, or not yet."""
    spools = {writer.hex() for writer in writers(directory)}
    for path in sorted(directory.glob("?" * 32 + ".*")):
        if path.stem in spools or path.suffix not in {".acks", ".lock"}:
            continue
        # What cannot be removed does no harm.
        with contextlib.suppress(OSError):
            # Held while it is removed: whoever is just making it draws another name.
            held = hold(path.with_suffix(".lock"))
            try:
                for suffix in (".acks", ".lock"):
                    with contextlib.suppress(FileNotFoundError):
                        files.remove(path.with_suffix(suffix))
            finally:
                held.close()


class Drain:
    """
    One spool, as it is read.

    Attributes:
        writer: 16 bytes.
        ended: Whether the writer said that it was done.
        trouble: ``corrupt`` or ``gap`` when it has to be set aside; else empty.
        discarded: Bytes of a torn end.
        more: Whether the last reading ended for its limit, and not for the end of the spool.
    """

    def __init__(self, directory: Path, writer: bytes, files: Files) -> None:
        self.writer = writer
        self.ended = False
        self.trouble = ""
        self.discarded = 0
        self.more = False
        self._directory = directory
        self._files = files
        self._number = next(iter(self._later(0)), 0)
        self._following = self._number
        self._removed = self._number
        self._fd = -1
        self._at = HEAD_SIZE
        self._pieces: list[bytes] = []
        self._headless = False
        self._kept = 0
        self._touched: dict[int, int] = {}
        self._acks = -1

    def _later(self, number: int) -> list[int]:
        """Return the segments from *number* on, of which a crash may have kept any."""
        return [one for one in _segments(self._directory).get(self.writer, ()) if one >= number]

    def wanted(self) -> int:
        """
        Return the number below which somebody waits for the records.

        Raises:
            OSError: The system refuses.
        """
        fd = self._open(self._number)
        if fd < 0:
            return 0
        try:
            head = Head.decode(os.pread(fd, HEAD_SIZE, 0))
        finally:
            os.close(fd)
        return 0 if head is None else head.wanted

    def gone(self) -> bool:
        """
        Return whether the writer's process is gone, or is done with this spool.

        Raises:
            OSError: The system refuses.
        """
        try:
            return not is_held(lock_path(self._directory, self.writer))
        except OSError as error:
            if error.errno not in _HOSTILE:
                raise
            self.trouble = self.trouble or "corrupt"
            return True

    def read(self, mark: int, limit: int) -> list[Batch]:
        """
        Return what is new, about *limit* bytes of it.

        Args:
            mark: How many of this writer's records are in the log.
            limit: Bytes.

        Raises:
            OSError: The system refuses.
        """
        found: list[Batch] = []
        # Asked before reading: whatever the writer wrote before it went is then seen.
        gone = self.gone()
        size = 0
        self.more = False
        # A line that was cut is read as a whole: half of one would look like nothing new.
        while (size < limit or self._pieces) and not self.trouble and not self.ended:
            payload = self._next(gone=gone, mark=mark)
            if payload is None:
                break
            batch = self._decode(payload)
            if batch is None:
                continue
            if batch.first > mark:
                self.trouble = "gap"
                break
            batch = batch.since(mark)
            # Of a line whose beginning was removed, the record has to be in the log.
            headless, self._headless = self._headless, False
            if batch.bodies and headless:
                self.trouble = "corrupt"
            elif batch.bodies:
                mark += len(batch.bodies)
                found.append(batch)
                # What is in the log already is passed over, however much it is.
                size += sum(map(len, batch.bodies)) + sum(map(len, batch.lines))
                self.more = size >= limit
        return found

    def _decode(self, payload: bytes) -> Batch | None:
        try:
            kind = payload[0]
            if kind == 2:  # noqa: PLR2004  docs/spec/spool.md
                self._piece(PIECE.unpack_from(payload)[1], payload[PIECE.size :])
                return None
            if kind == 3:  # noqa: PLR2004  as above
                END.unpack(payload)
                self.ended = True
                return None
            return self._batch(payload, kind)
        except (struct.error, IndexError, ValueError):
            self.trouble = "corrupt"
            return None

    def _piece(self, number: int, piece: bytes) -> None:
        if number == 0:
            self._pieces.clear()
            self._headless = False
            self._kept = self._number
        elif number != len(self._pieces):
            self._headless = True
        self._pieces.append(piece)
        if sum(map(len, self._pieces)) > _LONGEST:
            raise ValueError(number)

    def _batch(self, payload: bytes, kind: int) -> Batch:
        _, details, _, first, count = BATCH.unpack_from(payload)
        lengths = struct.unpack_from(f">{2 * count}I", payload, BATCH.size)
        at = BATCH.size + 8 * count
        items: list[bytes] = []
        for length in lengths:
            items.append(payload[at : at + length])
            at += length
        if kind not in {1, 4} or not count or at != len(payload):
            raise ValueError(kind)
        lines = items[count:]
        if kind == 4 and count == 1:  # noqa: PLR2004  docs/spec/spool.md
            lines = [b"".join((*self._pieces, lines[0]))]
        self._pieces.clear()
        return Batch(self.writer, first, items[:count], lines, details)

    # Frames

    def _open(self, number: int) -> int:
        """Open a segment; -1 when there is none, or nothing that a writer made."""
        path = segment_path(self._directory, self.writer, number)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return -1
        except OSError as error:
            # Too many open files, say: what cannot be read now must not count as read.
            if error.errno not in _HOSTILE:
                raise
            self.trouble = "corrupt"
            return -1
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            self.trouble = "corrupt"
            return -1
        return fd

    def _next(self, *, gone: bool, mark: int) -> bytes | None:
        """Return the payload of the next frame; None when there is none, or none yet."""
        while True:
            if self._fd < 0:
                self._fd = self._open(self._number)
            fd = self._fd
            if fd < 0:
                return None
            payload = frame_at(fd, self._at)
            if payload is None and self._moved_on():
                # Looked at again: it may have been written between the two looks.
                payload = frame_at(fd, self._at)
                if payload is None:
                    if self._is_blank(fd):
                        self._leave()
                        continue
                    self.trouble = "corrupt"
                    return None
            if payload is None:
                if gone:
                    self._judge_end(fd, mark)
                return None
            if self._at == HEAD_SIZE and not self._is_ours(fd):
                self.trouble = "corrupt"
                return None
            self._touched[self._number] = fd
            self._at += frame.HEADER_SIZE + len(payload)
            return payload

    def _is_ours(self, fd: int) -> bool:
        head = Head.decode(os.pread(fd, HEAD_SIZE, 0))
        return head is not None and (head.writer, head.number) == (self.writer, self._number)

    def _is_blank(self, fd: int) -> bool:
        return not os.pread(fd, frame.HEADER_SIZE, self._at).strip(b"\0")

    def _moved_on(self) -> bool:
        """Return whether the writer writes to a later segment; one is always kept ahead."""
        self._following = self._number + 1
        if self._begun(self._following):
            return True
        # Usually that one lies ready, and none behind it.  It stays empty for ever where
        # the writer failed at its first frame and then needed a larger one.
        near, far = (
            os.path.lexists(segment_path(self._directory, self.writer, self._number + ahead))
            for ahead in (1, 2)
        )
        later = [] if near and not far else self._later(self._following)
        self._following = next(iter(later), self._following)
        return any(self._begun(number) for number in later)

    def _begun(self, number: int) -> bool:
        fd = self._open(number)
        if fd < 0:
            return False
        try:
            return bool(os.pread(fd, frame.HEADER_SIZE, HEAD_SIZE).strip(b"\0"))
        finally:
            os.close(fd)

    def _judge_end(self, fd: int, mark: int) -> None:
        size = os.fstat(fd).st_size
        rest = os.pread(fd, max(0, min(size, LARGEST) - self._at), self._at)
        self.discarded = len(rest.rstrip(b"\0"))
        head = os.pread(fd, HEAD_SIZE, 0)
        torn = self._is_ours(fd) or is_torn_head(head, self.writer, self._number)
        if size > LARGEST or not torn or (self.discarded and was_synced(rest, mark)):
            self.trouble = "corrupt"

    def _leave(self) -> None:
        if self._fd not in self._touched.values():
            os.close(self._fd)
        self._fd = -1
        self._number = self._following
        self._at = HEAD_SIZE

    # What became of it

    def sync(self) -> None:
        """
        Make what was read durable, before anything is derived from it.

        Raises:
            OSError: The system refuses.
        """
        for fd in self._touched.values():
            self._files.sync(fd)

    def settle(self) -> None:
        """
        Remove the segments that the writer has left, when all that is in them is in the log.

        Raises:
            OSError: The system refuses.
        """
        below = self._kept if self._pieces else self._number
        if self._removed < below:
            for number in _segments(self._directory).get(self.writer, ()):
                if number < below:
                    self._remove(segment_path(self._directory, self.writer, number))
            self._removed = below

    def acknowledge(self, first: int, count: int, index: int) -> None:
        """
        Tell the writer where its records are.

        Raises:
            OSError: The system refuses.
        """
        if self._acks < 0:
            self._open_acks()
        write_all(self._files, self._acks, ACK.pack(first, count, index))

    def remind(self, first: int, count: int, index: int) -> None:
        """
        Tell the writer where its last records are, if a sequencer died before it did.

        Raises:
            OSError: The system refuses.
        """
        size = self._open_acks()
        said = sum(ACK.unpack(os.pread(self._acks, ACK.size, size - ACK.size))[:2]) if size else 0
        if said < first + count:
            self.acknowledge(first, count, index)
        self.close()

    def _open_acks(self) -> int:
        """Open the file of the acks, whatever lies there; return how long it is."""
        path = ack_path(self._directory, self.writer)
        with contextlib.suppress(FileNotFoundError):
            # A pipe, for example, would block.
            if not stat.S_ISREG(path.lstat().st_mode):
                self._put_aside([path])
        self._acks = self._files.open_append(path, 0o600)
        size = os.fstat(self._acks).st_size
        whole = size // ACK.size * ACK.size
        if whole < size:
            self._files.truncate(self._acks, whole)
        return whole

    def finish(self) -> None:
        """
        Remove the spool: its writer is gone, and all of it is in the log.

        Raises:
            OSError: The system refuses.
        """
        self.close()
        for path in self._paths():
            self._remove(path)

    def set_aside(self) -> None:
        """
        Move the spool out of the way, as it is.

        Raises:
            OSError: The system refuses.
        """
        self.close()
        self._put_aside(self._paths())

    def _put_aside(self, paths: Iterable[Path]) -> None:
        aside = self._directory / ASIDE
        while aside.is_symlink() or (aside.exists() and not aside.is_dir()):
            aside = aside.with_name(aside.name + "~")
        if not aside.is_dir():
            self._files.make_directory(aside, 0o700)
        for path in paths:
            target = aside / path.name
            while os.path.lexists(target):
                target = target.with_name(target.name + "~")
            self._files.rename(path, target)
        self._files.sync_directory(aside)
        self._files.sync_directory(self._directory)

    def _paths(self) -> list[Path]:
        """Return the spool's files, the lock last: while it is there, the rest may be."""
        mine = self.writer.hex()
        found = [self._directory / n for n in os.listdir(self._directory) if n.startswith(mine)]  # noqa: PTH208  names
        return sorted(found, key=lambda path: (path.suffix == ".lock", path.name))

    def _remove(self, path: Path) -> None:
        try:
            self._files.remove(path)
        except FileNotFoundError:
            pass
        except OSError:
            # No writer makes directories.
            if path.is_symlink() or not path.is_dir():
                raise
            self._put_aside([path])

    def close(self) -> None:
        """Close what is open until the next look: there may be thousands of spools."""
        for fd in {*self._touched.values(), self._fd, self._acks} - {-1}:
            os.close(fd)
        self._touched.clear()
        self._fd = self._acks = -1
