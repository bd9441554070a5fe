"""A spool and its reader, step by step: what is written is read, and what else is refused."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml.errors import StoreError
from secureml.evidence._drain import ASIDE, Batch, Drain, writers
from secureml.evidence._files import Files
from secureml.evidence._flock import hold
from secureml.evidence._spool import (
    ACK,
    BATCH,
    END,
    HEAD_SIZE,
    PIECE,
    SEGMENT,
    Head,
    Spool,
    ack_path,
    lock_path,
    segment_path,
)
from secureml.wire import frame

SMALL = 4096
MUCH = 1 << 30


class Disk(Files):
    """A disk that is never late, takes down what it is asked, and fails when it is told to."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.fail = ""
        self.error = errno.ENOSPC
        self.skip = 0

    def _call(self, name: str, where: int | Path) -> None:
        if isinstance(where, int):
            where = Path(f"/proc/self/fd/{where}").readlink()
        if name == self.fail:
            if not self.skip:
                raise OSError(self.error, os.strerror(self.error))
            self.skip -= 1
        self.done.append((name, where.name[33:] or where.name))

    def create(self, path: Path, mode: int) -> int:
        """Make a file."""
        self._call("create", path)
        return super().create(path, mode)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write."""
        self._call("write", fd)
        return super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Sync in no time."""
        self._call("sync", fd)

    def sync_directory(self, path: Path) -> None:
        """Sync in no time."""

    def remove(self, path: Path) -> None:
        """Remove a file."""
        self._call("remove", path)
        super().remove(path)


def made(tmp: Path, files: Files | None = None, *, size: int = SMALL) -> Spool:
    """Make a spool of small segments."""
    return Spool(tmp / "spool", files or Disk(), size=size)


def drain(spool: Spool) -> Drain:
    """Open the spool to read it."""
    return Drain(spool.directory, spool.writer, Disk())


def put(spool: Spool, *bodies: bytes) -> None:
    """Write records without details, and sync them."""
    spool.write(bodies, [b""] * len(bodies), details=0)
    spool.sync()


def bodies(batches: list[Batch]) -> list[bytes]:
    """Return the records in the order of their numbers, which have no gap."""
    found: list[bytes] = []
    for batch in batches:
        assert batch.first == batches[0].first + len(found)
        found += batch.bodies
    return found


def segment(spool: Spool, number: int = 0) -> Path:
    """Return the path of a segment."""
    return segment_path(spool.directory, spool.writer, number)


def patch(path: Path, at: int, data: bytes) -> None:
    """Write into a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def forged(spool: Spool, *payloads: bytes) -> None:
    """Write frames of one's own into the first segment."""
    patch(segment(spool), HEAD_SIZE, b"".join(map(frame.encode, payloads)))


# What is written is read


def test_records_come_back(tmp_path: Path) -> None:
    """Records, their lines and the number of their details segment are read as written."""
    spool = made(tmp_path)
    spool.write([b"a", b"bb"], [b"line\n", b""], details=7)
    spool.write([b"ccc"], [b""], details=8)
    reader = drain(spool)

    assert reader.read(0, MUCH) == [
        Batch(spool.writer, 0, [b"a", b"bb"], [b"line\n", b""], 7),
        Batch(spool.writer, 2, [b"ccc"], [b""], 8),
    ]
    assert reader.read(3, MUCH) == []
    assert (reader.trouble, reader.ended) == ("", False)
    put(spool, b"d")
    assert bodies(reader.read(3, MUCH)) == [b"d"]


def test_the_frame_is_the_specified_one(tmp_path: Path) -> None:
    """Head and batch are the bytes that the specification names."""
    spool = made(tmp_path)
    put(spool, b"first")
    spool.write([b"ab"], [b"l"], details=3)

    data = segment(spool).read_bytes()
    assert len(data) == SMALL
    assert data[:28] == b"secspl1\n" + spool.writer + bytes(4)
    second = HEAD_SIZE + 8 + BATCH.size + 8 + 5
    payload = bytes.fromhex(
        "01 00000003 0000000000000001 0000000000000001 00000001 00000002 00000001"
    )
    assert data[second:] == frame.encode(payload + b"ab" + b"l").ljust(SMALL - second, b"\0")
    assert segment(spool).stat().st_mode & 0o777 == 0o600


def test_records_below_the_mark_are_passed_over(tmp_path: Path) -> None:
    """What is in the log already is not taken twice, also when a batch was taken in part."""
    spool = made(tmp_path)
    put(spool, b"0", b"1", b"2")
    put(spool, b"3", b"4")

    assert bodies(drain(spool).read(3, MUCH)) == [b"3", b"4"]
    assert bodies(drain(spool).read(1, MUCH)) == [b"1", b"2", b"3", b"4"]
    assert drain(spool).read(4, MUCH)[0].first == 4
    assert drain(spool).read(5, MUCH) == []


def test_a_part_of_a_batch_keeps_its_lines(tmp_path: Path) -> None:
    """Who takes the end of a batch gets the lines of that end."""
    spool = made(tmp_path)
    spool.write([b"0", b"1"], [b"zero\n", b"one\n"], details=5)

    assert drain(spool).read(1, MUCH) == [Batch(spool.writer, 1, [b"1"], [b"one\n"], 5)]


def test_a_record_above_the_mark_is_a_gap(tmp_path: Path) -> None:
    """A spool whose beginning was removed is set aside, and nothing of it is taken."""
    spool = made(tmp_path)
    for _ in range(8):
        put(spool, b"x" * 900)
    segment(spool, 0).unlink()
    reader = drain(spool)

    assert reader.read(0, MUCH) == []
    assert reader.trouble == "gap"


def test_numbers_that_skip_one_are_a_gap(tmp_path: Path) -> None:
    """A frame that was cut out of the middle is noticed; what is before it is taken."""
    spool = made(tmp_path)
    one = BATCH.pack(1, 0, 0, 0, 1) + struct.pack(">II", 1, 0) + b"a"
    three = BATCH.pack(1, 0, 0, 2, 1) + struct.pack(">II", 1, 0) + b"c"
    forged(spool, one, three)
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert reader.trouble == "gap"


def test_many_segments_are_one_spool(tmp_path: Path) -> None:
    """Records go on in the next segment, in order, and none is lost between two."""
    spool = made(tmp_path)
    all_of_them = [b"%06d" % n * 100 for n in range(60)]
    for body in all_of_them:
        put(spool, body)
    reader = drain(spool)

    assert len(list(spool.directory.glob("*.spool"))) > 8
    assert bodies(reader.read(0, MUCH)) == all_of_them
    assert reader.trouble == ""


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    """A long spool is read in parts, which together are all of it."""
    spool = made(tmp_path)
    for n in range(40):
        put(spool, b"%d" % n * 100)
    reader = drain(spool)
    found: list[bytes] = []
    while some := bodies(reader.read(len(found), 1000)):
        assert sum(map(len, some)) < 1500
        found += some

    assert found == [b"%d" % n * 100 for n in range(40)]


def test_large_writes_are_cut_into_batches(tmp_path: Path) -> None:
    """Records that do not fit in one frame come in several."""
    spool = made(tmp_path, size=SEGMENT)
    large = [bytes([n]) * 1_500_000 for n in range(1, 15)]
    put(spool, *large)
    found = drain(spool).read(0, MUCH)

    assert bodies(found) == large
    assert len(found) == len(large)


def test_a_long_line_is_cut_into_pieces(tmp_path: Path) -> None:
    """A line of the details that is longer than a frame comes back whole."""
    spool = made(tmp_path, size=SEGMENT)
    line = b"0123456789abcdef" * ((17 << 20) // 16) + b"\n"
    put(spool, b"before")
    spool.write([b"body"], [line], details=1)
    put(spool, b"after")
    reader = drain(spool)

    first, long, last = reader.read(0, MUCH)
    assert (first.bodies, last.bodies) == ([b"before"], [b"after"])
    assert (long.bodies, long.lines == [line]) == ([b"body"], True)
    assert (last.first, last.lines) == (2, [b""])


def test_the_end_is_the_end(tmp_path: Path) -> None:
    """A writer that is done says so, and whatever is behind that is not read."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.end()
    end = HEAD_SIZE + 2 * frame.HEADER_SIZE + BATCH.size + 8 + 1 + END.size
    more = BATCH.pack(1, 0, 0, 1, 1) + struct.pack(">II", 1, 0) + b"b"
    patch(segment(spool), end, frame.encode(more))
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert reader.ended
    assert reader.read(1, MUCH) == []


def test_a_living_writer_is_waited_for(tmp_path: Path) -> None:
    """Half a frame may be one that is being written: it is read when it is whole."""
    spool = made(tmp_path)
    put(spool, b"a")
    whole = segment(spool).read_bytes()
    put(spool, b"b")
    done = segment(spool).read_bytes()
    cut = done.rstrip(b"\0")[:-5]
    segment(spool).write_bytes(cut + bytes(SMALL - len(cut)))
    reader = drain(spool)

    assert whole != done
    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert (reader.trouble, reader.gone()) == ("", False)
    segment(spool).write_bytes(done)
    assert bodies(reader.read(1, MUCH)) == [b"b"]


# Behind a writer that is gone


def flipped(spool: Spool, body: bytes) -> None:
    """Change one byte of a record in the first segment."""
    data = segment(spool).read_bytes()
    at = data.index(body, HEAD_SIZE)
    patch(segment(spool), at, bytes([data[at] ^ 1]))


def test_a_torn_end_is_counted(tmp_path: Path) -> None:
    """What a crash cut off is no record, and no trouble."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.write([b"torn"], [b""], details=0)
    flipped(spool, b"torn")
    spool.abandon()
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert (reader.trouble, reader.ended, reader.gone()) == ("", False, True)
    assert reader.discarded == frame.HEADER_SIZE + BATCH.size + 8 + 4


def test_a_clean_end_has_nothing_to_discard(tmp_path: Path) -> None:
    """A writer that died between two writes leaves nothing to count."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.abandon()
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert (reader.trouble, reader.discarded) == ("", 0)


def test_a_bad_frame_that_had_been_synced_is_damage(tmp_path: Path) -> None:
    """No crash takes back what was on the disk: the spool is set aside, not cut."""
    spool = made(tmp_path)
    put(spool, b"a")
    put(spool, b"acknowledged")
    put(spool, b"later")
    flipped(spool, b"acknowledged")
    spool.abandon()
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert reader.trouble == "corrupt"


def test_what_is_damaged_below_the_mark_is_in_the_log(tmp_path: Path) -> None:
    """A bad frame of records that are under a checkpoint is no loss."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.write([b"never synced"], [b""], details=0)
    flipped(spool, b"a")
    spool.abandon()
    reader = drain(spool)

    assert reader.read(1, MUCH) == []
    assert reader.trouble == ""


def test_unsynced_frames_may_be_written_in_any_order(tmp_path: Path) -> None:
    """A good frame behind a bad one is a crash, as long as neither had been synced."""
    spool = made(tmp_path)
    put(spool, b"a")
    for body in (b"lost", b"there"):
        spool.write([body], [b""], details=0)
    flipped(spool, b"lost")
    spool.abandon()
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"a"]
    assert reader.trouble == ""
    assert reader.discarded > 2 * (frame.HEADER_SIZE + BATCH.size)


def test_a_bad_frame_before_a_later_segment_is_damage(tmp_path: Path) -> None:
    """A writer syncs a segment before it goes on: what is bad in it was changed since."""
    spool = made(tmp_path)
    for n in range(12):
        put(spool, b"%d" % n * 800)
    flipped(spool, b"3" * 800)
    reader = drain(spool)

    assert bodies(reader.read(0, MUCH)) == [b"%d" % n * 800 for n in range(3)]
    assert (reader.trouble, reader.gone()) == ("corrupt", False)


# What is not a spool


@pytest.mark.parametrize(
    "head",
    [
        Head(b"another writer!!", 0).encode(),
        bytes(HEAD_SIZE),
        b"secspl2\n".ljust(HEAD_SIZE, b"\0"),
        b"",
    ],
    ids=["another writer", "zeros", "another magic", "nothing"],
)
def test_a_segment_with_another_head_is_refused(tmp_path: Path, head: bytes) -> None:
    """What a spool says can never count for another writer."""
    spool = made(tmp_path)
    put(spool, b"a")
    data = segment(spool).read_bytes()
    segment(spool).write_bytes(head + (data[HEAD_SIZE:] if head else b""))
    reader = drain(spool)

    assert reader.read(0, MUCH) == []
    assert reader.trouble == ("corrupt" if head else "")


def test_a_segment_that_was_moved_is_refused(tmp_path: Path) -> None:
    """The number in the head has to be that of the name."""
    spool = made(tmp_path)
    put(spool, b"a")
    segment(spool).rename(segment(spool, 3))
    segment(spool, 1).unlink()
    reader = drain(spool)

    assert reader.read(0, MUCH) == []
    assert reader.trouble == "corrupt"


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_head_has_64_bytes(length: int) -> None:
    """Neither more nor fewer are one."""
    assert Head.decode(Head(bytes(16), 1).encode().ljust(65, b"\0")[:length]) is None


def test_a_head_is_read_as_written() -> None:
    """Writer, number and what is wanted come back; other magic is no head."""
    found = Head.decode(Head(bytes(range(16)), 5, 9).encode())

    assert found is not None
    assert (found.writer, found.number, found.wanted) == (bytes(range(16)), 5, 9)
    wrong = bytearray(Head(bytes(16), 1).encode())
    wrong[:8] = b"secspl2\n"
    import zlib

    wrong[28:32] = zlib.crc32(wrong[:28]).to_bytes(4)
    assert Head.decode(bytes(wrong)) is None


def one(
    kind: int = 1, count: int = 1, lengths: tuple[int, ...] = (1, 0), rest: bytes = b"a"
) -> bytes:
    """Make the payload of a batch by hand."""
    return BATCH.pack(kind, 0, 0, 0, count) + struct.pack(f">{len(lengths)}I", *lengths) + rest


@pytest.mark.parametrize(
    "payload",
    [
        one(kind=5),
        one(kind=0),
        one(count=0, lengths=(), rest=b""),
        one(rest=b"ab"),
        one(rest=b""),
        one(count=2),
        one(lengths=(1, 1)),
        b"\x01",
        b"\x02\x00",
        b"\x03",
        END.pack(3, 1) + b"x",
    ],
    ids=lambda payload: payload.hex()[:20] or "empty",
)
def test_a_frame_that_no_writer_writes_is_damage(tmp_path: Path, payload: bytes) -> None:
    """A good checksum makes no record: anybody can compute it."""
    spool = made(tmp_path)
    forged(spool, payload)
    reader = drain(spool)

    assert reader.read(0, MUCH) == []
    assert (reader.trouble, reader.ended) == ("corrupt", False)


def test_a_piece_that_begins_anew_forgets_the_ones_before(tmp_path: Path) -> None:
    """A line that was begun and not ended has no part in the next one."""
    spool = made(tmp_path)
    forged(
        spool,
        PIECE.pack(2, 0) + b"left over, ",
        PIECE.pack(2, 0) + b"whole ",
        PIECE.pack(2, 1) + b"and ",
        one(kind=4, lengths=(1, 5), rest=b"a" + b"line\n"),
    )

    assert drain(spool).read(0, MUCH) == [Batch(spool.writer, 0, [b"a"], [b"whole and line\n"], 0)]


def test_pieces_belong_to_the_next_batch_alone(tmp_path: Path) -> None:
    """Pieces before an ordinary batch are in no line at all."""
    spool = made(tmp_path)
    second = BATCH.pack(4, 0, 0, 1, 1) + struct.pack(">II", 1, 2) + b"bl\n"
    forged(spool, PIECE.pack(2, 0) + b"pieces ", one(), second)

    assert [b.lines for b in drain(spool).read(0, MUCH)] == [[b""], [b"l\n"]]


def link(path: Path, target: Path) -> None:
    """Put a link there."""
    path.symlink_to(target)


def pipe(path: Path, target: Path) -> None:
    """Put a pipe there, at which a reader would wait for ever."""
    del target
    os.mkfifo(path)


def directory(path: Path, target: Path) -> None:
    """Put a directory there."""
    del target
    path.mkdir()


@pytest.mark.parametrize("thing", [link, pipe, directory])
def test_only_a_regular_file_is_a_segment(
    tmp_path: Path, thing: Callable[[Path, Path], None]
) -> None:
    """A link, a pipe and a directory are not read, and nobody waits at them."""
    spool = made(tmp_path)
    put(spool, b"a")
    elsewhere = segment(spool).rename(tmp_path / "elsewhere")
    thing(segment(spool), elsewhere)

    assert drain(spool).read(0, MUCH) == []
    assert drain(spool).wanted() == 0


@pytest.mark.parametrize("thing", [link, pipe])
def test_a_later_segment_that_is_no_file_is_none(
    tmp_path: Path, thing: Callable[[Path, Path], None]
) -> None:
    """Nobody is led away from the segment that is there."""
    spool = made(tmp_path)
    put(spool, b"a")
    segment(spool, 1).unlink()
    thing(segment(spool, 1), segment(spool))

    assert bodies(drain(spool).read(0, MUCH)) == [b"a"]


def test_other_files_are_no_spools(tmp_path: Path) -> None:
    """Only the names of segments name writers, each once."""
    spool = made(tmp_path)
    for name in ("lock", "x-00000000.spool", "z" * 32 + "-00000000.spool", "a-b", "0" * 32):
        (spool.directory / name).touch()

    assert list(writers(spool.directory)) == [spool.writer]
    assert list(writers(tmp_path / "nowhere")) == []


# What the sequencer leaves


def test_segments_are_removed_once_they_are_left(tmp_path: Path) -> None:
    """The segment that the writer is in stays; those before it go when they are settled."""
    spool = made(tmp_path)
    for n in range(12):
        put(spool, b"%d" % n * 800)
    reader = drain(spool)
    before = sorted(spool.directory.glob("*.spool"))
    assert len(reader.read(0, MUCH)) == 12
    assert sorted(spool.directory.glob("*.spool")) == before
    reader.sync()
    reader.settle()

    assert sorted(spool.directory.glob("*.spool")) == before[-2:]
    put(spool, b"more")
    assert bodies(reader.read(12, MUCH)) == [b"more"]


def test_what_was_read_is_synced_before_anything_is_made_of_it(tmp_path: Path) -> None:
    """Every segment that was read is synced once, by the reader."""
    spool = made(tmp_path)
    for n in range(12):
        put(spool, b"%d" % n * 800)
    disk = Disk()
    reader = Drain(spool.directory, spool.writer, disk)
    reader.read(0, MUCH)
    reader.sync()
    names = [f"{n:08d}.spool" for n in range(len(list(spool.directory.glob("*.spool"))) - 1)]

    assert [("sync", name) for name in names] == disk.done
    reader.close()
    reader.sync()
    assert [call for call in disk.done if call[0] == "sync"] == [("sync", n) for n in names]


def test_acks_tell_where_records_are(tmp_path: Path) -> None:
    """A writer learns how many are under a checkpoint, and the place of each."""
    spool = made(tmp_path)
    put(spool, *(b"%d" % n for n in range(6)))
    assert (spool.acknowledged(), spool.index_of(0)) == (0, None)
    reader = drain(spool)
    reader.acknowledge(0, 2, 10)
    reader.acknowledge(2, 3, 20)

    assert spool.acknowledged() == 5
    assert [spool.index_of(n) for n in range(6)] == [10, 11, 20, 21, 22, None]


def test_a_torn_ack_is_no_ack(tmp_path: Path) -> None:
    """The bytes of an ack that a crash cut are dropped by the next sequencer."""
    spool = made(tmp_path)
    put(spool, b"a", b"b")
    drain(spool).acknowledge(0, 1, 4)
    with ack_path(spool.directory, spool.writer).open("ab") as file:
        file.write(ACK.pack(1, 1, 9)[:-1])
    assert spool.acknowledged() == 1
    drain(spool).acknowledge(1, 1, 5)

    assert (spool.acknowledged(), spool.index_of(1)) == (2, 5)


def test_acks_that_were_lost_are_no_places(tmp_path: Path) -> None:
    """A record between two acks has no place that anybody knows."""
    spool = made(tmp_path)
    put(spool, *(b"%d" % n for n in range(6)))
    drain(spool).acknowledge(0, 2, 0)
    drain(spool).acknowledge(4, 2, 4)

    assert [spool.index_of(n) for n in (1, 2, 3, 4)] == [1, None, None, 4]


def test_who_waits_is_seen(tmp_path: Path) -> None:
    """A writer says up to which record somebody waits for a checkpoint."""
    spool = made(tmp_path)
    put(spool, b"a")
    reader = drain(spool)
    assert reader.wanted() == 0
    spool.want(1)

    assert reader.wanted() == 1
    assert bodies(reader.read(0, MUCH)) == [b"a"]


def test_a_finished_spool_leaves_nothing(tmp_path: Path) -> None:
    """Every file of it is removed, the lock last: while it is there, the rest may be."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.close()
    disk = Disk()
    reader = Drain(spool.directory, spool.writer, disk)
    reader.read(0, MUCH)
    reader.acknowledge(0, 1, 0)
    assert spool.exists()
    reader.finish()

    assert list(spool.directory.iterdir()) == []
    assert disk.done[-1][0] == "remove"
    assert [name for call, name in disk.done if call == "remove"][-1].endswith("lock")
    assert not spool.exists()


def test_a_spool_that_is_set_aside_is_kept_as_it_is(tmp_path: Path) -> None:
    """Nothing of what is wrong with it is lost."""
    spool = made(tmp_path)
    put(spool, b"a")
    before = segment(spool).read_bytes()
    spool.close()
    drain(spool).set_aside()

    assert list(writers(spool.directory)) == []
    aside = spool.directory / ASIDE
    assert (aside / segment(spool).name).read_bytes() == before
    assert not lock_path(spool.directory, spool.writer).exists()


def test_a_second_one_is_set_aside_as_well(tmp_path: Path) -> None:
    """The directory of what was set aside may be there already."""
    for _ in range(2):
        spool = made(tmp_path)
        spool.abandon()
        drain(spool).set_aside()

    assert len(list((tmp_path / "spool" / ASIDE).glob("*.spool"))) >= 2


def test_a_reader_that_is_closed_begins_anew(tmp_path: Path) -> None:
    """What was open is given back, twice as well as once."""
    spool = made(tmp_path)
    put(spool, b"a")
    reader = drain(spool)
    reader.read(0, MUCH)
    reader.acknowledge(0, 1, 0)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  descriptors
    reader.close()
    reader.close()

    assert len(os.listdir("/proc/self/fd")) == before - 2  # noqa: PTH208  descriptors


# What a writer does


def test_a_segment_is_made_before_it_is_needed(tmp_path: Path) -> None:
    """Two segments of zeros are on the disk before the first record is written."""
    disk = Disk()
    spool = made(tmp_path, disk)

    assert [path.stat().st_size for path in sorted(spool.directory.glob("*.spool"))] == [SMALL] * 2
    assert not any(segment(spool, 1).read_bytes()[HEAD_SIZE:])
    assert disk.done[-1] == ("sync", "00000001.spool")
    assert segment(spool, 1).read_bytes()[24:28] == (1).to_bytes(4)


def test_a_segment_is_synced_before_the_next_one_is_written(tmp_path: Path) -> None:
    """No crash can leave a later record without the earlier ones."""
    disk = Disk()
    spool = made(tmp_path, disk)
    spool.write([b"x" * 3000], [b""], details=0)
    disk.done.clear()
    spool.write([b"y" * 3000], [b""], details=0)

    calls = [call for call in disk.done if not call[1].startswith("00000002")]
    assert calls == [("sync", "00000000.spool"), ("write", "00000001.spool")]
    assert spool.synced == 1


def test_syncing_twice_is_syncing_once(tmp_path: Path) -> None:
    """Where nothing was written since, the disk is not asked again."""
    disk = Disk()
    spool = made(tmp_path, disk)
    put(spool, b"a")
    disk.done.clear()
    spool.sync()

    assert (disk.done, spool.synced, spool.count) == ([], 1, 1)


def test_a_record_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    """The segment that was kept ahead is replaced by one that is large enough."""
    spool = made(tmp_path)
    put(spool, b"a")
    put(spool, b"x" * 10_000)
    put(spool, b"b")

    assert segment(spool, 1).stat().st_size > 10_000
    assert bodies(drain(spool).read(0, MUCH)) == [b"a", b"x" * 10_000, b"b"]


def test_segments_grow(tmp_path: Path) -> None:
    """A process that writes little has small ones; the next one is twice as large."""
    spool = made(tmp_path, size=SEGMENT)

    assert segment(spool, 0).stat().st_size == 256 << 10
    assert segment(spool, 1).stat().st_size == 512 << 10


def test_a_write_that_fails_is_taken_back(tmp_path: Path) -> None:
    """Half a frame on the disk would hide what comes after it."""
    disk = Disk()
    spool = made(tmp_path, disk)
    put(spool, b"a")

    class Half(Files):
        def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            if any(data):
                super().write_at(fd, data[: len(data) // 2], offset)
                raise OSError(errno.ENOSPC, "full")
            return super().write_at(fd, data, offset)

    spool._files = Half()
    with pytest.raises(StoreError, match="were not written"):
        spool.write([b"refused"], [b""], details=0)
    spool._files = disk
    assert (spool.broken, spool.count) == ("", 1)
    put(spool, b"b")

    assert bodies(drain(spool).read(0, MUCH)) == [b"a", b"b"]
    assert b"refu" not in segment(spool).read_bytes()


def test_a_write_that_cannot_be_taken_back_is_the_last_one(tmp_path: Path) -> None:
    """Behind bytes that nobody can read nothing is written any more."""
    disk = Disk()
    spool = made(tmp_path, disk)
    put(spool, b"a")
    disk.fail = "write"
    with pytest.raises(StoreError, match="were not written"):
        spool.write([b"refused"], [b""], details=0)
    disk.fail = ""

    assert "could not be taken back" in spool.broken
    with pytest.raises(StoreError, match="takes no more records"):
        spool.write([b"b"], [b""], details=0)


def test_a_sync_that_fails_is_final(tmp_path: Path) -> None:
    """The system may have dropped what it could not write: asking again would tell nothing."""
    disk = Disk()
    spool = made(tmp_path, disk)
    spool.write([b"a"], [b""], details=0)
    disk.fail, disk.error = "sync", errno.EIO
    with pytest.raises(StoreError, match="could not be synced"):
        spool.sync()
    disk.fail = ""

    assert spool.synced == 0
    for again in (spool.sync, lambda: put(spool, b"b"), spool.end, lambda: spool.want(1)):
        with pytest.raises(StoreError, match="takes no more records"):
            again()


def test_a_sync_that_fails_between_two_segments_is_final(tmp_path: Path) -> None:
    """The record that needed the next segment is refused as well."""
    disk = Disk()
    spool = made(tmp_path, disk)
    spool.write([b"x" * 3000], [b""], details=0)
    disk.fail = "sync"
    with pytest.raises(StoreError, match="could not be synced"):
        spool.write([b"y" * 3000], [b""], details=0)

    assert spool.broken
    assert (spool.synced, spool.count) == (0, 1)


def test_a_full_disk_is_met_one_segment_ahead(tmp_path: Path) -> None:
    """What comes next is refused; what was accepted has its place."""
    disk = Disk()
    spool = made(tmp_path, disk)
    put(spool, b"x" * 3000)
    disk.fail = "create"
    put(spool, b"y" * 3000)
    assert spool.full == os.strerror(errno.ENOSPC)
    assert not spool.make_ahead()
    put(spool, b"z" * 500)
    with pytest.raises(StoreError, match="were not written") as caught:
        put(spool, b"refused" * 500)
    assert caught.value.retryable
    disk.fail = ""
    assert spool.make_ahead()
    assert spool.full == ""
    put(spool, b"again" * 700)

    expected = [b"x" * 3000, b"y" * 3000, b"z" * 500, b"again" * 700]
    assert bodies(drain(spool).read(0, MUCH)) == expected


def test_a_segment_that_cannot_be_filled_is_removed(tmp_path: Path) -> None:
    """A segment that is not all on the disk is no segment."""
    disk = Disk()
    disk.fail, disk.skip = "write", 3
    spool = made(tmp_path, disk)

    assert spool.full
    assert segment(spool, 0).exists()
    assert not segment(spool, 1).exists()


@pytest.mark.parametrize("call", ["create", "write", "sync"])
def test_a_spool_that_cannot_be_made_leaves_no_lock(tmp_path: Path, call: str) -> None:
    """The error is one of the store, and nobody seems to be alive."""
    disk = Disk()
    disk.fail = call
    with pytest.raises(StoreError, match="could not make a spool"):
        made(tmp_path, disk)

    for path in (tmp_path / "spool").glob("*.lock"):
        hold(path).close()


def test_a_wish_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Who waits for a checkpoint learns that nobody was told."""
    disk = Disk()
    spool = made(tmp_path, disk)
    put(spool, b"a")
    disk.fail = "write"

    with pytest.raises(StoreError, match="cannot be written"):
        spool.want(1)


def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    """It is closed, its lock is free, and the segment ahead is gone."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.close()

    assert not segment(spool, 1).exists()
    assert drain(spool).gone()
    with pytest.raises(StoreError, match="takes no more records"):
        put(spool, b"b")
    spool.close()


def test_an_abandoned_spool_is_left_as_it_is(tmp_path: Path) -> None:
    """A process that dies removes nothing."""
    spool = made(tmp_path)
    put(spool, b"a")
    spool.abandon()

    assert segment(spool, 1).exists()
    assert drain(spool).gone()


def test_each_writer_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Nobody can foresee it, so nobody can be there before."""
    assert len({made(tmp_path).writer for _ in range(20)}) == 20
