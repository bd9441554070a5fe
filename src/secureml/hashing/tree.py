r"""
The manifest of a directory: every regular file by its path and SHA-256, in one walk.

The manifest's digest is in-toto's ``dirHash``; on Linux it is what this prints::

    find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum

It names paths and contents.  It does not name modes, owners, times, empty
directories, or what a symbolic link is; a link or a special file is therefore
refused, never skipped, unless the caller excludes it by name.

Small files are hashed where the walk finds them: for them the system calls
are the cost, and a thread would only add to it.  Large ones go to threads,
because hashlib lets go of the interpreter lock.  The result depends on
neither.
"""

import os
import re
import stat
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple, Self

from secureml._progress import Progress, progress
from secureml.errors import FormatError
from secureml.hashing.files import (
    CHUNK,
    hash_descriptor,
    kind_of,
    not_regular,
    open_regular,
    unreadable,
)
from secureml.wire.manifest import Entry, Manifest, check_name

__all__ = ["manifest"]

Symlinks = Literal["refuse", "follow-inside"]

_REFUSE: Symlinks = "refuse"
_FOLLOW: Symlinks = "follow-inside"
_SUSPECT = re.compile("[\\\\\x00-\x1f\x7f\ud800-\udfff]")
_MOST_WORKERS = 8


def manifest(
    path: str | os.PathLike[str],
    *,
    symlinks: Symlinks = _REFUSE,
    exclude: Collection[str] = (),
    workers: int | None = None,
) -> Manifest:
    """
    Return the manifest of a directory, or of a single file under its own name.

    Args:
        path: Directory or regular file.
        symlinks: ``"refuse"``, or ``"follow-inside"``: a link is read as the
            file or directory it leads to, if that lies inside the directory.
        exclude: Paths to leave out: exact, relative to *path*, with ``/``;
            a directory is left out with all that is in it.
        workers: Threads for files of 1 MiB and more; None means one per CPU, at most 8.

    Raises:
        FormatError: A link, FIFO, socket or device is in the tree, or a name
            holds a newline, carriage return, NUL or backslash, or is not UTF-8.
        DigestMismatchError: A file changed while it was hashed.
        StoreError: Something is missing or cannot be read.
        ValueError: An argument is not as described.
    """
    if symlinks not in (_REFUSE, _FOLLOW):
        raise ValueError(f"symlinks is 'refuse' or 'follow-inside', not {symlinks!r}")
    if isinstance(exclude, str):
        msg = "exclude is a collection of paths, not one string"
        raise TypeError(msg)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is at least 1, not {workers}")
    root = os.fspath(path)
    with ExitStack() as stack:
        bar = stack.enter_context(progress(f"hashing {root}", total=None))
        hashing = stack.enter_context(_Hashing(workers or _cpus(), bar))
        for name, place in _Walk(root, symlinks, frozenset(exclude)):
            hashing.add(name, place)
        return Manifest.of(hashing.entries())


def _cpus() -> int:
    return min(os.cpu_count() or 1, _MOST_WORKERS)


class _Walk:
    """
    Yields the name and the path of every regular file, in no particular order.

    A stack, not recursion: a path may have more parts than Python has frames.
    """

    def __init__(self, root: str, symlinks: Symlinks, exclude: frozenset[str]) -> None:
        self.root = root
        self.follow = symlinks == _FOLLOW
        self.exclude = exclude
        self.inside = ""
        self.pending: list[_Directory] = []

    def __iter__(self) -> Iterator[tuple[str, str]]:
        try:
            if self.follow:
                self.inside = os.path.realpath(self.root, strict=True)
        except OSError as error:
            raise unreadable(self.root, error) from error
        status = _status(self.inside or self.root)
        if stat.S_ISREG(status.st_mode):
            name = Path(os.path.abspath(self.root)).name  # noqa: PTH100  links keep their name
            yield _checked(name, self.root), self.inside or self.root
        elif stat.S_ISDIR(status.st_mode):
            self.pending = [_Directory(self.inside or self.root, "", (_identity(status),))]
            while self.pending:
                yield from self._files(self.pending.pop())
        else:
            raise not_regular(self.root, kind_of(status.st_mode))

    def _files(self, directory: "_Directory") -> Iterator[tuple[str, str]]:
        try:
            with os.scandir(directory.place) as entries:
                found = list(entries)
        except OSError as error:
            raise unreadable(directory.place, error) from error
        for entry in found:
            name = directory.prefix + entry.name
            if name in self.exclude:
                continue
            _checked(entry.name, entry.path)
            place = entry.path
            if entry.is_file(follow_symlinks=False):
                yield name, place
                continue
            mode = _mode(place)
            if stat.S_ISLNK(mode) and self.follow:
                place, mode = self._target(place)
            if stat.S_ISDIR(mode):
                self._enter(place, name, directory.above)
            elif stat.S_ISREG(mode):
                yield name, place
            else:
                raise not_regular(place, kind_of(mode))

    def _enter(self, place: str, name: str, above: tuple[tuple[int, int], ...]) -> None:
        """Put a directory on the stack, unless a link made it lie in itself."""
        if self.follow:
            here = _identity(_status(place))
            if here in above:
                raise FormatError(
                    f"{name!r} leads back to a directory that it lies in",
                    why="following the link would never end",
                    fix="remove the link, or exclude it",
                )
            above = (*above, here)
        self.pending.append(_Directory(place, name + "/", above))

    def _target(self, place: str) -> tuple[str, int]:
        """Return where a link leads in the end, and the mode of that."""
        try:
            target = os.path.realpath(place, strict=True)
        except OSError as error:
            raise FormatError(
                f"the symbolic link {place!r} leads nowhere",
                why=error.strerror or str(error),
                fix="repair or remove the link, or exclude it",
            ) from error
        if target != self.inside and not target.startswith(self.inside.rstrip(os.sep) + os.sep):
            raise FormatError(
                f"the symbolic link {place!r} leads out of the tree",
                why=f"it leads to {target!r}, which is not inside {self.inside!r}",
                fix="copy the file into the tree, or exclude the link",
            )
        return target, _mode(target)


class _Directory(NamedTuple):
    """A directory to visit: its path, the prefix of its names, what it lies in."""

    place: str
    prefix: str
    above: tuple[tuple[int, int], ...]


class _Hashing:
    """Hashes small files at once and large ones in threads."""

    def __init__(self, workers: int, bar: Progress) -> None:
        self._workers = workers
        self._bar = bar
        self._lock = threading.Lock()
        self._done: list[Entry] = []
        self._running: list[tuple[str, Future[bytes]]] = []
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, name: str, place: str) -> None:
        fd = open_regular(place)
        try:
            if os.fstat(fd).st_size < CHUNK or self._workers == 1:
                self._done.append(Entry(name, hash_descriptor(fd, place, self._advance)))
                return
        finally:
            os.close(fd)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="secureml-hash")
        self._running.append((name, self._pool.submit(self._hash, place)))

    def entries(self) -> list[Entry]:
        done = [Entry(name, future.result()) for name, future in self._running]
        return self._done + done

    def _hash(self, place: str) -> bytes:
        fd = open_regular(place)
        try:
            return hash_descriptor(fd, place, self._advance)
        finally:
            os.close(fd)

    def _advance(self, amount: int) -> None:
        with self._lock:
            self._bar(amount)


def _status(place: str) -> os.stat_result:
    try:
        return os.lstat(place)
    except OSError as error:
        raise unreadable(place, error) from error


def _mode(place: str) -> int:
    """Return the mode of what is at *place*; a junction of Windows is a link."""
    status = _status(place)
    tag = getattr(status, "st_reparse_tag", 0)
    junction = tag and tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", 0)
    return stat.S_IFLNK if junction else status.st_mode


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _checked(name: str, place: str) -> str:
    """Refuse a name that the lines of a manifest cannot hold; most need no closer look."""
    if _SUSPECT.search(name):
        try:
            check_name(name)
        except ValueError as error:
            raise FormatError(
                f"{place!r} cannot be named in a manifest",
                why=str(error),
                fix="rename it: no newline, carriage return, NUL or backslash, and UTF-8",
            ) from error
    return name
