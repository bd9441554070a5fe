"""Witnesses: what is sent, what is kept, and what each refusal means."""

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml.errors import (
    ConsistencyError,
    FormatError,
    SignatureError,
    StoreError,
    UntrustedSignerError,
)
from secureml.evidence.anchors import Head, Receipt, WitnessAnchor, cosigned_checkpoint
from secureml.evidence.anchors.keeping import append_receipt
from secureml.evidence.anchors.witness import add_checkpoint_body, cosigned_note
from secureml.evidence.log import Log
from secureml.evidence.notes import verify_checkpoint
from secureml.evidence.witness import Witness, sign_cosignature, verify_cosignatures
from secureml.keys import generate
from secureml.wire.base64 import b64decode
from secureml.wire.note import COSIGNATURE, Note, NoteSignature, VKey

VECTORS = Path(__file__).resolve().parents[4] / "vectors" / "anchor-witness"


def anchor_at(url: str, like: WitnessAnchor, **values: float) -> WitnessAnchor:
    """Return a witness at another address."""
    timeout = values.get("timeout", 5.0)
    return WitnessAnchor(name=like.name, url=url, witness=like.witness, timeout=timeout)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda p: p.stem)
def test_the_request_is_the_specified_one(path: Path) -> None:
    """An add-checkpoint request has the bytes of the specification's example."""
    vector = json.loads(path.read_text())

    body = add_checkpoint_body(
        vector["old"], [b64decode(one) for one in vector["proof"]], vector["checkpoint"]
    )

    assert vector["source"]
    assert vector["expect"].encode() == body


@pytest.mark.parametrize("scheme", ["ed25519", "mldsa-44"])
def test_a_witness_cosigns_a_log_as_it_grows(
    make_log: Callable, make_witness: Callable, scheme: str
) -> None:
    """Each checkpoint is cosigned, from the size that the witness has, with a proof."""
    log = make_log(5)
    one = make_witness(log.trust, scheme=scheme)
    sizes = []
    for entries in (0, 1, 300, 7):
        note = log.grow(entries)

        receipt = one.anchor.submit(Head.read(log.log))

        found = verify_cosignatures(receipt.note, [one.witness], 1)
        assert verify_checkpoint(receipt.note, trust=log.trust).size == found.size
        assert Note.decode(note).text == Note.decode(receipt.note).text
        assert found.latest is not None
        sizes.append(found.size)
    assert sizes == [5, 6, 306, 313]
    assert one.size == 313


def test_the_same_checkpoint_is_cosigned_again(make_log: Callable, make_witness: Callable) -> None:
    """A log that rests gets a new cosignature on the same checkpoint."""
    log = make_log(4)
    one = make_witness(log.trust)

    first = one.anchor.submit(Head.read(log.log))
    again = one.anchor.submit(Head.read(log.log))

    assert first.head == again.head


@pytest.mark.parametrize("entries", [3, 9])
def test_a_log_that_was_rolled_back_is_told(
    make_log: Callable, make_witness: Callable, entries: int
) -> None:
    """A witness that has more, or another history, is an alarm with both sizes."""
    log = make_log(8)
    one = make_witness(log.trust)
    one.anchor.submit(Head.read(log.log))
    other = make_log(entries, name="other", signer=log.signer, begin=50)

    with pytest.raises(ConsistencyError) as caught:
        one.anchor.submit(Head.read(other.log))

    assert "8 entries" in caught.value.why
    assert one.size == 8


def test_a_fork_of_the_same_size_is_told(make_log: Callable, make_witness: Callable) -> None:
    """Another root at the size that the witness has is an alarm."""
    log = make_log(8)
    one = make_witness(log.trust)
    one.anchor.submit(Head.read(log.log))
    other = make_log(8, name="other", signer=log.signer, begin=50)

    with pytest.raises(ConsistencyError):
        one.anchor.submit(Head.read(other.log))


def test_another_process_may_be_ahead(make_log: Callable, make_witness: Callable) -> None:
    """A witness that is ahead of an old head is asked again with the present one."""
    log = make_log(4)
    one = make_witness(log.trust)
    old = Head.read(log.log)
    log.grow(6)
    one.anchor.submit(Head.read(log.log))

    assert one.anchor.submit(old).head.size == 10


def test_a_key_that_the_witness_does_not_know(make_log: Callable, make_witness: Callable) -> None:
    """HTTP 403 says that the witness does not accept the log's key."""
    log = make_log(2)
    one = make_witness(make_log(2, name="other").trust)

    with pytest.raises(UntrustedSignerError, match="does not accept the key"):
        one.anchor.submit(Head.read(log.log))


def test_a_log_that_the_witness_does_not_know(make_log: Callable, make_witness: Callable) -> None:
    """HTTP 404 says that the witness does not know the log, and asking again is no use."""
    log = make_log(2)
    one = make_witness(make_log(2, name="other", origin="other.example").trust)

    with pytest.raises(StoreError, match="does not know the log") as caught:
        one.anchor.submit(Head.read(log.log))

    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (422, "text/plain", b"proof", ConsistencyError),
        (409, "text/plain", b"7\n", ConsistencyError),
        (409, "text/x.tlog.size", b"7", FormatError),
        (409, "text/x.tlog.size", b"07\n", FormatError),
        (409, "text/x.tlog.size", b"\xff\n", FormatError),
        (409, "text/x.tlog.size", b"999\n", ConsistencyError),
        (409, "text/x.tlog.size", b"0\n", ConsistencyError),
        (400, "text/plain", b"no\x1b[31m", StoreError),
        (500, "text/plain", b"", StoreError),
        (302, "text/plain", b"", StoreError),
        (200, "text/plain", b"", FormatError),
        (200, "text/plain", b"welcome\n", FormatError),
        (200, "text/plain", "— other.example AAAAAAAA\n".encode(), SignatureError),
        (200, "text/plain", b"\xff\xfe\n", FormatError),
        (200, "text/plain", b"x" * 70_000, StoreError),
    ],
)
def test_a_hostile_answer_is_an_error_with_a_name(
    make_log: Callable,
    make_witness: Callable,
    serve: Callable,
    status: int,
    kind: str,
    body: bytes,
    error: type[Exception],
) -> None:
    """Whatever a witness answers, the error is one of ours, and shows no control character."""
    log = make_log(2)
    server = serve(lambda *_: (status, kind, body))
    anchor = anchor_at(server.url, make_witness(log.trust).anchor)

    with pytest.raises(error) as caught:
        anchor.submit(Head.read(log.log))

    assert "\x1b" not in str(caught.value)
    assert len(server.requests) <= 4


def test_a_signature_under_the_witness_s_name_has_to_hold(
    make_log: Callable, make_witness: Callable, serve: Callable
) -> None:
    """A line that names the witness's key and does not verify is not kept."""
    log = make_log(2)
    like = make_witness(log.trust).anchor
    vkey = like.witness.vkey
    line = NoteSignature(vkey.name, vkey.key_id, bytes(72))
    text = Note("-\n", (line,)).encode().removeprefix("-\n\n").encode()
    server = serve(lambda *_: (200, "text/plain", text))

    with pytest.raises(SignatureError):
        anchor_at(server.url, like).submit(Head.read(log.log))


def test_lines_of_others_are_dropped(
    make_log: Callable, make_witness: Callable, serve: Callable
) -> None:
    """Only the line of the configured key is kept."""
    log = make_log(2)
    one = make_witness(log.trust)
    stranger = sign_cosignature(
        log.log.checkpoint_note(),
        generate("ed25519", purposes={"witness"}),
        name="stranger.example",
    )
    more = Note("-\n", (stranger,)).encode().removeprefix("-\n\n").encode()

    def answer(path: str, body: bytes) -> tuple[int, str, bytes]:
        status, kind, data = one.answer(path, body)
        return status, kind, more + data

    receipt = anchor_at(serve(answer).url, one.anchor).submit(Head.read(log.log))

    names = [line.name for line in Note.decode(receipt.note).signatures]
    assert ["log.example/anchored", "witness.example/w1"] == names


def test_a_witness_that_drips_is_cut_off(make_log: Callable, make_witness: Callable) -> None:
    """A byte now and then does not hold the line beyond the timeout, headers included."""
    log = make_log(2)
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                while not stop.wait(0.1):
                    connection.sendall(b"H")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    anchor = anchor_at(url, make_witness(log.trust).anchor, timeout=0.5)
    begun = time.monotonic()

    with pytest.raises(StoreError, match="did not answer") as caught:
        anchor.submit(Head.read(log.log))

    assert caught.value.retryable
    assert time.monotonic() - begun < 3
    stop.set()
    thread.join()
    listener.close()


def test_a_redirect_is_not_followed(
    make_log: Callable, make_witness: Callable, serve: Callable
) -> None:
    """A redirect is an answer, and the other address gets no request."""
    log = make_log(2)
    one = make_witness(log.trust)

    target = serve(lambda *_: (200, "text/plain", b""))
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(
                b"HTTP/1.1 307 Temporary Redirect\r\nLocation: "
                + target.url.encode()
                + b"/add-checkpoint\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )

    thread = threading.Thread(target=answer)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with pytest.raises(StoreError, match="did not cosign"):
        anchor_at(url, one.anchor).submit(Head.read(log.log))

    thread.join()
    listener.close()
    assert not target.requests


def test_nobody_at_home(make_log: Callable, make_witness: Callable) -> None:
    """A connection that is refused may be tried again."""
    log = make_log(2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with pytest.raises(StoreError, match="did not answer") as caught:
        anchor_at(url, make_witness(log.trust).anchor).submit(Head.read(log.log))

    assert caught.value.retryable


@pytest.mark.parametrize(
    "url",
    [
        "http://witness.example",
        "ftp://witness.example",
        "file:///etc/passwd",
        "https://",
        "witness.example",
        "https://user@witness.example",
        "https://witness.example/?q=1",
        "https://witness.example/#x",
        "https://witness.example/a b",
        "https://witness.ex\u00e4mple",
        "https://witness.example:port",
        "http://127.0.0.1.example",
        "http://localhost@evil.example",
    ],
)
def test_an_address_is_https_or_this_machine(url: str) -> None:
    """Plain HTTP goes to this machine only, and an address has nothing hidden in it."""
    key = VKey("w", COSIGNATURE, generate("ed25519").verifier.raw)

    with pytest.raises(ValueError, match=r".") as caught:
        WitnessAnchor(name="w", url=url, witness=Witness("w", key))

    assert type(caught.value) is ValueError


@pytest.mark.parametrize("name", ["", ".w", "W", "a/b", "a b", "x" * 65, "\u00e4"])
def test_the_name_of_an_anchor_is_a_file_name(name: str) -> None:
    """A name cannot leave the directory of receipts."""
    key = VKey("w", COSIGNATURE, generate("ed25519").verifier.raw)

    with pytest.raises(ValueError, match="name of an anchor"):
        WitnessAnchor(name=name, url="https://w.example", witness=Witness("w", key))


@pytest.mark.parametrize("timeout", [0, -1, 601, float("nan")])
def test_a_timeout_is_a_time(timeout: float) -> None:
    """A timeout is above zero and ends."""
    key = VKey("w", COSIGNATURE, generate("ed25519").verifier.raw)

    with pytest.raises(ValueError, match="timeout"):
        WitnessAnchor(
            name="w", url="https://w.example", witness=Witness("w", key), timeout=timeout
        )


def test_a_cosigned_note_has_each_line_once(make_log: Callable, make_witness: Callable) -> None:
    """Adding a line that is there already changes nothing."""
    log = make_log(2)
    one = make_witness(log.trust)
    note = one.anchor.submit(Head.read(log.log)).note
    line = Note.decode(note).signatures[-1]

    assert note == cosigned_note(note, [line])


def test_a_request_has_limits() -> None:
    """A negative size and a proof of 64 hashes are the caller's bugs."""
    with pytest.raises(ValueError, match="63 hashes"):
        add_checkpoint_body(1, [bytes(32)] * 64, "note")
    with pytest.raises(ValueError, match="0 or more"):
        add_checkpoint_body(-1, [], "note")


def test_a_checkpoint_that_was_replaced_is_shown_to_nobody(make_log: Callable) -> None:
    """With the log's keys given, a head that none of them signed is refused."""
    log = make_log(2)
    other = make_log(2, name="other")
    (log.directory / "checkpoint").write_text(other.log.checkpoint_note())
    reader = Log.open(log.directory)

    with pytest.raises(SignatureError, match="not signed by the log's key"):
        Head.read(reader, verifiers=[log.signer.verifier])


def test_cosignatures_of_a_quorum_stand_under_one_note(
    make_log: Callable, make_witness: Callable, tmp_path: Path
) -> None:
    """The receipts of several witnesses make one checkpoint that a quorum signed."""
    log = make_log(2)
    ones = [make_witness(log.trust, f"w{n}") for n in range(3)]
    assert cosigned_checkpoint(tmp_path / "r") is None
    for entries in (0, 4):
        log.grow(entries)
        for one in ones:
            append_receipt(tmp_path / "r", one.anchor.name, one.anchor.submit(Head.read(log.log)))
    (tmp_path / "r" / "x.jsonl").write_bytes(
        b"{}\n"
        + Receipt("copy", log.grow(1), dict.fromkeys(("place", "until", "version"), "")).encode()
    )

    note = cosigned_checkpoint(tmp_path / "r")

    assert note is not None
    assert verify_checkpoint(note, trust=log.trust).size == 6
    found = verify_cosignatures(note, [one.witness for one in ones], 3)
    assert found.size == 6
