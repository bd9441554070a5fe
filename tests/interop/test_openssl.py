"""OpenSSL reads our keys and verifies our signatures, and we its."""

import shutil
import subprocess
from pathlib import Path

import pytest

from secureml.keys import create, load, load_public

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the openssl command is not installed")
DIGESTS = {"ecdsa-p256": "-sha256", "ecdsa-p384": "-sha384", "ecdsa-p521": "-sha512"}
CURVES = {"ecdsa-p256": "P-256", "ecdsa-p384": "P-384", "ecdsa-p521": "P-521"}


def openssl(*words: str | Path) -> str:
    """Run the command, and return what it prints."""
    done = subprocess.run(
        [str(OPENSSL), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("scheme", DIGESTS)
def test_openssl_verifies_our_ecdsa(tmp_path: Path, scheme: str) -> None:
    """An ECDSA signature of ours verifies under `openssl dgst`, with the hash of its curve."""
    signer = create(tmp_path / "key.pem", scheme=scheme)
    (tmp_path / "key.pub").write_text(signer.verifier.pem)
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "sig").write_bytes(signer.sign(b"message", purpose="statements"))

    files = ("-verify", tmp_path / "key.pub", "-signature", tmp_path / "sig", tmp_path / "message")

    assert openssl("dgst", DIGESTS[scheme], *files) == "Verified OK\n"


def test_openssl_verifies_our_ed25519(tmp_path: Path) -> None:
    """An Ed25519 signature of ours verifies under `openssl pkeyutl`."""
    signer = create(tmp_path / "key.pem", scheme="ed25519", purposes={"log"})
    (tmp_path / "key.pub").write_text(signer.verifier.pem)
    (tmp_path / "message").write_bytes(b"message")
    (tmp_path / "sig").write_bytes(signer.sign(b"message", purpose="log"))
    key, message = ("-pubin", "-inkey", tmp_path / "key.pub"), tmp_path / "message"

    said = openssl(
        "pkeyutl", "-verify", *key, "-rawin", "-in", message, "-sigfile", tmp_path / "sig"
    )

    assert said == "Signature Verified Successfully\n"


@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa-p256"])
def test_openssl_opens_our_encrypted_key(tmp_path: Path, scheme: str) -> None:
    """`openssl pkey` opens the file with the passphrase, and prints the public key we name."""
    signer = create(tmp_path / "key.pem", scheme=scheme, passphrase="secret")  # noqa: S106  a test

    pem = openssl("pkey", "-in", tmp_path / "key.pem", "-passin", "pass:secret", "-pubout")

    assert pem == signer.verifier.pem


@pytest.mark.parametrize("scheme", ["ed25519", *CURVES])
def test_we_read_the_keys_of_openssl(tmp_path: Path, scheme: str) -> None:
    """A key made by `openssl genpkey` loads, and its public half is the one OpenSSL writes."""
    path = tmp_path / "key.pem"
    path.touch(0o600)
    curve = () if scheme == "ed25519" else ("-pkeyopt", f"ec_paramgen_curve:{CURVES[scheme]}")
    algorithm = "ED25519" if scheme == "ed25519" else "EC"
    openssl("genpkey", "-algorithm", algorithm, *curve, "-out", path)
    openssl("pkey", "-in", path, "-pubout", "-out", tmp_path / "key.pub")
    path.chmod(0o600)

    assert load(path).verifier == load_public(tmp_path / "key.pub")
    assert load(path).verifier.scheme == scheme


@pytest.mark.parametrize("scheme", DIGESTS)
def test_we_verify_the_signatures_of_openssl(tmp_path: Path, scheme: str) -> None:
    """A signature made by `openssl dgst` verifies here."""
    signer = create(tmp_path / "key.pem", scheme=scheme)
    (tmp_path / "message").write_bytes(b"message")
    files = ("-sign", tmp_path / "key.pem", "-out", tmp_path / "sig", tmp_path / "message")

    openssl("dgst", DIGESTS[scheme], *files)

    signer.verifier.verify((tmp_path / "sig").read_bytes(), b"message")
