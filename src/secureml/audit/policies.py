"""
How long records are kept: the policy as a value, and periods that texts ask for.

A period in months or years is written as the most days that it can have: who
keeps a record for the shortest of them may be a day short.

Source: docs/spec/retention.md, section "Policy".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from secureml.audit._standing import MAX_DAYS
from secureml.wire.canonical import JSON

__all__ = ["FLOOR_DAYS", "PRESETS", "Preset", "RetentionPolicy"]

FLOOR_DAYS: Final = 184
"""Days of the longest six months: EU AI Act, Articles 19(1) and 26(6)."""

_LABEL: Final = 128


@dataclass(frozen=True, slots=True)
class Preset:
    """
    A period that a text asks for.

    Attributes:
        days: The longest that the period can be, in days.
        source: The text.
    """

    days: int
    source: str


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "eu-ai-act": Preset(
            FLOOR_DAYS,
            "Regulation (EU) 2024/1689, Articles 19(1) and 26(6): at least six months",
        ),
        "hipaa": Preset(2192, "45 CFR 164.316(b)(2)(i): six years"),
        "pci": Preset(366, "PCI DSS 4.0.1, 10.5.1: at least 12 months, three of them at hand"),
    }
)
"""Class → its period, by the name it has in `RetentionPolicy.preset`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """
    How long records are kept.

    Attributes:
        default_days: Days for a record without a class.
        classes: Days by ``retention_class``.

    Raises:
        ValueError: A period is not 1 to 36,525 days, or a name not 1 to 128 characters.
    """

    default_days: int = FLOOR_DAYS
    classes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, days in {"default": self.default_days, **self.classes}.items():
            if type(days) is not int or not 1 <= days <= MAX_DAYS:
                msg = f"the period of {name[:40]!r} is 1 to {MAX_DAYS:,} days, not {days!r}"
                raise ValueError(msg)
            if not 0 < len(name) <= _LABEL:
                msg = f"the name of a class has 1 to {_LABEL} characters"
                raise ValueError(msg)

    @classmethod
    def preset(cls, *names: str, default_days: int = FLOOR_DAYS) -> "RetentionPolicy":
        """
        Return a policy with the periods of `PRESETS` as classes.

        Raises:
            ValueError: There is no such preset.
        """
        for name in names:
            if name not in PRESETS:
                msg = f"there is no preset {name!r}: there are {', '.join(PRESETS)}"
                raise ValueError(msg)
        classes = {name: PRESETS[name].days for name in names}
        return cls(default_days=default_days, classes=classes)

    def days(self, retention_class: str | None) -> int:
        """Return the period of a class; of one that is not named, the longest there is."""
        if retention_class is None:
            return self.default_days
        longest = max(self.default_days, *self.classes.values(), 0)
        return self.classes.get(retention_class, longest)

    def warnings(self) -> tuple[str, ...]:
        """Return one line for each period below six months."""
        return tuple(
            f"{name} is kept for {days} days: the EU AI Act, Articles 19(1) and 26(6), asks for "
            f"at least six months, up to {FLOOR_DAYS} days, unless other law says otherwise"
            for name, days in {
                "a record without a class": self.default_days,
                **self.classes,
            }.items()
            if days < FLOOR_DAYS
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the policy as it stands in a record."""
        return {"classes": dict(self.classes), "default_days": self.default_days}
