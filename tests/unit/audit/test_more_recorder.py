# ruff: noqa: ANN401  fixtures are of any type
"""Between the queue and the disk: what a write that fails takes back, and what it keeps."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import StoreError
from secureml.evidence._files import Files

BODY: dict[str, Any] = {
    "action": "act",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}


class Failing(Files):
    """A disk that takes zeros and, while it is told to, nothing else for a spool."""

    def __init__(self) -> None:
        self.full = False

    def create(self, path: Path, mode: int) -> int:
        """Make a file, unless the disk is full."""
        if self.full and path.suffix == ".spool":
            raise OSError(errno.ENOSPC, "full")
        return super().create(path, mode)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write half of it and fail, unless it takes something back."""
        if self.full and any(data):
            super().write_at(fd, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "full")
        return super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def until(true: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def disk(bench: Any) -> Failing:
    """Return the disk of an audit log with one record."""
    made = Failing()
    bench.log = bench.open(files=made)
    bench.log.append(BODY, ack="checkpointed")
    return made


def test_what_was_accepted_waits_for_room(bench: Any, disk: Failing) -> None:
    """Records that are queued when the disk fills are in the log once there is room, in order."""
    recorder = bench.log._recorder
    with recorder.io:  # the thread writes nothing before the disk is full
        ids = [bench.log.append(BODY).id for _ in range(5)]
        disk.full = True
    until(lambda: recorder.trouble is not None)
    with pytest.raises(StoreError, match="not written"):
        bench.log.append(BODY)
    disk.full = False
    until(lambda: recorder.trouble is None)
    bench.log.publish()

    assert [record.id for record in bench.calls()][1:] == ids
    [said] = [r.body["disk_full"] for r in bench.records() if r.type == "disk-full"]
    assert said == {"refused": 1}


def test_what_was_refused_is_nowhere(bench: Any, disk: Failing) -> None:
    """A record for which a caller waited in vain does not come into the log later."""
    disk.full = True
    with pytest.raises(StoreError):
        bench.log.append(BODY, ack="durable")
    disk.full = False
    until(lambda: bench.log._recorder.trouble is None)
    kept = bench.log.append(BODY, ack="durable").id
    bench.log.publish()

    assert [record.id for record in bench.calls()][1:] == [kept]
    [said] = [r.body["disk_full"] for r in bench.records() if r.type == "disk-full"]
    assert said == {"refused": 1}


def test_while_there_is_trouble_nothing_is_queued(bench: Any, disk: Failing) -> None:
    """The weakest acknowledgement is still one: what cannot be written now is refused at once."""
    recorder = bench.log._recorder
    disk.full = True
    bench.log.append(BODY)
    until(lambda: recorder.trouble is not None)

    for ack in ("queued", "durable"):
        with pytest.raises(StoreError):
            bench.log.append(BODY, ack=ack)
    assert len(recorder.queue) <= 1
    disk.full = False
    until(lambda: recorder.trouble is None)
    bench.log.publish()
    assert len(bench.calls()) == 2


def test_what_was_written_is_not_yet_durable(bench: Any) -> None:
    """Who waits for a record that somebody wrote and did not sync waits for the sync."""
    bench.log.append(BODY, ack="checkpointed")
    recorder = bench.log._recorder
    with recorder.io:
        item = bench.log.append(BODY)
        recorder._write(recorder._take(10))
        assert recorder.spool.synced <= item.number
    recorder.wait(item, "durable", 10.0)

    assert recorder.spool.synced > item.number
