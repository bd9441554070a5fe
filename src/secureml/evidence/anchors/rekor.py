"""
Rekor v2: the digest of a checkpoint as an entry of a public log.

The entry names the SHA-256 of the note and nothing else of the log.  Rekor
demands a signature by a key that it can verify over a digest, which Ed25519
is not, so an ECDSA P-256 key signs; it may be made for the occasion, for it
says nothing: the note is signed by its own log.

Of Rekor's answer only three things are used: the body, which has to name our
digest; the path; and the checkpoint, whose signature has to be by the key that
the caller trusts.  There is no time in it.

Source: sigstore/rekor-tiles, ``CLIENTS.md``; sigstore/protobuf-specs,
``sigstore_rekor.proto``.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from secureml.errors import FormatError, SignatureError, StoreError, UntrustedSignerError
from secureml.evidence.anchors._http import check_timeout, check_url, post
from secureml.evidence.anchors.receipt import Head, Receipt, check_anchor_name
from secureml.keys.signer import KeySigner, Signer
from secureml.keys.verifier import Verifier
from secureml.wire import canonical
from secureml.wire._read import array, decimal, malformed, reading, shown, text
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import ED25519, Note, key_id
from secureml.wire.tlogproof import TlogProof

__all__ = ["RekorAnchor", "RekorLog", "check_rekor", "rekor_holds"]

_LIMIT: Final = 1 << 20
_MAX_BODY: Final = 65_535
_SCHEME: Final = "ecdsa-p256"
_DETAILS: Final = "PKIX_ECDSA_P256_SHA_256"
_ANSWER: Final = "the answer of Rekor"
_BODY: Final = "the entry in Rekor"


@dataclass(frozen=True, slots=True, kw_only=True)
class RekorLog:
    """
    A Rekor v2 log that is trusted, by its key.

    Attributes:
        origin: The first line of its checkpoints.
        verifier: Its public key, Ed25519 or ECDSA P-256.

    Raises:
        ValueError: An empty origin, or a key of another scheme.
    """

    origin: str
    verifier: Verifier

    def __post_init__(self) -> None:
        if not self.origin or self.verifier.scheme not in {"ed25519", _SCHEME}:
            msg = "a Rekor log has an origin, and an ed25519 or ecdsa-p256 key"
            raise ValueError(msg)

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signature lines of this log name its key."""
        if self.verifier.scheme == "ed25519":
            return key_id(self.origin, ED25519, self.verifier.raw)
        return sha256(self.verifier.der).digest()[:4]

    def check(self, note: str) -> Checkpoint:
        """
        Check that this log signed the checkpoint in *note*, and return it.

        Raises:
            UntrustedSignerError: There is no signature by it.
            SignatureError: Its signature does not verify.
            FormatError: Not a signed checkpoint.
        """
        opened = Note.decode(note)
        checkpoint = Checkpoint.decode(opened.text)
        for line in opened.signatures:
            if line.name == self.origin and line.key_id == self.key_id:
                self.verifier.verify(line.signature, opened.text.encode())
                if checkpoint.origin == self.origin:
                    return checkpoint
        raise UntrustedSignerError(
            f"the checkpoint is not signed by the Rekor log {self.origin!r}",
            why=f"it is of {shown(checkpoint.origin)}, signed by "
            f"{shown(', '.join(one.name for one in opened.signatures[:4]))}",
            fix="compare origin and key with what the log's operator publishes; Rekor begins a "
            "new log from time to time",
        )


def check_rekor(body: bytes, proof: TlogProof, note: str, log: RekorLog) -> None:
    """
    Check that *log* has an entry for the digest of *note*.

    Args:
        body: The entry, as it is in the log.
        proof: Its inclusion, with the log's checkpoint.
        note: The checkpoint that was anchored.
        log: The log that is trusted.

    Raises:
        SignatureError: The entry is about other bytes, or the checkpoint's
            signature does not verify.
        UntrustedSignerError: The checkpoint is not the log's.
        InclusionError: The entry is not proven to be in the log.
        FormatError: The entry is no hashedrekord 0.0.2.
    """
    digest = _digest(body)
    if digest != sha256(note.encode()).digest():
        raise SignatureError(
            "the entry in Rekor is about something else",
            why=f"it names sha256:{digest.hex()[:16]}…, the checkpoint's note has "
            f"sha256:{sha256(note.encode()).hexdigest()[:16]}…",
            fix="keep the receipt as evidence, and anchor the checkpoint again",
        )
    checkpoint = log.check(proof.checkpoint)
    proof.inclusion.verify(body, size=checkpoint.size, root=checkpoint.root)


def _digest(body: bytes) -> bytes:
    """Return the SHA-256 that a hashedrekord of version 0.0.2 names."""
    value = canonical.parse(body, what=_BODY)
    kind = (_member(value, "kind"), _member(value, "apiVersion"))
    if kind != ("hashedrekord", "0.0.2"):
        raise malformed(_BODY, f"it is of the kind {shown(kind)}; hashedrekord 0.0.2 is read")
    data = _member(_member(_member(value, "spec"), "hashedRekordV002"), "data")
    algorithm = _member(data, "algorithm")
    if algorithm != "SHA2_256":
        raise malformed(_BODY, f"its digest is by {shown(algorithm)}; SHA2_256 is read")
    return b64decode(text(_member(data, "digest"), _BODY, "digest"))


def _member(value: JSON, name: str, what: str = _BODY) -> JSON:
    if not isinstance(value, dict) or name not in value:
        raise malformed(what, f"it has no member {name!r}")
    found: JSON = value[name]
    return found


def _ephemeral() -> Signer:
    return KeySigner(generate_private_key(SECP256R1()), purposes={"log"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RekorAnchor:
    """
    A Rekor v2 log, as an anchor.

    Attributes:
        name: What its file of receipts is called.
        url: Where its API is, without ``/api/v2``; https, or http on this machine.
        log: The log whose proof is verified, before it is kept.
        signer: An ECDSA P-256 key, whose public half is shown to everybody;
            by default one that is made for this object, and forgotten.
        purpose: What the signer is asked for.
        timeout: Seconds for one request; Rekor answers when its next
            checkpoint is out, so 20 or more.
        interval: Seconds between two entries; None for the policy's.

    Raises:
        ValueError: A field is out of range.
    """

    name: str
    url: str
    log: RekorLog
    signer: Signer = field(default_factory=_ephemeral)
    purpose: str = "log"
    timeout: float = 30.0
    interval: float | None = 600.0

    def __post_init__(self) -> None:
        check_anchor_name(self.name)
        object.__setattr__(self, "url", check_url(self.url))
        object.__setattr__(self, "timeout", check_timeout(self.timeout))
        if self.signer.verifier.scheme != _SCHEME:
            msg = f"Rekor takes an {_SCHEME} key here, not {self.signer.verifier.scheme}"
            raise ValueError(msg)

    @property
    def kind(self) -> str:
        """``rekor``."""
        return "rekor"

    def submit(self, head: Head) -> Receipt:
        """
        Log the digest of the checkpoint.

        Raises:
            VerificationError: Its answer is no proof that it did.
            FormatError: Its answer is not one of the protocol.
            StoreError: It refuses, or did not answer.
            KeyUnavailableError: The signer cannot sign now.
        """
        note = head.note.encode()
        if note.startswith(b"DSSEv1 "):
            msg = "a log whose name begins like an envelope is not signed for Rekor"
            raise ValueError(msg)
        signature = self.signer.sign(note, purpose=self.purpose)
        request: JSON = {
            "hashedRekordRequestV002": {
                "digest": b64encode(sha256(note).digest()),
                "signature": {
                    "content": b64encode(signature),
                    "verifier": {
                        "keyDetails": _DETAILS,
                        "publicKey": {"rawBytes": b64encode(self.signer.verifier.der)},
                    },
                },
            }
        }
        reply = post(
            f"{self.url}/api/v2/log/entries",
            canonical.encode(request),
            kind="application/json",
            accept="application/json",
            timeout=self.timeout,
            limit=_LIMIT,
        )
        if reply.status not in {200, 201}:
            raise StoreError(
                f"the log {self.name!r} took no entry",
                why=f"HTTP {reply.status}: {reply.text()}",
                fix="it is tried again; if it goes on, check the address: Rekor begins a new log, "
                "with another address and key, from time to time",
                retryable=reply.status == 429 or reply.status >= 500,  # noqa: PLR2004  Too Many
            )
        body, proof = _answer(reply.body)
        check_rekor(body, proof, head.note, self.log)
        return Receipt("rekor", head.note, {"body": b64encode(body), "proof": proof.encode()})


def _answer(data: bytes) -> tuple[bytes, TlogProof]:
    """Take the entry and its proof out of a TransparencyLogEntry."""
    value = canonical.parse(data, what=_ANSWER)
    body = b64decode(text(_member(value, "canonicalizedBody", _ANSWER), _ANSWER, "body"))
    if not 0 < len(body) <= _MAX_BODY:
        raise malformed(_ANSWER, f"its entry has {len(body):,} bytes")
    inclusion = _member(value, "inclusionProof", _ANSWER)
    index = (
        decimal(text(value.get("logIndex", "0"), _ANSWER, "logIndex"), _ANSWER, "logIndex")
        if isinstance(value, dict)
        else 0
    )
    hashes = inclusion.get("hashes", []) if isinstance(inclusion, dict) else []
    envelope = _member(_member(inclusion, "checkpoint", _ANSWER), "envelope", _ANSWER)
    with reading(_ANSWER):
        path = tuple(
            b64decode(text(one, _ANSWER, "hashes")) for one in array(hashes, _ANSWER, "hashes")
        )
        return body, TlogProof(index, path, text(envelope, _ANSWER, "envelope"))


def rekor_holds(receipt: Receipt, log: RekorLog) -> None:
    """
    Judge a receipt of the kind ``rekor``.

    Raises:
        VerificationError: *log* is not proven to have an entry for its note.
        FormatError: Its members are not in their format.
    """
    proof = TlogProof.decode(receipt.values["proof"])
    if proof.extra is not None:
        raise FormatError(
            "the proof in the receipt has extra bytes",
            why="nothing authenticates them, so they do not belong there",
            fix="get the receipt again from where it was kept",
        )
    check_rekor(b64decode(receipt.values["body"]), proof, receipt.note, log)
