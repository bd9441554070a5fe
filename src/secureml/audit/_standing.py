"""
What the records of an audit log say about the log itself: policy, holds, erasures, prunings.

Read from the leaves alone, and nowhere else: a hold that is not in the log
holds nothing, and a policy that is not in the log allows nothing.

Source: docs/spec/retention.md.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

from secureml.audit.record import Record
from secureml.errors import FormatError
from secureml.wire.canonical import JSON

__all__ = [
    "Entries",
    "Standing",
    "hold_of",
    "leaves",
    "policy_of",
    "prune_of",
    "read_standing",
]

MAX_DAYS: Final = 36_525
"""Days of the longest period that a policy may set."""

_LIKELY: Final = re.compile(rb'"type":"(?:erasure|hold|prune|retention)"')
_WRITER: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_BUNDLE: Final = 256
_LABEL: Final = 128


class Entries(Protocol):
    """**Protocol.** The log as it is read here; `secureml.evidence.log.Log` is one."""

    @property
    def directory(self) -> Path:
        """The public directory."""

    @property
    def size(self) -> int:
        """Number of published entries."""

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the entries from *start* on."""


@dataclass(slots=True)
class Standing:
    """
    What is in force at the end of a log.

    Attributes:
        policy: Days by class, ``""`` for records without one; None without a policy.
        holds: Name of each placed hold → the pseudonyms it covers; empty for all.
        records: Ids that an erasure names.
        keys: Ids of keys that an erasure names.
        minimum: The minimum index.
        kept: Bundles below it that stay.
        writers: Writer → its next sequence number at the minimum index.
        next: Index of the first leaf that was not read yet.
    """

    policy: Mapping[str, int] | None = None
    holds: dict[str, frozenset[str]] = field(default_factory=dict)
    records: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    minimum: int = 0
    kept: frozenset[int] = frozenset()
    writers: Mapping[str, int] = field(default_factory=dict)
    next: int = 0

    def held(self, actors: Iterable[str | None]) -> list[str]:
        """Return the names of the holds that cover one of *actors*; None is anybody."""
        people = set(actors)
        return sorted(
            name
            for name, subjects in self.holds.items()
            if not subjects or None in people or subjects & people
        )


def leaves(log: Entries, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (index, leaf) of what is left of a log from *start* on, published or pending."""
    if start == 0:
        from secureml.evidence.pruning import first_entry

        start = first_entry(log.directory, log.size)
    yield from enumerate(log.entries(start), start)


def read_standing(
    found: Iterable[tuple[int, bytes]], standing: Standing | None = None
) -> Standing:
    """
    Read leaves, from the first that is left or on from *standing*.

    Raises:
        FormatError: A leaf of these types is not in its form.
    """
    standing = standing or Standing()
    for index, leaf in found:
        standing.next = index + 1
        if _LIKELY.search(leaf):
            _apply(standing, index, Record.decode(leaf))
    return standing


def _apply(standing: Standing, index: int, record: Record) -> None:
    match record.type:
        case "hold":
            hold_of(standing, cast("Mapping[str, JSON]", record.body["hold"]))
        case "erasure":
            erasure = cast("Mapping[str, list[str]]", record.body["erasure"])
            standing.records.update(erasure["records"])
            standing.keys.update(erasure.get("keys", ()))
        case "retention":
            standing.policy = policy_of(record.body["retention"])
        case "prune":
            prune = cast("Mapping[str, JSON]", record.body["prune"])
            minimum, kept = prune_of(prune)
            if standing.minimum <= minimum <= index:
                standing.minimum, standing.kept = minimum, kept
                standing.writers = _writers(prune.get("writers"))
                if standing.policy is None:
                    standing.policy = policy_of(prune.get("policy"))


def hold_of(standing: Standing, hold: Mapping[str, JSON]) -> None:
    """Take note of a hold that is placed or released, as it stands in a record."""
    name = cast("str", hold["name"])
    if hold["state"] == "released":
        standing.holds.pop(name, None)
    else:
        standing.holds[name] = _subjects(hold.get("subjects"))


def _subjects(value: JSON) -> frozenset[str]:
    # What cannot be understood holds everything.
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return frozenset(value)
    return frozenset()


def policy_of(value: JSON) -> dict[str, int]:
    """
    Return days by class, of a policy as it stands in a record.

    Raises:
        FormatError: It is not in its form.
    """
    match value:
        case {"default_days": int(days), **rest}:
            classes = rest.get("classes", {})
            if isinstance(classes, dict) and "" not in classes:
                found = {"": days, **classes}
                if all(
                    type(days) is int and 1 <= days <= MAX_DAYS and len(name) <= _LABEL
                    for name, days in found.items()
                ):
                    return found
    raise _malformed("a retention policy is default_days, and days by class, 1 to 36,525")


def prune_of(prune: Mapping[str, JSON]) -> tuple[int, frozenset[int]]:
    """
    Return the minimum index and the kept bundles of a ``prune`` record.

    Raises:
        FormatError: It is not in its form.
    """
    minimum, kept = prune.get("minimum"), prune.get("kept")
    if (
        isinstance(minimum, int)
        and type(minimum) is int
        and minimum >= 0
        and minimum % _BUNDLE == 0
        and isinstance(kept, list)
        and all(type(one) is int and 0 <= one < minimum // _BUNDLE for one in kept)
    ):
        return minimum, frozenset(cast("list[int]", kept))
    raise _malformed("a pruning is a minimum index, a multiple of 256, and the bundles kept below")


def _writers(value: JSON) -> dict[str, int]:
    if value is None:
        return {}
    if isinstance(value, dict) and all(
        _WRITER.fullmatch(name) and type(number) is int and number >= 0
        for name, number in value.items()
    ):
        return cast("dict[str, int]", value)
    raise _malformed("the writers of a pruning are their next sequence numbers, by name")


def _malformed(why: str) -> FormatError:
    return FormatError(
        "a record about the log itself is malformed",
        why=f"{why} (docs/spec/retention.md)",
        fix="nothing is erased or pruned by it; find out what wrote it",
    )
