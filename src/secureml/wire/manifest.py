r"""
A tree of files, named by the contents and the names of its files.

A manifest is a list of regular files.  Its digest, ``dirHash``, is what this
line of coreutils prints in the directory::

    find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum

so anybody can check it without secureml.  Names are bound to contents: to
swap two files by name changes the digest.  Modes, times, owners, links and
empty directories are not named.

A name is a relative POSIX path in UTF-8.  Names that coreutils would escape
(backslash, newline, carriage return) are refused, so a line of a manifest has
one reading.

Source: in-toto attestation framework v1, digest set, ``dirHash``.
"""

import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from secureml.errors import DigestMismatchError, UnexpectedFileError
from secureml.wire._read import malformed, reading, shown
from secureml.wire.digest import DIR_HASH, SHA256, Digest

__all__ = ["Entry", "Manifest", "ManifestDiff", "check_name"]

_BAD_CHARACTER = re.compile(r"[\\\n\r\x00\ud800-\udfff]")
_BAD_PART = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")
_SHA256_SIZE = 32
_ROWS = 20
_WHAT = "the manifest"


def check_name(name: str) -> None:
    """
    Check that *name* can stand in a manifest.

    Raises:
        ValueError: Not a relative POSIX path in its shortest form, or a
            character that a line of a manifest cannot hold.
    """
    bad = _BAD_CHARACTER.search(name)
    if bad:
        msg = (
            f"the file name {shown(name)} has the character {bad.group()!a}, which a "
            "manifest cannot hold: rename the file"
        )
        raise ValueError(msg)
    if _BAD_PART.search(name):
        msg = (
            f"the file name {shown(name)} is not a relative path in its shortest form: "
            "it may not be empty, absolute, end in '/', or have empty, '.' or '..' parts"
        )
        raise ValueError(msg)


class Entry(NamedTuple):
    """
    A file of a tree.

    Attributes:
        name: Relative POSIX path.
        sha256: SHA-256 of its bytes, 32 bytes.
    """

    name: str
    sha256: bytes

    @property
    def digest(self) -> Digest:
        """The name of the file's bytes."""
        return Digest(SHA256, self.sha256)


class ManifestDiff(NamedTuple):
    """
    What another manifest has that this one has not; names, sorted.

    Attributes:
        added: Files of the other alone.
        removed: Files of this one alone.
        changed: Files of both, with other bytes.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    The files of a tree, sorted by the UTF-8 bytes of their names.

    Attributes:
        entries: The files.  `Manifest.of` sorts them.

    Raises:
        ValueError: Not sorted, a name twice, a name that `check_name`
            refuses, or one that is both a file and a directory.
    """

    entries: tuple[Entry, ...]
    _index: dict[str, Entry] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        previous = b""
        index = self._index
        for entry in self.entries:
            name, sha256 = entry
            check_name(name)
            if len(sha256) != _SHA256_SIZE:
                msg = f"the SHA-256 of {shown(name)} must have 32 bytes, not {len(sha256)}"
                raise ValueError(msg)
            key = name.encode()
            if key <= previous:
                what = "appears twice" if key == previous else "is not in its place by UTF-8 bytes"
                msg = f"the file name {shown(name)} {what}"
                raise ValueError(msg)
            previous = key
            index[name] = entry
        for name in index:
            slash = name.find("/")
            while slash > 0:
                if name[:slash] in index:
                    msg = f"{shown(name[:slash])} is a file, and a directory of {shown(name)}"
                    raise ValueError(msg)
                slash = name.find("/", slash + 1)

    @classmethod
    def of(cls, entries: Iterable[Entry | tuple[str, bytes]], /) -> "Manifest":
        """
        Make a manifest of files in any order.

        Raises:
            ValueError: A name twice, or one that cannot stand in a manifest.
        """
        files = [Entry(*entry) for entry in entries]
        for file in files:
            check_name(file.name)
        files.sort(key=lambda file: file.name.encode())
        return cls(tuple(files))

    @classmethod
    def decode(cls, data: bytes, /) -> "Manifest":
        """
        Read the lines that `encode` writes.

        Raises:
            FormatError: Any other line, order or name.
        """
        entries = []
        position = 0
        for match in _LINE.finditer(data):
            if match.start() != position:
                break
            digest, name = match.groups()
            entries.append((name, digest))
            position = match.end()
        if position != len(data):
            number = len(entries) + 1
            raise malformed(
                _WHAT,
                f"line {number} is not 64 hex digits, two spaces and a file name",
            )
        with reading(_WHAT):
            return cls(
                tuple(
                    Entry(name.decode(), bytes.fromhex(digest.decode()))
                    for name, digest in entries
                )
            )

    def encode(self) -> bytes:
        """Return the lines that ``sha256sum`` prints for the sorted files."""
        return b"".join(
            b"%s  %s\n" % (sha256.hex().encode(), name.encode()) for name, sha256 in self.entries
        )

    @property
    def digest(self) -> Digest:
        """The name of the tree: its ``dirHash``."""
        return Digest(DIR_HASH, hashlib.sha256(self.encode()).digest())

    def get(self, name: str, /) -> Entry | None:
        """Return the file called *name*, or None."""
        return self._index.get(name)

    def __contains__(self, name: object, /) -> bool:
        return name in self._index

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def diff(self, other: "Manifest", /) -> ManifestDiff:
        """Say what *other* has added, removed and changed."""
        mine, theirs = dict(self.entries), dict(other.entries)
        return ManifestDiff(
            added=tuple(name for name in theirs if name not in mine),
            removed=tuple(name for name in mine if name not in theirs),
            changed=tuple(
                name for name, sha256 in mine.items() if theirs.get(name, sha256) != sha256
            ),
        )

    def verify(self, actual: "Manifest", /) -> None:
        """
        Check that *actual* is this very tree.

        Raises:
            DigestMismatchError: A file has other bytes.
            UnexpectedFileError: A file is there that this manifest does not
                name, or one that it names is gone.
        """
        diff = self.diff(actual)
        if diff.changed:
            name = diff.changed[0]
            found, named = dict(actual.entries)[name], self._index[name].sha256
            raise DigestMismatchError(
                f"{_named(diff.changed)} changed",
                why=f"{shown(name)} has digest {Digest(SHA256, found).short}, the manifest "
                f"names {Digest(SHA256, named).short}",
                fix="get the attested files again; if the change is intended, "
                "attest the new files",
            )
        if diff.added:
            raise UnexpectedFileError(
                f"{_named(diff.added)} is not named by the manifest",
                why="a file was added after the tree was attested",
                fix="remove it, or attest the tree with it",
            )
        if diff.removed:
            raise UnexpectedFileError(
                f"{_named(diff.removed)} is missing",
                why="the manifest names a file that is not there",
                fix="get the attested files again",
            )

    def __repr__(self) -> str:
        return f"<Manifest {self.digest.short} files={len(self.entries)}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td><code>{sha256.hex()[:16]}…</code></td></tr>"
            for name, sha256 in self.entries[:_ROWS]
        )
        more = len(self.entries) - _ROWS
        rest = f"<tr><td colspan=2>and {more} more</td></tr>" if more > 0 else ""
        return (
            f"<table><caption>Manifest of {len(self.entries)} files, "
            f"<code>{html.escape(str(self.digest))}</code></caption>"
            f"<tr><th>file</th><th>sha256</th></tr>{rows}{rest}</table>"
        )


def _named(names: tuple[str, ...]) -> str:
    listed = ", ".join(shown(name) for name in names[:5])
    more = len(names) - 5
    return f"{listed} and {more} more" if more > 0 else listed
