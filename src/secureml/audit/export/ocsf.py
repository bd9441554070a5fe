"""
OCSF 1.9.0: API Activity, with the profiles ``ai_operation``, ``record_integrity``, ``trace``.

The attestation points into the log: ``chain_uid`` is the log's origin, ``uid``
the index of the leaf, and ``fingerprint`` the leaf's hash.  OCSF means by a
fingerprint one over the event; this one is over the leaf, which is
``raw_data``, and says so: algorithm and serialization are ``99``, Other.

Source: github.com/ocsf/ocsf-schema, 1.9.0: class 6003, profile record_integrity.
"""

import base64
import ipaddress
from typing import Any, Final

from secureml.audit.export.mapping import FIELDS, Item, microseconds, place, product_version

__all__ = ["CLASS", "spell"]

VERSION: Final = "1.9.0"
CLASS: Final = 6003
_ACTIVITIES: Final = {
    "access": (2, "Read"),
    "config": (3, "Update"),
    "erasure": (4, "Delete"),
    "model-load": (2, "Read"),
    "prune": (4, "Delete"),
}
_OTHER: Final = (99, "Other")
_STATUS: Final = {"ok": (1, "Success"), None: (0, "Unknown")}
_FAILURE: Final = (2, "Failure")
_SEVERITY: Final = {"disk-full": 3, "gap": 3, "recovery": 3}
_PATHS: Final = tuple((field.record, tuple(field.ocsf.split("."))) for field in FIELDS)


def spell(item: Item) -> bytes:
    """Return the event of *item*, one line of JSON."""
    from pydantic_core import to_json

    return to_json(event(item))


def event(item: Item) -> dict[str, Any]:
    """Return the event of *item*."""
    kind = item.text("type") or "unreadable"
    outcome = item.text("outcome")
    activity, name = _ACTIVITIES.get(kind, _OTHER)
    status, words = _STATUS.get(outcome, _FAILURE)
    time = item.text("time")
    began = microseconds(time) if time else 0
    latency = item.number("latency_us")
    made: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": kind if activity == _OTHER[0] else name,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"API Activity: {name}",
        "severity_id": _SEVERITY.get(kind, 1 if status != _FAILURE[0] else 2),
        "status_id": status,
        "status": words,
        "time": began // 1_000,
        "metadata": {
            "version": VERSION,
            "product": {
                "name": "secureml",
                "vendor_name": "secureml",
                "version": product_version(),
            },
            "profiles": ["ai_operation", "record_integrity", "trace"],
            "log_name": item.text("origin"),
            "log_version": "secureml-audit/1",
        },
        "actor": {"app_name": item.text("origin")},
        "api": {"operation": kind},
        "src_endpoint": {},
        "attestation_list": [
            {
                "fingerprint": {
                    "algorithm_id": 99,
                    "algorithm": "SHA-256 as an RFC 6962 leaf hash",
                    "serialization_id": 99,
                    "serialization": "secureml-audit/1 leaf, as in raw_data",
                }
            }
        ],
    }
    for field, parts in _PATHS:
        value = item.values.get(field)
        if value is not None:
            place(made, parts, str(value) if field == "index" else value)
    if item.record is None:
        made["unmapped"] = {
            "malformed": item.malformed,
            "leaf_base64": base64.b64encode(item.leaf).decode(),
        }
        made["src_endpoint"].setdefault("uid", "unknown")
    else:
        made["raw_data"] = item.leaf.decode()
        made["raw_data_size"] = len(item.leaf)
    if latency is not None:
        made["duration"] = latency // 1_000
    if "user" in made["actor"]:
        made["actor"]["user"].setdefault("uid", "unknown")
        made["actor"]["user"]["type_id"] = 1 if item.text("actor.type") == "user" else 99
    if "ai_model" in made or "model_status" in made.get("unmapped", ()):
        # Both are demanded; nobody said who provides the model.
        made.setdefault("ai_model", {}).setdefault("name", "unknown")
        made["ai_model"]["ai_provider"] = "unknown"
    if "trace" in made:
        _finish_trace(made, began, latency or 0)
    address = item.text("source.address")
    if address is not None and _is_address(address):
        made["src_endpoint"]["ip"] = address
    return made


def _finish_trace(made: dict[str, Any], began: int, latency: int) -> None:
    """Give a span the times that OCSF demands; a span without its trace goes elsewhere."""
    span = made["trace"].get("span")
    if span is not None:
        span["start_time"] = began // 1_000
        span["end_time"] = (began + latency) // 1_000
    if "uid" not in made["trace"]:
        made.setdefault("unmapped", {})["span_id"] = span["uid"]
        del made["trace"]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
