"""
Text in tables and arrays: what redaction does to Arrow, pandas, polars and numpy.

A table is committed to by its logical digest, so it is rebuilt with the same
columns and types.  Only columns that can hold text are read: a column of a
million numbers is not looked at one by one, which the specification says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secureml._extras import loaded, require

__all__ = ["Cells", "as_table", "put_table", "put_words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """
    What the walk does with the columns of a table.

    Attributes:
        check: Raises when a rule names a column that is none of these.
        named: Whether a rule names something in this column.
        cells: Returns the cells of a column as the rules leave them.
        title: Returns a column's name, given the names before it.
        searched: Whether detectors look at every column.
    """

    check: Callable[[Sequence[str]], None]
    named: Callable[[str], bool]
    cells: Callable[[str, Iterator[object]], list[object]]
    title: Callable[[str, Mapping[str, object]], str]
    searched: bool


def as_table(value: object) -> Any:  # noqa: ANN401  pyarrow has no types here
    """Return a frame, a table or a batch as an Arrow table; None if it is none of them."""
    top = type(value).__module__.partition(".")[0]
    pd: Any = loaded("pandas") if top == "pandas" else None
    if pd is not None and isinstance(value, pd.DataFrame):
        return require("pyarrow", purpose="to redact a table").Table.from_pandas(value)
    pl: Any = loaded("polars") if top == "polars" else None
    if pl is not None and isinstance(value, pl.DataFrame):
        require("pyarrow", purpose="to redact a table")
        frame: Any = value
        return frame.to_arrow()
    pa: Any = loaded("pyarrow")
    if pa is not None and hasattr(pa, "Table"):
        if isinstance(value, pa.RecordBatch):
            return pa.Table.from_batches([value])
        if isinstance(value, pa.Table):
            return value
        # A subclass of pandas' frame that lives elsewhere.
    pd = loaded("pandas")
    if pd is not None and hasattr(pd, "DataFrame") and isinstance(value, pd.DataFrame):
        return require("pyarrow", purpose="to redact a table").Table.from_pandas(value)
    return None


def put_table(table: Any, cells: Cells) -> Any:  # noqa: ANN401  as above
    """Return *table* with its columns as the rules leave them."""
    pa: Any = require("pyarrow", purpose="to redact a table")
    names: list[str] = table.column_names
    cells.check(names)
    columns: list[Any] = []
    titles: dict[str, object] = {}
    for index, name in enumerate(names):
        column = table.column(index)
        kind = column.type
        named = cells.named(name)
        if named or (cells.searched and _has_text(pa, kind)):
            column = _column(pa, column, cells.cells(name, iter(column.to_pylist())), named=named)
        columns.append(column)
        titles[cells.title(name, titles)] = None
    return pa.table(columns, names=list(titles))


def _column(pa: Any, old: Any, new: list[object], *, named: bool) -> Any:  # noqa: ANN401  as above
    kind = old.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not named:
        return pa.array(new, type=kind)
    try:
        return pa.array(new, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # A number's place holds a marker now.
        return pa.array([None if item is None else str(item) for item in new], type=pa.string())


def _has_text(pa: Any, kind: Any) -> bool:  # noqa: ANN401  as above
    types = pa.types
    if types.is_dictionary(kind):
        return _has_text(pa, kind.value_type)
    if types.is_nested(kind):
        return True
    plain = types.is_primitive(kind) or types.is_null(kind) or types.is_boolean(kind)
    return not (plain or types.is_decimal(kind))


def put_words(value: object, put: Callable[[object], object]) -> object:
    """Return a numpy array of text or bytes with each element put; None if it is none."""
    np: Any = loaded("numpy")
    if np is None or not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return None
    array: Any = np.asarray(value)
    if array.dtype.kind not in {"U", "S"}:
        return None
    new = [put(item) for item in array.reshape(-1).tolist()]
    return np.array(new, dtype=array.dtype.kind).reshape(array.shape)
