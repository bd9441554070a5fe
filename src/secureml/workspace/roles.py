"""
Under which role a statement is judged: the one that its predicate type belongs to.

A log may hold only what this version can judge, so a type without a role is
refused instead of being skipped.
"""

from secureml.errors import FormatError
from secureml.evidence.statements import Logged
from secureml.evidence.trust import Position, Trust
from secureml.evidence.verify import ROLE_OF, Evidence, verify

__all__ = ["evidence_of", "role_of"]


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


def evidence_of(logged: Logged, *, origin: str, trust: Trust) -> Evidence:
    """
    Verify a statement of our own log *origin* at its place, under its role.

    Raises:
        VerificationError: It does not hold under *trust*.
        FormatError: It cannot be read, or has no role.
    """
    return verify(
        logged.envelope,
        trust=trust,
        role=role_of(logged.envelope.statement().predicate_type),
        position=Position(origin, logged.index, logged.at),
    )
