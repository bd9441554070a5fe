"""
Ids and times for records, cheaply: one reading of the clock gives both.

An id is a UUID of version 7 (RFC 9562 section 5.7).  What repeats within a
second, and within a millisecond, is spelled once.  Random bytes are drawn for many calls at once:
asking the system for a few costs more than the rest of an id, and lets go of
the interpreter in the middle of a call.
"""

import os
import time
from collections import deque
from typing import Final

from secureml.clock import Clock, format_time, now

__all__ = ["NOISE", "Noise", "spell", "stamp"]

NOISE: Final = 10
"""Random bytes of an id."""

_MANY: Final = 256
_VARIANT: Final = "89ab"
_THOUSANDTHS: Final = tuple(f"{number:03d}" for number in range(1000))

_second: tuple[int, str] = (-1, "")
_milli: tuple[int, str, str] = (-1, "", "")


class Noise:
    """
    Random bytes of the system, *size* of them at a time, each handed out once.

    Without a lock, for the garbage collector may come here in the middle of
    anything.  A child made by fork begins with none.
    """

    __slots__ = ("_ready", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._ready = _ready.setdefault(size, deque())

    def draw(self) -> bytes:
        """Return fresh random bytes."""
        try:
            return self._ready.popleft()
        except IndexError:
            size = self.size
            many = os.urandom(size * _MANY)
            self._ready.extend([many[at : at + size] for at in range(size, len(many), size)])
            return many[:size]


_ready: Final[dict[int, deque[bytes]]] = {}


def _forked() -> None:  # pragma: no cover  in a forked child
    # What the parent hands out, its child must not.
    for ready in list(_ready.values()):
        ready.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _turn(milli: int) -> tuple[int, str, str]:
    """Return a millisecond, the beginning of its ids, and that of its times."""
    global _second, _milli  # noqa: PLW0603  replaced whole, so any thread may
    second, rest = divmod(milli, 1000)
    when = _second
    if when[0] != second:
        when = _second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
    text = f"{milli:012x}"
    known = _milli = (milli, f"{text[:8]}-{text[8:]}-7", f"{when[1]}.{_THOUSANDTHS[rest]}")
    return known


def spell(nanoseconds: int) -> str:
    """Return the time, in nanoseconds since 1970, as `format_time` spells it."""
    milli, rest = divmod(nanoseconds // 1000, 1000)
    known = _milli
    if known[0] != milli:
        known = _turn(milli)
    return f"{known[2]}{_THOUSANDTHS[rest]}Z"


def stamp(clock: Clock, noise: bytes) -> tuple[str, str]:
    """Return a fresh id, made with the first `NOISE` bytes of *noise*, and the time."""
    milli, rest = divmod(time.time_ns() // 1000, 1000)
    known = _milli
    if known[0] != milli:
        known = _turn(milli)
    digits = noise.hex()
    name = f"{known[1]}{digits[:3]}-{_VARIANT[noise[9] & 3]}{digits[3:6]}-{digits[6:18]}"
    return name, f"{known[2]}{_THOUSANDTHS[rest]}Z" if clock is now else format_time(clock())
