"""
Numbers with letters in them: IBANs and the personal numbers of many states.

All hang on a digit: prose has few of them, so one pass that looks at digits
only finds the candidates, and what stands around a digit says of which kind
they may be.

Source: each check function.
"""

import re
from collections.abc import Callable
from string import ascii_letters
from typing import Final

from secureml.detect._checksums import is_date, mod97, weighted
from secureml.detect._national import cn_resident
from secureml.detect._plain import Found
from secureml.detect._text import sticks

__all__ = ["IBAN", "IBAN_LENGTHS", "KINDS", "letters"]

IBAN: Final = "iban"

IBAN_LENGTHS: Final = {
    country: int(size)
    for country, size in re.findall(
        "([A-Z][A-Z])([0-9][0-9])",
        "AD24 AE23 AL28 AO25 AT20 AZ28 BA20 BE16 BF28 BG22 BH22 BI27 BJ28 BR29 BY28 CF27 CG27 "
        "CH21 CI28 CM27 CR22 CV25 CY28 CZ24 DE22 DJ27 DK18 DO28 DZ26 EE20 EG29 ES24 FI18 FK18 "
        "FO18 FR27 GA27 GB22 GE22 GI23 GL18 GQ27 GR27 GT28 GW25 HN28 HR21 HU28 IE22 IL23 IQ23 "
        "IR26 IS26 IT27 JO30 KM27 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MA28 MC27 MD24 "
        "ME22 MG27 MK19 ML28 MN20 MR27 MT31 MU30 MZ25 NE28 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SN28 SO23 ST25 SV28 TD27 "
        "TG28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30 ",
    )
}
"""Characters of an IBAN, by country: the registry of SWIFT, and the African ones outside of it."""

_IBAN_REST: Final = re.compile(r"[0-9]{2}(?:[ -]{0,2}[0-9A-Za-z]){11,30}", re.ASCII)


def _iban(text: str, start: int, digit: int) -> int:
    """Return the end of the IBAN whose country is at *start* and check at *digit*, or 0."""
    size = IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    match = _IBAN_REST.match(text, digit)
    if not size or match is None:
        return 0
    kept: list[str] = []
    position = start
    while len(kept) < size and position < match.end():
        char = text[position]
        if char not in " -":
            kept.append(char.upper())
        position += 1
    if len(kept) < size or (position < len(text) and sticks(text[position])):
        return 0
    return position * mod97("".join(kept))


def _uk_nino(word: str) -> bool:
    """Source: HMRC, National Insurance Manual NIM39110."""
    word = word.upper()
    return word[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


_CF_ODD: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (
            *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21),
            *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10),
            *(22, 25, 24, 23),
        ),
        strict=True,
    )
)


def _it_codice_fiscale(word: str) -> bool:
    """Source: Decreto ministeriale 23 dicembre 1976, article 6."""
    word = word.upper()
    odd = sum(_CF_ODD[char] for char in word[:15:2])
    even = sum(int(c) if c.isdigit() else ord(c) - 65 for c in word[1:15:2])
    return ord(word[15]) - 65 == (odd + even) % 26


def _es_dni(word: str) -> bool:
    """Source: Spain, Real Decreto 1553/2005; the letter is the number modulo 23."""
    word = word.upper().replace("-", "").replace(" ", "").replace(".", "")
    number = word[:-1].translate({88: "0", 89: "1", 90: "2"})  # X, Y, Z of a foreigner's number
    return len(number) == 8 and word[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]  # noqa: PLR2004  the digits


def _de_svnr(word: str) -> bool:
    """Source: Germany, VKVV § 2 to 4; each digit product counts as the sum of its digits."""
    word = word.replace(" ", "").upper()
    day = int(word[2:4])
    if not (1 <= day % 50 <= 31 and 1 <= int(word[4:6]) <= 12):  # noqa: PLR2004  days and months
        return False
    digits = word[:8] + f"{ord(word[8]) - 64:02}" + word[9:11]
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    products = [int(d) * w for d, w in zip(digits, weights, strict=True)]
    return sum(p // 10 + p % 10 for p in products) % 10 == int(word[11])


def _fi_hetu(word: str) -> bool:
    """Source: Finland, Digi- ja väestötietovirasto; the number modulo 31."""
    century = {"+": 1800, **dict.fromkeys("-YXWVU", 1900), **dict.fromkeys("ABCDEF", 2000)}
    digits = word[:6] + word[7:10]
    year = century[word[6].upper()] + int(word[4:6])
    check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31]
    return is_date(year, word[2:4], word[:2]) and check == word[10].upper()


def _ie_pps(word: str) -> bool:
    """Source: Ireland, Social Welfare Consolidation Act 2005; weights 8 to 2, then 9."""
    word = word.upper()
    total = weighted(word, range(8, 1, -1))
    if len(word) == 9:  # noqa: PLR2004  with a second letter
        total += 9 * (0 if word[8] == "W" else ord(word[8]) - 64)
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == word[7]


def _fr_corsica(word: str) -> bool:
    """Source: INSEE: 2A counts as 19, 2B as 18."""
    digits = word.replace(" ", "").upper().replace("2A", "19", 1).replace("2B", "18", 1)
    return digits.isdigit() and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _sg_nric(word: str) -> bool:
    """Source: Singapore, National Registration Regulations; weights 2765432."""
    word = word.upper()
    total = weighted(word[1:8], (2, 7, 6, 5, 4, 3, 2))
    total += {"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}[word[0]]
    table = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "KLJNPQRTUWX"}
    rest = total % 11
    return word[8] == table.get(word[0], "XWUTRQPNMLK")[10 - rest if word[0] == "M" else rest]


def _tw_id(word: str) -> bool:
    """Source: Taiwan, Household Registration Act; the letter counts as two digits."""
    value = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(word[0].upper()) + 10
    total = value // 10 + value % 10 * 9 + weighted(word[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))
    return total % 10 == 0


def _hk_id(word: str) -> bool:
    """Source: Hong Kong, Registration of Persons Regulations; weights 9 to 1 modulo 11."""
    word = word.upper()
    head, check = word.split("(")
    values = [36] if len(head) == 7 else []  # noqa: PLR2004  one letter: a space before it
    values += [ord(c) - 55 if c.isalpha() else int(c) for c in head]
    values.append(10 if check[0] == "A" else int(check[0]))
    return sum(v * w for v, w in zip(values, range(9, 0, -1), strict=True)) % 11 == 0


def _mx_curp(word: str) -> bool:
    """Source: Mexico, RENAPO, Instructivo normativo para la asignación de la CURP."""
    word = word.upper()
    alphabet = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(alphabet.index(c) * w for c, w in zip(word[:17], range(18, 1, -1), strict=True))
    return int(word[17]) == -total % 10 and is_date(2000, word[6:8], word[8:10])


def _in_pan(word: str) -> bool:
    """Source: India, Income Tax Department: the fourth letter says what kind of holder."""
    return word.isupper() and word[3] in "ABCFGHJKLPT"


def _cl_rut(word: str) -> bool:
    """Source: Chile, Registro Civil; weights 2 to 7 from the right, modulo 11."""
    digits, check = word.upper().replace(".", "").split("-")
    total = sum(int(d) * w for d, w in zip(reversed(digits), (2, 3, 4, 5, 6, 7) * 2, strict=False))
    return check == "0K987654321"[total % 11]


# Both patterns hang on a digit, with the class of digits first and every
# assertion after it: so the engine skips what is no digit at full speed.  The
# first consumes that digit only, so that no candidate swallows the next one.
_AFTER_LETTERS: Final = re.compile(
    r"[0-9](?:(?<=[A-Za-z][0-9])(?=[0-9](?:[ -]{0,2}[0-9A-Za-z(]){3})"
    r"|(?<=[A-Za-z][ -][0-9])(?=[0-9](?:[ -]?[0-9]){4}|[0-9] [0-9A-Z]{4} [0-9A-Z]{4}))"
)
_BEFORE_LETTERS: Final = re.compile(
    r"[0-9](?<![0-9A-Za-z_][0-9])(?:"
    r"[0-9]{7}[ -]?(?P<es_dni>[A-HJ-NP-TV-Za-hj-np-tv-z])"
    r"|[0-9]?\.[0-9]{3}\.[0-9]{3}-(?P<dotted>[0-9A-HJ-NP-TV-Zk])"
    r"|[0-9]{6}(?P<ie_pps>[A-W][A-IW]?)"
    r"|[0-9]{16}(?P<cn_resident>[Xx])"
    r"|[0-9]{5}[-+A-FU-Ya-fu-y][0-9]{3}(?P<fi_hetu>[0-9A-FHJ-NPR-Ya-fhj-npr-y])"
    r"|[0-9] ?[0-9]{6} ?(?P<de_svnr>[A-Za-z]) ?[0-9]{2} ?[0-9]"
    r"|(?<=[1-478]) ?[0-9]{2} ?[0-9]{2} ?2(?P<fr_nir>[ABab]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
    r"|[0-9]{6,7}-(?P<cl_rut>[0-9Kk])"
    r")(?![0-9A-Za-z])"
)

_Check = Callable[[str], bool]
_MAX_LETTERS: Final = 7
_LATIN: Final = frozenset(ascii_letters)


def _shape(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern + "(?![0-9A-Za-z])", re.ASCII | re.IGNORECASE)


_CF_DIGIT: Final = "[0-9L-NP-V]"
_LEFT: Final[dict[int, tuple[tuple[str, re.Pattern[str], _Check], ...]]] = {
    # by the number of letters that stand before the first digit
    1: (
        ("es-dni", _shape("[XYZ][ -]?[0-9]{7}[ -]?[A-HJ-NP-TV-Z]"), _es_dni),
        ("sg-nric", _shape("[STFGM][0-9]{7}[A-Z]"), _sg_nric),
        ("tw-id", _shape("[A-Z][1289][0-9]{8}"), _tw_id),
        ("hk-id", _shape(r"[A-Z][0-9]{6}\([0-9A]\)"), _hk_id),
    ),
    2: (
        (
            "uk-nino",
            _shape("[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?:[ -]?[0-9]{2}){3}[ -]?[A-D]"),
            _uk_nino,
        ),
        ("hk-id", _shape(r"[A-Z]{2}[0-9]{6}\([0-9A]\)"), _hk_id),
    ),
    4: (("mx-curp", _shape("[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]"), _mx_curp),),
    5: (("in-pan", _shape("[A-Z]{5}[0-9]{4}[A-Z]"), _in_pan),),
    6: (
        (
            "it-codice-fiscale",
            _shape(
                f"[A-Z]{{6}}{_CF_DIGIT}{{2}}[A-EHLMPRST]{_CF_DIGIT}{{2}}[A-Z]{_CF_DIGIT}{{3}}[A-Z]"
            ),
            _it_codice_fiscale,
        ),
    ),
}
_RIGHT: Final[dict[str, tuple[tuple[str, _Check], ...]]] = {
    "es_dni": (("es-dni", _es_dni),),
    "dotted": (("cl-rut", _cl_rut), ("es-dni", _es_dni)),
    "ie_pps": (("ie-pps", _ie_pps),),
    "cn_resident": (("cn-resident", cn_resident),),
    "fi_hetu": (("fi-hetu", _fi_hetu),),
    "de_svnr": (("de-svnr", _de_svnr),),
    "fr_nir": (("fr-nir", _fr_corsica),),
    "cl_rut": (("cl-rut", _cl_rut),),
}
KINDS: Final = frozenset(
    {
        IBAN,
        *(kind for shapes in _LEFT.values() for kind, _, _ in shapes),
        *(kind for checks in _RIGHT.values() for kind, _ in checks),
    }
)


def letters(text: str, wanted: frozenset[str], found: Found) -> None:
    """Report the IBANs and personal numbers of the *wanted* kinds."""
    for match in _AFTER_LETTERS.finditer(text):
        _after(text, match.start(), wanted, found)
    for match in _BEFORE_LETTERS.finditer(text):
        for kind, check in _RIGHT[match.lastgroup or ""]:
            if kind in wanted and _free(text, match.start()) and check(match.group()):
                found(*match.span(), kind)
                break


def _after(text: str, digit: int, wanted: frozenset[str], found: Found) -> None:
    last = digit - (text[digit - 1] in " -")
    start = last
    while start and last - start < _MAX_LETTERS and text[start - 1] in _LATIN:
        start -= 1
    shapes = _LEFT.get(last - start, ())
    if not shapes or (start and sticks(text[start - 1])):
        return
    if last - start == 2 and IBAN in wanted:  # noqa: PLR2004  letters of a country
        end = _iban(text, start, digit)
        if end:
            found(start, end, IBAN)
            return
    for kind, shape, check in shapes:
        if kind in wanted:
            match = shape.match(text, start)
            if match and check(match.group()):
                found(start, match.end(), kind)
                return


def _free(text: str, start: int) -> bool:
    """Return whether what begins at *start* is not the rest of a longer number."""
    return start < 2 or text[start - 1] not in ".-/" or not text[start - 2].isdigit()  # noqa: PLR2004
