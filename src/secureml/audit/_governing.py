"""
The part of an audit log that removes what must not stay: erasure, retention, holds, pruning.

Whoever begins leaves a mark in the private directory, and takes it away when
all is done: so after a crash the next writer finishes, without reading a
whole log to find out that nothing is left undone.

Source: docs/spec/retention.md.
"""

import contextlib
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from secureml.clock import Clock
from secureml.errors import GateDeniedError, SecureMLError, StoreError
from secureml.evidence._files import make_directories, store_error
from secureml.evidence._flock import Hold, hold, is_held
from secureml.wire.canonical import JSON

if TYPE_CHECKING:
    from secureml.audit.erasing import Erasure
    from secureml.audit.policies import RetentionPolicy
    from secureml.audit.pseudonyms import Pseudonyms
    from secureml.audit.retention import Due, Pruned
    from secureml.evidence.log import Log
    from secureml.sealing import SubjectKeys

__all__ = ["Governing"]

_HELD: Final = "held"
"""Name of the mark for what a hold keeps from being removed."""


class Governing:
    """
    What an audit log does about what it no longer keeps.

    Attributes:
        log: The transparency log.
        details: Directory of the values.
        private: Directory of keys, spools and marks.
        pseudonyms: Names of people.
        clock: Tells the time.
        unfinished: Why what a crash had left could not be finished; None while all is well.
    """

    log: "Log"
    details: Path
    private: Path
    pseudonyms: "Pseudonyms"
    clock: Clock
    unfinished: SecureMLError | None = None
    _subjects: "SubjectKeys | None" = None

    def append(self, body: Mapping[str, JSON], *, durable: bool = False) -> object:
        """Append a record."""
        raise NotImplementedError

    def publish(self) -> str:
        """Put every record so far under a checkpoint."""
        raise NotImplementedError

    @property
    def subjects(self) -> "SubjectKeys":
        """The keys of the people whose values are encrypted."""
        if self._subjects is None:
            from secureml.sealing import SubjectKeys

            self._subjects = SubjectKeys(self.private)
        return self._subjects

    # Erasure

    def erase(
        self,
        subject: object = None,
        *,
        reason: str,
        pseudonym: str | None = None,
        records: Collection[str] = (),
        authority: str | None = None,
    ) -> "Erasure":
        """
        Erase what was captured about a person, or with some records, up to now.

        Beside any number of writers; repeating it is harmless.

        Args:
            subject: The person, as ``user`` was given.
            reason: Why, 1 to 128 characters; stands in the log, so no personal data.
            pseudonym: Instead of *subject*: the person's name in the log.
            records: Ids of records whose lines are to go as well.
            authority: Who decided, as *reason*.

        Raises:
            TypeError: *subject* cannot be one.
            ValueError: Nothing to erase is named, an id or *reason* is malformed.
            GateDeniedError: A legal hold forbids it.  When it came in between, the leaf is
                there, and `release` removes what it says.
            LookupError: No record has one of these ids.
            StoreError, KeyUnavailableError: It could not be done, or not to the end: call
                again.
        """
        from secureml.audit.erasing import erase

        with self._marked():
            return erase(
                self,
                subject,
                reason=reason,
                pseudonym=pseudonym,
                records=records,
                authority=authority,
                keys=self.subjects,
                scratch=self._scratch(),
            )

    # Retention

    def set_retention(self, policy: "RetentionPolicy") -> tuple[str, ...]:
        """
        Record how long records are kept from here on; return the policy's warnings.

        Raises:
            StoreError: The record was not accepted.
        """
        from secureml.audit.retention import set_policy

        return set_policy(self, policy)

    def hold(self, name: str, *, subjects: Collection[str] = ()) -> None:
        """
        Place a legal hold: nothing is pruned, and nothing of *subjects* erased.

        Returns when the hold is in the log, so that whoever removes something sees it.

        Args:
            name: 1 to 128 characters; no personal data.
            subjects: Pseudonyms of the people it is about; without any, it is about all.

        Raises:
            ValueError: *name* has another length.
            StoreError: The record was not accepted.
        """
        from secureml.audit.retention import place_hold

        place_hold(self, name, subjects=subjects)
        self.publish()

    def release(self, name: str) -> None:
        """
        Release a legal hold, and remove what it had kept from being removed.

        Raises:
            ValueError: *name* has another length.
            StoreError, KeyUnavailableError: The record was not accepted, or what was kept
                could not all be removed: call `complete`.
        """
        from secureml.audit.retention import release_hold

        release_hold(self, name)
        self.publish()
        if self._left():
            self.complete()

    def due(self, *, now: datetime | None = None) -> "Due":
        """
        Return what the policy no longer keeps.

        Args:
            now: What ages are counted to; the time by the log's clock.

        Raises:
            FormatError: A leaf is no record.
            StoreError: What this process wrote could not be published.
        """
        from secureml.audit.retention import due

        self.publish()
        return due(self.log, now or self.clock())

    def prune(self, *, now: datetime | None = None) -> "Pruned":
        """
        Remove the records that the policy no longer keeps, and what they captured.

        Beside any number of writers.

        Args:
            now: What ages are counted to; the time by the log's clock.

        Raises:
            GateDeniedError: There is no policy, or a legal hold is placed.
            StoreError: It could not be done, or not to the end: call `complete`.
        """
        from secureml.audit.retention import prune

        with self._marked():
            return prune(self, now=now or self.clock(), scratch=self._scratch())

    def complete(self) -> "tuple[Erasure, Pruned | None]":
        """
        Do what leaves of the log say is gone and a crash, or a hold, left undone.

        A writer that begins does it by itself after a crash, in a thread.

        Returns what was erased, and what was pruned; None for the latter where a hold
        keeps everything.

        Raises:
            StoreError, KeyUnavailableError: It could not be done to the end: call again.
        """
        from secureml.audit.erasing import complete_erasures
        from secureml.audit.retention import complete_pruning, holds

        left = self._left()
        self.publish()
        erased = complete_erasures(self, keys=self.subjects, scratch=self._scratch())
        pruned: Pruned | None = None
        with contextlib.suppress(GateDeniedError):
            pruned = complete_pruning(self, scratch=self._scratch())
        if left and holds(self.log):
            self._put(self._marks / _HELD).close()
            left = [mark for mark in left if mark.name != _HELD]
        self._take(left)
        return erased, pruned

    # What is left undone

    def _finish_after_crash(self) -> None:
        """Do in a thread what whoever died had begun; what a hold keeps waits for its release."""
        if any(path.name != _HELD for path in self._left()):
            threading.Thread(
                target=self._complete_by_itself, name="secureml-erasing", daemon=True
            ).start()

    def _complete_by_itself(self) -> None:
        try:
            self.complete()
        except SecureMLError as error:
            self.unfinished = error
        else:
            self.unfinished = None

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        """Leave a mark while something is removed; it stays when that is not done to the end."""
        mark = self._marks / secrets.token_hex(8)
        held = self._put(mark)
        try:
            yield
        except GateDeniedError:
            # Perhaps the hold came when the leaf was written: then it is done later.
            self._put(self._marks / _HELD).close()
            self._take([mark])
            raise
        except (TypeError, ValueError, LookupError):
            self._take([mark])
            raise
        else:
            self._take([mark])
        finally:
            held.close()

    @property
    def _marks(self) -> Path:
        return self.private / "unfinished" / self.log.directory.name

    def _left(self) -> list[Path]:
        """Return the marks of those who are at work no more."""
        try:
            return [path for path in sorted(self._marks.iterdir()) if not is_held(path)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._refused(error) from error

    def _put(self, mark: Path) -> Hold:
        files = self.log.files
        changed: set[Path] = {mark.parent}
        try:
            make_directories(files, mark.parent, mode=0o700, changed=changed)
            # Its lock tells a mark of who is at work from that of who died.
            held = hold(mark)
            for directory in sorted(changed):
                files.sync_directory(directory)
        except OSError as error:
            raise self._refused(error) from error
        return held

    def _take(self, marks: list[Path]) -> None:
        try:
            for mark in marks:
                with contextlib.suppress(FileNotFoundError):
                    self.log.files.remove(mark)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StoreError:
        return store_error(
            f"what is being removed could not be noted in {str(self._marks)!r}", error
        )

    def _scratch(self) -> Path | None:
        """Return where a details file may be written anew: it is renamed into the details."""
        try:
            same = self.private.stat().st_dev == self.details.stat().st_dev
        except OSError:
            return None
        return self.private if same else None
