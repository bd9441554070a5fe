# ruff: noqa: ANN401  fixtures are of any type
"""Which people looked at a result is in the log, by their pseudonyms."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from secureml import audit
from secureml.audit.oversight import oversee, review

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_review_names_the_call(bench: Any, audited: Any) -> None:
    """A review is a record of its own: who, what, why, when, and of which call."""
    with audit.collect() as records:
        audited()(lambda: None)()
    call = records[0].id

    made = review(
        bench.log, call, action="overridden", reviewers=["bob", "ann"], reason="wrong", at=NOON
    )

    (record,) = (r for r in bench.records() if r.type == "human-review")
    of = bench.log.pseudonyms.of
    assert made.id == record.id
    assert record.body["review"] == call
    assert record.body["oversight"] == {
        "action": "overridden",
        "at": "2026-11-22T12:00:00.000000Z",
        "reason": "wrong",
        "reviewers": sorted([of("bob"), of("ann")]),
    }


def test_oversight_inside_a_call(bench: Any, audited: Any) -> None:
    """Inside a call, reviewers add up, and the last action stands; nested calls keep theirs."""

    @audited(action="inner")
    def inner() -> None:
        oversee(action="reviewed", reviewers=["cy"])

    @audited(action="outer")
    def outer() -> None:
        oversee(action="reviewed", reviewers=["ann"], reason="first look")
        inner()
        oversee(action="approved", reviewers=["bob", "ann"])

    @audited(action="waits")
    async def waits() -> None:
        await asyncio.sleep(0)
        oversee(action="rejected", reviewers=[5])

    outer()
    asyncio.run(waits())

    of = bench.log.pseudonyms.of
    found = {record.action: record.body["oversight"] for record in bench.calls()}
    assert found == {
        "inner": {"action": "reviewed", "reviewers": [of("cy")]},
        "outer": {"action": "approved", "reviewers": sorted([of("ann"), of("bob")])},
        "waits": {"action": "rejected", "reviewers": [of(5)]},
    }
    assert not any(b"ann" in leaf for leaf in bench.leaves())


def test_outside_a_call_there_is_nothing_to_oversee() -> None:
    """`oversee` is for the inside of a call."""
    with pytest.raises(LookupError, match="oversee\\(\\) is for use inside"):
        oversee(action="approved", reviewers=["ann"])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"record": "5"}, ValueError, "UUID of version 7"),
        ({"action": "liked"}, ValueError, "action is one of"),
        ({"reviewers": []}, ValueError, "from 1 to 32 reviewers"),
        ({"reviewers": list(range(33))}, ValueError, "got 33"),
        ({"reviewers": "ann"}, TypeError, "a list of people"),
        ({"reviewers": [object()]}, TypeError, "'reviewers' is of type 'object'"),
        ({"reason": ""}, ValueError, "'reason' has 0"),
        ({"reason": "x" * 129}, ValueError, "'reason' has 129"),
        ({"reason": 5}, TypeError, "'reason' is text"),
        ({"ack": "someday"}, ValueError, "ack is one of"),
    ],
)
def test_what_is_not_in_its_form_is_refused(
    bench: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """A review that could not be recorded as it is meant leaves nothing."""
    given = {
        "record": "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21",
        "action": "approved",
        "reviewers": ["ann"],
        **options,
    }
    with pytest.raises(error, match=text):
        review(bench.log, given.pop("record"), **given)

    assert not bench.leaves()
