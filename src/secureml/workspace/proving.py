"""
One entry, proven: a ``.tlog-proof`` that any C2SP verifier reads.

Source: c2sp.org/tlog-proof.
"""

from collections.abc import Iterator
from pathlib import Path

from secureml.audit.record import Record
from secureml.errors import FormatError
from secureml.evidence.blobs import BlobStore
from secureml.evidence.log import Log
from secureml.evidence.pruning import absent_bundles
from secureml.evidence.statements import StatementLog
from secureml.wire.digest import Digest
from secureml.workspace.layout import LOGS, Layout, find_nested

__all__ = ["MAGIC", "find_entry", "prove", "prove_entry"]

MAGIC = b"secureml-audit/1 "
"""How each entry of an audit log begins."""

_FULL = 256


def prove(directory: Path, name: str) -> str:
    """
    Return the proof that a record or a statement is in a log of *directory*.

    Nothing is trusted or verified: the proof is for somebody who does.

    Args:
        directory: An evidence directory, or a log; those inside it are searched too.
        name: The id of a record, or ``sha256:…`` of a statement's payload.

    Raises:
        LookupError: Nothing there has this name.
        FormatError: *directory* holds no log, or one that cannot be read.
        VerificationError: The files of the log do not make a proof.
    """
    return prove_entry(directory, name)[0]


def prove_entry(directory: Path, name: str) -> tuple[str, bytes]:
    """
    Return the proof, as `prove` does, and the bytes of the entry that it is about.

    Raises:
        LookupError, FormatError, VerificationError: As `prove`.
    """
    found = find_entry(directory, name)
    if found is None:
        msg = f"no record or statement has the name {name!r} in {str(directory)!r}"
        raise LookupError(msg)
    log, index = found
    return log.prove(index).encode(), log.entry(index)


def find_entry(directory: Path, name: str) -> tuple[Log, int] | None:
    """
    Return the log that has the entry *name*, and its index there; None where none has it.

    Raises:
        FormatError: *directory* holds no log, or one that cannot be read.
    """
    logs = list(_logs(directory))
    if not logs:
        raise FormatError(
            f"{str(directory)!r} is not an evidence directory",
            why="it holds neither log/ nor audit/, and is no log itself",
            fix="give the directory that secureml.open(…) or the demo made, or a log in it",
        )
    for path in logs:
        log = Log.open(path)
        index = _statement(log, path, name) if ":" in name else _record(log, name)
        if index is not None:
            return log, index
    return None


def _logs(directory: Path) -> Iterator[Path]:
    root = Layout.of(directory).root
    if (root / "checkpoint").is_file():
        yield root
        return
    for place in (root, *find_nested(root)):
        yield from (place / name for name in LOGS if (place / name).is_dir())


def _statement(log: Log, path: Path, name: str) -> int | None:
    if not log.size or log.entry(log.size - 1).startswith(MAGIC):
        return None
    blobs = BlobStore(path.parent / "blobs")
    found = StatementLog(log, blobs).named(Digest.parse(name))
    return found[0].index if found else None


def _record(log: Log, name: str) -> int | None:
    """Look from the newest record back; bundles may have been removed under a policy."""
    needle = name.encode()
    size = log.size
    absent = absent_bundles(log.directory, size)
    for bundle in range((size - 1) // _FULL, -1, -1):
        if bundle in absent:
            continue
        leaves = enumerate(log.entries(bundle * _FULL, (bundle + 1) * _FULL), bundle * _FULL)
        for index, leaf in leaves:
            if needle in leaf and leaf.startswith(MAGIC) and Record.decode(leaf).id == name:
                return index
    return None
