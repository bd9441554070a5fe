"""
L11: a crash at any write leaves a prefix that holds all that was acknowledged.

A `Machine` runs the writer on real files and takes down every call.  From
that record the disk is put together again as a crash could have left it:
after each call, with what was synced, and with any of the rest lost, kept or
torn.  Each such disk is recovered by an ordinary writer.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.errors import ConsistencyError
from secureml.evidence._files import Files
from secureml.evidence._wal import read_frames
from secureml.evidence.log import Log, verify_log
from secureml.evidence.trust import Identity, Trust, identity_block

_spec = spec_from_file_location("crash_machine", Path(__file__).parent / "crash_machine.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="crash_machine")
crash = module_from_spec(_spec)
_spec.loader.exec_module(crash)

ORIGIN = "log.example/crash"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN)
    )
)


def opened(base: Path, files: Files) -> Log:
    """Open the log of a machine."""
    return Log.open(
        base / "log",
        private=base / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=files,
    )


@dataclass
class Story:
    """What a writer did, and what it had acknowledged after how many calls."""

    machine: Any
    start: int = 0
    single: bool = True
    entries: list[bytes] = field(default_factory=list)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    def append(self, log: Log, *, sync: bool = True) -> None:
        """Append the next entry."""
        self.entries.append(b"entry %d" % len(self.entries))
        log.append(self.entries[-1], sync=sync)
        if sync:
            self.acknowledged.append((len(self.machine.ops), len(self.entries)))

    def publish(self, log: Log) -> None:
        """Publish, which acknowledges everything."""
        note = log.publish()
        self.acknowledged.append((len(self.machine.ops), len(self.entries)))
        self.notes.append((len(self.machine.ops), note))


def begin(base: Path) -> Story:
    """Make the private directory, as a workspace does, and start the record."""
    for name in ("", "private", "private/wal", "private/checkpoints"):
        (base / name).mkdir(exist_ok=True, mode=0o700)
    machine = crash.Machine(base)
    machine.adopt([(name, None) for name in ("private", "private/checkpoints", "private/wal")])
    return Story(machine)


def a_short_life(base: Path) -> Story:
    """Begin a log, append, publish, and again, with and without syncing."""
    story = begin(base)
    log = opened(base, story.machine)
    story.publish(log)
    for _ in range(2):
        story.append(log)
    story.publish(log)
    for sync in (True, False, True, False):
        story.append(log, sync=sync)
    story.publish(log)
    story.append(log, sync=False)
    log.close()
    return story


def no_first_checkpoint(base: Path) -> Story:
    """Append before anything was published."""
    story = begin(base)
    log = opened(base, story.machine)
    story.append(log)
    story.append(log)
    story.publish(log)
    log.close()
    return story


def across_a_tile(base: Path) -> Story:
    """Grow over the end of a full tile, with a partial one left behind."""
    story = begin(base)
    quiet = opened(base, story.machine)
    for _ in range(254):
        story.append(quiet, sync=False)
    story.publish(quiet)
    story.start = len(story.machine.ops)
    story.single = False
    for _ in range(4):
        story.append(quiet, sync=False)
    story.publish(quiet)
    story.append(quiet)
    story.publish(quiet)
    quiet.close()
    return story


def a_second_crash(base: Path) -> Story:
    """Recover from a crash in the middle of publishing, and go on."""
    first = base / "first"
    first.mkdir()
    before = a_short_life(first)
    ops = before.machine.ops
    renames = [at for at, op in enumerate(ops) if op.kind == "rename" and "entries" in op.to]
    state = next(iter(crash.Crashes(ops).after(renames[-1] + 1)))
    second = base / "second"
    second.mkdir()
    crash.place(state, second)
    machine = crash.Machine(second)
    # What the first crash left is on the disk; the record begins with it.
    machine.adopt(state)
    story = Story(machine, start=len(machine.ops))
    log = opened(second, machine)
    log.acquire()
    story.entries = list(log.entries())
    story.acknowledged.append((story.start, len(story.entries)))
    story.append(log)
    story.publish(log)
    log.close()
    return story


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where the system has one: a thousand disks are written."""
    with crash.in_memory(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "life", [a_short_life, no_first_checkpoint, across_a_tile, a_second_crash]
)
def test_every_crash_is_recovered(memory: Path, life: Callable[[Path], Story]) -> None:
    """However a crash leaves the disk, all that was acknowledged comes back, and no more."""
    base = memory / "life"
    base.mkdir()
    story = life(base)
    ops = story.machine.ops
    seen: set[object] = set()
    crashes = crash.Crashes(ops, single=story.single)
    for count in range(story.start, len(ops) + 1):
        sure = max((size for at, size in story.acknowledged if at <= count), default=0)
        notes = [note for at, note in story.notes if at <= count]
        for state in crashes.after(count):
            key = hash((state, sure))
            if key in seen:
                continue
            seen.add(key)
            here = memory / "here"
            shutil.rmtree(here, ignore_errors=True)
            here.mkdir()
            crash.place(state, here)
            with opened(here, crash.Memory()) as log:
                log.acquire()
                found = list(log.entries())
                assert found == story.entries[: len(found)], (count, ops[count - 1])
                assert len(found) >= sure, (count, ops[count - 1])
                log.append(b"after the crash", sync=False)
            verified = verify_log(here / "log", trust=TRUST, remembered=notes)
            assert [*found, b"after the crash"] == list(verified.entries)
    assert len(seen) > 30


# The write-ahead file, byte by byte


def written(base: Path) -> tuple[bytes, list[bytes]]:
    """Return the write-ahead file of a log with one published and four pending entries."""
    log = opened(base, crash.Memory())
    entries = [b"entry %d" % n for n in range(5)]
    log.append(entries[0])
    log.publish()
    for entry in entries[1:]:
        log.append(entry)
    assert log._writer is not None
    assert log._lock is not None
    log._lock.leave(log._writer)
    return (base / "private/wal/log.wal").read_bytes(), entries


@pytest.mark.parametrize("tail", ["cut", "zeros", "garbage"])
def test_every_torn_end(tmp_path: Path, tail: str) -> None:
    """A write-ahead file torn at any byte gives the entries before the tear."""
    whole, entries = written(tmp_path)
    wal = tmp_path / "private/wal/log.wal"
    length = len(whole) // 4
    noise = random.Random(11)  # noqa: S311  rubbish, not a secret
    for cut in range(len(whole) + 1):
        rest = {
            "cut": b"",
            "zeros": bytes(len(whole) - cut),
            "garbage": noise.randbytes(len(whole) - cut),
        }[tail]
        wal.write_bytes(whole[:cut] + rest)
        found = read_frames(wal, published=1)
        assert entries[1 : 1 + cut // length] == found.entries
        assert found.good == cut // length * length
        assert len(whole[:cut] + rest) == found.good + found.torn
    wal.write_bytes(whole[: 2 * length + 3])
    with opened(tmp_path, crash.Memory()) as log:
        assert log.append(b"after") == 3
        assert [*entries[:3], b"after"] == list(log.entries())


def test_every_flipped_byte_before_the_last_frame(tmp_path: Path) -> None:
    """A changed byte with good frames behind it is refused, and nothing is repaired."""
    whole, entries = written(tmp_path)
    wal = tmp_path / "private/wal/log.wal"
    last = len(whole) // 4 * 3
    for at in range(len(whole)):
        for mask in (1, 128, 255):
            changed = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
            wal.write_bytes(changed)
            if at < last:
                with pytest.raises(ConsistencyError, match="was damaged"):
                    read_frames(wal, published=1)
            else:
                # Nobody can tell a changed last frame from a torn one.
                assert entries[1:4] == read_frames(wal, published=1).entries
    wal.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ConsistencyError, match="was damaged"):
        opened(tmp_path, crash.Memory()).append(b"x")


# A real process


WRITER = """
import sys
from pathlib import Path
from secureml import keys
from secureml.evidence.log import Log

base = Path(sys.argv[1])
signer = keys.load(base / "key.pem", purposes=frozenset({"log"}))
log = Log.open(base / "log", private=base / "private", origin=sys.argv[2], signer=signer,
               create=True)
n = log.append(b"hello")
while True:
    n = log.append(b"entry %d" % (n + 1), sync=n % 3 == 0)
    print(n, flush=True)
    if n % 7 == 0:
        log.publish()
"""


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    """A process that is killed at any moment loses no entry that it had acknowledged."""
    signer = keys.create(tmp_path / "key.pem", scheme="ed25519", purposes=frozenset({"log"}))
    trust = Trust.from_toml(
        "version = 1\n\n"
        + identity_block(
            Identity(name="log", verifier=signer.verifier, roles=frozenset({"log"}), origin=ORIGIN)
        )
    )
    pause = random.Random(5)  # noqa: S311  a moment, not a secret
    total = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), ORIGIN],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        last = int(process.stdout.readline())
        time.sleep(pause.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        last = max([last, *(int(line) for line in lines[:-1])])
        with Log.open(tmp_path / "log", private=tmp_path / "private", signer=signer) as log:
            log.acquire()
            found = list(log.entries())
        assert len(found) > last >= total
        for index, entry in enumerate(found):
            assert entry in {b"hello", b"entry %d" % index}
        total = len(found)
        assert total == verify_log(tmp_path / "log", trust=trust).size
