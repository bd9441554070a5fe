# ruff: noqa: ANN401, ARG001, ARG002  fixtures are of any type, and some arguments are not read
"""A record is there before the function runs, or before its result is, or it is counted."""

import asyncio
import os
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.errors import StoreError
from secureml.evidence._files import Files
from secureml.evidence.log import Log


class Disk(Files):
    """A disk that may break, be slow, and remembers which threads waited for it."""

    def __init__(self) -> None:
        self.broken = False
        self.delay = 0.0
        self.threads: set[int] = set()

    def sync(self, fd: int) -> None:
        """Wait, or fail."""
        self.threads.add(threading.get_ident())
        time.sleep(self.delay)
        if self.broken:
            raise OSError(5, "Input/output error")

    def sync_directory(self, path: Path) -> None:
        """Do the same."""
        self.sync(0)


@pytest.fixture
def disk(bench: Any) -> Iterator[Disk]:
    """Return the disk of a log that was opened again on it."""
    bench.log.close()
    made = Disk()
    bench.log = bench.open(files=made)
    yield made
    made.delay = 0
    if made.broken:
        made.broken = False
        with suppress(StoreError):
            bench.log.close()
        bench.log = bench.open()


def kinds(ran: list[str]) -> dict[str, Callable[..., Any]]:
    """Return a function of each kind, which says that it ran."""

    def plain(row: str) -> str:
        ran.append("function")
        return row

    async def waits(row: str) -> str:
        ran.append("coroutine")
        return row

    def stream(row: str) -> Iterator[str]:
        ran.append("generator")
        yield row

    async def astream(row: str) -> AsyncIterator[str]:
        ran.append("async-generator")
        yield row

    return {
        "function": plain,
        "coroutine": waits,
        "generator": stream,
        "async-generator": astream,
    }


KINDS = list(kinds([]))


def drive(kind: str, function: Callable[..., Any], row: str = "secret") -> Any:
    """Run a function of any kind to its end."""

    async def consume() -> list[object]:
        return [chunk async for chunk in function(row)]

    match kind:
        case "function":
            return function(row)
        case "coroutine":
            return asyncio.run(function(row))
        case "generator":
            return list(function(row))
        case _:
            return asyncio.run(consume())


@pytest.mark.parametrize("kind", KINDS)
def test_an_intent_comes_first(bench: Any, audited: Any, kind: str) -> None:
    """With require='before' an intent goes ahead, and the call's record names it."""
    seen: list[list[str]] = []
    function = kinds([])[kind]

    @audited(
        require="before",
        capture=["row"],
        user="row",
        session=audit_constant("s"),
        gates=["g"],
        target=("t", 1),
    )
    def nested(row: str) -> None:
        seen.append([record.type for record in bench.records()])

    nested("secret")
    found = drive(kind, audited(require="before", capture=["row"])(function))

    assert found in ("secret", ["secret"])
    assert seen == [["start", "intent"]]
    intents = {r.id: r for r in bench.records() if r.type == "intent"}
    calls = bench.calls()
    assert [intents[call.body["intent"]].type for call in calls] == ["intent", "intent"]
    for call in calls:
        intent = intents[call.body["intent"]]
        assert intent.body["in"] == call.body["in"]
        assert bench.value(intent, "row") == bench.value(call, "row") == "secret"
        assert intent.seq < call.seq
    first = intents[calls[0].body["intent"]]
    for name in ("actor", "session", "gates", "target", "call", "action"):
        assert first.body[name] == calls[0].body[name]


def audit_constant(value: str) -> Any:
    """Return a constant."""
    from secureml.audit.options import Constant

    return Constant(value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_kill_in_the_middle_leaves_the_intent(bench: Any, audited: Any) -> None:
    """Who was asked what is known of a call whose process was killed."""

    @audited(require="before", capture=["row"])
    def predict(row: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    bench.log.begin()
    child = os.fork()
    if not child:
        predict("question")
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert os.WTERMSIG(status) == signal.SIGKILL
    bench.log.publish()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [r for r in map(audit.Record.decode, bench.leaves()) if r.type == "intent"]
        if found:
            break
        time.sleep(0.05)
    (intent,) = found
    assert bench.value(intent, "row") == "question"
    assert not [r for r in map(audit.Record.decode, bench.leaves()) if r.type == "call"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_cannot_be_announced_is_refused(
    bench: Any, disk: Disk, audited: Any, kind: str
) -> None:
    """Where the intent does not reach the disk, the function does not run."""
    ran: list[str] = []
    function = audited(require="before")(kinds(ran)[kind])
    bench.log.begin()
    disk.broken = True

    with pytest.raises(StoreError):
        drive(kind, function)

    assert ran == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_durable_record_that_fails_stops_the_call(
    bench: Any, disk: Disk, audited: Any, kind: str
) -> None:
    """Where the record does not reach the disk, there is no result, and no last chunk."""
    ran: list[str] = []
    function = audited(durable=True)(kinds(ran)[kind])
    bench.log.begin()
    disk.broken = True

    with pytest.raises(StoreError):
        drive(kind, function)

    assert ran == [kind]


@pytest.mark.parametrize("ack", ["queued", "durable", "checkpointed"])
@pytest.mark.parametrize("require", ["before", "after"])
@pytest.mark.parametrize("kind", ["coroutine", "async-generator"])
def test_an_event_loop_waits_for_no_disk(
    bench: Any, disk: Disk, audited: Any, kind: str, require: str, ack: str
) -> None:
    """The loop's thread never syncs, and turns while records are waited for."""
    disk.delay = 0.02
    function = audited(require=require, ack=ack, capture=["row"], user="row")(kinds([])[kind])
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.001)

    async def main() -> object:
        ticking = asyncio.create_task(tick())
        try:
            if kind == "coroutine":
                return await asyncio.gather(*(function("x") for _ in range(3)))
            return [[chunk async for chunk in function("x")] for _ in range(3)]
        finally:
            await asyncio.sleep(0.005)
            ticking.cancel()

    found = asyncio.run(main())
    loop_thread = threading.get_ident()
    waited = set(disk.threads)

    assert found in (["x"] * 3, [["x"]] * 3)
    assert loop_thread not in waited
    assert max(b - a for a, b in pairwise(ticks)) < 0.5
    disk.delay = 0
    assert [record.outcome for record in bench.calls()] == ["ok"] * 3


def test_a_wait_that_is_cancelled_leaves_the_record(bench: Any, disk: Disk, audited: Any) -> None:
    """A task that is cancelled while its record is on the way is cancelled; the record stays."""

    @audited(durable=True)
    async def predict() -> str:
        return "result"

    async def main() -> None:
        disk.delay = 0.2
        task = asyncio.create_task(predict())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bench.log.begin()
    asyncio.run(main())
    disk.delay = 0

    assert [record.outcome for record in bench.calls()] == ["ok"]


def test_an_intent_that_is_cancelled(bench: Any, disk: Disk, audited: Any) -> None:
    """A call that is cancelled before it ran says so, under the intent that may be there."""
    ran: list[str] = []

    @audited(require="before")
    async def predict() -> None:
        ran.append("ran")

    async def main() -> None:
        disk.delay = 0.2
        task = asyncio.create_task(predict())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bench.log.begin()
    asyncio.run(main())
    disk.delay = 0

    (record,) = bench.calls()
    assert (record.outcome, record.body["error"]["stage"], ran) == ("cancelled", "before", [])
    assert record.body["intent"] in {r.id for r in bench.records() if r.type == "intent"}


class Moody(audit.AuditLog):
    """An audit log that accepts nothing while it is told so."""

    full = False

    def submit(self, *args: Any, **options: Any) -> Any:
        """Refuse, or accept."""
        if self.full:
            raise StoreError("no room", why="it is full", fix="wait")
        return super().submit(*args, **options)


@pytest.fixture
def moody(bench: Any) -> Moody:
    """Return a log that may refuse."""
    log = Log.open(
        bench.root / "audit",
        private=bench.private,
        origin="bench.example/audit",
        signer=bench.key,
        purpose="audit",
        create=True,
    )
    bench.log.close()
    bench.log = Moody(log, details=bench.details, private=bench.private)
    return bench.log


@pytest.mark.parametrize("options", [{"require": None}, {"on_failure": "gap"}])
@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_lost_is_counted(
    bench: Any, moody: Moody, kind: str, options: dict[str, Any]
) -> None:
    """The call goes on, warns once, and the next record is followed by a gap that counts."""
    function = audit.audited(moody, action="act", **options)(kinds([])[kind])

    drive(kind, function)
    moody.full = True
    with pytest.warns(RuntimeWarning, match="was not accepted") as caught:
        found = [drive(kind, function) for _ in range(5)]
    moody.full = False
    with audit.collect() as records:
        drive(kind, function)

    assert found[0] in ("secret", ["secret"])
    assert len(caught) == 1
    records_ = [audit.Record.decode(leaf) for leaf in bench.leaves()]
    (gap,) = (r for r in records_ if r.type == "gap")
    assert gap.body["gap"]["dropped"] == 5
    assert gap.body["gap"]["first"] <= gap.body["gap"]["last"] <= gap.time
    assert len([r for r in records_ if r.type == "call"]) == 2
    assert len(records) == 1


def test_many_are_lost(bench: Any, moody: Moody) -> None:
    """However many there are, they are counted, and take no room."""
    function = audit.audited(moody, action="act", require=None)(lambda: 1)
    function()
    moody.full = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning that is an error is not the call's
        with audit.collect() as records:
            assert [function() for _ in range(2500)] == [1] * 2500
    function()
    moody.full = False
    function()

    gaps = [audit.Record.decode(leaf) for leaf in bench.leaves() if b'"gap"' in leaf]
    assert [gap.body["gap"]["dropped"] for gap in gaps] == [2501]  # type: ignore[index, call-overload]
    assert [record.index for record in records[:2]] == [None, None]


def test_a_call_that_requires_nothing_never_raises(bench: Any, audited: Any) -> None:
    """What cannot be captured is left out, and the record says that it is."""
    seen: list[object] = []

    @audited(require=None, capture=["row"], user="row")
    def bad_input(row: object) -> object:
        seen.append(row)
        return row

    @audited(require=None, capture=["return.score"])
    def bad_output() -> object:
        return {"points": object()}

    @audited(require=None, capture=["yield", "a"])
    def bad_chunk(a: int) -> Iterator[object]:
        yield 1
        yield object()
        yield 3

    thing = object()
    assert bad_input(thing) is thing
    assert set(bad_output()) == {"points"}
    assert len(list(bad_chunk(1))) == 3

    first, second, third = bench.calls()
    for record in (first, second, third):
        assert (record.outcome, record.body["error"]["stage"]) == ("ok", "capture")
    assert first.commitments == second.commitments == {}
    assert third.commitments.keys() == {"a"}
    assert third.body["stream"]["chunks"] == 3
    assert "digest" not in third.body["stream"]


@pytest.mark.parametrize("require", ["before", "after", None])
def test_what_a_call_may_wait_for(bench: Any, audited: Any, require: str | None) -> None:
    """A plain function waits where it is called; whatever is required, the result is the same."""
    options = {} if require is None else {"ack": "checkpointed"}

    with audit.collect() as records:
        assert audited(require=require, **options)(lambda: "result")() == "result"

    if require is not None:
        assert records[0].index is not None
    assert [record.outcome for record in bench.calls()] == ["ok"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"require": "never"}, "require is 'before', 'after' or None"),
        ({"ack": "soon"}, "ack is one of"),
        ({"on_failure": "ignore"}, "on_failure is"),
        ({"require": None, "durable": True}, "waits for nothing"),
        ({"require": None, "ack": "witnessed"}, "waits for nothing"),
        ({"require": "before", "on_failure": "gap"}, "refuses a call"),
        ({"max_capture": -1}, "from 0 to"),
        ({"max_capture": 1 << 24}, "from 0 to"),
    ],
)
def test_choices_that_contradict_each_other(
    audited: Any, options: dict[str, Any], text: str
) -> None:
    """A choice that cannot be kept is refused when the function is decorated."""
    with pytest.raises(ValueError, match=text):
        audited(**options)


def test_bytes_are_counted_in_whole_numbers(audited: Any) -> None:
    """max_capture is a number of bytes."""
    for size in ("1", 1.0, True):
        with pytest.raises(TypeError, match="number of bytes"):
            audited(max_capture=size)


def test_a_record_that_does_not_fit_is_one_all_the_same(bench: Any, audited: Any) -> None:
    """Where members leave no room for captured values, the record says so, and the call raises."""
    gates = [{"name": "g" * 500, "result": "passed"} for _ in range(200)]

    @audited(gates=lambda: gates[:120], capture=["row", "return"])
    def fits(row: int) -> int:
        return row

    names = [f"row.k{n:03}" for n in range(30)]
    row = {f"k{n:03}": n for n in range(30)}

    @audited(gates=lambda: gates[:118], capture=names)
    def predict(row: dict[str, int]) -> str:
        return "result"

    fits(1)
    with pytest.raises(ValueError, match="would have more than 65535 bytes"):
        predict(row)

    first, second = bench.calls()
    assert first.outcome == "ok"
    assert (second.outcome, second.body["error"]["stage"]) == ("error", "capture")
    assert second.commitments == {}


class Slow(audit.AuditLog):
    """An audit log that takes its time, or takes nothing more after some records."""

    left = 1 << 30

    async def submit_async(self, *args: Any, **options: Any) -> Any:
        """Take the record, and never come as far as is asked."""
        self.submit(*args, **{**options, "ack": "queued"})
        raise TimeoutError

    def submit(self, *args: Any, **options: Any) -> Any:
        """Refuse after a while."""
        self.left -= 1
        if self.left < 0:
            raise StoreError("no room", why="it is full", fix="wait")
        return super().submit(*args, **options)


@pytest.fixture
def slow(bench: Any) -> Slow:
    """Return a log that takes its time."""
    bench.log.close()
    plain = bench.open()
    bench.log = Slow(plain.log, details=bench.details, private=bench.private)
    return bench.log


def test_a_log_that_is_late_is_not_a_time_limit_of_the_function(bench: Any, slow: Slow) -> None:
    """An acknowledgement that does not come in time is the log's error; the record stays."""

    @audit.audited(slow, action="act", durable=True)
    async def predict() -> str:
        return "result"

    with pytest.raises(StoreError, match="accepted, but not durable yet") as caught:
        asyncio.run(predict())

    assert caught.value.retryable
    assert [record.outcome for record in bench.calls()] == ["ok"]


def test_a_gap_that_cannot_be_written_stays_due(bench: Any, slow: Slow) -> None:
    """What was lost is told of once the log takes that too."""
    predict = audit.audited(slow, action="act", require=None)(lambda: 1)
    slow.left = 0
    with pytest.warns(RuntimeWarning, match="not accepted"):
        predict()
    slow.left = 1
    predict()
    slow.left = 10
    predict()

    gaps = [audit.Record.decode(leaf) for leaf in bench.leaves() if b'"gap"' in leaf]
    assert [gap.body["gap"]["dropped"] for gap in gaps] == [1]  # type: ignore[index, call-overload]
    assert len(bench.calls()) == 2


def test_a_result_that_cannot_be_captured_while_a_loop_runs(bench: Any, audited: Any) -> None:
    """A coroutine whose result has no encoding raises, and is recorded as an error."""

    @audited(capture=["return"])
    async def predict() -> object:
        return object()

    with pytest.raises(TypeError, match="'return' is of type object"):
        asyncio.run(predict())

    assert [r.body["error"]["stage"] for r in bench.calls()] == ["capture"]


def test_a_call_that_is_cancelled_before_its_inputs_were_read(bench: Any, audited: Any) -> None:
    """A cancellation while a subject's key is made is recorded; the function did not run."""
    ran: list[str] = []

    def subject() -> str:
        time.sleep(0.1)
        return "ann"

    @audited(subject=subject, capture=["row"])
    async def predict(row: int) -> None:
        ran.append("ran")

    async def main() -> None:
        task = asyncio.create_task(predict(1))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bench.log.begin()
    asyncio.run(main())

    found = [r for r in map(audit.Record.decode, bench.leaves()) if r.type == "call"]
    assert [(r.outcome, r.body["error"]["stage"]) for r in found] == [("cancelled", "before")]  # type: ignore[index, call-overload]
    assert ran == []


def test_a_field_is_a_path_a_constant_or_a_function(audited: Any) -> None:
    """Anything else is refused when the function is decorated."""
    for name in ("user", "session", "request", "tenant", "subject"):
        with pytest.raises(TypeError, match=f"'{name}' is a path"):
            audited(**{name: 5})(lambda row: row)
    with pytest.raises(TypeError, match="'target' is a mapping"):
        audited(target="account")(lambda row: row)
    assert audited(session=max, capture=["row"])(lambda row: row)
