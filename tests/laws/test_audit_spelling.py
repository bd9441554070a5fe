"""Whatever a call leaves is a record in the one spelling, and says what was given."""

import hmac
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml import audit
from secureml.audit._stamp import spell
from secureml.audit.context import context
from secureml.audit.oversight import oversee
from secureml.audit.record import Record
from secureml.audit.value import commit, encode
from secureml.clock import format_time, parse_time
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.keys import files


class QuickFiles(Files):
    """The operating system, without waiting for the disk."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture(scope="module")
def log() -> Iterator[audit.AuditLog]:
    """Return an open audit log."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        opened = Log.open(
            root / "audit",
            private=root / "private",
            origin="law.example/audit",
            signer=files.generate("ed25519", purposes=frozenset({"audit"})),
            purpose="audit",
            create=True,
            files=QuickFiles(),
        )
        with audit.AuditLog(opened, details=root / "details", private=root / "private") as made:
            made.begin()
            yield made


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
label = st.one_of(text, st.integers(0, 999))
fields = st.fixed_dictionaries(
    {},
    optional={
        "session": label,
        "request": label,
        "tenant": label,
        "retention_class": text,
        "refdb": st.one_of(text, st.tuples(text, st.just("sha256:" + "0" * 64))),
        "source": st.fixed_dictionaries({"host": label}, optional={"address": label}),
        "target": st.fixed_dictionaries({"type": st.just("account")}, optional={"id": label}),
        "period": st.datetimes().map(lambda when: f"{when.isoformat('T', 'microseconds')}Z"),
        "user": st.one_of(text, st.integers()),
    },
)
gates = st.lists(
    st.one_of(text, st.fixed_dictionaries({"name": text, "result": st.just("passed")})), max_size=3
)


@given(
    around=fields,
    own=fields.map(lambda found: {k: v for k, v in found.items() if k not in _PATHS}),
    action=text,
    gates=gates,
    captured=st.sets(st.sampled_from(["row", "row.key", "return"])),
    require=st.sampled_from(["before", "after", None]),
    reviewers=st.lists(text, max_size=2),
    reason=st.one_of(st.none(), text),
    fails=st.booleans(),
    nested=st.booleans(),
    value=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, st.binary()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)
        ),
        max_leaves=6,
    ),
)
def test_every_record_is_canonical_and_says_what_was_given(
    log: audit.AuditLog,
    around: dict[str, Any],
    own: dict[str, Any],
    action: str,
    gates: list[Any],
    captured: set[str],
    require: Any,  # noqa: ANN401  one of the choices
    reviewers: list[str],
    reason: str | None,
    fails: bool,  # noqa: FBT001  a test's value
    nested: bool,  # noqa: FBT001  a test's value
    value: object,
) -> None:
    """What `Record` decodes is canonical; each member is there exactly where it was given."""

    def function(row: dict[str, object]) -> object:
        if reviewers:
            oversee(action="approved", reviewers=reviewers, reason=reason)
        if fails:
            raise KeyError(action)
        return row["key"]

    options = {**own, "gates": gates, "capture": sorted(captured), "require": require}
    predict = audit.audited(log, action=action, **options)(function)  # type: ignore[arg-type]
    outer = audit.audited(log, action="outer")(lambda: predict({"key": value}))
    log.publish()
    start = log.log.size

    with context(**around) if around else nullcontext():
        try:
            (outer if nested else lambda: predict({"key": value}))()
        except KeyError:
            assert fails

    log.publish()
    records = [Record.decode(leaf) for leaf in log.log.entries(start, log.log.size)]
    (record,) = (r for r in records if r.type == "call" and r.body["action"] == action)
    body = record.body
    given_ = {**around, **own}
    user = given_.pop("user", None)
    assert record.actor == (None if user is None else log.pseudonyms.of(user))
    for name in ("session", "request", "tenant", "retention_class"):
        assert body.get(name) == (str(given_[name]) if name in given_ else None)
    for name in ("refdb", "source", "target", "period"):
        assert (name in body) == (name in given_)
    assert [gate["name"] for gate in body.get("gates", [])] == [  # type: ignore[union-attr, call-overload, index]
        gate if isinstance(gate, str) else gate["name"] for gate in gates
    ]
    assert ("oversight" in body) == bool(reviewers)
    assert ("parent" in body) == nested
    assert ("intent" in body) == (require == "before")
    assert record.outcome == ("error" if fails else "ok")
    expected = captured - ({"return"} if fails else set())
    assert expected == record.commitments.keys()
    values = log.values(record) if expected else {}
    assert {p: s.encoded for p, s in values.items()} == {
        path: encode({"key": value} if path == "row" else value, path=path) for path in expected
    }
    for one in (r for r in records if r.type == "intent" and r.body["action"] == action):
        assert one.id == body["intent"]
        assert one.body.get("in") == body.get("in")
        for name in ("session", "target", "period", "actor", "gates", "parent", "refdb"):
            assert one.body.get(name) == body.get(name)


_PATHS = frozenset({"session", "request", "tenant", "user"})


@given(salt=st.binary(min_size=32, max_size=32), encoded=st.binary(max_size=300))
def test_a_commitment_is_hmac(salt: bytes, encoded: bytes) -> None:
    """The commitment that is put together by hand is the HMAC-SHA256 of the specification."""
    message = b"secureml-audit-value/1\n" + encoded

    assert hmac.digest(salt, message, "sha256") == commit(salt, encoded)


@given(microseconds=st.integers(0, 2**53))
def test_times_are_spelled_the_one_way(microseconds: int) -> None:
    """A time that was spelled from nanoseconds reads back as that time."""
    spelled = spell(microseconds * 1000 + 999)

    assert format_time(parse_time(spelled)) == spelled
    assert round(parse_time(spelled).timestamp() * 1e6) - microseconds in (-1, 0, 1)


@given(
    value=st.dictionaries(
        st.text(max_size=5), st.one_of(st.text(max_size=5), st.integers(), st.lists(st.text()))
    )
)
def test_a_dict_is_encoded_as_any_mapping(value: dict[str, object]) -> None:
    """The short way for a dict leads to the same bytes as the long one for a mapping."""
    from types import MappingProxyType

    try:
        expected = encode(MappingProxyType(value), path="row")
    except ValueError:
        with pytest.raises(ValueError, match="surrogate"):
            encode(value, path="row")
    else:
        assert encode(value, path="row") == expected
