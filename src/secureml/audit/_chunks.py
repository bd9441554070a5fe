"""What is known of a stream's chunks: how many, how soon, a running digest, the first of them."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from secureml.audit.value import encode

if TYPE_CHECKING:
    from secureml.audit.redaction import Redaction, Redactor

__all__ = ["Chunks"]

_TAIL: Final = 256
"""Characters: longer than anything that a detector finds, but for keys in blocks of lines."""


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
        """
        Keep a chunk, and what *redactor* takes out of it; return what that was.

        Text is kept as it is until the end: what is looked for may lie across chunks.
        """
        if self.size > limit:
            return ()
        taken: Iterable[Redaction] = ()
        kept: str | bytes
        if type(value) is str:
            kept = value
            self.size += len(value.encode("utf-8", "surrogatepass"))
        else:
            value, taken = redactor.apply(path, value)
            kept = encode(value, path=path)
            self.size += len(kept)
        if self.size > limit:
            return ()
        self._redacted.append(kept)
        return taken

    def settle(self, redactor: "Redactor", path: str, salt: bytes) -> Iterable["Redaction"]:
        """
        Take out of the texts what is to be taken out; return what that was.

        Where not every chunk was kept, the last `_TAIL` characters of text are
        left out too: what begins there may have gone on beyond, and was not
        recognised.  Nothing that was not looked through is digested, so the
        digest is there only where every chunk was kept.
        """
        whole = len(self._redacted) == self.count
        if not whole:
            left = _TAIL
            while left > 0 and self._redacted:
                last = self._redacted.pop()
                left -= len(last) if isinstance(last, str) else 0
        texts = [one for one in self._redacted if isinstance(one, str)]
        found, taken = redactor.apply_chunks(path, texts)
        clean = iter(found)
        self.kept = [
            encode(next(clean), path=path) if isinstance(one, str) else one
            for one in self._redacted
        ]
        if whole:
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
