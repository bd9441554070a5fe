"""Digests of single files."""

import hashlib
import os
import pickle
import socket
import tempfile
from pathlib import Path

import pytest

from secureml import hashing
from secureml.errors import DigestMismatchError, FormatError, StoreError
from secureml.hashing import files, hash_bytes, hash_file, open_regular

MIB = 1 << 20
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file types")


@pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
def test_the_digest_is_sha256_of_the_bytes(tmp_path: Path, size: int) -> None:
    """Whatever the size, it is SHA-256 of all bytes."""
    data = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "f"
    path.write_bytes(data[:size])

    assert hashlib.sha256(data[:size]).hexdigest() == hash_file(path).hex
    assert hash_bytes(data[:size]) == hash_file(str(path))


@pytest.mark.parametrize("size", [0, 10, MIB, 2 * MIB + 1])
def test_progress_is_told_every_byte(tmp_path: Path, size: int) -> None:
    """The amounts that progress is told add up to the size."""
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    told: list[int] = []
    hash_file(path, progress=told.append)

    assert size == sum(told)


@posix
def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    """A link is not the file that it points to, unless that is asked for."""
    (tmp_path / "f").write_bytes(b"x")
    link = tmp_path / "l"
    link.symlink_to("f")
    with pytest.raises(FormatError, match="a symbolic link"):
        hash_file(link)
    fd = open_regular(link, follow_symlinks=True)
    try:
        content = os.read(fd, 10)
    finally:
        os.close(fd)

    assert content == b"x"


@posix
def test_links_are_refused_without_the_systems_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `os.open` cannot refuse a link, it is looked at first."""
    (tmp_path / "l").symlink_to("f")
    monkeypatch.setattr(files, "_NOFOLLOW", 0)
    with pytest.raises(FormatError, match="a symbolic link"):
        hash_file(tmp_path / "l")


@posix
def test_a_read_that_fails_is_reported(tmp_path: Path) -> None:
    """An error of the disk is a StoreError that names the file."""
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(StoreError, match="'named' cannot be read"):
            files.hash_descriptor(fd, "named", lambda _: None)
    finally:
        os.close(fd)


@posix
def test_special_files_are_refused_without_waiting(tmp_path: Path) -> None:
    """A FIFO that nobody writes, a device and a directory are named for what they are."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(FormatError, match="a FIFO"):
        hash_file(fifo)
    with pytest.raises(FormatError, match="a character device"):
        hash_file("/dev/null")
    with pytest.raises(FormatError, match="a directory"):
        hash_file(tmp_path)


@posix
def test_sockets_are_refused() -> None:
    """A socket in the file system is named for what it is."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        socket.socket(socket.AF_UNIX) as server,
    ):
        server.bind(f"{short}/s")
        with pytest.raises(FormatError, match="a socket"):
            hash_file(f"{short}/s")


def test_a_missing_file_is_not_retryable(tmp_path: Path) -> None:
    """What is not there is reported by path."""
    with pytest.raises(StoreError, match="absent") as caught:
        hash_file(tmp_path / "absent")

    assert not caught.value.retryable
    assert str(caught.value) == str(pickle.loads(pickle.dumps(caught.value)))  # noqa: S301  ours


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    """Missing permission is a StoreError."""
    path = tmp_path / "f"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(StoreError, match="permission"):
        hash_file(path)


def test_a_file_that_grows_has_no_digest(tmp_path: Path) -> None:
    """Bytes appended while it is read are noticed."""
    path = tmp_path / "f"
    path.write_bytes(bytes(2 * MIB))

    def append(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(DigestMismatchError, match="changed while it was hashed"):
        hash_file(path, progress=append)


def test_a_file_that_shrinks_has_no_digest(tmp_path: Path) -> None:
    """Bytes cut off while it is read are noticed."""
    path = tmp_path / "f"
    path.write_bytes(bytes(3 * MIB))
    with pytest.raises(DigestMismatchError):
        hash_file(path, progress=lambda _: os.truncate(path, MIB))


@posix
def test_a_file_that_is_edited_in_place_has_no_digest(tmp_path: Path) -> None:
    """An edit of the same size changes the times."""
    path = tmp_path / "f"
    path.write_bytes(bytes(2 * MIB))
    os.utime(path, (1, 1))

    def edit(_: int) -> None:
        with path.open("r+b") as file:
            file.write(b"x")

    with pytest.raises(DigestMismatchError):
        hash_file(path, progress=edit)


@posix
def test_a_file_that_is_replaced_has_no_digest(tmp_path: Path) -> None:
    """A file renamed over it is noticed, although the old bytes can still be read."""
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_bytes(bytes(2 * MIB))

    def replace(_: int) -> None:
        other.write_bytes(bytes(2 * MIB))
        other.replace(path)

    with pytest.raises(DigestMismatchError):
        hash_file(path, progress=replace)


def test_a_small_file_that_grows_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that one read takes is watched as well."""
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    read = os.read

    def growing(fd: int, count: int) -> bytes:
        data = read(fd, count)
        with path.open("ab") as file:
            file.write(b"d")
        return data

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(DigestMismatchError):
        hash_file(path)


def test_short_reads_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may give fewer bytes than it was asked for."""
    path = tmp_path / "f"
    path.write_bytes(b"abcdef")
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: read(fd, min(count, 4)))

    assert hash_bytes(b"abcdef") == hash_file(path)


def test_a_file_that_ends_early_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer bytes than the file has are not its digest, even if its times say nothing."""
    path = tmp_path / "f"
    path.write_bytes(b"abcdef")
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: read(fd, count) and b"")
    with pytest.raises(DigestMismatchError):
        hash_file(path)


def test_hash_objects_are_hashlibs() -> None:
    """`new` gives hashlib's interface for the algorithms that evidence may name."""
    state = hashing.new("sha256", b"a")
    state.update(b"b")

    assert hashlib.sha256(b"ab").hexdigest() == state.hexdigest()
    for refused in ("md5", "sha1", "shake_128"):
        with pytest.raises(ValueError, match="is not one of"):
            hashing.new(refused)
