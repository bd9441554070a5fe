"""
One measurement of the audit log: ``python bench/audit_cases.py NAME COUNT``.

In a process of its own, which prints one line of JSON.  ``cpu`` is the CPU
time of the whole process, all of its threads included, in µs for each event:
from the first call until the last record is a leaf under a signed checkpoint
on the disk.
"""

# ruff: noqa: ARG001  what is audited has arguments, and does nothing with them

import asyncio
import functools
import importlib
import json
import logging
import os
import resource
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["CASES", "TEXT"]

TEXT = "A woman of 54 years, referred after a routine screening. " * 4
"""What the audited function is given: 228 characters."""

ANSWER = "No sign of the disease; a control in twelve months is advised. " * 4
GATES = [
    {"name": "train-data@1", "decision": "sha256:" + "ab" * 32, "result": "passed"},
    {"name": "evaluation@3", "decision": "sha256:" + "ba" * 32, "result": "passed"},
]
REFDB = ("formulary-2026-11", "sha256:" + "ef" * 32)
DETECTORS = ["email", "phone", "iban", "card", "secrets"]
WARM = 1_000
SLOW = 0.004
"""Seconds that an ordinary disk takes to sync."""

SECONDS = 2.0


# What is measured


def open_log(place: Path, *, slow: bool = False) -> Any:  # noqa: ANN401  imported when it is needed
    """Return an audit log; *slow* makes each sync take as long as on an ordinary disk."""
    from secureml import keys
    from secureml.audit import AuditLog
    from secureml.evidence._files import Files
    from secureml.evidence.log import Log

    class Slow(Files):
        def sync(self, fd: int) -> None:
            super().sync(fd)
            time.sleep(SLOW)

    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    log = Log.open(
        place / "audit",
        origin="bench.example/audit",
        signer=signer,
        purpose="audit",
        private=place / "private",
        create=True,
        files=Slow() if slow else None,
    )
    return AuditLog(log, details=place / "details", private=place / "private")


def audited(log: Any, **more: Any) -> Any:  # noqa: ANN401  as above
    """Return the decorator for an event whose leaf has about 1 KiB, one value captured."""
    from secureml.audit import audited as decorator
    from secureml.audit.options import Constant

    settings: dict[str, Any] = {
        "action": "diagnose",
        "capture": ["prompt"],
        "gates": GATES,
        "refdb": REFDB,
        "retention_class": "clinical",
        "source": {"host": "node-7"},
        "target": ("patient", "4711"),
        "tenant": Constant("clinic-north"),
    }
    return decorator(log, **(settings | more))


def around() -> Any:  # noqa: ANN401  as above
    """Return the context of a request."""
    from secureml.audit.context import context

    return context(user="alice", session="s-123456", request="r-987654")


def events(count: int, place: Path, **more: Any) -> dict[str, float]:  # noqa: ANN401  keywords of audited
    """Measure calls of a plain function."""
    log = open_log(place)

    @audited(log, **more)
    def predict(prompt: str) -> str:
        return ANSWER

    with around():
        found = _measured(log, lambda: [predict(TEXT) for _ in range(count)], count, predict)
    leaf = log.log.entry(log.log.size - 1)
    log.close()
    return found | {"leaf": len(leaf)}


def _measured(
    log: Any,  # noqa: ANN401  as above
    work: Callable[[], object],
    count: int,
    warm: Callable[[str], object] | None = None,
) -> dict[str, float]:
    if warm is not None:
        for _ in range(min(count, WARM)):
            warm(TEXT)
    log.publish()
    began, wall, here = time.process_time(), time.perf_counter(), time.thread_time()
    work()
    caller = time.thread_time() - here
    log.publish()
    return {
        "cpu": (time.process_time() - began) * 1e6 / count,
        "caller": caller * 1e6 / count,
        "rate": count / (time.perf_counter() - wall),
    }


def bare(count: int, place: Path) -> dict[str, float]:
    """Measure calls of which nothing is captured and nothing else is said."""
    from secureml.audit import audited as decorator

    log = open_log(place)

    @decorator(log, action="diagnose")
    def predict(prompt: str) -> str:
        return ANSWER

    found = _measured(log, lambda: [predict(TEXT) for _ in range(count)], count, predict)
    log.close()
    return found


def own_context(count: int, place: Path) -> dict[str, float]:
    """Measure calls each in a request of its own."""
    from secureml.audit.context import context

    log = open_log(place)

    @audited(log)
    def predict(prompt: str) -> str:
        return ANSWER

    def work() -> None:
        for number in range(count):
            with context(user="alice", session="s-123456", request=f"r-{number}"):
                predict(TEXT)

    with around():
        found = _measured(log, work, count, predict)
    log.close()
    return found


def coroutine(count: int, place: Path) -> dict[str, float]:
    """Measure calls of a coroutine function."""
    log = open_log(place)

    @audited(log)
    async def predict(prompt: str) -> str:
        return ANSWER

    async def calls(number: int) -> None:
        with around():
            for _ in range(number):
                await predict(TEXT)

    async def whole() -> dict[str, float]:
        await calls(WARM)
        log.publish()
        began = time.process_time()
        await calls(count)
        await asyncio.to_thread(log.publish)
        return {"cpu": (time.process_time() - began) * 1e6 / count}

    found = asyncio.run(whole())
    log.close()
    return found


def plain_coroutine(count: int, _: Path) -> dict[str, float]:
    """Measure the same without an audit log."""

    async def predict(prompt: str) -> str:
        return ANSWER

    async def calls() -> None:
        for _ in range(count):
            await predict(TEXT)

    began = time.process_time()
    asyncio.run(calls())
    return {"cpu": (time.process_time() - began) * 1e6 / count}


CHUNKS = 100


def stream(count: int, place: Path) -> dict[str, float]:
    """Measure generators of 100 chunks, which are digested and kept."""
    log = open_log(place)

    @audited(log, capture=["prompt", "yield"])
    def predict(prompt: str) -> Iterator[str]:
        for _ in range(CHUNKS):
            yield "token "

    def work() -> None:
        for _ in range(count):
            for _ in predict(TEXT):
                pass

    with around():
        found = _measured(log, work, count)
    log.close()
    return found


def async_stream(count: int, place: Path) -> dict[str, float]:
    """Measure async generators of 100 chunks."""
    log = open_log(place)

    @audited(log, capture=["prompt", "yield"])
    async def predict(prompt: str) -> AsyncIterator[str]:
        for _ in range(CHUNKS):
            yield "token "

    async def calls(number: int) -> None:
        with around():
            for _ in range(number):
                async for _ in predict(TEXT):
                    pass

    async def whole() -> dict[str, float]:
        await calls(10)
        log.publish()
        began = time.process_time()
        await calls(count)
        await asyncio.to_thread(log.publish)
        return {"cpu": (time.process_time() - began) * 1e6 / count}

    found = asyncio.run(whole())
    log.close()
    return found


def durable(count: int, place: Path) -> dict[str, float]:
    """Measure calls that each wait for the disk, from one thread."""
    return events(count, place, durable=True)


def detected(count: int, place: Path) -> dict[str, float]:
    """Measure calls whose text five detectors look through."""
    return events(count, place, redact=DETECTORS)


def encrypted(count: int, place: Path) -> dict[str, float]:
    """Measure calls whose value is encrypted under a person's key."""
    from secureml.audit.options import Constant

    return events(count, place, subject=Constant("patient-4711"))


def answered(count: int, place: Path) -> dict[str, float]:
    """Measure calls whose result is captured as well."""
    return events(count, place, capture=["prompt", "return"])


def announced(count: int, place: Path) -> dict[str, float]:
    """Measure calls that put an intent on the disk first: two records each."""
    return events(count, place, require="before")


def memory(count: int, place: Path) -> dict[str, float]:
    """Return by how many MiB the process grows while it writes *count* records."""
    log = open_log(place)

    @audited(log)
    def predict(prompt: str) -> str:
        return ANSWER

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    found = {}
    with around():
        for _ in range(WARM):
            predict(TEXT)
        log.publish()
        before = peak()
        for part in ("first", "second"):
            for _ in range(count // 2):
                predict(TEXT)
            log.publish()
            found[part] = peak() - before
    log.close()
    return found


# Peers


def stdlib(count: int, place: Path) -> dict[str, float]:
    """
    Measure ``logging.FileHandler`` with JSON: the same facts, the value in the clear.

    As a careful service would write it by hand: a fresh id, times and outcome
    of each call; what never changes is made once.
    """
    handler = logging.FileHandler(place / "audit.jsonl")
    logger = logging.getLogger("bench.audit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    refdb = {"digest": REFDB[1], "name": REFDB[0]}
    request: ContextVar[dict[str, str]] = ContextVar("request")
    request.set(
        {"id": "r-987654", "session": "s-123456", "user": "8a1c7e0a1f9c2b6d3e4f50617283940a"}
    )

    def logged(function: Callable[[str], str]) -> Callable[[str], str]:
        name = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def wrapper(prompt: str) -> str:
            when, started = datetime.now(UTC), time.monotonic_ns()
            outcome = "ok"
            try:
                return function(prompt)
            except BaseException:
                outcome = "error"
                raise
            finally:
                asked = request.get()
                event = {
                    "action": "diagnose",
                    "actor": {"id": asked["user"], "type": "user"},
                    "call": {"kind": "function", "name": name},
                    "gates": GATES,
                    "in": {"prompt": prompt},
                    "latency_us": (time.monotonic_ns() - started) // 1000,
                    "monotonic_us": started // 1000,
                    "outcome": outcome,
                    "record": {"id": str(uuid.uuid4())},
                    "refdb": refdb,
                    "request": asked["id"],
                    "retention_class": "clinical",
                    "session": asked["session"],
                    "source": {"host": "node-7"},
                    "target": {"id": "4711", "type": "patient"},
                    "tenant": "clinic-north",
                    "time": when.isoformat(),
                    "type": "call",
                }
                logger.info(json.dumps(event))

        return wrapper

    @logged
    def predict(prompt: str) -> str:
        return ANSWER

    for _ in range(min(count, WARM)):
        predict(TEXT)
    began = time.process_time()
    for _ in range(count):
        predict(TEXT)
    handler.flush()
    found = {"cpu": (time.process_time() - began) * 1e6 / count}
    handler.close()
    return found | {"leaf": len((place / "audit.jsonl").read_text().splitlines()[-1])}


def mlflow(count: int, place: Path) -> dict[str, float]:
    """Measure ``mlflow.trace`` on a SQLite store."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    os.chdir(place)
    found = importlib.import_module("mlflow")
    found.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    found.set_experiment("bench")

    @found.trace
    def predict(prompt: str) -> str:
        return ANSWER

    def flush() -> None:
        found.flush_trace_async_logging()

    for _ in range(5):
        predict(TEXT)
    flush()
    began = time.process_time()
    for _ in range(count):
        predict(TEXT)
    flush()
    return {"cpu": (time.process_time() - began) * 1e6 / count}


def otel(count: int, _: Path, *, processor: str = "BatchSpanProcessor") -> dict[str, float]:
    """Measure a span with four attributes, exported to memory."""
    trace = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    memory_ = importlib.import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter = memory_.InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(getattr(export, processor)(exporter))
    return _spans(provider, count, exporter.clear)


def _spans(provider: Any, count: int, clear: Callable[[], object]) -> dict[str, float]:  # noqa: ANN401  a peer's
    tracer = provider.get_tracer("bench")

    def predict(prompt: str) -> str:
        with tracer.start_as_current_span("diagnose") as span:
            span.set_attribute("user.id", "8a1c7e0a1f9c2b6d3e4f50617283940a")
            span.set_attribute("session.id", "s-123456")
            span.set_attribute("model.digest", "dirHash:" + "cd" * 32)
            span.set_attribute("prompt", prompt)
            return ANSWER

    def calls(number: int) -> None:
        for at in range(number):
            predict(TEXT)
            if at % 1_000 == 999:  # Its queue holds 2,048, and drops the rest.
                provider.force_flush()
                clear()

    calls(min(count, WARM))
    began = time.process_time()
    calls(count)
    provider.force_flush()
    return {"cpu": (time.process_time() - began) * 1e6 / count}


def otel_file(count: int, place: Path) -> dict[str, float]:
    """Measure the same, written to a file as the SDK spells spans in JSON."""
    trace = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    provider = trace.TracerProvider()
    with (place / "spans.jsonl").open("w") as file:
        exporter = export.ConsoleSpanExporter(
            out=file, formatter=lambda span: span.to_json(indent=None) + "\n"
        )
        provider.add_span_processor(export.SimpleSpanProcessor(exporter))
        return _spans(provider, count, lambda: None)


def otel_simple(count: int, place: Path) -> dict[str, float]:
    """Measure the same, exported at once."""
    return otel(count, place, processor="SimpleSpanProcessor")


# Throughput


def burst(count: int, place: Path) -> dict[str, float]:
    """Return events per second of one thread: until they are on the disk, and in the log."""
    log = open_log(place)

    @audited(log)
    def predict(prompt: str) -> str:
        return ANSWER

    from secureml.audit.collect import collect

    with around():
        for _ in range(WARM):
            predict(TEXT)
        log.publish()
        began = time.perf_counter()
        for _ in range(count - 1):
            predict(TEXT)
        with collect() as last:
            predict(TEXT)
        last[0].ticket.wait("durable")  # type: ignore[union-attr]
        synced = time.perf_counter() - began
        log.publish()
        published = time.perf_counter() - began
    log.close()
    return {"durable": count / synced, "published": count / published}


def threads(count: int, place: Path, *, slow: bool = False) -> dict[str, float]:
    """Return how many durable events per second *count* threads record."""
    log = open_log(place, slow=slow)

    @audited(log, durable=True)
    def predict(prompt: str) -> str:
        return ANSWER

    predict(TEXT)
    done = [0] * count
    stop = threading.Event()

    def work(number: int) -> None:
        with around():
            while not stop.is_set():
                predict(TEXT)
                done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    time.sleep(0.3)
    before, began, used = sum(done), time.perf_counter(), time.process_time()
    time.sleep(SECONDS)
    after, ended, spent = sum(done), time.perf_counter(), time.process_time()
    stop.set()
    for worker in workers:
        worker.join()
    log.close()
    return {
        "rate": (after - before) / (ended - began),
        "busy": (spent - used) / (ended - began),
    }


def slow_threads(count: int, place: Path) -> dict[str, float]:
    """Return the same where each sync takes 4 ms."""
    return threads(count, place, slow=True)


def processes(count: int, place: Path, *, total: int = 80_000) -> dict[str, float]:
    """Return how many events per second *count* processes bring into one log."""
    log = open_log(place)
    start, go = os.pipe()
    children = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            with _leaving():
                os.close(go)
                _child(log, start, total // count)
        children.append(pid)
    os.close(start)
    time.sleep(1.5)  # Until each of them is a writer.
    began = time.perf_counter()
    os.close(go)
    for pid in children:
        _, status = os.waitpid(pid, 0)
        if status:
            msg = f"a writer ended with {status}"
            raise RuntimeError(msg)
    rate = total / (time.perf_counter() - began)
    if log.log.size < total:
        msg = f"{total:,} records were written, and {log.log.size:,} are in the log"
        raise RuntimeError(msg)
    return {"rate": rate}


@contextmanager
def _leaving() -> Iterator[None]:
    """End this process here, whatever happens."""
    code = 1
    try:
        yield
        code = 0
    finally:
        os._exit(code)


def _child(log: Any, start: int, count: int) -> None:  # noqa: ANN401  as above
    @audited(log)
    def predict(prompt: str) -> str:
        return ANSWER

    log.begin()
    os.read(start, 1)
    with around():
        for _ in range(count):
            predict(TEXT)
    log.publish()


@contextmanager
def scratch() -> Iterator[Path]:
    """
    Make a directory, where the file system gives it room of its own.

    ext4 looks for the inode of a new file behind all that were removed near by
    in the last minutes.  Where other programs remove files by the thousand,
    that would be most of what is measured.
    """
    with tempfile.TemporaryDirectory() as directory:
        try:
            import fcntl

            fd = os.open(directory, os.O_RDONLY)
            try:
                flags = bytearray(fcntl.ioctl(fd, 0x80086601, bytes(8)))  # FS_IOC_GETFLAGS
                flags[2] |= 2  # FS_TOPDIR_FL: what is made inside is no neighbour.
                fcntl.ioctl(fd, 0x40086602, bytes(flags))  # FS_IOC_SETFLAGS
            finally:
                os.close(fd)
        except (ImportError, OSError):
            pass
        # By its name it is placed, so every turn has another.
        yield Path(tempfile.mkdtemp(dir=directory))


CASES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    function.__name__: function
    for function in (
        announced,
        answered,
        async_stream,
        bare,
        burst,
        coroutine,
        detected,
        durable,
        encrypted,
        events,
        memory,
        mlflow,
        otel,
        otel_file,
        otel_simple,
        own_context,
        plain_coroutine,
        processes,
        slow_threads,
        stdlib,
        stream,
        threads,
    )
}


if __name__ == "__main__":
    with scratch() as where:
        print(json.dumps(CASES[sys.argv[1]](int(sys.argv[2]), where)))
