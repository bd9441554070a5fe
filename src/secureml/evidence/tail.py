"""
The sealed tail: evidence on the spot that the end of a log was not cut off.

Each publishing folds the checkpoint into one tag, with a key that is replaced
by its hash at once.  The first key is with the auditor, who can do it all
again; this machine has the present key and the present tag and cannot go
back.  So who comes to own it later can add to the log, but not make the tag
that belonged to an earlier end of it.

What it does not show.  Whoever kept an old tag, from a backup, a snapshot or
a visit before, can cut to where that tag was made.  Somebody who can roll the
whole machine back rolls the tag back with it.  Entries behind the last update
are not covered: at most what was published in the moment of a crash.  And a
tag that is gone proves nothing, but that it is gone.

Source: ``docs/spec/sealed-tail.md``; Ma and Tsudik, *A new approach to secure
logging*, 2008 (FssAgg); Bellare and Yee, 2003.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

from secureml._html import card
from secureml.errors import ConsistencyError, FormatError, StoreError
from secureml.evidence._files import read_file
from secureml.evidence._names import check_origin
from secureml.evidence._tree import FULL, HASH
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.checklog import VerifiedLog
from secureml.evidence.checkpruned import PrunedLog
from secureml.wire.canonical import JSON
from secureml.wire.canonical import decode as decode_json
from secureml.wire.canonical import encode as encode_json

__all__ = ["Tail", "VerifiedTail", "check_tail", "fold_tail", "sizes_of"]

KEY_SIZE: Final = 32
_START: Final = b"secureml-tail/1\n"
_NEXT: Final = b"secureml-tail-key/1\n"
_MAX_STEPS: Final = 1 << 30
_MAX_SHIFT: Final = 63


@dataclass(frozen=True, slots=True)
class Tail:
    """
    The tag over all publishings of a log; no secret.

    Attributes:
        origin: The log.
        updates: How many there were.
        size: Leaves of the log at the last of them.
        tag: 32 bytes.

    Raises:
        ValueError: A field is out of its range.
    """

    origin: str
    updates: int
    size: int
    tag: bytes

    def __post_init__(self) -> None:
        check_origin(self.origin)
        if not 0 <= self.updates < 1 << 53 or not 0 <= self.size < 1 << 53:
            msg = "updates and size of a tail are 0 to 2**53 - 1"
            raise ValueError(msg)
        if len(self.tag) != HASH:
            msg = f"the tag of a tail has {HASH} bytes, not {len(self.tag)}"
            raise ValueError(msg)

    def encode(self) -> bytes:
        """Return it as canonical JSON."""
        value: dict[str, JSON] = {
            "origin": self.origin,
            "size": self.size,
            "tag": self.tag.hex(),
            "updates": self.updates,
            "v": 1,
        }
        return encode_json(value)

    @classmethod
    def decode(cls, data: bytes, /) -> Self:
        """
        Read what `encode` wrote.

        Raises:
            FormatError: Something else.
        """
        value = decode_json(data)
        match value:
            case {
                "origin": str(origin),
                "size": int(size),
                "tag": str(tag),
                "updates": int(updates),
                "v": 1,
                **rest,
            } if not rest and bool not in {type(size), type(updates)}:
                try:
                    found = cls(origin, updates, size, bytes.fromhex(tag))
                except ValueError as error:
                    raise malformed("the tail", str(error)) from None
                if found.encode() == data:
                    return found
        raise malformed("the tail", "it is not the JSON of a tail, version 1")


@final
class VerifiedTail(TypeState):
    """
    A log that ends where its sealed tail says, or behind it.

    Only `check_tail` makes one.

    Attributes:
        origin: The log.
        updates: How many publishings the tag covers.
        size: Leaves that it covers.
        uncovered: Leaves of the log behind them: published since, or in the moment of a crash.
    """

    __slots__ = ("origin", "size", "uncovered", "updates")
    origin: str
    updates: int
    size: int
    uncovered: int

    def __repr__(self) -> str:
        return f"<VerifiedTail {self.origin!r} size {self.size} uncovered {self.uncovered}>"

    def _repr_html_(self) -> str:
        rows = [("log", self.origin), ("covered", self.size), ("not covered", self.uncovered)]
        return card("Sealed tail", rows)


def fold_tail(key: bytes, origin: str, checkpoints: Iterable[tuple[int, bytes]]) -> bytes:
    """
    Return the tag over *checkpoints*, from the first key.

    Args:
        key: The auditor's, 32 bytes.
        origin: The log.
        checkpoints: Size and root at each publishing, in their order.

    Raises:
        ValueError: A key that has not 32 bytes.
    """
    if len(key) != KEY_SIZE:
        msg = f"the key of a tail has {KEY_SIZE} bytes, not {len(key)}"
        raise ValueError(msg)
    tag = start(origin)
    for size, root in checkpoints:
        tag, key = step(tag, key, size, root)
    return tag


def sizes_of(steps: bytes) -> list[int]:
    """
    Return the sizes at which the log was published, from the file of steps.

    Raises:
        FormatError: Not in its one spelling, or torn at its end.
    """
    sizes, end = whole_sizes(steps)
    if end != len(steps):
        raise malformed("the steps of the tail", "the last number is not whole")
    return sizes


def check_tail(
    key: bytes,
    log: VerifiedLog | PrunedLog,
    tail: Tail | bytes,
    steps: bytes | str | os.PathLike[str],
) -> VerifiedTail:
    """
    Check that the end of a verified log was not cut since its tail was sealed.

    Args:
        key: The auditor's, 32 bytes, handed out when the tail was made.
        log: The log, verified: whole, or what was left when its beginning was pruned.
        tail: The tag, read on the machine that writes the log.
        steps: The file of steps beside the log, or its bytes.

    Raises:
        ConsistencyError: The log ends before the tail does, or the tag is not over
            this log: its end was cut, changed or published by somebody else. Or the
            tail was never updated: it shows nothing yet, or was begun anew.
        FormatError: Tail or steps are not in their format.
        StoreError: The file of steps is not there, or could not be read.
        ValueError: A key that has not 32 bytes.
    """
    if isinstance(tail, bytes):
        tail = Tail.decode(tail)
    if not isinstance(steps, bytes):
        steps = read_steps(Path(steps))
    if tail.origin != log.origin:
        raise cut_off(log.origin, f"the tail is that of {tail.origin!r}")
    if not tail.updates:
        # Its tag follows from the name of the log alone: whoever removed a tail can begin one.
        raise cut_off(log.origin, "the tail was never updated, so it is over nothing")
    sizes = sizes_of(steps)
    if tail.size > log.size:
        raise cut_off(log.origin, f"the tail covers {tail.size} leaves, the log has {log.size}")
    if len(sizes) < tail.updates or sizes[tail.updates - 1] != tail.size:
        raise cut_off(
            log.origin,
            f"the tail was updated {tail.updates} times up to {tail.size} leaves, and the steps "
            f"beside the log lead to {len(sizes)} times and {sizes[-1] if sizes else 0} leaves",
        )
    tag = fold_tail(key, log.origin, _roots(log, sizes[: tail.updates]))
    if not hmac.compare_digest(tag, tail.tag):
        raise cut_off(log.origin, "the tag is not the one that its checkpoints make with this key")
    return VerifiedTail(
        TOKEN,
        origin=log.origin,
        updates=tail.updates,
        size=tail.size,
        uncovered=log.size - tail.size,
    )


def read_steps(path: Path) -> bytes:
    """Read the file of steps."""
    try:
        return read_file(path, limit=_MAX_STEPS)
    except FileNotFoundError as error:
        raise gone(path) from error


def start(origin: str) -> bytes:
    """Return the tag before the first update."""
    return hashlib.sha256(_START + origin.encode() + b"\n").digest()


def step(tag: bytes, key: bytes, size: int, root: bytes) -> tuple[bytes, bytes]:
    """Return the tag with one more checkpoint in it, and the key that follows."""
    mac = hmac.digest(key, root + size.to_bytes(8), "sha256")
    return hashlib.sha256(tag + mac).digest(), hashlib.sha256(_NEXT + key).digest()


def whole_sizes(steps: bytes) -> tuple[list[int], int]:
    """Return the sizes, and where the last whole number ends."""
    sizes: list[int] = []
    total = value = shift = end = 0
    for at, byte in enumerate(steps, 1):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift > _MAX_SHIFT:
                raise malformed("the steps of the tail", f"a number at byte {end} is too large")
            continue
        total += value
        if not byte or total >= 1 << 53:
            # No step is 0, and a number has no zeros in front: there is one spelling.
            raise malformed("the steps of the tail", f"there is no number at byte {end}")
        sizes.append(total)
        value = shift = 0
        end = at
    return sizes, end


def _roots(log: VerifiedLog | PrunedLog, sizes: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield each size with the root of so many leaves; one hash a leaf, whatever the sizes."""
    peaks: list[tuple[int, bytes]] = []
    done = 0
    for size in sizes:
        while done < size:
            index = done // FULL
            tile = log.leaves(index)
            stop = min(size, (index + 1) * FULL)
            for at in range(done % FULL, stop - index * FULL):
                _push(peaks, tile[at * HASH : (at + 1) * HASH])
            done = stop
        yield size, _fold(peaks)


def _push(peaks: list[tuple[int, bytes]], node: bytes) -> None:
    height = 0
    while peaks and peaks[-1][0] == height:
        node = hashlib.sha256(b"\1" + peaks.pop()[1] + node).digest()
        height += 1
    peaks.append((height, node))


def _fold(peaks: list[tuple[int, bytes]]) -> bytes:
    root = peaks[-1][1]
    for _, peak in reversed(peaks[:-1]):
        root = hashlib.sha256(b"\1" + peak + root).digest()
    return root


def cut_off(origin: str, why: str) -> ConsistencyError:
    """Return the error for a log and a tail that do not end at one place."""
    return ConsistencyError(
        f"the log {origin!r} does not end as its sealed tail says",
        why=why,
        fix="do not use it as complete: its end was cut or changed, or tail and log are of two "
        "times; keep both, and look for a newer copy",
    )


def gone(path: Path) -> StoreError:
    """Return the error for a file of a tail that is not there."""
    return StoreError(
        f"there is no {str(path)!r}",
        why="a sealed tail consists of the file of key and tag, and the file of steps",
        fix="restore it; if nobody removed it on purpose, take it for an attack",
    )


def malformed(what: str, why: str) -> FormatError:
    """Return the error for a file that is not in its format."""
    return FormatError(f"{what} is malformed", why=why, fix="see docs/spec/sealed-tail.md")
