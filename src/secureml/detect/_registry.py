"""
The detectors that there are, and how what they find is put together.

Those of the library share one pass over the text, whichever are asked for.
What overlaps is put together into one finding, so that whatever is cut out is
all of what any of them found; it is named after the longest of its parts.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from secureml.detect import _letters, _national, _numbers, _plain, _secrets
from secureml.detect._text import Plain, plain

__all__ = [
    "ALL",
    "MAX_TEXT",
    "NATIONAL",
    "PERSONAL",
    "SECRETS",
    "Detector",
    "Finder",
    "Span",
    "find",
    "named",
    "pattern",
]

MAX_TEXT: Final = 16 * 1024 * 1024
"""Characters of one text."""

_ID: Final = re.compile(r"(?P<kind>[a-z][a-z0-9-]{0,31})@[1-9][0-9]{0,3}", re.ASCII)
_MAX_CONTEXT: Final = 64
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|_")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """
    Something found in a text, by place; the text itself is not kept.

    Attributes:
        start: Index of the first character.
        end: Index after the last one.
        kind: What it is, such as ``email``.
    """

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Detector:
    """
    Something that finds one kind of personal data, or of secrets, in a text.

    Attributes:
        id: ``kind@major``; another major finds other things.
        expression: What it matches, if it is of your own making (`pattern`).
    """

    id: str
    expression: "re.Pattern[str] | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if _ID.fullmatch(self.id) is None:
            msg = f"{self.id[:64]!r} is not a detector's id, such as 'email@1'"
            raise ValueError(msg)

    @property
    def kind(self) -> str:
        """What it finds: the id without the major."""
        return self.id.partition("@")[0]

    def find(self, text: str) -> list[Span]:
        """
        Return where it finds something, in order, without overlaps.

        Raises:
            TypeError: *text* is not text.
            ValueError: It has more than 16,777,216 characters.
        """
        return find(text, (self,))


def pattern(name: str, expression: str, *, flags: int = 0) -> Detector:
    r"""
    Return a detector of your own: what a regular expression matches.

    It runs on the plain form of the text: digits of other scripts are ASCII
    digits there, and characters of no width are gone.  That it takes linear
    time is for you to see to.

    Args:
        name: Its id, such as ``patient-number@1``.
        expression: As `re` has it, such as ``PN-\d{8}``.
        flags: As `re` has them.

    Raises:
        ValueError: *name* is not in the form, or is taken; or the expression
            is not one, or matches nothing at all.
    """
    detector = Detector(name, _compiled(expression, flags))
    if any(known.kind == detector.kind for known in ALL):
        msg = f"the library has a detector of the kind {detector.kind!r}: choose another word"
        raise ValueError(msg)
    return detector


def _compiled(expression: str, flags: int) -> "re.Pattern[str]":
    try:
        compiled = re.compile(expression, flags)
    except re.error as error:
        msg = f"not a regular expression: {error}"
        raise ValueError(msg) from None
    if compiled.fullmatch("") is not None:
        msg = "the expression matches an empty text, so it would be found everywhere"
        raise ValueError(msg)
    return compiled


def _detectors(kinds: Iterable[str]) -> tuple[Detector, ...]:
    return tuple(Detector(f"{kind}@1") for kind in kinds)


_NATIONAL_KINDS: Final = sorted(
    {form.kind for form in _national.FORMS} | (_letters.KINDS - {_letters.IBAN})
)
NATIONAL: Final = _detectors(_NATIONAL_KINDS)
"""Numbers that a state gave to a person."""

PERSONAL: Final = (*_detectors(("email", "iban", "card", "phone")), *NATIONAL)
"""Personal data: addresses, accounts, cards, telephones, personal numbers."""

SECRETS: Final = _detectors(
    (
        "private-key",
        *sorted(_secrets.KINDS - {"private-key", _secrets.ASSIGNED}),
        _secrets.ASSIGNED,
    )
)
"""What opens something: keys, tokens, passwords."""

ALL: Final = (*PERSONAL, *SECRETS, *_detectors(("ip-address", "birth-date")))
"""All, with those that find too much for most texts: network addresses and dates of birth."""

_RANK: Final = {detector.kind: n for n, detector in enumerate(ALL)}
_IDS: Final = frozenset(detector.id for detector in ALL)
_GROUPS: Final = {
    "all": ALL,
    "national-id": NATIONAL,
    "personal": PERSONAL,
    "secrets": SECRETS,
}
_NUMBER_KINDS: Final = frozenset(
    {_numbers.CARD, _numbers.PHONE, *(form.kind for form in _national.FORMS)}
)


def named(name: str) -> tuple[Detector, ...]:
    """
    Return the detectors of a name: an id, a kind or a group.

    The groups are ``personal``, ``secrets``, ``national-id`` and ``all``.

    Raises:
        ValueError: There is none of this name.
    """
    group = _GROUPS.get(name)
    if group is not None:
        return group
    found = tuple(d for d in ALL if name in {d.id, d.kind})
    if found:
        return found
    from difflib import get_close_matches

    near = get_close_matches(name, [*_GROUPS, *_RANK], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    msg = f"there is no detector {name[:64]!r}{hint}"
    raise ValueError(msg)


class Finder:
    """
    A set of detectors, made ready once.

    Args:
        detectors: Which ones.

    Raises:
        ValueError: A detector is neither one of the library nor a `pattern`.
    """

    __slots__ = ("_letters", "_numbers", "_own", "_rank", "_secrets", "_wanted")

    def __init__(self, detectors: Iterable[Detector]) -> None:
        chosen = tuple(detectors)
        self._own = [(d.kind, d.expression) for d in chosen if d.expression is not None]
        self._wanted = wanted = frozenset(d.kind for d in chosen if d.expression is None)
        unknown = {d.id for d in chosen if d.expression is None} - _IDS
        if unknown:
            msg = f"there is no detector {min(unknown)!r}"
            raise ValueError(msg)
        self._numbers = bool(wanted & _NUMBER_KINDS)
        self._letters = bool(wanted & _letters.KINDS)
        self._secrets = bool(wanted & _secrets.KINDS)
        self._rank = _RANK | {kind: len(_RANK) + n for n, (kind, _) in enumerate(self._own)}

    def find(self, text: str, *, context: str | None = None) -> list[Span]:
        """
        Return what the detectors find in *text*: see `find`.

        Raises:
            TypeError: *text* is not text.
            ValueError: It is too long.
        """
        text = _checked(text)
        raw: list[tuple[int, int, str]] = []

        def found(start: int, end: int, kind: str) -> None:
            raw.append((start, end, kind))

        if context is None or not text or len(context) > _MAX_CONTEXT:
            seen = plain(text)
            self._run(seen.text, found)
            return list(self._clusters(sorted(raw), seen, 0)) if raw else []
        if self.by_name(context):
            return [] if _is_marker(text) else [Span(0, len(text), _secrets.ASSIGNED)]
        # userSSN and social_security_number are words for the patterns that look for words.
        prefix = f"{_HUMP.sub(' ', context)}: "
        seen = plain(prefix + text)
        self._run(seen.text, found)
        return list(self._clusters(sorted(raw), seen, len(prefix))) if raw else []

    def by_name(self, context: str) -> bool:
        """Return whether any text is found that is called *context*: what ``password`` names."""
        return _secrets.ASSIGNED in self._wanted and _secrets.is_secret_name(context)

    def _run(self, text: str, found: _plain.Found) -> None:
        wanted = self._wanted
        if "email" in wanted:
            _plain.emails(text, found)
        if self._numbers:
            _numbers.numbers(text, wanted, found)
        if self._letters:
            _letters.letters(text, wanted, found)
        if self._secrets:
            _secrets.secrets(text, wanted, found)
        if "ip-address" in wanted:
            _plain.ip_addresses(text, found)
        if "birth-date" in wanted:
            _plain.birth_dates(text, found)
        for kind, expression in self._own:
            for match in expression.finditer(text):
                if match.end() > match.start():
                    found(match.start(), match.end(), kind)

    def _clusters(
        self, raw: list[tuple[int, int, str]], seen: Plain, shift: int
    ) -> Iterator[Span]:
        rank = self._rank
        start, end, kind = raw[0]
        best = (end - start, -rank[kind])
        for begin, stop, word in raw[1:]:
            mine = (stop - begin, -rank[word])
            if begin >= end:
                yield from _span(start, end, kind, seen, shift)
                start, end, kind, best = begin, stop, word, mine
                continue
            end = max(end, stop)
            if mine > best:
                kind, best = word, mine
        yield from _span(start, end, kind, seen, shift)


_DEFAULT: Final = (*PERSONAL, *SECRETS)
_READY: Final = {id(group): Finder(group) for group in (_DEFAULT, ALL, PERSONAL, SECRETS)}


@lru_cache(maxsize=128)
def _ready(detectors: tuple[Detector, ...]) -> Finder:
    return Finder(detectors)


def find(
    text: str, detectors: Sequence[Detector] = _DEFAULT, *, context: str | None = None
) -> list[Span]:
    """
    Return what the detectors find in *text*, in order, without overlaps.

    Args:
        text: At most 16,777,216 characters.
        detectors: Which ones; personal data and secrets if not said.
        context: What the text is called where it comes from, a key or a
            column: ``{"ssn": "123456789"}`` is found by its name.

    Raises:
        TypeError: *text* is not text.
        ValueError: It is too long, or there is no such detector.
    """
    finder = _READY.get(id(detectors)) or _ready(tuple(detectors))
    return finder.find(text, context=context)


def _checked(text: object) -> str:
    if not isinstance(text, str):
        msg = f"detectors read text, got {type(text).__name__}"
        raise TypeError(msg)
    if len(text) > MAX_TEXT:
        msg = f"the text has {len(text)} characters, detectors read at most {MAX_TEXT}"
        raise ValueError(msg)
    return text


_MARKER: Final = re.compile(
    r"\[[a-z][a-z0-9-]{0,31}(?::[0-9a-f]{32})?\](?:#[0-9]{1,9})?", re.ASCII
)


def _is_marker(text: str) -> bool:
    return not text.strip() or _MARKER.fullmatch(text) is not None


def _span(start: int, end: int, kind: str, seen: Plain, shift: int) -> Iterator[Span]:
    start, end = seen.span(start, end)
    if end > shift:
        yield Span(max(0, start - shift), end - shift, kind)
