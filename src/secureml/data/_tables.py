"""
Read a table file as a stream of batches: Parquet, Arrow IPC, CSV.

The format is what the first bytes say; a name that says otherwise is refused.
A file is opened once, as a regular file, and everything is read through that
one descriptor.

A CSV file has no types.  They are given, or inferred once over the whole file,
and from then on they belong to the claim: the same text is never read with
other types later.  Rules 1: UTF-8, comma, double quotes, quoted line breaks;
an empty cell without quotes is null; ``true`` and ``false`` in three spellings
are booleans; every row has as many cells as the header.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from secureml._extras import require
from secureml.data.claim import Column
from secureml.data.rows import Arrow
from secureml.errors import FormatError, SecureMLError
from secureml.hashing.files import open_regular

__all__ = ["batches", "csv_columns", "detect", "infer"]

_BATCH_ROWS = 65_536
_CSV_BLOCK = 2**22
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
}
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_VALUE = re.compile(r"(invalid value|got \d+:).*", re.DOTALL)
_PARAMETRIC = re.compile(
    r"timestamp\[(?P<unit>s|ms|us|ns), tz=(?P<zone>[A-Za-z0-9_+:/-]{1,64})\]"
    r"|decimal128\((?P<precision>\d{1,2}), (?P<scale>-?\d{1,2})\)"
)


def detect(path: Path) -> str:
    """
    Return the format of the table file at *path*: ``parquet``, ``arrow`` or ``csv``.

    Raises:
        FormatError: It is empty, of no format that can be read, or its name
            says another format than its bytes.
        StoreError: It cannot be opened.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        head = file.read(8)
    named = _SUFFIXES.get(path.suffix.lower())
    if not head:
        raise FormatError(
            f"{path.name!r} is empty",
            why="it has no bytes, so there is nothing to measure",
            fix="check what should have written it",
        )
    found = next((form for magic, form in _MAGIC.items() if head.startswith(magic)), None)
    if found is None and head.startswith(b"FEA1"):
        raise FormatError(
            f"{path.name!r} is a Feather version 1 file",
            why="that format was given up in 2020 and does not keep all types",
            fix="write it again as Parquet: pandas.read_feather(…).to_parquet('data.parquet')",
        )
    if found is None and named == "csv":
        return named
    if found is None or (named is not None and named != found):
        says = f"its bytes are {found}" if found else "its bytes are neither Parquet nor Arrow"
        raise FormatError(
            f"{path.name!r} cannot be read as a table",
            why=f"{says}, and its name ends in {path.suffix!r}",
            fix="a table is a .parquet, .csv or .arrow (Feather version 2) file; for anything "
            "else give the directory that holds the files: it becomes a tree dataset",
        )
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a parser raises into `FormatError`, without the values it quotes."""
    try:
        yield
    except SecureMLError:
        raise
    except Exception as error:  # noqa: BLE001  parsers of files raise many types
        text = _VALUE.sub(r"\1 …", str(error).partition("\n")[0])[:200]
        raise FormatError(
            f"{path.name!r} cannot be read",
            why=f"{type(error).__name__}: {text}",
            fix="check that the file is whole, and open it with the library that wrote it; of a "
            "CSV file, check the row named, or give schema={'column': 'type'}",
        ) from None


def batches(path: Path, form: str, csv: tuple[Column, ...] = ()) -> "Stream":
    """
    Open the table at *path* for reading.

    Raises:
        FormatError: It is not of this format, or a type cannot be read.
        StoreError: It cannot be opened.
    """
    return Stream(path, form, csv)


class Stream:
    """
    The record batches of a table file; a context manager.

    Attributes:
        schema: The Arrow schema of the batches, as the file has it.
        rows: How many rows the file says it has; None when it does not say.
    """

    def __init__(self, path: Path, form: str, csv: tuple[Column, ...]) -> None:
        pa = _arrow()
        self._path = path
        self.rows: int | None = None
        self._file = os.fdopen(open_regular(path), "rb")
        try:
            with reading(path):
                source = pa.PythonFile(self._file, mode="r")
                match form:
                    case "parquet":
                        self._batches = self._parquet(source)
                    case "arrow":
                        self._batches = self._ipc(source)
                    case _:
                        self._batches = self._csv(source, csv)
                self.schema = next(self._batches)
        except BaseException:
            self._file.close()
            raise

    def _parquet(self, source: Arrow) -> Iterator[Arrow]:
        parquet = require("pyarrow.parquet", purpose="to read a Parquet file")
        file = parquet.ParquetFile(source)
        self.rows = file.metadata.num_rows
        yield file.schema_arrow
        yield from file.iter_batches(batch_size=_BATCH_ROWS)

    def _ipc(self, source: Arrow) -> Iterator[Arrow]:
        ipc = require("pyarrow.ipc", purpose="to read an Arrow file")
        file = ipc.open_file(source)
        yield file.schema
        for i in range(file.num_record_batches):
            batch = file.get_batch(i)
            batch.validate(full=True)
            yield batch

    def _csv(self, source: Arrow, columns: tuple[Column, ...]) -> Iterator[Arrow]:
        pa = _arrow()
        csv = require("pyarrow.csv", purpose="to read a CSV file")
        schema = pa.schema([(column.name, csv_type(column.type)) for column in columns])
        reader = csv.open_csv(
            source,
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=_parse_options(),
            convert_options=csv.ConvertOptions(column_types=schema, **_CONVERT),
        )
        if reader.schema.names != schema.names:
            raise FormatError(
                f"{self._path.name!r} has other columns than its schema",
                why=f"the header is {reader.schema.names}, the schema names {schema.names}",
                fix="give the columns in the order of the header, each once",
            )
        yield reader.schema
        yield from reader

    def __iter__(self) -> Iterator[Arrow]:
        with reading(self._path):
            yield from self._batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


_CONVERT = {
    "null_values": [""],
    "true_values": ["true", "True", "TRUE"],
    "false_values": ["false", "False", "FALSE"],
    "strings_can_be_null": True,
    "quoted_strings_can_be_null": False,
    "check_utf8": True,
}


def _parse_options() -> Arrow:
    csv = require("pyarrow.csv", purpose="to read a CSV file")
    return csv.ParseOptions(
        delimiter=",", quote_char='"', double_quote=True, newlines_in_values=True
    )


def infer(path: Path) -> tuple[Column, ...]:
    """
    Infer the types of a CSV file over all of its rows.

    Raises:
        FormatError: It is no CSV file, names a column twice or is not UTF-8.
        StoreError: It cannot be opened.
    """
    csv = require("pyarrow.csv", purpose="to read a CSV file")
    with os.fdopen(open_regular(path), "rb") as file, reading(path):
        table = csv.read_csv(
            file,
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK),
            parse_options=_parse_options(),
            convert_options=csv.ConvertOptions(**_CONVERT),
        )
        names = table.schema.names
    if len(set(names)) != len(names):
        raise FormatError(
            f"{path.name!r} names a column twice",
            why=f"its header is {names}",
            fix="rename one of them",
        )
    for field in table.schema:
        if str(field.type) == "binary":
            raise FormatError(
                f"column {field.name!r} of {path.name!r} is not UTF-8",
                why="CSV is read as UTF-8, and some of its bytes are not",
                fix="write the file as UTF-8",
            )
    return csv_columns(table.schema)


def csv_columns(schema: object) -> tuple[Column, ...]:
    """
    Return *schema*, a `pyarrow.Schema` or a mapping of names to types, as columns.

    Raises:
        TypeError: It is neither.
        ValueError: It has no columns, names one twice, or has an unknown type.
    """
    pa = _arrow()
    if isinstance(schema, pa.Schema):
        pairs = [(field.name, str(field.type)) for field in schema]
    elif isinstance(schema, Mapping):
        pairs = [(name, str(kind)) for name, kind in schema.items()]
    else:
        msg = (
            "schema is a pyarrow.Schema or a mapping such as {'age': 'int64', 'note': 'string'}, "
            f"not {type(schema).__name__}"
        )
        raise TypeError(msg)
    if not pairs or len({name for name, _ in pairs}) != len(pairs):
        msg = f"a schema names at least one column, and each once, got {[n for n, _ in pairs]}"
        raise ValueError(msg)
    return tuple(Column(name, str(csv_type(kind))) for name, kind in pairs)


def csv_type(text: str) -> Arrow:
    """
    Return the Arrow type that *text* names.

    Raises:
        ValueError: It names none that a CSV file can be read with.
    """
    pa = _arrow()
    match = _PARAMETRIC.fullmatch(text)
    if match and match["unit"]:
        return pa.timestamp(match["unit"], match["zone"])
    if match:
        return pa.decimal128(int(match["precision"]), int(match["scale"]))
    try:
        return pa.type_for_alias(text)
    except ValueError:
        msg = (
            f"{text!r} is not a type that a CSV column can have: use for example 'int64', "
            "'double', 'string', 'bool', 'date32', 'timestamp[us]', 'timestamp[us, tz=UTC]' or "
            "'decimal128(10, 2)'"
        )
        raise ValueError(msg) from None


def _arrow() -> Arrow:
    return require("pyarrow", purpose="to read a table")
