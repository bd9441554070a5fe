"""The sealed tail: what it finds, what it cannot, and a stop at any call."""

import copy
import errno
import hashlib
import hmac
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import ConsistencyError, FormatError, StoreError
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence.log import Log, VerifiedLog, verify_log
from secureml.evidence.sealedtail import SealedTail
from secureml.evidence.tail import Tail, VerifiedTail, check_tail, fold_tail, sizes_of
from secureml.evidence.trust import Identity, Trust
from secureml.wire.merkle import leaf_hash, root

ORIGIN = "log.example/tail"
SIGNER = keys.generate("ed25519", purposes={"log"})
TRUST = Trust(
    (Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN),)
)
VECTOR = json.loads(
    (Path(__file__).parents[3] / "vectors/sealed-tail/three-updates.json").read_text()
)


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class CrashError(BaseException):
    """The machine stopped."""


class Stops(Files):
    """A machine that stops at its n-th call, a write done by half; or a disk that fails."""

    def __init__(self, at: int, *, error: int = 0) -> None:
        """Stop at call *at*, from 0."""
        self.at, self.error, self.calls = at, error, 0

    def call(self) -> bool:
        """Count; tell whether this call is the one."""
        self.calls += 1
        if self.calls - 1 == self.at and self.error:
            raise OSError(self.error, "no")
        return self.calls - 1 == self.at

    def open_append(self, path: Path, mode: int) -> int:
        """Open a file, or stop."""
        if self.call():
            raise CrashError
        return super().open_append(path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, or write a part and stop."""
        if self.call():
            super().write(fd, bytes(data)[: len(data) // 4])
            raise CrashError
        return super().write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut, or stop."""
        if self.call():
            raise CrashError
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:  # noqa: ARG002  the disk is never late
        """Sync, or stop."""
        if self.call():
            raise CrashError


class Machine:
    """A log with a sealed tail, on one machine; the key is with the auditor."""

    def __init__(self, base: Path) -> None:
        """Begin both."""
        self.base = base
        self.path, self.steps = base / "private/tail", base / "tails/log.steps"
        self.sealed, self.key = SealedTail.create(
            self.path, self.steps, origin=ORIGIN, files=Memory()
        )
        self.entries: list[bytes] = []

    def publish(self, count: int = 3, *, seal: bool = True) -> None:
        """Append, publish and seal."""
        more = [b"entry %d" % n for n in range(len(self.entries), len(self.entries) + count)]
        with Log.open(
            self.base / "log",
            private=self.base / "private",
            origin=ORIGIN,
            signer=SIGNER,
            create=True,
            files=Memory(),
        ) as log:
            for entry in more:
                log.append(entry, sync=False)
            log.publish()
        self.entries += more
        if seal:
            self.sealed.update(*self.head())

    def head(self, size: int | None = None) -> tuple[int, bytes]:
        """Return size and root of the log, or of its beginning."""
        entries = self.entries[:size]
        return len(entries), root(list(map(leaf_hash, entries)))

    def rewrite(self, entries: list[bytes]) -> None:
        """Write the log anew, as who has its key can."""
        shutil.rmtree(self.base / "log")
        shutil.rmtree(self.base / "thief", ignore_errors=True)
        with Log.open(
            self.base / "log",
            private=self.base / "thief",
            origin=ORIGIN,
            signer=SIGNER,
            create=True,
            files=Memory(),
        ) as log:
            for entry in entries:
                log.append(entry, sync=False)
            log.publish()

    def verified(self) -> VerifiedLog:
        """Verify the log itself."""
        return verify_log(self.base / "log", trust=TRUST)

    def check(self, tail: Tail | bytes | None = None) -> VerifiedTail:
        """Be the auditor."""
        return check_tail(self.key, self.verified(), tail or self.sealed.tail, self.steps)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a log of three publishings."""
    made = Machine(tmp_path)
    for count in (1, 300, 700):
        made.publish(count)
    return made


def test_the_tag_is_the_one_of_the_specification() -> None:
    """Key, origin, sizes and roots make the tag of the vector, step by step."""
    key = bytes.fromhex(VECTOR["key"])
    checkpoints = [(one["size"], bytes.fromhex(one["root"])) for one in VECTOR["checkpoints"]]

    assert VECTOR["source"]
    for number, expected in enumerate(VECTOR["expect"]["tags"]):
        assert expected == fold_tail(key, VECTOR["origin"], checkpoints[:number]).hex()
    assert [size for size, _ in checkpoints] == sizes_of(bytes.fromhex(VECTOR["expect"]["steps"]))


def test_a_tail_is_made_of_hashes_alone() -> None:
    """The tag is SHA-256 over the last one and an HMAC; the key is the SHA-256 of the last one."""
    key, size, top = b"k" * 32, 5, b"r" * 32
    first = hashlib.sha256(b"secureml-tail/1\n" + ORIGIN.encode() + b"\n").digest()
    mac = hmac.new(key, top + size.to_bytes(8), "sha256").digest()
    second_key = hashlib.sha256(b"secureml-tail-key/1\n" + key).digest()
    again = hmac.new(second_key, top + (9).to_bytes(8), "sha256").digest()
    once = hashlib.sha256(first + mac).digest()

    assert first == fold_tail(key, ORIGIN, [])
    assert once == fold_tail(key, ORIGIN, [(5, top)])
    assert hashlib.sha256(once + again).digest() == fold_tail(key, ORIGIN, [(5, top), (9, top)])


def test_an_untouched_end_is_found_so(machine: Machine) -> None:
    """The log that was sealed is the log that is there, to its last leaf."""
    found = machine.check()

    assert (ORIGIN, 3, 1_001, 0) == (found.origin, found.updates, found.size, found.uncovered)
    assert machine.check(machine.sealed.tail.encode()).size == 1_001
    assert "1001" in found._repr_html_()
    assert "uncovered 0" in repr(found)
    machine.publish(5, seal=False)
    assert (1_001, 5) == (machine.check().size, machine.check().uncovered)


def test_a_tail_that_was_never_updated_shows_nothing(tmp_path: Path, machine: Machine) -> None:
    """Anybody can begin a tail: whoever cuts a log and removes its tail, too."""
    empty = Machine(tmp_path / "empty")
    empty.publish(0)
    with pytest.raises(ConsistencyError, match="never updated"):
        empty.check()

    machine.rewrite(machine.entries[:300])
    anew, _ = SealedTail.create(tmp_path / "tail", tmp_path / "steps", origin=ORIGIN)
    with pytest.raises(ConsistencyError, match="never updated"):
        check_tail(machine.key, machine.verified(), anew.tail, tmp_path / "steps")


def test_a_cut_end_is_found(machine: Machine) -> None:
    """Whoever has the log's key and comes later can cut it, and not make the tag for that."""
    entries = machine.entries
    for size in (1_000, 301, 1, 0):
        machine.rewrite(entries[:size])
        with pytest.raises(ConsistencyError, match=f"covers 1001 leaves, the log has {size}"):
            machine.check()


def test_a_changed_or_regrown_end_is_found(machine: Machine) -> None:
    """Other entries in the same number, or a cut log that grew again, do not make the tag."""
    entries = machine.entries
    for forged in (
        [*entries[:-1], b"another"],
        [b"another", *entries[1:]],
        [*entries[:301], *(b"new %d" % n for n in range(900))],
    ):
        machine.rewrite(forged)
        with pytest.raises(ConsistencyError, match="not the one that its checkpoints make"):
            machine.check()


def test_present_key_and_tag_do_not_lead_back(machine: Machine) -> None:
    """What is on the machine seals what comes, not an earlier end."""
    path, present = machine.path.read_bytes(), machine.sealed.tail
    machine.rewrite(machine.entries[:301])
    # The thief gives out the tail with the right numbers, and the steps to go with it.
    steps = machine.steps.read_bytes()
    machine.steps.write_bytes(steps[: len(steps) - 2])
    assert [1, 301] == sizes_of(machine.steps.read_bytes())
    slot = path[512 * (present.updates & 1) :]
    key = slot[48:80]
    forged = [
        present.tag,
        fold_tail(key, ORIGIN, [machine.head(1), machine.head(301)]),
        hashlib.sha256(present.tag + hmac.digest(key, bytes(40), "sha256")).digest(),
        bytes(32),
    ]
    for tag in forged:
        with pytest.raises(ConsistencyError):
            machine.check(Tail(ORIGIN, 2, 301, tag))


def test_an_old_tag_is_the_limit(machine: Machine) -> None:
    """Not caught, and said so: who kept an old tag and old steps can cut to where they were."""
    old_tail, old_steps = machine.sealed.tail, machine.steps.read_bytes()
    entries = list(machine.entries)
    machine.publish(50)
    machine.rewrite(entries)
    machine.steps.write_bytes(old_steps)

    assert machine.check(old_tail).size == len(entries)


def test_nothing_of_the_past_is_kept(machine: Machine) -> None:
    """The file holds one key and one tag: those before are written over."""
    seen = [machine.path.read_bytes()]
    for _ in range(3):
        machine.publish(1)
        seen.append(machine.path.read_bytes())
    used = [data[:512] if any(data[:512]) else data[512:] for data in seen]
    for data in seen:
        assert not (any(data[:512]) and any(data[512:]))
    for number, slot in enumerate(used):
        key, tag = slot[48:80], slot[80:112]
        for later in seen[number + 1 :]:
            assert key not in later
            assert tag not in later
    assert all(machine.key not in data for data in seen)


def test_another_key_or_log_opens_nothing(machine: Machine, tmp_path: Path) -> None:
    """The tag is of one log, under one key."""
    other = Machine(tmp_path / "other")
    log, tail = machine.verified(), machine.sealed.tail
    elsewhere = Tail("log.example/x", tail.updates, tail.size, tail.tag)

    with pytest.raises(ConsistencyError):
        check_tail(other.key, log, tail, machine.steps)
    with pytest.raises(ConsistencyError, match=r"tail is that of 'log\.example/x'"):
        check_tail(machine.key, log, elsewhere, machine.steps)
    with pytest.raises(ValueError, match="32 bytes"):
        check_tail(b"short", log, tail, machine.steps)


def test_steps_are_covered(machine: Machine) -> None:
    """Steps that were changed, cut or removed do not lead to the tag."""
    data = machine.steps.read_bytes()
    assert [1, 301, 1_001] == sizes_of(data)
    log, tail = machine.verified(), machine.sealed.tail
    for wrong in (data[:-2], b"", b"\2\xab\2\xbc\5", b"\x80\1" * 3):
        with pytest.raises((ConsistencyError, FormatError)):
            check_tail(machine.key, log, tail, wrong)
    assert check_tail(machine.key, log, tail, data + b"\5").size == 1_001
    machine.steps.unlink()
    with pytest.raises(StoreError, match="take it for an attack"):
        machine.check()


@pytest.mark.parametrize(
    "steps",
    [b"\0", b"\x80", b"\1\x80", b"\x80\0", b"\x81\0", b"\xff" * 9 + b"\x7f", b"\xff" * 20],
)
def test_steps_have_one_spelling(steps: bytes) -> None:
    """Zero, leading zeros, torn and huge numbers are refused."""
    with pytest.raises(FormatError, match="steps"):
        sizes_of(steps)


def test_the_vector_has_the_tail_as_it_is_sent() -> None:
    """The JSON of the vector is the tail with its last tag."""
    tail = Tail.decode(VECTOR["expect"]["tail"].encode())

    assert (3, 1_001, VECTOR["expect"]["tags"][-1]) == (tail.updates, tail.size, tail.tag.hex())


def test_a_tail_has_one_spelling(machine: Machine) -> None:
    """Canonical JSON with its members, and nothing else."""
    tail = machine.sealed.tail
    good = tail.encode()
    assert tail == Tail.decode(good)
    spoilt: list[Callable[[bytes], bytes]] = [
        lambda data: data[:-1],
        lambda data: data.replace(b'"v":1', b'"v":2'),
        lambda data: data.replace(b'"v":1', b'"v":true'),
        lambda data: data.replace(b"1001", b"true"),
        lambda data: data.replace(b"1001", b"-1"),
        lambda data: data.replace(b'"v":1', b'"v":1,"x":1'),
        lambda data: data.replace(ORIGIN.encode(), b"a b"),
        lambda data: data.replace(tail.tag.hex().encode(), tail.tag.hex().upper().encode()),
        lambda data: data.replace(tail.tag.hex().encode(), tail.tag.hex().encode()[2:]),
        lambda data: data.replace(tail.tag.hex().encode(), b"no hex"),
        lambda _: b"[]",
    ]
    for spoil in spoilt:
        with pytest.raises(FormatError):
            Tail.decode(spoil(good))


# The writer's side


def test_it_goes_on_after_a_restart(machine: Machine) -> None:
    """Opened again, the tail is where it was, and catches up with a log that is ahead."""
    machine.publish(4, seal=False)
    machine.sealed = SealedTail.open(machine.path, machine.steps, origin=ORIGIN)
    machine.sealed.recover(*machine.head())

    assert (1_005, 0) == (machine.check().size, machine.check().uncovered)
    machine.sealed.recover(*machine.head())
    assert 4 == machine.check().updates


@pytest.mark.parametrize("at", range(10))
def test_a_crash_at_each_step(tmp_path: Path, at: int) -> None:
    """After a stop in any call, opened again, the tail catches up, and the auditor sees it."""
    machine = Machine(tmp_path)
    machine.publish()
    machine.publish(seal=False)
    files = Stops(at)
    try:
        machine.sealed = SealedTail.open(machine.path, machine.steps, origin=ORIGIN, files=files)
        machine.sealed.recover(*machine.head())
    except CrashError:
        for _ in range(2):
            machine.sealed = SealedTail.open(
                machine.path, machine.steps, origin=ORIGIN, files=Memory()
            )
        machine.sealed.recover(*machine.head())
    else:
        assert files.calls <= at
        files.at = -1
    assert (2, 6, 0) == (
        machine.check().updates,
        machine.check().size,
        machine.check().uncovered,
    )
    machine.publish()
    assert 0 == machine.check().uncovered
    assert 512 == machine.path.read_bytes().count(b"\0" * 512) * 512


def test_a_disk_that_fails_is_told(machine: Machine) -> None:
    """A failed update is a StoreError, and there is no second try before it is opened again."""
    files = Stops(-1, error=errno.EIO)
    opened = SealedTail.open(machine.path, machine.steps, origin=ORIGIN, files=files)
    size, top = machine.head()
    for at in range(files.calls, files.calls + 2):
        files.at = at
        what = "takes no more updates" if opened._broken else "could not update"
        with pytest.raises(StoreError, match=what):
            opened.update(size + 1, top)
    with pytest.raises(StoreError, match="could not open the tail"):
        SealedTail.open(
            machine.path, machine.steps, origin=ORIGIN, files=Stops(0, error=errno.EIO)
        )


def test_a_log_behind_its_tail_is_refused(machine: Machine) -> None:
    """A log that was rolled back, or another of the same size, is not sealed on."""
    size, top = machine.head()
    for wrong in (machine.head(301), (size, bytes(32))):
        with pytest.raises(ConsistencyError, match="does not end as its sealed tail says"):
            machine.sealed.recover(*wrong)
    with pytest.raises(ValueError, match="a tail grows"):
        machine.sealed.update(size - 1, top)
    with pytest.raises(ValueError, match="a root has 32"):
        machine.sealed.update(size + 1, top[1:])


def test_its_files_have_to_be_there_and_whole(machine: Machine) -> None:
    """A file that is gone, or has another form, or steps that end too soon: refused."""
    data, steps = machine.path.read_bytes(), machine.steps.read_bytes()

    def opened() -> SealedTail:
        return SealedTail.open(machine.path, machine.steps, origin=ORIGIN, files=Memory())

    for wrong in (b"", data[:-1], data[512:] + data[:512], bytes(1024), data + b"\0"):
        machine.path.write_bytes(wrong)
        with pytest.raises(FormatError):
            opened()
    machine.path.write_bytes(data)
    for wrong in (b"", steps[:-1], b"\1\1\1"):
        machine.steps.write_bytes(wrong)
        with pytest.raises(ConsistencyError):
            opened()
    machine.steps.write_bytes(steps)
    assert machine.sealed.tail == opened().tail
    machine.path.unlink()
    with pytest.raises(StoreError):
        opened()


def test_a_new_one_has_new_places(machine: Machine, tmp_path: Path) -> None:
    """A tail that is there is not begun anew."""
    with pytest.raises(StoreError, match="already"):
        SealedTail.create(machine.path, tmp_path / "new", origin=ORIGIN)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="could not begin"):
        SealedTail.create(tmp_path / "file/a", tmp_path / "file/b", origin=ORIGIN)
    with pytest.raises(ValueError, match="origin"):
        SealedTail.create(tmp_path / "a", tmp_path / "b", origin="a b")


def test_the_key_stays(machine: Machine) -> None:
    """A tail is neither copied nor pickled, and shows no key."""
    for out in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            out(machine.sealed)
    assert f"<SealedTail '{ORIGIN}' size 1001>" == repr(machine.sealed)
    assert oct(machine.path.stat().st_mode & 0o777) == "0o600"
