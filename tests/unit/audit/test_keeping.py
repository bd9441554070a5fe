# ruff: noqa: ANN401  options go where they belong
"""Keys that follow each other, the sealed tail and second signatures, as a log is written."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.audit.verification import epoch_of
from secureml.errors import (
    ConsistencyError,
    ExpiredError,
    KeyUnavailableError,
    SecureMLError,
    StoreError,
    ThresholdError,
    UntrustedSignerError,
)
from secureml.evidence._files import Files
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.epochs import read_notes
from secureml.evidence.keeping import (
    Epochs,
    Keeping,
    Places,
    create_epochs,
    create_tail,
    read_tail,
)
from secureml.evidence.log import Log, verify_log
from secureml.evidence.sealedtail import SealedTail
from secureml.evidence.tail import check_tail
from secureml.evidence.trust import Identity, Trust
from secureml.keys import KeySigner, Verifier, generate

ORIGIN = "log.example/kept"
FEW = Epochs(leaves=20)
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


class Place:
    """A directory with an audit log whose keys follow each other."""

    def __init__(self, root: Path, *, tail: bool = False) -> None:
        """Make the first key, and the tail's."""
        self.root = root
        self.directory, self.private = root / "audit", root / "private"
        self.at = Places.of(self.directory, self.private)
        self.first = create_epochs(self.directory, self.private, origin=ORIGIN)
        self.key = create_tail(self.directory, self.private, origin=ORIGIN) if tail else b""
        self.also: KeySigner | None = None

    @property
    def trust(self) -> Trust:
        """A trust that names the first key, and the second signer where there is one."""
        named = [_named(self.first, epochs=True)]
        if self.also is not None:
            named.append(_named(self.also.verifier, name="also"))
        return Trust(tuple(named))

    def open(self, epochs: Epochs = FEW, **options: Any) -> audit.AuditLog:
        """Open the audit log as a writer."""
        log = Log.open(
            self.directory,
            private=self.private,
            origin=ORIGIN,
            purpose="audit",
            create=True,
            files=options.pop("files", None) or Memory(),
            keeping=Keeping(epochs=epochs, epoch_of=epoch_of),
        )
        return audit.AuditLog(log, details=self.root / "details", private=self.private, **options)

    def verified(self, **options: Any) -> audit.AuditVerification:
        """Verify the log as an auditor who has the first key alone."""
        found = audit.verify_audit(
            self.directory, trust=self.trust, epochs=self.at.notes, level="records", **options
        )
        found.enforce(strict=True)
        return found

    def verified_after_crashes(self) -> audit.AuditVerification:
        """Verify it; who died is accounted for, and is no error."""
        found = audit.verify_audit(self.directory, trust=self.trust, epochs=self.at.notes)
        found.enforce()
        return found

    def epochs(self) -> int:
        """Return how many epochs are over."""
        return len(read_notes(self.at.notes))

    def key_files(self) -> list[str]:
        """Return the files of keys."""
        return sorted(path.name for path in self.at.keys.iterdir())


def _named(verifier: Verifier, *, name: str = "log", epochs: bool = False) -> Identity:
    return Identity(
        name=name, verifier=verifier, roles=frozenset({"audit"}), origin=ORIGIN, epochs=epochs
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a directory with a first key."""
    return Place(tmp_path)


@pytest.fixture
def sealed(tmp_path: Path) -> Place:
    """Return one with a sealed tail as well."""
    return Place(tmp_path, tail=True)


def call(log: audit.AuditLog, count: int = 1) -> None:
    """Append calls, and publish."""
    for _ in range(count):
        log.append(BODY)
    log.publish()


def test_keys_follow_each_other_as_the_log_grows(place: Place) -> None:
    """A key that signed for so many leaves announces the next, is destroyed, and all verifies."""
    with place.open() as log:
        for _ in range(6):
            call(log, 15)
            assert len([name for name in place.key_files() if name.endswith(".pem")]) == 1

    over = place.epochs()
    found = place.verified()
    assert over >= 3
    assert place.key_files() == [f"{over - 1:06}.pub", f"{over:06}.pem"]
    assert found.log is not None
    assert found.log.chain is not None
    assert len(found.log.chain.epochs) == over + 1
    kinds = [record.type for record in audit.check_records(found.log.entries)]
    assert kinds.count("epoch") == over
    assert kinds.count("call") == 90
    assert found.signer == f"log, epoch {over}"


def test_the_first_key_alone_vouches_for_nothing_later(place: Place) -> None:
    """A trust that takes the first key for the only one refuses what later keys signed."""
    with place.open() as log:
        call(log, 30)
        call(log, 1)
    only = Trust((_named(place.first),))

    with pytest.raises((UntrustedSignerError, ExpiredError)):
        audit.verify_audit(place.directory, trust=only)
    with pytest.raises(ConsistencyError, match="boundary note that ends epoch 0"):
        audit.verify_audit(place.directory, trust=place.trust, epochs=[])
    assert place.verified().ok


def test_keys_change_with_time(place: Place) -> None:
    """A key is over after its period, once there is something to protect, and then rests."""
    with place.open(Epochs(period=timedelta(milliseconds=300)), heartbeat=3600.0) as log:
        call(log)
        deadline = time.monotonic() + 20
        while place.epochs() < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        size = log.log.size
        time.sleep(1.5)

        assert place.epochs() == 1
        assert log.log.size == size
    assert place.verified().ok


def test_whoever_writes_takes_the_keys_that_are_there(place: Place) -> None:
    """A log that has epoch keys is written with them, whatever signer it was opened with."""
    with place.open() as log:
        call(log, 2)
    other = generate("ed25519", purposes={"audit"})
    plain = Log.open(
        place.directory, private=place.private, signer=other, purpose="audit", files=Memory()
    )
    with audit.AuditLog(plain, details=place.root / "d", private=place.private) as log:
        call(log, 2)

    assert place.verified().size == 8


@pytest.mark.parametrize("epochs", [True, timedelta(hours=2), FEW])
def test_keys_that_were_never_made_are_refused(tmp_path: Path, epochs: Any) -> None:
    """Asking for epochs without a first key is an error, and nothing is written."""
    signer = generate("ed25519", purposes={"audit"})
    log = Log.open(
        tmp_path / "audit",
        private=tmp_path / "p",
        origin=ORIGIN,
        signer=signer,
        create=True,
        purpose="audit",
    )
    made = audit.AuditLog(log, details=tmp_path / "d", private=tmp_path / "p", epochs=epochs)

    with pytest.raises(KeyUnavailableError, match="no epoch keys"):
        made.append(BODY)
    assert not (tmp_path / "audit").exists()


def test_a_tail_that_was_never_begun_is_refused(place: Place) -> None:
    """Asking for a sealed tail without its key is an error."""
    log = place.open(sealed=True)

    with pytest.raises(StoreError, match="no sealed tail"):
        log.append(BODY)


def test_a_directory_of_keys_that_is_gone_is_refused(place: Place) -> None:
    """With boundary notes and no keys the log is not written, by nobody."""
    with place.open() as log:
        call(log, 30)
    for name in place.key_files():
        (place.at.keys / name).unlink()

    with pytest.raises(KeyUnavailableError), place.open() as log:
        log.append(BODY)


def test_a_log_that_lost_an_epoch_is_refused(place: Place) -> None:
    """A log that ends before its last boundary is not written on, private memory lost or not."""
    with place.open(Epochs(leaves=1000)) as log:
        call(log, 3)
    old = {path: path.read_bytes() for path in place.directory.rglob("*") if path.is_file()}
    with place.open() as log:
        call(log, 30)
    assert place.epochs() == 1
    for path in sorted(place.directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for path, data in old.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (place.private / "checkpoints" / "audit").unlink()

    with pytest.raises(ConsistencyError, match="cut or rolled back"), place.open() as log:
        log.append(BODY)


def test_the_leader_changes_in_the_middle_of_an_epoch(place: Place) -> None:
    """Whoever takes over reads the keys anew, and goes on in the same epoch."""
    log = place.open(Epochs(leaves=40))
    call(log, 20)
    program = LEADER.format(root=str(place.root), leaves=40, calls=20)
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "recorded\n"
    before = place.epochs()
    log.close()
    other.stdin.write("go on\n")
    other.stdin.flush()
    assert other.stdout.readline() == "led\n"
    other.stdin.close()
    assert other.wait(60) == 0
    other.stdout.close()

    assert before == 1
    assert place.epochs() >= 2
    assert place.verified().report.count > 80


LEADER = """
import sys, time
from datetime import timedelta
from pathlib import Path
from secureml import audit
from secureml.audit.verification import epoch_of
from secureml.evidence.keeping import Epochs, Keeping
from secureml.evidence.log import Log
root = Path({root!r})
log = Log.open(root / "audit", private=root / "private", origin="log.example/kept",
               purpose="audit", create=True,
               keeping=Keeping(epochs=Epochs(leaves={leaves}), epoch_of=epoch_of))
body = {{"action": "act", "call": {{"kind": "function", "name": "f"}}, "latency_us": 1,
        "outcome": "ok", "type": "call"}}
made = audit.AuditLog(log, details=root / "details", private=root / "private")
for _ in range({calls}):
    made.append(body, ack="checkpointed")
print("recorded", flush=True)
sys.stdin.readline()
for _ in range({calls} * 2):
    made.append(body)
made.publish()
print("led", flush=True)
made.close()
"""


def held_of(place: Place) -> int:
    """Return how many objects of this process hold keys of this log, not of another test's."""
    gc.collect()
    mine = [one for one in gc.get_objects() if isinstance(one, EpochKeys)]
    return sum(str(place.root) in str(one._disk.directory) for one in mine)


def test_whoever_does_not_write_holds_no_key(place: Place) -> None:
    """A process that records beside the leader never reads a key; nor does the leader's child."""
    program = LEADER.format(root=str(place.root), leaves=40, calls=2).replace(
        'print("led", flush=True)',
        "import gc\n"
        "from secureml.evidence.epochkeys import EpochKeys\n"
        "print(sum(isinstance(o, EpochKeys) for o in gc.get_objects()), flush=True)\n",
    )
    with place.open(Epochs(leaves=40)) as log:
        call(log, 1)
        other = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "recorded\n"
        other.stdin.write("\n")
        other.stdin.flush()
        beside = other.stdout.readline()
        other.stdin.close()
        other.stdout.close()
        assert other.wait(60) == 0

        assert held_of(place) == 1
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover  in the child
            os.write(writing, b"%d" % held_of(place))
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        inherited = os.read(reading, 8)
        os.close(reading)

    assert beside == "0\n"
    assert inherited == b"0"
    assert place.verified().ok


# Crashes


KILLED = """
import os, signal, sys
from pathlib import Path
from secureml import audit
from secureml.audit.verification import epoch_of
from secureml.evidence import _files
from secureml.evidence.keeping import Epochs, Keeping
from secureml.evidence.log import Log

class Dies(_files.Files):
    left = int(sys.argv[2])
    def _count(self):
        Dies.left -= 1
        if not Dies.left:
            os.kill(os.getpid(), signal.SIGKILL)
    def write(self, fd, data):
        self._count()
        return super().write(fd, data)
    def rename(self, source, target):
        self._count()
        super().rename(source, target)
    def remove(self, path):
        self._count()
        super().remove(path)
    def sync(self, fd):
        self._count()
    def sync_directory(self, path):
        pass

root = Path(sys.argv[1])
log = Log.open(root / "audit", private=root / "private", origin="log.example/kept",
               purpose="audit", create=True, files=Dies(),
               keeping=Keeping(epochs=Epochs(leaves=6), epoch_of=epoch_of, sealed=True))
body = {"action": "act", "call": {"kind": "function", "name": "f"}, "latency_us": 1,
        "outcome": "ok", "type": "call"}
made = audit.AuditLog(log, details=root / "details", private=root / "private")
while True:
    made.append(body, ack="checkpointed")
    os.write(1, b".")
"""


@pytest.mark.parametrize("start", range(3))
def test_a_leader_is_killed_at_any_step(tmp_path: Path, start: int) -> None:
    """Killed between any two steps of publishing, handing over and sealing, the log goes on."""
    place = Place(tmp_path, tail=True)
    acknowledged = 0
    for at in range(20 + 7 * start, 150, 23):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(at)],
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == -9, done.stderr.decode()
        acknowledged += len(done.stdout)
    with place.open(Epochs(leaves=6)) as log:
        call(log, 3)
        tail = SealedTail.open(place.at.tail, place.at.steps, origin=ORIGIN).tail

    found = place.verified_after_crashes()
    records = audit.check_records(found.log.entries)  # type: ignore[union-attr]
    assert len([name for name in place.key_files() if name.endswith(".pem")]) == 1
    assert acknowledged <= sum(record.type == "call" for record in records) - 3
    assert place.epochs() >= 2
    assert found.log is not None
    assert check_tail(place.key, found.log, tail, place.at.steps).size > 20


class Fails(Memory):
    """A disk that fails once, at one call after it is told to; spools are elsewhere."""

    def __init__(self) -> None:
        """Fail never, so far."""
        self.left = 0

    def _call(self, path: str) -> None:
        if self.left and "/spool/" not in path:
            self.left -= 1
            if not self.left:
                raise OSError(5, "no")

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, or fail."""
        self._call(str(Path(f"/proc/self/fd/{fd}").readlink()))
        return super().write(fd, data)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or fail."""
        self._call(str(source))
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        """Remove, or fail."""
        self._call(str(path))
        super().remove(path)

    def sync(self, fd: int) -> None:
        """Sync, or fail."""
        self._call(str(Path(f"/proc/self/fd/{fd}").readlink()))


@pytest.mark.parametrize("at", range(1, 40, 3))
def test_a_disk_that_fails_while_keys_change(tmp_path: Path, at: int) -> None:
    """Whatever call fails, the leader reads everything anew, and no record is lost or doubled."""
    place = Place(tmp_path, tail=True)
    files = Fails()
    log = place.open(Epochs(leaves=6), files=files)
    log.begin()
    tickets = []
    for round_ in range(6):
        if round_ == 2:
            files.left = at
        for _ in range(4):
            with_retries(lambda: tickets.append(log.append(BODY)))
        with_retries(log.publish)
    with_retries(log.close)

    found = place.verified_after_crashes()
    assert found.log is not None
    ids = [record.id for record in audit.check_records(found.log.entries) if record.type == "call"]
    assert [ticket.id for ticket in tickets] == ids
    tail = read_tail(place.directory, place.private, origin=ORIGIN)
    assert check_tail(place.key, found.log, tail, place.at.steps).uncovered == 0


def with_retries(do: Callable[[], object]) -> None:
    """Call again after an error of the disk."""
    for _ in range(20):
        try:
            do()
        except SecureMLError:
            time.sleep(0.1)
        else:
            return
    do()


# The sealed tail


def test_a_cut_shows_against_the_sealed_tail(sealed: Place, tmp_path: Path) -> None:
    """Whoever cuts the log's end, and what this machine remembers, cannot make its tail."""
    with sealed.open() as log:
        call(log, 3)
    earlier = {
        path: path.read_bytes()
        for top in (sealed.directory, sealed.private / "checkpoints")
        for path in top.rglob("*")
        if path.is_file()
    }
    with sealed.open() as log:
        call(log, 10)
    whole = sealed.verified().log
    assert whole is not None
    tail = SealedTail.open(sealed.at.tail, sealed.at.steps, origin=ORIGIN).tail
    assert check_tail(sealed.key, whole, tail, sealed.at.steps).uncovered == 0

    for path in sorted(sealed.directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    for path, data in earlier.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    cut = sealed.verified().log
    assert cut is not None
    with pytest.raises(ConsistencyError, match="sealed tail"):
        check_tail(sealed.key, cut, tail, sealed.at.steps)
    with pytest.raises(ConsistencyError), sealed.open() as log:
        log.append(BODY)
    del tmp_path


def test_a_log_that_begins_again_is_refused(sealed: Place) -> None:
    """A log that was removed with all that is remembered of it is not begun a second time."""
    with sealed.open() as log:
        call(log, 3)
    for path in sorted(sealed.directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (sealed.private / "checkpoints" / "audit").unlink()

    with pytest.raises(ConsistencyError), sealed.open() as log:
        log.append(BODY)


def test_a_tail_is_sealed_whoever_writes(sealed: Place) -> None:
    """A process that was not told of the tail seals it all the same."""
    with sealed.open() as log:
        call(log, 3)
    size = SealedTail.open(sealed.at.tail, sealed.at.steps, origin=ORIGIN).tail.size

    with sealed.open() as log:
        call(log, 3)

    after = SealedTail.open(sealed.at.tail, sealed.at.steps, origin=ORIGIN).tail.size
    assert after == size + 5 == Log.open(sealed.directory).size


# Second signatures


def test_a_second_signature_stands_under_each_checkpoint(place: Place) -> None:
    """Boundaries and checkpoints carry the ML-DSA-44 signature that the trust demands."""
    place.also = generate("mldsa-44", purposes={"audit"})
    with place.open(also=place.also) as log:
        call(log, 30)
        call(log, 5)

    found = place.verified()
    assert place.epochs() == 1
    assert found.log is not None
    assert len(found.log.note.split("\n\n")[1].strip().split("\n")) == 2
    with place.open() as log:
        call(log, 1)
    with pytest.raises(ThresholdError):
        place.verified()


def test_a_log_of_one_key_signs_twice(tmp_path: Path) -> None:
    """`Log.open` takes the second signer as well."""
    signer = generate("ed25519", purposes={"log"})
    also = generate("mldsa-44", purposes={"log"})
    named = tuple(
        Identity(name=name, verifier=one.verifier, roles=frozenset({"log"}), origin=ORIGIN)
        for name, one in (("log", signer), ("also", also))
    )
    with Log.open(
        tmp_path / "log", origin=ORIGIN, signer=signer, also=[also], create=True, files=Memory()
    ) as log:
        log.append(b"one")

    assert verify_log(tmp_path / "log", trust=Trust(named)).size == 1


# Threads


def test_many_threads_beside_changing_keys(place: Place) -> None:
    """Eight threads wait for checkpoints while the keys change under them."""
    errors: list[BaseException] = []
    with place.open(Epochs(leaves=15)) as log:

        def work() -> None:
            try:
                for _ in range(12):
                    log.append(BODY, ack="checkpointed")
            except BaseException as error:  # noqa: BLE001  shown below
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert not errors
    assert place.epochs() >= 3
    assert place.verified().report.outcomes == {"ok": 96}


# Choices


@pytest.mark.parametrize("options", [{"period": timedelta()}, {"leaves": 0}])
def test_an_epoch_lasts(options: dict[str, Any]) -> None:
    """Neither no time nor no leaf is an epoch."""
    with pytest.raises(ValueError, match="lasts some time"):
        Epochs(**options)


def test_epochs_need_somebody_who_reads_their_leaves(place: Place) -> None:
    """Keys that follow each other are found by their leaves; and one leaf announces one key."""
    with pytest.raises(ValueError, match="epoch_of"):
        Keeping(epochs=FEW)
    log = Log.open(
        place.directory,
        private=place.private,
        origin=ORIGIN,
        purpose="audit",
        create=True,
        files=Memory(),
        keeping=Keeping(epochs=Epochs(leaves=2), epoch_of=epoch_of, announce=lambda _: [b"x"]),
    )
    log.commit([b"1"])
    with pytest.raises(ValueError, match="one entry announces a key"):
        log.commit([b"2", b"3"])
    log.release()
    assert log.size == 1


def test_a_log_without_announcements_stays_with_its_key(place: Place) -> None:
    """A log of entries that nobody composes is signed by its first key, for ever."""
    with Log.open(
        place.directory,
        private=place.private,
        origin=ORIGIN,
        purpose="audit",
        create=True,
        files=Memory(),
        keeping=Keeping(epochs=Epochs(leaves=2), epoch_of=epoch_of),
    ) as log:
        for number in range(5):
            log.append(b"%d" % number)
            log.publish()
        assert not log.hands_over
        assert log.verifiers == (place.first,)
        assert log.log_id().hex() == place.first.fingerprint.removeprefix("sha256:")

    assert place.key_files() == ["000000.pem"]
    found = verify_log(
        place.directory, trust=place.trust, role="audit", epochs=[], epoch_of=epoch_of
    )
    assert found.size == 5


def test_a_leaf_that_only_looks_like_one_announces_nothing() -> None:
    """What is no record is no announcement; whoever reads the records says so."""
    assert epoch_of(b'{"type":"epoch"}') is None
