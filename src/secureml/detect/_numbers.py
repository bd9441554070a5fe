"""
Numbers of digits and little between them: cards, personal numbers, telephones.

One pass finds stretches with at least seven digits, which prose hardly has;
the groups of such a stretch are then looked up by their lengths.  So the time
is that of the one pass, and after it a few look-ups for each group.
"""

import re
from functools import lru_cache
from typing import Final

from secureml.detect._checksums import luhn
from secureml.detect._national import FORMS, Form
from secureml.detect._phones import international, national
from secureml.detect._plain import Found
from secureml.detect._text import sticks

__all__ = ["CARD", "PHONE", "numbers"]

CARD: Final = "card"
PHONE: Final = "phone"

_CHAIN: Final = re.compile(r"[0-9](?:[ \t./()-]{0,3}[0-9]){6}(?:[ \t./()-]{0,3}[0-9])*+")
_GROUP: Final = re.compile(r"[0-9]+")
_SPACED: Final = re.compile(
    r"[0-9](?<![0-9][ .-][0-9])(?:([ .-])[0-9])(?:\1[0-9]){10,17}(?!\1?[0-9])"
)
_LOOK_BACK: Final = 48
"""Characters before a number in which a word may announce it."""

_HEX: Final = frozenset("abcdefABCDEF")
_MAX_WORD: Final = 16

_CARD_LENGTHS: Final = range(12, 20)
_CARD_GROUPS: Final = frozenset(
    {
        (4, 4, 4, 4),
        (4, 4, 4, 4, 1),
        (4, 4, 4, 4, 2),
        (4, 4, 4, 4, 3),
        (4, 4, 4, 1),
        (4, 6, 5),
        (4, 6, 4),
        (6, 13),
        (4, 4, 4, 3),
        (8, 8),
        (8, 4, 4),
        (4, 8, 4),
        (4, 4, 8),
        (12, 4),
        (4, 12),
        (6, 10),
        *((n,) for n in _CARD_LENGTHS),
    }
)


def is_card(digits: str) -> bool:
    """
    Return whether *digits* are a payment card: issuer, its lengths, Luhn.

    Source: ISO/IEC 7812-1; the ranges that the networks publish.
    """
    size = len(digits)
    for low, high, lengths in _ISSUERS.get(digits[0], ()):
        if size in lengths and low <= digits[: len(low)] <= high:
            return luhn(digits)
    return False


_ISSUERS: Final = {
    "2": (("2221", "2720", {16}), ("2200", "2204", {16, 17, 18, 19})),
    "3": (
        ("34", "34", {15}),
        ("37", "37", {15}),
        ("3528", "3589", set(range(16, 20))),
        ("300", "305", set(range(14, 20))),
        ("3095", "3095", set(range(14, 20))),
        ("36", "36", set(range(14, 20))),
        ("38", "39", set(range(14, 20))),
    ),
    "4": (("4", "4", {13, 16, 18, 19}),),
    "5": (
        ("51", "55", {16}),
        ("5018", "5020", set(_CARD_LENGTHS)),
        ("5038", "5038", set(_CARD_LENGTHS)),
        ("5060", "5061", {16, 18, 19}),
        ("508", "508", {16}),
        ("5610", "5610", {16}),
        ("5893", "5893", set(_CARD_LENGTHS)),
    ),
    "6": (
        ("6011", "6011", set(range(16, 20))),
        ("62", "62", set(range(16, 20))),
        ("60", "60", {16}),
        ("644", "659", set(range(16, 20))),
        ("6304", "6304", set(_CARD_LENGTHS)),
        ("6759", "6763", set(_CARD_LENGTHS)),
        ("63", "67", {16, 18, 19}),
    ),
    "8": (("81", "82", {16}),),
    "9": (("9792", "9792", {16}),),
}


class _Table:
    """The forms of the wanted kinds, by lengths and what is between."""

    __slots__ = ("card", "first", "forms", "lengths", "phone")

    def __init__(self, wanted: frozenset[str]) -> None:
        self.card = CARD in wanted
        self.phone = PHONE in wanted
        self.forms: dict[tuple[tuple[int, ...], str], list[Form]] = {}
        self.first: dict[int, int] = {}
        self.lengths: set[tuple[int, ...]] = set()
        for form in FORMS:
            if form.kind in wanted:
                self._room(form.lengths)
                for way in form.between:
                    self.forms.setdefault((form.lengths, way), []).append(form)
        if self.card:
            for lengths in _CARD_GROUPS:
                self._room(lengths)

    def _room(self, lengths: tuple[int, ...]) -> None:
        self.lengths.add(lengths)
        self.first[lengths[0]] = max(self.first.get(lengths[0], 0), len(lengths))


@lru_cache(maxsize=256)
def _table(wanted: frozenset[str]) -> _Table:
    return _Table(wanted)


def numbers(text: str, wanted: frozenset[str], found: Found) -> None:
    """Report the numbers of the *wanted* kinds."""
    table = _table(wanted)
    for match in _CHAIN.finditer(text):
        _chain(text, match.start(), match.end(), table, found)
    if table.phone and "+" in text:
        international(text, found)


def _chain(text: str, start: int, end: int, table: _Table, found: Found) -> None:
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    lengths = tuple(stop - begin for begin, stop in groups)
    count = len(groups)
    gaps = [text[groups[n][1] : groups[n + 1][0]].replace("\t", " ") for n in range(count - 1)]
    opened = _opens(text, start)
    closed = end == len(text) or not sticks(text[end])
    if table.phone:
        national(text, groups, gaps, opened=opened, closed=closed, found=found)
    last = 0
    for index in range(count):
        most = table.first.get(lengths[index])
        if most is None or index < last:
            continue
        if not (_apart(gaps[index - 1]) if index else opened):
            continue
        for size in range(1, min(most, count - index) + 1):
            after = index + size
            key = lengths[index:after]
            if key not in table.lengths:
                continue
            if not (_apart(gaps[after - 1]) if after < count else closed):
                continue
            between = "".join(gaps[index : after - 1])
            crowd = count > 2 * size + 2
            if crowd and size == 4 and (index % 4 or count % 4):  # noqa: PLR2004  a card's groups
                continue
            kind = _kind(text, groups[index:after], key, between, table, crowd=crowd)
            if kind:
                found(groups[index][0], groups[after - 1][1], kind)
                last = after
    if table.card and lengths.count(1) >= _CARD_LENGTHS[0]:
        for match in _SPACED.finditer(text, start, end):
            if is_card(match.group()[::2]):
                found(*match.span(), CARD)
    # A group that is glued to letters on its left: "PAN4111…".
    if not opened and table.card and _glued(text, start) and (count == 1 or _apart(gaps[0])):
        digits = text[groups[0][0] : groups[0][1]]
        if len(digits) in _CARD_LENGTHS and (closed or count > 1) and is_card(digits):
            found(*groups[0], CARD)


def _kind(
    text: str,
    groups: list[tuple[int, int]],
    lengths: tuple[int, ...],
    between: str,
    table: _Table,
    *,
    crowd: bool,
) -> str:
    """Return what these groups are, or nothing; in a *crowd* of groups, weak forms are not."""
    forms = table.forms.get((lengths, between), ())
    card = table.card and lengths in _CARD_GROUPS and len(set(between)) <= 1
    if not forms and not card:
        return ""
    digits = "".join([text[begin:stop] for begin, stop in groups])
    if card and is_card(digits):
        return CARD
    before = ""
    for form in forms:
        if not (crowd and form.weak) and form.check(digits):
            if form.cue is None:
                return form.kind
            start = groups[0][0]
            before = before or text[max(0, start - _LOOK_BACK) : start]
            if form.cue.search(before):
                return form.kind
    return ""


def _apart(gap: str) -> bool:
    """Return whether two groups with *gap* between them can be of two numbers."""
    return " " in gap or "(" in gap or ")" in gap or not gap or "/" in gap


def _opens(text: str, start: int) -> bool:
    """Return whether a number can begin at *start*: not inside a word, an id or a decimal."""
    if start == 0:
        return True
    left = text[start - 1]
    if sticks(left):
        return False
    if left in "-." and start > 1 and text[start - 2].isalnum():
        # "SSN-123…" is a number after a word, "a716-4466…" is the rest of an id.
        least = max(0, start - 1 - _MAX_WORD)
        begin = start - 1
        while begin > least and text[begin - 1].isalnum():
            begin -= 1
        word = text[begin : start - 1]
        return word.isalpha() and not _HEX.issuperset(word)
    return True


def _glued(text: str, start: int) -> bool:
    """Return whether the letters before *start* are a whole word of letters."""
    least = max(0, start - _MAX_WORD)
    begin = start
    while begin > least and text[begin - 1].isalpha():
        begin -= 1
    free = begin == 0 or not (text[begin - 1].isalnum() or text[begin - 1] in "-_+/=")
    return begin < start and free and not _HEX.issuperset(text[begin:start])
