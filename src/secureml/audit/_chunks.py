"""What is known of a stream's chunks: how many, how soon, a running digest, the first of them."""

import hashlib
from typing import Any

__all__ = ["Chunks"]


class Chunks:
    """
    The chunks of one stream, as they are handed out.

    Attributes:
        count: How many were.
        first: Microseconds to the first; negative before it.
        kept: The audit values of those that are kept.
        size: Bytes of the audit values of all.
        capturing: Whether chunks are captured, and could be so far.
    """

    __slots__ = ("_digest", "capturing", "count", "first", "kept", "size")

    def __init__(self, *, capturing: bool) -> None:
        self.count = self.size = 0
        self.first = -1
        self.kept: list[bytes] = []
        self.capturing = capturing
        self._digest: Any = None

    def add(self, encoded: bytes, salt: bytes, limit: int) -> None:
        """Digest a chunk, and keep it while all of them have at most *limit* bytes."""
        digest = self._digest
        if digest is None:
            # Salted as the commitment is: a chunk that can be guessed is not given away.
            digest = self._digest = hashlib.sha256(salt)
        digest.update(encoded)
        self.size += len(encoded)
        if self.size <= limit:
            self.kept.append(encoded)

    def member(self, *, complete: bool) -> str:
        """Return the ``stream`` member of the record."""
        digest = kept = ""
        if self.capturing and self._digest is not None:
            digest = f',"digest":"sha256:{self._digest.hexdigest()}"'
            kept = f',"kept":{len(self.kept)}'
        first = f',"ttft_us":{self.first}' if self.first >= 0 else ""
        whole = "true" if complete else "false"
        return f',"stream":{{"chunks":{self.count},"complete":{whole}{digest}{kept}{first}}}'
