"""Laws of the tree digest: L2 (order and workers do not matter), L3 (bytes and names do)."""

import hashlib
import tempfile
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from secureml.hashing import manifest

PARTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\\n\r\x00"), max_size=6
)
LEGAL = PARTS.filter(lambda part: part not in {"", ".", ".."})
NAMES = st.lists(LEGAL, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(NAMES, st.binary(max_size=9), max_size=5)


def possible(tree: dict[str, bytes]) -> bool:
    """Tell whether no name is also a directory of another, also where case does not count."""
    names = {name.casefold() for name in tree}
    above = {str(up) for name in names for up in Path(name).parents}
    return len(names) == len(tree) and not names & above


def digest(tree: dict[str, bytes], *, reverse: bool = False, workers: int | None = None) -> str:
    """Write *tree* and return the digest of its manifest."""
    with tempfile.TemporaryDirectory() as directory:
        for name in sorted(tree, reverse=reverse):
            place = Path(directory, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(tree[name])
        return manifest(directory, workers=workers).digest.hex


def reference(tree: dict[str, bytes]) -> str:
    """Return the digest as the specification words it."""
    lines = (
        f"{hashlib.sha256(tree[name]).hexdigest()}  {name}\n".encode()
        for name in sorted(tree, key=str.encode)
    )
    return hashlib.sha256(b"".join(lines)).hexdigest()


@given(TREES, st.sampled_from(["forwards", "backwards"]), st.integers(1, 3))
def test_only_names_and_contents_matter(tree: dict[str, bytes], order: str, workers: int) -> None:
    """Whatever the order of creation and the workers, the digest is that of the lines."""
    assume(possible(tree))

    assert reference(tree) == digest(tree, reverse=order == "backwards", workers=workers)


@given(TREES, TREES)
def test_other_trees_have_other_digests(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Two trees have the same digest exactly if they have the same names and contents."""
    assume(possible(one) and possible(other))

    assert (one == other) == (digest(one) == digest(other))


@given(TREES.filter(bool), st.data())
def test_one_changed_byte_changes_the_digest(tree: dict[str, bytes], data: st.DataObject) -> None:
    """A bit flipped in one file, or a byte appended to it, is seen."""
    assume(possible(tree))
    name = data.draw(st.sampled_from(sorted(tree)))
    content = bytearray(tree[name] + b"\x00")
    if tree[name]:
        index = data.draw(st.integers(0, len(tree[name]) - 1))
        content = bytearray(tree[name])
        content[index] ^= 1 << data.draw(st.integers(0, 7))

    assert digest(tree) != digest({**tree, name: bytes(content)})
