"""
What is read when the audit log is read: entries under one checkpoint.

A verified log, the log of this process and a directory are read in the same
way.  Whichever it is, the entries are those of one size and one root, so an
answer can say what it is an answer about.

Entries that were pruned are gone, and their hashes are not: they count for the
root, and say nothing.

Who gives a directory and a trust gets it verified, with the boundary notes of
its epoch keys where a log has them: in ``epochs`` beside it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeAlias

from secureml.audit.retention import verify_pruned_log
from secureml.audit.verification import AuditVerification, epoch_of
from secureml.errors import ConsistencyError
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.checkpruned import PrunedLog
from secureml.evidence.keeping import Places
from secureml.evidence.log import Log
from secureml.evidence.pruning import absent_bundles
from secureml.evidence.trust import Trust
from secureml.wire import tiles
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.note import Note

__all__ = ["BUNDLE", "Readable", "Source", "source_of"]

BUNDLE = 256
"""Entries in a bundle (C2SP tlog-tiles)."""

_HASH = 32

Readable: TypeAlias = VerifiedLog | PrunedLog | AuditVerification | Log | str | os.PathLike[str]
"""A log, the directory of one, or what a verification returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    The entries of a log under one checkpoint.

    Attributes:
        origin: The log's name.
        size: Number of entries.
        root: Root hash over them, as the checkpoint says, 32 bytes.
        verified: Whether the checkpoint's signature and every file were checked.
        entries: Yields the entries from the first number up to, not including, the second.
        continues: Proves that the first so many entries begin this log.
        again: Looks again: the log may have grown.
        gone: Numbers of the bundles, of 256 entries each, that were pruned.
        hashes: Returns the leaf hashes of the bundle with this number.
    """

    origin: str
    size: int
    root: bytes
    verified: bool
    entries: Callable[[int, int], Iterator[bytes]]
    continues: Callable[[int], ConsistencyProof]
    again: Callable[[], "Source"]
    gone: frozenset[int]
    hashes: Callable[[int], Sequence[bytes]]

    def leaves(self, start: int, stop: int) -> Iterator[tuple[int, bytes | None, bytes]]:
        """
        Yield index, leaf and leaf hash from *start* up to, not including, *stop*.

        The leaf is None where it was pruned.

        Raises:
            VerificationError, StoreError, FormatError: The log cannot be read.
        """
        at = start
        while at < stop:
            bundle = at // BUNDLE
            if bundle in self.gone:
                end = min(stop, (bundle + 1) * BUNDLE)
                hashes = self.hashes(bundle)
                yield from ((index, None, hashes[index % BUNDLE]) for index in range(at, end))
            else:
                end = stop
                if self.gone:
                    end = min(
                        stop, min((b * BUNDLE for b in self.gone if b > bundle), default=stop)
                    )
                for index, leaf in enumerate(self.entries(at, end), at):
                    yield index, leaf, sha256(b"\0" + leaf).digest()
            at = end

    def facts(self) -> dict[str, str]:
        """Return what an answer says about the log it is from."""
        return {
            "origin": self.origin,
            "size": str(self.size),
            "root": self.root.hex(),
            "verified": "yes" if self.verified else "no",
        }

    def refuse(self) -> ConsistencyError:
        """Return the error for entries that do not lead to the checkpoint."""
        return ConsistencyError(
            f"the entries of {self.origin!r} are not those of its checkpoint",
            why=f"they do not lead to the root {self.root.hex()[:16]}… that it has for "
            f"{self.size} entries",
            fix="verify the log: it names the file that was changed",
        )


def source_of(log: object, *, trust: Trust | None = None) -> Source:
    """
    Return what is to be read of *log*.

    Args:
        log: What `verify_log`, `verify_pruned` or `verify_audit` returned, a `Log`, something
            with a ``log`` that is one, or a directory.
        trust: Verify the directory first, with this.

    Raises:
        TypeError: It is none of these, or *trust* is given for a log that is open.
        VerificationError: The directory does not verify.
        StoreError: There is no log, or it cannot be read.
        FormatError: The checkpoint is not one.
    """
    if isinstance(log, str | os.PathLike):
        if trust is None:
            return _plain(Log.open(log))
        return _checked(log, trust)
    if trust is not None:
        msg = "trust= goes with a directory; verify_log makes a verified log of it"
        raise TypeError(msg)
    if isinstance(log, AuditVerification):
        log = log.proven
    if isinstance(log, VerifiedLog | PrunedLog):
        return _verified(log)
    inner = log if isinstance(log, Log) else getattr(log, "log", None)
    if isinstance(inner, Log):
        return _plain(inner)
    msg = f"a log, a verified log or a directory, not {type(log).__name__}"
    raise TypeError(msg)


def _verified(log: VerifiedLog | PrunedLog) -> Source:
    def entries(start: int, stop: int) -> Iterator[bytes]:
        some = log.entries
        return (some[index] for index in range(start, stop))

    return Source(
        origin=log.origin,
        size=log.size,
        root=log.root,
        verified=True,
        entries=entries,
        continues=log.consistency,
        again=lambda: _verified(log),
        gone=log.gone if isinstance(log, PrunedLog) else frozenset(),
        hashes=lambda bundle: _split(log.leaves(bundle)),
    )


def _checked(directory: str | os.PathLike[str], trust: Trust) -> Source:
    """Verify a directory, which may have been pruned."""
    log = Log.open(directory)
    path = log.directory
    notes = Places.of(path, path).notes
    seen = Checkpoint.decode(Note.decode(log.checkpoint_note()).text)
    if absent_bundles(path, seen.size):
        found: VerifiedLog | PrunedLog = verify_pruned_log(
            path, trust=trust, epochs=notes, epoch_of=epoch_of
        )
    else:
        found = verify_log(path, trust=trust, role="audit", epochs=notes, epoch_of=epoch_of)
    return replace(_verified(found), again=lambda: _checked(path, trust))


def _plain(log: Log) -> Source:
    seen = Checkpoint.decode(Note.decode(log.checkpoint_note()).text)

    def hashes(bundle: int) -> Sequence[bytes]:
        found = _split((log.directory / tiles.tile_path(0, bundle)).read_bytes())
        if len(found) != BUNDLE or len(found[-1]) != _HASH:
            raise ConsistencyError(
                f"the tile of bundle {bundle} of {seen.origin!r} was changed",
                why=f"it has {sum(map(len, found))} bytes",
                fix="verify the log, and get an untouched copy",
            )
        return found

    return Source(
        origin=seen.origin,
        size=seen.size,
        root=seen.root,
        verified=False,
        entries=log.entries,
        continues=lambda old: log.consistency(old, seen.size),
        again=lambda: _plain(log),
        gone=absent_bundles(log.directory, seen.size),
        hashes=hashes,
    )


def _split(data: bytes) -> Sequence[bytes]:
    return [data[at : at + _HASH] for at in range(0, len(data), _HASH)]
