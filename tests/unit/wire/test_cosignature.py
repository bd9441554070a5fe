"""Facts about `secureml.wire.cosignature`: the bytes that others sign, and ours alike."""

import json
from pathlib import Path

import pytest

from secureml.errors import FormatError
from secureml.keys import Verifier
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.cosignature import (
    MAX_TIMESTAMP,
    cosignature_message,
    join_timestamp,
    split_timestamp,
    subtree_message,
)
from secureml.wire.note import COSIGNATURE, MLDSA44, Note, VKey

VECTORS = Path(__file__).parents[3] / "vectors/cosignature"
ROOT = bytes(range(32))


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_published_cosignatures(path: Path) -> None:
    """What others signed is the message that is made here, and verifies under their key."""
    vector = json.loads(path.read_text())
    expect = vector["expect"]
    note = Note.decode(vector["note"])
    line = next(one for one in note.signatures if one.name == expect["name"])
    timestamp, signature = split_timestamp(line.signature)
    checkpoint = Checkpoint.decode(note.text)

    assert vector["source"]
    assert (expect["key_id"], expect["timestamp"]) == (line.key_id.hex(), timestamp)
    assert expect["size"] == checkpoint.size
    assert line.signature == join_timestamp(timestamp, signature)
    if path.stem == "torchwood-mldsa":
        message = subtree_message(checkpoint, name=line.name, timestamp=timestamp)
    else:
        message = cosignature_message(note.text, timestamp)
    assert expect["message"] == message.hex()
    if vector["vkey"]:
        vkey = VKey.decode(vector["vkey"])
        scheme = {COSIGNATURE: "ed25519", MLDSA44: "mldsa-44"}[vkey.key_type]
        assert vkey.key_id == line.key_id
        assert vector["vkey"] == vkey.encode()
        Verifier.from_raw(scheme, vkey.public).verify(signature, message)


def test_the_message_of_a_tree() -> None:
    """Label, name, time, origin, 0, size and root stand one after another."""
    message = subtree_message(Checkpoint("log", 5, ROOT), name="w", timestamp=7)

    numbers = [(0).to_bytes(8), (5).to_bytes(8)]
    expected = b"subtree/v1\n\0" + b"\1w" + (7).to_bytes(8) + b"\3log" + b"".join(numbers) + ROOT
    assert expected == message


def test_extension_lines_are_covered_or_refused() -> None:
    """Ed25519 covers them; ML-DSA-44 does not, so such a checkpoint is not signed with it."""
    checkpoint = Checkpoint("log", 5, ROOT, ("more",))

    assert cosignature_message(checkpoint.encode(), 1).endswith(b"\nmore\n")
    with pytest.raises(ValueError, match="extension lines"):
        subtree_message(checkpoint, name="w", timestamp=1)


@pytest.mark.parametrize("name", ["", "n" * 256, "\u00e9" * 128])
def test_names_have_a_length_that_one_byte_holds(name: str) -> None:
    """A name of no byte or of more than 255 is refused; 255 are not."""
    checkpoint = Checkpoint("o" * 255, 5, ROOT)

    assert subtree_message(checkpoint, name="n" * 255, timestamp=0)
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        subtree_message(checkpoint, name=name, timestamp=0)


@pytest.mark.parametrize("timestamp", [-1, MAX_TIMESTAMP + 1])
def test_a_time_is_below_two_to_the_63(timestamp: int) -> None:
    """A timestamp outside the format is refused, made or read."""
    checkpoint = Checkpoint("log", 5, ROOT)

    with pytest.raises(ValueError, match="timestamp"):
        cosignature_message("log\n", timestamp)
    with pytest.raises(ValueError, match="timestamp"):
        subtree_message(checkpoint, name="w", timestamp=timestamp)
    with pytest.raises(ValueError, match="timestamp"):
        join_timestamp(timestamp, b"s")
    assert (MAX_TIMESTAMP, b"s") == split_timestamp(join_timestamp(MAX_TIMESTAMP, b"s"))
    with pytest.raises(FormatError):
        split_timestamp((MAX_TIMESTAMP + 1).to_bytes(8) + b"s")


@pytest.mark.parametrize("size", [0, 7, 8])
def test_a_cosignature_has_a_time_and_a_signature(size: int) -> None:
    """Eight bytes or fewer are none."""
    with pytest.raises(FormatError, match="cosignature"):
        split_timestamp(bytes(size))
