"""
What the types promise; checked by mypy, never run.

Each ``type: ignore`` here is a promise that the line is an error: mypy warns
about one that is not needed.
"""

from typing import assert_type

from secureml.evidence.attest import attest
from secureml.evidence.notes import VerifiedCheckpoint, sign_checkpoint, verify_checkpoint
from secureml.evidence.subject import SubjectLike, VerifiedSubject
from secureml.evidence.trust import Trust
from secureml.evidence.verify import Evidence, verify, verify_bundle
from secureml.keys import KeySigner, Signer, Verifier, generate
from secureml.wire.bundle import Bundle
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.dsse import Envelope
from secureml.wire.statement import Statement


def relies_on(evidence: Evidence) -> None:
    """Stand for any function that takes what was verified."""


def relies_on_checkpoint(checkpoint: VerifiedCheckpoint) -> None:
    """Stand for any function that takes a verified checkpoint."""


def a_claim_is_not_evidence(envelope: Envelope, bundle: Bundle, statement: Statement) -> None:
    """Neither an envelope, nor a bundle, nor a statement passes for evidence."""
    relies_on(envelope)  # type: ignore[arg-type]
    relies_on(bundle)  # type: ignore[arg-type]
    relies_on(statement)  # type: ignore[arg-type]


def verification_makes_evidence(envelope: Envelope, bundle: Bundle, trust: Trust) -> None:
    """The two verbs return evidence, and trust has no default."""
    assert_type(verify(envelope, trust=trust, role="run"), Evidence)
    assert_type(verify_bundle(bundle, trust=trust, role="run"), Evidence)
    verify(envelope, role="run")  # type: ignore[call-arg]
    verify(envelope, trust=trust)  # type: ignore[call-arg]
    verify(bundle, trust=trust, role="run")  # type: ignore[arg-type]


def a_note_is_not_a_verified_checkpoint(checkpoint: Checkpoint, trust: Trust) -> None:
    """What a log says is told apart from what was verified."""
    note = sign_checkpoint(checkpoint, generate("ed25519", purposes={"log"}))
    relies_on_checkpoint(note)  # type: ignore[arg-type]
    relies_on_checkpoint(checkpoint)  # type: ignore[arg-type]
    relies_on_checkpoint(verify_checkpoint(note, trust=trust))


def a_key_signer_is_a_signer(signer: KeySigner, statement: Statement) -> None:
    """The class meets the protocol, and a verifier does not sign."""
    anything: Signer = signer
    assert_type(attest(statement, anything), Envelope)
    attest(statement, signer.verifier)  # type: ignore[arg-type]
    assert_type(signer.verifier, Verifier)


def a_subject_is_not_verified(subject: SubjectLike, verified: VerifiedSubject) -> None:
    """A verified subject is a subject; the other way round it is not."""
    one: SubjectLike = verified
    other: VerifiedSubject = subject  # type: ignore[assignment]
    relies_on(other.evidence)
    relies_on(one)  # type: ignore[arg-type]
