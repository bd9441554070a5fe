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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from secureml.clock import parse_time
from secureml.errors import FormatError
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = [
    "ALGORITHM",
    "MAX_LEAF",
    "OUTCOMES",
    "PREFIX_SIZE",
    "RESERVED_TYPES",
    "TYPES",
    "ModelName",
    "Record",
    "prefix",
    "read_prefix",
]

MAX_LEAF: Final = 65_535
"""Bytes of a leaf, prefix included (C2SP tlog-tiles)."""

PREFIX_SIZE: Final = 67
"""Bytes before the JSON: ``secureml-audit/1 <32 hex> <16 hex>\\n``."""

ALGORITHM: Final = "hmac-sha256"
"""How commitments are made; the key is the salt."""

OUTCOMES: Final = frozenset({"ok", "error", "cancelled", "timeout", "abandoned", "denied"})
"""How a call may end."""

TYPES: Final = frozenset({"call", "end", "erasure", "model-load", "seal", "start"})
"""Record types whose content is specified."""

RESERVED_TYPES: Final = frozenset(
    {
        "access",
        "clock",
        "config",
        "disk-full",
        "epoch",
        "gap",
        "heartbeat",
        "human-review",
        "intent",
        "recovery",
        "retention",
        "shred",
    }
)
"""Record types that are named and not yet specified."""

_MAGIC: Final = b"secureml-audit/1 "
_PREFIX: Final = re.compile(rb"secureml-audit/1 ([0-9a-f]{32}) ([0-9a-f]{16})\n")
ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
_WORD: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
_KEY: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_HEX32: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HEX64: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_MAX_SEQ: Final = 2**63 - 1
_MAX_PATH: Final = 256
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


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
            raise _malformed(why="the writer or its sequence number is not well formed")
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
            raise _malformed(why=f"it has {len(leaf)} bytes, and a leaf has at most {MAX_LEAF}")
        body = canonical.decode(leaf[PREFIX_SIZE:])
        if not isinstance(body, dict):
            raise _malformed(why="after the prefix comes one JSON object")
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
        raise _malformed(
            why=f"it does not begin with {_MAGIC.decode()!r}, a writer and a sequence number"
        )
    seq = int(found[2], 16)
    if seq > _MAX_SEQ:
        raise _malformed(why="its sequence number is beyond what a writer counts to")
    return found[1].decode(), seq


def _malformed(*, why: str) -> FormatError:
    return FormatError(
        "this is not an audit record",
        why=f"{why} (docs/spec/audit-record.md)",
        fix="check the log it comes from: the entry was edited, or is not from an audit log",
    )


def check_body(body: Mapping[str, JSON]) -> None:
    """
    Check every known field; unknown ones need a well formed name only.

    Raises:
        FormatError: A field is missing or malformed; the text names it.
    """
    for name in ("record", "time", "type"):
        if name not in body:
            raise _malformed(why=f"it has no field {name!r}")
    kind = body["type"]
    for name, value in body.items():
        if not _KEY.fullmatch(name):
            raise _malformed(
                why="a field's name is not lower-case letters, digits and underscores"
            )
        check = _FIELDS.get(name)
        if check is not None and not check(value):
            raise _malformed(why=f"the field {name!r} is not in its form")
    for name in _REQUIRED.get(kind, ()) if isinstance(kind, str) else ():
        if name not in body:
            raise _malformed(why=f"a record of type {kind!r} has no field {name!r}")


_Check = Callable[[JSON], bool]


def _text(limit: int) -> _Check:
    return lambda v: isinstance(v, str) and 0 < len(v) <= limit


def _count(value: JSON) -> bool:
    return type(value) is int and value >= 0


def _flag(value: JSON) -> bool:
    return isinstance(value, bool)


def _matches(pattern: re.Pattern[str]) -> _Check:
    return lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None


def _one_of(words: frozenset[str]) -> _Check:
    return lambda v: isinstance(v, str) and v in words


def _word(value: JSON) -> bool:
    return isinstance(value, str) and len(value) <= 32 and _WORD.fullmatch(value) is not None  # noqa: PLR2004  the specified length


def _time(value: JSON) -> bool:
    try:
        parse_time(cast("str", value))
    except (FormatError, TypeError):
        return False
    return True


def _digest(value: JSON) -> bool:
    try:
        return str(Digest.parse(cast("str", value))) == value
    except (FormatError, TypeError, AttributeError):
        return False


_hex64 = _matches(_HEX64)


def _list_of(check: _Check) -> _Check:
    return lambda v: isinstance(v, list) and all(map(check, v))


def _open(required: Mapping[str, _Check], optional: Mapping[str, _Check] = _EMPTY) -> _Check:  # type: ignore[assignment]
    """Return the check of an object with these fields, and any others."""
    known = {**required, **optional}

    def check(value: JSON) -> bool:
        return (
            isinstance(value, dict)
            and required.keys() <= value.keys()
            and all(_KEY.fullmatch(name) for name in value)
            and all(known[name](item) for name, item in value.items() if name in known)
        )

    return check


_committed = _open({"alg": _word}, {"ref": _digest})


def _commitment(value: JSON) -> bool:
    if not _committed(value):
        return False
    entry = cast("Mapping[str, JSON]", value)
    return entry["alg"] != ALGORITHM or _hex64(entry.get("commitment"))


def _commitments(value: JSON) -> bool:
    return isinstance(value, dict) and all(
        0 < len(path) <= _MAX_PATH and not _CONTROL.search(path) and _commitment(item)
        for path, item in value.items()
    )


_name = _text(512)
_label = _text(128)

_FIELDS: Final[Mapping[str, _Check]] = {
    "action": _label,
    "actor": _open({"id": _matches(_HEX32), "type": _word}),
    "call": _open({"kind": _word, "name": _name}, {"code": _digest}),
    "details": _open({"segment": _matches(_SEGMENT)}),
    "end": _open({"records": _count}),
    "erasure": _open({"records": _list_of(_matches(ID))}, {"reason": _label}),
    "error": _open({"type": _name}, {"stage": _word}),
    "in": _commitments,
    "intent": _matches(ID),
    "latency_us": _count,
    "model": _open(
        {"status": _one_of(frozenset({"verified", "unverified"}))},
        {
            "claims": _digest,
            "digest": _digest,
            "evidence": _list_of(_digest),
            "name": _name,
            "trust": _digest,
        },
    ),
    "monotonic_us": _count,
    "out": _commitments,
    "outcome": _one_of(OUTCOMES),
    "parent": _matches(ID),
    "record": _open({"id": _matches(ID)}),
    "request": _label,
    "retention_class": _label,
    "seal": _open({}),
    "session": _label,
    "start": _open({}, {"boot": _label, "details_removed": _count, "pid": _count}),
    "stream": _open({"chunks": _count, "complete": _flag}, {"ttft_us": _count}),
    "tenant": _label,
    "time": _time,
    "type": _word,
    # Known names whose content is left to later records: an object or a list.
    **{name: _open({}) for name in ("oversight", "period", "refdb", "target", "trace")},
    **{name: _list_of(_open({})) for name in ("gates", "redactions")},
}

_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "call": ("action", "call", "latency_us", "monotonic_us", "outcome"),
    "end": ("end",),
    "erasure": ("erasure",),
    "model-load": ("model", "outcome"),
    "seal": ("seal",),
    "start": ("monotonic_us", "start"),
}
