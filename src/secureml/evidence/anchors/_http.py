"""
One request, with an end: what anchors say over HTTP.

Whoever is at the other end may be slow, hostile or gone.  So the whole
exchange has a deadline and not only each read, an answer has a size, and a
redirect is not followed: it is an answer like any other.

Edge: the look-up of a name is the system's, and has the system's limit.
"""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from secureml.errors import StoreError
from secureml.wire._read import shown

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from urllib.request import Request

__all__ = ["Reply", "check_timeout", "check_url", "post"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_CHUNK = 16_384


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer, whatever its status.

    Attributes:
        status: The HTTP status.
        kind: The content type, without parameters, in lower case.
        body: At most as many bytes as were allowed.
    """

    status: int
    kind: str
    body: bytes

    def text(self) -> str:
        """Return the beginning of the body, safe to show."""
        return shown(self.body[:200].decode("utf-8", "replace"))


def check_url(url: str) -> str:
    """
    Return *url* without a slash at its end.

    Raises:
        ValueError: Neither https, nor http to this machine; or with a user,
            a query, a fragment, or a character that is not printable ASCII.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    plain = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not plain or not host:
        msg = f"an anchor is reached over https, or over http on this machine only: {shown(url)}"
        raise ValueError(msg)
    if not url.isascii() or not url.isprintable() or " " in url:
        msg = f"a URL is printable ASCII without spaces: {shown(url)}"
        raise ValueError(msg)
    if "@" in parts.netloc or parts.query or parts.fragment or url.endswith(("?", "#")):
        msg = f"the URL of an anchor has no user, query or fragment: {shown(url)}"
        raise ValueError(msg)
    _ = parts.port  # refuses what is no port
    return url.rstrip("/")


def check_timeout(timeout: float) -> float:
    """
    Return *timeout*, in seconds.

    Raises:
        ValueError: Not above 0 and at most 600.
    """
    if not 0 < timeout <= 600:  # noqa: PLR2004  ten minutes is no answer any more
        msg = f"a timeout is above 0 and at most 600 seconds, not {timeout}"
        raise ValueError(msg)
    return float(timeout)


class _Watch:
    """Cuts the line when the time is over, whatever a read waits for."""

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            self._sockets.clear()

    def add(self, one: socket.socket) -> None:
        """Watch a connection."""
        with self._lock:
            self._sockets.append(one)
            if self.expired:
                _shut(one)

    def _cut(self) -> None:
        with self._lock:
            self.expired = True
            for one in self._sockets:
                _shut(one)


class _Reader(io.RawIOBase):
    """
    What comes over a connection, until the time is over.

    A connection that is shut goes on giving what had come, and what still
    comes, so each read looks at the time as well.
    """

    def __init__(self, raw: io.RawIOBase, watch: _Watch) -> None:
        self._raw = raw
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401  the base class's
        if self._watch.expired:
            raise TimeoutError("the time for the whole answer is over")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _shut(one: socket.socket) -> None:
    try:
        socket.socket.shutdown(one, socket.SHUT_RDWR)
    except OSError:
        return  # it was closed already


def post(
    url: str,
    body: bytes,
    *,
    kind: str,
    accept: str,
    timeout: float,
    limit: int,
) -> Reply:
    """
    Send *body* and return the answer, within *timeout* seconds.

    Args:
        url: Where; `check_url` has seen it.
        body: What is sent.
        kind: Its content type.
        accept: The content type that is wanted.
        timeout: Seconds for all of it.
        limit: Bytes of the answer, at most.

    Raises:
        StoreError: No answer in time, a broken one, or one that is too long.
    """
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import Request

    headers = {"Content-Type": kind, "Accept": accept, "User-Agent": "secureml"}
    request = Request(url, data=body, headers=headers, method="POST")  # noqa: S310  see check_url
    with _Watch(timeout) as watch:
        try:
            with _open(request, watch, timeout) as reply:
                data = bytearray()
                while len(data) <= limit and (some := reply.read(_CHUNK)):
                    data += some
                if watch.expired:
                    raise _silent(url, f"no whole answer within {timeout:g} seconds")
                if len(data) <= limit and getattr(reply, "length", None):
                    raise _silent(url, "the answer ended before its announced length")
                if len(data) > limit:
                    raise StoreError(
                        f"the answer of {url} is too long",
                        why=f"more than {limit:,} bytes came",
                        fix="check that the address is that of the service it should be",
                    )
                media = str(reply.headers.get_content_type()).lower()
                return Reply(int(reply.status), media, bytes(data))
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            why = f"no answer within {timeout:g} seconds" if watch.expired else shown(str(reason))
            raise _silent(url, why) from error


def _silent(url: str, why: str) -> StoreError:
    return StoreError(
        f"{url} did not answer",
        why=why,
        fix="it is tried again; if it stays away, check the address and the network",
        retryable=True,
    )


@contextmanager
def _open(request: "Request", watch: _Watch, timeout: float) -> "Iterator[HTTPResponse]":
    """Send the request through an opener that follows nothing and is watched."""
    import http.client
    import urllib.request
    from urllib.error import HTTPError

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **values: Any) -> None:  # noqa: ANN401
            super().__init__(sock, *args, **values)
            self.fp = io.BufferedReader(_Reader(self.fp.detach(), watch))

    def connection(
        base: "type[HTTPConnection]",
        host: str,
        **options: Any,  # noqa: ANN401  what urllib gives
    ) -> "HTTPConnection":
        made = base(host, **options)
        connect = made.connect

        def watched_connect() -> None:
            connect()
            watch.add(made.sock)

        made.connect = watched_connect  # type: ignore[method-assign]
        made.response_class = Answer
        return made

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            """Follow nothing: a redirect is an answer."""

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: "Request") -> "HTTPResponse":
            return self.do_open(partial(connection, http.client.HTTPConnection), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: "Request") -> "HTTPResponse":
            return self.do_open(partial(connection, http.client.HTTPSConnection), req)

    # What goes to this machine goes through no proxy; only https goes further.
    proxies = {k: v for k, v in urllib.request.getproxies().items() if k == "https"}
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(proxies),
        Plain(),
        Secure(),
        Stay(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    try:
        reply = opener.open(request, timeout=timeout)
    except HTTPError as error:
        reply = error
    with reply:
        yield reply
