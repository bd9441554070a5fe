"""Facts about `secureml.wire.note` and `secureml.wire.checkpoint`."""

import json
from itertools import count
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secureml.errors import FormatError
from secureml.wire.base64 import b64encode
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import ED25519, Note, NoteSignature, VKey, key_hash, key_id

VECTORS = Path(__file__).parents[3] / "vectors"
NOTES = sorted((VECTORS / "signed-note").glob("[!rv]*.json"))
BAD_NOTES = json.loads((VECTORS / "signed-note/refused.json").read_text())["inputs"]
BAD_CHECKPOINTS = json.loads((VECTORS / "checkpoint/refused.json").read_text())["inputs"]
VKEYS = json.loads((VECTORS / "signed-note/vkeys.json").read_text())["expect"]
KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
ONE = NoteSignature("example.com/a", b"abcd", b"s")


@pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)
def test_published_notes(path: Path) -> None:
    """A published note has the published parts, is written back, and verifies."""
    vector = json.loads(path.read_text())
    expect = vector["expect"]
    note = Note.decode(vector["note"])
    (signature,) = note.signatures

    assert vector["source"]
    assert note == Note.decode(vector["note"].encode())
    assert vector["note"] == note.encode()
    assert expect == {
        "text": note.text,
        "name": signature.name,
        "key_id": signature.key_id.hex(),
    }
    if vector["vkey"]:
        vkey = VKey.decode(vector["vkey"])
        key = Ed25519PublicKey.from_public_bytes(vkey.public)
        key.verify(signature.signature, note.text.encode())
        assert vector["vkey"] == vkey.encode()
        assert (vkey.name, vkey.key_id) == (signature.name, signature.key_id)
        with pytest.raises(InvalidSignature):
            key.verify(signature.signature, note.text.encode()[:-1])


@pytest.mark.parametrize("name", BAD_NOTES)
def test_other_notes_are_refused(name: str) -> None:
    """Each rule of a note, broken once, is refused, as text and as bytes."""
    with pytest.raises(FormatError):
        Note.decode(BAD_NOTES[name])
    with pytest.raises(FormatError):
        Note.decode(BAD_NOTES[name].encode())


def test_bytes_and_surrogates_that_are_no_text_are_refused() -> None:
    """A note is UTF-8."""
    good = Note("a\n", (ONE,)).encode()

    with pytest.raises(FormatError):
        Note.decode(good.encode() + b"\xff")
    with pytest.raises(FormatError):
        Note.decode(good.replace("a\n\n", "\ud800\n\n"))
    with pytest.raises(FormatError):
        Note.decode(good.replace("com/a", "com/\ud800"))


def test_size_and_number_of_signatures_are_bounded() -> None:
    """A hundred signatures are read, more are refused; so is more than a million bytes."""
    note = Note("a\n", (ONE,) * 100)

    assert note == Note.decode(note.encode())
    with pytest.raises(FormatError, match="more than 100"):
        Note.decode(note.encode() + note.encode().split("\n")[-2] + "\n")
    with pytest.raises(FormatError, match="larger"):
        Note.decode("a" * 1_000_001)
    with pytest.raises(FormatError):
        Note.decode("\u00e9" * 600_000 + "\n\n" + note.encode().split("\n\n")[1])
    with pytest.raises(ValueError, match="1 to 100"):
        Note("a\n", (ONE,) * 101)
    with pytest.raises(ValueError, match="bytes"):
        Note("a" * 1_000_000 + "\n", (ONE,))


@pytest.mark.parametrize("text", ["", "a", "a\r\n", "a\tb\n", "\ud800\n"], ids=count())
def test_text_that_cannot_stand_in_a_note(text: str) -> None:
    """The text ends in a newline and has no other control character."""
    with pytest.raises(ValueError, match="note"):
        Note(text, (ONE,))


@pytest.mark.parametrize(
    "text", ["\n", "\n\n", "a\n\n\nb\n", "\u2014 a b\n", "a\n\n\u2014 x eHh4eHg=\n"]
)
def test_any_other_text_comes_back(text: str) -> None:
    """Blank lines, and lines that look like signatures, stay in the text."""
    note = Note(text, (ONE, ONE))

    assert note == Note.decode(note.encode())


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a+b", "a\nb", "a\u2003b", "a\u00a0", "\u0085", "a\x1fb", "\ud800"],
    ids=count(),
)
def test_names_that_cannot_stand_in_a_note(name: str) -> None:
    """A key name has no space, plus or control character."""
    with pytest.raises(ValueError, match="key name"):
        NoteSignature(name, b"abcd", b"s")
    with pytest.raises(ValueError, match="key name"):
        VKey(name, ED25519, bytes(32))


def test_the_key_id_is_the_beginning_of_the_key_hash() -> None:
    """Four of thirty-two bytes: SHA-256 of name, newline, type and key."""
    vkey = VKey.decode(KEY)

    assert bytes.fromhex("530d903a") == vkey.key_id == key_id(vkey.name, 1, vkey.public)
    assert vkey.key_id == key_hash(vkey.name, 1, vkey.public)[:4]
    assert len(key_hash(vkey.name, 1, vkey.public)) == 32


@pytest.mark.parametrize("text", VKEYS)
def test_published_verifier_keys(text: str) -> None:
    """Keys published by other implementations are read and written back."""
    assert text == VKey.decode(text).encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "++",
        "example.com/foo",
        KEY.replace("530d903a", "530d903b"),
        KEY.replace("530d903a", "530D903A"),
        KEY.replace("530d903a", "0x530d903a"),
        KEY.replace("foo", "bar"),
        KEY.replace("foo", "f o"),
        KEY[:-4],
        KEY + "=",
        KEY + "\n",
        "a+00000000+",
        "a+" + key_id("a", 1, b"short").hex() + "+" + b64encode(b"\x01short"),
        "a+" + key_id("a", 2, b"").hex() + "+" + b64encode(b"\x02"),
    ],
)
def test_other_verifier_keys_are_refused(text: str) -> None:
    """A key whose id, name, length or spelling is wrong is refused."""
    with pytest.raises(FormatError):
        VKey.decode(text)


def test_constructors_refuse_what_could_not_be_read() -> None:
    """What has no encoding cannot be built."""
    with pytest.raises(ValueError, match="four bytes"):
        NoteSignature("a", b"abc", b"s")
    with pytest.raises(ValueError, match="empty"):
        NoteSignature("a", b"abcd", b"")
    with pytest.raises(ValueError, match="one byte"):
        VKey("a", 256, b"k")
    with pytest.raises(ValueError, match="1 to 100"):
        Note("a\n", ())


def test_a_published_checkpoint() -> None:
    """The checkpoint of the specification has its three lines."""
    vector = json.loads((VECTORS / "checkpoint/c2sp-example.json").read_text())
    text = Note.decode(vector["note"]).text
    checkpoint = Checkpoint.decode(text)

    assert vector["source"]
    assert text == checkpoint.encode()
    assert vector["expect"] == {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": b64encode(checkpoint.root),
        "extensions": list(checkpoint.extensions),
    }


def test_real_checkpoints_of_a_public_log() -> None:
    """A checkpoint of Rekor with the signatures of three witnesses is read."""
    bundle = json.loads(
        (VECTORS / "sigstore/a.dsse.staging-rekor-v2.txt.sigstore.json").read_bytes()
    )
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    note = Note.decode(proof["checkpoint"]["envelope"])

    assert proof["checkpoint"]["envelope"] == note.encode()
    assert len(note.signatures) == 4
    assert int(proof["treeSize"]) == Checkpoint.decode(note.text).size


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_other_checkpoints_are_refused(name: str) -> None:
    """Each rule of a checkpoint, broken once, is refused."""
    with pytest.raises(FormatError):
        Checkpoint.decode(BAD_CHECKPOINTS[name])


def test_extension_lines_come_back() -> None:
    """Extension lines are kept in their order."""
    checkpoint = Checkpoint("a", 0, bytes(32), ("x", "y z"))

    assert checkpoint.encode() == "a\n0\n" + "A" * 43 + "=\nx\ny z\n"
    assert checkpoint == Checkpoint.decode(checkpoint.encode())


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 0, bytes(32), ()),
        ("a\nb", 0, bytes(32), ()),
        ("\ud800", 0, bytes(32), ()),
        ("a", -1, bytes(32), ()),
        ("a", 2**63, bytes(32), ()),
        ("a", 0, bytes(31), ()),
        ("a", 0, bytes(32), ("",)),
        ("a", 0, bytes(32), ("x\n",)),
    ],
    ids=count(),
)
def test_a_checkpoint_that_could_not_be_read_cannot_be_built(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    """What has no encoding cannot be built."""
    with pytest.raises(ValueError, match=r"checkpoint|size"):
        Checkpoint(origin, size, root, extensions)


def test_a_new_key_signs_and_verifies() -> None:
    """A note made here verifies under the key it names."""
    key = Ed25519PrivateKey.generate()
    vkey = VKey("example.com/log", ED25519, key.public_key().public_bytes_raw())
    text = Checkpoint("example.com/log", 1, bytes(32)).encode()
    note = Note(text, (NoteSignature(vkey.name, vkey.key_id, key.sign(text.encode())),))

    again = Note.decode(note.encode())

    key.public_key().verify(again.signatures[0].signature, again.text.encode())
