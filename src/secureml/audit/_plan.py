"""
What to record about the calls of one function: read and checked when it is decorated.

Everything that is the same for each call is spelled here once, as JSON.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from secureml.audit import _models
from secureml.audit._members import gates_member, grouped, member
from secureml.audit._stamp import NOISE, Noise
from secureml.audit._submit import Ledger
from secureml.audit.context import Ambient
from secureml.audit.options import Constant, Field, provider_of
from secureml.audit.paths import check_path, input_source
from secureml.audit.profiles import Profile, named
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE
from secureml.audit.sink import AuditLog
from secureml.audit.value import SALT_SIZE
from secureml.errors import SecureMLError
from secureml.wire import canonical
from secureml.wire.canonical import JSON

__all__ = ["Capture", "Plan", "Reader", "Settings"]

_MAX_LABEL: Final = 128
_MAX_NAME: Final = 512
_OVERHEAD: Final = 4096
"""Bytes of a leaf kept for everything but commitments."""

_PER_COMMITMENT: Final = 6 + len('"":{"alg":"hmac-sha256","commitment":""},') + 64
_PER_KEY: Final = len(',"key":"","ref":"sha256:"') + 32 + 64
_FIELDS: Final = (
    "request",
    "retention_class",
    "session",
    "tenant",
    "period",
    "refdb",
    "source",
    "target",
)
_PATHS: Final = frozenset({"request", "session", "tenant"})

Reader = Callable[[tuple[object, ...], Mapping[str, object]], object]
"""Takes the arguments of a call, returns a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keywords of `audited`, as they were given."""

    action: str
    model: object
    user: Field
    fields: Mapping[str, object]
    capture: tuple[str, ...]
    redact: object
    subject: Field
    profiles: tuple[str, ...]
    gates: object
    require: str | None
    ack: str
    on_failure: str
    max_capture: int
    hold: bool | None


@dataclass(frozen=True, slots=True)
class Capture:
    """
    One captured path.

    Attributes:
        head: The leaf's member of this path, up to its commitment.
        path: The path.
        quoted: The path as JSON.
        steps: What follows its first name.
        salt: Where in a call's random bytes its salt begins.
    """

    head: str
    path: str
    quoted: bytes
    steps: tuple[str, ...]
    salt: int


class Plan:
    """
    What to record about the calls of one function.

    Raises:
        TypeError: A setting is of another type.
        ValueError: A setting is not in its form, contradicts the function or
            another setting, or can never meet a profile.
    """

    # fmt: off
    __slots__ = (
        "_cached", "ack", "action", "announce", "call_is_period", "chunks", "dynamic", "gates",
        "gates_of", "groups", "head", "hold", "inputs", "kind", "ledger", "lenient", "log", "lost",
        "max_capture", "members", "middle", "model", "name", "noise", "on_failure", "outputs",
        "profiles", "provider", "reads", "ready", "redactor", "special", "start", "streams",
        "subject", "user", "user_path",
    )
    # fmt: on

    def __init__(
        self, log: AuditLog, function: Callable[..., object], kind: str, settings: Settings
    ) -> None:
        self.name = name = _name(function)
        self.log, self.kind = log, kind
        self.action = _label(settings.action)
        self.lenient = settings.require is None
        self.announce = settings.require == "before"
        self.ack, self.hold = settings.ack, settings.hold
        self.on_failure = "gap" if self.lenient else settings.on_failure
        self.max_capture = settings.max_capture
        self.ledger = Ledger.of(log)
        self.lost = self.ledger.lost
        self.ready = log.ready
        self.streams = kind in {"generator", "async-generator"}
        self.head = b'{"action":%s' % canonical.encode(settings.action)
        self.middle = b',"call":%s' % canonical.encode({"kind": kind, "name": name})
        self.start = self.head + self.middle
        self._read_model(settings)
        signature = _Signature(function, name)
        self.user = self._reader("user", settings.user, signature)
        self.user_path = settings.user if isinstance(settings.user, str) else "user"
        self.subject = self._reader("subject", settings.subject, signature)
        self._read_captures(settings, signature)
        self._read_members(settings, signature)
        self._read_profiles(settings)
        self.special = bool(
            self.user or self.dynamic or self.subject or self.provider or self.gates_of
        )
        self.reads = bool(self.special or self.inputs or self.profiles)

    # -- what is the same for each call ---------------------------------------------

    def _read_model(self, settings: Settings) -> None:
        model = settings.model
        self.provider = _models.provider(model)
        self._cached: tuple[tuple[object, ...], tuple[str, str, str | None]] | None = None
        gates = settings.gates
        self.gates_of = provider_of(gates) if callable(gates) else None
        self.gates = "" if gates is None or callable(gates) else gates_member(gates)
        self.model: tuple[str, str, str | None] = ("", self.gates, None)
        if model is not None and self.provider is None:
            self.model = self.spell_model(model)

    def spell_model(self, model: object) -> tuple[str, str, str | None]:
        """Return the ``model`` and ``gates`` members of *model*, and its digest."""
        # A provider returns the same handle call after call; what it rests on
        # is compared by identity, so that a changed one is read again.
        same = _models.same(model)
        cached = self._cached
        if cached is not None and all(a is b for a, b in zip(same, cached[0], strict=True)):
            return cached[1]
        field = _models.model_field(model)
        digest = field.get("digest")
        gates = self.gates or gates_member(_models.gates_of(model))
        found = (
            f',"model":{canonical.encode(field).decode()}',
            gates,
            digest if isinstance(digest, str) else None,
        )
        self._cached = (same, found)
        return found

    def _read_captures(self, settings: Settings, signature: "_Signature") -> None:
        inputs: list[tuple[Capture, Reader]] = []
        outputs: list[Capture] = []
        self.chunks: Capture | None = None
        size = NOISE
        encrypted = settings.subject is not None
        for path in _ordered(settings.capture, self.gates, encrypted=encrypted):
            first, *steps = check_path(path)
            quoted = canonical.encode(path)
            head = f'{quoted.decode()}:{{"alg":"hmac-sha256","commitment":"'
            found = Capture(head, path, quoted, tuple(steps), size)
            if first == "return":
                _check_return(path, self.kind, self.name)
                outputs.append(found)
            elif first == "yield":
                _check_yield(path, self.kind, self.name, taken=self.chunks is not None)
                self.chunks = found
            else:
                source = input_source(path, signature.value, name=self.name)
                inputs.append((found, source.reader))
            size += SALT_SIZE
        self.noise = Noise(size)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.redactor: Any = None
        if settings.redact is not None:
            from secureml.audit.redaction import Redactor

            redactor = Redactor.of(settings.redact)
            redactor.for_paths(settings.capture)
            self.redactor = redactor or None

    def _read_members(self, settings: Settings, signature: "_Signature") -> None:
        self.members: dict[str, str] = {}
        self.dynamic: tuple[tuple[str, Reader], ...] = ()
        for name in _FIELDS:
            given = settings.fields.get(name)
            if given is None:
                continue
            if name in _PATHS or callable(given):
                reader = self._reader(name, given, signature)
                if reader is not None:
                    self.dynamic = (*self.dynamic, (name, reader))
                    continue
            value = given.value if isinstance(given, Constant) else given
            self.members[name] = member(name, value)

    def _reader(self, what: str, given: object, signature: "_Signature") -> Reader | None:
        """Return how a field is read from a call; None where it is the same for each."""
        if given is None:
            return None
        if isinstance(given, Constant):
            if what in _FIELDS:
                return None
            value = given.value
            return lambda _, __: value
        if isinstance(given, str):
            return input_source(given, signature.value, name=self.name).reader
        if callable(given):
            return provider_of(given)
        msg = (
            f"{what!r} is a path such as 'user.id', audit.Constant(…), or a function, not "
            f"{type(given).__name__!r}"
        )
        raise TypeError(msg)

    def _read_profiles(self, settings: Settings) -> None:
        self.profiles: tuple[Profile, ...] = tuple(map(named, settings.profiles))
        for profile in self.profiles:
            if profile.needs_input and not self.inputs:
                msg = (
                    f"{self.name} can never meet the profile {profile.name!r}: it demands the "
                    "input, so give capture=[…] a path into the arguments"
                )
                raise ValueError(msg)
            if self.lenient or self.on_failure == "gap":
                msg = (
                    f"{self.name} can never be sure to meet the profile {profile.name!r}: with "
                    "require=None or on_failure='gap' a call may go unrecorded"
                )
                raise ValueError(msg)
            self.members.setdefault(
                "retention_class", member("retention_class", profile.retention_class)
            )
        self.groups = grouped(self.members)
        self.call_is_period = any(profile.call_is_period for profile in self.profiles)

    # -- what differs from call to call -----------------------------------------------

    def groups_of(
        self,
        around: Ambient | None,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
    ) -> tuple[str, ...]:
        """
        Return the members of one call, put together as `grouped` does.

        Raises:
            TypeError, ValueError: A value is not in its member's form.
        """
        if around is not None and not self.members and not self.dynamic:
            return around.groups
        members = self.members if around is None else {**around.members, **self.members}
        if self.dynamic:
            members = dict(members)
            for name, read in self.dynamic:
                found = member(name, read(args, kwargs))
                if found:
                    members[name] = found
        period = members.get("period", "")
        if self.call_is_period and period and '"end"' not in period:
            msg = (
                f"{self.name}: the profile demands the end of the period too: give "
                "period=(start, end), or leave it out, and the call is the period"
            )
            raise ValueError(msg)
        return grouped(members)

    def demand(self, actor: str, inputs: str, groups: tuple[str, ...]) -> None:
        """
        Check what the profiles demand before the function runs.

        Raises:
            ValueError: Something is not there; the text says how to give it.
        """
        body = {**_parsed(actor), **_parsed("".join(groups[1:3]))}
        body |= {"action": self.action, "in": bool(inputs), "time": True}
        missing = [
            f"{rule.field}: {rule.demand} ({rule.source}); {rule.fix}"
            for profile in self.profiles
            for rule in profile.rules
            if rule.when == "before" and not rule.holds(body, ())
        ]
        if missing:
            msg = f"{self.name} was not run, for its record would not meet its profile: "
            raise ValueError(msg + " · ".join(missing))

    def sync_keys(self) -> None:
        """
        Make the subjects' keys durable.

        Raises:
            StoreError: They are not.
        """
        self.log.subjects.sync()

    def load_names(self) -> None:
        """Read the key of the pseudonyms; what cannot be done is found when it is needed."""
        with suppress(SecureMLError):
            self.log.pseudonyms.load()


@lru_cache(maxsize=512)
def _parsed(members: str) -> dict[str, Any]:
    found = canonical.decode(f"{{{members[1:]}}}".encode())
    return dict(cast("Mapping[str, JSON]", found))


class _Signature:
    """The signature of a function, looked at when a path needs it."""

    __slots__ = ("_found", "_function", "_name")

    def __init__(self, function: Callable[..., object], name: str) -> None:
        self._function, self._name = function, name
        self._found: inspect.Signature | None = None

    @property
    def value(self) -> inspect.Signature:
        if self._found is None:
            try:
                self._found = inspect.signature(self._function)
            except (TypeError, ValueError):
                msg = (
                    f"{self._name} has no signature, so nothing of it can be captured: wrap it "
                    "in a function"
                )
                raise ValueError(msg) from None
        return self._found


def _label(action: object) -> str:
    if not isinstance(action, str) or not 0 < len(action) <= _MAX_LABEL:
        msg = f"an action is text of 1 to {_MAX_LABEL} characters, such as 'diagnose'"
        raise ValueError(msg)
    return action


def _name(function: Callable[..., object]) -> str:
    target = function
    while hasattr(target, "func") and not hasattr(target, "__qualname__"):
        target = target.func
    named_ = target if hasattr(target, "__qualname__") else type(target)
    module = getattr(named_, "__module__", None) or "builtins"
    return f"{module}.{named_.__qualname__}"[:_MAX_NAME]


def _ordered(capture: tuple[str, ...], gates: str, *, encrypted: bool) -> list[str]:
    for path in capture:
        check_path(path)
    if len(set(capture)) != len(capture):
        msg = "a capture path is given twice"
        raise ValueError(msg)
    each = _PER_COMMITMENT + (_PER_KEY if encrypted else 0)
    size = sum(len(canonical.encode(path)) + each for path in capture) + len(gates)
    if size > MAX_LEAF - PREFIX_SIZE - _OVERHEAD:
        msg = f"{len(capture)} captured paths do not fit in one record: capture a common parent"
        raise ValueError(msg)
    return sorted(capture, key=lambda path: path.encode("utf-16-be"))


def _check_return(path: str, kind: str, name: str) -> None:
    if kind == "async-generator":
        msg = f"capture path {path!r}: {name} is an async generator, which returns nothing"
        raise ValueError(msg)


def _check_yield(path: str, kind: str, name: str, *, taken: bool) -> None:
    if kind not in {"generator", "async-generator"}:
        msg = f"capture path {path!r}: {name} is no generator, it yields nothing"
        raise ValueError(msg)
    if taken:
        msg = f"capture path {path!r}: one path can be captured of the chunks, not two"
        raise ValueError(msg)
