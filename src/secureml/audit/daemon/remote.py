"""
An audit log whose key and files are with the daemon: the application's side.

To everything above it is an audit log like any other: a queue in memory, one
writer for each process, acknowledgements.  Below it a socket is in the place
of the spool, and a follower in that of the sequencer.

Source: docs/spec/daemon.md.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from secureml.audit.appended import TIMEOUT
from secureml.audit.daemon._intake import RESERVED
from secureml.audit.daemon._line import PATIENCE, RemoteSpool, no_answer
from secureml.audit.sink import HEARTBEAT, AuditLog
from secureml.clock import Clock, now
from secureml.errors import SecureMLError, StoreError
from secureml.evidence.log import Log

if TYPE_CHECKING:
    from secureml.audit._anchoring import Anchoring
    from secureml.audit.appended import Appended
    from secureml.audit.details import Sealed
    from secureml.evidence._spool import Spool
    from secureml.evidence.sequencer import Sequencer
    from secureml.wire.canonical import JSON

__all__ = ["Follower", "RemoteAuditLog", "RemoteLog", "RemoteSpool", "connect"]

_LOOK: Final = 0.25
"""Seconds between two looks at an idle connection."""

_PAUSE: Final = 0.02
"""Seconds between two looks of who waits: another thread may have heard the answer."""

_NOWHERE: Final = Path(os.devnull)
_NONE: "Final[Mapping[str, Sealed]]" = {}


class Follower:
    """
    In the place of the sequencer, and of the anchors: what the daemon says of this writer.

    Attributes:
        spool: The writer's connection; None before there is one.
        error: Why nothing more is said; None while all is well.
    """

    def __init__(self) -> None:
        self.spool: RemoteSpool | None = None
        self.error: SecureMLError | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def inside(self) -> bool:
        """Whether this very thread is at work here, so that waiting for it would never end."""
        spool = self.spool
        return threading.current_thread() is self._thread or (spool is not None and spool.inside)

    def run(self) -> None:
        """Start the thread that listens while nobody else does, and comes again when it must."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=_loop,
                args=(weakref.ref(self), self._stop),
                name="secureml-follower",
                daemon=True,
            )
            self._thread.start()

    def look(self) -> None:
        """Hear what was said, and come again if the connection is lost and it is time."""
        if self.spool is not None:
            try:
                self.spool.tend()
            except SecureMLError as error:
                self.error = error

    def step(self, *, now: bool = False) -> bool:
        """Ask for a checkpoint over all there is, if *now*; the daemon sequences, not this."""
        if now and self.spool is not None:
            self.spool.want(self.spool.count)
        return False

    def wait(self, spool: RemoteSpool, below: int, timeout: float) -> None:
        """
        Return when the records below a number are under a checkpoint.

        Raises:
            StoreError: They are not, after *timeout* seconds.
        """
        deadline = time.monotonic() + timeout
        spool.want(below)
        while spool.acknowledged() < below:
            if spool.broken:
                spool.check()
            if time.monotonic() > deadline:
                raise no_answer(
                    f"no checkpoint covers the records after {timeout:g} s",
                    why=spool.trouble or "the daemon said nothing of one",
                )
            spool.listen(_PAUSE)

    def ring(self) -> None:
        """Do nothing: the daemon was asked already."""

    def leave(self) -> None:
        """Close the connection."""
        self._stop.set()
        if self.spool is not None:
            self.spool.hang_up()

    # The anchors

    @property
    def required(self) -> bool:
        """Whether an anchor is required, so that a record can be witnessed at all."""
        return self.spool is not None and self.spool.anchors

    def covers(self, index: int | None) -> bool:
        """Tell whether anchors vouch for the entry at *index*, and ask for it when they do not."""
        spool = self.spool
        if spool is None or index is None:
            return False
        spool.acknowledged()
        if spool.anchored > index:
            return True
        spool.watch(index + 1)
        return False


def _loop(found: "weakref.ref[Follower]", stop: threading.Event) -> None:
    while not stop.wait(_LOOK):
        follower = found()
        if follower is None:
            return
        follower.look()
        del follower


class RemoteLog(Log):
    """A log whose files this process may not read: its name, and its newest checkpoint."""

    def __init__(self) -> None:
        super().__init__(_NOWHERE / "audit", settings=None, lock=None, origin="")
        self.spool: RemoteSpool | None = None

    @property
    def origin(self) -> str:
        """The log's name; empty before the first record."""
        return "" if self.spool is None else self.spool.origin

    @property
    def size(self) -> int:
        """
        Nothing that can be known here.

        Raises:
            StoreError: Always.
        """
        raise _unreadable()

    def checkpoint_note(self) -> str:
        """
        Return the current checkpoint, a signed note, as the daemon says it.

        Raises:
            StoreError: There was no record yet, or no answer.
        """
        if self.spool is None:
            raise _unreadable()
        return self.spool.checkpoint(TIMEOUT)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:  # noqa: ARG002  as `Log`
        """
        Yield nothing: who may not read the log's files cannot read the log.

        Raises:
            StoreError: Always.
        """
        raise _unreadable()


def _unreadable() -> StoreError:
    return StoreError(
        "the audit log cannot be read here",
        why="its files belong to the audit daemon, and no log= was given",
        fix="connect(…, log=Log.open(DIR)) where this user may read DIR; or read it elsewhere",
    )


class RemoteAuditLog(AuditLog):
    """
    An audit log behind the daemon.

    As `AuditLog`, in every way that an application uses; made by `connect`.
    The types of records that speak about the whole log are refused: their
    writer is the log's owner, beside the daemon.

    Args:
        address: The daemon's socket.
        private: A directory of the application's own, for the pseudonym key.
        log: The log, to read; None where this user may not.
        details: The directory of values, to read; None where this user may not.
        user: Number of the user that the daemon runs as; None for the owner
            of the socket's directory, or root.
        patience: Seconds to wait for a daemon that does not answer, before
            records are refused.
        clock: Tells the time.
        heartbeat: Seconds within which this writer writes something.
    """

    def __init__(
        self,
        address: str,
        *,
        private: Path,
        log: Log | None = None,
        details: Path | None = None,
        user: int | None = None,
        patience: float = PATIENCE,
        clock: Clock = now,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        super().__init__(
            log or RemoteLog(),
            details=details or _NOWHERE / "details",
            private=private,
            clock=clock,
            heartbeat=heartbeat,
        )
        self._address = address
        self._user = user
        self._patience = patience
        self._follower: Follower | None = None

    def __repr__(self) -> str:
        return f"<RemoteAuditLog at {self._address!r}>"

    def append(
        self,
        body: "Mapping[str, JSON]",
        values: "Mapping[str, Sealed]" = _NONE,
        *,
        ack: str = "queued",
        durable: bool = False,
    ) -> "Appended":
        """
        Append a record; see `AuditLog.append`.

        Raises:
            ValueError: One of the types that only the log's owner writes.
            FormatError, StoreError: As `AuditLog.append`.
        """
        if body.get("type") in RESERVED:
            msg = f"a record of type {body['type']!r} is written by the log's owner, as the user "
            msg += "that the daemon runs as"
            raise ValueError(msg)
        return super().append(body, values, ack=ack, durable=durable)

    # In the place of a spool and a sequencer

    def _has_witnesses(self) -> bool:
        # Before the first record nobody was asked: who waits for it is told then.
        return self._recorder is None or self._follower is None or self._follower.required

    def _join(self) -> "Sequencer":
        if self._closed:
            raise self._is_closed()
        follower = self._follower
        if follower is None:
            follower = self._follower = Follower()
            self._sequencer = cast("Sequencer", follower)
            self._anchoring = cast("Anchoring", follower)
        return cast("Sequencer", follower)

    def _part(self) -> None:
        follower, self._follower = self._follower, None
        self._sequencer = self._anchoring = None
        if follower is not None:
            follower.leave()

    def _finish_after_crash(self) -> None:
        """Do nothing: what was begun is the owner's to finish."""

    def _open_spool(self, sequencer: "Sequencer") -> "Spool":
        del sequencer
        spool = RemoteSpool(self._address, user=self._user, patience=self._patience)
        if self._follower is not None:
            self._follower.spool = spool
        if isinstance(self.log, RemoteLog):
            self.log.spool = spool
        return cast("Spool", spool)

    def after_fork(self) -> None:
        """Become a writer of its own: this is the copy that a forked child got."""
        super().after_fork()
        self._follower = None
        if isinstance(self.log, RemoteLog):
            self.log.spool = None


def connect(
    address: str | os.PathLike[str],
    *,
    private: str | os.PathLike[str],
    log: Log | None = None,
    details: str | os.PathLike[str] | None = None,
    user: int | None = None,
    patience: float = PATIENCE,
    clock: Clock = now,
    heartbeat: float = HEARTBEAT,
) -> RemoteAuditLog:
    """
    Return the audit log behind the daemon at a socket; nothing is done before the first record.

    Args:
        address: The daemon's socket.
        private: A directory of the application's own, for the pseudonym key.
        log: The log, open for reading, where this user may read it.
        details: The directory of captured values, where this user may read it.
        user: Number of the user that the daemon runs as.  By default the one
            who owns the directory of the socket, or root.
        patience: Seconds to wait for a daemon that does not answer, before
            records are refused.
        clock: Tells the time.
        heartbeat: Seconds within which this writer writes something.
    """
    return RemoteAuditLog(
        os.fspath(address),
        private=Path(private),
        log=log,
        details=None if details is None else Path(details),
        user=user,
        patience=patience,
        clock=clock,
        heartbeat=heartbeat,
    )
