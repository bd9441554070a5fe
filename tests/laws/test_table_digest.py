"""
Laws of the table digest: L2 (layout does not matter) and L3 (content does).

The expected digests are those of a second implementation, ``table_reference.py``.
"""

import contextlib
import decimal
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from secureml.hashing import (
    TableHasher,
    canonical_schema,
    canonicalise,
    digest_and_canonicalise,
    table_digest,
)
from secureml.wire import tabledigest

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")

_spec = spec_from_file_location("table_reference", Path(__file__).parent / "table_reference.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="table_reference")
ref = module_from_spec(_spec)
_spec.loader.exec_module(ref)

Arrow: TypeAlias = Any
UNITS = ["s", "ms", "us", "ns"]
ZONES = [None, "UTC", "+00:00", "Europe/Berlin"]


def integers(low: int, high: int) -> st.SearchStrategy[Arrow]:
    """Draw integers, with the ends of the range among them."""
    return st.integers(low, high) | st.sampled_from([low, high, 0])


def flat_types() -> st.SearchStrategy[Arrow]:
    """Draw a type without children."""
    names = "null bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
    plain_types = [getattr(pa, name)() for name in names.split()]
    plain_types += [pa.date32(), pa.date64(), pa.string(), pa.binary()]
    plain_types += [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
    plain_types += [pa.duration(unit) for unit in UNITS]
    return st.one_of(
        st.sampled_from(plain_types),
        st.builds(pa.timestamp, st.sampled_from(UNITS), st.sampled_from(ZONES)),
        st.builds(pa.binary, st.integers(0, 5)),
        st.integers(1, 38).flatmap(lambda p: st.builds(pa.decimal128, st.just(p), scales(p))),
        st.integers(1, 76).flatmap(lambda p: st.builds(pa.decimal256, st.just(p), scales(p))),
    )


def scales(precision: int) -> st.SearchStrategy[int]:
    """Draw a scale that the precision allows."""
    return st.integers(0, precision)


def nest(inner: st.SearchStrategy[Arrow]) -> st.SearchStrategy[Arrow]:
    """Draw a type with children of *inner* types."""
    names = st.lists(
        st.text(st.sampled_from('ab<>,:"\u00e9\n'), max_size=3), unique=True, max_size=3
    )
    keys = st.sampled_from([pa.int8(), pa.string()])
    return st.one_of(
        st.builds(pa.list_, inner),
        st.builds(pa.list_, inner, st.integers(0, 3)),
        st.builds(pa.map_, keys, inner),
        names.flatmap(
            lambda n: st.tuples(*[inner] * len(n)).map(
                lambda kinds: pa.struct(list(zip(n, kinds, strict=True)))
            )
        ),
    )


FLAT = flat_types()
NESTED = st.recursive(FLAT, nest, max_leaves=4)
TYPES = st.sampled_from([FLAT, FLAT, NESTED]).flatmap(lambda kinds: kinds)


def present(kind: Arrow) -> st.SearchStrategy[Arrow]:
    """Draw a value of a type that is not null, as pyarrow takes it."""
    t = pa.types
    if t.is_boolean(kind):
        return st.booleans()
    if t.is_integer(kind):
        return integers(*integer_range(kind))
    if t.is_floating(kind):
        return st.floats(width=kind.bit_width) | st.sampled_from([0.0, -0.0, float("nan")])
    if t.is_string(kind):
        return st.text(max_size=4)
    if t.is_fixed_size_binary(kind) and not t.is_decimal(kind):
        return st.binary(min_size=kind.byte_width, max_size=kind.byte_width)
    if t.is_binary(kind):
        return st.binary(max_size=4)
    if t.is_decimal(kind):
        top = 10**kind.precision - 1
        return integers(-top, top).map(
            lambda n: decimal.Decimal((n < 0, tuple(map(int, str(abs(n)))), -kind.scale))
        )
    if t.is_date64(kind):
        return st.integers(-(10**4), 10**4).map(lambda day: day * 86_400_000)
    if t.is_time(kind):
        return st.integers(0, 86_399)
    if t.is_temporal(kind):
        return st.integers(-(10**6), 10**6)
    if t.is_struct(kind):
        fields = {kind.field(i).name: values(kind.field(i).type) for i in range(kind.num_fields)}
        return st.fixed_dictionaries(fields)
    if t.is_map(kind):
        return st.lists(st.tuples(present(kind.key_type), values(kind.item_type)), max_size=2)
    size = kind.list_size if t.is_fixed_size_list(kind) else None
    return st.lists(
        values(kind.value_type), min_size=size or 0, max_size=3 if size is None else size
    )


def integer_range(kind: Arrow) -> tuple[int, int]:
    """Return the least and the greatest value of an integer type."""
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**kind.bit_width - 1
    return -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1


def values(kind: Arrow) -> st.SearchStrategy[Arrow]:
    """Draw a value of a type, or null."""
    return st.none() if pa.types.is_null(kind) else st.none() | present(kind)


@st.composite
def disguised(draw: st.DrawFn, array: Arrow) -> Arrow:
    """Draw a chunked array with the values of *array* in another physical form."""
    padding = array.slice(0, draw(st.integers(0, 3)))
    array = pa.concat_arrays([padding, array, padding]).slice(len(padding), len(array))
    if draw(st.booleans()):
        array = with_garbage(array)
    form = draw(st.sampled_from([None, *re_encodings(array.type)]))
    if form is not None:
        with contextlib.suppress(pa.ArrowNotImplementedError):
            array = form(array) if callable(form) else pc.cast(array, form)
    cuts = sorted(draw(st.lists(st.integers(0, len(array)), max_size=3)))
    edges = [0, *cuts, len(array)]
    chunks = [array.slice(a, b - a) for a, b in pairwise(edges)]
    return pa.chunked_array(chunks, type=array.type)


def re_encodings(kind: Arrow) -> list[Arrow]:
    """Return types and functions that keep the values of an array of this type."""
    t = pa.types
    if t.is_string(kind):
        return [pa.large_string(), pa.string_view(), shuffled_dictionary]
    if t.is_binary(kind) and not t.is_fixed_size_binary(kind):
        return [pa.large_binary(), pa.binary_view(), shuffled_dictionary]
    if t.is_decimal(kind):
        return [pa.decimal256(kind.precision, kind.scale)]
    if t.is_integer(kind):
        return [shuffled_dictionary, pc.run_end_encode]
    if t.is_list(kind):
        return [large_list, list_view]
    return []


def shuffled_dictionary(array: Arrow) -> Arrow:
    """Encode with a dictionary that is in reverse order and holds unused and null entries."""
    encoded = array.dictionary_encode()
    words = encoded.dictionary
    extra = pa.nulls(1, array.type)
    turned = words.take(pa.array(range(len(words) - 1, -1, -1), pa.int64()))
    dictionary = pa.concat_arrays([extra, turned, turned])
    indices = pc.subtract(pa.scalar(len(words), pa.int32()), encoded.indices)
    return pa.DictionaryArray.from_arrays(indices, dictionary)


def large_list(array: Arrow) -> Arrow:
    """Return a list array with 64-bit offsets; pyarrow's own cast breaks nested lists."""
    count = array.offset + len(array) + 1
    offsets = pa.Array.from_buffers(pa.int32(), count, [None, array.buffers()[1]]).cast(pa.int64())
    return pa.Array.from_buffers(
        pa.large_list(array.type.value_type),
        len(array),
        [array.buffers()[0], offsets.buffers()[1]],
        -1,
        array.offset,
        [array.values],
    )


def list_view(array: Arrow) -> Arrow:
    """Return a list array as views: offsets and sizes."""
    count = array.offset + len(array)
    offsets = pa.Array.from_buffers(pa.int32(), count + 1, [None, array.buffers()[1]])
    sizes = pc.subtract(offsets.slice(1), offsets.slice(0, count))
    return pa.Array.from_buffers(
        pa.list_view(array.type.value_type),
        len(array),
        [*array.buffers()[:2], sizes.buffers()[1]],
        -1,
        array.offset,
        [array.values],
    )


def with_garbage(array: Arrow) -> Arrow:
    """Leave real values under the nulls of *array*, as `from_pandas` and engines do."""
    some = array.drop_null()
    kind = array.type
    if array.null_count == 0 or len(some) == 0 or pa.types.is_map(kind):
        return array
    full = array.drop_null().take(pa.array([i % len(some) for i in range(len(array))], pa.int64()))
    valid = pc.is_valid(array).to_pylist()
    full = pc.if_else(pa.array(valid), array, full)
    if full.null_count or full.offset:
        return array
    if pa.types.is_nested(kind):
        fields = range(kind.num_fields)
        is_struct = pa.types.is_struct(kind)
        children = [full.field(i) for i in fields] if is_struct else [full.values]
        own = full.buffers()[1:2] if pa.types.is_list(kind) else []
    else:
        children, own = [], full.buffers()[1:]
    return pa.Array.from_buffers(
        kind, len(full), [pa.py_buffer(ref.bits(valid)), *own], -1, 0, children
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[Arrow, Arrow]:
    """Draw a table as pyarrow builds it, and the same table in disguise."""
    names = draw(st.lists(st.text(max_size=3), unique=True, max_size=3))
    rows = draw(st.integers(0, 20))
    straight, other, full = {}, {}, {}
    for name in names:
        kind = draw(TYPES)
        drawn = draw(st.lists(values(kind), min_size=rows, max_size=rows))
        straight[name] = pa.array(drawn, kind)
        other[name] = draw(disguised(straight[name]))
        full[name] = straight[name].null_count == 0 and not pa.types.is_null(kind)
    fields = [
        pa.field(name, column.type, not full[name], {"note": draw(st.text(max_size=3))})
        for name, column in other.items()
    ]
    schema = pa.schema(fields, metadata={"pandas": draw(st.text(max_size=3))})
    return pa.table(straight), pa.Table.from_arrays(list(other.values()), schema=schema)


def same(one: Arrow, other: Arrow) -> bool:
    """Compare schemas and values, NaN being like NaN and -0.0 unlike 0.0."""
    return bool(one.schema.equals(other.schema, check_metadata=True)) and shown(one) == shown(
        other
    )


def shown(table: Arrow) -> str:
    """Return all values as text."""
    return repr([[ref.plain(scalar) for scalar in column] for column in table.columns])


SLOW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@SLOW
@given(tables(), st.sampled_from([1, 3, 8, 65_536]))
def test_layout_does_not_change_the_digest(pair: tuple[Arrow, Arrow], rows: int) -> None:
    """Arrow physical form of the same table has the digest that plain values give."""
    straight, other = pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabledigest, "BLOCK_ROWS", rows)

        assert ref.reference(straight, rows) == table_digest(straight).root.hex
        assert ref.reference(straight, rows) == table_digest(other).root.hex


@SLOW
@given(tables())
def test_equal_digests_hand_out_equal_tables(pair: tuple[Arrow, Arrow]) -> None:
    """What is handed out depends on the logical content only, types included."""
    straight, other = (canonicalise(table) for table in pair)
    again, twice = digest_and_canonicalise(straight)

    assert same(straight, other)
    assert shown(pair[0]) == shown(straight)
    assert straight.schema.equals(canonical_schema(pair[1].schema), check_metadata=True)
    assert same(straight, twice)
    assert table_digest(pair[0]) == again
    twice.validate(full=True)


@SLOW
@given(st.data())
def test_content_changes_the_digest(data: st.DataObject) -> None:
    """Two columns have the same digest exactly if they have the same type and values."""
    kind = data.draw(TYPES)
    one, other = (
        pa.table({"a": pa.array(data.draw(st.lists(values(kind), max_size=4)), kind)})
        for _ in range(2)
    )

    assert (shown(one) == shown(other)) == (table_digest(one) == table_digest(other))


@SLOW
@given(TYPES, TYPES)
def test_types_have_one_spelling(one: Arrow, other: Arrow) -> None:
    """Two types share a canonical name exactly if they share the canonical type."""
    first, second = (pa.schema([pa.field("a", kind)]) for kind in (one, other))
    assume(one != other)
    alike = canonical_schema(first) == canonical_schema(second)

    assert alike == (TableHasher(first).finish() == TableHasher(second).finish())
