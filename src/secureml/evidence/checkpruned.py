"""
Verifying a log whose beginning may have been removed under a policy.

Every byte that is there is accounted for, by the same steps as in
`verify_log`.  Where a bundle is gone, an entry of the log has to say so; that
it was old enough is the word of the log's owner.

Source: docs/spec/retention.md, section "Verifying a pruned log".
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from secureml.errors import ConsistencyError, FormatError
from secureml.evidence._files import read_file
from secureml.evidence._logkeys import LogKeys, Notes, size_of
from secureml.evidence._reader import BUNDLE_LIMIT, CHECKPOINT, LogDirectory, Sighting, missing
from secureml.evidence._snapshot import Snapshot, VerifiedEntries
from secureml.evidence._tree import FULL, Tile, layout
from secureml.evidence._typestate import TOKEN
from secureml.evidence.checklog import (
    _PATIENCE,
    _WAIT,
    _WAITS,
    _check_stale,
    _refuse_fork,
    _refuse_others,
    _stale,
    _unexpected,
    _UnsettledError,
    _walk,
)
from secureml.evidence.epochs import EpochLeaf
from secureml.evidence.notes import VerifiedCheckpoint, verify_checkpoint
from secureml.evidence.pruning import Prune, Pruning, rebuild_pruned
from secureml.evidence.trust import Trust

__all__ = ["PrunedLog", "verify_pruned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedLog:
    """
    What is left of a log, checked; see `verify_pruned`.

    Attributes:
        head: The verified checkpoint.
        minimum: The minimum index; the content of entries below it is not checkable.
        absent: How many bundles are gone.
        rollback: ``checked`` against a remembered checkpoint, or ``not checkable``.
    """

    head: VerifiedCheckpoint
    minimum: int
    absent: int
    rollback: str


def verify_pruned(
    directory: str | os.PathLike[str],
    *,
    trust: Trust,
    read: Callable[[bytes], Prune | None],
    role: str = "audit",
    remembered: Sequence[str] = (),
    anchors: Sequence[str] = (),
    visit: Callable[[int, list[bytes]], None] | None = None,
    epochs: Notes | None = None,
    epoch_of: Callable[[bytes], object | None] | None = None,
) -> PrunedLog:
    """
    Check every file of a log that may have been pruned.

    Args:
        directory: The log; nothing else may lie in it.
        trust: The reviewed root.
        read: Returns what an entry says about removed ones; None for most entries.
        role: ``audit``, or ``log``.
        remembered: Signed checkpoints of this log that were kept outside of it.
        anchors: Signed checkpoints of it found inside other evidence.
        visit: Is shown the index of the first entry of each bundle that is there, and
            its entries, before it is known that all is well: use them after the return.
        epochs: As in `verify_log`.
        epoch_of: As in `verify_log`.

    Raises:
        SignatureError: The checkpoint, or one remembered, is not signed as it says.
        UntrustedSignerError: It is signed by nobody whom *trust* names.
        ExpiredError: The signer's key was retired, or is outside its dates.
        ConsistencyError: The log does not continue a remembered checkpoint.
        DigestMismatchError: An entry or a tile was changed.
        UnexpectedFileError: A file too many or too few, a link or a device.
        FormatError: A file is not in its format.
        StoreError: The system could not read a file, or there is no log.
    """
    path = Path(directory)
    keys = _Keys(trust, role, epochs, epoch_of)
    snapshot, absent = _settle(path, keys)
    head = snapshot.head
    kept: dict[tuple[int, int], bytes] = {}
    pruning = Pruning(read)

    def keep(tile: Tile) -> None:
        kept[tile[0], tile[1]] = tile[2]

    def look(first: int, entries: list[bytes]) -> None:
        keys.visit(first, entries)
        pruning.visit(first, entries)
        if visit is not None:
            visit(first, entries)

    others = (*remembered, *anchors)
    known: list[VerifiedCheckpoint] = []
    if not keys.chained:
        known = [verify_checkpoint(note, trust=trust, role=role) for note in others]
        _refuse_others(known, head)
    try:
        rebuilt = rebuild_pruned(
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
    if (judged := keys.finish(head.note, rebuilt.roots)) is not None:
        chain, head = judged
        known = [chain.verify(note) for note in others]
        _refuse_others(known, head)
    for one in known:
        _refuse_fork(one, rebuilt)
    pruning.check(path, absent)
    entries = VerifiedEntries(TOKEN, snapshot=snapshot, tiles=kept)
    for name, tile in snapshot.stale.items():
        if tile.kind == "entries" and tile.number in absent:
            raise _unexpected(path, name, "it holds entries of a bundle that was pruned")
        _check_stale(snapshot, name, tile, entries, kept)
    return PrunedLog(
        head=head,
        minimum=0 if pruning.last is None else pruning.last.minimum,
        absent=len(absent),
        rollback="checked" if remembered else "not checkable",
    )


class _Keys(LogKeys):
    """The keys of a log of which bundles may be gone: those with epoch leaves never are."""

    def _last(self, directory: LogDirectory, low: int, high: int, size: int) -> EpochLeaf | None:
        for bundle in range((high - 1) // FULL, low // FULL - 1, -1):
            start = bundle * FULL
            try:
                found = super()._last(directory, max(low, start), min(high, start + FULL), size)
            except FileNotFoundError:
                continue
            if found is not None:
                return found
        return None


def _settle(path: Path, keys: LogKeys) -> tuple[Snapshot, frozenset[int]]:
    """Look at the directory until no writer is in the middle of something."""
    directory = LogDirectory(path)
    waits = 0
    deadline = time.monotonic() + _PATIENCE
    seen = directory.require()
    while True:
        try:
            return _look(path, seen, keys)
        except _UnsettledError as unsettled:
            again = directory.require()
            if again.note != seen.note:
                waits = 0
            elif not unsettled.wait or waits == _WAITS:
                raise unsettled.error from None
            else:
                time.sleep(_WAIT)
                waits += 1
            if time.monotonic() > deadline:
                raise unsettled.error from None
            seen = again


def _look(path: Path, seen: Sighting, keys: LogKeys) -> tuple[Snapshot, frozenset[int]]:
    try:
        head = keys.head(seen.note, path)
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
        if tile.kind != "entries" or tile.width < FULL:
            gone = missing(path, FileNotFoundError(2, "missing", str(path / name)))
            raise _UnsettledError(gone, wait=False)
        absent.add(tile.number)
    inner = {parent.as_posix() for name in found for parent in Path(name).parents if parent.name}
    if unknown := directories - inner:
        raise _UnsettledError(
            _unexpected(path, min(unknown), "a directory without files"), wait=True
        )
    partial = {}
    for name, tile in expected.items():
        if tile.width < FULL:
            try:
                partial[name] = read_file(path / name, limit=BUNDLE_LIMIT)
            except FileNotFoundError as error:
                raise _UnsettledError(missing(path, error), wait=False) from error
    return Snapshot(path, head, partial, stale), frozenset(absent)
