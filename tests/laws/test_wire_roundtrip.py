"""
Law L1: decode after encode is the identity, and a decoder accepts one spelling.

For the formats that peers write too (statement, envelope, bundle) the spelling
of JSON is free, so there the second half reads: what is decoded is written in
one spelling, which decodes to the same.
"""

import contextlib
import json
import string
from collections.abc import Callable
from typing import TypeVar

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secureml.errors import FormatError
from secureml.wire import canonical, frame, merkle, tiles
from secureml.wire.base64 import b64decode, b64encode
from secureml.wire.bundle import (
    KIND,
    VERSION,
    Bundle,
    Certificate,
    CertificateChain,
    ForeignTlogEntry,
    LegacyPublicKey,
    Material,
    PublicKeyHint,
    TlogEntry,
)
from secureml.wire.canonical import JSON, MAX_INT
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.digest import SIZES, Digest
from secureml.wire.dsse import Envelope, Signature
from secureml.wire.logentry import BlobRef, LogEntry
from secureml.wire.manifest import Manifest
from secureml.wire.merkle import ConsistencyProof, InclusionProof
from secureml.wire.note import Note, NoteSignature, VKey
from secureml.wire.statement import PAYLOAD_TYPE, Statement, Subject
from secureml.wire.tiles import Tile
from secureml.wire.tlogproof import TlogProof

T = TypeVar("T")

text = st.text(max_size=12)
some_text = st.text(min_size=1, max_size=12)
data = st.binary(max_size=40)
some_data = st.binary(min_size=1, max_size=40)
hashes = st.binary(min_size=32, max_size=32)
paths = st.lists(hashes, max_size=5).map(tuple)
sizes = st.integers(0, 2**63 - 1)

values: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(text, values, max_size=4)

digests = st.sampled_from(sorted(SIZES)).flatmap(
    lambda algorithm: st.builds(
        Digest,
        st.just(algorithm),
        st.binary(min_size=SIZES[algorithm], max_size=SIZES[algorithm]),
    )
)

parts = st.text(
    st.characters(exclude_characters="/\\\n\r\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=6,
).filter(lambda part: part not in {".", ".."})
names = st.lists(parts, min_size=1, max_size=3).map("/".join)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Trees whose files are not directories too."""
    files = draw(st.dictionaries(names, hashes, max_size=6))
    return Manifest.of(
        (name, sha256)
        for name, sha256 in files.items()
        if not any(other.startswith(name + "/") for other in files)
    )


lines = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20
)
key_names = lines.map(
    lambda line: "".join(c for c in line if not c.isspace() and c != "+") or "example.com/log"
)
note_signatures = st.builds(NoteSignature, key_names, st.binary(min_size=4, max_size=4), some_data)
notes = st.builds(
    Note,
    st.lists(lines | st.just(""), min_size=1, max_size=4).map(lambda ls: "\n".join(ls) + "\n"),
    st.lists(note_signatures, min_size=1, max_size=3).map(tuple),
)
vkeys = st.builds(VKey, key_names, st.just(1), hashes) | st.builds(
    VKey, key_names, st.integers(2, 255), some_data
)
checkpoints = st.builds(Checkpoint, lines, sizes, hashes, st.lists(lines, max_size=2).map(tuple))


@st.composite
def signed(draw: st.DrawFn, heads: st.SearchStrategy[Checkpoint] = checkpoints) -> str:
    """Checkpoints as signed notes."""
    return Note(draw(heads).encode(), (draw(note_signatures),)).encode()


proofs = st.builds(TlogProof, sizes, paths, signed(), st.none() | some_data)

subjects = st.builds(Subject, text, st.dictionaries(some_text, text, min_size=1, max_size=2))
statements = st.builds(
    Statement, st.lists(subjects, min_size=1, max_size=2).map(tuple), some_text, objects
)
envelopes = st.builds(
    Envelope,
    st.just(PAYLOAD_TYPE) | some_text,
    data | statements.map(Statement.encode),
    st.lists(st.builds(Signature, text, some_data), min_size=1, max_size=2).map(tuple),
)


@st.composite
def tlog_entries(draw: st.DrawFn) -> TlogEntry:
    """Entries of our logs, whose checkpoint has their size and root."""
    size, root = draw(st.integers(1, 2**63 - 1)), draw(hashes)
    head = st.builds(Checkpoint, lines, st.just(size), st.just(root))
    return TlogEntry(
        log_index=draw(st.integers(0, size - 1)),
        log_id=draw(hashes),
        kind=KIND,
        version=VERSION,
        body=draw(some_data),
        tree_size=size,
        root=root,
        path=draw(paths),
        checkpoint=draw(signed(head)),
    )


foreign = objects.filter(lambda value: "kindVersion" not in value).map(
    lambda value: ForeignTlogEntry(canonical.encode(value))
)
materials: st.SearchStrategy[Material] = st.one_of(
    st.builds(PublicKeyHint, some_text),
    st.builds(LegacyPublicKey, some_data, text, text),
    st.builds(CertificateChain, st.lists(some_data, min_size=1, max_size=3).map(tuple)),
    st.builds(Certificate, some_data),
)
bundles = st.builds(
    Bundle,
    envelopes,
    materials,
    st.lists(tlog_entries() | foreign, min_size=1, max_size=2).map(tuple),
    st.lists(some_data, max_size=2).map(tuple),
)
times = st.datetimes().map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S.%f}Z".rjust(27, "0"))


def blob_name(value: bytes) -> Digest:
    """Name a blob."""
    return Digest("sha256", value)


entries = st.builds(LogEntry, times, envelopes, st.none()) | st.builds(
    LogEntry,
    times,
    st.none(),
    st.builds(BlobRef, hashes.map(blob_name), st.integers(65_463, 2**40)),
)
tile_names = st.builds(
    Tile, st.just("tile"), st.integers(0, 63), st.integers(0, 2**55 - 1), st.integers(1, 256)
) | st.builds(Tile, st.just("entries"), st.just(0), st.integers(0, 2**55 - 1), st.integers(1, 256))

Format = tuple[st.SearchStrategy[object], Callable[[object], bytes], Callable[[bytes], object]]


def form(
    strategy: st.SearchStrategy[T], encode: Callable[[T], bytes | str], decode: Callable[..., T]
) -> Format:
    """Bring a format to bytes both ways: its values, its encoder, its decoder."""
    takes_text = decode in TAKE_TEXT

    def to_bytes(value: object) -> bytes:
        spelled = encode(value)  # type: ignore[arg-type]
        return spelled if isinstance(spelled, bytes) else spelled.encode()

    def of_bytes(spelled: bytes) -> object:
        return decode(spelled.decode("utf-8", "surrogateescape") if takes_text else spelled)

    return strategy, to_bytes, of_bytes


printable = st.sampled_from(sorted(string.printable))

TAKE_TEXT: list[object] = [
    Checkpoint.decode,
    VKey.decode,
    Digest.parse,
    tiles.parse_path,
    b64decode,
]

STRICT: dict[str, Format] = {
    "canonical": form(values, canonical.encode, canonical.decode),
    "base64": form(data, b64encode, b64decode),
    "digest": form(digests, str, Digest.parse),
    "manifest": form(manifests(), Manifest.encode, Manifest.decode),
    "note": form(notes, Note.encode, Note.decode),
    "vkey": form(vkeys, VKey.encode, VKey.decode),
    "checkpoint": form(checkpoints, Checkpoint.encode, Checkpoint.decode),
    "tlog-proof": form(proofs, TlogProof.encode, TlogProof.decode),
    "tile path": form(tile_names, lambda tile: tile.path, tiles.parse_path),
    "log entry": form(entries, LogEntry.encode, LogEntry.decode),
    "entry bundle": form(
        st.lists(data, min_size=3, max_size=3),
        tiles.encode_bundle,
        lambda spelled: tiles.decode_bundle(spelled, 3),
    ),
}
"""Formats with one spelling: what is accepted is what would be written."""

FREE: dict[str, Format] = {
    "statement": form(statements, Statement.encode, Statement.decode),
    "envelope": form(envelopes, Envelope.encode, Envelope.decode),
    "bundle": form(bundles, Bundle.encode, Bundle.decode),
}
"""Formats that peers spell as they like."""

ALL = STRICT | FREE


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40)
@given(st.data())
def test_decode_after_encode_is_the_identity(name: str, draw: st.DataObject) -> None:
    """Every value comes back from its bytes."""
    strategy, encode, decode = ALL[name]
    value = draw.draw(strategy)

    assert value == decode(encode(value))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60)
@given(st.data())
def test_mutated_bytes_are_refused_or_are_one_spelling(name: str, draw: st.DataObject) -> None:
    """A change of valid bytes ends in `FormatError`, or in a value with exactly those bytes."""
    strategy, encode, decode = ALL[name]
    mutated = bytearray(encode(draw.draw(strategy)))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(mutated)))
        match draw.draw(st.integers(0, 3)):
            case 0:
                mutated[at:at] = draw.draw(st.binary(max_size=4))
            case 1:
                del mutated[at : at + draw.draw(st.integers(1, 8))]
            case 2 if at < len(mutated):
                mutated[at] ^= 1 << draw.draw(st.integers(0, 7))
            case _:
                mutated[at : at + 1] = draw.draw(
                    st.sampled_from(sorted(string.printable))
                ).encode()
    with contextlib.suppress(FormatError):
        value = decode(bytes(mutated))
        if name in STRICT:
            assert bytes(mutated) == encode(value)
        else:
            with contextlib.suppress(TypeError, ValueError):
                # A statement may hold floats, and integers beyond 2**53, as its peer wrote it.
                assert value == decode(encode(value))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60)
@given(st.binary(max_size=80))
@example(b"[" * 100_000)
@example(b'{"a":' * 10_000)
@example(b"9" * 5_000)
@example(b'"\\ud800"')
@example(b"NaN")
@example(b"\xff\xfe")
@example(b"\0" * 70)
def test_arbitrary_bytes_raise_nothing_else(name: str, spelled: bytes) -> None:
    """Bytes out of nowhere are refused with `FormatError`, or are one spelling."""
    _, encode, decode = ALL[name]
    with contextlib.suppress(FormatError):
        value = decode(spelled)
        if name in STRICT:
            assert spelled == encode(value)


junk: st.SearchStrategy[JSON] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def positions(value: JSON) -> list[tuple[str | int, ...]]:
    """List the paths to every member of a JSON value."""
    found: list[tuple[str | int, ...]] = [()]
    if isinstance(value, dict):
        found += [(key, *rest) for key, item in value.items() for rest in positions(item)]
    elif isinstance(value, list):
        found += [(i, *rest) for i, item in enumerate(value) for rest in positions(item)]
    return found


def replaced(value: JSON, path: tuple[str | int, ...], new: JSON) -> JSON:
    """Return *value* with the member at *path* replaced."""
    if not path:
        return new
    if isinstance(value, dict):
        return {k: replaced(v, path[1:], new) if k == path[0] else v for k, v in value.items()}
    if isinstance(value, list):
        return [replaced(v, path[1:], new) if i == path[0] else v for i, v in enumerate(value)]
    return value


@pytest.mark.parametrize("name", [*FREE, "log entry"])
@settings(max_examples=100)
@given(st.data())
def test_a_member_of_another_type_is_refused(name: str, draw: st.DataObject) -> None:
    """Any member replaced by any JSON: `FormatError`, or a value; nothing else is raised."""
    strategy, encode, decode = ALL[name]
    value = json.loads(encode(draw.draw(strategy)))
    changed = replaced(value, draw.draw(st.sampled_from(positions(value))), draw.draw(junk))
    with contextlib.suppress(FormatError):
        decode(json.dumps(changed, sort_keys=True, separators=(",", ":")).encode())


@given(values)
def test_canonical_json_agrees_with_an_independent_encoder(value: JSON) -> None:
    """Our RFC 8785 is the other implementation's RFC 8785, where there are no floats."""
    assert rfc8785.dumps(value) == canonical.encode(value)


@given(value=values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_parse_reads_what_any_writer_writes(
    *, value: JSON, ascii_only: bool, indent: int | None
) -> None:
    """Spelling does not change what is read."""
    spelled = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()

    assert value == canonical.parse(spelled)


@given(st.lists(some_data, max_size=4), data)
def test_frames_come_back_up_to_the_first_bad_one(payloads: list[bytes], tail: bytes) -> None:
    """All good frames are read, nothing else is, and nothing is raised."""
    written = b"".join(map(frame.encode, payloads)) + tail

    scan = frame.scan(written)

    assert payloads == scan.payloads[: len(payloads)]
    assert written[: scan.consumed] == b"".join(map(frame.encode, scan.payloads))
    assert (scan.verdict == "clean") == (scan.consumed == len(written))


@given(st.lists(data, min_size=1, max_size=40), st.data())
def test_every_leaf_and_every_prefix_is_proven(records: list[bytes], draw: st.DataObject) -> None:
    """A tree proves each of its leaves, and each of the trees it grew from."""
    leaves = [merkle.leaf_hash(record) for record in records]
    size, root = len(leaves), merkle.root(leaves)
    index, old = draw.draw(st.integers(0, size - 1)), draw.draw(st.integers(0, size))

    def node(level: int, at: int) -> bytes:
        return merkle.root(leaves[at << level : (at + 1) << level])

    InclusionProof(index=index, path=merkle.inclusion_path(index, size, node)).verify(
        records[index], size=size, root=root
    )
    ConsistencyProof(path=merkle.consistency_path(old, size, node)).verify(
        old_size=old, old_root=merkle.root(leaves[:old]), size=size, root=root
    )


@given(st.integers(0, 2_000_000))
def test_a_layout_holds_every_entry_and_every_full_subtree_once(size: int) -> None:
    """The widths of a level add up to the complete subtrees of that level."""
    counted: dict[tuple[str, int], int] = {}
    for tile in tiles.layout(size):
        at = counted.get((tile.kind, tile.level), 0)
        assert at == tile.number * 256
        assert tile == tiles.parse_path(tile.path)
        counted[tile.kind, tile.level] = at + tile.width
    expect = {("tile", level): size >> 8 * level for level in range(4)}
    expect["entries", 0] = size

    assert {key: count for key, count in expect.items() if count} == counted
