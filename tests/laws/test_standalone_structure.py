"""
What can be done to a log as a whole: refused by both verifiers, or on the list of what is not.

An attacker cuts, splices, replays and rolls back whole files and whole logs, without the log's
key and with it.  With a checkpoint that was kept elsewhere every one of these is refused.
Without one, those that tell a consistent story are not, and the table says which: it is exact,
so that nobody believes in more, and that none is added unseen.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import SecureMLError
from secureml.evidence._files import Files
from secureml.evidence.log import Log, verify_log
from secureml.evidence.standalone import verify_log as standalone
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire import tiles
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/structure"
SIZE, KEPT, OLD = 600, 400, 300


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class World:
    """A log and all that an attacker has: its past, other logs, another key and its own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.signer = keys.generate("ed25519", purposes=frozenset({"log"}))
        self.log = base / "log"
        self.entries = [b"entry %d" % n for n in range(SIZE)]
        self.kept = self.write("log", self.entries)[1]
        self.older = base / "older"
        self.write("older", self.entries[:OLD])

    def write(
        self, name: str, entries: list[bytes], signer: keys.Signer | None = None
    ) -> list[str]:
        """Write a log; returns its checkpoints at 0, at `KEPT` and at the end."""
        notes = []
        with Log.open(
            self.base / name,
            private=self.base / f"{name}.private",
            origin=ORIGIN,
            signer=signer or self.signer,
            create=True,
            files=Memory(),
        ) as log:
            notes.append(log.publish())
            for size, entry in enumerate(entries, 1):
                log.append(entry, sync=False)
                if size == KEPT:
                    notes.append(log.publish())
            notes.append(log.publish())
        return notes

    def replace(self, entries: list[bytes], signer: keys.Signer | None = None) -> None:
        """Put another log, written anew, in the place of the log."""
        self.write("other", entries, signer)
        self.take("other")

    def take(self, name: str) -> None:
        """Put another log in the place of the log."""
        shutil.rmtree(self.log)
        shutil.copytree(self.base / name, self.log)

    def bundle(self, number: int, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Change the entries of one bundle, and nothing else."""
        width = min(256, SIZE - number * 256)
        path = self.log / tiles.entries_path(number, width)
        entries = tiles.decode_bundle(path.read_bytes(), width)
        path.write_bytes(tiles.encode_bundle(change(entries)))

    def copy(self, name: str, to: str) -> None:
        """Copy one file of the log over another."""
        shutil.copy(self.log / name, self.log / to)

    def verdicts(self, *, remembered: bool) -> tuple[bool, bool]:
        """Return whether the library and the single file accept the log."""
        block = identity_block(
            Identity(
                name="log",
                verifier=self.signer.verifier,
                roles=frozenset({"log"}),
                origin=ORIGIN,
            )
        )
        trust = Trust.from_toml("version = 1\n\n" + block)
        notes = [self.kept] if remembered else []
        try:
            ours = verify_log(self.log, trust=trust, remembered=notes).size >= 0
        except SecureMLError:
            ours = False
        (self.base / "kept").write_text(self.kept, encoding="utf-8")
        vkey = VKey(ORIGIN, ED25519, self.signer.verifier.raw).encode()
        more = ["--remembered", str(self.base / "kept")] if remembered else []
        code = standalone.main([str(self.log), "--key", vkey, *more])
        assert code in {0, 1}
        return ours, code == 0


def stranger() -> keys.Signer:
    """Return a key that nobody trusts."""
    return keys.generate("ed25519", purposes=frozenset({"log"}))


def swapped(entries: list[bytes]) -> list[bytes]:
    """Return the entries with two of them in each other's place."""
    return [entries[1], entries[0], *entries[2:]]


def graft(world: World) -> None:
    """Put the upper half of another log under the checkpoint of this one."""
    world.write("other", [b"other %d" % n for n in range(SIZE)])
    for name in ("tile/entries/002.p/88", "tile/0/002.p/88"):
        shutil.copy(world.base / "other" / name, world.log / name)


def older_checkpoint(world: World) -> None:
    """Put an earlier checkpoint over the files of today."""
    shutil.copy(world.older / "checkpoint", world.log / "checkpoint")


ATTACKS: dict[str, Callable[[World], object]] = {
    # without the key
    "an entry is edited": lambda w: w.bundle(1, lambda e: [b"edited", *e[1:]]),
    "an entry is deleted": lambda w: w.bundle(1, lambda e: e[1:]),
    "two entries are swapped": lambda w: w.bundle(1, swapped),
    "an entry is there twice": lambda w: w.bundle(1, lambda e: [e[0], *e[:-1]]),
    "an entry is put in": lambda w: w.bundle(2, lambda e: [*e, b"more"]),
    "a bundle is deleted": lambda w: (w.log / "tile/entries/001").unlink(),
    "a bundle is replayed": lambda w: w.copy("tile/entries/000", "tile/entries/001"),
    "a tile is deleted": lambda w: (w.log / "tile/0/001").unlink(),
    "a tile is replayed": lambda w: w.copy("tile/0/000", "tile/0/001"),
    "a bundle and its tile are replayed": lambda w: (
        w.copy("tile/entries/000", "tile/entries/001"),
        w.copy("tile/0/000", "tile/0/001"),
    ),
    "the tail is cut off": lambda w: (w.log / "tile/entries/002.p/88").unlink(),
    "the head is cut off": lambda w: (
        (w.log / "tile/entries/000").unlink(),
        (w.log / "tile/0/000").unlink(),
    ),
    "a half of another log is put in": graft,
    "an earlier checkpoint over the files of today": older_checkpoint,
    "the checkpoint is deleted": lambda w: (w.log / "checkpoint").unlink(),
    "the log is written anew with another key": lambda w: w.replace(w.entries, stranger()),
    # an earlier state of the whole, which its owner once signed
    "the whole log is rolled back": lambda w: w.take("older"),
    # with the key
    "the log is cut and signed anew": lambda w: w.replace(w.entries[:OLD]),
    "the log is emptied and signed anew": lambda w: w.replace([]),
    "the head is cut off and the log signed anew": lambda w: w.replace(w.entries[1:]),
    "an entry is edited and the log signed anew": lambda w: w.replace(
        [*w.entries[:7], b"edited", *w.entries[8:]]
    ),
    "an entry is put in and the log signed anew": lambda w: w.replace(
        [*w.entries[:7], b"more", *w.entries[7:]]
    ),
    "two entries are swapped and the log signed anew": lambda w: w.replace(swapped(w.entries)),
    "what came after the kept checkpoint is told anew": lambda w: w.replace(
        [*w.entries[:KEPT], b"another story"]
    ),
}

MISSED_ALONE = {
    "the whole log is rolled back",
    "the log is cut and signed anew",
    "the log is emptied and signed anew",
    "the head is cut off and the log signed anew",
    "an entry is edited and the log signed anew",
    "an entry is put in and the log signed anew",
    "two entries are swapped and the log signed anew",
    "what came after the kept checkpoint is told anew",
}
"""What no verifier can see who has the directory and the key, and nothing else."""

MISSED_WITH_A_CHECKPOINT = {"what came after the kept checkpoint is told anew"}
"""What even a kept checkpoint does not show: the window after it, which the report prints."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Write the log, and its past."""
    monkeypatch.setattr(standalone, "WAIT", 0.0)
    for name in ("secureml.evidence.checklog", "secureml.evidence._snapshot"):
        monkeypatch.setattr(f"{name}._WAIT", 0.0, raising=False)
    return World(tmp_path)


def test_the_log_itself(world: World) -> None:
    """Nothing was done: both accept it."""
    assert world.verdicts(remembered=False) == (True, True)
    assert world.verdicts(remembered=True) == (True, True)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("remembered", [False, True], ids=["alone", "with a checkpoint"])
def test_what_is_refused_and_what_is_not(world: World, name: str, *, remembered: bool) -> None:
    """The table of what is not noticed holds exactly, for both verifiers."""
    ATTACKS[name](world)
    missed = name in (MISSED_WITH_A_CHECKPOINT if remembered else MISSED_ALONE)

    assert world.verdicts(remembered=remembered) == (missed, missed)


def test_the_tables_name_attacks() -> None:
    """Nothing is listed as missed that is not tried; a checkpoint never misses more."""
    assert set(ATTACKS) > MISSED_ALONE > MISSED_WITH_A_CHECKPOINT
