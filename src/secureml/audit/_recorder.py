"""
One writer of the audit log: from a queue in memory to a spool on the disk.

What a call does is to append to a queue, and nothing else: no lock, no system
call.  A queue may be appended to by the garbage collector, which closes a
forgotten stream in the middle of anything, and by any number of threads.  A
thread of its own numbers the records and writes them, many at a time.

Whoever waits for the disk does the work itself, for everybody who waits
behind: so sixteen threads need little more time than one.
"""

import asyncio
import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Final

from secureml.audit._anchoring import Anchoring, not_witnessed
from secureml.audit._events import Losses, event, new_id
from secureml.audit._merge import segment_name
from secureml.audit._turns import Turns
from secureml.audit.appended import Appended
from secureml.clock import Clock
from secureml.errors import SecureMLError, StoreError
from secureml.evidence._files import store_error
from secureml.evidence._spool import Spool
from secureml.evidence.sequencer import Sequencer
from secureml.wire.canonical import JSON

__all__ = ["QUEUE_BYTES", "Recorder"]

FLUSH: Final = 0.04
"""Seconds that an accepted record may be in memory alone."""

IDLE: Final = 1.0
QUEUE_BYTES: Final = 8 << 20
"""Bytes that may wait in memory; more is not accepted until some were written."""

BATCH: Final = 256
"""Records that are written at once: few enough to stay in the processor's cache meanwhile."""

SEGMENT_RECORDS: Final = 4096
"""Lines of one details file."""

SEGMENT_BYTES: Final = 64 << 20
_JUMP: Final = 2.0
"""Seconds by which the wall clock may move against the monotonic one unnoticed."""


class Recorder:
    """
    One writer; made at the first record, ended by `close`.

    Attributes:
        queue: What is accepted and not written; appended to by anybody.
        waiting: Bytes in the queue, about.
        trouble: Why nothing is accepted now; None when all is well.
        dropped: Records whose callers chose to go on without them.
        refused: Records whose callers were told so by an error.
        ready: Whether the writer's start is under a checkpoint.
        asleep: Whether the thread waits for a bell.
    """

    def __init__(
        self,
        spool: Spool,
        sequencer: Sequencer,
        clock: Clock,
        *,
        heartbeat: float,
        start: Callable[[], list[bytes]],
        anchoring: Anchoring | None = None,
    ) -> None:
        self.queue: deque[Appended] = deque()
        self.waiting = 0
        self.trouble: SecureMLError | None = None
        self.ready = False
        self.asleep = False
        self.spool = spool
        self.sequencer = sequencer
        self.anchoring = anchoring
        self.clock = clock
        self.io = threading.RLock()
        self._turns = Turns()
        self.bell: SimpleQueue[None] = SimpleQueue()
        self.heartbeat = heartbeat
        self.refused = Losses()
        self.dropped = Losses()
        self._segment = 0
        self._lines = 0
        self._bytes = 0
        self._spoke = time.monotonic()
        self._clocks = (time.monotonic(), clock().timestamp())
        self._watch: list[tuple[Appended, str, Callable[[SecureMLError | None], None]]] = []
        self._thread: threading.Thread | None = None
        self._stop = False
        first = start()
        spool.write(first, [b""] * len(first), details=0)
        spool.sync()

    @property
    def writer(self) -> bytes:
        """The writer's name, 16 bytes."""
        return self.spool.writer

    @property
    def inside(self) -> bool:
        """Whether this thread is at work for this writer: it must not wait for itself."""
        return (
            self.io._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001  an RLock knows
            or threading.current_thread() is self._thread
            or self.sequencer.inside
        )

    def run(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(
            target=_loop, args=(weakref.ref(self),), name="secureml-audit", daemon=True
        )
        self._thread.start()
        self.sequencer.run()

    # What a call does

    def put(self, item: Appended, size: int) -> None:
        """Accept a record, and leave it to the thread."""
        self.queue.append(item)
        self.waiting += size
        if self.asleep:
            self.ring()

    def put_and_wait(self, item: Appended, size: int, ack: str, timeout: float) -> None:
        """
        Accept a record, and wait as `wait`: the thread need not be woken for it.

        Raises:
            StoreError, ValueError: As `wait`.
        """
        self._check(ack)
        if self.inside:
            self.put(item, size)
            return
        self.queue.append(item)
        self.waiting += size
        self.wait(item, ack, timeout)

    def ring(self) -> None:
        """Wake the thread."""
        self.asleep = False
        self.bell.put(None)

    # Writing

    def flush(self) -> None:
        """
        Write what was accepted so far, and sync it.

        Raises:
            StoreError: Some of it is not on the disk.
        """
        try:
            with self.io:
                self._flush()
        finally:
            self._turns.call()

    def _flush(self) -> None:
        left = self._turns.group = len(self.queue)
        while left > 0:
            taken = self._take(min(left, BATCH))
            if not taken:
                break
            left -= len(taken)
            self._write(taken)
        fresh = self.spool.synced < self.spool.count
        began = time.monotonic()
        self.spool.sync()
        if fresh:
            self._turns.took = time.monotonic() - began
        if not self.queue:
            # Threads add to it without a lock; what went astray is set right here.
            self.waiting = 0

    def _take(self, count: int) -> list[Appended]:
        taken: list[Appended] = []
        queue, size = self.queue, 0
        room = SEGMENT_RECORDS - self._lines if self._bytes <= SEGMENT_BYTES else 0
        while count > 0 and queue and size < QUEUE_BYTES // 4:
            item = queue.popleft()
            if item.line is not None:
                if room <= 0:
                    if taken:
                        queue.appendleft(item)
                        break
                    self._segment += 1
                    self._lines = self._bytes = 0
                    room = SEGMENT_RECORDS
                room -= 1
            taken.append(item)
            size += item.size
            count -= 1
        return taken

    def _write(self, taken: list[Appended]) -> None:
        before = self.spool.count
        member = b',"details":{"segment":"%s"}' % segment_name(self.writer, self._segment).encode()
        bodies: list[bytes] = []
        lines: list[bytes] = []
        captured = 0
        for item in taken:
            line, body, at = item.line, item.body, item.at
            if line is None:
                bodies.append(body)
                lines.append(b"")
            else:
                bodies.append(b"%s%s%s" % (body[:at], member, body[at:]))
                lines.append(line)
                captured += 1
        try:
            self.spool.write(bodies, lines, details=self._segment)
            self._spoke = time.monotonic()
        finally:
            done = self.spool.count - before
            size = 0
            for number, item in enumerate(taken[:done], before):
                size += item.size
                # What it says is in the spool now.
                item.number, item.body, item.line = number, b"", None
            self.waiting -= size
            self.queue.extendleft(reversed(taken[done:]))
        if captured:
            self._lines += captured
            self._bytes += sum(map(len, lines))

    def add(self, kind: str, body: Mapping[str, JSON]) -> Appended:
        """Accept a record of the log itself."""
        content = event(kind, body, self.clock)
        item = Appended(new_id(), self, content, 0, None, len(content))
        self.put(item, len(content))
        return item

    # Waiting

    def wait(self, item: Appended, ack: str, timeout: float) -> None:
        """
        Return when *item* is ``durable``, under a checkpoint or witnessed, as *ack* says.

        Raises:
            StoreError: It is not; a record that is not on the disk was taken back.
            ValueError: ``witnessed``, and no anchor is required.
        """
        self._check(ack)
        if ack == "queued" or self.inside:
            return
        deadline = time.monotonic() + timeout
        while not self._is_durable(item):
            try:
                self._share(item)
            except SecureMLError as error:
                self._failed(error)
                with contextlib.suppress(ValueError):
                    self.queue.remove(item)
                    self.waiting -= item.size
                    self.refused.add(self.clock())
                raise
        if ack != "durable":
            self.sequencer.wait(self.spool, item.number + 1, timeout)
        while ack == "witnessed" and not self._witnessed(item):
            if time.monotonic() > deadline:
                raise StoreError(
                    f"no anchor vouches for the record {item.id} after {timeout:g} s",
                    why="too few of the required anchors took a checkpoint that covers it; it is "
                    "in the log, and is anchored when they come back",
                    fix="look at the status of the anchors",
                    retryable=True,
                ) from self.sequencer.error
            self.sequencer.ring()
            time.sleep(FLUSH)

    def _share(self, item: Appended) -> None:
        """Write and sync for everybody, or wait for somebody who is about it."""
        if not self.io.acquire(blocking=False):
            self._turns.wait(lambda: self._is_durable(item))
            return
        try:
            if not self._is_durable(item):
                self._turns.gather(self.queue)
                self._flush()
        finally:
            self.io.release()
            self._turns.call()

    def _is_durable(self, item: Appended) -> bool:
        return 0 <= item.number < self.spool.synced

    def _check(self, ack: str) -> None:
        if ack == "witnessed" and (self.anchoring is None or not self.anchoring.required):
            raise not_witnessed()

    def _witnessed(self, item: Appended) -> bool:
        """Tell whether a quorum of the anchors covers *item*, which is under a checkpoint."""
        if self.anchoring is None:
            return False
        try:
            return self.anchoring.covers(item.index)
        except OSError as error:
            raise store_error("the anchors could not be asked", error) from error

    async def reached(self, item: Appended, ack: str, timeout: float) -> None:  # noqa: ASYNC109  as `wait`
        """
        Wait as `wait`, and leave the event loop free.

        Raises:
            StoreError: As `wait`.
            TimeoutError: It has not come so far in time.
            ValueError: As `wait`.
        """
        self._check(ack)
        if ack == "queued":
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: SecureMLError | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def tell(error: SecureMLError | None) -> None:
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
                loop.call_soon_threadsafe(settle, error)

        self._watch.append((item, ack, tell))
        self.ring()
        async with asyncio.timeout(timeout):
            await future

    # The thread

    def tick(self) -> float:
        """Do what is due; return after how many seconds to look again."""
        try:
            if self.trouble is not None and not self.spool.broken:
                self._retry()
            self._speak()
            if self.queue:
                self.flush()
        except SecureMLError as error:
            self._failed(error)
        self._tell()
        if self.queue or self._watch or self.trouble is not None:
            return FLUSH
        if self.sequencer.error is not None:
            return IDLE
        self.asleep = True
        # Whoever came between the look and the flag rang no bell.
        if self.queue or self._watch:
            self.asleep = False
            return 0.0
        return min(IDLE, max(0.0, self.heartbeat - (time.monotonic() - self._spoke)))

    def _failed(self, error: SecureMLError) -> None:
        if self.trouble is None:
            self.trouble = error

    def _retry(self) -> None:
        """See whether there is room again; then say how many were refused."""
        self.flush()
        if not self.spool.make_ahead():
            return
        self.trouble = None
        self._own_up()

    def _own_up(self) -> None:
        """Say how many were refused, and why; of a full disk, that nobody was as well."""
        if not self.spool.outage:
            self.add("disk-full", {"disk_full": {"refused": self.refused.take()}})
        elif self.refused:
            self.add("gap", self.refused.gap(self.spool.outage))

    def _speak(self) -> None:
        """Add what the log itself has to say: a gap, a jump of the clock, that it lives."""
        if self.spool.full and self.trouble is None and not self.spool.make_ahead():
            self.trouble = StoreError(
                "the audit log takes no more records: its disk does not",
                why=f"the next segment of the spool could not be made: {self.spool.full}",
                fix="make room or repair the disk; what was accepted is kept, and recording goes "
                "on by itself",
                retryable=True,
            )
        if self.dropped and self.trouble is None:
            self.add("gap", self.dropped.gap("not-accepted"))
        if self.refused and self.trouble is None:
            self._own_up()
        now = time.monotonic()
        wall = self.clock().timestamp()
        jump = (wall - self._clocks[1]) - (now - self._clocks[0])
        self._clocks = (now, wall)
        if abs(jump) > _JUMP:
            self.add("clock", {"clock": {"jump_us": round(jump * 1e6)}})
        if now - self._spoke >= self.heartbeat:
            with self.io:
                body: Mapping[str, JSON] = {"heartbeat": {"records": self.spool.count + 1}}
                self.spool.write([event("heartbeat", body, self.clock)], [b""], details=0)
                self.spool.sync()
                self._spoke = now

    def _tell(self) -> None:
        """Tell those who wait in an event loop."""
        if not self._watch:
            return
        kept = []
        watch, self._watch = self._watch, []
        for entry in watch:
            item, ack, tell = entry
            durable = self._is_durable(item)
            if durable and ack != "durable":
                with contextlib.suppress(StoreError):
                    self.spool.want(item.number + 1)
                self.sequencer.ring()
                durable = self.spool.acknowledged() > item.number
            if durable and ack == "witnessed":
                try:
                    durable = self._witnessed(item)
                except StoreError as error:
                    tell(error)
                    continue
            if durable:
                tell(None)
            elif self.trouble is not None or self.sequencer.error is not None:
                tell(self.trouble or self.sequencer.error)
            else:
                kept.append(entry)
        self._watch += kept

    # The end

    def close(self, last: Callable[[int], bytes | None]) -> None:
        """
        Write what is left, then the last record, and give up the spool.

        Args:
            last: Returns the JSON of the last record, given how many there are.

        Raises:
            StoreError: Some of it is not on the disk.
        """
        self._stop = True
        self.bell.put(None)
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(IDLE)
        with self.io:
            try:
                if self.trouble is not None and not self.spool.broken:
                    self._retry()
                self._speak()
                self.flush()
                content = last(self.spool.count)
                if content is not None:
                    self.spool.write([content], [b""], details=0)
                self.spool.end()
                self.spool.sync()
                self.spool.want(self.spool.count)
            finally:
                self._tell()
                self.spool.close()
                self.trouble = self.trouble or _closed()


def _closed() -> StoreError:
    return StoreError(
        "this writer of the audit log is closed",
        why="its last record was written",
        fix="open the audit log again",
    )


def _loop(found: "weakref.ref[Recorder]") -> None:
    while True:
        recorder = found()
        if recorder is None or recorder._stop:  # noqa: SLF001  its own thread
            return
        delay = recorder.tick()
        bell = recorder.bell
        del recorder
        with contextlib.suppress(Empty):
            bell.get(timeout=delay)
            while True:
                bell.get_nowait()
