"""
A system that fails, at every call and in every way: nothing acknowledged is lost for it.

The stories of the crash tests run on an operating system that refuses one
call, or many, or does half of it.  What fails is refused with an error of
ours and acknowledged by nobody; whoever is told that its spool takes no more
gives it up; the sequencer begins anew by itself.  Afterwards another process
finds the log in order.
"""

import errno
import os
from collections.abc import Callable, Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import SecureMLError

_spec = spec_from_file_location("crash_stories", Path(__file__).parent / "crash_stories.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="crash_stories")
tale = module_from_spec(_spec)
_spec.loader.exec_module(tale)


class Faults(tale.crash.Memory):  # type: ignore[misc, name-defined]  # the module is loaded by its path
    """
    An operating system that counts its calls, and fails at some of them.

    Attributes:
        ops: As many as there were calls.
        fails: Whether the call of that number and name fails.
        number: With which error.
        after: Whether it did what it was asked to, and says that it failed.
        short: Whether a write takes half of what it is offered.
    """

    def __init__(
        self,
        fails: Callable[[int, str], bool],
        number: int = errno.EIO,
        *,
        after: bool = False,
        short: bool = False,
    ) -> None:
        self.ops: list[str] = []
        self.fails = fails
        self.number = number
        self.after = after
        self.short = short

    def _do(self, name: str, call: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401  as it comes
        self.ops.append(name)
        failed = self.fails(len(self.ops), name)
        if failed and not self.after:
            raise OSError(self.number, os.strerror(self.number))
        done = call(*arguments)
        if failed:
            if name in {"create", "open_append"}:
                os.close(done)
            raise OSError(self.number, os.strerror(self.number))
        return done

    def _some(self, data: bytes | memoryview) -> bytes | memoryview:
        return data[: len(data) // 2] if self.short and len(data) > 1 else data

    def create(self, path: Path, mode: int) -> int:
        """Make a file."""
        return self._do("create", super().create, path, mode)

    def open_append(self, path: Path, mode: int) -> int:
        """Open a file."""
        return self._do("open_append", super().open_append, path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write some."""
        return self._do("write", super().write, fd, self._some(data))

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write some."""
        return self._do("write_at", super().write_at, fd, self._some(data), offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        self._do("truncate", super().truncate, fd, size)

    def sync(self, fd: int) -> None:
        """Sync a file."""
        self._do("sync", super().sync, fd)

    def sync_directory(self, path: Path) -> None:
        """Sync names."""
        self._do("sync_directory", super().sync_directory, path)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file."""
        self._do("rename", super().rename, source, target)

    def make_directory(self, path: Path, mode: int) -> None:
        """Make a directory."""
        self._do("make_directory", super().make_directory, path, mode)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        self._do("remove", super().remove, path)

    def remove_directory(self, path: Path) -> None:
        """Remove a directory."""
        self._do("remove_directory", super().remove_directory, path)


def lives(base: Path, files: Faults, actions: Callable[[Any], Any]) -> tuple[Any, int]:
    """Let a story happen on a faulty system; return it, and how often something was refused."""
    base.mkdir()
    story = tale.Story(files, tale.House(base, files))
    refused = 0
    for life, action in actions(story):
        if life is not None and not life.alive:
            continue
        try:
            action()
        except SecureMLError:
            refused += 1
            if life is not None:
                settle(life)
    for life in story.lives.values():
        # What it was told is true: these are on the disk, or under a checkpoint.
        told = max(life.spool.synced, life.spool.acknowledged())
        story.acknowledged.append((0, life.spool.writer, told))
    return story.close(), refused


def settle(life: Any) -> None:  # noqa: ANN401  as above
    """Do what a recorder does after an error: forget what is not in the spool, or the spool."""
    if life.spool is None:
        life.alive = False
        return
    count = life.spool.count
    del life.bodies[count:], life.lines[count:]
    if life.spool.broken or not count:
        life.die()


def judge(story: Any) -> None:  # noqa: ANN401  as above
    """Recover by another process, on a system that works."""
    sure = tale.before_count(story.acknowledged, 0)
    notes = [note for _, note in story.notes][-1:]
    tale.judge(story.house.base, story, sure, notes, deep=True)


def calls_of(tmp_path: Path, actions: Callable[[Any], Any]) -> list[str]:
    """Return the calls of a story in which nothing fails."""
    files = Faults(lambda *_: False)
    story, refused = lives(tmp_path / "well", files, actions)
    judge(story)
    assert refused == 0
    return files.ops


def at(place: int) -> Callable[[int, str], bool]:
    """Return a system that fails once."""
    return lambda n, _: n == place


def run(
    memory: Path, actions: Callable[[Any], Any], faults: Iterable[Callable[[], Faults]]
) -> tuple[int, int]:
    """Tell a story once for each fault; return how often it was told, and noticed."""
    told = noticed = 0
    for told, make in enumerate(faults, 1):
        story, refused = lives(memory / f"{told}", make(), actions)
        try:
            judge(story)
        except BaseException as error:
            error.add_note(f"fault {told}")
            raise
        noticed += refused > 0
    return told, noticed


@pytest.mark.parametrize("after", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("story", ["two_writers", "long_lines"])
def test_an_error_at_each_call(tmp_path: Path, story: str, after: bool) -> None:  # noqa: FBT001  a parameter
    """Any one call may fail, done or undone: nothing is lost, and the log goes on."""
    actions = getattr(tale, story)
    with tale.crash.in_memory(tmp_path) as memory:
        count = len(calls_of(memory, actions))
        faults = [lambda n=n: Faults(at(n), after=after) for n in range(1, count + 1)]
        told, noticed = run(memory, actions, faults)

    print(f"{story}: {told} calls failed once, {noticed} of them noticed")  # noqa: T201  with -s
    assert told > 150
    # Not to have removed or told something is made good later on, without an error.
    assert noticed > told * 0.8


@pytest.mark.parametrize("number", [errno.EINTR, errno.ENOSPC, errno.EDQUOT])
def test_other_errors(tmp_path: Path, number: int) -> None:
    """An interrupt that is reported, a full disk and a full quota are refusals like any other."""
    with tale.crash.in_memory(tmp_path) as memory:
        count = len(calls_of(memory, tale.two_writers))
        told, noticed = run(
            memory,
            tale.two_writers,
            [lambda n=n: Faults(at(n), number) for n in range(1, count + 1, 3)],
        )

    assert noticed > told * 0.8


NEEDS_ROOM = {"create", "open_append", "write", "write_at", "make_directory"}


@pytest.mark.parametrize("calls", [3, 20, 80])
def test_a_disk_that_is_full_for_a_while(tmp_path: Path, calls: int) -> None:
    """From some call on there is no room, then there is again: it goes on where it was."""

    def full(start: int) -> Callable[[int, str], bool]:
        return lambda n, name: start <= n < start + calls and name in NEEDS_ROOM

    with tale.crash.in_memory(tmp_path) as memory:
        count = len(calls_of(memory, tale.many_segments))
        told, noticed = run(
            memory,
            tale.many_segments,
            [lambda n=n: Faults(full(n), errno.ENOSPC) for n in range(1, count + 1, 3)],
        )

    assert told > 50
    assert noticed > told * 0.6


def test_short_writes_and_an_error(tmp_path: Path) -> None:
    """A system that takes half of each write, and then fails, leaves no half record."""
    with tale.crash.in_memory(tmp_path) as memory:
        files = Faults(lambda *_: False, short=True)
        story, refused = lives(memory / "short", files, tale.two_writers)
        judge(story)
        assert refused == 0
        places = range(1, len(files.ops) + 1, 7)
        told, noticed = run(
            memory, tale.two_writers, [lambda n=n: Faults(at(n), short=True) for n in places]
        )

    assert told > 100
    assert noticed > told * 0.8


@pytest.mark.parametrize("name", ["sync", "sync_directory", "write", "create", "rename"])
def test_what_never_works(tmp_path: Path, name: str) -> None:
    """Where one kind of call fails for good nothing is acknowledged, and nothing is damaged."""
    with tale.crash.in_memory(tmp_path) as memory:
        for start in (1, 40, 90, 150):
            files = Faults(lambda n, call, start=start: n >= start and call == name)
            story, refused = lives(memory / f"{name}-{start}", files, tale.two_writers)
            judge(story)
            assert refused
