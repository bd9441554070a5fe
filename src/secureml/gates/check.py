"""
What a gate asks: checks, the state that measures one, the finding it leaves.

A check is a value.  It says what is to be measured; the subject measures it,
in the very pass that hashes the data, so a gate never reads data on its own
and what was measured is what was named.

Nothing here can pass by accident: a finding passes only when a check said so
after it saw data.  No rows, a missing column, a type that the check does not
know and an exception all leave a finding that did not pass.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import getattr_static
from typing import Any, Protocol, Self, TypeAlias, runtime_checkable

from secureml.evidence.subject import SubjectLike
from secureml.wire import canonical
from secureml.wire.canonical import JSON

__all__ = [
    "Check",
    "Finding",
    "Measurable",
    "State",
    "check_name",
    "checked",
    "full_name",
    "not_made",
]

Part: TypeAlias = Any
"""What a subject feeds its checks: rows of a table, a file of a tree."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*@[0-9]+", re.ASCII)
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one check found.

    Attributes:
        check: The check's whole name, `check_name`: its id and its parameters.
        passed: True only when the check was made and holds.
        message: One line for people.  It names columns, counts and row
            numbers (from 0), never values or files: it is logged for ever.
        counts: What was counted, by name.
        detail: What may name a person: a file, the text of an exception.  A
            preview shows it; it is never logged, and says nothing about
            whether two findings are equal.
    """

    check: str
    passed: bool
    message: str
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    detail: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        texts: tuple[object, ...] = (self.check, self.message, self.detail, *self.counts)
        if not all(isinstance(text, str) for text in texts):
            msg = "a finding's check, message, detail and names of counts are text"
            raise TypeError(msg)
        passed: object = self.passed
        if not isinstance(passed, bool):
            msg = f"passed is True or False, not {type(passed).__name__}"
            raise TypeError(msg)
        for name, count in self.counts.items():
            if type(count) is not int:
                msg = f"a finding's counts are whole numbers, got {name!r}: {count!r}"
                raise TypeError(msg)
        object.__setattr__(self, "counts", dict(self.counts))


class State(Protocol):
    """
    **Protocol.** A measurement in progress.

    Parts may be split among states in any way and the states merged in any
    order: the finding is the same.  So a state never depends on the order of
    its calls; a part of a table carries the position of its first row.
    """

    def update(self, part: Part, /) -> None:
        """Take one part: `secureml.data.Rows` of a table, a manifest entry of a tree."""

    def merge(self, other: Self, /) -> None:
        """Take what *other*, a state of the same check, has seen."""

    def finish(self) -> Finding:
        """Return the finding over all parts taken."""


@runtime_checkable
class Check(Protocol):
    """
    **Protocol.** What is to be measured, as a value.

    A check is deterministic for its parameters.  It never raises to say
    "failed": its finding has ``passed=False``.  An exception means that the
    measurement could not be made, which a gate counts as not passed.
    """

    @property
    def id(self) -> str:
        """``name@major``; the major number changes when the meaning does."""

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on, as JSON without floats."""

    @property
    def needs(self) -> frozenset[str]:
        """The columns it looks at; empty for the whole subject."""

    def start(self) -> State:
        """Begin a measurement that has seen nothing."""


class Measurable(SubjectLike, Protocol):
    """**Protocol.** A subject that measures checks about itself."""

    def measure(self, checks: Sequence[Check], /) -> list[Finding]:
        """Return one finding for each of *checks*, in their order."""


def check_name(check: Check) -> str:
    """
    Return the whole name of *check*: id, space, canonical parameters.

    Two checks with one name are one check.

    Raises:
        TypeError: It is no check, or a parameter is not JSON without floats.
        ValueError: Its id is not ``name@major``, or a number is out of range.
    """
    given: object = check
    absent = object()
    members = ("id", "params", "needs", "start")
    if isinstance(given, type) or any(
        getattr_static(given, member, absent) is absent for member in members
    ):
        msg = (
            f"a check has id, params, needs and start(), {type(given).__name__} has not: "
            "use one of secureml.data.checks, for example not_null('age')"
        )
        raise TypeError(msg)
    return full_name(check.id, check.params)


def full_name(check_id: object, params: Mapping[str, JSON]) -> str:
    """
    Return the whole name of the check that *check_id* and *params* describe.

    Raises:
        TypeError: A parameter is not JSON without floats.
        ValueError: *check_id* is not ``name@major``, or a number is out of range.
    """
    if not isinstance(check_id, str) or not _ID.fullmatch(check_id):
        msg = f"a check's id is spelled name@major, for example 'not_null@1', got {check_id!r}"
        raise ValueError(msg)
    return f"{check_id} {canonical.encode(dict(params)).decode()}"


def not_made(name: str, why: str, *, detail: str = "") -> Finding:
    """Return the finding that the check *name* could not be made, and *why*."""
    return Finding(name, passed=False, message=f"could not be made: {why}", detail=detail)


def checked(names: Iterable[str], findings: object) -> list[Finding]:
    """
    Return one finding for each of *names*, whatever *findings* holds.

    A finding that is missing, is about something else or is no finding at all
    becomes one that did not pass.
    """
    given = list(findings) if isinstance(findings, list | tuple) else []
    result = []
    for i, name in enumerate(names):
        found = given[i] if i < len(given) else None
        if type(found) is not Finding:
            result.append(not_made(name, "the subject returned no finding for it"))
        elif found.check != name:
            result.append(not_made(name, "the subject returned the finding of another check"))
        else:
            result.append(_printable(found))
    return result


def _printable(found: Finding) -> Finding:
    message = found.message.encode("utf-8", "replace").decode()
    if len(message) > _LONGEST:
        message = message[:_LONGEST] + "…"
    counts = {name: count for name, count in found.counts.items() if abs(count) <= 2**53 - 1}
    if message == found.message and counts == found.counts:
        return found
    return Finding(found.check, found.passed, message, counts, found.detail)
