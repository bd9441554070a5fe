# ruff: noqa: ANN401  the scene is loaded from a file, and has no type here
"""Attacks with an audit log's key, cuts and rollbacks: what catches them, and what does not."""

import shutil
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.evidence.epochs import join_notes, read_notes
from secureml.evidence.keeping import create_tail
from secureml.keys.files import load
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

_spec = spec_from_file_location("audit_scene", Path(__file__).with_name("audit_scene.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="audit_scene")
scenes = module_from_spec(_spec)
_spec.loader.exec_module(scenes)
built, plain, chained = scenes.built, scenes.plain, scenes.chained
machine, case = scenes.machine, scenes.case
table = scenes.table

Case = Callable[..., None]


def change(scene: Any, at: int) -> list[bytes]:
    """Return the leaves, one of the calls from *at* on changed."""
    leaves: list[bytes] = scene.leaves()
    where = next(n for n in range(at, len(leaves)) if b'"type":"call"' in leaves[n])
    leaves[where] = scenes.edited(leaves[where])
    return leaves


def boundary(scene: Any) -> int:
    """Return the size of the first epoch."""
    (note,) = read_notes(scene.at.notes)
    return Checkpoint.decode(Note.decode(note).text).size


def saved(scene: Any) -> int:
    """Return the size of the checkpoint that auditor and witness have."""
    return Checkpoint.decode(Note.decode(scene.saved).text).size


def shipped(scene: Any) -> Any:
    """Return the evidence as another auditor gets it, who never sees the machine."""
    other = scene.copy(scene.base.with_name("other"))
    other.tail_key = b""
    return other


# With the key


def test_rewritten_with_the_key(plain: Any, case: Case) -> None:
    """With one key the past is at its holder's mercy, but for what others remember."""
    plain.rewrite(change(plain, 0))

    case(plain)

    assert plain.verify().window.size == plain.size()


def test_rewritten_by_who_owns_the_machine(plain: Any, case: Case) -> None:
    """A machine's own memory is its owner's; the tail's first key is not on it any more."""
    plain.rewrite(change(plain, 0))
    shutil.copy(plain.log / "checkpoint", plain.private / "checkpoints/audit")
    plain.at.tail.unlink()
    plain.at.steps.unlink()
    create_tail(plain.log, plain.private, origin=scenes.ORIGIN)

    case(plain)


def test_rewritten_in_the_window(plain: Any, case: Case) -> None:
    """What nobody has seen is not missed; the sealed tail is the only means on the machine."""
    plain.rewrite(change(plain, saved(plain)))

    case(plain)

    window = plain.verify(remembered=[plain.saved]).window
    assert (window.first, window.size) == (saved(plain), plain.size() - saved(plain))


def test_rewritten_below_a_boundary(chained: Any, plain: Any, case: Case) -> None:
    """The key that signed an earlier epoch is gone; a log with one key has no such bound."""
    chained.rewrite(change(chained, 0))
    plain.rewrite(change(plain, 0))

    case(chained)

    assert table.FILES not in plain.caught()


def test_rewritten_in_the_epoch(chained: Any, case: Case) -> None:
    """The thief of a key has its epoch, but for what others remember of it."""
    chained.rewrite(change(chained, boundary(chained)))

    case(chained)


def old_key(scene: Any) -> Any:
    """Return the first epoch's key, from a snapshot of the time when it signed."""
    path = scene.state("ended", "evidence.private/epochs/audit/000000.pem")
    assert path.name not in [one.name for one in scene.at.keys.iterdir()]
    return load(path, purposes=frozenset({"audit"}))


def test_a_key_outside_its_epoch(chained: Any, case: Case) -> None:
    """A key is good for the checkpoints of its epoch, and for no other size."""
    chained.rewrite(chained.leaves(), old_key(chained))

    case(chained)


def test_a_copy_of_a_destroyed_key(chained: Any, case: Case) -> None:
    """A key that was copied before it was destroyed makes another end of its own epoch."""
    leaves = chained.leaves()
    end = next(n for n, leaf in enumerate(leaves) if b'"type":"end"' in leaf)
    chained.at.notes.write_text(join_notes([]))
    chained.put_back("ended", "evidence/details")
    chained.rewrite(map(scenes.edited, leaves[: end + 1]), old_key(chained))

    case(chained)


def test_receipts_deleted_to_hide_it(plain: Any, case: Case) -> None:
    """Receipts that are gone contradict nothing; who gave them does."""
    plain.rewrite(change(plain, 0))
    shutil.rmtree(plain.receipts)

    case(plain)


def test_a_split_view(plain: Any, case: Case) -> None:
    """Each of two logs verifies; the witness cosigned one of them, and the checkpoints differ."""
    other = shipped(plain)
    other.rewrite(change(other, 0))
    shutil.rmtree(other.receipts)

    case(other)

    assert set() == plain.caught()
    assert other.judge(other.verify()).witnessed_size == 0
    plain.saved = other.note()
    assert {table.CHECKPOINT} == plain.caught()


def test_split_in_the_window(plain: Any, case: Case) -> None:
    """Behind the last anchored checkpoint there may be two ends, until the next is anchored."""
    other = shipped(plain)
    other.rewrite(change(other, saved(plain)))

    case(other)

    # The witness has cosigned that end, and takes no other of the same size.
    plain.witness.size, plain.witness.root = other.witness.size, other.witness.root
    plain.witness.server.answer = plain.witness.answer
    assert {table.WITNESS} == plain.caught()
    plain.saved = other.note()
    assert table.CHECKPOINT in plain.caught()


def test_stolen_and_used_honestly(plain: Any, case: Case) -> None:
    """NOT CAUGHT: a signature says which key, not who held it."""
    sink = plain.sink()
    scenes.calls(sink, 2)
    sink.close()

    case(plain)

    retired = {scenes.ORIGIN: plain.size() - 1}
    named = scenes.replace(plain.trust.identities[0], retired=retired)
    plain.trust = scenes.replace(plain.trust, identities=(named,))
    assert {table.FILES} == plain.caught()


# Cuts and rollbacks


@pytest.mark.parametrize("name", ["plain", "chained"])
def test_a_cut_tail(built: Callable[[str], Any], case: Case, tmp_path: Path, name: str) -> None:
    """An older checkpoint of the log is a good one; that there were more entries, others know."""
    scene = built(name).copy(tmp_path / "machine")
    scene.put_back("early", "evidence/audit")

    case(scene)


def test_a_cut_in_the_window(plain: Any, case: Case) -> None:
    """Cut to what was remembered, a log lacks nothing that anybody outside has seen."""
    plain.put_back("saved", "evidence/audit")

    case(plain)


def test_a_cut_after_an_end(plain: Any, case: Case) -> None:
    """Where a writer ended in good order, no silence tells that another one had begun."""
    plain.put_back("ended", "evidence/audit", "evidence/details")
    shutil.rmtree(plain.receipts)

    case(plain)


def test_a_snapshot_put_back(plain: Any, case: Case) -> None:
    """With the whole machine everything on it goes back, the tail included."""
    plain.put_back("ended")

    case(plain)

    plain.saved, plain.witness = "", None
    assert set() == plain.caught()
    assert plain.verify().window.rollback == "not checkable"


def test_a_snapshot_that_goes_on(plain: Any, case: Case) -> None:
    """The machine that goes on after a rollback makes a fork, as long as it may be."""
    plain.put_back("early")
    for _ in range(3):
        with plain.sink() as sink:
            scenes.calls(sink, 6)
    assert plain.size() > saved(plain)

    case(plain)

    plain.saved, plain.witness = "", None
    assert {table.WARNING} == plain.caught()


def test_a_tail_destroyed(plain: Any, case: Case) -> None:
    """A tail that is gone proves nothing, but that it is gone."""
    plain.at.tail.unlink()

    case(plain)


def test_a_tail_that_was_kept(plain: Any) -> None:
    """NOT CAUGHT: who kept an old key and tag puts them back with the log that they belong to."""
    plain.put_back("early", "evidence/audit", "evidence/tails")
    shutil.copy(plain.state("early", "evidence.private/tails/audit"), plain.at.tail)

    assert table.TAIL not in plain.caught()
    assert table.CHECKPOINT in plain.caught()
