"""A pruned log whose key is one: what an entry may call removed, and what stays to be checked."""

from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import ConsistencyError, DigestMismatchError, UnexpectedFileError
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence._reader import rebuild
from secureml.evidence._tree import hash_leaves, layout
from secureml.evidence.checkpruned import PrunedLog, verify_pruned
from secureml.evidence.log import Log
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.pruning import Prune, Pruning, remove_bundles
from secureml.evidence.trust import Identity, Trust
from secureml.wire import tiles
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import root

ORIGIN = "log.example/cut"
SIGNER = keys.generate("ed25519", purposes={"audit"})
TRUST = Trust(
    (Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"audit"}), origin=ORIGIN),)
)
ENTRIES = [b"entry %d" % n for n in range(699)] + [b"P512 0"]


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def prune_of(entry: bytes) -> Prune | None:
    """Return what an entry of these tests says about removed ones."""
    if not entry.startswith(b"P"):
        return None
    minimum, *kept = map(int, entry[1:].split())
    return Prune(minimum, frozenset(kept))


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of 700 entries whose second bundle was removed."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)
    with Log.open(
        tmp_path / "log",
        origin=ORIGIN,
        signer=SIGNER,
        purpose="audit",
        create=True,
        files=Memory(),
    ) as log:
        for entry in ENTRIES:
            log.append(entry, sync=False)
    assert remove_bundles(tmp_path / "log", Prune(512, frozenset({0})), files=Memory()) == 1
    return tmp_path / "log"


def verify(path: Path, *remembered: str) -> PrunedLog:
    """Verify as a stranger."""
    return verify_pruned(path, trust=TRUST, read=prune_of, remembered=remembered)


def checkpoint(entries: list[bytes]) -> str:
    """Sign what a log of these entries is."""
    hashes = list(hash_leaves(entries))
    return sign_checkpoint(Checkpoint(ORIGIN, len(entries), root(hashes)), SIGNER, purpose="audit")


def test_the_log_of_these_tests_verifies(cut: Path) -> None:
    """What was removed was said to be, by an entry behind it."""
    found = verify(cut, checkpoint(ENTRIES[:300]), checkpoint(ENTRIES))

    assert (found.minimum, found.absent, found.rollback) == (512, 1, "checked")


@pytest.mark.parametrize("size", [1, 300, 512, 699])
def test_a_pruned_log_may_not_be_forked(cut: Path, size: int) -> None:
    """A remembered checkpoint is compared below the cut and above it."""
    forked = [*ENTRIES[: size - 1], b"another story"]

    with pytest.raises(ConsistencyError, match="forked"):
        verify(cut, checkpoint(forked))


def test_a_checkpoint_of_more_than_there_is(cut: Path) -> None:
    """A pruned log that was cut at its end is found by what was remembered."""
    with pytest.raises(ConsistencyError):
        verify(cut, checkpoint([*ENTRIES, b"one more"]))


def test_a_bundle_that_was_kept_may_not_be_missing(cut: Path) -> None:
    """The entry that prunes names those that stay, and they have to be there."""
    (cut / tiles.entries_path(0)).unlink()

    with pytest.raises(UnexpectedFileError, match="tile/entries/000"):
        verify(cut)


def test_no_part_of_a_removed_bundle_lies_about(cut: Path) -> None:
    """What a crash left of the time when the bundle was partial is removed with it."""
    path = cut / tiles.entries_path(1, 44)
    path.parent.mkdir()
    path.write_bytes(tiles.encode_bundle(ENTRIES[256:300]))

    with pytest.raises(UnexpectedFileError, match="bundle that was pruned"):
        verify(cut)
    assert remove_bundles(cut, Prune(512, frozenset({0})), files=Memory()) == 0
    assert not path.parent.exists()
    verify(cut)


def test_an_entry_prunes_what_is_before_it() -> None:
    """Nobody can say now that what comes later was removed."""
    pruning = Pruning(prune_of)
    pruning.visit(0, [b"x", b"P256"])
    assert pruning.last is None
    pruning.visit(255, [b"P256", b"P256"])
    assert pruning.last == Prune(256)
    pruning.visit(600, [b"P512 0", b"P768"])
    assert pruning.last == Prune(512, frozenset({0}))


@pytest.mark.parametrize(
    ("said", "absent", "fine"),
    [
        ([], [0], False),
        ([b"P256"], [0], True),
        ([b"P256"], [0, 1], False),
        ([b"P512 0"], [1], True),
        ([b"P512 0"], [0, 1], False),
        ([b"P512", b"P256"], [1], False),
    ],
)
def test_what_is_gone_was_said_to_be(
    tmp_path: Path, said: list[bytes], absent: list[int], fine: object
) -> None:
    """The last entry about it counts, with the bundles that it keeps."""
    pruning = Pruning(prune_of)
    pruning.visit(1000, said)

    if fine:
        pruning.check(tmp_path, absent)
    else:
        with pytest.raises(UnexpectedFileError):
            pruning.check(tmp_path, absent)


def test_the_root_is_compared(cut: Path) -> None:
    """Entries and tiles that fit together are not enough: the signed root has to follow."""
    good = root(list(hash_leaves(ENTRIES)))

    def bundle(index: int, width: int) -> list[bytes]:
        return ENTRIES[index * 256 : index * 256 + width]

    def tile(level: int, index: int, width: int) -> bytes:
        return (cut / tiles.tile_path(level, index, width)).read_bytes()

    kept: list[object] = []
    found = rebuild(
        700, good, bundle=bundle, tile=tile, absent={1}, cuts=[300, 256, 900], keep=kept.append
    )
    assert found.roots == {n: root(list(hash_leaves(ENTRIES[:n]))) for n in (256, 300)}
    assert len(kept) == sum(one.kind == "tile" for one in layout(700).values())
    with pytest.raises(DigestMismatchError, match="not those of its checkpoint"):
        rebuild(700, bytes(32), bundle=bundle, tile=tile, absent={1})
    changed = [*ENTRIES[:600], b"changed", *ENTRIES[601:]]
    with pytest.raises(DigestMismatchError, match="one of the entries 512 to 699"):
        rebuild(
            700,
            good,
            bundle=lambda index, width: changed[index * 256 : index * 256 + width],
            tile=tile,
            absent={1},
        )
