"""
Who is at the other end of a socket, and how much that user may ask for.

The kernel says who connected, and nobody can say it otherwise.

Edge: Linux only.  Other systems say it in other ways, which nobody tried here.

Source: unix(7), SO_PEERCRED and SO_PEERGROUPS.
"""

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from secureml.errors import StoreError

__all__ = ["Allowed", "Bucket", "Peer", "peer_of"]

_CREDENTIALS: Final = struct.Struct("iII")
_PEER_GROUPS: Final = 59
_MOST_GROUPS: Final = 65_536
_BURST: Final = 2.0
"""Seconds' worth that may come at once."""


@dataclass(frozen=True, slots=True)
class Peer:
    """
    The process that connected, or listens, as it was then.

    Attributes:
        pid: Its number; 0 where the kernel has none for us.
        uid: Its user.
        groups: Its groups.
    """

    pid: int
    uid: int
    groups: frozenset[int]

    def gone(self) -> bool:
        """Return whether the process has ended; False where nobody can tell."""
        if self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def peer_of(sock: socket.socket) -> Peer:
    """
    Ask the kernel who is at the other end.

    Raises:
        StoreError: This platform does not say.
        OSError: The system refuses.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # pragma: no cover  not Linux
        raise StoreError(
            "the audit daemon does not run on this platform",
            why="it asks the kernel who connects, as Linux answers it (SO_PEERCRED)",
            fix="run it on Linux, or record without a daemon",
        )
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    )
    groups = {gid}
    try:
        more = sock.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, 4 * _MOST_GROUPS)
    except (OSError, OverflowError):  # A kernel before 4.13: the first group only.
        more = b""
    groups.update(struct.unpack(f"{len(more) // 4}I", more))
    return Peer(pid, uid, frozenset(groups))


@dataclass(frozen=True, slots=True)
class Allowed:
    """
    Who may hand in records.

    Attributes:
        users: Numbers of users.
        groups: Numbers of groups, one of which a user is in.
    """

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def admits(self, peer: Peer) -> bool:
        """Return whether this one may."""
        return peer.uid in self.users or not self.groups.isdisjoint(peer.groups)


class Bucket:
    """
    How many records a user may still hand in now.

    Args:
        rate: Records a second; 0 for any number.
    """

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left = rate * _BURST
        self._at = 0.0

    def take(self, count: int, now: float) -> float:
        """Take *count*, and return for how many seconds nothing more should be read."""
        if not self._rate:
            return 0.0
        self._left = min(self._rate * _BURST, self._left + (now - self._at) * self._rate) - count
        self._at = now
        return max(0.0, -self._left / self._rate)
