"""L4: policies are monotone, empty evidence denies, and `decide` never raises."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from secureml.gates import AllOf, AnyOf, Finding, Measured, Passes, Policy, decide
from secureml.gates.policy import Requirement
from secureml.wire.digest import Digest

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = st.sampled_from(["a", "b", "c"])
DIGESTS = st.sampled_from([Digest.sha256(b"x"), Digest.sha256(b"y")])
TIMES = st.integers(0, 5).map(lambda n: START + timedelta(days=n))

requirements: st.SearchStrategy[Requirement] = st.recursive(
    NAMES.map(Passes),
    lambda parts: st.lists(parts, min_size=1, max_size=3).flatmap(
        lambda found: st.sampled_from([AllOf(*found), AnyOf(*found)])
    ),
    max_leaves=6,
)
policies = st.builds(
    Policy,
    gate=st.just("g@1"),
    gate_digest=DIGESTS,
    subject=st.just("train"),
    subject_digest=DIGESTS,
    require=requirements,
    max_age=st.none() | st.integers(0, 5).map(lambda n: timedelta(days=n)),
)
findings = st.builds(Finding, check=NAMES, passed=st.booleans(), message=st.text(max_size=3))
evidence = st.builds(
    Measured,
    finding=findings,
    subject=DIGESTS,
    gate=DIGESTS,
    at=TIMES,
    expires=st.none() | TIMES,
)
anything: st.SearchStrategy[object] = st.one_of(
    evidence, findings, st.none(), st.integers(), st.text(max_size=3), st.dates(), st.binary()
)


@given(policies, st.lists(anything), st.lists(anything), TIMES)
def test_a_policy_is_monotone(
    policy: Policy, some: list[object], more: list[object], at: datetime
) -> None:
    """What some evidence allows, more evidence does not deny."""
    if decide(policy, some, at=at).allowed:
        assert decide(policy, some + more, at=at).allowed
        assert decide(policy, more + some, at=at).allowed


@given(policies, TIMES)
def test_empty_evidence_denies(policy: Policy, at: datetime) -> None:
    """Nothing is allowed without evidence, and each denial has its reasons."""
    decision = decide(policy, [], at=at)

    assert not decision.allowed
    assert decision.reasons


@given(policies, st.permutations(["a", "b", "c"]), TIMES)
def test_everything_shown_allows(policy: Policy, names: list[str], at: datetime) -> None:
    """A policy over these checks is met when all of them passed."""
    shown = [
        Measured(
            finding=Finding(name, passed=True, message=""),
            subject=policy.subject_digest,
            gate=policy.gate_digest,
            at=at,
        )
        for name in names
    ]

    assert decide(policy, shown, at=at).allowed


@given(policies, st.lists(evidence), TIMES)
def test_the_order_of_evidence_says_nothing(
    policy: Policy, some: list[Measured], at: datetime
) -> None:
    """Yes or no is a function of the set."""
    assert (
        decide(policy, some, at=at).allowed
        == decide(policy, some[::-1], at=at).allowed
        == decide(policy, some * 2, at=at).allowed
    )


@given(policies, st.lists(evidence), TIMES)
def test_what_does_not_pass_for_this_subject_helps_nothing(
    policy: Policy, some: list[Measured], at: datetime
) -> None:
    """Failed, foreign and expired findings can all be left out."""
    useful = [
        item
        for item in some
        if item.finding.passed
        and item.subject == policy.subject_digest
        and item.gate == policy.gate_digest
        and item.at <= at
        and (item.expires is None or at < item.expires)
        and (policy.max_age is None or at - item.at <= policy.max_age)
    ]

    assert decide(policy, some, at=at).allowed == decide(policy, useful, at=at).allowed


@given(policies, st.lists(anything), st.one_of(TIMES, st.none(), st.datetimes(), st.text()))
def test_decide_never_raises(policy: Policy, some: list[object], at: object) -> None:
    """Any object may be offered as evidence, and as a time."""
    decision = decide(policy, some, at=at)  # type: ignore[arg-type]

    assert decision.allowed is (not decision.reasons)
    assert decision.digest == decide(policy, some, at=at).digest  # type: ignore[arg-type]
