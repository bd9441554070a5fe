# ruff: noqa: ANN401  fixtures and hostile values are of any type
# ruff: noqa: FBT001  what is expected is a parameter

"""What the checks of a table and of a tree find: known good, known bad, and fail-closed."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from secureml.data import checks as c
from secureml.gates.check import Finding, check_name
from secureml.wire.manifest import Entry

Find = Callable[..., Finding]
NAN = float("nan")


# --- every check, fail-closed ------------------------------------------------------------------

TABLE_CHECKS = [
    c.not_null("x"),
    c.between("x", 0, 9),
    c.between("x", 0, 9, ignore_null=True),
    c.in_set("x", [1, 2]),
    c.in_set("x", [1, 2], ignore_null=True),
    c.unique("x"),
    c.no_conflicting_labels("x"),
    c.no_conflicting_labels("x", ["y"]),
]
IDS = [check_name(check) for check in TABLE_CHECKS]


@pytest.mark.parametrize("check", [*TABLE_CHECKS, c.row_count(1)])
def test_no_rows_never_pass(check: Any, find: Find) -> None:
    """A gate of nothing would pass everything."""
    assert not check.start().finish().passed
    assert not find(check, x=pa.array([], pa.int64()), y=pa.array([], pa.int64())).passed


@pytest.mark.parametrize("check", TABLE_CHECKS, ids=IDS)
def test_a_missing_column_never_passes(check: Any, find: Find) -> None:
    """The finding names the column."""
    found = find(check, z=[1, 2])

    assert not found.passed
    assert "no column 'x'" in found.message or "no column 'y'" in found.message


@pytest.mark.parametrize("check", TABLE_CHECKS, ids=IDS)
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.null(), pa.string()])
def test_a_column_of_nulls_never_passes(check: Any, kind: Any, find: Find) -> None:
    """Also not where nulls are left out."""
    assert not find(check, x=pa.nulls(3, kind), y=[1, 2, 3]).passed


@pytest.mark.parametrize("check", TABLE_CHECKS[1:], ids=IDS[1:])
def test_a_type_that_does_not_compare_never_passes(check: Any, find: Find) -> None:
    """The finding says that it could not be made."""
    found = find(check, x=pa.array([[1], [2]]), y=[1, 2])

    assert not found.passed
    assert "could not be made" in found.message


def test_the_rows_of_a_failure_are_counted_from_zero(find: Find) -> None:
    """A message names how many, of how many, and where first."""
    found = find(c.not_null("x"), x=[1, 2, None, None, 5])

    assert found.message == "2 of 5 rows: x null (first at row 2)"
    assert found.counts == {"rows": 5, "failed": 2, "nulls": 2, "first": 2}


def test_a_passing_finding_says_what_was_seen(find: Find) -> None:
    """A yes has its counts too."""
    found = find(c.between("x", 0, 9), x=[1, 2, 3])

    assert found.passed
    assert found.message == "3 rows: x between 0 and 9"


# --- not_null ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_nan_is_null(kind: Any, find: Find) -> None:
    """A number that is none is no value."""
    assert not find(c.not_null("x"), x=pa.array([1.0, NAN]).cast(kind)).passed
    assert find(c.not_null("x"), x=pa.array([1.0, math.inf]).cast(kind)).passed


@pytest.mark.parametrize("values", [["a", ""], [[1], []], [{"a": 1}], [b""], [date.today()]])  # noqa: DTZ011  any day
def test_any_type_can_be_not_null(values: Any, find: Find) -> None:
    """Not null needs no comparison."""
    assert find(c.not_null("x"), x=values).passed
    assert not find(c.not_null("x"), x=[*values, None]).passed


# --- between -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "low", "high", "passed"),
    [
        (pa.int64(), [0, 5], 0, 5, True),
        (pa.int64(), [0, 5], 1, 5, False),
        (pa.int64(), [0, 5], 0, 4, False),
        (pa.int64(), [1], "0.5", "1.5", None),
        (pa.int64(), [1], 0.5, 1.5, True),
        (pa.int64(), [1], 1.2, 1.8, False),
        (pa.int64(), [2], 0.5, 1.5, False),
        (pa.int64(), [0], 0.5, 1.5, False),
        (pa.int64(), [-2], -1.5, -0.5, False),
        (pa.int64(), [0], -1.5, -0.5, False),
        (pa.int64(), [2**62 + 1], 2**62 + 1, 2**62 + 1, True),
        (pa.int64(), [2**62 + 1], 2**62 + 2, 2**63, False),
        (pa.int64(), [2**63 - 1], -(10**30), 10**30, True),
        (pa.int64(), [5], 10**30, 10**31, False),
        (pa.int8(), [-128, 127], -1000, 1000, True),
        (pa.int8(), [5], 200, 300, False),
        (pa.uint64(), [2**64 - 1], 0, 2**64 - 1, True),
        (pa.uint64(), [2**64 - 1], 0, 2**64 - 2, False),
        (pa.uint8(), [0], -5, 5, True),
        (pa.uint8(), [0], -5, -1, False),
        (pa.float64(), [0.1], 0, 0.1, True),
        (pa.float64(), [0.1], Decimal("0.1"), 1, True),
        (pa.float64(), [math.nextafter(0.1, 1)], 0, 0.1, False),
        (pa.float64(), [-0.0], 0, 1, True),
        (pa.float64(), [math.inf], 0, Decimal("1e400"), False),
        (pa.float64(), [-math.inf], Decimal("-1e400"), 0, False),
        (pa.float64(), [1e308], 0, Decimal("1e400"), True),
        (pa.float64(), [1e308], Decimal("1e400"), Decimal("1e401"), False),
        (pa.float32(), [0.1], 0, 0.1, True),
        (pa.float32(), [math.inf], 0, 1e300, False),
        (pa.float32(), [3e38], 0, 1e300, True),
        (pa.float16(), [0.1], 0.1, 0.1, True),
        (pa.decimal128(5, 2), [Decimal("1.25")], "1", "2", None),
        (pa.decimal128(5, 2), [Decimal("1.25")], Decimal("1.25"), Decimal("1.25"), True),
        (pa.decimal128(5, 2), [Decimal("1.25")], Decimal("1.251"), 2, False),
        (pa.decimal128(5, 2), [Decimal("1.25")], -(10**9), 10**9, True),
        (pa.decimal256(50, 2), [Decimal("1.25")], 1, 2, True),
        (pa.string(), ["b", "c"], "b", "c", True),
        (pa.string(), ["b", "\U0001f600"], "a", "\uffff", False),
        (pa.string(), ["5"], 0, 9, None),
        (pa.bool_(), [True], 0, 1, None),
        (pa.date32(), [date(2020, 1, 1)], date(2020, 1, 1), date(2020, 12, 31), True),
        (pa.date32(), [date(1960, 1, 1)], date(1969, 1, 1), date(2020, 12, 31), False),
        (pa.date64(), [date(2020, 1, 1)], date(2020, 1, 1), date(2020, 12, 31), True),
        (pa.date32(), [date(2020, 1, 1)], 0, 99999, None),
    ],
)
def test_between_compares_exactly(
    kind: Any, values: Any, low: Any, high: Any, passed: bool | None, find: Find
) -> None:
    """Whole numbers and decimals exactly, floats in their own type, texts by bytes."""
    found = find(
        c.between("x", low, high),
        x=pa.array(values, pa.float64()).cast(kind)
        if pa.types.is_floating(kind)
        else pa.array(values, kind),
    )

    assert found.passed is (passed is True)
    assert ("could not be made" in found.message) is (passed is None)


def test_nan_is_between_nothing(find: Find) -> None:
    """A peer's gate passes NaN; this one does not, nulls left out or not."""
    for ignore in (False, True):
        check = c.between("x", -(10**400), 10**400, ignore_null=ignore)
        assert not find(check, x=[1.0, NAN]).passed


def test_a_null_fails_unless_left_out(find: Find) -> None:
    """To leave nulls out is said, and is part of the check's name."""
    strict, loose = c.between("x", 0, 9), c.between("x", 0, 9, ignore_null=True)

    assert not find(strict, x=[1, None]).passed
    assert find(loose, x=[1, None]).passed
    assert "1 null left out" in find(loose, x=[1, None]).message
    assert check_name(strict) != check_name(loose)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_compare_by_the_instant(unit: str, find: Find) -> None:
    """A time with a zone, in any unit and from any zone."""
    moment = datetime(2024, 3, 1, 12, tzinfo=UTC)
    there = moment.astimezone(timezone(timedelta(hours=5)))
    column = pa.array([moment], pa.timestamp(unit, "Europe/Zurich"))

    assert find(c.between("x", there, there), x=column).passed
    assert not find(
        c.between("x", moment + timedelta(microseconds=1), there.max.replace(tzinfo=UTC)), x=column
    ).passed
    assert check_name(c.between("x", moment, moment)) == check_name(c.between("x", there, there))


def test_times_with_and_without_a_zone_do_not_compare(find: Find) -> None:
    """Nobody knows what instant a time without a zone is."""
    aware, naive = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)  # noqa: DTZ001  a time without a zone is the point
    with_zone = pa.array([aware], pa.timestamp("us", "UTC"))
    without = pa.array([naive], pa.timestamp("us"))

    assert find(c.between("x", naive, naive), x=without).passed
    assert not find(c.between("x", naive, naive), x=with_zone).passed
    assert not find(c.between("x", aware, aware), x=without).passed
    with pytest.raises(TypeError):
        c.between("x", aware, naive)


# --- in_set ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "members", "passed"),
    [
        (pa.string(), ["a", "b"], ["a", "b"], True),
        (pa.string(), ["a", "c"], {"a", "b"}, False),
        (pa.string(), ["a "], ["a"], False),
        (pa.string(), ["1"], [1], None),
        (pa.int64(), [1, 2], (1, 2.0), True),
        (pa.int64(), [1], [1.5], False),
        (pa.int8(), [1], [1, 1000], True),
        (pa.int8(), [1], [1000], False),
        (pa.uint64(), [2**64 - 1], [2**64 - 1], True),
        (pa.float64(), [0.0, -0.0], [0], True),
        (pa.float64(), [-0.0], [-0.0], True),
        (pa.float64(), [0.1], [0.1], True),
        (pa.float64(), [NAN], [1], False),
        (pa.float32(), [0.1], [0.1], True),
        (pa.float32(), [math.inf], [1e300], False),
        (pa.float16(), [0.1], [0.1], True),
        (pa.float64(), [math.inf], [Decimal("1e400")], False),
        (pa.bool_(), [True, False], [True, False], True),
        (pa.bool_(), [True, False], [True], False),
        (pa.bool_(), [True], [1], None),
        (pa.int64(), [1], [True], None),
        (pa.decimal128(5, 2), [Decimal("1.25")], [Decimal("1.250")], True),
        (pa.decimal128(5, 2), [Decimal("1.25")], [Decimal("1.251")], False),
        (pa.decimal256(50, 2), [Decimal("1.25")], [1.25], True),
    ],
)
def test_in_set_compares_exactly(
    kind: Any, values: Any, members: Any, passed: bool | None, find: Find
) -> None:
    """A member is equal in the column's own type, or it is none."""
    column = (
        pa.array(values, pa.float64()).cast(kind)
        if pa.types.is_floating(kind)
        else pa.array(values, kind)
    )
    found = find(c.in_set("x", members), x=column)

    assert found.passed is (passed is True)
    assert ("could not be made" in found.message) is (passed is None)


def test_in_set_leaves_nulls_out_only_when_told(find: Find) -> None:
    """A null is in no set."""
    assert not find(c.in_set("x", ["a"]), x=["a", None]).passed
    assert find(c.in_set("x", ["a"], ignore_null=True), x=["a", None]).passed


# --- unique ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "passed"),
    [
        ([1, 2, 3], True),
        ([1, 2, 1], False),
        (["a", "b"], True),
        (["a", "b", "a"], False),
        ([1.0, NAN], False),
        ([0.0, -0.0], False),
        ([1, None], False),
        ([None, None], False),
        ([b"a", b"b"], True),
        ([date(2020, 1, 1), date(2020, 1, 2)], True),
        ([Decimal("1.0"), Decimal("2.0")], True),
        ([Decimal("1.0"), Decimal("1.0")], False),
    ],
)
def test_unique(values: Any, passed: bool, find: Find) -> None:
    """A value stands once, and a null is no value."""
    assert find(c.unique("x"), x=values).passed is passed


def test_unique_over_columns(find: Find) -> None:
    """Rows differ when they differ in any of the columns."""
    assert find(c.unique("x", "y"), x=[1, 1, 2], y=["a", "b", "a"]).passed
    found = find(c.unique(["y", "x"]), x=[1, 1, 1], y=["a", "b", "a"])
    assert found.message == (
        "1 of 3 rows: x, y repeats an earlier row (the first repeated row is row 0)"
    )
    assert not find(c.unique("x", "y"), x=[1, 1], y=["a", None]).passed


def test_unique_holds_beyond_one_batch(find: Find) -> None:
    """A repetition is found wherever the two rows stand."""
    values = [*range(1000), 0]

    assert not find(c.unique("x"), size=100, x=values).passed
    assert find(c.unique("x"), size=100, x=values[:-1]).passed


# --- no_conflicting_labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "labels", "passed"),
    [
        ([1, 2, 3], ["a", "b", "a"], True),
        ([1, 1, 3], ["a", "a", "a"], True),
        ([1, 1, 3], ["a", "b", "a"], False),
        ([NAN, NAN], ["a", "b"], False),
        ([0.0, -0.0], ["a", "b"], False),
        ([None, None], ["a", "b"], False),
        ([None, None], ["a", "a"], True),
        ([1, 1], ["a", None], False),
        ([1, 1], [None, None], False),
    ],
)
def test_no_conflicting_labels(features: Any, labels: Any, passed: bool, find: Find) -> None:
    """Equal features have equal labels."""
    assert find(c.no_conflicting_labels("y"), x=features, y=labels).passed is passed


def test_a_conflict_is_counted_and_placed(find: Find) -> None:
    """Rows, groups, and the first of them."""
    found = find(
        c.no_conflicting_labels("y"), x=[9, 1, 2, 1, 2, 1], y=[0, 0, 0, 1, 1, 0], z=[0] * 6
    )

    assert found.message == (
        "5 of 6 rows: equal features, different y, in 2 groups (first at row 1)"
    )
    assert found.counts == {"rows": 6, "failed": 5, "groups": 2, "first": 1}


def test_named_features_leave_the_others_out(find: Find) -> None:
    """An id tells every row from every other, so the features can be named."""
    columns = {"id": [1, 2], "x": [1, 1], "y": ["a", "b"]}

    assert find(c.no_conflicting_labels("y"), **columns).passed
    assert not find(c.no_conflicting_labels("y", ["x"]), **columns).passed


def test_a_label_without_features_never_passes(find: Find) -> None:
    """Nothing was compared."""
    found = find(c.no_conflicting_labels("y"), y=["a", "b"])

    assert not found.passed
    assert "no column beside the label" in found.message


# --- counts and trees --------------------------------------------------------------------------


def test_row_count(find: Find) -> None:
    """From the minimum to the maximum, both included."""
    for check, passed in (
        (c.row_count(3), True),
        (c.row_count(4), False),
        (c.row_count(1, 3), True),
        (c.row_count(maximum=2), False),
        (c.row_count(maximum=3), True),
    ):
        assert find(check, x=[1, 2, 3]).passed is passed


def entry(name: str, content: int = 0) -> Entry:
    """Return a manifest entry."""
    return Entry(name, bytes([content]) * 32)


@pytest.mark.parametrize(
    ("check", "entries", "passed"),
    [
        (c.file_count(1), [], False),
        (c.file_count(2), [entry("a"), entry("b")], True),
        (c.file_count(3), [entry("a"), entry("b")], False),
        (c.file_count(1, 1), [entry("a"), entry("b")], False),
        (c.extensions([".png"]), [], False),
        (c.extensions([".png"]), [entry("a.png"), entry("d/b.PNG")], True),
        (c.extensions({".jpg", ".png"}), [entry("a.png"), entry("b.jpg")], True),
        (c.extensions([".png"]), [entry("a.png"), entry("a.png.exe")], False),
        (c.extensions([".png"]), [entry(".png")], False),
        (c.extensions([".png"]), [entry("apng")], False),
        (c.extensions([".tar.gz"]), [entry("a.tar.gz")], True),
        (c.extensions([".tar.gz"]), [entry("a.gz")], False),
        (c.no_duplicate_files(), [], False),
        (c.no_duplicate_files(), [entry("a", 1), entry("b", 2)], True),
        (c.no_duplicate_files(), [entry("a", 1), entry("b", 2), entry("c", 1)], False),
    ],
)
def test_tree_checks(check: Any, entries: Any, passed: bool, find_files: Find) -> None:
    """Known good passes, known bad does not, nothing at all never does."""
    assert find_files(check, entries).passed is passed
    assert find_files(check, entries[::-1]) == find_files(check, entries)


def test_duplicates_are_named(find_files: Find) -> None:
    """In the detail, which is never logged: a file's name may name a person."""
    found = find_files(c.no_duplicate_files(), [entry("c", 1), entry("b"), entry("a", 1)])

    assert found.message == "1 of 3 files repeat another"
    assert found.detail == "first: a and c"
    found = find_files(c.extensions([".png"]), [entry("c.jpg"), entry("b.jpg"), entry("a.png")])
    assert found.message == "2 of 3 files: not .png"
    assert found.detail == "first: b.jpg"


# --- what a caller can get wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: c.not_null(3), TypeError),
        (lambda: c.not_null(""), ValueError),
        (lambda: c.between("x", NAN, 1), ValueError),
        (lambda: c.between("x", 0, math.inf), ValueError),
        (lambda: c.between("x", 0, Decimal("sNaN")), ValueError),
        (lambda: c.between("x", 2, 1), ValueError),
        (lambda: c.between("x", "b", "a"), ValueError),
        (lambda: c.between("x", 0, "9"), TypeError),
        (lambda: c.between("x", False, True), TypeError),  # noqa: FBT003  the value comes first in this API
        (lambda: c.between("x", None, 1), TypeError),
        (lambda: c.between("x", 0, [1]), TypeError),
        (lambda: c.between("x", 0, Decimal(1).scaleb(6000)), ValueError),
        (lambda: c.between("x", 0, int("1" * 200)), ValueError),
        (lambda: c.between("x", datetime(900, 1, 1, tzinfo=UTC), datetime.now(UTC)), ValueError),
        (lambda: c.in_set("x", []), ValueError),
        (lambda: c.in_set("x", "ab"), TypeError),
        (lambda: c.in_set("x", 3), TypeError),
        (lambda: c.in_set("x", [1, "a"]), TypeError),
        (lambda: c.in_set("x", [1, True]), TypeError),
        (lambda: c.in_set("x", [date(2020, 1, 1)]), TypeError),
        (lambda: c.in_set("x", [None]), TypeError),
        (lambda: c.in_set("x", [NAN]), ValueError),
        (c.unique, ValueError),
        (lambda: c.unique("a", "a"), ValueError),
        (lambda: c.unique(["a", 3]), TypeError),
        (c.row_count, ValueError),
        (lambda: c.row_count(0), ValueError),
        (lambda: c.row_count(5, 4), ValueError),
        (lambda: c.row_count(maximum=0), ValueError),
        (lambda: c.row_count(1.5), TypeError),
        (lambda: c.row_count(True), TypeError),  # noqa: FBT003  the value comes first in this API
        (lambda: c.file_count("1"), TypeError),
        (lambda: c.no_conflicting_labels("y", ["x", "y"]), ValueError),
        (lambda: c.no_conflicting_labels("y", []), ValueError),
        (lambda: c.extensions([]), ValueError),
        (lambda: c.extensions(["png"]), ValueError),
        (lambda: c.extensions(["."]), ValueError),
        (lambda: c.extensions([3]), TypeError),
    ],
)
def test_a_wrong_parameter_is_found_at_once(
    make: Callable[[], object], error: type[Exception]
) -> None:
    """Before any data is read."""
    with pytest.raises(error):
        make()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (50, "50"),
        (50.0, "50"),
        (Decimal("50.00"), "50"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (1e-7, "0.0000001"),
        (1e22, "1e22"),
        (-1.5e300, "-15e299"),
        (2**70, "1180591620717411303424"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_a_number_has_one_text(value: Any, text: str) -> None:
    """Equal numbers make one and the same check."""
    check = c.in_set("x", [value])

    assert check.params["values"] == [text]
    assert c.in_set("x", [value, value]) == check


def test_nanoseconds_in_a_bound_are_refused() -> None:
    """A bound is given to the microsecond, so that it has one text."""
    pandas = pytest.importorskip("pandas")
    moment = pandas.Timestamp(1, unit="ns", tz="UTC")

    with pytest.raises(ValueError, match="microsecond"):
        c.between("x", moment, moment)


def test_numpy_numbers_are_numbers() -> None:
    """A bound may come out of an array."""
    numpy = pytest.importorskip("numpy")

    assert c.between("x", numpy.int64(0), numpy.float64(0.5)) == c.between("x", 0, 0.5)


def test_messages_hold_no_values(find: Find) -> None:
    """A finding is logged for ever: it names rows, never what stands in them."""
    secret = "Jane Roe"  # noqa: S105  a canary
    for check in (
        c.in_set("x", ["a"]),
        c.between("x", "a", "b"),
        c.unique("x"),
        c.no_conflicting_labels("x", ["y"]),
    ):
        found = find(check, x=[secret, secret, "b"], y=[1, 1, 1])
        assert not found.passed
        assert secret not in found.message
