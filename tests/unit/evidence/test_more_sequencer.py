"""The order of the sequencer, step by step: each record once, whatever fails, whoever dies."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import ConsistencyError, SecureMLError, StoreError
from secureml.evidence import sequencer as module
from secureml.evidence._drain import ASIDE
from secureml.evidence._files import Files
from secureml.evidence._spool import Spool, segment_path
from secureml.evidence.log import Log
from secureml.evidence.sequencer import Batch, Sequencer

ORIGIN = "log.example/spools"
SIGNER = keys.generate("ed25519", purposes=frozenset({"audit"}))


class Disk(Files):
    """A disk that is never late, takes down what it is asked, and fails when it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail: Callable[[str], bool] = lambda _: False

    def _call(self, call: str, where: int | Path) -> None:
        if isinstance(where, int):
            where = Path(f"/proc/self/fd/{where}").readlink()
        name = where.name
        if len(name) > 32:
            name = name[33:]
        self.done.append(f"{call} {name}")
        if self.fail(self.done[-1]):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def create(self, path: Path, mode: int) -> int:
        """Make a file."""
        self._call("create", path)
        return super().create(path, mode)

    def open_append(self, path: Path, mode: int) -> int:
        """Open a file to append."""
        self._call("append", path)
        return super().open_append(path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Append."""
        self._call("write", fd)
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        """Sync in no time."""
        self._call("sync", fd)

    def sync_directory(self, path: Path) -> None:
        """Sync in no time."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename."""
        self._call("rename", target)
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        """Remove."""
        self._call("remove", path)
        super().remove(path)


class Lines:
    """Entries are ``writer number body``, in hexadecimal; what is beside them is taken down."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.begun = 0
        self.delivered: list[bytes] = []
        self.orphans: list[tuple[bytes, int, str, int]] = []
        self.refuse = False
        self.recalled: dict[bytes, int] = {}

    def opened(self, log: Log) -> Log:
        """Take the log as it is."""
        return log

    def begin(self, recovery: object = None) -> None:  # noqa: ARG002  as the protocol says
        """Count."""
        self.begun += 1

    def identify(self, entry: bytes) -> tuple[bytes, int] | None:
        """Return writer and number."""
        with contextlib.suppress(ValueError):
            writer, number, _ = entry.split(b" ", 2)
            return bytes.fromhex(writer.decode()), int(number)
        return None

    def recall(self, first: int, entries: Sequence[bytes]) -> dict[bytes, int]:
        """Return what is remembered of entries that were removed."""
        del first, entries
        return self.recalled

    def compose(self, writer: bytes, first: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Return the entries."""
        name = writer.hex().encode()
        return [b"%s %d %s" % (name, n, body) for n, body in enumerate(bodies, first)]

    def deliver(self, batches: Sequence[Batch]) -> None:
        """Take the lines down."""
        self.disk.done.append("deliver")
        if self.refuse:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for batch in batches:
            self.delivered += filter(None, batch.lines)

    def committed(self) -> None:
        """Take it down."""
        self.disk.done.append("committed")

    def orphaned(self, writer: bytes, records: int, verdict: str, discarded: int) -> None:
        """Take it down."""
        self.orphans.append((writer, records, verdict, discarded))


class House:
    """A log, the spools of it, and this process's sequencer."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.disk = Disk()
        self.lines = Lines(self.disk)
        self.spools = base / "spool"
        self.log = Log.open(
            base / "log",
            private=base / "private",
            origin=ORIGIN,
            signer=SIGNER,
            purpose="audit",
            create=True,
            files=self.disk,
        )
        self.sequencer = Sequencer.at(self.spools, self.log, self.lines, self.disk)

    def spool(self, *bodies: bytes, size: int = 4096) -> Spool:
        """Make a spool with some records, synced."""
        made = Spool(self.spools, self.disk, size=size)
        if bodies:
            put(made, *bodies)
        return made

    def step(self) -> None:
        """Merge what waits."""
        assert self.sequencer.step(now=True)

    def of(self, spool: Spool) -> list[bytes]:
        """Return the records of a writer that are in the log, which have each number once."""
        found: list[bytes] = []
        for entry in self.log.entries():
            writer, number, body = entry.split(b" ", 2)
            if writer.decode() == spool.writer.hex():
                assert int(number) == len(found)
                found.append(body)
        return found

    def leave(self) -> None:
        """Go."""
        self.sequencer.leave()


def put(spool: Spool, *bodies: bytes) -> None:
    """Write records without details, and sync them."""
    spool.write(bodies, [b""] * len(bodies), details=0)
    spool.sync()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Make one."""
    made = House(tmp_path)
    yield made
    made.leave()


# Exactly once


def test_records_of_all_spools_are_in_the_log(house: House) -> None:
    """Each once, in the order of its writer, and each writer learns where."""
    one, two = house.spool(b"a", b"b"), house.spool(b"x")
    house.step()
    put(one, b"c")
    house.step()
    house.step()

    assert (house.of(one), house.of(two)) == ([b"a", b"b", b"c"], [b"x"])
    assert (house.log.size, one.acknowledged(), two.acknowledged()) == (4, 3, 1)
    for spool, number in ((one, 0), (one, 1), (one, 2), (two, 0)):
        index = spool.index_of(number)
        assert index is not None
        assert house.log.entry(index).startswith(b"%s %d " % (spool.writer.hex().encode(), number))


def test_a_new_log_has_a_checkpoint_before_the_first_record(house: House) -> None:
    """Whoever leads publishes at once, also where there is nothing to say."""
    house.step()

    assert house.log.checkpoint_note()
    assert house.log.size == 0


def test_nothing_is_taken_twice_by_the_next_sequencer(house: House) -> None:
    """How far each writer came is read from the log, not from what was noted beside it."""
    spool = house.spool(*(b"%d" % n for n in range(700)), size=1 << 16)
    late = house.spool(b"late")
    house.step()
    house.leave()
    after = House(house.base)
    put(spool, b"700")
    put(late, b"later")
    after.step()

    assert after.of(spool) == [b"%d" % n for n in range(701)]
    assert after.of(late) == [b"late", b"later"]
    assert after.lines.begun == 1
    after.leave()


def test_entries_of_others_are_passed_over(house: House) -> None:
    """A log may have entries that no spool brought."""
    house.log.append(b"from elsewhere")
    house.log.publish()
    house.log.release()
    spool = house.spool(b"a")
    house.step()

    assert house.log.entry(0) == b"from elsewhere"
    assert spool.index_of(0) == 1


@pytest.mark.parametrize(
    "where",
    [
        "deliver",
        "rename checkpoint",
        "create .writing-checkpoint",
        "write acks",
        "remove 00000000.spool",
        "sync 00000000.spool",
    ],
)
def test_a_failure_anywhere_loses_nothing(house: House, where: str) -> None:
    """What was half done is found out by reading the log, and done once."""
    spool = house.spool(b"0")
    house.step()
    put(spool, *(b"%d" % n * 300 for n in range(1, 10)))
    put(spool, *(b"%d" % n * 300 for n in range(10, 20)))
    house.lines.refuse = where == "deliver"
    house.disk.fail = lambda call: call == where
    with pytest.raises(StoreError) as caught:
        house.step()
    assert house.sequencer.error is caught.value
    house.disk.fail = lambda _: False
    house.lines.refuse = False
    house.step()

    assert house.sequencer.error is None
    assert house.of(spool) == [b"0", *(b"%d" % n * 300 for n in range(1, 20))]
    put(spool, b"after")
    house.step()
    assert (house.of(spool)[-1], spool.acknowledged()) == (b"after", 21)


def test_what_was_removed_from_the_log_is_not_taken_again(house: House) -> None:
    """How far a writer came whose records were pruned is read from what says so."""
    house.log.append(b"0 1 2 removed")
    house.log.publish()
    house.log.release()
    spool = house.spool(b"0", b"1")
    put(spool, b"2", b"3")
    house.lines.recalled = {spool.writer: 3}
    house.step()

    assert [entry.split(b" ")[1:] for entry in house.log.entries(1)] == [[b"3", b"3"]]


def test_who_was_not_told_is_told_by_the_next_one(house: House) -> None:
    """A sequencer that dies before it says so leaves nobody waiting for ever."""
    spool, silent = house.spool(b"0"), house.spool(b"0")
    house.step()
    put(spool, b"1", b"2")
    put(silent, b"1")
    house.disk.fail = lambda call: call == "write acks"
    with pytest.raises(StoreError):
        house.step()
    house.disk.fail = lambda _: False
    house.step()

    assert (spool.acknowledged(), silent.acknowledged()) == (3, 2)
    for one, numbers in ((spool, range(3)), (silent, range(2))):
        for number in numbers:
            index = one.index_of(number)
            assert index is not None
            assert house.log.entry(index).startswith(
                b"%s %d " % (one.writer.hex().encode(), number)
            )


@pytest.mark.parametrize("body", [b"", b"x" * 65_536], ids=["empty", "too long"])
def test_what_no_entry_can_be_stops_nobody_else(house: House, body: bytes) -> None:
    """A record that the log cannot take is set aside with what follows it in its spool."""
    spool, other = house.spool(b"0"), house.spool(b"x")
    put(spool, b"before", body, b"after")
    put(spool, b"later")
    house.step()
    put(other, b"y")
    house.step()

    assert house.of(spool) == [b"0"]
    assert house.of(other) == [b"x", b"y"]
    assert [orphan[:3] for orphan in house.lines.orphans] == [(spool.writer, 1, "corrupt")]


def test_a_step_has_one_order(house: House) -> None:
    """Read, synced, delivered, committed, acknowledged, and only then removed."""
    spool = house.spool(b"0")
    house.step()
    for n in range(3):
        put(spool, b"%d" % n * 3000)
    house.disk.done.clear()
    house.step()
    done = house.disk.done
    order = [
        done.index("sync 00000000.spool"),
        done.index("deliver"),
        done.index("rename checkpoint"),
        done.index("committed"),
        done.index("write acks"),
        done.index("remove 00000000.spool"),
    ]

    assert order == sorted(order)
    assert order[1] > done.index("sync 00000001.spool")


def test_more_than_the_memory_holds_is_taken_in_parts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes all there is, under as many checkpoints as it needs."""
    monkeypatch.setattr(module, "LIMIT", 5000)
    one, two = (house.spool(size=1 << 16) for _ in range(2))
    for n in range(40):
        put(one, b"%d" % n * 400)
        put(two, b"%d" % -n * 400)
    house.step()

    assert house.of(one) == [b"%d" % n * 400 for n in range(40)]
    assert house.of(two) == [b"%d" % -n * 400 for n in range(40)]
    assert 4 < house.disk.done.count("rename checkpoint") < 40


def test_a_writer_that_never_rests_does_not_keep_others_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever came last comes first the next time."""
    monkeypatch.setattr(module, "LIMIT", 1)
    one, two = sorted((house.spool(b"0"), house.spool(b"0")), key=lambda s: s.writer)
    for n in range(1, 6):
        put(one, b"%d" % n)
    put(two, b"1")
    house.step()
    places = [two.index_of(0), two.index_of(1)]

    assert places == [1, 3]
    assert house.of(one) == [b"%d" % n for n in range(6)]


# The dead


def test_a_writer_that_ended_is_buried_without_a_word(house: House) -> None:
    """Its files are removed once all of it is in the log."""
    spool = house.spool(b"a")
    spool.end()
    spool.sync()
    spool.close()
    house.step()

    assert house.of(spool) == [b"a"]
    assert house.lines.orphans == []
    assert sorted(p.name for p in house.spools.iterdir()) == ["lock"]


def test_a_writer_that_died_is_noted(house: House) -> None:
    """What it wrote is taken, and that it said no goodbye is recorded."""
    spool = house.spool(b"a", b"b")
    spool.abandon()
    house.step()

    assert house.of(spool) == [b"a", b"b"]
    assert house.lines.orphans == [(spool.writer, 2, "clean", 0)]
    assert sorted(p.name for p in house.spools.iterdir()) == ["lock"]


def test_a_writer_that_died_in_a_write_is_noted(house: House) -> None:
    """How many bytes were no record is recorded."""
    spool = house.spool(b"a")
    spool.write([b"torn"], [b""], details=0)
    damage(spool, b"torn")
    spool.abandon()
    house.step()

    assert house.of(spool) == [b"a"]
    [(writer, records, verdict, discarded)] = house.lines.orphans
    assert (writer, records, verdict, discarded > 4) == (spool.writer, 1, "torn", True)


def damage(spool: Spool, body: bytes) -> None:
    """Change a byte of the first segment."""
    path = segment_path(spool.directory, spool.writer, 0)
    data = path.read_bytes()
    path.write_bytes(data[:64] + data[64:].replace(body, b"\0" + body[1:]))


def test_a_spool_that_was_changed_is_set_aside(house: House) -> None:
    """What had been on the disk and is bad is neither taken nor thrown away."""
    spool = house.spool(b"a")
    put(spool, b"bbbb")
    put(spool, b"c")
    damage(spool, b"bbbb")
    spool.abandon()
    house.step()

    assert house.of(spool) == [b"a"]
    assert house.lines.orphans == [(spool.writer, 1, "corrupt", house.lines.orphans[0][3])]
    assert (house.spools / ASIDE / f"{spool.writer.hex()}-00000000.spool").exists()


def test_a_living_spool_that_was_cut_is_set_aside(house: House) -> None:
    """Records that are missing before others are no gap in the log: the rest is set aside."""
    spool = house.spool(b"a")
    house.step()
    for n in range(4):
        put(spool, b"%d" % n * 3000)
    segment_path(spool.directory, spool.writer, 0).unlink()
    segment_path(spool.directory, spool.writer, 1).unlink()
    house.leave()
    after = House(house.base)
    after.step()

    assert after.of(spool) == [b"a"]
    assert after.lines.orphans == [(spool.writer, 1, "gap", 0)]
    after.leave()


def test_the_living_are_left_alone(house: House) -> None:
    """A writer that is silent is not dead."""
    spool = house.spool(b"a")
    house.step()
    house.step()
    assert house.lines.orphans == []
    put(spool, b"b")
    house.step()

    assert house.of(spool) == [b"a", b"b"]


def test_who_dies_between_two_looks_is_read_to_the_end(house: House) -> None:
    """A last record written just before the end is in the log before the writer is buried."""
    spool = house.spool(b"a")
    house.step()
    real = house.lines.deliver

    def deliver(batches: Sequence[Batch]) -> None:
        house.lines.deliver = real  # type: ignore[method-assign]
        real(batches)
        put(spool, b"last")
        spool.abandon()

    house.lines.deliver = deliver  # type: ignore[method-assign]
    put(spool, b"b")
    house.step()

    assert house.of(spool) == [b"a", b"b", b"last"]
    assert house.lines.orphans == [(spool.writer, 3, "clean", 0)]


class Late:
    """A clock; the next look at it is when something happens."""

    def __init__(self, event: Callable[[], None]) -> None:
        self._events = [event]

    def monotonic(self) -> float:
        """Return the time."""
        while self._events:
            self._events.pop()()
        return time.monotonic()


def test_who_dies_before_it_is_buried_is_read_to_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record written after the last look, by a writer that is gone at the next, is taken."""
    spool = house.spool(b"a")
    house.step()

    def die() -> None:
        put(spool, b"last")
        spool.abandon()

    monkeypatch.setattr(module, "time", Late(die))
    house.step()

    assert house.of(spool) == [b"a", b"last"]
    assert house.lines.orphans == [(spool.writer, 2, "clean", 0)]


# When


def test_it_is_not_always_time(house: House) -> None:
    """Between two checkpoints records wait, unless somebody waits for them."""
    spool = house.spool(b"a")
    house.step()
    put(spool, b"b")
    assert house.sequencer.step()
    assert house.of(spool) == [b"a"]
    spool.want(2)
    assert house.sequencer.step()

    assert house.of(spool) == [b"a", b"b"]


def test_after_the_interval_it_is_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are under a checkpoint after the interval, also when nobody waits."""
    spool = house.spool(b"a")
    house.step()
    put(spool, b"b")
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    assert house.sequencer.step()

    assert house.of(spool) == [b"a", b"b"]


def test_a_wish_that_was_met_is_none(house: House) -> None:
    """Who waited for what is in the log already does not hurry anybody."""
    spool = house.spool(b"a")
    spool.want(1)
    house.step()
    put(spool, b"b")
    assert house.sequencer.step()

    assert house.of(spool) == [b"a"]


OTHER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(path: Path) -> Iterator[None]:
    """Let another process be the sequencer, which does nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.kill()


def test_one_process_leads(house: House) -> None:
    """While another one holds the lock nothing is merged; when it is gone, this one does."""
    spool = house.spool(b"a")
    with another_process(house.spools / "lock"):
        assert not house.sequencer.step(now=True)
        assert not house.sequencer.step()
        assert house.log.size == 0
        with pytest.raises(StoreError, match="no checkpoint covers") as caught:
            house.sequencer.wait(spool, 1, timeout=0.05)
        assert caught.value.retryable
        assert not (house.base / "log").exists()
    house.sequencer.wait(spool, 1, timeout=10)

    assert house.of(spool) == [b"a"]


def test_waiting_is_done_when_it_is_acknowledged(house: House) -> None:
    """Who waits does the work, and returns when the records are under a checkpoint."""
    spool = house.spool(b"a", b"b")
    house.sequencer.wait(spool, 2, timeout=0.0)
    assert spool.acknowledged() == 2
    house.sequencer.wait(spool, 1, timeout=0.0)

    assert house.of(spool) == [b"a", b"b"]


def test_a_log_that_was_changed_is_not_written(house: House) -> None:
    """A rolled back log stops the sequencer, and the records stay where they are."""
    spool = house.spool(b"a")
    house.step()
    old = (house.base / "log" / "checkpoint").read_bytes()
    put(spool, b"b")
    house.step()
    put(spool, b"c")
    house.leave()
    (house.base / "log" / "checkpoint").write_bytes(old)
    after = House(house.base)
    for _ in range(2):
        with pytest.raises(ConsistencyError, match="rolled back"):
            after.step()
        assert isinstance(after.sequencer.error, ConsistencyError)
    with pytest.raises(ConsistencyError, match="rolled back"):
        after.sequencer.wait(spool, 3, timeout=1)
    after.leave()


# One for each process


def test_a_directory_has_one_sequencer(house: House) -> None:
    """Two audit logs of one directory share it, and the last one gives up the log."""
    again = Sequencer.at(house.spools, house.log, house.lines, house.disk)
    assert again is house.sequencer
    house.step()
    again.leave()
    with another_process(house.base / "nowhere" / "lock"):
        pass
    held = subprocess.run(
        [sys.executable, "-c", PROBE, str(house.spools / "lock")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert held.stdout == "held\n"
    house.leave()
    free = subprocess.run(
        [sys.executable, "-c", PROBE, str(house.spools / "lock")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert free.stdout == "free\n"
    house.sequencer = Sequencer.at(house.spools, house.log, house.lines, house.disk)
    assert house.sequencer is not again


PROBE = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free")
except BlockingIOError:
    print("held")
"""


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_its_thread_merges_by_itself(house: House) -> None:
    """Nobody has to ask; whoever rings is heard sooner; what went wrong is kept."""
    spool = house.spool(b"a")
    house.sequencer.run()
    house.sequencer.run()
    assert [t.name for t in threading.enumerate()].count("secureml-sequencer") == 1
    until(lambda: house.of(spool) == [b"a"])
    house.disk.fail = lambda call: call == "deliver" or call.startswith("rename")
    house.sequencer.after.append(lambda _: None)
    put(spool, b"b")
    spool.want(2)
    house.sequencer.ring()
    until(lambda: isinstance(house.sequencer.error, StoreError))
    house.disk.fail = lambda _: False
    until(lambda: house.of(spool) == [b"a", b"b"])
    until(lambda: house.sequencer.error is None)
    house.leave()
    until(lambda: "secureml-sequencer" not in [t.name for t in threading.enumerate()])
    house.sequencer.run()
    assert "secureml-sequencer" not in [t.name for t in threading.enumerate()]
    house.sequencer = Sequencer.at(house.spools, house.log, house.lines, house.disk)


def test_hooks_see_the_log_after_each_step(house: House) -> None:
    """They are called with it when the step is done, and no lock is held."""
    seen: list[tuple[int, bool]] = []
    house.sequencer.after.append(lambda log: seen.append((log.size, house.sequencer.inside)))
    house.spool(b"a")
    assert not house.sequencer.inside
    house.step()

    assert seen == [(1, False)]


def test_a_thread_at_work_knows_it(house: House) -> None:
    """Who is asked from within must not wait for itself."""
    inside: list[bool] = []
    real = house.lines.deliver

    def deliver(batches: Sequence[Batch]) -> None:
        inside.append(house.sequencer.inside)
        real(batches)

    house.lines.deliver = deliver  # type: ignore[method-assign]
    house.spool(b"a")
    house.step()

    assert inside == [True]


def test_an_interrupt_lets_go_of_the_log(house: House) -> None:
    """Ctrl-C in the middle of a step leaves nothing half done behind it."""
    spool = house.spool(b"a")
    real = house.lines.deliver

    def deliver(batches: Sequence[Batch]) -> None:
        del batches
        house.lines.deliver = real  # type: ignore[method-assign]
        raise KeyboardInterrupt

    house.lines.deliver = deliver  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        house.step()
    assert house.sequencer.error is None
    house.step()

    assert house.of(spool) == [b"a"]


def test_an_error_of_what_it_is_told_is_kept(house: House) -> None:
    """Whatever refuses the records is what the sequencer says is wrong."""
    spool = house.spool(b"a")
    wrong = StoreError("no", why="no", fix="no")

    def deliver(batches: Sequence[Batch]) -> None:
        del batches
        raise wrong

    real, house.lines.deliver = house.lines.deliver, deliver  # type: ignore[method-assign]
    with pytest.raises(SecureMLError):
        house.step()
    assert house.sequencer.error is wrong
    house.lines.deliver = real  # type: ignore[method-assign]
    house.step()

    assert house.sequencer.error is None
    assert house.of(spool) == [b"a"]
