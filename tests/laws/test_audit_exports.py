"""Hostile records in an export: no format breaks, and each gives the fields back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.audit.export import FIELDS, _spell_jsonl, cef, ecs, ocsf, otlp
from secureml.audit.export.mapping import Item, make_item, microseconds
from secureml.audit.record import Record, prefix
from secureml.wire import canonical
from secureml.wire.merkle import leaf_hash

VECTORS = Path(__file__).parents[2] / "vectors" / "export"
WRITER = "6f1ed002ab5595859014ebf0951522d9"
ORIGIN = "hostile.example/audit"

nasty = st.text(
    st.one_of(
        st.sampled_from("|\\=\n\r\t\0\x07\x1b\x7f\x85\u2028\u2029\"',{}[] %$"), st.characters()
    ).filter(lambda c: not "\ud800" <= c <= "\udfff"),
    min_size=1,
    max_size=60,
)
hexes = st.sampled_from("0123456789abcdef")
word = st.sampled_from(["user", "service", "a-b", "x1"])
count = st.integers(0, 2**53 - 1)


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    """Return the leaf of a record with whatever the specification lets in."""
    body: dict[str, Any] = {
        "action": draw(nasty),
        "call": {"kind": "function", "name": draw(nasty)},
        "latency_us": draw(count),
        "monotonic_us": draw(count),
        "outcome": draw(
            st.sampled_from(["ok", "error", "cancelled", "timeout", "abandoned", "denied"])
        ),
        "record": {"id": "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"},
        "time": draw(
            st.sampled_from(["2026-11-22T08:30:00.123456Z", "1969-01-01T00:00:00.000001Z"])
        ),
        "type": "call",
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "actor": st.fixed_dictionaries(
            {"id": st.text(hexes, min_size=32, max_size=32), "type": word}
        ),
        "error": st.fixed_dictionaries({"type": nasty}),
        "intent": st.just("019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c22"),
        "model": st.fixed_dictionaries(
            {"status": st.just("unverified")}, optional={"name": nasty, "version": nasty}
        ),
        "parent": st.just("019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c23"),
        "request": nasty,
        "retention_class": nasty,
        "session": nasty,
        "source": st.fixed_dictionaries({}, optional={"address": nasty, "host": nasty}),
        "stream": st.fixed_dictionaries(
            {"chunks": count, "complete": st.booleans()}, optional={"ttft_us": count}
        ),
        "target": st.fixed_dictionaries({}, optional={"id": nasty, "name": nasty, "type": word}),
        "tenant": nasty,
        "trace": st.fixed_dictionaries(
            {"trace_id": st.text(hexes, min_size=32, max_size=32)},
            optional={"span_id": st.text(hexes, min_size=16, max_size=16)},
        ),
        "x_unknown": st.recursive(nasty | count, lambda inner: st.lists(inner, max_size=2)),
    }
    for name, strategy in optional.items():
        if draw(st.booleans()):
            body[name] = draw(strategy)
    leaf = prefix(WRITER, draw(count)) + canonical.encode(body)
    Record.decode(leaf)
    return leaf


def at(document: Any, path: str) -> Any:  # noqa: ANN401  any JSON
    """Return what is at a dotted path, None where there is nothing."""
    for part in path.split("."):
        if isinstance(document, list):
            document = document[int(part)] if int(part) < len(document) else None
        else:
            document = document.get(part) if isinstance(document, dict) else None
    return document


def lines(data: bytes) -> list[str]:
    """Return the lines as the most eager reader splits them."""
    return data.decode().splitlines()


def item(leaf: bytes) -> Item:
    """Return *leaf* as it is exported."""
    return make_item(ORIGIN, 7, leaf)


@given(leaves())
def test_json_lines_give_the_record_back(leaf: bytes) -> None:
    """The line holds the record itself, from which the leaf and its hash are made again."""
    line = _spell_jsonl(item(leaf))
    row = json.loads(line)

    assert b"\n" not in line
    assert leaf == prefix(row["writer"], row["seq"]) + canonical.encode(row["record"])
    assert leaf_hash(leaf).hex() == row["leaf_hash"]
    assert (ORIGIN, 7) == (row["origin"], row["index"])


@given(leaves())
def test_ocsf_gives_every_field_back(leaf: bytes) -> None:
    """Each field is at its place in the event, and the leaf goes along."""
    found = item(leaf)
    line = ocsf.spell(found)
    event = json.loads(line)

    assert b"\n" not in line
    assert leaf.decode() == event["raw_data"]
    for field in FIELDS:
        expected = found.values.get(field.record)
        got = at(event, field.ocsf)
        if field.record == "index":
            assert "7" == got
        elif expected is not None:
            assert expected == got, field.record


@given(leaves())
def test_ecs_gives_every_field_back(leaf: bytes) -> None:
    """Each field is at its place in the document, and the leaf goes along."""
    found = item(leaf)
    line = ecs.spell(found)
    document = json.loads(line)

    assert b"\n" not in line
    assert leaf.decode() == document["event"]["original"]
    assert found.number("latency_us") == document["event"]["duration"] // 1_000
    for field in FIELDS:
        assert found.values.get(field.record) == at(document, field.ecs), field.record


@given(leaves())
def test_otlp_gives_every_field_back(leaf: bytes) -> None:
    """Each field is an attribute, or a field of the log record; integers are text."""
    found = item(leaf)
    ((count, line),) = otlp.requests([found], ORIGIN)
    (record,) = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    attributes = {one["key"]: one["value"] for one in record["attributes"]}

    assert 1 == count
    assert b"\n" not in line
    assert len(attributes) == len(record["attributes"])
    assert int(record["observedTimeUnixNano"]) >= int(record["timeUnixNano"])
    for field in FIELDS:
        expected = found.values.get(field.record)
        if expected is None:
            continue
        if field.otel in {"traceId", "spanId"}:
            assert expected == record[field.otel]
        elif field.otel == "timeUnixNano":
            assert max(0, microseconds(str(expected)) * 1_000) == int(record[field.otel])
        elif field.kind == "integer":
            assert {"intValue": str(expected)} == attributes[field.otel]
        else:
            assert {"stringValue": expected} == attributes[field.otel]


def read_cef(line: str) -> tuple[list[str], dict[str, str]]:
    """Read a line of CEF, as the standard says."""
    parts = _split(line)
    header = [re.sub(r"\\([\\|])", r"\1", part) for part in parts[:7]]
    keys = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", parts[7]))
    extension = {}
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        value = parts[7][key.end() : following.start() if following else None]
        extension[key[1]] = re.sub(
            r"\\(.)", lambda one: {"n": "\n", "r": "\r"}.get(one[1], one[1]), value
        )
    return header, extension


def _split(line: str) -> list[str]:
    """Split at the first seven bars that are not escaped."""
    parts, here, place = [], "", 0
    while len(parts) < 7:
        if line[place] == "\\":
            here += line[place : place + 2]
            place += 2
        elif line[place] == "|":
            parts.append(here)
            here, place = "", place + 1
        else:
            here += line[place]
            place += 1
    return [*parts, line[place:]]


def visible(text: str) -> str:
    """Return *text* with the control characters that CEF cannot spell made visible."""
    return re.sub(
        "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]",
        lambda one: f"\\u{ord(one[0]):04x}",
        text,
    )


@given(leaves())
def test_cef_gives_every_field_back(leaf: bytes) -> None:
    """Each field is in the extension; control characters are shown, all else is exact."""
    found = item(leaf)
    line = cef.spell(found)
    header, extension = read_cef(line.decode())

    assert 1 == len(lines(line))
    assert ["CEF:0", "secureml", "secureml-sdk"] == header[:3]
    assert "call" == header[4]
    for field in FIELDS:
        expected = found.values.get(field.record)
        if field.record == "time":
            expected = microseconds(str(expected)) // 1_000
        got = extension.get(field.cef)
        assert (None if expected is None else visible(str(expected))) == got, field.record
        if field.cef in cef.LABELS and got is not None:
            assert cef.LABELS[field.cef] == extension[f"{field.cef}Label"]


@pytest.mark.parametrize("number", range(4))
def test_the_reader_of_cef_reads_the_standards_examples(number: int) -> None:
    """What the tests read CEF with agrees with the standard's own examples."""
    vector = json.loads((VECTORS / "cef.json").read_text())
    one = vector["lines"][number]

    assert vector["source"]
    assert (one["header"], one["extension"]) == read_cef(one["line"])


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda b: prefix(WRITER, 3) + b))
def test_no_leaf_breaks_an_export(leaf: bytes) -> None:
    """Bytes that are no record are a row of every format, with their place and hash."""
    found = item(leaf)
    for spell in (_spell_jsonl, ocsf.spell, ecs.spell, cef.spell):
        line = spell(found)
        assert 1 == len(line.split(b"\n"))
        assert leaf_hash(leaf).hex().encode() in line
    ((_, request),) = otlp.requests([found], ORIGIN)
    assert json.loads(request)
