"""
What an open workspace holds: its trust, its keys, its two logs, and how they end.

Everything is opened when it is first needed, so that opening a workspace costs
nothing, and a process that only reads never asks for a key.
"""

from secureml import audit, clock, keys
from secureml.audit._epochs import chained
from secureml.errors import KeyUnavailableError, StoreBusyError, StoreError
from secureml.evidence.anchors.policy import Anchors
from secureml.evidence.attest import attest
from secureml.evidence.blobs import BlobStore
from secureml.evidence.keeping import Keeping, create_epochs, create_tail
from secureml.evidence.log import Log, WriterLock
from secureml.evidence.statements import Logged, StatementLog
from secureml.evidence.trust import Trust
from secureml.evidence.verify import Evidence, verify
from secureml.keys import Signer, Verifier
from secureml.wire import statement as st
from secureml.wire.statement import Statement
from secureml.workspace import sealing, setup
from secureml.workspace.layout import Layout
from secureml.workspace.roles import evidence_of, role_of

__all__ = ["Custody"]

_SEALS = 5
"""How often a seal is tried while others begin to record."""


class Custody:
    """The trust, keys and logs of one open workspace."""

    def __init__(
        self,
        layout: Layout,
        *,
        role: str,
        reviewed: Trust | None,
        signer: Signer | None,
        passphrase: str | bytes | None,
        anchors: Anchors | None,
        also: Signer | None,
        now: clock.Clock,
    ) -> None:
        self.layout = layout
        self.role = role
        self._reviewed = reviewed
        self._passphrase = passphrase
        self._anchors = anchors
        self._also = also
        self._now = now
        self._signers: dict[str, Signer] = {} if signer is None else {"statements": signer}
        self._lock = WriterLock(layout.private / "lock")
        self._statements: StatementLog | None = None
        self._audit: audit.AuditLog | None = None
        self._effective: Trust | None = None
        self._wrote = False
        self._closed = False

    # -- trust and keys --------------------------------------------------------

    @property
    def trust(self) -> Trust:
        """The reviewed trust, plus this workspace's own keys."""
        if self._effective is None:
            self._effective = setup.effective_trust(self.layout, self._reviewed)
        return self._effective

    def signer(self, purpose: str) -> Signer:
        """Return the signer for *purpose*, opened when it is first asked for."""
        if purpose not in self._signers:
            if purpose not in setup.PURPOSES[self.role]:
                raise KeyUnavailableError(
                    f"the {purpose} key is not opened by a workspace with role {self.role!r}",
                    why="a serving process holds the audit key only",
                    fix="open the workspace with role='train' where models are trained and signed",
                )
            path = setup.key_file(self.layout, purpose)
            self._signers[purpose] = keys.load(
                path,
                passphrase=self._passphrase if keys.is_encrypted(path) else None,
                purposes=frozenset({purpose}),
            )
        return self._signers[purpose]

    def pin(self, other: Trust) -> None:
        """Add what *other* says to the reviewed trust file of this machine."""
        setup.pin(self.layout, other)
        self._wrote = True
        self._effective = None

    def rotate(self, purpose: str, passphrase: str | bytes) -> Signer:
        """Replace the key for *purpose*, and open the logs again with the new one."""
        audited = 0
        if purpose == "audit" and self._chained() is not None:
            raise KeyUnavailableError(
                f"there is no audit key of {str(self.layout.root)!r} to replace",
                why="its keys follow each other: each is destroyed when the next one signs",
                fix="leave it to them; the first one is in the trust file, with epochs = true",
            )
        if purpose == "audit":
            self.audit_log.end()
            self.audit_log.publish()
            audited = self.audit_log.log.size
        self._wrote = True
        new = setup.rotate(
            self.layout,
            purpose,
            old=self.signer(purpose),
            passphrase=passphrase,
            ledger=self.ledger,
            trust=self.trust,
            audited=audited,
        )
        self._signers[purpose] = new
        self._passphrase = passphrase
        self._effective = None
        self._forget_logs()
        return new

    # -- what the audit log begins once ----------------------------------------

    def begin_epochs(self) -> Verifier:
        """Let the keys of the audit log follow each other, from the present one on."""
        origin = self._let_go("keys")
        path = setup.key_file(self.layout, "audit")
        first = keys.load_public(path.with_suffix(".pub"))
        if path.exists():
            # Said before it is done: a chain of one key is no different from that key.
            setup.chain_keys(self.layout, first)
            self._wrote = True
            self._effective = None
        create_epochs(
            self.layout.audit,
            self.layout.private,
            origin=origin,
            first=path,
            passphrase=self._passphrase if path.exists() and keys.is_encrypted(path) else None,
        )
        self._signers.pop("audit", None)
        return first

    def begin_tail(self) -> bytes:
        """Begin the sealed tail of the audit log, and return its first key."""
        origin = self._let_go("tail")
        key = create_tail(self.layout.audit, self.layout.private, origin=origin)
        self._wrote = True
        # What was published so far is sealed as well.
        self.audit_log.begin()
        self.audit_log.publish()
        return key

    def _let_go(self, what: str) -> str:
        """Close the audit log, which nobody else may be writing; return its name."""
        log = self.audit_log
        origin = log.log.origin
        if sealing.others_record(self.layout, log.writer):
            raise StoreBusyError(
                f"the {what} of the log {origin!r} cannot be begun now",
                why="another process records into it, and would go on as it began",
                fix="stop the other processes, do this once, and start them again",
                retryable=True,
            )
        self._forget_logs()
        return origin

    def _chained(self) -> Keeping | None:
        return chained(self.layout.audit, self.layout.private, passphrase=self._passphrase)

    # -- the two logs ----------------------------------------------------------

    @property
    def ledger(self) -> StatementLog:
        """The statement log."""
        if self._statements is None:
            self._statements = self._open_statements()
            if setup.complete_rotation(
                self.layout,
                ledger=self._statements,
                trust=self.trust,
                audited=lambda: Log.open(self.layout.audit).size,
            ):
                self._wrote = True
                self._signers.clear()
                self._effective = None
                self._forget_logs()
                self._statements = self._open_statements()
        return self._statements

    def _open_statements(self) -> StatementLog:
        return StatementLog(self._open_log("log"), BlobStore(self.layout.blobs), clock=self._now)

    @property
    def audit_log(self) -> audit.AuditLog:
        """The log of predictions."""
        if self.role == "train" and self.layout.log.is_dir():
            _ = self.ledger  # Which key signs now may hang on a rotation that a crash cut off.
        if self._audit is None:
            self._audit = audit.AuditLog(
                self._open_log("audit"),
                details=self.layout.details,
                private=self.layout.private,
                clock=self._now,
                anchors=self._anchors,
                also=self._also,
            )
        return self._audit

    def _open_log(self, name: str) -> Log:
        if self._closed:
            raise StoreError(
                f"workspace {str(self.layout.root)!r} is closed",
                why="it was sealed when it was closed",
                fix="open it again with secureml.open(…)",
            )
        keeping = self._chained() if name == "audit" else None
        return Log.open(
            self.layout.root / name,
            private=self.layout.private,
            signer=self.signer(name) if keeping is None else None,
            keeping=keeping,
            purpose=name,
            previous=setup.previous_keys(self.layout, self.trust, name),
            lock=self._lock,
        )

    def record(self, statement: Statement) -> Logged:
        """Sign *statement*, check that our own trust accepts it, and log it."""
        envelope = attest(statement, self.signer("statements"))
        verify(envelope, trust=self.trust, role=role_of(statement.predicate_type))
        self._wrote = True
        return self.ledger.append(envelope)

    def evidence(self, logged: Logged) -> Evidence:
        """Verify what our own log holds."""
        return evidence_of(logged, origin=self.ledger.origin, trust=self.trust)

    def history(self) -> list[tuple[int, Statement]]:
        """Return every statement so far, with its place."""
        return [(item.index, item.envelope.statement()) for item in self.ledger]

    # -- publishing and the end ------------------------------------------------

    def publish(self) -> None:
        """Make what this process wrote readable for others."""
        for log in (self._audit, self._statements):
            if log is not None:
                log.publish()

    def checkpoint(self) -> str:
        """Publish both logs, anchor one in the other, and return the note that covers both."""
        if self.role == "serve":
            return self.audit_log.publish()
        self._anchor()
        return self.ledger.publish()

    def _anchor(self, *, again: bool = False) -> None:
        if not self.layout.audit.is_dir():
            return
        note = (
            Log.open(self.layout.audit).checkpoint_note()
            if self._audit is None
            else self._audit.publish()
        )
        statement = sealing.anchor_statement(note)
        last = self.ledger.find(sealing.anchored_root(statement), st.ANCHOR)
        if again or not last or last[-1].envelope.payload != statement.encode():
            self.record(statement)

    def close(self) -> None:
        """Seal what was written, if anything was, and let go of the lock."""
        if self._closed:
            return
        try:
            if self._wrote or (self._audit is not None and self._audit.writer):
                self._seal()
        finally:
            self._closed = True
            self._forget_logs()
            self._lock.release()

    def _seal(self) -> None:
        """
        Write the seal as the last leaf: of the statement log, or of a server's audit log.

        A leaf comes before any file: it opens the directory, for whoever
        verifies it meanwhile, or after a crash.
        """
        if self.role == "serve":
            self._seal_audit()
            return
        if self._audit is not None:
            self._audit.end()
        self._anchor(again=True)
        self.ledger.publish()
        self.record(sealing.seal_statement(self._measure()))
        self.ledger.publish()

    def _seal_audit(self) -> None:
        """
        Seal in the audit log, unless another process still records into it.

        Those who close at the same time do so one after another, so the last one
        finds nobody.  A process that begins to record while the files are
        measured leaves its records before the seal: that one is followed by a
        leaf, which opens the directory again, and by another seal.
        """
        log = self.audit_log
        with sealing.alone(self.layout.private / "sealing"):
            for _ in range(_SEALS):
                log.begin()
                log.publish()
                if sealing.others_record(self.layout, log.writer):
                    log.end()
                    return
                size = log.log.size
                sealed = log.seal(self._measure().to_json())
                log.publish()
                if sealed.index == size:
                    return
                log.end()
            log.begin()  # So that a seal which may not hold is not the last leaf.
            log.end()

    def _measure(self) -> sealing.Seal:
        setup.publish_trust(self.layout)
        return sealing.make_seal(self.layout.root, BlobStore(self.layout.blobs))

    def _forget_logs(self) -> None:
        """Let the logs be opened again, with the keys that sign now."""
        for log in (self._audit, self._statements):
            if log is not None:
                log.close()
        self._audit = self._statements = None
