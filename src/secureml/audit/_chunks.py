"""What is known of a stream's chunks: how many, how soon, a running digest, the first of them."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from secureml.audit.value import encode

if TYPE_CHECKING:
    from secureml.audit.redaction import Redaction, Redactor

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

    __slots__ = ("_digest", "_redacted", "capturing", "count", "first", "kept", "size")

    def __init__(self, *, capturing: bool) -> None:
        self.count = self.size = 0
        self.first = -1
        self.kept: list[bytes] = []
        self.capturing = capturing
        self._digest: Any = None
        self._redacted: list[str | bytes] = []

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

    def redact(
        self, redactor: "Redactor", path: str, value: object, limit: int
    ) -> Iterable["Redaction"]:
        """Keep a chunk without what *redactor* takes out of it; return what that was."""
        if self.size > limit:
            return ()
        value, taken = redactor.apply(path, value)
        encoded = encode(value, path=path)
        self.size += len(encoded)
        if self.size > limit:
            return ()
        # What lies across texts is looked for at the end, when they are all there.
        self._redacted.append(value if isinstance(value, str) else encoded)
        return taken

    def settle(self, redactor: "Redactor", path: str, salt: bytes) -> Iterable["Redaction"]:
        """
        Take out what lies across chunks; return what that was.

        Nothing that was not looked through is digested, so the digest is there
        only where every chunk was kept.
        """
        taken: list[Redaction] = []
        texts: list[str] = []
        self.kept = []

        def across() -> None:
            found, more = redactor.apply_chunks(path, texts)
            taken.extend(more)
            self.kept += [encode(text, path=path) for text in found]
            texts.clear()

        for one in self._redacted:
            if isinstance(one, str):
                texts.append(one)
            else:
                across()
                self.kept.append(one)
        across()
        if len(self.kept) == self.count:
            self._digest = hashlib.sha256(salt + b"".join(self.kept))
        return taken

    def member(self, *, complete: bool) -> str:
        """Return the ``stream`` member of the record."""
        digest = kept = ""
        if self.capturing:
            kept = f',"kept":{len(self.kept)}'
            if self._digest is not None:
                digest = f',"digest":"sha256:{self._digest.hexdigest()}"'
        first = f',"ttft_us":{self.first}' if self.first >= 0 else ""
        whole = "true" if complete else "false"
        return f',"stream":{{"chunks":{self.count},"complete":{whole}{digest}{kept}{first}}}'
