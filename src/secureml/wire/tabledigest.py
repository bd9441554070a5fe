"""
The bytes of the table digest, version 1: what is hashed, never where it came from.

A table is named by its logical content.  Each column is cut into blocks of
65,536 rows by absolute row position, each block is one leaf, the leaves of a
column form an RFC 6962 tree, and the table is a hash over the names, types and
roots of its columns.  So row groups, chunks, compression and workers cannot
change the digest, a column can be compared by itself, and appending rows
leaves every full block as it was.

This module holds the byte rules only; `secureml.hashing` turns Arrow data into
the parts.  The specification is ``docs/spec/table-digest.md``.
"""

import hashlib
from collections.abc import Iterable, Sequence

from secureml.wire import canonical

__all__ = [
    "BLOCK_ROWS",
    "BLOCK_TAG",
    "MAX_DEPTH",
    "MAX_LENGTH",
    "TABLE_TAG",
    "block_leaf",
    "quoted",
    "table_root",
]

BLOCK_ROWS = 65_536
"""Rows in every block of a column but the last, which has 1 to 65,536."""

MAX_LENGTH = 2**32 - 1
"""Most bytes in one string or binary value, most elements in one list: lengths are 32-bit."""

MAX_DEPTH = 32
"""Most levels of nested types in one column; a flat column has one."""

BLOCK_TAG = b"secureml-table-digest/1 block\n"
TABLE_TAG = b"secureml-table-digest/1 table\n"


def quoted(text: str) -> str:
    """Return *text* as its one JSON spelling, for a field name or a time zone inside a type."""
    return canonical.encode(text).decode("utf-8")


def block_leaf(type_name: str, rows: int, parts: Iterable[bytes | memoryview]) -> bytes:
    """
    Return the leaf hash of one block of one column.

    Args:
        type_name: Canonical type of the column.
        rows: Rows in this block, 1 to 65,536.
        parts: Validity, values, lengths, … in the order that the type prescribes.

    Source: RFC 6962 section 2.1, ``SHA-256(0x00 ‖ record)``, over the record
    of ``docs/spec/table-digest.md``.
    """
    name = type_name.encode("utf-8")
    state = hashlib.sha256(b"\x00" + BLOCK_TAG)
    state.update(len(name).to_bytes(4, "little") + name + rows.to_bytes(8, "little"))
    for part in parts:
        size = part.nbytes if isinstance(part, memoryview) else len(part)
        state.update(size.to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def table_root(rows: int, columns: Sequence[tuple[str, str, bytes]]) -> bytes:
    """
    Return the digest of a table.

    Args:
        rows: Rows in the table.
        columns: Name, canonical type and tree root of each column, in order.

    Raises:
        ValueError: A name holds a lone surrogate.
    """
    value: canonical.JSON = {
        "columns": [
            {"name": name, "root": root.hex(), "type": type_name}
            for name, type_name, root in columns
        ],
        "rows": rows,
    }
    return hashlib.sha256(b"\x02" + TABLE_TAG + canonical.encode(value)).digest()
