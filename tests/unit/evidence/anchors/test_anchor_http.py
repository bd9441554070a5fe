"""One request with an end: TLS, limits, and what a hostile server may do."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from socket import create_server, socket

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from secureml.errors import StoreError
from secureml.evidence.anchors._http import Reply, check_url, post


def ask(url: str, *, timeout: float = 5.0, limit: int = 1_000) -> Reply:
    """Send a request."""
    return post(url, b"body", kind="text/plain", accept="*/*", timeout=timeout, limit=limit)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for this machine, with its key beside it."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    path = tmp_path / "here.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    (tmp_path / "here.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


@contextmanager
def tls(server: object, certificate: Path) -> Iterator[str]:
    """Put a server of the fixture behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    httpd = server.httpd  # type: ignore[attr-defined]
    plain: socket = httpd.socket
    httpd.socket = context.wrap_socket(plain, server_side=True)
    yield server.url.replace("http:", "https:")  # type: ignore[attr-defined]


def test_https_needs_a_certificate_that_is_known(
    serve: Callable, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown certificate is refused before anything is sent; a known one is not."""
    server = serve(lambda *_: (200, "text/plain", b"here"))
    with tls(server, certificate) as url:
        with pytest.raises(StoreError, match="did not answer") as caught:
            ask(url)
        assert "certificate" in caught.value.why.lower()
        assert not server.requests

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

        assert ask(url).body == b"here"


def test_a_handshake_that_never_ends_is_cut_off() -> None:
    """A server that takes the connection and says nothing costs the timeout, no more."""
    with create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(StoreError, match="did not answer"):
            ask(url, timeout=0.3)


@contextmanager
def raw(*parts: bytes) -> Iterator[str]:
    """Answer one request with these bytes."""
    with create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                # How soon the system tells who sends of a line that was cut is its own affair.
                connection.settimeout(2)
                # Read to its end: what is left when the line is closed resets it.
                asked = b""
                while not asked.endswith(b"body") and (more := connection.recv(65_536)):
                    asked += more
                try:
                    for part in parts:
                        connection.sendall(part)
                except OSError:
                    return

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 \xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
    ids=["nothing", "garbage", "bytes", "short", "chunks", "headers", "header", "status"],
)
def test_a_broken_answer_is_no_answer(answer: bytes) -> None:
    """Whatever comes back in place of HTTP, the error is ours and may be tried again."""
    with raw(answer) as url, pytest.raises(StoreError) as caught:
        ask(url)

    assert caught.value.retryable


def test_an_answer_has_a_size() -> None:
    """What is longer than it may be is refused, declared or not."""
    body = b"x" * 5_000
    for head in (b"Content-Length: 5000\r\n", b""):
        with (
            raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body) as url,
            pytest.raises(StoreError, match="too long"),
        ):
            ask(url)


def test_informational_answers_without_end_are_cut_off() -> None:
    """A server that says 100 Continue for ever costs the timeout, no more."""
    flood = [b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000] * 100_000

    with raw(*flood) as url:
        begun = time.monotonic()
        with pytest.raises(StoreError, match="did not answer"):
            ask(url, timeout=0.4)
        taken = time.monotonic() - begun

    assert taken < 5


def test_an_error_status_is_an_answer(serve: Callable) -> None:
    """A status of 4xx comes back with its body and type."""
    server = serve(lambda *_: (418, "Text/X.Tea; charset=utf-8", b"short\nand stout"))

    reply = ask(server.url)

    assert (418, "text/x.tea", b"short\nand stout") == (reply.status, reply.kind, reply.body)
    assert reply.text() == r"'short\nand stout'"


def test_a_url_loses_its_last_slash() -> None:
    """A prefix is joined with a path by one slash."""
    assert check_url("https://w.example/a/") == "https://w.example/a"
    assert check_url("http://[::1]:80") == "http://[::1]:80"
