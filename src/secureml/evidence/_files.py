"""
What a log asks of the operating system, and nothing more.

Every change of a file goes through a `Files`, so a test can stop the machine
between any two of them, tear a write or fill the disk, and look at what is
left.  Reading goes through `read_file`: regular files only, never through a
link, never more than the format allows.

Edge: a file system that reorders what `sync` orders is outside the model.
"""

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from secureml.errors import FormatError, StoreError, UnexpectedFileError

try:
    import fcntl
except ImportError:  # pragma: no cover  Windows reads and verifies, it does not write logs
    _FULL_SYNC = None
else:
    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)

__all__ = [
    "TEMPORARY",
    "Files",
    "make_directories",
    "not_regular",
    "read_file",
    "store_error",
    "write_all",
    "write_all_at",
    "write_batch",
]

_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 20
_MANY = 4
_AT_ONCE = 8
TEMPORARY = ".writing-"
"""How the names of files begin that are not yet what they will be."""


class Files:
    """The operating system, one call each; a test passes one that fails."""

    def create(self, path: Path, mode: int) -> int:
        """Make the empty file *path*, or empty a leftover; returns its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, mode)

    def open_append(self, path: Path, mode: int) -> int:
        """Open *path* for appending and make it when it is missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write some of *data*, at least one byte; returns how many."""
        return os.write(fd, data)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write some of *data* at *offset*, at least one byte; returns how many."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to *size* bytes."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return when the file and its size are on the disk."""
        if _FULL_SYNC is not None:  # pragma: no cover  macOS: fsync alone leaves it in the drive
            fcntl.fcntl(fd, _FULL_SYNC)
        elif hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:  # pragma: no cover  neither Linux nor macOS
            os.fsync(fd)

    def sync_all(self, fds: Sequence[int]) -> None:
        """
        Sync many files, several at a time: a journal then commits them together.

        Where no thread can be started, as at the end of the process, one by one.
        """
        if len(fds) < _MANY:
            for fd in fds:
                self.sync(fd)
            return
        done: set[int] = set()

        def sync(fd: int) -> None:
            self.sync(fd)
            done.add(fd)

        try:
            with ThreadPoolExecutor(min(_AT_ONCE, len(fds))) as pool:
                for _ in pool.map(sync, fds):
                    pass
        except RuntimeError:
            for fd in fds:
                if fd not in done:
                    self.sync(fd)

    def close(self, fd: int) -> None:
        """Close the descriptor."""
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Give *source* the name *target*, replacing what had it."""
        source.replace(target)

    def make_directory(self, path: Path, mode: int) -> None:
        """Make one directory."""
        path.mkdir(mode=mode)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in the directory are on the disk."""
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _FLAGS)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """Remove one file."""
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """Remove one empty directory."""
        path.rmdir()


def write_all(files: Files, fd: int, data: bytes) -> None:
    """
    Write the whole of *data*.

    The system may take less than it is offered, at the end of a disk for
    example; the rest is offered again until it is all taken or an error says
    why not.
    """
    done = files.write(fd, data)
    while done < len(data):
        more = files.write(fd, memoryview(data)[done:])
        if more == 0:
            raise OSError(errno.EIO, "the system took no byte and gave no reason")
        done += more


def write_all_at(files: Files, fd: int, data: bytes, offset: int) -> None:
    """Write the whole of *data* at *offset*; see `write_all`."""
    done = files.write_at(fd, data, offset)
    while done < len(data):
        more = files.write_at(fd, memoryview(data)[done:], offset + done)
        if more == 0:
            raise OSError(errno.EIO, "the system took no byte and gave no reason")
        done += more


def make_directories(files: Files, path: Path, *, mode: int, changed: set[Path]) -> None:
    """Make *path* and its parents; adds to *changed* what must be synced."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        try:
            files.make_directory(directory, mode)
        except FileExistsError:
            # Another process makes the same ones, and may not have synced them yet.
            if not directory.is_dir():
                raise
        changed.add(directory.parent)


def write_batch(
    files: Files,
    batch: Iterable[tuple[Path, bytes]],
    *,
    private: bool = False,
    names: bool = True,
) -> None:
    """
    Write many files, each complete or absent whatever happens.

    All are written beside their names, then all synced, then all renamed,
    then each directory synced once: the disk can merge the work, and when
    this returns everything is on it.

    Args:
        files: The operating system.
        batch: Paths and what goes there.
        private: For the owner only.
        names: Whether to wait until the new names are on the disk, too.

    Raises:
        OSError: None of the files may be relied upon.
    """
    mode, directory_mode = (0o600, 0o700) if private else (0o644, 0o755)
    changed: set[Path] = set()
    opened: list[tuple[int, Path, Path]] = []
    try:
        for path, data in batch:
            make_directories(files, path.parent, mode=directory_mode, changed=changed)
            beside = path.with_name(TEMPORARY + path.name)
            opened.append((files.create(beside, mode), beside, path))
            write_all(files, opened[-1][0], data)
            changed.add(path.parent)
        files.sync_all([fd for fd, _, _ in opened])
    finally:
        for fd, _, _ in opened:
            files.close(fd)
    for _, beside, path in opened:
        files.rename(beside, path)
    if names:
        for directory in sorted(changed):
            files.sync_directory(directory)


def read_file(path: Path, *, limit: int) -> bytes:
    """
    Read a regular file of at most *limit* bytes, not through a link.

    Raises:
        FileNotFoundError: There is no such file; the caller knows what that means.
        UnexpectedFileError: It is a link, a directory, a pipe or a device.
        FormatError: It is longer than *limit*.
        StoreError: The system could not read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR} or path.is_dir():
            raise not_regular(path) from error
        raise store_error(f"could not read {str(path)!r}", error) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise not_regular(path)
        chunks = []
        left = limit + 1
        while left > 0 and (chunk := os.read(fd, min(left, _CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise store_error(f"could not read {str(path)!r}", error) from error
    finally:
        os.close(fd)
    if left <= 0:
        raise FormatError(
            f"{str(path)!r} is longer than its format allows",
            why=f"at most {limit} bytes can be in it",
            fix="get an untouched copy of the directory; keep this one to find out who wrote it",
        )
    return b"".join(chunks)


def not_regular(path: Path) -> UnexpectedFileError:
    """Return the error for a link, pipe, device or directory where a file belongs."""
    return UnexpectedFileError(
        f"{str(path)!r} is not a regular file",
        why="a log consists of regular files and directories; links, pipes and devices "
        "can change what is read without changing the log",
        fix="replace it by the file itself, or get an untouched copy of the directory",
    )


def store_error(what: str, error: OSError, *, fix: str = "") -> StoreError:
    """Return the `StoreError` for a failed system call."""
    return StoreError(
        what,
        why=f"the system says: {error.strerror or error} (errno {error.errno})",
        fix=fix or "check the path, its permissions and the disk, then try again",
        retryable=error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE},
    )
