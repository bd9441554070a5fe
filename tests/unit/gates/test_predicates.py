# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""The three statements of a gate, and their readers."""

import contextlib
import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from secureml.errors import FormatError
from secureml.gates import Gate, GatePlan, TestResult, Verdict, run
from secureml.wire.statement import GATE_PLAN, TEST_RESULT, VSA, Statement, Subject

EXT = "https://secureml.dev/predicate/"
FREE: set[object] = {
    "message",
    "mediaType",
    "uri",
    "odd",
    "id",
    "slsaVersion",
    "warnedTests",
    "counts",
} | {EXT + "reasons", 0, 1}
"""Free text, counts, optional fields of others, and the elements of a list of texts."""
READERS: dict[str, Callable[[Statement], Any]] = {
    GATE_PLAN: GatePlan.from_statement,
    TEST_RESULT: TestResult.from_statement,
    VSA: Verdict.from_statement,
}


@pytest.fixture
def trio(ledger: Any, numbers: Any, even: Any) -> dict[str, Statement]:
    """Return the statements of a run that did not pass, by type."""
    at = datetime(2026, 11, 22, tzinfo=UTC)
    gate = Gate("g@1", [even("a"), even("b")])
    run(gate, numbers((1, 2)), record=ledger.record, now=lambda: at)
    return {s.predicate_type: s for s in ledger.statements}


@pytest.mark.parametrize("kind", READERS)
def test_what_is_written_is_read(trio: dict[str, Statement], kind: str) -> None:
    """Reading and writing again gives the same bytes."""
    statement = Statement.decode(trio[kind].encode())

    assert READERS[kind](statement).statement().encode() == trio[kind].encode()


def test_the_fields_are_those_of_the_specifications(trio: dict[str, Statement]) -> None:
    """Fields of in-toto test-result v0.1 and of SLSA verification summary v1."""
    result, verdict = trio[TEST_RESULT].predicate, trio[VSA].predicate

    assert {"result", "configuration", "passedTests", "warnedTests", "failedTests"} < set(result)
    assert result["result"] == "FAILED"
    assert {
        "verifier",
        "timeVerified",
        "resourceUri",
        "policy",
        "inputAttestations",
        "verificationResult",
        "verifiedLevels",
    } < set(verdict)
    assert all(":" in key for key in set(verdict) if not key.isalpha())
    assert verdict["verificationResult"] == "FAILED"
    assert verdict["verifiedLevels"] == ["FAILED"]
    assert verdict["resourceUri"] == "dataset:numbers"


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("value", [None, True, 3, -1, "", "x", [], ["x"], {}, {"a": 1}, 1.5])
def test_every_field_is_read_strictly(
    trio: dict[str, Statement], kind: str, value: object
) -> None:
    """Whatever stands in any place but free text, a reader raises `FormatError`."""

    def spoil(node: Any, path: tuple[Any, ...] = ()) -> Any:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            yield (*path, key)
            if isinstance(child, dict | list):
                yield from spoil(child, (*path, key))

    statement = trio[kind]
    for path in spoil(statement.predicate):
        predicate = copy.deepcopy(dict(statement.predicate))
        target: Any = predicate
        for step in path[:-1]:
            target = target[step]
        if target[path[-1]] == value:
            continue
        target[path[-1]] = value
        changed = Statement(statement.subject, kind, predicate)
        if path[-1] in FREE:
            with contextlib.suppress(FormatError):
                READERS[kind](changed)
        else:
            with pytest.raises(FormatError):
                READERS[kind](changed)


@pytest.mark.parametrize("kind", READERS)
def test_every_field_is_needed(trio: dict[str, Statement], kind: str) -> None:
    """A missing field is a format error, unless the specification makes it optional."""
    for key in trio[kind].predicate:
        predicate = {k: v for k, v in trio[kind].predicate.items() if k != key}
        changed = Statement(trio[kind].subject, kind, predicate)
        if key in {"warnedTests", "slsaVersion"}:
            READERS[kind](changed)
        else:
            with pytest.raises(FormatError):
                READERS[kind](changed)


@pytest.mark.parametrize("kind", [TEST_RESULT, VSA])
def test_unknown_fields_of_others_formats_are_ignored(
    trio: dict[str, Statement], kind: str
) -> None:
    """The parsing rules of in-toto and SLSA demand it."""
    predicate = dict(trio[kind].predicate) | {"https://example.com/more": 1}

    READERS[kind](Statement(trio[kind].subject, kind, predicate))


def test_unknown_fields_of_our_format_are_refused(trio: dict[str, Statement]) -> None:
    """A plan says what the specification lets it say."""
    predicate = dict(trio[GATE_PLAN].predicate) | {"more": 1}

    with pytest.raises(FormatError, match="more"):
        GatePlan.from_statement(Statement(trio[GATE_PLAN].subject, GATE_PLAN, predicate))


@pytest.mark.parametrize("kind", READERS)
def test_a_statement_has_one_subject_and_its_type(trio: dict[str, Statement], kind: str) -> None:
    """Another type or a second subject is refused."""
    statement = trio[kind]
    other = Subject("b", {"dirHash": "00" * 32})
    for wrong in (
        Statement(statement.subject, "https://example.com/other", statement.predicate),
        Statement((*statement.subject, other), kind, statement.predicate),
    ):
        with pytest.raises(FormatError):
            READERS[kind](wrong)


def test_a_plan_is_bound_to_its_digest(trio: dict[str, Statement]) -> None:
    """A plan whose checks were exchanged is refused."""
    predicate = copy.deepcopy(dict(trio[GATE_PLAN].predicate))
    plan: Any = predicate["plan"]
    plan["checks"][0]["params"]["label"] = "aa"

    with pytest.raises(FormatError, match="SHA-256"):
        GatePlan.from_statement(Statement(trio[GATE_PLAN].subject, GATE_PLAN, predicate))


def test_a_plan_with_a_float_is_a_format_error(trio: dict[str, Statement]) -> None:
    """Nothing but `FormatError` leaves the reader."""
    predicate = copy.deepcopy(dict(trio[GATE_PLAN].predicate))
    plan: Any = predicate["plan"]
    plan["checks"][0]["params"]["label"] = 0.5

    with pytest.raises(FormatError):
        GatePlan.from_statement(Statement(trio[GATE_PLAN].subject, GATE_PLAN, predicate))


def test_a_result_cannot_contradict_its_findings(trio: dict[str, Statement]) -> None:
    """PASSED over failed findings is refused where it is read."""
    for changes in (
        {"result": "PASSED"},
        {"passedTests": ['even@1 {"label":"a"}']},
        {"failedTests": []},
        {"warnedTests": ["x"]},
        {EXT + "findings": []},
    ):
        predicate = dict(trio[TEST_RESULT].predicate) | changes
        with pytest.raises(FormatError):
            TestResult.from_statement(Statement(trio[TEST_RESULT].subject, TEST_RESULT, predicate))


def test_a_decision_cannot_contradict_itself(trio: dict[str, Statement]) -> None:
    """PASSED with reasons against it, or FAILED without, is refused where it is read."""
    for changes in (
        {"verificationResult": "PASSED"},
        {"verificationResult": "PASSED", "verifiedLevels": ["SECUREML_GATE_PASSED"]},
        {EXT + "reasons": []},
        {EXT + "attempts": {"count": 2, "plans": [0]}},
        {EXT + "attempts": {"count": 0, "plans": []}},
        {EXT + "attempts": {"count": 2, "plans": [1, 0]}},
        {EXT + "attempts": {"count": 2, "plans": [0, 0]}},
        {EXT + "attempts": {"count": 1, "plans": [-1]}},
        {EXT + "attempts": {"count": 1, "plans": [True]}},
        {"resourceUri": "dataset:other"},
        {"inputAttestations": []},
    ):
        predicate = dict(trio[VSA].predicate) | changes
        with pytest.raises(FormatError):
            Verdict.from_statement(Statement(trio[VSA].subject, VSA, predicate))


def test_names_are_quoted_in_uris(ledger: Any, numbers: Any, even: Any) -> None:
    """Any dataset name makes a URI."""
    run(Gate("g@1", [even()]), numbers((2,), "a b/ü%"), record=ledger.record)
    verdict = Verdict.from_statement(ledger.statements[2])

    assert ledger.statements[2].predicate["resourceUri"] == "dataset:a%20b%2F%C3%BC%25"
    assert verdict.subject.name == "a b/ü%"
