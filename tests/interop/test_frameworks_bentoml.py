# ruff: noqa: ANN401, ARG002  fixtures are of any type, and some arguments are not read
"""BentoML sees an audited endpoint as it sees the method: schema, kind, result, stream."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.evidence.log import Log
from secureml.keys import files

bentoml = pytest.importorskip("bentoml")
pytestmark = pytest.mark.filterwarnings("default")  # BentoML's own dependencies warn


@pytest.fixture
def log(tmp_path: Path) -> Iterator[audit.AuditLog]:
    """Return an open audit log."""
    opened = Log.open(
        tmp_path / "audit",
        private=tmp_path / "private",
        origin="bentoml.example/audit",
        signer=files.generate("ed25519", purposes=frozenset({"audit"})),
        purpose="audit",
        create=True,
    )
    with audit.AuditLog(
        opened, details=tmp_path / "details", private=tmp_path / "private"
    ) as made:
        yield made


def service(wrap: Any) -> Any:
    """Return a service whose endpoints are decorated with *wrap*."""

    class Diagnosis:
        """A service."""

        @bentoml.api
        @wrap(action="predict", capture=["radius", "return"], user="user")
        def predict(self, radius: float, user: str = "nobody") -> float:
            """Score a radius."""
            return radius * 2

        @bentoml.api
        @wrap(action="wait", capture=["texts"], durable=True)
        async def wait(self, texts: list[str]) -> dict[str, int]:
            """Count words, later."""
            await asyncio.sleep(0)
            return {text: len(text) for text in texts}

        @bentoml.api
        @wrap(action="stream", capture=["yield"], durable=True)
        async def stream(self, n: int = 3) -> AsyncGenerator[str, None]:
            """Talk."""
            for i in range(n):
                yield f"{i};"

    return bentoml.service(Diagnosis)


def bare(**_: Any) -> Any:
    """Decorate with nothing."""
    return lambda function: function


def run(made: Any) -> list[object]:
    """Call every endpoint of a service in this process."""
    inner = made()

    async def later() -> list[object]:
        chunks = [chunk async for chunk in inner.stream(n=4)]
        return [await inner.wait(texts=["a", "bcd"]), chunks]

    return [inner.predict(radius=1.5, user="ann"), *asyncio.run(later())]


def test_the_schema_is_the_same(log: audit.AuditLog) -> None:
    """Routes, inputs, outputs and whether they stream are those of the bare service."""
    plain, made = service(bare), service(lambda **options: audit.audited(log, **options))

    assert plain.schema() == made.schema()
    assert plain.openapi_spec.asdict() == made.openapi_spec.asdict()
    for name, method in plain.apis.items():
        assert method.is_stream is made.apis[name].is_stream


def test_answers_are_the_same_and_recorded(log: audit.AuditLog) -> None:
    """Each endpoint answers as it did, and leaves one record a call."""
    plain, made = service(bare), service(lambda **options: audit.audited(log, **options))

    assert run(plain) == run(made)

    log.publish()
    calls = [record for _, record in log.records() if record.type == "call"]
    found = [(r.action, r.outcome, r.body["call"]["kind"]) for r in calls]  # type: ignore[index, call-overload]
    assert sorted(map(str, found)) == [
        "('predict', 'ok', 'function')",
        "('stream', 'ok', 'async-generator')",
        "('wait', 'ok', 'coroutine')",
    ]
