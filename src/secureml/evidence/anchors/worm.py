"""
A copy of a log where it cannot be changed: tiles first, then the note.

The copy is laid out as the log is, so that any reader of logs can read it, and
each checkpoint that was copied has a name of its own.  Who cuts, rolls back or
edits the log cannot do the same to the copy; `compare_copy` finds it.

Source: ``docs/spec/anchors.md``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from secureml.clock import format_time
from secureml.errors import ConsistencyError, StoreError
from secureml.evidence._files import read_file
from secureml.evidence._reader import BUNDLE_LIMIT, missing
from secureml.evidence._tree import FULL, HASH, tile_width
from secureml.evidence.anchors.receipt import Head, Receipt, check_anchor_name
from secureml.evidence.anchors.stores import Kept, WormStore
from secureml.wire import tiles

__all__ = ["NOTES", "ORIGIN", "CopyAnchor", "cut_tile", "note_name"]

NOTES: Final = "checkpoints/"
"""Where the notes of a copy are."""
ORIGIN: Final = "origin"
"""The object that says whose copy it is."""


def note_name(size: int, note: str) -> str:
    """Return the name that a note has in a copy."""
    return f"{NOTES}{size:020}-{sha256(note.encode()).hexdigest()[:16]}"


@dataclass(slots=True)
class _Done:
    """What this process knows to be in the copy: all below a size, and some full tiles."""

    size: int = 0
    names: set[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyAnchor:
    """
    A copy at a place that takes each object once, as an anchor.

    Attributes:
        name: What its file of receipts is called.
        store: The place; one for each log.
        partial: Whether the unfinished tiles and the unfinished bundle are
            copied, too.  With them the copy restores every anchored entry, at
            the price of up to a bundle an interval; without, at most the last
            255 entries are missing from it, and a change to them is still
            found by the root in the note.
        interval: Seconds between two checkpoints; None for the policy's.

    Raises:
        ValueError: A field is out of range.
    """

    name: str
    store: WormStore
    partial: bool = True
    interval: float | None = None
    _done: _Done = field(default_factory=_Done, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_anchor_name(self.name)

    @property
    def kind(self) -> str:
        """``copy``."""
        return "copy"

    def submit(self, head: Head) -> Receipt:
        """
        Copy what is new in the log, and then the checkpoint.

        Raises:
            ConsistencyError: The copy has other bytes: it, or the log, was
                edited; or it is of another log.
            UnexpectedFileError: A file of the log is gone.
            StoreError: The place refuses or does not answer, or the log
                moves faster than it is read.
        """
        self._own(head)
        size = head.checkpoint.size
        present = self._present()
        for tile in _since(min(self._done.size, size), size):
            whole = tile.width == tiles.WIDTH
            if (whole or self.partial) and tile.path not in present:
                self.store.put_new(tile.path, self._read(head, tile))
                if whole:
                    present.add(tile.path)
        where = note_name(size, head.note)
        kept = self.store.put_new(where, head.note.encode())
        self._done.size = max(size, self._done.size)
        present.clear()  # all of it is below that size
        return self._receipt(head, where, kept)

    def _receipt(self, head: Head, where: str, kept: Kept) -> Receipt:
        place = f"{self.store.place.rstrip('/')}/{where}"
        until = "" if kept.until is None else format_time(kept.until)
        return Receipt(
            "copy", head.note, {"place": place, "until": until, "version": kept.version}
        )

    def _own(self, head: Head) -> None:
        """Claim the place for this log, or find that it is another's."""
        if self._done.names is not None:
            return
        origin = head.checkpoint.origin
        try:
            self.store.put_new(ORIGIN, f"{origin}\n".encode())
        except ConsistencyError as error:
            raise StoreError(
                f"the copy at {self.store.place} is of another log",
                why=f"its {ORIGIN!r} does not name {origin!r}",
                fix="give each log a place of its own",
            ) from error

    def _present(self) -> set[str]:
        """Return the full tiles that another process copied: listed once, not read again."""
        if self._done.names is None:
            self._done.names = {one for one in self.store.names("tile/") if ".p/" not in one}
        return self._done.names

    def _read(self, head: Head, tile: tiles.Tile) -> bytes:
        """Read a tile as wide as the checkpoint has it, from the file that is there now."""
        directory = head.source.directory
        try:
            return read_file(directory / tile.path, limit=BUNDLE_LIMIT)
        except FileNotFoundError as gone:
            # A writer replaces a partial tile by a fuller one.
            now = Head.read(head.source).checkpoint.size
            for width in (tile_width(now, tile.level, tile.number), tiles.WIDTH):
                wider = tile._replace(width=max(1, width))
                try:
                    data = read_file(directory / wider.path, limit=BUNDLE_LIMIT)
                except FileNotFoundError:
                    continue
                if width >= tile.width:
                    return cut_tile(data, wider, tile.width)
            raise missing(directory, gone) from gone


def _since(old: int, size: int) -> Iterator[tiles.Tile]:
    """Yield the tiles of a log of *size* entries that were not full at *old*."""
    level = 0
    while size >> 8 * level:
        for number in range((old >> 8 * level) // FULL, ((size >> 8 * level) + FULL - 1) // FULL):
            width = tile_width(size, level, number)
            if level == 0:
                yield tiles.Tile("entries", 0, number, width)
            yield tiles.Tile("tile", level, number, width)
        level += 1


def cut_tile(data: bytes, tile: tiles.Tile, width: int) -> bytes:
    """
    Return the first *width* hashes, or entries, of a tile.

    Raises:
        FormatError: The bytes are no such tile.
    """
    if tile.kind == "entries":
        return tiles.encode_bundle(tiles.decode_bundle(data, tile.width)[:width])
    return data[: width * HASH]
