"""
Write a file so that a crash leaves the old one or the new one, never a part.

The bytes go beside the target under a temporary name, to the disk, and then
under the target's name with one rename.
"""

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["sync_directory", "write_beside"]


def write_beside(target: Path, data: bytes, *, mode: int = 0o666) -> None:
    """
    Write *data* to *target*, replacing what is there, durably.

    Args:
        target: The file; its directory has to exist.
        data: All of it.
        mode: Its permissions, before the process's umask.

    Raises:
        OSError: The file cannot be written; the old one is left as it was.
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(beside, flags, mode), "wb") as file:  # noqa: PTH123  a descriptor
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in *directory* durable, where the system can."""
    if os.name == "nt":  # Windows cannot open a directory.
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
