"""
Verifying a log whose beginning may have been removed under a policy.

Every byte that is there is accounted for, by the same steps as in
`verify_log`, and read from as there.  Where a bundle is gone, an entry of the
log has to say so; that it was old enough is the word of the log's owner.

Source: docs/spec/retention.md, section "Verifying a pruned log".
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secureml.evidence._logkeys import LogKeys, Notes
from secureml.evidence._reader import LogDirectory
from secureml.evidence._tree import FULL, node_from_tiles
from secureml.evidence.checklog import VerifiedEntries, examine, unexpected
from secureml.evidence.epochs import EpochChain, EpochLeaf
from secureml.evidence.notes import VerifiedCheckpoint
from secureml.evidence.pruning import Prune, Pruning
from secureml.evidence.trust import Identity, Trust
from secureml.wire.digest import Digest
from secureml.wire.merkle import ConsistencyProof, consistency_path

__all__ = ["PrunedLog", "verify_pruned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedLog:
    """
    What is left of a log, checked; see `verify_pruned`.

    Attributes:
        head: The verified checkpoint.
        minimum: The minimum index; the content of entries below it is not checkable.
        gone: Numbers of the bundles, of 256 entries each, that are gone.
        rollback: ``checked`` against a remembered checkpoint, or ``not checkable``.
        entries: The entries; each that is there is checked again when it is read.
        chain: The epoch keys of the log, verified; None where the trust names one key.
        tiles: The hashes, by level and number.
    """

    head: VerifiedCheckpoint
    minimum: int
    gone: frozenset[int]
    rollback: str
    entries: VerifiedEntries = field(repr=False, compare=False)
    chain: EpochChain | None = field(repr=False, compare=False)
    tiles: Mapping[tuple[int, int], bytes] = field(repr=False, compare=False)

    @property
    def absent(self) -> int:
        """How many bundles are gone."""
        return len(self.gone)

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.head.origin

    @property
    def size(self) -> int:
        """Number of entries, those that are gone among them."""
        return self.head.size

    @property
    def root(self) -> bytes:
        """Root hash over them, 32 bytes."""
        return self.head.root

    @property
    def signer(self) -> Identity:
        """Who signed the checkpoint."""
        return self.head.signer

    @property
    def trust_digest(self) -> Digest:
        """Digest of the trust that decided."""
        return self.head.trust_digest

    def consistency(self, old: int) -> ConsistencyProof:
        """
        Return the proof that the first *old* entries begin this log.

        Raises:
            ValueError: Not ``0 <= old <= size``.
        """
        node = node_from_tiles(lambda level, number: self.tiles[level, number])
        return ConsistencyProof(path=consistency_path(old, self.size, node))

    def leaves(self, bundle: int) -> bytes:
        """
        Return the leaf hashes of one bundle of 256 entries, one after another.

        Raises:
            KeyError: The log never had such a bundle.
        """
        return self.tiles[0, bundle]


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
    pruning = Pruning(read)

    def look(first: int, entries: list[bytes]) -> None:
        pruning.visit(first, entries)
        if visit is not None:
            visit(first, entries)

    found = examine(path, keys, (*remembered, *anchors), look, prunable=True)
    pruning.check(path, found.absent)
    for name, tile in found.snapshot.stale.items():
        if tile.kind == "entries" and tile.number in found.absent:
            raise unexpected(path, name, "it holds entries of a bundle that was pruned")
        found.check_stale(name, tile)
    return PrunedLog(
        head=found.head,
        minimum=0 if pruning.last is None else pruning.last.minimum,
        gone=found.absent,
        rollback="checked" if remembered else "not checkable",
        entries=found.entries,
        chain=found.chain,
        tiles=found.kept,
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
