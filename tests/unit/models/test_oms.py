"""The OMS statement: what is written to the letter, what is read, what is refused."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import DigestMismatchError, FormatError
from secureml.models import oms_root, oms_statement, read_oms, read_resources
from secureml.wire.manifest import Manifest
from secureml.wire.statement import OMS, Statement, Subject

A = hashlib.sha256(b"a").digest()
B = hashlib.sha256(b"b").digest()


def statement(
    change: Callable[[dict[str, Any]], object] = lambda _: None,
    *,
    digests: tuple[bytes, ...] = (A, B),
    predicate_type: str = OMS,
) -> Statement:
    """Return a peer's statement over a.txt and b.bin, with *change* made to its predicate."""
    predicate: dict[str, Any] = {
        "resources": [
            {"name": "a.txt", "algorithm": "sha256", "digest": A.hex()},
            {"name": "b.bin", "algorithm": "sha256", "digest": B.hex()},
        ],
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": [".git"],
        },
    }
    change(predicate)
    return Statement((Subject("m", oms_root(digests).as_set()),), predicate_type, predicate)


def test_statement_is_the_specified_one() -> None:
    """The bytes we sign are those of OMS v1.0, sorted by code point, our two names left out."""
    manifest = Manifest.of([("b.bin", B), ("a/x", A), ("a-b/x", B)])
    expected = (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{"resources":['
        f'{{"algorithm":"sha256","digest":"{B.hex()}","name":"a-b/x"}},'
        f'{{"algorithm":"sha256","digest":"{A.hex()}","name":"a/x"}},'
        f'{{"algorithm":"sha256","digest":"{B.hex()}","name":"b.bin"}}],'
        '"serialization":{"allow_symlinks":false,"hash_type":"sha256",'
        '"ignore_paths":["claims.jsonl","model.sig"],"method":"files"}},'
        '"predicateType":"https://model_signing/signature/v1.0",'
        f'"subject":[{{"digest":{{"sha256":"{hashlib.sha256(B + A + B).hexdigest()}"}},'
        '"name":"m"}]}'
    )

    assert expected.encode() == oms_statement(manifest, "m").encode()


def test_resources_come_back() -> None:
    """Reading what was written gives the manifest, hence the model's name."""
    manifest = Manifest.of([("b.bin", B), ("a/x", A)])

    assert manifest == read_resources(oms_statement(manifest, "m"))
    assert read_oms(oms_statement(manifest, "m")).ignore_paths == ("claims.jsonl", "model.sig")


def test_root_does_not_bind_names_and_the_digest_does() -> None:
    """Two models with other names have one OMS root, and two digests."""
    one = oms_statement(Manifest.of([("config.json", A), ("w.bin", B)]), "m")
    two = oms_statement(Manifest.of([("evil.py", A), ("w.bin", B)]), "m")

    assert one.subject[0].digest == two.subject[0].digest
    assert read_resources(one).digest != read_resources(two).digest


def test_empty_model_is_not_signed() -> None:
    """A signature over nothing would fit every directory."""
    with pytest.raises(ValueError, match="has no files"):
        oms_statement(Manifest(()), "m")


def test_ignored_file_is_not_signed() -> None:
    """A file cannot be signed and left out at once."""
    with pytest.raises(ValueError, match="signed and ignored"):
        oms_statement(Manifest.of([("model.sig", A)]), "m")


def test_peers_may_sort_as_they_like() -> None:
    """Resources in another order are accepted; the root follows the payload's order."""

    def turn(predicate: dict[str, Any]) -> None:
        predicate["resources"].reverse()

    claim = read_oms(statement(turn, digests=(B, A)))

    assert [resource.name for resource in claim.resources] == ["b.bin", "a.txt"]


def test_later_minor_versions_are_read() -> None:
    """Every v1.x of the predicate is accepted, as the specification asks."""
    assert read_oms(statement(predicate_type=OMS.replace("v1.0", "v1.12"))).name == "m"


def test_extra_fields_of_a_resource_are_passed_over() -> None:
    """A peer may say more about a file, its size for instance."""
    assert read_oms(statement(lambda p: p["resources"][0].update(size=1))).name == "m"


def test_missing_ignore_paths_are_none() -> None:
    """Bundles before 1.1 do not say what they ignored."""
    claim = read_oms(statement(lambda p: p["serialization"].pop("ignore_paths")))

    assert claim.ignore_paths == ()
    assert not claim.ignores("model.sig")


def test_blake2b_is_read() -> None:
    """BLAKE2b digests have their full 64 bytes; the root is SHA-256 all the same."""
    digest = hashlib.blake2b(b"a").digest()

    def blake(predicate: dict[str, Any]) -> None:
        predicate["serialization"]["hash_type"] = "blake2b"
        predicate["resources"] = [{"name": "a", "algorithm": "blake2b", "digest": digest.hex()}]

    found = statement(blake, digests=(digest,))

    assert read_oms(found).hash_type == "blake2b"
    with pytest.raises(FormatError, match="does not name its files by sha256"):
        read_resources(found)


def test_wrong_root_is_refused() -> None:
    """A subject that is not the root of the resources is a contradiction."""
    with pytest.raises(DigestMismatchError, match="contradicts itself"):
        read_oms(statement(digests=(B, A)))


def resources(*values: Mapping[str, object]) -> Callable[[dict[str, Any]], object]:
    """Return a change that puts *values* in place of the resources."""
    return lambda predicate: predicate.update(resources=list(values))


def serialization(**values: object) -> Callable[[dict[str, Any]], object]:
    """Return a change to the serialization."""
    return lambda predicate: predicate["serialization"].update(values)


def named(name: object) -> dict[str, object]:
    """Return a resource with *name*."""
    return {"name": name, "algorithm": "sha256", "digest": A.hex()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (resources(), "signs no files"),
        (resources(named("a"), named("a")), "twice"),
        (resources(named("../a"), named("b")), "shortest form"),
        (resources(named("/a"), named("b")), "shortest form"),
        (resources(named("a//b"), named("b")), "shortest form"),
        (resources(named("a/./b"), named("b")), "shortest form"),
        (resources(named("."), named("b")), "shortest form"),
        (resources(named("a\\b")), "cannot hold"),
        (resources(named("a\0")), "cannot hold"),
        (resources(named("a\n")), "cannot hold"),
        (resources(named("")), "shortest form"),
        (resources(named(7)), "has no name"),
        (resources({"name": "a", "algorithm": "sha256", "digest": A.hex().upper()}), "lower-case"),
        (resources({"name": "a", "algorithm": "sha256", "digest": A.hex()[:-2]}), "64"),
        (resources({"name": "a", "algorithm": "sha256", "digest": 7}), "64"),
        (resources({"name": "a", "algorithm": "blake2b", "digest": A.hex()}), "not its hash_type"),
        (resources([]), "not an object"),  # type: ignore[arg-type]
        (lambda p: p.update(resources={}), "signs no files"),
        (lambda p: p.update(extra=1), "unknown field"),
        (lambda p: p.pop("serialization"), "no serialization"),
        (serialization(extra=1), "unknown field"),
        (serialization(method="shards", shard_size=7), "not supported yet"),
        (serialization(method="tensors"), "method"),
        (serialization(shard_size=7), "method"),
        (serialization(hash_type="blake3"), "BLAKE3"),
        (serialization(hash_type="md5"), "hash_type"),
        (serialization(hash_type=["sha256"]), "hash_type"),
        (serialization(allow_symlinks="no"), "allow_symlinks"),
        (serialization(ignore_paths="a"), "not a list"),
        (serialization(ignore_paths=[7]), "not text"),
        (serialization(ignore_paths=["."]), "ignores the path"),
        (serialization(ignore_paths=["../x"]), "ignores the path"),
        (serialization(ignore_paths=["/x"]), "ignores the path"),
        (serialization(ignore_paths=[""]), "ignores the path"),
        (serialization(ignore_paths=["a.txt"]), "covers the signed file"),
    ],
)
def test_bad_predicate_is_refused(change: Callable[[dict[str, Any]], object], reason: str) -> None:
    """What could cover more or less than it says is refused, with the reason."""
    with pytest.raises(FormatError) as caught:
        read_oms(statement(change))

    assert reason in f"{caught.value.what} {caught.value.why}"


def test_ignored_directory_must_not_hold_a_signed_file() -> None:
    """An ignored directory above a signed file is refused too."""

    def change(predicate: dict[str, Any]) -> None:
        predicate["resources"] = [named("d/a")]
        predicate["serialization"]["ignore_paths"] = ["d"]

    with pytest.raises(FormatError, match="model signature"):
        read_oms(statement(change, digests=(A,)))


def test_file_and_directory_of_one_name_have_no_manifest() -> None:
    """No tree can hold a file and a directory of one name."""
    with pytest.raises(FormatError):
        read_resources(statement(resources(named("a"), named("a/b")), digests=(A, A)))


def test_historic_predicate_is_refused_with_the_reason() -> None:
    """What model-signing 0.2 wrote is named, not just unknown."""
    with pytest.raises(FormatError, match=r"model-signing 0\.2"):
        read_oms(statement(predicate_type="https://model_signing/Digests/v0.1"))


@pytest.mark.parametrize(
    "predicate_type",
    ["https://example.com/v1.0", "https://model_signing/signature/v2.0", OMS + "1/", OMS[:-2]],
)
def test_other_predicates_are_refused(predicate_type: str) -> None:
    """Another predicate is not a model signature."""
    with pytest.raises(FormatError, match="not a model signature"):
        read_oms(statement(predicate_type=predicate_type))


def test_two_subjects_are_refused() -> None:
    """A model signature is about one model."""
    good = statement()
    with pytest.raises(FormatError, match="model signature"):
        read_oms(Statement(good.subject * 2, OMS, good.predicate))


def test_subject_without_sha256_is_refused() -> None:
    """The root is always SHA-256."""
    good = statement()
    with pytest.raises(FormatError, match="model signature"):
        read_oms(Statement((Subject("m", {"sha512": "00"}),), OMS, good.predicate))


def test_vector_holds() -> None:
    """The statement over names that sort differently by bytes, paths and UTF-16 is on file."""
    path = Path(__file__).parents[3] / "vectors" / "model-signature" / "statement.json"
    vector = json.loads(path.read_text())
    files = {name: bytes.fromhex(digest) for name, digest in vector["files"].items()}
    statement = Statement.decode(vector["expect"].encode())

    assert vector["source"]
    assert oms_statement(Manifest.of(files.items()), vector["name"]).encode() == (
        vector["expect"].encode()
    )
    assert read_oms(statement).root.hex == vector["root"]
    assert read_resources(statement).digest.hex == vector["dirHash"]
