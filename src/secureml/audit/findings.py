"""What checks of an audit log find: one thing each, with its place."""

from dataclasses import dataclass
from typing import Final

from secureml.errors import VerificationError

__all__ = ["SHOWN", "AuditFinding", "enforce"]

SHOWN: Final = 20
"""How many findings an error or a table shows."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """
    One thing that is wrong.

    Attributes:
        place: Where: a leaf, a record, or a line of a file.
        what: What was found, in one line.
    """

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place} {self.what}"


def enforce(what: str, findings: tuple[AuditFinding, ...]) -> None:
    """
    Return when there are no findings.

    Raises:
        VerificationError: It names the first `SHOWN` of them, and counts the rest.
    """
    if not findings:
        return
    lines = [str(finding) for finding in findings[:SHOWN]]
    if len(findings) > SHOWN:
        lines.append(f"and {len(findings) - SHOWN} more")
    raise VerificationError(
        f"{what}: {len(findings)} finding{'s' if len(findings) > 1 else ''}",
        why="; ".join(lines),
        fix="keep the directory as it is, and compare it with a copy from before",
    )
