"""
Finding every id that occurs twice, exactly, in 16 bytes a record.

Ids are UUIDs of version 7, so they come nearly in order of time.  They are
kept in sorted runs.  Blocks of a run that lie beside no other block need no
second look; those that overlap are compared as sets.  A log that a liar
wrote, with ids in any order, costs more time and no more memory.

Exact, because a filter that is right nearly always is wrong once in a large
log, and then accuses an honest one.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Ids"]

_RUN: Final = 1 << 16
_BLOCK: Final = 256
_SIZE: Final = 16


@dataclass(slots=True)
class _Run:
    """The ids of leaves *first* up to, not including, *stop*; sorted, each once."""

    first: int
    stop: int
    ids: bytes

    def block(self, number: int) -> list[bytes]:
        start = number * _BLOCK * _SIZE
        data = self.ids[start : start + _BLOCK * _SIZE]
        return [data[at : at + _SIZE] for at in range(0, len(data), _SIZE)]

    def blocks(self) -> Iterable[tuple[bytes, bytes, int]]:
        """Yield the first and the last id of each block, and its number."""
        for number, start in enumerate(range(0, len(self.ids), _BLOCK * _SIZE)):
            stop = min(start + _BLOCK * _SIZE, len(self.ids))
            yield self.ids[start : start + _SIZE], self.ids[stop - _SIZE : stop], number

    def holds(self, one: bytes) -> bool:
        at = self.ids.find(one)
        while at >= 0 and at % _SIZE:
            at = self.ids.find(one, at + 1)
        return at >= 0


@dataclass(slots=True)
class Ids:
    """
    The ids of a log's records, in the order of their leaves.

    Attributes:
        within: (leaf, earlier leaf) of each id that came twice within one run.
    """

    within: list[tuple[int, int]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _first: int = 0
    _runs: list[_Run] = field(default_factory=list)

    def extend(self, first: int, ids: Sequence[str]) -> None:
        """
        Take the ids of the leaves from *first* on; an empty one for a leaf that has none.

        Args:
            first: Position of the first of them.
            ids: Ids in the form that `fields.ID` describes.
        """
        if self._open and first != self._first + len(self._open):
            self._close()
        if not self._open:
            self._first = first
        self._open += ids
        if len(self._open) >= _RUN:
            self._close()

    def _close(self) -> None:
        texts, self._open = self._open, []
        data = bytes.fromhex("".join(texts).replace("-", ""))
        ids = sorted({data[at : at + _SIZE] for at in range(0, len(data), _SIZE)})
        if len(ids) * _SIZE != len(data):
            self._twice(texts)
        self._runs.append(_Run(self._first, self._first + len(texts), b"".join(ids)))

    def _twice(self, texts: Sequence[str]) -> None:
        seen: dict[str, int] = {}
        for at, text in enumerate(texts, self._first):
            if text and (earlier := seen.setdefault(text, at)) != at:
                self.within.append((at, earlier))

    def across(self) -> dict[str, list[tuple[int, int]]]:
        """
        Close, and return the ids that runs share.

        Returns:
            Id → (first, stop) of the leaves among which it occurs once or
            more, for each run that has it.
        """
        if not self._runs:
            # Most logs that are checked are small: nothing to compare with.
            if len(set(self._open)) != len(self._open):
                self._twice(self._open)
            self._open = []
            return {}
        if self._open:
            self._close()
        return {
            f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}": [
                (run.first, run.stop) for run in self._runs if run.holds(one)
            ]
            for one in sorted(self._shared())
            for h in (one.hex(),)
        }

    def _shared(self) -> set[bytes]:
        blocks = sorted(
            (low, high, place, number)
            for place, run in enumerate(self._runs)
            for low, high, number in run.blocks()
        )
        shared: set[bytes] = set()
        seen: set[bytes] = set()
        beside: list[tuple[bytes, int, list[bytes]]] = []
        waiting: tuple[bytes, int, int] | None = None
        for order, (low, high, place, number) in enumerate(blocks):
            while beside and beside[0][0] < low:
                seen.difference_update(heapq.heappop(beside)[2])
            if waiting is not None and waiting[0] >= low:
                # The block before this one turned out not to lie alone.
                ids = self._runs[waiting[1]].block(waiting[2])
                shared.update(seen.intersection(ids))
                seen.update(ids)
                heapq.heappush(beside, (waiting[0], -order, ids))
            waiting = None
            if not beside:
                waiting = high, place, number
                continue
            ids = self._runs[place].block(number)
            shared.update(seen.intersection(ids))
            seen.update(ids)
            heapq.heappush(beside, (high, order, ids))
        return shared
