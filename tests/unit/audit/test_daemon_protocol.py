# ruff: noqa: ANN401  options and logs are of any type here
"""What the daemon takes, what it refuses, and that nobody who breaks the rules stops it."""

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml import audit
from secureml.audit.daemon import connect, messages
from secureml.audit.daemon.messages import (
    NOBODY,
    Hello,
    Inbox,
    Kind,
    Reason,
    State,
    Welcome,
    frame,
)
from secureml.audit.details import Sealed
from secureml.audit.sink import new_id
from secureml.audit.value import encode
from secureml.clock import format_time, now
from secureml.errors import FormatError, SecureMLError, StoreError
from secureml.evidence._files import Files
from secureml.evidence._spool import SEGMENT
from secureml.evidence.log import Log
from secureml.keys.signer import KeySigner
from secureml.wire import canonical

if not hasattr(socket, "SO_PEERCRED"):
    pytest.skip("the daemon runs where the kernel says who connects", allow_module_level=True)

from secureml.audit.daemon._custody import KeptSpool, Tokens, find, hold_all
from secureml.audit.daemon._peers import Bucket
from secureml.audit.daemon.server import Allowed, Daemon, Limits

BODY: dict[str, Any] = {"config": {"name": "x"}, "type": "config"}
CALL: dict[str, Any] = {
    "action": "act",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}


def record(body: Mapping[str, Any]) -> bytes:
    """Return the JSON of a record."""
    return canonical.encode(
        {"monotonic_us": 1, "record": {"id": new_id()}, "time": format_time(now()), **body}
    )


START = {"start": {"pid": 1}, "type": "start"}


class Running:
    """A daemon in a thread of the test."""

    def __init__(self, root: Path, key: KeySigner, **options: Any) -> None:
        self.root = root
        self.key = key
        self.said: list[str] = []
        self.socket = root / "run" / "s"
        self.socket.parent.mkdir(mode=0o755, exist_ok=True)
        self.private = root / "private"
        self.private.mkdir(mode=0o700, exist_ok=True)
        self.files = options.pop("files", None) or Files()
        log = Log.open(
            root / "audit",
            private=self.private,
            origin="test.example/audit",
            signer=key,
            purpose="audit",
            create=True,
            files=self.files,
        )
        anchors = options.pop("anchors", None)
        made = audit.AuditLog(log, details=root / "details", private=self.private, anchors=anchors)
        listener = socket.socket(socket.AF_UNIX)
        self.socket.unlink(missing_ok=True)
        listener.bind(str(self.socket))
        options.setdefault("allowed", Allowed(frozenset({os.geteuid()})))
        limits = Limits(**{"grace": 60.0, **options.pop("limits", {})})
        self.daemon = Daemon(made, listener, say=self.said.append, limits=limits, **options)
        self.error: SecureMLError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.until(lambda: any("ready" in line for line in self.said))

    def _run(self) -> None:
        try:
            self.daemon.run()
        except SecureMLError as error:
            self.error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the daemon."""
        self.daemon.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + 15
        while not reached():
            assert time.monotonic() < deadline, "\n".join(self.said)
            time.sleep(0.005)

    def connect(self, **options: Any) -> audit.AuditLog:
        """Return an audit log behind it."""
        return connect(self.socket, private=self.root / "app", **{"patience": 5.0, **options})

    def raw(self, hello: Hello | None = None) -> "Raw":
        """Return a connection that says anything."""
        return Raw(self.socket, hello or Hello(NOBODY, bytes(32), 0))

    def records(self) -> tuple[audit.Record, ...]:
        """Stop it, and return all records, checked."""
        self.stop()
        records = audit.check_records(Log.open(self.root / "audit").entries())
        audit.check_details(records, self.root / "details")
        return records

    def types(self) -> Counter[str]:
        """Stop it, and count the types of records."""
        return Counter(one.type for one in self.records())


class Raw:
    """A client that says what it likes."""

    def __init__(self, path: Path, hello: Hello) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(str(path))
        self.inbox = Inbox(messages.REPLY)
        self.got: list[bytes] = []
        self.say(hello.encode())
        self.first = self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def welcome(self) -> Welcome:
        """The first answer."""
        return Welcome.decode(self.first)

    def say(self, *payloads: bytes) -> None:
        """Send messages."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(b"".join(map(frame, payloads)))

    def send(self, *bodies: bytes, lines: list[bytes] | None = None, first: int = 0) -> None:
        """Send records."""
        whole = lines or [b""] * len(bodies)
        for _, data in messages.units(bodies, whole, details=0, first=first):
            self.sock.sendall(data)

    def hear(self) -> bytes:
        """Return the next answer; nothing at the end."""
        while not self.got:
            try:
                data = self.sock.recv(65_536)
            except ConnectionResetError:
                return b""
            if not data:
                return b""
            self.inbox.feed(data)
            self.got += self.inbox.messages()
        return self.got.pop(0)

    def refusal(self) -> tuple[Reason, str]:
        """Return why it is refused."""
        while answer := self.hear():
            if answer[0] == Kind.REFUSED:
                return messages.read_refused(answer)
        raise AssertionError("it was not refused")

    def state(self, reached: Callable[[State], bool]) -> State:
        """Return the first state that is so."""
        while answer := self.hear():
            if answer[0] == Kind.STATE and reached(State.decode(answer)):
                return State.decode(answer)
        raise AssertionError("the connection was closed")


@pytest.fixture
def running(tmp_path: Path, key: KeySigner) -> Iterator[Running]:
    """Return a daemon that runs."""
    with Running(tmp_path, key) as made:
        yield made


# Messages


counts = st.integers(0, 2**64 - 1)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32), counts, counts)
def test_what_is_said_is_understood(writer: bytes, token: bytes, one: int, two: int) -> None:
    """What one side encodes, the other decodes."""
    hello = Hello(writer, token, one)
    welcome = Welcome(writer, token, one, two, "a.b/c")
    state = State(one, two, one, ended=True)

    assert hello == Hello.decode(hello.encode())
    assert welcome == Welcome.decode(welcome.encode())
    assert state == State.decode(state.encode())


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.data())
def test_messages_do_not_depend_on_how_they_come(parts: list[bytes], data: st.DataObject) -> None:
    """However the bytes are cut, the same messages come out."""
    whole = b"".join(map(frame, parts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    inbox = Inbox(messages.REPLY)
    found: list[bytes] = []
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        inbox.feed(whole[start:stop])
        found += inbox.messages()

    assert parts == found
    assert 0 == len(inbox)


@given(st.binary(max_size=200))
def test_anything_else_is_no_message(data: bytes) -> None:
    """Arbitrary bytes are refused in one way, by every reader."""
    readers: list[Callable[[bytes], object]] = [
        Hello.decode,
        Welcome.decode,
        State.decode,
        messages.read_count,
        messages.read_piece,
        messages.read_placed,
        messages.read_refused,
        lambda payload: messages.read_batch(payload, bytes(16)),
    ]
    for read in readers:
        with contextlib.suppress(FormatError):
            read(data)


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=50), st.binary(max_size=50)),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 2**40),
)
def test_records_travel_as_they_are(items: list[tuple[bytes, bytes]], first: int) -> None:
    """Bodies and lines come out as they went in."""
    bodies, lines = [one for one, _ in items], [two for _, two in items]
    inbox = Inbox(messages.LARGEST)
    after = first
    found = []
    for number, data in messages.units(bodies, lines, details=7, first=first):
        inbox.feed(data)
        for payload in inbox.messages():
            batch = messages.read_batch(payload, bytes(16))
            assert (after, 7) == (batch.first, batch.details)
            found += list(zip(batch.bodies, batch.lines, strict=True))
            after += len(batch.bodies)
        assert number == after

    assert items == found


# What is taken


def test_a_long_line_travels_in_pieces(running: Running) -> None:
    """A value of several megabytes is in the details, and opens the commitment of its record."""
    value = os.urandom(5 << 20)
    sealed = Sealed.of(encode(value))
    entry = {"alg": "hmac-sha256", "commitment": sealed.commitment}
    with running.connect() as log:
        log.append({**CALL, "in": {"row": entry}}, {"row": sealed}, durable=True)

    found = next(one for one in running.records() if one.type == "call")
    assert value == audit.open_value(found, running.root / "details", "row")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "malformed"),
        (b"no JSON", "malformed"),
        (record({**CALL, "outcome": "fine"}), "malformed"),
        (record(START), "malformed"),
        (record({"end": {"records": 9}, "type": "end"}), "malformed"),
        (record({"heartbeat": {"records": 9}, "type": "heartbeat"}), "malformed"),
        (record({**CALL, "details": {"segment": "x"}}), "malformed"),
        (
            record(
                {
                    "recovery": {"records": 1, "verdict": "corrupt", "writer": "0" * 32},
                    "type": "recovery",
                }
            ),
            "reserved",
        ),
        (record({"erasure": {"records": []}, "type": "erasure"}), "reserved"),
        (record({"prune": {}, "type": "prune"}), "reserved"),
        (record({"seal": {}, "type": "seal"}), "reserved"),
    ],
)
def test_what_is_no_record_is_counted(running: Running, body: bytes, reason: str) -> None:
    """A gap takes the number of a record that is none, or not an application's to write."""
    with running.raw() as raw:
        raw.send(record(START), record(CALL), body, record(BODY))
        assert 4 == raw.state(lambda state: state.durable == 4).durable

    found = running.records()
    mine = [one for one in found if one.writer == raw.welcome.writer.hex()]
    assert ["start", "call", "gap", "config"] == [one.type for one in mine]
    assert {"dropped": 1, "reason": reason} == mine[2].body["gap"]
    assert any("1 records replaced by gaps" in line for line in running.said)


def test_a_line_must_be_its_records_own(running: Running) -> None:
    """A line of another record, two lines, or one without a member, is dropped with its record."""
    with running.raw() as raw:
        segment = f"{raw.welcome.writer.hex()}-000000"
        good = record({**CALL, "details": {"segment": segment}})
        name = canonical.decode(good)["record"]["id"]  # type: ignore[call-overload,index]
        line = f'{{"id":"{name}","v":1,"values":{{}}}}\n'.encode()
        other = f'{{"id":"{new_id()}","v":1,"values":{{}}}}\n'.encode()
        raw.send(
            *(record(START), good, good, good, record(CALL), good),
            lines=[b"", line, other, line + line, line, b""],
        )
        raw.state(lambda state: state.durable == 6)
    running.stop()

    leaves = [
        one for one in Log.open(running.root / "audit").entries() if segment[:32].encode() in one
    ]
    types = [audit.Record.decode(one).type for one in leaves if one.startswith(b"secureml")]
    assert ["start", "call", "gap", "gap", "gap", "gap"] == types[:6]
    assert [line] == next(iter((running.root / "details").iterdir())).read_bytes().splitlines(
        keepends=True
    )


@pytest.mark.parametrize(
    "breach",
    [
        lambda raw: raw.send(record(CALL)),
        lambda raw: raw.send(b"{}"),
        lambda raw: raw.send(record(START), first=1),
        lambda raw: raw.send(
            record(START), record({"end": {"records": 2}, "type": "end"}), record(CALL)
        ),
        lambda raw: raw.send(record(START), b"x" * 65_536),
        lambda raw: raw.say(b"\x63"),
        lambda raw: raw.say(bytes([Kind.BATCH])),
        lambda raw: raw.say(struct.pack(">BIQQI", 1, 0, 0, 0, 2**32 - 1)),
        lambda raw: raw.say(struct.pack(">BI", 2, 1) + b"x"),
        lambda raw: raw.say(struct.pack(">BQ", 3, 9)),
        lambda raw: raw.say(Hello(NOBODY, bytes(32), 0).encode()),
        lambda raw: raw.sock.sendall(b"\xff\xff\xff\xff"),
        lambda raw: raw.sock.sendall(b"\0\0\0\0"),
    ],
)
def test_who_breaks_the_sequence_is_sent_away(
    running: Running, breach: Callable[[Raw], None]
) -> None:
    """A client that breaks a rule is refused, its writer ends, and nobody else notices."""
    with running.connect() as other:
        other.append(BODY, durable=True)
        with running.raw() as raw:
            breach(raw)
            assert Reason.MALFORMED is raw.refusal()[0]
        again = Hello(raw.welcome.writer, raw.welcome.token, 0)
        other.append(BODY, durable=True)
        with running.raw(again) as raw:
            pass
    types = running.types()

    assert 2 == types["config"]
    assert "call" not in types or types["recovery"] == 1


def test_records_are_taken_once(running: Running) -> None:
    """What is told again after a connection was lost is passed over, as far as it is here."""
    with running.raw() as raw:
        bodies = [record(START), *(record(CALL) for _ in range(5))]
        raw.send(*bodies[:4])
        raw.state(lambda state: state.durable == 4)
    again = Hello(raw.welcome.writer, raw.welcome.token, 4)
    running.until(lambda: not running.daemon._sessions)
    with running.raw(again) as raw:
        assert 4 == raw.welcome.durable
        raw.send(*bodies[2:], first=2)
        raw.state(lambda state: state.durable == 6)
        raw.say(messages.end(6)[4:])
        raw.state(lambda state: state.ended)

    assert 5 == running.types()["call"]


def test_garbage_stops_nobody(running: Running) -> None:
    """Random bytes, and messages with some bytes changed, end connections and nothing else."""
    noise = random.Random(7)  # noqa: S311  not for secrets
    deadline = time.monotonic() + 4
    tries = 0
    with running.connect() as log:
        while time.monotonic() < deadline and tries < 400:
            tries += 1
            records = [record(START), *(record(CALL) for _ in range(3))]
            good = frame(Hello(NOBODY, bytes(32), 0).encode()) + b"".join(
                data for _, data in messages.units(records, [b""] * 4, details=0, first=0)
            )
            data = bytearray(good if tries % 3 else noise.randbytes(200))
            for _ in range(noise.randint(1, 4)):
                data[noise.randrange(len(data))] = noise.randrange(256)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(running.socket))
                with contextlib.suppress(OSError):
                    sock.sendall(data)
        log.append(BODY, ack="checkpointed")

    assert tries > 50
    assert 1 == running.types()["config"]


# Who is late, and who takes too much


def test_who_stops_in_the_middle_is_sent_away(tmp_path: Path, key: KeySigner) -> None:
    """A message that is not whole in time, or no hello, ends the connection."""
    with Running(tmp_path, key, limits={"stall": 0.3, "hello": 0.3}) as running:
        with running.raw() as raw:
            raw.send(record(START))
            raw.sock.sendall(b"\0\0\1\0half")
            assert (Reason.MALFORMED, "it stopped in the middle of a message") == raw.refusal()
        with running.raw() as raw:
            raw.say(struct.pack(">BI", 2, 0) + b"piece")
            assert "stopped in the middle" in raw.refusal()[1]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(running.socket))
            assert b"it said nothing" in sock.recv(4096)


def test_a_client_that_never_reads_costs_little(running: Running) -> None:
    """Whoever does not read is told the newest state when it does, and holds up nobody."""
    with running.raw() as raw:
        raw.send(record(START))
        for number in range(1, 3_000):
            raw.send(record(CALL), first=number)
        with running.connect() as other:
            other.append(BODY, ack="checkpointed")
        assert 3_000 == raw.state(lambda state: state.durable == 3_000).durable
        session = next(iter(running.daemon._sessions))
        assert len(session._out) < 200_000


def test_a_user_hands_in_so_many_records_a_second(tmp_path: Path, key: KeySigner) -> None:
    """What comes too fast is read later: it is slower, and none is lost."""
    with Running(tmp_path, key, limits={"rate": 500.0}) as running:
        begin = time.monotonic()
        with running.connect(patience=20.0) as log:
            for _ in range(2_000):
                log.append(BODY)
                if log._recorder is not None and len(log._recorder.queue) > 100:
                    log._recorder.flush()
        took = time.monotonic() - begin

        assert 1.0 < took < 15
        assert 2_000 == running.types()["config"]


def test_a_bucket_fills_with_time() -> None:
    """Two seconds' worth may come at once; then one waits for what is missing."""
    bucket = Bucket(10)

    assert 0 == bucket.take(20, 100.0)
    assert 1 == bucket.take(10, 100.0)
    assert 0 == bucket.take(0, 101.0)
    assert 0 == Bucket(0).take(10**9, 0.0)


def test_connections_and_memory_are_limited(tmp_path: Path, key: KeySigner) -> None:
    """Too many connections, writers, or bytes half sent are refused; the others go on."""
    limits = {"clients": 3, "clients_of_user": 2, "memory": 100_000}
    with Running(tmp_path, key, limits=limits) as running:
        with running.raw() as one, running.raw() as two:
            one.send(record(START))
            one.state(lambda state: state.durable == 1)
            with running.raw() as three:
                assert Reason.CROWDED is messages.read_refused(three.first)[0]
            two.sock.sendall(struct.pack(">I", 200_000) + bytes(150_000))
            assert Reason.CROWDED is two.refusal()[0]
            one.send(record(CALL), first=1)
            one.state(lambda state: state.durable == 2)
        assert 1 == running.types()["call"]


# When the daemon's disk, key or process fails


class Full(Files):
    """A disk that may be full; what is taken back needs no room."""

    full = False

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Refuse, if the disk is full."""
        if self.full and any(data):
            raise OSError(28, "No space left on device")
        return super().write_at(fd, data, offset)


def test_a_full_disk_of_the_daemon_is_waited_for(tmp_path: Path, key: KeySigner) -> None:
    """While the daemon's disk is full records wait with the client; then each is there once."""
    disk = Full()
    with Running(tmp_path, key, files=disk) as running:
        with running.connect(patience=20.0) as log:
            log.append(BODY, durable=True)
            disk.full = True
            late = threading.Timer(0.5, setattr, (disk, "full", False))
            late.start()
            log.append(BODY, durable=True)
        assert any("(store)" in line for line in running.said)
        assert 2 == running.types()["config"]


class Failing(Files):
    """A disk whose syncs may fail."""

    fails = False

    def sync(self, fd: int) -> None:
        """Fail, if it is to."""
        if self.fails:
            raise OSError(5, "Input/output error")
        super().sync(fd)


def test_what_a_failed_sync_leaves_open_is_said(tmp_path: Path, key: KeySigner) -> None:
    """After a failed sync nothing is acknowledged, and the writer is never believed again."""
    disk = Failing()
    with Running(tmp_path, key, files=disk) as running:
        log = running.connect(patience=2.0)
        log.append(BODY, ack="checkpointed")
        disk.fails = True
        with pytest.raises(StoreError, match="takes no more of this writer"):
            log.append(BODY, durable=True)
        disk.fails = False
        with pytest.raises(StoreError, match="declared dead"):
            log.close()
        types = running.types()

    # Which of both the disk had, nobody knew; the sequencer read it, and synced it.
    assert types["config"] in {1, 2}
    assert 1 == types["recovery"]


def test_who_was_declared_dead_stays_dead(running: Running) -> None:
    """A writer that broke the rules does not come again under its name, whatever it says."""
    with running.raw() as raw:
        raw.send(record(START))
        raw.state(lambda state: state.durable == 1)
        raw.say(b"\x63")
        assert Reason.MALFORMED is raw.refusal()[0]
    for durable in (0, 1):
        again = Hello(raw.welcome.writer, raw.welcome.token, durable)
        with running.raw(again) as raw_again:
            assert Reason.GONE is messages.read_refused(raw_again.first)[0]


def test_what_is_said_aloud_has_nothing_of_records(running: Running) -> None:
    """The daemon's own lines name writers, users and numbers, and nothing that was recorded."""
    canary = "canary-5b1f"
    with running.raw() as raw:
        raw.send(record(START), record({**CALL, "action": canary, "x": canary, "": canary}))
        raw.state(lambda state: state.durable == 2)
        raw.send(f'{{"{canary}'.encode(), first=2)
        raw.state(lambda state: state.durable == 3)
    with running.raw() as raw:
        raw.send(f'{{"{canary}'.encode())
        assert canary not in raw.refusal()[1]
    running.stop()

    assert len(running.said) > 3
    assert canary not in "".join(running.said)


def test_without_a_daemon_records_are_refused_after_a_while(
    tmp_path: Path, key: KeySigner
) -> None:
    """When nobody answers, a durable record raises; when the daemon is back, all is well."""
    with Running(tmp_path, key) as running:
        log = running.connect(patience=0.3)
        log.append(BODY, durable=True)
        running.stop()

        for _ in range(3):
            with pytest.raises(StoreError, match="no answer"):
                log.append(BODY, durable=True)
    with Running(tmp_path, key) as running:
        running.until(lambda: log._recorder is not None and log._recorder.trouble is None)
        log.append(BODY, durable=True)
        log.close()
        records = running.records()
    types = Counter(record.type for record in records)
    [gap] = [record.body["gap"] for record in records if record.type == "gap"]

    # The first may have been handed over: whether it is in the log was not known then.
    assert gap["dropped"] in {2, 3}
    assert 5 == types["config"] + gap["dropped"]
    assert "daemon-away" == gap["reason"]
    assert gap["first"] < gap["last"]
    assert not types["disk-full"]
    assert not types["recovery"]


def test_a_writer_that_ends_at_once_says_what_was_refused(tmp_path: Path, key: KeySigner) -> None:
    """The end of an outage need not be seen by the thread: the end of the writer is enough."""
    with Running(tmp_path, key) as running:
        log = running.connect(patience=0.3)
        log.append(BODY, durable=True)
        running.stop()
        for _ in range(2):
            with pytest.raises(StoreError, match="no answer"):
                log.append(BODY, durable=True)
        recorder = log._recorder
        assert recorder is not None
        with recorder.io:  # the thread does nothing meanwhile
            again = Running(tmp_path, key)
            with again:
                log.close()
                records = again.records()
    [gap] = [record.body["gap"] for record in records if record.type == "gap"]

    assert ("daemon-away", "end") == (gap["reason"], records[-1].type)


def test_an_outage_in_which_nothing_is_refused_leaves_no_gap(
    tmp_path: Path, key: KeySigner
) -> None:
    """What waited for the daemon is in the log, and there is nothing else to say."""
    with Running(tmp_path, key) as running:
        log = running.connect(patience=0.3)
        log.append(BODY, durable=True)
        running.stop()
        log.append(BODY)
        running.until(lambda: log._recorder is not None and log._recorder.trouble is not None)
    with Running(tmp_path, key) as running:
        running.until(lambda: log._recorder is not None and log._recorder.trouble is None)
        log.append(BODY, durable=True)
        log.close()
        types = running.types()

    assert types["config"] == 3
    assert types.keys() == {"start", "config", "end"}


def test_what_is_too_large_for_the_daemon_is_a_gap_of_that_reason(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record whose values no message can hold is refused, and the log says why."""
    with running.connect() as log:
        log.append(BODY, durable=True)
        monkeypatch.setattr(messages, "MAX_LINE", 100)
        sealed = Sealed.of(encode("x" * 200))
        entry = {"alg": "hmac-sha256", "commitment": sealed.commitment}
        with pytest.raises(StoreError, match="captured too much"):
            log.append({**CALL, "in": {"row": entry}}, {"row": sealed}, durable=True)
        running.until(lambda: log._recorder is not None and log._recorder.trouble is None)
        log.append(BODY, durable=True)
    [gap] = [record.body["gap"] for record in running.records() if record.type == "gap"]

    assert (1, "too-large") == (gap["dropped"], gap["reason"])


def test_the_owner_writes_beside_the_daemon(running: Running, key: KeySigner) -> None:
    """Under the daemon's user the log is opened as ever: to erase, to hold, to prune."""
    with running.connect() as log:
        log.append(BODY, ack="checkpointed")
        with pytest.raises(ValueError, match="the log's owner"):
            log.hold("case 1")
        opened = Log.open(
            running.root / "audit", private=running.private, signer=key, purpose="audit"
        )
        with audit.AuditLog(
            opened, details=running.root / "details", private=running.private
        ) as owner:
            owner.hold("case 1")
        log.append(BODY, ack="checkpointed")

    types = running.types()
    assert (2, 1) == (types["config"], types["hold"])


class Witnesses:
    """Anchors that vouch for everything at the second look."""

    quorum = 1

    def __init__(self) -> None:
        self.anchored_size = 0
        self._next = 0

    def step(self, log: Any, *, wanted: int = 0) -> int:
        """Vouch for what was seen the last time."""
        del wanted
        self.anchored_size = self._next
        self._next = int(log.checkpoint_note().splitlines()[1])
        return 0


def test_a_record_can_wait_for_witnesses(tmp_path: Path, key: KeySigner) -> None:
    """The daemon's anchors count for its clients, and are said to be required."""
    with Running(tmp_path, key, anchors=Witnesses()) as running, running.connect() as log:
        found = log.append(BODY, ack="witnessed")

        assert found.index is not None


def test_witnesses_must_be_there_to_be_waited_for(running: Running) -> None:
    """Without a required anchor nobody waits for one."""
    with running.connect() as log:
        log.append(BODY)
        with pytest.raises(ValueError, match="witnessed"):
            log.append(BODY, ack="witnessed")


def test_the_log_need_not_be_readable(running: Running) -> None:
    """Without the log's files there is a checkpoint and a name, and a clear refusal to read."""
    with running.connect() as log:
        log.append(BODY)
        assert log.publish().startswith("test.example/audit\n")
        assert "test.example/audit" == log.log.origin
        for read in (lambda: list(log.records()), lambda: log.log.size, log.log.entries):
            with pytest.raises(StoreError, match="cannot be read here"):
                read()


def test_the_log_can_be_read_where_it_is_readable(running: Running) -> None:
    """With the log open for reading, records and values are read back."""
    reader = Log.open(running.root / "audit")
    with running.connect(log=reader, details=running.root / "details") as log:
        made = log.append(BODY)

        assert made.id == log.read(made.id)[1].id


# Spools that were found


def test_a_torn_spool_is_taken_up_wherever_it_was_torn(tmp_path: Path) -> None:
    """Cut at every byte of its last frame, a spool has the records before it, and goes on."""
    whole = tmp_path / "whole"
    writer = bytes(range(16))
    spool = KeptSpool(whole, Files(), writer, size=SEGMENT)
    spool.write([b"a" * 20, b"b" * 20], [b"", b""], details=0)
    spool.sync()
    before = spool._at
    spool.write([b"c" * 20], [b"line\n"], details=0)
    after = spool._at
    spool.abandon()
    name = next(path for path in whole.iterdir() if path.name.endswith("00000000.spool"))
    data = name.read_bytes()[: after + 100]
    for cut in range(before, after + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / name.name).write_bytes(data[:cut] + bytes(len(data) - cut))
        kept = KeptSpool(directory, Files(), writer)
        kept.write([b"d"], [b""], details=0)
        kept.sync()
        kept.abandon()
        found = find(directory, writer)

        # The last byte of a frame may be zero, as what is behind it.
        assert kept.count in ({3, 4} if not data[cut:after].strip(b"\0") else {3})
        assert (kept.count, False, 0) == (found.count, found.damaged, found.tail)


def test_a_spool_is_found_with_nothing_in_it(tmp_path: Path) -> None:
    """A spool that was made and not written to is taken up as well."""
    first = KeptSpool(tmp_path, Files(), bytes(16))
    first.abandon()
    held = hold_all(tmp_path)
    second = KeptSpool(tmp_path, Files(), bytes(16), held=held[bytes(16)])
    second.write([b"a"], [b""], details=0)
    second.sync()
    second.abandon()

    assert 1 == find(tmp_path, bytes(16)).count


def test_a_spool_with_a_hole_is_not_taken_up(tmp_path: Path) -> None:
    """When something is gone that had been on the disk, the spool is left to be set aside."""
    spool = KeptSpool(tmp_path, Files(), bytes(16))
    for _ in range(3):
        spool.write([b"a" * 20], [b""], details=0)
        spool.sync()
    spool.abandon()
    path = next(one for one in tmp_path.iterdir() if one.name.endswith("00000000.spool"))
    data = bytearray(path.read_bytes())
    data[64 + 30] ^= 1
    path.write_bytes(data)

    assert find(tmp_path, bytes(16)).damaged
    assert {} == hold_all(tmp_path)


def test_a_token_is_of_one_writer_and_one_user(tmp_path: Path) -> None:
    """A token holds for its writer and user only, and for a daemon that begins anew."""
    tokens = Tokens(tmp_path / "daemon.key")
    token = tokens.of(bytes(16), 7)
    later = Tokens(tmp_path / "daemon.key")

    assert later.holds(token, bytes(16), 7)
    assert not later.holds(token, bytes(16), 8)
    assert not later.holds(token, bytes(15) + b"\1", 7)
    (tmp_path / "daemon.key").chmod(0o640)
    with pytest.raises(SecureMLError, match="not the daemon's own key"):
        Tokens(tmp_path / "daemon.key")
