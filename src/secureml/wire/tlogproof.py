"""
A proof that travels on its own: place in a log, path, signed checkpoint.

The checkpoint inside is only as good as the signature on it: who reads a
proof must hold the log's key from elsewhere.

Source: https://c2sp.org/tlog-proof
"""

from dataclasses import dataclass

from secureml.wire._read import decimal, malformed, reading
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import HASH_SIZE, InclusionProof
from secureml.wire.note import Note

__all__ = ["TlogProof"]

_HEADER = "c2sp.org/tlog-proof@v1"
_MAX_PATH = 63
_MAX_EXTRA = 500_000
_MAX_PROOF = 2_000_000


@dataclass(frozen=True, slots=True)
class TlogProof:
    """
    Inclusion of one entry in a log, for offline use.

    Attributes:
        index: Position of the entry, from 0.
        path: Sibling hashes from the leaf upwards, 32 bytes each.
        checkpoint: The signed note of the log's checkpoint.
        extra: Bytes for the application, which nothing authenticates.

    Raises:
        ValueError: An index outside 0 … 2**63 - 1, a hash that has not 32
            bytes, more than 63 of them, or extra bytes that are empty or
            more than 500,000.
        FormatError: The checkpoint is not a signed checkpoint.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < 1 << 63:
            msg = f"the index of an entry is 0 to 2**63 - 1, not {self.index}"
            raise ValueError(msg)
        if len(self.path) > _MAX_PATH or any(len(one) != HASH_SIZE for one in self.path):
            msg = f"a path is at most {_MAX_PATH} hashes of {HASH_SIZE} bytes"
            raise ValueError(msg)
        if self.extra is not None and not 1 <= len(self.extra) <= _MAX_EXTRA:
            msg = f"extra bytes are absent, or 1 to {_MAX_EXTRA:,} bytes"
            raise ValueError(msg)
        Checkpoint.decode(Note.decode(self.checkpoint).text)

    @property
    def inclusion(self) -> InclusionProof:
        """The proof to verify against the checkpoint, once that is verified."""
        return InclusionProof(index=self.index, path=self.path)

    @property
    def head(self) -> Checkpoint:
        """What the checkpoint says; untrusted until its note is verified."""
        return Checkpoint.decode(Note.decode(self.checkpoint).text)

    def encode(self) -> str:
        """Return the text of a ``.tlog-proof`` file."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra)}")
        lines.append(f"index {self.index}")
        lines += map(b64encode, self.path)
        return "\n".join(lines) + "\n\n" + self.checkpoint

    @classmethod
    def decode(cls, proof: str | bytes, /) -> "TlogProof":
        """
        Read the text of a ``.tlog-proof`` file.

        Args:
            proof: The proof; bytes must be UTF-8.

        Raises:
            FormatError: Not a proof, or another spelling of one.
        """
        what = "the log proof"
        if len(proof) > _MAX_PROOF:
            raise malformed(what, f"it is larger than {_MAX_PROOF:,} bytes")
        if isinstance(proof, bytes):
            try:
                proof = proof.decode()
            except UnicodeDecodeError as error:
                raise malformed(what, f"byte {error.start} is not valid UTF-8") from None
        head, _, checkpoint = proof.partition("\n\n")
        first, *lines = head.split("\n")
        if first != _HEADER:
            raise malformed(what, f"its first line is not {_HEADER}")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = b64decode(lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise malformed(what, "the line 'index N' is missing")
        index = decimal(lines.pop(0).removeprefix("index "), what, "index")
        with reading(what):
            return cls(index, tuple(map(b64decode, lines)), checkpoint, extra)
