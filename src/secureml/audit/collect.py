"""
Which record is mine: from inside a call, and from around it.

Both ways are context variables, so they follow ``await`` and tasks, and do
not see the calls of other threads or requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from secureml._html import card

__all__ = ["CallRecord", "Current", "Running", "collect", "current", "inside"]


class Ticket(Protocol):
    """**Protocol.** What the log gives for a record: its place, once it has one."""

    @property
    def index(self) -> int | None:
        """The record's leaf; None until it was sequenced."""
        ...


class Running(Protocol):
    """**Protocol.** The call that is running, for what is inside it."""

    @property
    def id(self) -> str:
        """The record it will leave."""
        ...

    def oversee(self, action: str, reviewers: tuple[object, ...], reason: str | None) -> None:
        """Note what a person did about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """
    What was recorded about one call.

    Attributes:
        id: The record: what `trace` takes.
        action: What was done.
        outcome: How it ended, such as ``ok``.
        time: When it began, RFC 3339.
        latency_us: How long it took, in microseconds.
        model: Digest of the model that answered, or None.
        ticket: What the log gave for it; None where the log did not take it,
            and the caller had chosen to go on.
    """

    id: str
    action: str
    outcome: str
    time: str
    latency_us: int
    model: str | None = None
    ticket: Ticket | None = field(default=None, repr=False, compare=False)

    @property
    def index(self) -> int | None:
        """Its leaf in the audit log; None until it was sequenced."""
        return None if self.ticket is None else self.ticket.index

    def _repr_html_(self) -> str:
        rows = [(name, getattr(self, name)) for name in ("id", "index", *self.__slots__[1:-1])]
        return card(f"audit record of {self.action}", rows)


@dataclass(frozen=True, slots=True)
class Current:
    """
    The audited call that is running.

    Attributes:
        id: The record it will leave.
    """

    id: str


running: ContextVar[Running] = ContextVar("secureml_audit_current")
collectors: ContextVar[tuple[list[CallRecord], ...]] = ContextVar(
    "secureml_audit_collectors", default=()
)


@contextmanager
def collect() -> Iterator[list[CallRecord]]:
    """
    Gather the records of the audited calls made in this context.

    The list fills as calls end; a stream that is still open comes later.
    """
    records: list[CallRecord] = []
    token = collectors.set((*collectors.get(), records))
    try:
        yield records
    finally:
        collectors.reset(token)


def current() -> Current:
    """
    Return the audited call that is running here.

    Raises:
        LookupError: None is.
    """
    return Current(inside("current").id)


def inside(name: str) -> Running:
    """
    Return the call that is running here, for the function *name*.

    Raises:
        LookupError: None is.
    """
    found = running.get(None)
    if found is None:
        msg = f"no audited call is running here: {name}() is for use inside an audited function"
        raise LookupError(msg)
    return found
