"""Check digits against known numbers and against the rule as its standard words it."""

import random

import pytest

from secureml import detect
from secureml.detect import _checksums
from secureml.detect._checksums import iso7064_mod11_10, luhn, mod97, verhoeff, weighted

NUMBERS = random.Random(20260101)  # noqa: S311  examples


def mod11_10(digits: str) -> int:
    """Return the check digit of the hybrid system, as ISO/IEC 7064 computes it."""
    product = 10
    for digit in digits:
        total = (product + int(digit)) % 10
        product = 2 * (total or 10) % 11
    return (11 - product) % 10


def examples(length: int) -> list[str]:
    """Return some numbers."""
    return ["".join(NUMBERS.choices("0123456789", k=length)) for _ in range(300)]


@pytest.mark.parametrize("number", ["07945", "86095742719", "47036892816", "65929970489"])
def test_known_numbers_of_the_hybrid_system(number: str) -> None:
    """The example of the standard, and tax numbers that are published as such."""
    assert iso7064_mod11_10(number)


def test_the_hybrid_system_is_the_standard_s() -> None:
    """Exactly one last digit holds, and it is the one that the standard computes."""
    for digits in examples(10):
        held = [last for last in range(10) if iso7064_mod11_10(f"{digits}{last}")]
        assert held == [mod11_10(digits)]


def test_luhn_has_one_check_digit() -> None:
    """A known number holds, each other last digit does not, whatever the length."""
    assert luhn("79927398713")
    for length in (11, 14, 15, 18):
        for digits in examples(length)[:50]:
            total = 0
            for place, digit in enumerate(reversed(digits)):
                value = int(digit) * (2 - place % 2)
                total += value - 9 * (value > 9)
            held = [last for last in range(10) if luhn(f"{digits}{last}")]
            assert held == [-total % 10]


def test_account_numbers_have_the_remainder_one() -> None:
    """Known ones hold; a digit changed, or two exchanged, do not."""
    for iban in (
        "GB82WEST12345698765432",
        "DE89370400440532013000",
        "FR1420041010050500013M02606",
    ):
        assert mod97(iban)
        for at in range(4, len(iban) - 1):
            if iban[at] != iban[at + 1]:
                swapped = iban[:at] + iban[at + 1] + iban[at] + iban[at + 2 :]
                assert not mod97(swapped)


def test_verhoeff_finds_each_wrong_digit() -> None:
    """A known number holds; each single error is found."""
    assert verhoeff("2363")
    for digits in examples(11)[:60]:
        [last] = [n for n in range(10) if verhoeff(f"{digits}{n}")]
        whole = f"{digits}{last}"
        for at, digit in enumerate(whole):
            other = (int(digit) + 1) % 10
            assert not verhoeff(f"{whole[:at]}{other}{whole[at + 1 :]}")


def test_weights_end_where_they_end() -> None:
    """Digits without a weight count nothing."""
    assert weighted("1234", (1, 10)) == 21
    assert not _checksums.is_date(2026, "02", "29")
    assert _checksums.is_date(2024, "02", "29")


@pytest.mark.parametrize(
    "name", ["email@1x", "email@1 ", "email@0", "email", "E@1", "email@12345"]
)
def test_a_detector_has_an_id_and_nothing_behind_it(name: str) -> None:
    """What stands in a record as a rule is a kind and a major."""
    with pytest.raises(ValueError, match="is not a detector's id"):
        detect.Detector(name)
