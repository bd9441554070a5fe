"""
The form of each field of an audit record, and what each type of record must have.

Known fields have one form; unknown ones need a well formed name only, since
later versions add fields and a record is its bytes.

Source: docs/spec/audit-record.md, sections "Fields" and "Types".
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from secureml.clock import parse_time
from secureml.errors import FormatError
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import SIZES

__all__ = ["ALGORITHM", "ID", "OUTCOMES", "body_pattern", "check_body", "malformed"]

ALGORITHM: Final = "hmac-sha256"
"""How commitments are made; the key is the salt."""

OUTCOMES: Final = frozenset({"ok", "error", "cancelled", "timeout", "abandoned", "denied"})
"""How a call may end."""

ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)
"""A record's id: a UUID of version 7."""

_KEY: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_MAX_PATH: Final = 256
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_EMPTY: Final[Mapping[str, "Form"]] = MappingProxyType({})


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
        form = _FIELDS.get(name)
        if form is None:
            if not _KEY.fullmatch(name):
                raise malformed(
                    why="a field's name is not lower-case letters, digits and underscores"
                )
        elif not form.check(value):
            raise malformed(why=f"the field {name!r} is not in its form")
    for name in _REQUIRED.get(kind, ()) if isinstance(kind, str) else ():
        if name not in body:
            raise malformed(why=f"a record of type {kind!r} has no field {name!r}")


def body_pattern(body: Mapping[str, JSON]) -> str:
    """
    Return a regular expression for bodies of the shape of *body*, which was checked.

    It matches canonical text only, and only records that `check_body` lets
    pass: same type, same keys in the same order everywhere, lists of the same
    length; no text with an escape in it, no integer beyond 15 digits.  Its
    groups are ``id``, ``time``, and where the record has them ``intent``,
    ``latency`` and ``outcome``.
    """
    forms = {**_FIELDS, **_NAMED, "type": Form(_is_word, literal)}
    return _object_pattern(body, forms)


class Form(NamedTuple):
    """
    The form of one field, said twice.

    Attributes:
        check: Returns whether a value has the form.
        pattern: Returns a regular expression, given a value that has it: for
            canonical text of values of the same shape.  What it matches has
            the form; what it does not match may have it all the same.
    """

    check: Callable[[JSON], bool]
    pattern: Callable[[JSON], str]


def literal(value: JSON) -> str:
    """Return the pattern of exactly *value*."""
    return re.escape(canonical.encode(value).decode())


_PLAIN: Final = r'[^"\\\x00-\x1f]'
"""A character of a string that is spelled without an escape."""


def _text(limit: int) -> Form:
    return Form(
        lambda v: isinstance(v, str) and 0 < len(v) <= limit,
        lambda _: f'"{_PLAIN}{{1,{limit}}}+"',
    )


def _matches(pattern: str) -> Form:
    whole = re.compile(pattern, re.ASCII).fullmatch
    return Form(
        lambda v: isinstance(v, str) and whole(v) is not None,
        lambda _: f'"{pattern}"',
    )


def _one_of(words: frozenset[str]) -> Form:
    return Form(
        lambda v: isinstance(v, str) and v in words,
        lambda _: f'"(?:{"|".join(sorted(words))})"',
    )


_NATURAL: Final = "(?:0|[1-9][0-9]{0,14})"
_count: Final = Form(lambda v: type(v) is int and v >= 0, lambda _: _NATURAL)
_whole: Final = Form(lambda v: type(v) is int, lambda _: "(?:-?[1-9][0-9]{0,14}|0)")
_flag: Final = Form(lambda v: isinstance(v, bool), lambda _: "(?:true|false)")

_DAY: Final = (
    "(?!0000)[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    "|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
TIME: Final = _DAY + r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
"""Times, but for 29 February; `parse_time` has the last word."""
_quick_time: Final = re.compile(TIME, re.ASCII).fullmatch
_WORD: Final = "[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
_quick_word: Final = re.compile(_WORD, re.ASCII).fullmatch
_DIGEST: Final = "|".join(
    f"(?:{'|'.join(n for n in SIZES if SIZES[n] == size)}):[0-9a-f]{{{2 * size}}}"
    for size in sorted(set(SIZES.values()))
)
_quick_digest: Final = re.compile(_DIGEST, re.ASCII).fullmatch


def _is_word(value: JSON) -> bool:
    return isinstance(value, str) and len(value) <= 32 and _quick_word(value) is not None  # noqa: PLR2004  the specified length


def _is_time(value: JSON) -> bool:
    if not isinstance(value, str):
        return False
    if _quick_time(value):
        return True
    try:
        parse_time(value)
    except FormatError:
        return False
    return True


def _is_digest(value: JSON) -> bool:
    return isinstance(value, str) and _quick_digest(value) is not None


_word: Final = Form(_is_word, lambda _: f'"(?=[a-z0-9-]{{1,32}}"){_WORD}"')
_time: Final = Form(_is_time, lambda _: f'"{TIME}"')
_digest: Final = Form(_is_digest, lambda _: f'"(?:{_DIGEST})"')


def _list_of(item: Form) -> Form:
    check, pattern = item
    return Form(
        lambda v: isinstance(v, list) and all(map(check, v)),
        lambda v: rf"\[{','.join(map(pattern, cast('list[JSON]', v)))}\]",
    )


def _any_pattern(value: JSON) -> str:
    """Return the pattern of what is not known: keys as they are, values of the same type."""
    if isinstance(value, str):
        return f'"{_PLAIN}*+"'
    if isinstance(value, bool) or value is None:
        return "(?:true|false|null)"
    if isinstance(value, int):
        return _whole.pattern(value)
    if isinstance(value, list):
        return rf"\[{','.join(map(_any_pattern, value))}\]"
    return _object_pattern(cast("Mapping[str, JSON]", value), {})


def _object_pattern(value: Mapping[str, JSON], known: Mapping[str, Form]) -> str:
    members = (
        f"{literal(name)}:{known[name].pattern(item) if name in known else _any_pattern(item)}"
        for name, item in value.items()
    )
    return rf"\{{{','.join(members)}\}}"


def _open(required: Mapping[str, Form], optional: Mapping[str, Form] = _EMPTY) -> Form:
    """Return the form of an object with these fields, and any others."""
    known = {**required, **optional}
    checks = {name: form.check for name, form in known.items()}
    needed = required.keys()
    named = _KEY.fullmatch

    def check(value: JSON) -> bool:
        if not isinstance(value, dict) or not needed <= value.keys():
            return False
        for name, item in value.items():
            found = checks.get(name)
            if not (named(name) if found is None else found(item)):
                return False
        return True

    return Form(check, lambda v: _object_pattern(cast("Mapping[str, JSON]", v), known))


_hex16: Final = _matches("[0-9a-f]{16}")
_hex32: Final = _matches("[0-9a-f]{32}")
_hex64: Final = _matches("[0-9a-f]{64}")
_segment: Final = _matches("[a-z0-9][a-z0-9-]{0,62}")
_id: Final = _matches(ID.pattern)
_name: Final = _text(512)
_label: Final = _text(128)

_committed: Final = _open({"alg": _word}, {"key": _hex32, "ref": _digest})
_ours: Final = _open(
    {"alg": _one_of(frozenset({ALGORITHM})), "commitment": _hex64}, {"key": _hex32, "ref": _digest}
)
_theirs: Final = _open({"alg": Form(_is_word, literal)}, {"key": _hex32, "ref": _digest})


def _is_commitment(value: JSON) -> bool:
    if not _committed.check(value):
        return False
    entry = cast("Mapping[str, JSON]", value)
    return entry["alg"] != ALGORITHM or _hex64.check(entry.get("commitment"))


def _are_commitments(value: JSON) -> bool:
    return isinstance(value, dict) and all(
        0 < len(path) <= _MAX_PATH and not _CONTROL.search(path) and _is_commitment(item)
        for path, item in value.items()
    )


def _commitments_pattern(value: JSON) -> str:
    entries = cast("Mapping[str, Mapping[str, JSON]]", value)
    forms = {
        path: _ours if entry["alg"] == ALGORITHM else _theirs for path, entry in entries.items()
    }
    return _object_pattern(entries, forms)


_commitments: Final = Form(_are_commitments, _commitments_pattern)

_FIELDS: Final[Mapping[str, Form]] = {
    "action": _label,
    "actor": _open({"id": _hex32, "type": _word}),
    "call": _open({"kind": _word, "name": _name}, {"code": _digest}),
    "clock": _open({"jump_us": _whole}),
    "config": _open({"name": _label}, {"digest": _digest}),
    "details": _open({"segment": _segment}),
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
        {},
        {
            "boot": _label,
            "details_removed": _count,
            "heartbeat_s": _count,
            "pid": _count,
            "recovered": _open({}, {"discarded": _count, "removed": _count, "replayed": _count}),
        },
    ),
    "stream": _open(
        {"chunks": _count, "complete": _flag},
        {"digest": _digest, "kept": _count, "ttft_us": _count},
    ),
    "target": _open({}, {"id": _label, "name": _label, "type": _word}),
    "tenant": _label,
    "time": _time,
    "trace": _open({}, {"span_id": _hex16, "trace_id": _hex32}),
    "type": _word,
}

_NAMED: Final[Mapping[str, Form]] = {
    "intent": Form(_id.check, lambda _: f'"(?P<intent>{ID.pattern})"'),
    "latency_us": Form(_count.check, lambda _: f"(?P<latency>{_NATURAL})"),
    "outcome": Form(
        _FIELDS["outcome"].check, lambda _: f'"(?P<outcome>{"|".join(sorted(OUTCOMES))})"'
    ),
    "record": _open({"id": Form(_id.check, lambda _: f'"(?P<id>{ID.pattern})"')}),
    "time": Form(_is_time, lambda _: f'"(?P<time>{TIME})"'),
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
