"""
The friendly face: one directory that a training script or a server opens.

A workspace composes the verbs of the stages; it decides nothing itself.  What
it adds is order: a plan is logged before it runs, a start before training, a
signature after the gates, and a seal over everything when it is closed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from secureml import audit, clock, data, gates, keys, models, training
from secureml.errors import KeyUnavailableError, StoreError
from secureml.evidence.attest import attest
from secureml.evidence.blobs import BlobStore
from secureml.evidence.log import Log, WriterLock
from secureml.evidence.statements import Logged, StatementLog
from secureml.evidence.trust import Position, Trust
from secureml.evidence.verify import Evidence, verify
from secureml.keys import Signer
from secureml.wire import statement as st
from secureml.wire.statement import Statement
from secureml.workspace import loading, sealing, setup, signing
from secureml.workspace.deciding import standing_result
from secureml.workspace.layout import Layout
from secureml.workspace.roles import role_of
from secureml.workspace.tracing import NOTHING, Trace, trace_prediction
from secureml.workspace.verifying import Report, verify_directory

__all__ = ["Workspace"]

P = ParamSpec("P")
R = TypeVar("R")


class Workspace:
    """
    One directory of evidence, opened for training or for serving.

    Made by `secureml.open`.  A context manager; `close` folds everything in
    and appends a seal.

    Attributes:
        path: The evidence directory.
        role: ``train`` or ``serve``.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        role: str,
        reviewed: Trust | None = None,
        signer: Signer | None = None,
        passphrase: str | bytes | None = None,
        now: clock.Clock = clock.now,
    ) -> None:
        self._layout = layout
        self.path = layout.root
        self.role = role
        self._reviewed = reviewed
        self._passphrase = passphrase
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
        """The trust that everything is judged under: reviewed, plus this workspace's own keys."""
        if self._effective is None:
            self._effective = setup.effective_trust(self._layout, self._reviewed)
        return self._effective

    def _signer(self, purpose: str) -> Signer:
        if purpose not in self._signers:
            if purpose not in setup.PURPOSES[self.role]:
                raise KeyUnavailableError(
                    f"the {purpose} key is not opened by a workspace with role {self.role!r}",
                    why="a serving process holds the audit key only",
                    fix="open the workspace with role='train' where models are trained and signed",
                )
            path = setup.key_file(self._layout, purpose)
            self._signers[purpose] = keys.load(
                path,
                passphrase=self._passphrase if keys.is_encrypted(path) else None,
                purposes=frozenset({purpose}),
            )
        return self._signers[purpose]

    # -- the two logs ----------------------------------------------------------

    def _open_log(self, name: str) -> Log:
        self._check_open()
        return Log.open(
            self.path / name,
            private=self._layout.private,
            signer=self._signer(name),
            purpose=name,
            previous=setup.previous_keys(self._layout, self.trust, name),
            lock=self._lock,
        )

    def _ledger(self) -> StatementLog:
        if self._statements is None:
            self._statements = StatementLog(
                self._open_log("log"), BlobStore(self._layout.blobs), clock=self._now
            )
        return self._statements

    @property
    def audit_log(self) -> audit.AuditLog:
        """The log of predictions that this workspace writes."""
        if self._audit is None:
            self._audit = audit.AuditLog(
                self._open_log("audit"),
                details=self._layout.details,
                private=self._layout.private,
                clock=self._now,
            )
        return self._audit

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(
                f"workspace {str(self.path)!r} is closed",
                why="it was sealed when it was closed",
                fix="open it again with secureml.open(…)",
            )

    def _record(self, statement: Statement) -> Logged:
        """Sign *statement*, check that our own trust accepts it, and log it."""
        envelope = attest(statement, self._signer("statements"))
        verify(envelope, trust=self.trust, role=role_of(statement.predicate_type))
        self._wrote = True
        return self._ledger().append(envelope)

    def _evidence(self, logged: Logged) -> Evidence:
        return verify(
            logged.envelope,
            trust=self.trust,
            role=role_of(logged.envelope.statement().predicate_type),
            position=Position(self._ledger().origin, logged.index, logged.at),
        )

    def _history(self) -> list[tuple[int, Statement]]:
        return [(item.index, item.envelope.statement()) for item in self._ledger()]

    # -- data and gates --------------------------------------------------------

    def dataset(
        self,
        path: str | os.PathLike[str],
        *,
        source: str,
        licence: str,
        collector: str = "",
        name: str | None = None,
        schema: object = None,
        collected_at: datetime | None = None,
    ) -> data.Dataset:
        """
        Measure the data at *path*, and log a claim about where it came from.

        The same data with the same claims returns the evidence that exists.
        See `secureml.data.dataset` for the arguments and errors.

        Raises:
            StoreError: Another process writes to this workspace.
        """
        handle = data.dataset(
            path,
            source=source,
            licence=licence,
            collector=collector,
            name=name,
            schema=schema,
            collected_at=collected_at,
        )
        statement = handle.statement()
        wanted = statement.encode()
        for logged in self._ledger().find(handle.digest, st.DATASET):
            if logged.envelope.payload == wanted:
                return handle.with_evidence(self._evidence(logged))
        logged = self._record(statement)
        self._ledger().publish()
        return handle.with_evidence(self._evidence(logged))

    def run_gate(self, gate: gates.Gate, subject: gates.Measurable) -> gates.GateResult:
        """
        Run *gate* on *subject*: plan logged, data measured, decision signed.

        Returns the result whichever way it went; ``.enforce()`` raises when
        the gate said no. A passing decision about the same data under the same
        plan that is in the log already is returned as it stands.

        Raises:
            DigestMismatchError: The data changed since it was registered.
            StoreError: The log cannot be written.
        """
        standing = standing_result(gate, subject, ledger=self._ledger(), trust=self.trust)
        if standing is not None:
            return standing
        result = gates.run(
            gate,
            subject,
            record=self._record,
            history=self._history(),
            now=self._now,
            verifier_id=f"{st.PREDICATE_PREFIX}verifier/{self._ledger().origin}",
        )
        self._ledger().publish()
        return result

    # -- training and models ---------------------------------------------------

    def training_run(
        self,
        name: str,
        *,
        inputs: Sequence[data.Dataset],
        seed: int | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> training.TrainingRun:
        """
        Start a training run: a context manager that records what goes in and comes out.

        Args:
            name: The model's name, which a trust file has a rule for.
            inputs: The datasets that it is trained on.
            seed: Recorded and offered as ``run.seed``; drawn when None.
            parameters: What the run was told; JSON values and finite floats.

        Raises:
            TypeError: An input is not a dataset, or a parameter cannot be recorded.
            ValueError: A parameter is NaN or infinite.
        """
        return training.TrainingRun(
            name,
            inputs=tuple(inputs),
            decisions=lambda known: signing.passing_decisions(self._ledger(), known),
            record=self._record,
            save=models.save,
            publish=self._ledger().publish,
            seed=seed,
            parameters=parameters or {},
            clock=self._now,
        )

    def sign_model(
        self, path: str | os.PathLike[str], *, require: Sequence[gates.Gate] = ()
    ) -> signing.SignedModel:
        """
        Sign the model at *path*, and write the claims that travel with it.

        Writes ``model.sig`` (OpenSSF Model Signing v1.0) and ``claims.jsonl``
        inside the directory; both are written beside and renamed.

        Args:
            path: The model directory.
            require: Gates that every dataset input of the run must have passed.

        Raises:
            ChainError: No run of this workspace produced exactly these files.
            GateDeniedError: A required gate was not passed; nothing is signed.
        """
        return signing.sign_model(
            Path(path),
            require=require,
            key=self._signer("statements"),
            ledger=self._ledger(),
            trust=self.trust,
        )

    def load_model(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        allow_types: Sequence[str] = (),
    ) -> models.LoadedModel:
        """
        Verify the model at *path* against the trust file's rule, and load those very bytes.

        Args:
            path: The model directory, with ``model.sig`` and ``claims.jsonl``.
            name: The model that is expected; any that the trust has a rule for when None.
            allow_types: Types beyond our fixed list that a skops file may make.

        Raises:
            VerificationError: The files, a signature or a link of the chain do not hold.
            FormatError: The signature or the claims cannot be read.
            UnsafeFormatError: Loading it would run code.
            StoreError: The load cannot be recorded.
        """
        model, claims = loading.load_with_claims(
            Path(path), trust=self.trust, name=name, allow_types=allow_types
        )
        digest = BlobStore(self._layout.blobs).put(claims)
        self.audit_log.record_model_load(model, claims=digest)
        self.audit_log.publish()
        return model

    # -- serving ---------------------------------------------------------------

    def audited(
        self,
        *,
        action: str,
        model: object = None,
        user: str | None = None,
        capture: Sequence[str] = (),
        durable: bool = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """
        Decorate a function so that each call leaves one record in this workspace.

        See `secureml.audit.audited` for the arguments and what is recorded.
        """
        return audit.audited(
            self.audit_log, action=action, model=model, user=user, capture=capture, durable=durable
        )

    def trace(self, prediction: str, *, input: object = NOTHING) -> Trace:  # noqa: A002  the CLI's word
        """
        Walk back from *prediction* to the rows behind its model, each link judged.

        Args:
            prediction: The record's id.
            input: A value to compare with what was recorded as the call's input.

        Raises:
            LookupError: No record has this id.
            VerificationError: The log itself does not hold.
        """
        if self._audit is not None:
            self._audit.publish()
        return trace_prediction(self.path, prediction, trust=self.trust, value=input)

    # -- proof, time, end ------------------------------------------------------

    def verify(self, *, checkpoints: Sequence[str] = ()) -> Report:
        """
        Verify the whole directory: every tile, statement, record, blob, file and model.

        Args:
            checkpoints: Signed notes seen earlier, beyond those that this machine remembers.

        Raises:
            VerificationError: Something does not hold; the error names it.
            FormatError: Something cannot be read.
        """
        for log in (self._audit, self._statements):
            if log is not None:
                log.publish()
        return verify_directory(
            self.path,
            trust=self.trust,
            checkpoints=(*self._layout.remembered(), *checkpoints),
        )

    def checkpoint(self) -> str:
        """
        Publish both logs, anchor the audit log in the statement log, return the signed note.

        Keep the note outside this machine: whoever holds it finds a rollback.

        Raises:
            StoreError: A log cannot be written.
        """
        if self.role == "serve":
            return self.audit_log.publish()
        if (self.path / "audit").is_dir():
            self._anchor()
        return self._ledger().publish()

    def _anchor(self) -> None:
        """Commit the statement log to the audit log as it is published now."""
        if self._audit is not None:
            note = self._audit.publish()
        else:
            note = Log.open(self.path / "audit").checkpoint_note()
        statement = sealing.anchor_statement(note)
        last = self._ledger().find(sealing.anchored_root(statement), st.ANCHOR)
        if not last or last[-1].envelope.payload != statement.encode():
            self._record(statement)

    def write_trust(
        self,
        path: str | os.PathLike[str],
        *,
        models: Mapping[str, Sequence[gates.Gate]],
        max_attempts: int | None = None,
    ) -> Path:
        """
        Write a trust file for review: this workspace's identities, a rule for each model.

        Args:
            path: Where; never inside the evidence directory.
            models: Model name → the gates that it must have passed.
            max_attempts: The most attempts a gate may have taken.
        """
        return setup.write_trust(
            Path(path), trust=self.trust, models=models, max_attempts=max_attempts
        )

    def pin(self, trust: str | os.PathLike[str] | Trust) -> None:
        """
        Add the identities and rules of a reviewed trust file to this machine's own.

        Raises:
            FormatError: It cannot be read, or contradicts what is pinned.
        """
        other = trust if isinstance(trust, Trust) else Trust.load(trust)
        setup.pin(self._layout, other)
        self._wrote = True
        self._effective = None

    def rotate(self, *, passphrase: str | bytes, purpose: str = "statements") -> str:
        """
        Replace a development key by one that *passphrase* protects; return its fingerprint.

        A leaf signed by the old and the new key says so; from there on the old
        one is retired. Later on, open the workspace with the passphrase.

        Args:
            passphrase: Of the new key; one for all keys of a workspace.
            purpose: ``statements``, ``log`` or ``audit``.

        Raises:
            ValueError: The passphrase is empty, or no key has this purpose.
            KeyUnavailableError: The workspace is open for serving.
            StoreError: The log cannot be written.
        """
        if not passphrase or purpose not in setup.PURPOSES["train"]:
            msg = "rotate takes a passphrase, and a purpose: statements, log or audit"
            raise ValueError(msg)
        audited = 0 if purpose != "audit" else self._audited_size()
        self._wrote = True
        new = setup.rotate(
            self._layout,
            purpose,
            old=self._signer(purpose),
            passphrase=passphrase,
            ledger=self._ledger(),
            trust=self.trust,
            audited=audited,
        )
        self._signers[purpose] = new
        self._passphrase = passphrase
        self._effective = None
        self._forget_logs()
        return new.verifier.fingerprint

    def _audited_size(self) -> int:
        self.audit_log.end()
        self.audit_log.publish()
        return self.audit_log.log.size

    def _forget_logs(self) -> None:
        """Let the logs be opened again, with the key that signs now."""
        for log in (self._audit, self._statements):
            if log is not None:
                log.close()
        self._audit = self._statements = None

    def close(self) -> None:
        """
        Fold everything in, append a seal over every file, and let go of the lock.

        Does nothing where nothing was written since it was opened.

        Raises:
            StoreError: A log cannot be written.
        """
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
        """Write the seal as the last leaf: of the statement log, or of a server's audit log."""
        if self.role == "train":
            if self._audit is not None:
                self._audit.end()
            if (self.path / "audit").is_dir():
                self._anchor()
        elif self._audit is not None:
            self._audit.publish()
        setup.publish_trust(self._layout)
        seal = sealing.make_seal(self.path, BlobStore(self._layout.blobs))
        if self.role == "train":
            self._record(sealing.seal_statement(seal))
            self._ledger().publish()
        else:
            self.audit_log.seal(seal.to_json())
            self.audit_log.publish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r}, role={self.role!r})"
