"""
Checking the values beside an audit log against the commitments in its records.

Everything found is reported, with its place; `enforce` turns findings into an
error.  What a record captured is opened here too, after the same check.

Of an encrypted value everybody can check that the ciphertext is the one that
was recorded; that it opens, who has the key.  A value whose key was destroyed
under an ``erasure`` leaf is gone on purpose, whether its ciphertext is still
there or not.

Source: docs/spec/audit-record.md, section "Details"; docs/spec/sealed-values.md.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, cast

from secureml._html import card
from secureml.audit._standing import Standing, hold_of
from secureml.audit.decoding import decode, plain
from secureml.audit.details import (
    Detail,
    Encrypted,
    Sealed,
    line_id,
    read_details,
    read_segment,
    segments,
    sequence_of,
    strangers,
)
from secureml.audit.fields import ALGORITHM
from secureml.audit.findings import SHOWN, AuditFinding, enforce
from secureml.audit.record import Record
from secureml.audit.value import commit, encode
from secureml.errors import DigestMismatchError, FormatError, SecureMLError
from secureml.sealing import SubjectKeys
from secureml.wire.canonical import JSON

__all__ = [
    "Captured",
    "DetailsReport",
    "captured",
    "check_details",
    "matches_input",
    "matching_path",
    "open_value",
    "survey_details",
]

_SIDES: Final = ("in", "out")


class Captured(NamedTuple):
    """
    What a record says of one captured value.

    Attributes:
        commitment: 64 hex digits.
        key: Id of the key that encrypts it; empty when it is not encrypted.
        ref: Digest of the ciphertext, ``sha256:…``; empty when it is not encrypted.
    """

    commitment: str
    key: str
    ref: str


def captured(record: Record, sides: tuple[str, ...] = _SIDES) -> dict[str, Captured]:
    """
    Return what a record captured, by path, encrypted or not.

    Entries of an algorithm that this version does not know are left out.
    """
    found: dict[str, Captured] = {}
    for side in sides:
        for path, item in cast(
            "Mapping[str, Mapping[str, str]]", record.body.get(side, {})
        ).items():
            if item["alg"] == ALGORITHM:
                ref = item.get("ref", "")
                found[path] = Captured(item["commitment"], item.get("key", "") if ref else "", ref)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailsReport:
    """
    What lies beside the log, checked against it.

    Attributes:
        values: Number of values that open their commitment.
        erased: Number of values that are gone, as an erasure leaf says.
        encrypted: Number of values whose ciphertext is the one that was
            recorded, and that were not opened: no keys were given.
        unfinished: Number of values that an erasure leaf calls gone and that are there:
            their key, because a crash came in between, or they in the clear, because a
            legal hold did; see `complete_erasures`.
        pruned: Number of values that were removed with their records.
        findings: What is wrong; empty when all is well.
    """

    values: int
    erased: int
    findings: tuple[AuditFinding, ...]
    encrypted: int = 0
    unfinished: int = 0
    pruned: int = 0

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
            ("encrypted, not opened", self.encrypted),
            ("erased", self.erased),
            ("erasures not finished", self.unfinished),
            ("pruned", self.pruned),
            *(("finding", finding) for finding in self.findings[:SHOWN]),
        ]
        return card("audit details", rows)


def check_details(
    records: Iterable[Record],
    directory: Path,
    *,
    partial: bool = False,
    open_end: bool = False,
    keys: SubjectKeys | None = None,
    first: int = 0,
) -> DetailsReport:
    """
    Check that every commitment opens, and that nothing else lies in *directory*.

    Args:
        records: Every record of the log; with *partial*, those to be checked.
        directory: The details.
        partial: Pass over lines of records that are not given.
        open_end: Pass over lines at the very end of a writer's segments that belong to
            no record: a writer at work writes them before it publishes the record.
        keys: Opens encrypted values; without it, their ciphertext is checked.
        first: Index of the first of *records*, in a log that was pruned.

    Raises:
        VerificationError: It names each finding.
        StoreError: A file cannot be read.
        KeyUnavailableError: A key cannot be read.
    """
    report = survey_details(
        records, directory, partial=partial, open_end=open_end, keys=keys, first=first
    )
    report.enforce()
    return report


def survey_details(
    records: Iterable[Record],
    directory: Path,
    *,
    partial: bool = False,
    open_end: bool = False,
    keys: SubjectKeys | None = None,
    first: int = 0,
) -> DetailsReport:
    """
    Check the details as `check_details`, and report what was found instead of raising.

    Raises:
        StoreError: A file cannot be read.
        KeyUnavailableError: A key cannot be read.
    """
    tally = _Tally(keys)
    expected = tally.expect(records, None if partial else first)
    present = () if partial else segments(directory)
    for name in () if partial else strangers(directory):
        tally.findings.append(AuditFinding(f"details/{name[:80]}", "is no details file"))
    loose: list[AuditFinding] = []
    sequence: str | None = None
    for segment in sorted(expected.keys() | set(present), key=sequence_of):
        if sequence_of(segment)[0] != sequence:
            # Another writer's: what came before was the end of a sequence.
            sequence = sequence_of(segment)[0]
            tally.end(loose, open_end=open_end)
        named = expected.get(segment, {})
        for number, line in enumerate(read_segment(directory, segment), 1):
            if partial and line_id(line) not in named:
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
            tally.end(loose, open_end=False)
            tally.compare(found, detail)
        for record in named.values():
            tally.absent(record)
    tally.end(loose, open_end=open_end)
    return DetailsReport(
        values=tally.opened,
        erased=tally.erased,
        encrypted=tally.encrypted,
        unfinished=tally.unfinished,
        pruned=tally.pruned,
        findings=tuple(tally.findings),
    )


@dataclass(slots=True)
class _Tally:
    keys: SubjectKeys | None
    findings: list[AuditFinding] = field(default_factory=list)
    opened: int = 0
    erased: int = 0
    encrypted: int = 0
    unfinished: int = 0
    pruned: int = 0
    gone: set[str] = field(default_factory=set)
    shredded: set[str] = field(default_factory=set)
    standing: Standing = field(default_factory=Standing)
    old: set[str] = field(default_factory=set)

    def add(self, record: Record, what: str) -> None:
        self.findings.append(AuditFinding(f"record {record.id}", what))

    def end(self, loose: list[AuditFinding], *, open_end: bool) -> None:
        if not open_end:
            self.findings += loose
        loose.clear()

    def expect(self, records: Iterable[Record], first: int | None) -> dict[str, dict[str, Record]]:
        """Return the records that have details, by segment; note erasures and prunings."""
        expected: dict[str, dict[str, Record]] = {}
        places: list[tuple[int, str]] = []
        minimum = 0
        for place, record in enumerate(records, first or 0):
            if captured(record):
                places.append((place, record.id))
                if record.segment is None:
                    self.add(record, "has commitments, and names no details")
                else:
                    expected.setdefault(record.segment, {})[record.id] = record
            if record.type == "erasure":
                erasure = cast("Mapping[str, list[str]]", record.body["erasure"])
                self.gone.update(erasure["records"])
                self.shredded.update(erasure.get("keys", ()))
            elif record.type == "hold":
                hold_of(self.standing, cast("Mapping[str, JSON]", record.body["hold"]))
            elif record.type == "prune":
                below = cast("Mapping[str, JSON]", record.body["prune"]).get("minimum")
                minimum = max(minimum, below) if isinstance(below, int) else minimum
        if first is not None:
            self.old.update(name for place, name in places if place < minimum)
        return expected

    def absent(self, record: Record) -> None:
        """Count a record whose line is missing."""
        values = captured(record)
        if record.id in self.old:
            self.pruned += len(values)
        elif record.id in self.gone or all(one.key in self.shredded for one in values.values()):
            self.erased += len(values)
        else:
            self.add(record, "its details are missing, and no erasure is recorded")

    def compare(self, record: Record, detail: Detail) -> None:
        """Check a line against its record."""
        wanted = captured(record)
        if detail.id in self.gone and self.standing.held([record.actor]):
            # A hold that came in between defers the erasure: until it is released, they stay.
            self.unfinished += sum(not said.ref for said in wanted.values())
        elif detail.id in self.gone:
            self.add(record, "its details were erased, and are there")
        for path in sorted((detail.values.keys() | detail.encrypted.keys()) - wanted.keys()):
            self.add(record, f"the details have a value for {path[:256]!r}, the record has not")
        for path, said in wanted.items():
            if said.ref:
                self._compare_encrypted(record, path, said, detail)
                continue
            sealed = detail.values.get(path)
            if sealed is None:
                self.add(record, f"the value of {path!r} is missing")
            else:
                self._open(record, path, said, sealed)

    def _open(self, record: Record, path: str, said: Captured, sealed: Sealed) -> None:
        if sealed.commitment != said.commitment:
            self.add(record, f"the value of {path!r} was changed")
            return
        try:
            decode(sealed.encoded)
        except FormatError as error:
            self.add(record, f"the value of {path!r} is malformed: {error.why}")
        else:
            self.opened += 1

    def _compare_encrypted(
        self, record: Record, path: str, said: Captured, detail: Detail
    ) -> None:
        found = detail.encrypted.get(path)
        shredded = said.key in self.shredded
        if found is None:
            if shredded and path not in detail.values:
                self.erased += 1
            else:
                self.add(record, f"the value of {path!r} is missing, or is not encrypted")
        elif found.key != said.key or found.ref != said.ref:
            self.add(record, f"the value of {path!r} was changed")
        elif shredded:
            self.erased += 1
            if self.keys is not None and self.keys.has(said.key, subject=record.actor):
                self.unfinished += 1
        elif self.keys is None:
            self.encrypted += 1
        else:
            self._decrypt(self.keys, record, path, said, found)

    def _decrypt(
        self, keys: SubjectKeys, record: Record, path: str, said: Captured, found: Encrypted
    ) -> None:
        try:
            plaintext = keys.decrypt(found, record=record.id, path=path, subject=record.actor)
            sealed = Sealed.of_plaintext(plaintext)
        except LookupError:
            self.add(
                record,
                f"the value of {path!r} cannot be opened: its key {said.key[:8]}… is gone, and no "
                "erasure is recorded",
            )
        except SecureMLError as error:
            self.add(record, f"the value of {path!r} cannot be opened: {error.why}")
        else:
            self._open(record, path, said, sealed)


def open_value(
    record: Record, details: Path, path: str, *, keys: SubjectKeys | None = None
) -> object:
    """
    Return the captured value at *path*, after checking it against its commitment.

    Args:
        record: The record.
        details: The directory of the values.
        path: Where the value was captured.
        keys: Opens it when it is encrypted.

    Raises:
        LookupError: The record captured nothing there, its value was erased, or
            it is encrypted and its key is not given, or was destroyed.
        DigestMismatchError: The value beside the log is not the one recorded.
        VerificationError: It does not decrypt.
        FormatError: Its bytes are malformed.
        StoreError: The details cannot be read.
        KeyUnavailableError: The key cannot be read.
    """
    return decode(_sealed(record, details, path, keys).encoded)


def matches_input(
    record: Record,
    details: Path,
    path: str,
    value: object,
    *,
    keys: SubjectKeys | None = None,
) -> bool:
    """
    Return whether *value* is what was captured at *path*.

    Equal by type and content; or, for a value that came by way of JSON, by
    content alone: a mapping equals an object with the same fields, nested
    lists equal an array.

    Raises:
        TypeError, ValueError: *value* has no encoding.
        LookupError, VerificationError, FormatError, StoreError, KeyUnavailableError:
            As `open_value`.
    """
    sealed = _sealed(record, details, path, keys)
    given = encode(value, path=path)
    if commit(sealed.salt, given).hex() == captured(record)[path].commitment:
        return True
    return encode(plain(decode(sealed.encoded))) == encode(plain(decode(given)))


def matching_path(
    record: Record, details: Path, value: object, *, keys: SubjectKeys | None = None
) -> str | None:
    """
    Return the path of the captured input that *value* is, or None when it is none of them.

    Raises:
        TypeError, ValueError: *value* has no encoding.
        VerificationError, FormatError, StoreError, KeyUnavailableError: As `open_value`.
    """
    for path in captured(record, ("in",)):
        with contextlib.suppress(LookupError):
            if matches_input(record, details, path, value, keys=keys):
                return path
    return None


def _sealed(record: Record, details: Path, path: str, keys: SubjectKeys | None) -> Sealed:
    wanted = captured(record)
    said = wanted.get(path)
    if said is None or record.segment is None:
        names = ", ".join(map(repr, wanted)) or "nothing"
        msg = f"record {record.id} did not capture {path!r}: it captured {names}"
        raise LookupError(msg)
    detail = read_details(details, record.segment, record.id)
    if detail is not None and said.ref:
        sealed = _decrypted(record, path, said, detail.encrypted.get(path), keys)
    else:
        sealed = None if detail is None else detail.values.get(path)
    if sealed is None:
        msg = f"the value of {path!r} in record {record.id} is not there: it was erased"
        raise LookupError(msg)
    if sealed.commitment != said.commitment:
        raise _other(record, path, f"it opens to {sealed.commitment[:16]}…", said.commitment)
    return sealed


def _decrypted(
    record: Record,
    path: str,
    said: Captured,
    found: Encrypted | None,
    keys: SubjectKeys | None,
) -> Sealed | None:
    if found is None:
        return None
    if found.key != said.key or found.ref != said.ref:
        raise _other(record, path, f"its ciphertext is {found.ref[:23]}…", said.ref[7:])
    if keys is None:
        msg = f"the value of {path!r} in record {record.id} is encrypted: give the subject keys"
        raise LookupError(msg)
    plaintext = keys.decrypt(found, record=record.id, path=path, subject=record.actor)
    return Sealed.of_plaintext(plaintext)


def _other(record: Record, path: str, why: str, said: str) -> DigestMismatchError:
    return DigestMismatchError(
        f"the value of {path!r} beside the log is not the one of record {record.id}",
        why=f"{why}, the record has {said[:16]}…",
        fix="the details were edited: restore them from a copy; the record itself stands",
    )
