"""Verifying a log directory as a stranger: every byte accounted for."""

import copy
import os
import shutil
import threading
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    SecureMLError,
    SignatureError,
    StoreError,
    UnexpectedFileError,
    UntrustedSignerError,
    VerificationError,
)
from secureml.evidence import _snapshot, checklog
from secureml.evidence._files import Files
from secureml.evidence._reader import LogDirectory, Sighting, rebuild
from secureml.evidence.log import Log, VerifiedLog, verify_log
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire import tiles
from secureml.wire.merkle import leaf_hash, root

ORIGIN = "log.example/unit"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))


def trusting(signer: keys.Signer, origin: str = ORIGIN) -> Trust:
    """Return a trust that names the log's key, and nothing else."""
    identity = Identity(
        name="log", verifier=signer.verifier, roles=frozenset({"log"}), origin=origin
    )
    return Trust.from_toml("version = 1\n\n" + identity_block(identity))


TRUST = trusting(SIGNER)


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def write(
    tmp: Path,
    entries: list[bytes],
    *,
    cuts: tuple[int, ...] = (),
    signer: keys.Signer = SIGNER,
    name: str = "log",
) -> list[str]:
    """Write a log of *entries*, published after each of *cuts*; returns the notes."""
    notes = []
    with Log.open(
        tmp / name,
        private=tmp / f"{name}.private",
        origin=ORIGIN,
        signer=signer,
        create=True,
        files=Memory(),
    ) as log:
        notes.append(log.publish())
        for size, entry in enumerate(entries, 1):
            log.append(entry, sync=False)
            if size in cuts:
                notes.append(log.publish())
        notes.append(log.publish())
    return notes


def numbered(count: int) -> list[bytes]:
    """Return so many entries."""
    return [b"entry %d" % n for n in range(count)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)


def test_a_log_verifies_itself_as_a_stranger_would(tmp_path: Path) -> None:
    """`Log.verify` is `verify_log`: the same report, and the same refusal."""
    notes = write(tmp_path, [b"a", b"b", b"c"], cuts=(2, 3))
    log = Log.open(tmp_path / "log")

    found = log.verify(trust=TRUST, remembered=notes[:1])
    (tmp_path / "log/tile/0/000.p/3").write_bytes(bytes(96))

    assert (found.size, found.rollback) == (3, "checked")
    with pytest.raises(DigestMismatchError):
        log.verify(trust=TRUST)


@pytest.mark.parametrize("size", [0, 1, 2, 5, 255, 256, 257, 511, 512, 513, 1000])
def test_a_good_log_is_verified(tmp_path: Path, size: int) -> None:
    """A log as it was written verifies, with all its entries."""
    entries = numbered(size)
    notes = write(tmp_path, entries, cuts=(1, 5, 100, 256))

    found = verify_log(tmp_path / "log", trust=TRUST)

    assert (ORIGIN, size, notes[-1]) == (found.origin, found.size, found.note)
    assert root(list(map(leaf_hash, entries))) == found.root
    assert entries == list(found.entries) == found.entries[:]
    assert found.signer.name == "log"
    assert TRUST.digest == found.trust_digest
    for index in {0, size // 2, size - 1} & set(range(size)):
        proof = found.prove(index)
        proof.inclusion.verify(entries[index], size=size, root=found.root)
        assert notes[-1] == proof.checkpoint


def test_rollback_needs_a_memory(tmp_path: Path) -> None:
    """With a checkpoint from outside rollback is checked; without, it cannot be, and says so."""
    notes = write(tmp_path, numbered(9), cuts=(4,))

    assert verify_log(tmp_path / "log", trust=TRUST).rollback == "not checkable"
    inside = verify_log(tmp_path / "log", trust=TRUST, anchors=notes)
    assert (inside.rollback, inside.remembered_size) == ("not checkable", None)
    outside = verify_log(tmp_path / "log", trust=TRUST, remembered=notes[:2])
    assert (outside.rollback, outside.remembered_size) == ("checked", 4)
    assert "rollback checked" in repr(outside)
    assert "checked" in outside._repr_html_()


def test_consistency_proofs(tmp_path: Path) -> None:
    """A verified log proves that it continues an earlier checkpoint."""
    write(tmp_path, numbered(300))
    found = verify_log(tmp_path / "log", trust=TRUST)

    for old in (0, 1, 255, 256, 299, 300):
        before = root([leaf_hash(entry) for entry in numbered(old)])
        found.consistency(old).verify(old_size=old, old_root=before, size=300, root=found.root)
    with pytest.raises(IndexError):
        found.prove(300)


def test_a_verified_log_is_not_made_by_hand(tmp_path: Path) -> None:
    """Being a VerifiedLog is the proof that the log was verified."""
    write(tmp_path, numbered(1))
    found = verify_log(tmp_path / "log", trust=TRUST)

    with pytest.raises(TypeError):
        VerifiedLog(object())
    with pytest.raises(TypeError):
        copy.copy(found)
    with pytest.raises(TypeError):
        found.size = 2


# Changes


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Each change of each byte of each file is refused, as a matter of format or of proof."""
    write(tmp_path, numbered(5), cuts=(2,))
    base = tmp_path / "log"
    files = sorted(path for path in base.rglob("*") if path.is_file())
    assert len(files) == 3
    tried = 0
    for path in files:
        good = path.read_bytes()
        for at in range(len(good)):
            for mask in (1, 32, 255):
                path.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
                with pytest.raises((FormatError, VerificationError)):
                    verify_log(base, trust=TRUST)
                tried += 1
        path.write_bytes(good)
    verify_log(base, trust=TRUST)

    assert tried == 3 * sum(path.stat().st_size for path in files) > 1_000


@pytest.mark.parametrize("change", ["cut", "longer", "empty", "gone", "twice"])
def test_every_other_change_of_a_file_is_found(tmp_path: Path, change: str) -> None:
    """A file that is cut, longer, empty or gone, or that another one replaced, is refused."""
    write(tmp_path, numbered(600))
    base = tmp_path / "log"
    files = sorted(path for path in base.rglob("*") if path.is_file())
    for path in files:
        good = path.read_bytes()
        if change == "gone":
            path.unlink()
        elif change == "twice":
            other = files[files.index(path) - 1]
            path.write_bytes(other.read_bytes())
        else:
            path.write_bytes({"cut": good[:-1], "longer": good + b"\0", "empty": b""}[change])
        expected = (
            StoreError
            if change == "gone" and path.name == "checkpoint"
            else (
                FormatError,
                VerificationError,
            )
        )
        with pytest.raises(expected):
            verify_log(base, trust=TRUST)
        path.write_bytes(good)
    verify_log(base, trust=TRUST)


@pytest.mark.parametrize("index", [0, 255, 256, 299])
def test_a_changed_entry_is_named(tmp_path: Path, index: int) -> None:
    """The error names the entry that was changed, and the file that it is in."""
    write(tmp_path, numbered(300))
    width = 256 if index < 256 else 44
    path = tmp_path / "log" / tiles.entries_path(index // 256, width)
    entries = tiles.decode_bundle(path.read_bytes(), width)
    entries[index % 256] = b"another"
    path.write_bytes(tiles.encode_bundle(entries))

    with pytest.raises(
        DigestMismatchError, match=f"^entry {index}, in 'tile/entries/00"
    ) as caught:
        verify_log(tmp_path / "log", trust=TRUST)
    assert "beside it" not in caught.value.what


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_a_changed_tile_is_named(tmp_path: Path, name: str) -> None:
    """The error names the tile that was changed, though every entry is good."""
    write(tmp_path, numbered(300))
    path = tmp_path / "log" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(DigestMismatchError, match=f"'{name}' was changed, at hash"):
        verify_log(tmp_path / "log", trust=TRUST)


def test_an_entry_and_its_hash_changed_together_are_named(tmp_path: Path) -> None:
    """Whoever also fixes the lowest tile is found one tile higher up, or at the root."""
    entries = numbered(300)
    write(tmp_path, entries)
    entries[7] = b"forged"
    base = tmp_path / "log"
    (base / "tile/entries/000").write_bytes(tiles.encode_bundle(entries[:256]))
    (base / "tile/0/000").write_bytes(b"".join(map(leaf_hash, entries[:256])))

    with pytest.raises(DigestMismatchError, match="one of the entries 0 to 255") as caught:
        verify_log(base, trust=TRUST)
    assert "tile/entries/000" in caught.value.what


def test_an_entry_and_another_hash_changed(tmp_path: Path) -> None:
    """With an entry and an unrelated hash changed, the first is named and the rest hinted at."""
    write(tmp_path, numbered(300))
    base = tmp_path / "log"
    (base / "tile/entries/000").write_bytes(tiles.encode_bundle([b"x", *numbered(256)[1:]]))
    path = base / "tile/0/001.p/44"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")

    with pytest.raises(DigestMismatchError, match=r"entry 0, in .* beside it"):
        verify_log(base, trust=TRUST)


def test_all_files_changed_together_fail_at_the_root(tmp_path: Path) -> None:
    """Files that agree with each other still have to agree with what was signed."""
    write(tmp_path, numbered(9))
    write(tmp_path, [b"forged", *numbered(9)[1:]], name="other")
    shutil.rmtree(tmp_path / "log/tile")
    shutil.copytree(tmp_path / "other/tile", tmp_path / "log/tile")

    with pytest.raises(DigestMismatchError, match="not those of its checkpoint"):
        verify_log(tmp_path / "log", trust=TRUST)


# The file set


@pytest.mark.parametrize(
    "name",
    [
        "evil.txt",
        "tile/evil",
        "tile/0/002",
        "tile/0/000.p/5",
        "tile/0/001.p/45",
        "tile/1/001",
        "tile/9/000",
        "tile/entries/005.p/1",
        "tile/entries/0",
        "tile/0/x000/000",
        ".writing-checkpoint",
        "tile/0/.writing-000",
        "checkpoint.old",
        "CHECKPOINT",
        "tile/data/000",
    ],
)
def test_a_file_too_many_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing may lie in a log that the checkpoint does not call for."""
    write(tmp_path, numbered(300))
    path = tmp_path / "log" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"x")

    with pytest.raises((UnexpectedFileError, DigestMismatchError)) as caught:
        verify_log(tmp_path / "log", trust=TRUST)
    assert name in caught.value.what


@pytest.mark.parametrize("name", ["empty", "tile/empty", "tile/0/001.p/nested", "tile/0/000.p"])
def test_a_directory_too_many_is_refused(tmp_path: Path, name: str) -> None:
    """Nor may an empty directory."""
    write(tmp_path, numbered(300))
    (tmp_path / "log" / name).mkdir()

    with pytest.raises(UnexpectedFileError, match="does not belong"):
        verify_log(tmp_path / "log", trust=TRUST)


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/000", "tile/entries/001.p/44", "new"])
@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_only_regular_files(tmp_path: Path, name: str, kind: str) -> None:
    """A link to the same bytes, a pipe or a directory in a file's place is refused."""
    write(tmp_path, numbered(300))
    path = tmp_path / "log" / name
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").touch()
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()

    with pytest.raises(UnexpectedFileError):
        verify_log(tmp_path / "log", trust=TRUST)


def test_a_linked_directory_is_refused(tmp_path: Path) -> None:
    """A link to a directory is not followed."""
    write(tmp_path, numbered(3))
    (tmp_path / "log/tile").rename(tmp_path / "elsewhere")
    (tmp_path / "log/tile").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnexpectedFileError, match="not a regular file"):
        verify_log(tmp_path / "log", trust=TRUST)


def test_no_log(tmp_path: Path) -> None:
    """A directory without a checkpoint is no log."""
    with pytest.raises(StoreError, match="there is no log"):
        verify_log(tmp_path, trust=TRUST)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"x" * 2_000_000])
def test_rubbish_for_a_checkpoint(tmp_path: Path, data: bytes) -> None:
    """What is no checkpoint is a matter of format."""
    (tmp_path / "checkpoint").write_bytes(data)

    with pytest.raises(FormatError):
        verify_log(tmp_path, trust=TRUST)


def test_stale_partial_tiles_are_accepted_if_they_are_beginnings(tmp_path: Path) -> None:
    """A smaller tile that a crash left is checked against the larger one."""
    entries = numbered(300)
    write(tmp_path, entries)
    base = tmp_path / "log"
    stale = {
        "tile/entries/000.p/5": tiles.encode_bundle(entries[:5]),
        "tile/0/000.p/255": b"".join(map(leaf_hash, entries[:255])),
        "tile/0/001.p/43": b"".join(map(leaf_hash, entries[256:299])),
        "tile/entries/001.p/1": tiles.encode_bundle(entries[256:257]),
    }
    for name, data in stale.items():
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(data)

    assert verify_log(base, trust=TRUST).size == 300
    for name, data in stale.items():
        (base / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DigestMismatchError, match=f"'{name}' was changed"):
            verify_log(base, trust=TRUST)
        (base / name).write_bytes(data)


# Who signed


def test_another_key_is_refused(tmp_path: Path) -> None:
    """A whole log written anew, consistently, under another key is nobody's."""
    write(tmp_path, numbered(3), signer=keys.generate("ed25519", purposes=frozenset({"log"})))

    with pytest.raises(UntrustedSignerError):
        verify_log(tmp_path / "log", trust=TRUST)


def test_another_role_is_refused(tmp_path: Path) -> None:
    """A key that is trusted for statements' logs does not sign audit logs."""
    write(tmp_path, numbered(3))

    with pytest.raises(UntrustedSignerError):
        verify_log(tmp_path / "log", trust=TRUST, role="audit")


def test_a_second_signature_is_refused(tmp_path: Path) -> None:
    """Every byte of the directory is accounted for: no line more under the checkpoint."""
    note = write(tmp_path, numbered(3))[-1]
    line = note.splitlines()[-1]
    (tmp_path / "log/checkpoint").write_text(note + line.replace(ORIGIN, "witness") + "\n")

    with pytest.raises((FormatError, SignatureError)):
        verify_log(tmp_path / "log", trust=TRUST)


# Memory


def test_a_cut_log_is_found(tmp_path: Path) -> None:
    """A log that was rolled back, consistently, is found by whoever remembers it."""
    notes = write(tmp_path, numbered(9), cuts=(4,))
    shutil.rmtree(tmp_path / "log")
    shutil.rmtree(tmp_path / "log.private")
    write(tmp_path, numbered(4))

    assert verify_log(tmp_path / "log", trust=TRUST).rollback == "not checkable"
    with pytest.raises(ConsistencyError, match="cut or rolled back"):
        verify_log(tmp_path / "log", trust=TRUST, remembered=notes)
    with pytest.raises(ConsistencyError, match="cut or rolled back"):
        verify_log(tmp_path / "log", trust=TRUST, anchors=notes)


@pytest.mark.parametrize("at", [0, 3, 8])
def test_a_forked_log_is_found(tmp_path: Path, at: int) -> None:
    """A log that was written anew from some entry on is found by whoever remembers it."""
    entries = numbered(9)
    notes = write(tmp_path, entries, cuts=(4,))
    shutil.rmtree(tmp_path / "log")
    shutil.rmtree(tmp_path / "log.private")
    entries[at] = b"another story"
    write(tmp_path, [*entries, b"and more"])

    with pytest.raises(ConsistencyError, match="forked"):
        verify_log(tmp_path / "log", trust=TRUST, remembered=notes)


def test_a_checkpoint_of_another_log_is_refused(tmp_path: Path) -> None:
    """A remembered checkpoint has to be of this log."""
    write(tmp_path, numbered(3))
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    with Log.open(
        tmp_path / "other", origin="log.example/other", signer=signer, create=True
    ) as other:
        note = other.publish()
    identity = Identity(
        name="other",
        verifier=signer.verifier,
        roles=frozenset({"log"}),
        origin="log.example/other",
    )
    trust = Trust.from_toml(TRUST.to_toml() + "\n" + identity_block(identity))

    with pytest.raises(ConsistencyError, match="remembered checkpoint is of"):
        verify_log(tmp_path / "log", trust=trust, remembered=[note])


def test_a_forged_memory_is_refused(tmp_path: Path) -> None:
    """A remembered checkpoint has to be signed like any other."""
    note = write(tmp_path, numbered(3))[-1]

    with pytest.raises((SignatureError, FormatError)):
        verify_log(tmp_path / "log", trust=TRUST, remembered=[note.replace("\n3\n", "\n2\n")])


# What was checked is what is used


def test_entries_are_checked_again(tmp_path: Path) -> None:
    """An entry that changes after verification is refused when it is read."""
    write(tmp_path, numbered(600))
    found = verify_log(tmp_path / "log", trust=TRUST)
    path = tmp_path / "log/tile/entries/001"
    changed = numbered(512)[256:]
    changed[10] = b"changed since"
    path.write_bytes(tiles.encode_bundle(changed))

    assert found.entries[255] == b"entry 255"
    assert found.entries[-1] == b"entry 599"
    with pytest.raises(DigestMismatchError, match="entry 266 changed after it was verified"):
        found.entries[300]
    path.unlink()
    with pytest.raises(UnexpectedFileError, match="tile/entries/001"):
        list(found.entries)
    with pytest.raises(IndexError):
        found.entries[600]


def test_entries_are_not_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for entries is bounded; what is dropped is read, and checked, again."""
    monkeypatch.setattr(_snapshot, "_CACHE", 1_000)
    write(tmp_path, numbered(1_100))
    found = verify_log(tmp_path / "log", trust=TRUST)

    assert numbered(1_100) == list(found.entries) == list(found.entries)
    assert [found.entries[n] for n in (3, 1000, 3)] == [b"entry 3", b"entry 1000", b"entry 3"]
    assert numbered(1_100)[250:260] == found.entries[250:260]


def test_a_file_that_goes_while_verifying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full tile that vanishes halfway is named, not a stray error."""
    write(tmp_path, numbered(600))
    path = tmp_path / "log/tile/entries/001"
    original = rebuild

    def remove_first(*arguments: object, **more: object) -> object:
        path.unlink()
        return original(*arguments, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(checklog, "rebuild", remove_first)
    with pytest.raises(UnexpectedFileError, match="tile/entries/001"):
        verify_log(tmp_path / "log", trust=TRUST)


def test_an_unreadable_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be listed is no statement about the log."""
    write(tmp_path, numbered(3))

    def fail(path: object) -> object:
        raise PermissionError(13, f"no entry: {path}")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StoreError, match="could not list"):
        verify_log(tmp_path / "log", trust=TRUST)


def test_a_writer_that_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a quiet moment ends, whatever the writer does."""
    write(tmp_path, numbered(3))
    (tmp_path / "log/.writing-checkpoint").touch()
    notes = iter(range(10**6))
    original = LogDirectory.require

    def moving(directory: LogDirectory) -> Sighting:
        seen = original(directory)
        return Sighting(seen.note + "\n" * next(notes), seen.checkpoint)

    def look(*_: object, **__: object) -> object:
        error = UnexpectedFileError("a", why="b", fix="c")
        raise checklog._UnsettledError(error, wait=True)

    monkeypatch.setattr(LogDirectory, "require", moving)
    monkeypatch.setattr(checklog, "_look", look)
    with pytest.raises(UnexpectedFileError):
        verify_log(tmp_path / "log", trust=TRUST)


# Beside a writer


def test_verifying_beside_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that grows while it is verified is verified as of one of its checkpoints."""
    monkeypatch.undo()
    log = Log.open(tmp_path / "log", origin=ORIGIN, signer=SIGNER, create=True, files=Memory())
    log.publish()
    stop = threading.Event()
    wrong: list[SecureMLError] = []
    sizes: list[int] = []

    def check() -> None:
        while not stop.is_set():
            try:
                found = verify_log(tmp_path / "log", trust=TRUST)
                assert numbered(found.size) == list(found.entries)
                sizes.append(found.size)
            except SecureMLError as error:
                wrong.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    for n in range(300):
        log.append(b"entry %d" % n, sync=False)
        log.publish()
    stop.set()
    thread.join()
    log.close()

    assert wrong == []
    assert sizes == sorted(sizes)
    assert sizes
