"""
Profiles: the fields that a law or a standard demands of a record, as data.

A profile is a list of rules, each with its source.  `check` says which of
them a record does not meet; `audited` refuses, when it is given a profile, to
decorate what can never meet it, and refuses a call that does not.

What a profile shows is that the fields are there.  Whether they are true, and
whether the law applies, it does not know.

Source: docs/spec/audit-profiles.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, cast

from secureml.audit.record import Record
from secureml.wire.canonical import JSON

__all__ = [
    "PROFILES",
    "Missing",
    "Profile",
    "Rule",
    "check",
    "named",
]

_ID: Final = "eu-ai-act-12-3"
_PCI: Final = "pci-10.2.2"

_Body = Mapping[str, JSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One demand of a profile.

    Attributes:
        field: The field that answers it, as it is written in a record.
        demand: What is demanded, in a few words.
        source: Article or requirement.
        when: ``before``: it must be known before the function runs;
            ``after``: when it has; ``later``: it may come in a record of its own.
        fix: How a caller gives it.
        holds: Whether a record, with the reviews that name it, meets it.
    """

    field: str
    demand: str
    source: str
    when: Literal["before", "after", "later"]
    fix: str
    holds: Callable[[_Body, Sequence[_Body]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """
    What a text demands of each record.

    Attributes:
        name: How a caller names it.
        title: The text.
        retention_class: The class of its records, unless the caller names another: one of
            `secureml.audit.policies.PRESETS`.
        needs_input: Whether something of the arguments must be captured.
        call_is_period: Whether a call is its own period of use where no other is given.
        rules: The demands.
    """

    name: str
    title: str
    retention_class: str
    needs_input: bool
    call_is_period: bool
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """
    A demand that a record does not meet.

    Attributes:
        record: The record's id.
        profile: The profile's name.
        field: The field that is not there, or not enough.
        demand: What is demanded.
        source: Article or requirement.
    """

    record: str
    profile: str
    field: str
    demand: str
    source: str

    def __str__(self) -> str:
        return f"{self.record}: {self.field}: {self.demand} ({self.source})"


def _part(name: str, *keys: str) -> Callable[[_Body, Sequence[_Body]], bool]:
    def holds(body: _Body, _: Sequence[_Body]) -> bool:
        found = body.get(name)
        return isinstance(found, Mapping) and all(found.get(key) for key in keys)

    return holds


def _some(name: str, *keys: str) -> Callable[[_Body, Sequence[_Body]], bool]:
    def holds(body: _Body, _: Sequence[_Body]) -> bool:
        found = body.get(name)
        return isinstance(found, Mapping) and any(found.get(key) for key in keys)

    return holds


def _has(name: str) -> Callable[[_Body, Sequence[_Body]], bool]:
    return lambda body, _: bool(body.get(name))


def _two_reviewers(body: _Body, reviews: Sequence[_Body]) -> bool:
    found: set[str] = set()
    for each in (body, *reviews):
        oversight = each.get("oversight")
        names = oversight.get("reviewers") if isinstance(oversight, Mapping) else None
        if isinstance(names, list):
            found.update(name for name in names if isinstance(name, str))
    return len(found) >= 2  # noqa: PLR2004  Article 14 (5)


_AI_ACT: Final = "Regulation (EU) 2024/1689, Article"

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        _ID: Profile(
            name=_ID,
            title="EU AI Act, Article 12 (3): remote biometric identification (Annex III, 1 (a))",
            retention_class="eu-ai-act",
            needs_input=True,
            call_is_period=True,
            rules=(
                Rule(
                    field="period",
                    demand="the start and the end of each use",
                    source=f"{_AI_ACT} 12 (3)(a)",
                    when="after",
                    fix="audit.context(period=(start, end)), or leave it out: the call is the use",
                    holds=_part("period", "start", "end"),
                ),
                Rule(
                    field="refdb",
                    demand="the reference database that the input was checked against",
                    source=f"{_AI_ACT} 12 (3)(b)",
                    when="before",
                    fix="refdb=… or audit.context(refdb=…): a name, or a dataset with a digest",
                    holds=_part("refdb", "name"),
                ),
                Rule(
                    field="in",
                    demand="the input for which the search has led to a match",
                    source=f"{_AI_ACT} 12 (3)(c)",
                    when="before",
                    fix="capture=[…] with a path into the arguments",
                    holds=_has("in"),
                ),
                Rule(
                    field="oversight",
                    demand="the identification of the two people who verified the result",
                    source=f"{_AI_ACT}s 12 (3)(d) and 14 (5)",
                    when="later",
                    fix="audit.review(log, record, reviewers=[…]) or audit.oversee(…), two people",
                    holds=_two_reviewers,
                ),
            ),
        ),
        _PCI: Profile(
            name=_PCI,
            title="PCI DSS 4.0.1, requirement 10.2.2: what each auditable event records",
            retention_class="pci",
            needs_input=False,
            call_is_period=False,
            rules=(
                Rule(
                    field="actor",
                    demand="user identification",
                    source="PCI DSS 4.0.1, 10.2.2",
                    when="before",
                    fix="user=… or audit.context(user=…)",
                    holds=_part("actor", "id"),
                ),
                Rule(
                    field="action",
                    demand="type of event",
                    source="PCI DSS 4.0.1, 10.2.2",
                    when="before",
                    fix="action=…",
                    holds=_has("action"),
                ),
                Rule(
                    field="time",
                    demand="date and time",
                    source="PCI DSS 4.0.1, 10.2.2",
                    when="before",
                    fix="every record has it",
                    holds=_has("time"),
                ),
                Rule(
                    field="outcome",
                    demand="success or failure",
                    source="PCI DSS 4.0.1, 10.2.2",
                    when="after",
                    fix="every record of a call has it",
                    holds=_has("outcome"),
                ),
                Rule(
                    field="source",
                    demand="origination of the event",
                    source="PCI DSS 4.0.1, 10.2.2",
                    when="before",
                    fix="source=… or audit.context(source=…): a host's name",
                    holds=_some("source", "address", "host"),
                ),
                Rule(
                    field="target",
                    demand="identity or name of the affected data, component, resource or service",
                    source="PCI DSS 4.0.1, 10.2.2",
                    when="before",
                    fix="target=… or audit.context(target=…): (type, id)",
                    holds=_some("target", "id", "name"),
                ),
            ),
        ),
    }
)
"""Name → profile."""


def named(name: object) -> Profile:
    """
    Return the profile called *name*.

    Raises:
        ValueError: There is none.
    """
    found = PROFILES.get(name) if isinstance(name, str) else None
    if found is None:
        msg = f"{name!r} is no profile: {', '.join(map(repr, PROFILES))}"
        raise ValueError(msg)
    return found


def check(
    record: Record | _Body, name: str, *, reviews: Iterable[Record | _Body] = ()
) -> list[Missing]:
    """
    Return the demands of a profile that a record of a call does not meet.

    Args:
        record: The record, or its body.
        name: The profile.
        reviews: ``human-review`` records; those that name another record are ignored.

    Raises:
        ValueError: There is no such profile.
    """
    profile = named(name)
    body = _body(record)
    own = cast("Mapping[str, JSON]", body.get("record") or {}).get("id")
    about = [each for each in map(_body, reviews) if own is not None and each.get("review") == own]
    return [
        Missing(
            record=str(own or ""),
            profile=name,
            field=rule.field,
            demand=rule.demand,
            source=rule.source,
        )
        for rule in profile.rules
        if not rule.holds(body, about)
    ]


def _body(record: Record | _Body) -> _Body:
    return record.body if isinstance(record, Record) else record
