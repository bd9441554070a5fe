"""Signed checkpoints: one log, its keys, and the lines of others."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secureml.errors import (
    ExpiredError,
    FormatError,
    KeyRoleError,
    SignatureError,
    UntrustedSignerError,
)
from secureml.evidence.notes import sign_checkpoint, verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.keys import KeySigner, generate
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note, NoteSignature, VKey

LOG = "secureml.local/a"
SIGNER, OTHER = (generate("ed25519", purposes={"log"}) for _ in range(2))
CHECKPOINT = Checkpoint(LOG, 12, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, SIGNER)


def identity(signer: KeySigner = SIGNER, **values: object) -> Identity:
    """Make the identity of a log's key."""
    defaults = {"name": "log", "verifier": signer.verifier, "roles": {"log"}, "origin": LOG}
    return Identity(**{**defaults, **values})  # type: ignore[arg-type]


TRUST = Trust((identity(),))


def line(note: str) -> NoteSignature:
    """Return the one signature of *note*."""
    (signature,) = Note.decode(note).signatures
    return signature


def with_lines(*signatures: NoteSignature) -> str:
    """Return the checkpoint with these signatures."""
    return Note(CHECKPOINT.encode(), signatures).encode()


def test_a_checkpoint_is_verified() -> None:
    """What the log signed is what the verifier holds."""
    verified = verify_checkpoint(NOTE, trust=TRUST, strict=True)

    assert (verified.origin, verified.size, verified.root) == (LOG, 12, bytes(range(32)))
    assert verified.note == NOTE
    assert verified.signer == TRUST.identities[0]
    assert verified.trust_digest == TRUST.digest


def test_the_note_is_a_c2sp_note() -> None:
    """The signature line names the origin and the key id of the C2SP verifier key."""
    assert line(NOTE).name == LOG
    assert line(NOTE).key_id == VKey(LOG, 1, SIGNER.verifier.raw).key_id
    assert Note.decode(NOTE).text == CHECKPOINT.encode()


@pytest.mark.parametrize(
    "trust",
    [
        Trust(),
        Trust((identity(OTHER),)),
        Trust((identity(origin="secureml.local/b"),)),
        Trust((identity(roles={"audit"}),)),
        Trust((identity(origin=None),)),
        Trust((identity(generate()),)),
    ],
    ids=["nobody", "other key", "other log", "other role", "no log", "ecdsa"],
)
def test_another_signer_is_not_trusted(trust: Trust) -> None:
    """A key speaks for its own log, in the role it has."""
    with pytest.raises(UntrustedSignerError, match=f'(?s){LOG}.*origin = "{LOG}"'):
        verify_checkpoint(NOTE, trust=trust)


def test_an_audit_log_has_its_own_role() -> None:
    """A checkpoint is verified in the role it was signed for."""
    signer = generate("ed25519", purposes={"audit"})
    trust = Trust((identity(signer, roles={"audit"}),))
    note = sign_checkpoint(CHECKPOINT, signer, purpose="audit")

    assert verify_checkpoint(note, trust=trust, role="audit").size == 12
    with pytest.raises(UntrustedSignerError):
        verify_checkpoint(note, trust=trust, role="log")
    with pytest.raises(KeyRoleError):
        sign_checkpoint(CHECKPOINT, signer)


def test_lines_of_other_keys_are_passed_over() -> None:
    """A witness's line changes nothing; alone it proves nothing; strictly it has no place."""
    witness = NoteSignature("witness.example", b"wxyz", b"anything")
    namesake = NoteSignature(LOG, b"wxyz", b"anything")

    for other in (witness, namesake):
        for note in (with_lines(line(NOTE), other), with_lines(other, line(NOTE))):
            assert verify_checkpoint(note, trust=TRUST).size == 12
            with pytest.raises(FormatError, match="more than the signature of its log"):
                verify_checkpoint(note, trust=TRUST, strict=True)
        with pytest.raises(UntrustedSignerError):
            verify_checkpoint(with_lines(other), trust=TRUST)
    with pytest.raises(FormatError):
        verify_checkpoint(with_lines(witness), trust=TRUST, strict=True)


def test_a_line_of_a_trusted_key_is_good() -> None:
    """A bad signature under a trusted key is refused, though a good one by another is there."""
    bad = NoteSignature(LOG, line(NOTE).key_id, bytes(64))
    good = line(sign_checkpoint(CHECKPOINT, OTHER))
    trust = Trust((identity(), identity(OTHER, name="new")))

    for note in (with_lines(bad), with_lines(bad, good), with_lines(good, bad)):
        with pytest.raises(SignatureError, match="whose key it names"):
            verify_checkpoint(note, trust=trust)


def test_a_key_signs_once() -> None:
    """Two lines by one key are refused, equal or not, known or not."""
    twice = NoteSignature("witness.example", b"wxyz", b"anything")
    for note in (
        with_lines(line(NOTE), line(NOTE)),
        with_lines(line(NOTE), NoteSignature(LOG, line(NOTE).key_id, bytes(64))),
        with_lines(line(NOTE), twice, twice),
    ):
        with pytest.raises(SignatureError, match="two signatures by one key"):
            verify_checkpoint(note, trust=TRUST)


def test_keys_that_share_an_id_are_told_apart() -> None:
    """Four bytes of a hash collide: each of two such keys is still itself (found by search)."""
    keys = [Ed25519PrivateKey.from_private_bytes(n.to_bytes(32)) for n in (3992, 22175)]
    twins = [KeySigner(key, purposes={"log"}) for key in keys]
    trust = Trust(tuple(identity(twin, name=str(n)) for n, twin in enumerate(twins)))
    notes = [sign_checkpoint(CHECKPOINT, twin) for twin in twins]

    assert line(notes[0]).key_id == line(notes[1]).key_id
    for number, note in enumerate(notes):
        assert verify_checkpoint(note, trust=trust).signer.name == str(number)
    with pytest.raises(SignatureError):
        verify_checkpoint(notes[0], trust=Trust(trust.identities[1:]))


def test_the_line_of_a_log_is_under_its_own_name() -> None:
    """A good signature under another name than the origin counts for nothing."""
    renamed = NoteSignature("other", line(NOTE).key_id, line(NOTE).signature)

    with pytest.raises(UntrustedSignerError):
        verify_checkpoint(with_lines(renamed), trust=TRUST)


@pytest.mark.parametrize("limit", [12, 13])
def test_a_retired_key_vouches_for_the_leaves_before(limit: int) -> None:
    """Retired at leaf 12, a key is good for a checkpoint of 12 leaves."""
    trust = Trust((identity(retired={LOG: limit}),))

    assert verify_checkpoint(NOTE, trust=trust).size == 12


def test_a_retired_key_vouches_for_no_more() -> None:
    """Retired at leaf 11, it is refused; beside the new key's line it does no harm."""
    trust = Trust((identity(retired={LOG: 11}), identity(OTHER, name="new")))
    both = with_lines(line(NOTE), line(sign_checkpoint(CHECKPOINT, OTHER)))

    with pytest.raises(ExpiredError, match="retired it at leaf 11"):
        verify_checkpoint(NOTE, trust=trust)
    assert verify_checkpoint(both, trust=trust).signer.name == "new"


@pytest.mark.parametrize("edge", ["not_before", "not_after"])
def test_dates_are_judged_at_a_stated_time(edge: str) -> None:
    """A checkpoint has no time in it, so dates are judged now, or when the caller says."""
    then, other = datetime(2026, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    late = datetime(2026, 2, 1, tzinfo=UTC)
    bad, good = (other, late) if edge == "not_before" else (late, other)
    values: dict[str, object] = {edge: then}
    trust = Trust((identity(SIGNER, **values),))

    assert verify_checkpoint(NOTE, trust=trust, at=good).size == 12
    assert verify_checkpoint(NOTE, trust=trust, at=then).size == 12
    with pytest.raises(ExpiredError, match=r'retired = \{ "secureml.local/a" = 12 \}'):
        verify_checkpoint(NOTE, trust=trust, at=bad)


@pytest.mark.parametrize("note", ["", "x", NOTE[:-1], NOTE.replace("12", "012"), "\n" + NOTE])
def test_other_text_is_refused(note: str) -> None:
    """What is no signed checkpoint is a format error."""
    with pytest.raises(FormatError):
        verify_checkpoint(note, trust=TRUST)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: sign_checkpoint(CHECKPOINT, SIGNER, purpose="statements"), ValueError),
        (lambda: sign_checkpoint(CHECKPOINT, generate(purposes={"log"})), ValueError),
        (lambda: verify_checkpoint(NOTE, trust=TRUST, role="model"), ValueError),
        (lambda: verify_checkpoint(NOTE, trust=None), TypeError),  # type: ignore[arg-type]
        (
            lambda: verify_checkpoint(NOTE, trust=TRUST, at=datetime(2026, 1, 1)),  # noqa: DTZ001  the mistake
            ValueError,
        ),
    ],
)
def test_the_callers_bugs(call: Callable[[], object], error: type[Exception]) -> None:
    """Wrong arguments are found before any work."""
    with pytest.raises(error):
        call()
