# ruff: noqa: ANN401, ARG001  fixtures and hostile values are of any type, and some are not read
"""A caller finds the records of its own calls, and only those."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from secureml import audit


def test_collect_gathers_the_calls_of_a_context(bench: Any, audited: Any) -> None:
    """The list holds the records of the calls inside, in the order they ended."""

    @audited()
    def predict(n: int) -> str:
        return audit.current().id

    predict(0)
    with audit.collect() as records:
        first = predict(1)
        with audit.collect() as inner:
            second = predict(2)
    predict(3)

    assert [first, second] == [record.id for record in records]
    assert [second] == [record.id for record in inner]
    assert (records[0].action, records[0].outcome, records[0].model) == ("act", "ok", None)
    leaf = bench.leaves()[records[0].index]
    assert first == audit.Record.decode(leaf).id
    assert "audit record of act" in records[0]._repr_html_()


def test_a_stream_belongs_to_where_it_began(audited: Any) -> None:
    """A stream's record goes to the list that was open when the stream began."""

    @audited()
    def stream() -> Iterator[int]:
        yield 1

    with audit.collect() as records:
        running = stream()
        next(running)
        assert records == []
    running.close()

    assert [record.outcome for record in records] == ["abandoned"]


def test_other_threads_are_not_seen(audited: Any) -> None:
    """A call in another thread belongs to nobody's list here."""

    @audited()
    def predict() -> None:
        pass

    with audit.collect() as records:
        thread = threading.Thread(target=predict)
        thread.start()
        thread.join()

    assert records == []


def test_tasks_are_seen(audited: Any) -> None:
    """Tasks that were started inside report here, each with its own current call."""

    @audited()
    async def predict() -> str:
        before = audit.current().id
        await asyncio.sleep(0)
        assert before == audit.current().id
        return before

    async def main() -> list[str]:
        return await asyncio.gather(*(predict() for _ in range(5)))

    with audit.collect() as records:
        ids = asyncio.run(main())

    assert sorted(ids) == sorted(record.id for record in records)


def test_current_inside_streams(audited: Any) -> None:
    """A stream knows its own record at each step, and its consumer is not inside it."""

    @audited()
    def stream() -> Iterator[str]:
        yield audit.current().id
        yield audit.current().id

    running = stream()
    first = next(running)
    with pytest.raises(LookupError):
        audit.current()

    assert [first] == list(running)


def test_outside_a_call_there_is_none() -> None:
    """`current` outside an audited function says so."""
    with pytest.raises(LookupError, match="no audited call is running"):
        audit.current()
