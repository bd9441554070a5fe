"""The single file as an auditor runs it: verdicts, places, exit codes, and no traceback."""

import ast
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.evidence.log import Log
from secureml.evidence.standalone import NAME, source, verify_log
from secureml.wire import tiles
from secureml.wire.base64 import b64encode
from secureml.wire.note import ED25519, Note, NoteSignature, VKey, key_id
from secureml.wire.tlogproof import TlogProof

ORIGIN = "log.example/auditor"
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(verify_log, "WAIT", 0.0)


def numbered(count: int) -> list[bytes]:
    """Return so many entries."""
    return [b"entry %d" % n for n in range(count)]


def test_it_is_one_file_that_needs_nothing_else() -> None:
    """It imports the standard library only, and its source is what is given away."""
    tree = ast.parse(source())
    names = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert names <= {*sys.stdlib_module_names}
    assert "secureml" not in names
    assert Path(verify_log.__file__).read_text("utf-8") == source()
    assert NAME == "verify_log.py"


def oldest() -> str | None:
    """Return an interpreter of Python 3.9, if one is here."""
    found = [shutil.which("python3.9"), *Path.home().glob(".pyenv/versions/3.9*/bin/python")]
    for python in map(str, filter(None, found)):
        if not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            return python
    return None


@pytest.mark.parametrize("python", [sys.executable, oldest()], ids=["this", "oldest"])
def test_it_runs_alone(make: Make, tmp_path: Path, python: str | None) -> None:
    """Copied elsewhere it verifies in a fresh interpreter, also one of Python 3.9."""
    if python is None:
        pytest.skip("there is no Python 3.9 here")
    made = make(numbered(300), cuts=(5,))
    program = tmp_path / "elsewhere.py"
    program.write_text(source(), encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [python, "-I", "-S", "-W", "error", str(program), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    good, text = run(str(made.path), "--key", made.vkey, "--remembered", made.remember(1))
    path = made.path / "tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b"entry 77", b"entry 78"))
    bad, report = run(str(made.path), "--key", made.vkey, "--json")

    assert good == 0
    assert "verdict: ok" in text
    assert "rollback: checked" in text
    assert "undetected: entries 5 to 299" in text
    assert bad == 1
    assert json.loads(report) == {
        "verdict": "refused",
        "error": "entry 77, in 'tile/entries/000', was changed",
        "entry": 77,
        "file": "tile/entries/000",
    }


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000])
def test_good_logs(make: Make, size: int) -> None:
    """Logs of all shapes hold, and against each of their checkpoints."""
    made = make(numbered(size), cuts=(1, 5, 100, 256))
    alone = made.verify()

    assert (alone["verdict"], alone["size"], alone["records"]) == ("ok", size, "no audit log")
    assert (alone["rollback"], alone["undetected"]) == ("not checkable", "whole log")
    for which in range(len(made.notes)):
        assert made.verify("--remembered", made.remember(which))["rollback"] == "checked"


def test_exit_codes(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 holds, 1 refused, 2 wrong usage, 3 could not tell."""
    made = make(numbered(3))
    log, key = str(made.path), made.vkey
    kept = made.remember()
    (tmp_path / "key.txt").write_text(key + "\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "long").write_bytes(bytes(1_000_001))
    stranger = VKey(ORIGIN, ED25519, keys.generate("ed25519").verifier.raw).encode()

    def code(*arguments: str) -> int:
        return verify_log.main(list(arguments))

    assert code(log, "--key", key) == 0
    assert code(log, "--key", str(tmp_path / "key.txt"), "--remembered", kept) == 0
    assert code(log, "--key", stranger, "--key", key) == 0
    assert code(log, "--key", stranger) == 1
    assert code(log, "--key", stranger, "--json") == 1
    assert code(log) == 2
    assert code("--key", key) == 2
    assert code(log, "--key", key, "--proof", kept) == 2
    assert code("--key", key, "--proof", kept) == 2
    assert code("--key", key, "--proof", kept, "--entry", kept) == 1
    assert code(log, "--key", key[:-4] + "AAA=") == 2
    assert code(log, "--key", str(tmp_path / "nowhere")) == 2
    assert code(log, "--key", str(tmp_path / "long")) == 2
    assert code(log, "--key", "a\0b") == 2
    assert code(log, "--key", key, "--remembered", str(tmp_path / "long")) == 2
    assert code(log, "--key", key, "--profile", "iso") == 2
    assert code(str(tmp_path / "empty"), "--key", key) == 3
    assert code(str(tmp_path / "nowhere"), "--key", key) == 3
    assert code(log + "\0", "--key", key) == 3
    with pytest.raises(SystemExit) as wrong:
        code("--what")
    assert wrong.value.code == 2
    with pytest.raises(SystemExit) as helped:
        code("--help")
    assert helped.value.code == 0
    assert "Traceback" not in "".join(capsys.readouterr())


def test_what_is_printed_is_ascii_and_stays_on_its_line(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a log says about itself cannot move the cursor of who reads the report."""
    made = make([b"secureml-audit/1 \xe2\x80\xae\n"])
    (made.path / "\u202e\x1b[2J\nverdict: ok").write_bytes(b"")

    verify_log.main([str(made.path), "--key", made.vkey])

    lines = capsys.readouterr().out.splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert [line for line in lines if line.strip().startswith("verdict: ok")] == []


# --- The directory


def test_a_file_too_many(make: Make) -> None:
    """What does not belong to the log is refused, by its name."""
    for name in (
        "extra",
        "tile/entries/001",
        "tile/entries/000.p/6",
        "tile/entries/000.p/05",
        "tile/entries/000",
        "tile/entries/x001/000",
        "tile/1/000.p/1",
        "tile/64/000",
        "tile/0/000.p/256",
        "tile/0/x000/000.p/5",
        "tile/0/.writing-000.p",
        "tile/0/x001/x001/x001/x001/x001/x001/x001/x001/000",
    ):
        made = make(numbered(5), name="log" + name.replace("/", "-"))
        path = made.path / name
        if path.parent.is_file():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        report = made.verify()
        assert report["verdict"] == "refused", name
        assert report["file"].startswith(name[:9]), name


@pytest.mark.parametrize(
    "name",
    ["checkpoint", "tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/1/000.p/1"],
)
def test_a_file_too_few(make: Make, name: str) -> None:
    """A file that is missing is named."""
    made = make(numbered(300))
    (made.path / name).unlink()
    for parent in (made.path / name).parents:
        if not list(parent.iterdir()):
            parent.rmdir()
    report = made.verify()

    assert (report["verdict"], report["file"]) == ("refused", name)


def test_an_empty_directory(make: Make) -> None:
    """No directory of a log is empty."""
    made = make(numbered(5))
    (made.path / "tile/2").mkdir()

    assert made.verify()["file"] == "tile/2/"


@pytest.mark.parametrize("name", ["checkpoint", "tile/entries/000.p/5", "tile/0/000.p/5", "new"])
@pytest.mark.parametrize("kind", ["link", "pipe", "socket", "folder"])
def test_no_regular_file(make: Make, tmp_path: Path, name: str, kind: str) -> None:
    """A link, a pipe, a socket or a directory where a file belongs is refused, at once."""
    made = make(numbered(5))
    path = made.path / name
    if path.exists():
        path.rename(tmp_path / "moved")
    (tmp_path / "moved").touch()
    if kind == "link":
        path.symlink_to(tmp_path / "moved")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "inside").touch()
    else:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            with socket.socket(socket.AF_UNIX) as made_socket:
                made_socket.bind(path.name)
        finally:
            os.chdir(here)
    report = made.verify()

    assert report["verdict"] == "refused"
    assert report["file"].startswith(name)


def test_a_directory_that_is_a_link(make: Make, tmp_path: Path) -> None:
    """No directory inside of a log is a link, whatever it leads to."""
    made = make(numbered(5))
    (made.path / "tile").rename(tmp_path / "tile")
    (made.path / "tile").symlink_to(tmp_path / "tile")

    assert made.verify()["error"] == "'tile' is not a regular file"


@pytest.mark.parametrize("name", ["checkpoint", "tile/entries/000.p/5", "tile/0/000.p/5"])
@pytest.mark.parametrize("more", [b"\0", bytes(2_000_000)], ids=["a byte", "many"])
def test_a_file_too_long(make: Make, name: str, more: bytes) -> None:
    """A file is exactly as long as what is in it, and more is not even read."""
    made = make(numbered(5))
    with (made.path / name).open("ab") as file:
        file.write(more)
    report = made.verify()

    assert (report["verdict"], report["file"]) == ("refused", name)


def test_what_the_system_refuses_is_told_apart(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file or directory that cannot be read is neither good nor bad."""
    made = make(numbered(5))

    def refuse(*_: object) -> int:
        raise PermissionError(13, "no")

    with monkeypatch.context() as patch:
        patch.setattr(verify_log.os, "open", refuse)
        assert made.verify()["verdict"] == "unknown"
    with monkeypatch.context() as patch:
        patch.setattr(verify_log.os, "scandir", refuse)
        assert made.verify()["verdict"] == "unknown"
    with monkeypatch.context() as patch:
        patch.setattr(verify_log.Directory, "read", lambda *_: 1 / 0)
        assert made.verify()["error"] == "ZeroDivisionError: division by zero"


def test_a_disk_that_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while a file is read is no verdict."""
    made = make(numbered(5))

    class Broken(io.FileIO):
        """A file on a bad disk."""

        def read(self, _: int | None = None) -> bytes:
            """Fail."""
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(
        verify_log, "open", lambda fd, _, closefd: Broken(fd, closefd=closefd), raising=False
    )

    assert made.verify()["error"] == "'checkpoint' cannot be read: Input/output error"


def test_tiles_left_over(make: Make) -> None:
    """A partial tile that a fuller one replaced may stay, if it is how that begins."""
    made = make(numbered(300))
    for name, data in (
        ("tile/entries/000.p/9", b"".join(b"\0\7entry %d" % n for n in range(9))),
        ("tile/entries/001.p/2", b"".join(b"\0\x09entry %d" % n for n in (256, 257))),
        ("tile/0/000.p/9", (made.path / "tile/0/000").read_bytes()[:288]),
    ):
        path = made.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        assert made.verify()["verdict"] == "ok", name
        for wrong in (data[:-1], data + b"x", data[:-1] + b"x"):
            path.write_bytes(wrong)
            assert (
                made.verify()["error"] == f"{name!r} was changed: the fuller one begins otherwise"
            )
        path.write_bytes(data)


def test_too_many_tiles_left_over(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than any writer leaves are not kept in memory."""
    made = make(numbered(300))
    monkeypatch.setattr(verify_log, "LEFT", 1)
    for width in (1, 2):
        for kind in ("0", "entries"):
            path = made.path / f"tile/{kind}/000.p/{width}"
            path.parent.mkdir(exist_ok=True)
            path.touch()

    assert made.verify()["verdict"] == "unknown"


def test_a_writer_at_work(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a writer is in the middle of is looked at again, and tiles it removed are let go."""
    made = make(numbered(300))
    odd = made.path / "tile/0/.writing-000"
    odd.touch()
    stale = made.path / "tile/0/000.p/9"
    stale.parent.mkdir()
    stale.write_bytes(b"anything")
    walk = verify_log.Directory._walk

    def slowly(log: verify_log.Directory, here: str, size: int) -> None:
        try:
            walk(log, here, size)
        finally:
            odd.unlink(missing_ok=True)
        if not here and stale.exists():
            stale.unlink()

    monkeypatch.setattr(verify_log.Directory, "_walk", slowly)

    assert made.verify()["verdict"] == "ok"


def test_a_directory_that_goes_away(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that vanishes while it is listed is looked for again, then refused."""
    made = make(numbered(5))
    scan = os.scandir

    def vanish(path: str) -> Any:  # noqa: ANN401
        if path.endswith("tile/"):
            raise FileNotFoundError(2, "gone")
        return scan(path)

    monkeypatch.setattr(verify_log.os, "scandir", vanish)

    assert made.verify()["error"] == "'tile/' went away"


# --- Entries and tiles


def test_what_was_changed_is_named(make: Make) -> None:
    """The entry, the tile, or the range of entries: the first thing that changed."""
    made = make(numbered(70_000))
    bundle, tile, upper = (
        made.path / name for name in ("tile/entries/003", "tile/0/003", "tile/1/000")
    )
    good = {path: path.read_bytes() for path in (bundle, tile, upper)}

    def verdict(**changed: bytes) -> tuple[str, int | None]:
        for name, data in changed.items():
            {"bundle": bundle, "tile": tile, "upper": upper}[name].write_bytes(data)
        report = made.verify()
        for path, data in good.items():
            path.write_bytes(data)
        return report["error"], report.get("entry")

    edited = good[bundle].replace(b"entry 770", b"entry 77O")
    hashes = bytearray(good[tile])
    hashes[32 * 2 : 32 * 3] = verify_log.sha256(b"\0entry 77O").digest()
    other = good[upper][:96] + bytes(32) + good[upper][128:]

    assert verdict(bundle=edited) == ("entry 770, in 'tile/entries/003', was changed", 770)
    assert verdict(tile=bytes(hashes)) == ("'tile/0/003' was changed, at hash 2", None)
    assert verdict(upper=other) == ("'tile/1/000' was changed, at hash 3", None)
    assert verdict(bundle=edited, tile=bytes(hashes)) == (
        "one of the entries 768 to 1023, in 'tile/entries/003', was changed",
        768,
    )
    assert verdict(bundle=edited, tile=bytes(32) + good[tile][32:]) == (
        "entry 768, in 'tile/entries/003', was changed, and so was more",
        768,
    )
    assert verdict(bundle=good[bundle][:-1]) == (
        "'tile/entries/003' was changed: it is no bundle of 256 entries",
        1023,
    )
    assert verdict(bundle=good[bundle] + b"\0") == (
        "'tile/entries/003' was changed: it is no bundle of 256 entries",
        None,
    )
    assert verdict(bundle=b"") == (
        "'tile/entries/003' was changed: it is no bundle of 256 entries",
        768,
    )


def test_the_first_of_several_tiles_is_named(make: Make) -> None:
    """When more than one tile was changed, the report names the first."""
    made = make(numbered(600))
    for name in ("tile/0/001", "tile/0/000"):
        (made.path / name).write_bytes(bytes(256 * 32))

    assert made.verify()["error"] == "'tile/0/000' was changed, at hash 0"


def test_paths_are_those_of_the_library() -> None:
    """A tile has one path, also with numbers of more than three digits, and no file another."""
    for number in (0, 999, 1_000, 1_067, 273_042, 1_234_067, 1 << 40):
        for width in (1, 255, 256):
            assert verify_log.place("entries", number, width) == tiles.entries_path(number, width)
            assert verify_log.place("7", number, width) == tiles.tile_path(7, number, width)
            size = number * 256 + width
            for name in (tiles.entries_path(number, width), tiles.tile_path(0, number, width)):
                assert verify_log.Directory("")._covered(name, size)
                assert not verify_log.Directory("")._covered(name, size - 1)


def test_a_level_that_is_full(make: Make) -> None:
    """A log of 256 times 256 entries has no partial tile below the third level."""
    made = make(numbered(65_536))

    assert made.verify("--remembered", made.remember())["verdict"] == "ok"


def test_another_log_under_the_checkpoint(make: Make) -> None:
    """Entries and tiles that agree with each other are compared with what was signed."""
    one, two = make(numbered(5)), make(numbered(6)[1:], name="two")
    shutil.copy(one.path / "checkpoint", two.path / "checkpoint")
    report = two.verify()

    assert report["error"] == "entries and tiles agree, and are not those of the signed checkpoint"
    assert report["file"] == "checkpoint"


def test_a_tile_that_several_trees_share(make: Make) -> None:
    """CVE-2026-56865: a flipped byte in a tile that sub-trees share is no less a flipped byte."""
    made = make(numbered(1_000))
    assert made.verify()["verdict"] == "ok"
    path = made.path / "tile/0/003.p/232"
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert made.verify()["error"] == f"'tile/0/003.p/232' was changed, at hash {at // 32}"


# --- Checkpoints


def test_rollback_and_forks(make: Make, tmp_path: Path) -> None:
    """Who holds a checkpoint finds a log that was cut or tells another story."""
    made = make(numbered(9), cuts=(4, 6))
    short = make(numbered(5), name="short")
    other = make([b"other", *numbered(9)[1:]], name="other")
    stranger = keys.generate("ed25519", purposes=frozenset({"log"}))
    foreign = make(numbered(9), name="foreign", signer=stranger)

    assert short.verify("--remembered", made.remember(3))["error"] == (
        "it was cut or rolled back: it once had 9 entries"
    )
    assert other.verify("--remembered", made.remember(1))["error"] == (
        "it was forked or written anew: its first 4 entries are others"
    )
    assert short.verify()["verdict"] == other.verify()["verdict"] == "ok"
    assert made.verify("--remembered", foreign.remember(1))["verdict"] == "refused"
    elsewhere = Note.decode(made.notes[1]).text.replace(ORIGIN, "log.example/elsewhere")
    (tmp_path / "elsewhere").write_text(signed(elsewhere, stranger), encoding="utf-8")
    vkey = VKey("log.example/elsewhere", ED25519, stranger.verifier.raw).encode()
    report = made.verify("--key", vkey, "--remembered", str(tmp_path / "elsewhere"))
    assert report["error"].startswith("the remembered checkpoint is of 'log.example/elsewhere'")


def signed(text: str, signer: keys.Signer, *lines: str) -> str:
    """Return a note by the log that its first line names, with more signature lines below."""
    name = text.partition("\n")[0]
    identity = key_id(name, ED25519, signer.verifier.raw)
    signature = NoteSignature(name, identity, signer.sign(text.encode(), purpose="log"))
    return Note(text, (signature,)).encode() + "".join(line + "\n" for line in lines)


SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
KEY = verify_log.Key(VKey(ORIGIN, ED25519, SIGNER.verifier.raw).encode())
TEXT = f"{ORIGIN}\n7\n{b64encode(bytes(range(32)))}\n"
WITNESS = keys.generate("ed25519", purposes=frozenset({"log"}))
WKEY = verify_log.Key(VKey("witness.example/w", 4, WITNESS.verifier.raw).encode())


def refusal(note: str | bytes, *, strict: bool = False) -> str:
    """Return why a note is refused, or nothing."""
    data = note.encode("utf-8", "surrogatepass") if isinstance(note, str) else note
    try:
        verify_log.Head(data, [KEY, WKEY], strict=strict)
    except verify_log.Refused as error:
        return str(error)
    return ""


def test_checkpoints() -> None:
    """Each rule of signed notes and checkpoints, broken once."""
    good = signed(TEXT, SIGNER)
    (line,) = good.split("\n")[4:-1]

    assert refusal(good) == refusal(good, strict=True) == ""
    assert refusal(good.encode()[:-1] + b"\xff") == "the checkpoint is not UTF-8"
    no_note = "the checkpoint is no note with 1 to 100 signatures under it"
    assert refusal("") == refusal("a\n") == refusal(TEXT + "\n") == refusal(good[:-1]) == no_note
    assert refusal(good + 100 * (line + "\n")) == no_note
    assert refusal("a" * 1_000_000 + good) == no_note
    assert refusal(signed(TEXT + "x\n", SIGNER).replace("x", "\x1b")) == (
        "the checkpoint has control characters"
    )
    lines = "the checkpoint has not three lines: origin, size and root"
    assert refusal(signed(f"{ORIGIN}\n7\n", SIGNER)) == lines
    assert refusal(signed(f"{ORIGIN}\n\n{TEXT}", SIGNER)) == lines
    for size in ("07", "-7", "+7", "7 ", "\u0667", str(1 << 63), "9" * 30):
        assert "is not a decimal number" in refusal(signed(TEXT.replace("7", size, 1), SIGNER))
    assert "32 bytes" in refusal(signed(f"{ORIGIN}\n7\n{b64encode(bytes(31))}\n", SIGNER))
    assert "base 64" in refusal(signed(f"{ORIGIN}\n7\nAAA\n", SIGNER))
    assert "base 64" in refusal(signed(f"{ORIGIN}\n7\n\u00e9\n", SIGNER))
    for bad in ("x", "\u2014 a", "- a YWJjZGVm", "\u2014 a YWJjZGVm x", "\u2014 a+b YWJjZGVm"):
        assert "signature" in refusal(signed(TEXT, SIGNER, bad)), bad
    for bad in ("\u2014  YWJjZGVm", "\u2014 a YWJj", "\u2014 a\u2003b YWJjZGVm", line):
        assert "signature" in refusal(signed(TEXT, SIGNER, bad)), bad
    assert "base 64" in refusal(signed(TEXT, SIGNER, "\u2014 a YWJjZGVm="))
    assert "is bad" in refusal(signed(TEXT, SIGNER).replace("\n7\n", "\n8\n"))
    assert "signed by no key" in refusal(signed(TEXT.replace("auditor", "x"), SIGNER))


def test_signatures_by_others() -> None:
    """Others may sign a checkpoint that is kept elsewhere; in the log's directory nobody may."""
    other = "\u2014 other.example YWJjZGVm"
    assert refusal(signed(TEXT, SIGNER, other)) == ""
    assert "more under it" in refusal(signed(TEXT, SIGNER, other), strict=True)
    mldsa = f"\u2014 {ORIGIN} {b64encode(bytes(4 + 8 + 2420))}"
    head = verify_log.Head(signed(TEXT, SIGNER, mldsa, other).encode(), [KEY])
    assert head.unchecked == [f"{ORIGIN} (ML-DSA-44)", "other.example (unknown key)"]


def test_a_second_signature_of_the_log_that_is_not_checked() -> None:
    """An ML-DSA signature by the log may stand beside the other one; it is named, not believed."""
    mldsa = [f"\u2014 {ORIGIN} {b64encode(bytes([n]) * (4 + 8 + 2420))}" for n in range(2)]

    assert refusal(signed(TEXT, SIGNER, mldsa[0]), strict=True) == ""
    assert "more under it" in refusal(signed(TEXT, SIGNER, *mldsa), strict=True)
    assert "signed by no key" in refusal(signed(TEXT, WITNESS, mldsa[0]), strict=True)


def cosigned(at: int, text: str = TEXT) -> str:
    """Return the line of a witness that saw *text*."""
    message = f"cosignature/v1\ntime {at}\n{text}".encode()
    data = WKEY.id + at.to_bytes(8, "big") + WITNESS.sign(message, purpose="log")
    return f"\u2014 witness.example/w {b64encode(data)}"


def test_witnesses() -> None:
    """A cosignature by a witness whose key was given says when the checkpoint was seen."""
    at = 1_795_336_200
    head = verify_log.Head(signed(TEXT, SIGNER, cosigned(at)).encode(), [KEY, WKEY])

    assert head.report()["witnessed"] == "2026-11-22T08:30:00Z by witness.example/w"
    assert "is bad" in refusal(signed(TEXT, SIGNER, cosigned(at, TEXT + "x\n")))
    assert "is bad" in refusal(signed(TEXT, SIGNER, cosigned(1 << 60)))
    assert "more under it" in refusal(signed(TEXT, SIGNER, cosigned(at)), strict=True)
    alone = TEXT + "\n" + cosigned(at) + "\n"
    assert "signed by no key" in refusal(alone)


def test_two_keys_with_one_name_and_id() -> None:
    """When ids collide, the key that fits is found, whichever is first."""
    twin = verify_log.Key(VKey(ORIGIN, ED25519, WITNESS.verifier.raw).encode())
    twin.id = KEY.id
    note = signed(TEXT, SIGNER).encode()

    for given in ([KEY, twin], [twin, KEY]):
        assert verify_log.Head(note, given).size == 7
    with pytest.raises(verify_log.Refused, match="is bad"):
        verify_log.Head(note, [twin])


def test_a_key_of_another_name_signs_nothing() -> None:
    """A good signature counts only under the name of the log."""
    foreign = verify_log.Key(VKey("other.example", ED25519, WITNESS.verifier.raw).encode())
    signature = WITNESS.sign(TEXT.encode(), purpose="log")
    line = f"\u2014 other.example {b64encode(foreign.id + signature)}"

    with pytest.raises(verify_log.Refused, match="signed by no key"):
        verify_log.Head(f"{TEXT}\n{line}\n".encode(), [foreign])


# --- Proofs


def test_proofs(make: Make, tmp_path: Path) -> None:
    """A proof holds for its entry, and for no other entry, place, path, key or format."""
    entries = numbered(300)
    made = make(entries)
    log = Log.open(made.path)
    (tmp_path / "entry").write_bytes(entries[77])

    def check(proof: str, entry: bytes = entries[77], key: str = made.vkey) -> dict[str, Any]:
        (tmp_path / "proof").write_text(proof, encoding="utf-8")
        (tmp_path / "entry").write_bytes(entry)
        files = ["--proof", str(tmp_path / "proof"), "--entry", str(tmp_path / "entry")]
        return verify_log.command([*files, "--key", key])[0]

    good = log.prove(77)
    text = good.encode()
    report = check(text)
    assert (report["verdict"], report["proven"]) == ("ok", "entry 77 of 300, 8 bytes")
    assert report["origin"] == ORIGIN
    for index in (0, 1, 255, 256, 298, 299):
        assert check(log.prove(index).encode(), entries[index])["verdict"] == "ok"
    extra = TlogProof(77, good.path, good.checkpoint, b"hello").encode()
    assert check(extra)["verdict"] == "ok"

    stranger = VKey(ORIGIN, ED25519, keys.generate("ed25519").verifier.raw).encode()
    wrong = {
        "entry": check(text, b"entry 78"),
        "key": check(text, key=stranger),
        "place": check(text.replace("index 77", "index 78")),
        "place beyond": check(text.replace("index 77", "index 300")),
        "spelling": check(text.replace("index 77", "index 077")),
        "version": check(text.replace("@v1", "@v2")),
        "no index": check(text.replace("index 77\n", "")),
        "nothing": check(""),
        "only a note": check("\n\n" + good.checkpoint),
        "not ASCII": check(text.replace("index", "\u00edndex")),
        "empty extra": check(extra.replace(b64encode(b"hello"), "")),
        "shorter": check(TlogProof(77, good.path[:-1], good.checkpoint).encode()),
        "longer": check(TlogProof(77, (*good.path, bytes(32)), good.checkpoint).encode()),
        "short hash": check(text.replace(b64encode(good.path[0]), b64encode(bytes(31)))),
        "changed": check(text.replace(b64encode(good.path[0]), b64encode(bytes(32)))),
    }
    assert {name for name, one in wrong.items() if one["verdict"] != "refused"} == set()


def test_a_proof_in_a_log_of_one(make: Make, tmp_path: Path) -> None:
    """The path of the only entry is empty."""
    made = make([b"only"])
    (tmp_path / "entry").write_bytes(b"only")
    (tmp_path / "proof").write_text(Log.open(made.path).prove(0).encode(), encoding="utf-8")
    files = ["--proof", str(tmp_path / "proof"), "--entry", str(tmp_path / "entry")]

    assert verify_log.main([*files, "--key", made.vkey]) == 0
