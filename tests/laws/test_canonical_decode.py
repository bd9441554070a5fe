"""Laws of reading canonical JSON: the quick way accepts what the careful way does, and no more."""

import json
import math
import re
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.errors import FormatError
from secureml.wire import canonical
from secureml.wire.canonical import JSON, MAX_DEPTH, MAX_INT

# The algorithm of the first release, kept whole: every key checked for a second one on the
# way in, and every value walked in Python on the way out.


class RefusedError(ValueError):
    """What the first release refused."""


def pairs(found: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Refuse a key that is there twice."""
    if len(dict(found)) != len(found):
        raise RefusedError
    return dict(found)


def finite(digits: str) -> float:
    """Refuse infinity."""
    if math.isfinite(float(digits)):
        return float(digits)
    raise RefusedError


def constant(_: str) -> NoReturn:
    """Refuse NaN."""
    raise RefusedError


READER = json.JSONDecoder(object_pairs_hook=pairs, parse_float=finite, parse_constant=constant)


def walk(value: JSON, depth: int = 0) -> None:
    """Refuse floats, large integers and deep nesting."""
    if depth >= MAX_DEPTH and isinstance(value, dict | list):
        raise RefusedError
    if isinstance(value, float):
        raise RefusedError
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        raise RefusedError
    for item in value.values() if isinstance(value, dict) else ():
        walk(item, depth + 1)
    for item in value if isinstance(value, list) else ():
        walk(item, depth + 1)


def ordered(value: JSON) -> JSON:
    """Sort keys by UTF-16 code units."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: ordered(value[key]) for key in keys}
    return [ordered(item) for item in value] if isinstance(value, list) else value


def first_release(data: bytes) -> JSON:
    """Read canonical JSON as the first release did."""
    try:
        value: JSON = READER.decode(data.decode())
        walk(value)
        again = json.dumps(ordered(value), ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        raise RefusedError from None
    if again != data:
        raise RefusedError
    return value


def same(data: bytes) -> bool:
    """Compare both; return whether the bytes were accepted."""
    try:
        expected = first_release(data)
    except RefusedError:
        with pytest.raises(FormatError):
            canonical.decode(data)
        return False
    found = canonical.decode(data)
    assert repr(expected) == repr(found)
    return True


KEYS = st.text(alphabet='ab"\\/\x00\n\x7f\xe9\ud7ff\ue000\uffff\U00010000', max_size=3)
NUMBERS = st.integers() | st.integers(2**53 - 3, 2**53 + 3) | st.floats() | st.just(-0.0)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SPELLINGS = st.builds(
    json.dumps,
    VALUES,
    ensure_ascii=st.booleans(),
    sort_keys=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ":"), (",", ": ")]),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=40) | SPELLINGS)
def test_the_quick_way_accepts_what_the_careful_way_does(data: bytes) -> None:
    """Arbitrary bytes, and arbitrary spellings of values, get the verdict of the first release."""
    same(data)


@given(VALUES, st.data())
def test_canonical_bytes_are_accepted_and_changed_ones_judged_alike(
    value: JSON, data: st.DataObject
) -> None:
    """One byte replaced, put in or left out changes the verdict of both in the same way."""
    try:
        spelled = canonical.encode(value)
    except (TypeError, ValueError):
        return
    assert same(spelled)
    place = data.draw(st.integers(0, len(spelled)))
    byte = bytes([data.draw(st.sampled_from(b'{}[]",:0123456789eE.-+ \\unft\x00\xff\xc3'))])
    same(spelled[:place] + byte + spelled[place:])
    same(spelled[:place] + byte + spelled[place + 1 :])
    same(spelled[:place] + spelled[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":1,"a":2}',
        '{"b":1,"a":1}',
        '{"a":{"x":1,"x":1}}',
        "1.0",
        "1e2",
        "-0",
        "01",
        "9007199254740991",
        "-9007199254740991",
        "9007199254740992",
        "-9007199254740992",
        "9" * 5000,
        "NaN",
        "[Infinity]",
        "-Infinity",
        r'"\ud800"',
        r'"\ud83d\ude02"',
        '"\U0001f602"',
        '{"\ue000":1,"\U00010000":2}',
        '{"\U00010000":2,"\ue000":1}',
        r'"\u000A"',
        r'"\n"',
        r'"\u007f"',
        '"\x7f"',
        r'"\/"',
        '"/"',
        "[" * 64 + "]" * 64,
        "[" * 65 + "]" * 65,
        "[" * 66 + "]" * 66,
        "[" * 100_000,
        '["' + "[" * 100 + '"]',
        "",
        " 1",
        "1 ",
        "1\n",
        "\ufeff1",
        "null",
        "truefalse",
        '{"a":1}{}',
        '{"a":1,}',
        "[1,]",
        '"\t"',
    ],
)
def test_each_rule_is_judged_alike(text: str) -> None:
    """Each rule of the canonical form, kept and broken, has the verdict it always had."""
    same(text.encode("utf-8", "surrogatepass"))


def test_the_order_of_utf_16_is_kept() -> None:
    """Keys beyond U+FFFF sort before U+E000, as RFC 8785 says."""
    assert same('{"\U00010000":2,"\ue000":1}'.encode())
    assert not same('{"\ue000":1,"\U00010000":2}'.encode())
    assert re.search(r"another spelling", _why('{"\ue000":1,"\U00010000":2}'.encode()))


def _why(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        canonical.decode(data)
    return caught.value.why
