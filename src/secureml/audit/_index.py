"""
The index of an audit log: an SQLite file that answers questions, and proves nothing.

It is derived from the entries, and disposable.  It knows the root of the tree
over the entries it holds; before it is used, the log has to prove that its own
tree begins with that one, and otherwise the index is made anew.  A file that
is torn, or of another version, is made anew as well; where none can be kept,
the index lives in a temporary file.

Edge: whoever may write to the private directory may change a byte inside the
file.  Rows that are handed out can be held against their leaves (``check``);
a row that such a byte hides from a condition cannot.  For evidence, ask a
verified log without a cache: then the index is made of verified entries.
"""

import contextlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from secureml._progress import Progress, progress
from secureml.audit._columns import COLUMNS, Found, read_leaf
from secureml.audit._filter import Filter
from secureml.audit._source import BUNDLE, Source
from secureml.errors import DigestMismatchError, VerificationError
from secureml.wire.merkle import EMPTY_ROOT, node_hash

__all__ = ["GONE", "Index", "StaleError"]

T = TypeVar("T")

_VERSION: Final = 1
_APPLICATION: Final = 0x534D4C41
_CHUNK: Final = 8_192
"""Entries in one transaction."""
_PAGE: Final = 2_048
"""Rows that are fetched at once."""
_PAGE_BYTES: Final = 16_384
"""A row has about 1,300 bytes; larger pages are written faster."""
_BUSY_SECONDS: Final = 30.0

_NAMES: Final = ('"index"', "leaf_hash", *(f'"{name}"' for name in COLUMNS))
_INSERT: Final = f"INSERT INTO entry VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608  marks
_TABLES: Final = (
    'CREATE TABLE entry ("index" INTEGER PRIMARY KEY, leaf_hash BLOB NOT NULL, '
    + ", ".join(f'"{name}" {kind.upper()}' for name, kind in COLUMNS.items())
    + ")",
    "CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
GONE: Final = "pruned"
"""What ``malformed`` says of an entry that was removed; such rows are never handed out."""
_GONE_ROW: Final = (*[None] * (len(COLUMNS) - 1), GONE)
_BLANK: Final = ", ".join(f'"{name}" = NULL' for name in COLUMNS if name != "malformed")
_FORGET: Final = (
    f"UPDATE entry SET {_BLANK}, malformed = ? "  # noqa: S608  names of ours
    'WHERE "index" >= ? AND "index" < ? AND malformed IS NOT ?'
)
_KEYS: Final = ("time", "id", "actor", "request", "trace_id", "malformed")
"""Columns that are looked up; built after the rows, which is faster."""


class StaleError(Exception):
    """What the file holds is not what the log is."""


class _State:
    """How far the index is: so many entries, and the right edge of the tree over them."""

    __slots__ = ("origin", "peaks", "size")

    def __init__(self, origin: str, size: int, peaks: list[bytes]) -> None:
        self.origin = origin
        self.size = size
        self.peaks = peaks

    def add(self, leaf: bytes) -> None:
        carry = self.size
        while carry & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            carry >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        acc = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            acc = node_hash(left, acc)
        return acc


class Index:
    """
    The rows of one log, in SQLite.

    Threads may share it; processes may share the file.

    Args:
        source: What to index.
        path: The file; None for a temporary one, which nobody else sees.
    """

    def __init__(self, source: Source, path: Path | None) -> None:
        self.source = source
        self.lock = threading.RLock()
        self._path = path
        self._open: sqlite3.Connection | None = None
        try:
            self.update(source)
        except BaseException:
            self.close()
            raise

    @property
    def kept(self) -> bool:
        """Whether the rows may have been written before this object was made."""
        return self._path is not None

    def close(self) -> None:
        """Close the file; a temporary one is gone."""
        with self.lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def update(self, source: Source) -> None:
        """
        Take over what *source* has beyond what is indexed.

        Raises:
            ConsistencyError: Its entries do not lead to its own checkpoint.
            VerificationError, StoreError, FormatError: It cannot be read.
        """
        self.source = source
        self.run(self._catch_up)

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Call *work* with the database; when that turns out damaged, once more with a new one.

        A second failure is taken as one of the place: the index goes on in a
        temporary file.
        """
        with self.lock:
            for last in (False, True):
                try:
                    return work(self._connection())
                except (sqlite3.Error, OSError, StaleError) as error:
                    self._discard(keep=not last, remove=not is_busy(error))
            try:
                return work(self._connection())
            except StaleError:
                raise DigestMismatchError(
                    f"the entries of {self.source.origin!r} changed while they were read",
                    why="a row made of an entry a moment ago is not what the entry says now",
                    fix="verify the log: it names the file that was changed",
                ) from None

    # The file

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = self._connect()
            self._catch_up(self._open)
        return self._open

    def _connect(self) -> sqlite3.Connection:
        name = ""
        if self._path is not None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self._path, flags, 0o600)
            try:
                regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            finally:
                os.close(descriptor)
            if not regular:
                raise StaleError
            name = str(self._path)
        connection = sqlite3.connect(
            name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # Of a new file only.
            if self._path is not None:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables of a new file; refuse those of another kind."""
        with _transaction(connection):
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not tables:
                for statement in _TABLES:
                    connection.execute(statement)
                _write_state(connection, _State(self.source.origin, 0, []))
                return
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            found = _read_state(connection)
            _check_places(connection, found)
        known = (application, version, found.origin)
        if known != (_APPLICATION, _VERSION, self.source.origin):
            raise StaleError

    def _discard(self, *, keep: bool, remove: bool = True) -> None:
        """Throw the file away, or leave it to others; without *keep* go on in a temporary one."""
        self.close()
        if self._path is not None and remove:
            for end in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(OSError):
                    self._path.with_name(self._path.name + end).unlink(missing_ok=True)
        if not keep:
            self._path = None

    # Content

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        state = _read_state(connection)
        source = self.source
        if state.size > source.size:
            # Somebody else may have indexed a log that has grown since.
            source = source.again()
            self.source = source if source.size >= state.size else self.source
        self._continue(connection, state)
        self._forget(connection)
        if state.size >= self.source.size:
            return
        total = self.source.size - state.size
        with progress(f"indexing {self.source.origin}", total=total, unit=" records") as done:
            while state.size < self.source.size:
                state = self._chunk(connection, done)
        if state.size == self.source.size and state.root() != self.source.root:
            self._discard(keep=True)
            raise self.source.refuse()
        for name in _KEYS:
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS {name}_ ON entry ({name}) WHERE {name} IS NOT NULL"
            )

    def _continue(self, connection: sqlite3.Connection, state: _State) -> None:
        """
        Refuse an index that is not about the beginning of this log, or this log's beginning.

        Raises:
            StaleError: It is not.
        """
        source = self.source
        if state.size > source.size:
            shorter = _State(source.origin, 0, [])
            for (leaf,) in connection.execute(
                'SELECT leaf_hash FROM entry WHERE "index" < ? ORDER BY "index"', (source.size,)
            ):
                shorter.add(leaf)
            if (shorter.size, shorter.root()) != (source.size, source.root):
                raise StaleError
            return
        try:
            source.continues(state.size).verify(
                old_size=state.size,
                old_root=state.root(),
                size=source.size,
                root=source.root,
            )
        except VerificationError:
            if state.size:
                raise StaleError from None
            raise

    def _forget(self, connection: sqlite3.Connection) -> None:
        """Remove what was pruned from the log, for the index is a copy of it."""
        gone = self.source.gone
        now = sha256(repr(sorted(gone)).encode()).hexdigest()
        if connection.execute("SELECT value FROM state WHERE name = 'gone'").fetchone() != (now,):
            with _transaction(connection):
                for bundle in sorted(gone):
                    first = bundle * BUNDLE
                    connection.execute(_FORGET, (GONE, first, first + BUNDLE, GONE))
                connection.execute("INSERT OR REPLACE INTO state VALUES ('gone', ?)", (now,))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = min(_read_state(connection).size, self.source.size)
        counted = connection.execute(
            'SELECT count(*) FROM entry WHERE malformed = ? AND "index" < ?', (GONE, size)
        ).fetchone()
        expected = sum(max(0, min(BUNDLE, size - bundle * BUNDLE)) for bundle in gone)
        if counted != (expected,):
            raise StaleError  # What is there again is handed out again.

    def _chunk(self, connection: sqlite3.Connection, done: Progress) -> _State:
        with _transaction(connection):
            state = _read_state(connection)
            stop = min(self.source.size, state.size + _CHUNK)
            start = state.size
            if start < stop:
                connection.executemany(_INSERT, self._rows(state, stop))
                if state.size != stop:
                    raise self.source.refuse()
                _write_state(connection, state)
        done(state.size - start)
        return state

    def _rows(self, state: _State, stop: int) -> Iterator[tuple[object, ...]]:
        for index, leaf, digest in self.source.leaves(state.size, stop):
            yield (index, digest, *(_GONE_ROW if leaf is None else read_leaf(leaf).values))
            state.add(digest)

    def pages(self, wanted: Filter, limit: int | None, *, check: bool) -> Iterator[list[Found]]:
        """
        Yield rows that fulfil *wanted*, in the order of the log, some at a time.

        A row is the index, the leaf hash, and one value for each of `COLUMNS`.

        Raises:
            DigestMismatchError: With *check*: the log is not what it was when indexed.
        """
        condition, bound = wanted.sql()
        statement = (
            f"SELECT {', '.join(_NAMES)} FROM entry "  # noqa: S608  values are bound
            f'WHERE "index" >= ? AND "index" < ? AND malformed IS NOT \'{GONE}\' '
            f'AND {condition} ORDER BY "index" LIMIT ?'
        )
        size = self.source.size
        start, left = 0, size if limit is None else min(limit, size)

        def page(connection: sqlite3.Connection) -> list[Found]:
            some = (start, size, *bound, min(left, _PAGE))
            rows = connection.execute(statement, some).fetchall()
            if check and not self._right(rows):
                raise StaleError
            return rows

        while left > 0:
            with self.lock:
                rows = self.run(page)
            if not rows:
                return
            yield rows
            start, left = int(rows[-1][0] or 0) + 1, left - len(rows)

    def _right(self, rows: Sequence[Found]) -> bool:
        """Return whether each row is what its leaf says."""
        places = [int(row[0] or 0) for row in rows]
        at = 0
        while at < len(rows):
            # Neighbours are read at once.
            end = at + 1
            while end < len(rows) and places[end] == places[end - 1] + 1:
                end += 1
            leaves = list(self.source.entries(places[at], places[end - 1] + 1))
            if len(leaves) != end - at:
                return False
            for index, leaf, row in zip(places[at:end], leaves, rows[at:end], strict=True):
                digest = sha256(b"\0" + leaf).digest()
                if row != (index, digest, *read_leaf(leaf).values):
                    return False
            at = end
        return True

    def check_all(self) -> None:
        """
        Hold the file against itself: its tables and its keys have to agree.

        It is made anew where they do not.
        """

        def look(connection: sqlite3.Connection) -> None:
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise StaleError
            _check_places(connection, _read_state(connection))

        self.run(look)


def _check_places(connection: sqlite3.Connection, state: _State) -> None:
    """
    Refuse a table that has not one row for each entry.

    Raises:
        StaleError: It has not.
    """
    found = connection.execute('SELECT count(*), min("index"), max("index") FROM entry').fetchone()
    if found != ((state.size, 0, state.size - 1) if state.size else (0, None, None)):
        raise StaleError


def is_busy(error: BaseException) -> bool:
    """Return whether somebody else holds the file, which is no reason to remove it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _read_state(connection: sqlite3.Connection) -> _State:
    try:
        (text,) = connection.execute("SELECT value FROM state WHERE name = 'log'").fetchone()
        found = json.loads(text)
        state = _State(found["origin"], found["size"], [bytes.fromhex(p) for p in found["peaks"]])
    except (TypeError, ValueError, KeyError) as error:
        raise StaleError from error
    if type(state.size) is not int or len(state.peaks) != state.size.bit_count():
        raise StaleError
    return state


def _write_state(connection: sqlite3.Connection, state: _State) -> None:
    text = json.dumps(
        {"origin": state.origin, "size": state.size, "peaks": [p.hex() for p in state.peaks]}
    )
    connection.execute("INSERT OR REPLACE INTO state VALUES ('log', ?)", (text,))
