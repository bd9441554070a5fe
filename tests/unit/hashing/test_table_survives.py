"""Round trips that keep the content of a table, and so its digest."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from secureml.hashing import canonicalise, table_digest

pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

Arrow: TypeAlias = Any
ROWS = 3_000


def sample() -> Arrow:
    """Return a table of the types that engines have in common, with nulls in most columns."""
    source = random.Random(7)  # noqa: S311  a sample, no secret
    numbers = [source.randrange(-1000, 1000) for _ in range(ROWS)]
    some = [None if n % 7 == 0 else n for n in numbers]
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "small": pa.array(some, pa.int16()),
            "count": pa.array([abs(n) for n in numbers], pa.uint32()),
            "ratio": pa.array([None if n is None else n / 7 for n in some], pa.float64()),
            "score": pa.array(
                [float("nan") if n % 5 == 0 else n / 3 for n in numbers], pa.float32()
            ),
            "flag": pa.array([None if n is None else n > 0 for n in some], pa.bool_()),
            "label": pa.array([None if n is None else "BM"[n % 2] for n in some], pa.string()),
            "note": pa.array(
                [f"patient \u00e9 number {n}" * (n % 3) for n in numbers], pa.string()
            ),
            "blob": pa.array([str(n).encode() for n in numbers], pa.binary()),
            "day": pa.array([None if n is None else n for n in some], pa.int32()).cast(
                pa.date32()
            ),
            "at": pa.array(numbers, pa.int64()).cast(pa.timestamp("us")),
            "zoned": pa.array(numbers, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )


def through_parquet(path: Path, **options: Any) -> Arrow:  # noqa: ANN401  options of another library
    """Write the sample and read it back."""
    parquet.write_table(sample(), path / "t.parquet", **options)
    return parquet.read_table(path / "t.parquet")


def dictionaries(table: Arrow) -> Arrow:
    """Encode what can be encoded."""
    for index, name in enumerate(table.column_names):
        if name in {"label", "note", "small", "day", "blob"}:
            table = table.set_column(index, name, table[name].dictionary_encode())
    return table


def retyped(table: Arrow, **kinds: Arrow) -> Arrow:
    """Cast columns by their type."""
    schema = pa.schema([pa.field(f.name, kinds.get(str(f.type), f.type)) for f in table.schema])
    return table.cast(schema)


def polars(_: Path) -> Arrow:
    """Go through a polars frame."""
    return pytest.importorskip("polars").from_arrow(sample()).to_arrow()


def polars_stream(_: Path) -> Arrow:
    """Hand over a polars frame itself, by the Arrow C stream interface."""
    return pytest.importorskip("polars").from_arrow(sample())


def duckdb(_: Path) -> Arrow:
    """Go through duckdb, whose sessions have a time zone."""
    connection = pytest.importorskip("duckdb").connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("sample", sample())
    return connection.sql("SELECT * FROM sample ORDER BY id").to_arrow_table()


def pandas(_: Path) -> Arrow:
    """Go through a pandas frame of Arrow-backed columns."""
    frame_library = pytest.importorskip("pandas")
    frame = sample().to_pandas(types_mapper=frame_library.ArrowDtype)
    return pa.Table.from_pandas(frame, preserve_index=False)


def in_feather(path: Path) -> Arrow:
    """Go through a Feather file."""
    feather.write_feather(sample(), str(path / "t.feather"), compression="lz4", chunksize=777)
    return feather.read_table(str(path / "t.feather"))


def garbage(_: Path) -> Arrow:
    """Change what lies under the nulls of every column of fixed width."""
    table = sample()
    for name in ("small", "ratio"):
        index = table.column_names.index(name)
        array = table[name].combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
        filled = pc.fill_null(array, 77)
        buffers = [array.buffers()[0], filled.buffers()[1]]
        table = table.set_column(
            index, name, pa.Array.from_buffers(array.type, len(array), buffers, -1, 0)
        )
    return table


SURVIVES: dict[str, Callable[[Path], Arrow]] = {
    "chunks of 777": lambda _: pa.Table.from_batches(sample().to_batches(max_chunksize=777)),
    "combine_chunks": lambda _: pa.Table.from_batches(sample().to_batches(99)).combine_chunks(),
    "a slice of more": lambda _: pa.concat_tables([sample(), sample()]).slice(ROWS, ROWS),
    "a slice inside": lambda _: (
        pa.concat_tables([sample().slice(5, 3), sample(), sample()])
        .combine_chunks()
        .slice(3, ROWS)
    ),
    "dictionaries": lambda _: dictionaries(sample()),
    "dictionaries per chunk": lambda _: pa.concat_tables(
        [dictionaries(sample().slice(0, 99)), dictionaries(sample().slice(99))]
    ),
    "large": lambda _: retyped(sample(), string=pa.large_string(), binary=pa.large_binary()),
    "views": lambda _: retyped(sample(), string=pa.string_view(), binary=pa.binary_view()),
    "garbage under nulls": garbage,
    "metadata": lambda _: sample().replace_schema_metadata({"pandas": "{}"}),
    "Parquet": through_parquet,
    "Parquet, row groups of 999, zstd": lambda path: through_parquet(
        path, row_group_size=999, compression="zstd", use_dictionary=False
    ),
    "Parquet, no compression, version 1.0 pages": lambda path: through_parquet(
        path, compression="none", data_page_version="2.0", store_schema=False
    ),
    "Feather": in_feather,
    "polars": polars,
    "polars, by its stream": polars_stream,
    "duckdb": duckdb,
    "pandas, ArrowDtype": pandas,
}


@pytest.mark.parametrize("trip", SURVIVES.values(), ids=SURVIVES)
def test_the_digest_survives(trip: Callable[[Path], Arrow], tmp_path: Path) -> None:
    """The same content in another form has the same digest and hands out the same table."""
    other = trip(tmp_path)
    expected, found = canonicalise(sample()), canonicalise(other)

    assert table_digest(sample()) == table_digest(other)
    assert expected.schema.equals(found.schema, check_metadata=True)
    assert [b.to_pybytes() for b in data(expected)] == [b.to_pybytes() for b in data(found)]


def data(table: Arrow) -> list[Arrow]:
    """Return the buffers of values, which make no difference between one NaN and another."""
    columns = (column.combine_chunks() for column in table.columns)
    arrays = (c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in columns)
    written = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays(list(arrays), schema=table.schema)
    with pa.ipc.new_stream(written, table.schema) as stream:
        stream.write_batch(batch)
    return [written.getvalue()]


def test_numpy_backed_pandas_changes_types() -> None:
    """Nullable integers that became floats are other content, and other frames."""
    pytest.importorskip("pandas")
    frame = sample().to_pandas()

    assert table_digest(sample()) != table_digest(
        pa.Table.from_pandas(frame, preserve_index=False)
    )


def test_frames_handed_out_are_equal() -> None:
    """Equal digests give pandas frames that are equal, dtypes included."""
    pandas_library = pytest.importorskip("pandas")
    one = canonicalise(sample()).to_pandas()
    other = canonicalise(dictionaries(sample())).to_pandas()

    pandas_library.testing.assert_frame_equal(one, other, check_exact=True)
