# ruff: noqa: ANN401, ARG001  fixtures and hostile values are of any type, and some are not read
"""The audit log keeps what it accepted, in order, whatever happens around it."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.audit._recorder import SEGMENT_RECORDS
from secureml.audit.details import Sealed
from secureml.audit.record import Record
from secureml.audit.sink import new_id
from secureml.audit.value import encode
from secureml.errors import FormatError, StoreError
from secureml.evidence._files import Files
from secureml.evidence._spool import Spool
from secureml.evidence.log import Log
from secureml.wire import canonical

BODY: dict[str, Any] = {
    "action": "act",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}


def with_value(record: audit.AuditLog, value: object) -> audit.Appended:
    """Append a call that captured *value*."""
    sealed = Sealed.of(encode(value))
    entry = {"alg": "hmac-sha256", "commitment": sealed.commitment}
    return record.append({**BODY, "in": {"row": entry}}, {"row": sealed})


def test_opening_writes_nothing(bench: Any) -> None:
    """Opening and closing without a record leaves no file and no directory."""
    bench.log.close()

    assert list(bench.root.iterdir()) == []


def test_a_writer_starts_and_ends(bench: Any) -> None:
    """A writer's records stand between a start and an end, and each opening is a new writer."""
    bench.log.append(BODY)
    bench.reopen().append(BODY)
    bench.reopen()

    records = bench.records()

    assert [record.type for record in records] == ["start", "call", "end"] * 2
    assert [record.seq for record in records] == [0, 1, 2] * 2
    assert len({record.writer for record in records}) == 2
    assert records[-1].body["end"] == {"records": 3}
    assert os.getpid() == records[0].body["start"]["pid"]


def test_the_start_is_published_first(bench: Any) -> None:
    """Before a first record is acknowledged, the writer's start is under a checkpoint."""
    bench.log.append(BODY)

    assert bench.log.log.size >= 1
    assert [r.type for r in bench.records()] == ["start", "call"]


def test_what_is_appended_must_be_a_record(bench: Any) -> None:
    """A malformed body is refused before anything is written."""
    for body in ({}, {**BODY, "outcome": "fine"}, {"type": "call"}):
        with pytest.raises(FormatError):
            bench.log.append(body)
    with pytest.raises(ValueError, match="65535"):
        bench.log.append({**BODY, "future": "x" * 65_536})

    bench.log.append(BODY)
    assert [record.type for record in bench.records()] == ["start", "call"]


def test_records_can_be_read_by_their_id(bench: Any) -> None:
    """A record is found by its id, among many, pending or published."""
    ids = [bench.log.append(BODY).id for _ in range(300)]

    index, record = bench.log.read(ids[7])

    assert (8, ids[7]) == (index, record.id)
    assert ids == [r.id for _, r in bench.log.records() if r.type == "call"]
    with pytest.raises(LookupError, match="no record"):
        bench.log.read("019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21")


def test_threads_do_not_mix(bench: Any) -> None:
    """Many threads append at once: no gap, no duplicate, every value opens."""
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for i in range(50):
                with_value(bench.log, {"n": n, "i": i})
        except BaseException as error:  # noqa: BLE001  shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    found = [bench.value(r, "row") for r in bench.calls()]
    assert [{"n": n, "i": i} for n in range(8) for i in range(50)] == sorted(
        found, key=lambda row: (row["n"], row["i"])
    )


def test_details_come_in_segments(bench: Any) -> None:
    """A details file takes so many lines, then the next begins; each writer has its own."""
    for n in range(SEGMENT_RECORDS + 1):
        with_value(bench.log, n)
    writer = bench.log.writer
    other = bench.reopen()
    with_value(other, -1)
    bench.log.publish()

    names = sorted(path.name for path in bench.details.iterdir())
    expected = [f"{writer}-000000.jsonl", f"{writer}-000001.jsonl", f"{other.writer}-000000.jsonl"]
    sizes = {name: len((bench.details / name).read_bytes().splitlines()) for name in names}

    assert sorted(expected) == names
    assert [sizes[name] for name in expected] == [SEGMENT_RECORDS, 1, 1]
    assert [f"{r.segment}.jsonl" for r in bench.calls()][-3:] == expected


def test_modes_let_nobody_else_read(bench: Any) -> None:
    """Details and the pseudonym key are for their owner."""
    with_value(bench.log, 1)
    bench.log.pseudonyms.of("alice")

    bench.log.publish()
    assert (bench.details.stat().st_mode & 0o777) == 0o700
    assert {path.stat().st_mode & 0o777 for path in bench.details.iterdir()} == {0o600}
    assert ((bench.private / "pseudonyms.key").stat().st_mode & 0o777) == 0o600


KILLED = """
import os, sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from secureml import audit
from secureml.evidence.log import Log
from secureml.keys.files import load
root = Path(sys.argv[1])
key = load(root / "key.pem", purposes=frozenset({"audit"}))
log = Log.open(root / "audit", private=root / "private", origin="bench.example/audit",
               signer=key, purpose="audit", create=True)
made = audit.AuditLog(log, details=root / "details", private=root / "private")

@audit.audited(made, action="act", capture=["n"], durable=True)
def f(n): return n

for n in range(10**9):
    with audit.collect() as records:
        f(n)
    os.write(1, (records[0].id + "\\n").encode())
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """After kill -9 every durable record whose call returned is there, and the log goes on."""
    from secureml.keys import files

    key = files.create(
        tmp_path / "key.pem", scheme="ed25519", purposes=frozenset({"audit"}), passphrase=None
    )
    seen: list[str] = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        seen += [process.stdout.readline().strip() for _ in range(30)]
        process.kill()
        seen += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.stdout.close()
        process.wait()

    log = Log.open(tmp_path / "audit", private=tmp_path / "private", signer=key, purpose="audit")
    with audit.AuditLog(log, details=tmp_path / "details", private=tmp_path / "private") as made:
        made.append(BODY)
    records = audit.check_records(Log.open(tmp_path / "audit").entries())
    audit.check_details(records, tmp_path / "details")

    assert set(seen) <= {record.id for record in records}
    assert len(seen) >= 90


def test_a_forked_child_is_a_writer_of_its_own(bench: Any) -> None:
    """Parent and child of a fork both go on recording, each in a sequence of its own."""
    with_value(bench.log, "before")
    child = os.fork()
    if not child:  # pragma: no cover  in the child
        try:
            with_value(bench.log, "child")
            bench.log.close()
        except BaseException:  # noqa: BLE001  a child must not go on with the tests
            os._exit(1)
        os._exit(0)
    with_value(bench.log, "parent")

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    found = {(r.writer, bench.value(r, "row")) for r in bench.calls()}
    assert {"before", "child", "parent"} == {value for _, value in found}
    assert len({writer for writer, _ in found}) == 2


class Failing(Files):
    """An operating system that does what it is told to do wrong."""

    def __init__(self) -> None:
        self.full = False
        self.deaf = False

    def create(self, path: Path, mode: int) -> int:
        """Make a file, or fail."""
        if self.full and path.suffix == ".spool":
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path, mode)

    def sync(self, fd: int) -> None:
        """Sync, or fail."""
        if self.deaf:
            raise OSError(errno.EIO, f"Input/output error on {fd}")

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def test_a_full_disk_refuses_and_loses_nothing(bench: Any) -> None:
    """With no room for the next segment records are refused; what was accepted is kept."""
    disk = Failing()
    bench.log = bench.open(files=disk)
    bench.log.append(BODY)
    disk.full = True
    accepted = refused = 0
    while refused < 4 and accepted < 400:
        try:
            bench.log.append({**BODY, "future": "x" * 60_000}, durable=True)
            accepted += 1
        except StoreError:
            refused += 1
    disk.full = False
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            bench.log.append(BODY, durable=True)
            break
        except StoreError:
            time.sleep(0.02)
    bench.log.close()
    records = audit.check_records(Log.open(bench.root / "audit").entries())

    assert accepted + 2 == sum(r.type == "call" for r in records)
    assert accepted > 3
    assert refused == 4
    said = [r.body["disk_full"]["refused"] for r in records if r.type == "disk-full"]
    assert sum(said) >= refused


def test_a_failed_sync_is_final(bench: Any) -> None:
    """After a sync that failed nothing is acknowledged any more, and nothing is tried again."""
    disk = Failing()
    bench.log = bench.open(files=disk)
    bench.log.append(BODY, durable=True)
    disk.deaf = True
    with pytest.raises(StoreError, match="could not be synced"):
        bench.log.append(BODY, durable=True)
    disk.deaf = False

    with pytest.raises(StoreError, match=r"synced|syncing failed"):
        bench.log.append(BODY)
    with pytest.raises(StoreError, match="syncing failed"):
        bench.log.close()
    bench.log = bench.open()
    bench.log.append(BODY, durable=True)
    assert {r.type for r in bench.records()} >= {"recovery", "call"}


def test_a_choice_to_go_on_leaves_a_gap_record(bench: Any) -> None:
    """What a caller chose to leave out is counted in the log, and a verification names it."""
    disk = Failing()
    bench.log = bench.open(files=disk)
    bench.log.append(BODY, durable=True)
    recorder = bench.log._recorder
    recorder.trouble = StoreError("no room", why="a test says so", fix="wait")
    body = canonical.encode({**BODY, "monotonic_us": 1, "record": {"id": "x"}, "time": "x"})
    for _ in range(3):
        assert bench.log.submit("x", body, on_failure="gap").index is None
    with pytest.raises(StoreError, match="no room"):
        bench.log.submit("x", body, on_failure="raise")
    with pytest.raises(ValueError, match="on_failure is one of"):
        bench.log.submit("x", body, on_failure="ignore")
    recorder.trouble = None
    bench.log.publish()
    bench.log.close()

    records = [Record.decode(leaf) for leaf in Log.open(bench.root / "audit").entries()]
    gaps = [r.body["gap"] for r in records if r.type == "gap"]
    assert [3] == [gap["dropped"] for gap in gaps]
    assert gaps[0]["first"] <= gaps[0]["last"]
    report = audit.survey_records(r.encode() for r in records)
    assert any("3" in str(f) for f in report.findings)


def test_heartbeats_say_that_a_writer_lives(bench: Any) -> None:
    """A writer with nothing to say says so, with the number of its records."""
    bench.log.close()
    bench.log = bench.open()
    bench.log.heartbeat = 0.2
    bench.log.append(BODY)
    time.sleep(0.7)
    records = bench.records()

    beats = [r for r in records if r.type == "heartbeat"]
    assert len(beats) >= 2
    assert all(r.body["heartbeat"]["records"] == r.seq + 1 for r in beats)
    assert records[0].body["start"]["heartbeat_s"] == 1


def test_a_jump_of_the_clock_is_recorded(bench: Any) -> None:
    """When the wall clock moves against the monotonic one, a record says by how much."""
    ahead = [timedelta()]
    bench.log.clock = lambda: datetime.now(timezone.utc) + ahead[0]  # noqa: UP017  as callers do
    bench.log.append(BODY, durable=True)
    time.sleep(0.1)
    ahead[0] = timedelta(hours=-1)
    time.sleep(1.3)
    bench.log.append(BODY, durable=True)
    time.sleep(0.1)

    jumps = [r.body["clock"]["jump_us"] for r in bench.records() if r.type == "clock"]
    assert [-3600] == [round(jump / 1e6) for jump in jumps]


def test_acknowledgements_in_their_order(bench: Any) -> None:
    """A record is queued, then durable, then under a checkpoint with a place in the log."""
    appended = bench.log.append(BODY)
    assert appended.index is None
    appended.wait("durable")
    assert appended.number == 1
    appended.wait("checkpointed")
    assert appended.index == 1
    assert bench.log.append(BODY, ack="checkpointed").index == 2
    with pytest.raises(ValueError, match="ack is one of"):
        appended.wait("perhaps")


def test_an_event_loop_waits_without_standing_still(bench: Any) -> None:
    """A hundred coroutines wait for the disk while the loop's clock goes on ticking."""

    async def work() -> tuple[int, list[int | None]]:
        ticks = 0
        done = False

        async def tick() -> None:
            nonlocal ticks
            while not done:
                ticks += 1
                await asyncio.sleep(0.001)

        clock = asyncio.create_task(tick())

        async def one() -> int | None:
            body = canonical.encode({**BODY, **stamp()})
            item = await bench.log.submit_async("x", body, ack="checkpointed")
            return item.index

        found = await asyncio.gather(*(one() for _ in range(100)))
        done = True
        await clock
        return ticks, found

    ticks, found = asyncio.run(work())

    assert ticks > 5
    assert None not in found
    assert len(set(found)) == 100
    assert len(bench.calls()) == 100


def test_a_cancelled_wait_leaves_the_record(bench: Any) -> None:
    """Who is cancelled while waiting for the disk leaves the record in the log."""

    async def work() -> None:
        await bench.log.submit_async("x", canonical.encode({**BODY, **stamp()}))
        waiting = asyncio.create_task(
            bench.log.submit_async("x", canonical.encode({**BODY, **stamp()}), ack="checkpointed")
        )
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())

    assert len(bench.calls()) in {1, 2}


def stamp() -> dict[str, Any]:
    """Return what every record of a call has beside its content."""
    return {
        "monotonic_us": 1,
        "record": {"id": new_id()},
        "time": "2026-01-01T00:00:00.000000Z",
    }


def test_a_clock_of_another_zone(bench: Any) -> None:
    """Times are recorded in UTC, whatever zone the clock speaks in."""
    zone = timezone(timedelta(hours=2))
    bench.log.clock = lambda: datetime(2026, 1, 1, 2, tzinfo=zone)
    audit.audited(bench.log, action="act")(lambda: None)()
    bench.log.append(BODY)

    assert {"2026-01-01T00:00:00.000000Z"} == {record.time for record in bench.calls()}
    assert "<AuditLog 'bench.example/audit'>" == repr(bench.log)


def test_two_objects_share_one_directory(bench: Any) -> None:
    """Two audit logs over one directory, as a notebook makes them, do not disturb each other."""
    other = bench.open()
    for n in range(10):
        with_value(bench.log if n % 2 else other, n)
    other.close()
    with_value(bench.log, 10)

    found = [bench.value(r, "row") for r in bench.calls()]
    assert list(range(11)) == sorted(n for n in found if isinstance(n, int))


def test_a_record_made_inside_another(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that the garbage collector closes during a write is recorded all the same."""

    @audit.audited(bench.log, action="stream", durable=True)
    def stream() -> Iterator[int]:
        yield 1
        yield 2
        yield 3

    bench.log.append(BODY, durable=True)
    running = [stream()]
    next(running[0])
    real = Spool.write

    def collecting(self: Any, *args: Any, **kwargs: Any) -> None:
        running.clear()
        real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "write", collecting)
        bench.log.append(BODY, durable=True)

    assert [r.outcome for r in bench.calls()] == ["ok", "ok", "abandoned"]


def test_a_record_made_while_a_writer_begins(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that comes while the log's first record makes its writer."""

    @audit.audited(bench.log, action="stream")
    def stream() -> Iterator[int]:
        yield 1

    other = bench.open()
    running: list[Any] = []
    real = Spool.__init__

    def collecting(self: Any, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        running.clear()

    running.append(stream())
    next(running[0])
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "__init__", collecting)
        bench.log.append(BODY)
    other.close()

    assert sorted(str(r.outcome) for r in bench.calls()) == ["abandoned", "ok"]


def test_records_are_published_by_themselves(bench: Any) -> None:
    """A record waits about a second for its checkpoint, and nobody has to ask."""
    bench.log.append(BODY)
    deadline = time.monotonic() + 5
    while bench.log.log.size < 2 and time.monotonic() < deadline:
        time.sleep(0.05)

    assert bench.log.log.size == 2


def test_durable_records_are_synced(bench: Any) -> None:
    """A durable record is on the disk when the call returns, and a queued one needs no sync."""
    synced: list[int] = []

    class Watching(Files):
        def sync(self, fd: int) -> None:
            synced.append(threading.get_ident())
            super().sync(fd)

    bench.log = bench.open(files=Watching())
    bench.log.append(BODY, ack="checkpointed")
    me = threading.get_ident()
    synced.clear()
    bench.log.append(BODY)
    assert me not in synced

    @audit.audited(bench.log, action="act", capture=["row"], durable=True)
    def predict(row: int) -> None:
        pass

    predict(1)

    assert me in synced


def test_a_seal_is_the_last_word(bench: Any) -> None:
    """A writer that sealed leaves no end after it."""
    bench.log.append(BODY)
    bench.log.seal({"files": 3})
    bench.log.close()

    records = audit.check_records(bench.open().log.entries())

    assert [record.type for record in records] == ["start", "call", "seal"]
    assert records[-1].seal == {"files": 3}
    assert records[0].seal is None
    assert audit.survey_records(r.encode() for r in records).unfinished == ()


def test_an_ended_log_may_go_on(bench: Any) -> None:
    """After `end` the next record begins a new writer."""
    bench.log.append(BODY)
    bench.log.end()
    bench.log.end()
    bench.log.append(BODY)

    assert [r.type for r in bench.records()] == ["start", "call", "end", "start", "call"]


def test_reading_values(bench: Any) -> None:
    """The values of a record are read by the log that wrote them."""
    appended = with_value(bench.log, {"a": 1})
    bench.log.append(BODY)
    _, record = bench.log.read(appended.id)

    assert {"row"} == bench.log.values(record).keys()
    assert bench.log.values(bench.calls()[-1]) == {}


def test_a_log_that_is_not_ours_is_refused(bench: Any) -> None:
    """A foreign entry in the log is named when records are read."""
    bench.log.log.append(b"something else")
    bench.log.log.close()
    bench.log = bench.open()

    with pytest.raises(FormatError, match="not an audit record"):
        list(bench.log.records())


def test_every_leaf_is_canonical(bench: Any) -> None:
    """What is put together by hand is what the canonical encoder would write."""

    @audit.audited(bench.log, action='a "quoted" \u00e9', user="user", capture=["row", "yield"])
    def stream(row: object, user: str | None) -> Iterator[int]:
        yield 1

    list(stream(1, "alice"))
    list(stream(1, None))
    stream(1, None).close()

    for leaf in bench.leaves():
        assert leaf == Record.decode(leaf).encode()
