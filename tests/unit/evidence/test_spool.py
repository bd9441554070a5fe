# ruff: noqa: ANN401  the rig is loaded by its path, and has no type
"""What a writer does with its spool, and what it does not when the system refuses."""

import errno
import os
import threading
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import StoreError
from secureml.evidence._flock import hold
from secureml.evidence._spool import (
    ACK,
    HEAD_SIZE,
    Head,
    Spool,
    ack_path,
    lock_path,
    segment_path,
)
from secureml.wire import frame

_spec = spec_from_file_location("spool_rig", Path(__file__).with_name("spool_rig.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="spool_rig")
rig = module_from_spec(_spec)
_spec.loader.exec_module(rig)
write = rig.write


@pytest.fixture
def disk() -> Any:
    """Return an operating system that fails on demand."""
    return rig.Faulty()


@pytest.fixture
def yard(tmp_path: Path, disk: Any) -> Iterator[Any]:
    """Return a directory for spools."""
    made = rig.Yard(tmp_path, disk)
    yield made
    made.close()


def read(yard: Any, spool: Spool) -> list[bytes]:
    """Return the bodies that a sequencer reads in a spool."""
    drain = yard.drain(spool)
    found = [body for batch in drain.read(0, 1 << 30) for body in batch.bodies]
    drain.close()
    return found


def test_a_spool_is_as_specified(yard: Any) -> None:
    """Head, frame and file names are those of docs/spec/spool.md, byte by byte."""
    spool = yard.spool()
    spool.write([b"{}", b"[1]"], [b"", b"line\n"], details=7)
    spool.want(2)

    data = segment_path(yard.spools, spool.writer, 0).read_bytes()
    assert f"{spool.writer.hex()}-00000000.spool" in os.listdir(yard.spools)  # noqa: PTH208  names
    assert b"secspl1\n" + spool.writer + bytes(4) == data[:28]
    assert (2).to_bytes(8) + bytes(24) == data[32:64]
    payload = (
        b"\x01"
        + (7).to_bytes(4)
        + (0).to_bytes(8)
        + (0).to_bytes(8)
        + (2).to_bytes(4)
        + b"".join(n.to_bytes(4) for n in (2, 3, 0, 5))
        + b"{}[1]line\n"
    )
    assert data[64:] == frame.encode(payload).ljust(4096 - 64, b"\0")
    spool.end()
    assert b"\x03" + (2).to_bytes(8) in segment_path(yard.spools, spool.writer, 0).read_bytes()


def test_a_head_is_read_back() -> None:
    """A head that was changed is none."""
    head = Head(bytes(range(16)), 3, 9)
    found = Head.decode(head.encode())

    assert found is not None
    assert (found.writer, found.number, found.wanted) == (bytes(range(16)), 3, 9)
    for at in range(32):
        changed = bytearray(head.encode())
        changed[at] ^= 1
        assert Head.decode(bytes(changed)) is None
    assert Head.decode(head.encode()[:-1]) is None


def test_segments_are_made_ahead_and_full_of_zeros(yard: Any) -> None:
    """A segment lies ready, at its full length, before a frame needs it."""
    spool = yard.spool()
    sizes = []
    for n in range(40):
        write(spool, b"x" * 300 + b"%d" % n)
        made = sorted(yard.spools.glob("*.spool"))
        assert not made[-1].read_bytes()[HEAD_SIZE:].strip(b"\0")
        sizes.append([path.stat().st_size for path in made])

    assert {4096} == {size for some in sizes for size in some}
    assert len(sizes[-1]) == 5
    assert [b"x" * 300 + b"%d" % n for n in range(40)] == read(yard, spool)


def test_the_first_segments_are_small(tmp_path: Path) -> None:
    """Who writes little takes little room: segments double up to their full size."""
    yard = rig.Yard(tmp_path)
    spool = yard.spool(size=4 << 20)
    for n in range(100):
        write(spool, b"%06d" % n + b"x" * 65_000)

    sizes = [path.stat().st_size >> 10 for path in sorted(yard.spools.glob("*.spool"))]
    assert [256, 512, 1024, 2048, 4096] == sizes[:5]
    assert sum(len(body) for body in read(yard, spool)) == 100 * 65_006
    yard.close()


def test_one_write_of_many_megabytes_is_many_frames(tmp_path: Path) -> None:
    """A large batch is cut between records, so that no frame is too long."""
    yard = rig.Yard(tmp_path)
    spool = yard.spool(size=4 << 20)
    bodies = [b"%06d" % n + b"x" * 60_000 for n in range(100)]
    spool.write(bodies, [b""] * 100, details=0)

    assert spool.count == 100
    assert bodies == read(yard, spool)
    yard.close()


def test_a_long_line_is_cut_into_pieces(tmp_path: Path) -> None:
    """A details line of any length arrives whole, over as many segments as it needs."""
    yard = rig.Yard(tmp_path)
    spool = yard.spool(piece=1000)
    lines = [b"a" * 999, b"b" * 1000, b"c" * 1001, b"d" * 10_000]
    for line in lines:
        spool.write([b"{}"], [line], details=0)
    write(spool, b"after")
    drain = yard.drain(spool)

    found = drain.read(0, 1 << 30)
    assert lines == [line for batch in found for line in batch.lines][:4]
    assert [0, 1, 2, 3, 4] == [batch.first for batch in found]
    drain.close()
    yard.close()


def test_short_writes_are_continued(yard: Any, disk: Any) -> None:
    """A system that takes a few bytes at a time gets them all."""
    disk.short = 7
    spool = yard.spool()
    write(spool, b"one", b"two")
    spool.sync()

    assert [b"one", b"two"] == read(yard, spool)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
def test_a_failed_write_is_taken_back(yard: Any, disk: Any, number: int) -> None:
    """After a write that failed halfway the spool goes on behind the last good record."""
    spool = yard.spool()
    write(spool, b"one")
    disk.short = 9
    disk.fail["half"] = number
    real, disk._call = disk._call, lambda name: _once(disk, name)

    with pytest.raises(StoreError, match="not written to the spool") as caught:
        write(spool, b"lost" * 50)
    disk.short, disk._call = 1 << 30, real
    assert spool.count == 1
    assert spool.broken == ""
    assert (number == errno.ENOSPC) == caught.value.retryable
    assert not segment_path(yard.spools, spool.writer, 0).read_bytes()[110:].strip(b"\0")
    write(spool, b"two")

    assert [b"one", b"two"] == read(yard, spool)


def _once(disk: Any, name: str) -> None:
    number = disk.fail.pop(name, None)
    if number is not None:
        raise OSError(number, os.strerror(number))


def test_a_write_that_cannot_be_taken_back_is_the_last(yard: Any, disk: Any) -> None:
    """Where zeros cannot be written either, the spool takes nothing more."""
    spool = yard.spool()
    write(spool, b"one")
    disk.fail["write_at"] = errno.EIO
    with pytest.raises(StoreError, match="not written"):
        write(spool, b"two")
    disk.fail.clear()

    for call in (lambda: write(spool, b"three"), spool.sync, spool.end, lambda: spool.want(1)):
        with pytest.raises(StoreError, match="could not be taken back"):
            call()
    assert [b"one"] == read(yard, spool)


def test_a_failed_sync_is_final(yard: Any, disk: Any) -> None:
    """A sync that failed acknowledges nothing, is not tried again, and ends the spool."""
    spool = yard.spool()
    write(spool, b"one")
    spool.sync()
    write(spool, b"two")
    disk.fail["sync"] = errno.EIO
    with pytest.raises(StoreError, match="could not be synced"):
        spool.sync()
    disk.fail.clear()
    disk.calls.clear()

    with pytest.raises(StoreError, match="syncing failed"):
        spool.sync()
    assert disk.calls == []
    assert spool.synced == 1


def test_a_failed_sync_before_the_next_segment_is_final(yard: Any, disk: Any) -> None:
    """Nothing is written to the next segment before this one is on the disk."""
    spool = yard.spool()
    write(spool, b"x" * 3000)
    disk.fail["sync"] = errno.EIO
    with pytest.raises(StoreError, match="could not be synced"):
        write(spool, b"y" * 3000)
    disk.fail.clear()

    with pytest.raises(StoreError, match="syncing failed"):
        write(spool, b"z")
    assert [b"x" * 3000] == read(yard, spool)


def test_nothing_new_needs_no_sync(yard: Any, disk: Any) -> None:
    """A sync with nothing to sync asks nothing of the disk."""
    spool = yard.spool()
    write(spool, b"one")
    spool.sync()
    disk.calls.clear()
    spool.sync()

    assert disk.calls == []


def test_a_full_disk_keeps_the_segment_ahead(yard: Any, disk: Any) -> None:
    """With no room for another segment, what fits into the one ahead is still taken."""
    spool = yard.spool()
    disk.fail["create"] = errno.ENOSPC
    taken = [b"%d" % n + b"x" * 300 for n in range(22)]
    for body in taken:
        write(spool, body)
    with pytest.raises(StoreError, match="No space left"):
        write(spool, b"y" * 300)
    assert "No space" in spool.full
    assert not spool.make_ahead()
    disk.fail.clear()
    assert spool.make_ahead()
    assert spool.full == ""
    write(spool, b"again")

    assert [*taken, b"again"] == read(yard, spool)


def test_a_segment_that_cannot_be_synced_is_none(yard: Any, disk: Any) -> None:
    """A segment whose name may not last is removed again, and the spool says so."""
    disk.fail["sync_directory"] = errno.EIO
    with pytest.raises(StoreError, match="could not make a spool"):
        yard.spool()

    assert not list(yard.spools.glob("*.spool"))


def test_acks_are_read_as_they_come(yard: Any) -> None:
    """What the sequencer noted gives each record its place; half of a note is none yet."""
    spool = yard.spool()
    assert spool.acknowledged() == 0
    path = ack_path(yard.spools, spool.writer)
    path.write_bytes(ACK.pack(0, 3, 10) + ACK.pack(3, 2, 20)[:5])
    assert spool.acknowledged() == 3
    assert [10, 12, None] == [spool.index_of(n) for n in (0, 2, 3)]
    with path.open("ab") as file:
        file.write(ACK.pack(3, 2, 20)[5:])

    assert spool.acknowledged() == 5
    assert [12, 20, 21, None] == [spool.index_of(n) for n in (2, 3, 4, 5)]
    assert spool.exists()


def test_many_threads_ask_for_acks(yard: Any) -> None:
    """However many threads look at the notes while they come, each of them reads them all."""
    spool = yard.spool()
    wrong: list[int] = []
    stop = threading.Event()

    def look() -> None:
        seen = 0
        while not stop.is_set():
            told = spool.acknowledged()
            if told < seen - 50 or any(spool.index_of(n) != n + 7 for n in range(told)[-3:]):
                wrong.append(told)
            seen = told

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    with ack_path(yard.spools, spool.writer).open("ab", buffering=0) as file:
        for n in range(1000):
            file.write(ACK.pack(n, 1, n + 7))
    stop.set()
    for thread in threads:
        thread.join()

    assert not wrong
    assert spool.acknowledged() == 1000


def test_a_spool_that_was_set_aside_acknowledges_nothing(yard: Any) -> None:
    """A writer whose files were moved away learns of it before it acknowledges the next record."""
    spool = yard.spool()
    write(spool, b"one")
    spool.sync()
    lock = lock_path(yard.spools, spool.writer)
    lock.rename(lock.with_suffix(".gone"))
    write(spool, b"two")

    with pytest.raises(StoreError, match="moved or removed"):
        spool.sync()
    assert spool.synced == 1
    lock.touch()
    with pytest.raises(StoreError, match="moved or removed"):
        spool.sync()


def test_a_lock_that_is_just_cleared_away(yard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer whose new name is locked by somebody draws another one."""
    draws = iter([b"a" * 32, b"a" * 32, b"b" * 32])
    first = yard.spool().writer
    monkeypatch.setattr(os, "urandom", lambda _: next(draws))
    one = yard.spool()
    two = yard.spool()

    assert len({first, one.writer, two.writer}) == 3


def test_processes_that_begin_together(tmp_path: Path) -> None:
    """Who finds that another process has just made the same directory goes on, and syncs it."""
    disk = rig.Faulty()
    synced: list[str] = []

    def late(path: Path, mode: int) -> None:
        path.mkdir(mode=mode)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))

    disk.make_directory = late
    disk.sync_directory = lambda path: synced.append(path.name)
    yard = rig.Yard(tmp_path, disk)
    write(yard.spool(), b"one")

    assert {"private", "spool", "log", tmp_path.name} <= set(synced)
    yard.close()

    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="could not make a spool"):
        Spool(tmp_path / "file" / "log", rig.Quick())


def test_a_lock_on_a_file_that_is_gone_is_none(tmp_path: Path) -> None:
    """Who locked a file that somebody removed meanwhile makes it anew."""
    path = tmp_path / "lock"
    held = hold(path)
    path.unlink()
    other = hold(path)

    assert os.fstat(other.fd).st_ino == path.stat().st_ino
    held.close()
    other.close()


def test_closing_leaves_what_is_to_be_read(yard: Any) -> None:
    """Closing removes the segment that was made ahead, and lets go of the lock; twice is fine."""
    spool = yard.spool()
    write(spool, b"one")
    spool.end()
    spool.close()
    spool.close()

    assert [segment_path(yard.spools, spool.writer, 0)] == list(yard.spools.glob("*.spool"))
    hold(lock_path(yard.spools, spool.writer)).close()
    with pytest.raises(StoreError, match="it was closed"):
        write(spool, b"two")
