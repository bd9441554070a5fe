"""What redaction rules still name on the way down a value, and what they look for there."""

import dataclasses
from dataclasses import dataclass
from typing import Final

from secureml import detect
from secureml.audit.value import type_name

__all__ = [
    "MARKERS",
    "MissingStepError",
    "Place",
    "Refused",
    "Search",
    "Target",
    "shown",
]

MARKERS: Final = frozenset({"drop", "dropped", "mask", "masked", "token"})
"""Words that a record or a marker has already, so no detector may be called so."""

_MAX_NAME: Final = 256


class Refused(Exception):  # noqa: N818  it never leaves this package
    """Something cannot be looked into; its text names types and paths only."""

    def plain(self) -> Exception:
        """Return the error for the caller."""
        return TypeError(str(self))


class MissingStepError(Refused):
    """A rule's path does not exist in a value, or the value has no end."""

    def plain(self) -> Exception:
        """Return the error for the caller."""
        return ValueError(str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    What one rule does to the values of one capture path.

    Attributes:
        action: ``drop``, ``mask``, ``token`` or ``detect``.
        steps: What is left of the rule's path after the capture path.
        path: How the record names it.
        detectors: What is looked for.
        optional: Whether the steps may lead nowhere.
        key: A token's key.
    """

    action: str
    steps: tuple[str, ...]
    path: str
    detectors: tuple[detect.Detector, ...]
    optional: bool
    key: bytes = dataclasses.field(repr=False)


class Search:
    """The detectors that are at work at one place, and the paths they report."""

    __slots__ = ("clean", "finder", "paths")

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.paths: dict[str, str] = {}
        detectors: dict[detect.Detector, None] = {}
        for target in targets:
            for detector in target.detectors:
                detectors.setdefault(detector)
                self.paths.setdefault(detector.kind, target.path)
        self.finder = detect.Finder(detectors)
        self.clean: set[str] = set()


class Place:
    """A place on the way down: what rules still name below it, and what is searched for here."""

    __slots__ = ("_active", "_below", "fires", "pending", "search")

    def __init__(
        self,
        targets: tuple[Target, ...],
        active: tuple[Target, ...] = (),
        search: Search | None = None,
    ) -> None:
        here = tuple(t for t in targets if not t.steps and t.action == "detect")
        self._active = active + here
        self._below: dict[tuple[bool, ...], Place] = {}
        self.search = Search(self._active) if here else search
        self.fires = next((t for t in targets if not t.steps and t.action != "detect"), None)
        self.pending = tuple(target for target in targets if target.steps)

    def below(self, step: str) -> "Place":
        """Return the place one step further."""
        if not self.pending:
            return self
        fits = tuple(target.steps[0] in {step, "*"} for target in self.pending)
        place = self._below.get(fits)
        if place is None:
            targets = tuple(
                dataclasses.replace(target, steps=target.steps[1:])
                for target, fit in zip(self.pending, fits, strict=True)
                if fit
            )
            place = self._below[fits] = Place(targets, self._active, self.search)
        return place


def shown(kind: type) -> str:
    """Return the name of a type for a message; a class made at run time may be called anything."""
    name = type_name(kind)
    parts = name.replace("<locals>", "locals").split(".")
    return name if len(name) <= _MAX_NAME and all(p.isidentifier() for p in parts) else "object"
