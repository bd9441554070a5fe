"""
Every file of a directory but its logs': named by evidence, or refused.

The logs prove themselves.  Every other file is named by a seal, is a blob with
its own name, or lies among the details, which their commitments guard.

The `log` key seals a directory; where the `audit` key sealed it again after
that, which a server does that shares a directory, it may add files and may not
change what was sealed before it.

Source: ``docs/spec/seal.md``.
"""

import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from secureml.errors import DigestMismatchError, FormatError, UnexpectedFileError
from secureml.evidence.blobs import BlobStore
from secureml.hashing import hash_file, open_regular
from secureml.wire.digest import SHA256, Digest
from secureml.wire.manifest import Manifest
from secureml.workspace.layout import walk_files
from secureml.workspace.sealing import Seal

__all__ = ["Seals", "account_for_files"]

_WAIT: Final = 0.05
_WAITS: Final = 12
_TEMPORARY: Final = re.compile(
    r"\.trust\.toml\.[0-9a-f]{16}\.tmp|blobs/sha256/[0-9a-f]{2}/\.writing-[0-9a-f]{62}", re.ASCII
)
_BLOB: Final = re.compile(r"blobs/sha256/([0-9a-f]{2})/([0-9a-f]{62})", re.ASCII)


@dataclass(slots=True)
class Seals:
    """
    The seals that count, and whether they are the last word.

    Attributes:
        statement: The last one in the statement log, by the role ``log``.
        audit: The last one in the audit log, if it came after that.
        last: Whether nothing was logged after them: the directory is sealed.
    """

    statement: Seal | None = None
    audit: Seal | None = None
    last: bool = False

    def files(self, blobs: BlobStore) -> dict[str, bytes]:
        """
        Return what is sealed: file name → SHA-256.

        Raises:
            FormatError: A seal contradicts the list of files that it names.
            VerificationError: The list is gone, or was changed.
        """
        files = {} if self.audit is None else _listed(self.audit, blobs)
        if self.statement is not None:
            before = _listed(self.statement, blobs)
            if self.audit is not None:
                before = {name: sha256 for name, sha256 in before.items() if not _loose(name)}
            files |= before
        return files


def account_for_files(
    root: Path, *, seals: Seals, blobs: BlobStore, named_blobs: Collection[str]
) -> int:
    """
    Account for every file below *root* but the logs' own; return how many there are.

    Args:
        root: The evidence directory.
        seals: What its logs say about its files.
        blobs: Its blobs.
        named_blobs: Hex names of the blobs that leaves name.

    Raises:
        UnexpectedFileError: A file is there that nothing names, or is gone.
        DigestMismatchError: A file was changed.
        FormatError: A file is a link or a device, or a seal cannot be read.
        StoreError: A file cannot be read.
    """
    sealed = seals.files(blobs)
    present: set[str] = set()
    for path in walk_files(root):
        name = path.relative_to(root).as_posix()
        present.add(name)
        _check_file(path, name, sealed, seals, named_blobs)
    wanted = {name for name in sealed if seals.last or not _loose(name)}
    wanted |= {f"blobs/sha256/{name[:2]}/{name[2:]}" for name in named_blobs}
    gone = sorted(wanted - present)
    if gone:
        raise UnexpectedFileError(
            f"{gone[0]!r} is missing from the evidence directory",
            why=f"{len(gone)} files that the evidence names are gone",
            fix="restore them from a copy",
        )
    return len(present)


def _check_file(
    path: Path,
    name: str,
    sealed: Mapping[str, bytes],
    seals: Seals,
    named_blobs: Collection[str],
) -> None:
    expected = sealed.get(name)
    blob = _BLOB.fullmatch(name)
    if blob is not None and (blob[1] + blob[2] in named_blobs or not seals.last):
        # A blob is named before its leaf is: in an open directory it may be
        # early, and is checked against its own name.
        expected = expected or bytes.fromhex(blob[1] + blob[2])
    if _loose(name) and not seals.last:
        # A writer may be appending to it, so it has no digest now; only its kind is checked.
        os.close(open_regular(path))
        return
    if expected is None and _TEMPORARY.fullmatch(name) and _goes(path):
        return
    if expected is None:
        raise UnexpectedFileError(
            f"{name!r} is in the evidence directory, and nothing signed names it",
            why="no seal lists it"
            if seals.statement or seals.audit
            else "the workspace was never sealed: it was not closed",
            fix="remove the file; if it belongs there, open the workspace and close it, "
            "which seals it",
        )
    found = hash_file(path)
    if found.value != expected:
        raise DigestMismatchError(
            f"{name!r} was changed after the directory was sealed",
            why=f"it has {found.short}, the seal says {Digest(SHA256, expected).short}",
            fix="restore the file from a copy; keep the changed one for the inquiry",
        )


def _loose(name: str) -> bool:
    """Tell whether *name* may change while a directory is open."""
    return name.startswith("details/") or name == "trust.toml"


def _goes(path: Path) -> bool:
    """Tell whether a file that a writer is about to rename goes away by itself."""
    for _ in range(_WAITS):
        if not os.path.lexists(path):
            return True
        time.sleep(_WAIT)
    return False


def _listed(seal: Seal, blobs: BlobStore) -> dict[str, bytes]:
    manifest = Manifest.decode(blobs.get(seal.manifest))
    if manifest.digest != seal.digest or len(manifest) != seal.files:
        raise FormatError(
            "the seal contradicts the list of files it names",
            why=f"the list has {manifest.digest.short}, the seal {seal.digest.short}",
            fix="the evidence was written by something else: keep it, and compare with a copy",
        )
    return {entry.name: entry.sha256 for entry in manifest}
