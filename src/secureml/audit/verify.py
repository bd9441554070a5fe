"""
Checking an audit log's records against each other and against their values.

That the leaves are the ones the log was signed for is the log's own
verification; what is checked here is what they say: each is a record, no
writer has a gap or fell silent, no record is there twice, every call that was
announced has an outcome.  `verify_audit` does both in one go.

Everything found is reported, with its place; `enforce` turns findings into an
error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from secureml._html import card
from secureml.audit._notes import CODES
from secureml.audit._survey import Level, Survey
from secureml.audit.checkdetails import (
    DetailsReport,
    check_details,
    matches_input,
    matching_path,
    open_value,
    survey_details,
)
from secureml.audit.findings import ERROR, SHOWN, AuditFinding, enforce
from secureml.audit.record import Record

__all__ = [
    "AuditFinding",
    "AuditReport",
    "DetailsReport",
    "check_details",
    "check_records",
    "matches_input",
    "matching_path",
    "open_value",
    "report_of",
    "survey_details",
    "survey_records",
]

_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """
    What the records of a log say about themselves.

    Attributes:
        count: How many leaves are records.
        writers: Writer → number of its records.
        unfinished: Writers without an ``end``, a ``seal`` or a ``recovery``: still
            writing, or gone.
        recovered: Writers that were killed, and that a ``recovery`` accounts for.
        findings: What is wrong, in the order of the leaves; empty when all is
            well.  Of each severity, the first ten thousand.
        found: Code → number of findings, also of those that were not kept.
        types: Type → number of records; empty at the level ``sequence``.
        outcomes: Outcome → number, of calls.
        level: ``records``: each was read and checked; ``sequence``: writer and number only.
        records: The records, where they were asked for; else None.
    """

    count: int
    writers: Mapping[str, int]
    unfinished: tuple[str, ...]
    findings: tuple[AuditFinding, ...]
    recovered: tuple[str, ...] = ()
    found: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    level: Level = "records"
    records: tuple[Record, ...] | None = None

    @property
    def errors(self) -> tuple[AuditFinding, ...]:
        """Findings that make the log unfit as evidence of what it says."""
        return tuple(one for one in self.findings if one.severity == ERROR)

    @property
    def warnings(self) -> tuple[AuditFinding, ...]:
        """Findings that the log accounts for."""
        return tuple(one for one in self.findings if one.severity != ERROR)

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return not self.errors

    def enforce(self, *, strict: bool = False) -> None:
        """
        Return when all is well.

        Args:
            strict: Also raise for warnings.

        Raises:
            VerificationError: It names each finding.
        """
        total = sum(
            number for code, number in self.found.items() if strict or CODES[code] == ERROR
        )
        enforce(
            "the audit log's records do not hold",
            self.findings if strict else self.errors,
            total=total,
        )

    def rows(self) -> list[tuple[str, object]]:
        """Return the report as (name, value) lines."""
        return [
            ("records", self.count),
            ("writers", len(self.writers)),
            ("unfinished", len(self.unfinished)),
            *((f"outcome {name}", count) for name, count in sorted(self.outcomes.items())),
            *((one.severity, one) for one in self.findings[:SHOWN]),
        ]

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain values, for ``--json``."""
        return {
            "ok": self.ok,
            "level": self.level,
            "records": self.count,
            "writers": dict(self.writers),
            "unfinished": list(self.unfinished),
            "recovered": list(self.recovered),
            "types": dict(self.types),
            "outcomes": dict(self.outcomes),
            "found": dict(self.found),
            "findings": [one.to_dict() for one in self.findings],
        }

    def _repr_html_(self) -> str:
        return card("audit records", self.rows())


def check_records(entries: Iterable[bytes]) -> tuple[Record, ...]:
    """
    Return the records of a log, after checking that no writer has a gap.

    Args:
        entries: Every leaf of a verified log, from the first.

    Raises:
        VerificationError: It names each error; warnings are passed over.
    """
    report = survey_records(entries, records=True)
    report.enforce()
    return report.records or ()


def survey_records(
    entries: Iterable[bytes],
    *,
    level: Level = "records",
    records: bool = False,
    profile: str | None = None,
    now: datetime | None = None,
) -> AuditReport:
    """
    Check every record, and report what was found instead of raising.

    Streams: memory grows by 16 bytes a record, for the ids, and with the
    number of writers; not at all at the level ``sequence``.

    Args:
        entries: Every leaf of a verified log, from the first.  A sequence is
            looked at a second time where two records share an id; of other
            iterables the place is named less exactly then.
        level: ``records``, or ``sequence``: read the fixed prefix of each
            leaf only, and show that no writer's record is missing.
        records: Keep the records for the report.
        profile: Name of the profile that calls have to meet.
        now: The auditor's clock, so that the silence of a log that is written
            to is noticed before its next record; without it the log's last
            record is taken.

    Raises:
        ValueError: Another level; no such profile; *records* or *profile* at
            the level ``sequence``; *now* without a time zone.
    """
    survey = begin(level, records=records, profile=profile, now=now)
    leaves = iter(entries)
    first = 0
    while batch := list(islice(leaves, _BATCH)):
        survey.feed(first, batch)
        first += len(batch)
    return report_of(survey, entries if isinstance(entries, Sequence) else None, now)


def begin(
    level: Level,
    *,
    records: bool = False,
    profile: str | None = None,
    now: datetime | None = None,
) -> Survey:
    """
    Return a survey that has seen nothing; see `survey_records`.

    Raises:
        ValueError: As there.
    """
    if level not in {"records", "sequence"}:
        msg = f"level is 'records' or 'sequence', not {level!r}"
        raise ValueError(msg)
    if level == "sequence" and (records or profile is not None):
        msg = "at the level 'sequence' no record is read: ask for level='records'"
        raise ValueError(msg)
    if now is not None and now.tzinfo is None:
        msg = f"now needs a time zone, got {now!r}: use datetime.now(timezone.utc)"
        raise ValueError(msg)
    return Survey(level=level, keep=records, profile=profile)


def report_of(
    survey: Survey, again: Iterable[bytes] | None, now: datetime | None = None
) -> AuditReport:
    """Close *survey*, and return what it found; see `Survey.close`."""
    survey.close(again, now)
    finished = {name for name, one in survey.writers.items() if one.finished}
    recovered = [name for name, one in survey.writers.items() if one.recovery is not None]
    return AuditReport(
        count=survey.count,
        writers={name: one.count for name, one in survey.writers.items()},
        unfinished=()
        if survey.level == "sequence"
        else tuple(n for n in survey.writers if n not in finished and n not in recovered),
        recovered=tuple(n for n in recovered if n not in finished),
        findings=survey.notes.findings(),
        found=dict(+survey.notes.found),
        types=dict(survey.types),
        outcomes=dict(survey.outcomes),
        level=survey.level,
        records=None if survey.records is None else tuple(survey.records),
    )
