"""What is no longer kept goes beside living writers, and the log is written on without it."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.audit.details import Sealed
from secureml.audit.query import open_index, query_rows
from secureml.audit.value import encode
from secureml.audit.verification import epoch_of
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    GateDeniedError,
    StoreError,
    UnexpectedFileError,
)
from secureml.evidence._files import Files
from secureml.evidence.checkpruned import PrunedLog
from secureml.evidence.keeping import Epochs, Keeping, Places, create_epochs
from secureml.evidence.log import Log
from secureml.evidence.pruning import first_entry
from secureml.evidence.trust import Identity, Trust
from secureml.keys import KeySigner, files
from secureml.wire import tiles
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

ORIGIN = "log.example/pruned"
OTHER = Path("/dev/shm")  # noqa: S108  another file system; nothing is written there
POLICY = audit.RetentionPolicy(default_days=30)
BODY: dict[str, Any] = {
    "action": "act",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Scene:
    """An audit log whose clock is set by hand."""

    def __init__(self, root: Path) -> None:
        """Make the key."""
        self.root = root
        self.directory, self.details = root / "audit", root / "details"
        self.private = root / "private"
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.key: KeySigner = files.create(
            root / "key.pem", scheme="ed25519", purposes=frozenset({"audit"}), passphrase=None
        )
        self.trust = Trust(
            (
                Identity(
                    name="log",
                    verifier=self.key.verifier,
                    roles=frozenset({"audit"}),
                    origin=ORIGIN,
                ),
            )
        )

    def clock(self) -> datetime:
        """Return the time that was set."""
        return self.now

    def open(self) -> audit.AuditLog:
        """Open the audit log as a writer."""
        log = Log.open(
            self.directory,
            private=self.private,
            origin=ORIGIN,
            signer=self.key,
            purpose="audit",
            create=True,
            files=Memory(),
        )
        return audit.AuditLog(
            log, details=self.details, private=self.private, clock=self.clock, heartbeat=1e9
        )

    def verified(self, **options: object) -> audit.AuditVerification:
        """Verify it with its details; nothing may be wrong."""
        found = audit.verify_audit(
            self.directory,
            trust=self.trust,
            details=self.details,
            now=self.now,
            **options,  # type: ignore[arg-type]
        )
        found.enforce()
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Return an empty directory."""
    return Scene(tmp_path)


def call(log: audit.AuditLog, count: int) -> list[audit.Appended]:
    """Append calls that captured something, and publish."""
    tickets = []
    for number in range(count):
        sealed = Sealed.of(encode(number))
        entry = {"alg": "hmac-sha256", "commitment": sealed.commitment}
        tickets.append(log.append({**BODY, "in": {"row": entry}}, {"row": sealed}))
    log.publish()
    return tickets


def test_a_pruned_log_is_opened_again_and_written_on(scene: Scene) -> None:
    """Pruned, closed, opened and appended to: all of it verifies, and reads from where it is."""
    with scene.open() as log:
        assert log.set_retention(POLICY)
        call(log, 700)
        scene.now += timedelta(days=40)
        call(log, 300)
        assert log.due().minimum == 512
        pruned = log.prune()
        call(log, 5)
    assert (pruned.minimum, pruned.bundles) == (512, 1)

    with scene.open() as log:
        ticket = call(log, 5)[-1]
        log.erase(records=[ticket.id], reason="wrong")
        assert log.read(ticket.id)[0] == ticket.index
        indices = [index for index, _ in log.records()]
        with pytest.raises(LookupError):
            log.read("019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21")
    scene.open().close()

    found = scene.verified()
    assert found.minimum == 512
    assert indices == list(range(512, found.size - 1))
    assert first_entry(scene.directory, found.size) == 512


def test_a_log_is_pruned_again_and_again(scene: Scene) -> None:
    """Each pruning goes on from the one before, over several openings."""
    with scene.open() as log:
        log.set_retention(POLICY)
    for _ in range(3):
        with scene.open() as log:
            call(log, 600)
            scene.now += timedelta(days=40)
            minimum = log.prune().minimum
        assert scene.verified().minimum == minimum
    assert minimum == 1792


def test_a_log_is_not_written_where_nobody_reads_prunings(scene: Scene) -> None:
    """As a log of bytes, a log with entries missing is refused; and one whose pruning is a lie."""
    with scene.open() as log:
        log.set_retention(POLICY)
        call(log, 600)
        scene.now += timedelta(days=40)
        log.prune()
        call(log, 300)
    options: dict[str, Any] = {"private": scene.private, "purpose": "audit", "signer": scene.key}

    with pytest.raises(UnexpectedFileError), Log.open(scene.directory, **options) as log_:
        log_.append(b"x")
    (scene.directory / "tile" / "entries" / "002").unlink()
    with pytest.raises(UnexpectedFileError), scene.open() as log:
        log.append(BODY)


NEIGHBOUR = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secureml import audit
from secureml.evidence.log import Log
from secureml.keys.files import load
root = Path(sys.argv[1])
key = load(root / "key.pem", purposes=frozenset({"audit"}))
log = Log.open(root / "audit", private=root / "private", origin="log.example/pruned",
               signer=key, purpose="audit", create=True)
when = [datetime(2026, 1, 1, tzinfo=UTC)]
made = audit.AuditLog(log, details=root / "details", private=root / "private",
                      clock=lambda: when[0], heartbeat=1e9)
body = {"action": "act", "call": {"kind": "function", "name": "f"}, "latency_us": 1,
        "outcome": "ok", "type": "call"}
for _ in range(3):
    made.append(body, ack="checkpointed")
print("recorded", flush=True)
sys.stdin.readline()
when[0] += timedelta(days=40)
for _ in range(3):
    made.append(body, ack="checkpointed")
print("led", flush=True)
made.close()
"""


def test_a_writer_goes_on_whose_records_were_all_pruned(scene: Scene) -> None:
    """A process lives through a pruning, then leads: its sequence goes on where it was."""
    log = scene.open()
    log.set_retention(POLICY)
    log.publish()
    other = subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR, str(scene.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "recorded\n"
    call(log, 600)
    scene.now += timedelta(days=40)
    assert log.prune().minimum == 512
    log.close()
    other.stdin.write("go on\n")
    other.stdin.flush()
    assert other.stdout.readline() == "led\n"
    other.stdin.close()
    other.stdout.close()
    assert other.wait(60) == 0

    found = scene.verified()
    assert found.minimum == 512
    assert not (scene.private / "spool" / "audit" / "aside").exists()
    assert not found.report.unfinished


def test_somebody_is_erased_beside_living_writers(scene: Scene) -> None:
    """Threads record about a person who is erased meanwhile: what came before is gone."""
    log = scene.open()
    stop = threading.Event()
    errors: list[BaseException] = []

    @audit.audited(log, action="ask", user="who", subject="who", capture=["text"])
    def sealed(who: str, text: str) -> None:
        del who, text

    @audit.audited(log, action="ask", user="who", capture=["text"])
    def clear(who: str, text: str) -> None:
        del who, text

    def work(who: str) -> None:
        try:
            while not stop.is_set():
                sealed(who, "secret")
                clear(who, "secret")
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001  shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in ("ann", "bob", "ann")]
    for thread in threads:
        thread.start()
    try:
        done = []
        for _ in range(3):
            time.sleep(0.2)
            done.append(log.erase("ann", reason="request", authority="dpo"))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    last = log.erase("ann", reason="request")
    log.close()

    assert not errors
    assert sum(len(one.keys) for one in (*done, last)) >= 2
    assert sum(one.lines for one in (*done, last)) == sum(
        len(one.records) for one in (*done, last)
    )
    found = scene.verified(keys=log.subjects)
    assert found.details is not None
    assert found.details.erased > 0
    assert found.details.unfinished == 0
    assert log.subjects.ids(log.pseudonyms.of("ann")) == ()
    assert not list((scene.private / "unfinished" / "audit").iterdir())


DIES = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secureml import audit
from secureml.evidence.log import Log
from secureml.keys.files import load
root = Path(sys.argv[1])
key = load(root / "key.pem", purposes=frozenset({"audit"}))
log = Log.open(root / "audit", private=root / "private", origin="log.example/pruned",
               signer=key, purpose="audit", create=True)
when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=int(sys.argv[3]))
made = audit.AuditLog(log, details=root / "details", private=root / "private",
                      clock=lambda: when, heartbeat=1e9)
made.begin()

def die(event, args):
    if event == sys.argv[4] and sys.argv[5] in str(args[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
getattr(made, sys.argv[2])(**eval(sys.argv[6]))
"""


@pytest.mark.parametrize(
    ("what", "event", "path"),
    [
        ("erase", "os.rename", ".tmp"),
        ("prune", "os.remove", "entries"),
        ("prune", "os.rename", ".tmp"),
    ],
)
def test_what_died_in_the_middle_is_done_by_the_next(
    scene: Scene, what: str, event: str, path: str
) -> None:
    """Killed between the leaf and the removal, the next writer that begins removes it."""
    with scene.open() as log:
        log.set_retention(POLICY)
        tickets = call(log, 600)
        scene.now += timedelta(days=40)
        call(log, 10)
    options = {"records": [tickets[599].id], "reason": "wrong"} if what == "erase" else {}
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(scene.root), what, "40", event, path, repr(options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    marks = scene.private / "unfinished" / "audit"
    assert done.returncode == -9, done.stderr
    assert len(list(marks.iterdir())) == 1

    with scene.open() as log:
        log.begin()
        deadline = time.monotonic() + 20
        while list(marks.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert log.unfinished is None

    found = scene.verified()
    assert found.details is not None
    if what == "erase":
        assert (found.details.erased, found.minimum) == (1, 0)
    else:
        assert found.minimum == 512
    assert not list(marks.iterdir())


def test_a_hold_comes_first(scene: Scene) -> None:
    """Under a hold nothing goes; when it is released, what waited for that goes."""
    with scene.open() as log:
        log.set_retention(POLICY)
        ticket = call(log, 600)[3]
        scene.now += timedelta(days=40)
        log.hold("case-17")
        with pytest.raises(GateDeniedError):
            log.erase(records=[ticket.id], reason="wrong")
        with pytest.raises(GateDeniedError):
            log.prune()
        erased, pruned = log.complete()
        assert (erased.lines, pruned) == (0, None)
        marks = scene.private / "unfinished" / "audit"
        assert [path.name for path in marks.iterdir()] == ["held"]
        log.release("case-17")
        assert not list(marks.iterdir())
        assert log.erase(records=[ticket.id], reason="wrong").lines == 1
        with pytest.raises(LookupError):
            log.erase(records=["019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"], reason="wrong")
        assert not list(marks.iterdir())
        assert log.prune().minimum == 512

    assert scene.verified().minimum == 512


def test_details_on_another_file_system_are_written_where_they_are(scene: Scene) -> None:
    """Files that are renamed into the details are made on their file system."""
    log = scene.open()
    assert log._scratch() is None  # neither is there yet
    call(log, 1)
    assert log._scratch() == scene.private
    if OTHER.is_dir() and OTHER.stat().st_dev != scene.root.stat().st_dev:
        log.details = OTHER
        assert log._scratch() is None
        log.details = scene.details
    log.close()


def test_marks_that_cannot_be_kept(scene: Scene) -> None:
    """Nothing is removed where it cannot be noted that it is; and an error is shown."""
    with scene.open() as log:
        ticket = call(log, 1)[0]
        (scene.private / "unfinished").touch()
        with pytest.raises(StoreError, match="could not be noted"):
            log.erase(records=[ticket.id], reason="wrong")
        with pytest.raises(StoreError, match="could not be noted"):
            log.complete()
        log._complete_by_itself()
        assert isinstance(log.unfinished, StoreError)
        (scene.private / "unfinished").unlink()
        assert log.erase(records=[ticket.id], reason="wrong").lines == 1


class Chained(Scene):
    """The same, with keys that follow each other."""

    def __init__(self, root: Path) -> None:
        """Make the first key, which the trust names."""
        super().__init__(root)
        first = create_epochs(self.directory, self.private, origin=ORIGIN)
        own = Identity(
            name="log", verifier=first, roles=frozenset({"audit"}), origin=ORIGIN, epochs=True
        )
        self.trust = Trust((own,))
        self.notes = Places.of(self.directory, self.private).notes

    def open(self) -> audit.AuditLog:
        """Open the audit log as a writer."""
        log = Log.open(
            self.directory,
            private=self.private,
            origin=ORIGIN,
            purpose="audit",
            create=True,
            files=Memory(),
            keeping=Keeping(epochs=Epochs(leaves=550), epoch_of=epoch_of),
        )
        return audit.AuditLog(
            log, details=self.details, private=self.private, clock=self.clock, heartbeat=1e9
        )

    def verified(self, **options: object) -> audit.AuditVerification:
        """Verify it with its details; nothing may be wrong."""
        return super().verified(epochs=self.notes, **options)


def test_a_log_with_gaps_and_many_keys_is_asked_and_exported(tmp_path: Path) -> None:
    """Pruned, and signed by one key after another: verified all the same, it answers."""
    scene = Chained(tmp_path)
    with scene.open() as log:
        log.set_retention(POLICY)
        call(log, 540)
        scene.now += timedelta(days=40)
        call(log, 300)
        call(log, 400)
        gone = log.prune().bundles * 256
    found = scene.verified()
    index = open_index(scene.directory, trust=scene.trust)
    out = tmp_path / "out"

    assert gone == 256
    assert isinstance(found.proven, PrunedLog)
    assert found.log is None
    assert found.proven.chain is not None
    assert len(found.proven.chain.epochs) >= 2
    assert (index.verified, index.size, index.root) == (True, found.size, found.root)
    rows = list(index.rows())
    assert len(rows) == found.size - gone
    assert rows == query_rows(found) == query_rows(found.proven)
    for log_, trust in ((scene.directory, scene.trust), (found, None)):
        done = audit.export_log(log_, "jsonl", out, trust=trust)
        assert (done.rows, done.verified) == (found.size - gone, True)
    assert audit.export_log(found, "jsonl", out, start=found.size - 2).rows == 2

    with scene.open() as log:
        call(log, 5)
    index.refresh()
    assert index.size > found.size
    assert query_rows(found) == rows
    index.close()
    scene.notes.unlink()
    with pytest.raises(ConsistencyError, match="boundary note"):
        query_rows(scene.directory, trust=scene.trust)


def test_what_is_left_is_read_as_it_was_verified(tmp_path: Path) -> None:
    """An entry of a pruned log that changes after the verification is refused, proofs hold."""
    scene = Scene(tmp_path)
    with scene.open() as log:
        log.set_retention(POLICY)
        call(log, 600)
        early = Checkpoint.decode(Note.decode(log.log.checkpoint_note()).text)
        scene.now += timedelta(days=40)
        log.prune()
    left = scene.verified().proven
    assert isinstance(left, PrunedLog)

    assert left.absent == len(left.gone) == 1
    left.consistency(early.size).verify(
        old_size=early.size, old_root=early.root, size=left.size, root=left.root
    )
    with pytest.raises(UnexpectedFileError):
        left.entries[300]
    path = scene.directory / tiles.entries_path(0)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatchError, match="changed after it was verified"):
        query_rows(left)
