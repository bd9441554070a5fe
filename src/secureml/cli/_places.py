"""Which logs a command is about: those of an evidence directory, or one that lies alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from secureml.cli._shared import root_of_trust
from secureml.errors import FormatError

if TYPE_CHECKING:
    from secureml.evidence.trust import Trust
    from secureml.workspace.layout import Layout

__all__ = ["Place", "places_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """
    A log of a directory.

    Attributes:
        path: The log.
        role: Under which role its key is judged.
        layout: What it lies in.
        alone: Whether the log itself was named, and not what it lies in.
    """

    path: Path
    role: str
    layout: "Layout"
    alone: bool = False

    @property
    def origin(self) -> str:
        """The name that its checkpoint states; a text that is none, where it has none."""
        path = self.path / "checkpoint"
        return path.read_text("utf-8", "replace").split("\n", 1)[0] if path.is_file() else "?"

    @property
    def details(self) -> Path | None:
        """The directory of its values; None where the log was taken along without."""
        return None if self.alone and not self.layout.details.is_dir() else self.layout.details

    @property
    def epochs(self) -> str | Sequence[str]:
        """Its file of boundary notes; nothing where there is none."""
        path = self.layout.epochs / f"{self.path.name}.notes"
        return str(path) if path.exists() else ()

    @classmethod
    def trusted(cls, directory: str, trust: str | None) -> "tuple[list[Place], Trust]":
        """
        Return the logs of *directory*, and what they are judged under.

        Raises:
            StoreError, UntrustedSignerError, FormatError: As `root_of_trust` and `places_of`.
        """
        root = Path(directory)
        alone = (root / "checkpoint").is_file()
        found = root_of_trust(str(root.absolute().parent) if alone else directory, trust)
        return places_of(directory), found


def places_of(directory: str) -> list[Place]:
    """
    Return the logs that *directory* holds, or the one that it is.

    Raises:
        FormatError: There are none.
    """
    from secureml.workspace.layout import LOGS, Layout

    layout = Layout.of(directory)
    if (layout.root / "checkpoint").is_file():
        return [Place(layout.root, _role(layout.root), Layout.of(layout.root.parent), alone=True)]
    found = [
        Place(layout.root / name, name, layout) for name in LOGS if (layout.root / name).is_dir()
    ]
    if not found:
        raise FormatError(
            f"{directory!r} is not an evidence directory",
            why="it holds neither log/ nor audit/, and is no log itself",
            fix="give the directory that secureml.open(…) made, or a log in it",
        )
    return found


def _role(path: Path) -> str:
    """Return the role of a log that lies alone: by what its last entry is."""
    from secureml.evidence.log import Log
    from secureml.workspace.proving import MAGIC

    log = Log.open(path)
    return "audit" if log.size and log.entry(log.size - 1).startswith(MAGIC) else "log"
