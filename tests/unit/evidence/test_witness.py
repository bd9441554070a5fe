"""Witnesses: who counts, how many, when, and what is no cosignature."""

from datetime import UTC, datetime, timedelta

import pytest

from secureml.errors import FormatError, KeyRoleError, SignatureError, ThresholdError
from secureml.evidence.notes import add_signatures, sign_checkpoint, verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.witness import (
    VerifiedCosignatures,
    Witness,
    sign_cosignature,
    verify_cosignatures,
    witness_block,
)
from secureml.keys import KeySigner, generate
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.cosignature import cosignature_message, join_timestamp, subtree_message
from secureml.wire.note import COSIGNATURE, ED25519, MLDSA44, Note, NoteSignature, VKey

LOG = "secureml.local/a"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SIGNER = generate("ed25519", purposes={"audit", "log"})
CHECKPOINT = Checkpoint(LOG, 12, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, SIGNER)
TYPES = {"ed25519": COSIGNATURE, "mldsa-44": MLDSA44}
SIGNERS = [generate(scheme, purposes={"witness"}) for scheme in ("ed25519", "ed25519", "mldsa-44")]


def witness(number: int, signer: KeySigner | None = None) -> Witness:
    """Make one of the witnesses, or give its name to another key."""
    public = (signer or SIGNERS[number]).verifier
    name = f"witness.example/w{number}"
    return Witness(f"w{number}", VKey(name, TYPES[public.scheme], public.raw))


WITNESSES = [witness(number) for number in range(3)]


def line(number: int, at: datetime = NOON, note: str = NOTE) -> NoteSignature:
    """Have a witness sign."""
    return sign_cosignature(note, SIGNERS[number], name=f"witness.example/w{number}", at=at)


def cosigned(*lines: NoteSignature) -> str:
    """Return the checkpoint with witnesses' lines."""
    return add_signatures(NOTE, lines)


def check(
    note: str, quorum: int = 1, *, at: datetime = NOON, max_age: timedelta | None = None
) -> VerifiedCosignatures:
    """Verify by all witnesses."""
    return verify_cosignatures(note, WITNESSES, quorum, at=at, max_age=max_age)


def test_who_signed_and_when_is_told() -> None:
    """Each witness is named with its time, in the order of the trust."""
    times = [NOON, NOON - timedelta(hours=2), NOON + timedelta(minutes=1)]
    found = check(cosigned(*(line(n, times[n]) for n in (2, 0, 1))), 3)

    assert ("w0", "w1", "w2") == found.names
    assert times == [one.at for one in found.cosignatures]
    assert times[1] == found.latest
    assert (LOG, 12, CHECKPOINT.root, 3) == (found.origin, found.size, found.root, found.quorum)
    assert "w0, w1, w2" in repr(found)
    assert "12 leaves; 3 demanded" in found._repr_html_()


def test_a_quorum_is_needed() -> None:
    """One witness below the quorum denies, and the error names those that signed."""
    note = cosigned(line(0), line(2))

    assert ("w0", "w2") == check(note, 2).names
    with pytest.raises(ThresholdError, match=r"(?s)3 of 3 are demanded, 2 signed \(w0, w2\)"):
        check(note, 3)
    with pytest.raises(ThresholdError, match="0 signed"):
        check(NOTE)


def test_cosignatures_do_not_change_what_the_log_signed() -> None:
    """The log's own signature verifies with witnesses' lines under it."""
    trust = Trust(
        (Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=LOG),)
    )

    assert 12 == verify_checkpoint(cosigned(line(0), line(2)), trust=trust).size


def test_strangers_do_not_count() -> None:
    """Another key, the log's own line, or a known key under another name is nobody's signature."""
    stranger = generate("ed25519", purposes={"witness"})
    others = [
        sign_cosignature(NOTE, stranger, name="witness.example/w0", at=NOON),
        sign_cosignature(NOTE, SIGNERS[0], name="elsewhere.example/w0", at=NOON),
    ]

    with pytest.raises(ThresholdError):
        check(cosigned(*others))


def test_a_line_by_a_witness_has_to_be_good() -> None:
    """Another checkpoint, time or name, a plain Ed25519 signature, or a flipped bit: refused."""
    text = CHECKPOINT.encode()
    bigger = sign_checkpoint(Checkpoint(LOG, 13, bytes(32)), SIGNER)
    for number in (0, 2):
        good = line(number)
        signer = SIGNERS[number]
        name = "witness.example/w1"
        other = (
            cosignature_message(text.replace("12", "21"), 1)
            if number == 0
            else subtree_message(CHECKPOINT, name=name, timestamp=1)
        )
        values = [
            line(number, note=bigger).signature,
            good.signature[:7] + bytes([good.signature[7] ^ 1]) + good.signature[8:],
            b"\x80" + good.signature[1:],
            good.signature[:-1] + bytes([good.signature[-1] ^ 1]),
            good.signature[:-1],
            good.signature[:8],
            good.signature[8:],
            join_timestamp(1, signer.sign(other, purpose="witness")),
            join_timestamp(1, signer.sign(text.encode(), purpose="witness")),
        ]
        for value in values:
            bad = NoteSignature(good.name, good.key_id, value)
            with pytest.raises(SignatureError, match="whose key it names"):
                check(cosigned(bad, line(1)))


def test_a_witness_signs_once() -> None:
    """Two lines by one key are refused, whatever their times: it could not count twice anyway."""
    with pytest.raises(SignatureError, match="two signatures by one key"):
        check(cosigned(line(0), line(0, NOON - timedelta(hours=1))))


def test_the_future_does_not_count() -> None:
    """A time more than five minutes ahead, or one that no calendar has, is not counted."""
    assert ("w0",) == check(cosigned(line(0, NOON + timedelta(minutes=5)))).names
    far = 1 << 62
    message = cosignature_message(CHECKPOINT.encode(), far)
    forever = NoteSignature(
        "witness.example/w0",
        WITNESSES[0].vkey.key_id,
        join_timestamp(far, SIGNERS[0].sign(message, purpose="witness")),
    )
    for ahead in (line(0, NOON + timedelta(minutes=5, seconds=1)), forever):
        with pytest.raises(ThresholdError, match="not counted: w0 signed in the future"):
            check(cosigned(ahead))


def test_an_age_can_be_demanded() -> None:
    """Cosignatures that are too old, or say no time, do not count then; else they do."""
    hour = timedelta(hours=1)
    old, timeless = line(0, NOON - 2 * hour), line(2, datetime(1970, 1, 1, tzinfo=UTC))
    note = cosigned(old, timeless)

    found = check(note, 2)
    assert (NOON - 2 * hour, None) == tuple(one.at for one in found.cosignatures)
    assert "no time" in found._repr_html_()
    with pytest.raises(ThresholdError, match=r"(?s)too long ago.*w2 says no time"):
        check(note, max_age=hour)
    assert ("w1",) == check(cosigned(old, line(1)), max_age=hour).names
    assert check(cosigned(timeless)).latest is None


def test_nothing_is_witnessed_by_nobody() -> None:
    """Without witnesses, or with a quorum of none, nothing is verified."""
    for witnesses, quorum, match in (
        ([], 0, "no witnesses"),
        ([], 1, "quorum"),
        (WITNESSES, 0, "quorum is 1 to"),
        (WITNESSES, 4, "quorum is 1 to"),
        ([WITNESSES[0], witness(0, generate("ed25519"))], 1, "named 'w0'"),
        ([WITNESSES[0], Witness("x", VKey("x", 4, SIGNERS[0].verifier.raw))], 1, "with the key"),
        ([WITNESSES[0], Witness("x", witness(0, SIGNERS[2]).vkey)], 1, "key name"),
    ):
        with pytest.raises(ValueError, match=match):
            verify_cosignatures(NOTE, witnesses, quorum, at=NOON)


def test_a_witness_has_a_key_for_it() -> None:
    """Type 0x04 or 0x06, a point that means something, a name for people."""
    raw = SIGNERS[0].verifier.raw
    with pytest.raises(ValueError, match="not 0x01"):
        Witness("w", VKey("w", ED25519, raw))
    with pytest.raises(ValueError, match="a name is"):
        Witness("", VKey("w", COSIGNATURE, raw))
    with pytest.raises(FormatError, match="small order"):
        Witness("w", VKey("w", COSIGNATURE, bytes(32)))


def test_a_witness_signs_with_a_key_for_it() -> None:
    """A log's key does not witness, nor does an ECDSA key; what is signed is a checkpoint."""
    with pytest.raises(KeyRoleError):
        sign_cosignature(NOTE, SIGNER, name="w")
    with pytest.raises(ValueError, match="ecdsa-p256"):
        sign_cosignature(NOTE, generate(purposes={"witness"}), name="w")
    with pytest.raises(FormatError):
        sign_cosignature(Note("text\n", (line(0),)).encode(), SIGNERS[0], name="w")
    assert sign_cosignature(NOTE, SIGNERS[0], name="w").name == "w"


def test_a_trust_file_names_them() -> None:
    """Witnesses and quorum are read as they are written, and a merge keeps one's own."""
    blocks = "\n".join(map(witness_block, WITNESSES))
    text = f"version = 1\nquorum = 2\n\n{blocks}"
    trust = Trust.from_toml(text)

    assert (tuple(WITNESSES), 2) == (trust.witnesses, trust.quorum)
    assert text == trust.to_toml()
    assert trust == Trust(witnesses=tuple(WITNESSES), quorum=2)
    assert (tuple(WITNESSES), 2) == (trust.merged(Trust()).witnesses, trust.merged(Trust()).quorum)
    assert () == Trust().merged(trust).witnesses
    assert "version = 1\n" == Trust().to_toml()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("quorum = 1\n", "quorum: witnesses count|quorum"),
        ("quorum = 0\n", "quorum"),
        (witness_block(WITNESSES[0]), "quorum"),
        ("quorum = 2\n" + witness_block(WITNESSES[0]), "quorum is 1 to"),
        ("quorum = 1\n" + witness_block(WITNESSES[0]) * 2, "two witnesses named"),
        ("quorum = 1\n[[witness]]\nname = 'w'\nvkey = 'w+00000000+AA=='\n", "vkey"),
        ("quorum = 1\n[[witness]]\nname = ''\nvkey = " + repr(WITNESSES[0].vkey.encode()), "name"),
        ("quorum = 1\n[[witness]]\nname = 'w'\nkey = ''\nvkey = ''\n", "no such key"),
        ("quorum = true\n" + witness_block(WITNESSES[0]), "quorum"),
    ],
)
def test_a_trust_file_says_it_in_one_way(text: str, match: str) -> None:
    """A quorum without witnesses, witnesses without one, or a key that is none: refused."""
    with pytest.raises(FormatError, match=match):
        Trust.from_toml("version = 1\n" + text)


def test_a_log_does_not_witness_itself() -> None:
    """A witness with the key of an identity is refused."""
    own = Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=LOG)
    itself = Witness("w", VKey("w", COSIGNATURE, SIGNER.verifier.raw))

    with pytest.raises(ValueError, match="would witness itself"):
        Trust((own,), witnesses=(itself,), quorum=1)
