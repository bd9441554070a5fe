"""
Whatever lies among the spools, the records of the others come into the log.

What somebody puts there is taken as the records of a writer of that name, or
set aside as it is; nothing of it counts for another writer, stops the
sequencer, or raises anything.
"""

import os
import shutil
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from secureml.evidence._spool import BATCH, END, PIECE, Head, segment_path
from secureml.evidence.log import verify_log
from secureml.wire import frame

_spec = spec_from_file_location("crash_stories", Path(__file__).parent / "crash_stories.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="crash_stories")
tale = module_from_spec(_spec)
_spec.loader.exec_module(tale)

small = st.integers(0, 3) | st.integers(0, 2**32 - 1)
large = small | st.integers(0, 2**64 - 1)
text = st.binary(max_size=40)


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """Draw a payload that says to be records, and may even be."""
    bodies = draw(st.lists(text, max_size=4))
    lines = draw(st.lists(text, min_size=len(bodies), max_size=len(bodies)))
    count = draw(st.just(len(bodies)) | small)
    head = BATCH.pack(
        draw(st.sampled_from([1, 1, 4])), draw(small), draw(large), draw(large), count
    )
    lengths = b"".join(len(one).to_bytes(4) for one in (*bodies, *lines))
    return b"".join((head, lengths, *bodies, *lines, draw(st.sampled_from([b"", b"", b"x"]))))


payloads = st.one_of(
    batches(),
    st.binary(min_size=1, max_size=60),
    st.builds(END.pack, st.just(3), large),
    st.builds(lambda n, piece: PIECE.pack(2, n) + piece, small, text),
)


def framed(payload: bytes, length: int | None, flip: int | None) -> bytes:
    """Return a frame, good or with a wrong length or a wrong byte."""
    data = bytearray(frame.encode(payload))
    if length is not None:
        data[:4] = length.to_bytes(4)
    if flip is not None:
        data[flip % len(data)] ^= 1 << flip % 8
    return bytes(data)


frames = st.builds(
    framed,
    payloads,
    st.none() | st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.none() | st.integers(0, 1000),
)


@st.composite
def segments(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw the name and the bytes of a file."""
    writer = draw(st.sampled_from([b"\x00" * 16, b"\x01" * 16, b"\xff" * 16]))
    number = draw(st.integers(0, 2) | st.just(99_999_999))
    other = draw(st.sampled_from([writer, writer, writer, b"\x02" * 16]))
    head = draw(st.just(Head(other, number).encode()) | st.binary(max_size=64))
    name = segment_path(Path(), writer, number).name
    beside = [f"{writer.hex()}.{kind}" for kind in ("acks", "lock", "spool", "acks~")]
    odd = [name.upper(), name[1:], name + "~", "aside", "aside~", "wanted", "anchored", "x"]
    name = draw(st.sampled_from([name] * 8 + beside + odd))
    data = head + b"".join(draw(st.lists(frames, max_size=5))) + bytes(draw(st.integers(0, 99)))
    return name, data


EMPTY = Head(bytes(16), 0).encode() + bytes(11)


def plant(place: Path, data: bytes) -> None:
    """Put it there: now and then not as a file."""
    if place.exists() or place.is_symlink():
        return
    kind = len(data) % 12
    if kind == 0:
        os.mkfifo(place)
    elif kind == 1:
        place.symlink_to("/dev/zero")
    elif kind == 2:
        place.mkdir()
    else:
        place.write_bytes(data)


@given(st.lists(segments(), min_size=1, max_size=6), st.integers(0, 11))
@example([("0" * 32 + "-00000000.spool", EMPTY), ("0" * 32 + "-0.SPOOL", bytes(2))], 0)
@settings(max_examples=300)
def test_whatever_lies_there(planted: list[tuple[str, bytes]], acks: int) -> None:
    """Two writers record beside hostile files: all of theirs is in the log, in order, once."""
    with tale.crash.in_memory(Path("/nonexistent")) as memory:
        base = memory / "life"
        base.mkdir()
        story = tale.Story(tale.crash.Memory(), tale.House(base, tale.crash.Memory()))
        story.machine.ops = []
        one, two = tale.Life(story), tale.Life(story)
        one.start()
        two.start()
        for name, data in planted:
            plant(story.house.spools / name, data)
        plant(story.house.spools / f"{one.spool.writer.hex()}.acks", bytes(acks))
        begun = time.monotonic()
        one.calls(20, 0)
        story.step()
        assert one.spool.acknowledged() == len(one.bodies)
        two.calls(20)
        story.step()
        one.end()
        two.die()
        story.step()
        assert time.monotonic() - begun < 10
        story.close()
        entries = verify_log(base / "audit", trust=tale.TRUST, role="audit").entries

        prefixes = {life.spool.writer.hex().encode(): life for life in (one, two)}
        found: dict[bytes, list[bytes]] = {prefix: [] for prefix in prefixes}
        for entry in entries:
            found.setdefault(entry[17:49], []).append(entry[67:])
        assert all(life.bodies == found[prefix] for prefix, life in prefixes.items())
        lines = (story.house.details / f"{one.spool.writer.hex()}-000000.jsonl").read_bytes()
        assert b"".join(one.lines) == lines
        # What is left belongs to nobody, or was set aside, and is never looked at again.
        before = len(entries)
        house = tale.House(base, tale.crash.Memory())
        house.step()
        house.leave()
        again = verify_log(base / "audit", trust=tale.TRUST, role="audit").entries
        assert len(again) == before


def test_thousands_of_files(tmp_path: Path) -> None:
    """A thousand spools that are rubbish are set aside, and nobody is kept from recording."""
    with tale.crash.in_memory(tmp_path) as memory:
        base = memory / "life"
        base.mkdir()
        story = tale.Story(tale.crash.Memory(), tale.House(base, tale.crash.Memory()))
        story.machine.ops = []
        life = tale.Life(story)
        life.start()
        story.step()
        for n in range(1000):
            segment_path(story.house.spools, n.to_bytes(16), 0).write_bytes(os.urandom(100 + n))
        begun = time.monotonic()
        life.calls(20)
        story.step()
        taken = time.monotonic() - begun
        story.close()
        kept = len(list((story.house.spools / "aside").glob("*.spool")))
        names = set(os.listdir(story.house.spools))  # noqa: PTH208  names
        shutil.rmtree(base)

    print(f"1,000 hostile spools: {taken:.1f} s")  # noqa: T201  with -s
    assert kept >= 950
    assert len(names) <= 8
    assert taken < 60
