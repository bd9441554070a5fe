"""L5 for models: a bit flipped anywhere in what a signature covers is refused, and only so."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secureml.errors import FormatError, SecureMLError, VerificationError
from secureml.evidence.trust import Identity, Trust
from secureml.hashing.tree import manifest
from secureml.keys import generate
from secureml.models import (
    load_value,
    oms_statement,
    read_oms,
    read_resources,
    sign_model,
    verify_model,
)
from secureml.wire.canonical import JSON
from secureml.wire.manifest import Manifest, check_name
from secureml.wire.statement import OMS, Statement, Subject

KEY = generate("ecdsa-p256")
TRUST = Trust(
    identities=(Identity(name="ada", verifier=KEY.verifier, roles=frozenset({"model"})),)
)
FILES = {
    "config.json": b'{"layers": [1, 2, 3]}',
    "deep/weights.npy": bytes(range(64)),
    "empty.txt": b"",
    "\u00e9.txt": b"accented",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a signed model."""
    path = tmp_path_factory.mktemp("models") / "m"
    for name, data in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    sign_model(path, key=KEY)
    return path


def refused(path: Path) -> None:
    """Check that *path* is refused with a FormatError or a VerificationError."""
    with pytest.raises((FormatError, VerificationError)):
        verify_model(path, trust=TRUST)
    with pytest.raises((FormatError, VerificationError)):
        verify_model(path, key=KEY.verifier)


names = st.sampled_from([*(name for name, data in FILES.items() if data), "model.sig"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=names, place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
def test_flipped_bit_is_refused(model: Path, name: str, place: int, bit: int) -> None:
    """A bit flipped in any file, or in the signature, is refused."""
    file = model / name
    good = file.read_bytes()
    bad = bytearray(good)
    bad[place % len(bad)] ^= 1 << bit
    file.write_bytes(bad)
    try:
        refused(model)
    finally:
        file.write_bytes(good)
    assert verify_model(model, trust=TRUST).signer == "ada"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=names, keep=st.integers(0, 1 << 20))
def test_cut_file_is_refused(model: Path, name: str, keep: int) -> None:
    """A file that lost its tail, the signature's too, is refused."""
    file = model / name
    good = file.read_bytes()
    file.write_bytes(good[: keep % len(good)])
    try:
        refused(model)
    finally:
        file.write_bytes(good)


def test_every_change_of_the_file_set_is_refused(model: Path, tmp_path: Path) -> None:
    """Each file removed, renamed, doubled or swapped with another is refused."""
    for one in FILES:
        for change in _changes(one):
            copy = tmp_path / "copy"
            shutil.copytree(model, copy)
            change(copy)
            refused(copy)
            shutil.rmtree(copy)
    verify_model(model, trust=TRUST)


def _changes(name: str) -> Iterator[Callable[[Path], object]]:
    other = next(one for one in FILES if one != name)

    def swap(path: Path) -> None:
        one, two = (path / name).read_bytes(), (path / other).read_bytes()
        (path / name).write_bytes(two)
        (path / other).write_bytes(one)

    yield lambda path: (path / name).unlink()
    yield lambda path: (path / name).rename(path / "renamed")
    yield lambda path: shutil.copy(path / name, path / "copy")
    yield swap


manifests = st.dictionaries(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\/"), min_size=1
    ).filter(lambda name: name not in {".", "..", "model.sig", "claims.jsonl"}),
    st.binary(min_size=32, max_size=32),
    min_size=1,
    max_size=8,
).map(lambda files: Manifest.of(files.items()))


@given(manifests)
def test_reading_undoes_writing(found: Manifest) -> None:
    """The statement we write says exactly the manifest, for any names."""
    statement = oms_statement(found, "m")

    assert read_resources(Statement.decode(statement.encode())) == found


@given(manifests)
def test_resources_are_sorted_by_code_point(found: Manifest) -> None:
    """The order in the payload is that of the specification, whatever the names."""
    written = [resource.name for resource in read_oms(oms_statement(found, "m")).resources]

    assert written == sorted(written)


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("sha256")
values = st.recursive(
    leaves, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one)
)
fields = st.sampled_from(
    ["resources", "serialization", "name", "algorithm", "digest", "method", "hash_type"]
)
predicates = st.dictionaries(fields, values) | st.fixed_dictionaries(
    {
        "resources": st.lists(st.dictionaries(fields, values), max_size=3) | values,
        "serialization": st.dictionaries(fields, values) | values,
    }
)


@given(predicates, st.dictionaries(st.sampled_from(["sha256", "md5"]), st.text(), min_size=1))
def test_reader_raises_nothing_else(predicate: dict[str, object], digest: dict[str, str]) -> None:
    """An arbitrary predicate is refused with an error of ours, never with another."""
    statement = Statement((Subject("m", digest),), OMS, json.loads(json.dumps(predicate)))
    with pytest.raises((FormatError, VerificationError)):
        read_oms(statement)


@given(
    st.sampled_from(["a.skops", "a.safetensors", "a.npz", "a.npy", "a.json", "a", "a.dat"]),
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda tail: b"PK\x03\x04" + tail)
    | st.binary(max_size=60).map(lambda tail: b"\x93NUMPY\x01\x00v\x00" + tail)
    | st.binary(max_size=60).map(lambda tail: len(tail).to_bytes(8, "little") + b"{" + tail),
)
def test_loader_raises_nothing_else(name: str, data: bytes) -> None:
    """Arbitrary bytes under any name make a value, or an error of ours."""
    try:
        load_value({name: data})
    except SecureMLError as error:
        assert isinstance(error, FormatError | VerificationError)  # noqa: PT017  both are right


@given(st.text(max_size=12))
def test_signed_names_are_names(name: str) -> None:
    """A name that a signature may carry is one that a manifest can hold."""
    predicate: dict[str, JSON] = {
        "resources": [{"name": name, "algorithm": "sha256", "digest": "00" * 32}],
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
    }
    statement = Statement((Subject("m", {"sha256": "00" * 32}),), OMS, predicate)
    try:
        check_name(name)
    except ValueError:
        if name != ".":
            with pytest.raises(FormatError):
                read_oms(statement)


def test_model_digest_is_that_of_coreutils(model: Path) -> None:
    """The name of a model is the dirHash of its files, without the signature's own."""
    expected = manifest(model, exclude=("model.sig",)).digest

    assert verify_model(model, trust=TRUST).digest == expected
