"""
Send an audit log to an OTLP/HTTP receiver, such as an OpenTelemetry collector.

One request after another, each tried a limited number of times; what was not
accepted is an error, never a warning.  The error says with which entry to go
on.  A receiver may see records twice when an answer was lost: ``audit.record.id``
is the same then, and the receiver drops the second.

Source: opentelemetry.io/docs/specs/otlp, "OTLP/HTTP".
"""

import http.client
import ipaddress
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Final

from secureml.audit._filter import When, Words, make_filter
from secureml.audit._source import Readable, source_of
from secureml.audit.export import otlp, select_items
from secureml.audit.export.mapping import Item
from secureml.errors import StoreError
from secureml.evidence.trust import Trust

__all__ = ["Pushed", "push_otlp"]

_RETRY: Final = frozenset({429, 502, 503, 504})
"""Answers after which the specification wants another try."""
_ANSWER: Final = 1 << 20
"""Bytes of an answer that are read."""
_LONGEST: Final = 60.0
"""Seconds between two tries, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """
    What was sent.

    Attributes:
        rows: How many records were accepted.
        requests: In how many requests.
        origin: The log's name.
        size: How many entries the log had; go on with ``start=size``.
    """

    rows: int
    requests: int
    origin: str
    size: int


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, elsewhere: it is an answer like any other."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow nothing."""
        del req, fp, code, msg, headers, newurl


def push_otlp(
    log: Readable | object,
    endpoint: str,
    *,
    where: Mapping[str, object] | None = None,
    since: When | None = None,
    until: When | None = None,
    types: Words | None = None,
    outcome: Words | None = None,
    actor: Words | None = None,
    model: Words | None = None,
    start: int = 0,
    headers: Mapping[str, str] | None = None,
    attempts: int = 5,
    timeout: float = 10.0,
    insecure: bool = False,
    trust: Trust | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Pushed:
    """
    Send the records of an audit log that fulfil every condition.

    Args:
        log: What a verification returned, a `Log`, an `AuditLog`, or the directory of a log.
        endpoint: The receiver, such as ``https://collector.example:4318``;
            ``/v1/logs`` is added where it has no path.
        where: Column of a query → a value, several, or None for rows without one.
        since: Records of this time and later, by their writers' clocks.
        until: Records before this time.
        types: Types of records, such as ``call``.
        outcome: How they ended.
        actor: Pseudonyms.
        model: Names or digests of models.
        start: Entries from this one on.
        headers: Sent along, for instance a token.
        attempts: How often one request is tried, 1 or more.
        timeout: Seconds that one try may take to connect, and to answer.
        insecure: Allow ``http`` to another machine: records and headers can be
            read and changed on the way.
        trust: Verify the directory first, with this.
        sleep: Waits between two tries, for so many seconds.

    Raises:
        ValueError: No address to send to, or ``http`` to another machine.
        StoreError: The receiver did not take a request; it says where to go on.
        TypeError, VerificationError, FormatError: As `export`.
    """
    address = _address(endpoint, insecure=insecure)
    if start < 0:
        msg = f"entries are counted from 0, not from {start}"
        raise ValueError(msg)
    if attempts < 1:
        msg = f"a request is tried at least once, not {attempts} times"
        raise ValueError(msg)
    wanted = make_filter(
        where=where,
        since=since,
        until=until,
        types=types,
        outcome=outcome,
        actor=actor,
        model=model,
    )
    source = source_of(log, trust=trust)
    opener = _opener(address)
    send = {**(headers or {}), "Content-Type": "application/json"}
    rows = requests = 0
    going_on = start
    batch: list[Item] = []

    def flush() -> None:
        nonlocal rows, requests, going_on
        data = otlp.request([otlp.log_record(item) for item in batch], source.origin)
        asked = urllib.request.Request(address, data=data, headers=send, method="POST")  # noqa: S310  checked above
        _deliver(opener, asked, attempts, timeout, sleep, going_on)
        rows += len(batch)
        requests += 1
        going_on = (batch[-1].number("index") or 0) + 1
        batch.clear()

    for item in select_items(source, wanted, start):
        batch.append(item)
        if len(batch) == otlp.BATCH:
            flush()
    if batch:
        flush()
    return Pushed(rows=rows, requests=requests, origin=source.origin, size=source.size)


def _address(endpoint: str, *, insecure: bool) -> str:
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{endpoint[:80]!r} is no address: write https://collector.example:4318"
        raise ValueError(msg)
    if parts.scheme == "http" and not (insecure or _is_loopback(parts.hostname)):
        msg = "http to another machine can be read and changed on the way: use https, or "
        msg += "insecure=True where the network is yours"
        raise ValueError(msg)
    path = "/v1/logs" if parts.path in {"", "/"} else parts.path
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _opener(address: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(urllib.parse.urlsplit(address).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _deliver(
    opener: urllib.request.OpenerDirector,
    asked: urllib.request.Request,
    attempts: int,
    timeout: float,
    sleep: Callable[[float], object],
    going_on: int,
) -> None:
    for attempt in range(1, attempts + 1):
        wait = min(_LONGEST, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  no secret
        try:
            with opener.open(asked, timeout=timeout) as answer:
                rejected = _rejected(answer.read(_ANSWER))
        except urllib.error.HTTPError as error:
            with error:
                why = f"it answered {error.code} {error.reason}"
                again = error.code in _RETRY
                wait = _retry_after(error.headers.get("Retry-After")) or wait
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            why, again = f"it could not be reached: {reason}", True
        else:
            if not rejected:
                return
            why, again = f"it rejected {rejected} of them", False
        if not again or attempt == attempts:
            raise StoreError(
                f"the receiver did not take the records from entry {going_on} on",
                why=f"{why}; tried {attempt} times" if attempt > 1 else why,
                fix=f"check the receiver, and go on with start={going_on}: what was sent before "
                "it has",
                retryable=again,
            )
        sleep(wait)


def _retry_after(text: str | None) -> float | None:
    if text is None or not text.strip().isdigit():
        return None
    return min(_LONGEST, float(text))


def _rejected(answer: bytes) -> int:
    """Return how many records the receiver says it rejected."""
    try:
        said = json.loads(answer or b"{}")
        return int(said.get("partialSuccess", {}).get("rejectedLogRecords", 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0  # A receiver that answers 200 and something else took the request.
