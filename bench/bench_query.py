"""What questions cost: indexing an audit log, asking it, and exporting it."""

import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import secureml
from secureml.audit import query
from secureml.audit.export import export
from secureml.audit.record import prefix
from secureml.evidence.log import Log
from secureml.wire import canonical

__all__ = ["rows"]

RECORDS = 100_000
WRITER = "6f1ed002ab5595859014ebf0951522d9"


def rows(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure, and return one row per comparison."""
    count = RECORDS // 4 if quick else RECORDS
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch)
        log = _log(path / "log", count)

        def cpu(work: Callable[[], object]) -> float:
            began = time.process_time()
            work()
            return (time.process_time() - began) * 1e6 / count

        bare = cpu(lambda: _bare(log, path / "bare.sqlite"))
        plain = cpu(lambda: _plain(log, path / "plain.jsonl"))
        index = cpu(lambda: query.open_index(log, cache=path / "cache").close())
        again = cpu(lambda: query.open_index(log, cache=path / "cache").close())
        found = [
            _row("index an audit log", index, bare, "json.loads and a bare SQLite insert", count),
            _row("open an index that is up to date", again, bare, "the same", count),
        ]
        found += [
            _row(
                f"export as {form}",
                cpu(lambda form=form: export(log, form, path / form)),  # type: ignore[misc]
                plain,
                "json.loads and json.dumps to a file",
                count,
            )
            for form in ("jsonl", "parquet", "ocsf", "ecs", "cef", "otlp")
        ]
        return found


def _log(where: Path, count: int) -> Log:
    signer = secureml.keys.generate("ed25519", purposes=frozenset({"audit"}))
    log = Log.open(
        where, origin="bench.example/query", signer=signer, purpose="audit", create=True
    )
    body = {
        "action": "diagnose",
        "actor": {"id": "8a1c7e0a1f9c2b6d3e4f50617283940a", "type": "user"},
        "call": {"code": "sha256:" + "a" * 64, "kind": "function", "name": "clinic.predict"},
        "details": {"segment": "000000"},
        "in": {"row": {"alg": "hmac-sha256", "commitment": "b" * 64}},
        "model": {"digest": "dirHash:" + "c" * 64, "name": "diagnosis", "status": "verified"},
        "monotonic_us": 8_123_456_789,
        "out": {"return.score": {"alg": "hmac-sha256", "commitment": "d" * 64}},
        "outcome": "ok",
        "time": "2026-11-22T08:30:00.000000Z",
        "type": "call",
    }
    for number in range(count):
        name = f"019d1c3a-7b1e-7c44-9a53-{number:012x}"
        whole = {**body, "latency_us": number % 5_000, "record": {"id": name}}
        log.append(prefix(WRITER, number) + canonical.encode(whole), sync=False)
    log.publish()
    return log


def _bare(log: Log, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (i INTEGER PRIMARY KEY, id, time, outcome, body)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
            (
                (i, body["record"]["id"], body["time"], body["outcome"], leaf[67:].decode())
                for i, leaf in enumerate(log.entries(0, log.size))
                for body in (json.loads(leaf[67:]),)
            ),
        )
    connection.close()


def _plain(log: Log, path: Path) -> None:
    with path.open("w") as file:
        for leaf in log.entries(0, log.size):
            file.write(json.dumps(json.loads(leaf[67:])) + "\n")


def _row(name: str, ours: float, peer: float, note: str, count: int) -> dict[str, object]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": ours / max(peer, 1e-9),
        "unit": "µs",
        "note": f"{1e6 / max(ours, 1e-3):,.0f} a CPU-second, of {count:,} records; peer is {note}",
    }
