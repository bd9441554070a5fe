"""Key files: made once, for one owner, opened with the right passphrase."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from secureml.errors import FormatError, KeyRoleError, KeyUnavailableError
from secureml.keys import SCHEMES, create, is_encrypted, load, load_public

posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are a matter of POSIX")


@pytest.mark.parametrize("passphrase", [None, "correct horse ä", b"\xff\x00battery"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_comes_back(tmp_path: Path, scheme: str, passphrase: str | bytes | None) -> None:
    """What was created is loaded, with a text or bytes as its passphrase, and signs."""
    made = create(tmp_path / "key.pem", scheme=scheme, passphrase=passphrase, purposes={"log"})

    found = load(tmp_path / "key.pem", passphrase=passphrase, purposes={"log"})

    assert found.verifier == made.verifier
    assert found.purposes == {"log"}
    assert is_encrypted(tmp_path / "key.pem") == (passphrase is not None)
    made.verifier.verify(found.sign(b"m", purpose="log"), b"m")


def test_text_and_its_utf8_are_one_passphrase(tmp_path: Path) -> None:
    """A passphrase given as text is its UTF-8."""
    made = create(tmp_path / "key.pem", passphrase="grün")  # noqa: S106  a test

    assert load(tmp_path / "key.pem", passphrase="grün".encode()).verifier == made.verifier


@posix
def test_a_new_file_is_its_owners(tmp_path: Path) -> None:
    """The mode is 0600, whatever the umask lets through."""
    before = os.umask(0)
    try:
        create(tmp_path / "key.pem")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """The error says how to close it."""
    path = tmp_path / "key.pem"
    create(path)
    path.chmod(mode)

    with pytest.raises(KeyUnavailableError, match=rf"chmod 600 {path}"):
        load(path)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """An existing file is left as it is: key, text or link to nowhere."""
    create(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")

    for name in ("key.pem", "link.pem"):
        with pytest.raises(KeyUnavailableError, match="exists already"):
            create(tmp_path / name)

    assert (tmp_path / "key.pem").read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


def test_wrong_and_missing_passphrases(tmp_path: Path) -> None:
    """Each way to be wrong is told apart, and no error repeats what was typed."""
    create(tmp_path / "locked.pem", passphrase="hunter2-canary")  # noqa: S106  a test
    create(tmp_path / "open.pem")

    with pytest.raises(KeyUnavailableError, match="no passphrase was given"):
        load(tmp_path / "locked.pem")
    with pytest.raises(KeyUnavailableError, match="the passphrase is wrong") as wrong:
        load(tmp_path / "locked.pem", passphrase="wrong-canary")  # noqa: S106  a test
    with pytest.raises(KeyUnavailableError, match="although a passphrase was given") as unneeded:
        load(tmp_path / "open.pem", passphrase="wrong-canary")  # noqa: S106  a test

    assert "canary" not in f"{wrong.value}{unneeded.value}"
    assert wrong.value.__cause__ is None


@pytest.mark.parametrize("passphrase", ["", b"", "x" * 1024])
def test_a_passphrase_has_a_length(tmp_path: Path, passphrase: str | bytes) -> None:
    """An empty passphrase is a bug, found before a file is written."""
    with pytest.raises(ValueError, match="1 to 1023 bytes"):
        create(tmp_path / "key.pem", passphrase=passphrase)

    assert not (tmp_path / "key.pem").exists()


def test_a_passphrase_has_a_type(tmp_path: Path) -> None:
    """A number is not a passphrase."""
    with pytest.raises(TypeError, match="str or bytes, not int"):
        create(tmp_path / "key.pem", passphrase=1234)  # type: ignore[arg-type]


def test_other_keys_are_refused(tmp_path: Path) -> None:
    """RSA, and a curve that is not ours, are refused with the schemes named."""
    keys: list[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256K1()),
    ]
    for number, key in enumerate(keys):
        path = tmp_path / f"{number}.pem"
        path.touch(0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

        with pytest.raises(KeyUnavailableError, match="ed25519, ecdsa-p256"):
            load(path)


def test_what_is_no_key_file(tmp_path: Path) -> None:
    """Missing, a directory, a pipe, too large, empty, a public key: each has its sentence."""
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "large").touch(0o600)
    (tmp_path / "large").write_bytes(b"A" * 70_000)
    (tmp_path / "public").touch(0o600)
    (tmp_path / "public").write_text(create(tmp_path / "key").verifier.pem)
    cases = {
        "missing": "there is no key file",
        "empty": "no private key in PEM",
        "large": "more than 65536 bytes",
        "public": "no private key in PEM",
    }
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe", 0o600)
        cases |= {"pipe": "a directory, a pipe or a device", ".": "directory"}

    for name, sentence in cases.items():
        with pytest.raises(KeyUnavailableError, match=sentence):
            load(tmp_path / name)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Creating does not make directories."""
    with pytest.raises(KeyUnavailableError, match="cannot be written"):
        create(tmp_path / "no" / "key.pem")


def test_the_file_does_not_say_the_purpose(tmp_path: Path) -> None:
    """The purpose is what the caller opens it for."""
    create(tmp_path / "key.pem", purposes={"log"})

    with pytest.raises(KeyRoleError):
        load(tmp_path / "key.pem").sign(b"", purpose="log")


def test_public_keys_are_read(tmp_path: Path) -> None:
    """A public key file may be open to all; a private one in its place is refused."""
    made = create(tmp_path / "key.pem")
    (tmp_path / "key.pub").write_text(made.verifier.pem)

    assert load_public(tmp_path / "key.pub") == made.verifier
    with pytest.raises(FormatError, match="private key where a public key belongs"):
        load_public(tmp_path / "key.pem")
    with pytest.raises(KeyUnavailableError):
        load_public(tmp_path / "missing.pub")


@posix
def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """Another error of the system keeps its own words."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(KeyUnavailableError, match=r"(?s)cannot be read.*symbolic links"):
        load(tmp_path / "loop")


@pytest.mark.skipif(not Path("/proc").exists(), reason="limits on the size of files as on Linux")
def test_a_key_that_was_not_written_leaves_no_file(tmp_path: Path) -> None:
    """When the disk is full, no half of a key stays behind."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(KeyUnavailableError, match="cannot be written"):
            create(tmp_path / "key.pem")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert list(tmp_path.iterdir()) == []
