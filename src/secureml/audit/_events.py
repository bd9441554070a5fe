"""Records that the log makes about itself, and what every record has: an id and a time."""

import os
import time
from collections.abc import Mapping
from datetime import datetime

from secureml.clock import Clock, format_time
from secureml.wire import canonical
from secureml.wire.canonical import JSON

__all__ = ["Losses", "event", "new_id"]


def new_id() -> str:
    """
    Return a fresh record id: a UUID of version 7, so ids sort by time.

    Source: RFC 9562 section 5.7.
    """
    noise = int.from_bytes(os.urandom(10))
    number = (
        time.time_ns() // 1_000_000 << 80
        | 7 << 76
        | (noise >> 64 & 0xFFF) << 64
        | 2 << 62
        | noise & 0x3FFF_FFFF_FFFF_FFFF
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event(kind: str, body: Mapping[str, JSON], clock: Clock) -> bytes:
    """Return the JSON of a record of the log itself."""
    return canonical.encode(
        {
            **body,
            "monotonic_us": time.monotonic_ns() // 1000,
            "record": {"id": new_id()},
            "time": format_time(clock()),
            "type": kind,
        }
    )


class Losses:
    """
    Records that were not taken, and nobody has said so yet.

    Without a lock: the garbage collector may come here from anywhere.

    Attributes:
        count: How many.
    """

    __slots__ = ("_times", "count")

    def __init__(self) -> None:
        self.count = 0
        self._times: list[datetime] = []

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, when: datetime) -> None:
        """Count one."""
        self._times = [*self._times[:1], when]
        self.count += 1

    def take(self) -> int:
        """Return how many, and begin anew."""
        count, self.count, self._times = self.count, 0, []
        return count

    def gap(self, reason: str) -> dict[str, JSON]:
        """Return what a ``gap`` is to say of them, and begin anew."""
        times = self._times
        gap: dict[str, JSON] = {"dropped": self.take(), "reason": reason}
        if times:
            gap |= {"first": format_time(times[0]), "last": format_time(times[-1])}
        return {"gap": gap}
