"""
What gates say: the plan, the findings, the decision, and their strict readers.

* `GatePlan`, a format of ours: what will be asked, logged before anything is
  measured (``docs/spec/gate-plan.md``).
* `TestResult`, in-toto test-result v0.1: what was found.
* `Verdict`, SLSA verification summary v1: PASSED or FAILED, which plan and
  which findings it rests on, and how many attempts the log had seen.

A reader raises `FormatError` and nothing else.  It ignores unknown fields in
the two formats of others, as their parsing rules demand, and refuses them in
ours.

Source: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md,
https://slsa.dev/spec/v1.1/verification_summary
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self
from urllib.parse import quote

from secureml.clock import parse_time
from secureml.errors import ChainError, FormatError
from secureml.gates.check import Finding, full_name
from secureml.gates.fields import Fields
from secureml.gates.gate import Gate, check_gate_name, plan_value
from secureml.gates.policy import Measured
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.statement import (
    GATE_PLAN,
    PAYLOAD_TYPE,
    PREDICATE_PREFIX,
    TEST_RESULT,
    VSA,
    Statement,
    Subject,
)

__all__ = ["GatePlan", "PlannedCheck", "TestResult", "Verdict", "confirm"]

_ATTEMPTS = PREDICATE_PREFIX + "attempts"
_FINDINGS = PREDICATE_PREFIX + "findings"
_REASONS = PREDICATE_PREFIX + "reasons"
_PASSED = "PASSED"
_FAILED = "FAILED"
_LEVEL = "SECUREML_GATE_PASSED"


@dataclass(frozen=True, slots=True)
class PlannedCheck:
    """
    A check as a plan names it.

    Attributes:
        id: ``name@major``.
        params: Its parameters.
    """

    id: str
    params: Mapping[str, JSON]

    @property
    def name(self) -> str:
        """The check's whole name, as findings carry it."""
        return full_name(self.id, self.params)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """
    What a gate is about to ask of a subject; logged before it asks.

    Attributes:
        gate: The gate's name.
        digest: The gate's digest, which is the SHA-256 of the canonical plan.
        checks: What it asks.
        planned_at: When, RFC 3339: it tells two attempts apart.
        subject: What it is about.
    """

    gate: str
    digest: Digest
    checks: tuple[PlannedCheck, ...]
    planned_at: str
    subject: Subject

    @classmethod
    def of(cls, gate: Gate, subject: Subject, *, planned_at: str) -> Self:
        """Return the plan of *gate* for *subject*."""
        return cls(
            gate=gate.name,
            digest=gate.digest,
            checks=tuple(PlannedCheck(c.id, dict(c.params)) for c in gate.checks),
            planned_at=planned_at,
            subject=subject,
        )

    def statement(self) -> Statement:
        """Return the statement to sign and log."""
        return Statement(
            (self.subject,),
            GATE_PLAN,
            {
                "digest": dict(self.digest.as_set()),
                "plan": plan_value(self.gate, [(c.id, c.params) for c in self.checks]),
                "plannedAt": self.planned_at,
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> Self:
        """
        Read a plan.

        Raises:
            FormatError: It is not one, or its digest is not that of its checks.
        """
        subject = _head(statement, GATE_PLAN, "a gate plan")
        fields = Fields(statement.predicate, "a gate plan")
        fields.only(("digest", "plan", "plannedAt"))
        plan = fields.fields("plan")
        plan.only(("checks", "name", "v"))
        if plan.integer("v") != 1:
            raise plan.refuse(field="v", found="is not 1, the only version this library knows")
        checks = []
        for item in plan.items("checks"):
            item.only(("id", "params"))
            checks.append(PlannedCheck(item.text("id"), item.mapping("params")))
        gate = _gate_name(plan, "name")
        names = [_planned_name(plan, check) for check in checks]
        if not names or names != sorted(set(names)):
            raise plan.refuse(field="checks", found="is empty, not sorted or names a check twice")
        digest = fields.digest("digest")
        if digest != Digest.sha256(canonical.encode(dict(fields.mapping("plan")))):
            raise fields.refuse(field="digest", found="is not the SHA-256 of the canonical plan")
        return cls(
            gate=gate,
            digest=digest,
            checks=tuple(checks),
            planned_at=fields.time("plannedAt"),
            subject=subject,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The whole names of the checks."""
        return tuple(check.name for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """
    What the checks of one plan found.

    Attributes:
        gate: The gate's name.
        gate_digest: Digest of the gate.
        plan: SHA-256 of the plan's statement: which attempt this is.
        findings: One for each check.
        subject: What it is about.
    """

    __test__: ClassVar[bool] = False

    gate: str
    gate_digest: Digest
    plan: Digest
    findings: tuple[Finding, ...]
    subject: Subject

    @property
    def passed(self) -> bool:
        """Whether there are findings, and all of them passed."""
        return bool(self.findings) and all(found.passed for found in self.findings)

    def statement(self) -> Statement:
        """Return the statement to sign and log."""
        return Statement(
            (self.subject,),
            TEST_RESULT,
            {
                "result": _PASSED if self.passed else _FAILED,
                "configuration": [
                    {
                        "name": self.gate,
                        "uri": _uri("gate", self.gate),
                        "digest": dict(self.gate_digest.as_set()),
                    },
                    {
                        "name": "plan",
                        "digest": dict(self.plan.as_set()),
                        "mediaType": PAYLOAD_TYPE,
                    },
                ],
                "passedTests": [found.check for found in self.findings if found.passed],
                "warnedTests": [],
                "failedTests": [found.check for found in self.findings if not found.passed],
                _FINDINGS: [
                    {
                        "check": found.check,
                        "counts": dict(found.counts),
                        "message": found.message,
                        "passed": found.passed,
                    }
                    for found in self.findings
                ],
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> Self:
        """
        Read the findings of a gate.

        Raises:
            FormatError: It is no test result of a gate, or contradicts itself.
        """
        what = "a gate's test result"
        subject = _head(statement, TEST_RESULT, what)
        fields = Fields(statement.predicate, what)
        found = tuple(_finding(item) for item in fields.items(_FINDINGS))
        names = [f.check for f in found]
        if not names or len(set(names)) != len(names):
            raise fields.refuse(field=_FINDINGS, found="is empty or names a check twice")
        configuration = fields.items("configuration")
        if len(configuration) != 2 or configuration[1].text("name") != "plan":  # noqa: PLR2004  the gate and its plan
            raise fields.refuse(
                field="configuration", found="is not the gate and its plan's statement"
            )
        result = cls(
            gate=_gate_name(configuration[0], "name"),
            gate_digest=configuration[0].digest("digest"),
            plan=configuration[1].digest("digest"),
            findings=found,
            subject=subject,
        )
        for key, want in (("passedTests", True), ("failedTests", False)):
            if fields.texts(key) != tuple(f.check for f in found if f.passed is want):
                raise fields.refuse(field=key, found="contradicts the findings")
        if fields.has("warnedTests") and fields.sequence("warnedTests"):
            raise fields.refuse(
                field="warnedTests", found="is not empty: a gate passes or it does not"
            )
        if fields.choice("result", (_PASSED, _FAILED)) != (_PASSED if result.passed else _FAILED):
            raise fields.refuse(field="result", found="contradicts the findings")
        return result

    def measured(self, *, subject: Digest, at: datetime) -> tuple[Measured, ...]:
        """Return the findings as evidence about *subject*, measured at *at*."""
        return tuple(
            Measured(finding=found, subject=subject, gate=self.gate_digest, at=at)
            for found in self.findings
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    The decision of a gate, as it is signed and logged.

    Attributes:
        gate: The gate's name.
        gate_digest: Digest of the gate.
        passed: The decision.
        at: The time it was decided for, RFC 3339.
        plan: SHA-256 of the plan's statement.
        result: SHA-256 of the test result's statement.
        attempts: How many plans the log had seen, this one included.
        plans: Their places in the log.
        reasons: Why not; empty when passed.
        verifier: URI of who decided.
        subject: What it is about.
    """

    gate: str
    gate_digest: Digest
    passed: bool
    at: str
    plan: Digest
    result: Digest
    attempts: int
    plans: tuple[int, ...]
    reasons: tuple[str, ...]
    verifier: str
    subject: Subject

    @property
    def inputs(self) -> tuple[Digest, ...]:
        """What the decision rests on: the statements of the plan and of the findings."""
        return (self.plan, self.result)

    def statement(self) -> Statement:
        """Return the statement to sign and log."""
        return Statement(
            (self.subject,),
            VSA,
            {
                "verifier": {"id": self.verifier},
                "timeVerified": self.at,
                "resourceUri": _uri("dataset", self.subject.name),
                "policy": {
                    "name": self.gate,
                    "uri": _uri("gate", self.gate),
                    "digest": dict(self.gate_digest.as_set()),
                },
                "inputAttestations": [
                    {"name": "plan", "digest": dict(self.plan.as_set())},
                    {"name": "result", "digest": dict(self.result.as_set())},
                ],
                "verificationResult": _PASSED if self.passed else _FAILED,
                "verifiedLevels": [_LEVEL if self.passed else _FAILED],
                "slsaVersion": "1.0",
                _ATTEMPTS: {"count": self.attempts, "plans": list(self.plans)},
                _REASONS: list(self.reasons),
            },
        )

    @classmethod
    def from_statement(cls, statement: Statement) -> Self:
        """
        Read the decision of a gate.

        Raises:
            FormatError: It is no decision of a gate, or contradicts itself.
        """
        what = "a gate's decision"
        subject = _head(statement, VSA, what)
        fields = Fields(statement.predicate, what)
        policy = fields.fields("policy")
        gate = _gate_name(policy, "name")
        if policy.text("uri") != _uri("gate", gate):
            raise policy.refuse(field="uri", found=f"is not {_uri('gate', gate)!r}")
        if fields.text("resourceUri") != _uri("dataset", subject.name):
            raise fields.refuse(field="resourceUri", found="does not name the subject")
        inputs = fields.items("inputAttestations")
        if [item.text("name") for item in inputs] != ["plan", "result"]:
            raise fields.refuse(field="inputAttestations", found="is not the plan and the result")
        passed = fields.choice("verificationResult", (_PASSED, _FAILED)) == _PASSED
        if fields.texts("verifiedLevels") != (_LEVEL if passed else _FAILED,):
            raise fields.refuse(field="verifiedLevels", found="contradicts the result")
        attempts = fields.fields(_ATTEMPTS)
        plans = attempts.sequence("plans")
        count = attempts.integer("count", least=1)
        indices = tuple(p for p in plans if isinstance(p, int) and not isinstance(p, bool))
        if len(indices) != len(plans) or indices != tuple(sorted(set(indices))):
            raise attempts.refuse(field="plans", found="is not a sorted list of places in the log")
        if count != len(indices) or indices[0] < 0:
            raise attempts.refuse(field="count", found="is not the number of plans")
        reasons = fields.texts(_REASONS)
        if passed == bool(reasons):
            raise fields.refuse(field=_REASONS, found="contradicts the result")
        return cls(
            gate=gate,
            gate_digest=policy.digest("digest"),
            passed=passed,
            at=fields.time("timeVerified"),
            plan=inputs[0].digest("digest"),
            result=inputs[1].digest("digest"),
            attempts=count,
            plans=indices,
            reasons=reasons,
            verifier=fields.fields("verifier").text("id"),
            subject=subject,
        )


def confirm(
    plan: Statement, result: Statement, verdict: Statement
) -> tuple[GatePlan, TestResult, Verdict]:
    """
    Read three statements of one gate run, and check that they are that.

    The findings must cover the plan's checks, no more and no less, and the
    decision must be what the findings say.

    Raises:
        FormatError: One of them cannot be read.
        ChainError: They do not belong together, or the decision is not what
            the findings say.
    """
    planned = GatePlan.from_statement(plan)
    found = TestResult.from_statement(result)
    decided = Verdict.from_statement(verdict)
    name = Digest.sha256(plan.encode())
    problems = (
        (found.plan != name or decided.plan != name, "another plan is named"),
        (decided.result != Digest.sha256(result.encode()), "another result is named"),
        (
            not planned.digest == found.gate_digest == decided.gate_digest
            or not planned.gate == found.gate == decided.gate,
            "they are about different gates",
        ),
        (
            not planned.subject == found.subject == decided.subject,
            "they are about different data",
        ),
        (
            planned.names != tuple(f.check for f in found.findings),
            "the findings are not those of the planned checks",
        ),
        (decided.passed != found.passed, "the decision is not what the findings say"),
        (
            parse_time(decided.at) < parse_time(planned.planned_at),
            "the decision is older than the plan",
        ),
    )
    for wrong, why in problems:
        if wrong:
            raise ChainError(
                f"the decision of gate {decided.gate!r} on {decided.subject.name!r} does not hold",
                why=why,
                fix="run the gate again; keep these records: a library of ours writes them "
                "together, so something else wrote or changed one",
            )
    return planned, found, decided


def _head(statement: Statement, predicate_type: str, what: str) -> Subject:
    if statement.predicate_type != predicate_type or len(statement.subject) != 1:
        raise FormatError(
            f"{what} cannot be read",
            why=f"it is a statement of type {statement.predicate_type[:120]!r} about "
            f"{len(statement.subject)} subjects, expected {predicate_type!r} about one",
            fix="get the record again from where it was made",
        )
    return statement.subject[0]


def _gate_name(fields: Fields, name: str) -> str:
    text = fields.text(name)
    try:
        return check_gate_name(text)
    except ValueError as error:
        raise fields.refuse(field=name, found=f"is {text[:40]!r}, not a gate name") from error


def _planned_name(fields: Fields, check: PlannedCheck) -> str:
    try:
        return check.name
    except (TypeError, ValueError) as error:
        raise fields.refuse(
            field="checks", found=f"holds a check that is none: {error}"[:200]
        ) from error


def _finding(item: Fields) -> Finding:
    counts = item.fields("counts")
    names: Sequence[str] = list(item.mapping("counts"))
    return Finding(
        item.text("check"),
        passed=item.boolean("passed"),
        message=item.text("message", empty=True),
        counts={name: counts.integer(name, least=-(2**53)) for name in names},
    )


def _uri(scheme: str, name: str) -> str:
    return f"{scheme}:{quote(name, safe='@', errors='surrogatepass')}"
