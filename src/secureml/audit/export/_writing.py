"""
Write a file of any length so that it is there whole or not at all.

The bytes go beside the target under a temporary name, to the disk, and then
under the target's name with one rename.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from secureml._durable import sync_directory
from secureml.errors import StoreError

__all__ = ["Sink", "writing"]


class Output(Protocol):
    """**Protocol.** Something that takes bytes, such as ``sys.stdout.buffer``."""

    def write(self, data: bytes, /) -> object:
        """Take *data*."""


class Sink:
    """Takes bytes, passes them on, and knows their digest."""

    closed = False  # Who writes Parquet asks.

    def __init__(self, output: Output) -> None:
        self._output = output
        self._digest = sha256()
        self._size = 0

    def write(self, data: bytes, /) -> int:
        """Pass *data* on."""
        data = bytes(data)
        self._output.write(data)
        self._digest.update(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def flush(self) -> None:
        """Do nothing: `writing` brings the file to the disk."""

    def close(self) -> None:
        """Do nothing: `writing` closes the file."""

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return False."""
        return False

    @property
    def digest(self) -> str:
        """SHA-256 of all bytes, ``sha256:…``."""
        return f"sha256:{self._digest.hexdigest()}"


@contextlib.contextmanager
def writing(out: "str | os.PathLike[str] | Output", *, mode: int) -> Iterator[Sink]:
    """
    Yield what to write to; when the block ends well, the file is there, else nothing changed.

    Args:
        out: The file, or something that takes bytes, which is written to as it comes.
        mode: The file's permissions, before the process's umask.

    Raises:
        StoreError: The file cannot be written; an older one is left as it was.
    """
    if not isinstance(out, str | os.PathLike):
        yield Sink(out)
        return
    target = Path(out)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        file: IO[bytes]
        with open(os.open(beside, flags, mode), "wb", buffering=1 << 20) as file:  # noqa: PTH123
            yield Sink(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StoreError(
            f"could not write {str(target)!r}",
            why=f"the system says: {error.strerror or error}",
            fix="check the directory, its permissions and the room on the disk, and try again",
            retryable=True,
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
