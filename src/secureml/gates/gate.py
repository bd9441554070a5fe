"""
A gate: a named list of checks, whose identity is the digest of its plan.

The name is a label for people, ``train-data@1``.  The digest covers the name
and every check with its parameters, so a gate that was weakened under the same
name is another gate, and a relying party that names the digest sees it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, cast

from secureml._html import grid
from secureml.gates.check import Check, Finding, Measurable, check_name, checked
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = ["Gate", "Preview", "check_gate_name"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*@[0-9]+", re.ASCII)


def check_gate_name(name: str) -> str:
    """
    Return *name*, which is spelled ``label@major``.

    Raises:
        TypeError: It is not text.
        ValueError: It is spelled otherwise.
    """
    given: object = name
    if not isinstance(given, str):
        msg = f"a gate's name is text such as 'train-data@1', not {type(given).__name__}"
        raise TypeError(msg)
    if not _NAME.fullmatch(name):
        msg = (
            f"{name!r} is not a gate name: use small letters, digits, '.', '_' and '-', then "
            "'@' and a number, for example 'train-data@1'; raise the number when the gate changes"
        )
        raise ValueError(msg)
    return name


def plan_value(name: str, checks: Sequence[tuple[str, Mapping[str, JSON]]]) -> dict[str, JSON]:
    """Return the plan of the gate *name* that asks *checks*, each an id with parameters."""
    items: list[JSON] = [{"id": label, "params": dict(params)} for label, params in checks]
    return {"checks": items, "name": name, "v": 1}


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Gate:
    """
    A named list of checks that must all pass.

    Attributes:
        name: The label, ``label@major``.
        checks: In the order of their names: the order given makes no other gate.

    Raises:
        TypeError: Something given is no check.
        ValueError: The name is not ``label@major``, there is no check, or one
            check is given twice.
    """

    name: str
    checks: tuple[Check, ...]
    check_names: tuple[str, ...]
    _plan: bytes

    def __init__(self, name: str, checks: Sequence[Check]) -> None:
        check_gate_name(name)
        given: object = checks
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            msg = f"a gate takes a list of checks, not {type(given).__name__}"
            raise TypeError(msg)
        if not checks:
            msg = f"gate {name!r} has no checks: a gate that asks nothing would pass everything"
            raise ValueError(msg)
        named: dict[str, Check] = {}
        for check in checks:
            label = check_name(check)
            if label in named:
                msg = f"gate {name!r} has the check {label} twice: leave one out"
                raise ValueError(msg)
            named[label] = check
        labels = sorted(named)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "checks", tuple(named[label] for label in labels))
        object.__setattr__(self, "check_names", tuple(labels))
        plan = plan_value(name, [(check.id, check.params) for check in self.checks])
        object.__setattr__(self, "_plan", canonical.encode(plan))

    def plan(self) -> dict[str, JSON]:
        """Return what the gate will ask, as JSON; its canonical bytes are its identity."""
        return cast("dict[str, JSON]", canonical.decode(self._plan))

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical plan."""
        return Digest.sha256(self._plan)

    def preview(self, subject: Measurable) -> "Preview":
        """
        Measure *subject* now, to explore: logs nothing, signs nothing, is never evidence.

        Raises:
            TypeError: *subject* cannot be measured.
            DigestMismatchError: The data changed since it was registered.
        """
        require_measurable(subject)
        findings = checked(self.check_names, subject.measure(self.checks))
        return Preview(self.name, subject.name, tuple(findings))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Gate):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Gate({self.name!r}, {len(self.checks)} checks, plan {self.digest.short})"

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[Check, ...]]]:
        return type(self), (self.name, self.checks)

    def _repr_html_(self) -> str:
        rows = [label.partition(" ")[::2] for label in self.check_names]
        return grid(f"gate {self.name}", ("check", "parameters"), rows, note=f"plan {self.digest}")


def require_measurable(subject: object) -> None:
    """
    Check that *subject* can be measured.

    Raises:
        TypeError: It has no name, digests or ``measure``.
    """
    missing = [n for n in ("name", "digest", "digests", "measure") if not hasattr(subject, n)]
    if missing:
        msg = (
            f"a gate measures a dataset, not {type(subject).__name__}: register the data first, "
            "for example train = ws.dataset('train.parquet', source=…, licence=…)"
        )
        raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class Preview:
    """
    What a gate would find, for the eye only: never evidence.

    Attributes:
        gate: The gate's name.
        subject: The dataset's name.
        findings: One for each check.
    """

    gate: str
    subject: str
    findings: tuple[Finding, ...]

    @property
    def would_pass(self) -> bool:
        """Whether every check passed."""
        return bool(self.findings) and all(found.passed for found in self.findings)

    def __str__(self) -> str:
        word = "would pass" if self.would_pass else "would be denied"
        return f"preview of gate {self.gate} on {self.subject}: {word} (never evidence)\n" + table(
            self._detailed()
        )

    def _repr_html_(self) -> str:
        return findings_html(
            f"preview of gate {self.gate} on {self.subject}",
            self._detailed(),
            note="a preview is logged nowhere and never evidence",
        )

    def _detailed(self) -> list[Finding]:
        """Return the findings with what a preview may show and a log may not."""
        return [
            replace(found, message=f"{found.message} ({found.detail})") if found.detail else found
            for found in self.findings
        ]


def table(findings: Sequence[Finding]) -> str:
    """Return *findings* as lines of text."""
    return "\n".join(
        f"  {'ok  ' if found.passed else 'FAIL'} {found.check}: {found.message}"
        for found in findings
    )


def findings_html(title: str, findings: Sequence[Finding], *, note: str) -> str:
    """Return *findings* as an HTML table."""
    rows = [("ok" if f.passed else "FAIL", f.check, f.message) for f in findings]
    return grid(title, ("", "check", "found"), rows, note=note)
