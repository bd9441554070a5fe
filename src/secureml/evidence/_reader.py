"""
Reading a log directory, also beside its writer.

A reader believes the checkpoint about the size and reads nothing beyond it.
The writer may replace a partial tile between two reads: then the checkpoint
has moved as well, and reading starts again from there.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from secureml.errors import (
    DigestMismatchError,
    FormatError,
    StoreError,
    UnexpectedFileError,
)
from secureml.evidence._files import read_file
from secureml.evidence._tree import FULL, HASH, Tile, TileTree, hash_leaves, split, tile_width
from secureml.wire import tiles
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

__all__ = ["CHECKPOINT", "LogDirectory", "Rebuilt", "Sighting", "missing", "rebuild"]

CHECKPOINT = "checkpoint"
NOTE_LIMIT = 1 << 20
"""Bytes in a note: some hundred signatures, more than anybody sets under a checkpoint."""
BUNDLE_LIMIT = FULL * (2 + 65_535)
_TRIES = 20
_BUNDLES = 8
"""Bundles that are kept for reading again."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sighting:
    """
    A checkpoint as it was read: parsed, its signature not judged.

    Attributes:
        note: The signed note.
        checkpoint: What it says.
    """

    note: str
    checkpoint: Checkpoint

    @classmethod
    def of(cls, data: bytes, path: Path) -> "Sighting":
        """
        Parse the bytes of a checkpoint file.

        Raises:
            FormatError: They are no signed note, or no checkpoint.
        """
        try:
            note = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{str(path)!r} is not a checkpoint",
                why=f"byte {error.start} is not UTF-8",
                fix="get the checkpoint again from where the log comes from",
            ) from error
        return cls(note, Checkpoint.decode(Note.decode(note).text))


class LogDirectory:
    """The files of one log, read and never written."""

    __slots__ = ("_cache", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cache: dict[str, list[bytes]] = {}

    def sighting(self) -> Sighting | None:
        """
        Read the checkpoint; None when there is none.

        Raises:
            FormatError: The file is not a checkpoint.
            UnexpectedFileError: It is not a regular file.
            StoreError: It could not be read.
        """
        path = self.path / CHECKPOINT
        try:
            return Sighting.of(read_file(path, limit=NOTE_LIMIT), path)
        except FileNotFoundError:
            return None

    def hashes(self, level: int, index: int, width: int) -> bytes:
        """
        Return the first *width* hashes of a tile.

        Raises:
            FileNotFoundError: Neither the partial nor the full tile is there.
            FormatError: A tile of another length.
        """
        data, path, held = self._either(
            tiles.tile_path(level, index, width),
            tiles.tile_path(level, index, FULL),
            width,
            FULL * HASH,
        )
        if len(data) != held * HASH:
            raise _wrong_length(path, f"{len(data)} bytes for {held} hashes of {HASH}")
        return data[: width * HASH]

    def bundle(self, index: int, width: int) -> list[bytes]:
        """
        Return the first *width* entries of a bundle.

        Raises:
            FileNotFoundError: Neither the partial nor the full bundle is there.
            FormatError: The bytes are not a bundle of so many entries.
        """
        full = tiles.entries_path(index, FULL)
        partial = tiles.entries_path(index, width)
        # What has one of these names never changes, so it may be kept.
        known = self._cache.get(full) or self._cache.get(partial)
        if known is None:
            data, path, held = self._either(partial, full, width, BUNDLE_LIMIT)
            known = decode_bundle(data, held, path)
            if len(self._cache) >= _BUNDLES:
                self._cache.clear()
            self._cache[path] = known
        return known[:width]

    def _either(self, partial: str, full: str, width: int, limit: int) -> tuple[bytes, str, int]:
        try:
            return read_file(self.path / partial, limit=limit), partial, width
        except FileNotFoundError as gone:
            try:
                return read_file(self.path / full, limit=limit), full, FULL
            except FileNotFoundError:
                raise gone from None

    def at_checkpoint(self, read: Callable[[Sighting], T]) -> T:
        """
        Call *read* with the checkpoint, again when the writer got in between.

        Raises:
            UnexpectedFileError: A file of the log is gone.
            StoreError: There is no log, or it changes too fast.
        """
        seen = self.require()
        for _ in range(_TRIES):
            try:
                return read(seen)
            except FileNotFoundError as error:
                again = self.require()
                if again.note == seen.note:
                    raise missing(self.path, error) from error
                seen = again
        raise StoreError(
            f"the log in {str(self.path)!r} changes faster than it can be read",
            why=f"its checkpoint moved {_TRIES} times during one read",
            fix="try again",
            retryable=True,
        )

    def require(self) -> Sighting:
        """
        Read the checkpoint.

        Raises:
            StoreError: There is none.
        """
        seen = self.sighting()
        if seen is None:
            raise no_log(self.path)
        return seen


def no_log(path: Path) -> StoreError:
    """Return the error for a directory without a checkpoint."""
    return StoreError(
        f"there is no log in {str(path)!r}",
        why=f"the directory has no file {CHECKPOINT!r}",
        fix="check the path; if a volume was lost, restore it rather than begin a new log; "
        "to begin one, open with create=True",
    )


def missing(directory: Path, error: FileNotFoundError) -> UnexpectedFileError:
    """Return the error for a file that the checkpoint calls for."""
    name = str(error.filename)
    inside = name.removeprefix(str(directory)).lstrip("/\\")
    return UnexpectedFileError(
        f"the log in {str(directory)!r} has no file {inside!r}",
        why="the checkpoint covers it, so it was removed, or not copied",
        fix="get a complete copy of the directory; keep this one if nobody removed it on purpose",
    )


def decode_bundle(data: bytes, width: int, path: str) -> list[bytes]:
    """
    Decode an entry bundle.

    Raises:
        FormatError: It does not hold exactly *width* entries.
    """
    try:
        return tiles.decode_bundle(data, width)
    except FormatError as error:
        raise FormatError(
            f"{path!r} was changed: {error.what}", why=error.why, fix=_COPY
        ) from error


_COPY = "do not use the log; get an untouched copy, and keep this one to find out what changed it"


def _wrong_length(path: str, why: str) -> FormatError:
    return FormatError(f"{path!r} was changed: it has another length", why=why, fix=_COPY)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """
    What came out of hashing every entry again.

    Attributes:
        tree: The tree; its full tiles were taken.
        roots: The roots of the prefixes that were asked for, by size.
    """

    tree: TileTree
    roots: dict[int, bytes]


def rebuild(
    size: int,
    root: bytes,
    *,
    bundle: Callable[[int, int], list[bytes]],
    tile: Callable[[int, int, int], bytes],
    absent: Collection[int] = (),
    cuts: Collection[int] = (),
    visit: Callable[[int, list[bytes]], None] | None = None,
    keep: Callable[[Tile], None] | None = None,
) -> Rebuilt:
    """
    Hash every entry, and compare every tile byte for byte on the way.

    Nothing is believed but *size* and *root*, which come from a signed
    checkpoint: a tile is compared with what the entries make it, never read
    in place of them.

    Args:
        size: Number of entries.
        root: Root hash that the checkpoint states.
        bundle: Returns the entries of the bundle at an index and width.
        tile: Returns the hashes of the tile at a level, index and width.
        absent: Numbers of full bundles that were pruned: there the hashes of their
            tile are taken, and lead to the root like all others.
        cuts: Sizes of prefixes whose roots are wanted.
        visit: Is shown the index of the first entry of each bundle that is there,
            and the entries.
        keep: Is shown each tile, once it is rebuilt.

    Raises:
        DigestMismatchError: An entry or a tile was changed; it is named.
        FormatError: A file is not in its format.
        FileNotFoundError: A file is missing.
    """
    tree = TileTree()
    wanted = sorted(cut for cut in set(cuts) if cut <= size)
    roots = {0: tree.root()} if 0 in wanted else {}
    wrong: list[tuple[int, int, int]] = []

    def compare(built: Tile) -> None:
        level, index, data = built
        stored = tile(level, index, len(data) // HASH)
        if stored != data and (not wrong or wrong[-1][0] != level):
            same = next(at for at in range(len(data)) if stored[at] != data[at])
            wrong.append((level, index, same // HASH))
        if keep is not None:
            keep(built)

    for index in range((size + FULL - 1) // FULL):
        if index in absent:
            hashes = split(tile(0, index, FULL))
        else:
            entries = bundle(index, tile_width(size, 0, index))
            if visit is not None:
                visit(index * FULL, entries)
            hashes = hash_leaves(entries)
        while wanted and wanted[0] <= tree.size + len(hashes):
            cut = wanted.pop(0)
            head = cut - tree.size
            tree.extend(hashes[:head])
            hashes = hashes[head:]
            roots[cut] = tree.root()
        tree.extend(hashes)
        for built in tree.take_full():
            compare(built)
    for built in tree.partial():
        compare(built)
    if wrong or tree.root() != root:
        if absent:
            raise _blame_roughly(size, root, tree, wrong)
        raise _blame(size, root, tree, wrong, tile)
    return Rebuilt(tree, roots)


def _blame(
    size: int,
    root: bytes,
    tree: TileTree,
    wrong: list[tuple[int, int, int]],
    tile: Callable[[int, int, int], bytes],
) -> DigestMismatchError:
    """Say which of entry and tile was changed: the one that does not lead to the root."""
    if not wrong:
        return DigestMismatchError(
            "the entries of the log are not those of its checkpoint",
            why="entries and tiles agree with each other, and have root "
            f"{tree.root().hex()[:16]}…; the signed checkpoint of {size} entries has "
            f"{root.hex()[:16]}…",
            fix=_COPY,
        )
    level, index, position = min(wrong)
    path = tiles.tile_path(level, index, tile_width(size, level, index))
    if tree.root() == root:
        return DigestMismatchError(
            f"{path!r} was changed, at hash {position}",
            why="all entries lead to the root of the signed checkpoint, and make other hashes",
            fix=_COPY,
        )
    low = (index * FULL + position) << 8 * level
    high = min(size, low + (1 << 8 * level)) - 1
    files = tiles.entries_path(low // FULL, tile_width(size, 0, low // FULL))
    which = f"entry {low}" if low == high else f"one of the entries {low} to {high}"
    stored = TileTree()
    for at in range((size + FULL - 1) // FULL):
        data = tile(0, at, tile_width(size, 0, at))
        stored.extend([data[cut : cut + HASH] for cut in range(0, len(data), HASH)])
    also = "" if stored.root() == root or level else ", and so was something else beside it"
    return DigestMismatchError(
        f"{which}, in {files!r}, was changed{also}",
        why=f"it does not hash to what {path!r} has for it, nor do the entries lead to the "
        "root of the signed checkpoint",
        fix=_COPY,
    )


def _blame_roughly(
    size: int, root: bytes, tree: TileTree, wrong: list[tuple[int, int, int]]
) -> DigestMismatchError:
    """Say where a pruned log was changed: without its entries nobody can tell a tile's word."""
    found = tree.root()
    if wrong:
        level, index, _ = min(wrong)
        path = tiles.tile_path(level, index, tile_width(size, level, index))
        start, end = index * FULL << 8 * level, min(size, (index + 1) * FULL << 8 * level)
        what = f"{path!r}, or one of the entries {start} to {end - 1}, was changed"
    else:
        what = "the entries of the log are not those of its checkpoint"
    return DigestMismatchError(
        what,
        why=f"what is there has root {found.hex()[:16]}…, the signed checkpoint of {size} entries "
        f"has {root.hex()[:16]}…; where entries were pruned, the hashes of their tile were taken",
        fix="do not use the log; get an untouched copy, and keep this one to find out what "
        "changed it",
    )
