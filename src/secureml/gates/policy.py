"""
Decide: a pure function from evidence to a decision.

A policy is built from three pieces, `Passes`, `AllOf` and `AnyOf`, and none of
them can say "not".  So a policy is monotone: what some evidence allows, more
evidence never denies, and leaving evidence out never helps.  Nothing is
allowed without evidence: an `AllOf` of nothing cannot be written.

A negative ("no known vulnerability") enters as a positive that expires.

`decide` never raises.  What it cannot read is not evidence.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from secureml._html import card
from secureml.clock import format_time
from secureml.errors import GateDeniedError
from secureml.gates.check import Finding
from secureml.gates.gate import Gate
from secureml.wire import canonical
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = ["AllOf", "AnyOf", "Decision", "Measured", "Passes", "Policy", "Requirement", "decide"]

_DEEPEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    One finding as evidence: what was measured, by which gate, when.

    Attributes:
        finding: What was found.
        subject: The digest on which statements about the subject join.
        gate: Digest of the plan that the finding was made under.
        at: When it was measured.
        expires: From when on it is no evidence any more; None for never.
    """

    finding: Finding
    subject: Digest
    gate: Digest
    at: datetime
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Passes:
    """
    Requires a passing finding of one check.

    Attributes:
        check: The check's whole name.
    """

    check: str


@dataclass(frozen=True, slots=True, init=False)
class AllOf:
    """
    Requires every one of the requirements given.

    Raises:
        TypeError: Something given is no requirement.
        ValueError: None was given, or they are nested more than 32 deep.
    """

    parts: "tuple[Requirement, ...]"

    def __init__(self, *parts: "Requirement") -> None:
        _check_parts(parts)
        object.__setattr__(self, "parts", parts)


@dataclass(frozen=True, slots=True, init=False)
class AnyOf:
    """
    Requires at least one of the requirements given.

    Raises:
        TypeError: Something given is no requirement.
        ValueError: None was given, or they are nested more than 32 deep.
    """

    parts: "tuple[Requirement, ...]"

    def __init__(self, *parts: "Requirement") -> None:
        _check_parts(parts)
        object.__setattr__(self, "parts", parts)


Requirement = Passes | AllOf | AnyOf
"""What a policy is built from; nothing in it can say "not"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    What must be shown about one subject, under one gate.

    Attributes:
        gate: The gate's name, a label.
        gate_digest: Digest of its plan.
        subject: The subject's name, a label.
        subject_digest: The digest on which statements about it join.
        require: What must be shown.
        max_age: How old a finding may be; None for any age.
    """

    gate: str
    gate_digest: Digest
    subject: str
    subject_digest: Digest
    require: Requirement
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        _check_parts((self.require,))

    @classmethod
    def of(cls, gate: Gate, *, subject: str, digest: Digest) -> Self:
        """Return the policy that every check of *gate* passes on *subject*."""
        return cls(
            gate=gate.name,
            gate_digest=gate.digest,
            subject=subject,
            subject_digest=digest,
            require=AllOf(*(Passes(name) for name in gate.check_names)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    Yes or no, about what, under which plan, at a stated time.

    Attributes:
        allowed: Whether everything required was shown.
        reasons: One line for each requirement that was not met; empty when allowed.
        at: The time it was decided for, RFC 3339; empty when none was given.
        gate: The gate's name.
        gate_digest: Digest of its plan.
        subject: The subject's name.
        subject_digest: The digest on which statements about it join.
    """

    allowed: bool
    reasons: tuple[str, ...]
    at: str
    gate: str
    gate_digest: Digest
    subject: str
    subject_digest: Digest

    def record(self) -> dict[str, JSON]:
        """Return the decision as JSON."""
        return {
            "allowed": self.allowed,
            "at": self.at,
            "gate": {"digest": _digest_set(self.gate_digest), "name": self.gate},
            "reasons": list(self.reasons),
            "subject": {"digest": _digest_set(self.subject_digest), "name": self.subject},
            "v": 1,
        }

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical record."""
        return Digest.sha256(canonical.encode(self.record()))

    def enforce(self) -> None:
        """
        Return if allowed; else raise.

        Raises:
            GateDeniedError: With the reasons and the digest of the decision.
        """
        if not self.allowed:
            raise denied(self, str(self.digest))

    def __str__(self) -> str:
        word = "PASSED" if self.allowed else "FAILED"
        head = f"gate {self.gate} on {self.subject}: {word}"
        return "\n".join((head, *(f"  {reason}" for reason in self.reasons)))

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("subject", f"{self.subject} {self.subject_digest}"),
            ("plan", self.gate_digest),
            ("decided for", self.at),
            *(("because", reason) for reason in self.reasons),
        ]
        word = "PASSED" if self.allowed else "FAILED"
        return card(f"gate {self.gate}: {word}", rows)


def denied(decision: Decision, digest: str) -> GateDeniedError:
    """Return the error for *decision*, which is a no; *digest* names it."""
    return GateDeniedError(
        f"gate {decision.gate!r} denied {decision.subject!r}",
        why="; ".join(decision.reasons) or "nothing was shown",
        fix="look at the rows with gate.preview(…), correct the data at its source, register "
        "it again and run the gate again; each attempt is counted",
        reasons=decision.reasons,
        decision=digest,
    )


def decide(policy: Policy, evidence: Iterable[object], *, at: datetime) -> Decision:
    """
    Decide whether *evidence* shows what *policy* requires, as of *at*.

    Only `Measured` findings of this plan about this subject count, made no later
    than *at* and not expired by then.  Everything else among the evidence is
    left out; nothing that is added can turn a yes into a no.

    Never raises: what cannot be read is not evidence.
    """
    stated = _stated(at)
    passed: set[str] = set()
    others: dict[str, str] = {}
    if stated:
        for item in _items(evidence):
            try:
                _take(policy, item, at, passed, others)
            except Exception:  # noqa: BLE001, S112  an unreadable item is not evidence
                continue
    reasons = () if stated else ("no time with a time zone was given to decide for",)
    unmet = (*reasons, *_unmet(policy.require, passed, others))
    return Decision(
        allowed=not unmet,
        reasons=tuple(dict.fromkeys(_printable(reason) for reason in unmet)),
        at=stated,
        gate=policy.gate,
        gate_digest=policy.gate_digest,
        subject=policy.subject,
        subject_digest=policy.subject_digest,
    )


def _take(
    policy: Policy, item: object, at: datetime, passed: set[str], others: dict[str, str]
) -> None:
    """Sort one item: a finding that passes, one that says why not, or nothing."""
    if type(item) is not Measured or type(item.finding) is not Finding:
        return
    if item.gate != policy.gate_digest or item.subject != policy.subject_digest:
        return
    name = item.finding.check
    if item.at > at:
        others.setdefault(name, "the finding is from later than the decision")
    elif item.expires is not None and item.expires <= at:
        others.setdefault(name, f"the finding expired at {format_time(item.expires)}")
    elif policy.max_age is not None and at - item.at > policy.max_age:
        others.setdefault(name, f"the finding is older than {policy.max_age}")
    elif item.finding.passed is True:
        passed.add(name)
    else:
        others[name] = item.finding.message


def _unmet(part: Requirement, passed: set[str], others: Mapping[str, str]) -> list[str]:
    """Return a line for each reason that *part* is not met; none when it is."""
    match part:
        case Passes(check):
            if check in passed:
                return []
            return [f"{check}: {others.get(check, 'there is no finding of this check')}"]
        case AllOf(parts):
            return [line for each in parts for line in _unmet(each, passed, others)]
        case AnyOf(parts):
            lines = [_unmet(each, passed, others) for each in parts]
            return (
                [] if not all(lines) else ["none of: " + " | ".join("; ".join(x) for x in lines)]
            )


def _items(evidence: Iterable[object]) -> Iterator[object]:
    """Yield what can be read of *evidence*, and stop where it cannot."""
    try:
        yield from evidence
    except Exception:  # noqa: BLE001  any object may be offered
        return


def _stated(at: datetime) -> str:
    try:
        return format_time(at)
    except Exception:  # noqa: BLE001  any object may be offered
        return ""


def _printable(text: object) -> str:
    return str(text).encode("utf-8", "replace").decode()


def _check_parts(parts: tuple[object, ...]) -> None:
    if not parts:
        msg = "a requirement of nothing would allow everything: give at least one"
        raise ValueError(msg)
    level: list[object] = list(parts)
    for _ in range(_DEEPEST):
        for part in level:
            if not isinstance(part, Passes | AllOf | AnyOf):
                msg = f"a requirement is Passes, AllOf or AnyOf, not {type(part).__name__}"
                raise TypeError(msg)
        level = [p for part in level if isinstance(part, AllOf | AnyOf) for p in part.parts]
        if not level:
            return
    msg = f"requirements are nested more than {_DEEPEST} deep"
    raise ValueError(msg)


def _digest_set(digest: Digest) -> dict[str, JSON]:
    return dict(digest.as_set())
