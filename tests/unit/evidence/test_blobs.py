"""Blobs: named by what is in them, on the disk before anybody names them."""

import errno
import os
from pathlib import Path

import pytest

from secureml.errors import DigestMismatchError, StoreError, UnexpectedFileError
from secureml.evidence import blobs as module
from secureml.evidence._files import Files
from secureml.evidence.blobs import BlobStore
from secureml.wire.digest import Digest


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """A store that has no directory yet."""
    return BlobStore(tmp_path / "blobs")


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 3_000_000])
def test_what_is_put_is_got(tmp_path: Path, blobs: BlobStore, data: bytes) -> None:
    """A blob lies under its SHA-256, and putting it again changes nothing."""
    digest = blobs.put(data)
    path = tmp_path / "blobs/sha256" / digest.hex[:2] / digest.hex[2:]
    before = path.stat()

    assert Digest.sha256(data) == digest == blobs.put(data)
    assert data == blobs.get(digest) == path.read_bytes()
    assert before == path.stat() or before.st_mtime_ns == path.stat().st_mtime_ns
    assert blobs.has(digest)
    assert [digest] == blobs.names()


def test_missing(blobs: BlobStore) -> None:
    """A blob that is not there is named."""
    digest = Digest.sha256(b"x")

    assert not blobs.has(digest)
    assert blobs.names() == []
    with pytest.raises(UnexpectedFileError, match="is gone"):
        blobs.get(digest)


def test_changed(tmp_path: Path, blobs: BlobStore) -> None:
    """A blob that was changed is neither handed out nor taken for stored."""
    digest = blobs.put(b"abc")
    path = tmp_path / "blobs/sha256" / digest.hex[:2] / digest.hex[2:]
    path.write_bytes(b"abd")

    with pytest.raises(DigestMismatchError, match="other bytes"):
        blobs.get(digest)
    with pytest.raises(DigestMismatchError, match="other bytes"):
        blobs.put(b"abc")


def test_a_link_is_not_followed(tmp_path: Path, blobs: BlobStore) -> None:
    """A blob is a file, not a link to one."""
    digest = blobs.put(b"abc")
    path = tmp_path / "blobs/sha256" / digest.hex[:2] / digest.hex[2:]
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnexpectedFileError, match="not a regular file"):
        blobs.get(digest)
    with pytest.raises(UnexpectedFileError, match="not a blob"):
        blobs.names()


def test_names_are_in_order(blobs: BlobStore) -> None:
    """Blobs are listed by name."""
    put = [blobs.put(b"%d" % n) for n in range(40)]

    assert sorted(put) == blobs.names()


@pytest.mark.parametrize(
    "name", ["x", "ab/short", "AB/" + "c" * 62, "ab/" + "C" * 62, "a/" + "c" * 63, "ab/c/d"]
)
def test_strangers_are_refused(tmp_path: Path, blobs: BlobStore, name: str) -> None:
    """What has another name is no blob."""
    path = tmp_path / "blobs/sha256" / name
    path.parent.mkdir(parents=True)
    path.touch()

    with pytest.raises(UnexpectedFileError, match="not a blob"):
        blobs.names()


def test_only_sha256(blobs: BlobStore) -> None:
    """A blob has one name."""
    with pytest.raises(ValueError, match="named by its sha256"):
        blobs.get(Digest("dirHash", bytes(32)))


def test_too_large(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large is refused before any work."""
    monkeypatch.setattr(module, "MAX_BLOB", 10)

    with pytest.raises(ValueError, match="at most 10 bytes"):
        blobs.put(b"x" * 11)


def test_a_full_disk_leaves_no_blob(tmp_path: Path) -> None:
    """A blob is whole or absent."""

    class Full(Files):
        def write(self, fd: int, data: bytes | memoryview) -> int:
            if len(data) < 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(fd, data[:5])

    blobs = BlobStore(tmp_path / "blobs", files=Full())

    with pytest.raises(StoreError, match="could not store") as caught:
        blobs.put(b"0123456789abc")
    assert caught.value.retryable
    assert blobs.names() == []
    assert not blobs.has(Digest.sha256(b"0123456789abc"))


def test_a_name_is_synced_again(tmp_path: Path) -> None:
    """A blob whose writer died before syncing its name is made durable by the next one."""

    class Watching(Files):
        synced = 0
        fail = False

        def sync_directory(self, path: Path) -> None:
            if self.fail:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync_directory(path)
            self.synced += 1

    files = Watching()
    blobs = BlobStore(tmp_path / "blobs", files=files)
    blobs.put(b"x")
    before = files.synced
    blobs.put(b"x")
    assert files.synced - before == 1
    files.fail = True
    with pytest.raises(StoreError, match="could not sync"):
        blobs.put(b"x")
