"""Exported events pass the schemas of OCSF and of the Elastic Common Schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from secureml.audit.export import ecs, ocsf
from secureml.audit.export.mapping import make_item
from secureml.audit.record import prefix
from secureml.wire import canonical

jsonschema = pytest.importorskip("jsonschema")

VECTORS = Path(__file__).parents[2] / "vectors"
WRITER = "6f1ed002ab5595859014ebf0951522d9"
ID = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"


def record(**fields: object) -> bytes:
    """Return the leaf of a record."""
    body = {"record": {"id": ID}, "time": "2026-11-22T08:30:00.000001Z", "type": "call", **fields}
    return prefix(WRITER, 3) + canonical.encode(body)  # type: ignore[arg-type]


def call(**fields: object) -> bytes:
    """Return the leaf of a call."""
    whole = {
        "action": "act",
        "call": {"kind": "function", "name": "f"},
        "latency_us": 5_000,
        "monotonic_us": 1,
        "outcome": "ok",
        **fields,
    }
    return record(**whole)


LEAVES = {
    "call": call(),
    "everything": call(
        actor={"id": "a" * 32, "type": "user"},
        error={"type": "KeyError"},
        model={"status": "verified", "name": "m", "digest": "sha256:" + "b" * 64, "version": "3"},
        parent=ID,
        request="r",
        session="s",
        source={"address": "192.0.2.7", "host": "h"},
        stream={"chunks": 4, "complete": True, "ttft_us": 5},
        target={"type": "row", "id": "7", "name": "n"},
        tenant="t",
        trace={"trace_id": "c" * 32, "span_id": "d" * 16},
    ),
    "span alone": call(trace={"span_id": "d" * 16}),
    "trace alone": call(trace={"trace_id": "d" * 32}),
    "source that is no address": call(source={"address": "cell 7"}),
    "actor without an id": call(actor={"type": "service"}),
    "unverified model": call(model={"status": "unverified"}),
    **{f"outcome {word}": call(outcome=word) for word in ("error", "denied", "abandoned")},
    **{
        kind: record(type=kind)
        for kind in ("access", "config", "erasure", "gap", "intent", "model-load", "prune", "own")
    },
    "before 1970": call(time="1969-01-01T00:00:00.000000Z"),
    "no record": b"no record",
    "no body": prefix(WRITER, 3),
}
"""Records of every kind that the formats tell apart."""


def load(name: str) -> Any:  # noqa: ANN401  any JSON
    """Return the validator that a vector describes."""
    vector = json.loads((VECTORS / "export" / name).read_text())
    assert vector["source"]
    return jsonschema.Draft202012Validator(vector["schema"])


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=LEAVES)
def test_ocsf_events_are_valid(leaf: bytes) -> None:
    """Each event has what API Activity demands, and no attribute that OCSF does not know."""
    event = json.loads(ocsf.spell(make_item("schema.example", 7, leaf)))

    load("ocsf-api-activity.json").validate(event)


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=LEAVES)
def test_ecs_documents_are_valid(leaf: bytes) -> None:
    """Each document has fields that ECS has, with values that it allows."""
    document = json.loads(ecs.spell(make_item("schema.example", 7, leaf)))

    load("ecs-event.json").validate(document)


def test_the_leaves_of_our_own_vectors_are_valid() -> None:
    """Each good leaf of the record's specification is a valid event and document."""
    vector = json.loads((VECTORS / "audit-record" / "leaves.json").read_text())
    leaves = [one.encode() for one in vector["leaves"].values()]

    assert leaves
    for leaf in leaves:
        item = make_item("schema.example", 7, leaf)
        assert item.malformed is None
        load("ocsf-api-activity.json").validate(json.loads(ocsf.spell(item)))
        load("ecs-event.json").validate(json.loads(ecs.spell(item)))


@pytest.mark.parametrize("name", ["ocsf-api-activity.json", "ecs-event.json"])
def test_the_schemas_refuse_something(name: str) -> None:
    """A schema that lets everything pass would prove nothing."""
    spell = ocsf.spell if name.startswith("ocsf") else ecs.spell
    good = json.loads(spell(make_item("schema.example", 7, call())))
    validator = load(name)
    for bad in (
        {},
        {**good, "unknown_attribute": 1},
        {key: value for key, value in good.items() if key not in {"metadata", "event"}},
    ):
        assert not validator.is_valid(bad)
