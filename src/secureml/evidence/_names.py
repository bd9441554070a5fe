"""
Names in a trust file: what they may be, and how they are spelled.

A name is shown in reports and errors, so it stays on its line and has no
character that would not be seen.
"""

from collections.abc import Iterable

__all__ = ["check_name", "check_origin", "string", "strings"]


def check_name(name: str) -> None:
    """Raise `ValueError` when *name* would not read as a name in a line of a report."""
    if not (0 < len(name) <= 200 and name.isprintable() and name == name.strip()):  # noqa: PLR2004  a line
        msg = f"a name is 1 to 200 printable characters, got {name[:40]!r}"
        raise ValueError(msg)


def check_origin(origin: str) -> None:
    """Raise `ValueError` when *origin* cannot be the name of a log (C2SP signed-note)."""
    if (
        not 0 < len(origin) <= 200  # noqa: PLR2004  a line
        or "+" in origin
        or not origin.isprintable()
        or any(character.isspace() for character in origin)
    ):
        msg = f"an origin is printable text without spaces or '+', got {origin[:40]!r}"
        raise ValueError(msg)


def strings(values: Iterable[str]) -> str:
    """Spell a TOML array of strings."""
    return f"[{', '.join(map(string, values))}]"


def string(value: str) -> str:
    """Spell a TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
