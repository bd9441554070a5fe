"""
Telephone numbers: international ones, and national ones that look like nothing else.

A number with ``+`` and a country code that is assigned counts by itself.  So
do the spellings that timestamps, amounts and ids do not have: (415) 555-0123,
06 12 34 56 78, 07700 900123.  Any other seven to fifteen digits count after a
word such as *tel* or *call me*.

Source: ITU-T E.164 and E.123; North American Numbering Plan.
"""

import re
from typing import Final

from secureml.detect._plain import Found
from secureml.detect._text import sticks

__all__ = ["international", "national"]

_KIND: Final = "phone"
_INTERNATIONAL: Final = re.compile(r"\+[ (]{0,2}[1-9](?:[ \t./()-]{0,3}[0-9]){6,17}(?![0-9])")
_DIGIT: Final = re.compile(r"[0-9]")
_E164_MAX: Final = 15
_E164_MIN: Final = 8
_NANP: Final = 11

_TWO: Final = re.compile(
    "2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]",
)
_THREE: Final = re.compile(
    r"2(?:1[1-368]|[23]\d|4\d|5[0-8]|6\d|9[01789])|3(?:5\d|7\d|8[0-35-79])|42[013]|5[09]\d|"
    r"6(?:7[02-9]|8[0-35-9]|9[0-2])|8(?:0[08]|5[02356]|7[08]|8[01236-8])|9(?:6\d|7\d|9[2-68])",
    re.ASCII,
)

_WORD: Final = re.compile(r"[^\W\d_]+")
_CUES: Final = frozenset(
    {
        *("phone", "tel", "mobile", "cell", "cellphone", "fax", "whatsapp", "telegram", "dial"),
        *("sms", "handy", "telefon", "telefono", "teléfono", "telephone", "téléphone", "tél"),
        *("portable", "mobil", "móvil", "movil", "celular", "cellulare", "telefone", "tlf"),
        *("msisdn", "тел", "телефон", "telefoon", "puhelin", "komórka", "phones"),
        "mobiel",  # codespell:ignore mobiel
    }
)
_PARTS: Final = ("phone", "telefon", "mobile")
_CALLS: Final = frozenset(
    {"call", "called", "calling", "text", "texted", "reach", "ring", "contact", "phone", "message"}
)
_WHOM: Final = frozenset({"me", "us", "him", "her", "them", "back"})
_FILLERS: Final = frozenset(
    {
        *("is", "at", "on", "under", "via", "number", "no", "nr", "num", "nummer", "numero"),
        *("est", "es", "numéro", "número", "the", "his", "their", "e", "s"),
        "ist",  # codespell:ignore ist
    }
)
_CUES_UNSPACED: Final = ("手机", "手機", "电话", "電話", "携帯", "휴대폰", "전화", "फ़ोन")
_CUE_WINDOW: Final = 32
_VETO: Final = re.compile(
    r"(?<![A-Za-z])(?:isbn|ean|gtin|upc|sku|asin|imei|order|invoice|serial|ref|id|doi|pmid|arxiv)[^0-9]{0,12}$",
    re.IGNORECASE,
)
_AREA: Final = re.compile(r"[2-9](?!11)[0-9]{2}", re.ASCII)
_DATE: Final = re.compile(r"[0-3]?[0-9]([./-])[01]?[0-9]\1(?:19|20)[0-9]{2}")
_NATIONAL_MIN: Final = 9
_NATIONAL_MAX: Final = 12
_CUED_MIN: Final = 6
_MOBILE: Final = re.compile(r"07[0-9]{9}|0[67][0-9]{8}|01[5-7][0-9]{8,9}", re.ASCII)

_Groups = list[tuple[int, int]]


def international(text: str, found: Found) -> None:
    """Report numbers that begin with a plus and a country code."""
    for match in _INTERNATIONAL.finditer(text):
        start, end = match.span()
        if start and (sticks(text[start - 1]) or text[start - 1] in "+/"):
            continue
        if end < len(text) and sticks(text[end]):
            continue
        digits = "".join(_DIGIT.findall(match.group()))
        if len(digits) > _E164_MAX:
            end = _cut(text, start, end)
            digits = "".join(_DIGIT.findall(text[start:end]))
        if _assigned(digits):
            found(start, end, _KIND)


def _cut(text: str, start: int, end: int) -> int:
    """Return the end of the last whole group within fifteen digits."""
    count = 0
    best = end
    for position in range(start, end):
        if text[position].isdigit():
            count += 1
            if count > _E164_MAX:
                break
            if not text[position + 1].isdigit():
                best = position + 1
    return best


def _assigned(digits: str) -> bool:
    if not _E164_MIN <= len(digits) <= _E164_MAX:
        return False
    if digits[0] == "1":
        return len(digits) == _NANP and _AREA.match(digits, 1) is not None and digits[4] > "1"
    if digits[0] == "7":
        return len(digits) == _NANP
    return _TWO.match(digits) is not None or _THREE.match(digits) is not None


def national(
    text: str, groups: _Groups, gaps: list[str], *, opened: bool, closed: bool, found: Found
) -> None:
    """Report what is a telephone number among the groups of digits of one stretch."""
    if not opened:
        return
    start = groups[0][0]
    before = text[max(0, start - _CUE_WINDOW) : start]
    if closed and _is_announced(before):
        _announced(text, groups, found)
        return
    index = 0
    count = len(groups)
    while index < count:
        size = 0
        if index == 0 or " " in gaps[index - 1] or "(" in gaps[index - 1]:
            size = _known(text, groups, gaps, index)
        if size and (index + size < count or closed):
            begin = groups[index][0]
            begin -= size > 1 and _boxed(text, groups[index])
            if not _VETO.search(before):
                found(begin, groups[index + size - 1][1], _KIND)
        index += size or 1


def _is_announced(before: str) -> bool:
    """Return whether the words just before a number say that it is a telephone's."""
    words = _WORD.findall(before.lower())
    if not before.isascii() and any(cue in before for cue in _CUES_UNSPACED):
        return True
    mine = False
    while words:
        word = words.pop()
        if word in _FILLERS:
            mine = word == "number"
        elif word == "my":
            return mine
        elif word in _WHOM:
            while words and words[-1] in _WHOM:
                words.pop()
            return bool(words) and words[-1] in _CALLS
        else:
            return word in _CUES or any(part in word for part in _PARTS)
    return False


def _announced(text: str, groups: _Groups, found: Found) -> None:
    total = 0
    last = 0
    for begin, stop in groups:
        if total + stop - begin > _E164_MAX:
            break
        total += stop - begin
        last = stop
    if total >= _CUED_MIN:
        begin, stop = groups[0]
        found(begin - (last > stop and _boxed(text, groups[0])), last, _KIND)


def _boxed(text: str, group: tuple[int, int]) -> bool:
    begin, stop = group
    return begin > 0 and text[begin - 1] == "(" and text[stop : stop + 1] == ")"


def _known(text: str, groups: _Groups, gaps: list[str], index: int) -> int:
    """Return how many groups from *index* on are a telephone number; 0 for none."""
    first = text[groups[index][0] : groups[index][1]]
    lengths = tuple(stop - begin for begin, stop in groups[index : index + 6])
    between = gaps[index : index + 5]
    boxed = _boxed(text, groups[index])
    if lengths[:3] == (3, 3, 4) and (
        boxed or (between[0] == between[1] and between[0] in {"-", "."})
    ):
        return 3 * _american(text, groups, index)
    if lengths[:4] == (1, 3, 3, 4) and first == "1" and between[:1] != ["/"]:
        return 4 * _american(text, groups, index + 1)
    if lengths[:5] == (1, 3, 3, 2, 2) and first in {"7", "8"}:
        return 5
    if lengths[:2] == (3, 7) and boxed:
        return 2
    if lengths[:3] in {(2, 5, 4), (2, 4, 4)} and boxed:
        return 3
    if lengths[:3] == (3, 4, 4) and first[0] == "1" and first[1] in "3456789":
        return 3 * (between[0] == between[1] and between[0] in {" ", "-"})
    if first[0] != "0" or first == "0" * len(first):
        return 0
    return _leading_zero(text, groups, gaps, index, first)


def _american(text: str, groups: _Groups, index: int) -> bool:
    return all(
        _AREA.match(text, groups[n][0], groups[n][1]) is not None for n in (index, index + 1)
    )


def _leading_zero(text: str, groups: _Groups, gaps: list[str], index: int, first: str) -> int:
    """Return the groups of a number with the trunk prefix 0, or the international 00."""
    if len(first) >= _NATIONAL_MIN:
        if first.startswith("00"):
            return int(_assigned(first[2:]))
        return int(_MOBILE.fullmatch(first) is not None)
    if _DATE.match(text, groups[index][0]):
        return 0
    abroad = first.startswith("00")
    most = _E164_MAX + 2 if abroad else _NATIONAL_MAX
    total = size = 0
    french = len(first) == 2  # noqa: PLR2004  pairs of digits
    for number in range(index, len(groups)):
        begin, stop = groups[number]
        length = stop - begin
        french = french and length == 2  # noqa: PLR2004  as above
        whole = total >= _NATIONAL_MIN and text[begin] == "0"
        if total + length > most or (length < 2 and not abroad) or whole:  # noqa: PLR2004  no group of one digit
            break
        if number > index and len(gaps[number - 1]) > 2:  # noqa: PLR2004  ") " is the widest
            break
        total += length
        size += 1
        if french and size == 5:  # noqa: PLR2004  06 12 34 56 78
            return size
    if abroad:
        digits = "".join(text[b:s] for b, s in groups[index : index + size])
        return size * _assigned(digits[2:])
    dotted = gaps[index : index + 1] == ["."]
    return size * (total >= _NATIONAL_MIN and size > 1 + dotted)
