# ruff: noqa: ANN401  the scene is loaded from a file, and has no type here
"""Attacks on the files of an audit log, without its key: what catches them, and what does not."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.audit.details import Detail
from secureml.audit.erasing import erase
from secureml.audit.retention import (
    RetentionPolicy,
    place_hold,
    prune,
    release_hold,
    set_policy,
)
from secureml.errors import FormatError, GateDeniedError, StoreError, VerificationError
from secureml.evidence.standalone import verify_log
from secureml.wire import merkle, tiles
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import ED25519, Note, VKey

_spec = spec_from_file_location("audit_scene", Path(__file__).with_name("audit_scene.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="audit_scene")
scenes = module_from_spec(_spec)
_spec.loader.exec_module(scenes)
built, plain, chained = scenes.built, scenes.plain, scenes.chained
machine, case = scenes.machine, scenes.case

Case = Callable[..., None]


def put(scene: Any, leaves: list[bytes], *, tiled: bool = True) -> None:
    """Put other leaves into the files, the hashes made to match, and the checkpoint's text too."""
    old = scene.size()
    (scene.log / tiles.entries_path(0, old)).unlink()
    (scene.log / tiles.entries_path(0, len(leaves))).write_bytes(tiles.encode_bundle(leaves))
    if not tiled:
        return
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    (scene.log / tiles.tile_path(0, 0, old)).unlink()
    (scene.log / tiles.tile_path(0, 0, len(leaves))).write_bytes(b"".join(hashes))
    note = Note.decode(scene.note())
    text = Checkpoint(scenes.ORIGIN, len(leaves), merkle.root(hashes)).encode()
    (scene.log / "checkpoint").write_text(Note(text, note.signatures).encode())


@pytest.mark.parametrize("name", ["plain", "chained"])
def test_a_log_that_nobody_attacked(
    built: Callable[[str], Any], tmp_path: Path, name: str
) -> None:
    """No means says anything about a log to which nothing was done."""
    scene = built(name).copy(tmp_path / "machine")
    seen = scene.verify(remembered=[scene.saved])

    assert set() == scene.caught()
    assert seen.window.rollback == "checked"
    assert scene.judge(seen).witnessed_size == seen.size - seen.window.size


@pytest.mark.parametrize("tiled", [True, False])
def test_an_edited_entry(plain: Any, case: Case, tiled: bool) -> None:  # noqa: FBT001  a parameter
    """A changed byte changes the hash, and the hash is signed."""
    leaves = plain.leaves()
    leaves[2] = scenes.edited(leaves[2])
    put(plain, leaves, tiled=tiled)

    case(plain)


def test_a_deleted_entry(plain: Any, case: Case) -> None:
    """One entry fewer is another tree, whatever the checkpoint's text says."""
    leaves = plain.leaves()
    put(plain, [*leaves[:3], *leaves[4:]])

    case(plain)


def test_an_inserted_entry(plain: Any, case: Case) -> None:
    """One entry more is another tree."""
    leaves = plain.leaves()
    put(plain, [*leaves[:3], scenes.new_id(leaves[3]), *leaves[3:]])

    case(plain)


def test_reordered_entries(plain: Any, case: Case) -> None:
    """The order is part of the tree."""
    leaves = plain.leaves()
    put(plain, [*leaves[:2], leaves[3], leaves[2], *leaves[4:]])

    case(plain)


def test_a_duplicated_entry(plain: Any, case: Case) -> None:
    """An entry that is there twice is another tree."""
    leaves = plain.leaves()
    put(plain, [*leaves[:3], leaves[2], *leaves[3:]])

    case(plain)


def test_a_replayed_entry(plain: Any, case: Case) -> None:
    """A signed checkpoint has one size: what is appended behind it is not covered."""
    leaves = plain.leaves()
    put(plain, [*leaves, leaves[1]])

    case(plain)


def _other_tile(scene: Any) -> None:
    path = scene.log / tiles.tile_path(0, 0, scene.size())
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


def _other_bundle(scene: Any) -> None:
    path = scene.log / tiles.entries_path(0, scene.size())
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _other_size(scene: Any) -> None:
    path = scene.log / "checkpoint"
    size = f"\n{scene.size()}\n"
    path.write_text(path.read_text().replace(size, f"\n{scene.size() - 1}\n", 1))


def _other_signature(scene: Any) -> None:
    path = scene.log / "checkpoint"
    lines = path.read_text().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(lines[-1][-20], "A" if lines[-1][-20] != "A" else "B", 1)
    path.write_text("".join(lines))


def _no_tile(scene: Any) -> None:
    (scene.log / tiles.tile_path(0, 0, scene.size())).unlink()


def _one_tile_more(scene: Any) -> None:
    (scene.log / "tile/0/001.p").mkdir()
    (scene.log / "tile/0/001.p/1").write_bytes(bytes(32))


def _old_tile(scene: Any) -> None:
    early = scene.state("early", "evidence/audit/tile/0/000.p")
    for path in early.iterdir():
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        (scene.log / "tile/0/000.p" / path.name).write_bytes(data)


def _bundle_of_another_log(scene: Any) -> None:
    leaves = [scenes.new_id(leaf) for leaf in scene.leaves()]
    put(scene, leaves, tiled=False)


@pytest.mark.parametrize(
    "change",
    [
        _other_tile,
        _other_bundle,
        _other_size,
        _other_signature,
        _no_tile,
        _one_tile_more,
        _old_tile,
        _bundle_of_another_log,
    ],
)
def test_an_edited_tile(plain: Any, case: Case, change: Callable[[Any], None]) -> None:
    """Each file of the log is exactly what the entries make it, and there is no other."""
    change(plain)

    case(plain)


def test_rewritten_without_the_key(plain: Any, case: Case) -> None:
    """A log under another key is nobody's, however well it is made."""
    stranger = keys.generate("ed25519", purposes=frozenset({"audit"}))
    plain.rewrite([scenes.edited(leaf) for leaf in plain.leaves()], stranger)

    case(plain)

    plain.trust = scenes.Trust((scenes.identity(stranger.verifier),))
    assert not plain.caught() & {scenes.table.FILES, scenes.table.RECORDS}


def _first_line(scene: Any) -> tuple[Path, list[bytes]]:
    path = max(scene.details.iterdir(), key=lambda one: one.stat().st_size)
    return path, path.read_bytes().splitlines(keepends=True)


def _edit_value(scene: Any) -> None:
    path, lines = _first_line(scene)
    one, two = (Detail.decode(line) for line in lines[:2])
    path.write_bytes(b"".join([Detail(one.id, two.values).encode(), *lines[1:]]))


def _swap_values(scene: Any) -> None:
    path, lines = _first_line(scene)
    one, two = (Detail.decode(line) for line in lines[:2])
    swapped = [Detail(one.id, two.values), Detail(two.id, one.values)]
    path.write_bytes(b"".join([*(detail.encode() for detail in swapped), *lines[2:]]))


def _delete_value(scene: Any) -> None:
    path, lines = _first_line(scene)
    path.write_bytes(b"".join(lines[1:]))


def _delete_values(scene: Any) -> None:
    shutil.rmtree(scene.details)


def _add_value(scene: Any) -> None:
    path, lines = _first_line(scene)
    path.write_bytes(b"".join([*lines, lines[0]]))


@pytest.mark.parametrize(
    "change", [_edit_value, _swap_values, _delete_value, _delete_values, _add_value]
)
def test_an_edited_value(plain: Any, case: Case, change: Callable[[Any], None]) -> None:
    """Each value opens its commitment, and no line is missing, strange or there twice."""
    change(plain)

    case(plain)


def test_an_edited_receipt(plain: Any, case: Case) -> None:
    """A receipt that is not signed as it says counts for nothing, and is listed."""
    (path,) = plain.receipts.iterdir()
    data = bytearray(path.read_bytes())
    at = data.index(b"witness.example/w1 ") + 40
    data[at] = ord("A") if data[at] != ord("A") else ord("B")
    path.write_bytes(data)

    case(plain)


def test_deleted_receipts(plain: Any, case: Case) -> None:
    """Nothing says offline how many receipts there were."""
    shutil.rmtree(plain.receipts)

    case(plain)

    assert plain.judge(plain.verify()).anchored == ()


def _link(scene: Any, path: Path) -> None:
    target = scene.base / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def _pipe(_: Any, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(_: Any, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _huge(_: Any, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def _large(_: Any, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(64 << 20)


def _unknown(scene: Any, _: Path) -> None:
    (scene.log / "core").write_bytes(b"x")


@pytest.mark.parametrize("change", [_link, _pipe, _directory, _huge, _unknown])
@pytest.mark.parametrize("which", ["checkpoint", "bundle", "tile"])
def test_hostile_input(
    plain: Any, case: Case, change: Callable[[Any, Path], None], which: str
) -> None:
    """What is no regular file of its size is refused, unread, and nothing hangs."""
    name = {
        "checkpoint": "checkpoint",
        "bundle": tiles.entries_path(0, plain.size()),
        "tile": tiles.tile_path(0, 0, plain.size()),
    }[which]
    change(plain, plain.log / name)

    case(plain)


@pytest.mark.parametrize("change", [_link, _pipe, _directory, _large])
def test_hostile_values(plain: Any, change: Callable[[Any, Path], None]) -> None:
    """The same among the values: whatever lies there, it is reported or refused."""
    path, _ = _first_line(plain)
    change(plain, path)

    try:
        found = plain.verify(details=plain.details)
    except (FormatError, VerificationError, StoreError):
        return
    assert found.details.findings


@pytest.mark.parametrize("change", [_link, _pipe, _directory, _huge])
def test_hostile_receipts(plain: Any, change: Callable[[Any, Path], None]) -> None:
    """The same among the receipts."""
    (path,) = plain.receipts.iterdir()
    change(plain, path)

    with pytest.raises((FormatError, VerificationError)):
        plain.judge(plain.verify())


def long_log(scene: Any) -> list[bytes]:
    """Let a writer write more than a bundle, and return what it wrote."""
    with scene.sink() as sink:
        set_policy(sink, RetentionPolicy())
        for _ in range(300):
            sink.append({"type": "config", "config": {"name": "threshold"}})
    return scene.leaves()


def test_bundles_removed_without_a_policy(machine: Any, case: Case) -> None:
    """A bundle that is gone, and no record says so, is a bundle that is missing."""
    long_log(machine)
    (machine.log / tiles.entries_path(0)).unlink()

    case(machine)


def test_pruned_without_a_policy(machine: Any, case: Case) -> None:
    """Without a policy nothing is pruned."""
    with machine.sink() as sink:
        for _ in range(300):
            sink.append({"type": "config", "config": {"name": "threshold"}})
        with pytest.raises(GateDeniedError, match="no retention policy"):
            prune(sink, now=datetime.now(UTC))

    case(machine, scenes.table.CALL)

    assert (machine.log / tiles.entries_path(0)).exists()


def test_pruned_under_a_hold(machine: Any, case: Case) -> None:
    """A legal hold blocks pruning and erasure alike."""
    long_log(machine)
    with machine.sink() as sink:
        place_hold(sink, "case-17")
        with pytest.raises(GateDeniedError, match="legal hold"):
            prune(sink, now=datetime.now(UTC).replace(year=2100))
        with pytest.raises(GateDeniedError, match="legal hold"):
            erase(sink, "alice", reason="request")

    case(machine, scenes.table.CALL)

    assert (machine.log / tiles.entries_path(0)).exists()


def prune_record(scene: Any, sink: Any, minimum: int) -> dict[str, Any]:
    """Return the record that other software than ours may write before it removes entries."""
    sink.publish()
    over = [r.writer for r in scene.records() if r.type == "end"]
    going_on = {r.writer: r.seq + 1 for r in scene.records()[:minimum] if r.writer not in over}
    policy = RetentionPolicy().to_json()
    return {"minimum": minimum, "kept": [], "policy": policy, "writers": going_on}


def test_a_false_prune_record(machine: Any, case: Case) -> None:
    """NOT CAUGHT: who has the key may say that records were old; the record that says so stays."""
    with machine.sink() as sink:
        for _ in range(300):
            sink.append({"type": "config", "config": {"name": "threshold"}})
        sink.append({"type": "prune", "prune": prune_record(machine, sink, 256)})
    (machine.log / tiles.entries_path(0)).unlink()

    case(machine)

    seen = machine.verify()
    assert (seen.minimum, seen.report.types["prune"]) == (256, 1)


def test_a_prune_record_under_a_hold(machine: Any, case: Case) -> None:
    """What is gone under a hold is named, with Python alone too; once it is released, no more."""
    with machine.sink() as sink:
        for _ in range(300):
            sink.append({"type": "config", "config": {"name": "threshold"}})
        place_hold(sink, "case-17")
        sink.append({"type": "prune", "prune": prune_record(machine, sink, 256)})
    assert machine.caught() == set()
    (machine.log / tiles.entries_path(0)).unlink()

    case(machine, scenes.table.WARNING)

    (warning,) = machine.verify().report.warnings
    assert (warning.code, machine.verify().ok) == ("prune-under-hold", True)
    vkey = VKey(scenes.ORIGIN, ED25519, machine.signer().verifier.raw).encode()
    alone = verify_log.command([str(machine.log), "--key", vkey])[0]
    assert [one["entry"] for one in alone["warnings"]] == [warning.index]
    with machine.sink() as sink:
        release_hold(sink, "case-17")
    assert not machine.verify().findings
    types = machine.verify().report.types
    assert (types["hold"], types["prune"]) == (2, 1)
