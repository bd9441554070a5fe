"""
What writers and sequencers do in the crash tests, and how the log is judged afterwards.

Tests load it by its path.  All of it runs in one thread, so that each story is
the same each time.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeAlias

from secureml import keys
from secureml.audit._events import event, new_id
from secureml.audit._merge import AuditMerge, segment_name
from secureml.audit.details import Detail, Sealed
from secureml.audit.record import PREFIX_SIZE
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
        self.lines: list[bytes] = []
        self.alive = True
        self.options = options
        self.spool: Any = None

    def start(self) -> None:
        """Make the spool, and write the first record, durably."""
        house = self.story.house
        self.spool = Spool(house.spools, house.files, size=4096, **self.options)
        self.story.lives[self.spool.writer] = self
        self.write([event("start", {"start": {"pid": 1}}, clock)])
        self.sync()

    def write(self, bodies: list[bytes], lines: list[bytes] | None = None) -> None:
        """Write records, and wait for nothing."""
        lines = lines or [b""] * len(bodies)
        self.bodies += bodies
        self.lines += lines
        self.spool.write(bodies, lines, details=0)

    def calls(self, *sizes: int) -> None:
        """Write records of calls, each with a captured value of so many bytes, 0 for none."""
        made = [call(self.spool.writer, size) for size in sizes]
        self.write([body for body, _ in made], [line for _, line in made])

    def sync(self) -> None:
        """Make what was written durable, which acknowledges it."""
        self.spool.sync()
        at = len(self.story.machine.ops)
        self.story.acknowledged.append((at, self.spool.writer, self.spool.synced))

    def end(self) -> None:
        """Write the last record, and go."""
        self.write([event("end", {"end": {"records": len(self.bodies) + 1}}, clock)])
        self.spool.end()
        self.sync()
        self.alive = False
        self.spool.close()

    def die(self) -> None:
        """Go without a word."""
        self.alive = False
        if self.spool is not None:
            self.spool.abandon()


def call(writer: bytes, size: int) -> tuple[bytes, bytes]:
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
    if not size:
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
    some: int = 4
    lives: dict[bytes, Life] = field(default_factory=dict)
    acknowledged: list[tuple[int, bytes, int]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def begin(cls, base: Path) -> "Story":
        """Start a machine with an empty disk."""
        base.mkdir()
        machine = crash.Machine(base)
        return cls(machine, House(base, machine))

    def step(self) -> None:
        """Merge, which acknowledges everything that was written, and publishes a checkpoint."""
        self.house.step()
        at = len(self.machine.ops)
        self.notes.append((at, self.house.log.checkpoint_note()))
        for life in self.lives.values():
            if life.alive:
                told = life.spool.acknowledged()
                assert told >= life.spool.count
                self.acknowledged.append((at, life.spool.writer, told))

    def act(self, actions: Iterable[tuple[Life | None, Callable[[], None]]]) -> None:
        """Let writers and the sequencer act, whoever of them is killed meanwhile."""
        for life, action in actions:
            if life is not None and not life.alive:
                continue
            try:
                action()
            except crash.KilledError:
                self.machine.dead = False
                self.start = self.machine.stop
                if life is None:
                    self.house.leave()
                    self.house = House(self.house.base, self.machine)
                else:
                    life.die()

    def close(self) -> "Story":
        """Let go of all files."""
        for life in self.lives.values():
            if life.alive:
                life.die()
        self.house.leave()
        return self


Actions: TypeAlias = Iterator[tuple[Life | None, Callable[[], None]]]


def a_short_life(story: Story) -> Actions:
    """A writer comes to an empty disk, records a little, and ends."""
    one = Life(story)
    yield one, one.start
    yield None, story.step
    yield one, lambda: one.calls(20, 0)
    yield one, one.sync
    yield None, story.step
    yield one, one.end
    yield None, story.step


def two_writers(story: Story) -> Actions:
    """Two write, with and without waiting; one ends, the other dies."""
    one, two = Life(story), Life(story)
    yield one, one.start
    yield two, two.start
    yield None, story.step
    yield one, lambda: one.calls(20, 20, 0)
    yield two, lambda: two.calls(20)
    yield one, one.sync
    yield None, story.step
    yield one, lambda: one.calls(20)
    yield one, lambda: one.calls(0, 300, 20)
    yield two, lambda: two.calls(20, 20)
    yield two, two.sync
    yield None, story.step
    yield one, one.end
    yield two, lambda: two.calls(20)
    yield None, story.step
    yield two, lambda: two.calls(20)
    yield two, two.die
    yield None, story.step


def long_lines(story: Story) -> Actions:
    """Lines of the details are cut into pieces, and go over the ends of segments."""
    one = Life(story, piece=600)
    yield one, one.start
    yield None, story.step
    yield one, lambda: one.calls(900)
    yield one, one.sync
    yield one, lambda: one.calls(3000)
    yield None, story.step
    yield one, lambda: one.calls(20)
    yield one, one.sync
    yield one, lambda: one.calls(1500)
    yield one, one.die
    yield None, story.step


def a_sequencer_that_looks_on(story: Story) -> Actions:
    """Somebody merges after each single write, when half of a line is in the spool."""
    one = Life(story, piece=600)
    yield one, one.start
    yield None, story.step
    story.machine.hook = story.step
    yield one, lambda: one.calls(20)
    yield one, lambda: one.calls(5000)
    yield one, one.sync
    yield one, lambda: one.calls(1500)
    story.machine.hook = None
    yield one, one.end
    yield None, story.step


def many_segments(story: Story) -> Actions:
    """Several segments fill between two checkpoints, one of them for a single large frame."""
    one = Life(story)
    yield one, one.start
    yield None, story.step
    for _ in range(3):
        yield one, lambda: one.calls(*[20] * 5)
    yield one, one.sync
    for _ in range(3):
        yield one, lambda: one.calls(1200)
    yield None, story.step
    yield one, lambda: one.calls(4000)
    yield one, lambda: one.calls(20, 20)
    yield None, story.step
    yield one, lambda: one.calls(20)
    yield one, one.sync
    yield one, lambda: one.calls(20)
    yield one, lambda: one.calls(700)
    yield one, one.die
    yield None, story.step


def a_later_process(story: Story) -> Actions:
    """Whoever was killed, another process comes, records and ends."""
    later = Life(story)
    yield later, later.start
    yield later, lambda: later.calls(20)
    yield None, story.step
    yield later, later.end
    yield None, story.step


def before_count(acknowledged: Iterable[tuple[int, bytes, int]], count: int) -> dict[bytes, int]:
    """Return what was acknowledged to each writer when so many calls had been made."""
    sure: dict[bytes, int] = {}
    for at, writer, below in acknowledged:
        if at <= count:
            sure[writer] = max(below, sure.get(writer, 0))
    return sure


def judge(
    here: Path, story: Story, sure: dict[bytes, int], notes: list[str], *, deep: bool
) -> None:
    """Recover a disk, and compare the log with what was written and acknowledged."""
    house = House(here, crash.Memory())
    try:
        house.step()
        house.step()
    finally:
        house.leave()
    entries = verify_log(here / "audit", trust=TRUST, role="audit", remembered=notes).entries
    taken: dict[bytes, int] = {}
    for entry in entries:
        prefix, body = entry[:PREFIX_SIZE], entry[PREFIX_SIZE:]
        writer, number = bytes.fromhex(prefix[17:49].decode()), int(prefix[50:66], 16)
        assert taken.get(writer, 0) == number
        taken[writer] = number + 1
        if writer in story.lives:
            assert body == story.lives[writer].bodies[number]
        else:
            assert json.loads(body)["type"] in {"start", "recovery", "end"}
    for writer, count in sure.items():
        assert taken.get(writer, 0) >= count
    values = {
        segment_name(writer, 0): b"".join(life.lines[: taken.get(writer, 0)])
        for writer, life in story.lives.items()
    }
    for segment, lines in values.items():
        path = house.details / f"{segment}.jsonl"
        assert lines == (path.read_bytes() if path.exists() else b"")
    assert ["lock"] == os.listdir(house.spools)  # noqa: PTH208  names
    if deep:
        report = survey_records(list(entries), records=True)
        assert report.ok, report.findings
        assert survey_details(report.records or (), house.details).findings == ()
