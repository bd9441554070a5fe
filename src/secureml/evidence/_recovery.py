"""
Recovery: what the writer does before its first append.

The checkpoint has to be signed by this log's key, the entries have to lead to
its root, and it may not be older than the last one that this machine signed.
Then the write-ahead file is replayed over it: entries below the checkpoint
have to be the published ones, those above are pending again.

Nothing below a checkpoint that was signed is ever repaired: bytes that no
longer lead to its root are evidence, of an accident or of a crime.  What is
removed was written and not yet covered, and the write-ahead file holds it.

Source: ``docs/spec/log.md``, section "Recovery".
"""

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from secureml.errors import (
    ConsistencyError,
    FormatError,
    SecureMLError,
    StoreError,
    UntrustedSignerError,
)
from secureml.evidence._files import TEMPORARY, read_file
from secureml.evidence._prefix import Prefix, resume
from secureml.evidence._reader import (
    CHECKPOINT,
    NOTE_LIMIT,
    LogDirectory,
    Rebuilt,
    Sighting,
    missing,
    rebuild,
)
from secureml.evidence._settings import Settings
from secureml.evidence._tree import FULL, TileTree, hash_leaves, layout
from secureml.evidence._wal import Frames, Wal, read_frames, refuse_second_writer
from secureml.evidence.keeping import Kept, Places
from secureml.evidence.pruning import Prune, Pruning, absent_bundles
from secureml.keys.verifier import Verifier
from secureml.wire import tiles
from secureml.wire.note import ED25519, Note, key_id

__all__ = ["Recovered", "Recovery", "own_verifier", "recover"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """
    What the writer found that a crash had left.

    Attributes:
        replayed: Entries that were acknowledged and not yet published.
        discarded: Bytes of a torn write that were cut off; never part of an
            acknowledged entry.
        removed: Files that were written and not yet covered by a checkpoint.
    """

    replayed: int
    discarded: int
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recovered:
    """
    Where a writer goes on.

    Attributes:
        origin: First line of every checkpoint.
        note: The checkpoint; empty before the first.
        published: Entries under it.
        tree: The tree over published and pending entries.
        edge: Entries of the last bundle, when it is not full.
        pending: Entries that are not published.
        wal: The write-ahead file, cut to its good part.
        recovery: What a crash had left; None when nothing.
        kept: Its keys and its tail; None where nothing of that is kept.
        pruning: What its entries say about removed ones; None where nobody reads that.
    """

    origin: str
    note: str
    published: int
    tree: TileTree
    edge: list[bytes]
    pending: list[bytes]
    wal: Wal
    recovery: Recovery | None
    kept: Kept | None
    pruning: Pruning | None


def recover(at: Settings) -> Recovered:
    """
    Check a log against what this machine signed, and open it for appending.

    Raises:
        StoreBusyError: Somebody writes it under another lock.
        ConsistencyError: The log was cut, replaced, forked or damaged.
        VerificationError: The checkpoint is not signed by this log's key, or
            the entries do not lead to its root.
        FormatError: A file is not in its format.
        StoreError: There is no log, or the system refuses.
        OSError: The system refuses.
        ValueError: A new log without an origin.
    """
    refuse_second_writer(at.wal)
    directory = LogDirectory(at.directory)
    seen = directory.sighting()
    kept = _open_kept(at, seen)
    verifiers = at.verifiers if kept is None or not kept.verifiers else kept.verifiers
    remembered = _remembered(at.remembered)
    if remembered is not None:
        own_verifier(remembered, verifiers)
    size = 0 if seen is None else seen.checkpoint.size
    frames = read_frames(at.wal, published=size)
    found = _tile_files(at.directory)
    _refuse_rollback(at, seen, remembered)
    origin = _settle_origin(at, seen)
    reading = _Reading(at, frames, kept, found)
    if seen is None:
        tree, note = TileTree(), ""
    else:
        own_verifier(seen, verifiers)
        note = seen.note
        rebuilt = reading.rebuild(directory, seen, remembered)
        tree = rebuilt.tree
        _refuse_fork(at, remembered, rebuilt.roots)
    pending = _replay(at.wal, frames, reading.covered, size)
    if pending:
        reading.look(size, pending)
    tree.extend(hash_leaves(pending))
    removed = _sweep(at, found, size, max(tree.size, frames.announced))
    recovery = Recovery(len(pending), frames.torn, removed)
    if kept is not None:
        kept.recovered(note)
    return Recovered(
        origin=origin,
        note=note,
        published=size,
        tree=tree,
        edge=reading.edge if size % FULL else [],
        pending=pending,
        wal=Wal(at.wal, at.files, good=frames.good),
        recovery=recovery if pending or frames.torn or removed else None,
        kept=kept,
        pruning=None if at.pruned is None else reading.pruning,
    )


class _Reading:
    """
    One reading of the entries, and what is noted on the way.

    Attributes:
        edge: Entries of the last bundle.
        covered: Those that the write-ahead file has as well.
        pruning: What they say about removed ones.
    """

    def __init__(
        self, at: Settings, frames: Frames, kept: Kept | None, found: Sequence[str]
    ) -> None:
        self._at, self._frames, self._kept = at, frames, kept
        self._found = frozenset(found)
        self._begin(b"", None)

    def _begin(self, memo: bytes, prune: Prune | None) -> None:
        self.edge: list[bytes] = []
        self.covered: list[bytes] = []
        self.pruning = Pruning(self._at.pruned or _not_pruned)
        self.pruning.last = prune
        if self._kept is not None:
            self._kept.forget()
        if self._at.restore is not None:
            self._at.restore(memo)

    def rebuild(
        self, directory: LogDirectory, seen: Sighting, remembered: Sighting | None
    ) -> Rebuilt:
        """Hash the entries, all of them or those that the last writer had not."""
        at, size = self._at, seen.checkpoint.size
        cuts = () if remembered is None else (remembered.checkpoint.size,)
        resumed = self._resume(directory, seen, cuts)
        if resumed is not None:
            return resumed
        # Without a reader nothing may be missing.
        absent = frozenset() if at.pruned is None else absent_bundles(at.directory, size)
        try:
            rebuilt = rebuild(
                size,
                seen.checkpoint.root,
                bundle=directory.bundle,
                tile=directory.hashes,
                absent=absent,
                cuts=cuts,
                visit=self._visit,
            )
        except FileNotFoundError as error:
            raise missing(at.directory, error) from error
        self.pruning.check(at.directory, absent)
        return rebuilt

    def _resume(
        self, directory: LogDirectory, seen: Sighting, cuts: Collection[int]
    ) -> Rebuilt | None:
        """Go on where the last writer was; None where everything has to be read."""
        at, checkpoint = self._at, seen.checkpoint
        if at.restore is None or at.recheck or not cuts:
            return None
        prefix = Prefix.read(at.prefix)
        if prefix is None or prefix.origin != checkpoint.origin:
            return None
        first = prefix.size // FULL * FULL
        if self._frames.entries and self._frames.first < first:
            return None
        gone = [name for name in layout(checkpoint.size) if name not in self._found]
        absent = frozenset() if at.pruned is None else _bundles(gone)
        if len(absent) < len(gone):
            return None
        try:
            self._begin(prefix.memo, prefix.prune)
            rebuilt = resume(
                prefix,
                checkpoint.size,
                checkpoint.root,
                bundle=directory.bundle,
                tile=directory.hashes,
                cuts=cuts,
                visit=self._visit,
            )
            self.pruning.check(at.directory, absent)
        except (SecureMLError, OSError, ValueError):
            # Whatever it is, the whole reading says it, or finds nothing.
            self._begin(b"", None)
            return None
        return rebuilt

    def look(self, first: int, entries: list[bytes]) -> None:
        """Show entries to whoever takes note of them."""
        if self._at.observe is not None:
            self._at.observe(first, entries)
        if self._kept is not None:
            self._kept.look(first, entries)
        if self._at.pruned is not None:
            self.pruning.visit(first, entries)

    def _visit(self, first: int, entries: list[bytes]) -> None:
        self.edge = entries
        self.look(first, entries)
        frames = self._frames
        if first < frames.first + len(frames.entries):
            self.covered.extend(entries[max(0, frames.first - first) :])


def _bundles(names: Sequence[str]) -> frozenset[int]:
    """Return the numbers of the full bundles among the paths of tiles."""
    found = map(tiles.parse_path, names)
    return frozenset(
        tile.number for tile in found if tile.kind == "entries" and tile.width == FULL
    )


def _sync_names(at: Settings) -> None:
    """Go on from no name that a loss of power could take back: who made it may have died."""
    for directory in (at.directory, at.directory.parent):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            at.files.sync_directory(directory)


def _not_pruned(entry: bytes) -> None:
    """Say of an entry that it says nothing about removed ones."""
    del entry


def _open_kept(at: Settings, seen: Sighting | None) -> Kept | None:
    """Read the keys of a log whose keys change; that is after everybody else was kept out."""
    if at.keeping is None:
        return None
    return at.keeping.open(
        Places(at.directory, at.private),
        origin=_settle_origin(at, seen),
        purpose=at.purpose,
        files=at.files,
    )


def _remembered(path: Path) -> Sighting | None:
    try:
        return Sighting.of(read_file(path, limit=NOTE_LIMIT), path)
    except FileNotFoundError:
        return None


def _settle_origin(at: Settings, seen: Sighting | None) -> str:
    origin = at.origin
    if seen is None:
        if origin is None:
            msg = "a new log needs an origin, the name that its checkpoints begin with"
            raise ValueError(msg)
        return origin
    if origin not in {None, seen.checkpoint.origin}:
        raise ConsistencyError(
            f"{str(at.directory)!r} is another log",
            why=f"its checkpoint names {seen.checkpoint.origin!r}, expected was {origin!r}",
            fix="open the directory that belongs to this origin",
        )
    return seen.checkpoint.origin


def _refuse_rollback(at: Settings, seen: Sighting | None, remembered: Sighting | None) -> None:
    where = str(at.directory)
    if seen is None and remembered is not None:
        raise ConsistencyError(
            f"the checkpoint of the log in {where!r} is gone",
            why=f"this machine signed a checkpoint of {remembered.checkpoint.size} entries",
            fix=_RESTORE,
        )
    if seen is None and not at.create:
        raise StoreError(
            f"there is no log in {where!r}",
            why=f"the directory has no file {CHECKPOINT!r}",
            fix="check the path; to begin a log, open with create=True",
        )
    if seen is not None and remembered is not None:
        ours, theirs = remembered.checkpoint, seen.checkpoint
        if ours.origin != theirs.origin:
            raise ConsistencyError(
                f"the log in {where!r} was replaced by another",
                why=f"this machine signed for {ours.origin!r}, the log is {theirs.origin!r}",
                fix=_RESTORE,
            )
        if ours.size > theirs.size:
            raise ConsistencyError(
                f"the log in {where!r} was rolled back",
                why=f"this machine signed a checkpoint of {ours.size} entries, the log "
                f"has one of {theirs.size}",
                fix=_RESTORE,
            )


def _refuse_fork(at: Settings, remembered: Sighting | None, roots: dict[int, bytes]) -> None:
    if remembered is not None:
        size = remembered.checkpoint.size
        if roots[size] != remembered.checkpoint.root:
            raise ConsistencyError(
                f"the log in {str(at.directory)!r} was forked",
                why=f"its first {size} entries are not those that this machine signed",
                fix=_RESTORE,
            )


def _sweep(at: Settings, found: Sequence[str], published: int, size: int) -> tuple[str, ...]:
    """Remove what was written and is not covered; all of it can be written again."""
    keep = layout(published)
    extra = [name for name in found if name not in keep and _place(name) is not None]
    for name in extra:
        place = _place(name) or 0
        if place > size:
            raise ConsistencyError(
                f"the log in {str(at.directory)!r} has {name!r} and does not account for it",
                why=f"the file is for a log of {place} entries or more; checkpoint and "
                f"write-ahead file together have {size}",
                fix=_RESTORE,
            )
    # First: what is removed here is needed by the checkpoint before this one.
    _sync_names(at)
    for name in extra:
        at.files.remove(at.directory / name)
    for here, _, _ in os.walk(at.directory / "tile", topdown=False):
        if not os.listdir(here):  # noqa: PTH208  names only, and os.walk gave a string
            at.files.remove_directory(Path(here))
    # Only this log's: the other log of the workspace may be publishing right now.
    for path in (at.directory / CHECKPOINT, at.remembered):
        beside = path.with_name(TEMPORARY + path.name)
        if beside.exists():
            at.files.remove(beside)
    return tuple(extra)


def own_verifier(seen: Sighting, verifiers: Sequence[Verifier]) -> Verifier:
    """
    Return the one of the log's own *verifiers* that signed this checkpoint.

    Raises:
        UntrustedSignerError: None of them did.
        SignatureError: One is named, and its signature is bad.
    """
    note, origin = Note.decode(seen.note), seen.checkpoint.origin
    for signature in note.signatures:
        for verifier in verifiers:
            if verifier.scheme == "ed25519" and (signature.name, signature.key_id) == (
                origin,
                key_id(origin, ED25519, verifier.raw),
            ):
                verifier.verify(signature.signature, note.text.encode())
                return verifier
    raise UntrustedSignerError(
        f"the checkpoint of {origin!r} is not signed by the key that this log is opened with",
        why="signed by "
        + ", ".join(f"{one.name}+{one.key_id.hex()}" for one in note.signatures[:4]),
        fix="open the log with its own key; after a rotation, pass the old public key as "
        "previous=",
    )


def _replay(path: Path, frames: Frames, covered: Sequence[bytes], size: int) -> list[bytes]:
    """Return the entries above the checkpoint; those below must be the published ones."""
    if frames.entries and frames.first > size:
        raise ConsistencyError(
            f"entries are missing between the log and {str(path)!r}",
            why=f"the checkpoint ends at {size} entries, the write-ahead file begins with "
            f"entry {frames.first}",
            fix=_RESTORE,
        )
    below = size - frames.first
    if list(frames.entries[:below]) != list(covered[: len(frames.entries)]):
        raise ConsistencyError(
            f"the log and {str(path)!r} disagree",
            why=f"an entry from {frames.first} upwards is another in each of them",
            fix=_RESTORE,
        )
    return frames.entries[below:]


def _tile_files(directory: Path) -> list[str]:
    """Return the files below ``tile/``, links and all, as paths in the log."""
    found: list[str] = []
    for here, _, names in os.walk(directory / "tile"):
        inside = Path(here).relative_to(directory)
        found.extend((inside / name).as_posix() for name in names)
    return sorted(found)


def _place(name: str) -> int | None:
    """Return how many entries the log has to have for this tile; None for no tile."""
    try:
        tile = tiles.parse_path(name.replace(TEMPORARY, ""))
    except FormatError:
        return None
    return (tile.number * FULL + tile.width) << tiles.HEIGHT * tile.level


_RESTORE = (
    "restore the directory and its private directory from the same moment; do not delete the "
    "private one to silence this: it is what notices a cut or a replaced log"
)
