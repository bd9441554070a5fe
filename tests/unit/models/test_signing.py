"""Signing a model: where the signature goes, what it says, what is not signed."""

import json
import os
from base64 import b64decode
from pathlib import Path

import pytest

from secureml.errors import FormatError, KeyRoleError, SecureMLError
from secureml.keys import KeySigner, generate
from secureml.models import default_signature, read_oms, read_signature, sign_model, verify_model


def test_signature_lies_inside_and_is_the_returned_bundle(model: Path, key: KeySigner) -> None:
    """`model.sig` inside the directory holds the bundle, and nothing is left beside it."""
    bundle = sign_model(model, key=key)

    assert bundle.encode() == (model / "model.sig").read_bytes()
    assert bundle == read_signature(model)
    assert {"config.json", "deep", "model.sig"} == {entry.name for entry in model.iterdir()}


def test_bundle_is_the_specified_one(model: Path, key: KeySigner) -> None:
    """The container has exactly the members of OMS, an empty keyid, and the key's hint."""
    sign_model(model, key=key)
    bundle = json.loads((model / "model.sig").read_bytes())

    assert {"mediaType", "verificationMaterial", "dsseEnvelope"} == set(bundle)
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert {"publicKey": {"hint": key.verifier.hint}, "tlogEntries": []} == bundle[
        "verificationMaterial"
    ]
    assert bundle["dsseEnvelope"]["signatures"][0]["keyid"] == ""
    payload = json.loads(b64decode(bundle["dsseEnvelope"]["payload"]))
    assert payload["subject"][0]["name"] == "model"


def test_payload_depends_on_the_files_alone(model: Path, key: KeySigner) -> None:
    """Signing again, with claims and a signature present, signs the same statement."""
    first = sign_model(model, key=key)
    (model / "claims.jsonl").write_text("{}\n")

    assert first.envelope.payload == sign_model(model, key=key).envelope.payload


@pytest.mark.parametrize("scheme", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_every_curve_signs(model: Path, scheme: str) -> None:
    """The three curves that OMS names sign and verify."""
    key = generate(scheme)
    sign_model(model, key=key)

    assert verify_model(model, key=key.verifier).files == ("config.json", "deep/notes.txt")


def test_ed25519_is_refused(model: Path) -> None:
    """OMS v1.0 names ECDSA, so an Ed25519 key is a caller's mistake, found before any work."""
    with pytest.raises(ValueError, match="ECDSA keys only"):
        sign_model(model, key=generate("ed25519"))

    assert not (model / "model.sig").exists()


def test_key_for_another_purpose_is_refused(model: Path) -> None:
    """A key that does not sign statements does not sign models."""
    with pytest.raises(KeyRoleError):
        sign_model(model, key=generate("ecdsa-p256", purposes=frozenset({"audit"})))


def test_single_file_is_named_by_its_base_name(tmp_path: Path, key: KeySigner) -> None:
    """A model that is one file has its signature beside it, and its own name inside."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"1234")
    bundle = sign_model(file, key=key)

    assert (tmp_path / "weights.safetensors.sig") == default_signature(file)
    assert bundle == read_signature(file)
    assert [resource.name for resource in read_oms(bundle.envelope.statement()).resources] == [
        "weights.safetensors"
    ]
    assert verify_model(file, key=key.verifier).files == ("weights.safetensors",)


def test_signature_elsewhere(model: Path, tmp_path: Path, key: KeySigner) -> None:
    """A signature may lie outside of the model."""
    place = tmp_path / "m.sig"
    sign_model(model, key=key, signature=place)

    assert not (model / "model.sig").exists()
    assert verify_model(model, key=key.verifier, signature=place).name == "model"


def test_signature_inside_under_another_name_is_refused(model: Path, key: KeySigner) -> None:
    """Inside the directory only `model.sig` is left out, so only that can be written."""
    with pytest.raises(ValueError, match=r"named 'model\.sig'"):
        sign_model(model, key=key, signature=model / "other.sig")


def test_empty_directory_is_refused(tmp_path: Path, key: KeySigner) -> None:
    """There is nothing to sign in an empty directory."""
    with pytest.raises(ValueError, match="has no files"):
        sign_model(tmp_path, key=key)


def test_link_is_refused(model: Path, key: KeySigner) -> None:
    """A symbolic link is not signed: it can be pointed elsewhere afterwards."""
    (model / "link").symlink_to(model / "config.json")

    with pytest.raises(SecureMLError):
        sign_model(model, key=key)


def test_fifo_is_refused(model: Path, key: KeySigner) -> None:
    """A FIFO is refused and not waited for."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    os.mkfifo(model / "pipe")

    with pytest.raises(SecureMLError):
        sign_model(model, key=key)


def test_failed_write_leaves_the_old_signature(
    model: Path, key: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new signature cannot be written, the old one stands and nothing lies beside it."""
    sign_model(model, key=key)
    old = (model / "model.sig").read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        sign_model(model, key=key)

    assert old == (model / "model.sig").read_bytes()
    assert {"config.json", "deep", "model.sig"} == {entry.name for entry in model.iterdir()}


def test_missing_signature_is_a_format_error(model: Path) -> None:
    """A model without a signature says so, and how to get one."""
    with pytest.raises(FormatError, match="no model signature") as caught:
        read_signature(model)

    assert "sign_model" in caught.value.fix


def test_fifo_in_place_of_the_signature_is_not_waited_for(model: Path) -> None:
    """A FIFO where the signature should be is refused at once."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    os.mkfifo(model / "model.sig")

    with pytest.raises(FormatError, match="no model signature"):
        read_signature(model)


def test_signature_behind_a_link_is_read(model: Path, tmp_path: Path, key: KeySigner) -> None:
    """Where the signature lies the caller says; mounted configuration is often a link."""
    bundle = sign_model(model, key=key, signature=tmp_path / "m.sig")
    (tmp_path / "link.sig").symlink_to("m.sig")

    assert read_signature(model, signature=tmp_path / "link.sig") == bundle
