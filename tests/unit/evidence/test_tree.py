"""The tree as its right edge of tiles, against the plain definition."""

import pytest

from secureml.evidence._tree import (
    TileTree,
    hash_leaves,
    layout,
    node_from_tiles,
    partials,
    tile_width,
)
from secureml.wire import merkle, tiles

SIZES = [0, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 1000]
LEAVES = hash_leaves(b"%d" % n for n in range(1000))


def grown(size: int, step: int) -> tuple[TileTree, dict[tuple[int, int], bytes]]:
    """Grow a tree by *step* leaves at a time; returns it and its tiles."""
    tree = TileTree()
    held: dict[tuple[int, int], bytes] = {}
    for start in range(0, size, step):
        tree.extend(LEAVES[start : min(size, start + step)])
        held |= {(level, index): data for level, index, data in tree.take_full()}
    return tree, held | {(level, index): data for level, index, data in tree.partial()}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1, 100, 256, 1000])
def test_root_is_that_of_the_leaves(size: int, step: int) -> None:
    """The root does not depend on how the leaves came, and is the specified one."""
    tree, _ = grown(size, step)

    assert merkle.root(LEAVES[:size]) == tree.root()
    assert size == tree.size


def test_one_by_one() -> None:
    """Appending one leaf at a time makes the same tree."""
    tree = TileTree()
    for size, leaf in enumerate(LEAVES[:600], 1):
        tree.append(leaf)
        if size in SIZES:
            assert merkle.root(LEAVES[:size]) == tree.root()
    assert len(tree.take_full()) == 2
    assert tree.take_full() == []


@pytest.mark.parametrize("size", SIZES)
def test_tiles_are_those_of_the_layout(size: int) -> None:
    """Full and partial tiles together are what c2sp.org/tlog-tiles lists."""
    _, held = grown(size, 1000)

    expected = {(t.level, t.number): t.width for t in tiles.layout(size) if t.kind == "tile"}
    assert expected == {key: len(data) // 32 for key, data in held.items()}
    for (level, index), data in held.items():
        assert len(data) // 32 == tile_width(size, level, index)
    assert tile_width(size, 0, size // 256 + 1) == 0


@pytest.mark.parametrize("size", SIZES)
def test_partials_are_the_narrow_ones(size: int) -> None:
    """`partials` is the part of the layout that is not full."""
    assert {name for name, tile in layout(size).items() if tile.width < 256} == partials(size)


@pytest.mark.parametrize("size", SIZES[1:])
def test_tiles_prove(size: int) -> None:
    """Proofs made from tiles hold."""
    tree, held = grown(size, 1000)
    node = node_from_tiles(lambda level, index: held[level, index])

    for index in {0, size // 3, size - 1}:
        path = merkle.inclusion_path(index, size, node)
        merkle.InclusionProof(index=index, path=path).verify_hash(
            LEAVES[index], size=size, root=tree.root()
        )
