"""
Four verifiers, one verdict: ours, the auditors' single file, Go's sumdb code and aics-tlog.

On logs of all sizes, intact and with the bytes of a file changed, cut, swapped or gone.  What
the other two do not look at, a file too many for instance, is not asked of them.

    SECUREML_GO=… SECUREML_PY312=… pytest tests/interop/test_log_differential.py
"""

import base64
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.errors import SecureMLError
from secureml.evidence._files import Files
from secureml.evidence.log import Log, verify_log
from secureml.evidence.standalone import verify_log as standalone
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire import tiles
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/differential"
SIZES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 1_000, 65_535, 65_536, 65_537, 70_000]
ROUNDS = 10_000 if os.environ.get("SECUREML_HYPOTHESIS") == "nightly" else 300
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
VKEY = VKey(ORIGIN, ED25519, SIGNER.verifier.raw).encode()
KEYS = [standalone.Key(VKEY)]
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN)
    )
)


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(standalone, "WAIT", 0.0)
    for name in ("secureml.evidence.checklog", "secureml.evidence._snapshot"):
        monkeypatch.setattr(f"{name}._WAIT", 0.0, raising=False)


def write(base: Path, size: int, entry: Callable[[int], bytes]) -> Path:
    """Write a log."""
    with Log.open(
        base / "log",
        private=base / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=Memory(),
    ) as log:
        for n in range(size):
            log.append(entry(n), sync=False)
        log.publish()
    return base / "log"


Verdict = tuple[int, str] | None
"""Size and root of an accepted log; None for one that is refused."""


def library(log: Path) -> Verdict:
    """Return our verdict."""
    try:
        found = verify_log(log, trust=TRUST)
    except SecureMLError:
        return None
    return found.size, found.root.hex()


def single(log: Path) -> Verdict:
    """Return that of the single file."""
    try:
        found = standalone.verify_log(str(log), KEYS)
    except standalone.Refused:
        return None
    return found["size"], found["root"]


def peer(other: Any, log: Path) -> Verdict:  # noqa: ANN401  of a conftest
    """Return that of somebody else's verifier."""
    found = other.ask(Log=str(log), VKey=VKEY, Origin=ORIGIN)
    if not found["Ok"]:
        return None
    root = found["Root"]
    return found["Size"], root if len(root) == 64 else base64.b64decode(root).hex()


def all_four(log: Path, go: Any, aics: Any) -> list[Verdict]:  # noqa: ANN401
    """Ask everybody."""
    return [library(log), single(log), peer(go, log), peer(aics, log)]


def damage(log: Path, draw: random.Random) -> Callable[[], None]:
    """Change one file of the log; returns what undoes it."""
    files = sorted(path for path in log.rglob("*") if path.is_file())
    path = draw.choice(files)
    content = path.read_bytes()
    at = draw.randrange(len(content))
    other = draw.choice(files)
    theirs = other.read_bytes()

    def undo() -> None:
        path.write_bytes(content)
        other.write_bytes(theirs)

    match draw.choice(["flip", "flip", "flip", "cut", "insert", "remove", "swap"]):
        case "flip":
            bit = bytes([content[at] ^ 1 << draw.randrange(8)])
            path.write_bytes(content[:at] + bit + content[at + 1 :])
        case "cut":
            path.write_bytes(content[:at])
        case "insert":
            path.write_bytes(content[:at] + draw.randbytes(draw.randrange(1, 40)) + content[at:])
        case "remove":
            path.unlink()
        case _:
            path.write_bytes(theirs)
            other.write_bytes(content)
    return undo


def respelled(log: Path, content: bytes) -> bool:
    """Return whether only the base 64 of a checkpoint is spelled otherwise: Go accepts that."""
    found = (log / "checkpoint").read_bytes() if (log / "checkpoint").exists() else b""
    head, _, line = found.rpartition(b" ")
    before, _, was = content.rpartition(b" ")
    try:
        return head == before and base64.b64decode(line) == base64.b64decode(was)
    except ValueError:
        return False


def compare(log: Path, go: Any, aics: Any, draw: random.Random, times: int) -> None:  # noqa: ANN401
    """Ask everybody about the log as it is, then about damaged ones."""
    good = all_four(log, go, aics)
    assert good[0] is not None
    assert good == [good[0]] * 4
    checkpoint = (log / "checkpoint").read_bytes()
    for _ in range(times):
        undo = damage(log, draw)
        found = all_four(log, go, aics)
        same = (log / "checkpoint").exists() and (log / "checkpoint").read_bytes() == checkpoint
        if not same and respelled(log, checkpoint):
            found = found[:2]  # ours refuse a second spelling of the same signature
            assert found == [None, None]
        assert found == [found[0]] * len(found), sorted(log.rglob("*"))
        undo()


@pytest.mark.parametrize("size", SIZES)
def test_sizes_at_the_edges(tmp_path: Path, go: Any, aics: Any, size: int) -> None:  # noqa: ANN401
    """Logs that fill tiles, levels of tiles, or are one entry from it."""
    log = write(tmp_path, size, lambda n: b"entry %d" % n)
    compare(log, go, aics, random.Random(size), 4 if size > 60_000 else 30)  # noqa: S311


@pytest.mark.parametrize("part", range(10))
def test_random_logs(tmp_path: Path, go: Any, aics: Any, part: int) -> None:  # noqa: ANN401
    """Logs of random sizes and entries."""
    draw = random.Random(part)  # noqa: S311
    for number in range(ROUNDS // 10):
        size = draw.choice([draw.randrange(12), draw.randrange(300), draw.randrange(800)])
        made = [draw.randbytes(draw.randrange(1, 60)) for _ in range(size)]
        base = tmp_path / str(number)
        base.mkdir()
        compare(write(base, size, made.__getitem__), go, aics, draw, 3)


def test_a_tile_that_several_trees_share(tmp_path: Path, go: Any, aics: Any) -> None:  # noqa: ANN401
    """CVE-2026-56865: a flipped byte in a tile that several sub-trees share is refused by all."""
    log = write(tmp_path, 1_000, lambda n: b"entry %d" % n)
    path = log / tiles.tile_path(0, 3, 232)
    good = path.read_bytes()
    assert None not in all_four(log, go, aics)

    for at in range(0, len(good), 32):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert all_four(log, go, aics) == [None] * 4
