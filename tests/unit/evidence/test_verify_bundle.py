"""Verifying an envelope that brings its own proof of being in a log."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from secureml.errors import (
    ExpiredError,
    FormatError,
    InclusionError,
    SignatureError,
    UntrustedSignerError,
)
from secureml.evidence.attest import attest
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.trust import Identity, Position, Trust
from secureml.evidence.verify import verify_bundle
from secureml.keys import generate
from secureml.wire import merkle
from secureml.wire.bundle import (
    KIND,
    VERSION,
    Bundle,
    CertificateChain,
    ForeignTlogEntry,
    LegacyPublicKey,
    PublicKeyHint,
    TlogEntry,
)
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.logentry import BlobRef, LogEntry
from secureml.wire.statement import DATASET, VSA, Statement, Subject

ORIGIN = "secureml.local/a"
SIGNER = generate()
LOG, OTHER_LOG = (generate("ed25519", purposes={"log"}) for _ in range(2))
ME = Identity(name="training", verifier=SIGNER.verifier, roles=frozenset({"dataset", "gate"}))
ITS_LOG = Identity(name="log", verifier=LOG.verifier, roles=frozenset({"log"}), origin=ORIGIN)
TRUST = Trust((ME, ITS_LOG))


def time(index: int) -> str:
    """Return the time that leaf *index* claims."""
    return f"2026-01-01T00:00:{index:02}.000000Z"


def envelope(number: int, *, size: int = 0, kind: str = DATASET) -> Envelope:
    """Sign a statement about *number*, made longer by *size*."""
    subject = Subject(str(number), {"sha256": f"{number:064x}"})
    return attest(Statement((subject,), kind, {"pad": "x" * size}), SIGNER)


ENVELOPES = [envelope(number) for number in range(5)] + [envelope(5, size=70_000)]
LEAVES = [LogEntry.of(e, time(index))[0] for index, e in enumerate(ENVELOPES)]


def entry(index: int, leaves: Sequence[bytes] = LEAVES, *, origin: str = ORIGIN) -> TlogEntry:
    """Prove leaf *index*, from all hashes of the tree."""
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    root = merkle.root(hashes)

    def node(level: int, at: int) -> bytes:
        return merkle.root(hashes[at << level : (at + 1) << level])

    return TlogEntry(
        log_index=index,
        log_id=hashlib.sha256(LOG.verifier.der).digest(),
        kind=KIND,
        version=VERSION,
        body=leaves[index],
        tree_size=len(leaves),
        root=root,
        path=merkle.inclusion_path(index, len(leaves), node),
        checkpoint=sign_checkpoint(Checkpoint(origin, len(leaves), root), LOG),
    )


def bundle(index: int, **changes: object) -> Bundle:
    """Make the bundle of leaf *index*, with some fields of its entry changed."""
    one = replace(entry(index), **changes)  # type: ignore[arg-type]
    return Bundle(ENVELOPES[index], PublicKeyHint(SIGNER.verifier.hint), (one,))


@pytest.mark.parametrize("index", range(6))
def test_each_leaf_is_proven(index: int) -> None:
    """Position and time come from the entry, one that lies in a blob included."""
    made = Bundle.decode(bundle(index).encode())

    evidence = verify_bundle(made, trust=TRUST, role="dataset")

    assert evidence.position == Position(ORIGIN, index, time(index))
    assert evidence.proof == "signature and inclusion"
    assert evidence.envelope == ENVELOPES[index]
    assert evidence.signer == ME
    assert evidence.checkpoint is not None
    assert (evidence.checkpoint.size, evidence.checkpoint.signer) == (6, ITS_LOG)


@pytest.mark.parametrize("index", [0, 5])
def test_the_entry_holds_this_very_envelope(index: int) -> None:
    """A good envelope beside the proof of another is refused, in a blob too."""
    swapped = replace(bundle(index), envelope=ENVELOPES[1])

    with pytest.raises(InclusionError, match=f"leaf {index} of {ORIGIN} holds another envelope"):
        verify_bundle(swapped, trust=TRUST, role="dataset")


def test_a_blob_of_the_same_length_is_another_envelope() -> None:
    """A leaf that names a blob names its digest, not only its length."""
    size = len(ENVELOPES[5].encode())
    other = next(
        e for e in iter(lambda: envelope(6, size=70_000), None) if size == len(e.encode())
    )

    with pytest.raises(InclusionError, match="holds another envelope"):
        verify_bundle(replace(bundle(5), envelope=other), trust=TRUST, role="dataset")


def test_a_blob_of_another_length_is_refused() -> None:
    """A leaf that states a length states the right one."""
    data = ENVELOPES[5].encode()
    leaf = LogEntry(time(0), None, BlobRef(Digest.sha256(data), len(data) + 1)).encode()

    with pytest.raises(InclusionError, match="holds another envelope"):
        verify_bundle(
            replace(bundle(5), tlog_entries=(entry(0, [leaf]),)), trust=TRUST, role="dataset"
        )


def test_a_second_signature_over_the_same_statement_is_another_envelope() -> None:
    """ECDSA signs differently each time; only the logged signature has the place."""
    resigned = replace(bundle(0), envelope=attest(ENVELOPES[0].statement(), SIGNER))

    with pytest.raises(InclusionError):
        verify_bundle(resigned, trust=TRUST, role="dataset")


@pytest.mark.parametrize(
    "changes",
    [
        {"log_index": 1},
        {"log_index": 5},
        {"body": LEAVES[1]},
        {"path": entry(1).path},
        {"path": entry(0).path[:-1]},
        {"path": (*entry(0).path, bytes(32))},
        {"log_id": bytes(32)},
    ],
)
def test_a_proof_that_does_not_hold_is_refused(changes: dict[str, object]) -> None:
    """Index, body, path and log id are all covered."""
    with pytest.raises(InclusionError):
        verify_bundle(bundle(0, **changes), trust=TRUST, role="dataset")


def test_the_checkpoint_is_of_a_trusted_log() -> None:
    """A log that the trust file does not name proves nothing."""
    other = entry(0, origin="elsewhere")
    forged = sign_checkpoint(entry(0).head, OTHER_LOG)

    for one in (other, replace(entry(0), checkpoint=forged)):
        with pytest.raises(UntrustedSignerError, match="no identity with the role 'log'"):
            verify_bundle(replace(bundle(0), tlog_entries=(one,)), trust=TRUST, role="dataset")
    audit = Trust((ME, replace(ITS_LOG, roles=frozenset({"audit"}))))
    with pytest.raises(UntrustedSignerError):
        verify_bundle(bundle(0), trust=audit, role="dataset")


def test_who_signs_statements_does_not_sign_logs() -> None:
    """The key of the statements does not make a log of its own."""
    trust = Trust((ME, replace(ITS_LOG, origin="secureml.local/b")))

    with pytest.raises(UntrustedSignerError):
        verify_bundle(bundle(0), trust=trust, role="dataset")


def test_the_rules_of_verify_hold() -> None:
    """Role, signer and what is said in a role are judged as without a log."""
    wrong = LogEntry.of(envelope(0, kind=VSA), time(0))[0]
    gate = Bundle(
        envelope=LogEntry.decode(wrong).envelope or ENVELOPES[0],
        material=PublicKeyHint(SIGNER.verifier.hint),
        tlog_entries=(entry(0, [wrong]),),
    )

    assert verify_bundle(gate, trust=TRUST, role="gate").predicate_type == VSA
    for made, trust, role in (
        (gate, TRUST, "dataset"),
        (bundle(0), TRUST, "run"),
        (bundle(0), Trust((ITS_LOG,)), "dataset"),
    ):
        with pytest.raises(UntrustedSignerError):
            verify_bundle(made, trust=trust, role=role)


def test_validity_is_judged_at_the_place() -> None:
    """A key that was retired at leaf 3 keeps leaves 0 to 2."""
    trust = Trust((replace(ME, retired={ORIGIN: 3}), ITS_LOG))

    for index in range(3):
        verify_bundle(bundle(index), trust=trust, role="dataset")
    for index in range(3, 6):
        with pytest.raises(ExpiredError):
            verify_bundle(bundle(index), trust=trust, role="dataset")


def test_a_retired_log_key_keeps_its_old_checkpoints() -> None:
    """A checkpoint of six leaves is good for a log key that was retired at leaf six."""
    for limit in (5, 6):
        trust = Trust((ME, replace(ITS_LOG, retired={ORIGIN: limit})))
        if limit == 6:
            verify_bundle(bundle(0), trust=trust, role="dataset")
        else:
            with pytest.raises(ExpiredError):
                verify_bundle(bundle(0), trust=trust, role="dataset")


def test_the_dates_of_a_log_key_are_judged_at_a_stated_time() -> None:
    """The checkpoint has no time in it: the caller's counts, or now."""
    end = datetime(2020, 1, 1, tzinfo=UTC)
    trust = Trust((ME, replace(ITS_LOG, not_after=end)))

    verify_bundle(bundle(0), trust=trust, role="dataset", at=end)
    with pytest.raises(ExpiredError):
        verify_bundle(bundle(0), trust=trust, role="dataset")


def test_one_entry_of_ours_is_expected() -> None:
    """None, two, or one of another log: there is no place to judge."""
    foreign = ForeignTlogEntry(b'{"kindVersion":{"kind":"dsse","version":"0.0.1"}}')
    for entries in ((), (entry(0), entry(0)), (foreign,)):
        with pytest.raises(InclusionError):
            verify_bundle(replace(bundle(0), tlog_entries=entries), trust=TRUST, role="dataset")


def test_a_key_inside_the_bundle_is_no_root() -> None:
    """Keys and certificates that a bundle brings are not looked at."""
    der = SIGNER.verifier.der
    for material in (CertificateChain((der,)), LegacyPublicKey(der)):
        with pytest.raises(UntrustedSignerError, match="names public keys"):
            verify_bundle(replace(bundle(0), material=material), trust=TRUST, role="dataset")


def test_the_bundle_and_the_envelope_name_one_key() -> None:
    """Two hints that differ are refused."""
    with pytest.raises(SignatureError, match="different keys"):
        verify_bundle(
            replace(bundle(0), material=PublicKeyHint("00")), trust=TRUST, role="dataset"
        )


def test_a_leaf_that_is_no_entry_is_refused() -> None:
    """A body that is included, and is not a leaf of a statement log, is a format error."""
    made = replace(bundle(0), tlog_entries=(entry(0, [b"{}"]),))

    with pytest.raises(FormatError):
        verify_bundle(made, trust=TRUST, role="dataset")


def test_the_callers_bugs() -> None:
    """Wrong arguments are TypeError and ValueError."""
    with pytest.raises(TypeError, match="verify_bundle takes Bundle, not Envelope"):
        verify_bundle(ENVELOPES[0], trust=TRUST, role="dataset")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        verify_bundle(bundle(0), trust=None, role="dataset")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="root"):
        verify_bundle(bundle(0), trust=TRUST, role="root")
