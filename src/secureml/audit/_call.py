"""
One audited call: what is read before it runs, and the records it leaves.

`Call` is one run of what a `Plan` describes.  The bytes are put together by
hand, in the order of the keys, because a canonical encoder would cost more
than the rest of the call; a law compares both spellings.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from secureml.audit._chunks import Chunks
from secureml.audit._members import gates_member
from secureml.audit._outcomes import UNHEARD, error_member, outcome_of
from secureml.audit._plan import Capture, Plan
from secureml.audit._stamp import stamp
from secureml.audit._submit import in_thread, submit_async
from secureml.audit._vault import Vault
from secureml.audit.collect import CallRecord, collectors, running
from secureml.audit.context import Ambient, ambient, span
from secureml.audit.oversight import Oversight
from secureml.audit.paths import MissingArgumentError, follow
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE
from secureml.audit.sink import Appended
from secureml.audit.value import encode, tlv
from secureml.clock import format_time, parse_time
from secureml.wire import canonical
from secureml.wire.canonical import JSON

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

_urandom = os.urandom
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
    too_large = False
    trace = ""
    unbound = False
    vault: Vault | None = None

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.noise = noise = _urandom(plan.noise)
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

    # -- before the function runs -------------------------------------------------------

    @property
    def names(self) -> bool:
        """Whether a pseudonym is to be made."""
        around = self.ambient
        return self.plan.user is not None or (around is not None and around.user is not None)

    def read(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """
        Read what the record says of the call before it runs.

        Raises:
            TypeError, ValueError: A captured value has no encoding, a user no name, or what a
                profile demands is missing.
        """
        plan = self.plan
        try:
            if plan.special or self.ambient is not None:
                self._read_fields(plan, args, kwargs)
            if plan.inputs:
                self._read_inputs(plan, args, kwargs)
            if plan.profiles:
                plan.demand(self.actor, self.inputs, self.groups)
        except MissingArgumentError:
            # The function will say so itself.
            self.unbound = True
        except Exception as error:
            if not plan.lenient:
                raise
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """Note that something could not be captured, for a call that goes on all the same."""
        self.error = error_member(type(error), "capture")
        self.inputs = ""
        self.vault = self.redactions = None

    def _read_fields(
        self, plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        around = self.ambient
        if plan.provider is not None:
            self.model = plan.spell_model(plan.provider())
            self.gates = self.model[1]
        if plan.gates_of is not None:
            self.gates = gates_member(plan.gates_of(args, kwargs))
        if plan.user is not None:
            user = plan.user(args, kwargs)
        else:
            user = None if around is None else around.user
        if user is not None:
            pseudonym = plan.log.pseudonyms.of(user, path=plan.user_path)
            self.actor = f',"actor":{{"id":"{pseudonym}","type":"user"}}'
        if plan.subject is not None:
            self.subject = self._of_subject(plan.subject(args, kwargs))
        if around is not None or plan.dynamic:
            self.groups = plan.groups_of(around, args, kwargs)

    def _read_inputs(
        self, plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> None:
        vault = Vault(self.id, self.subject, plan)
        noise = self.noise
        pieces: list[str] = []
        found: list[tuple[Capture, bytes]] = []
        for capture, read in plan.inputs:
            value = read(args, kwargs)
            if plan.redactor is None:
                encoded = encode(value, path=capture.path)
            else:
                encoded = self._encode(capture, value)
            pieces.append(vault.put(capture, noise[capture.salt : capture.salt + 32], encoded))
            if plan.announce:
                found.append((capture, encoded))
        # Not before all of them could be read: half of the values is none.
        self.vault, self.found = vault, found
        self.inputs = f',"in":{{{",".join(pieces)}}}'

    def _of_subject(self, subject: object) -> str:
        if subject is None:
            msg = f"the subject of {self.plan.name} is None: its values would not be encrypted"
            raise ValueError(msg)
        return self.plan.log.pseudonyms.of(subject, path="subject")

    def _encode(self, capture: Capture, value: object) -> bytes:
        redactor = self.plan.redactor
        if redactor is not None:
            value, taken = redactor.apply(capture.path, value)
            if taken:
                known = self.redactions = self.redactions or {}
                for one in taken:
                    key = (one.path, one.rule)
                    known[key] = known.get(key, 0) + (one.count or 1)
        return encode(value, path=capture.path)

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
        if plan.ready is not None and not plan.lenient:
            plan.ready()
        if plan.chunks is not None and chunks.capturing:
            capture = plan.chunks
            try:
                encoded = self._encode(capture, follow(chunk, capture.steps, capture.path))
                chunks.add(encoded, self.noise[capture.salt : capture.salt + 32], plan.max_capture)
            except Exception as error:
                if not plan.lenient:
                    raise
                self.error = error_member(type(error), "capture")
                chunks.capturing = False
        chunks.count += 1

    @property
    def stream(self) -> Chunks:
        """What is known of the chunks of this call, which is a stream."""
        if self.chunks is None:
            self.chunks = Chunks(capturing=self.plan.chunks is not None)
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
                await self.keep_async()
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
                error = error_member(type(found), "capture")
                if not plan.lenient:
                    outcome, broken = "error", found
            self.finish(outcome, outputs, error, stream)
        if self.too_large and broken is None and not plan.lenient:
            broken = ValueError(_TOO_LARGE)
        return broken

    def _outputs(self, plan: Plan, result: object) -> str:
        if self.unbound:
            raise ValueError(_UNREAD)
        found = [
            (capture, self._encode(capture, follow(result, capture.steps, capture.path)))
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
                with suppress(asyncio.CancelledError):
                    await self.plan.warm_async()
                self.keep("queued")
            else:
                await self.keep_async()
        except Exception as refused:
            raise refused from error

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
        if stream and plan.chunks is not None and self.stream.capturing and not self.unbound:
            listed = self._commit(((plan.chunks, tlv(b"L", b"".join(self.stream.kept))),))
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
        if len(head) + len(tail) > _MAX_BODY and not self.too_large:
            # There is a record all the same: of how it ended, and that it could not say more.
            self.too_large = True
            self._broken(ValueError())
            self.stream.capturing = False
            self.finish("error" if outcome == "ok" else outcome, "", self.error, stream)
            return
        self.body, self.at = head + tail, len(head)

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
        detail = None if self.vault is None else self.vault.detail()
        ticket: Appended | None = None
        try:
            if ack != "queued" and detail is not None and detail.encrypted:
                plan.sync_keys()
            ticket = plan.log.submit(
                self.id, self.body, detail, at=self.at, ack=ack, on_failure=plan.on_failure
            )
        except Exception as error:  # noqa: BLE001  raised again, unless the caller goes on without
            self._refused(error)
        self._kept(ticket)

    async def keep_async(self) -> None:
        """
        Hand the record to the log, and wait, without blocking the event loop.

        Raises:
            ValueError, StoreError: As `keep`.
        """
        plan = self.plan
        ack = plan.ack
        if plan.warm != os.getpid():
            await plan.warm_async()
        if ack == "queued" and plan.on_failure != "block":
            self.keep(ack)
            return
        detail = None if self.vault is None else self.vault.detail()
        ticket: Appended | None = None
        try:
            if ack != "queued" and detail is not None and detail.encrypted:
                await in_thread(plan.sync_keys)
            ticket = await submit_async(
                plan.log,
                self.id,
                self.body,
                detail,
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
