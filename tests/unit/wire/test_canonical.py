"""Facts about `secureml.wire.canonical`: one spelling, and strict reading of any other."""

import enum
import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest
import rfc8785

from secureml.errors import FormatError
from secureml.wire import canonical
from secureml.wire.canonical import JSON

VECTORS = Path(__file__).parents[3] / "vectors" / "canonical"
ACCEPTED = sorted(VECTORS.glob("[!r]*.json")) + sorted(VECTORS.glob("rfc*.json"))
REFUSED: dict[str, str] = json.loads((VECTORS / "refused.json").read_text())["inputs"]


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_official_vectors(path: Path) -> None:
    """The test data of RFC 8785 comes out as published."""
    vector = json.loads(path.read_text())

    assert vector["source"]
    assert vector["expect"].encode() == canonical.encode(canonical.parse(vector["input"].encode()))
    assert vector["expect"].encode() == canonical.encode(
        canonical.decode(vector["expect"].encode())
    )


@pytest.mark.parametrize("name", REFUSED)
def test_other_spellings_are_refused(name: str) -> None:
    """Each rule of the canonical form, broken once, is refused."""
    with pytest.raises(FormatError):
        canonical.decode(REFUSED[name].encode())


@pytest.mark.parametrize(
    "value",
    [
        {"\ufb33": 1, "\U0001f602": 2, "a": 3},
        {"\ud7ff": 1, "\ue000": 2, "\U00010000": 3, "\U0010ffff": 4, "\uffff": 5},
        [{"k": [None, True, False, 0, -1, 2**53 - 1, 1 - 2**53]}],
        "".join(map(chr, range(0x80))) + "\u2028\u2029\u007f",
        {"": {"": [[], {}]}},
    ],
    ids=count(),
)
def test_agrees_with_rfc8785(value: JSON) -> None:
    """An independent implementation of RFC 8785 makes the same bytes."""
    assert rfc8785.dumps(value) == canonical.encode(value)


@pytest.mark.parametrize(
    "value",
    [1.5, [0.0], {"a": float("nan")}, {1: 2}, {None: 1}, {"a": {True: 1}}, b"x", {1, 2}, object()],
    ids=count(),
)
def test_other_types_are_a_type_error(value: object) -> None:
    """A float, a key that is no string, or a type that is not JSON is a `TypeError`."""
    with pytest.raises(TypeError):
        canonical.encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), 10**6000, "\ud800", {"\udfff": 1}, {"\udfff": 1, "\U00010000": 2}],
    ids=["above", "below", "far above", "surrogate", "key", "key beyond U+FFFF"],
)
def test_values_out_of_range_are_a_value_error(value: JSON) -> None:
    """An integer beyond 2**53 - 1 or a lone surrogate is a `ValueError`."""
    with pytest.raises(ValueError, match=r"."):
        canonical.encode(value)


def test_a_value_that_contains_itself_is_a_value_error() -> None:
    """A cycle ends in an error and not in a loop."""
    value: list[JSON] = []
    value.append([value, value])

    with pytest.raises(ValueError, match="contains itself"):
        canonical.encode(value)


def test_mappings_tuples_and_subclasses_encode_as_what_they_are() -> None:
    """A mapping is an object, a tuple an array, an `IntEnum` a number, a `StrEnum` a string."""

    class Number(enum.IntEnum):
        ONE = 1

    class Word(enum.StrEnum):
        A = "a"

    value: JSON = MappingProxyType({"t": (Number.ONE, Word.A), "\U00010000": MappingProxyType({})})

    assert '{"t":[1,"a"],"\U00010000":{}}'.encode() == canonical.encode(value)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}], ids=["array", "object"])
def test_depth_is_bounded_alike_in_both_directions(wrap: Callable[[JSON], JSON]) -> None:
    """64 levels are accepted, 65 refused, by `encode`, `decode` and `parse`."""
    value: JSON = 1
    for _ in range(64):
        value = wrap(value)
    data = canonical.encode(value)

    assert value == canonical.decode(data)
    with pytest.raises(ValueError, match="64 levels"):
        canonical.encode(wrap(value))
    with pytest.raises(FormatError, match="64 levels"):
        canonical.parse(json.dumps(wrap(value)).encode())


@pytest.mark.parametrize(
    "data",
    [b"[" * 500_000, b'{"a":' * 500_000, b"[" * 70 + b"]" * 70],
    ids=["arrays", "objects", "closed"],
)
def test_very_deep_input_is_refused(data: bytes) -> None:
    """Nesting without end is refused, and does not end the process."""
    with pytest.raises(FormatError):
        canonical.parse(data)


def test_a_very_deep_value_is_a_value_error() -> None:
    """`encode` refuses a value that is too deep for the reader's stack."""
    value: JSON = []
    for _ in range(200_000):
        value = [value]

    with pytest.raises(ValueError, match="64 levels"):
        canonical.encode(value)
    while isinstance(value, list) and value:
        value = value.pop()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff", "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b'"\x00"', "not JSON"),
        ("1".encode("utf-16"), "UTF-8"),
        (b"NaN", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"1e999", "too large"),
        (b"-1e999", "too large"),
        (b"1" * 5000, "thousands of digits"),
        (b'{"a":1,"b":2,"a":3}', "'a' appears twice"),
        (b'["\\ud800x"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"", "not JSON"),
        (b"1 2", "not JSON"),
    ],
    ids=count(),
)
def test_parse_refuses(data: bytes, why: str) -> None:
    """What is no JSON, or says two things at once, is refused with its reason."""
    with pytest.raises(FormatError, match=why) as caught:
        canonical.parse(data, what="the thing")

    assert caught.value.what == "the thing is malformed"


def test_parse_takes_any_spelling() -> None:
    """Spaces, order, escapes and floats are the writer's choice."""
    data = b' {"b": 1.5e1, "a": "\\u0041\\ud83d\\ude02\\/\\\\ud800", "c":[-0, 1e-9]} '

    assert canonical.parse(data) == {"b": 15.0, "a": "A\U0001f602/\\ud800", "c": [0, 1e-9]}


def test_decode_says_where_the_spelling_differs() -> None:
    """The error names the first byte that is spelled otherwise."""
    with pytest.raises(FormatError, match="from byte 5 on"):
        canonical.decode(b'{"a": 1}')
    with pytest.raises(FormatError, match="from byte 7 on"):
        canonical.decode(b'{"a":1}\n')


def test_parse_is_near_the_speed_of_the_c_reader() -> None:
    """Strict reading costs at most a few times what `json.loads` does."""
    data = json.dumps([{"index": i, "name": f"row {i}"} for i in range(20_000)]).encode()

    def cost(read: Callable[[bytes], object]) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            read(data)
            times.append(time.process_time() - start)
        return min(times)

    assert cost(canonical.parse) < 8 * cost(json.loads)
