"""Checks that judge each row by itself: not null, between, in set."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

from secureml._extras import require
from secureml.data import _values
from secureml.data.rows import Arrow, Rows
from secureml.gates.check import Finding, check_name, not_made
from secureml.wire.canonical import JSON

__all__ = ["Between", "InSet", "NotNull", "RowCheck", "RowState"]


@dataclass(frozen=True, slots=True)
class RowCheck:
    """
    A check of one column, row by row.

    Attributes:
        column: The column's name.
    """

    over: ClassVar[str] = "table"
    id: ClassVar[str]

    column: str

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        return {"column": self.column}

    @property
    def needs(self) -> frozenset[str]:
        """The column."""
        return frozenset({self.column})

    def start(self) -> "RowState":
        """Begin a measurement."""
        return RowState(self)

    @property
    @abstractmethod
    def wanted(self) -> str:
        """What a row should be, for the message."""

    @property
    def ignores_null(self) -> bool:
        """Whether a null is left out, instead of failing."""
        return False

    @abstractmethod
    def holds(self, column: Arrow) -> Arrow:
        """Return for each row whether it is as wanted; null counts as no."""


@dataclass(slots=True)
class RowState:
    """What was counted so far; any split and any order of merging counts the same."""

    check: RowCheck
    rows: int = 0
    failed: int = 0
    nulls: int = 0
    first: int | None = None
    problems: set[str] = field(default_factory=set)

    def update(self, part: Rows) -> None:
        """Take some rows."""
        if not len(part):
            return
        pc = require("pyarrow.compute", purpose="to check a table")
        self.rows += len(part)
        column = part.column(self.check.column)
        if column is None:
            self.problems.add(f"there is no column {self.check.column!r}")
            return
        self.nulls += column.null_count
        try:
            good = pc.fill_null(self.check.holds(column), False)  # noqa: FBT003  the value comes first in this API
        except _values.Mismatch as error:
            self.problems.add(f"column {self.check.column!r}: {error}")
            return
        if self.check.ignores_null:
            good = pc.or_(good, pc.is_null(column))
        missed = len(part) - (pc.sum(good).as_py() or 0)
        if missed:
            self.failed += missed
            place = part.start + pc.index(good, False).as_py()
            self.first = place if self.first is None else min(self.first, place)

    def merge(self, other: Self) -> None:
        """Take what another state has counted."""
        self.rows += other.rows
        self.failed += other.failed
        self.nulls += other.nulls
        self.problems |= other.problems
        places = [place for place in (self.first, other.first) if place is not None]
        self.first = min(places, default=None)

    def finish(self) -> Finding:
        """Return the finding."""
        name = check_name(self.check)
        column = self.check.column
        if self.problems:
            return not_made(name, "; ".join(sorted(self.problems)))
        counts = {"rows": self.rows, "failed": self.failed, "nulls": self.nulls}
        if not self.rows:
            return Finding(name, passed=False, message="there are no rows", counts=counts)
        if self.nulls == self.rows:
            message = f"all {self.rows} rows: {column} null"
            return Finding(name, passed=False, message=message, counts=counts)
        if self.first is None:
            message = f"{self.rows} rows: {column} {self.check.wanted}"
            if self.nulls:
                message += f", {self.nulls} null left out"
            return Finding(name, passed=True, message=message, counts=counts)
        wrong = "null" if isinstance(self.check, NotNull) else f"not {self.check.wanted}"
        message = (
            f"{self.failed} of {self.rows} rows: {column} {wrong} (first at row {self.first})"
        )
        return Finding(name, passed=False, message=message, counts={**counts, "first": self.first})


@dataclass(frozen=True, slots=True)
class NotNull(RowCheck):
    """No null, and no NaN either."""

    id: ClassVar[str] = "not_null@1"

    @property
    def wanted(self) -> str:
        """What a row should be."""
        return "not null"

    def holds(self, column: Arrow) -> Arrow:
        """Return for each row whether it has a value."""
        pc = require("pyarrow.compute", purpose="to check a table")
        types = require("pyarrow", purpose="to check a table").types
        return (
            pc.is_valid(column)
            if not types.is_floating(column.type)
            else pc.invert(pc.is_null(column, nan_is_null=True))
        )


@dataclass(frozen=True, slots=True)
class Between(RowCheck):
    """From *low* to *high*, both included."""

    id: ClassVar[str] = "between@1"

    kind: str
    low: str
    high: str
    ignore_null: bool

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        params: dict[str, JSON] = {
            "as": self.kind,
            "column": self.column,
            "high": self.high,
            "low": self.low,
        }
        return params | {"ignoreNull": True} if self.ignore_null else params

    @property
    def wanted(self) -> str:
        """What a row should be."""
        return f"between {self.low} and {self.high}"

    @property
    def ignores_null(self) -> bool:
        """Whether a null is left out."""
        return self.ignore_null

    def holds(self, column: Arrow) -> Arrow:
        """Return for each row whether it is within the bounds."""
        return _values.within(column, self.kind, self.low, self.high)


@dataclass(frozen=True, slots=True)
class InSet(RowCheck):
    """One of *members*."""

    id: ClassVar[str] = "in_set@1"

    kind: str
    members: tuple[str, ...]
    ignore_null: bool

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        params: dict[str, JSON] = {
            "as": self.kind,
            "column": self.column,
            "values": list(self.members),
        }
        return params | {"ignoreNull": True} if self.ignore_null else params

    @property
    def wanted(self) -> str:
        """What a row should be."""
        return f"one of {len(self.members)} values"

    @property
    def ignores_null(self) -> bool:
        """Whether a null is left out."""
        return self.ignore_null

    def holds(self, column: Arrow) -> Arrow:
        """Return for each row whether it is a member."""
        return _values.contained(column, self.kind, self.members)
