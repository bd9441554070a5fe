"""
Sign a model: OpenSSF Model Signing v1.0 with an ECDSA key, in a Sigstore bundle.

A signature says *who* and *which bytes*, not *good*: what a model rests on is
the business of its chain of custody.

Source: OpenSSF Model Signing v1.0; Sigstore bundle v0.3; DSSE v1.
"""

import os
from pathlib import Path

from secureml._durable import write_beside
from secureml.errors import FormatError, SecureMLError
from secureml.hashing.files import open_regular
from secureml.hashing.tree import manifest as tree_manifest
from secureml.keys import Signer, Verifier
from secureml.models.oms import OWN_IGNORED, oms_statement
from secureml.wire.bundle import MAX_BUNDLE, Bundle, PublicKeyHint
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.statement import PAYLOAD_TYPE

__all__ = [
    "SIGNATURE_NAME",
    "check_key",
    "default_signature",
    "read_signature",
    "sign_model",
]

SIGNATURE_NAME = "model.sig"
"""The signature's file inside a model directory."""


def default_signature(path: str | os.PathLike[str]) -> Path:
    """Return where the signature of the model at *path* lies, unless told otherwise."""
    place = Path(path)
    return place.with_name(f"{place.name}.sig") if place.is_file() else place / SIGNATURE_NAME


def check_key(key: Verifier) -> None:
    """
    Check that OMS v1.0 can name a signature by *key*.

    Raises:
        ValueError: It is not an ECDSA key.
    """
    if not key.scheme.startswith("ecdsa-"):
        msg = (
            f"OpenSSF Model Signing v1.0 names ECDSA keys only, and this one is {key.scheme}: "
            "make one with secureml.keys.create(…, scheme='ecdsa-p256')"
        )
        raise ValueError(msg)


def sign_model(
    path: str | os.PathLike[str],
    *,
    key: Signer,
    signature: str | os.PathLike[str] | None = None,
) -> Bundle:
    """
    Sign the files of the model at *path*, and write the signature beside them.

    This is the plain signature, without a chain of custody: a relying party
    whose trust file has a rule for the model demands more.

    Args:
        path: The model's directory, or its one file.
        key: An ECDSA key that signs statements.
        signature: Where to write; `default_signature` when None.

    Raises:
        ValueError: The key is not ECDSA; there is nothing to sign; or the
            signature would lie inside the model under another name.
        KeyRoleError: The key does not sign statements.
        SecureMLError: The files cannot be read, or are not regular files.
    """
    check_key(key.verifier)
    place = Path(path)
    target = _target(place, signature)
    manifest = tree_manifest(place, exclude=() if place.is_file() else OWN_IGNORED)
    payload = oms_statement(manifest, place.resolve().name).encode()
    made = key.sign(pae(PAYLOAD_TYPE, payload), purpose="statements")
    bundle = Bundle(
        # OMS says who signed beside the envelope, so its keyid is empty.
        envelope=Envelope(PAYLOAD_TYPE, payload, (Signature("", made),)),
        material=PublicKeyHint(key.verifier.hint),
    )
    write_beside(target, bundle.encode())
    return bundle


def read_signature(
    path: str | os.PathLike[str], *, signature: str | os.PathLike[str] | None = None
) -> Bundle:
    """
    Read the bundle that signs the model at *path*; nothing is verified.

    Raises:
        FormatError: There is none, or it is not a bundle.
    """
    place = default_signature(path) if signature is None else Path(signature)
    try:
        # Where a signature lies the caller says, so a link to it is followed; a FIFO never is.
        with open(open_regular(place, follow_symlinks=True), "rb") as file:  # noqa: PTH123  a descriptor
            data = file.read(MAX_BUNDLE + 1)
    except (OSError, SecureMLError) as error:
        raise FormatError(
            f"there is no model signature to read at {str(place)!r}",
            why=error.why if isinstance(error, SecureMLError) else str(error),
            fix="sign the model with sign_model, or say where its signature lies: signature=…",
        ) from error
    return Bundle.decode(data)


def _target(path: Path, signature: str | os.PathLike[str] | None) -> Path:
    target = default_signature(path) if signature is None else Path(signature)
    real, place = path.resolve(), target.parent.resolve() / target.name
    if place.is_relative_to(real) and place != real / SIGNATURE_NAME:
        msg = (
            f"inside a model directory the signature is named {SIGNATURE_NAME!r}: "
            f"write {target.name!r} outside of it"
        )
        raise ValueError(msg)
    return target
