"""
The hash tree of a log, held as its right edge of tiles.

A tile is 256 hashes of one level, so a tree of any size has at most one
unfinished tile on each eighth level.  Those are all that is needed to append:
a full tile is handed out once, its root moves one tile up, and nothing is
hashed twice.

Source: RFC 6962 section 2.1; c2sp.org/tlog-tiles.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

from secureml.wire import tiles

__all__ = ["FULL", "Tile", "TileTree", "hash_leaves", "node_from_tiles", "subtree_root"]

FULL = 256
"""Hashes in a full tile, entries in a full bundle."""

HASH = 32
"""Bytes in a hash."""

Tile = tuple[int, int, bytes]
"""Level, index and the hashes one after another."""


def hash_leaves(entries: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hash of each entry."""
    return [sha256(b"\0" + entry).digest() for entry in entries]


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of *hashes*."""
    while len(hashes) > 1:
        hashes = [
            sha256(b"\1" + left + right).digest()
            for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


class TileTree:
    """
    A tree that grows at the right, and forgets what can no longer change.

    Attributes:
        size: Number of leaves.
        full: Tiles that became full and were not taken yet.
    """

    __slots__ = ("_edges", "full", "size")

    def __init__(self) -> None:
        self._edges: list[list[bytes]] = [[]]
        self.size = 0
        self.full: list[Tile] = []

    @classmethod
    def of(cls, size: int, tile: Callable[[int, int], Sequence[bytes]]) -> "TileTree":
        """
        Return the tree of *size* leaves whose hashes are taken from tiles, unchecked.

        Args:
            size: Number of leaves.
            tile: Returns the hashes of the tile at a level and an index, so many as the
                tree has, or more.
        """
        tree = cls()
        tree.size = size
        edges: list[list[bytes]] = []
        while count := size >> 8 * len(edges):
            index, width = divmod(count, FULL)
            edges.append(list(tile(len(edges), index)[:width]) if width else [])
        tree._edges = edges or [[]]
        return tree

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        edge = self._edges[0]
        edge.append(leaf)
        self.size += 1
        if len(edge) == FULL:
            self._carry()

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add many leaf hashes."""
        start = 0
        while start < len(leaves):
            edge = self._edges[0]
            some = leaves[start : start + FULL - len(edge)]
            edge.extend(some)
            start += len(some)
            self.size += len(some)
            if len(edge) == FULL:
                self._carry()

    def _carry(self) -> None:
        level = 0
        while len(self._edges[level]) == FULL:
            hashes = self._edges[level]
            index = (self.size >> 8 * (level + 1)) - 1
            self.full.append((level, index, b"".join(hashes)))
            self._edges[level] = []
            level += 1
            if level == len(self._edges):
                self._edges.append([])
            self._edges[level].append(subtree_root(hashes))

    def take_full(self) -> list[Tile]:
        """Hand out the tiles that became full, once."""
        full, self.full = self.full, []
        return full

    def partial(self) -> list[Tile]:
        """Return the unfinished tile of each level that has one."""
        return [
            (level, self.size >> 8 * (level + 1), b"".join(edge))
            for level, edge in enumerate(self._edges)
            if edge
        ]

    def root(self) -> bytes:
        """Return the root over all leaves."""
        root: bytes | None = None
        for edge in self._edges:
            for peak in _peaks(edge):
                root = peak if root is None else sha256(b"\1" + peak + root).digest()
        return sha256(b"").digest() if root is None else root


def _peaks(edge: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the roots of the perfect subtrees of one level, the smallest first."""
    end = len(edge)
    while end:
        width = end & -end
        yield subtree_root(edge[end - width : end])
        end -= width


def split(data: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    return [data[at : at + HASH] for at in range(0, len(data), HASH)]


def node_from_tiles(read: Callable[[int, int], bytes]) -> Callable[[int, int], bytes]:
    """
    Return a function that gives the hash of any complete subtree.

    Args:
        read: Returns the hashes of the tile at a level and an index, as
            bytes; as many as the tree at hand has, or more.
    """

    def node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, 8)
        start = index << height
        data = read(tile_level, start >> 8)
        first = (start & (FULL - 1)) * HASH
        return subtree_root(split(data[first : first + (HASH << height)]))

    return node


def tile_width(size: int, level: int, index: int) -> int:
    """Return how many hashes tile *index* of *level* has in a tree of *size*; 0 for none."""
    return max(0, min(FULL, (size >> 8 * level) - index * FULL))


def layout(size: int) -> dict[str, tiles.Tile]:
    """Return every file of a log of *size* entries but its checkpoint, by path."""
    return {tile.path: tile for tile in tiles.layout(size)}


def partials(size: int) -> set[str]:
    """Return the paths of `layout` that a larger tree replaces."""
    found: set[str] = set()
    level = 0
    while count := size >> tiles.HEIGHT * level:
        index, width = divmod(count, FULL)
        if width:
            found.add(tiles.tile_path(level, index, width))
            if level == 0:
                found.add(tiles.entries_path(index, width))
        level += 1
    return found
