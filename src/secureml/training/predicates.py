"""
What training says: a run started, it failed, or it produced these files.

Success is SLSA provenance v1, read by any tool that knows it.  Start and
failure are ours.  Each type writes its statement and reads it back strictly:
only `FormatError` leaves a reader.

Source: https://slsa.dev/spec/v1.0/provenance; ``docs/spec/training-run.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from secureml.errors import FormatError
from secureml.gates.fields import Fields
from secureml.training.code import Code
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.statement import (
    PREDICATE_PREFIX,
    PROVENANCE,
    RUN_FAILURE,
    RUN_START,
    Statement,
    Subject,
)

__all__ = [
    "BUILDER_ID",
    "BUILD_TYPE",
    "STRENGTHS",
    "DecisionRef",
    "Input",
    "Output",
    "Provenance",
    "RunFailure",
    "RunStart",
]

BUILD_TYPE: Final = f"{PREDICATE_PREFIX}training-run/v1"
"""How a run is described; ``docs/spec/training-run.md``."""

BUILDER_ID: Final = f"{PREDICATE_PREFIX}local-run/v1"
"""A process on somebody's machine: nothing is claimed beyond what the key says."""

STRENGTHS: Final = ("declared", "observed")
"""Said by the code; handed out by this library inside the run."""

REASONS: Final = ("exception", "no-output", "output-changed")

_UNKNOWN_CODE = f"{PREDICATE_PREFIX}training-run/v1#unknown-code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """
    A dataset that a run was trained on.

    Attributes:
        name: How people call it.
        digests: Algorithm → hex, the digest that statements join on among them.
        strength: ``observed`` or ``declared``.
        undeclared: Handed out inside the run without being named as an input.
    """

    name: str
    digests: Mapping[str, str]
    strength: str = "declared"
    undeclared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """
    A directory that a run produced.

    Attributes:
        name: Its base name.
        digest: Its ``dirHash``.
    """

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRef:
    """
    A gate decision that a run rests on, by name.

    Attributes:
        gate: ``name@major``.
        digest: SHA-256 of the decision's payload.
    """

    gate: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """
    A run begins: said before any of it happens, so that failures leave a trace.

    Attributes:
        invocation_id: A UUID, the same in all statements of the run.
        name: The model's name, which trust files have rules for.
        seed: Offered to the code as ``run.seed``.
        parameters: What the run was told; no floats.
        started_on: RFC 3339, UTC.
        inputs: The declared datasets; the statement's subjects.
        code: Which code runs.
    """

    invocation_id: str
    name: str
    seed: int
    parameters: Mapping[str, JSON]
    started_on: str
    inputs: tuple[Input, ...]
    code: Code

    def statement(self) -> Statement:
        """Return the statement; its subjects are the inputs."""
        return Statement(
            subject=_subjects(self.inputs),
            predicate_type=RUN_START,
            predicate={
                "code": self.code.to_json(),
                "invocationId": self.invocation_id,
                "name": self.name,
                "parameters": dict(self.parameters),
                "seed": self.seed,
                "startedOn": self.started_on,
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> "RunStart":
        """
        Read a run-start/v1 statement.

        Raises:
            FormatError: It is something else.
        """
        fields = _open(statement, RUN_START, "the run start")
        fields.only({"code", "invocationId", "name", "parameters", "seed", "startedOn"})
        return cls(
            invocation_id=fields.text("invocationId"),
            name=fields.text("name"),
            seed=fields.integer("seed"),
            parameters=fields.mapping("parameters"),
            started_on=fields.time("startedOn"),
            inputs=tuple(Input(name=s.name, digests=dict(s.digest)) for s in statement.subject),
            code=Code.from_json(fields.mapping("code")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """
    A run ended without an output that anybody may rest on.

    The text of an exception can hold data or secrets, so only the name of its
    type is recorded.

    Attributes:
        invocation_id: As in the start.
        name: As in the start.
        run_start: SHA-256 of the start's payload.
        started_on: As in the start.
        finished_on: RFC 3339, UTC.
        reason: ``exception``, ``no-output`` or ``output-changed``.
        error: Name of the exception's type; empty without one.
        inputs: As in the start; the statement's subjects.
    """

    invocation_id: str
    name: str
    run_start: Digest
    started_on: str
    finished_on: str
    reason: str
    error: str
    inputs: tuple[Input, ...]

    def statement(self) -> Statement:
        """Return the statement; its subjects are the inputs."""
        return Statement(
            subject=_subjects(self.inputs),
            predicate_type=RUN_FAILURE,
            predicate={
                "error": self.error,
                "finishedOn": self.finished_on,
                "invocationId": self.invocation_id,
                "name": self.name,
                "reason": self.reason,
                "runStart": self.run_start.as_set(),
                "startedOn": self.started_on,
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> "RunFailure":
        """
        Read a run-failure/v1 statement.

        Raises:
            FormatError: It is something else.
        """
        fields = _open(statement, RUN_FAILURE, "the run failure")
        fields.only(
            {"error", "finishedOn", "invocationId", "name", "reason", "runStart", "startedOn"}
        )
        return cls(
            invocation_id=fields.text("invocationId"),
            name=fields.text("name"),
            run_start=fields.digest("runStart"),
            started_on=fields.time("startedOn"),
            finished_on=fields.time("finishedOn"),
            reason=fields.choice("reason", REASONS),
            error=fields.text("error", empty=True),
            inputs=tuple(Input(name=s.name, digests=dict(s.digest)) for s in statement.subject),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """
    A run produced these outputs, from these inputs.

    Attributes:
        invocation_id: As in the start.
        name: As in the start.
        seed: As in the start.
        parameters: As in the start.
        started_on: As in the start.
        finished_on: RFC 3339, UTC.
        inputs: Every dataset, declared or handed out inside the run.
        decisions: Gate decisions about them that were known at the start.
        run_start: SHA-256 of the start's payload.
        code: Which code ran.
        environment: Interpreter, platform, packages.
        outputs: What was produced; the statement's subjects.
    """

    invocation_id: str
    name: str
    seed: int
    parameters: Mapping[str, JSON]
    started_on: str
    finished_on: str
    inputs: tuple[Input, ...]
    decisions: tuple[DecisionRef, ...]
    run_start: Digest
    code: Code
    environment: Mapping[str, JSON]
    outputs: tuple[Output, ...]

    def statement(self) -> Statement:
        """Return the SLSA provenance v1 statement; its subjects are the outputs."""
        python = self.environment.get("python")
        library = self.environment.get("secureml")
        versions: dict[str, JSON] = {
            name: version
            for name, version in (("python", python), ("secureml", library))
            if isinstance(version, str)
        }
        return Statement(
            subject=tuple(Subject(o.name, o.digest.as_set()) for o in self.outputs),
            predicate_type=PROVENANCE,
            predicate={
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "name": self.name,
                        "parameters": dict(self.parameters),
                        "seed": self.seed,
                    },
                    "internalParameters": {"environment": dict(self.environment)},
                    "resolvedDependencies": [
                        *map(_dataset, self.inputs),
                        *map(_decision, self.decisions),
                        {
                            "annotations": {"kind": "run-start"},
                            "digest": self.run_start.as_set(),
                            "name": self.name,
                        },
                        _code(self.code),
                    ],
                },
                "runDetails": {
                    "builder": {"id": BUILDER_ID, "version": versions},
                    "metadata": {
                        "finishedOn": self.finished_on,
                        "invocationId": self.invocation_id,
                        "startedOn": self.started_on,
                    },
                },
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> "Provenance":
        """
        Read the provenance of a run of ours.

        Fields that are not known are passed over, as SLSA asks, but not among
        the external parameters.

        Raises:
            FormatError: Another predicate or build type, or a malformed one.
        """
        fields = _open(statement, PROVENANCE, "the provenance of a run")
        definition, details = fields.fields("buildDefinition"), fields.fields("runDetails")
        definition.choice("buildType", (BUILD_TYPE,))
        external = definition.fields("externalParameters")
        external.only({"name", "parameters", "seed"})
        details.fields("builder").choice("id", (BUILDER_ID,))
        metadata = details.fields("metadata")
        found = _Dependencies(definition.items("resolvedDependencies"))
        return cls(
            invocation_id=metadata.text("invocationId"),
            name=external.text("name"),
            seed=external.integer("seed"),
            parameters=external.mapping("parameters"),
            started_on=metadata.time("startedOn"),
            finished_on=metadata.time("finishedOn"),
            inputs=tuple(found.inputs),
            decisions=tuple(found.decisions),
            run_start=found.one_start(),
            code=found.one_code(),
            environment=definition.fields("internalParameters").mapping("environment"),
            outputs=tuple(
                Output(name=s.name, digest=Digest.from_set(s.digest, "dirHash"))
                for s in statement.subject
            ),
        )


class _Dependencies:
    """The resolved dependencies, by their kind."""

    def __init__(self, items: list[Fields]) -> None:
        self.inputs: list[Input] = []
        self.decisions: list[DecisionRef] = []
        self.starts: list[Digest] = []
        self.codes: list[Code] = []
        for item in items:
            about = item.fields("annotations")
            kind = about.text("kind")
            if kind == "dataset":
                self.inputs.append(_read_dataset(item, about))
            elif kind == "gate-decision":
                self.decisions.append(
                    DecisionRef(gate=item.text("name"), digest=item.digest("digest"))
                )
            elif kind == "run-start":
                self.starts.append(item.digest("digest"))
            elif kind == "code":
                self.codes.append(Code.from_json(about.mapping("code")))

    def one_start(self) -> Digest:
        if len(self.starts) != 1:
            raise _bad(f"it names {len(self.starts)} run starts, and needs one")
        return self.starts[0]

    def one_code(self) -> Code:
        if len(self.codes) != 1:
            raise _bad(f"it names its code {len(self.codes)} times, and needs once")
        return self.codes[0]


def _read_dataset(item: Fields, about: Fields) -> Input:
    digests = item.mapping("digest")
    if not digests or not all(isinstance(value, str) for value in digests.values()):
        raise _bad("a dataset has no digest set")
    return Input(
        name=item.text("name"),
        digests={name: str(value) for name, value in digests.items()},
        strength=about.choice("strength", STRENGTHS),
        undeclared=about.boolean("undeclared") if about.has("undeclared") else False,
    )


def _dataset(source: Input) -> dict[str, JSON]:
    about: dict[str, JSON] = {"kind": "dataset", "strength": source.strength}
    if source.undeclared:
        about["undeclared"] = True
    return {"annotations": about, "digest": dict(source.digests), "name": source.name}


def _decision(decision: DecisionRef) -> dict[str, JSON]:
    return {
        "annotations": {"kind": "gate-decision"},
        "digest": decision.digest.as_set(),
        "name": decision.gate,
    }


def _code(code: Code) -> dict[str, JSON]:
    """Describe the code by the digest its kind has; a descriptor without one needs a URI."""
    found: dict[str, JSON] = {
        "annotations": {"code": code.to_json(), "kind": "code"},
        "name": "code",
    }
    if code.commit:
        found["digest"] = {"gitCommit": code.commit}
    elif (digest := code.cells or code.main_digest) is not None:
        found["digest"] = digest.as_set()
    else:
        found["uri"] = _UNKNOWN_CODE
    return found


def _subjects(inputs: tuple[Input, ...]) -> tuple[Subject, ...]:
    return tuple(Subject(source.name, dict(source.digests)) for source in inputs)


def _open(statement: Statement, predicate_type: str, what: str) -> Fields:
    if statement.predicate_type != predicate_type:
        raise _bad(f"its type is {statement.predicate_type[:120]!r}, not {predicate_type!r}")
    return Fields(statement.predicate, what)


def _bad(why: str) -> FormatError:
    return FormatError(
        "this is not a statement of a training run that can be read",
        why=why,
        fix="get the statement again; if it is by another tool, it says nothing here",
    )
