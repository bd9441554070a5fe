# ruff: noqa: ANN401  fixtures and hostile values are of any type
# ruff: noqa: ARG002  a stand-in has the members of its protocol

"""A gate run: plan, findings, decision; and the count of attempts."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from secureml.errors import ChainError, DigestMismatchError, FormatError, GateDeniedError
from secureml.gates import (
    Finding,
    Gate,
    GatePlan,
    TestResult,
    Verdict,
    confirm,
    count_attempts,
    run,
)
from secureml.wire.digest import Digest
from secureml.wire.statement import GATE_PLAN, TEST_RESULT, VSA, Statement, Subject


def ask(ledger: Any, subject: Any, gate: Any, clock: Any) -> Any:
    """Run a gate against a ledger."""
    return run(gate, subject, record=ledger.record, history=ledger.history(), now=clock)


def test_the_plan_is_logged_first(ledger: Any, numbers: Any, even: Any, tick: Any) -> None:
    """Plan, findings, decision: three statements in this order."""
    result = ask(ledger, numbers(), Gate("g@1", [even()]), tick)

    assert [s.predicate_type for s in ledger.statements] == [GATE_PLAN, TEST_RESULT, VSA]
    assert (result.plan.index, result.result.index, result.verdict.index) == (0, 1, 2)
    assert result.allowed
    result.enforce()
    confirm(*ledger.statements)


def test_a_no_is_a_result_too(ledger: Any, numbers: Any, even: Any, tick: Any) -> None:
    """A denial is logged, signed, and raises when enforced."""
    result = ask(ledger, numbers((1, 2)), Gate("g@1", [even()]), tick)

    assert not result.allowed
    _, _, verdict = confirm(*ledger.statements)
    assert not verdict.passed
    assert "1 of 2 odd" in verdict.reasons[0]
    with pytest.raises(GateDeniedError) as caught:
        result.enforce()
    assert caught.value.decision == str(result.digest) == str(ledger.lines[2].envelope.digest)


def test_data_that_changed_leaves_an_aborted_plan(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """What the subject raises comes through; the attempt stays counted."""

    class Changed(numbers):  # type: ignore[misc]
        def measure(self, checks: Any, /) -> Any:
            raise DigestMismatchError("it changed", why="why", fix="fix")

    gate = Gate("g@1", [even()])
    with pytest.raises(DigestMismatchError):
        ask(ledger, Changed(), gate, tick)
    assert [s.predicate_type for s in ledger.statements] == [GATE_PLAN]

    result = ask(ledger, numbers(), gate, tick)
    assert (result.attempts.count, result.attempts.aborted) == (2, 1)
    assert result.attempts.plans == (0, 1)
    assert "2 (1 aborted)" in str(result)


def test_attempts_are_counted_by_gate_name_and_by_dataset_name(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """Neither a new dataset nor a new gate hides an attempt."""
    ask(ledger, numbers((1,), "a"), Gate("g@1", [even()]), tick)
    ask(ledger, numbers((3,), "b"), Gate("g@1", [even("weaker")]), tick)
    ask(ledger, numbers((5,), "a"), Gate("h@1", [even()]), tick)
    ask(ledger, numbers((5,), "c"), Gate("h@1", [even()]), tick)
    last = ask(ledger, numbers((2,), "a"), Gate("g@1", [even()]), tick)

    assert last.attempts.count == 4
    assert last.attempts.plans == (0, 3, 6, 12)
    assert last.attempts.aborted == 0
    verdict = Verdict.from_statement(ledger.statements[-1])
    assert (verdict.attempts, verdict.plans) == (4, (0, 3, 6, 12))


def test_the_relying_party_counts_the_same(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """Counting from the whole log, before the decision, agrees with the signer's count."""
    for value in (1, 3, 2):
        result = ask(ledger, numbers((value,)), Gate("g@1", [even()]), tick)
    ask(ledger, numbers((7,)), Gate("g@1", [even()]), tick)

    counted = count_attempts(
        ledger.history(), gate="g@1", dataset_names=["numbers"], before=result.verdict.index
    )
    assert counted == result.attempts
    assert counted.count == 3


def test_equal_plans_are_matched_one_to_one(ledger: Any, numbers: Any, even: Any) -> None:
    """With a clock that stands still, one decision does not finish two plans."""
    subject, gate = numbers(), Gate("g@1", [even()])
    about = Subject(subject.name, subject.digests)
    stopped = GatePlan.of(gate, about, planned_at="2026-11-22T08:30:00.000000Z")
    ledger.record(stopped.statement())
    frozen = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    run(gate, subject, record=ledger.record, history=ledger.history(), now=lambda: frozen)
    counted = count_attempts(ledger.history(), gate="g@1", dataset_names=[], before=99)

    assert (counted.count, counted.aborted) == (2, 1)


def test_a_plan_that_cannot_be_read_counts(ledger: Any) -> None:
    """Nobody can tell what it was for, so it is an attempt."""
    subject = (Subject("other", {"dirHash": "00" * 32}),)
    ledger.record(Statement(subject, GATE_PLAN, {"odd": 1}))
    ledger.record(Statement(subject, VSA, {"odd": 1}))

    counted = count_attempts(ledger.history(), gate="g@1", dataset_names=["d"], before=9)
    assert (counted.count, counted.aborted) == (1, 1)


def test_a_clock_that_goes_back_does_not_break_the_order(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """The decision is never older than its plan."""
    times = sorted((tick() for _ in range(2)), reverse=True)
    run(Gate("g@1", [even()]), numbers(), record=ledger.record, now=lambda: times.pop(0))

    confirm(*ledger.statements)


def test_a_subject_that_returns_nothing_is_denied(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """A check without a finding was not made."""

    class Silent(numbers):  # type: ignore[misc]
        def measure(self, checks: Any, /) -> Any:
            return []

    result = ask(ledger, Silent(), Gate("g@1", [even()]), tick)
    assert not result.allowed
    confirm(*ledger.statements)


def test_details_are_shown_in_a_preview_and_never_logged(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """What may name a person stays on the screen."""

    class Telling(numbers):  # type: ignore[misc]
        def measure(self, checks: Any, /) -> Any:
            found = super().measure(checks)[0]
            return [replace(found, detail="jane-roe.png")]

    gate = Gate("g@1", [even()])
    subject = Telling((1,))
    preview = gate.preview(subject)
    assert "(jane-roe.png)" in str(preview)
    assert "(jane-roe.png)" in preview._repr_html_()

    result = ask(ledger, subject, gate, tick)
    with pytest.raises(GateDeniedError) as caught:
        result.enforce()
    shown = [str(result), result._repr_html_(), str(caught.value)]
    logged = [statement.encode().decode() for statement in ledger.statements]
    assert not any("jane" in text for text in shown + logged)


@pytest.mark.parametrize("gate", [None, "g@1", {"name": "g@1"}])
def test_only_a_gate_can_be_run(gate: Any, ledger: Any, numbers: Any) -> None:
    """A wrong type is found before anything is logged."""
    with pytest.raises(TypeError, match="takes a Gate"):
        run(gate, numbers(), record=ledger.record)
    assert not ledger.lines


def test_only_a_subject_can_be_measured(ledger: Any, even: Any) -> None:
    """A wrong type is found before anything is logged."""
    with pytest.raises(TypeError, match=r"ws\.dataset"):
        run(Gate("g@1", [even()]), "train", record=ledger.record)  # type: ignore[arg-type]
    assert not ledger.lines


def test_a_result_shows_itself(ledger: Any, numbers: Any, even: Any, tick: Any) -> None:
    """As text and as HTML."""
    result = ask(ledger, numbers(), Gate("g@1", [even("<u>")]), tick)

    assert "PASSED" in str(result)
    assert "attempt 1" in str(result)
    assert "<u>" not in result._repr_html_()
    assert str(result.digest) in result._repr_html_()


def test_statements_of_different_runs_do_not_confirm(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """A decision cannot borrow another run's plan, findings or subject."""
    ask(ledger, numbers((1,)), Gate("g@1", [even()]), tick)
    ask(ledger, numbers((2,)), Gate("g@1", [even()]), tick)
    ask(ledger, numbers((2,)), Gate("g@1", [even("x2")]), tick)
    s = ledger.statements
    for mixed in ((s[0], s[4], s[5]), (s[3], s[1], s[5]), (s[3], s[4], s[2]), (s[6], s[4], s[5])):
        with pytest.raises(ChainError):
            confirm(*mixed)
    confirm(*s[3:6])


OTHER = Digest.sha256(b"another")


@pytest.mark.parametrize(
    ("which", "changes", "why"),
    [
        ("verdict", {"plan": OTHER}, "another plan"),
        ("result", {"plan": OTHER}, "another plan"),
        ("verdict", {"result": OTHER}, "another result"),
        ("verdict", {"gate_digest": OTHER}, "different gates"),
        ("result", {"gate_digest": OTHER}, "different gates"),
        ("verdict", {"gate": "h@1"}, "different gates"),
        ("result", {"gate": "h@1"}, "different gates"),
        ("verdict", {"subject": Subject("numbers", OTHER.as_set())}, "different data"),
        ("result", {"subject": Subject("numbers", OTHER.as_set())}, "different data"),
        ("result", {"subject": Subject("numbers", {"sha256": "00" * 32})}, "different data"),
        ("result", {"findings": (Finding("odd@1 {}", passed=True, message=""),)}, "planned"),
        ("verdict", {"passed": False, "reasons": ("no",)}, "not what the findings say"),
        ("verdict", {"at": "2020-01-01T00:00:00.000000Z"}, "older than the plan"),
    ],
)
def test_statements_that_differ_in_one_thing_do_not_confirm(
    ledger: Any, numbers: Any, even: Any, tick: Any, which: str, changes: Any, why: str
) -> None:
    """Plan, findings and decision name each other, one gate and one dataset, and agree."""
    ask(ledger, numbers(), Gate("g@1", [even()]), tick)
    plan, result, verdict = ledger.statements
    if which == "result":
        result = replace(TestResult.from_statement(result), **changes).statement()
        changes = {"result": Digest.sha256(result.encode())}
    verdict = replace(Verdict.from_statement(verdict), **changes).statement()

    with pytest.raises(ChainError, match=why):
        confirm(plan, result, verdict)


def test_a_signer_cannot_pass_over_failed_findings(
    ledger: Any, numbers: Any, even: Any, tick: Any
) -> None:
    """PASSED is refused where the findings failed."""
    ask(ledger, numbers((1,)), Gate("g@1", [even()]), tick)
    plan, result, verdict = ledger.statements
    lie = replace(Verdict.from_statement(verdict), passed=True, reasons=()).statement()

    with pytest.raises(ChainError, match="not what the findings say"):
        confirm(plan, result, lie)


def test_confirm_reads_strictly(ledger: Any, numbers: Any, even: Any, tick: Any) -> None:
    """A statement in the wrong place is a format error."""
    ask(ledger, numbers(), Gate("g@1", [even()]), tick)
    plan, result, verdict = ledger.statements

    with pytest.raises(FormatError):
        confirm(result, plan, verdict)
    assert GatePlan.from_statement(plan).names
