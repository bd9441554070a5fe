"""
Sealing the tail of a log as it is written; what it shows is said in `tail`.

One private file holds the present key and the present tag, in two places that
take turns: the next is written and synced, then the last is written over with
zeros.  So a crash leaves the old state, the new one or both, and nothing goes
back.  Beside the log a file grows with the sizes at which it was published.

The old key and the old tag are written over in place; what `epochkeys` says
of disks and memory holds here too.

Source: ``docs/spec/sealed-tail.md``.
"""

import hashlib
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never, Self

from secureml.errors import StoreError
from secureml.evidence._files import Files, read_file, store_error, write_all, write_batch
from secureml.evidence._names import check_origin
from secureml.evidence._tree import HASH
from secureml.evidence.tail import (
    KEY_SIZE,
    Tail,
    cut_off,
    gone,
    malformed,
    read_steps,
    start,
    step,
    whole_sizes,
)

__all__ = ["SealedTail"]

_SLOT: Final = 512
_BODY: Final = struct.Struct(">QQ32s32s32s")


class SealedTail:
    """
    The writer's side: one file that holds the present key and tag, and one that grows.

    Drive it from one thread, under the lock of the log's writer: `update`
    after each publishing, `recover` before the first.
    """

    def __init__(
        self, path: Path, steps: Path, *, origin: str, files: Files, state: "_State"
    ) -> None:
        self._path, self._steps, self._origin = path, steps, origin
        self._files, self._state = files, state
        self._broken = ""

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        steps: str | os.PathLike[str],
        *,
        origin: str,
        files: Files | None = None,
    ) -> tuple[Self, bytes]:
        """
        Begin the tail of a new log.

        Args:
            path: The file of key and tag, private.
            steps: The file of steps: ``DIR/tails/<name of the log>.steps``.
            origin: The log's name.
            files: The operating system, for tests.

        Returns:
            The tail, and its first key.  Give the key to the auditor, and keep no copy here:
            with it everything can be sealed anew.

        Raises:
            StoreError: There is one already, or the system refuses.
        """
        check_origin(origin)
        path, steps, files = Path(path), Path(steps), files or Files()
        if path.exists() or steps.exists():
            raise StoreError(
                f"there is a sealed tail of {origin!r} already",
                why=f"{str(path)!r} or {str(steps)!r} exists",
                fix="open it with SealedTail.open; a new log begins in places of its own",
            )
        key = secrets.token_bytes(KEY_SIZE)
        state = _State(0, 0, hashlib.sha256(b"").digest(), key, start(origin))
        try:
            write_batch(files, [(steps, b"")])
            write_batch(files, [(path, state.slot() + bytes(_SLOT))], private=True)
        except OSError as error:
            raise store_error(f"could not begin the tail of {origin!r}", error) from error
        return cls(path, steps, origin=origin, files=files, state=state), key

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        steps: str | os.PathLike[str],
        *,
        origin: str,
        files: Files | None = None,
    ) -> Self:
        """
        Open the tail, and finish what a crash left of an update.

        Raises:
            StoreError: It is not there, or the system refuses.
            ConsistencyError: The steps end before the tail does.
            FormatError: A file is not in its format.
        """
        check_origin(origin)
        path, steps, files = Path(path), Path(steps), files or Files()
        state, at = _read_state(path)
        sizes, _ = whole_sizes(read_steps(steps))
        if len(sizes) < state.updates or (
            state.updates and sizes[state.updates - 1] != state.size
        ):
            raise cut_off(origin, f"the steps lead to {len(sizes)} of {state.updates} updates")
        tail = cls(path, steps, origin=origin, files=files, state=state)
        try:
            tail._trim(_encode(sizes[: state.updates]))
            tail._overwrite((1 - at) * _SLOT, bytes(_SLOT))
        except OSError as error:
            raise store_error(f"could not open the tail of {origin!r}", error) from error
        return tail

    @property
    def tail(self) -> Tail:
        """The present tag, for the auditor."""
        state = self._state
        return Tail(self._origin, state.updates, state.size, state.tag)

    def recover(self, size: int, root: bytes) -> None:
        """
        Catch up with the log's checkpoint, after a crash between publishing and update.

        Call it once the log is recovered and before it is appended to.

        Raises:
            ConsistencyError: The log ends before its tail does, or has another root there.
            StoreError: The system refuses.
        """
        state = self._state
        if size < state.size or (size == state.size and root != state.root):
            raise cut_off(self._origin, f"the tail covers {state.size} leaves, the log has {size}")
        self.update(size, root)

    def update(self, size: int, root: bytes) -> None:
        """
        Fold in what was just published, and destroy the key and the tag that did it.

        The same size as before changes nothing.

        Args:
            size: Leaves of the log.
            root: Its root, 32 bytes.

        Raises:
            StoreError: The system refuses; nothing is updated until it is opened again.
            ValueError: A size below the last one, or a root that has not 32 bytes.
        """
        if self._broken:
            raise StoreError(
                f"the tail of {self._origin!r} takes no more updates",
                why=self._broken,
                fix="repair the disk or make room, then open it again",
            )
        state = self._state
        if size < state.size or len(root) != HASH:
            msg = f"a tail grows: {size} leaves after {state.size}; a root has {HASH} bytes"
            raise ValueError(msg)
        if size == state.size:
            return
        after = state.after(size, root)
        try:
            self._append(_varint(size - state.size))
            self._overwrite((after.updates & 1) * _SLOT, after.slot())
            self._overwrite((state.updates & 1) * _SLOT, bytes(_SLOT))
        except OSError as error:
            self._broken = f"an update failed: {error.strerror or error}"
            raise store_error(f"could not update the tail of {self._origin!r}", error) from error
        self._state = after

    def _append(self, data: bytes) -> None:
        fd = self._files.open_append(self._steps, 0o644)
        try:
            write_all(self._files, fd, data)
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    def _trim(self, good: bytes) -> None:
        if read_steps(self._steps) == good:
            return
        fd = self._files.open_append(self._steps, 0o644)
        try:
            self._files.truncate(fd, len(good))
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    def _overwrite(self, at: int, data: bytes) -> None:
        flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        fd = os.open(self._path, flags)
        try:
            os.lseek(fd, at, os.SEEK_SET)
            write_all(self._files, fd, data)
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    def __repr__(self) -> str:
        return f"<SealedTail {self._origin!r} size {self._state.size}>"

    def __reduce_ex__(self, protocol: object) -> Never:
        msg = f"{self!r} holds a secret key and is neither copied nor pickled"
        raise TypeError(msg)


@dataclass(frozen=True, slots=True, repr=False)
class _State:
    """What one slot holds: counter, size, root, key and tag, and a digest against torn writes."""

    updates: int
    size: int
    root: bytes
    key: bytes
    tag: bytes

    def slot(self) -> bytes:
        body = _BODY.pack(self.updates, self.size, self.root, self.key, self.tag)
        return (body + hashlib.sha256(body).digest()).ljust(_SLOT, b"\0")

    def after(self, size: int, root: bytes) -> "_State":
        tag, key = step(self.tag, self.key, size, root)
        return _State(self.updates + 1, size, root, key, tag)

    @classmethod
    def read(cls, slot: bytes) -> "_State | None":
        body, digest = slot[: _BODY.size], slot[_BODY.size : _BODY.size + HASH]
        if hashlib.sha256(body).digest() != digest:
            return None
        return cls(*_BODY.unpack(body))


def _read_state(path: Path) -> tuple[_State, int]:
    """Return the newer of the two slots, and which it is."""
    try:
        data = read_file(path, limit=2 * _SLOT)
    except FileNotFoundError as error:
        raise gone(path) from error
    states = [_State.read(data[at : at + _SLOT]) for at in (0, _SLOT)]
    found = [(one.updates, at) for at, one in enumerate(states) if one is not None]
    if len(data) == 2 * _SLOT and found:
        _, at = max(found)
        state = states[at]
        if state is not None and state.updates & 1 == at:
            return state, at
    raise malformed("the sealed tail", "neither of its two places holds a key and a tag")


def _varint(value: int) -> bytes:
    """Spell a number of 1 or more: seven bits a byte, the lowest first, the last below 128."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(sizes: list[int]) -> bytes:
    return b"".join(_varint(new - old) for old, new in zip([0, *sizes], sizes, strict=False))
