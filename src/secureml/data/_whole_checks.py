"""Checks of a subject as a whole: how many rows, and of a tree, which files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import ClassVar, Self

from secureml.data.rows import Rows
from secureml.gates.check import Finding, check_name
from secureml.wire.canonical import JSON
from secureml.wire.manifest import Entry

__all__ = ["Extensions", "FileCount", "NoDuplicateFiles", "RowCount"]


@dataclass(frozen=True, slots=True)
class _Count:
    """
    How many parts there are.

    Attributes:
        minimum: The least that passes.
        maximum: The most that passes; None for any number.
    """

    id: ClassVar[str]
    unit: ClassVar[str]

    minimum: int
    maximum: int | None

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        return {"maximum": self.maximum, "minimum": self.minimum}

    @property
    def needs(self) -> frozenset[str]:
        """No column."""
        return frozenset()

    def start(self) -> "_CountState":
        """Begin a measurement."""
        return _CountState(self)


@dataclass(frozen=True, slots=True)
class RowCount(_Count):
    """How many rows a table has."""

    over: ClassVar[str] = "table"
    id: ClassVar[str] = "row_count@1"
    unit: ClassVar[str] = "rows"


@dataclass(frozen=True, slots=True)
class FileCount(_Count):
    """How many files a tree has."""

    over: ClassVar[str] = "tree"
    id: ClassVar[str] = "file_count@1"
    unit: ClassVar[str] = "files"


@dataclass(slots=True)
class _CountState:
    check: _Count
    count: int = 0

    def update(self, part: Rows | Entry) -> None:
        """Take some rows, or one file."""
        self.count += len(part) if isinstance(part, Rows) else 1

    def merge(self, other: Self) -> None:
        """Take what another state has counted."""
        self.count += other.count

    def finish(self) -> Finding:
        """Return the finding."""
        check = self.check
        low, high, unit = check.minimum, check.maximum, check.unit
        limit = f"at least {low}" if high is None else f"{low} to {high}"
        good = self.count >= low and (high is None or self.count <= high)
        return Finding(
            check_name(check),
            passed=good,
            message=f"{self.count} {unit}, {limit} wanted",
            counts={unit: self.count},
        )


@dataclass(frozen=True, slots=True)
class Extensions:
    """
    Every file's name ends in one of these.

    Attributes:
        allowed: Sorted, in small letters, each with its dot.
    """

    over: ClassVar[str] = "tree"
    id: ClassVar[str] = "extensions@1"

    allowed: tuple[str, ...]

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        return {"allowed": list(self.allowed)}

    @property
    def needs(self) -> frozenset[str]:
        """No column."""
        return frozenset()

    def start(self) -> "_ExtensionsState":
        """Begin a measurement."""
        return _ExtensionsState(self)

    def accepts(self, name: str) -> bool:
        """Tell whether *name* has a stem and ends as it should."""
        last = PurePosixPath(name).name.lower()
        return any(last.endswith(end) and last != end for end in self.allowed)


@dataclass(slots=True)
class _ExtensionsState:
    check: Extensions
    files: int = 0
    failed: int = 0
    first: str | None = None

    def update(self, part: Entry) -> None:
        """Take one file."""
        self.files += 1
        if not self.check.accepts(part.name):
            self.failed += 1
            self.first = part.name if self.first is None else min(self.first, part.name)

    def merge(self, other: Self) -> None:
        """Take what another state has seen."""
        self.files += other.files
        self.failed += other.failed
        names = [name for name in (self.first, other.first) if name is not None]
        self.first = min(names, default=None)

    def finish(self) -> Finding:
        """Return the finding."""
        wanted = ", ".join(self.check.allowed)
        if not self.files:
            message = "there are no files"
        elif self.failed:
            message = f"{self.failed} of {self.files} files: not {wanted}"
        else:
            message = f"{self.files} files: {wanted}"
        return Finding(
            check_name(self.check),
            passed=bool(self.files) and not self.failed,
            message=message,
            counts={"files": self.files, "failed": self.failed},
            detail="" if self.first is None else f"first: {self.first}",
        )


@dataclass(frozen=True, slots=True)
class NoDuplicateFiles:
    """No two files have the same bytes."""

    over: ClassVar[str] = "tree"
    id: ClassVar[str] = "no_duplicate_files@1"

    @property
    def params(self) -> Mapping[str, JSON]:
        """Everything the result depends on."""
        return {}

    @property
    def needs(self) -> frozenset[str]:
        """No column."""
        return frozenset()

    def start(self) -> "_DuplicatesState":
        """Begin a measurement."""
        return _DuplicatesState(self)


@dataclass(slots=True)
class _DuplicatesState:
    check: NoDuplicateFiles
    names: dict[bytes, list[str]] = field(default_factory=dict)

    def update(self, part: Entry) -> None:
        """Take one file."""
        self.names.setdefault(part.sha256, []).append(part.name)

    def merge(self, other: Self) -> None:
        """Take what another state has seen."""
        for digest, names in other.names.items():
            self.names.setdefault(digest, []).extend(names)

    def finish(self) -> Finding:
        """Return the finding."""
        files = sum(map(len, self.names.values()))
        repeated = sorted(sorted(names) for names in self.names.values() if len(names) > 1)
        repeats = sum(len(names) - 1 for names in repeated)
        if not files:
            message = "there are no files"
        elif repeated:
            message = f"{repeats} of {files} files repeat another"
        else:
            message = f"{files} files, no two with the same bytes"
        return Finding(
            check_name(self.check),
            passed=bool(files) and not repeated,
            message=message,
            counts={"files": files, "failed": repeats},
            detail=f"first: {repeated[0][0]} and {repeated[0][1]}" if repeated else "",
        )
