"""
Measure: the digest of files, trees and tables, independent of how they were found.

Hashing a folder needs no key, no log and no store.
"""

import hashlib
from typing import TYPE_CHECKING

from secureml.hashing.files import hash_bytes, hash_file, open_regular
from secureml.hashing.table import (
    ColumnDigest,
    TableDigest,
    TableHasher,
    canonical_schema,
    canonicalise,
    digest_and_canonicalise,
    table_digest,
)
from secureml.hashing.tree import manifest

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "ColumnDigest",
    "TableDigest",
    "TableHasher",
    "canonical_schema",
    "canonicalise",
    "digest_and_canonicalise",
    "hash_bytes",
    "hash_file",
    "manifest",
    "new",
    "open_regular",
    "table_digest",
]

_ALGORITHMS = ("sha256", "sha384", "sha512", "blake2b")


def new(algorithm: str = "sha256", data: bytes = b"") -> "_Hash":
    """
    Return a hash object with hashlib's interface, of an algorithm that evidence may use.

    Raises:
        ValueError: MD5, SHA-1 or another algorithm that no digest here may name.
    """
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"{algorithm!r} is not one of {', '.join(_ALGORITHMS)}")
    return hashlib.new(algorithm, data)
