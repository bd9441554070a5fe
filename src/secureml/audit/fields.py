"""
The form of each field of an audit record, and what each type of record must have.

Known fields have one form; unknown ones need a well formed name only, since
later versions add fields and a record is its bytes.

Source: docs/spec/audit-record.md, sections "Fields" and "Types".
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, cast

from secureml.clock import parse_time
from secureml.errors import FormatError
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = ["ALGORITHM", "ID", "OUTCOMES", "check_body", "malformed"]

ALGORITHM: Final = "hmac-sha256"
"""How commitments are made; the key is the salt."""

OUTCOMES: Final = frozenset({"ok", "error", "cancelled", "timeout", "abandoned", "denied"})
"""How a call may end."""

ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
"""A record's id: a UUID of version 7."""

_WORD: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
_KEY: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_HEX16: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_HEX32: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HEX64: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_MAX_PATH: Final = 256
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_EMPTY: Final[Mapping[str, JSON]] = MappingProxyType({})


def malformed(*, why: str) -> FormatError:
    """Return the error for bytes that are no audit record."""
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
            raise malformed(why=f"it has no field {name!r}")
    kind = body["type"]
    for name, value in body.items():
        if not _KEY.fullmatch(name):
            raise malformed(why="a field's name is not lower-case letters, digits and underscores")
        check = _FIELDS.get(name)
        if check is not None and not check(value):
            raise malformed(why=f"the field {name!r} is not in its form")
    for name in _REQUIRED.get(kind, ()) if isinstance(kind, str) else ():
        if name not in body:
            raise malformed(why=f"a record of type {kind!r} has no field {name!r}")


_Check = Callable[[JSON], bool]


def _text(limit: int) -> _Check:
    return lambda v: isinstance(v, str) and 0 < len(v) <= limit


def _count(value: JSON) -> bool:
    return type(value) is int and value >= 0


def _whole(value: JSON) -> bool:
    return type(value) is int


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


_committed = _open({"alg": _word}, {"key": _matches(_HEX32), "ref": _digest})


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

_hex32 = _matches(_HEX32)
_id = _matches(ID)

_FIELDS: Final[Mapping[str, _Check]] = {
    "action": _label,
    "actor": _open({"id": _hex32, "type": _word}),
    "call": _open({"kind": _word, "name": _name}, {"code": _digest}),
    "clock": _open({"jump_us": _whole}),
    "config": _open({"name": _label}, {"digest": _digest}),
    "details": _open({"segment": _matches(_SEGMENT)}),
    "disk_full": _open({"refused": _count}),
    "end": _open({"records": _count}),
    "epoch": _open({}),
    "erasure": _open(
        {"records": _list_of(_id)},
        {"authority": _label, "keys": _list_of(_hex32), "reason": _label},
    ),
    "error": _open({"type": _name}, {"stage": _word}),
    "gap": _open({"dropped": _count, "reason": _word}, {"first": _time, "last": _time}),
    "gates": _list_of(_open({}, {"decision": _digest, "name": _name, "result": _word})),
    "heartbeat": _open({"records": _count}),
    "hold": _open({"name": _label, "state": _one_of(frozenset({"placed", "released"}))}),
    "in": _commitments,
    "intent": _id,
    "latency_us": _count,
    "model": _open(
        {"status": _one_of(frozenset({"verified", "unverified"}))},
        {
            "claims": _digest,
            "digest": _digest,
            "evidence": _list_of(_digest),
            "name": _name,
            "trust": _digest,
            "version": _label,
        },
    ),
    "monotonic_us": _count,
    "out": _commitments,
    "outcome": _one_of(OUTCOMES),
    "oversight": _open(
        {}, {"action": _word, "at": _time, "reason": _label, "reviewers": _list_of(_hex32)}
    ),
    "parent": _id,
    "period": _open({}, {"end": _time, "start": _time}),
    "prune": _open({}),
    "record": _open({"id": _id}),
    "recovery": _open(
        {"records": _count, "verdict": _word, "writer": _hex32}, {"discarded": _count}
    ),
    "redactions": _list_of(_open({}, {"count": _count, "path": _name, "rule": _word})),
    "refdb": _open({}, {"digest": _digest, "name": _name}),
    "request": _label,
    "retention": _open({}),
    "retention_class": _label,
    "review": _id,
    "seal": _open({}),
    "session": _label,
    "source": _open({}, {"address": _label, "host": _label}),
    "start": _open(
        {}, {"boot": _label, "details_removed": _count, "heartbeat_s": _count, "pid": _count}
    ),
    "stream": _open(
        {"chunks": _count, "complete": _flag},
        {"digest": _digest, "kept": _count, "ttft_us": _count},
    ),
    "target": _open({}, {"id": _label, "name": _label, "type": _word}),
    "tenant": _label,
    "time": _time,
    "trace": _open({}, {"span_id": _matches(_HEX16), "trace_id": _hex32}),
    "type": _word,
}

_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "access": ("action", "actor"),
    "call": ("action", "call", "latency_us", "monotonic_us", "outcome"),
    "clock": ("clock",),
    "config": ("config",),
    "disk-full": ("disk_full",),
    "end": ("end",),
    "epoch": ("epoch",),
    "erasure": ("erasure",),
    "gap": ("gap",),
    "heartbeat": ("heartbeat",),
    "hold": ("hold",),
    "human-review": ("oversight",),
    "intent": ("action", "call", "monotonic_us"),
    "model-load": ("model", "outcome"),
    "prune": ("prune",),
    "recovery": ("recovery",),
    "retention": ("retention",),
    "seal": ("seal",),
    "start": ("monotonic_us", "start"),
}
