"""
What is anchored, and what an anchor gives for it.

A `Head` is a checkpoint as a log published it, with the log at hand for
proofs.  An `Anchor` shows it to somebody else and returns a `Receipt`: the
note, and what that somebody made of it.  A receipt is untrusted until
`verify_receipts` has judged it, wherever it was read from.

Source: ``docs/spec/anchors.md``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from secureml.errors import SignatureError
from secureml.keys.verifier import Verifier
from secureml.wire import canonical
from secureml.wire._read import malformed, members, reading, shown, text
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.note import ED25519, Note, key_id

__all__ = [
    "KINDS",
    "MAX_LINE",
    "Anchor",
    "Head",
    "Receipt",
    "Source",
    "check_anchor_name",
]

KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "witness": (),
        "rfc3161": ("token",),
        "rekor": ("body", "proof"),
        "copy": ("place", "until", "version"),
    }
)
"""Kinds of receipts, and the members that each has beside ``v``, ``kind`` and ``note``."""

MAX_LINE: Final = 1 << 20
"""Longest line of a file of receipts, in bytes, its newline included."""

_VERSION = 1
_WHAT = "the receipt"
_NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,63}", re.ASCII)


def check_anchor_name(name: str) -> str:
    """
    Return *name*, which a file of receipts can have.

    Raises:
        ValueError: Not 1 to 64 of ``a-z 0-9 . _ -``, or beginning with a dot.
    """
    if not _NAME.fullmatch(name):
        msg = f"the name of an anchor is 1 to 64 of a-z 0-9 . _ -, not {shown(name)}"
        raise ValueError(msg)
    return name


class Source(Protocol):
    """**Protocol.** A log to anchor, as `secureml.evidence.log.Log` is one."""

    @property
    def directory(self) -> Path:
        """Where the log is."""
        ...

    def checkpoint_note(self) -> str:
        """Return the current checkpoint, a signed note."""
        ...

    def consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """Return the proof that the first *old* entries begin the first *new*."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """
    A checkpoint to anchor, and the log that it is of.

    Attributes:
        source: The log.
        note: Its checkpoint, signed.
        checkpoint: What the note says.
    """

    source: Source
    note: str
    checkpoint: Checkpoint

    @classmethod
    def read(cls, source: Source, *, verifiers: Sequence[Verifier] = ()) -> "Head":
        """
        Read the present checkpoint of a log.

        Args:
            source: The log.
            verifiers: Keys of the log.  When given, one of them has to have
                signed, so that nothing is shown to others that somebody else
                put in the checkpoint's place.

        Raises:
            StoreError: The log has none, or it cannot be read.
            FormatError: It is no checkpoint.
            SignatureError: None of *verifiers* signed it.
        """
        note = source.checkpoint_note()
        opened = Note.decode(note)
        checkpoint = Checkpoint.decode(opened.text)
        if verifiers and not any(_signed(opened, checkpoint.origin, one) for one in verifiers):
            raise SignatureError(
                f"the checkpoint of {checkpoint.origin!r} is not signed by the log's key",
                why="it was replaced on the disk, or the log has another key now",
                fix="verify the log before anything else; nothing was anchored",
            )
        return cls(source, note, checkpoint)


def _signed(note: Note, origin: str, verifier: Verifier) -> bool:
    if verifier.scheme != "ed25519":
        return False  # an ML-DSA-44 signature stands beside one by Ed25519
    identifier = key_id(origin, ED25519, verifier.raw)
    for one in note.signatures:
        if one.name == origin and one.key_id == identifier:
            try:
                verifier.verify(one.signature, note.text.encode())
            except SignatureError:
                continue
            return True
    return False


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What an anchor gave for a checkpoint; untrusted until it is verified.

    Attributes:
        kind: One of `KINDS`.
        note: The checkpoint, with cosignatures under it if a witness gave it.
        values: The other members of its kind, as they are written.

    Raises:
        ValueError: Another kind, or other members than its kind has.
        FormatError: The note is no signed checkpoint.
    """

    kind: str
    note: str
    values: Mapping[str, str]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"a receipt is of the kind {', '.join(KINDS)}, not {shown(self.kind)}"
            raise ValueError(msg)
        if tuple(sorted(self.values)) != KINDS[self.kind]:
            msg = f"a receipt of the kind {self.kind} has {KINDS[self.kind]} beside its note"
            raise ValueError(msg)
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))
        _ = self.head

    @property
    def head(self) -> Checkpoint:
        """What the note says; untrusted until it is verified."""
        return Checkpoint.decode(Note.decode(self.note).text)

    def encode(self) -> bytes:
        """
        Return the line, with its newline.

        Raises:
            ValueError: It is longer than `MAX_LINE`.
        """
        value: JSON = {"kind": self.kind, "note": self.note, "v": _VERSION, **self.values}
        line = canonical.encode(value) + b"\n"
        if len(line) > MAX_LINE:
            msg = f"a receipt has at most {MAX_LINE:,} bytes, this one {len(line):,}"
            raise ValueError(msg)
        return line

    @classmethod
    def decode(cls, line: bytes, /) -> "Receipt":
        """
        Read one line, without its newline.

        Raises:
            FormatError: Not a receipt, in its one spelling.
        """
        if len(line) >= MAX_LINE:
            raise malformed(_WHAT, f"it is longer than {MAX_LINE:,} bytes")
        value = canonical.decode(line)
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            raise malformed(_WHAT, f"its kind is {shown(kind)}: one of {', '.join(KINDS)} belongs")
        found = members(value, _WHAT, required=("v", "kind", "note", *KINDS[kind]))
        if type(found["v"]) is not int or found["v"] != _VERSION:
            raise malformed(_WHAT, f"its version is {shown(found['v'])}; this is read: {_VERSION}")
        values = {name: text(found[name], _WHAT, name) for name in KINDS[kind]}
        with reading(_WHAT):
            return cls(kind, text(found["note"], _WHAT, "note"), values)


@runtime_checkable
class Anchor(Protocol):
    """
    **Protocol.** Somebody else who is shown checkpoints.

    `submit` may take as long as its own time limits allow; it is called from
    a thread of its own, by one thread at a time.  It returns what it has
    verified as a reader would, or raises a `SecureMLError`:
    `ConsistencyError` when the other side has seen another history.
    """

    @property
    def name(self) -> str:
        """The name that its file of receipts has; see `check_anchor_name`."""
        ...

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    @property
    def interval(self) -> float | None:
        """Seconds between two checkpoints that it is shown; None for the policy's."""
        ...

    def submit(self, head: Head) -> Receipt:
        """Show it *head*, and return what it gave; for *head*, or for a later one."""
        ...
