"""What is left of a key that was destroyed, and files that stand where keys belong."""

from pathlib import Path

import pytest

from secureml.errors import KeyUnavailableError, StoreError
from secureml.sealing import Encrypted, SubjectKeys, _keyfile

RECORD = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"
ALICE, BOB = "ab" * 16, "ac" * 16


def put(keys: SubjectKeys, subject: str = ALICE) -> Encrypted:
    """Encrypt something."""
    return keys.encrypt(subject, b"secret", record=RECORD, path="p")


def file_of(keys: SubjectKeys, subject: str = ALICE) -> Path:
    """Return the file of a subject's first key."""
    return keys.directory / subject[:2] / subject


@pytest.mark.parametrize("master", [None, bytes(range(32))])
def test_a_destroyed_key_is_written_over(tmp_path: Path, master: bytes | None) -> None:
    """Whoever has the blocks of the file, by another name or from the disk, has no key."""
    keys = SubjectKeys(tmp_path, master=master)
    made = put(keys)
    copy = tmp_path / "the same blocks"
    copy.hardlink_to(file_of(keys))
    size = copy.stat().st_size
    assert keys.shred([made.key]) == (made.key,)

    assert copy.read_bytes() == bytes(max(size, copy.stat().st_size))


def test_each_key_is_drawn_anew(tmp_path: Path) -> None:
    """The next key of a subject, and the key of the same subject elsewhere, are others."""
    keys = SubjectKeys(tmp_path / "here")
    found = set()
    for _ in range(3):
        made = put(keys)
        found.add(_keyfile.read(file_of(keys), ALICE, None).key)
        keys.shred([made.key])
    elsewhere = SubjectKeys(tmp_path / "there")
    put(elsewhere)
    found.add(_keyfile.read(file_of(elsewhere), ALICE, None).key)

    assert len(found) == 4


def looped(path: Path) -> None:
    """Put a link to itself there: no file can be opened by that name."""
    path.unlink()
    path.symlink_to(path.name)


def test_a_link_is_no_key(tmp_path: Path) -> None:
    """A link in the place of a key is not followed, whatever is asked."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    looped(file_of(keys))
    fresh = SubjectKeys(tmp_path)

    for ask in (
        lambda: fresh.has(made.key),
        lambda: fresh.has(made.key, subject=ALICE),
        lambda: fresh.ids(ALICE),
        lambda: put(fresh),
        lambda: fresh.decrypt(made, record=RECORD, path="p"),
    ):
        with pytest.raises(KeyUnavailableError, match="cannot be used"):
            ask()


def test_a_link_is_not_synced(tmp_path: Path) -> None:
    """A key that cannot be synced is one that nothing may rest on."""
    keys = SubjectKeys(tmp_path)
    put(keys)
    looped(file_of(keys))

    for _ in range(2):
        with pytest.raises(StoreError, match="not safe on the disk"):
            keys.sync()


def test_a_count_is_not_written_through_a_link(tmp_path: Path) -> None:
    """A value that cannot be counted is not taken."""
    keys = SubjectKeys(tmp_path)
    put(keys)
    held = keys._held[ALICE]
    looped(file_of(keys))

    with pytest.raises(KeyUnavailableError, match="cannot be used"):
        keys._tick(held)
    file_of(keys).unlink()
    keys._tick(held)  # it was destroyed: nothing is left to count
    assert not file_of(keys).exists()


def test_a_file_is_no_shard(tmp_path: Path) -> None:
    """Where keys lie there are directories of them; a file by such a name is an error."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    (keys.directory / "ac").touch()

    for ask in (lambda: keys.ids(BOB), lambda: SubjectKeys(tmp_path).has(made.key)):
        with pytest.raises(KeyUnavailableError, match="cannot be used"):
            ask()


def test_a_shard_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """What may have had keys and cannot be read is not taken for empty."""
    keys = SubjectKeys(tmp_path)
    put(keys)
    (keys.directory / "ad").symlink_to(tmp_path / "nowhere")

    with pytest.raises(KeyUnavailableError, match="cannot be used"):
        SubjectKeys(tmp_path).has("00" * 16)


def test_other_names_are_passed_over(tmp_path: Path) -> None:
    """Only the names of keys are keys."""
    keys = SubjectKeys(tmp_path)
    made = put(keys)
    for name in ("notes", ALICE + ".x", ALICE + ".0", ALICE[:-1]):
        (file_of(keys).parent / name).touch(mode=0o600)
    (keys.directory / "zz").mkdir()

    assert keys.ids(ALICE) == (made.key,)
    assert keys.has(made.key, subject="no pseudonym")
    assert SubjectKeys(tmp_path).shred([made.key]) == (made.key,)
    left = {path.name for path in file_of(keys).parent.iterdir()}
    assert left == {"notes", ALICE + ".x", ALICE + ".0", ALICE[:-1]}
