"""
Every way a call of every kind may end, run with and without `audited`; see test_matrix.

The file runs in a thread, in a forked child and in a spawned one, so it says
what it saw with plain values.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

ENDS = ("ok", "raise", "cancel", "timeout", "close", "gc", "abandon")

Saw = list[Any]


class OwnError(Exception):
    """What the functions raise."""


class Suspend:
    """Awaiting it suspends once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def leave(end: str, saw: Saw) -> None:
    """End a function in the way that it can by itself."""
    saw.append("end")
    if end == "raise":
        raise OwnError("text", 1)
    if end == "cancel":
        raise asyncio.CancelledError
    if end == "timeout":
        raise TimeoutError


def told(error: BaseException) -> Saw:
    """Say what came out."""
    return [type(error).__name__, [str(a) for a in error.args], type(error.__context__).__name__]


# -- the functions, each wrapped by *wrap*, each driven to its end ----------------------


def sync(end: str, wrap: Callable[..., Any]) -> Saw:
    """Run a plain function."""
    saw: Saw = []

    @wrap
    def function(a: int, *, b: int = 2) -> tuple[int, int]:
        leave(end, saw)
        return a, b

    try:
        saw.append(list(function(1, b=3)))
    except BaseException as error:  # noqa: BLE001  what came out is the point
        saw.append(told(error))
    return saw


def coroutine(end: str, wrap: Callable[..., Any]) -> Saw:
    """Run a coroutine."""
    saw: Saw = []

    @wrap
    async def function(a: int) -> int:
        try:
            if end in {"close", "gc"}:
                await Suspend()
            elif end == "timeout":
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(60)
            elif end in {"cancel", "abandon"}:
                await asyncio.sleep(60)
            else:
                await asyncio.sleep(0)
                leave(end, saw)
            return a
        finally:
            saw.append("cleaned")

    async def main() -> None:
        task = asyncio.create_task(function(1))
        await asyncio.sleep(0)
        if end == "cancel":
            await asyncio.sleep(0)
            task.cancel("why")
        try:
            saw.append(await task)
        except BaseException as error:  # noqa: BLE001  what came out is the point
            saw.append(told(error))
        saw.append(task.cancelled())

    if end in {"close", "gc"}:
        running = function(1)
        running.send(None)
        if end == "close":
            running.close()
        del running
        gc.collect()
    elif end == "abandon":
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, told: saw.append(told["message"]))
        task = loop.create_task(function(1))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        del task
        gc.collect()
    else:
        asyncio.run(main())
    return saw


def generator(end: str, wrap: Callable[..., Any]) -> Saw:
    """Run a generator."""
    saw: Saw = []

    @wrap
    def function(a: int) -> Generator[object, object, str]:
        try:
            got = yield a
            try:
                yield ("got", got)
            except KeyError as error:
                yield ("caught", type(error).__name__)
            if end in {"ok", "raise"}:
                leave(end, saw)
        finally:
            saw.append("cleaned")
        return "value"

    running = function(1)
    saw += [next(running), running.send("sent"), running.throw(KeyError("k"))]
    try:
        match end:
            case "cancel":
                running.throw(asyncio.CancelledError())
            case "timeout":
                running.throw(TimeoutError("late"))
            case "close":
                saw.append(running.close())
            case "gc":
                del running
            case "abandon":
                cycle: list[Any] = [running]
                cycle.append(cycle)
                del running, cycle
                gc.collect()
            case _:
                next(running)
    except BaseException as error:  # noqa: BLE001  what came out is the point
        saw += [told(error), getattr(error, "value", None)]
    return saw


def async_generator(end: str, wrap: Callable[..., Any]) -> Saw:
    """Run an async generator."""
    saw: Saw = []
    kept: list[object] = []

    @wrap
    async def function(a: int) -> AsyncGenerator[object, object]:
        try:
            got = yield a
            try:
                yield ("got", got)
            except KeyError as error:
                await asyncio.sleep(0)
                yield ("caught", type(error).__name__)
            if end == "cancel":
                await asyncio.sleep(60)
            if end == "timeout":
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(60)
            leave(end, saw)
        finally:
            await asyncio.sleep(0)
            saw.append("cleaned")

    async def consume() -> None:
        running = function(1)
        saw.extend(
            [
                await anext(running),
                await running.asend("sent"),
                await running.athrow(KeyError("k")),
            ]
        )
        match end:
            case "close":
                saw.append(await running.aclose())
            case "gc":
                del running
                gc.collect()
                await asyncio.sleep(0.01)
            case "abandon":
                kept.append(running)
            case _:
                await anext(running)

    async def main() -> None:
        task = asyncio.create_task(consume())
        if end == "cancel":
            await asyncio.sleep(0.05)
            task.cancel()
        try:
            await task
        except BaseException as error:  # noqa: BLE001  what came out is the point
            saw.append(told(error))
        saw.append(task.cancelled())

    asyncio.run(main())
    return saw


KINDS: dict[str, Callable[[str, Callable[..., Any]], Saw]] = {
    "sync": sync,
    "async": coroutine,
    "gen": generator,
    "agen": async_generator,
}
NOT = {("sync", end): "a plain call has no half-way" for end in ("close", "gc", "abandon")}
"""Cells that cannot exist, and why."""

CELLS = [(kind, end) for kind in KINDS for end in ENDS if (kind, end) not in NOT]


def run(log: Any, where: str) -> dict[str, tuple[Saw, Saw]]:  # noqa: ANN401  an audit log
    """Run each cell twice; return what was seen without `audited` and with it."""
    from secureml import audit

    found: dict[str, tuple[Saw, Saw]] = {}
    for kind, end in CELLS:
        for ack in ("queued", "durable"):
            name = f"{where} {kind} {end} {ack}"
            bare = KINDS[kind](end, lambda function: function)
            made = KINDS[kind](end, audit.audited(log, action=name, ack=ack))  # type: ignore[arg-type]
            found[name] = (bare, made)
    return found


def opened(root: Path) -> Any:  # noqa: ANN401  an audit log
    """Open the log of *root* as one more process."""
    from secureml import audit
    from secureml.evidence.log import Log
    from secureml.keys import files

    log = Log.open(
        root / "audit",
        private=root / "private",
        origin="matrix.example/audit",
        signer=files.load(root / "key.pem", purposes=frozenset({"audit"})),
        purpose="audit",
        create=True,
    )
    return audit.AuditLog(log, details=root / "details", private=root / "private")


def child(root: Path, where: str, log: Any = None) -> None:  # noqa: ANN401  an audit log
    """Run the cells in a process of its own; write what was seen to a file."""
    import json

    made = opened(root) if log is None else log
    with contextlib.closing(made):
        found = run(made, where)
    (root / f"{where}.json").write_text(json.dumps(found))


if __name__ == "spawned":  # by runpy, in a process that multiprocessing spawned
    child(ROOT, "spawn")  # type: ignore[name-defined]  # noqa: F821  given by runpy
