"""
Verifying a log whose beginning may have been removed under a policy.

Every byte that is there is accounted for, as `verify_log` does it.  Where a
bundle is gone, an entry of the log has to say so; that it was old enough is
the word of the log's owner.

Source: docs/spec/retention.md, section "Verifying a pruned log".
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from secureml.errors import ConsistencyError, SecureMLError, UnexpectedFileError
from secureml.evidence._reader import CHECKPOINT, LogDirectory, Sighting, missing
from secureml.evidence._tree import FULL, layout
from secureml.evidence.notes import VerifiedCheckpoint, verify_checkpoint
from secureml.evidence.pruning import Prune, absent_bundles, check_absent, rebuild_pruned
from secureml.evidence.trust import Trust

__all__ = ["PrunedLog", "verify_pruned"]

_TRIES = 20


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
    visit: Callable[[int, list[bytes]], None] | None = None,
) -> PrunedLog:
    """
    Check every file of a log that may have been pruned.

    Args:
        directory: The log; nothing else may lie in it.
        trust: The reviewed root.
        read: Returns what an entry says about removed ones; None for most entries.
        role: ``audit``, or ``log``.
        remembered: Signed checkpoints of this log that were kept outside of it.
        visit: Is shown the index of the first entry of each bundle that is there, and
            its entries, before it is known that all is well: use them after the return.

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
    log = LogDirectory(Path(directory))
    earlier = [verify_checkpoint(note, trust=trust, role=role) for note in remembered]
    for _ in range(_TRIES):
        seen = log.require()
        try:
            return log.at_checkpoint(
                lambda seen: _verify(log, seen, trust, read, role, earlier, visit)
            )
        except SecureMLError:
            # A writer at work, or it is as it looks.
            if log.require().note == seen.note:
                raise
    return log.at_checkpoint(lambda seen: _verify(log, seen, trust, read, role, earlier, visit))


def _verify(
    log: LogDirectory,
    seen: Sighting,
    trust: Trust,
    read: Callable[[bytes], Prune | None],
    role: str,
    earlier: Sequence[VerifiedCheckpoint],
    visit: Callable[[int, list[bytes]], None] | None,
) -> PrunedLog:
    head = verify_checkpoint(seen.note, trust=trust, role=role, strict=True)
    _check_files(log.path, head.size)
    absent = absent_bundles(log.path, head.size)
    last: list[Prune] = []

    def look(first: int, entries: list[bytes]) -> None:
        for index, entry in enumerate(entries, first):
            found = read(entry)
            if found is not None and found.minimum <= index:
                last[:] = [found]
        if visit is not None:
            visit(first, entries)

    rebuilt = rebuild_pruned(
        head.size,
        head.root,
        bundle=log.bundle,
        tile=log.hashes,
        absent=absent,
        cuts={one.size for one in earlier},
        visit=look,
    )
    prune = last[0] if last else None
    check_absent(log.path, absent, prune)
    for one in earlier:
        if one.origin != head.origin or rebuilt.roots.get(one.size) != one.root:
            raise ConsistencyError(
                f"the log {head.origin!r} does not continue a checkpoint that was remembered",
                why=f"{one.origin!r} had a checkpoint of {one.size} entries with root "
                f"{one.root.hex()[:16]}…",
                fix="do not use it; get the whole log, and keep both: together they prove it",
            )
    return PrunedLog(
        head=head,
        minimum=0 if prune is None else prune.minimum,
        absent=len(absent),
        rollback="checked" if earlier else "not checkable",
    )


def _check_files(path: Path, size: int) -> None:
    """Refuse what does not belong to a log of *size* entries; stale partial tiles may stay."""
    expected = layout(size)
    found: set[str] = set()
    for here, names, files in os.walk(path):
        inside = Path(here).relative_to(path)
        found.update((inside / name).as_posix() for name in files)
        found.update(
            (inside / name).as_posix() for name in names if (Path(here) / name).is_symlink()
        )
    for name in sorted(found - expected.keys() - {CHECKPOINT}):
        stale = name.rpartition(".p/")[0]
        if stale not in expected and not any(
            one.startswith(stale + ".p/") for one in expected if stale
        ):
            raise UnexpectedFileError(
                f"the log in {str(path)!r} has {name!r}, which does not belong to it",
                why=f"the checkpoint of {size} entries does not cover it",
                fix="remove it only after you know who put it there",
            )
    for name in sorted(expected.keys() - found):
        tile = expected[name]
        if tile.kind != "entries" or tile.width < FULL:
            raise missing(path, FileNotFoundError(2, "", str(path / name)))
