"""Parameters: JSON of one spelling, without floats, or an error that names the parameter."""

import enum
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.training.parameters import plain_parameters
from secureml.wire import canonical


def test_values_become_json() -> None:
    """Floats become their shortest decimal strings, numpy's scalars Python's, tuples lists."""
    given_ = {
        "none": None,
        "yes": True,
        "n": 3,
        "rate": 0.1,
        "tiny": 1e-300,
        "whole": 2.0,
        "text": "é",
        "list": [1, (2.5, "x")],
        "deep": {"a": {"b": np.float32(0.5)}},
        "np": [np.int64(7), np.bool_(0), np.float64(0.1)],
    }
    expected = {
        "none": None,
        "yes": True,
        "n": 3,
        "rate": "0.1",
        "tiny": "1e-300",
        "whole": "2.0",
        "text": "é",
        "list": [1, ["2.5", "x"]],
        "deep": {"a": {"b": "0.5"}},
        "np": [7, False, "0.1"],
    }

    assert expected == plain_parameters(given_)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_not_rounded(value: float) -> None:
    """The string reads back as the same float, the sign of zero included."""
    found = plain_parameters({"x": value})["x"]

    assert isinstance(found, str)
    assert value.hex() == float(found).hex()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_values_without_a_value_are_refused(value: float) -> None:
    """NaN and infinity are a ValueError that names the parameter."""
    with pytest.raises(ValueError, match=r"parameters\['a'\]\['b'\]\[1\]"):
        plain_parameters({"a": {"b": [0, value]}})


class Colour(enum.Enum):
    """Not JSON."""

    RED = 1


@pytest.mark.parametrize(
    "value", [object(), b"bytes", {1, 2}, Decimal(1), 1j, np.ones(2), Colour.RED, {7: 1}, print]
)
def test_other_types_are_refused_by_name(value: object) -> None:
    """What a record cannot hold is a TypeError that names the parameter."""
    with pytest.raises(TypeError, match=r"parameters\['a'\]"):
        plain_parameters({"a": value})


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", {"\ud800": 1}])
def test_what_json_would_bend_is_refused(value: object) -> None:
    """Integers beyond 2**53 - 1 and lone surrogates are a ValueError."""
    with pytest.raises(ValueError, match=r"parameters\['a'\]"):
        plain_parameters({"a": value})


def test_endless_nesting_is_refused() -> None:
    """A list that contains itself ends in an error, not in a crash."""
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="nested"):
        plain_parameters({"a": endless})


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
values = st.recursive(
    scalars,
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), one)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), values))
def test_result_is_canonical_json_and_settled(parameters: dict[str, object]) -> None:
    """What comes out can be recorded, and reading it again changes nothing."""
    found = plain_parameters(parameters)

    assert found == canonical.decode(canonical.encode(found))
    assert found == plain_parameters(found)
