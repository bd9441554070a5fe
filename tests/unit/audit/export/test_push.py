"""Records are sent to an OTLP/HTTP receiver, and what it did not take is an error."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from secureml.audit.export import push
from secureml.audit.export.push import Pushed, push_otlp
from secureml.audit.record import prefix
from secureml.errors import StoreError
from secureml.evidence.log import Log
from secureml.keys import files
from secureml.wire import canonical

Answer = tuple[int, bytes, dict[str, str]]


class Receiver:
    """A collector's stand-in: keeps what it takes, and answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take a request."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.path, dict(self.headers), body))
                code, answer, headers = outer.answers.pop(0) if outer.answers else (200, b"{}", {})
                if code == 0:
                    self.close_connection = True
                    return
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST  # noqa: N815  the server's name

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def records(self) -> list[dict[str, Any]]:
        """Return every log record that was sent, repeats included."""
        return [
            record
            for _, _, body in self.asked
            for record in json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that listens."""
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return a log of 600 calls."""
    made = Log.open(
        tmp_path / "log",
        origin="push.example/audit",
        signer=files.generate("ed25519", purposes=frozenset({"audit"})),
        purpose="audit",
        create=True,
    )
    for number in range(600):
        body = {
            "action": "act",
            "call": {"kind": "function", "name": "f"},
            "latency_us": number,
            "monotonic_us": number,
            "outcome": "ok" if number % 2 else "error",
            "record": {"id": f"019d1c3a-7b1e-7c44-9a53-{number:012x}"},
            "time": "2026-11-22T08:30:00.000000Z",
            "type": "call",
        }
        made.append(
            prefix("6f1ed002ab5595859014ebf0951522d9", number) + canonical.encode(body), sync=False
        )  # type: ignore[arg-type]
    made.publish()
    return made


def numbers(records: list[dict[str, Any]]) -> list[int]:
    """Return the place in the log of each record."""
    return [
        int(one["value"]["intValue"])
        for record in records
        for one in record["attributes"]
        if one["key"] == "secureml.log.index"
    ]


def test_every_record_arrives_in_order(log: Log, receiver: Receiver) -> None:
    """Requests of bounded size, with the headers that were given."""
    done = push_otlp(log, receiver.url, headers={"Authorization": "Bearer t"})

    assert Pushed(rows=600, requests=3, origin="push.example/audit", size=600) == done
    assert list(range(600)) == numbers(receiver.records())
    for path, headers, _ in receiver.asked:
        assert "/v1/logs" == path
        assert "application/json" == headers["Content-Type"]
        assert "Bearer t" == headers["Authorization"]


def test_conditions_and_a_start_narrow_what_is_sent(log: Log, receiver: Receiver) -> None:
    """Only what was asked for is sent; nothing to send is no request."""
    done = push_otlp(log, f"{receiver.url}/own/path", outcome="error", start=590)

    assert [590, 592, 594, 596, 598] == numbers(receiver.records())
    assert "/own/path" == receiver.asked[0][0]
    assert 5 == done.rows
    assert 0 == push_otlp(log, receiver.url, outcome="denied").requests
    assert 1 == len(receiver.asked)


def test_a_passing_failure_is_tried_again(log: Log, receiver: Receiver) -> None:
    """Overload, a closed connection and a bad gateway are waited out, the asked-for time too."""
    receiver.answers = [
        (503, b"", {}),
        (429, b"", {"Retry-After": "7"}),
        (0, b"", {}),
        (200, b"{}", {}),
        (502, b"", {"Retry-After": "soon"}),
    ]
    waits: list[float] = []

    done = push_otlp(log, receiver.url, sleep=waits.append)

    assert 600 == done.rows
    assert 7 == len(receiver.asked)
    assert 7.0 == waits[1]
    assert all(0 < wait <= 60 for wait in waits)
    assert set(range(600)) == set(numbers(receiver.records()))


def test_a_lasting_failure_says_where_to_go_on(log: Log, receiver: Receiver) -> None:
    """Tries are bounded; what was taken before is not sent again."""
    receiver.answers = [(200, b"{}", {}), *[(503, b"", {})] * 3]

    with pytest.raises(StoreError, match="start=256") as caught:
        push_otlp(log, receiver.url, attempts=3, sleep=lambda _: None)

    assert caught.value.retryable
    assert 4 == len(receiver.asked)


@pytest.mark.parametrize(
    "answer",
    [
        (400, b"", {}),
        (401, b"", {}),
        (301, b"", {"Location": "http://127.0.0.1:1/"}),
        (200, b'{"partialSuccess": {"rejectedLogRecords": "3"}}', {}),
    ],
)
def test_a_refusal_is_not_tried_again(log: Log, receiver: Receiver, answer: Answer) -> None:
    """What will not pass, a redirect, and records that were rejected, raise at once."""
    receiver.answers = [answer]

    with pytest.raises(StoreError, match="start=0") as caught:
        push_otlp(log, receiver.url, sleep=lambda _: None)

    assert not caught.value.retryable
    assert 1 == len(receiver.asked)


@pytest.mark.parametrize("body", [b"", b"fine", b"[]", b'{"partialSuccess": null}', b"[" * 5_000])
def test_an_odd_answer_of_success_is_success(log: Log, receiver: Receiver, body: bytes) -> None:
    """A receiver that says 200 took the request, whatever it says else."""
    receiver.answers = [(200, body, {})]

    assert 600 == push_otlp(log, receiver.url).rows


def test_nobody_there_is_an_error(log: Log, receiver: Receiver) -> None:
    """A receiver that cannot be reached is tried as often as asked for, and named."""
    url = receiver.url
    receiver.server.shutdown()
    receiver.server.server_close()
    waits: list[float] = []

    with pytest.raises(StoreError, match="could not be reached"):
        push_otlp(log, url, attempts=2, timeout=0.5, sleep=waits.append)

    assert 1 == len(waits)


@pytest.mark.parametrize(
    "endpoint", ["", "collector", "ftp://127.0.0.1", "file:///etc/passwd", "http://"]
)
def test_no_address_is_refused(log: Log, endpoint: str) -> None:
    """Only http and https are sent to."""
    with pytest.raises(ValueError, match="no address"):
        push_otlp(log, endpoint)


def test_plain_http_stays_on_this_machine(log: Log) -> None:
    """Who sends in the clear to another machine has to say so."""
    with pytest.raises(ValueError, match="insecure=True"):
        push_otlp(log, "http://collector.example:4318")

    assert "http://collector.example:4318/v1/logs" == push._address(
        "http://collector.example:4318/", insecure=True
    )
    assert "https://collector.example/v1/logs" == push._address(
        "https://collector.example", insecure=False
    )


def test_bounds_are_checked(log: Log, receiver: Receiver) -> None:
    """No tries and a start before the first entry are mistakes."""
    with pytest.raises(ValueError, match="at least once"):
        push_otlp(log, receiver.url, attempts=0)
    with pytest.raises(ValueError, match="from 0"):
        push_otlp(log, receiver.url, start=-1)
