"""
Type-state at run time: results that only a verification of this package makes.

Holding one means that the check was done.  So there is no constructor for
others, no copy, no `dataclasses.replace` and no pickle.  It guards against
mistakes and short cuts, not against code in the same process.
"""

from typing import Never

__all__ = ["TOKEN", "Made"]

TOKEN = object()
"""Shown by the functions that verified; never leaves this package."""


class Made:
    """A frozen object that only the functions of this package make."""

    __slots__ = ()

    def __init__(self, token: object = None, /, **values: object) -> None:
        if token is not TOKEN:
            msg = f"a {type(self).__name__} comes from a function that verifies, never by hand"
            raise TypeError(msg)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> Never:
        msg = f"a {type(self).__name__} is frozen: {name!r} cannot be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> Never:
        msg = f"a {type(self).__name__} is frozen: {name!r} cannot be deleted"
        raise AttributeError(msg)

    def __reduce_ex__(self, protocol: object) -> Never:
        msg = (
            f"a {type(self).__name__} is neither copied nor pickled: "
            "verify and load the model where it is used"
        )
        raise TypeError(msg)
