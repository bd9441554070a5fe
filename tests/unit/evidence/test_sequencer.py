# ruff: noqa: ANN401  the rig is loaded by its path, and has no type
"""The sequencer: each record once, whoever died, whatever one spool holds, whatever fails."""

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import StoreError
from secureml.evidence._spool import ack_path, segment_path
from secureml.evidence.sequencer import MANY, Sequencer

_spec = spec_from_file_location("spool_rig", Path(__file__).with_name("spool_rig.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="spool_rig")
rig = module_from_spec(_spec)
_spec.loader.exec_module(rig)
write = rig.write


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Any]:
    """Return a directory with a log and spools."""
    made = rig.Yard(tmp_path)
    yield made
    made.close()


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so; a busy machine may take its time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def flip(path: Path, what: bytes) -> None:
    """Change a byte of *what* in a file."""
    data = bytearray(path.read_bytes())
    data[data.index(what)] ^= 1
    path.write_bytes(data)


def test_many_writers_into_one_log(yard: Any) -> None:
    """Records come into the log once each, in the order of their writer, with a place."""
    spools = [yard.spool() for _ in range(5)]
    sequencer = yard.sequencer()
    for n in range(20):
        for spool in spools:
            write(spool, b"%d" % n, b"and")
        assert sequencer.step(now=True)
        assert sequencer.step(now=True)

    for spool in spools:
        assert [b"%d" % n if half == 0 else b"and" for n in range(20) for half in (0, 1)] == (
            yard.bodies(spool)
        )
        assert spool.acknowledged() == 40
        places = [spool.index_of(n) for n in range(40)]
        assert [spool.writer + n.to_bytes(8) for n in range(40)] == [
            yard.entries()[place][:24] for place in places
        ]


def test_one_leads_and_another_follows(yard: Any) -> None:
    """Who has not the lock does nothing; when the leader goes, the next goes on where it was."""
    one = yard.sequencer()
    other = yard.sequencer()
    other._lock = one._lock
    spool = yard.spool()
    write(spool, b"a")
    assert one.step(now=True)
    pid = os.fork()
    if not pid:  # pragma: no cover  in the child
        try:
            again = rig.Yard(yard.base)
            os._exit(again.sequencer().step(now=True))
        except BaseException:  # noqa: BLE001  a child must not go on with the tests
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    one.leave()
    write(spool, b"b")
    assert yard.sequencer().step(now=True)

    assert [b"a", b"b"] == yard.bodies(spool)


def test_who_died_is_buried_once(yard: Any) -> None:
    """A writer without an end leaves a word on how far it came, and no files."""
    clean, torn, done = yard.spool(), yard.spool(), yard.spool()
    merge = rig.Plain()
    for spool in (clean, torn, done):
        write(spool, b"a", b"b")
    write(torn, b"third")
    flip(segment_path(yard.spools, torn.writer, 0), b"third")
    done.end()
    for spool in (clean, torn, done):
        spool.abandon()
    sequencer = yard.sequencer(merge)
    sequencer.step(now=True)
    sequencer.step(now=True)

    assert {(clean.writer, 2, "clean", 0), (torn.writer, 2, "torn", 46)} == set(merge.buried)
    assert ["lock"] == os.listdir(yard.spools)  # noqa: PTH208  names
    assert len(merge.buried) == 2
    assert not done.exists()


def test_damage_stays_with_its_writer(yard: Any) -> None:
    """A spool that was changed is set aside as it is; what was good is kept, and others go on."""
    bad, good = yard.spool(), yard.spool()
    for n in range(3):
        for spool in (bad, good):
            write(spool, b"record %d" % n)
            spool.sync()
    path = segment_path(yard.spools, bad.writer, 0)
    flip(path, b"record 1")
    before = {p.name: p.read_bytes() for p in yard.spools.glob(f"{bad.writer.hex()}*")}
    bad.abandon()
    merge = rig.Plain()
    sequencer = yard.sequencer(merge)
    sequencer.step(now=True)
    write(good, b"record 3")
    sequencer.step(now=True)

    assert [b"record 0"] == yard.bodies(bad)
    assert [b"record %d" % n for n in range(4)] == yard.bodies(good)
    assert [(bad.writer, 1, "corrupt")] == [buried[:3] for buried in merge.buried]
    kept = {p.name: p.read_bytes() for p in (yard.spools / "aside").iterdir()}
    assert before.items() <= kept.items()


def test_damage_of_a_living_writer(yard: Any) -> None:
    """A living writer whose spool is set aside is told, before it acknowledges anything more."""
    bad = yard.spool()
    write(bad, b"record 0")
    write(bad, b"record 1")
    bad.sync()
    for n in range(2, 14):
        write(bad, b"record %d" % n + bytes(400))
    flip(segment_path(yard.spools, bad.writer, 0), b"record 1")
    merge = rig.Plain()
    yard.sequencer(merge).step(now=True)

    assert [(bad.writer, 1, "corrupt")] == [buried[:3] for buried in merge.buried]
    with pytest.raises(StoreError, match="set aside"):
        bad.sync()


def test_a_gap_is_set_aside(yard: Any) -> None:
    """A spool that lacks a record in the middle is not read past it."""
    spool = yard.spool()
    write(spool, b"a")
    spool._count += 1
    write(spool, b"c")
    merge = rig.Plain()
    yard.sequencer(merge).step(now=True)

    assert [b"a"] == yard.bodies(spool)
    assert [(spool.writer, 1, "gap", 0)] == merge.buried


@pytest.mark.parametrize("body", [b"", b"x" * 65_536])
def test_a_record_that_no_log_takes(yard: Any, body: bytes) -> None:
    """A record that is empty or too long is damage of its spool, and stops nobody else."""
    bad, good = yard.spool(size=1 << 20), yard.spool()
    write(bad, b"a")
    write(bad, body)
    write(bad, b"c")
    write(good, b"a")
    merge = rig.Plain()
    yard.sequencer(merge).step(now=True)

    assert [b"a"] == yard.bodies(bad)
    assert [b"a"] == yard.bodies(good)
    assert [(bad.writer, 1, "corrupt")] == [buried[:3] for buried in merge.buried]


def test_what_the_last_leader_did_not_say(yard: Any) -> None:
    """A leader that died after the checkpoint and before its word leaves nobody waiting."""
    spool, other = yard.spool(), yard.spool()
    write(spool, b"a")
    yard.sequencer().step(now=True)
    write(spool, b"b", b"c")
    write(other, b"x")
    disk = rig.Faulty()
    dying = yard.sequencers.pop()
    dying._files = disk
    for drain in dying._drains.values():
        drain._files = disk
    disk.fail["write"] = errno.EIO
    with pytest.raises(StoreError, match="could not be merged"):
        dying.step(now=True)
    assert spool.acknowledged() == 1
    assert len(yard.entries()) == 4
    dying.leave()
    begun = time.monotonic()
    yard.sequencer().wait(spool, 3, 5.0)

    assert time.monotonic() - begun < 2
    assert (3, 1) == (spool.acknowledged(), other.acknowledged())
    for one, number in ((spool, 1), (spool, 2), (other, 0)):
        place = one.index_of(number)
        assert place is not None
        assert yard.entries()[place].startswith(one.writer + number.to_bytes(8))


def test_half_a_word_is_no_word(yard: Any) -> None:
    """A note to the writer of which a part was written is written anew, not continued."""
    disk = rig.Faulty()
    spool = yard.spool()
    sequencer = yard.sequencer(files=disk)
    write(spool, b"a")
    sequencer.step(now=True)
    write(spool, b"b")
    with ack_path(yard.spools, spool.writer).open("ab") as file:
        file.write(b"half")
    sequencer.step(now=True)

    assert spool.acknowledged() == 2
    assert ack_path(yard.spools, spool.writer).stat().st_size == 48


def test_short_writes_change_nothing(tmp_path: Path) -> None:
    """A system that takes a few bytes at a time makes the same log."""
    disk = rig.Faulty()
    disk.short = 11
    yard = rig.Yard(tmp_path, disk)
    spool = yard.spool()
    sequencer = yard.sequencer()
    for n in range(3):
        write(spool, b"%d" % n)
        sequencer.step(now=True)

    assert [b"0", b"1", b"2"] == yard.bodies(spool)
    assert [0, 1, 2] == [spool.index_of(n) for n in range(3)]
    yard.close()


def test_more_spools_than_descriptors(yard: Any) -> None:
    """Hundreds of dead writers are read with a few dozen files open."""
    spools = []
    for n in range(300):
        spool = yard.spool()
        write(spool, b"%d" % n)
        spool.abandon()
        spools.append(spool)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208  numbers
    merge = rig.Plain()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2 * MANY + 40, hard))
        yard.sequencer(merge).step(now=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(merge.buried) == 300
    assert {(spool.writer, 0) for spool in spools} == {
        (entry[:16], int.from_bytes(entry[16:24])) for entry in yard.entries()
    }
    assert ["lock"] == os.listdir(yard.spools)  # noqa: PTH208  names


def test_no_descriptors_stay_open(yard: Any) -> None:
    """Between two looks nothing is open but the log and its lock."""
    spools = [yard.spool() for _ in range(5)]
    sequencer = yard.sequencer()
    counts = []
    for n in range(4):
        for spool in spools:
            write(spool, b"%d" % n)
        sequencer.step(now=True)
        sequencer._due()
        counts.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208  a number

    assert len(set(counts)) == 1


def test_much_is_merged_in_parts(yard: Any) -> None:
    """More than fits in memory comes in several checkpoints, and nobody waits for another."""
    loud, quiet = yard.spool(size=4 << 20), yard.spool()
    merge = rig.Plain()
    bodies = [b"%06d" % n + b"x" * 60_000 for n in range(500)]
    loud.write(bodies, [b""] * 500, details=0)
    write(quiet, b"a")
    sequencer = yard.sequencer(merge)
    sequencer.step(now=True)

    assert bodies == yard.bodies(loud)
    assert [b"a"] == yard.bodies(quiet)
    assert merge.committed_times >= 3
    place = quiet.index_of(0)
    assert place is not None
    assert place < 300


def test_a_failure_is_told_and_forgotten(tmp_path: Path) -> None:
    """A step that fails says why, loses nothing, and the next one begins anew."""
    disk = rig.Faulty()
    yard = rig.Yard(tmp_path)
    spool = yard.spool()
    sequencer = yard.sequencer(files=disk)
    for call in ("create", "write", "sync", "rename", "sync_directory"):
        write(spool, call.encode())
        disk.fail[call] = errno.EIO
        with pytest.raises(StoreError):
            sequencer.step(now=True)
        assert sequencer.error is not None
        disk.fail.clear()
        sequencer.step(now=True)
        assert sequencer.error is None

    assert [b"create", b"write", b"sync", b"rename", b"sync_directory"] == yard.bodies(spool)
    yard.close()


def test_waiting_ends(yard: Any) -> None:
    """Who waits for a checkpoint that does not come is told so, and by whom it is held up."""
    spool = yard.spool()
    write(spool, b"a")
    holder = yard.sequencer()
    holder.step(now=True)
    waiting = yard.sequencer()
    waiting.step = lambda **_: False
    with pytest.raises(StoreError, match="no checkpoint covers") as caught:
        waiting.wait(spool, 5, 0.05)

    assert caught.value.retryable
    assert "lock" in caught.value.fix
    holder.wait(spool, 1, 5.0)


def test_a_thread_does_it_by_itself(yard: Any) -> None:
    """A sequencer that runs merges without being asked, and at once for who waits."""
    spool = yard.spool()
    made = yard.sequencer()
    sequencer = Sequencer.at(yard.spools, made._log, made.merge, yard.files)
    assert Sequencer.at(yard.spools, made._log, made.merge, yard.files) is sequencer
    seen: list[int] = []
    sequencer.after.append(lambda log: seen.append(log.size))
    sequencer.run()
    sequencer.run()
    write(spool, b"a")
    spool.want(1)
    sequencer.ring()
    until(lambda: spool.acknowledged() == 1)
    until(lambda: seen)  # called after the step that acknowledged it

    assert not sequencer.inside
    thread = sequencer._thread
    assert thread is not None
    assert thread.name == "secureml-sequencer"
    sequencer.leave()
    assert thread.is_alive()
    sequencer.leave()
    until(lambda: not thread.is_alive())


def test_a_step_ends_though_others_write_on(yard: Any) -> None:
    """What comes while the sequencer is at work waits for the next step."""
    spools = [yard.spool(), yard.spool()]
    merge = rig.Plain()
    times: list[int] = []

    def deliver(_: object) -> None:
        times.append(1)
        for spool in spools:
            write(spool, b"more")

    merge.deliver = deliver
    for spool in spools:
        write(spool, b"first")
    sequencer = yard.sequencer(merge)
    sequencer.step(now=True)
    assert 1 == len(times)
    sequencer.step(now=True)

    assert 2 == len(times)
    assert all([b"first", b"more"] == yard.bodies(spool) for spool in spools)


def test_much_that_is_in_the_log_already(yard: Any) -> None:
    """A dead writer's last records are taken, however much before them was taken long ago."""
    spool = yard.spool(size=4 << 20)
    bodies = [b"%06d" % n + b"x" * 60_000 for n in range(300)]
    spool.write(bodies, [b""] * 300, details=0)
    first = yard.sequencer()
    for path in yard.spools.glob("*.spool"):
        os.link(path, yard.base / path.name)
    first.step(now=True)
    first.leave()
    write(spool, b"last")
    spool.abandon()
    # A loss of power brings back what was removed.
    for path in yard.base.glob("*.spool"):
        if not (yard.spools / path.name).exists():
            path.rename(yard.spools / path.name)
    merge = rig.Plain()
    yard.sequencer(merge).step(now=True)

    assert [*bodies, b"last"] == yard.bodies(spool)
    assert [(spool.writer, 301, "clean", 0)] == merge.buried
