"""
What is said about a dataset: its digests, its shape, and where it came from.

The digests and the shape are measured.  Source, licence, collector and time of
collection are the signer's word; a trace shows them as ``declared``.

The same data with the same claims is the same statement, byte for byte, so
registering it again finds the evidence that exists: nothing in it depends on
when or where it was written.

Source: ``docs/spec/dataset.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from secureml.errors import FormatError
from secureml.gates.fields import Fields
from secureml.wire.canonical import JSON
from secureml.wire.digest import DIR_HASH, SHA256, TABLE_DIGEST, Digest
from secureml.wire.statement import DATASET, Statement, Subject

__all__ = ["MEDIA_TYPES", "Column", "DatasetClaim", "schema_from_statement"]

MEDIA_TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.file",
    "directory": "inode/directory",
}
"""Format → media type."""

_CLAIMS = ("source", "licence", "collector", "collectedAt")
_TABLE = ("kind", "format", "mediaType", "rows", "schema", "csv", *_CLAIMS)
_TREE = ("kind", "format", "mediaType", "files", *_CLAIMS)


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table.

    Attributes:
        name: Its name.
        type: Its type; in a schema as ``docs/spec/table-digest.md`` spells
            types, in the reading of a CSV file as pyarrow does.
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetClaim:
    """
    A claim about a dataset.

    Attributes:
        name: How people call it.
        format: ``parquet``, ``csv``, ``arrow`` or ``directory``.
        digests: Of a table ``sha256`` (the file) and ``tableDigest1`` (the
            content); of a tree ``dirHash``.
        source: Where it came from.
        licence: Under which terms.
        collector: Who collected it; empty when not said.
        collected_at: When, RFC 3339; None when not said.
        rows: How many rows a table has; None of a tree.
        files: How many files a tree has; None of a table.
        schema: The canonical columns of a table; empty of a tree.
        csv: The types that a CSV file is read with; empty of other formats.
    """

    name: str
    format: str
    digests: Mapping[str, str]
    source: str
    licence: str
    collector: str = ""
    collected_at: str | None = None
    rows: int | None = None
    files: int | None = None
    schema: tuple[Column, ...] = ()
    csv: tuple[Column, ...] = ()

    @property
    def kind(self) -> str:
        """``table`` or ``tree``."""
        return "tree" if self.format == "directory" else "table"

    @property
    def digest(self) -> Digest:
        """The digest that statements about it are joined on."""
        return Digest.from_set(self.digests, DIR_HASH if self.kind == "tree" else TABLE_DIGEST)

    def describe(self) -> str:
        """Return one line about its shape."""
        if self.kind == "tree":
            return f"{self.files} files, {self.digest.short}"
        return f"{self.rows} rows x {len(self.schema)} columns, {self.format}, {self.digest.short}"

    def statement(self) -> Statement:
        """Return the statement to sign and log."""
        predicate: dict[str, JSON] = {
            "kind": self.kind,
            "format": self.format,
            "mediaType": MEDIA_TYPES[self.format],
            "source": self.source,
            "licence": self.licence,
        }
        if self.collector:
            predicate["collector"] = self.collector
        if self.collected_at is not None:
            predicate["collectedAt"] = self.collected_at
        if self.kind == "tree":
            predicate["files"] = self.files
        else:
            predicate["rows"] = self.rows
            predicate["schema"] = _write(self.schema)
        if self.format == "csv":
            predicate["csv"] = {"columns": _write(self.csv), "rules": 1}
        return Statement((Subject(self.name, dict(self.digests)),), DATASET, predicate)

    @classmethod
    def from_statement(cls, statement: Statement) -> Self:
        """
        Read a claim.

        Raises:
            FormatError: It is not one.
        """
        what = "a claim about a dataset"
        if statement.predicate_type != DATASET or len(statement.subject) != 1:
            raise FormatError(
                f"{what} cannot be read",
                why=f"it is a statement of type {statement.predicate_type[:120]!r} about "
                f"{len(statement.subject)} subjects, expected {DATASET!r} about one",
                fix="get the record again from where it was made",
            )
        subject = statement.subject[0]
        fields = Fields(statement.predicate, what)
        form = fields.choice("format", tuple(MEDIA_TYPES))
        tree = form == "directory"
        fields.only(_TREE if tree else _TABLE)
        if fields.text("kind") != ("tree" if tree else "table"):
            raise fields.refuse(field="kind", found="contradicts the format")
        if fields.text("mediaType") != MEDIA_TYPES[form]:
            raise fields.refuse(field="mediaType", found="contradicts the format")
        wanted = {DIR_HASH} if tree else {SHA256, TABLE_DIGEST}
        if set(subject.digest) != wanted or not subject.name:
            raise fields.refuse(
                field="kind", found=f"needs a named subject with {sorted(wanted)} and no more"
            )
        for algorithm in wanted:
            Digest.from_set(subject.digest, algorithm)
        if fields.has("csv") != (form == "csv"):
            raise fields.refuse(field="csv", found="contradicts the format")
        return cls(
            name=subject.name,
            format=form,
            digests=dict(subject.digest),
            source=fields.text("source"),
            licence=fields.text("licence"),
            collector=fields.text("collector") if fields.has("collector") else "",
            collected_at=fields.time("collectedAt") if fields.has("collectedAt") else None,
            rows=None if tree else fields.integer("rows"),
            files=fields.integer("files", least=1) if tree else None,
            schema=() if tree else _read(fields, "schema"),
            csv=_read_csv(fields.fields("csv")) if form == "csv" else (),
        )


def schema_from_statement(statement: Statement) -> dict[str, str]:
    """
    Return the types that a CSV file was read with, to read it so again.

    ``dataset(path, …, schema=schema_from_statement(statement))``

    Raises:
        FormatError: The statement is no claim about a CSV file.
    """
    claim = DatasetClaim.from_statement(statement)
    if claim.format != "csv":
        raise FormatError(
            f"the claim about {claim.name!r} has no CSV schema",
            why=f"it is about {claim.format}, which carries its own types",
            fix="leave schema out",
        )
    return {column.name: column.type for column in claim.csv}


def _write(columns: tuple[Column, ...]) -> list[JSON]:
    return [{"name": column.name, "type": column.type} for column in columns]


def _read(fields: Fields, name: str) -> tuple[Column, ...]:
    columns = []
    for item in fields.items(name):
        item.only(("name", "type"))
        columns.append(Column(item.text("name", empty=True), item.text("type")))
    if not columns or len({column.name for column in columns}) != len(columns):
        raise fields.refuse(field=name, found="is empty or names a column twice")
    return tuple(columns)


def _read_csv(fields: Fields) -> tuple[Column, ...]:
    fields.only(("columns", "rules"))
    if fields.integer("rules") != 1:
        raise fields.refuse(field="rules", found="is not 1, the only rules this library knows")
    return _read(fields, "columns")
