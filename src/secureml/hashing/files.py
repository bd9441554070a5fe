"""
The digest of one file, streamed, of a regular file and nothing else.

A path is opened once and what was opened is hashed: a symbolic link, a FIFO, a
socket or a device is refused, before a read could block or lead elsewhere.  A
file that changes while it is read has no digest; that is an error, because a
digest of half the old and half the new bytes names nothing.
"""

import hashlib
import os
import stat
from collections.abc import Callable

from secureml._progress import Progress
from secureml._progress import progress as show_progress
from secureml.errors import DigestMismatchError, FormatError, StoreError
from secureml.wire.digest import SHA256, Digest

__all__ = ["hash_bytes", "hash_file", "open_regular"]

CHUNK = 1 << 20
"""Bytes per read: 1 MiB."""

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not wait for a writer
    | getattr(os, "O_NOCTTY", 0)
)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def hash_bytes(data: bytes | bytearray | memoryview, /) -> Digest:
    """Return the SHA-256 of *data*."""
    return Digest(SHA256, hashlib.sha256(data).digest())


def hash_file(path: str | os.PathLike[str], *, progress: Progress | None = None) -> Digest:
    """
    Return the SHA-256 of a regular file.

    Args:
        path: The file; a symbolic link is refused.
        progress: Told the bytes of each read; a bar on a terminal when None.

    Raises:
        FormatError: It is a symbolic link, a directory or a special file.
        DigestMismatchError: It was changed or replaced while it was read.
        StoreError: It is missing, or cannot be read.
    """
    name = os.fspath(path)
    fd = open_regular(name)
    try:
        if progress is not None:
            return Digest(SHA256, hash_descriptor(fd, name, progress))
        size = os.fstat(fd).st_size
        with show_progress(f"hashing {name}", total=size) as bar:
            return Digest(SHA256, hash_descriptor(fd, name, bar))
    finally:
        os.close(fd)


def open_regular(path: str | os.PathLike[str], *, follow_symlinks: bool = False) -> int:
    """
    Open a regular file for reading and return its descriptor, which the caller closes.

    Args:
        path: The file.
        follow_symlinks: Accept a symbolic link as the last part of the path.

    Raises:
        FormatError: It is a directory or a special file, or a symbolic link
            that is not to be followed.
        StoreError: It is missing, or cannot be opened.
    """
    name = os.fspath(path)
    if not follow_symlinks and not _NOFOLLOW and os.path.islink(name):  # noqa: PTH114  a str
        raise not_regular(name, "a symbolic link")
    try:
        fd = os.open(name, _FLAGS if follow_symlinks else _FLAGS | _NOFOLLOW)
    except OSError as error:
        raise _not_opened(name, error) from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    raise not_regular(name, kind_of(mode))


def hash_descriptor(fd: int, name: str, advance: Callable[[int], object]) -> bytes:
    """
    Return the SHA-256 of the regular file open at *fd*, and check that it stood still.

    Raises:
        DigestMismatchError: Size, times or number of links changed meanwhile.
        StoreError: A read failed.
    """
    try:
        before = os.fstat(fd)
        if before.st_size < CHUNK:
            digest, count = _small(fd, before.st_size)
        else:
            digest, count = _large(fd, before.st_size, advance)
        after = os.fstat(fd)
    except OSError as error:
        raise unreadable(name, error) from error
    if count != before.st_size or _stamp(before) != _stamp(after):
        raise DigestMismatchError(
            f"{name!r} changed while it was hashed",
            why=f"it had {before.st_size} bytes at first, {count} were read, and it has "
            f"{after.st_size} now; or its times or links changed",
            fix="let the writer finish, then hash it again",
        )
    if count < CHUNK:
        advance(count)
    return digest


def _small(fd: int, expected: int) -> tuple[bytes, int]:
    """Hash a file in one read, which asks for one byte more to see that it ends there."""
    data = os.read(fd, expected + 1)
    while len(data) < expected and (more := os.read(fd, expected + 1 - len(data))):
        data += more
    return hashlib.sha256(data).digest(), len(data)


def _large(fd: int, expected: int, advance: Callable[[int], object]) -> tuple[bytes, int]:
    """Hash to the end, or to where a file that somebody appends to has shown itself."""
    state = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    count = 0
    with open(fd, "rb", buffering=0, closefd=False) as file:
        while count <= expected and (size := file.readinto(buffer)):
            state.update(buffer[:size])
            advance(size)
            count += size
    return state.digest(), count


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)


def kind_of(mode: int) -> str:
    """Say in words what a file that is not regular is."""
    return next((words for test, words in _KINDS if test(mode)), "a special file")


def not_regular(name: str, kind: str) -> FormatError:
    """Return the refusal of something that is not a regular file."""
    link = kind == "a symbolic link"
    return FormatError(
        f"{name!r} is {kind}, not a regular file",
        why="what it leads to can change without the digest changing"
        if link
        else "only the bytes of regular files have a digest",
        fix="pass the file that it points to; for a tree, replace the link by the file or "
        "use symlinks='follow-inside'"
        if link
        else "remove it, or leave it out",
    )


def unreadable(name: str, error: OSError) -> StoreError:
    """Return the error for a file or directory that cannot be read."""
    missing = isinstance(error, FileNotFoundError)
    return StoreError(
        f"{name!r} cannot be read",
        why=error.strerror or str(error),
        fix="check the path" if missing else "check the path, its permissions and the disk",
    )


def _not_opened(name: str, error: OSError) -> FormatError | StoreError:
    """Tell a link or a special file, which no try will open, from all else."""
    try:
        mode = os.lstat(name).st_mode
    except OSError:
        return unreadable(name, error)
    if stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and isinstance(error, PermissionError)):
        return unreadable(name, error)
    return not_regular(name, kind_of(mode))
