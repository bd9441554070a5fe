"""
Audited generators and async generators: chunk by chunk, each chunk counted.

What goes in by ``send`` and ``throw`` and comes out of ``return`` is the
function's own.  A stream that is closed, or forgotten and collected, leaves
its record too.

Held back.  A stream ends after its last chunk was handed out, so a record
that waits for the disk would come too late to stop it.  Where the record is
waited for, a stream is therefore handed out one chunk behind: the last one
comes after the record.  That needs a stream that takes nothing from its
consumer, for the next chunk is asked for before the last one was seen.
Whether it does is read from its code: a ``yield`` whose value is used, or a
``yield from``, and nothing is held back, unless the caller demands it.
"""

import asyncio
import contextlib
import dis
import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import Token
from typing import cast

from secureml.audit._begin import begin, begin_async
from secureml.audit._call import Call
from secureml.audit._plan import Plan
from secureml.audit.collect import Running, running

__all__ = ["async_generator", "generator", "holds", "leave"]

Function = Callable[..., object]


def leave(token: Token[Running]) -> None:
    """Leave the call that is running."""
    # A stream closed by the garbage collector ends in a foreign context, where
    # there is nothing to restore.
    with contextlib.suppress(ValueError):
        running.reset(token)


def _code(function: object) -> types.CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "__call__", function)  # noqa: B004  its own
    found = getattr(inspect.unwrap(cast("Function", function)), "__code__", None)
    return found if isinstance(found, types.CodeType) else None


def _takes(code: types.CodeType, *, waits: bool) -> bool:
    """Return whether a ``yield`` of *code* may use what is sent to it."""
    found = [i.opname for i in dis.get_instructions(code) if i.opname != "CACHE"]
    for at, name in enumerate(found):
        if name != "YIELD_VALUE":
            continue
        after = [n for n in found[at + 1 : at + 4] if n != "RESUME"][:1]
        # An await is a loop of its own, which no consumer reaches.
        if after != ["POP_TOP"] and not (waits and after == ["JUMP_BACKWARD_NO_INTERRUPT"]):
            return True
    return False


def holds(plan: Plan, function: Function) -> bool:
    """Return whether the stream is handed out one chunk behind."""
    if plan.hold is not None:
        return plan.hold
    if plan.ack == "queued" or plan.lenient:
        return False
    code = _code(function)
    return code is not None and not _takes(code, waits=plan.kind == "async-generator")


def _made(
    call: Call, function: Function, args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        call.failed(error, stream=True)
        raise


def _take(call: Call, chunk: object, stream: Generator[object, object, object]) -> None:
    """Take note of a chunk to be handed out; one that cannot be recorded ends the stream."""
    try:
        call.chunk(chunk)
    except Exception as error:
        try:
            call.failed(error, stage="capture", stream=True)
        finally:
            stream.close()
        raise


async def _take_async(call: Call, chunk: object, stream: AsyncGenerator[object, object]) -> None:
    """Do what `_take` does."""
    try:
        call.chunk(chunk)
    except Exception as error:
        try:
            await call.failed_async(error, stage="capture", stream=True)
        finally:
            await stream.aclose()
        raise


def generator(plan: Plan, function: Function) -> Function:
    """Return the audited form of a generator function."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> Generator[object, object, object]:
        call = begin(plan, args, kwargs)
        stream = cast("Generator[object, object, object]", _made(call, function, args, kwargs))
        del args, kwargs
        sent: object = None
        thrown: BaseException | None = None
        closing = False
        while True:
            token = running.set(call)
            try:
                chunk = stream.send(sent) if thrown is None else stream.throw(thrown)
            except StopIteration as stop:
                result = stop.value
                break
            except BaseException as error:
                leave(token)
                call.failed(error, stream=True)
                raise
            finally:
                sent = thrown = None
            leave(token)
            _take(call, chunk, stream)
            # Suspended here, the frame keeps nothing alive that the function would not.
            box = [chunk]
            del chunk
            try:
                sent = yield box.pop()
            except BaseException as error:  # noqa: BLE001  it goes into the generator
                thrown, closing = error, isinstance(error, GeneratorExit)
        leave(token)
        call.returned(result, outcome="abandoned" if closing else "ok", stream=True)
        return result

    found = _held(plan, function) if holds(plan, function) else wrapper
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType) and code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return cast("Function", types.coroutine(wrapper))
    return found


def _held(plan: Plan, function: Function) -> Function:  # noqa: PLR0915  a state machine
    @functools.wraps(function)
    def wrapper(  # noqa: PLR0915  a state machine
        *args: object, **kwargs: object
    ) -> Generator[object, object, object]:
        call = begin(plan, args, kwargs)
        stream = cast("Generator[object, object, object]", _made(call, function, args, kwargs))
        del args, kwargs
        sent: object = None
        result: object = None
        thrown: BaseException | None = None
        ended: BaseException | None = None
        closing = dropped = False
        waiting: list[object] = []
        while True:
            token = running.set(call)
            try:
                chunk = stream.send(sent) if thrown is None else stream.throw(thrown)
            except StopIteration as stop:
                result = stop.value
                break
            except BaseException as error:  # noqa: BLE001  it is raised after the last chunk
                ended, dropped = error, error is thrown
                break
            finally:
                sent = thrown = None
            leave(token)
            call.came()
            waiting.append(chunk)
            del chunk
            if len(waiting) == 1:
                continue
            _take(call, waiting[0], stream)
            try:
                sent = yield waiting.pop(0)
            except BaseException as error:  # noqa: BLE001  it goes into the generator
                thrown, closing = error, isinstance(error, GeneratorExit)
        leave(token)
        try:
            if closing or dropped:
                waiting.clear()
            elif waiting:
                _take(call, waiting[0], stream)
            if ended is not None:
                call.failed(ended, stream=True)
            else:
                call.returned(result, outcome="abandoned" if closing else "ok", stream=True)
            if waiting:
                yield waiting.pop()
            if ended is not None:
                raise ended
        finally:
            del ended
        return result

    return wrapper


def async_generator(plan: Plan, function: Function) -> Function:
    """Return the audited form of an async generator function."""

    @functools.wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
        call = await begin_async(plan, args, kwargs)
        guard = _Guard(call)
        stream = cast("AsyncGenerator[object, object]", _made(call, function, args, kwargs))
        del args, kwargs
        step = _first_step(stream)
        closing = False
        while True:
            token = running.set(call)
            try:
                chunk = await step
            except StopAsyncIteration:
                break
            except BaseException as error:
                leave(token)
                await call.failed_async(error, stream=True)
                raise
            finally:
                del step
            leave(token)
            await _take_async(call, chunk, stream)
            box = [chunk]
            del chunk
            thrown: BaseException | None = None
            sent: object = None
            try:
                sent = yield box.pop()
            except BaseException as error:  # noqa: BLE001  it goes into the generator
                thrown, closing = error, isinstance(error, GeneratorExit)
            step = stream.asend(sent) if thrown is None else stream.athrow(thrown)
            sent = thrown = None
        leave(token)
        await call.returned_async(None, outcome="abandoned" if closing else "ok", stream=True)
        del guard

    return _held_async(plan, function) if holds(plan, function) else wrapper


def _held_async(plan: Plan, function: Function) -> Function:  # noqa: PLR0915  a state machine
    @functools.wraps(function)
    async def wrapper(  # noqa: PLR0915  a state machine
        *args: object, **kwargs: object
    ) -> AsyncGenerator[object, object]:
        call = await begin_async(plan, args, kwargs)
        guard = _Guard(call)
        stream = cast("AsyncGenerator[object, object]", _made(call, function, args, kwargs))
        del args, kwargs
        step = _first_step(stream)
        thrown: BaseException | None = None
        ended: BaseException | None = None
        closing = dropped = False
        waiting: list[object] = []
        while True:
            token = running.set(call)
            try:
                chunk = await step
            except StopAsyncIteration:
                break
            except BaseException as error:  # noqa: BLE001  it is raised after the last chunk
                ended, dropped = error, error is thrown
                break
            finally:
                del step
            leave(token)
            call.came()
            waiting.append(chunk)
            del chunk
            sent: object = None
            thrown = None
            if len(waiting) > 1:
                await _take_async(call, waiting[0], stream)
                try:
                    sent = yield waiting.pop(0)
                except BaseException as error:  # noqa: BLE001  it goes into the generator
                    thrown, closing = error, isinstance(error, GeneratorExit)
            step = stream.asend(sent) if thrown is None else stream.athrow(thrown)
            sent = None
        leave(token)
        thrown = None
        try:
            if closing or dropped or _is_cancelled(ended):
                waiting.clear()
            elif waiting:
                await _take_async(call, waiting[0], stream)
            if ended is not None:
                await call.failed_async(ended, stream=True)
            else:
                outcome = "abandoned" if closing else "ok"
                await call.returned_async(None, outcome=outcome, stream=True)
            if waiting:
                yield waiting.pop()
            if ended is not None:
                raise ended
        finally:
            del ended
        del guard

    return wrapper


def _is_cancelled(error: BaseException | None) -> bool:
    """Return whether the task itself was cancelled: then nothing is handed out any more."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # No loop of asyncio runs.
        return True
    return task is None or task.cancelling() > 0


def _first_step(stream: AsyncGenerator[object, object]) -> Awaitable[object]:
    # An event loop closes the generators it knows of when it ends.  It knows
    # the outer one, which closes this one; both at once would collide.  Where
    # the loop would close a forgotten one, nobody else has to.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None if hooks.finalizer is None else _left_to_the_outer)
    try:
        return stream.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _left_to_the_outer(_: AsyncGenerator[object, object]) -> None:
    """Do nothing when an inner generator is destroyed: the outer one was its owner."""


class _Guard:
    """Records an async generator that is destroyed when no event loop can close it."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __del__(self) -> None:
        self._call.abandoned()
