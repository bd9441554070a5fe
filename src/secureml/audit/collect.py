"""
Which record is mine: from inside a call, and from around it.

Both ways are context variables, so they follow ``await`` and tasks, and do
not see the calls of other threads or requests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from secureml._html import card

__all__ = ["CallRecord", "Current", "collect", "current"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """
    What was recorded about one call.

    Attributes:
        id: The record: what `trace` takes.
        index: Its leaf in the audit log; None while it waits to be written.
        action: What was done.
        outcome: How it ended, such as ``ok``.
        time: When it began, RFC 3339.
        latency_us: How long it took, in microseconds.
        model: Digest of the model that answered, or None.
    """

    id: str
    index: int | None
    action: str
    outcome: str
    time: str
    latency_us: int
    model: str | None = None

    def _repr_html_(self) -> str:
        rows = [(name, getattr(self, name)) for name in self.__slots__]
        return card(f"audit record of {self.action}", rows)


@dataclass(frozen=True, slots=True)
class Current:
    """
    The audited call that is running.

    Attributes:
        id: The record it will leave.
    """

    id: str


running: ContextVar[Current] = ContextVar("secureml_audit_current")
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
    found = running.get(None)
    if found is None:
        msg = "no audited call is running here: current() is for use inside an audited function"
        raise LookupError(msg)
    return found
