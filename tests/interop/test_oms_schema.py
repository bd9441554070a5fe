"""What we write passes the JSON Schemas of OpenSSF Model Signing v1.0."""

import json
from base64 import b64decode
from pathlib import Path

import pytest

from secureml.errors import FormatError
from secureml.keys import generate
from secureml.models import read_oms, sign_model
from secureml.wire.bundle import Bundle

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

VECTORS = Path(__file__).parents[2] / "vectors" / "oms"


def validate(name: str, value: object) -> None:
    """Hold *value* against the schema *name*, which may refer to the others."""
    schemas = {
        path.name.partition(".")[0]: json.loads(path.read_text())
        for path in (VECTORS / "schemas").glob("*.json")
    }
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas.values()
    )
    jsonschema.Draft202012Validator(schemas[name], registry=registry).validate(value)


@pytest.mark.parametrize("scheme", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_our_signature_passes_every_schema(tmp_path: Path, scheme: str) -> None:
    """Bundle, envelope, statement and predicate each pass."""
    (tmp_path / "m" / "deep").mkdir(parents=True)
    (tmp_path / "m" / "deep" / "a.txt").write_text("a")
    (tmp_path / "m" / "b.json").write_text("{}")
    sign_model(tmp_path / "m", key=generate(scheme))
    bundle = json.loads((tmp_path / "m" / "model.sig").read_bytes())
    statement = json.loads(b64decode(bundle["dsseEnvelope"]["payload"]))

    validate("bundle", bundle)
    validate("envelope", bundle["dsseEnvelope"])
    validate("statement", statement)
    validate("predicate", statement["predicate"])


@pytest.mark.parametrize("name", ["key", "certificate", "sigstore"])
def test_valid_vectors_are_read(name: str) -> None:
    """The published valid bundles are read, whoever signed them."""
    bundle = Bundle.decode((VECTORS / "vectors" / "valid" / f"{name}.bundle.json").read_bytes())

    assert read_oms(bundle.envelope.statement()).name


@pytest.mark.parametrize(
    "path",
    sorted((VECTORS / "vectors").glob("invalid*/*.json")),
    ids=lambda path: path.name.partition(".")[0],
)
def test_invalid_vectors_are_refused(path: Path) -> None:
    """The published invalid bundles are a FormatError."""
    with pytest.raises(FormatError):
        read_oms(Bundle.decode(path.read_bytes()).envelope.statement())
