"""
One audited call: what is read before it runs, and the records it leaves.

`Call` is one run of what a `Plan` describes.  The bytes are put together by
hand, in the order of the keys, because a canonical encoder would cost more
than the rest of the call; a law compares both spellings.
"""

import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from secureml.audit._chunks import Chunks
from secureml.audit._outcomes import UNHEARD, error_member, outcome_of
from secureml.audit._plan import Capture, Plan
from secureml.audit._stamp import stamp
from secureml.audit._submit import in_thread, submit_async
from secureml.audit._vault import Vault
from secureml.audit.collect import CallRecord, collectors, running
from secureml.audit.context import Ambient, ambient, span
from secureml.audit.oversight import Oversight
from secureml.audit.paths import follow
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE
from secureml.audit.sink import Appended
from secureml.audit.value import encode, tlv
from secureml.clock import format_time, parse_time
from secureml.wire import canonical
from secureml.wire.canonical import JSON

if TYPE_CHECKING:
    from secureml.audit.redaction import Redaction

__all__ = ["Call"]

_MAX_NAME: Final = 512
_MAX_BODY: Final = MAX_LEAF - PREFIX_SIZE - len(',"details":{"segment":""}') - 63
_UNREAD: Final = (
    "the function takes other arguments than its signature says, so what was to be captured "
    "could not be read"
)

_TOO_LARGE: Final = (
    f"the record of this call would have more than {MAX_LEAF} bytes, what was captured left out: "
    "capture fewer paths, or shorter fields"
)

_monotonic_ns = time.monotonic_ns
_modules = sys.modules


class Call:
    """One run of an audited function; leaves exactly one record of its outcome."""

    # What most calls never change stands here, so that a call need not set it.
    actor = ""
    ambient: Ambient | None = None
    body = b""
    chunks: Chunks | None = None
    done = False
    error = ""
    found: Sequence[tuple[Capture, bytes]] = ()
    inputs = ""
    intent = ""
    oversight: Oversight | None = None
    parent = ""
    redactions: dict[tuple[str, str], int] | None = None
    started = 0
    subject = ""
    unfit: Exception | None = None
    trace = ""
    unbound = False
    vault: Vault | None = None

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.noise = noise = plan.noise.draw()
        self.id, self.time = stamp(plan.log.clock, noise)
        parent = running.get(None)
        if parent is not None:
            self.parent = f',"parent":"{parent.id}"'
        self.collectors = collectors.get()
        around = ambient.get()
        if around is not None:
            self.ambient = around
        if "opentelemetry.trace" in _modules:
            self.trace = span()
        self.groups = plan.groups
        self.model = plan.model
        self.gates = plan.model[1]

    # -- captured values ------------------------------------------------------------------

    def encoded(self, capture: Capture, value: object) -> bytes:
        redactor = self.plan.redactor
        if redactor is not None:
            value, taken = redactor.apply(capture.path, value)
            self._note(taken)
        return encode(value, path=capture.path)

    def _note(self, taken: Iterable["Redaction"]) -> None:
        """Remember what was taken out, for the record."""
        for one in taken:
            known = self.redactions = self.redactions or {}
            key = (one.path, one.rule)
            known[key] = known.get(key, 0) + one.count

    def _commit(self, found: Iterable[tuple[Capture, bytes]]) -> str:
        """Keep values for the details; return their members of the leaf."""
        vault = self.vault
        if vault is None:
            vault = self.vault = Vault(self.id, self.subject, self.plan)
        noise = self.noise
        return ",".join(
            [
                vault.put(capture, noise[capture.salt : capture.salt + 32], encoded)
                for capture, encoded in found
            ]
        )

    # -- streams --------------------------------------------------------------------------

    def came(self) -> None:
        """Note when the first chunk came."""
        chunks = self.stream
        if chunks.first < 0:
            chunks.first = (_monotonic_ns() - self.started) // 1000

    def chunk(self, chunk: object) -> None:
        """
        Take note of a chunk that a stream is about to hand out.

        Raises:
            TypeError, ValueError: It cannot be captured; see `read`.
            StoreError: The log is known to accept nothing.
        """
        plan, chunks = self.plan, self.stream
        if chunks.first < 0:
            self.came()
        if not plan.lenient:
            plan.ready()
        if plan.chunks is not None and chunks.capturing:
            capture = plan.chunks
            try:
                value = follow(chunk, capture.steps, capture.path)
                if plan.redactor is None:
                    salt = self.noise[capture.salt : capture.salt + 32]
                    chunks.add(encode(value, path=capture.path), salt, plan.max_capture)
                else:
                    taken = chunks.redact(plan.redactor, capture.path, value, plan.max_capture)
                    self._note(taken)
            except Exception as error:
                if not plan.lenient:
                    raise
                self.error = error_member(type(error), "capture")
                chunks.capturing = False
        chunks.count += 1

    def _listed(self, plan: Plan, capture: Capture) -> bytes:
        """Return the kept chunks of a stream that ended, as one audit value."""
        if plan.redactor is not None:
            salt = self.noise[capture.salt : capture.salt + 32]
            self._note(self.stream.settle(plan.redactor, capture.path, salt))
        return tlv(b"L", b"".join(self.stream.kept))

    @property
    def stream(self) -> Chunks:
        """What is known of the chunks of this call, which is a stream."""
        if self.chunks is None:
            self.chunks = Chunks(capturing=self.plan.chunks is not None and not self.unbound)
        return self.chunks

    # -- how it ended -----------------------------------------------------------------------

    def returned(self, result: object, *, outcome: str = "ok", stream: bool = False) -> None:
        """
        Record that the function returned *result*.

        Raises:
            TypeError, ValueError: The result cannot be captured; that is recorded as an error.
            StoreError: The record was not accepted.
        """
        broken = self._returned(result, outcome, stream=stream)
        try:
            self.keep(self.plan.ack if outcome == "ok" else "queued")
        except Exception as refused:
            raise refused from broken
        if broken is not None:
            raise broken

    async def returned_async(
        self, result: object, *, outcome: str = "ok", stream: bool = False
    ) -> None:
        """
        Do what `returned` does, and leave the event loop free meanwhile.

        Raises:
            TypeError, ValueError, StoreError: As `returned`.
        """
        broken = self._returned(result, outcome, stream=stream)
        try:
            if outcome == "ok":
                await self.keep_async(self.plan.ack)
            else:
                self.keep("queued")
        except Exception as refused:
            raise refused from broken
        if broken is not None:
            raise broken

    def _returned(self, result: object, outcome: str, *, stream: bool) -> Exception | None:
        plan = self.plan
        if not plan.outputs and not self.unbound:
            self.finish(outcome, "", self.error, stream)
            broken = None
        else:
            outputs, error, broken = "", self.error, None
            try:
                outputs = self._outputs(plan, result)
            except Exception as found:  # noqa: BLE001  it is recorded, then raised
                error = error or error_member(type(found), "capture")
                if not plan.lenient:
                    outcome, broken = "error", found
            self.finish(outcome, outputs, error, stream)
        return broken or (None if plan.lenient else self.unfit)

    def _outputs(self, plan: Plan, result: object) -> str:
        if self.unbound:
            raise ValueError(_UNREAD)
        found = [
            (capture, self.encoded(capture, follow(result, capture.steps, capture.path)))
            for capture in plan.outputs
        ]
        return self._commit(found)

    def failed(self, error: BaseException, *, stage: str = "", stream: bool = False) -> None:
        """
        Record that the function raised *error*.

        Raises:
            StoreError: The record was not accepted; *error* is its cause.
        """
        outcome = self._failed(error, stage, stream=stream)
        try:
            self.keep("queued" if outcome in UNHEARD else self.plan.ack)
        except Exception as refused:
            raise refused from error

    async def failed_async(
        self, error: BaseException, *, stage: str = "", stream: bool = False
    ) -> None:
        """
        Do what `failed` does, and leave the event loop free meanwhile.

        Raises:
            StoreError: As `failed`.
        """
        outcome = self._failed(error, stage, stream=stream)
        try:
            # Nobody waits for the answer of a call that was cancelled or left, and
            # a coroutine that is being closed must not wait at all.
            if outcome == "abandoned":
                self.keep("queued")
            elif outcome == "cancelled":
                await self._keep_cancelled()
            else:
                await self.keep_async(self.plan.ack)
        except Exception as refused:
            raise refused from error

    async def _keep_cancelled(self) -> None:
        try:
            await self.keep_async("queued")
        except asyncio.CancelledError:
            if self.body:  # Cancelled again, while it waited for room.
                self.keep("queued")
            raise

    def _failed(self, error: BaseException, stage: str, *, stream: bool) -> str:
        outcome = outcome_of(error)
        field = "" if outcome == "abandoned" else error_member(type(error), stage)
        self.finish(outcome, "", field, stream)
        return outcome

    def abandoned(self) -> None:
        """Record that nobody waited for the end of a stream, unless there is a record already."""
        if not self.done:
            self.finish("abandoned", "", self.error, stream=True)
            self.keep("queued")

    def oversee(self, action: str, reviewers: tuple[object, ...], reason: str | None) -> None:
        """
        Note what a person did about this call.

        Raises:
            TypeError, ValueError: Something is not in its form.
        """
        of = self.plan.log.pseudonyms.of
        names = [of(reviewer, path="reviewers") for reviewer in reviewers]
        self.oversight = Oversight.of(action, names, reason, before=self.oversight)

    # -- the record -----------------------------------------------------------------------

    def finish(self, outcome: str, outputs: str, error: str, stream: bool) -> None:  # noqa: FBT001  on the hot path
        """Put the record together; after this there is no other."""
        self.done = True
        plan = self.plan
        started = self.started
        latency = self.latency = (_monotonic_ns() - started) // 1000
        self.outcome = outcome
        if stream and plan.chunks is not None and self.stream.capturing:
            try:
                listed = self._commit(((plan.chunks, self._listed(plan, plan.chunks)),))
            except Exception as found:  # noqa: BLE001  it is recorded, then raised
                self._strip(found, outcome, stream=stream)
                return
            outputs = f"{outputs},{listed}" if outputs else listed
        if outputs:
            outputs = f',"out":{{{outputs}}}'
        period, middle, target, trace = self.groups
        if plan.call_is_period and not period:
            period = self._period(latency)
        if self.redactions:
            middle = self.redacted() + middle
        if self.oversight is not None:
            outputs_and = self.oversight.member + self.parent
        else:
            outputs_and = self.parent
        head = plan.head + self.actor.encode() + plan.middle if self.actor else plan.start
        tail = (
            f'{error}{self.gates}{self.inputs}{self.intent},"latency_us":{latency}'
            f'{self.model[0]},"monotonic_us":{started // 1000}{outputs},"outcome":"{outcome}"'
            f'{outputs_and}{period},"record":{{"id":"{self.id}"}}{middle}'
            f"{self.stream.member(complete=outcome == 'ok') if stream else ''}{target}"
            f',"time":"{self.time}"{self.trace or trace},"type":"call"}}'
        ).encode()
        if len(head) + len(tail) > _MAX_BODY and self.unfit is None:
            self._strip(ValueError(_TOO_LARGE), outcome, stream=stream)
            return
        self.body, self.at = head + tail, len(head)

    def broken(self, error: Exception) -> None:
        """Note that something could not be captured, of a call that is recorded all the same."""
        self.error = error_member(type(error), "capture")
        self.inputs = ""
        self.vault = self.redactions = None

    def _strip(self, error: Exception, outcome: str, *, stream: bool) -> None:
        """Record how it ended, and that *error* kept the record from saying more."""
        self.unfit = error
        self.broken(error)
        self.stream.capturing = False
        ended = "error" if outcome == "ok" and not self.plan.lenient else outcome
        self.finish(ended, "", self.error, stream)

    def redacted(self) -> str:
        found: list[JSON] = [
            {"count": count, "path": path, "rule": rule}
            for (path, rule), count in sorted((self.redactions or {}).items())
        ]
        return f',"redactions":{canonical.encode(found).decode()}' if found else ""

    def _period(self, latency: int) -> str:
        """Return the ``period`` of a use that is this call."""
        start = parse_time(self.time)
        end = format_time(start + timedelta(microseconds=latency))
        return f',"period":{{"end":"{end}","start":"{self.time}"}}'

    def keep(self, ack: str) -> None:
        """
        Hand the record to the log, and wait for *ack*.

        Raises:
            ValueError: It is larger than a leaf.
            StoreError: It was not accepted.
        """
        plan = self.plan
        vault = self.vault
        ticket: Appended | None = None
        try:
            if ack != "queued" and vault is not None and vault.encrypted:
                plan.sync_keys()
            line = None if vault is None else vault.line()
            ticket = plan.log.submit(
                self.id, self.body, line, at=self.at, ack=ack, on_failure=plan.on_failure
            )
        except Exception as error:  # noqa: BLE001  raised again, unless the caller goes on without
            self._refused(error)
        self._kept(ticket)

    async def keep_async(self, ack: str) -> None:
        """
        Hand the record to the log, and wait, without blocking the event loop.

        Raises:
            ValueError, StoreError: As `keep`.
        """
        plan = self.plan
        vault = self.vault
        ticket: Appended | None = None
        try:
            if ack != "queued" and vault is not None and vault.encrypted:
                await in_thread(plan.sync_keys)
            ticket = await submit_async(
                plan.log,
                self.id,
                self.body,
                None if vault is None else vault.line(),
                at=self.at,
                ack=ack,
                on_failure=plan.on_failure,
            )
        except Exception as error:  # noqa: BLE001  raised again, unless the caller goes on without
            self._refused(error)
        self._kept(ticket)

    def _refused(self, error: Exception) -> None:
        if self.plan.on_failure != "gap":
            raise error
        self.plan.ledger.lose(error, self.time)

    def _kept(self, ticket: Appended | None) -> None:
        plan = self.plan
        # Whatever still knows this call, a task that it started, needs its name only.
        self.vault, self.chunks, self.body = None, None, b""
        if plan.lost and ticket is not None:
            plan.ledger.settle(plan.log)
        if self.collectors:
            record = CallRecord(
                id=self.id,
                action=plan.action,
                outcome=self.outcome,
                time=self.time,
                latency_us=self.latency,
                model=self.model[2],
                ticket=ticket,
            )
            for records in self.collectors:
                records.append(record)
