# ruff: noqa: ANN401  fixtures are of any type
"""Where there is no room: who waits, who is refused, who is counted, and for how long."""

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secureml.audit import _pressure
from secureml.errors import StoreError
from secureml.evidence._files import Files

BODY: dict[str, Any] = {
    "action": "act",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}
RAW = b'{"action":"act","call":{"kind":"function","name":"f"},"latency_us":1,"monotonic_us":0,'
RAW += b'"outcome":"ok","record":{"id":"019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c2%d"},'
RAW += b'"time":"2026-01-01T00:00:00.000000Z","type":"call"}'


class Failing(Files):
    """A disk that takes zeros and, while it is full, nothing else for a spool."""

    full = False
    error = errno.ENOSPC

    def create(self, path: Path, mode: int) -> int:
        """Make a file, unless the disk is full."""
        if self.full and path.suffix == ".spool":
            raise OSError(self.error, "full")
        return super().create(path, mode)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write, unless the disk is full."""
        if self.full and any(data):
            raise OSError(self.error, "full")
        return super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture
def disk(bench: Any) -> Failing:
    """Return the disk of an audit log that has begun."""
    made = Failing()
    bench.log = bench.open(files=made)
    bench.log.append(BODY, ack="checkpointed")
    return made


def submit(bench: Any, number: int, on_failure: str = "raise", ack: str = "queued") -> Any:
    """Submit a record."""
    name = f"019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c2{number}"
    return bench.log.submit(name, RAW % number, ack=ack, on_failure=on_failure)


def until(true: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def said(bench: Any, kind: str) -> list[Any]:
    """Return what the log itself says."""
    name = kind.replace("-", "_")
    return [record.body[name] for record in bench.records() if record.type == kind]


@pytest.mark.parametrize("on_failure", ["raise", "block"])
def test_whoever_fills_the_queue_writes_it(bench: Any, disk: Failing, on_failure: str) -> None:
    """A full queue is no reason to refuse: the caller's own thread makes room."""
    recorder = bench.log._recorder
    del disk
    with recorder.io:  # nobody else writes
        recorder.waiting = 1 << 30
    submit(bench, 1, on_failure)

    assert recorder.waiting < 1 << 20
    bench.log.publish()
    assert len(bench.calls()) == 2
    assert said(bench, "gap") == []


def test_a_full_queue_leaves_a_gap_where_that_was_chosen(bench: Any, disk: Failing) -> None:
    """What is left out is counted, from the first to the last."""
    recorder = bench.log._recorder
    del disk
    for number in range(3):
        recorder.waiting = 1 << 30
        ticket = submit(bench, number, "gap")
        assert ticket.index is None
    recorder.waiting = 0
    recorder.bell.put(None)
    until(lambda: not recorder.dropped)
    bench.log.publish()

    [gap] = said(bench, "gap")
    assert (gap["dropped"], gap["reason"]) == (3, "not-accepted")
    assert gap["first"] <= gap["last"]
    assert len(bench.calls()) == 1


def test_a_choice_that_is_none_is_refused(bench: Any, disk: Failing) -> None:
    """A word that nobody knows does not mean to go on."""
    del disk
    bench.log._recorder.waiting = 1 << 30

    with pytest.raises(ValueError, match="block, gap, raise, not 'ignore'"):
        submit(bench, 1, "ignore")


def test_a_queue_that_cannot_be_written_refuses_and_counts(bench: Any, disk: Failing) -> None:
    """Who meets the full disk while making room is refused like everybody after."""
    recorder = bench.log._recorder
    with recorder.io:
        submit(bench, 1)
        disk.full = True
        recorder.waiting = 1 << 30
    for number in (2, 3):
        with pytest.raises(StoreError):
            submit(bench, number)
    disk.full = False
    until(lambda: recorder.trouble is None)
    bench.log.publish()

    assert [int(record.id[-1], 16) for record in bench.calls()][1:] == [1]
    assert said(bench, "disk-full") == [{"refused": 2}]


def test_a_disk_that_fails_is_not_called_full(bench: Any, disk: Failing) -> None:
    """What is refused for another error than want of room is a gap that says so."""
    recorder = bench.log._recorder
    disk.error = errno.EIO
    with recorder.io:
        submit(bench, 1)
        disk.full = True
        recorder.waiting = 1 << 30
    with pytest.raises(StoreError):
        submit(bench, 2)
    disk.full = False
    until(lambda: recorder.trouble is None)
    bench.log.publish()

    assert said(bench, "disk-full") == []
    (gap,) = said(bench, "gap")
    assert ("disk-error", 1) == (gap["reason"], gap["dropped"])


def test_who_chose_to_wait_waits_for_room(bench: Any, disk: Failing) -> None:
    """A disk that has room again within the time takes the record that waited."""
    recorder = bench.log._recorder
    with recorder.io:
        submit(bench, 1)
        disk.full = True
        recorder.waiting = 1 << 30
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(submit(bench, 2, "block")))
    thread.start()
    until(lambda: recorder.trouble is not None)
    time.sleep(0.1)
    assert (done, thread.is_alive()) == ([], True)
    disk.full = False
    thread.join(20)
    bench.log.publish()

    assert [int(record.id[-1], 16) for record in bench.calls()][1:] == [1, 2]
    assert said(bench, "disk-full") == [{"refused": 0}]


def test_who_chose_to_wait_does_not_wait_for_ever(
    bench: Any, disk: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time the record is refused, and counted."""
    monkeypatch.setattr(_pressure, "TIMEOUT", 0.05)
    recorder = bench.log._recorder
    disk.full = True
    submit(bench, 1)
    until(lambda: recorder.trouble is not None)
    refused: list[StoreError] = []

    def wait() -> None:
        try:
            submit(bench, 2, "block")
        except StoreError as error:
            refused.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(10)
    disk.full = False
    thread.join()
    assert len(refused) == 1
    until(lambda: recorder.trouble is None)
    assert said(bench, "disk-full") == [{"refused": 1}]


def test_an_event_loop_waits_for_room_and_stands_not_still(bench: Any, disk: Failing) -> None:
    """While a record waits, other tasks run; then it is in the log."""
    recorder = bench.log._recorder
    disk.full = True
    submit(bench, 1)
    until(lambda: recorder.trouble is not None)
    ticks = 0

    async def run() -> None:
        nonlocal ticks
        name = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c22"
        task = asyncio.create_task(bench.log.submit_async(name, RAW % 2, ack="durable"))
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
            if ticks == 20:
                assert not task.done()
                disk.full = False
        await task

    asyncio.run(run())
    bench.log.publish()
    assert ticks > 20
    assert [int(record.id[-1], 16) for record in bench.calls()][1:] == [1, 2]
