"""
Things that are too large for a log's leaf, named by their SHA-256.

``blobs/sha256/ab/cdef…``: the name says what the bytes have to be, so a store
needs no index and a blob no signature of its own.  A blob is on the disk
before `put` returns, since the leaf that names it comes after.
"""

import os
from pathlib import Path

from secureml.errors import DigestMismatchError, UnexpectedFileError
from secureml.evidence._files import TEMPORARY, Files, read_file, store_error, write_batch
from secureml.wire.digest import SHA256, Digest

__all__ = ["MAX_BLOB", "BlobStore"]

MAX_BLOB = 1 << 30
"""Bytes in the largest blob; what is larger belongs in a dataset or a model."""

_HEX = frozenset("0123456789abcdef")
_SPLIT = 2
_REST = 62


class BlobStore:
    """
    A directory of blobs.

    Several processes may write to it: equal names are equal bytes.

    Args:
        directory: Where the blobs are; made by the first `put`.
        files: The operating system, for tests.
    """

    def __init__(self, directory: str | os.PathLike[str], *, files: Files | None = None) -> None:
        self._directory = Path(directory)
        self._files = files or Files()

    def put(self, data: bytes) -> Digest:
        """
        Store *data* and return its name; a second time changes nothing.

        Raises:
            ValueError: More than `MAX_BLOB` bytes.
            DigestMismatchError: Other bytes lie under the name.
            StoreError: The system refuses.
        """
        if len(data) > MAX_BLOB:
            msg = f"a blob has at most {MAX_BLOB:,} bytes, this one {len(data):,}"
            raise ValueError(msg)
        digest = Digest.sha256(data)
        path = self._path(digest)
        try:
            if read_file(path, limit=MAX_BLOB) == data:
                # Who wrote it may not have lived to sync its name.
                self._files.sync_directory(path.parent)
                return digest
            raise _changed(digest)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(f"could not sync {str(path.parent)!r}", error) from error
        try:
            write_batch(self._files, [(path, data)])
        except OSError as error:
            raise store_error(f"could not store the blob {digest.short}", error) from error
        return digest

    def get(self, digest: Digest) -> bytes:
        """
        Return the bytes of a blob, after checking them.

        Raises:
            UnexpectedFileError: It is not there, or not a regular file.
            DigestMismatchError: Other bytes lie under its name.
            StoreError: The system could not read it.
            ValueError: Not a SHA-256.
        """
        path = self._path(digest)
        try:
            data = read_file(path, limit=MAX_BLOB)
        except FileNotFoundError as error:
            raise UnexpectedFileError(
                f"the blob {digest.short} is gone",
                why=f"there is no file {str(path)!r}",
                fix="get a complete copy of the directory: something in the log rests on it",
            ) from error
        if Digest.sha256(data) != digest:
            raise _changed(digest)
        return data

    def has(self, digest: Digest) -> bool:
        """
        Return whether there is a file for the blob; `get` tells if it is good.

        Raises:
            ValueError: Not a SHA-256.
        """
        return self._path(digest).is_file()

    def names(self) -> list[Digest]:
        """
        List the blobs by their file names, in order; contents are not read.

        Raises:
            UnexpectedFileError: Something else lies in the directory.
        """
        found = []
        base = self._directory / SHA256
        for here, directories, names in os.walk(base):
            inside = Path(here).relative_to(base).parts
            directories.sort()
            for name in sorted(names):
                path = Path(here) / name
                if name.startswith(TEMPORARY):
                    continue
                text = "".join((*inside, name))
                if (
                    len(inside) != 1
                    or len(inside[0]) != _SPLIT
                    or len(name) != _REST
                    or not _HEX.issuperset(text)
                    or path.is_symlink()
                ):
                    raise _stranger(path)
                found.append(Digest(SHA256, bytes.fromhex(text)))
        return sorted(found)

    def _path(self, digest: Digest) -> Path:
        if digest.algorithm != SHA256:
            msg = f"a blob is named by its sha256, not by {digest.algorithm}"
            raise ValueError(msg)
        return self._directory / SHA256 / digest.hex[:_SPLIT] / digest.hex[_SPLIT:]


def _changed(digest: Digest) -> DigestMismatchError:
    return DigestMismatchError(
        f"the blob {digest.short} has other bytes than its name says",
        why="the file was changed, truncated or replaced after it was stored",
        fix="get it from an untouched copy; keep this one to find out what changed it",
    )


def _stranger(path: Path) -> UnexpectedFileError:
    return UnexpectedFileError(
        f"{str(path)!r} is not a blob",
        why="a blob's file is named sha256/ab/ and 62 further hexadecimal digits",
        fix="remove it after you know who put it there",
    )
