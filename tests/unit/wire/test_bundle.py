"""Facts about `secureml.wire.bundle`: what others wrote, and what we write."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from secureml.errors import FormatError
from secureml.wire import canonical, merkle
from secureml.wire.bundle import (
    KIND,
    MAX_BUNDLE,
    MEDIA_TYPE,
    VERSION,
    Bundle,
    Certificate,
    CertificateChain,
    ForeignTlogEntry,
    LegacyPublicKey,
    PublicKeyHint,
    TlogEntry,
)
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.dsse import Envelope, Signature
from secureml.wire.logentry import LogEntry
from secureml.wire.note import Note, NoteSignature, key_hash
from secureml.wire.statement import OMS, PAYLOAD_TYPE

VECTORS = Path(__file__).parents[3] / "vectors"
VALID = sorted((VECTORS / "oms/vectors/valid").iterdir())
INVALID = sorted((VECTORS / "oms/vectors/invalid").iterdir())
HISTORY = json.loads((VECTORS / "oms-history/source.json").read_text())
SIGSTORE = json.loads((VECTORS / "sigstore/source.json").read_text())

ENVELOPE = Envelope(PAYLOAD_TYPE, b"{}", (Signature("k", b"s"),))
LEAF = LogEntry.of(ENVELOPE, "2026-11-22T08:30:00.000000Z")[0]
OTHER = merkle.leaf_hash(b"other")
ROOT = merkle.node_hash(OTHER, merkle.leaf_hash(LEAF))
NOTE = Note(
    Checkpoint("example.com/log", 2, ROOT).encode(),
    (NoteSignature("example.com/log", b"abcd", b"s"),),
).encode()
ENTRY = TlogEntry(
    log_index=1,
    log_id=key_hash("example.com/log", 1, bytes(32)),
    kind=KIND,
    version=VERSION,
    body=LEAF,
    tree_size=2,
    root=ROOT,
    path=(OTHER,),
    checkpoint=NOTE,
)
BUNDLE = Bundle(ENVELOPE, PublicKeyHint("k"), (ENTRY,))


def fixed_point(data: bytes) -> Bundle:
    """Decode *data*, and check that what was decoded has one spelling."""
    bundle = Bundle.decode(data)
    spelled = bundle.encode()
    assert bundle == Bundle.decode(spelled)
    assert spelled == Bundle.decode(spelled).encode()
    assert canonical.decode(spelled)
    assert b"\n" not in spelled
    return bundle


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_valid_oms_bundles(path: Path) -> None:
    """The valid vectors of the OMS specification are read, and are OMS statements."""
    assert fixed_point(path.read_bytes()).envelope.statement().predicate_type == OMS


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.name)
def test_invalid_oms_bundles(path: Path) -> None:
    """The invalid vectors of the OMS specification are refused."""
    with pytest.raises(FormatError):
        Bundle.decode(path.read_bytes())


def test_a_bundle_with_another_predicate() -> None:
    """A bundle about something else is a bundle; its statement says so."""
    path = VECTORS / "oms/vectors/invalid-payload/wrong-predicate.bundle.json"

    assert fixed_point(path.read_bytes()).envelope.statement().predicate_type != OMS


@pytest.mark.parametrize("name", HISTORY["expect"])
def test_bundles_of_model_signing(name: str) -> None:
    """What model-signing 0.2 to 1.1 wrote is read."""
    bundle = fixed_point((VECTORS / "oms-history" / name / "model.sig").read_bytes())
    kinds = {"key": PublicKeyHint, "certificate": CertificateChain, "sigstore": Certificate}

    assert HISTORY["source"]
    assert HISTORY["expect"][name] == bundle.envelope.statement().predicate_type
    assert isinstance(bundle.material, kinds[name.rsplit("-", 1)[1]])


@pytest.mark.parametrize("name", SIGSTORE["expect"])
def test_bundles_of_sigstore(name: str) -> None:
    """A bundle with an envelope is read whole; one that signs a file is refused."""
    data = (VECTORS / "sigstore" / name).read_bytes()
    verdict, _, why = SIGSTORE["expect"][name].partition(": ")

    assert SIGSTORE["source"]
    if verdict == "accepted":
        bundle = fixed_point(data)
        material = json.loads(data)["verificationMaterial"]
        (entry,) = bundle.tlog_entries
        assert isinstance(entry, ForeignTlogEntry)
        assert material["tlogEntries"][0] == entry.to_json()
        assert entry.kind == "hashedrekord"
        assert len(bundle.timestamps) == 1
    else:
        with pytest.raises(FormatError) as caught:
            Bundle.decode(data)
        assert "SML100" == verdict == caught.value.code
        assert caught.value.why.startswith(why)


def test_our_bundle() -> None:
    """A bundle of ours is canonical JSON with the field names of Sigstore."""
    value = json.loads(BUNDLE.encode())
    (entry,) = value["verificationMaterial"]["tlogEntries"]

    assert fixed_point(BUNDLE.encode()) == BUNDLE
    assert value["mediaType"] == MEDIA_TYPE
    assert {"dsseEnvelope", "mediaType", "verificationMaterial"} == set(value)
    assert (
        entry["logIndex"],
        entry["inclusionProof"]["logIndex"],
        entry["inclusionProof"]["treeSize"],
    ) == ("1", "1", "2")
    assert entry["kindVersion"] == {"kind": "secureml.statement", "version": "1"}
    assert Checkpoint("example.com/log", 2, ROOT) == ENTRY.head
    ENTRY.inclusion.verify(LEAF, size=2, root=ROOT)


@pytest.mark.parametrize(
    "material",
    [
        PublicKeyHint("k"),
        LegacyPublicKey(b"pem"),
        LegacyPublicKey(b"pem", "PKIX_ECDSA_P256_SHA_256"),
        LegacyPublicKey(b"pem", "PKIX_ECDSA_P256_SHA_256", "hint"),
        CertificateChain((b"leaf", b"root")),
        Certificate(b"leaf"),
    ],
)
def test_every_material_comes_back(
    material: PublicKeyHint | LegacyPublicKey | CertificateChain | Certificate,
) -> None:
    """Whoever signed, and with time stamps or without."""
    fixed_point(Bundle(ENVELOPE, material, (ENTRY,)).encode())
    assert (
        material == fixed_point(Bundle(ENVELOPE, material, (ENTRY,), (b"ts",)).encode()).material
    )


Change = Callable[[dict[str, JSON]], None]


def at(*path: str | int) -> Callable[[JSON], Change]:
    """Make a change of the member at *path*."""

    def to(value: JSON) -> Change:
        def change(top: dict[str, JSON]) -> None:
            item = top
            for step in path[:-1]:
                item = item[step]  # type: ignore[index, assignment]
            if value == "absent":
                del item[path[-1]]  # type: ignore[arg-type]
            else:
                item[path[-1]] = value  # type: ignore[index]

        return change

    return to


VM = "verificationMaterial"
E = (VM, "tlogEntries", 0)
PROOF = (*E, "inclusionProof")


@pytest.mark.parametrize(
    "change",
    [
        at("mediaType")("absent"),
        at("mediaType")("application/json"),
        at("mediaType")(None),
        at("extra")(1),
        at("messageSignature")({}),
        at("dsseEnvelope")({}),
        at("dsseEnvelope")(None),
        at("dsseEnvelope", "signatures")([]),
        at(VM)([]),
        at(VM, "extra")(1),
        at(VM, "publicKey")("absent"),
        at(VM, "publicKey")({}),
        at(VM, "publicKey")({"hint": ""}),
        at(VM, "publicKey")({"hint": 1}),
        at(VM, "publicKey")({"rawBytes": ""}),
        at(VM, "publicKey")({"keyDetails": "x", "hint": "k"}),
        at(VM, "publicKey")({"hint": "k", "extra": 1}),
        at(VM, "certificate")({"rawBytes": "eA=="}),
        at(VM, "x509CertificateChain")({"certificates": [{"rawBytes": "eA=="}]}),
        at(VM, "tlogEntries")({}),
        at(VM, "tlogEntries")([1]),
        at(VM, "tlogEntries")([{"n": 1.5}]),
        at(VM, "timestampVerificationData")([]),
        at(VM, "timestampVerificationData")({"extra": 1}),
        at(VM, "timestampVerificationData")({"rfc3161Timestamps": {}}),
        at(VM, "timestampVerificationData")({"rfc3161Timestamps": [{}]}),
        at(VM, "timestampVerificationData")({"rfc3161Timestamps": [{"signedTimestamp": ""}]}),
        at(*E, "logIndex")(1),
        at(*E, "logIndex")("01"),
        at(*E, "logIndex")("0"),
        at(*E, "logIndex")("-1"),
        at(*E, "integratedTime")("1"),
        at(*E, "canonicalizedBody")("absent"),
        at(*E, "canonicalizedBody")(""),
        at(*E, "canonicalizedBody")("eB=="),
        at(*E, "logId")({}),
        at(*E, "logId", "keyId")("eA=="),
        at(*E, "kindVersion", "version")("2"),
        at(*E, "kindVersion", "version")(1),
        at(*E, "kindVersion", "extra")("x"),
        at(*PROOF, "logIndex")("0"),
        at(*PROOF, "treeSize")("3"),
        at(*PROOF, "treeSize")("1"),
        at(*PROOF, "treeSize")("9223372036854775808"),
        at(*PROOF, "rootHash")("A" * 43 + "="),
        at(*PROOF, "rootHash")("eA=="),
        at(*PROOF, "hashes")("x"),
        at(*PROOF, "hashes")(["eA=="]),
        at(*PROOF, "hashes")(["A" * 43 + "="] * 64),
        at(*PROOF, "checkpoint")({}),
        at(*PROOF, "checkpoint", "envelope")("no note"),
        at(*PROOF, "checkpoint", "envelope")(NOTE.replace("\n2\n", "\n3\n")),
        at(*PROOF, "extra")(1),
    ],
)
def test_malformed_bundles_are_refused(change: Change) -> None:
    """Unknown members, contradictions and wrong types are refused."""
    value = json.loads(BUNDLE.encode())
    change(value)

    with pytest.raises(FormatError):
        Bundle.decode(json.dumps(value).encode())


def test_material_that_could_be_read_two_ways_or_not_at_all() -> None:
    """An empty chain and an empty certificate are no material."""
    for name, material in [
        ("x509CertificateChain", {"certificates": []}),
        ("x509CertificateChain", {"certificates": [{"rawBytes": ""}]}),
        ("x509CertificateChain", {"certificates": [{}]}),
        ("x509CertificateChain", {}),
        ("certificate", {"rawBytes": ""}),
        ("certificate", {"rawBytes": "eA==", "x": 1}),
        ("certificate", []),
    ]:
        value = json.loads(BUNDLE.encode())
        del value[VM]["publicKey"]
        value[VM][name] = material
        with pytest.raises(FormatError):
            Bundle.decode(json.dumps(value).encode())


def test_absent_lists_may_be_null_or_empty() -> None:
    """Protobuf writes an empty list as absent, as empty, or as null."""
    bare = Bundle(ENVELOPE, PublicKeyHint("k"))
    value = json.loads(bare.encode())

    lists: tuple[JSON, ...] = ([], None, "absent")
    objects: tuple[JSON, ...] = ({}, None, "absent", {"rfc3161Timestamps": []})
    for entries in lists:
        for stamps in objects:
            value[VM] = {"publicKey": {"hint": "k"}}
            if entries != "absent":
                value[VM]["tlogEntries"] = entries
            if stamps != "absent":
                value[VM]["timestampVerificationData"] = stamps
            assert bare == Bundle.decode(json.dumps(value, indent=1).encode())


def test_older_media_types_are_read() -> None:
    """Versions 0.1 to 0.3, in both ways of writing the media type."""
    value = json.loads(BUNDLE.encode())

    for version in ("0.1", "0.2", "0.3"):
        value["mediaType"] = f"application/vnd.dev.sigstore.bundle+json;version={version}"
        assert Bundle.decode(json.dumps(value).encode()) == BUNDLE


def test_a_bundle_that_is_too_large_is_refused_unread() -> None:
    """16 MiB are the limit, both ways."""
    with pytest.raises(FormatError, match="larger"):
        Bundle.decode(b"[" * (MAX_BUNDLE + 1))
    huge = Envelope(PAYLOAD_TYPE, bytes(MAX_BUNDLE), ENVELOPE.signatures)
    with pytest.raises(ValueError, match="at most"):
        Bundle(huge, PublicKeyHint("k")).encode()


def test_bundles_that_could_not_be_read_cannot_be_built() -> None:
    """What has no encoding cannot be built."""
    for build in (
        lambda: PublicKeyHint(""),
        lambda: LegacyPublicKey(b""),
        lambda: CertificateChain(()),
        lambda: CertificateChain((b"",)),
        lambda: Certificate(b""),
        lambda: Bundle(ENVELOPE, Certificate(b"x")),
        lambda: Bundle(ENVELOPE, PublicKeyHint("k"), (), (b"",)),
        lambda: replace(ENTRY, kind="dsse"),
        lambda: replace(ENTRY, version="2"),
        lambda: replace(ENTRY, log_index=2),
        lambda: replace(ENTRY, log_index=-1),
        lambda: replace(ENTRY, body=b""),
        lambda: replace(ENTRY, body=bytes(65_536)),
        lambda: replace(ENTRY, log_id=b"abcd"),
        lambda: replace(ENTRY, path=(b"",)),
        lambda: replace(ENTRY, tree_size=3),
        lambda: replace(ENTRY, root=bytes(32)),
    ):
        with pytest.raises(ValueError, match=r"."):
            build()
    with pytest.raises(FormatError):
        replace(ENTRY, checkpoint="no note")


def test_foreign_entries_are_kept_in_canonical_spelling() -> None:
    """What another log wrote is not understood, and not lost."""
    entry = ForeignTlogEntry(b'{"kindVersion":{"kind":"dsse"},"x":[1]}')

    assert entry.kind == "dsse"
    assert ForeignTlogEntry(b"{}").kind == ""
    assert ForeignTlogEntry(b'{"kindVersion":{"kind":1}}').kind == ""
    for raw in (b"[]", b"{ }", b"", canonical.encode(ENTRY.to_json())):
        with pytest.raises(FormatError):
            ForeignTlogEntry(raw)


def test_the_published_schema_admits_what_we_write() -> None:
    """Our bundle has the members that the OMS schema requires, and no other at the top."""
    schema = json.loads((VECTORS / "oms/schemas/bundle.schema.json").read_text())

    assert set(schema["required"]) == set(json.loads(BUNDLE.encode()))
