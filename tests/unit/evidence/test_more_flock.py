"""Locks: one holder, given back once, never through a link, and gone with the last descriptor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from secureml.errors import StoreError
from secureml.evidence import _flock
from secureml.evidence._flock import hold, is_held

ASK = "import sys; from pathlib import Path; from secureml.evidence._flock import is_held; "
ASK += "print(is_held(Path(sys.argv[1])))"


def seen(path: Path) -> bool:
    """Ask another process whether somebody holds the lock."""
    root = Path(_flock.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    return done.stdout == "True\n"


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    """Who asks second is refused, in this process and in others, until it is given back."""
    path = tmp_path / "lock"
    assert not is_held(path)
    assert not path.exists()
    held = hold(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert (is_held(path), seen(path)) == (True, True)
    with pytest.raises(BlockingIOError):
        hold(path)
    held.close()
    assert (is_held(path), seen(path)) == (False, False)
    hold(path).close()


def test_a_lock_is_given_back_once(tmp_path: Path) -> None:
    """A second time closes nothing: its number may be another file's by then."""
    held = hold(tmp_path / "lock")
    number = held.fd
    held.close()
    assert held.fd == -1
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    try:
        assert other == number
        held.close()
        os.fstat(other)
    finally:
        os.close(other)


def test_a_lock_that_nobody_has_is_free(tmp_path: Path) -> None:
    """It ends with the object, whoever forgets to close it."""
    held = hold(tmp_path / "lock")
    assert is_held(tmp_path / "lock")
    del held

    assert not is_held(tmp_path / "lock")


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    """Neither made nor looked at: the file is one of somebody's choice."""
    (tmp_path / "lock").symlink_to(tmp_path / "target")

    with pytest.raises(OSError, match="symbolic"):
        hold(tmp_path / "lock")
    (tmp_path / "target").touch()
    with pytest.raises(OSError, match="symbolic"):
        is_held(tmp_path / "lock")


def test_a_lock_on_a_file_that_was_just_removed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who removes the file between its opening and its locking leaves two with one lock."""
    path, real, left = tmp_path / "lock", _flock.fcntl.flock, [1]

    def flock(fd: int, how: int) -> None:
        if left:
            left.pop()
            path.unlink()
        real(fd, how)

    monkeypatch.setattr(_flock.fcntl, "flock", flock)
    held = hold(path)

    assert os.path.samestat(os.fstat(held.fd), path.stat())
    assert is_held(path)
    held.close()


def test_no_locks_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform has none, nothing is written as if it were safe."""
    monkeypatch.setattr(_flock, "HAS_LOCKS", False)

    with pytest.raises(StoreError, match="cannot be written on this platform"):
        hold(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


FORKS = """
import os, sys, threading, time
from pathlib import Path
from secureml.evidence._flock import hold, is_held

path, stop = Path(sys.argv[1]), threading.Event()


def churn():
    while not stop.is_set():
        hold(path).close()


thread = threading.Thread(target=churn)
thread.start()
children = []
read, write = os.pipe()
for _ in range(20):
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    children.append(child)
stop.set()
thread.join()
# A child that did not run yet has not let go yet.
deadline = time.monotonic() + 30
while is_held(path) and time.monotonic() < deadline:
    time.sleep(0.01)
print(is_held(path))
os.close(write)
for child in children:
    os.waitpid(child, 0)
"""


def test_a_fork_keeps_no_lock(tmp_path: Path) -> None:
    """Children made while a thread takes a lock hold none, as long as they live."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "lock")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(_flock.__file__).parents[2])},
    )

    assert done.stdout == "False\n"


HOLDS = """
import os, sys, time
from pathlib import Path
from secureml.evidence import _flock

path, kind = sys.argv[1], sys.argv[2]
file = _flock.lock(lambda: os.open(path, os.O_RDWR | os.O_CREAT))
if kind == "unknown":
    _flock._holds.clear()  # As of an object that the collector is just taking apart.
read, write = os.pipe()
ready, tell = os.pipe()
child = os.fork()
if not child:
    os.close(write)
    if kind == "unknown":
        file.close()
    os.write(tell, b"x")
    os.read(read, 1)
    if kind == "killed":
        # The system may close the pipe of who was killed before it gives back the lock.
        deadline = time.monotonic() + 10
        while _flock.is_held(Path(path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        print("then:", _flock.is_held(Path(path)), flush=True)
    os._exit(0)
os.read(ready, 1)
print("held by the parent:", _flock.is_held(Path(path)), flush=True)
if kind == "killed":
    os.kill(os.getpid(), 9)  # Its end of the pipe is closed with it.
file.close()
print("then:", _flock.is_held(Path(path)))
os.close(write)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("kind", ["known", "unknown", "killed"])
def test_a_child_has_no_part_in_a_lock_on_a_file(tmp_path: Path, kind: str) -> None:
    """It neither keeps what its parent gives back, nor gives back what its parent keeps."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HOLDS, str(tmp_path / "file"), kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["held by the parent: True", "then: False"], done.stderr


def test_a_lock_on_a_file_is_given_back_whoever_has_a_copy(tmp_path: Path) -> None:
    """A child made below Python keeps its copy of the descriptor, and no lock."""
    path = tmp_path / "file"
    held = _flock.lock(lambda: os.open(path, os.O_RDWR | os.O_CREAT))
    copy = os.dup(held.fd)
    try:
        held.close()
        assert not seen(path)
    finally:
        os.close(copy)


def test_a_file_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    """Who waited for a lock on a file that is gone has nothing."""
    path = tmp_path / "file"
    opened: list[int] = []

    def opens() -> int:
        opened.append(os.open(path, os.O_RDWR | os.O_CREAT))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    held = _flock.lock(opens)
    assert len(opened) == 2
    assert os.path.samestat(os.fstat(held.fd), path.stat())
    held.close()
