"""ML-DSA-44: a key like the others where the installed cryptography has it, and said so if not."""

import sys
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mldsa

from secureml import keys
from secureml.errors import (
    FormatError,
    KeyUnavailableError,
    MissingExtraError,
    SignatureError,
)
from secureml.keys import files, verifier
from secureml.keys.verifier import _MLDSA

PASSPHRASE = "long and dull"  # noqa: S105  of a key made for the test
MODULE = "cryptography.hazmat.primitives.asymmetric.mldsa"


def test_it_signs_and_verifies() -> None:
    """A signature of 2,420 bytes verifies under its key, for its message, once."""
    signer = keys.generate("mldsa-44", purposes={"log"})
    signature = signer.sign(b"message", purpose="log")

    assert ("mldsa-44", 1_312, 2_420) == (
        signer.verifier.scheme,
        len(signer.verifier.raw),
        len(signature),
    )
    signer.verifier.verify(signature, b"message")
    for wrong in (signature[:-1], signature + b"\0", bytes([signature[0] ^ 1]) + signature[1:]):
        with pytest.raises(SignatureError):
            signer.verifier.verify(wrong, b"message")
    with pytest.raises(SignatureError):
        signer.verifier.verify(signature, b"another")


def test_the_file_is_pkcs8(tmp_path: Path) -> None:
    """A key comes back from its file, encrypted or not, for the purposes asked for."""
    made = keys.create(tmp_path / "key", scheme="mldsa-44", purposes={"log"})
    locked = keys.create(tmp_path / "locked", scheme="mldsa-44", passphrase=PASSPHRASE)

    assert made.verifier == keys.load(tmp_path / "key", purposes={"audit"}).verifier
    opened = keys.load(tmp_path / "locked", passphrase=PASSPHRASE)
    assert locked.verifier == opened.verifier


def test_raw_bytes_name_the_key() -> None:
    """A key is made from its raw bytes again; other lengths and other schemes are refused."""
    for scheme in ("mldsa-44", "ed25519"):
        public = keys.generate(scheme).verifier
        assert public == keys.Verifier.from_raw(scheme, public.raw)
        with pytest.raises(FormatError, match=f"no {scheme} key"):
            keys.Verifier.from_raw(scheme, public.raw[:-1])
    with pytest.raises(FormatError, match="small order"):
        keys.Verifier.from_raw("ed25519", bytes(32))
    with pytest.raises(ValueError, match="ecdsa-p256"):
        keys.Verifier.from_raw("ecdsa-p256", bytes(32))


def test_its_sisters_are_refused() -> None:
    """ML-DSA-65 is a strange key, to sign with and to verify with."""
    key = mldsa.MLDSA65PrivateKey.generate()

    with pytest.raises(KeyUnavailableError, match="type MLDSA65"):
        keys.KeySigner(key)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="type MLDSA65"):
        keys.Verifier.from_key(key.public_key())


def test_an_old_cryptography_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no ML-DSA, making a key says what to install; other keys work."""
    raw = keys.generate("mldsa-44").verifier.raw
    monkeypatch.setitem(sys.modules, MODULE, None)

    with pytest.raises(MissingExtraError, match="upgrade cryptography"):
        keys.generate("mldsa-44")
    with pytest.raises(MissingExtraError, match="upgrade cryptography"):
        keys.Verifier.from_raw("mldsa-44", raw)
    keys.generate("ed25519").sign(b"", purpose="statements")


def test_an_old_openssl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL has no ML-DSA, a key of it is not called malformed."""
    public = keys.generate("mldsa-44").verifier

    def unsupported(*_: object) -> object:
        reason = "ML-DSA is not supported"
        raise UnsupportedAlgorithm(reason)

    class Old:
        class MLDSA44PublicKey:
            from_public_bytes = unsupported

        class MLDSA44PrivateKey:
            generate = unsupported

    monkeypatch.setattr(verifier, "load_pem_public_key", unsupported)
    monkeypatch.setattr(verifier, "load_der_public_key", unsupported)
    monkeypatch.setattr(verifier, "mldsa", lambda: Old)
    monkeypatch.setattr(files, "mldsa", lambda: Old)
    verifier._load.cache_clear()

    def attempts() -> list[MissingExtraError]:
        found = []
        for attempt in (
            lambda: keys.Verifier.from_pem(pem),
            lambda: keys.Verifier(public.der),
            lambda: keys.Verifier.from_raw("mldsa-44", raw),
            lambda: keys.generate("mldsa-44"),
        ):
            with pytest.raises(MissingExtraError) as caught:
                attempt()
            found.append(caught.value)
        return found

    raw, pem = b"", "-----BEGIN PUBLIC KEY-----\nMIIFMjALBglghkgBZQMEAxE=\n"
    pem += "-----END PUBLIC KEY-----\n"
    assert {"the installed cryptography cannot use ML-DSA-44 keys"} == {
        error.what for error in attempts()
    }
    with pytest.raises(FormatError, match="cannot be read"):
        keys.Verifier.from_pem(pem.replace("MIIF", "!IIF"))
    verifier._load.cache_clear()
    assert _MLDSA in public.der[:32]
