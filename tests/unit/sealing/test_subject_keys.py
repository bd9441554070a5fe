"""One key for each subject, whichever process asks, until it is shredded."""

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml.errors import KeyUnavailableError, StoreError
from secureml.sealing import Encrypted, SubjectKeys
from secureml.sealing._keyfile import TICKS

RECORD = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"
ALICE, BOB = "ab" * 16, "ac" * 16


def put(keys: SubjectKeys, subject: str = ALICE, data: bytes = b"secret") -> Encrypted:
    """Encrypt something."""
    return keys.encrypt(subject, data, record=RECORD, path="p")


def take(keys: SubjectKeys, value: Encrypted, subject: str | None = None) -> bytes:
    """Decrypt it."""
    return keys.decrypt(value, record=RECORD, path="p", subject=subject)


def file_of(keys: SubjectKeys, subject: str = ALICE) -> Path:
    """Return the file of a subject's first key."""
    return keys.directory / subject[:2] / subject


def all_bytes(root: Path) -> bytes:
    """Return the content of every file."""
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_a_key_is_made_at_first_use(tmp_path: Path) -> None:
    """Nothing is written before it is needed; then a file that only its owner reads."""
    keys = SubjectKeys(tmp_path / "private")
    assert not keys.directory.exists()

    made = put(keys)

    assert stat.S_IMODE(file_of(keys).stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.directory.stat().st_mode) == 0o700
    assert keys.ids(ALICE) == (made.key,)
    assert (keys.has(made.key), keys.has("00" * 16)) == (True, False)
    assert "subjects" in repr(keys)


def test_values_of_a_subject_share_a_key(tmp_path: Path) -> None:
    """The same subject has the same key, in another process too; another subject another."""
    keys, other = SubjectKeys(tmp_path), SubjectKeys(tmp_path)

    made = put(keys)

    assert put(keys).key == made.key == put(other).key != put(keys, BOB).key
    assert take(other, made) == take(other, made, ALICE) == take(other, made, BOB) == b"secret"


def test_many_processes_end_with_one_key(tmp_path: Path) -> None:
    """Processes that make the keys of the same subjects at once make one each."""
    code = f"""
import os, sys
from pathlib import Path
from secureml.sealing import SubjectKeys
ready, go = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        os.close(go)
        os.read(ready, 1)
        keys = SubjectKeys(Path({str(tmp_path)!r}))
        made = [keys.encrypt(f"{{n:032x}}", b"x", record={RECORD!r}, path="p").key
                for n in range(40)]
        os.write(1, (" ".join(made) + "\\n").encode())
        os._exit(0)
os.close(go)
for _ in range(8):
    os.wait()
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    lines = out.splitlines()
    assert len(lines) == 8
    assert len(set(lines)) == 1
    assert len(set(lines[0].split())) == 40
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_shredded_key_is_gone(tmp_path: Path) -> None:
    """No file holds the key any more, and nobody opens what it encrypted."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    secret = file_of(keys).read_bytes()[45:77]
    others = put(keys, BOB)

    assert keys.shred([made.key]) == (made.key,)

    assert secret not in all_bytes(tmp_path)
    assert keys.ids(ALICE) == ()
    assert not keys.has(made.key, subject=ALICE)
    with pytest.raises(LookupError, match="destroyed"):
        take(keys, made)
    assert take(keys, others) == b"secret"
    assert keys.shred([made.key], subject=ALICE) == ()


def test_a_key_shredded_elsewhere_is_not_used_again(tmp_path: Path) -> None:
    """A process that holds a key in memory looks at its file before each use."""
    keys, other = SubjectKeys(tmp_path), SubjectKeys(tmp_path)
    made = put(keys)

    for _ in range(30):
        other.shred([made.key], subject=ALICE)
        again = put(keys)

        assert again.key != made.key
        assert other.ids(ALICE) == (again.key,)
        made = again


def test_only_named_keys_are_shredded(tmp_path: Path) -> None:
    """A key that was made after the erasure was decided stays."""
    keys = SubjectKeys(tmp_path)
    old = put(keys)
    keys.shred([old.key])
    new = put(keys)

    assert keys.shred([old.key], subject=ALICE) == ()

    assert take(keys, new) == b"secret"


def test_what_a_crash_left_is_finished(tmp_path: Path) -> None:
    """Files that were being shredded go; so do keys that were never given out."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    path = file_of(keys)
    shredding = path.with_name(f".shred-0011-{ALICE}")
    path.rename(shredding)
    old, new = path.with_name(".making-01"), path.with_name(".making-02")
    for one in (old, new):
        one.write_bytes(b"x" * 93)
    os.utime(old, (time.time() - 7200,) * 2)

    assert keys.shred([made.key]) == ()

    assert [one.name for one in path.parent.iterdir()] == [new.name]


def test_a_second_name_is_not_overwritten(tmp_path: Path) -> None:
    """A crash between link and unlink leaves a second name of a key in use: the name goes."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    second = file_of(keys).with_name(".making-01")
    os.link(file_of(keys), second)
    os.utime(second, (time.time() - 7200,) * 2)

    keys.sweep()

    assert not second.exists()
    assert take(SubjectKeys(tmp_path), made) == b"secret"


def test_a_generation_ends_by_count(tmp_path: Path) -> None:
    """A key that was ticked often enough is followed by another one; both decrypt and go."""
    keys = SubjectKeys(tmp_path)
    first = put(keys)
    with file_of(keys).open("ab") as file:
        file.write(b"." * TICKS)

    second = put(keys)

    assert second.key != first.key
    assert put(SubjectKeys(tmp_path)).key == second.key
    assert set(keys.ids(ALICE)) == {first.key, second.key}
    assert take(keys, first) == take(keys, second) == take(keys, second, ALICE) == b"secret"
    assert set(keys.shred(keys.ids(ALICE), subject=ALICE)) == {first.key, second.key}
    assert put(keys).key not in {first.key, second.key}


def test_every_65536th_value_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nonce that begins with two zero bytes leaves a tick, in whatever process."""
    keys = SubjectKeys(tmp_path)
    size = len(put(keys).ciphertext) and file_of(keys).stat().st_size
    monkeypatch.setattr(os, "urandom", bytes)

    made = [put(keys), put(SubjectKeys(tmp_path))]
    monkeypatch.undo()

    assert file_of(keys).stat().st_size == size + 2
    assert {put(keys).key} == {one.key for one in made}
    keys.shred(keys.ids(ALICE))


def test_more_subjects_than_are_held(tmp_path: Path) -> None:
    """However many there are, memory holds some and the files all."""
    keys = SubjectKeys(tmp_path)

    made = {f"{n:032x}": put(keys, f"{n:032x}") for n in range(1100)}

    assert len(keys._held) <= 1024
    assert all(put(keys, name).key == one.key for name, one in list(made.items())[::50])
    assert take(SubjectKeys(tmp_path), made[f"{0:032x}"]) == b"secret"


def other_mode(path: Path) -> None:
    """Let others read it."""
    path.chmod(0o640)


def swapped(path: Path) -> None:
    """Put the file of another subject in its place."""
    SubjectKeys(path.parents[2]).encrypt(BOB, b"x", record=RECORD, path="p")
    (path.parent.parent / BOB[:2] / BOB).replace(path)


def linked(path: Path) -> None:
    """Put a symbolic link in its place."""
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "not in the form"),
        (lambda p: p.write_bytes(p.read_bytes() + b"x"), "not in the form"),
        (lambda p: p.write_bytes(b""), "not in the form"),
        (lambda p: p.write_bytes(p.read_bytes()[:50] + b"\0" + p.read_bytes()[51:]), "damaged"),
        (other_mode, "others may read it: its mode is 0640"),
        (swapped, "file of another subject"),
        (linked, "cannot be used"),
        (lambda p: (p.unlink(), p.mkdir(mode=0o700)), "cannot be used"),
    ],
)
def test_a_file_that_is_no_key_is_refused(
    tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    """A damaged, foreign or open file is named, and never replaced by a new key."""
    put(SubjectKeys(tmp_path))
    change(file_of(SubjectKeys(tmp_path)))

    with pytest.raises(KeyUnavailableError, match=expected):
        put(SubjectKeys(tmp_path))


def test_a_master_key_wraps_every_key(tmp_path: Path) -> None:
    """Who has the private directory and not the master key opens nothing."""
    master = os.urandom(32)
    keys = SubjectKeys(tmp_path, master=master)
    made = put(keys)

    assert take(SubjectKeys(tmp_path, master=master), made) == b"secret"
    for wrong in (None, os.urandom(32)):
        with pytest.raises(KeyUnavailableError, match="wrapped"):
            take(SubjectKeys(tmp_path, master=wrong), made)
        with pytest.raises(KeyUnavailableError, match="wrapped"):
            put(SubjectKeys(tmp_path, master=wrong))
    # Shredding needs no master key.
    assert SubjectKeys(tmp_path).shred([made.key]) == (made.key,)


def test_a_wrapped_key_belongs_to_its_subject(tmp_path: Path) -> None:
    """The wrapped file of another subject does not pass, so what is shredded is what was used."""
    master = os.urandom(32)
    keys = SubjectKeys(tmp_path, master=master)
    put(keys)
    put(keys, BOB)
    file_of(keys, BOB).replace(file_of(keys))

    with pytest.raises(KeyUnavailableError, match="another subject's"):
        put(keys)


def test_with_a_master_key_a_plain_file_is_refused(tmp_path: Path) -> None:
    """An attacker who can write cannot have a key used that he knows."""
    put(SubjectKeys(tmp_path))

    with pytest.raises(KeyUnavailableError, match="not wrapped"):
        put(SubjectKeys(tmp_path, master=os.urandom(32)))


def test_keys_are_wrapped_anew(tmp_path: Path) -> None:
    """From none to a master key, to another, and back: ids, keys and counts stay."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    with file_of(keys).open("ab") as file:
        file.write(b"...")
    plain = file_of(keys).read_bytes()
    one, two = os.urandom(32), os.urandom(32)

    for master in (one, two, two, None):
        keys.rewrap(master)
        assert take(SubjectKeys(tmp_path, master=master), made) == b"secret"
        assert put(keys).key == made.key

    assert file_of(keys).read_bytes() == plain
    with pytest.raises(ValueError, match="32 bytes"):
        keys.rewrap(b"short")


def test_a_master_key_may_lie_in_a_file(tmp_path: Path) -> None:
    """A file of 32 bytes that only its owner reads; anything else is refused."""
    path = tmp_path / "master"
    path.touch(mode=0o600)
    with pytest.raises(KeyUnavailableError, match="does not have 32 bytes"):
        SubjectKeys(tmp_path, master=path)
    path.write_bytes(os.urandom(32))

    made = put(SubjectKeys(tmp_path, master=path))

    assert take(SubjectKeys(tmp_path, master=path.read_bytes()), made) == b"secret"
    path.chmod(0o644)
    with pytest.raises(KeyUnavailableError, match="0644"):
        SubjectKeys(tmp_path, master=path)
    with pytest.raises(KeyUnavailableError, match="No such file"):
        SubjectKeys(tmp_path, master=tmp_path / "none")
    with pytest.raises(ValueError, match="32 bytes"):
        SubjectKeys(tmp_path, master=b"x")


@pytest.mark.parametrize("subject", ["alice", "", "AB" * 16, "../../../../../../../../etc/passwd"])
def test_a_subject_is_a_pseudonym(tmp_path: Path, subject: str) -> None:
    """A name that is no pseudonym becomes no path."""
    keys = SubjectKeys(tmp_path)

    with pytest.raises(ValueError, match="pseudonym"):
        put(keys, subject)
    with pytest.raises(ValueError, match="pseudonym"):
        keys.ids(subject)


def test_sync_makes_new_keys_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key that was made, and each that may be young, is synced once, with its directories."""
    keys = SubjectKeys(tmp_path)
    put(keys)
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)

    keys.sync()

    assert synced == [ALICE, "ab", "subjects", tmp_path.name]
    synced.clear()
    keys.sync()
    assert synced == []
    other = SubjectKeys(tmp_path)
    put(other)
    other.sync()
    assert len(synced) == 4


def test_a_key_shredded_before_its_sync(tmp_path: Path) -> None:
    """What is gone needs no sync."""
    keys = SubjectKeys(tmp_path)
    keys.shred([put(keys).key])

    keys.sync()


def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may report it once and drop the bytes: nothing is durable afterwards."""
    keys = SubjectKeys(tmp_path)
    put(keys)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="not safe on the disk"):
        keys.sync()
    monkeypatch.undo()

    with pytest.raises(StoreError, match="Input/output"):
        keys.sync()


def test_a_shred_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that could not be overwritten is not called destroyed; the next call does it."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="could not be destroyed") as caught:
        keys.shred([made.key])
    monkeypatch.undo()

    assert caught.value.retryable
    keys.shred([made.key])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_room_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that cannot be made is an error, and leaves no half of a file."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))

    with pytest.raises(KeyUnavailableError, match="no room"):
        put(SubjectKeys(tmp_path))
    monkeypatch.undo()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    (tmp_path / "file").touch()
    with pytest.raises(KeyUnavailableError):
        put(SubjectKeys(tmp_path / "file"))


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_disk_that_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whatever the system refuses, wrapping anew says so, and can be done again."""
    keys, master = SubjectKeys(tmp_path), os.urandom(32)
    made = put(keys)
    real = getattr(os, call)

    def fail(*args: object, **options: object) -> object:
        if call == "open" and args[1] == os.O_RDONLY:
            return real(*args, **options)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises((StoreError, KeyUnavailableError)):
        keys.rewrap(master)
    monkeypatch.undo()

    keys.rewrap(master)
    assert take(SubjectKeys(tmp_path, master=master), made) == b"secret"


def test_a_count_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that could not be counted is not encrypted: the limit of the key holds."""
    keys = SubjectKeys(tmp_path)
    put(keys)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "urandom", bytes)
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(KeyUnavailableError, match="No space"):
        put(keys)


def test_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    """Keys that cannot be looked through are an error, not keys that are gone."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    shard = keys.directory / "ab"
    shard.rename(keys.directory / "away")
    shard.touch()

    for ask in (lambda: take(keys, made), lambda: keys.has(made.key), lambda: keys.ids(ALICE)):
        with pytest.raises(KeyUnavailableError):
            ask()


def test_vectors_of_key_files(tmp_path: Path) -> None:
    """The key files of the specification are read, and the bad ones refused."""
    vectors = json.loads(
        (Path(__file__).parents[3] / "vectors/sealed-values/keys.json").read_text(encoding="utf-8")
    )
    assert vectors["source"]

    for number, case in enumerate(vectors["cases"]):
        keys = SubjectKeys(
            tmp_path / str(number),
            master=bytes.fromhex(case["master"]) if case["master"] else None,
        )
        path = file_of(keys, case["subject"])
        path.parent.mkdir(parents=True)
        path.touch(mode=0o600)
        path.write_bytes(bytes.fromhex(case["file"]))
        if case["expect"] is None:
            with pytest.raises(KeyUnavailableError):
                put(keys, case["subject"])
            continue
        value = Encrypted(case["expect"]["id"], bytes.fromhex(case["expect"]["ciphertext"]))
        found = keys.decrypt(value, record=case["expect"]["record"], path=case["expect"]["path"])
        assert found.hex() == case["expect"]["plaintext"], case["why"]
