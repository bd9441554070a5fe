"""
The spools of writers that live in other processes: kept through a restart of the daemon.

A spool belongs to its writer, and its writer is an application, which goes on
when the daemon is killed.  So a new daemon takes the locks of the spools that
it finds before anything else may call their writers dead; and when one of them
comes again, it is told how much of it is here, and its spool goes on in a new
segment.

Source: docs/spec/daemon.md, section "A writer"; docs/spec/spool.md.
"""

import hashlib
import hmac
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secureml.errors import KeyUnavailableError, StoreError
from secureml.evidence._drain import writers
from secureml.evidence._files import Files, store_error, write_all_at
from secureml.evidence._flock import Hold, hold
from secureml.evidence._spool import (
    BATCH,
    HEAD_SIZE,
    SEGMENT,
    Spool,
    lock_path,
    segment_path,
)
from secureml.wire import frame

__all__ = ["Found", "KeptSpool", "Tokens", "find", "hold_all"]

_KEY_SIZE: Final = 32
_LARGEST: Final = 1 << 30
_END_RECORD: Final = b'"type":"end"}'


@dataclass(frozen=True, slots=True)
class Found:
    """
    What there is of a writer's spool.

    Attributes:
        count: Records in it and before it.
        number: Its last segment with something in it.
        at: Where the whole frames of that segment end.
        tail: Bytes of a torn frame behind them.
        ended: Whether its last record was an end.
        done: Whether the writer said that it was done.
        damaged: Whether something is missing that had been on the disk.
    """

    count: int = 0
    number: int = -1
    at: int = HEAD_SIZE
    tail: int = 0
    ended: bool = False
    done: bool = False
    damaged: bool = False


def find(directory: Path, writer: bytes) -> Found:
    """
    Read a spool from its first segment on; one without any has nothing in it.

    Raises:
        StoreError: The system refuses.
    """
    found = Found()
    try:
        for number in _numbers(directory, writer):
            # One that is gone was in the log, and the sequencer removed it just now.
            with suppress(FileNotFoundError):
                found = _scan(segment_path(directory, writer, number), number, found)
    except OSError as error:
        raise store_error(f"cannot read the spool of {writer.hex()}", error) from error
    return found


def _numbers(directory: Path, writer: bytes) -> list[int]:
    start = f"{writer.hex()}-"
    names = [name for name in os.listdir(directory) if name.startswith(start)]  # noqa: PTH208  names
    return sorted(int(name[len(start) : -len(".spool")]) for name in names)


def _scan(path: Path, number: int, before: Found) -> Found:
    data = path.read_bytes()[HEAD_SIZE:_LARGEST]
    scan = frame.scan(data)
    tail = data[scan.consumed :].rstrip(b"\0")
    if not scan.payloads and not tail:
        return before
    count, ended, done, damaged = before.count, before.ended, before.done, before.damaged
    seen = before.number >= 0
    for payload in scan.payloads:
        if payload[0] == 3:  # noqa: PLR2004  docs/spec/spool.md
            done = True
        elif payload[0] in {1, 4} and len(payload) >= BATCH.size:
            _, _, _, first, some = BATCH.unpack_from(payload)
            damaged = damaged or (seen and first != count)
            seen = True
            count = first + some
            ended = _ends(payload, some)
    # Something behind a torn frame that says: all before me had been on the disk.
    damaged = damaged or before.tail > 0
    for payload in frame.behind(data, scan.consumed):
        if payload[0] in {1, 4} and len(payload) >= BATCH.size:
            damaged = damaged or BATCH.unpack_from(payload)[2] > count
    return Found(count, number, HEAD_SIZE + scan.consumed, len(tail), ended, done, damaged)


def _ends(payload: bytes, count: int) -> bool:
    """Return whether the last record of a batch is an end."""
    lengths = struct.unpack_from(f">{2 * count}I", payload, BATCH.size)
    stop = BATCH.size + 8 * count + sum(lengths[:count])
    return payload[stop - lengths[count - 1] : stop].endswith(_END_RECORD)


class KeptSpool(Spool):
    """
    A spool whose writer has a name already, and perhaps a part of a spool.

    Args:
        directory: Where all spools of the log are.
        files: The operating system.
        writer: 16 bytes.
        held: The lock on it, where the daemon has it already.
        size: Bytes of a segment, at most.

    Raises:
        StoreError: The system refuses.
    """

    def __init__(
        self,
        directory: Path,
        files: Files,
        writer: bytes,
        *,
        held: Hold | None = None,
        size: int = SEGMENT,
    ) -> None:
        self._given = writer
        self._held = held
        self.found = Found()
        super().__init__(directory, files, size=size)

    def _draw(self) -> None:
        """Take the name that the writer has, and what there is of its spool."""
        self.writer = self._given
        held, self._held = self._held, None
        self._lock = held or hold(lock_path(self.directory, self.writer))
        self._take_up()

    def _take_up(self) -> None:
        """Make what there is durable, without a torn end, and go on behind it."""
        found = self.found = find(self.directory, self.writer)
        numbers = _numbers(self.directory, self.writer)
        # The sequencer may be reading the first one, so that one stays, were it empty.
        last = max(found.number, numbers[0]) if numbers else -1
        for number in numbers:
            path = segment_path(self.directory, self.writer, number)
            if number > last:
                self._files.remove(path)  # Made ahead, and empty.
                continue
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                if number == found.number and found.tail:
                    # Never acknowledged: its sync did not return.
                    write_all_at(self._files, fd, bytes(found.tail), found.at)
                self._files.sync(fd)
            finally:
                self._files.close(fd)
        self._number = last
        self._count = self.synced = found.count

    def finish(self) -> None:
        """
        Write that the writer is done, durably.

        Raises:
            StoreError: It may not be.
        """
        self.end()
        self._sync()
        self.synced = self._count

    def placed(self, after: int) -> list[tuple[int, int, int]]:
        """Return where the records behind the first *after* are: first, count, index."""
        return [one for one in self._read_acks() if sum(one[:2]) > after]


class Tokens:
    """
    What shows that a writer's name was given to a user: made and checked here alone.

    Args:
        path: The file of the key; made when it is missing.

    Raises:
        KeyUnavailableError: It is no file of such a key, or open to others.
        StoreError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._key = _key(path)

    def of(self, writer: bytes, uid: int) -> bytes:
        """Return the token."""
        message = b"secureml-daemon/1\n" + writer + struct.pack(">I", uid)
        return hmac.digest(self._key, message, hashlib.sha256)

    def holds(self, token: bytes, writer: bytes, uid: int) -> bool:
        """Return whether this is the token."""
        return hmac.compare_digest(token, self.of(writer, uid))


def _key(path: Path) -> bytes:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o600)
            try:
                os.write(fd, os.urandom(_KEY_SIZE))
                os.fsync(fd)
            finally:
                os.close(fd)
            beside.rename(path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
        try:
            mode, data = os.fstat(fd).st_mode, os.read(fd, _KEY_SIZE + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise store_error(f"cannot read or make {str(path)!r}", error) from error
    if mode & 0o077 or len(data) != _KEY_SIZE:
        raise KeyUnavailableError(
            f"{str(path)!r} is not the daemon's own key",
            why=f"it has mode {mode & 0o777:o} and {len(data)} bytes, not 600 and {_KEY_SIZE}",
            fix="remove it: a new one is made, and clients that are connected begin anew",
        )
    return data


def hold_all(directory: Path) -> dict[bytes, Hold]:
    """
    Lock the spools that nobody holds and that have no end, so that nobody calls them dead.

    Raises:
        StoreError: The system refuses.
    """
    held: dict[bytes, Hold] = {}
    for writer in writers(directory):
        try:
            mine = hold(lock_path(directory, writer))
        except BlockingIOError:
            continue  # Its writer lives: the owner of the log, beside the daemon.
        except OSError as error:
            raise store_error(f"cannot lock the spool of {writer.hex()}", error) from error
        try:
            found = find(directory, writer)
        except StoreError:
            mine.close()
            raise
        if found.done or found.damaged:
            mine.close()  # Nothing to wait for: the sequencer judges it.
        else:
            held[writer] = mine
    return held
