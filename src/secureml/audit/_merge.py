"""
What the sequencer asks about audit records: whose they are, and where their values go.

The lines of a writer's details are appended to files of that writer's own, in
the order of its records, and synced before the records are in the log.  What a
crash left behind the last record that made it is cut off, and comes again from
the spool.

Source: docs/spec/audit-record.md, section "Details"; docs/spec/spool.md.
"""

import contextlib
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from secureml.audit._epochs import Choices
from secureml.audit._events import event
from secureml.audit._standing import read_standing
from secureml.audit.record import PREFIX_SIZE
from secureml.clock import Clock
from secureml.evidence._files import Files, make_directories, write_all
from secureml.evidence._flock import lock
from secureml.evidence._spool import Spool
from secureml.evidence.log import Log, Recovery
from secureml.evidence.sequencer import Batch
from secureml.wire.canonical import JSON

__all__ = ["AuditMerge", "segment_name"]

_MAGIC: Final = b"secureml-audit/1 "
_WRITER: Final = slice(len(_MAGIC), len(_MAGIC) + 32)
_NUMBER: Final = slice(len(_MAGIC) + 33, PREFIX_SIZE - 1)
_NOTHING: Final = Choices()
_NOBODY: Final[Mapping[bytes, int]] = {}


def segment_name(writer: bytes, number: int) -> str:
    """Return the name of a details segment: 39 characters."""
    return f"{writer.hex()}-{number:06d}"


class AuditMerge:
    """
    What this process's sequencer is told; the same for every `AuditLog` of one directory.

    Args:
        spools: Where the spools are.
        details: Where the values go.
        files: The operating system.
        clock: Tells the time.
        choices: What is asked of whoever writes the log.
    """

    def __init__(
        self,
        spools: Path,
        details: Path,
        files: Files,
        clock: Clock,
        choices: Choices = _NOTHING,
    ) -> None:
        self._spools = spools
        self._details = details
        self._files = files
        self._clock = clock
        self._choices = choices
        self._ends: dict[str, int] = {}
        self._reached: dict[str, int] = {}

    def opened(self, log: Log) -> Log:
        """
        Return the log with its keys and its tail, where it has some.

        Raises:
            KeyUnavailableError, StoreError: What is asked for is not there.
        """
        return self._choices.opened(log, self._clock)

    def identify(self, entry: bytes) -> tuple[bytes, int] | None:
        """Return writer and number of a leaf."""
        if not entry.startswith(_MAGIC):
            return None
        try:
            return bytes.fromhex(entry[_WRITER].decode()), int(entry[_NUMBER], 16)
        except ValueError:
            return None

    def recall(self, first: int, entries: Sequence[bytes]) -> Mapping[bytes, int]:
        """
        Return how far writers had come whose records were pruned.

        Raises:
            FormatError: A ``prune`` record is malformed.
        """
        found = [(n, e) for n, e in enumerate(entries, first) if b'"type":"prune"' in e]
        if not found:
            return _NOBODY
        standing = read_standing(found)
        return {bytes.fromhex(name): number for name, number in standing.writers.items()}

    def compose(self, writer: bytes, first: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Return the leaves of a writer's records."""
        form = b"%s%s %%016x\n%%s" % (_MAGIC, writer.hex().encode())
        return [form % pair for pair in enumerate(bodies, first)]

    def deliver(self, batches: Sequence[Batch]) -> None:
        """
        Append the lines to the details, durably.

        Raises:
            OSError: The system refuses.
        """
        lines: dict[str, list[bytes]] = {}
        for batch in batches:
            mine = [line for line in batch.lines if line]
            if mine:
                lines.setdefault(segment_name(batch.writer, batch.details), []).extend(mine)
        self._reached = {}
        if not lines:
            return
        changed: set[Path] = set()
        make_directories(self._files, self._details, mode=0o700, changed=changed)
        for segment, some in lines.items():
            if segment not in self._ends:
                # New, or made by a sequencer that may have died before it synced the names.
                changed.add(self._details)
            path = self._details / f"{segment}.jsonl"
            self._reached[segment] = self._append(path, segment, some)
        if self._details in changed:
            with contextlib.suppress(PermissionError):
                self._files.sync_directory(self._details.parent)
        for directory in sorted(changed):
            self._files.sync_directory(directory)

    def _append(self, path: Path, segment: str, lines: list[bytes]) -> int:
        files = self._files
        # Locked: who erases a line of it writes the file anew, under the lock.
        held = lock(lambda: files.open_append(path, 0o600), files.close)
        fd = held.fd
        try:
            size = os.fstat(fd).st_size
            end = self._ends.get(segment)
            if end is None or end > size:
                end = _end(fd, size, lines[0])
            if end != size:
                files.truncate(fd, end)
            data = b"".join(lines)
            write_all(files, fd, data)
            files.sync(fd)
        finally:
            held.close()
        return end + len(data)

    def begin(self, recovery: Recovery | None = None) -> None:
        """
        Forget how long the files were: another process may have written since.

        What a crash had left of the log itself is said by a start of its own.

        Raises:
            StoreError: It was not written.
        """
        self._ends.clear()
        self._reached = {}
        if recovery is not None:
            self._write(
                {
                    "pid": os.getpid(),
                    "recovered": {
                        "discarded": recovery.discarded,
                        "removed": len(recovery.removed),
                        "replayed": recovery.replayed,
                    },
                }
            )

    def committed(self) -> None:
        """Note that what was delivered is under a checkpoint."""
        self._ends.update(self._reached)
        self._reached = {}
        while len(self._ends) > _KEPT:
            del self._ends[next(iter(self._ends))]

    def orphaned(self, writer: bytes, records: int, verdict: str, discarded: int) -> None:
        """
        Record that a writer died, or that its spool was set aside.

        By a writer of its own, with a start and an end: so it needs nothing
        that a thread of this process may hold.

        Raises:
            StoreError: It was not written.
        """
        recovery: dict[str, JSON] = {
            "discarded": discarded,
            "records": records,
            "verdict": verdict,
            "writer": writer.hex(),
        }
        self._write({"pid": os.getpid()}, event("recovery", {"recovery": recovery}, self._clock))

    def _write(self, start: Mapping[str, JSON], *said: bytes) -> None:
        """Write the whole life of a writer: its start, what it has to say, and its end."""
        bodies = [
            event("start", {"start": start}, self._clock),
            *said,
            event("end", {"end": {"records": len(said) + 2}}, self._clock),
        ]
        spool = Spool(self._spools, self._files, size=_SMALL)
        try:
            spool.write(bodies, [b""] * len(bodies), details=0)
            spool.end()
            spool.sync()
        finally:
            spool.close()


_SMALL: Final = 4096
_KEPT: Final = 1024


def _end(fd: int, size: int, line: bytes) -> int:
    """Return where *line* begins in the file, or else where its last whole line ends."""
    if not size:
        return 0
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as data:
        at = data.find(line)
        while at > 0 and data[at - 1 : at] != b"\n":
            at = data.find(line, at + 1)
        if at < 0:
            # What a loss of power left out of the middle of an append is zeros.
            hole = data.find(b"\0")
            at = data.rfind(b"\n", 0, size if hole < 0 else hole) + 1
        return at
