"""
Which anchors a log has, when they are asked, and how far they have come.

`Anchors.step` is called from a thread in the background, about once a second,
and returns at once: each anchor works in a thread of its own, so a slow or a
dead one delays neither the log nor another anchor.  What goes wrong is
counted and shown, and tried again later.

Times between two attempts are measured on a clock that only goes forward, so a
system clock that jumps moves nothing here.

Edge: a name look-up that hangs holds its anchor's thread, and that anchor only,
until the system gives up.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from secureml.clock import Clock, now
from secureml.errors import ConsistencyError, SecureMLError, StoreError
from secureml.evidence.anchors.keeping import append_receipt, receipts_directory
from secureml.evidence.anchors.receipt import Anchor, Head, Receipt, Source
from secureml.evidence.anchors.status import AnchorStatus, Receipts, Status
from secureml.keys.verifier import Verifier
from secureml.wire._read import shown

__all__ = ["Anchors", "elapsed"]

INTERVAL = 60.0
_MAX_BACKOFF = 300.0
_GAP = 1.0
_TICK = 0.05


def elapsed() -> float:
    """Return seconds that no clock setting moves, and that a sleeping machine counts, too."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass(slots=True, eq=False)
class _Slot:
    """One anchor at work."""

    anchor: Anchor
    required: bool
    size: int = 0
    at: datetime | None = None
    taken: float | None = None
    due: float = 0.0
    failures: int = 0
    failed: int = 0
    error: SecureMLError | None = None
    alarm: SecureMLError | None = None
    receipt: Receipt | None = None
    thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


@dataclass(slots=True)
class _State:
    """What the threads share; another one after a fork."""

    slots: tuple[_Slot, ...]
    pid: int = field(default_factory=os.getpid)
    changed: threading.Condition = field(default_factory=threading.Condition)
    size: int = 0
    origin: str | None = None
    error: SecureMLError | None = None


class Anchors:
    """
    The anchors of one log.

    Args:
        required: Those that count: `anchored_size` is what *quorum* of them cover.
        optional: Others.
        quorum: How many of the required; all of them by default.
        interval: Seconds between two checkpoints that an anchor is shown,
            unless it has an interval of its own.
        directory: Where receipts are kept; by default ``anchors/<log>`` beside
            the log's directory.
        verifiers: Keys of the log, or a function that returns them, for a log
            whose keys follow each other; when given, nothing is shown to
            others that none of them signed.
        clock: Gives the time that is reported.
        monotonic: Gives the seconds that intervals are measured in, `elapsed` by default.

    Raises:
        ValueError: No anchor, two of one name, a quorum that cannot be met,
            or an interval below a second.
    """

    def __init__(
        self,
        required: Sequence[Anchor] = (),
        optional: Sequence[Anchor] = (),
        *,
        quorum: int | None = None,
        interval: float = INTERVAL,
        directory: str | os.PathLike[str] | None = None,
        verifiers: Sequence[Verifier] | Callable[[], Sequence[Verifier]] = (),
        clock: Clock = now,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        names = [one.name for one in (*required, *optional)]
        if not names or len(set(names)) != len(names):
            msg = "a log has one anchor or more, and each has a name of its own"
            raise ValueError(msg)
        self.quorum = len(required) if quorum is None else quorum
        if not bool(required) <= self.quorum <= len(required):
            msg = f"a quorum is 1 to {len(required)} of the required anchors, not {quorum}"
            raise ValueError(msg)
        every = [one.interval for one in (*required, *optional) if one.interval is not None]
        if min(interval, *every, interval) < 1:
            msg = "an anchor is asked once a second at most"
            raise ValueError(msg)
        self._anchors = (tuple(required), tuple(optional))
        self._interval = interval
        self._directory = None if directory is None else Path(directory)
        self._verifiers = verifiers
        self._clock = clock
        self._monotonic = monotonic
        self._closed = False
        self._state = self._fresh()

    def _fresh(self) -> _State:
        slots = [_Slot(one, required=True) for one in self._anchors[0]]
        slots += [_Slot(one, required=False) for one in self._anchors[1]]
        return _State(tuple(slots))

    def _mine(self) -> _State:
        """Return the state; a child of a fork begins anew, for it has no threads."""
        if self._state.pid != os.getpid():
            self._state = self._fresh()
        return self._state

    # Facts

    @property
    def anchored_size(self) -> int:
        """Number of entries that a quorum of the required anchors cover, in this process."""
        sizes = sorted((s.size for s in self._mine().slots if s.required), reverse=True)
        return sizes[self.quorum - 1] if sizes else 0

    @property
    def last_anchored_size(self) -> int:
        """Number of entries that any anchor covers."""
        return max(slot.size for slot in self._mine().slots)

    @property
    def window(self) -> float | None:
        """
        Seconds since the last anchored checkpoint was taken: the undetected window.

        Of the quorum of the required anchors, or of any anchor when none is
        required.  0 when everything that is published is anchored; None when
        nothing was, in this process.
        """
        state = self._mine()
        slots = [slot for slot in state.slots if slot.required] or list(state.slots)
        need = self.quorum or 1
        taken = sorted((s.taken for s in slots if s.taken is not None), reverse=True)
        if len(taken) < need:
            return None
        sizes = sorted((slot.size for slot in slots), reverse=True)
        if sizes[need - 1] >= state.size:
            return 0.0
        return max(0.0, self._monotonic() - taken[need - 1])

    def status(self) -> Status:
        """Return how far each anchor has come."""
        state = self._mine()
        each = tuple(
            AnchorStatus(
                slot.anchor.name,
                slot.anchor.kind,
                slot.required,
                slot.size,
                slot.at,
                slot.failures,
                slot.failed,
                None if slot.error is None else f"{slot.error.what} [{slot.error.code}]",
                None if slot.alarm is None else f"{slot.alarm.what} [{slot.alarm.code}]",
                slot.busy,
            )
            for slot in state.slots
        )
        error = state.error
        return Status(
            state.size,
            self.anchored_size,
            self.last_anchored_size,
            self.window,
            None if error is None else f"{error.what} [{error.code}]",
            tuple(f"{one.name}: {one.alarm}" for one in each if one.alarm is not None),
            each,
        )

    # Work

    def step(self, log: Source, *, wanted: int = 0) -> int:
        """
        Start what is due, and return `anchored_size`; never waits.

        Args:
            log: The log; always the same one.
            wanted: A size that somebody waits for: the required anchors that
                do not cover it are asked now, once a second at most.

        Raises:
            ValueError: Another log than before, or closed.
        """
        state = self._mine()
        self._check_open()
        head = self._head(state, log)
        if head is not None:
            time_now = self._monotonic()
            with state.changed:
                due = [s for s in state.slots if self._is_due(s, head, time_now, wanted)]
                # Those that count go together, so that they vouch for one checkpoint.
                together = {self._every(s) for s in due if s.required and not s.failures}
                for slot in state.slots:
                    joins = slot.required and self._every(slot) in together
                    if slot in due or (joins and self._is_free(slot, head, time_now)):
                        self._start(state, slot, head)
        return self.anchored_size

    def anchor(self, log: Source, *, timeout: float = 30.0) -> Receipts:
        """
        Show every anchor the present checkpoint, now, and wait for them.

        Args:
            log: The log; always the same one.
            timeout: Seconds to wait; what is not done then goes on.

        Returns what was kept and what went wrong; `Receipts.enforce` raises
        when that is too little.

        Raises:
            StoreError: The log has no checkpoint, or it cannot be read.
            FormatError: It is no checkpoint.
            SignatureError: The log's key did not sign it.
            ValueError: Another log than before, or closed.
        """
        state = self._mine()
        self._check_open()
        head = self._read(log)
        self._same_log(state, head)
        end = time.monotonic() + timeout
        tried: set[str] = set()
        size = head.checkpoint.size
        while True:
            with state.changed:
                for slot in state.slots:
                    name = slot.anchor.name
                    if not slot.busy and name not in tried and slot.size < size:
                        tried.add(name)
                        self._start(state, slot, head)
                left = end - time.monotonic()
                waiting = any(slot.busy and slot.size < size for slot in state.slots)
                if not waiting or left <= 0:
                    break
                state.changed.wait(min(left, _TICK))
        return self._receipts(state, size)

    def wait(self, size: int, *, timeout: float) -> bool:
        """Return whether `anchored_size` has reached *size* within *timeout* seconds."""
        state = self._mine()
        with state.changed:
            return state.changed.wait_for(lambda: self.anchored_size >= size, timeout)

    def close(self, *, timeout: float = 0.0) -> None:
        """Start nothing more; wait at most *timeout* seconds for what is at work."""
        self._closed = True
        end = time.monotonic() + timeout
        for slot in self._mine().slots:
            if slot.thread is not None:
                with contextlib.suppress(RuntimeError):  # it was not started yet
                    slot.thread.join(max(0.0, end - time.monotonic()))

    def _check_open(self) -> None:
        if self._closed:
            msg = "these anchors were closed"
            raise ValueError(msg)

    def _same_log(self, state: _State, head: Head) -> None:
        origin = head.checkpoint.origin
        if state.origin not in {None, origin}:
            msg = f"these anchors are of the log {state.origin!r}, not of {origin!r}"
            raise ValueError(msg)
        state.origin = origin
        state.size = head.checkpoint.size

    def _read(self, log: Source) -> Head:
        keys = self._verifiers() if callable(self._verifiers) else self._verifiers
        return Head.read(log, verifiers=keys)

    def _head(self, state: _State, log: Source) -> Head | None:
        try:
            head = self._read(log)
        except SecureMLError as error:
            state.error = error
            return None
        state.error = None
        self._same_log(state, head)
        for slot in state.slots:
            if head.checkpoint.size < slot.size and slot.alarm is None:
                slot.alarm = _shrunk(slot, head)
        return head

    def _every(self, slot: _Slot) -> float:
        return slot.anchor.interval or self._interval

    def _is_free(self, slot: _Slot, head: Head, time_now: float) -> bool:
        """Whether an anchor can be asked before it is due: it is idle, behind, and not failing."""
        resting = bool(slot.failures) and time_now < slot.due
        return not slot.busy and not resting and slot.size < head.checkpoint.size

    def _is_due(self, slot: _Slot, head: Head, time_now: float, wanted: int) -> bool:
        if slot.busy or head.checkpoint.size <= slot.size:
            return False
        if slot.failures or slot.taken is None:
            return time_now >= slot.due
        if slot.required and slot.size < min(wanted, head.checkpoint.size):
            return time_now >= slot.taken + _GAP
        return time_now >= slot.due

    def _start(self, state: _State, slot: _Slot, head: Head) -> None:
        name = f"secureml-anchor-{slot.anchor.name}"
        slot.receipt = None
        thread = threading.Thread(
            target=self._work, args=(state, slot, head), name=name, daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread to give, or Python ends
            self._failed(slot, _unexpected(slot, error))
        else:
            slot.thread = thread

    def _work(self, state: _State, slot: _Slot, head: Head) -> None:
        """Ask one anchor, and keep what it gives."""
        taken = self._monotonic()
        try:
            receipt = slot.anchor.submit(head)
            size = receipt.head.size
            if receipt.head.origin != head.checkpoint.origin or size < head.checkpoint.size:
                raise _unexpected(slot, ValueError("its receipt is for another checkpoint"))  # noqa: TRY301
            append_receipt(self._place(head), slot.anchor.name, receipt)
        except SecureMLError as error:
            with state.changed:
                self._failed(slot, error)
                state.changed.notify_all()
        except Exception as error:  # noqa: BLE001  an anchor's bug stops no log and no other
            with state.changed:
                self._failed(slot, _unexpected(slot, error))
                state.changed.notify_all()
        else:
            with state.changed:
                slot.size, slot.taken, slot.receipt = size, taken, receipt
                slot.at = self._clock()
                slot.due = taken + self._every(slot)
                slot.failures, slot.error = 0, None
                # Waiters see the thread at its end: nothing follows but the return.
                slot.thread = None
                state.changed.notify_all()

    def _failed(self, slot: _Slot, error: SecureMLError) -> None:
        slot.failures += 1
        slot.failed += 1
        slot.error = error
        if isinstance(error, ConsistencyError):
            slot.alarm = error
        limit = min(_MAX_BACKOFF, self._every(slot))
        slot.due = self._monotonic() + min(limit, 2.0 ** min(slot.failures - 1, 16))
        slot.thread = None

    def _place(self, head: Head) -> Path:
        return self._directory or receipts_directory(head.source.directory)

    def _receipts(self, state: _State, size: int) -> Receipts:
        kept: dict[str, Receipt] = {}
        errors: dict[str, SecureMLError] = {}
        for slot in state.slots:
            name = slot.anchor.name
            if slot.size >= size:
                if slot.receipt is not None:
                    kept[name] = slot.receipt
            elif slot.busy or slot.error is None:
                errors[name] = StoreError(
                    f"the anchor {name!r} is still being asked",
                    why="it did not answer in the time that was given",
                    fix="wait longer, or look at its status later",
                    retryable=True,
                )
            else:
                errors[name] = slot.error
        return Receipts(size, self.anchored_size, kept, errors)

    def __repr__(self) -> str:
        names = ", ".join(slot.anchor.name for slot in self._state.slots)
        return f"<Anchors {names}; anchored {self.anchored_size} of {self._state.size}>"


def _shrunk(slot: _Slot, head: Head) -> ConsistencyError:
    return ConsistencyError(
        f"the log {head.checkpoint.origin!r} is shorter than what {slot.anchor.name!r} has",
        why=f"it has {head.checkpoint.size} entries, and this process anchored {slot.size}",
        fix="stop and find out: the log was cut or rolled back while it was in use",
    )


def _unexpected(slot: _Slot, error: BaseException) -> StoreError:
    return StoreError(
        f"the anchor {slot.anchor.name!r} failed in a way of its own",
        why=f"{type(error).__name__}: {shown(str(error))}",
        fix="report it to who made the anchor; it is tried again",
        retryable=True,
    )
