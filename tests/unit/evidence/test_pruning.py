"""Bundles of entries may go where an entry says so; hashes, keys and everything else stay."""

from collections.abc import Callable
from pathlib import Path

import pytest

from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    SecureMLError,
    UnexpectedFileError,
)
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence.checkpruned import PrunedLog, verify_pruned
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.log import Log
from secureml.evidence.pruning import Prune, absent_bundles, first_entry, remove_bundles
from secureml.evidence.trust import Identity, Trust
from secureml.keys import files as key_files
from secureml.wire import canonical, tiles

ORIGIN = "log.example/pruned"


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)


def epoch_of(entry: bytes) -> object | None:
    """Return what an entry of these tests says of the next key."""
    return canonical.decode(entry[1:]) if entry.startswith(b"E") else None


def prune_of(entry: bytes) -> Prune | None:
    """Return what an entry of these tests says about removed ones."""
    if not entry.startswith(b"P"):
        return None
    minimum, *kept = map(int, entry[1:].split())
    return Prune(minimum, frozenset(kept))


class World:
    """A log of 1,400 entries whose key changed at 301 and at 1,001, pruned below 1,024."""

    def __init__(self, base: Path) -> None:
        """Write it."""
        self.base, self.path, self.notes = base, base / "log", base / "epochs/log.notes"
        self.keys = EpochKeys.create(base / "keys", self.notes, origin=ORIGIN, files=Memory())
        first = Identity(
            name="log",
            verifier=self.keys.verifier,
            roles=frozenset({"audit"}),
            origin=ORIGIN,
            epochs=True,
        )
        self.trust = Trust((first,))
        self.keys.recover(None, [])
        self.size = 0
        self.add([b"entry %d" % n for n in range(300)])
        self.hand_over()
        # The boundary comes long after its leaf: many entries ride along.
        self.add([b"entry %d" % n for n in range(self.size, 1000)])
        self.hand_over(after=300)
        self.old = self.add([b"P1024 1 3"])

    def hand_over(self, *, after: int = 0) -> None:
        """Begin the next epoch."""
        body = self.keys.next()
        self.keys.announce(self.size)
        announced = b"E" + canonical.encode(body)  # type: ignore[arg-type]
        note = self.add([announced, *(b"late %d" % n for n in range(after))])
        assert self.keys.published(note)

    def add(self, entries: list[bytes]) -> str:
        """Append and publish."""
        with Log.open(
            self.path,
            private=self.base / "private",
            origin=ORIGIN,
            signer=self.keys.signer,
            purpose="audit",
            create=True,
            previous=self.keys.previous,
            files=Memory(),
        ) as log:
            for entry in entries:
                log.append(entry, sync=False)
            self.size += len(entries)
            return log.publish()

    def verify(self, **options: object) -> PrunedLog:
        """Verify as a stranger who pinned the first key."""
        return verify_pruned(  # type: ignore[call-overload,no-any-return,unused-ignore]
            self.path,
            **{
                "trust": self.trust,
                "read": prune_of,
                "epochs": self.notes,
                "epoch_of": epoch_of,
                **options,
            },
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return the log, pruned."""
    made = World(tmp_path)
    assert made.verify().absent == 0
    assert remove_bundles(made.path, Prune(1024, frozenset({1, 3})), files=Memory()) == 2
    return made


def test_keys_are_followed_across_what_was_pruned(world: World) -> None:
    """The bundles with the leaves of the keys stay, so the first key still leads to the last."""
    found = world.verify(remembered=[world.old])

    assert (found.minimum, found.absent, found.rollback) == (1024, 2, "checked")
    assert found.head.signer.name == "log, epoch 2"
    assert absent_bundles(world.path, found.head.size) == {0, 2}
    assert first_entry(world.path, found.head.size) == 768


def test_what_is_there_is_shown_as_it_is_checked(world: World) -> None:
    """Each bundle that is there is shown once, in order, with its place."""
    seen: list[tuple[int, int]] = []

    world.verify(visit=lambda first, entries: seen.append((first, len(entries))))

    assert seen == [(256, 256), (768, 256), (1024, 256), (1280, 22)]


ATTACKS: list[tuple[Callable[[World], object], type[SecureMLError], str]] = [
    (
        lambda w: (w.path / "tile/entries/001").unlink(),
        SecureMLError,
        "boundary|epoch|no file",
    ),
    (
        lambda w: (w.path / "tile/entries/004").unlink(),
        UnexpectedFileError,
        "no file 'tile/entries/004'",
    ),
    (
        lambda w: (w.path / "tile/0/005.p/22").unlink(),
        UnexpectedFileError,
        "no file 'tile/0/005.p/22'",
    ),
    (
        lambda w: (w.path / "tile/entries/.writing-0").touch(),
        UnexpectedFileError,
        "a write that was not finished",
    ),
    (lambda w: (w.path / "tile/7").mkdir(), UnexpectedFileError, "a directory without files"),
    (
        lambda w: (w.path / "tile/1/000.p/5").write_bytes(bytes(160)),
        (UnexpectedFileError, DigestMismatchError),  # type: ignore[list-item]
        "tile/1/000",
    ),
]


@pytest.mark.parametrize(("attack", "error", "expected"), ATTACKS)
def test_nothing_else_may_be_missing(
    world: World, attack: Callable[[World], object], error: type[SecureMLError], expected: str
) -> None:
    """A file too few, too many or changed is found in a pruned log as in a whole one."""
    attack(world)

    with pytest.raises(error, match=expected):
        world.verify()


def test_a_remembered_checkpoint_of_another_log(world: World, tmp_path: Path) -> None:
    """Chained or not, a checkpoint that does not fit is refused."""
    notes, identities = [], []
    for name in ("a", "b"):
        signer = key_files.generate("ed25519", purposes=frozenset({"audit"}))
        origin = f"log.example/{name}"
        identities.append(
            Identity(
                name=name, verifier=signer.verifier, roles=frozenset({"audit"}), origin=origin
            )
        )
        with Log.open(
            tmp_path / name,
            private=tmp_path / "private2" / name,
            origin=origin,
            signer=signer,
            purpose="audit",
            create=True,
        ) as log:
            log.append(name.encode())
            notes.append(log.publish())

    with pytest.raises(ConsistencyError, match="remembered checkpoint is of"):
        verify_pruned(
            tmp_path / "a", trust=Trust(tuple(identities)), read=prune_of, remembered=[notes[1]]
        )
    with pytest.raises(SecureMLError):
        world.verify(remembered=[notes[0]])


def test_directories_go_with_their_last_bundle(tmp_path: Path) -> None:
    """Of a long log whole directories of bundles go; none that is empty stays."""
    for index in (0, 1, 999, 1000, 1001, 1002):
        path = tmp_path / tiles.entries_path(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    assert remove_bundles(tmp_path, Prune(1002 * 256, frozenset({1}))) == 4
    assert remove_bundles(tmp_path, Prune(1002 * 256, frozenset({1}))) == 0

    top = tmp_path / "tile/entries"
    assert sorted(str(p.relative_to(top)) for p in top.rglob("*")) == [
        "001",
        "x001",
        "x001/002",
    ]
    assert remove_bundles(tmp_path, Prune(1003 * 256)) == 2
    assert list(top.rglob("*")) == []
