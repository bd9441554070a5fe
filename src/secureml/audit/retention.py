"""
How long records are kept, what stops their removal, and their removal.

All three are records: the policy, legal holds, and each pruning.  A log
without a policy is never pruned.  What is removed are entry bundles and details
lines; the tiles of hashes stay, so that every proof can still be made.

Edge: nobody can check what removed records said, nor that they were old
enough; only that they were there, how many, and in which order.

Source: docs/spec/retention.md; c2sp.org/tlog-tiles, section "Pruning".
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

from secureml.audit._standing import (
    Entries,
    Standing,
    leaves,
    policy_of,
    prune_of,
    read_standing,
)
from secureml.audit.erasing import AuditedLog, Exclusive, remove_lines
from secureml.audit.policies import FLOOR_DAYS, PRESETS, Preset, RetentionPolicy
from secureml.audit.record import Record, read_prefix
from secureml.clock import parse_time
from secureml.errors import GateDeniedError, StoreError
from secureml.wire.canonical import JSON

if TYPE_CHECKING:
    from secureml.evidence._logkeys import Notes
    from secureml.evidence.checkpruned import PrunedLog
    from secureml.evidence.pruning import Prune
    from secureml.evidence.trust import Trust

__all__ = [
    "FLOOR_DAYS",
    "PRESETS",
    "Due",
    "Preset",
    "Pruned",
    "RetentionPolicy",
    "complete_pruning",
    "due",
    "holds",
    "place_hold",
    "prune",
    "read_prune",
    "release_hold",
    "retention_policy",
    "set_policy",
    "verify_pruned_log",
]

_BUNDLE: Final = 256
_KEPT: Final = frozenset({"epoch", "hold", "prune", "retention"})
_LABEL: Final = 128
_WRITERS: Final = 1000


class Appends(Protocol):
    """**Protocol.** What takes a record; `AuditLog` does."""

    def append(self, body: Mapping[str, JSON], *, durable: bool = False) -> object:
        """Append a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """
    What the policy no longer keeps.

    Attributes:
        minimum: The minimum index that `prune` would set; a multiple of 256.
        records: How many records lie below it that are still there.
        values: Ids of records above it whose time is over and that have details: their
            lines can go at once, ``erase(log, records=due.values, …)``.
    """

    minimum: int
    records: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """
    What a pruning removed.

    Attributes:
        minimum: The log's minimum index now.
        bundles: Number of entry bundles removed now.
        lines: Number of details lines removed now.
    """

    minimum: int
    bundles: int
    lines: int


def set_policy(log: Appends, policy: RetentionPolicy) -> tuple[str, ...]:
    """
    Record *policy*, in force from here on; return its warnings.

    Raises:
        StoreError: The record was not accepted.
    """
    log.append({"retention": policy.to_json(), "type": "retention"}, durable=True)
    return policy.warnings()


def place_hold(log: Appends, name: str, *, subjects: Collection[str] = ()) -> None:
    """
    Place a legal hold: nothing is pruned, and nothing of *subjects* erased, until it is released.

    Args:
        log: The audit log.
        name: 1 to 128 characters; no personal data.
        subjects: Pseudonyms of the people it is about; without any, it is about all.

    Raises:
        ValueError: *name* has another length.
        StoreError: The record was not accepted.
    """
    body: dict[str, JSON] = {"name": _label(name), "state": "placed"}
    if subjects:
        body["subjects"] = sorted(subjects)
    log.append({"hold": body, "type": "hold"}, durable=True)


def release_hold(log: Appends, name: str) -> None:
    """
    Release a legal hold.

    Raises:
        ValueError: *name* has another length.
        StoreError: The record was not accepted.
    """
    log.append({"hold": {"name": _label(name), "state": "released"}, "type": "hold"}, durable=True)


def _label(name: str) -> str:
    if not 0 < len(name) <= _LABEL:
        msg = f"the name of a hold has 1 to {_LABEL} characters"
        raise ValueError(msg)
    return name


def holds(log: Entries) -> tuple[str, ...]:
    """
    Return the names of the holds that are placed.

    Raises:
        FormatError: A record about the log itself is malformed.
    """
    return tuple(sorted(read_standing(leaves(log)).holds))


def retention_policy(log: Entries) -> RetentionPolicy | None:
    """
    Return the policy in force, or None.

    Raises:
        FormatError: A record about the log itself is malformed.
    """
    return _policy(read_standing(leaves(log)))


def _policy(standing: Standing) -> RetentionPolicy | None:
    if standing.policy is None:
        return None
    classes = dict(standing.policy)
    return RetentionPolicy(default_days=classes.pop(""), classes=classes)


def due(log: Entries, now: datetime) -> Due:
    """
    Return what the policy no longer keeps at *now*; nothing without a policy.

    Holds are not looked at: `prune` does that.

    Raises:
        FormatError: A leaf is no record.
    """
    return _due(log, now, read_standing(leaves(log)))


def _due(log: Entries, now: datetime, standing: Standing) -> Due:
    policy = _policy(standing)
    if policy is None:
        return Due(minimum=standing.minimum, records=0, values=())
    latest = datetime.min.replace(tzinfo=UTC)
    keep_from: int | None = None
    values: list[tuple[int, str]] = []
    there = end = 0
    for index, leaf in leaves(log):
        record = Record.decode(leaf)
        latest = max(latest, parse_time(record.time))
        days = policy.days(cast("str | None", record.body.get("retention_class")))
        over = latest + timedelta(days=days) < now
        if not over and keep_from is None:
            keep_from = index
        if over and record.segment is not None and record.id not in standing.records:
            values.append((index, record.id))
        end = index + 1
    # The leaf that says so comes behind: all that there is may go, whole bundles only.
    minimum = max(standing.minimum, (end if keep_from is None else keep_from) // _BUNDLE * _BUNDLE)
    there = sum(1 for index, _ in leaves(log) if standing.minimum <= index < minimum)
    return Due(
        minimum=minimum,
        records=there,
        values=tuple(name for index, name in values if index >= minimum),
    )


def prune(
    log: AuditedLog,
    *,
    now: datetime,
    exclusive: Exclusive = nullcontext,
    scratch: Path | None = None,
) -> Pruned:
    """
    Remove the records that the policy no longer keeps, and what they captured.

    Args:
        log: The audit log, open for writing.
        now: What the records' ages are counted to.
        exclusive: Keeps the process that appends to the details away meanwhile.
        scratch: As in `erase`.

    Raises:
        GateDeniedError: There is no policy, or a legal hold is placed.  When the hold came
            in between, the leaf is there and the removal waits: see `complete_pruning`.
        StoreError: It could not be done, or not to the end: call `complete_pruning`.
    """
    log.publish()
    standing = read_standing(leaves(log.log))
    if standing.policy is None:
        raise GateDeniedError(
            "the log is not pruned: it has no retention policy",
            why="without a policy a log must not be pruned (c2sp.org/tlog-tiles)",
            fix="record one with set_policy; it counts from the records' own times",
            reasons=("no retention policy",),
        )
    _refuse_held(standing)
    found = _due(log.log, now, standing)
    if found.minimum > standing.minimum:
        log.append(_body(log.log, found.minimum, standing), durable=True)
        log.publish()
        # A hold may have been placed while this was written: it comes first.
        _refuse_held(read_standing(leaves(log.log, standing.next), standing))
    return _remove(log, standing, exclusive, scratch)


def complete_pruning(
    log: AuditedLog, *, exclusive: Exclusive = nullcontext, scratch: Path | None = None
) -> Pruned:
    """
    Remove what the last ``prune`` record says is gone and a crash, or a hold, left.

    Args:
        log: The audit log, open for writing.
        exclusive: As in `prune`.
        scratch: As in `prune`.

    Raises:
        GateDeniedError: A legal hold is placed.
        StoreError: It could not be done to the end: call again.
    """
    standing = read_standing(leaves(log.log))
    _refuse_held(standing)
    return _remove(log, standing, exclusive, scratch)


def _refuse_held(standing: Standing) -> None:
    if standing.holds:
        names = sorted(standing.holds)
        raise GateDeniedError(
            "nothing is pruned: a legal hold is placed",
            why=", ".join(repr(name) for name in names[:5]),
            fix="release the hold when the matter is closed, then prune",
            reasons=tuple(f"legal hold {name!r}" for name in names),
        )


def _body(log: Entries, minimum: int, standing: Standing) -> dict[str, JSON]:
    """Return the record of a pruning: see docs/spec/retention.md."""
    below: dict[str, int] = dict(standing.writers)
    over: set[str] = set()
    above: set[str] = set()
    kept: set[int] = set(standing.kept)
    for index, leaf in leaves(log):
        writer, seq = read_prefix(leaf)
        if index >= minimum:
            above.add(writer)
            continue
        below[writer] = max(seq + 1, below.get(writer, 0))
        record = Record.decode(leaf)
        if record.type in _KEPT:
            kept.add(index // _BUNDLE)
        elif record.type == "end":
            over.add(writer)
        elif record.type == "recovery":
            over.add(cast("Mapping[str, str]", record.body["recovery"])["writer"])
    writers = {name: below[name] for name in sorted(below) if name in above or name not in over}
    if len(writers) > _WRITERS:
        raise StoreError(
            "the log is not pruned: too many writers are at work across the place of the cut",
            why=f"there are {len(writers)}, and a record names at most {_WRITERS}",
            fix="prune again later, when some of them have ended",
            retryable=True,
        )
    policy = cast("RetentionPolicy", _policy(standing))
    return {
        "prune": {
            "kept": sorted(kept),
            "minimum": minimum,
            "policy": policy.to_json(),
            "writers": writers,
        },
        "type": "prune",
    }


def _remove(
    log: AuditedLog, standing: Standing, exclusive: Exclusive, scratch: Path | None
) -> Pruned:
    from secureml.evidence._files import store_error
    from secureml.evidence.pruning import Prune, absent_bundles, remove_bundles

    if not standing.minimum:
        return Pruned(minimum=0, bundles=0, lines=0)
    segments: dict[str, set[str]] = {}
    absent = absent_bundles(log.log.directory, log.log.size)
    for bundle in range(standing.minimum // _BUNDLE):
        if bundle not in absent:
            for leaf in log.log.entries(bundle * _BUNDLE, (bundle + 1) * _BUNDLE):
                if b'"details":' in leaf:
                    record = Record.decode(leaf)
                    if record.segment is not None:
                        segments.setdefault(record.segment, set()).add(record.id)
    lines = 0
    if segments:
        with exclusive():
            for segment, names in sorted(segments.items()):
                lines += remove_lines(log.details, segment, names, scratch=scratch)
    try:
        bundles = remove_bundles(log.log.directory, Prune(standing.minimum, standing.kept))
    except OSError as error:
        raise store_error("the pruned entries could not all be removed", error) from error
    return Pruned(minimum=standing.minimum, bundles=bundles, lines=lines)


def read_prune(leaf: bytes) -> "Prune | None":
    """
    Return what a leaf says about removed entries; None for any that is no ``prune`` record.

    Raises:
        FormatError: It is one, and malformed.
    """
    from secureml.evidence.pruning import Prune

    if b'"type":"prune"' not in leaf:
        return None
    record = Record.decode(leaf)
    if record.type != "prune":
        return None
    body = cast("Mapping[str, JSON]", record.body["prune"])
    policy_of(body.get("policy"))
    return Prune(*prune_of(body))


def verify_pruned_log(
    directory: str | os.PathLike[str],
    *,
    trust: "Trust",
    role: str = "audit",
    remembered: Sequence[str] = (),
    anchors: Sequence[str] = (),
    visit: Callable[[int, list[bytes]], None] | None = None,
    epochs: "Notes | None" = None,
    epoch_of: Callable[[bytes], object | None] | None = None,
) -> "PrunedLog":
    """
    Check every file of an audit log that may have been pruned.

    Args:
        directory: The log.
        trust: The reviewed root.
        role: The role of the log's key in *trust*.
        remembered: Signed checkpoints that were kept outside of it.
        anchors: Signed checkpoints of it found inside other evidence.
        visit: Is shown the index of the first entry of each bundle, and its entries.
        epochs: Boundary notes, as in `verify_log`.
        epoch_of: Returns what an entry says of the next key, as in `verify_log`.

    Raises:
        VerificationError, FormatError, StoreError: As `verify_pruned` of
            `secureml.evidence.checkpruned`.
    """
    from secureml.evidence.checkpruned import verify_pruned

    return verify_pruned(
        directory,
        trust=trust,
        read=read_prune,
        role=role,
        remembered=remembered,
        anchors=anchors,
        visit=visit,
        epochs=epochs,
        epoch_of=epoch_of,
    )
