"""
The file of one subject's key: reading, making, and destroying it.

Source: docs/spec/sealed-values.md, sections "Keys" and "Shredding".
"""

import contextlib
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secureml._durable import sync_directory
from secureml.errors import KeyUnavailableError
from secureml.sealing.cipher import KEY_SIZE, NONCE_SIZE, TAG_SIZE

__all__ = [
    "SHREDDING",
    "TICKS",
    "KeyFile",
    "create",
    "is_temporary",
    "owner",
    "read",
    "shred",
    "spell",
    "unusable",
]

TICKS: Final = 4096
"""Ticks after which the next generation begins; one stands for 65,536 values on average."""

SHREDDING: Final = ".shred-"
"""How the names of files begin that are being destroyed."""

_MAKING: Final = ".making-"
_STALE: Final = 3600.0
_DOMAIN: Final = b"secureml-subject-key/1\n"
_PLAIN: Final = b"secureml-subject-key/1 plain\n"
_WRAPPED: Final = b"secureml-subject-key/1 wrapped\n"
_ID: Final = 16
_CHECK: Final = 16
_PLAIN_SIZE: Final = len(_PLAIN) + _ID + KEY_SIZE + _CHECK
_WRAPPED_SIZE: Final = len(_WRAPPED) + _ID + NONCE_SIZE + KEY_SIZE + TAG_SIZE
_READ: Final = 1 << 16
_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NAME: Final = re.compile(r"([0-9a-f]{32})(?:\.[1-9]\d{0,8})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """
    What a key file holds.

    Attributes:
        id: Id of the key, 32 hex digits.
        key: The key; empty when it is wrapped and no master key was given.
        ticks: How many were counted.
        seen: What tells this file from another one of the same name.
        made: When, in seconds since 1970.
    """

    id: str
    key: bytes
    ticks: int
    seen: tuple[int, int]
    made: float


def owner(name: str) -> str | None:
    """Return the subject whose key file has this name, or None."""
    found = _NAME.fullmatch(name)
    return None if found is None else found[1]


def read(path: Path, subject: str, master: bytes | None, *, opened: bool = True) -> KeyFile:
    """
    Read a key file.

    Args:
        path: The file.
        subject: Whose key it is.
        master: The master key; then a file that is not wrapped is refused.
        opened: Whether the key itself is wanted, and not its id alone.

    Raises:
        FileNotFoundError: There is none.
        KeyUnavailableError: It is malformed, open to others, or of another master key.
        OSError: It cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
    try:
        status = os.fstat(fd)
        data = os.read(fd, _READ)
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode):
        raise unusable(path, "it is no regular file")
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise unusable(path, f"others may read it: its mode is {stat.S_IMODE(status.st_mode):04o}")
    wrapped = data.startswith(_WRAPPED)
    size = _WRAPPED_SIZE if wrapped else _PLAIN_SIZE
    if not (wrapped or data.startswith(_PLAIN)) or len(data) < size or data[size:].strip(b"."):
        raise unusable(path, "it is not in the form of a key file (docs/spec/sealed-values.md)")
    start = len(_WRAPPED if wrapped else _PLAIN)
    key_id, rest = data[start : start + _ID], data[start + _ID : size]
    key = b""
    if opened:
        key = (_unwrap if wrapped else _plain)(path, subject, key_id, rest, master)
    seen = status.st_ino, status.st_mtime_ns
    return KeyFile(key_id.hex(), key, len(data) - size, seen, status.st_mtime)


def _plain(path: Path, subject: str, key_id: bytes, rest: bytes, master: bytes | None) -> bytes:
    if master is not None:
        raise unusable(
            path,
            "it is not wrapped, and a master key was given: who could write the file may know it",
        )
    key, check = rest[:KEY_SIZE], rest[KEY_SIZE:]
    if not compare_digest(check, _check(subject, key_id, key)):
        raise unusable(path, "it was damaged, or is the file of another subject")
    return key


def _unwrap(path: Path, subject: str, key_id: bytes, rest: bytes, master: bytes | None) -> bytes:
    if master is None:
        raise unusable(path, "it is wrapped, and no master key was given")
    try:
        return AESGCM(master).decrypt(
            rest[:NONCE_SIZE], rest[NONCE_SIZE:], _DOMAIN + subject.encode() + key_id
        )
    except InvalidTag:
        raise unusable(
            path, "it was wrapped with another master key, damaged, or is another subject's"
        ) from None


def _check(subject: str, key_id: bytes, key: bytes) -> bytes:
    return sha256(_DOMAIN + subject.encode() + key_id + key).digest()[:_CHECK]


def spell(subject: str, key_id: bytes, key: bytes, master: bytes | None) -> bytes:
    """Return the bytes of a key file without ticks."""
    if master is None:
        return _PLAIN + key_id + key + _check(subject, key_id, key)
    nonce = os.urandom(NONCE_SIZE)
    aad = _DOMAIN + subject.encode() + key_id
    return _WRAPPED + key_id + nonce + AESGCM(master).encrypt(nonce, key, aad)


def create(path: Path, subject: str, master: bytes | None) -> None:
    """
    Make a key under the name *path*, unless somebody did so already.

    Nothing is synced here: the caller of an audited function does not wait
    for the disk.

    Raises:
        OSError: It cannot be made.
    """
    if not path.parent.is_dir():
        # One by one: `parents` would give those in between the usual mode.
        for directory in (path.parents[2], path.parents[1], path.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
    beside = path.with_name(f"{_MAKING}{secrets.token_hex(8)}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        try:
            data = spell(subject, os.urandom(_ID), os.urandom(KEY_SIZE), master)
            if os.write(fd, data) != len(data):
                raise OSError(28, "there is no room")
            # The time has random digits: a file that takes the place and the inode
            # of one that was shredded is told from it, however quickly it was made.
            when = time.time_ns() // 10**9 * 10**9 + secrets.randbelow(10**9)
            os.utime(fd if os.utime in os.supports_fd else beside, ns=(when, when))
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def shred(path: Path) -> None:
    """
    Destroy a key file: move it aside, overwrite it, remove it.

    Raises:
        OSError: A step failed; the rest is done by another call, or by one
            with the name that the file has now.
    """
    aside = path
    if not path.name.startswith((SHREDDING, _MAKING)):
        aside = path.with_name(f"{SHREDDING}{secrets.token_hex(8)}-{path.name}")
        path.rename(aside)
        sync_directory(path.parent)
    fd = os.open(aside, os.O_WRONLY | _FLAGS)
    try:
        status = os.fstat(fd)
        # A second name, of one that is being made, may be that of a key in use.
        if not aside.name.startswith(_MAKING) or status.st_nlink == 1:
            os.write(fd, bytes(max(_WRAPPED_SIZE, status.st_size)))
            os.fsync(fd)
    finally:
        os.close(fd)
    aside.unlink()
    sync_directory(aside.parent)


def is_temporary(name: str, path: Path) -> bool:
    """Return whether *name* is left over from a process that died while it made a key."""
    if not name.startswith(_MAKING):
        return False
    try:
        return time.time() - path.stat().st_mtime > _STALE
    except FileNotFoundError:
        return False


def unusable(path: Path, why: str) -> KeyUnavailableError:
    """Return the error for a key file that cannot be used."""
    return KeyUnavailableError(
        f"the subject key {path.name!r} cannot be used",
        why=why,
        fix="put the file and its mode back as they were, or give the master key that wrapped it; "
        "what was encrypted with a key that is lost stays closed",
    )
