"""
Verify a whole evidence directory: every byte is accounted for, or named.

Nothing in the directory is trusted.  The trust comes from outside; from it
follow the logs (rebuilt tile by tile from their entries), from the logs the
statements and records, from those the blobs, the details and, through the
seal, every other file.

Source: ``docs/spec/chain.md``, ``docs/spec/seal.md``.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from secureml import audit
from secureml.clock import format_time
from secureml.errors import (
    ChainError,
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    SecureMLError,
    UnexpectedFileError,
    VerificationError,
)
from secureml.evidence.anchors.verifying import VerifiedReceipts
from secureml.evidence.blobs import BlobStore
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.rotation import apply_rotation
from secureml.evidence.trust import Position, Trust
from secureml.evidence.verify import Evidence, verify
from secureml.gates.predicates import GatePlan, Verdict
from secureml.hashing import open_regular
from secureml.models.oms import read_resources
from secureml.wire import statement as st
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.logentry import LogEntry
from secureml.wire.note import Note
from secureml.workspace.accounting import Seals, account_for_files
from secureml.workspace.auditing import Head, VerifiedAudit, read_audit
from secureml.workspace.beside import check_beside, vouched
from secureml.workspace.chain import Chain, judge
from secureml.workspace.layout import LOGS, Layout, find_nested
from secureml.workspace.report import Report
from secureml.workspace.roles import role_of
from secureml.workspace.sealing import Seal, anchored_note, checkpoint_of

__all__ = ["Report", "verify_directory"]

_DEPTH = 8
_NOTE_LIMIT = 1 << 20
_SHOWN = 5
_LOOKS = 20
"""A writer that opens or seals the directory meanwhile is no break of it."""


def verify_directory(directory: Path, *, trust: Trust, checkpoints: Sequence[str] = ()) -> Report:
    """
    Verify the evidence directory *directory*, and all inside it, under *trust*.

    Args:
        directory: An evidence directory.
        trust: From outside the directory.
        checkpoints: Signed notes seen earlier, of any log: a rollback below
            one of them is found.

    Raises:
        VerificationError: Something does not hold; the error names it.
        FormatError: Something cannot be read, or *directory* holds no log.
        StoreError: The system could not read a file.
    """
    report = _settle(Layout.of(directory), trust, checkpoints)
    known = report.origins()
    for note in checkpoints:
        if _origin(note) not in known:
            raise ConsistencyError(
                f"the log {_origin(note)!r} is gone from {str(directory)!r}",
                why="a checkpoint of it is remembered, and no log here has its name",
                fix="restore the directory from a copy; if the checkpoint is of another "
                "directory, do not give it here",
            )
    return report


def _settle(layout: Layout, trust: Trust, checkpoints: Sequence[str]) -> Report:
    """Verify, and look again where a writer at work may explain what was found."""
    for _ in range(_LOOKS):
        seen = _heads(layout.root)
        try:
            return _verify(layout, trust, checkpoints)
        except (VerificationError, FormatError):
            if _heads(layout.root) == seen:
                raise
    return _verify(layout, trust, checkpoints)


def _verify(layout: Layout, trust: Trust, checkpoints: Sequence[str], *, depth: int = 0) -> Report:
    if depth > _DEPTH:
        raise FormatError(
            "evidence directories lie inside each other too deeply",
            why=f"{str(layout.root)[:200]!r} is more than {_DEPTH} deep",
            fix="a machine's evidence is collected side by side: remove what nobody collected",
        )
    book = _Book(layout, trust)
    if not layout.log.is_dir() and not layout.audit.is_dir():
        raise FormatError(
            f"{str(layout.root)!r} is not an evidence directory",
            why="it holds neither log/ nor audit/",
            fix="give the directory that secureml.open(…) or the demo made",
        )
    if layout.log.is_dir():
        book.read_statements(checkpoints)
    if layout.audit.is_dir():
        book.read_audit(checkpoints)
    else:
        book.refuse_lost_audit()
    # What is inside comes first: its logs name a changed entry, a seal only its file.
    nested = tuple(
        _verify(Layout.of(inner), book.trust, checkpoints, depth=depth + 1)
        for inner in find_nested(layout.root)
    )
    files = book.check_files()
    return book.report(files, nested, {_origin(note) for note in checkpoints})


def _origin(note: str) -> str:
    return Note.decode(note).text.split("\n", 1)[0]


class _Book:
    """What has been verified so far, for one directory."""

    def __init__(self, layout: Layout, trust: Trust) -> None:
        self.layout = layout
        self.given = trust
        self.trust = trust
        self.blobs = BlobStore(layout.blobs)
        self.logs: dict[str, Head] = {}
        self.evidence: list[Evidence] = []
        self.anchors: list[str] = []
        self.named_blobs: set[str] = set()
        self.seals = Seals()
        self.audit: VerifiedAudit | None = None
        self.receipts: dict[str, VerifiedReceipts] = {}

    # -- statements ------------------------------------------------------------

    def read_statements(self, notes: Sequence[str]) -> None:
        log = self._verify_statements(notes)
        before = kind = ""
        for index, leaf in enumerate(log.entries):
            entry = LogEntry.decode(leaf)
            if entry.at < before:
                raise ConsistencyError(
                    f"entry {index} of the statement log goes back in time",
                    why=f"it says {entry.at}, the entry before it {before}",
                    fix="the log was not written by secureml, or its clock was set back by hand",
                )
            before = entry.at
            envelope = entry.envelope or self._spilled(entry)
            kind = self._take(envelope, Position(log.origin, index, entry.at))
        self.seals.last = kind == st.SEAL

    def _spilled(self, entry: LogEntry) -> Envelope:
        blob = entry.blob
        if blob is None:  # pragma: no cover  LogEntry holds one of the two
            raise FormatError(
                "a log entry holds nothing",
                why="it has neither an envelope nor a blob",
                fix="the log was not written by secureml: do not rely on it",
            )
        data = self._blob(blob.digest)
        if len(data) != blob.size:
            raise DigestMismatchError(
                f"blob {blob.digest.short} has another size than its leaf says",
                why=f"{len(data)} bytes, expected {blob.size}",
                fix="restore the blob from a copy",
            )
        envelope = Envelope.decode(data)
        if envelope.encode() != data:
            raise FormatError(
                f"blob {blob.digest.short} has a second spelling",
                why="an envelope in a blob is canonical JSON",
                fix="restore the blob from a copy",
            )
        return envelope

    def _take(self, envelope: Envelope, position: Position) -> str:
        """Verify one statement, take note of it, and return its type."""
        statement = envelope.statement()
        kind = statement.predicate_type
        if kind == st.KEY_ROTATION:
            self.trust = apply_rotation(envelope, trust=self.trust, position=position)
            return kind
        item = verify(envelope, trust=self.trust, role=role_of(kind), position=position)
        self.evidence.append(item)
        if kind == st.ANCHOR:
            self.anchors.append(anchored_note(statement))
        elif kind == st.SEAL:
            self.seals.statement = self._seal_of(statement.predicate)
        return kind

    def _seal_of(self, value: object) -> Seal:
        seal = Seal.from_json(value)
        self.named_blobs.add(seal.manifest.hex)
        return seal

    # -- predictions -----------------------------------------------------------

    def read_audit(self, notes: Sequence[str]) -> None:
        _refuse_special(self.layout.details)
        mine = self._notes_of(self.layout.audit, notes)
        found = read_audit(self.layout, trust=self.trust, remembered=mine, anchors=self.anchors)
        self.audit = found
        self.logs["audit"] = found.head
        for record in found.records:
            if record.claims is not None:
                self.named_blobs.add(record.claims.hex)
        # What was anchored is older than the seal of the statement log; a server
        # that wrote after that seals in the audit log itself.
        anchored = max((checkpoint_of(note).size for note in self.anchors), default=0)
        if found.head.size > anchored:
            for record in found.since(anchored):
                if record.seal is not None:
                    self.seals.audit = self._seal_of(record.seal)
            # The audit key does not seal what the trainer left open.
            closed = self.seals.last or not self.layout.log.is_dir()
            self.seals.last = closed and found.records[-1].seal is not None
        audit.check_details(
            found.since(found.minimum),
            self.layout.details,
            open_end=not self.seals.last,
            first=found.minimum,
        )

    def refuse_lost_audit(self) -> None:
        """Refuse a directory whose audit log is gone although its statement log anchors one."""
        if self.anchors:
            last = checkpoint_of(self.anchors[-1])
            raise ConsistencyError(
                f"the audit log {last.origin!r} is gone from {str(self.layout.root)!r}",
                why=f"the statement log anchors {last.size} entries of it",
                fix="restore audit/ from a copy",
            )

    def _verify_statements(self, notes: Sequence[str]) -> VerifiedLog:
        mine = self._notes_of(self.layout.log, notes)
        log = verify_log(self.layout.log, trust=self.trust, role="log", remembered=mine)
        self.logs["log"] = log
        return log

    def _notes_of(self, directory: Path, notes: Sequence[str]) -> list[str]:
        """Return those of *notes* that are of the log in *directory*."""
        if not (directory / "checkpoint").exists():
            raise UnexpectedFileError(
                f"{directory.name}/checkpoint is missing from {str(self.layout.root)!r}",
                why="a log is what its signed checkpoint says it is; without one it is nothing",
                fix="restore it from a copy",
            )
        first = _note(directory).split(b"\n", 1)[0].decode("utf-8", "replace")
        return [note for note in notes if _origin(note) == first]

    # -- files -----------------------------------------------------------------

    def _blob(self, digest: Digest) -> bytes:
        self.named_blobs.add(digest.hex)
        return self.blobs.get(digest)

    def check_files(self) -> int:
        """Account for every file but the logs' own; return how many there are."""
        beside, self.receipts = check_beside(self.layout, self.logs, trust=self.trust)
        return beside + account_for_files(
            self.layout.root, seals=self.seals, blobs=self.blobs, named_blobs=self.named_blobs
        )

    # -- models ----------------------------------------------------------------

    def chains(self) -> list[Chain]:
        """Judge the last signed model of each name that has a rule; count attempts ourselves."""
        counted = _count_attempts(self.evidence)
        found: dict[str, Chain] = {}
        for item in self.evidence:
            if item.statement.predicate_type != st.OMS:
                continue
            digest = read_resources(item.statement).digest
            chain = judge(digest, self.evidence, self.trust.rules, counted=counted)
            if not chain.model or self.trust.rule(chain.model) is not None:
                # The last signature of a name is the one in force; one before
                # it may be older than the rule.
                found.pop(chain.model, None)
                found[chain.model] = chain
        return list(found.values())

    # -- the end ---------------------------------------------------------------

    def report(self, files: int, nested: tuple[Report, ...], held: set[str]) -> Report:
        chains = self.chains()
        for chain in chains:
            chain.enforce()
        # An anchor lies in the directory itself: it ties the audit log to the
        # statement log, so that a checkpoint of the latter covers both.
        heads = tuple(self.logs.values())
        checked = heads[0].origin in held
        used = {e.signer.name for e in self.evidence} | {head.signer.name for head in heads}
        found = self.audit
        return Report(
            directory=self.layout.root,
            logs=tuple((head.origin, head.size) for head in heads),
            statements=dict(Counter(e.statement.predicate_type for e in self.evidence)),
            records=0 if found is None else len(found.records),
            files=files,
            sealed=self.seals.last,
            models=tuple(chains),
            rollback="checked" if checked else "not checkable",
            unanchored=self._unanchored(),
            development=tuple(sorted(used & set(self.trust.development))),
            separation=self.trust.separation_of_duties,
            trust=str(self.given.digest),
            minimum=0 if found is None else found.minimum,
            anchored=self._anchored(),
            noted=() if found is None else _noted(found),
            nested=nested,
        )

    def _anchored(self) -> tuple[str, ...]:
        lines: list[str] = []
        for receipts in self.receipts.values():
            last = {(one.kind, one.by): one for one in receipts.anchored}
            lines += [
                f"{receipts.origin}, {one.size:,} entries by {by} ({kind})"
                + ("" if one.at is None else f", not later than {format_time(one.at)}")
                for (kind, by), one in last.items()
            ]
        return tuple(lines)

    def _unanchored(self) -> tuple[str, ...]:
        lines: list[str] = []
        for name, log in self.logs.items():
            receipts = self.receipts.get(name)
            covered = 0 if receipts is None else vouched(receipts, self.trust)
            within = name == "audit" and self.layout.log.is_dir()
            if within:
                covered = max([covered, *(checkpoint_of(n).size for n in self.anchors)])
            if covered < log.size and (covered or within):
                lines.append(
                    f"un-anchored: entries {covered}–{log.size - 1} of {log.origin} are "
                    "under its own key only"
                )
            elif covered < log.size:
                lines.append(
                    f"un-anchored: all {log.size} entries of {log.origin} (no witness outside "
                    "this directory; keep its checkpoint)"
                )
            lines += [
                f"receipt {one.line} of {one.anchor} counts for nothing: {one.error.what}"
                for one in (() if receipts is None else receipts.problems[:_SHOWN])
            ]
        return tuple(lines)


def _noted(found: VerifiedAudit) -> tuple[str, ...]:
    """Return what the records account for themselves, one line each, and a count of the rest."""
    warnings = found.report.warnings
    lines = [f"audit: {one}" for one in warnings[:_SHOWN]]
    if len(warnings) > _SHOWN:
        lines.append(f"audit: {len(warnings) - _SHOWN:,} more warnings (log verify shows them)")
    return tuple(lines)


def _count_attempts(evidence: Sequence[Evidence]) -> dict[str, int]:
    """Return, for each decision, how many plans precede it; a decision that states fewer lies."""
    plans: list[tuple[GatePlan, frozenset[str]]] = []
    counted: dict[str, int] = {}
    for item in evidence:
        position = item.position
        if position is None:  # pragma: no cover  everything here is logged
            continue
        statement = item.statement
        names = frozenset(s.name for s in statement.subject)
        if statement.predicate_type == st.GATE_PLAN:
            plans.append((GatePlan.from_statement(statement), names))
        elif statement.predicate_type == st.VSA:
            verdict = Verdict.from_statement(statement)
            count = sum(plan.gate == verdict.gate or bool(about & names) for plan, about in plans)
            if verdict.attempts != count:
                raise ChainError(
                    f"the decision of gate {verdict.gate!r} at entry {position.index} miscounts",
                    why=f"it states {verdict.attempts} attempts, the log holds {count} plans",
                    fix="do not rely on it: something else than secureml wrote it",
                )
            counted[item.digest.hex] = count
    return counted


def _refuse_special(details: Path) -> None:
    """Refuse anything but regular files where the details are."""
    for path in sorted(details.iterdir()) if details.is_dir() else ():
        if path.is_symlink() or not path.is_file():
            raise UnexpectedFileError(
                f"details/{path.name} is not a regular file",
                why="details are files; a link, a directory or a device is something else",
                fix="restore the directory from a copy",
            )


def _note(directory: Path) -> bytes:
    """Return the checkpoint as it lies there, unverified; nothing where it cannot be read."""
    try:
        with os.fdopen(open_regular(directory / "checkpoint"), "rb") as file:
            return file.read(_NOTE_LIMIT)
    except (OSError, SecureMLError):
        return b""  # `verify_log` says what is wrong with it.


def _heads(root: Path) -> list[bytes]:
    """Return the checkpoints of *root* and of what is inside it, to see whether one moves."""
    return [_note(place / name) for place in (root, *find_nested(root)) for name in LOGS]
