"""
What checks of an audit log find: one thing each, with its place.

A finding is an *error* where evidence is missing, changed or contradicts
itself, and a *warning* where the log itself accounts for something that an
auditor should still know: records that were dropped and counted, a writer
that was killed and taken over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from secureml.errors import VerificationError

__all__ = ["ERROR", "SHOWN", "WARNING", "AuditFinding", "enforce"]

ERROR: Final = "error"
"""Evidence is missing, was changed, or contradicts itself."""

WARNING: Final = "warning"
"""The log accounts for it; an auditor should know."""

SHOWN: Final = 20
"""How many findings an error or a table shows."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """
    One thing that is wrong.

    Attributes:
        place: Where: a leaf, a record, or a line of a file.
        what: What was found, in one line.
        code: Which kind of thing, a stable word; `docs/how-to/verify-a-log.md` lists them.
        severity: ``error`` or ``warning``.
        index: Position of the leaf in the log, where it is one leaf; else None.
    """

    place: str
    what: str
    code: str = "details"
    severity: str = ERROR
    index: int | None = None

    def __str__(self) -> str:
        return f"{self.place} {self.what}"

    def to_dict(self) -> dict[str, object]:
        """Return the finding as plain values."""
        return {
            "code": self.code,
            "severity": self.severity,
            "place": self.place,
            "index": self.index,
            "what": self.what,
        }


def enforce(what: str, findings: Sequence[AuditFinding], *, total: int | None = None) -> None:
    """
    Return when there are no findings.

    Args:
        what: What does not hold, for the error's first line.
        findings: Those to raise for.
        total: How many there are, where not all of them were kept.

    Raises:
        VerificationError: It names the first `SHOWN` of them, and counts the rest.
    """
    if not findings:
        return
    number = len(findings) if total is None else total
    lines = [str(finding) for finding in findings[:SHOWN]]
    if number > SHOWN:
        lines.append(f"and {number - SHOWN} more")
    raise VerificationError(
        f"{what}: {number} finding{'s' if number > 1 else ''}",
        why="; ".join(lines),
        fix="keep the directory as it is, and compare it with a copy from before",
    )
