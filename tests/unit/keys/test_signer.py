"""Signers: purposes are kept, secrets stay."""

import copy
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from secureml.errors import KeyRoleError, KeyUnavailableError
from secureml.keys import PURPOSES, KeySigner, Signer, generate


def test_a_key_signs_for_its_purposes_only() -> None:
    """Another purpose is a KeyRoleError that names both."""
    signer = generate("ed25519", purposes={"audit"})

    signer.sign(b"", purpose="audit")
    for purpose in PURPOSES - {"audit"}:
        with pytest.raises(KeyRoleError, match=f"(?s){purpose}.*opened for audit"):
            signer.sign(b"", purpose=purpose)


def test_an_unknown_purpose_is_a_bug() -> None:
    """A purpose that does not exist is a ValueError, when asked for and when given."""
    with pytest.raises(ValueError, match="audit, log, statements"):
        generate().sign(b"", purpose="model")
    with pytest.raises(ValueError, match="models"):
        generate(purposes={"models"})
    with pytest.raises(ValueError, match=r"\[\]"):
        generate(purposes=())
    with pytest.raises(TypeError, match="not the string"):
        generate(purposes="log")


def test_an_unknown_scheme_is_a_bug() -> None:
    """The error lists the schemes."""
    with pytest.raises(ValueError, match="ecdsa-p521, mldsa-44, got 'rsa'"):
        generate("rsa")


def test_it_is_a_signer() -> None:
    """`KeySigner` meets the protocol that a KMS adapter will meet."""
    assert isinstance(generate(), Signer)


def test_repr_tells_whose_key_and_nothing_else() -> None:
    """A repr ends up in logs."""
    signer = generate(purposes=["log", "statements"])

    assert repr(signer) == (
        f"<KeySigner ecdsa-p256 {signer.verifier.fingerprint} for log, statements>"
    )


@pytest.mark.parametrize("out", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_does_not_leave_the_process(out: object) -> None:
    """Neither pickle nor copy takes a private key along."""
    assert callable(out)
    with pytest.raises(TypeError, match="holds a private key"):
        out(generate())


def test_other_keys_are_refused() -> None:
    """An RSA key is not a signer."""
    with pytest.raises(KeyUnavailableError, match="type RSA"):
        KeySigner(rsa.generate_private_key(65537, 2048))  # type: ignore[arg-type]
