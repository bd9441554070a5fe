"""The key is with another process: what an application hands over is out of its reach."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from secureml import audit
from secureml.audit.daemon import connect, messages
from secureml.audit.daemon.messages import NOBODY, Hello, Kind, Reason, Welcome
from secureml.audit.verification import AuditVerification, verify_audit
from secureml.errors import StoreError
from secureml.evidence.keeping import create_epochs
from secureml.evidence.log import Log
from secureml.evidence.trust import Identity, Trust
from secureml.keys import files

if not hasattr(socket, "SO_PEERCRED"):
    reason = "the daemon asks the kernel who connects, as Linux answers it"
    pytest.skip(reason, allow_module_level=True)

ORIGIN = "rig.example/audit"
OWN = os.geteuid()
ROOT = OWN == 0
DAEMON = 65_533 if ROOT else OWN
APP = 65_534 if ROOT else OWN
STRANGER = 65_532


class Rig:
    """A directory with a key, a daemon over it, and applications that use it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="secureml-rig-"))
        self.root.chmod(0o755)
        self.private = self.root / "private"
        self.shelf = self.root / "shelf"
        self.run = self.root / "run"
        self.home = self.root / "app"
        for path, mode, uid in (
            (self.private, 0o700, DAEMON),
            (self.private / "keys", 0o700, DAEMON),
            (self.shelf, 0o755, DAEMON),
            (self.run, 0o755, DAEMON),
            (self.home, 0o700, APP),
        ):
            path.mkdir()
            path.chmod(mode)
            self._give(path, uid)
        self.key = self.private / "keys" / "audit.pem"
        signer = files.create(
            self.key, scheme="ed25519", purposes=frozenset({"audit"}), passphrase=None
        )
        self._give(self.key, DAEMON)
        self.socket = self.run / "audit.sock"
        self.trust = Trust(
            (
                Identity(
                    name="daemon",
                    verifier=signer.verifier,
                    roles=frozenset({"audit"}),
                    origin=ORIGIN,
                ),
            )
        )
        self.said: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._ears: list[threading.Thread] = []
        self._apps: list[subprocess.Popen[str]] = []

    def _give(self, path: Path, uid: int) -> None:
        if ROOT:
            os.chown(path, uid, uid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for app in self._apps:
            app.kill()
            app.wait()
            if app.stdout is not None:
                app.stdout.close()
        for ear in self._ears:
            ear.join(5)
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, *more: str, allow: int | None = APP) -> None:
        """Start the daemon, and return when it is ready."""
        before = self.ready()
        users = [] if allow is None else ["--allow-user", str(allow)]
        self.process = self.spawn(*users, *more)
        ear = threading.Thread(target=self._hear, args=(self.process,), daemon=True)
        ear.start()
        self._ears.append(ear)
        deadline = time.monotonic() + 30
        while self.ready() == before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("\n".join(self.said))
            time.sleep(0.01)

    def spawn(self, *more: str) -> subprocess.Popen[str]:
        """Start the daemon's command."""
        return subprocess.Popen(
            [*self.words(), "--user", str(DAEMON), *more], stderr=subprocess.PIPE, text=True
        )

    def words(self) -> list[str]:
        """Return the daemon's command, without users."""
        return [
            *(sys.executable, "-m", "secureml.audit.daemon", "--create", ORIGIN),
            *("--audit", str(self.shelf / "audit"), "--private", str(self.private)),
            *("--socket", str(self.socket)),
        ]

    def ready(self) -> int:
        """Return how often a daemon said that it was ready."""
        return sum(": ready: " in line for line in self.said)

    def _hear(self, process: "subprocess.Popen[str]") -> None:
        if process.stderr is not None:
            self.said.extend(line.rstrip() for line in process.stderr)
            process.stderr.close()

    def kill(self) -> None:
        """Kill the daemon, without a chance to do anything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """Tell the daemon to stop, and return what it exits with."""
        if self.process is None:
            return -1
        self.process.send_signal(signal.SIGTERM)
        found = self.process.wait(30)
        for ear in self._ears:
            ear.join(5)
        return found

    def app(self, code: str, *args: str, uid: int = APP) -> "subprocess.Popen[str]":
        """
        Run Python code as an application.

        It becomes that user after its imports: the interpreter of the tests may be one that
        other users cannot run.
        """
        code = IMPORTS + (BECOME.replace("UID", str(uid)) if ROOT else "") + code
        made = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(self.socket), str(self.home), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
        )
        self._apps.append(made)
        return made

    def output(self, code: str, *args: str, uid: int = APP) -> str:
        """Run Python code as an application, and return what it prints."""
        process = self.app(code, *args, uid=uid)
        out, _ = process.communicate(timeout=60)
        return out.strip()

    # What came of it

    def records(self) -> tuple[audit.Record, ...]:
        """Return all records of the log, checked."""
        records = audit.check_records(Log.open(self.shelf / "audit").entries())
        audit.check_details(records, self.shelf / "details")
        return records

    def types(self) -> Counter[str]:
        """Count the types of the records."""
        return Counter(record.type for record in self.records())

    def verify(self) -> AuditVerification:
        """Verify all there is, as an auditor would."""
        return verify_audit(self.shelf / "audit", trust=self.trust, details=self.shelf / "details")


IMPORTS = """
import asyncio, codecs, contextvars, os, socket, sys, threading, time
from pathlib import Path
from secureml import audit
from secureml.audit import daemon
for name in ("ascii", "latin-1", "utf-16-be"): codecs.lookup(name)
import secureml.audit.decorator, secureml.audit._streams, secureml.sealing
"""

BECOME = """
os.setgroups([])
os.setresgid(UID, UID, UID)
os.setresuid(UID, UID, UID)
"""

HEAD = """
log = daemon.connect(sys.argv[1], private=sys.argv[2])

@audit.audited(log, action="act", capture=["n"])
def f(n): return n

@audit.audited(log, action="act", capture=["n"], durable=True)
def g(n): return n

def ids(call, n):
    with audit.collect() as records:
        call(n)
    return records[0].id
"""

users = pytest.mark.skipif(not ROOT, reason="needs root, to be two users")


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Return a daemon's directory."""
    with Rig() as made:
        yield made


def talk(rig: Rig, *payloads: bytes) -> list[bytes]:
    """Send messages, and return the payloads that come back until the connection is closed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(rig.socket))
        inbox = messages.Inbox(messages.REPLY)
        found: list[bytes] = []
        try:
            for payload in payloads:
                sock.sendall(messages.frame(payload))
            while data := sock.recv(65_536):
                inbox.feed(data)
                found += inbox.messages()
                if found and found[-1][0] != Kind.REFUSED:
                    return found
        except (BrokenPipeError, ConnectionResetError):
            pass
        return found


def test_an_application_records_through_the_daemon(rig: Rig) -> None:
    """Records and values of an application without a key are in a log that verifies."""
    rig.start()
    out = rig.output(
        HEAD
        + """
for n in range(500): f(n)
last = log.append({"type": "config", "config": {"name": "x"}}, ack="checkpointed")
note = log.publish()
print(last.index, last.number, note.splitlines()[0])
log.close()
"""
    )
    index, number, origin = out.split()

    assert (int(number), "rig.example/audit") == (501, origin)
    assert 0 == rig.stop()
    found = rig.verify()
    assert found.ok
    assert {"start": 2, "call": 500, "config": 1, "end": 2} == dict(rig.types())
    assert rig.records()[int(index)].type == "config"
    assert 0 == len(found.findings)


@users
def test_an_application_cannot_touch_what_it_handed_over(rig: Rig) -> None:
    """Key, spools, log and values are closed to the application's user."""
    rig.start()
    out = rig.output(
        HEAD
        + f"""
g(1)
log.publish()
root = Path({str(rig.root)!r})
for path in ["private/keys/audit.pem", "private/daemon.key", "private/spool", "shelf/details",
             "shelf/audit/checkpoint"]:
    try:
        os.listdir(root / path) if (root / path).suffix == "" else open(root / path, "rb")
        print("open", path)
    except PermissionError:
        print("closed")
for path in ["private/x", "shelf/x", "run/x", "run/audit.sock2"]:
    try:
        (root / path).write_bytes(b"x")
        print("written", path)
    except PermissionError:
        print("closed")
try:
    os.unlink(root / "run/audit.sock")
    print("unlinked")
except PermissionError:
    print("closed")
try:
    os.kill({{}}, 9)
    print("killed")
except PermissionError:
    print("closed")
""".replace("{}", str(rig.process.pid if rig.process else 0))
    )

    assert ["closed"] * 11 == out.splitlines()
    assert rig.process is not None
    status = Path(f"/proc/{rig.process.pid}/status").read_text(encoding="ascii")
    assert re.search(rf"^Uid:\t{DAEMON}\t{DAEMON}\t{DAEMON}\t{DAEMON}$", status, re.MULTILINE)
    assert re.search(r"^Groups:\t(65533 )?$", status, re.MULTILINE)


@users
def test_a_user_who_is_not_on_the_list_is_refused(rig: Rig) -> None:
    """The kernel says who connects; the list keeps strangers out, and so may the mode."""
    rig.start("--socket-group", str(APP))
    code = HEAD + "log._patience = 0.5\ntry: f(1)\nexcept Exception as e: print(e)"

    rig.home.chmod(0o777)
    assert "Permission denied" in rig.output(code, uid=STRANGER)
    assert "" == rig.output(code + "\nlog.close()")

    rig.socket.chmod(0o666)
    assert "not on the list" in rig.output(code, uid=STRANGER)
    assert any(f"refused uid {STRANGER}" in line for line in rig.said)


@users
def test_a_group_may_be_on_the_list(rig: Rig) -> None:
    """Who is in the group may hand in records, whichever user it is."""
    rig.start("--allow-group", str(STRANGER), allow=None)

    found = rig.socket.stat()
    assert (STRANGER, 0o660) == (found.st_gid, found.st_mode & 0o777)
    rig.home.chmod(0o777)
    assert "" == rig.output(HEAD + "f(1); log.close()", uid=STRANGER)
    assert 0 == rig.stop()
    assert "call" in rig.types()


@users
def test_a_writer_is_its_users_alone(rig: Rig) -> None:
    """Another user who has name and token of a writer is refused, and so is a forged token."""
    rig.start("--allow-user", "0")
    out = rig.output(
        HEAD
        + """
g(1)
line = log._recorder.spool
print(line.writer.hex(), line._token.hex())
os._exit(0)
"""
    )
    writer, token = (bytes.fromhex(word) for word in out.split())

    stolen = talk(rig, Hello(writer, token, 0).encode())
    forged = talk(rig, Hello(writer, bytes(32), 0).encode())

    assert (Reason.GONE, Reason.GONE) == tuple(
        messages.read_refused(answer[-1])[0] for answer in (stolen, forged)
    )


def test_a_writer_has_one_connection(rig: Rig) -> None:
    """While a connection has a writer, another one cannot claim it, not even with the token."""
    rig.start("--allow-user", str(os.geteuid()))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(rig.socket))
        sock.sendall(messages.frame(Hello(NOBODY, bytes(32), 0).encode()))
        inbox = messages.Inbox(messages.REPLY)
        inbox.feed(sock.recv(4096))
        welcome = Welcome.decode(next(inbox.messages()))

        again = talk(rig, Hello(welcome.writer, welcome.token, 0).encode())

    assert Reason.TAKEN is messages.read_refused(again[-1])[0]


@users
def test_a_client_tells_nothing_to_whoever_is_not_the_daemon(rig: Rig) -> None:
    """A socket that another user listens at gets no record, and no hello."""
    (rig.home / "x").mkdir(mode=0o755)
    rig.home.chmod(0o755)
    fake = rig.app(
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[3]); s.listen();"
        "print('listens', flush=True); c, _ = s.accept(); print(len(c.recv(99)))",
        str(rig.home / "fake.sock"),
    )
    os.chown(rig.home, DAEMON, DAEMON)
    assert fake.stdout is not None
    rig.home.chmod(0o777)
    assert "listens\n" == fake.stdout.readline()
    log = connect(rig.home / "fake.sock", private=rig.root / "mine", patience=0.5)

    with pytest.raises(StoreError, match="is at the other end"):
        log.append({"type": "config", "config": {"name": "x"}})
    assert "0\n" == fake.stdout.readline()
    fake.wait()


@pytest.mark.parametrize("times", [10])
def test_a_killed_daemon_loses_and_doubles_nothing(rig: Rig, times: int) -> None:
    """
    Each record that was durable is there once, however often the daemon is killed.

    Nothing that the application handed over is lost either, as it lives on.
    """
    rig.start("--allow-user", str(os.geteuid()))
    client = rig.app(
        HEAD
        + """
n = 0
out = open(sys.argv[2] + "/ids", "w", buffering=1)
while not os.path.exists(sys.argv[2] + "/stop"):
    print(ids(g, n), file=out)
    f(n)
    n += 1
log.close()
print("calls", 2 * n, flush=True)
"""
    )
    ids = rig.home / "ids"
    size = 0
    for turn in range(times):
        deadline = time.monotonic() + 30
        while not ids.exists() or ids.stat().st_size <= size:
            assert time.monotonic() < deadline
            assert client.poll() is None
            time.sleep(0.005)
        time.sleep(0.005 * turn)
        size = ids.stat().st_size
        rig.kill()
        rig.start("--allow-user", str(os.geteuid()))
    (rig.home / "stop").touch()
    out, _ = client.communicate(timeout=60)
    durable = ids.read_text(encoding="ascii").split()

    assert 0 == rig.stop()
    records = rig.records()
    calls = [record.id for record in records if record.type == "call"]
    assert len(durable) > times, out
    assert [] == sorted(set(durable) - set(calls))
    assert len(set(calls)) == len(calls)
    assert f"calls {len(calls)}" == out.strip()
    found = rig.verify()
    assert found.ok
    assert {"killed-writer"} >= {finding.code for finding in found.findings}


def test_a_restarted_daemon_finds_its_clients_again(rig: Rig) -> None:
    """A daemon that is told to stop publishes all; its clients wait for the next one."""
    rig.start()
    client = rig.app(
        HEAD
        + """
g(1); print("one", flush=True)
while not os.path.exists(sys.argv[2] + "/go"): time.sleep(0.01)
f(2); g(3)
print("two", flush=True)
log.close()
"""
    )
    assert client.stdout is not None
    assert "one\n" == client.stdout.readline()

    assert 0 == rig.stop()
    assert {"start": 2, "call": 1, "end": 1} == dict(rig.types())
    (rig.home / "go").touch()
    rig.start()
    assert "two\n" == client.stdout.readline()
    assert 0 == client.wait(30)

    assert 0 == rig.stop()
    assert {"start": 3, "call": 3, "end": 3} == dict(rig.types())
    assert rig.verify().ok


def test_a_killed_application_is_noted(rig: Rig) -> None:
    """A writer whose process is gone without an end leaves a recovery record, and all durable."""
    rig.start()
    client = rig.app(HEAD + "for n in range(5): g(n)\nprint('done', flush=True)\ntime.sleep(60)")
    assert client.stdout is not None
    assert "done\n" == client.stdout.readline()
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    deadline = time.monotonic() + 20
    while not any("its process is gone" in line for line in rig.said):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert 0 == rig.stop()
    recovery = next(record for record in rig.records() if record.type == "recovery")
    dead = next(record.writer for record in rig.records() if record.type == "call")
    assert {"discarded": 0, "records": 6, "verdict": "clean", "writer": dead} == dict(
        recovery.body["recovery"]  # type: ignore[arg-type]
    )
    assert rig.verify().ok


def test_a_writer_that_does_not_come_again_is_declared_dead(rig: Rig) -> None:
    """After the grace a spool that a killed daemon left is closed, and its writer refused."""
    rig.start()
    client = rig.app(HEAD + "g(1); print('done', flush=True); os.kill(os.getpid(), 19); g(2)")
    assert client.stdout is not None
    assert "done\n" == client.stdout.readline()
    rig.kill()
    time.sleep(0.2)
    rig.start("--grace", "0.3")
    deadline = time.monotonic() + 20
    while not any("did not come again" in line for line in rig.said):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    client.send_signal(signal.SIGCONT)
    out, _ = client.communicate(timeout=60)
    assert "declared dead" in out
    assert 0 == rig.stop()
    assert {"start": 5, "call": 1, "recovery": 2, "end": 3} == dict(rig.types())


def test_many_clients_at_once(rig: Rig) -> None:
    """Processes, threads and children made by fork all write; each record is there once."""
    rig.start()
    code = (
        HEAD
        + """
def work():
    for n in range(50): (g if n % 10 == 0 else f)(n)
work()
if os.fork() == 0:
    work()
    log.close()
    os._exit(0)
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
os.wait()
log.close()
"""
    )
    clients = [rig.app(code) for _ in range(4)]
    outs = [client.communicate(timeout=90)[0] for client in clients]

    assert [""] * 4 == outs
    assert 0 == rig.stop()
    assert {"start": 9, "call": 4 * 50 * 5, "end": 9} == dict(rig.types())
    assert rig.verify().ok


def test_ten_thousand_records_take_about_a_second(rig: Rig) -> None:
    """Batches, not records, cross the socket; the bound is loose, for machines that are busy."""
    rig.start()
    out = rig.output(
        HEAD
        + """
f(0)
begin = time.monotonic()
for n in range(10_000): f(n)
log._recorder.flush()
print(time.monotonic() - begin)
log.close()
"""
    )

    assert float(out) < 5
    assert 0 == rig.stop()
    assert 10_001 == rig.types()["call"]


def test_it_starts_only_where_its_files_are_its_own(rig: Rig) -> None:
    """An open private directory, key or socket directory is refused before anything is made."""
    allow = ("--allow-user", "1")

    def fails(*more: str) -> tuple[int, str]:
        process = rig.spawn(*more)
        _, said = process.communicate(timeout=30)
        return process.returncode, said

    for path, mode, why in (
        (rig.private, 0o750, "not this user's alone"),
        (rig.key, 0o640, "key file"),
        (rig.run, 0o777, "open to others"),
    ):
        before = path.stat().st_mode & 0o777
        path.chmod(mode)
        code, said = fails(*allow)
        assert (3, True) == (code, why in said)
        path.chmod(before)
    code, said = fails()
    assert (2, True) == (code, "nobody may hand in records" in said)
    assert not (rig.shelf / "audit").exists()


@users
def test_it_does_not_stay_root(rig: Rig) -> None:
    """Started as root, it wants the name of another user."""
    process = subprocess.run(
        [*rig.words(), "--allow-user", "1"], capture_output=True, text=True, check=False
    )

    assert 3 == process.returncode
    assert "does not stay root" in process.stderr


def test_two_daemons_do_not_share_a_socket(rig: Rig) -> None:
    """The second one finds that somebody listens, and leaves the socket alone."""
    rig.start()
    second = rig.spawn("--allow-user", str(APP))
    _, said = second.communicate(timeout=30)

    assert 3 == second.returncode
    assert "somebody listens" in said
    assert "" == rig.output(HEAD + "g(1); log.close()")


def test_the_keys_of_a_daemon_may_follow_each_other(rig: Rig) -> None:
    """Where there are epoch keys no other key is read, and the log verifies by the first."""
    first = create_epochs(rig.shelf / "audit", rig.private, origin=ORIGIN, first=rig.key)
    for path in (rig.private / "epochs").rglob("*"):
        rig._give(path, DAEMON)
    rig._give(rig.private / "epochs", DAEMON)
    rig.start()
    assert "1 durable" == rig.output(HEAD + "g(1)\nprint(1, 'durable')\nlog.close()")
    assert 0 == rig.stop()

    assert not rig.key.exists()
    (own,) = rig.trust.identities
    assert first == own.verifier
    trust = Trust((replace(own, epochs=True),))
    assert verify_audit(rig.shelf / "audit", trust=trust, epochs=()).ok
    assert 1 == rig.types()["call"]
