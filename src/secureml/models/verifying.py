"""
Verify a model: the files at a path are exactly those that somebody trusted signed.

`verify_model` hashes the files and keeps nothing.  `open_model` reads each file
once, keeps its bytes, and gives them out when they are the signed ones.  So
what was checked is what is used, whatever happens to the path afterwards.

With a bare key instead of a trust file, nothing is known about the signer but
the key, and the result says ``"signature only"``.

Source: OpenSSF Model Signing v1.0, section 6.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, final

from secureml._html import card
from secureml.errors import SignatureError, UntrustedSignerError
from secureml.evidence.trust import Trust
from secureml.evidence.verify import Evidence, verify
from secureml.keys import Verifier
from secureml.models._state import TOKEN, Made
from secureml.models.files import FoundFiles, compare, find_files
from secureml.models.oms import read_oms
from secureml.models.signing import default_signature, read_signature
from secureml.wire.bundle import Bundle, LegacyPublicKey, PublicKeyHint
from secureml.wire.digest import Digest
from secureml.wire.manifest import Manifest

__all__ = [
    "SIGNATURE_ONLY",
    "TRUSTED",
    "VerifiedFiles",
    "VerifiedModel",
    "open_model",
    "verify_model",
]

SIGNATURE_ONLY: Final = "signature only"
"""A good signature by the key that was given; nothing says whose key it is."""

TRUSTED: Final = "trusted signer"
"""A good signature by an identity with the role ``model``."""

_ROLE = "model"


class _Root(NamedTuple):
    """Whom to believe; one of the first three is given."""

    trust: Trust | None
    key: Verifier | None
    evidence: Evidence | None
    at: datetime | None


@final
class VerifiedModel(Made):
    """
    A model whose files are exactly what was signed.

    Only `verify_model` and `open_model` make one.

    Attributes:
        name: The model's base name where it was signed; a label.
        digest: ``dirHash`` of the files, the name that everything else joins on.
        oms_root: The root that the OMS subject carries; it does not bind names.
        signer: Name of the trusted identity; empty when only a key was given.
        fingerprint: Of the key that signed.
        strength: `TRUSTED`, or `SIGNATURE_ONLY` for a bare key.
        manifest: The signed files.
        ignored: Files that are present and that the signature leaves out.
        evidence: The signature as evidence; None for a bare key.
    """

    __slots__ = (
        "digest",
        "evidence",
        "fingerprint",
        "ignored",
        "manifest",
        "name",
        "oms_root",
        "signer",
        "strength",
    )
    name: str
    digest: Digest
    oms_root: Digest
    signer: str
    fingerprint: str
    strength: str
    manifest: Manifest
    ignored: tuple[str, ...]
    evidence: Evidence | None

    @property
    def digests(self) -> Mapping[str, str]:
        """Every digest that names the model, algorithm → hex."""
        return self.digest.as_set()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the signed files, in the order of the manifest."""
        return tuple(entry.name for entry in self.manifest)

    def __repr__(self) -> str:
        return f"<VerifiedModel {self.name!r} {self.digest.short}: {self.strength}>"

    def _repr_html_(self) -> str:
        return card(
            f"Model {self.name}: {self.strength}",
            [
                ("digest", self.digest),
                ("signed by", self.signer or self.fingerprint),
                ("files", ", ".join(self.files[:20])),
                ("not covered", ", ".join(self.ignored) or "nothing"),
            ],
            note="A signature says who and which bytes, not that the model is good.",
        )


@final
class VerifiedFiles(Made, Mapping[str, bytes]):
    """
    The very bytes that were verified, by file name: load from these, not from the path.

    Only `open_model` makes one.

    Attributes:
        model: What was verified about them.
    """

    __slots__ = ("_contents", "model")
    model: VerifiedModel
    _contents: Mapping[str, bytes]

    def __getitem__(self, name: str) -> bytes:
        return self._contents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)

    def __repr__(self) -> str:
        return f"<VerifiedFiles of {self.model!r}: {', '.join(self)}>"


def open_model(
    path: str | os.PathLike[str],
    *,
    signature: str | os.PathLike[str] | None = None,
    trust: Trust | None = None,
    key: Verifier | None = None,
    evidence: Evidence | None = None,
    allow_ignored: Collection[str] = (),
    at: datetime | None = None,
) -> VerifiedFiles:
    """
    Verify as `verify_model` does, and return the bytes that were verified.

    Each file is opened once, and is held in memory.

    Raises:
        FormatError: As `verify_model`.
        VerificationError: As `verify_model`.
        StoreError: As `verify_model`.
        TypeError: As `verify_model`.
    """
    root = _Root(trust, key, evidence, at)
    model, found = _verified(Path(path), signature, root, allow_ignored, keep=True)
    return VerifiedFiles(TOKEN, model=model, _contents=found.contents)


def verify_model(
    path: str | os.PathLike[str],
    *,
    signature: str | os.PathLike[str] | None = None,
    trust: Trust | None = None,
    key: Verifier | None = None,
    evidence: Evidence | None = None,
    allow_ignored: Collection[str] = (),
    at: datetime | None = None,
) -> VerifiedModel:
    """
    Verify that the files at *path* are exactly those that somebody trusted signed.

    The files are hashed and not kept: to load them, use `open_model`.

    Exactly one of *trust*, *key* and *evidence* says whom to believe.

    Args:
        path: The model's directory, or its one file.
        signature: Where the signature lies; `default_signature` when None.
        trust: Its identities with the role ``model`` may sign.
        key: One public key; the result then says ``"signature only"``.
        evidence: The same envelope, verified before (as a leaf of a log, say).
        allow_ignored: Paths that may be present though the signer left them
            out; ``model.sig`` and ``claims.jsonl`` always may.
        at: The time to judge an identity's validity at; now when None.

    Raises:
        FormatError: The signature is not one, or of a kind that is not supported.
        VerificationError: It does not hold; the error's type says why.
        StoreError: A file cannot be read.
        TypeError: Not exactly one of *trust*, *key* and *evidence*.
    """
    root = _Root(trust, key, evidence, at)
    model, _ = _verified(Path(path), signature, root, allow_ignored, keep=False)
    return model


def _verified(
    path: Path,
    signature: str | os.PathLike[str] | None,
    root: _Root,
    allow_ignored: Collection[str],
    *,
    keep: bool,
) -> tuple[VerifiedModel, FoundFiles]:
    if sum(one is not None for one in (root.trust, root.key, root.evidence)) != 1:
        msg = "say whom to trust, in exactly one way: trust=, key= or evidence="
        raise TypeError(msg)
    place = default_signature(path) if signature is None else Path(signature)
    bundle = read_signature(path, signature=place)
    signer, fingerprint, proof = _signer(bundle, root)
    claim = read_oms(bundle.envelope.statement())
    found = find_files(path, claim, signature=place, keep=keep)
    manifest = compare(path, claim, found, allow_ignored=allow_ignored)
    model = VerifiedModel(
        TOKEN,
        name=claim.name,
        digest=manifest.digest,
        oms_root=claim.root,
        signer=signer,
        fingerprint=fingerprint,
        strength=SIGNATURE_ONLY if proof is None else TRUSTED,
        manifest=manifest,
        ignored=found.others,
        evidence=proof,
    )
    return model, found


def _signer(bundle: Bundle, root: _Root) -> tuple[str, str, Evidence | None]:
    """Return the signer's name, the key's fingerprint, and the evidence."""
    material, envelope = bundle.material, bundle.envelope
    if not isinstance(material, PublicKeyHint | LegacyPublicKey):
        raise UntrustedSignerError(
            "the model is signed with a certificate, not with a key",
            why="a trust file names public keys; certificates and keyless signatures are not "
            "verified yet, so this one says nothing here",
            fix="ask the signer for a signature with a key, and pin that key in the trust file",
        )
    if root.key is not None:
        _check_key_signature(bundle, root.key, material.hint)
        return "", root.key.fingerprint, None
    evidence = root.evidence
    if root.trust is not None:
        if material.hint:
            _check_hint(bundle, root.trust, material.hint)
        evidence = verify(envelope, trust=root.trust, role=_ROLE, at=root.at)
    if evidence is None or evidence.role != _ROLE or evidence.envelope != envelope:
        raise UntrustedSignerError(
            "the evidence that was given is not about this model signature",
            why="it proves another envelope, or one in another role",
            fix="verify the envelope of this signature, in the role 'model'",
        )
    verifier = evidence.signer.verifier
    if material.hint and verifier.hint != material.hint:
        raise _other_hint(material.hint, verifier)
    return evidence.signer.name, verifier.fingerprint, evidence


def _check_hint(bundle: Bundle, trust: Trust, hint: str) -> None:
    """Check the signature under the trusted key that the bundle names, and no other."""
    for identity in trust.with_role(_ROLE):
        if identity.verifier.hint == hint:
            for signature in bundle.envelope.signatures:
                identity.verifier.verify(signature.sig, bundle.envelope.signed_bytes())
            return
    raise UntrustedSignerError(
        "the model was signed with a key that the trust file does not name for models",
        why=f"no identity with the role {_ROLE!r} has the key {hint[:16]}…",
        fix="do not use the model; if its signer is to be trusted, compare the key's "
        "fingerprint with them, and add it to the trust file",
    )


def _check_key_signature(bundle: Bundle, key: Verifier, hint: str) -> None:
    signatures = bundle.envelope.signatures
    if len(signatures) != 1:
        raise SignatureError(
            f"the model's envelope has {len(signatures)} signatures",
            why="exactly one is expected, so that none of them is left unchecked",
            fix="get the signature again from where the model was signed",
        )
    if hint and hint != key.hint:
        raise UntrustedSignerError(
            "the model was signed with another key than the one that was given",
            why=f"the signature names the key {hint[:16]}…, the given one is {key.hint[:16]}…",
            fix="compare the fingerprints with the signer, and pass the key that signed",
        )
    key.verify(signatures[0].sig, bundle.envelope.signed_bytes())


def _other_hint(hint: str, verifier: Verifier) -> SignatureError:
    return SignatureError(
        "the model's signature names another key than the one that made it",
        why=f"it names {hint[:16]}…, and verifies under {verifier.hint[:16]}…",
        fix="get the signature again from where the model was signed",
    )
