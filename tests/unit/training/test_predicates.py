"""What training says: written and read back, SLSA's own fields, nothing else taken for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.errors import FormatError
from secureml.training import (
    BUILD_TYPE,
    BUILDER_ID,
    Code,
    DecisionRef,
    Input,
    Output,
    Provenance,
    RunFailure,
    RunStart,
)
from secureml.wire.digest import Digest
from secureml.wire.statement import PROVENANCE, RUN_FAILURE, RUN_START, Statement, Subject

D = Digest.sha256(b"d")
TABLE = {"sha256": "11" * 32, "tableDigest1": "22" * 32}
TIME = "2026-01-02T03:04:05.000000Z"
START = RunStart(
    invocation_id="11111111-2222-4333-8444-555555555555",
    name="diagnosis",
    seed=7,
    parameters={"depth": 3, "rate": "0.1"},
    started_on=TIME,
    inputs=(Input(name="train", digests=TABLE),),
    code=Code(source="git", commit="a" * 40, diff=D),
)
FAILURE = RunFailure(
    invocation_id=START.invocation_id,
    name="diagnosis",
    run_start=D,
    started_on=TIME,
    finished_on=TIME,
    reason="exception",
    error="ValueError",
    inputs=START.inputs,
)
RUN = Provenance(
    invocation_id=START.invocation_id,
    name="diagnosis",
    seed=7,
    parameters=START.parameters,
    started_on=TIME,
    finished_on=TIME,
    inputs=(
        Input(name="train", digests=TABLE, strength="observed"),
        Input(name="extra", digests={"dirHash": "33" * 32}, strength="observed", undeclared=True),
    ),
    decisions=(DecisionRef(gate="train-data@1", digest=D),),
    run_start=D,
    code=START.code,
    environment={"python": "3.11.7", "packages": ["numpy==2.0"], "secureml": "0.1.0"},
    outputs=(Output(name="model", digest=Digest("dirHash", b"4" * 32)),),
)


@pytest.mark.parametrize("said", [START, FAILURE, RUN], ids=lambda s: type(s).__name__)
def test_statement_comes_back(said: RunStart | RunFailure | Provenance) -> None:
    """What is written is read back, from its bytes."""
    statement = Statement.decode(said.statement().encode())

    assert said == type(said).from_statement(statement)


def test_provenance_has_the_fields_of_slsa() -> None:
    """The predicate is SLSA provenance v1: its required fields, at their places."""
    predicate = json.loads(RUN.statement().encode())["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]

    assert {"buildDefinition", "runDetails"} == set(predicate)
    assert definition["buildType"] == BUILD_TYPE
    assert (definition["externalParameters"]) == {
        "name": "diagnosis",
        "seed": 7,
        "parameters": {"depth": 3, "rate": "0.1"},
    }
    assert details["builder"]["id"] == BUILDER_ID
    assert details["builder"]["version"] == {"python": "3.11.7", "secureml": "0.1.0"}
    assert {
        "invocationId": START.invocation_id,
        "startedOn": TIME,
        "finishedOn": TIME,
    } == details["metadata"]
    for descriptor in definition["resolvedDependencies"]:
        assert {"uri", "digest", "content"} & set(descriptor)
    assert [
        descriptor["annotations"]["kind"] for descriptor in definition["resolvedDependencies"]
    ] == ["dataset", "dataset", "gate-decision", "run-start", "code"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code(source="git", commit="a" * 40), {"digest": {"gitCommit": "a" * 40}}),
        (Code(source="notebook", cells=D), {"digest": D.as_set()}),
        (Code(source="file", main="t.py", main_digest=D), {"digest": D.as_set()}),
        (Code(source="unknown"), {"uri": f"{BUILD_TYPE}#unknown-code"}),
    ],
)
def test_code_is_a_dependency_of_its_kind(code: Code, expected: dict[str, object]) -> None:
    """The code is named by the digest its kind has; unknown code by a URI that says so."""
    from dataclasses import replace

    predicate = json.loads(replace(RUN, code=code).statement().encode())["predicate"]
    found = predicate["buildDefinition"]["resolvedDependencies"][-1]

    assert expected == {key: found[key] for key in ("digest", "uri") if key in found}


def dependency(kind: str, **more: object) -> dict[str, object]:
    """Return a resource descriptor of *kind*."""
    return {"name": "x", "digest": {"sha256": "00" * 32}, "annotations": {"kind": kind, **more}}


def add(descriptor: object) -> Callable[[dict[str, Any]], object]:
    """Return a change that adds a resolved dependency."""
    return lambda p: p["buildDefinition"]["resolvedDependencies"].append(descriptor)


def test_unknown_fields_and_dependencies_are_passed_over() -> None:
    """SLSA asks consumers to ignore what they do not know; our own meaning is unchanged."""
    predicate = json.loads(RUN.statement().encode())["predicate"]
    predicate["extra"] = predicate["buildDefinition"]["extra"] = 1
    predicate["runDetails"]["byproducts"] = []
    add(dependency("weather"))(predicate)

    assert (
        Provenance.from_statement(Statement(RUN.statement().subject, PROVENANCE, predicate)) == RUN
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.pop("buildDefinition"),
        lambda p: p.pop("runDetails"),
        lambda p: p["buildDefinition"].update(buildType="https://example.com"),
        lambda p: p["buildDefinition"].pop("internalParameters"),
        lambda p: p["buildDefinition"]["externalParameters"].update(secret=1),
        lambda p: p["buildDefinition"]["externalParameters"].update(seed="7"),
        lambda p: p["buildDefinition"]["externalParameters"].update(seed=True),
        lambda p: p["buildDefinition"]["externalParameters"].update(name=""),
        lambda p: p["buildDefinition"]["externalParameters"].update(parameters=[]),
        lambda p: p["buildDefinition"]["resolvedDependencies"].pop(),
        lambda p: p["buildDefinition"]["resolvedDependencies"].pop(3),
        lambda p: p["buildDefinition"].update(resolvedDependencies={}),
        lambda p: p["runDetails"]["builder"].update(id="https://example.com"),
        lambda p: p["runDetails"]["metadata"].update(startedOn="yesterday"),
        lambda p: p["runDetails"]["metadata"].pop("finishedOn"),
        add(7),
        add({"name": "x", "digest": {"sha256": "00" * 32}}),
        add(dependency("dataset", strength="proven")),
        add(dependency("dataset")),
        add(dependency("dataset", strength="observed", undeclared="yes")),
        add({**dependency("dataset", strength="observed"), "digest": {}}),
        add({**dependency("dataset", strength="observed"), "digest": {"sha256": 7}}),
        add({**dependency("gate-decision"), "digest": {"sha256": "00"}}),
        add(dependency("run-start")),
        add(dependency("code", code={"source": "unknown"})),
    ],
)
def test_other_provenance_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    """What is missing, doubled or of another type is a FormatError."""
    predicate = json.loads(RUN.statement().encode())["predicate"]
    change(predicate)

    with pytest.raises(FormatError):
        Provenance.from_statement(Statement(RUN.statement().subject, PROVENANCE, predicate))


@pytest.mark.parametrize("said", [START, FAILURE, RUN], ids=lambda s: type(s).__name__)
def test_other_types_are_refused(said: RunStart | RunFailure | Provenance) -> None:
    """A reader takes its own predicate type only."""
    statement = said.statement()
    other = RUN_START if statement.predicate_type != RUN_START else RUN_FAILURE

    with pytest.raises(FormatError):
        type(said).from_statement(Statement(statement.subject, other, statement.predicate))


@pytest.mark.parametrize("said", [START, FAILURE], ids=lambda s: type(s).__name__)
def test_our_own_types_have_no_other_fields(said: RunStart | RunFailure) -> None:
    """A field more, or a field less, is refused."""
    statement = said.statement()
    more = {**statement.predicate, "more": 1}
    with pytest.raises(FormatError):
        type(said).from_statement(Statement(statement.subject, statement.predicate_type, more))
    for name in statement.predicate:
        less = {key: value for key, value in statement.predicate.items() if key != name}
        with pytest.raises(FormatError):
            type(said).from_statement(Statement(statement.subject, statement.predicate_type, less))


def test_output_is_named_by_its_dirhash() -> None:
    """An output without dirHash cannot be joined on."""
    statement = RUN.statement()
    subject = (Subject("model", {"sha256": "00" * 32}),)

    with pytest.raises(FormatError):
        Provenance.from_statement(Statement(subject, PROVENANCE, statement.predicate))


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=4), one, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_readers_raise_nothing_else(data: st.DataObject) -> None:
    """A predicate with any part replaced is read, or refused with a FormatError."""
    every: list[RunStart | RunFailure | Provenance] = [START, FAILURE, RUN]
    said = data.draw(st.sampled_from(every))
    statement = said.statement()
    predicate = json.loads(statement.encode())["predicate"]
    place: Any = predicate
    while True:
        key = data.draw(
            st.sampled_from(sorted(place))
            if isinstance(place, dict)
            else st.integers(0, len(place) - 1)
        )
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            place[key] = data.draw(junk)
            break
        place = inner
    try:
        type(said).from_statement(
            Statement(statement.subject, statement.predicate_type, predicate)
        )
    except FormatError:
        return


VECTORS = Path(__file__).parents[3] / "vectors" / "training-run"


@pytest.mark.parametrize(
    ("name", "said"), [("start", START), ("failure", FAILURE), ("provenance", RUN)]
)
def test_vectors_hold(name: str, said: RunStart | RunFailure | Provenance) -> None:
    """The bytes of version 1 are those on file, to write and to read."""
    vector = json.loads((VECTORS / f"{name}.json").read_text())
    payload = vector["expect"].encode()

    assert vector["source"]
    assert said.statement().encode() == payload
    assert type(said).from_statement(Statement.decode(payload)) == said
    assert Digest.sha256(payload).hex == vector["sha256"]
