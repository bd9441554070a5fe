"""
Read a JSON object strictly: each field by name and type, or `FormatError`.

A predicate comes from bytes that somebody else may have written.  Its reader
asks for every field by name and type, and what is not as it should be is
refused with the name of the field, so that no other exception type leaves a
reader and nothing is taken for what it is not.
"""

from collections.abc import Collection, Mapping
from typing import cast

from secureml.clock import parse_time
from secureml.errors import FormatError
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = ["Fields"]

_MOST = 2**53 - 1


class Fields:
    """
    A JSON object, read field by field.

    Args:
        value: What should be an object.
        what: What it is, for the error text.
    """

    __slots__ = ("_value", "_what")

    def __init__(self, value: object, what: str) -> None:
        self._what = what
        if not isinstance(value, Mapping):
            raise self._error(f"it is {_kind(value)}", "where an object should be")
        self._value = cast("Mapping[str, JSON]", value)

    def only(self, names: Collection[str]) -> None:
        """Refuse fields that are not among *names*: for formats of ours."""
        unknown = sorted(set(self._value) - set(names))
        if unknown:
            raise self._error(repr(unknown[0])[:80], "is not a field of this format")

    def has(self, name: str) -> bool:
        """Tell whether the field *name* is present."""
        return name in self._value

    def text(self, name: str, *, empty: bool = False) -> str:
        """Return the text *name*, which is not empty unless *empty* says it may be."""
        value = self._get(name)
        if not isinstance(value, str):
            raise self._error(repr(name), f"is {_kind(value)}, not text")
        if not value and not empty:
            raise self._error(repr(name), "is empty")
        return value

    def choice(self, name: str, choices: Collection[str]) -> str:
        """Return the text *name*, one of *choices*."""
        value = self.text(name)
        if value not in choices:
            raise self._error(repr(name), f"is {value[:40]!r}, not one of {sorted(choices)}")
        return value

    def integer(self, name: str, *, least: int = 0) -> int:
        """Return the whole number *name*, at least *least*."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._error(repr(name), f"is {_kind(value)}, not a whole number")
        if not least <= value <= _MOST:
            raise self._error(repr(name), f"is not between {least} and {_MOST}")
        return value

    def boolean(self, name: str) -> bool:
        """Return the truth value *name*."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._error(repr(name), f"is {_kind(value)}, not true or false")
        return value

    def time(self, name: str) -> str:
        """Return the time *name*, in the one spelling of `secureml.clock`."""
        value = self.text(name)
        parse_time(value)
        return value

    def mapping(self, name: str) -> Mapping[str, JSON]:
        """Return the object *name* as it is."""
        value = self._get(name)
        if not isinstance(value, Mapping):
            raise self._error(repr(name), f"is {_kind(value)}, not an object")
        return value

    def fields(self, name: str) -> "Fields":
        """Return the object *name*, to be read in turn."""
        return Fields(self._get(name), f"{self._what}: {name!r}")

    def sequence(self, name: str) -> list[JSON]:
        """Return the list *name*."""
        value = self._get(name)
        if not isinstance(value, list | tuple):
            raise self._error(repr(name), f"is {_kind(value)}, not a list")
        return list(cast("list[JSON]", value))

    def items(self, name: str) -> list["Fields"]:
        """Return the list of objects *name*, each to be read in turn."""
        return [
            Fields(item, f"{self._what}: {name!r}[{i}]")
            for i, item in enumerate(self.sequence(name))
        ]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the list of texts *name*."""
        found = self.sequence(name)
        if not all(isinstance(item, str) for item in found):
            raise self._error(repr(name), "holds something that is not text")
        return tuple(cast("list[str]", found))

    def digest(self, name: str, algorithm: str = "sha256") -> Digest:
        """Return the digest by *algorithm* of the digest set *name*."""
        found = self.mapping(name)
        if not all(isinstance(value, str) for value in found.values()):
            raise self._error(repr(name), "is not a digest set: names to hex digits")
        if algorithm not in found:
            raise self._error(repr(name), f"has no {algorithm}")
        return Digest.from_set(cast("Mapping[str, str]", found), algorithm)

    def refuse(self, *, field: str, found: str) -> FormatError:
        """Return the error that says *field* is not right: *found* ends the sentence."""
        return self._error(repr(field), found)

    def _get(self, name: str) -> JSON:
        if name not in self._value:
            raise self._error(repr(name), "is missing")
        return self._value[name]

    def _error(self, name: str, found: str) -> FormatError:
        return FormatError(
            f"{self._what} cannot be read",
            why=f"{name} {found}",
            fix="get the record again from where it was made; if it is unchanged, it was "
            "written by something that does not follow the format",
        )


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return type(value).__name__
