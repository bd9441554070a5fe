"""Loading: from verified bytes, by the content, with nothing run."""

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from secureml.errors import FormatError, UnsafeFormatError
from secureml.evidence.subject import SubjectLike
from secureml.evidence.trust import Trust
from secureml.keys import KeySigner
from secureml.models import LoadedModel, load_value, load_verified, open_model, save, sign_model


def npz(**arrays: object) -> bytes:
    """Return *arrays* as numpy's archive."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def npy(array: object) -> bytes:
    """Return *array* as numpy's file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    return buffer.getvalue()


def test_model_comes_with_what_it_rests_on(tmp_path: Path, key: KeySigner, trust: Trust) -> None:
    """A loaded model carries value, name, digest, evidence and its other files, frozen."""
    path = tmp_path / "model"
    x, y = np.array([[0.0], [1.0]]), np.array([0, 1])
    save(LogisticRegression().fit(x, y), path)
    (path / "config.json").write_bytes(b"{}")
    sign_model(path, key=key)
    model = load_verified(open_model(path, trust=trust))

    assert model.value.predict(x).tolist() == [0, 1]
    assert model.name == "model"
    assert model.files == {"config.json": b"{}"}
    assert {"dirHash": model.digest.hex} == model.digests
    assert [item.signer.name for item in model.evidence] == ["ada"]
    assert [entry.name for entry in model.manifest] == ["config.json", "model.skops"]
    assert isinstance(model, SubjectLike)
    assert "LogisticRegression" in repr(model)
    assert "LogisticRegression" in model._repr_html_()
    with pytest.raises(AttributeError, match="frozen"):
        model.value = None
    for steal in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            steal(model)
    with pytest.raises(TypeError, match="never by hand"):
        LoadedModel(value=1)


def test_name_and_evidence_are_the_callers(tmp_path: Path, key: KeySigner) -> None:
    """A chain that was judged gives the model its name; a bare key gives no evidence."""
    path = tmp_path / "model"
    save({"w": np.ones(1)}, path)
    sign_model(path, key=key)
    files = open_model(path, key=key.verifier)

    assert load_verified(files).evidence == ()
    assert load_verified(files, name="diagnosis").name == "diagnosis"


def test_only_verified_files_are_loaded() -> None:
    """A plain mapping is not what a verification returned."""
    with pytest.raises(TypeError, match="come from open_model"):
        load_verified({"a.npy": npy([1])})  # type: ignore[arg-type]


def test_one_loadable_file_is_the_value() -> None:
    """Other files are kept, not loaded."""
    assert load_value({"a.npy": npy([1, 2]), "README": b"x", "c.json": b"{"}).tolist() == [1, 2]


def test_several_loadable_files_are_a_dict() -> None:
    """With several, the value is a dict from file name to value."""
    value = load_value({"b.npy": npy([2]), "a/x.npz": npz(w=[1.0])})

    assert list(value) == ["a/x.npz", "b.npy"]
    assert value["a/x.npz"]["w"][0] == 1.0


def test_lone_json_is_the_value() -> None:
    """A model may be a table of numbers in JSON; it is read strictly."""
    assert load_value({"model.json": b'{"w": [0.5]}', "n.txt": b"x"}) == {"w": [0.5]}
    with pytest.raises(FormatError):
        load_value({"model.json": b'{"w": NaN}'})
    with pytest.raises(FormatError):
        load_value({"model.json": b'{"w": 1, "w": 2}'})


def test_nothing_to_load_is_a_format_error() -> None:
    """Without a file in a known format the error names the way to the bytes."""
    for files in ({}, {"a.onnx": b"\x08\x01"}, {"a.json": b"1", "b.json": b"2"}):
        with pytest.raises(FormatError, match="no file that can be loaded") as caught:
            load_value(files)
        assert "open_model" in caught.value.fix


def test_one_pickle_refuses_the_whole_model() -> None:
    """Also when the value would come from another file: somebody downstream would load it."""
    with pytest.raises(UnsafeFormatError, match=r"pytorch_model\.bin"):
        load_value({"a.npy": npy([1]), "pytorch_model.bin": b"x"})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npz", b"garbage"),
        ("a.npz", npy([1])),
        ("a.npy", b"garbage"),
        ("a.npy", npy([1])[:-1]),
        ("a.safetensors", b"garbage"),
        ("a.safetensors", b""),
        ("a.safetensors", (2).to_bytes(8, "little") + b"{}" + b"x"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"[]"),
        ("a.safetensors", (1 << 62).to_bytes(8, "little") + b"{}"),
        ("a.skops", b"garbage"),
    ],
)
def test_malformed_file_is_a_format_error(name: str, data: bytes) -> None:
    """A file that is not what its name says raises FormatError and nothing else."""
    with pytest.raises(FormatError, match="that can be loaded"):
        load_value({name: data})


def header(text: str) -> bytes:
    """Return a safetensors file that is only a header."""
    return len(text).to_bytes(8, "little") + text.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"__metadata__":7}',
        '{"__metadata__":{"secureml":"7"}}',
        '{"__metadata__":{"secureml":"{ }"}}',
        '{"__metadata__":{"secureml":"{\\"aliases\\":{\\"a\\":\\"gone\\"}}"}}',
        (
            '{"__metadata__":{"secureml":"{\\"aliases\\":{\\"a\\":\\"a\\"}}"},'
            '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
        ),
    ],
)
def test_bad_metadata_is_a_format_error(text: str) -> None:
    """Our one metadata key holds canonical JSON, and aliases lead to stored tensors."""
    with pytest.raises(FormatError):
        load_value({"a.safetensors": header(text)})
