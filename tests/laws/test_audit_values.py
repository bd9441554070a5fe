# ruff: noqa: ANN401  fixtures and hostile values are of any type, and some are not read
"""Laws of audit values: one spelling, read back, and no two values with the same bytes."""

import contextlib
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secureml.audit.decoding import decode, plain
from secureml.audit.value import Array, Object, Table, commit, encode
from secureml.errors import FormatError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
YEAR = datetime(1000, 1, 1)  # noqa: DTZ001  a bound

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-300, 300),
    st.floats(),
    st.complex_numbers(),
    TEXT,
    st.binary(max_size=12),
    st.uuids(),
    st.dates(min_value=date(1000, 1, 1)),
    st.times(),
    st.timedeltas(),
    st.datetimes(min_value=YEAR),
    st.datetimes(min_value=YEAR, timezones=st.just(UTC)),
    st.decimals(),
    st.builds(lambda n: Array("<u2", (n,), bytes(2 * n)), st.integers(0, 4)),
    st.builds(lambda n: Table("tableDigest1:" + "ab" * 32, n, (("a", "int64"),)), st.integers(0)),
)
hashable = st.one_of(st.none(), st.integers(), TEXT, st.binary(max_size=4), st.dates())
values = st.recursive(
    leaves | st.frozensets(hashable, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.builds(Object, TEXT, st.dictionaries(TEXT, inner, max_size=3))
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    """Return whether two values are the same, NaN and the sign of zero included."""
    if type(a) is not type(b):
        return False
    match a:
        case float():
            return (math.isnan(a) and math.isnan(b)) or (
                a == b and math.copysign(1, a) == math.copysign(1, b)
            )
        case complex():
            return same(a.real, b.real) and same(a.imag, b.imag)
        case Decimal():
            return str(a) == str(b)
        case list():
            return len(a) == len(b) and all(map(same, a, b))
        case dict():
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        case Object():
            return a.type == b.type and same(dict(a.fields), dict(b.fields))
        case datetime() | time():
            return a.replace(fold=0) == b.replace(fold=0)
        case _:
            return bool(a == b)


@given(values)
def test_a_value_is_read_back(value: object) -> None:
    """Decoding gives back every value that can be encoded."""
    assert same(value, decode(encode(value)))


@given(values, values)
def test_bytes_are_equal_where_values_are(a: object, b: object) -> None:
    """Two values have the same bytes only if they are the same value."""
    assert same(a, b) == (encode(a) == encode(b))


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_refused_or_canonical(data: bytes) -> None:
    """Bytes are refused with FormatError, or are their own spelling."""
    with contextlib.suppress(FormatError):
        assert data == encode(decode(data))


@given(values, st.data())
def test_changed_bytes_are_refused_or_another_value(value: object, data: st.DataObject) -> None:
    """A byte changed anywhere is refused, or is the one spelling of something else."""
    encoded = bytearray(encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))

    with contextlib.suppress(FormatError):
        assert bytes(encoded) == encode(decode(bytes(encoded)))


@given(st.dictionaries(TEXT, leaves, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, object], random: Any) -> None:
    """A mapping has one spelling, whatever order it was made in."""
    keys = list(value)
    random.shuffle(keys)

    assert encode(value) == encode({key: value[key] for key in keys})


@given(values)
def test_the_plain_form_can_be_encoded(value: object) -> None:
    """What JSON would know of a value is a value again, and its own plain form."""
    once = plain(decode(encode(value)))

    assert encode(once) == encode(plain(once))


@given(values, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_commitment_needs_its_salt(value: object, salt: bytes, other: bytes) -> None:
    """One value has one commitment under a salt, and another under another."""
    encoded = encode(value)

    assert commit(salt, encoded) == commit(salt, encoded)
    assert (salt == other) == (commit(salt, encoded) == commit(other, encoded))


@given(st.timedeltas())
def test_durations_are_exact(value: timedelta) -> None:
    """A duration is its microseconds, to the last one."""
    assert value == decode(encode(value))
