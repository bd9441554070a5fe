# ruff: noqa: ANN401, ARG001  fixtures and hostile values are of any type, and some are not read
"""The audit log keeps what it accepted, in order, whatever happens around it."""

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
from secureml.audit._store import SEGMENT_RECORDS, DetailStore
from secureml.audit.details import Sealed
from secureml.audit.record import Record
from secureml.audit.value import encode
from secureml.errors import FormatError, StoreBusyError, StoreError
from secureml.evidence._files import Files

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

    assert bench.log.log.size == 1
    assert bench.log.log.pending == 1


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
    """A details file takes so many lines, then the next begins; also after reopening."""
    for n in range(SEGMENT_RECORDS + 1):
        with_value(bench.log, n)
    with_value(bench.reopen(), -1)

    names = sorted(path.name for path in bench.details.iterdir())
    sizes = [len((bench.details / name).read_bytes().splitlines()) for name in names]

    assert names == ["000000.jsonl", "000001.jsonl"]
    assert sizes == [SEGMENT_RECORDS, 2]
    assert [r.segment for r in bench.calls()][-3:] == ["000000", "000001", "000001"]


def test_modes_let_nobody_else_read(bench: Any) -> None:
    """Details and the pseudonym key are for their owner."""
    with_value(bench.log, 1)
    bench.log.pseudonyms.of("alice")

    assert (bench.details.stat().st_mode & 0o777) == 0o700
    assert ((bench.details / "000000.jsonl").stat().st_mode & 0o777) == 0o600
    assert ((bench.private / "pseudonyms.key").stat().st_mode & 0o777) == 0o600


def crashed(bench: Any) -> audit.AuditLog:
    """Return the log opened anew, as after a crash of its writer."""
    bench.log.log._lock.leave(bench.log.log._writer)  # what the kernel does
    DetailStore._stores.clear()  # a new process has none
    bench.log = bench.open()
    return bench.log


@pytest.mark.parametrize(
    "left", [b'{"id":"01', b"", b"one\ntwo\nthree\n", b"\0" * 100], ids=["torn", "none", "3", "0"]
)
def test_what_a_crash_left_is_removed(bench: Any, left: bytes) -> None:
    """Lines that no leaf came to name are removed, and the start says how many."""
    first = with_value(bench.log, 1)
    with (bench.details / "000000.jsonl").open("ab") as file:
        file.write(left)

    second = with_value(crashed(bench), 2)

    records = bench.records()
    starts = [r for r in records if r.type == "start"]
    assert [first.id, second.id] == [r.id for r in records if r.type == "call"]
    assert left.count(b"\n") + bool(left and not left.endswith(b"\n")) == starts[1].body[
        "start"
    ].get("details_removed", 0)


def test_a_segment_that_nothing_names_is_removed(bench: Any) -> None:
    """A crash right after a new segment was begun leaves nothing of it."""
    with_value(bench.log, 1)
    (bench.details / "000001.jsonl").write_bytes(b"left over\n")

    with_value(crashed(bench), 2)

    assert [{"000000"}] == [{r.segment for r in bench.calls()}]
    assert [path.name for path in bench.details.iterdir()] == ["000000.jsonl"]


def test_details_of_another_log_are_not_removed(bench: Any) -> None:
    """A new log beside the details of an old one is refused, and the details stay."""
    with_value(bench.log, 1)
    with_value(bench.log, 2)
    bench.log.close()
    for path in sorted((bench.root / "audit").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for path in sorted(bench.private.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    bench.log = bench.open()

    with pytest.raises(StoreError, match="knows nothing of"):
        with_value(bench.log, 3)

    assert len((bench.details / "000000.jsonl").read_bytes().splitlines()) == 2


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

@audit.audited(made, action="act", capture=["n"])
def f(n): return n

for n in range(10**9):
    with audit.collect() as records:
        f(n)
    os.write(1, (records[0].id + "\\n").encode())
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """After kill -9 every record whose call returned is there, and the log goes on."""
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

    from secureml.evidence.log import Log

    log = Log.open(tmp_path / "audit", private=tmp_path / "private", signer=key, purpose="audit")
    with audit.AuditLog(log, details=tmp_path / "details", private=tmp_path / "private") as made:
        made.append(BODY)
    records = audit.check_records(Log.open(tmp_path / "audit").entries())
    audit.check_details(records, tmp_path / "details")

    assert set(seen) <= {record.id for record in records}
    assert len(seen) >= 90


def test_a_child_process_is_refused(bench: Any) -> None:
    """A forked child gets a clear error, and writes nothing."""
    bench.log.append(BODY)
    child = os.fork()
    if not child:  # pragma: no cover  in the child
        try:
            with_value(bench.log, 1)
        except StoreBusyError:
            bench.log.close()
            os._exit(7)
        finally:
            os._exit(1)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 7
    bench.log.append(BODY)
    assert len(bench.calls()) == 2


class Failing(Files):
    """An operating system whose disk is full from some write on."""

    def __init__(self) -> None:
        self.full = False

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, or fail."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, data)


def test_a_refused_leaf_takes_its_line_back(bench: Any) -> None:
    """When the log refuses a leaf, nothing of the record is left in the details."""
    disk = Failing()
    bench.log = bench.open(files=disk)
    with_value(bench.log, 1)
    disk.full = True
    with pytest.raises(StoreError):
        with_value(bench.log, 2)
    disk.full = False
    bench.log.log.close()
    bench.log = bench.open()
    with_value(bench.log, 3)

    assert [bench.value(r, "row") for r in bench.calls()] == [1, 3]
    assert len((bench.details / "000000.jsonl").read_bytes().splitlines()) == 2


def test_full_details_refuse_the_record(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a value cannot be written, neither is the leaf, and the next record is whole."""
    with_value(bench.log, 1)
    real = os.write

    def short(fd: int, data: bytes) -> int:
        if b"hmac" not in bytes(data) and b'"salt"' in bytes(data):
            real(fd, bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(StoreError, match="details"):
            with_value(bench.log, 2)
    with_value(bench.log, 3)

    assert [bench.value(r, "row") for r in bench.calls()] == [1, 3]


def test_an_interrupted_append_begins_a_new_writer(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody knows whether a leaf was kept, no number is used twice and none is left out."""
    with_value(bench.log, 1)
    real = type(bench.log.log).append

    def interrupted(self: Any, entry: bytes, *, sync: bool = True) -> int:
        real(self, entry, sync=sync)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.log.log), "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            with_value(bench.log, 2)
    with_value(bench.log, 3)

    assert [bench.value(r, "row") for r in bench.calls()] == [1, 2, 3]
    assert len({r.writer for r in bench.records()}) == 2


def fail(*_: object) -> None:
    """Fail, as a disk does."""
    raise OSError(errno.EIO, "Input/output error")


def test_a_line_that_cannot_be_taken_back(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When neither leaf nor line can be dealt with, the next writer cleans up."""
    disk = Failing()
    bench.log = bench.open(files=disk)
    with_value(bench.log, 1)
    disk.full = True
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(StoreError, match="details"):
            with_value(bench.log, 2)
    disk.full = False
    bench.log.log.close()
    bench.log = bench.open()
    with_value(bench.log, 3)

    assert [1, 3] == [bench.value(r, "row") for r in bench.calls()]


def test_details_that_cannot_be_synced(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are not on the disk are not published."""
    with_value(bench.log, 1)
    size = bench.log.log.size
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="details"):
            bench.log.publish()

    for attempt in (bench.log.publish, lambda: with_value(bench.log, 2)):
        with pytest.raises(StoreError, match="read anew"):
            attempt()
    assert size == bench.log.log.size
    with pytest.raises(StoreError, match="read anew"):
        bench.log.end()
    bench.log.log.close()
    bench.log = bench.open()
    with_value(bench.log, 3)
    assert [1, 3] == [bench.value(r, "row") for r in bench.calls()]


def test_details_that_cannot_be_recovered(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A details directory that cannot be written stops the first record."""
    with_value(bench.log, 1)
    with monkeypatch.context() as patch:
        log = crashed(bench)
        patch.setattr(os, "ftruncate", fail)
        path = bench.details / "000000.jsonl"
        path.write_bytes(path.read_bytes() + b"left over")
        with pytest.raises(StoreError, match="details"):
            with_value(log, 2)
    with_value(log, 3)

    assert [1, 3] == [bench.value(r, "row") for r in bench.calls()]


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

    assert list(range(11)) == [bench.value(r, "row") for r in bench.calls()]


def test_a_record_made_inside_another(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that the garbage collector closes during a write waits, and is written."""

    @audit.audited(bench.log, action="stream")
    def stream() -> Iterator[int]:
        yield 1

    bench.log.append(BODY)
    running = [stream()]
    next(running[0])
    with audit.collect() as records:
        inside = [stream()]
        next(inside[0])
    real = type(bench.log.log).append

    def collecting(self: Any, entry: bytes, *, sync: bool = True) -> int:
        running.clear()
        inside.clear()
        return real(self, entry, sync=sync)

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.log.log), "append", collecting)
        bench.log.append(BODY)

    assert [r.outcome for r in bench.calls()] == ["ok", "ok", "abandoned", "abandoned"]
    assert [record.index for record in records] == [None]


def test_a_record_made_while_publishing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that comes while the log is published, or ended."""

    @audit.audited(bench.log, action="stream")
    def stream() -> Iterator[int]:
        yield 1

    running: list[Any] = []
    real = type(bench.log.log).publish

    def collecting(self: Any) -> str:
        running.clear()
        with pytest.raises(LookupError):
            audit.current()
        return real(self)

    for publish in (bench.log.publish, bench.log.end, bench.log.publish):
        running.append(stream())
        next(running[0])
        bench.log.append(BODY)
        with monkeypatch.context() as patch:
            patch.setattr(type(bench.log.log), "publish", collecting)
            publish()

    assert [r.outcome for r in bench.calls()] == ["ok", "abandoned"] * 3


def test_publishing_inside_a_write_is_no_disturbance(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publish from inside a write gives the checkpoint there is."""
    bench.log.append(BODY)
    real = type(bench.log.log).append
    notes: list[str] = []

    def publishing(self: Any, entry: bytes, *, sync: bool = True) -> int:
        notes.append(bench.log.publish())
        return real(self, entry, sync=sync)

    with monkeypatch.context() as patch:
        patch.setattr(type(bench.log.log), "append", publishing)
        bench.log.append(BODY)

    assert [bench.log.log.checkpoint_note()] == notes
    assert len(bench.calls()) == 2


def test_records_are_published_by_the_next_one(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record waits about a second for its checkpoint, if another follows."""
    bench.log.append(BODY)
    bench.log.append(BODY)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2)
    bench.log.append(BODY)

    assert (bench.log.log.size, bench.log.log.pending) == (3, 1)


def test_durable_records_are_synced(bench: Any) -> None:
    """A durable record is on the disk, its value first, when the call returns."""
    order: list[str] = []

    class Watching(Files):
        def sync(self, fd: int) -> None:
            order.append("leaf")
            super().sync(fd)

    bench.log = bench.open(files=Watching())
    bench.log.append(BODY)
    order.clear()
    real = bench.log._store.sync
    bench.log._store.sync = lambda: (order.append("value"), real())

    @audit.audited(bench.log, action="act", capture=["row"], durable=True)
    def predict(row: int) -> None:
        pass

    predict(1)

    assert order == ["value", "leaf"]


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
