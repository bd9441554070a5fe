"""
A log: entries in order, none of which can change, leave or move unseen.

On disk it is a C2SP tlog-tiles directory, which any static file server can
serve and other people's tools can verify.  A checkpoint, signed, commits to
every entry.  The engine is the same for statements and for predictions.

Opening takes no lock, starts no thread and writes nothing.  The first append
takes the lock, recovers what a crash may have left, and from then on this
process is the one writer; readers run beside it, and read what is published.

Edge: a log proves that nothing below a checkpoint *you hold* was changed.
Somebody with the key can cut or fork it, and only an older checkpoint, kept
elsewhere, tells.

Source: c2sp.org/tlog-tiles, c2sp.org/tlog-checkpoint; ``docs/spec/log.md``.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from secureml.errors import ConsistencyError, StoreBusyError, StoreError
from secureml.evidence._files import Files
from secureml.evidence._lock import WriterLock
from secureml.evidence._proving import consistency, prove
from secureml.evidence._reader import LogDirectory, Sighting, no_log
from secureml.evidence._recovery import Recovery, Settings, own_verifier
from secureml.evidence._tree import FULL, tile_width
from secureml.evidence._writer import MAX_ENTRY, InterruptedWriteError, Writer, closed
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.keys.signer import Signer
from secureml.keys.verifier import Verifier
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.tlogproof import TlogProof

__all__ = ["MAX_ENTRY", "Log", "Recovery", "VerifiedLog", "WriterLock", "verify_log"]


class Log:
    """
    A log, to read and, with a signer, to write.

    Made by `Log.open`.  A context manager; `close` publishes what is pending.
    Threads may share it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Settings | None,
        lock: WriterLock | None,
        origin: str | None,
    ) -> None:
        self._directory = LogDirectory(directory)
        self._settings = settings
        self._lock = lock
        self._origin = origin
        self._writer: Writer | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        private: str | os.PathLike[str] | None = None,
        origin: str | None = None,
        signer: Signer | None = None,
        purpose: str = "log",
        create: bool = False,
        previous: Sequence[Verifier] = (),
        lock: WriterLock | None = None,
        files: Files | None = None,
    ) -> Self:
        """
        Open the log in *directory*; nothing is written yet.

        Args:
            directory: The log.
            private: Where the lock, the write-ahead file and the last
                checkpoint seen are; ``<directory>.private`` by default.  Needed
                to write only.
            origin: The log's name, the first line of each checkpoint.  A new
                log needs one; an existing one has to have this one.
            signer: Signs checkpoints (Ed25519); without it the log is read only.
            purpose: What the signer is asked for: ``log`` or ``audit``.
            create: Begin a log at the first append or publish if there is
                none.  False makes a missing log an error, so that a lost
                volume never becomes a new, empty log.
            previous: Keys that signed earlier checkpoints of this log.
            lock: Share this lock; by default that of *private*.
            files: The operating system, for tests.

        Raises:
            StoreError: There is no log, and *create* is false.
            ConsistencyError: The log has another origin.
            FormatError: The checkpoint is not one.
            ValueError: *create* without a signer or an origin.
        """
        path = Path(os.path.abspath(directory))  # noqa: PTH100  links in it stay what they are
        seen = LogDirectory(path).sighting()
        if seen is None and not create:
            raise no_log(path)
        if create and signer is None:
            msg = "create=True needs a signer: a log begins with a signed checkpoint"
            raise ValueError(msg)
        if seen is None and origin is None:
            msg = "a new log needs an origin, the name that its checkpoints begin with"
            raise ValueError(msg)
        if seen is not None and origin not in {None, seen.checkpoint.origin}:
            raise ConsistencyError(
                f"{str(path)!r} is another log",
                why=f"its checkpoint names {seen.checkpoint.origin!r}, expected was {origin!r}",
                fix="open the directory that belongs to this origin",
            )
        settings = None
        if signer is not None:
            inside = path.with_name(path.name + ".private") if private is None else Path(private)
            settings = Settings(
                directory=path,
                private=Path(os.path.abspath(inside)),  # noqa: PTH100  as above
                origin=origin,
                signer=signer,
                purpose=purpose,
                previous=tuple(previous),
                create=create,
                files=files or Files(),
            )
            lock = lock or WriterLock(settings.private / "lock")
        return cls(
            path,
            settings=settings,
            lock=lock,
            origin=origin if seen is None else seen.checkpoint.origin,
        )

    # Facts

    @property
    def directory(self) -> Path:
        """Where the log is."""
        return self._directory.path

    @property
    def origin(self) -> str:
        """The log's name: the first line of each checkpoint."""
        return self._origin or self._directory.require().checkpoint.origin

    @property
    def size(self) -> int:
        """Number of published entries: those under the checkpoint."""
        writer = self._writer
        if writer is not None and writer.current():
            return writer.published
        seen = self._directory.sighting()
        return 0 if seen is None else seen.checkpoint.size

    @property
    def files(self) -> Files:
        """The operating system that it writes through."""
        return self._writing().files

    @property
    def pending(self) -> int:
        """Number of entries that this process appended and nobody published yet."""
        writer = self._writer
        return 0 if writer is None else writer.size - writer.published

    @property
    def recovered(self) -> Recovery | None:
        """What the first append found that a crash had left; None when nothing."""
        writer = self._writer
        return None if writer is None else writer.recovered

    def checkpoint_note(self) -> str:
        """
        Return the current checkpoint, a signed note.

        Raises:
            StoreError: There is none yet.
        """
        return self._directory.require().note

    def log_id(self) -> bytes:
        """
        Return the fingerprint of the key that signed the checkpoint, 32 bytes.

        Raises:
            StoreError: The log is open without a signer.
            VerificationError: Neither the signer nor a previous key signed it.
        """
        settings = self._writing()
        seen = self._directory.require()
        verifier = own_verifier(seen, (settings.signer.verifier, *settings.previous))
        return bytes.fromhex(verifier.fingerprint.removeprefix("sha256:"))

    # Write

    def append(self, entry: bytes, *, sync: bool = True) -> int:
        """
        Append *entry* and return its index, from 0.

        Args:
            entry: 1 to 65,535 bytes.
            sync: Return when it is on the disk; threads that wait together
                share one wait.  Without it the entry survives this process,
                but not a loss of power within the next moments.

        Raises:
            StoreBusyError: Another process writes, or this is a fork of the writer.
            StoreError: The entry was not written; the log takes no more until
                it is opened again.
            ConsistencyError: At the first append: the log on the disk is not
                the one that this machine signed.
            ValueError: An entry that is empty or too long.
            TypeError: An entry that is not bytes.
        """
        if type(entry) is not bytes:
            msg = f"an entry is bytes, not {type(entry).__name__}"
            raise TypeError(msg)
        if not 0 < len(entry) <= MAX_ENTRY:
            msg = f"an entry has 1 to {MAX_ENTRY:,} bytes, this one {len(entry):,}: put large "
            msg += "things beside the log and append their digest"
            raise ValueError(msg)
        try:
            return (self._writer or self._acquire()).append(entry, sync=sync)
        except InterruptedWriteError:
            return self._acquire().append(entry, sync=sync)

    def publish(self) -> str:
        """
        Publish what is pending, and return the checkpoint that covers it.

        The first one of a new log may be empty.  With nothing to do, nothing
        is written.

        Raises:
            StoreBusyError: Another process writes, or this is a fork of the writer.
            StoreError: The system refuses; what was acknowledged is kept.
            ConsistencyError: As `append`.
            KeyUnavailableError: The signer cannot sign now.
        """
        try:
            return (self._writer or self._acquire()).publish()
        except InterruptedWriteError:
            return self._acquire().publish()

    def commit(self, entries: Sequence[bytes]) -> str:
        """
        Append entries that are safe elsewhere, publish them, and return the checkpoint.

        Nothing of them goes through the write-ahead file: if this fails, or the
        process dies, they are in the log as a whole or not at all, and whoever
        keeps them looks which it was and offers them again.

        Raises:
            StoreBusyError, StoreError, ConsistencyError, KeyUnavailableError: As `publish`.
            ValueError: An entry that is empty or too long.
        """
        if any(not 0 < len(entry) <= MAX_ENTRY for entry in entries):
            msg = f"an entry has 1 to {MAX_ENTRY:,} bytes"
            raise ValueError(msg)
        try:
            return (self._writer or self._acquire()).commit(entries)
        except InterruptedWriteError:
            return self._acquire().commit(entries)

    def twin(
        self, lock: WriterLock, observe: Callable[[int, list[bytes]], None] | None = None
    ) -> "Log":
        """
        Return another object for the same log, to write under another lock.

        Args:
            lock: What makes its holder the writer.
            observe: Is shown every entry that recovery reads.

        Raises:
            StoreError: The log is open without a signer.
        """
        settings = replace(self._writing(), observe=observe)
        return type(self)(self.directory, settings=settings, lock=lock, origin=self._origin)

    def acquire(self) -> None:
        """
        Become the writer now: take the lock, and recover.

        Raises:
            StoreBusyError: Another process writes.
            StoreError: The system refuses, or the log is open without a signer.
            ConsistencyError: As `append`.
        """
        with self.exclusive():
            pass

    @contextmanager
    def exclusive(self) -> Iterator[int]:
        """
        Hold the log while an entry that depends on its place is made.

        Yields the index that the next entry will have.  Other threads wait;
        append without ``sync`` inside, and `flush` after, so that they can
        share the wait for the disk.

        Raises:
            StoreBusyError: Another process writes, or this is a fork of the writer.
            StoreError: An earlier write failed.
        """
        writer = self._writer or self._acquire()
        writer.check()
        if not writer.whole():
            writer = self._acquire()
        with writer.mutex:
            yield writer.size

    def flush(self) -> None:
        """
        Return when every entry appended so far is on the disk.

        Raises:
            StoreError: The disk may not have them; the log takes no more entries.
        """
        if self._writer is not None:
            self._writer.flush()

    def _writing(self) -> Settings:
        if self._closed:
            raise closed(self.directory)
        if self._settings is None:
            raise StoreError(
                f"the log in {str(self.directory)!r} is open for reading only",
                why="it was opened without a signer",
                fix="open it with signer= and private= to write",
            )
        return self._settings

    def _acquire(self) -> Writer:
        settings = self._writing()
        lock = self._lock or WriterLock(settings.private / "lock")
        with lock.mutex:
            old, self._writer = self._writer, None
            if old is not None:
                lock.leave(old)
            writer = lock.writer(settings.directory, lambda: Writer(settings))
            if writer.verifier != settings.signer.verifier:
                lock.leave(writer)
                raise StoreBusyError(
                    f"the log in {str(self.directory)!r} is being written with another key",
                    why=f"this process opened it before with {writer.verifier.fingerprint}",
                    fix="close that log first",
                )
            self._writer = writer
            self._origin = writer.origin
            return writer

    # Read

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

    # End

    def release(self) -> None:
        """Give up the lock and publish nothing; the next append takes it again, and recovers."""
        writer, self._writer = self._writer, None
        if writer is not None and self._lock is not None:
            self._lock.leave(writer)

    def close(self) -> None:
        """
        Publish what is pending, and give up the lock.

        Raises:
            StoreError: The system refuses; what was acknowledged is kept, in
                the write-ahead file.
        """
        if self._closed:
            return
        writer, self._writer = self._writer, None
        self._closed = True
        if writer is None or self._lock is None:
            return
        try:
            writer.finish()
        finally:
            self._lock.leave(writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Log {self._origin!r} in {str(self.directory)!r}>"
