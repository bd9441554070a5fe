"""
The audit log: records in, leaves of a transparency log out.

A record is accepted when it is in the queue of its process: a kill may lose
what was accepted in the last 50 milliseconds.  It is *durable* when the spool
of the process was synced, *checkpointed* when it is a leaf under a signed
checkpoint, about a second later, and *witnessed* when somebody elsewhere
vouches for that checkpoint.  How far it has to come before a call returns is
the caller's choice.  What cannot be accepted raises.

Any number of processes may record into one log.  Opening is free: no lock,
file or thread before the first record.  The first record of a writer is
preceded by a ``start`` leaf, under a checkpoint before anything else is
accepted, and the last one is an ``end`` or a ``seal``: a writer that was
killed can be told from one that was closed.
"""

import asyncio
import math
import os
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from secureml.audit._anchoring import Anchored, Anchoring, not_witnessed
from secureml.audit._epochs import Choices
from secureml.audit._events import event, new_id
from secureml.audit._governing import Governing
from secureml.audit._lives import begins, boot_id, ends, opened
from secureml.audit._merge import AuditMerge
from secureml.audit._models import load_body
from secureml.audit._pressure import PAUSE, await_room, check_size, make_room
from secureml.audit._reading import Reading
from secureml.audit._recorder import QUEUE_BYTES, Recorder
from secureml.audit.appended import TIMEOUT, Appended, check_ack
from secureml.audit.details import Detail, Sealed
from secureml.audit.pseudonyms import Pseudonyms
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE, Record
from secureml.clock import Clock, format_time, now
from secureml.errors import StoreError
from secureml.evidence._spool import Spool
from secureml.evidence.keeping import Epochs
from secureml.evidence.sequencer import Sequencer
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

if TYPE_CHECKING:
    from secureml.evidence.log import Log
    from secureml.keys.signer import Signer

__all__ = ["Appended", "AuditLog", "new_id"]

HEARTBEAT: Final = 60.0
"""Seconds within which a writer writes something, were it only that it lives."""

_MEMBER: Final = len(',"details":{"segment":""}') + 39
_NONE: Final[Mapping[str, Sealed]] = {}


class AuditLog(Reading, Governing):
    """
    The audit log of one workspace: a `Log` and the details beside it.

    Safe to use from many threads, from event loops, and from every process
    that opens it; a child made by fork becomes a writer of its own.

    Args:
        log: The transparency log that the leaves go to, open with its signer.
        details: Directory of the values; made when the first one is captured.
        private: Directory of the pseudonym key and of the spools.
        clock: Tells the time.
        heartbeat: Seconds within which this writer writes something.
        epochs: The log's keys follow each other: True for the usual period, or how long
            one signs.  The keys are those of `secureml.evidence.keeping.create_epochs`;
            the log's own signer is not asked.
        sealed: The log's tail is sealed; see `secureml.evidence.keeping.create_tail`.
        anchors: Who is shown the checkpoints, while this process sequences; give every
            process the same.
        also: An ML-DSA-44 key that signs beside the signer.

    A log that has epoch keys or a sealed tail is written with them, whatever is asked.
    """

    def __init__(
        self,
        log: "Log",
        *,
        details: Path,
        private: Path,
        clock: Clock = now,
        heartbeat: float = HEARTBEAT,
        epochs: bool | timedelta | Epochs = False,
        sealed: bool = False,
        anchors: Anchored | None = None,
        also: "Signer | None" = None,
    ) -> None:
        self.log = log
        self.clock = clock
        self.details = Path(details)
        self.private = Path(private)
        self.pseudonyms = Pseudonyms(self.private)
        self.heartbeat = heartbeat
        self._recorder: Recorder | None = None
        self._building: Recorder | None = None
        self._sequencer: Sequencer | None = None
        self._starting = threading.RLock()
        self._sealed = False
        self._loads: list[Mapping[str, JSON]] = []
        self._closed = False
        self._choices = Choices(epochs=epochs, sealed=sealed, also=() if also is None else (also,))
        self._anchors = anchors
        self._anchoring: Anchoring | None = None
        opened(self)

    def __repr__(self) -> str:
        return f"<AuditLog {self.log.origin!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def writer(self) -> str:
        """Name of this writer in the log, 32 hex digits; empty before the first record."""
        recorder = self._recorder or self._building
        return "" if recorder is None else recorder.writer.hex()

    def check_ack(self, ack: str) -> None:
        """
        Refuse an acknowledgement that this log never gives, before anything waits for it.

        Raises:
            ValueError: There is none such; or ``witnessed``, and no anchor is required.
        """
        if check_ack(ack) == "witnessed" and not self._has_witnesses():
            raise not_witnessed()

    def _has_witnesses(self) -> bool:
        return self._anchors is not None and self._anchors.quorum > 0

    # Records in

    def submit(
        self,
        record: str,
        body: bytes,
        line: bytes | None = None,
        *,
        at: int = 0,
        ack: str = "queued",
        on_failure: str = "raise",
    ) -> Appended:
        """
        Accept the record named *record*, spelled by the caller, and wait for *ack*.

        Args:
            record: Its id.
            body: Its canonical JSON, without the ``details`` member.
            line: The captured values that it commits to, as their line in the details.
            at: Where in *body* the ``details`` member belongs, comma first.
            ack: ``queued``, ``durable``, ``checkpointed`` or ``witnessed``.
            on_failure: What happens to a record that cannot be accepted now:
                ``raise``; ``block``, wait up to 30 seconds for room, then
                raise; ``gap``, leave it out, counted in a gap record.

        Raises:
            ValueError: It is larger than a leaf, no such choice, or ``witnessed`` where no
                anchor is required.
            StoreError: It was not accepted.
        """
        if ack != "queued":
            self.check_ack(ack)
        recorder = self._recorder
        if recorder is None or not recorder.ready:
            recorder = self._begin()
        size = len(body)
        if line is not None:
            size += _MEMBER
            if size > MAX_LEAF - PREFIX_SIZE:
                check_size(size)
            size += len(line)
        elif size > MAX_LEAF - PREFIX_SIZE:
            check_size(size)
        if (recorder.trouble is not None or recorder.waiting > QUEUE_BYTES) and not make_room(
            recorder, on_failure
        ):
            return Appended(record, recorder, b"", 0, None, 0)
        item = Appended(record, recorder, body, at, line, size)
        if ack == "queued":
            recorder.put(item, size)
        else:
            recorder.put_and_wait(item, size, ack, TIMEOUT)
        return item

    async def submit_async(
        self,
        record: str,
        body: bytes,
        line: bytes | None = None,
        *,
        at: int = 0,
        ack: str = "queued",
        on_failure: str = "raise",
    ) -> Appended:
        """
        Accept as `submit`, and wait for *ack* without holding up the event loop.

        A caller that is cancelled while it waits leaves the record where it is.

        Raises:
            ValueError: It is larger than a leaf, no such choice, or ``witnessed`` where no
                anchor is required.
            StoreError: It was not accepted.
            TimeoutError: It did not come so far within 30 seconds.
        """
        if ack != "queued":
            self.check_ack(ack)
        recorder = self._recorder
        if recorder is None or not recorder.ready:
            recorder = await asyncio.to_thread(self._begin)
        if on_failure != "gap" and not recorder.inside:
            await await_room(recorder)
        item = self.submit(record, body, line, at=at, on_failure=on_failure)
        if ack != "queued":
            await recorder.reached(item, ack, TIMEOUT)
        return item

    def append(
        self,
        body: Mapping[str, JSON],
        values: Mapping[str, Sealed] = _NONE,
        *,
        ack: str = "queued",
        durable: bool = False,
    ) -> Appended:
        """
        Append a record of any type; its id and times are filled in when absent.

        Args:
            body: The record.
            values: The captured values that it commits to.
            ack: How far it has come when this returns.
            durable: The same as ``ack="durable"``.

        Raises:
            FormatError: *body* is not a record.
            ValueError: It is larger than a leaf.
            StoreError: It was not accepted.
        """
        whole = {
            "record": {"id": new_id()},
            "time": format_time(self.clock()),
            "monotonic_us": time.monotonic_ns() // 1000,
            **body,
        }
        record = Record("0" * 32, 0, whole).id
        content = canonical.encode(whole)
        at = 0
        if values:
            before = {name: value for name, value in whole.items() if name < "details"}
            if not before:
                msg = "values belong to a call, which has an action"
                raise ValueError(msg)
            at = len(canonical.encode(before)) - 1
        line = Detail(record, values).encode() if values else None
        self._sealed = whole["type"] == "seal"
        return self.submit(record, content, line, at=at, ack="durable" if durable else ack)

    # Writers

    def _begin(self) -> Recorder:
        """Return the writer, made when there is none, with its start under a checkpoint."""
        if self._starting._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001  an RLock knows
            # The garbage collector closed a stream while this thread begins a
            # writer: its record is accepted behind the start.
            found = self._building or self._recorder
            if found is not None:
                return found
        with self._starting:
            recorder = self._recorder
            if recorder is None:
                recorder = self._make()
        # Nothing is held while waiting for a checkpoint, or two threads could wait for each other.
        if not recorder.ready and not recorder.inside:
            recorder.sequencer.wait(recorder.spool, 1, TIMEOUT)
            recorder.ready = True
        return recorder

    def _join(self) -> Sequencer:
        """Return the sequencer of this process for this log."""
        if self._closed:
            raise self._is_closed()
        sequencer = self._sequencer
        if sequencer is None:
            files = self.log.files
            spools = self.private / "spool" / self.log.directory.name
            merge = AuditMerge(spools, self.details, files, self.clock, self._choices)
            sequencer = self._sequencer = Sequencer.at(spools, self.log, merge, files)
            if self._anchors is not None:
                log = self.log
                self._anchoring = Anchoring(spools, self._anchors, files, lambda: log.size)
                sequencer.after.append(self._anchoring.step)
        return sequencer

    def _is_closed(self) -> StoreError:
        return StoreError(
            f"the audit log {self.log.origin!r} is closed",
            why="close() was called",
            fix="open it again",
        )

    def _part(self) -> None:
        """Give the sequencer back."""
        sequencer, self._sequencer = self._sequencer, None
        anchoring, self._anchoring = self._anchoring, None
        if sequencer is not None:
            if anchoring is not None:
                sequencer.after.remove(anchoring.step)
            sequencer.leave()

    def _open_spool(self, sequencer: Sequencer) -> Spool:
        """Return where this writer's records go; elsewhere when a daemon takes them."""
        return Spool(sequencer.directory, self.log.files)

    def _make(self) -> Recorder:
        sequencer = self._join()
        recorder = Recorder(
            self._open_spool(sequencer),
            sequencer,
            self.clock,
            heartbeat=self.heartbeat,
            start=self._start_bodies,
            anchoring=self._anchoring,
        )
        self._building = recorder
        try:
            recorder.run()
            begins(self)
            self._recorder = recorder
        finally:
            self._building = None
        self._sealed = False
        self._finish_after_crash()
        return recorder

    def _start_bodies(self) -> list[bytes]:
        start: dict[str, JSON] = {
            "heartbeat_s": math.ceil(self.heartbeat) if math.isfinite(self.heartbeat) else 0,
            "pid": os.getpid(),
        }
        if not start["heartbeat_s"]:
            del start["heartbeat_s"]
        boot = boot_id()
        if boot:
            start["boot"] = boot
        return [
            event("start", {"start": start}, self.clock),
            *(event("model-load", body, self.clock) for body in self._loads),
        ]

    def begin(self) -> None:
        """
        Become a writer now, and publish the ``start``: what comes next is after it.

        An event loop that must not wait calls this, in a thread, before its first call.

        Raises:
            StoreError: The log could not be written.
        """
        self._begin()

    def ready(self) -> None:
        """
        Return when a record would be accepted now.

        Raises:
            StoreError: It would not.
        """
        if self._closed:
            raise self._is_closed()
        recorder = self._recorder
        if recorder is not None and recorder.trouble is not None and not recorder.inside:
            raise recorder.trouble

    def publish(self) -> str:
        """
        Return when every record so far is under a checkpoint; return that checkpoint.

        Raises:
            StoreError: The log could not be written.
        """
        recorder = self._recorder
        if recorder is not None and not recorder.inside:
            recorder.flush()
            recorder.sequencer.wait(recorder.spool, recorder.spool.count, TIMEOUT)
        elif recorder is None:
            self._join().step(now=True)
            if self._recorder is None:
                self._part()
        return self.log.checkpoint_note()

    def record_model_load(self, model: object, *, claims: Digest | None = None) -> Appended:
        """
        Record that a model was loaded, and on what evidence.

        Args:
            model: A verified handle.
            claims: Digest of the blob that holds the evidence.

        Raises:
            TypeError: *model* is no verified handle.
            StoreError: The record was not accepted.
        """
        body = load_body(model, claims)
        appended = self.append(body, durable=True)
        self._loads.append({name: body[name] for name in ("model", "outcome")})
        return appended

    def seal(self, seal: Mapping[str, JSON]) -> Appended:
        """
        Record a seal over the files beside the log, durably; it ends this writer.

        Raises:
            StoreError: The record was not accepted.
        """
        return self.append({"seal": seal, "type": "seal"}, durable=True)

    def end(self) -> None:
        """
        Say that this writer is done, unless it was sealed or never began, and publish.

        Raises:
            StoreError: The log could not be written.
        """
        with self._starting:
            recorder, self._recorder = self._recorder, None
        ends(self)
        if recorder is None:
            return
        try:
            recorder.close(self._last)
            self._await_end(recorder.sequencer, recorder)
        finally:
            self._loads.clear()
            self._part()

    def _last(self, count: int) -> bytes | None:
        if self._sealed:
            return None
        return event("end", {"end": {"records": count + 1}}, self.clock)

    def _await_end(self, sequencer: Sequencer, recorder: Recorder) -> None:
        deadline = time.monotonic() + _END
        count = recorder.spool.count
        while not sequencer.step(now=True) and recorder.spool.acknowledged() < count:
            # Another process sequences: the end is durable, and comes into the log by itself.
            if time.monotonic() > deadline or not recorder.spool.exists():
                return
            time.sleep(PAUSE)

    def _published(self) -> None:
        recorder = self._recorder
        if recorder is not None and not recorder.inside:
            recorder.flush()
            if recorder.spool.acknowledged() < recorder.spool.count:
                self.publish()

    def close(self) -> None:
        """
        End this writer, publish, and close the log; without a record, nothing is written.

        Raises:
            StoreError: The log could not be written.
        """
        ends(self)
        try:
            self.end()
        finally:
            self._closed = True
            self.log.close()

    def after_fork(self) -> None:
        """Become a writer of its own: this is the copy that a forked child got."""
        inherited = (self._recorder, self._building)
        self._recorder = self._building = self._sequencer = self._anchoring = None
        self._starting = threading.RLock()
        self._sealed = False
        for recorder in inherited:
            if recorder is not None:
                recorder.spool.abandon()


_END: Final = 5.0
"""Seconds that the end of a writer waits for the process that sequences."""
