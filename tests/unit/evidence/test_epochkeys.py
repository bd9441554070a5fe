"""Handing over: one key signs at a time, the old one is gone, and a crash anywhere can go on."""

import copy
import errno
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import (
    ConsistencyError,
    FormatError,
    KeyRoleError,
    KeyUnavailableError,
    StoreError,
)
from secureml.evidence import checklog
from secureml.evidence._files import TEMPORARY, Files
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.epochs import EpochLeaf, epoch_body, join_notes, read_notes
from secureml.evidence.log import Log, verify_log
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.wire import canonical
from secureml.wire.checkpoint import Checkpoint

ORIGIN = "log.example/keys"


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class CrashError(BaseException):
    """The machine stopped."""


class Stops(Files):
    """A machine that stops before its n-th call, in the middle of it or after; or that fails."""

    def __init__(self, at: int, *, torn: bool = False, error: int = 0) -> None:
        """Stop at call *at*, from 0."""
        self.at, self.torn, self.error, self.calls = at, torn, error, 0

    @contextmanager
    def call(self) -> Iterator[bool]:
        """Stop before what is done inside, or behind it; yields whether this call is the one."""
        here = self.calls == self.at
        self.calls += 1
        if here and self.error:
            raise OSError(self.error, "no")
        if here and not self.torn:
            raise CrashError
        yield here
        if here:
            raise CrashError

    def create(self, path: Path, mode: int) -> int:
        """Make a file."""
        with self.call():
            return super().create(path, mode)

    def open_append(self, path: Path, mode: int) -> int:
        """Open a file."""
        with self.call():
            return super().open_append(path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, or write half."""
        with self.call() as here:
            return super().write(fd, bytes(data)[: len(data) // 2] if here else data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        with self.call():
            super().truncate(fd, size)

    def sync(self, fd: int) -> None:  # noqa: ARG002  the disk is never late
        """Sync."""
        with self.call():
            pass

    def sync_directory(self, path: Path) -> None:  # noqa: ARG002  as above
        """Sync."""
        with self.call():
            pass

    def rename(self, source: Path, target: Path) -> None:
        """Rename."""
        with self.call():
            super().rename(source, target)

    def remove(self, path: Path) -> None:
        """Remove."""
        with self.call():
            super().remove(path)


def epoch_of(entry: bytes) -> object | None:
    """Return what an entry of these tests says of the next key."""
    return canonical.decode(entry[1:]) if entry.startswith(b"E") else None


class Machine:
    """One log and its keys, which may stop and begin again."""

    def __init__(self, base: Path) -> None:
        """Make the first key."""
        self.base, self.notes = base, base / "epochs/log.notes"
        self.keys = EpochKeys.create(base / "keys", self.notes, origin=ORIGIN, files=Memory())
        identity = Identity(
            name="log",
            verifier=self.keys.verifier,
            roles=frozenset({"audit"}),
            origin=ORIGIN,
            epochs=True,
        )
        self.trust = Trust((identity,))
        self.log = self.open_log()
        self.keys.recover(None, [])

    def open_log(self) -> Log:
        """Open the log with the keys."""
        return Log.open(
            self.base / "log",
            private=self.base / "private",
            origin=ORIGIN,
            signer=self.keys.signer,
            purpose="audit",
            create=True,
            previous=self.keys.previous,
            files=Memory(),
        )

    def start(self, files: Files | None = None) -> None:
        """Begin after a stop, as docs/spec/epochs.md says."""
        self.keys = EpochKeys.open(
            self.base / "keys", self.notes, origin=ORIGIN, files=files or Memory()
        )
        self.log = self.open_log()
        self.log.acquire()
        found = [
            EpochLeaf(index, body)
            for index, entry in enumerate(self.log.entries())
            if (body := epoch_of(entry)) is not None
        ]
        note = self.log.checkpoint_note() if (self.base / "log/checkpoint").exists() else None
        self.keys.recover(note, found)

    def stop(self) -> None:
        """Lose what is in memory, and the lock."""
        writer = self.log._writer
        if writer is not None:
            writer._dead = "the machine stopped"
        self.log.close()

    def add(self, count: int = 2) -> None:
        """Append entries."""
        for number in range(count):
            self.log.append(b"entry %d" % number, sync=False)

    def publish(self) -> str:
        """Publish, and hand over where that is the boundary."""
        note = self.log.publish()
        self.keys.published(note)
        return note

    def hand_over(self) -> None:
        """Go to the next epoch."""
        if self.keys.announced is None:
            body = self.keys.next()
            self.keys.announce(self.log.append(b"E" + canonical.encode(body), sync=True))
        self.publish()

    def private(self) -> list[str]:
        """Return the names of the private keys."""
        return sorted(path.name for path in (self.base / "keys").glob("*.pem"))

    def check(self) -> None:
        """Verify the log as a stranger who pinned the first key."""
        found = verify_log(
            self.base / "log", trust=self.trust, role="audit", epochs=self.notes, epoch_of=epoch_of
        )
        assert self.keys.verifier == found.signer.verifier
        assert found.chain is not None
        assert self.keys.number == found.chain.epochs[-1].number


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a log of one checkpoint."""
    made = Machine(tmp_path)
    made.add()
    made.publish()
    return made


def test_one_key_after_the_other(machine: Machine) -> None:
    """Each epoch has a key of its own; those before are gone, and the log verifies throughout."""
    seen = [machine.keys.verifier]
    for number in range(1, 4):
        machine.hand_over()
        machine.add()
        machine.publish()
        seen.append(machine.keys.verifier)
        machine.check()
        assert [f"{number:06}.pem"] == machine.private()
        assert (seen[-2],) == machine.keys.previous
    assert 4 == len(set(seen))
    assert [f"{2:06}.pub"] == sorted(p.name for p in (machine.base / "keys").glob("*.pub"))


def test_the_old_key_is_written_over(machine: Machine) -> None:
    """The bytes of the old key file are other ones before its name is removed."""
    path = machine.base / "keys/000000.pem"
    old = path.read_bytes()
    link = machine.base / "kept"
    link.hardlink_to(path)

    machine.hand_over()

    assert not path.exists()
    assert len(old) == len(link.read_bytes())
    assert old != link.read_bytes()


def test_a_restart_changes_nothing(machine: Machine) -> None:
    """Closed and opened at any time, the keys go on where they were."""
    for _ in range(2):
        machine.hand_over()
        before = machine.keys.verifier
        machine.log.close()
        machine.start()
        assert (before, None) == (machine.keys.verifier, machine.keys.announced)
        machine.add()
        machine.publish()
        machine.log.close()
        machine.start()
        machine.check()


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("at", range(41))
def test_a_crash_at_each_step(tmp_path: Path, at: int, torn: bool) -> None:  # noqa: FBT001
    """After a stop at any call, recovery finds the key that signs, and the log goes on."""
    machine = Machine(tmp_path)
    machine.add()
    machine.publish()
    machine.stop()
    files = Stops(at, torn=torn)
    try:
        machine.start(files)
        machine.hand_over()
        machine.add()
        machine.publish()
        machine.hand_over()
    except CrashError:
        machine.stop()
        machine.start()
        machine.publish()
        assert len(machine.private()) <= 2
    else:
        assert files.calls <= at, "every call is one to stop at"
        files.at = -1
    machine.add()
    machine.hand_over()
    machine.add()
    machine.publish()
    machine.check()
    assert [f"{machine.keys.number:06}.pem"] == machine.private()
    assert not list((tmp_path / "keys").glob(f"{TEMPORARY}*"))
    machine.log.close()


def test_a_crash_after_each_step_of_the_log(machine: Machine) -> None:
    """Next key made; leaf appended; boundary published: a stop behind each is recovered from."""
    body = machine.keys.next()
    machine.stop()
    machine.start()
    assert body == machine.keys.next(), "no leaf announced it: the same key is used"

    machine.keys.announce(machine.log.append(b"E" + canonical.encode(body), sync=True))
    machine.stop()
    machine.start()
    assert 2 == machine.keys.announced, "the leaf is pending: the old key signs its boundary"

    machine.log.publish()
    machine.stop()
    machine.start()
    assert 1 == machine.keys.number, "the boundary is there"
    assert 2 == len(machine.private()) + len(read_notes(machine.notes))
    assert 1 == len(read_notes(machine.notes))
    machine.add()
    machine.publish()
    machine.check()


def test_a_leaf_that_was_lost_is_announced_again(machine: Machine) -> None:
    """A leaf that did not reach the disk: the same key is announced by another."""
    body = machine.keys.next()
    machine.keys.announce(7)

    machine.keys.recover(machine.log.checkpoint_note(), [])

    assert machine.keys.announced is None
    assert body == machine.keys.next()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_the_end_until_it_is_opened_again(tmp_path: Path, error: int) -> None:
    """A failed handing over is a StoreError, and nothing is signed until recovery finishes it."""
    for at in range(3, 25):
        machine = Machine(tmp_path / str(at))
        machine.add()
        machine.publish()
        machine.log.close()
        try:
            machine.start(Stops(at, error=error))
            machine.hand_over()
        except StoreError:
            machine.log._writer = None
            if machine.keys.announced is not None:
                with pytest.raises(KeyUnavailableError, match="a handing over failed"):
                    machine.keys.signer.sign(b"", purpose="audit")
        machine.log = machine.open_log()
        machine.log.close()
        machine.start()
        machine.add()
        machine.hand_over()
        machine.add()
        machine.publish()
        machine.check()
        machine.log.close()


# What is refused


def test_nothing_is_signed_before_recovery(machine: Machine) -> None:
    """Keys that were opened sign only after they were told what is in the log."""
    machine.log.close()
    opened = EpochKeys.open(machine.base / "keys", machine.notes, origin=ORIGIN)
    text = Checkpoint(ORIGIN, 2, bytes(32))

    with pytest.raises(KeyUnavailableError, match=r"recover\(\) was not called"):
        sign_checkpoint(text, opened.signer, purpose="audit")
    with pytest.raises(KeyUnavailableError):
        opened.next()
    with pytest.raises(KeyUnavailableError):
        opened.commit("")


def test_a_boundary_is_the_last_that_a_key_signs(machine: Machine) -> None:
    """After it only the same checkpoint may be signed again, until it is committed."""
    machine.keys.next()
    machine.keys.announce(2)
    signer = machine.keys.signer
    below, boundary, beyond = (Checkpoint(ORIGIN, size, bytes(32)) for size in (2, 3, 4))

    sign_checkpoint(below, signer, purpose="audit")
    note = sign_checkpoint(boundary, signer, purpose="audit")
    assert note == sign_checkpoint(boundary, signer, purpose="audit")
    with pytest.raises(KeyRoleError, match="has signed its last"):
        sign_checkpoint(beyond, signer, purpose="audit")
    with pytest.raises(KeyRoleError, match="is announced already"):
        machine.keys.next()
    machine.keys.commit(note)
    sign_checkpoint(beyond, signer, purpose="audit")


def test_it_signs_checkpoints_of_its_log_only(machine: Machine) -> None:
    """Statements, checkpoints of other logs and other purposes are refused."""
    signer = machine.keys.signer
    other = Checkpoint("log.example/other", 1, bytes(32))

    for message in (b"statement", b"\xff", other.encode().encode()):
        with pytest.raises(KeyRoleError, match="signs its checkpoints only"):
            signer.sign(message, purpose="audit")
    with pytest.raises(KeyRoleError):
        sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), signer, purpose="log")
    assert frozenset({"audit"}) == signer.purposes
    assert isinstance(signer, keys.Signer)


def test_keys_stay_where_they_are(machine: Machine) -> None:
    """The signer is neither copied nor pickled, and its repr tells whose it is."""
    signer = machine.keys.signer
    for out in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            out(signer)
    assert repr(signer) == f"<EpochSigner epoch 0 of '{ORIGIN}'>"


def test_only_the_boundary_is_committed(machine: Machine) -> None:
    """A checkpoint below the leaf, or by another key, hands nothing over."""
    stranger = keys.generate("ed25519", purposes={"audit"})
    note = machine.log.checkpoint_note()
    assert not machine.keys.published(note)
    for wrong in (note,):
        with pytest.raises(ValueError, match="covers the leaf"):
            machine.keys.commit(wrong)
    machine.keys.next()
    machine.keys.announce(2)
    assert not machine.keys.published(note)
    forged = sign_checkpoint(Checkpoint(ORIGIN, 3, bytes(32)), stranger, purpose="audit")
    with pytest.raises(ConsistencyError, match="not by the key of this epoch"):
        machine.keys.published(forged)
    with pytest.raises(FormatError):
        machine.keys.published("nonsense")
    assert ["000000.pem", "000001.pem"] == machine.private()


def test_announcing_needs_a_key(machine: Machine) -> None:
    """Without a next key, or at a second place, there is nothing to announce."""
    with pytest.raises(ValueError, match=r"announce\(\) follows next\(\)"):
        machine.keys.announce(2)
    machine.keys.next()
    machine.keys.announce(2)
    machine.keys.announce(2)
    with pytest.raises(ValueError, match="once"):
        machine.keys.announce(3)


def test_keys_and_log_belong_together(machine: Machine) -> None:
    """Leaves of other keys, of epochs too far, or twice: refused, and nothing is signed."""
    body = machine.keys.next()
    other = keys.generate("ed25519").verifier
    for leaves, match in (
        ([EpochLeaf(2, epoch_body(1, ORIGIN, other))], "another key for epoch 1"),
        ([EpochLeaf(2, epoch_body(2, ORIGIN, other))], "announces epoch 2"),
        ([EpochLeaf(2, body), EpochLeaf(3, body)], "leaf 3 announces epoch 1"),
    ):
        with pytest.raises(ConsistencyError, match=match):
            machine.keys.recover(None, leaves)
    (machine.base / "keys/000001.pem").unlink()
    opened = EpochKeys.open(machine.base / "keys", machine.notes, origin=ORIGIN)
    with pytest.raises(KeyUnavailableError, match=r"the key of epoch 1 .* is not there"):
        opened.recover(None, [EpochLeaf(2, body)])


def test_a_lost_key_is_named(machine: Machine) -> None:
    """Without the key of the present epoch, or with notes that were cut, nothing goes on."""
    machine.hand_over()
    machine.add()
    machine.publish()
    machine.hand_over()
    machine.log.close()
    notes = read_notes(machine.notes)

    machine.notes.write_text(join_notes(notes[:1]))
    with pytest.raises(KeyUnavailableError, match=r"key of epoch 1 .* is not there"):
        machine.start()
    machine.notes.write_text(join_notes([notes[1], notes[0]]))
    with pytest.raises(ConsistencyError, match="not by the key before this"):
        machine.start()
    machine.notes.write_text("")
    with pytest.raises(KeyUnavailableError):
        machine.start()
    machine.notes.write_text(join_notes(notes))
    machine.start()
    (machine.base / "keys/000007.pem").write_bytes(b"")
    with pytest.raises(ConsistencyError, match="keys of epoch 7"):
        machine.start()


@pytest.mark.parametrize(
    "torn", [b"log.ex", b"\xe2\x80", b"log\n1\nAA=\n\n\xe2\x80\x94 x", bytes(90)]
)
def test_a_torn_note_is_cut_off(machine: Machine, torn: bytes) -> None:
    """What a loss of power left of a note, even of a character, is gone before the next."""
    machine.hand_over()
    machine.add()
    machine.publish()
    machine.log.close()
    with machine.notes.open("ab") as file:
        file.write(torn)

    machine.start()
    machine.hand_over()
    assert 2 == len(read_notes(machine.notes))
    machine.add()
    machine.publish()
    machine.check()


def test_a_note_that_is_there_is_kept_once(machine: Machine) -> None:
    """Asked to keep the note that is the last already, nothing is written."""
    machine.hand_over()
    whole = machine.notes.read_bytes()

    machine.keys._disk.keep(read_notes(machine.notes)[0], 1)
    assert whole == machine.notes.read_bytes()


def test_a_new_log_has_new_places(machine: Machine) -> None:
    """Keys or notes that are there are not made anew."""
    for directory, notes in (
        (machine.base / "keys", machine.base / "new"),
        (machine.base / "new", machine.base / "keys/000000.pem"),
    ):
        with pytest.raises(KeyUnavailableError, match="already"):
            EpochKeys.create(directory, notes, origin=ORIGIN)
    with pytest.raises(ValueError, match="log or audit"):
        EpochKeys.create(machine.base / "x", machine.base / "y", origin=ORIGIN, purpose="witness")
    with pytest.raises(ValueError, match="origin"):
        EpochKeys.create(machine.base / "x", machine.base / "y", origin="a b")


def test_an_existing_key_may_be_the_first(tmp_path: Path) -> None:
    """A key that was made before moves into the chain; one of another scheme does not."""
    old = keys.create(tmp_path / "audit", scheme="ed25519", purposes={"audit"})
    keys.create(tmp_path / "strange")

    with pytest.raises(KeyUnavailableError, match="ecdsa-p256"):
        EpochKeys.create(
            tmp_path / "keys", tmp_path / "notes", origin=ORIGIN, first=tmp_path / "strange"
        )
    made = EpochKeys.create(
        tmp_path / "keys", tmp_path / "notes", origin=ORIGIN, first=tmp_path / "audit"
    )
    assert old.verifier == made.verifier
    assert not (tmp_path / "audit").exists()


def test_keys_may_be_locked(tmp_path: Path) -> None:
    """With a passphrase each key file is encrypted, the next one too."""
    secret = "long and dull"  # noqa: S105  of keys made for the test
    made = EpochKeys.create(
        tmp_path / "keys", tmp_path / "notes", origin=ORIGIN, passphrase=secret
    )
    made.recover(None, [])
    made.next()

    assert all(keys.is_encrypted(path) for path in (tmp_path / "keys").glob("*.pem"))
    with pytest.raises(KeyUnavailableError, match="locked"):
        EpochKeys.open(tmp_path / "keys", tmp_path / "notes", origin=ORIGIN)
    opened = EpochKeys.open(
        tmp_path / "keys",
        tmp_path / "notes",
        origin=ORIGIN,
        passphrase=secret,
        period=timedelta(minutes=1),
    )
    assert made.verifier == opened.verifier


def test_a_second_signature_goes_along(tmp_path: Path) -> None:
    """A checkpoint signed twice is a boundary as well, and is kept whole."""
    second = keys.generate("mldsa-44", purposes={"audit"})
    made = EpochKeys.create(tmp_path / "keys", tmp_path / "notes", origin=ORIGIN)
    made.recover(None, [])
    made.next()
    made.announce(0)
    boundary = Checkpoint(ORIGIN, 1, bytes(32))
    note = sign_checkpoint(boundary, made.signer, purpose="audit", also=[second])

    assert made.published(note)
    assert [note] == read_notes(tmp_path / "notes")


def test_a_system_that_refuses_is_told(tmp_path: Path) -> None:
    """Making the first key, or the next, on a disk that fails is a StoreError."""
    with pytest.raises(StoreError, match="first epoch key"):
        EpochKeys.create(
            tmp_path / "a", tmp_path / "n", origin=ORIGIN, files=Stops(0, error=errno.EIO)
        )
    EpochKeys.create(tmp_path / "keys", tmp_path / "notes", origin=ORIGIN)
    opened = EpochKeys.open(
        tmp_path / "keys", tmp_path / "notes", origin=ORIGIN, files=Stops(0, error=errno.EIO)
    )
    opened.recover(None, [])
    with pytest.raises(StoreError, match="next epoch key"):
        opened.next()
    (tmp_path / "keys" / f"{TEMPORARY}000001.pem").write_bytes(b"half")
    with pytest.raises(StoreError, match="could not open the epoch keys"):
        EpochKeys.open(
            tmp_path / "keys", tmp_path / "notes", origin=ORIGIN, files=Stops(0, error=errno.EIO)
        )
