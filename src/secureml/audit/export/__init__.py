"""
Hand an audit log to other people's tools, in the formats that they read.

Records are streamed: an export of any length takes the memory of a few
hundred of them.  The file appears whole or not at all.  Every row of every
format carries the log's origin, the index and the leaf hash, so that an
auditor who sees a row can ask the log for the proof that it is in there; the
formats of JSON carry the leaf itself as well.

Edge: an export is a copy, and proves nothing without the log.
"""

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from secureml import _extras
from secureml._html import card
from secureml._progress import progress
from secureml.audit._columns import COLUMNS, Found, Row, read_leaf
from secureml.audit._filter import Filter, When, Words, make_filter
from secureml.audit._source import Readable, Source, source_of
from secureml.audit.export import cef, ecs, ocsf, otlp
from secureml.audit.export._writing import Output, Sink, writing
from secureml.audit.export.mapping import FIELDS, Item, make_item, mapping_table
from secureml.audit.query import arrow_batch, arrow_schema
from secureml.audit.record import PREFIX_SIZE
from secureml.evidence.trust import Trust
from secureml.wire.merkle import Frontier, leaf_hash

__all__ = ["FIELDS", "FORMATS", "Exported", "export", "mapping_table"]

FORMATS: Final = ("jsonl", "parquet", "ocsf", "ecs", "cef", "otlp")
"""What `export` writes."""

_ROW_GROUP: Final = 16_384
_CHECK: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """
    What was exported.

    Attributes:
        format: One of `FORMATS`.
        rows: How many records.
        digest: SHA-256 of the bytes that were written, ``sha256:…``.
        origin: The log's name.
        size: How many entries the log had.
        root: Root hash over them, 32 bytes.
        verified: Whether the log was verified.
    """

    format: str
    rows: int
    digest: str
    origin: str
    size: int
    root: bytes
    verified: bool

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("records", self.rows),
            ("format", self.format),
            ("digest", self.digest),
            ("log", self.origin),
            ("entries", self.size),
            ("root", self.root.hex()),
            ("verified", "yes" if self.verified else "no"),
        ]
        return card("Exported audit log", rows)


def export(
    log: Readable | object,
    format: str,  # noqa: A002  the word that everybody uses
    out: str | os.PathLike[str] | Output,
    *,
    where: Mapping[str, object] | None = None,
    since: When | None = None,
    until: When | None = None,
    types: Words | None = None,
    outcome: Words | None = None,
    actor: Words | None = None,
    model: Words | None = None,
    start: int = 0,
    trust: Trust | None = None,
    mode: int = 0o600,
) -> Exported:
    """
    Write the records of an audit log that fulfil every condition.

    Args:
        log: What a verification returned, a `Log`, an `AuditLog`, or the directory of a log.
        format: ``jsonl``, ``parquet``, ``ocsf``, ``ecs``, ``cef`` or ``otlp``.
        out: The file; it appears whole, in place of an older one.  Or
            something that takes bytes, which is written to as it comes.
        where: Column of a query → a value, several, or None for rows without one.
        since: Records of this time and later, by their writers' clocks.
        until: Records before this time.
        types: Types of records, such as ``call``.
        outcome: How they ended.
        actor: Pseudonyms.
        model: Names or digests of models.
        start: Entries from this one on; for an export that goes on.
        trust: Verify the directory first, with this.
        mode: The file's permissions: it names pseudonyms, so nobody else reads it.

    Raises:
        ValueError: A format, a column or a time that does not exist.
        TypeError: A value that its column cannot have, or *log* is no log.
        MissingExtraError: ``parquet`` without pyarrow.
        StoreError: The file cannot be written, or the log cannot be read.
        VerificationError: The log does not verify.
        FormatError: A file of the log is not in its format.
    """
    if format not in FORMATS:
        msg = f"there is no format {format!r}; there are {', '.join(FORMATS)}"
        raise ValueError(msg)
    if start < 0:
        msg = f"entries are counted from 0, not from {start}"
        raise ValueError(msg)
    if format == "parquet":
        _extras.require("pyarrow", purpose="to write Parquet")
    wanted = make_filter(
        where=where,
        since=since,
        until=until,
        types=types,
        outcome=outcome,
        actor=actor,
        model=model,
    )
    source = source_of(log, trust=trust)
    with writing(out, mode=mode) as sink:
        if format == "parquet":
            rows = _write_parquet(sink, _select(source, wanted, start), source)
        elif format == "otlp":
            rows = _write_requests(sink, select_items(source, wanted, start), source)
        else:
            rows = _write_lines(sink, select_items(source, wanted, start), _SPELLERS[format])
    return Exported(
        format=format,
        rows=rows,
        digest=sink.digest,
        origin=source.origin,
        size=source.size,
        root=source.root,
        verified=source.verified,
    )


def select_items(source: Source, wanted: Filter, start: int = 0) -> Iterator[Item]:
    """Yield what is to be exported, in the order of the log."""
    return (
        make_item(source.origin, index, leaf, read)
        for index, leaf, read in _select(source, wanted, start)
    )


def _select(source: Source, wanted: Filter, start: int) -> Iterator[tuple[int, bytes, Row]]:
    names = tuple(COLUMNS)
    tree = Frontier()
    total = max(0, source.size - start)
    with progress(f"exporting {source.origin}", total=total, unit=" records") as done:
        for index, leaf, digest in source.leaves(start, source.size):
            if start == 0:
                tree.append(digest)
            if leaf is None:
                continue  # It was pruned.
            read = read_leaf(leaf)
            if not wanted.tests or wanted.keeps(dict(zip(names, read.values, strict=True))):
                yield index, leaf, read
            if index % _CHECK == 0:
                done(_CHECK)
    if start == 0 and (tree.size, tree.root()) != (source.size, source.root):
        raise source.refuse()


def _write_lines(sink: Sink, items: Iterable[Item], spell: Callable[[Item], bytes]) -> int:
    rows = 0
    for item in items:
        sink.write(spell(item) + b"\n")
        rows += 1
    return rows


def _write_requests(sink: Sink, items: Iterable[Item], source: Source) -> int:
    rows = 0
    for count, request in otlp.requests(items, source.origin):
        sink.write(request + b"\n")
        rows += count
    return rows


def _write_parquet(sink: Sink, selected: Iterable[tuple[int, bytes, Row]], source: Source) -> int:
    parquet = _extras.require("pyarrow.parquet", purpose="to write Parquet")
    schema = arrow_schema(None, {f"secureml.{n}": v for n, v in source.facts().items()})
    rows = 0
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        some: list[Found] = []

        def flush() -> None:
            writer.write_batch(arrow_batch(some, None, schema, source.origin))
            some.clear()

        for index, leaf, read in selected:
            some.append((index, leaf_hash(leaf), *read.values))
            rows += 1
            if len(some) == _ROW_GROUP:
                flush()
        if some:
            flush()
    return rows


def _spell_jsonl(item: Item) -> bytes:
    """Return one line of JSON, with the record's bytes as they are in the leaf."""
    from pydantic_core import to_json

    values = item.values
    head = b'{"index":%d,"leaf_hash":%s,"origin":%s,' % (
        item.number("index") or 0,
        to_json(values["leaf_hash"]),
        to_json(values["origin"]),
    )
    if item.record is None:
        rest = {
            "leaf_base64": base64.b64encode(item.leaf).decode(),
            "malformed": item.malformed,
            "seq": values.get("seq"),
            "writer": values.get("writer"),
        }
        return head + to_json(rest)[1:]
    return head + b'"record":%s,"seq":%d,"writer":%s}' % (
        item.leaf[PREFIX_SIZE:],
        item.number("seq") or 0,
        to_json(values["writer"]),
    )


_SPELLERS: Final[Mapping[str, Callable[[Item], bytes]]] = {
    "jsonl": _spell_jsonl,
    "ocsf": ocsf.spell,
    "ecs": ecs.spell,
    "cef": cef.spell,
}
