"""Rotation: both keys sign, the place decides, no role is gained."""

from dataclasses import replace

import pytest

from secureml.errors import ExpiredError, FormatError, SignatureError, UntrustedSignerError
from secureml.evidence.attest import attest
from secureml.evidence.rotation import (
    apply_rotation,
    rotate,
    rotation_statement,
    verify_rotation,
)
from secureml.evidence.trust import Identity, Position, Trust
from secureml.evidence.verify import verify
from secureml.evidence.witness import Witness
from secureml.keys import KeySigner, generate
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.note import COSIGNATURE, VKey
from secureml.wire.statement import DATASET, KEY_ROTATION, PAYLOAD_TYPE, Statement, Subject

LOG = "secureml.local/a"
OLD, NEW, OTHER = generate(), generate("ed25519"), generate()
ROLES = frozenset({"dataset", "model"})
TRUST = Trust((Identity(name="old", verifier=OLD.verifier, roles=ROLES, development=True),))
ENVELOPE = rotate(OLD, NEW, ROLES, name="new", origin=LOG)


def at(index: int, origin: str = LOG) -> Position:
    """Make a position."""
    return Position(origin, index, "2026-01-01T00:00:00.000000Z")


def signed(payload: bytes, *signers: KeySigner) -> Envelope:
    """Sign *payload* with each of *signers*."""
    message = pae(PAYLOAD_TYPE, payload)
    return Envelope(
        PAYLOAD_TYPE,
        payload,
        tuple(Signature(s.verifier.hint, s.sign(message, purpose="statements")) for s in signers),
    )


def test_a_key_hands_over() -> None:
    """The rotation says who, to whom, what and where."""
    rotation = verify_rotation(ENVELOPE, trust=TRUST, position=at(5))

    assert rotation.old == TRUST.identities[0]
    assert rotation.new == NEW.verifier
    assert (rotation.name, rotation.roles, rotation.position) == ("new", ROLES, at(5))
    assert rotation.digest == ENVELOPE.digest


def test_the_old_key_is_valid_before_the_leaf_and_the_new_one_after() -> None:
    """Applied at leaf 5: the old key is good at 4 and not at 5, the new one at 6."""
    trust = apply_rotation(ENVELOPE, trust=TRUST, position=at(5))
    statement = Statement((Subject("x", {"sha256": "00" * 32}),), DATASET, {})
    by_old, by_new = attest(statement, OLD), attest(statement, NEW)

    assert trust.identities == (
        replace(TRUST.identities[0], retired={LOG: 5}),
        Identity(name="new", verifier=NEW.verifier, roles=ROLES),
    )
    verify(by_old, trust=trust, role="dataset", position=at(4))
    verify(by_new, trust=trust, role="dataset", position=at(6))
    verify(by_new, trust=trust, role="dataset")
    for position in (at(5), at(6), None):
        with pytest.raises(ExpiredError):
            verify(by_old, trust=trust, role="dataset", position=position)


def test_the_leaf_that_retires_the_key_is_the_exception() -> None:
    """Under the trust that results, the rotation itself still verifies, there and nowhere else."""
    trust = apply_rotation(ENVELOPE, trust=TRUST, position=at(5))

    assert verify_rotation(ENVELOPE, trust=trust, position=at(5)).new == NEW.verifier
    assert apply_rotation(ENVELOPE, trust=trust, position=at(5)) == trust
    for index in (6, 7):
        with pytest.raises(ExpiredError):
            verify_rotation(ENVELOPE, trust=trust, position=at(index))


def test_a_retired_key_does_not_hand_over_later() -> None:
    """A stolen old key cannot name an heir after its end."""
    trust = Trust((replace(TRUST.identities[0], retired={LOG: 5}),))

    with pytest.raises(ExpiredError):
        verify_rotation(ENVELOPE, trust=trust, position=at(9))
    verify_rotation(ENVELOPE, trust=trust, position=at(4))


def test_a_rotation_never_prolongs() -> None:
    """An earlier retirement that is known stays."""
    trust = Trust((replace(TRUST.identities[0], retired={LOG: 5, "b": 1}),))

    applied = apply_rotation(ENVELOPE, trust=trust, position=at(5))

    assert dict(applied.identities[0].retired) == {LOG: 5, "b": 1}
    later = verify_rotation(ENVELOPE, trust=TRUST, position=at(8)).apply(trust)
    assert dict(later.identities[0].retired) == {LOG: 5, "b": 1}


def test_a_known_new_key_keeps_its_block() -> None:
    """What a person wrote about the new key is not changed by the leaf."""
    known = Identity(name="mine", verifier=NEW.verifier, roles=frozenset({"gate"}))
    trust = Trust((*TRUST.identities, known))

    assert apply_rotation(ENVELOPE, trust=trust, position=at(5)).identities[1] == known


def test_the_key_of_a_log_hands_over_its_log() -> None:
    """A key with an origin passes it on with the role."""
    old, new = (generate("ed25519", purposes={"log"}) for _ in range(2))
    one = Identity(name="old", verifier=old.verifier, roles=frozenset({"log"}), origin=LOG)
    envelope = rotate(old, new, {"log"}, name="new", origin=LOG)

    applied = apply_rotation(envelope, trust=Trust((one,)), position=at(5))

    assert [i.name for i in applied.logs()[LOG]] == ["old", "new"]
    assert applied.identities[1].origin == LOG


def test_a_rotation_gains_no_role() -> None:
    """A key hands over what it has."""
    envelope = rotate(OLD, NEW, {"dataset", "gate"}, name="new", origin=LOG)

    with pytest.raises(UntrustedSignerError, match="does not have: gate"):
        verify_rotation(envelope, trust=TRUST, position=at(5))


def test_an_unknown_key_does_not_hand_over() -> None:
    """Nor does the new key on its own, or an envelope without names."""
    payload = ENVELOPE.payload
    nameless = replace(ENVELOPE, signatures=(Signature("", b"x"), ENVELOPE.signatures[1]))
    stranger = rotate(OTHER, NEW, ROLES, name="new", origin=LOG)
    for envelope in (stranger, signed(payload, NEW, OLD), nameless):
        with pytest.raises(UntrustedSignerError):
            verify_rotation(envelope, trust=TRUST, position=at(5))


def test_both_keys_sign() -> None:
    """One signature, three, a stranger's second, or the old key twice: refused."""
    payload = ENVELOPE.payload
    for signers in ((OLD,), (OLD, NEW, OTHER), (OLD, OTHER), (OLD, OLD)):
        with pytest.raises(SignatureError):
            verify_rotation(signed(payload, *signers), trust=TRUST, position=at(5))
    for number in (0, 1):
        bad = [replace(s, sig=s.sig[:-1] + bytes([s.sig[-1] ^ 1])) for s in ENVELOPE.signatures]
        bad[1 - number] = ENVELOPE.signatures[1 - number]
        with pytest.raises(SignatureError):
            verify_rotation(replace(ENVELOPE, signatures=tuple(bad)), trust=TRUST, position=at(5))


def test_the_second_signature_names_the_new_key() -> None:
    """A good signature under the name of another key is refused."""
    by_old, by_new = ENVELOPE.signatures
    renamed = replace(ENVELOPE, signatures=(by_old, replace(by_new, keyid=by_old.keyid)))

    with pytest.raises(SignatureError, match="not by the new key"):
        verify_rotation(renamed, trust=TRUST, position=at(5))


def test_a_rotation_is_for_one_log() -> None:
    """The same leaf in another log means nothing."""
    with pytest.raises(FormatError, match="another log"):
        verify_rotation(ENVELOPE, trust=TRUST, position=at(5, "elsewhere"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": 1}, "name and new are text"),
        ({"name": "a\nb"}, "a name is"),
        ({"new": OTHER.verifier.pem}, "not spelled"),
        ({"new": "PEM"}, "one block"),
        ({"new": NEW.verifier.pem.strip()}, "not spelled"),
        ({"new": OLD.verifier.pem}, "itself"),
        ({"old": OTHER.verifier.fingerprint}, "another old key"),
        ({"roles": []}, "roles are"),
        ({"roles": ["model", "dataset"]}, "not spelled"),
        ({"roles": ["dataset", "root"]}, "roles are"),
        ({"roles": "dataset"}, "roles is a list"),
        ({"roles": [["dataset"]]}, "roles are"),
        ({"extra": 1}, "has the keys"),
    ],
)
def test_another_predicate_is_refused(change: dict[str, object], why: str) -> None:
    """Both keys signed it, and still it has to be the one spelling of a rotation."""
    statement = rotation_statement(OLD.verifier, NEW.verifier, ROLES, name="new", origin=LOG)
    other = replace(statement, predicate={**statement.predicate, **change})  # type: ignore[dict-item]

    with pytest.raises(FormatError, match=why):
        verify_rotation(signed(other.encode(), OLD, NEW), trust=TRUST, position=at(5))


def test_another_statement_is_refused() -> None:
    """Another type, another subject, a number, or another spelling of the same JSON."""
    good = rotation_statement(OLD.verifier, NEW.verifier, ROLES, name="new", origin=LOG)
    other = replace(good, predicate_type=DATASET)
    subject = replace(good, subject=(Subject("new", {"sha256": "00" * 32}),))
    number = good.encode().replace(b'["dataset","model"]', b"[1.5]")
    spaced = good.encode().replace(b",", b", ")

    for payload, why in (
        (other.encode(), "of type"),
        (subject.encode(), "not spelled"),
        (number, "roles are"),
        (spaced, "not spelled"),
    ):
        with pytest.raises(FormatError, match=why):
            verify_rotation(signed(payload, OLD, NEW), trust=TRUST, position=at(5))


def test_a_name_that_is_taken_is_refused() -> None:
    """Applied to a trust where another key has the name, it is a format error."""
    taken = Identity(name="new", verifier=OTHER.verifier, roles=frozenset({"gate"}))

    with pytest.raises(FormatError, match="two identities named 'new'"):
        apply_rotation(ENVELOPE, trust=Trust((*TRUST.identities, taken)), position=at(5))


def test_the_callers_bugs() -> None:
    """A key is not its own heir; roles and names are checked."""
    old, new = OLD.verifier, NEW.verifier
    with pytest.raises(ValueError, match="itself"):
        rotation_statement(old, old, ROLES, name="new", origin=LOG)
    with pytest.raises(ValueError, match="roles"):
        rotation_statement(old, new, (), name="new", origin=LOG)
    with pytest.raises(ValueError, match="name"):
        rotation_statement(old, new, ROLES, name="", origin=LOG)
    with pytest.raises(ValueError, match="origin"):
        rotation_statement(old, new, ROLES, name="new", origin="a b")
    with pytest.raises(KeyError):
        verify_rotation(ENVELOPE, trust=TRUST, position=at(5)).apply(Trust())
    with pytest.raises(TypeError):
        verify_rotation(b"", trust=TRUST, position=at(5))  # type: ignore[arg-type]


def test_the_statement_names_the_new_key() -> None:
    """The subject is the new key's DER, so it is found by its fingerprint."""
    statement = rotation_statement(OLD.verifier, NEW.verifier, ROLES, name="new", origin=LOG)

    assert statement.predicate_type == KEY_ROTATION
    assert statement.subject[0].digest == {"sha256": NEW.verifier.fingerprint[7:]}
    assert statement.predicate["old"] == OLD.verifier.fingerprint


def test_a_second_key_hands_over_to_its_kind() -> None:
    """An ML-DSA-44 key follows one, from the next size on, and witnesses stay in the trust."""
    old, new = (generate("mldsa-44", purposes={"log"}) for _ in range(2))
    first = generate("ed25519", purposes={"log"})
    seen = Witness("w", VKey("w", COSIGNATURE, generate("ed25519").verifier.raw))
    logs = [
        Identity(name=name, verifier=one.verifier, roles=frozenset({"log"}), origin=LOG)
        for name, one in (("first", first), ("second", old))
    ]
    trust = Trust(tuple(logs), witnesses=(seen,), quorum=1)

    after = apply_rotation(
        rotate(old, new, ["log"], name="third", origin=LOG), trust=trust, position=at(7)
    )
    assert {LOG: 7} == dict(after.identities[1].retired)
    assert ("third", 8, LOG) == (
        after.identities[2].name,
        after.identities[2].since,
        after.identities[2].origin,
    )
    assert ((seen,), 1) == (after.witnesses, after.quorum)
    for one, other in ((old, first), (first, new)):
        with pytest.raises(ValueError, match="hands over to an mldsa-44 key only"):
            rotation_statement(one.verifier, other.verifier, ["log"], name="x", origin=LOG)
