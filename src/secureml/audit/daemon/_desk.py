"""
The writers that the daemon keeps: who they are, and what they hand in.

Between a message and the disk.  Nothing here knows of sockets; what cannot be
taken is a `Refusal`, and whoever called closes the connection.

Source: docs/spec/daemon.md, sections "A writer" and "What is taken".
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from secureml.audit._shapes import Shapes
from secureml.audit.daemon import messages
from secureml.audit.daemon._custody import KeptSpool, Tokens, hold_all
from secureml.audit.daemon._intake import Inspector
from secureml.audit.daemon._peers import Bucket
from secureml.audit.daemon._session import Kept, Limits, Session, Watched
from secureml.audit.daemon.messages import Hello, Kind, Reason, Welcome, malformed
from secureml.clock import Clock
from secureml.errors import StoreError
from secureml.evidence._drain import writers
from secureml.evidence._files import Files
from secureml.evidence.sequencer import Sequencer

__all__ = ["Desk", "Refusal"]


class Refusal(Exception):  # noqa: N818  it is an answer, and never leaves the daemon
    """
    A client is refused, and its connection closed.

    Attributes:
        reason: Why, as the client is told.
        text: Why, in words.
        dead: Whether its writer ends with this.
    """

    def __init__(self, reason: Reason, text: str, *, dead: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.dead = dead


class Desk:
    """
    Takes the messages of every connection.

    Args:
        spools: Where the spools are.
        files: The operating system.
        sequencer: Merges them.
        tokens: Makes and checks what writers come again with.
        anchored: How far the log is anchored.
        origin: The log.
        limits: What clients may use.
        clock: Tells the time.
        say: Is told what happened.
        urge: Has a checkpoint made now.

    Attributes:
        kept: The writers.
        anchored: How far the log is anchored.
    """

    def __init__(
        self,
        spools: Path,
        files: Files,
        sequencer: Sequencer,
        tokens: Tokens,
        *,
        anchored: Watched,
        origin: str,
        limits: Limits,
        clock: Clock,
        say: Callable[[str], None],
        urge: Callable[[], None],
    ) -> None:
        self.kept: dict[bytes, Kept] = {}
        self.anchored = anchored
        self._spools = spools
        self._files = files
        self._sequencer = sequencer
        self._tokens = tokens
        self._origin = origin
        self._limits = limits
        self._clock = clock
        self._say = say
        self._urge = urge
        self._shapes = Shapes()
        self._dirty: set[Kept] = set()
        self._buckets: dict[int, Bucket] = {}

    def begin(self) -> int:
        """
        Take the locks of the spools that are there; return how many.

        Raises:
            StoreError: The system refuses.
        """
        deadline = time.monotonic() + self._limits.grace
        for writer, held in hold_all(self._spools).items():
            self.kept[writer] = Kept(writer, held=held, deadline=deadline)
        return len(self.kept)

    def take(self, session: Session, payload: bytes) -> None:
        """
        Take a message.

        Raises:
            FormatError: It breaks a rule.
            Refusal: It cannot be taken.
        """
        kept = session.kept
        kind = payload[0]
        if kept is None:
            self._hello(session, Hello.decode(payload))
        elif kind in {Kind.BATCH, Kind.LAST_PIECE}:
            self._records(session, kept, payload)
        elif kind == Kind.PIECE:
            self._piece(session, payload)
            return
        elif kind == Kind.END:
            self._end(kept, messages.read_count(payload))
        elif kind == Kind.WANT:
            self._want(kept, messages.read_count(payload))
        elif kind == Kind.WATCH:
            self.anchored.watch(messages.read_count(payload))
        elif kind == Kind.NOTE and len(payload) == 1:
            session.note = True
            self._dirty.add(kept)
        else:
            raise malformed(f"a message of kind {kind}")
        session.since = 0.0

    def _hello(self, session: Session, hello: Hello) -> None:
        uid = session.peer.uid
        kept = self._of(hello, uid)
        if kept.spool is None and kept.held is not None:
            self._make(kept)
        kept.peer, kept.session, session.kept = session.peer, session, kept
        self.kept[kept.writer] = kept
        kept.look()
        state = kept.state(self.anchored)
        token = self._tokens.of(kept.writer, uid)
        session.welcome(Welcome(kept.writer, token, state.durable, state.covered, self._origin))
        self._say(
            f"writer {kept.writer.hex()} of uid {uid} pid {session.peer.pid} is here, "
            f"{state.durable} records so far"
        )
        self._dirty.add(kept)

    def _of(self, hello: Hello, uid: int) -> Kept:
        writer = hello.writer
        if writer == messages.NOBODY:
            mine = sum(k.peer is not None and k.peer.uid == uid for k in self.kept.values())
            if mine >= self._limits.clients_of_user:
                raise Refusal(Reason.CROWDED, "this user has too many writers")
            return Kept(messages.new_writer())
        if not self._tokens.holds(hello.token, writer, uid):
            text = f"the name {writer.hex()} was not given to uid {uid}"
            raise Refusal(Reason.GONE, text)
        found = self.kept.get(writer)
        if found is None:
            if hello.durable or self._is_known(writer):
                raise Refusal(Reason.GONE, f"the writer {writer.hex()} was declared dead")
            return Kept(writer)
        if found.session is not None:
            raise Refusal(Reason.TAKEN, f"another connection has the writer {writer.hex()}")
        return found

    def _is_known(self, writer: bytes) -> bool:
        """Return whether the log or a spool has records of a writer that is not kept."""
        marks = self._sequencer._marks  # noqa: SLF001  looked at, not changed
        return writer in marks or writer in set(writers(self._spools))

    def _make(self, kept: Kept) -> None:
        """Make the writer's spool, or take it up again."""
        held, kept.held = kept.held, None
        try:
            spool = KeptSpool(self._spools, self._files, kept.writer, held=held)
        except StoreError as error:
            if held is not None:
                self.kept.pop(kept.writer, None)
            raise Refusal(Reason.STORE, error.why) from error
        if spool.found.done or spool.found.damaged:
            spool.abandon()
            self.kept.pop(kept.writer, None)
            raise Refusal(Reason.GONE, f"the spool of {kept.writer.hex()} is damaged")
        kept.spool = spool
        kept.inspector = Inspector(kept.writer, self._shapes, self._clock, ended=spool.found.ended)

    def _records(self, session: Session, kept: Kept, payload: bytes) -> None:
        batch = messages.read_batch(payload, kept.writer)
        if payload[0] == Kind.LAST_PIECE:
            if len(batch.bodies) != 1:
                raise malformed("pieces before more than one record")
            batch.lines[0] = b"".join((*session.pieces, batch.lines[0]))
        elif session.pieces:
            raise malformed("pieces without their last one")
        session.pieces.clear()
        if kept.done:
            raise malformed("a record after the writer was done")
        if kept.spool is None:
            self._make(kept)
        spool, inspector = kept.spool, kept.inspector
        if spool is None or inspector is None:  # pragma: no cover  made just now
            return
        if batch.first > spool.count:
            raise malformed(f"record {batch.first} comes after {spool.count} records")
        batch = batch.since(spool.count)
        self._dirty.add(kept)
        if not batch.bodies:
            return
        ended, replaced = inspector.ended, inspector.replaced
        bodies, lines = inspector.inspect(batch)
        try:
            spool.write(bodies, lines, details=batch.details)
        except StoreError as error:
            inspector.ended = ended
            raise Refusal(Reason.STORE, error.why, dead=bool(spool.broken)) from error
        if inspector.replaced > replaced:
            count = inspector.replaced - replaced
            self._say(f"writer {kept.writer.hex()}: {count} records replaced by gaps")
        self._slow(session, len(bodies))

    def _slow(self, session: Session, count: int) -> None:
        """Have nothing read for a while from a user who hands in too much."""
        uid = session.peer.uid
        bucket = self._buckets.get(uid)
        if bucket is None:
            bucket = self._buckets[uid] = Bucket(self._limits.rate)
        when = time.monotonic()
        pause = bucket.take(count, when)
        if pause > 0:
            session.paused = when + pause

    def _piece(self, session: Session, payload: bytes) -> None:
        number, piece = messages.read_piece(payload)
        if number != len(session.pieces) or not piece:
            raise malformed("pieces out of order")
        if sum(map(len, session.pieces)) + len(piece) > messages.MAX_LINE:
            raise malformed("a line in the details that is too long")
        session.pieces.append(piece)

    def _end(self, kept: Kept, count: int) -> None:
        spool = kept.spool
        if count != (0 if spool is None else spool.count):
            raise malformed("an end after another number of records")
        if not kept.done and spool is not None:
            try:
                spool.finish()
            except StoreError as error:
                raise Refusal(Reason.STORE, error.why, dead=bool(spool.broken)) from error
        kept.done = True
        self._dirty.add(kept)

    def _want(self, kept: Kept, below: int) -> None:
        if kept.spool is not None and not kept.spool.broken and below > kept.covered:
            # Where the owner of the log beside the daemon sequences, that one reads it there.
            with suppress(StoreError):
                kept.spool.want(min(below, kept.spool.count))
            self._urge()

    # Afterwards

    def commit(self, tell: Callable[[Session], None]) -> list[tuple[Session, Refusal]]:
        """
        Make durable what came, once for each writer, and say so.

        Args:
            tell: Sends a client what it does not know yet.

        Returns the connections to close: their records may not be on the disk.
        """
        failed: list[tuple[Session, Refusal]] = []
        dirty, self._dirty = self._dirty, set()
        for kept in dirty:
            session, spool = kept.session, kept.spool
            if spool is not None and not spool.broken:
                try:
                    spool.sync()
                except StoreError as error:
                    if session is None:
                        self.bury(kept, error.why)
                    else:
                        failed.append((session, Refusal(Reason.STORE, error.why, dead=True)))
                    continue
            if session is not None:
                tell(session)
        return failed

    def look(self, tell: Callable[[Session], None]) -> None:
        """See what is under a checkpoint, or anchored, since; and say so."""
        anchored = self.anchored.look()
        for kept in list(self.kept.values()):
            if (kept.look() or anchored) and kept.session is not None:
                tell(kept.session)
            spool = kept.spool
            if kept.done and spool is not None and kept.covered >= spool.count:
                # Told first: with the lock goes what is known of its places.
                spool.close()
                if kept.session is None:
                    self.kept.pop(kept.writer, None)

    def leave(self, session: Session) -> None:
        """Take note that a connection is closed; its writer may come again."""
        kept, session.kept = session.kept, None
        if kept is None:
            return
        kept.session = None
        kept.deadline = time.monotonic() + self._limits.grace
        if kept.spool is None and kept.held is None:
            self.kept.pop(kept.writer, None)

    def bury_late(self) -> None:
        """Declare dead whoever did not come again, and whose process is gone."""
        when = time.monotonic()
        for kept in list(self.kept.values()):
            if kept.session is None:
                if kept.peer is not None and kept.peer.gone():
                    self.bury(kept, "its process is gone")
                elif when > kept.deadline:
                    self.bury(kept, "it did not come again")

    def bury(self, kept: Kept, why: str) -> None:
        """Leave a writer's spool to the sequencer, as that of any writer that is gone."""
        self.kept.pop(kept.writer, None)
        self._dirty.discard(kept)
        if kept.spool is not None:
            kept.spool.close()
        elif kept.held is not None:
            kept.held.close()
        if not kept.done:
            self._say(f"writer {kept.writer.hex()} is dead: {why}")

    def let_go(self) -> None:
        """Give up every spool, for the next daemon."""
        for kept in self.kept.values():
            if kept.spool is not None:
                kept.spool.abandon()
            elif kept.held is not None:
                kept.held.close()
        self.kept.clear()
