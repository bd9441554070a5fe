"""
Pseudonyms: the same user, the same name, and no way back without the key.

A pseudonym is a keyed hash of the user's identity.  The key stays in the
private directory; whoever destroys it makes every actor of the log anonymous.
An unkeyed hash would not do: user names can be guessed.

Source: docs/spec/audit-record.md, section "Actors".
"""

import hmac
import operator
import os
import stat
from pathlib import Path
from typing import Final, SupportsIndex, cast
from uuid import UUID

from secureml.audit.value import encode
from secureml.errors import KeyUnavailableError

__all__ = ["KEY_FILE", "Pseudonyms", "pseudonym"]

KEY_FILE: Final = "pseudonyms.key"
"""Name of the key's file in the private directory: 32 random bytes, mode 0600."""

_KEY_SIZE: Final = 32
_DOMAIN: Final = b"secureml-audit-pseudonym/1\n"
_HEX_DIGITS: Final = 32
_MAX_KNOWN: Final = 4096


def pseudonym(key: bytes, user: object, *, path: str = "user") -> str:
    """
    Return the pseudonym of *user*: 32 hex digits.

    Raises:
        TypeError: *user* is of another type; *path* names it.
    """
    if not isinstance(user, str | bytes | UUID | bool) and hasattr(type(user), "__index__"):
        user = operator.index(cast("SupportsIndex", user))  # numpy's integers too
    if not isinstance(user, str | int | bytes | UUID) or isinstance(user, bool):
        msg = (
            f"{path!r} is of type {type(user).__name__!r}: a user is named by text, a number, "
            "bytes or a UUID; give the path to it, such as 'user.id'"
        )
        raise TypeError(msg)
    message = _DOMAIN + encode(user, path=path)
    return hmac.digest(key, message, "sha256").hex()[:_HEX_DIGITS]


class Pseudonyms:
    """The pseudonym key of one private directory, made at first use."""

    __slots__ = ("_key", "_known", "_path")

    def __init__(self, private: Path) -> None:
        self._path = private / KEY_FILE
        self._key: bytes | None = None
        self._known: dict[object, str] = {}

    @property
    def private(self) -> Path:
        """The private directory."""
        return self._path.parent

    @property
    def ready(self) -> bool:
        """Whether the key was read, so that nobody has to wait for the disk."""
        return self._key is not None

    def load(self) -> None:
        """
        Read the key, or make it, so that nothing else has to wait for the disk.

        Raises:
            KeyUnavailableError: It cannot be read or made.
        """
        if self._key is None:
            self._key = self._load()

    def of(self, user: object, *, path: str = "user") -> str:
        """
        Return the pseudonym of *user*.

        Raises:
            TypeError: *user* is not text, a number, bytes or a UUID.
            KeyUnavailableError: The key cannot be read or made.
        """
        # Those who ask again are looked up.  Types differ where values are equal.
        known = type(user) is str or type(user) is int or type(user) is UUID
        if known and user in self._known:
            return self._known[user]
        key = self._key
        if key is None:
            key = self._key = self._load()
        found = pseudonym(key, user, path=path)
        if known:
            if len(self._known) >= _MAX_KNOWN:
                self._known = {}
            self._known[user] = found
        return found

    def _load(self) -> bytes:
        try:
            try:
                return self._read()
            except FileNotFoundError:
                self._create()
                return self._read()
        except OSError as error:
            raise self._unavailable(str(error.strerror)) from error

    def _read(self) -> bytes:
        fd = os.open(self._path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            mode = os.fstat(fd).st_mode
            key = os.read(fd, _KEY_SIZE + 1)
        finally:
            os.close(fd)
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise self._unavailable(f"others may read it: its mode is {stat.S_IMODE(mode):04o}")
        if len(key) != _KEY_SIZE:
            raise self._unavailable(f"it does not have {_KEY_SIZE} bytes")
        return key

    def _create(self) -> None:
        # Written beside and linked: two processes at once end up with one key.
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path.with_name(f".{KEY_FILE}.{os.urandom(8).hex()}")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                os.write(fd, os.urandom(_KEY_SIZE))
                os.fsync(fd)
            finally:
                os.close(fd)
            try:
                os.link(beside, self._path)
            except FileExistsError:
                return
        finally:
            beside.unlink(missing_ok=True)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _unavailable(self, why: str) -> KeyUnavailableError:
        return KeyUnavailableError(
            f"the key of the pseudonyms, {str(self._path)!r}, cannot be used",
            why=why,
            fix="set its mode to 0600, or put the key back that was there: with another key "
            "the same user gets another pseudonym",
        )
