"""Keeping what a survey finds: the first of each severity, and a count of the rest."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from secureml.audit.findings import ERROR, WARNING, AuditFinding

__all__ = ["CODES", "Notes"]

CODES: Final[Mapping[str, str]] = {
    "after-end": ERROR,
    "cut-short": WARNING,
    "disk-full": WARNING,
    "duplicate": ERROR,
    "duplicate-id": ERROR,
    "end-count": ERROR,
    "gap": WARNING,
    "heartbeat-count": ERROR,
    "intent-without-outcome": ERROR,
    "killed-writer": WARNING,
    "late": ERROR,
    "misplaced-start": ERROR,
    "not-a-record": ERROR,
    "outcome-dropped": WARNING,
    "profile": ERROR,
    "prune-under-hold": WARNING,
    "recovery-corrupt": ERROR,
    "recovery-count": ERROR,
    "recovery-gap": ERROR,
    "sequence-gap": ERROR,
    "silence": WARNING,
    "silent-writer": ERROR,
    "unknown-intent": WARNING,
    "unknown-verdict": WARNING,
}
"""Every code of a finding about records, with its severity."""

_KEPT: Final = 10_000
"""Findings of each severity that are kept; the rest is counted."""


class Notes:
    """
    What was found.

    Attributes:
        found: Code → how often, also of findings that were not kept.
    """

    __slots__ = ("_kept", "found")

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        # Kept apart, so that no number of warnings hides an error.
        self._kept: dict[str, list[tuple[int, int, AuditFinding]]] = {ERROR: [], WARNING: []}

    def add(self, code: str, index: int, what: str, *, place: str = "") -> AuditFinding | None:
        """Take note of one finding about the leaf at *index*; return it where it is kept."""
        self.found[code] += 1
        severity = CODES[code]
        kept = self._kept[severity]
        if len(kept) >= _KEPT:
            return None
        finding = AuditFinding(place or f"leaf {index}", what, code, severity, index)
        kept.append((index, len(kept), finding))
        return finding

    def take_back(self, code: str, finding: AuditFinding | None) -> None:
        """Forget one finding, which something later explains."""
        kept = self._kept[CODES[code]]
        kept[:] = [one for one in kept if one[2] is not finding]
        self.found[code] -= 1

    def findings(self) -> tuple[AuditFinding, ...]:
        """Return what was found, in the order of the leaves."""
        both = [*self._kept[ERROR], *self._kept[WARNING]]
        return tuple(finding for _, _, finding in sorted(both, key=lambda one: one[:2]))
