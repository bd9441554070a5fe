"""
Whether records were pruned that a legal hold kept, as far as the log alone can tell.

A ``prune`` record under a hold is nothing bad by itself: a hold may come while
it is written, and then the removal waits until no hold is placed.  So what is
reported is a removal that cannot have waited: its records are gone, and since
the record that lets them go there was no moment without a hold.

Edge: once no hold is placed any more, nobody can tell whether a removal waited.

Source: docs/spec/retention.md, section "Verifying a pruned log".
"""

from collections import deque
from collections.abc import Mapping
from typing import Final, cast

from secureml.wire.canonical import JSON

__all__ = ["Held"]

_SHOWN: Final = 5


class Held:
    """
    The holds and prunings of a log, noted as they go by; both are rare.

    Attributes:
        gone: Stretches of entries that are not there, and that no record so far lets go: the
            first of each, and the one behind its last.
        removals: Index of each ``prune`` record under a hold that removed something, and what.
    """

    __slots__ = ("_holds", "gone", "removals")

    def __init__(self) -> None:
        self.gone: deque[tuple[int, int]] = deque()
        self.removals: list[tuple[int, str]] = []
        self._holds: set[str] = set()

    def hold(self, hold: Mapping[str, JSON]) -> None:
        """Take note of a hold that is placed or released; about whom it is does not matter."""
        name = cast("str", hold["name"])
        if hold["state"] == "placed":
            self._holds.add(name)
            return
        self._holds.discard(name)
        if not self._holds:
            # From here on it may go: that it went earlier is not to be seen.
            self.removals.clear()

    def prune(self, index: int, minimum: JSON) -> None:
        """Take note of the ``prune`` record at *index*, and of the minimum index it sets."""
        if type(minimum) is not int or minimum > index:
            return
        gone = 0
        while self.gone and self.gone[0][0] < minimum:
            first, end = self.gone.popleft()
            if end > minimum:
                self.gone.appendleft((minimum, end))
            gone += min(end, minimum) - first
        if self._holds and gone:
            names = ", ".join(map(repr, sorted(self._holds)[:_SHOWN]))
            what = (
                f"prunes below entry {minimum} under a legal hold, {names}: {gone} entries are "
                "gone, and since then there was no time without a hold"
            )
            self.removals.append((index, what))
