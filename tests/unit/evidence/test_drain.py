# ruff: noqa: ANN401  the rig is loaded by its path, and has no type
"""What a sequencer reads in a spool: all that was synced, nothing twice, no damage as a tear."""

import errno
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.evidence._drain import Drain, sweep, writers
from secureml.evidence._spool import (
    ACK,
    BATCH,
    HEAD_SIZE,
    PIECE,
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

WRITER = bytes(range(16))


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Any]:
    """Return a directory for spools."""
    made = rig.Yard(tmp_path)
    made.spools.mkdir(parents=True)
    yield made
    made.close()


def batch(first: int, *bodies: bytes, synced: int = 0, details: int = 0) -> bytes:
    """Return the payload of a frame with records."""
    count = len(bodies)
    lengths = b"".join(len(body).to_bytes(4) for body in bodies) + bytes(4 * count)
    return BATCH.pack(1, details, synced, first, count) + lengths + b"".join(bodies)


def segment(*payloads: bytes, number: int = 0, size: int = 4096, head: bytes = b"") -> bytes:
    """Return a segment of WRITER."""
    data = (head or Head(WRITER, number).encode()) + b"".join(map(frame.encode, payloads))
    return data.ljust(size, b"\0")


def put(yard: Any, *segments: bytes) -> Drain:
    """Write the segments of a writer that is gone."""
    for number, data in enumerate(segments):
        segment_path(yard.spools, WRITER, number).write_bytes(data)
    return Drain(yard.spools, WRITER, yard.files)


def taken(drain: Drain, mark: int = 0) -> list[bytes]:
    """Read everything, and return the bodies."""
    found: list[bytes] = []
    while some := drain.read(mark + len(found), 1 << 20):
        found += [body for one in some for body in one.bodies]
    drain.close()
    return found


# A torn end


@pytest.mark.parametrize("rest", ["zeros", "garbage", "nothing"])
def test_every_torn_end(yard: Any, rest: str) -> None:
    """Torn at any byte, a spool gives the records before the tear, and counts what it drops."""
    bodies = [b"body %d" % n * (n + 1) for n in range(6)]
    frames = [batch(n, body, synced=n) for n, body in enumerate(bodies)]
    whole = segment(*frames).rstrip(b"\0") + b"}"
    ends = [HEAD_SIZE]
    for payload in frames:
        ends.append(ends[-1] + frame.HEADER_SIZE + len(payload))
    noise = random.Random(7)  # noqa: S311  rubbish, not a secret
    for cut in range(HEAD_SIZE, ends[-1] + 1):
        tail = {
            "zeros": bytes(4096 - cut),
            # What a crash leaves beside a tear is never a frame that says it was synced.
            "garbage": noise.randbytes(ends[-1] - cut),
            "nothing": b"",
        }[rest]
        drain = put(yard, whole[:cut] + tail)
        good = sum(end <= cut for end in ends[1:])
        assert bodies[:good] == taken(drain)
        assert drain.trouble == ""
        left = (whole[ends[good] : cut] + tail).rstrip(b"\0")
        assert drain.discarded == len(left)


def test_every_flipped_byte_that_had_been_synced(yard: Any) -> None:
    """A changed byte with a good frame behind that says so is damage, wherever it is."""
    bodies = [b"body %d" % n for n in range(3)]
    frames = [batch(n, body, synced=n) for n, body in enumerate(bodies)]
    whole = segment(*frames)
    last = HEAD_SIZE + sum(frame.HEADER_SIZE + len(payload) for payload in frames[:-1])
    first = HEAD_SIZE + frame.HEADER_SIZE + len(frames[0])
    for at in range(HEAD_SIZE, last + frame.HEADER_SIZE + len(frames[2])):
        for mask in (1, 128, 255):
            drain = put(yard, whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            found = taken(drain)
            assert bodies[: len(found)] == found
            if at < last:
                assert drain.trouble == "corrupt"
                assert len(found) == (at >= first)
            else:
                # Nobody can tell a changed last frame from a torn one.
                assert (drain.trouble, len(found)) == ("", 2)
                assert drain.discarded


def test_a_flipped_byte_before_the_next_segment(yard: Any) -> None:
    """A segment was synced before the next was written to: a bad frame in it is damage."""
    whole = segment(batch(0, b"one"), batch(1, b"two"))
    at = whole.index(b"two")
    drain = put(yard, whole[:at] + b"t" + whole[at:-1], segment(batch(2, b"three"), number=1))

    assert [b"one"] == taken(drain)
    assert drain.trouble == "corrupt"


@pytest.mark.parametrize(
    ("payload", "trouble"),
    [
        (batch(1, b"x"), "gap"),
        (batch(2**64 - 1, b"x"), "gap"),
        (batch(0), "corrupt"),
        (batch(0, b"x") + b"y", "corrupt"),
        (batch(0, b"x")[:-1], "corrupt"),
        (BATCH.pack(1, 0, 0, 0, 2**32 - 1), "corrupt"),
        (BATCH.pack(5, 0, 0, 0, 1) + (1).to_bytes(4) + bytes(4) + b"x", "corrupt"),
        (b"\x00", "corrupt"),
        (b"\x03", "corrupt"),
        (b"\x03" + bytes(9), "corrupt"),
        (b"\x02", "corrupt"),
    ],
)
def test_what_no_writer_writes(yard: Any, payload: bytes, trouble: str) -> None:
    """A good frame that says what no writer says is not guessed at."""
    drain = put(yard, segment(payload, batch(0, b"after")))

    assert taken(drain) == []
    assert trouble == drain.trouble


def test_a_head_of_another(yard: Any) -> None:
    """A segment whose head names another writer, another number or nothing is not read."""
    for head in (Head(WRITER, 1), Head(WRITER[::-1], 0)):
        drain = put(yard, segment(batch(0, b"x"), head=head.encode()))
        assert (taken(drain), drain.trouble) == ([], "corrupt")
        assert drain.wanted() == 0
    drain = put(yard, segment(batch(0, b"x"), head=bytes(64)))
    assert (taken(drain), drain.trouble) == ([], "corrupt")


def test_a_head_that_a_crash_tore(yard: Any) -> None:
    """Of a head that was not synced any part may be missing; any other byte in it is damage."""
    head = Head(WRITER, 0, 3).encode()
    for cut in range(HEAD_SIZE):
        for data in (head[:cut], head[:cut] + bytes(HEAD_SIZE), bytes(cut) + head[cut:]):
            drain = put(yard, data)
            assert (taken(drain), drain.trouble) == ([], "")
    for at in range(32):
        drain = put(yard, head[:at] + bytes([head[at] ^ 0xFF]) + head[at + 1 :] + bytes(99))
        assert (taken(drain), drain.trouble) == ([], "corrupt")


def test_what_is_in_the_log_is_passed_over(yard: Any) -> None:
    """Records below the mark are not read again, wherever it falls in a frame."""
    bodies = [b"%d" % n for n in range(7)]
    for mark in range(8):
        drain = put(yard, segment(batch(0, *bodies[:4]), batch(4, *bodies[4:])))
        assert bodies[mark:] == taken(drain, mark)
        assert drain.trouble == ""


def test_a_segment_whose_elder_is_gone(yard: Any) -> None:
    """A crash may bring back an old segment and not the one after it: nothing is lost for that."""
    drain = put(
        yard,
        segment(batch(0, b"a")),
        segment(batch(1, b"b"), number=1),
        segment(batch(2, b"c"), number=2),
        segment(number=3),
    )
    segment_path(yard.spools, WRITER, 1).unlink()
    assert [b"c"] == taken(drain, 2)
    assert drain.trouble == ""
    drain.settle()
    assert [2, 3] == [int(path.stem[-8:]) for path in sorted(yard.spools.glob("*.spool"))]

    drain = put(yard, segment(batch(0, b"a")))
    assert ([b"a"], "gap") == (taken(drain), drain.trouble)


def test_a_segment_that_stayed_empty(yard: Any) -> None:
    """A writer that failed at a segment's first frame and left it is read on in the next."""
    for last in ((), (batch(1, b"b"),)):
        drain = put(
            yard,
            segment(batch(0, b"a")),
            segment(number=1),
            segment(number=2),
            segment(*last, number=3),
        )
        assert [b"a", b"b"][: 1 + len(last)] == taken(drain)
        assert drain.trouble == ""


# Lines over several frames


def test_a_line_of_twenty_megabytes_of_a_dead_writer(yard: Any) -> None:
    """A line longer than what is read at a time arrives whole, though nobody writes any more."""
    spool = yard.spool(size=4 << 20)
    line = os.urandom(20 << 20)
    spool.write([b"{}"], [line], details=3)
    spool.write([b"{}"], [b"x"], details=3)
    spool.sync()
    spool.abandon()
    drain = yard.drain(spool)

    found = drain.read(0, 8 << 20)
    assert [(0, [line], 3)] == [(one.first, one.lines, one.details) for one in found]
    assert [1] == [one.first for one in drain.read(1, 8 << 20)]
    drain.close()


def test_half_of_a_line_is_kept(yard: Any) -> None:
    """Segments with the beginning of a line are not removed before its record is in the log."""
    spool = yard.spool(piece=1000)
    write(spool, b"{}")
    real, seen = spool._frame, []
    drain = yard.drain(spool)

    def watched(payload: bytes) -> None:
        real(payload)
        seen.append([one.first for one in drain.read(len(seen) and 1, 1 << 20)])
        if seen[-1] != [1]:
            drain.settle()

    spool._frame = watched  # type: ignore[method-assign]
    spool.write([b"{}"], [b"x" * 9000], details=0)
    assert [[0], *[[]] * 7, [1]] == seen
    assert [0] == [int(p.stem[-8:]) for p in sorted(yard.spools.glob("*.spool"))][:1]
    drain.close()

    again = yard.drain(spool)
    assert [(1, b"x" * 9000)] == [(one.first, one.lines[0]) for one in again.read(1, 1 << 20)]
    again.close()


def test_a_line_without_its_beginning(yard: Any) -> None:
    """Its record is passed over if it is in the log, and damage if it is not."""
    lengths = (1).to_bytes(4) * 2
    pieces = [PIECE.pack(2, n) + b"piece" for n in (1, 2)]
    last = BATCH.pack(4, 0, 0, 0, 1) + lengths + b"xy"
    for mark, trouble, bodies in ((0, "corrupt", []), (1, "", [b"after"])):
        drain = put(yard, segment(*pieces, last, batch(1, b"after")))
        assert bodies == taken(drain, mark)
        assert trouble == drain.trouble


# A writer at work


def test_what_is_being_written_is_waited_for(yard: Any) -> None:
    """Half a frame of a living writer is nothing yet, and is read when it is whole."""
    spool = yard.spool()
    write(spool, b"one")
    path = segment_path(yard.spools, spool.writer, 0)
    data = path.read_bytes()
    drain = yard.drain(spool)
    assert [b"one"] == taken(drain)
    at = len(data.rstrip(b"\0"))
    payload = frame.encode(batch(1, b"two"))
    for cut in range(len(payload)):
        path.write_bytes(data[:at] + payload[:cut] + bytes(4096 - at - cut))
        assert (taken(drain, 1), drain.trouble, drain.discarded) == ([], "", 0)
    path.write_bytes(data[:at] + payload + bytes(4096 - at - len(payload)))

    assert [b"two"] == taken(drain, 1)
    assert not drain.gone()
    spool.want(5)
    assert drain.wanted() == 5


def test_the_end_is_the_end(yard: Any) -> None:
    """Behind its end a writer's spool is removed, and everything of it with it."""
    spool = yard.spool()
    write(spool, b"one")
    spool.end()
    spool.close()
    drain = yard.drain(spool)
    drain.acknowledge(0, 1, 0)

    assert [b"one"] == taken(drain)
    assert drain.ended
    drain.finish()
    assert list(yard.spools.iterdir()) == []


def test_a_writer_is_reminded(yard: Any) -> None:
    """What a sequencer did not say before it died is said by the next, once."""
    spool = yard.spool()
    drain = yard.drain(spool)
    drain.acknowledge(0, 2, 5)
    drain.remind(0, 2, 5)
    drain.remind(1, 1, 6)
    assert spool.acknowledged() == 2
    with ack_path(yard.spools, spool.writer).open("ab") as file:
        file.write(b"torn")
    drain.close()
    drain.remind(2, 3, 9)

    assert (5, 11) == (spool.acknowledged(), spool.index_of(4))
    assert ack_path(yard.spools, spool.writer).stat().st_size == 2 * ACK.size
    drain.close()


# What the system refuses


def test_what_cannot_be_opened_is_not_read_to_its_end(yard: Any) -> None:
    """With no descriptor left a spool is not taken for an empty one."""
    drain = put(yard, segment(batch(0, b"a")), segment(batch(1, b"b"), number=1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = os.open("/dev/null", os.O_RDONLY)
    os.close(used)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        with pytest.raises(OSError, match="Too many open files"):
            drain.read(0, 1 << 20)
        with pytest.raises(OSError, match="Too many open files"):
            drain.gone()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert drain.trouble == ""
    assert [b"a", b"b"] == taken(drain)


def link(path: Path) -> None:
    """Put a link where a file belongs."""
    path.symlink_to("/dev/zero")


def many_bytes(path: Path) -> None:
    """Put a file that no writer makes, with room for anything."""
    path.write_bytes(segment() + b"x")
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "make", [link, os.mkfifo, Path.mkdir, many_bytes], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("where", [0, 1])
def test_no_regular_file(yard: Any, make: Callable[[Path], None], where: int) -> None:
    """A link, a pipe, a directory or an endless file is set aside, as it is, without a wait."""
    drain = put(yard, segment(batch(0, b"a"), b"\x03" + bytes(8)))
    if where == 0:
        segment_path(yard.spools, WRITER, 0).unlink()
    make(segment_path(yard.spools, WRITER, where))
    begun = time.monotonic()
    found = taken(drain)

    assert time.monotonic() - begun < 5
    assert ([], "corrupt") == (found, drain.trouble) if where == 0 else [b"a"] == found
    drain.set_aside()
    assert [] == list(writers(yard.spools))
    assert {"aside"} == {path.name for path in yard.spools.iterdir()}


@pytest.mark.parametrize("make", [link, os.mkfifo, Path.mkdir], ids=lambda f: f.__name__)
def test_no_regular_lock(yard: Any, make: Callable[[Path], None]) -> None:
    """What lies where a lock belongs and is no file never stops the reading of others."""
    make(lock_path(yard.spools, WRITER))
    drain = put(yard, segment(batch(0, b"a")))
    begun = time.monotonic()

    assert drain.gone()
    assert [b"a"] == taken(drain) or drain.trouble == "corrupt"
    assert time.monotonic() - begun < 5


def test_what_is_set_aside_replaces_nothing(yard: Any) -> None:
    """Two spools of one name are both kept."""
    for n in range(3):
        put(yard, b"rubbish %d" % n).set_aside()

    kept = {path.read_bytes() for path in (yard.spools / "aside").iterdir()}
    assert {b"rubbish %d" % n for n in range(3)} == kept


def test_names_that_no_writer_makes(yard: Any) -> None:
    """Other names are passed over: of upper case, of other digits, without end."""
    good = WRITER.hex()
    for name in (
        f"{good.upper()}-00000000.spool",
        f"{good}-0.spool",
        f"{good}-000000001.spool",
        f"{good}-\uff10\uff10\uff10\uff10\uff10\uff10\uff10\uff10.spool",
        f"{good}-abcdefgh.spool",
        f"{good[:-1]}-00000000.spool",
        f"{good}-00000000.spool~",
        f"x{good}-00000000.spool",
        "-.spool",
    ):
        (yard.spools / name).write_bytes(segment(batch(0, b"x")))
    assert list(writers(yard.spools)) == []
    assert list(writers(yard.spools / "none")) == []

    drain = put(yard, segment(batch(0, b"x"), b"\x03" + bytes(8)))
    assert [WRITER] == list(writers(yard.spools))
    assert [b"x"] == taken(drain)


def test_a_number_far_away(yard: Any) -> None:
    """A segment with a number far behind costs no more than any other."""
    drain = put(yard, segment(batch(0, b"a")))
    segment_path(yard.spools, WRITER, 99_999_999).write_bytes(
        segment(batch(1, b"b"), number=99_999_999)
    )
    begun = time.monotonic()

    assert [b"a", b"b"] == taken(drain)
    drain.settle()
    assert time.monotonic() - begun < 2


def test_hostile_bytes_cost_no_more_than_others(yard: Any) -> None:
    """Bytes made so that each of them may begin a long frame are judged in no time."""
    like = (3_000_000).to_bytes(4) + bytes(4) + batch(0, b"", synced=2**63)[:25]
    drain = put(yard, segment()[:HEAD_SIZE] + b"\xff" + like * ((4 << 20) // len(like)))
    begun = time.monotonic()

    assert taken(drain) == []
    assert drain.trouble == "corrupt"
    assert time.monotonic() - begun < 5


# What a crash leaves


def test_locks_and_acks_without_a_spool_are_cleared_away(yard: Any) -> None:
    """What is left of a spool goes, and nothing that a living writer has."""
    spool = yard.spool()
    ack_path(yard.spools, spool.writer).touch()
    for path in yard.spools.glob("*.spool"):
        path.unlink()
    lock_path(yard.spools, WRITER).touch()
    ack_path(yard.spools, WRITER[::-1]).touch()
    (yard.spools / "lock").touch()
    (yard.spools / "aside").mkdir()
    (yard.spools / ("f" * 32 + ".lock")).symlink_to("nowhere")
    sweep(yard.spools, yard.files)

    mine = {f"{spool.writer.hex()}.lock", f"{spool.writer.hex()}.acks"}
    there = {path.name for path in yard.spools.iterdir()}
    assert mine | {"lock", "aside", "f" * 32 + ".lock"} == there


def test_a_spool_beside_a_sweep(yard: Any) -> None:
    """Writers that come while locks are cleared away all keep theirs."""
    made: list[Spool] = []
    for _ in range(50):
        made.append(yard.spool())
        sweep(yard.spools, yard.files)

    assert all(lock_path(yard.spools, one.writer).exists() for one in made)
    assert not any(yard.drain(one).gone() for one in made)


def test_a_refusal_is_not_an_end(yard: Any) -> None:
    """An error of the system while reading is raised, and the spool stays."""
    drain = put(yard, segment(batch(0, b"a")))
    drain._fd = os.open(yard.spools, os.O_RDONLY)
    with pytest.raises(OSError, match="directory") as caught:
        drain.read(0, 1 << 20)

    assert caught.value.errno == errno.EISDIR
    drain.close()
    assert [b"a"] == taken(drain)
