"""
What an audited call costs until it is in the log, against logging, tracing and nothing.

Each figure comes from a process of its own (``audit_cases.py``), which uses
nothing but the core dependencies, and is the least of some turns.  CPU time is
that of the whole process, with the threads that write, merge, hash and sign.
"""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import audit_cases

__all__ = ["rows"]

HERE = Path(__file__).resolve().parent
TURNS = 3
EVENT = (
    "a leaf of about 1 KiB with one salted digest, in one audit.context; ack queued, until its "
    "checkpoint"
)
ABOUT = """\
An event passes three threads: the caller's spells the record and commits to the value, one
writes and syncs the spool, one merges, hashes, writes tiles and signs. Of the CPU time, by
`perf`, about half is the caller's, nearly all of it steps of the interpreter; a tenth is the
spool's; the rest the sequencer's. SHA-256 takes about 2 µs of it (the commitment twice, the leaf,
the tree) and the kernel about 3 (pages, files, syncs), which is a third of what an OTel span in
memory costs, before a line of Python has run. Logging writes each line once and hashes nothing;
a span that stays in memory is not even spelled.

Where files are removed by the thousand near by, ext4 takes far longer to make one: the log is
measured in a directory of its own block group. On a disk that syncs in 0.1 ms, as this one does
while nothing else writes, sixteen threads are bound by the interpreter and not by the disk.
"""
"""What the page says before the table."""

Row = dict[str, object]


def rows(*, quick: bool = False) -> list[Row]:
    """Measure, and return one row per comparison."""
    few = 4 if quick else 1
    return [*_capture(few), *_added(few), *_throughput(few), *_beside(few)]


def _capture(few: int) -> list[Row]:
    """Compare the whole way of an event with what peers do."""
    count = 50_000 // few
    best = _turns(
        {
            "ours": ("events", count),
            "stdlib": ("stdlib", count),
            "bare": ("bare", count),
            **({"otel": ("otel", 20_000 // few)} if _has("opentelemetry.sdk") else {}),
            **({"simple": ("otel_simple", 20_000 // few)} if _has("opentelemetry.sdk") else {}),
            **({"file": ("otel_file", 10_000 // few)} if _has("opentelemetry.sdk") else {}),
        },
        turns=2 * TURNS,
    )
    ours = best["ours"]["cpu"]
    found = [
        _row(
            "audited call, to its leaf under a checkpoint",
            ours,
            best["stdlib"]["cpu"],
            f"{EVENT}; peer is logging.FileHandler with json.dumps of the same facts, "
            f"{best['stdlib']['leaf']:.0f} bytes, neither hashed nor synced",
            limits=[("ours", "<=", 15.0), ("ratio", "<=", 0.6)],
        ),
        _row(
            "… of that, what the calling thread spends",
            best["ours"]["caller"],
            best["stdlib"]["cpu"],
            "the rest is written, merged, hashed and signed by others; the same peer",
        ),
        _row(
            "audited call, nothing captured",
            best["bare"]["cpu"],
            best["stdlib"]["cpu"],
            "the decorator alone: action, outcome, latency, id and time; the same peer",
        ),
    ]
    for name, what, limited in (
        ("otel", "an OTel span with 4 attributes, batched, exported to memory", True),
        ("simple", "an OTel span with 4 attributes, exported to memory at once", True),
        ("file", "an OTel span with 4 attributes, written to a file as JSON by the SDK", False),
    ):
        if name in best:
            found.append(
                _row(
                    "audited call, against OpenTelemetry",
                    ours,
                    best[name]["cpu"],
                    f"peer is {what}, neither hashed nor synced",
                    limits=[("ratio", "<=", 1 / 3)] if limited else [],
                )
            )
    if _has("mlflow") and _has("sqlalchemy"):
        theirs = _case("mlflow", 100 // few)["cpu"]
        found.append(
            _row(
                "audited call, against mlflow.trace",
                ours,
                theirs,
                f"peer is mlflow.trace on its SQLite store: {theirs / ours:,.0f} × as much",
                limits=[("ratio", "<=", 1 / 500)],
            )
        )
    return found


def _added(few: int) -> list[Row]:
    """Return what each thing adds to the event."""
    count = 20_000 // few
    cases = {
        "events": ("events", count),
        "own_context": ("own_context", count),
        "answered": ("answered", count),
        "coroutine": ("coroutine", count),
        "detected": ("detected", 8_000 // few),
        "encrypted": ("encrypted", 8_000 // few),
        "durable": ("durable", 2_000 // few),
        "announced": ("announced", 1_000 // few),
        "stream": ("stream", 1_000 // few),
        "async_stream": ("async_stream", 1_000 // few),
    }
    best = _turns(cases)
    plain = best["events"]["cpu"]
    text = f"{len(audit_cases.TEXT)} characters"
    return [
        _row(f"… with {what}", best[case]["cpu"], plain, f"{note}; peer is the event without")
        for case, what, note in (
            ("own_context", "a request of its own", "audit.context entered for each call"),
            ("answered", "its result captured too", f"{len(audit_cases.ANSWER)} characters more"),
            ("coroutine", "an async function", "awaited on a loop"),
            ("detected", "five detectors", f"e-mail, phone, IBAN, card, secrets; {text}"),
            ("encrypted", "encryption", "AES-256-GCM under the key of a person"),
            ("durable", "durable=True", "one thread, so one sync for each call"),
            ("announced", 'require="before"', "two records, the first synced before the call"),
            ("stream", "100 chunks of a generator", "each digested, and kept"),
            ("async_stream", "100 chunks of an async generator", "each digested, and kept"),
        )
    ]


def _throughput(few: int) -> list[Row]:
    """Return events per second, by the clock on the wall."""
    bursts = [_case("burst", 100_000 // few) for _ in range(TURNS)]
    synced = max(one["durable"] for one in bursts)
    published = max(one["published"] for one in bursts)
    found = [
        _rate(
            "one thread, group-committed, all on the disk",
            synced,
            30_000.0,
            "peer is the budget",
            limits=[("ours", ">=", 30_000.0)],
        ),
        _rate("one thread, all under a checkpoint", published, 30_000.0, "peer is the budget"),
    ]
    for case, disk, limits in (
        ("slow_threads", f"each sync takes {audit_cases.SLOW * 1000:.0f} ms more", True),
        ("threads", "this machine's disk", False),
    ):
        one, many = _rates(case, 1, 16)
        found.append(
            _rate(
                f"16 threads durable; {disk}",
                many,
                one,
                "peer is one thread",
                limits=[("ratio", ">=", 8.0)] if limits else [],
            )
        )
    one, four = _rates("processes", 1, 4)
    found.append(
        _rate(
            "4 processes into one log",
            four,
            one,
            "80,000 events, until all are in the log; peer is one process",
            limits=[("ratio", ">=", 1.2)],
        )
    )
    return found


def _beside(few: int) -> list[Row]:
    """Return what the writer keeps in memory, and what lies around the log."""
    grown = _case("memory", 200_000 // few)
    most, half = max(grown.values()), grown["first"]
    found: list[Row] = [
        {
            "name": f"memory that the writer takes for {200_000 // few:,} records",
            "ours": most,
            "peer": half,
            "ratio": most / max(half, 1e-9),
            "unit": "MiB",
            "note": "peer is the first half of them: it does not grow with the log",
            "limits": [("ours", "<=", 64.0)],
        }
    ]
    return [*found, *_redaction(), *_anchors(), *_auditor(few)]


def _redaction() -> list[Row]:
    from secureml.audit.redaction import Redactor

    text = (audit_cases.TEXT * 5)[:1024]
    some = Redactor.of(audit_cases.DETECTORS)
    one = Redactor.of(["email"])

    def cost(redactor: Redactor) -> float:
        return _best(lambda: redactor.apply("prompt", text), 300)

    return [
        _row(
            "look through 1 KiB of text with five detectors",
            cost(some),
            cost(one),
            "peer is the one for e-mail alone; nothing is found",
        )
    ]


def _anchors() -> list[Row]:
    from secureml.evidence.anchors import Anchors, CopyAnchor, Folder

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        log = audit_cases.open_log(place)
        log.begin()
        anchors = Anchors(optional=[CopyAnchor(name="share", store=Folder(place / "share"))])
        anchors.anchor(log.log)
        found = _best(lambda: anchors.step(log.log), 300)
        anchors.close()
        read = _best((place / "audit" / "checkpoint").read_bytes, 300)
        log.close()
    return [
        _row(
            "ask the anchors whether one is due",
            found,
            read,
            "once a second at most; peer is to read the file of the checkpoint",
        )
    ]


def _auditor(few: int) -> list[Row]:
    """Measure the single file for auditors, in a process of its own."""
    import bench_verify

    from secureml import keys
    from secureml.evidence import standalone
    from secureml.wire.note import ED25519, VKey

    count = 50_000 // few
    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    with tempfile.TemporaryDirectory() as scratch:
        leaves = [bench_verify.leaf(number) for number in range(count)]
        bench_verify.build(Path(scratch), leaves, signer)
        vkey = VKey(bench_verify.ORIGIN, ED25519, signer.verifier.raw).encode()
        script = Path(str(standalone.__file__)).with_name("verify_log.py")
        whole = min(_child(script, scratch, "--key", vkey) for _ in range(TURNS))
        start = min(_child(script, "--help") for _ in range(TURNS))
        plain = _best(lambda: [json.loads(leaf[67:]) for leaf in leaves], 1) / count
    each = (whole - start) * 1e6 / count
    return [
        _row(
            "the single file for auditors: a whole log verified",
            each,
            plain,
            f"{1e6 / each:,.0f} records a CPU-second, standard library alone; "
            "peer is json.loads of each record",
        )
    ]


def _child(script: Path, *options: str) -> float:
    """Return the CPU seconds of a run of *script*."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-I", str(script), *options],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# How it is measured


def _turns(cases: dict[str, tuple[str, int]], turns: int = TURNS) -> dict[str, dict[str, float]]:
    """Run the cases in turns, and return for each the turn with the least CPU time."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(turns):
        for key, (name, count) in cases.items():
            found = _case(name, count)
            if key not in best or found["cpu"] < best[key]["cpu"]:
                best[key] = found
    return best


def _rates(name: str, few: int, many: int) -> tuple[float, float]:
    """Run a case with few and with many in turns, and return the best rate of each."""
    found = [(_case(name, few)["rate"], _case(name, many)["rate"]) for _ in range(TURNS)]
    return max(one for one, _ in found), max(other for _, other in found)


def _case(name: str, count: int) -> dict[str, float]:
    """Return what a case of `audit_cases` measured, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "audit_cases.py"), name, str(count)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _has(module: str) -> bool:
    """Return whether a peer is installed."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _best(work: Callable[[], object], times: int) -> float:
    """Return the least CPU time of *work*, in µs."""
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) * 1e6 / times)
    return min(found)


def _row(
    name: str,
    ours: float,
    peer: float,
    note: str,
    *,
    unit: str = "µs",
    limits: list[tuple[str, str, float]] | None = None,
) -> Row:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": ours / max(peer, 1e-9),
        "unit": unit,
        "note": note,
        "limits": limits or [],
    }


def _rate(
    name: str,
    ours: float,
    peer: float,
    note: str,
    *,
    limits: list[tuple[str, str, float]] | None = None,
) -> Row:
    return _row(name, ours, peer, f"more is better; {note}", unit="events/s", limits=limits)
