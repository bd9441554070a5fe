"""
The leaf of the statement log: an envelope, or its name when it is too long.

A leaf is canonical JSON of at most 65,535 bytes.  An envelope that makes it
longer lies in a blob instead, and the leaf names the blob; one that fits is
always inside.  So an envelope and a time have one leaf, and no other.

The format is ours: ``docs/spec/log-entry.md``.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from secureml.wire import canonical
from secureml.wire._read import malformed, members, reading, shown, text
from secureml.wire.canonical import JSON
from secureml.wire.digest import SHA256, Digest
from secureml.wire.dsse import Envelope
from secureml.wire.tiles import MAX_ENTRY

__all__ = ["BlobRef", "LogEntry"]

_WHAT = "the log entry"
_TYPE: Final = "statement"
_VERSION: Final = 1
_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII)
_AROUND = len('{"at":"0000-00-00T00:00:00.000000Z","envelope":,"type":"statement","v":1}')


@dataclass(frozen=True, slots=True)
class BlobRef:
    """
    The name of an envelope that lies beside the log.

    Attributes:
        digest: SHA-256 of the blob, which is the envelope as canonical JSON.
        size: Length of the blob in bytes.

    Raises:
        ValueError: Another algorithm, or so short that it belongs inside.
    """

    digest: Digest
    size: int

    def __post_init__(self) -> None:
        if self.digest.algorithm != SHA256:
            msg = f"a blob is named by its sha256, not by {self.digest.algorithm}"
            raise ValueError(msg)
        if not MAX_ENTRY < self.size + _AROUND <= canonical.MAX_INT:
            msg = f"an envelope of {self.size} bytes belongs inside its leaf"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """
    A leaf of the statement log.

    Exactly one of `envelope` and `blob` is there.

    Attributes:
        at: Time of the append, ``YYYY-MM-DDThh:mm:ss.ffffffZ``.
        envelope: The envelope, when it fits.
        blob: The name of the envelope, when it does not.

    Raises:
        ValueError: Both or neither, an envelope that does not fit, or
            another spelling of the time.
    """

    at: str
    envelope: Envelope | None
    blob: BlobRef | None

    def __post_init__(self) -> None:
        _check_time(self.at)
        if (self.envelope is None) == (self.blob is None):
            msg = "a log entry has an envelope or the name of one, and not both"
            raise ValueError(msg)

    @classmethod
    def of(cls, envelope: Envelope, at: str) -> tuple[bytes, bytes | None]:
        """
        Make the leaf for *envelope*, and the blob when it does not fit.

        The blob must be durable before the leaf is.

        Returns:
            The bytes of the leaf, and the bytes of the blob or None.

        Raises:
            ValueError: Another spelling of the time.
        """
        blob = envelope.encode()
        if len(blob) + _AROUND <= MAX_ENTRY:
            return cls(at, envelope, None).encode(), None
        return cls(at, None, BlobRef(Digest.sha256(blob), len(blob))).encode(), blob

    def encode(self) -> bytes:
        """
        Return the bytes of the leaf.

        Raises:
            ValueError: The envelope does not fit.
        """
        content: dict[str, JSON] = {"at": self.at, "type": _TYPE, "v": _VERSION}
        if self.envelope is not None:
            content["envelope"] = self.envelope.to_json()
        if self.blob is not None:
            content["blob"] = {"digest": str(self.blob.digest), "size": self.blob.size}
        leaf = canonical.encode(content)
        if len(leaf) > MAX_ENTRY:
            msg = f"a leaf has at most {MAX_ENTRY:,} bytes, not {len(leaf):,}: use LogEntry.of"
            raise ValueError(msg)
        return leaf

    @classmethod
    def decode(cls, leaf: bytes, /) -> "LogEntry":
        """
        Read a leaf in its one spelling.

        Raises:
            FormatError: Not a leaf of the statement log.
        """
        if len(leaf) > MAX_ENTRY:
            raise malformed(_WHAT, f"it is longer than {MAX_ENTRY:,} bytes")
        top = members(
            canonical.decode(leaf),
            _WHAT,
            required=("at", "type", "v"),
            optional=("envelope", "blob"),
        )
        if (top["type"], top["v"]) != (_TYPE, _VERSION):
            raise malformed(
                _WHAT, f"it is not of type {_TYPE!r} version 1", "use a newer secureml to read it"
            )
        envelope = Envelope.from_json(top["envelope"]) if "envelope" in top else None
        blob = _blob(top["blob"]) if "blob" in top else None
        with reading(_WHAT):
            entry = cls(text(top["at"], _WHAT, "at"), envelope, blob)
            respelled = entry.encode()
        if respelled != leaf:
            raise malformed(_WHAT, "its envelope is not in its one spelling")
        return entry


def _blob(value: JSON) -> BlobRef:
    one = members(value, _WHAT, required=("digest", "size"))
    size = one["size"]
    if not isinstance(size, int) or isinstance(size, bool):
        raise malformed(_WHAT, "'size' must be an integer")
    with reading(_WHAT):
        return BlobRef(Digest.parse(text(one["digest"], _WHAT, "digest")), size)


def _check_time(at: str) -> None:
    if _TIME.fullmatch(at):
        try:
            datetime.fromisoformat(at)
        except ValueError:
            pass
        else:
            return
    msg = f"a time is spelled YYYY-MM-DDThh:mm:ss.ffffffZ, found {shown(at)}"
    raise ValueError(msg)
