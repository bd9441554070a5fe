"""
Which rows are asked for: said once, held against an index or against each row.

Values are always bound or compared, never spelled into SQL.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, cast

from secureml.audit._columns import COLUMNS, Value
from secureml.clock import format_time

__all__ = ["Filter", "When", "Words", "make_filter"]

When: TypeAlias = datetime | str
"""A time: with a zone, or spelled as ISO 8601; a day alone begins at midnight UTC."""

Words: TypeAlias = str | Iterable[str]
"""One word, or any of several."""

_Test: TypeAlias = tuple[tuple[str, ...], str, tuple[Value, ...]]
"""Columns of which one has to hold; ``in``, ``null``, ``from`` or ``before``; with what."""


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Conditions that all have to hold.

    Attributes:
        tests: The conditions.
    """

    tests: tuple[_Test, ...] = ()

    def sql(self) -> tuple[str, list[Value]]:
        """Return a condition in SQL and what is bound to it."""
        words = ["1"]
        bound: list[Value] = []
        for columns, kind, values in self.tests:
            either = []
            for column in columns:
                if kind == "null":
                    either.append(f'"{column}" IS NULL')
                    continue
                bound += values
                marks = ", ".join("?" * len(values))
                sign = {"in": f"IN ({marks})", "from": ">= ?", "before": "< ?"}[kind]
                either.append(f'"{column}" {sign}')
            words.append(f"({' OR '.join(either)})")
        return " AND ".join(words), bound

    def keeps(self, row: Mapping[str, Value]) -> bool:
        """Return whether *row* fulfils every condition."""
        return all(
            any(_holds(row[column], kind, values) for column in columns)
            for columns, kind, values in self.tests
        )


def _holds(found: Value, kind: str, values: tuple[Value, ...]) -> bool:
    if kind == "null" or found is None:
        return kind == "null" and found is None
    if kind == "in":
        return found in values
    edge = cast("str", values[0])
    return cast("str", found) >= edge if kind == "from" else cast("str", found) < edge


def make_filter(
    *,
    where: Mapping[str, object] | None = None,
    since: When | None = None,
    until: When | None = None,
    types: Words | None = None,
    outcome: Words | None = None,
    actor: Words | None = None,
    model: Words | None = None,
) -> Filter:
    """
    Return the conditions that the arguments of a query say.

    Raises:
        ValueError: A column that does not exist, a time without a zone, or no time.
        TypeError: A value that no column can have.
    """
    tests: list[_Test] = []
    for column, value in (where or {}).items():
        if column not in COLUMNS:
            msg = f"there is no column {column!r}; there are {', '.join(COLUMNS)}"
            raise ValueError(msg)
        tests.append(_test((column,), value, COLUMNS[column]))
    if since is not None:
        tests.append((("time",), "from", (_moment(since),)))
    if until is not None:
        tests.append((("time",), "before", (_moment(until),)))
    named: Sequence[tuple[tuple[str, ...], Words | None]] = (
        (("type",), types),
        (("outcome",), outcome),
        (("actor",), actor),
        (("model_name", "model_digest"), model),
    )
    tests += [_test(columns, words, "text") for columns, words in named if words is not None]
    return Filter(tuple(tests))


def _test(columns: tuple[str, ...], value: object, kind: str) -> _Test:
    if value is None:
        return columns, "null", ()
    fits: Callable[[object], bool] = (
        (lambda one: type(one) is str) if kind == "text" else (lambda one: type(one) is int)
    )
    several = (value,) if isinstance(value, str | int) else value
    if not isinstance(several, Iterable):
        msg = f"{columns[0]!r} is {kind}, not {type(value).__name__}"
        raise TypeError(msg)
    found = tuple(several)
    if not all(map(fits, found)):
        msg = f"{columns[0]!r} is {kind}: give one value, several, or None for none"
        raise TypeError(msg)
    return columns, "in", cast("tuple[Value, ...]", found)


def _moment(when: When) -> str:
    if isinstance(when, str):
        try:
            given = datetime.fromisoformat(when)
        except ValueError:
            msg = f"{when[:40]!r} is no time: write 2026-11-22 or 2026-11-22T08:30:00Z"
            raise ValueError(msg) from None
        when = given.replace(tzinfo=UTC) if len(when) == len("2026-11-22") else given
    return format_time(when)
