"""
OpenSSF Model Signing v1.0, the statement: which files, with which digests, left out which paths.

What we write is the specification to the letter: whole files, SHA-256, sorted
by code point, and `OWN_IGNORED` as the only paths left out.  What we read is
wider, because peers write it: any v1.x, resources in any order, BLAKE2b, extra
fields.  Nothing that widens *what is covered* is accepted: no duplicate or
escaping names, no ignored path that covers a signed file.

The digest that OMS puts on the subject covers contents but not names.  The
name of a model is therefore `Manifest.digest` of its resources (``dirHash``),
recomputed by `read_resources`; nothing joins on the bare OMS root.

Source: https://github.com/ossf/model-signing-spec, v1.0, sections 4 to 6.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from secureml.errors import DigestMismatchError, FormatError
from secureml.wire.digest import Digest
from secureml.wire.manifest import Manifest, check_name
from secureml.wire.statement import OMS, Statement, Subject

__all__ = [
    "OWN_IGNORED",
    "OmsClaim",
    "Resource",
    "covers",
    "oms_root",
    "oms_statement",
    "read_oms",
    "read_resources",
]

OWN_IGNORED = ("claims.jsonl", "model.sig")
"""The only paths that our signatures leave out: what travels beside the model."""

_V1 = re.compile(r"https://model_signing/signature/v1\.(0|[1-9][0-9]*)", re.ASCII)
_HISTORIC = "https://model_signing/Digests/v0.1"
_SIZES = {"sha256": 32, "blake2b": 64}
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_AGAIN = "get the signature again, or sign the model again with sign_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """
    One signed file.

    Attributes:
        name: Relative POSIX path; ``"."`` only for a model that is one file.
        digest: Of the file's bytes, in the claim's `OmsClaim.hash_type`.
    """

    name: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OmsClaim:
    """
    What an OMS statement says, checked for form.

    Attributes:
        name: The model's base name where it was signed; a label.
        root: SHA-256 over the digests, in the order of the payload.
        hash_type: ``"sha256"`` or ``"blake2b"``.
        resources: The signed files, in the order of the payload.
        ignore_paths: Paths that the signer left out, sorted.
    """

    name: str
    root: Digest
    hash_type: str
    resources: tuple[Resource, ...]
    ignore_paths: tuple[str, ...]

    def ignores(self, name: str) -> bool:
        """Whether the signer left the file *name* out."""
        return any(covers(path, name) for path in self.ignore_paths)


def covers(path: str, name: str) -> bool:
    """Whether *path* is the file *name*, or a directory above it."""
    return name == path or name.startswith(f"{path}/")


def oms_root(digests: Iterable[bytes]) -> Digest:
    """Return SHA-256 over *digests*, one after the other: the OMS root."""
    root = hashlib.sha256()
    for digest in digests:
        root.update(digest)
    return Digest("sha256", root.digest())


def oms_statement(
    manifest: Manifest, name: str, ignore_paths: Iterable[str] = OWN_IGNORED
) -> Statement:
    """
    Say that the model *name* is exactly the files of *manifest*.

    Raises:
        ValueError: The manifest is empty, or an ignored path covers a file of it.
    """
    entries = sorted((entry.name, entry.sha256) for entry in manifest)
    ignored = sorted(ignore_paths)
    if not entries:
        msg = f"model {name!r} has no files: a signature over nothing would fit every directory"
        raise ValueError(msg)
    for file, _ in entries:
        if any(covers(path, file) for path in ignored):
            msg = f"{file!r} is signed and ignored at once: leave it out of the manifest"
            raise ValueError(msg)
    return Statement(
        subject=(Subject(name, oms_root(digest for _, digest in entries).as_set()),),
        predicate_type=OMS,
        predicate={
            "resources": [
                {"algorithm": "sha256", "digest": digest.hex(), "name": file}
                for file, digest in entries
            ],
            "serialization": {
                "allow_symlinks": False,
                "hash_type": "sha256",
                "ignore_paths": list(ignored),
                "method": "files",
            },
        },
    )


def read_oms(statement: Statement) -> OmsClaim:
    """
    Read an OMS statement of any v1.x, and recompute its root.

    Raises:
        FormatError: Another predicate, a form that is not supported, or names
            and ignored paths that could cover more or less than they say.
        DigestMismatchError: The root on the subject is not that of the resources.
    """
    if statement.predicate_type == _HISTORIC:
        raise FormatError(
            "the model signature is in the format of model-signing 0.2",
            why="that format signs a malformed encoding and no root over its files",
            fix="sign the model again with a tool that writes OpenSSF Model Signing v1.0",
        )
    if not _V1.fullmatch(statement.predicate_type):
        raise _bad(f"its predicate type is {statement.predicate_type[:120]!r}")
    if len(statement.subject) != 1:
        raise _bad(f"it has {len(statement.subject)} subjects, and needs exactly one")
    subject = statement.subject[0]
    if "sha256" not in subject.digest:
        raise _bad("its subject has no sha256")
    _only(statement.predicate, {"resources", "serialization"}, "predicate")
    hash_type, ignored = _serialization(statement.predicate.get("serialization"))
    resources = _resources(statement.predicate.get("resources"), hash_type)
    for resource in resources:
        for path in ignored:
            if covers(path, resource.name):
                raise _bad(f"it ignores {path!r}, which covers the signed file {resource.name!r}")
    stated = Digest.from_set(subject.digest, "sha256")
    root = oms_root(resource.digest for resource in resources)
    if root != stated:
        raise DigestMismatchError(
            f"the model signature for {subject.name!r} contradicts itself",
            why=f"its subject is {stated.short}, its resources give {root.short}",
            fix=_AGAIN,
        )
    return OmsClaim(
        name=subject.name,
        root=root,
        hash_type=hash_type,
        resources=resources,
        ignore_paths=ignored,
    )


def read_resources(statement: Statement) -> Manifest:
    """
    Return the manifest that an OMS statement signs; its `digest` names the model.

    Raises:
        FormatError: As `read_oms`; or the digests are not SHA-256, so that the
            model's name follows only from the files themselves.
        DigestMismatchError: As `read_oms`.
    """
    claim = read_oms(statement)
    if claim.hash_type != "sha256":
        raise FormatError(
            f"the signature of model {claim.name!r} does not name its files by sha256",
            why=f"its digests are {claim.hash_type}, so the model's dirHash is not in it",
            fix="verify the files with verify_model, or sign the model again with sha256",
        )
    if claim.resources[0].name == ".":
        raise FormatError(
            f"the signature of model {claim.name!r} does not name its file",
            why="the one resource is '.', as older tools write for a model that is one file",
            fix="verify the file itself with verify_model, or sign it again",
        )
    try:
        return Manifest.of((resource.name, resource.digest) for resource in claim.resources)
    except ValueError as error:
        raise _bad(str(error)) from error


def _serialization(value: object) -> tuple[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise _bad("it has no serialization")
    _only(
        value,
        {"allow_symlinks", "hash_type", "ignore_paths", "method", "shard_size"},
        "serialization",
    )
    method = value.get("method")
    if method == "shards":
        raise FormatError(
            "the model is signed in shards, which is not supported yet",
            why="its digests are of parts of files",
            fix="sign the model with whole-file digests (model-signing's default)",
        )
    if method != "files" or "shard_size" in value:
        raise _bad(f"its method is {str(method)[:40]!r}, known is 'files'")
    if not isinstance(value.get("allow_symlinks"), bool):
        raise _bad("allow_symlinks is not a boolean")
    hash_type = value.get("hash_type")
    if hash_type == "blake3":
        raise FormatError(
            "the model is signed with BLAKE3 digests, which are not supported yet",
            why="Python's standard library has no BLAKE3",
            fix="sign the model with sha256, the default of OpenSSF Model Signing",
        )
    if not isinstance(hash_type, str) or hash_type not in _SIZES:
        raise _bad(f"its hash_type is {str(hash_type)[:40]!r}, known are {', '.join(_SIZES)}")
    return hash_type, _ignored(value.get("ignore_paths", []))


def _ignored(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _bad("ignore_paths is not a list")
    found = set()
    for path in value:
        if not isinstance(path, str):
            raise _bad("an ignored path is not text")
        _checked(path, "it ignores the path")
        found.add(path)
    return tuple(sorted(found))


def _resources(value: object, hash_type: str) -> tuple[Resource, ...]:
    if not isinstance(value, list) or not value:
        raise _bad("it signs no files, so it would fit every directory")
    found: dict[str, Resource] = {}
    for item in value:
        if not isinstance(item, Mapping):
            raise _bad("a resource is not an object")
        name, algorithm, digest = (item.get(key) for key in ("name", "algorithm", "digest"))
        if not isinstance(name, str):
            raise _bad("a resource has no name")
        if name != "." or len(value) != 1:
            _checked(name, "it names the file")
        if algorithm != hash_type:
            raise _bad(f"the algorithm of {name!r} is not its hash_type, {hash_type}")
        if (
            not isinstance(digest, str)
            or len(digest) != 2 * _SIZES[hash_type]
            or not _HEX.fullmatch(digest)
        ):
            raise _bad(
                f"the digest of {name!r} is not {2 * _SIZES[hash_type]} lower-case hex digits"
            )
        if name in found:
            raise _bad(f"it names {name!r} twice")
        found[name] = Resource(name=name, digest=bytes.fromhex(digest))
    return tuple(found.values())


def _checked(name: str, says: str) -> None:
    try:
        check_name(name)
    except (ValueError, FormatError) as error:
        raise _bad(f"{says} {name[:120]!r}: {getattr(error, 'why', error)}") from error


def _only(value: Mapping[str, object], known: set[str], what: str) -> None:
    if extra := sorted(set(value) - known):
        raise _bad(f"its {what} has the unknown field {extra[0][:60]!r}")


def _bad(why: str) -> FormatError:
    return FormatError(
        "this is not a model signature that can be verified",
        why=f"{why} (OpenSSF Model Signing v1.0)",
        fix=_AGAIN,
    )
