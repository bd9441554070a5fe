"""
Checking an audit log's records against each other and against their values.

That the leaves are the ones the log was signed for is the log's own
verification; what is checked here is what they say: each is a record, no
writer has a gap, no record is there twice, and each commitment opens with the
value that lies beside it.

Everything found is reported, with its place; `enforce` turns findings into an
error.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from secureml._html import card
from secureml.audit.checkdetails import (
    DetailsReport,
    check_details,
    matches_input,
    matching_path,
    open_value,
    survey_details,
)
from secureml.audit.findings import SHOWN, AuditFinding, enforce
from secureml.audit.record import Record
from secureml.errors import FormatError
from secureml.wire.canonical import JSON

__all__ = [
    "AuditFinding",
    "AuditReport",
    "DetailsReport",
    "check_details",
    "check_records",
    "matches_input",
    "matching_path",
    "open_value",
    "survey_details",
    "survey_records",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """
    What the records of a log say about themselves.

    Attributes:
        records: Those that could be read.
        writers: Writer → number of its records.
        unfinished: Writers without an ``end`` or a ``seal``: killed, or still writing.
        findings: What is wrong; empty when all is well.
    """

    records: tuple[Record, ...]
    writers: Mapping[str, int]
    unfinished: tuple[str, ...]
    findings: tuple[AuditFinding, ...]

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Outcome → number, of calls."""
        return Counter(r.outcome for r in self.records if r.type == "call" and r.outcome)

    def enforce(self) -> None:
        """
        Return when all is well.

        Raises:
            VerificationError: It names each finding.
        """
        enforce("the audit log's records do not hold", self.findings)

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("records", len(self.records)),
            ("writers", len(self.writers)),
            ("unfinished", len(self.unfinished)),
            *((f"outcome {name}", count) for name, count in sorted(self.outcomes.items())),
            *(("finding", finding) for finding in self.findings[:SHOWN]),
        ]
        return card("audit records", rows)


@dataclass(slots=True)
class _Writer:
    next: int = 0
    ended: bool = False
    finished: bool = False
    count: int = 0


@dataclass(slots=True)
class _Check:
    findings: list[AuditFinding] = field(default_factory=list)
    writers: dict[str, _Writer] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def add(self, index: int, what: str) -> None:
        self.findings.append(AuditFinding(f"leaf {index}", what))

    def sequence(self, index: int, record: Record) -> None:
        writer = self.writers.setdefault(record.writer, _Writer())
        short = record.writer[:8]
        if writer.ended:
            self.add(index, f"writer {short}… goes on after its end")
        if record.seq < writer.next:
            self.add(index, f"writer {short}… has number {record.seq} a second time, or late")
        elif record.seq > writer.next:
            missing = record.seq - writer.next
            self.add(
                index,
                f"writer {short}… goes from number {writer.next - 1} to {record.seq}: "
                f"{missing} record{'s' if missing > 1 else ''} missing",
            )
        if (record.type == "start") != (record.seq == 0):
            self.add(index, f"writer {short}… has a {record.type!r} as number {record.seq}")
        writer.next = max(writer.next, record.seq + 1)
        writer.count += 1
        writer.finished = record.type in {"end", "seal"}
        if record.type == "end":
            writer.ended = True
            said = cast("Mapping[str, JSON]", record.body["end"])["records"]
            if said != writer.count:
                self.add(
                    index, f"writer {short}… ends with {said} records, there are {writer.count}"
                )

    def identity(self, index: int, record: Record) -> None:
        first = self.ids.setdefault(record.id, index)
        if first != index:
            self.add(index, f"has the id of record {first}")


def check_records(entries: Iterable[bytes]) -> tuple[Record, ...]:
    """
    Return the records of a log, after checking that no writer has a gap.

    Args:
        entries: Every leaf of a verified log, from the first.

    Raises:
        VerificationError: It names each finding.
    """
    report = survey_records(entries)
    report.enforce()
    return report.records


def survey_records(entries: Iterable[bytes]) -> AuditReport:
    """
    Check every record, and report what was found instead of raising.

    Args:
        entries: Every leaf of a verified log, from the first.
    """
    check = _Check()
    records: list[Record] = []
    for index, leaf in enumerate(entries):
        try:
            record = Record.decode(leaf)
        except FormatError as error:
            check.add(index, f"is no audit record: {error.why}")
            continue
        check.sequence(index, record)
        check.identity(index, record)
        records.append(record)
    return AuditReport(
        records=tuple(records),
        writers={name: writer.count for name, writer in check.writers.items()},
        unfinished=tuple(name for name, writer in check.writers.items() if not writer.finished),
        findings=tuple(check.findings),
    )
