"""Manifests of directories."""

import hashlib
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from secureml.errors import DigestMismatchError, FormatError, StoreError
from secureml.hashing import manifest
from secureml.hashing.tree import _Hashing

MIB = 1 << 20
VECTORS = Path(__file__).parents[3] / "vectors" / "dirhash"
COREUTILS = (
    r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="GNU find and coreutils")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file types")


def names(path: Path, **options: object) -> list[str]:
    """Return the names in the manifest of *path*."""
    return [entry.name for entry in manifest(path, **options)]  # type: ignore[arg-type]


def make(root: Path, *files: str) -> None:
    """Write files whose content is their name."""
    for name in files:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name, encoding="utf-8")


def coreutils(root: Path) -> str:
    """Return what the line of the specification prints in *root*."""
    done = subprocess.run(["sh", "-c", COREUTILS], cwd=root, capture_output=True, check=True)
    return done.stdout.decode().split()[0]


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_golden_vectors(tmp_path: Path, path: Path) -> None:
    """Trees have the digests that are written down."""
    vector = json.loads(path.read_text("utf-8"))
    for name, content in vector["files"].items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode("utf-8"))

    assert vector["source"]
    assert vector["expect"] == manifest(tmp_path).digest.hex


@linux
def test_coreutils_agree(tmp_path: Path) -> None:
    """The shell line of the specification prints the same digest, for any legal name."""
    make(tmp_path, "a", "B", "a b", "-rf", "--", " lead", "trail ", "d/e/f", "d.x", "d-x", "d0")
    make(tmp_path, "\u00e9", "e\u0301", "\U0001f600/\ufb33", "tab\tx", "*?[", "'", '"', "$HOME")
    make(tmp_path, ".hidden", "..dots", "...", "\x01\x7f", "d/-n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "void").touch()
    (tmp_path / "big").write_bytes(bytes(MIB + 5))

    assert coreutils(tmp_path) == manifest(tmp_path).digest.hex


@linux
def test_coreutils_agree_on_nothing(tmp_path: Path) -> None:
    """A directory without files has the digest of nothing."""
    (tmp_path / "empty").mkdir()

    assert coreutils(tmp_path) == manifest(tmp_path).digest.hex
    assert hashlib.sha256().hexdigest() == manifest(tmp_path).digest.hex


def test_a_file_is_a_tree_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single file is named by the last part of its path."""
    make(tmp_path, "d/f.txt")
    monkeypatch.chdir(tmp_path / "d")

    assert names(tmp_path / "d" / "f.txt") == ["f.txt"]
    assert names(Path("f.txt")) == ["f.txt"]
    assert manifest(tmp_path / "d").digest == manifest("f.txt").digest


@pytest.mark.parametrize("workers", [1, 2, 7, None])
def test_workers_do_not_change_the_manifest(tmp_path: Path, workers: int | None) -> None:
    """Large files in threads and small ones in line give one result."""
    for index in range(6):
        (tmp_path / f"large{index}").write_bytes(bytes([index]) * (MIB + index))
        (tmp_path / f"small{index}").write_bytes(bytes([index]))

    found = manifest(tmp_path, workers=workers)

    assert sorted(path.name for path in tmp_path.iterdir()) == [entry.name for entry in found]
    for entry in found:
        assert hashlib.sha256((tmp_path / entry.name).read_bytes()).digest() == entry.sha256


def test_arguments_are_checked_before_work(tmp_path: Path) -> None:
    """A caller's bug is a ValueError or TypeError."""
    with pytest.raises(ValueError, match="follow-inside"):
        manifest(tmp_path, symlinks="follow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        manifest(tmp_path, workers=0)
    with pytest.raises(TypeError, match="collection"):
        manifest(tmp_path, exclude="model.sig")


def test_exact_paths_are_left_out(tmp_path: Path) -> None:
    """What is excluded is one path each, a directory with all that is in it."""
    make(tmp_path, "a", "b", "d/a", "d/b", "e/f/g", "e/h")

    assert names(tmp_path, exclude={"a", "d/b", "e/f", "absent"}) == ["b", "d/a", "e/h"]
    assert names(tmp_path, exclude=["d"]) == ["a", "b", "e/f/g", "e/h"]


@linux
@pytest.mark.parametrize("name", [b"new\nline", b"return\r", b"back\\slash", b"\xff\xfe"])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_names_that_a_manifest_cannot_hold_are_refused(
    tmp_path: Path, name: bytes, kind: str
) -> None:
    """A name with two readings gets a clear error, and the error can be printed."""
    place = os.fsencode(tmp_path) + b"/" + name
    if kind == "directory":
        os.mkdir(place)  # noqa: PTH102  bytes
    else:
        os.close(os.open(place, os.O_CREAT))
    with pytest.raises(FormatError, match="cannot be named in a manifest") as caught:
        manifest(tmp_path)

    str(caught.value).encode("utf-8")


@posix
def test_links_are_refused(tmp_path: Path) -> None:
    """A link to a file, to a directory or to nothing is refused, never skipped."""
    make(tmp_path, "t/f", "t/d/g")
    for target in ("f", "d", "absent", "/etc/hostname"):
        link = tmp_path / "t" / "link"
        link.symlink_to(target)
        with pytest.raises(FormatError, match="symbolic link"):
            manifest(tmp_path / "t")
        assert names(tmp_path / "t", exclude=["link"])
        link.unlink()
    (tmp_path / "root").symlink_to("t")
    with pytest.raises(FormatError, match="symbolic link"):
        manifest(tmp_path / "root")


@posix
def test_special_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO or a socket is refused without opening it."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FormatError, match="a FIFO"):
        manifest(tmp_path)
    with pytest.raises(FormatError, match="a FIFO"):
        manifest(tmp_path / "fifo")
    (tmp_path / "fifo").unlink()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(FormatError, match="a socket"):
            manifest(tmp_path)
    with pytest.raises(FormatError, match="a character device"):
        manifest("/dev/null")


@posix
def test_links_inside_are_followed_when_asked(tmp_path: Path) -> None:
    """The result is that of a copy in which every link is what it leads to."""
    root = tmp_path / "root"
    make(root, "blobs/1", "blobs/d/2", "x/y")
    (root / "name").symlink_to("blobs/1")
    (root / "x" / "chain").symlink_to("../name")
    (root / "x" / "linked").symlink_to("../blobs/d")
    (root / "x" / "absolute").symlink_to(root / "blobs" / "1")
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "current").symlink_to("root")
    followed = manifest(root, symlinks="follow-inside")

    assert "x/linked/2" in followed
    assert manifest(tmp_path / "copy") == followed
    assert followed == manifest(tmp_path / "current", symlinks="follow-inside")
    assert names(root / "name", symlinks="follow-inside") == ["name"]


@posix
@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("../outside", "out of the tree"),
        ("../root2/f", "out of the tree"),
        ("/etc/hostname", "out of the tree|leads nowhere"),
        ("absent", "leads nowhere"),
        ("link", "leads nowhere"),
        (".", "leads back"),
        ("..", "out of the tree"),
    ],
)
def test_links_that_leave_or_loop_are_refused(tmp_path: Path, target: str, match: str) -> None:
    """Following ends inside the tree, or not at all."""
    make(tmp_path, "outside", "root/f", "root2/f")
    (tmp_path / "root" / "link").symlink_to(target)
    with pytest.raises(FormatError, match=match):
        manifest(tmp_path / "root", symlinks="follow-inside")


@posix
def test_links_to_each_other_are_refused(tmp_path: Path) -> None:
    """Two directories that link into each other do not loop."""
    make(tmp_path, "a/f", "b/f")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    with pytest.raises(FormatError, match="leads back"):
        manifest(tmp_path, symlinks="follow-inside")


@posix
def test_links_to_special_files_are_refused(tmp_path: Path) -> None:
    """What a link leads to is judged like anything else."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with pytest.raises(FormatError, match="a FIFO"):
        manifest(tmp_path, symlinks="follow-inside", exclude=["fifo"])


def test_a_directory_that_may_not_be_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory is never taken for an empty one."""

    def scandir(place: str) -> None:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(StoreError, match="cannot be read"):
        manifest(tmp_path)


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    """What is not there is a StoreError that names it."""
    for symlinks in ("refuse", "follow-inside"):
        with pytest.raises(StoreError, match="absent"):
            manifest(tmp_path / "absent", symlinks=symlinks)  # type: ignore[arg-type]


@posix
def test_deep_trees_are_walked(tmp_path: Path) -> None:
    """The depth is bounded by the file system, not by Python's stack."""
    depth = 150
    make(tmp_path, "d/" * depth + "f")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + depth - 20)
    try:
        found = names(tmp_path)
    finally:
        sys.setrecursionlimit(limit)

    assert ["d/" * depth + "f"] == found


def test_a_change_in_a_thread_is_raised(tmp_path: Path) -> None:
    """A file that changes while a worker hashes it fails the whole manifest."""
    path = tmp_path / "f"
    path.write_bytes(bytes(2 * MIB))

    def append(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with _Hashing(2, append) as hashing:
        hashing.add("f", str(path))
        with pytest.raises(DigestMismatchError):
            hashing.entries()


def test_file_contents_are_bound_to_names(tmp_path: Path) -> None:
    """Swapping two files by name changes the digest."""
    make(tmp_path, "a", "b")
    before = manifest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    after = manifest(tmp_path)

    assert [entry.name for entry in before] == [entry.name for entry in after]
    assert before.digest != after.digest
    with pytest.raises(DigestMismatchError, match="a"):
        before.verify(after)
