"""A part of a table as checks see it: canonical rows, and where they stand."""

from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Arrow", "Rows"]

Arrow: TypeAlias = Any
"""Something of pyarrow's, which ships no types."""


@dataclass(frozen=True, slots=True)
class Rows:
    """
    Some rows of a table, in the canonical form that was hashed.

    Attributes:
        start: Position of the first row in the table, counted from 0.
        batch: A `pyarrow.RecordBatch`.
    """

    start: int
    batch: Arrow

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.batch.schema.names)

    def column(self, name: str) -> Arrow:
        """Return the column *name*, a `pyarrow.Array`, or None where there is none."""
        index = self.batch.schema.get_field_index(name)
        return None if index < 0 else self.batch.column(index)
