"""
Frames of a write-ahead file: length, checksum, payload.

::

    u32be length | u32be CRC-32 of the payload | payload

The checksum finds a write that a crash tore, nothing else: it is no defence
against an adversary, who can compute it too.  A bad frame at the end is what
a crash leaves.  A bad frame with a good one behind it is damage, which must
never be repaired in silence.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

__all__ = ["HEADER_SIZE", "MAX_PAYLOAD", "Scan", "behind", "encode", "scan"]

HEADER_SIZE: Final = 8
MAX_PAYLOAD: Final = 16 * 1024 * 1024
"""Largest payload, in bytes."""

# A header's length is 1 to 2**24: its first byte is 0, or it is exactly 01 00 00 00.
_HEADER = re.compile(rb"(?=\x00(?!\x00\x00\x00)|\x01\x00\x00\x00)")


class Scan(NamedTuple):
    """
    What a write-ahead file holds.

    Attributes:
        payloads: The payloads up to the first bad frame.
        consumed: Bytes up to there.
        verdict: ``"clean"``, all bytes are good frames; ``"torn"``, a crash
            cut the last write; ``"corrupt"``, good frames follow a bad one.
    """

    payloads: list[bytes]
    consumed: int
    verdict: Literal["clean", "torn", "corrupt"]


def encode(payload: bytes) -> bytes:
    """
    Frame *payload*.

    Raises:
        ValueError: It is empty, or larger than `MAX_PAYLOAD`.
    """
    if not 1 <= len(payload) <= MAX_PAYLOAD:
        msg = f"a frame holds 1 to {MAX_PAYLOAD:,} bytes, not {len(payload):,}"
        raise ValueError(msg)
    return b"%s%s%s" % (
        len(payload).to_bytes(4, "big"),
        zlib.crc32(payload).to_bytes(4, "big"),
        payload,
    )


def scan(data: bytes) -> Scan:
    """Read frames up to the first bad one, and judge what lies behind it; never raises."""
    payloads = []
    position = 0
    view = memoryview(data)
    while position < len(data):
        payload = _frame(view, position)
        if payload is None:
            break
        payloads.append(bytes(payload))
        position += HEADER_SIZE + len(payload)
    if position == len(data):
        return Scan(payloads, position, "clean")
    corrupt = next(behind(data, position), None) is not None
    return Scan(payloads, position, "corrupt" if corrupt else "torn")


def behind(data: bytes, position: int) -> Iterator[bytes]:
    """Yield the payloads of the good frames that begin behind *position*, wherever they do."""
    view = memoryview(data)
    for match in _HEADER.finditer(data, position + 1):
        payload = _frame(view, match.start())
        if payload is not None:
            yield bytes(payload)


def _frame(view: memoryview, position: int) -> memoryview | None:
    start = position + HEADER_SIZE
    length = int.from_bytes(view[position : position + 4], "big")
    if not 1 <= length <= MAX_PAYLOAD or start + length > len(view):
        return None
    payload = view[start : start + length]
    checksum = int.from_bytes(view[position + 4 : start], "big")
    return payload if zlib.crc32(payload) == checksum else None
