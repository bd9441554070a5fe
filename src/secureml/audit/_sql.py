"""
SQL that may only read: one SELECT, over one view, for a limited time.

Three walls, each enough for most of it: the statement begins with SELECT, WITH
or VALUES; the connection is switched to reading; and SQLite asks before each
thing a statement does, and is told yes for reading only.  No statement can
write, attach a file, load code or change a setting.

Source: sqlite.org/c3ref/set_authorizer.html, sqlite.org/security.html.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from secureml.audit._columns import COLUMNS
from secureml.audit._index import GONE, Index
from secureml.errors import StoreError

__all__ = ["select"]

_BEGINS: Final = re.compile(
    r"(?>\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*+(?:SELECT|WITH|VALUES)\b", re.IGNORECASE | re.DOTALL
)
_ALLOWED: Final = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
_FORBIDDEN: Final = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
)
_DAMAGED: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)
_STEPS: Final = 20_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""
_LONGEST: Final = 64 << 20
"""Bytes in one value, at most."""


def select(
    index: Index,
    statement: str,
    parameters: Sequence[object] | Mapping[str, object],
    *,
    seconds: float,
    limit: int,
) -> tuple[list[str], list[tuple[object, ...]]]:
    """
    Return the names and the rows of one SELECT over the view ``records``.

    Args:
        index: What is asked.
        statement: The SELECT.
        parameters: What is bound to its ``?`` or ``:name``.
        seconds: How long it may take.
        limit: How many rows it may return.

    Raises:
        ValueError: It is no single SELECT that SQLite understands, or does
            something else than reading.
        StoreError: It took too long, or returned too much.
    """
    if not _BEGINS.match(statement):
        msg = "a query begins with SELECT, WITH or VALUES: the index is only read"
        raise ValueError(msg)

    def work(connection: sqlite3.Connection) -> tuple[list[str], list[tuple[object, ...]]]:
        _make_view(connection, index)
        with _guarded(connection, seconds):
            try:
                cursor = connection.execute(statement, parameters)
                rows = cursor.fetchmany(limit + 1)
                names = [one[0] for one in cursor.description or ()]
            except (sqlite3.Error, sqlite3.Warning) as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _DAMAGED:
                    raise
                if code == sqlite3.SQLITE_INTERRUPT:
                    raise _too_much(f"it took more than {seconds:g} seconds") from None
                msg = f"the query was refused: {error}"
                raise ValueError(msg) from None
            finally:
                connection.rollback()
        if len(rows) > limit:
            raise _too_much(f"it returns more than {limit:,} rows")
        return names, rows

    return index.run(work)


def _too_much(why: str) -> StoreError:
    return StoreError(
        "the query was stopped",
        why=why,
        fix="ask for less, with a condition on time or a LIMIT; or raise the limit",
    )


def _make_view(connection: sqlite3.Connection, index: Index) -> None:
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    origin = index.source.origin.replace("'", "''")
    connection.execute("DROP VIEW IF EXISTS temp.records")
    connection.execute(
        f"CREATE TEMP VIEW records AS SELECT '{origin}' AS origin, \"index\", "  # noqa: S608
        f"lower(hex(leaf_hash)) AS leaf_hash, {names} FROM main.entry "
        f'WHERE "index" < {index.source.size:d} '
        f"AND malformed IS NOT '{GONE}'"
    )


@contextmanager
def _guarded(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds

    def authorise(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        del first
        if action not in _ALLOWED or (
            action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FORBIDDEN
        ):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    longest = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    connection.execute("PRAGMA query_only = ON")
    connection.set_authorizer(authorise)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        connection.execute("PRAGMA query_only = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
