"""
Run a gate: plan logged, data measured, findings logged, decision logged.

The order is the point.  The plan is in the log before the first row is read,
so a run that is stopped because its outcome is not liked leaves a plan without
a decision, and counts as an attempt.

What happens if the process dies here: nothing is lost and nothing is allowed.
A plan, or a plan with findings, stays in the log; only a decision allows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from secureml import clock
from secureml.clock import Clock, format_time
from secureml.gates.attempts import Attempts, count_attempts
from secureml.gates.check import Finding, Measurable, checked
from secureml.gates.gate import Gate, findings_html, require_measurable, table
from secureml.gates.policy import Decision, Policy, decide, denied
from secureml.gates.predicates import GatePlan, TestResult, Verdict
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.statement import Statement, Subject

__all__ = ["GateResult", "Recorded", "require_gate", "run"]


class Recorded(Protocol):
    """**Protocol.** A statement that is signed and in the log."""

    @property
    def index(self) -> int:
        """Its place in the log."""

    @property
    def envelope(self) -> Envelope:
        """The signed statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """
    A gate run, carried to its end.

    Attributes:
        decision: Yes or no, and why.
        findings: One for each check.
        attempts: How many plans the log had seen, this one included.
        plan: The logged plan.
        result: The logged findings.
        verdict: The logged decision.
    """

    decision: Decision
    findings: tuple[Finding, ...]
    attempts: Attempts
    plan: Recorded
    result: Recorded
    verdict: Recorded

    @property
    def allowed(self) -> bool:
        """Whether the gate said yes."""
        return self.decision.allowed

    @property
    def digest(self) -> Digest:
        """SHA-256 of the signed decision's payload, by which others name it."""
        return self.verdict.envelope.digest

    def enforce(self) -> None:
        """
        Return if the gate said yes; else raise.

        Raises:
            GateDeniedError: With the reasons and the digest of the signed decision.
        """
        if not self.decision.allowed:
            raise denied(self.decision, str(self.digest))

    def __str__(self) -> str:
        word = "PASSED" if self.allowed else "FAILED"
        return (
            f"gate {self.decision.gate} on {self.decision.subject}: {word}, "
            f"attempt {self.attempts}, decision {self.digest.short}\n" + table(self.findings)
        )

    def _repr_html_(self) -> str:
        word = "PASSED" if self.allowed else "FAILED"
        return findings_html(
            f"gate {self.decision.gate} on {self.decision.subject}: {word}",
            self.findings,
            note=f"attempt {self.attempts}; decision {self.digest}; "
            f"log entries {self.plan.index}, {self.result.index}, {self.verdict.index}",
        )


def run(
    gate: Gate,
    subject: Measurable,
    *,
    record: Callable[[Statement], Recorded],
    history: Iterable[tuple[int, Statement]] = (),
    now: Clock = clock.now,
    verifier_id: str = "https://secureml.dev/verifier/gate",
) -> GateResult:
    """
    Ask *gate* about *subject*, and record the plan, the findings and the decision.

    Args:
        gate: What is asked.
        subject: What it is asked about; it measures itself.
        record: Signs a statement, logs it and returns where it is.
        history: The statements logged so far, with their places; it is read
            after the plan is logged, and anything from the plan on is left out.
        now: The clock.
        verifier_id: URI of who decides.

    Raises:
        TypeError: *gate* is no gate, or *subject* cannot be measured.
        DigestMismatchError: The data changed since it was registered; the
            plan stays in the log as an aborted attempt.
    """
    require_gate(gate, subject)
    about = Subject(subject.name, dict(subject.digests))
    began = now()
    plan = record(GatePlan.of(gate, about, planned_at=format_time(began)).statement())
    findings = checked(gate.check_names, subject.measure(gate.checks))
    result_claim = TestResult(
        gate=gate.name,
        gate_digest=gate.digest,
        plan=plan.envelope.digest,
        findings=tuple(findings),
        subject=about,
    )
    result = record(result_claim.statement())
    at = max(began, now())
    policy = Policy.of(gate, subject=subject.name, digest=subject.digest)
    decision = decide(policy, result_claim.measured(subject=subject.digest, at=at), at=at)
    attempts = _count(gate, subject.name, history, plan)
    verdict = Verdict(
        gate=decision.gate,
        gate_digest=decision.gate_digest,
        passed=decision.allowed,
        at=decision.at,
        plan=plan.envelope.digest,
        result=result.envelope.digest,
        attempts=attempts.count,
        plans=attempts.plans,
        reasons=decision.reasons,
        verifier=verifier_id,
        subject=about,
    )
    return GateResult(
        decision=decision,
        findings=tuple(findings),
        attempts=attempts,
        plan=plan,
        result=result,
        verdict=record(verdict.statement()),
    )


def require_gate(gate: object, subject: object) -> None:
    """
    Raise unless *gate* is a gate and *subject* can be measured.

    Raises:
        TypeError: One of them is something else.
    """
    if not isinstance(gate, Gate):
        msg = f"run takes a Gate, not {type(gate).__name__}: Gate('train-data@1', [checks])"
        raise TypeError(msg)
    require_measurable(subject)


def _count(
    gate: Gate, name: str, history: Iterable[tuple[int, Statement]], plan: Recorded
) -> Attempts:
    earlier = count_attempts(history, gate=gate.name, dataset_names=(name,), before=plan.index)
    return Attempts(
        count=earlier.count + 1,
        plans=(*earlier.plans, plan.index),
        aborted=earlier.aborted,
    )
