"""
Checks that compare rows with each other: unique, no conflicting labels.

Rows are grouped exactly, by value, with Arrow's own grouping: no hash that
could collide stands between two rows.  Memory grows with the number of
distinct rows, and only with the columns that the check looks at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from secureml._extras import require
from secureml.data.rows import Arrow, Rows
from secureml.gates.check import Finding, check_name, not_made
from secureml.wire.canonical import JSON

__all__ = ["NoConflictingLabels", "Unique"]

_COMPACT_AT = 2**19


@dataclass(slots=True)
class _Groups:
    """Distinct rows, each with how often it was seen and where first."""

    keys: int = 0
    rows: int = 0
    tables: list[Arrow] = field(default_factory=list)
    _limit: int = _COMPACT_AT

    def add(self, columns: Sequence[Arrow], start: int) -> None:
        pa = _arrow()
        count = len(columns[0])
        self.keys = len(columns)
        arrays = [*columns, pa.repeat(pa.scalar(1, pa.int64()), count), _range(start, count)]
        self._take(pa.Table.from_arrays(arrays, names=[*self._names(), "n", "first"]))
        self.rows += count

    def merge(self, other: "_Groups") -> None:
        self.keys = self.keys or other.keys
        self.rows += other.rows
        for table in other.tables:
            self._take(table)

    def table(self) -> Arrow:
        """Return one row for each distinct row."""
        self._compact()
        return self.tables[0]

    def _names(self) -> list[str]:
        return [f"k{i}" for i in range(self.keys)]

    def _take(self, table: Arrow) -> None:
        self.tables.append(table)
        if sum(t.num_rows for t in self.tables) > self._limit:
            self._compact()
            self._limit = max(_COMPACT_AT, 2 * self.tables[0].num_rows)

    def _compact(self) -> None:
        pa = _arrow()
        self.tables = [regroup(pa.concat_tables(self.tables), self._names())]


def regroup(table: Arrow, names: list[str]) -> Arrow:
    """Group by *names*, adding up ``n`` and keeping the least ``first``."""
    grouped = table.group_by(names, use_threads=False).aggregate([("n", "sum"), ("first", "min")])
    arrays = [*(grouped.column(name) for name in names), grouped["n_sum"], grouped["first_min"]]
    return _arrow().Table.from_arrays(arrays, names=[*names, "n", "first"])


@dataclass(frozen=True, slots=True)
class Unique:
    """
    No two rows have the same values in these columns, and none is null.

    Attributes:
        columns: Sorted names.
    """

    over: ClassVar[str] = "table"
    id: ClassVar[str] = "unique@1"

    columns: tuple[str, ...]

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        return {"columns": list(self.columns)}

    @property
    def needs(self) -> frozenset[str]:
        """The columns."""
        return frozenset(self.columns)

    def start(self) -> "_UniqueState":
        """Begin a measurement."""
        return _UniqueState(self)


@dataclass(slots=True)
class _UniqueState:
    check: Unique
    rows: int = 0
    nulls: int = 0
    first_null: int | None = None
    groups: _Groups = field(default_factory=_Groups)
    problems: set[str] = field(default_factory=set)

    def update(self, part: Rows) -> None:
        """Take some rows."""
        if not len(part):
            return
        pc = require("pyarrow.compute", purpose="to check a table")
        self.rows += len(part)
        keys = _keys(part, self.check.columns, self.problems)
        if keys is None:
            return
        empty = None
        for key in keys:
            null = pc.is_null(key, nan_is_null=True)
            empty = null if empty is None else pc.or_(empty, null)
        self.nulls += (found := pc.sum(empty).as_py() or 0)
        if found:
            place = part.start + pc.index(empty, True).as_py()
            self.first_null = place if self.first_null is None else min(self.first_null, place)
        self.groups.add(keys, part.start)

    def merge(self, other: Self) -> None:
        """Take what another state has seen."""
        self.rows += other.rows
        self.nulls += other.nulls
        places = [p for p in (self.first_null, other.first_null) if p is not None]
        self.first_null = min(places, default=None)
        self.groups.merge(other.groups)
        self.problems |= other.problems

    def finish(self) -> Finding:
        """Return the finding."""
        name = check_name(self.check)
        if self.problems:
            return not_made(name, "; ".join(sorted(self.problems)))
        if not self.rows:
            return _no_rows(name)
        pc = require("pyarrow.compute", purpose="to check a table")
        table = self.groups.table()
        repeated = table.filter(pc.greater(table["n"], 1))
        repeats = (pc.sum(repeated["n"]).as_py() or 0) - repeated.num_rows
        counts = {"rows": self.rows, "failed": repeats, "nulls": self.nulls}
        columns = ", ".join(self.check.columns)
        if self.nulls:
            message = (
                f"{self.nulls} of {self.rows} rows: {columns} null (first at row "
                f"{self.first_null})"
            )
            return Finding(name, passed=False, message=message, counts=counts)
        if repeats:
            first = pc.min(repeated["first"]).as_py()
            message = (
                f"{repeats} of {self.rows} rows: {columns} repeats an earlier row (the first "
                f"repeated row is row {first})"
            )
            counts["first"] = first
            return Finding(name, passed=False, message=message, counts=counts)
        message = f"{self.rows} rows: {columns} unique"
        return Finding(name, passed=True, message=message, counts=counts)


@dataclass(frozen=True, slots=True)
class NoConflictingLabels:
    """
    No two rows with equal features have different labels.

    Attributes:
        label: The label's column.
        features: Sorted names; None for every other column.
    """

    over: ClassVar[str] = "table"
    id: ClassVar[str] = "no_conflicting_labels@1"

    label: str
    features: tuple[str, ...] | None

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        features: JSON = None if self.features is None else list(self.features)
        return {"features": features, "label": self.label}

    @property
    def needs(self) -> frozenset[str]:
        """The label and the features that are named."""
        return frozenset({self.label, *(self.features or ())})

    def start(self) -> "_LabelState":
        """Begin a measurement."""
        return _LabelState(self)


@dataclass(slots=True)
class _LabelState:
    check: NoConflictingLabels
    rows: int = 0
    unlabelled: int = 0
    groups: _Groups = field(default_factory=_Groups)
    problems: set[str] = field(default_factory=set)

    def update(self, part: Rows) -> None:
        """Take some rows."""
        if not len(part):
            return
        self.rows += len(part)
        label = self.check.label
        features = self.check.features
        if features is None:
            features = tuple(name for name in part.names if name != label)
        if not features:
            self.problems.add(f"there is no column beside the label {label!r}")
            return
        keys = _keys(part, (*features, label), self.problems)
        if keys is None:
            return
        self.unlabelled += keys[-1].null_count
        self.groups.add(keys, part.start)

    def merge(self, other: Self) -> None:
        """Take what another state has seen."""
        self.rows += other.rows
        self.unlabelled += other.unlabelled
        self.groups.merge(other.groups)
        self.problems |= other.problems

    def finish(self) -> Finding:
        """Return the finding."""
        name = check_name(self.check)
        if self.problems:
            return not_made(name, "; ".join(sorted(self.problems)))
        if not self.rows:
            return _no_rows(name)
        label = self.check.label
        if self.unlabelled == self.rows:
            message = f"all {self.rows} rows: {label} null"
            return Finding(name, passed=False, message=message, counts={"rows": self.rows})
        groups, rows, first = self._conflicts()
        counts = {"rows": self.rows, "failed": rows, "groups": groups}
        if groups:
            message = (
                f"{rows} of {self.rows} rows: equal features, different {label}, in {groups} "
                f"groups (first at row {first})"
            )
            return Finding(name, passed=False, message=message, counts={**counts, "first": first})
        message = f"{self.rows} rows: equal features have equal {label}"
        return Finding(name, passed=True, message=message, counts=counts)

    def _conflicts(self) -> tuple[int, int, int]:
        """Return how many groups conflict, their rows, and the first of these."""
        pc = require("pyarrow.compute", purpose="to check a table")
        table = self.groups.table()
        features = table.column_names[: self.groups.keys - 1]
        grouped = table.group_by(features, use_threads=False).aggregate(
            [("n", "count"), ("n", "sum"), ("first", "min")]
        )
        conflicts = grouped.filter(pc.greater(grouped["n_count"], 1))
        if not conflicts.num_rows:
            return 0, 0, 0
        rows = pc.sum(conflicts["n_sum"]).as_py()
        return conflicts.num_rows, rows, pc.min(conflicts["first_min"]).as_py()


def _keys(part: Rows, names: Sequence[str], problems: set[str]) -> list[Arrow] | None:
    """Return the columns *names* as keys, or None after saying why not."""
    keys = []
    for name in names:
        column = part.column(name)
        if column is None:
            problems.add(f"there is no column {name!r}")
        elif _arrow().types.is_nested(column.type):
            problems.add(f"column {name!r}: its type is {column.type}, which does not compare")
        else:
            keys.append(_key(column))
    return keys if len(keys) == len(names) else None


def _key(column: Arrow) -> Arrow:
    """Return *column* with one spelling for zero and for NaN."""
    pa, pc = _arrow(), require("pyarrow.compute", purpose="to check a table")
    if not pa.types.is_floating(column.type):
        return column
    wide = pc.add(column.cast(pa.float64()), pa.scalar(0.0))
    return pc.if_else(pc.is_nan(wide), pa.scalar(float("nan")), wide)


def _range(start: int, count: int) -> Arrow:
    pa = _arrow()
    pc = require("pyarrow.compute", purpose="to check a table")
    ones = pa.repeat(pa.scalar(1, pa.int64()), count)
    return pc.add(pc.cumulative_sum(ones), pa.scalar(start - 1, pa.int64()))


def _no_rows(name: str) -> Finding:
    return Finding(name, passed=False, message="there are no rows", counts={"rows": 0})


def _arrow() -> Arrow:
    return require("pyarrow", purpose="to check a table")
