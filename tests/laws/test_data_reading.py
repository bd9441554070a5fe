# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""Datasets: equal digests hand out equal frames, and a changed byte is never handed out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.data import DatasetClaim, checks, dataset
from secureml.errors import FormatError, VerificationError
from secureml.hashing import table_digest
from secureml.wire.statement import Statement

CLAIMS = {"source": "a study", "licence": "CC0-1.0"}
TABLE = pa.table(
    {
        "id": list(range(40)),
        "x": [None if i % 7 == 0 else i / 8 for i in range(40)],
        "t": ["row %d" % (i % 5) for i in range(40)],  # noqa: UP031  as short as it gets
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one directory for all examples."""
    return tmp_path_factory.mktemp("laws")


@given(
    group=st.integers(1, 50),
    codec=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    dictionary=st.booleans(),
    encoded=st.booleans(),
    metadata=st.booleans(),
    version=st.sampled_from(["1.0", "2.6"]),
)
def test_the_layout_of_a_file_does_not_show(folder: Path, **layout: Any) -> None:
    """One logical content: one digest, one frame, in any Parquet layout."""
    table = TABLE
    if layout["encoded"]:
        table = table.set_column(2, "t", table["t"].dictionary_encode())
    if layout["metadata"]:
        table = table.replace_schema_metadata({"pandas": "{}", "by": "somebody"})
    path = folder / "table.parquet"
    pq.write_table(
        table,
        path,
        row_group_size=layout["group"],
        compression=layout["codec"],
        use_dictionary=layout["dictionary"],
        version=layout["version"],
    )
    handle = dataset(path, **CLAIMS)

    assert handle.digest == table_digest(TABLE).root
    handed = handle.to_arrow()
    assert handed.equals(TABLE.cast(handed.schema))
    assert handed.schema.metadata is None
    assert handle.measure([checks.row_count(40, 40)])[0].passed


@given(st.data())
def test_a_changed_byte_is_never_handed_out(folder: Path, data: Any) -> None:
    """Either the same data comes out, or a verification error; measuring agrees."""
    path = folder / "bytes.parquet"
    pq.write_table(TABLE, path)
    handle = dataset(path, **CLAIMS)
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bad)
    for read in (handle.to_arrow, lambda: handle.measure([])):
        try:
            handed = read()
        except VerificationError:
            continue
        if not isinstance(handed, list):
            assert table_digest(handed).root == handle.digest


@given(st.binary(max_size=60), st.sampled_from(["a.csv", "a.parquet", "a.arrow"]))
def test_arbitrary_bytes_are_a_table_or_a_format_error(
    folder: Path, content: bytes, name: str
) -> None:
    """No other exception leaves the readers."""
    path = folder / name
    path.write_bytes(content)
    try:
        handle = dataset(path, **CLAIMS)
    except FormatError:
        return
    claim = DatasetClaim.from_statement(Statement.decode(handle.statement().encode()))
    assert claim == handle.claim
    handle.to_arrow()


@given(
    st.lists(
        st.lists(st.sampled_from(["", "1", "0.5", "x", "true", '"q"']), min_size=2, max_size=2),
        max_size=6,
    )
)
def test_a_csv_reads_the_same_with_its_recorded_types(folder: Path, rows: list[list[str]]) -> None:
    """Inference happens once; the recorded types give the same digest."""
    path = folder / "recorded.csv"
    path.write_text("a,b\n" + "".join(",".join(row) + "\n" for row in rows))
    first = dataset(path, **CLAIMS)
    types = {column.name: column.type for column in first.claim.csv}

    assert dataset(path, **CLAIMS, schema=types).statement() == first.statement()
