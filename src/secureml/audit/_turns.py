"""
One writes for all who wait: how those behind learn that they are done.

Whoever waits for the disk would stand in line for the lock of the one who
writes, together with those who come with their next record, only to learn that
it was synced long ago.  So they wait here instead, and are called all at once.
"""

import threading
import time
from collections.abc import Callable, Sized
from typing import Final

__all__ = ["Turns"]

AGAIN: Final = 0.05
"""Seconds after which somebody who waits looks again."""

_SHORT: Final = 5e-5
"""Seconds that are too short to sleep."""

_LOOKS: Final = 4


class Turns:
    """
    The waiting of the threads of one writer.

    Attributes:
        group: How many records the last sync was for.
        took: Seconds that it took.
    """

    __slots__ = ("_turn", "group", "took")

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self.group = 0
        self.took = 0.0

    def wait(self, done: Callable[[], bool]) -> None:
        """Return when somebody calls, or at once when it is done."""
        with self._turn:
            if not done():
                self._turn.wait(AGAIN)

    def call(self) -> None:
        """Call all who wait."""
        with self._turn:
            self._turn.notify_all()

    def gather(self, queue: Sized) -> None:
        """Let those who were served together come together again, if a sync takes far longer."""
        pause = self.took / 32
        if pause < _SHORT:
            return
        for _ in range(_LOOKS):
            if len(queue) >= self.group:
                return
            time.sleep(pause)
