# ruff: noqa: ANN401  fixtures and hostile values are of any type, and some are not read
"""Every way in which a call of every kind may end leaves exactly one record that says so."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from secureml.errors import GateDeniedError

ENDS = {
    "ok": None,
    "error": ValueError,
    "timeout": TimeoutError,
    "cancelled": asyncio.CancelledError,
    "denied": GateDeniedError,
}


def stop(outcome: str) -> None:
    """Raise what leads to *outcome*."""
    kind = ENDS[outcome]
    if kind is GateDeniedError:
        raise GateDeniedError("no", why="because", fix="do not")
    if kind is not None:
        raise kind("stopped")


def run(outcome: str, function: Callable[[], object]) -> None:
    """Call *function*, which raises for every *outcome* but ok."""
    kind = ENDS[outcome]
    if kind is None:
        function()
    else:
        with pytest.raises(kind):
            function()


class Service:
    """Something with methods."""

    def __init__(self, audited: Any) -> None:
        self.predict = audited()(self._predict)

    def _predict(self, outcome: str) -> str:
        stop(outcome)
        return "result"


@pytest.mark.parametrize("outcome", ENDS)
def test_a_function(bench: Any, audited: Any, outcome: str) -> None:
    """A function ends in each of its ways."""

    @audited()
    def predict() -> str:
        stop(outcome)
        return "result"

    run(outcome, predict)

    assert [outcome] == [record.outcome for record in bench.calls()]


@pytest.mark.parametrize("outcome", ENDS)
def test_a_method(bench: Any, audited: Any, outcome: str) -> None:
    """A bound method ends in each of its ways."""
    service = Service(audited)

    run(outcome, lambda: service.predict(outcome))

    assert [outcome] == [record.outcome for record in bench.calls()]


@pytest.mark.parametrize("outcome", ENDS)
def test_a_coroutine(bench: Any, audited: Any, outcome: str) -> None:
    """A coroutine ends in each of its ways."""

    @audited()
    async def predict() -> str:
        await asyncio.sleep(0)
        stop(outcome)
        return "result"

    async def main() -> None:
        if outcome == "ok":
            assert await predict() == "result"
        else:
            with pytest.raises(ENDS[outcome]):
                await predict()

    asyncio.run(main())

    assert [outcome] == [record.outcome for record in bench.calls()]


@pytest.mark.parametrize("outcome", ENDS)
def test_a_generator(bench: Any, audited: Any, outcome: str) -> None:
    """A generator ends in each of its ways, and its chunks are counted."""

    @audited()
    def predict() -> Iterator[int]:
        yield 1
        yield 2
        stop(outcome)

    run(outcome, lambda: list(predict()))

    (record,) = bench.calls()
    assert outcome == record.outcome
    assert record.body["stream"]["chunks"] == 2
    assert record.body["stream"]["complete"] is (outcome == "ok")
    assert record.body["stream"]["ttft_us"] <= record.latency_us


@pytest.mark.parametrize("outcome", ENDS)
def test_an_async_generator(bench: Any, audited: Any, outcome: str) -> None:
    """An async generator ends in each of its ways, and its chunks are counted."""

    @audited()
    async def predict() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)
        yield 2
        stop(outcome)

    async def main() -> list[int]:
        return [chunk async for chunk in predict()]

    run(outcome, lambda: asyncio.run(main()))

    (record,) = bench.calls()
    assert outcome == record.outcome
    assert record.body["stream"]["chunks"] == 2
    assert record.body["stream"]["complete"] is (outcome == "ok")


def test_a_coroutine_that_is_cancelled(bench: Any, audited: Any) -> None:
    """Cancelling the task is recorded, and cancels it."""

    @audited()
    async def predict() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(predict())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())

    assert [record.outcome for record in bench.calls()] == ["cancelled"]


def test_a_time_limit_inside(bench: Any, audited: Any) -> None:
    """A time limit inside the function is a timeout."""

    @audited()
    async def predict() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(predict())

    assert [record.outcome for record in bench.calls()] == ["timeout"]


def test_a_time_limit_outside(bench: Any, audited: Any) -> None:
    """A time limit around the call still works; the function sees a cancellation."""

    @audited()
    async def predict() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await predict()

    asyncio.run(main())

    assert [record.outcome for record in bench.calls()] == ["cancelled"]


def test_a_time_limit_around_a_stream(bench: Any, audited: Any) -> None:
    """A time limit around an async generator still works."""

    @audited()
    async def predict() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)
        yield 2

    async def main() -> None:
        async with asyncio.timeout(0.001):
            async for _ in predict():
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(main())

    assert [record.outcome for record in bench.calls()] == ["cancelled"]


def test_a_coroutine_that_is_closed(bench: Any, audited: Any) -> None:
    """A coroutine that is closed half way is abandoned."""

    @audited()
    async def predict() -> None:
        await Suspend()

    coroutine = predict()
    coroutine.send(None)
    coroutine.close()

    assert [record.outcome for record in bench.calls()] == ["abandoned"]


def test_a_coroutine_that_is_collected(bench: Any, audited: Any) -> None:
    """A coroutine that is dropped half way is abandoned."""

    @audited()
    async def predict() -> None:
        await Suspend()

    coroutine = predict()
    coroutine.send(None)
    del coroutine
    gc.collect()

    assert [record.outcome for record in bench.calls()] == ["abandoned"]


class Suspend:
    """Awaiting it suspends once."""

    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("end", ["close", "collect"])
def test_a_generator_that_nobody_finishes(bench: Any, audited: Any, end: str) -> None:
    """A stream that is closed or dropped leaves its record, and runs its cleanup."""
    cleaned: list[str] = []

    @audited()
    def predict() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append("up")

    stream = predict()
    next(stream)
    if end == "close":
        stream.close()
    del stream
    gc.collect()

    (record,) = bench.calls()
    assert record.outcome == "abandoned"
    assert record.error is None
    assert record.body["stream"] == {
        "chunks": 1,
        "complete": False,
        "ttft_us": record.body["stream"]["ttft_us"],
    }
    assert cleaned == ["up"]


@pytest.mark.parametrize("end", ["close", "collect", "loop"])
def test_an_async_generator_that_nobody_finishes(bench: Any, audited: Any, end: str) -> None:
    """An async stream that is closed, dropped, or left when the loop ends, leaves its record."""
    cleaned: list[str] = []
    kept: list[object] = []

    @audited()
    async def predict() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    async def main() -> None:
        stream = predict()
        await anext(stream)
        if end == "close":
            await stream.aclose()
        if end == "loop":
            kept.append(stream)
        del stream
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(main())

    assert [record.outcome for record in bench.calls()] == ["abandoned"]
    assert cleaned == ["up"]


def test_an_async_generator_without_a_loop(bench: Any, audited: Any) -> None:
    """An async stream that is destroyed where no loop can close it leaves its record."""

    @audited()
    async def predict() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def start() -> AsyncIterator[int]:
        stream = predict()
        await anext(stream)
        return stream

    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(start())
    loop.close()
    del stream
    gc.collect()

    assert [record.outcome for record in bench.calls()] == ["abandoned"]


def test_what_was_never_started_did_not_run(bench: Any, audited: Any) -> None:
    """A stream that nobody starts leaves no record, for the function never ran."""

    @audited()
    def predict() -> Iterator[int]:
        yield 1

    predict().close()
    predict()
    gc.collect()
    audited()(lambda: None)()

    assert [record.outcome for record in bench.calls()] == ["ok"]


def test_the_type_of_an_error_is_recorded(bench: Any, audited: Any) -> None:
    """A record names the exception's type, and nothing of its text."""

    class OwnError(Exception):
        pass

    strange = type("a user's words", (Exception,), {})

    @audited()
    def predict(error: Exception) -> None:
        raise error

    for error in (ValueError("secret"), OwnError("secret"), strange("secret")):
        with pytest.raises(type(error)):
            predict(error)

    names = [record.error for record in bench.calls()]
    assert names[0] == "ValueError"
    assert names[1].endswith("test_the_type_of_an_error_is_recorded.<locals>.OwnError")
    assert names[2] == "unnamed"
    assert not any(b"secret" in leaf or b"words" in leaf for leaf in bench.leaves())


def test_a_stream_records_before_its_end_is_known(bench: Any, audited: Any) -> None:
    """When the caller sees the end of a stream, the record is there."""

    @audited()
    def predict() -> Iterator[int]:
        yield 1

    stream = predict()
    next(stream)
    before = len(bench.calls())
    with pytest.raises(StopIteration):
        next(stream)

    assert (before, len(bench.calls())) == (0, 1)


def test_concurrent_calls_each_leave_one_record(bench: Any, audited: Any) -> None:
    """Tasks that interleave do not mix up their records."""

    @audited(capture=["n", "return"])
    async def predict(n: int) -> int:
        await asyncio.sleep(0.001 * (n % 3))
        return n * n

    async def main() -> list[int]:
        tasks: list[Awaitable[int]] = [predict(n) for n in range(20)]
        return await asyncio.gather(*tasks)

    asyncio.run(main())

    found = {bench.value(r, "n"): bench.value(r, "return") for r in bench.calls()}
    assert {n: n * n for n in range(20)} == found
