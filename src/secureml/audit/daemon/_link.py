"""
A connection to the daemon: made, checked, read without waiting, and closed in a fork.

A child made by `os.fork` has a copy of every descriptor, and the daemon would
take its parent for alive as long as the child lives.  So forking waits for the
moment between opening a socket and writing it down, and the child closes all
that are written down.

Source: docs/spec/daemon.md, section "The two ends".
"""

import os
import select
import socket
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

from secureml.audit.daemon._peers import peer_of
from secureml.audit.daemon.messages import REPLY, Inbox, frame

__all__ = ["STEP", "ImpostorError", "Link"]

STEP: Final = 5.0
"""Seconds for a connection, a greeting, and for the daemon to take some bytes."""


class ImpostorError(Exception):
    """Somebody else than the daemon is at the other end."""


class Link:
    """
    One connection after another to the daemon at one address.

    Args:
        address: The socket.
        user: Number of the user that has to be at the other end; None for
            the owner of the socket's directory, or root.
    """

    def __init__(self, address: str, user: int | None) -> None:
        self.address = address
        self._user = user
        self._sock: socket.socket | None = None
        self._inbox = Inbox(REPLY)
        _links.add(self)

    def __bool__(self) -> bool:
        return self._sock is not None

    def open(self, hello: bytes) -> bytes:
        """
        Connect, say *hello*, and return the payload of the answer.

        Raises:
            OSError: Nobody is there, or nothing is answered.
            FormatError: The answer is no message.
            ImpostorError: It is not the daemon; nothing was said.
        """
        self._inbox = Inbox(REPLY)
        with _guard:
            sock = self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(STEP)
        sock.connect(self.address)
        uid = peer_of(sock).uid
        expected = {self._user}
        if self._user is None:
            expected = {Path(self.address).parent.stat().st_uid, 0}
        if uid not in expected:
            who = " or ".join(map(str, expected))
            msg = f"user {uid} is at the other end of {self.address!r}, and not {who}"
            raise ImpostorError(msg)
        with suppress(BrokenPipeError, ConnectionResetError):
            # Who is refused at once is told why, and not listened to.
            sock.sendall(frame(hello))
        while True:
            data = sock.recv(REPLY)
            if not data:
                msg = "the connection was closed"
                raise ConnectionResetError(msg)
            self._inbox.feed(data)
            for payload in self._inbox.messages():
                sock.settimeout(0)
                return payload

    def send(self, data: bytes) -> None:
        """
        Send *data*, waiting for the daemon to take it.

        Raises:
            OSError: It is gone, or takes nothing for some seconds.
        """
        left = memoryview(data)
        while left:
            sock = self._sock
            if sock is None:
                msg = "there is no connection"
                raise ConnectionResetError(msg)
            try:
                left = left[sock.send(left) :]
            except BlockingIOError:
                if not _ready(sock, select.POLLOUT, STEP):
                    msg = "the daemon takes nothing"
                    raise TimeoutError(msg) from None

    def receive(self) -> list[bytes]:
        """
        Return the payloads that came, without waiting.

        Raises:
            OSError: The daemon is gone; what came before that is returned first.
            FormatError: What came is no message.
        """
        found = list(self._inbox.messages())
        while self._sock is not None:
            try:
                data = self._sock.recv(REPLY)
            except BlockingIOError:
                break
            if not data:
                if found:
                    break
                msg = "the connection was closed"
                raise ConnectionResetError(msg)
            self._inbox.feed(data)
            found += self._inbox.messages()
        return found

    def wait(self, timeout: float) -> None:
        """Return when there may be something to receive, or after *timeout* seconds."""
        sock = self._sock
        if sock is not None:
            # Another thread may close it meanwhile.
            with suppress(OSError, ValueError):
                _ready(sock, select.POLLIN, timeout)

    def close(self) -> None:
        """Close the connection, for whoever has a copy of it, too."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def abandon(self) -> None:
        """Let go of this copy of the connection."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()


def _ready(sock: socket.socket, events: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(1000 * timeout))


_guard = threading.RLock()
_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


def _before() -> None:
    _guard.acquire()


def _in_parent() -> None:
    _guard.release()


def _in_child() -> None:  # pragma: no cover  in a forked child
    global _guard  # noqa: PLW0603  the parent's is held by the thread that forked
    _guard = threading.RLock()
    for link in list(_links):
        link.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
