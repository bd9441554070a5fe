"""Verifying a model: who signed it, and that the files are all and exactly the signed ones."""

import copy
import hashlib
import json
import os
import pickle
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from secureml.errors import (
    DigestMismatchError,
    ExpiredError,
    FormatError,
    SignatureError,
    StoreError,
    UnexpectedFileError,
    UntrustedSignerError,
)
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.verify import verify
from secureml.hashing.tree import manifest
from secureml.keys import KeySigner, generate, load_public
from secureml.models import (
    SIGNATURE_ONLY,
    TRUSTED,
    VerifiedModel,
    files,
    oms_root,
    oms_statement,
    open_model,
    read_oms,
    read_resources,
    read_signature,
    sign_model,
    verify_model,
)
from secureml.wire.bundle import Bundle, LegacyPublicKey, PublicKeyHint
from secureml.wire.canonical import JSON
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.manifest import Manifest
from secureml.wire.statement import OMS, PAYLOAD_TYPE, Statement, Subject


def signed(
    path: Path, key: KeySigner, statement: Statement | None = None, **material: object
) -> Bundle:
    """Sign *statement*, ours over *path* when None, as a peer would, and write it there."""
    if statement is None:
        found = manifest(path, exclude=("model.sig", "claims.jsonl"))
        statement = oms_statement(found, path.name)
    payload = statement.encode()
    envelope = Envelope(
        PAYLOAD_TYPE,
        payload,
        (Signature("", key.sign(pae(PAYLOAD_TYPE, payload), purpose="statements")),),
    )
    hint = material.get("material", PublicKeyHint(key.verifier.hint))
    assert isinstance(hint, PublicKeyHint | LegacyPublicKey)
    bundle = Bundle(envelope=envelope, material=hint)
    (path / "model.sig").write_bytes(bundle.encode())
    return bundle


def test_trusted_signer_is_named(model: Path, key: KeySigner, trust: Trust) -> None:
    """With a trust, the result names the identity, carries evidence and the model's dirHash."""
    sign_model(model, key=key)
    found = verify_model(model, trust=trust)

    assert (found.signer, found.strength, found.name) == ("ada", TRUSTED, "model")
    assert found.evidence is not None
    assert found.evidence.role == "model"
    assert manifest(model, exclude=("model.sig",)).digest == found.digest
    assert {"dirHash": found.digest.hex} == found.digests
    assert key.verifier.fingerprint == found.fingerprint


def test_bare_key_says_signature_only(model: Path, key: KeySigner) -> None:
    """With a bare key nothing is known about the signer, and the result says so."""
    sign_model(model, key=key)
    found = verify_model(model, key=key.verifier)

    assert (found.strength, found.signer, found.evidence) == (SIGNATURE_ONLY, "", None)
    assert "signature only" in found._repr_html_()
    assert "signature only" in repr(found)


def test_evidence_of_the_same_envelope_is_taken(model: Path, key: KeySigner, trust: Trust) -> None:
    """An envelope that was verified before, in a log say, need not be verified again."""
    bundle = sign_model(model, key=key)
    evidence = verify(bundle.envelope, trust=trust, role="model")

    assert evidence is verify_model(model, evidence=evidence).evidence


def test_evidence_of_another_envelope_is_refused(
    model: Path, tmp_path: Path, key: KeySigner, trust: Trust
) -> None:
    """Evidence about another model says nothing about this one."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.txt").write_text("x")
    evidence = verify(sign_model(other, key=key).envelope, trust=trust, role="model")
    sign_model(model, key=key)

    with pytest.raises(UntrustedSignerError, match="not about this model"):
        verify_model(model, evidence=evidence)


def test_exactly_one_root_is_given(model: Path, key: KeySigner, trust: Trust) -> None:
    """There is no default trust, and no mixture of two."""
    sign_model(model, key=key)
    with pytest.raises(TypeError, match="whom to trust"):
        verify_model(model)
    with pytest.raises(TypeError, match="whom to trust"):
        verify_model(model, trust=trust, key=key.verifier)


def test_other_key_is_refused(model: Path, key: KeySigner) -> None:
    """A signature by another key than the given one is refused by its hint."""
    sign_model(model, key=key)

    with pytest.raises(UntrustedSignerError, match="another key"):
        verify_model(model, key=generate().verifier)


def test_signer_that_the_trust_does_not_name_is_refused(model: Path, trust: Trust) -> None:
    """A good signature by a stranger is refused."""
    sign_model(model, key=generate())

    with pytest.raises(UntrustedSignerError, match="does not name for models"):
        verify_model(model, trust=trust)


def test_signer_in_another_role_is_refused(model: Path, key: KeySigner) -> None:
    """A key that may sign runs may not sign models."""
    sign_model(model, key=key)
    trust = Trust(
        identities=(Identity(name="ada", verifier=key.verifier, roles=frozenset({"run"})),)
    )

    with pytest.raises(UntrustedSignerError):
        verify_model(model, trust=trust)


def test_hint_of_another_trusted_key_is_refused(model: Path, key: KeySigner) -> None:
    """The hint and the key that signed are the same, also when both are trusted."""
    other = generate()
    trust = Trust(
        identities=tuple(
            Identity(name=name, verifier=one.verifier, roles=frozenset({"model"}))
            for name, one in (("ada", key), ("bob", other))
        )
    )
    signed(model, key, material=PublicKeyHint(other.verifier.hint))

    with pytest.raises(SignatureError):
        verify_model(model, trust=trust)
    with pytest.raises(SignatureError):
        verify_model(model, key=other.verifier)


def test_keyid_and_hint_name_one_key(model: Path, key: KeySigner) -> None:
    """An envelope that names a second key in its keyid is refused, whoever signed."""
    other = generate()
    trust = Trust(
        identities=tuple(
            Identity(name=name, verifier=one.verifier, roles=frozenset({"model"}))
            for name, one in (("ada", key), ("bob", other))
        )
    )
    bundle = sign_model(model, key=key)
    named = Signature(other.verifier.hint, bundle.envelope.signatures[0].sig)
    envelope = Envelope(PAYLOAD_TYPE, bundle.envelope.payload, (named,))
    (model / "model.sig").write_bytes(Bundle(envelope=envelope, material=bundle.material).encode())

    with pytest.raises(SignatureError):
        verify_model(model, trust=trust)


def test_evidence_by_another_key_than_the_hint_is_refused(model: Path, key: KeySigner) -> None:
    """Evidence for the envelope does not excuse a bundle that names another key."""
    sign_model(model, key=key)
    other = generate()
    bundle = signed(model, key, material=PublicKeyHint(other.verifier.hint))
    trust = Trust(
        identities=(Identity(name="ada", verifier=key.verifier, roles=frozenset({"model"})),)
    )
    evidence = verify(bundle.envelope, trust=trust, role="model")

    with pytest.raises(SignatureError, match="names another key"):
        verify_model(model, evidence=evidence)


def test_expired_identity_is_refused(model: Path, key: KeySigner) -> None:
    """Validity is judged now, or at the time that the caller gives."""
    sign_model(model, key=key)
    end = datetime(2020, 1, 1, tzinfo=UTC)
    trust = Trust(
        identities=(
            Identity(name="ada", verifier=key.verifier, roles=frozenset({"model"}), not_after=end),
        )
    )

    with pytest.raises(ExpiredError):
        verify_model(model, trust=trust)
    assert verify_model(model, trust=trust, at=end).signer == "ada"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda m: (m / "config.json").write_bytes(b'{"a": 2}'),
        lambda m: (m / "config.json").write_bytes(b'{"a": 1'),
        lambda m: (m / "deep" / "notes.txt").write_bytes(b""),
    ],
)
def test_changed_file_is_named(
    model: Path, key: KeySigner, break_it: Callable[[Path], object]
) -> None:
    """A file with other bytes is refused, by name, with both digests."""
    sign_model(model, key=key)
    break_it(model)

    with pytest.raises(DigestMismatchError, match=r"config\.json|notes\.txt"):
        verify_model(model, key=key.verifier)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda m: (m / "new.txt").write_text("x"), "new.txt"),
        (lambda m: (m / "empty.txt").touch(), "empty.txt"),
        (lambda m: (m / "deep" / "model.sig").touch(), "deep/model.sig"),
        (lambda m: (m / "config.json").unlink(), "config.json"),
        (lambda m: (m / "config.json").rename(m / "config2.json"), "config2.json"),
        (lambda m: (m / "link").symlink_to("config.json"), "link"),
        (lambda m: (m / "claims.jsonl").mkdir() or (m / "claims.jsonl" / "x").touch(), "claims"),
        (lambda m: os.link(m / "model.sig", m / "hard.sig"), "hard.sig"),
    ],
)
def test_other_file_set_is_refused(
    model: Path, key: KeySigner, break_it: Callable[[Path], object], named: str
) -> None:
    """A file that was added, removed, renamed or replaced by a link is refused by name."""
    sign_model(model, key=key)
    break_it(model)

    with pytest.raises(UnexpectedFileError) as caught:
        verify_model(model, key=key.verifier)
    assert named in caught.value.what


def test_two_files_swapped_by_name_are_refused(tmp_path: Path, key: KeySigner) -> None:
    """The names are bound to the contents, though the OMS root is blind to them."""
    model = tmp_path / "m"
    model.mkdir()
    (model / "a.txt").write_text("a")
    (model / "b.txt").write_text("b")
    sign_model(model, key=key)
    (model / "a.txt").rename(model / "t")
    (model / "b.txt").rename(model / "a.txt")
    (model / "t").rename(model / "b.txt")

    with pytest.raises(DigestMismatchError):
        verify_model(model, key=key.verifier)


def test_own_names_may_be_present(model: Path, key: KeySigner) -> None:
    """`claims.jsonl` and `model.sig` may be there, and are reported as not covered."""
    sign_model(model, key=key)
    (model / "claims.jsonl").write_text("anything\n")

    assert verify_model(model, key=key.verifier).ignored == ("claims.jsonl",)


def test_path_that_a_peer_ignored_is_refused_when_present(model: Path, key: KeySigner) -> None:
    """What a signer ignored anybody can have put there: refused unless it is allowed."""
    statement = oms_statement(manifest(model), "m", [".git", "model.sig"])
    signed(model, key, statement)
    assert verify_model(model, key=key.verifier).ignored == ()
    (model / ".git").mkdir()
    (model / ".git" / "hook.sh").write_text("x")

    with pytest.raises(UnexpectedFileError, match="leaves out") as caught:
        verify_model(model, key=key.verifier)
    assert "allow_ignored" in caught.value.fix
    assert verify_model(model, key=key.verifier, allow_ignored=[".git"]).ignored == (
        ".git/hook.sh",
    )


def test_what_is_allowed_must_have_been_ignored(model: Path, key: KeySigner) -> None:
    """`allow_ignored` lets in what the signer left out, never what nobody mentioned."""
    sign_model(model, key=key)
    (model / "new.txt").write_text("x")

    with pytest.raises(UnexpectedFileError, match="nothing signed names"):
        verify_model(model, key=key.verifier, allow_ignored=["new.txt"])


def test_signature_of_a_peer_inside_is_not_covered(model: Path, key: KeySigner) -> None:
    """A signature cannot cover itself, whatever its name: it is excluded by its path."""
    statement = oms_statement(manifest(model), "m", [".git"])
    signed(model, key, statement)
    (model / "model.sig").rename(model / "peer.json")

    found = verify_model(model, key=key.verifier, signature=model / "peer.json")
    assert found.ignored == ()


def test_two_signatures_are_refused(model: Path, key: KeySigner) -> None:
    """A second signature, which nobody would check, is refused."""
    bundle = sign_model(model, key=key)
    twice = Envelope(PAYLOAD_TYPE, bundle.envelope.payload, bundle.envelope.signatures * 2)
    (model / "model.sig").write_bytes(Bundle(envelope=twice, material=bundle.material).encode())

    with pytest.raises(SignatureError):
        verify_model(model, key=key.verifier)


def test_key_inside_the_bundle_is_no_root(model: Path, key: KeySigner, trust: Trust) -> None:
    """A bundle before 1.1 brings its key; it verifies under a trusted key, not under its own."""
    thief = generate()
    signed(model, thief, material=LegacyPublicKey(thief.verifier.pem.encode()))
    with pytest.raises(UntrustedSignerError):
        verify_model(model, trust=trust)
    with pytest.raises(SignatureError):
        verify_model(model, key=key.verifier)

    signed(model, key, material=LegacyPublicKey(thief.verifier.pem.encode()))
    assert verify_model(model, trust=trust).signer == "ada"


def test_payload_changed_after_signing_is_refused(
    model: Path, key: KeySigner, trust: Trust
) -> None:
    """The signature is over the payload's bytes, as received."""
    sign_model(model, key=key)
    bundle = json.loads((model / "model.sig").read_bytes())
    payload = b64decode(bundle["dsseEnvelope"]["payload"]).replace(b'"model"', b'"mode1"')
    bundle["dsseEnvelope"]["payload"] = b64encode(payload).decode()
    (model / "model.sig").write_text(json.dumps(bundle))

    with pytest.raises(SignatureError):
        verify_model(model, key=key.verifier)
    with pytest.raises(SignatureError):
        verify_model(model, trust=trust)


def test_blake2b_model_has_its_dirhash_all_the_same(tmp_path: Path, key: KeySigner) -> None:
    """A peer's BLAKE2b signature is checked as such; the name is SHA-256, from the same read."""
    model = tmp_path / "m"
    model.mkdir()
    (model / "a.txt").write_bytes(b"a")
    digest = hashlib.blake2b(b"a").digest()
    predicate: dict[str, JSON] = {
        "resources": [{"name": "a.txt", "algorithm": "blake2b", "digest": digest.hex()}],
        "serialization": {
            "method": "files",
            "hash_type": "blake2b",
            "allow_symlinks": False,
            "ignore_paths": ["model.sig"],
        },
    }
    signed(model, key, Statement((Subject("m", oms_root([digest]).as_set()),), OMS, predicate))
    expected = Manifest.of([("a.txt", hashlib.sha256(b"a").digest())])

    assert expected == verify_model(model, key=key.verifier).manifest
    (model / "a.txt").write_bytes(b"b")
    with pytest.raises(DigestMismatchError, match=r"a\.txt"):
        verify_model(model, key=key.verifier)


def test_path_without_a_model(tmp_path: Path, model: Path, key: KeySigner) -> None:
    """A path where nothing lies is named."""
    sign_model(model, key=key, signature=tmp_path / "m.sig")

    with pytest.raises(FormatError, match="no model at"):
        verify_model(tmp_path / "gone", key=key.verifier, signature=tmp_path / "m.sig")


def test_single_file_behind_a_link_is_refused(tmp_path: Path, key: KeySigner) -> None:
    """A model that is one file is not followed through a link either."""
    (tmp_path / "w.npy").write_bytes(b"1")
    sign_model(tmp_path / "w.npy", key=key)
    (tmp_path / "link.npy").symlink_to("w.npy")

    with pytest.raises(UnexpectedFileError, match="symbolic link"):
        verify_model(tmp_path / "link.npy", key=key.verifier, signature=tmp_path / "w.npy.sig")


def test_single_file_under_another_name_is_refused(tmp_path: Path, key: KeySigner) -> None:
    """A model that is one file keeps its name."""
    (tmp_path / "w.npy").write_bytes(b"1")
    sign_model(tmp_path / "w.npy", key=key)
    (tmp_path / "w.npy").rename(tmp_path / "v.npy")

    with pytest.raises(UnexpectedFileError):
        verify_model(tmp_path / "v.npy", key=key.verifier, signature=tmp_path / "w.npy.sig")


def test_single_file_signed_as_a_dot(tmp_path: Path, key: KeySigner) -> None:
    """Older tools name the one file '.'; it is taken for the file itself."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "w.txt").write_bytes(b"1")
    digest = hashlib.sha256(b"1").digest()
    predicate: dict[str, JSON] = {
        "resources": [{"name": ".", "algorithm": "sha256", "digest": digest.hex()}],
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
    }
    statement = Statement((Subject("w.txt", oms_root([digest]).as_set()),), OMS, predicate)
    signed(tmp_path, key, statement)

    found = verify_model(
        tmp_path / "d" / "w.txt", key=key.verifier, signature=tmp_path / "model.sig"
    )
    assert found.files == ("w.txt",)
    with pytest.raises(FormatError, match="does not name its file"):
        read_resources(statement)
    with pytest.raises(UnexpectedFileError):
        verify_model(tmp_path / "d", key=key.verifier, signature=tmp_path / "model.sig")


def test_result_is_made_by_verification_only(model: Path, key: KeySigner) -> None:
    """A verified model is not made by hand, changed, copied or pickled."""
    sign_model(model, key=key)
    found = verify_model(model, key=key.verifier)

    with pytest.raises(TypeError, match="never by hand"):
        VerifiedModel(name="m")
    with pytest.raises(AttributeError, match="frozen"):
        found.signer = "ada"
    with pytest.raises(AttributeError, match="frozen"):
        del found.signer
    for steal in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            steal(found)


def test_open_model_gives_the_bytes_that_were_verified(model: Path, key: KeySigner) -> None:
    """What happens to the path afterwards does not reach the bytes."""
    sign_model(model, key=key)
    files = open_model(model, key=key.verifier)
    (model / "config.json").write_bytes(b"evil")

    assert files["config.json"] == b'{"a": 1}'
    assert sorted(files) == ["config.json", "deep/notes.txt"]
    assert len(files) == 2
    assert "config.json" in repr(files)


def test_each_file_is_opened_once(
    model: Path, key: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that are hashed are the bytes that are kept: no second open."""
    sign_model(model, key=key)
    opened: list[str] = []

    def spy(path: Path) -> int:
        opened.append(path.name)
        return os.open(path, os.O_RDONLY)

    monkeypatch.setattr(files, "open_regular", spy)
    open_model(model, key=key.verifier)

    assert sorted(opened) == ["config.json", "notes.txt"]


HISTORY = Path(__file__).parents[3] / "vectors" / "oms-history"


def test_model_signed_by_model_signing_1_1_0_verifies() -> None:
    """A directory that model-signing 1.1.0 signed with a key verifies."""
    key = load_public(HISTORY / "keys" / "certificate" / "signing-key-pub.pem")
    found = verify_model(HISTORY / "v1.1.0-elliptic-key", key=key, allow_ignored=["ignore-me"])

    assert found.files == ("signme-1", "signme-2")
    assert found.ignored == ("ignore-me",)


def test_ignored_file_of_model_signing_is_refused_unless_allowed() -> None:
    """The same directory, without the relying party's consent to the ignored file."""
    key = load_public(HISTORY / "keys" / "certificate" / "signing-key-pub.pem")

    with pytest.raises(UnexpectedFileError, match="ignore-me"):
        verify_model(HISTORY / "v1.1.0-elliptic-key", key=key)


@pytest.mark.parametrize("name", ["v0.2.0-certificate", "v1.1.0-certificate", "v1.1.0-sigstore"])
def test_certificates_are_never_accepted(name: str) -> None:
    """Certificates and keyless signatures are refused with the reason, not misread."""
    key = load_public(HISTORY / "keys" / "certificate" / "signing-key-pub.pem")

    with pytest.raises(UntrustedSignerError, match="certificate"):
        verify_model(HISTORY / name, key=key, allow_ignored=["ignore-me"])


def test_statement_of_model_signing_0_2_is_refused_with_the_reason() -> None:
    """Its own format is named in the error."""
    bundle = read_signature(HISTORY / "v0.2.0-certificate")
    with pytest.raises(FormatError, match=r"model-signing 0\.2"):
        read_oms(bundle.envelope.statement())


def test_what_cannot_be_read_is_a_store_error(
    model: Path, key: KeySigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is not a model that was altered."""
    sign_model(model, key=key)

    def fail(_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        with pytest.raises(StoreError):
            verify_model(model, key=key.verifier)
    with monkeypatch.context() as patch:
        patch.setattr(files, "open_regular", fail)
        with pytest.raises(StoreError):
            verify_model(model, key=key.verifier)


def test_fifo_in_the_model_is_refused(model: Path, key: KeySigner) -> None:
    """A FIFO is refused by name, and not waited for."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    sign_model(model, key=key)
    os.mkfifo(model / "pipe")

    with pytest.raises(UnexpectedFileError, match="pipe"):
        verify_model(model, key=key.verifier)


@pytest.mark.skipif(os.name == "nt", reason="a backslash cannot be in a name there")
def test_name_that_no_manifest_holds_is_a_format_error(tmp_path: Path, key: KeySigner) -> None:
    """One file signed as '.' may have any name on disk, but the model needs one that is text."""
    (tmp_path / "w\\.txt").write_bytes(b"1")
    digest = hashlib.sha256(b"1").digest()
    predicate: dict[str, JSON] = {
        "resources": [{"name": ".", "algorithm": "sha256", "digest": digest.hex()}],
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
    }
    statement = Statement((Subject("w", oms_root([digest]).as_set()),), OMS, predicate)
    (tmp_path / "s").mkdir()
    signed(tmp_path / "s", key, statement)

    with pytest.raises(FormatError, match="cannot be named"):
        verify_model(
            tmp_path / "w\\.txt", key=key.verifier, signature=tmp_path / "s" / "model.sig"
        )
