"""What a caller may choose when a function is audited, checked before any call."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from secureml.audit.value import MAX_SIZE

__all__ = [
    "ACKS",
    "MAX_CAPTURE",
    "Ack",
    "AuditOptions",
    "Constant",
    "OnFailure",
    "Require",
    "check_choices",
    "provider_of",
]

Ack = Literal["queued", "durable", "checkpointed", "witnessed"]
"""How far a record has come before the result is handed out."""

Require = Literal["before", "after"] | None
"""When a record is demanded: before the function runs, before its result is handed out, never."""

OnFailure = Literal["raise", "block", "gap"]
"""What happens where a record cannot be accepted."""

ACKS: Final = ("queued", "durable", "checkpointed", "witnessed")

MAX_CAPTURE: Final = 1 << 20
"""Bytes of a stream's chunks that are kept, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Constant:
    """
    The same value for every call, where a text would be a path.

    ``tenant="user.tenant"`` is read from the arguments of each call,
    ``tenant=Constant("north")`` is not.

    Attributes:
        value: What is recorded.
    """

    value: object


Field = str | Constant | Callable[..., object] | None
"""A path into the arguments, a constant, or a function that returns the value."""


class AuditOptions(TypedDict, total=False):
    """The keywords of `audited` but the log and the action, for those who pass them on."""

    model: object
    user: Field
    session: Field
    request: Field
    tenant: Field
    capture: Sequence[str]
    redact: object
    subject: Field
    profile: str | Sequence[str] | None
    retention_class: str | None
    gates: object
    period: object
    refdb: object
    source: object
    target: object
    require: Require
    ack: Ack
    durable: bool
    on_failure: OnFailure
    max_capture: int
    hold: bool | None


def check_choices(
    *, require: object, ack: object, durable: object, on_failure: object, max_capture: object
) -> str:
    """
    Return the acknowledgement to wait for.

    Raises:
        TypeError: *max_capture* is no number of bytes.
        ValueError: A word that is not among the choices, or choices that contradict each other.
    """
    if require not in {"before", "after", None}:
        msg = f"require is 'before', 'after' or None, not {require!r}"
        raise ValueError(msg)
    if ack not in ACKS:
        msg = f"ack is one of {', '.join(map(repr, ACKS))}, not {ack!r}"
        raise ValueError(msg)
    if on_failure not in {"raise", "block", "gap"}:
        msg = f"on_failure is 'raise', 'block' or 'gap', not {on_failure!r}"
        raise ValueError(msg)
    if require is None and (durable or ack != "queued"):
        msg = "require=None waits for nothing: leave out ack and durable, or require the record"
        raise ValueError(msg)
    if require == "before" and on_failure == "gap":
        msg = "require='before' refuses a call that cannot be logged; on_failure='gap' lets it run"
        raise ValueError(msg)
    if not isinstance(max_capture, int) or isinstance(max_capture, bool):
        msg = f"max_capture is a number of bytes, not {type(max_capture).__name__!r}"
        raise TypeError(msg)
    if not 0 <= max_capture <= MAX_SIZE - 9:
        msg = f"max_capture is from 0 to {MAX_SIZE - 9} bytes"
        raise ValueError(msg)
    return "durable" if durable and ack == "queued" else str(ack)


def provider_of(
    given: Callable[..., object],
) -> Callable[[tuple[object, ...], Mapping[str, Any]], object]:
    """Return how *given* is called for one call: with its arguments, unless it takes none."""
    try:
        takes = bool(inspect.signature(given).parameters)
    except (TypeError, ValueError):
        takes = False
    if takes:
        return lambda args, kwargs: given(*args, **kwargs)
    return lambda _, __: given()
