# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""Gates, their identity, and the preview."""

import pickle
from typing import Any

import pytest

from secureml.gates import Gate, Preview
from secureml.wire import canonical
from secureml.wire.digest import Digest


def test_the_digest_is_that_of_the_canonical_plan(even: Any) -> None:
    """A gate's identity is what it asks."""
    gate = Gate("train-data@1", [even("b"), even("a")])
    plan = {
        "v": 1,
        "name": "train-data@1",
        "checks": [{"id": "even@1", "params": {"label": label}} for label in "ab"],
    }

    assert plan == gate.plan()
    assert Digest.sha256(canonical.encode(gate.plan())) == gate.digest


def test_the_order_of_checks_makes_no_other_gate(even: Any) -> None:
    """A gate asks all of its checks, so their order says nothing."""
    assert Gate("g@1", [even("a"), even("b")]) == Gate("g@1", [even("b"), even("a")])


def test_a_weakened_gate_is_another_gate(even: Any) -> None:
    """Fewer checks, other parameters or another name make another digest."""
    gates = [
        Gate("g@1", [even("a"), even("b")]),
        Gate("g@1", [even("a")]),
        Gate("g@1", [even("a"), even("c")]),
        Gate("g@2", [even("a"), even("b")]),
    ]

    assert len({gate.digest for gate in gates}) == len(set(gates)) == 4


@pytest.mark.parametrize(
    "name",
    ["", "train", "train@", "Train@1", "train data@1", "@1", "-a@1", "a@1\n", "a@-1", "ä@1"],
)
def test_a_name_is_label_and_major(name: str, even: Any) -> None:
    """The error shows how a name is spelled."""
    with pytest.raises(ValueError, match="'train-data@1'"):
        Gate(name, [even()])


@pytest.mark.parametrize("name", [None, 3, b"a@1"])
def test_a_name_is_text(name: Any, even: Any) -> None:
    """Another type is a bug of the caller."""
    with pytest.raises(TypeError, match="text"):
        Gate(name, [even()])


def test_a_gate_without_checks_is_refused() -> None:
    """A gate that asks nothing would pass everything."""
    with pytest.raises(ValueError, match="no checks"):
        Gate("g@1", [])


def test_a_check_given_twice_is_refused(even: Any) -> None:
    """Twice the same check is a slip."""
    with pytest.raises(ValueError, match="twice"):
        Gate("g@1", [even("a"), even("a")])


@pytest.mark.parametrize("checks", [None, "not_null", b"x", {1: 2}, 3])
def test_checks_are_a_list(checks: Any) -> None:
    """A single check without its list is a type error."""
    with pytest.raises(TypeError, match="list of checks"):
        Gate("g@1", checks)


def test_a_check_that_changes_later_does_not_change_the_plan() -> None:
    """The plan is fixed when the gate is made."""

    class Sly:
        id = "sly@1"
        params: dict[str, Any] = {"high": "1"}  # noqa: RUF012  that is the attack
        needs: frozenset[str] = frozenset()

        def start(self) -> Any:
            raise NotImplementedError

    gate = Gate("g@1", [Sly()])
    before = gate.digest
    Sly.params["high"] = "1000"

    assert before == gate.digest
    assert gate.plan()["checks"] == [{"id": "sly@1", "params": {"high": "1"}}]


def test_a_gate_pickles(even: Any) -> None:
    """A gate can be sent to a worker."""
    gate = Gate("g@1", [even("a")])
    again = pickle.loads(pickle.dumps(gate))  # noqa: S301  our own bytes

    assert again == gate
    assert again.check_names == gate.check_names
    assert gate != "g@1"


def test_a_gate_shows_itself(even: Any) -> None:
    """Names in a gate are text of somebody else's: they are escaped."""
    gate = Gate("g@1", [even("<b>")])

    assert "g@1" in repr(gate)
    assert gate.digest.short in repr(gate)
    assert "<b>" not in gate._repr_html_()
    assert "&lt;b&gt;" in gate._repr_html_()


def test_a_preview_measures_and_logs_nothing(even: Any, numbers: Any) -> None:
    """A preview says what a run would find, and that it is no evidence."""
    gate = Gate("g@1", [even("a")])
    good, bad = gate.preview(numbers((2,))), gate.preview(numbers((3,)))

    assert good.would_pass
    assert not bad.would_pass
    assert "never evidence" in str(bad)
    assert "FAIL" in str(bad)
    assert "1 of 1 odd" in str(bad)
    assert "never evidence" in bad._repr_html_()
    assert not gate.preview(numbers(())).would_pass


def test_a_preview_of_nothing_would_not_pass() -> None:
    """No findings are no yes."""
    assert not Preview("g@1", "train", ()).would_pass


@pytest.mark.parametrize("subject", [None, "train.parquet", [1, 2], object()])
def test_a_gate_measures_datasets_only(subject: Any, even: Any) -> None:
    """The error says how data becomes a dataset."""
    with pytest.raises(TypeError, match=r"ws\.dataset"):
        Gate("g@1", [even()]).preview(subject)
