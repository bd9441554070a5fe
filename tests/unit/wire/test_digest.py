"""Facts about `secureml.wire.digest`."""

import hashlib
import pickle

import pytest

from secureml.errors import FormatError
from secureml.wire.digest import DIR_HASH, SHA256, SIZES, TABLE_DIGEST, Digest


def test_text_form() -> None:
    """A digest is written ``algorithm:hex``, short with 16 digits, and read back."""
    digest = Digest.sha256(b"abc")

    assert hashlib.sha256(b"abc").hexdigest() == digest.hex
    assert f"sha256:{digest.hex}" == str(digest)
    assert digest.short == "sha256:ba7816bf8f01cfea…"
    assert digest == Digest.parse(str(digest))


def test_digest_set() -> None:
    """An in-toto digest set gives the digest that is asked for."""
    digest = Digest(TABLE_DIGEST, bytes(32))

    assert digest.as_set() == {"tableDigest1": "00" * 32}
    assert digest == Digest.from_set({"sha256": "ff", **digest.as_set()}, TABLE_DIGEST)


@pytest.mark.parametrize("algorithm", SIZES)
def test_each_algorithm_has_one_length(algorithm: str) -> None:
    """A digest that is cut, or too long, is refused."""
    size = SIZES[algorithm]

    assert size == len(Digest.parse(f"{algorithm}:{'ab' * size}").value)
    for wrong in (0, 16, size - 1, size + 1):
        with pytest.raises(FormatError):
            Digest(algorithm, bytes(wrong))
        with pytest.raises(FormatError):
            Digest.parse(f"{algorithm}:{'ab' * wrong}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        "md5:" + "00" * 16,
        "sha1:" + "00" * 20,
        "SHA256:" + "00" * 32,
        "sha256:" + "AB" * 32,
        "sha256:" + "00" * 31,
        "sha256:" + "0" * 63,
        "sha256: " + "00" * 32,
        "sha256:0x" + "00" * 31,
        "sha256:" + "\uff10" * 64,
        "sha256:" + "00" * 32 + "\n",
        "x:" + "00" * 32,
        "sha256:sha256:" + "00" * 32,
        "sha256:" + "00 " * 32,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """Weak, unknown, cut and respelled digests are refused where they are read."""
    with pytest.raises(FormatError):
        Digest.parse(text)


def test_a_missing_or_malformed_member_of_a_set_is_refused() -> None:
    """A set without the algorithm says what it has instead."""
    with pytest.raises(FormatError, match="'sha1'"):
        Digest.from_set({"sha1": "00"}, SHA256)
    with pytest.raises(FormatError, match="nothing"):
        Digest.from_set({}, SHA256)
    with pytest.raises(FormatError):
        Digest.from_set({"md5": "00" * 16}, "md5")
    with pytest.raises(FormatError, match="MD5"):
        Digest("md5", bytes(16))
    with pytest.raises(FormatError):
        Digest.from_set({"sha256": "AB" * 32}, SHA256)


def test_a_digest_is_a_value() -> None:
    """Digests compare, order, hash and pickle; the algorithm is part of the name."""
    one, two = Digest(SHA256, bytes(32)), Digest(DIR_HASH, bytes(32))

    assert one != two
    assert [two, one] == sorted([one, two])
    assert {one: 1} == {pickle.loads(pickle.dumps(one)): 1}  # noqa: S301  our own bytes
