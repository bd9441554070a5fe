"""
Receipts judged: who has seen this log, how far, and by when.

Nothing here needs a network.  The log was verified before; the keys are those
that the caller reviewed.  A receipt is used in two ways that have nothing to
do with each other.  Its note, signed by the log's own key, has to be a prefix
of the log, or the log was cut or forked, whoever gave the receipt.  And if
somebody whom the caller trusts vouches for it, the log existed so far by then.

Source: ``docs/spec/anchors.md``.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, final

from secureml._html import grid
from secureml.clock import format_time
from secureml.errors import ConsistencyError, FormatError, SecureMLError, VerificationError
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.anchors.comparing import NoteVerifier, note_check
from secureml.evidence.anchors.keeping import receipt_files, receipt_lines
from secureml.evidence.anchors.receipt import MAX_LINE, Receipt
from secureml.evidence.anchors.rekor import RekorLog, rekor_holds
from secureml.evidence.anchors.timestamp import Authority, stamp_of
from secureml.evidence.trust import Trust
from secureml.evidence.witness import Witness, verify_cosignatures
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.note import Note

__all__ = [
    "Anchored",
    "Problem",
    "ProvenLog",
    "VerifiedReceipts",
    "verify_receipts",
]


class ProvenLog(Protocol):
    """**Protocol.** A log that was verified, as `verify_log` returns one, or `verify_pruned`."""

    @property
    def origin(self) -> str:
        """The log's name."""

    @property
    def size(self) -> int:
        """Number of entries."""

    @property
    def root(self) -> bytes:
        """Root hash, 32 bytes."""

    def consistency(self, old: int) -> ConsistencyProof:
        """Return the proof that the first *old* entries begin this log."""
        ...


@dataclass(frozen=True, slots=True)
class Anchored:
    """
    A prefix of the log that somebody trusted vouches for.

    Attributes:
        size: The number of its entries.
        by: Who vouches: the name of a witness or an authority, the origin of a log.
        kind: ``witness``, ``rfc3161`` or ``rekor``.
        at: The entries existed, as they are, not later than this; None where
            who vouches states no time.
        anchor: The anchor that kept it, after which its file is named.
        line: Its line in that file, from 1.
    """

    size: int
    by: str
    kind: str
    at: datetime | None
    anchor: str
    line: int


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A receipt that counts for nothing.

    Attributes:
        anchor: The anchor that kept it.
        line: Its line, from 1.
        error: Why, by code and in one line.
    """

    anchor: str
    line: int
    error: SecureMLError


@final
class VerifiedReceipts(TypeState):
    """
    What a log's receipts show.

    Only `verify_receipts` makes one.  Every checkpoint that the log's key
    signed and that is in a receipt was found to be a prefix of the log.

    Attributes:
        origin: The log's name.
        log_size: Number of its entries.
        anchored: What somebody trusted vouches for, in the order of the files.
        witnessed_size: Entries that as many witnesses of the trust vouch for
            as its quorum demands; 0 where it names none.
        unvouched: Number of good receipts that nobody trusted vouches for:
            by keys that were not given, and pointers to copies.
        problems: Receipts that do not parse, or are not signed as they say.
    """

    __slots__ = ("anchored", "log_size", "origin", "problems", "unvouched", "witnessed_size")
    origin: str
    log_size: int
    anchored: tuple[Anchored, ...]
    witnessed_size: int
    unvouched: int
    problems: tuple[Problem, ...]

    def size(self, quorum: int = 1) -> int:
        """
        Return how many entries *quorum* different parties vouch for.

        Raises:
            ValueError: A quorum below 1.
        """
        if quorum < 1:
            msg = f"a quorum is 1 or more, not {quorum}"
            raise ValueError(msg)
        return _covered(self.anchored, quorum)

    def not_later_than(self, index: int) -> datetime | None:
        """Return by when entry *index* was in the log; None when nobody says."""
        times = (one.at for one in self.anchored if one.size > index and one.at is not None)
        return min(times, default=None)

    @property
    def latest(self) -> datetime | None:
        """The newest time that somebody states: what came later may be newer than all of them."""
        return max((one.at for one in self.anchored if one.at is not None), default=None)

    def __repr__(self) -> str:
        return (
            f"<VerifiedReceipts {self.origin!r} anchored {self.size()} of {self.log_size}, "
            f"{len(self.anchored)} good, {self.unvouched} by others, {len(self.problems)} bad>"
        )

    def _repr_html_(self) -> str:
        last: dict[tuple[str, str], Anchored] = {}
        for one in self.anchored:
            last[one.kind, one.by] = one
        rows = [
            (by, kind, one.size, "no time" if one.at is None else format_time(one.at))
            for (kind, by), one in last.items()
        ]
        note = f"{self.origin}, {self.log_size} entries; {len(self.problems)} bad receipts"
        return grid("Anchored", ("by", "kind", "entries", "not later than"), rows, note=note)


def verify_receipts(
    directory: str | os.PathLike[str],
    log: ProvenLog,
    *,
    trust: Trust,
    role: str = "log",
    authorities: Sequence[Authority] = (),
    rekor: Sequence[RekorLog] = (),
    at: datetime | None = None,
    check: NoteVerifier | None = None,
    strict: bool = False,
) -> VerifiedReceipts:
    """
    Judge every receipt in *directory* against a log that was verified.

    Args:
        directory: Where the log's receipts are; none is fine, and shows nothing.
        log: The log, as `verify_log` or `verify_pruned` returned it.
        trust: The reviewed root: whose checkpoints are the log's, and who is a witness.
        role: ``log``, or ``audit`` for an audit log.
        authorities: Whose time stamps count.
        rekor: Whose entries count.
        at: The time at which witnesses' clocks are judged, now by default.
        check: Judges the log's notes in place of *trust* and *role*.
        strict: Raise for the first receipt that counts for nothing but for
            its signer, who may be unknown.

    Raises:
        ConsistencyError: A checkpoint that the log's own key signed is no
            prefix of the log: it was cut, rolled back or forked.
        FormatError, VerificationError: *strict*, and a receipt is bad.
        UnexpectedFileError: Something in the directory is no file of receipts.
        StoreError: The system could not read it.
        MissingExtraError: *authorities* are given, and ``rfc3161-client`` is not installed.
    """
    judge = _Judge(log, trust.witnesses, authorities, rekor, at, check or note_check(trust, role))
    good: list[Anchored] = []
    problems: list[Problem] = []
    unvouched = 0
    for anchor, number, line in _lines(Path(directory)):
        try:
            receipt = Receipt.decode(line)
            judge.prefix(receipt)
            vouched = [
                Anchored(receipt.head.size, by, receipt.kind, time, anchor, number)
                for by, time in judge.vouchers(receipt)
            ]
        except ConsistencyError:
            raise
        except (FormatError, VerificationError) as error:
            if strict:
                raise
            problems.append(Problem(anchor, number, error))
        else:
            good += vouched
            unvouched += not vouched
    return VerifiedReceipts(
        TOKEN,
        origin=log.origin,
        log_size=log.size,
        anchored=tuple(good),
        witnessed_size=_covered((one for one in good if one.kind == "witness"), trust.quorum),
        unvouched=unvouched,
        problems=tuple(problems),
    )


def _covered(anchored: Iterable[Anchored], quorum: int) -> int:
    """Return how many entries so many different parties vouch for."""
    best: dict[tuple[str, str], int] = {}
    for one in anchored:
        key = (one.kind, one.by)
        best[key] = max(best.get(key, 0), one.size)
    sizes = sorted(best.values(), reverse=True)
    return sizes[quorum - 1] if 0 < quorum <= len(sizes) else 0


def _lines(directory: Path) -> Iterator[tuple[str, int, bytes]]:
    for anchor, path in receipt_files(directory):
        for number, line in receipt_lines(path):
            yield anchor, number, b"\n" * MAX_LINE if line is None else line


@dataclass(frozen=True, slots=True)
class _Judge:
    """What receipts are judged by."""

    log: ProvenLog
    witnesses: Sequence[Witness]
    authorities: Sequence[Authority]
    rekor: Sequence[RekorLog]
    at: datetime | None
    check: NoteVerifier

    def prefix(self, receipt: Receipt) -> None:
        """Check that the log's key signed the note, and that it begins the log."""
        head = self.check(receipt.note)
        log = self.log
        if head.origin != log.origin:
            raise VerificationError(
                f"the receipt is of the log {head.origin!r}, not of {log.origin!r}",
                why="a checkpoint says nothing about another log",
                fix="keep the receipts of each log in a directory of its own",
            )
        if head.size > log.size:
            raise ConsistencyError(
                f"the log {log.origin!r} was cut or rolled back",
                why=f"its own key signed a checkpoint of {head.size} entries, which is in a "
                f"receipt; it has {log.size}",
                fix="do not use it; get the whole log, and keep both: the two checkpoints prove "
                "it",
            )
        try:
            log.consistency(head.size).verify(
                old_size=head.size, old_root=head.root, size=log.size, root=log.root
            )
        except ConsistencyError as error:
            raise ConsistencyError(
                f"the log {log.origin!r} was forked or written anew",
                why=f"its own key signed another root for the first {head.size} entries, which "
                "is in a receipt",
                fix="do not use it; keep both: the two checkpoints prove that the log's owner, "
                "or who has the key, told two stories",
            ) from error

    def vouchers(self, receipt: Receipt) -> list[tuple[str, datetime | None]]:
        """Return who vouches, and by when it was."""
        match receipt.kind:
            case "witness":
                return list(self._witnesses(receipt))
            case "rfc3161":
                return _first([(one.name, _stamp(one)) for one in self.authorities], receipt)
            case "rekor":
                return _first([(one.origin, _entry(one)) for one in self.rekor], receipt)
            case _:
                return []

    def _witnesses(self, receipt: Receipt) -> Iterator[tuple[str, datetime | None]]:
        named = {(line.name, line.key_id) for line in Note.decode(receipt.note).signatures}
        for witness in self.witnesses:
            if (witness.vkey.name, witness.vkey.key_id) in named:
                found = verify_cosignatures(receipt.note, [witness], 1, at=self.at)
                yield witness.name, found.cosignatures[0].at


_Check = Callable[[Receipt], datetime | None]


def _stamp(authority: Authority) -> _Check:
    return lambda receipt: stamp_of(receipt, authority)


def _entry(log: RekorLog) -> _Check:
    def holds(receipt: Receipt) -> None:
        rekor_holds(receipt, log)

    return holds


def _first(
    checks: Sequence[tuple[str, _Check]], receipt: Receipt
) -> list[tuple[str, datetime | None]]:
    """Return the first that holds; when none does, what the last one said."""
    problem: VerificationError | None = None
    for name, check in checks:
        try:
            return [(name, check(receipt))]
        except VerificationError as error:
            problem = error
    if problem is not None:
        raise problem
    return []
