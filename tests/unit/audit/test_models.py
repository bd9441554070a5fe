# ruff: noqa: ANN401  fixtures and hostile values are of any type, and some are not read
"""A record calls a model verified only if its handle carries evidence about that very digest."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from secureml import audit
from secureml.audit._models import load_body, model_field
from secureml.evidence.attest import attest
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.verify import Evidence, verify
from secureml.keys import files
from secureml.wire import statement as st
from secureml.wire.digest import Digest
from secureml.wire.manifest import Manifest
from secureml.wire.statement import Statement, Subject

MANIFEST = Manifest.of([("model.skops", bytes(32)), ("config.json", bytes([1]) * 32)])
SIGNER = files.generate("ecdsa-p256")


def evidence(statement: Statement, role: str) -> Evidence:
    """Return *statement* as evidence."""
    identity = Identity(name="signer", verifier=SIGNER.verifier, roles=frozenset({role}))
    trust = Trust(identities=(identity,))
    return verify(attest(statement, SIGNER), trust=trust, role=role)


def signature(manifest: Manifest = MANIFEST, algorithm: str = "sha256") -> Evidence:
    """Return the evidence of a model signature."""
    resources = [
        {"algorithm": algorithm, "digest": entry.sha256.hex(), "name": entry.name}
        for entry in manifest
    ]
    subject = Subject(name="model", digest={"sha256": "ab" * 32})
    return evidence(
        Statement(
            subject=(subject,),
            predicate_type=st.OMS,
            predicate={"resources": resources, "serialization": {"method": "files"}},
        ),
        "model",
    )


def provenance(digest: Digest = MANIFEST.digest) -> Evidence:
    """Return evidence about a model by its digest."""
    subject = Subject(name="model", digest=digest.as_set())
    return evidence(
        Statement(subject=(subject,), predicate_type="https://example.com/x", predicate={}), "run"
    )


def handle(*proofs: object, digest: object = MANIFEST.digest, name: object = "m") -> Any:
    """Return something like what load_model returns."""
    return SimpleNamespace(digest=digest, evidence=proofs, name=name)


VERIFIED = {"digest": str(MANIFEST.digest), "name": "m", "status": "verified"}


def test_a_verified_handle_is_recorded_with_its_digest() -> None:
    """The digest comes from the evidence: a signature's files, or a subject."""
    assert model_field(handle(signature())) == VERIFIED
    assert model_field(handle(provenance())) == VERIFIED
    assert model_field(handle(signature(), provenance())) == VERIFIED
    assert (
        model_field(SimpleNamespace(digest=MANIFEST.digest, evidence=signature(), name="m"))
        == VERIFIED
    )


OTHER = Manifest.of([("model.skops", bytes([7]) * 32)])


@pytest.mark.parametrize(
    "model",
    [
        "diagnosis:v3",
        object(),
        handle(),
        handle(signature(OTHER)),
        handle(provenance(OTHER.digest)),
        handle(signature(algorithm="blake2b")),
        handle("evidence"),
        handle(signature(), "and more"),
        handle(signature(), digest=str(MANIFEST.digest)),
        handle(signature(), digest=Digest("sha256", MANIFEST.digest.value)),
    ],
)
def test_anything_else_is_unverified(model: object) -> None:
    """A name, foreign evidence, or none, makes no verified model, and no digest is recorded."""
    field = model_field(model)

    assert field["status"] == "unverified"
    assert field.keys() <= {"status", "name"}
    with pytest.raises(TypeError, match="is no verified model"):
        load_body(model, None)


@pytest.mark.parametrize("name", ["", "x" * 513, 5, None, "\ud800"])
def test_a_name_that_is_none_is_left_out(name: object) -> None:
    """What cannot be a name is not recorded."""
    assert model_field(handle(name=name)) == {"status": "unverified"}


def test_calls_name_the_model(bench: Any, audited: Any) -> None:
    """A handle is recorded with each call, and so is the one that a function returns."""
    models = [handle(signature()), handle(signature(OTHER), digest=OTHER.digest), "name"]

    @audited(model=models[0])
    def fixed() -> None: ...

    @audited(model=lambda: models[1])
    def changing() -> None: ...

    @audited(model=models[2])
    def named() -> None: ...

    @audited()
    def without() -> None: ...

    with audit.collect() as collected:
        fixed()
        changing()
        models[1] = models[0]
        changing()
        named()
        without()

    records = bench.calls()
    digests = [str(MANIFEST.digest), str(OTHER.digest), str(MANIFEST.digest), None, None]
    assert digests == [r.model and r.model.digest for r in records]
    assert digests == [c.model for c in collected]
    assert [r.model.status for r in records[:4]] == ["verified"] * 3 + ["unverified"]
    assert (records[3].model.name, records[4].model) == ("name", None)


def test_a_model_that_is_a_callable_object_is_a_handle(bench: Any, audited: Any) -> None:
    """An estimator that can be called is not called to get a model."""

    class Net:
        def __call__(self) -> None:
            raise AssertionError

    audited(model=Net())(lambda: None)()

    assert bench.calls()[0].model.status == "unverified"


def test_a_model_load_says_on_what_it_rests(bench: Any) -> None:
    """The record of a load names the evidence, the trust and the blob of the claims."""
    claims = Digest.sha256(b"claims")
    proof = signature()

    bench.log.record_model_load(handle(proof), claims=claims)

    (record,) = (r for r in bench.records() if r.type == "model-load")
    assert claims == record.claims
    assert record.outcome == "ok"
    assert {
        **VERIFIED,
        "claims": str(claims),
        "evidence": [str(proof.digest)],
        "trust": str(proof.trust_digest),
    } == record.body["model"]
    with pytest.raises(TypeError, match="is no verified model"):
        bench.log.record_model_load("diagnosis:v3")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_new_writer_says_again_what_is_loaded(bench: Any) -> None:
    """A child made by fork is a writer that repeats the loads, so that each stands on its own."""
    bench.log.record_model_load(handle(signature()))
    predict = audit.audited(bench.log, action="a", durable=True)(lambda: None)

    child = os.fork()
    if not child:
        try:
            predict()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    predict()

    found: dict[str, list[str]] = {}
    for record in bench.records():
        found.setdefault(record.writer, []).append(record.type)
    writers = [types for types in found.values() if "call" in types]
    assert [["start", "model-load", "call"]] * 2 == [types[:3] for types in writers]


def test_only_a_load_has_claims(bench: Any, audited: Any) -> None:
    """The claims of other records are None."""
    audited(model=handle(signature()))(lambda: None)()

    assert bench.calls()[0].claims is None
    assert bench.calls()[0].model.digest == str(MANIFEST.digest)


def verdict(passed: bool = True, gate: str = "train-data@1") -> Evidence:  # noqa: FBT001, FBT002  a test's value
    """Return the decision of a gate as evidence."""
    subject = Subject(name="model", digest=MANIFEST.digest.as_set())
    result = "PASSED" if passed else "FAILED"
    predicate = {"policy": {"name": gate}, "verificationResult": result}
    return evidence(
        Statement(subject=(subject,), predicate_type=st.VSA, predicate=predicate), "gate"
    )


def test_a_call_names_the_gates_that_the_model_rests_on(bench: Any, audited: Any) -> None:
    """The decisions among a verified model's evidence are recorded, unless others are given."""
    proofs = (signature(), verdict(), verdict(passed=False, gate="bias@1"))
    model = handle(*proofs)

    audited(model=model)(lambda: None)()
    audited(model=lambda: model)(lambda: None)()
    audited(model=model, gates=["own"])(lambda: None)()
    audited(model=handle(verdict(), signature(OTHER)))(lambda: None)()
    audited(model=handle(verdict(), digest=OTHER.digest))(lambda: None)()

    first, second, third, fourth, fifth = bench.calls()
    assert first.body["gates"] == [
        {"decision": str(proofs[2].digest), "name": "bias@1", "result": "failed"},
        {"decision": str(proofs[1].digest), "name": "train-data@1", "result": "passed"},
    ]
    assert second.body["gates"] == first.body["gates"]
    assert third.body["gates"] == [{"name": "own"}]
    assert fourth.model.status == "verified"
    assert [gate["name"] for gate in fourth.body["gates"]] == ["train-data@1"]
    assert "gates" not in fifth.body


def test_gates_are_given_as_names_decisions_or_mappings(bench: Any, audited: Any) -> None:
    """A gate is recorded by its name, and by its decision where one is given."""
    from secureml.gates.policy import Decision

    decision = Decision(
        allowed=True,
        reasons=(),
        at="2026-11-22T08:30:00.000000Z",
        gate="train-data@1",
        gate_digest=Digest.sha256(b"plan"),
        subject="data",
        subject_digest=Digest.sha256(b"data"),
    )

    @audited(gates=lambda n: [decision, "named", {"name": "m", "result": "passed"}][:n])
    def predict(n: int) -> None: ...

    for n in range(4):
        predict(n)

    found = [record.body.get("gates") for record in bench.calls()]
    assert found[0] is None
    assert found[3] == [
        {"decision": str(decision.digest), "name": "train-data@1", "result": "passed"},
        {"name": "named"},
        {"name": "m", "result": "passed"},
    ]
    for gates, error in (
        ("one", TypeError),
        ({"name": "one"}, TypeError),
        ([5], TypeError),
        ([""], ValueError),
        ([{"name": "m", "result": "Yes!"}], ValueError),
        ([{"name": "m", "decision": "abc"}], ValueError),
        ([{"name": "m", "decision": 5}], TypeError),
    ):
        with pytest.raises(error, match="'gates'"):
            audited(gates=gates)(lambda: None)


@pytest.mark.parametrize("version", ["3.1", None, 5, "", "x" * 129])
def test_the_version_of_a_model(version: object) -> None:
    """A version that is a text is recorded; like the name, it proves nothing."""
    model = handle(signature())
    model.version = version

    assert model_field(model).get("version") == ("3.1" if version == "3.1" else None)


def test_a_handle_that_changed_is_read_again(bench: Any, audited: Any) -> None:
    """A provider's handle is remembered as long as what it rests on is the same."""
    model = handle(signature())
    predict = audited(model=lambda: model)(lambda: None)

    predict()
    predict()
    model.digest = OTHER.digest
    predict()
    model.version = "2"
    predict()

    statuses = [record.model.status for record in bench.calls()]
    assert statuses == ["verified", "verified", "unverified", "unverified"]
    assert bench.calls()[3].body["model"]["version"] == "2"
