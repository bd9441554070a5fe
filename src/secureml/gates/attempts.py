"""
Count attempts: how often somebody tried until the gate turned green.

A plan is logged before its run, so the log knows every attempt, also the ones
whose outcome was not liked.  An attempt is a plan for the same gate name or
for a dataset of the same name; a plan that no decision names was aborted, and
counts all the same.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from secureml.errors import FormatError
from secureml.gates.predicates import GatePlan, Verdict
from secureml.wire.digest import Digest
from secureml.wire.statement import GATE_PLAN, VSA, Statement

__all__ = ["Attempts", "count_attempts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """
    How often a gate, or a dataset, was tried.

    Attributes:
        count: All plans before the decision, its own included.
        plans: Their places in the log, in order.
        aborted: How many of them no decision names.
    """

    count: int
    plans: tuple[int, ...]
    aborted: int

    def __str__(self) -> str:
        return f"{self.count} ({self.aborted} aborted)" if self.aborted else str(self.count)


def count_attempts(
    history: Iterable[tuple[int, Statement]],
    *,
    gate: str,
    dataset_names: Collection[str],
    before: int,
) -> Attempts:
    """
    Count the plans before index *before* for this gate name or these dataset names.

    A plan that cannot be read is counted, since nobody can tell what it was for.

    Args:
        history: The statements of one log with their places, from the first
            on; decisions at or after *before* only tell which plans were
            carried to the end.
        gate: The gate's name, ``label@major``.
        dataset_names: The names of the subjects.
        before: Place of the decision in the log.
    """
    plans: list[tuple[int, str]] = []
    decided: Counter[str] = Counter()
    for index, statement in history:
        if statement.predicate_type == GATE_PLAN and index < before:
            if _concerns(statement, gate, dataset_names):
                plans.append((index, Digest.sha256(statement.encode()).hex))
        elif statement.predicate_type == VSA:
            try:
                decided.update({d.hex for d in Verdict.from_statement(statement).inputs})
            except FormatError:
                continue
    aborted = 0
    for _, name in plans:
        if decided[name]:
            decided[name] -= 1
        else:
            aborted += 1
    indices = tuple(sorted(index for index, _ in plans))
    return Attempts(count=len(plans), plans=indices, aborted=aborted)


def _concerns(statement: Statement, gate: str, dataset_names: Collection[str]) -> bool:
    if any(subject.name in dataset_names for subject in statement.subject):
        return True
    try:
        return GatePlan.from_statement(statement).gate == gate
    except FormatError:
        return True
