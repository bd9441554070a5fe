"""
The audit log's side of keys that follow each other: the leaf that announces the next one.

The leaf is a record of a writer of its own, which begins, announces and ends
in one batch: so no sequence has a gap, and no thread of the process has to be
waited for.  It never passes through a spool.  A batch is in the log as a whole
or not at all, and with it the key that is announced.

Source: docs/spec/epochs.md, section "The leaf".
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Final

from secureml.audit._events import event
from secureml.audit.record import Record
from secureml.clock import Clock
from secureml.errors import FormatError, KeyUnavailableError, StoreError
from secureml.evidence.keeping import Epochs, Keeping, Places
from secureml.evidence.log import Log
from secureml.evidence.pruning import Prune
from secureml.keys import is_encrypted
from secureml.keys.signer import Signer
from secureml.wire.canonical import JSON

__all__ = ["Announcer", "Choices", "chained", "epoch_of", "pruned_of"]

_LIKELY: Final = b'"type":"epoch"'
_CALL: Final = b'"type":"call"}'


def epoch_of(leaf: bytes) -> object | None:
    """Return what a leaf says of the log's next key; None for any that is no ``epoch``."""
    if _LIKELY not in leaf:
        return None
    try:
        record = Record.decode(leaf)
    except FormatError:
        return None  # Whoever reads the records says so.
    return record.body["epoch"] if record.type == "epoch" else None


def chained(
    directory: str | os.PathLike[str],
    private: str | os.PathLike[str],
    *,
    passphrase: str | bytes | None = None,
) -> Keeping | None:
    """
    Return how a log is opened of which the keys follow each other; None where one signs all.

    Args:
        directory: The log.
        private: The private directory of its writers.
        passphrase: Opens keys that have one; the others do without.

    Raises:
        KeyUnavailableError: A key file is open to others.
    """
    at = Places.of(directory, private)
    if not at.has_epochs:
        return None
    secret = passphrase if any(map(is_encrypted, sorted(at.keys.glob("*.pem")))) else None
    return Keeping(epochs=Epochs(passphrase=secret), epoch_of=epoch_of)


def pruned_of(leaf: bytes) -> Prune | None:
    """
    Return what a leaf says about removed ones; None for any that is no ``prune``.

    Raises:
        FormatError: It is one, and malformed.
    """
    # Asked for every leaf that is committed: the common answer comes first.  Within text a
    # quotation mark is escaped, so what ends like this is of this type.
    if leaf.endswith(_CALL) or b'"type":"prune"' not in leaf:
        return None
    from secureml.audit.retention import read_prune

    return read_prune(leaf)


@dataclass(frozen=True, slots=True)
class Announcer:
    """
    Makes the leaves that announce a key.

    Attributes:
        clock: Tells the time.
    """

    clock: Clock

    def __call__(self, epoch: Mapping[str, JSON]) -> list[bytes]:
        """Return the leaves of a writer that says this, and nothing else."""
        writer = sha256(os.urandom(32)).hexdigest()[:32]
        bodies = (
            event("start", {"start": {"pid": os.getpid()}}, self.clock),
            event("epoch", {"epoch": dict(epoch)}, self.clock),
            event("end", {"end": {"records": 3}}, self.clock),
        )
        return [
            b"secureml-audit/1 %s %016x\n%s" % (writer.encode(), number, body)
            for number, body in enumerate(bodies)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """
    What the caller asks of whoever writes the log; see `AuditLog`.

    Attributes:
        epochs: Whether keys follow each other, and when.
        sealed: Whether the tail is sealed.
        also: ML-DSA-44 keys that sign beside the signer.
    """

    epochs: bool | timedelta | Epochs = False
    sealed: bool = False
    also: tuple[Signer, ...] = ()

    def opened(self, log: Log, clock: Clock) -> Log:
        """
        Return the log as it has to be written: as is asked, and as the files say.

        A log that has epoch keys or a sealed tail is written with them, whoever writes
        it: one process that does not know of them would leave them behind.

        Raises:
            KeyUnavailableError: Epoch keys are asked for, and were not made.
            StoreError: A sealed tail is asked for, and was not begun; or the log is open
                for reading only.
        """
        at = Places.of(log.directory, log.private)
        given = log.keeping or Keeping()
        when = self._when(at, given)
        sealed = self.sealed or given.sealed or at.has_tail
        if when is not None and not at.has_epochs:
            raise KeyUnavailableError(
                f"there are no epoch keys for the log in {str(at.directory)!r}",
                why=f"neither {str(at.keys)!r} nor {str(at.notes)!r} is there",
                fix="make the first key with secureml.evidence.keeping.create_epochs, and pin "
                "it in the trust file with epochs = true; if there were keys, restore them",
            )
        if sealed and not at.has_tail:
            raise StoreError(
                f"there is no sealed tail of the log in {str(at.directory)!r}",
                why=f"neither {str(at.tail)!r} nor {str(at.steps)!r} is there",
                fix="begin it with secureml.evidence.keeping.create_tail, and give the key to "
                "the auditor; if there was one, take it for an attack",
            )
        keeping = None
        if when is not None or sealed:
            keeping = Keeping(
                epochs=when, sealed=sealed, epoch_of=epoch_of, announce=Announcer(clock)
            )
        return log.kept(keeping=keeping, also=self.also, pruned=pruned_of)

    def _when(self, at: Places, given: Keeping) -> Epochs | None:
        if isinstance(self.epochs, Epochs):
            return self.epochs
        if isinstance(self.epochs, timedelta):
            return replace(given.epochs or Epochs(), period=self.epochs)
        return given.epochs or (Epochs() if self.epochs or at.has_epochs else None)
