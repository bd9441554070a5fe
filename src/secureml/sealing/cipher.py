"""
One encrypted value: AES-256-GCM, bound to its record, its path and its key.

The nonce is random.  So a key is good for 2**32 values (NIST SP 800-38D,
section 8.3); `secureml.sealing.keys` begins another one at about 2**28.

Source: docs/spec/sealed-values.md, section "The ciphertext".
"""

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secureml.errors import FormatError, VerificationError

__all__ = ["KEY_SIZE", "NONCE_SIZE", "TAG_SIZE", "Encrypted", "SubjectKey"]

KEY_SIZE: Final = 32
"""Bytes of a key: AES-256."""

NONCE_SIZE: Final = 12
"""Bytes of a nonce."""

TAG_SIZE: Final = 16
"""Bytes of the tag at the end."""

_DOMAIN: Final = "secureml-sealed-value/1\n"


@dataclass(frozen=True, slots=True)
class Encrypted:
    """
    An encrypted value.

    Attributes:
        key: Id of the key, 32 hex digits.
        ciphertext: Nonce, ciphertext and tag.
    """

    key: str
    ciphertext: bytes

    @property
    def ref(self) -> str:
        """Digest of the ciphertext, ``sha256:…``: what the leaf holds."""
        return "sha256:" + sha256(self.ciphertext).hexdigest()


class SubjectKey:
    """
    A key of one subject: encrypts and decrypts values.

    Args:
        key_id: 32 hex digits, drawn at random with the key.
        key: 32 bytes.
    """

    __slots__ = ("_cipher", "id")

    def __init__(self, key_id: str, key: bytes) -> None:
        self.id = key_id
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"<SubjectKey {self.id}>"

    def encrypt(self, plaintext: bytes, *, record: str, path: str) -> Encrypted:
        """
        Encrypt *plaintext*, for the one place that it belongs to.

        Args:
            plaintext: The salt and the value's bytes.
            record: Id of the record, 36 characters.
            path: Path of the value within it.
        """
        nonce = os.urandom(NONCE_SIZE)
        aad = _place(record, self.id, path)
        return Encrypted(self.id, nonce + self._cipher.encrypt(nonce, plaintext, aad))

    def decrypt(self, encrypted: Encrypted, *, record: str, path: str) -> bytes:
        """
        Return what was encrypted for this place.

        Raises:
            FormatError: The ciphertext is too short to be one.
            VerificationError: It was changed, moved, or encrypted with another key.
        """
        blob = encrypted.ciphertext
        if len(blob) < NONCE_SIZE + TAG_SIZE:
            raise FormatError(
                f"the ciphertext of {path!r} is malformed",
                why=f"it has {len(blob)} bytes, and a nonce and a tag have "
                f"{NONCE_SIZE + TAG_SIZE} (docs/spec/sealed-values.md)",
                fix="the details were cut: restore them from a copy",
            )
        aad = _place(record, self.id, path)
        try:
            return self._cipher.decrypt(blob[:NONCE_SIZE], blob[NONCE_SIZE:], aad)
        except InvalidTag:
            raise VerificationError(
                f"the value of {path!r} in record {record} does not decrypt",
                why=f"under key {self.id} the ciphertext is not one that was made for this place: "
                "it was changed, moved, or made with another key",
                fix="restore the details, or the private directory, from a copy",
            ) from None


def _place(record: str, key: str, path: str) -> bytes:
    """Return what a ciphertext is bound to: the one place that it belongs to, and its key."""
    return f"{_DOMAIN}{record}{key}{path}".encode()
