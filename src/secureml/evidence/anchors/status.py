"""What a log's anchors have done, as plain values."""

from dataclasses import dataclass
from datetime import datetime

from secureml.errors import ConsistencyError, SecureMLError, ThresholdError
from secureml.evidence.anchors.receipt import Receipt

__all__ = ["AnchorStatus", "Receipts", "Status"]


@dataclass(frozen=True, slots=True)
class AnchorStatus:
    """
    How far one anchor has come.

    Attributes:
        name: The anchor.
        kind: What it is: ``witness``, ``rfc3161``, ``rekor`` or ``copy``.
        required: Whether it counts for the quorum.
        size: Entries under the last checkpoint that it took; 0 for none in this process.
        at: When that was, by the system's clock; None for never.
        failures: Attempts that failed since the last one that did not.
        failed: Attempts that failed, all together.
        error: The last failure, one line; None when the last attempt was good.
        alarm: What it said against the log: another history; None for nothing.
        busy: Whether it is being asked now.
    """

    name: str
    kind: str
    required: bool
    size: int
    at: datetime | None
    failures: int
    failed: int
    error: str | None
    alarm: str | None
    busy: bool


@dataclass(frozen=True, slots=True)
class Status:
    """
    How far the anchors of a log have come.

    Attributes:
        size: Entries under the last checkpoint that was seen.
        anchored_size: Entries that a quorum of the required anchors cover.
        last_anchored_size: Entries that any anchor covers.
        window: Seconds since the last anchored checkpoint was taken: what
            came after it can be rewritten unseen by who holds the log's key.
            0 when all is anchored; None when nothing was, in this process.
        error: Why the log's checkpoint could not be read, one line, or None.
        alarms: What anchors said against the log; must be looked at.
        anchors: Each of them.
    """

    size: int
    anchored_size: int
    last_anchored_size: int
    window: float | None
    error: str | None
    alarms: tuple[str, ...]
    anchors: tuple[AnchorStatus, ...]


@dataclass(frozen=True, slots=True)
class Receipts:
    """
    What came of anchoring one checkpoint.

    Attributes:
        size: Entries under it.
        anchored_size: Entries that a quorum of the required anchors now cover.
        receipts: By anchor, what was kept.
        errors: By anchor, why nothing was.
    """

    size: int
    anchored_size: int
    receipts: dict[str, Receipt]
    errors: dict[str, SecureMLError]

    def enforce(self) -> "Receipts":
        """
        Return this if a quorum covers the checkpoint, and nobody contradicts.

        Raises:
            ConsistencyError: An anchor has seen another history of the log.
            ThresholdError: Too few of the required anchors took it.
        """
        for error in self.errors.values():
            if isinstance(error, ConsistencyError):
                raise error
        if self.anchored_size < self.size:
            raise ThresholdError(
                f"the checkpoint of {self.size} entries is not anchored",
                why="; ".join(f"{name}: {error.what}" for name, error in self.errors.items())
                or "no anchor is required, so none counts",
                fix="look at each error; entries are in the log, and are anchored when the "
                "anchors come back",
            )
        return self
