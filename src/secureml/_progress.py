"""
Progress on long work: a tqdm bar on a terminal, nothing anywhere else.

A log file, a notebook's stderr and a CI run get no bar; short work gets none
either, because the bar appears only after half a second.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "progress"]


class Progress(Protocol):
    """**Protocol.** Takes how much was done since the last call."""

    def __call__(self, amount: int, /) -> None:
        """Add *amount* units."""


@contextmanager
def progress(what: str, *, total: int | None, unit: str = "B") -> Iterator[Progress]:
    """
    Show the progress of *what*, while the block runs.

    Args:
        what: What is being done, a few words.
        total: How many units there are; None when nobody knows.
        unit: ``"B"`` counts bytes, in powers of 1,024.
    """
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield _ignore
        return
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        unit_divisor=1024,
        delay=0.5,
        leave=False,
    ) as bar:

        def advance(amount: int, /) -> None:
            bar.update(amount)

        yield advance


def _ignore(amount: int, /) -> None:
    """Do nothing: nobody is looking."""
