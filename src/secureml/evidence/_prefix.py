"""
What the last writer of a log had checked, so that the next one need not begin at entry 0.

A new writer of an audit log has to know how far every process had come, which
takes a look at every entry: 20 seconds for ten million.  So the writer notes
now and then what it knows, and up to which size.  The next one takes the tree
up to there from the tiles, and reads and hashes what came after.

Nothing is believed about the tree: what comes out has to be the root that this
machine remembers, and the one of the public checkpoint, both signed.  If not,
or if anything is odd, the note is left aside and every entry is read.

Edge: entries below are not hashed again, so that one which was changed in place is
not noticed here; verifying a log does that, and uses none of this.  Who may
write to the private directory can change what the note says about writers, as
they can change the spools themselves: see docs/spec/spool.md.

Source: docs/spec/log.md, section "Recovery".
"""

import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from secureml.errors import ConsistencyError, FormatError, UnexpectedFileError
from secureml.evidence._files import Files, read_file, write_batch
from secureml.evidence._reader import Rebuilt
from secureml.evidence._tree import FULL, HASH, TileTree, hash_leaves, split, tile_width
from secureml.evidence.pruning import Prune

__all__ = ["LIMIT", "Prefix", "resume"]

LIMIT: Final = 64 << 20
"""Bytes of a note: some two and a half million writers.  A longer one is not written."""

_HEAD: Final = struct.Struct(">8sH")
_BODY: Final = struct.Struct(">Q32sQII")
_MAGIC: Final = b"secpre1\n"


@dataclass(frozen=True, slots=True)
class Prefix:
    """
    What a writer knew of the first entries of a log.

    Attributes:
        origin: The log.
        size: How many entries.
        root: Their root.
        prune: What the last of them says about removed ones; None where none does.
        memo: What whoever was shown them made of them.
    """

    origin: str
    size: int
    root: bytes
    prune: Prune | None
    memo: bytes

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        origin = self.origin.encode()
        prune = self.prune or Prune(0)
        kept = sorted(prune.kept)
        body = b"".join(
            (
                _HEAD.pack(_MAGIC, len(origin)),
                origin,
                _BODY.pack(self.size, self.root, prune.minimum, len(kept), len(self.memo)),
                struct.pack(f">{len(kept)}Q", *kept),
                self.memo,
            )
        )
        return body + sha256(body).digest()

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Read what `encode` wrote; None for anything else."""
        body, digest = data[:-HASH], data[-HASH:]
        if len(data) < _HEAD.size + HASH or sha256(body).digest() != digest:
            return None
        magic, length = _HEAD.unpack_from(body)
        at = _HEAD.size + length
        if magic != _MAGIC or len(body) < at + _BODY.size:
            return None
        size, root, minimum, count, rest = _BODY.unpack_from(body, at)
        end = at + _BODY.size + 8 * count
        if len(body) != end + rest:
            return None
        kept = frozenset(struct.unpack_from(f">{count}Q", body, at + _BODY.size))
        try:
            origin = body[_HEAD.size : at].decode()
        except UnicodeDecodeError:
            return None
        return cls(origin, size, root, Prune(minimum, kept) if minimum else None, body[end:])

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a note; None where there is none that could be used."""
        try:
            return cls.decode(read_file(path, limit=LIMIT))
        except (FileNotFoundError, FormatError, UnexpectedFileError):
            return None

    def write(self, path: Path, files: Files) -> None:
        """
        Write the note, whole or not at all; losing it costs time, and nothing else.

        Raises:
            OSError: The system refuses.
        """
        data = self.encode()
        if len(data) <= LIMIT:
            write_batch(files, [(path, data)], private=True, names=False)


def resume(
    prefix: Prefix,
    size: int,
    root: bytes,
    *,
    bundle: Callable[[int, int], list[bytes]],
    tile: Callable[[int, int, int], bytes],
    cuts: Collection[int],
    visit: Callable[[int, list[bytes]], None],
) -> Rebuilt:
    """
    Do as `rebuild`, for the entries from the bundle on in which *prefix* ends.

    Args:
        prefix: What is known.
        size: Number of entries.
        root: Root hash that the signed checkpoint states.
        bundle: As in `rebuild`.
        tile: As in `rebuild`.
        cuts: Sizes of prefixes whose roots are wanted; none ends before that bundle.
        visit: As in `rebuild`, from that bundle on.

    Raises:
        ConsistencyError: The tiles do not lead to what is known, or to *root*.
        FormatError: A file is not in its format.
        FileNotFoundError: A file is missing.
    """
    start = prefix.size // FULL * FULL
    tree = TileTree.of(start, lambda level, index: _held(tile, size, level, index))
    wanted = sorted({*cuts, prefix.size})
    if prefix.size > size or wanted[0] < start or wanted[-1] > size:
        raise _odd("it is not about the beginning of this log")
    roots: dict[int, bytes] = {}
    for index in range(start // FULL, (size + FULL - 1) // FULL):
        entries = bundle(index, tile_width(size, 0, index))
        visit(index * FULL, entries)
        hashes = hash_leaves(entries)
        while wanted and wanted[0] <= tree.size + len(hashes):
            head = wanted[0] - tree.size
            tree.extend(hashes[:head])
            hashes = hashes[head:]
            roots[wanted.pop(0)] = tree.root()
        tree.extend(hashes)
        for level, number, data in tree.take_full():
            if tile(level, number, FULL) != data:
                raise _odd("a tile is another than its entries make it")
    for cut in wanted:  # The size itself, where the log ends with a whole bundle.
        roots[cut] = tree.root()
    for level, number, data in tree.partial():
        if tile(level, number, len(data) // HASH) != data:
            raise _odd("a tile is another than its entries make it")
    if roots[prefix.size] != prefix.root or tree.root() != root:
        raise _odd("tiles and entries lead to another root")
    return Rebuilt(tree, roots)


def _held(
    tile: Callable[[int, int, int], bytes], size: int, level: int, index: int
) -> list[bytes]:
    return split(tile(level, index, tile_width(size, level, index)))


def _odd(why: str) -> ConsistencyError:
    return ConsistencyError(
        "what the last writer knew of the log does not fit",
        why=why,
        fix="every entry is read again: that says what is wrong, if anything is",
    )
