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

Under asyncio nothing waits for a disk or a lock on the thread of the loop, as
long as the audited function is a coroutine or an async generator.  A plain
function that is called there waits there, if it was told to wait; so does any
coroutine under another kind of loop.

Edges.  A generator's arguments are bound at its first step, so wrong ones
raise there and not at the call.  A plain function that returns a coroutine or
a generator is recorded when it returns that.  A task that is cancelled while
it waits for its record is cancelled, and its record says that the function
ended, as it did.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast, overload

from secureml.audit._begin import begin, begin_async
from secureml.audit._plan import Plan, Settings
from secureml.audit._streams import async_generator, generator, leave
from secureml.audit.collect import running
from secureml.audit.options import (
    MAX_CAPTURE,
    Ack,
    Field,
    OnFailure,
    Require,
    check_choices,
)
from secureml.audit.sink import AuditLog

__all__ = ["Audits", "audited"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

_Function = Callable[..., object]


class Audits(Protocol):
    """**Protocol.** What `audited` returns: it takes a function and returns it, audited."""

    @overload
    def __call__(self, function: "classmethod[T, P, R_co]", /) -> "classmethod[T, P, R_co]": ...

    @overload
    def __call__(self, function: "staticmethod[P, R_co]", /) -> "staticmethod[P, R_co]": ...

    @overload
    def __call__(self, function: Callable[P, R_co], /) -> Callable[P, R_co]: ...


def audited(
    log: AuditLog,
    *,
    action: str,
    model: object = None,
    user: Field = None,
    session: Field = None,
    request: Field = None,
    tenant: Field = None,
    capture: Sequence[str] = (),
    redact: object = None,
    subject: Field = None,
    profile: str | Sequence[str] | None = None,
    retention_class: str | None = None,
    gates: object = None,
    period: object = None,
    refdb: object = None,
    source: object = None,
    target: object = None,
    require: Require = "after",
    ack: Ack = "queued",
    durable: bool = False,
    on_failure: OnFailure = "raise",
    max_capture: int = MAX_CAPTURE,
    hold: bool | None = None,
) -> Audits:
    """
    Record each call of the function that is decorated.

    Decorate below ``@property``; above or below ``@classmethod`` and
    ``@staticmethod`` alike.

    *user*, *session*, *request*, *tenant* and *subject* are each a path into
    the arguments (``user.id``), an `audit.Constant`, or a function: it gets
    the arguments of the call, or none where it takes none.  *period*, *refdb*,
    *source* and *target* are values as `audit.context` takes them, or such
    functions.  What is given here wins over `audit.context`.

    Args:
        log: Where the records go.
        action: What the function does, in the words of the application.
        model: A verified model handle, or a function without arguments that
            returns the one of this call.  Anything else is recorded as
            unverified.
        user: Who asks; recorded as a pseudonym, left out where it is None.
        session: Recorded as it is, like *request* and *tenant*: 1 to 128
            characters, never personal data.
        request: Which request.
        tenant: For whom the service runs.
        capture: Paths to the values to keep: ``row``, ``user.id``,
            ``return``, ``return.score``, and ``yield`` for the chunks of a
            generator.  The record holds commitments, the values lie beside.
        redact: What is taken out of captured values before anything is
            hashed; see `secureml.audit.redaction`.
        subject: Whom the captured values are about: they are encrypted under
            that person's own key, which can be destroyed.
        profile: Names of `secureml.audit.profiles` that each record is to
            meet: what never can is refused here, a call that does not is
            refused before it runs.
        retention_class: How long the evidence is kept, by its name; a
            profile brings its own.
        gates: The gates that the call passed: names, decisions, or a function
            that returns them.  Without, those that the model's evidence holds.
        period: The period of use.
        refdb: The reference database that is searched.
        source: Where the event comes from.
        target: What is affected.
        require: ``before`` puts an intent on the disk before the function
            runs, and refuses the call if that cannot be done.  ``after``
            hands the result out once its record has the *ack*.  None never
            waits and never raises: a record that is not accepted is counted,
            warned of once, and told of in a ``gap`` record.
        ack: How far the record must have come: ``queued`` (in memory; a
            killed process may lose what it accepted in the last 50
            milliseconds), ``durable`` (on the disk), ``checkpointed`` (under
            a signed checkpoint), ``witnessed`` (cosigned by others).
        durable: The same as ``ack="durable"``.
        on_failure: Where the record cannot be accepted: ``raise`` at once,
            ``block`` for as long as the log allows and then raise, or go on
            and leave a counted ``gap``.
        max_capture: How many bytes of a stream's chunks are kept; all are
            counted and digested.
        hold: Whether a stream is handed out one chunk behind, so that the
            last chunk comes after its record.  None: where *ack* waits for
            something and the stream takes nothing from its consumer.

    Raises:
        TypeError: A path is not text, or the decorated thing is no function.
        ValueError: A path does not begin at a parameter, the paths do not fit
            in one record, a choice is unknown or contradicts another, or the
            function can never meet its profile.
        MissingExtraError: *redact* asks for a library that is not installed.
    """
    settings = Settings(
        action=action,
        model=model,
        user=user,
        fields={
            "period": period,
            "refdb": refdb,
            "request": request,
            "retention_class": retention_class,
            "session": session,
            "source": source,
            "target": target,
            "tenant": tenant,
        },
        capture=_paths(capture),
        redact=redact,
        subject=subject,
        profiles=(profile,) if isinstance(profile, str) else tuple(profile or ()),
        gates=gates,
        require=require,
        ack=check_choices(
            require=require,
            ack=ack,
            durable=durable,
            on_failure=on_failure,
            max_capture=max_capture,
        ),
        on_failure=on_failure,
        max_capture=max_capture,
        hold=hold,
    )
    if settings.ack == "witnessed":
        log.check_ack(settings.ack)

    def decorate(function: Any) -> Any:  # noqa: ANN401  the protocol says what
        if isinstance(function, classmethod | staticmethod):
            return type(function)(decorate(function.__func__))
        if isinstance(function, type) or not callable(function):
            msg = f"audited is for functions and methods, not for {type(function).__name__!r}"
            raise TypeError(msg)
        kind = _kind(function)
        return _WRAPPERS[kind](Plan(log, function, kind, settings), function)

    return cast("Audits", decorate)


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


def _function(plan: Plan, function: _Function) -> _Function:
    enter, exit_ = running.set, running.reset

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        call = begin(plan, args, kwargs)
        token = enter(call)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            exit_(token)
            call.failed(error)
            raise
        exit_(token)
        call.returned(result)
        return result

    return wrapper


def _coroutine(plan: Plan, function: _Function) -> _Function:
    @functools.wraps(function)
    async def wrapper(*args: object, **kwargs: object) -> object:
        call = await begin_async(plan, args, kwargs)
        token = running.set(call)
        try:
            running_function = cast("Awaitable[object]", function(*args, **kwargs))
            del args, kwargs
            result = await running_function
        except BaseException as error:
            leave(token)
            await call.failed_async(error)
            raise
        leave(token)
        await call.returned_async(result)
        return result

    return wrapper


_WRAPPERS: Final[Mapping[str, Callable[[Plan, _Function], _Function]]] = {
    "function": _function,
    "coroutine": _coroutine,
    "generator": generator,
    "async-generator": async_generator,
}
