"""Facts about `secureml.wire.frame`: what a crash leaves, and what it cannot leave."""

import time
import zlib

import pytest

from secureml.wire import frame

PAYLOADS = [b"one", b"\0" * 40, b'{"at":"x"}' * 9]
FRAMES = [frame.encode(payload) for payload in PAYLOADS]
DATA = b"".join(FRAMES)


def test_the_layout_is_length_checksum_payload() -> None:
    """Two big-endian numbers of 32 bits, then the payload."""
    assert b"\0\0\0\3" + zlib.crc32(b"one").to_bytes(4, "big") + b"one" == FRAMES[0]


def test_all_frames_are_read() -> None:
    """A whole file is clean, and so is an empty one."""
    assert (PAYLOADS, len(DATA), "clean") == frame.scan(DATA)
    assert frame.scan(b"") == ([], 0, "clean")


@pytest.mark.parametrize("cut", range(1, len(DATA)))
def test_a_file_cut_anywhere_is_torn(cut: int) -> None:
    """A crash in a write leaves whole frames and one that is cut."""
    whole = sum(1 for i in range(1, 4) if sum(map(len, FRAMES[:i])) <= cut)
    end = sum(map(len, FRAMES[:whole]))

    assert (PAYLOADS[:whole], end, "clean" if end == cut else "torn") == frame.scan(DATA[:cut])


@pytest.mark.parametrize(
    "tail",
    [b"\0", b"\0" * 4096, b"\xff" * 100, b"garbage", b"\1\0\0\0" * 9, b"\1\0\0\1" + bytes(60)],
)
def test_a_tail_of_zeros_or_garbage_is_torn(tail: bytes) -> None:
    """What a file system leaves behind the last good frame is no frame."""
    assert (PAYLOADS, len(DATA), "torn") == frame.scan(DATA + tail)


@pytest.mark.parametrize("at", range(len(DATA)))
def test_a_flipped_byte_is_never_read(at: int) -> None:
    """Damage before the last frame is corruption; in the last it looks like a torn write."""
    damaged = bytearray(DATA)
    damaged[at] ^= 0x40
    number = next(i for i in range(3) if at < sum(map(len, FRAMES[: i + 1])))

    scan = frame.scan(bytes(damaged))

    assert PAYLOADS[:number] == scan.payloads
    assert sum(map(len, FRAMES[:number])) == scan.consumed
    assert ("torn" if number == 2 else "corrupt") == scan.verdict


def test_a_removed_frame_is_not_noticed_here() -> None:
    """A frame that is gone whole leaves a clean file: the index in the payload must tell."""
    assert ([PAYLOADS[0], PAYLOADS[2]], len(FRAMES[0] + FRAMES[2]), "clean") == frame.scan(
        FRAMES[0] + FRAMES[2]
    )


def test_the_largest_payload() -> None:
    """16 MiB fit, one byte more does not, and none at all neither."""
    payload = bytes(frame.MAX_PAYLOAD)

    assert ([payload], frame.MAX_PAYLOAD + 8, "clean") == frame.scan(frame.encode(payload))
    for wrong in (b"", payload + b"\0"):
        with pytest.raises(ValueError, match="a frame holds"):
            frame.encode(wrong)
    assert frame.scan(b"\x01\x00\x00\x01" + bytes(frame.MAX_PAYLOAD + 5)).verdict == "torn"
    assert frame.scan(b"x" + frame.encode(payload)).verdict == "corrupt"


def test_a_long_tail_is_searched_quickly() -> None:
    """4 MiB of zeros behind the last frame cost well under a second or two."""
    start = time.process_time()

    assert frame.scan(DATA + bytes(4 * 2**20)).verdict == "torn"
    assert time.process_time() - start < 3
