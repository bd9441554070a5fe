"""
Anchors and seals: how a workspace commits to its other log, and to every file.

An **anchor** is a statement in the statement log about a checkpoint of the
audit log, so that cutting the audit log contradicts the statement log.  A
**seal** is a statement about the manifest of every file of the directory but
the logs' own, which prove themselves.  A serving workspace has no statement
log: its seal is the last record of its audit log.  Where several processes
serve one directory, the one that closes last seals it.

What happens if the process dies here: the blob that lists the files is durable
before the leaf that names it; without the leaf the directory is merely not
sealed, and the next `close` seals it.

Source: ``docs/spec/seal.md``.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secureml.errors import FormatError, StoreError
from secureml.evidence._drain import writers
from secureml.evidence._files import store_error
from secureml.evidence._flock import hold, is_held
from secureml.evidence._spool import lock_path
from secureml.evidence.blobs import BlobStore
from secureml.hashing import hash_file
from secureml.wire import base64
from secureml.wire import statement as st
from secureml.wire.canonical import JSON
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.digest import DIR_HASH, SHA256, Digest
from secureml.wire.manifest import Manifest
from secureml.wire.note import Note
from secureml.wire.statement import Statement, Subject
from secureml.workspace.layout import Layout, walk_files

__all__ = [
    "Seal",
    "alone",
    "anchor_statement",
    "anchored_note",
    "anchored_root",
    "checkpoint_of",
    "directory_manifest",
    "make_seal",
    "others_record",
    "seal_statement",
]

_PATIENCE = 60.0
_PAUSE = 0.02
_MOMENT = 0.25
_LEFT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """
    What a seal says.

    Attributes:
        digest: dirHash of every file but the logs' own; the blob that lists
            them has the same value as its SHA-256.
        files: How many there are.
    """

    digest: Digest
    files: int

    @property
    def manifest(self) -> Digest:
        """The name of the blob that lists the files: a dirHash is the SHA-256 of that list."""
        return Digest(SHA256, self.digest.value)

    def to_json(self) -> dict[str, JSON]:
        """Return the seal as it stands in a statement or an audit record."""
        return {"digest": dict(self.digest.as_set()), "files": self.files}

    @classmethod
    def from_json(cls, value: object) -> "Seal":
        """
        Read a seal.

        Raises:
            FormatError: It is not one.
        """
        if isinstance(value, Mapping) and value.keys() == {"digest", "files"}:
            digest, files = value["digest"], value["files"]
            if isinstance(digest, Mapping) and type(files) is int and files >= 0:
                found = cls(digest=Digest.from_set(digest, DIR_HASH), files=files)
                if found.to_json() == {"digest": dict(digest), "files": files}:
                    return found
        raise FormatError(
            "a seal cannot be read",
            why="it holds exactly digest and files (docs/spec/seal.md)",
            fix="the evidence was written by something else, or altered: keep it, and compare it "
            "with a copy",
        )


def directory_manifest(root: Path) -> Manifest:
    """
    Return the manifest of every file below *root* but the logs' own.

    Raises:
        FormatError: A name cannot be written in a manifest, or an entry is no regular file.
    """
    return Manifest.of(
        (path.relative_to(root).as_posix(), hash_file(path).value) for path in walk_files(root)
    )


def make_seal(root: Path, blobs: BlobStore) -> Seal:
    """Measure *root*, store the list of its files as a blob, and return the seal."""
    manifest = directory_manifest(root)
    blobs.put(manifest.encode())
    return Seal(digest=manifest.digest, files=len(manifest))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """
    Wait until no other process makes or seals this directory, and keep others waiting.

    Args:
        path: The lock file, in the private directory.

    Raises:
        StoreError: It cannot be locked, or another process is at it for a minute.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            held = hold(path)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"another process has been at work here for {_PATIENCE:g} s",
                    why=f"it holds {str(path)!r}",
                    fix="nothing is lost; open the workspace and close it when that one is done",
                    retryable=True,
                ) from None
            time.sleep(_PAUSE)
        except OSError as error:
            raise store_error(f"could not lock {str(path)!r}", error) from error
    try:
        yield
    finally:
        held.close()


def others_record(layout: Layout, writer: str) -> bool:
    """
    Return whether a living process beside *writer* records into the audit log.

    Waits until what the dead have left is in the log, some seconds at most.

    Raises:
        StoreError: The spools cannot be looked at.
    """
    spools = layout.private / "spool" / layout.audit.name
    begun = settled = time.monotonic()
    seen: list[bytes] | None = None
    while True:
        try:
            others = [other for other in writers(spools) if other.hex() != writer]
            held = [is_held(lock_path(spools, other)) for other in others]
        except OSError as error:
            raise store_error(f"could not look into {str(spools)!r}", error) from error
        at = time.monotonic()
        if others != seen or not all(held):
            # Who takes over what the dead have left writes a spool of its own for a moment.
            seen, settled = others, at
        if not others or at - settled > _MOMENT or at - begun > _LEFT:
            return any(held)
        time.sleep(_PAUSE)


def seal_statement(seal: Seal) -> Statement:
    """Return the statement that seals a directory."""
    return Statement(
        subject=(Subject(name="evidence", digest=seal.digest.as_set()),),
        predicate_type=st.SEAL,
        predicate=seal.to_json(),
    )


def anchor_statement(note: str) -> Statement:
    """Return the statement that anchors the checkpoint of another log."""
    checkpoint = checkpoint_of(note)
    return Statement(
        subject=(Subject(name=checkpoint.origin, digest={SHA256: checkpoint.root.hex()}),),
        predicate_type=st.ANCHOR,
        predicate={
            "checkpoint": note,
            "origin": checkpoint.origin,
            "root": base64.b64encode(checkpoint.root),
            "size": checkpoint.size,
        },
    )


def anchored_root(statement: Statement) -> Digest:
    """Return the digest on which anchors of the same checkpoint join."""
    return Digest.from_set(statement.subject[0].digest, SHA256)


def anchored_note(statement: Statement) -> str:
    """
    Return the checkpoint that an anchor names.

    Raises:
        FormatError: The anchor contradicts its own checkpoint.
    """
    note = statement.predicate.get("checkpoint")
    if isinstance(note, str) and anchor_statement(note) == statement:
        return note
    raise FormatError(
        "an anchor cannot be read",
        why="its fields are not those of the checkpoint it carries (docs/spec/seal.md)",
        fix="the evidence was written by something else, or altered: keep it, and compare it "
        "with a copy",
    )


def checkpoint_of(note: str) -> Checkpoint:
    """
    Return what a signed note says as a checkpoint; its signature is not verified.

    Raises:
        FormatError: It is not one.
    """
    return Checkpoint.decode(Note.decode(note).text)
