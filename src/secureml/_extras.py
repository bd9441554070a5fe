"""
Optional libraries: looked at when present, demanded when needed, never tried at import.

`loaded` answers "has the caller already imported pandas?" without importing
it, which is how a function tells a frame from an array.  `require` imports, or
raises `MissingExtraError` with the exact install line.
"""

import sys
from importlib import import_module
from types import ModuleType

from secureml.errors import MissingExtraError

__all__ = ["EXTRAS", "loaded", "require"]

EXTRAS = {
    "pyarrow": "data",
    "pandas": "pandas",
    "safetensors": "safetensors",
    "skops": "skops",
    "sklearn": "demo",
    "numpy": "safetensors",
    "torch": "torch",
    "rfc3161_client": "tsa",
    "boto3": "aws",
    "botocore": "aws",
    "duckdb": "duckdb",
}
"""Import name → the extra of secureml-sdk that installs it."""


def loaded(name: str) -> ModuleType | None:
    """Return the module *name* if something has imported it already, else None."""
    return sys.modules.get(name)


def require(name: str, *, purpose: str) -> ModuleType:
    """
    Import the optional library *name*, for *purpose* (the end of "is needed …").

    Raises:
        MissingExtraError: It is not installed, or cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        extra = EXTRAS.get(top, top)
        raise MissingExtraError(
            f"{top!r} is needed {purpose}",
            why=f"it cannot be imported: {error}",
            fix=f"pip install 'secureml-sdk[{extra}]' (from a checkout: pip install '.[{extra}]')",
        ) from error
