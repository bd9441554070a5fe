"""
One writer for each workspace: a lock on a file, held by one process.

The kernel keeps the lock and gives it back when the process ends, however it
ends.  Both logs of a workspace share it, and so do two objects for the same
log in one process, as a notebook makes them: they share the writer too.

A child made by `os.fork` inherits the lock without having asked for it.  It
lets go of its copy at once, so that it neither writes beside its parent nor
keeps a dead parent's lock, and every object it inherited refuses to write.
"""

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from secureml.errors import StoreBusyError
from secureml.evidence import _flock
from secureml.evidence._files import store_error
from secureml.evidence._flock import Hold, hold, no_locks

if TYPE_CHECKING:
    from secureml.evidence._writer import Writer

__all__ = ["WriterLock", "forked"]


class WriterLock:
    """
    The right to write in one private directory.

    Objects for the same file share it within a process.  Nothing is held
    until the first writer, and nothing after the last.

    Args:
        path: The lock file, ``lock`` in the private directory.
    """

    def __init__(self, path: Path) -> None:
        self._held = _Held.at(path)

    @property
    def mutex(self) -> threading.RLock:
        """Held while a writer is made, joined or left; taken before a writer's own."""
        return self._held.mutex

    def writer(self, directory: Path, make: "Callable[[], Writer]") -> "Writer":
        """
        Return the writer of the log in *directory*, made when there is none.

        Raises:
            StoreBusyError: Another process writes here.
            StoreError: The platform or the file system has no such lock.
        """
        return self._held.writer(directory, make)

    def leave(self, writer: "Writer") -> None:
        """Give *writer* back; the last one to do so closes it."""
        self._held.leave(writer)

    def release(self) -> None:
        """Let go of the lock if no writer is left."""
        self._held.release()


class _Held:
    """The lock on one file, once for the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hold: Hold | None = None
        self._writers: dict[str, weakref.ref[Writer]] = {}
        self.mutex = threading.RLock()

    @classmethod
    def at(cls, path: Path) -> Self:
        key = os.path.realpath(path)
        with _registry_mutex:
            held = _registry.get(key)
            if not isinstance(held, cls):
                held = cls(Path(key))
                _registry[key] = held
            return held

    def writer(self, directory: Path, make: "Callable[[], Writer]") -> "Writer":
        key = os.path.realpath(directory)
        with self.mutex:
            self._acquire()
            found = self._writers.pop(key, None)
            writer = None if found is None else found()
            if writer is None or not writer.join():
                if writer is not None:
                    writer.shut()
                try:
                    writer = make()
                except BaseException:
                    self.release()
                    raise
            self._writers[key] = weakref.ref(writer)
            return writer

    def leave(self, writer: "Writer") -> None:
        with self.mutex:
            if writer.leave():
                return
            for key, found in list(self._writers.items()):
                if found() in {None, writer}:
                    del self._writers[key]
            self.release()

    def _acquire(self) -> None:
        if not _flock.HAS_LOCKS:
            raise no_locks()
        if self._hold is not None:
            try:
                if os.path.samestat(os.fstat(self._hold.fd), self._path.stat()):
                    return
            except OSError:
                pass
            # The file was removed under us: what was locked is gone, and whoever
            # wrote under that lock has to recover before writing on.
            self._close()
            for found in self._writers.values():
                if (writer := found()) is not None:
                    writer.shut()
            self._writers.clear()
        self._hold = self._lock_file()

    def _lock_file(self) -> Hold:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(f"could not open the lock {str(self._path)!r}", error) from error
        try:
            held = hold(self._path)
        except BlockingIOError:
            raise self._busy() from None
        except OSError as error:
            raise store_error(
                f"could not lock {str(self._path)!r}",
                error,
                fix="put the private directory on a local file system: some network file "
                "systems have no locks",
            ) from error
        try:
            os.ftruncate(held.fd, 0)
            os.pwrite(held.fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            held.close()
            raise store_error(f"could not write {str(self._path)!r}", error) from error
        return held

    def _busy(self) -> StoreBusyError:
        try:
            holder = self._path.read_bytes()[:32].decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            holder = ""
        who = f"process {holder}" if holder.isdigit() else "another process"
        return StoreBusyError(
            f"{who} writes to {str(self._path.parent)!r}",
            why="a log has one writer process; this one asked for its first append",
            fix="write from that process, or close the log there first; reading and "
            "verifying work beside it",
            retryable=True,
        )

    def release(self) -> None:
        with self.mutex:
            if not any(found() for found in self._writers.values()):
                self._close()

    def _close(self) -> None:
        held, self._hold = self._hold, None
        if held is not None:
            held.close()

    def after_fork(self) -> None:  # pragma: no cover  in a forked child
        self.mutex = threading.RLock()
        writers = [found() for found in self._writers.values()]
        self._writers = {}
        # Closing does not unlock: the parent's descriptor shares the lock.
        self._close()
        for writer in writers:
            if writer is not None:
                writer.orphan()

    def __del__(self) -> None:
        self._close()


def forked() -> StoreBusyError:  # pragma: no cover  in a forked child
    """Return the error for a log object that a child inherited."""
    return StoreBusyError(
        "this process is a fork of the one that writes to the log",
        why="parent and child would write the same places of the log, each without the other",
        fix="open the log again in the child after the parent closed it, or send the records "
        "to the parent; with a server that forks, open the log in one worker",
    )


_registry: weakref.WeakValueDictionary[str, _Held] = weakref.WeakValueDictionary()
_registry_mutex = threading.Lock()


def _after_fork_in_child() -> None:  # pragma: no cover  in a forked child
    global _registry_mutex  # noqa: PLW0603  the parent may have held it
    _registry_mutex = threading.Lock()
    for held in list(_registry.values()):
        held.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
