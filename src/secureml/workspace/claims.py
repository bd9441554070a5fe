"""
Claims: every statement a model rests on, each with its proof, in one file.

``claims.jsonl`` travels with the model, so a serving machine needs neither the
training workspace nor a private key.  The file is not trusted: `open_claims`
verifies every line under the relying party's trust, and refuses the whole file
when one line fails.

Source: ``docs/spec/claims.md``; in-toto attestation framework v1, bundle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from secureml.errors import ChainError, FormatError
from secureml.evidence.trust import Trust
from secureml.evidence.verify import Evidence, verify_bundle
from secureml.wire.bundle import Bundle, TlogEntry
from secureml.workspace.roles import role_of
from secureml.workspace.sealing import checkpoint_of

__all__ = ["CLAIMS_NAME", "MAX_CLAIMS", "Claims", "encode_claims", "open_claims"]

CLAIMS_NAME = "claims.jsonl"
"""The file's name inside a model directory."""

MAX_CLAIMS = 64 * 2**20
"""Bytes in the largest file of claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """
    Claims that were verified, line by line, under one checkpoint.

    Attributes:
        evidence: In the order of the log.
        checkpoint: The signed note that proves them all.
        origin: The log they are leaves of.
        size: The number of leaves under the checkpoint.
    """

    evidence: tuple[Evidence, ...]
    checkpoint: str
    origin: str
    size: int


def encode_claims(bundles: Sequence[Bundle]) -> bytes:
    """Write *bundles* as JSON Lines."""
    return b"".join(bundle.encode() + b"\n" for bundle in bundles)


def open_claims(data: bytes, *, trust: Trust, what: str = CLAIMS_NAME) -> Claims:
    """
    Verify every line of *data* under *trust*.

    Raises:
        FormatError: A line is not a bundle, or is spelled in another way.
        VerificationError: A line does not verify, or two lines stand under
            different checkpoints.
    """
    if len(data) > MAX_CLAIMS:
        raise FormatError(
            f"{what} is too large",
            why=f"it has more than {MAX_CLAIMS:,} bytes, which is the limit",
            fix="write the claims again with sign_model",
        )
    lines = data.split(b"\n")
    if lines.pop() != b"" or not lines:
        raise FormatError(
            f"{what} is empty or cut",
            why="it is JSON Lines: one bundle a line, each line ended by a newline",
            fix="copy the file again from where the model was signed",
        )
    evidence: list[Evidence] = []
    checkpoints: set[str] = set()
    for number, line in enumerate(lines, 1):
        bundle = Bundle.decode(line)
        if bundle.encode() != line:
            raise FormatError(
                f"line {number} of {what} has a second spelling",
                why="a claim is canonical JSON, so that each byte of it is covered",
                fix="copy the file again from where the model was signed",
            )
        for entry in bundle.tlog_entries:
            if isinstance(entry, TlogEntry):
                checkpoints.add(entry.checkpoint)
        role = role_of(bundle.envelope.statement().predicate_type)
        evidence.append(verify_bundle(bundle, trust=trust, role=role))
    if len(checkpoints) != 1:
        raise ChainError(
            f"{what} is not proven under one checkpoint",
            why=f"its lines name {len(checkpoints)} checkpoints; order by index needs one log",
            fix="write the claims again with sign_model",
        )
    positions = [item.position for item in evidence]
    indices = [p.index for p in positions if p is not None]
    if indices != sorted(set(indices)):
        raise ChainError(
            f"{what} is not in the order of the log",
            why="a claim stands twice, or before an earlier one",
            fix="write the claims again with sign_model",
        )
    note = checkpoints.pop()
    head = checkpoint_of(note)
    return Claims(evidence=tuple(evidence), checkpoint=note, origin=head.origin, size=head.size)
