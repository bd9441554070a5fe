"""
What a row of the audit log is: the columns, and how a leaf fills them.

One leaf, one row.  The JSON is parsed once, and spelled again to see that it
was canonical; both take less time than the digest of a longer record.  A leaf
that is not canonical, or whose field is of another type than its column, is
judged by `Record`, and becomes a row that says in ``malformed`` why it is no
record; never an error, for one bad leaf must not hide the others.

Edge: a row says what its record says.  Whether the records hold together, and
each field is in its form, is the matter of `secureml.audit.check_records`.

Source: docs/spec/audit-record.md.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias, cast

from secureml.audit.record import MAX_LEAF, PREFIX_SIZE, Record, read_prefix
from secureml.errors import FormatError
from secureml.wire.canonical import JSON

__all__ = ["COLUMNS", "KEY", "Found", "Row", "Value", "read_leaf"]

Value: TypeAlias = str | int | None
"""What a column holds."""

Found: TypeAlias = tuple[str | int | bytes | None, ...]
"""A row of the log: the index, the leaf hash, and one value for each of `COLUMNS`."""

KEY: Final = ("origin", "index", "leaf_hash")
"""The columns of every row: with them an auditor asks the log for a proof."""

COLUMNS: Final[Mapping[str, str]] = {
    "writer": "text",
    "seq": "integer",
    "id": "text",
    "time": "text",
    "type": "text",
    "action": "text",
    "actor": "text",
    "outcome": "text",
    "latency_us": "integer",
    "model_name": "text",
    "model_digest": "text",
    "model_version": "text",
    "model_status": "text",
    "session": "text",
    "request": "text",
    "tenant": "text",
    "trace_id": "text",
    "span_id": "text",
    "retention_class": "text",
    "error_type": "text",
    "chunks": "integer",
    "ttft_us": "integer",
    "parent": "text",
    "intent": "text",
    "body": "text",
    "malformed": "text",
}
"""Column → its type, in the order of a row; those of `KEY` come before them."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_EMPTY: Final[Mapping[str, JSON]] = {}
_TEXTS: Final = frozenset({str, type(None)})
_NUMBERS: Final = frozenset({int, type(None)})
_MAX: Final = 2**53
_BLANK: Final = (None,) * (len(COLUMNS) - 3)


class Row(NamedTuple):
    """
    One leaf, read.

    Attributes:
        values: One for each of `COLUMNS`, in that order.
        record: The record's JSON object; None where the leaf is no record.
    """

    values: tuple[Value, ...]
    record: Mapping[str, JSON] | None


def read_leaf(leaf: bytes) -> Row:
    """Return what *leaf* says, or why it is no record; raises nothing."""
    from pydantic_core import from_json, to_json

    writer: str | None = None
    seq: int | None = None
    try:
        writer, seq = read_prefix(leaf)
        content = leaf[PREFIX_SIZE:]
        try:
            body = from_json(content, allow_inf_nan=False, cache_strings="keys")
            if to_json(body) == content and len(leaf) <= MAX_LEAF:
                return Row((writer, seq, *_pick(body), content.decode(), None), body)
        except (ValueError, TypeError, AttributeError):
            pass  # Something is odd: the specification's own reader says what.
        record = dict(Record.decode(leaf).body)
        return Row((writer, seq, *_pick(record), content.decode(), None), record)
    except FormatError as error:
        return Row((writer, seq, *_BLANK, error.why), None)
    except (ValueError, TypeError, AttributeError):
        # A field whose form the specification leaves open has another type here.
        return Row((writer, seq, *_BLANK, "a field is of another type than its column"), None)


def _pick(body: Mapping[str, JSON]) -> tuple[Value, ...]:
    """
    Return the columns between ``seq`` and ``body``.

    Raises:
        TypeError, ValueError, AttributeError: A field is of another type.
    """
    get = body.get
    record = cast("Mapping[str, JSON]", get("record", _EMPTY)).get
    model = cast("Mapping[str, JSON]", get("model", _EMPTY)).get
    trace = cast("Mapping[str, JSON]", get("trace", _EMPTY)).get
    stream = cast("Mapping[str, JSON]", get("stream", _EMPTY)).get
    latency, chunks, ttft = get("latency_us"), stream("chunks"), stream("ttft_us")
    time = get("time")
    row = (
        record("id"),
        time,
        get("type"),
        get("action"),
        cast("Mapping[str, JSON]", get("actor", _EMPTY)).get("id"),
        get("outcome"),
        model("name"),
        model("digest"),
        model("version"),
        model("status"),
        get("session"),
        get("request"),
        get("tenant"),
        trace("trace_id"),
        trace("span_id"),
        get("retention_class"),
        cast("Mapping[str, JSON]", get("error", _EMPTY)).get("type"),
        get("parent"),
        get("intent"),
    )
    if not set(map(type, row)) <= _TEXTS:
        raise TypeError
    numbers = (latency, chunks, ttft)
    if not set(map(type, numbers)) <= _NUMBERS or any(
        not -_MAX < cast("int", number) < _MAX for number in numbers if number
    ):
        raise TypeError
    if row[0] is None or row[2] is None or not _TIME.fullmatch(cast("str", time)):
        raise TypeError
    datetime.fromisoformat(cast("str", time))
    return cast("tuple[Value, ...]", (*row[:6], latency, *row[6:17], chunks, ttft, *row[17:]))
