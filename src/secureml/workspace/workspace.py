"""
The friendly face: one directory that a training script or a server opens.

A workspace composes the verbs of the stages; it decides nothing itself.  What
it adds is order: a plan is logged before it runs, a start before training, a
signature after the gates, and a seal over everything when it is closed.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from secureml import audit, clock, data, gates, models, training
from secureml.audit.decorator import Audits
from secureml.audit.options import AuditOptions
from secureml.evidence.anchors.policy import Anchors
from secureml.evidence.blobs import BlobStore
from secureml.evidence.trust import Trust
from secureml.keys import Signer
from secureml.wire import statement as st
from secureml.workspace import loading, setup, signing
from secureml.workspace.custody import Custody
from secureml.workspace.deciding import standing_result
from secureml.workspace.layout import Layout
from secureml.workspace.tracing import NOTHING, Trace, trace_prediction
from secureml.workspace.verifying import Report, verify_directory

__all__ = ["Workspace"]


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
        anchors: Anchors | None = None,
        also: Signer | None = None,
        now: clock.Clock = clock.now,
    ) -> None:
        self._layout = layout
        self.path = layout.root
        self.role = role
        self._now = now
        self._custody = Custody(
            layout,
            role=role,
            reviewed=reviewed,
            signer=signer,
            passphrase=passphrase,
            anchors=anchors,
            also=also,
            now=now,
        )

    @property
    def trust(self) -> Trust:
        """The trust that everything is judged under: reviewed, plus this workspace's own keys."""
        return self._custody.trust

    @property
    def audit_log(self) -> audit.AuditLog:
        """The log of predictions that this workspace writes."""
        return self._custody.audit_log

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
        for logged in self._custody.ledger.find(handle.digest, st.DATASET):
            if logged.envelope.payload == wanted:
                return handle.with_evidence(self._custody.evidence(logged))
        logged = self._custody.record(statement)
        self._custody.ledger.publish()
        return handle.with_evidence(self._custody.evidence(logged))

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
        gates.require_gate(gate, subject)
        standing = standing_result(gate, subject, ledger=self._custody.ledger, trust=self.trust)
        if standing is not None:
            return standing
        result = gates.run(
            gate,
            subject,
            record=self._custody.record,
            history=self._custody.history(),
            now=self._now,
            verifier_id=f"{st.PREDICATE_PREFIX}verifier/{self._custody.ledger.origin}",
        )
        self._custody.ledger.publish()
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
        if isinstance(inputs, data.Dataset):
            msg = "inputs is a list of datasets: write inputs=[train]"
            raise TypeError(msg)
        return training.TrainingRun(
            name,
            inputs=tuple(inputs),
            decisions=lambda known: signing.passing_decisions(self._custody.ledger, known),
            record=self._custody.record,
            save=models.save,
            publish=self._custody.ledger.publish,
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
            key=self._custody.signer("statements"),
            ledger=self._custody.ledger,
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
        self.audit_log.begin()  # A new file in a directory that is sealed would be a break.
        digest = BlobStore(self._layout.blobs).put(claims)
        self.audit_log.record_model_load(model, claims=digest)
        self.audit_log.publish()
        return model

    # -- serving ---------------------------------------------------------------

    def audited(self, *, action: str, **options: Unpack[AuditOptions]) -> Audits:
        """
        Decorate a function so that each call leaves one record in this workspace.

        Args:
            action: What the function does, in the words of the application.
            options: All that `secureml.audit.audited` takes: ``model``, ``user``,
                ``session``, ``capture``, ``redact``, ``subject``, ``profile``,
                ``require``, ``ack``, ``on_failure`` and the others.

        Raises:
            TypeError, ValueError, MissingExtraError: As `secureml.audit.audited`.
        """
        return audit.audited(self.audit_log, action=action, **options)

    def query(self, *, by: object, **conditions: Any) -> Any:  # noqa: ANN401  an Arrow table
        """
        Ask the audit log, as an Arrow table, and record who asked (PCI DSS 10.2.1.3).

        Args:
            by: Who asks; recorded as a pseudonym.
            conditions: What `secureml.audit.query_log` takes: ``types``, ``outcome``,
                ``since``, ``sql`` and the others.

        Raises:
            MissingExtraError: pyarrow is not installed.
            ValueError, TypeError, StoreError, VerificationError: As `secureml.audit.query_log`.
        """
        self._custody.publish()
        cache = self._layout.private / "index"
        table = audit.query_log(self.audit_log, **{"cache": cache, **conditions})
        self._accessed("audit.query", by, rows=table.num_rows)
        return table

    def export(
        self,
        format: str,  # noqa: A002  the word that everybody uses
        out: str | os.PathLike[str],
        *,
        by: object,
        **conditions: Any,  # noqa: ANN401  those of the export
    ) -> audit.Exported:
        """
        Write the audit log for other people's tools, and record who did (PCI DSS 10.2.1.3).

        Args:
            format: ``jsonl``, ``parquet``, ``ocsf``, ``ecs``, ``cef`` or ``otlp``.
            out: The file.
            by: Who exports; recorded as a pseudonym.
            conditions: What `secureml.audit.export_log` takes.

        Raises:
            ValueError, TypeError, MissingExtraError, StoreError, VerificationError: As
                `secureml.audit.export_log`.
        """
        self._custody.publish()
        done = audit.export_log(self.audit_log, format, out, **conditions)
        self._accessed("audit.export", by, rows=done.rows, format=format, digest=done.digest)
        return done

    def _accessed(self, action: str, by: object, **said: Any) -> None:  # noqa: ANN401  as above
        log = self.audit_log
        body = audit.access_body(
            action, actor=log.pseudonyms.of(by), origin=log.log.origin, **said
        )
        log.append(body, durable=True)

    def erase(
        self, subject: object, *, reason: str, authority: str | None = None
    ) -> audit.Erasure:
        """
        Erase what was captured about a person; every proof goes on to hold.

        Args:
            subject: The person, as ``user`` was given.
            reason: Why, 1 to 128 characters; stands in the log, so no personal data.
            authority: Who decided, as *reason*.

        Raises:
            ValueError: *reason* or *authority* is malformed.
            GateDeniedError: A legal hold forbids it.
            StoreError, KeyUnavailableError: It could not be done to the end: call again.
        """
        return self.audit_log.erase(subject, reason=reason, authority=authority)

    def review(
        self, record: str, *, action: str, reviewers: Sequence[object], reason: str | None = None
    ) -> audit.Appended:
        """
        Record that people looked at the result of an earlier call.

        See `secureml.audit.review` for the arguments and errors.
        """
        return audit.review(
            self.audit_log, record, action=action, reviewers=reviewers, reason=reason
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
        self._custody.publish()
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
        self._custody.publish()
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
        return self._custody.checkpoint()

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
            FormatError: It cannot be read.
        """
        other = trust if isinstance(trust, Trust) else Trust.load(trust)
        self._custody.pin(other)

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
            msg = (
                "rotate takes a passphrase that is not empty, and a purpose: statements, log or "
                f"audit; got {purpose!r}"
            )
            raise ValueError(msg)
        return self._custody.rotate(purpose, passphrase).verifier.fingerprint

    def begin_epochs(self) -> str:
        """
        Let the audit log's keys follow each other, and return the first one's fingerprint.

        Once, with no other process at work. From here on the log signs with a key
        for an hour, or 65,536 leaves, and destroys it. Give the trust file, which
        says ``epochs = true``, to whoever verifies, and decorate functions again.
        After a crash, call it once more.

        Raises:
            StoreBusyError: Another process records.
            KeyUnavailableError: They do already, or the key cannot be opened.
            StoreError: The system refuses.
        """
        return self._custody.begin_epochs().fingerprint

    def begin_tail(self) -> bytes:
        """
        Begin the sealed tail of the audit log, and return its first key, 32 bytes.

        Once, with no other process at work. Give the key to the auditor and keep no
        copy: who has it can seal another end. Decorate functions again.

        Raises:
            StoreBusyError: Another process records.
            StoreError: There is one already, or the system refuses.
        """
        return self._custody.begin_tail()

    def close(self) -> None:
        """
        Fold everything in, append a seal over every file, and let go of the lock.

        Does nothing where nothing was written since it was opened. Where other
        processes still record into a directory that is served, nothing is
        sealed: the last one that closes does it.

        Raises:
            StoreError: A log cannot be written.
        """
        self._custody.close()

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
