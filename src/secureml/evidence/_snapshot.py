"""
The files of a log as one look at it found them, and its entries, read when they are asked for.

A reader beside the writer takes the checkpoint and what the writer may replace
under it at once.  The entries of a verified log are hashed again as they are
read.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final, overload

from secureml.errors import DigestMismatchError, FormatError, SecureMLError
from secureml.evidence._files import read_file
from secureml.evidence._reader import BUNDLE_LIMIT, decode_bundle, missing
from secureml.evidence._tree import FULL, HASH, hash_leaves, tile_width
from secureml.evidence._typestate import TypeState
from secureml.evidence.notes import VerifiedCheckpoint
from secureml.wire import tiles

__all__ = ["Snapshot", "VerifiedEntries"]

_CACHE = 16 << 20
"""Bytes of verified entries that are kept for reading again."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint, and what the writer may replace under it, read at once."""

    path: Path
    head: VerifiedCheckpoint
    partial: dict[str, bytes]
    stale: dict[str, tiles.Tile]

    def read(self, name: str, limit: int) -> bytes:
        data = self.partial.get(name)
        return read_file(self.path / name, limit=limit) if data is None else data

    def bundle(self, index: int, width: int) -> list[bytes]:
        name = tiles.entries_path(index, width)
        data = self.read(name, BUNDLE_LIMIT)
        try:
            return decode_bundle(data, width, name)
        except FormatError as error:
            raise self._located(error, data, index, width) from None

    def _located(self, error: FormatError, data: bytes, index: int, width: int) -> FormatError:
        """Name the entry from which on *data* is no bundle; the tile's hashes point at it."""
        try:
            hashes = self.tile(0, index, width)
        except (OSError, SecureMLError):
            return error
        position = 0
        for at in range(width):
            start = position + 2
            position = start + int.from_bytes(data[position:start])
            [found] = hash_leaves([data[start:position]])
            if position > len(data) or _differ(found, hashes[at * HASH :], 0):
                what = f"entry {index * FULL + at}, in {error.what}"
                return FormatError(what, why=error.why, fix=error.fix)
        return error

    def tile(self, level: int, index: int, width: int) -> bytes:
        name = tiles.tile_path(level, index, width)
        data = self.read(name, FULL * HASH)
        if len(data) != width * HASH:
            raise FormatError(
                f"{name!r} was changed: it has another length",
                why=f"{len(data)} bytes for {width} hashes of {HASH}",
                fix="do not use the log; get an untouched copy, and keep this one to find out "
                "what changed it",
            )
        return data


@final
class VerifiedEntries(TypeState, Sequence[bytes]):
    """
    The entries of a verified log, read when they are asked for.

    Each is hashed again as it is read and compared with the hash that was
    verified, so what was checked is what is used.
    """

    __slots__ = ("_cache", "_held", "_snapshot", "_tiles")
    _snapshot: Snapshot
    _tiles: dict[tuple[int, int], bytes]
    _cache: "OrderedDict[int, list[bytes]]"
    _held: list[int]

    def __init__(
        self, token: object, /, *, snapshot: Snapshot, tiles: dict[tuple[int, int], bytes]
    ) -> None:
        super().__init__(token, _snapshot=snapshot, _tiles=tiles, _cache=OrderedDict(), _held=[0])

    def __len__(self) -> int:
        return self._snapshot.head.size

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            msg = f"entry {index} is not among the {len(self)} of the log"
            raise IndexError(msg)
        return self._bundle(at // FULL)[at % FULL]

    def __iter__(self) -> Iterator[bytes]:
        for index in range((len(self) + FULL - 1) // FULL):
            yield from self._bundle(index)

    def _bundle(self, index: int) -> list[bytes]:
        known = self._cache.get(index)
        if known is not None:
            return known
        try:
            entries = self._snapshot.bundle(index, tile_width(len(self), 0, index))
        except FileNotFoundError as error:
            raise missing(self._snapshot.path, error) from error
        hashes = b"".join(hash_leaves(entries))
        if hashes != self._tiles[0, index]:
            at = next(i for i in range(len(entries)) if _differ(hashes, self._tiles[0, index], i))
            raise DigestMismatchError(
                f"entry {index * FULL + at} changed after it was verified",
                why=f"{tiles.entries_path(index)!r} has other bytes now",
                fix="verify the log again, where nobody else can write to it",
            )
        self._cache[index] = entries
        self._held[0] += sum(map(len, entries))
        while self._held[0] > _CACHE and len(self._cache) > 1:
            self._held[0] -= sum(map(len, self._cache.popitem(last=False)[1]))
        return entries


def _differ(left: bytes, right: bytes, at: int) -> bool:
    return left[at * HASH : (at + 1) * HASH] != right[at * HASH : (at + 1) * HASH]
