# ruff: noqa: ANN401, ARG001  fixtures are of any type, and some arguments are not read
"""Each rule of a profile flags a record that does not meet it, and passes one that does."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secureml import audit
from secureml.audit import profiles
from secureml.audit.context import context
from secureml.audit.fields import check_body
from secureml.audit.oversight import oversee, review
from secureml.audit.policies import PRESETS
from secureml.clock import parse_time

ID = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"
OTHER = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c22"
TIME = "2026-11-22T08:30:00.000000Z"
ANN, BOB = "a" * 32, "b" * 32
ACT, PCI = "eu-ai-act-12-3", "pci-10.2.2"

GOOD: dict[str, Any] = {
    "action": "identify",
    "actor": {"id": ANN, "type": "user"},
    "call": {"kind": "function", "name": "f"},
    "in": {"face": {"alg": "hmac-sha256", "commitment": "0" * 64}},
    "latency_us": 5,
    "monotonic_us": 5,
    "outcome": "ok",
    "oversight": {"action": "approved", "reviewers": [ANN, BOB]},
    "period": {"end": TIME, "start": TIME},
    "record": {"id": ID},
    "refdb": {"name": "faces"},
    "source": {"host": "edge"},
    "target": {"id": "A", "type": "account"},
    "time": TIME,
    "type": "call",
}
BAD: dict[tuple[str, str], list[dict[str, Any]]] = {
    (ACT, "period"): [{"period": None}, {"period": {"start": TIME}}],
    (ACT, "refdb"): [{"refdb": None}, {"refdb": {}}],
    (ACT, "in"): [{"in": None}, {"in": {}}],
    (ACT, "oversight"): [
        {"oversight": None},
        {"oversight": {"action": "approved"}},
        {"oversight": {"action": "approved", "reviewers": [ANN]}},
        {"oversight": {"action": "approved", "reviewers": [ANN, ANN]}},
    ],
    (PCI, "actor"): [{"actor": None}],
    (PCI, "action"): [{"action": None}],
    (PCI, "time"): [{"time": None}],
    (PCI, "outcome"): [{"outcome": None}],
    (PCI, "source"): [{"source": None}, {"source": {}}],
    (PCI, "target"): [{"target": None}, {"target": {"type": "account"}}],
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the good record with members replaced, or taken out."""
    whole = {**GOOD, **changes}
    return {name: value for name, value in whole.items() if value is not None}


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_good_record_meets_every_rule(name: str) -> None:
    """A record with all that is demanded is not flagged."""
    check_body(GOOD)

    assert [] == profiles.check(GOOD, name)


@pytest.mark.parametrize(("name", "field"), BAD)
def test_each_rule_flags_what_it_is_there_for(name: str, field: str) -> None:
    """Without what one rule demands, that rule and no other flags the record."""
    for changes in BAD[name, field]:
        (missing,) = profiles.check(changed(changes), name)
        assert (ID, name, field) == (missing.record, missing.profile, missing.field)
        assert missing.demand in str(missing)
        assert missing.source in str(missing)


def test_every_rule_is_tried() -> None:
    """No rule is without a record that it flags."""
    rules = {(p.name, r.field) for p in profiles.PROFILES.values() for r in p.rules}

    assert rules == BAD.keys()
    assert all(r.source and r.fix for p in profiles.PROFILES.values() for r in p.rules)


def test_reviews_may_come_later() -> None:
    """Reviewers are counted over the record and the reviews that name it, each once."""
    alone = changed({"oversight": {"action": "reviewed", "reviewers": [ANN]}})

    def by(who: str, of: str = ID) -> dict[str, Any]:
        return {"review": of, "oversight": {"action": "approved", "reviewers": [who]}}

    assert [] == profiles.check(alone, ACT, reviews=[by(BOB)])
    assert profiles.check(alone, ACT, reviews=[by(ANN)])
    assert profiles.check(alone, ACT, reviews=[by(BOB, OTHER), {"review": ID}])


def test_an_unknown_profile() -> None:
    """A profile that is not there is named, with those that are."""
    with pytest.raises(ValueError, match=r"'gdpr' is no profile: 'eu-ai-act-12-3', 'pci-10"):
        profiles.check(GOOD, "gdpr")


def test_retention_presets() -> None:
    """Each profile names a retention class whose period is known, with its source."""
    classes = {profile.retention_class for profile in profiles.PROFILES.values()}

    assert classes == {"eu-ai-act", "pci"}
    assert classes <= PRESETS.keys()


# -- audited(profile=…) -------------------------------------------------------------------


def test_a_biometric_search(bench: Any, audited: Any) -> None:
    """Calls that were reviewed meet Article 12 (3); the call is its own period of use."""

    @audited(profile=ACT, capture=["face"], refdb=("faces", "sha256:" + "0" * 64))
    def search(face: bytes, *, look: bool = False) -> bool:
        if look:
            oversee(action="approved", reviewers=["ann", "bob"])
        return True

    search(b"1", look=True)
    search(b"2")

    first, second = bench.calls()
    assert [] == profiles.check(first, ACT)
    assert ["oversight"] == [missing.field for missing in profiles.check(second, ACT)]
    review(bench.log, second.id, action="approved", reviewers=["ann", "bob"])
    reviews = [r for r in bench.records() if r.type == "human-review"]
    assert [] == profiles.check(second, ACT, reviews=reviews)
    assert first.body["retention_class"] == "eu-ai-act"
    period = first.body["period"]
    assert period["start"] == first.time
    assert parse_time(period["end"]) - parse_time(first.time) == timedelta(
        microseconds=first.latency_us
    )


def test_a_period_of_many_calls(bench: Any, audited: Any) -> None:
    """A period that is given stands; one without an end is refused, for it would never meet."""
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    search = audited(profile=ACT, capture=["face"], refdb="faces")(lambda face: face)

    with context(period=(noon, noon)):
        search(b"1")
    with context(period=noon), pytest.raises(ValueError, match="the end of the period too"):
        search(b"2")

    (record,) = bench.calls()
    assert record.body["period"]["start"] == record.body["period"]["end"]


def test_a_payment(bench: Any, audited: Any) -> None:
    """Calls with user, source and target meet 10.2.2; a call without is not run."""
    ran: list[int] = []

    @audited(profile=PCI, target=lambda account: ("account", account), retention_class="own")
    def pay(account: int) -> None:
        ran.append(account)

    with context(user="alice", source="till-4"):
        pay(1)
    with pytest.raises(ValueError, match=r"actor: user identification .*· source: origination"):
        pay(2)

    (record,) = bench.calls()
    assert [] == profiles.check(record, PCI)
    assert record.body["retention_class"] == "own"
    assert ran == [1]


def test_two_profiles_at_once(bench: Any, audited: Any) -> None:
    """A record may be held to several profiles; the first one's retention class stands."""
    search = audited(
        profile=[PCI, ACT],
        capture=["face"],
        user="user",
        refdb="faces",
        source="edge",
        target=("gallery", "g"),
    )(lambda face, user: (face, user))

    search(b"1", "ann")

    (record,) = bench.calls()
    assert [] == profiles.check(record, PCI)
    assert ["oversight"] == [missing.field for missing in profiles.check(record, ACT)]
    assert record.body["retention_class"] == "pci"


def test_streams_are_held_to_profiles_too(bench: Any, audited: Any) -> None:
    """A generator that lacks what is demanded is refused at its first step."""

    @audited(profile=PCI, user="user", source="s", target=("t", 1))
    def stream(user: str | None) -> Iterator[int]:
        yield 1

    assert [1] == list(stream("ann"))
    with pytest.raises(ValueError, match="actor"):
        next(stream(None))
    assert [[]] == [profiles.check(record, PCI) for record in bench.calls()]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"profile": "iso"}, "'iso' is no profile"),
        ({"profile": ACT}, "can never meet the profile 'eu-ai-act-12-3': it demands the input"),
        ({"profile": ACT, "capture": ["return"]}, "demands the input"),
        ({"profile": PCI, "require": None}, "a call may go unrecorded"),
        ({"profile": PCI, "on_failure": "gap"}, "a call may go unrecorded"),
    ],
)
def test_what_can_never_meet_a_profile_is_not_decorated(
    audited: Any, options: dict[str, Any], text: str
) -> None:
    """A hole that is plain when the function is decorated is refused there."""
    with pytest.raises(ValueError, match=text):
        audited(**options)(lambda row: row)


def test_a_record_of_the_log_can_be_checked(bench: Any, audited: Any) -> None:
    """`check` takes a `Record` as well as its body."""
    audited()(lambda: None)()

    (record,) = bench.calls()
    assert isinstance(record, audit.Record)
    assert {m.field for m in profiles.check(record, PCI)} == {"actor", "source", "target"}
