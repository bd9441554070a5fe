"""
Trust: the keys that somebody reviewed, what each may say, and until where.

There is no default trust, and nothing that is found inside the thing being
verified is ever a root of it.  A trust file is short text that people read in
a review: one block per key, one per model.  What it means is in
``docs/spec/trust-file.md``.

A key is valid by *position*: an identity retired at leaf 12 of a log is good
for the leaves before it, whatever time a leaf claims.  So a stolen old key
cannot sign into the past, because the past is in the tree already.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from secureml._html import grid
from secureml.errors import FormatError, StoreError
from secureml.evidence._names import check_name, check_origin, string, strings
from secureml.evidence.witness import Witness, check_quorum, witness_block
from secureml.keys import Verifier
from secureml.wire.digest import SHA256, Digest

__all__ = ["ROLES", "Identity", "ModelRule", "Position", "Trust", "identity_block"]

ROLES: Final = ("dataset", "gate", "run", "model", "log", "audit")
"""What an identity may say: see ``docs/spec/trust-file.md``."""

LOG_ROLES: Final = ("log", "audit")
"""The roles that sign checkpoints; an identity with one of them names its log."""

_DUTIES: Final = frozenset({"dataset", "gate", "run", "model"})
_MAX_BYTES: Final = 1_048_576
_LABEL: Final = re.compile(r"[^\s@]+@(0|[1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """
    Where a verified log holds a statement.

    Attributes:
        origin: The log's name, from its checkpoint.
        index: Number of the leaf, counted from 0.
        at: The time that the log wrote into the leaf: its claim, not a proof.
    """

    origin: str
    index: int
    at: str


@final
@dataclass(frozen=True, kw_only=True)
class Identity:
    """
    A key that is trusted, and for what.

    Attributes:
        name: How people call it; unique in a trust file.
        verifier: The public key; unique in a trust file.
        roles: What it may say, out of `ROLES`.
        development: Made by the library on first use, never reviewed by anybody.
        not_before: First moment of validity, or None.
        not_after: Last moment of validity, or None.
        retired: For each log (origin), the first leaf at which the key is no longer valid.
        origin: The log whose checkpoints it signs.  The role ``audit`` demands it, the role
            ``log`` allows it: without it, the key makes a log's statements and no checkpoints.
        epochs: The first key of a chain: it signs until the audit log hands over to the next.
        since: For an ML-DSA-44 key, the size from which each checkpoint has its signature too.

    Raises:
        ValueError: Fields that contradict each other, or are out of range.
    """

    name: str
    verifier: Verifier
    roles: frozenset[str]
    development: bool = False
    not_before: datetime | None = None
    not_after: datetime | None = None
    retired: Mapping[str, int] = field(default_factory=dict, hash=False)
    origin: str | None = None
    epochs: bool = False
    since: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", check_roles(self.roles))
        object.__setattr__(self, "retired", MappingProxyType(dict(sorted(self.retired.items()))))
        check_name(self.name)
        if any(index < 0 for index in self.retired.values()):
            msg = "retired gives the number of a leaf, from 0"
            raise ValueError(msg)
        for origin in (*self.retired, *([] if self.origin is None else [self.origin])):
            check_origin(origin)
        if self.origin is None and "audit" in self.roles:
            msg = "the role audit needs origin, the name of the log whose checkpoints it signs"
            raise ValueError(msg)
        if self.origin is not None and self.roles.isdisjoint(LOG_ROLES):
            msg = "origin is the log whose checkpoints a key signs: it needs the role log or audit"
            raise ValueError(msg)
        self._check_scheme()
        for key in ("not_before", "not_after"):
            object.__setattr__(self, key, _utc(getattr(self, key)))
        if self.not_before and self.not_after and self.not_before > self.not_after:
            msg = "not_before is later than not_after"
            raise ValueError(msg)

    def _check_scheme(self) -> None:
        scheme = self.verifier.scheme
        if self.epochs and (scheme != "ed25519" or "audit" not in self.roles):
            msg = "epochs is for the first ed25519 key of an audit log, with the role audit"
            raise ValueError(msg)
        if self.since < 0 or (self.since and scheme != "mldsa-44"):
            msg = "since is for an mldsa-44 key: a number of leaves, from 0"
            raise ValueError(msg)
        if scheme == "mldsa-44" and (self.origin is None or not self.roles <= set(LOG_ROLES)):
            msg = "an mldsa-44 key signs checkpoints, beside an ed25519 key: it needs origin, and "
            msg += "has no role but log and audit"
            raise ValueError(msg)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key, ``sha256:`` and 64 hex digits."""
        return self.verifier.fingerprint

    @property
    def listed_roles(self) -> str:
        """The roles in the order of `ROLES`, for a line of text."""
        return ", ".join(sorted(self.roles, key=ROLES.index))

    def __reduce__(self) -> tuple[object, ...]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _identity, ({**values, "retired": dict(self.retired)},)


def _identity(values: dict[str, object]) -> Identity:
    return Identity(**values)  # type: ignore[arg-type]  # what __reduce__ took apart


@final
@dataclass(frozen=True, kw_only=True)
class ModelRule:
    """
    What this relying party demands of a model, whatever its signer says.

    Attributes:
        name: The model.
        require: Gate label, ``name@major``, → digest of the gate's plan.
        max_attempts: Most attempts at a required gate, or None for any number.
        allow_ignored: Files in the model directory that may be there unsigned.
        allow_types: Types that loading may make, beyond the library's own list.

    Raises:
        ValueError: A field is out of range.
    """

    name: str
    require: Mapping[str, Digest] = field(default_factory=dict, hash=False)
    max_attempts: int | None = None
    allow_ignored: tuple[str, ...] = ()
    allow_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "require", MappingProxyType(dict(sorted(self.require.items()))))
        for label, digest in self.require.items():
            if not _LABEL.fullmatch(label):
                msg = f"require names a gate as name@major, got {label[:40]!r}"
                raise ValueError(msg)
            if digest.algorithm != SHA256:
                msg = f"the plan of the gate {label!r} is named by its sha256, got {digest.short}"
                raise ValueError(msg)
        if self.max_attempts is not None and self.max_attempts < 1:
            msg = f"max_attempts is 1 or more, got {self.max_attempts}"
            raise ValueError(msg)
        for key in ("allow_ignored", "allow_types"):
            values = tuple(getattr(self, key))
            if not all(values) or any("\ud800" <= c <= "\udfff" for v in values for c in v):
                msg = f"{key} is a list of names, none of them empty"
                raise ValueError(msg)
            object.__setattr__(self, key, values)

    def __reduce__(self) -> tuple[object, ...]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _rule, ({**values, "require": dict(self.require)},)


def _rule(values: dict[str, object]) -> ModelRule:
    return ModelRule(**values)  # type: ignore[arg-type]  # what __reduce__ took apart


@final
@dataclass(frozen=True)
class Trust:
    """
    The root of a verification: reviewed identities, and rules for models.

    Attributes:
        identities: In the order of the file.
        rules: In the order of the file.
        text: The trust file, as read; empty for a trust made in memory.
        witnesses: Whose cosignatures count, in the order of the file.
        quorum: How many of them have to be there.

    Raises:
        ValueError: Two identities with one name or one key, two rules for a
            model, two witnesses with one name or one key, a quorum that they cannot make.
    """

    identities: tuple[Identity, ...] = ()
    rules: tuple[ModelRule, ...] = ()
    text: str = field(default="", compare=False, repr=False)
    witnesses: tuple[Witness, ...] = ()
    quorum: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "identities", tuple(self.identities))
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "witnesses", tuple(self.witnesses))
        check_quorum(self.witnesses, self.quorum, [one.verifier for one in self.identities])
        for what, values in (
            ("identities named", [identity.name for identity in self.identities]),
            ("identities with the key", [identity.fingerprint for identity in self.identities]),
            ("rules for the model", [rule.name for rule in self.rules]),
        ):
            if twice := sorted({value for value in values if values.count(value) > 1}):
                msg = f"there are two {what} {twice[0]!r}"
                raise ValueError(msg)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trust":
        """
        Read a trust file.

        Raises:
            StoreError: It is missing or cannot be read.
            FormatError: It is not a trust file; the error names the key.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise StoreError(
                f"the trust file {str(path)!r} cannot be read",
                why=error.strerror or str(error),
                fix="give the path of a trust file that somebody reviewed; "
                "`python -m secureml keygen FILE` prints a block to begin one with",
            ) from error
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_trust(f"it is not UTF-8: {error}") from error
        if len(data) > _MAX_BYTES:
            raise _not_trust(f"it has more than {_MAX_BYTES} bytes")
        return cls.from_toml(text)

    @classmethod
    def from_toml(cls, text: str) -> "Trust":
        """
        Read the text of a trust file; its digest is that of this text, comments included.

        Raises:
            FormatError: It is not a trust file; the error names the key.
        """
        from secureml.evidence import _trustfile

        return _trustfile.read(text)

    def to_toml(self) -> str:
        """Return the text that `from_toml` reads as this trust, without comments."""
        blocks = [f"version = 1\n{f'quorum = {self.quorum}' + chr(10) if self.witnesses else ''}"]
        blocks += [identity_block(identity) for identity in self.identities]
        blocks += [witness_block(witness) for witness in self.witnesses]
        blocks += [_rule_block(rule) for rule in self.rules]
        return "\n".join(blocks)

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the text as read, or of `to_toml` for a trust made in memory."""
        return Digest.sha256((self.text or self.to_toml()).encode())

    def with_role(self, role: str) -> tuple[Identity, ...]:
        """
        Return the identities that have *role*.

        Raises:
            ValueError: There is no such role.
        """
        check_role(role)
        return tuple(identity for identity in self.identities if role in identity.roles)

    def find(self, *, hint: str | None = None, fingerprint: str | None = None) -> Identity | None:
        """
        Return the identity whose key has this hint, or this fingerprint, or None.

        Raises:
            TypeError: Not exactly one of the two is given.
        """
        if (hint is None) == (fingerprint is None):
            msg = "give one of hint=... and fingerprint=..."
            raise TypeError(msg)
        for identity in self.identities:
            if fingerprint == identity.fingerprint or hint == identity.verifier.hint:
                return identity
        return None

    def logs(self, role: str = "log") -> dict[str, tuple[Identity, ...]]:
        """Return the origins of trusted logs, each with who signs its checkpoints as *role*."""
        found: dict[str, tuple[Identity, ...]] = {}
        for identity in self.with_role(role):
            if identity.origin is not None:
                found[identity.origin] = (*found.get(identity.origin, ()), identity)
        return found

    def rule(self, model: str) -> ModelRule | None:
        """Return the rule for *model*, or None: then nothing is demanded, and reports say so."""
        return next((rule for rule in self.rules if rule.name == model), None)

    def merged(self, other: "Trust") -> "Trust":
        """
        Add the identities of *other* whose keys are not known here.

        This trust decides: for a key in both, the name, the roles and the log
        are those given here, and validity is the narrower of the two.  The
        rules are those given here; rules of *other* are left out, since a
        rule may also allow something.

        Raises:
            ValueError: Another key has the same name in *other*.
        """
        theirs = {identity.fingerprint: identity for identity in other.identities}
        mine = [_narrowed(i, theirs.pop(i.fingerprint, None)) for i in self.identities]
        return replace(self, identities=(*mine, *theirs.values()), text="")

    @property
    def separation_of_duties(self) -> str:
        """
        Who holds the roles ``dataset gate run model``.

        ``none`` when one key has all four; ``full`` when each is held and no
        key has two; else ``partial``.
        """
        held = [_DUTIES & identity.roles for identity in self.identities]
        if any(roles == _DUTIES for roles in held):
            return "none"
        if all(len(roles) <= 1 for roles in held) and set().union(*held) == _DUTIES:
            return "full"
        return "partial"

    @property
    def development(self) -> tuple[str, ...]:
        """The names of the identities that are marked as development keys."""
        return tuple(i.name for i in self.identities if i.development)

    def _repr_html_(self) -> str:
        rows = [
            (
                identity.name,
                identity.listed_roles,
                identity.fingerprint[:23] + "…",
                "; ".join(_notes(identity)),
            )
            for identity in self.identities
        ]
        note = f"separation of duties: {self.separation_of_duties} · trust {self.digest.short}"
        return grid("Trust", ("identity", "roles", "key", "notes"), rows, note=note)


def identity_block(identity: Identity) -> str:
    """Return the ``[[identity]]`` block that says this, to paste into a trust file."""
    lines = [
        "[[identity]]",
        f"# fingerprint {identity.fingerprint}",
        f"name = {string(identity.name)}",
        f"roles = {strings(sorted(identity.roles, key=ROLES.index))}",
    ]
    if identity.origin is not None:
        lines.append(f"origin = {string(identity.origin)}")
    if identity.epochs:
        lines.append("epochs = true")
    if identity.since:
        lines.append(f"since = {identity.since}")
    if identity.development:
        lines.append("development = true")
    for key, time in (("not_before", identity.not_before), ("not_after", identity.not_after)):
        if time is not None:
            lines.append(f"{key} = {time.isoformat()}")
    if identity.retired:
        pairs = ", ".join(f"{string(o)} = {index}" for o, index in identity.retired.items())
        lines.append(f"retired = {{ {pairs} }}")
    lines.append(f'public_key = """\n{identity.verifier.pem}"""')
    return "\n".join(lines) + "\n"


def check_role(role: str) -> None:
    """Raise `ValueError` when *role* is none of `ROLES`."""
    if role not in ROLES:
        msg = f"role is one of {', '.join(ROLES)}, got {role!r}"
        raise ValueError(msg)


def check_roles(roles: Iterable[str]) -> frozenset[str]:
    """Return *roles* as a set; raise `ValueError` when it is empty or not within `ROLES`."""
    found = frozenset(() if isinstance(roles, str) else roles)
    if not found or not found <= frozenset(ROLES):
        msg = f"roles are one or more of {', '.join(ROLES)}; got {roles!r}"
        raise ValueError(msg)
    return found


def check_trust(trust: object) -> None:
    """Raise `TypeError` when *trust* is not a `Trust`, a path for instance."""
    if not isinstance(trust, Trust):
        msg = f"trust is a Trust, not {type(trust).__name__}: read one with Trust.load(path)"
        raise TypeError(msg)


def _utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    if time.tzinfo is None:
        msg = f"a time needs an offset (2026-01-01T00:00:00Z), got {time}"
        raise ValueError(msg)
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        msg = f"the time {time} does not exist in UTC"
        raise ValueError(msg) from error


def _rule_block(rule: ModelRule) -> str:
    lines = [f"[models.{string(rule.name)}]"]
    if rule.require:
        pairs = ", ".join(f"{string(k)} = {string(str(v))}" for k, v in rule.require.items())
        lines.append(f"require = {{ {pairs} }}")
    if rule.max_attempts is not None:
        lines.append(f"max_attempts = {rule.max_attempts}")
    if rule.allow_ignored:
        lines.append(f"allow_ignored = {strings(rule.allow_ignored)}")
    if rule.allow_types:
        lines.append(f"allow_types = {strings(rule.allow_types)}")
    return "\n".join(lines) + "\n"


def _narrowed(mine: Identity, theirs: Identity | None) -> Identity:
    if theirs is None:
        return mine
    retired = dict(theirs.retired)
    for origin, index in mine.retired.items():
        retired[origin] = min(index, retired.get(origin, index))
    after = [t for t in (mine.not_before, theirs.not_before) if t is not None]
    until = [t for t in (mine.not_after, theirs.not_after) if t is not None]
    return replace(
        mine,
        development=mine.development or theirs.development,
        not_before=max(after, default=None),
        not_after=min(until, default=None),
        retired=retired,
        epochs=mine.epochs or theirs.epochs,
        since=min(mine.since, theirs.since),
    )


def _notes(identity: Identity) -> Iterable[str]:
    if identity.development:
        yield "development key"
    if identity.origin is not None:
        yield f"signs the log {identity.origin}"
    if identity.epochs:
        yield "first of a chain of epoch keys"
    if identity.since:
        yield f"from {identity.since} leaves on"
    if identity.not_before is not None:
        yield f"from {identity.not_before.isoformat()}"
    if identity.not_after is not None:
        yield f"until {identity.not_after.isoformat()}"
    for origin, index in identity.retired.items():
        yield f"retired at leaf {index} of {origin}"


def _not_trust(why: str) -> FormatError:
    return FormatError(
        "this is not a trust file",
        why=why,
        fix="write it as docs/spec/trust-file.md shows, in UTF-8",
    )
