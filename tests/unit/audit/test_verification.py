# ruff: noqa: ANN401  fixtures are of any type
"""Facts about `verify_audit`: files, tree, signature and records at once, and the open window."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from secureml.audit.record import prefix
from secureml.audit.verification import AuditVerification, _Reading, epoch_of, verify_audit
from secureml.audit.verify import begin
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    SecureMLError,
    StoreError,
    UntrustedSignerError,
    VerificationError,
)
from secureml.evidence.log import Log
from secureml.evidence.trust import Identity, Trust
from secureml.keys import files
from secureml.keys.signer import Signer
from secureml.wire import canonical, tiles
from secureml.wire.canonical import JSON

ORIGIN = "bench.example/audit"
WRITER = "a" * 32


def leaf(seq: int, kind: str = "call", /, writer: str = WRITER, **more: JSON) -> bytes:
    """Return one leaf."""
    second = f"{seq % 60:02}"
    body: dict[str, JSON] = {
        "monotonic_us": seq,
        "record": {"id": f"019d1c3a-7b1e-7c44-9a53-{int(writer[:2], 16):02x}{seq:010x}"},
        "time": f"2026-11-22T08:30:{second}.000000Z",
        "type": kind,
        **more,
    }
    if kind == "call":
        body |= {"action": "a", "latency_us": 1, "outcome": "ok"}
        body["call"] = {"kind": "function", "name": "f"}
    return prefix(writer, seq) + canonical.encode(body)


LEAVES = [
    leaf(0, "start", start={}),
    *(leaf(n) for n in range(1, 599)),
    leaf(599, "end", end={"records": 600}),
]


class Place:
    """A log of 600 entries, the trust that names its key, and an earlier checkpoint."""

    def __init__(self, root: Path, key: Signer, leaves: list[bytes]) -> None:
        self.path = root / "audit"
        self.trust = Trust(
            (
                Identity(
                    name="server",
                    verifier=key.verifier,
                    roles=frozenset({"audit"}),
                    origin=ORIGIN,
                ),
            )
        )
        with Log.open(
            self.path, private=root / "p", origin=ORIGIN, signer=key, purpose="audit", create=True
        ) as log:
            for one in leaves[:400]:
                log.append(one, sync=False)
            self.early = log.publish()
            for one in leaves[400:]:
                log.append(one, sync=False)
            self.late = log.publish()

    def verify(self, **options: Any) -> AuditVerification:
        """Verify the log."""
        return verify_audit(self.path, trust=self.trust, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, key: Signer) -> Place:
    """Return a clean log, which no test changes."""
    return Place(tmp_path_factory.mktemp("log"), key, LEAVES)


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Place:
    """Return a copy of the clean log, to be changed."""
    found = object.__new__(Place)
    found.__dict__.update(place.__dict__)
    found.path = tmp_path / "audit"
    shutil.copytree(place.path, found.path)
    return found


@pytest.mark.parametrize("level", ["records", "sequence"])
def test_a_clean_log(place: Place, level: str) -> None:
    """A log as it was written holds, at both levels."""
    found = place.verify(level=level, remembered=[place.late])

    assert found.ok
    assert found.first_bad is None
    assert () == found.findings
    assert 600 == found.report.count == found.size
    found.enforce(strict=True)
    assert "verified" in str(found)
    assert "undetected window  none" in str(found)
    assert "Verified audit log" in found._repr_html_()


def test_the_window_without_anything_from_outside(place: Place) -> None:
    """Without a remembered checkpoint the whole log could be another, and that is printed."""
    window = place.verify().window

    assert (0, 600, "not checkable") == (window.first, window.size, window.rollback)
    assert ("2026-11-22T08:30:00.000000Z", "2026-11-22T08:30:59.000000Z") == (
        window.begins,
        window.ends,
    )
    assert "600 entries, from 0 to 599, 2026-11-22T08:30:00.000000Z to" in str(window)
    assert "rollback           not checkable" in str(place.verify())


def test_the_window_above_a_checkpoint(place: Place) -> None:
    """What is above the largest checkpoint that is kept elsewhere is the window."""
    remembered = place.verify(remembered=[place.early]).window
    anchored = place.verify(anchors=[place.early]).window
    both = place.verify(anchors=[place.late], remembered=[place.early]).window

    assert (400, 200, "checked") == (remembered.first, remembered.size, remembered.rollback)
    assert (400, 200, "not checkable") == (anchored.first, anchored.size, anchored.rollback)
    assert (600, 0, "checked") == (both.first, both.size, both.rollback)
    assert "2026-11-22T08:30:40.000000Z" == remembered.begins


def test_a_window_that_begins_with_no_record(tmp_path: Path, key: Signer) -> None:
    """A leaf that is no record has no time, and the window says so."""
    found = Place(tmp_path, key, [*LEAVES[:2], b"foreign"]).verify()

    assert found.window.ends is None
    assert "to ?" in str(found)
    assert 2 == found.first_bad


def test_findings_are_located(tmp_path: Path, key: Signer) -> None:
    """The first bad entry is named, in text, HTML and JSON, and enforced."""
    found = Place(tmp_path, key, [*LEAVES[:300], *LEAVES[302:]]).verify()

    assert not found.ok
    assert 300 == found.first_bad
    assert "first bad entry" in str(found)
    assert "[sequence-gap] leaf 300 writer aaaaaaaa… goes from number 299 to 302" in str(found)
    assert str(found).startswith("the log is whole; its records do not hold")
    assert "Audit log with errors" in found._repr_html_()
    with pytest.raises(VerificationError, match="2 findings"):
        found.enforce()
    document = json.loads(found.to_json())
    assert not document["ok"]
    assert (300, 598) == (document["first_bad"], document["size"])
    assert ["sequence-gap", "end-count"] == [one["code"] for one in document["findings"]]
    assert 598 == document["undetected_window"]["size"]


def test_many_findings_are_counted(tmp_path: Path, key: Signer) -> None:
    """A report shows twenty, and the number of each kind."""
    text = str(Place(tmp_path, key, [*LEAVES, *(b"foreign%d" % n for n in range(30))]).verify())

    assert 20 == text.count("[not-a-record]")
    assert "30 in all: not-a-record 30" in text


def test_a_text_in_the_log_stays_on_its_line(tmp_path: Path, key: Signer) -> None:
    """What a leaf says cannot look like a line of the report."""
    gap: JSON = {"dropped": 1, "reason": "full"}
    leaves = [LEAVES[0], leaf(1, "gap", gap=gap), leaf(2, "end", end={"records": 3})]
    found = Place(tmp_path, key, leaves).verify()

    assert found.ok
    assert "warning" in str(found)
    found.enforce()
    with pytest.raises(VerificationError):
        found.enforce(strict=True)


def test_two_writers_one_of_them_killed(tmp_path: Path, key: Signer) -> None:
    """Writers that ended, go on, or were killed and accounted for are counted apart."""
    other, third = "b" * 32, "c" * 32
    said: JSON = {"writer": other, "records": 1, "verdict": "clean"}
    leaves = [
        LEAVES[0],
        leaf(0, "start", other, start={}),
        leaf(0, "start", third, start={}),
        leaf(1, "recovery", recovery=said),
        leaf(2, "end", end={"records": 3}),
    ]
    found = Place(tmp_path, key, leaves).verify()

    assert "3, 1 without an end, 1 killed and accounted for" in str(found)


def test_a_profile(place: Place) -> None:
    """Calls are held against a profile on request, and the report says which."""
    found = place.verify(profile="pci-10.2.2")

    assert {"profile"} == {one.code for one in found.findings}
    assert "600 read, held against pci-10.2.2" in str(found)


def test_details_are_checked_on_request(bench: Any, audited: Any, key: Signer) -> None:
    """Captured values open their commitments, and what is wrong with them is a finding."""

    @audited(capture=["row"])  # type: ignore[untyped-decorator]
    def predict(row: object) -> None: ...

    for number in range(3):
        predict(number)
    bench.log.close()
    trust = Trust(
        (Identity(name="s", verifier=key.verifier, roles=frozenset({"audit"}), origin=ORIGIN),)
    )
    found = verify_audit(bench.root / "audit", trust=trust, details=bench.details)
    assert found.ok
    assert "3 values open their commitment" in str(found)

    for path in bench.details.iterdir():
        path.write_bytes(b"")
    found = verify_audit(bench.root / "audit", trust=trust, details=bench.details)
    assert not found.ok
    assert 3 == len(found.findings)
    with pytest.raises(VerificationError):
        found.enforce()
    with pytest.raises(ValueError, match="level='records'"):
        verify_audit(bench.root / "audit", trust=trust, details=bench.details, level="sequence")


def test_a_stranger_signed_it(place: Place) -> None:
    """A log by a key that the trust does not name is refused."""
    stranger = files.generate("ed25519", purposes=frozenset({"audit"}))
    identity = Identity(
        name="x", verifier=stranger.verifier, roles=frozenset({"audit"}), origin="other"
    )
    with pytest.raises(UntrustedSignerError):
        verify_audit(place.path, trust=Trust((identity,)))


def test_a_changed_entry_is_named(copy: Place) -> None:
    """The error of a changed entry says which it is."""
    path = copy.path / tiles.entries_path(1)
    data = bytearray(path.read_bytes())
    data[data.index(b'"outcome":"ok"') + 12] = ord("p")
    path.write_bytes(data)

    with pytest.raises(
        DigestMismatchError, match=r"entry 256, in 'tile/entries/001', was changed"
    ):
        copy.verify()


def test_a_log_that_was_rolled_back(copy: Place, tmp_path: Path, key: Signer) -> None:
    """An older state of the log is refused with a later checkpoint, and not without."""
    older = Place(tmp_path / "older", key, LEAVES[:400])
    older.trust = copy.trust

    assert older.verify().ok
    with pytest.raises(ConsistencyError, match="cut or rolled back"):
        older.verify(remembered=[copy.late])


def test_any_changed_byte_is_found(copy: Place) -> None:
    """A bit flipped anywhere in the log is refused, by an error of ours."""
    for path in sorted(p for p in copy.path.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for at in range(0, len(data), max(1, len(data) // 12)):
            changed = bytearray(data)
            changed[at] ^= 1 << at % 8
            path.write_bytes(changed)
            with pytest.raises(SecureMLError):
                copy.verify()
        path.write_bytes(data)
    assert copy.verify().ok


def pruned(root: Path, key: Signer, writers: dict[str, int]) -> Place:
    """Return a log whose first bundle was removed, as one of its records says."""
    policy: JSON = {"default_days": 184, "classes": {}}
    said: JSON = {"minimum": 256, "kept": [], "policy": policy, "writers": dict(writers)}
    leaves = [*LEAVES[:598], leaf(598, "prune", prune=said), LEAVES[599]]
    found = Place(root, key, leaves)
    (found.path / tiles.entries_path(0)).unlink()
    return found


@pytest.mark.parametrize("level", ["records", "sequence"])
def test_a_log_that_was_pruned(tmp_path: Path, key: Signer, level: str) -> None:
    """What is left of a log that was pruned under a policy holds, and it says from where."""
    place = pruned(tmp_path, key, {WRITER: 256})
    found = place.verify(level=level, remembered=[place.early])

    assert found.ok
    assert (256, 600, 344, None) == (found.minimum, found.size, found.report.count, found.log)
    assert (400, 200, "checked") == (
        found.window.first,
        found.window.size,
        found.window.rollback,
    )
    assert "2026-11-22T08:30:40.000000Z" == found.window.begins
    assert "below entry 256" in str(found)
    assert "2026-11-22T08:30:16.000000Z" == place.verify().window.begins
    place.verify(details=tmp_path / "details", level="records").enforce()


@pytest.mark.parametrize("level", ["records", "sequence"])
@pytest.mark.parametrize("writers", [{WRITER: 255}, {"b" * 32: 256}, {}])
def test_a_pruned_log_that_goes_on_elsewhere(
    tmp_path: Path, key: Signer, level: str, writers: dict[str, int]
) -> None:
    """Above what was removed each writer goes on where the record of the pruning says."""
    found = pruned(tmp_path, key, writers).verify(level=level)

    assert ["sequence-gap"] == [one.code for one in found.findings]
    assert 256 == found.first_bad


def test_a_bundle_that_nobody_pruned(copy: Place) -> None:
    """A bundle that is gone, and no record says so, is refused."""
    (copy.path / tiles.entries_path(0)).unlink()

    with pytest.raises(VerificationError):
        copy.verify()


def test_a_reading_that_begins_again() -> None:
    """Where the log moved while it was read, only the last reading counts."""
    reading = _Reading(lambda: begin("records"), 1)
    reading.feed(0, LEAVES[:256])
    reading.feed(0, LEAVES[:256])
    reading.feed(256, LEAVES[256:512])

    assert 512 == reading.survey.count
    assert () == reading.survey.notes.findings()
    assert ("2026-11-22T08:30:01.000000Z", 511) == (
        reading.window(512, "checked").begins,
        reading.window(512, "checked").size,
    )


def test_what_a_leaf_says_of_the_next_key() -> None:
    """A record of a key's epoch is read; a call, and what only looks like one, is none."""
    said: JSON = {"next": "x"}

    assert said == epoch_of(leaf(3, "epoch", epoch=said))
    assert epoch_of(leaf(3)) is None
    assert epoch_of(b'{"type":"epoch"}') is None
    assert epoch_of(leaf(3, future={"type": "epoch"})) is None


def test_a_log_that_is_not_there(place: Place, tmp_path: Path) -> None:
    """No log is an error of its own, whatever was asked."""
    with pytest.raises(StoreError):
        verify_audit(tmp_path / "nowhere", trust=place.trust)
