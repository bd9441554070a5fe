# ruff: noqa: ANN401  fixtures and hostile values are of any type, and some are not read
"""Capture paths read what they name, from the call's own arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from secureml.audit.paths import MissingArgumentError, check_path, follow, input_source


@dataclass
class User:
    """Somebody."""

    id: str
    address: dict[str, str]


ALICE = User("alice", {"city": "London", "keys": "of the map"})


def read(function: Callable[..., object], path: str, *args: object, **kwargs: object) -> object:
    """Read *path* from a call of *function*."""
    import inspect

    return input_source(path, inspect.signature(function), name="f").value(args, kwargs)


def both(a: Any, /, b: Any, *rest: Any, key: Any = "default", **more: Any) -> None:
    """Take parameters of every kind."""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", 1),
        ("b", 2),
        ("rest", (3, 4)),
        ("key", "default"),
        ("more", {"z": 5, "a": 6}),
        ("more.z", 5),
    ],
)
def test_every_kind_of_parameter(path: str, expected: object) -> None:
    """A path begins at a parameter of any kind, defaults included."""
    assert expected == read(both, path, 1, 2, 3, 4, z=5, a=6)


def test_a_parameter_given_by_name() -> None:
    """It does not matter how an argument was passed."""
    assert read(both, "b", 1, b=2) == 2
    assert read(both, "key", 1, 2, key="k") == "k"
    assert read(both, "rest", 1, b=2) == ()


def test_a_missing_argument_is_told_apart() -> None:
    """A call that lacks a parameter is no error of the path."""
    for path in ("a", "b"):
        with pytest.raises(MissingArgumentError):
            read(both, path, a=1)


def test_steps_are_keys_or_attributes() -> None:
    """In a mapping a step is a key, never an attribute; elsewhere an attribute."""

    def f(user: object) -> None: ...

    assert read(f, "user.id", ALICE) == "alice"
    assert read(f, "user.address.city", ALICE) == "London"
    assert read(f, "user.address.keys", ALICE) == "of the map"
    assert read(f, "user.id", {"id": "alice"}) == "alice"
    with pytest.raises(ValueError, match="'dict' has no 'items'"):
        read(f, "user.items", {"id": "alice"})
    with pytest.raises(ValueError, match="'User' has no 'name'"):
        read(f, "user.name", ALICE)


def test_none_ends_a_path() -> None:
    """Where there is nobody, there is nothing to read."""
    assert follow(None, ("id", "name"), "user.id.name") is None
    assert follow({"id": None}, ("id", "name"), "user.id.name") is None


def test_a_property_that_raises_is_not_hidden() -> None:
    """An error of the caller's own code is the caller's to see."""

    class Broken:
        @property
        def id(self) -> str:
            raise RuntimeError("own")

    with pytest.raises(RuntimeError, match="own"):
        follow(Broken(), ("id",), "user.id")


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a b", "a[0]", "0", "a.0", "a-b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """A path is names joined by dots."""
    with pytest.raises(ValueError, match="is not a capture path"):
        check_path(path)


def test_an_unknown_parameter_names_the_known_ones() -> None:
    """A misspelt path says what there is."""
    with pytest.raises(ValueError, match=r"it has 'a', 'b', 'rest', 'key', 'more'.*more\.c"):
        read(both, "c.d", 1, 2)
    with pytest.raises(ValueError, match=r"it has none"):
        read(lambda: None, "c")


def test_columns_of_frames() -> None:
    """In a frame or a series a step is a column or a label, also one named like a method."""
    pd = pytest.importorskip("pandas")

    def f(row: object) -> None: ...

    frame = pd.DataFrame({"size": [1.5], "radius": [2.5]})
    assert read(f, "row.size", frame.iloc[0]) == 1.5
    assert list(read(f, "row.radius", frame)) == [2.5]  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'Series' has no 'mean'"):
        read(f, "row.mean", frame.iloc[0])
