"""
The digest of a table's logical content, and the table which that content determines.

Two files may hold the same table in other row groups, with another
compression, dictionary-encoded or not, written by another library.  Their
bytes differ, their table digest does not.  What a reader then sees must not
differ either, or an attacker could choose the frame behind a signed digest;
so `canonicalise` drops all that the digest does not cover (metadata, pandas
index, dictionaries and their order, nullability, values under nulls) and
returns the one table that the digest names.

Batches are hashed as they come: memory holds one block of 65,536 rows, never
the table.  The byte rules are ``docs/spec/table-digest.md``.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from secureml._extras import loaded
from secureml.errors import DigestMismatchError, FormatError
from secureml.hashing import _arrow
from secureml.hashing._arrow import Arrow
from secureml.wire import merkle, tabledigest
from secureml.wire.digest import TABLE_DIGEST, Digest

__all__ = [
    "ColumnDigest",
    "TableDigest",
    "TableHasher",
    "canonical_schema",
    "canonicalise",
    "digest_and_canonicalise",
    "table_digest",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDigest:
    """
    One column of a table digest.

    Attributes:
        name: Name of the column.
        type: Canonical type, as ``docs/spec/table-digest.md`` spells it.
        root: Root of the column's tree, 32 bytes; it covers neither name nor position.
    """

    name: str
    type: str
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDigest:
    """
    The digest of a table, with what it was made from.

    Attributes:
        root: The digest, ``tableDigest1``.
        rows: Rows in the table.
        columns: One entry per column, in order.
    """

    root: Digest
    rows: int
    columns: tuple[ColumnDigest, ...]

    @classmethod
    def of(cls, *, rows: int, columns: Sequence[ColumnDigest]) -> Self:
        """Compute the root over *rows* and *columns*."""
        root = tabledigest.table_root(rows, [(c.name, c.type, c.root) for c in columns])
        return cls(root=Digest(TABLE_DIGEST, root), rows=rows, columns=tuple(columns))

    def verify(self, actual: "TableDigest", *, what: str = "the table") -> None:
        """
        Check that *actual* is this digest.

        Raises:
            DigestMismatchError: It is not; the error names the columns that differ.
        """
        if actual.root == self.root:
            return
        raise DigestMismatchError(
            f"{what} has the digest {actual.root.short}, but the evidence is about "
            f"{self.root.short}",
            why="; ".join(self._differences(actual)),
            fix="compare the data with the version that was attested; if the change is "
            "intended, attest the new data",
        )

    def _differences(self, actual: "TableDigest") -> Iterator[str]:
        if self.rows != actual.rows:
            yield f"it has {actual.rows} rows instead of {self.rows}"
        mine = {column.name: column for column in self.columns}
        theirs = {column.name: column for column in actual.columns}
        for label, names in (
            ("columns are missing", [name for name in mine if name not in theirs]),
            ("columns were added", [name for name in theirs if name not in mine]),
        ):
            if names:
                yield f"{label}: {', '.join(map(repr, names))}"
        both = [name for name in mine if name in theirs]
        for name in both:
            if mine[name].type != theirs[name].type:
                yield f"column {name!r} is {theirs[name].type} instead of {mine[name].type}"
        changed = [
            name
            for name in both
            if mine[name].type == theirs[name].type and mine[name].root != theirs[name].root
        ]
        if changed:
            yield f"values differ in {', '.join(map(repr, changed))}"
        if both != [name for name in theirs if name in mine]:
            yield "the columns are in another order"


def canonical_schema(schema: Arrow) -> Arrow:
    """
    Return the schema of what is handed out for data with this Arrow *schema*.

    Raises:
        FormatError: A column has a type without a canonical form, or two
            columns have the same name; the error names the column.
        MissingExtraError: pyarrow is not installed.
    """
    pa = _arrow.pyarrow()
    _types(schema)
    return pa.schema([pa.field(field.name, _arrow.canonical_type(field.type)) for field in schema])


def _types(schema: Arrow) -> list[tuple[str, str]]:
    """Return the name and the canonical type of each column."""
    try:
        named = [(field.name, _arrow.type_name(field.type, field.name)) for field in schema]
    except UnicodeError as error:
        msg = "the name of a column or field is not valid UTF-8"
        raise FormatError(msg, why=str(error), fix="rename the column") from error
    seen: set[str] = set()
    for name, _ in named:
        if name in seen:
            raise FormatError(
                f"two columns are named {name!r}",
                why="a column that cannot be told from another cannot be attested",
                fix="rename one of them",
            )
        seen.add(name)
    return named


class TableHasher:
    """
    Digests a table batch by batch, however the batches are cut.

    ::

        hasher = TableHasher(reader.schema)
        for batch in reader:
            hasher.update(batch)
        digest = hasher.finish()

    Args:
        schema: Arrow schema of the batches.
        keep: Also keep the canonical table, for `table`: then memory holds it.

    Raises:
        FormatError: As `canonical_schema`.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, schema: Arrow, *, keep: bool = False) -> None:
        if sys.byteorder != "little":
            msg = "table digests need a little-endian machine"
            raise FormatError(
                msg,
                why="the digest covers little-endian values, which are not swapped here",
                fix="compute the digest on a little-endian machine",
            )
        self._columns = _types(schema)
        self._canonical = canonical_schema(schema)
        self._accepted = schema
        self._pending: list[list[Arrow]] = [[] for _ in self._columns]
        self._trees = [merkle.Frontier() for _ in self._columns]
        self._blocks: list[Arrow] | None = [] if keep else None
        self._rows = 0
        self._taking = False
        self._finished: TableDigest | None = None

    @property
    def schema(self) -> Arrow:
        """The canonical schema."""
        return self._canonical

    @property
    def rows(self) -> int:
        """Rows taken so far."""
        return self._rows

    def update(self, batch: Arrow) -> None:
        """
        Take the next rows.

        Args:
            batch: A `pyarrow.RecordBatch` with the columns of the schema, in
                the same order; encodings and nullability may vary.

        Raises:
            ValueError: The batch has other columns or types, `finish` was
                called, or an earlier batch was refused.
            FormatError: A value contradicts its type, or is longer than 4 GiB.
        """
        if self._finished is not None:
            msg = "the digest is finished: use a new TableHasher for another table"
            raise ValueError(msg)
        self._usable()
        self._check(batch.schema)
        self._taking = True
        columns = []
        for (name, _), column in zip(self._columns, batch.columns, strict=True):
            with _naming(name):
                column.validate(full=True)
                columns.append(_plain_dictionary(column))
        start = 0
        while start < batch.num_rows:
            filled = self._rows % tabledigest.BLOCK_ROWS
            count = min(tabledigest.BLOCK_ROWS - filled, batch.num_rows - start)
            for (name, _), column, pending in zip(
                self._columns, columns, self._pending, strict=True
            ):
                with _naming(name):
                    pending.append(_arrow.plain(column.slice(start, count)))
            start += count
            self._rows += count
            if filled + count == tabledigest.BLOCK_ROWS:
                self._flush(tabledigest.BLOCK_ROWS)
        self._taking = False

    def finish(self) -> TableDigest:
        """
        Return the digest of all rows taken; more calls return it again.

        Raises:
            ValueError: An earlier batch was refused.
        """
        if self._finished is None:
            self._usable()
            if rest := self._rows % tabledigest.BLOCK_ROWS:
                self._flush(rest)
            self._finished = TableDigest.of(
                rows=self._rows,
                columns=[
                    ColumnDigest(name=name, type=kind, root=tree.root())
                    for (name, kind), tree in zip(self._columns, self._trees, strict=True)
                ],
            )
        return self._finished

    def table(self) -> Arrow:
        """
        Return the canonical table of all rows taken, made of the bytes that were hashed.

        Raises:
            ValueError: The hasher was made without ``keep=True``, or is not finished.
        """
        if self._blocks is None or self._finished is None:
            msg = "use TableHasher(schema, keep=True) and finish() first"
            raise ValueError(msg)
        pa = _arrow.pyarrow()
        if not self._columns:
            return _no_columns(self._rows)
        return pa.Table.from_batches(self._blocks, schema=self._canonical)

    def _usable(self) -> None:
        """Refuse to go on after a batch of which only some columns were taken."""
        if self._taking:
            msg = "an earlier batch was refused: use a new TableHasher"
            raise ValueError(msg)

    def _check(self, schema: Arrow) -> None:
        if schema.equals(self._accepted):
            return
        if not canonical_schema(schema).equals(self._canonical):
            raise ValueError(
                f"the batch has the columns {_types(schema)}, the table has {self._columns}"
            )
        self._accepted = schema

    def _flush(self, rows: int) -> None:
        pa = _arrow.pyarrow()
        block = []
        for (name, kind), pending, tree in zip(
            self._columns, self._pending, self._trees, strict=True
        ):
            with _naming(name):
                whole = pending[0] if len(pending) == 1 else pa.concat_arrays(pending)
                tree.append(tabledigest.block_leaf(kind, rows, _arrow.parts(whole)))
            pending.clear()
            block.append(whole)
        if self._blocks is not None and block:
            self._blocks.append(pa.RecordBatch.from_arrays(block, schema=self._canonical))


def table_digest(source: Arrow, /) -> TableDigest:
    """
    Return the digest of the logical content of a table.

    Args:
        source: A `pyarrow.Table`, `RecordBatch` or `RecordBatchReader`, or
            anything with the Arrow C stream interface (a polars frame, a
            duckdb relation).  A reader is consumed.

    Raises:
        TypeError: *source* is none of these.
        FormatError: As `TableHasher`.
        MissingExtraError: pyarrow is not installed.
    """
    return _run(source, keep=False).finish()


def canonicalise(source: Arrow, /) -> Arrow:
    """
    Return the one `pyarrow.Table` that the logical content of *source* determines.

    Tables with equal digests have equal canonical tables, types included.

    Raises:
        TypeError, FormatError, MissingExtraError: As `table_digest`.
    """
    return _run(source, keep=True).table()


def digest_and_canonicalise(source: Arrow, /) -> tuple[TableDigest, Arrow]:
    """
    Return the digest of *source* and its canonical table, in one pass over the same bytes.

    Raises:
        TypeError, FormatError, MissingExtraError: As `table_digest`.
    """
    hasher = _run(source, keep=True)
    return hasher.finish(), hasher.table()


def _run(source: Arrow, *, keep: bool) -> TableHasher:
    schema, batches = _batches(source)
    hasher = TableHasher(schema, keep=keep)
    for batch in batches:
        hasher.update(batch)
    hasher.finish()
    return hasher


def _batches(source: Arrow) -> tuple[Arrow, Iterable[Arrow]]:
    pa = _arrow.pyarrow()
    if isinstance(source, pa.RecordBatch):
        return source.schema, [source]
    if isinstance(source, pa.Table):
        return source.schema, source.to_batches()
    if isinstance(source, pa.RecordBatchReader):
        return source.schema, _read(source)
    pandas = loaded("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        msg = (
            "a pandas frame has an index: say whether it is data with "
            "pyarrow.Table.from_pandas(frame, preserve_index=False), or True"
        )
        raise TypeError(msg)
    if hasattr(source, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(source)
        return reader.schema, _read(reader)
    raise TypeError(
        f"{type(source).__name__} is not a table: pass a pyarrow Table, RecordBatch or "
        "RecordBatchReader, or an object with the Arrow C stream interface"
    )


def _read(reader: Arrow) -> Iterator[Arrow]:
    pa = _arrow.pyarrow()
    try:
        yield from reader
    except pa.ArrowException as error:
        msg = "the table cannot be read to its end"
        raise FormatError(
            msg,
            why=str(error),
            fix="get the data again, or open it with the library that wrote it",
        ) from error


def _plain_dictionary(column: Arrow) -> Arrow:
    """Make a dictionary canonical once per batch, instead of once per block."""
    pa = _arrow.pyarrow()
    if not pa.types.is_dictionary(column.type) or len(column) <= tabledigest.BLOCK_ROWS:
        return column
    return pa.DictionaryArray.from_arrays(column.indices, _arrow.plain(column.dictionary))


def _no_columns(rows: int) -> Arrow:
    """Return a table without columns that still has its number of rows."""
    pa = _arrow.pyarrow()
    return pa.table({"": pa.nulls(rows)}).select([])


@contextmanager
def _naming(column: str) -> Iterator[None]:
    """Say which column it was."""
    pa = _arrow.pyarrow()
    try:
        yield
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise FormatError(
            f"column {column!r} cannot be digested",
            why=str(error),
            fix="check the column with pyarrow's validate(full=True); no single value may "
            "be longer than 4,294,967,295 bytes or elements",
        ) from error
