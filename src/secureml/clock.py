"""
Time: always UTC, always spelled the one way, RFC 3339 with microseconds.

``2026-11-22T08:30:00.000000Z`` sorts as text in the order of time, and has no
second spelling.  A function that needs the time takes a `Clock`, so a test
passes a value instead of patching a module.

Source: RFC 3339 section 5.6.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

from secureml.errors import FormatError

__all__ = ["Clock", "format_time", "now", "parse_time"]


Clock = Callable[[], datetime]
"""Returns the time now, with a time zone."""

_SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def now() -> datetime:
    """Return the time of the system's clock, in UTC."""
    return datetime.now(UTC)


def format_time(time: datetime) -> str:
    """
    Spell *time* as RFC 3339 in UTC, with six digits of microseconds.

    Raises:
        ValueError: *time* has no time zone.
    """
    if time.tzinfo is None:
        msg = f"a time needs a time zone, got {time!r}: use datetime.now(timezone.utc)"
        raise ValueError(msg)
    # isoformat writes four digits of a year; strftime leaves that to the platform.
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """
    Read a time in the one spelling that `format_time` writes.

    Raises:
        FormatError: Any other spelling, or no such day.
    """
    try:
        if _SHAPE.fullmatch(text):
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        pass
    raise FormatError(
        f"{text[:40]!r} is not a time",
        why="a time is spelled YYYY-MM-DDThh:mm:ss.ffffffZ, in UTC (RFC 3339)",
        fix="check the record that holds it: it was edited, or written by something else",
    )
