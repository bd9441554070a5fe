"""Ways to carry personal data past redaction: those that are caught, and those that are not."""

import base64
import dataclasses
from collections.abc import Iterator, Mapping

import pytest

from secureml.audit import redaction as redact
from secureml.audit.redaction import Redactor
from secureml.audit.value import encode

EMAIL = "canary.bird@cage.example"
CARD = "4111111111111111"
REDACTOR = Redactor.of(["personal", "secrets"])


class TwoFaced(Mapping[str, str]):
    """A mapping that shows another value each time that it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, key: str) -> str:
        self.reads += 1
        return "harmless" if self.reads % 2 else EMAIL

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Quiet(str):
    """Text whose methods say that nothing is in it."""

    __slots__ = ()

    def __str__(self) -> str:
        return ""

    def __contains__(self, other: object) -> bool:
        return False

    def isascii(self) -> bool:
        """Lie."""
        return True

    def lower(self) -> str:
        """Lie."""
        return ""


@dataclasses.dataclass
class Holder:
    """An object with a field."""

    field: object


CAUGHT: dict[str, object] = {
    "full-width letters": EMAIL.translate({n: n + 0xFEE0 for n in range(0x21, 0x7F)}),
    "characters of no width": "\u200b".join(EMAIL),
    "soft hyphens": "\u00ad".join(EMAIL),
    "tags and variation selectors": "\ufe0f\U000e0041".join(EMAIL),
    "no-break spaces in a card": "4111\u00a01111\u00a01111\u00a01111",
    "digits of another script": CARD.translate({48 + n: 0x0660 + n for n in range(10)}),
    "typographic dashes": "4111\u20131111\u20131111\u20131111",
    "a space after each digit": " ".join(CARD),
    "in a URL": "https://x.example/?m=" + EMAIL.replace("@", "%40"),
    "UTF-8 bytes": EMAIL.encode(),
    "UTF-16 bytes": EMAIL.encode("utf-16-le"),
    "a bytearray": bytearray(EMAIL.encode()),
    "a key": {EMAIL: 1},
    "a number": int(CARD),
    "a float": float(CARD),
    "an element of a set": {EMAIL},
    "a field": Holder([Holder(EMAIL)]),
    "text with lying methods": Quiet(EMAIL),
    "deep inside": [[[[{"a": ({"b": [EMAIL]},)}]]]],
    "by the name of a key": {"password": "no form at all"},
    "next to other findings": f"{EMAIL}{CARD}{EMAIL}",
    "glued to a word": f"PAN{CARD}",
}
MISSED: dict[str, object] = {
    "base64": base64.b64encode(EMAIL.encode()).decode(),
    "hexadecimal": EMAIL.encode().hex(),
    "a card backwards": "4111111111111129"[::-1],
    "spelled out": "canary dot bird at cage dot example",
    "an entity of HTML": EMAIL.replace("@", "&#64;"),
    "spread over a list": list(EMAIL),
    "a name without a form": "Jane Roe of 1 Main Street",
    "digits as words": "four one one one",
    "a column of numbers": __import__("array").array("q", [int(CARD)]).tobytes().hex(),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_what_is_caught(name: str) -> None:
    """The disguise is seen through, and nothing of the value is committed to."""
    value, redactions = REDACTOR.apply("row", CAUGHT[name])

    encoded = encode(value)
    assert redactions
    assert all(part.encode() not in encoded for part in (EMAIL, CARD, "no form", "canary"))


@pytest.mark.parametrize("name", MISSED)
def test_what_is_not_caught(name: str) -> None:
    """What docs/spec/redaction.md lists as missed is missed: a detector knows forms only."""
    value, redactions = REDACTOR.apply("row", MISSED[name])

    assert () == redactions
    assert MISSED[name] == value


def test_what_was_searched_is_what_is_committed_to() -> None:
    """A value that changes between two reads is read once; the copy is what is encoded."""
    value, _ = REDACTOR.apply("row", TwoFaced())

    for _ in range(3):
        assert EMAIL.encode() not in encode(value)


def test_later_changes_do_not_reach_the_copy() -> None:
    """What another thread puts into the value afterwards is not in what was returned."""
    inner: list[object] = ["harmless"]
    row = {"a": inner}
    value, _ = REDACTOR.apply("row", row)
    inner.append(EMAIL)
    row["b"] = [EMAIL]

    assert {"a": ["harmless"]} == value


def test_a_stream_in_single_characters() -> None:
    """A model that hands out one character at a time does not carry an address past."""
    chunks, redactions = REDACTOR.apply_chunks("yield", list(f"to {EMAIL}, {CARD}"))

    assert "to [email], [card]" == "".join(map(str, chunks))
    assert [1, 1] == [r.count for r in redactions]


def test_a_misspelt_rule_does_not_redact_in_silence() -> None:
    """A wrong name is an error when the function is decorated, or at the first call."""
    with pytest.raises(ValueError, match="leads to nothing"):
        Redactor([redact.drop("usr.address")]).for_paths(["user"])
    with pytest.raises(ValueError, match="has no 'strasse'"):
        Redactor([redact.drop("user.strasse")]).apply("user", {"address": EMAIL})


def test_a_type_from_elsewhere_is_not_passed_on() -> None:
    """A value that redaction does not know is refused, not committed to unread."""

    class Sealed:
        secret = EMAIL

    with pytest.raises(TypeError, match="cannot look into"):
        REDACTOR.apply("row", {"a": Sealed()})
