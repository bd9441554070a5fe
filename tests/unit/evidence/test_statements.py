"""Statements in a log: found by subject, in order of time, however large."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from secureml import keys
from secureml.clock import format_time
from secureml.errors import ConsistencyError, FormatError, StoreError, UnexpectedFileError
from secureml.evidence.attest import attest
from secureml.evidence.blobs import BlobStore
from secureml.evidence.log import Log, verify_log
from secureml.evidence.statements import Logged, StatementLog, check_times
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.evidence.verify import verify_bundle
from secureml.wire.bundle import Bundle
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope, Signature
from secureml.wire.logentry import LogEntry
from secureml.wire.statement import DATASET, RUN_START, Statement, Subject

ORIGIN = "log.example/statements"
LOG_KEY = keys.generate("ed25519", purposes=frozenset({"log"}))
KEY = keys.generate("ecdsa-p256", purposes=frozenset({"statements"}))
START = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        """Return the time that was set."""
        return self.time


def about(digest: Digest, kind: str = DATASET, **predicate: str) -> Envelope:
    """Make a signed statement about *digest*."""
    statement = Statement((Subject("thing", digest.as_set()),), kind, dict(predicate))
    return attest(statement, KEY)


def sized(leaf: int) -> Envelope:
    """Make an envelope whose leaf has exactly so many bytes, or would have."""
    at = format_time(START)
    payload = 0
    for keyid in range(8):
        envelope = Envelope("x", b"", (Signature("k" * keyid, b"s"),))
        rest = leaf - len(LogEntry.of(envelope, at)[0])
        if rest % 4 == 0:
            payload = rest // 4 * 3
            return Envelope("x", b"p" * payload, envelope.signatures)
    raise AssertionError


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[StatementLog]:
    """A new log of statements."""
    log = Log.open(
        tmp_path / "log",
        private=tmp_path / "private",
        origin=ORIGIN,
        signer=LOG_KEY,
        create=True,
    )
    ledger = StatementLog(log, BlobStore(tmp_path / "blobs"), clock)
    yield ledger
    ledger.close()


def reader(tmp_path: Path) -> StatementLog:
    """Open the log as somebody without a key."""
    return StatementLog(Log.open(tmp_path / "log"), BlobStore(tmp_path / "blobs"))


def test_what_is_logged_is_read(tmp_path: Path, ledger: StatementLog) -> None:
    """A statement comes back with its index and time, before and after publication."""
    envelope = about(Digest.sha256(b"a"))
    logged = ledger.append(envelope)

    assert Logged(0, format_time(START), envelope) == logged == ledger.read(0)
    assert [logged] == list(ledger)
    assert len(ledger) == 1
    assert ledger.origin == ORIGIN
    ledger.publish()
    assert [logged] == list(reader(tmp_path))


@pytest.mark.parametrize(("size", "blobs"), [(65_534, 0), (65_535, 0), (65_536, 1), (70_000, 1)])
def test_large_statements_go_beside_the_log(
    tmp_path: Path, ledger: StatementLog, size: int, blobs: int
) -> None:
    """A leaf of 65,535 bytes is the largest; from 65,536 on, the envelope is a blob."""
    envelope = sized(size)
    logged = ledger.append(envelope)

    assert envelope == logged.envelope == ledger.read(0).envelope
    assert blobs == len(ledger.blobs.names())
    leaf = ledger.log.entry(0)
    assert (len(leaf) == size) is (blobs == 0)
    assert LogEntry.decode(leaf).envelope == (None if blobs else envelope)
    ledger.publish()
    assert [envelope] == [one.envelope for one in reader(tmp_path)]


def test_a_blob_is_on_the_disk_before_its_leaf(
    ledger: StatementLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When storing the blob fails, no leaf names it."""
    from secureml.evidence import blobs as module

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(module, "write_batch", fail)

    with pytest.raises(StoreError, match="could not store the blob"):
        ledger.append(sized(70_000))
    assert ledger.log.pending == 0
    assert ledger.append(sized(100)).index == 0


def test_a_missing_blob_is_named(tmp_path: Path, ledger: StatementLog) -> None:
    """A statement whose blob is gone is not skipped."""
    ledger.append(sized(70_000))
    (digest,) = ledger.blobs.names()
    (tmp_path / "blobs/sha256" / digest.hex[:2] / digest.hex[2:]).unlink()

    with pytest.raises(UnexpectedFileError, match="is gone"):
        ledger.read(0)
    with pytest.raises(UnexpectedFileError, match="is gone"):
        ledger.find(Digest.sha256(b"a"))


def test_time_never_goes_back(tmp_path: Path, ledger: StatementLog, clock: Clock) -> None:
    """A leaf is never earlier than the one before it, also across processes."""
    envelope = about(Digest.sha256(b"a"))
    times = [ledger.append(envelope).at]
    clock.time -= timedelta(days=1)
    times.append(ledger.append(envelope).at)
    ledger.close()
    again = StatementLog(
        Log.open(tmp_path / "log", private=tmp_path / "private", signer=LOG_KEY),
        ledger.blobs,
        clock,
    )
    times.append(again.append(envelope).at)
    clock.time += timedelta(days=2)
    times.append(again.append(envelope).at)

    now = format_time(START)
    assert [now, now, now, format_time(START + timedelta(days=1))] == times
    check_times(again.log.entries())
    again.close()


def test_a_leaf_that_goes_back_is_found() -> None:
    """A log whose times go back was not written by secureml."""
    envelope = about(Digest.sha256(b"a"))
    leaves = [
        LogEntry.of(envelope, format_time(START + timedelta(seconds=n)))[0] for n in (0, 5, 4)
    ]

    check_times(leaves[:2])
    check_times([])
    with pytest.raises(ConsistencyError, match=r"entry 2 .* before entry 1"):
        check_times(leaves)
    with pytest.raises(FormatError):
        check_times([b"not a leaf"])


def test_found_by_subject(tmp_path: Path, ledger: StatementLog) -> None:
    """Statements are found by any digest of a subject, and by type."""
    a, b = Digest.sha256(b"a"), Digest.sha256(b"b")
    tree = Digest("dirHash", a.value)
    for digest, kind in ((a, DATASET), (b, DATASET), (a, RUN_START), (tree, DATASET)):
        ledger.append(about(digest, kind))
    ledger.append(sized(300))

    assert [one.index for one in ledger.find(a)] == [0, 2]
    assert [one.index for one in ledger.find(a, RUN_START)] == [2]
    assert [one.index for one in ledger.find(tree)] == [3]
    assert ledger.find(Digest.sha256(b"c")) == []
    ledger.append(about(a))
    assert [one.index for one in ledger.find(a)] == [0, 2, 5]
    ledger.publish()
    assert [one.index for one in reader(tmp_path).find(a)] == [0, 2, 5]


def test_found_by_name(ledger: StatementLog) -> None:
    """A statement is found by the SHA-256 of its payload."""
    envelopes = [about(Digest.sha256(b"a"), note=str(n)) for n in range(3)]
    for envelope in [*envelopes, envelopes[1]]:
        ledger.append(envelope)

    assert [one.index for one in ledger.named(envelopes[1].digest)] == [1, 3]
    assert ledger.named(Digest.sha256(b"c")) == []


@pytest.mark.parametrize("big", [False, True])
def test_a_bundle_is_evidence(ledger: StatementLog, *, big: bool) -> None:
    """A statement travels with the proof of its place, and verifies elsewhere."""
    envelope = about(Digest.sha256(b"a"), text="x" * (60_000 if big else 1))
    for _ in range(3):
        ledger.append(about(Digest.sha256(b"b")))
    ledger.append(envelope)
    with pytest.raises((IndexError, StoreError)):
        ledger.bundle(3)
    ledger.publish()
    trust = Trust.from_toml(
        "version = 1\n\n"
        + identity_block(
            Identity(
                name="log", verifier=LOG_KEY.verifier, roles=frozenset({"log"}), origin=ORIGIN
            )
        )
        + "\n"
        + identity_block(
            Identity(name="data", verifier=KEY.verifier, roles=frozenset({"dataset"}))
        )
    )

    data = ledger.bundle(3).encode()
    found = verify_bundle(Bundle.decode(data), trust=trust, role="dataset")

    assert found.signer.name == "data"
    assert found.position is not None
    assert found.position.index == 3
    assert big is bool(ledger.blobs.names())
    assert json.loads(data)["verificationMaterial"]["tlogEntries"][0]["logIndex"] == "3"
    assert verify_log(ledger.log.directory, trust=trust).size == 4
