"""The vectors of ``docs/spec/gate-plan.md``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from secureml.data import checks as c
from secureml.errors import FormatError
from secureml.gates import Gate, GatePlan
from secureml.wire import canonical
from secureml.wire.statement import Statement, Subject

NAMES = ("wdbc", "every-check")


@dataclass(frozen=True)
class Described:
    """A check as a vector describes it."""

    id: str
    params: Mapping[str, Any]
    needs: frozenset[str] = frozenset()

    def start(self) -> Any:  # noqa: ANN401  it measures nothing
        """Measure nothing."""
        raise NotImplementedError


def load(project: Path, name: str) -> dict[str, Any]:
    """Return a vector."""
    vector: dict[str, Any] = json.loads((project / f"vectors/gate-plan/{name}.json").read_text())
    assert vector["source"]
    assert vector["expect"]
    return vector


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_has_the_bytes_and_the_digest_of_its_vector(project: Path, name: str) -> None:
    """The identity of a gate, to the byte."""
    vector = load(project, name)
    gate = Gate(vector["name"], [Described(v["id"], v["params"]) for v in vector["checks"]])

    assert list(gate.check_names) == vector["expect"]["names"]
    assert canonical.encode(gate.plan()).decode() == vector["expect"]["plan"]
    assert str(gate.digest) == vector["expect"]["digest"]


@pytest.mark.parametrize("name", NAMES)
def test_a_planned_gate_is_read_again(project: Path, name: str) -> None:
    """From the statement that holds it."""
    vector = load(project, name)
    gate = Gate(vector["name"], [Described(v["id"], v["params"]) for v in vector["checks"]])
    subject = Subject("train", {"dirHash": "33" * 32})
    plan = GatePlan.of(gate, subject, planned_at="2026-11-22T08:30:00.000000Z")

    assert GatePlan.from_statement(Statement.decode(plan.statement().encode())) == plan
    assert plan.digest == gate.digest


def test_the_functions_make_the_checks_of_the_vectors(project: Path) -> None:
    """What a user writes becomes what the specification says."""
    wdbc = [
        c.no_conflicting_labels("diagnosis"),
        c.between("radius", 0, 50.0),
        c.not_null("radius"),
    ]
    assert str(Gate("train-data@1", wdbc).digest) == load(project, "wdbc")["expect"]["digest"]

    from_text = pytest.importorskip("pandas").Timestamp
    every = [
        c.between("x", -0.1, Decimal("1.5e300")),
        c.between("t", "a", "\u00e4", ignore_null=True),
        c.between("at", from_text("2020-01-01", tz="UTC"), from_text("2026-01-01", tz="UTC")),
        c.in_set("b", {True, False}),
        c.in_set("n", [2, 0.5, -1]),
        c.unique("b", "a"),
        c.row_count(1),
        c.no_conflicting_labels("y", ["b", "a"]),
        c.file_count(2, 9),
        c.extensions({".PNG", ".jpg"}),
        c.no_duplicate_files(),
        c.not_null("\u0431"),
    ]
    assert str(Gate("every@12", every).digest) == load(project, "every-check")["expect"]["digest"]


def test_plans_that_the_specification_refuses_are_refused(project: Path) -> None:
    """Each with a format error."""
    vector = load(project, "refused")
    GatePlan.from_statement(Statement.decode(vector["accepted"].encode()))
    for what, text in vector["statements"].items():
        with pytest.raises(FormatError) as caught:
            GatePlan.from_statement(Statement.decode(text.encode()))
        assert caught.value.code == vector["expect"], what
