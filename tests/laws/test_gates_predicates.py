# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""What gates sign: reading and writing are inverse, and odd bytes are refused as such."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secureml.errors import FormatError
from secureml.gates import Finding, GatePlan, TestResult, Verdict
from secureml.wire.digest import Digest
from secureml.wire.statement import GATE_PLAN, TEST_RESULT, VSA, Statement, Subject

READERS = {
    GATE_PLAN: GatePlan.from_statement,
    TEST_RESULT: TestResult.from_statement,
    VSA: Verdict.from_statement,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
DIGESTS = st.binary(max_size=3).map(Digest.sha256)
SUBJECTS = TEXT.map(lambda name: Subject(name, {"dirHash": "00" * 32}))
GATES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,5}@[0-9]{1,3}", fullmatch=True)
TIMES = st.just("2026-11-22T08:30:00.000000Z")
findings = st.builds(
    Finding,
    check=TEXT,
    passed=st.booleans(),
    message=TEXT,
    counts=st.dictionaries(TEXT, st.integers(0, 2**53 - 1), max_size=2),
)
results = st.builds(
    TestResult,
    gate=GATES,
    gate_digest=DIGESTS,
    plan=DIGESTS,
    findings=st.lists(findings, min_size=1, max_size=4, unique_by=lambda f: f.check).map(tuple),
    subject=SUBJECTS,
)


@st.composite
def verdicts(draw: Any) -> Verdict:
    """Decisions that do not contradict themselves."""
    passed = draw(st.booleans())
    plans = sorted(draw(st.sets(st.integers(0, 99), min_size=1, max_size=4)))
    return Verdict(
        gate=draw(GATES),
        gate_digest=draw(DIGESTS),
        passed=passed,
        at=draw(TIMES),
        plan=draw(DIGESTS),
        result=draw(DIGESTS),
        attempts=len(plans),
        plans=tuple(plans),
        reasons=() if passed else tuple(draw(st.lists(TEXT, min_size=1, max_size=2))),
        verifier=draw(TEXT),
        subject=draw(SUBJECTS),
    )


json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXT, parts, max_size=3),
    max_leaves=6,
)


@given(results)
def test_findings_are_read_as_written(result: TestResult) -> None:
    """Writing and reading is the identity."""
    assert TestResult.from_statement(Statement.decode(result.statement().encode())) == result


@given(verdicts())
def test_decisions_are_read_as_written(verdict: Verdict) -> None:
    """Writing and reading is the identity."""
    assert Verdict.from_statement(Statement.decode(verdict.statement().encode())) == verdict


@given(st.sampled_from([*READERS]), st.data())
def test_readers_raise_format_errors_only(kind: str, data: Any) -> None:
    """A good statement with any value in any field is refused as such, or read."""
    result = data.draw(results)
    statement = result.statement() if kind == TEST_RESULT else data.draw(verdicts()).statement()
    key = data.draw(st.sampled_from([*statement.predicate, "digest", "plan", "plannedAt"]))
    predicate = {**statement.predicate, key: data.draw(json)}
    try:
        READERS[kind](Statement(statement.subject, kind, predicate))
    except FormatError:
        return


@given(st.sampled_from([*READERS]), st.dictionaries(TEXT, json, max_size=3))
def test_anything_else_is_a_format_error(kind: str, predicate: Any) -> None:
    """An arbitrary object is no predicate of ours."""
    try:
        READERS[kind](Statement((Subject("x", {"dirHash": "00" * 32}),), kind, predicate))
    except FormatError:
        return
    raise AssertionError(predicate)
