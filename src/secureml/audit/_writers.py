"""What a survey remembers of one writer, and how it reads numbers and times."""

from dataclasses import dataclass, field
from functools import lru_cache

from secureml.audit.findings import AuditFinding
from secureml.clock import parse_time

__all__ = ["Writer", "moment_of", "take_number"]


@dataclass(slots=True)
class Writer:
    """What is known of one writer."""

    next: int = 0
    base: int = 0
    count: int = 0
    last: int = -1
    skew: int = 0
    dropped: int = 0
    hole: int = 0
    ended: bool = False
    finished: bool = False
    heartbeat: int = 0
    time: str = ""
    second: str = ""
    wrote: float = 0.0
    silence: tuple[float, AuditFinding | None] | None = None
    missing: list[tuple[int, int]] = field(default_factory=list)
    intents: dict[str, int] = field(default_factory=dict)
    recovery: tuple[int, str, int] | None = None


@lru_cache(maxsize=64)
def _day(date: str) -> float:
    return parse_time(f"{date}T00:00:00.000000Z").timestamp()


def moment_of(time: str) -> float:
    """Return a time in seconds since 1970; 0 for none."""
    if not time:
        return 0.0
    clock = int(time[11:13]) * 3600 + int(time[14:16]) * 60 + float(time[17:26])
    return _day(time[:10]) + clock


def take_number(ranges: list[tuple[int, int]], number: int) -> bool:
    """Take *number* out of *ranges*; return whether it was there."""
    for place, (low, high) in enumerate(ranges):
        if low <= number < high:
            ranges[place : place + 1] = [
                part for part in ((low, number), (number + 1, high)) if part[0] < part[1]
            ]
            return True
    return False
