"""
A public key as a plain value: it compares, hashes, pickles, and checks signatures.

Two names lead to a key.  Its *fingerprint* is the SHA-256 of the DER
SubjectPublicKeyInfo, the name people compare and pin.  Its *hint* is the
SHA-256 of the PEM text, the name that OpenSSF Model Signing puts beside a
signature.  The hint picks a candidate and proves nothing.

Only keys with one encoding are accepted, so one key has one fingerprint.
Ed25519 points of small order are refused: a signature that verifies under one
of them says nothing, since anybody can make it for any message.

ML-DSA-44, which a quantum computer does not break, is looked for when it is
asked for: older releases of cryptography, and those built with an older
OpenSSL, have none.

Source: RFC 5280 section 4.1.2.7, RFC 8032 section 5.1, FIPS 186-5 section 6,
FIPS 204, RFC 9881 (the encoding of ML-DSA keys), Model Signing v1.0 (hint);
Chalkias, Garillot, Nikolaenko, *Taming the many EdDSAs*, 2020 (small order).
"""

import binascii
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, cast, final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from secureml.errors import FormatError, MissingExtraError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

__all__ = ["SCHEMES", "PublicKey", "Verifier", "ecdsa", "mldsa", "no_mldsa", "scheme_of"]

PublicKey: TypeAlias = "Ed25519PublicKey | EllipticCurvePublicKey | MLDSA44PublicKey"

SCHEMES: Final = ("ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "mldsa-44")
"""The signature schemes, all of them; ``mldsa-44`` is for checkpoints, beside ``ed25519``."""

_CURVES: Final = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}
_HASHES: Final[dict[str, type[HashAlgorithm]]] = {
    "ecdsa-p256": SHA256,
    "ecdsa-p384": SHA384,
    "ecdsa-p521": SHA512,
}
_PRIME: Final = 2**255 - 19
_ORDER_8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_SMALL_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
_MAX_PEM: Final = 16_384
_MLDSA: Final = bytes.fromhex("0609608648016503040311")
"""The DER of the object identifier id-ml-dsa-44 (RFC 9881)."""


@final
@dataclass(frozen=True)
class Verifier:
    """
    A public key that checks signatures.

    Attributes:
        der: The SubjectPublicKeyInfo, in its one DER spelling.

    Raises:
        FormatError: Not a key of one of `SCHEMES`, in its one spelling.
        MissingExtraError: An ML-DSA-44 key, and the installed cryptography has no ML-DSA.
    """

    der: bytes

    def __post_init__(self) -> None:
        if _der(_load(self.der)) != self.der:
            raise _not_a_key("it is another spelling of a key (DER has one)")

    @classmethod
    def from_pem(cls, pem: str | bytes) -> "Verifier":
        """
        Read one public key from PEM text (``-----BEGIN PUBLIC KEY-----``).

        Raises:
            FormatError: No such key, a private key, a certificate, more than
                one block, or a key of another scheme.
            MissingExtraError: An ML-DSA-44 key, and the installed cryptography has no ML-DSA.
        """
        data = pem.encode("utf-8", "replace") if isinstance(pem, str) else bytes(pem)
        if len(data) > _MAX_PEM:
            raise _not_a_key(f"it is {len(data)} bytes long; a public key has at most {_MAX_PEM}")
        if b"PRIVATE KEY-----" in data:
            raise FormatError(
                "this is a private key where a public key belongs",
                why="whoever reads this place would be able to sign",
                fix="take the public half: openssl pkey -in FILE -pubout; if the private "
                "key was published or sent, replace it",
            )
        if data.count(b"-----BEGIN ") != 1 or b"-----BEGIN PUBLIC KEY-----" not in data:
            found = "a certificate" if b"-----BEGIN CERTIFICATE" in data else "something else"
            raise _not_a_key(f"one block 'BEGIN PUBLIC KEY' belongs here, and {found} was found")
        try:
            key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            _refuse_unsupported(_body(data), error)
            raise _not_a_key(f"it cannot be read: {error}") from error
        return cls.from_key(key)

    @classmethod
    def from_key(cls, key: object) -> "Verifier":
        """
        Take the public key of `cryptography`.

        Raises:
            FormatError: A key of another scheme.
        """
        return cls(_der(_supported(key)))

    @classmethod
    def from_raw(cls, scheme: str, raw: bytes) -> "Verifier":
        """
        Take what `raw` returns: 32 bytes of ``ed25519``, 1,312 of ``mldsa-44``.

        Raises:
            FormatError: No such key.
            MissingExtraError: The installed cryptography has no ML-DSA.
            ValueError: Another scheme: its keys have no such form.
        """
        if scheme not in {"ed25519", "mldsa-44"}:
            msg = f"only ed25519 and mldsa-44 keys have raw bytes, not {scheme}"
            raise ValueError(msg)
        try:
            if scheme == "ed25519":
                return cls.from_key(Ed25519PublicKey.from_public_bytes(raw))
            return cls.from_key(mldsa().MLDSA44PublicKey.from_public_bytes(raw))
        except ValueError as error:
            raise _not_a_key(f"it is no {scheme} key: {error}") from error
        except UnsupportedAlgorithm as error:
            raise no_mldsa(str(error)) from error

    @cached_property
    def scheme(self) -> str:
        """One of `SCHEMES`."""
        return scheme_of(_load(self.der))

    @cached_property
    def pem(self) -> str:
        """PEM text of the SubjectPublicKeyInfo, with its final newline."""
        data = _load(self.der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return data.decode("ascii")

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:`` and the hex SHA-256 of `der`."""
        return f"sha256:{sha256(self.der).hexdigest()}"

    @cached_property
    def hint(self) -> str:
        """Hex SHA-256 of `pem`, as OpenSSF Model Signing names a key."""
        return sha256(self.pem.encode("ascii")).hexdigest()

    @property
    def raw(self) -> bytes:
        """
        The 32 bytes of an Ed25519 key, or the 1,312 of an ML-DSA-44 key.

        Raises:
            ValueError: The key has another scheme.
        """
        key = _load(self.der)
        if isinstance(key, EllipticCurvePublicKey):
            msg = f"only ed25519 and mldsa-44 keys have raw bytes, and this one is {self.scheme}"
            raise ValueError(msg)  # noqa: TRY004  the type is right, the scheme is not
        return key.public_bytes_raw()

    def verify(self, signature: bytes, message: bytes) -> None:
        """
        Check that this key signed *message*.

        An ECDSA signature is strict DER (the library refuses any other spelling), and its hash
        goes with the curve.

        Raises:
            SignatureError: It did not.
        """
        key = _load(self.der)
        try:
            if isinstance(key, EllipticCurvePublicKey):
                key.verify(signature, message, ecdsa(self.scheme))
            else:
                key.verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError(
                f"the signature does not verify under the key {self.short}",
                why="the signed bytes or the signature were altered, or another key made it",
                fix="get the signed file again from where it was made; do not use this one",
            ) from error

    @property
    def short(self) -> str:
        """`fingerprint`, cut for a sentence."""
        return f"{self.fingerprint[:23]}…"

    def __repr__(self) -> str:
        return f"<Verifier {self.scheme} {self.fingerprint}>"

    def __reduce__(self) -> tuple[object, ...]:
        return Verifier, (self.der,)


def scheme_of(key: PublicKey) -> str:
    """Return the scheme of a key that is known to have one."""
    if isinstance(key, Ed25519PublicKey):
        return "ed25519"
    return _CURVES[key.curve.name] if isinstance(key, EllipticCurvePublicKey) else "mldsa-44"


def ecdsa(scheme: str) -> ECDSA:
    """Return the ECDSA algorithm of *scheme*: the hash goes with the curve."""
    return ECDSA(_HASHES[scheme]())


def mldsa() -> ModuleType:
    """
    Return the ML-DSA of the installed cryptography.

    Raises:
        MissingExtraError: It has none.
    """
    try:
        return import_module("cryptography.hazmat.primitives.asymmetric.mldsa")
    except ImportError as error:
        raise no_mldsa(str(error)) from error


def no_mldsa(why: str) -> MissingExtraError:
    """Return the error for an ML-DSA key where there is no ML-DSA."""
    return MissingExtraError(
        "the installed cryptography cannot use ML-DSA-44 keys",
        why=why or "neither it nor the OpenSSL that it was built with has ML-DSA (FIPS 204)",
        fix="pip install --upgrade cryptography (its wheels bring an OpenSSL that has it); "
        "or leave the ML-DSA-44 key out: an Ed25519 signature is there in every case",
    )


def _refuse_unsupported(der: bytes, error: Exception) -> None:
    """Say that ML-DSA is missing, where that is why a key cannot be read."""
    if isinstance(error, UnsupportedAlgorithm) and _MLDSA in der[:32]:
        raise no_mldsa(str(error)) from error


def _body(pem: bytes) -> bytes:
    """Return the bytes inside PEM, none when they are no base 64."""
    lines = [line.strip() for line in pem.splitlines() if line and b"-----" not in line]
    try:
        return binascii.a2b_base64(b"".join(lines))
    except binascii.Error:
        return b""


def _der(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=256)
def _load(der: bytes) -> PublicKey:
    try:
        return _supported(load_der_public_key(der))
    except (ValueError, UnsupportedAlgorithm) as error:
        _refuse_unsupported(der, error)
        raise _not_a_key(f"it cannot be read: {error}") from error


def _supported(key: object) -> PublicKey:
    if isinstance(key, Ed25519PublicKey):
        y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
        if y >= _PRIME or y in _SMALL_ORDER:
            raise _not_a_key("anybody can sign for this Ed25519 point (small order, RFC 8032)")
        return key
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name in _CURVES:
            return key
        raise _not_a_key(f"it is on the curve {key.curve.name}")
    kind = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey").strip("_")
    if kind == "MLDSA44" and isinstance(key, mldsa().MLDSA44PublicKey):
        return cast("MLDSA44PublicKey", key)
    raise _not_a_key(f"it is a key of type {kind}")


def _not_a_key(why: str) -> FormatError:
    return FormatError(
        "this is not a public key that secureml accepts",
        why=why,
        fix=f"use a key of one of these schemes, as PEM: {', '.join(SCHEMES)}",
    )
