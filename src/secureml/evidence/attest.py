"""
Attest: a statement and a key become an envelope.

What is signed are the canonical bytes of the statement, inside DSSE's
pre-authentication encoding, which also covers their type.

Source: DSSE v1, in-toto Statement v1.
"""

from secureml.keys import Signer
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.statement import PAYLOAD_TYPE, Statement

__all__ = ["attest"]


def attest(statement: Statement, signer: Signer, *, purpose: str = "statements") -> Envelope:
    """
    Sign *statement*.

    Args:
        statement: What is said, and about which names.
        signer: The key; its hint becomes the ``keyid``, which helps to find it
            and proves nothing.
        purpose: For what the key signs: ``statements``, or ``log`` and
            ``audit`` for what a log says of itself (anchors, seals).

    Raises:
        KeyRoleError: The key does not sign for *purpose*.
        TypeError, ValueError: The statement has no canonical bytes.
    """
    payload = statement.encode()
    signature = signer.sign(pae(PAYLOAD_TYPE, payload), purpose=purpose)
    return Envelope(PAYLOAD_TYPE, payload, (Signature(signer.verifier.hint, signature),))
