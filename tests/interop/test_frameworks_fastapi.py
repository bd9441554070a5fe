# ruff: noqa: ANN401, ARG001  fixtures are of any type, and some arguments are not read
"""FastAPI sees an audited endpoint as it sees the function: injection, validation, OpenAPI."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from secureml import audit
from secureml.audit.context import context
from secureml.evidence.log import Log
from secureml.keys import files

fastapi = pytest.importorskip("fastapi")
pydantic = pytest.importorskip("pydantic")


class Row(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    """What is asked."""

    radius: float
    name: str = "none"


class Score(pydantic.BaseModel):  # type: ignore[misc, name-defined]
    """What is answered."""

    score: float


async def who(authorization: Annotated[str, fastapi.Header()] = "nobody") -> str:
    """Return who asks."""
    return authorization


@pytest.fixture
def log(tmp_path: Path) -> Iterator[audit.AuditLog]:
    """Return an open audit log."""
    opened = Log.open(
        tmp_path / "audit",
        private=tmp_path / "private",
        origin="fastapi.example/audit",
        signer=files.generate("ed25519", purposes=frozenset({"audit"})),
        purpose="audit",
        create=True,
    )
    with audit.AuditLog(
        opened, details=tmp_path / "details", private=tmp_path / "private"
    ) as made:
        yield made


def application(wrap: Any) -> Any:
    """Return an application whose endpoints are decorated with *wrap*."""
    app = fastapi.FastAPI()

    @app.post("/sync/{kind}", response_model=Score)
    @wrap(action="sync", user="user", capture=["row", "return.score", "kind"])
    def plain(
        kind: int,
        row: Row,
        user: Annotated[str, fastapi.Depends(who)],
        limit: Annotated[int, fastapi.Query(ge=1, description="how many")] = 5,
    ) -> Score:
        """Score a row."""
        return Score(score=row.radius * kind + limit)

    @app.post("/async")
    @wrap(action="async", user="user", capture=["row"], durable=True)
    async def waits(row: "Row", user: Annotated[str, fastapi.Depends(who)]) -> "Score":
        """Score a row, later."""
        await asyncio.sleep(0)
        if row.radius < 0:
            raise fastapi.HTTPException(422, "negative")
        return Score(score=row.radius)

    @wrap(action="stream", capture=["yield"], durable=True)
    async def chunks(n: int) -> AsyncIterator[str]:
        for i in range(n):
            yield f"{i};"

    @app.get("/stream")
    async def stream(n: int = 3) -> Any:
        return fastapi.responses.StreamingResponse(chunks(n))

    @wrap(action="dependency")
    async def dependency(n: int = 1) -> AsyncIterator[int]:
        yield n * 2

    @app.get("/depends")
    async def depends(n: Annotated[int, fastapi.Depends(dependency)]) -> int:
        return n

    @app.middleware("http")
    async def around(request: Any, call_next: Any) -> Any:
        async with context(
            request=request.headers.get("x-request-id"), trace=request.headers.get("traceparent")
        ):
            return await call_next(request)

    return app


def bare(**_: Any) -> Any:
    """Decorate with nothing."""
    return lambda function: function


def ask(app: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Send one request to the application, without a network."""
    sent: list[dict[str, Any]] = []
    data = b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (b"content-type", b"application/json"),
            *(
                (name.replace("_", "-").encode(), value.encode())
                for name, value in headers.items()
            ),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }

    async def main() -> None:
        more, done = [{"type": "http.request", "body": data, "more_body": False}], asyncio.Event()

        async def receive() -> Any:
            if more:
                return more.pop()
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        await app(scope, receive, send)
        done.set()

    asyncio.run(main())
    status = sent[0]["status"]
    raw = b"".join(m.get("body", b"") for m in sent[1:])
    try:
        return status, json.loads(raw)
    except ValueError:
        return status, raw.decode()


def test_openapi_is_the_same(log: audit.AuditLog) -> None:
    """The schema of the audited application is that of the bare one."""

    def wrap(**options: Any) -> Any:
        return audit.audited(log, **options)

    assert application(bare).openapi() == application(wrap).openapi()


REQUESTS = [
    ("POST", "/sync/2?limit=3", {"radius": 1.5}),
    ("POST", "/sync/2?limit=0", {"radius": 1.5}),
    ("POST", "/sync/two", {"radius": 1.5}),
    ("POST", "/sync/2", {"radius": "wide"}),
    ("POST", "/async", {"radius": 2, "name": "x"}),
    ("POST", "/async", {"radius": -1}),
    ("GET", "/stream?n=4", None),
    ("GET", "/stream?n=0", None),
    ("GET", "/depends?n=21", None),
]


def test_answers_are_the_same_and_recorded(log: audit.AuditLog) -> None:
    """Injection, validation, errors and streams are the same; what ran left one record."""

    def wrap(**options: Any) -> Any:
        return audit.audited(log, **options)

    plain, made = application(bare), application(wrap)
    for number, (method, path, body) in enumerate(REQUESTS):
        headers = {"authorization": "ann", "x_request_id": f"r-{number}"}
        assert ask(plain, method, path, body, **headers) == ask(
            made, method, path, body, **headers
        )
    log.publish()

    calls = [record for _, record in log.records() if record.type == "call"]
    found = [(r.action, r.outcome, r.body["request"]) for r in calls]
    assert sorted(found, key=lambda one: str(one[2])) == [
        ("sync", "ok", "r-0"),
        ("async", "ok", "r-4"),
        ("async", "error", "r-5"),
        ("stream", "ok", "r-6"),
        ("stream", "ok", "r-7"),
        ("dependency", "ok", "r-8"),
    ]
    assert {r.actor for r in calls if r.action in {"sync", "async"}} == {log.pseudonyms.of("ann")}
    assert log.values(calls[0]).keys() == {"row", "return.score", "kind"}
