"""What needs pickle is refused, by name and by content; what does not is left alone."""

import bz2
import gzip
import io
import lzma
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from secureml.errors import UnsafeFormatError
from secureml.models.sniffing import check_inert


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('the bomb went off')",)


def archive(**members: bytes) -> bytes:
    """Return a ZIP of *members*; `__` in a name is a dot, `_0_` a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name.replace("_0_", "/").replace("__", "."), data)
    return buffer.getvalue()


def npy(array: object) -> bytes:
    """Return *array* as numpy's own file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


BOMBS = [pickle.dumps(Bomb(), protocol) for protocol in range(6)]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "name", ["model", "model.skops", "model.npz", "weights.dat", "a.safetensors"]
)
def test_pickle_under_any_name_is_refused(protocol: int, name: str) -> None:
    """Every protocol of pickle is found under names that promise something else."""
    with pytest.raises(UnsafeFormatError, match="could run code") as caught:
        check_inert(name, BOMBS[protocol])
    assert "safetensors" in caught.value.fix


@pytest.mark.parametrize(
    "name",
    ["m.pkl", "m.pickle", "m.joblib", "m.pt", "m.pth", "m.bin", "m.ckpt", "m.dill", "d/M.PKL"],
)
def test_extension_that_means_pickle_is_refused(name: str) -> None:
    """A name that somebody downstream would unpickle is refused whatever it holds."""
    with pytest.raises(UnsafeFormatError):
        check_inert(name, b"harmless")


@pytest.mark.parametrize(
    "pack", [zlib.compress, gzip.compress, bz2.compress, lzma.compress], ids=lambda f: f.__module__
)
def test_compressed_pickle_is_refused(pack: Callable[[bytes], bytes]) -> None:
    """What joblib compresses is a pickle; what is inside decides."""
    with pytest.raises(UnsafeFormatError, match="could run code"):
        check_inert("model.skops", pack(BOMBS[4]))


@pytest.mark.parametrize(
    "data",
    [
        archive(archive_0_data__pkl=BOMBS[2]),
        archive(archive_0_data=BOMBS[2]),
        b"#!/bin/sh\n" + archive(data__pkl=BOMBS[2]),
        archive(a__npy=npy([{}])),
        archive(a__npy=b"x")[:-10] + b"0123456789",
        archive(a__npy=b"\x93NUMPY\x01\x00\x04\x00oops"),
    ],
    ids=["torch", "no extension", "in front of it", "objects", "cut", "bad header"],
)
def test_zip_with_pickle_is_refused(data: bytes) -> None:
    """The containers of torch, object arrays, and archives that only a lenient reader reads."""
    with pytest.raises(UnsafeFormatError):
        check_inert("weights.npz", data)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}], dtype=object),
        np.array([(1, None)], dtype=[("a", "<i4"), ("b", "O")]),
        np.array([([None, None],)], dtype=[("a", "O", (2,))]),
        np.array([((None,),)], dtype=[("a", [("b", "O")])]),
    ],
    ids=["plain", "field", "subarray", "nested"],
)
def test_object_arrays_are_refused(array: object) -> None:
    """Python objects are stored as pickle, however deep in the type they are."""
    with pytest.raises(UnsafeFormatError, match="could run code") as caught:
        check_inert("a.npy", npy(array))
    assert "Python objects" in caught.value.why


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy([1.0, 2.0])),
        ("a.npy", npy(np.zeros(2, dtype=[("O", "<f8"), ("x", "<i4", (2,))]))),
        ("a.npz", archive(a__npy=npy([1]), b__npy=npy(["text"]))),
        ("model.skops", archive(schema__json=b"{}", x__bin=b"\x80\x04 bytes of a user")),
        ("config.json", b"{}"),
        ("README", b"# A model\n(c) 2024 somebody\n"),
        ("LICENSE", b"Apache License\nVersion 2.0, January 2004\n"),
        ("notes.txt", BOMBS[0]),
        ("tokenizer.model", b"\x0a\x0e\x0a\x05<unk>"),
        ("empty", b""),
        ("a.safetensors", (0x0280).to_bytes(8, "little") + b"{}" + b" " * 0x27E),
        ("data.gz", gzip.compress(b"text")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_harmless_files_pass(name: str, data: bytes) -> None:
    """Arrays, texts and the first bytes of a safetensors header are not mistaken for pickle."""
    check_inert(name, data)


def test_long_pickle_is_refused_before_it_ends() -> None:
    """A stream of opcodes without an end is a pickle soon enough."""
    with pytest.raises(UnsafeFormatError):
        check_inert("x", b"N0" * 20_000)


def test_nothing_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at the content runs no opcode: `pickletools` reads, `pickle` would run."""

    def never(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(pickle, "Unpickler", never)
    for data in BOMBS:
        assert list(pickletools.genops(data))
        with pytest.raises(UnsafeFormatError):
            check_inert("model", data)
