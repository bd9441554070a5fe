"""Going on from what is known of a log's beginning: every root that is signed has to follow."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from secureml.errors import ConsistencyError
from secureml.evidence._prefix import Prefix, resume
from secureml.evidence._reader import Rebuilt
from secureml.evidence._tree import TileTree, hash_leaves
from secureml.wire.merkle import root

ALL = [b"entry %d" % n for n in range(700)]


def root_of(size: int) -> bytes:
    """Return the root of the first so many entries."""
    return root(list(hash_leaves(ALL[:size])))


def bundle(index: int, width: int) -> list[bytes]:
    """Return entries."""
    return ALL[index * 256 : index * 256 + width]


def tiles() -> Callable[[int, int, int], bytes]:
    """Return what reads the tiles of the whole log."""
    tree = TileTree()
    found = {}
    for start in range(0, len(ALL), 256):
        tree.extend(hash_leaves(ALL[start : start + 256]))
        found |= {(level, index): data for level, index, data in tree.take_full()}
    found |= {(level, index): data for level, index, data in tree.partial()}
    return lambda level, index, width: found[level, index][: 32 * width]


def known(size: int) -> Prefix:
    """Return what was known at a size."""
    return Prefix("log.example/known", size, root_of(size), None, b"memo")


def go_on(prefix: Prefix, *, size: int = 700, top: bytes | None = None, cut: int = 700) -> Rebuilt:
    """Go on from there."""
    return resume(
        prefix,
        size,
        root_of(size) if top is None else top,
        bundle=bundle,
        tile=tiles(),
        cuts=[cut],
        visit=lambda _first, _entries: None,
    )


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 699, 700])
def test_what_is_known_is_gone_on_from(size: int) -> None:
    """The same roots come out, wherever the note ends."""
    found = go_on(known(size))

    assert found.roots[size] == root_of(size)
    assert found.tree.root() == found.roots[700] == root_of(700)


@pytest.mark.parametrize("size", [1, 256, 699])
def test_the_signed_root_has_to_follow(size: int) -> None:
    """A checkpoint of other entries than those that are there is not written on."""
    with pytest.raises(ConsistencyError, match="does not fit") as caught:
        go_on(known(size), top=bytes(32))
    assert "another root" in caught.value.why


@pytest.mark.parametrize("size", [1, 256, 699, 700])
def test_what_is_known_has_to_be_so(size: int) -> None:
    """A note with another root is about another log."""
    with pytest.raises(ConsistencyError, match="does not fit"):
        go_on(replace(known(size), root=bytes(32)))


@pytest.mark.parametrize(
    ("known_size", "cut"), [(701, 700), (1024, 700), (600, 511), (600, 0), (300, 701)]
)
def test_a_note_is_about_the_beginning(known_size: int, cut: int) -> None:
    """Of more entries than there are, or with a root wanted below it, it is of no use."""
    note = replace(known(min(known_size, 700)), size=known_size)

    with pytest.raises(ConsistencyError) as caught:
        go_on(note, cut=cut)
    assert caught.value.why == "it is not about the beginning of this log"
