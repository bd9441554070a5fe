"""A log, spools and a sequencer in one directory, for tests of these alone; loaded by its path."""

import os
from collections.abc import Sequence
from pathlib import Path

from secureml import keys
from secureml.evidence._drain import Batch, Drain
from secureml.evidence._files import Files
from secureml.evidence._spool import Spool
from secureml.evidence.log import Log
from secureml.evidence.sequencer import Sequencer

SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))


class Quick(Files):
    """The operating system, without waiting for the disk."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Faulty(Quick):
    """
    An operating system that fails as it is told to.

    Attributes:
        fail: Call → error number.
        calls: What was called.
        short: The most bytes that one write takes.
    """

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.calls: list[str] = []
        self.short = 1 << 30

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise OSError(self.fail[name], os.strerror(self.fail[name]))

    def create(self, path: Path, mode: int) -> int:
        """Make a file."""
        self._call("create")
        return super().create(path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write some."""
        self._call("write")
        return super().write(fd, data[: self.short])

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write some."""
        self._call("write_at")
        done = super().write_at(fd, data[: self.short], offset)
        if done < len(data) and "half" in self.fail:
            self.fail["write_at"] = self.fail.pop("half")
        return done

    def sync(self, fd: int) -> None:
        """Sync, or say that it did not work."""
        self._call("sync")
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Sync, or say that it did not work."""
        self._call("sync_directory")
        super().sync_directory(path)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        self._call("remove")
        super().remove(path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file."""
        self._call("rename")
        super().rename(source, target)


class Plain:
    """What a sequencer is told: an entry is writer, number and body; lines are kept in a list."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.buried: list[tuple[bytes, int, str, int]] = []
        self.begun = self.committed_times = 0

    def opened(self, log: Log) -> Log:
        """Return the log as it is."""
        return log

    def recall(self, _: int, __: Sequence[bytes]) -> dict[bytes, int]:
        """Return that nothing was removed."""
        return {}

    def begin(self, recovery: object = None) -> None:  # noqa: ARG002  as the protocol says
        """Count it."""
        self.begun += 1

    def identify(self, entry: bytes) -> tuple[bytes, int] | None:
        """Read the first 24 bytes."""
        return (entry[:16], int.from_bytes(entry[16:24])) if len(entry) >= 24 else None

    def compose(self, writer: bytes, first: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Put 24 bytes before each body."""
        return [writer + number.to_bytes(8) + body for number, body in enumerate(bodies, first)]

    def deliver(self, batches: Sequence[Batch]) -> None:
        """Keep the lines."""
        for batch in batches:
            self.lines += [line for line in batch.lines if line]

    def committed(self) -> None:
        """Count it."""
        self.committed_times += 1

    def orphaned(self, writer: bytes, records: int, verdict: str, discarded: int) -> None:
        """Note who died."""
        self.buried.append((writer, records, verdict, discarded))


class Yard:
    """One directory, with a log in it and spools beside it."""

    def __init__(self, base: Path, files: Files | None = None) -> None:
        self.base = base
        self.files = files or Quick()
        self.spools = base / "private/spool/log"
        self.open: list[Spool] = []
        self.sequencers: list[Sequencer] = []

    def spool(self, **options: int) -> Spool:
        """Make the spool of another writer."""
        made = Spool(self.spools, self.files, **{"size": 4096, **options})
        self.open.append(made)
        return made

    def drain(self, spool: Spool) -> Drain:
        """Look at a spool as a sequencer does."""
        return Drain(self.spools, spool.writer, self.files)

    def sequencer(self, merge: Plain | None = None, files: Files | None = None) -> Sequencer:
        """Return a process, as far as the log is concerned."""
        log = Log.open(
            self.base / "log",
            private=self.base / "private",
            origin="log.example/spools",
            signer=SIGNER,
            create=True,
            files=files or self.files,
        )
        made = Sequencer(self.spools, log, merge or Plain(), files or self.files)
        self.sequencers.append(made)
        return made

    def entries(self) -> list[bytes]:
        """Return what is in the log."""
        return list(Log.open(self.base / "log").entries())

    def bodies(self, spool: Spool) -> list[bytes]:
        """Return the bodies of one writer in the log, after a look at their numbers."""
        mine = [entry for entry in self.entries() if entry.startswith(spool.writer)]
        assert list(range(len(mine))) == [int.from_bytes(entry[16:24]) for entry in mine]
        return [entry[24:] for entry in mine]

    def close(self) -> None:
        """Let go of everything."""
        for spool in self.open:
            spool.abandon()
        for sequencer in self.sequencers:
            sequencer.leave()


def write(spool: Spool, *bodies: bytes, line: bytes = b"") -> None:
    """Write records, each with the same line."""
    spool.write(bodies, [line] * len(bodies), details=0)
