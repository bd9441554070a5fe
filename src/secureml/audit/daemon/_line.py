"""
The application's end of the socket, in the place of a spool.

What was handed over is kept here until the daemon says that it is durable.  So
a daemon that is killed and begins anew is told again what it does not have,
and nothing that it has; a record is in the log once.

A connection that is lost is made again, with pauses that grow.  For as long as
the patience lasts records wait; after it they are refused.

Edge: one thread at a time writes and syncs, as with a `Spool`; any thread may
ask how far records have come.

Source: docs/spec/daemon.md.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from secureml.audit.daemon import messages
from secureml.audit.daemon._link import STEP, ImpostorError, Link
from secureml.audit.daemon.messages import NOBODY, TOKEN_SIZE, Hello, Kind, Reason, State, Welcome
from secureml.errors import FormatError, StoreError

__all__ = ["PATIENCE", "RemoteSpool", "no_answer"]

PATIENCE: Final = 15.0
"""Seconds without an answer after which records are refused: longer than a restart."""

AWAY: Final = "daemon-away"
TOO_LARGE: Final = "too-large"
"""What a ``gap`` gives as the reason."""

_WINDOW: Final = 4 << 20
"""Bytes that may be under way, unless one record is larger."""

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25
_KEPT: Final = 4096


class RemoteSpool:
    """
    A writer's connection to the daemon; what `secureml.evidence._spool.Spool` is without one.

    Args:
        address: The daemon's socket.
        user: Number of the user that has to be at the other end; None for
            the owner of the socket's directory, or root.
        patience: Seconds to wait for an answer before records are refused.

    Raises:
        StoreError: Nobody answers, or not the daemon, or it refuses.

    Attributes:
        writer: 16 bytes, drawn by the daemon.
        origin: The log.
        synced: Records known to be on the daemon's disk.
        anchored: Entries of the log that anchors vouch for.
        anchors: Whether an anchor is required.
        broken: Why it takes nothing more; empty while it does.
        full: Empty: it is the daemon's disk.
        outage: Why records were refused last, in a word.
        trouble: Why there is no connection; empty while there is one.
    """

    full = ""

    def __init__(
        self, address: str, *, user: int | None = None, patience: float = PATIENCE
    ) -> None:
        self.writer = NOBODY
        self.origin = ""
        self.synced = 0
        self.anchored = 0
        self.anchors = False
        self.broken = ""
        self.trouble = "no connection was made yet"
        self.outage = AWAY
        self._patience = patience
        self._token = bytes(TOKEN_SIZE)
        self._link = Link(address, user)
        self._mutex = threading.RLock()
        self._count = 0
        self._pending: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._ending = False
        self._ended = False
        self._closed = False
        self._covered = 0
        self._wanted = 0
        self._watched = 0
        self._notes: list[str] = []
        self._ranges: list[tuple[int, int, int]] = []
        self._lost: float | None = time.monotonic()
        self._next = 0.0
        self._pause = _FIRST_PAUSE
        with self._mutex:
            self._ensure()

    @property
    def count(self) -> int:
        """Records written so far."""
        return self._count

    @property
    def inside(self) -> bool:
        """Whether this very thread is at work here."""
        return bool(self._mutex._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001  an RLock knows

    # As a spool

    def write(self, bodies: Sequence[bytes], lines: Sequence[bytes], *, details: int) -> None:
        """
        Hand over records, numbered on from the last one; durable after `sync`.

        Args:
            bodies: Their JSON.
            lines: Their lines in the details, empty for none.
            details: The details segment that the lines go to.

        Raises:
            StoreError: They were not taken.
        """
        for line in lines:
            if len(line) > messages.MAX_LINE:
                self.outage = TOO_LARGE
                raise StoreError(
                    "a record captured too much for the audit daemon",
                    why=f"its values have {len(line):,} bytes, and {messages.MAX_LINE:,} is most",
                    fix="capture a digest of what is so large",
                )
        with self._mutex:
            self.check()
            self._ensure()
            self._await(lambda: self._size <= _WINDOW)
            for after, data in messages.units(bodies, lines, details=details, first=self._count):
                self._pending.append((after, data))
                self._size += len(data)
                self._count = after
                self._send(data)

    def end(self) -> None:
        """
        Say that the writer is done.

        Raises:
            StoreError: It takes nothing more.
        """
        with self._mutex:
            self.check()
            self._ending = True
            self._send(messages.end(self._count))

    def sync(self) -> None:
        """
        Return when every record so far is on the daemon's disk.

        Raises:
            StoreError: It is not known to be; what was handed over is kept and
                told again when the daemon answers, unless the spool is broken.
        """
        with self._mutex:
            self.check()
            self._await(lambda: self.synced == self._count and (self._ended or not self._ending))

    def make_ahead(self) -> bool:
        """Return whether records can be taken: whether there is a connection."""
        return bool(self._link)

    def want(self, below: int) -> None:
        """Tell the daemon that somebody waits for a checkpoint over the records below a number."""
        if below > self._wanted:
            with self._mutex:
                self._wanted = max(below, self._wanted)
                self._send(messages.want(self._wanted))

    def acknowledged(self) -> int:
        """Return how many records are under a checkpoint."""
        self._hear()
        return self._covered

    def index_of(self, number: int) -> int | None:
        """Return the place of record *number* in the log; None before, and long after."""
        self._hear()
        for first, count, index in reversed(self._ranges):
            if number >= first:
                return index + number - first if number < first + count else None
        return None

    def exists(self) -> bool:
        """Return whether the daemon can still say something of this writer."""
        return bool(self._link) and not self.broken

    def close(self) -> None:
        """Hand over no more; what becomes of the last records is still heard."""
        self._closed = True

    def abandon(self) -> None:
        """Let go of the descriptor alone, as the child of a fork has to."""
        self.broken = self.broken or "it was closed"
        self._link.abandon()

    def hang_up(self) -> None:
        """Close the connection for good."""
        with self._mutex:
            self.broken = self.broken or "it was closed"
            self._link.close()

    def check(self) -> None:
        """
        Raise if it takes nothing more.

        Raises:
            StoreError: It does not.
        """
        if self.broken or self._closed:
            raise StoreError(
                f"the audit daemon at {self._link.address!r} takes no more of this writer",
                why=self.broken or "the writer said that it was done",
                fix="open the audit log again: it becomes a new writer",
            )

    # What only a connection has

    def tend(self) -> None:
        """
        Hear what was said; connect again when the connection is lost and it is time.

        Raises:
            StoreError: It takes nothing more.
        """
        if not self._mutex.acquire(blocking=False):
            return  # Somebody else is at it.
        try:
            self._drain()
            if not self._link and not self.broken and time.monotonic() >= self._next:
                self._try()
            if self.broken:
                self.check()
        finally:
            self._mutex.release()

    def listen(self, timeout: float) -> None:
        """Return when the daemon says something, or after *timeout* seconds."""
        if self._link:
            self._link.wait(timeout)
        else:
            time.sleep(timeout)

    def watch(self, entries: int) -> None:
        """Tell the daemon that somebody waits until anchors vouch for so many entries."""
        if entries > self._watched:
            with self._mutex:
                self._watched = max(entries, self._watched)
                self._send(messages.watch(self._watched))

    def checkpoint(self, timeout: float) -> str:
        """
        Return the newest checkpoint, a signed note; nothing of it was verified.

        Raises:
            StoreError: There is none, or no answer.
        """
        with self._mutex:
            self._notes.clear()
            deadline = time.monotonic() + timeout
            asked = False
            while not self._notes:
                asked = asked and bool(self._link)
                self._ensure()
                if not asked:
                    asked = True
                    self._send(messages.frame(bytes((Kind.NOTE,))))
                self._await_answer(deadline)
            return self._notes[-1]

    # The connection

    def _ensure(self) -> None:
        """Have a connection, or raise when the patience is over."""
        while not self._link:
            if self.broken:
                self.check()
            when = time.monotonic()
            limit = (when if self._lost is None else self._lost) + self._patience
            if when >= self._next:
                self._try()
            elif when < limit:
                time.sleep(max(0.0, min(self._next, limit) - when))
            if not self._link and time.monotonic() >= limit:
                if self.broken:
                    self.check()
                raise self._silence(self.trouble)

    def _try(self) -> None:
        """Connect once, and tell again what the daemon does not have."""
        hello = Hello(self.writer, self._token, self.synced)
        try:
            payload = self._link.open(hello.encode())
            if payload[0] == Kind.REFUSED:
                self._refused(payload)
                return
            self._greet(Welcome.decode(payload))
        except ImpostorError as error:
            self.broken = str(error)
            self._drop(self.broken)
        except OSError as error:
            self._drop(error.strerror or str(error))
        except FormatError as error:
            self._drop(error.why)
        if not self._link:
            return
        for _, data in list(self._pending):
            self._send(data)
        if self._ending:
            self._send(messages.end(self._count))
        if self._wanted > self._covered:
            self._send(messages.want(self._wanted))
        if self._watched > self.anchored:
            self._send(messages.watch(self._watched))

    def _greet(self, welcome: Welcome) -> None:
        if self.writer not in {NOBODY, welcome.writer}:
            self.broken = "the daemon answered for another writer"
        elif not self.synced <= welcome.durable <= self._count:
            self.broken = (
                f"the daemon has {welcome.durable} records of this writer, which handed over "
                f"{self._count}; {self.synced} were durable"
            )
        if self.broken:
            self._drop(self.broken)
            return
        self.writer, self._token = welcome.writer, welcome.token
        self.origin = welcome.origin
        self.trouble = ""
        self._durable(welcome.durable)
        self._covered = max(self._covered, welcome.covered)
        if not self._pending:
            self._well()

    def _refused(self, payload: bytes) -> None:
        reason, text = messages.read_refused(payload)
        if reason is Reason.GONE and self._ending and self.synced == self._count:
            self._ended = True  # It was done, and all of it is in the log.
            self.broken = "it was closed"
        elif not reason.passing:
            name = reason.name.lower().replace("_", " ")
            self.broken = f"the daemon refused it ({name}): {text}"
        self._drop(text)

    def _drop(self, why: str) -> None:
        """Close a connection that is of no use; the next one comes after a pause."""
        self._link.close()
        self.trouble = why
        when = time.monotonic()
        if self._lost is None:
            self._lost = when
        self._next = when + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _send(self, data: bytes) -> None:
        """Send, if there is a connection; what cannot be sent is told again later."""
        if self._link:
            try:
                self._link.send(data)
            except OSError as error:
                # It may have said why, before it closed the connection.
                self._drain()
                if self._link:
                    self._drop(error.strerror or str(error))

    def _await(self, reached: Callable[[], bool]) -> None:
        """Hear the daemon until *reached*, or until the patience is over without progress."""
        limit = max(self._patience, 2 * STEP)
        deadline = time.monotonic() + limit
        while not reached():
            before = self.synced
            self._await_answer(deadline)
            if self.synced > before:
                deadline = time.monotonic() + limit

    def _await_answer(self, deadline: float) -> None:
        """Hear something new from the daemon, connecting again if need be."""
        self._ensure()
        left = deadline - time.monotonic()
        if left <= 0:
            self._drop("the daemon does not answer")
            raise self._silence("it is there, and says nothing")
        self._link.wait(min(left, STEP))
        self._drain()
        if self.broken and not self._ended:
            self.check()

    def _silence(self, why: str) -> StoreError:
        self.outage = AWAY
        return no_answer(f"no answer from the audit daemon at {self._link.address!r}", why=why)

    def _hear(self) -> None:
        """Take what was said already; never wait."""
        if self._link and self._mutex.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._mutex.release()

    def _drain(self) -> None:
        while self._link:
            try:
                payloads = self._link.receive()
                for payload in payloads:
                    self._take(payload)
            except OSError as error:
                self._drop(error.strerror or str(error))
            except FormatError as error:
                self._drop(error.why)
            else:
                if not payloads:
                    return

    def _take(self, payload: bytes) -> None:
        kind = payload[0]
        if kind == Kind.STATE:
            state = State.decode(payload)
            self._durable(state.durable)
            self._covered = max(self._covered, state.covered)
            self.anchored = max(self.anchored, state.anchored)
            self.anchors = state.anchors
            self._ended = self._ended or state.ended
        elif kind == Kind.PLACED:
            self._ranges += messages.read_placed(payload)
            del self._ranges[:-_KEPT]
        elif kind == Kind.CHECKPOINT:
            self._notes.append(payload[1:].decode("utf-8", "replace"))
        elif kind == Kind.REFUSED:
            self._refused(payload)

    def _durable(self, count: int) -> None:
        if count > self.synced:
            self._well()
        self.synced = max(self.synced, min(count, self._count))
        while self._pending and self._pending[0][0] <= self.synced:
            self._size -= len(self._pending.popleft()[1])

    def _well(self) -> None:
        """Take note that the daemon does what it should: patience begins anew."""
        self._lost = None
        self._pause = _FIRST_PAUSE


def no_answer(what: str, *, why: str) -> StoreError:
    """Return the error for a daemon that does not answer."""
    return StoreError(
        what,
        why=why or "it said nothing",
        fix="see whether the daemon runs, and what it says; records that were handed over are "
        "kept in this process, and told again when it answers",
        retryable=True,
    )
