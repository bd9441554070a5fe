"""Cards, secrets and letters at their edges: groups, neighbours, limits."""

import pytest

from secureml import detect

CARD = "4111111111111111"


def kinds(text: str, *names: str) -> list[str]:
    """Return the kinds that are found."""
    detectors = [d for name in names or ("personal", "secrets") for d in detect.named(name)]
    return [span.kind for span in detect.find(text, detectors)]


@pytest.mark.parametrize(
    "text",
    [
        CARD,
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111\t1111\t1111\t1111",
        "3782 822463 10005",
        "3056 930902 5904",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1",
        f"{CARD} 123",
        f"12/26 {CARD}",
        "4111 1111 1111 1111 5555 5555 5555 4444 3566 0020 2036 0505",
        f"PAN{CARD}",
        f"card_{CARD}",
        f"({CARD})",
    ],
)
def test_cards(text: str) -> None:
    """A card is found in one piece, in its groups, digit by digit, and beside other numbers."""
    assert "card" in kinds(text, "card")


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "41111111111111111",
        f"1{CARD}",
        f"{CARD}1",
        f"ab{CARD}",
        f"{CARD}a",
        f"-1a-{CARD}",
        "411 111 111 111 1111",
        "4111-1111 1111.1111",
        "1111111111111117",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "1234 4111 1111 1111 1111 9999 8888 7777 6666 5555 4444 3333",
    ],
)
def test_no_cards(text: str) -> None:
    """A wrong check digit, length, issuer or grouping is no card, nor a part of a number."""
    assert kinds(text, "card") == []


def test_columns_of_numbers_are_no_personal_numbers() -> None:
    """What passes one check in ten counts alone, and not in a long row of numbers."""
    row = " ".join(["2341 2341 2346"] * 5)

    assert ["in-aadhaar"] == kinds("2341 2341 2346", "in-aadhaar")
    assert kinds(row, "in-aadhaar") == []
    assert kinds("1234-2341-2341-2346", "in-aadhaar") == []


def test_numbers_inside_of_ids_are_left_alone() -> None:
    """A personal number is not looked for inside a hyphenated id, but after a word."""
    assert kinds("e29b-44051401359", "pl-pesel") == []
    assert kinds("1.44051401359", "pl-pesel") == []
    assert ["pl-pesel"] == kinds("PESEL-44051401359", "pl-pesel")
    assert ["pl-pesel"] == kinds("nr.44051401359", "pl-pesel")


def test_corsica_and_other_letters() -> None:
    """A number with a letter inside is checked as its issuer says."""
    digits = 2690519588157
    key = 97 - digits % 97

    assert ["fr-nir"] == kinds(f"2 69 05 2A 588 157 {key:02}")
    assert kinds(f"2 69 05 2A 588 157 {key % 97 + 1:02}", "fr-nir") == []
    assert ["iban"] == kinds("DE 89 3704 0044 0532 0130 00")
    assert ["iban"] == kinds("de89370400440532013000")
    assert kinds("XX89370400440532013000", "iban") == []
    assert kinds("DE89 3704 0044", "iban") == []
    assert kinds("DE893704004405320130001", "iban") == []
    assert kinds("GB123456C", "uk-nino") == []
    assert kinds("131352-308T", "fi-hetu") == []
    assert kinds("15073249C103", "de-svnr") == []
    assert kinds("1234567U", "ie-pps") == []


def test_private_keys() -> None:
    """A key is found to its end; one that is cut off, to where the text ends."""
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    whole = f"{begin}\nabc\n{end}"

    assert [detect.Span(2, 2 + len(whole), "private-key")] == detect.find(f"a {whole} b")
    assert [detect.Span(2, 6 + len(begin), "private-key")] == detect.find(f"a {begin}\nabc")
    assert 2 == len(detect.find(f"{whole}\n{whole}"))
    assert ["private-key"] == kinds("AGE-SECRET-KEY-1" + "Q" * 58, "secrets")
    assert kinds("-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----") == []


def test_marks_inside_of_words_are_no_tokens() -> None:
    """A token begins where a word begins."""
    body = "a1B2c3D4e5" * 4

    assert ["github-token"] == kinds(f"ghp_{body}")
    assert kinds(f"xghp_{body}") == []
    assert kinds(f"risk-{body}") == []
    assert ["password"] == kinds("key = 1; token: 'Zx91kQ7rT2mN'")
    assert kinds("url://user:${PASS}@host") == []
    assert kinds("Authorization: Bearer aaaaaaaaaaaaaaaaaaaa") == []
    assert ["password"] == kinds("\u0130 password=hunter2")
