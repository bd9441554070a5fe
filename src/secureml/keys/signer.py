"""
Signing, with a key that refuses to sign outside its purpose.

`Signer` is a protocol, so that a key in a KMS or on a token fits later: what
holds the secret is not our business, what it may sign is.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Never, Protocol, TypeAlias, final, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secureml.errors import FormatError, KeyRoleError, KeyUnavailableError
from secureml.keys.verifier import SCHEMES, Verifier, ecdsa, mldsa

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

__all__ = ["PURPOSES", "KeySigner", "PrivateKey", "Signer", "check_purposes"]

PrivateKey: TypeAlias = "Ed25519PrivateKey | EllipticCurvePrivateKey | MLDSA44PrivateKey"

PURPOSES: Final = frozenset({"statements", "log", "audit", "witness"})
"""
What a key can be for: envelopes and models; a log's checkpoints; an audit log's checkpoints;
cosignatures on the checkpoints of others.
"""


@runtime_checkable
class Signer(Protocol):
    """
    **Protocol.** Something that signs for one key, within its purposes.

    `sign` raises `KeyRoleError` for a purpose outside `purposes`, and
    `KeyUnavailableError` when it cannot sign now.  It never returns a
    signature that `verifier` refuses.
    """

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        ...

    @property
    def purposes(self) -> frozenset[str]:
        """What this key may sign, out of `PURPOSES`."""
        ...

    def sign(self, message: bytes, *, purpose: str) -> bytes:
        """Return the signature: 64 bytes for Ed25519, DER for ECDSA, 2,420 for ML-DSA-44."""
        ...


@final
class KeySigner:
    """
    A signer that holds its private key in memory.

    It shows no secret, and is neither copied nor pickled: a key travels as an
    encrypted file or not at all.  Python cannot wipe memory; a process that
    held the key may leave it in a core dump.

    Raises:
        KeyUnavailableError: A key of a scheme that secureml does not sign with.
    """

    __slots__ = ("_key", "_purposes", "_verifier")

    def __init__(self, key: PrivateKey, *, purposes: Iterable[str] = ("statements",)) -> None:
        _check_kind(key)
        self._purposes = check_purposes(purposes)
        try:
            self._verifier = Verifier.from_key(key.public_key())
        except FormatError as error:
            raise _unsupported(error.why) from error
        self._key = key

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return self._verifier

    @property
    def purposes(self) -> frozenset[str]:
        """What this key may sign, out of `PURPOSES`."""
        return self._purposes

    def sign(self, message: bytes, *, purpose: str) -> bytes:
        """
        Return the signature: 64 bytes for Ed25519, DER for ECDSA, 2,420 for ML-DSA-44.

        Raises:
            KeyRoleError: *purpose* is not one of this key's.
            ValueError: *purpose* is none of `PURPOSES`.
        """
        check_purposes((purpose,))
        if purpose not in self._purposes:
            raise KeyRoleError(
                f"the key {self._verifier.short} does not sign for {purpose!r}",
                why=f"it was opened for {_listed(self._purposes)}",
                fix=f"sign with the key whose purpose is {purpose!r}; each role has its own key, "
                "so that one stolen key is not all of them",
            )
        if isinstance(self._key, EllipticCurvePrivateKey):
            return self._key.sign(message, ecdsa(self._verifier.scheme))
        return self._key.sign(message)

    def __repr__(self) -> str:
        verifier = self._verifier
        return (
            f"<KeySigner {verifier.scheme} {verifier.fingerprint} for {_listed(self._purposes)}>"
        )

    def __reduce_ex__(self, protocol: object) -> Never:
        raise _stays(self)

    def __copy__(self) -> Never:
        raise _stays(self)

    def __deepcopy__(self, memo: object) -> Never:
        raise _stays(self)


def check_purposes(purposes: Iterable[str]) -> frozenset[str]:
    """
    Return *purposes* as a set.

    Raises:
        ValueError: Empty, or a purpose that is none of `PURPOSES`.
        TypeError: A plain string.
    """
    if isinstance(purposes, str):
        msg = f"purposes is a set of names, not the string {purposes!r}"
        raise TypeError(msg)
    found = frozenset(purposes)
    if not found or not found <= PURPOSES:
        msg = f"purposes are out of {_listed(PURPOSES)}, got {sorted(found)!r}"
        raise ValueError(msg)
    return found


def _check_kind(key: object) -> None:
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").strip("_")
        if kind == "MLDSA44" and isinstance(key, mldsa().MLDSA44PrivateKey):
            return
        raise _unsupported(f"it is a key of type {kind}")


def _stays(signer: KeySigner) -> TypeError:
    return TypeError(
        f"{signer!r} holds a private key and is neither copied nor pickled: load it from its file"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _unsupported(why: str) -> KeyUnavailableError:
    return KeyUnavailableError(
        "this is not a private key that secureml signs with",
        why=why,
        fix=f"make one with secureml.keys.create(...); schemes: {', '.join(SCHEMES)}",
    )
