"""
Signed notes: a text, and lines of signatures under it.

The text means nothing until a signature by a known key is verified; here is
only the format.  A signature names its key by a name and by four bytes of a
hash, which tell keys apart but prove nothing.

Source: https://c2sp.org/signed-note
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from secureml.wire._read import malformed, reading, shown
from secureml.wire.base64 import b64decode, b64encode

__all__ = [
    "COSIGNATURE",
    "ED25519",
    "MLDSA44",
    "Note",
    "NoteSignature",
    "VKey",
    "key_hash",
    "key_id",
]

ED25519: Final = 0x01
"""The type byte of Ed25519 keys and signatures: over the text of the note."""

COSIGNATURE: Final = 0x04
"""The type byte of witnesses' Ed25519 keys: over a time and the text (tlog-cosignature)."""

MLDSA44: Final = 0x06
"""The type byte of ML-DSA-44 keys: over name, time and the parts of a checkpoint."""

_MAX_NOTE = 1_000_000
_MAX_SIGNATURES = 100
_KEY_ID_SIZE = 4
_KEY_SIZES = {ED25519: 32, COSIGNATURE: 32, MLDSA44: 1_312}
_DASH = "\u2014 "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")


def key_hash(name: str, key_type: int, key: bytes) -> bytes:
    """Hash a key with its name and type: 32 bytes, of which `key_id` is the beginning."""
    return hashlib.sha256(b"%s\n%c%s" % (name.encode(), key_type, key)).digest()


def key_id(name: str, key_type: int, key: bytes) -> bytes:
    """Return the four bytes by which a signature line names its key."""
    return key_hash(name, key_type, key)[:_KEY_ID_SIZE]


def _check_name(name: str) -> None:
    if not name or "+" in name or _CONTROL.search(name) or any(c.isspace() for c in name):
        msg = f"a key name is not empty and has no space, '+' or control character: {shown(name)}"
        raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """
    One signature line of a note.

    Attributes:
        name: Name of the key.
        key_id: Four bytes that tell keys of one name apart.
        signature: What the key made; its form depends on the key's type.

    Raises:
        ValueError: A name that cannot stand in a note, an id that is not of
            four bytes, or an empty signature.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != _KEY_ID_SIZE:
            msg = f"a key id has four bytes, not {len(self.key_id)}"
            raise ValueError(msg)
        if not self.signature:
            msg = "a note signature is empty"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Note:
    """
    A text with signatures under it; untrusted until verified.

    Attributes:
        text: What is signed, as UTF-8; ends in a newline.
        signatures: At least one.

    Raises:
        ValueError: The text does not end in a newline or has a control
            character; no signature, or more than a hundred; the whole is
            larger than 1,000,000 bytes.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n"):
            msg = "the text of a note must end in a newline"
            raise ValueError(msg)
        if _CONTROL.search(self.text):
            msg = "the text of a note must be text without control characters but newline"
            raise ValueError(msg)
        if not 1 <= len(self.signatures) <= _MAX_SIGNATURES:
            msg = f"a note has 1 to {_MAX_SIGNATURES} signatures, not {len(self.signatures)}"
            raise ValueError(msg)
        if len(self.encode().encode()) > _MAX_NOTE:
            msg = f"a note has at most {_MAX_NOTE:,} bytes"
            raise ValueError(msg)

    def encode(self) -> str:
        """Return the text, an empty line, and the signature lines."""
        lines = "".join(
            f"{_DASH}{one.name} {b64encode(one.key_id + one.signature)}\n"
            for one in self.signatures
        )
        return f"{self.text}\n{lines}"

    @classmethod
    def decode(cls, note: str | bytes, /) -> "Note":
        """
        Read a signed note.

        Args:
            note: The note; bytes must be UTF-8.

        Raises:
            FormatError: Not a signed note, or larger than 1,000,000 bytes.
        """
        what = "the signed note"
        if len(note) > _MAX_NOTE:
            raise malformed(what, f"it is larger than {_MAX_NOTE:,} bytes")
        if isinstance(note, bytes):
            try:
                note = note.decode()
            except UnicodeDecodeError as error:
                raise malformed(what, f"byte {error.start} is not valid UTF-8") from None
        split = note.rfind("\n\n")
        if split < 0 or not note.endswith("\n"):
            raise malformed(
                what, "it has no empty line before signature lines that end in a newline"
            )
        lines = note[split + 2 : -1].split("\n") if split + 2 < len(note) else []
        if len(lines) > _MAX_SIGNATURES:
            raise malformed(what, f"it has more than {_MAX_SIGNATURES} signatures")
        with reading(what):
            return cls(note[: split + 1], tuple(_signature(line, what) for line in lines))


def _signature(line: str, what: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise malformed(
            what, f"a signature line is an em dash, a name and base 64, found {shown(line)}"
        )
    data = b64decode(encoded)
    return NoteSignature(name, data[:_KEY_ID_SIZE], data[_KEY_ID_SIZE:])


@dataclass(frozen=True, slots=True)
class VKey:
    """
    A public key in the one-line form of signed notes: ``name+id+base64``.

    Attributes:
        name: Name of the key; for a log, its origin.
        key_type: Type byte: `ED25519`, `COSIGNATURE`, `MLDSA44` or another.
        public: The public key as its type encodes it.

    Raises:
        ValueError: A name that cannot stand in a note, a type outside a
            byte, an empty key, or one of a known type that has not its size.
    """

    name: str
    key_type: int
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not 0 <= self.key_type <= 0xFF:  # noqa: PLR2004  a byte
            msg = f"the type of a key is one byte, not {self.key_type}"
            raise ValueError(msg)
        size = _KEY_SIZES.get(self.key_type)
        if not self.public or size not in {None, len(self.public)}:
            msg = f"a key of type {self.key_type:#04x} has {size or 'some'} bytes"
            raise ValueError(f"{msg}, found {len(self.public)}")

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signature lines name this key."""
        return key_id(self.name, self.key_type, self.public)

    def encode(self) -> str:
        """Return ``name+id+base64``."""
        key = b64encode(bytes([self.key_type]) + self.public)
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def decode(cls, text: str, /) -> "VKey":
        """
        Read a key that `encode` wrote.

        Raises:
            FormatError: Not that form, or the id is that of another key.
        """
        what = f"the verifier key {shown(text)}"
        name, _, rest = text.partition("+")
        digits, _, encoded = rest.partition("+")
        data = b64decode(encoded)
        if not data:
            raise malformed(what, "a verifier key is written name+id+base64")
        with reading(what):
            key = cls(name, data[0], data[1:])
        if key.key_id.hex() != digits:
            raise malformed(what, f"its id is {shown(digits)}, and the key has {key.key_id.hex()}")
        return key
