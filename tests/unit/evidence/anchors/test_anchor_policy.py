"""The policy: who is asked when, and that nobody stops the log."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secureml.errors import (
    ConsistencyError,
    SecureMLError,
    SignatureError,
    StoreError,
    ThresholdError,
)
from secureml.evidence.anchors import Anchor, Anchors, CopyAnchor, Folder, Head, Receipt
from secureml.evidence.anchors.keeping import receipt_files, receipt_lines


@dataclass
class Told:
    """An anchor that does as it is told: an anchor of somebody else's making."""

    name: str
    kind: str = "copy"
    interval: float | None = None
    error: BaseException | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[int] = field(default_factory=list)
    note: str | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def submit(self, head: Head) -> Receipt:
        """Wait for the gate, then do as told."""
        self.asked.append(head.checkpoint.size)
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        values = {"place": "here", "until": "", "version": ""}
        return Receipt("copy", self.note or head.note, values)


class Time:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def settle(anchors: Anchors) -> None:
    """Wait until no anchor is at work."""
    end = time.monotonic() + 10
    while any(one.busy for one in anchors.status().anchors):
        assert time.monotonic() < end
        time.sleep(0.002)


def test_anchors_of_all_kinds_cover_a_log(
    make_log: Callable,
    make_witness: Callable,
    make_rekor: Callable,
    make_authority: Callable,
    tmp_path: Path,
) -> None:
    """One call shows the checkpoint to everybody, and keeps what they gave."""
    log = make_log(3)
    ones = [make_witness(log.trust, f"w{n}") for n in range(3)]
    others = [make_rekor().anchor, make_authority().anchor]
    others.append(CopyAnchor(name="copy", store=Folder(tmp_path / "share")))
    anchors = Anchors(
        required=[one.anchor for one in ones],
        optional=others,
        verifiers=[log.signer.verifier],
    )

    result = anchors.anchor(log.log).enforce()

    assert (result.size, result.anchored_size, anchors.window) == (3, 3, 0.0)
    assert not result.errors
    assert sorted(result.receipts) == ["copy", "rekor", "tsa", "w0", "w1", "w2"]
    kept = dict(receipt_files(log.directory.parent / "anchors" / "log"))
    assert sorted(kept) == sorted(result.receipts)
    for name, path in kept.items():
        ((number, line),) = receipt_lines(path)
        assert (number, result.receipts[name]) == (1, Receipt.decode(line or b""))
    assert isinstance(others[0], Anchor)


def test_a_quorum_is_enough(make_log: Callable, make_witness: Callable) -> None:
    """Two of three witnesses cover the log; the third is reported."""
    log = make_log(3)
    ones = [make_witness(log.trust, f"w{n}") for n in range(3)]
    ones[1].server.close()
    anchors = Anchors(required=[one.anchor for one in ones], quorum=2)

    result = anchors.anchor(log.log).enforce()

    assert result.anchored_size == 3
    assert ["w1"] == list(result.errors)
    status = {one.name: one for one in anchors.status().anchors}
    assert (status["w1"].failures, status["w1"].size, status["w0"].failures) == (1, 0, 0)
    assert "did not answer" in (status["w1"].error or "")
    ones[1].server.httpd.server_close()


def test_too_few_are_not_enough(make_log: Callable, make_witness: Callable) -> None:
    """Below the quorum the result raises, with each reason."""
    log = make_log(3)
    one = make_witness(log.trust, "w0")
    anchors = Anchors(required=[one.anchor, Told("b", error=_dead()), Told("c", error=_dead())])

    with pytest.raises(ThresholdError, match="not anchored") as caught:
        anchors.anchor(log.log).enforce()

    assert "b: " in caught.value.why
    assert (anchors.anchored_size, anchors.last_anchored_size) == (0, 3)


def test_a_step_never_waits(make_log: Callable, make_witness: Callable) -> None:
    """A witness that takes its time delays no step, and the others go on."""
    log = make_log(3)
    slow, quick = make_witness(log.trust, "slow", delay=0.7), make_witness(log.trust, "quick")
    anchors = Anchors(required=[slow.anchor, quick.anchor])

    begun = time.monotonic()
    for _ in range(20):
        anchors.step(log.log)
    spent = time.monotonic() - begun

    assert spent < 0.5
    assert anchors.wait(3, timeout=10)
    assert len(slow.server.requests) == 1
    assert anchors.window == 0.0


def test_an_interval_is_kept(make_log: Callable) -> None:
    """A checkpoint is shown once an interval, and a log that rests not at all."""
    log, clock = make_log(1), Time()
    one, seldom = Told("a"), Told("b", interval=600.0)
    anchors = Anchors(required=[one], optional=[seldom], interval=60, monotonic=clock)
    for _ in range(125):
        anchors.step(log.log)
        settle(anchors)
        log.grow(1)
        clock.now += 1
    for _ in range(125):
        anchors.step(log.log)
        settle(anchors)
        clock.now += 1

    assert [1, 61, 121, 126] == one.asked
    assert [1] == seldom.asked


def test_who_waits_is_served_at_once(make_log: Callable) -> None:
    """A size that somebody waits for is anchored now, once a second at most."""
    log, clock = make_log(1), Time()
    one, other = Told("a"), Told("b")
    anchors = Anchors(required=[one], optional=[other], monotonic=clock)
    anchors.step(log.log)
    settle(anchors)
    for _ in range(30):
        log.grow(1)
        anchors.step(log.log, wanted=log.log.size)
        settle(anchors)
        clock.now += 0.25

    assert [1, 6, 10, 14, 18, 22, 26, 30] == one.asked
    assert [1] == other.asked
    anchors.step(log.log, wanted=10**9)
    settle(anchors)
    asked = len(one.asked)
    anchors.step(log.log, wanted=10**9)
    assert asked == len(one.asked)


def test_those_that_count_go_together(make_log: Callable) -> None:
    """When one required anchor is due, the others are shown the same checkpoint."""
    log, clock = make_log(1), Time()
    one, two, seldom = Told("a"), Told("b", error=_dead()), Told("c", interval=600.0)
    anchors = Anchors(required=[one, two, seldom], quorum=1, monotonic=clock)
    for second in range(130):
        if second == 5:
            two.error = None
        anchors.step(log.log)
        settle(anchors)
        log.grow(1)
        clock.now += 1

    assert [1, 61, 121] == one.asked
    assert [1, 2, 4, 8, 61, 121] == two.asked
    assert [1] == seldom.asked


def test_failures_are_tried_again_with_patience(make_log: Callable) -> None:
    """After a failure the next attempts come later and later, up to the interval."""
    log, clock = make_log(1), Time()
    one = Told("a", error=_dead())
    anchors = Anchors(required=[one], interval=16, monotonic=clock)
    tried = []
    for _ in range(70):
        before = len(one.asked)
        anchors.step(log.log, wanted=1)
        settle(anchors)
        if len(one.asked) > before:
            tried.append(clock.now - 1_000)
        clock.now += 1
    assert tried == [0, 1, 3, 7, 15, 31, 47, 63]
    assert anchors.status().anchors[0].failed == 8
    assert anchors.window is None
    one.error = None
    clock.now += 20

    anchors.step(log.log)
    settle(anchors)

    status = anchors.status()
    assert (status.anchored_size, status.anchors[0].failures, status.anchors[0].error) == (
        1,
        0,
        None,
    )


def test_the_window_is_the_time_since_the_last_checkpoint(make_log: Callable) -> None:
    """What was published since can be rewritten unseen: the status says for how long."""
    log, clock = make_log(1), Time()
    one, two = Told("a"), Told("b")
    anchors = Anchors(required=[one, two], quorum=1, monotonic=clock)
    assert anchors.window is None
    anchors.step(log.log)
    settle(anchors)
    clock.now += 5
    assert anchors.window == 0.0
    log.grow(1)

    anchors.step(log.log)

    assert anchors.window == 5.0
    clock.now -= 100
    assert anchors.window == 0.0


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError(), OSError(5, "I/O"), None])
def test_an_anchor_s_bug_stops_nobody(make_log: Callable, error: Exception | None) -> None:
    """Whatever an anchor raises or returns is a failure of that anchor."""
    log = make_log(1)
    old = log.log.checkpoint_note()
    log.grow(1)
    bad = Told("bad", error=error, note=old)
    anchors = Anchors(required=[Told("good")], optional=[bad])

    result = anchors.anchor(log.log).enforce()

    assert isinstance(result.errors["bad"], StoreError)
    assert "way of its own" in result.errors["bad"].what


def test_an_alarm_is_kept(make_log: Callable, make_witness: Callable) -> None:
    """Another history is an alarm that stays, and is raised by who asks."""
    log = make_log(8)
    one = make_witness(log.trust)
    one.anchor.submit(Head.read(log.log))
    other = make_log(9, name="other", signer=log.signer, begin=3)
    anchors = Anchors(required=[one.anchor])

    with pytest.raises(ConsistencyError, match="another history"):
        anchors.anchor(other.log).enforce()

    assert "another history" in anchors.status().alarms[0]
    assert "SML206" in anchors.status().alarms[0]


def test_a_log_that_shrinks_under_our_eyes_is_an_alarm(make_log: Callable) -> None:
    """A checkpoint smaller than one that was anchored needs no witness to be noticed."""
    log = make_log(3)
    older = log.log.checkpoint_note()
    log.grow(3)
    anchors = Anchors(required=[Told("a")])
    anchors.anchor(log.log).enforce()
    (log.directory / "checkpoint").write_text(older)

    anchors.step(log.log)

    assert "shorter" in anchors.status().alarms[0]


def test_a_receipt_that_cannot_be_kept_does_not_count(make_log: Callable, tmp_path: Path) -> None:
    """An anchor without its receipt on the disk is none."""
    log = make_log(3)
    (tmp_path / "full").write_text("")
    anchors = Anchors(required=[Told("a")], directory=tmp_path / "full")

    result = anchors.anchor(log.log)

    assert result.anchored_size == 0
    assert isinstance(result.errors["a"], StoreError)


def test_a_checkpoint_that_cannot_be_read_is_reported(make_log: Callable) -> None:
    """A step reports it and goes on; a call raises it."""
    log = make_log(3)
    one = Told("a")
    anchors = Anchors(required=[one], verifiers=lambda: [log.signer.verifier])
    good = (log.directory / "checkpoint").read_text()
    stranger = make_log(3, name="other")
    (log.directory / "checkpoint").write_text(stranger.log.checkpoint_note())

    anchors.step(log.log)

    assert "not signed" in (anchors.status().error or "")
    with pytest.raises(SignatureError):
        anchors.anchor(log.log)
    assert not one.asked
    (log.directory / "checkpoint").write_text(good)
    anchors.anchor(log.log).enforce()
    anchors.step(log.log)
    assert anchors.status().error is None


def test_a_call_ends_in_time(make_log: Callable) -> None:
    """A slow anchor is left at work, and said to be."""
    log = make_log(3)
    slow = Told("slow")
    slow.gate.clear()
    anchors = Anchors(required=[Told("quick")], optional=[slow])
    begun = time.monotonic()

    result = anchors.anchor(log.log, timeout=0.3).enforce()

    assert time.monotonic() - begun < 3
    assert "still being asked" in result.errors["slow"].what
    assert anchors.status().anchors[1].busy
    slow.gate.set()
    anchors.close(timeout=5)
    assert anchors.last_anchored_size == 3
    assert anchors.status().anchors[1].size == 3


def test_a_call_anchors_the_present_head_after_an_older_one(make_log: Callable) -> None:
    """An anchor that is busy with an older checkpoint is shown the new one after it."""
    log = make_log(3)
    slow = Told("slow")
    slow.gate.clear()
    anchors = Anchors(required=[slow])
    anchors.step(log.log)
    log.grow(2)
    threading.Timer(0.2, slow.gate.set).start()

    result = anchors.anchor(log.log, timeout=10).enforce()

    assert [3, 5] == slow.asked
    assert result.receipts["slow"].head.size == 5


def test_optional_anchors_alone_never_make_a_quorum(make_log: Callable) -> None:
    """Without a required anchor nothing counts, and the window is that of any."""
    log = make_log(3)
    anchors = Anchors(optional=[Told("a")])

    result = anchors.anchor(log.log)

    assert (anchors.anchored_size, anchors.last_anchored_size, anchors.window) == (0, 3, 0.0)
    with pytest.raises(ThresholdError):
        result.enforce()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"required": [Told("a")], "optional": [Told("a")]},
        {"required": [Told("a")], "quorum": 0},
        {"required": [Told("a")], "quorum": 2},
        {"optional": [Told("a")], "quorum": 1},
        {"required": [Told("a")], "interval": 0.5},
        {"required": [Told("a", interval=0)]},
    ],
    ids=["none", "twice", "0 of 1", "2 of 1", "1 of 0", "often", "always"],
)
def test_a_policy_can_be_met(values: dict[str, object]) -> None:
    """A policy that names nobody, counts twice or asks too often is the caller's bug."""
    with pytest.raises(ValueError, match=r"anchor"):
        Anchors(**values)  # type: ignore[arg-type]


def test_anchors_are_of_one_log(make_log: Callable) -> None:
    """Another log than before is the caller's bug, and so is a step after the end."""
    log, other = make_log(1), make_log(1, name="other", origin="other.example")
    anchors = Anchors(required=[Told("a")])
    anchors.anchor(log.log)

    with pytest.raises(ValueError, match="of the log"):
        anchors.step(other.log)
    anchors.close()
    with pytest.raises(ValueError, match="closed"):
        anchors.step(log.log)
    with pytest.raises(ValueError, match="closed"):
        anchors.anchor(log.log)


def test_an_empty_log_has_nothing_to_anchor(make_log: Callable) -> None:
    """A log of no entries is anchored by nobody."""
    log = make_log(0)
    one = Told("a")
    anchors = Anchors(required=[one])

    anchors.anchor(log.log).enforce()
    anchors.step(log.log)

    assert not one.asked
    assert "anchored 0 of 0" in repr(anchors)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_of_a_fork_begins_anew(make_log: Callable, tmp_path: Path) -> None:
    """A child has none of its parent's threads, nor their locks, and anchors for itself."""
    log = make_log(3)
    slow = Told("slow")
    slow.gate.clear()
    anchors = Anchors(required=[slow], directory=tmp_path / "receipts")
    anchors.step(log.log)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with anchors._state.changed:
            held.set()
            free.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        slow.gate = threading.Event()
        slow.gate.set()
        result = anchors.anchor(log.log, timeout=5)
        (tmp_path / "child").write_text(json.dumps(result.anchored_size))
        os._exit(0)
    free.set()
    holder.join()
    os.waitpid(child, 0)
    slow.gate.set()
    anchors.close(timeout=5)

    assert "3" == (tmp_path / "child").read_text()
    lines = [
        line for _, path in receipt_files(tmp_path / "receipts") for line in receipt_lines(path)
    ]
    assert len(lines) == 2


def _dead() -> SecureMLError:
    return StoreError("it is dead", why="it does not answer", fix="wait", retryable=True)
