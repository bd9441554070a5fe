"""
Key files: PKCS#8 PEM, readable by their owner alone, encrypted when a passphrase is given.

A file is created with O_EXCL and mode 0600 in one step: it is never open to
others, not even for a moment, and an existing key is never overwritten, since
what it signed could not be continued.

Encryption is what `cryptography` calls best available for PKCS#8: PBES2 with
AES-256-CBC.  Its key derivation is not memory-hard, so the passphrase has to
be strong (limitations are in the documentation).
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from secureml._durable import sync_directory
from secureml.errors import KeyUnavailableError
from secureml.keys.signer import KeySigner, PrivateKey, check_purposes
from secureml.keys.verifier import SCHEMES, Verifier, mldsa, no_mldsa

__all__ = ["create", "generate", "is_encrypted", "load", "load_public", "make"]

_CURVES: Final[dict[str, type[EllipticCurve]]] = {
    "ecdsa-p256": SECP256R1,
    "ecdsa-p384": SECP384R1,
    "ecdsa-p521": SECP521R1,
}
_STATEMENTS: Final = frozenset({"statements"})
_MAX_BYTES: Final = 65_536
_MAX_PASSPHRASE: Final = 1023


def generate(scheme: str = "ecdsa-p256", *, purposes: Iterable[str] = _STATEMENTS) -> KeySigner:
    """
    Make a key that lives in memory only.

    Raises:
        ValueError: *scheme* is none of `SCHEMES`, or a purpose is unknown.
        MissingExtraError: ``mldsa-44``, and the installed cryptography has no ML-DSA.
    """
    return KeySigner(_new(scheme), purposes=purposes)


def make(
    scheme: str = "ecdsa-p256",
    *,
    passphrase: str | bytes | None = None,
    purposes: Iterable[str] = _STATEMENTS,
) -> tuple[KeySigner, bytes]:
    """
    Make a key, and the PEM that a key file of it holds; nothing is written.

    For whoever has to put the file on the disk in an order of its own.  `create` writes it.

    Raises:
        ValueError: An unknown scheme or purpose, an empty passphrase.
        MissingExtraError: As `generate`.
    """
    purposes = check_purposes(purposes)
    secret = _passphrase(passphrase)
    key = _new(scheme)
    encryption: KeySerializationEncryption = (
        NoEncryption() if secret is None else BestAvailableEncryption(secret)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return KeySigner(key, purposes=purposes), pem


def create(
    path: str | os.PathLike[str],
    *,
    scheme: str = "ecdsa-p256",
    passphrase: str | bytes | None = None,
    purposes: Iterable[str] = _STATEMENTS,
) -> KeySigner:
    """
    Make a key and write it to a new file, mode 0600.

    Args:
        path: Where; the directory has to exist.
        scheme: One of `SCHEMES`; checkpoints of logs need ``ed25519``, and can have
            ``mldsa-44`` beside it.
        passphrase: Encrypts the file.  A `str` is taken as UTF-8.
        purposes: What the returned signer may sign.  The file does not say.

    Raises:
        KeyUnavailableError: The file exists, or cannot be written.
        ValueError: An unknown scheme or purpose, an empty passphrase.
        MissingExtraError: As `generate`.
    """
    signer, pem = make(scheme, passphrase=passphrase, purposes=purposes)
    _write_new(Path(path), pem)
    return signer


def load(
    path: str | os.PathLike[str],
    *,
    passphrase: str | bytes | None = None,
    purposes: Iterable[str] = _STATEMENTS,
) -> KeySigner:
    """
    Read a private key, to sign for *purposes*.

    Raises:
        KeyUnavailableError: Missing, not a regular file, open to the group or
            to others (POSIX), encrypted without or with another passphrase,
            not encrypted although a passphrase was given, or a key of a
            scheme that secureml does not sign with.
        ValueError: An unknown purpose, an empty passphrase.
    """
    path, purposes, secret = Path(path), check_purposes(purposes), _passphrase(passphrase)
    data = _read(path, private=True)
    encrypted = _encrypted(data)
    if encrypted and secret is None:
        raise KeyUnavailableError(
            f"the key file {str(path)!r} is locked",
            why="it is encrypted, and no passphrase was given",
            fix="pass passphrase=..., read from a secret store or asked for, never from the code",
        )
    if secret is not None and not encrypted:
        raise KeyUnavailableError(
            f"the key file {str(path)!r} is not encrypted, although a passphrase was given",
            why="whoever reads the file holds the key, which is not what the passphrase suggests",
            fix=f"encrypt it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in {path} -out NEW; "
            "or leave the passphrase out",
        )
    try:
        key = load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library's text says nothing of the passphrase; ours does not repeat it either.
        raise KeyUnavailableError(
            f"the key file {str(path)!r} cannot be opened",
            why="the passphrase is wrong, or the file is damaged"
            if encrypted
            else f"it holds no private key in PEM that can be read ({error})",
            fix="give the passphrase it was made with"
            if encrypted
            else "make a key with secureml.keys.create(...), or restore the file from its backup",
        ) from None
    try:
        return KeySigner(key, purposes=purposes)  # type: ignore[arg-type]  # it checks the type
    except KeyUnavailableError as error:
        raise KeyUnavailableError(
            f"the key file {str(path)!r} cannot be used", why=error.why, fix=error.fix
        ) from None


def load_public(path: str | os.PathLike[str]) -> Verifier:
    """
    Read a public key from a PEM file.

    Raises:
        KeyUnavailableError: The file is missing or cannot be read.
        FormatError: It holds something else than one public key of `SCHEMES`.
    """
    return Verifier.from_pem(_read(Path(path), private=False))


def is_encrypted(path: str | os.PathLike[str]) -> bool:
    """
    Tell whether a private key file needs a passphrase.

    Raises:
        KeyUnavailableError: Missing, or open to the group or to others.
    """
    return _encrypted(_read(Path(path), private=True))


def _new(scheme: str) -> PrivateKey:
    if scheme == "ed25519":
        return Ed25519PrivateKey.generate()
    if scheme in _CURVES:
        return generate_private_key(_CURVES[scheme]())
    if scheme == "mldsa-44":
        try:
            return cast("PrivateKey", mldsa().MLDSA44PrivateKey.generate())
        except UnsupportedAlgorithm as error:
            raise no_mldsa(str(error)) from error
    msg = f"scheme is one of {', '.join(SCHEMES)}, got {scheme!r}"
    raise ValueError(msg)


def _passphrase(passphrase: object) -> bytes | None:
    if passphrase is None:
        return None
    data = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not isinstance(data, bytes):
        msg = f"passphrase is str or bytes, not {type(passphrase).__name__}"
        raise TypeError(msg)
    if not 0 < len(data) <= _MAX_PASSPHRASE:
        msg = f"a passphrase has 1 to {_MAX_PASSPHRASE} bytes (pass None for no encryption)"
        raise ValueError(msg)
    return data


def _encrypted(data: bytes) -> bool:
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data or b"Proc-Type: 4,ENCRYPTED" in data


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise KeyUnavailableError(
            f"the key file {str(path)!r} exists already",
            why="a key that is overwritten cannot be had back, and what it signed goes on "
            "without it",
            fix="choose another name, or move the old file away first",
        ) from error
    except OSError as error:
        raise _os_error(path, "written", error) from error
    try:
        with open(fd, "wb") as file:  # noqa: PTH123  a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(fd)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise _os_error(path, "written", error) from error


def _read(path: Path, *, private: bool) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    # Without O_NONBLOCK, opening a FIFO would wait for somebody to write to it.
    flags |= getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(path, flags)
    except FileNotFoundError as error:
        raise KeyUnavailableError(
            f"there is no key file {str(path)!r}",
            why="the path leads to nothing",
            fix="check the path; to make a key: python -m secureml keygen FILE",
        ) from error
    except OSError as error:
        raise _os_error(path, "read", error) from error
    try:
        with open(fd, "rb") as file:  # noqa: PTH123  a descriptor, not a path
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise KeyUnavailableError(
                    f"{str(path)!r} is not a key file",
                    why="it is a directory, a pipe or a device",
                    fix="name the PEM file itself",
                )
            mode = stat.S_IMODE(status.st_mode)
            if private and os.name == "posix" and mode & 0o077:
                raise KeyUnavailableError(
                    f"the key file {str(path)!r} is open to other users",
                    why=f"its mode is {mode:04o}; a private key is its owner's alone (0600)",
                    fix=f"chmod 600 {path}  (and replace the key, if others use this machine)",
                )
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _os_error(path, "read", error) from error
    if len(data) > _MAX_BYTES:
        raise KeyUnavailableError(
            f"{str(path)!r} is not a key file",
            why=f"it has more than {_MAX_BYTES} bytes",
            fix="name the PEM file itself",
        )
    return data


def _os_error(path: Path, verb: str, error: OSError) -> KeyUnavailableError:
    return KeyUnavailableError(
        f"the key file {str(path)!r} cannot be {verb}",
        why=error.strerror or str(error),
        fix="check that the directory exists and that this user may use it",
    )
