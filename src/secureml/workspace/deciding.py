"""
A decision that exists already: found, verified again, and returned as it was.

Running a whole notebook again must not look like trying until green.  A gate
that passed these very rows, under the same plan, has its answer in the log; it
is found there instead of being asked once more.  A gate that said no is asked
again, and that is an attempt.
"""

from secureml import gates
from secureml.clock import parse_time
from secureml.evidence.statements import Logged, StatementLog
from secureml.evidence.trust import Trust
from secureml.gates import Attempts, Gate, GateResult, Measurable, Policy
from secureml.gates.predicates import TestResult, Verdict, confirm
from secureml.wire import statement as st
from secureml.wire.statement import Statement, Subject
from secureml.workspace.roles import evidence_of

__all__ = ["standing_result"]


def standing_result(
    gate: Gate, subject: Measurable, *, ledger: StatementLog, trust: Trust
) -> GateResult | None:
    """
    Return the result of *gate* on *subject* that stands in the log, if it passed.

    Raises:
        VerificationError: What stands there does not hold.
        FormatError: It cannot be read.
        DigestMismatchError: The data changed since it was registered.
    """
    about = Subject(subject.name, dict(subject.digests))
    for logged in reversed(ledger.find(subject.digest, st.VSA)):
        verdict = Verdict.from_statement(_verified(logged, ledger, trust))
        if not verdict.passed or verdict.gate_digest != gate.digest or verdict.subject != about:
            continue
        plan, result = ledger.named(verdict.plan)[0], ledger.named(verdict.result)[0]
        statements = [_verified(item, ledger, trust) for item in (plan, result, logged)]
        _, found, _ = confirm(*statements)
        subject.measure(())
        return _rebuilt(gate, subject, plan, result, logged, found, verdict)
    return None


def _rebuilt(
    gate: Gate,
    subject: Measurable,
    plan: Logged,
    result: Logged,
    verdict: Logged,
    found: TestResult,
    said: Verdict,
) -> GateResult:
    at = parse_time(said.at)
    policy = Policy.of(gate, subject=subject.name, digest=subject.digest)
    return GateResult(
        decision=gates.decide(policy, found.measured(subject=subject.digest, at=at), at=at),
        findings=found.findings,
        attempts=Attempts(count=said.attempts, plans=said.plans, aborted=0),
        plan=plan,
        result=result,
        verdict=verdict,
    )


def _verified(logged: Logged, ledger: StatementLog, trust: Trust) -> Statement:
    return evidence_of(logged, origin=ledger.origin, trust=trust).statement
