# ruff: noqa: ANN401  the scene is loaded from a file, and has no type here
"""Entries of an audit log deleted, swapped, doubled, cut and spliced, with and without its key."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

import pytest

from secureml.audit.record import read_prefix
from secureml.evidence.epochs import read_notes
from secureml.wire import merkle, tiles
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

_spec = spec_from_file_location("audit_scene", Path(__file__).with_name("audit_scene.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="audit_scene")
scenes = module_from_spec(_spec)
_spec.loader.exec_module(scenes)
built, plain, chained = scenes.built, scenes.plain, scenes.chained
table = scenes.table

ALONE: Final = {table.FILES, table.RECORDS, table.WARNING, table.CLOCK}
Leaves = list[bytes]


def writers(leaves: Leaves) -> list[str]:
    """Return the writers in the order in which they began."""
    return list(dict.fromkeys(read_prefix(leaf)[0] for leaf in leaves))


def ends(leaves: Leaves) -> list[int]:
    """Return where writers end."""
    return [n for n, leaf in enumerate(leaves, 1) if b'"type":"end"' in leaf]


def splice(leaves: Leaves, other: Leaves) -> Leaves:
    """Return the first writer of one log and the others of another, keys left alone."""
    first = writers(other)[0]
    of_keys = {read_prefix(leaf)[0] for leaf in other if b'"type":"epoch"' in leaf}
    rest = [leaf for leaf in other if read_prefix(leaf)[0] not in {first, *of_keys}]
    return [*leaves[: ends(leaves)[0]], *rest]


CHANGES: dict[str, Callable[[Leaves, Leaves], Leaves]] = {
    "delete": lambda a, _: [*a[:2], *a[3:]],
    "delete_writer": lambda a, _: [leaf for leaf in a if read_prefix(leaf)[0] != writers(a)[1]],
    "insert": lambda a, _: [*a[:3], scenes.new_id(a[2]), *a[3:]],
    "swap": lambda a, _: [*a[:2], a[3], a[2], *a[4:]],
    "swap_writers": lambda a, _: [*a[:5], a[6], a[5], *a[7:]],
    "duplicate": lambda a, _: [*a[:3], a[2], *a[3:]],
    "replay": lambda a, _: [*a[:10], a[2], *a[10:]],
    "cut_head": lambda a, _: a[2:],
    "cut_head_writer": lambda a, _: a[ends(a)[0] :],
    "cut_tail": lambda a, _: a[:12],
    "cut_tail_writer": lambda a, _: a[: ends(a)[1]],
    "splice": splice,
    "roll_back": lambda a, _: a[: ends(a)[0]],
}


def resigned(scene: Any, leaves: Leaves) -> set[str]:
    """Write the log anew with its key, and return what the log alone shows, and the checkpoint."""
    scene.rewrite(leaves)
    found: set[str] = scene.caught()
    return found & {*ALONE, table.CHECKPOINT}


def test_every_row_has_its_change() -> None:
    """The table's rows are the changes made here."""
    assert [row.name for row in table.MUTATIONS] == list(CHANGES)


@pytest.mark.parametrize("row", table.MUTATIONS, ids=lambda row: row.name)
def test_without_the_key(plain: Any, chained: Any, row: Any) -> None:
    """Other entries under the old checkpoint are refused, whatever else is made to fit."""
    leaves = CHANGES[row.name](plain.leaves(), chained.leaves())
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    note = Note.decode(plain.note())
    plain.rewrite(leaves)
    text = Checkpoint(scenes.ORIGIN, len(leaves), merkle.root(hashes)).encode()
    for changed in (note, Note(text, note.signatures)):
        (plain.log / "checkpoint").write_text(changed.encode())

        assert plain.caught() == {table.FILES}


@pytest.mark.parametrize("row", table.MUTATIONS, ids=lambda row: row.name)
def test_with_the_key(plain: Any, chained: Any, row: Any) -> None:
    """The log alone shows exactly what the table says; a kept checkpoint shows every change."""
    leaves = CHANGES[row.name](plain.leaves(), chained.leaves())

    assert resigned(plain, leaves) == row.signed | {table.CHECKPOINT}


@pytest.mark.parametrize("row", table.MUTATIONS, ids=lambda row: row.name)
def test_with_the_key_and_good_numbers(plain: Any, chained: Any, row: Any) -> None:
    """The same, with numbers and counts made to fit: more is missed, and no more than said."""
    leaves = CHANGES[row.name](plain.leaves(), chained.leaves())

    assert resigned(plain, scenes.renumbered(leaves)) == row.numbered | {table.CHECKPOINT}


@pytest.mark.parametrize("row", table.MUTATIONS, ids=lambda row: row.name)
def test_with_an_epoch_key(plain: Any, chained: Any, row: Any) -> None:
    """What changes anything below a boundary is refused: no key is left that signs it."""
    before = chained.leaves()
    after = CHANGES[row.name](before, plain.leaves())
    pairs = enumerate(zip(before, after, strict=False))
    first = next((n for n, (a, b) in pairs if a != b), len(after))
    (note,) = read_notes(chained.at.notes)
    chained.rewrite(after)

    boundary = Checkpoint.decode(Note.decode(note).text).size
    below = first < boundary or len(after) <= boundary

    assert below is (row.name not in {"replay", "cut_tail"})
    assert (chained.caught() == {table.EPOCHS}) is below
    assert below or table.CHECKPOINT in chained.caught()


def test_tiles_of_another_log(plain: Any, chained: Any) -> None:
    """A bundle or a tile of another log of the same origin is refused."""
    plain.rewrite(plain.leaves()[:10])
    chained_leaves = chained.leaves()[:10]
    hashes = b"".join(map(merkle.leaf_hash, chained_leaves))
    bundle = plain.log / tiles.entries_path(0, 10)
    tile = plain.log / tiles.tile_path(0, 0, 10)
    for path, data in ((bundle, tiles.encode_bundle(chained_leaves)), (tile, hashes)):
        kept = path.read_bytes()
        path.write_bytes(data)
        assert plain.caught() == {table.FILES}
        path.write_bytes(kept)
    assert table.FILES not in plain.caught()
