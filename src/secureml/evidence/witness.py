"""
Witnesses: somebody else who saw this checkpoint, and when.

A witness keeps the last checkpoint of each log, and signs a new one only if
it continues the old.  So a log that showed two histories, or went back to an
older one, would need the help of as many witnesses as the quorum demands.  A
cosignature says nothing about what the entries mean.

Who is a witness is in the trust file, and how many have to sign.  One key is
one witness: an Ed25519 cosignature does not say the witness's name, so a key
under two names would count twice.

Source: c2sp.org/tlog-cosignature, c2sp.org/signed-note.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, final

from secureml._html import grid
from secureml.clock import format_time, now
from secureml.errors import FormatError, SignatureError, ThresholdError
from secureml.evidence._names import check_name, string
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.keys import Signer, Verifier
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.cosignature import (
    cosignature_message,
    join_timestamp,
    split_timestamp,
    subtree_message,
)
from secureml.wire.note import COSIGNATURE, MLDSA44, Note, NoteSignature, VKey

__all__ = [
    "Cosignature",
    "VerifiedCosignatures",
    "Witness",
    "check_quorum",
    "sign_cosignature",
    "verify_cosignatures",
    "witness_block",
]

_TYPES: Final = {COSIGNATURE: "ed25519", MLDSA44: "mldsa-44"}
_SKEW: Final = timedelta(minutes=5)
"""How far a witness's clock may be ahead."""


@final
@dataclass(frozen=True)
class Witness:
    """
    Whose cosignatures count.

    Attributes:
        name: How people call it; unique in a trust file.
        vkey: Its key, of type 0x04 (Ed25519) or 0x06 (ML-DSA-44).

    Raises:
        ValueError: A name that is none, or a key of another type.
        FormatError: Bytes that are no public key.
        MissingExtraError: An ML-DSA-44 key, and the installed cryptography has no ML-DSA.
    """

    name: str
    vkey: VKey

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.vkey.key_type not in _TYPES:
            msg = f"a witness has a key of type 0x04 or 0x06, not {self.vkey.key_type:#04x}"
            raise ValueError(msg)
        self.verifier  # noqa: B018  refuses bytes that are no key

    @cached_property
    def verifier(self) -> Verifier:
        """The public key."""
        return Verifier.from_raw(_TYPES[self.vkey.key_type], self.vkey.public)


def check_quorum(
    witnesses: Sequence[Witness], quorum: int, others: Collection[Verifier] = ()
) -> None:
    """
    Refuse witnesses that could be counted twice, and a quorum that they cannot make.

    Args:
        witnesses: In any order.
        quorum: How many have to sign.
        others: Keys that are no witness's: those of the log, for instance.

    Raises:
        ValueError: Two with one name or one key, a key out of *others*, or a
            quorum outside 1 … their number (0 where there is none).
    """
    for what, values in (
        ("named", [one.name for one in witnesses]),
        ("with the key name", [one.vkey.name for one in witnesses]),
        ("with the key", [one.verifier.fingerprint for one in witnesses]),
    ):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            msg = f"there are two witnesses {what} {twice[0]!r}"
            raise ValueError(msg)
    known = {one.fingerprint for one in others}
    if own := [one.name for one in witnesses if one.verifier.fingerprint in known]:
        msg = f"the witness {own[0]!r} has the key of an identity: it would witness itself"
        raise ValueError(msg)
    if not min(1, len(witnesses)) <= quorum <= len(witnesses):
        msg = f"quorum is 1 to the number of witnesses, {len(witnesses)}; got {quorum}"
        raise ValueError(msg)


def witness_block(witness: Witness) -> str:
    """Return the ``[[witness]]`` block that says this, to paste into a trust file."""
    return f"[[witness]]\nname = {string(witness.name)}\nvkey = {string(witness.vkey.encode())}\n"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """
    One witness's good signature.

    Attributes:
        witness: Who.
        at: When, by its clock; None where it says nothing of the time.
    """

    witness: Witness
    at: datetime | None


@final
class VerifiedCosignatures(TypeState):
    """
    A checkpoint that enough witnesses saw.

    Only `verify_cosignatures` makes one.  It says nothing about the log's own
    signature: see `verify_checkpoint`.

    Attributes:
        origin: The name of the log.
        size: Number of leaves.
        root: RFC 6962 root hash of these leaves, 32 bytes.
        note: The note, as received.
        cosignatures: Those that count, in the order of the witnesses.
        quorum: How many were demanded.
    """

    __slots__ = ("cosignatures", "note", "origin", "quorum", "root", "size")
    origin: str
    size: int
    root: bytes
    note: str
    cosignatures: tuple[Cosignature, ...]
    quorum: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the witnesses."""
        return tuple(one.witness.name for one in self.cosignatures)

    @property
    def latest(self) -> datetime | None:
        """
        The time at which the checkpoint was there at the latest: the first of theirs.

        None where no witness says a time.
        """
        return min((one.at for one in self.cosignatures if one.at is not None), default=None)

    def __repr__(self) -> str:
        return f"<VerifiedCosignatures {self.origin} size {self.size} by {', '.join(self.names)}>"

    def _repr_html_(self) -> str:
        rows = [
            (one.witness.name, "no time" if one.at is None else format_time(one.at))
            for one in self.cosignatures
        ]
        note = f"{self.origin}, {self.size} leaves; {self.quorum} demanded"
        return grid("Cosignatures", ("witness", "at"), rows, note=note)


def sign_cosignature(
    note: str, signer: Signer, *, name: str, at: datetime | None = None
) -> NoteSignature:
    """
    Sign a checkpoint as a witness.

    That the checkpoint continues the last one is the witness's to check
    before; this makes the line only.

    Args:
        note: The checkpoint, a signed note.
        signer: An Ed25519 or an ML-DSA-44 key with the purpose ``witness``.
        name: Name of the witness's key, as in its vkey.
        at: The time; now by default.

    Raises:
        FormatError: Not a checkpoint.
        KeyRoleError: The key is not a witness's.
        ValueError: A key of another scheme, a name that is none, or for
            ML-DSA-44 a checkpoint with extension lines.
    """
    opened = Note.decode(note)
    checkpoint = Checkpoint.decode(opened.text)
    verifier = signer.verifier
    types = {scheme: key_type for key_type, scheme in _TYPES.items()}
    if verifier.scheme not in types:
        msg = f"a witness signs with an ed25519 or an mldsa-44 key, not {verifier.scheme}"
        raise ValueError(msg)
    vkey = VKey(name, types[verifier.scheme], verifier.raw)
    seconds = int((at or now()).timestamp())
    signature = signer.sign(_message(opened, checkpoint, vkey, seconds), purpose="witness")
    return NoteSignature(name, vkey.key_id, join_timestamp(seconds, signature))


def verify_cosignatures(
    note: str,
    witnesses: Sequence[Witness],
    quorum: int,
    *,
    at: datetime | None = None,
    max_age: timedelta | None = None,
) -> VerifiedCosignatures:
    """
    Check that at least *quorum* of the *witnesses* signed this checkpoint.

    Lines of others are passed over.  A line that names a witness's key has to
    be good.  One whose time is more than five minutes ahead does not count.

    Args:
        note: The checkpoint with the witnesses' lines, as received.
        witnesses: Who counts: ``trust.witnesses``.
        quorum: How many have to sign: ``trust.quorum``.
        at: The time at which theirs is judged, now by default.
        max_age: Count those only that signed so short a time before.

    Raises:
        ThresholdError: Fewer signed.
        SignatureError: A witness's line does not verify, or is there twice.
        FormatError: Not a checkpoint.
        ValueError: Witnesses that could count twice, or a quorum that they cannot make.
    """
    check_quorum(witnesses, quorum)
    if not witnesses:
        msg = "there are no witnesses: give those of a trust file that names some"
        raise ValueError(msg)
    opened = Note.decode(note)
    checkpoint = Checkpoint.decode(opened.text)
    time = at or now()
    counted: list[Cosignature] = []
    refused: list[str] = []
    for witness in witnesses:
        seconds = _signed_at(witness, opened, checkpoint)
        if seconds is None:
            continue
        found = Cosignature(witness, _time(witness, seconds))
        if reason := _untimely(found, seconds, time, max_age):
            refused.append(f"{witness.name} {reason}")
        else:
            counted.append(found)
    if len(counted) < quorum:
        names = ", ".join(one.witness.name for one in counted) or "none"
        raise ThresholdError(
            f"the checkpoint of {checkpoint.origin} has too few witnesses",
            why=f"{quorum} of {len(witnesses)} are demanded, {len(counted)} signed ({names})"
            + (f"; not counted: {'; '.join(refused)}" if refused else ""),
            fix="have the checkpoint cosigned by more of the witnesses that the trust file names",
        )
    return VerifiedCosignatures(
        TOKEN,
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root,
        note=note,
        cosignatures=tuple(counted),
        quorum=quorum,
    )


def _message(note: Note, checkpoint: Checkpoint, vkey: VKey, seconds: int) -> bytes:
    if vkey.key_type == COSIGNATURE:
        return cosignature_message(note.text, seconds)
    return subtree_message(checkpoint, name=vkey.name, timestamp=seconds)


def _signed_at(witness: Witness, note: Note, checkpoint: Checkpoint) -> int | None:
    """Return the time in the witness's line; None where it did not sign."""
    vkey = witness.vkey
    lines = [
        line for line in note.signatures if (line.name, line.key_id) == (vkey.name, vkey.key_id)
    ]
    if not lines:
        return None
    if len(lines) > 1:
        raise SignatureError(
            f"the checkpoint of {checkpoint.origin} has two signatures by one key",
            why=f"the witness {witness.name!r} signed twice",
            fix="ask the witness again, and add its line once",
        )
    try:
        seconds, signature = split_timestamp(lines[0].signature)
        message = _message(note, checkpoint, vkey, seconds)
        witness.verifier.verify(signature, message)
    except (FormatError, SignatureError, ValueError) as error:
        raise SignatureError(
            f"the checkpoint of {checkpoint.origin} is not signed by the witness "
            f"{witness.name!r}, whose key it names",
            why="the checkpoint, the time or the signature was altered",
            fix="ask the witness again; keep this note as evidence",
        ) from error
    return seconds


def _time(witness: Witness, seconds: int) -> datetime | None:
    if seconds == 0 and witness.vkey.key_type == MLDSA44:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _untimely(
    found: Cosignature, seconds: int, time: datetime, max_age: timedelta | None
) -> str | None:
    """Say why a good signature does not count, by its time; None when it does."""
    if found.at is None:
        return None if max_age is None else "says no time"
    if found.at > time + _SKEW:
        return f"signed in the future, at {seconds} s"
    if max_age is not None and found.at < time - max_age:
        return f"signed at {format_time(found.at)}, too long ago"
    return None
