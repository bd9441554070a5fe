"""What a writer of a log is made from, and where its private files are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secureml.evidence._files import Files
from secureml.evidence.keeping import Keeping
from secureml.evidence.pruning import Prune
from secureml.keys.signer import Signer
from secureml.keys.verifier import Verifier

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    What a writer is made from.

    Attributes:
        directory: The log.
        private: Holds the lock, the write-ahead file and the remembered checkpoint.
        origin: First line of every checkpoint; None takes it from the existing one.
        signer: Signs checkpoints; None where *keeping* has epoch keys.
        purpose: What the signer is asked to sign for.
        previous: Keys that signed earlier checkpoints of this log.
        create: Whether a log may begin here.
        files: The operating system.
        observe: Is shown every entry that recovery reads, in order: the index
            of the first one, and the entries.
        also: ML-DSA-44 keys that sign beside the signer.
        keeping: What the writer does beside publishing.
        pruned: Returns what an entry says about removed ones; without it, none may be
            missing.
        restore: Is told what *observe* had made of the entries up to some place, so that it
            is shown the later ones alone; nothing, where it is shown all of them.
        recheck: Whether every entry is read in any case.
    """

    directory: Path
    private: Path
    origin: str | None
    signer: Signer | None
    purpose: str
    previous: tuple[Verifier, ...]
    create: bool
    files: Files
    observe: Callable[[int, list[bytes]], None] | None = None
    also: tuple[Signer, ...] = ()
    keeping: Keeping | None = None
    pruned: Callable[[bytes], Prune | None] | None = None
    restore: Callable[[bytes], None] | None = None
    recheck: bool = False

    @property
    def wal(self) -> Path:
        """Where the write-ahead file is."""
        return self.private / "wal" / f"{self.directory.name}.wal"

    @property
    def remembered(self) -> Path:
        """Where the last checkpoint is that this machine signed."""
        return self.private / "checkpoints" / self.directory.name

    @property
    def prefix(self) -> Path:
        """Where it is noted what the last writer knew."""
        return self.private / "prefixes" / self.directory.name

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The keys that may have signed the checkpoint, where they do not follow each other."""
        return self.previous if self.signer is None else (self.signer.verifier, *self.previous)
