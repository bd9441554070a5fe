"""
The beginning of an audited call: its inputs, and where it was asked for, its intent.

An intent is a record, on the disk before the function runs, that it is about
to.  A process that is killed in the middle leaves it: who asked what of which
model is then known, though not what came of it.
"""

import asyncio
import os
import time
from collections.abc import Mapping

from secureml.audit._call import Call
from secureml.audit._outcomes import error_member, outcome_of
from secureml.audit._plan import Plan
from secureml.audit._stamp import NOISE, stamp
from secureml.audit._submit import in_thread, submit_async
from secureml.audit._vault import Vault
from secureml.audit.details import Detail

__all__ = ["begin", "begin_async"]

_monotonic_ns = time.monotonic_ns


def begin(plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
    """
    Read and encode the inputs, before the function can change them; write the intent.

    Raises:
        TypeError: A captured value has no encoding, or a user no name.
        ValueError: A step of a path does not exist; a value is too large; what
            a profile demands is missing.
        StoreError: The intent was not accepted.
    """
    call = Call(plan)
    if plan.reads or call.ambient is not None:
        call.read(args, kwargs)
    if plan.announce:
        _announce(call)
    call.started = _monotonic_ns()
    return call


async def begin_async(plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
    """
    Do what `begin` does, and leave the event loop free meanwhile.

    Raises:
        TypeError, ValueError, StoreError: As `begin`.
    """
    call = Call(plan)
    if plan.reads or call.ambient is not None:
        try:
            if plan.subject is not None:  # The key of somebody new is written to a file.
                await in_thread(lambda: call.read(args, kwargs))
            else:
                if call.names and not plan.log.pseudonyms.ready:
                    await in_thread(plan.load_names)
                call.read(args, kwargs)
        except asyncio.CancelledError as error:
            _not_run(call, error)
            raise
    if plan.announce:
        await _announce_async(call)
    call.started = _monotonic_ns()
    return call


def _announce(call: Call) -> None:
    plan = call.plan
    record, body, at, detail = _intent(call)
    try:
        if detail is not None and detail.encrypted:
            plan.sync_keys()
        plan.log.submit(record, body, detail, at=at, ack="durable", on_failure=plan.on_failure)
    except BaseException as error:
        _not_run(call, error)
        raise


async def _announce_async(call: Call) -> None:
    plan = call.plan
    record, body, at, detail = _intent(call)
    try:
        if detail is not None and detail.encrypted:
            await in_thread(plan.sync_keys)
        await submit_async(
            plan.log, record, body, detail, at=at, ack="durable", on_failure=plan.on_failure
        )
    except BaseException as error:
        _not_run(call, error)
        raise


def _not_run(call: Call, error: BaseException) -> None:
    """Say of a call that it ended before the function ran, where that can be said."""
    call.started = _monotonic_ns()
    try:
        call.finish(outcome_of(error), "", error_member(type(error), "before"), call.plan.streams)
        call.keep("queued")
    except Exception:  # noqa: BLE001, S110  what kept the intent out is what is raised
        pass


def _intent(call: Call) -> tuple[str, bytes, int, Detail | None]:
    plan = call.plan
    record, when = stamp(plan.log.clock, os.urandom(NOISE))
    period, middle, target, trace = call.groups
    inputs, detail = "", None
    if call.found:
        # The same salts, so that both records are seen to be about the same values.
        vault = Vault(record, call.subject, plan)
        pieces = [
            vault.put(capture, call.noise[capture.salt : capture.salt + 32], encoded)
            for capture, encoded in call.found
        ]
        inputs, detail = f',"in":{{{",".join(pieces)}}}', vault.detail()
        call.found = []
    head = plan.head + call.actor.encode() + plan.middle
    tail = (
        f'{call.gates}{inputs}{call.model[0]},"monotonic_us":{_monotonic_ns() // 1000}'
        f'{call.parent}{period},"record":{{"id":"{record}"}}{call.redacted()}{middle}{target}'
        f',"time":"{when}"{call.trace or trace},"type":"intent"}}'
    )
    call.intent = f',"intent":"{record}"'
    return record, head + tail.encode(), len(head), detail
