"""Golden vectors of the table digest, for both implementations."""

import decimal
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from secureml.hashing import table_digest

pa = pytest.importorskip("pyarrow")

_spec = spec_from_file_location("table_reference", Path(__file__).parent / "table_reference.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="table_reference")
ref = module_from_spec(_spec)
_spec.loader.exec_module(ref)

Arrow: TypeAlias = Any
VECTORS = Path(__file__).parents[2] / "vectors" / "table-digest"
UNITS = ["s", "ms", "us", "ns"]
ZONES = [None, "UTC", "+00:00", "Europe/Berlin"]


def arrow_type(name: str) -> Arrow:
    """Return the Arrow type that a vector means: its canonical name, for the types used there."""
    known = [pa.null(), pa.bool_(), pa.date32(), pa.date64(), pa.string(), pa.binary()]
    known += [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
    known += [pa.float16(), pa.float32(), pa.float64(), pa.time32("s"), pa.time32("ms")]
    known += [pa.time64("us"), pa.time64("ns"), pa.binary(2), pa.binary(0)]
    known += [pa.duration(unit) for unit in UNITS]
    known += [pa.timestamp(unit, zone) for unit in UNITS for zone in ZONES]
    known += [pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal256(39, 3)]
    known += [pa.list_(pa.int8()), pa.list_(pa.string()), pa.list_(pa.list_(pa.float32()))]
    known += [pa.list_(pa.int16(), 2), pa.map_(pa.string(), pa.int32())]
    known += [pa.struct([("a", pa.int8()), ('b "\u00e9"', pa.list_(pa.string()))]), pa.struct([])]
    return {ref.spell(kind): kind for kind in known}[name]


def from_json(kind: Arrow, value: Arrow) -> Arrow:
    """Return a value of a vector as pyarrow takes it."""
    t = pa.types
    if value is None or t.is_boolean(kind) or t.is_integer(kind) or t.is_string(kind):
        return value
    if t.is_floating(kind):
        return float(value)
    if t.is_decimal(kind):
        return decimal.Decimal(value)
    if t.is_temporal(kind):
        return int(value)
    if t.is_struct(kind):
        return {field.name: from_json(field.type, value[field.name]) for field in kind}
    if t.is_map(kind):
        return [(from_json(kind.key_type, k), from_json(kind.item_type, v)) for k, v in value]
    if t.is_nested(kind):
        return [from_json(kind.value_type, element) for element in value]
    return bytes.fromhex(value)


def from_vector(vector: dict[str, Any]) -> Arrow:
    """Build the table of a vector."""
    columns = {}
    for column in vector["columns"]:
        kind = arrow_type(column["type"])
        drawn = [from_json(kind, value) for value in column["values"]]
        columns[column["name"]] = pa.array(drawn * column.get("repeat", 1), kind)
    if not columns:
        return pa.table({"": pa.nulls(vector["rows"])}).select([])
    return pa.table(columns)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_golden_vectors(path: Path) -> None:
    """Both implementations give the digests, types and column roots that are written down."""
    vector = json.loads(path.read_text("utf-8"))
    table = from_vector(vector)
    digest = table_digest(table)

    assert vector["source"]
    assert vector["expect"]["digest"] == ref.reference(table)
    assert vector["expect"]["digest"] == digest.root.hex
    assert vector["expect"]["roots"] == [column.root.hex() for column in digest.columns]
    assert [c["type"] for c in vector["columns"]] == [column.type for column in digest.columns]
    assert vector["rows"] == digest.rows
