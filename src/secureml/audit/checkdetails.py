"""
Checking the values beside an audit log against the commitments in its records.

Everything found is reported, with its place; `enforce` turns findings into an
error.  What a record captured is opened here too, after the same check.

Source: docs/spec/audit-record.md, section "Details".
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from secureml._html import card
from secureml.audit.decoding import decode, plain
from secureml.audit.details import Detail, Sealed, read_details, read_segment, segments, strangers
from secureml.audit.findings import SHOWN, AuditFinding, enforce
from secureml.audit.record import Record
from secureml.audit.value import commit, encode
from secureml.errors import DigestMismatchError, FormatError

__all__ = [
    "DetailsReport",
    "check_details",
    "matches_input",
    "matching_path",
    "open_value",
    "survey_details",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailsReport:
    """
    What lies beside the log, checked against it.

    Attributes:
        values: Number of values that open their commitment.
        erased: Number of values that are gone, as an erasure leaf says.
        findings: What is wrong; empty when all is well.
    """

    values: int
    erased: int
    findings: tuple[AuditFinding, ...]

    def enforce(self) -> None:
        """
        Return when all is well.

        Raises:
            VerificationError: It names each finding.
        """
        enforce("the audit log's details do not hold", self.findings)

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("values that open", self.values),
            ("erased", self.erased),
            *(("finding", finding) for finding in self.findings[:SHOWN]),
        ]
        return card("audit details", rows)


def check_details(
    records: Iterable[Record], directory: Path, *, partial: bool = False, open_end: bool = False
) -> DetailsReport:
    """
    Check that every commitment opens, and that nothing else lies in *directory*.

    Args:
        records: Every record of the log; with *partial*, those to be checked.
        directory: The details.
        partial: Pass over lines of records that are not given.
        open_end: Pass over lines at the very end that belong to no record: a
            writer at work writes them before it publishes the record.

    Raises:
        VerificationError: It names each finding.
        StoreError: A file cannot be read.
    """
    report = survey_details(records, directory, partial=partial, open_end=open_end)
    report.enforce()
    return report


def survey_details(
    records: Iterable[Record], directory: Path, *, partial: bool = False, open_end: bool = False
) -> DetailsReport:
    """
    Check the details as `check_details`, and report what was found instead of raising.

    Raises:
        StoreError: A file cannot be read.
    """
    expected: dict[str, dict[str, Record]] = {}
    erased: set[str] = set()
    tally = _Tally()
    for record in records:
        if record.commitments:
            if record.segment is None:
                tally.add(record, "has commitments, and names no details")
            else:
                expected.setdefault(record.segment, {})[record.id] = record
        if record.type == "erasure":
            erased.update(cast("Mapping[str, list[str]]", record.body["erasure"])["records"])
    present = () if partial else segments(directory)
    for name in () if partial else strangers(directory):
        tally.findings.append(AuditFinding(f"details/{name[:80]}", "is no details file"))
    loose: list[AuditFinding] = []
    for segment in sorted(expected.keys() | set(present)):
        named = expected.get(segment, {})
        for number, line in enumerate(read_segment(directory, segment), 1):
            if partial and line[7:43].decode("ascii", "replace") not in named:
                continue
            place = f"line {number} of details/{segment}.jsonl"
            try:
                detail = Detail.decode(line)
            except FormatError as error:
                loose.append(AuditFinding(place, f"is malformed: {error.why}"))
                continue
            found = named.pop(detail.id, None)
            if found is None:
                loose.append(AuditFinding(place, "belongs to no record, or is a copy"))
                continue
            # A line that belongs to a record: what came before it is not the end.
            tally.findings += loose
            loose.clear()
            if detail.id in erased:
                tally.add(found, "its details were erased, and are there")
            tally.compare(found, detail.values)
        for record in named.values():
            if record.id in erased:
                tally.erased += len(record.commitments)
            else:
                tally.add(record, "its details are missing, and no erasure is recorded")
    if not open_end:
        tally.findings += loose
    return DetailsReport(values=tally.opened, erased=tally.erased, findings=tuple(tally.findings))


@dataclass(slots=True)
class _Tally:
    findings: list[AuditFinding] = field(default_factory=list)
    opened: int = 0
    erased: int = 0

    def add(self, record: Record, what: str) -> None:
        self.findings.append(AuditFinding(f"record {record.id}", what))

    def compare(self, record: Record, values: Mapping[str, Sealed]) -> None:
        wanted = record.commitments
        for path in sorted(values.keys() - wanted.keys()):
            self.add(record, f"the details have a value for {path[:256]!r}, the record has not")
        for path, commitment in wanted.items():
            sealed = values.get(path)
            if sealed is None:
                self.add(record, f"the value of {path!r} is missing")
            elif sealed.commitment != commitment:
                self.add(record, f"the value of {path!r} was changed")
            else:
                try:
                    decode(sealed.encoded)
                except FormatError as error:
                    self.add(record, f"the value of {path!r} is malformed: {error.why}")
                else:
                    self.opened += 1


def open_value(record: Record, details: Path, path: str) -> object:
    """
    Return the captured value at *path*, after checking it against its commitment.

    Raises:
        LookupError: The record captured nothing there, or its value was erased.
        DigestMismatchError: The value beside the log is not the one recorded.
        FormatError: Its bytes are malformed.
        StoreError: The details cannot be read.
    """
    return decode(_sealed(record, details, path).encoded)


def matches_input(record: Record, details: Path, path: str, value: object) -> bool:
    """
    Return whether *value* is what was captured at *path*.

    Equal by type and content; or, for a value that came by way of JSON, by
    content alone: a mapping equals an object with the same fields, nested
    lists equal an array.

    Raises:
        TypeError, ValueError: *value* has no encoding.
        LookupError, DigestMismatchError, FormatError, StoreError: As `open_value`.
    """
    sealed = _sealed(record, details, path)
    given = encode(value, path=path)
    if commit(sealed.salt, given).hex() == record.commitments[path]:
        return True
    return encode(plain(decode(sealed.encoded))) == encode(plain(decode(given)))


def matching_path(record: Record, details: Path, value: object) -> str | None:
    """
    Return the path of the captured input that *value* is, or None when it is none of them.

    Raises:
        TypeError, ValueError: *value* has no encoding.
        DigestMismatchError, FormatError, StoreError: As `open_value`.
    """
    for path in record.inputs:
        with contextlib.suppress(LookupError):
            if matches_input(record, details, path, value):
                return path
    return None


def _sealed(record: Record, details: Path, path: str) -> Sealed:
    commitment = record.commitments.get(path)
    if commitment is None or record.segment is None:
        captured = ", ".join(map(repr, record.commitments)) or "nothing"
        msg = f"record {record.id} did not capture {path!r}: it captured {captured}"
        raise LookupError(msg)
    detail = read_details(details, record.segment, record.id)
    sealed = None if detail is None else detail.values.get(path)
    if sealed is None:
        msg = f"the value of {path!r} in record {record.id} is not there: it was erased"
        raise LookupError(msg)
    if sealed.commitment != commitment:
        raise DigestMismatchError(
            f"the value of {path!r} beside the log is not the one of record {record.id}",
            why=f"it opens to {sealed.commitment[:16]}…, the record has {commitment[:16]}…",
            fix="the details were edited: restore them from a copy; the record itself stands",
        )
    return sealed
