"""The hash goes with the curve, as others who know only the scheme's name expect."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from secureml import keys
from secureml.errors import SignatureError

HASHES = {"ecdsa-p256": SHA256(), "ecdsa-p384": SHA384(), "ecdsa-p521": SHA512()}


@pytest.mark.parametrize(("scheme", "algorithm"), HASHES.items(), ids=HASHES)
def test_others_verify_what_we_sign(scheme: str, algorithm: HashAlgorithm) -> None:
    """A signature by each curve verifies under the hash of its size."""
    signer = keys.generate(scheme)
    public = load_pem_public_key(signer.verifier.pem.encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)

    signature = signer.sign(b"message", purpose="statements")

    public.verify(signature, b"message", ec.ECDSA(algorithm))


@pytest.mark.parametrize(("scheme", "algorithm"), HASHES.items(), ids=HASHES)
def test_another_hash_is_refused(scheme: str, algorithm: HashAlgorithm) -> None:
    """A signature over another hash of the message is refused."""
    private = ec.generate_private_key(
        {"ecdsa-p256": ec.SECP256R1, "ecdsa-p384": ec.SECP384R1, "ecdsa-p521": ec.SECP521R1}[
            scheme
        ]()
    )
    verifier = keys.Verifier.from_key(private.public_key())

    verifier.verify(private.sign(b"message", ec.ECDSA(algorithm)), b"message")
    for other in HASHES.values():
        if other.name != algorithm.name:
            with pytest.raises(SignatureError):
                verifier.verify(private.sign(b"message", ec.ECDSA(other)), b"message")
