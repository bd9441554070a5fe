"""
Holding the records of a log against a profile, as they go by.

What a later record may still bring, the review by a person, is waited for: a
call without it is remembered until its review comes, or the log ends.
"""

from collections.abc import Iterator

from secureml.audit.profiles import Missing, check, named
from secureml.audit.record import Record

__all__ = ["Profiled"]


class Profiled:
    """The calls of one log, under one profile."""

    __slots__ = ("_later", "_name", "_waiting")

    def __init__(self, name: str) -> None:
        self._name = name
        self._later = {rule.field for rule in named(name).rules if rule.when == "later"}
        self._waiting: dict[str, tuple[int, Record, list[Record]]] = {}

    def take(self, index: int, record: Record) -> Iterator[str]:
        """Take one record; yield what it lacks that no later record can bring."""
        if record.type == "call":
            for missing in check(record, self._name):
                if missing.field in self._later:
                    self._waiting[record.id] = index, record, []
                else:
                    yield _lacks(missing)
        elif record.type == "human-review":
            about = record.body.get("review")
            found = self._waiting.get(about) if isinstance(about, str) else None
            if found is not None:
                found[2].append(record)
                if not self._lacking(found[1], found[2]):
                    del self._waiting[found[1].id]

    def _lacking(self, record: Record, reviews: list[Record]) -> list[Missing]:
        every = check(record, self._name, reviews=reviews)
        return [missing for missing in every if missing.field in self._later]

    def close(self) -> Iterator[tuple[int, str]]:
        """Yield what no record brought, with the leaf of the call."""
        for index, record, reviews in self._waiting.values():
            for missing in self._lacking(record, reviews):
                yield index, _lacks(missing)


def _lacks(missing: Missing) -> str:
    return f"has no {missing.field!r}: {missing.demand} ({missing.source})"
