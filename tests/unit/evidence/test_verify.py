"""Verifying an envelope: who said it, in which role, and whether they still could."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from secureml.clock import format_time
from secureml.errors import (
    ExpiredError,
    FormatError,
    KeyRoleError,
    SecureMLError,
    SignatureError,
    UntrustedSignerError,
)
from secureml.evidence.attest import attest
from secureml.evidence.trust import ROLES, Identity, Position, Trust
from secureml.evidence.verify import ROLE_OF, Evidence, verify
from secureml.keys import SCHEMES, KeySigner, generate
from secureml.wire import statement as st
from secureml.wire.bundle import Bundle, PublicKeyHint
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.statement import PAYLOAD_TYPE, Statement, Subject

LOG = "secureml.local/a"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIGNER, OTHER = generate(), generate("ed25519")
STATEMENT = Statement((Subject("x", Digest.sha256(b"x").as_set()),), st.DATASET, {"source": "UCI"})
ENVELOPE = attest(STATEMENT, SIGNER)


def identity(signer: KeySigner = SIGNER, **values: object) -> Identity:
    """Make the identity of *signer*."""
    defaults = {"name": "training", "verifier": signer.verifier, "roles": {"dataset", "gate"}}
    return Identity(**{**defaults, **values})  # type: ignore[arg-type]


TRUST = Trust((identity(), identity(OTHER, name="other", roles={"model"})))


def at(index: int, time: datetime = NOON, origin: str = LOG) -> Position:
    """Make a position in a log."""
    return Position(origin, index, format_time(time))


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"mldsa-44"}))
def test_what_was_attested_is_verified(scheme: str) -> None:
    """Evidence says who said what, in which role, under which trust, and what proves it."""
    signer = generate(scheme)
    trust = Trust((identity(signer),))

    evidence = verify(attest(STATEMENT, signer), trust=trust, role="dataset")

    assert evidence.statement == STATEMENT
    assert evidence.digest == Digest.sha256(STATEMENT.encode())
    assert evidence.signer == trust.identities[0]
    assert evidence.role == "dataset"
    assert evidence.position is None
    assert evidence.checkpoint is None
    assert evidence.proof == "signature"
    assert evidence.trust_digest == trust.digest
    assert evidence.subjects == STATEMENT.subject
    assert evidence.predicate_type == st.DATASET
    assert evidence.predicate == {"source": "UCI"}


def test_a_position_is_part_of_the_proof() -> None:
    """With a place in a verified log, inclusion is named."""
    evidence = verify(ENVELOPE, trust=TRUST, role="dataset", position=at(3))

    assert evidence.position == at(3)
    assert evidence.proof == "signature and inclusion"


def test_the_keyid_is_the_hint_of_the_key() -> None:
    """An envelope names its key as model signatures do."""
    assert ENVELOPE.signatures[0].keyid == SIGNER.verifier.hint


def test_a_key_attests_within_its_purposes() -> None:
    """A key for checkpoints does not sign statements, unless asked as what it is."""
    signer = generate("ed25519", purposes={"log"})

    with pytest.raises(KeyRoleError):
        attest(STATEMENT, signer)

    trust = Trust((identity(signer, roles={"dataset"}),))
    verify(attest(STATEMENT, signer, purpose="log"), trust=trust, role="dataset")


def test_an_unknown_signer_is_named_with_what_to_do() -> None:
    """The error tells the key that was found, the keys that are known, and how to pin one."""
    stranger = generate()

    with pytest.raises(UntrustedSignerError) as caught:
        verify(attest(STATEMENT, stranger), trust=TRUST, role="dataset")

    assert stranger.verifier.hint in caught.value.why
    assert f"training {SIGNER.verifier.fingerprint[:23]}…" in caught.value.why
    assert "[[identity]]" in caught.value.fix
    with pytest.raises(UntrustedSignerError, match="names nobody"):
        verify(ENVELOPE, trust=Trust(), role="dataset")


def test_a_role_that_was_not_given_is_refused() -> None:
    """The error names the role that was needed, and the roles there are."""
    with pytest.raises(UntrustedSignerError, match=r"(?s)not as 'run'.*dataset, gate"):
        verify(ENVELOPE, trust=TRUST, role="run")


def test_an_altered_file_is_not_blamed_on_the_role() -> None:
    """A bad signature is reported before a missing role."""
    broken = replace(ENVELOPE, payload=ENVELOPE.payload + b" ")

    with pytest.raises(SignatureError):
        verify(broken, trust=TRUST, role="run")


@pytest.mark.parametrize("role", ROLES)
def test_a_statement_is_said_in_its_role(role: str) -> None:
    """A key with all roles cannot pass off a dataset statement as a gate's, or any other's."""
    trust = Trust((identity(roles=set(ROLES), origin=LOG),))
    own = Statement(STATEMENT.subject, "https://example.org/own/v1", {})

    verify(attest(own, SIGNER), trust=trust, role=role)
    for predicate_type, belongs in ROLE_OF.items():
        envelope = attest(Statement(STATEMENT.subject, predicate_type, {}), SIGNER)
        if belongs == role:
            assert verify(envelope, trust=trust, role=role).role == role
        else:
            with pytest.raises(UntrustedSignerError, match=f"belongs to the role '{belongs}'"):
                verify(envelope, trust=trust, role=role)


def test_without_a_keyid_every_trusted_key_is_tried() -> None:
    """Model signatures may name no key; another key's signature is then untrusted."""
    nameless = replace(ENVELOPE, signatures=(Signature("", ENVELOPE.signatures[0].sig),))

    assert verify(nameless, trust=TRUST, role="dataset").signer.name == "training"
    with pytest.raises(UntrustedSignerError, match="not as 'model'"):
        verify(nameless, trust=TRUST, role="model")
    with pytest.raises(UntrustedSignerError, match="does not name"):
        verify(nameless, trust=Trust(TRUST.identities[1:]), role="model")


def test_a_second_signature_is_refused() -> None:
    """Neither junk nor a good second signature is passed over."""
    good = ENVELOPE.signatures[0]
    message = pae(PAYLOAD_TYPE, ENVELOPE.payload)
    second = Signature(OTHER.verifier.hint, OTHER.sign(message, purpose="statements"))

    for signatures in ((good, good), (good, second), (Signature("", b"junk"), good)):
        with pytest.raises(SignatureError, match="has 2 signatures"):
            verify(replace(ENVELOPE, signatures=signatures), trust=TRUST, role="dataset")


def test_what_is_signed_has_to_be_a_statement() -> None:
    """A good signature over something else is a format error."""
    for kind, payload in (("text/plain", STATEMENT.encode()), (PAYLOAD_TYPE, b"{}")):
        signature = SIGNER.sign(pae(kind, payload), purpose="statements")
        envelope = Envelope(kind, payload, (Signature(SIGNER.verifier.hint, signature),))

        with pytest.raises(FormatError):
            verify(envelope, trust=TRUST, role="dataset")


@pytest.mark.parametrize(
    ("index", "origin", "good"),
    [(0, LOG, True), (6, LOG, True), (7, LOG, False), (8, LOG, False), (8, "elsewhere", True)],
)
def test_a_retired_key_is_valid_before_its_leaf(index: int, origin: str, good: bool) -> None:  # noqa: FBT001  a parameter
    """The first leaf that is refused is the one that the trust file names, in that log."""
    trust = Trust((identity(retired={LOG: 7}),))
    position = at(index, origin=origin)

    if good:
        assert verify(ENVELOPE, trust=trust, role="dataset", position=position).position
    else:
        with pytest.raises(ExpiredError, match="after it was retired"):
            verify(ENVELOPE, trust=trust, role="dataset", position=position)


def test_back_dating_does_not_help_a_retired_key() -> None:
    """The time in a leaf is the log's claim: the place decides."""
    trust = Trust((identity(retired={LOG: 7}),))
    early = datetime(2000, 1, 1, tzinfo=UTC)

    with pytest.raises(ExpiredError, match="its place does"):
        verify(ENVELOPE, trust=trust, role="dataset", position=at(7, early))


def test_an_unlogged_statement_by_a_retired_key_is_refused() -> None:
    """Without a place nothing shows when it was signed, whatever time is claimed."""
    trust = Trust((identity(retired={LOG: 7}),))

    with pytest.raises(ExpiredError, match=r"(?s)not in a log.*leaf 7 of secureml\.local/a"):
        verify(ENVELOPE, trust=trust, role="dataset", at=datetime(2000, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("logged", [True, False])
def test_dates_are_inclusive(logged: bool) -> None:  # noqa: FBT001  a parameter
    """A key is valid at both of its dates, and at no moment outside of them."""
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    trust = Trust((identity(not_before=start, not_after=end),))
    tick = datetime.resolution

    def judge(time: datetime) -> Evidence:
        if logged:
            now = datetime(1990, 1, 1, tzinfo=UTC)
            return verify(ENVELOPE, trust=trust, role="dataset", position=at(0, time), at=now)
        return verify(ENVELOPE, trust=trust, role="dataset", at=time)

    judge(start)
    judge(end)
    with pytest.raises(ExpiredError, match="before the validity"):
        judge(start - tick)
    with pytest.raises(ExpiredError, match="after the validity"):
        judge(end + tick)


def test_without_a_time_it_is_judged_now() -> None:
    """A key whose dates are over does not verify an unlogged statement today."""
    trust = Trust((identity(not_after=datetime(2020, 1, 1, tzinfo=UTC)),))

    with pytest.raises(ExpiredError):
        verify(ENVELOPE, trust=trust, role="dataset")


def test_a_position_with_a_broken_time_is_refused() -> None:
    """The time of a leaf comes from outside."""
    with pytest.raises(FormatError):
        verify(ENVELOPE, trust=TRUST, role="dataset", position=Position(LOG, 0, "yesterday"))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: verify(ENVELOPE, trust=None, role="dataset"), TypeError),  # type: ignore[arg-type]
        (lambda: verify(ENVELOPE, trust="trust.toml", role="dataset"), TypeError),  # type: ignore[arg-type]
        (lambda: verify(ENVELOPE.encode(), trust=TRUST, role="dataset"), TypeError),  # type: ignore[arg-type]
        (
            lambda: verify(Bundle(ENVELOPE, PublicKeyHint("x")), trust=TRUST, role="dataset"),  # type: ignore[arg-type]
            TypeError,
        ),
        (lambda: verify(ENVELOPE, trust=TRUST, role="root"), ValueError),
        (
            lambda: verify(ENVELOPE, trust=TRUST, role="dataset", at=datetime(2026, 1, 1)),  # noqa: DTZ001  the mistake
            ValueError,
        ),
    ],
)
def test_the_callers_bugs(call: Callable[[], object], error: type[Exception]) -> None:
    """Wrong arguments are TypeError and ValueError, never a verdict."""
    with pytest.raises(error) as caught:
        call()

    assert not isinstance(caught.value, SecureMLError)


def test_what_a_notebook_shows() -> None:
    """The card names signer, role, key, proof and place, escaped."""
    trust = Trust((identity(name="<b>", development=True),))
    evidence = verify(ENVELOPE, trust=trust, role="dataset", position=at(3))
    html = evidence._repr_html_()

    assert "&lt;b&gt; (dataset)" in html
    assert SIGNER.verifier.fingerprint in html
    assert "leaf 3 of secureml.local/a" in html
    assert "development key" in html
    assert "signature and inclusion" in repr(evidence)
    assert "leaf" not in verify(ENVELOPE, trust=trust, role="dataset")._repr_html_()
