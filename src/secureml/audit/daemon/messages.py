"""
What a client and the daemon say to each other: bytes to values, and nothing else.

Records travel as the payloads that a spool has, so neither side spells them a
second time.

Source: docs/spec/daemon.md; docs/spec/spool.md.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from secureml.errors import FormatError
from secureml.evidence._drain import Batch
from secureml.evidence._spool import ACK, BATCH, END, PIECE

__all__ = [
    "LARGEST",
    "MAX_LINE",
    "NOBODY",
    "REPLY",
    "TOKEN_SIZE",
    "Hello",
    "Inbox",
    "Kind",
    "Reason",
    "State",
    "Welcome",
    "end",
    "frame",
    "malformed",
    "new_writer",
    "placed",
    "read_batch",
    "read_count",
    "read_piece",
    "read_placed",
    "read_refused",
    "refused",
    "units",
    "want",
    "watch",
]

LARGEST: Final = 4 << 20
"""Bytes of a message to the daemon, at most."""

REPLY: Final = 256 << 10
"""Bytes of a message from the daemon, at most."""

MAX_LINE: Final = 64 << 20
"""Bytes of a record's line in the details, at most."""

TOKEN_SIZE: Final = 32
NOBODY: Final = bytes(16)
"""The writer of a client that has none yet."""

_MAGIC: Final = b"secdmn1\n"
_HELLO: Final = struct.Struct(f">B8s16s{TOKEN_SIZE}sQ")
_WELCOME: Final = struct.Struct(f">B16s{TOKEN_SIZE}sQQ")
_STATE: Final = struct.Struct(">BQQQB")
_LENGTH: Final = struct.Struct(">I")
_PIECE_SIZE: Final = 1 << 20
_BATCH_SIZE: Final = 1 << 20


class Kind(IntEnum):
    """The first byte of a payload."""

    HELLO = 0
    BATCH = 1
    PIECE = 2
    END = 3
    LAST_PIECE = 4
    WANT = 5
    NOTE = 6
    WATCH = 7
    WELCOME = 16
    STATE = 17
    PLACED = 18
    REFUSED = 19
    CHECKPOINT = 20


class Reason(IntEnum):
    """Why the daemon refuses."""

    NOT_ALLOWED = 1
    MALFORMED = 2
    TAKEN = 3
    GONE = 4
    CROWDED = 5
    STORE = 6
    CLOSING = 7

    @property
    def passing(self) -> bool:
        """Whether the same may succeed a moment later."""
        return self in {Reason.TAKEN, Reason.CROWDED, Reason.STORE, Reason.CLOSING}


@dataclass(frozen=True, slots=True)
class Hello:
    """
    The first message to the daemon.

    Attributes:
        writer: 16 bytes; `NOBODY` for a new one.
        token: What the daemon gave with that name.
        durable: Records that the client knows to be on the daemon's disk.
    """

    writer: bytes
    token: bytes
    durable: int

    def encode(self) -> bytes:
        """Return the payload."""
        return _HELLO.pack(Kind.HELLO, _MAGIC, self.writer, self.token, self.durable)

    @classmethod
    def decode(cls, payload: bytes) -> "Hello":
        """
        Read the payload.

        Raises:
            FormatError: It is no hello.
        """
        if len(payload) != _HELLO.size:
            raise malformed("it does not begin with a hello")
        kind, magic, writer, token, durable = _HELLO.unpack(payload)
        if kind != Kind.HELLO or magic != _MAGIC:
            raise malformed("it does not begin with a hello")
        return cls(writer, token, durable)


@dataclass(frozen=True, slots=True)
class Welcome:
    """
    The daemon's answer.

    Attributes:
        writer: The name that records are written under.
        token: What shows, later, that the name was given to this user.
        durable: Records of this writer on the daemon's disk.
        covered: Records of this writer under a checkpoint.
        origin: The log.
    """

    writer: bytes
    token: bytes
    durable: int
    covered: int
    origin: str

    def encode(self) -> bytes:
        """Return the payload."""
        head = _WELCOME.pack(Kind.WELCOME, self.writer, self.token, self.durable, self.covered)
        return head + self.origin.encode()

    @classmethod
    def decode(cls, payload: bytes) -> "Welcome":
        """
        Read the payload.

        Raises:
            FormatError: It is no welcome.
        """
        if len(payload) < _WELCOME.size or payload[0] != Kind.WELCOME:
            raise malformed("the answer is no welcome")
        _, writer, token, durable, covered = _WELCOME.unpack_from(payload)
        try:
            origin = payload[_WELCOME.size :].decode()
        except UnicodeDecodeError:
            raise malformed("the origin is not text") from None
        return cls(writer, token, durable, covered, origin)


@dataclass(frozen=True, slots=True)
class State:
    """
    How far a writer's records have come.

    Attributes:
        durable: Records on the daemon's disk.
        covered: Records under a checkpoint.
        anchored: Entries of the log, of whoever, that anchors vouch for.
        ended: Whether the end is on the disk, too.
        anchors: Whether an anchor is required.
    """

    durable: int
    covered: int
    anchored: int = 0
    ended: bool = False
    anchors: bool = False

    def encode(self) -> bytes:
        """Return the payload."""
        flags = self.ended | self.anchors << 1
        return _STATE.pack(Kind.STATE, self.durable, self.covered, self.anchored, flags)

    @classmethod
    def decode(cls, payload: bytes) -> "State":
        """
        Read the payload.

        Raises:
            FormatError: It is none.
        """
        if len(payload) != _STATE.size:
            raise malformed("a state of another length")
        _, durable, covered, anchored, flags = _STATE.unpack(payload)
        return cls(durable, covered, anchored, bool(flags & 1), bool(flags & 2))


class Inbox:
    """
    Bytes as they come, and the messages that are whole.

    Args:
        limit: Bytes of a message, at most.
    """

    __slots__ = ("_at", "_data", "_limit")

    def __init__(self, limit: int) -> None:
        self._data = bytearray()
        self._at = 0
        self._limit = limit

    def __len__(self) -> int:
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Take what came."""
        if self._at:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def messages(self) -> Iterator[bytes]:
        """
        Yield the payloads that are whole.

        Raises:
            FormatError: One that is empty, or too long.
        """
        while len(self._data) - self._at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data, self._at)
            if not 1 <= length <= self._limit:
                raise malformed(f"a message of {length:,} bytes")
            start = self._at + _LENGTH.size
            if len(self._data) < start + length:
                return
            self._at = start + length
            yield bytes(memoryview(self._data)[start : start + length])


def frame(payload: bytes) -> bytes:
    """Return *payload* with its length before it."""
    return _LENGTH.pack(len(payload)) + payload


def new_writer() -> bytes:
    """Draw the name of a writer, 16 bytes."""
    return sha256(os.urandom(32)).digest()[:16]


def malformed(why: str) -> FormatError:
    """Return the error for what is no message."""
    return FormatError(
        "this is not what the audit daemon and its clients say to each other",
        why=f"{why} (docs/spec/daemon.md)",
        fix="use the same release at both ends, and look at what listens at the socket",
    )


def units(
    bodies: Sequence[bytes], lines: Sequence[bytes], *, details: int, first: int
) -> Iterator[tuple[int, bytes]]:
    """
    Yield (number after, messages): what must be sent as a whole, or again as a whole.

    Args:
        bodies: The JSON of records.
        lines: Their lines in the details, empty for none.
        details: The details segment of the lines.
        first: The number of the first one.
    """
    start = size = 0
    for place, (body, line) in enumerate(zip(bodies, lines, strict=True)):
        more = len(body) + len(line)
        if place > start and size + more > _BATCH_SIZE:
            yield _unit(bodies[start:place], lines[start:place], details, first + start)
            start, size = place, 0
        size += more
    if bodies:
        yield _unit(bodies[start:], lines[start:], details, first + start)


def _unit(
    bodies: Sequence[bytes], lines: Sequence[bytes], details: int, first: int
) -> tuple[int, bytes]:
    kind = Kind.BATCH
    parts: list[bytes] = []
    if len(bodies) == 1 and len(lines[0]) > _PIECE_SIZE:
        line = lines[0]
        pieces = [line[at : at + _PIECE_SIZE] for at in range(0, len(line), _PIECE_SIZE)]
        parts += [frame(PIECE.pack(Kind.PIECE, n) + piece) for n, piece in enumerate(pieces[:-1])]
        kind, lines = Kind.LAST_PIECE, pieces[-1:]
    count = len(bodies)
    head = BATCH.pack(kind, details, 0, first, count)
    lengths = struct.pack(f">{2 * count}I", *map(len, bodies), *map(len, lines))
    parts.append(frame(b"".join((head, lengths, *bodies, *lines))))
    return first + count, b"".join(parts)


def read_piece(payload: bytes) -> tuple[int, bytes]:
    """
    Read a piece of a line: its number, and itself.

    Raises:
        FormatError: It is none.
    """
    if len(payload) < PIECE.size:
        raise malformed("a piece without a number")
    return PIECE.unpack_from(payload)[1], payload[PIECE.size :]


def read_batch(payload: bytes, writer: bytes) -> Batch:
    """
    Read records.

    Raises:
        FormatError: The lengths do not add up.
    """
    if len(payload) < BATCH.size:
        raise malformed("records without a head")
    _, details, _, first, count = BATCH.unpack_from(payload)
    at = BATCH.size + 8 * count
    if not count or at > len(payload) or first + count >= 1 << 63:
        raise malformed("the lengths of records do not add up")
    lengths = struct.unpack_from(f">{2 * count}I", payload, BATCH.size)
    if at + sum(lengths) != len(payload):
        raise malformed("the lengths of records do not add up")
    items: list[bytes] = []
    for length in lengths:
        items.append(payload[at : at + length])
        at += length
    return Batch(writer, first, items[:count], items[count:], details)


def end(count: int) -> bytes:
    """Return the message that a writer is done, after so many records."""
    return frame(END.pack(Kind.END, count))


def want(below: int) -> bytes:
    """Return the message that somebody waits for a checkpoint over the records below a number."""
    return frame(END.pack(Kind.WANT, below))


def watch(entries: int) -> bytes:
    """Return the message that somebody waits until anchors vouch for so many entries."""
    return frame(END.pack(Kind.WATCH, entries))


def read_count(payload: bytes) -> int:
    """
    Read the one number of a message.

    Raises:
        FormatError: There is none.
    """
    if len(payload) != END.size:
        raise malformed("a message of another length")
    return int(END.unpack(payload)[1])


def placed(ranges: Sequence[tuple[int, int, int]]) -> bytes:
    """Return the message that says where records are."""
    return frame(bytes((Kind.PLACED,)) + b"".join(ACK.pack(*one) for one in ranges))


def read_placed(payload: bytes) -> list[tuple[int, int, int]]:
    """
    Read where records are: first, count, index of the first.

    Raises:
        FormatError: Not a whole number of places.
    """
    if (len(payload) - 1) % ACK.size:
        raise malformed("places of another length")
    return list(ACK.iter_unpack(payload[1:]))


def refused(reason: Reason, text: str) -> bytes:
    """Return the message that the daemon refuses."""
    return frame(bytes((Kind.REFUSED, reason)) + text.encode())


def read_refused(payload: bytes) -> tuple[Reason, str]:
    """
    Read why the daemon refuses.

    Raises:
        FormatError: It gives no reason.
    """
    try:
        return Reason(payload[1]), payload[2:].decode()
    except (IndexError, ValueError):
        raise malformed("a refusal without a reason") from None
