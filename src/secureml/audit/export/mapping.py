"""
What each field of a record is called by others: one table, from which all exports are made.

Names follow OpenTelemetry's draft ``audit.*`` attributes where they exist, as
the record itself does.  What a format has no name for goes under
``secureml.…``, or where the format puts such things.  A test compares the
table in the documentation with this one.

Source: OpenTelemetry Audit Logging, data model (draft, status Development);
OCSF 1.9.0, class 6003; Elastic Common Schema 8.17; ArcSight Common Event Format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, cast

from secureml.audit._columns import Row, read_leaf
from secureml.wire.canonical import JSON
from secureml.wire.merkle import leaf_hash

__all__ = ["FIELDS", "Field", "Item", "make_item", "mapping_table", "microseconds", "place"]


class Field(NamedTuple):
    """
    One field, and its names.

    Attributes:
        record: Its place in the record, or what the log adds: ``origin``,
            ``index``, ``leaf_hash``, ``writer``, ``seq``.
        kind: ``text`` or ``integer``.
        otel: Attribute, or field of the log record, in OTLP.
        ocsf: Path in an OCSF event; numbers are places in a list.
        ecs: Path in an ECS document.
        cef: Key of the CEF extension.
    """

    record: str
    kind: str
    otel: str
    ocsf: str
    ecs: str
    cef: str


FIELDS: Final = (
    Field(
        "origin",
        "text",
        "secureml.log.origin",
        "attestation_list.0.chain_uid",
        "secureml.log.origin",
        "deviceExternalId",
    ),
    Field(
        "index",
        "integer",
        "secureml.log.index",
        "attestation_list.0.uid",
        "secureml.log.index",
        "cn1",
    ),
    Field(
        "leaf_hash",
        "text",
        "secureml.log.leaf_hash",
        "attestation_list.0.fingerprint.value",
        "event.hash",
        "cs1",
    ),
    Field(
        "writer", "text", "audit.sequence.stream_id", "src_endpoint.uid", "secureml.writer", "cs2"
    ),
    Field("seq", "integer", "audit.sequence.number", "metadata.sequence", "event.sequence", "cn2"),
    Field("record.id", "text", "audit.record.id", "metadata.uid", "event.id", "externalId"),
    Field("time", "text", "timeUnixNano", "metadata.original_time", "@timestamp", "rt"),
    Field("type", "text", "secureml.type", "metadata.event_code", "event.code", "cat"),
    Field("action", "text", "audit.action", "api.operation", "event.action", "act"),
    Field("actor.id", "text", "audit.actor.id", "actor.user.uid", "user.id", "suid"),
    Field(
        "actor.type",
        "text",
        "audit.actor.type",
        "actor.user.type",
        "secureml.actor.type",
        "SecuremlActorType",
    ),
    Field("outcome", "text", "secureml.outcome", "status_code", "secureml.outcome", "outcome"),
    Field("error.type", "text", "error.type", "api.response.error", "error.type", "reason"),
    Field(
        "latency_us",
        "integer",
        "secureml.latency_us",
        "unmapped.latency_us",
        "secureml.latency_us",
        "cn3",
    ),
    Field(
        "model.name", "text", "gen_ai.request.model", "ai_model.name", "secureml.model.name", "cs3"
    ),
    Field(
        "model.digest",
        "text",
        "secureml.model.digest",
        "ai_model.uid",
        "secureml.model.digest",
        "cs4",
    ),
    Field(
        "model.version",
        "text",
        "secureml.model.version",
        "ai_model.version",
        "secureml.model.version",
        "SecuremlModelVersion",
    ),
    Field(
        "model.status",
        "text",
        "secureml.model.status",
        "unmapped.model_status",
        "secureml.model.status",
        "SecuremlModelStatus",
    ),
    Field("session", "text", "session.id", "actor.session.uid", "secureml.session", "cs5"),
    Field(
        "request", "text", "secureml.request", "api.request.uid", "secureml.request", "flexString1"
    ),
    Field(
        "tenant",
        "text",
        "secureml.tenant",
        "metadata.tenant_uid",
        "organization.id",
        "flexString2",
    ),
    Field(
        "retention_class",
        "text",
        "secureml.retention_class",
        "unmapped.retention_class",
        "secureml.retention_class",
        "SecuremlRetentionClass",
    ),
    Field("trace.trace_id", "text", "traceId", "trace.uid", "trace.id", "cs6"),
    Field("trace.span_id", "text", "spanId", "trace.span.uid", "span.id", "SecuremlSpanId"),
    Field(
        "stream.chunks",
        "integer",
        "secureml.stream.chunks",
        "unmapped.chunks",
        "secureml.stream.chunks",
        "SecuremlChunks",
    ),
    Field(
        "stream.ttft_us",
        "integer",
        "secureml.stream.ttft_us",
        "unmapped.ttft_us",
        "secureml.stream.ttft_us",
        "SecuremlTtftUs",
    ),
    Field(
        "parent", "text", "secureml.parent", "unmapped.parent", "secureml.parent", "SecuremlParent"
    ),
    Field(
        "intent", "text", "secureml.intent", "unmapped.intent", "secureml.intent", "SecuremlIntent"
    ),
    Field(
        "call.name",
        "text",
        "code.function.name",
        "api.service.name",
        "log.origin.function",
        "SecuremlFunction",
    ),
    Field(
        "target.id",
        "text",
        "audit.target.id",
        "resources.0.uid",
        "secureml.target.id",
        "SecuremlTargetId",
    ),
    Field(
        "target.type",
        "text",
        "audit.target.type",
        "resources.0.type",
        "secureml.target.type",
        "SecuremlTargetType",
    ),
    Field(
        "target.name",
        "text",
        "secureml.target.name",
        "resources.0.name",
        "secureml.target.name",
        "SecuremlTargetName",
    ),
    Field(
        "source.address",
        "text",
        "audit.source.id",
        "src_endpoint.name",
        "source.address",
        "SecuremlSourceAddress",
    ),
    Field(
        "source.host",
        "text",
        "secureml.source.host",
        "src_endpoint.hostname",
        "source.domain",
        "shost",
    ),
)
"""Every field that has a name of its own in an export; the whole leaf goes along as well."""

_PATHS: Final = tuple((field.record, field.record.split("."), field.kind) for field in FIELDS)
_KINDS: Final = {"text": str, "integer": int}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Item:
    """
    One leaf, to be exported.

    Attributes:
        leaf: Its bytes.
        values: Field, named as in the record, → its value; only those that are there.
        record: The record's JSON object; None where the leaf is no record.
        malformed: Why it is no record, or None.
    """

    leaf: bytes
    values: Mapping[str, str | int]
    record: Mapping[str, JSON] | None
    malformed: str | None

    def text(self, name: str) -> str | None:
        """Return the text in the field *name*, or None."""
        return cast("str | None", self.values.get(name))

    def number(self, name: str) -> int | None:
        """Return the number in the field *name*, or None."""
        return cast("int | None", self.values.get(name))


def make_item(origin: str, index: int, leaf: bytes, read: Row | None = None) -> Item:
    """Return what is to be exported of *leaf*, *read* already or not; raises nothing."""
    row, record = read_leaf(leaf) if read is None else read
    whole: dict[str, Any] = {
        **(record or {}),
        "origin": origin,
        "index": index,
        "leaf_hash": leaf_hash(leaf).hex(),
        "writer": row[0],
        "seq": row[1],
    }
    values: dict[str, str | int] = {}
    for name, parts, kind in _PATHS:
        found: Any = whole
        for part in parts:
            found = found.get(part) if isinstance(found, dict) else None
        if type(found) is _KINDS[kind]:
            values[name] = cast("str | int", found)
    return Item(leaf, values, record, cast("str | None", row[-1]))


def place(target: dict[str, Any], parts: tuple[str, ...], value: object) -> None:
    """Put *value* into *target* at a path; a part that is a number is a place in a list."""
    here: Any = target
    for part, following in pairwise(parts):
        empty: Any = [] if following.isdigit() else {}
        if isinstance(here, list):
            if not here:
                here.append(empty)
            here = here[int(part)]
        else:
            here = here.setdefault(part, empty)
    here[parts[-1]] = value


def microseconds(time: str) -> int:
    """Return *time*, as a record spells it, in microseconds since 1970."""
    return (datetime.fromisoformat(time) - _EPOCH) // _MICROSECOND


@cache
def product_version() -> str:
    """Return the version of this library, for formats that name who wrote them."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("secureml-sdk")
    except PackageNotFoundError:
        return "0"


def mapping_table() -> str:
    """Return the table of all names, in Markdown."""
    head = ("record", "OpenTelemetry", "OCSF 1.9", "ECS 8.17", "CEF")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|"]
    lines += [
        f"| {' | '.join(f'`{name}`' for name in (f.record, f.otel, f.ocsf, f.ecs, f.cef))} |"
        for f in FIELDS
    ]
    return "\n".join(lines)
