"""
Receipts on the disk: one file an anchor, one line a receipt, only appended to.

A line is on the disk when `append_receipt` returns.  A crash leaves at most a
last line without its newline, which the next append cuts off and a reader
leaves out: whoever gave that receipt gives the next one.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from secureml.errors import UnexpectedFileError
from secureml.evidence._files import Files, make_directories, not_regular, store_error, write_all
from secureml.evidence._flock import lock
from secureml.evidence.anchors.receipt import MAX_LINE, Receipt, check_anchor_name

__all__ = [
    "SUFFIX",
    "append_receipt",
    "ensure_directory",
    "receipt_files",
    "receipt_lines",
    "receipts_directory",
]

SUFFIX = ".jsonl"
"""How the names of files of receipts end."""

_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CHUNK = 1 << 16
_TRIES = 8
_SKIPPED = 64


def receipts_directory(log: str | os.PathLike[str]) -> Path:
    """Return where the receipts of the log in directory *log* are: ``../anchors/<log>``."""
    path = Path(os.path.abspath(log))  # noqa: PTH100  links in it stay what they are
    return path.parent / "anchors" / path.name


def append_receipt(
    directory: Path, name: str, receipt: Receipt, *, files: Files | None = None
) -> Path:
    """
    Append *receipt* to the file of the anchor *name*, durably.

    Args:
        directory: Where the log's receipts are; made when it is missing.
        name: The anchor.
        receipt: What it gave.
        files: The operating system, for tests.

    Raises:
        StoreError: The system refuses; what was there is as it was.
        ValueError: *name* cannot be one, or the receipt is too long.
        UnexpectedFileError: The file is a link, a directory or a device.
    """
    line = receipt.encode()
    path = directory / (check_anchor_name(name) + SUFFIX)
    files = files or Files()
    try:
        changed: set[Path] = set()
        ensure_directory(files, directory, changed)
        if not os.path.lexists(path):
            changed.add(directory)
        elif not stat.S_ISREG(path.lstat().st_mode):
            raise not_regular(path)
        held = lock(lambda: files.open_append(path, 0o644), files.close)
        fd = held.fd
        try:
            whole = _whole(fd)
            if whole != os.fstat(fd).st_size:
                files.truncate(fd, whole)
            try:
                write_all(files, fd, line)
                files.sync(fd)
            except OSError:
                files.truncate(fd, whole)
                raise
        finally:
            held.close()
        for one in sorted(changed):
            files.sync_directory(one)
    except OSError as error:
        raise store_error(f"could not keep a receipt in {str(path)!r}", error) from error
    return path


def ensure_directory(files: Files, path: Path, changed: set[Path]) -> None:
    """Make *path* and its parents, beside others who may do the same."""
    for left in reversed(range(_TRIES)):
        try:
            make_directories(files, path, mode=0o755, changed=changed)
        except FileExistsError:
            if not left:
                raise
        else:
            return


def _whole(fd: int) -> int:
    """Return the length of the file up to its last newline."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _CHUNK)
        os.lseek(fd, start, os.SEEK_SET)
        at = os.read(fd, end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def receipt_files(directory: Path) -> list[tuple[str, Path]]:
    """
    Return the anchors that have a file in *directory*, and the files; none if it is missing.

    Raises:
        UnexpectedFileError: Something else is there.
        StoreError: The system could not list it.
    """
    try:
        with os.scandir(directory) as scan:
            listed = sorted((one.name, one.is_file(follow_symlinks=False)) for one in scan)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise store_error(f"could not list {str(directory)!r}", error) from error
    found = []
    for name, regular in listed:
        path = directory / name
        if not regular:
            raise not_regular(path)
        try:
            anchor = check_anchor_name(name.removesuffix(SUFFIX))
        except ValueError:
            anchor = ""
        if not anchor or not name.endswith(SUFFIX):
            raise UnexpectedFileError(
                f"{str(path)!r} is no file of receipts",
                why=f"those are named after an anchor, with {SUFFIX!r} at the end",
                fix="remove it, after you know who put it there",
            )
        found.append((anchor, path))
    return found


def receipt_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """
    Yield the number, from 1, and the bytes of each line, without its newline.

    A line that is too long is given as None, and reading goes on behind it,
    unless it is longer than 64 of them: a hostile file is not read to its end.
    A last line without its newline is left out.

    Raises:
        UnexpectedFileError: The file is a link, a directory or a device.
        StoreError: The system could not read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS)
    except OSError as error:
        if path.is_symlink():
            raise not_regular(path) from error
        raise store_error(f"could not read {str(path)!r}", error) from error
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise not_regular(path)
        number = 0
        while True:
            try:
                line = file.readline(MAX_LINE)
                number += 1
                parts = 1
                while line and not line.endswith(b"\n"):
                    rest = file.readline(MAX_LINE)
                    if not rest:
                        return
                    parts, line = parts + 1, rest
                    if parts > _SKIPPED:
                        yield number, None
                        return
            except OSError as error:
                raise store_error(f"could not read {str(path)!r}", error) from error
            if not line:
                return
            yield number, None if parts > 1 else line[:-1]
