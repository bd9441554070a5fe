"""
Signed checkpoints: what a log says its contents are, as a C2SP signed note.

The name of the key in a note is the origin of the log.  A checkpoint has no
time in it, so a retired key is judged by size: a key that was retired at leaf
12 is good for checkpoints of at most 12 leaves.

The signature is Ed25519, which every tool of the field can check.  On request
a second one stands beside it, by an ML-DSA-44 key of the same log, which also
holds where Ed25519 is broken.  A trust that names such a key demands both:
else whoever breaks the one would simply leave the other out.

Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import final

from secureml._html import card
from secureml.clock import format_time, now
from secureml.errors import (
    ExpiredError,
    FormatError,
    SignatureError,
    ThresholdError,
    UntrustedSignerError,
)
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.trust import LOG_ROLES, Identity, Trust, check_trust
from secureml.keys import Signer
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.cosignature import join_timestamp, split_timestamp, subtree_message
from secureml.wire.digest import Digest
from secureml.wire.note import ED25519, MLDSA44, Note, NoteSignature, key_id

__all__ = ["VerifiedCheckpoint", "add_signatures", "judge", "sign_checkpoint", "verify_checkpoint"]

_TYPES = {"ed25519": ED25519, "mldsa-44": MLDSA44}


@final
class VerifiedCheckpoint(TypeState):
    """
    A checkpoint that a trusted identity signed for its own log.

    Only `verify_checkpoint` makes one, and a chain of epoch keys for its log.

    Attributes:
        origin: The name of the log.
        size: Number of leaves.
        root: RFC 6962 root hash of these leaves, 32 bytes.
        note: The note, as received.
        signer: Who signed it.
        also: Whose ML-DSA-44 signatures are there, too.
        trust_digest: Digest of the trust that decided.
    """

    __slots__ = ("also", "note", "origin", "root", "signer", "size", "trust_digest")
    origin: str
    size: int
    root: bytes
    note: str
    signer: Identity
    also: tuple[Identity, ...]
    trust_digest: Digest

    def __repr__(self) -> str:
        return (
            f"<VerifiedCheckpoint {self.origin} size {self.size} root {self.root.hex()[:16]}… "
            f"by {self.signer.name!r}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("log", self.origin),
            ("leaves", self.size),
            ("root", self.root.hex()),
            ("signer", self.signer.name),
            ("key", self.signer.fingerprint),
            *(("and by", one.name) for one in self.also),
        ]
        return card("Checkpoint", rows)


def sign_checkpoint(
    checkpoint: Checkpoint, signer: Signer, *, purpose: str = "log", also: Sequence[Signer] = ()
) -> str:
    """
    Return *checkpoint* as a note that the log's keys signed.

    An ML-DSA-44 signature has a place for a time; 0 stands there, which says
    nothing of it, for a checkpoint of ours has no time.

    Args:
        checkpoint: What is signed.
        signer: An Ed25519 key; its line is the first.
        purpose: ``log``, or ``audit`` for an audit log.
        also: ML-DSA-44 keys of the same log, one as a rule.

    Raises:
        KeyRoleError: A key does not sign for *purpose*.
        ValueError: Another purpose, a key of another scheme, or for
            ML-DSA-44 an origin above 255 bytes or extension lines.
    """
    if purpose not in LOG_ROLES:
        msg = f"a checkpoint is signed for the purpose log or audit, not {purpose!r}"
        raise ValueError(msg)
    text, origin = checkpoint.encode(), checkpoint.origin
    lines = []
    for one, scheme in ((signer, "ed25519"), *((other, "mldsa-44") for other in also)):
        verifier = one.verifier
        if verifier.scheme != scheme:
            msg = "a checkpoint is signed with an ed25519 key, and on request with an mldsa-44 "
            msg += f"key also; a key of scheme {verifier.scheme} stands where {scheme} belongs"
            raise ValueError(msg)
        if scheme == "ed25519":
            signature = one.sign(text.encode(), purpose=purpose)
        else:
            message = subtree_message(checkpoint, name=origin, timestamp=0)
            signature = join_timestamp(0, one.sign(message, purpose=purpose))
        lines.append(
            NoteSignature(origin, key_id(origin, _TYPES[scheme], verifier.raw), signature)
        )
    return Note(text, tuple(lines)).encode()


def add_signatures(note: str, lines: Iterable[NoteSignature]) -> str:
    """
    Return *note* with the lines of witnesses under its own, each once.

    Raises:
        FormatError: *note* is no signed note.
        ValueError: More than a hundred signatures, or more than 1,000,000 bytes.
    """
    opened = Note.decode(note)
    return Note(opened.text, tuple(dict.fromkeys((*opened.signatures, *lines)))).encode()


def verify_checkpoint(
    note: str,
    *,
    trust: Trust,
    role: str = "log",
    strict: bool = False,
    at: datetime | None = None,
) -> VerifiedCheckpoint:
    """
    Check that an identity of the log signed this checkpoint.

    Signatures by keys that the trust does not name for this log are ignored,
    as the format asks (witnesses add theirs), unless *strict*.  A signature
    that is named for a trusted key has to be good.  Where the trust names an
    ML-DSA-44 key of the log, both signatures have to be there.

    Args:
        note: The note, as received.
        trust: The reviewed root.
        role: ``log``, or ``audit`` for an audit log.
        strict: Refuse a note with anything but the signatures of the log: one, or two where
            the trust names an ML-DSA-44 key.  For notes in a sealed directory, where each
            byte has to be accounted for.
        at: The time at which dates of validity are judged, now by default.

    Raises:
        UntrustedSignerError: No key that *trust* names for this log, in this
            role, signed it; or the first of a chain of epoch keys did, and
            only the whole log tells up to where it is good.
        SignatureError: A signature by such a key does not verify, or is there twice.
        ThresholdError: The ML-DSA-44 signature that *trust* demands is missing.
        ExpiredError: The key was retired before that many leaves, or is outside its dates.
        FormatError: Not a checkpoint, or not *strict*.
        ValueError: Another role.
    """
    if role not in LOG_ROLES:
        msg = f"a checkpoint is verified for the role log or audit, not {role!r}"
        raise ValueError(msg)
    check_trust(trust)
    opened = Note.decode(note)
    checkpoint = Checkpoint.decode(opened.text)
    named = trust.logs(role).get(checkpoint.origin, ())
    found = judge(note, named, trust.digest, strict=strict, at=at)
    if found is None:
        raise _unknown(opened, checkpoint, trust, role)
    if found.signer.epochs:
        raise UntrustedSignerError(
            f"up to where the first epoch key of {checkpoint.origin!r} is good, the log tells",
            why=f"{found.signer.name!r} begins a chain of epoch keys, and the note alone does not "
            "say whether the log went on to the next",
            fix="verify the log with its boundary notes: verify_log(..., epochs=...)",
        )
    return found


def judge(
    note: str,
    named: Sequence[Identity],
    trust_digest: Digest,
    *,
    strict: bool = False,
    at: datetime | None = None,
) -> VerifiedCheckpoint | None:
    """
    Check a checkpoint by the keys of its log; None when no Ed25519 key out of *named* signed it.

    Raises:
        SignatureError, ThresholdError, ExpiredError, FormatError: As `verify_checkpoint`.
    """
    opened = Note.decode(note)
    checkpoint = Checkpoint.decode(opened.text)
    _check_lines(opened, checkpoint, named, strict=strict)
    good = _signers(opened, checkpoint, named)
    problem: ExpiredError | None = None
    signer: Identity | None = None
    also: list[Identity] = []
    for identity in good:
        try:
            _check_validity(identity, checkpoint, at)
        except ExpiredError as error:
            problem = problem or error
            continue
        if identity.verifier.scheme == "mldsa-44":
            also.append(identity)
        else:
            signer = signer or identity
    if signer is None:
        if problem is not None:
            raise problem
        return None
    _check_second(checkpoint, named, also, at)
    return VerifiedCheckpoint(
        TOKEN,
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root,
        note=note,
        signer=signer,
        also=tuple(also),
        trust_digest=trust_digest,
    )


def _check_second(
    checkpoint: Checkpoint,
    named: Sequence[Identity],
    also: Sequence[Identity],
    at: datetime | None,
) -> None:
    """Refuse a checkpoint without the ML-DSA-44 signature that is demanded at its size."""
    if also:
        return
    for identity in named:
        if identity.verifier.scheme != "mldsa-44" or checkpoint.size < identity.since:
            continue
        try:
            _check_validity(identity, checkpoint, at)
        except ExpiredError:
            continue
        raise ThresholdError(
            f"the checkpoint of {checkpoint.origin} lacks the ML-DSA-44 signature",
            why=f"the trust file names the key of {identity.name!r} for this log, so that an "
            "Ed25519 signature alone is not enough",
            fix="get the checkpoint with both signatures from the log; if the log began to sign "
            "with ML-DSA-44 later on, give the identity since = the size from which it does",
        )


def _check_lines(
    note: Note, checkpoint: Checkpoint, named: Sequence[Identity], *, strict: bool
) -> None:
    lines = [(signature.name, signature.key_id) for signature in note.signatures]
    if twice := {line for line in lines if lines.count(line) > 1}:
        name, identifier = min(twice)
        raise SignatureError(
            f"the checkpoint of {checkpoint.origin} has two signatures by one key",
            why=f"the key {name}+{identifier.hex()} signed twice; a log signs once",
            fix="get the checkpoint again from the log",
        )
    if not strict:
        return
    seconds = {_line(one, checkpoint) for one in named if one.verifier.scheme == "mldsa-44"}
    rest = [line for line in lines if line not in seconds]
    if len(rest) != 1 or rest[0][0] != checkpoint.origin or len(lines) - len(rest) > 1:
        raise FormatError(
            f"the checkpoint of {checkpoint.origin} has more than the signature of its log",
            why=f"{len(lines)} signatures, by {', '.join(sorted({n for n, _ in lines}))[:200]}",
            fix="restore the checkpoint as the log wrote it; witnesses' signatures are kept "
            "apart, and an ML-DSA-44 key of the log is named in the trust file",
        )


def _line(identity: Identity, checkpoint: Checkpoint) -> tuple[str, bytes] | None:
    """Return the name and the id that a line of this key has; None for other schemes."""
    verifier, origin = identity.verifier, checkpoint.origin
    key_type = _TYPES.get(verifier.scheme)
    return None if key_type is None else (origin, key_id(origin, key_type, verifier.raw))


def _signers(note: Note, checkpoint: Checkpoint, identities: Sequence[Identity]) -> list[Identity]:
    good: list[Identity] = []
    known = [(identity, _line(identity, checkpoint)) for identity in identities]
    for signature in note.signatures:
        line = (signature.name, signature.key_id)
        named = [identity for identity, its in known if its == line]
        # Two keys may share the four bytes of an id; then one of them has to fit.
        fitting = [one for one in named if _fits(one, signature, note.text, checkpoint)]
        if named and not fitting:
            raise SignatureError(
                f"the checkpoint of {checkpoint.origin} is not signed by {named[0].name!r}, "
                "whose key it names",
                why="the checkpoint or its signature was altered",
                fix="get the checkpoint again from the log; keep this one as evidence",
            )
        good += fitting
    return good


def _fits(identity: Identity, signature: NoteSignature, text: str, checkpoint: Checkpoint) -> bool:
    data, message = signature.signature, text.encode()
    try:
        if identity.verifier.scheme == "mldsa-44":
            timestamp, data = split_timestamp(data)
            message = subtree_message(checkpoint, name=signature.name, timestamp=timestamp)
        identity.verifier.verify(data, message)
    except (SignatureError, FormatError, ValueError):
        return False
    return True


def _check_validity(signer: Identity, checkpoint: Checkpoint, at: datetime | None) -> None:
    if at is not None and at.tzinfo is None:
        msg = f"at needs a time zone, got {at!r}"
        raise ValueError(msg)
    limit = signer.retired.get(checkpoint.origin)
    if limit is not None and checkpoint.size > limit:
        raise ExpiredError(
            f"the key of {signer.name!r} signed a checkpoint of {checkpoint.size} leaves, "
            "after it was retired",
            why=f"the trust file retired it at leaf {limit} of {checkpoint.origin}",
            fix="get a checkpoint that the log's present key signed",
        )
    time = at or now()
    if (signer.not_before and time < signer.not_before) or (
        signer.not_after and time > signer.not_after
    ):
        raise ExpiredError(
            f"the key of {signer.name!r} is outside its dates, and a checkpoint has no time in it",
            why=f"judged at {format_time(time)}; valid from "
            f"{signer.not_before and signer.not_before.isoformat()} until "
            f"{signer.not_after and signer.not_after.isoformat()}",
            fix="give the log's key no dates: retire it at a leaf instead, retired = "
            f'{{ "{checkpoint.origin}" = {checkpoint.size} }}',
        )


def _unknown(note: Note, checkpoint: Checkpoint, trust: Trust, role: str) -> UntrustedSignerError:
    found = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in note.signatures[:4])
    logs = trust.logs(role)
    if checkpoint.origin in logs:
        names = ", ".join(f"{i.name} {i.verifier.short}" for i in logs[checkpoint.origin])
        why = f"signed by {found}; the trust file names {names}"
    else:
        why = f"signed by {found}; the trust file names the logs {', '.join(logs) or '(none)'}"
    return UntrustedSignerError(
        f"no identity with the role {role!r} signed this checkpoint of {checkpoint.origin!r}",
        why=why,
        fix="if this log is yours to trust, get its public key over a way you trust, and add an "
        f'[[identity]] with roles = ["{role}"] and origin = "{checkpoint.origin}"',
    )
