# ruff: noqa: ANN401  the scene is loaded from a file, and has no type here
"""
Attacks between the call and the log, by whoever runs as the same user: spools, kills, forks.

What is not sequenced yet is in reach of its user for about a second; the tests hold the
sequencer back to make that second as long as they need it.
"""

import contextlib
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.audit import audited
from secureml.audit._events import event
from secureml.audit.record import Record, prefix
from secureml.clock import now
from secureml.errors import StoreError
from secureml.evidence import sequencer
from secureml.evidence._spool import ACK, BATCH, HEAD_SIZE, Head, Spool, ack_path, segment_path
from secureml.wire import canonical, frame

_spec = spec_from_file_location("audit_scene", Path(__file__).with_name("audit_scene.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="audit_scene")
scenes = module_from_spec(_spec)
_spec.loader.exec_module(scenes)
machine, case = scenes.machine, scenes.case
table = scenes.table

Case = Callable[..., None]


@pytest.fixture(autouse=True)
def _held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequence only when somebody waits for it."""
    monkeypatch.setattr(sequencer, "INTERVAL", 3600.0)


@pytest.fixture
def sink(machine: Any) -> Iterator[Any]:
    """Return the machine's log, open, its writer's start under a checkpoint."""
    made = machine.sink()
    made.begin()
    yield made
    made.close()


def answers(sink: Any, count: int) -> list[str]:
    """Let an audited function be called, each call durable by itself; return the ids."""
    from secureml import audit

    function = audited(sink, action="diagnose", durable=True)(scenes.answer)
    with audit.collect() as records:
        for n in range(count):
            function(n)
    return [record.id for record in records]


def frames(path: Path) -> list[tuple[int, bytes]]:
    """Return offset and payload of each frame of a segment."""
    data, at, found = path.read_bytes(), HEAD_SIZE, []
    while (length := int.from_bytes(data[at : at + 4])) > 0:
        found.append((at, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def wipe(path: Path, frames: list[tuple[int, bytes]]) -> None:
    """Write zeros over frames."""
    with path.open("r+b") as file:
        for at, payload in frames:
            file.seek(at)
            file.write(bytes(8 + len(payload)))


def overwrite(path: Path, at: int, payloads: list[bytes]) -> None:
    """Write frames from an offset on, with good checksums."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"".join(map(frame.encode, payloads)))


def segment(scene: Any, writer: str) -> Path:
    """Return a writer's first segment."""
    return segment_path(scene.spools, bytes.fromhex(writer), 0)


def batch(first: int, bodies: list[bytes], *, synced: int = 0) -> bytes:
    """Return the payload of a frame with records."""
    lengths = struct.pack(f">{2 * len(bodies)}I", *map(len, bodies), *[0] * len(bodies))
    return BATCH.pack(1, 0, synced, first, len(bodies)) + lengths + b"".join(bodies)


def plant(scene: Any, bodies: list[bytes], *, first: int = 0, named: bytes = b"") -> bytes:
    """Leave a spool of a writer that is gone, as any program of the user can; return its name."""
    writer = named or os.urandom(16)
    payloads = [batch(first, bodies), struct.pack(">BQ", 3, 0)]
    scene.spools.mkdir(parents=True, exist_ok=True)
    data = Head(writer, 0).encode() + b"".join(map(frame.encode, payloads))
    segment_path(scene.spools, writer, 0).write_bytes(data.ljust(1 << 16, b"\0"))
    return writer


def say(kind: str, **body: Any) -> bytes:
    """Return the body of a record."""
    return event(kind, body, now)


def merge(scene: Any) -> None:
    """Let another process come and go: it merges what it finds."""
    with scene.sink() as other:
        other.append({"type": "config", "config": {"name": "restarted"}})


# The application


def test_never_audited(machine: Any, case: Case) -> None:
    """NOT CAUGHT: what does not call the audited function leaves nothing."""
    with machine.sink() as sink:
        function = audited(sink, action="diagnose")(scenes.answer)
        function(1)
        function.__wrapped__(2)  # type: ignore[attr-defined]

    case(machine)

    assert machine.verify().report.types["call"] == 1


def test_a_false_statement(machine: Any, case: Case) -> None:
    """NOT CAUGHT: the log says what the function said, not whether it is so."""
    with machine.sink() as sink:
        audited(sink, action="diagnose", capture=["return"])(lambda: "healthy, whatever it was")()

    case(machine)


def test_a_fork_storm(machine: Any, case: Case) -> None:
    """Every process is a writer of its own: no gap, no duplicate, nothing lost."""
    code = """
f = audit.audited(sink, action="storm", capture=["n"], durable=True)(lambda n: n)
f(0)
for branch in range(6):
    if os.fork() == 0:
        f(1)
        if os.fork() == 0:
            f(2)
            sink.close()
            os._exit(0)
        os.wait()
        f(3)
        sink.close()
        os._exit(0)
    f(4)
for branch in range(6):
    os.wait()
sink.close()
"""
    scenes.finish(scenes.child(machine, code))

    case(machine)

    report = machine.verify().report
    assert (report.types["call"], len(report.writers)) == (1 + 6 * 4, 1 + 12)


# Kills


def test_an_intent_without_an_outcome(machine: Any, case: Case) -> None:
    """A call that was announced and killed is named; one that was not leaves no trace."""
    code = """
sink.begin()
f = audit.audited(sink, action="diagnose", require="before")(die)
f()
"""
    scenes.finish(scenes.child(machine, code))
    scenes.finish(scenes.child(machine, code.replace("before", "after")))
    merge(machine)

    case(machine)

    found = machine.verify().report.found
    assert found == {"killed-writer": 2, "cut-short": 1}


def test_a_kill_with_queued_records(machine: Any, case: Case) -> None:
    """What a kill takes from memory is gone without its name; what was durable is there."""
    code = """
sink.begin()
queued = audit.audited(sink, action="queued")(lambda: None)
durable = audit.audited(sink, action="durable", durable=True)(lambda: None)
durable()
queued()
die()
"""
    scenes.finish(scenes.child(machine, code))
    merge(machine)

    case(machine)

    assert [r.body["action"] for r in machine.records() if r.type == "call"] == ["durable"]


# A writer's own spool


def test_a_frame_removed_in_the_middle(machine: Any, sink: Any, case: Case) -> None:
    """Behind the hole stands a frame that says what had been synced: the spool is set aside."""
    answers(sink, 5)
    path = segment(machine, sink.writer)
    wipe(path, frames(path)[2:4])
    sink.close()

    case(machine)

    assert machine.verify().report.found == {"recovery-corrupt": 1, "killed-writer": 1}
    assert any((machine.spools / "aside").iterdir())


def test_a_frame_removed_at_the_end(machine: Any, case: Case) -> None:
    """A spool without its end looks like that of a writer that was killed before it wrote it."""
    code = """
f = audit.audited(sink, action="diagnose", durable=True)(lambda n: n)
for n in range(5):
    f(n)
say(sink.writer)
wait()
"""
    (writer,) = scenes.finish(scenes.child(machine, code))
    path = segment(machine, writer)
    wipe(path, frames(path)[-2:])
    merge(machine)

    case(machine)

    report = machine.verify().report
    assert report.found == {"killed-writer": 1}
    assert report.types["call"] == 3


def delete_spool(machine: Any, sink: Any) -> None:
    """Remove a writer's spool while it lives: its next call is refused."""
    answers(sink, 3)
    for path in machine.spools.glob(f"{sink.writer}*"):
        path.unlink()
    with pytest.raises(StoreError):
        answers(sink, 1)
    with contextlib.suppress(StoreError):
        sink.close()


def test_a_spool_deleted(machine: Any, sink: Any, case: Case) -> None:
    """The start was under a checkpoint before anything else: who then is silent is named."""
    delete_spool(machine, sink)

    case(machine, table.CALL)

    assert machine.verify().report.types == {"start": 1}


def test_a_spool_deleted_and_the_log_went_on(machine: Any, sink: Any, case: Case) -> None:
    """Two heartbeats later every verification names the writer that fell silent."""
    delete_spool(machine, sink)
    with machine.sink(clock=lambda: datetime.now(UTC) + timedelta(seconds=125)) as other:
        answers(other, 1)

    case(machine, table.CALL)

    assert machine.verify().report.found == {"silent-writer": 1}


def test_a_frame_replaced(machine: Any, sink: Any, case: Case) -> None:
    """NOT CAUGHT: a checksum is no signature; what is not sequenced can be another."""
    answers(sink, 3)
    path = segment(machine, sink.writer)
    at, payload = frames(path)[2]
    overwrite(path, at, [payload.replace(b"diagnose", b"dismissx")])
    sink.close()

    case(machine)

    assert machine.verify().report.types["call"] == 3


def test_a_forged_end(machine: Any, case: Case) -> None:
    """NOT CAUGHT: before they are sequenced, the last records can be made never to have been."""
    code = """
f = audit.audited(sink, action="diagnose", durable=True)(lambda n: n)
for n in range(5):
    f(n)
say(sink.writer)
wait()
"""
    (writer,) = scenes.finish(scenes.child(machine, code))
    path = segment(machine, writer)
    there = frames(path)
    wipe(path, there[-2:])
    end = batch(4, [say("end", end={"records": 5})])
    overwrite(path, there[-2][0], [end, struct.pack(">BQ", 3, 5)])
    merge(machine)

    case(machine)

    assert machine.verify().report.types["call"] == 3


def test_a_forged_acknowledgement(machine: Any, sink: Any, case: Case) -> None:
    """NOT CAUGHT by the call: the file of acknowledgements is a hint, and believed."""
    answers(sink, 1)
    told = sink.append({"type": "config", "config": {"name": "x"}}, durable=True)
    with ack_path(machine.spools, bytes.fromhex(sink.writer)).open("ab") as file:
        file.write(ACK.pack(1, 2, 7))
    told.wait("checkpointed")
    assert told.index == 8
    assert machine.size() == 1
    sink._sequencer.step(now=True)
    sink.close()

    case(machine)

    assert machine.verify().report.types["config"] == 1


# Other spools


def test_a_writer_of_its_own(machine: Any, case: Case) -> None:
    """NOT CAUGHT: whoever may write to the directory of spools may record."""
    merge(machine)
    writer = plant(machine, [say("start", start={}), say("end", end={"records": 2})])
    merge(machine)

    case(machine)

    assert machine.verify().report.writers[writer.hex()] == 2


def test_a_spool_that_names_another(machine: Any, sink: Any, case: Case) -> None:
    """A spool counts for the writer that its file is named after, or for nobody."""
    victim = bytes.fromhex(sink.writer)
    answers(sink, 1)
    writer = plant(machine, [say("start", start={})])
    path = segment_path(machine.spools, writer, 0)
    path.write_bytes(Head(victim, 0).encode() + path.read_bytes()[HEAD_SIZE:])
    sink.close()

    case(machine)

    report = machine.verify().report
    assert report.found == {"recovery-corrupt": 1}
    assert report.writers[victim.hex()] == 3


def test_a_prefix_inside_a_body(machine: Any, sink: Any, case: Case) -> None:
    """The sequencer writes the prefix: what a body says of its writer makes it no record."""
    victim = sink.writer
    answers(sink, 1)
    forged = prefix(victim, 2) + say("config", config={"name": "x"})
    plant(machine, [say("start", start={}), forged, say("end", end={"records": 3})])
    sink.close()

    case(machine)

    report = machine.verify().report
    assert report.found["not-a-record"] == 1
    assert report.writers[victim] == 3


def test_records_after_an_end(machine: Any, case: Case) -> None:
    """A writer that has ended has ended."""
    with machine.sink() as sink:
        answers(sink, 1)
        victim = bytes.fromhex(sink.writer)
    plant(machine, [say("config", config={"name": "x"})], first=3, named=victim)
    merge(machine)

    case(machine)

    assert machine.verify().report.found["after-end"] == 1


@pytest.mark.parametrize("number", [1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_huge_number(machine: Any, sink: Any, case: Case, number: int) -> None:
    """A record whose predecessors are not there is set aside, and poisons nobody's count."""
    answers(sink, 1)
    writer = plant(machine, [say("config", config={"name": "x"})], first=number)
    sink.close()
    plant(machine, [say("config", config={"name": "x"})], first=number, named=writer)
    merge(machine)

    case(machine)

    assert machine.verify().report.found == {"recovery-gap": 2}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"no record", b"x" * 70_000, canonical.encode({"type": "start"})]
)
def test_records_that_are_none(machine: Any, sink: Any, case: Case, body: bytes) -> None:
    """What is no record is a finding, and stops nobody else's records."""
    answers(sink, 1)
    plant(machine, [say("start", start={}), body])
    answers(sink, 1)
    sink.close()
    merge(machine)

    case(machine)

    assert machine.verify().report.types["call"] == 2


@pytest.mark.parametrize("whole", [True, False])
def test_an_old_spool_replayed(
    machine: Any,
    case: Case,
    tmp_path: Path,
    whole: bool,  # noqa: FBT001  a parameter
) -> None:
    """Each record counts once, by writer and number, whatever comes again."""
    with machine.sink() as sink:
        answers(sink, 3)
        shutil.copytree(machine.spools, tmp_path / "copy")
        writer = sink.writer
        if whole:
            sink.publish()
    before = machine.leaves()
    for path in (tmp_path / "copy").glob(f"{writer}*.spool"):
        shutil.copy(path, machine.spools)
    merge(machine)

    case(machine)

    assert machine.leaves()[: len(before)] == before
    assert machine.verify().report.types["call"] == 3


def test_a_spool_is_for_one_writer(machine: Any) -> None:
    """A name is drawn at random, and files of another's name are never opened for writing."""
    machine.spools.mkdir(parents=True)
    made = [Spool(machine.spools, scenes.Quick(), size=4096) for _ in range(20)]
    names = {one.writer for one in made}
    for one in made:
        one.close()

    assert len(names) == 20


def test_order_is_by_number(machine: Any, sink: Any) -> None:
    """A writer's records are in the log in the order in which they were accepted."""
    ids = answers(sink, 5)
    sink.publish()

    found = [Record.decode(leaf).id for leaf in machine.leaves()]

    assert [one for one in found if one in ids] == ids
