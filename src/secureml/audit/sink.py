"""
The audit log: records in, leaves of a transparency log out.

A record is accepted when the operating system has its bytes: it survives a
killed process.  It survives a power cut once it was published, about a second
later, or at once with ``durable=True``.  What cannot be accepted raises.

Opening is free: no lock, file or thread before the first record.  The first
record of a writer is preceded by a ``start`` leaf, published before anything
else is accepted, and the last one is an ``end`` or a ``seal``: a writer that
was killed can be told from one that was closed.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from secureml.audit._models import load_body
from secureml.audit._store import DetailStore
from secureml.audit.details import Detail, Sealed, read_details
from secureml.audit.pseudonyms import Pseudonyms
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE, Record, prefix
from secureml.clock import Clock, format_time, now
from secureml.errors import StoreBusyError, StoreError
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

if TYPE_CHECKING:
    from secureml.evidence.log import Log

__all__ = ["Appended", "AuditLog", "new_id", "spell_time"]

PUBLISH_SECONDS: Final = 1.0
"""Unpublished records wait no longer than this for the next record to publish them."""

PUBLISH_RECORDS: Final = 2048
"""Nor do more than this wait; the log would publish them itself, without their details."""

_NONE: Final[Mapping[str, Sealed]] = {}


@dataclass(frozen=True, slots=True)
class Appended:
    """
    Where a record went.

    Attributes:
        id: The record.
        index: Its leaf; None while it waits behind the record in whose
            writing it was made (a stream closed by the garbage collector).
    """

    id: str
    index: int | None


def new_id() -> str:
    """
    Return a fresh record id: a UUID of version 7, so ids sort by time.

    Source: RFC 9562 section 5.7.
    """
    noise = int.from_bytes(os.urandom(10))
    number = (
        time.time_ns() // 1_000_000 << 80
        | 7 << 76
        | (noise >> 64 & 0xFFF) << 64
        | 2 << 62
        | noise & 0x3FFF_FFFF_FFFF_FFFF
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def spell_time(when: datetime) -> str:
    """Return `format_time` of *when*, by the short way where it is in UTC already."""
    if when.tzinfo is UTC:
        return when.isoformat(timespec="microseconds")[:26] + "Z"
    return format_time(when)


class AuditLog:
    """
    The audit log of one workspace: a `Log` and the details beside it.

    Safe to use from many threads.  A child made by fork must open its own.

    Args:
        log: The transparency log that the leaves go to.
        details: Directory of the values; made when the first one is captured.
        private: Directory of the pseudonym key.
        clock: Tells the time.
    """

    def __init__(self, log: "Log", *, details: Path, private: Path, clock: Clock = now) -> None:
        self.log = log
        self.clock = clock
        self.details = Path(details)
        self.pseudonyms = Pseudonyms(Path(private))
        self._store = DetailStore.at(self.details)
        self._pid = os.getpid()
        self._writer = ""
        self._seq = 0
        self._last = b""
        self._loads: list[Mapping[str, JSON]] = []
        self._published = 0.0

    def __repr__(self) -> str:
        return f"<AuditLog {self.log.origin!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def writer(self) -> str:
        """Name of this writer in the log, 32 hex digits; empty before the first record."""
        return self._writer

    def append(
        self,
        body: Mapping[str, JSON],
        values: Mapping[str, Sealed] = _NONE,
        *,
        durable: bool = False,
    ) -> Appended:
        """
        Append a record of any type; its id and times are filled in when absent.

        Raises:
            FormatError: *body* is not a record.
            ValueError: It is larger than a leaf.
            StoreError: It was not accepted.
        """
        whole = {
            "record": {"id": new_id()},
            "time": spell_time(self.clock()),
            "monotonic_us": time.monotonic_ns() // 1000,
            **body,
        }
        record = Record("0" * 32, 0, whole).id

        def encode(segment: str | None) -> bytes:
            if segment is not None:
                whole["details"] = {"segment": segment}
            return canonical.encode(whole)

        return self.write(record, encode, values, durable=durable)

    def write(
        self,
        record: str,
        body: Callable[[str | None], bytes],
        values: Mapping[str, Sealed] = _NONE,
        *,
        durable: bool = False,
    ) -> Appended:
        """
        Append the record named *record*; *body* returns its JSON for a details segment.

        Raises:
            ValueError: It is larger than a leaf.
            StoreError: It was not accepted.
        """
        if self._pid != os.getpid():
            raise StoreBusyError(
                what="this audit log belongs to the parent process",
                why="the process was forked after it was opened",
                fix="open the audit log in the child, with a directory of its own",
            )
        store = self._store
        with store.lock:
            if store.writing:
                # The garbage collector closed a stream while this very thread
                # was writing a record: the stream's record waits for its turn.
                store.deferred.append(lambda: self._write(body, record, values, durable=durable))
                return Appended(record, None)
            index = store.alone(lambda: self._write(body, record, values, durable=durable))
        if durable:
            # Outside the lock: threads that wait for the disk share one wait.
            self.log.flush()
        return Appended(record, index)

    def submit(
        self,
        record: str,
        body: bytes,
        detail: Detail | None = None,
        *,
        at: int = 0,
        ack: str = "queued",
        on_failure: str = "raise",
    ) -> Appended:
        """
        Append the record named *record*, spelled by the caller, and wait for *ack*.

        Args:
            record: Its id.
            body: Its canonical JSON, without the ``details`` member.
            detail: The captured values that it commits to.
            at: Where in *body* the ``details`` member belongs, comma first.
            ack: ``queued``, ``durable``, ``checkpointed`` or ``witnessed``.
            on_failure: ``raise``, ``block`` or ``gap``.

        Raises:
            ValueError: It is larger than a leaf.
            StoreError: It was not accepted.
        """
        del on_failure

        def whole(segment: str | None) -> bytes:
            if segment is None:
                return body
            return body[:at] + b',"details":{"segment":"%s"}' % segment.encode() + body[at:]

        values = _NONE if detail is None else detail.values
        return self.write(record, whole, values, durable=ack != "queued")

    def _write(
        self,
        body: Callable[[str | None], bytes],
        record: str,
        values: Mapping[str, Sealed],
        *,
        durable: bool,
    ) -> int:
        if not self._writer or not self._store.recovered:
            self._start()
        elif (
            time.monotonic() - self._published > PUBLISH_SECONDS
            or self.log.pending >= PUBLISH_RECORDS
        ):
            self._publish()
        if not values:
            return self._leaf(body(None))
        store = self._store
        content = _checked(body(store.next_segment()))
        start = store.write(Detail(record, values).encode())
        if durable:
            store.sync()
        try:
            index = self._leaf(content)
        except StoreError:
            if self._writer:
                store.take_back(start)
            raise
        store.settle()
        return index

    def _leaf(self, content: bytes) -> int:
        leaf = prefix(self._writer, self._seq) + _checked(content)
        before = self._length()
        try:
            index = self.log.append(leaf, sync=False)
        except BaseException as error:
            # A refused leaf is not in the log, and its number is still free.
            # After anything else nobody knows: a new writer begins, so that no
            # number is used twice and none is left out.
            if not isinstance(error, StoreError) or before != self._length():
                self._writer = ""
                self._store.recovered = False
            raise
        self._seq += 1
        self._last = content
        return index

    def _length(self) -> int:
        return self.log.size + self.log.pending

    def _start(self) -> None:
        store = self._store
        self.log.acquire()
        removed = 0
        if not store.recovered:
            removed = store.recover(self._named, fresh=not self._length())
            if self._writer:
                return
        self._writer, self._seq = os.urandom(16).hex(), 0
        start: dict[str, JSON] = {"pid": self._pid}
        boot = _boot()
        if boot:
            start["boot"] = boot
        if removed:
            start["details_removed"] = removed
        try:
            self._leaf(self._event("start", {"start": start}))
            for body in self._loads:
                self._leaf(self._event("model-load", body))
            self._publish()
        except BaseException:
            self._writer = ""
            raise

    def _event(self, kind: str, body: Mapping[str, JSON]) -> bytes:
        return canonical.encode(
            {
                **body,
                "monotonic_us": time.monotonic_ns() // 1000,
                "record": {"id": new_id()},
                "time": spell_time(self.clock()),
                "type": kind,
            }
        )

    def _named(self, segment: str) -> set[str]:
        """Return the ids of the leaves that name *segment*: a run at the end of the log."""
        needle = f'"details":{{"segment":"{segment}"}}'.encode()
        found: set[str] = set()
        for _, leaf in self._backwards():
            if b'"details":' in leaf:
                if needle not in leaf:
                    break
                found.add(Record.decode(leaf).id)
        return found

    def _backwards(self) -> Iterator[tuple[int, bytes]]:
        stop = self._length()
        while stop:
            start = (stop - 1) // 256 * 256
            entries = list(self.log.entries(start, stop))
            for index in range(start + len(entries) - 1, start - 1, -1):
                yield index, entries[index - start]
            stop = start

    def _publish(self) -> str:
        self._store.sync()
        note = self.log.publish()
        self._published = time.monotonic()
        return note

    def begin(self) -> None:
        """
        Become the writer now, and publish the ``start``: what comes next is after it.

        Raises:
            StoreError: The log could not be written.
        """
        with self._store.lock:
            if not self._writer or not self._store.recovered:
                self._store.alone(self._start)

    def publish(self) -> str:
        """
        Make every record durable and readable; return the signed checkpoint.

        Raises:
            StoreError: The log could not be written.
        """
        with self._store.lock:
            if self._store.writing:
                return self.log.checkpoint_note()
            return self._store.alone(self._publish)

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
        appended = self.append(body)
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
        if self._pid != os.getpid():
            return
        with self._store.lock:
            if self._writer:
                self._store.alone(self._end)

    def _end(self) -> None:
        if not self._last.endswith(b'"type":"seal"}'):
            self._leaf(self._event("end", {"end": {"records": self._seq + 1}}))
        self._publish()
        self._writer = ""
        self._loads.clear()

    def records(self) -> Iterator[tuple[int, Record]]:
        """
        Yield (index, record) of every record that this process can see, oldest first.

        Raises:
            FormatError: A leaf is no record.
        """
        for index, leaf in enumerate(self.log.entries()):
            yield index, Record.decode(leaf)

    def read(self, record: str) -> tuple[int, Record]:
        """
        Return (index, record) by the record's id, looking from the newest back.

        Raises:
            LookupError: No leaf has this id.
            FormatError: Its leaf is no record.
        """
        needle = f'"record":{{"id":"{record}"}}'.encode()
        for index, leaf in self._backwards():
            if needle in leaf:
                found = Record.decode(leaf)
                if found.id == record:
                    return index, found
        msg = f"the audit log has no record {record!r}"
        raise LookupError(msg)

    def values(self, record: Record) -> Mapping[str, Sealed]:
        """
        Return the captured values of a record; empty when it has none, or they were erased.

        Raises:
            FormatError: Its line in the details is malformed.
        """
        if record.segment is None:
            return {}
        found = read_details(self.details, record.segment, record.id)
        return {} if found is None else found.values

    def close(self) -> None:
        """
        End this writer, publish, and close the log; without a record, nothing is written.

        Raises:
            StoreError: The log could not be written.
        """
        if self._pid != os.getpid():
            return
        with self._store.lock:
            try:
                self.end()
            finally:
                self._store.close()
                self.log.close()


def _checked(content: bytes) -> bytes:
    size = PREFIX_SIZE + len(content)
    if size > MAX_LEAF:
        msg = f"the record has {size} bytes, and a leaf has at most {MAX_LEAF}"
        raise ValueError(msg)
    return content


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
