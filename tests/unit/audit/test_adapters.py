# ruff: noqa: ANN401  fixtures and hostile values are of any type, and some are not read
"""Values of other libraries become what the specification says."""

import enum
import json
import math
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from secureml.audit.decoding import decode, plain
from secureml.audit.value import MAX_DEPTH, MAX_SIZE, Array, Object, Table, commit, encode

np = pytest.importorskip("numpy")


class Verdict(enum.Enum):
    """A plain enumeration."""

    BENIGN = "B"


class Level(enum.IntEnum):
    """An enumeration of numbers."""

    HIGH = 3


@dataclass
class Row:
    """A dataclass."""

    radius: float
    next: "Row | None" = None


Point = namedtuple("Point", "x y")  # noqa: PYI024  the plain one


def same(a: object, b: object) -> None:
    """Both are the same value."""
    assert encode(a) == encode(b)


def test_subclasses_are_their_base() -> None:
    """Subclasses of plain types, named tuples and enumerations are what they hold."""
    same(Verdict.BENIGN, "B")
    same(Level.HIGH, 3)
    same(Point(1, 2), [1, 2])
    same((1, 2), [1, 2])
    same(OrderedDict(b=1, a=2), {"a": 2, "b": 1})
    same(UserDict(a=1), {"a": 1})
    same(MappingProxyType({"a": 1}), {"a": 1})
    same(bytearray(b"x"), b"x")
    same(memoryview(b"x"), b"x")
    same(frozenset({1}), {1})


def test_different_values_differ() -> None:
    """Values that a text form would mix up are told apart."""
    values = [
        None, False, True, 0, 1, 0.0, -0.0, 1.0, "", "1", b"1", [], {}, set(), [1], [[1]],
        {"1": 1}, [1, [2]], [[1], 2], "None", math.nan, math.inf, 1j,
    ]  # fmt: skip

    assert len(values) == len({encode(value) for value in values})


def test_times_are_in_utc() -> None:
    """A time with a zone is the moment it names."""
    zone = timezone(timedelta(hours=2))
    same(datetime(2026, 1, 1, 2, tzinfo=zone), datetime(2026, 1, 1, tzinfo=UTC))
    assert encode(datetime(2026, 1, 1)) != encode(datetime(2026, 1, 1, tzinfo=UTC))  # noqa: DTZ001
    with pytest.raises(TypeError, match="time of day with a time zone"):
        encode(time(1, tzinfo=UTC))


def test_objects_keep_their_type() -> None:
    """A dataclass is its type's name and its fields."""
    found = decode(encode(Row(1.5, Row(2.5))))

    assert isinstance(found, Object)
    assert found.type.endswith("test_adapters.Row")
    assert plain(found) == {"radius": 1.5, "next": {"radius": 2.5, "next": None}}


def test_pydantic_and_attrs() -> None:
    """Models of pydantic and attrs are objects too, extra fields included."""
    pydantic = pytest.importorskip("pydantic")

    class Patient(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        id: int

    assert plain(decode(encode(Patient(id=7, more="x")))) == {"id": 7, "more": "x"}

    class Attrs:
        __attrs_attrs__ = (SimpleNamespace(name="a"),)
        a = 1

    assert plain(decode(encode(Attrs()))) == {"a": 1}


@pytest.mark.parametrize(
    "value", [object(), lambda: 1, SimpleNamespace(a=1), Row, json, (x for x in ()), ..., range(3)]
)
def test_unknown_types_are_refused(value: object) -> None:
    """What has no encoding is refused, naming path and type, and never its content."""
    with pytest.raises(TypeError, match=r"'row\.\*\[1\]' is of type"):
        encode({"a": [0, value]}, path="row")


def test_keys_are_text() -> None:
    """A mapping with other keys is refused, without showing the key."""
    with pytest.raises(TypeError, match="has a key of type int") as caught:
        encode({12345: 1})

    assert "12345" not in str(caught.value)


def test_a_key_twice() -> None:
    """A mapping of somebody's own that gives one key twice is refused."""

    class Twice(Mapping[str, int]):
        def __iter__(self) -> Iterator[str]:
            return iter(["a", "a"])

        def __len__(self) -> int:
            return 2

        def __getitem__(self, key: str) -> int:
            return 1

    with pytest.raises(ValueError, match="one key twice"):
        encode(Twice())


def test_cycles_and_depth() -> None:
    """A value that contains itself, or is nested too deep, is refused."""
    cycle: list[object] = []
    cycle.append(cycle)
    deep: object = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]

    assert deep == decode(encode(deep))
    for value in (cycle, [deep], {"a": deep}, {"self": cycle}):
        with pytest.raises(ValueError, match="nested deeper than 64"):
            encode(value)


def test_a_cycle_of_objects() -> None:
    """So is an object that contains itself."""
    row = Row(1.0)
    row.next = row
    with pytest.raises(ValueError, match="nested deeper"):
        encode(row)


def test_large_values() -> None:
    """A value of 16 MiB is the largest."""
    fits = b"x" * (MAX_SIZE - 9)

    assert len(encode(fits)) == MAX_SIZE
    for value in (fits + b"x", [fits], {"a": fits}, {fits}):
        with pytest.raises(ValueError, match="larger than 16 MiB"):
            encode(value)


def test_text_without_surrogates() -> None:
    """A lone surrogate is no text, neither as a value nor as a key."""
    for value in ("\ud800", {"\ud800": 1}):
        with pytest.raises(ValueError, match="lone surrogate"):
            encode(value)


def test_a_salt_has_32_bytes() -> None:
    """A commitment with a short salt is refused."""
    with pytest.raises(ValueError, match="32 bytes"):
        commit(b"short", b"")


def test_numpy_scalars_are_numbers() -> None:
    """A numpy scalar is the number that it is."""
    same(np.float64(0.5), 0.5)
    same(np.float32(0.5), 0.5)
    same(np.float16(0.5), 0.5)
    same(np.int8(-3), -3)
    same(np.uint64(2**63), 2**63)
    assert encode(np.bool_(1)) == encode(value=True)
    same(np.str_("a"), "a")
    same(np.bytes_(b"a"), b"a")
    same(np.complex64(1 + 2j), 1 + 2j)
    same(np.datetime64("2026-01-01"), np.array("2026-01-01", "M8[D]"))
    with pytest.raises(TypeError, match="differs between machines"):
        encode(np.longdouble(1))


def test_numpy_arrays() -> None:
    """Arrays are their type, shape and little-endian bytes, however they lie in memory."""
    array = np.arange(6, dtype="<f8").reshape(2, 3)

    assert Array("<f8", (2, 3), array.tobytes()) == decode(encode(array))
    same(array, array.astype(">f8"))
    same(array, np.asfortranarray(array))
    same(array, np.repeat(array, 2, axis=0)[::2])
    assert encode(array) != encode(array.reshape(3, 2))
    assert encode(array) != encode(array.astype("f4"))
    same(np.array([1, "a", None], dtype=object), [1, "a", None])
    assert plain(decode(encode(array))) == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert plain(decode(encode(np.zeros((0, 3))))) == []
    assert plain(decode(encode(np.zeros((2, 0))))) == []
    assert plain(decode(encode(np.array(5)))) == 5
    assert plain(decode(encode(np.array([True])))) == [True]
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"):
        found = decode(encode(np.ones(2, dtype=kind)))
        assert isinstance(found, Array)
        assert found.is_whole()
    for text in (np.array(["ab", "c"]), np.array([b"ab"]), np.array(["2026"], dtype="M8[25s]")):
        assert isinstance(decode(encode(text)), Array)


@pytest.mark.filterwarnings("ignore:The 'generic' unit:DeprecationWarning")
def test_numpy_arrays_that_are_refused() -> None:
    """Masked and structured arrays, long doubles and times without a unit have no encoding."""
    for value in (
        np.ma.masked_array([1, 2], mask=[0, 1]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ones(2, dtype=np.longdouble),
        np.array(["NaT"], dtype="M8"),
        Array(">f8", (1,), bytes(8)),
        Array("<f8", (2,), bytes(8)),
    ):
        with pytest.raises(TypeError, match="'value' is"):
            encode(value)


def test_torch_tensors() -> None:
    """A tensor is the array it holds; bfloat16 has a name of its own."""
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[1.0, 2.0]], requires_grad=True)

    same(tensor, np.array([[1.0, 2.0]], dtype="f4"))
    same(torch.tensor(3), np.array(3))
    same(tensor.T, np.array([[1.0], [2.0]], dtype="f4"))
    found = decode(encode(torch.tensor([1.0, -2.0], dtype=torch.bfloat16)))
    assert Array("bfloat16", (2,), bytes.fromhex("803f00c0")) == found
    assert found == plain(found)
    with pytest.raises(TypeError, match="sparse or quantised"):
        encode(tensor.detach().to_sparse())


def test_pandas_rows_and_series() -> None:
    """A row of a frame is a map, a column with the usual labels a list."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"radius": [1.5, 2.5], "size": [3.0, 4.0]})

    same(frame.iloc[0], {"radius": 1.5, "size": 3.0})
    same(frame["radius"], [1.5, 2.5])
    same(pd.Series([1, None], dtype="Int64"), [1, None])
    same(pd.NA, None)
    same(pd.NaT, None)
    same([pd.NaT], [None])
    same(pd.Timestamp("2026-01-01", tz="UTC"), datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(TypeError, match="nanoseconds"):
        encode(pd.Timestamp("2026-01-01T00:00:00.000000001"))
    with pytest.raises(TypeError, match="labels"):
        encode(frame["radius"].iloc[::-1])
    with pytest.raises(TypeError, match="labels"):
        encode(pd.Series([1, 2], index=["a", "a"]))


def test_tables_are_named_by_their_content() -> None:
    """One content has one name, in pandas, Arrow and polars alike."""
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"radius": [1.5, 2.5], "name": ["a", "b"]})

    found = decode(encode(table))

    assert isinstance(found, Table)
    assert (found.rows, tuple(name for name, _ in found.columns)) == (2, ("radius", "name"))
    same(table, pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    same(table, pa.RecordBatch.from_pylist(table.to_pylist()))
    same(table, pd.DataFrame({"radius": [1.5, 2.5], "name": ["a", "b"]}))
    assert encode(table) != encode(table.slice(1))
    same(pa.scalar(5), 5)
    same(pa.array([1, None]), [1, None])
    same(pa.chunked_array([[1], [2]]), [1, 2])


def test_polars_frames() -> None:
    """A polars frame is its table, a series its list."""
    pl = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")

    same(pl.DataFrame({"a": [1, 2]}), pa.table({"a": [1, 2]}))
    same(pl.Series([1, None]), [1, None])


def test_plain_values_need_no_library(bare: Any) -> None:
    """Encoding a value imports no library for it."""
    code = (
        "from secureml.audit.value import encode; encode({'a': [1, 2.5, None]}); "
        "print(sorted(set(sys.modules) & {'numpy', 'pandas', 'pyarrow', 'torch', 'pydantic'}))"
    )

    assert bare(code).strip() == "[]"
