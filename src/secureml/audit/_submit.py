"""
Handing a record to the log: at once, or by waiting without holding up an event loop.

A record that its caller may lose (``require=None``, ``on_failure="gap"``) and
that the log does not take is counted here, and the next record that the log
takes is followed by a ``gap`` that says how many there were.
"""

import asyncio
import os
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from secureml.audit._stamp import NOISE, stamp
from secureml.audit.sink import Appended, AuditLog
from secureml.errors import SecureMLError, StoreError
from secureml.wire import canonical
from secureml.wire.canonical import JSON

__all__ = ["Ledger", "in_thread", "submit_async"]

T = TypeVar("T")

_MANY: Final = 1024


class Ledger:
    """
    What one log did not take, although its callers went on.

    Without a lock: the garbage collector may come here from anywhere.
    """

    __slots__ = ("__weakref__", "_lost", "_warned")

    def __init__(self) -> None:
        self._lost: deque[_Lost] = deque()
        self._warned = False

    @classmethod
    def of(cls, log: AuditLog) -> "Ledger":
        """Return the ledger of *log*."""
        return _LEDGERS.setdefault(log, cls())

    @property
    def lost(self) -> deque["_Lost"]:
        """What a ``gap`` is to tell of; empty as long as all is well."""
        return self._lost

    def lose(self, error: Exception, when: str) -> None:
        """Count a record of the time *when* that *error* kept out, and warn the first time."""
        code = error.code if isinstance(error, SecureMLError) else "error"
        self._lost.append(_Lost(os.getpid(), 1, when, when, code.lower()))
        if len(self._lost) > _MANY:
            self._lost.extend(self._added())
        warned, self._warned = self._warned, True
        if not warned:
            # Where warnings are errors, this one still is none of the call's.
            with suppress(Warning):
                warnings.warn(
                    f"an audit record was not accepted, and its caller goes on without: {error}",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _added(self) -> list["_Lost"]:
        """Take out what there is, added up, one for each reason; a parent's is the parent's."""
        found: dict[str, _Lost] = {}
        pid = os.getpid()
        with suppress(IndexError):
            while True:
                one = self._lost.popleft()
                if one.pid == pid:
                    known = found.get(one.reason, one._replace(dropped=0))
                    found[one.reason] = known._replace(
                        dropped=known.dropped + one.dropped, last=one.last
                    )
        return list(found.values())

    def settle(self, log: AuditLog) -> None:
        """Write the ``gap`` that is due; where that fails too, it stays due."""
        for lost in self._added():
            try:
                self._write(log, lost)
            except Exception:  # noqa: BLE001  the record at hand was taken: nothing is wrong with it
                self._lost.append(lost)

    def _write(self, log: AuditLog, lost: "_Lost") -> None:
        record, when = stamp(log.clock, os.urandom(NOISE))
        gap: dict[str, JSON] = {
            "dropped": lost.dropped,
            "first": lost.first,
            "last": lost.last,
            "reason": lost.reason,
        }
        log.submit(
            record,
            canonical.encode({"gap": gap, "record": {"id": record}, "time": when, "type": "gap"}),
        )


class _Lost(NamedTuple):
    """Records that were not accepted, by the process *pid*."""

    pid: int
    dropped: int
    first: str
    last: str
    reason: str


_LEDGERS: Final[WeakKeyDictionary[AuditLog, Ledger]] = WeakKeyDictionary()


async def in_thread(function: Callable[[], T]) -> T:
    """
    Run *function* on another thread where an asyncio loop runs here, else at once.

    It runs to its end also when the task is cancelled while it waits.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return function()
    run = copy_context().run
    return await asyncio.shield(loop.run_in_executor(None, run, function))


async def submit_async(
    log: AuditLog,
    record: str,
    body: bytes,
    line: bytes | None,
    *,
    at: int,
    ack: str,
    on_failure: str,
) -> Appended:
    """
    Append as `AuditLog.submit` does, without blocking an event loop.

    Raises:
        ValueError: The record is larger than a leaf.
        StoreError: It was not accepted.
    """
    if not _in_asyncio():
        return log.submit(record, body, line, at=at, ack=ack, on_failure=on_failure)
    try:
        return await log.submit_async(record, body, line, at=at, ack=ack, on_failure=on_failure)
    except TimeoutError as error:
        # The caller would take it for one of the function's own.
        raise StoreError(
            f"the record {record} is accepted, but not {ack} yet",
            why="the log took longer than it may",
            fix="look at the disk and at the process that sequences the log; the record is kept",
            retryable=True,
        ) from error


def _in_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
