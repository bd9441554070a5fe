"""
One entry, proven: a ``.tlog-proof`` that any C2SP verifier reads.

Source: c2sp.org/tlog-proof.
"""

from pathlib import Path

from secureml.audit import Record
from secureml.errors import FormatError
from secureml.evidence.blobs import BlobStore
from secureml.evidence.log import Log
from secureml.evidence.statements import StatementLog
from secureml.wire.digest import Digest
from secureml.workspace.layout import Layout, find_nested

__all__ = ["prove"]


def prove(directory: Path, name: str) -> str:
    """
    Return the proof that a record or a statement is in a log of *directory*.

    Nothing is trusted or verified: the proof is for somebody who does.

    Args:
        directory: An evidence directory; those inside it are searched too.
        name: The id of a record, or ``sha256:…`` of a statement's payload.

    Raises:
        LookupError: Nothing there has this name.
        FormatError: *directory* holds no log, or one that cannot be read.
        VerificationError: The files of the log do not make a proof.
    """
    root = Layout.of(directory).root
    places = [Layout.of(path) for path in (root, *find_nested(root))]
    if not any(p.log.is_dir() or p.audit.is_dir() for p in places):
        raise FormatError(
            f"{str(directory)!r} is not an evidence directory",
            why="it holds neither log/ nor audit/",
            fix="give the directory that secureml.open(…) or the demo made",
        )
    for layout in places:
        found = _statement(layout, name) if ":" in name else _record(layout, name)
        if found is not None:
            return found
    msg = f"no record or statement has the name {name!r} in {str(directory)!r}"
    raise LookupError(msg)


def _statement(layout: Layout, name: str) -> str | None:
    if not layout.log.is_dir():
        return None
    log = Log.open(layout.log)
    found = StatementLog(log, BlobStore(layout.blobs)).named(Digest.parse(name))
    return log.prove(found[0].index).encode() if found else None


def _record(layout: Layout, name: str) -> str | None:
    if not layout.audit.is_dir():
        return None
    log = Log.open(layout.audit)
    needle = name.encode()
    for index, leaf in enumerate(log.entries()):
        if needle in leaf and Record.decode(leaf).id == name:
            return log.prove(index).encode()
    return None
