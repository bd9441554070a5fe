"""Time has one spelling."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.clock import format_time, now, parse_time
from secureml.errors import FormatError

zones = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
times = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones)  # noqa: DTZ001  the zone is drawn


@given(times)
def test_a_time_is_kept_to_the_microsecond(time: datetime) -> None:
    """Reading what was written gives the same moment."""
    assert parse_time(format_time(time)) == time


@given(times, times)
def test_the_spelling_sorts_as_time(one: datetime, other: datetime) -> None:
    """Spelled times are in the order of the times."""
    assert (format_time(one) < format_time(other)) == (one < other)


@given(st.text(alphabet="0123456789-:.TZ+ ", max_size=30) | st.text(max_size=30))
def test_no_second_spelling(text: str) -> None:
    """Text is refused, or is the one spelling of its time."""
    try:
        time = parse_time(text)
    except FormatError:
        return
    assert format_time(time) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T08:30:00Z",
        "2026-11-22T08:30:00.000Z",
        "2026-11-22T08:30:00.000000+00:00",
        "2026-11-22t08:30:00.000000z",
        "2026-11-22 08:30:00.000000Z",
        "2026-02-30T08:30:00.000000Z",
        "2026-11-22T24:00:00.000000Z",
        "2026-11-22T08:30:60.000000Z",
        "0000-11-22T08:30:00.000000Z",
        " 2026-11-22T08:30:00.000000Z",
        "2026-11-22T08:30:00.000000Z\n",
        "२०२६-11-22T08:30:00.000000Z",
        "",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    """Anything but RFC 3339 in UTC with six digits is a format error."""
    with pytest.raises(FormatError, match=r"is not a time \[SML100\]"):
        parse_time(text)


def test_the_known_time() -> None:
    """The spelling is the one that the docs show."""
    time = datetime(2026, 11, 22, 9, 30, tzinfo=timezone(timedelta(hours=1)))

    assert format_time(time) == "2026-11-22T08:30:00.000000Z"


def test_a_time_needs_a_zone() -> None:
    """A naive time is the caller's bug."""
    with pytest.raises(ValueError, match="needs a time zone"):
        format_time(datetime(2026, 11, 22))  # noqa: DTZ001  that is the point


def test_now_is_in_utc() -> None:
    """The clock gives UTC."""
    assert now().tzinfo is UTC
