"""An encrypted value opens in its place, under its key, and nowhere else."""

import hashlib
import os

import pytest

from secureml.errors import FormatError, VerificationError
from secureml.sealing import Encrypted, SubjectKey

RECORD = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"


@pytest.fixture
def key() -> SubjectKey:
    """Return a key."""
    return SubjectKey("ab" * 16, os.urandom(32))


def test_what_was_encrypted_is_decrypted(key: SubjectKey) -> None:
    """The plaintext comes back; the ciphertext has a nonce and a tag more."""
    made = key.encrypt(b"hello", record=RECORD, path="in.prompt")

    assert key.decrypt(made, record=RECORD, path="in.prompt") == b"hello"
    assert (made.key, len(made.ciphertext)) == (key.id, 12 + 5 + 16)
    assert made.ref == "sha256:" + hashlib.sha256(made.ciphertext).hexdigest()


def test_no_two_ciphertexts_are_alike(key: SubjectKey) -> None:
    """The same value, in the same place, becomes other bytes each time."""
    made = {key.encrypt(b"x", record=RECORD, path="p").ciphertext for _ in range(100)}

    assert len(made) == 100


@pytest.mark.parametrize(
    ("record", "path"),
    [(RECORD, "q"), (RECORD[:-1] + "0", "p"), (RECORD, ""), (RECORD, "pp")],
)
def test_another_place_is_refused(key: SubjectKey, record: str, path: str) -> None:
    """A ciphertext that was moved to another record or path does not open."""
    made = key.encrypt(b"x", record=RECORD, path="p")

    with pytest.raises(VerificationError, match="does not decrypt"):
        key.decrypt(made, record=record, path=path)


def test_another_key_is_refused(key: SubjectKey) -> None:
    """Neither another key nor the same key under another id opens it."""
    secret = os.urandom(32)
    made = SubjectKey("ab" * 16, secret).encrypt(b"x", record=RECORD, path="p")

    for other in (key, SubjectKey("cd" * 16, secret)):
        with pytest.raises(VerificationError):
            other.decrypt(made, record=RECORD, path="p")


@pytest.mark.parametrize("size", [0, 12, 27])
def test_a_stump_is_malformed(key: SubjectKey, size: int) -> None:
    """What has no room for nonce and tag is no ciphertext."""
    with pytest.raises(FormatError, match="malformed"):
        key.decrypt(Encrypted(key.id, bytes(size)), record=RECORD, path="p")


def test_a_key_is_not_shown(key: SubjectKey) -> None:
    """The text form of a key names its id alone."""
    assert repr(key) == f"<SubjectKey {'ab' * 16}>"
