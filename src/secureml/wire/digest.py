"""
Names of things: a digest, and the algorithm that made it.

Only algorithms that resist collisions are known, each with the one length it
has.  A digest that is cut short, or made by MD5 or SHA-1, is refused where it
is read, so no later code can compare it by mistake.

``dirHash`` and ``tableDigest1`` are SHA-256 over a manifest and over the
logical content of a table.  They carry a name of their own, because the same
32 bytes would mean something else as the SHA-256 of a file.

Source: in-toto attestation framework v1, DigestSet.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from secureml.errors import FormatError
from secureml.wire._read import malformed, shown

__all__ = ["DIR_HASH", "SHA256", "SIZES", "TABLE_DIGEST", "Digest"]

SHA256: Final = "sha256"
"""The bytes of a file or blob."""
DIR_HASH: Final = "dirHash"
"""A tree of files, by its manifest."""
TABLE_DIGEST: Final = "tableDigest1"
"""A table, by its logical content; ``docs/spec/table-digest.md``."""

SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {
        SHA256: 32,
        "sha384": 48,
        "sha512": 64,
        "blake2b": 64,
        "blake3": 32,
        DIR_HASH: 32,
        TABLE_DIGEST: 32,
    }
)
"""The known algorithms, each with the length of its digests in bytes."""

_SET = "the digest set"
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """
    A digest and the algorithm that made it.

    Attributes:
        algorithm: One of `SIZES`, spelled exactly so.
        value: The digest, of exactly the length the algorithm has.

    Raises:
        FormatError: The algorithm is not known, or the length is another.
    """

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        size = SIZES.get(self.algorithm)
        if size is None:
            raise _unknown(self.algorithm)
        if len(self.value) != size:
            raise malformed(
                f"the {self.algorithm} digest",
                f"it has {len(self.value)} bytes, and {self.algorithm} makes {size}",
            )

    @classmethod
    def sha256(cls, data: bytes, /) -> "Digest":
        """Name *data* by its SHA-256."""
        return cls(SHA256, hashlib.sha256(data).digest())

    @classmethod
    def parse(cls, text: str, /) -> "Digest":
        """
        Read ``algorithm:hex``, as `str` writes it.

        Raises:
            FormatError: Not that form, an unknown algorithm, another length,
                or hex that is not lower case.
        """
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise malformed(
                f"the digest {shown(text)}", "a digest is written algorithm:hex, as sha256:…"
            )
        return cls._of_hex(algorithm, digits)

    @classmethod
    def from_set(cls, digests: Mapping[str, str], algorithm: str, /) -> "Digest":
        """
        Take the digest by *algorithm* out of an in-toto digest set.

        Raises:
            FormatError: The set has none, or what it has is not one.
        """
        digits = digests.get(algorithm)
        if digits is None:
            found = ", ".join(shown(name) for name in sorted(digests)[:8]) or "nothing"
            raise malformed(_SET, f"it has no {algorithm} digest; it has {found}")
        return cls._of_hex(algorithm, digits)

    @classmethod
    def _of_hex(cls, algorithm: str, digits: str) -> "Digest":
        if algorithm not in SIZES:
            raise _unknown(algorithm)
        if not _HEX.fullmatch(digits):
            raise malformed(
                f"the {algorithm} digest", f"it must be lower case hex, found {shown(digits)}"
            )
        return cls(algorithm, bytes.fromhex(digits))

    @property
    def hex(self) -> str:
        """The digest in lower case hex."""
        return self.value.hex()

    @property
    def short(self) -> str:
        """The first 16 hex digits, for people: ``sha256:0123456789abcdef…``."""
        return f"{self.algorithm}:{self.hex[:16]}…"

    def as_set(self) -> dict[str, str]:
        """Return the in-toto digest set with this digest alone."""
        return {self.algorithm: self.hex}

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def _unknown(algorithm: str) -> FormatError:
    return malformed(
        f"the digest by {shown(algorithm)}",
        f"the algorithm is not one of {', '.join(SIZES)}; MD5, SHA-1 and shortened digests do "
        "not resist collisions",
        "name the thing by its sha256",
    )
