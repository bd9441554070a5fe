"""
Statements in a log: envelopes in order, each with the time it was logged.

An envelope that makes its leaf too long lies in a blob, which is on the disk
before the leaf that names it.  The time in a leaf never goes back: it is the
clock's, or the time of the leaf before where the clock is behind that.

What is found by a digest is found through an index in memory, and read again
from the log before it is handed out.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from secureml import clock as clocks
from secureml.clock import Clock, format_time
from secureml.errors import ConsistencyError, FormatError
from secureml.evidence.blobs import BlobStore
from secureml.evidence.log import Log
from secureml.wire.bundle import KIND, VERSION, Bundle, PublicKeyHint, TlogEntry
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.logentry import LogEntry

__all__ = ["Logged", "StatementLog", "check_times"]


@dataclass(frozen=True, slots=True)
class Logged:
    """
    An envelope and its place in a log.

    Attributes:
        index: Position of the leaf, from 0.
        at: Time of the append, ``YYYY-MM-DDThh:mm:ss.ffffffZ``.
        envelope: The envelope; nothing about it was verified.
    """

    index: int
    at: str
    envelope: Envelope


class StatementLog:
    """
    A log whose entries are statements.

    Args:
        log: The log, which stays the caller's to close.
        blobs: Takes what is too large for a leaf.
        clock: Returns the time now.
    """

    def __init__(self, log: Log, blobs: BlobStore, clock: Clock = clocks.now) -> None:
        self.log = log
        self.blobs = blobs
        self._clock = clock
        self._last = (-1, "")
        self._mutex = threading.Lock()
        self._indexed = 0
        self._by_subject: dict[tuple[str, str], list[int]] = {}
        self._by_name: dict[bytes, list[int]] = {}

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self.log.origin

    def __len__(self) -> int:
        return self.log.size + self.log.pending

    def append(self, envelope: Envelope) -> Logged:
        """
        Log *envelope*; when this returns it is on the disk.

        Raises:
            StoreBusyError: Another process writes, or this is a fork of the writer.
            StoreError: It could not be written.
            ConsistencyError: The log on the disk is not the one that this
                machine signed.
        """
        with self.log.exclusive() as index:
            at = max(format_time(self._clock()), self._time_before(index))
            leaf, blob = LogEntry.of(envelope, at)
            if blob is not None:
                self.blobs.put(blob)
            self.log.append(leaf, sync=False)
            self._last = (index, at)
        self.log.flush()
        return Logged(index, at, envelope)

    def _time_before(self, index: int) -> str:
        if index == 0:
            return ""
        if self._last[0] == index - 1:
            return self._last[1]
        return LogEntry.decode(self.log.entry(index - 1)).at

    def read(self, index: int) -> Logged:
        """
        Return the statement at *index*.

        Raises:
            IndexError: There is none.
            FormatError: The leaf, or its blob, is not in its format.
            VerificationError: The blob is gone or was changed.
            StoreError: The system could not read it.
        """
        return self._logged(index, self.log.entry(index))

    def __iter__(self) -> Iterator[Logged]:
        for index, leaf in enumerate(self.log.entries()):
            yield self._logged(index, leaf)

    def _logged(self, index: int, leaf: bytes) -> Logged:
        entry = LogEntry.decode(leaf)
        if entry.envelope is not None:
            return Logged(index, entry.at, entry.envelope)
        if entry.blob is None:  # pragma: no cover  LogEntry has one of the two
            msg = "a log entry has an envelope or a blob"
            raise ValueError(msg)
        return Logged(index, entry.at, Envelope.decode(self.blobs.get(entry.blob.digest)))

    def find(self, digest: Digest, predicate_type: str | None = None) -> list[Logged]:
        """
        Return the statements about a subject, in order.

        Args:
            digest: One of the subject's digests.
            predicate_type: Only statements of this type.

        Raises:
            FormatError: A leaf, or its blob, is not in its format.
            VerificationError: A blob is gone or was changed.
            StoreError: The system could not read the log.
        """
        with self._mutex:
            self._refresh()
            found = tuple(self._by_subject.get((digest.algorithm, digest.hex), ()))
        return [
            logged
            for logged in map(self.read, found)
            if _is_about(logged.envelope, digest, predicate_type)
        ]

    def named(self, digest: Digest) -> list[Logged]:
        """
        Return the places of the statement whose payload has this SHA-256.

        Raises:
            As `find`.
        """
        with self._mutex:
            self._refresh()
            found = tuple(self._by_name.get(digest.value, ()))
        return [logged for logged in map(self.read, found) if logged.envelope.digest == digest]

    def _refresh(self) -> None:
        for leaf in self.log.entries(self._indexed):
            index = self._indexed
            envelope = self._logged(index, leaf).envelope
            self._by_name.setdefault(envelope.digest.value, []).append(index)
            for key in _subjects(envelope):
                self._by_subject.setdefault(key, []).append(index)
            self._indexed += 1

    def bundle(self, index: int, *, hint: str = "") -> Bundle:
        """
        Return the statement with the proof that it is under the checkpoint.

        Args:
            index: The leaf.
            hint: Names the signer's key where the envelope does not, as the
                envelope of a model signature.

        Raises:
            IndexError: It is not published.
            VerificationError: The files of the log do not make a proof.
            StoreError: The system could not read them, or the log is open
                without a signer.
        """
        proof = self.log.prove(index)
        envelope = self.read(index).envelope
        head = proof.head
        entry = TlogEntry(
            log_index=index,
            log_id=self.log.log_id(),
            kind=KIND,
            version=VERSION,
            body=self.log.entry(index),
            tree_size=head.size,
            root=head.root,
            path=proof.path,
            checkpoint=proof.checkpoint,
        )
        return Bundle(envelope, PublicKeyHint(hint or envelope.signatures[0].keyid), (entry,))

    def publish(self) -> str:
        """
        Publish what is pending, and return the checkpoint that covers it.

        Raises:
            As `Log.publish`.
        """
        return self.log.publish()

    def close(self) -> None:
        """
        Publish what is pending, and close the log.

        Raises:
            As `Log.close`.
        """
        self.log.close()


def _subjects(envelope: Envelope) -> set[tuple[str, str]]:
    try:
        statement = envelope.statement()
    except FormatError:
        return set()
    return {
        (algorithm, value)
        for subject in statement.subject
        for algorithm, value in subject.digest.items()
    }


def _is_about(envelope: Envelope, digest: Digest, predicate_type: str | None) -> bool:
    statement = envelope.statement()
    return predicate_type in {None, statement.predicate_type} and any(
        subject.digest.get(digest.algorithm) == digest.hex for subject in statement.subject
    )


def check_times(entries: Iterable[bytes]) -> None:
    """
    Check that the time never goes back from leaf to leaf.

    Raises:
        ConsistencyError: It does; the leaf is named.
        FormatError: A leaf is not a log entry.
    """
    before = ""
    for index, leaf in enumerate(entries):
        at = LogEntry.decode(leaf).at
        if at < before:
            raise ConsistencyError(
                f"entry {index} of the log was logged before entry {index - 1}",
                why=f"it says {at}, the entry before it says {before}",
                fix="the log was not written by secureml: do not rely on its times",
            )
        before = at
