"""
Checkpoints: what a log's owner signs about the log, in three lines.

The origin names the log, the size counts its entries and the root commits to
every one of them.  The lines are the text of a signed note; this module knows
nothing of signatures.

Source: https://c2sp.org/tlog-checkpoint
"""

import re
from dataclasses import dataclass

from secureml.wire._read import decimal, malformed, reading, shown
from secureml.wire.base64 import b64decode, b64encode

__all__ = ["Checkpoint"]

_CONTROL = re.compile(r"[\x00-\x1f\ud800-\udfff]")
_ROOT_SIZE = 32
_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    The head of a log.

    Attributes:
        origin: The log's name, one line.
        size: Number of entries.
        root: Root hash of the RFC 6962 tree of that size, 32 bytes.
        extensions: Further lines, which nothing here interprets.

    Raises:
        ValueError: An empty line or one with a control character, a size
            outside 0 … 2**63 - 1, or a root that has not 32 bytes.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or _CONTROL.search(line):
                msg = f"a line of a checkpoint is text and not empty, found {shown(line)}"
                raise ValueError(msg)
        if not 0 <= self.size < 1 << 63:
            msg = f"the size of a log is 0 to 2**63 - 1, not {self.size}"
            raise ValueError(msg)
        if len(self.root) != _ROOT_SIZE:
            msg = f"the root of a checkpoint has 32 bytes, not {len(self.root)}"
            raise ValueError(msg)

    def encode(self) -> str:
        """Return the text to be signed as a note."""
        lines = (self.origin, str(self.size), b64encode(self.root), *self.extensions)
        return "".join(line + "\n" for line in lines)

    @classmethod
    def decode(cls, text: str, /) -> "Checkpoint":
        """
        Read the text of a note as a checkpoint.

        Raises:
            FormatError: Not a checkpoint, or another spelling of one.
        """
        what = "the checkpoint"
        lines = text.split("\n")
        if lines.pop() or len(lines) < _LINES:
            raise malformed(
                what,
                "it must have three lines or more: origin, size, root; each ends in a newline",
            )
        origin, size, root, *extensions = lines
        with reading(what):
            return cls(origin, decimal(size, what, "size"), b64decode(root), tuple(extensions))
