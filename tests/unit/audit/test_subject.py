# ruff: noqa: ANN401, ARG001  fixtures are of any type, and some arguments are not read
"""Captured values may be encrypted under the key of whom they are about, and redacted before."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from secureml import audit
from secureml.audit import redaction
from secureml.audit.details import Sealed, read_details
from secureml.audit.options import Constant
from secureml.sealing import SubjectKeys

CANARY = "correct-horse"


def opened(bench: Any, record: audit.Record) -> dict[str, Sealed]:
    """Return what was encrypted for a record."""
    detail = read_details(bench.details, record.segment, record.id)
    assert detail is not None
    assert not detail.values
    keys = SubjectKeys(bench.private)
    return {
        path: Sealed.of_plaintext(keys.decrypt(one, record=record.id, path=path))
        for path, one in detail.encrypted.items()
    }


@pytest.mark.parametrize("require", ["before", "after"])
def test_values_are_encrypted_for_their_subject(bench: Any, audited: Any, require: str) -> None:
    """The leaf has the key's name and the ciphertext's digest; the value opens with the key."""

    @audited(
        subject="patient", capture=["row", "return"], require=require, durable=True, user="patient"
    )
    def predict(row: str, patient: str) -> str:
        return row.upper()

    predict(CANARY, "ann")
    predict(CANARY, "bob")

    records = [audit.Record.decode(leaf) for leaf in bench.leaves()]
    calls = [r for r in records if r.type == "call"]
    keys = SubjectKeys(bench.private)
    for record, who in zip(calls, ("ann", "bob"), strict=True):
        found = opened(bench, record)
        assert set(found) == {"row", "return"}
        for part, path in (("in", "row"), ("out", "return")):
            entry = record.body[part][path]  # type: ignore[index, call-overload]
            assert list(entry) == ["alg", "commitment", "key", "ref"]
            assert entry["commitment"] == found[path].commitment
            assert (entry["key"],) == keys.ids(bench.log.pseudonyms.of(who))
        assert CANARY.encode() in found["row"].encoded
    for record in (r for r in records if r.type == "intent"):
        assert opened(bench, record).keys() == {"row"}
    assert len([r for r in records if r.type == "intent"]) == (2 if require == "before" else 0)
    assert not any(CANARY.encode() in file.read_bytes() for file in bench.details.iterdir())


def test_a_subject_that_is_nobody_is_refused(bench: Any, audited: Any) -> None:
    """What would be stored in the clear is not stored: the call is refused, or nothing is kept."""

    def predict(row: str, patient: str | None) -> str:
        return row

    with pytest.raises(ValueError, match=r"the subject of .* is None"):
        audited(subject="patient", capture=["row"])(predict)(CANARY, None)
    lenient = audited(subject="patient", capture=["row", "return"], require=None)(predict)
    assert lenient(CANARY, None) == CANARY

    (record,) = bench.calls()
    assert record.body["error"]["stage"] == "capture"
    assert "in" not in record.body
    assert "out" not in record.body
    assert not bench.details.exists()


def test_streams_of_a_subject(bench: Any, audited: Any) -> None:
    """Chunks are encrypted together; under a loop the key is made on another thread."""

    @audited(subject=Constant("ann"), capture=["yield"])
    def stream() -> Iterator[str]:
        yield CANARY
        yield "more"

    @audited(subject="who", capture=["yield", "who"], durable=True, require="before")
    async def waits(who: str) -> AsyncIterator[str]:
        yield CANARY

    async def main() -> list[str]:
        return [chunk async for chunk in waits("bob")]

    assert list(stream()) == [CANARY, "more"]
    assert asyncio.run(main()) == [CANARY]

    calls = [r for r in map(audit.Record.decode, bench.leaves()) if r.type == "call"]
    first, second = (opened(bench, record) for record in calls)
    assert b"more" in first["yield"].encoded
    assert second.keys() == {"who", "yield"}
    assert [r.body["stream"]["kept"] for r in calls] == [2, 1]  # type: ignore[index, call-overload]


# -- redaction ------------------------------------------------------------------------------


def test_what_is_redacted_is_not_recorded(bench: Any, audited: Any) -> None:
    """What a rule takes out is in no record; that it did, and where, is."""

    @audited(
        capture=["row", "return"],
        redact=["email", redaction.drop("row.name")],
        require="before",
    )
    def predict(row: dict[str, str]) -> str:
        return f"for {row['mail']} and b@example.org"

    result = predict({"name": CANARY, "mail": "ann@example.org", "n": "5"})

    assert result == "for ann@example.org and b@example.org"
    (call,) = bench.calls()
    (intent,) = (r for r in bench.records() if r.type == "intent")
    assert "ann@" not in str(bench.value(call, "return"))
    assert bench.value(call, "row") == bench.value(intent, "row")
    assert CANARY not in str(bench.value(call, "row"))
    found = {(one["path"], one["rule"]): one["count"] for one in call.body["redactions"]}
    assert found["return", "email"] == 2
    assert found["row", "email"] == 1
    assert found["row.name", "drop"] == 1
    assert len(intent.body["redactions"]) == 2


def test_a_stream_is_looked_through_whole(bench: Any, audited: Any) -> None:
    """What lies across two chunks is taken out of what is kept; the caller gets what was said."""

    @audited(capture=["yield"], redact=["email"])
    def stream() -> Iterator[str]:
        yield "write to ann@exa"
        yield "mple.org now"

    @audited(capture=["yield"], redact=["email"], max_capture=60)
    def long() -> Iterator[object]:
        yield {"to": "ann@example.org"}
        yield "x"
        yield "bob@example.org" * 20
        yield "y"

    assert list(stream()) == ["write to ann@exa", "mple.org now"]
    assert len(list(long())) == 4

    short, cut = bench.calls()
    kept = bench.value(short, "yield")
    assert len(kept) == short.body["stream"]["kept"] == 2
    assert "ann" not in "".join(kept)
    assert "example" not in "".join(kept)
    assert short.body["redactions"] == [{"count": 1, "path": "yield", "rule": "email"}]
    assert "digest" in short.body["stream"]
    # The end of what is kept may be the beginning of something: it is left out.
    assert (cut.body["stream"]["chunks"], cut.body["stream"]["kept"]) == (4, 0)
    assert "digest" not in cut.body["stream"]
    assert "ann" not in str(bench.value(cut, "yield"))


def test_what_a_chunk_cuts_off_is_taken_out_whole(bench: Any, audited: Any) -> None:
    """A secret whose beginning already looks like one is taken out with its rest, once."""

    @audited(capture=["yield"], redact=["secrets", "email"])
    def stream() -> Iterator[object]:
        yield "password=abc123"
        yield None
        yield f"{CANARY} bob@exam.co"
        yield "mpany.org"

    list(stream())

    (call,) = bench.calls()
    kept = "".join(map(str, bench.value(call, "yield")))
    assert CANARY not in kept
    assert "mpany" not in kept
    assert sum(one["count"] for one in call.body["redactions"]) == 2


def test_a_redaction_that_reaches_nothing_is_refused(audited: Any) -> None:
    """A rule whose path leads to nothing that is captured is a mistake of the decorator."""
    with pytest.raises(ValueError, match="leads to nothing that is captured"):
        audited(capture=["row"], redact=[redaction.drop("user.name")])(lambda row: row)
    assert audited(capture=["row"], redact=[])(lambda row: row)(1) == 1
