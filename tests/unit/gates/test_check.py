# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""Checks and findings."""

import pickle
from typing import Any

import pytest

from secureml.gates.check import Finding, check_name, checked, full_name, not_made


def test_a_name_is_the_id_and_the_canonical_parameters(even: Any) -> None:
    """Two checks with one name are one check."""
    assert check_name(even("a")) == 'even@1 {"label":"a"}'


@pytest.mark.parametrize("given", [None, "not_null", 3, object(), int, [1]])
def test_what_is_no_check_is_a_type_error(given: Any) -> None:
    """The error says where checks come from."""
    with pytest.raises(TypeError, match=r"secureml\.data\.checks"):
        check_name(given)


def test_the_class_of_a_check_is_no_check(even: Any) -> None:
    """A forgotten pair of brackets is found at once."""
    with pytest.raises(TypeError, match="type has not"):
        check_name(even)


@pytest.mark.parametrize("name", ["even", "Even@1", "even@", "even@x", "@1", "even@1 ", "é@1", 7])
def test_an_id_is_name_and_major(name: object) -> None:
    """An id is spelled in one way."""
    with pytest.raises(ValueError, match="name@major"):
        full_name(name, {})


def test_a_float_parameter_is_a_type_error() -> None:
    """Parameters are JSON without floats."""
    with pytest.raises(TypeError):
        full_name("even@1", {"low": 0.5})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "arguments",
    [
        (1, True, "m", {}),
        ("c", "true", "m", {}),
        ("c", 1, "m", {}),
        ("c", None, "m", {}),
        ("c", True, None, {}),
        ("c", True, "m", {1: 1}),
        ("c", True, "m", {"n": 1.0}),
        ("c", True, "m", {"n": True}),
    ],
)
def test_a_finding_has_exact_types(arguments: tuple[Any, ...]) -> None:
    """Nothing that is only truthy passes."""
    with pytest.raises(TypeError):
        Finding(*arguments)


def test_a_finding_does_not_share_its_counts() -> None:
    """Counts that change later do not change the finding."""
    counts = {"n": 1}
    finding = Finding("c", passed=True, message="m", counts=counts)
    counts["n"] = 2

    assert finding.counts == {"n": 1}


def test_a_finding_is_hashable_and_pickles() -> None:
    """Workers send findings home."""
    finding = Finding("c", passed=True, message="m", counts={"n": 1})

    assert pickle.loads(pickle.dumps(finding)) == finding  # noqa: S301  our own bytes
    assert len({finding, finding}) == 1


def test_a_finding_that_is_missing_did_not_pass() -> None:
    """One finding for each name, whatever the subject returned."""
    good = Finding("a", passed=True, message="fine")
    for findings in (None, [], "x", [None], [{"passed": True}], 3, iter([good])):
        assert [f.passed for f in checked(["a"], findings)] == [False]
    assert checked(["a"], [good]) == [good]
    assert [f.passed for f in checked(["a", "b"], [good])] == [True, False]


def test_a_finding_of_another_check_does_not_count() -> None:
    """A subject cannot answer one check with the finding of another."""
    found = checked(["a", "b"], [Finding("b", passed=True, message="fine")] * 2)

    assert [f.passed for f in found] == [False, True]
    assert "another check" in found[0].message


def test_a_subclass_of_finding_does_not_count() -> None:
    """Only `Finding` itself is taken: a subclass may say anything."""

    class Liar(Finding):
        pass

    assert [f.passed for f in checked(["a"], [Liar("a", passed=True, message="")])] == [False]


def test_messages_can_always_be_written() -> None:
    """A message with half a character, or without end, still becomes a record."""
    odd = Finding("a", passed=False, message="\ud800" + "x" * 5000, counts={"n": 2**70, "m": 1})
    (found,) = checked(["a"], [odd])

    found.message.encode()
    assert len(found.message) < 1010
    assert found.counts == {"m": 1}


def test_not_made_says_why() -> None:
    """A check that could not be made did not pass."""
    assert not_made("a", "no").message == "could not be made: no"
    assert not not_made("a", "no").passed
