"""Saving: three kinds of value, each in a format that loading does not execute."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from secureml.hashing.tree import manifest
from secureml.models import load_value, save


def contents(path: Path) -> dict[str, bytes]:
    """Return the files of *path*, by name."""
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_arrays_become_safetensors(tmp_path: Path) -> None:
    """A dict of arrays comes back equal, whatever its layout in memory was."""
    arrays: dict[str, Any] = {
        "t": np.arange(6.0).reshape(2, 3).T,
        "scalar": np.array(3.5, dtype=np.float32),
        "big": np.array([1, 2], dtype=">i4"),
        "flags": np.array([True, False]),
        "generic": np.float64(2.0),
    }
    found = save(arrays, tmp_path / "model")

    assert [entry.name for entry in found] == ["model.safetensors"]
    loaded = load_value(contents(tmp_path / "model"))
    assert sorted(arrays) == list(loaded)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, loaded[name])
        assert np.shape(array) == loaded[name].shape


def test_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    """One metadata key only, so the bytes do not depend on chance, nor on the dict's order."""
    one = save({"a": np.arange(3), "b": np.ones(2)}, tmp_path / "one")
    two = save({"b": np.ones(2), "a": np.arange(3)}, tmp_path / "two")

    assert one.digest == two.digest


def test_estimator_becomes_skops(tmp_path: Path) -> None:
    """A scikit-learn estimator predicts as before."""
    x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    estimator = LogisticRegression().fit(x, y)
    found = save(estimator, tmp_path / "model")

    assert [entry.name for entry in found] == ["model.skops"]
    loaded = load_value(contents(tmp_path / "model"))
    np.testing.assert_array_equal(estimator.predict_proba(x), loaded.predict_proba(x))


def test_manifest_is_that_of_the_directory(tmp_path: Path) -> None:
    """What save returns is what anybody would measure."""
    found = save({"a": np.ones(1)}, tmp_path / "m")

    assert manifest(tmp_path / "m") == found


def test_saving_again_replaces_the_model_and_drops_what_was_about_it(tmp_path: Path) -> None:
    """A stale signature and stale claims do not stay beside other bytes."""
    path = tmp_path / "m"
    save(LogisticRegression(), path)
    (path / "model.sig").write_text("old")
    (path / "claims.jsonl").write_text("old")
    save({"a": np.ones(1)}, path)

    assert sorted(contents(path)) == ["model.safetensors"]


def test_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    """A file that save did not write would become part of the model unseen."""
    (tmp_path / "thesis.txt").write_text("x")

    with pytest.raises(ValueError, match=r"thesis\.txt"):
        save({"a": np.ones(1)}, tmp_path)
    assert sorted(contents(tmp_path)) == ["thesis.txt"]


def test_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """A model is a directory."""
    (tmp_path / "m").write_text("x")
    with pytest.raises(ValueError, match="not a directory"):
        save({"a": np.ones(1)}, tmp_path / "m")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="not a directory"):
        save({"a": np.ones(1)}, tmp_path / "link")


@pytest.mark.parametrize("value", [object(), {}, {"a": 1}, [np.ones(1)], "text", None, b"bytes"])
def test_other_values_are_refused_with_what_would_do(tmp_path: Path, value: object) -> None:
    """A value of another kind is a TypeError that names the three kinds; nothing is made."""
    with pytest.raises(TypeError, match=r"scikit-learn estimator.*torch module.*numpy arrays"):
        save(value, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": np.array(["text"])},
        {"a": np.array([None], dtype=object)},
        {"a": np.ones(1), "b": 7},
        {"a": np.ones(1), 7: np.ones(1)},
        {"a": np.ones(1), "__metadata__": np.ones(1)},
        {"a": np.array([1j])},
        {"a": np.ones(1, dtype=np.longdouble)},
    ],
)
def test_arrays_that_the_format_cannot_hold_are_refused(
    tmp_path: Path, arrays: dict[object, object]
) -> None:
    """Text, objects, complex numbers and odd names are a TypeError that names them."""
    with pytest.raises(TypeError):
        save(arrays, tmp_path / "m")


def test_failed_save_leaves_the_old_model(tmp_path: Path) -> None:
    """When the value cannot be encoded, what was there before stays, signature and all."""
    path = tmp_path / "m"
    save({"a": np.ones(1)}, path)
    (path / "model.sig").write_text("old")
    before = contents(path)

    with pytest.raises(TypeError):
        save({"a": np.array(["text"])}, path)
    assert before == contents(path)


def shout(x: object) -> object:
    """Stand for a function that somebody wrote."""
    return x


def test_estimator_of_unlisted_types_is_refused_with_their_names(tmp_path: Path) -> None:
    """A function inside an estimator is named, and can be allowed by name."""
    estimator = FunctionTransformer(shout)
    with pytest.raises(TypeError, match=r"shout.*allow_types"):
        save(estimator, tmp_path / "m")
    name = f"{shout.__module__}.shout"

    assert save(estimator, tmp_path / "m", allow_types=[name])


def test_digest_is_of_the_bytes_on_disk(tmp_path: Path) -> None:
    """The manifest names the very bytes that lie there."""
    found = save({"a": np.ones(3)}, tmp_path / "m")
    data = (tmp_path / "m" / "model.safetensors").read_bytes()

    assert hashlib.sha256(data).digest() == found.entries[0].sha256
