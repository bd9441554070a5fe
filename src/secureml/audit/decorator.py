"""
`audited`: a function that leaves a record each time it runs.

The function stays what it is: its kind, signature and result, the exception
it raises, what goes in by ``send`` and ``throw`` and comes out of ``return``.
Only one thing is added: if the record cannot be kept, the call raises instead
of returning, so that there is no result without evidence.

A call ends in one of six ways: ``ok``; ``error``; ``cancelled`` and
``timeout``, by the exception that leaves it; ``denied`` by a gate;
``abandoned``, when nobody waited for the end of a stream or a coroutine.
A generator or coroutine that was never started has not run and leaves nothing.

Edges.  A generator's arguments are bound at its first step, so wrong ones
raise there and not at the call.  A plain function that returns a coroutine or
a generator is recorded when it returns that.  The record is written on the
thread of the call: with ``durable=True`` a coroutine waits for the disk.
"""

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextvars import Token
from typing import Final, ParamSpec, TypeVar, cast

from secureml.audit._call import Call, Plan
from secureml.audit.collect import Current, running
from secureml.audit.sink import AuditLog

__all__ = ["audited"]

P = ParamSpec("P")
R = TypeVar("R")

_Function = Callable[..., object]


def audited(
    log: AuditLog,
    *,
    action: str,
    model: object = None,
    user: str | None = None,
    capture: Sequence[str] = (),
    durable: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Record each call of the function that is decorated.

    Decorate below ``@property``; above or below ``@classmethod`` and
    ``@staticmethod`` alike.

    Args:
        log: Where the records go.
        action: What the function does, in the words of the application.
        model: A verified model handle, or a function without arguments that
            returns the one of this call.  Anything else is recorded as
            unverified.
        user: Path to who asks, such as ``user.id``; recorded as a pseudonym,
            left out where it is None.
        capture: Paths to the values to keep: ``row``, ``user.id``,
            ``return``, ``return.score``, and ``yield`` for the chunks of a
            generator.  The record holds commitments, the values lie beside.
        durable: Whether a record is on the disk before the call returns; if
            not, it survives the process, and a power cut after about a second.

    Raises:
        TypeError: A path is not text, or the decorated thing is no function.
        ValueError: A path does not begin at a parameter, or the paths do not
            fit in one record.
    """
    paths = _paths(capture)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if isinstance(function, classmethod | staticmethod):
            return cast("Callable[P, R]", type(function)(decorate(function.__func__)))
        if isinstance(function, type) or not callable(cast("object", function)):
            msg = f"audited is for functions and methods, not for {type(function).__name__!r}"
            raise TypeError(msg)
        kind = _kind(function)
        plan = Plan(
            log,
            function,
            kind=kind,
            action=action,
            model=model,
            user=user,
            capture=paths,
            durable=durable,
        )
        return cast("Callable[P, R]", _WRAPPERS[kind](plan, function))

    return decorate


def _paths(capture: Sequence[str]) -> tuple[str, ...]:
    if isinstance(capture, str):
        msg = f"capture is a list of paths: write capture=[{capture!r}]"
        raise TypeError(msg)
    return tuple(capture)


def _kind(function: _Function) -> str:
    for found in (function, getattr(function, "__call__", None)):  # noqa: B004  its own kind
        if inspect.iscoroutinefunction(found):
            return "coroutine"
        if inspect.isasyncgenfunction(found):
            return "async-generator"
        if inspect.isgeneratorfunction(found):
            return "generator"
    return "function"


def _leave(token: Token[Current]) -> None:
    # A stream closed by the garbage collector ends in a foreign context, where
    # there is nothing to restore.
    with contextlib.suppress(ValueError):
        running.reset(token)


def _function(plan: Plan, function: _Function) -> _Function:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        call = plan.begin(args, kwargs)
        token = running.set(call.current)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            running.reset(token)
            call.failed(error)
            raise
        running.reset(token)
        call.returned(result)
        return result

    return wrapper


def _coroutine(plan: Plan, function: _Function) -> _Function:
    @functools.wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> object:
        call = plan.begin(args, kwargs)
        token = running.set(call.current)
        try:
            running_function = cast("Awaitable[object]", function(*args, **kwargs))
            del args, kwargs
            result = await running_function
        except BaseException as error:
            _leave(token)
            call.failed(error)
            raise
        _leave(token)
        call.returned(result)
        return result

    return wrapper


def _generator(plan: Plan, function: _Function) -> _Function:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> Generator[object, object, object]:
        call = plan.begin(args, kwargs)
        generator = cast("Generator[object, object, object]", _made(call, function, args, kwargs))
        del args, kwargs
        sent: object = None
        thrown: BaseException | None = None
        closing = False
        while True:
            token = running.set(call.current)
            try:
                chunk = generator.send(sent) if thrown is None else generator.throw(thrown)
            except StopIteration as stop:
                result = stop.value
                break
            except BaseException as error:
                _leave(token)
                call.failed(error, stream=True)
                raise
            finally:
                sent = thrown = None
            _leave(token)
            try:
                call.chunk(chunk)
            except Exception as error:
                try:
                    call.failed(error, stage="capture", stream=True)
                finally:
                    generator.close()
                raise
            # Suspended here, the frame keeps nothing alive that the function would not.
            box = [chunk]
            del chunk
            try:
                sent = yield box.pop()
            except BaseException as error:  # noqa: BLE001  it goes into the generator
                thrown, closing = error, isinstance(error, GeneratorExit)
        _leave(token)
        call.returned(result, outcome="abandoned" if closing else "ok", stream=True)
        return result

    if _flags(function) & inspect.CO_ITERABLE_COROUTINE:
        return cast("_Function", types.coroutine(wrapper))
    return wrapper


def _async_generator(plan: Plan, function: _Function) -> _Function:
    @functools.wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
        call = plan.begin(args, kwargs)
        guard = _Guard(call)
        generator = cast("AsyncGenerator[object, object]", _made(call, function, args, kwargs))
        del args, kwargs
        step = _first_step(generator)
        closing = False
        while True:
            token = running.set(call.current)
            try:
                chunk = await step
            except StopAsyncIteration:
                break
            except BaseException as error:
                _leave(token)
                call.failed(error, stream=True)
                raise
            finally:
                del step
            _leave(token)
            try:
                call.chunk(chunk)
            except Exception as error:
                try:
                    call.failed(error, stage="capture", stream=True)
                finally:
                    await generator.aclose()
                raise
            box = [chunk]
            del chunk
            thrown: BaseException | None = None
            sent: object = None
            try:
                sent = yield box.pop()
            except BaseException as error:  # noqa: BLE001  it goes into the generator
                thrown, closing = error, isinstance(error, GeneratorExit)
            step = generator.asend(sent) if thrown is None else generator.athrow(thrown)
            sent = thrown = None
        _leave(token)
        call.returned(None, outcome="abandoned" if closing else "ok", stream=True)
        del guard

    return wrapper


def _made(
    call: Call, function: _Function, args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        call.failed(error, stream=True)
        raise


def _first_step(generator: AsyncGenerator[object, object]) -> Awaitable[object]:
    # An event loop closes the generators it knows of when it ends.  It knows
    # the outer one, which closes this one; both at once would collide.  Where
    # the loop would close a forgotten one, nobody else has to.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None if hooks.finalizer is None else _left_to_the_outer)
    try:
        return generator.asend(None)
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
        self._call.abandoned(stream=True)


def _flags(function: _Function) -> int:
    code = getattr(function, "__code__", None)
    return code.co_flags if isinstance(code, types.CodeType) else 0


_WRAPPERS: Final[Mapping[str, Callable[[Plan, _Function], _Function]]] = {
    "function": _function,
    "coroutine": _coroutine,
    "generator": _generator,
    "async-generator": _async_generator,
}
