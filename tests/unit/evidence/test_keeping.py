# ruff: noqa: ANN401  options go where they belong
"""A log whose writer changes its keys and seals its tail with each checkpoint."""

import shutil
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.errors import ConsistencyError, KeyUnavailableError, StoreError
from secureml.evidence._files import Files
from secureml.evidence.epochs import read_notes
from secureml.evidence.keeping import Epochs, Keeping, Places, create_epochs, create_tail
from secureml.evidence.log import Log, VerifiedLog, verify_log
from secureml.evidence.sealedtail import SealedTail
from secureml.evidence.tail import check_tail
from secureml.evidence.trust import Identity, Trust
from secureml.wire import canonical
from secureml.wire.canonical import JSON

ORIGIN = "log.example/keeps"
SIGNER = keys.generate("ed25519", purposes={"audit"})


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def epoch_of(entry: bytes) -> object | None:
    """Return what an entry of these tests says of the next key."""
    return canonical.decode(entry[1:]) if entry.startswith(b"E") else None


def announce(body: JSON) -> list[bytes]:
    """Return the entries that say so."""
    return [b"before", b"E" + canonical.encode(body), b"after"]


class Watching(Memory):
    """Takes down whose names were synced."""

    def __init__(self) -> None:
        self.synced: list[str] = []

    def sync_directory(self, path: Path) -> None:
        """Take it down."""
        self.synced.append(path.name)


class Kept:
    """A log with epoch keys of ten leaves each, and a sealed tail."""

    def __init__(self, root: Path, *, epochs: bool = True, sealed: bool = True) -> None:
        self.path, self.private = root / "log", root / "private"
        self.at = Places.of(self.path, self.private)
        assert not self.at.has_epochs
        assert not self.at.has_tail
        self.first = SIGNER.verifier
        if epochs:
            self.first = create_epochs(self.path, self.private, origin=ORIGIN, files=Memory())
            assert self.at.has_epochs
        self.key = b""
        if sealed:
            self.key = create_tail(self.path, self.private, origin=ORIGIN, files=Memory())
            assert self.at.has_tail
        self.epochs, self.sealed = epochs, sealed

    def open(self, **options: Any) -> Log:
        """Open it to write."""
        keeping = Keeping(
            epochs=Epochs(leaves=10) if self.epochs else None,
            sealed=self.sealed,
            epoch_of=epoch_of,
            announce=options.pop("announce", announce),
        )
        return Log.open(
            self.path,
            private=self.private,
            origin=ORIGIN,
            signer=None if self.epochs else SIGNER,
            purpose="audit",
            create=True,
            files=options.pop("files", None) or Memory(),
            keeping=options.pop("keeping", keeping),
        )

    def write(self, count: int = 30, *, each: int = 3) -> None:
        """Commit entries, some at a time."""
        with self.open() as log:
            for start in range(0, count, each):
                log.commit([b"entry %d" % n for n in range(start, start + each)])

    def verify(self) -> VerifiedLog:
        """Verify log and tail as an auditor who has the first key of each."""
        identity = Identity(
            name="log",
            verifier=self.first,
            roles=frozenset({"audit"}),
            origin=ORIGIN,
            epochs=self.epochs,
        )
        found = verify_log(
            self.path,
            trust=Trust((identity,)),
            role="audit",
            epochs=self.at.notes if self.epochs else None,
            epoch_of=epoch_of if self.epochs else None,
        )
        if self.sealed:
            tail = SealedTail.open(self.at.tail, self.at.steps, origin=ORIGIN, files=Memory())
            assert check_tail(self.key, found, tail.tail, self.at.steps).uncovered == 0
        return found


@pytest.mark.parametrize("epochs", [True, False])
@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_written_is_kept(tmp_path: Path, *, epochs: bool, sealed: bool) -> None:
    """Keys follow each other, every checkpoint is sealed, and each may be without the other."""
    kept = Kept(tmp_path, epochs=epochs, sealed=sealed)
    for _ in range(3):
        kept.write()
    found = kept.verify()
    expected = [b"entry %d" % n for n in range(30)] * 3

    assert [entry for entry in found.entries if entry.startswith(b"entry")] == expected
    assert len(found.entries) == 90 + 3 * len(read_notes(kept.at.notes))
    assert found.size == 90 + 3 * len(read_notes(kept.at.notes))
    chain = found.chain
    if chain is not None:
        ends = [0, *(boundary.size for boundary in chain.boundaries)]
        assert len(ends) > 6
        assert all(10 <= after - before <= 15 for before, after in pairwise(ends))
    assert (chain is not None) == epochs
    private = sorted(path.suffix for path in kept.at.keys.glob("*")) if epochs else []
    assert private.count(".pem") == int(epochs)


def test_a_new_key_needs_something_to_protect(tmp_path: Path) -> None:
    """Nothing is announced in an empty log, nor twice with nothing between."""
    kept = Kept(tmp_path)
    with kept.open() as log:
        log.publish()
        assert not log.hands_over
        log.commit([b"%d" % n for n in range(9)])
        before = log.verifiers
        log.commit([b"9"])
        assert log.size == 13
        assert not log.hands_over
        assert log.verifiers[1:] == before
        log.append(b"one by one", sync=False)
        for n in range(9):
            log.append(b"%d" % n, sync=False)
        log.publish()
        assert log.hands_over
        log.commit([])
        assert log.size == 26
    assert len(read_notes(kept.at.notes)) == 2
    kept.verify()


def test_time_ends_an_epoch_too(tmp_path: Path) -> None:
    """A log in which little happens changes its key all the same."""
    kept = Kept(tmp_path, sealed=False)
    keeping = Keeping(
        epochs=Epochs(period=timedelta(microseconds=1)), epoch_of=epoch_of, announce=announce
    )
    with kept.open(keeping=keeping) as log:
        log.publish()
        assert not log.hands_over
        log.commit([b"1"])
        log.commit([b"2"])
    assert len(read_notes(kept.at.notes)) == 2
    kept.verify()


@pytest.mark.parametrize("epochs", [True, False])
def test_a_log_that_was_cut_is_not_written_on(tmp_path: Path, *, epochs: bool) -> None:
    """Whoever cuts log and private memory of it has keys, or a tail, that went further."""
    kept = Kept(tmp_path, epochs=epochs, sealed=not epochs)
    kept.write(9)
    saved = [(kept.path, tmp_path / "old log"), (kept.private, tmp_path / "old private")]
    for place, copy in saved:
        shutil.copytree(place, copy)
    kept.write(3)
    shutil.rmtree(kept.path)
    shutil.copytree(tmp_path / "old log", kept.path)
    for name in ("checkpoints", "wal"):
        shutil.rmtree(kept.private / name)
        shutil.copytree(tmp_path / "old private" / name, kept.private / name)

    with pytest.raises(ConsistencyError, match="cut"), kept.open() as log:
        log.commit([b"on"])


@pytest.mark.parametrize("epochs", [True, False])
def test_a_log_that_is_gone_is_not_begun_anew(tmp_path: Path, *, epochs: bool) -> None:
    """Keys or a tail that were moved on belong to a log that was there."""
    kept = Kept(tmp_path, epochs=epochs, sealed=not epochs)
    kept.write(30)
    shutil.rmtree(kept.path)
    for name in ("checkpoints", "wal"):
        shutil.rmtree(kept.private / name)

    with pytest.raises(ConsistencyError), kept.open() as log:
        log.commit([b"anew"])


@pytest.mark.parametrize("wrong", [[b"nothing"], [b'E{"a":1}', b'E{"b":1}'], []])
def test_what_announces_has_to_say_so_once(tmp_path: Path, wrong: list[bytes]) -> None:
    """Entries without the member, or with two of it, are the caller's bug, and no harm."""
    kept = Kept(tmp_path)
    kept.write(9)

    def say(body: JSON) -> list[bytes]:
        del body
        return wrong

    with kept.open(announce=say) as log, pytest.raises(ValueError, match="one entry announces"):
        log.commit([b"x"])
    assert kept.verify().size == 9
    kept.write(3)
    assert len(read_notes(kept.at.notes)) == 1
    kept.verify()


def test_what_is_kept_is_made_first(tmp_path: Path) -> None:
    """Without keys, or without a tail, the log is not opened as if it had them."""
    with pytest.raises(KeyUnavailableError):
        _bare(tmp_path / "a", Keeping(epochs=Epochs(), epoch_of=epoch_of))
    with pytest.raises(StoreError):
        _bare(tmp_path / "b", Keeping(sealed=True))
    with pytest.raises(ValueError, match="epoch_of"):
        Keeping(epochs=Epochs())
    for wrong in ({"leaves": 0}, {"period": timedelta()}):
        with pytest.raises(ValueError, match="an epoch lasts"):
            Epochs(**wrong)  # type: ignore[arg-type]


def _bare(root: Path, keeping: Keeping) -> None:
    with Log.open(
        root / "log",
        private=root / "private",
        origin=ORIGIN,
        signer=SIGNER,
        purpose="audit",
        create=True,
        files=Memory(),
        keeping=keeping,
    ) as log:
        log.publish()


def test_a_log_that_nobody_announces_in_keeps_its_key(tmp_path: Path) -> None:
    """Where no batches come, the key of the day signs on."""
    kept = Kept(tmp_path)
    with kept.open(announce=None) as log:
        for n in range(30):
            log.append(b"%d" % n, sync=False)
        log.publish()
        log.commit([b"more"])
        assert not log.hands_over
    assert read_notes(kept.at.notes) == []
    assert kept.verify().size == 31


def test_who_writes_no_more_holds_no_key(tmp_path: Path) -> None:
    """A process that closed its log, or let go of it, has no key left in memory."""
    kept = Kept(tmp_path)
    for leave in (Log.close, Log.release):
        log = kept.open()
        log.publish()
        writer = log._writer
        assert writer is not None
        assert writer._kept is not None
        leave(log)
        assert writer._kept is None
        log.close()


def test_the_checkpoint_of_a_boundary_is_remembered_for_sure(tmp_path: Path) -> None:
    """The key that signed the one before is forgotten with it: its name is on the disk first."""
    kept = Kept(tmp_path)
    disk = Watching()
    with kept.open(files=disk) as log:
        log.commit([b"1"])
        disk.synced.clear()
        log.commit([b"2"])
        assert "checkpoints" not in disk.synced
        log.commit([b"%d" % n for n in range(9)])
        assert disk.synced.index("checkpoints") < disk.synced.index("epochs")
