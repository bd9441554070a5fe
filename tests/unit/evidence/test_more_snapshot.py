"""The entries of a verified log: the last one, none behind it, and which one is malformed."""

from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import DigestMismatchError, FormatError
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence._snapshot import VerifiedEntries
from secureml.evidence.log import Log, verify_log
from secureml.evidence.trust import Identity, Trust
from secureml.wire import tiles

ORIGIN = "log.example/seen"
SIGNER = keys.generate("ed25519", purposes={"log"})
TRUST = Trust(
    (Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN),)
)
ALL = [b"entry %d" % n for n in range(300)]


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of three hundred entries."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)
    with Log.open(
        tmp_path / "log", origin=ORIGIN, signer=SIGNER, create=True, files=Memory()
    ) as log:
        for entry in ALL:
            log.append(entry, sync=False)
    return tmp_path / "log"


def entries(path: Path) -> VerifiedEntries:
    """Verify the log."""
    return verify_log(path, trust=TRUST).entries


def test_entries_are_a_sequence(path: Path) -> None:
    """Counted from either end, cut, and gone through; each is the one that was written."""
    found = entries(path)

    assert (len(found), found[0], found[299], found[-1], found[-300]) == (
        300,
        ALL[0],
        ALL[299],
        ALL[299],
        ALL[0],
    )
    assert found[250:260] == ALL[250:260]
    assert found[::-7] == ALL[::-7]
    assert list(found) == ALL


@pytest.mark.parametrize("index", [300, 301, 511, 512, 100_000, -301, -1000])
def test_there_is_no_entry_behind_the_last(path: Path, index: int) -> None:
    """The error names the number and how many there are."""
    with pytest.raises(IndexError, match=f"entry {index} is not among the 300"):
        entries(path)[index]


def test_an_entry_that_changed_since_is_named(path: Path) -> None:
    """What is read is what was verified."""
    found = entries(path)
    bundle = path / tiles.entries_path(0)
    bundle.write_bytes(bundle.read_bytes().replace(b"entry 77", b"entry 78"))

    with pytest.raises(DigestMismatchError, match="entry 77 changed after"):
        found[3]


@pytest.mark.parametrize("at", [0, 9, 255])
def test_the_entry_from_which_on_a_bundle_is_none_is_named(path: Path, at: int) -> None:
    """A length that was changed makes all that follows unreadable: the first one is located."""
    bundle = path / tiles.entries_path(0)
    data = bytearray(bundle.read_bytes())
    start = sum(2 + len(entry) for entry in ALL[:at])
    data[start] ^= 0x40
    bundle.write_bytes(bytes(data))

    with pytest.raises(FormatError, match=f"entry {at}, in"):
        entries(path)


def test_without_the_tile_the_bundle_is_named(path: Path) -> None:
    """Where nothing tells which entry it is, the file is said to be malformed."""
    bundle = path / tiles.entries_path(0)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    (path / tiles.tile_path(0, 0, 256)).write_bytes(b"short")

    with pytest.raises(FormatError) as caught:
        entries(path)
    assert not caught.value.what.startswith("entry ")


@pytest.mark.parametrize("more", [b"x", bytes(32)])
def test_a_tile_has_its_length(path: Path, more: bytes) -> None:
    """Bytes behind the last hash are in no tree, and are not passed over."""
    tile = path / tiles.tile_path(0, 1, 44)
    tile.write_bytes(tile.read_bytes() + more)

    with pytest.raises(FormatError, match=r"'tile/0/001.p/44' was changed: .* another length"):
        entries(path)
