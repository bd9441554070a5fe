"""
Witnesses: others who cosign a log's checkpoint, and remember it.

A witness signs only what continues the last checkpoint that it signed, so a
log that was cut, rolled back or forked gets no cosignature, whoever holds its
key.  The answer of a witness is believed as far as its signature goes: lines
by unknown keys are dropped, and what is left is verified before it is kept.

Source: https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from secureml.errors import (
    ConsistencyError,
    FormatError,
    SignatureError,
    StoreError,
    UntrustedSignerError,
)
from secureml.evidence.anchors._http import Reply, check_timeout, check_url, post
from secureml.evidence.anchors.keeping import receipt_files, receipt_lines
from secureml.evidence.anchors.receipt import Head, Receipt, check_anchor_name
from secureml.evidence.witness import Witness, verify_cosignatures
from secureml.wire._read import decimal, malformed, shown
from secureml.wire.base64 import b64encode
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.note import Note, NoteSignature

__all__ = ["WitnessAnchor", "add_checkpoint_body", "cosigned_checkpoint", "cosigned_note"]

_LIMIT: Final = 1 << 16
_TRIES: Final = 4
_MAX_PROOF: Final = 63
_SIZE_KIND: Final = "text/x.tlog.size"
_WHENEVER: Final = datetime(9990, 1, 1, tzinfo=UTC)
"""Whether a cosignature's time is believable is for who reads it: this clock may be wrong."""


def add_checkpoint_body(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """
    Return the body of an ``add-checkpoint`` request.

    Args:
        old: Size of the last checkpoint that the witness cosigned.
        proof: Consistency proof from there, at most 63 hashes.
        note: The checkpoint, signed.

    Raises:
        ValueError: A size below 0, or a proof that is too long.
    """
    if old < 0 or len(proof) > _MAX_PROOF:
        msg = f"a size is 0 or more and a proof at most {_MAX_PROOF} hashes"
        raise ValueError(msg)
    lines = "".join(f"{b64encode(one)}\n" for one in proof)
    return f"old {old}\n{lines}\n{note}".encode()


def cosigned_note(note: str, lines: Sequence[NoteSignature]) -> str:
    """
    Return *note* with signature lines added, but for those that it has already.

    Raises:
        FormatError: *note* is no signed note.
        ValueError: It would have more than 100 signatures.
    """
    opened = Note.decode(note)
    known = {(one.name, one.key_id) for one in opened.signatures}
    added = tuple(one for one in lines if (one.name, one.key_id) not in known)
    return Note(opened.text, (*opened.signatures, *added)).encode()


def cosigned_checkpoint(directory: str | os.PathLike[str]) -> str | None:
    """
    Return the newest checkpoint in a directory of receipts that witnesses cosigned.

    Cosignatures by different witnesses on the same checkpoint are put under
    one note, which other people's tools read.  Nothing is verified:
    `verify_checkpoint` and `verify_cosignatures` do that.

    Returns None when there is none.

    Raises:
        UnexpectedFileError: Something in the directory is no file of receipts.
        StoreError: The system could not read it.
    """
    best: Note | None = None
    newest = -1
    for _, path in receipt_files(Path(directory)):
        for _, line in receipt_lines(path):
            try:
                receipt = Receipt.decode(line or b"")
            except FormatError:
                continue
            size, note = receipt.head.size, Note.decode(receipt.note)
            if receipt.kind != "witness" or size < newest:
                continue
            if best is None or size > newest:
                best, newest = note, size
            elif note.text == best.text:
                best = Note.decode(cosigned_note(best.encode(), note.signatures))
    return None if best is None else best.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessAnchor:
    """
    A C2SP witness, as an anchor.

    Attributes:
        name: What its file of receipts is called.
        url: Its submission prefix; https, or http on this machine.
        witness: Whose cosignature is kept; of a trust file, or ``Witness(name, vkey)``.
        timeout: Seconds for one request.
        interval: Seconds between two checkpoints; None for the policy's.

    Raises:
        ValueError: A field is out of range.
    """

    name: str
    url: str
    witness: Witness
    timeout: float = 10.0
    interval: float | None = None

    def __post_init__(self) -> None:
        check_anchor_name(self.name)
        object.__setattr__(self, "url", check_url(self.url))
        object.__setattr__(self, "timeout", check_timeout(self.timeout))

    @property
    def kind(self) -> str:
        """``witness``."""
        return "witness"

    def submit(self, head: Head) -> Receipt:
        """
        Ask for a cosignature on the checkpoint, or on a later one of the log.

        Returns a receipt whose note carries what the witness signed.

        Raises:
            ConsistencyError: The witness has seen another history of this log.
            UntrustedSignerError: It does not accept the log's key.
            SignatureError: What it answered is not signed by its key.
            FormatError: Its answer is not one of the protocol.
            StoreError: It does not know the log, refuses, or did not answer.
        """
        old, asked = 0, set[tuple[int, int]]()
        for _ in range(_TRIES):
            size = head.checkpoint.size
            proof = self._proof(head, old)
            asked.add((old, size))
            reply = self._ask(add_checkpoint_body(old, proof.path, head.note))
            if reply.status == 200:  # noqa: PLR2004  OK
                return self._receipt(head, reply)
            if reply.status != 409 or reply.kind != _SIZE_KIND:  # noqa: PLR2004  Conflict
                raise self._refused(head, reply, old)
            old = self._size(reply)
            if old > head.checkpoint.size:
                # Another process of this log may have been faster than this one.
                head = Head.read(head.source)
            if old > head.checkpoint.size or (old, head.checkpoint.size) in asked:
                raise self._other_history(head, old)
        raise StoreError(
            f"the witness {self.name!r} moves faster than it is asked",
            why=f"its size was another one {_TRIES} times",
            fix="it is tried again; only one process should anchor a log",
            retryable=True,
        )

    def _proof(self, head: Head, old: int) -> ConsistencyProof:
        """Prove the log's growth from *old*; what the log cannot prove is not sent."""
        try:
            return head.source.consistency(old, head.checkpoint.size)
        except ValueError:
            raise self._other_history(head, old) from None

    def _ask(self, body: bytes) -> Reply:
        return post(
            f"{self.url}/add-checkpoint",
            body,
            kind="text/plain; charset=utf-8",
            accept="*/*",
            timeout=self.timeout,
            limit=_LIMIT,
        )

    def _size(self, reply: Reply) -> int:
        what = f"the size that the witness {self.name!r} answered"
        if not reply.body.endswith(b"\n"):
            raise malformed(what, "it does not end in a newline")
        return decimal(reply.body[:-1].decode("ascii", "replace"), what, "size")

    def _receipt(self, head: Head, reply: Reply) -> Receipt:
        what = f"the answer of the witness {self.name!r}"
        try:
            # An answer is signature lines; with a text before them, it is a note.
            lines = Note.decode(b"-\n\n" + reply.body).signatures
        except FormatError as error:
            raise malformed(what, error.why) from error
        key = self.witness.vkey
        mine = [line for line in lines if (line.name, line.key_id) == (key.name, key.key_id)]
        if not mine:
            raise SignatureError(
                f"the witness {self.name!r} answered without its signature",
                why=f"signed by {shown(', '.join(sorted({one.name for one in lines})))}; its key "
                f"is {key.name}+{key.key_id.hex()}",
                fix="compare the witness's key with what its operator publishes",
            )
        note = cosigned_note(head.note, mine)
        verify_cosignatures(note, [self.witness], 1, at=_WHENEVER)
        return Receipt("witness", note, {})

    def _refused(self, head: Head, reply: Reply, old: int) -> Exception:
        origin = head.checkpoint.origin
        said = f"HTTP {reply.status}: {reply.text()}"
        match reply.status:
            case 403:
                return UntrustedSignerError(
                    f"the witness {self.name!r} does not accept the key of {origin!r}",
                    why=f"no signature under the checkpoint is by a key it knows; {said}",
                    fix="if the checkpoint is good, give the witness's operator the log's "
                    "present key; if it is not, somebody edited it",
                )
            case 404:
                return StoreError(
                    f"the witness {self.name!r} does not know the log {origin!r}",
                    why=said,
                    fix="check the address, and have its operator add origin and key of the log",
                )
            case 409 | 422:
                return self._other_history(head, old, said)
            case status:
                return StoreError(
                    f"the witness {self.name!r} did not cosign {origin!r}",
                    why=said,
                    fix="it is tried again; if it goes on, ask the witness's operator",
                    retryable=status == 429 or status >= 500,  # noqa: PLR2004  Too Many, server's
                )

    def _other_history(self, head: Head, old: int, said: str = "") -> ConsistencyError:
        return ConsistencyError(
            f"the witness {self.name!r} has seen another history of {head.checkpoint.origin!r}",
            why=f"it cosigned {old} entries, and does not take our {head.checkpoint.size} for "
            f"their continuation{'; ' + said if said else ''}",
            fix="stop and find out: the log was cut, rolled back or forked, or the witness is "
            "wrong; keep this directory, and compare it with the last receipts",
        )
