"""
Which key may have signed a log's checkpoint: the one of the trust file, or one of a chain.

For a chain of epoch keys the checkpoint is judged twice.  Before anything of
its size is believed, the keys are followed along the boundary notes, with
leaves that were merely found in the files; so what somebody without a key
wrote is refused before it costs time.  Afterwards, when every entry is known
to lead to the root, they are followed again with the leaves of the log itself.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from secureml.errors import UntrustedSignerError
from secureml.evidence._reader import LogDirectory
from secureml.evidence._tree import FULL
from secureml.evidence.epochs import (
    EpochChain,
    EpochLeaf,
    chain_of,
    cut,
    first_of,
    note_missing,
    read_epoch,
    read_notes,
    verify_epochs,
)
from secureml.evidence.notes import VerifiedCheckpoint, judge, verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

__all__ = ["LogKeys", "Notes", "size_of"]

Notes = str | os.PathLike[str] | Sequence[str]
"""Boundary notes, or the file that has them."""


class LogKeys:
    """
    The keys by which one log is verified.

    Attributes:
        chained: Whether its checkpoints are signed by a chain of epoch keys.
    """

    def __init__(
        self,
        trust: Trust,
        role: str,
        epochs: Notes | None,
        epoch_of: Callable[[bytes], object | None] | None,
    ) -> None:
        if epochs is not None and epoch_of is None:
            msg = "epochs= needs epoch_of=, which returns what an entry says of the next key"
            raise TypeError(msg)
        self.trust, self.role = trust, role
        self._epochs, self._epoch_of = epochs, epoch_of
        self._first: Identity | None = None
        self._notes: list[str] = []
        self._leaves: list[EpochLeaf] = []

    @property
    def chained(self) -> bool:
        """Whether its checkpoints are signed by a chain of epoch keys."""
        return self._first is not None

    @property
    def cuts(self) -> set[int]:
        """The sizes for which boundary notes were signed."""
        return {size_of(note) for note in self._notes}

    def head(self, note: str, path: Path) -> VerifiedCheckpoint:
        """
        Check the signature of the checkpoint in the log's directory.

        Raises:
            FileNotFoundError: A file of the log is gone.
            VerificationError, FormatError, StoreError: As `verify_log`.
        """
        checkpoint = Checkpoint.decode(Note.decode(note).text)
        if self._epochs is not None:
            self._first = first_of(self.trust, self.role, checkpoint.origin)
        if self._first is None:
            return verify_checkpoint(note, trust=self.trust, role=self.role, strict=True)
        if isinstance(self._epochs, str | os.PathLike):
            self._notes = read_notes(self._epochs)
        else:
            self._notes = list(self._epochs or ())
        directory = LogDirectory(path)

        def find(_: int, low: int, high: int) -> EpochLeaf | None:
            if high > checkpoint.size:
                raise cut(checkpoint.origin, high, checkpoint.size)
            return self._last(directory, low, high, checkpoint.size)

        chain = chain_of(
            self._first, trust=self.trust, notes=self._notes, leaf=find, role=self.role
        )
        try:
            return chain.verify(note, strict=True)
        except UntrustedSignerError:
            self._explain(chain, directory, note)
            raise

    def visit(self, first: int, entries: Sequence[bytes]) -> None:
        """Take note of the epoch leaves among *entries*, the first of which is number *first*."""
        if self._epoch_of is None or self._first is None:
            return
        for index, entry in enumerate(entries, first):
            body = self._epoch_of(entry)
            if body is not None:
                self._leaves.append(EpochLeaf(index, body))

    def finish(
        self, note: str, roots: Mapping[int, bytes]
    ) -> tuple[EpochChain, VerifiedCheckpoint] | None:
        """
        Judge the keys by the entries of the whole log; None where there is no chain.

        Raises:
            VerificationError, FormatError: As `verify_epochs`.
        """
        if self._first is None:
            return None
        return verify_epochs(
            self._first,
            trust=self.trust,
            leaves=self._leaves,
            notes=self._notes,
            head=note,
            roots=roots.__getitem__,
            role=self.role,
        )

    def _last(self, directory: LogDirectory, low: int, high: int, size: int) -> EpochLeaf | None:
        """Return the last epoch leaf from *low* up to, not including, *high*."""
        if self._epoch_of is None:  # pragma: no cover  the constructor refuses it
            return None
        for bundle in range((high - 1) // FULL, low // FULL - 1, -1):
            start = bundle * FULL
            entries = directory.bundle(bundle, min(FULL, size - start))
            for index in range(min(high, start + FULL) - 1, max(low, start) - 1, -1):
                body = self._epoch_of(entries[index - start])
                if body is not None:
                    return EpochLeaf(index, body)
        return None

    def _explain(self, chain: EpochChain, directory: LogDirectory, note: str) -> None:
        """Say so when the checkpoint is by a key that a leaf announces and no note leads to."""
        low, size = max(chain.epochs[-1].above, 0), size_of(note)
        try:
            leaf = self._last(directory, low, size, size)
        except FileNotFoundError:
            return
        if leaf is None:
            return
        number, key = read_epoch(leaf.body, origin=chain.origin)
        identity = Identity(
            name="epoch", verifier=key, roles=frozenset({"audit"}), origin=chain.origin
        )
        if judge(note, (identity,), chain.trust_digest) is not None:
            raise note_missing(chain.origin, number - 1, leaf.index)


def size_of(note: str) -> int:
    """
    Return how many leaves a checkpoint says the log has; nothing is verified.

    Raises:
        FormatError: Not a checkpoint.
    """
    return Checkpoint.decode(Note.decode(note).text).size
