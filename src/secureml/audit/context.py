"""
What surrounds a call: who asks, in which session, under which request.

`context` says it once, around many calls; it follows ``await`` and tasks, as
every context variable does.  Threads of a pool start without it: `carry` and
`wrap_executor` take it along.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar, Token, copy_context
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from secureml._extras import loaded
from secureml.audit._members import SPELLERS, grouped, member, trace_member

__all__ = ["Ambient", "ambient", "carry", "context", "span", "wrap_executor"]

P = ParamSpec("P")
R = TypeVar("R")

_NO_SPAN: Final = ""


class Ambient:
    """
    What `context` has said so far, spelled.

    Attributes:
        user: Who asks, as given; None where nobody was named.
        members: Member → its JSON, comma first.
        groups: The members put together as `_members.grouped` does.
        said: What the last audited function made of all this, behind its plan: many calls of
            one function in one context say the same.
    """

    __slots__ = ("groups", "members", "said", "user")

    def __init__(self, user: object, members: dict[str, str]) -> None:
        self.user = user
        self.members = members
        self.groups = grouped(members)
        self.said: tuple[object, str, tuple[str, ...]] = (None, "", ())

    def __repr__(self) -> str:
        return f"<Ambient {', '.join(sorted(self.members))}>"


ambient: ContextVar[Ambient | None] = ContextVar("secureml_audit_context", default=None)


class _Context(AbstractContextManager[None], AbstractAsyncContextManager[None]):
    """Sets the fields while it is entered; may be entered again, also inside itself."""

    __slots__ = ("_members", "_tokens", "_user")

    def __init__(self, user: object, members: dict[str, str]) -> None:
        self._user = user
        self._members = members
        self._tokens: list[Token[Ambient | None]] = []

    def __enter__(self) -> None:
        outer = ambient.get()
        user, members = self._user, self._members
        if outer is not None:
            user = outer.user if user is None else user
            members = {**outer.members, **members}
        self._tokens.append(ambient.set(Ambient(user, members)))

    def __exit__(self, *_: object) -> None:
        ambient.reset(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def context(
    *,
    user: object = None,
    session: object = None,
    request: object = None,
    tenant: object = None,
    trace: str | None = None,
    retention_class: str | None = None,
    period: object = None,
    refdb: object = None,
    source: object = None,
    target: object = None,
) -> _Context:
    """
    Say what the audited calls inside belong to; for ``with`` and ``async with``.

    What is None stays as an outer `context` said.  A field that the decorator
    gives wins over one that is given here.

    Args:
        user: Who asks: text, a number, bytes or a UUID; recorded as a pseudonym.
        session: Text of 1 to 128 characters, a number or a UUID; recorded as
            it is, so never personal data.  So are *request* and *tenant*.
        request: Which request.
        tenant: For whom the service runs.
        trace: A W3C ``traceparent``.  A malformed one is left out, since it is
            a header that anybody may write.  A current OpenTelemetry span wins.
        retention_class: How long the evidence is kept, by its name.
        period: The period of use: its start, or (start, end), with time zones.
        refdb: The reference database that is searched: its name, (name,
            digest), or a dataset with both.
        source: Where the event came from: a host's name, or a mapping with
            ``host`` and ``address``.
        target: What is affected: (type, id), or a mapping with ``type``,
            ``id`` and ``name``.

    Raises:
        TypeError: A value is of another type.
        ValueError: A value is not in its form.
    """
    given = {
        "period": period,
        "refdb": refdb,
        "request": request,
        "retention_class": retention_class,
        "session": session,
        "source": source,
        "target": target,
        "tenant": tenant,
        "trace": trace,
    }
    members = {name: member(name, given[name]) for name in SPELLERS}
    return _Context(user, {name: text for name, text in members.items() if text})


def span() -> str:
    """Return the ``trace`` member of OpenTelemetry's current span; empty where there is none."""
    module = loaded("opentelemetry.trace")
    if module is None:
        return _NO_SPAN
    current = getattr(module, "get_current_span", None)
    if current is None:  # It is just being imported.
        return _NO_SPAN
    found = current().get_span_context()
    return trace_member(found.trace_id, found.span_id) if found.is_valid else _NO_SPAN


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """
    Return *function* as it would run here, for another thread to run.

    It takes along every context variable as it stands now: the fields of
    `context`, `collect`, the call that is running, OpenTelemetry's span.
    Each run gets a copy, so many threads may run it at once.
    """
    snapshot = copy_context()

    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        return snapshot.copy().run(function, *args, **kwargs)

    return carried


class _Carrying(Executor):
    """An executor whose functions run in the context of whoever submitted them."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._pool.submit(partial(copy_context().run, fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  Executor's own signature
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._pool.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever the pool has
        return getattr(self._pool, name)


def wrap_executor(pool: Executor) -> Executor:
    """
    Return *pool* so that what it runs sees the context of the one who submits.

    Context variables do not cross into the threads of a pool by themselves, so
    a call in one would name no session, no request and no parent.

    Raises:
        TypeError: *pool* runs in other processes, which no context reaches:
            pass the fields as arguments, and enter `context` there.
    """
    processes: Any = loaded("concurrent.futures.process")
    apart = processes is not None and isinstance(pool, processes.ProcessPoolExecutor)
    if apart or not isinstance(pool, Executor):
        msg = (
            f"wrap_executor is for pools of threads, not for {type(pool).__name__!r}: pass the "
            "fields as arguments, and enter audit.context there"
        )
        raise TypeError(msg)
    return _Carrying(pool)
