"""
The part of a log that reads it; nothing but `Readable.verify` verifies anything.

Readers run beside the writer, and read what is published; the writer's process
also sees what is pending.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from secureml.evidence._proving import consistency, prove
from secureml.evidence._reader import LogDirectory, Sighting
from secureml.evidence._tree import FULL, tile_width
from secureml.evidence._writer import Writer
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.trust import Trust
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.tlogproof import TlogProof

__all__ = ["Readable"]


class Readable:
    """What `Log` reads; the directory, and the writer when this process has one."""

    def __init__(self, directory: Path) -> None:
        self._directory = LogDirectory(directory)
        self._writer: Writer | None = None

    def entry(self, index: int) -> bytes:
        """
        Return one entry; the writer's process also sees its pending ones.

        Nothing is verified: this is for the owner of the log.  Others use
        `verify_log`.

        Raises:
            IndexError: There is no such entry.
            UnexpectedFileError: A file of the log is gone.
            FormatError: A file of the log is not in its format.
            StoreError: The system could not read it.
        """
        for one in self.entries(index, index + 1):
            return one
        msg = f"the log has no entry {index}"
        raise IndexError(msg)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """
        Yield entries *start* up to, not including, *stop*.

        Ends early where the log ends; the writer's process also sees its
        pending ones.

        Raises:
            ValueError: *start* is below 0.
            UnexpectedFileError: A file of the log is gone.
            FormatError: A file of the log is not in its format.
            StoreError: The system could not read it.
        """
        if start < 0:
            msg = f"entries are counted from 0, not from {start}"
            raise ValueError(msg)
        while stop is None or start < stop:
            some = self._some(start)
            if stop is not None:
                some = some[: stop - start]
            if not some:
                return
            yield from some
            start += len(some)

    def _some(self, start: int) -> Sequence[bytes]:
        """Return the entries from *start* to the end of its bundle, none at the end of the log."""
        writer = self._writer
        if writer is not None and writer.current():
            waiting = writer.pending_from(start)
            if waiting is not None:
                return waiting

        def read(seen: Sighting) -> Sequence[bytes]:
            size = seen.checkpoint.size
            if start >= size:
                return ()
            index = start // FULL
            return self._directory.bundle(index, tile_width(size, 0, index))[start % FULL :]

        if self._directory.sighting() is None:
            return ()
        return self._directory.at_checkpoint(read)

    def verify(
        self,
        *,
        trust: Trust,
        role: str = "log",
        remembered: Sequence[str] = (),
        anchors: Sequence[str] = (),
    ) -> VerifiedLog:
        """
        Check every file of the log as a stranger would: the same as `verify_log`.

        What an audit log's records say is the matter of
        `secureml.audit.verification.verify_audit`.

        Args:
            trust: The reviewed root.
            role: ``log``, or ``audit`` for an audit log.
            remembered: Signed checkpoints that were kept outside of the directory.
            anchors: Signed checkpoints found inside other evidence.

        Raises:
            VerificationError, FormatError, StoreError: As `verify_log`.
        """
        return verify_log(
            self._directory.path, trust=trust, role=role, remembered=remembered, anchors=anchors
        )

    def prove(self, index: int) -> TlogProof:
        """
        Return the proof that entry *index* is under the current checkpoint.

        It is checked before it is handed out.

        Raises:
            IndexError: The entry is not published.
            VerificationError: The files of the log do not make a proof.
            StoreError: The system could not read them.
        """
        return prove(self._directory, index)

    def consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """
        Return the proof that the first *old* entries begin the first *new*.

        Args:
            old: Size of the earlier tree.
            new: Size of the later one; the published size by default.

        Raises:
            ValueError: Not ``0 <= old <= new <= size``.
            VerificationError: A file of the log is gone or not in its format.
            StoreError: The system could not read them.
        """
        return consistency(self._directory, old, new)
