"""
Sigstore bundles v0.3: an envelope with what is needed to verify it.

Three parties write them: secureml, model-signing (OMS v1.0 and its forebears)
and sigstore.  All are read, in any spelling of JSON; one spelling is written.
A bundle that signs a file's digest instead of an envelope is refused: it says
nothing that a statement could be joined on.

Entries of our logs are `TlogEntry`; what other logs wrote is kept as it is in
`ForeignTlogEntry`, so nothing that a later verifier may need is lost.

Source: sigstore/protobuf-specs, ``sigstore_bundle.proto`` v0.3; OpenSSF Model
Signing v1.0; for our entries ``docs/spec/claims.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from secureml.wire import canonical
from secureml.wire._read import array, decimal, malformed, members, reading, shown, text
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.dsse import Envelope
from secureml.wire.merkle import HASH_SIZE, InclusionProof
from secureml.wire.note import Note
from secureml.wire.tiles import MAX_ENTRY

__all__ = [
    "KIND",
    "MAX_BUNDLE",
    "MEDIA_TYPE",
    "VERSION",
    "Bundle",
    "Certificate",
    "CertificateChain",
    "ForeignTlogEntry",
    "LegacyPublicKey",
    "Material",
    "PublicKeyHint",
    "TlogEntry",
]

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""The media type that is written."""
MAX_BUNDLE: Final = 16 * 1024 * 1024
"""Largest bundle, in bytes."""
KIND: Final = "secureml.statement"
"""The kind of our log entries; their body is a leaf of the statement log."""
VERSION: Final = "1"

_READ = frozenset(
    {
        MEDIA_TYPE,
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.3",
    }
)
_WHAT = "the bundle"
_MAX_PATH = 63


@dataclass(frozen=True, slots=True)
class PublicKeyHint:
    """
    Signed by a key that the verifier must already hold.

    Attributes:
        hint: Which key; for OMS the SHA-256, in hex, of its PEM text.

    Raises:
        ValueError: The hint is empty.
    """

    hint: str

    def __post_init__(self) -> None:
        if not self.hint:
            msg = "the hint of a public key is empty"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class LegacyPublicKey:
    """
    A public key as model-signing wrote it before 1.1: inside, never a root of trust.

    Attributes:
        raw_bytes: The key, as PEM or DER.
        key_details: Its scheme, in the words of sigstore; may be empty.
        hint: As `PublicKeyHint`; may be empty.

    Raises:
        ValueError: No bytes.
    """

    raw_bytes: bytes
    key_details: str = ""
    hint: str = ""

    def __post_init__(self) -> None:
        if not self.raw_bytes:
            msg = "a public key has no bytes"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """
    Signed under an X.509 chain.

    Attributes:
        certificates: DER, the leaf first; at least one.

    Raises:
        ValueError: No certificate, or an empty one.
    """

    certificates: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.certificates or not all(self.certificates):
            msg = "a certificate chain has at least one certificate, and none is empty"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Certificate:
    """
    Signed under one short-lived certificate: sigstore's keyless way.

    Attributes:
        raw: The certificate in DER.

    Raises:
        ValueError: No bytes.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if not self.raw:
            msg = "a certificate has no bytes"
            raise ValueError(msg)


Material: TypeAlias = PublicKeyHint | LegacyPublicKey | CertificateChain | Certificate


@dataclass(frozen=True, slots=True)
class TlogEntry:
    """
    Inclusion of the statement in a log of ours.

    Attributes:
        log_index: Position of the leaf, from 0.
        log_id: SHA-256 of the DER public key that signed the checkpoint, 32
            bytes.
        kind: `KIND`.
        version: `VERSION`.
        body: The leaf, ``docs/spec/log-entry.md``.
        tree_size: Size of the tree that the path is for.
        root: Root of that tree, 32 bytes.
        path: Sibling hashes from the leaf upwards, 32 bytes each.
        checkpoint: The signed note of the checkpoint with that size and root.

    Raises:
        ValueError: A part is out of bounds, or the checkpoint has another
            size or root.
        FormatError: The checkpoint is not a signed checkpoint.
    """

    log_index: int
    log_id: bytes
    kind: str
    version: str
    body: bytes
    tree_size: int
    root: bytes
    path: tuple[bytes, ...]
    checkpoint: str

    def __post_init__(self) -> None:
        if (self.kind, self.version) != (KIND, VERSION):
            msg = f"a log entry of ours is {KIND} version {VERSION}"
            raise ValueError(msg)
        if not 0 <= self.log_index < self.tree_size < 1 << 63:
            msg = f"a log of {self.tree_size} entries has no entry {self.log_index}"
            raise ValueError(msg)
        if not 1 <= len(self.body) <= MAX_ENTRY:
            msg = f"the body of a log entry has 1 to {MAX_ENTRY:,} bytes, not {len(self.body):,}"
            raise ValueError(msg)
        if len(self.path) > _MAX_PATH or any(
            len(one) != HASH_SIZE for one in (self.log_id, self.root, *self.path)
        ):
            msg = f"the log id, the root and up to {_MAX_PATH} hashes of a path have 32 bytes each"
            raise ValueError(msg)
        head = self.head
        if (head.size, head.root) != (self.tree_size, self.root):
            msg = "its checkpoint has another size or root than the proof"
            raise ValueError(msg)

    @property
    def head(self) -> Checkpoint:
        """What the checkpoint says; untrusted until its note is verified."""
        return Checkpoint.decode(Note.decode(self.checkpoint).text)

    @property
    def inclusion(self) -> InclusionProof:
        """The proof to verify against the checkpoint, once that is verified."""
        return InclusionProof(index=self.log_index, path=self.path)

    def to_json(self) -> dict[str, JSON]:
        """Return the entry as the JSON members of a TransparencyLogEntry."""
        return {
            "canonicalizedBody": b64encode(self.body),
            "inclusionProof": {
                "checkpoint": {"envelope": self.checkpoint},
                "hashes": [b64encode(one) for one in self.path],
                "logIndex": str(self.log_index),
                "rootHash": b64encode(self.root),
                "treeSize": str(self.tree_size),
            },
            "kindVersion": {"kind": self.kind, "version": self.version},
            "logId": {"keyId": b64encode(self.log_id)},
            "logIndex": str(self.log_index),
        }

    @classmethod
    def from_json(cls, value: JSON, /) -> "TlogEntry":
        """
        Read an entry of ours.

        Raises:
            FormatError: Not one, or one that contradicts itself.
        """
        what = "the log entry of the bundle"
        top = members(
            value,
            what,
            required=("canonicalizedBody", "inclusionProof", "kindVersion", "logId", "logIndex"),
        )
        proof = members(
            top["inclusionProof"],
            what,
            required=("checkpoint", "hashes", "logIndex", "rootHash", "treeSize"),
        )
        if top["logIndex"] != proof["logIndex"]:
            raise malformed(what, "the proof is for another log index than the entry")
        kind = members(top["kindVersion"], what, required=("kind", "version"))
        log_id = members(top["logId"], what, required=("keyId",))
        note = members(proof["checkpoint"], what, required=("envelope",))
        with reading(what):
            return cls(
                log_index=decimal(text(top["logIndex"], what, "logIndex"), what, "logIndex"),
                log_id=_bytes(log_id["keyId"], what, "keyId"),
                kind=text(kind["kind"], what, "kind"),
                version=text(kind["version"], what, "version"),
                body=_bytes(top["canonicalizedBody"], what, "canonicalizedBody"),
                tree_size=decimal(text(proof["treeSize"], what, "treeSize"), what, "treeSize"),
                root=_bytes(proof["rootHash"], what, "rootHash"),
                path=tuple(
                    _bytes(one, what, "hashes") for one in array(proof["hashes"], what, "hashes")
                ),
                checkpoint=text(note["envelope"], what, "envelope"),
            )


@dataclass(frozen=True, slots=True)
class ForeignTlogEntry:
    """
    An entry of a log that is not ours, kept and not understood.

    Attributes:
        raw: The entry's JSON object, in canonical spelling.

    Raises:
        FormatError: Not a canonical JSON object, or one of our kind.
    """

    raw: bytes

    def __post_init__(self) -> None:
        what = "the foreign log entry"
        value = canonical.decode(self.raw)
        if not isinstance(value, dict):
            raise malformed(what, "it must be an object")
        if _is_ours(value):
            raise malformed(what, f"its kind is {KIND}, which is ours")

    @property
    def kind(self) -> str:
        """What the other log calls the entry, or an empty text."""
        value = self.to_json().get("kindVersion")
        kind = value.get("kind") if isinstance(value, dict) else None
        return kind if isinstance(kind, str) else ""

    def to_json(self) -> dict[str, JSON]:
        """Return the entry as JSON members."""
        value = canonical.decode(self.raw)
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Bundle:
    """
    An envelope with what is needed to verify it; untrusted until verified.

    Attributes:
        envelope: The signed statement.
        material: Which key or certificate signed it.
        tlog_entries: Its places in logs.
        timestamps: RFC 3161 time stamp responses over the signature, in DER.

    Raises:
        ValueError: A short-lived certificate without a log entry, which
            nothing could verify later; or an empty time stamp.
    """

    envelope: Envelope
    material: Material
    tlog_entries: tuple[TlogEntry | ForeignTlogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.material, Certificate) and not self.tlog_entries:
            msg = "a certificate for one signature needs at least one log entry"
            raise ValueError(msg)
        if not all(self.timestamps):
            msg = "a time stamp is empty"
            raise ValueError(msg)

    def encode(self) -> bytes:
        """
        Return the bundle as canonical JSON: one line, no newline.

        Raises:
            ValueError: It is larger than `MAX_BUNDLE`, or a text in it has a
                lone surrogate.
        """
        material: dict[str, JSON] = dict(_material_json(self.material))
        material["tlogEntries"] = [entry.to_json() for entry in self.tlog_entries]
        if self.timestamps:
            material["timestampVerificationData"] = {
                "rfc3161Timestamps": [
                    {"signedTimestamp": b64encode(one)} for one in self.timestamps
                ]
            }
        data = canonical.encode(
            {
                "dsseEnvelope": self.envelope.to_json(),
                "mediaType": MEDIA_TYPE,
                "verificationMaterial": material,
            }
        )
        if len(data) > MAX_BUNDLE:
            msg = f"a bundle has at most {MAX_BUNDLE:,} bytes, not {len(data):,}"
            raise ValueError(msg)
        return data

    @classmethod
    def decode(cls, data: bytes, /) -> "Bundle":
        """
        Read a bundle in any spelling of JSON.

        Raises:
            FormatError: Not a Sigstore bundle v0.1 to v0.3 with a DSSE
                envelope, one with unknown members, or one beyond `MAX_BUNDLE`.
        """
        if len(data) > MAX_BUNDLE:
            raise malformed(_WHAT, f"it is larger than {MAX_BUNDLE:,} bytes")
        value = canonical.parse(data, what=_WHAT)
        parts = ("mediaType", "verificationMaterial", "dsseEnvelope")
        top = members(value, _WHAT, required=("mediaType",), optional=(*parts, "messageSignature"))
        media_type = text(top["mediaType"], _WHAT, "mediaType")
        if media_type not in _READ:
            raise malformed(_WHAT, f"its media type is {shown(media_type)}, not {MEDIA_TYPE}")
        if "messageSignature" in top:
            raise malformed(
                _WHAT,
                "it signs the digest of a file, not a statement",
                "ask for a bundle with a DSSE envelope; this one is for sigstore's own tools",
            )
        top = members(value, _WHAT, required=parts)
        material = members(
            top["verificationMaterial"],
            _WHAT,
            required=(),
            optional=(*_MATERIALS, "tlogEntries", "timestampVerificationData"),
        )
        entries = material.get("tlogEntries")
        stamps = material.get("timestampVerificationData")
        with reading(_WHAT):
            return cls(
                Envelope.from_json(top["dsseEnvelope"]),
                _material(material),
                ()
                if entries is None
                else tuple(map(_entry, array(entries, _WHAT, "tlogEntries"))),
                () if stamps is None else _timestamps(stamps),
            )


_MATERIALS = ("publicKey", "x509CertificateChain", "certificate")


def _bytes(value: JSON, what: str, name: str) -> bytes:
    return b64decode(text(value, what, name))


def _der(value: JSON) -> bytes:
    return _bytes(members(value, _WHAT, required=("rawBytes",))["rawBytes"], _WHAT, "rawBytes")


def _is_ours(value: dict[str, JSON]) -> bool:
    kind = value.get("kindVersion")
    return isinstance(kind, dict) and kind.get("kind") == KIND


def _entry(value: JSON) -> TlogEntry | ForeignTlogEntry:
    if isinstance(value, dict) and _is_ours(value):
        return TlogEntry.from_json(value)
    return ForeignTlogEntry(canonical.encode(value))


def _timestamps(value: JSON) -> tuple[bytes, ...]:
    stamps = members(value, _WHAT, required=(), optional=("rfc3161Timestamps",))
    listed = stamps.get("rfc3161Timestamps", [])
    return tuple(
        _bytes(
            members(one, _WHAT, required=("signedTimestamp",))["signedTimestamp"],
            _WHAT,
            "signedTimestamp",
        )
        for one in array(listed, _WHAT, "rfc3161Timestamps")
    )


def _material_json(material: Material) -> dict[str, JSON]:
    match material:
        case PublicKeyHint(hint):
            return {"publicKey": {"hint": hint}}
        case LegacyPublicKey(raw_bytes, key_details, hint):
            key: dict[str, JSON] = {"rawBytes": b64encode(raw_bytes)}
            if key_details:
                key["keyDetails"] = key_details
            if hint:
                key["hint"] = hint
            return {"publicKey": key}
        case CertificateChain(certificates):
            listed = [{"rawBytes": b64encode(one)} for one in certificates]
            return {"x509CertificateChain": {"certificates": listed}}
        case Certificate(raw):
            return {"certificate": {"rawBytes": b64encode(raw)}}


def _material(value: Mapping[str, JSON]) -> Material:
    named = [name for name in _MATERIALS if value.get(name) is not None]
    if len(named) != 1:
        raise malformed(
            _WHAT,
            f"exactly one of {', '.join(_MATERIALS)} must say who signed, found {len(named)}",
        )
    found = value[named[0]]
    if named[0] == "certificate":
        return Certificate(_der(found))
    if named[0] == "x509CertificateChain":
        chain = members(found, _WHAT, required=("certificates",))
        return CertificateChain(
            tuple(map(_der, array(chain["certificates"], _WHAT, "certificates")))
        )
    key = members(found, _WHAT, required=(), optional=("hint", "rawBytes", "keyDetails"))
    hint = text(key.get("hint", ""), _WHAT, "hint")
    if "rawBytes" in key:
        return LegacyPublicKey(
            _bytes(key["rawBytes"], _WHAT, "rawBytes"),
            text(key.get("keyDetails", ""), _WHAT, "keyDetails"),
            hint,
        )
    if "keyDetails" in key:
        raise malformed(_WHAT, "'keyDetails' describes a key that is not there")
    return PublicKeyHint(hint)
