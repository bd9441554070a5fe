"""Rekor v2: an entry for a checkpoint, proven from its answer alone."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from secureml.errors import (
    FormatError,
    InclusionError,
    SecureMLError,
    SignatureError,
    StoreError,
    UntrustedSignerError,
)
from secureml.evidence.anchors import Head, Receipt, RekorLog
from secureml.evidence.anchors.rekor import rekor_holds
from secureml.keys import generate
from secureml.keys.verifier import Verifier
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.note import Note, NoteSignature
from secureml.wire.tlogproof import TlogProof


def test_rekor_takes_the_digest_of_a_checkpoint(make_log: Callable, make_rekor: Callable) -> None:
    """The entry is in the other log, and names the note and nothing else of ours."""
    log = make_log(3)
    one = make_rekor()

    receipt = one.anchor.submit(Head.read(log.log))

    rekor_holds(receipt, one.known)
    assert one.log.entry(3) == b64decode(receipt.values["body"])
    assert b"log.example" not in one.log.entry(3)
    assert TlogProof.decode(receipt.values["proof"]).index == 3


def test_any_place_in_rekor_is_proven(make_log: Callable, make_rekor: Callable) -> None:
    """The first entry of a log, and one behind its 256th, are proven alike."""
    log = make_log(1)
    for name, entries in (("a", 0), ("b", 258)):
        one = make_rekor(name, entries)

        receipt = one.anchor.submit(Head.read(log.log))

        rekor_holds(receipt, one.known)
        assert TlogProof.decode(receipt.values["proof"]).index == entries


def test_a_given_key_signs(make_log: Callable, make_rekor: Callable) -> None:
    """Rekor shows the key that the caller gave; an ECDSA P-256 key is demanded."""
    log = make_log(1)
    one = make_rekor()
    signer = generate("ecdsa-p256", purposes={"log"})
    anchor = replace(one.anchor, signer=signer)

    receipt = anchor.submit(Head.read(log.log))

    assert b64encode(signer.verifier.der).encode() in b64decode(receipt.values["body"])
    with pytest.raises(ValueError, match="ecdsa-p256"):
        replace(one.anchor, signer=generate("ed25519", purposes={"log"}))


def test_a_receipt_is_about_one_note(make_log: Callable, make_rekor: Callable) -> None:
    """Under another checkpoint the entry is about something else."""
    log = make_log(1)
    one = make_rekor()
    receipt = one.anchor.submit(Head.read(log.log))

    with pytest.raises(SignatureError, match="something else"):
        rekor_holds(Receipt("rekor", log.grow(1), receipt.values), one.known)


def test_another_log_s_key_does_not_do(make_log: Callable, make_rekor: Callable) -> None:
    """The checkpoint of a Rekor that the caller did not name is not believed."""
    log = make_log(1)
    receipt = make_rekor("a").anchor.submit(Head.read(log.log))

    with pytest.raises(UntrustedSignerError, match="not signed by the Rekor log"):
        rekor_holds(receipt, make_rekor("b").known)


def test_rekor_may_have_an_ecdsa_key(make_log: Callable, make_rekor: Callable) -> None:
    """Rekor's ECDSA key is named by the SHA-256 of its SubjectPublicKeyInfo."""
    log = make_log(1)
    one = make_rekor()
    receipt = one.anchor.submit(Head.read(log.log))
    proof = TlogProof.decode(receipt.values["proof"])
    text = Note.decode(proof.checkpoint).text
    key = generate_private_key(SECP256R1())
    known = RekorLog(origin=one.known.origin, verifier=Verifier.from_key(key.public_key()))
    line = NoteSignature(known.origin, known.key_id, key.sign(text.encode(), ECDSA(SHA256())))
    signed = replace(proof, checkpoint=Note(text, (line,)).encode())

    rekor_holds(
        Receipt("rekor", receipt.note, {**receipt.values, "proof": signed.encode()}), known
    )


def test_a_proof_that_does_not_hold_is_refused(make_log: Callable, make_rekor: Callable) -> None:
    """Another index, another hash, another entry and extra bytes are refused."""
    log = make_log(1)
    one = make_rekor()
    receipt = one.anchor.submit(Head.read(log.log))
    proof = TlogProof.decode(receipt.values["proof"])
    cases: list[tuple[TlogProof, type[SecureMLError]]] = [
        (replace(proof, index=1), InclusionError),
        (replace(proof, index=99), InclusionError),
        (replace(proof, path=(bytes(32), *proof.path[1:])), InclusionError),
        (replace(proof, path=()), InclusionError),
        (replace(proof, extra=b"x"), FormatError),
    ]
    for changed, error in cases:
        with pytest.raises(error):
            rekor_holds(
                Receipt("rekor", receipt.note, {**receipt.values, "proof": changed.encode()}),
                one.known,
            )
    body = b64decode(receipt.values["body"]).replace(b"SHA2_256", b"SHA2_512")
    with pytest.raises(FormatError):
        rekor_holds(
            Receipt("rekor", receipt.note, {**receipt.values, "body": b64encode(body)}), one.known
        )


@pytest.mark.parametrize(
    "change",
    [
        {"canonicalizedBody": None},
        {"canonicalizedBody": ""},
        {"canonicalizedBody": "*"},
        {"canonicalizedBody": b64encode(b"{}")},
        {"canonicalizedBody": b64encode(b"[]")},
        {"canonicalizedBody": b64encode(b'{"kind":"dsse","apiVersion":"0.0.2","spec":{}}')},
        {"canonicalizedBody": b64encode(b"x" * 70_000)},
        {"logIndex": 3},
        {"logIndex": "-1"},
        {"logIndex": "7"},
        {"inclusionProof": None},
        {"inclusionProof": {}},
        {"inclusionProof": {"checkpoint": {}}},
        {"inclusionProof": {"checkpoint": {"envelope": "x"}, "hashes": {}}},
        {"inclusionProof": {"checkpoint": {"envelope": "x"}, "hashes": ["AA=="]}},
        {"inclusionProof": {"checkpoint": {"envelope": 1}, "hashes": []}},
    ],
    ids=repr,
)
def test_a_hostile_rekor_gives_an_error_with_a_name(
    make_log: Callable, make_rekor: Callable, serve: Callable, change: dict[str, object]
) -> None:
    """Each member of the answer may be anything; the error is one of ours."""
    log = make_log(1)
    one = make_rekor()

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        status, kind, data = one.answer(path, body)
        return status, kind, json.dumps(json.loads(data) | change).encode()

    anchor = replace(one.anchor, url=serve(answer).url)

    with pytest.raises((FormatError, InclusionError, SignatureError, UntrustedSignerError)):
        anchor.submit(Head.read(log.log))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(404, b"", StoreError), (500, b"", StoreError), (201, b"x", FormatError)],
)
def test_a_rekor_that_refuses(
    make_log: Callable,
    make_rekor: Callable,
    serve: Callable,
    status: int,
    body: bytes,
    error: type[Exception],
) -> None:
    """A refusal is a store's error, garbage a format's."""
    log = make_log(1)
    anchor = replace(make_rekor().anchor, url=serve(lambda *_: (status, "a/b", body)).url)

    with pytest.raises(error):
        anchor.submit(Head.read(log.log))


def test_a_rekor_log_has_an_origin_and_a_key() -> None:
    """An empty origin, and a key of another scheme, are the caller's bugs."""
    for origin, scheme in (("", "ed25519"), ("r", "ecdsa-p384")):
        with pytest.raises(ValueError, match="Rekor log"):
            RekorLog(origin=origin, verifier=generate(scheme).verifier)
