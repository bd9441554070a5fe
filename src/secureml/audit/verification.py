"""
Verifying an audit log as an auditor: the files, the records and the window.

One pass over the entries rebuilds the tree and reads the records, so what was
hashed is what was read.  What comes out says three things: that the log is
what its signer signed, what its records say about themselves, and how much of
it nothing outside the directory holds yet.

The last is the *undetected window*.  Whoever has the log's key can write the
entries in it anew, or cut them off, and no verification of the directory
alone will ever tell.

Source: docs/how-to/verify-a-log.md.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from secureml._html import card
from secureml.audit._epochs import epoch_of
from secureml.audit._survey import Level, Survey
from secureml.audit.checkdetails import DetailsReport, survey_details
from secureml.audit.findings import SHOWN, AuditFinding
from secureml.audit.record import Record
from secureml.audit.retention import verify_pruned_log
from secureml.audit.verify import AuditReport, begin, report_of
from secureml.errors import FormatError
from secureml.evidence._reader import LogDirectory
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.checkpruned import PrunedLog
from secureml.evidence.pruning import absent_bundles
from secureml.evidence.trust import Trust
from secureml.sealing import SubjectKeys
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

__all__ = ["AuditVerification", "Window", "epoch_of", "verify_audit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    What nothing outside the directory commits to.

    Attributes:
        first: Index of the first entry in it; the log's size where it is empty.
        size: Number of entries in it.
        begins: Time of its first record, as the record says it; None where it
            is empty, or where the leaf is no record.
        ends: Time of the log's last record.
        rollback: ``checked`` against a remembered checkpoint, or ``not checkable``.
    """

    first: int
    size: int
    begins: str | None
    ends: str | None
    rollback: str

    def __str__(self) -> str:
        if not self.size:
            text = "none: a checkpoint that is kept elsewhere covers every entry"
        else:
            when = f", {self.begins or '?'} to {self.ends or '?'}"
            text = (
                f"{self.size:,} entries, from {self.first:,} to {self.first + self.size - 1:,}"
                f"{when}: who has the log's key could write them anew, or cut them off, unseen"
            )
        return text

    def to_dict(self) -> dict[str, object]:
        """Return the window as plain values."""
        return {
            "first": self.first,
            "size": self.size,
            "begins": self.begins,
            "ends": self.ends,
            "rollback": self.rollback,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerification:
    """
    An audit log whose every byte was checked, and what was found in it.

    Exists only where files, tree and signature hold; what does not hold there
    was raised.  What the records say is in `findings`, which `enforce` raises.

    Attributes:
        directory: The log.
        proven: What the verification of its files returned, with entries and proofs.
        origin: The log's name.
        size: Number of entries.
        root: Root hash, 32 bytes.
        signer: Name of the identity that signed the checkpoint.
        trust: Digest of the trust that decided.
        minimum: Index below which entries were removed under a policy; 0 where
            the log was not pruned.
        report: What the records say about themselves.
        details: What lies beside the log; None where it was not asked for.
        window: What nothing outside the directory commits to.
        profile: The profile that calls were held against, or None.
    """

    directory: Path
    proven: VerifiedLog | PrunedLog
    origin: str
    size: int
    root: bytes
    signer: str
    trust: str
    minimum: int
    report: AuditReport
    details: DetailsReport | None
    window: Window
    profile: str | None

    @property
    def log(self) -> VerifiedLog | None:
        """What `verify_log` returned; None for a log that was pruned."""
        return self.proven if isinstance(self.proven, VerifiedLog) else None

    @property
    def findings(self) -> tuple[AuditFinding, ...]:
        """Everything that was found, records first, details after."""
        return self.report.findings + (self.details.findings if self.details else ())

    @property
    def ok(self) -> bool:
        """Whether there is no error; there may be warnings."""
        return self.report.ok and not (self.details and self.details.findings)

    @property
    def first_bad(self) -> int | None:
        """Index of the first entry with an error; None where there is none."""
        places = [one.index for one in self.report.errors if one.index is not None]
        return min(places, default=None)

    def enforce(self, *, strict: bool = False) -> None:
        """
        Return when all is well.

        Args:
            strict: Also raise for warnings.

        Raises:
            VerificationError: It names each finding.
        """
        self.report.enforce(strict=strict)
        if self.details is not None:
            self.details.enforce()

    def rows(self) -> list[tuple[str, object]]:
        """Return the verification as (name, value) lines."""
        report = self.report
        rows: list[tuple[str, object]] = [
            ("log", f"{self.origin}, {self.size:,} entries"),
            ("root", self.root.hex()),
            ("signer", self.signer),
            ("records", self._read()),
            ("writers", _writers(report)),
        ]
        if self.minimum:
            rows.append(("pruned", f"below entry {self.minimum:,}, as the log itself says"))
        if report.outcomes:
            said = sorted(report.outcomes.items())
            rows.append(("outcomes", ", ".join(f"{name} {count:,}" for name, count in said)))
        if self.details is not None:
            rows.append(("details", _values(self.details)))
        if self.first_bad is not None:
            rows.append(("first bad entry", self.first_bad))
        rows += [(one.severity, f"[{one.code}] {one}") for one in self.findings[:SHOWN]]
        total = sum(report.found.values()) + len(self.findings) - len(report.findings)
        if total > SHOWN:
            counts = ", ".join(f"{code} {count:,}" for code, count in sorted(report.found.items()))
            rows.append(("findings", f"{total:,} in all: {counts}"))
        rows += [("rollback", self.window.rollback), ("undetected window", self.window)]
        return rows

    def _read(self) -> str:
        if self.report.level == "sequence":
            return f"{self.report.count:,}, by writer and number only"
        under = f", held against {self.profile}" if self.profile else ""
        return f"{self.report.count:,} read{under}"

    def to_dict(self) -> dict[str, object]:
        """Return the verification as plain values."""
        details = self.details
        return {
            **self.report.to_dict(),
            "ok": self.ok,
            "directory": str(self.directory),
            "origin": self.origin,
            "size": self.size,
            "root": self.root.hex(),
            "signer": self.signer,
            "trust": self.trust,
            "minimum": self.minimum,
            "profile": self.profile,
            "first_bad": self.first_bad,
            "details": None
            if details is None
            else {"values": details.values, "encrypted": details.encrypted},
            "findings": [one.to_dict() for one in self.findings],
            "undetected_window": self.window.to_dict(),
        }

    def to_json(self) -> str:
        """Return the verification as JSON, for ``--json``."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        title = "verified" if self.ok else "the log is whole; its records do not hold"
        return "\n".join([title, *(f"{name:<{width}}  {_line(value)}" for name, value in rows)])

    def _repr_html_(self) -> str:
        return card("Verified audit log" if self.ok else "Audit log with errors", self.rows())


def verify_audit(
    directory: str | os.PathLike[str],
    *,
    trust: Trust,
    role: str = "audit",
    remembered: Sequence[str] = (),
    anchors: Sequence[str] = (),
    level: Level = "records",
    profile: str | None = None,
    details: str | os.PathLike[str] | None = None,
    now: datetime | None = None,
    epochs: str | os.PathLike[str] | Sequence[str] | None = None,
    keys: SubjectKeys | None = None,
) -> AuditVerification:
    """
    Check every file of an audit log, and what its records say.

    Takes 32 bytes of memory an entry for the tree and 16 for the ids.  May
    run beside the writer.

    Args:
        directory: The log; nothing else may lie in it.
        trust: The reviewed root.
        role: The role of the log's key in *trust*.
        remembered: Signed checkpoints of this log that were kept *outside* of
            the directory and of whatever it was shipped with.
        anchors: Signed checkpoints of it whose receipts were verified: by a
            witness, a time stamp, a copy that nobody can change.  They close
            the undetected window up to their size; only *remembered* ones
            show a rollback.
        level: ``records``, or ``sequence``: tree, signature, and no writer's
            record missing, without reading JSON.
        profile: Name of the profile that calls have to meet.
        details: The directory of captured values, to be checked as well.
        now: The auditor's clock; see `survey_records`.
        epochs: The boundary notes of a log with epoch keys, or the file that
            has them; see `verify_log`.
        keys: The subject keys: encrypted values are opened as well.

    Raises:
        KeyUnavailableError: A key cannot be read.
        ValueError: As `survey_records`; or *details* at the level ``sequence``.
        VerificationError: As `verify_log`: files, tree or signature do not
            hold; the error names the entry or the file.
        FormatError: A file is not in its format.
        StoreError: The system could not read a file, or there is no log.
    """
    if details is not None and level == "sequence":
        msg = "details are checked against records: ask for level='records'"
        raise ValueError(msg)
    path = Path(directory)
    covered = max((_size(note) for note in (*remembered, *anchors)), default=0)
    pruned = _is_pruned(path)
    keep = pruned and details is not None
    reading = _Reading(lambda: begin(level, records=keep, profile=profile, now=now), covered)
    proven: VerifiedLog | PrunedLog
    if pruned:
        proven = verify_pruned_log(
            path,
            trust=trust,
            remembered=remembered,
            visit=reading.feed,
            role=role,
            anchors=anchors,
            epochs=epochs,
            epoch_of=epoch_of,
        )
        log, minimum = None, proven.minimum
    else:
        proven = log = _verify_whole(path, trust, role, remembered, anchors, epochs, reading)
        minimum = 0
    report = report_of(reading.survey, None if log is None else log.entries, now)
    beside = None
    if details is not None:
        beside = survey_details(
            reading.records(minimum) if log is None else _records(log.entries),
            Path(details),
            open_end=bool(report.unfinished),
            first=minimum,
            keys=keys,
        )
    return AuditVerification(
        directory=path,
        proven=proven,
        origin=proven.origin,
        size=proven.size,
        root=proven.root,
        signer=proven.signer.name,
        trust=str(proven.trust_digest),
        minimum=minimum,
        report=report,
        details=beside,
        window=reading.window(proven.size, "checked" if remembered else "not checkable"),
        profile=profile,
    )


def _size(note: str) -> int:
    """Return the size that a note states; whether it is signed is the log's verification."""
    return Checkpoint.decode(Note.decode(note).text).size


class _Reading:
    """One pass over the entries: what the survey sees, and what the window needs of it."""

    def __init__(self, begun: Callable[[], Survey], covered: int) -> None:
        self._begun = begun
        self._covered = covered
        self._restart()

    def _restart(self) -> None:
        self._next = 0
        self._ends: list[bytes] = []
        self._places: list[tuple[int, int]] = []
        self.survey = self._begun()

    def feed(self, first: int, leaves: list[bytes]) -> None:
        if first < self._next:
            # The log moved on while it was read, and the reading begins again.
            self._restart()
        self._next = first + len(leaves)
        if self.survey.records is not None:
            self._places.append((first, len(self.survey.records)))
        if self._next > self._covered:
            begins = self._ends[:1] or leaves[max(0, self._covered - first) :][:1]
            self._ends = [*begins, leaves[-1]]
        self.survey.feed(first, leaves)

    def records(self, minimum: int) -> list[Record]:
        """Return the records that were kept, of the leaves from *minimum* on."""
        kept = self.survey.records or []
        return kept[next((at for first, at in self._places if first >= minimum), len(kept)) :]

    def window(self, size: int, rollback: str) -> Window:
        begins, ends = map(_time, self._ends or (b"", b""))
        return Window(
            first=self._covered,
            size=size - self._covered,
            begins=begins,
            ends=ends,
            rollback=rollback,
        )


def _is_pruned(directory: Path) -> bool:
    """Return whether the first bundle of a log is gone, or another; verified later."""
    seen = LogDirectory(directory).sighting()
    return seen is not None and bool(absent_bundles(directory, seen.checkpoint.size))


def _verify_whole(
    path: Path,
    trust: Trust,
    role: str,
    remembered: Sequence[str],
    anchors: Sequence[str],
    epochs: str | os.PathLike[str] | Sequence[str] | None,
    reading: _Reading,
) -> VerifiedLog:
    return verify_log(
        path,
        trust=trust,
        role=role,
        remembered=remembered,
        anchors=anchors,
        epochs=epochs,
        epoch_of=epoch_of,
        visit=reading.feed,
    )


def _records(entries: Iterable[bytes]) -> Iterator[Record]:
    for leaf in entries:
        try:
            yield Record.decode(leaf)
        except FormatError:
            continue  # The survey has said so.


def _time(leaf: bytes) -> str | None:
    try:
        return Record.decode(leaf).time
    except FormatError:
        return None


def _writers(report: AuditReport) -> str:
    text = f"{len(report.writers):,}"
    if report.unfinished:
        text += f", {len(report.unfinished):,} without an end"
    if report.recovered:
        text += f", {len(report.recovered):,} killed and accounted for"
    return text


def _values(details: DetailsReport) -> str:
    text = f"{details.values:,} values open their commitment"
    if details.encrypted:
        text += f"; {details.encrypted:,} more are encrypted, unchanged, and were not opened"
    return text


def _line(value: object) -> str:
    """Return *value* on one line: texts in a log are other people's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
