"""What happens to the audit logs of a process when it forks, and when it ends."""

import atexit
import os
import weakref
from pathlib import Path
from typing import Protocol

from secureml._extras import loaded
from secureml.errors import SecureMLError

__all__ = ["Living", "begins", "boot_id", "ends", "opened"]


class Living(Protocol):
    """**Protocol.** An audit log."""

    def close(self) -> None:
        """End this writer, publish, and close the log."""

    def after_fork(self) -> None:
        """Become a writer of its own."""


_known: "weakref.WeakSet[Living]" = weakref.WeakSet()
_alive: "set[Living]" = set()
"""Those with a writer: kept, so that what they accepted is written whoever forgets them."""
_registered = False
_finalized: set[int] = set()


def opened(log: Living) -> None:
    """Take note of a log, so that it is told of a fork."""
    _known.add(log)


def begins(log: Living) -> None:
    """Take note that a log has a writer, so that it is closed when the process ends."""
    global _registered  # noqa: PLW0603  once for the process
    _alive.add(log)
    if not _registered:
        _registered = True
        atexit.register(_close_all)
    module = loaded("multiprocessing.util")
    if module is not None and os.getpid() not in _finalized:
        # A child of multiprocessing leaves by os._exit, which runs no exit function.
        _finalized.add(os.getpid())
        module.Finalize(None, _close_all, exitpriority=100)


def ends(log: Living) -> None:
    """Take note that a log has no writer any more."""
    _alive.discard(log)


def _close_all() -> None:
    """Write what is left, at the end of the process; one that fails keeps no other from it."""
    failed: SecureMLError | None = None
    for log in list(_alive):
        try:
            log.close()
        except SecureMLError as error:
            failed = error
    if failed is not None:
        raise failed


def _forked() -> None:  # pragma: no cover  in a forked child
    # Also those that a thread of the parent was just opening.
    for log in list(_known):
        log.after_fork()
    _alive.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def boot_id() -> str:
    """Return the id of this boot of the machine; empty where there is none."""
    # Bytes: to look up a codec takes a lock, which a child of fork may find locked for ever.
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""
