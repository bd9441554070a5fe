"""
Under which role a statement is judged: the one that its predicate type belongs to.

A log may hold only what this version can judge, so a type without a role is
refused instead of being skipped.
"""

from secureml.errors import FormatError
from secureml.evidence.verify import ROLE_OF

__all__ = ["role_of"]


def role_of(predicate_type: str) -> str:
    """
    Return the role under which *predicate_type* is judged.

    Raises:
        FormatError: This version does not know the type.
    """
    role = ROLE_OF.get(predicate_type)
    if role is None:
        raise FormatError(
            f"a statement of type {predicate_type[:120]!r} cannot be judged",
            why="this version knows no role that may say it",
            fix="use a version of secureml-sdk that knows it, or remove what wrote it",
        )
    return role
