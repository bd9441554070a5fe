"""How a call ended, by the exception that left it, and what is said of that exception."""

import asyncio
from typing import Final

from secureml.errors import GateDeniedError
from secureml.wire import canonical

__all__ = ["UNHEARD", "error_member", "outcome_of"]

_MAX_NAME: Final = 512

UNHEARD: Final = frozenset({"abandoned", "cancelled"})
"""Outcomes that nobody waits for."""


def outcome_of(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, GeneratorExit):
        return "abandoned"
    if isinstance(error, GateDeniedError):
        return "denied"
    return "error"


def error_member(kind: type[BaseException], stage: str) -> str:
    where = f'"stage":"{stage}",' if stage else ""
    return f',"error":{{{where}"type":{canonical.encode(_error_name(kind)).decode()}}}'


def _error_name(kind: type[BaseException]) -> str:
    module = kind.__module__
    name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    parts = name.replace("<locals>", "locals").split(".")
    # A class made at run time may be called anything, a user's words included.
    if len(name) > _MAX_NAME or not all(part.isidentifier() for part in parts):
        return "unnamed"
    return name
