"""The table digest: what it refuses, and the errors that say so."""

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from secureml.errors import FormatError
from secureml.hashing import TableHasher, _arrow, canonical_schema, table_digest
from secureml.hashing import table as table_module

pa = pytest.importorskip("pyarrow")

Arrow: TypeAlias = Any

UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
DEEP = pa.int8()
for _ in range(32):
    DEEP = pa.list_(DEEP)
REFUSED = {
    "union": UNION.type,
    "interval": pa.month_day_nano_interval(),
    "extension": pa.uuid() if hasattr(pa, "uuid") else pa.fixed_shape_tensor(pa.int8(), [1]),
    "tensor": pa.fixed_shape_tensor(pa.int8(), [2]),
    "list of interval": pa.list_(pa.month_day_nano_interval()),
    "struct of union": pa.struct([("a", UNION.type)]),
    "dictionary of interval": pa.dictionary(pa.int8(), pa.month_day_nano_interval()),
    "same field twice": pa.struct([("a", pa.int8()), ("a", pa.int8())]),
    "negative scale": pa.decimal128(5, -1),
    "scale over precision": pa.decimal128(2, 3),
    "too deep": DEEP,
}


@pytest.mark.parametrize("kind", REFUSED.values(), ids=REFUSED)
def test_types_without_a_canonical_form_are_refused(kind: Arrow) -> None:
    """The error names the column, before any data is read."""
    schema = pa.schema([("good", pa.int8()), ("the bad one", kind)])
    for refuse in (canonical_schema, TableHasher):
        with pytest.raises(FormatError, match="column 'the bad one' has the type"):
            refuse(schema)


def test_thirty_two_levels_are_allowed() -> None:
    """The limit on nesting is where the specification says."""
    kind = DEEP.value_type
    table = pa.table({"a": pa.nulls(3, kind)})

    assert table_digest(table).columns[0].type.count("list<") == 31


def test_equal_names_are_refused() -> None:
    """Two columns with one name cannot be told apart."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(FormatError, match="two columns are named 'a'"):
        table_digest(table)


def raw(kind: Arrow, data: bytes, validity: Arrow = None) -> Arrow:
    """Return an array of one row over bytes that may mean nothing."""
    return pa.Array.from_buffers(kind, 1, [validity, pa.py_buffer(data)], -1, 0)


def bad_text(kind: Arrow, offsets: bytes, data: bytes) -> Arrow:
    """Return a string array over bytes that may mean nothing."""
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(offsets) // 8 - 1, buffers)


INVALID = {
    "text that is not UTF-8": bad_text(pa.large_string(), struct.pack("<qq", 0, 1), b"\xff"),
    "offsets that go back": bad_text(pa.large_binary(), struct.pack("<qqq", 0, 2, 1), b"ab"),
    "a date that is no whole day": raw(pa.date64(), struct.pack("<q", 5)),
    "a time beyond its day": raw(pa.time32("s"), struct.pack("<i", 86_400)),
    "a decimal over its precision": raw(pa.decimal128(3, 1), (10**9).to_bytes(16, "little")),
    "an index outside its dictionary": pa.DictionaryArray.from_arrays(
        raw(pa.int8(), b"\x07"), pa.array(["a"]), safe=False
    ),
}


@pytest.mark.parametrize("array", INVALID.values(), ids=INVALID)
def test_arrays_that_contradict_their_type_are_refused(array: Arrow) -> None:
    """Values that cannot be are refused by column, and never followed out of a buffer."""
    table = pa.table({"fine": pa.nulls(len(array)), "wrong": array})
    with pytest.raises(FormatError, match="column 'wrong' cannot be digested"):
        table_digest(table)


def test_other_objects_are_refused() -> None:
    """Something that is no table is the caller's bug; so is a frame with an index."""
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="list is not a table"):
        table_digest([1])
    with pytest.raises(TypeError, match="preserve_index"):
        table_digest(pandas.DataFrame({"a": [1]}))


def test_a_reader_that_breaks_is_a_format_error() -> None:
    """Bytes that cannot be read to the end let no other exception out."""

    def batches() -> Iterator[Arrow]:
        yield pa.record_batch({"a": [1]})
        raise pa.ArrowInvalid("torn")

    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(FormatError, match="to its end"):
        table_digest(pa.RecordBatchReader.from_batches(schema, batches()))


def test_big_endian_machines_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the digest would be another one gets none."""
    monkeypatch.setattr(table_module.sys, "byteorder", "big")
    with pytest.raises(FormatError, match="little-endian"):
        TableHasher(pa.schema([]))


def test_lengths_have_thirty_two_bits() -> None:
    """A list of 4,294,967,295 elements has a digest, and one more is refused."""

    def one_list(count: int) -> Arrow:
        offsets = pa.py_buffer(struct.pack("<qq", 0, count))
        kind = pa.large_list(pa.null())
        array = pa.Array.from_buffers(kind, 1, [None, offsets], 0, 0, [pa.nulls(count)])
        return pa.table({"long": array})

    assert table_digest(one_list(2**32 - 1)).rows == 1
    with pytest.raises(FormatError, match="column 'long' cannot be digested"):
        table_digest(one_list(2**32))


def test_names_that_are_not_text_are_refused() -> None:
    """A column name from a file may be any bytes."""
    for schema in (
        pa.schema([("QQQQ", pa.int8())]),
        pa.schema([("a", pa.struct([("QQQQ", pa.int8())]))]),
    ):
        data = schema.serialize().to_pybytes().replace(b"QQQQ", b"Q\xff\xfeQ")
        with pytest.raises(FormatError, match="not valid UTF-8"):
            TableHasher(pa.ipc.read_schema(pa.py_buffer(data)))


@pytest.mark.parametrize("array", INVALID.values(), ids=INVALID)
def test_nothing_is_normalised_unseen(array: Arrow) -> None:
    """Whoever normalises an array by itself has it validated as well."""
    with pytest.raises(pa.ArrowInvalid):
        _arrow.normalise(array)

    assert _arrow.normalise(pa.array(["x", None])).type == pa.large_string()
