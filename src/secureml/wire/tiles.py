"""
A log as a directory of static files: where tiles lie and what is in them.

A tile holds up to 256 hashes of one level of the tree, an entry bundle up to
256 entries.  A full one never changes.  The last one of a level is partial
and carries its width in its name, so that one grows under a new name.

A path has one spelling: no leading zeros beyond the groups of three digits,
no width of 0 or 256, no group too many.

Source: https://c2sp.org/tlog-tiles
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from secureml.wire._read import malformed, shown

__all__ = [
    "HEIGHT",
    "MAX_ENTRY",
    "WIDTH",
    "Tile",
    "decode_bundle",
    "encode_bundle",
    "entries_path",
    "layout",
    "parse_path",
    "tile_path",
]

WIDTH: Final = 256
"""Hashes in a full tile, and entries in a full bundle."""
HEIGHT: Final = 8
"""Levels of the tree that one tile spans."""
MAX_ENTRY: Final = 65_535
"""Largest entry, in bytes: its length is two bytes."""

_BUNDLE = "the entry bundle"
_MAX_LEVEL = 63
_MAX_INDEX = 1 << 55
_PATH = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


class Tile(NamedTuple):
    """
    One file of a log.

    Attributes:
        kind: ``"tile"`` for hashes, ``"entries"`` for entries.
        level: Level of tiles, from 0; 0 for entries.
        number: Position within the level, from 0.
        width: Hashes or entries in it, 1 to 256; 256 is a full one.
    """

    kind: Literal["tile", "entries"]
    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """The path of the file below the log's prefix."""
        if self.kind == "entries":
            return entries_path(self.number, self.width)
        return tile_path(self.level, self.number, self.width)


def _place(index: int, width: int) -> str:
    if not 0 <= index < _MAX_INDEX:
        msg = f"the index of a tile is 0 to 2**55 - 1, not {index}"
        raise ValueError(msg)
    if not 1 <= width <= WIDTH:
        msg = f"the width of a tile is 1 to {WIDTH}, not {width}"
        raise ValueError(msg)
    place = f"{index % 1000:03}"
    while index := index // 1000:
        place = f"x{index % 1000:03}/{place}"
    return place if width == WIDTH else f"{place}.p/{width}"


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """
    Return the path of a tile of hashes, as ``tile/0/x001/067.p/8``.

    Raises:
        ValueError: A level, index or width that no tile has.
    """
    if not 0 <= level <= _MAX_LEVEL:
        msg = f"the level of a tile is 0 to {_MAX_LEVEL}, not {level}"
        raise ValueError(msg)
    return f"tile/{level}/{_place(index, width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """
    Return the path of a bundle of entries, as ``tile/entries/x001/067``.

    Raises:
        ValueError: An index or width that no bundle has.
    """
    return f"tile/entries/{_place(index, width)}"


def parse_path(path: str) -> Tile:
    """
    Read the path of a tile or bundle in its one spelling.

    Raises:
        FormatError: No such path.
    """
    match = _PATH.fullmatch(path) if len(path) <= 80 else None  # noqa: PLR2004  7 groups fit
    if match:
        kind, place, partial = match.groups()
        index = int(place.replace("x", "").replace("/", ""))
        level = 0 if kind == "entries" else int(kind)
        width = int(partial) if partial else WIDTH
        if level <= _MAX_LEVEL and index < _MAX_INDEX and (width < WIDTH or not partial):
            tile = Tile("entries" if kind == "entries" else "tile", level, index, width)
            if tile.path == path:
                return tile
    raise malformed(
        f"the path {shown(path)}",
        "a tile lies at tile/LEVEL/NNN or tile/entries/NNN, with .p/WIDTH while it is partial",
        "remove the file if it does not belong to the log",
    )


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """
    Join entries, each behind its length in two bytes.

    Raises:
        ValueError: An entry beyond `MAX_ENTRY`, or not 1 to 256 entries.
    """
    held = list(entries)
    count = len(held)
    if not 1 <= count <= WIDTH:
        msg = f"a bundle holds 1 to {WIDTH} entries, not {count}"
        raise ValueError(msg)
    sizes = list(map(len, held))
    if max(sizes) > MAX_ENTRY:
        msg = f"an entry has at most {MAX_ENTRY:,} bytes, not {max(sizes):,}"
        raise ValueError(msg)
    parts = [b""] * (2 * count)
    parts[::2] = [size.to_bytes(2, "big") for size in sizes]
    parts[1::2] = held
    return b"".join(parts)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """
    Split a bundle that holds exactly *width* entries.

    Raises:
        FormatError: Fewer or more entries, or bytes left over.
        ValueError: *width* is not 1 to 256.
    """
    if not 1 <= width <= WIDTH:
        msg = f"the width of a bundle is 1 to {WIDTH}, not {width}"
        raise ValueError(msg)
    entries = []
    position = 0
    for _ in range(width):
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        entries.append(data[start:position])
    if position != len(data):
        raise malformed(
            _BUNDLE, f"it has {len(data)} bytes, and its {width} entries end at {position}"
        )
    return entries


def layout(size: int) -> Iterator[Tile]:
    """
    List every bundle and tile of a log of *size* entries: entries first, then by level.

    Raises:
        ValueError: *size* is below 0.
    """
    if size < 0:
        msg = f"the size of a log is 0 or more, not {size}"
        raise ValueError(msg)
    full, rest = divmod(size, WIDTH)
    for index in range(full):
        yield Tile("entries", 0, index, WIDTH)
    if rest:
        yield Tile("entries", 0, full, rest)
    level = 0
    while size:
        full, rest = divmod(size, WIDTH)
        for index in range(full):
            yield Tile("tile", level, index, WIDTH)
        if rest:
            yield Tile("tile", level, full, rest)
        size = full
        level += 1
