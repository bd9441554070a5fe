# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""What the tests of data share: small tables, on disk and in parts."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secureml.data import Dataset, dataset
from secureml.data.rows import Rows
from secureml.gates.check import Check, Finding
from secureml.hashing import canonicalise


def parts(table: pa.Table, size: int = 2) -> list[Rows]:
    """Return *table* in its canonical form, in parts of *size* rows."""
    canonical = canonicalise(table)
    return [
        Rows(start, batch)
        for start in range(0, table.num_rows, size)
        for batch in canonical.slice(start, size).combine_chunks().to_batches()
    ]


@pytest.fixture(scope="session")
def find() -> Callable[..., Finding]:
    """Return a function that makes one check of some columns."""

    def run(check: Check, *, size: int = 2, **columns: Any) -> Finding:
        state = check.start()
        for part in parts(pa.table(columns), size):
            state.update(part)
        return state.finish()

    return run


@pytest.fixture(scope="session")
def find_files() -> Callable[[Check, Iterable[Any]], Finding]:
    """Return a function that makes one check of some manifest entries."""

    def run(check: Check, entries: Iterable[Any]) -> Finding:
        state = check.start()
        for entry in entries:
            state.update(entry)
        return state.finish()

    return run


@pytest.fixture
def table() -> pa.Table:
    """Return a table of many types."""
    return pa.table(
        {
            "id": pa.array([1, 2, 3, 4], pa.int64()),
            "radius": pa.array([1.5, 2.5, None, float("nan")]),
            "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
            "label": pa.array([True, False, True, False]),
        }
    )


@pytest.fixture
def train(tmp_path: Path, table: pa.Table) -> Dataset:
    """Return a registered Parquet table."""
    path = tmp_path / "train.parquet"
    pq.write_table(table, path)
    return dataset(path, source="a study", licence="CC0-1.0")


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    """Return a registered tree."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").write_bytes(b"a")
    (root / "sub" / "b.PNG").write_bytes(b"b")
    return dataset(root, source="a camera", licence="CC0-1.0")
