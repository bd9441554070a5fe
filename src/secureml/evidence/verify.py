"""
Verify: an envelope and a trust become evidence, or an error.

`Evidence` is a type-state: `verify` and `verify_bundle` are the only ways to
one, so a function that takes evidence cannot be handed a claim.

What is verified, in this order, each with its own error:

1. one signature, by a key that the trust names       UntrustedSignerError
2. it verifies over exactly these bytes               SignatureError
3. the identity has the role that was asked for       UntrustedSignerError
4. the identity is valid here                         ExpiredError
5. the bytes are a statement                          FormatError
6. such a statement is said in this role              UntrustedSignerError

Rules 3 to 6 come after the signature, so that an error never blames a role
for what was an altered file.

Source: ``docs/spec/trust-file.md``; DSSE v1; RFC 9162 section 2.1.3.2.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, final

from secureml._html import card
from secureml.clock import format_time, now, parse_time
from secureml.errors import (
    ExpiredError,
    InclusionError,
    SignatureError,
    UntrustedSignerError,
)
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.notes import VerifiedCheckpoint, verify_checkpoint
from secureml.evidence.trust import Identity, Position, Trust, check_role, check_trust
from secureml.wire import statement as predicates
from secureml.wire.bundle import KIND, Bundle, PublicKeyHint, TlogEntry
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.logentry import LogEntry
from secureml.wire.statement import Statement, Subject

__all__ = ["ROLE_OF", "Evidence", "check_validity", "verify", "verify_bundle"]

ROLE_OF: Final = MappingProxyType(
    {
        predicates.DATASET: "dataset",
        predicates.GATE_PLAN: "gate",
        predicates.TEST_RESULT: "gate",
        predicates.VSA: "gate",
        predicates.RUN_START: "run",
        predicates.RUN_FAILURE: "run",
        predicates.PROVENANCE: "run",
        predicates.OMS: "model",
        predicates.ANCHOR: "log",
        predicates.SEAL: "log",
        predicates.KEY_ROTATION: "log",
    }
)
"""Predicate type → the one role in which it is said.  Others are said in any role."""


@final
class Evidence(TypeState):
    """
    A statement whose signer, role and place were verified under a stated trust.

    Only `verify` and `verify_bundle` make one.

    Attributes:
        statement: What is said.
        envelope: The bytes that were signed.
        digest: SHA-256 of the payload: the name of the statement.
        signer: Who said it, according to the trust.
        role: In which role it was verified.
        position: Where a log holds it; None for a statement that is not logged.
        proof: ``signature``, or ``signature and inclusion``.
        checkpoint: The verified checkpoint it is included under, from a bundle; else None.
        trust_digest: Digest of the trust that decided.
    """

    __slots__ = (
        "checkpoint",
        "digest",
        "envelope",
        "position",
        "proof",
        "role",
        "signer",
        "statement",
        "trust_digest",
    )
    statement: Statement
    envelope: Envelope
    digest: Digest
    signer: Identity
    role: str
    position: Position | None
    proof: str
    checkpoint: VerifiedCheckpoint | None
    trust_digest: Digest

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What the statement is about."""
        return self.statement.subject

    @property
    def predicate_type(self) -> str:
        """What kind of statement it is."""
        return self.statement.predicate_type

    @property
    def predicate(self) -> Mapping[str, JSON]:
        """What the statement says."""
        return MappingProxyType(dict(self.statement.predicate))

    def __repr__(self) -> str:
        return (
            f"<Evidence {self.digest.short} {self.predicate_type} by {self.signer.name!r} "
            f"as {self.role}: {self.proof}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("statement", self.predicate_type),
            ("digest", self.digest),
            *(
                (f"about {subject.name}", ", ".join(f"{k}:{v}" for k, v in subject.digest.items()))
                for subject in self.subjects
            ),
            ("signer", f"{self.signer.name} ({self.role})"),
            ("key", self.signer.fingerprint),
            ("proof", self.proof),
        ]
        if self.position is not None:
            place = f"leaf {self.position.index} of {self.position.origin}"
            rows.append(("position", f"{place}, logged as {self.position.at}"))
        note = "development key" if self.signer.development else ""
        return card("Evidence", rows, note=note)


def verify(
    envelope: Envelope,
    *,
    trust: Trust,
    role: str,
    position: Position | None = None,
    at: datetime | None = None,
) -> Evidence:
    """
    Check who said *envelope*, and that *trust* lets them say it as *role*.

    Args:
        envelope: What was received.
        trust: The reviewed root; there is no default.
        role: The role that the statement has to be said in.
        position: Where a log that *was verified* holds this envelope; validity
            is then judged there.  Never take it from the thing being verified:
            for an envelope that brings its own proof, use `verify_bundle`.
        at: For an envelope without a position: the time of judgement, now by default.

    Raises:
        UntrustedSignerError: No trusted key signed it, or not one with *role*.
        SignatureError: A trusted key did not sign these bytes, or there is
            not exactly one signature.
        ExpiredError: The identity is not valid there, or then.
        FormatError: The payload is not a statement.
        TypeError, ValueError: Wrong arguments.
    """
    check_type(envelope, Envelope, "verify")
    return _verify(envelope, trust, role, position=position, at=at)


def verify_bundle(
    bundle: Bundle, *, trust: Trust, role: str, at: datetime | None = None
) -> Evidence:
    """
    Check an envelope that brings its own proof of being in a log.

    The checkpoint in the bundle must be signed by an identity with the role
    ``log`` for that origin; the entry must be included under it; and the entry
    must hold this very envelope.  Position and time come from the entry alone.

    Raises:
        InclusionError: The proof does not lead to the checkpoint, is for
            another envelope, or there is not exactly one.
        UntrustedSignerError, SignatureError, ExpiredError, FormatError: As
            `verify`, for the envelope and for the checkpoint.
        TypeError, ValueError: Wrong arguments.
    """
    check_type(bundle, Bundle, "verify_bundle")
    check_trust(trust)
    check_role(role)
    envelope = bundle.envelope
    if not isinstance(bundle.material, PublicKeyHint):
        raise UntrustedSignerError(
            "the bundle names its signer in a way that the trust file cannot pin",
            why=f"it brings a {type(bundle.material).__name__}; a trust file names public keys",
            fix="have the statement signed with a key, and pin that key in the trust file",
        )
    if {signature.keyid for signature in envelope.signatures} - {"", bundle.material.hint}:
        raise SignatureError(
            "the bundle and its envelope name different keys",
            why=f"hint {bundle.material.hint[:16]}… outside, another one inside",
            fix="get the bundle again from where it was made",
        )
    entry = _entry(bundle)
    checkpoint = verify_checkpoint(entry.checkpoint, trust=trust, role="log", at=at)
    _check_inclusion(entry, checkpoint)
    leaf = LogEntry.decode(entry.body)
    if leaf.envelope is not None:
        same = leaf.envelope.encode() == envelope.encode()
    else:
        data = envelope.encode()
        same = (
            leaf.blob is not None
            and leaf.blob.digest == Digest.sha256(data)
            and leaf.blob.size == len(data)
        )
    if not same:
        raise InclusionError(
            f"leaf {entry.log_index} of {checkpoint.origin} holds another envelope",
            why="the bundle brings the proof of a different statement",
            fix="get the bundle again from the log; do not use this one",
        )
    position = Position(checkpoint.origin, entry.log_index, leaf.at)
    return _verify(
        envelope, trust, role, position=position, checkpoint=checkpoint, hint=bundle.material.hint
    )


def check_validity(
    identity: Identity, *, position: Position | None = None, at: datetime | None = None
) -> None:
    """
    Check that *identity* is valid at *position*, or for lack of one at the time *at*.

    Raises:
        ExpiredError: It was retired before that leaf, or is outside its dates.
        FormatError: The time of the position is none.
    """
    if position is None:
        if at is not None and at.tzinfo is None:
            msg = f"at needs a time zone, got {at!r}"
            raise ValueError(msg)
        if identity.retired:
            raise ExpiredError(
                f"the key of {identity.name!r} is retired, and the statement is not in a log",
                why="without a place in a log, nothing shows that it was signed before "
                + ", ".join(f"leaf {i} of {o}" for o, i in identity.retired.items()),
                fix="give the bundle with the inclusion proof, or have it signed by a valid key",
            )
        time, source = at or now(), "judged at"
    else:
        limit = identity.retired.get(position.origin)
        if limit is not None and position.index >= limit:
            raise ExpiredError(
                f"the key of {identity.name!r} signed leaf {position.index} of "
                f"{position.origin}, after it was retired",
                why=f"the trust file retired it at leaf {limit}; the time in the leaf does not "
                "matter, its place does",
                fix="have it signed by a valid key; if that leaf is not yours, the old key was "
                "stolen",
            )
        time, source = parse_time(position.at), "logged at"
    for wrong, edge, limit_at in (
        (identity.not_before is not None and time < identity.not_before, "before", "not_before"),
        (identity.not_after is not None and time > identity.not_after, "after", "not_after"),
    ):
        if wrong:
            raise ExpiredError(
                f"the statement by {identity.name!r} lies {edge} the validity of the key",
                why=f"{source} {format_time(time)}, and the trust file says {limit_at} = "
                f"{getattr(identity, limit_at).isoformat()}",
                fix="have it signed by a valid key, or review the dates in the trust file",
            )


def _verify(
    envelope: Envelope,
    trust: Trust,
    role: str,
    *,
    position: Position | None,
    at: datetime | None = None,
    checkpoint: VerifiedCheckpoint | None = None,
    hint: str = "",
) -> Evidence:
    check_trust(trust)
    check_role(role)
    signer = _signer(envelope, trust, hint)
    if role not in signer.roles:
        raise UntrustedSignerError(
            f"{signer.name!r} signed this, but not as {role!r}",
            why=f"the trust file gives {signer.name!r} ({signer.verifier.short}) the roles "
            f"{signer.listed_roles}",
            fix=f"have it signed by an identity with the role {role!r}, or review whether this "
            "one should have it",
        )
    check_validity(signer, position=position, at=at)
    statement = envelope.statement()
    needed = ROLE_OF.get(statement.predicate_type, role)
    if needed != role:
        raise UntrustedSignerError(
            f"a statement of type {statement.predicate_type} is not said as {role!r}",
            why=f"it belongs to the role {needed!r} (docs/spec/trust-file.md)",
            fix=f"verify it with role={needed!r}, or look for the statement that you meant",
        )
    return Evidence(
        TOKEN,
        statement=statement,
        envelope=envelope,
        digest=envelope.digest,
        signer=signer,
        role=role,
        position=position,
        proof="signature" if position is None else "signature and inclusion",
        checkpoint=checkpoint,
        trust_digest=trust.digest,
    )


def _signer(envelope: Envelope, trust: Trust, hint: str) -> Identity:
    if len(envelope.signatures) != 1:
        count = len(envelope.signatures)
        raise SignatureError(
            f"the envelope has {count or 'no'} signatures, and one is expected",
            why="what a further signature means is not defined, so none is left unchecked"
            if count
            else "nobody signed it",
            fix="get the envelope again from its signer",
        )
    signature = envelope.signatures[0]
    hint = signature.keyid or hint
    message = envelope.signed_bytes()
    if hint:
        identity = trust.find(hint=hint)
        if identity is None:
            raise _unknown(f"the key whose PEM text has the SHA-256 {hint[:80]!a}", trust)
        identity.verifier.verify(signature.sig, message)
        return identity
    for identity in trust.identities:
        try:
            identity.verifier.verify(signature.sig, message)
        except SignatureError:
            continue
        return identity
    raise _unknown("a key that the envelope does not name, or the bytes were altered", trust)


def _unknown(signer: str, trust: Trust) -> UntrustedSignerError:
    known = ", ".join(f"{i.name} {i.verifier.short}" for i in trust.identities[:8])
    return UntrustedSignerError(
        "no identity in the trust file signed this",
        why=f"it was signed by {signer}; the trust file names "
        + (known or "nobody")
        + (", …" if trust.identities[8:] else ""),
        fix="if you know whose key that is, get its PEM from them over a way you trust, and add "
        "an [[identity]] block with its roles to the trust file; else do not use this",
    )


def _entry(bundle: Bundle) -> TlogEntry:
    if len(bundle.tlog_entries) != 1:
        raise InclusionError(
            f"the bundle has {len(bundle.tlog_entries) or 'no'} log entries, and one is expected",
            why="only one entry with an inclusion proof gives a statement its place",
            fix="export the bundle from the log; an envelope alone is verified with verify(...)",
        )
    entry = bundle.tlog_entries[0]
    if not isinstance(entry, TlogEntry):
        raise InclusionError(
            "the log entry in the bundle is not one of a secureml log",
            why=f"its kind is not {KIND!r}",
            fix="verify it with the tool of that log; here it proves nothing",
        )
    return entry


def _check_inclusion(entry: TlogEntry, checkpoint: VerifiedCheckpoint) -> None:
    """Check against what is signed: size and root come from the checkpoint alone."""
    if f"sha256:{entry.log_id.hex()}" != checkpoint.signer.fingerprint:
        raise InclusionError(
            "the log entry in the bundle names another key than the one of its log",
            why=f"its log id is {entry.log_id.hex()[:16]}…, and the checkpoint is signed by "
            f"{checkpoint.signer.verifier.short}",
            fix="get the bundle again from the log; do not use this one",
        )
    entry.inclusion.verify(entry.body, size=checkpoint.size, root=checkpoint.root)


def check_type(value: object, kind: type, function: str) -> None:
    """Raise `TypeError` when *function* was given something else than a *kind*."""
    if not isinstance(value, kind):
        more = "; a bundle is verified with verify_bundle" if isinstance(value, Bundle) else ""
        msg = f"{function} takes {kind.__name__}, not {type(value).__name__}{more}"
        raise TypeError(msg)
