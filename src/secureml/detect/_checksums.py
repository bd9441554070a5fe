"""
Check digits: what tells a number that was issued from one that was typed at random.

Each function takes text of ASCII digits (or what it says) and returns whether
the check holds.  None looks at lengths that its callers have settled already.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

__all__ = [
    "is_date",
    "iso7064_mod11_10",
    "luhn",
    "mod97",
    "verhoeff",
    "weighted",
]

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_LETTERS: Final = {chr(ord("A") + n): str(n + 10) for n in range(26)}

_VERHOEFF_D: Final = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_P: Final = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def luhn(digits: str) -> bool:
    """
    Return whether the last digit is the Luhn check digit of the others.

    Source: ISO/IEC 7812-1, annex B.
    """
    values = [ord(digit) - 48 for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def mod97(text: str) -> bool:
    """
    Return whether an IBAN's check digits hold: letters as 10 to 35, remainder 1.

    Source: ISO 13616-1; ISO/IEC 7064, MOD 97-10.
    """
    number = "".join(_LETTERS.get(char, char) for char in text[4:] + text[:4])
    return int(number) % 97 == 1


def verhoeff(digits: str) -> bool:
    """
    Return whether the last digit is the Verhoeff check digit of the others.

    Source: J. Verhoeff, Error Detecting Decimal Codes (1969).
    """
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[place % 8][int(digit)])])
    return check == 0


def iso7064_mod11_10(digits: str) -> bool:
    """
    Return whether the check digit of the hybrid system MOD 11,10 holds.

    Source: ISO/IEC 7064.
    """
    check = 5
    for digit in digits:
        check = ((check or 10) * 2 % 11 + int(digit)) % 10
    return check == 1


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Return the sum of each digit times its weight, as far as there are weights."""
    return sum((ord(digit) - 48) * weight for digit, weight in zip(digits, weights, strict=False))


def is_date(year: int, month: str, day: str) -> bool:
    """Return whether there is such a day; *month* and *day* are text of digits."""
    try:
        date(year, int(month), int(day))
    except ValueError:
        return False
    return True
