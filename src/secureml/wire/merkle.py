"""
Merkle trees of RFC 6962: roots, and proofs that they hold something.

Leaves and inner nodes are hashed with different prefixes, so neither can pass
for the other.  Proofs are generated from the hashes of complete subtrees,
which is what a log's tiles store, and verified as RFC 9162 says.

The tree size and the root are deliberately absent from the proofs: they come
from a checkpoint, which is signed, never from the proof, which is not.

Source: RFC 6962 section 2.1; verification RFC 9162 sections 2.1.3.2, 2.1.4.2.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from secureml.errors import ConsistencyError, InclusionError

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "ConsistencyProof",
    "Frontier",
    "InclusionProof",
    "Node",
    "consistency_path",
    "inclusion_path",
    "leaf_hash",
    "node_hash",
    "root",
]

HASH_SIZE: Final = 32
"""Length of every hash, in bytes."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""

Node = Callable[[int, int], bytes]
"""``node(level, index)``: hash of the complete subtree over leaves
``index << level`` up to, not including, ``(index + 1) << level``."""


def leaf_hash(record: bytes, /) -> bytes:
    """Hash a record as a leaf."""
    return hashlib.sha256(b"\0" + record).digest()


def node_hash(left: bytes, right: bytes, /) -> bytes:
    """Hash two subtrees into one."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(hashes: Sequence[bytes], /) -> bytes:
    """
    Return the root of the tree with these leaf hashes.

    Takes one hash a leaf, level by level: the last node of an odd level goes
    up as it is, which is the split of RFC 6962 seen from below.
    """
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    sha256 = hashlib.sha256
    while len(level) > 1:
        above = [
            sha256(b"\1" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        if len(level) & 1:
            above.append(level[-1])
        level = above
    return level[0]


class Frontier:
    """
    The right edge of a growing tree: all that is needed to go on hashing.

    Holds one hash for each bit that is set in the size, so a log of a billion
    entries needs at most thirty.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self) -> None:
        self._hashes: list[bytes] = []
        self._size = 0

    @classmethod
    def of(cls, hashes: Iterable[bytes], /) -> "Frontier":
        """Return the frontier of the tree with these leaf hashes."""
        frontier = cls()
        for one in hashes:
            frontier.append(one)
        return frontier

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, leaf: bytes, /) -> None:
        """
        Add a leaf, by its hash.

        Raises:
            ValueError: It has not 32 bytes.
        """
        if len(leaf) != HASH_SIZE:
            msg = f"a leaf hash has {HASH_SIZE} bytes, not {len(leaf)}: hash the record first"
            raise ValueError(msg)
        carry = self._size
        while carry & 1:
            leaf = node_hash(self._hashes.pop(), leaf)
            carry >>= 1
        self._hashes.append(leaf)
        self._size += 1

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        if not self._hashes:
            return EMPTY_ROOT
        return _fold(self._hashes)

    def copy(self) -> "Frontier":
        """Return a frontier that grows on its own."""
        other = Frontier()
        other._hashes = self._hashes.copy()
        other._size = self._size
        return other


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Join complete subtrees, largest first, into the root over all of them."""
    acc = hashes[-1]
    for left in reversed(hashes[:-1]):
        acc = node_hash(left, acc)
    return acc


def _range_hash(start: int, stop: int, node: Node) -> bytes:
    """Hash the subtree over leaves *start* to *stop*, which begins where such a tree may."""
    hashes = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        hashes.append(node(level, start >> level))
        start += 1 << level
    return _fold(hashes)


def inclusion_path(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """
    Return the path that proves leaf *index* in the tree of *size* leaves.

    Args:
        index: Position of the leaf, from 0.
        size: Number of leaves.
        node: Gives the hash of a complete subtree.

    Raises:
        ValueError: There is no such leaf.

    Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size:
        msg = f"a log of {size} records has no record {index}"
        raise ValueError(msg)
    path = []
    level = 0
    while size > 1 << level:
        sibling = (index >> level) ^ 1
        start, stop = sibling << level, (sibling + 1) << level
        if stop <= size:
            path.append(node(level, sibling))
        elif start < size:
            path.append(_range_hash(start, size, node))
        level += 1
    return tuple(path)


def consistency_path(old: int, size: int, node: Node) -> tuple[bytes, ...]:
    """
    Return the path that proves the tree of *old* leaves a prefix of that of *size*.

    It is empty when *old* is 0 or equal to *size*.

    Raises:
        ValueError: *old* is larger than *size*, or below 0.

    Source: RFC 6962 section 2.1.2.
    """
    if not 0 <= old <= size:
        msg = f"a log of {size} records never had {old}"
        raise ValueError(msg)
    if old == 0:
        return ()
    path = []
    start, stop = 0, size
    whole = True
    while old != stop:
        half = 1 << (stop - start - 1).bit_length() - 1
        if old - start <= half:
            path.append(_range_hash(start + half, stop, node))
            stop = start + half
        else:
            path.append(_range_hash(start, start + half, node))
            start += half
            whole = False
    if not whole:
        path.append(_range_hash(start, stop, node))
    return tuple(reversed(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """
    Proof that a record is in a log.

    Attributes:
        index: Position of the leaf, counted from 0.
        path: Sibling hashes from the leaf upwards, 32 bytes each.

    Source: RFC 6962 section 2.1.1, verified as in RFC 9162 section 2.1.3.2.
    """

    index: int
    path: tuple[bytes, ...]

    def verify(self, record: bytes, /, *, size: int, root: bytes) -> None:
        """
        Check that *record* is in the tree of *size* leaves with this *root*.

        Returns nothing: a proof that does not hold raises, so its result
        cannot be ignored.

        Raises:
            InclusionError: The proof leads to another root, or belongs to a
                tree of another shape.
        """
        self.verify_hash(leaf_hash(record), size=size, root=root)

    def verify_hash(self, leaf: bytes, /, *, size: int, root: bytes) -> None:
        """
        Check the same for a record that is known by its leaf hash.

        Raises:
            InclusionError: As `verify`.
        """
        if not 0 <= self.index < size:
            raise self._error(size, f"the checkpoint counts {size} records, numbered from 0")
        if any(len(sibling) != HASH_SIZE for sibling in self.path):
            raise self._error(size, "a hash of the proof has not 32 bytes")
        fn, sn, acc = self.index, size - 1, leaf
        for sibling in self.path:
            if sn == 0:
                raise self._error(size, "the proof is longer than a tree of that size is high")
            if fn & 1 or fn == sn:
                acc = node_hash(sibling, acc)
                while fn and not fn & 1:
                    fn, sn = fn >> 1, sn >> 1
            else:
                acc = node_hash(acc, sibling)
            fn, sn = fn >> 1, sn >> 1
        if sn:
            raise self._error(size, "the proof is shorter than a tree of that size is high")
        if acc != root:
            raise self._error(
                size,
                f"the proof leads to root {acc.hex()[:16]}…, the checkpoint has "
                f"{root.hex()[:16]}… (RFC 9162, 2.1.3.2)",
            )

    def _error(self, size: int, why: str) -> InclusionError:
        return InclusionError(
            f"record {self.index} is not proven to be in the log of {size} records",
            why=why,
            fix="fetch the proof for exactly this checkpoint and try again; if it still fails, "
            "the log or the record was altered: keep both",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """
    Proof that a log only grew between two checkpoints.

    Attributes:
        path: Hashes, 32 bytes each, in the order of RFC 6962.

    Source: RFC 6962 section 2.1.2, verified as in RFC 9162 section 2.1.4.2.
    """

    path: tuple[bytes, ...]

    def verify(self, *, old_size: int, old_root: bytes, size: int, root: bytes) -> None:
        """
        Check that the log of *size* records begins with that of *old_size*.

        Raises:
            ConsistencyError: The log is now shorter, was forked or was
                edited, or the proof belongs to other sizes.
        """
        if not 0 <= old_size <= size:
            raise self._error(old_size, size, "the log is now shorter than it was")
        if any(len(one) != HASH_SIZE for one in self.path):
            raise self._error(old_size, size, "a hash of the proof has not 32 bytes")
        if old_size in {0, size}:
            if self.path:
                raise self._error(old_size, size, "the proof must be empty for these sizes")
            if old_root != (root if old_size == size else EMPTY_ROOT):
                raise self._error(old_size, size, "the same size has another root")
            return
        path = self.path if old_size & (old_size - 1) else (old_root, *self.path)
        if not path:
            raise self._error(old_size, size, "the proof is empty")
        fn, sn = old_size - 1, size - 1
        while fn & 1:
            fn, sn = fn >> 1, sn >> 1
        before = after = path[0]
        for one in path[1:]:
            if sn == 0:
                raise self._error(old_size, size, "the proof is too long for these sizes")
            if fn & 1 or fn == sn:
                before, after = node_hash(one, before), node_hash(one, after)
                while fn and not fn & 1:
                    fn, sn = fn >> 1, sn >> 1
            else:
                after = node_hash(after, one)
            fn, sn = fn >> 1, sn >> 1
        if sn:
            raise self._error(old_size, size, "the proof is too short for these sizes")
        if before != old_root or after != root:
            which = "earlier" if before != old_root else "later"
            raise self._error(
                old_size, size, f"the proof does not lead to the root of the {which} checkpoint"
            )

    @staticmethod
    def _error(old_size: int, size: int, why: str) -> ConsistencyError:
        return ConsistencyError(
            f"the log of {size} records is not proven to continue that of {old_size}",
            why=why,
            fix="fetch the proof for exactly these two checkpoints; if it still fails, the log "
            "was forked or rolled back: keep both checkpoints, they are the evidence",
        )
