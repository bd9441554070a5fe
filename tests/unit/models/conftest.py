"""Keys, a trust and small models, made anew in every test run."""

from pathlib import Path

import pytest

from secureml.evidence.trust import Identity, Trust
from secureml.keys import KeySigner, generate


@pytest.fixture(scope="session")
def key() -> KeySigner:
    """Return an ECDSA key that signs statements."""
    return generate("ecdsa-p256")


@pytest.fixture(scope="session")
def trust(key: KeySigner) -> Trust:
    """Return a trust in which `key` may sign models."""
    return Trust(
        identities=(Identity(name="ada", verifier=key.verifier, roles=frozenset({"model"})),)
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a directory with two files and a folder."""
    path = tmp_path / "model"
    (path / "deep").mkdir(parents=True)
    (path / "config.json").write_bytes(b'{"a": 1}')
    (path / "deep" / "notes.txt").write_bytes(b"weights were made on a Tuesday\n")
    return path
