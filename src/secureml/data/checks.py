"""
What can be asked of a dataset; each function returns a check, as a value.

Of a table: `not_null`, `between`, `in_set`, `unique`, `row_count`,
`no_conflicting_labels`.  Of a tree of files: `file_count`, `extensions`,
`no_duplicate_files`.

They fail closed.  No rows, a missing column, a column that is all null and a
type that does not compare are all *not passed*; so is a null or a NaN where a
value is asked for, unless ``ignore_null=True`` says otherwise, which is then
part of the check's name.  Rows are counted from 0.
"""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import TypeAlias

from secureml.data._group_checks import NoConflictingLabels, Unique
from secureml.data._row_checks import Between, InSet, NotNull
from secureml.data._values import bounds_of, members_of
from secureml.data._whole_checks import Extensions, FileCount, NoDuplicateFiles, RowCount

__all__ = [
    "between",
    "extensions",
    "file_count",
    "in_set",
    "no_conflicting_labels",
    "no_duplicate_files",
    "not_null",
    "row_count",
    "unique",
]

Bound: TypeAlias = float | Decimal | str | date
"""A number, a text, a date or a time."""


def not_null(column: str) -> NotNull:
    """
    Ask that every row has a value in *column*; NaN is none.

    Raises:
        TypeError, ValueError: *column* is not a name.
    """
    return NotNull(_column(column))


def between(column: str, low: Bound, high: Bound, *, ignore_null: bool = False) -> Between:
    """
    Ask that every value of *column* is from *low* to *high*, both included.

    Numbers compare exactly with integer and decimal columns, and as the
    nearest number of the column's own type with floating-point columns.  Texts
    compare by their UTF-8 bytes.  A time with a zone compares with timestamps
    with a zone, one without with those without.  NaN is between nothing.

    Args:
        column: The column.
        low: The least that passes.
        high: The most that passes, of the same kind.
        ignore_null: Leave nulls out, instead of failing them.

    Raises:
        TypeError: The bounds do not compare with each other.
        ValueError: A bound is NaN or infinite, or *low* is above *high*.
    """
    kind, first, last = bounds_of(low, high)
    return Between(_column(column), kind, first, last, bool(ignore_null))


def in_set(
    column: str, values: Iterable[float | Decimal | str | bool], *, ignore_null: bool = False
) -> InSet:
    """
    Ask that every value of *column* is one of *values*.

    Args:
        column: The column.
        values: Numbers, texts or booleans, all of one kind.
        ignore_null: Leave nulls out, instead of failing them.

    Raises:
        TypeError: *values* is no collection, or its members differ in kind.
        ValueError: There are none, or one is NaN or infinite.
    """
    kind, members = members_of(values)
    return InSet(_column(column), kind, members, bool(ignore_null))


def unique(*columns: str | Iterable[str]) -> Unique:
    """
    Ask that no two rows agree in all of *columns*, and that none is null there.

    Args:
        columns: Names, or one list of names.

    Raises:
        TypeError, ValueError: They are not names, or one is given twice.
    """
    names: list[object] = []
    for item in columns:
        names.extend([item] if isinstance(item, str) else list(item))
    return Unique(_columns(names, "unique"))


def row_count(minimum: int | None = None, maximum: int | None = None) -> RowCount:
    """
    Ask that a table has from *minimum* to *maximum* rows; no rows never pass.

    Raises:
        TypeError, ValueError: No limit is given, or they are not counts in order.
    """
    return RowCount(*_limits(minimum, maximum, "row_count"))


def no_conflicting_labels(
    label: str, features: Iterable[str] | None = None
) -> NoConflictingLabels:
    """
    Ask that rows with equal features have equal labels.

    A null equals a null, NaN equals NaN and 0.0 equals -0.0.

    Args:
        label: The label's column.
        features: Columns; every column but the label when None.

    Raises:
        TypeError, ValueError: They are not names, or the label is among the features.
    """
    _column(label)
    if features is None:
        return NoConflictingLabels(label, None)
    names = _columns([features] if isinstance(features, str) else list(features), "features")
    if label in names:
        msg = f"the label {label!r} is among its features: leave it out"
        raise ValueError(msg)
    return NoConflictingLabels(label, names)


def file_count(minimum: int | None = None, maximum: int | None = None) -> FileCount:
    """
    Ask that a tree has from *minimum* to *maximum* files; no files never pass.

    Raises:
        TypeError, ValueError: No limit is given, or they are not counts in order.
    """
    return FileCount(*_limits(minimum, maximum, "file_count"))


def extensions(allowed: Iterable[str]) -> Extensions:
    """
    Ask that every file's name ends in one of *allowed*, large and small letters alike.

    Raises:
        TypeError, ValueError: They are not endings such as ``".png"``.
    """
    ends = [allowed] if isinstance(allowed, str) else list(allowed)
    given: list[object] = list(ends)
    for item in given:
        if not isinstance(item, str):
            msg = f"an ending is text such as '.png', not {type(item).__name__}"
            raise TypeError(msg)
    for end in ends:
        if not end.startswith(".") or end == "." or "/" in end:
            msg = f"an ending begins with its dot, as '.png' does, got {end!r}"
            raise ValueError(msg)
    if not ends:
        msg = "extensions takes at least one ending, such as {'.png'}"
        raise ValueError(msg)
    return Extensions(tuple(sorted({end.lower() for end in ends})))


def no_duplicate_files() -> NoDuplicateFiles:
    """Ask that no two files of a tree have the same bytes."""
    return NoDuplicateFiles()


def _column(name: object) -> str:
    if not isinstance(name, str):
        msg = f"a column is named by text, not {type(name).__name__}"
        raise TypeError(msg)
    if not name:
        msg = "a column's name is empty"
        raise ValueError(msg)
    return name


def _columns(names: list[object], what: str) -> tuple[str, ...]:
    columns = [_column(name) for name in names]
    if not columns or len(set(columns)) != len(columns):
        msg = f"{what} takes at least one column, and each once, got {columns}"
        raise ValueError(msg)
    return tuple(sorted(columns))


def _limits(minimum: object, maximum: object, what: str) -> tuple[int, int | None]:
    for limit in (minimum, maximum):
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
            msg = f"{what} takes whole numbers, not {type(limit).__name__}"
            raise TypeError(msg)
    if minimum is None and maximum is None:
        msg = f"{what} takes a minimum, a maximum or both"
        raise ValueError(msg)
    low = 1 if minimum is None else minimum
    if (
        not isinstance(low, int)
        or not (maximum is None or isinstance(maximum, int))
        or low < 1
        or (maximum is not None and maximum < low)
    ):
        msg = (
            f"{what} takes a minimum of at least 1 and a maximum of at least that, got "
            f"{minimum} and {maximum}: nothing at all never passes a gate"
        )
        raise ValueError(msg)
    return low, maximum
