"""
Text as a detector reads it, and the way back to the text as it was written.

Digits of other scripts, full-width letters, no-break spaces, typographic
dashes and characters of no width are how a number slips past a pattern, by
accident or on purpose.  They are put into their plain form here, one
character for one, or left out; `Plain.origin` says where each came from, so
that what is found is cut from the original.
"""

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Plain", "plain", "sticks"]

# Characters that no reader sees: soft hyphen, joiners, marks of direction,
# variation selectors, tags, byte order mark, NUL (text that was UTF-16).
_UNSEEN: Final = (
    "\0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef"
)
_SPACES: Final = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_DASHES: Final = "\u2010-\u2015\u2043\u2212\ufe58\ufe63\uff0d\u30fb\u00b7"
_DOTS: Final = "\u2024\u3002\uff0e\uff61"

_STRANGE: Final = re.compile(r"\0|[^\x00-\x7f]")
_IS_UNSEEN: Final = re.compile(f"[{_UNSEEN}]")
_IS_SPACE: Final = re.compile(f"[{_SPACES}]")
_IS_DASH: Final = re.compile(f"[{_DASHES}]")
_IS_DOT: Final = re.compile(f"[{_DOTS}]")


@dataclass(frozen=True, slots=True)
class Plain:
    """
    The text to search, and where its characters were.

    Attributes:
        text: The plain text.
        origin: Index in the original of each character; None where the two
            are the same, character for character.
        size: Number of characters of the original.
    """

    text: str
    origin: Sequence[int] | None
    size: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """
        Return where *start* to *end* lies in the original.

        What nobody sees directly after the last character is not part of it.
        """
        if self.origin is None:
            return start, end
        return self.origin[start], self.origin[end - 1] + 1


def sticks(char: str) -> bool:
    """
    Return whether a digit beside *char* is a part of the same word.

    Letters of scripts that put no space between words do not stick: a number
    stands directly after the word that announces it.
    """
    if char.isascii():
        return char.isalnum()
    return char.isdigit() or char.lower() != char.upper()


_CACHE: dict[str, str] = {}
_CACHE_LIMIT: Final = 4096


def _character(char: str) -> str:
    """Return the plain form of one character: one character, or nothing."""
    if _IS_UNSEEN.match(char):
        return ""
    if _IS_SPACE.match(char):
        return " "
    if _IS_DASH.match(char):
        return "-"
    if _IS_DOT.match(char):
        return "."
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    folded = unicodedata.normalize("NFKC", char)
    return folded if len(folded) == 1 else char


def plain(text: str) -> Plain:
    """Return *text* as detectors read it."""
    size = len(text)
    if text.isascii() and "\0" not in text:
        return Plain(text, None, size)
    pieces: list[str] = []
    origin: array[int] | None = None
    last = 0
    changed = False
    for found in _STRANGE.finditer(text):
        char = found.group()
        new = _CACHE.get(char)
        if new is None:
            new = _character(char)
            if len(_CACHE) < _CACHE_LIMIT:
                _CACHE[char] = new
        if new == char:
            continue
        start = found.start()
        pieces.append(text[last:start])
        pieces.append(new)
        changed = True
        if not new:
            if origin is None:
                origin = array("I", range(start))
            else:
                origin.extend(range(last, start))
        elif origin is not None:
            origin.extend(range(last, start + 1))
        last = start + 1
    if not changed:
        return Plain(text, None, size)
    pieces.append(text[last:])
    if origin is not None:
        origin.extend(range(last, size))
    return Plain("".join(pieces), origin, size)
