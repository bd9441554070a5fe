"""
Logs whose beginning was removed under a policy.

Bundles of entries go, the tiles of hashes stay: so every proof can still be
made, and every checkpoint ever signed still fits.  Where a bundle is gone the
verifier starts from the hashes of its tile, which the signed root covers;
everything else is hashed from its bytes.

Edge: what the removed entries said cannot be checked by anybody.  Only an
entry of the log itself may say that they were removed: a bundle that is
missing without one is a bundle that is missing.

Source: c2sp.org/tlog-tiles, section "Pruning"; docs/spec/retention.md.
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from secureml.evidence._files import Files
from secureml.evidence._reader import missing
from secureml.evidence._tree import (
    FULL,
)
from secureml.wire import tiles

__all__ = [
    "Prune",
    "Pruning",
    "absent_bundles",
    "first_entry",
    "remove_bundles",
]


@dataclass(frozen=True, slots=True)
class Prune:
    """
    What an entry says about entries that were removed.

    Attributes:
        minimum: The minimum index: bundles that end at or below it may be gone.
        kept: Numbers of the bundles below it that are not.
    """

    minimum: int
    kept: frozenset[int] = frozenset()


class Pruning:
    """
    What the entries of a log say about removed ones, noted as they go by.

    Args:
        read: Returns what an entry says; None for most entries.

    Attributes:
        last: The last that was said; None when the log was never pruned.
    """

    __slots__ = ("_read", "last")

    def __init__(self, read: Callable[[bytes], Prune | None]) -> None:
        self._read = read
        self.last: Prune | None = None

    def visit(self, first: int, entries: Sequence[bytes]) -> None:
        """Take note of *entries*, the first of which is number *first*."""
        for index, entry in enumerate(entries, first):
            found = self._read(entry)
            if found is not None and found.minimum <= index:
                self.last = found

    def check(self, directory: Path, absent: Collection[int]) -> None:
        """
        Check that every bundle in *absent* is one that was said to be gone.

        Raises:
            UnexpectedFileError: One is not.
        """
        for index in sorted(absent):
            last = self.last
            if last is None or (index + 1) * FULL > last.minimum or index in last.kept:
                raise missing(
                    directory, FileNotFoundError(2, "", str(directory / tiles.entries_path(index)))
                )


def absent_bundles(directory: Path, size: int) -> frozenset[int]:
    """Return the numbers of the full bundles of a log of *size* entries that are not there."""
    return frozenset(
        index
        for index in range(size // FULL)
        if not os.path.lexists(directory / tiles.entries_path(index))
    )


def first_entry(directory: Path, size: int) -> int:
    """Return the index from which on every entry of a log of *size* is there."""
    gone = absent_bundles(directory, size)
    return (max(gone) + 1) * FULL if gone else 0


def remove_bundles(directory: Path, prune: Prune, *, files: Files | None = None) -> int:
    """
    Remove the bundles that *prune* says are gone, from the first on; return how many.

    What is gone already is passed over, so it may be repeated after a crash.
    The entry that says so has to be under a checkpoint before.

    Raises:
        OSError: A file could not be removed.
    """
    files = files or Files()
    removed = 0
    changed: set[Path] = set()
    for index in range(prune.minimum // FULL):
        if index in prune.kept:
            continue
        path = directory / tiles.entries_path(index)
        # What a crash left of the time when the bundle was partial holds the same entries.
        stale = path.with_name(path.name + ".p")
        if stale.is_dir():
            for one in sorted(stale.iterdir()):
                files.remove(one)
            files.remove_directory(stale)
            changed.add(path.parent)
        if os.path.lexists(path):
            files.remove(path)
            changed.add(path.parent)
            removed += 1
    top = directory / "tile" / "entries"
    for parent in sorted(_with_parents(changed, top), key=lambda p: len(p.parts), reverse=True):
        if parent != top and not any(parent.iterdir()):
            files.remove_directory(parent)
        else:
            files.sync_directory(parent)
    return removed


def _with_parents(changed: set[Path], top: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in changed:
        while path not in seen:
            seen.add(path)
            yield path
            if path == top:
                break
            path = path.parent  # noqa: PLW2901  upwards
