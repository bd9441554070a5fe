"""
The files of epoch keys: written so that a crash leaves one key that can go on.

``000007.pem`` is the private key of epoch 7, ``000006.pub`` the public half of
the one before, which may have signed the checkpoint that is there.  Beside
the log stands the file of boundary notes, which only grows.

Source: ``docs/spec/epochs.md``.
"""

import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from secureml.evidence._files import (
    TEMPORARY,
    Files,
    make_directories,
    write_all,
    write_batch,
)
from secureml.evidence.epochs import join_notes, split_notes
from secureml.evidence.trust import LOG_ROLES
from secureml.keys import KeySigner, Verifier, load, load_public, make

__all__ = ["EpochFiles"]

_KEY: Final = re.compile(r"(\d{6,})\.pem", re.ASCII)
_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class EpochFiles:
    """
    The keys and the notes of one log, on the disk.

    Attributes:
        directory: Where the keys are; private, of this log alone.
        notes: The file of boundary notes, beside the log.
        purpose: ``audit``, or ``log``.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        notes: str | os.PathLike[str],
        *,
        purpose: str,
        passphrase: str | bytes | None,
        files: Files | None,
    ) -> None:
        if purpose not in LOG_ROLES:
            msg = f"epoch keys sign for the purpose log or audit, not {purpose!r}"
            raise ValueError(msg)
        self.directory, self.notes, self.purpose = Path(directory), Path(notes), purpose
        self._passphrase = passphrase
        self._files = files or Files()

    # Keys

    def numbers(self) -> list[int]:
        """Return the epochs of which the private key is there."""
        names = os.listdir(self.directory) if self.directory.is_dir() else []  # noqa: PTH208
        return sorted(int(match[1]) for name in names if (match := _KEY.fullmatch(name)))

    def read(self, number: int) -> KeySigner:
        """Read a private key."""
        path = self._private(number)
        return load(path, passphrase=self._passphrase, purposes={self.purpose})

    def made(self, number: int) -> datetime:
        """Return when a key was made."""
        return datetime.fromtimestamp(self._private(number).stat().st_mtime, UTC)

    def public(self, number: int) -> Verifier | None:
        """Read the public half of a key that is over; None where there is none."""
        path = self._public(number)
        return load_public(path) if number >= 0 and path.exists() else None

    def make(self, number: int) -> KeySigner:
        """Make a private key, and write it."""
        signer, pem = make("ed25519", passphrase=self._passphrase, purposes={self.purpose})
        self.write(number, pem)
        return signer

    def write(self, number: int, pem: bytes) -> None:
        """Write a private key, whole or not at all, and wait until it is on the disk."""
        write_batch(self._files, [(self._private(number), pem)], private=True)

    def clean(self) -> None:
        """Destroy a key that was not written to its end: no leaf announces it."""
        for path in self.directory.glob(f"{TEMPORARY}*"):
            self.destroy(path)

    def half_begun(self, first: Path) -> bool:
        """Destroy a file that the first key is a copy of, and tell whether it was there."""
        copy = self._private(0)
        if self.numbers() != [0] or self.notes.exists() or not first.exists():
            return False
        if first.read_bytes() != copy.read_bytes():
            return False
        self.destroy(first)
        return True

    def bury(self, number: int) -> None:
        """Keep the public half of a key that is over, and destroy the private half."""
        if not self._public(number).exists():
            public = self.read(number).verifier.pem.encode()
            write_batch(self._files, [(self._public(number), public)], private=True)
        self.destroy(self._private(number))
        older = self._public(number - 1)
        if older.exists():
            self._files.remove(older)

    def destroy(self, path: Path) -> None:
        """Write over a file, wait until that is on the disk, and remove it."""
        size = path.stat().st_size
        fd = os.open(path, os.O_WRONLY | _FLAGS)
        try:
            write_all(self._files, fd, secrets.token_bytes(size))
            self._files.sync(fd)
        finally:
            self._files.close(fd)
        self._files.remove(path)
        self._files.sync_directory(path.parent)

    def _private(self, number: int) -> Path:
        return self.directory / f"{number:06}.pem"

    def _public(self, number: int) -> Path:
        return self.directory / f"{number:06}.pub"

    # Notes

    def whole_notes(self) -> tuple[list[str], int]:
        """Return the notes that are whole, and the bytes that they take."""
        try:
            data = self.notes.read_bytes()
        except FileNotFoundError:
            return [], 0
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            text = data[: error.start].decode()
        notes, _ = split_notes(text)
        return notes, len(join_notes(notes).encode())

    def keep(self, note: str, number: int) -> None:
        """Append the note that begins epoch *number*, and wait until it is on the disk."""
        notes, size = self.whole_notes()
        if notes and notes[-1] == note and len(notes) == number:
            return
        changed = {self.notes.parent}
        make_directories(self._files, self.notes.parent, mode=0o755, changed=changed)
        fd = self._files.open_append(self.notes, 0o644)
        try:
            self._files.truncate(fd, size)
            write_all(self._files, fd, join_notes([note]).encode())
            self._files.sync(fd)
        finally:
            self._files.close(fd)
        for directory in sorted(changed):
            self._files.sync_directory(directory)
