"""Every byte of a closed demo directory is accounted for."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml.errors import FormatError, VerificationError
from secureml.evidence.trust import Trust
from secureml.workspace import verify_directory

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SEED = 20_261_122


def changes(root: Path, count: int, seed: int = SEED) -> list[tuple[Path, int, int]]:
    """Draw *count* changes: half by file, half by byte, so that small files get their share."""
    draw = random.Random(seed)  # noqa: S311  a reproducible sample, no secret
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.stat().st_size)
    sizes = [p.stat().st_size for p in files]
    found: list[tuple[Path, int, int]] = []
    for number in range(count):
        path = draw.choices(files, weights=sizes)[0] if number % 2 else draw.choice(files)
        found.append((path, draw.randrange(path.stat().st_size), draw.randrange(1, 256)))
    return found


@pytest.mark.slow
def test_a_thousand_single_byte_changes_are_found(demo: Path, tmp_path: Path) -> None:
    """Each of 1,000 random changes is refused, with our errors and no other."""
    root = Path(shutil.copytree(demo, tmp_path / "copy"))
    trust = Trust.load(demo.with_name("secureml-demo.private") / "trust.toml")
    missed: list[tuple[Path, int]] = []
    for path, at, difference in changes(root, 1_000):
        untouched = path.read_bytes()
        data = bytearray(untouched)
        data[at] ^= difference
        path.write_bytes(data)
        try:
            verify_directory(root, trust=trust)
            missed.append((path, at))
        except (VerificationError, FormatError):
            pass
        finally:
            path.write_bytes(untouched)

    assert [] == missed


def test_twenty_five_are_found_by_the_command(
    demo: Path, tmp_path: Path, command: Command
) -> None:
    """The command refuses them too, with exit code 1 and an error that has a code."""
    root = Path(shutil.copytree(demo, tmp_path / "copy"))
    trust = demo.with_name("secureml-demo.private") / "trust.toml"
    for path, at, difference in changes(root, 25, SEED + 1):
        untouched = path.read_bytes()
        data = bytearray(untouched)
        data[at] ^= difference
        path.write_bytes(data)
        done = command("verify", root, "--trust", trust)
        path.write_bytes(untouched)

        assert 1 == done.returncode, (path, at, done.stdout)
        assert "[SML" in done.stderr


def test_a_hundred_untouched_copies_verify(demo: Path, tmp_path: Path) -> None:
    """There is no false alarm."""
    trust = Trust.load(demo.with_name("secureml-demo.private") / "trust.toml")
    for number in range(100):
        root = Path(shutil.copytree(demo, tmp_path / str(number)))

        assert verify_directory(root, trust=trust).sealed
        shutil.rmtree(root)


@pytest.mark.parametrize("what", ["delete", "add", "empty", "truncate", "swap", "directory"])
def test_every_file_is_guarded(demo: Path, tmp_path: Path, what: str) -> None:
    """No file can be deleted, added, emptied, cut or swapped with another."""
    root = Path(shutil.copytree(demo, tmp_path / "copy"))
    trust = Trust.load(demo.with_name("secureml-demo.private") / "trust.toml")
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.stat().st_size > 1)
    for number, path in enumerate(files):
        untouched, other = path.read_bytes(), files[(number + 1) % len(files)]
        extra, second = path.with_name("extra"), other.read_bytes()
        if what == "swap" and untouched == second:
            continue  # the claims, and the server's copy of them
        match what:
            case "delete":
                path.unlink()
            case "add":
                extra.write_bytes(b"x")
            case "empty":
                path.write_bytes(b"")
            case "truncate":
                path.write_bytes(untouched[:-1])
            case "swap":
                path.write_bytes(second)
                other.write_bytes(untouched)
            case _:
                path.unlink()
                path.mkdir()
        with pytest.raises((VerificationError, FormatError)):
            verify_directory(root, trust=trust)
        if path.is_dir():
            path.rmdir()
        path.write_bytes(untouched)
        other.write_bytes(second)
        extra.unlink(missing_ok=True)

    assert verify_directory(root, trust=trust).sealed
