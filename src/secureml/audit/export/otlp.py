"""
OTLP: audit records as OpenTelemetry log records, in the JSON mapping of the protocol.

Each line of a file is one ``ExportLogsServiceRequest``, which is what an
OTLP/HTTP receiver takes as well.  64-bit integers are text, and trace and span
ids are hexadecimal, as the mapping says.

As the draft of audit logging demands: no severity, no instrumentation scope,
an event name, both times, and the five mandatory attributes, with ``unknown``
where the record names no actor.  There is no ``audit.integrity.value``, for
nobody signed this form of the record: what proves it is the log.

Source: opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"; OpenTelemetry
Audit Logging, data model (draft, status Development).
"""

import base64
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from secureml.audit.export.mapping import FIELDS, Item, microseconds, product_version

__all__ = ["BATCH", "log_record", "request", "requests"]

BATCH: Final = 256
"""Records in one request."""

_OUTCOMES: Final = {"ok": "success", None: "unknown"}
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_OWN_FIELDS: Final = frozenset({"time", "trace.trace_id", "trace.span_id"})
"""What a log record has fields of its own for."""
_OF_THE_LOG: Final = frozenset(
    {"clock", "disk-full", "end", "epoch", "gap", "heartbeat", "recovery", "seal", "start"}
)
"""Types whose actor is the log itself."""


def requests(items: Iterable[Item], origin: str) -> Iterator[tuple[int, bytes]]:
    """Yield how many records there are in a request, and the request."""
    some: list[dict[str, Any]] = []
    for item in items:
        some.append(log_record(item))
        if len(some) == BATCH:
            yield len(some), request(some, origin)
            some = []
    if some:
        yield len(some), request(some, origin)


def request(records: list[dict[str, Any]], origin: str) -> bytes:
    """Return the request that hands over *records* of the log *origin*, one line of JSON."""
    from pydantic_core import to_json

    resource = {
        "service.name": origin,
        "telemetry.distro.name": "secureml-sdk",
        "telemetry.distro.version": product_version(),
    }
    return to_json(
        {
            "resourceLogs": [
                {
                    "resource": {"attributes": _attributes(resource)},
                    "scopeLogs": [{"logRecords": records}],
                }
            ]
        }
    )


def log_record(item: Item) -> dict[str, Any]:
    """Return *item* as a log record."""
    kind = item.text("type") or "unreadable"
    time = item.text("time")
    began = microseconds(time) * 1_000 if time else 0
    made: dict[str, Any] = {
        "timeUnixNano": str(max(began, 0)),
        # The record was made when the call had ended.
        "observedTimeUnixNano": str(max(began + (item.number("latency_us") or 0) * 1_000, 0)),
        "eventName": f"secureml.audit.{kind}",
    }
    found: dict[str, str | int | bool] = {
        "audit.actor.id": "unknown",
        "audit.actor.type": "system" if kind in _OF_THE_LOG else "service",
        "audit.action": kind,
        "audit.outcome": _OUTCOMES.get(item.text("outcome"), "failure"),
        "audit.schema.version": "secureml-audit/1",
    }
    for field in FIELDS:
        value = item.values.get(field.record)
        if value is not None and field.record not in _OWN_FIELDS:
            found[field.otel] = value
    if kind == "end":
        found["audit.sequence.end"] = True
    if item.record is None:
        found["audit.record.id"] = str(found["secureml.log.leaf_hash"])
        found["secureml.malformed"] = item.malformed or ""
        found["secureml.log.leaf_base64"] = base64.b64encode(item.leaf).decode()
    else:
        found["log.record.original"] = item.leaf.decode()
    for part, name, digits in (("trace_id", "traceId", 32), ("span_id", "spanId", 16)):
        identity = item.text(f"trace.{part}")
        if identity is not None and len(identity) == digits and _HEX.fullmatch(identity):
            made[name] = identity
        elif identity is not None:
            # A receiver would refuse the whole request for it.
            found[f"secureml.{part}"] = identity
    made["attributes"] = _attributes(found)
    return made


def _attributes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any(value)} for key, value in found.items()]


def _any(value: str | int) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}
