"""What the verification of a directory found, to be read by people and by machines."""

from dataclasses import dataclass, field
from pathlib import Path

from secureml._html import card
from secureml.workspace.chain import Chain

__all__ = ["Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What was verified, and what a verifier should still know.

    A report exists only where everything held; what did not was raised.

    Attributes:
        directory: What was verified.
        logs: (origin, number of entries) of each log.
        statements: Predicate type → how many.
        records: How many audit records.
        files: How many other files were accounted for.
        sealed: Whether the last leaf seals the directory.
        models: Each signed model that a rule exists for, judged.
        rollback: ``checked`` or ``not checkable``, over all logs.
        unanchored: What nothing outside its log commits to, one line a log.
        development: Names of the development keys it rests on.
        separation: Separation of duties: ``none``, ``partial`` or ``full``.
        trust: Digest of the trust file.
        minimum: Index below which audit records were removed under a policy.
        anchored: Who outside vouches for a log, and how far, one line each.
        noted: What the audit log accounts for itself, one line each: a writer
            that was killed, records that were dropped and counted.
        nested: Reports of evidence directories inside.
    """

    directory: Path
    logs: tuple[tuple[str, int], ...]
    statements: dict[str, int]
    records: int
    files: int
    sealed: bool
    models: tuple[Chain, ...]
    rollback: str
    unanchored: tuple[str, ...]
    development: tuple[str, ...]
    separation: str
    trust: str
    minimum: int = 0
    anchored: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    nested: tuple["Report", ...] = field(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what is no break, and still weakens the evidence."""
        found: list[str] = []
        if self.rollback != "checked":
            found.append(
                "rollback: not checkable (no remembered checkpoint was given; a consistent older "
                "copy would look the same)"
            )
        if not self.sealed:
            found.append("not sealed: the workspace was not closed after its last entry")
        if self.development:
            found.append("development keys: " + ", ".join(self.development))
        if self.separation == "none":
            found.append("separation of duties: none (one key holds every role)")
        found.extend(self.unanchored)
        found.extend(self.noted)
        return tuple(found)

    def origins(self) -> set[str]:
        """Return the names of the logs here and inside."""
        return {origin for origin, _ in self.logs}.union(*(n.origins() for n in self.nested))

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as (name, value) lines."""
        rows = [("directory", str(self.directory))]
        rows += [("log", f"{origin}, {size:,} entries") for origin, size in self.logs]
        rows += [
            ("statements", f"{sum(self.statements.values())} verified"),
            ("predictions", f"{self.records:,} records verified" + self._pruned()),
            ("files", f"{self.files:,} accounted for" + (", sealed" if self.sealed else "")),
        ]
        rows += [("model", f"{c.model} {c.digest.short}: chain holds") for c in self.models]
        rows += [("anchored", line) for line in self.anchored]
        rows += [("nested", f"{n.directory.name}: verified") for n in self.nested]
        rows += [
            ("trust", self.trust[:23] + "…"),
            ("separation of duties", self.separation),
            ("rollback", self.rollback),
        ]
        return rows

    def _pruned(self) -> str:
        return f", those below {self.minimum:,} removed under its policy" if self.minimum else ""

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values, for ``--json``."""
        return {
            "ok": True,
            "directory": str(self.directory),
            "logs": [{"origin": o, "size": n} for o, n in self.logs],
            "statements": dict(self.statements),
            "records": self.records,
            "files": self.files,
            "sealed": self.sealed,
            "models": [
                {"name": c.model, "digest": str(c.digest), "ok": c.ok} for c in self.models
            ],
            "rollback": self.rollback,
            "development_keys": list(self.development),
            "separation_of_duties": self.separation,
            "trust": self.trust,
            "minimum": self.minimum,
            "anchored": list(self.anchored),
            "warnings": list(self.warnings),
            "nested": [n.to_dict() for n in self.nested],
        }

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows())
        lines = [f"{name:<{width}}  {value}" for name, value in self.rows()]
        lines += [f"{'warning':<{width}}  {text}" for text in self.warnings]
        return "\n".join(["verified", *lines])

    def _repr_html_(self) -> str:
        return card("verified", self.rows(), note=" · ".join(self.warnings))
