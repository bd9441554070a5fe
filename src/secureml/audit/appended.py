"""A record that was accepted: where it is on its way into the log."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from secureml.audit._recorder import Recorder

__all__ = ["ACKS", "TIMEOUT", "Appended", "check_ack"]

ACKS: Final = ("queued", "durable", "checkpointed", "witnessed")
"""How far a record may have come, each further than the one before."""

TIMEOUT: Final = 30.0
"""Seconds to wait for the disk, or for a checkpoint."""


def check_ack(ack: str) -> str:
    """
    Return *ack*, if it is one.

    Raises:
        ValueError: It is none of `ACKS`.
    """
    if ack not in ACKS:
        msg = f"ack is one of {', '.join(ACKS)}, not {ack!r}"
        raise ValueError(msg)
    return ack


class Appended:
    """
    A record on its way: accepted, then durable, then under a checkpoint.

    Attributes:
        id: The record.
        number: Its place in its writer's sequence; -1 before it was written.
    """

    __slots__ = ("_recorder", "at", "body", "id", "line", "number", "size")

    def __init__(
        self,
        record: str,
        recorder: "Recorder",
        body: bytes,
        at: int,
        line: bytes | None,
        size: int,
    ) -> None:
        self.id = record
        self.number = -1
        self.body = body
        self.at = at
        self.line = line
        self.size = size
        self._recorder = recorder

    @property
    def index(self) -> int | None:
        """Its leaf in the log; None until a checkpoint covers it."""
        return None if self.number < 0 else self._recorder.spool.index_of(self.number)

    def wait(self, ack: str = "durable", *, timeout: float = TIMEOUT) -> None:
        """
        Return when the record has come as far as *ack*.

        Args:
            ack: One of `ACKS`.
            timeout: Seconds.

        Raises:
            StoreError: It has not.
            ValueError: No such acknowledgement.
        """
        self._recorder.wait(self, check_ack(ack), timeout)

    async def reached(self, ack: str = "durable", *, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109  as `wait`
        """
        Wait as `wait`, without keeping the event loop from its work.

        Raises:
            StoreError: It has not come so far.
            TimeoutError: Nor within *timeout* seconds.
            ValueError: No such acknowledgement.
        """
        await self._recorder.reached(self, check_ack(ack), timeout)

    def __repr__(self) -> str:
        return f"<Appended {self.id} {'queued' if self.number < 0 else f'number {self.number}'}>"
