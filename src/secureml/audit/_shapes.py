"""
Reading records quickly: one regular expression for each shape that comes often.

Most records of a log look alike: the same fields in the same order.  Once
some of a shape were read in full, a pattern is made from one of them that
matches canonical text of this shape only, each field in its form.  What it
matches, the full reader accepts; what it does not match, the full reader
judges.  So the pattern says nothing that the reader does not, and says it in
an eighth of the time.

Edge: calls and intents only.  Records of other types are few, and what they
say has to be looked at.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from secureml.audit.fields import body_pattern
from secureml.audit.record import MAX_LEAF, Record

__all__ = ["QUICK", "Shape", "Shapes"]

QUICK: Final = frozenset({"call", "intent"})
"""The types whose records may be read by a pattern."""

_PREFIX: Final = "secureml-audit/1 (?P<writer>[0-9a-f]{32}) (?P<seq>[0-7][0-9a-f]{15})\n"
_LEARN: Final = 8
"""Records of a kind that are read in full before a pattern is made."""
_LONGEST: Final = 16_384
_MOST: Final = 64
"""Patterns at most: making one takes milliseconds, and a liar may write any number of shapes."""
_TRIED: Final = 6


class Shape(NamedTuple):
    """
    A pattern.

    Attributes:
        match: Takes the text of a whole leaf.
        kind: ``call`` or ``intent``.
        announced: Whether the records name an intent.
    """

    match: Callable[[str], "re.Match[str] | None"]
    kind: str
    announced: bool


class Shapes:
    """The shapes of one log, those that came last at the front."""

    __slots__ = ("_known", "_made", "_seen")

    def __init__(self) -> None:
        self._known: list[Shape] = []
        self._made: set[str] = set()
        self._seen: Counter[tuple[str, ...]] = Counter()

    def read(self, leaf: bytes) -> tuple[Shape, "re.Match[str]"] | None:
        """Return the shape of a leaf, and what is in it; None when no pattern matches."""
        if not self._known or len(leaf) > MAX_LEAF:
            return None
        try:
            text = leaf.decode()
        except UnicodeDecodeError:
            return None
        for place, shape in enumerate(self._known[:_TRIED]):
            found = shape.match(text)
            if found is not None:
                if place:
                    del self._known[place]
                    self._known.insert(0, shape)
                return shape, found
        return None

    def learn(self, record: Record) -> None:
        """Take note of a record that was read in full."""
        if record.type not in QUICK or len(self._made) >= _MOST:
            return
        key = (record.type, *record.body)
        if len(self._seen) > _MOST * _MOST:
            return
        self._seen[key] += 1
        if self._seen[key] % _LEARN:
            return
        pattern = _PREFIX + body_pattern(record.body)
        if len(pattern) > _LONGEST or pattern in self._made:
            return
        self._made.add(pattern)
        made = Shape(re.compile(pattern).fullmatch, record.type, "intent" in record.body)
        self._known.insert(0, made)
