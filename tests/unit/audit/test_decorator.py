# ruff: noqa: ANN401, ARG001  fixtures and hostile values are of any type, and some are not read
"""An audited function is still the function it was."""

import asyncio
import contextlib
import contextvars
import functools
import hashlib
import inspect
import pickle
import sys
import traceback
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from secureml import audit
from secureml.audit.value import encode
from secureml.errors import StoreError

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="nothing")


def plain(a: int, b: int = 2, *rest: int, key: str = "k", **more: int) -> tuple[object, ...]:
    """Return what was passed."""
    return a, b, rest, key, more


async def coroutine(a: int, *, key: str = "k") -> tuple[int, str]:
    """Return what was passed."""
    return a, key


def generator(a: int) -> Iterator[int]:
    """Yield what was passed."""
    yield a


async def async_generator(a: int) -> AsyncIterator[int]:
    """Yield what was passed."""
    yield a


FUNCTIONS = [plain, coroutine, generator, async_generator]
KINDS = [
    inspect.isfunction,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    asyncio.iscoroutinefunction if sys.version_info < (3, 14) else inspect.iscoroutinefunction,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_it_looks_the_same(audited: Any, function: Callable[..., object]) -> None:
    """Name, documentation, module, annotations, signature and kind are the function's."""
    wrapped = audited()(function)

    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(function, name) == getattr(wrapped, name)
    assert inspect.signature(function) == inspect.signature(wrapped)
    assert [kind(function) for kind in KINDS] == [kind(wrapped) for kind in KINDS]
    assert wrapped.__wrapped__ is function


def test_it_returns_what_the_function_returns(audited: Any) -> None:
    """The very object comes back, whatever arguments go in."""
    wrapped = audited()(plain)
    thing = object()

    assert plain(1, 2, 3, key="x", z=4) == wrapped(1, 2, 3, key="x", z=4)
    assert thing is audited()(lambda: thing)()
    with pytest.raises(TypeError, match=r"plain\(\) missing 1 required"):
        wrapped()


def test_it_raises_what_the_function_raises(audited: Any) -> None:
    """The very exception comes out, with its cause, context and traceback."""
    cause = KeyError("cause")
    error = ValueError("text", 1)

    def broken() -> None:
        try:
            {}["context"]
        except LookupError:
            raise error from cause

    with pytest.raises(ValueError, match="text") as caught:
        audited()(broken)()

    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert isinstance(caught.value.__context__, LookupError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "broken"


def test_an_exception_keeps_nothing_alive(audited: Any) -> None:
    """A wrapper leaves no reference cycle behind that would keep the arguments."""
    import gc
    import weakref

    class Big:
        pass

    def broken(big: Big) -> None:
        raise ValueError

    def stream(big: Big) -> Iterator[int]:
        yield 1
        raise ValueError

    gc.collect()
    gc.disable()
    try:
        for call in (audited()(broken), lambda big: list(audited()(stream)(big))):
            big = Big()
            alive = weakref.ref(big)
            with contextlib.suppress(ValueError):
                call(big)
            del big
            assert alive() is None
    finally:
        gc.enable()


def test_a_stream_keeps_no_chunk_alive(audited: Any) -> None:
    """Between two steps a wrapper holds neither the chunk nor what was sent."""
    import weakref

    class Chunk:
        pass

    @audited()
    def stream() -> Generator[Chunk, object, None]:
        while True:
            yield Chunk()

    running = stream()
    chunk = next(running)
    alive = weakref.ref(chunk)
    del chunk

    assert alive() is None
    running.close()


def test_methods_of_every_kind(bench: Any, audited: Any) -> None:
    """Methods, class methods and static methods work, decorated on either side."""

    class Service:
        name = "service"

        @audited(capture=["self.name"])
        def method(self) -> str:
            return self.name

        @classmethod
        @audited(capture=["cls.name"])
        def below(cls) -> str:
            return cls.name

        @audited(capture=["cls.name"])
        @classmethod
        def above(cls) -> str:
            return cls.name

        @staticmethod
        @audited()
        def static_below(a: int) -> int:
            return a

        @audited()
        @staticmethod
        def static_above(a: int) -> int:
            return a

        @property
        @audited()
        def attribute(self) -> str:
            return self.name

    service = Service()
    found = [
        service.method(),
        service.below(),
        Service.above(),
        service.static_below(1),
        Service.static_above(2),
        service.attribute,
    ]

    assert found == ["service", "service", "service", 1, 2, "service"]
    names = [record.body["call"]["name"] for record in bench.calls()]
    assert "Service.method" in names[0]
    assert len(names) == 6


def test_partials_and_callable_objects(bench: Any, audited: Any) -> None:
    """A partial and an object with __call__ are audited as what they do."""

    class Model:
        def __call__(self, a: int) -> int:
            return a + 1

    class Stream:
        def __call__(self, a: int) -> Iterator[int]:
            yield a

    class Waits:
        async def __call__(self, a: int) -> int:
            return a

    assert audited(capture=["b"])(functools.partial(plain, b=5))(1) == (1, 5, (), "k", {})
    assert audited(capture=["a", "return"])(Model())(2) == 3
    assert list(audited(capture=["yield"])(Stream())(4)) == [4]
    assert asyncio.run(audited()(Waits())(5)) == 5
    assert asyncio.run(audited()(functools.partial(coroutine, 6))()) == (6, "k")
    kinds = [record.body["call"]["kind"] for record in bench.calls()]
    assert kinds == ["function", "function", "generator", "coroutine", "coroutine"]


def test_a_builtin_without_captures(bench: Any, audited: Any) -> None:
    """A function without a signature is audited as long as nothing is captured."""
    assert audited()(len)("abc") == 3
    with pytest.raises(ValueError, match="has no signature"):
        audited(capture=["row"])(dict.fromkeys.__self__.update)

    assert [record.body["call"]["name"] for record in bench.calls()] == ["builtins.len"]


def test_an_old_style_coroutine(bench: Any, audited: Any) -> None:
    """A generator that types.coroutine made awaitable stays awaitable."""

    @audited()
    @types.coroutine
    def old() -> Generator[None, None, str]:
        yield
        return "result"

    async def main() -> str:
        return await old()

    assert asyncio.run(main()) == "result"
    assert [record.outcome for record in bench.calls()] == ["ok"]


def test_a_class_is_refused(audited: Any) -> None:
    """What is no function is refused when it is decorated."""
    for thing in (dict, 5):
        with pytest.raises(TypeError, match="functions and methods"):
            audited()(thing)


def test_context_variables_behave_as_without(audited: Any) -> None:
    """What a function sets in its context its caller sees, in calls, coroutines and streams."""

    @audited()
    def sets() -> None:
        SEEN.set("function")

    @audited()
    async def awaits() -> None:
        SEEN.set("coroutine")

    @audited()
    def yields() -> Iterator[str]:
        SEEN.set("generator")
        yield SEEN.get()
        yield SEEN.get()

    async def main() -> str:
        await awaits()
        return SEEN.get()

    sets()
    assert SEEN.get() == "function"
    assert asyncio.run(main()) == "coroutine"
    stream = yields()
    assert next(stream) == "generator"
    assert SEEN.get() == "generator"
    SEEN.set("caller")
    assert next(stream) == "caller"


def test_send_throw_and_return_value(audited: Any) -> None:
    """A generator's two-way traffic goes through."""

    @audited()
    def stream() -> Generator[object, object, str]:
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield error
        return "end"

    running = stream()
    error = KeyError("k")

    assert next(running) == "first"
    assert running.send("sent") == "sent"
    assert error is running.throw(error)
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "end"


def test_yield_from_an_audited_generator(audited: Any) -> None:
    """`yield from` gets the chunks and the return value."""

    @audited()
    def inner() -> Generator[int, None, str]:
        yield 1
        return "value"

    def outer() -> Generator[int, None, None]:
        assert (yield from inner()) == "value"

    assert list(outer()) == [1]


def test_a_generator_that_ignores_close(bench: Any, audited: Any) -> None:
    """Python's own complaint about a generator that goes on after close is kept."""

    @audited()
    def stream() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    running = stream()
    next(running)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        running.close()
    running.close()

    (record,) = bench.calls()
    assert (record.outcome, record.body["stream"]["chunks"]) == ("abandoned", 2)


def test_an_exception_is_thrown_where_the_caller_stands(audited: Any) -> None:
    """What a generator raises after it dealt with an exception has no false context."""

    def stream() -> Iterator[int]:
        with contextlib.suppress(KeyError):
            yield 1
        raise ValueError("after")

    def context(function: Callable[[], Generator[int, None, None]]) -> object:
        running = function()
        next(running)
        with pytest.raises(ValueError, match="after") as caught:
            running.throw(KeyError("k"))
        return caught.value.__context__

    assert context(stream) is None  # type: ignore[arg-type]
    assert context(audited()(stream)) is None


def test_async_send_throw_and_close(audited: Any) -> None:
    """An async generator's two-way traffic goes through."""

    @audited()
    async def stream() -> AsyncGenerator[object, object]:
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield error

    async def main() -> None:
        running = stream()
        error = KeyError("k")
        assert await anext(running) == "first"
        assert await running.asend("sent") == "sent"
        assert await running.athrow(error) is error
        with pytest.raises(StopAsyncIteration):
            await anext(running)

    asyncio.run(main())


def test_gather_and_task_groups(audited: Any) -> None:
    """Cancellation by a task group, and gathering, work as without."""

    @audited()
    async def works(n: int) -> int:
        await asyncio.sleep(0)
        if n < 0:
            raise ValueError("negative")
        return n

    async def main() -> None:
        assert await asyncio.gather(works(1), works(2)) == [1, 2]
        async with asyncio.TaskGroup() as group:
            group.create_task(works(-1))
            group.create_task(works(3))

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())


def test_a_record_that_cannot_be_kept_stops_the_call(bench: Any, audited: Any) -> None:
    """Without a record there is no result; the function's own exception is the cause."""

    @audited()
    def good() -> str:
        return "result"

    @audited()
    def bad() -> None:
        raise KeyError("mine")

    @audited()
    def stream() -> Iterator[int]:
        yield 1

    @audited()
    async def waits() -> str:
        return "result"

    running = stream()
    next(running)
    bench.log.log.close()

    with pytest.raises(StoreError):
        good()
    with pytest.raises(StoreError) as caught:
        bad()
    with pytest.raises(StoreError):
        next(running)
    with pytest.raises(StoreError):
        asyncio.run(waits())
    assert isinstance(caught.value.__cause__, KeyError)
    bench.log = bench.open()


def test_arguments_are_recorded_as_they_came(bench: Any, audited: Any) -> None:
    """What a function does to its arguments does not change the evidence."""

    @audited(capture=["row", "return"])
    def predict(row: dict[str, int]) -> dict[str, int]:
        row["a"] = 2
        return row

    row = {"a": 1}
    result = predict(row)

    (record,) = bench.calls()
    assert result is row
    assert bench.value(record, "row") == {"a": 1}
    assert bench.value(record, "return") == {"a": 2}


def test_what_cannot_be_recorded_is_not_run(bench: Any, audited: Any) -> None:
    """An input that has no encoding stops the call before the function runs."""
    ran: list[object] = []

    @audited(capture=["row"])
    def predict(row: object) -> None:
        ran.append(row)

    with pytest.raises(TypeError, match="'row' is of type object"):
        predict(object())

    assert not ran
    assert not bench.calls()


def test_a_result_that_cannot_be_recorded(bench: Any, audited: Any) -> None:
    """A result that has no encoding is an error, and is recorded as one, of the capture."""

    @audited(capture=["row", "return.score"])
    def predict(row: int) -> dict[str, object]:
        return {"score": object()}

    @audited(capture=["return.score"])
    def other() -> dict[str, object]:
        return {"points": 1}

    with pytest.raises(TypeError, match=r"'return.score' is of type object"):
        predict(1)
    with pytest.raises(ValueError, match="has no 'score'"):
        other()

    first, second = bench.calls()
    assert first.body["error"] == {"stage": "capture", "type": "TypeError"}
    assert {"row"} == first.commitments.keys()
    assert (second.outcome, second.error) == ("error", "ValueError")


def test_a_half_recorded_call_leaves_no_stray_value(bench: Any, audited: Any) -> None:
    """When one of several values cannot be read, none of them is left in the details."""

    @audited(capture=["return.a", "return.b"])
    def predict() -> dict[str, object]:
        return {"a": 1, "b": object()}

    @audited(capture=["a", "b"])
    def takes(a: int, b: int) -> None: ...

    with pytest.raises(TypeError, match="of type object"):
        predict()
    with pytest.raises(TypeError, match="missing 1 required"):
        takes(1)

    assert [record.commitments for record in bench.calls()] == [{}, {}]
    assert not bench.details.exists()


def test_a_chunk_that_cannot_be_recorded(bench: Any, audited: Any) -> None:
    """A chunk that has no encoding ends the stream, and the function cleans up."""
    cleaned: list[str] = []

    @audited(capture=["yield"])
    def stream() -> Iterator[object]:
        try:
            yield 1
            yield object()
        finally:
            cleaned.append("sync")

    @audited(capture=["yield"])
    async def waits() -> AsyncIterator[object]:
        try:
            yield 1
            yield object()
        finally:
            await asyncio.sleep(0)
            cleaned.append("async")

    async def main() -> None:
        async for _ in waits():
            pass

    with pytest.raises(TypeError, match="'yield' is of type object"):
        list(stream())
    with pytest.raises(TypeError, match="'yield' is of type object"):
        asyncio.run(main())

    assert cleaned == ["sync", "async"]
    for record in bench.calls():
        assert record.body["error"] == {"stage": "capture", "type": "TypeError"}
        assert bench.value(record, "yield") == [1]


def test_wrong_arguments_are_the_functions_own_error(bench: Any, audited: Any) -> None:
    """A call with missing arguments raises what the function raises, and is recorded."""

    @audited(capture=["a"], user="b")
    def predict(a: int, b: int) -> None:
        pass

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        predict(1)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        predict(1, 2, c=3)

    assert [record.outcome for record in bench.calls()] == ["error", "error"]


def test_wrong_arguments_of_a_stream(bench: Any, audited: Any) -> None:
    """A generator called wrongly says so at its first step, as the function would at the call."""
    with pytest.raises(TypeError, match=r"generator\(\) missing 1 required"):
        next(audited()(generator)())
    with pytest.raises(TypeError, match=r"generator\(\) missing 1 required"):
        asyncio.run(anext(audited()(async_generator)()))  # type: ignore[arg-type]

    assert ["error", "error"] == [record.outcome for record in bench.calls()]
    assert [0, 0] == [record.body["stream"]["chunks"] for record in bench.calls()]


def test_a_long_stream_is_kept_up_to_its_bound(bench: Any, audited: Any) -> None:
    """The first chunks that fit are kept; all are counted, digested and handed out."""

    @audited(capture=["yield"], max_capture=40)
    def stream() -> Iterator[bytes]:
        yield b"0123456789"
        yield b"0123456789"
        yield bytes(100)
        yield b"0"

    found = list(stream())

    (record,) = bench.calls()
    assert found == [b"0123456789", b"0123456789", bytes(100), b"0"]
    assert bench.value(record, "yield") == found[:2]
    assert (record.outcome, record.body["stream"]["chunks"]) == ("ok", 4)
    assert record.body["stream"]["kept"] == 2
    salt = bench.log.values(record)["yield"].salt
    digest = hashlib.sha256(salt + b"".join(encode(chunk, path="yield") for chunk in found))
    assert f"sha256:{digest.hexdigest()}" == record.body["stream"]["digest"]


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_stream_without_an_end(bench: Any, audited: Any, size: int) -> None:
    """A stream may go on for ever: no more of it stays in memory than is kept."""

    @audited(capture=["yield"], max_capture=size)
    def stream() -> Iterator[bytes]:
        while True:
            yield bytes(3 << 18)

    running = stream()
    for _ in range(30):
        next(running)
    running.close()

    (record,) = bench.calls()
    assert (record.outcome, record.body["stream"]["chunks"]) == ("abandoned", 30)
    assert record.body["stream"]["kept"] == (1 if size else 0)


def test_a_signature_that_lies(bench: Any, audited: Any) -> None:
    """A function that takes less than its signature says is refused, after the fact."""

    def liar(*args: object) -> str:
        return "result"

    liar.__signature__ = inspect.signature(lambda row: row)  # type: ignore[attr-defined]

    with pytest.raises(ValueError, match="other arguments than its signature says"):
        audited(capture=["row"])(liar)()

    (record,) = bench.calls()
    assert record.body["error"]["stage"] == "capture"


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_an_audited_function_in_a_module_pickles(
    audited: Any, function: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decorated function pickles by its name, like any other."""
    module = types.ModuleType("module_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    bare = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    bare.__module__ = module.__name__
    wrapped = audited()(bare)
    module.__dict__[function.__name__] = wrapped

    assert wrapped is not bare
    assert pickle.loads(pickle.dumps(wrapped)) is wrapped  # noqa: S301  made here


def test_nested_calls_name_their_parent(bench: Any, audited: Any) -> None:
    """A call inside a call names the one it ran in."""

    @audited(action="inner")
    def inner() -> str:
        return audit.current().id

    @audited(action="outer")
    def outer() -> tuple[str, str]:
        return inner(), audit.current().id

    inside, outside = outer()

    found = {record.action: record for record in bench.calls()}
    assert (inside, outside) == (found["inner"].id, found["outer"].id)
    assert outside == found["inner"].body["parent"]
    assert "parent" not in found["outer"].body


def test_options_are_checked_when_decorating(bench: Any) -> None:
    """What is wrong with the decorator is found before any call."""
    for options, error, text in (
        ({"capture": "row"}, TypeError, "capture=\\['row'\\]"),
        ({"capture": [5]}, TypeError, "is text"),
        ({"capture": ["row", "row"]}, ValueError, "twice"),
        ({"capture": ["nothing"]}, ValueError, "no parameter 'nothing'"),
        ({"capture": ["row."]}, ValueError, "not a capture path"),
        ({"capture": ["x" * 257]}, ValueError, "not a capture path"),
        ({"capture": ["yield"]}, ValueError, "no generator"),
        ({"user": "person.id"}, ValueError, "no parameter 'person'"),
        ({"user": "return"}, ValueError, "no parameter 'return'"),
        ({"action": ""}, ValueError, "an action is text"),
        ({"action": 5}, ValueError, "an action is text"),
        ({"capture": [f"row.{'x' * 200}{n}" for n in range(300)]}, ValueError, "do not fit"),
    ):
        with pytest.raises(error, match=text):
            audit.audited(bench.log, **{"action": "a", **options})(lambda row: row)  # type: ignore[arg-type]


def test_a_return_of_an_async_generator_is_refused(audited: Any) -> None:
    """An async generator returns nothing, so its return cannot be captured; one yield can."""
    with pytest.raises(ValueError, match="returns nothing"):
        audited(capture=["return"])(async_generator)
    with pytest.raises(ValueError, match="not two"):
        audited(capture=["yield", "yield.text"])(generator)


def test_as_many_captures_as_fit_do_fit(bench: Any, audited: Any) -> None:
    """The largest set of paths that is accepted makes a leaf that is."""
    names = [f"row.k{n:03}" for n in range(1000)]
    row = {name[4:]: 1 for name in names}
    low, high = 1, len(names)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            audited(capture=names[:middle])(lambda row: row)
            low = middle
        except ValueError:
            high = middle

    audited(capture=names[:low], action="\u00e9" * 128)(lambda row: row)(row)

    (record,) = bench.calls()
    assert low == len(record.commitments) > 500
