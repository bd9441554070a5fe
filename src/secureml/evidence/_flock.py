"""
Locks on files, which end with the process that took them, and with no other.

The kernel gives a lock back when the last descriptor of it is closed, and a
child made by `os.fork` has a copy of every descriptor: of those too that a
thread of its parent was just opening.  So forking waits for the moment between
opening a descriptor and writing it down, and the child closes all that are
written down, before it does anything else.  Whoever gives a lock back unlocks
it as well: a child made by fork below Python keeps its copy.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from secureml.errors import StoreError

try:
    import fcntl
except ImportError:  # pragma: no cover  Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

__all__ = ["HAS_LOCKS", "Hold", "hold", "is_held", "lock", "no_locks"]


class Hold:
    """
    A lock that is held.

    Attributes:
        fd: The descriptor; -1 after it was given back, and in a forked child.
    """

    __slots__ = ("__weakref__", "_close", "_pid", "fd")

    def __init__(self, fd: int, close: Callable[[int], None] = os.close) -> None:
        self.fd = fd
        self._close = close
        self._pid = os.getpid()

    def close(self) -> None:
        """Give the lock back."""
        with _guard:
            fd, self.fd = self.fd, -1
            _holds.discard(self)
            if fd >= 0:
                # The lock of a parent is not the child's to give back.
                if HAS_LOCKS and self._pid == os.getpid():
                    with contextlib.suppress(OSError):
                        fcntl.flock(fd, fcntl.LOCK_UN)
                self._close(fd)

    def __del__(self) -> None:
        self.close()


def hold(path: Path) -> Hold:
    """
    Make the file *path* and lock it.

    Raises:
        BlockingIOError: Somebody holds it.
        OSError: The system refuses.
        StoreError: The platform has no such locks.
    """
    if not HAS_LOCKS:
        raise no_locks()
    while True:
        with _guard:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                raise
            # Somebody may have removed the file since it was opened.
            if os.fstat(fd).st_nlink:
                made = Hold(fd)
                _holds.add(made)
                return made
            os.close(fd)


def lock(opens: Callable[[], int], close: Callable[[int], None] = os.close) -> Hold:
    """
    Open a file and lock it, as soon as nobody else has it locked.

    Opened again when it was removed, or replaced, before it was locked.  Where the
    platform has no locks it is open, and that is all.

    Args:
        opens: Opens the file, and returns its descriptor.
        close: Closes it.

    Raises:
        OSError: The system refuses.
    """
    while True:
        with _guard:
            made = Hold(opens(), close)
            _holds.add(made)
        try:
            if HAS_LOCKS:
                # Not under the guard: a fork does not wait for whoever has the lock.
                fcntl.flock(made.fd, fcntl.LOCK_EX)
            if os.fstat(made.fd).st_nlink:
                return made
        except BaseException:
            made.close()
            raise
        made.close()


def is_held(path: Path) -> bool:
    """
    Return whether a living process holds the lock on *path*; False for no such file.

    Raises:
        OSError: The system refuses.
    """
    if not HAS_LOCKS:  # pragma: no cover  Windows
        return False
    with _guard:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def no_locks() -> StoreError:
    """Return the error for a platform without file locks."""
    what = "a log cannot be written on this platform"
    return StoreError(
        what,
        why="writing needs file locks of POSIX (fcntl), which Python has not here",
        fix="write on Linux or macOS; hashing, verifying and loading work here",
    )


_guard = threading.RLock()
_holds: "weakref.WeakSet[Hold]" = weakref.WeakSet()


def _before() -> None:
    _guard.acquire()


def _in_parent() -> None:
    _guard.release()


def _in_child() -> None:  # pragma: no cover  in a forked child
    global _guard  # noqa: PLW0603  the parent's is held by the thread that forked
    _guard = threading.RLock()
    for held in list(_holds):
        held.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
