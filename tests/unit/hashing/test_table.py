"""The table digest: what it refuses, what changes it, what a hasher does."""

import decimal
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from secureml.errors import DigestMismatchError, FormatError
from secureml.hashing import (
    TableHasher,
    _arrow,
    canonicalise,
    digest_and_canonicalise,
    table_digest,
)
from secureml.wire.digest import TABLE_DIGEST

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")

Arrow: TypeAlias = Any
Edit: TypeAlias = Callable[[Arrow], Arrow]


def patients() -> Arrow:
    """Return a small table with the usual kinds of columns."""
    return pa.table(
        {
            "id": pa.array([1, 2, 3, 4], pa.int32()),
            "radius": pa.array([17.99, -0.0, None, float("nan")]),
            "site": pa.array(["left", "right", "", None]),
            "malignant": pa.array([True, False, None, True]),
            "seen": pa.array([0, 1, 2, None], pa.timestamp("us", "UTC")),
            "cost": pa.array([decimal.Decimal("1.50"), None, None, None], pa.decimal128(8, 2)),
            "marks": pa.array([[1, 2], [], None, [None]], pa.list_(pa.int16())),
            "place": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}, {}]),
        }
    )


def put(name: str, values: list[Any], kind: Arrow = None) -> Edit:
    """Return an edit that replaces a column."""

    def edit(table: Arrow) -> Arrow:
        index = table.column_names.index(name)
        array = pa.array(values, kind or table.schema.field(name).type)
        return table.set_column(index, name, array)

    return edit


def cast(name: str, kind: Arrow) -> Edit:
    """Return an edit that changes the type of a column."""

    def edit(table: Arrow) -> Arrow:
        index = table.column_names.index(name)
        return table.set_column(index, name, table[name].cast(kind))

    return edit


CHANGES: dict[str, Edit] = {
    "one label flipped": put("malignant", [False, False, None, True]),
    "null for false": put("malignant", [True, None, None, True]),
    "null for an empty string": put("site", ["left", "right", None, None]),
    "an empty string for null": put("site", ["left", "right", "", ""]),
    "a byte moved to the neighbour": put("site", ["leftr", "ight", "", None]),
    "another Unicode form": put("site", ["le\u0301ft", "right", "", None]),
    "zero for minus zero": put("radius", [17.99, 0.0, None, float("nan")]),
    "null for NaN": put("radius", [17.99, -0.0, None, None]),
    "zero for null": put("radius", [17.99, -0.0, 0.0, float("nan")]),
    "the next float": put("radius", [17.990000000000002, -0.0, None, float("nan")]),
    "a list element moved": put("marks", [[1], [2], None, [None]]),
    "an empty list for null": put("marks", [[1, 2], [], [], [None]]),
    "null for a list of null": put("marks", [[1, 2], [], None, None]),
    "a struct of nulls for null": put(
        "place", [{"x": 1, "y": "a"}, {}, {"x": None, "y": "b"}, {}]
    ),
    "int32 to uint32": cast("id", pa.uint32()),
    "int32 to int64": cast("id", pa.int64()),
    "string to binary": cast("site", pa.binary()),
    "another unit": cast("seen", pa.timestamp("ns", "UTC")),
    "no zone": cast("seen", pa.timestamp("us")),
    "UTC spelled +00:00": cast("seen", pa.timestamp("us", "+00:00")),
    "another precision": cast("cost", pa.decimal128(9, 2)),
    "another scale": cast("cost", pa.decimal128(8, 3)),
    "another element type": cast("marks", pa.list_(pa.int32())),
    "rows swapped": lambda table: table.take([1, 0, 2, 3]),
    "a row dropped": lambda table: table.slice(0, 3),
    "a row doubled": lambda table: pa.concat_tables([table, table.slice(3)]),
    "a column renamed": lambda table: table.rename_columns({"id": "Id"}),
    "names swapped": lambda table: table.rename_columns({"id": "site", "site": "id"}),
    "columns swapped": lambda table: table.select([1, 0, *range(2, table.num_columns)]),
    "a column dropped": lambda table: table.drop_columns(["cost"]),
    "a column added": lambda table: table.append_column("n", pa.nulls(4)),
    "a field renamed": lambda table: table.set_column(
        7, "place", pa.array([{"x": 1, "z": "a"}, None, {"x": None, "z": "b"}, {}])
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_content_changes_the_digest(change: Edit) -> None:
    """Each of these is other content, and says so in the error."""
    before, after = table_digest(patients()), table_digest(change(patients()))

    assert before.root != after.root
    with pytest.raises(DigestMismatchError, match="tableDigest1:"):
        before.verify(after)


def test_all_changes_differ_from_each_other() -> None:
    """No two of the changes above have one digest."""
    digests = {table_digest(change(patients())).root for change in CHANGES.values()}

    assert len(CHANGES) == len(digests)


def test_the_error_names_what_differs() -> None:
    """Rows, missing, added, retyped and changed columns are named."""
    before = table_digest(patients())
    before.verify(table_digest(patients()))
    after = patients().slice(0, 3).drop_columns(["cost"]).append_column("n", pa.nulls(3))
    after = cast("id", pa.int64())(after)
    with pytest.raises(DigestMismatchError) as caught:
        before.verify(table_digest(after), what="'train.parquet'")

    assert caught.value.what.startswith("'train.parquet' has the digest")
    for part in (
        "3 rows instead of 4",
        "columns are missing: 'cost'",
        "columns were added: 'n'",
        "column 'id' is int64 instead of int32",
        "values differ in 'radius', 'site'",
    ):
        assert part in caught.value.why
    swapped = table_digest(patients().select([1, 0, *range(2, 8)]))
    with pytest.raises(DigestMismatchError, match="another order"):
        before.verify(swapped)


def test_a_renamed_column_keeps_its_root() -> None:
    """Column roots cover values, not names: they tell what was renamed."""
    one, other = (
        table_digest(patients()),
        table_digest(patients().rename_columns({"id": "patient"})),
    )

    assert one.columns[0].root == other.columns[0].root
    assert one.columns[1:] == other.columns[1:]


def raw(kind: Arrow, data: bytes, validity: Arrow = None) -> Arrow:
    """Return an array of one row over bytes that may mean nothing."""
    return pa.Array.from_buffers(kind, 1, [validity, pa.py_buffer(data)], -1, 0)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (pa.date64(), struct.pack("<q", 5)),
        (pa.time32("s"), struct.pack("<i", 86_400)),
        (pa.decimal128(3, 1), (10**9).to_bytes(16, "little")),
        (pa.decimal256(3, 1), (10**70).to_bytes(32, "little")),
        (pa.float64(), bytes.fromhex("010000000000f07f")),
    ],
    ids=str,
)
def test_anything_may_lie_under_a_null(kind: Arrow, data: bytes) -> None:
    """Bytes under nulls are neither judged, nor hashed, nor handed out."""
    hidden = pa.table({"a": raw(kind, data, pa.py_buffer(b"\x00"))})
    clean = pa.table({"a": pa.array([None], kind)})
    handed = canonicalise(hidden)["a"].chunk(0)

    assert table_digest(clean) == table_digest(hidden)
    assert not any(handed.buffers()[1].to_pybytes())


@pytest.mark.parametrize(
    "full",
    [
        pa.array(["a", "hidden", "b"]),
        pa.array(["a", "hidden", "b"], pa.large_string()),
        pa.array([b"a", b"\xff", b"b"], pa.binary()),
        pa.array(["a", "hidden", "b"]).dictionary_encode(),
        pa.array([[1], [2, 3], []], pa.list_(pa.int8())),
        pa.array([[1], [2, 3], []], pa.large_list(pa.int8())),
        pa.array([True, True, False]),
    ],
    ids=lambda full: str(full.type).partition("<")[0],
)
def test_text_and_lists_under_a_null_are_no_content(full: Arrow) -> None:
    """A null slot may have a length, elements and an index: none of it is seen."""
    validity = pa.py_buffer(b"\x05")
    if pa.types.is_dictionary(full.type):
        indices = pa.Array.from_buffers(
            full.indices.type, 3, [validity, full.indices.buffers()[1]], -1, 0
        )
        hidden = pa.DictionaryArray.from_arrays(indices, full.dictionary)
    else:
        children = [full.values] if pa.types.is_nested(full.type) else []
        own = full.buffers()[1:2] if children else full.buffers()[1:]
        hidden = pa.Array.from_buffers(full.type, 3, [validity, *own], -1, 0, children)
    clean = pa.array([full[0].as_py(), None, full[2].as_py()], full.type)
    tables = [pa.table({"a": array}) for array in (clean, hidden)]
    out = [canonicalise(table)["a"].chunk(0) for table in tables]

    assert table_digest(tables[0]) == table_digest(tables[1])
    assert list(_arrow.parts(out[0])) == list(_arrow.parts(out[1]))
    assert b"hidden" not in b"".join(b.to_pybytes() for b in out[1].buffers() if b is not None)


@pytest.mark.parametrize(
    ("kind", "patterns"),
    [
        (pa.float16(), ["007e", "017c", "01fc", "ffff"]),
        (pa.float32(), ["0000c07f", "0100807f", "0000c0ff", "ffffffff"]),
        (pa.float64(), ["000000000000f87f", "010000000000f07f", "000000000000f8ff", "ff" * 8]),
    ],
    ids=str,
)
def test_every_nan_is_one(kind: Arrow, patterns: list[str]) -> None:
    """Sign and payload of NaN are no content, and are not handed out either."""
    arrays = [raw(kind, bytes.fromhex(pattern)) for pattern in patterns]
    tables = [pa.table({"a": array}) for array in arrays]

    assert len({table_digest(table).root for table in tables}) == 1
    assert {bytes.fromhex(patterns[0])} == {
        canonicalise(table)["a"].chunk(0).buffers()[1].to_pybytes()[: kind.bit_width // 8]
        for table in tables
    }


def test_what_is_handed_out_has_no_history() -> None:
    """Metadata, index, categories, nullability and dictionaries are gone."""
    text = pa.array(["b", "a", "b"]).dictionary_encode()
    ordered = pa.DictionaryArray.from_arrays(text.indices, text.dictionary, ordered=True)
    schema = pa.schema(
        [pa.field("a", ordered.type, nullable=False, metadata={"k": "v"})],
        metadata={"pandas": "{}"},
    )
    table = canonicalise(pa.Table.from_arrays([ordered], schema=schema))

    assert pa.schema([pa.field("a", pa.large_string())]).equals(table.schema, check_metadata=True)
    assert table.to_pylist() == [{"a": "b"}, {"a": "a"}, {"a": "b"}]


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_the_width_of_a_decimal_is_storage(width: int) -> None:
    """Decimals of one precision and scale are one type, and come out as decimal128."""
    make = getattr(pa, f"decimal{width}", None)
    if make is None:
        pytest.skip("this pyarrow has no such type")
    values = [decimal.Decimal("1.25"), None, decimal.Decimal("-999.99")]
    plain = pa.table({"a": pa.array(values, pa.decimal128(5, 2))})
    other = pa.table({"a": pa.array(values, pa.decimal128(5, 2)).cast(make(5, 2))})

    assert table_digest(plain) == table_digest(other)
    assert canonicalise(plain).equals(canonicalise(other))


@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537, 131_072, 200_000])
@pytest.mark.parametrize("cut", [1_000, 65_536, 99_999, 1 << 20])
def test_batches_of_any_size_give_one_digest(rows: int, cut: int) -> None:
    """Blocks are cut by absolute position, wherever batches and chunks end."""
    numbers = pc.cumulative_sum(pa.repeat(pa.scalar(3, pa.int64()), rows))
    flags = pc.equal(pc.bit_wise_and(numbers, 1), 1)
    table = pa.table(
        {
            "n": numbers,
            "maybe": pc.if_else(flags, numbers, None),
            "flag": pc.if_else(flags, flags, None),
            "text": pc.if_else(flags, numbers.cast(pa.string()), None),
        }
    )
    hasher = TableHasher(table.schema, keep=True)
    for batch in table.to_batches(max_chunksize=cut):
        hasher.update(batch)
    digest = hasher.finish()

    assert table_digest(table) == digest
    assert rows == digest.rows == hasher.rows == hasher.table().num_rows
    assert hasher.table().equals(canonicalise(table))
    assert hasher.table().schema.equals(hasher.schema)


def test_columns_may_be_chunked_differently() -> None:
    """Each column's chunks may end elsewhere."""
    a = pa.chunked_array([[1, 2], [3], []], pa.int8())
    b = pa.chunked_array([["x"], [], ["y", "z"]], pa.string())

    assert table_digest(
        pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}).cast(
            pa.schema([("a", pa.int8()), ("b", pa.string())])
        )
    ) == table_digest(pa.table({"a": a, "b": b}))


def test_tables_without_rows_or_columns_have_digests() -> None:
    """Nothing is content too, and a number of rows without columns."""
    none = pa.table({})
    three = pa.table({"a": [1, 2, 3]}).select([])
    empty = pa.table({"a": pa.array([], pa.int8())})
    digests = {table_digest(table).root for table in (none, three, empty)}

    assert len(digests) == 3
    assert canonicalise(three).num_rows == 3
    assert table_digest(canonicalise(three)) == table_digest(three)
    assert canonicalise(empty).schema == empty.schema
    assert table_digest(pa.RecordBatchReader.from_batches(empty.schema, [])) == table_digest(empty)


def test_batches_may_change_their_encoding() -> None:
    """A later batch may be a dictionary or large; other columns are refused."""
    plain = pa.record_batch({"a": ["x", "y"]})
    encoded = pa.record_batch({"a": pa.array(["y", None]).dictionary_encode()})
    hasher = TableHasher(plain.schema)
    hasher.update(plain)
    hasher.update(encoded)
    with pytest.raises(ValueError, match="the batch has the columns"):
        hasher.update(pa.record_batch({"b": ["x"]}))
    with pytest.raises(ValueError, match="the batch has the columns"):
        hasher.update(pa.record_batch({"a": [1]}))

    assert table_digest(pa.table({"a": ["x", "y", "y", None]})) == hasher.finish()


def test_a_hasher_is_used_once() -> None:
    """After `finish` nothing is added, and after a refused batch nothing comes out."""
    batch = pa.record_batch({"a": ["x"]})
    hasher = TableHasher(batch.schema)
    with pytest.raises(ValueError, match="keep=True"):
        hasher.table()
    hasher.update(batch)

    assert hasher.finish() == hasher.finish()
    with pytest.raises(ValueError, match="finished"):
        hasher.update(batch)
    broken = TableHasher(pa.schema([("a", pa.large_string())]))
    offsets = pa.py_buffer(struct.pack("<qq", 0, 1))
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    with pytest.raises(FormatError):
        broken.update(pa.RecordBatch.from_arrays([text], names=["a"]))
    for use in (broken.finish, lambda: broken.update(batch)):
        with pytest.raises(ValueError, match="was refused"):
            use()


def test_one_pass_gives_both() -> None:
    """The digest and the table of one pass belong together."""
    digest, table = digest_and_canonicalise(patients())

    assert table_digest(patients()) == digest == table_digest(table)
    assert canonicalise(patients()).schema == table.schema
    assert digest.root.algorithm == TABLE_DIGEST


def test_a_null_fixed_size_list_hides_its_elements() -> None:
    """The elements of a null row are no content."""
    children = pa.array([1, 2, 3, 4], pa.int8())
    validity = pa.py_buffer(b"\x02")
    hidden = pa.Array.from_buffers(pa.list_(pa.int8(), 2), 2, [validity], 1, 0, [children])
    clean = pa.array([None, [3, 4]], pa.list_(pa.int8(), 2))
    one, other = (canonicalise(pa.table({"a": array})) for array in (hidden, clean))

    assert table_digest(one) == table_digest(other)
    assert one["a"].chunk(0).values.to_pylist() == [None, None, 3, 4]
    assert one["a"].chunk(0).equals(other["a"].chunk(0))


def test_maps_are_handed_out_as_maps() -> None:
    """A map keeps order and duplicates, and loses only the mark of being sorted."""
    entries = [[("b", 1), ("a", None), ("b", 2)], None, []]
    table = pa.table({"m": pa.array(entries, pa.map_(pa.string(), pa.int8(), keys_sorted=True))})
    out = canonicalise(pa.concat_tables([table, table]).slice(1, 4))

    assert pa.map_(pa.large_string(), pa.int8()) == out.schema.field("m").type
    assert [None, [], entries[0], None] == out["m"].to_pylist()
    turned = pa.table({"m": pa.array([entries[0][::-1]], pa.map_(pa.string(), pa.int8()))})
    assert table_digest(turned) != table_digest(table.slice(0, 1))


def test_empty_children_need_no_offsets() -> None:
    """A child without elements may come without its first offset."""
    nothing = pa.Array.from_buffers(pa.large_string(), 0, [None, *[pa.py_buffer(b"")] * 2])
    offsets = pa.py_buffer(struct.pack("<qq", 0, 0))
    array = pa.Array.from_buffers(
        pa.large_list(pa.large_string()), 1, [None, offsets], 0, 0, [nothing]
    )

    assert table_digest(pa.table({"a": [[]]}).cast(pa.schema([("a", array.type)]))) == (
        table_digest(pa.table({"a": array}))
    )


def test_large_dictionaries_are_decoded_once_per_batch() -> None:
    """A dictionary over many blocks gives the digest of its values."""
    rows = 150_000
    numbers = pc.cumulative_sum(pa.repeat(pa.scalar(7, pa.int64()), rows)).cast(pa.string())
    plain = pa.record_batch({"a": numbers})
    encoded = pa.record_batch({"a": numbers.dictionary_encode()})

    assert table_digest(plain) == table_digest(encoded)
    assert canonicalise(plain).equals(canonicalise(encoded))


def test_run_ends_are_decoded() -> None:
    """Run-end encoding is storage, sliced in the middle of a run too."""
    plain = pa.table({"a": ["x", "x", None, None, "y"], "b": [1, 1, 1, 2, None]})
    encoded = pa.table({name: pc.run_end_encode(plain[name].chunk(0)) for name in ("a", "b")})

    assert table_digest(plain) == table_digest(encoded)
    assert table_digest(plain.slice(1, 3)) == table_digest(encoded.slice(1, 3))
    assert canonicalise(plain).equals(canonicalise(encoded))
