"""The vectors of audit values and records, and a second, independent encoder that made them."""

import json
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from secureml.audit.decoding import decode
from secureml.audit.details import Detail
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE, Record, read_prefix
from secureml.audit.value import Array, Object, Table, commit, encode
from secureml.audit.verify import survey_records
from secureml.errors import FormatError

VECTORS = Path(__file__).parents[3] / "vectors"


def load(name: str) -> dict[str, Any]:
    """Return a vector file, which says where it is from."""
    found: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert found["source"]
    return found


VALUES = load("audit-value/values.json")
REFUSED = load("audit-value/refused.json")
LEAVES = load("audit-record/leaves.json")
BAD_LEAVES = load("audit-record/refused.json")
LOGS = load("audit-record/logs.json")
BAD_LINES = load("audit-record/details-refused.json")


def element(tag: bytes, payload: bytes) -> bytes:
    """Return tag, length and payload."""
    return tag + struct.pack(">Q", len(payload)) + payload


def number(value: int) -> bytes:
    """Return the shortest two's complement."""
    size = 0
    while not (value == 0 if size == 0 else -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1):
        size += 1
    return value.to_bytes(size, "big", signed=True)


def real(text: str) -> bytes:
    """Return a binary64."""
    return bytes.fromhex("7ff8000000000000") if text == "nan" else struct.pack(">d", float(text))


def pairs(fields: dict[str, Any]) -> bytes:
    """Return the entries of a map."""
    ordered = sorted(fields.items(), key=lambda pair: pair[0].encode())
    return b"".join(element(b"S", key.encode()) + second(item) for key, item in ordered)


def listed(items: list[bytes]) -> bytes:
    """Return a list of elements."""
    return element(b"L", b"".join(items))


def array(v: dict[str, Any]) -> bytes:
    """Return the payload of an array."""
    shape = listed([element(b"I", number(n)) for n in v["shape"]])
    return element(b"S", v["dtype"].encode()) + shape + element(b"B", bytes.fromhex(v["data"]))


def table(v: dict[str, Any]) -> bytes:
    """Return the payload of a table."""
    columns = [listed([element(b"S", t.encode()) for t in column]) for column in v["columns"]]
    return element(b"S", v["digest"].encode()) + element(b"I", number(v["rows"])) + listed(columns)


SECOND: dict[str, Callable[[Any], bytes]] = {
    "null": lambda _: element(b"N", b""),
    "bool": lambda v: element(b"T" if v else b"F", b""),
    "int": lambda v: element(b"I", number(int(v))),
    "float": lambda v: element(b"D", real(v)),
    "complex": lambda v: element(b"C", real(v[0]) + real(v[1])),
    "text": lambda v: element(b"S", v.encode()),
    "bytes": lambda v: element(b"B", bytes.fromhex(v)),
    "decimal": lambda v: element(b"E", v.encode()),
    "utc": lambda v: element(b"W", v.encode()),
    "naive": lambda v: element(b"w", v.encode()),
    "date": lambda v: element(b"Y", v.encode()),
    "time": lambda v: element(b"H", v.encode()),
    "microseconds": lambda v: element(b"P", number(int(v))),
    "uuid": lambda v: element(b"G", bytes.fromhex(v.replace("-", ""))),
    "list": lambda v: listed([second(item) for item in v]),
    "map": lambda v: element(b"M", pairs(v)),
    "set": lambda v: element(b"Z", b"".join(sorted(map(second, v)))),
    "object": lambda v: element(b"O", element(b"S", v["type"].encode()) + pairs(v["fields"])),
    "array": lambda v: element(b"A", array(v)),
    "table": lambda v: element(b"X", table(v)),
}


def second(description: dict[str, Any]) -> bytes:
    """Encode a described value, sharing no code with the library."""
    ((kind, value),) = description.items()
    return SECOND[kind](value)


MADE: dict[str, Callable[[Any], object]] = {
    "null": lambda _: None,
    "bool": bool,
    "int": int,
    "float": float,
    "complex": lambda v: complex(float(v[0]), float(v[1])),
    "text": str,
    "bytes": bytes.fromhex,
    "decimal": Decimal,
    "utc": lambda v: datetime.strptime(v, "%Y-%m-%dT%H:%M:%S.%f%z").astimezone(UTC),
    "naive": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "microseconds": lambda v: timedelta(microseconds=int(v)),
    "uuid": UUID,
    "list": lambda v: [made(item) for item in v],
    "map": lambda v: {key: made(item) for key, item in v.items()},
    "set": lambda v: {made(item) for item in v},
    "object": lambda v: Object(v["type"], {k: made(item) for k, item in v["fields"].items()}),
    "array": lambda v: Array(v["dtype"], tuple(v["shape"]), bytes.fromhex(v["data"])),
    "table": lambda v: Table(v["digest"], v["rows"], tuple(map(tuple, v["columns"]))),
}


def made(description: dict[str, Any]) -> object:
    """Return the Python value that is described."""
    ((kind, value),) = description.items()
    return MADE[kind](value)


@pytest.mark.parametrize("name", VALUES["values"])
def test_a_value_has_the_specified_bytes(name: str) -> None:
    """The library, a second implementation and the vector agree on every value."""
    expected = bytes.fromhex(VALUES["expect"][name])

    assert expected == second(VALUES["values"][name])
    assert expected == encode(made(VALUES["values"][name]))


@pytest.mark.parametrize("name", VALUES["values"])
def test_a_value_is_read_back(name: str) -> None:
    """What was decoded encodes to the bytes it came from."""
    expected = bytes.fromhex(VALUES["expect"][name])

    assert expected == encode(decode(expected))


@pytest.mark.parametrize("name", REFUSED["inputs"])
def test_another_spelling_of_a_value_is_refused(name: str) -> None:
    """Every rule for a decoder is kept."""
    with pytest.raises(FormatError) as caught:
        decode(bytes.fromhex(REFUSED["inputs"][name]))

    assert REFUSED["expect"] == caught.value.code


def test_commitments_are_as_specified() -> None:
    """A commitment is an HMAC over the domain and the value's bytes."""
    vector = load("audit-value/commitment.json")
    value = bytes.fromhex(VALUES["expect"][vector["value"]])

    found = {name: commit(bytes.fromhex(s), value).hex() for name, s in vector["salts"].items()}

    assert vector["expect"] == found


@pytest.mark.parametrize("name", LEAVES["leaves"])
def test_a_leaf_is_read(name: str) -> None:
    """A record of each type is read, unknown fields and types included, and written back."""
    leaf = LEAVES["leaves"][name].encode()
    expected = LEAVES["expect"][name]

    record = Record.decode(leaf)

    assert expected == {
        "writer": record.writer,
        "seq": record.seq,
        "id": record.id,
        "type": record.type,
    }
    assert leaf == record.encode()
    assert (record.writer, record.seq) == read_prefix(leaf)


@pytest.mark.parametrize("name", BAD_LEAVES["inputs"])
def test_a_malformed_leaf_is_refused(name: str) -> None:
    """Every rule for a reader is kept."""
    with pytest.raises(FormatError) as caught:
        Record.decode(BAD_LEAVES["inputs"][name].encode())

    assert BAD_LEAVES["expect"] == caught.value.code


@pytest.mark.parametrize("name", LOGS["logs"])
def test_a_log_has_the_findings_it_should(name: str) -> None:
    """What a verifier must report is reported, at its leaf, and nothing else is."""
    leaves = [LOGS["leaves"][place].encode() for place in LOGS["logs"][name]]

    found = survey_records(leaves).findings

    assert LOGS["expect"][name] == [[one.index, one.code, one.severity] for one in found]


def test_a_leaf_that_is_too_large_is_refused() -> None:
    """A leaf of 65,535 bytes is read, one of 65,536 is not, and neither is written."""
    leaf = LEAVES["leaves"]["call with nothing captured"].encode()
    fill = b',"future":"%s"' % (b"x" * (MAX_LEAF - len(leaf) - len(b',"future":""')))
    place = leaf.index(b',"latency_us"')
    full = leaf[:place] + fill + leaf[place:]

    record = Record.decode(full)
    with pytest.raises(FormatError):
        Record.decode(full[:place] + fill[:-1] + b'x"' + leaf[place:])
    larger = Record(record.writer, record.seq, {**record.body, "zzz": 1})
    with pytest.raises(ValueError, match=r"65535"):
        larger.encode()

    assert len(full) == MAX_LEAF
    assert record.encode() == full


def test_the_prefix_has_67_bytes() -> None:
    """The part before the JSON has one length."""
    assert all(leaf.index("\n") + 1 == PREFIX_SIZE for leaf in LEAVES["leaves"].values())


def test_a_details_line_opens_its_leaf() -> None:
    """The values of the example open the commitments of its leaf."""
    vector = load("audit-record/details.json")
    record = Record.decode(LEAVES["leaves"]["call"].encode())

    detail = Detail.decode(vector["line"].encode() + b"\n")

    assert vector["expect"] == {p: sealed.commitment for p, sealed in detail.values.items()}
    assert vector["expect"] == record.commitments
    assert detail.encode() == vector["line"].encode() + b"\n"
    assert detail.id == record.id


@pytest.mark.parametrize("name", BAD_LINES["inputs"])
def test_a_malformed_details_line_is_refused(name: str) -> None:
    """Every rule for a line is kept."""
    with pytest.raises(FormatError) as caught:
        Detail.decode(BAD_LINES["inputs"][name].encode())

    assert BAD_LINES["expect"] == caught.value.code
