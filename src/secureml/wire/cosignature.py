"""
Cosignatures: what a witness, or a log with an ML-DSA-44 key, signs of a checkpoint.

A witness says that it saw the log grow, and when.  With Ed25519 it signs the
time and the text of the checkpoint; its name is not in there, so one key is
one witness.  With ML-DSA-44 it signs its name, the time and the parts of the
checkpoint; extension lines are not covered, so a checkpoint that has any is
refused here rather than half signed.

Only the bytes are made here; nothing is signed or verified.

Source: https://c2sp.org/tlog-cosignature
"""

from typing import Final

from secureml.wire._read import malformed, shown
from secureml.wire.checkpoint import Checkpoint

__all__ = [
    "MAX_TIMESTAMP",
    "cosignature_message",
    "join_timestamp",
    "split_timestamp",
    "subtree_message",
]

MAX_TIMESTAMP: Final = (1 << 63) - 1
"""The largest POSIX timestamp of a cosignature, in seconds."""

_LABEL: Final = b"subtree/v1\n\0"
_MAX_NAME: Final = 255
_TIMESTAMP_SIZE: Final = 8


def cosignature_message(text: str, timestamp: int) -> bytes:
    """
    Return what a witness with an Ed25519 key (type 0x04) signs.

    Args:
        text: The text of the checkpoint's note, extension lines included.
        timestamp: Seconds since 1970, of the cosignature.

    Raises:
        ValueError: A timestamp outside 0 … 2**63 - 1.
    """
    _check(timestamp)
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def subtree_message(checkpoint: Checkpoint, *, name: str, timestamp: int) -> bytes:
    """
    Return what an ML-DSA-44 key (type 0x06) signs of a whole tree.

    Args:
        checkpoint: Without extension lines: the format does not cover them.
        name: Name of the key; for a log's own key, its origin.
        timestamp: Seconds since 1970; 0 where nothing is said of the time.

    Raises:
        ValueError: Extension lines, a name or an origin of more than 255
            bytes, or a timestamp outside 0 … 2**63 - 1.
    """
    _check(timestamp)
    if checkpoint.extensions:
        msg = "an ML-DSA-44 signature does not cover extension lines, and the checkpoint has some"
        raise ValueError(msg)
    return b"".join(
        (
            _LABEL,
            _opaque(name),
            timestamp.to_bytes(8),
            _opaque(checkpoint.origin),
            (0).to_bytes(8),
            checkpoint.size.to_bytes(8),
            checkpoint.root,
        )
    )


def join_timestamp(timestamp: int, signature: bytes) -> bytes:
    """
    Return the ``timestamped_signature`` that stands in the line of a note.

    Raises:
        ValueError: A timestamp outside 0 … 2**63 - 1.
    """
    _check(timestamp)
    return timestamp.to_bytes(_TIMESTAMP_SIZE) + signature


def split_timestamp(data: bytes) -> tuple[int, bytes]:
    """
    Return the timestamp of a ``timestamped_signature``, and the signature.

    Raises:
        FormatError: It has no signature, or its timestamp is above 2**63 - 1.
    """
    timestamp = int.from_bytes(data[:_TIMESTAMP_SIZE])
    if len(data) <= _TIMESTAMP_SIZE or timestamp > MAX_TIMESTAMP:
        raise malformed(
            "the cosignature",
            f"it is a time of eight bytes, below 2**63, and a signature; found {len(data)} bytes"
            f" that begin {shown(data[:_TIMESTAMP_SIZE].hex())}",
        )
    return timestamp, data[_TIMESTAMP_SIZE:]


def _opaque(text: str) -> bytes:
    data = text.encode()
    if not 0 < len(data) <= _MAX_NAME:
        msg = f"a name or an origin that ML-DSA-44 signs has 1 to 255 bytes, not {len(data)}"
        raise ValueError(msg)
    return bytes([len(data)]) + data


def _check(timestamp: int) -> None:
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        msg = f"a timestamp is 0 to 2**63 - 1, not {timestamp}"
        raise ValueError(msg)
