"""
Elastic Common Schema 8.17: one nested JSON document a record.

``event.hash`` is the leaf's hash and ``event.original`` the leaf, which is what
the schema has them for: to show that the event was not changed.

Source: elastic.co/guide/en/ecs/8.17, field sets event, user, trace, error.
"""

import base64
from typing import Any, Final

from secureml.audit.export.mapping import FIELDS, Item, place

__all__ = ["spell"]

VERSION: Final = "8.17.0"
_OUTCOMES: Final = {"ok": "success", None: "unknown"}
_TYPES: Final = {
    "access": ("api", "access"),
    "call": ("api", "access"),
    "config": ("configuration", "change"),
    "erasure": ("database", "deletion"),
    "intent": ("api", "start"),
    "prune": ("database", "deletion"),
}
_PATHS: Final = tuple((field.record, tuple(field.ecs.split("."))) for field in FIELDS)


def spell(item: Item) -> bytes:
    """Return the document of *item*, one line of JSON."""
    from pydantic_core import to_json

    return to_json(document(item))


def document(item: Item) -> dict[str, Any]:
    """Return the document of *item*."""
    outcome = item.text("outcome")
    category, kind = _TYPES.get(item.text("type") or "", ("process", "info"))
    event: dict[str, Any] = {
        "kind": "event",
        "category": [category],
        "type": [kind, "denied"] if outcome == "denied" else [kind],
        "outcome": _OUTCOMES.get(outcome, "failure"),
        "module": "secureml",
        "dataset": "secureml.audit",
        "provider": "secureml",
    }
    made: dict[str, Any] = {"@timestamp": "1970-01-01T00:00:00.000000Z"}
    made |= {"ecs": {"version": VERSION}, "event": event}
    for field, parts in _PATHS:
        value = item.values.get(field)
        if value is not None:
            place(made, parts, value)
    latency = item.number("latency_us")
    if latency is not None:
        event["duration"] = latency * 1_000
    if item.record is None:
        event["kind"] = "pipeline_error"
        made["error"] = {"message": item.malformed}
        made["secureml"]["leaf_base64"] = base64.b64encode(item.leaf).decode()
    else:
        event["original"] = item.leaf.decode()
    return made
