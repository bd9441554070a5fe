"""
Subjects: the type in which the stages of a lifecycle meet.

A dataset, a run's output and a model are subjects.  The packages that make
them never import each other; they import this.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from secureml.evidence.verify import Evidence
from secureml.wire.digest import Digest

__all__ = ["SubjectLike", "VerifiedSubject"]


@runtime_checkable
class SubjectLike(Protocol):
    """
    **Protocol.** Something that evidence can be about.

    Names are for people; digests decide.
    """

    @property
    def name(self) -> str:
        """How people call it."""
        ...

    @property
    def digest(self) -> Digest:
        """The digest that statements are joined on."""
        ...

    @property
    def digests(self) -> Mapping[str, str]:
        """Every digest of it, algorithm → hex, `digest` among them."""
        ...


@runtime_checkable
class VerifiedSubject(SubjectLike, Protocol):
    """**Protocol.** A subject that came with evidence, which was verified."""

    @property
    def evidence(self) -> Evidence:
        """What was verified about it."""
        ...
