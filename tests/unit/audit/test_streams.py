# ruff: noqa: ANN401, ARG001, UP028  fixtures are of any type; a yield of one's own is the point
"""A stream that is held back hands out its last chunk after its record, and is else the same."""

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from secureml import audit
from secureml.audit._plan import Plan
from secureml.audit._streams import holds
from secureml.errors import StoreError


class OwnError(Exception):
    """What the functions raise."""


class Refusing(audit.AuditLog):
    """An audit log that stops accepting records when it is told to."""

    refuses = False

    def _refuse(self) -> None:
        if self.refuses:
            raise StoreError("no", why="because", fix="wait")

    def submit(self, *args: Any, **options: Any) -> Any:
        """Refuse, or accept."""
        self._refuse()
        return super().submit(*args, **options)

    def ready(self) -> None:
        """Raise where a record would be refused."""
        self._refuse()


@pytest.fixture
def log(bench: Any) -> Refusing:
    """Return a log that may refuse."""
    bench.log.close()
    plain = bench.open()
    bench.log = Refusing(plain.log, details=bench.details, private=bench.private)
    bench.log.begin()
    return bench.log


def one_way(n: int) -> Generator[int, None, str]:
    """Yield and never look at what comes in."""
    for i in range(n):
        yield i
    return "value"


def two_way(n: int) -> Generator[object, object, str]:
    """Look at what comes in."""
    got = yield n
    yield got
    return "value"


def delegates(n: int) -> Generator[int, None, str]:
    """Let another one speak."""
    return (yield from one_way(n))


async def async_one_way(n: int) -> AsyncGenerator[int, None]:
    """Yield and never look at what comes in."""
    for i in range(n):
        await asyncio.sleep(0)
        yield i


async def async_two_way(n: int) -> AsyncGenerator[object, object]:
    """Look at what comes in."""
    got = yield n
    await asyncio.sleep(0)
    yield got


class Service:
    """Streams as methods and objects that are called."""

    def stream(self, n: int) -> Iterator[int]:
        """Yield and never look."""
        yield from ()
        yield n

    def __call__(self, n: int) -> Iterator[int]:
        """Yield and never look."""
        yield n


def plan(log: audit.AuditLog, function: Callable[..., Any], **options: Any) -> Plan:
    """Return the plan of a decorated function."""
    wrapped: Any = audit.audited(log, action="act", **options)(function)
    (found,) = (c.cell_contents for c in wrapped.__closure__ if isinstance(c.cell_contents, Plan))
    return found


@pytest.mark.parametrize(
    ("function", "held"),
    [
        (one_way, True),
        (async_one_way, True),
        (Service(), True),
        (functools.partial(one_way, 3), True),
        (two_way, False),
        (async_two_way, False),
        (delegates, False),
        (Service().stream, False),
    ],
)
def test_which_streams_are_held(bench: Any, function: Callable[..., Any], held: bool) -> None:  # noqa: FBT001  a test's value
    """Held is what waits for its record and takes nothing from its consumer, as its code says."""
    assert holds(plan(bench.log, function, durable=True), function) is held
    assert not holds(plan(bench.log, function), function)
    assert not holds(plan(bench.log, function, require=None), function)
    assert holds(plan(bench.log, function, hold=True), function)
    assert not holds(plan(bench.log, function, durable=True, hold=False), function)


def drain(function: Callable[..., Any], n: int) -> tuple[list[object], str]:
    """Return the chunks of a stream, and the type of what ended it."""
    seen: list[object] = []

    async def consume() -> None:
        async for chunk in function(n):
            seen.append(chunk)  # noqa: PERF401  those before an error count

    try:
        running = function(n)
        if hasattr(running, "__anext__"):
            asyncio.run(consume())
        else:
            while True:
                seen.append(next(running))
    except BaseException as error:  # noqa: BLE001  what came out is the point
        return seen, f"{type(error).__name__} {getattr(error, 'value', '')}".strip()
    return seen, ""


def watch(function: Callable[..., Any], n: int, look: Callable[[list[object]], None]) -> Any:
    """Consume a stream, and look at what came after each chunk; return the chunks."""
    seen: list[object] = []

    async def consume() -> None:
        async for chunk in function(n):
            seen.append(chunk)
            look(seen)

    with pytest.raises(StoreError):
        asyncio.run(consume()) if function.__name__.startswith("async") else [
            look(seen) for chunk in function(n) if seen.append(chunk) is None
        ]
    return seen


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("function", [one_way, async_one_way])
def test_the_last_chunk_comes_after_its_record(
    bench: Any,
    log: Refusing,
    function: Callable[..., Any],
    hold: bool,  # noqa: FBT001  a test's value
) -> None:
    """A held stream whose record is refused raises before its last chunk, another one after it."""
    log.ready = lambda: None  # type: ignore[method-assign]  so that only the end can fail

    def refuse(seen: list[object]) -> None:
        log.refuses = True

    made = audit.audited(log, action="act", hold=hold)(function)
    seen = watch(made, 2, refuse)
    log.refuses = False

    assert seen == ([0] if hold else [0, 1])


@pytest.mark.parametrize("function", [one_way, async_one_way])
def test_a_log_that_is_known_to_refuse_stops_a_stream(
    bench: Any, log: Refusing, function: Callable[..., Any]
) -> None:
    """Not held, a stream raises before the next chunk once the log says that it takes nothing."""

    def refuse(seen: list[object]) -> None:
        log.refuses = len(seen) == 3

    seen = watch(audit.audited(log, action="act")(function), 5, refuse)
    log.refuses = False

    assert seen == [0, 1, 2]


def test_a_stream_that_requires_nothing_does_not_ask(bench: Any, log: Refusing) -> None:
    """With require=None a stream goes on whatever the log says."""
    made = audit.audited(log, action="act", require=None)(one_way)
    log.refuses = True

    with pytest.warns(RuntimeWarning, match="not accepted"):
        assert drain(made, 3) == ([0, 1, 2], "StopIteration value")
    log.refuses = False


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("function", [one_way, async_one_way])
@pytest.mark.parametrize("ack", ["queued", "durable"])
def test_a_held_stream_hands_out_the_same(
    bench: Any, audited: Any, function: Callable[..., Any], n: int, ack: str
) -> None:
    """Chunks and return value are the same, and so is the count in the record."""
    made = audited(hold=True, ack=ack, capture=["yield", "n"])(function)

    assert drain(function, n) == drain(made, n)

    (record,) = bench.calls()
    assert (record.outcome, record.body["stream"]["chunks"]) == ("ok", n)
    assert bench.value(record, "yield") == list(range(n))
    assert ("ttft_us" in record.body["stream"]) is (n > 0)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_held_stream_that_fails(bench: Any, audited: Any, kind: str) -> None:
    """What came before the error is handed out before it, as without."""

    def broken(n: int) -> Iterator[int]:
        for i in range(n):
            yield i
        raise OwnError

    async def async_broken(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        await asyncio.sleep(0)
        raise OwnError

    function = broken if kind == "sync" else async_broken
    made = audited(hold=True)(function)

    for n in (0, 1, 3):
        assert drain(function, n) == drain(made, n) == (list(range(n)), "OwnError")

    assert [record.outcome for record in bench.calls()] == ["error"] * 3
    assert [record.body["stream"]["chunks"] for record in bench.calls()] == [0, 1, 3]


@pytest.mark.parametrize("end", ["close", "throw", "collect", "late close", "late throw"])
def test_a_held_stream_that_is_left(bench: Any, audited: Any, end: str) -> None:
    """What was handed out is what is counted; what was thrown in comes out."""
    cleaned: list[str] = []

    @audited(hold=True, capture=["yield"])
    def stream() -> Iterator[int]:
        try:
            yield 1
            yield 2
            yield 3
        finally:
            cleaned.append("up")

    running: Any = stream()
    found = [next(running)]
    if end.startswith("late"):
        found += [next(running), next(running)]
    if end.endswith("close"):
        running.close()
    elif end.endswith("throw"):
        with pytest.raises(OwnError):
            running.throw(OwnError())
    del running
    gc.collect()

    (record,) = bench.calls()
    assert bench.value(record, "yield") == found
    assert record.body["stream"]["chunks"] == len(found)
    outcomes = {"close": "abandoned", "throw": "error", "collect": "abandoned"}
    assert outcomes.get(end, "ok") == record.outcome
    assert cleaned == ["up"]


@pytest.mark.parametrize("end", ["close", "throw", "collect", "cancel"])
def test_a_held_async_stream_that_is_left(bench: Any, audited: Any, end: str) -> None:
    """An async stream is left like the other; a cancelled one says so at once."""
    cleaned: list[str] = []

    @audited(hold=True, durable=True)
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            await asyncio.sleep(60)
            yield 3
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    async def main() -> None:
        running: Any = stream()
        assert await anext(running) == 1
        match end:
            case "close":
                await running.aclose()
            case "throw":
                with pytest.raises(OwnError):
                    await running.athrow(OwnError())
            case "collect":
                del running
                gc.collect()
                await asyncio.sleep(0.05)
            case _:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anext(running)

    asyncio.run(main())

    (record,) = bench.calls()
    outcomes = {"throw": "error", "cancel": "cancelled"}
    assert outcomes.get(end, "abandoned") == record.outcome
    assert record.body["stream"]["chunks"] == 1
    assert cleaned == ["up"]


def test_a_held_chunk_that_cannot_be_recorded(bench: Any, audited: Any) -> None:
    """A chunk without an encoding ends a held stream before it is handed out."""

    @audited(hold=True, capture=["yield"])
    def stream() -> Iterator[object]:
        yield 1
        yield object()
        yield 3

    @audited(hold=True, capture=["yield"])
    async def waits() -> AsyncIterator[object]:
        yield 1
        yield object()

    seen: list[object] = []

    async def consume() -> None:
        async for chunk in waits():
            seen.append(chunk)  # noqa: PERF401  those before an error count

    with pytest.raises(TypeError, match="'yield' is of type object"):
        seen.extend(stream())
    with pytest.raises(TypeError, match="'yield' is of type object"):
        asyncio.run(consume())

    assert seen == [1, 1]
    assert [r.body["stream"]["chunks"] for r in bench.calls()] == [1, 1]
    assert [r.body["error"]["stage"] for r in bench.calls()] == ["capture", "capture"]


def test_a_held_stream_keeps_one_chunk_alive(audited: Any) -> None:
    """Between two steps a held stream holds the one chunk that it holds back."""
    import weakref

    class Chunk:
        pass

    alive: list[Any] = []

    @audited(hold=True)
    def stream() -> Iterator[Chunk]:
        for _ in range(5):
            chunk = Chunk()
            alive.append(weakref.ref(chunk))
            yield chunk
            del chunk

    running: Any = stream()
    next(running)
    assert [ref() is not None for ref in alive] == [False, True]
    running.close()
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_sending_to_a_held_stream_that_was_told_to_hold(audited: Any) -> None:
    """With hold=True a two-way stream gets what is sent one chunk late, as the manual says."""
    running: Any = audited(hold=True)(two_way)(1)

    assert next(running) == 1
    with contextlib.suppress(StopIteration):
        assert running.send("late") is None
