"""Checkpoints with a second signature, by an ML-DSA-44 key of the same log."""

from datetime import UTC, datetime

import pytest

from secureml.errors import (
    FormatError,
    KeyRoleError,
    SecureMLError,
    SignatureError,
    ThresholdError,
    UntrustedSignerError,
)
from secureml.evidence.notes import add_signatures, judge, sign_checkpoint, verify_checkpoint
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.keys import KeySigner, generate
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.cosignature import join_timestamp, subtree_message
from secureml.wire.note import MLDSA44, Note, NoteSignature, VKey, key_id

LOG = "secureml.local/a"
FIRST, SECOND, THIRD = (
    generate(scheme, purposes={"log"}) for scheme in ("ed25519", "mldsa-44", "mldsa-44")
)
CHECKPOINT = Checkpoint(LOG, 12, bytes(range(32)))
SINGLE = sign_checkpoint(CHECKPOINT, FIRST)
DOUBLE = sign_checkpoint(CHECKPOINT, FIRST, also=[SECOND])


def identity(signer: KeySigner, name: str = "log", **values: object) -> Identity:
    """Make the identity of a log's key."""
    defaults = {"name": name, "verifier": signer.verifier, "roles": {"log"}, "origin": LOG}
    return Identity(**{**defaults, **values})  # type: ignore[arg-type]


ONE = Trust((identity(FIRST),))
BOTH = Trust((identity(FIRST), identity(SECOND, "second")))


def lines(note: str) -> tuple[NoteSignature, ...]:
    """Return the signature lines of *note*."""
    return Note.decode(note).signatures


def with_lines(*signatures: NoteSignature) -> str:
    """Return the checkpoint with these signatures."""
    return Note(CHECKPOINT.encode(), signatures).encode()


def test_the_second_line_is_a_c2sp_cosignature_of_the_log() -> None:
    """Ed25519 comes first; the ML-DSA-44 line has the log's name, type 0x06 and no time."""
    first, second = lines(DOUBLE)
    vkey = VKey(LOG, MLDSA44, SECOND.verifier.raw)

    assert lines(SINGLE) == (first,)
    assert (LOG, vkey.key_id, 2_428) == (second.name, second.key_id, len(second.signature))
    assert bytes(8) == second.signature[:8]
    message = subtree_message(CHECKPOINT, name=LOG, timestamp=0)
    SECOND.verifier.verify(second.signature[8:], message)


@pytest.mark.parametrize("strict", [True, False])
def test_both_are_verified(strict: bool) -> None:  # noqa: FBT001
    """A trust that names both keys sees both, strictly or not."""
    verified = verify_checkpoint(DOUBLE, trust=BOTH, strict=strict)

    assert BOTH.identities[0] == verified.signer
    assert BOTH.identities[1:] == verified.also


def test_the_second_cannot_be_left_out() -> None:
    """Whoever breaks Ed25519 does not get past a trust that names the ML-DSA-44 key."""
    for strict in (True, False):
        with pytest.raises(ThresholdError, match="lacks the ML-DSA-44 signature"):
            verify_checkpoint(SINGLE, trust=BOTH, strict=strict)
    stranger = lines(sign_checkpoint(CHECKPOINT, FIRST, also=[THIRD]))
    with pytest.raises(ThresholdError):
        verify_checkpoint(with_lines(*stranger), trust=BOTH)


def test_the_first_cannot_be_left_out() -> None:
    """An ML-DSA-44 signature alone is no checkpoint of ours."""
    for strict in (True, False):
        with pytest.raises((UntrustedSignerError, FormatError)):
            verify_checkpoint(with_lines(lines(DOUBLE)[1]), trust=BOTH, strict=strict)


def test_a_trust_that_names_one_key_passes_the_second_over() -> None:
    """Unknown to the trust, it is a line of somebody else: ignored, and strictly refused."""
    assert () == verify_checkpoint(DOUBLE, trust=ONE).also
    with pytest.raises(FormatError, match="more than the signature of its log"):
        verify_checkpoint(DOUBLE, trust=ONE, strict=True)


def test_it_has_to_be_good_where_it_is_named() -> None:
    """Altered, cut, of another size, root, time, name or key: refused."""
    first, second = lines(DOUBLE)
    elsewhere = sign_checkpoint(Checkpoint(LOG, 13, bytes(32)), FIRST, also=[SECOND])
    other_name = SECOND.sign(
        subtree_message(CHECKPOINT, name="another.example", timestamp=0), purpose="log"
    )
    values = [
        second.signature[:-1],
        second.signature[:-1] + bytes([second.signature[-1] ^ 1]),
        b"\0" * 7 + b"\1" + second.signature[8:],
        b"\xff" * 8 + second.signature[8:],
        b"\0",
        lines(elsewhere)[1].signature,
        join_timestamp(0, other_name),
        join_timestamp(0, SECOND.sign(CHECKPOINT.encode().encode(), purpose="log")),
    ]

    for value in values:
        bad = NoteSignature(LOG, second.key_id, value)
        for note in (with_lines(first, bad), with_lines(bad, first)):
            with pytest.raises(SignatureError, match="whose key it names"):
                verify_checkpoint(note, trust=BOTH)


def test_a_time_in_it_is_allowed() -> None:
    """The format has a place for a time, which another writer may fill."""
    message = subtree_message(CHECKPOINT, name=LOG, timestamp=1_700_000_000)
    line = NoteSignature(
        LOG,
        key_id(LOG, MLDSA44, SECOND.verifier.raw),
        join_timestamp(1_700_000_000, SECOND.sign(message, purpose="log")),
    )

    assert verify_checkpoint(with_lines(lines(SINGLE)[0], line), trust=BOTH, strict=True).also


def test_strictly_there_is_one_of_each() -> None:
    """Two ML-DSA-44 lines, or a witness's beside both, are more than a log writes."""
    three = Trust((*BOTH.identities, identity(THIRD, "third")))
    extra = lines(sign_checkpoint(CHECKPOINT, FIRST, also=[THIRD]))[1]
    witness = NoteSignature("witness.example", b"wxyz", b"anything")

    assert 2 == len(verify_checkpoint(with_lines(*lines(DOUBLE), extra), trust=three).also)
    for note in (with_lines(*lines(DOUBLE), extra), with_lines(*lines(DOUBLE), witness)):
        with pytest.raises(FormatError, match="more than the signature"):
            verify_checkpoint(note, trust=three, strict=True)


def test_it_is_demanded_from_a_size_on() -> None:
    """A log that began to sign with ML-DSA-44 later has older checkpoints without it."""
    for since, demanded in ((12, True), (13, False)):
        trust = Trust((identity(FIRST), identity(SECOND, "second", since=since)))
        assert verify_checkpoint(DOUBLE, trust=trust, strict=True).also
        if demanded:
            with pytest.raises(ThresholdError):
                verify_checkpoint(SINGLE, trust=trust)
        else:
            assert () == verify_checkpoint(SINGLE, trust=trust, strict=True).also


def test_a_retired_one_is_not_demanded_beyond() -> None:
    """Retired at leaf 11, the key is not asked for at 12; its successor is."""
    retired = identity(SECOND, "second", retired={LOG: 11})

    assert () == verify_checkpoint(SINGLE, trust=Trust((identity(FIRST), retired))).also
    successor = identity(THIRD, "third", since=12)
    trust = Trust((identity(FIRST), retired, successor))
    with pytest.raises(ThresholdError, match="third"):
        verify_checkpoint(DOUBLE, trust=trust)
    late = Trust(
        (identity(FIRST), identity(SECOND, "s", not_after=datetime(2020, 1, 1, tzinfo=UTC)))
    )
    assert () == verify_checkpoint(DOUBLE, trust=late).also


def test_what_is_signed_is_checked_first() -> None:
    """Keys of the wrong scheme or purpose sign nothing, nor does ML-DSA-44 extension lines."""
    cases: list[tuple[Checkpoint, KeySigner, KeySigner]] = [
        (CHECKPOINT, SECOND, SECOND),
        (CHECKPOINT, FIRST, FIRST),
        (Checkpoint(LOG, 1, bytes(32), ("x",)), FIRST, SECOND),
        (Checkpoint("o" * 256, 1, bytes(32)), FIRST, SECOND),
    ]
    for checkpoint, signer, other in cases:
        with pytest.raises(ValueError, match=r"mldsa-44|ML-DSA-44"):
            sign_checkpoint(checkpoint, signer, also=[other])
    with pytest.raises(KeyRoleError):
        sign_checkpoint(CHECKPOINT, FIRST, also=[generate("mldsa-44")])


def test_an_identity_of_it_says_checkpoints_only() -> None:
    """It has an origin and the role of a log; since and epochs are for their own kind of key."""
    for bad, match in (
        ({"origin": None}, "needs origin"),
        ({"roles": {"log", "gate"}}, "no role but log and audit"),
        ({"since": -1}, "since"),
        ({"epochs": True, "roles": {"audit"}}, "first ed25519 key"),
    ):
        with pytest.raises(ValueError, match=match):
            identity(SECOND, **bad)
    with pytest.raises(ValueError, match="since is for an mldsa-44 key"):
        identity(FIRST, since=1)
    with pytest.raises(ValueError, match="with the role audit"):
        identity(FIRST, epochs=True)


def test_a_trust_file_says_it() -> None:
    """Key, since and epochs are read as they are written, and narrowed by a merge."""
    audit = generate("ed25519", purposes={"audit"})
    chain = identity(audit, "audit", roles={"audit"}, origin="secureml.local/b", epochs=True)
    trust = Trust((identity(FIRST), identity(SECOND, "second", since=7), chain))
    text = "version = 1\n\n" + "\n".join(map(identity_block, trust.identities))

    assert trust == Trust.from_toml(text)
    assert text == trust.to_toml()
    loose = Trust(
        (
            identity(SECOND, "second", since=9),
            identity(audit, "audit", roles={"audit"}, origin="secureml.local/b"),
        )
    )
    merged = loose.merged(trust)
    assert (7, True) == (merged.identities[0].since, merged.identities[1].epochs)


def test_lines_are_added_once() -> None:
    """Witnesses' lines go under those of the log; one that is there already is not repeated."""
    witness = NoteSignature("witness.example", b"wxyz", b"anything")

    note = add_signatures(DOUBLE, [witness])
    assert (*lines(DOUBLE), witness) == lines(note)
    assert note == add_signatures(note, [witness])
    assert verify_checkpoint(note, trust=BOTH).also


def test_every_bit_counts() -> None:
    """A bit flipped in either signature is refused, and nothing else is raised."""
    first, second = lines(DOUBLE)
    for line in (first, second):
        for at in range(0, len(line.signature), 97):
            flipped = bytearray(line.signature)
            flipped[at] ^= 1 << at % 8
            changed = NoteSignature(LOG, line.key_id, bytes(flipped))
            note = with_lines(*(changed if one is line else one for one in (first, second)))
            with pytest.raises(SignatureError):
                verify_checkpoint(note, trust=BOTH)


def test_nobody_is_none() -> None:
    """`judge` leaves it to its caller to say who was expected."""
    assert judge(SINGLE, (), ONE.digest) is None
    with pytest.raises(SecureMLError):
        judge("nonsense", (), ONE.digest)
