"""What an auditor waits for: an audit log verified, against the least that could be done."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from secureml import keys
from secureml.audit.verification import AuditVerification, verify_audit
from secureml.evidence._tree import TileTree, hash_leaves
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.keys.signer import Signer
from secureml.wire import canonical, tiles
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import leaf_hash, root

__all__ = ["rows"]

TURNS = 3
RECORDS = 50_000
ORIGIN = "bench.example/verify"
WRITER = b"6f1ed002ab5595859014ebf0951522d9"
TEXT = "a note of the caller, in so many words, for the length of it. "


def leaf(number: int) -> bytes:
    """Return a record of 1 KiB, as a service under PCI DSS would leave it."""
    minute, second, part = number // 6_000 % 60, number // 100 % 60, number % 100
    body: dict[str, JSON] = {
        "monotonic_us": 8_123_456_789 + number,
        "record": {"id": f"019d1c3a-{number >> 16:04x}-7c44-9a53-{number:012x}"},
        "time": f"2026-11-22T08:{minute:02}:{second:02}.{part:06}Z",
        "type": "call" if number else "start",
    }
    if number == 0:
        body["start"] = {"heartbeat_s": 60}
    else:
        digits = f"{number:064x}"
        body |= {
            "action": "diagnose",
            "actor": {"id": digits[:32], "type": "user"},
            "call": {"code": f"sha256:{digits}", "kind": "function", "name": "clinic.predict"},
            "details": {"segment": "000000"},
            "in": {"row": {"alg": "hmac-sha256", "commitment": digits}},
            "latency_us": 412 + number % 97,
            "model": {"digest": f"dirHash:{'cd' * 32}", "name": "diagnosis", "status": "verified"},
            "out": {"return.score": {"alg": "hmac-sha256", "commitment": digits}},
            "outcome": "ok",
            "request": f"r-{number}",
            "session": f"s-{number // 10}",
            "source": {"host": "node-7"},
            "target": {"id": str(number), "type": "patient"},
            "text": TEXT[:40],
            "trace": {"span_id": digits[:16], "trace_id": digits[:32]},
        }
    return b"secureml-audit/1 %s %016x\n%s" % (WRITER, number, canonical.encode(body))


def build(directory: Path, leaves: list[bytes], signer: Signer) -> None:
    """Write the tiles, bundles and checkpoint of a log of *leaves*."""
    tree = TileTree()
    for first in range(0, len(leaves), tiles.WIDTH):
        some = leaves[first : first + tiles.WIDTH]
        _write(
            directory / tiles.entries_path(first // tiles.WIDTH, len(some)),
            tiles.encode_bundle(some),
        )
        tree.extend(hash_leaves(some))
    for level, index, data in (*tree.take_full(), *tree.partial()):
        _write(directory / tiles.tile_path(level, index, len(data) // 32), data)
    checkpoint = Checkpoint(ORIGIN, len(leaves), tree.root())
    note = sign_checkpoint(checkpoint, signer, purpose="audit")
    _write(directory / "checkpoint", note.encode())


def rows(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure, and return one row per comparison."""
    count = RECORDS // 4 if quick else RECORDS
    leaves = [leaf(number) for number in range(count)]
    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    identity = Identity(
        name="log", verifier=signer.verifier, roles=frozenset({"audit"}), origin=ORIGIN
    )
    trust = Trust((identity,))
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        build(directory, leaves, signer)

        def hashed() -> None:
            root([leaf_hash(one) for one in leaves])

        def loaded() -> None:
            for one in leaves:
                json.loads(one[67:])
            hashed()

        def each(work: Callable[[], AuditVerification]) -> float:
            return _each(lambda: _held(work(), count), count)

        plain, read = _each(hashed, count), _each(loaded, count)
        size = sum(map(len, leaves)) // count
        return [
            _row(
                "verify by writer and number",
                each(lambda: verify_audit(directory, trust=trust, level="sequence")),
                plain,
                f"{size} bytes a record; peer is the RFC 6962 root from memory",
                150_000,
            ),
            _row(
                "verify, records read and checked",
                each(lambda: verify_audit(directory, trust=trust)),
                read,
                "peer is the root and json.loads of each, which checks nothing",
                60_000,
            ),
            _row(
                "verify, records held against PCI DSS 10.2.2",
                each(lambda: verify_audit(directory, trust=trust, profile="pci-10.2.2")),
                read,
                "the same peer",
                60_000,
            ),
        ]


def _held(found: AuditVerification, count: int) -> None:
    """Refuse to measure a log that does not hold."""
    found.enforce(strict=True)
    assert found.report.count == count


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _each(work: Callable[[], object], count: int) -> float:
    """Return the least CPU time of some turns of *work*, in µs for each record."""
    times: list[float] = []
    for _ in range(TURNS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1e6 / count


def _row(name: str, ours: float, peer: float, note: str, least: int) -> dict[str, object]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": ours / peer,
        "unit": "µs",
        "note": f"{1e6 / ours:,.0f} records a CPU-second; {note}",
        "limits": [("ours", "<=", 1e6 / least)],
    }
