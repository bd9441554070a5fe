"""
The sequencer: from the spools of many processes into one log.

Every process that writes records has one; the one that holds a lock of the
kernel does the work, and when its process dies the next one takes over.  It
takes each record exactly once: how far every writer has come is read from the
entries of the log itself, when it begins.

Nothing is decided twice.  Until the checkpoint that covers them is on the
disk, records stay in their spools; after a failure at any point the sequencer
lets go of the log, and begins again by reading it.

Source: docs/spec/spool.md, section "Sequencing".
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, Protocol

from secureml.errors import SecureMLError, StoreBusyError, StoreError
from secureml.evidence._drain import Batch, Drain, sweep, writers
from secureml.evidence._files import Files, store_error
from secureml.evidence._lock import WriterLock
from secureml.evidence._spool import Spool
from secureml.evidence.log import MAX_ENTRY, Log, Recovery

__all__ = ["INTERVAL", "Batch", "Merge", "Sequencer"]

INTERVAL: Final = 1.0
"""Seconds between two checkpoints, when nobody waits for one."""

TICK: Final = 0.05
"""Seconds between two looks at who waits."""

LIMIT: Final = 8 << 20
"""Bytes of records under one checkpoint, about: what the writer keeps in memory."""

MANY: Final = 64
"""Spools that are read for one checkpoint: each has two descriptors open meanwhile."""

NOTED: Final = 30.0
"""Seconds between two notes for the next sequencer: what comes after is what it has to read."""

RETRY: Final = 0.5
"""Seconds between two tries to become the sequencer."""


class Merge(Protocol):
    """
    **Protocol.** What the sequencer has to know about the records it merges.

    Every object for one log does the same, whichever of them is asked.
    """

    def opened(self, log: Log) -> Log:
        """Return the log as whoever writes it has to write it: with which keys, for one."""
        ...

    def begin(self, recovery: Recovery | None) -> None:
        """
        Forget what an earlier time as sequencer knew of files beside the log.

        Make a record of it durable, in a spool, if the log had to be recovered.
        """
        ...

    def identify(self, entry: bytes) -> tuple[bytes, int] | None:
        """Return writer and number of an entry; None for one that no spool brought."""
        ...

    def recall(self, first: int, entries: Sequence[bytes]) -> Mapping[bytes, int]:
        """Return how far writers had come of whom *entries* say that theirs were removed."""
        ...

    def compose(self, writer: bytes, first: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Return the entries for a writer's records, numbered from *first*."""
        ...

    def deliver(self, batches: Sequence[Batch]) -> None:
        """Make durable what belongs beside the log, before the entries are in it."""
        ...

    def committed(self) -> None:
        """Note that what was delivered is now under a checkpoint."""
        ...

    def orphaned(self, writer: bytes, records: int, verdict: str, discarded: int) -> None:
        """Make a record of it durable, in a spool, that a writer died or was set aside."""
        ...


class Sequencer:
    """
    Merges the spools of one log; one for each log and process.

    Made by `Sequencer.at`, and given back by `leave`.

    Attributes:
        error: What went wrong last; None while all is well.
        merge: What it knows about the records.
        after: Called with the log after each step, outside of every lock.
    """

    _known: ClassVar[dict[str, "Sequencer"]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, directory: Path, log: Log, merge: Merge, files: Files) -> None:
        self.directory = directory
        self.error: SecureMLError | None = None
        self._files = files
        self.merge = merge
        self._marks: dict[bytes, int] = {}
        self._runs: dict[bytes, tuple[int, int]] = {}
        self._lock = WriterLock(directory / "lock")
        self._log = merge.opened(log).twin(self._lock, self._observe, self._restore)
        self._drains: dict[bytes, Drain] = {}
        self._mutex = threading.RLock()
        self._leads = False
        self._published = 0.0
        self._noted = (0.0, -1)
        self._next_try = 0.0
        self._users = 0
        self._thread: threading.Thread | None = None
        self._bell = threading.Event()
        self._stop = False
        self.after: list[Callable[[Log], None]] = []

    @classmethod
    def at(cls, directory: Path, log: Log, merge: Merge, files: Files) -> "Sequencer":
        """Return this process's sequencer for the spools in *directory*, and count one user."""
        key = os.path.realpath(directory)
        with cls._guard:
            found = cls._known.get(key)
            if found is None:
                found = cls._known[key] = cls(directory, log, merge, files)
            found._users += 1
            return found

    def leave(self) -> None:
        """Count one user less; the last one gives up the log."""
        with self._guard:
            self._users -= 1
            if self._users > 0:
                return
            for key, found in list(self._known.items()):
                if found is self:
                    del self._known[key]
        self._stop = True
        self._bell.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(RETRY)
        with self._mutex:
            if self._leads:
                self._note()
            self._drop()

    def run(self) -> None:
        """Start the thread that does this by itself, unless it runs."""
        with self._guard:
            if self._thread is None and not self._stop:
                self._thread = threading.Thread(
                    target=_loop, args=(weakref.ref(self),), name="secureml-sequencer", daemon=True
                )
                self._thread.start()

    @property
    def inside(self) -> bool:
        """Whether this very thread is at work here, so that waiting for it would never end."""
        return self._mutex._is_owned() or threading.current_thread() is self._thread  # type: ignore[attr-defined]  # noqa: SLF001  an RLock knows

    # Work

    def step(self, *, now: bool = False) -> bool:
        """
        Merge what waits, if this process is the sequencer and it is time.

        Args:
            now: It is time.

        Returns whether this process is the sequencer.

        Raises:
            ConsistencyError: The log on the disk is not the one that this machine signed.
            VerificationError: Its entries do not lead to its checkpoint.
            StoreError: The system refuses; nothing is lost.
            KeyUnavailableError: The signer cannot sign now.
        """
        with self._mutex:
            try:
                if not self._lead(now=now):
                    return False
                self._refresh()
                if now or self._due():
                    self._merge_all()
                    if time.monotonic() - self._noted[0] >= NOTED:
                        self._note()
            except OSError as error:
                self._drop()
                self.error = store_error(
                    f"records could not be merged into {str(self._log.directory)!r}", error
                )
                raise self.error from error
            except BaseException as error:
                # Whatever was half done: the log itself says how far it came.
                self._drop()
                if isinstance(error, SecureMLError):
                    self.error = error
                raise
            self.error = None
        for hook in tuple(self.after):
            hook(self._log)
        return True

    def _lead(self, *, now: bool) -> bool:
        if self._leads:
            return True
        when = time.monotonic()
        if when < self._next_try and not now:
            return False
        self._next_try = when + RETRY
        self._marks.clear()
        self._runs.clear()
        try:
            self._log.acquire()
        except StoreBusyError:
            return False
        sweep(self.directory, self._files)
        self.merge.begin(self._log.recovered)
        self._leads = True
        # What a crash left in the write-ahead file; and the first checkpoint of a new log.
        self._log.publish()
        return True

    def _observe(self, first: int, entries: list[bytes]) -> None:
        identify, marks, runs = self.merge.identify, self._marks, self._runs
        for index, entry in enumerate(entries, first):
            found = identify(entry)
            if found is not None:
                writer, number = found
                if marks.get(writer, 0) <= number:
                    marks[writer] = number + 1
                run = runs.get(writer)
                if run is None or run[1] - run[0] != index - number:
                    runs[writer] = number, index
        for writer, mark in self.merge.recall(first, entries).items():
            marks[writer] = max(mark, marks.get(writer, 0))

    def _note(self) -> None:
        """Note how far every writer has come, for the next sequencer."""
        size = self._log.size
        if size != self._noted[1]:
            marks = self._marks.items()
            self._log.note_prefix(b"".join(w + mark.to_bytes(8) for w, mark in marks))
        self._noted = time.monotonic(), size

    def _restore(self, memo: bytes) -> None:
        if len(memo) % 24:
            raise ValueError(len(memo))
        self._marks = {
            memo[at : at + 16]: int.from_bytes(memo[at + 16 : at + 24])
            for at in range(0, len(memo), 24)
        }
        self._runs.clear()

    def _refresh(self) -> None:
        for writer in writers(self.directory):
            if writer not in self._drains:
                drain = self._drains[writer] = Drain(self.directory, writer, self._files)
                mark, run = self._marks.get(writer, 0), self._runs.pop(writer, None)
                if run is not None and run[0] < mark and not drain.gone():
                    drain.remind(run[0], mark - run[0], run[1])
        self._runs.clear()

    def _due(self) -> bool:
        if time.monotonic() - self._published >= INTERVAL:
            return True
        return any(
            drain.wanted() > self._marks.get(writer, 0) for writer, drain in self._drains.items()
        )

    def _merge_all(self) -> None:
        while True:
            done: set[bytes] = set()
            while self._round(done):
                pass
            if self._log.hands_over:
                self._log.commit(())
            self._published = time.monotonic()
            if not self._bury():
                return
            # What was said of the dead is merged as well.
            self._refresh()

    def _round(self, done: set[bytes]) -> bool:
        """
        Commit about `LIMIT` bytes; return whether there is more.

        Args:
            done: Writers that were read to their end: what they write meanwhile waits for
                the next step, or this one would never end.
        """
        batches: list[Batch] = []
        entries: list[list[bytes]] = []
        read: list[Drain] = []
        left = LIMIT
        # Whoever came last comes first next time, so that nobody waits for ever.
        for writer, drain in [one for one in self._drains.items() if one[0] not in done]:
            found = drain.read(self._marks.get(writer, 0), left)
            if not drain.more:
                done.add(writer)
            for batch in found:
                composed = self.merge.compose(writer, batch.first, batch.bodies)
                if max(map(len, composed)) > MAX_ENTRY or not all(batch.bodies):
                    # No writer makes such records, and what comes after them cannot be taken.
                    drain.trouble = "corrupt"
                    break
                batches.append(batch)
                entries.append(composed)
                # The entries hold them now: memory that is given back at once is used again.
                batch.bodies.clear()
                left -= sum(map(len, composed)) + sum(map(len, batch.lines))
                if drain not in read[-1:]:
                    read.append(drain)
            if drain not in read[-1:]:
                drain.settle()
                drain.close()
                continue
            self._drains[writer] = self._drains.pop(writer)
            if left <= 0 or len(read) >= MANY:
                break
        if not batches:
            return False
        for drain in read:
            drain.sync()
        self.merge.deliver(batches)
        index = self._log.size
        self._log.commit([entry for composed in entries for entry in composed])
        self.merge.committed()
        for batch, composed in zip(batches, entries, strict=True):
            count = len(composed)
            self._marks[batch.writer] = batch.first + count
            self._drains[batch.writer].acknowledge(batch.first, count, index)
            index += count
        for drain in read:
            drain.settle()
            drain.close()
        return not done.issuperset(self._drains)

    def _bury(self) -> bool:
        """Remove the spools of writers that are gone; return whether there is more to read."""
        more = False
        for writer, drain in list(self._drains.items()):
            mark = self._marks.get(writer, 0)
            gone = drain.gone()
            # What it wrote before it went is read before it is judged.
            if gone and not drain.ended and not drain.trouble and drain.read(mark, 1):
                drain.close()
                more = True
            elif drain.trouble:
                more = True
                self.merge.orphaned(writer, mark, drain.trouble, drain.discarded)
                drain.set_aside()
            elif gone:
                if not drain.ended:
                    more = True
                    verdict = "torn" if drain.discarded else "clean"
                    self.merge.orphaned(writer, mark, verdict, drain.discarded)
                drain.finish()
            else:
                continue
            del self._drains[writer]
        return more

    def _drop(self) -> None:
        """Let go of the log and of all that was read: the next step begins anew."""
        self._leads = False
        for drain in self._drains.values():
            drain.close()
        self._drains.clear()
        self._marks.clear()
        self._runs.clear()
        self._log.release()

    # Waiting

    def wait(self, spool: Spool, below: int, timeout: float) -> None:
        """
        Return when the records of *spool* below a number are under a checkpoint.

        Raises:
            StoreError: They are not, after *timeout* seconds; or as `step`.
            VerificationError: As `step`.
        """
        spool.want(below)
        deadline = time.monotonic() + timeout
        pause = 0.001
        while spool.acknowledged() < below:
            self.step(now=True)
            if spool.acknowledged() >= below:
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"no checkpoint covers the records after {timeout:g} s",
                    why="the process that sequences this log did not answer; the records are "
                    "durable in the spool",
                    fix=f"look at the process that holds {str(self.directory / 'lock')!r}",
                    retryable=True,
                ) from self.error
            time.sleep(pause)
            pause = min(2 * pause, TICK)

    def ring(self) -> None:
        """Let the thread look now."""
        self._bell.set()

    def after_fork(self) -> None:
        """Let go of what the parent owns; in a forked child."""
        for drain in self._drains.values():
            drain.close()


def _loop(found: "weakref.ref[Sequencer]") -> None:
    while True:
        sequencer = found()
        if sequencer is None or sequencer._stop:  # noqa: SLF001  its own thread
            return
        try:
            sequencer.step()
        except SecureMLError as error:
            sequencer.error = error
        bell = sequencer._bell  # noqa: SLF001  its own thread
        del sequencer
        bell.wait(TICK)
        bell.clear()


def _forget() -> None:  # pragma: no cover  in a forked child
    known = list(Sequencer._known.values())  # noqa: SLF001  this module
    Sequencer._known.clear()  # noqa: SLF001  this module
    Sequencer._guard = threading.Lock()  # noqa: SLF001  this module
    for sequencer in known:
        sequencer.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
