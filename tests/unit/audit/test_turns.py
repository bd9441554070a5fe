"""Threads that wait for the disk together share its syncs."""

import threading
import time
from pathlib import Path

from secureml import keys
from secureml.audit import AuditLog
from secureml.audit._turns import Turns
from secureml.evidence._files import Files
from secureml.evidence.log import Log


class Slow(Files):
    """A disk that takes 5 ms."""

    def sync(self, fd: int) -> None:
        """Take a while."""
        super().sync(fd)
        time.sleep(0.005)


def test_threads_share_syncs(tmp_path: Path) -> None:
    """Eight threads with five durable records each need far fewer syncs than records."""
    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    private = tmp_path / "private"
    log = AuditLog(
        Log.open(
            tmp_path / "audit",
            origin="turns.example",
            signer=signer,
            purpose="audit",
            private=private,
            create=True,
            files=Slow(),
        ),
        details=tmp_path / "details",
        private=private,
    )
    log.begin()
    recorder = log._recorder
    assert recorder is not None
    synced: list[int] = []
    real = recorder.spool.sync

    def sync() -> None:
        before = recorder.spool.synced
        real()
        synced.append(recorder.spool.synced - before)

    recorder.spool.sync = sync  # type: ignore[method-assign]

    def work() -> None:
        for _ in range(5):
            done = log.append({"config": {"name": "x"}, "type": "config"}, durable=True)
            assert 0 <= done.number < recorder.spool.synced

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()

    shared = [count for count in synced if count]
    assert sum(shared) >= 40
    assert len(shared) <= 20


def test_one_that_is_done_does_not_wait() -> None:
    """Whoever is done when it would wait goes on at once."""
    began = time.monotonic()

    Turns().wait(lambda: True)

    assert time.monotonic() - began < 0.04


def test_all_who_wait_are_called() -> None:
    """A call reaches everybody, long before they would look again."""
    turns = Turns()
    done: list[int] = []

    def work() -> None:
        while not done:
            turns.wait(lambda: bool(done))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    done.append(1)
    turns.call()
    for thread in threads:
        thread.join(1.0)

    assert not any(thread.is_alive() for thread in threads)


def test_a_fast_disk_is_not_waited_for() -> None:
    """Where a sync takes no time, nobody is gathered first."""
    turns = Turns()
    turns.group, turns.took = 16, 0.0001
    began = time.monotonic()

    turns.gather([])

    assert time.monotonic() - began < 0.04


def test_gathering_ends() -> None:
    """An eighth of a sync is the longest that one waits for others."""
    turns = Turns()
    turns.group, turns.took = 16, 0.16
    began = time.monotonic()

    turns.gather([])

    assert 0.019 < time.monotonic() - began < 0.16
