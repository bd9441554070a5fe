"""
What happens to a record when there is no room for it: wait, refuse, or count.

Nothing is ever left out in silence: a caller who chose to go on without the
record leaves a gap record that counts it.
"""

import asyncio
import time
from typing import Final

from secureml.audit._recorder import QUEUE_BYTES, Recorder
from secureml.audit.appended import TIMEOUT
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE
from secureml.errors import SecureMLError, StoreError

__all__ = ["PAUSE", "await_room", "check_size", "make_room"]

PAUSE: Final = 0.02
"""Seconds between two looks."""

_FAILURES: Final = frozenset({"raise", "block", "gap"})


def make_room(recorder: Recorder, on_failure: str) -> bool:
    """
    Return whether a record is accepted, after doing what *on_failure* says.

    Raises:
        StoreError: It is not.
        ValueError: No such choice.
    """
    if on_failure not in _FAILURES:
        msg = f"on_failure is one of {', '.join(sorted(_FAILURES))}, not {on_failure!r}"
        raise ValueError(msg)
    deadline = time.monotonic() + TIMEOUT
    full = recorder.trouble is None
    if on_failure == "block" or (full and on_failure == "raise"):
        # A full queue is written by whoever fills it: that is the back pressure.
        while _blocked(recorder) and not recorder.inside:
            if recorder.trouble is None:
                try:
                    recorder.flush()
                except SecureMLError as error:
                    # Whoever meets it first waits, or is refused and counted, as those behind.
                    recorder.trouble = error
            elif time.monotonic() > deadline or on_failure != "block":
                break
            else:
                time.sleep(PAUSE)
    if not _blocked(recorder) or recorder.inside:
        return True
    if on_failure == "gap":
        recorder.dropped.add(recorder.clock())
        return False
    recorder.refused.add(recorder.clock())
    raise recorder.trouble or _busy()


async def await_room(recorder: Recorder) -> None:
    """Wait until there is room, or 30 seconds, without keeping the event loop from its work."""
    deadline = time.monotonic() + TIMEOUT
    while _blocked(recorder) and time.monotonic() < deadline:  # noqa: ASYNC110  room comes from a thread
        await asyncio.sleep(PAUSE)


def _blocked(recorder: Recorder) -> bool:
    return recorder.trouble is not None or recorder.waiting > QUEUE_BYTES


def _busy() -> StoreError:
    return StoreError(
        "the audit log takes records slower than they come",
        why=f"{QUEUE_BYTES:,} bytes wait in memory to be written",
        fix="call again; or choose on_failure='block' or 'gap'",
        retryable=True,
    )


def check_size(size: int) -> None:
    """
    Refuse a body of so many bytes if it does not fit into a leaf.

    Raises:
        ValueError: It does not.
    """
    if size > MAX_LEAF - PREFIX_SIZE:
        msg = f"the record has {size + PREFIX_SIZE} bytes, and a leaf has at most {MAX_LEAF}"
        raise ValueError(msg)
