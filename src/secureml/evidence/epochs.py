"""
Epoch keys, for whoever verifies: which key is good for which part of an audit log.

The first key of the chain is in the trust file.  A leaf of type ``epoch``
announces the next one; the first checkpoint that covers this leaf is the
*boundary*, the last that the old key signs, and its note is kept beside the
log.  Then the old key is destroyed.  So whoever steals the present key cannot
sign another past: every boundary before is signed by a key that is gone.

From the first key on, each boundary note says how far its key was good, and
the leaf under it names the next key.  Each key is thus known before anything
is believed that it signed.

Edge: a thief has the present epoch.  And a chain shows no cut: a log that
ends in an earlier epoch is an earlier state of the log, which only a newer
checkpoint from elsewhere contradicts.

Source: ``docs/spec/epochs.md``; Bellare and Yee, *Forward-security in
private-key cryptography*, 2003.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, final

from secureml.errors import (
    ConsistencyError,
    ExpiredError,
    FormatError,
    UntrustedSignerError,
)
from secureml.evidence._files import read_file
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.notes import VerifiedCheckpoint, judge
from secureml.evidence.trust import Identity, Trust
from secureml.keys import Verifier
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.digest import Digest
from secureml.wire.note import ED25519, Note, VKey

__all__ = [
    "Epoch",
    "EpochChain",
    "EpochLeaf",
    "chain_of",
    "cut",
    "epoch_body",
    "first_of",
    "join_notes",
    "note_missing",
    "read_epoch",
    "read_notes",
    "split_notes",
    "verify_epochs",
]

MAX_NOTES: Final = 256 << 20
"""Bytes of boundary notes that are read."""

_SPEC: Final = "docs/spec/epochs.md"


@dataclass(frozen=True, slots=True)
class EpochLeaf:
    """
    A leaf that hands over.

    Attributes:
        index: Its place in the log.
        body: The member ``epoch`` of the record.
    """

    index: int
    body: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """
    One key, and the checkpoints it is good for.

    Attributes:
        number: From 0.
        identity: The key, with the name, role and dates of the first.
        above: It signs checkpoints of more leaves than this; -1 for the first.
        upto: And of at most so many; None for the last.
    """

    number: int
    identity: Identity
    above: int
    upto: int | None

    def covers(self, size: int) -> bool:
        """Tell whether it is good for a checkpoint of *size* leaves."""
        return self.above < size and (self.upto is None or size <= self.upto)


def epoch_body(number: int, origin: str, verifier: Verifier) -> dict[str, JSON]:
    """
    Return the member ``epoch`` of the record that announces a key.

    Raises:
        ValueError: A number below 1, an origin that names no log, or a key
            that is not ``ed25519``.
    """
    if number < 1:
        msg = f"the first key is in the trust file; a leaf announces epoch 1 and on, not {number}"
        raise ValueError(msg)
    if verifier.scheme != "ed25519":
        msg = f"an epoch key is ed25519, not {verifier.scheme}"
        raise ValueError(msg)
    return {"number": number, "vkey": VKey(origin, ED25519, verifier.raw).encode()}


def read_epoch(body: object, *, origin: str) -> tuple[int, Verifier]:
    """
    Return the number and the key that a record announces.

    Members that are not known here are passed over.

    Raises:
        FormatError: It is not what `epoch_body` makes for this log.
    """
    if not isinstance(body, Mapping):
        raise _malformed("it is no object")
    number, text = body.get("number"), body.get("vkey")
    if type(number) is not int or not 1 <= number < 1 << 53 or type(text) is not str:
        raise _malformed("number is an integer from 1, and vkey is text")
    vkey = VKey.decode(text)
    if vkey.encode() != text or vkey.key_type != ED25519 or vkey.name != origin:
        raise _malformed(f"vkey is no Ed25519 key (type 0x01) by the name {origin!r}")
    return number, Verifier.from_raw("ed25519", vkey.public)


def join_notes(notes: Iterable[str]) -> str:
    """Return the text of a file of boundary notes: each note, and an empty line behind it."""
    return "".join(f"{note}\n" for note in notes)


def split_notes(text: str) -> tuple[list[str], str]:
    """
    Take apart what `join_notes` put together.

    Returns:
        The whole notes, and what is left behind the last of them: a note that
        was not written to its end, or nothing.

    Raises:
        FormatError: Something else than checkpoints stands before the end.
    """
    notes: list[str] = []
    start = 0
    while (gap := text.find("\n\n", start)) >= 0 and (end := text.find("\n\n", gap + 2)) >= 0:
        note = text[start : end + 1]
        try:
            Checkpoint.decode(Note.decode(note).text)
        except FormatError:
            if end + 2 < len(text):
                raise
            break
        notes.append(note)
        start = end + 2
    return notes, text[start:]


def read_notes(path: str | os.PathLike[str]) -> list[str]:
    """
    Read the boundary notes of a log; none where there is no such file.

    Raises:
        FormatError: The file is not in its format, or a note in it is not whole.
        UnexpectedFileError: It is a link, a directory, a pipe or a device.
        StoreError: The system could not read it.
    """
    try:
        data = read_file(Path(path), limit=MAX_NOTES)
    except FileNotFoundError:
        return []
    try:
        notes, rest = split_notes(data.decode())
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not UTF-8", "the notes") from None
    if rest:
        raise _malformed("the last note is not whole", "the notes")
    return notes


@final
class EpochChain(TypeState):
    """
    The keys of an audit log, each with the checkpoints it is good for.

    Made by `verify_epochs` and, for a whole log, by `verify_log`.

    Attributes:
        origin: The log.
        epochs: From the first, which the trust file names, to the present one.
        boundaries: The boundary notes, verified.
        trust_digest: Digest of the trust that names the first key.
    """

    __slots__ = ("_second", "boundaries", "epochs", "origin", "trust_digest")
    origin: str
    epochs: tuple[Epoch, ...]
    boundaries: tuple[VerifiedCheckpoint, ...]
    trust_digest: Digest
    _second: tuple[Identity, ...]

    def verify(
        self, note: str, *, strict: bool = False, at: datetime | None = None
    ) -> VerifiedCheckpoint:
        """
        Check that the key of the right epoch signed this checkpoint.

        Raises:
            ExpiredError: The key of another epoch did.
            UntrustedSignerError: No key of the chain did, or it is another log's.
            SignatureError, ThresholdError, FormatError: As `verify_checkpoint`.
        """
        checkpoint = Checkpoint.decode(Note.decode(note).text)
        if checkpoint.origin != self.origin:
            raise UntrustedSignerError(
                f"this is a checkpoint of {checkpoint.origin!r}",
                why=f"the chain of keys is that of {self.origin!r}",
                fix="give the checkpoint of this log",
            )
        good = next(epoch for epoch in reversed(self.epochs) if epoch.above < checkpoint.size)
        named = (good.identity, *self._second)
        found = judge(note, named, self.trust_digest, strict=strict, at=at)
        if found is not None:
            return found
        for epoch in self.epochs:
            if judge(note, (epoch.identity,), self.trust_digest, at=at) is not None:
                raise _wrong_epoch(epoch, checkpoint)
        raise UntrustedSignerError(
            f"no key of this log's chain signed the checkpoint of {self.origin!r}",
            why=f"for {checkpoint.size} leaves it is the key of epoch {good.number}, "
            f"{good.identity.verifier.short}; the note names another, which no leaf announced",
            fix="do not use it; get the checkpoint from the log, and keep this one as evidence",
        )

    def __repr__(self) -> str:
        return f"<EpochChain {self.origin!r} epoch {self.epochs[-1].number}>"


def first_of(trust: Trust, role: str, origin: str) -> Identity | None:
    """Return the identity that begins the log's chain of keys; None where it has no chain."""
    named = trust.logs(role).get(origin, ())
    return next((identity for identity in named if identity.epochs), None)


def verify_epochs(
    first: Identity,
    *,
    trust: Trust,
    leaves: Sequence[EpochLeaf],
    notes: Sequence[str],
    head: str,
    roots: Callable[[int], bytes],
    role: str = "audit",
    at: datetime | None = None,
) -> tuple[EpochChain, VerifiedCheckpoint]:
    """
    Judge all keys of a log, from the first to the one that signed *head*.

    Args:
        first: The identity out of *trust* that begins the chain.
        trust: The reviewed root.
        leaves: Every epoch leaf of the log, in its order; from entries that lead to the
            root of *head*.
        notes: The boundary notes, in their order.
        head: The log's checkpoint.
        roots: Returns the root of the first so many leaves of the log.
        role: The role in which it is verified.
        at: The time at which dates of validity are judged, now by default.

    Raises:
        ConsistencyError: A boundary is missing or is not this log's, an epoch is
            announced twice or left out, or the log was cut below a boundary.
        ExpiredError: A key signed beyond its boundary.
        UntrustedSignerError: A key signed that was never announced.
        SignatureError, ThresholdError, FormatError: As `verify_checkpoint`.
    """
    origin = first.origin or ""
    known: dict[int, EpochLeaf] = {}
    for number, leaf in enumerate(leaves, 1):
        found, _ = read_epoch(leaf.body, origin=origin)
        if found in known:
            raise _inconsistent(
                f"epoch {found} of {origin!r} is announced twice",
                f"by leaf {known[found].index} and by leaf {leaf.index}",
            )
        if found != number:
            raise _inconsistent(
                f"epoch {number} of {origin!r} was left out",
                f"leaf {leaf.index} announces {found}",
            )
        known[number] = leaf

    size = Checkpoint.decode(Note.decode(head).text).size

    def announced(number: int, low: int, high: int) -> EpochLeaf | None:
        if high > size:
            raise cut(origin, high, size)
        leaf = known.get(number)
        return leaf if leaf is not None and low <= leaf.index < high else None

    chain = chain_of(first, trust=trust, notes=notes, leaf=announced, role=role, at=at)
    for boundary in chain.boundaries:
        if roots(boundary.size) != boundary.root:
            raise _inconsistent(
                f"the log {origin!r} was forked or written anew",
                f"its first {boundary.size} entries have another root than the boundary note "
                "that an earlier epoch's key signed for them",
            )
    verified = chain.verify(head, strict=True, at=at)
    if len(leaves) > len(notes):
        late = leaves[len(notes)]
        if len(leaves) > len(notes) + 1:
            raise note_missing(origin, len(notes), late.index)
        last = replace(chain.epochs[-1], upto=verified.size)
        _, key = read_epoch(late.body, origin=origin)
        for epoch in (*chain.epochs[:-1], last):
            if epoch.identity.verifier == key:
                raise _again(late, epoch.number)
        after = _epoch(first, len(leaves), key, verified.size)
        chain = EpochChain(
            TOKEN,
            origin=origin,
            epochs=(*chain.epochs[:-1], last, after),
            boundaries=chain.boundaries,
            trust_digest=chain.trust_digest,
            _second=chain._second,  # noqa: SLF001  its own kind
        )
    return chain, verified


def chain_of(
    first: Identity,
    *,
    trust: Trust,
    notes: Sequence[str],
    leaf: Callable[[int, int, int], EpochLeaf | None],
    role: str = "audit",
    at: datetime | None = None,
) -> EpochChain:
    """
    Go from key to key along the boundary notes; no root is compared here.

    Args:
        first: The identity that begins the chain.
        trust: The root that names it.
        notes: The boundary notes.
        leaf: Returns the leaf that announces an epoch, by its number, from a
            range of leaves (the first, and the one behind the last); None without.
        role: The role in which it is verified.
        at: The time at which dates of validity are judged, now by default.

    Raises:
        ConsistencyError, ExpiredError, UntrustedSignerError, SignatureError,
            ThresholdError, FormatError: As `verify_epochs`.
    """
    origin = first.origin or ""
    named = trust.logs(role).get(origin, ())
    second = tuple(one for one in named if one.verifier.scheme == "mldsa-44")
    epochs = [_epoch(first, 0, first.verifier, -1)]
    boundaries: list[VerifiedCheckpoint] = []
    seen = {first.verifier: 0}

    def so_far() -> EpochChain:
        return EpochChain(
            TOKEN,
            origin=origin,
            epochs=tuple(epochs),
            boundaries=tuple(boundaries),
            trust_digest=trust.digest,
            _second=second,
        )

    for number, note in enumerate(notes, 1):
        present = epochs[-1]
        boundary = judge(note, (present.identity, *second), trust.digest, strict=True, at=at)
        if boundary is None or not (boundary.origin == origin and present.covers(boundary.size)):
            so_far().verify(note, strict=True, at=at)  # says why not
            raise _inconsistent(
                f"boundary note {number} of {origin!r} does not follow the one before",
                "an earlier epoch's key signed it, for leaves of an earlier epoch",
            )
        found = leaf(number, max(present.above, 0), boundary.size)
        if found is None:
            raise _inconsistent(
                f"no leaf of {origin!r} announces epoch {number}",
                f"a boundary note of {boundary.size} leaves ends epoch {number - 1}",
            )
        announced, key = read_epoch(found.body, origin=origin)
        if announced != number:
            raise _inconsistent(
                f"epoch {number} of {origin!r} was left out",
                f"leaf {found.index} announces {announced}",
            )
        if key in seen:
            raise _again(found, seen[key])
        seen[key] = number
        epochs[-1] = replace(present, upto=boundary.size)
        epochs.append(_epoch(first, number, key, boundary.size))
        boundaries.append(boundary)
    return so_far()


def _epoch(first: Identity, number: int, key: Verifier, above: int) -> Epoch:
    identity = first
    if number:
        name = f"{first.name[:180]}, epoch {number}"
        identity = replace(first, name=name, verifier=key, epochs=False)
    return Epoch(number=number, identity=identity, above=above, upto=None)


def cut(origin: str, noted: int, size: int) -> ConsistencyError:
    """Return the error for a log that ends before one of its boundaries."""
    return _inconsistent(
        f"the log {origin!r} was cut or rolled back",
        f"a boundary note was signed for {noted} leaves; it has {size}",
    )


def note_missing(origin: str, number: int, leaf: int) -> ConsistencyError:
    """Return the error for an epoch whose end no note shows."""
    return _inconsistent(
        f"the boundary note that ends epoch {number} of {origin!r} is missing",
        f"leaf {leaf} announces the next key, and the log went on with it",
    )


def _again(leaf: EpochLeaf, number: int) -> ConsistencyError:
    return _inconsistent(
        f"leaf {leaf.index} announces the key of epoch {number} again",
        "each epoch has a key of its own: the old one is destroyed",
    )


def _wrong_epoch(epoch: Epoch, checkpoint: Checkpoint) -> ExpiredError:
    until = "the end" if epoch.upto is None else f"{epoch.upto} leaves"
    return ExpiredError(
        f"the key of epoch {epoch.number} signed a checkpoint of {checkpoint.size} leaves of "
        f"{checkpoint.origin!r}",
        why=f"it is good above {max(epoch.above, 0)} leaves up to {until}",
        fix="do not use it: a key that should be destroyed was kept or stolen; keep the "
        "checkpoint as evidence, and get the present one from the log",
    )


def _inconsistent(what: str, why: str) -> ConsistencyError:
    return ConsistencyError(
        what, why=why, fix=f"do not use it; get the whole log and its notes again ({_SPEC})"
    )


def _malformed(why: str, what: str = "the epoch record") -> FormatError:
    return FormatError(f"{what} of an epoch key is malformed", why=why, fix=f"see {_SPEC}")
