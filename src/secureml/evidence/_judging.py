"""
How the end of a spool is judged: torn by a crash, or changed by somebody.

Whoever made the bytes may have made them so that judging takes for ever; it
takes a bounded time.

Source: docs/spec/spool.md, section "Sequencing".
"""

import os
import re
import zlib
from typing import Final

from secureml.evidence._spool import BATCH, HEAD_SIZE, Head
from secureml.wire import frame

__all__ = ["LARGEST", "frame_at", "is_torn_head", "was_synced"]

LARGEST: Final = HEAD_SIZE + frame.HEADER_SIZE + frame.MAX_PAYLOAD
"""Bytes of a segment: no frame is longer, and a segment of many frames is shorter."""

_BATCHES: Final = re.compile(rb"(?=[\x00\x01][\x00-\xff]{7}[\x01\x04])", re.DOTALL)
"""Where a frame with records may begin: its length, its checksum, and its kind."""

_WANTED: Final = slice(32, 40)


def frame_at(fd: int, at: int) -> bytes | None:
    """Return the payload of the whole frame at an offset; None when there is none."""
    head = os.pread(fd, frame.HEADER_SIZE, at)
    length = int.from_bytes(head[:4])
    if len(head) < frame.HEADER_SIZE or not 1 <= length <= frame.MAX_PAYLOAD:
        return None
    payload = os.pread(fd, length, at + frame.HEADER_SIZE)
    if len(payload) < length or zlib.crc32(payload) != int.from_bytes(head[4:]):
        return None
    return payload


def is_torn_head(head: bytes, writer: bytes, number: int) -> bool:
    """Return whether a crash may have left *head*: all it has is as written, the rest zeros."""
    expected = Head(writer, number).encode()
    places = set(range(HEAD_SIZE)) - set(range(*_WANTED.indices(HEAD_SIZE)))
    return all(head[at] in {0, expected[at]} for at in places if at < len(head))


def was_synced(rest: bytes, mark: int) -> bool:
    """
    Return whether a good frame in *rest* says that records from *mark* on had been on the disk.

    Also true where it takes too long to tell: no crash leaves such bytes.
    """
    view = memoryview(rest)
    work = 8 * len(rest) + LARGEST
    for match in _BATCHES.finditer(rest):
        at = match.start()
        start = at + frame.HEADER_SIZE
        payload = view[start : start + int.from_bytes(view[at : at + 4])]
        if len(payload) < BATCH.size or BATCH.unpack_from(payload)[2] <= mark:
            continue
        work -= len(payload)
        if work < 0 or zlib.crc32(payload) == int.from_bytes(view[at + 4 : start]):
            return True
    return False
