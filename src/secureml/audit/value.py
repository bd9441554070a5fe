"""
Values as bytes: typed, length-prefixed, one spelling each (audit-value v1).

A commitment in an audit record is an HMAC over these bytes, so whoever holds
the value and its salt can recompute it, in any language, for ever.  The form
is therefore a function of the value alone: no ``repr``, which changes between
library versions, and no pickle, which runs code when it is read back.

What is not listed in the specification is refused with `TypeError`, naming
the path and the type: evidence that covers "some object" covers nothing.

Source: docs/spec/audit-value.md.
"""

import dataclasses
import hashlib
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from secureml.clock import format_time

__all__ = [
    "MAX_DEPTH",
    "MAX_SIZE",
    "SALT_SIZE",
    "Array",
    "Object",
    "Table",
    "commit",
    "encode",
    "fields_of",
    "type_name",
]

MAX_DEPTH: Final = 64
"""Containers inside containers; a cycle runs into it."""

MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes of one encoded value."""

SALT_SIZE: Final = 32
"""Bytes of the fresh random salt of each commitment."""

_SHORT: Final = 1 << 16
"""Characters of a text, or bytes of a payload, that are sooner copied than kept apart."""

_DOMAIN: Final = b"secureml-audit-value/1\n"
_sha256 = hashlib.sha256
_IPAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OPAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_INNER: Final = b"\x36" * 32 + _DOMAIN
_OUTER: Final = b"\x5c" * 32
_UNIT: Final = r"\[(?:[2-9]|[1-9]\d{1,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"
_DTYPES: Final = (
    r"\|(?P<byte>[biu]1)|\|S(?P<bytes>0|[1-9]\d{0,7})|<U(?P<text>0|[1-9]\d{0,6})"
    r"|<(?P<number>[iu][248]|f[248]|c8|c16)|<[Mm](?P<time>8)" + _UNIT + "|bfloat16"
)
_DTYPE: Final = re.compile(_DTYPES, re.ASCII)
_TEXT: Final = frozenset({str})
_NAN: Final = bytes.fromhex("7ff8000000000000")


def _width(dtype: str) -> int | None:
    """Return the bytes of one element, or None for a type that is not in the list."""
    found = _DTYPE.fullmatch(dtype)
    match found and found.lastgroup:
        case None:
            return 2 if dtype == "bfloat16" else None
        case "text":
            return 4 * int(dtype[2:])
        case "bytes":
            return int(dtype[2:])
        case "time":
            return 8
        case _:
            return int(dtype[2:])


@dataclass(frozen=True, slots=True)
class Array:
    """
    An array of numbers: what numpy arrays and torch tensors become.

    Attributes:
        dtype: numpy's type string with the byte order, ``<f8``, or ``bfloat16``.
        shape: Length of each axis.
        data: The elements in C order, little-endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def is_whole(self) -> bool:
        """Return whether the type is in the specification's list and the data has its size."""
        width = _width(self.dtype)
        if width is None or math.prod(self.shape) * width != len(self.data):
            return False
        return self.dtype != "|b1" or not self.data.strip(b"\0\1")


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table, by name: what pandas and polars frames and Arrow tables become.

    The rows are not kept: a table is named by its logical digest, so that a
    record of a large batch stays small.

    Attributes:
        digest: ``tableDigest1:…`` (docs/spec/table-digest.md).
        rows: Number of rows.
        columns: (name, type) of each column.
    """

    digest: str
    rows: int
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Object:
    """
    A dataclass, attrs or pydantic object: its type's name and its fields.

    Attributes:
        type: ``module.qualname`` of the class.
        fields: Value of each field.
    """

    type: str
    fields: Mapping[str, object]


def commit(salt: bytes, encoded: bytes) -> bytes:
    """
    Return the commitment to an encoded value: 32 bytes of HMAC-SHA256.

    The salt is the key and is used once: without it nobody can tell whether
    two commitments are about the same value, or try likely values.

    Raises:
        ValueError: *salt* is not 32 bytes long.
    """
    if len(salt) != SALT_SIZE:
        msg = f"a salt has {SALT_SIZE} bytes, got {len(salt)}"
        raise ValueError(msg)
    # RFC 2104 by hand: for one short message OpenSSL's own HMAC takes half as
    # long again, most of it to set itself up.  A law compares the two.
    inner = _sha256(salt.translate(_IPAD) + _INNER + encoded).digest()
    return _sha256(salt.translate(_OPAD) + _OUTER + inner).digest()


def encode(value: object, *, path: str = "value") -> bytes:
    """
    Return the bytes of *value*; *path* is how errors name it.

    Raises:
        TypeError: A type that the specification does not list.
        ValueError: Nested deeper than 64 containers (or in itself), larger
            than 16 MiB, or text with a lone surrogate.
    """
    if type(value) is str and len(value) <= _SHORT:
        raw = text_bytes(value, path)
        return b"S" + len(raw).to_bytes(8) + raw
    out: list[bytes] = []
    size = _Encoder(out, path).put(value, path, 0)
    if size > MAX_SIZE:
        msg = _too_large(path)
        raise ValueError(msg)
    return b"".join(out)


def _too_large(path: str) -> str:
    return (
        f"{path!r} is larger than {MAX_SIZE // 2**20} MiB when encoded: capture a part of it, "
        "or its digest"
    )


def tlv(tag: bytes, payload: bytes) -> bytes:
    """Return one element: tag, length as 8 bytes big-endian, payload."""
    return tag + len(payload).to_bytes(8) + payload


def int_bytes(value: int) -> bytes:
    """Return the shortest two's complement of *value*, big-endian; zero is empty."""
    if value == 0:
        return b""
    bits = value.bit_length() if value > 0 else (value + 1).bit_length()
    return value.to_bytes(bits // 8 + 1, signed=True)


def float_bytes(value: float) -> bytes:
    """Return IEEE 754 binary64, big-endian, every NaN as the one quiet NaN."""
    return _NAN if value != value else struct.pack(">d", value)  # noqa: PLR0124  the NaN test


def text_bytes(value: str, path: str) -> bytes:
    """Return UTF-8, or raise ValueError naming *path*."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        msg = f"{path!r} has a lone surrogate, which is no Unicode text"
        raise ValueError(msg) from None


class _Encoder:
    """Appends pieces to *out* and returns sizes, so that nothing is copied twice."""

    __slots__ = ("out", "root", "total")

    def __init__(self, out: list[bytes], root: str) -> None:
        self.out = out
        self.root = root
        self.total = 0

    def put(self, value: object, path: str, depth: int) -> int:
        """Append the element of *value*; return its size."""
        simple = _SIMPLE.get(type(value))
        if simple is not None:
            tag, payload = simple(value, path)
            return self._element(tag, payload)
        if depth < MAX_DEPTH:
            # The common ones first: what they might be a subclass of is a long list.
            if type(value) is dict:
                return self._mapping(value, path, depth)
            if type(value) is list or type(value) is tuple:
                return self._sequence(b"L", value, path, depth)
        return self._container(value, path, depth)

    def _element(self, tag: bytes, payload: bytes) -> int:
        size = len(payload)
        if size <= _SHORT:
            self.out.append(tag + size.to_bytes(8) + payload)
        else:
            self.out.append(tag + size.to_bytes(8))
            self.out.append(payload)
        self.total += size + 9
        if self.total > MAX_SIZE:
            raise ValueError(_too_large(self.root))
        return size + 9

    def _container(self, value: object, path: str, depth: int) -> int:
        if depth >= MAX_DEPTH:
            msg = f"{self.root!r} is nested deeper than {MAX_DEPTH} containers, or contains itself"
            raise ValueError(msg)
        if isinstance(value, Enum):
            return self.put(value.value, path, depth + 1)
        for kinds, simple in _SUBCLASSES:
            if isinstance(value, kinds):
                tag, payload = simple(value, path)
                return self._element(tag, payload)
        if isinstance(value, list | tuple):
            return self._sequence(b"L", value, path, depth)
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth)
        if isinstance(value, set | frozenset):
            return self._set(value, path, depth)
        if isinstance(value, Object):
            return self._object(value.type, value.fields, path, depth)
        plain = _adapt(value, path)
        if isinstance(plain, Object):
            return self._object(plain.type, plain.fields, path, depth)
        return self.put(plain, path, depth + 1)

    def _wrap(self, tag: bytes, slot: int, size: int) -> int:
        self.out[slot] = tag + size.to_bytes(8)
        self.total += 9
        return size + 9

    def _slot(self) -> int:
        self.out.append(b"")
        return len(self.out) - 1

    def _sequence(
        self, tag: bytes, value: list[object] | tuple[object, ...], path: str, depth: int
    ) -> int:
        slot = self._slot()
        size = 0
        for index, item in enumerate(value):
            size += self.put(item, f"{path}[{index}]", depth + 1)
        return self._wrap(tag, slot, size)

    def _mapping(self, value: Mapping[Any, object], path: str, depth: int) -> int:
        slot = self._slot()
        return self._wrap(b"M", slot, self._entries(value, path, depth))

    def _entries(self, value: Mapping[Any, object], path: str, depth: int) -> int:
        if type(value) is dict and set(map(type, value)) <= _TEXT:
            # Code points sort as the bytes of their UTF-8 do, and a dict has no key twice.
            return self._texts(value, path, depth)
        pairs: list[tuple[bytes, str, object]] = []
        for key, item in value.items():
            if not isinstance(key, str):
                msg = (
                    f"{path!r} has a key of type {type_name(type(key))}: the keys of a captured "
                    "mapping are text"
                )
                raise TypeError(msg)
            name = str.__str__(key)
            pairs.append((text_bytes(name, f"a key of {path}"), name, item))
        pairs.sort(key=lambda pair: pair[0])
        if any(a[0] == b[0] for a, b in pairwise(pairs)):
            msg = f"{path!r} has one key twice"
            raise ValueError(msg)
        size = 0
        for raw, _, item in pairs:
            size += self._element(b"S", raw)
            size += self.put(item, f"{path}.*", depth + 1)
        return size

    def _texts(self, value: dict[str, object], path: str, depth: int) -> int:
        out, size = self.out.append, 0
        for name in sorted(value):
            try:
                raw = name.encode()
            except UnicodeEncodeError:
                raw = text_bytes(name, f"a key of {path}")
            out(b"S" + len(raw).to_bytes(8) + raw)
            size += len(raw) + 9
            self.total += len(raw) + 9
            item = value[name]
            if type(item) is str and len(item) <= _SHORT:
                try:
                    raw = item.encode()
                except UnicodeEncodeError:
                    raw = text_bytes(item, f"{path}.*")
                out(b"S" + len(raw).to_bytes(8) + raw)
                size += len(raw) + 9
                self.total += len(raw) + 9
            else:
                size += self.put(item, f"{path}.*", depth + 1)
            if self.total > MAX_SIZE:
                raise ValueError(_too_large(self.root))
        return size

    def _set(self, value: set[object] | frozenset[object], path: str, depth: int) -> int:
        items: list[bytes] = []
        for item in value:
            inner: list[bytes] = []
            _Encoder(inner, self.root).put(item, f"{path}{{}}", depth + 1)
            items.append(b"".join(inner))
        unique = sorted(set(items))
        slot = self._slot()
        self.out.extend(unique)
        size = sum(map(len, unique))
        self.total += size
        return self._wrap(b"Z", slot, size)

    def _object(self, name: str, fields: Mapping[str, object], path: str, depth: int) -> int:
        slot = self._slot()
        size = self._element(b"S", text_bytes(name, path))
        size += self._entries(fields, path, depth)
        return self._wrap(b"O", slot, size)


_Simple = Callable[..., tuple[bytes, bytes]]


def _datetime(value: datetime, path: str) -> tuple[bytes, bytes]:
    if value != value:  # noqa: PLR0124  pandas' "not a time" is a datetime that differs from itself
        return b"N", b""
    if getattr(value, "nanosecond", 0):
        msg = f"{path!r} is a time with nanoseconds, which would be lost: capture it as text"
        raise TypeError(msg)
    if value.tzinfo is None:
        return b"w", value.isoformat(timespec="microseconds")[:26].encode()
    return b"W", format_time(value).encode()


def _time(value: time, path: str) -> tuple[bytes, bytes]:
    if value.tzinfo is not None:
        msg = f"{path!r} is a time of day with a time zone: capture a datetime"
        raise TypeError(msg)
    return b"H", value.isoformat(timespec="microseconds").encode()


def _array(value: Array, path: str) -> tuple[bytes, bytes]:
    if not value.is_whole():
        msg = f"{path!r} is an array of {value.dtype[:20]!r}, or has too few or too many bytes"
        raise TypeError(msg)
    shape = b"".join(tlv(b"I", int_bytes(n)) for n in value.shape)
    return b"A", (
        tlv(b"S", text_bytes(value.dtype, path)) + tlv(b"L", shape) + tlv(b"B", value.data)
    )


def _table(value: Table, path: str) -> tuple[bytes, bytes]:
    columns = b"".join(
        tlv(b"L", tlv(b"S", text_bytes(name, path)) + tlv(b"S", text_bytes(kind, path)))
        for name, kind in value.columns
    )
    return b"X", (
        tlv(b"S", value.digest.encode()) + tlv(b"I", int_bytes(value.rows)) + tlv(b"L", columns)
    )


def _timedelta(value: timedelta, _: str) -> tuple[bytes, bytes]:
    return b"P", int_bytes(value // timedelta(microseconds=1))


_SIMPLE: Final[dict[type, _Simple]] = {
    type(None): lambda _, __: (b"N", b""),
    bool: lambda v, _: (b"T" if v else b"F", b""),
    int: lambda v, _: (b"I", int_bytes(v)),
    float: lambda v, _: (b"D", float_bytes(v)),
    complex: lambda v, _: (b"C", float_bytes(v.real) + float_bytes(v.imag)),
    str: lambda v, p: (b"S", text_bytes(v, p)),
    bytes: lambda v, _: (b"B", v),
    bytearray: lambda v, _: (b"B", bytes(v)),
    memoryview: lambda v, _: (b"B", v.tobytes()),
    datetime: _datetime,
    date: lambda v, _: (b"Y", v.isoformat().encode()),
    time: _time,
    timedelta: _timedelta,
    Decimal: lambda v, _: (b"E", str(v).encode()),
    UUID: lambda v, _: (b"G", v.bytes),
    Array: _array,
    Table: _table,
}

# Subclasses are their base: numpy.float64 is a float, a StrEnum's value is text.
# The order matters: bool before int, datetime before date.
_SUBCLASSES: Final[tuple[tuple[type, _Simple], ...]] = (
    (int, lambda v, _: (b"I", int_bytes(int(v)))),
    (float, lambda v, _: (b"D", float_bytes(float(v)))),
    (complex, lambda v, _: (b"C", float_bytes(v.real) + float_bytes(v.imag))),
    (str, lambda v, p: (b"S", text_bytes(str.__str__(v), p))),
    (bytes, lambda v, _: (b"B", bytes(v))),
    (bytearray, lambda v, _: (b"B", bytes(v))),
    (datetime, _datetime),
    (date, lambda v, _: (b"Y", date.isoformat(v).encode())),
    (time, _time),
    (timedelta, _timedelta),
    (Decimal, lambda v, _: (b"E", Decimal.__str__(v).encode())),
    (UUID, lambda v, _: (b"G", v.bytes)),
)


def fields_of(value: object) -> list[str] | None:
    """Return the names of what a dataclass, attrs or pydantic object holds, else None."""
    kind: Any = type(value)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    if callable(getattr(kind, "model_dump", None)) and hasattr(kind, "model_fields"):
        return [*kind.model_fields, *(getattr(value, "model_extra", None) or ())]
    return None


def type_name(kind: type) -> str:
    """Return how an audit value names a type: ``module.qualname``."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _adapt(value: object, path: str) -> object:
    from secureml.audit import _adapters

    found = _adapters.adapt(value, path)
    if found is not value:
        return found
    kind = type(value)
    names = fields_of(value)
    if names is not None:
        return Object(type_name(kind), {name: getattr(value, name) for name in names})
    msg = (
        f"{path!r} is of type {type_name(kind)}, which has no encoding in audit-value/1: capture "
        "a part of it (text, numbers, lists, mappings, arrays, tables, dataclasses)"
    )
    raise TypeError(msg)
