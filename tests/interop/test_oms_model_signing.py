"""
model-signing verifies what we sign with a key, and we verify what it signs.

It runs as a program of its own: set ``SECUREML_MODEL_SIGNING_PYTHON`` to an
interpreter that has model-signing 1.1.1 (and pyOpenSSL, which it needs and
does not declare).
"""

import os
import subprocess
from pathlib import Path

import pytest

from secureml.errors import DigestMismatchError, FormatError, UnexpectedFileError
from secureml.keys import KeySigner, create
from secureml.models import OWN_IGNORED, sign_model, verify_model

PYTHON = os.environ.get("SECUREML_MODEL_SIGNING_PYTHON", "")

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="SECUREML_MODEL_SIGNING_PYTHON names no interpreter with model-signing"
)

GIT = [".git", ".gitattributes", ".github", ".gitignore"]


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run model-signing with *arguments*."""
    return subprocess.run(
        [PYTHON, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model whose names sort differently by code point and by path."""
    path = tmp_path / "model"
    for name in ("config.json", "unet/config.json", "unet.json", "a/x", "a-b/x", "\u00e9.txt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode())
    return path


@pytest.fixture(params=["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[KeySigner, Path, Path]:
    """Return a key, and the files of its private and public half."""
    private, public = tmp_path / "key.pem", tmp_path / "pub.pem"
    key = create(private, scheme=request.param)
    public.write_text(key.verifier.pem)
    return key, private, public


def test_they_verify_ours(model: Path, signer: tuple[KeySigner, Path, Path]) -> None:
    """model-signing accepts our signature, inside the model, and refuses a changed file."""
    key, _, public = signer
    sign_model(model, key=key)
    command = ("verify", "key", model, "--signature", model / "model.sig", "--public_key", public)
    done = program(*command)

    assert done.returncode == 0, done.stdout + done.stderr
    (model / "claims.jsonl").write_text("{}\n")  # signed as ignored
    assert program(*command).returncode == 0
    (model / "unet.json").write_text("other")
    assert program(*command).returncode != 0


def test_they_verify_ours_from_outside(
    model: Path, tmp_path: Path, signer: tuple[KeySigner, Path, Path]
) -> None:
    """A signature that lies outside of the model is accepted as well."""
    key, _, public = signer
    sign_model(model, key=key, signature=tmp_path / "m.sig")
    done = program(
        "verify", "key", model, "--signature", tmp_path / "m.sig", "--public_key", public
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("inside", [True, False])
def test_we_verify_theirs(
    model: Path, tmp_path: Path, signer: tuple[KeySigner, Path, Path], *, inside: bool
) -> None:
    """We accept the signature of model-signing, and refuse what was changed afterwards."""
    key, private, _ = signer
    place = (model if inside else tmp_path) / "peer.json"
    done = program("sign", "key", model, "--signature", place, "--private_key", private)
    assert done.returncode == 0, done.stdout + done.stderr
    found = verify_model(model, key=key.verifier, signature=place)

    assert len(found.files) == 6
    assert found.ignored == ()
    if not inside:
        sign_model(model, key=key, signature=tmp_path / "ours.sig")
        ours = verify_model(model, key=key.verifier, signature=tmp_path / "ours.sig")
        assert ours.digest == found.digest
    (model / ".gitignore").write_text("x")
    with pytest.raises(UnexpectedFileError, match="leaves out"):
        verify_model(model, key=key.verifier, signature=place)
    verify_model(model, key=key.verifier, signature=place, allow_ignored=GIT)
    (model / "unet.json").write_text("other")
    with pytest.raises(DigestMismatchError, match=r"unet\.json"):
        verify_model(model, key=key.verifier, signature=place, allow_ignored=GIT)


def test_we_verify_their_blake2b(model: Path, tmp_path: Path) -> None:
    """A BLAKE2b signature, which model-signing 1.1.1 itself cannot verify again, verifies here."""
    key = create(tmp_path / "key.pem")
    code = (
        "import sys, model_signing as m; from pathlib import Path; "
        "c = m.signing.Config().use_elliptic_key_signer(private_key=Path(sys.argv[2])); "
        "c.set_hashing_config(m.hashing.Config().use_file_serialization("
        "hashing_algorithm='blake2')); c.sign(Path(sys.argv[1]), Path(sys.argv[3]))"
    )
    place = tmp_path / "m.sig"
    subprocess.run(
        [PYTHON, "-c", code, str(model), str(tmp_path / "key.pem"), str(place)],
        check=True,
        capture_output=True,
        timeout=120,
    )

    assert len(verify_model(model, key=key.verifier, signature=place).files) == 6


def test_their_shards_are_refused_with_the_reason(model: Path, tmp_path: Path) -> None:
    """A signature over parts of files says that it is not supported yet."""
    key = create(tmp_path / "key.pem")
    code = (
        "import sys, model_signing as m; from pathlib import Path; "
        "c = m.signing.Config().use_elliptic_key_signer(private_key=Path(sys.argv[2])); "
        "c.set_hashing_config(m.hashing.Config().use_shard_serialization(shard_size=4)); "
        "c.sign(Path(sys.argv[1]), Path(sys.argv[3]))"
    )
    place = tmp_path / "m.sig"
    subprocess.run(
        [PYTHON, "-c", code, str(model), str(tmp_path / "key.pem"), str(place)],
        check=True,
        capture_output=True,
        timeout=120,
    )

    with pytest.raises(FormatError, match="not supported yet"):
        verify_model(model, key=key.verifier, signature=place)


def test_single_file_is_where_they_differ(tmp_path: Path) -> None:
    """We verify their '.', and name the file as the specification says."""
    key = create(tmp_path / "key.pem")
    file, place = tmp_path / "weights.txt", tmp_path / "theirs.sig"
    file.write_text("1")
    done = program(
        "sign", "key", file, "--signature", place, "--private_key", tmp_path / "key.pem"
    )

    assert done.returncode == 0, done.stdout + done.stderr
    theirs = verify_model(file, key=key.verifier, signature=place)
    sign_model(file, key=key)
    assert theirs.digest == verify_model(file, key=key.verifier).digest
    assert theirs.files == ("weights.txt",)


def test_names_we_ignore_are_in_the_signature(model: Path, tmp_path: Path) -> None:
    """What model-signing reads as ignored is exactly our two names."""
    key = create(tmp_path / "key.pem")
    sign_model(model, key=key)
    code = (
        "import json, base64, sys; b = json.load(open(sys.argv[1])); "
        "p = json.loads(base64.b64decode(b['dsseEnvelope']['payload'])); "
        "print(*p['predicate']['serialization']['ignore_paths'])"
    )
    done = subprocess.run(
        [PYTHON, "-c", code, str(model / "model.sig")], check=True, capture_output=True, text=True
    )

    assert tuple(done.stdout.split()) == OWN_IGNORED
