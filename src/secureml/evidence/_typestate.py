"""
Type-state at run time: objects that only a verification can make.

Being one of these types is the proof that a check was passed, so there is no
second way in: no constructor, no copy, no `dataclasses.replace`, no pickle.
This guards against mistakes and short cuts.  It is no wall against code that
runs in the same process, which may do anything.
"""

from typing import Never, Self

__all__ = ["TOKEN", "TypeState"]

TOKEN = object()
"""What a verification shows to make an object; never leaves this package."""


class TypeState:
    """A frozen object that only the functions of this package make."""

    __slots__: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        for base in cls.__bases__:
            if base is not TypeState and issubclass(base, TypeState):
                msg = f"{base.__name__} is not subclassed: it is a proof, not a shape"
                raise TypeError(msg)

    def __new__(cls, token: object = None, /, **_: object) -> Self:
        if token is not TOKEN:
            msg = f"{cls.__name__} is made by verification only, never by hand"
            raise TypeError(msg)
        return super().__new__(cls)

    def __init__(self, _token: object, /, **values: object) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, values[name])

    def __setattr__(self, name: str, value: object) -> Never:
        raise self._frozen(f"{name} cannot be set")

    def __delattr__(self, name: str) -> Never:
        raise self._frozen(f"{name} cannot be deleted")

    def __copy__(self) -> Never:
        raise self._frozen("it is not copied: pass it on")

    def __deepcopy__(self, memo: object) -> Never:
        raise self._frozen("it is not copied: pass it on")

    def __replace__(self, /, **_: object) -> Never:
        raise self._frozen("no part of it can be replaced")

    def __reduce_ex__(self, protocol: object) -> Never:
        raise self._frozen("it is not pickled: ship the bundle, and verify it again there")

    def _frozen(self, why: str) -> TypeError:
        return TypeError(f"{type(self).__name__} is what a verification found; {why}")
