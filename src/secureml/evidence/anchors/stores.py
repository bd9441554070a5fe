"""
Places where a thing is put once: what a copy of a log is written to.

A `WormStore` takes an object under a name and never takes another one for it.
`Folder` is a directory, for a share that somebody else keeps append-only;
`secureml.evidence.anchors.s3.ObjectLock` is an S3 bucket whose objects cannot
be deleted before their time, by anybody.

Edge: a `Folder` is as safe as whoever administers it.  The library creates and
never replaces, which is no protection from anything else that can write there.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from secureml.errors import ConsistencyError
from secureml.evidence._files import Files, read_file, store_error, write_all
from secureml.evidence.anchors.keeping import ensure_directory
from secureml.wire._read import shown

__all__ = ["MAX_OBJECT", "Folder", "Kept", "Version", "WormStore", "already_there"]

MAX_OBJECT = 1 << 25
"""Bytes of the largest object: a full bundle of the longest entries."""

_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Kept:
    """
    Where an object is.

    Attributes:
        version: What names these bytes at the place; empty where there are no versions.
        until: Before when it cannot be deleted; None where nothing says so.
    """

    version: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """
    One version of an object, as the store lists it.

    Attributes:
        name: The object.
        version: Its version, empty where there are none; the oldest is listed first.
        hidden: Whether something was put over it that makes it look deleted.
    """

    name: str
    version: str
    hidden: bool


@runtime_checkable
class WormStore(Protocol):
    """
    **Protocol.** Write once, read many.

    Names are relative, with slashes.  All methods raise `StoreError` when the
    place does not answer or refuses.
    """

    @property
    def place(self) -> str:
        """What a person calls it: a URL or a path."""
        ...

    @property
    def locks(self) -> bool:
        """Whether the place itself keeps objects from being deleted before a time."""
        ...

    def put_new(self, name: str, data: bytes) -> Kept:
        """
        Create an object; with the same bytes there already, do nothing.

        Raises `ConsistencyError` when other bytes have the name.
        """
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names below *prefix* that are to be seen."""
        ...

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield every version of every object below *prefix*, of a name the oldest first."""
        ...

    def until(self, version: Version) -> datetime | None:
        """Return before when a version cannot be deleted; None when nothing says so."""
        ...

    def read(self, version: Version, *, limit: int) -> bytes:
        """Return the bytes of one version, at most *limit*; `FormatError` beyond."""
        ...


def already_there(place: str, name: str, found: bytes, data: bytes) -> ConsistencyError:
    """Return the error for other bytes under a name that never changes."""
    at = next(
        (i for i, (a, b) in enumerate(zip(found, data, strict=False)) if a != b),
        min(len(found), len(data)),
    )
    return ConsistencyError(
        f"{name!r} has other bytes in the copy at {shown(place)}",
        why=f"{len(found)} bytes are there and {len(data)} here, from byte {at} on they differ: "
        "what has this name in a log never changes",
        fix="stop and compare log and copy: one of them was edited, or the place holds the copy "
        "of another log",
    )


@dataclass(frozen=True, slots=True)
class Folder:
    """
    A directory as a place for a copy: a mounted share, a second disk.

    Objects are created and never replaced, renamed or removed, so it works
    where only that is allowed (``chattr +a`` on a directory, an append-only
    export).  What a crash left half written is completed, if it is the
    beginning of what belongs there.

    Attributes:
        path: The directory; made when it is missing.
        files: The operating system, for tests.
    """

    path: Path
    files: Files

    def __init__(self, path: str | os.PathLike[str], *, files: Files | None = None) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(path)))  # noqa: PTH100  keeps links
        object.__setattr__(self, "files", files or Files())

    @property
    def locks(self) -> bool:
        """False: whoever administers the directory can delete from it."""
        return False

    @property
    def place(self) -> str:
        """The path."""
        return str(self.path)

    def put_new(self, name: str, data: bytes) -> Kept:
        """
        Create a file, durably.

        Raises:
            ConsistencyError: Other bytes have the name.
            StoreError: The system refuses.
        """
        path = self.path / name
        changed: set[Path] = set()
        try:
            ensure_directory(self.files, path.parent, changed)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644)
                changed.add(path.parent)
            except FileExistsError:
                found = read_file(path, limit=MAX_OBJECT)
                if found == data:
                    return Kept("", None)
                if not data.startswith(found):
                    raise already_there(self.place, name, found, data) from None
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | _FLAGS)
                data = data[len(found) :]
            try:
                write_all(self.files, fd, data)
                self.files.sync(fd)
            finally:
                os.close(fd)
            for one in sorted(changed):
                self.files.sync_directory(one)
        except OSError as error:
            raise store_error(f"could not copy {name!r} to {self.place!r}", error) from error
        return Kept("", None)

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the files below the directory *prefix*."""
        for one in self.versions(prefix):
            yield one.name

    def versions(self, prefix: str) -> Iterator[Version]:
        """
        Yield the files below the directory *prefix*: one version each.

        Raises:
            StoreError: The system could not list it.
        """
        queue = [prefix.strip("/")]
        while queue:
            here = queue.pop(0)
            try:
                with os.scandir(self.path / here) as scan:
                    listed = sorted(
                        (one.name, one.stat(follow_symlinks=False).st_mode) for one in scan
                    )
            except FileNotFoundError:
                continue
            except OSError as error:
                raise store_error(f"could not list {str(self.path / here)!r}", error) from error
            for name, mode in listed:
                inside = f"{here}/{name}" if here else name
                if stat.S_ISDIR(mode):
                    queue.append(inside)
                else:
                    yield Version(inside, "", hidden=False)

    def until(self, version: Version) -> datetime | None:  # noqa: ARG002  the protocol's
        """Return None: nothing says so."""
        return None

    def read(self, version: Version, *, limit: int) -> bytes:
        """
        Return the bytes of a file.

        Raises:
            FormatError: More than *limit*.
            UnexpectedFileError: A link, a pipe or a device.
            StoreError: The system could not read it, or it is gone.
        """
        try:
            return read_file(self.path / version.name, limit=limit)
        except FileNotFoundError as error:
            raise store_error(f"{version.name!r} is gone from {self.place!r}", error) from error
