"""
Ask an audit log: which records, as rows, as an Arrow table, or in SQL.

Answers come from an index that is derived from the entries and disposable
(`secureml.audit._index`): it is made on the first question, goes on from where
it was on the next, and is made anew when the log does not continue it.  Every
row carries ``origin``, ``index`` and ``leaf_hash``, and with them anybody can
ask the log for the proof that the row's record is in it.

Edge: a query answers about what is published, and believes a log that was not
verified.  The answer says which it was, and about which size and root.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast

from secureml import _extras
from secureml._html import card
from secureml.audit._columns import COLUMNS, KEY, Found, Value
from secureml.audit._filter import When, Words, make_filter
from secureml.audit._index import Index
from secureml.audit._source import Readable, source_of
from secureml.audit._sql import select
from secureml.evidence.trust import Trust
from secureml.wire.canonical import JSON

__all__ = [
    "COLUMNS",
    "AuditIndex",
    "access_body",
    "open_index",
    "query",
    "query_rows",
    "to_duckdb",
]

Arrow: TypeAlias = Any
"""Something of pyarrow's, which ships no types."""

SQL_SECONDS: Final = 10.0
"""How long a SELECT may take, by default."""
SQL_ROWS: Final = 1_000_000
"""How many rows a SELECT may return, by default."""


class AuditIndex:
    """
    The index of one audit log, to be asked more than once.

    Made by `open_index`.  A context manager; threads may share it.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a temporary one is gone."""
        self._index.close()

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._index.source.origin

    @property
    def size(self) -> int:
        """Number of entries that answers are about."""
        return self._index.source.size

    @property
    def root(self) -> bytes:
        """Root hash over them, 32 bytes."""
        return self._index.source.root

    @property
    def verified(self) -> bool:
        """Whether the log was verified: its signature, and every file."""
        return self._index.source.verified

    def refresh(self) -> None:
        """
        Take in what the log has published since.

        Raises:
            ConsistencyError: The entries of the log do not lead to its checkpoint.
            VerificationError, StoreError, FormatError: The log cannot be read.
        """
        self._index.update(self._index.source.again())

    def rows(
        self,
        *,
        columns: Iterable[str] | None = None,
        where: Mapping[str, object] | None = None,
        since: When | None = None,
        until: When | None = None,
        types: Words | None = None,
        outcome: Words | None = None,
        actor: Words | None = None,
        model: Words | None = None,
        limit: int | None = None,
        check: bool | None = None,
    ) -> Iterator[dict[str, Value]]:
        """
        Yield rows in the order of the log; the arguments are those of `query`.

        Raises:
            ValueError, TypeError: As `query`.
            VerificationError: The log is not what it was when it was indexed.
        """
        places = _places(columns)
        pages = self._pages(
            limit,
            check,
            where=where,
            since=since,
            until=until,
            types=types,
            outcome=outcome,
            actor=actor,
            model=model,
        )
        origin = self.origin
        return (
            {
                "origin": origin,
                "index": cast("int", row[0]),
                "leaf_hash": cast("bytes", row[1]).hex(),
                **{name: cast("Value", row[place]) for name, place in places},
            }
            for page in pages
            for row in page
        )

    def _pages(
        self,
        limit: int | None,
        check: bool | None,  # noqa: FBT001  three values
        **conditions: Any,  # noqa: ANN401  those of `make_filter`
    ) -> Iterator[list[Found]]:
        wanted = make_filter(**conditions)
        if limit is not None and limit < 0:
            msg = f"a limit is 0 or more, not {limit}"
            raise ValueError(msg)
        # What a verified log is asked is answered by verified entries, or not at all.
        check = (self.verified and self._index.kept) if check is None else check
        if check:
            self._index.check_all()
        return self._index.pages(wanted, limit, check=check)

    def table(
        self,
        *,
        columns: Iterable[str] | None = None,
        sql: str | None = None,
        parameters: Sequence[object] | Mapping[str, object] = (),
        seconds: float = SQL_SECONDS,
        limit: int | None = None,
        check: bool | None = None,
        **conditions: Any,  # noqa: ANN401  those of `rows`, which `make_filter` checks
    ) -> Arrow:
        """
        Return a `pyarrow.Table`; the arguments are those of `query`.

        Raises:
            MissingExtraError: pyarrow is not installed.
            ValueError, TypeError, StoreError, VerificationError: As `query`.
        """
        pa = _extras.require("pyarrow", purpose="to return a table; query_rows does without")
        metadata = self._metadata()
        if columns is not None and not isinstance(columns, str):
            columns = tuple(columns)
        if sql is not None:
            if columns is not None or limit is not None or conditions:
                msg = "sql= says all of it: columns and conditions go into the SELECT"
                raise ValueError(msg)
            names, found = self.sql(sql, parameters, seconds=seconds)
            data = [pa.array([row[place] for row in found]) for place in range(len(names))]
            return pa.Table.from_arrays(data, names=names).replace_schema_metadata(metadata)
        schema = arrow_schema(columns, metadata)
        pages = self._pages(limit, check, **conditions)
        batches = [arrow_batch(page, columns, schema, self.origin) for page in pages]
        return pa.Table.from_batches(batches, schema=schema)

    def sql(
        self,
        statement: str,
        parameters: Sequence[object] | Mapping[str, object] = (),
        *,
        seconds: float = SQL_SECONDS,
        limit: int = SQL_ROWS,
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        """
        Return the names and the rows of one SELECT over the view ``records``.

        The view has ``origin``, ``index`` (quote it: it is a word of SQL),
        ``leaf_hash`` and all of `COLUMNS`; ``json_extract(body, '$.…')``
        reaches every other field.

        Args:
            statement: The SELECT.
            parameters: What is bound to its ``?`` or ``:name``.
            seconds: How long it may take.
            limit: How many rows it may return.

        Raises:
            ValueError: It is no single SELECT that SQLite understands, or does
                something else than reading.
            StoreError: It took too long, or returned too much.
        """
        return select(self._index, statement, parameters, seconds=seconds, limit=limit)

    def _metadata(self) -> dict[str, str]:
        facts = self._index.source.facts()
        facts["index"] = "kept" if self._index.kept else "fresh"
        return {f"secureml.{name}": value for name, value in facts.items()}

    def __repr__(self) -> str:
        how = "verified" if self.verified else "not verified"
        return f"<AuditIndex of {self.origin!r}, {self.size} records, {how}>"

    def _repr_html_(self) -> str:
        _, kinds = self.sql(
            "SELECT type, count(*) FROM records GROUP BY type ORDER BY 2 DESC LIMIT 20"
        )
        rows: list[tuple[str, object]] = [
            ("log", self.origin),
            ("records", self.size),
            ("root", self.root.hex()),
            ("verified", "yes" if self.verified else "no"),
            *((f"of type {kind or 'unreadable'}", count) for kind, count in kinds),
        ]
        return card("Audit log", rows, note="ask with .table(…), .rows(…) or .sql(…)")


def open_index(
    log: Readable | object,
    *,
    trust: Trust | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> AuditIndex:
    """
    Return the index of *log*, made or brought up to date.

    Args:
        log: What a verification returned, a `Log`, an `AuditLog`, or the directory of a log.
        trust: Verify the directory first, with this.
        cache: Directory in which the index is kept for the next time; it has
            to be private, since rows name pseudonyms.  None: it is made for
            this once, in a temporary file.

    Raises:
        ConsistencyError: The entries of the log do not lead to its checkpoint.
        VerificationError, StoreError, FormatError: The log cannot be read.
        TypeError: *log* is none of these.
    """
    source = source_of(log, trust=trust)
    path = None
    if cache is not None:
        name = hashlib.sha256(source.origin.encode()).hexdigest()[:16]
        path = Path(os.path.abspath(cache)) / f"{name}.sqlite"  # noqa: PTH100  links stay
    return AuditIndex(Index(source, path))


def query(
    log: Readable | object,
    *,
    columns: Iterable[str] | None = None,
    where: Mapping[str, object] | None = None,
    since: When | None = None,
    until: When | None = None,
    types: Words | None = None,
    outcome: Words | None = None,
    actor: Words | None = None,
    model: Words | None = None,
    limit: int | None = None,
    sql: str | None = None,
    parameters: Sequence[object] | Mapping[str, object] = (),
    seconds: float = SQL_SECONDS,
    check: bool | None = None,
    trust: Trust | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Arrow:
    """
    Return the records of an audit log that fulfil every condition, as an Arrow table.

    Each row has ``origin``, ``index`` and ``leaf_hash`` before its columns.  The
    schema's metadata says what it is an answer about: ``secureml.origin``,
    ``secureml.size``, ``secureml.root``, ``secureml.verified`` (``yes`` or
    ``no``) and ``secureml.index`` (``fresh`` or ``kept``).

    Args:
        log: What a verification returned, a `Log`, an `AuditLog`, or the directory of a log.
        columns: Some of `COLUMNS`; all by default.
        where: Column → a value, several, or None for rows without one.
        since: Records of this time and later, by their writers' clocks.
        until: Records before this time.
        types: Types of records, such as ``call``.
        outcome: How they ended.
        actor: Pseudonyms.
        model: Names or digests of models.
        limit: At most so many rows, the first ones.
        sql: Instead of all that: one SELECT over the view ``records``.
        parameters: What is bound to it.
        seconds: How long it may take.
        check: Hold each row against its leaf, and the index against itself.
            By default when a kept index answers for a verified log.
        trust: Verify the directory first, with this.
        cache: Private directory in which the index is kept, see `open_index`.

    Raises:
        MissingExtraError: pyarrow is not installed; `query_rows` does without.
        ValueError: A column that does not exist, no time, or no SELECT.
        TypeError: A value that its column cannot have, or *log* is no log.
        StoreError: The SELECT took too long, or the log cannot be read.
        VerificationError: The log does not verify, or its entries do not lead
            to its checkpoint.
        FormatError: A file of the log is not in its format.
    """
    _extras.require("pyarrow", purpose="to return a table; query_rows does without")
    conditions = {
        "where": where,
        "since": since,
        "until": until,
        "types": types,
        "outcome": outcome,
        "actor": actor,
        "model": model,
        "limit": limit,
        "check": check,
    }
    given: dict[str, Any] = {n: value for n, value in conditions.items() if value is not None}
    with open_index(log, trust=trust, cache=cache) as index:
        return index.table(
            columns=columns, sql=sql, parameters=parameters, seconds=seconds, **given
        )


def query_rows(
    log: Readable | object,
    *,
    columns: Iterable[str] | None = None,
    where: Mapping[str, object] | None = None,
    since: When | None = None,
    until: When | None = None,
    types: Words | None = None,
    outcome: Words | None = None,
    actor: Words | None = None,
    model: Words | None = None,
    limit: int | None = None,
    check: bool | None = None,
    trust: Trust | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> list[dict[str, Value]]:
    """
    Return what `query` returns as dictionaries, without pyarrow; times are text.

    Raises:
        ValueError, TypeError, StoreError, VerificationError, FormatError: As `query`.
    """
    with open_index(log, trust=trust, cache=cache) as index:
        return list(
            index.rows(
                columns=columns,
                where=where,
                since=since,
                until=until,
                types=types,
                outcome=outcome,
                actor=actor,
                model=model,
                limit=limit,
                check=check,
            )
        )


def to_duckdb(table: Arrow, *, connection: Any = None, name: str = "records") -> Any:  # noqa: ANN401
    """
    Register *table* in DuckDB under *name*, and return the connection.

    Args:
        table: What `query` returned.
        connection: One that is open; by default a new database in memory.
        name: The view's name.

    Raises:
        MissingExtraError: duckdb is not installed.
    """
    duckdb = _extras.require("duckdb", purpose="to register a table in DuckDB")
    connection = duckdb.connect() if connection is None else connection
    connection.register(name, table)
    return connection


def access_body(
    action: str,
    *,
    actor: str,
    rows: int,
    format: str | None = None,  # noqa: A002  the record's own word
    digest: str | None = None,
    origin: str | None = None,
) -> dict[str, JSON]:
    """
    Return the body of the ``access`` record that says who read the log.

    Args:
        action: ``audit.query`` or ``audit.export``.
        actor: Pseudonym of who asked, 32 hex digits.
        rows: How many records were handed out.
        format: In which format they were exported.
        digest: Digest of the file that was written, ``sha256:…``.
        origin: The log that was read.

    Source: PCI DSS 4.0.1, requirement 10.2.1.3; docs/spec/audit-record.md, "Types".
    """
    access: dict[str, JSON] = {"rows": rows}
    if format is not None:
        access["format"] = format
    if digest is not None:
        access["digest"] = digest
    target: dict[str, JSON] = {"type": "audit-log"}
    if origin is not None:
        target["name"] = origin[:128]
    return {
        "type": "access",
        "action": action,
        "actor": {"id": actor, "type": "user"},
        "access": access,
        "target": target,
        "outcome": "ok",
    }


def arrow_schema(columns: Iterable[str] | None, metadata: Mapping[str, str] | None) -> Arrow:
    """
    Return the `pyarrow.Schema` of rows with these columns.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ValueError: A column that does not exist.
    """
    pa = _extras.require("pyarrow", purpose="to make a table")
    kinds = {"text": pa.string(), "integer": pa.int64()}
    fields = [
        pa.field("origin", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("leaf_hash", pa.string(), nullable=False),
    ]
    for name, _ in _places(columns):
        kind = pa.timestamp("us", tz="UTC") if name == "time" else kinds[COLUMNS[name]]
        fields.append(pa.field(name, kind))
    return pa.schema(fields, metadata=metadata)


def arrow_batch(
    rows: Sequence[Found], columns: Iterable[str] | None, schema: Arrow, origin: str
) -> Arrow:
    """
    Return *rows* as a `pyarrow.RecordBatch` of the *schema* that `arrow_schema` made.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pa = _extras.require("pyarrow", purpose="to make a table")
    held = list(zip(*rows, strict=True)) or [()] * (len(COLUMNS) + 2)
    arrays = [
        pa.array([origin] * len(rows), pa.string()),
        pa.array(held[0], pa.int64()),
        pa.array([cast("bytes", one).hex() for one in held[1]], pa.string()),
    ]
    for name, place in _places(columns):
        kind = pa.string() if COLUMNS[name] == "text" else pa.int64()
        array = pa.array(held[place], kind)
        arrays.append(array.cast(pa.timestamp("us", tz="UTC")) if name == "time" else array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _places(columns: Iterable[str] | None) -> list[tuple[str, int]]:
    """Return the wanted columns, and where each is in a row."""
    if isinstance(columns, str):
        msg = f"columns are several names, not the text {columns!r}"
        raise TypeError(msg)
    names = frozenset(COLUMNS if columns is None else columns)
    if unknown := names - COLUMNS.keys() - set(KEY):
        msg = f"there is no column {min(unknown)!r}; there are {', '.join((*KEY, *COLUMNS))}"
        raise ValueError(msg)
    return [(name, place) for place, name in enumerate(COLUMNS, 2) if name in names]
