"""
Erasing what was captured about a person, without breaking a proof.

The leaf comes first, durably and under a checkpoint; then the person's keys
are destroyed, and lines that hold values in the clear leave the details.  So
at no moment is something gone that no leaf accounts for.  Every step can be
repeated: after a crash, `complete_erasures` does what is left.

Edge: what was copied elsewhere in the clear is not found here.  Encrypted
values are erased in every copy, with the key; see "Shredding" in
docs/spec/sealed-values.md for what a disk may keep.

Source: docs/spec/retention.md, section "Erasure".
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from secureml._durable import sync_directory
from secureml.audit._standing import Entries, Standing, leaves, read_standing
from secureml.audit.checkdetails import captured
from secureml.audit.details import FLAGS, line_id, read_segment
from secureml.audit.fields import ID
from secureml.audit.record import Record
from secureml.errors import GateDeniedError, StoreError
from secureml.evidence._flock import lock
from secureml.sealing import SubjectKeys
from secureml.wire.canonical import JSON

__all__ = ["Erasure", "complete_erasures", "erase", "remove_lines"]

_LABEL: Final = 128
_NAMED: Final = 700
"""Records, and keys, that one leaf names: some 52,000 of its 65,535 bytes."""


class Pseudonymous(Protocol):
    """**Protocol.** Gives people their names in the log; see `Pseudonyms`."""

    def of(self, user: object, *, path: str = "user") -> str:
        """Return the pseudonym of *user*."""


class AuditedLog(Protocol):
    """**Protocol.** The audit log as it is used here; `AuditLog` is one."""

    @property
    def log(self) -> Entries:
        """The transparency log."""

    @property
    def details(self) -> Path:
        """Directory of the values."""

    @property
    def pseudonyms(self) -> Pseudonymous:
        """Names of people."""

    def append(self, body: Mapping[str, JSON], *, durable: bool = False) -> object:
        """Append a record."""

    def publish(self) -> object:
        """Put every record under a signed checkpoint."""


Exclusive = Callable[[], AbstractContextManager[object]]
"""Keeps whoever appends to the details from doing so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """
    What an erasure destroyed.

    Attributes:
        records: Ids of the records that leaves were written for.
        keys: Ids of the keys that leaves were written for.
        shredded: Number of keys that were destroyed now.
        lines: Number of details lines that were removed now.
    """

    records: tuple[str, ...]
    keys: tuple[str, ...]
    shredded: int
    lines: int


def erase(
    log: AuditedLog,
    subject: object = None,
    *,
    reason: str,
    pseudonym: str | None = None,
    records: Collection[str] = (),
    authority: str | None = None,
    keys: SubjectKeys | None = None,
    exclusive: Exclusive = nullcontext,
    scratch: Path | None = None,
) -> Erasure:
    """
    Erase what was captured about a person, or with some records, up to now.

    Repeating it is harmless: what was erased is passed over, what was left
    undone is done.

    Args:
        log: The audit log, open for writing.
        subject: The person, as ``user`` was given; all their values are erased:
            encrypted ones with their keys, others with their records' lines.
        reason: Why, 1 to 128 characters; stands in the log, so no personal data.
        pseudonym: Instead of *subject*: the person's name in the log.
        records: Ids of records whose lines are to go as well.
        authority: Who decided, as reason.
        keys: The subject keys.
        exclusive: Keeps others away while lines are removed; segments are locked anyway.
        scratch: Directory on the details' file system for files that are being written;
            without it they lie among the details for a moment, where a verifier reports them.

    Raises:
        TypeError: *subject* cannot be one.
        ValueError: Nothing to erase is named, an id or *reason* is malformed.
        GateDeniedError: A legal hold forbids it; `reasons` names it.  When the hold came
            in between, the leaf is there and the removal waits: see `complete_erasures`.
        LookupError: No record has one of these ids.
        StoreError, KeyUnavailableError: It could not be done, or not to the end: call again.
    """
    if subject is not None:
        pseudonym = log.pseudonyms.of(subject)
    _check(pseudonym, records, reason, authority)
    log.publish()
    asked = frozenset(records)
    wanted = set(asked)
    lines: dict[str, str] = {}
    people: set[str | None] = set()
    standing = Standing()
    for index, leaf in leaves(log.log):
        read_standing([(index, leaf)], standing)
        record = _named(leaf, wanted, pseudonym)
        if record is None:
            continue
        wanted.discard(record.id)
        values = captured(record)
        if record.segment is not None and (
            record.id in asked or any(not one.ref for one in values.values())
        ):
            lines[record.id] = record.segment
            people.add(record.actor)
    if wanted:
        msg = f"the audit log has no record {min(wanted)!r}"
        raise LookupError(msg)
    if pseudonym is not None:
        people.add(pseudonym)
    _refuse_held(standing, people)
    owned = keys.ids(pseudonym) if keys is not None and pseudonym is not None else ()
    new_keys = [key for key in owned if key not in standing.keys]
    new_lines = [name for name in lines if name not in standing.records]
    for body in _bodies(new_lines, new_keys, reason, authority):
        log.append(body, durable=True)
    log.publish()
    # A hold may have been placed while this was written: it comes first.
    _refuse_held(read_standing(leaves(log.log, standing.next), standing), people)
    shredded = len(keys.shred(owned, subject=pseudonym)) if keys is not None and owned else 0
    return Erasure(
        records=tuple(new_lines),
        keys=tuple(new_keys),
        shredded=shredded,
        lines=_remove(log.details, lines, exclusive, scratch),
    )


def complete_erasures(
    log: AuditedLog,
    *,
    keys: SubjectKeys | None = None,
    exclusive: Exclusive = nullcontext,
    scratch: Path | None = None,
) -> Erasure:
    """
    Do what the erasure leaves of the log say and a crash, or a hold, left undone.

    Nothing is done for whom a hold covers, and nothing at all under a hold that covers all.

    Args:
        log: The audit log, open for writing.
        keys: The subject keys.
        exclusive: As in `erase`.
        scratch: As in `erase`.

    Raises:
        StoreError, KeyUnavailableError: It could not be done to the end: call again.
    """
    standing = read_standing(leaves(log.log))
    if any(not subjects for subjects in standing.holds.values()):
        return Erasure(records=(), keys=(), shredded=0, lines=0)
    lines: dict[str, str] = {}
    spared: set[str] = set()
    if standing.records or standing.keys:
        for _, leaf in leaves(log.log):
            if b'"details":' not in leaf:
                continue
            record = Record.decode(leaf)
            held = bool(standing.held([record.actor]))
            if record.id in standing.records and record.segment is not None and not held:
                lines[record.id] = record.segment
            if held:
                spared.update(one.key for one in captured(record).values())
    shredded: tuple[str, ...] = ()
    if keys is not None:
        shredded = keys.shred(standing.keys - spared)
    removed = _remove(log.details, lines, exclusive, scratch)
    return Erasure(records=(), keys=(), shredded=len(shredded), lines=removed)


def remove_lines(
    directory: Path, segment: str, records: Collection[str], *, scratch: Path | None = None
) -> int:
    """
    Remove the lines of *records* from a segment; return how many.

    The segment is written anew and renamed over the old one, which is
    overwritten then; a crash leaves the old one or the new one.  The old one is
    locked (``flock``) meanwhile: who appends takes the same lock, and opens the file again
    when it has no name any more.

    Args:
        directory: The details.
        segment: The segment.
        records: Ids.
        scratch: Directory on the same file system for the new file; without it, *directory*.

    Raises:
        StoreError: It could not be done; the segment is as it was.
    """
    gone = set(records)
    if not any(line_id(line) in gone for line in read_segment(directory, segment)):
        return 0
    path = directory / f"{segment}.jsonl"
    beside = (scratch or directory) / f".{segment}.{secrets.token_hex(8)}.tmp"
    try:
        held = lock(lambda: os.open(path, os.O_WRONLY | FLAGS))
        try:
            lines = list(map(line_id, read_segment(directory, segment)))
            removed = sum(name in gone for name in lines)
            kept = (line for line in read_segment(directory, segment) if line_id(line) not in gone)
            if _write(beside, kept):
                beside.replace(path)
            else:
                path.unlink()
            sync_directory(directory)
            _overwrite(held.fd)
        finally:
            held.close()
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
    except OSError as error:
        raise StoreError(
            f"the values in details/{segment}.jsonl could not be erased",
            why=str(error.strerror),
            fix="make room or set the modes right, and call again",
            retryable=True,
        ) from error
    return removed


def _write(path: Path, lines: Iterable[bytes]) -> int:
    count = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS
    with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123  a descriptor
        for line in lines:
            file.write(line)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _overwrite(fd: int) -> None:
    rest = os.fstat(fd).st_size
    os.lseek(fd, 0, os.SEEK_SET)
    while rest > 0:
        rest -= os.write(fd, bytes(min(rest, 1 << 20)))
    os.fsync(fd)


def _remove(
    details: Path, lines: Mapping[str, str], exclusive: Exclusive, scratch: Path | None
) -> int:
    by_segment: dict[str, set[str]] = {}
    for name, segment in lines.items():
        by_segment.setdefault(segment, set()).add(name)
    if not by_segment:
        return 0
    with exclusive():
        return sum(
            remove_lines(details, segment, names, scratch=scratch)
            for segment, names in sorted(by_segment.items())
        )


def _named(leaf: bytes, wanted: Collection[str], pseudonym: str | None) -> Record | None:
    """Return the record in *leaf* if it is one of *wanted*, or of that person; else None."""
    likely = pseudonym is not None and pseudonym.encode() in leaf
    if not likely and not wanted:
        return None
    record = Record.decode(leaf)
    if record.id in wanted or (pseudonym is not None and record.actor == pseudonym):
        return record
    return None


def _refuse_held(standing: Standing, people: Iterable[str | None]) -> None:
    names = standing.held(people)
    if names:
        raise GateDeniedError(
            "nothing is erased: a legal hold is placed",
            why=", ".join(repr(name) for name in names[:5]),
            fix="release the hold when the matter is closed, then erase",
            reasons=tuple(f"legal hold {name!r}" for name in names),
        )


def _bodies(
    records: list[str], keys: list[str], reason: str, authority: str | None
) -> Iterator[dict[str, JSON]]:
    said: dict[str, JSON] = {"reason": reason}
    if authority is not None:
        said["authority"] = authority
    for at in range(0, max(len(records), len(keys)), _NAMED):
        erasure: dict[str, JSON] = {**said, "records": records[at : at + _NAMED]}
        if some := keys[at : at + _NAMED]:
            erasure["keys"] = some
        yield {"erasure": erasure, "type": "erasure"}


def _check(
    pseudonym: str | None, records: Collection[str], reason: str, authority: str | None
) -> None:
    if pseudonym is None and not records:
        msg = "an erasure is of a subject or of records: neither was given"
        raise ValueError(msg)
    if isinstance(records, str):
        msg = "records is a collection of ids, not one text"
        raise TypeError(msg)
    for name in records:
        if not ID.fullmatch(name):
            msg = f"{name[:60]!r} is no id of a record"
            raise ValueError(msg)
    for label, value in (("reason", reason), ("authority", authority)):
        if value is not None and not 0 < len(value) <= _LABEL:
            msg = f"{label} has 1 to {_LABEL} characters"
            raise ValueError(msg)
