"""Laws of verification: a bit flipped anywhere in what is proven is refused."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.errors import FormatError, VerificationError
from secureml.evidence.attest import attest
from secureml.evidence.notes import sign_checkpoint, verify_checkpoint
from secureml.evidence.rotation import rotate, verify_rotation
from secureml.evidence.trust import ROLES, Identity, Position, Trust
from secureml.evidence.verify import verify, verify_bundle
from secureml.keys import generate
from secureml.wire import merkle
from secureml.wire.bundle import KIND, VERSION, Bundle, PublicKeyHint, TlogEntry
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.dsse import Envelope, Signature
from secureml.wire.logentry import LogEntry
from secureml.wire.statement import Statement, Subject

ORIGIN = "log"
SIGNERS = [generate(scheme) for scheme in ("ecdsa-p256", "ed25519")]
LOG = generate("ed25519", purposes={"log"})
TRUST = Trust(
    (
        *(
            Identity(name=s.verifier.scheme, verifier=s.verifier, roles=frozenset({"run", "gate"}))
            for s in SIGNERS
        ),
        Identity(name="log", verifier=LOG.verifier, roles=frozenset({"log"}), origin=ORIGIN),
    )
)
STATEMENT = Statement((Subject("x", {"sha256": "00" * 32}),), "https://example.org/v1", {"n": 1})
AT = "2026-01-01T00:00:00.000000Z"
NOTE = sign_checkpoint(Checkpoint(ORIGIN, 3, bytes(range(32))), LOG)
ENVELOPES = [attest(STATEMENT, signer) for signer in SIGNERS]
refused = (FormatError, VerificationError)


def flip(data: bytes, bit: int) -> bytes:
    """Return *data* with one bit changed."""
    bit %= len(data) * 8
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def make_bundle(envelope: Envelope) -> Bundle:
    """Put *envelope* in the middle of a log of three."""
    leaves = [b"before", LogEntry.of(envelope, AT)[0], b"after"]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    root = merkle.root(hashes)
    entry = TlogEntry(
        log_index=1,
        log_id=hashlib.sha256(LOG.verifier.der).digest(),
        kind=KIND,
        version=VERSION,
        body=leaves[1],
        tree_size=3,
        root=root,
        path=(hashes[0], hashes[2]),
        checkpoint=sign_checkpoint(Checkpoint(ORIGIN, 3, root), LOG),
    )
    return Bundle(envelope, PublicKeyHint(envelope.signatures[0].keyid), (entry,))


BUNDLES = [make_bundle(envelope) for envelope in ENVELOPES]


@given(st.sampled_from(ENVELOPES), st.integers(0, 1 << 16))
def test_a_flipped_bit_of_the_payload_is_refused(envelope: Envelope, bit: int) -> None:
    """Each bit of the payload is signed."""
    with pytest.raises(refused):
        verify(replace(envelope, payload=flip(envelope.payload, bit)), trust=TRUST, role="run")


@given(st.sampled_from(ENVELOPES), st.integers(0, 1 << 16))
def test_a_flipped_bit_of_the_signature_is_refused(envelope: Envelope, bit: int) -> None:
    """No bit of a signature is free."""
    (one,) = envelope.signatures
    changed = replace(envelope, signatures=(Signature(one.keyid, flip(one.sig, bit)),))

    with pytest.raises(refused):
        verify(changed, trust=TRUST, role="run")


@given(st.sampled_from(ENVELOPES), st.text(min_size=1, max_size=40))
def test_another_payload_type_is_refused(envelope: Envelope, kind: str) -> None:
    """The type of the payload is signed with it."""
    with pytest.raises(refused):
        verify(replace(envelope, payload_type=kind), trust=TRUST, role="run")


@given(st.sampled_from(ENVELOPES), st.text(min_size=1, max_size=70))
def test_another_keyid_is_refused(envelope: Envelope, keyid: str) -> None:
    """A key id that is not the signer's leads to no evidence."""
    changed = replace(envelope, signatures=(Signature(keyid, envelope.signatures[0].sig),))

    with pytest.raises(refused):
        verify(changed, trust=TRUST, role="run")


@given(
    st.text(max_size=70),
    st.binary(min_size=1, max_size=80),
    st.binary(max_size=80),
    st.sampled_from(ROLES),
)
def test_only_the_two_errors_come_out(keyid: str, sig: bytes, payload: bytes, role: str) -> None:
    """Arbitrary envelopes are refused with these two kinds of error and no other."""
    known = SIGNERS[0].verifier.hint
    for name in (keyid, known, ""):
        envelope = Envelope("application/vnd.in-toto+json", payload, (Signature(name, sig),))
        with pytest.raises(refused):
            verify(envelope, trust=TRUST, role=role)


@given(st.sampled_from(BUNDLES), st.integers(0, 1 << 20))
def test_a_flipped_bit_of_a_bundle_is_refused_or_says_the_same(bundle: Bundle, bit: int) -> None:
    """
    A bundle's file with one bit changed is refused, or leads to the same evidence.

    JSON has spellings that differ in nothing but themselves; whatever still
    verifies is the same envelope by the same signer in the same place.
    """
    good = verify_bundle(bundle, trust=TRUST, role="run")
    try:
        same = verify_bundle(Bundle.decode(flip(bundle.encode(), bit)), trust=TRUST, role="run")
    except refused:
        return

    assert (same.envelope, same.signer, same.position) == (
        good.envelope,
        good.signer,
        good.position,
    )


@given(st.integers(0, 1 << 16))
def test_a_flipped_bit_of_a_checkpoint_is_refused(bit: int) -> None:
    """Each bit of a signed checkpoint counts."""
    changed = flip(NOTE.encode(), bit)

    with pytest.raises(refused):
        verify_checkpoint(changed.decode("utf-8", "surrogateescape"), trust=TRUST)


@given(st.text(max_size=120))
def test_any_text_is_no_checkpoint(text: str) -> None:
    """Arbitrary text, alone or after a real note, is refused."""
    for note in (text, NOTE + text + "\n", text + NOTE):
        if note != NOTE:
            with pytest.raises(refused):
                verify_checkpoint(note, trust=TRUST, strict=True)


@given(st.integers(0, 1), st.integers(0, 1 << 16), st.booleans())
def test_a_flipped_bit_of_a_rotation_is_refused(which: int, bit: int, payload: bool) -> None:  # noqa: FBT001  drawn
    """Payload and both signatures are covered."""
    position = Position(ORIGIN, 0, AT)
    new = SIGNERS[1 - which]
    trust = Trust((TRUST.identities[which],))
    good = rotate(SIGNERS[which], new, {"run"}, name="new", origin=ORIGIN)
    verify_rotation(good, trust=trust, position=position)
    if payload:
        bad = replace(good, payload=flip(good.payload, bit))
    else:
        one = good.signatures[which]
        signatures = list(good.signatures)
        signatures[which] = Signature(one.keyid, flip(one.sig, bit))
        bad = replace(good, signatures=tuple(signatures))

    with pytest.raises(refused):
        verify_rotation(bad, trust=trust, position=position)


@given(st.integers(0, 20), st.integers(0, 20))
def test_validity_by_position_is_a_prefix(limit: int, index: int) -> None:
    """A retired key is valid at exactly the leaves before the one that retired it."""
    first = replace(TRUST.identities[0], retired={ORIGIN: limit})
    position = Position(ORIGIN, index, AT)

    try:
        verify(ENVELOPES[0], trust=Trust((first,)), role="run", position=position)
        valid = True
    except VerificationError:
        valid = False

    assert valid == (index < limit)
