"""
Bounds and members of checks: how a value is written, and how it meets a column.

A parameter is JSON without floats.  A number becomes its shortest decimal
text, so ``50``, ``50.0`` and ``Decimal("50")`` make one and the same gate.
What it is compared with decides how: an integer or decimal column exactly, by
rational arithmetic; a floating-point column by the nearest number of the
column's own type, so that a bound of ``0.1`` includes a stored ``0.1``.
"""

import math
import operator
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import SupportsIndex, cast

from secureml._extras import require
from secureml.clock import format_time, parse_time
from secureml.data.rows import Arrow

__all__ = ["Mismatch", "bounds_of", "contained", "members_of", "within"]

_MOST_DIGITS = 100
_MOST_EXPONENT = 5000
_PLAIN_EXPONENT = 20
_FIRST_YEAR = 1000
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FLOAT_CODE = {"halffloat": "e", "float": "f", "double": "d"}
_DAY_MS = 86_400_000


class Mismatch(Exception):  # noqa: N818  it never leaves this package
    """A column's type cannot be compared with the parameters of a check."""


# --- parameters --------------------------------------------------------------------------------


def bounds_of(low: object, high: object) -> tuple[str, str, str]:
    """
    Return the kind of two bounds, and their texts.

    Raises:
        TypeError: A bound is of no kind that can be compared, or the two differ in kind.
        ValueError: A bound is NaN or infinite, or *low* is above *high*.
    """
    (kind, first), (other, second) = _write(low), _write(high)
    if kind != other or kind == "boolean":
        msg = f"between takes two numbers, texts, dates or times, got {low!r} and {high!r}"
        raise TypeError(msg)
    above = Fraction(first) > Fraction(second) if kind == "number" else first > second
    if above:
        msg = f"between takes the lower bound first, got {low!r} and {high!r}"
        raise ValueError(msg)
    return kind, first, second


def members_of(values: object) -> tuple[str, tuple[str, ...]]:
    """
    Return the kind of the members of a set, and their texts, sorted.

    Raises:
        TypeError: *values* is no collection, or its members differ in kind.
        ValueError: There are none, or one is NaN or infinite.
    """
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        msg = f"in_set takes a list or set of values, not {type(values).__name__}"
        raise TypeError(msg)
    written = [_write(value) for value in values]
    if not written:
        msg = "in_set takes at least one value: a set of nothing holds nothing"
        raise ValueError(msg)
    kinds = {kind for kind, _ in written}
    if len(kinds) != 1 or not kinds <= {"number", "text", "boolean"}:
        msg = "in_set takes numbers, texts or booleans, all of one kind"
        raise TypeError(msg)
    kind = kinds.pop()
    texts = {text for _, text in written}
    return kind, tuple(sorted(texts, key=Fraction) if kind == "number" else sorted(texts))


def _write(value: object) -> tuple[str, str]:
    """Return the kind of a parameter and its one text."""
    if isinstance(value, bool):
        return "boolean", "true" if value else "false"
    if isinstance(value, str):
        return "text", value
    if isinstance(value, datetime):
        if getattr(value, "nanosecond", 0):
            msg = f"a time is given to the microsecond, got {value!r}"
            raise ValueError(msg)
        if value.tzinfo is None:
            return "datetime", value.isoformat(timespec="microseconds")
        text = format_time(value)
        if value.astimezone(UTC).year < _FIRST_YEAR:
            msg = f"a time is given from the year {_FIRST_YEAR} on, got {value!r}"
            raise ValueError(msg)
        return "instant", text
    if isinstance(value, date):
        return "date", value.isoformat()
    return "number", _decimal(value)


def _decimal(value: object) -> str:
    if isinstance(value, Decimal):
        number = value
    else:
        try:
            number = Decimal(operator.index(cast("SupportsIndex", value)))
        except TypeError:
            if not hasattr(value, "__float__"):
                msg = f"a value is a number, text, date or time, not {type(value).__name__}"
                raise TypeError(msg) from None
            number = Decimal(repr(float(value)))
    if not number.is_finite():
        msg = f"a parameter cannot be NaN or infinite, got {value!r}"
        raise ValueError(msg)
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    short = text.rstrip("0")
    if not short:
        return "0"
    exponent = int(exponent) + len(text) - len(short)
    if len(short) > _MOST_DIGITS or abs(exponent) > _MOST_EXPONENT:
        msg = f"a number has at most {_MOST_DIGITS} digits, got one with {len(short)}"
        raise ValueError(msg)
    exact = Decimal((sign, tuple(map(int, short)), exponent))
    plain = exponent == 0 or -_PLAIN_EXPONENT < exponent + len(short) <= _PLAIN_EXPONENT
    return f"{exact:f}" if plain else f"{'-' if sign else ''}{short}e{exponent}"


# --- columns -----------------------------------------------------------------------------------


def within(column: Arrow, kind: str, low: str, high: str) -> Arrow:
    """
    Return for each row whether its value is from *low* to *high*, both included.

    A null is null or no; NaN is not within anything.

    Raises:
        Mismatch: The column's type cannot be compared with bounds of this *kind*.
    """
    pa, pc = _arrow()
    values, scale = _comparable(column, kind)
    if kind == "text":
        first, last = pa.scalar(low, values.type), pa.scalar(high, values.type)
    elif scale is None:
        code = _FLOAT_CODE[str(column.type)]
        first = pa.scalar(_low_float(low, code), values.type)
        last = pa.scalar(_high_float(high, code), values.type)
    else:
        least, most = _limits(values.type)
        bottom = max(math.ceil(_number(kind, low) * scale), least)
        top = min(math.floor(_number(kind, high) * scale), most)
        if bottom > top:
            return pc.and_(pc.is_null(values), pc.is_valid(values))
        first, last = _scalar(bottom, values.type), _scalar(top, values.type)
    return pc.and_(pc.greater_equal(values, first), pc.less_equal(values, last))


def contained(column: Arrow, kind: str, members: tuple[str, ...]) -> Arrow:
    """
    Return for each row whether its value is one of *members*; a null is not.

    Raises:
        Mismatch: The column's type cannot be compared with members of this *kind*.
    """
    pa, pc = _arrow()
    values, scale = _comparable(column, kind)
    if kind == "text":
        among = pa.array(members, values.type)
    elif kind == "boolean":
        among = pa.array([member == "true" for member in members], values.type)
    elif scale is None:
        code = _FLOAT_CODE[str(column.type)]
        floats = [_rounded(float(member), code) for member in members]
        among = pa.array([f for f in floats if math.isfinite(f)], values.type)
        values = pc.add(values, pa.scalar(0.0, values.type))
    else:
        least, most = _limits(values.type)
        exact = [Fraction(member) * scale for member in members]
        whole = [int(n) for n in exact if n.denominator == 1 and least <= n <= most]
        among = pa.array([_scalar(n, values.type).as_py() for n in whole], values.type)
    return pc.is_in(values, value_set=among)


def _comparable(column: Arrow, kind: str) -> tuple[Arrow, int | Fraction | None]:
    """
    Return the values to compare, and how many units of theirs make one of the parameter's.

    The number of units is None for floating-point values.
    """
    pa, _ = _arrow()
    types, found = pa.types, column.type
    match kind:
        case "number" if types.is_integer(found):
            return column, 1
        case "number" if types.is_floating(found):
            return column.cast(pa.float64()), None
        case "number" if types.is_decimal(found):
            return column, Fraction(10) ** found.scale
        case "text" if types.is_large_string(found) or types.is_string(found):
            return column, None
        case "boolean" if types.is_boolean(found):
            return column, None
        case "date" if types.is_date32(found):
            return column.cast(pa.int32()), 1
        case "date" if types.is_date64(found):
            return column.cast(pa.int64()), _DAY_MS
        case "instant" if types.is_timestamp(found) and found.tz is not None:
            return column.cast(pa.int64()), _PER_SECOND[found.unit]
        case "datetime" if types.is_timestamp(found) and found.tz is None:
            return column.cast(pa.int64()), _PER_SECOND[found.unit]
    raise Mismatch(f"its type is {found}, which does not compare with a {kind}")


def _number(kind: str, text: str) -> Fraction:
    """Return a parameter as a number: of days, or of seconds since 1970."""
    match kind:
        case "date":
            return Fraction((date.fromisoformat(text) - date(1970, 1, 1)).days)
        case "instant":
            since = parse_time(text) - parse_time("1970-01-01T00:00:00.000000Z")
        case "datetime":
            since = datetime.fromisoformat(text) - datetime(1970, 1, 1)  # noqa: DTZ001  a time without a zone is the point
        case _:
            return Fraction(text)
    return Fraction((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds, 10**6)


def _limits(kind: Arrow) -> tuple[int, int]:
    pa, _ = _arrow()
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**kind.bit_width - 1
    return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1


def _scalar(units: int, kind: Arrow) -> Arrow:
    pa, _ = _arrow()
    if pa.types.is_decimal(kind):
        digits = tuple(map(int, str(abs(units))))
        return pa.scalar(Decimal((int(units < 0), digits, -kind.scale)), kind)
    return pa.scalar(units, kind)


def _rounded(number: float, code: str) -> float:
    """Return the nearest number of a narrower type; itself where it is out of range."""
    try:
        return float(struct.unpack(f"<{code}", struct.pack(f"<{code}", number))[0])
    except OverflowError:
        return number


def _low_float(text: str, code: str) -> float:
    number = _rounded(float(text), code)
    return math.nextafter(number, 0.0) if number == -math.inf else number


def _high_float(text: str, code: str) -> float:
    number = _rounded(float(text), code)
    return math.nextafter(number, 0.0) if number == math.inf else number


def _arrow() -> tuple[Arrow, Arrow]:
    purpose = "to check a table"
    return require("pyarrow", purpose=purpose), require("pyarrow.compute", purpose=purpose)
