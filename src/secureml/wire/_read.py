"""
The refusals that all decoders share.

One sentence says which thing was read, one what was found in it, one what to
do: the same three everywhere, so a decoder is a list of rules and not of
error texts.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from secureml.errors import FormatError
from secureml.wire.canonical import JSON

__all__ = ["array", "decimal", "malformed", "members", "reading", "shown", "text"]

_FIX = (
    "get it again from where it came; "
    "if it is the same, its writer made it wrong or it was altered"
)
_MAX_DIGITS = 19


def malformed(what: str, why: str, fix: str = _FIX) -> FormatError:
    """Build the error for bytes that are not *what* they should be."""
    return FormatError(f"{what} is malformed", why=why, fix=fix)


def shown(value: object) -> str:
    """Show a piece of untrusted text in an error: quoted, escaped, short."""
    piece = value if isinstance(value, str) else repr(value)
    return ascii(piece if len(piece) <= 60 else piece[:57] + "...")  # noqa: PLR2004  a line's worth


@contextmanager
def reading(what: str) -> Iterator[None]:
    """
    Turn a constructor's complaint into a format error.

    A constructor's rules are the format's rules.  What is the caller's bug
    when a program builds the value is bad input when a decoder does.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise malformed(what, str(error)) from None


def members(
    value: JSON, what: str, *, required: Collection[str], optional: Collection[str] = ()
) -> Mapping[str, JSON]:
    """
    Check that *value* is an object with exactly these members.

    Raises:
        FormatError: No object; a member is missing; one is unknown.
    """
    if not isinstance(value, dict):
        raise malformed(what, f"an object is expected here, found {_kind(value)}")
    for name in required:
        if name not in value:
            raise malformed(what, f"the member {name!r} is missing")
    if len(value) > len(required):
        for name in value:
            if name not in required and name not in optional:
                raise malformed(what, f"it has the unknown member {shown(name)}")
    return value


def array(value: JSON, what: str, name: str) -> list[JSON]:
    """Check that *value* is an array."""
    if isinstance(value, list):
        return value
    raise malformed(what, f"{name!r} must be an array, found {_kind(value)}")


def text(value: JSON, what: str, name: str) -> str:
    """Check that *value* is a string."""
    if isinstance(value, str):
        return value
    raise malformed(what, f"{name!r} must be a string, found {_kind(value)}")


def decimal(value: str, what: str, name: str) -> int:
    """
    Read a decimal number below 2**63 in its one spelling.

    Raises:
        FormatError: A sign, a space, a leading zero, a digit that is not
            ASCII, or a number too large.
    """
    if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        number = int(value)
        if str(number) == value and number < 1 << 63:
            return number
    raise malformed(what, f"{name!r} must be a decimal number below 2**63, found {shown(value)}")


def _kind(value: JSON) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, dict) else "an array"
