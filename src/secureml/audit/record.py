"""
Audit records v1: what one leaf of the audit log says.

A leaf is a prefix of fixed length, which names the writer and the record's
place in that writer's sequence, then one canonical JSON object.  The fixed
prefix lets a verifier prove that nothing was dropped between capture and log
without reading any JSON.

A leaf holds no personal data: pseudonyms, commitments, names of code and of
models.  Values and salts lie beside the log (`secureml.audit.details`), where
they can be erased without breaking a proof.

Readers accept unknown types and unknown fields, and keep them: later versions
of the library add optional fields, and a record is checked by its bytes, not
by what a reader understands of it.  Known fields have one form each.

Source: docs/spec/audit-record.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from secureml.audit.fields import ALGORITHM, check_body, malformed
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = [
    "MAX_LEAF",
    "PREFIX_SIZE",
    "ModelName",
    "Record",
    "checked_record",
    "prefix",
    "read_prefix",
]

MAX_LEAF: Final = 65_535
"""Bytes of a leaf, prefix included (C2SP tlog-tiles)."""

PREFIX_SIZE: Final = 67
"""Bytes before the JSON: ``secureml-audit/1 <32 hex> <16 hex>\\n``."""

_MAGIC: Final = b"secureml-audit/1 "
_PREFIX: Final = re.compile(rb"secureml-audit/1 ([0-9a-f]{32}) ([0-9a-f]{16})\n")
_HEX32: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_SEQ: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """
    One record: writer, place in the writer's sequence, and what it says.

    Attributes:
        writer: 32 hex digits, drawn anew each time a writer opens the log.
        seq: Place in the writer's sequence, from 0 without gaps.
        body: The JSON object, unknown fields included.

    Raises:
        FormatError: The body is not a record.
    """

    writer: str
    seq: int
    body: Mapping[str, JSON]

    def __post_init__(self) -> None:
        if not _HEX32.fullmatch(self.writer) or not 0 <= self.seq <= _MAX_SEQ:
            raise malformed(why="the writer or its sequence number is not well formed")
        check_body(self.body)

    @classmethod
    def decode(cls, leaf: bytes) -> "Record":
        """
        Read a leaf.

        Raises:
            FormatError: It is not a record in the one spelling.
        """
        writer, seq = read_prefix(leaf)
        if len(leaf) > MAX_LEAF:
            raise malformed(why=f"it has {len(leaf)} bytes, and a leaf has at most {MAX_LEAF}")
        body = canonical.decode(leaf[PREFIX_SIZE:])
        if not isinstance(body, dict):
            raise malformed(why="after the prefix comes one JSON object")
        return cls(writer, seq, MappingProxyType(body))

    def encode(self) -> bytes:
        """
        Return the leaf.

        Raises:
            ValueError: It would be larger than a leaf may be.
        """
        leaf = prefix(self.writer, self.seq) + canonical.encode(dict(self.body))
        if len(leaf) > MAX_LEAF:
            msg = f"the record has {len(leaf)} bytes, and a leaf has at most {MAX_LEAF}"
            raise ValueError(msg)
        return leaf

    @property
    def type(self) -> str:
        """What kind of record it is, such as ``call``."""
        return cast("str", self.body["type"])

    @property
    def id(self) -> str:
        """The record's own name: a UUID, version 7."""
        return cast("str", self._object("record")["id"])

    @property
    def time(self) -> str:
        """When the call began, or the event happened: RFC 3339, by the writer's clock."""
        return cast("str", self.body["time"])

    @property
    def action(self) -> str | None:
        """What was done, in the words of the application."""
        return cast("str | None", self.body.get("action"))

    @property
    def outcome(self) -> str | None:
        """How it ended: one of `OUTCOMES`."""
        return cast("str | None", self.body.get("outcome"))

    @property
    def actor(self) -> str | None:
        """Pseudonym of the user, or None."""
        return cast("str | None", self._object("actor").get("id"))

    @property
    def error(self) -> str | None:
        """Type of the exception, or None."""
        return cast("str | None", self._object("error").get("type"))

    @property
    def latency_us(self) -> int | None:
        """How long it took, in microseconds."""
        return cast("int | None", self.body.get("latency_us"))

    @property
    def model(self) -> "ModelName | None":
        """Which model answered, or was loaded; None where the record names none."""
        found = self._object("model")
        if not found:
            return None
        return ModelName(
            status=cast("str", found["status"]),
            digest=cast("str | None", found.get("digest")),
            name=cast("str | None", found.get("name")),
        )

    @property
    def claims(self) -> Digest | None:
        """Of a ``model-load``: digest of the blob with the evidence; else None."""
        found = self._object("model").get("claims")
        if self.type != "model-load" or not isinstance(found, str):
            return None
        return Digest.parse(found)

    @property
    def seal(self) -> Mapping[str, JSON] | None:
        """Of a ``seal``: what is sealed; else None."""
        return cast("Mapping[str, JSON]", self.body["seal"]) if self.type == "seal" else None

    @property
    def leaf_digest(self) -> str:
        """SHA-256 of the leaf, ``sha256:…``."""
        return str(Digest.sha256(self.encode()))

    @property
    def inputs(self) -> Mapping[str, str]:
        """Commitment, in hex, of each captured input."""
        return self._committed("in")

    @property
    def commitments(self) -> Mapping[str, str]:
        """
        Commitment, in hex, of each captured path whose value lies in the details.

        Entries of an algorithm that this version does not know, or that name
        another place, are left out; they stand in `body`.
        """
        return {**self._committed("in"), **self._committed("out")}

    def _committed(self, name: str) -> dict[str, str]:
        return {
            path: cast("str", cast("Mapping[str, JSON]", item)["commitment"])
            for path, item in self._object(name).items()
            if cast("Mapping[str, JSON]", item)["alg"] == ALGORITHM
            and "ref" not in cast("Mapping[str, JSON]", item)
        }

    @property
    def segment(self) -> str | None:
        """Name of the details file that holds its values, or None."""
        return cast("str | None", self._object("details").get("segment"))

    def _object(self, name: str) -> Mapping[str, JSON]:
        return cast("Mapping[str, JSON]", self.body.get(name, _EMPTY))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelName:
    """
    How a record names a model.

    Attributes:
        status: ``verified``: its digest comes from a verified handle; or ``unverified``.
        digest: Its digest, when verified.
        name: How people call it; proves nothing.
    """

    status: str
    digest: str | None
    name: str | None


_EMPTY: Final[Mapping[str, JSON]] = MappingProxyType({})


def checked_record(writer: str, seq: int, body: dict[str, JSON]) -> Record:
    """Return the record with this *body*, which was checked before."""
    record = object.__new__(Record)
    set_field = object.__setattr__
    set_field(record, "writer", writer)
    set_field(record, "seq", seq)
    set_field(record, "body", MappingProxyType(body))
    return record


def prefix(writer: str, seq: int) -> bytes:
    """Return the first `PREFIX_SIZE` bytes of a leaf."""
    return b"secureml-audit/1 %s %016x\n" % (writer.encode(), seq)


def read_prefix(leaf: bytes) -> tuple[str, int]:
    """
    Return the writer and the sequence number of a leaf, without reading its JSON.

    Raises:
        FormatError: It does not begin as a record does.
    """
    found = _PREFIX.match(leaf)
    if found is None:
        raise malformed(
            why=f"it does not begin with {_MAGIC.decode()!r}, a writer and a sequence number"
        )
    seq = int(found[2], 16)
    if seq > _MAX_SEQ:
        raise malformed(why="its sequence number is beyond what a writer counts to")
    return found[1].decode(), seq
