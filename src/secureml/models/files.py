"""
A model's files: listed once, each opened once, hashed from the very bytes that are kept.

A signature is about bytes, and so is loading: whoever verifies a path and then
opens it again can be handed other bytes in between.  `find_files` therefore
reads each file one time, and what it keeps is what it hashed.  `compare` then
holds the hashes against the claim; it touches no file.

Source: OpenSSF Model Signing v1.0, section 6 (verification).
"""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from secureml._progress import progress
from secureml.errors import DigestMismatchError, FormatError, StoreError, UnexpectedFileError
from secureml.hashing.files import open_regular, unreadable
from secureml.models.oms import OWN_IGNORED, OmsClaim, covers
from secureml.wire.manifest import Manifest

__all__ = ["FoundFiles", "compare", "find_files"]

_CHUNK = 1 << 20
_SHOWN = 5
_AGAIN = "get the model again; if the change is intended, gate, train and sign again"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFiles:
    """
    What lies at a model's path, next to what its claim names; nothing is judged yet.

    Attributes:
        sha256: Of each named file that is there.
        digests: Of the same files, in the claim's hash type.
        others: Files that the claim does not name, in order.
        contents: The named files' bytes; empty when they were only hashed.
    """

    sha256: Mapping[str, bytes]
    digests: Mapping[str, bytes]
    others: tuple[str, ...]
    contents: Mapping[str, bytes]


def find_files(path: Path, claim: OmsClaim, *, signature: Path, keep: bool = False) -> FoundFiles:
    """
    Read the files at *path* that *claim* names, once, and list the others.

    Args:
        path: The model's directory, or its one file.
        claim: What was signed, not yet verified.
        signature: The signature's own file; no signature covers itself, so
            it is not among the others.
        keep: Whether to keep the bytes.

    Raises:
        UnexpectedFileError: A symbolic link or a special file is there.
        FormatError: The path is neither a file nor a directory.
        StoreError: A file cannot be read.
    """
    signed = _signed(path, claim)
    present = dict(_walk(path))
    own_name = _inside(signature, path)
    sha256: dict[str, bytes] = {}
    digests: dict[str, bytes] = {}
    contents: dict[str, bytes] = {}
    with progress(f"read model {path.name}", total=None) as advance:
        for name in sorted(set(signed) & set(present)):
            first, own, data, size = _read(present[name], claim.hash_type, keep=keep)
            advance(size)
            sha256[name], digests[name] = first, own
            if keep:
                contents[name] = data
    return FoundFiles(
        sha256=MappingProxyType(sha256),
        digests=MappingProxyType(digests),
        others=tuple(sorted(set(present) - set(signed) - {own_name})),
        contents=MappingProxyType(contents),
    )


def compare(
    path: Path, claim: OmsClaim, found: FoundFiles, *, allow_ignored: Collection[str] = ()
) -> Manifest:
    """
    Check that *found* is exactly what *claim* names, and return its manifest.

    Args:
        path: Where the files were found.
        claim: What was signed.
        found: What lies there.
        allow_ignored: Paths that may be present though the signer left them
            out, beside `OWN_IGNORED`; a directory stands for all in it.

    Raises:
        UnexpectedFileError: A file that nothing signed names, or a signed
            one that is gone.
        DigestMismatchError: A file with other bytes.
    """
    signed = _signed(path, claim)
    for name in found.others:
        if not claim.ignores(name):
            raise UnexpectedFileError(
                f"{name!r} in model {claim.name!r} is a file that nothing signed names",
                why="it was added or renamed after the model was signed",
                fix=_AGAIN,
            )
        if name not in OWN_IGNORED and not any(covers(path, name) for path in allow_ignored):
            raise UnexpectedFileError(
                f"{name!r} in model {claim.name!r} is a file that its signature leaves out",
                why="the signer ignored this path, so anybody can have put it there",
                fix=f"remove it, or add {name!r} to allow_ignored in the trust file's rule",
            )
    if missing := sorted(set(signed) - set(found.digests)):
        raise UnexpectedFileError(
            f"{_listed(missing)} of model {claim.name!r} is missing",
            why="it is signed, and not there",
            fix=_AGAIN,
        )
    changed = [name for name, digest in signed.items() if found.digests[name] != digest]
    if changed:
        first = min(changed)
        raise DigestMismatchError(
            f"{_listed(changed)} of model {claim.name!r} is not what was signed",
            why=f"{first!r} has {claim.hash_type}:{found.digests[first].hex()[:16]}…, signed is "
            f"{claim.hash_type}:{signed[first].hex()[:16]}…",
            fix=_AGAIN,
        )
    try:
        return Manifest.of(found.sha256.items())
    except ValueError as error:
        raise FormatError(
            f"the files of model {claim.name!r} cannot be named", why=str(error), fix=_AGAIN
        ) from error


def _signed(path: Path, claim: OmsClaim) -> dict[str, bytes]:
    """Name the signed files as they lie at *path*: one file may be signed as '.'."""
    return {
        path.name if resource.name == "." else resource.name: resource.digest
        for resource in claim.resources
    }


def _inside(signature: Path, root: Path) -> str | None:
    """Return the signature's name inside *root*; by its path, so that a hard link is not it."""
    place, real = signature.parent.resolve() / signature.name, root.resolve()
    return place.relative_to(real).as_posix() if place.is_relative_to(real) else None


def _walk(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of each regular file; anything else is refused."""
    if path.is_file():
        if path.is_symlink():
            raise _special(path.name, "a symbolic link")
        yield path.name, path
        return
    if not path.is_dir():
        raise FormatError(
            f"there is no model at {str(path)!r}",
            why="it is neither a directory nor a file",
            fix="check the path",
        )
    pending = [("", path)]
    while pending:
        prefix, folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise unreadable(str(folder), error) from error
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_symlink():
                raise _special(name, "a symbolic link")
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{name}/", Path(entry.path)))
            elif entry.is_file(follow_symlinks=False):
                yield name, Path(entry.path)
            else:
                raise _special(name, "neither a file nor a directory")


def _read(path: Path, hash_type: str, *, keep: bool) -> tuple[bytes, bytes, bytes, int]:
    """Return SHA-256, the digest of *hash_type*, the bytes if kept, and their number."""
    sha256 = hashlib.sha256()
    own = sha256 if hash_type == "sha256" else hashlib.blake2b()
    kept = b""
    size = 0
    try:
        with open(open_regular(path), "rb", buffering=0) as file:  # noqa: PTH123  a descriptor
            buffer = memoryview(bytearray(0 if keep else _CHUNK))
            if keep:
                kept = file.readall()
            while part := kept[size:] if keep else buffer[: file.readinto(buffer) or 0]:
                size += len(part)
                sha256.update(part)
                if own is not sha256:
                    own.update(part)
    except OSError as error:
        raise unreadable(str(path), error) from error
    except MemoryError as error:
        raise StoreError(
            f"{str(path)!r} does not fit into memory",
            why="a model is loaded from the bytes that were verified, so all of them are held",
            fix="check the file's size; a file that somebody swapped can have any, and "
            "verify_model hashes it without holding it",
        ) from error
    return sha256.digest(), own.digest(), kept, size


def _special(name: str, what: str) -> UnexpectedFileError:
    return UnexpectedFileError(
        f"{name!r} in the model is {what}",
        why="only regular files are signed; a link can be pointed elsewhere afterwards",
        fix="copy the model with its links resolved (cp -rL), and sign that",
    )


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
