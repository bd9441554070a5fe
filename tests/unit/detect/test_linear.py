"""Detectors take time in proportion to the text, also to one made to slow them down."""

import time

import pytest

from secureml import detect

SIZE = 2**20
BOUND = 10.0
"""CPU seconds for 1 MiB and all detectors; a quadratic one would take hours."""

HOSTILE = [
    "1",
    "1 ",
    "1-2-",
    "06 ",
    "4111 1111 1111 1111 ",
    "@",
    "a@",
    "a.",
    "@" + "a" * 70,
    "a.b@c.",
    "password=",
    "password is ",
    'api_key: "',
    "\u0130pass=",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN A ",
    "eyJaaaaaaaaaa.eyJaa",
    "sk-ghp_hf_xoxb-AKIA",
    "://" + "a" * 130 + ":",
    "+49 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 ",
    "(((",
    "DE89 3704 ",
    "RSSMRA85",
    "a1b2c3",
    "1\u00a0",
    "1\u200b",
    "ab:",
    "1.2.3.",
    "born 1",
    "1 january ",
    " ",
    "Bearer ",
    "tel 1234567 ",
    "call me ",
    "--password ",
    "\0",
]


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_hostile_text_is_read_in_time(piece: str) -> None:
    """1 MiB of a pattern's own beginnings is searched by all detectors within a CPU bound."""
    text = (piece * (SIZE // len(piece) + 1))[:SIZE]

    start = time.process_time()
    detect.find(text, detect.ALL)

    assert time.process_time() - start < BOUND


@pytest.mark.parametrize("detector", detect.ALL, ids=lambda d: d.kind)
def test_each_detector_alone_is_linear(detector: detect.Detector) -> None:
    """Sixteen times the text takes about sixteen times as long, not two hundred."""
    mixed = "".join(HOSTILE)

    def cost(size: int) -> float:
        text = (mixed * (size // len(mixed) + 1))[:size]
        best = BOUND
        for _ in range(3):
            start = time.process_time()
            detector.find(text)
            best = min(best, time.process_time() - start)
        return best

    assert cost(2**18) < max(0.2, 80 * cost(2**14))
