"""
Reading audit-value bytes back, strictly: one spelling, nothing after the end.

`decode` returns plain values; arrays, tables and objects come back as
`Array`, `Table` and `Object`, so that no library and no class is needed to
read a record.  Whatever it accepts, `encode` writes as the same bytes.

Source: docs/spec/audit-value.md.
"""

import math
import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Final, TypeVar
from uuid import UUID

from secureml.audit.value import (
    MAX_DEPTH,
    MAX_SIZE,
    Array,
    Object,
    Table,
    float_bytes,
    int_bytes,
)
from secureml.clock import parse_time
from secureml.errors import FormatError
from secureml.wire.digest import TABLE_DIGEST, Digest

__all__ = ["decode", "plain"]

_HEAD: Final = 9


def decode(data: bytes) -> object:
    """
    Return the value that *data* encodes.

    Raises:
        FormatError: *data* is not exactly one audit-value/1 element.
    """
    if len(data) > MAX_SIZE:
        raise _malformed(why=f"{len(data)} bytes are more than {MAX_SIZE}")
    try:
        value, end = _element(data, 0, len(data), 0)
    except (UnicodeDecodeError, ValueError, OverflowError, InvalidOperation, ArithmeticError):
        raise _malformed(why="a value is not spelled as its type demands") from None
    if end != len(data):
        raise _malformed(why=f"{len(data) - end} bytes follow the value")
    return value


def plain(value: object) -> object:
    """
    Return a decoded value as JSON would know it, to compare by content.

    The name of an object's type is dropped, and arrays of numbers become
    nested lists; bytes, times and decimals stay what they are.
    """
    if isinstance(value, Object):
        return {name: plain(item) for name, item in value.fields.items()}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Array):
        return _nested(value)
    return value


def _malformed(*, why: str) -> FormatError:
    return FormatError(
        "these bytes are not an audit value",
        why=f"{why} (docs/spec/audit-value.md)",
        fix="check the details file: it was edited, or written by something else",
    )


def _element(data: bytes, at: int, end: int, depth: int) -> tuple[object, int]:
    if end - at < _HEAD:
        raise _malformed(why=f"the element at byte {at} is cut off")
    tag = data[at : at + 1]
    start = at + _HEAD
    stop = start + int.from_bytes(data[at + 1 : start])
    if stop > end:
        raise _malformed(why=f"the element at byte {at} is longer than what holds it")
    if depth > MAX_DEPTH:
        raise _malformed(why=f"nested deeper than {MAX_DEPTH}")
    container = _CONTAINERS.get(tag)
    if container is not None:
        if depth >= MAX_DEPTH:
            raise _malformed(why=f"nested deeper than {MAX_DEPTH}")
        return container(data, start, stop, depth + 1), stop
    simple = _SIMPLE.get(tag)
    if simple is None:
        raise _malformed(why=f"the element at byte {at} has the unknown tag {tag!r}")
    return simple(data[start:stop]), stop


def _items(data: bytes, at: int, stop: int, depth: int) -> list[object]:
    items = []
    while at < stop:
        item, at = _element(data, at, stop, depth)
        items.append(item)
    return items


def _map(data: bytes, at: int, stop: int, depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    last: bytes | None = None
    while at < stop:
        start = at
        key, at = _element(data, at, stop, depth)
        raw = data[start + _HEAD : at]
        if not isinstance(key, str):
            raise _malformed(why="a key is not text")
        if last is not None and raw <= last:
            raise _malformed(why="the keys of a map are not in order, or one is there twice")
        last = raw
        found[key], at = _element(data, at, stop, depth)
    return found


def _set(data: bytes, at: int, stop: int, depth: int) -> frozenset[object]:
    spelled: list[bytes] = []
    items: list[object] = []
    while at < stop:
        start = at
        item, at = _element(data, at, stop, depth)
        spelled.append(data[start:at])
        items.append(_frozen(item))
    if any(a >= b for a, b in pairwise(spelled)):
        raise _malformed(why="the elements of a set are not in order, or one is there twice")
    return frozenset(items)


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict | Object):
        raise _malformed(why="a set holds a map or an object")
    return value


def _object(data: bytes, at: int, stop: int, depth: int) -> Object:
    if at == stop:
        raise _malformed(why="an object has no name")
    name, at = _element(data, at, stop, depth)
    if not isinstance(name, str):
        raise _malformed(why="the name of an object's type is not text")
    return Object(name, _map(data, at, stop, depth))


def _array(data: bytes, at: int, stop: int, depth: int) -> Array:
    match _items(data, at, stop, depth):
        case [str(dtype), list(shape), bytes(raw)]:
            axes = tuple(n for n in shape if type(n) is int and n >= 0)
            array = Array(dtype, axes, raw)
            if len(axes) == len(shape) and array.is_whole():
                return array
    raise _malformed(why="an array is a type, a shape and exactly as many elements")


def _table(data: bytes, at: int, stop: int, depth: int) -> Table:
    match _items(data, at, stop, depth):
        case [str(digest), int(rows), list(columns)] if rows >= 0 and type(rows) is int:
            named: list[tuple[str, str]] = []
            for column in columns:
                match column:
                    case [str(name), str(kind)]:
                        named.append((name, kind))
                    case _:
                        raise _malformed(why="a column is a name and a type")
            if Digest.parse(digest).algorithm != TABLE_DIGEST:
                raise _malformed(why="a table is not named by its logical digest")
            return Table(digest, rows, tuple(named))
    raise _malformed(why="a table is a digest, a number of rows and its columns")


def _empty(value: object) -> Callable[[bytes], object]:
    def read(raw: bytes) -> object:
        if raw:
            raise _malformed(why="an empty element has content")
        return value

    return read


def _int(raw: bytes) -> int:
    value = int.from_bytes(raw, signed=True)
    if int_bytes(value) != raw:
        raise _malformed(why="an integer is longer than it must be")
    return value


def _float(raw: bytes) -> float:
    if len(raw) != 8:  # noqa: PLR2004  bytes of a binary64
        raise _malformed(why="a float has 8 bytes")
    value: float = struct.unpack(">d", raw)[0]
    if float_bytes(value) != raw:
        raise _malformed(why="a NaN that is not the one NaN")
    return value


def _complex(raw: bytes) -> complex:
    return complex(_float(raw[:8]), _float(raw[8:]))


def _aware(raw: bytes) -> datetime:
    return parse_time(raw.decode("ascii"))


def _naive(raw: bytes) -> datetime:
    value = datetime.fromisoformat(raw.decode("ascii")).replace(tzinfo=None)
    return _same(raw, value, value.isoformat(timespec="microseconds"))


def _date(raw: bytes) -> date:
    value = date.fromisoformat(raw.decode("ascii"))
    return _same(raw, value, value.isoformat())


def _time(raw: bytes) -> time:
    value = time.fromisoformat(raw.decode("ascii")).replace(tzinfo=None)
    return _same(raw, value, value.isoformat(timespec="microseconds"))


_T = TypeVar("_T", date, datetime, time)


def _same(raw: bytes, value: _T, text: str) -> _T:
    # A time zone is never spelled here, so one in the bytes is another spelling.
    if text.encode() != raw:
        raise _malformed(why="a date or time that is not spelled the one way")
    return value


def _timedelta(raw: bytes) -> timedelta:
    return timedelta(microseconds=_int(raw))


def _decimal(raw: bytes) -> Decimal:
    value = Decimal(raw.decode("ascii"))
    if str(value).encode() != raw:
        raise _malformed(why="a decimal number that is not spelled the one way")
    return value


def _uuid(raw: bytes) -> UUID:
    return UUID(bytes=raw)


def _nested(value: Array) -> object:
    code = _STRUCT.get(value.dtype[1:])
    if code is None:
        return value
    flat: list[object] = list(struct.unpack(f"<{math.prod(value.shape)}{code}", value.data))
    for axis in reversed(value.shape[1:]):
        flat = [flat[at : at + axis] for at in range(0, len(flat), axis)] if axis else []
    return flat if value.shape else flat[0]


_STRUCT: Final[dict[str, str]] = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}

_CONTAINERS: Final[dict[bytes, Callable[[bytes, int, int, int], object]]] = {
    b"L": _items,
    b"M": _map,
    b"Z": _set,
    b"O": _object,
    b"A": _array,
    b"X": _table,
}

_SIMPLE: Final[dict[bytes, Callable[[bytes], object]]] = {
    b"N": _empty(None),
    b"T": _empty(True),  # noqa: FBT003  the value itself
    b"F": _empty(False),  # noqa: FBT003  the value itself
    b"I": _int,
    b"D": _float,
    b"C": _complex,
    b"S": bytes.decode,
    b"B": bytes,
    b"W": _aware,
    b"w": _naive,
    b"Y": _date,
    b"H": _time,
    b"P": _timedelta,
    b"E": _decimal,
    b"G": _uuid,
}
