"""Facts about `secureml.wire.dsse` and `secureml.wire.statement`."""

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from secureml.errors import FormatError
from secureml.wire import canonical, dsse, statement
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope, Signature
from secureml.wire.statement import PAYLOAD_TYPE, Statement, Subject

VECTORS = Path(__file__).parents[3] / "vectors" / "dsse"
ONE = Statement((Subject("a", {"sha256": "00" * 32}),), "https://example.com/p", {"k": [1, "x"]})
ENVELOPE = Envelope(PAYLOAD_TYPE, ONE.encode(), (Signature("", b"sig"),))


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_pae(path: Path) -> None:
    """The signed bytes are the specified bytes, and the published signature is over them."""
    vector = json.loads(path.read_text())
    envelope = Envelope.decode(vector["envelope"].encode())
    sig = envelope.signatures[0].sig
    key = ec.EllipticCurvePublicNumbers(
        int(vector["x"]), int(vector["y"]), ec.SECP256R1()
    ).public_key()

    assert vector["source"]
    assert vector["expect"].encode() == dsse.pae(
        vector["payload_type"], vector["payload"].encode()
    )
    assert vector["expect"].encode() == envelope.signed_bytes()
    r, s = int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big")
    key.verify(encode_dss_signature(r, s), envelope.signed_bytes(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(encode_dss_signature(r, s), b"DSSEv1 ", ec.ECDSA(hashes.SHA256()))


def test_lengths_count_bytes() -> None:
    """PAE counts bytes of UTF-8, not characters."""
    assert "DSSEv1 2 \u00e9 3 \u20ac".encode() == dsse.pae("\u00e9", "\u20ac".encode())


def test_what_an_envelope_gives() -> None:
    """The digest names the payload; the payload is a statement."""
    assert Digest.sha256(ONE.encode()) == ENVELOPE.digest
    assert ENVELOPE.statement() == ONE
    assert Envelope.decode(ENVELOPE.encode()) == ENVELOPE
    assert ENVELOPE.encode() == canonical.encode(ENVELOPE.to_json())


@pytest.mark.parametrize("keyid", ['"keyid":null,', '"keyid":"",', ""])
def test_an_absent_keyid_has_three_spellings(keyid: str) -> None:
    """``keyid`` may be absent, null or empty."""
    data = f'{{"payload":"eA==","payloadType":"t","signatures":[{{{keyid}"sig":"eA=="}}]}}'

    assert Envelope("t", b"x", (Signature("", b"x"),)) == Envelope.decode(data.encode())


def test_both_alphabets_of_base64_are_read() -> None:
    """A verifier must read standard and URL-safe base 64 alike."""
    data = b'{"payload":"-_-_","payloadType":"t","signatures":[{"sig":"+/+/"}]}'

    assert Envelope("t", b"\xfb\xff\xbf", (Signature("", b"\xfb\xff\xbf"),)) == Envelope.decode(
        data
    )


def envelope_with(**changes: JSON) -> bytes:
    """Spell the envelope with some members changed or absent."""
    value = {**ENVELOPE.to_json(), **changes}
    return json.dumps({k: v for k, v in value.items() if v != "absent"}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"payload":"","payload":""}',
        envelope_with(extra=1),
        envelope_with(payload="absent"),
        envelope_with(payload=1),
        envelope_with(payload="eB=="),
        envelope_with(payloadType=""),
        envelope_with(payloadType=None),
        envelope_with(signatures=[]),
        envelope_with(signatures={}),
        envelope_with(signatures=["sig"]),
        envelope_with(signatures=[{}]),
        envelope_with(signatures=[{"sig": ""}]),
        envelope_with(signatures=[{"sig": None}]),
        envelope_with(signatures=[{"sig": "eA=="}, {"sig": "e"}]),
        envelope_with(signatures=[{"sig": "eA==", "keyid": 1}]),
        envelope_with(signatures=[{"sig": "eA==", "cert": "x"}]),
    ],
)
def test_malformed_envelopes_are_refused(data: bytes) -> None:
    """The structure of an envelope is strict."""
    with pytest.raises(FormatError):
        Envelope.decode(data)


def test_an_envelope_of_another_type_has_no_statement() -> None:
    """The payload type decides what a payload is, not its looks."""
    with pytest.raises(FormatError, match="'text/plain'"):
        Envelope("text/plain", ONE.encode(), ENVELOPE.signatures).statement()


def statement_with(**changes: JSON) -> bytes:
    """Spell the statement with some members changed or absent."""
    value = {**json.loads(ONE.encode()), **changes}
    return json.dumps({k: v for k, v in value.items() if v != "absent"}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        statement_with(_type="https://in-toto.io/Statement/v0.1"),
        statement_with(_type="absent"),
        statement_with(subject=[]),
        statement_with(subject="absent"),
        statement_with(subject={}),
        statement_with(subject=["a"]),
        statement_with(subject=[{"name": "a"}]),
        statement_with(subject=[{"name": "a", "digest": {}}]),
        statement_with(subject=[{"name": "a", "digest": []}]),
        statement_with(subject=[{"name": "a", "digest": {"sha256": 1}}]),
        statement_with(subject=[{"name": 1, "digest": {"sha256": "00"}}]),
        statement_with(predicateType=""),
        statement_with(predicateType=None),
        statement_with(predicate=[]),
        statement_with(predicate="absent"),
        statement_with(predicate_type="x"),
        ONE.encode()[:-1] + b',"predicate":{}}',
    ],
)
def test_malformed_statements_are_refused(data: bytes) -> None:
    """The structure of a statement is strict."""
    with pytest.raises(FormatError):
        Statement.decode(data)


def test_a_statement_is_read_in_any_spelling() -> None:
    """Spacing is free, and members of a subject that nobody knows are read over."""
    data = statement_with(
        subject=[{"digest": {"x": "00"}, "annotations": {"a": 1}, "uri": "u"}],
        predicate={"shard_size": 1.0},
    )

    assert Statement(
        (Subject("", {"x": "00"}),), "https://example.com/p", {"shard_size": 1.0}
    ) == Statement.decode(data)


def test_constructors_refuse_what_could_not_be_read() -> None:
    """What has no encoding cannot be built."""
    with pytest.raises(ValueError, match="subject"):
        Statement((), "t", {})
    with pytest.raises(ValueError, match="predicate type"):
        Statement(ONE.subject, "", {})
    with pytest.raises(ValueError, match="digest"):
        Subject("a", {})
    with pytest.raises(ValueError, match="signature"):
        Envelope("t", b"", ())
    with pytest.raises(ValueError, match="payload type"):
        Envelope("", b"", ENVELOPE.signatures)
    with pytest.raises(ValueError, match="empty"):
        Signature("", b"")
    with pytest.raises(TypeError):
        Statement(ONE.subject, "t", {"metric": 0.5}).encode()


def test_predicate_types_are_distinct_and_ours_share_one_prefix() -> None:
    """Every own predicate type begins with the one prefix; none is named twice."""
    names = [n for n in statement.__all__ if n.isupper() and not n.endswith(("_TYPE", "_PREFIX"))]
    types = [getattr(statement, name) for name in names]

    assert len(set(types)) == 11
    assert sum(kind.startswith(statement.PREDICATE_PREFIX) for kind in types) == 7
