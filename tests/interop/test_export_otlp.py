"""
Our OTLP requests, read by OpenTelemetry's own protocol buffers.

It runs where ``opentelemetry-proto`` is installed.  The JSON mapping of OTLP
has ids in hexadecimal where protocol buffers have base64, so the test spells
those two fields as the library expects them, and nothing else.
"""

import json
from base64 import b64encode
from pathlib import Path

import pytest

from secureml import keys
from secureml.audit.export import export
from secureml.audit.record import prefix
from secureml.evidence.log import Log
from secureml.wire import canonical
from secureml.wire.merkle import leaf_hash

service = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
json_format = pytest.importorskip("google.protobuf.json_format")

WRITER = "6f1ed002ab5595859014ebf0951522d9"
MANDATORY = {
    "audit.record.id",
    "audit.actor.id",
    "audit.actor.type",
    "audit.action",
    "audit.outcome",
}


def leaf(number: int) -> bytes:
    """Return a leaf of a call with a trace, a model and a stream."""
    body = {
        "action": "dia|gno=se\n",
        "actor": {"id": "a" * 32, "type": "user"},
        "call": {"kind": "generator", "name": "f"},
        "latency_us": 2**53 - 1 if number else 5,
        "model": {"digest": "sha256:" + "b" * 64, "name": "m", "status": "verified"},
        "monotonic_us": number,
        "outcome": "ok",
        "record": {"id": f"019d1c3a-7b1e-7c44-9a53-{number:012x}"},
        "stream": {"chunks": 3, "complete": True},
        "time": "2026-11-22T08:30:00.000001Z",
        "trace": {"span_id": "0123456789abcdef", "trace_id": "0123456789abcdef" * 2},
        "type": "call",
    }
    return prefix(WRITER, number) + canonical.encode(body)  # type: ignore[arg-type]


def test_opentelemetry_reads_our_requests(tmp_path: Path) -> None:
    """Every request parses, without a field that the protocol does not know."""
    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    leaves = [*map(leaf, range(300)), b"no record"]
    with Log.open(
        tmp_path / "log", origin="otlp.example", signer=signer, purpose="audit", create=True
    ) as log:
        for one in leaves:
            log.append(one, sync=False)
        log.publish()
        export(log, "otlp", tmp_path / "out.jsonl")

    records = []
    for line in (tmp_path / "out.jsonl").read_bytes().splitlines():
        said = json.loads(line)
        for record in said["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
            for name in ("traceId", "spanId"):
                if name in record:
                    record[name] = b64encode(bytes.fromhex(record[name])).decode()
        request = json_format.ParseDict(said, service.ExportLogsServiceRequest())
        (resource,) = request.resource_logs
        (scope,) = resource.scope_logs
        assert not scope.HasField("scope")
        records += scope.log_records

    assert len(leaves) == len(records)
    for one, record in zip(leaves, records, strict=True):
        found = {
            pair.key: getattr(pair.value, pair.value.WhichOneof("value"))
            for pair in record.attributes
        }
        assert found.keys() >= MANDATORY
        assert leaf_hash(one).hex() == found["secureml.log.leaf_hash"]
        assert record.event_name.startswith("secureml.audit.")
        assert 0 == record.severity_number
        assert record.observed_time_unix_nano >= record.time_unix_nano
    first = records[0]
    assert bytes.fromhex("0123456789abcdef" * 2) == first.trace_id
    assert bytes.fromhex("0123456789abcdef") == first.span_id
    assert 1_795_336_200_000_001_000 == first.time_unix_nano
    found = {pair.key: pair.value for pair in records[1].attributes}
    assert 2**53 - 1 == found["secureml.latency_us"].int_value
    assert "dia|gno=se\n" == found["audit.action"].string_value
    assert leaf(1).decode() == found["log.record.original"].string_value
