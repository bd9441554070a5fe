"""
A public key as a plain value: it compares, hashes, pickles, and checks signatures.

Two names lead to a key.  Its *fingerprint* is the SHA-256 of the DER
SubjectPublicKeyInfo, the name people compare and pin.  Its *hint* is the
SHA-256 of the PEM text, the name that OpenSSF Model Signing puts beside a
signature.  The hint picks a candidate and proves nothing.

Only keys with one encoding are accepted, so one key has one fingerprint.
Ed25519 points of small order are refused: a signature that verifies under one
of them says nothing, since anybody can make it for any message.

Source: RFC 5280 section 4.1.2.7, RFC 8032 section 5.1, FIPS 186-5 section 6,
Model Signing v1.0 (hint); Chalkias, Garillot, Nikolaenko, *Taming the many
EdDSAs*, 2020 (small order).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Final, final

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

from secureml.errors import FormatError, SignatureError

__all__ = ["SCHEMES", "PublicKey", "Verifier", "ecdsa", "scheme_of"]

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

SCHEMES: Final = ("ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521")
"""The signature schemes, all of them."""

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


@final
@dataclass(frozen=True)
class Verifier:
    """
    A public key that checks signatures.

    Attributes:
        der: The SubjectPublicKeyInfo, in its one DER spelling.

    Raises:
        FormatError: Not a key of one of `SCHEMES`, in its one spelling.
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
        The 32 bytes of an Ed25519 key.

        Raises:
            ValueError: The key has another scheme.
        """
        key = _load(self.der)
        if not isinstance(key, Ed25519PublicKey):
            msg = f"only an ed25519 key has raw bytes, and this one is {self.scheme}"
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
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ecdsa(self.scheme))
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
    return "ed25519" if isinstance(key, Ed25519PublicKey) else _CURVES[key.curve.name]


def ecdsa(scheme: str) -> ECDSA:
    """Return the ECDSA algorithm of *scheme*: the hash goes with the curve."""
    return ECDSA(_HASHES[scheme]())


def _der(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=256)
def _load(der: bytes) -> PublicKey:
    try:
        return _supported(load_der_public_key(der))
    except (ValueError, UnsupportedAlgorithm) as error:
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
    raise _not_a_key(f"it is a key of type {kind}")


def _not_a_key(why: str) -> FormatError:
    return FormatError(
        "this is not a public key that secureml accepts",
        why=why,
        fix=f"use a key of one of these schemes, as PEM: {', '.join(SCHEMES)}",
    )
