"""
Data: handles that verify what they hand out, and the checks a gate asks of them.

`dataset` measures a file or a directory and returns a `Dataset`;
`secureml.data.checks` has what can be asked of it.
"""

from secureml.data import checks
from secureml.data.claim import Column, DatasetClaim, schema_from_statement
from secureml.data.dataset import Dataset, dataset
from secureml.data.rows import Rows

__all__ = [
    "Column",
    "Dataset",
    "DatasetClaim",
    "Rows",
    "checks",
    "dataset",
    "schema_from_statement",
]
