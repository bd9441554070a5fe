"""
Epoch keys, for the one process that signs: make the next, hand over, destroy the old.

The order is what matters.  The next key is on the disk before its leaf is
written; the boundary note is on the disk before the old key is destroyed.  So
a crash between any two steps leaves a key that can go on, and `recover` finds
out which.  Until it has, nothing is signed.

Destroyed means: written over, synced, removed, directory synced.  On a disk
that writes elsewhere than where it was told (flash, copy on write, journals
of data, snapshots, backups) old bytes may be found for a while, and Python
cannot wipe memory: a core dump may hold a key.  Put the directory on a disk
without these, or keep the key on a token, where that matters.

Edge: drive it from one thread, under the lock of the log's writer.

Source: ``docs/spec/epochs.md``.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Never, Self

from secureml.errors import ConsistencyError, FormatError, KeyRoleError, KeyUnavailableError
from secureml.evidence._epochfiles import EpochFiles
from secureml.evidence._files import Files, store_error
from secureml.evidence._names import check_origin
from secureml.evidence.epochs import EpochLeaf, epoch_body, read_epoch
from secureml.evidence.notes import judge
from secureml.evidence.trust import Identity
from secureml.keys import KeySigner, Verifier, load
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.digest import Digest
from secureml.wire.note import Note

__all__ = ["EPOCH_LEAVES", "EPOCH_PERIOD", "EpochKeys", "EpochSigner"]

EPOCH_PERIOD: Final = timedelta(hours=1)
"""How long a key signs, by default."""

EPOCH_LEAVES: Final = 65_536
"""And for how many leaves."""

_NOBODY: Final = Digest.sha256(b"")


class EpochSigner:
    """
    Signs the checkpoints of one log, with the key of the present epoch.

    It stays the same object from epoch to epoch, so a log is opened with it
    once.  It signs nothing but checkpoints of its log, nothing before
    `EpochKeys.recover`, and after a boundary nothing until it is committed.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: "EpochKeys") -> None:
        self._keys = keys

    @property
    def verifier(self) -> Verifier:
        """The public half of the present key."""
        return self._keys.verifier

    @property
    def purposes(self) -> frozenset[str]:
        """``audit``, or ``log``."""
        return frozenset({self._keys.purpose})

    def sign(self, message: bytes, *, purpose: str) -> bytes:
        """
        Sign the text of a checkpoint.

        Raises:
            KeyRoleError: It is none, or one of another log; or the key has signed its boundary.
            KeyUnavailableError: `EpochKeys.recover` was not called, or a handing over failed.
        """
        return self._keys.sign(message, purpose=purpose)

    def __repr__(self) -> str:
        return f"<EpochSigner epoch {self._keys.number} of {self._keys.origin!r}>"

    def __reduce_ex__(self, protocol: object) -> Never:
        msg = f"{self!r} holds a private key and is neither copied nor pickled"
        raise TypeError(msg)


class EpochKeys:
    """
    The private keys of a log: the present one and, while it hands over, the next.

    Made by `create` for a new log and by `open` afterwards.

    Attributes:
        origin: The log.
        purpose: ``audit``, or ``log``.
        number: The present epoch.
        announced: Place of the leaf that announces the next key; None before.
    """

    def __init__(self, disk: EpochFiles, *, origin: str, period: timedelta, leaves: int) -> None:
        check_origin(origin)
        self._disk = disk
        self.origin, self.purpose = origin, disk.purpose
        self._period, self._leaves = period, leaves
        self.number = 0
        self.announced: int | None = None
        self._base = 0
        self._began = datetime.now(UTC)
        self._key: KeySigner | None = None
        self._next: KeySigner | None = None
        self._previous: Verifier | None = None
        self._boundary: bytes | None = None
        self._why = "recover() was not called"
        try:
            self._load()
        except OSError as error:
            raise store_error(f"could not open the epoch keys of {origin!r}", error) from error

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        notes: str | os.PathLike[str],
        *,
        origin: str,
        purpose: str = "audit",
        passphrase: str | bytes | None = None,
        first: str | os.PathLike[str] | None = None,
        files: Files | None = None,
        period: timedelta = EPOCH_PERIOD,
        leaves: int = EPOCH_LEAVES,
    ) -> Self:
        """
        Make the first key of a new log.

        Pin its public half, `verifier`, in a trust file, with ``epochs = true``.

        Args:
            directory: For the keys, outside of the evidence directory; made
                when it is missing, and empty.
            notes: The file of boundary notes: ``DIR/epochs/<name of the log>.notes``.
            origin: The log's name.
            purpose: ``audit``, or ``log``.
            passphrase: Encrypts each key file.
            first: A key file that becomes the first epoch's, and is destroyed
                once it is copied; after a crash in between, the same call destroys it.
            files: The operating system, for tests.
            period: How long an epoch lasts.
            leaves: And how many leaves.

        Raises:
            KeyUnavailableError: There are keys already, or *first* cannot be used.
            StoreError: The system refuses.
            ValueError: An origin or a purpose that is none.
        """
        check_origin(origin)
        disk = EpochFiles(directory, notes, purpose=purpose, passphrase=passphrase, files=files)
        try:
            if first is None or not disk.half_begun(Path(first)):
                cls._begin(disk, origin, passphrase, first)
        except OSError as error:
            raise store_error("could not write the first epoch key", error) from error
        return cls(disk, origin=origin, period=period, leaves=leaves)

    @staticmethod
    def _begin(
        disk: EpochFiles,
        origin: str,
        passphrase: str | bytes | None,
        first: str | os.PathLike[str] | None,
    ) -> None:
        if disk.numbers() or disk.notes.exists():
            raise KeyUnavailableError(
                f"there are epoch keys of {origin!r} already",
                why=f"{str(disk.directory)!r} or {str(disk.notes)!r} has some",
                fix="open them with EpochKeys.open; a new log begins in places of its own",
            )
        if first is None:
            disk.make(0)
            return
        scheme = load(first, passphrase=passphrase).verifier.scheme
        if scheme != "ed25519":
            raise KeyUnavailableError(
                f"the key file {os.fspath(first)!r} is not the first of a chain",
                why=f"an epoch key is ed25519, not {scheme}",
                fix="make one: secureml.keys.create(..., scheme='ed25519')",
            )
        disk.write(0, Path(first).read_bytes())
        disk.destroy(Path(first))

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        notes: str | os.PathLike[str],
        *,
        origin: str,
        purpose: str = "audit",
        passphrase: str | bytes | None = None,
        files: Files | None = None,
        period: timedelta = EPOCH_PERIOD,
        leaves: int = EPOCH_LEAVES,
    ) -> Self:
        """
        Open the keys, and finish what a crash left of a handing over.

        The boundary notes say which epoch it is: as many as there are.  A key
        of an earlier epoch that is still there is destroyed now.

        Args:
            directory: Where the keys are.
            notes: The file of boundary notes.
            origin: The log's name.
            purpose: ``audit``, or ``log``.
            passphrase: Opens each key file, and encrypts the next.
            files: The operating system, for tests.
            period: How long an epoch lasts.
            leaves: And how many leaves.

        Raises:
            KeyUnavailableError: The key of the present epoch is not there.
            ConsistencyError: The notes are not by these keys.
            FormatError: The file of notes has something else in it.
            StoreError: The system refuses.
            ValueError: An origin or a purpose that is none.
        """
        disk = EpochFiles(directory, notes, purpose=purpose, passphrase=passphrase, files=files)
        return cls(disk, origin=origin, period=period, leaves=leaves)

    # Facts

    @property
    def verifier(self) -> Verifier:
        """The public half of the present key."""
        return self._present().verifier

    @property
    def signer(self) -> EpochSigner:
        """What the log is opened with, once."""
        return EpochSigner(self)

    @property
    def previous(self) -> tuple[Verifier, ...]:
        """The key of the epoch before, which may have signed the checkpoint that is there."""
        return () if self._previous is None else (self._previous,)

    def due(self, now: datetime, size: int) -> bool:
        """
        Tell whether it is time to hand over.

        Args:
            now: With a time zone.
            size: Leaves of the log.
        """
        if self.announced is not None:
            return False
        return abs(now - self._began) >= self._period or size - self._base >= self._leaves

    # Handing over, in this order

    def recover(self, note: str | None, leaves: Sequence[EpochLeaf]) -> None:
        """
        Find out which key signs next, and allow it to.

        Call it once the log is recovered and before it is appended to.

        Args:
            note: The log's checkpoint; None for a log that has none yet.
            leaves: Its epoch leaves, with those that are pending; those of epochs
                that are over may be left out.

        Raises:
            ConsistencyError: The leaves are not those of these keys and notes.
            KeyUnavailableError: The key that a leaf announces is not there.
            StoreError: The system refuses.
        """
        found: EpochLeaf | None = None
        self.announced = self._boundary = None
        for leaf in leaves:
            number, key = read_epoch(leaf.body, origin=self.origin)
            if number <= self.number:
                continue
            if found is not None or number > self.number + 1:
                raise self._inconsistent(
                    f"leaf {leaf.index} announces epoch {number}, after {self.number} boundaries"
                )
            found = leaf
            if self._next is None:
                raise KeyUnavailableError(
                    f"the key of epoch {number} of {self.origin!r} is not there",
                    why=f"leaf {leaf.index} announces it, and its file is gone",
                    fix="restore the directory of keys as it was; without the key this log ends "
                    "here: begin a new one, and keep both",
                )
            if self._next.verifier != key:
                raise self._inconsistent(
                    f"leaf {leaf.index} announces another key for epoch {number} than the one here"
                )
        self._why = ""
        if found is not None:
            self.announce(found.index)
        if note is not None:
            self.published(note)

    def next(self) -> dict[str, JSON]:
        """
        Make the next key, and return what the leaf of type ``epoch`` says of it.

        Asked again before the leaf is in the log, it returns the same.

        Raises:
            KeyRoleError: The next key is announced already.
            KeyUnavailableError: As `EpochSigner.sign`.
            StoreError: The system refuses.
        """
        self._check()
        if self.announced is not None:
            raise KeyRoleError(
                f"epoch {self.number + 1} of {self.origin!r} is announced already",
                why=f"leaf {self.announced} does, and its boundary is not committed",
                fix="publish the log, and commit the checkpoint",
            )
        if self._next is None:
            try:
                self._next = self._disk.make(self.number + 1)
            except OSError as error:
                raise store_error("could not write the next epoch key", error) from error
        return epoch_body(self.number + 1, self.origin, self._next.verifier)

    def announce(self, index: int) -> None:
        """
        Say at which place of the log the leaf is.

        The next checkpoint above it is the boundary: the last that this key signs.

        Raises:
            ValueError: There is no next key, or it was announced at another place.
        """
        if self._next is None or self.announced not in {None, index}:
            msg = "announce() follows next(), once, with the place of the leaf that it was for"
            raise ValueError(msg)
        self.announced = index

    def published(self, note: str) -> bool:
        """
        Hand over if *note* is the boundary; call it after each publishing.

        Returns:
            Whether the next epoch began.

        Raises:
            ConsistencyError: The checkpoint is not by the key of this epoch.
            StoreError: The system refuses; nothing is signed until the keys are opened again.
        """
        size = Checkpoint.decode(Note.decode(note).text).size
        if self.announced is None or size <= self.announced:
            return False
        self.commit(note)
        return True

    def commit(self, note: str) -> None:
        """
        Keep the boundary note, destroy the old key, and go on with the next.

        Raises:
            ConsistencyError: The note is not a boundary by this key.
            StoreError: The system refuses; nothing is signed until the keys are opened again.
        """
        self._check()
        checkpoint = Checkpoint.decode(Note.decode(note).text)
        if self.announced is None or checkpoint.size <= self.announced:
            msg = "commit() takes the checkpoint that covers the leaf of the next epoch"
            raise ValueError(msg)
        if not self._signed_by(self.verifier, note):
            raise self._inconsistent(
                f"the checkpoint above leaf {self.announced} is not by the key of this epoch"
            )
        self._why = "a handing over failed"
        try:
            self._disk.keep(note, self.number + 1)
            self._disk.bury(self.number)
            self._began = self._disk.made(self.number + 1)
        except OSError as error:
            raise store_error(
                f"could not hand over to epoch {self.number + 1} of {self.origin!r}",
                error,
                fix="make room or repair the disk, then open the keys again: that goes on",
            ) from error
        self._previous = self.verifier
        self._key, self._next = self._next, None
        self.number += 1
        self.announced = self._boundary = None
        self._base = checkpoint.size
        self._why = ""

    def sign(self, message: bytes, *, purpose: str) -> bytes:
        """Sign a checkpoint; see `EpochSigner.sign`."""
        self._check()
        try:
            checkpoint = Checkpoint.decode(message.decode())
        except (FormatError, UnicodeDecodeError):
            checkpoint = None
        if checkpoint is None or checkpoint.origin != self.origin:
            raise KeyRoleError(
                f"an epoch key of {self.origin!r} signs its checkpoints only",
                why="the message is none of them",
                fix="sign statements with the key for statements",
            )
        if self.announced is not None and checkpoint.size > self.announced:
            if self._boundary not in {None, message}:
                raise KeyRoleError(
                    f"the key of epoch {self.number} of {self.origin!r} has signed its last",
                    why=f"a checkpoint above leaf {self.announced} hands over to the next key",
                    fix="commit the boundary first: EpochKeys.published(note) after publishing",
                )
            self._boundary = message
        return self._present().sign(message, purpose=purpose)

    def _load(self) -> None:
        notes, _ = self._disk.whole_notes()
        self.number = len(notes)
        if notes:
            self._base = Checkpoint.decode(Note.decode(notes[-1]).text).size
        numbers = self._disk.numbers()
        if self.number not in numbers:
            raise KeyUnavailableError(
                f"the key of epoch {self.number} of {self.origin!r} is not there",
                why=f"there are {len(notes)} boundary notes, and keys of the epochs "
                f"{numbers or '(none)'}",
                fix="restore the directory of keys as it was; if the notes were cut, get them "
                "back from where they were copied to",
            )
        if any(number > self.number + 1 for number in numbers):
            raise self._inconsistent(f"there are keys of epoch {numbers[-1]} already")
        self._disk.clean()
        for old in [number for number in numbers if number < self.number]:
            self._disk.bury(old)
        self._key = self._disk.read(self.number)
        self._began = self._disk.made(self.number)
        if self.number + 1 in numbers:
            self._next = self._disk.read(self.number + 1)
        self._previous = self._disk.public(self.number - 1)
        if self._previous is not None and not self._signed_by(self._previous, notes[-1]):
            raise self._inconsistent("the last boundary note is not by the key before this")

    # Inside

    def _present(self) -> KeySigner:
        if self._key is None:  # pragma: no cover  open() sets it
            raise self._unavailable()
        return self._key

    def _check(self) -> None:
        if self._why:
            raise self._unavailable()

    def _unavailable(self) -> KeyUnavailableError:
        return KeyUnavailableError(
            f"the epoch keys of {self.origin!r} do not sign now",
            why=self._why,
            fix="open them again, recover the log, and call recover(note, leaves)",
        )

    def _signed_by(self, verifier: Verifier, note: str) -> bool:
        role = frozenset({self.purpose})
        identity = Identity(name="epoch", verifier=verifier, roles=role, origin=self.origin)
        return judge(note, (identity,), _NOBODY) is not None

    def _inconsistent(self, why: str) -> ConsistencyError:
        return ConsistencyError(
            f"the epoch keys of {self.origin!r} and the log do not belong together",
            why=why,
            fix="restore keys, notes and log to one state; do not sign with these keys",
        )
