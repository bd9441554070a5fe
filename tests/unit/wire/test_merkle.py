"""Facts about `secureml.wire.merkle`: the reference tree, and every small one."""

import hashlib
import itertools
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from secureml.errors import ConsistencyError, InclusionError
from secureml.wire import merkle
from secureml.wire.base64 import b64encode
from secureml.wire.merkle import ConsistencyProof, Frontier, InclusionProof

VECTORS = Path(__file__).parents[3] / "vectors" / "rfc6962"
REFERENCE = json.loads((VECTORS / "reference.json").read_text())
LEAVES = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in REFERENCE["leaves"]]
ROOTS = [bytes.fromhex(root) for root in REFERENCE["expect"]]
SMALL = 70
MANY = [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(301)]


def nodes(hashes: list[bytes]) -> Callable[[int, int], bytes]:
    """Give the hash of a complete subtree; anything else is a mistake of the caller."""

    @cache
    def node(level: int, index: int) -> bytes:
        assert (index + 1) << level <= len(hashes)
        if level == 0:
            return hashes[index]
        return merkle.node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    return node


NODE = nodes(MANY)


@cache
def textbook(start: int, stop: int) -> bytes:
    """The recursive definition of RFC 6962 section 2.1, written as it stands there."""
    if stop - start == 0:
        return hashlib.sha256(b"").digest()
    if stop - start == 1:
        return MANY[start]
    k = 1
    while k * 2 < stop - start:
        k *= 2
    return hashlib.sha256(
        b"\x01" + textbook(start, start + k) + textbook(start + k, stop)
    ).digest()


ROOT = [textbook(0, size) for size in range(301)]


def test_reference_roots() -> None:
    """The reference inputs have the reference roots, at every size, both ways."""
    frontier = Frontier()

    assert REFERENCE["source"]
    for size, root in enumerate(ROOTS):
        assert root == merkle.root(LEAVES[:size])
        assert (size, root) == (frontier.size, frontier.root())
        if size < len(LEAVES):
            frontier.append(LEAVES[size])


def test_reference_inclusion_proofs() -> None:
    """The published inclusion proofs are the ones generated, and verify."""
    vector = json.loads((VECTORS / "inclusion.json").read_text())

    assert vector["source"]
    for case in vector["expect"]:
        index, size = case["index"], case["size"]
        path = merkle.inclusion_path(index, size, nodes(LEAVES[:size]))
        assert case["path"] == [b64encode(one) for one in path]
        record = bytes.fromhex(REFERENCE["leaves"][index])
        InclusionProof(index=index, path=path).verify(record, size=size, root=ROOTS[size])


def test_reference_consistency_proofs() -> None:
    """The published consistency proofs are the ones generated, and verify."""
    vector = json.loads((VECTORS / "consistency.json").read_text())

    assert vector["source"]
    for case in vector["expect"]:
        old, size = case["old"], case["size"]
        path = merkle.consistency_path(old, size, nodes(LEAVES[:size]))
        assert case["path"] == [b64encode(one) for one in path]
        ConsistencyProof(path=path).verify(
            old_size=old, old_root=ROOTS[old], size=size, root=ROOTS[size]
        )


def test_roots_follow_the_definition() -> None:
    """Both ways to a root agree with the recursive definition, for sizes 0 to 300."""
    frontier = Frontier()
    for size, root in enumerate(ROOT):
        assert root == merkle.root(MANY[:size]) == frontier.root()
        frontier.append(MANY[size])


def test_a_frontier_copies_and_continues() -> None:
    """A copy grows on its own."""
    frontier = Frontier.of(MANY[:77])
    copy = frontier.copy()
    copy.append(MANY[77])

    assert (77, ROOT[77]) == (frontier.size, frontier.root())
    assert (78, ROOT[78]) == (copy.size, copy.root())


def test_a_frontier_takes_hashes_only() -> None:
    """A record in place of its hash is the caller's mistake."""
    with pytest.raises(ValueError, match="hash the record first"):
        Frontier().append(b"record")


def test_a_large_tree_needs_no_recursion() -> None:
    """100,000 leaves: both ways agree."""
    hashes = [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(100_000)]

    assert merkle.root(hashes) == Frontier.of(hashes).root()


def test_every_inclusion_proof_verifies() -> None:
    """For every leaf of every tree up to 70, and of some to 300."""
    sizes = [*range(1, SMALL + 1), 127, 128, 129, 255, 256, 257, 300]
    for size in sizes:
        for index in range(size):
            path = merkle.inclusion_path(index, size, NODE)
            InclusionProof(index=index, path=path).verify_hash(
                MANY[index], size=size, root=ROOT[size]
            )


def test_every_consistency_proof_verifies() -> None:
    """For every pair of sizes up to 70, and every old size of 300."""
    pairs = [(old, size) for size in range(SMALL + 1) for old in range(size + 1)]
    for old, size in [*pairs, *((old, 300) for old in range(301))]:
        path = merkle.consistency_path(old, size, NODE)
        ConsistencyProof(path=path).verify(
            old_size=old, old_root=ROOT[old], size=size, root=ROOT[size]
        )


def flips(data: bytes) -> list[bytes]:
    """Every single bit of *data* flipped."""
    number = int.from_bytes(data, "big")
    return [(number ^ (1 << bit)).to_bytes(len(data), "big") for bit in range(8 * len(data))]


def refused_inclusion(
    index: int, path: tuple[bytes, ...], leaf: bytes, size: int, root: bytes
) -> None:
    """Check that the proof does not hold."""
    with pytest.raises(InclusionError):
        InclusionProof(index=index, path=path).verify_hash(leaf, size=size, root=root)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 11])
def test_a_changed_inclusion_proof_is_refused(size: int) -> None:
    """Any bit, hash, index or number of hashes that differs is refused."""
    root = ROOT[size]
    for index in range(size):
        path = merkle.inclusion_path(index, size, NODE)
        leaf = MANY[index]
        for changed in flips(leaf)[::7]:
            refused_inclusion(index, path, changed, size, root)
        for changed in flips(root)[::7]:
            refused_inclusion(index, path, leaf, size, changed)
        for at, one in enumerate(path):
            for changed in flips(one)[::5]:
                refused_inclusion(index, (*path[:at], changed, *path[at + 1 :]), leaf, size, root)
            refused_inclusion(index, (*path[:at], *path[at + 1 :]), leaf, size, root)
            refused_inclusion(index, (*path[:at], one[:-1], *path[at + 1 :]), leaf, size, root)
        for extra in (leaf, root, bytes(32), b""):
            refused_inclusion(index, (*path, extra), leaf, size, root)
            refused_inclusion(index, (extra, *path), leaf, size, root)
        for other in range(-2, size + 3):
            if other != index:
                refused_inclusion(other, path, leaf, size, root)


def test_every_bit_of_one_proof_counts() -> None:
    """Every single bit of a proof, its leaf and its root."""
    index, size = 5, 11
    path, leaf = merkle.inclusion_path(index, size, NODE), MANY[index]
    parts = [leaf, ROOT[size], *path]
    for at, part in enumerate(parts):
        for changed in flips(part):
            new = [*parts[:at], changed, *parts[at + 1 :]]
            refused_inclusion(index, tuple(new[2:]), new[0], size, new[1])


def test_a_leaf_beyond_the_tree_is_refused() -> None:
    """The one leaf of a tree is at 0, though the path for 1 would lead to the same root."""
    for index, size in [(1, 1), (0, 0), (-1, 1), (2, 2), (0, -1)]:
        refused_inclusion(index, (), MANY[0], size, MANY[0])


def test_a_path_has_one_shape() -> None:
    """A proof for another tree size is refused, unless that tree has the same path."""
    for size, other in itertools.product(range(1, 20), repeat=2):
        for index in range(min(size, other)):
            path = merkle.inclusion_path(index, size, NODE)
            if size != other and len(path) != len(merkle.inclusion_path(index, other, NODE)):
                refused_inclusion(index, path, MANY[index], other, ROOT[size])


def refused_consistency(
    path: tuple[bytes, ...], old: int, old_root: bytes, size: int, root: bytes
) -> None:
    """Check that the proof does not hold."""
    with pytest.raises(ConsistencyError):
        ConsistencyProof(path=path).verify(old_size=old, old_root=old_root, size=size, root=root)


@pytest.mark.parametrize(
    ("old", "size"), [(0, 0), (0, 5), (1, 2), (3, 7), (4, 8), (6, 8), (8, 11), (7, 7)]
)
def test_a_changed_consistency_proof_is_refused(old: int, size: int) -> None:
    """Any bit, hash or number of hashes that differs is refused."""
    path = merkle.consistency_path(old, size, NODE)
    for changed in flips(ROOT[old]):
        refused_consistency(path, old, changed, size, ROOT[size])
    if old:
        for changed in flips(ROOT[size]):
            refused_consistency(path, old, ROOT[old], size, changed)
    for at, one in enumerate(path):
        for changed in flips(one):
            refused_consistency(
                (*path[:at], changed, *path[at + 1 :]), old, ROOT[old], size, ROOT[size]
            )
        refused_consistency((*path[:at], *path[at + 1 :]), old, ROOT[old], size, ROOT[size])
        refused_consistency(
            (*path[:at], one + b"\0", *path[at + 1 :]), old, ROOT[old], size, ROOT[size]
        )
    for extra in (ROOT[old], ROOT[size], bytes(32), b""):
        refused_consistency((*path, extra), old, ROOT[old], size, ROOT[size])
        refused_consistency((extra, *path), old, ROOT[old], size, ROOT[size])


def test_a_proof_is_no_longer_than_the_tree_is_high() -> None:
    """A root that was made to fit a longer path proves nothing."""
    a, b, junk = MANY[:3]
    refused_inclusion(0, (a,), b, 1, merkle.node_hash(a, b))
    path = merkle.consistency_path(3, 7, NODE)
    old_root, root = (merkle.node_hash(junk, ROOT[size]) for size in (3, 7))
    refused_consistency((*path, junk), 3, old_root, 7, root)


@pytest.mark.parametrize("short", [b"", b"short", bytes(31), bytes(33)])
def test_a_hash_has_32_bytes(short: bytes) -> None:
    """A root that was made to fit a hash of another length proves nothing."""
    refused_inclusion(0, (short,), MANY[0], 2, merkle.node_hash(MANY[0], short))
    refused_consistency((short,), 1, MANY[0], 2, merkle.node_hash(MANY[0], short))


def test_other_sizes_are_refused() -> None:
    """A proof holds for its two sizes only, and never backwards."""
    for old, size in [(3, 7), (4, 8), (6, 8), (5, 13)]:
        path = merkle.consistency_path(old, size, NODE)
        for wrong_old in range(1, 14):
            if wrong_old != old:
                refused_consistency(path, wrong_old, ROOT[old], size, ROOT[size])
        refused_consistency(path, size, ROOT[size], old, ROOT[old])
        refused_consistency(path, -1, ROOT[old], size, ROOT[size])
        refused_consistency((), old, ROOT[old], size, ROOT[size])


def test_there_is_no_path_for_what_is_not_there() -> None:
    """Asking for a leaf or a size that the tree has not is the caller's mistake."""
    for index, size in [(0, 0), (1, 1), (-1, 1)]:
        with pytest.raises(ValueError, match="has no record"):
            merkle.inclusion_path(index, size, NODE)
    for old, size in [(2, 1), (-1, 1)]:
        with pytest.raises(ValueError, match="never had"):
            merkle.consistency_path(old, size, NODE)


def test_leaves_and_nodes_never_collide() -> None:
    """A node's bytes as a record hash to something else: second preimages are closed off."""
    left, right = MANY[0], MANY[1]

    assert merkle.node_hash(left, right) != merkle.leaf_hash(left + right)
    assert hashlib.sha256(b"").digest() == merkle.EMPTY_ROOT == merkle.root([])
