"""
JSON that has exactly one spelling (RFC 8785), without floating point.

A digest or a signature covers bytes, so the same value must always become the
same bytes.  RFC 8785 settles key order, spacing and escapes.  It also settles
floats, at the price of a number formatter; secureml leaves floats out
instead: a metric is written as a decimal string, ``"0.931"``, which has no
NaN, no negative zero and no rounding on the way.

`decode` accepts canonical bytes only.  So for every input ``b`` that it
accepts, ``encode(decode(b)) == b``: a record cannot be respelled without
changing its name.  `parse` is for what peers write: any spelling, but keys
are unique and every string is text.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

from secureml.errors import FormatError

__all__ = ["JSON", "MAX_DEPTH", "MAX_INT", "decode", "encode", "parse"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A JSON value.  `parse` makes ``dict`` and ``list``; `encode` takes any mapping, and tuples."""

MAX_DEPTH = 64
"""Containers within containers, at most: deeper input is refused."""

MAX_INT = 2**53 - 1
"""The largest integer, either side of zero, that every JSON reader keeps exact (RFC 7493)."""

_WHAT = "canonical JSON"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def encode(value: JSON) -> bytes:
    r"""
    Spell *value* in the one way of RFC 8785.

    Keys are sorted by UTF-16 code units, as the RFC demands.  That differs
    from the order of code points, and of UTF-8, for keys beyond U+FFFF.

    Raises:
        TypeError: A float, a key that is no string, or any other type that
            is not JSON.
        ValueError: An integer beyond `MAX_INT`, a lone surrogate, or nesting
            beyond `MAX_DEPTH`.

    Source: RFC 8785, sections 3.2.2 and 3.2.3.
    """
    try:
        spelled = _ENCODER.encode(value)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        msg = "it contains itself, or an integer of thousands of digits: neither is JSON"
        raise ValueError(msg) from None
    _check(value)
    if not spelled.isascii() and max(spelled) > "\uffff":
        spelled = _UNSORTED.encode(_sorted(value))
    try:
        return spelled.encode()
    except UnicodeEncodeError:
        msg = "a string with a lone surrogate is not text and cannot be encoded"
        raise ValueError(msg) from None


def decode(data: bytes) -> JSON:
    """
    Read canonical JSON; any other spelling of the same value is refused.

    Raises:
        FormatError: Not JSON, or not canonical.
    """
    try:
        return _plain(data)
    except ValueError:
        return _careful(data)


def _plain(data: bytes) -> JSON:
    """
    Read canonical JSON the quick way; what is refused here is looked at again.

    The value is spelled again and compared, so white space, escapes, the
    order of keys, a key that is there twice and digits too many all show, and
    the C reader needs no help from Python but for numbers.
    """
    document = data.decode()
    deep = document.count("[") + document.count("{") > MAX_DEPTH
    if deep or not (document.isascii() or max(document) <= "\uffff"):
        raise _RefusedError
    value: JSON
    value, end = _READER.raw_decode(document)
    if end != len(document) or _ENCODER.encode(value) != document:
        raise _RefusedError
    return value


def _careful(data: bytes) -> JSON:
    value = parse(data, what=_WHAT)
    try:
        canonical = encode(value)
    except (TypeError, ValueError) as error:
        raise _malformed(_WHAT, str(error)) from None
    if canonical != data:
        at = next(
            (i for i, (a, b) in enumerate(zip(canonical, data, strict=False)) if a != b),
            min(len(canonical), len(data)),
        )
        raise _malformed(
            _WHAT, f"it is valid JSON in another spelling, from byte {at} on (RFC 8785)"
        )
    return value


def parse(data: bytes, *, what: str = "JSON") -> JSON:
    """
    Read JSON in any spelling, strictly: UTF-8, unique keys, finite numbers.

    Args:
        data: The bytes.
        what: What they should be, for the error text.

    Raises:
        FormatError: Not UTF-8, not JSON, a key twice, NaN or infinity, a
            lone surrogate, nesting beyond `MAX_DEPTH`, or an integer of
            thousands of digits.
    """
    try:
        document = data.decode()
    except UnicodeDecodeError as error:
        raise _malformed(what, f"byte {error.start} is not valid UTF-8") from None
    try:
        value: JSON = _DECODER.decode(document)
    except RecursionError:
        raise _malformed(what, _TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise _malformed(
            what, f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except _RefusedError as error:
        raise _malformed(what, str(error)) from None
    except ValueError:
        raise _malformed(what, "it has an integer of thousands of digits") from None
    if document.count("[") + document.count("{") > MAX_DEPTH and _deep(value):
        raise _malformed(what, _TOO_DEEP)
    if _SURROGATE_ESCAPE.search(document):
        try:
            _UNSORTED.encode(value).encode()
        except UnicodeEncodeError:
            raise _malformed(what, "a string has a lone surrogate, so it is not text") from None
    return value


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


class _RefusedError(ValueError):
    """What a hook of the JSON reader refuses."""


def _malformed(what: str, why: str) -> FormatError:
    return FormatError(
        f"{what} is malformed",
        why=why,
        fix="get it again from where it came; "
        "if it is the same, its writer made it wrong or it was altered",
    )


def _pairs(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            msg = f"the key {key[:60]!a} appears twice in one object"
            raise _RefusedError(msg)
        seen.add(key)
    raise AssertionError  # pragma: no cover - fewer members than pairs means a repeated key


def _float(digits: str) -> float:
    number = float(digits)
    if math.isfinite(number):
        return number
    msg = f"the number {digits[:40]} is too large"
    raise _RefusedError(msg)


def _constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise _RefusedError(msg)


def _unknown(value: object) -> dict[str, JSON]:
    if isinstance(value, Mapping):
        return dict(value)
    msg = f"{type(value).__name__} is not a JSON type"
    raise TypeError(msg)


def _integer(digits: str) -> int:
    number = int(digits)
    if -MAX_INT <= number <= MAX_INT:
        return number
    raise _RefusedError(digits[:40])


_READER = json.JSONDecoder(parse_int=_integer, parse_float=_constant, parse_constant=_constant)
_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_float, parse_constant=_constant)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=_unknown
)
_UNSORTED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_unknown)


def _check(value: JSON) -> None:
    """Refuse what the C encoder lets pass: floats, keys that are no strings, large integers."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for item in level:
            if isinstance(item, str) or item is None:
                continue
            if isinstance(item, int):
                if not -MAX_INT <= item <= MAX_INT:
                    msg = f"integers beyond 2**53 - 1 are not exact in JSON: {_digits(item)}"
                    raise ValueError(msg)
            elif isinstance(item, Mapping):
                for key in item:
                    if not isinstance(key, str):
                        msg = f"keys of a JSON object are strings, found {type(key).__name__}"
                        raise TypeError(msg)
                below += item.values()
            elif isinstance(item, list | tuple):
                below += item
            else:
                msg = (
                    f"{type(item).__name__} has no canonical form here: "
                    "write a decimal number as a string"
                )
                raise TypeError(msg)
        if not below:
            return
        level = below
    raise ValueError(_TOO_DEEP)


def _digits(number: int) -> str:
    return str(number) if number.bit_length() < 256 else f"a number of {number.bit_length()} bits"  # noqa: PLR2004  one line


def _sorted(value: JSON) -> JSON:
    if isinstance(value, Mapping):
        try:
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        except UnicodeEncodeError:
            msg = "a key with a lone surrogate is not text and cannot be encoded"
            raise ValueError(msg) from None
        return {key: _sorted(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value


def _deep(value: JSON) -> bool:
    level: list[JSON] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)  # type: ignore[union-attr]
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True
