"""
Redaction: what is taken out of a captured value before it is encoded and committed to.

A `Redactor` holds rules.  A rule by path says where something lies
(`drop`, `mask`, `token`); a rule by detector says what is looked for
(`detected`).  What is taken out leaves a marker such as ``[email]``, and the
record says at which path which rule took out how many.

Three things are promised.  The user's own object is never changed: the result
is a copy made of plain values.  A value that cannot be looked into is refused,
not passed on.  And nothing of what was found is in the record, in an error, in
a ``repr``, or among the local variables of an error's traceback.

Source: docs/spec/redaction.md.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from secureml import detect
from secureml.audit._places import MARKERS, Refused, Target, shown
from secureml.audit._redacting import Counts, Walk
from secureml.audit.paths import MAX_PATH
from secureml.errors import SecureMLError

__all__ = ["Redaction", "Redactor", "Rule", "detected", "drop", "mask", "token"]

_KEY_SIZE: Final = 16
_MAX_PLANS: Final = 1024
"""Capture paths whose rules are remembered; a program has a handful."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """
    What a rule took out, for the record's field ``redactions``.

    Attributes:
        path: The capture path, or the rule's own where that goes further.
        rule: A word: ``drop``, ``mask``, ``token``, or the kind that was found.
        count: How many were taken out, at least 1.
    """

    path: str
    rule: str
    count: int


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule; made by `drop`, `mask`, `token` and `detected`.

    Attributes:
        action: ``drop``, ``mask``, ``token`` or ``detect``.
        path: Where: names, ``*`` and numbers joined by dots; None for everywhere.
        detectors: What is looked for, for ``detect``.
        optional: Whether a captured value may lack what the path names.
        key: The key of a token; not shown.
    """

    action: Literal["drop", "mask", "token", "detect"]
    path: str | None = None
    detectors: tuple[detect.Detector, ...] = ()
    optional: bool = False
    key: bytes = field(default=b"", repr=False)


def drop(path: str, *, optional: bool = False) -> Rule:
    """
    Put ``[dropped]`` in the place of whatever is at *path*.

    Args:
        path: A capture path, or further: ``user.address``, ``messages.*.content``.
        optional: Whether a value may lack what the path names; otherwise a
            call with such a value fails, for the path may be misspelt.

    Raises:
        TypeError: *path* is not text.
        ValueError: It is not names, ``*`` and numbers joined by dots.
    """
    return Rule("drop", _checked(path), optional=optional)


def mask(path: str, *, optional: bool = False) -> Rule:
    """
    Put ``[masked]`` for each text, and 0 for each number, in what is at *path*.

    Containers keep their keys, their lengths and their types.

    Raises:
        TypeError: *path* is not text.
        ValueError: It is not names, ``*`` and numbers joined by dots.
    """
    return Rule("mask", _checked(path), optional=optional)


def token(path: str, *, key: bytes, optional: bool = False) -> Rule:
    """
    Put a keyed pseudonym for what is at *path*: equal values have equal tokens.

    ``[token:…]`` holds 16 bytes of HMAC-SHA256.  Whoever has the key can try
    likely values, and nobody else: keep it away from the log, and destroy it
    to make the tokens anonymous.  There is no rule that puts a plain hash:
    a hash of an e-mail address is found by trying addresses.

    Args:
        path: As for `drop`.
        key: At least 16 random bytes.
        optional: As for `drop`.

    Raises:
        TypeError: *path* is not text, or *key* not bytes.
        ValueError: The path is malformed, or the key is short.
    """
    return Rule("token", _checked(path), optional=optional, key=_checked_key(key))


def detected(
    *what: str | detect.Detector, paths: Sequence[str] | None = None, optional: bool = False
) -> tuple[Rule, ...]:
    """
    Put ``[kind]`` for whatever the detectors find, everywhere or below *paths*.

    Args:
        what: Detectors, their ids or kinds, or ``personal``, ``secrets``,
            ``national-id``, ``all``.
        paths: Where to look; everywhere if None.
        optional: As for `drop`.

    Raises:
        TypeError: A path is not text, or *paths* is one text.
        ValueError: There is no such detector, none is named, or a path is malformed.
    """
    chosen = tuple(dict.fromkeys(d for one in what for d in _detectors(one)))
    if not chosen:
        msg = "name what is to be detected, such as 'email' or 'personal'"
        raise ValueError(msg)
    if isinstance(paths, str):
        msg = f"paths is a list of paths: write paths=[{paths!r}]"
        raise TypeError(msg)
    if paths is None:
        return (Rule("detect", None, chosen),)
    return tuple(Rule("detect", _checked(path), chosen, optional) for path in paths)


def _detectors(one: object) -> tuple[detect.Detector, ...]:
    if isinstance(one, detect.Detector):
        return (one,)
    if isinstance(one, str):
        return detect.named(one)
    msg = f"a detector or its name is needed, got {type(one).__name__}"
    raise TypeError(msg)


def _checked_key(key: object) -> bytes:
    if not isinstance(key, bytes):
        msg = f"a token's key is bytes, got {type(key).__name__}"
        raise TypeError(msg)
    if len(key) < _KEY_SIZE:
        msg = f"a token's key has at least {_KEY_SIZE} random bytes: secrets.token_bytes(32)"
        raise ValueError(msg)
    return key


def _checked(path: object) -> str:
    if not isinstance(path, str):
        msg = f"a redaction path is text such as 'user.address', got {type(path).__name__}"
        raise TypeError(msg)
    steps = path.split(".")
    # The first step is a parameter, return or yield; later ones are keys, too.
    fits = steps[0].isidentifier() and all(s and s.isprintable() for s in steps)
    if not fits or len(path) > MAX_PATH or not path.isprintable():
        msg = (
            f"{path[:MAX_PATH]!r} is not a redaction path: names, * and numbers joined by dots, "
            f"at most {MAX_PATH} characters, such as 'user.address' or 'messages.*.content'"
        )
        raise ValueError(msg)
    return path


class Redactor:
    """
    Rules, made ready to be applied to each captured value.

    Args:
        rules: The rules; all that fit a value are applied.  Where two meet,
            a rule by path goes before one by detector, and an earlier one
            before a later.
        opaque: What to do with a value that cannot be looked into, while a
            rule would: ``refuse`` it with TypeError, or ``keep`` it as it is.

    Raises:
        TypeError: Something is no rule.
        ValueError: *opaque* is neither.
    """

    __slots__ = ("_keep", "_plans", "_rules")

    def __init__(
        self,
        rules: Sequence["Rule | tuple[Rule, ...]"],
        *,
        opaque: Literal["refuse", "keep"] = "refuse",
    ) -> None:
        if opaque not in {"refuse", "keep"}:
            msg = f"opaque is 'refuse' or 'keep', not {opaque!r}"
            raise ValueError(msg)
        self._rules = _flat(rules)
        self._keep = opaque == "keep"
        self._plans: dict[str, Walk | None] = {}

    def __repr__(self) -> str:
        return f"Redactor({list(self._rules)!r}, opaque={'keep' if self._keep else 'refuse'!r})"

    @classmethod
    def of(cls, spec: object) -> "Redactor":
        """
        Return the redactor that ``redact=`` means: None, a redactor, or a list.

        Args:
            spec: A `Redactor`; or a list of rules, detectors, and names of
                detectors, such as ``["email", redact.drop("user.address")]``.

        Raises:
            TypeError: It is something else.
            ValueError: There is no detector of such a name.
        """
        if isinstance(spec, Redactor):
            return spec
        if spec is None:
            return cls(())
        if isinstance(spec, str):
            msg = f"redact is a list of rules and detectors: write redact=[{spec!r}]"
            raise TypeError(msg)
        if isinstance(spec, Rule):
            return cls((spec,))
        if not isinstance(spec, Iterable):
            msg = f"redact is a list of rules and detectors, got {type(spec).__name__}"
            raise TypeError(msg)
        items = cast("Iterable[object]", spec)
        named = [one for one in items if not isinstance(one, Rule | tuple)]
        rules = [one for one in items if isinstance(one, Rule | tuple)]
        if named:
            rules.append(detected(*cast("list[str | detect.Detector]", named)))
        return cls(rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in order."""
        return self._rules

    def __bool__(self) -> bool:
        """Return whether there is any rule."""
        return bool(self._rules)

    def for_paths(self, paths: Sequence[str]) -> None:
        """
        Check, when a function is decorated, that every rule reaches a captured value.

        Raises:
            ValueError: A rule names a path to which no capture path leads:
                it is misspelt, or what it means is not captured.
        """
        captured = [tuple(path.split(".")) for path in paths]
        for rule in self._rules:
            if rule.path is None:
                continue
            steps = tuple(rule.path.split("."))
            if not any(_meet(steps, capture) for capture in captured):
                known = ", ".join(map(repr, paths)) or "nothing"
                msg = f"redaction path {rule.path!r} leads to nothing that is captured ({known})"
                raise ValueError(msg)

    def apply(self, path: str, value: object) -> tuple[object, tuple[Redaction, ...]]:
        """
        Return a copy of *value* without what the rules take out, and what they took.

        Args:
            path: The capture path of the value.
            value: Anything that can be captured; it is not changed.

        Raises:
            TypeError: Something in it cannot be looked into.
            ValueError: A rule's path does not exist in it; it is nested
                deeper than 64 containers; it holds more than 16 Mi characters.
        """
        box = [value]
        del value
        return self._applied(path, box, Walk.value)

    def apply_chunks(
        self, path: str, chunks: Sequence[object]
    ) -> tuple[list[object], tuple[Redaction, ...]]:
        """
        Redact the chunks of a stream together: an address may lie across several.

        Texts that follow one another are searched as one.  The marker stands
        in the chunk where the found text begins; the list keeps its length.

        Args:
            path: The capture path, ``yield`` or below it.
            chunks: What that path led to in each chunk.

        Raises:
            TypeError, ValueError: As `apply`.
        """
        box: list[object] = [chunks]
        del chunks
        found, redactions = self._applied(path, box, Walk.chunks)
        return cast("list[object]", found), redactions

    def _applied(
        self, path: str, box: list[object], how: Callable[[Walk, object], tuple[object, Counts]]
    ) -> tuple[object, tuple[Redaction, ...]]:
        # Whatever is raised leaves from here, outside of a handler, when no
        # frame of ours holds the value any more: tools that print the local
        # variables of a traceback would show it.
        walk = self._walk(path)
        if walk is None:
            return box.pop(), ()
        failure: Exception
        try:
            result, counts = how(walk, box.pop())
        except SecureMLError as error:
            failure = error.with_traceback(None)
        except Refused as error:
            failure = error.plain()
        except RecursionError:
            failure = ValueError(f"{path!r} is nested too deeply, or contains itself")
        except Exception as error:  # noqa: BLE001  of the value's own code: its text may tell
            failure = TypeError(f"{path!r} cannot be read: it raised {shown(type(error))}")
        else:
            return result, tuple(
                Redaction(where, rule, count) for (where, rule), count in sorted(counts.items())
            )
        failure.__context__ = failure.__cause__ = None
        raise failure

    def _walk(self, path: str) -> Walk | None:
        try:
            return self._plans[path]
        except KeyError:
            pass
        steps = tuple(path.split("."))
        targets: list[Target] = []
        for rule in self._rules:
            mine = () if rule.path is None else tuple(rule.path.split("."))
            if not _meet(mine, steps):
                continue
            longer = rule.path if rule.path is not None and len(mine) > len(steps) else path
            targets.append(
                Target(
                    action=rule.action,
                    steps=mine[len(steps) :],
                    path=longer,
                    detectors=rule.detectors,
                    optional=rule.optional,
                    key=rule.key,
                )
            )
        targets.sort(key=lambda target: target.action == "detect")
        name = steps[-1] if steps[-1] not in {"return", "yield"} else None
        walk = Walk(path, name, tuple(targets), keep=self._keep) if targets else None
        if len(self._plans) < _MAX_PLANS:
            self._plans[path] = walk
        return walk


def _flat(rules: Iterable[object]) -> tuple[Rule, ...]:
    flat: list[Rule] = []
    for rule in rules:
        if isinstance(rule, Rule):
            flat.append(rule)
        elif isinstance(rule, tuple):
            flat.extend(_flat(rule))
        else:
            name = type(rule).__name__
            msg = f"a rule is made by drop, mask, token or detected, got {name}"
            raise TypeError(msg)
    words = [d.kind for rule in flat for d in rule.detectors]
    if taken := MARKERS & set(words):
        msg = f"a detector may not be called {min(taken)!r}: a rule by path is"
        raise ValueError(msg)
    return tuple(flat)


def _meet(rule: tuple[str, ...], capture: tuple[str, ...]) -> bool:
    """Return whether one of the two paths leads through the other."""
    return all(mine in {step, "*"} for mine, step in zip(rule, capture, strict=False))
