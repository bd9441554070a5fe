"""
Whether size matters: cost per record, and of a proof, from ten thousand records on.

`rows` goes up to 10⁷, which takes 3 GB of disk and three minutes, and quickly to
10⁵.  ``python bench/bench_scale.py 7`` prints the curve with the memory that it
takes, each size in a process of its own.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from secureml import keys
from secureml.audit.verification import verify_audit
from secureml.evidence._tree import TileTree, hash_leaves
from secureml.evidence.log import Log
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.keys.signer import Signer
from secureml.wire import tiles
from secureml.wire.checkpoint import Checkpoint

__all__ = ["build", "leaves", "measure", "rows"]

ORIGIN = "bench.example/scale"
WRITERS = 4
PROOFS = 200
PROOF = 5.0
"""Milliseconds within which one record is proven."""
FLAT = 1.25
"""How much dearer a record of a large log may be than one of a log of 10,000."""
_START = (
    b'{"monotonic_us":0,"record":{"id":"%s"},"start":{"heartbeat_s":60},'
    b'"time":"2026-11-22T08:00:00.000000Z","type":"start"}'
)
_CALL = (
    b'{"action":"bench","call":{"kind":"function","name":"f"},"latency_us":%d,"monotonic_us":%d,'
    b'"outcome":"ok","record":{"id":"%s"},"time":"2026-11-22T%02d:%02d:%02d.%06dZ","type":"call"}'
)


def leaves(first: int, stop: int) -> list[bytes]:
    """Return small records, as some writers in turn write them, one every 8 ms."""
    made = []
    for index in range(first, stop):
        seq, writer = divmod(index, WRITERS)
        identity = b"019d1c3a-%04x-7000-8000-%012x" % (index >> 16 & 0xFFFF, index)
        if seq == 0:
            body = _START % identity
        else:
            second, part = divmod(index * 8_000, 1_000_000)
            minute, second = divmod(second, 60)
            hour, minute = divmod(minute, 60)
            clock = (hour % 24, minute, second, part)
            body = _CALL % (index % 997, index, identity, *clock)
        made.append(b"secureml-audit/1 %032x %016x\n%s" % (writer, seq, body))
    return made


def build(directory: Path, size: int, signer: Signer) -> None:
    """Write the tiles, bundles and checkpoint of a log of *size* records."""
    tree = TileTree()
    ready: set[Path] = set()

    def write(name: str, data: bytes) -> None:
        path = directory / name
        if path.parent not in ready:
            path.parent.mkdir(parents=True, exist_ok=True)
            ready.add(path.parent)
        path.write_bytes(data)

    for first in range(0, size, tiles.WIDTH):
        some = leaves(first, min(size, first + tiles.WIDTH))
        write(tiles.entries_path(first // tiles.WIDTH, len(some)), tiles.encode_bundle(some))
        tree.extend(hash_leaves(some))
        for level, index, data in tree.take_full():
            write(tiles.tile_path(level, index), data)
    for level, index, data in tree.partial():
        write(tiles.tile_path(level, index, len(data) // 32), data)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, tree.root()), signer, purpose="audit")
    write("checkpoint", note.encode())


def measure(size: int) -> dict[str, float]:
    """Return µs per record to verify, ms per proof, and MiB of memory, for a log of *size*."""
    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    identity = Identity(
        name="log", verifier=signer.verifier, roles=frozenset({"audit"}), origin=ORIGIN
    )
    trust = Trust((identity,))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "audit"
        build(directory, size, signer)
        for level in ("sequence", "records"):
            times = []
            for _ in range(3 if size < 1_000_000 else 1):
                began = time.process_time()
                if level == "sequence":
                    done = verify_audit(directory, trust=trust, level="sequence")
                else:
                    done = verify_audit(directory, trust=trust, level="records")
                times.append(time.process_time() - began)
                assert done.ok, done.findings[:3]
                assert done.report.count == size
                del done
            found[level] = min(times) * 1e6 / size
            found[f"{level} MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        draw = random.Random(7)  # noqa: S311  which leaf is proven hides nothing
        walls, cpus = [], []
        for _ in range(PROOFS):
            index = draw.randrange(size)
            wall, cpu = time.perf_counter(), time.process_time()
            Log.open(directory).prove(index)
            cpus.append(time.process_time() - cpu)
            walls.append(time.perf_counter() - wall)
        walls.sort()
        found["proof"] = statistics.median(walls) * 1e3
        found["p99 proof"] = walls[PROOFS * 99 // 100] * 1e3
        found["worst proof"] = walls[-1] * 1e3
        found["proof CPU"] = max(cpus) * 1e3
    return found


def rows(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure, and return one row per size; the peer is the smallest size."""
    figures = {10**power: measure(10**power) for power in ((4, 5) if quick else (4, 5, 6, 7))}
    least = figures[10**4]
    found: list[dict[str, object]] = [
        {
            "name": f"{name}, {size:,} records",
            "ours": found[key],
            "peer": least[key],
            "ratio": found[key] / least[key],
            "unit": unit,
            "note": "peer is the log of 10,000: a ratio of 1 is a flat curve",
            "limits": [("ours", "<=", PROOF)] if key == "proof" else [("ratio", "<=", FLAT)],
        }
        for key, name, unit in (
            ("sequence", "verify by writer and number", "µs"),
            ("records", "verify, records read", "µs"),
            ("proof", "prove one record", "ms"),
        )
        for size, found in figures.items()
        if found is not least
    ]
    size, last = max(figures.items())
    found.append(
        {
            "name": f"prove one record, {size:,} records, the 99th of 100",
            "ours": last["p99 proof"],
            "peer": last["proof CPU"],
            "ratio": last["p99 proof"] / last["proof CPU"],
            "unit": "ms",
            "note": f"by the clock; the slowest of {PROOFS} took {last['worst proof']:.2f}; peer "
            "is the most CPU time that one took: the rest is waiting for a core or the disk",
            "limits": [("ours", "<=", PROOF)],
        }
    )
    return found


def main() -> None:
    """Print the curve, each size in a process of its own."""
    parser = argparse.ArgumentParser(description="Cost per record against the size of the log.")
    parser.add_argument("power", nargs="?", type=int, default=6, help="largest power of ten")
    parser.add_argument("--one", type=int, help="measure this size, and print it")
    options = parser.parse_args()
    if options.one is not None:
        found = measure(options.one)
        print(
            f"{options.one:>12,} {found['sequence']:>9.2f} {found['records']:>9.2f} "
            f"{found['proof']:>9.2f} {found['p99 proof']:>9.2f} {found['worst proof']:>9.2f} "
            f"{found['sequence MiB']:>9.0f} {found['records MiB']:>9.0f}"
        )
        return
    print(
        f"{'':12} {'sequence':>9} {'records':>9} {'proof':>9} {'p99':>9} {'worst':>9} "
        f"{'MiB':>9} {'MiB':>9}"
    )
    print(
        f"{'records':>12} {'µs':>9} {'µs':>9} {'ms':>9} {'ms':>9} {'ms':>9} "
        f"{'sequence':>9} {'records':>9}"
    )
    for power in range(4, options.power + 1):
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "--one", str(10**power)], check=True)


if __name__ == "__main__":
    main()
