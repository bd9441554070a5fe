"""Facts about `secureml.wire.tiles` and `secureml.wire.tlogproof`."""

import json
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import FormatError
from secureml.wire import tiles
from secureml.wire.base64 import b64encode
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note, NoteSignature
from secureml.wire.tiles import Tile
from secureml.wire.tlogproof import TlogProof

VECTORS = Path(__file__).parents[3] / "vectors"


def load(name: str) -> dict[str, Any]:
    """Read a vector, which names its source."""
    vector: dict[str, Any] = json.loads((VECTORS / name).read_text())
    assert vector["source"]
    return vector


PATHS = load("tlog-tiles/paths.json")["expect"]
BAD_PATHS = load("tlog-tiles/refused.json")["inputs"]
BAD_PROOFS = load("tlog-proof/refused.json")["inputs"]


@pytest.mark.parametrize("path", PATHS)
def test_published_paths(path: str) -> None:
    """The paths of the specification, both ways."""
    kind, level, number, width = PATHS[path]
    tile = Tile(kind, level, number, width)

    assert tile == tiles.parse_path(path)
    assert path == tile.path
    if kind == "tile":
        assert path == tiles.tile_path(level, number, width)
    else:
        assert path == tiles.entries_path(number, width)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_other_paths_are_refused(path: str) -> None:
    """Every other spelling of a path is refused."""
    with pytest.raises(FormatError):
        tiles.parse_path(path)


@pytest.mark.parametrize(
    ("level", "number", "width"),
    [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 2**55, 1), (0, 0, 0), (0, 0, 257)],
)
def test_tiles_that_do_not_exist_have_no_path(level: int, number: int, width: int) -> None:
    """A level, position or width that no tile has is the caller's mistake."""
    with pytest.raises(ValueError, match="of a tile"):
        tiles.tile_path(level, number, width)


def test_the_last_tile_has_a_path() -> None:
    """The largest position is written and read."""
    last = Tile("tile", 63, 2**55 - 1, 256)

    assert last == tiles.parse_path(last.path)
    with pytest.raises(FormatError):
        tiles.parse_path("tile/0/x036/x028/x797/x018/x963/968")


def test_published_layouts() -> None:
    """The files of a log of a given size, as the specification counts them."""
    expect = load("tlog-tiles/layout.json")["expect"]
    for size, counts in expect.items():
        found: dict[str, list[int]] = {}
        for kind, level, number, width in tiles.layout(int(size)):
            count = found.setdefault("entries" if kind == "entries" else str(level), [0, 0])
            assert number == count[0]
            if width == 256:
                count[0] += 1
            else:
                count[1] = width
        assert counts == found


def test_a_layout_has_no_negative_size() -> None:
    """A size below 0 is the caller's mistake."""
    with pytest.raises(ValueError, match="0 or more"):
        list(tiles.layout(-1))


def test_bundles_hold_entries_of_any_bytes() -> None:
    """Entries of 0 to 65,535 bytes, 1 to 256 of them, come back."""
    for entries in ([b""], [b"a", b"", b"\xff" * 65_535], [bytes([i]) for i in range(256)]):
        assert entries == tiles.decode_bundle(tiles.encode_bundle(entries), len(entries))

    assert tiles.encode_bundle([b"hi", b""]) == b"\x00\x02hi\x00\x00"


@pytest.mark.parametrize(
    "entries", [[], [b""] * 257, [b"x" * 65_536]], ids=["none", "257", "long"]
)
def test_bundles_that_cannot_be_written(entries: list[bytes]) -> None:
    """No entry, too many, or one that is too long."""
    with pytest.raises(ValueError, match=r"256|65,535"):
        tiles.encode_bundle(entries)


@pytest.mark.parametrize(
    ("data", "width"),
    [
        (b"", 1),
        (b"\0", 1),
        (b"\0\1", 1),
        (b"\0\0\0", 1),
        (b"\0\0", 2),
        (b"\0\0\0\0", 1),
        (b"\xff\xffx", 1),
    ],
)
def test_bundles_that_are_cut_or_too_long_are_refused(data: bytes, width: int) -> None:
    """A bundle has exactly the entries its name says, and nothing behind them."""
    with pytest.raises(FormatError):
        tiles.decode_bundle(data, width)


@pytest.mark.parametrize("width", [0, 257, -1])
def test_a_bundle_has_no_other_width(width: int) -> None:
    """A width that no bundle has is the caller's mistake."""
    with pytest.raises(ValueError, match="width"):
        tiles.decode_bundle(b"", width)


def test_the_published_proof() -> None:
    """The proof of the specification has its parts and is written back."""
    vector = load("tlog-proof/c2sp-shape.json")
    text, expect = vector["proof"], vector["expect"]
    proof = TlogProof.decode(text)

    assert text == proof.encode()
    assert proof == TlogProof.decode(text.encode())
    assert expect == {
        "index": proof.index,
        "path": [b64encode(one) for one in proof.path],
        "extra": b64encode(proof.extra or b""),
        "origin": proof.head.origin,
        "size": proof.head.size,
    }
    assert (proof.index, proof.path) == (proof.inclusion.index, proof.inclusion.path)


@pytest.mark.parametrize("name", BAD_PROOFS)
def test_other_proofs_are_refused(name: str) -> None:
    """Each rule of a proof, broken once, is refused."""
    with pytest.raises(FormatError):
        TlogProof.decode(BAD_PROOFS[name])
    with pytest.raises(FormatError):
        TlogProof.decode(BAD_PROOFS[name].encode())


def test_a_proof_of_bytes_that_are_no_text_or_too_many() -> None:
    """A proof is UTF-8, and not larger than 2,000,000 bytes."""
    with pytest.raises(FormatError, match="UTF-8"):
        TlogProof.decode(b"\xff")
    with pytest.raises(FormatError, match="larger"):
        TlogProof.decode("x" * 2_000_001)


def test_a_proof_that_could_not_be_read_cannot_be_built() -> None:
    """What has no encoding cannot be built; without extra bytes and path it can."""
    note = Note(
        Checkpoint("a", 1, bytes(32)).encode(), (NoteSignature("a", b"abcd", b"s"),)
    ).encode()
    proof = TlogProof(0, (), note)

    assert proof == TlogProof.decode(proof.encode())
    for index, path, extra in [
        (-1, (), None),
        (2**63, (), None),
        (0, (b"",), None),
        (0, (bytes(32),) * 64, None),
        (0, (), b""),
        (0, (), b"x" * 500_001),
    ]:
        with pytest.raises(ValueError, match=r"."):
            TlogProof(index, path, note, extra)
    with pytest.raises(FormatError):
        TlogProof(0, (), "no note")
