"""
Signed checkpoints: what a log says its contents are, as a C2SP signed note.

The name of the key in a note is the origin of the log.  A checkpoint has no
time in it, so a retired key is judged by size: a key that was retired at leaf
12 is good for checkpoints of at most 12 leaves.

Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint.
"""

from datetime import datetime
from typing import final

from secureml._html import card
from secureml.clock import format_time, now
from secureml.errors import ExpiredError, FormatError, SignatureError, UntrustedSignerError
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.trust import LOG_ROLES, Identity, Trust, check_trust
from secureml.keys import Signer
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.digest import Digest
from secureml.wire.note import ED25519, Note, NoteSignature, key_id

__all__ = ["VerifiedCheckpoint", "sign_checkpoint", "verify_checkpoint"]


@final
class VerifiedCheckpoint(TypeState):
    """
    A checkpoint that a trusted identity signed for its own log.

    Only `verify_checkpoint` makes one.

    Attributes:
        origin: The name of the log.
        size: Number of leaves.
        root: RFC 6962 root hash of these leaves, 32 bytes.
        note: The note, as received.
        signer: Who signed it.
        trust_digest: Digest of the trust that decided.
    """

    __slots__ = ("note", "origin", "root", "signer", "size", "trust_digest")
    origin: str
    size: int
    root: bytes
    note: str
    signer: Identity
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
        ]
        return card("Checkpoint", rows)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer, *, purpose: str = "log") -> str:
    """
    Return *checkpoint* as a note with one signature, by the key of its log.

    Args:
        checkpoint: What is signed.
        signer: An Ed25519 key, the only kind that notes of logs have.
        purpose: ``log``, or ``audit`` for an audit log.

    Raises:
        KeyRoleError: The key does not sign for *purpose*.
        ValueError: Another purpose, or a key of another scheme.
    """
    if purpose not in LOG_ROLES:
        msg = f"a checkpoint is signed for the purpose log or audit, not {purpose!r}"
        raise ValueError(msg)
    verifier = signer.verifier
    if verifier.scheme != "ed25519":
        msg = f"a checkpoint is signed with an ed25519 key, not {verifier.scheme}"
        raise ValueError(msg)
    text = checkpoint.encode()
    identifier = key_id(checkpoint.origin, ED25519, verifier.raw)
    signature = signer.sign(text.encode(), purpose=purpose)
    return Note(text, (NoteSignature(checkpoint.origin, identifier, signature),)).encode()


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
    that is named for a trusted key has to be good.

    Args:
        note: The note, as received.
        trust: The reviewed root.
        role: ``log``, or ``audit`` for an audit log.
        strict: Refuse a note with anything but one signature, by the log.  For
            notes in a sealed directory, where each byte has to be accounted for.
        at: The time at which dates of validity are judged, now by default.

    Raises:
        UntrustedSignerError: No key that *trust* names for this log, in this role, signed it.
        SignatureError: A signature by such a key does not verify, or is there twice.
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
    _check_lines(opened, checkpoint, strict=strict)
    signers = _signers(opened, checkpoint, trust, role)
    problem = None
    for signer in signers:
        try:
            _check_validity(signer, checkpoint, at)
        except ExpiredError as error:
            problem = error
            continue
        return VerifiedCheckpoint(
            TOKEN,
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root,
            note=note,
            signer=signer,
            trust_digest=trust.digest,
        )
    raise problem or _unknown(opened, checkpoint, trust, role)


def _check_lines(note: Note, checkpoint: Checkpoint, *, strict: bool) -> None:
    lines = [(signature.name, signature.key_id) for signature in note.signatures]
    if twice := {line for line in lines if lines.count(line) > 1}:
        name, identifier = min(twice)
        raise SignatureError(
            f"the checkpoint of {checkpoint.origin} has two signatures by one key",
            why=f"the key {name}+{identifier.hex()} signed twice; a log signs once",
            fix="get the checkpoint again from the log",
        )
    if strict and (len(lines) != 1 or lines[0][0] != checkpoint.origin):
        raise FormatError(
            f"the checkpoint of {checkpoint.origin} has more than the signature of its log",
            why=f"{len(lines)} signatures, by {', '.join(sorted({n for n, _ in lines}))[:200]}",
            fix="restore the checkpoint as the log wrote it; witnesses' signatures are kept apart",
        )


def _signers(note: Note, checkpoint: Checkpoint, trust: Trust, role: str) -> list[Identity]:
    message = note.text.encode()
    good: list[Identity] = []
    for signature in note.signatures:
        named = [
            identity
            for identity in trust.logs(role).get(checkpoint.origin, ())
            if identity.verifier.scheme == "ed25519"
            and signature.name == checkpoint.origin
            and signature.key_id == key_id(checkpoint.origin, ED25519, identity.verifier.raw)
        ]
        # Two keys may share the four bytes of an id; then one of them has to fit.
        fitting = [identity for identity in named if _fits(identity, signature, message)]
        if named and not fitting:
            raise SignatureError(
                f"the checkpoint of {checkpoint.origin} is not signed by {named[0].name!r}, "
                "whose key it names",
                why="the checkpoint or its signature was altered",
                fix="get the checkpoint again from the log; keep this one as evidence",
            )
        good += fitting
    return good


def _fits(identity: Identity, signature: NoteSignature, message: bytes) -> bool:
    try:
        identity.verifier.verify(signature.signature, message)
    except SignatureError:
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
