# ruff: noqa: ANN401  the rig is loaded from a file
"""Retention is a record; what it no longer keeps goes, and every proof stays."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.audit.erasing import erase
from secureml.audit.policies import FLOOR_DAYS, PRESETS, RetentionPolicy
from secureml.audit.retention import (
    complete_pruning,
    due,
    holds,
    place_hold,
    prune,
    read_prune,
    release_hold,
    retention_policy,
    set_policy,
    verify_pruned_log,
)
from secureml.audit.verification import verify_audit
from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    GateDeniedError,
    SecureMLError,
    StoreError,
    UnexpectedFileError,
)
from secureml.evidence.log import Log
from secureml.evidence.pruning import absent_bundles, first_entry
from secureml.evidence.trust import Trust, identity_block

RIG = Path(__file__).with_name("sealed_rig.py")
_spec = spec_from_file_location("sealed_rig", RIG)
if _spec is None or _spec.loader is None:
    raise ImportError(name="sealed_rig")
rigs = module_from_spec(_spec)
_spec.loader.exec_module(rigs)

POLICY = RetentionPolicy(default_days=200, classes={"pci": 366, "short": 30})


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Any]:
    """Return an empty audit log."""
    made = rigs.Rig(tmp_path / "evidence")
    yield made
    made.close()


def trust(rig: Any) -> Trust:
    """Return a trust that names the log's key."""
    from secureml.evidence.trust import Identity

    identity = Identity(
        name="audit",
        roles=frozenset({"audit"}),
        verifier=rig.signer.verifier,
        origin=rigs.ORIGIN,
    )
    return Trust.from_toml("version = 1\n" + identity_block(identity))


def old_log(rig: Any, *, count: int = 700, after: int = 300) -> str:
    """Write *count* calls, let 201 days pass, write *after* more; return the first checkpoint."""
    set_policy(rig, POLICY)
    for number in range(count):
        rig.call(f"user {number % 5}", number, sealed=number % 2 == 0)
        rig.now += timedelta(seconds=1)
    note = rig.publish()
    rig.pass_days(201)
    for number in range(after):
        rig.call(f"user {number % 5}", number, sealed=number % 2 == 0)
    rig.publish()
    return str(note)


def verified(rig: Any, **options: Any) -> Any:
    """Verify the log as a stranger."""
    rig.publish()
    return verify_pruned_log(rig.root / "audit", trust=trust(rig), **options)


def test_presets_have_a_source_and_last_long_enough() -> None:
    """Each preset is the most days its text's period can have, and says which text."""
    assert {name: preset.days for name, preset in PRESETS.items()} == {
        "eu-ai-act": 184,  # 1 March to 1 September
        "hipaa": 2192,  # six years, two of them leap years
        "pci": 366,
    }
    assert all(len(preset.source) > 20 for preset in PRESETS.values())
    policy = RetentionPolicy.preset("pci", "hipaa")
    assert policy.to_json() == {"classes": {"hipaa": 2192, "pci": 366}, "default_days": 184}
    assert policy.warnings() == ()
    with pytest.raises(ValueError, match="no preset 'sox'"):
        RetentionPolicy.preset("sox")


def test_short_periods_are_warned_of(rig: Any) -> None:
    """Less than six months is allowed, and said to be less than the AI Act asks for."""
    warnings = set_policy(rig, RetentionPolicy(default_days=183, classes={"x": 30, "y": 184}))

    assert FLOOR_DAYS == 184
    assert [line.split(":")[0] for line in warnings] == [
        "a record without a class is kept for 183 days",
        "x is kept for 30 days",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"default_days": 0},
        {"default_days": 36_526},
        {"default_days": True},
        {"classes": {"x": 1.5}},
        {"classes": {"": 1}},
        {"classes": {"x" * 129: 1}},
    ],
)
def test_a_policy_has_whole_days_and_names(options: dict[str, Any]) -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ValueError, match=r"days|characters"):
        RetentionPolicy(**options)


def test_a_class_that_is_not_named_is_kept_longest() -> None:
    """A typing error in a class keeps a record too long, never too short."""
    assert POLICY.days(None) == 200
    assert POLICY.days("short") == 30
    assert POLICY.days("pic") == 366


def test_the_policy_and_holds_are_read_from_the_log(rig: Any) -> None:
    """The last policy is in force; a hold until it is released."""
    assert (retention_policy(rig.log), holds(rig.log)) == (None, ())
    set_policy(rig, RetentionPolicy())
    set_policy(rig, POLICY)
    place_hold(rig, "b")
    place_hold(rig, "a", subjects=["ab" * 16])
    release_hold(rig, "c")

    assert retention_policy(rig.log) == POLICY
    assert holds(rig.log) == ("a", "b")
    release_hold(rig, "b")
    assert holds(rig.log) == ("a",)
    with pytest.raises(ValueError, match="characters"):
        place_hold(rig, "")


@pytest.mark.parametrize(
    "body",
    [
        {"default_days": 0},
        {"default_days": "184"},
        {"default_days": 184, "classes": {"": 3}},
        {"default_days": 184, "classes": {"x": 1.5}} | {"classes": {"x": "1"}},
        {"default_days": 184, "classes": []},
        {},
    ],
)
def test_a_malformed_policy_prunes_nothing(rig: Any, body: dict[str, Any]) -> None:
    """A policy that cannot be understood is an error, not another policy."""
    rig.append({"type": "retention", "retention": body})
    rig.publish()

    with pytest.raises(FormatError, match="about the log itself"):
        prune(rig, now=rig.now)


def test_a_hold_that_cannot_be_understood_is_about_all(rig: Any) -> None:
    """What a later version says about a hold's subjects does not narrow it."""
    rig.append({"type": "hold", "hold": {"name": "h", "state": "placed", "subjects": {"x": 1}}})
    rig.call("alice")

    with pytest.raises(GateDeniedError):
        erase(rig, "alice", reason="r", keys=rig.keys)


def test_nothing_is_due_before_its_time(rig: Any) -> None:
    """A record is kept for its period, and a whole bundle for its youngest record."""
    old_log(rig)

    assert due(rig.log, rigs.NOW + timedelta(days=199)).minimum == 0
    found = due(rig.log, rig.now)
    assert (found.minimum, found.records) == (512, 512)
    # The 190 behind the last whole bundle keep their leaves, and need not keep their values.
    assert len(found.values) == 702 - 512


def test_a_longer_class_keeps_what_comes_behind(rig: Any) -> None:
    """A log is cut at its beginning only, so a record that is kept keeps those after it."""
    set_policy(rig, POLICY)
    for number in range(600):
        rig.call("alice", number, retention_class="pci" if number == 300 else None)
    rig.pass_days(250)

    found = due(rig.log, rig.now)

    assert found.minimum == 256
    assert len(found.values) == 600 + 2 - 256 - 1


def test_a_slow_clock_makes_nothing_older(rig: Any) -> None:
    """A record is as old as the log says, whatever a clock said later."""
    set_policy(rig, POLICY)
    rig.call("alice")
    rig.now -= timedelta(days=3650)
    for _ in range(300):
        rig.call("alice")
    rig.now += timedelta(days=3650 + 100)

    assert due(rig.log, rig.now).minimum == 0


def test_without_a_policy_nothing_is_pruned(rig: Any) -> None:
    """However old the records are: c2sp.org/tlog-tiles forbids it."""
    for _ in range(300):
        rig.call("alice")
    rig.pass_days(10_000)

    assert due(rig.log, rig.now).minimum == 0
    with pytest.raises(GateDeniedError, match="no retention policy"):
        prune(rig, now=rig.now)
    assert absent_bundles(rig.root / "audit", 302) == set()


def test_what_is_due_is_pruned(rig: Any) -> None:
    """Entry bundles and lines go, tiles stay, and what is left verifies as before."""
    old = old_log(rig)
    before = rig.report(keys=rig.keys)

    done = prune(rig, now=rig.now)

    # Bundle 0 holds the policy: it stays.
    assert (done.minimum, done.bundles, done.lines) == (512, 1, 510)
    found = verified(rig, remembered=[old])
    assert (found.minimum, found.absent, found.rollback) == (512, 1, "checked")
    assert first_entry(rig.root / "audit", found.head.size) == 512
    report = rig.report(keys=rig.keys)
    assert report.findings == ()
    assert report.values == before.values - 510
    log = Log.open(rig.root / "audit")
    for index in (0, 255, 512, 600, 999):
        log.prove(index).inclusion.verify(
            log.entry(index), size=found.head.size, root=found.head.root
        )
    log.consistency(10).verify(
        old_size=10,
        old_root=_root(rig, 10),
        size=found.head.size,
        root=found.head.root,
    )
    leaf = next(leaf for _, leaf in rig.leaves() if b'"type":"prune"' in leaf)
    assert read_prune(leaf).kept == {0}


def _root(rig: Any, size: int) -> bytes:
    """Return the root of the first entries, from bundle 0, which is there."""
    from secureml.wire.merkle import leaf_hash, root

    entries = list(Log.open(rig.root / "audit").entries(0, size))
    return root([leaf_hash(entry) for entry in entries])


def test_writers_go_on_across_the_cut(rig: Any) -> None:
    """The leaf says at which number each writer goes on, so that no record can be missing."""
    ended = rig.writer
    rig.append({"type": "end", "end": {"records": 2}})
    rig.begin()
    old_log(rig)
    prune(rig, now=rig.now)

    (body,) = [r.body["prune"] for r in rig.records() if r.type == "prune"]

    first = rig.records()[0]
    assert body["writers"] == {first.writer: first.seq}
    assert ended not in body["writers"]


def test_pruning_goes_on(rig: Any) -> None:
    """Later more is pruned; the earlier leaf's bundle stays, and the policy is still known."""
    old_log(rig)
    prune(rig, now=rig.now)
    assert prune(rig, now=rig.now).bundles == 0
    rig.pass_days(201)
    for number in range(300):
        rig.call("alice", number)

    done = prune(rig, now=rig.now)

    assert done.minimum == 768
    assert retention_policy(rig.log) == POLICY
    assert (verified(rig).minimum, verified(rig).absent) == (768, 2)
    assert rig.report(keys=rig.keys).findings == ()
    # The last leaf that pruned lies in the bundle that begins at 768.
    rig.pass_days(201)
    for number in range(300):
        rig.call("alice", number)
    assert prune(rig, now=rig.now).minimum == 1280
    last = [r for r in rig.records() if r.type == "prune"][-1]
    assert last.body["prune"]["kept"] == [0, 3]
    assert (verified(rig).minimum, verified(rig).absent) == (1280, 3)


def test_a_hold_forbids_pruning(rig: Any) -> None:
    """Under any hold nothing is pruned; after its release, it is."""
    old_log(rig)
    place_hold(rig, "h", subjects=["ab" * 16])

    with pytest.raises(GateDeniedError, match="legal hold"):
        prune(rig, now=rig.now)
    with pytest.raises(GateDeniedError, match="legal hold"):
        complete_pruning(rig)

    assert verified(rig).absent == 0
    release_hold(rig, "h")
    assert prune(rig, now=rig.now).bundles == 1


def test_a_hold_that_comes_in_between_comes_first(rig: Any) -> None:
    """A hold placed while the leaf was written keeps everything, until its release."""
    old_log(rig)

    class Slow(type(rig)):  # type: ignore[misc]
        """A log in which somebody places a hold just before the pruning."""

        def append(self, body: Any, *, durable: bool = False) -> Any:
            if body["type"] == "prune":
                super().append({"type": "hold", "hold": {"name": "h", "state": "placed"}})
            return super().append(body, durable=durable)

    rig.__class__ = Slow
    with pytest.raises(GateDeniedError):
        prune(rig, now=rig.now)
    rig.__class__ = rigs.Rig

    assert (verified(rig).minimum, verified(rig).absent) == (512, 0)
    assert rig.report(keys=rig.keys).findings == ()
    assert found(rig) == []
    release_hold(rig, "h")
    assert complete_pruning(rig).bundles == 1
    assert verified(rig).absent == 1
    assert found(rig) == []
    # Until another matter comes up: it came later than the removal.
    place_hold(rig, "h")
    assert found(rig) == []


def test_other_software_that_does_not_wait_is_found(rig: Any) -> None:
    """Who removes what a leaf under a hold says, while one is placed, is found; not later."""
    old_log(rig)
    place_hold(rig, "h", subjects=["ab" * 16])
    policy = POLICY.to_json()
    writers = {rig.writer: 512}
    rig.append(
        {
            "type": "prune",
            "prune": {"minimum": 512, "kept": [0], "policy": policy, "writers": writers},
        }
    )
    assert found(rig) == []
    bundle(rig, 1).unlink()

    assert found(rig) == ["prune-under-hold"]
    place_hold(rig, "another")
    release_hold(rig, "h")
    assert found(rig) == ["prune-under-hold"]
    release_hold(rig, "another")
    assert found(rig) == []


def found(rig: Any) -> list[str]:
    """Return what a stranger finds in the records."""
    rig.publish()
    return [one.code for one in verify_audit(rig.root / "audit", trust=trust(rig)).findings]


def test_values_past_their_time_can_go_before_their_records(rig: Any) -> None:
    """What cannot be pruned yet can be erased: values need not wait for a whole bundle."""
    old_log(rig)
    prune(rig, now=rig.now)

    done = erase(rig, records=due(rig.log, rig.now).values, reason="retention", keys=rig.keys)

    assert len(done.records) == 190
    report = rig.report(keys=rig.keys)
    assert (report.findings, report.erased) == ((), 190)
    assert due(rig.log, rig.now).values == ()


def test_too_many_writers_are_said(rig: Any) -> None:
    """A leaf that would not fit is not written."""
    set_policy(rig, POLICY)
    for _ in range(1100):
        rig.begin()
    rig.pass_days(201)
    rig.call("alice")

    with pytest.raises(StoreError, match="too many writers"):
        prune(rig, now=rig.now)


def bundle(rig: Any, number: int) -> Path:
    """Return the path of a bundle."""
    return Path(rig.root / "audit/tile/entries" / f"{number:03}")


def edit(path: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def stale(rig: Any, number: int) -> None:
    """Put a partial bundle beside its full one."""
    path = bundle(rig, number).with_name(f"{number:03}.p")
    path.mkdir()
    (path / "1").write_bytes(b"\0\1x")


ATTACKS: list[tuple[Callable[[Any], object], type[SecureMLError], str]] = [
    (lambda r: bundle(r, 2).unlink(), UnexpectedFileError, "no file 'tile/entries/002'"),
    (lambda r: bundle(r, 0).unlink(), UnexpectedFileError, "no file 'tile/entries/000'"),
    (lambda r: edit(bundle(r, 0), 700), DigestMismatchError, "entries 0 to 255, was changed"),
    (lambda r: edit(bundle(r, 2), 700), DigestMismatchError, "entries 512 to 767, was changed"),
    (lambda r: edit(r.root / "audit/tile/0/001", 32), DigestMismatchError, "was changed"),
    (lambda r: edit(r.root / "audit/tile/0/002", 32), DigestMismatchError, "was changed"),
    (lambda r: (r.root / "audit/tile/0/001").unlink(), UnexpectedFileError, "tile/0/001"),
    (lambda r: bundle(r, 9).write_bytes(b"x"), UnexpectedFileError, "does not belong"),
    (lambda r: bundle(r, 1).symlink_to("/dev/null"), UnexpectedFileError, "not a regular file"),
    (lambda r: bundle(r, 9).mkdir(), UnexpectedFileError, "a directory without files"),
    (lambda r: stale(r, 1), UnexpectedFileError, "of a bundle that was pruned"),
    (lambda r: stale(r, 2), DigestMismatchError, "is not the beginning of that"),
]


@pytest.mark.parametrize(("attack", "error", "expected"), ATTACKS)
def test_a_pruned_log_hides_nothing_else(
    rig: Any, attack: Callable[[Any], object], error: type[SecureMLError], expected: str
) -> None:
    """Anything missing that no leaf says was pruned, or changed, is found."""
    old_log(rig)
    prune(rig, now=rig.now)
    verified(rig)

    attack(rig)

    with pytest.raises(error, match=expected):
        verified(rig)


def test_a_stale_bundle_goes_with_the_full_one(rig: Any) -> None:
    """What a crash left of a bundle's beginnings is pruned too."""
    old_log(rig)
    stale(rig, 1)

    prune(rig, now=rig.now)

    assert not bundle(rig, 1).with_name("001.p").exists()
    assert verified(rig).absent == 1


def test_a_bundle_missing_without_a_leaf_is_missing(rig: Any) -> None:
    """Removing entries from a log that was never pruned is found."""
    old_log(rig)
    bundle(rig, 1).unlink()

    with pytest.raises(UnexpectedFileError, match="tile/entries/001"):
        verified(rig)


def test_a_pruned_log_that_was_written_anew_is_found(rig: Any, tmp_path: Path) -> None:
    """A remembered checkpoint of before the pruning still tells one log from another."""
    note = old_log(rig)
    prune(rig, now=rig.now)
    other = rigs.Rig(tmp_path / "other", signer=rig.signer)
    old_log(other)
    prune(other, now=other.now)

    assert verified(other).rollback == "not checkable"
    with pytest.raises(ConsistencyError):
        verified(other, remembered=[note])
    other.close()


@pytest.mark.parametrize(
    "body",
    [
        {"minimum": 100, "kept": []},
        {"minimum": -256, "kept": []},
        {"minimum": 256, "kept": [1]},
        {"minimum": 256, "kept": [True]},
        {"minimum": 256},
        {"kept": []},
        {"minimum": 256, "kept": [], "policy": {}},
    ],
)
def test_a_malformed_pruning_is_refused(rig: Any, body: dict[str, Any]) -> None:
    """A leaf that prunes in another form prunes nothing."""
    policy = {"default_days": 1, "classes": {}}
    rig.append({"type": "prune", "prune": {"policy": policy, **body}})
    rig.publish()
    leaf = [leaf for _, leaf in rig.leaves()][-1]

    with pytest.raises(FormatError):
        read_prune(leaf)


def test_other_leaves_prune_nothing(rig: Any) -> None:
    """A leaf of another type is none, whatever text stands in it."""
    rig.append({"type": "x", "prune": {"type": "prune"}})
    rig.publish()
    leaf = [leaf for _, leaf in rig.leaves()][-1]

    assert b'"type":"prune"' in leaf
    assert read_prune(leaf) is None


def test_a_leaf_cannot_prune_what_comes_after_it(rig: Any) -> None:
    """A minimum index beyond its own leaf is not honoured."""
    policy = {"default_days": 1, "classes": {}}
    for _ in range(600):
        rig.call("alice")
    rig.append({"type": "prune", "prune": {"policy": policy, "minimum": 1024, "kept": []}})
    for _ in range(600):
        rig.call("alice")
    rig.publish()
    bundle(rig, 1).unlink()

    with pytest.raises(UnexpectedFileError):
        verified(rig)


CRASH = """
import json, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
rig_file, place = sys.argv[1:]
spec = spec_from_file_location("sealed_rig", rig_file)
rigs = module_from_spec(spec)
spec.loader.exec_module(rigs)
from secureml.audit.retention import RetentionPolicy, complete_pruning, prune, set_policy
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.audit.retention import verify_pruned_log

rig = rigs.Rig(Path(place) / "evidence")
for number in range(800):
    rig.call("alice", number, sealed=number % 2 == 0)
set_policy(rig, RetentionPolicy())
rig.pass_days(300)
rig.call("bob", "stays")
rig.publish()
rig.close()
identity = Identity(name="audit", roles=frozenset({"audit"}), verifier=rig.signer.verifier,
                    origin=rigs.ORIGIN)
trust = Trust.from_toml("version = 1\\n" + identity_block(identity))

def work(own):
    prune(own, now=own.now, scratch=own.private)

found = []
for step, left in rigs.crashes(work, rig, Path(place) / "crashes", published=2):
    before = verify_pruned_log(left.root / "audit", trust=trust)
    findings = [str(f) for f in left.report(keys=left.keys).findings]
    done = complete_pruning(left, scratch=left.private)
    after = verify_pruned_log(left.root / "audit", trust=trust)
    report = left.report(keys=left.keys)
    found.append({"minimum": before.minimum, "before": findings, "absent": after.absent,
                  "after": [str(f) for f in report.findings], "values": report.values,
                  "missing": before.absent})
print(json.dumps(found))
"""


def test_a_crash_at_any_step_is_finished_later(tmp_path: Path) -> None:
    """Wherever the process dies, the log verifies, its details too, and the rest goes later."""
    out = subprocess.run(
        [sys.executable, "-c", CRASH, str(RIG), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)

    assert len(found) > 10
    for one in found:
        assert (one["before"], one["after"]) == ([], []), one
        assert one["missing"] == 0 or one["minimum"] == 768, one
        assert (one["absent"], one["values"]) == ((3, 34) if one["minimum"] else (0, 801)), one
