"""
A bit of a log flipped anywhere: refused by both verifiers, and located.

Every bit of the public files of a log of 40 entries, and a sample of those of a log of 600.
The entries are short, so that there is a run for each bit and not only for some.  With
``SECUREML_HYPOTHESIS=nightly`` all bits of the second log are flipped.
"""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import FormatError, SecureMLError, VerificationError
from secureml.evidence._files import Files
from secureml.evidence.log import Log, verify_log
from secureml.evidence.standalone import verify_log as standalone
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire import tiles
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/flips"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
VKEY = VKey(ORIGIN, ED25519, SIGNER.verifier.raw).encode()
KEYS = [standalone.Key(VKEY)]
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN)
    )
)
SAMPLED = 20_000 if os.environ.get("SECUREML_HYPOTHESIS") != "nightly" else None


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def write(directory: Path, size: int) -> None:
    """Write a log of so many short entries."""
    with Log.open(
        directory,
        private=directory.with_name("private"),
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=Memory(),
    ) as log:
        for n in range(size):
            log.append(b"%05d" % n, sync=False)
        log.publish()


def bits(directory: Path) -> Iterator[tuple[str, int]]:
    """Yield each bit of each file."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            for bit in range(8 * path.stat().st_size):
                yield path.relative_to(directory).as_posix(), bit


def flipped(data: bytes, bit: int) -> bytes:
    """Return *data* with one bit changed."""
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def changed_entry(name: str, bit: int) -> int | None:
    """Return the entry that the bit is in, its length counted in, or None."""
    inside = bit // 8 // 7  # two bytes of length, five of text
    return tiles.parse_path(name).number * 256 + inside if "/entries/" in name else None


def both(directory: Path, name: str, bit: int) -> list[str]:
    """Flip one bit, ask both verifiers, flip it back; returns what is wrong with the answers."""
    path = directory / name
    data = path.read_bytes()
    path.write_bytes(flipped(data, bit))
    entry = changed_entry(name, bit)
    wrong = []
    try:
        standalone.verify_log(str(directory), KEYS)
    except standalone.Refused as error:
        if error.verdict != "refused" or error.where.get("file") != name:
            wrong.append(f"{name} bit {bit}: {error} {error.where}")
        if error.where.get("entry") != entry:
            wrong.append(f"{name} bit {bit}: entry {error.where.get('entry')}, not {entry}")
    else:
        wrong.append(f"{name} bit {bit} is accepted by the single file")
    try:
        verify_log(directory, trust=TRUST)
    except (VerificationError, FormatError) as error:
        # Of the checkpoint the library says what is wrong with it, not where it lies.
        if name != "checkpoint" and f"entry {entry}," not in error.what and name not in error.what:
            wrong.append(f"{name} bit {bit}: {error}")
    except SecureMLError as error:
        wrong.append(f"{name} bit {bit}: {type(error).__name__}")
    else:
        wrong.append(f"{name} bit {bit} is accepted by the library")
    path.write_bytes(data)
    return wrong


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the log of 40 entries."""
    directory = tmp_path_factory.mktemp("small") / "log"
    write(directory, 40)
    return directory


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the log of 600 entries."""
    directory = tmp_path_factory.mktemp("larger") / "log"
    write(directory, 600)
    return directory


@pytest.mark.parametrize("part", range(4))
def test_every_bit_of_a_small_log_counts(small: Path, tmp_path: Path, part: int) -> None:
    """Each of the bits is noticed by both, with its file, and its entry where it is in one."""
    directory = tmp_path / "log"
    shutil.copytree(small, directory)
    standalone.verify_log(str(directory), KEYS)
    verify_log(directory, trust=TRUST)
    wrong = [
        line for name, bit in list(bits(directory))[part::4] for line in both(directory, name, bit)
    ]

    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_sampled_bits_of_a_larger_log_count(larger: Path, tmp_path: Path, part: int) -> None:
    """The same, for bits drawn from a log with full tiles and tiles of the second level."""
    directory = tmp_path / "log"
    shutil.copytree(larger, directory)
    every = list(bits(directory))
    drawn = every if SAMPLED is None else random.Random(20).sample(every, SAMPLED)  # noqa: S311
    wrong = [line for name, bit in drawn[part::4] for line in both(directory, name, bit)]

    assert wrong == []
