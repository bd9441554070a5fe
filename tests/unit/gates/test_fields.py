"""Reading JSON objects strictly."""

from typing import Any

import pytest

from secureml.errors import FormatError
from secureml.gates.fields import Fields

ODD: list[Any] = [None, True, 1, 2.5, "x", [], ["a"], {}, {"a": 1}, object()]


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x", [], object()])
def test_what_is_no_object_is_refused(value: object) -> None:
    """Only an object has fields."""
    with pytest.raises(FormatError, match="object should be"):
        Fields(value, "a thing")


@pytest.mark.parametrize(
    ("method", "good"),
    [
        ("text", "x"),
        ("integer", 3),
        ("boolean", False),
        ("time", "2026-11-22T08:30:00.000000Z"),
        ("mapping", {}),
        ("fields", {}),
        ("sequence", []),
        ("items", [{}]),
        ("texts", ["a"]),
        ("digest", {"sha256": "00" * 32}),
    ],
)
def test_a_field_has_its_type(method: str, good: object) -> None:
    """A value of another type, or none, is a `FormatError` that names the field."""
    read = getattr(Fields({"name": good}, "a thing"), method)
    read("name")
    with pytest.raises(FormatError, match="'other' is missing"):
        read("other")
    for value in ODD:
        fields = Fields({"name": value}, "a thing")
        if type(value) is type(good) and method not in {"time", "items", "digest", "texts"}:
            getattr(fields, method)("name")
        elif not (value in ([], ["a"]) and method in {"items", "texts"}):
            with pytest.raises(FormatError):
                getattr(fields, method)("name")


@pytest.mark.parametrize("value", [-1, 2**53, True, 1.0])
def test_a_whole_number_is_in_range(value: object) -> None:
    """Counts are from 0 to 2**53 - 1."""
    with pytest.raises(FormatError):
        Fields({"n": value}, "a thing").integer("n")


def test_an_empty_text_is_refused_unless_allowed() -> None:
    """A name is never empty by accident."""
    with pytest.raises(FormatError, match="empty"):
        Fields({"t": ""}, "a thing").text("t")
    assert Fields({"t": ""}, "a thing").text("t", empty=True) == ""


def test_a_choice_is_one_of_few() -> None:
    """The error lists them."""
    with pytest.raises(FormatError, match="'no', 'yes'"):
        Fields({"t": "maybe"}, "a thing").choice("t", ("yes", "no"))


@pytest.mark.parametrize(
    "value", [{"md5": "00" * 16}, {"sha256": 1}, {"sha256": "00"}, {"sha256": "00" * 32, "b": 1}]
)
def test_a_digest_set_is_one(value: object) -> None:
    """Short, foreign and misspelled digests are refused."""
    with pytest.raises(FormatError):
        Fields({"d": value}, "a thing").digest("d")


def test_unknown_fields_can_be_refused() -> None:
    """Formats of ours say what may stand in them."""
    fields = Fields({"a": 1, "b": 2}, "a thing")
    fields.only(("a", "b", "c"))
    with pytest.raises(FormatError, match="'b'"):
        fields.only(("a",))
    assert fields.has("a")
    assert not fields.has("c")
