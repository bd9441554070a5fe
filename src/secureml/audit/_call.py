"""
One audited call: what is read before it runs, and the record it leaves.

`Plan` holds what is known when the function is decorated, with its JSON
already spelled; `Call` is one run.  The bytes are put together by hand, in the
order of the keys, because a canonical encoder would cost more than the rest
of the call; a law compares both spellings.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Final

from secureml.audit import _models
from secureml.audit.collect import CallRecord, Current, collectors, running
from secureml.audit.details import Sealed
from secureml.audit.paths import MissingArgumentError, Source, check_path, follow, input_source
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE
from secureml.audit.sink import AuditLog, new_id, spell_time
from secureml.audit.value import MAX_SIZE, encode, tlv
from secureml.errors import GateDeniedError
from secureml.wire import canonical

__all__ = ["Call", "Plan"]

_MAX_LABEL: Final = 128
_MAX_NAME: Final = 512
_OVERHEAD: Final = 4096
"""Bytes of a leaf kept for everything but commitments."""

_PER_COMMITMENT: Final = 6 + len('"":{"alg":"hmac-sha256","commitment":""},') + 64


class Plan:
    """What to record about the calls of one function."""

    __slots__ = (
        "_inputs",
        "_provider",
        "_reads",
        "_user",
        "action",
        "chunks",
        "durable",
        "head",
        "log",
        "middle",
        "model",
        "outputs",
    )

    def __init__(
        self,
        log: AuditLog,
        function: Callable[..., object],
        *,
        kind: str,
        action: str,
        model: object,
        user: str | None,
        capture: tuple[str, ...],
        durable: bool,
    ) -> None:
        name = _name(function)
        self.action = _label(action)
        self.log = log
        self.durable = durable
        self.head = b'{"action":%s' % canonical.encode(action)
        self.middle = b',"call":%s' % canonical.encode({"kind": kind, "name": name})
        self._provider = _models.provider(model)
        self.model: tuple[bytes, str | None] = (b"", None)
        if model is not None and self._provider is None:
            self.model = _model_json(model)
        signature = _signature(function, name) if user is not None or capture else None
        self._user = None
        if user is not None and signature is not None:
            self._user = input_source(user, signature, name=name)
        inputs: list[tuple[bytes, Source]] = []
        outputs: list[tuple[bytes, str, tuple[str, ...]]] = []
        chunks: tuple[bytes, str, tuple[str, ...]] | None = None
        for path in _ordered(capture):
            first, *steps = check_path(path)
            key = canonical.encode(path)
            if first == "return":
                _check_return(path, kind, name)
                outputs.append((key, path, tuple(steps)))
            elif first == "yield":
                _check_yield(path, kind, name, taken=chunks is not None)
                chunks = (key, path, tuple(steps))
            elif signature is not None:
                inputs.append((key, input_source(path, signature, name=name)))
        self._inputs, self.outputs, self.chunks = tuple(inputs), tuple(outputs), chunks
        self._reads = bool(inputs) or user is not None

    def begin(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> "Call":
        """
        Read and encode the inputs, before the function can change them.

        Raises:
            TypeError: A captured value has no encoding, or a user no name.
            ValueError: A step of a path does not exist; a value is too large.
        """
        call = Call(self)
        if self._provider is not None:
            call.model_json, call.model_digest = _model_json(self._provider())
        if self._reads:
            try:
                if self._user is not None:
                    user = self._user.value(args, kwargs)
                    if user is not None:
                        pseudonym = self.log.pseudonyms.of(user, path=self._user.path)
                        call.actor = b',"actor":{"id":"%s","type":"user"}' % pseudonym.encode()
                found = [
                    (key, source.path, encode(source.value(args, kwargs), path=source.path))
                    for key, source in self._inputs
                ]
                if found:
                    pieces = [call.seal(*captured) for captured in found]
                    call.inputs = b',"in":{%s}' % b",".join(pieces)
            except MissingArgumentError:
                call.unbound = True
        call.started = time.monotonic_ns()
        return call


class Call:
    """One run of an audited function; leaves exactly one record."""

    __slots__ = (
        "_chunk_bytes",
        "_chunk_size",
        "_collectors",
        "_count",
        "_done",
        "_first",
        "_parent",
        "_plan",
        "_values",
        "actor",
        "current",
        "inputs",
        "model_digest",
        "model_json",
        "started",
        "time",
        "unbound",
    )

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.current = Current(new_id())
        parent = running.get(None)
        self._parent = "" if parent is None else parent.id
        self._collectors = collectors.get()
        self._values: dict[str, Sealed] = {}
        self._done = False
        self._count = 0
        self._first = -1
        self._chunk_bytes: list[bytes] = []
        self._chunk_size = 0
        self.actor = b""
        self.inputs = b""
        self.model_json, self.model_digest = plan.model
        self.unbound = False
        self.time = spell_time(plan.log.clock())
        self.started = 0

    def seal(self, key: bytes, path: str, encoded: bytes) -> bytes:
        """Keep a value for the details; return its member of the leaf."""
        self._values[path] = sealed = Sealed.of(encoded)
        return b'%s:{"alg":"hmac-sha256","commitment":"%s"}' % (key, sealed.commitment.encode())

    def chunk(self, chunk: object) -> None:
        """
        Count a chunk that a stream is about to hand out, and capture it if asked to.

        Raises:
            TypeError, ValueError: It cannot be captured; see `Plan.begin`.
        """
        self._count += 1
        if self._first < 0:
            self._first = (time.monotonic_ns() - self.started) // 1000
        if self._plan.chunks is not None:
            _, path, steps = self._plan.chunks
            encoded = encode(follow(chunk, steps, path), path=path)
            self._chunk_size += len(encoded)
            if self._chunk_size > MAX_SIZE:
                msg = f"{path!r}: the chunks are larger than {MAX_SIZE // 2**20} MiB together"
                raise ValueError(msg)
            self._chunk_bytes.append(encoded)

    def returned(self, result: object, *, outcome: str = "ok", stream: bool = False) -> None:
        """
        Record that the function returned *result*.

        Raises:
            TypeError, ValueError: The result cannot be captured; that is recorded as an error.
            StoreError: The record was not accepted.
        """
        try:
            pieces = self._outputs(result)
        except Exception as error:
            self.failed(error, stage="capture", stream=stream)
            raise
        self._write(outcome, pieces, b"", stream=stream, complete=outcome == "ok")

    def _outputs(self, result: object) -> list[bytes]:
        if self.unbound:
            msg = (
                "the function takes other arguments than its signature says, so what was to "
                "be captured could not be read"
            )
            raise ValueError(msg)
        found = [
            (key, path, encode(follow(result, steps, path), path=path))
            for key, path, steps in self._plan.outputs
        ]
        return [self.seal(*captured) for captured in found]

    def failed(self, error: BaseException, *, stage: str = "", stream: bool = False) -> None:
        """
        Record that the function raised *error*.

        Raises:
            StoreError: The record was not accepted; *error* is its cause.
        """
        outcome = _outcome(error)
        field = b""
        if outcome != "abandoned":
            where = b'"stage":"%s",' % stage.encode() if stage else b""
            name = canonical.encode(_error_name(type(error)))
            field = b',"error":{%s"type":%s}' % (where, name)
        try:
            self._write(outcome, [], field, stream=stream)
        except Exception as refused:
            raise refused from error

    def abandoned(self, *, stream: bool) -> None:
        """Record that nobody waited for the end, unless there is a record already."""
        if not self._done:
            self._write("abandoned", [], b"", stream=stream)

    def _write(
        self,
        outcome: str,
        outputs: list[bytes],
        error: bytes,
        *,
        stream: bool,
        complete: bool = False,
    ) -> None:
        self._done = True
        latency = (time.monotonic_ns() - self.started) // 1000
        plan = self._plan
        if plan.chunks is not None:
            key, path, _ = plan.chunks
            outputs.append(self.seal(key, path, tlv(b"L", b"".join(self._chunk_bytes))))
        tail = (
            b'%s,"latency_us":%d%s,"monotonic_us":%d%s,"outcome":"%s"%s,"record":{"id":"%s"}%s,"time":"%s","type":"call"}'
            % (
                self.inputs,
                latency,
                self.model_json,
                self.started // 1000,
                b',"out":{%s}' % b",".join(outputs) if outputs else b"",
                outcome.encode(),
                b',"parent":"%s"' % self._parent.encode() if self._parent else b"",
                self.current.id.encode(),
                self._stream(complete=complete) if stream else b"",
                self.time.encode(),
            )
        )
        head = plan.head + self.actor + plan.middle

        def body(segment: str | None) -> bytes:
            if segment is None:
                return head + error + tail
            return head + b',"details":{"segment":"%s"}' % segment.encode() + error + tail

        where = plan.log.write(self.current.id, body, self._values, durable=plan.durable)
        if self._collectors:
            record = CallRecord(
                id=self.current.id,
                index=where.index,
                action=plan.action,
                outcome=outcome,
                time=self.time,
                latency_us=latency,
                model=self.model_digest,
            )
            for records in self._collectors:
                records.append(record)

    def _stream(self, *, complete: bool) -> bytes:
        first = b',"ttft_us":%d' % self._first if self._first >= 0 else b""
        return b',"stream":{"chunks":%d,"complete":%s%s}' % (
            self._count,
            b"true" if complete else b"false",
            first,
        )


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, GeneratorExit):
        return "abandoned"
    if isinstance(error, GateDeniedError):
        return "denied"
    return "error"


def _error_name(kind: type[BaseException]) -> str:
    module = kind.__module__
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    parts = name.replace("<locals>", "locals").split(".")
    # A class made at run time may be called anything, a user's words included.
    if len(name) > _MAX_NAME or not all(part.isidentifier() for part in parts):
        return "unnamed"
    return name


def _model_json(model: object) -> tuple[bytes, str | None]:
    field = _models.model_field(model)
    digest = field.get("digest")
    return b',"model":%s' % canonical.encode(field), digest if isinstance(digest, str) else None


def _label(action: object) -> str:
    if not isinstance(action, str) or not 0 < len(action) <= _MAX_LABEL:
        msg = f"an action is text of 1 to {_MAX_LABEL} characters, such as 'diagnose'"
        raise ValueError(msg)
    return action


def _name(function: Callable[..., object]) -> str:
    target = function
    while hasattr(target, "func") and not hasattr(target, "__qualname__"):
        target = target.func
    named = target if hasattr(target, "__qualname__") else type(target)
    module = getattr(named, "__module__", None) or "builtins"
    return f"{module}.{named.__qualname__}"[:_MAX_NAME]


def _signature(function: Callable[..., object], name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        msg = f"{name} has no signature, so nothing of it can be captured: wrap it in a function"
        raise ValueError(msg) from None


def _ordered(capture: tuple[str, ...]) -> list[str]:
    for path in capture:
        check_path(path)
    if len(set(capture)) != len(capture):
        msg = "a capture path is given twice"
        raise ValueError(msg)
    size = sum(len(canonical.encode(path)) + _PER_COMMITMENT for path in capture)
    if size > MAX_LEAF - PREFIX_SIZE - _OVERHEAD:
        msg = f"{len(capture)} captured paths do not fit in one record: capture a common parent"
        raise ValueError(msg)
    return sorted(capture, key=lambda path: path.encode("utf-16-be"))


def _check_return(path: str, kind: str, name: str) -> None:
    if kind == "async-generator":
        msg = f"capture path {path!r}: {name} is an async generator, which returns nothing"
        raise ValueError(msg)


def _check_yield(path: str, kind: str, name: str, *, taken: bool) -> None:
    if kind not in {"generator", "async-generator"}:
        msg = f"capture path {path!r}: {name} is no generator, it yields nothing"
        raise ValueError(msg)
    if taken:
        msg = f"capture path {path!r}: one path can be captured of the chunks, not two"
        raise ValueError(msg)
