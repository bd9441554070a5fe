"""
Arrow arrays in the one form that their logical content determines.

`normalise` gives an array the canonical type of its content and canonical
buffers: no dictionary, no view, 64-bit offsets, zeros under nulls, nothing
under null lists, one bit pattern for NaN.  `parts` lists those buffers as the
bytes that the table digest covers.  The frame that is handed out is made by
the same function, so what was hashed is what is used.

Everything goes through pyarrow's own kernels and memoryviews: numpy is not
needed, and no Python loop runs over values.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from secureml._extras import require
from secureml.errors import FormatError
from secureml.wire import tabledigest

__all__ = ["Arrow", "canonical_type", "normalise", "parts", "plain", "pyarrow", "type_name"]

Arrow: TypeAlias = Any
"""Something of pyarrow's, which ships no types."""

_PLAIN = {
    "null": "null",
    "bool": "bool",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "halffloat": "float16",
    "float": "float32",
    "double": "float64",
    "date32[day]": "date32",
    "date64[ms]": "date64",
    "time32[s]": "time32[s]",
    "time32[ms]": "time32[ms]",
    "time64[us]": "time64[us]",
    "time64[ns]": "time64[ns]",
    "duration[s]": "duration[s]",
    "duration[ms]": "duration[ms]",
    "duration[us]": "duration[us]",
    "duration[ns]": "duration[ns]",
    "string": "string",
    "large_string": "string",
    "string_view": "string",
    "binary": "binary",
    "large_binary": "binary",
    "binary_view": "binary",
}
"""Types without parameters of interest: pyarrow's spelling → the canonical name."""

_NAN = {
    "float16": bytes.fromhex("007e"),
    "float32": bytes.fromhex("0000c07f"),
    "float64": bytes.fromhex("000000000000f87f"),
}
"""The quiet NaN with no sign and no payload, little-endian."""

_DECIMAL128_DIGITS = 38
_BYTE = 8


def pyarrow() -> Arrow:
    """Return the module pyarrow."""
    return require("pyarrow", purpose="to digest a table")


def _compute() -> Arrow:
    return require("pyarrow.compute", purpose="to digest a table")


# --- types -------------------------------------------------------------------------------------


def type_name(kind: Arrow, column: str, depth: int = 1) -> str:
    """
    Return the canonical name of an Arrow type.

    Raises:
        FormatError: The type, or one inside it, has no canonical form.
    """
    types = pyarrow().types
    simple = _PLAIN.get(str(kind))
    if depth > tabledigest.MAX_DEPTH:
        raise _refused(column, kind, f"nested more than {tabledigest.MAX_DEPTH} levels deep")
    if isinstance(kind, pyarrow().BaseExtensionType):
        raise _refused(column, kind, "extension types mean what their registration says")
    if simple is not None:
        return simple
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return type_name(kind.value_type, column, depth + 1)
    if types.is_timestamp(kind):
        zone = "" if kind.tz is None else "," + tabledigest.quoted(kind.tz)
        return f"timestamp[{kind.unit}{zone}]"
    if types.is_decimal(kind):
        if not 0 <= kind.scale <= kind.precision:
            raise _refused(column, kind, "its scale is not between 0 and its precision")
        return f"decimal[{kind.precision},{kind.scale}]"
    if types.is_fixed_size_binary(kind):
        return f"fixed_size_binary[{kind.byte_width}]"
    if types.is_fixed_size_list(kind):
        inner = type_name(kind.value_type, column, depth + 1)
        return f"fixed_size_list[{kind.list_size}]<{inner}>"
    if _is_list(kind):
        return f"list<{type_name(kind.value_type, column, depth + 1)}>"
    if types.is_map(kind):
        key = type_name(kind.key_type, column, depth + 1)
        return f"map<{key},{type_name(kind.item_type, column, depth + 1)}>"
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        names = [field.name for field in fields]
        if len(set(names)) != len(names):
            raise _refused(column, kind, "two fields of a struct have the same name")
        return (
            "struct<"
            + ",".join(
                f"{tabledigest.quoted(field.name)}:{type_name(field.type, column, depth + 1)}"
                for field in fields
            )
            + ">"
        )
    raise _refused(column, kind, "the type has no canonical form")


def canonical_type(kind: Arrow) -> Arrow:
    """Return the Arrow type of what is handed out for *kind*, which `type_name` accepts."""
    pa = pyarrow()
    types = pa.types
    simple = _PLAIN.get(str(kind))
    if simple == "string":
        return pa.large_string()
    if simple == "binary":
        return pa.large_binary()
    if simple is not None or types.is_timestamp(kind):
        return kind
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return canonical_type(kind.value_type)
    if types.is_decimal(kind):
        make = pa.decimal128 if kind.precision <= _DECIMAL128_DIGITS else pa.decimal256
        return make(kind.precision, kind.scale)
    if types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", canonical_type(kind.value_type)), kind.list_size)
    if _is_list(kind):
        return pa.large_list(pa.field("item", canonical_type(kind.value_type)))
    if types.is_map(kind):
        return pa.map_(canonical_type(kind.key_type), canonical_type(kind.item_type))
    if types.is_struct(kind):
        fields = (kind.field(i) for i in range(kind.num_fields))
        return pa.struct([pa.field(field.name, canonical_type(field.type)) for field in fields])
    return kind


def _is_list(kind: Arrow) -> bool:
    types = pyarrow().types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _refused(column: str, kind: object, why: str) -> FormatError:
    return FormatError(
        f"column {column!r} has the type {kind}, which the table digest does not cover",
        why=why,
        fix="cast the column to a plain type (its storage type, for an extension type) or drop it",
    )


# --- arrays ------------------------------------------------------------------------------------


def normalise(array: Arrow) -> Arrow:
    """
    Return *array* with its canonical type and canonical buffers.

    It is validated first: offsets that came from a file are not to be
    believed, and a kernel would follow them out of their buffer.  This also
    refuses text that is not UTF-8.

    Raises:
        pyarrow.ArrowException: The array contradicts its own type.
    """
    array.validate(full=True)
    return plain(array)


def plain(array: Arrow) -> Arrow:
    """Return what `normalise` does, of an array that is known to be valid."""
    pa = pyarrow()
    kind = array.type
    types = pa.types
    if types.is_dictionary(kind):
        return plain(plain(array.dictionary).take(array.indices))
    if types.is_run_end_encoded(kind):
        return plain(_compute().run_end_decode(array))
    target = canonical_type(kind)
    if types.is_null(target):
        return array
    if types.is_large_list(target):
        return _list(array, target)
    if types.is_map(target):
        return _map(array, target)
    if types.is_fixed_size_list(target):
        return _fixed_size_list(array, target)
    if types.is_struct(target):
        children = [plain(child) for child in array.flatten()]
        return _build(array, target, [], children)
    if kind != target:
        array = array.cast(target)
    if types.is_large_string(target) or types.is_large_binary(target):
        return _text(array)
    return _fixed(array)


def _fixed(array: Arrow) -> Arrow:
    """Fixed width: one NaN, zeros under nulls."""
    pa, pc = pyarrow(), _compute()
    kind = array.type
    nan = _NAN.get(_PLAIN.get(str(kind), ""))
    if nan is not None:
        is_nan = pc.is_nan(array)
        if pc.any(is_nan).as_py():
            quiet = pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(nan)])[0]
            array = pc.if_else(is_nan, quiet, array)
    if array.null_count == 0:
        return array
    return _build(array, kind, [_zeroed(array)], [])


def _zeroed(array: Arrow) -> Arrow:
    """
    Return the values buffer of *array*, from bit 0, with zeros under nulls.

    The values go through the kernel as bare integers or bytes: as decimals it
    would rescale them.
    """
    pa = pyarrow()
    size = array.type.bit_width
    bare = {
        1: pa.bool_(),
        8: pa.uint8(),
        16: pa.uint16(),
        32: pa.uint32(),
        64: pa.uint64(),
    }.get(size, pa.binary(size // _BYTE))
    values = pa.Array.from_buffers(bare, len(array), array.buffers(), -1, array.offset)
    zero = pa.Array.from_buffers(bare, 1, [None, pa.py_buffer(bytes(max(size // _BYTE, 1)))])[0]
    filled = _compute().fill_null(values, zero)
    if filled.offset:
        filled = pa.concat_arrays([filled, filled.slice(0, 1)]).slice(0, len(filled))
    return filled.buffers()[1]


def _text(array: Arrow) -> Arrow:
    """Strings and bytes: nothing under nulls."""
    pc = _compute()
    if array.null_count == 0:
        return array
    first, last = _extent(array)
    if (pc.sum(pc.binary_length(array)).as_py() or 0) != last - first:
        empty = "" if pyarrow().types.is_large_string(array.type) else b""
        filled = pc.fill_null(array, empty)
        return _build(array, array.type, filled.buffers()[1:], [])
    return array


def _list(array: Arrow, target: Arrow) -> Arrow:
    pa, pc = pyarrow(), _compute()
    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
    child = plain(array.flatten())
    return _build(array, target, [_offsets(lengths).buffers()[1]], [child])


def _map(array: Arrow, target: Arrow) -> Arrow:
    """
    A map is a list of pairs with another name.

    Neither a cast nor ``keys`` and ``items`` is used on the way: they lose
    track of where a sliced or nested map begins.
    """
    pa = pyarrow()
    pairs = array.values
    listed = plain(
        pa.Array.from_buffers(
            pa.list_(pairs.type), len(array), array.buffers()[:2], -1, array.offset, [pairs]
        )
    )
    offsets = _integers(pa.int64(), listed, 1, len(listed) + 1).cast(pa.int32())
    entries = listed.flatten()
    inner = pa.struct([target.key_field, target.item_field])
    child = pa.Array.from_buffers(inner, len(entries), [None], 0, 0, entries.flatten())
    return _build(array, target, [offsets.buffers()[1]], [child])


def _fixed_size_list(array: Arrow, target: Arrow) -> Arrow:
    """A null slot keeps its place in the child, so its elements become null."""
    pa, pc = pyarrow(), _compute()
    size = target.list_size
    if array.null_count == 0:
        return _build(array, target, [], [plain(array.flatten())])
    total = len(array) * size
    child = array.values.slice(array.offset * size, total)
    place = pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), total)), 1)
    if total:
        valid = pc.is_valid(array).take(pc.divide(place, size))
        place = pc.if_else(valid, place, pa.scalar(None, pa.int64()))
    return _build(array, target, [], [plain(child.take(place))])


def _build(array: Arrow, target: Arrow, buffers: list[Arrow], children: list[Arrow]) -> Arrow:
    """Return an array with the nulls of *array* over new *buffers* and *children*."""
    pa = pyarrow()
    validity = pa.py_buffer(_validity(array)) if array.null_count else None
    return pa.Array.from_buffers(
        target, len(array), [validity, *buffers], array.null_count, 0, children
    )


def _offsets(lengths: Arrow) -> Arrow:
    pa = pyarrow()
    ends = _compute().cumulative_sum(lengths)
    return pa.concat_arrays([pa.array([0], pa.int64()), ends])


# --- bytes -------------------------------------------------------------------------------------


def parts(array: Arrow) -> Iterator[bytes | memoryview]:
    """
    Yield the bytes of a normalised *array* that its digest covers.

    Raises:
        OverflowError: A value is longer than 4,294,967,295 bytes or elements.
    """
    types = pyarrow().types
    kind = array.type
    if types.is_null(kind):
        return
    yield _validity(array) if array.null_count else b""
    if types.is_struct(kind):
        for child in array.flatten():
            yield from parts(child)
    elif types.is_fixed_size_list(kind):
        yield from parts(array.flatten())
    elif types.is_large_list(kind):
        yield _lengths(_int64(array, 1, len(array) + 1))
        yield from parts(array.flatten())
    elif types.is_map(kind):
        yield _lengths(_int32(array, 1, len(array) + 1))
        entries = array.values.slice(*_map_extent(array))
        for child in entries.flatten():
            yield from parts(child)
    elif types.is_boolean(kind):
        yield _bits(array.buffers()[1], array.offset, len(array))
    elif types.is_large_string(kind) or types.is_large_binary(kind):
        yield _lengths(_int64(array, 1, len(array) + 1))
        first, last = _extent(array)
        yield _slice(array.buffers()[2], first, last)
    else:
        width = kind.bit_width // _BYTE
        start = array.offset * width
        yield _slice(array.buffers()[1], start, start + len(array) * width)


def _slice(buffer: Arrow, start: int, stop: int) -> bytes | memoryview:
    if buffer is None or start == stop:
        return b""
    return memoryview(buffer)[start:stop]


def _validity(array: Arrow) -> bytes | memoryview:
    """One bit per row, least significant first, 1 for a value; spare bits are 0."""
    return _bits(array.buffers()[0], array.offset, len(array))


def _bits(buffer: Arrow, offset: int, count: int) -> bytes | memoryview:
    """Return *count* bits from bit *offset* on, shifted to bit 0, with spare bits 0."""
    start, shift = divmod(offset, _BYTE)
    whole = _slice(buffer, start, (offset + count + _BYTE - 1) // _BYTE)
    if shift == 0 and count % _BYTE == 0:
        return whole
    number = int.from_bytes(whole, "little") >> shift & ((1 << count) - 1)
    return number.to_bytes((count + _BYTE - 1) // _BYTE, "little")


def _int64(array: Arrow, buffer: int, count: int) -> Arrow:
    return _integers(pyarrow().int64(), array, buffer, count)


def _int32(array: Arrow, buffer: int, count: int) -> Arrow:
    return _integers(pyarrow().int32(), array, buffer, count)


def _integers(kind: Arrow, array: Arrow, buffer: int, count: int) -> Arrow:
    """Return a buffer of *array*, from its offset on, as integers."""
    pa = pyarrow()
    if len(array) == 0:  # then a buffer of offsets may lack even the first
        return pa.array([0], kind)
    return pa.Array.from_buffers(kind, count, [None, array.buffers()[buffer]], 0, array.offset)


def _extent(array: Arrow) -> tuple[int, int]:
    """Return where the bytes of a string array begin and end."""
    offsets = _int64(array, 1, len(array) + 1)
    return offsets[0].as_py(), offsets[len(array)].as_py()


def _map_extent(array: Arrow) -> tuple[int, int]:
    offsets = _int32(array, 1, len(array) + 1)
    first = offsets[0].as_py()
    return first, offsets[len(array)].as_py() - first


def _lengths(offsets: Arrow) -> memoryview | bytes:
    """Return the differences of *offsets* as little-endian unsigned 32-bit integers."""
    pa, pc = pyarrow(), _compute()
    lengths = pc.subtract(offsets.slice(1), offsets.slice(0, len(offsets) - 1))
    try:
        narrow = lengths.cast(pa.uint32())
    except pa.ArrowInvalid as error:
        raise OverflowError(str(error)) from error
    return _slice(narrow.buffers()[1], narrow.offset * 4, (narrow.offset + len(narrow)) * 4)
