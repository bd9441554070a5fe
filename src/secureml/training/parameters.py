"""
Parameters of a run, as JSON that has one spelling.

A float becomes its shortest decimal string that reads back as the same float,
``"0.1"``: records hold no floating point.  NaN and infinity are refused,
because a parameter with no value is a mistake to find now, not in an audit.
"""

import math
from collections.abc import Mapping
from typing import Any

from secureml._extras import loaded
from secureml.wire.canonical import JSON, MAX_INT

__all__ = ["check_seed", "plain_parameters"]

_DEPTH = 16


def plain_parameters(parameters: Mapping[str, object]) -> dict[str, JSON]:
    """
    Return *parameters* as JSON without floats.

    None, booleans, integers, text, floats, numpy's scalars, and lists and
    mappings of these are taken; a number of numpy becomes Python's.

    Raises:
        TypeError: A value of another type, or a name that is not text.
        ValueError: NaN, infinity, an integer beyond 2**53 - 1, or nesting
            beyond 16.
    """
    found = _plain(parameters, "parameters", 0)
    if not isinstance(found, dict):
        msg = f"parameters is a mapping of names to values, not {type(parameters).__name__}"
        raise TypeError(msg)
    return found


def check_seed(seed: object) -> int:
    """
    Return *seed* as an integer.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is negative, or beyond 2**53 - 1.
    """
    seed = _scalar(seed)
    if not isinstance(seed, int) or isinstance(seed, bool):
        msg = f"seed is an integer, not {type(seed).__name__}"
        raise TypeError(msg)
    if not 0 <= seed <= MAX_INT:
        msg = f"seed is from 0 to 2**53 - 1, got {seed}"
        raise ValueError(msg)
    return seed


def _mapping(value: Mapping[Any, object], where: str, depth: int) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            msg = f"{where} has the name {name!r}: names are text"
            raise TypeError(msg)
        _check_text(name, where)
        found[name] = _plain(item, f"{where}[{name!r}]", depth + 1)
    return found


def _plain(value: object, where: str, depth: int) -> JSON:
    if depth > _DEPTH:
        msg = f"{where[:80]}… is nested more than {_DEPTH} deep"
        raise ValueError(msg)
    value = _scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _check_text(value, where)
        return str(value)
    if isinstance(value, int):
        if abs(value) > MAX_INT:
            msg = f"{where} is {value}: beyond 2**53 - 1, pass it as text"
            raise ValueError(msg)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            msg = f"{where} is {value}: a parameter has a finite value"
            raise ValueError(msg)
        return repr(float(value))
    if isinstance(value, Mapping):
        return _mapping(value, where, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    msg = (
        f"{where} is a {type(value).__name__}, which a record cannot hold: pass text, a number, "
        "a boolean, None, or lists and mappings of these"
    )
    raise TypeError(msg)


def _scalar(value: object) -> object:
    numpy = loaded("numpy")
    if numpy is not None and isinstance(value, numpy.bool_ | numpy.number):
        item: object = value.item()
        return item
    return value


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        msg = f"{where} holds text with a lone surrogate, which has no UTF-8"
        raise ValueError(msg) from None
