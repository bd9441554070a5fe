"""Facts about `secureml.wire.logentry`, the leaf of the statement log."""

import hashlib
import json
from pathlib import Path

import pytest

from secureml.errors import FormatError
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope, Signature
from secureml.wire.logentry import BlobRef, LogEntry

VECTORS = Path(__file__).parents[3] / "vectors" / "log-entry"
REFUSED: dict[str, str] = json.loads((VECTORS / "refused.json").read_text())["inputs"]
AT = "2026-11-22T08:30:00.000000Z"
ENVELOPE = Envelope("t", b"x", (Signature("", b"s"),))


def test_golden_leaf() -> None:
    """The leaf of the specification's example, both ways."""
    vector = json.loads((VECTORS / "inline.json").read_text())
    envelope = Envelope.decode(vector["envelope"].encode())

    assert vector["source"]
    assert (vector["expect"].encode(), None) == LogEntry.of(envelope, vector["at"])
    assert LogEntry(vector["at"], envelope, None) == LogEntry.decode(vector["expect"].encode())


def test_golden_leaves_at_the_limit() -> None:
    """A leaf of 65,535 bytes holds its envelope; one byte more and it names a blob."""
    vector = json.loads((VECTORS / "limit.json").read_text())

    assert vector["source"]
    for case in vector["expect"]:
        envelope = Envelope(
            vector["payload_type"],
            bytes(case["zero_bytes"]),
            (Signature(case["keyid"], vector["sig"].encode()),),
        )
        leaf, blob = LogEntry.of(envelope, vector["at"])
        entry = LogEntry.decode(leaf)

        assert case["leaf_bytes"] == len(leaf)
        assert case["leaf_sha256"] == hashlib.sha256(leaf).hexdigest()
        assert case["inline"] == (blob is None) == (entry.envelope is not None)
        if blob is not None:
            assert case["leaf"].encode() == leaf
            assert envelope.encode() == blob
            assert BlobRef(Digest.sha256(blob), len(blob)) == entry.blob
            with pytest.raises(ValueError, match="65,535"):
                LogEntry(vector["at"], envelope, None).encode()
        else:
            size = len(envelope.encode())
            with pytest.raises(ValueError, match="inside"):
                BlobRef(Digest.sha256(b""), size)


@pytest.mark.parametrize("name", REFUSED)
def test_other_leaves_are_refused(name: str) -> None:
    """Each rule of a leaf, broken once, is refused."""
    with pytest.raises(FormatError):
        LogEntry.decode(REFUSED[name].encode())


def test_the_refused_leaves_differ_from_the_good_ones() -> None:
    """No example of a bad leaf is a good one by mistake."""
    good = json.loads((VECTORS / "inline.json").read_text())["expect"]

    assert good not in REFUSED.values()
    assert len(REFUSED) == len(set(REFUSED.values()))


def test_a_leaf_that_is_too_long_is_refused_unread() -> None:
    """More than 65,535 bytes are no leaf."""
    with pytest.raises(FormatError, match="longer"):
        LogEntry.decode(b"[" * 65_536)


@pytest.mark.parametrize(
    "at",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T08:30:00Z",
        "2026-11-22T08:30:00.000000+00:00",
        "2026-02-29T08:30:00.000000Z",
        "2026-11-22T24:00:00.000000Z",
        AT + "\n",
        AT.replace("2026", "\u0662026"),
    ],
)
def test_other_times_are_refused(at: str) -> None:
    """A time has one spelling, and is one."""
    with pytest.raises(ValueError, match="a time is spelled"):
        LogEntry.of(ENVELOPE, at)


def test_an_entry_has_one_content() -> None:
    """An envelope or the name of one, and not both."""
    blob = BlobRef(Digest.sha256(b""), 70_000)

    assert blob == LogEntry.decode(LogEntry(AT, None, blob).encode()).blob
    for envelope, ref in [(None, None), (ENVELOPE, blob)]:
        with pytest.raises(ValueError, match="not both"):
            LogEntry(AT, envelope, ref)
    with pytest.raises(ValueError, match="sha256"):
        BlobRef(Digest("blake3", bytes(32)), 70_000)
    with pytest.raises(ValueError, match="belongs inside"):
        BlobRef(Digest.sha256(b""), 2**53)
