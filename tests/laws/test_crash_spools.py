"""
L11 for an audit log: a crash at any call loses nothing that was acknowledged, and doubles nothing.

Writers and the sequencer work on a `Machine`, in one thread, so that each
story is the same each time.  After every call the disk is put together again
in every way that a crash could have left it, and an ordinary sequencer
recovers it.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.audit._events import event, new_id
from secureml.audit._merge import AuditMerge, segment_name
from secureml.audit.details import Detail, Sealed
from secureml.audit.record import Record
from secureml.audit.value import encode
from secureml.audit.verify import survey_details, survey_records
from secureml.evidence._files import Files
from secureml.evidence._spool import Spool
from secureml.evidence.log import Log, verify_log
from secureml.evidence.sequencer import Sequencer
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire import canonical

_spec = spec_from_file_location("crash_machine", Path(__file__).parent / "crash_machine.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="crash_machine")
crash = module_from_spec(_spec)
_spec.loader.exec_module(crash)

ORIGIN = "log.example/audit"
SIGNER = keys.generate("ed25519", purposes=frozenset({"audit"}))
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"audit"}), origin=ORIGIN)
    )
)
WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)  # noqa: UP017  as callers do
WARNINGS = {"killed-writer"}
"""What a log says of itself after a crash, beside being right."""


def clock() -> datetime:
    """Return the time: what happens here takes none."""
    return WHEN


class House:
    """The directories of one audit log, and one process that works on it."""

    def __init__(self, base: Path, files: Files) -> None:
        self.base = base
        self.files = files
        self.spools = base / "private/spool/audit"
        self.details = base / "details"
        self.log = Log.open(
            base / "audit",
            private=base / "private",
            origin=ORIGIN,
            signer=SIGNER,
            purpose="audit",
            create=True,
            files=files,
        )
        merge = AuditMerge(self.spools, self.details, files, clock)
        self.sequencer = Sequencer(self.spools, self.log, merge, files)

    def step(self) -> None:
        """Merge what waits."""
        assert self.sequencer.step(now=True)

    def leave(self) -> None:
        """End the process, as far as files and locks are concerned."""
        self.sequencer.leave()
        self.log.release()


class Life:
    """One writer: what it wrote, and what of it was acknowledged."""

    def __init__(self, story: "Story", **options: int) -> None:
        self.story = story
        self.bodies: list[bytes] = []
        self.spool = Spool(story.house.spools, story.machine, size=4096, **options)
        story.lives[self.spool.writer] = self
        self.write([event("start", {"start": {"pid": 1}}, clock)])
        self.sync()

    def write(self, bodies: list[bytes], lines: list[bytes] | None = None) -> None:
        """Write records, and wait for nothing."""
        self.bodies += bodies
        self.spool.write(bodies, lines or [b""] * len(bodies), details=0)

    def calls(self, count: int, size: int = 20, **sizes: int) -> None:
        """Write records of calls, with a captured value each but for the last one."""
        bodies, lines = [], []
        for number in range(count):
            body, line = call(self.spool.writer, sizes.get(f"n{number}", size))
            bodies.append(body)
            lines.append(line)
        body, line = call(self.spool.writer, None)
        self.write([*bodies, body], [*lines, line])

    def sync(self) -> None:
        """Make what was written durable, which acknowledges it."""
        self.spool.sync()
        self.story.sure(self)

    def end(self) -> None:
        """Write the last record, and go."""
        count = len(self.bodies)
        self.write([event("end", {"end": {"records": count + 1}}, clock)])
        self.spool.end()
        self.spool.sync()
        self.story.sure(self)
        self.spool.close()

    def die(self) -> None:
        """Go without a word."""
        self.spool.abandon()


def call(writer: bytes, size: int | None) -> tuple[bytes, bytes]:
    """Return a record of a call and its line in the details, if it captured *size* bytes."""
    name = new_id()
    body: dict[str, Any] = {
        "action": "act",
        "call": {"kind": "function", "name": "f"},
        "latency_us": 1,
        "monotonic_us": 1,
        "outcome": "ok",
        "record": {"id": name},
        "time": "2026-01-01T00:00:00.000000Z",
        "type": "call",
    }
    if size is None:
        return canonical.encode(body), b""
    sealed = Sealed.of(encode("x" * size))
    body["in"] = {"row": {"alg": "hmac-sha256", "commitment": sealed.commitment}}
    body["details"] = {"segment": segment_name(writer, 0)}
    return canonical.encode(body), Detail(name, {"row": sealed}).encode()


@dataclass
class Story:
    """What happened on one machine, and what was acknowledged after how many calls."""

    machine: Any
    house: House
    start: int = 0
    single: bool = True
    some: int = 0
    lives: dict[bytes, Life] = field(default_factory=dict)
    acknowledged: list[tuple[int, bytes, int]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def begin(cls, base: Path, **options: Any) -> "Story":
        """Start the machine."""
        base.mkdir()
        machine = crash.Machine(base)
        return cls(machine, House(base, machine), **options)

    def sure(self, life: Life) -> None:
        """Note that all that a writer wrote is acknowledged."""
        self.acknowledged.append((len(self.machine.ops), life.spool.writer, life.spool.synced))

    def step(self) -> None:
        """Merge, which acknowledges everything that was read, and publishes a checkpoint."""
        self.house.step()
        at = len(self.machine.ops)
        self.notes.append((at, self.house.log.checkpoint_note()))
        for life in self.lives.values():
            if life.spool._fd >= 0:
                self.acknowledged.append((at, life.spool.writer, life.spool.acknowledged()))


def two_writers(base: Path) -> Story:
    """Two processes write, with and without waiting; one ends, the other dies."""
    story = Story.begin(base)
    one, two = Life(story), Life(story)
    story.step()
    one.calls(2)
    two.calls(1)
    one.sync()
    story.step()
    one.calls(1)
    one.calls(2)
    two.calls(2)
    two.sync()
    story.step()
    one.end()
    two.calls(1)
    story.step()
    two.calls(1)
    two.die()
    story.step()
    story.house.leave()
    return story


def judge(here: Path, story: Story, sure: dict[bytes, int], notes: list[str]) -> None:
    """Recover a disk, and compare the log with what was written and acknowledged."""
    house = House(here, crash.Memory())
    try:
        house.step()
        house.step()
    finally:
        house.leave()
    entries = list(verify_log(here / "audit", trust=TRUST, role="audit", remembered=notes).entries)
    report = survey_records(entries, records=True)
    assert {one.code for one in report.findings} <= WARNINGS, report.findings
    records: tuple[Record, ...] = report.records or ()
    assert survey_details(records, house.details).findings == ()
    taken: dict[bytes, int] = {}
    for entry, record in zip(entries, records, strict=True):
        writer = bytes.fromhex(record.writer)
        assert taken.get(writer, 0) == record.seq
        taken[writer] = record.seq + 1
        if writer in story.lives:
            assert entry.endswith(b"\n" + story.lives[writer].bodies[record.seq])
    for writer, count in sure.items():
        assert taken.get(writer, 0) >= count
    assert os.listdir(house.spools) == ["lock"]  # noqa: PTH208  names


STORIES: dict[str, tuple[Callable[[Path], Story], int]] = {
    "two_writers": (two_writers, 1000),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_crash(tmp_path: Path, name: str) -> None:
    """However a crash leaves the disk, the log has each acknowledged record exactly once."""
    tell, least = STORIES[name]
    with crash.in_memory(tmp_path) as memory:
        story = tell(memory / "life")
        seen: set[object] = set()
        for count in range(story.start, len(story.machine.ops) + 1):
            sure: dict[bytes, int] = {}
            for at, writer, below in story.acknowledged:
                if at <= count:
                    sure[writer] = max(below, sure.get(writer, 0))
            notes = [note for at, note in story.notes if at <= count][-2:]
            crashes = crash.Crashes(story.machine.ops, single=story.single, some=story.some)
            for state in crashes.after(count):
                key = hash((state, tuple(sorted(sure.items()))))
                if key in seen:
                    continue
                seen.add(key)
                here = memory / "here"
                shutil.rmtree(here, ignore_errors=True)
                here.mkdir()
                crash.place(state, here)
                try:
                    judge(here, story, sure, notes)
                except BaseException as e:
                    print("AT", count, story.machine.ops[count-1].kind, story.machine.ops[count-1].path, [p for p,_ in state])
                    raise
        print(name, len(story.machine.ops), len(seen))
