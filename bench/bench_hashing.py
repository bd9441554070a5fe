"""
What hashing costs, in CPU time, as a ratio to the plainest way of doing the same.

Ratios, not milliseconds: both sides run here, in turns, on the same bytes, and
the best of several turns counts.  Sizes come from the environment, so that a
small machine can run it too::

    SECUREML_BENCH_SCALE=0.1 python bench/bench_hashing.py
"""

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from secureml.hashing import TableHasher, hash_file, manifest

__all__ = ["rows"]

CHUNK = 1 << 20
TURNS = 5


def rows(scale: float | None = None, *, quick: bool = False) -> list[dict[str, object]]:
    """
    Measure, and return one row per comparison.

    Args:
        scale: 1.0 is a file of 1 GiB, 10,000 files and 2,000,000 rows;
            ``SECUREML_BENCH_SCALE``, else 1.0, when None.
        quick: A fifth of that.
    """
    factor = float(os.environ.get("SECUREML_BENCH_SCALE", "1")) if scale is None else scale
    if quick:
        factor /= 5
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        return [
            *_large_file(place, max(int(factor * (1 << 30)), CHUNK)),
            *_small_files(place, max(int(factor * 10_000), 10)),
            *_table(place, max(int(factor * 2_000_000), 1_000)),
        ]


def _cpu(*candidates: Callable[[], object]) -> list[float]:
    """Return the least CPU time of each candidate; they take turns."""
    best = [float("inf")] * len(candidates)
    for _ in range(TURNS):
        for index, candidate in enumerate(candidates):
            start = time.process_time()
            candidate()
            best[index] = min(best[index], time.process_time() - start)
    return best


def _row(
    name: str, ours: float, peer: float, note: str, limit: float | None = None
) -> dict[str, object]:
    return {
        "limits": [] if limit is None else [("ratio", "<=", limit)],
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": ours / peer,
        "unit": "CPU s",
        "note": note,
    }


def _large_file(place: Path, size: int) -> list[dict[str, object]]:
    path = place / "large.bin"
    block = random.Random(7).randbytes(CHUNK)  # noqa: S311  filler
    with path.open("wb") as file:
        for _ in range(size // CHUNK):
            file.write(block)

    def plain() -> None:
        state = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while data := file.read(CHUNK):
                state.update(data)
        state.hexdigest()

    ours, tree, peer = _cpu(lambda: hash_file(path), lambda: manifest(path), plain)
    note = f"{size / (1 << 30):.2f} GiB, read in 1 MiB pieces, page-cached"
    found = [
        _row("one large file: hash_file vs hashlib", ours, peer, note, 1.10),
        _row("one large file: manifest vs hashlib", tree, peer, note),
    ]
    path.unlink()
    return found


def _small_files(place: Path, count: int) -> list[dict[str, object]]:
    root = place / "small"
    source = random.Random(7)  # noqa: S311  filler
    for index in range(count):
        folder = root / f"{index // 1000:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.bin").write_bytes(source.randbytes(4096))

    def plain() -> None:
        found = {}
        pending = [str(root)]
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        pending.append(entry.path)
                    else:
                        with open(entry.path, "rb") as file:  # noqa: PTH123  the plainest loop
                            found[entry.path] = hashlib.sha256(file.read()).hexdigest()

    note = f"{count:,} files of 4 KiB, page-cached"
    ours, peer = _cpu(lambda: manifest(root), plain)
    found = [_row("many small files: manifest vs scandir+open+sha256", ours, peer, note, 2.00)]
    if theirs := _model_signing(root):
        (slow,) = _cpu(theirs)
        found.append(_row("many small files: manifest vs model-signing", ours, slow, note))
    return found


def _model_signing(root: Path) -> Callable[[], object] | None:
    """Return model-signing's hashing of *root*, where it is installed."""
    try:
        from model_signing import hashing
    except ImportError:
        return None
    return lambda: hashing.Config().hash(root)


def _table(place: Path, count: int) -> list[dict[str, object]]:
    path = place / "table.parquet"
    table = make_table(count)
    pq.write_table(table, path)
    size = table.nbytes
    batches = table.to_batches()

    def read() -> None:
        for _ in pq.ParquetFile(path).iter_batches(batch_size=65_536, use_threads=False):
            pass

    def digest() -> None:
        hasher = TableHasher(table.schema)
        for batch in batches:
            hasher.update(batch)
        hasher.finish()

    def raw() -> None:
        state = hashlib.sha256()
        for batch in batches:
            for column in batch.columns:
                for buffer in column.buffers():
                    if buffer is not None:
                        state.update(buffer)

    ours, decode, plain = _cpu(digest, read, raw)
    note = f"{count:,} rows × {table.num_columns} columns, {size / 1e6:.0f} MB in memory"
    speed = f"{note}; {size / 1e9 / ours:.2f} GB per CPU-s"
    path.unlink()
    return [
        _row("table digest vs decoding the Parquet file", ours, decode, speed),
        _row("table digest vs sha256 of the raw Arrow buffers", ours, plain, note),
    ]


def make_table(count: int) -> pa.Table:
    """Return a table of *count* rows and 20 columns of the usual kinds, the same every time."""
    source = random.Random(7)  # noqa: S311  filler

    def integers(below: int) -> pa.Array:
        bits = pa.py_buffer(source.randbytes(4 * count))
        drawn = pa.Array.from_buffers(pa.uint32(), count, [None, bits]).cast(pa.float64())
        return pc.floor(pc.multiply(drawn, below / 2**32)).cast(pa.int64())

    def floats() -> pa.Array:
        return pc.divide(integers(2**31).cast(pa.float64()), 1e6)

    few = pa.array(["DE", "FR", "IT", "ES", "PL", "NL"])
    ids = pa.array(range(count), pa.int64())
    missing = pc.equal(integers(10), 0)
    names = pc.binary_join_element_wise(
        "user-", integers(2**31).cast(pa.string()), "@example.com", ""
    )
    columns: dict[str, pa.Array] = {"id": ids, "email": names}
    for index in range(4):
        columns[f"f{index}"] = floats()
        columns[f"n{index}"] = pc.if_else(missing, None, floats())
    for index in range(3):
        columns[f"i{index}"] = integers(1000).cast(pa.int32())
    for index in range(2):
        columns[f"b{index}"] = pc.equal(integers(2), 0)
        columns[f"s{index}"] = few.take(integers(6))
    columns["at"] = integers(2**31).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    columns["day"] = integers(20_000).cast(pa.int32()).cast(pa.date32())
    columns["small"] = floats().cast(pa.float32())
    return pa.table(columns)


def main() -> None:
    """Print the table."""
    for row in rows():
        print(
            f"{row['name']:<55} {row['ours']:>8.3f} {row['peer']:>8.3f} "
            f"{row['ratio']:>6.2f}×  {row['note']}"
        )


if __name__ == "__main__":
    main()
