"""
Keys: who signs (`Signer`), who checks (`Verifier`), and the files that hold them.

A signer states what it may sign (`Signer.purposes`) and refuses all else, so a
process that serves predictions can hold a key that is unable to sign a model.
A verifier is a plain value: the public key, named by its fingerprint.
"""

from secureml.keys.files import create, generate, is_encrypted, load, load_public, make
from secureml.keys.signer import PURPOSES, KeySigner, Signer
from secureml.keys.verifier import SCHEMES, Verifier

__all__ = [
    "PURPOSES",
    "SCHEMES",
    "KeySigner",
    "Signer",
    "Verifier",
    "create",
    "generate",
    "is_encrypted",
    "load",
    "load_public",
    "make",
]
