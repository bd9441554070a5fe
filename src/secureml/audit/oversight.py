"""
Human oversight: which people looked at a result, and what they did.

`oversee` adds it to the record of the call that is running, where a person
decides inside it.  `review` leaves a record of its own, for those who look
later.  People are named by pseudonyms.

A review says that somebody with access to the log said so.  It is no
signature of the reviewer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from os import urandom
from typing import Final

from secureml.audit._stamp import NOISE, stamp
from secureml.audit.collect import inside
from secureml.audit.fields import ID
from secureml.audit.options import ACKS, Ack
from secureml.audit.sink import Appended, AuditLog
from secureml.clock import format_time
from secureml.wire import canonical
from secureml.wire.canonical import JSON

__all__ = ["ACTIONS", "Oversight", "oversee", "review"]

ACTIONS: Final = ("approved", "rejected", "overridden", "reviewed")
"""What a person may have done about a result."""

_MAX_REASON: Final = 128
_MAX_REVIEWERS: Final = 32


@dataclass(frozen=True, slots=True)
class Oversight:
    """
    The ``oversight`` member of a record.

    Attributes:
        action: One of `ACTIONS`.
        reviewers: Pseudonyms, sorted, each once.
        reason: Why, in the words of the application; never personal data.
        at: When, RFC 3339.
    """

    action: str
    reviewers: tuple[str, ...]
    reason: str | None
    at: str | None = None

    @classmethod
    def of(
        cls,
        action: object,
        reviewers: Sequence[str],
        reason: object,
        *,
        at: datetime | None = None,
        before: "Oversight | None" = None,
    ) -> "Oversight":
        """
        Return what is to be recorded; reviewers add up with those *before*.

        Raises:
            TypeError: *reason* is no text, or *at* no time.
            ValueError: *action* is another word, there is no reviewer or too
                many, or *reason* is empty or too long.
        """
        if action not in ACTIONS:
            msg = f"action is one of {', '.join(map(repr, ACTIONS))}, not {action!r}"
            raise ValueError(msg)
        names = {*reviewers, *(() if before is None else before.reviewers)}
        if not 0 < len(names) <= _MAX_REVIEWERS:
            msg = f"oversight needs from 1 to {_MAX_REVIEWERS} reviewers, got {len(names)}"
            raise ValueError(msg)
        if reason is not None and not isinstance(reason, str):
            msg = f"'reason' is text, not {type(reason).__name__!r}"
            raise TypeError(msg)
        if reason is not None and not 0 < len(reason) <= _MAX_REASON:
            msg = f"'reason' has {len(reason)} characters: 1 to {_MAX_REASON} are recorded"
            raise ValueError(msg)
        when = None if at is None else format_time(at)
        return cls(str(action), tuple(sorted(names)), reason, when)

    @property
    def json(self) -> dict[str, JSON]:
        """The member's value."""
        found: dict[str, JSON] = {"action": self.action, "reviewers": list(self.reviewers)}
        if self.reason is not None:
            found["reason"] = self.reason
        if self.at is not None:
            found["at"] = self.at
        return found

    @property
    def member(self) -> str:
        """The member as JSON, comma first."""
        return f',"oversight":{canonical.encode(self.json).decode()}'


def _people(reviewers: object) -> tuple[object, ...]:
    if isinstance(reviewers, str | bytes) or not isinstance(reviewers, Sequence):
        msg = "'reviewers' is a list of people: write reviewers=[…]"
        raise TypeError(msg)
    return tuple(reviewers)


def oversee(*, action: str, reviewers: Sequence[object], reason: str | None = None) -> None:
    """
    Say, inside an audited call, what people did about its result.

    When it is said more than once, reviewers add up; the last action and
    reason stand.

    Args:
        action: ``approved``, ``rejected``, ``overridden`` or ``reviewed``.
        reviewers: Who: text, numbers, bytes or UUIDs; recorded as pseudonyms.
        reason: Why, 1 to 128 characters; recorded as it is, so never personal data.

    Raises:
        LookupError: No audited call is running here.
        TypeError, ValueError: Something is not in its form.
    """
    inside("oversee").oversee(action, _people(reviewers), reason)


def review(
    log: AuditLog,
    record: str,
    *,
    action: str,
    reviewers: Sequence[object],
    reason: str | None = None,
    at: datetime | None = None,
    ack: Ack = "durable",
) -> Appended:
    """
    Record that people looked at the result of an earlier call.

    Args:
        log: Where the record goes: best the log of the call.
        record: Id of the call's record.
        action: ``approved``, ``rejected``, ``overridden`` or ``reviewed``.
        reviewers: Who: text, numbers, bytes or UUIDs; recorded as pseudonyms.
        reason: Why, 1 to 128 characters; recorded as it is, so never personal data.
        at: When they did, where that was earlier than now.
        ack: What to wait for.

    Raises:
        TypeError: A reviewer is no name, or *reviewers* no list.
        ValueError: *record* is no id, or something else is not in its form.
        StoreError: The record was not accepted.
    """
    if not ID.fullmatch(record):
        msg = "'record' is the id of a call's record: a UUID of version 7, in lower case"
        raise ValueError(msg)
    if ack not in ACKS:
        msg = f"ack is one of {', '.join(map(repr, ACKS))}, not {ack!r}"
        raise ValueError(msg)
    names = [log.pseudonyms.of(one, path="reviewers") for one in _people(reviewers)]
    found = Oversight.of(action, names, reason, at=at)
    made, when = stamp(log.clock, urandom(NOISE))
    body = canonical.encode(
        {
            "monotonic_us": time.monotonic_ns() // 1000,
            "oversight": found.json,
            "record": {"id": made},
            "review": record,
            "time": when,
            "type": "human-review",
        }
    )
    return log.submit(made, body, ack=ack)
