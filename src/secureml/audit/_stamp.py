"""
Ids and times for records, cheaply: one reading of the clock gives both.

An id is a UUID of version 7 (RFC 9562 section 5.7).  What repeats within a
second, and within a millisecond, is spelled once.
"""

import time
from typing import Final

from secureml.audit.sink import spell_time
from secureml.clock import Clock, now

__all__ = ["NOISE", "spell", "stamp"]

NOISE: Final = 10
"""Random bytes of an id."""

_SECOND: Final = 1_000_000_000
_VARIANT: Final = "89ab"

_second: tuple[int, str] = (-1, "")
_milli: tuple[int, str] = (-1, "")


def spell(nanoseconds: int) -> str:
    """Return the time, in nanoseconds since 1970, as `format_time` spells it."""
    global _second  # noqa: PLW0603  replaced whole, so any thread may
    second, rest = divmod(nanoseconds, _SECOND)
    known = _second
    if known[0] != second:
        known = _second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    return f"{known[1]}.{rest // 1000:06d}Z"


def stamp(clock: Clock, noise: bytes) -> tuple[str, str]:
    """Return a fresh id, made with the first `NOISE` bytes of *noise*, and the time."""
    global _milli  # noqa: PLW0603  replaced whole, so any thread may
    nanoseconds = time.time_ns()
    milli = nanoseconds // 1_000_000
    known = _milli
    if known[0] != milli:
        text = f"{milli:012x}"
        known = _milli = (milli, f"{text[:8]}-{text[8:]}-7")
    digits = noise.hex()
    name = f"{known[1]}{digits[:3]}-{_VARIANT[noise[9] & 3]}{digits[3:6]}-{digits[6:18]}"
    return name, spell(nanoseconds) if clock is now else spell_time(clock())
