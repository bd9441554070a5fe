# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""Policies and decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secureml.errors import GateDeniedError
from secureml.gates import AllOf, AnyOf, Finding, Gate, Measured, Passes, Policy, decide
from secureml.wire.digest import Digest

AT = datetime(2026, 11, 22, tzinfo=UTC)
GATE = Digest.sha256(b"gate")
SUBJECT = Digest.sha256(b"subject")
POLICY = Policy(
    gate="g@1", gate_digest=GATE, subject="train", subject_digest=SUBJECT, require=Passes("a")
)


def measured(check: str = "a", *, passed: bool = True, **other: Any) -> Measured:
    """Return evidence that a check passed."""
    finding = Finding(check, passed=passed, message="fine" if passed else "3 of 9 rows")
    return replace(Measured(finding=finding, subject=SUBJECT, gate=GATE, at=AT), **other)


def test_a_passing_finding_allows() -> None:
    """What was required was shown."""
    decision = decide(POLICY, [measured()], at=AT)

    assert decision.allowed
    assert decision.reasons == ()
    decision.enforce()


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ([], "there is no finding"),
        ([measured(passed=False)], "3 of 9 rows"),
        ([measured("b")], "there is no finding"),
        ([measured(subject=Digest.sha256(b"other"))], "there is no finding"),
        ([measured(subject=Digest("dirHash", SUBJECT.value))], "there is no finding"),
        ([measured(gate=Digest.sha256(b"other"))], "there is no finding"),
        ([measured(at=AT + timedelta(seconds=1))], "later than the decision"),
        ([measured(expires=AT)], "expired"),
        ([measured(expires=AT - timedelta(days=1))], "expired"),
        ([measured().finding], "there is no finding"),
        (["a", None, 3, {"passed": True}], "there is no finding"),
    ],
)
def test_everything_else_denies(evidence: list[object], reason: str) -> None:
    """Missing, failed, foreign, late and expired findings deny, and say so."""
    decision = decide(POLICY, evidence, at=AT)

    assert not decision.allowed
    assert reason in decision.reasons[0]


def test_a_failed_finding_takes_no_passing_one_back() -> None:
    """In whatever order they come: more evidence never turns a yes into a no."""
    good, bad = measured(), measured(passed=False)
    for some in ([good, bad], [bad, good], [good, bad, bad]):
        assert decide(POLICY, some, at=AT).allowed


def test_a_finding_is_valid_until_it_expires() -> None:
    """A negative is a positive that expires."""
    assert decide(POLICY, [measured(expires=AT + timedelta(seconds=1))], at=AT).allowed


def test_a_finding_may_be_too_old() -> None:
    """A policy may ask for fresh findings."""
    policy = replace(POLICY, max_age=timedelta(days=1))

    assert decide(policy, [measured(at=AT - timedelta(days=1))], at=AT).allowed
    assert not decide(policy, [measured(at=AT - timedelta(days=2))], at=AT).allowed


def test_any_of_needs_one() -> None:
    """One of several is enough, none is not."""
    policy = replace(POLICY, require=AnyOf(Passes("a"), AllOf(Passes("b"), Passes("c"))))

    assert decide(policy, [measured("a")], at=AT).allowed
    assert decide(policy, [measured("b"), measured("c")], at=AT).allowed
    denied = decide(policy, [measured("b")], at=AT)
    assert not denied.allowed
    assert denied.reasons[0].startswith("none of: ")


def test_a_requirement_of_nothing_cannot_be_written() -> None:
    """Nothing is allowed without evidence."""
    for kind in (AllOf, AnyOf):
        with pytest.raises(ValueError, match="nothing"):
            kind()
    with pytest.raises(TypeError, match="Passes"):
        AllOf("a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Passes"):
        replace(POLICY, require=None)  # type: ignore[arg-type]


def test_requirements_do_not_nest_without_end() -> None:
    """A policy that would exhaust the stack is refused where it is written."""
    part: Any = Passes("a")
    for _ in range(31):
        part = AllOf(part)
    with pytest.raises(ValueError, match="deep"):
        AllOf(AllOf(part))


class Hostile:
    """An object that raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __iter__(self) -> object:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


def test_hostile_evidence_is_no_evidence() -> None:
    """`decide` never raises, and what it cannot read does not hide what it can."""
    broken = measured()
    object.__setattr__(broken, "at", Hostile())

    assert not decide(POLICY, [Hostile(), broken], at=AT).allowed
    assert decide(POLICY, [Hostile(), broken, measured()], at=AT).allowed
    for evidence in (Hostile(), None, 3):
        assert not decide(POLICY, evidence, at=AT).allowed  # type: ignore[arg-type]


def test_evidence_that_stops_half_way_counts_so_far() -> None:
    """An iterator that raises ends there."""

    def evidence() -> Any:
        yield measured()
        raise OSError

    assert decide(POLICY, evidence(), at=AT).allowed


def test_no_time_denies() -> None:
    """A decision is for a stated time."""
    times: list[Any] = [None, "now", AT.replace(tzinfo=None), Hostile()]
    for at in times:
        decision = decide(POLICY, [measured()], at=at)

        assert not decision.allowed
        assert "no time" in decision.reasons[0]
        assert decision.at == ""


def test_a_denied_decision_raises_with_its_reasons() -> None:
    """What must not be ignored raises, with the digest of the decision."""
    decision = decide(POLICY, [measured(passed=False)], at=AT)

    with pytest.raises(GateDeniedError, match="3 of 9 rows") as caught:
        decision.enforce()
    assert caught.value.reasons == decision.reasons
    assert caught.value.decision == str(decision.digest)


def test_a_decision_is_a_record() -> None:
    """Its digest covers what was decided, about what, and when."""
    yes, no = decide(POLICY, [measured()], at=AT), decide(POLICY, [], at=AT)
    later = decide(POLICY, [measured()], at=AT + timedelta(days=1))

    assert len({yes.digest, no.digest, later.digest}) == 3
    assert decide(POLICY, [measured()], at=AT).digest == yes.digest
    assert yes.record()["allowed"] is True


def test_a_decision_shows_itself() -> None:
    """As text and as HTML, escaped."""
    decision = decide(replace(POLICY, subject="<i>"), [], at=AT)

    assert "FAILED" in str(decision)
    assert "<i>" not in decision._repr_html_()
    assert "there is no finding" in decision._repr_html_()


def test_reasons_can_always_be_written() -> None:
    """A message with half a character does not keep a decision from being recorded."""
    bad = Measured(
        finding=Finding("a", passed=False, message="\udc80"), subject=SUBJECT, gate=GATE, at=AT
    )

    assert decide(POLICY, [bad], at=AT).digest


def test_the_policy_of_a_gate_asks_for_all_checks(even: Any) -> None:
    """Each check of the gate must pass."""
    gate = Gate("g@1", [even("a"), even("b")])
    policy = Policy.of(gate, subject="train", digest=SUBJECT)
    names = gate.check_names
    some = [measured(name, gate=gate.digest) for name in names]

    assert decide(policy, some, at=AT).allowed
    assert not decide(policy, some[:1], at=AT).allowed
