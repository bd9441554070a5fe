"""
A log beside its copy: what was cut, rolled back, edited, and where.

The log may be damaged, so nothing of it is believed: it is hashed again, each
file is compared with the bytes in the copy, and each checkpoint in the copy has
to be signed by the log's key and to be a prefix of the log.  Where an object of the copy has
several versions the oldest counts, and that there are several is a finding.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    StoreError,
    UnexpectedFileError,
    VerificationError,
)
from secureml.evidence._files import read_file
from secureml.evidence._reader import (
    BUNDLE_LIMIT,
    CHECKPOINT,
    NOTE_LIMIT,
    LogDirectory,
    Sighting,
    decode_bundle,
    missing,
    rebuild,
)
from secureml.evidence._tree import FULL, HASH, TileTree, partials, tile_width
from secureml.evidence.anchors.stores import Version, WormStore
from secureml.evidence.anchors.worm import NOTES, cut_tile, note_name
from secureml.evidence.notes import verify_checkpoint
from secureml.evidence.trust import Trust
from secureml.wire import tiles

__all__ = ["CopyFinding", "CopyReport", "NoteVerifier", "compare_copy", "note_check"]

_FIX: Final = "keep both as they are, and find out who could write to which"
_LOG_FINDINGS: Final = ("gone", "rolled-back", "forked", "cut", "edited")


class Head(Protocol):
    """**Protocol.** A verified checkpoint, as `verify_checkpoint` makes one."""

    origin: str
    size: int
    root: bytes


NoteVerifier = Callable[[str], Head]
"""Returns what a note says if the log's key signed it, and raises `VerificationError` else."""


@dataclass(frozen=True, slots=True)
class CopyFinding:
    """
    A difference.

    Attributes:
        name: ``gone``, ``rolled-back``, ``forked``, ``cut`` or ``edited``: the
            log was changed.  ``copy-missing``, ``copy-hidden``,
            ``copy-overwritten``, ``copy-foreign`` or ``copy-unlocked``: it is
            the copy.
        what: What was found, naming the file and, where it can be told, the entry.
        why: What was expected.
    """

    name: str
    what: str
    why: str

    def error(self) -> VerificationError:
        """Return the finding as an error."""
        kind: type[VerificationError] = UnexpectedFileError
        if self.name == "edited":
            kind = DigestMismatchError
        elif self.name in _LOG_FINDINGS:
            kind = ConsistencyError
        return kind(f"{self.what} ({self.name})", why=self.why, fix=_FIX)


@dataclass(frozen=True, slots=True)
class CopyReport:
    """
    What a comparison found.

    Attributes:
        origin: The log's name.
        place: Where the copy is.
        size: Entries under the newest checkpoint in the copy.
        log_size: Entries under the log's checkpoint; None when there is no good one.
        notes: Number of good checkpoints in the copy.
        files: Number of tiles and bundles that were compared.
        findings: What differs; those about the log first.
    """

    origin: str
    place: str
    size: int
    log_size: int | None
    notes: int
    files: int
    findings: tuple[CopyFinding, ...]

    def enforce(self) -> "CopyReport":
        """
        Return this report if nothing differs.

        Raises:
            ConsistencyError: The log is gone, was cut, rolled back or forked.
            DigestMismatchError: A file of the log was edited.
            UnexpectedFileError: The copy is not as it was left.
        """
        for finding in self.findings:
            raise finding.error()
        return self


def compare_copy(
    directory: str | os.PathLike[str],
    store: WormStore,
    *,
    trust: Trust | None = None,
    role: str = "log",
    check: NoteVerifier | None = None,
    minimum: int = 0,
) -> CopyReport:
    """
    Compare the log in *directory* with its copy.

    Everything in the copy is read: the newest of each tile, and every
    checkpoint.

    Args:
        directory: The log; it may be damaged, or gone.
        store: The place of its copy.
        trust: The reviewed root.
        role: ``log``, or ``audit`` for an audit log.
        check: Judges notes in place of *trust* and *role*.
        minimum: Entries below this were pruned by policy, and may be missing.

    Raises:
        StoreError: The copy or the log could not be read, or the copy has no
            checkpoint of this log.
        ValueError: Neither *trust* nor *check*.
    """
    judge = check or note_check(trust, role)
    return _Comparison(Path(directory), store, judge, minimum).report()


def note_check(trust: Trust | None, role: str) -> NoteVerifier:
    """
    Return what judges a log's notes under *trust*.

    Raises:
        ValueError: There is none.
    """
    if trust is None:
        msg = "notes are judged under a trust, or by a check of the caller's"
        raise ValueError(msg)
    known = trust
    return lambda note: verify_checkpoint(note, trust=known, role=role)


class _Comparison:
    """One comparison; the findings as they come."""

    def __init__(self, path: Path, store: WormStore, check: NoteVerifier, minimum: int) -> None:
        self.path, self.store, self.check, self.minimum = path, store, check, minimum
        self.directory = LogDirectory(path)
        self.held: dict[str, bytes] = {}
        self.found: list[CopyFinding] = []
        self.files = 0

    def say(self, name: str, what: str, why: str) -> None:
        """Note a difference."""
        self.found.append(CopyFinding(name, what, why))

    def report(self) -> CopyReport:
        """Compare, and return what was found."""
        notes = self.notes()
        if not notes:
            raise StoreError(
                f"the copy at {self.store.place} has no checkpoint",
                why="nothing in it is a checkpoint that a trusted key of the log signed",
                fix="check the place, and the trust file",
            )
        newest = max(notes, key=lambda one: one[0].size)
        head = newest[0]
        if self.store.locks and self.store.until(newest[1]) is None:
            self.say("copy-unlocked", f"{newest[1].name!r} is not locked", "it can be deleted")
        own = self.log(head)
        if own is not None:
            self.prefixes(notes, own)
        log_size = None if own is None else own.size
        self.every(head.size, log_size)
        order = sorted(self.found, key=lambda one: one.name not in _LOG_FINDINGS)
        return CopyReport(
            head.origin,
            self.store.place,
            head.size,
            log_size,
            len(notes),
            self.files,
            tuple(order),
        )

    def oldest(self, prefix: str) -> Iterator[tuple[Version, list[Version]]]:
        """Yield the oldest version of each object, and the others."""
        first: Version | None = None
        others: list[Version] = []
        for version in self.store.versions(prefix):
            if first is not None and version.name == first.name:
                others.append(version)
                continue
            if first is not None:
                yield first, others
            first, others = version, []
        if first is not None:
            yield first, others

    def watch(self, version: Version, others: list[Version], data: bytes, limit: int) -> None:
        """Note what was done to an object of the copy."""
        if version.hidden:
            self.say(
                "copy-hidden",
                f"{version.name!r} in the copy looks deleted",
                "a delete marker lies over it; its versions are kept",
            )
        for other in others:
            try:
                same = self.store.read(other, limit=limit) == data
            except FormatError:
                same = False
            if not same:
                self.say(
                    "copy-overwritten",
                    f"{version.name!r} in the copy has another version",
                    "other bytes were put over it; the oldest version was compared",
                )

    def notes(self) -> list[tuple[Head, Version]]:
        """Return the good checkpoints of the copy."""
        good = []
        for version, others in self.oldest(NOTES):
            try:
                data = self.store.read(version, limit=NOTE_LIMIT)
                self.watch(version, others, data, NOTE_LIMIT)
                note = data.decode("utf-8", "replace")
                head = self.check(note)
                if version.name != note_name(head.size, note):
                    raise FormatError("its name is another one's", why="", fix="")  # noqa: TRY301
            except (FormatError, VerificationError) as error:
                self.say(
                    "copy-foreign",
                    f"{version.name!r} in the copy is no checkpoint of the log",
                    error.what,
                )
            else:
                good.append((head, version))
        return good

    def log(self, head: Head) -> Head | None:
        """Judge the log's own checkpoint, and hold what its writer may replace."""
        try:
            note, self.held = self.directory.at_checkpoint(self.snapshot)
        except UnexpectedFileError as error:
            self.say("cut", error.what, error.why)
            try:
                data = read_file(self.path / CHECKPOINT, limit=NOTE_LIMIT)
            except (FileNotFoundError, FormatError, UnexpectedFileError):
                return None  # what is said already is about the checkpoint
            note = data.decode("utf-8", "replace")
        except FormatError as error:
            self.say("edited", f"the checkpoint of {head.origin!r} is none", error.what)
            return None
        except StoreError:
            if os.path.lexists(self.path / CHECKPOINT):
                raise
            self.say(
                "gone",
                f"there is no log in {str(self.path)!r}",
                f"the copy has {head.size} entries of {head.origin!r}",
            )
            return None
        try:
            own = self.check(note)
        except (FormatError, VerificationError) as error:
            self.say("edited", f"the checkpoint of {head.origin!r} is not the log's", error.what)
            return None
        if own.origin != head.origin:
            self.say(
                "forked",
                f"the log is {own.origin!r}, the copy of {head.origin!r}",
                "a copy says nothing about another log",
            )
            return None
        if own.size < head.size:
            self.say(
                "rolled-back",
                f"the log {own.origin!r} was cut or rolled back to {own.size} entries",
                f"its own key signed {head.size}, and the copy has them",
            )
        return own

    def snapshot(self, seen: Sighting) -> tuple[str, dict[str, bytes]]:
        """Read the partial tiles together with the checkpoint."""
        names = partials(seen.checkpoint.size)
        return seen.note, {n: read_file(self.path / n, limit=BUNDLE_LIMIT) for n in names}

    def file(self, tile: tiles.Tile) -> tuple[bytes, tiles.Tile]:
        """Return the log's bytes for a tile, and how wide what they came from is."""
        if tile.path in self.held:
            return self.held[tile.path], tile
        try:
            return read_file(self.path / tile.path, limit=BUNDLE_LIMIT), tile
        except FileNotFoundError:
            full = tile._replace(width=FULL)
            return read_file(self.path / full.path, limit=BUNDLE_LIMIT), full

    def part(self, tile: tiles.Tile) -> bytes:
        """Return the log's bytes for exactly that tile."""
        data, found = self.file(tile)
        return cut_tile(data, found, tile.width)

    def prefixes(self, notes: list[tuple[Head, Version]], own: Head) -> None:
        """Check that each checkpoint in the copy begins the log."""
        sizes = {head.size for head, _ in notes if head.size <= own.size}
        try:
            roots = self.roots(own, sizes)
        except FileNotFoundError as error:
            gone = missing(self.path, error)
            self.say("cut", gone.what, gone.why)
            return
        except (FormatError, VerificationError) as error:
            self.say("edited", error.what, error.why)
            return
        for head, version in notes:
            if head.size in roots and roots[head.size] != head.root:
                self.say(
                    "forked",
                    f"the first {head.size} entries of {head.origin!r} are others than the copy's",
                    f"{version.name!r} has another root, signed by the log's own key",
                )

    def roots(self, own: Head, sizes: set[int]) -> dict[int, bytes]:
        """Hash the log again, and return the roots of its prefixes."""

        def bundle(index: int, width: int) -> list[bytes]:
            tile = tiles.Tile("entries", 0, index, width)
            return decode_bundle(self.part(tile), width, tile.path)

        def hashes(level: int, index: int, width: int) -> bytes:
            tile = tiles.Tile("tile", level, index, width)
            data = self.part(tile)
            if len(data) != width * HASH:
                raise FormatError(
                    f"{tile.path!r} was changed: it has another length",
                    why=f"{len(data)} bytes for {width} hashes",
                    fix=_FIX,
                )
            return data

        if not self.minimum:
            return rebuild(own.size, own.root, bundle=bundle, tile=hashes, cuts=sizes).roots
        # Without its pruned entries, a log has its tiles: they lead to its own root, or not.
        tree, found = TileTree(), {}
        for index in range((own.size + FULL - 1) // FULL):
            data = hashes(0, index, tile_width(own.size, 0, index))
            for at in range(0, len(data), HASH):
                tree.append(data[at : at + HASH])
                if tree.size in sizes:
                    found[tree.size] = tree.root()
            tree.take_full()
        if tree.root() != own.root:
            raise DigestMismatchError(
                "the tiles of the log are not those of its checkpoint",
                why="they lead to another root",
                fix=_FIX,
            )
        return found

    def every(self, size: int, log_size: int | None) -> None:
        """Compare the widest of each tile in the copy with the log's file."""
        widest: dict[tuple[str, int, int], tuple[tiles.Tile, Version, list[Version]]] = {}
        for version, others in self.oldest("tile/"):
            try:
                tile = tiles.parse_path(version.name)
            except FormatError as error:
                self.say("copy-foreign", f"{version.name!r} in the copy is no tile", error.why)
                continue
            if tile.width > tile_width(size, tile.level, tile.number):
                continue  # it was copied before its checkpoint, which did not come
            key = (tile.kind, tile.level, tile.number)
            if key not in widest or widest[key][0].width < tile.width:
                widest[key] = (tile, version, others)
        for tile in tiles.layout(size):
            key = (tile.kind, tile.level, tile.number)
            held = widest.get(key)
            if held is not None and held[0].width >= tile.width:
                self.compare(*held, log_size)
            elif tile.width == FULL:
                self.say(
                    "copy-missing",
                    f"the copy lacks {tile.path!r}",
                    "a checkpoint in the copy covers it: its retention is over, or it was "
                    "never copied",
                )
            elif held is not None:
                self.compare(*held, log_size)

    def compare(
        self, tile: tiles.Tile, version: Version, others: list[Version], log_size: int | None
    ) -> None:
        """Compare one file."""
        kept = self.store.read(version, limit=BUNDLE_LIMIT)
        self.watch(version, others, kept, BUNDLE_LIMIT)
        if log_size is None or tile.width > tile_width(log_size, tile.level, tile.number):
            return  # the log has not that many any more, which was said
        self.files += 1
        try:
            data, own = self.file(
                tile._replace(width=tile_width(log_size, tile.level, tile.number))
            )
        except FileNotFoundError:
            last = tile.number * FULL + tile.width
            if tile.kind != "entries" or last > self.minimum:
                self.say("cut", f"the log lacks {tile.path!r}", "its own checkpoint covers it")
        except (FormatError, UnexpectedFileError) as error:
            self.say("edited", error.what, error.why)
        else:
            self.same(tile, own, kept, data)

    def same(self, tile: tiles.Tile, own: tiles.Tile, kept: bytes, data: bytes) -> None:
        """Say where a file differs from the copy's."""
        why = f"the copy has other bytes in {tile.path!r}"
        try:
            cut = cut_tile(data, own, tile.width)
        except FormatError as error:
            self.say("edited", f"{own.path!r} was changed: {error.what}", error.why)
            return
        if cut == kept:
            return
        if tile.kind == "tile":
            at = next((i for i, (a, b) in enumerate(zip(cut, kept, strict=False)) if a != b), 0)
            self.say("edited", f"{own.path!r} was changed, at hash {at // HASH}", why)
            return
        try:
            before = tiles.decode_bundle(kept, tile.width)
        except FormatError as error:
            self.say("copy-foreign", f"{tile.path!r} in the copy is no bundle", error.why)
            return
        now = tiles.decode_bundle(cut, tile.width)
        at = next((i for i, (a, b) in enumerate(zip(now, before, strict=True)) if a != b), 0)
        self.say("edited", f"entry {tile.number * FULL + at}, in {own.path!r}, was changed", why)
