"""The write-ahead file: what is read back, and what is refused."""

import struct
from pathlib import Path

import pytest

from secureml.errors import ConsistencyError, FormatError, StoreError
from secureml.evidence import _wal
from secureml.evidence._files import Files
from secureml.evidence._wal import Wal, read_frames
from secureml.wire import frame


def framed(index: int, entry: bytes) -> bytes:
    """Make the frame of an entry."""
    return frame.encode(struct.pack(">QQ", index, index) + entry)


def test_missing_file_is_empty(tmp_path: Path) -> None:
    """A log that was never appended to has no write-ahead file."""
    found = read_frames(tmp_path / "wal", published=0)

    assert (found.first, found.entries, found.good, found.torn) == (0, [], 0, 0)


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    """Entries come back in order, with the index of the first."""
    wal = Wal(tmp_path / "a" / "wal", Files(), good=0)
    for n in range(5, 8):
        wal.append(n, n, b"entry %d" % n)
    wal.sync(7)
    wal.close()
    wal.close()

    found = read_frames(tmp_path / "a" / "wal", published=0)
    assert (found.first, found.entries, found.torn) == (5, [b"entry 5", b"entry 6", b"entry 7"], 0)
    assert found.good == (tmp_path / "a" / "wal").stat().st_size


def test_frame_is_the_specified_one(tmp_path: Path) -> None:
    """A frame is length, checksum, index and entry, big-endian."""
    wal = Wal(tmp_path / "wal", Files(), good=0)
    wal.append(258, 3, b"abc")

    data = (tmp_path / "wal").read_bytes()
    assert data[:4].hex() == "00000013"
    assert "00000000000001020000000000000003" + b"abc".hex() == data[8:].hex()


def test_torn_end_is_counted(tmp_path: Path) -> None:
    """A torn frame is not an entry; its bytes are counted."""
    good = framed(0, b"a")
    (tmp_path / "wal").write_bytes(good + framed(1, b"b")[:-1])

    found = read_frames(tmp_path / "wal", published=0)
    assert ([b"a"], len(good), len(good)) == (found.entries, found.good, found.torn + 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (framed(0, b"a") + framed(1, b"b")[:-1] + framed(2, b"c"), "had been on the disk"),
        (framed(0, b"a") + framed(2, b"b"), "entry 2 follows entry 0"),
        (framed(0, b"a") + framed(0, b"b"), "entry 0 follows entry 0"),
        (framed(0, b""), "16 bytes, which no entry has"),
        (frame.encode(b"short"), "5 bytes, which no entry has"),
        (framed(0, b"x" * 65_536), "65552 bytes, which no entry has"),
    ],
)
def test_damage_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    """What no crash leaves is never repaired."""
    (tmp_path / "wal").write_bytes(data)

    with pytest.raises(ConsistencyError, match=why):
        read_frames(tmp_path / "wal", published=0)


def test_opening_cuts_to_the_good_part(tmp_path: Path) -> None:
    """The torn end is gone once the file is open."""
    good = framed(0, b"a")
    path = tmp_path / "wal"
    path.write_bytes(good + b"torn")
    wal = Wal(path, Files(), good=len(good))
    wal.append(1, 1, b"b")

    assert good + framed(1, b"b") == path.read_bytes()
    assert wal.is_at(path)
    wal.reset()
    assert path.read_bytes() == b""
    path.unlink()
    assert not wal.is_at(path)
    path.touch()
    assert not wal.is_at(path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The write-ahead file is not written through a link."""
    (tmp_path / "wal").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="could not open"):
        Wal(tmp_path / "wal", Files(), good=0)


def test_a_giant_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that no log writes is refused, whatever is in it."""
    monkeypatch.setattr(_wal, "LIMIT", 10)
    (tmp_path / "wal").write_bytes(framed(0, b"a"))

    with pytest.raises(FormatError, match="longer than its format allows"):
        read_frames(tmp_path / "wal", published=0)


def test_lost_frames_that_were_never_synced_are_a_crash(tmp_path: Path) -> None:
    """The disk may keep a later write and lose an earlier one, as long as neither was synced."""

    def unsynced(index: int, entry: bytes) -> bytes:
        return frame.encode(struct.pack(">QQ", index, 1) + entry)

    whole = framed(0, b"a") + unsynced(1, b"b") + unsynced(2, b"c")
    size = len(whole) // 3
    (tmp_path / "wal").write_bytes(whole[:size] + bytes(size) + whole[2 * size :])

    found = read_frames(tmp_path / "wal", published=0)
    assert ([b"a"], size, 2 * size) == (found.entries, found.good, found.torn)


def test_damage_to_published_frames_is_harmless(tmp_path: Path) -> None:
    """A frame below the checkpoint is not needed; those behind it that are synced are."""
    whole = b"".join(framed(n, b"x") for n in range(3))
    (tmp_path / "wal").write_bytes(b"\0" + whole[1:] if whole[0] else b"\1" + whole[1:])

    assert read_frames(tmp_path / "wal", published=2).entries == []
    with pytest.raises(ConsistencyError, match="had been on the disk"):
        read_frames(tmp_path / "wal", published=1)
