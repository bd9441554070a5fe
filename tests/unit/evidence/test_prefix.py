# ruff: noqa: ANN401  what is damaged is of any kind
"""Taking over: what the last writer knew is used when signed roots bear it out, and else not."""

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import ConsistencyError, DigestMismatchError, SecureMLError
from secureml.evidence._files import Files
from secureml.evidence._lock import WriterLock
from secureml.evidence._prefix import LIMIT, Prefix
from secureml.evidence.log import Log
from secureml.evidence.pruning import Prune, remove_bundles
from secureml.keys import KeySigner, generate

ORIGIN = "log.example/taken"


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Reader:
    """Whoever is shown the entries: remembers all of them, which is what a memo holds."""

    def __init__(self) -> None:
        """Know nothing."""
        self.known: dict[int, bytes] = {}
        self.shown = 0

    def observe(self, first: int, entries: list[bytes]) -> None:
        """Take note."""
        self.shown += len(entries)
        self.known.update(enumerate((sha256(entry).digest() for entry in entries), first))

    def restore(self, memo: bytes) -> None:
        """Begin from a memo."""
        if len(memo) % 32:
            raise ValueError(len(memo))
        self.known = {at // 32: memo[at : at + 32] for at in range(0, len(memo), 32)}
        self.shown = 0

    @property
    def memo(self) -> bytes:
        """Everything that is known."""
        return b"".join(self.known[index] for index in range(len(self.known)))


def read_prune(entry: bytes) -> Prune | None:
    """Return what an entry of these tests says about removed ones."""
    return Prune(int(entry[1:])) if entry.startswith(b"P") else None


class Machine:
    """One log, and who writes it one after another."""

    def __init__(self, root: Path, key: KeySigner) -> None:
        """Begin nothing."""
        self.root, self.key = root, key
        self.directory, self.private = root / "log", root / "private"
        self.note = self.private / "prefixes" / "log"
        self.count = 0

    def lead(self, *, recheck: bool = False) -> tuple[Log, Reader]:
        """Become the writer."""
        log = Log.open(
            self.directory,
            private=self.private,
            origin=ORIGIN,
            signer=self.key,
            create=True,
            files=Memory(),
            pruned=read_prune,
            recheck=recheck,
        )
        reader = Reader()
        leader = log.twin(WriterLock(self.private / "spool.lock"), reader.observe, reader.restore)
        leader.acquire()
        return leader, reader

    def grow(self, leader: Log, reader: Reader, count: int) -> None:
        """Append and publish."""
        entries = [b"entry %d of %s" % (self.count + n, b"x" * 20) for n in range(count)]
        self.count += count
        first = leader.size
        leader.commit(entries)
        reader.observe(first, entries)

    def run(self, count: int, *, note: bool = True, **options: Any) -> Reader:
        """Lead, grow, note what is known, and stop."""
        leader, reader = self.lead(**options)
        shown, reader.shown = reader.shown, 0
        if count:
            self.grow(leader, reader, count)
        if note:
            leader.note_prefix(reader.memo)
        leader.release()
        reader.shown = shown
        return reader

    def prefix(self) -> Prefix:
        """Return the note."""
        found = Prefix.read(self.note)
        assert found is not None
        return found

    def check(self) -> None:
        """Everything is there, whoever reads it, and a whole reading agrees."""
        _, whole = leader = self.lead(recheck=True)
        leader[0].release()
        assert whole.shown == Log.open(self.directory).size
        _, quick = leader = self.lead()
        leader[0].release()
        assert quick.known == whole.known


@pytest.fixture(scope="module")
def key() -> KeySigner:
    """Return the log's key."""
    return generate("ed25519", purposes={"log"})


@pytest.fixture
def machine(tmp_path: Path, key: KeySigner) -> Machine:
    """Return a log of 1,000 entries whose writer noted what it knew, and 30 more."""
    made = Machine(tmp_path, key)
    made.run(1000)
    made.run(30, note=False)
    return made


@pytest.mark.parametrize("sizes", [(0,), (1,), (255,), (256,), (257,), (512, 1), (70000, 300)])
def test_only_what_came_after_is_read(
    tmp_path: Path, key: KeySigner, sizes: tuple[int, ...]
) -> None:
    """The next writer reads from the last bundle on, and knows all the same."""
    made = Machine(tmp_path, key)
    for size in sizes:
        made.run(size)
    at = sum(sizes)

    reader = made.run(7)

    assert reader.shown == at % 256
    assert len(reader.known) == at + 7
    assert made.run(0).shown == (at + 7) % 256
    assert made.prefix().size == at + 7
    made.check()


def test_entries_behind_the_note_are_read(machine: Machine) -> None:
    """What was published after the note was written is read by the next writer."""
    assert machine.run(300, note=False).shown == 1030 - 768
    assert machine.run(0, note=False).shown == 1330 - 768
    machine.check()


def test_reading_all_of_it_can_be_asked_for(machine: Machine) -> None:
    """With ``recheck`` every entry is hashed again, and a change is found."""
    path = machine.directory / "tile/entries/001"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"entry 300", b"entry 3OO"))

    assert machine.run(1).shown < 300
    with pytest.raises(DigestMismatchError):
        machine.lead(recheck=True)
    with (
        pytest.raises(DigestMismatchError),
        Log.open(machine.directory, private=machine.private, signer=machine.key) as log,
    ):
        log.append(b"x")


def damaged(prefix: Prefix) -> dict[str, bytes | None]:
    """Return what may lie in the note's place, and is not used."""
    good = prefix.encode()
    other = "log.example/other"
    return {
        "missing": None,
        "empty": b"",
        "cut": good[:-1],
        "longer": good + b"\0",
        "flipped": bytes([good[0] ^ 1]) + good[1:],
        "memo flipped": good[:200] + bytes([good[200] ^ 1]) + good[201:],
        "digest": good[:-1] + bytes([good[-1] ^ 1]),
        "another log": Prefix(other, prefix.size, prefix.root, None, prefix.memo).encode(),
        "another root": Prefix(ORIGIN, prefix.size, b"r" * 32, None, prefix.memo).encode(),
        "another size": Prefix(ORIGIN, 999, prefix.root, None, prefix.memo).encode(),
        "beyond the log": Prefix(ORIGIN, 5000, prefix.root, None, prefix.memo).encode(),
        "beyond all logs": Prefix(ORIGIN, 1 << 60, prefix.root, None, b"").encode(),
        "a memo that is none": Prefix(ORIGIN, prefix.size, prefix.root, None, b"x").encode(),
        "another format": whole(b"secpre9\n" + good[8:-32]),
        "a name that is none": whole(good[:10] + b"\xff" + good[11:-32]),
        "a name without end": whole(good[:8] + b"\xff\xff" + good[10:-32]),
        "less than it says": whole(good[:-40]),
    }


def whole(body: bytes) -> bytes:
    """Return a note whose digest is good."""
    return body + sha256(body).digest()


@pytest.mark.parametrize("what", sorted(damaged(Prefix(ORIGIN, 1, b"r" * 32, None, b"m" * 320))))
def test_a_note_that_is_not_this_log_s_is_left_aside(machine: Machine, what: str) -> None:
    """Corrupt, of another log, or not what the tiles lead to: every entry is read."""
    data = damaged(machine.prefix())[what]
    machine.note.unlink()
    if data is not None:
        machine.note.write_bytes(data)

    reader = machine.run(5)

    assert reader.shown == 1030
    assert len(reader.known) == 1035
    machine.check()


@pytest.mark.parametrize("kind", ["link", "directory", "huge", "unreadable"])
def test_a_note_that_is_no_file_is_left_aside(machine: Machine, tmp_path: Path, kind: str) -> None:
    """A link, a directory or a file without end in its place changes nothing."""
    data = machine.note.read_bytes()
    machine.note.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        machine.note.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        machine.note.mkdir()
    elif kind == "huge":
        with machine.note.open("wb") as file:
            file.truncate(LIMIT + 1)
    else:
        machine.note.write_bytes(b"")

    assert machine.run(0, note=False).shown == 1030


def test_an_old_note_is_as_good(machine: Machine) -> None:
    """A note that is rolled back leads to the same: more is read, and nothing is forgotten."""
    old = machine.note.read_bytes()
    machine.run(700)
    machine.run(60)
    machine.note.write_bytes(old)

    reader = machine.run(1)

    assert reader.shown == 1790 - 768
    assert len(reader.known) == 1791
    machine.check()


def test_a_note_of_another_history_is_left_aside(machine: Machine, tmp_path: Path) -> None:
    """The log and what is remembered restored from a backup, the note not: it is not used."""
    backup = tmp_path / "backup"
    shutil.copytree(machine.directory, backup / "log")
    shutil.copytree(machine.private / "checkpoints", backup / "checkpoints")
    machine.run(400)
    note = machine.note.read_bytes()
    for name, place in (
        ("log", machine.directory),
        ("checkpoints", machine.private / "checkpoints"),
    ):
        shutil.rmtree(place)
        shutil.copytree(backup / name, place)
    machine.count = 5000
    machine.run(600, note=False)
    machine.note.write_bytes(note)

    reader = machine.run(1)

    assert reader.shown == 1630
    machine.check()


def test_a_rollback_is_refused_with_a_note_as_without(machine: Machine, tmp_path: Path) -> None:
    """An older log than the remembered checkpoint is refused; and a fork of it."""
    shutil.copytree(machine.directory, tmp_path / "old")
    machine.run(400)
    shutil.rmtree(machine.directory)
    shutil.copytree(tmp_path / "old", machine.directory)

    with pytest.raises(ConsistencyError, match="rolled back"):
        machine.lead()


@pytest.mark.parametrize(
    "change",
    [
        lambda log: (log / "tile/0/001").unlink(),
        lambda log: (log / "tile/entries/001").unlink(),
        lambda log: (log / "tile/entries/004.p/6").unlink(),
        lambda log: (log / "tile/entries/004.p/6").write_bytes(b"x"),
        lambda log: (log / "tile/0/004.p/6").write_bytes(b"x" * 192),
        lambda log: (log / "tile/1/000.p/4").write_bytes(b"x" * 128),
        lambda log: (log / "tile/0/003").write_bytes(b"x" * 8192),
        lambda log: (log / "tile/entries/003").write_bytes(b"x" * 8192),
    ],
)
def test_what_is_gone_or_changed_at_the_end_is_refused(
    machine: Machine, change: Callable[[Path], object]
) -> None:
    """Any missing file, and a change in what is read, is found with a note as well."""
    change(machine.directory)

    with pytest.raises(SecureMLError):
        machine.lead()


def test_a_pruned_log_is_taken_over(machine: Machine) -> None:
    """What was pruned may be missing, by the note or by entries behind it; nothing else may."""
    leader, reader = machine.lead()
    leader.commit([b"P512"])
    reader.observe(1030, [b"P512"])
    remove_bundles(machine.directory, Prune(512))
    leader.release()
    assert machine.run(0, note=False).shown == 1031 - 768
    leader, reader = machine.lead()
    machine.grow(leader, reader, 300)
    leader.note_prefix(b"".join(reader.known[n] for n in sorted(reader.known)))
    leader.release()

    assert machine.prefix().prune == Prune(512)
    assert machine.run(0, note=False).shown == 1331 - 1280
    (machine.directory / "tile/entries/002").unlink()
    with pytest.raises(SecureMLError):
        machine.lead()


def test_a_note_that_cannot_be_written_does_no_harm(tmp_path: Path, key: KeySigner) -> None:
    """No room, or too many writers: the next one reads everything."""
    made = Machine(tmp_path, key)
    leader, reader = made.lead()
    made.grow(leader, reader, 300)
    leader.note_prefix(bytes(LIMIT))
    assert not made.note.exists()
    made.note.parent.parent.chmod(0o700)
    (made.private / "prefixes").touch()
    leader.note_prefix(reader.memo)
    leader.release()
    Log.open(made.directory).note_prefix(b"")

    assert made.run(0, note=False).shown == 300


def test_pending_entries_are_never_noted(machine: Machine) -> None:
    """A note is about what is under a checkpoint, and nothing else."""
    before = machine.note.read_bytes()
    leader, reader = machine.lead()
    leader.append(b"pending")
    leader.note_prefix(reader.memo)
    assert machine.note.read_bytes() == before
    leader.release()

    reader = machine.run(0, note=False)

    assert (reader.shown, len(reader.known)) == (1031 - 768, 1031)
