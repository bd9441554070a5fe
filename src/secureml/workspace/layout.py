"""
Where things lie: a directory of evidence, and a private one beside it.

``DIR/`` holds evidence only and may be shipped.  ``DIR.private/`` holds what
must not be: keys, the reviewed trust file, the last checkpoints seen, the
write-ahead files.  A workspace inside another one's evidence directory (a
serving machine's, collected) keeps its private half inside the outer private
directory, so that shipping the outer directory never ships a key.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from secureml.errors import StoreError

__all__ = [
    "BESIDE",
    "LOGS",
    "SELF_PROVING",
    "Layout",
    "find_nested",
    "is_workspace",
    "private_directory",
    "walk_files",
]

LOGS = ("log", "audit")
"""The two log directories."""

BESIDE = ("anchors", "epochs", "tails")
"""Directories of what others say about the logs, and of their keys: they grow after a seal."""

SELF_PROVING = (*LOGS, *BESIDE)
"""What proves itself, so that no seal names its files."""


def is_workspace(directory: Path) -> bool:
    """Tell whether *directory* looks like an evidence directory: a trust file and a log."""
    # Not Path.is_file: a name that is too long for the system is no file either.
    return os.path.isfile(directory / "trust.toml") and any(  # noqa: PTH113  see above
        os.path.isfile(directory / name / "checkpoint")  # noqa: PTH113  see above
        for name in LOGS
    )


def private_directory(directory: Path) -> Path:
    """Return where the private half of the workspace at *directory* lies."""
    path = Path(os.path.abspath(directory))  # noqa: PTH100  links stay what they are
    for outer in path.parents:
        if is_workspace(outer):
            return private_directory(outer) / path.relative_to(outer)
    return path.with_name(path.name + ".private")


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The paths of one workspace.

    Attributes:
        root: The evidence directory.
        private: The private directory.
    """

    root: Path
    private: Path

    @classmethod
    def of(cls, directory: str | os.PathLike[str]) -> "Layout":
        """Return the layout of the workspace at *directory*."""
        root = Path(os.path.abspath(directory))  # noqa: PTH100  as above
        return cls(root, private_directory(root))

    @property
    def log(self) -> Path:
        """The statements, a tlog-tiles directory."""
        return self.root / "log"

    @property
    def audit(self) -> Path:
        """The predictions, a tlog-tiles directory."""
        return self.root / "audit"

    @property
    def anchors(self) -> Path:
        """Receipts of those who have seen a log: a directory for each log."""
        return self.root / "anchors"

    @property
    def epochs(self) -> Path:
        """Boundary notes of logs whose keys follow each other: a file for each log."""
        return self.root / "epochs"

    @property
    def tails(self) -> Path:
        """Steps of the logs' sealed tails: a file for each log."""
        return self.root / "tails"

    @property
    def blobs(self) -> Path:
        """Large things, named by their SHA-256."""
        return self.root / "blobs"

    @property
    def details(self) -> Path:
        """Salts and captured values; erasable."""
        return self.root / "details"

    @property
    def published_trust(self) -> Path:
        """A copy of the trust file: a claim, never a root."""
        return self.root / "trust.toml"

    @property
    def trust(self) -> Path:
        """The reviewed trust file: this machine's root."""
        return self.private / "trust.toml"

    @property
    def keys(self) -> Path:
        """Private keys."""
        return self.private / "keys"

    def remembered(self) -> list[str]:
        """Return the checkpoints that this machine wrote last, here and inside: signed notes."""
        folders = [
            layout.private / "checkpoints"
            for layout in (self, *(Layout.of(inner) for inner in find_nested(self.root)))
        ]
        return [
            path.read_text("utf-8")
            for folder in folders
            if folder.is_dir()
            for path in sorted(folder.iterdir())
            if path.is_file() and not path.name.startswith(".")
        ]


def walk_files(root: Path) -> Iterator[Path]:
    """
    Yield every entry below *root* that is not a directory, what proves itself left out.

    A log that is a link is no log: it is yielded like any other link.

    Raises:
        StoreError: A directory cannot be listed, so nobody knows what is in it.
    """
    for folder, directories, files in os.walk(root, onerror=_unlisted):
        here = Path(folder)
        # Not Path.is_symlink: a name that is too long for the system has no answer.
        links = {d for d in directories if os.path.islink(here / d)}  # noqa: PTH114  see above
        if here == root:
            directories[:] = [d for d in directories if d not in SELF_PROVING or d in links]
        directories.sort()
        for name in [*sorted(files), *(d for d in directories if d in links)]:
            yield here / name


def find_nested(root: Path) -> list[Path]:
    """
    Return the evidence directories inside *root*, outermost first.

    Raises:
        StoreError: A directory cannot be listed, so nobody knows what is in it.
    """
    found: list[Path] = []
    for folder, directories, _ in os.walk(root, onerror=_unlisted):
        here = Path(folder)
        directories.sort()
        if here == root:
            directories[:] = [d for d in directories if d not in SELF_PROVING]
        elif is_workspace(here):
            found.append(here)
            directories.clear()
    return found


def _unlisted(error: OSError) -> NoReturn:
    raise StoreError(
        f"the directory {str(error.filename)[:200]!r} cannot be listed",
        why=error.strerror or str(error),
        fix="check its permissions and the disk; a directory that is not evidence does not "
        "belong there",
    ) from error
