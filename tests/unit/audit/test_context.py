# ruff: noqa: ANN401  fixtures are of any type
"""What surrounds a call is in its record, wherever the call runs."""

import asyncio
import functools
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from secureml import audit
from secureml.audit.context import carry, context, wrap_executor
from secureml.audit.options import Constant
from secureml.wire.digest import Digest

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SPAN = {"span_id": "00f067aa0ba902b7", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DIGEST = Digest.sha256(b"faces")
MEMBERS = (
    "period", "refdb", "request", "retention_class", "session", "source", "target", "tenant",
    "trace",
)  # fmt: skip


def said(record: audit.Record) -> dict[str, Any]:
    """Return the members of a record that a context may give."""
    return {name: record.body[name] for name in MEMBERS if name in record.body}


def test_everything_that_can_be_said(bench: Any, audited: Any) -> None:
    """Each field of a context is in the record, in the form of the specification."""
    predict = audited()(lambda: None)

    with context(
        user="alice",
        session="s-1",
        request=uuid.UUID(int=1),
        tenant=7,
        trace=TRACE,
        retention_class="eu-ai-act",
        period=(NOON, NOON + timedelta(hours=1)),
        refdb=("faces", DIGEST),
        source={"host": "edge-1", "address": "dock 4"},
        target=("account", "A-1"),
    ):
        predict()
    predict()

    inside, outside = bench.calls()
    assert inside.actor == bench.log.pseudonyms.of("alice")
    assert said(inside) == {
        "period": {"end": "2026-11-22T13:00:00.000000Z", "start": "2026-11-22T12:00:00.000000Z"},
        "refdb": {"digest": str(DIGEST), "name": "faces"},
        "request": "00000000-0000-0000-0000-000000000001",
        "retention_class": "eu-ai-act",
        "session": "s-1",
        "source": {"address": "dock 4", "host": "edge-1"},
        "target": {"id": "A-1", "type": "account"},
        "tenant": "7",
        "trace": SPAN,
    }
    assert (outside.actor, said(outside)) == (None, {})


def test_functions_in_one_context_say_their_own(bench: Any, audited: Any) -> None:
    """What one function made of a context is not what another one, or another call, says."""
    north = audited(tenant=Constant("north"))(lambda: None)
    south = audited(tenant=Constant("south"))(lambda: None)
    named = audited(user="who", session="at")(lambda who, at: None)  # noqa: ARG005  read by path

    with context(user="alice", session="s-1", tenant="west"):
        for function in (north, north, south, north):
            function()
        for who in ("bob", "carol"):
            named(who, f"s-{who}")
        north()
    with context(user="dave"):
        north()

    of = bench.log.pseudonyms.of
    assert [(r.actor, said(r)) for r in bench.calls()] == [
        (of(who), {"tenant": tenant} | ({"session": session} if session else {}))
        for who, tenant, session in (
            ("alice", "north", "s-1"),
            ("alice", "north", "s-1"),
            ("alice", "south", "s-1"),
            ("alice", "north", "s-1"),
            ("bob", "west", "s-bob"),
            ("carol", "west", "s-carol"),
            ("alice", "north", "s-1"),
            ("dave", "north", ""),
        )
    ]


def test_inner_contexts_add_and_win(bench: Any, audited: Any) -> None:
    """A context inside another adds to it, and wins where both speak; it ends with its block."""
    predict = audited()(lambda: None)
    outer = context(user="alice", session="outer", tenant="north")

    with outer:
        with context(session="inner", request="r"):
            predict()
        with outer:  # once more, inside itself
            predict()
        predict()

    first, second, third = bench.calls()
    assert said(first) == {"request": "r", "session": "inner", "tenant": "north"}
    assert said(second) == said(third) == {"session": "outer", "tenant": "north"}
    assert first.actor == third.actor == bench.log.pseudonyms.of("alice")


def test_the_decorator_wins(bench: Any, audited: Any) -> None:
    """What the decorator says of a field stands against what surrounds the call."""

    @audited(user="who", session="job.session", tenant=Constant("south"), request=lambda: "mine")
    def predict(who: str, job: dict[str, str]) -> None: ...

    with context(user="alice", session="s", request="r", tenant="north", retention_class="x"):
        predict("bob", {"session": "own"})

    (record,) = bench.calls()
    assert record.actor == bench.log.pseudonyms.of("bob")
    assert said(record) == {
        "request": "mine",
        "retention_class": "x",
        "session": "own",
        "tenant": "south",
    }


def test_functions_get_the_arguments(bench: Any, audited: Any) -> None:
    """A function that takes something takes what the call was given."""

    @audited(
        target=lambda row, *, user: ("account", f"{row}-{user}"),
        source=lambda: "edge",
        refdb=lambda *_, **__: None,
        user=Constant("service"),
        period=NOON,
    )
    def predict(row: int, *, user: str) -> None: ...

    predict(5, user="u")

    (record,) = bench.calls()
    assert record.actor == bench.log.pseudonyms.of("service")
    assert said(record) == {
        "period": {"start": "2026-11-22T12:00:00.000000Z"},
        "source": {"host": "edge"},
        "target": {"id": "5-u", "type": "account"},
    }


def test_it_follows_tasks_and_await(bench: Any, audited: Any) -> None:
    """Concurrent requests do not see each other's fields."""

    @audited()
    async def predict() -> None:
        await asyncio.sleep(0)

    async def request(number: int) -> None:
        async with context(request=number):
            await asyncio.sleep(0.001 * (number % 3))
            await asyncio.gather(predict(), predict())

    async def main() -> None:
        await asyncio.gather(*(request(n) for n in range(6)))

    asyncio.run(main())

    found = sorted(said(record)["request"] for record in bench.calls())
    assert found == sorted(str(n) for n in range(6) for _ in range(2))


def test_a_stream_says_where_it_began(bench: Any, audited: Any) -> None:
    """A stream's record names the context of its first step, wherever it ends."""

    @audited()
    def stream() -> Iterator[int]:
        yield 1
        yield 2

    @audited()
    async def waits() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        with context(request="begin"):
            running = waits()
            await anext(running)
        with context(request="end"):
            await running.aclose()  # type: ignore[attr-defined]

    with context(request="begin"):
        running = stream()
        next(running)
    with context(request="end"):
        running.close()  # type: ignore[attr-defined]
    asyncio.run(main())

    assert ["begin", "begin"] == [said(record)["request"] for record in bench.calls()]


def test_threads_of_a_pool(bench: Any, audited: Any) -> None:
    """A pool sees nothing by itself; wrapped, it sees who submitted, and so does `carry`."""

    @audited()
    def inner(n: int) -> int:
        return n

    @audited(action="outer")
    def outer(pool: Any) -> list[int]:
        with context(request="r"):
            carried = carry(inner)
            bare = pool.submit(inner, 0).result()
            wrapped = wrap_executor(pool)
            return [
                bare,
                *pool.map(carried, [1, 2]),
                *wrapped.map(inner, [3, 4]),
                wrapped.submit(inner, n=5).result(),
            ]

    async def main(pool: Any) -> int:
        with context(request="loop"):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(wrap_executor(pool), functools.partial(inner, 6))

    with ThreadPoolExecutor(2) as pool:
        assert [0, 1, 2, 3, 4, 5] == outer(pool)
        assert asyncio.run(main(pool)) == 6

    found = [said(record).get("request") for record in bench.calls() if record.action == "act"]
    assert sorted(map(str, found)) == ["None", "loop", "r", "r", "r", "r", "r"]
    parents = {r.body.get("parent") for r in bench.calls() if said(r).get("request") == "r"}
    assert parents == {next(r.id for r in bench.calls() if r.action == "outer")}


def test_a_wrapped_pool_is_the_pool() -> None:
    """What else a pool has and does is the pool's own."""
    with wrap_executor(ThreadPoolExecutor(1, thread_name_prefix="mine")) as pool:
        assert pool._thread_name_prefix == "mine"  # type: ignore[attr-defined]
        assert pool.submit(max, 1, 2).result() == 2
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(max, 1, 2)
    pool.shutdown(wait=True, cancel_futures=True)


def test_other_processes_are_out_of_reach() -> None:
    """A pool of processes is refused: no context gets there."""
    with ProcessPoolExecutor(1) as pool, pytest.raises(TypeError, match="pools of threads"):
        wrap_executor(pool)
    with pytest.raises(TypeError, match="pools of threads"):
        wrap_executor("pool")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TRACE, True),
        (TRACE.replace("00-", "cc-", 1) + "-more", True),
        (TRACE + "-more", False),
        (TRACE.replace("00-", "ff-", 1), False),
        (TRACE.upper(), False),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", False),
        ("", False),
        (TRACE + "\n", False),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(
    bench: Any,
    audited: Any,
    given: str,
    kept: bool,  # noqa: FBT001  a test's value
) -> None:
    """A malformed header is left out, for anybody may have written it."""
    with context(trace=given):
        audited()(lambda: None)()

    (record,) = bench.calls()
    assert said(record) == ({"trace": SPAN} if kept else {})


def test_the_current_span_of_opentelemetry(bench: Any, audited: Any) -> None:
    """A valid current span wins over a header; nothing is imported to find it."""
    pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace import TracerProvider

    predict = audited()(lambda: None)
    tracer = TracerProvider().get_tracer("test")
    with context(trace=TRACE):
        with tracer.start_as_current_span("span") as span:
            predict()
        predict()
    found = span.get_span_context()

    inside, outside = bench.calls()
    assert said(inside)["trace"] == {
        "span_id": f"{found.span_id:016x}",
        "trace_id": f"{found.trace_id:032x}",
    }
    assert said(outside)["trace"] == SPAN


def test_opentelemetry_is_not_imported(bench: Any, audited: Any, monkeypatch: Any) -> None:
    """Where it is not loaded, or half loaded, there is no span, and no import."""
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    predict = audited()(lambda: None)

    predict()
    assert "opentelemetry" not in sys.modules
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())
    predict()

    assert [{}, {}] == [said(record) for record in bench.calls()]


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"session": ""}, ValueError, "'session' has 0 characters"),
        ({"request": "x" * 129}, ValueError, "'request' has 129 characters"),
        ({"tenant": b"x"}, TypeError, "'tenant' is text, a number or a UUID"),
        ({"tenant": True}, TypeError, "not 'bool'"),
        ({"tenant": "\ud800"}, ValueError, "surrogate"),
        ({"trace": 5}, TypeError, "traceparent"),
        ({"period": 5}, TypeError, "'period' needs a time"),
        ({"period": "yesterday"}, ValueError, "'period' needs a time such as"),
        ({"period": datetime(2026, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001  that is the point
        ({"period": (NOON,)}, ValueError, "is a start, or"),
        ({"period": (NOON, NOON - timedelta(1))}, ValueError, "ends before it starts"),
        ({"period": {"begin": NOON}}, ValueError, "'end' and 'start', nothing else"),
        ({"refdb": 5}, ValueError, "'refdb' needs a name"),
        ({"refdb": ("a", "b")}, ValueError, "'refdb' needs a digest"),
        ({"refdb": ("a", 5)}, TypeError, "'refdb' needs a digest"),
        ({"refdb": ("a",)}, ValueError, "a name, or"),
        ({"refdb": {"name": "a", "size": 1}}, ValueError, "nothing else"),
        ({"source": 5}, TypeError, "'source' is a mapping with 'address' or 'host'"),
        ({"source": {}}, ValueError, "'source' is empty"),
        ({"source": {"host": "x" * 129}}, ValueError, "'source.host' has 129"),
        ({"target": "account"}, TypeError, "'target' is a mapping"),
        ({"target": ("account",)}, ValueError, "is \\(type, id\\)"),
        ({"target": {"id": "A"}}, ValueError, "'target' needs a 'type'"),
        ({"target": ("An Account", 1)}, ValueError, "'target' needs a word"),
    ],
)
def test_what_is_not_in_its_form_is_refused(
    fields: dict[str, object], error: type[Exception], text: str
) -> None:
    """A field that no record could hold is an error where it is said."""
    with pytest.raises(error, match=text):
        context(**fields)  # type: ignore[arg-type]


def test_other_spellings_of_the_same(bench: Any, audited: Any) -> None:
    """Times may be text or of another zone, databases may be datasets, mappings will do."""

    class Dataset:
        name = "faces"
        digest = DIGEST

    predict = audited()(lambda: None)
    zone = timezone(timedelta(hours=1))
    for refdb in (Dataset(), {"name": "faces", "digest": str(DIGEST)}, ("faces", str(DIGEST))):
        for period in (
            NOON.astimezone(zone),
            "2026-11-22T12:00:00.000000Z",
            {"start": NOON},
            (NOON, None),
        ):
            with context(refdb=refdb, period=period, target={"type": "a", "name": "n"}):
                predict()
    with context(refdb="faces"):
        predict()

    *records, last = bench.calls()
    assert {str(sorted(said(record).items())) for record in records} == {
        str(sorted(said(records[0]).items()))
    }
    assert said(last) == {"refdb": {"name": "faces"}}
    assert "session" in repr(_ambient(session="s"))
    assert "'s'" not in repr(_ambient(session="s"))


def _ambient(**fields: Any) -> object:
    from secureml.audit.context import ambient

    with context(**fields):
        return ambient.get()
