"""
A dataset: a handle on data, which hands out nothing that it has not verified.

The handle holds a path, digests and a schema, never the data, so it is small,
pickles, and can be sent to the workers of a data loader.  Each read hashes
what it is about to return, and raises before it returns anything else than
what was registered: the bytes that are hashed are the bytes that are parsed.

Of a table the logical content decides.  A file that was written again with
other row groups is the same data and is handed out as the same frame; a file
in which one label was flipped is not.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

from secureml import hashing
from secureml._extras import require
from secureml._html import card
from secureml.clock import format_time, parse_time
from secureml.data import _measure, _tables
from secureml.data.claim import Column, DatasetClaim
from secureml.data.rows import Arrow
from secureml.errors import DigestMismatchError, FormatError, StoreError
from secureml.evidence.observe import observed
from secureml.evidence.verify import Evidence
from secureml.gates.check import Check, Finding
from secureml.hashing.files import open_regular
from secureml.hashing.table import TableDigest, TableHasher
from secureml.wire.digest import SHA256, TABLE_DIGEST, Digest
from secureml.wire.manifest import Entry, Manifest
from secureml.wire.statement import Statement

__all__ = ["Dataset", "dataset"]

Frame: TypeAlias = Any
"""A `pandas.DataFrame`; pandas is optional."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """
    A table or a tree of files, as it was when it was registered.

    Made by `dataset`.  Pickles without its `evidence`, which is proof only in
    the process that verified it.

    Attributes:
        path: Where the data lies.
        claim: What is said about it.
        manifest: The files of a tree; None of a table.
        table: The digest of a table by column; None of a tree.
        evidence: The verified statement about it; None before it is logged.
    """

    path: Path
    claim: DatasetClaim
    manifest: Manifest | None = None
    table: TableDigest | None = None
    evidence: Evidence | None = field(default=None, repr=False)

    # -- what it is ------------------------------------------------------------

    @property
    def name(self) -> str:
        """How people call it."""
        return self.claim.name

    @property
    def kind(self) -> str:
        """``table`` or ``tree``."""
        return self.claim.kind

    @property
    def digest(self) -> Digest:
        """The digest that statements about it are joined on."""
        return self.claim.digest

    @property
    def digests(self) -> dict[str, str]:
        """Every digest of it, algorithm → hex."""
        return dict(self.claim.digests)

    @property
    def schema(self) -> tuple[Column, ...]:
        """The columns of a table; empty of a tree."""
        return self.claim.schema

    @property
    def rows(self) -> int | None:
        """How many rows a table has; None of a tree."""
        return self.claim.rows

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files of a tree; empty of a table."""
        return () if self.manifest is None else tuple(entry.name for entry in self.manifest)

    def statement(self) -> Statement:
        """Return the claim as a statement; the same data and claims give the same bytes."""
        return self.claim.statement()

    def with_evidence(self, evidence: Evidence) -> "Dataset":
        """
        Return this handle with the verified statement about it.

        Raises:
            DigestMismatchError: The evidence is about other data.
        """
        claim = DatasetClaim.from_statement(evidence.statement)
        if claim.digest != self.digest:
            raise DigestMismatchError(
                f"the evidence is not about {self.name!r}",
                why=f"it is about {claim.digest.short}, the data has {self.digest.short}",
                fix="find the evidence by this digest",
            )
        return replace(self, evidence=evidence)

    # -- what it hands out -----------------------------------------------------

    def to_arrow(self) -> Arrow:
        """
        Return the table as a `pyarrow.Table`, verified.

        Its types, order and metadata depend on the logical content alone.

        Raises:
            TypeError: This is a tree.
            DigestMismatchError: The file holds other data than was registered.
            UnexpectedFileError: The file is gone.
            MissingExtraError: pyarrow is not installed.
        """
        digest = self._table("to_arrow")
        with _measure.registered(self.name, self.path):
            hasher = self._scan(keep=True)
        digest.verify(hasher.finish(), what=f"dataset {self.name!r}")
        observed(self)
        return hasher.table()

    def to_pandas(self) -> Frame:
        """
        Return the table as a `pandas.DataFrame` with a default index, verified.

        Raises:
            TypeError: This is a tree.
            DigestMismatchError: The file holds other data than was registered.
            UnexpectedFileError: The file is gone.
            MissingExtraError: pandas is not installed.
        """
        self._table("to_pandas")
        require("pandas", purpose="to hand out a data frame")
        return self.to_arrow().to_pandas(ignore_metadata=True)

    def read(self, name: str) -> bytes:
        """
        Return the bytes of the file *name* of a tree, verified.

        Raises:
            TypeError: This is a table.
            ValueError: The tree has no such file.
            DigestMismatchError: The file has other bytes than were registered.
            UnexpectedFileError: The file is gone.
        """
        if self.manifest is None:
            msg = f"dataset {self.name!r} is a table: use to_arrow() or to_pandas()"
            raise TypeError(msg)
        entry = self.manifest.get(name)
        if entry is None:
            msg = f"dataset {self.name!r} has no file {name!r}: `files` lists its names"
            raise ValueError(msg)
        path = self.path.joinpath(*entry.name.split("/"))
        with _measure.registered(self.name, path):
            data = _read(path)
        self._check_file(entry, data)
        observed(self)
        return data

    def open(self, name: str) -> BytesIO:
        """
        Return the file *name* of a tree, verified, to read from.

        Raises:
            As `read`.
        """
        return BytesIO(self.read(name))

    def measure(self, checks: Sequence[Check], /) -> list[Finding]:
        """
        Make *checks* in one pass that also hashes, and return a finding for each.

        An exception inside a check is a finding that did not pass, and does
        not stop the others.

        Raises:
            TypeError: Something given is no check.
            DigestMismatchError: The data is not what was registered.
            UnexpectedFileError: The file is gone, or one was added.
        """
        pass_ = _measure.Pass(checks, kind=self.kind)
        if self.table is None:
            with _measure.registered(self.name, self.path):
                actual = hashing.manifest(self.path)
            if self.manifest is not None:
                self.manifest.verify(actual)
            for entry in actual:
                pass_.update(entry)
            return pass_.finish(len(actual))
        with _measure.registered(self.name, self.path):
            hasher = self._scan(keep=False, pass_=pass_)
        self.table.verify(hasher.finish(), what=f"dataset {self.name!r}")
        return pass_.finish(hasher.rows)

    # -- inside ----------------------------------------------------------------

    def _table(self, wanted: str) -> TableDigest:
        if self.table is None:
            msg = f"dataset {self.name!r} is a tree, and {wanted} is for tables: use read(name)"
            raise TypeError(msg)
        return self.table

    def _scan(self, *, keep: bool, pass_: _measure.Pass | None = None) -> TableHasher:
        return _scan(self.path, self.claim.format, self.claim.csv, keep=keep, pass_=pass_)

    def _check_file(self, entry: Entry, data: bytes) -> None:
        actual = hashing.hash_bytes(data)
        if actual.value != entry.sha256:
            raise DigestMismatchError(
                f"file {entry.name!r} of dataset {self.name!r} has digest {actual.short}, but "
                f"{entry.digest.short} was registered",
                why="the file was changed, truncated or replaced after it was registered",
                fix="compare it with the version that was registered; if the change is intended, "
                "register the dataset again",
            )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.path, self.claim, self.manifest, self.table)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        return (self.path, self.claim) == (other.path, other.claim)

    def __hash__(self) -> int:
        return hash((self.path, self.digest))

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {self.claim.describe()})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("digest", self.digest),
            ("holds", self.claim.describe()),
            ("source", self.claim.source),
            ("licence", self.claim.licence),
            ("collector", self.claim.collector or "not said"),
            ("collected", self.claim.collected_at or "not said"),
        ]
        note = "verified on every read; source and licence are declared, not proven"
        return card(f"dataset {self.name}", rows, note=note)


def dataset(
    path: str | os.PathLike[str],
    *,
    source: str,
    licence: str,
    collector: str = "",
    name: str | None = None,
    schema: object = None,
    collected_at: datetime | str | None = None,
) -> Dataset:
    """
    Measure the data at *path*, and return a handle on it.

    Nothing is logged; a workspace does that.

    Args:
        path: A Parquet, CSV or Arrow file, which becomes a table, or a
            directory, which becomes a tree of files.
        source: Where it came from, for example a URL or a study.
        licence: Under which terms, for example ``"CC-BY-4.0"``.
        collector: Who collected it.
        name: How people call it; the name of the file without its ending when None.
        schema: The types of a CSV file, a `pyarrow.Schema` or a mapping such
            as ``{"age": "int64"}``; inferred over the whole file when None,
            and written into the claim either way.
        collected_at: When, with a time zone.

    Raises:
        TypeError: *path* is a frame, or another argument is of the wrong type.
        ValueError: *path* is a URL, a claim is empty, or *schema* does not apply.
        FormatError: The data is empty, or in no format that can be read.
        StoreError: The data is not there, or cannot be opened.
        DigestMismatchError: It changed while it was read.
        MissingExtraError: pyarrow is not installed.
    """
    place = _place(path)
    if name is None:
        name = place.name if place.is_dir() else place.stem
    claims = {
        "name": _text("name", name),
        "source": _text("source", source),
        "licence": _text("licence", licence),
        "collector": _text("collector", collector) if collector else "",
        "collected_at": _time(collected_at),
    }
    if place.is_dir():
        if schema is not None:
            msg = f"schema is for CSV files, and {place.name!r} is a directory: leave it out"
            raise ValueError(msg)
        return _tree(place, claims)
    return _read_table(place, claims, schema)


def _tree(place: Path, claims: dict[str, Any]) -> Dataset:
    files = hashing.manifest(place)
    if not len(files):
        raise FormatError(
            f"directory {place.name!r} holds no files",
            why="a dataset of nothing would pass for anything",
            fix="check what should have written it",
        )
    claim = DatasetClaim(
        format="directory", digests=files.digest.as_set(), files=len(files), **claims
    )
    return Dataset(path=place, claim=claim, manifest=files)


def _read_table(place: Path, claims: dict[str, Any], schema: object) -> Dataset:
    form = _tables.detect(place)
    if schema is not None and form != "csv":
        msg = f"schema is for CSV files, and {place.name!r} is {form}, which has its own types"
        raise ValueError(msg)
    before = _stamp(place)
    csv: tuple[Column, ...] = ()
    if form == "csv":
        csv = _tables.infer(place) if schema is None else _tables.csv_columns(schema)
    file = hashing.hash_file(place)
    hasher = _scan(place, form, csv, keep=False)
    table = hasher.finish()
    if not table.columns:
        raise FormatError(
            f"{place.name!r} has no columns",
            why="a table of nothing would pass for anything",
            fix="check what should have written it",
        )
    if _stamp(place) != before:
        raise DigestMismatchError(
            f"{place.name!r} changed while it was read",
            why="its size or its times are others than before",
            fix="wait until nothing writes to it, and register it again",
        )
    claim = DatasetClaim(
        format=form,
        digests={SHA256: file.hex, TABLE_DIGEST: table.root.hex},
        rows=table.rows,
        schema=tuple(Column(column.name, column.type) for column in table.columns),
        csv=csv,
        **claims,
    )
    return Dataset(path=place, claim=claim, table=table)


def _scan(
    path: Path,
    form: str,
    csv: tuple[Column, ...],
    *,
    keep: bool,
    pass_: _measure.Pass | None = None,
) -> TableHasher:
    """Hash the table at *path*, and let *pass_* see the very batches that are hashed."""
    with _tables.batches(path, form, csv) as stream:
        hasher = TableHasher(stream.schema, keep=keep)
        _measure.feed(stream, hasher, pass_)
    hasher.finish()
    return hasher


def _place(path: object) -> Path:
    if not isinstance(path, str | os.PathLike):
        hint = ""
        if hasattr(path, "columns") or hasattr(path, "schema"):
            hint = ": write it to a file first, for example frame.to_parquet('train.parquet')"
        msg = f"a dataset is a file or a directory, not {type(path).__name__}{hint}"
        raise TypeError(msg)
    text = os.fspath(path)
    if not isinstance(text, str):
        msg = "a path is text, not bytes"
        raise TypeError(msg)
    if "://" in text:
        msg = (
            f"{text.partition('://')[0]}:// is not read yet: copy the data to a local path and "
            "give that; the claim's source can name the URL"
        )
        raise ValueError(msg)
    try:
        return Path(text).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"there is no data at {text!r}",
            why=f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}",
            fix="check the path, and that its volume is mounted",
        ) from error


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        msg = f"{what} is text, not {type(value).__name__}"
        raise TypeError(msg)
    if not value.strip() or not value.isprintable():
        msg = f"{what} is one line of text that says something, got {value!r}"
        raise ValueError(msg)
    return value


def _time(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return format_time(value)
    if not isinstance(value, str):
        msg = f"collected_at is a datetime with a time zone, not {type(value).__name__}"
        raise TypeError(msg)
    try:
        return format_time(parse_time(value))
    except FormatError as error:
        msg = f"collected_at: {error.what}; {error.why}"
        raise ValueError(msg) from error


def _stamp(path: Path) -> tuple[int, ...]:
    """Return inode, size and times: they tell whether a file was written in between."""
    status = path.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: Path) -> bytes:
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read()


def _rebuild(
    path: Path, claim: DatasetClaim, manifest: Manifest | None, table: TableDigest | None
) -> Dataset:
    return Dataset(path=path, claim=claim, manifest=manifest, table=table)
