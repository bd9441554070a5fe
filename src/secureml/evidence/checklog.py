"""
Verifying a log as a stranger: every byte accounted for, nothing believed.

From the entries alone the whole tree is built again, and each file of the
directory has to be exactly what it makes.  A file too many, too few or
changed is named.  Only the checkpoint's signature ties the log to anybody,
and only a checkpoint that was kept elsewhere shows a rollback: without one
the report says that it cannot be checked, never that it is fine.

Verifiers are where logs of good design failed: by trusting some tiles, or the
chain without the values.  So there is no fast path here.

Source: RFC 6962 section 2.1; c2sp.org/tlog-tiles; CVE-2026-56865 (tiles that
were used before they were authenticated).
"""

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from secureml._html import card
from secureml._progress import progress
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    SecureMLError,
    UnexpectedFileError,
)
from secureml.evidence._files import TEMPORARY, not_regular, read_file, store_error
from secureml.evidence._logkeys import LogKeys, Notes, size_of
from secureml.evidence._reader import (
    BUNDLE_LIMIT,
    CHECKPOINT,
    LogDirectory,
    Rebuilt,
    Sighting,
    missing,
    rebuild,
)
from secureml.evidence._snapshot import Snapshot, VerifiedEntries
from secureml.evidence._tree import FULL, HASH, Tile, layout, node_from_tiles, tile_width
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.epochs import EpochChain
from secureml.evidence.notes import VerifiedCheckpoint, verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.wire import tiles
from secureml.wire.digest import Digest
from secureml.wire.merkle import ConsistencyProof, consistency_path, inclusion_path
from secureml.wire.tlogproof import TlogProof

__all__ = ["VerifiedEntries", "VerifiedLog", "verify_log"]

_WAIT = 0.05
_WAITS = 12
"""A writer at work leaves files for a moment that belong to no checkpoint yet."""
_PATIENCE = 30.0
"""Seconds after which a directory that never comes to rest is given up."""


@final
class VerifiedLog(TypeState):
    """
    A log of which every byte was checked.

    Only `verify_log` makes one.

    Attributes:
        origin: The log's name.
        size: Number of entries.
        root: Root hash, 32 bytes.
        note: The checkpoint, signed.
        signer: Who signed it.
        entries: The entries; each is checked again when it is read.
        rollback: ``checked`` against a checkpoint from outside the
            directory, or ``not checkable``.
        remembered_size: Size of the largest such checkpoint; None without.
        chain: The epoch keys of the log, verified; None where the trust names one key.
        trust_digest: Digest of the trust that decided.
    """

    __slots__ = (
        "_tiles",
        "chain",
        "entries",
        "note",
        "origin",
        "remembered_size",
        "rollback",
        "root",
        "signer",
        "size",
        "trust_digest",
    )
    origin: str
    size: int
    root: bytes
    note: str
    signer: Identity
    entries: VerifiedEntries
    rollback: str
    remembered_size: int | None
    chain: EpochChain | None
    trust_digest: Digest
    _tiles: dict[tuple[int, int], bytes]

    def prove(self, index: int) -> TlogProof:
        """
        Return the proof that entry *index* is under the checkpoint.

        Raises:
            IndexError: There is no such entry.
        """
        if not 0 <= index < self.size:
            msg = f"entry {index} is not among the {self.size} of the log"
            raise IndexError(msg)
        return TlogProof(index, inclusion_path(index, self.size, self._node), self.note)

    def consistency(self, old: int) -> ConsistencyProof:
        """
        Return the proof that the first *old* entries begin this log.

        Raises:
            ValueError: Not ``0 <= old <= size``.
        """
        return ConsistencyProof(path=consistency_path(old, self.size, self._node))

    def leaves(self, bundle: int) -> bytes:
        """
        Return the leaf hashes of one bundle of 256 entries, one after another.

        Raises:
            KeyError: The log has no such bundle.
        """
        return self._tiles[0, bundle]

    def _node(self, level: int, index: int) -> bytes:
        return node_from_tiles(lambda at, place: self._tiles[at, place])(level, index)

    def __repr__(self) -> str:
        return f"<VerifiedLog {self.origin!r} size {self.size} rollback {self.rollback}>"

    def _repr_html_(self) -> str:
        rows = [
            ("log", self.origin),
            ("entries", self.size),
            ("root", self.root.hex()),
            ("signer", self.signer.name),
            ("rollback", self.rollback),
        ]
        return card("Verified log", rows)


def verify_log(
    directory: str | os.PathLike[str],
    *,
    trust: Trust,
    role: str = "log",
    remembered: Sequence[str] = (),
    anchors: Sequence[str] = (),
    epochs: Notes | None = None,
    epoch_of: Callable[[bytes], object | None] | None = None,
    visit: Callable[[int, list[bytes]], None] | None = None,
) -> VerifiedLog:
    """
    Check every file of a log, against its entries and its signed checkpoint.

    Takes one hash an entry and one more for the tree, and 32 bytes of memory
    an entry.  May run beside the writer.

    Args:
        directory: The log; nothing else may lie in it.
        trust: The reviewed root.
        role: ``log``, or ``audit`` for an audit log.
        remembered: Signed checkpoints of this log that were kept *outside*
            of the directory and of whatever it was shipped with.
        anchors: Signed checkpoints of it found inside other evidence.  They
            are checked in the same way, and do not count against rollback:
            who rolls back one log can roll back both.
        epochs: The boundary notes of a log with epoch keys, or the file that has
            them.  They count where *trust* marks the log's first key with
            ``epochs = true``, and change nothing elsewhere.
        epoch_of: Returns the member ``epoch`` of an entry that is a record of
            that type, and None for every other; it is asked for each entry.
        visit: Is shown the index of the first entry of each bundle, and its entries,
            before it is known that all is well: use them after the return.

    Raises:
        SignatureError: The checkpoint, or one remembered, is not signed as it says.
        UntrustedSignerError: It is signed by nobody whom *trust* names.
        ExpiredError: The signer's key was retired, or is outside its dates.
        ConsistencyError: The log does not continue a remembered checkpoint.
        DigestMismatchError: An entry or a tile was changed; the error names it.
        UnexpectedFileError: A file too many or too few, a link or a device.
        FormatError: A file is not in its format.
        StoreError: The system could not read a file, or there is no log.
    """
    keys = LogKeys(trust, role, epochs, epoch_of)
    found = examine(Path(directory), keys, (*remembered, *anchors), visit)
    head = found.head
    for name, tile in found.snapshot.stale.items():
        found.check_stale(name, tile)
    earlier = found.known[: len(remembered)]
    return VerifiedLog(
        TOKEN,
        origin=head.origin,
        size=head.size,
        root=head.root,
        note=head.note,
        signer=head.signer,
        entries=found.entries,
        rollback="checked" if earlier else "not checkable",
        remembered_size=max((one.size for one in earlier), default=None),
        chain=found.chain,
        trust_digest=head.trust_digest,
        _tiles=found.kept,
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """
    A log whose every entry and tile was checked, all but its stale files.

    Attributes:
        snapshot: What was read.
        absent: Numbers of the bundles that are not there.
        head: The verified checkpoint.
        chain: Its keys, epoch by epoch; None where it has one key.
        known: The other checkpoints that were given, verified.
        kept: The tiles.
        entries: The entries.
    """

    snapshot: Snapshot
    absent: frozenset[int]
    head: VerifiedCheckpoint
    chain: EpochChain | None
    known: Sequence[VerifiedCheckpoint]
    kept: dict[tuple[int, int], bytes]
    entries: "VerifiedEntries"

    def check_stale(self, name: str, tile: tiles.Tile) -> None:
        """Refuse a stale partial file that is no beginning of the one that replaced it."""
        _check_stale(self.snapshot, name, tile, self.entries, self.kept)


def examine(
    path: Path,
    keys: LogKeys,
    others: Sequence[str],
    visit: Callable[[int, list[bytes]], None] | None,
    *,
    prunable: bool = False,
) -> Examined:
    """
    Check a log against its checkpoint, and the checkpoint against *others*.

    Args:
        path: The log.
        keys: Who may sign it.
        others: Further signed checkpoints of it.
        visit: Is shown the entries; see `verify_log`.
        prunable: Whether full bundles may be missing: the caller looks whether they may.

    Raises:
        VerificationError, FormatError, StoreError: As `verify_log`.
    """
    snapshot, absent = _settle(path, keys, prunable=prunable)
    head = snapshot.head
    kept: dict[tuple[int, int], bytes] = {}

    def keep(tile: Tile) -> None:
        kept[tile[0], tile[1]] = tile[2]

    def look(first: int, entries: list[bytes]) -> None:
        keys.visit(first, entries)
        if visit is not None:
            visit(first, entries)
        done(len(entries))

    known: list[VerifiedCheckpoint] = []
    if not keys.chained:
        known = [verify_checkpoint(note, trust=keys.trust, role=keys.role) for note in others]
        _refuse_others(known, head)
    total = head.size - FULL * len(absent)
    with progress(f"verifying {head.origin}", total=total, unit=" entries") as done:
        try:
            rebuilt = rebuild(
                head.size,
                head.root,
                bundle=snapshot.bundle,
                tile=snapshot.tile,
                absent=absent,
                cuts=keys.cuts | {size_of(note) for note in others},
                visit=look,
                keep=keep,
            )
        except FileNotFoundError as error:
            raise missing(path, error) from error
    chain = None
    if (judged := keys.finish(head.note, rebuilt.roots)) is not None:
        chain, head = judged
        known = [chain.verify(note) for note in others]
        _refuse_others(known, head)
    for one in known:
        _refuse_fork(one, rebuilt)
    entries = VerifiedEntries(TOKEN, snapshot=snapshot, tiles=kept)
    return Examined(snapshot, absent, head, chain, known, kept, entries)


def _refuse_others(known: Sequence[VerifiedCheckpoint], head: VerifiedCheckpoint) -> None:
    for earlier in known:
        _refuse_other(earlier, head)


def _refuse_other(earlier: VerifiedCheckpoint, head: VerifiedCheckpoint) -> None:
    if earlier.origin != head.origin:
        raise ConsistencyError(
            f"the log is {head.origin!r}, the remembered checkpoint is of {earlier.origin!r}",
            why="a checkpoint says nothing about another log",
            fix="give the checkpoint that was kept for this log",
        )
    if earlier.size > head.size:
        raise ConsistencyError(
            f"the log {head.origin!r} was cut or rolled back",
            why=f"a checkpoint of {earlier.size} entries was signed for it; it has {head.size}",
            fix="do not use it; get the whole log, and keep both: the two checkpoints prove it",
        )


def _refuse_fork(earlier: VerifiedCheckpoint, rebuilt: Rebuilt) -> None:
    found = rebuilt.roots[earlier.size]
    if found != earlier.root:
        raise ConsistencyError(
            f"the log {earlier.origin!r} was forked or written anew",
            why=f"its first {earlier.size} entries have root {found.hex()[:16]}…, the checkpoint "
            f"that was signed for them has {earlier.root.hex()[:16]}…",
            fix="do not use it; keep both: the two checkpoints prove that the log's owner, or "
            "who has the key, told two stories",
        )


# What lies in the directory


class _UnsettledError(Exception):
    """Something that a writer at work may explain."""

    def __init__(self, error: SecureMLError, *, wait: bool) -> None:
        super().__init__(error)
        self.error = error
        self.wait = wait


def _settle(path: Path, keys: LogKeys, *, prunable: bool) -> tuple[Snapshot, frozenset[int]]:
    """Look at the directory until no writer is in the middle of something."""
    directory = LogDirectory(path)
    waits = 0
    deadline = time.monotonic() + _PATIENCE
    seen = directory.require()
    while True:
        try:
            return _look(path, seen, keys, prunable=prunable)
        except _UnsettledError as unsettled:
            again = directory.require()
            if again.note != seen.note:
                # A writer is at work: what was odd may be of a checkpoint to come.
                waits = 0
            elif not unsettled.wait or waits == _WAITS:
                raise unsettled.error from None
            else:
                time.sleep(_WAIT)
                waits += 1
            if time.monotonic() > deadline:
                raise unsettled.error from None
            seen = again


def _look(
    path: Path, seen: Sighting, keys: LogKeys, *, prunable: bool
) -> tuple[Snapshot, frozenset[int]]:
    try:
        head = keys.head(seen.note, path)
    except FileNotFoundError as error:
        raise _UnsettledError(missing(path, error), wait=False) from error
    except (ConsistencyError, FormatError) as error:
        # The writer puts a boundary note behind the checkpoint that it belongs to.
        if not keys.chained:
            raise
        raise _UnsettledError(error, wait=True) from error
    expected = layout(head.size)
    found, directories = _walk(path)
    extra = found - expected.keys() - {CHECKPOINT}
    stale = {name: _stale(path, name, expected, head.size) for name in sorted(extra)}
    absent: set[int] = set()
    for name in sorted(expected.keys() - found):
        tile = expected[name]
        if not prunable or tile.kind != "entries" or tile.width < FULL:
            gone = missing(path, FileNotFoundError(2, "missing", str(path / name)))
            raise _UnsettledError(gone, wait=False)
        absent.add(tile.number)
    inner = {parent.as_posix() for name in found for parent in Path(name).parents if parent.name}
    if unknown := directories - inner:
        raise _UnsettledError(
            unexpected(path, min(unknown), "a directory without files"), wait=True
        )
    partial = {}
    for name, tile in expected.items():
        if tile.width < FULL:
            try:
                partial[name] = read_file(path / name, limit=BUNDLE_LIMIT)
            except FileNotFoundError as error:
                raise _UnsettledError(missing(path, error), wait=False) from error
    return Snapshot(path, head, partial, stale), frozenset(absent)


def _walk(path: Path) -> tuple[set[str], set[str]]:
    """Return the files and the directories below *path*; refuse everything else."""
    found: set[str] = set()
    directories: set[str] = set()
    queue = [""]
    while queue:
        here = queue.pop()
        try:
            with os.scandir(path / here) as scan:
                listed = [(one.name, one.stat(follow_symlinks=False).st_mode) for one in scan]
        except FileNotFoundError as error:
            raise _UnsettledError(missing(path, error), wait=True) from error
        except OSError as error:
            raise store_error(f"could not list {str(path / here)!r}", error) from error
        for name, mode in listed:
            inside = f"{here}/{name}" if here else name
            if stat.S_ISDIR(mode):
                directories.add(inside)
                queue.append(inside)
            elif stat.S_ISREG(mode):
                found.add(inside)
            else:
                raise not_regular(path / inside)
    return found, directories


def _stale(path: Path, name: str, expected: dict[str, tiles.Tile], size: int) -> tiles.Tile:
    """Return the tile that *name* once was; refuse what a log never had."""
    if Path(name).name.startswith(TEMPORARY):
        error = unexpected(path, name, "a write that was not finished")
        raise _UnsettledError(error, wait=True)
    try:
        tile = tiles.parse_path(name)
    except FormatError:
        raise unexpected(path, name, "no file of a log has such a name") from None
    width = tile_width(size, tile.level, tile.number)
    now = tile._replace(width=width) if width else tile
    if tile.width < width and now.path in expected:
        return tile
    error = unexpected(path, name, f"the checkpoint of {size} entries does not cover it")
    raise _UnsettledError(error, wait=True)


def unexpected(path: Path, name: str, why: str) -> UnexpectedFileError:
    return UnexpectedFileError(
        f"the log in {str(path)!r} has {name!r}, which does not belong to it",
        why=why,
        fix="if a crash of this machine left it, open the log for writing and publish: that "
        "recovers it; else remove it only after you know who put it there",
    )


def _check_stale(
    snapshot: Snapshot,
    name: str,
    tile: tiles.Tile,
    entries: VerifiedEntries,
    kept: dict[tuple[int, int], bytes],
) -> None:
    try:
        data = read_file(snapshot.path / name, limit=BUNDLE_LIMIT)
    except FileNotFoundError:
        return
    if tile.kind == "entries":
        first = tile.number * FULL
        same = tiles.encode_bundle(entries[first : first + tile.width])
    else:
        same = kept[tile.level, tile.number][: tile.width * HASH]
    if data != same:
        raise DigestMismatchError(
            f"{name!r} was changed",
            why="it was replaced by a fuller one, and is not the beginning of that",
            fix="do not use the log; get an untouched copy, and keep this one to find out what "
            "changed it",
        )
