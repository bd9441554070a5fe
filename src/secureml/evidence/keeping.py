"""
What the writer of a log does beside publishing it: change its keys, and seal its tail.

A log is opened with choices, a `Keeping`, and with no key.  Keys are read by
the one process that writes, under its lock, each time it becomes the writer;
any process of the workspace may be the next, and the others hold none.

Where the files are follows from where the log is, in ``DIR/<log>``:

    private/epochs/<log>/       epoch keys           DIR/epochs/<log>.notes
    private/tails/<log>         key and tag          DIR/tails/<log>.steps

Source: ``docs/spec/epochs.md``, ``docs/spec/sealed-tail.md``.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from secureml.clock import now
from secureml.errors import ConsistencyError
from secureml.evidence._files import Files
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

if TYPE_CHECKING:
    from secureml.evidence.epochkeys import EpochKeys
    from secureml.evidence.epochs import EpochLeaf
    from secureml.evidence.sealedtail import SealedTail
    from secureml.evidence.tail import Tail
    from secureml.keys.signer import Signer
    from secureml.keys.verifier import Verifier

__all__ = [
    "Announce",
    "Epochs",
    "Keeping",
    "Kept",
    "Places",
    "create_epochs",
    "create_tail",
    "read_tail",
]

Announce = Callable[[Mapping[str, JSON]], list[bytes]]
"""Returns the entries that announce a key, given the member ``epoch``; one of them has it."""

_PERIOD: Final = timedelta(hours=1)
_LEAVES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """
    When the key of a log is followed by the next.

    Attributes:
        period: How long a key signs, an hour by default.
        leaves: And for how many leaves, 65,536 by default.
        passphrase: Opens each key file, and encrypts the next.

    Raises:
        ValueError: A period or a number of leaves that is not above 0.
    """

    period: timedelta = _PERIOD
    leaves: int = _LEAVES
    passphrase: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.period <= timedelta() or self.leaves < 1:
            msg = "an epoch lasts some time, and one leaf or more"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Places:
    """
    Where the files of one log are.

    Attributes:
        directory: The log.
        private: The private directory of its writers.
    """

    directory: Path
    private: Path

    @classmethod
    def of(cls, directory: str | os.PathLike[str], private: str | os.PathLike[str]) -> Self:
        """Return the places of the log in *directory*."""
        # Links in them stay what they are, as in `Log.open`.
        return cls(Path(os.path.abspath(directory)), Path(os.path.abspath(private)))  # noqa: PTH100

    @property
    def keys(self) -> Path:
        """The directory of the epoch keys."""
        return self.private / "epochs" / self.directory.name

    @property
    def notes(self) -> Path:
        """The file of boundary notes."""
        return self.directory.parent / "epochs" / f"{self.directory.name}.notes"

    @property
    def tail(self) -> Path:
        """The file of the sealed tail's key and tag."""
        return self.private / "tails" / self.directory.name

    @property
    def steps(self) -> Path:
        """The file of the sealed tail's steps."""
        return self.directory.parent / "tails" / f"{self.directory.name}.steps"

    @property
    def has_epochs(self) -> bool:
        """Whether the log has epoch keys, or had."""
        return self.keys.is_dir() or self.notes.exists()

    @property
    def has_tail(self) -> bool:
        """Whether the log has a sealed tail, or had."""
        return self.tail.exists() or self.steps.exists()


def create_epochs(
    directory: str | os.PathLike[str],
    private: str | os.PathLike[str],
    *,
    origin: str,
    purpose: str = "audit",
    first: str | os.PathLike[str] | None = None,
    passphrase: str | bytes | None = None,
    files: Files | None = None,
) -> "Verifier":
    """
    Make the first epoch key of a log, and return its public half.

    Pin that in a trust file, with ``epochs = true``, before the log is written.

    Args:
        directory: The log.
        private: The private directory of its writers.
        origin: The log's name.
        purpose: ``audit``, or ``log``.
        first: A key file that becomes the first epoch's, and is destroyed once it is
            copied: the key that signed the log so far.
        passphrase: Encrypts each key file; every process that writes needs it.
        files: The operating system, for tests.

    Raises:
        KeyUnavailableError: There are keys already, or *first* cannot be used.
        StoreError: The system refuses.
        ValueError: An origin or a purpose that is none.
    """
    from secureml.evidence.epochkeys import EpochKeys

    at = Places.of(directory, private)
    keys = EpochKeys.create(
        at.keys,
        at.notes,
        origin=origin,
        purpose=purpose,
        passphrase=passphrase,
        first=first,
        files=files,
    )
    return keys.verifier


def create_tail(
    directory: str | os.PathLike[str],
    private: str | os.PathLike[str],
    *,
    origin: str,
    files: Files | None = None,
) -> bytes:
    """
    Begin the sealed tail of a log, and return its first key, 32 bytes.

    Give it to the auditor, and keep no copy here: with it everything can be sealed anew.

    Args:
        directory: The log.
        private: The private directory of its writers.
        origin: The log's name.
        files: The operating system, for tests.

    Raises:
        StoreError: There is one already, or the system refuses.
    """
    from secureml.evidence.sealedtail import SealedTail

    at = Places.of(directory, private)
    _, key = SealedTail.create(at.tail, at.steps, origin=origin, files=files)
    return key


def read_tail(
    directory: str | os.PathLike[str], private: str | os.PathLike[str], *, origin: str
) -> "Tail":
    """
    Return the present tag of a log's sealed tail, for the auditor; also beside its writer.

    Read it *before* the log is verified: what is published meanwhile is then not missed.

    Args:
        directory: The log.
        private: The private directory of its writers.
        origin: The log's name.

    Raises:
        StoreError: It is not there, or could not be read.
        FormatError: It is not in its format.
    """
    from secureml.evidence.sealedtail import _read_state
    from secureml.evidence.tail import Tail

    state, _ = _read_state(Places.of(directory, private).tail)
    return Tail(origin, state.updates, state.size, state.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """
    What the writer of a log does beside publishing it; holds no key but *passphrase*.

    Attributes:
        epochs: When its keys change; None where one key signs all.
        sealed: Whether its tail is sealed.
        epoch_of: Returns the member ``epoch`` of an entry that announces a key; None for
            every other.
        announce: Makes the entries that announce a key; None where the log takes batches
            from nobody, so that no key is ever announced.

    Raises:
        ValueError: Epochs without *epoch_of*.
    """

    epochs: Epochs | None = None
    sealed: bool = False
    epoch_of: Callable[[bytes], object | None] | None = None
    announce: Announce | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epoch_of is None:
            msg = "a log with epoch keys needs epoch_of, which finds the leaves that announce them"
            raise ValueError(msg)

    def open(self, at: Places, *, origin: str, purpose: str, files: Files) -> "Kept":
        """
        Read the keys, and finish what a crash left; by the writer, under its lock.

        Raises:
            KeyUnavailableError: The key of the present epoch is not there.
            ConsistencyError, FormatError: Keys, notes, tail or steps were changed or cut.
            StoreError: They are not there, or the system refuses.
        """
        from secureml.evidence._epochfiles import EpochFiles
        from secureml.evidence.epochkeys import EpochKeys
        from secureml.evidence.sealedtail import SealedTail

        keys: EpochKeys | None = None
        tail: SealedTail | None = None
        base = 0
        if self.epochs is not None:
            keys = EpochKeys.open(
                at.keys,
                at.notes,
                origin=origin,
                purpose=purpose,
                passphrase=self.epochs.passphrase,
                files=files,
                period=self.epochs.period,
                leaves=self.epochs.leaves,
            )
            disk = EpochFiles(at.keys, at.notes, purpose=purpose, passphrase=None, files=files)
            notes, _ = disk.whole_notes()
            base = _size(notes[-1]) if notes else 0
        if self.sealed:
            tail = SealedTail.open(at.tail, at.steps, origin=origin, files=files)
        return Kept(self, keys, tail, base)


class Kept:
    """
    Keys and tail of a log that is being written; made by `Keeping.open`.

    Used by one thread at a time, under the lock of the log's writer.
    """

    def __init__(
        self, keeping: Keeping, keys: "EpochKeys | None", tail: "SealedTail | None", base: int
    ) -> None:
        self._keeping = keeping
        self._keys = keys
        self._tail = tail
        self._base = base
        self._leaves: list[EpochLeaf] = []

    @property
    def signer(self) -> "Signer | None":
        """What signs checkpoints now; None where the log's own signer does."""
        return None if self._keys is None else self._keys.signer

    @property
    def verifiers(self) -> "tuple[Verifier, ...]":
        """The keys that may have signed the checkpoint that is there; none without epochs."""
        keys = self._keys
        return () if keys is None else (keys.verifier, *keys.previous)

    @property
    def handing_over(self) -> bool:
        """Whether the next checkpoint is the last that the present key signs."""
        return self._keys is not None and self._keys.announced is not None

    def forget(self) -> None:
        """Forget what `look` saw: the entries are shown again."""
        self._leaves = []

    def look(self, first: int, entries: Sequence[bytes]) -> None:
        """Take note of what *entries*, the first of which is number *first*, announce."""
        epoch_of = self._keeping.epoch_of
        if self._keys is None or epoch_of is None:
            return
        for index, entry in enumerate(entries, first):
            body = epoch_of(entry)
            if body is not None:
                from secureml.evidence.epochs import EpochLeaf

                self._leaves.append(EpochLeaf(index, body))

    def recovered(self, note: str) -> None:
        """
        Find out which key signs, and catch up; all entries were shown to `look`.

        Args:
            note: The log's checkpoint, verified; empty for a log that has none yet.

        Raises:
            ConsistencyError: The log ends before a boundary or its tail, or belongs to
                other keys.
            KeyUnavailableError: The key that a leaf announces is not there.
            StoreError: The system refuses.
        """
        leaves, self._leaves = self._leaves, []
        size = _size(note) if note else 0
        if self._keys is not None:
            if size < self._base:
                raise _cut(self._keys.origin, self._base, size)
            before = self._keys.number
            self._keys.recover(note or None, leaves)
            if self._keys.number > before:
                self._base = size
        if self._tail is not None and note:
            checkpoint = Checkpoint.decode(Note.decode(note).text)
            self._tail.recover(checkpoint.size, checkpoint.root)
        elif self._tail is not None and self._tail.tail.size:
            raise _cut(self._tail.tail.origin, self._tail.tail.size, 0)

    def due(self, size: int) -> bool:
        """
        Tell whether the next key is to be announced in a log of *size* entries.

        Not while the present key signed nothing that another could protect.
        """
        keys = self._keys
        return (
            keys is not None
            and self._keeping.announce is not None
            and size > self._base
            and keys.due(now(), size)
        )

    def hand_over(self, size: int) -> list[bytes]:
        """
        Return the entries that announce the next key, if it is time; they come at *size*.

        Raises:
            StoreError: The next key could not be written.
            ValueError: None of the entries has the member.
        """
        keys, announce = self._keys, self._keeping.announce
        if keys is None or announce is None or not self.due(size):
            return []
        entries = announce(keys.next())
        self.look(size, entries)
        if len(self._leaves) != 1:
            msg = "one entry announces a key"
            raise ValueError(msg)
        keys.announce(self._leaves.pop().index)
        return entries

    def published(self, note: str) -> None:
        """
        Take note that a checkpoint is on the disk: hand over, and seal.

        Raises:
            ConsistencyError: The checkpoint is not by the key of this epoch.
            StoreError: The system refuses; the log has to be recovered.
        """
        checkpoint = Checkpoint.decode(Note.decode(note).text)
        if self._keys is not None and self._keys.published(note):
            self._base = checkpoint.size
        if self._tail is not None:
            self._tail.update(checkpoint.size, checkpoint.root)


def _size(note: str) -> int:
    return Checkpoint.decode(Note.decode(note).text).size


def _cut(origin: str, noted: int, size: int) -> ConsistencyError:
    return ConsistencyError(
        f"the log {origin!r} was cut or rolled back",
        why=f"its keys or its tail were moved on when it had {noted} entries; it has {size}",
        fix="restore the log and its private directory from the same moment; keep both",
    )
