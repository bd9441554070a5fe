"""
Anchoring the log of many processes: one shows its checkpoints to others, all may wait for it.

The process that sequences asks the anchors, from the thread that publishes,
and never waits for them.  How far they have come it writes into a small file
among the spools; who waits writes into another one what it waits for.

Neither file is evidence: receipts are, and they are on the disk before they
count.  Who may write to the spools can pretend to a waiting process that a
record was witnessed; nobody who verifies is deceived.

Source: docs/spec/spool.md, section "Waiting for anchors".
"""

import os
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from secureml.errors import SecureMLError
from secureml.evidence._files import TEMPORARY, Files, write_all
from secureml.evidence._flock import lock
from secureml.evidence.log import Log
from secureml.wire.merkle import ConsistencyProof

__all__ = ["ANCHORED", "WANTED", "Anchored", "Anchoring", "not_witnessed"]

ANCHORED: Final = "anchored"
"""Name of the file that says how many entries a quorum of the required anchors cover."""

WANTED: Final = "wanted"
"""Name of the file that says how many somebody waits for."""

STEP: Final = 1.0
"""Seconds between two looks at what the anchors have to do."""

SOON: Final = 0.2
"""The same, while somebody waits."""

_BYTES: Final = 12
_FLAGS: Final = (
    os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if hasattr(os, "O_CLOEXEC")
    else 0
)


class Source(Protocol):
    """**Protocol.** A log to anchor; see `secureml.evidence.anchors.receipt.Source`."""

    @property
    def directory(self) -> Path:
        """Where the log is."""

    def checkpoint_note(self) -> str:
        """Return the current checkpoint, a signed note."""

    def consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """Return the proof that the first *old* entries begin the first *new*."""


class Anchored(Protocol):
    """**Protocol.** The anchors of one log; `secureml.evidence.anchors.Anchors` is it."""

    quorum: int

    @property
    def anchored_size(self) -> int:
        """Number of entries that a quorum of the required anchors cover."""

    def step(self, log: Source, *, wanted: int = 0) -> int:
        """Start what is due, and never wait."""


class _Published:
    """A log with the checkpoint that this very process signed, whatever lies in its place."""

    def __init__(self, log: Log, note: str) -> None:
        self._log = log
        self._note = note

    @property
    def directory(self) -> Path:
        return self._log.directory

    def checkpoint_note(self) -> str:
        return self._note

    def consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        return self._log.consistency(old, new)


class Anchoring:
    """
    The anchors of one log, as one process sees them.

    Args:
        spools: Where the spools of the log are.
        anchors: The anchors; asked only while this process sequences.
        files: The operating system.
        size: Returns how many entries are published.

    Attributes:
        error: What kept it from its work last; None while all is well.  What an anchor
            itself has to say is in the status of the anchors.
    """

    def __init__(
        self, spools: Path, anchors: Anchored, files: Files, size: Callable[[], int]
    ) -> None:
        self.error: Exception | None = None
        self._anchors = anchors
        self._spools = spools
        self._files = files
        self._size = size
        self._mutex = threading.Lock()
        self._next = 0.0
        self._asked = 0
        self._mine = 0
        self._pid = os.getpid()

    @property
    def required(self) -> bool:
        """Whether an anchor is required, so that a record can be witnessed at all."""
        return self._anchors.quorum > 0

    # By the process that sequences

    def step(self, log: Log) -> None:
        """
        Ask the anchors that are due, and tell how far they have come; never waits.

        Called after each step of the sequencer, by whichever thread made it.
        """
        if not self._mutex.acquire(blocking=False):
            return
        try:
            self._step(log)
        except (SecureMLError, OSError, ValueError) as error:
            # Entries are in the log all the same; who waits is told in time.
            self.error = error
        else:
            self.error = None
        finally:
            self._mutex.release()

    def _step(self, log: Log) -> None:
        note = log.published_note
        if not note:
            return
        when = time.monotonic()
        wanted = self._read(WANTED)
        if when >= self._next or wanted > self._asked:
            self._asked = wanted
            self._anchors.step(_Published(log, note), wanted=wanted)
            waits = self._anchors.anchored_size < min(wanted, log.size)
            self._next = when + (SOON if waits else STEP)
        anchored = self._anchors.anchored_size
        if anchored > self.reached():
            self._tell(anchored)

    def _tell(self, size: int) -> None:
        path = self._spools / ANCHORED
        beside = path.with_name(TEMPORARY + path.name)
        fd = self._files.create(beside, 0o600)
        try:
            write_all(self._files, fd, _spell(size))
        finally:
            self._files.close(fd)
        # Not synced: what is lost is told again, by anchors that are asked again.
        self._files.rename(beside, path)

    # By who waits

    def reached(self) -> int:
        """Return how many entries a quorum of the required anchors cover."""
        found = self._read(ANCHORED)
        return found if found <= self._size() else 0

    def covers(self, index: int | None) -> bool:
        """
        Tell whether the entry at *index* is anchored, and ask for it when it is not.

        Args:
            index: The entry; None for one that is published at some place.

        Raises:
            OSError: It cannot be asked for.
        """
        size = self._size() if index is None else index + 1
        if self.reached() >= size:
            return True
        self._want(size)
        return False

    def _want(self, size: int) -> None:
        if self._pid == os.getpid() and size <= self._mine:
            return
        path = self._spools / WANTED
        held = lock(lambda: os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600))
        try:
            if size > _parse(os.pread(held.fd, _BYTES + 1, 0)):
                os.pwrite(held.fd, _spell(size), 0)
        finally:
            held.close()
        self._mine, self._pid = size, os.getpid()

    def _read(self, name: str) -> int:
        try:
            fd = os.open(self._spools / name, os.O_RDONLY | _FLAGS)
        except OSError:
            return 0
        try:
            return _parse(os.pread(fd, _BYTES + 1, 0))
        except OSError:
            return 0
        finally:
            os.close(fd)


def not_witnessed() -> ValueError:
    """Return the error for somebody who waits for a witness that is not there."""
    msg = "ack='witnessed' needs an anchor that is required: "
    msg += "AuditLog(..., anchors=Anchors(required=[...]))"
    return ValueError(msg)


def _spell(size: int) -> bytes:
    data = size.to_bytes(8)
    return data + zlib.crc32(data).to_bytes(4)


def _parse(data: bytes) -> int:
    """Return the number; 0 for what is none."""
    if len(data) != _BYTES or zlib.crc32(data[:8]).to_bytes(4) != data[8:]:
        return 0
    return int.from_bytes(data[:8])
