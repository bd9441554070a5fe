"""
The daemon: one process, one loop, which holds the key and takes records from others.

Whatever a client does, the loop never waits for it: what it says is read when
it comes, what it is told is sent when it reads, and both are bounded.  The
loop waits for the disk alone, once for all that came together.

The records of all clients go to spools of the daemon's own, and the sequencer
that every process with an audit log has merges them.  The daemon is a writer
itself, so the log says when it ran.

Source: docs/spec/daemon.md.
"""

import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

from secureml.audit.daemon import messages
from secureml.audit.daemon._custody import Tokens
from secureml.audit.daemon._desk import Desk, Refusal
from secureml.audit.daemon._peers import Allowed, peer_of
from secureml.audit.daemon._session import Limits, Session, Watched
from secureml.audit.daemon.messages import Reason
from secureml.audit.sink import AuditLog
from secureml.errors import FormatError, SecureMLError
from secureml.evidence.log import Log
from secureml.evidence.sequencer import Sequencer

__all__ = ["Allowed", "Daemon", "Limits"]

_READ: Final = 256 << 10
_TICK: Final = 0.5
_BACKLOG: Final = 128
_LAST_WORDS: Final = 2.0
"""Seconds to read what was sent already at the end, and as many to answer."""


def _nobody(_: str) -> None:
    """Say nothing."""


class Daemon:
    """
    Takes records at a socket, until `stop`.

    Args:
        audit: The audit log, open with its signer; the daemon closes it.
        listener: The socket, bound; the daemon listens at it, and closes it.
        allowed: Who may connect.
        limits: What they may use.
        say: Is told what happened, one line each, without any content of records.

    Raises:
        StoreError: The private directory cannot be written, or the log has no signer.
        KeyUnavailableError: The daemon's own key is none, or open to others.
    """

    def __init__(
        self,
        audit: AuditLog,
        listener: socket.socket,
        *,
        allowed: Allowed,
        limits: Limits | None = None,
        say: Callable[[str], None] = _nobody,
    ) -> None:
        log = audit.log
        tokens = Tokens(audit.private / "daemon.key")
        joined = audit._join()  # noqa: SLF001  the daemon is this log's front
        self._log = log
        self._listener = listener
        self._allowed = allowed
        self._limits = limits or Limits()
        self._say = say
        self._own = audit
        # Counted once more: it merges as long as the daemon lives, also behind its own end.
        self._sequencer = Sequencer.at(joined.directory, log, joined.merge, log.files)
        self._urgent = threading.Event()
        self._publisher = threading.Thread(
            target=self._publish, name="secureml-publisher", daemon=True
        )
        self._desk = Desk(
            joined.directory,
            log.files,
            self._sequencer,
            tokens,
            anchored=Watched(audit._anchoring, lambda: log.size),  # noqa: SLF001  as above
            origin=log.origin,
            limits=self._limits,
            clock=audit.clock,
            say=say,
            urge=self._urgent.set,
        )
        self._sessions: set[Session] = set()
        self._memory = 0
        self._size = -1
        self._deaf = 0.0
        self._trouble = ""
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell, listener):
            end.settimeout(0)

    # Begin and end

    def run(self) -> None:
        """
        Take records until `stop`; then publish what was taken.

        Raises:
            StoreError, VerificationError, KeyUnavailableError: The log cannot be written.
        """
        try:
            # Before anything may call their writers dead.
            found = self._desk.begin()
            self._sequencer.after.append(self._sequenced)
            self._own.begin()
            self._publisher.start()
            self._selector.register(self._ear, selectors.EVENT_READ)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._listener.listen(_BACKLOG)
            self._say(f"ready: log {self._log.origin!r}, {found} writers may come again")
            while not self._stopping:
                self._turn(_TICK)
            self._finish()
        finally:
            self._let_go()
        self._say("done")

    def stop(self) -> None:
        """Let `run` come to its end; from any thread, or from the handler of a signal."""
        self._stopping = True
        self._urgent.set()
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):
            self._bell.send(b"\0")

    def _publish(self) -> None:
        """Make a checkpoint whenever somebody waits for one; a thread of its own."""
        while True:
            self._urgent.wait()
            self._urgent.clear()
            if self._stopping:
                return
            # What goes wrong is tried again, and said, by the sequencer's own thread.
            with suppress(SecureMLError):
                self._sequencer.step(now=True)

    def _sequenced(self, log: Log) -> None:
        """Wake the loop when there is something to tell; in the sequencer's thread."""
        size = log.size
        if size != self._size or self._desk.anchored.required:
            self._size = size
            self._ring()

    def _finish(self) -> None:
        """Take what clients have sent already, publish it, and tell them."""
        if not self._deaf:
            self._selector.unregister(self._listener)
        self._listener.close()
        deadline = time.monotonic() + _LAST_WORDS
        for session in list(self._sessions):
            while session in self._sessions and time.monotonic() < deadline:
                if not self._read(session):
                    break
        self._commit()
        self._own.end()
        self._desk.look(self._tell)
        deadline = time.monotonic() + _LAST_WORDS
        while any(s.waits for s in self._sessions) and time.monotonic() < deadline:
            self._turn(_LAST_WORDS / 100)
        for session in list(self._sessions):
            self._part(session, Refusal(Reason.CLOSING, "the daemon goes down"))

    def _let_go(self) -> None:
        """Give up all that is held; spools stay for the next daemon."""
        with ExitStack() as stack:
            # Last things first: no writer is let go of before the sequencer stands still.
            for end in (self._listener, self._ear, self._bell, self._selector):
                stack.callback(end.close)
            stack.callback(self._desk.let_go)
            stack.callback(self._sequencer.leave)
            stack.callback(self._stand_still)
            stack.callback(self._own.close)
            for session in self._sessions:
                stack.callback(session.close)
            self._sessions = set()
            with suppress(ValueError):
                self._sequencer.after.remove(self._sequenced)

    def _stand_still(self) -> None:
        self._stopping = True
        self._urgent.set()
        if self._publisher.ident is not None:
            self._publisher.join()

    # The loop

    def _turn(self, timeout: float) -> None:
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._ear:
                with suppress(BlockingIOError):
                    self._ear.recv(4096)
                self._desk.look(self._tell)
            else:
                session: Session = key.data
                if events & selectors.EVENT_WRITE and session in self._sessions:
                    self._send(session)
                if events & selectors.EVENT_READ and session in self._sessions:
                    self._read(session)
        self._commit()
        self._look()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # No descriptors, say: whoever waits at the socket waits a little longer.
            self._say(f"cannot accept: {error.strerror}")
            self._selector.unregister(self._listener)
            self._deaf = time.monotonic() + _TICK
            return
        sock.settimeout(0)
        try:
            peer = peer_of(sock)
        except OSError:
            sock.close()
            return
        session = Session(sock, peer, time.monotonic())
        if not self._allowed.admits(peer):
            self._say(f"refused uid {peer.uid} pid {peer.pid}: not on the list")
            session.close(messages.refused(Reason.NOT_ALLOWED, "this user is not on the list"))
            return
        mine = Counter(other.peer.uid for other in self._sessions)[peer.uid]
        if len(self._sessions) >= self._limits.clients or mine >= self._limits.clients_of_user:
            self._say(f"refused uid {peer.uid} pid {peer.pid}: too many connections")
            session.close(messages.refused(Reason.CROWDED, "there are too many connections"))
            return
        self._sessions.add(session)
        self._selector.register(sock, selectors.EVENT_READ, session)

    def _read(self, session: Session) -> bool:
        """Take what came; return whether there may be more."""
        try:
            data = session.sock.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close(session)
            return False
        session.inbox.feed(data)
        try:
            for payload in session.inbox.messages():
                self._desk.take(session, payload)
        except FormatError as error:
            self._part(session, Refusal(Reason.MALFORMED, error.why, dead=True))
            return False
        except Refusal as refusal:
            self._part(session, refusal)
            return False
        self._memory -= session.counted
        session.counted = session.size
        self._memory += session.counted
        if session.counted and not session.since:
            session.since = time.monotonic()
        if self._memory > self._limits.memory:
            self._part(session, Refusal(Reason.CROWDED, "too much waits in memory"))
            return False
        self._expect(session)
        return True

    def _commit(self) -> None:
        for session, refusal in self._desk.commit(self._tell):
            self._part(session, refusal)

    # What is told

    def _tell(self, session: Session) -> None:
        note = None
        if session.note:
            try:
                note = self._log.checkpoint_note()
            except SecureMLError as error:
                self._say(f"no checkpoint: {error.what}")
                note = ""
        session.compose(self._desk.anchored, note)
        self._send(session)

    def _send(self, session: Session) -> None:
        there = session.send()
        if there and not session.waits:
            session.compose(self._desk.anchored)
            there = session.send()
        if there:
            self._expect(session)
        else:
            self._close(session)

    def _expect(self, session: Session) -> None:
        """Wait for what this client may do next."""
        if session not in self._sessions:
            return
        events = selectors.EVENT_WRITE if session.waits else 0
        if not session.paused:
            events |= selectors.EVENT_READ
        known = self._selector.get_map().get(session.sock)
        if known is None:
            if events:
                self._selector.register(session.sock, events, session)
        elif not events:
            self._selector.unregister(session.sock)
        elif events != known.events:
            self._selector.modify(session.sock, events, session)

    # Who leaves

    def _part(self, session: Session, refusal: Refusal) -> None:
        """Refuse a client, and close its connection."""
        kept = session.kept
        who = "a client" if kept is None else f"writer {kept.writer.hex()}"
        reason = refusal.reason.name.lower().replace("_", " ")
        self._say(f"{who} of uid {session.peer.uid} sent away ({reason}): {refusal.text}")
        self._close(session, messages.refused(refusal.reason, refusal.text))
        if kept is not None and refusal.dead:
            self._desk.bury(kept, refusal.text)

    def _close(self, session: Session, last: bytes = b"") -> None:
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._memory -= session.counted
        with suppress(KeyError):
            self._selector.unregister(session.sock)
        self._desk.leave(session)
        session.close(last)

    def _look(self) -> None:
        """See what time brings: who is late, who is dead, who may be heard again."""
        when = time.monotonic()
        for session in list(self._sessions):
            if session.kept is None and when > session.opened + self._limits.hello:
                self._part(session, Refusal(Reason.MALFORMED, "it said nothing"))
            elif session.paused:
                # What is not read is not late.
                session.since = session.since and when
                if when >= session.paused:
                    session.paused = 0.0
                    self._expect(session)
            elif session.since and when > session.since + self._limits.stall:
                text = "it stopped in the middle of a message"
                self._part(session, Refusal(Reason.MALFORMED, text, dead=True))
        self._desk.bury_late()
        if self._deaf and when > self._deaf:
            self._deaf = 0.0
            if not self._stopping:
                self._selector.register(self._listener, selectors.EVENT_READ)
        error = self._sequencer.error
        trouble = "" if error is None else error.what
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(f"sequencer: {trouble or 'well again'}")
