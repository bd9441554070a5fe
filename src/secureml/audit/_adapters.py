"""
Values of other libraries: numpy, torch, pandas, polars, pyarrow.

A library that nobody has imported cannot have made the value, so nothing is
imported here to find out; only a table needs pyarrow, to be hashed.
"""

from collections.abc import Sequence
from typing import Any

from secureml._extras import loaded, require
from secureml.audit.value import Array, Table

__all__ = ["adapt"]

_NUMBERS = "biufcSUMm"


def adapt(value: object, path: str) -> object:
    """
    Return what *value* is in audit-value's own terms, or *value* itself when unknown.

    Raises:
        TypeError: A known type in a form that has no encoding.
        MissingExtraError: A frame, and pyarrow is not installed.
    """
    top = type(value).__module__.partition(".")[0]
    for name, adapter in _BY_PACKAGE.items():
        if name == top or loaded(name) is not None:
            found = adapter(value, path)
            if found is not value:
                return found
    return value


def _numpy(value: object, path: str) -> object:
    np: Any = loaded("numpy")
    if np is None:
        return value
    if isinstance(value, np.ndarray):
        return _ndarray(np, value, path)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer) and not isinstance(value, np.timedelta64):
        return int(value)
    if isinstance(value, np.floating):
        if value.dtype.itemsize > 8:  # noqa: PLR2004  bytes of a binary64
            msg = f"{path!r} is a {value.dtype}, which differs between machines: use float64"
            raise TypeError(msg)
        return float(value)
    if isinstance(value, np.complexfloating) and value.dtype.itemsize <= 16:  # noqa: PLR2004  two
        return complex(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        return _ndarray(np, np.asarray(value), path)
    return value


def _ndarray(np: Any, value: Any, path: str) -> object:  # noqa: ANN401  a module and its array
    if isinstance(value, np.ma.MaskedArray):
        msg = f"{path!r} is a masked array: capture filled() or compressed()"
        raise TypeError(msg)
    array = np.asarray(value)
    dtype = array.dtype
    if dtype.kind == "O":
        return array.tolist()
    if dtype.kind not in _NUMBERS or (
        dtype.kind in "fc" and dtype.itemsize > 8 * (1 + (dtype.kind == "c"))
    ):
        msg = f"{path!r} is an array of {dtype}, which has no encoding in audit-value/1"
        raise TypeError(msg)
    little = array.astype(dtype.newbyteorder("<"), copy=False)
    return Array(
        little.dtype.newbyteorder("<").str.replace("=", "<"),
        tuple(array.shape),
        little.tobytes(order="C"),
    )


def _torch(value: object, path: str) -> object:
    torch: Any = loaded("torch")
    if torch is None or not hasattr(torch, "Tensor") or not isinstance(value, torch.Tensor):
        return value
    tensor: Any = value.detach()
    if tensor.layout != torch.strided or tensor.is_quantized:
        msg = f"{path!r} is a sparse or quantised tensor: capture to_dense() or dequantize()"
        raise TypeError(msg)
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    shape = tuple(int(n) for n in tensor.shape)
    if tensor.dtype == torch.bfloat16:
        words = tensor.view(torch.int16).reshape(-1).tolist()
        return Array(
            "bfloat16", shape, b"".join((w & 0xFFFF).to_bytes(2, "little") for w in words)
        )
    np = require("numpy", purpose="to record a tensor")
    return _ndarray(np, tensor.numpy(), path)


def _pandas(value: object, path: str) -> object:
    pd: Any = loaded("pandas")
    if pd is None or not hasattr(pd, "DataFrame"):
        return value
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Series):
        return _series(pd, value, path)
    if isinstance(value, pd.DataFrame):
        pa = require("pyarrow", purpose="to record a table")
        return _arrow_table(pa.Table.from_pandas(value))
    return value


def _series(pd: Any, value: Any, path: str) -> object:  # noqa: ANN401  a module and its series
    labels: Sequence[object] = value.index.tolist()
    items = [None if item is pd.NA or item is pd.NaT else item for item in value.tolist()]
    if labels and all(isinstance(label, str) for label in labels) and value.index.is_unique:
        return dict(zip(labels, items, strict=True))
    if labels == list(range(len(labels))):
        return items
    msg = (
        f"{path!r} is a Series whose labels are neither unique texts nor 0, 1, 2, …: capture "
        "reset_index(), or a frame"
    )
    raise TypeError(msg)


def _polars(value: object, _: str) -> object:
    pl: Any = loaded("polars")
    if pl is None or not hasattr(pl, "DataFrame"):
        return value
    if isinstance(value, pl.Series):
        return value.to_list()
    if isinstance(value, pl.DataFrame):
        require("pyarrow", purpose="to record a table")
        return _arrow_table(value.to_arrow())
    return value


def _pyarrow(value: object, _: str) -> object:
    pa: Any = loaded("pyarrow")
    if pa is None or not hasattr(pa, "Table"):
        return value
    if isinstance(value, pa.RecordBatch):
        return _arrow_table(pa.Table.from_batches([value]))
    if isinstance(value, pa.Table):
        return _arrow_table(value)
    if isinstance(value, pa.Scalar):
        return value.as_py()
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value.to_pylist()
    return value


def _arrow_table(table: Any) -> Table:  # noqa: ANN401  pyarrow has no types here
    from secureml.hashing.table import table_digest

    digest = table_digest(table)
    return Table(
        str(digest.root),
        digest.rows,
        tuple((column.name, str(column.type)) for column in digest.columns),
    )


_BY_PACKAGE = {
    "numpy": _numpy,
    "pandas": _pandas,
    "torch": _torch,
    "pyarrow": _pyarrow,
    "polars": _polars,
}
