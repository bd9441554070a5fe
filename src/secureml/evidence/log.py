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
from secureml.evidence._logreading import Readable
from secureml.evidence._reader import LogDirectory, no_log
from secureml.evidence._recovery import Recovery, own_verifier
from secureml.evidence._settings import Settings
from secureml.evidence._writer import MAX_ENTRY, InterruptedWriteError, Writer, closed
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.keeping import Keeping
from secureml.evidence.pruning import Prune
from secureml.keys.signer import Signer
from secureml.keys.verifier import Verifier

__all__ = ["MAX_ENTRY", "Log", "Recovery", "VerifiedLog", "WriterLock", "verify_log"]


class Log(Readable):
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
        super().__init__(directory)
        self._settings = settings
        self._lock = lock
        self._origin = origin
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
        also: Sequence[Signer] = (),
        keeping: Keeping | None = None,
        pruned: Callable[[bytes], Prune | None] | None = None,
        recheck: bool = False,
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
            signer: Signs checkpoints (Ed25519); without it, and without epoch keys in
                *keeping*, the log is read only.
            purpose: What the signer is asked for: ``log`` or ``audit``.
            create: Begin a log at the first append or publish if there is
                none.  False makes a missing log an error, so that a lost
                volume never becomes a new, empty log.
            previous: Keys that signed earlier checkpoints of this log.
            lock: Share this lock; by default that of *private*.
            files: The operating system, for tests.
            also: ML-DSA-44 keys of the log that sign beside the signer, one as a rule.
            keeping: Epoch keys in the signer's place, and the sealed tail.
            pruned: Returns what an entry says about removed ones, and None for every
                other; without it a log of which entries were pruned is not written to.
            recheck: Read every entry before the first append, also where the writer of an
                audit log could go on from what the last one had read.  Others always do.

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
        signs = signer is not None or (keeping is not None and keeping.epochs is not None)
        if create and not signs:
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
        if signs:
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
                also=tuple(also),
                keeping=keeping,
                pruned=pruned,
                recheck=recheck,
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

    @property
    def published_note(self) -> str:
        """The checkpoint that this process published last; empty where it is not the writer."""
        writer = self._writer
        return writer.note if writer is not None and writer.current() else ""

    def log_id(self) -> bytes:
        """
        Return the fingerprint of the key that signed the checkpoint, 32 bytes.

        Raises:
            StoreError: The log is open without a signer.
            VerificationError: Neither the signer nor a previous key signed it; or the keys
                follow each other, and another process writes.
        """
        settings = self._writing()
        seen = self._directory.require()
        writer = self._writer
        verifiers = settings.verifiers if writer is None else writer.verifiers
        verifier = own_verifier(seen, verifiers)
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

    @property
    def hands_over(self) -> bool:
        """Whether the next `commit`, be it of nothing, announces the log's next key."""
        writer = self._writer
        return writer is not None and writer.due

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """
        The key that signs now, and those before it that may have signed the checkpoint.

        Where keys follow each other, only the writer knows them: none for everybody else.
        """
        writer = self._writer
        return self._writing().verifiers if writer is None else writer.verifiers

    @property
    def private(self) -> Path:
        """The private directory of its writers."""
        return self._writing().private

    @property
    def keeping(self) -> Keeping | None:
        """What its writer does beside publishing."""
        return self._writing().keeping

    def twin(
        self,
        lock: WriterLock,
        observe: Callable[[int, list[bytes]], None] | None = None,
        restore: Callable[[bytes], None] | None = None,
    ) -> "Log":
        """
        Return another object for the same log, to write under another lock.

        Args:
            lock: What makes its holder the writer.
            observe: Is shown every entry that recovery reads.
            restore: Is told what was given to `note_prefix`, when recovery reads what came
                after that alone; ``b""`` when it reads all.

        Raises:
            StoreError: The log is open without a signer.
        """
        settings = replace(self._writing(), observe=observe, restore=restore)
        return type(self)(self.directory, settings=settings, lock=lock, origin=self._origin)

    def note_prefix(self, memo: bytes) -> None:
        """
        Note for the next writer how far this one has read, and what it made of it.

        Never fails: without the note the next writer reads every entry.
        """
        if self._writer is not None:
            self._writer.note_prefix(memo)

    def kept(
        self,
        *,
        keeping: Keeping | None,
        also: Sequence[Signer] = (),
        pruned: Callable[[bytes], Prune | None] | None = None,
    ) -> "Log":
        """
        Return another object for the same log, to be written with these choices.

        Args:
            keeping: As in `open`; None leaves what there is.
            also: As in `open`; none leaves what there is.
            pruned: As in `open`.

        Raises:
            StoreError: The log is open for reading only.
        """
        at = self._writing()
        settings = replace(
            at,
            keeping=keeping or at.keeping,
            also=tuple(also) or at.also,
            pruned=pruned or at.pruned,
        )
        return type(self)(self.directory, settings=settings, lock=self._lock, origin=self._origin)

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
            if not writer.fits(settings):
                lock.leave(writer)
                raise StoreBusyError(
                    f"the log in {str(self.directory)!r} is being written with another key",
                    why="this process opened it before with "
                    + ", ".join(one.fingerprint for one in writer.verifiers[:1]),
                    fix="close that log first",
                )
            self._writer = writer
            self._origin = writer.origin
            return writer

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
