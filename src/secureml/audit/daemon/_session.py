"""
One connection and one writer, as the daemon sees them: state, and what is told.

What a client is told is composed when there is room to send it.  So whoever
does not read costs one message of memory, and hears of the newest state later.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from secureml.audit._anchoring import Anchoring
from secureml.audit.daemon import messages
from secureml.audit.daemon._custody import KeptSpool
from secureml.audit.daemon._intake import Inspector
from secureml.audit.daemon._peers import Peer
from secureml.audit.daemon.messages import LARGEST, Inbox, State
from secureml.evidence._flock import Hold

__all__ = ["Kept", "Limits", "Session"]

_PLACES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What one client, one user, and all of them may use.

    Attributes:
        clients: Connections.
        clients_of_user: Connections of one user.
        rate: Records a second of one user; 0 for any number.
        memory: Bytes that lie half received, of all clients together.
        hello: Seconds until the first message.
        stall: Seconds from the first byte of a message, or the first piece of a line, to its last.
        grace: Seconds that a writer may be without a connection.
    """

    clients: int = 512
    clients_of_user: int = 256
    rate: float = 0.0
    memory: int = 256 << 20
    hello: float = 5.0
    stall: float = 30.0
    grace: float = 180.0


class Watched:
    """
    How far the log is anchored, as clients are told.

    Args:
        anchoring: The log's anchors; None without any.
        size: Returns how many entries the log has.

    Attributes:
        required: Whether an anchor is required.
        size: Entries of the log that anchors vouch for.
    """

    def __init__(self, anchoring: Anchoring | None, size: Callable[[], int]) -> None:
        self._entries = size
        self.required = anchoring is not None and anchoring.required
        self.size = 0
        self._anchoring = anchoring

    def look(self) -> bool:
        """See how far it is; return whether it is further than before."""
        if self._anchoring is None:
            return False
        before, self.size = self.size, max(self.size, self._anchoring.reached())
        return self.size > before

    def watch(self, entries: int) -> None:
        """Have so many entries anchored soon; not more than there are."""
        entries = min(entries, self._entries())
        if self._anchoring is not None and entries:
            with suppress(OSError):
                self._anchoring.covers(entries - 1)


@dataclass(slots=True, eq=False)
class Kept:
    """
    A writer in the daemon's custody.

    Attributes:
        writer: 16 bytes.
        peer: Who writes, or wrote last; None for a spool that was found.
        spool: Where its records are; None before the first.
        held: The lock on a spool that was found.
        inspector: Reads its records.
        session: Its connection.
        deadline: When it is declared dead, without a connection.
        covered: Records under a checkpoint.
        done: Whether it said that it was done.
    """

    writer: bytes
    peer: Peer | None = None
    spool: KeptSpool | None = None
    held: Hold | None = None
    inspector: Inspector | None = None
    session: "Session | None" = None
    deadline: float = 0.0
    covered: int = 0
    done: bool = False

    def state(self, anchored: Watched) -> State:
        """Return what there is to tell."""
        durable = 0 if self.spool is None else self.spool.synced
        return State(durable, self.covered, anchored.size, self.done, anchored.required)

    def look(self) -> bool:
        """See how much is under a checkpoint; return whether it is more than before."""
        spool = self.spool
        if spool is None or self.covered >= spool.count:
            return False
        before, self.covered = self.covered, max(self.covered, spool.acknowledged())
        return self.covered > before


@dataclass(slots=True, eq=False)
class Session:
    """
    One connection.

    Attributes:
        sock: The socket.
        peer: Who is at the other end.
        opened: When.
        inbox: What came.
        kept: Its writer; None before the hello.
        pieces: Of a line that is not whole.
        since: When the first byte came of what is not whole; 0 when all is.
        paused: Until when nothing is read.
        note: Whether the checkpoint was asked for.
        counted: Bytes of it that count as memory used.
    """

    sock: socket.socket
    peer: Peer
    opened: float
    inbox: Inbox = field(default_factory=lambda: Inbox(LARGEST))
    kept: Kept | None = None
    pieces: list[bytes] = field(default_factory=list)
    since: float = 0.0
    paused: float = 0.0
    note: bool = False
    counted: int = 0
    _told: State | None = None
    _placed: int = 0
    _out: bytearray = field(default_factory=bytearray)

    @property
    def size(self) -> int:
        """Bytes that lie here half received."""
        return len(self.inbox) + sum(map(len, self.pieces))

    @property
    def waits(self) -> bool:
        """Whether there is something that could not be sent yet."""
        return bool(self._out)

    def welcome(self, message: messages.Welcome) -> None:
        """Say the first thing."""
        self._told = State(message.durable, message.covered)
        self._placed = 0
        self._out += messages.frame(message.encode())

    def compose(self, anchored: Watched, note: str | None = None) -> None:
        """Put together what the client does not know yet, when all before it was sent."""
        kept = self.kept
        if kept is None or self._out:
            return
        state = kept.state(anchored)
        if kept.spool is not None and kept.covered > self._placed:
            places = kept.spool.placed(self._placed)[-_PLACES:]
            self._placed = kept.covered
            if places:
                self._out += messages.placed(places)
        if state != self._told:
            self._told = state
            self._out += messages.frame(state.encode())
        if note is not None and self.note:
            self.note = False
            self._out += messages.frame(bytes((messages.Kind.CHECKPOINT,)) + note.encode())

    def send(self) -> bool:
        """Send what the system takes now; return whether the client is there."""
        while self._out:
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                return True
            except OSError:
                return False
            del self._out[:sent]
        return True

    def close(self, last: bytes = b"") -> None:
        """Close the connection; *last* is a message that may get lost."""
        if last:
            self._out += last
            self.send()
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
