"""
A second implementation of ``docs/spec/table-digest.md``, from plain Python values.

It shares no code with the library, and knows nothing of buffers, offsets or
batches.  Tests load it by its path.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa

Arrow: TypeAlias = Any

FORMATS = {
    "int8": "<b",
    "int16": "<h",
    "int32": "<i",
    "int64": "<q",
    "uint8": "<B",
    "uint16": "<H",
    "uint32": "<I",
    "uint64": "<Q",
    "date32": "<i",
    "date64": "<q",
    "time32": "<i",
    "time64": "<q",
    "timestamp": "<q",
    "duration": "<q",
    "float16": "<e",
    "float32": "<f",
    "float64": "<d",
}
NANS = {"float16": "007e", "float32": "0000c07f", "float64": "000000000000f87f"}


def quote(text: str) -> str:
    """Return *text* as JSON."""
    return json.dumps(text, ensure_ascii=False)


def spell(kind: Arrow) -> str:
    """Return the canonical name of a type."""
    t = pa.types
    names = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
    names |= {pa.date32(): "date32", pa.date64(): "date64"}
    if kind in names:
        return names[kind]
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return spell(kind.value_type)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return "string"
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind):
        return "binary"
    if t.is_fixed_size_binary(kind):
        return f"fixed_size_binary[{kind.byte_width}]"
    if t.is_decimal(kind):
        return f"decimal[{kind.precision},{kind.scale}]"
    if t.is_timestamp(kind):
        return f"timestamp[{kind.unit}{',' + quote(kind.tz) if kind.tz else ''}]"
    if t.is_fixed_size_list(kind):
        return f"fixed_size_list[{kind.list_size}]<{spell(kind.value_type)}>"
    if "list" in str(kind).partition("<")[0]:
        return f"list<{spell(kind.value_type)}>"
    if t.is_map(kind):
        return f"map<{spell(kind.key_type)},{spell(kind.item_type)}>"
    if t.is_struct(kind):
        return "struct<" + ",".join(f"{quote(f.name)}:{spell(f.type)}" for f in kind) + ">"
    return str(kind)


def plain(scalar: Arrow) -> Arrow:
    """Return a scalar as None, bool, int, float, bytes or a list of these."""
    kind = scalar.type
    t = pa.types
    if t.is_dictionary(kind):
        return plain(scalar.value) if scalar.is_valid else None
    if t.is_run_end_encoded(kind):
        return plain(pa.scalar(scalar.as_py(), kind.value_type))
    if not scalar.is_valid:
        return None
    if t.is_temporal(kind):
        return scalar.value
    if t.is_decimal(kind):
        sign, digits, _ = scalar.as_py().as_tuple()
        return int("".join(map(str, digits))) * (-1 if sign else 1)
    if t.is_struct(kind):
        return [plain(scalar[i]) for i in range(kind.num_fields)]
    if t.is_nested(kind):
        return [plain(element) for element in scalar.values]
    value = scalar.as_py()
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bool | int | bytes) else float(value)


def bits(flags: Sequence[bool]) -> bytes:
    """Pack *flags*, least significant bit first."""
    packed = bytearray((len(flags) + 7) // 8)
    for index, flag in enumerate(flags):
        packed[index // 8] |= flag << index % 8
    return bytes(packed)


def lengths(values: Sequence[Arrow]) -> bytes:
    """Pack how long each value is; null has nothing."""
    return b"".join(struct.pack("<I", 0 if value is None else len(value)) for value in values)


def encode(kind: Arrow, values: Sequence[Arrow]) -> list[bytes]:
    """Return the parts of a block."""
    t = pa.types
    if t.is_null(kind):
        return []
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return encode(kind.value_type, values)
    present = [value is not None for value in values]
    validity = b"" if all(present) else bits(present)
    name = spell(kind)
    some = [value for value in values if value is not None]
    if name == "bool":
        return [validity, bits([bool(value) for value in values])]
    if name in {"string", "binary"}:
        return [validity, lengths(values), b"".join(some)]
    if t.is_fixed_size_binary(kind):
        return [validity, b"".join(bytes(kind.byte_width) if v is None else v for v in values)]
    if t.is_decimal(kind):
        width = 16 if kind.precision <= 38 else 32
        return [
            validity,
            b"".join((value or 0).to_bytes(width, "little", signed=True) for value in values),
        ]
    if t.is_struct(kind):
        columns = [[None if v is None else v[i] for v in values] for i in range(kind.num_fields)]
        fields = [kind.field(i).type for i in range(kind.num_fields)]
        children = [encode(f, c) for f, c in zip(fields, columns, strict=True)]
        return [validity, *(part for child in children for part in child)]
    if t.is_fixed_size_list(kind):
        return [validity, *encode(kind.value_type, [e for v in some for e in v])]
    if t.is_map(kind):
        pairs = [pair for value in some for pair in value]
        keys = encode(kind.key_type, [key for key, _ in pairs])
        items = encode(kind.item_type, [item for _, item in pairs])
        return [validity, lengths(values), *keys, *items]
    if t.is_nested(kind):
        return [validity, lengths(values), *encode(kind.value_type, [e for v in some for e in v])]
    layout = FORMATS[name.partition("[")[0]]
    packed = (
        bytes.fromhex(NANS[name])
        if isinstance(value, float) and value != value  # noqa: PLR0124  NaN
        else struct.pack(layout, value or (0 if value is None else value))
        for value in values
    )
    return [validity, b"".join(packed)]


def tree(leaves: Sequence[bytes]) -> bytes:
    """Return the root of an RFC 6962 tree over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    cut = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree(leaves[:cut]) + tree(leaves[cut:])).digest()


def reference(table: Arrow, rows: int = 65_536) -> str:
    """Return the digest of *table* in hex, in blocks of *rows*."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = spell(column.type)
        values = [plain(scalar) for scalar in column]
        leaves = []
        for start in range(0, len(values), rows):
            block = values[start : start + rows]
            record = b"secureml-table-digest/1 block\n"
            record += struct.pack("<I", len(kind.encode())) + kind.encode()
            record += struct.pack("<Q", len(block))
            for part in encode(column.type, block):
                record += struct.pack("<Q", len(part)) + part
            leaves.append(hashlib.sha256(b"\x00" + record).digest())
        columns.append({"name": name, "root": tree(leaves).hex(), "type": kind})
    document = json.dumps(
        {"columns": columns, "rows": table.num_rows}, ensure_ascii=False, separators=(",", ":")
    )
    return hashlib.sha256(b"\x02secureml-table-digest/1 table\n" + document.encode()).hexdigest()
