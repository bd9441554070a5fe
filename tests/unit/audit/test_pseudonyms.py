"""A user's pseudonym is stable, keyed, and never the user."""

from pathlib import Path
from uuid import UUID

import pytest

from secureml.audit.pseudonyms import KEY_FILE, Pseudonyms, pseudonym
from secureml.errors import KeyUnavailableError

KEY = bytes(range(32))


def test_the_same_user_has_one_name() -> None:
    """Key and identity decide the pseudonym, the type of the identity included."""
    users = ["alice", "bob", 1, "1", b"1", UUID(int=1)]

    names = [pseudonym(KEY, user) for user in users]

    assert names == [pseudonym(KEY, user) for user in users]
    assert len(set(names)) == len(users)
    assert {32} == set(map(len, names))
    assert pseudonym(KEY, pytest.importorskip("numpy").int64(1)) == names[2]
    assert pseudonym(bytes(32), "alice") != names[0]


def test_it_is_as_specified() -> None:
    """The specification's rule, computed with ``openssl dgst -mac HMAC``."""
    assert pseudonym(KEY, "alice") == "3b08e9e9cf871b99e3cebe0b93bfed1b"


@pytest.mark.parametrize("user", [1.5, True, ["alice"], {"id": "alice"}, object()])
def test_other_identities_are_refused(user: object) -> None:
    """What is no identity is refused, naming the path and not the value."""
    with pytest.raises(TypeError, match=r"'user.name' is of type") as caught:
        pseudonym(KEY, user, path="user.name")

    assert "alice" not in str(caught.value)


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """The first use makes the key, every later one reads it."""
    private = tmp_path / "deep" / "private"
    first = Pseudonyms(private).of("alice")

    assert first == Pseudonyms(private).of("alice")
    assert [path.name for path in private.iterdir()] == [KEY_FILE]
    assert len((private / KEY_FILE).read_bytes()) == 32


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A key with a wide mode, or of another size, is not used."""
    Pseudonyms(tmp_path).of("alice")
    path = tmp_path / KEY_FILE
    path.chmod(0o640)
    with pytest.raises(KeyUnavailableError, match="0640"):
        Pseudonyms(tmp_path).of("alice")
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(KeyUnavailableError, match="32 bytes"):
        Pseudonyms(tmp_path).of("alice")


def test_a_link_or_directory_is_refused(tmp_path: Path) -> None:
    """A key file that is a symbolic link or no file is not followed."""
    (tmp_path / "elsewhere").write_bytes(KEY)
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyUnavailableError):
        Pseudonyms(tmp_path).of("alice")
