"""
L11 for an audit log: a crash at any call loses nothing that was acknowledged, and doubles nothing.

Writers and the sequencer work on a `Machine`, in one thread, so that each
story is the same each time.  After every call the disk is put together again
in every way that a crash could have left it, and an ordinary sequencer
recovers it.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeAlias

import pytest

_spec = spec_from_file_location("crash_stories", Path(__file__).parent / "crash_stories.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="crash_stories")
tale = module_from_spec(_spec)
_spec.loader.exec_module(tale)
crash = tale.crash

ALL = 50_000
STATES = int(os.environ.get("SECUREML_CRASH_STATES", "17000"))
"""How many disks are recovered, at least: 17,000, or with 50,000 all that are chosen below."""

Acts: TypeAlias = Callable[[Any], Any]


def told(actions: Acts) -> Callable[[Path], Iterator[Any]]:
    """Return a story in which nobody is killed."""

    def tell(base: Path) -> Iterator[Any]:
        story = tale.Story.begin(base)
        story.act(actions(story))
        yield story.close()

    return tell


def killed(actions: Acts, every: int) -> Callable[[Path], Iterator[Any]]:
    """Return stories in which one is killed at some call, and the machine stops later on."""

    def tell(base: Path) -> Iterator[Any]:
        base.mkdir()
        stop = 1
        while True:
            story = tale.Story.begin(base / f"{stop}")
            story.machine.stop = stop
            story.some = 0
            story.act(actions(story))
            if not story.start:
                return
            story.act(tale.a_later_process(story))
            yield story.close()
            stop += every

    return tell


def stopped(actions: Acts, every: int) -> Callable[[Path], Iterator[Any]]:
    """Return stories in which the machine stops, is started again, and stops later on."""

    def tell(base: Path) -> Iterator[Any]:
        before = tale.Story.begin(base)
        before.act(actions(before))
        before.close()
        crashes = crash.Crashes(before.machine.ops)
        for count in range(every, len(before.machine.ops), every):
            states = list(crashes.after(count))
            state = states[count % len(states)]
            again = base / f"again-{count}"
            again.mkdir()
            crash.place(state, again)
            machine = crash.Machine(again)
            machine.adopt(state)
            story = tale.Story(machine, tale.House(again, machine), start=len(machine.ops), some=0)
            story.lives |= before.lives
            sure = tale.before_count(before.acknowledged, count)
            story.acknowledged = [(0, writer, below) for writer, below in sure.items()]
            story.notes = [(0, note) for at, note in before.notes if at <= count]
            story.act(tale.a_later_process(story))
            yield story.close()

    return tell


STORIES: dict[str, tuple[Callable[[Path], Iterator[Any]], int, int, int]] = {
    "a short life": (told(tale.a_short_life), 1, 1_000, 1_000),
    "two writers": (told(tale.two_writers), 1, 3_800, 3_800),
    "long lines": (told(tale.long_lines), 1, 2_200, 2_200),
    "a sequencer that looks on": (told(tale.a_sequencer_that_looks_on), 1, 2_400, 2_400),
    "many segments": (told(tale.many_segments), 1, 3_900, 3_900),
    "a short life, killed": (killed(tale.a_short_life, 1), 8, 1_500, 24_000),
    "two writers, killed": (killed(tale.two_writers, 7), 12, 800, 11_000),
    "many segments, killed": (killed(tale.many_segments, 11), 9, 600, 8_500),
    "two writers, stopped": (stopped(tale.two_writers, 11), 7, 500, 7_000),
    "long lines, stopped": (stopped(tale.long_lines, 11), 3, 800, 10_500),
}
"""
The stories; of how many disks of each one is recovered; how many these are at least, and how many
on demand.  Of the later ones some 470,000 different disks are put together then.
"""


def test_the_stories_are_many() -> None:
    """All in all 50,000 different disks are recovered on demand, and 17,000 each time."""
    assert sum(few for _, _, few, _ in STORIES.values()) >= 17_000
    assert sum(many for _, _, _, many in STORIES.values()) >= ALL


@pytest.mark.parametrize("name", STORIES)
def test_every_crash(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a crash leaves the disk, the log has each acknowledged record exactly once."""
    # The names of the writers decide who comes first: a story is the same each time.
    monkeypatch.setattr(os, "urandom", random.Random(name).randbytes)  # noqa: S311  as it says
    tell, share, few, many = STORIES[name]
    every = 1 if share == 1 or STATES >= ALL else 24
    seen: set[int] = set()
    done = number = 0
    with crash.in_memory(tmp_path) as memory:
        for story in tell(memory / "life"):
            crashes = crash.Crashes(story.machine.ops, some=story.some)
            for count in range(story.start, len(story.machine.ops) + 1):
                number += 1
                if number % every:
                    continue
                sure = tale.before_count(story.acknowledged, count)
                notes = [note for at, note in story.notes if at <= count][-1:]
                for state in crashes.after(count):
                    key = hash((state, tuple(sure.items())))
                    if key in seen:
                        continue
                    seen.add(key)
                    if len(seen) % share:
                        continue
                    done += 1
                    here = memory / "here"
                    shutil.rmtree(here, ignore_errors=True)
                    here.mkdir()
                    crash.place(state, here)
                    try:
                        tale.judge(here, story, sure, notes, deep=done % 8 == 0)
                    except BaseException as error:
                        last = story.machine.ops[count - 1]
                        there = ", ".join(f"{path} {len(data or '')}" for path, data in state)
                        error.add_note(f"after call {count}, {last.kind} {last.path}: {there}")
                        raise
    print(f"{name}: {done:,} different disks recovered")  # noqa: T201  with -s
    assert done >= (many if STATES >= ALL else few)
