"""
A training run: what goes in, what comes out, and that it happened, on record.

The start is logged before the block's first line runs.  A block that ends
well signs SLSA provenance over what it saved; one that leaves by exception
signs no output and logs the failure, so that a failed run cannot be hidden by
running it again.

`observed` is said only of data that this library handed out inside the block,
in this thread or a task it started.  That the code then used exactly these
bytes is the claim of whoever signs.
"""

import os
import secrets
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from uuid import uuid4

from secureml.clock import Clock, format_time, now
from secureml.errors import DigestMismatchError, SecureMLError
from secureml.evidence.observe import observing
from secureml.evidence.subject import SubjectLike
from secureml.hashing.tree import manifest as tree_manifest
from secureml.training.code import Code, current_code
from secureml.training.environment import current_environment
from secureml.training.parameters import check_seed, plain_parameters
from secureml.training.predicates import (
    DecisionRef,
    Input,
    Output,
    Provenance,
    RunFailure,
    RunStart,
)
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.manifest import Manifest
from secureml.wire.statement import Statement

__all__ = ["Recorded", "Saver", "TrainingRun"]

BESIDE = ("claims.jsonl", "model.sig")
"""Files in an output directory that are about the output, and no part of it."""

_SEED_BITS = 32
_LONGEST_NAME = 200
_LONGEST_ERROR = 200


class Saver(Protocol):
    """**Protocol.** Saves a value into a directory, as `secureml.models.save` does."""

    def __call__(
        self, value: object, directory: Path, /, *, allow_types: Collection[str]
    ) -> Manifest:
        """Save *value*, and return the manifest of what was written."""
        ...


class Recorded(Protocol):
    """**Protocol.** A statement that was signed and logged."""

    @property
    def envelope(self) -> Envelope:
        """What was signed; its digest names the statement."""
        ...


Decisions = Iterable[DecisionRef | tuple[str, Digest]]


class TrainingRun:
    """
    A context manager around the code that trains.

    It takes functions, not a workspace: how a statement is signed and logged,
    and how a value is saved, are the caller's.

    Args:
        name: The model's name, which trust files have rules for.
        inputs: The datasets to train on, at least one.
        record: Signs and logs a statement.
        save: Saves a value into a directory, and returns its manifest.
        decisions: Gate decisions that the run rests on; a function is asked
            at the end, with all inputs, the undeclared ones too.
        seed: From 0 to 2**53 - 1; 32 random bits when None, which is what
            every library takes. No global generator is touched.
        parameters: What the run is told: JSON values and finite floats.
        clock: Tells the time.
        code: Which code runs; found out when None.
        publish: Called after the last record; makes the log's state public.

    Raises:
        ValueError: No name, no input, two inputs of one name, a seed or a
            parameter that cannot be recorded.
        TypeError: An input has no name and digest; a parameter of a type
            that cannot be recorded; a seed that is not an integer.
    """

    def __init__(
        self,
        name: str,
        *,
        inputs: Sequence[SubjectLike],
        record: Callable[[Statement], Recorded],
        save: Saver,
        decisions: Decisions | Callable[[Sequence[SubjectLike]], Decisions] = (),
        seed: int | None = None,
        parameters: Mapping[str, object] | None = None,
        clock: Clock = now,
        code: Code | None = None,
        publish: Callable[[], object] | None = None,
    ) -> None:
        self._name = _checked_name(name)
        self._inputs = _checked_inputs(inputs)
        self._seed = secrets.randbits(_SEED_BITS) if seed is None else check_seed(seed)
        self._parameters = plain_parameters(parameters or {})
        self._record = record
        self._saver = save
        self._decisions = decisions
        self._clock = clock
        self._code = code
        self._publish = publish
        self._state = "new"
        self._stack = ExitStack()
        self._seen: dict[Digest, SubjectLike] = {}
        self._outputs: dict[str, tuple[Path, Manifest]] = {}
        self._start: tuple[RunStart, Digest] | None = None
        self._provenance: Recorded | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    @property
    def seed(self) -> int:
        """The seed that is recorded: pass it to everything that draws."""
        return self._seed

    @property
    def parameters(self) -> Mapping[str, object]:
        """The parameters as they are recorded."""
        return dict(self._parameters)

    @property
    def state(self) -> str:
        """``new``, ``running``, ``done`` or ``failed``."""
        return self._state

    @property
    def outputs(self) -> Mapping[str, Manifest]:
        """What was saved so far, by the base name of its directory."""
        return {name: manifest for name, (_, manifest) in self._outputs.items()}

    @property
    def provenance(self) -> Recorded | None:
        """The provenance that was signed, once the run is done."""
        return self._provenance

    def save(
        self,
        value: object,
        directory: str | os.PathLike[str],
        *,
        allow_types: Collection[str] = (),
    ) -> Manifest:
        """
        Save *value* into *directory* as an output of this run.

        What may be saved, and in which format, `secureml.models.save` says.
        Saving into the same directory again replaces the output.

        Args:
            value: An estimator, a torch module or state dict, or a dict of arrays.
            directory: The model's directory.
            allow_types: Types beyond the fixed list that the value may be made
                of; who loads it must allow them too.

        Raises:
            RuntimeError: The run is not open.
            TypeError: The value cannot be saved without pickle.
            ValueError: The directory holds other files, or another output
                has its name.
        """
        path = self._output_path(directory)
        manifest = self._saver(value, path, allow_types=allow_types)
        self._outputs[path.name] = (path, manifest)
        return manifest

    def add_output(self, directory: str | os.PathLike[str]) -> Manifest:
        """
        Name *directory*, which the code filled itself, as an output of this run.

        Raises:
            RuntimeError: The run is not open.
            ValueError: It has no files, or another output has its name.
            SecureMLError: It cannot be read, or has something else than regular files.
        """
        path = self._output_path(directory)
        manifest = tree_manifest(path, exclude=BESIDE)
        if not len(manifest):
            msg = f"{str(path)!r} holds no file that could be an output"
            raise ValueError(msg)
        self._outputs[path.name] = (path, manifest)
        return manifest

    def __enter__(self) -> Self:
        if self._state != "new":
            msg = f"run {self._name!r} is {self._state}: a run is entered once, make another one"
            raise RuntimeError(msg)
        code = current_code() if self._code is None else self._code
        start = RunStart(
            invocation_id=str(uuid4()),
            name=self._name,
            seed=self._seed,
            parameters=self._parameters,
            started_on=format_time(self._clock()),
            inputs=tuple(
                Input(name=subject.name, digests=dict(subject.digests)) for subject in self._inputs
            ),
            code=code,
        )
        self._start = start, self._record(start.statement()).envelope.digest
        self._stack.enter_context(observing(self._observe))
        self._state = "running"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._state = "failed"
        if kind is not None:
            try:
                self._fail("exception", kind.__name__)
            except (SecureMLError, OSError) as problem:
                # The training error is the news; that it is not on record comes with it.
                if error is not None:
                    error.add_note(
                        f"secureml could not record that run {self._name!r} failed: {problem}"
                    )
            return
        if not self._outputs:
            self._fail("no-output", "")
            warnings.warn(
                f"run {self._name!r} saved no output, so nothing was signed: "
                "call run.save(value, directory) inside the block",
                stacklevel=2,
            )
            return
        for name, (path, saved) in self._outputs.items():
            try:
                saved.verify(tree_manifest(path, exclude=BESIDE))
            except SecureMLError as problem:
                self._fail("output-changed", type(problem).__name__)
                raise DigestMismatchError(
                    f"output {name!r} of run {self._name!r} is not what was saved",
                    why=f"{problem.what}: {problem.why}",
                    fix="write everything before run.save(…) or run.add_output(…); train again",
                ) from problem
        try:
            said = self._finish()
        except Exception as problem:
            self._fail("exception", type(problem).__name__)
            raise
        self._provenance = self._record(said.statement())
        self._state = "done"
        if self._publish is not None:
            self._publish()

    def _finish(self) -> Provenance:
        start, digest = self._started()
        inputs, subjects = self._all_inputs()
        decisions = self._decisions(subjects) if callable(self._decisions) else self._decisions
        return Provenance(
            invocation_id=start.invocation_id,
            name=start.name,
            seed=start.seed,
            parameters=start.parameters,
            started_on=start.started_on,
            finished_on=format_time(self._clock()),
            inputs=inputs,
            decisions=tuple(
                item
                if isinstance(item, DecisionRef)
                else DecisionRef(gate=item[0], digest=item[1])
                for item in decisions
            ),
            run_start=digest,
            code=start.code,
            environment=current_environment(),
            outputs=tuple(
                Output(name=name, digest=manifest.digest)
                for name, (_, manifest) in self._outputs.items()
            ),
        )

    def _all_inputs(self) -> tuple[tuple[Input, ...], tuple[SubjectLike, ...]]:
        """Return every input, with its strength: what was seen counts, declared or not."""
        declared = {subject.digest for subject in self._inputs}
        extra = [subject for digest, subject in self._seen.items() if digest not in declared]
        inputs = [
            Input(
                name=subject.name,
                digests=dict(subject.digests),
                strength="observed" if subject.digest in self._seen else "declared",
            )
            for subject in self._inputs
        ]
        inputs += [
            Input(
                name=subject.name,
                digests=dict(subject.digests),
                strength="observed",
                undeclared=True,
            )
            for subject in extra
        ]
        return tuple(inputs), (*self._inputs, *extra)

    def _fail(self, reason: str, error: str) -> None:
        start, digest = self._started()
        failure = RunFailure(
            invocation_id=start.invocation_id,
            name=start.name,
            run_start=digest,
            started_on=start.started_on,
            finished_on=format_time(self._clock()),
            reason=reason,
            error=error[:_LONGEST_ERROR],
            inputs=start.inputs,
        )
        self._record(failure.statement())
        if self._publish is not None:
            self._publish()

    def _observe(self, subject: SubjectLike) -> None:
        self._seen.setdefault(subject.digest, subject)

    def _started(self) -> tuple[RunStart, Digest]:
        if self._start is None:
            msg = f"run {self._name!r} was not entered"
            raise RuntimeError(msg)
        return self._start

    def _output_path(self, directory: str | os.PathLike[str]) -> Path:
        if self._state != "running":
            msg = (
                f"run {self._name!r} is {self._state}: save inside its block, "
                "with ws.training_run(…) as run: …"
            )
            raise RuntimeError(msg)
        path = Path(os.path.abspath(directory))  # noqa: PTH100  '..' goes, a link stays
        other = self._outputs.get(path.name)
        if other is not None and other[0] != path:
            msg = f"two outputs of run {self._name!r} would be named {path.name!r}: rename one"
            raise ValueError(msg)
        return path

    def __repr__(self) -> str:
        return f"<TrainingRun {self._name!r} {self._state} seed={self._seed}>"


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        msg = f"a run's name is text, not {type(name).__name__}"
        raise TypeError(msg)
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        msg = f"a run's name is 1 to {_LONGEST_NAME} printable characters, got {name[:80]!r}"
        raise ValueError(msg)
    return name


def _checked_inputs(inputs: Iterable[object]) -> tuple[SubjectLike, ...]:
    found: list[SubjectLike] = []
    for subject in inputs:
        if not isinstance(subject, SubjectLike):
            msg = (
                f"an input is a dataset, ws.dataset(…), not a {type(subject).__name__}: "
                "what has no digest cannot be named"
            )
            raise TypeError(msg)
        found.append(subject)
    if not found:
        msg = "a run names at least one dataset as its input: inputs=[train]"
        raise ValueError(msg)
    names = [subject.name for subject in found]
    if len(set(names)) != len(names):
        msg = f"two inputs have one name: {sorted(names)}"
        raise ValueError(msg)
    return tuple(found)
