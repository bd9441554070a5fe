"""
What is read when the audit log is read: entries under one checkpoint.

A verified log, the log of this process and a directory are read in the same
way.  Whichever it is, the entries are those of one size and one root, so an
answer can say what it is an answer about.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from secureml.errors import ConsistencyError
from secureml.evidence.checklog import VerifiedLog, verify_log
from secureml.evidence.log import Log
from secureml.evidence.trust import Trust
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import ConsistencyProof
from secureml.wire.note import Note

__all__ = ["Readable", "Source", "source_of"]

Readable: TypeAlias = VerifiedLog | Log | str | os.PathLike[str]
"""A verified log, a log, or the directory of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    The entries of a log under one checkpoint.

    Attributes:
        origin: The log's name.
        size: Number of entries.
        root: Root hash over them, as the checkpoint says, 32 bytes.
        verified: Whether the checkpoint's signature and every file were checked.
        entries: Yields the entries from the first number up to, not including, the second.
        continues: Proves that the first so many entries begin this log.
        again: Looks again: the log may have grown.
    """

    origin: str
    size: int
    root: bytes
    verified: bool
    entries: Callable[[int, int], Iterator[bytes]]
    continues: Callable[[int], ConsistencyProof]
    again: Callable[[], "Source"]

    def facts(self) -> dict[str, str]:
        """Return what an answer says about the log it is from."""
        return {
            "origin": self.origin,
            "size": str(self.size),
            "root": self.root.hex(),
            "verified": "yes" if self.verified else "no",
        }

    def refuse(self) -> ConsistencyError:
        """Return the error for entries that do not lead to the checkpoint."""
        return ConsistencyError(
            f"the entries of {self.origin!r} are not those of its checkpoint",
            why=f"they do not lead to the root {self.root.hex()[:16]}… that it has for "
            f"{self.size} entries",
            fix="verify the log: it names the file that was changed",
        )


def source_of(log: object, *, trust: Trust | None = None) -> Source:
    """
    Return what is to be read of *log*.

    Args:
        log: A `VerifiedLog`, a `Log`, something with a ``log`` that is one, or a directory.
        trust: Verify the directory first, with this.

    Raises:
        TypeError: It is none of these, or *trust* is given for a log that is open.
        VerificationError: The directory does not verify.
        StoreError: There is no log, or it cannot be read.
        FormatError: The checkpoint is not one.
    """
    if isinstance(log, str | os.PathLike):
        if trust is None:
            return _plain(Log.open(log))
        return _verified(verify_log(log, trust=trust, role="audit"))
    if trust is not None:
        msg = "trust= goes with a directory; verify_log makes a verified log of it"
        raise TypeError(msg)
    if isinstance(log, VerifiedLog):
        return _verified(log)
    inner = log if isinstance(log, Log) else getattr(log, "log", None)
    if isinstance(inner, Log):
        return _plain(inner)
    msg = f"a log, a verified log or a directory, not {type(log).__name__}"
    raise TypeError(msg)


def _verified(log: VerifiedLog) -> Source:
    def entries(start: int, stop: int) -> Iterator[bytes]:
        some = log.entries
        return (some[index] for index in range(start, stop))

    return Source(
        origin=log.origin,
        size=log.size,
        root=log.root,
        verified=True,
        entries=entries,
        continues=log.consistency,
        again=lambda: _verified(log),
    )


def _plain(log: Log) -> Source:
    seen = Checkpoint.decode(Note.decode(log.checkpoint_note()).text)
    return Source(
        origin=seen.origin,
        size=seen.size,
        root=seen.root,
        verified=False,
        entries=log.entries,
        continues=lambda old: log.consistency(old, seen.size),
        again=lambda: _plain(log),
    )
