"""
The audit log of a directory, verified: whole or pruned, with its keys, and its records at hand.

`secureml.audit.verify_audit` answers the same question for somebody who wants
to know whether the log holds.  A workspace goes on from its records: to the
blobs and seals that they name, and from a prediction to its model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from secureml.audit.record import Record
from secureml.audit.retention import verify_pruned_log
from secureml.audit.verification import epoch_of
from secureml.audit.verify import AuditReport, begin, report_of
from secureml.evidence._reader import LogDirectory
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.checkpruned import PrunedLog
from secureml.evidence.epochs import first_of
from secureml.evidence.pruning import absent_bundles
from secureml.evidence.trust import Trust
from secureml.workspace.layout import Layout

__all__ = ["Head", "VerifiedAudit", "boundary_notes", "is_chained", "read_audit"]


Head: TypeAlias = VerifiedLog | PrunedLog
"""What verifying the files of a log returns: with its signer, its keys and its proofs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAudit:
    """
    An audit log whose files, tree and signature hold, and whose records have no error.

    Attributes:
        head: What the verification of its files returned.
        log: All of it; None for a log that was pruned.
        records: Every record that is there.
        places: The index of each of them.
        minimum: Index below which entries were removed under a policy.
        report: What the records say about themselves; there may be warnings.
    """

    head: Head
    log: VerifiedLog | None
    records: tuple[Record, ...]
    places: Sequence[int]
    minimum: int
    report: AuditReport

    def since(self, index: int) -> tuple[Record, ...]:
        """Return the records from *index* on."""
        return tuple(
            r for place, r in zip(self.places, self.records, strict=True) if place >= index
        )


def boundary_notes(layout: Layout, name: str) -> str | Sequence[str]:
    """Return the file of boundary notes of the log *name*; nothing where there is none."""
    path = layout.epochs / f"{name}.notes"
    return str(path) if path.exists() else ()


def is_chained(trust: Trust, role: str, origin: str) -> bool:
    """Return whether *trust* names the first key of a chain for the log *origin*."""
    return first_of(trust, role, origin) is not None


def read_audit(
    layout: Layout, *, trust: Trust, remembered: Sequence[str] = (), anchors: Sequence[str] = ()
) -> VerifiedAudit:
    """
    Verify the audit log of *layout*, and return its records.

    Args:
        layout: The directory.
        trust: From outside the directory.
        remembered: Signed checkpoints of it that were kept outside.
        anchors: Signed checkpoints of it found in other evidence.

    Raises:
        VerificationError: Files, tree, signature or records do not hold.
        FormatError: A file is not in its format.
        StoreError: The system could not read a file.
    """
    reading = _Reading()
    notes = boundary_notes(layout, "audit")
    log: VerifiedLog | None = None
    minimum = 0
    head: Head
    if _is_pruned(layout):
        head = pruned = verify_pruned_log(
            layout.audit,
            trust=trust,
            remembered=remembered,
            anchors=anchors,
            visit=reading.feed,
            epochs=notes,
            epoch_of=epoch_of,
        )
        minimum = pruned.minimum
    else:
        head = log = verify_log(
            layout.audit,
            trust=trust,
            role="audit",
            remembered=remembered,
            anchors=anchors,
            visit=reading.feed,
            epochs=notes,
            epoch_of=epoch_of,
        )
    report = report_of(reading.survey, None if log is None else log.entries)
    report.enforce()
    return VerifiedAudit(
        head=head,
        log=log,
        records=tuple(reading.survey.records or ()),
        places=reading.places,
        minimum=minimum,
        report=report,
    )


def _is_pruned(layout: Layout) -> bool:
    seen = LogDirectory(layout.audit).sighting()
    return seen is not None and bool(absent_bundles(layout.audit, seen.checkpoint.size))


class _Reading:
    """One pass over the entries, begun again when the log moved on under it."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.survey = begin("records", records=True)
        self.places: list[int] = []

    def feed(self, first: int, leaves: list[bytes]) -> None:
        if self.places and first <= self.places[-1]:
            self._restart()
        self.survey.feed(first, leaves)
        self.places += range(first, first + len(leaves))
