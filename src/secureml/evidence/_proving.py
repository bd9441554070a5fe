"""
Proofs out of the tiles of a log, each checked before it is handed out.

A proof takes the tiles along one path, so it costs the same whatever the size.
"""

from collections.abc import Callable

from secureml.errors import ConsistencyError, VerificationError
from secureml.evidence._reader import LogDirectory, Sighting
from secureml.evidence._tree import FULL, node_from_tiles, tile_width
from secureml.wire.merkle import ConsistencyProof, InclusionProof, consistency_path, inclusion_path
from secureml.wire.tlogproof import TlogProof

__all__ = ["consistency", "prove"]


def prove(directory: LogDirectory, index: int) -> TlogProof:
    """See `Log.prove`."""

    def read(seen: Sighting) -> TlogProof:
        size = seen.checkpoint.size
        if not 0 <= index < size:
            msg = f"entry {index} is not among the {size} published entries"
            raise IndexError(msg)
        path = inclusion_path(index, size, _node(directory, size))
        place = index // FULL
        leaf = directory.bundle(place, tile_width(size, 0, place))[index % FULL]
        proof = InclusionProof(index=index, path=path)
        try:
            proof.verify(leaf, size=size, root=seen.checkpoint.root)
        except VerificationError as error:
            raise ConsistencyError(
                f"the log in {str(directory.path)!r} does not prove entry {index}",
                why="its files do not lead to the root of its own checkpoint",
                fix="run a verification of the directory: it names the file that was changed",
            ) from error
        return TlogProof(index, path, seen.note)

    return directory.at_checkpoint(read)


def consistency(directory: LogDirectory, old: int, new: int | None) -> ConsistencyProof:
    """See `Log.consistency`."""

    def read(seen: Sighting) -> ConsistencyProof:
        size = seen.checkpoint.size
        later = size if new is None else new
        if not 0 <= old <= later <= size:
            msg = f"sizes {old} and {later} are not in order below {size}"
            raise ValueError(msg)
        return ConsistencyProof(path=consistency_path(old, later, _node(directory, size)))

    return directory.at_checkpoint(read)


def _node(directory: LogDirectory, size: int) -> Callable[[int, int], bytes]:
    return node_from_tiles(
        lambda level, index: directory.hashes(level, index, tile_width(size, level, index))
    )
