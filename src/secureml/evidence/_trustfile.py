"""
The text of a trust file, checked key by key.

Apart from `trust`, so that a process which only writes a log never loads
pydantic.  The models refuse keys they do not know: a misspelt ``not_afetr``
must not read as "valid for ever".
"""

import re
import tomllib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from secureml.errors import FormatError
from secureml.evidence.trust import Identity, ModelRule, Trust
from secureml.evidence.witness import Witness
from secureml.keys import Verifier
from secureml.wire.digest import Digest
from secureml.wire.note import VKey

__all__ = ["TrustFile", "read"]

_HEAD = re.compile(r"^[ \t]*\[\[[ \t]*identity\b", re.MULTILINE)


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class IdentityBlock(_Document):
    """One ``[[identity]]``."""

    name: str
    public_key: str
    roles: list[str]
    development: bool = False
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    retired: dict[str, Annotated[int, Field(ge=0)]] = {}
    origin: str | None = None
    epochs: bool = False
    since: Annotated[int, Field(ge=0)] = 0


class WitnessBlock(_Document):
    """One ``[[witness]]``."""

    name: str
    vkey: str


class ModelBlock(_Document):
    """One ``[models."name"]``."""

    require: dict[str, str] = {}
    max_attempts: Annotated[int, Field(ge=1)] | None = None
    allow_ignored: list[str] = []
    allow_types: list[str] = []


class TrustFile(_Document):
    """The whole file."""

    version: Annotated[int, Field(ge=1, le=1)]
    quorum: Annotated[int, Field(ge=0)] | None = None
    identity: list[IdentityBlock] = []
    witness: list[WitnessBlock] = []
    models: dict[str, ModelBlock] = {}


def read(text: str) -> Trust:
    """
    Read the text of a trust file.

    Raises:
        FormatError: It is not one; the error names the key and what was found.
    """
    try:
        text.encode()
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused("it is not TOML", str(error), "correct that line") from error
    try:
        document = TrustFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = _path(first["loc"])
        why = _sentence(first["type"], first["msg"], first["input"])
        raise _refused(f"{key}{_line(text, first['loc'])}", why, _FIX) from error
    identities = tuple(_identity(text, i, block) for i, block in enumerate(document.identity))
    rules = tuple(_rule(name, block) for name, block in document.models.items())
    witnesses = tuple(_witness(i, block) for i, block in enumerate(document.witness))
    if (document.quorum is None) != (not witnesses):
        why = "witnesses count from a number of them on, and only witnesses do"
        fix = "give quorum, how many of the [[witness]] blocks have to sign; or leave out both"
        raise _refused("quorum", why, fix)
    try:
        return Trust(identities, rules, text, witnesses, document.quorum or 0)
    except ValueError as error:
        key = "witness" if "witness" in str(error) else "identity"
        fix = f"name each key once, with all that it may say in one [[{key}]] block"
        raise _refused(key, str(error), fix) from error


_FIX = "docs/spec/trust-file.md lists every key with its type"


def _identity(text: str, index: int, block: IdentityBlock) -> Identity:
    loc = ("identity", index)
    try:
        verifier = Verifier.from_pem(block.public_key)
    except FormatError as error:
        key = f"{_path((*loc, 'public_key'))}{_line(text, loc)}"
        raise _refused(key, f"{error.what}: {error.why}", error.fix) from error
    try:
        return Identity(
            name=block.name,
            verifier=verifier,
            roles=_roles(block.roles),
            development=block.development,
            not_before=block.not_before,
            not_after=block.not_after,
            retired=block.retired,
            origin=block.origin,
            epochs=block.epochs,
            since=block.since,
        )
    except ValueError as error:
        key = f"{_path(loc)} ({block.name[:40]!r}){_line(text, loc)}"
        raise _refused(key, str(error), _FIX) from error


def _witness(index: int, block: WitnessBlock) -> Witness:
    key = _path(("witness", index))
    try:
        return Witness(block.name, VKey.decode(block.vkey))
    except FormatError as error:
        raise _refused(f"{key}.vkey", f"{error.what}: {error.why}", error.fix) from error
    except ValueError as error:
        raise _refused(f"{key} ({block.name[:40]!r})", str(error), _FIX) from error


def _roles(roles: list[str]) -> frozenset[str]:
    if len(set(roles)) != len(roles):
        msg = f"roles names one of them twice: {', '.join(roles)}"
        raise ValueError(msg)
    return frozenset(roles)


def _rule(name: str, block: ModelBlock) -> ModelRule:
    require = {}
    for label, digest in block.require.items():
        try:
            require[label] = Digest.parse(digest)
        except FormatError as error:
            key = _path(("models", name, "require", label))
            raise _refused(key, f"{error.what}: {error.why}", error.fix) from error
    try:
        return ModelRule(
            name=name,
            require=require,
            max_attempts=block.max_attempts,
            allow_ignored=tuple(block.allow_ignored),
            allow_types=tuple(block.allow_types),
        )
    except ValueError as error:
        raise _refused(_path(("models", name)), str(error), _FIX) from error


def _path(loc: Sequence[str | int]) -> str:
    """Spell a place as one would in TOML: ``identity[0].roles[2]``."""
    out = ""
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            out += ("." if out else "") + (part if bare else f'"{part}"')
    return out or "the file"


def _line(text: str, loc: Sequence[str | int]) -> str:
    """Find the line of the block that *loc* is in, for the reader's eye; empty when unsure."""
    match loc:
        case ("identity", int(index), *_):
            heads = [match.start() for match in _HEAD.finditer(text)]
            if index < len(heads):
                return f" (in the block at line {text.count(chr(10), 0, heads[index]) + 1})"
    return ""


def _sentence(kind: str, message: str, found: object) -> str:
    if kind == "extra_forbidden":
        return "there is no such key"
    if kind == "missing":
        return "the key is missing"
    message = message[0].lower() + message[1:]
    if isinstance(found, str | int | float | bool | datetime):
        return f"{message}, got {str(found)[:40]!r}"
    return f"{message}, got {type(found).__name__}"


def _refused(key: str, why: str, fix: str) -> FormatError:
    return FormatError(f"this is not a trust file: {key}", why=why, fix=fix)
