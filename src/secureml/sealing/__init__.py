"""
Encryption of captured values, under keys that can be destroyed one by one.

Each person has a key of their own.  What is captured about them is encrypted
with it before it reaches a file; who destroys the key erases the values, in
every copy, and breaks no proof: leaves hold digests of ciphertexts.

Source: docs/spec/sealed-values.md.
"""

from secureml.sealing.cipher import Encrypted, SubjectKey
from secureml.sealing.keys import SubjectKeys

__all__ = ["Encrypted", "SubjectKey", "SubjectKeys"]
