"""
Two verifiers that share no code give one verdict, and neither ever gives way.

Random logs, intact and damaged in every way that bytes, files and records can be: what the
library refuses the auditors' single file refuses, and the other way round.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from secureml import keys
from secureml.audit.record import Record
from secureml.audit.verify import survey_records
from secureml.errors import FormatError, SecureMLError
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence.log import Log, verify_log
from secureml.evidence.notes import verify_checkpoint
from secureml.evidence.standalone import verify_log as standalone
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/two"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
VKEY = VKey(ORIGIN, ED25519, SIGNER.verifier.raw).encode()
KEYS = [standalone.Key(VKEY)]
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN)
    )
)
LEAVES = Path(__file__).parents[2] / "vectors/audit-record/leaves.json"
RECORDS = [one.encode() for one in json.loads(LEAVES.read_text("utf-8"))["leaves"].values()]


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(standalone, "WAIT", 0.0)
    for name in ("secureml.evidence.checklog", "secureml.evidence._snapshot"):
        monkeypatch.setattr(f"{name}._WAIT", 0.0, raising=False)
    assert checklog


@contextmanager
def somewhere() -> Iterator[Path]:
    """Give a directory, removed afterwards."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def write(base: Path, entries: list[bytes], cuts: frozenset[int] = frozenset()) -> list[str]:
    """Write a log, published at *cuts* and at the end; returns the checkpoints."""
    notes = []
    with Log.open(
        base / "log",
        private=base / "private",
        origin=ORIGIN,
        signer=SIGNER,
        create=True,
        files=Memory(),
    ) as log:
        notes.append(log.publish())
        for size, entry in enumerate(entries, 1):
            log.append(entry, sync=False)
            if size in cuts:
                notes.append(log.publish())
        notes.append(log.publish())
    return notes


def library(log: Path, *, remembered: tuple[str, ...] = ()) -> bool:
    """Return whether the library accepts the log."""
    try:
        verify_log(log, trust=TRUST, remembered=remembered)
    except SecureMLError:
        return False
    return True


def single(log: Path, *, remembered: tuple[str, ...] = ()) -> bool:
    """Return whether the single file accepts the log; it says no in no other way than its own."""
    try:
        standalone.verify_log(str(log), KEYS, remembered=[one.encode() for one in remembered])
    except standalone.Refused:
        return False
    return True


# --- Signatures

SECRETS = st.binary(min_size=32, max_size=32)
small_points = st.sampled_from(
    [
        bytes.fromhex("01" + "00" * 31),
        bytes.fromhex("ec" + "ff" * 30 + "7f"),
        bytes(32),
        bytes(31) + b"\x80",
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    ]
)


def openssl(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return the verdict of cryptography."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@given(SECRETS, st.binary(max_size=200), st.data())
def test_signatures_are_judged_as_cryptography_does(
    secret: bytes, message: bytes, data: st.DataObject
) -> None:
    """Good ones, ones with a bit changed, and S in other spellings: one verdict."""
    private = Ed25519PrivateKey.from_private_bytes(secret)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    bit = data.draw(st.integers(0, 8 * 64 - 1))
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    s = int.from_bytes(signature[32:], "little") + standalone.ORDER * data.draw(st.integers(1, 15))
    respelled = signature[:32] + (s % (1 << 256)).to_bytes(32, "little")

    assert standalone.ed25519_verify(key, signature, message)
    for bad in (bytes(changed), respelled, signature[32:] + signature[:32]):
        assert standalone.ed25519_verify(key, bad, message) == openssl(key, bad, message) is False


@given(
    st.one_of(SECRETS, small_points),
    st.one_of(SECRETS, small_points),
    st.one_of(
        st.just(bytes(32)), st.integers(0, 2**256 - 1).map(lambda n: n.to_bytes(32, "little"))
    ),
    st.binary(max_size=20),
)
def test_any_bytes_are_judged_as_cryptography_does(
    key: bytes, r: bytes, s: bytes, message: bytes
) -> None:
    """Random keys and points of small order, where anybody can sign: one verdict."""
    canonical = int.from_bytes(key, "little") % (1 << 255) < standalone.P
    found = standalone.ed25519_verify(key, r + s, message)

    if canonical:
        assert found == openssl(key, r + s, message)
    else:
        assert not found


@given(small_points, SECRETS, st.binary(max_size=20), st.integers(0, 15))
def test_torsion_is_judged_as_cryptography_does(
    point: bytes, secret: bytes, message: bytes, nonce: int
) -> None:
    """With a point of small order added to key and R, the cofactorless equation decides."""
    private = Ed25519PrivateKey.from_private_bytes(secret)
    honest = standalone.decode_point(private.public_key().public_bytes_raw())
    torsion = standalone.decode_point(point)
    assert honest is not None
    assert torsion is not None
    mixed = encoded(standalone.add(honest, torsion))
    signature = private.sign(message)
    r = standalone.decode_point(signature[:32])
    assert r is not None
    for _ in range(nonce % 8):
        r = standalone.add(r, torsion)
    other = encoded(r) + signature[32:]

    for key in (private.public_key().public_bytes_raw(), mixed, point):
        for sig in (signature, other):
            assert standalone.ed25519_verify(key, sig, message) == openssl(key, sig, message)


def encoded(point: standalone.Point) -> bytes:
    """Return the encoding of a point."""
    inverse = pow(point[2], -1, standalone.P)
    x, y = point[0] * inverse % standalone.P, point[1] * inverse % standalone.P
    return (y | (x & 1) << 255).to_bytes(32, "little")


# --- Notes


@given(st.data())
def test_checkpoints_are_judged_alike(data: st.DataObject) -> None:
    """A checkpoint with something cut, put in or changed: one verdict, strict and not."""
    note = bytearray(NOTE)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(note)))
        end = data.draw(st.integers(at, min(len(note), at + 3)))
        piece = st.sampled_from(
            [b"", b"\n", b" ", b"+", b"0", b"\xe2\x80\x94 ", b"=", b"\0", b"x"]
        )
        note[at:end] = data.draw(piece)
    if data.draw(st.booleans()):
        note += data.draw(st.sampled_from([OTHER, b"\n", b"x\n", NOTE, NOTE.split(b"\n\n")[1]]))

    for strict in (False, True):
        try:
            verify_checkpoint(bytes(note).decode("utf-8"), trust=TRUST, strict=strict)
        except (SecureMLError, UnicodeDecodeError):
            expected = False
        else:
            expected = True
        try:
            standalone.Head(bytes(note), KEYS, strict=strict)
        except standalone.Refused:
            found = False
        else:
            found = True
        assert found == expected


with somewhere() as _base:
    NOTE = write(_base, [b"a", b"b"])[-1].encode()
OTHER = "\u2014 other.example/x YWJjZGVm\n".encode()


# --- Logs

entries = st.lists(st.binary(min_size=1, max_size=30), max_size=12)


def damage(log: Path, data: st.DataObject) -> None:
    """Do one thing to the files of a log that nobody should do."""
    files = sorted(path for path in log.rglob("*") if path.is_file())
    if not files:
        return
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, max(len(content) - 1, 0)))
    few = st.binary(min_size=1, max_size=4)

    def change() -> None:
        path.write_bytes(content[:at] + data.draw(few) + content[at + 1 :])

    def insert() -> None:
        path.write_bytes(content[:at] + data.draw(few) + content[at:])

    def cut() -> None:
        path.write_bytes(content[:at])

    def remove() -> None:
        path.unlink()

    def swap() -> None:
        other = data.draw(st.sampled_from(files))
        theirs = other.read_bytes()
        other.write_bytes(content)
        path.write_bytes(theirs)

    def add() -> None:
        names = [
            "x",
            "tile/x",
            "tile/0/001",
            "tile/0/000.p/1",
            "tile/entries/000.p/1",
            "tile/1/000",
        ]
        new = log / data.draw(st.sampled_from(names))
        if not new.exists() and not (new.parent.exists() and not new.parent.is_dir()):
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    def link() -> None:
        path.rename(log.parent / "moved")
        path.symlink_to(log.parent / "moved")

    def pipe() -> None:
        path.unlink()
        os.mkfifo(path)

    deeds: list[Callable[[], None]] = [change, insert, cut, remove, swap, add, link, pipe]
    data.draw(st.sampled_from(deeds))()


@given(entries, st.data())
def test_random_logs_are_judged_alike(records: list[bytes], data: st.DataObject) -> None:
    """Intact ones hold, and whatever was done to their files, the verdict is one."""
    with somewhere() as base:
        write(base, records)
        assert library(base / "log")
        assert single(base / "log")
        for _ in range(data.draw(st.integers(1, 2))):
            damage(base / "log", data)

        assert single(base / "log") == library(base / "log")


@settings(max_examples=40)
@given(entries, entries, st.data())
def test_remembered_checkpoints_are_judged_alike(
    one: list[bytes], two: list[bytes], data: st.DataObject
) -> None:
    """A log against the checkpoints of another that begins as it does, or does not."""
    with somewhere() as base:
        cuts = frozenset(range(1, 13))
        notes = write(base, one, cuts)
        shutil.rmtree(base / "private")
        (base / "log").rename(base / "first")
        kept = data.draw(st.integers(0, len(one)))
        write(base, one[:kept] + two, cuts)
        for note in notes:
            assert library(base / "first", remembered=(note,))
            assert single(base / "first", remembered=(note,))
            found = single(base / "log", remembered=(note,))
            assert found == library(base / "log", remembered=(note,))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 513])
def test_sizes_at_the_edges_of_tiles(tmp_path: Path, size: int) -> None:
    """Logs that fill a tile, or are one entry from it: both agree, and one flipped bit later."""
    write(tmp_path, [b"%d" % n for n in range(size)])
    assert library(tmp_path / "log")
    assert single(tmp_path / "log")
    for path in sorted(path for path in (tmp_path / "log").rglob("*") if path.is_file()):
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert not library(tmp_path / "log"), path
        assert not single(tmp_path / "log"), path
        path.write_bytes(good)


# --- Hostile input

junk = st.recursive(
    st.binary(max_size=40),
    lambda inside: st.dictionaries(
        st.sampled_from(
            [
                "checkpoint",
                "tile",
                "entries",
                "0",
                "1",
                "000",
                "000.p",
                "1",
                "2",
                "256",
                "x001",
                "x",
            ]
        ),
        inside,
        max_size=4,
    ),
    max_leaves=8,
)


def lay(path: Path, tree: object) -> None:
    """Put a tree of directories and files at *path*."""
    if isinstance(tree, dict):
        path.mkdir()
        for name, inside in tree.items():
            lay(path / name, inside)
    elif isinstance(tree, bytes):
        path.write_bytes(tree)


@given(junk, st.booleans())
def test_any_directory_gets_a_verdict(tree: object, signed: bool) -> None:  # noqa: FBT001  drawn
    """Whatever lies there, under a real checkpoint or none: a verdict, and no traceback."""
    with somewhere() as base:
        lay(base / "log", tree)
        if signed and isinstance(tree, dict) and not (base / "log/checkpoint").is_dir():
            (base / "log/checkpoint").write_bytes(NOTE)
        report, _ = standalone.command([str(base / "log"), "--key", VKEY])

        assert report["verdict"] in {"refused", "unknown"}
        assert "Error" not in report["error"].split(":")[0]


@given(st.binary(max_size=300), st.binary(max_size=80))
def test_any_bytes_are_no_checkpoint_and_no_proof(data: bytes, entry: bytes) -> None:
    """Arbitrary bytes, alone or around what is real, are refused in the file's own words."""
    proof = b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + NOTE
    for given_bytes in (data, data + b"\n\n" + NOTE, proof + data, data + proof):
        with pytest.raises(standalone.Refused):
            standalone.verify_proof(given_bytes, entry, KEYS)
    with pytest.raises(standalone.Refused):
        standalone.Head(data, KEYS)


# --- Records


@given(st.sampled_from(RECORDS), st.data())
def test_records_are_judged_alike(leaf: bytes, data: st.DataObject) -> None:
    """A record with something cut, put in or changed: to both a record, or to neither."""
    changed = bytearray(leaf)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(67, len(changed)))
        end = data.draw(st.integers(at, min(len(changed), at + 3)))
        pieces = [
            b"",
            b"0",
            b"1",
            b'"',
            b"{",
            b"}",
            b",",
            b":",
            b"a",
            b"-",
            b"\\",
            b"null",
            b"\xc3",
        ]
        changed[at:end] = data.draw(st.sampled_from(pieces))
    try:
        expected: object = dict(Record.decode(bytes(changed)).body)
    except FormatError:
        expected = None
    try:
        found: object = standalone.read_body(bytes(changed[67:]))
    except ValueError:
        found = None

    assert found == expected


def value(leaf: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Return JSON around *leaf*."""
    return st.recursive(
        leaf,
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "alg", "x", "X", "start", "name", "r"]), inside
            )
        ),
        max_leaves=6,
    )


anything = value(
    st.none()
    | st.booleans()
    | st.integers(-(2**54), 2**54)
    | st.sampled_from(["", "ok", "a-b", "a" * 129, "0" * 32, "0" * 64, "sha256:" + "0" * 64])
    | st.sampled_from(["2026-11-22T08:30:00.000000Z", "\ufb33", "\U0001f600", "hmac-sha256"])
)


@given(st.sampled_from(RECORDS), st.sampled_from(sorted(standalone.CHECKS)), anything)
def test_fields_are_judged_alike(leaf: bytes, name: str, content: object) -> None:
    """Whatever stands in a field, both readers accept it or neither does."""
    body = json.loads(leaf[67:]) | {name: content}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        Record.decode(leaf[:67] + text)
    except FormatError:
        expected = False
    else:
        expected = True
    try:
        standalone.read_body(text)
    except ValueError:
        found = False
    else:
        found = True

    assert found == expected


steps = st.tuples(
    st.sampled_from(["a" * 32, "b" * 32]),
    st.sampled_from(
        [
            "start",
            "call",
            "call",
            "intent",
            "answer",
            "end",
            "heartbeat",
            "gap",
            "recovery",
            "seal",
        ]
    ),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
    st.sampled_from([1, 1, 1, 30]),
    st.integers(0, 30),
)


@settings(max_examples=300)
@given(st.lists(steps, min_size=1, max_size=14), st.booleans())
def test_completeness_is_judged_alike(
    steps: list[tuple[str, str, int, int, int]],
    orderly: bool,  # noqa: FBT001  drawn
) -> None:
    """Random stories of two writers: unfit to both, or to neither."""
    leaves = story(steps, orderly=orderly)
    records = standalone.Records([], 0, audit=True, quick=False)
    for first in range(0, len(leaves), 5):
        records.visit(first, leaves[first : first + 5])
    records.finish(lambda: iter([(0, leaves)]))
    survey = survey_records(leaves)

    assert (records.found > 0) == (not survey.ok), (records.findings, survey.findings)
    assert {index for index, _ in records.findings} == {one.index for one in survey.errors}


def story(steps: list[tuple[str, str, int, int, int]], *, orderly: bool) -> list[bytes]:
    """Return the leaves of a story; an orderly one has its starts in place, and its numbers."""
    numbers: dict[str, int] = {}
    announced: dict[str, list[str]] = {}
    leaves = []
    clock = 0
    for made, (writer, kind, slip, pause, number) in enumerate(steps):
        clock += pause
        if orderly:
            kind = "start" if writer not in numbers else "call" if kind == "start" else kind  # noqa: PLW2901
        seq = max(0, numbers.get(writer, 0) + (0 if orderly else slip))
        numbers[writer] = seq + 1
        identity = f"019d1c3a-7b1e-7c44-9a53-{made if orderly or number else 0:012x}"
        count = seq + 1 if orderly or number > 3 else number
        other = "b" * 32 if writer == "a" * 32 else "a" * 32
        call = {"action": "x", "call": {"kind": "function", "name": "f"}, "monotonic_us": 1}
        ended = {**call, "latency_us": 1, "outcome": "ok"}
        waiting = announced.setdefault(writer, [])
        if kind == "intent":
            waiting.append(identity)
        more: dict[str, object] = {
            "start": {"start": {"heartbeat_s": number % 8}, "monotonic_us": 1},
            "call": ended,
            "intent": call,
            "answer": {**ended, **({"intent": waiting.pop()} if waiting else {})},
            "end": {"end": {"records": count}},
            "heartbeat": {"heartbeat": {"records": count}},
            "gap": {"gap": {"dropped": number, "reason": "full"}},
            "recovery": {
                "recovery": {
                    "records": number % 4,
                    "verdict": ["clean", "torn", "corrupt", "gap", "odd"][number % 5],
                    "writer": other,
                }
            },
            "seal": {"seal": {}},
        }[kind]
        body = {
            "record": {"id": identity},
            "time": f"2026-11-22T08:{clock // 60:02}:{clock % 60:02}.000000Z",
            "type": "call" if kind == "answer" else kind,
            **more,
        }
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        leaves.append(b"secureml-audit/1 %s %016x\n%s" % (writer.encode(), seq, text.encode()))
    return leaves
