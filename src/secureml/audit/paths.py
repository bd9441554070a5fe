"""
Capture paths: which values of a call become evidence.

``row``, ``user.id`` and ``self.tier`` begin at a parameter; ``return`` and
``return.score`` at the result; ``yield`` and ``yield.text`` at each chunk of a
generator.  A step after a dot is a key where the value is a mapping or a
frame, else an attribute.  Both words are keywords, so no parameter can be
named like them.

A path is checked when the function is decorated: a misspelt one is an error
on the developer's machine, not a hole in the evidence.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from secureml._extras import loaded

__all__ = ["MAX_PATH", "MissingArgumentError", "Source", "check_path", "follow", "input_source"]

MAX_PATH: Final = 256
"""Characters of one path."""

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


class MissingArgumentError(LookupError):
    """The call does not give a parameter that has no default."""


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where a path begins and how it goes on.

    Attributes:
        path: The whole path, as written.
        steps: What follows the first name.
        read: Takes the positional and keyword arguments of a call, returns
            the parameter's value; raises MissingArgumentError when the call has none.
    """

    path: str
    steps: tuple[str, ...]
    read: Callable[[tuple[object, ...], Mapping[str, object]], object]

    @property
    def reader(self) -> Callable[[tuple[object, ...], Mapping[str, object]], object]:
        """What does as `value`, by the shortest way."""
        return self.value if self.steps else self.read

    def value(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """
        Return what the path leads to in a call with these arguments.

        Raises:
            MissingArgumentError: The call does not give the parameter.
            ValueError: A step of the path does not exist in the value.
        """
        return follow(self.read(args, kwargs), self.steps, self.path)


def check_path(path: object) -> list[str]:
    """
    Return the names of *path*.

    Raises:
        TypeError: It is not text.
        ValueError: It is not names joined by dots, or too long.
    """
    if not isinstance(path, str):
        msg = f"a capture path is text such as 'row' or 'user.id', got {type(path).__name__}"
        raise TypeError(msg)
    names = path.split(".")
    if not all(name.isidentifier() for name in names) or len(path) > MAX_PATH:
        msg = (
            f"{path!r} is not a capture path: names joined by dots, at most {MAX_PATH} "
            "characters, such as 'row', 'user.id' or 'return.score'"
        )
        raise ValueError(msg)
    return names


def follow(value: object, steps: tuple[str, ...], path: str) -> object:
    """
    Walk *steps* from *value*; None ends the walk and is the result.

    Raises:
        ValueError: There is no such key or attribute.
    """
    for step in steps:
        if value is None:
            return None
        try:
            value = _step(value, step)
        except (AttributeError, KeyError) as error:
            msg = f"capture path {path!r}: {type(value).__name__!r} has no {step!r}"
            raise ValueError(msg) from error
    return value


def _step(value: object, step: str) -> object:
    if isinstance(value, Mapping) or _is_frame(value):
        return cast("Mapping[str, object]", value)[step]
    return getattr(value, step)


def _is_frame(value: object) -> bool:
    if type(value).__module__.partition(".")[0] != "pandas":
        return False
    pandas = loaded("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)


def input_source(path: str, signature: inspect.Signature, *, name: str) -> Source:
    """
    Return how *path* is read from the arguments of the function *name*.

    Raises:
        ValueError: The path begins at no parameter.
    """
    first, *steps = check_path(path)
    parameters = list(signature.parameters.values())
    found = signature.parameters.get(first)
    if found is None:
        known = ", ".join(map(repr, signature.parameters)) or "none"
        several = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
        hint = f"; for a keyword of **{several[0]} write {several[0]}.{first}" if several else ""
        msg = f"capture path {path!r}: {name} has no parameter {first!r} (it has {known}){hint}"
        raise ValueError(msg)
    positional = [p.name for p in parameters if p.kind in _POSITIONAL]
    return Source(path, tuple(steps), _reader(found, positional, signature))


def _reader(
    parameter: inspect.Parameter, positional: list[str], signature: inspect.Signature
) -> Callable[[tuple[object, ...], Mapping[str, object]], object]:
    name, default = parameter.name, parameter.default
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        count = len(positional)
        return lambda args, _: args[count:]
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        named = {
            p.name
            for p in signature.parameters.values()
            if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        }
        return lambda _, kwargs: {k: v for k, v in kwargs.items() if k not in named}
    index = positional.index(name) if parameter.kind in _POSITIONAL else None
    by_name = parameter.kind is not inspect.Parameter.POSITIONAL_ONLY

    def read(args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        if index is not None and index < len(args):
            return args[index]
        if by_name and name in kwargs:
            return kwargs[name]
        if default is not inspect.Parameter.empty:
            return default
        raise MissingArgumentError(name)

    return read
