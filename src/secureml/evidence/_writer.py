"""
The one writer of a log: recovery, append, publish.

Append puts an entry into the write-ahead file and its hash into the tree;
that is all.  Publish writes bundles and tiles, then the checkpoint that
covers them, then remembers that checkpoint, then empties the write-ahead
file.  In this order a crash between any two steps leaves either the old
checkpoint and every acknowledged entry behind it, or the new one.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from secureml.errors import SecureMLError, StoreError
from secureml.evidence import notes
from secureml.evidence._files import store_error, write_batch
from secureml.evidence._lock import forked
from secureml.evidence._prefix import Prefix
from secureml.evidence._reader import CHECKPOINT, LogDirectory
from secureml.evidence._recovery import recover
from secureml.evidence._settings import Settings
from secureml.evidence._tree import FULL, HASH, hash_leaves, partials
from secureml.evidence._wal import Wal
from secureml.evidence.keeping import Kept
from secureml.keys.verifier import Verifier
from secureml.wire import tiles
from secureml.wire.checkpoint import Checkpoint

__all__ = ["MAX_ENTRY", "InterruptedWriteError", "Writer", "closed"]

T = TypeVar("T")

MAX_ENTRY = 65_535
"""Bytes in the largest entry: its length is written in two."""

PUBLISH_ENTRIES = 4_096
PUBLISH_BYTES = 8 << 20
"""A log publishes by itself when so much waits, so its memory stays bounded."""


class InterruptedWriteError(Exception):
    """A call was interrupted halfway, or the directory replaced: recover, and then go on."""


class Writer:
    """
    Writes one log; made by the lock, shared by the objects of one process.

    Attributes:
        origin: First line of every checkpoint.
        recovered: What a crash had left; None when nothing.
        published: Entries under the checkpoint.
        note: The checkpoint, signed; empty before the first.
    """

    def __init__(self, settings: Settings) -> None:
        """
        Recover the log and open it for appending.

        Raises:
            ConsistencyError: What is on the disk is not what this machine signed.
            VerificationError: The checkpoint is not signed by this log's key,
                or the entries do not lead to its root.
            StoreError: The system refuses.
        """
        self.mutex = threading.RLock()
        self._sync_mutex = threading.Lock()
        self._pid = os.getpid()
        self._settings = settings
        self._files = settings.files
        self._users = 1
        self._dead = ""
        self._torn = False
        self._orphan = False
        try:
            found = recover(settings)
        except OSError as error:
            raise store_error(
                f"could not recover the log in {str(settings.directory)!r}", error
            ) from error
        self.origin = found.origin
        self._kept = found.kept
        self._pruning = found.pruning
        self.note = found.note
        self.published = found.published
        self.recovered = found.recovery
        self._tree = found.tree
        self._edge = found.edge
        self._pending = found.pending
        self._pending_bytes = sum(map(len, found.pending))
        self._synced = found.tree.size
        self._wal: Wal | None = found.wal

    def _remove(self, path: Path) -> None:
        self._files.remove(path)
        if path.parent.suffix == ".p" and not any(path.parent.iterdir()):
            self._files.remove_directory(path.parent)

    # Life

    def join(self) -> bool:
        """Count one more user; False when a new writer has to be made."""
        with self.mutex:
            wal = self._wal
            if self._dead or self._torn or wal is None or not wal.is_at(self._settings.wal):
                return False
            seen = LogDirectory(self._settings.directory).sighting()
            if ("" if seen is None else seen.note) != self.note:
                return False
            self._users += 1
            return True

    def leave(self) -> int:
        """Count one user less, and return how many are left; the last one closes."""
        if self._orphan or self._pid != os.getpid():  # pragma: no cover  in a forked child
            return 1
        with self.mutex:
            self._users -= 1
            if not self._users:
                self.shut()
            return self._users

    def shut(self) -> None:
        """Close the write-ahead file; what is in it stays there."""
        with self.mutex, self._sync_mutex:
            if self._wal is not None:
                self._wal.close()
                self._wal = None
            # Whoever writes no more holds no key of an epoch.
            self._kept = None

    def orphan(self) -> None:  # pragma: no cover  in a forked child
        """Become useless: this is the copy that a forked child got."""
        self._orphan = True
        self._kept = None
        if self._wal is not None:
            self._wal.close()

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The key that signs its checkpoints, and those that may have signed the one there."""
        kept = self._kept
        return self._settings.verifiers if kept is None or not kept.verifiers else kept.verifiers

    def fits(self, at: Settings) -> bool:
        """Return whether it signs and keeps as *at* says."""
        mine = self._settings
        keys = [None if one.signer is None else one.signer.verifier for one in (mine, at)]
        return keys[0] == keys[1] and mine.keeping == at.keeping

    @property
    def due(self) -> bool:
        """Whether the next commit announces a key."""
        kept = self._kept
        return kept is not None and kept.due(self.size)

    @property
    def size(self) -> int:
        """Entries in the log, with those not yet published."""
        return self._tree.size

    def pending_from(self, start: int) -> list[bytes] | None:
        """Return the entries from *start* that are not published; None when it is published."""
        with self.mutex:
            if start < self.published:
                return None
            return self._pending[start - self.published :]

    def current(self) -> bool:
        """Return whether this process writes through it, so that what it holds is the log."""
        return self._wal is not None and not self._orphan and self._pid == os.getpid()

    def finish(self) -> None:
        """Publish what is pending, unless a failure left that to the next recovery."""
        if self.current():
            with self.mutex:
                if self.whole() and not self._dead and self._tree.size > self.published:
                    self.publish()

    def whole(self) -> bool:
        """Return whether no earlier call was interrupted halfway."""
        with self.mutex:
            return not self._torn and self._wal is not None

    def check(self) -> None:
        """
        Refuse in a forked child, and after a failure.

        Raises:
            StoreBusyError: This is a fork of the process that writes.
            StoreError: An earlier write failed.
        """
        if self._orphan or self._pid != os.getpid():
            raise forked()  # pragma: no cover  in a forked child
        if self._dead:
            raise StoreError(
                f"the log in {str(self._settings.directory)!r} takes no more entries",
                why=f"{self._dead}; what is on the disk has to be read anew first",
                fix="repair the disk or make room, then open the log again",
            )

    # Append

    def append(self, entry: bytes, *, sync: bool) -> int:
        """Append one entry; see `Log.append`."""
        self.check()
        with self.mutex:
            self.check()
            wal = self._wal
            if self._torn or wal is None:
                raise InterruptedWriteError
            if len(self._pending) >= PUBLISH_ENTRIES or self._pending_bytes >= PUBLISH_BYTES:
                self.publish()
            index = self._tree.size
            # An interrupt (Ctrl-C) between here and the end leaves this set.
            self._torn = True
            try:
                wal.append(index, self._synced, entry)
            except StoreError:
                self._dead = wal.broken
                raise
            if self._pruning is not None:
                self._pruning.visit(index, [entry])
            self._pending.append(entry)
            self._pending_bytes += len(entry)
            self._tree.append(sha256(b"\0" + entry).digest())
            self._torn = False
        if sync:
            self._sync(index + 1)
        return index

    def flush(self) -> None:
        """Return when every entry so far is on the disk."""
        self.check()
        self._sync(self._tree.size)

    def _sync(self, size: int) -> None:
        """Return when the first *size* entries are on the disk; many callers share one sync."""
        with self._sync_mutex:
            if self._synced >= size:
                return
            self.check()
            wal = self._wal
            if wal is None:  # pragma: no cover  another thread closed it just now
                raise closed(self._settings.directory)
            reached = self._tree.size
            try:
                wal.sync(size - 1)
            except StoreError:
                self._dead = wal.broken
                raise
            self._synced = reached

    def commit(self, entries: Sequence[bytes]) -> str:
        """Append entries that are kept elsewhere, and publish them; see `Log.commit`."""
        self.check()
        with self.mutex:
            self.check()
            if self._torn or self._wal is None:
                raise InterruptedWriteError
            if self._tree.size > self.published:
                self.publish()
            batch = list(entries)
            if self._kept is not None:
                batch += self._keep(lambda kept: kept.hand_over(self._tree.size + len(entries)))
            if not batch:
                return self.publish()
            self._torn = True
            try:
                self._wal.announce(self._tree.size + len(batch))
            except StoreError:
                self._dead = self._wal.broken
                raise
            if self._pruning is not None:
                self._pruning.visit(self._tree.size, batch)
            self._pending.extend(batch)
            self._tree.extend(hash_leaves(batch))
            self._torn = False
            return self.publish()

    def _keep(self, do: Callable[[Kept], T]) -> T:
        """Do something with keys and tail; when it fails, everything is read anew first."""
        if self._kept is None:  # pragma: no cover  its callers ask
            raise InterruptedWriteError
        self._torn = True
        try:
            done = do(self._kept)
        except SecureMLError as error:
            self._dead = f"{error.what}: {error.why}"
            raise
        self._torn = False
        return done

    # Publish

    def publish(self) -> str:
        """Publish what is pending; see `Log.publish`."""
        self.check()
        with self.mutex:
            self.check()
            if self._torn or self._wal is None:
                raise InterruptedWriteError
            size = self._tree.size
            if size == self.published and self.note:
                return self.note
            at = self._settings
            note = self._sign(size)
            self._sync(size)
            self._torn = True
            try:
                self._write(note, size)
            except OSError as error:
                self._torn = False
                self._dead = f"publishing failed: {error.strerror or error}"
                raise store_error(
                    f"could not publish the log in {str(at.directory)!r}",
                    error,
                    fix="make room or repair the disk, then open the log again: every "
                    "acknowledged entry is in the write-ahead file",
                ) from error
            self._torn = False
            if self._kept is not None:
                self._keep(lambda kept: kept.published(note))
            return note

    def note_prefix(self, memo: bytes) -> None:
        """Note for the next writer what is known of the published entries; see `_prefix`."""
        with self.mutex:
            size = self._tree.size
            if self._dead or self._torn or self._wal is None or size != self.published:
                return
            try:
                prune = None if self._pruning is None else self._pruning.last
                Prefix(self.origin, size, self._tree.root(), prune, memo).write(
                    self._settings.prefix, self._files
                )
            except OSError:
                # The next one reads more, or all.
                return

    def _sign(self, size: int) -> str:
        at = self._settings
        signer = at.signer if self._kept is None else self._kept.signer or at.signer
        if signer is None:  # pragma: no cover  Log.open refuses it
            raise closed(at.directory)
        checkpoint = Checkpoint(self.origin, size, self._tree.root())
        return notes.sign_checkpoint(checkpoint, signer, purpose=at.purpose, also=at.also)

    def _write(self, note: str, size: int) -> None:
        at = self._settings
        entries = self._edge + self._pending
        base = self.published - len(self._edge)
        old, new = partials(self.published), partials(size)

        def batch() -> Iterator[tuple[Path, bytes]]:
            # One after another, so that no second copy of all the entries is made.
            for start in range(0, len(entries), FULL):
                some = entries[start : start + FULL]
                path = tiles.entries_path((base + start) // FULL, len(some))
                yield at.directory / path, tiles.encode_bundle(some)
            for level, index, data in self._tree.take_full():
                yield at.directory / tiles.tile_path(level, index, FULL), data
            for level, index, data in self._tree.partial():
                path = tiles.tile_path(level, index, len(data) // HASH)
                if path not in old:
                    yield at.directory / path, data

        write_batch(self._files, batch())
        write_batch(self._files, [(at.directory / CHECKPOINT, note.encode())])
        # Losing this name would only mean to remember the one before; but the key that
        # signed the one before an epoch ended is forgotten with the next.
        last = self._kept is not None and self._kept.handing_over
        write_batch(self._files, [(at.remembered, note.encode())], private=True, names=last)
        if self._wal is not None:
            self._wal.reset()
        for path in old:
            if path not in new:
                self._remove(at.directory / path)
        tail = size % FULL
        self._edge = entries[len(entries) - tail :] if tail else []
        self._pending = []
        self._pending_bytes = 0
        self.published = size
        self.note = note


def closed(directory: Path) -> StoreError:
    """Return the error for a log that was closed."""
    return StoreError(
        f"the log in {str(directory)!r} is closed",
        why="close() was called",
        fix="open it again",
    )
