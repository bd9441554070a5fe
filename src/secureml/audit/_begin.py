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
from contextlib import suppress

from secureml.audit._call import Call
from secureml.audit._members import gates_member
from secureml.audit._outcomes import error_member, outcome_of
from secureml.audit._plan import Capture, Plan
from secureml.audit._stamp import NOISE, stamp
from secureml.audit._submit import in_thread, submit_async
from secureml.audit._vault import Vault
from secureml.audit.paths import MissingArgumentError
from secureml.audit.value import encode

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
        _read(call, args, kwargs)
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
                await in_thread(lambda: _read(call, args, kwargs))
            else:
                if _names(call) and not plan.log.pseudonyms.ready:
                    await in_thread(plan.load_names)
                _read(call, args, kwargs)
        except asyncio.CancelledError as error:
            _not_run(call, error)
            raise
    if plan.announce:
        await _announce_async(call)
    call.started = _monotonic_ns()
    return call


def _names(call: Call) -> bool:
    """Return whether a pseudonym is to be made."""
    around = call.ambient
    return call.plan.user is not None or (around is not None and around.user is not None)


def _read(call: Call, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    """
    Read what the record says of the call before it runs.

    Raises:
        TypeError, ValueError: A captured value has no encoding, a user no name, or what a
            profile demands is missing.
    """
    plan = call.plan
    try:
        around = call.ambient
        if around is not None and around.said[0] is plan:
            _, call.actor, call.groups = around.said
        elif plan.special or around is not None:
            _read_fields(call, plan, args, kwargs)
            if around is not None and not plan.special:
                around.said = (plan, call.actor, call.groups)
        if plan.inputs:
            _read_inputs(call, plan, args, kwargs)
        if plan.profiles:
            plan.demand(call.actor, call.inputs, call.groups)
    except MissingArgumentError:
        # The function will say so itself.
        call.unbound = True
    except Exception as error:
        if not plan.lenient:
            raise
        # Nothing more is captured: whose key it would need, for one, is not known.
        call.broken(error)
        call.unbound = True


def _read_fields(
    call: Call, plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> None:
    around = call.ambient
    if plan.provider is not None:
        call.model = plan.spell_model(plan.provider())
        call.gates = call.model[1]
    if plan.gates_of is not None:
        call.gates = gates_member(plan.gates_of(args, kwargs))
    if plan.user is not None:
        user = plan.user(args, kwargs)
    else:
        user = None if around is None else around.user
    if user is not None:
        pseudonym = plan.log.pseudonyms.of(user, path=plan.user_path)
        call.actor = f',"actor":{{"id":"{pseudonym}","type":"user"}}'
    if plan.subject is not None:
        call.subject = _of_subject(plan, plan.subject(args, kwargs))
    if around is not None or plan.dynamic:
        call.groups = plan.groups_of(around, args, kwargs)


def _read_inputs(
    call: Call, plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> None:
    vault = Vault(call.id, call.subject, plan)
    noise = call.noise
    pieces: list[str] = []
    found: list[tuple[Capture, bytes]] = []
    for capture, read in plan.inputs:
        value = read(args, kwargs)
        if plan.redactor is None:
            encoded = encode(value, path=capture.path)
        else:
            encoded = call.encoded(capture, value)
        pieces.append(vault.put(capture, noise[capture.salt : capture.salt + 32], encoded))
        if plan.announce:
            found.append((capture, encoded))
    # Not before all of them could be read: half of the values is none.
    call.vault, call.found = vault, found
    call.inputs = f',"in":{{{",".join(pieces)}}}'


def _of_subject(plan: Plan, subject: object) -> str:
    if subject is None:
        msg = f"the subject of {plan.name} is None: its values would not be encrypted"
        raise ValueError(msg)
    return plan.log.pseudonyms.of(subject, path="subject")


def _announce(call: Call) -> None:
    plan = call.plan
    record, body, at, line = _intent(call)
    try:
        if call.vault is not None and call.vault.encrypted:
            plan.sync_keys()
        plan.log.submit(record, body, line, at=at, ack="durable", on_failure=plan.on_failure)
    except BaseException as error:
        _not_run(call, error)
        raise


async def _announce_async(call: Call) -> None:
    plan = call.plan
    record, body, at, line = _intent(call)
    try:
        if call.vault is not None and call.vault.encrypted:
            await in_thread(plan.sync_keys)
        await submit_async(
            plan.log, record, body, line, at=at, ack="durable", on_failure=plan.on_failure
        )
    except BaseException as error:
        _not_run(call, error)
        raise


def _not_run(call: Call, error: BaseException) -> None:
    """Say of a call that it ended before the function ran, where that can be said."""
    call.started = _monotonic_ns()
    error_ = error_member(type(error), "before")
    with suppress(Exception):  # What kept the intent out is what is raised.
        call.finish(outcome_of(error), "", error_, call.plan.streams)
        call.keep("queued")


def _intent(call: Call) -> tuple[str, bytes, int, bytes | None]:
    plan = call.plan
    record, when = stamp(plan.log.clock, os.urandom(NOISE))
    period, middle, target, trace = call.groups
    inputs, line = "", None
    if call.found:
        # The same salts, so that both records are seen to be about the same values.
        vault = Vault(record, call.subject, plan)
        pieces = [
            vault.put(capture, call.noise[capture.salt : capture.salt + 32], encoded)
            for capture, encoded in call.found
        ]
        inputs, line = f',"in":{{{",".join(pieces)}}}', vault.line()
        call.found = []
    head = plan.head + call.actor.encode() + plan.middle
    tail = (
        f'{call.gates}{inputs}{call.model[0]},"monotonic_us":{_monotonic_ns() // 1000}'
        f'{call.parent}{period},"record":{{"id":"{record}"}}{call.redacted()}{middle}{target}'
        f',"time":"{when}"{call.trace or trace},"type":"intent"}}'
    )
    call.intent = f',"intent":"{record}"'
    return record, head + tail.encode(), len(head), line
