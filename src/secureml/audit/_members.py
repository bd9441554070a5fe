"""
Members of a record that a caller gives: checked, and spelled as canonical JSON.

What a call belongs to (session, request, tenant), what it was about (period,
reference database, target), where it came from, and the gates it passed.  A
member is spelled once, when it is given, and then copied into each record.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, cast
from uuid import UUID

from secureml.clock import format_time, parse_time
from secureml.errors import FormatError
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = ["SPELLERS", "gates_member", "grouped", "label", "member", "trace_member"]

_MAX_LABEL: Final = 128
_MAX_NAME: Final = 512
_WORD: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
_MAX_WORD: Final = 32
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?",
    re.ASCII,
)


def label(value: object, what: str) -> str:
    """
    Return *value* as a label: text of 1 to 128 characters.

    Raises:
        TypeError: It is neither text, a number nor a UUID.
        ValueError: It is too long, or empty.
    """
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        msg = f"{what!r} is text, a number or a UUID, not {type(value).__name__!r}"
        raise TypeError(msg)
    if not 0 < len(value) <= _MAX_LABEL:
        msg = f"{what!r} has {len(value)} characters: 1 to {_MAX_LABEL} are recorded"
        raise ValueError(msg)
    return str.__str__(value)


def member(name: str, value: object) -> str:
    """
    Return ``,"name":…`` for a record; empty for None.

    Raises:
        TypeError: *value* is of a type that this member does not have.
        ValueError: It is not in its form.
    """
    if value is None:
        return ""
    spelled = SPELLERS[name](value, name)
    return "" if spelled is None else f',"{name}":{canonical.encode(spelled).decode()}'


def grouped(members: Mapping[str, str]) -> tuple[str, ...]:
    """Return the members put together where they stand side by side in a record."""
    get = members.get
    middle = get("refdb", "") + get("request", "") + get("retention_class", "")
    middle += get("session", "") + get("source", "")
    return get("period", ""), middle, get("target", "") + get("tenant", ""), get("trace", "")


def trace_member(trace_id: int, span_id: int) -> str:
    """Return the ``trace`` member of a span."""
    return f',"trace":{{"span_id":"{span_id:016x}","trace_id":"{trace_id:032x}"}}'


def gates_member(gates: object, what: str = "gates") -> str:
    """
    Return the ``gates`` member: the gates that the call passed.

    Args:
        gates: Names, decisions (`secureml.gates.Decision`), or mappings with
            ``name``, and ``decision`` and ``result`` where known.
        what: How the caller names it.

    Raises:
        TypeError: It is no list of those.
        ValueError: One is not in its form.
    """
    if isinstance(gates, str | Mapping) or not isinstance(gates, Sequence):
        msg = f"{what!r} is a list of gates: names, or decisions"
        raise TypeError(msg)
    found = [_gate(gate, what) for gate in gates]
    return f',"gates":{canonical.encode(cast("JSON", found)).decode()}' if found else ""


def _gate(gate: object, what: str) -> dict[str, JSON]:
    if isinstance(gate, str):
        return {"name": _name(gate, what)}
    if isinstance(gate, Mapping):
        found: dict[str, JSON] = {"name": _name(gate.get("name"), what)}
        if gate.get("decision") is not None:
            found["decision"] = _digest(gate["decision"], what)
        if gate.get("result") is not None:
            found["result"] = _word(gate["result"], what)
        return found
    digest = getattr(gate, "digest", None)
    if isinstance(digest, Digest) and hasattr(gate, "allowed") and hasattr(gate, "gate"):
        return {
            "decision": str(digest),
            "name": _name(gate.gate, what),
            "result": "passed" if gate.allowed is True else "failed",
        }
    msg = f"{what!r} holds a {type(gate).__name__!r}, which is neither a name nor a decision"
    raise TypeError(msg)


def _label(value: object, what: str) -> JSON:
    return label(value, what)


def _name(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        msg = f"{what!r} needs a name of 1 to {_MAX_NAME} characters"
        raise ValueError(msg)
    return str.__str__(value)


def _word(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_WORD or not _WORD.fullmatch(value):
        msg = f"{what!r} needs a word: lower-case letters and digits, at most {_MAX_WORD}"
        raise ValueError(msg)
    return str.__str__(value)


def _digest(value: object, what: str) -> str:
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, str):
        try:
            return str(Digest.parse(value))
        except FormatError:
            msg = f"{what!r} needs a digest, such as 'sha256:…'"
            raise ValueError(msg) from None
    msg = f"{what!r} needs a digest, such as 'sha256:…', not {type(value).__name__!r}"
    raise TypeError(msg)


def _moment(value: object, what: str) -> str:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, str):
        try:
            return format_time(parse_time(value))
        except FormatError:
            msg = f"{what!r} needs a time such as '2026-11-22T08:30:00.000000Z'"
            raise ValueError(msg) from None
    msg = f"{what!r} needs a time: a datetime with a time zone, not {type(value).__name__!r}"
    raise TypeError(msg)


def _period(value: object, what: str) -> JSON:
    if isinstance(value, Mapping):
        _only(value, {"start", "end"}, what)
        start, end = value.get("start"), value.get("end")
    elif isinstance(value, tuple):
        if len(value) != 2:  # noqa: PLR2004  a start and an end
            msg = f"{what!r} is a start, or (start, end)"
            raise ValueError(msg)
        start, end = value
    else:
        start, end = value, None
    found = {"start": _moment(start, what)}
    if end is not None:
        found["end"] = _moment(end, what)
        if found["end"] < found["start"]:
            msg = f"{what!r} ends before it starts"
            raise ValueError(msg)
    return cast("JSON", found)


def _refdb(value: object, what: str) -> JSON:
    if isinstance(value, str):
        return {"name": _name(value, what)}
    if isinstance(value, tuple):
        if len(value) != 2:  # noqa: PLR2004  a name and a digest
            msg = f"{what!r} is a name, or (name, digest)"
            raise ValueError(msg)
        name, digest = value
    elif isinstance(value, Mapping):
        _only(value, {"name", "digest"}, what)
        name, digest = value.get("name"), value.get("digest")
    else:
        name, digest = getattr(value, "name", None), getattr(value, "digest", None)
    found: dict[str, JSON] = {"name": _name(name, what)}
    if digest is not None:
        found["digest"] = _digest(digest, what)
    return found


def _source(value: object, what: str) -> JSON:
    if isinstance(value, str):
        return {"host": label(value, what)}
    return _labels(value, {"address", "host"}, what)


def _target(value: object, what: str) -> JSON:
    if isinstance(value, tuple):
        if len(value) != 2:  # noqa: PLR2004  a type and an id
            msg = f"{what!r} is (type, id), or a mapping with 'type', 'id' and 'name'"
            raise ValueError(msg)
        value = {"type": value[0], "id": value[1]}
    found = _labels(value, {"type", "id", "name"}, what)
    if "type" not in found:
        msg = f"{what!r} needs a 'type': a word such as 'patient' or 'account'"
        raise ValueError(msg)
    return {**found, "type": _word(found["type"], what)}


def _labels(value: object, known: set[str], what: str) -> dict[str, JSON]:
    if not isinstance(value, Mapping):
        msg = f"{what!r} is a mapping with {' or '.join(map(repr, sorted(known)))}"
        raise TypeError(msg)
    _only(value, known, what)
    found: dict[str, JSON] = {
        name: label(item, f"{what}.{name}") for name, item in value.items() if item is not None
    }
    if not found:
        msg = f"{what!r} is empty"
        raise ValueError(msg)
    return found


def _only(value: Mapping[object, object], known: set[str], what: str) -> None:
    if not value.keys() <= known:
        msg = f"{what!r} has {' and '.join(map(repr, sorted(known)))}, nothing else"
        raise ValueError(msg)


def _trace(value: object, what: str) -> JSON:
    if not isinstance(value, str):
        msg = f"{what!r} is a W3C traceparent, text, not {type(value).__name__!r}"
        raise TypeError(msg)
    found = _TRACEPARENT.fullmatch(value)
    if found is None or (found[3] and value.startswith("00-")):
        # It is a header, so anybody may have written it; W3C says to go on without.
        return None
    return {"span_id": found[2], "trace_id": found[1]}


SPELLERS: Final = {
    "period": _period,
    "refdb": _refdb,
    "request": _label,
    "retention_class": _label,
    "session": _label,
    "source": _source,
    "target": _target,
    "tenant": _label,
    "trace": _trace,
}
"""Member → what checks its value and returns its JSON; None leaves it out."""
