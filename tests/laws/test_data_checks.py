# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""Checks: any split of the rows, merged in any order, gives one and the same finding."""

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from secureml.data import Rows, checks
from secureml.data._values import bounds_of
from secureml.gates import Check, Finding
from secureml.hashing import canonicalise
from secureml.wire.manifest import Entry

COLUMNS = {
    "i": st.none() | st.integers(-3, 3),
    "f": st.none() | st.sampled_from([0.0, -0.0, 0.5, 1.0, float("nan"), float("inf")]),
    "t": st.none() | st.sampled_from(["", "a", "b"]),
    "b": st.none() | st.booleans(),
}
TYPES = {"i": pa.int64(), "f": pa.float64(), "t": pa.string(), "b": pa.bool_()}
CHECKS: list[Check] = [
    checks.not_null("i"),
    checks.not_null("f"),
    checks.between("i", -2, 2),
    checks.between("f", 0, 1, ignore_null=True),
    checks.between("t", "a", "b"),
    checks.between("b", 0, 1),
    checks.in_set("t", ["a", "b"]),
    checks.in_set("i", [0, 1, 2], ignore_null=True),
    checks.in_set("b", [True]),
    checks.unique("i"),
    checks.unique("i", "f", "t"),
    checks.row_count(3, 6),
    checks.no_conflicting_labels("b"),
    checks.no_conflicting_labels("t", ["i"]),
    checks.not_null("missing"),
    checks.unique("missing"),
]

tables = st.integers(0, 9).flatmap(
    lambda n: st.fixed_dictionaries(
        {name: st.lists(values, min_size=n, max_size=n) for name, values in COLUMNS.items()}
    )
)


def _table(columns: dict[str, list[Any]]) -> pa.Table:
    return canonicalise(
        pa.table({name: pa.array(values, TYPES[name]) for name, values in columns.items()})
    )


def _rows(table: pa.Table, start: int, stop: int) -> list[Rows]:
    part = table.slice(start, stop - start).combine_chunks()
    return [Rows(start, batch) for batch in part.to_batches()]


def _measure(check: Check, table: pa.Table, cuts: list[int], seed: int) -> Finding:
    """Measure each part by a state of its own, and merge the states in a random tree."""
    edges = sorted({0, table.num_rows, *(cut for cut in cuts if cut <= table.num_rows)})
    states = []
    for start, stop in zip(edges, [*edges[1:], edges[-1]], strict=True):
        state = check.start()
        for rows in _rows(table, start, stop):
            state.update(rows)
        states.append(state)
    shuffled = random.Random(seed)  # noqa: S311  a choice of order, no secret
    while len(states) > 1:
        shuffled.shuffle(states)
        state = states.pop()
        state.merge(states.pop())
        states.append(state)
    return states[0].finish()


@given(tables, st.sampled_from(CHECKS), st.lists(st.integers(0, 9)), st.integers(0, 99))
def test_any_split_gives_the_same_finding(
    columns: dict[str, list[Any]], check: Check, cuts: list[int], seed: int
) -> None:
    """Merging is associative, and its order says nothing."""
    table = _table(columns)

    assert _measure(check, table, [], 0) == _measure(check, table, cuts, seed)


@given(tables, st.sampled_from(CHECKS))
def test_findings_agree_with_plain_python(columns: dict[str, list[Any]], check: Check) -> None:
    """A second, simple implementation of each check says the same."""
    assert _plain(check, columns) is _measure(check, _table(columns), [], 0).passed


def _plain(check: Any, columns: dict[str, list[Any]]) -> bool:
    rows = len(columns["i"])
    if not rows or not check.needs <= set(columns):
        return False
    kind = check.id
    if kind == "row_count@1":
        return bool(check.minimum <= rows <= check.maximum)
    if kind in {"unique@1", "no_conflicting_labels@1"}:
        return _plain_groups(check, columns)
    values = columns[check.column]
    if all(value is None for value in values):
        return False
    return all(_plain_value(check, value) for value in values)


def _plain_value(check: Any, value: Any) -> bool:
    if value is None:
        return bool(check.ignores_null)
    if value != value:  # noqa: PLR0124  NaN
        return False
    match check.id:
        case "not_null@1":
            return True
        case "between@1" if check.kind == "text":
            return bool(check.low <= value <= check.high)
        case "between@1":
            return not isinstance(value, bool) and float(check.low) <= value <= float(check.high)
        case _ if check.kind == "boolean":
            return str(value).lower() in check.members
        case _:
            return str(value) in check.members


def _plain_groups(check: Any, columns: dict[str, list[Any]]) -> bool:
    def key(names: Any, row: int) -> tuple[Any, ...]:
        found = (columns[name][row] for name in names)
        return tuple("nan" if v != v else v for v in found)  # noqa: PLR0124  NaN

    rows = range(len(columns["i"]))
    if check.id == "unique@1":
        keys = [key(check.columns, row) for row in rows]
        whole = all(part is not None and part != "nan" for k in keys for part in k)
        return whole and len(set(keys)) == len(keys)
    if all(label is None for label in columns[check.label]):
        return False
    names = check.features or [name for name in columns if name != check.label]
    labels: dict[tuple[Any, ...], set[Any]] = {}
    for row in rows:
        labels.setdefault(key(names, row), set()).add(columns[check.label][row])
    return all(len(found) == 1 for found in labels.values())


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), unique_by=lambda e: e[0]),
    st.sampled_from(
        [checks.file_count(1, 4), checks.extensions([".a"]), checks.no_duplicate_files()]
    ),
    st.integers(0, 6),
)
def test_any_split_of_a_tree_gives_the_same_finding(
    files: list[tuple[str, int]], check: Check, cut: int
) -> None:
    """Files may be taken in any order, by any number of workers."""
    entries = [Entry(name, bytes([content]) * 32) for name, content in files]
    whole, first, second = check.start(), check.start(), check.start()
    for entry in entries:
        whole.update(entry)
    for entry in reversed(entries[:cut]):
        first.update(entry)
    for entry in entries[cut:]:
        second.update(entry)
    second.merge(first)

    assert whole.finish() == second.finish()


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**20)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, max_value=10**20),
)
def test_whole_numbers_compare_exactly(value: int, low: Decimal, high: Decimal) -> None:
    """However large, against any decimal."""
    if low > high:
        low, high = high, low
    found = _measure(checks.between("i", low, high), _one("i", value), [], 0)

    assert (Fraction(low) <= value <= Fraction(high)) is found.passed


@given(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_floats_compare_exactly(value: float, low: float, high: float) -> None:
    """As the very numbers that were given."""
    low, high = sorted((low, high))
    found = _measure(checks.between("f", low, high), _one("f", value), [], 0)

    assert (low <= value <= high) is found.passed


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_bound_is_written_without_loss(value: float) -> None:
    """The text of a number is the number."""
    kind, low, _ = bounds_of(value, value)

    assert kind == "number"
    assert float(low) == value


def _one(name: str, value: Any) -> pa.Table:
    return canonicalise(pa.table({name: pa.array([value], TYPES[name])}))
