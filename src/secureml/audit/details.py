"""
Details: the values and salts that the leaves of an audit log commit to.

``details/<segment>.jsonl`` holds one canonical JSON line for each record that
captured something.  A line is appended before its leaf, so a leaf never names
a value that was not written.  Lines may be erased for good; what is left of
the value then is a commitment that nobody can open.  A value may be encrypted
under a key of the person it is about: then its line has version 2, and who
destroys the key erases the value.

This module reads; `secureml.audit._merge` writes.

Source: docs/spec/audit-record.md, section "Details"; docs/spec/sealed-values.md.
"""

import errno
import os
import re
import stat
from binascii import b2a_base64, hexlify
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from secureml.audit.fields import ID
from secureml.audit.value import SALT_SIZE, commit
from secureml.errors import FormatError, StoreError
from secureml.sealing import Encrypted
from secureml.wire import canonical
from secureml.wire.base64 import b64decode
from secureml.wire.canonical import JSON

__all__ = [
    "FLAGS",
    "Detail",
    "Encrypted",
    "Sealed",
    "encrypted_member",
    "line_id",
    "read_details",
    "read_segment",
    "segments",
    "sequence_of",
    "spell_line",
    "strangers",
    "value_member",
]

FLAGS: Final = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
"""How a details file is opened: never through a symbolic link."""

_MAX_LINE: Final = 1 << 30
"""Bytes of a line that are read: far beyond any record, and no whole disk of zeros."""

_FILE: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})\.jsonl", re.ASCII)
_NUMBERED: Final = re.compile(r"(?:([a-z0-9-]*)-)?(\d{1,18})", re.ASCII)
_KEY: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_V1: Final = b'{"id":"'
_V2: Final = b'},"id":"'
_SALT: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be")


@lru_cache(maxsize=1024)
def _quoted(path: str) -> bytes:
    return canonical.encode(path)


def value_member(quoted: bytes, salt: bytes, encoded: bytes) -> bytes:
    """Return the member of a line for a value; *quoted* is its path, as JSON."""
    return b'%s:{"salt":"%s","value":"%s"}' % (
        quoted,
        hexlify(salt),
        b2a_base64(encoded, newline=False),
    )


def encrypted_member(quoted: bytes, value: Encrypted) -> bytes:
    """Return the member of a line for an encrypted value."""
    return b'%s:{"ciphertext":"%s","key":"%s"}' % (
        quoted,
        b2a_base64(value.ciphertext, newline=False),
        value.key.encode(),
    )


def spell_line(record: str, values: Sequence[bytes], encrypted: Sequence[bytes]) -> bytes:
    """Return the line of a record, newline included; its members are in the order of paths."""
    if not encrypted:
        return b'{"id":"%s","v":1,"values":{%s}}\n' % (record.encode(), b",".join(values))
    return b'{"encrypted":{%s},"id":"%s","v":2,"values":{%s}}\n' % (
        b",".join(encrypted),
        record.encode(),
        b",".join(values),
    )


@dataclass(frozen=True, slots=True)
class Sealed:
    """
    A captured value and the salt of its commitment.

    Attributes:
        salt: 32 random bytes.
        encoded: The value as audit-value bytes.
    """

    salt: bytes
    encoded: bytes

    @classmethod
    def of(cls, encoded: bytes) -> "Sealed":
        """Draw a fresh salt for *encoded*."""
        return cls(os.urandom(SALT_SIZE), encoded)

    @property
    def commitment(self) -> str:
        """The commitment that the leaf holds, in hex."""
        return commit(self.salt, self.encoded).hex()

    @property
    def plaintext(self) -> bytes:
        """Salt and value, as they are encrypted."""
        return self.salt + self.encoded

    @classmethod
    def of_plaintext(cls, plaintext: bytes) -> "Sealed":
        """
        Take apart what was decrypted.

        Raises:
            FormatError: It is too short for a salt.
        """
        if len(plaintext) < SALT_SIZE:
            raise _malformed(why=f"an encrypted value begins with a salt of {SALT_SIZE} bytes")
        return cls(plaintext[:SALT_SIZE], plaintext[SALT_SIZE:])


@dataclass(frozen=True, slots=True)
class Detail:
    """
    One line: the values of one record.

    Attributes:
        id: The record.
        values: Captured path → value and salt.
        encrypted: Captured path → what only the holder of a key can open.
    """

    id: str
    values: Mapping[str, Sealed]
    encrypted: Mapping[str, Encrypted] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the line, newline included; of version 1 when nothing is encrypted."""
        values = [
            value_member(_quoted(path), self.values[path].salt, self.values[path].encoded)
            for path in sorted(self.values, key=_utf16)
        ]
        encrypted = [
            encrypted_member(_quoted(path), self.encrypted[path])
            for path in sorted(self.encrypted, key=_utf16)
        ]
        return spell_line(self.id, values, encrypted)

    @classmethod
    def decode(cls, line: bytes) -> "Detail":
        """
        Read a line, newline included.

        Raises:
            FormatError: It is not a details line in the one spelling.
        """
        if not line.endswith(b"\n"):
            raise _malformed(why="the line has no end")
        found = canonical.decode(line[:-1])
        match found:
            case {"id": str(name), "v": 1 as version, "values": dict(values), **rest} if (
                ID.fullmatch(name) and version is not True and not rest
            ):
                return cls(name, {path: _sealed(value) for path, value in values.items()})
            case {
                "encrypted": dict(encrypted),
                "id": str(name),
                "v": 2,
                "values": dict(values),
                **rest,
            } if ID.fullmatch(name) and encrypted and not rest:
                if encrypted.keys() & values.keys():
                    raise _malformed(why="a value stands there both encrypted and not")
                return cls(
                    name,
                    {path: _sealed(value) for path, value in values.items()},
                    {path: _encrypted(value) for path, value in encrypted.items()},
                )
        raise _malformed(
            why="a line is an object of id, v and values; with encrypted, of version 2"
        )


def line_id(line: bytes) -> str:
    """
    Return the id of the record that a line belongs to, without reading its values.

    Returns text that is no id for a line that is malformed.
    """
    if line.startswith(_V1):
        return line[7:43].decode("ascii", "replace")
    # Inside of JSON text a quotation mark is escaped, so this stands in one place only.
    start = line.find(_V2) + len(_V2)
    return line[start : start + 36].decode("ascii", "replace") if start >= len(_V2) else ""


def _encrypted(value: JSON) -> Encrypted:
    match value:
        case {"ciphertext": str(ciphertext), "key": str(key), **rest} if not rest:
            if _KEY.fullmatch(key):
                return Encrypted(key, b64decode(ciphertext))
    raise _malformed(
        why="an encrypted value is an object of a ciphertext in base64 and a key, 32 hex digits"
    )


def _sealed(value: JSON) -> Sealed:
    match value:
        case {"salt": str(salt), "value": str(encoded), **rest} if not rest:
            if _SALT.fullmatch(salt):
                return Sealed(bytes.fromhex(salt), b64decode(encoded))
    raise _malformed(
        why="a value is an object of a salt, 64 hex digits, and the encoded value in base64"
    )


def _malformed(*, why: str) -> FormatError:
    return FormatError(
        "this is not a line of an audit log's details",
        why=f"{why} (docs/spec/audit-record.md)",
        fix="the file was edited, cut, or written by something else: compare it with a copy",
    )


def segments(directory: Path) -> list[str]:
    """
    Return the names of the segments in *directory*: sequence by sequence, oldest first.

    Raises:
        StoreError: The directory cannot be read.
    """
    found = (found[1] for found in map(_FILE.fullmatch, _names(directory)) if found)
    return sorted(found, key=sequence_of)


def sequence_of(segment: str) -> tuple[str, int, str]:
    """
    Return what the segments of one writer have in common, a segment's number, and its name.

    Segments that have the first in common follow each other by the second.
    """
    found = _NUMBERED.fullmatch(segment)
    return (segment, 0, segment) if found is None else (found[1] or "", int(found[2]), segment)


def strangers(directory: Path) -> list[str]:
    """
    Return the names in *directory* that are no segment's.

    Raises:
        StoreError: The directory cannot be read.
    """
    return sorted(name for name in _names(directory) if not _FILE.fullmatch(name))


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  names are wanted
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(directory, error) from error


def read_segment(directory: Path, segment: str) -> Iterator[bytes]:
    """
    Yield the lines of a segment; a missing file has none.

    Raises:
        StoreError: The file cannot be read, or is no regular file.
    """
    path = directory / f"{segment}.jsonl"
    try:
        # Opening a FIFO must not wait for a writer.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | FLAGS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        with open(fd, "rb") as file:  # noqa: PTH123  of a file descriptor
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _unreadable(path, OSError(errno.EINVAL, "it is no regular file"))
            while line := file.readline(_MAX_LINE):
                yield line
                if len(line) == _MAX_LINE:
                    return  # What has no end is malformed, whatever follows.
    except OSError as error:
        raise _unreadable(path, error) from error


def read_details(directory: Path, segment: str, record: str) -> Detail | None:
    """
    Return the details of one record, or None when they are not there.

    Raises:
        FormatError: Its line is malformed.
        StoreError: The file cannot be read.
    """
    for line in read_segment(directory, segment):
        if line_id(line) == record:
            return Detail.decode(line)
    return None


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot read {path.name!r} of the audit log's details",
        why=str(error.strerror),
        fix="check the file and its mode",
    )
