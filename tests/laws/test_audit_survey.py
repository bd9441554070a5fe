"""Laws of reading records by pattern: it accepts nothing that the full reader refuses."""

import re
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secureml.audit._shapes import Shapes
from secureml.audit.fields import OUTCOMES, body_pattern, check_body
from secureml.audit.record import PREFIX_SIZE, Record, prefix
from secureml.clock import format_time, parse_time
from secureml.errors import FormatError
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import SIZES

HEX = "0123456789abcdef"
TEXTS = st.text(alphabet='ab0-"\\\n\x7f\xe9\u2028\U0001f602', min_size=1, max_size=6)
WORDS = st.from_regex(r"[a-z][a-z0-9]{0,4}(-[a-z0-9]{1,4}){0,2}", fullmatch=True)
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
DIGESTS = st.sampled_from(sorted(SIZES)).flatmap(
    lambda name: st.text(HEX, min_size=2 * SIZES[name], max_size=2 * SIZES[name]).map(
        lambda digits: f"{name}:{digits}"
    )
)
IDS = st.uuids(version=4).map(lambda u: str(UUID(hex=f"{u.hex[:12]}7{u.hex[13:]}")))
TIMES = st.datetimes(min_value=datetime(1, 1, 1)).map(  # noqa: DTZ001  made UTC below
    lambda t: t.isoformat(timespec="microseconds") + "Z"
)
COUNTS = st.integers(0, 2**53 - 1) | st.sampled_from([0, 9, 10, 10**15 - 1, 10**15])
UNKNOWN: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
HEX32 = st.text(HEX, min_size=32, max_size=32)
HEX64 = st.text(HEX, min_size=64, max_size=64)
COMMITMENTS = st.dictionaries(
    st.text(alphabet="ab.[]0\xe9", min_size=1, max_size=6),
    st.fixed_dictionaries(
        {"alg": st.just("hmac-sha256"), "commitment": HEX64},
        optional={"ref": DIGESTS, "key": HEX32, "later": UNKNOWN},
    )
    | st.fixed_dictionaries({"alg": WORDS.filter(lambda w: w != "hmac-sha256")}),
    max_size=2,
)
BODIES = st.fixed_dictionaries(
    {
        "action": TEXTS,
        "call": st.fixed_dictionaries(
            {"kind": WORDS, "name": TEXTS}, optional={"code": DIGESTS, "later": UNKNOWN}
        ),
        "latency_us": COUNTS,
        "monotonic_us": COUNTS,
        "outcome": st.sampled_from(sorted(OUTCOMES)),
        "record": st.fixed_dictionaries({"id": IDS}, optional={"later": UNKNOWN}),
        "time": TIMES,
        "type": st.sampled_from(["call", "intent"]),
    },
    optional={
        "actor": st.fixed_dictionaries({"id": HEX32, "type": WORDS}),
        "details": st.fixed_dictionaries(
            {"segment": st.from_regex("[a-z0-9-]{1,9}", fullmatch=True)}
        ),
        "gates": st.lists(st.fixed_dictionaries({"name": TEXTS}, optional={"decision": DIGESTS})),
        "in": COMMITMENTS,
        "intent": IDS,
        "later": UNKNOWN,
        "model": st.fixed_dictionaries(
            {"status": st.sampled_from(["verified", "unverified"])},
            optional={"digest": DIGESTS, "evidence": st.lists(DIGESTS, max_size=2)},
        ),
        "out": COMMITMENTS,
        "stream": st.fixed_dictionaries({"chunks": COUNTS, "complete": st.booleans()}),
        "trace": st.fixed_dictionaries({"trace_id": HEX32}),
    },
)


def good(body: dict[str, JSON]) -> bool:
    """Return whether the full reader lets a body pass."""
    try:
        check_body(body)
    except FormatError:
        return False
    return True


def matcher(body: dict[str, JSON]) -> Callable[[str], "re.Match[str] | None"]:
    """Return the pattern made from a body."""
    return re.compile(body_pattern(body)).fullmatch


def accepted(text: str) -> bool:
    """Return whether the full reader accepts the text of a body."""
    try:
        Record.decode(prefix("0" * 32, 1) + text.encode("utf-8", "surrogatepass"))
    except FormatError:
        return False
    return True


@given(BODIES)
def test_a_pattern_matches_what_it_was_made_from(body: dict[str, JSON]) -> None:
    """The record that a pattern comes from is matched, unless its text is out of the ordinary."""
    assume(good(body))
    text = canonical.encode(body).decode()
    body = dict(sorted(body.items()))
    found = matcher(canonical.decode(text.encode()))(text)  # type: ignore[arg-type]

    plain = "\\" not in text and not re.search(r"[0-9]{16}[,}\]]", text) and "-02-29T" not in text
    if plain:
        assert found is not None
        assert (body["time"], body["outcome"]) == (found["time"], found["outcome"])
        assert {"id": found["id"]}.items() <= body["record"].items()  # type: ignore[union-attr]


@given(BODIES, BODIES)
def test_a_pattern_accepts_no_more_than_the_reader(
    one: dict[str, JSON], two: dict[str, JSON]
) -> None:
    """Whatever a pattern matches, of its own shape or another, is a record in canonical form."""
    assume(good(one))
    text = canonical.encode(two).decode()
    if matcher(canonical.decode(canonical.encode(one)))(text):  # type: ignore[arg-type]
        assert accepted(text)


@given(BODIES, st.data())
def test_changed_text_is_accepted_only_where_the_reader_does(
    body: dict[str, JSON], data: st.DataObject
) -> None:
    """A character put in, left out or exchanged: what is matched then is a record all the same."""
    assume(good(body))
    text = canonical.encode(body).decode()
    match = matcher(canonical.decode(text.encode()))  # type: ignore[arg-type]
    for _ in range(8):
        place = data.draw(st.integers(0, len(text)))
        piece = data.draw(
            st.sampled_from(["", '"', "\\", "0", "1", "9", "a", "f", "-", ",", "}", "\n", "\x1f"])
        )
        kept = data.draw(st.integers(0, 1))
        changed = text[:place] + piece + text[place + kept :]
        if match(changed):
            assert accepted(changed), changed


@pytest.mark.parametrize("year", ["0000", "0001", "1900", "2000", "2023", "2024", "9999"])
def test_every_day_is_judged_as_the_calendar_does(year: str) -> None:
    """The pattern of times matches no day that there is not, and all that there are but one."""
    form = body_pattern({"time": "2026-11-22T08:30:00.000000Z"})
    match = re.compile(form).fullmatch
    for month in range(14):
        for day in range(33):
            time = f"{year}-{month:02}-{day:02}T23:59:59.999999Z"
            try:
                real = format_time(parse_time(time)) == time
            except FormatError:
                real = False
            if not real or (month, day) != (2, 29):
                assert real == (match(f'{{"time":"{time}"}}') is not None), time
    for clock in ("24:00:00", "23:60:00", "23:59:60", "23:59:61"):
        assert not match(f'{{"time":"2026-11-22T{clock}.000000Z"}}')


@given(st.lists(BODIES, min_size=1, max_size=3), st.integers(1, 30))
def test_shapes_read_what_the_reader_reads(bodies: list[dict[str, JSON]], turns: int) -> None:
    """Once learnt, a shape gives the writer, the number, the id and the time of each record."""
    shapes = Shapes()
    for number in range(turns):
        body = bodies[number % len(bodies)]
        assume(good(body))
        record = Record("ab" * 16, number, body)
        leaf = record.encode()
        quick = shapes.read(leaf)
        if quick is None:
            shapes.learn(Record.decode(leaf))
            continue
        shape, found = quick
        assert (record.writer, f"{number:016x}") == found.group("writer", "seq")
        assert (record.id, record.time, record.type) == (found["id"], found["time"], shape.kind)
        assert shape.announced == ("intent" in body)
        assert shapes.read(leaf + b" ") is None
        assert shapes.read(leaf[:PREFIX_SIZE] + b"\xff" + leaf[PREFIX_SIZE:]) is None


def test_a_shape_is_learnt_once_it_is_common() -> None:
    """Rare shapes cost nothing, common ones are read by pattern, other types never are."""
    body: dict[str, JSON] = {
        "action": "a",
        "call": {"kind": "function", "name": "f"},
        "latency_us": 1,
        "monotonic_us": 1,
        "outcome": "ok",
        "record": {"id": "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"},
        "time": "2026-11-22T08:30:00.000000Z",
        "type": "call",
    }
    record = Record.decode(Record("ab" * 16, 3, body).encode())
    shapes = Shapes()
    for _ in range(7):
        shapes.learn(record)
        assert shapes.read(record.encode()) is None
    shapes.learn(record)
    assert shapes.read(record.encode()) is not None
    assert shapes.read(b"\xff" + record.encode()) is None
    assert shapes.read(record.encode() + b" " * 65_536) is None
    other = Record.decode(
        Record(
            "ab" * 16, 3, {**body, "type": "access", "actor": {"id": "0" * 32, "type": "user"}}
        ).encode()
    )
    for _ in range(20):
        shapes.learn(other)
    assert shapes.read(other.encode()) is None


def test_a_liar_cannot_make_patterns_without_end() -> None:
    """Records in ever new shapes make 64 patterns at most, each of a bounded length."""
    shapes = Shapes()
    base: dict[str, JSON] = {
        "action": "a",
        "call": {"kind": "function", "name": "f"},
        "latency_us": 1,
        "monotonic_us": 1,
        "outcome": "ok",
        "record": {"id": "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"},
        "time": "2026-11-22T08:30:00.000000Z",
        "type": "call",
    }
    for number in range(100):
        for _ in range(8):
            shapes.learn(Record("ab" * 16, 3, {**base, f"x{number}": 1}))
    long: dict[str, JSON] = {f"k{n}": n for n in range(2_000)}
    for _ in range(8):
        shapes.learn(Record("ab" * 16, 3, {**base, **long}))

    assert 64 == len(shapes._known)
