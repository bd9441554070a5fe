"""
Reading a spool: what the sequencer takes, in order, and never twice.

A frame that is not whole may be one that its writer is in the middle of: while
the writer lives and has not gone on, it is waited for.  Behind a writer that
is gone it is a torn end, unless a good frame says that it had been synced:
then it is damage, and the spool is set aside as it is.

Source: docs/spec/spool.md.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secureml.evidence._files import Files
from secureml.evidence._flock import is_held
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

__all__ = ["ASIDE", "Batch", "Drain", "writers"]

ASIDE: Final = "aside"
"""Directory of the spools that were set aside."""

_LARGEST: Final = 1 << 28


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


def writers(directory: Path) -> Iterator[bytes]:
    """Yield the writer of every spool in *directory*."""
    seen: set[str] = set()
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  names are wanted
    except FileNotFoundError:
        return
    for name in names:
        stem, dash, rest = name.partition("-")
        if dash and rest.endswith(".spool") and stem not in seen and len(stem) == 32:  # noqa: PLR2004  hex digits
            seen.add(stem)
            with contextlib.suppress(ValueError):
                yield bytes.fromhex(stem)


class Drain:
    """
    One spool, as it is read.

    Attributes:
        writer: 16 bytes.
        ended: Whether the writer said that it was done.
        trouble: ``corrupt`` or ``gap`` when it has to be set aside; else empty.
        discarded: Bytes of a torn end.
    """

    def __init__(self, directory: Path, writer: bytes, files: Files) -> None:
        self.writer = writer
        self.ended = False
        self.trouble = ""
        self.discarded = 0
        self._directory = directory
        self._files = files
        self._number = self._first_segment()
        self._removed = self._number
        self._fd = -1
        self._at = HEAD_SIZE
        self._pieces: list[bytes] = []
        self._touched: dict[int, int] = {}
        self._acks = -1

    def _first_segment(self) -> int:
        prefix = self.writer.hex() + "-"
        numbers = [
            int(name[len(prefix) : -len(".spool")])
            for name in os.listdir(self._directory)  # noqa: PTH208  names are wanted
            if name.startswith(prefix) and name.endswith(".spool")
        ]
        return min(numbers, default=0)

    def wanted(self) -> int:
        """Return the number below which somebody waits for the records."""
        fd = self._open()
        if fd < 0:
            return 0
        head = Head.decode(os.pread(fd, HEAD_SIZE, 0))
        return 0 if head is None else head.wanted

    def gone(self) -> bool:
        """Return whether the writer's process is gone, or is done with this spool."""
        return not is_held(lock_path(self._directory, self.writer))

    def read(self, mark: int, limit: int) -> list[Batch]:
        """
        Return what is new, about *limit* bytes of it.

        Args:
            mark: How many of this writer's records are in the log.
            limit: Bytes.
        """
        found: list[Batch] = []
        # Asked before reading: whatever the writer wrote before it went is then seen.
        gone = self.gone()
        size = 0
        while size < limit and not self.trouble and not self.ended:
            payload = self._next(gone=gone, mark=mark)
            if payload is None:
                break
            size += len(payload)
            batch = self._decode(payload)
            if batch is None:
                continue
            if batch.first > mark:
                self.trouble = "gap"
                break
            batch = batch.since(mark)
            if batch.bodies:
                mark += len(batch.bodies)
                found.append(batch)
        return found

    def _decode(self, payload: bytes) -> Batch | None:
        try:
            kind = payload[0]
            if kind == 2:  # noqa: PLR2004  docs/spec/spool.md
                _, number = PIECE.unpack_from(payload)
                if number == 0:
                    self._pieces.clear()
                self._pieces.append(payload[PIECE.size :])
                return None
            if kind == 3:  # noqa: PLR2004  as above
                END.unpack(payload)
                self.ended = True
                return None
            return self._batch(payload, kind)
        except (struct.error, IndexError, ValueError):
            self.trouble = "corrupt"
            return None

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

    def _open(self) -> int:
        if self._fd < 0:
            path = segment_path(self._directory, self.writer, self._number)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                return -1
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                self.trouble = "corrupt"
                return -1
            self._fd = fd
            self._at = HEAD_SIZE
        return self._fd

    def _next(self, *, gone: bool, mark: int) -> bytes | None:
        """Return the payload of the next frame; None when there is none, or none yet."""
        while True:
            fd = self._open()
            if fd < 0:
                return None
            payload = _frame_at(fd, self._at)
            if payload is None and self._moved_on():
                # Looked at again: it may have been written between the two looks.
                payload = _frame_at(fd, self._at)
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
        path = segment_path(self._directory, self.writer, self._number + 1)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return bool(os.pread(fd, frame.HEADER_SIZE, HEAD_SIZE).strip(b"\0"))
        finally:
            os.close(fd)

    def _judge_end(self, fd: int, mark: int) -> None:
        size = min(os.fstat(fd).st_size, _LARGEST)
        rest = os.pread(fd, max(0, size - self._at), self._at)
        self.discarded = len(rest.rstrip(b"\0"))
        if self.discarded:
            for payload in frame.behind(rest, 0):
                if payload[0] in {1, 4} and len(payload) >= BATCH.size:
                    synced = BATCH.unpack_from(payload)[2]
                    if synced > mark:
                        self.trouble = "corrupt"

    def _leave(self) -> None:
        if self._fd not in self._touched.values():
            os.close(self._fd)
        self._fd = -1
        self._number += 1

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
        Remove the segments that the writer has left: all that was read is in the log.

        Raises:
            OSError: The system refuses.
        """
        for fd in self._touched.values():
            if fd != self._fd:
                os.close(fd)
        self._touched.clear()
        while self._removed < self._number:
            self._remove(segment_path(self._directory, self.writer, self._removed))
            self._removed += 1

    def acknowledge(self, first: int, count: int, index: int) -> None:
        """
        Tell the writer where its records are.

        Raises:
            OSError: The system refuses.
        """
        if self._acks < 0:
            self._acks = self._files.open_append(ack_path(self._directory, self.writer), 0o600)
            size = os.fstat(self._acks).st_size
            if size % ACK.size:
                self._files.truncate(self._acks, size // ACK.size * ACK.size)
        self._files.write(self._acks, ACK.pack(first, count, index))

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
        aside = self._directory / ASIDE
        if not aside.is_dir():
            self._files.make_directory(aside, 0o700)
        for path in self._paths():
            self._files.rename(path, aside / path.name)
        self._files.sync_directory(aside)
        self._files.sync_directory(self._directory)

    def _paths(self) -> list[Path]:
        """Return the spool's files, the lock last: while it is there, the rest may be."""
        mine = self.writer.hex()
        found = [self._directory / n for n in os.listdir(self._directory) if n.startswith(mine)]  # noqa: PTH208  names
        return sorted(found, key=lambda path: (path.suffix == ".lock", path.name))

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(path)

    def close(self) -> None:
        """Close what is open."""
        for fd in {*self._touched.values(), self._fd, self._acks} - {-1}:
            os.close(fd)
        self._touched.clear()
        self._fd = self._acks = -1


def _frame_at(fd: int, at: int) -> bytes | None:
    """Return the payload of the whole frame at an offset; None when there is none."""
    head = os.pread(fd, frame.HEADER_SIZE, at)
    length = int.from_bytes(head[:4])
    if len(head) < frame.HEADER_SIZE or not 1 <= length <= frame.MAX_PAYLOAD:
        return None
    data = head + os.pread(fd, length, at + frame.HEADER_SIZE)
    scanned = frame.scan(data)
    return scanned.payloads[0] if scanned.verdict == "clean" else None
