"""Facts about `secureml.wire.manifest`."""

import hashlib
import pickle
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from secureml.errors import DigestMismatchError, FormatError, UnexpectedFileError
from secureml.wire.digest import Digest
from secureml.wire.manifest import Entry, Manifest, ManifestDiff, check_name

A, B = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()
COMMAND = r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- | sha256sum"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs GNU coreutils")
@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a"],
        [
            "b",
            "a/b",
            "a.b",
            "a-b/c",
            "Z",
            "\u00e9",
            "\U0001f602",
            "\uff5e",
            " x ",
            "-n",
            "a\tb",
            "*x",
        ],
    ],
    ids=["empty", "one", "many"],
)
def test_agrees_with_coreutils(tmp_path: Path, names: list[str]) -> None:
    """The digest is what the documented line of coreutils prints."""
    for name in names:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    printed = subprocess.run(
        ["bash", "-c", COMMAND], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout

    manifest = Manifest.of((name, hashlib.sha256(name.encode()).digest()) for name in names)

    assert printed.split()[0] == manifest.digest.hex
    assert manifest.digest.algorithm == "dirHash"


def test_lines() -> None:
    """A line is the hex digest, two spaces, the name; the lines are read back."""
    manifest = Manifest.of([("b", B), Entry("a/c", A)])

    assert f"{A.hex()}  a/c\n{B.hex()}  b\n".encode() == manifest.encode()
    assert manifest == Manifest.decode(manifest.encode())
    assert Manifest(()) == Manifest.decode(b"")


def test_order_is_that_of_utf8_bytes() -> None:
    """Names sort by UTF-8 bytes, which is the order of code points, not of path parts."""
    names = ["\U0001f602", "\uffee", "a/x", "a-b/x", "B"]

    assert [entry.name for entry in Manifest.of((name, A) for name in names)] == [
        "B",
        "a-b/x",
        "a/x",
        "\uffee",
        "\U0001f602",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "./a",
        "a/.",
        "a/./b",
        "../a",
        "a/..",
        "a/../b",
        "a\\b",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\ud800",
        "\n",
    ],
    ids=count(),
)
def test_bad_names_are_refused(name: str) -> None:
    """A name that is not a plain relative path cannot stand in a manifest."""
    with pytest.raises(ValueError, match="file name"):
        check_name(name)
    with pytest.raises(ValueError, match="file name"):
        Manifest.of([(name, A)])
    with pytest.raises(FormatError):
        Manifest.decode(f"{A.hex()}  ".encode() + name.encode("utf-8", "surrogatepass") + b"\n")


@pytest.mark.parametrize(
    "name", ["a", ".a", "..a", "a..", "...", "a.b/c", "a b", "\u00e9", "a:b", "*", "a\tb"]
)
def test_good_names_are_accepted(name: str) -> None:
    """Everything else is a name."""
    check_name(name)

    assert (name, A) == Manifest.of([(name, A)]).entries[0]


@pytest.mark.parametrize(
    "entries",
    [
        [("a", A), ("a", B)],
        [("a", A), ("a/b", B)],
        [("a", A), ("a-b", A), ("a/b/c", B)],
        [("a", b"short")],
    ],
)
def test_contradictions_are_refused(entries: list[tuple[str, bytes]]) -> None:
    """A name twice, a file that is also a directory, or a digest of another length."""
    with pytest.raises(ValueError, match="'a'"):
        Manifest.of(entries)


def test_the_constructor_takes_sorted_entries_only() -> None:
    """Entries out of order have no manifest."""
    with pytest.raises(ValueError, match="not in its place"):
        Manifest((Entry("b", A), Entry("a", A)))


LINE = f"{A.hex()}  a\n"


@pytest.mark.parametrize(
    "text",
    [
        LINE[:-1],
        LINE + "\n",
        LINE + LINE,
        f"{B.hex()}  b\n" + LINE,
        LINE.upper(),
        LINE.replace("  ", " "),
        LINE.replace("  ", " *"),
        LINE.replace("\n", "\r\n"),
        "\\" + LINE,
        LINE[1:],
        "x" + LINE,
        f"{A.hex()}  \n",
        LINE + f"{B.hex()}  a/b\n",
    ],
)
def test_other_lines_are_refused(text: str) -> None:
    """Every other spelling of a manifest is refused."""
    with pytest.raises(FormatError):
        Manifest.decode(text.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    """A name must be UTF-8."""
    with pytest.raises(FormatError):
        Manifest.decode(f"{A.hex()}  ".encode() + b"\xff\n")


def test_diff_and_verify_name_the_files() -> None:
    """What was added, removed and changed is named."""
    old = Manifest.of([("same", A), ("changed", A), ("gone", A)])
    new = Manifest.of([("same", A), ("changed", B), ("new", A)])

    assert ManifestDiff(added=("new",), removed=("gone",), changed=("changed",)) == old.diff(new)
    assert old.diff(new)
    assert not old.diff(old)
    old.verify(Manifest.of(old.entries))
    with pytest.raises(DigestMismatchError, match="'changed'"):
        old.verify(new)
    with pytest.raises(UnexpectedFileError, match="'new'"):
        old.verify(Manifest.of([*old, Entry("new", A)]))
    with pytest.raises(UnexpectedFileError, match="'gone'"):
        old.verify(Manifest.of([e for e in old if e.name != "gone"]))


def test_many_names_are_listed_short() -> None:
    """An error lists five names and counts the others."""
    old = Manifest.of((f"f{i}", A) for i in range(9))

    with pytest.raises(UnexpectedFileError, match="and 4 more is missing"):
        old.verify(Manifest(()))


def test_swapped_names_change_the_digest() -> None:
    """Names are bound to contents."""
    assert Manifest.of([("x", A), ("y", B)]).digest != Manifest.of([("x", B), ("y", A)]).digest


def test_a_manifest_is_a_collection_and_a_value() -> None:
    """It has a length, iterates, looks up by name, compares, hashes and pickles."""
    manifest = Manifest.of([("a", A), ("b", B)])

    assert len(manifest) == 2
    assert [Entry("a", A), Entry("b", B)] == list(manifest)
    assert Entry("b", B) == manifest.get("b")
    assert manifest.get("c") is None
    assert "a" in manifest
    assert "c" not in manifest
    assert Digest("sha256", A) == manifest.entries[0].digest
    assert {manifest} == {pickle.loads(pickle.dumps(manifest))}  # noqa: S301  our own bytes
    assert "files=2" in repr(manifest)


def test_html_is_escaped_and_bounded() -> None:
    """A notebook shows the first files, and no markup of a file name."""
    page = Manifest.of((f"<b>{i:03}", A) for i in range(30))._repr_html_()

    assert "<b>" not in page
    assert "&lt;b&gt;019" in page
    assert "&lt;b&gt;020" not in page
    assert "and 10 more" in page
    assert "more" not in Manifest(())._repr_html_()
