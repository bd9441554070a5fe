"""Facts about the survey of records: each finding has a log that shows it, others do not."""

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from secureml import audit
from secureml.audit import _ids, _notes, _survey
from secureml.audit._survey import Level
from secureml.audit.findings import ERROR, WARNING
from secureml.audit.record import PREFIX_SIZE, prefix
from secureml.audit.verify import AuditReport, survey_records
from secureml.clock import format_time
from secureml.errors import FormatError, VerificationError
from secureml.wire import canonical
from secureml.wire.canonical import JSON

BEGIN = datetime(2026, 11, 22, 8, tzinfo=UTC)
ALICE, BOB, CAROL = ("a" * 32, "b" * 32, "c" * 32)
CALL: dict[str, JSON] = {
    "call": {"kind": "function", "name": "f"},
    "action": "a",
    "monotonic_us": 0,
}
RAN: dict[str, JSON] = {**CALL, "latency_us": 1, "outcome": "ok"}


class Book:
    """Leaves as writers make them: each counts its own, one clock for all."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.at = BEGIN
        self.counts: dict[str, int] = {}
        self.ids = itertools.count()

    def wait(self, seconds: float) -> "Book":
        """Let time go by."""
        self.at += timedelta(seconds=seconds)
        return self

    def identity(self) -> str:
        """Return the next id, in order of time."""
        millis = int(self.at.timestamp() * 1000)
        h = f"{millis:012x}"
        return f"{h[:8]}-{h[8:]}-7000-8000-{next(self.ids):012x}"

    def leaf(self, writer: str, kind: str, /, **body: JSON) -> str:
        """Write one record; return its id."""
        seq = self.counts.get(writer, 0)
        self.counts[writer] = seq + 1
        identity = str(body.pop("id", "")) or self.identity()
        made = {"record": {"id": identity}, "time": format_time(self.at), "type": kind, **body}
        self.leaves.append(prefix(writer, seq) + canonical.encode(made))
        return identity

    def start(self, writer: str, heartbeat: int = 0) -> "Book":
        """Begin a writer."""
        begun: JSON = {"heartbeat_s": heartbeat} if heartbeat else {}
        self.leaf(writer, "start", start=begun, monotonic_us=0)
        return self

    def call(self, writer: str, /, number: int = 1, **more: JSON) -> "Book":
        """Run a function some times."""
        for _ in range(number):
            self.leaf(writer, "call", **{**RAN, **more})
        return self

    def beat(self, writer: str) -> "Book":
        """Write a heartbeat."""
        self.leaf(writer, "heartbeat", heartbeat={"records": self.counts[writer] + 1})
        return self

    def end(self, writer: str) -> "Book":
        """End a writer."""
        self.leaf(writer, "end", end={"records": self.counts[writer] + 1})
        return self

    def recovery(self, writer: str, dead: str, verdict: str = "clean", records: int = 0) -> "Book":
        """Take over what a writer left."""
        said: JSON = {"writer": dead, "verdict": verdict, "records": records}
        self.leaf(writer, "recovery", recovery=said)
        return self


def book() -> Book:
    """Return a log of one writer that began and ran some calls, not ended."""
    return Book().start(ALICE).call(ALICE, 20)


def codes(
    leaves: list[bytes], *, level: Level = "records", now: datetime | None = None
) -> list[str]:
    """Return the codes of what is found."""
    return [one.code for one in survey_records(leaves, level=level, now=now).findings]


def cut(number: int) -> Callable[[], list[bytes]]:
    """Return a log with one leaf missing."""
    return lambda: FINISHED[:number] + FINISHED[number + 1 :]


def answered(*, when: str) -> list[bytes]:
    """Return a log with an intent, and what became of it."""
    made = book()
    intent = made.leaf(ALICE, "intent", **CALL)
    if when == "answered":
        made.call(ALICE, intent=intent)
    elif when == "twice":
        made.call(ALICE, 2, intent=intent)
    if when == "dropped":
        made.leaf(ALICE, "gap", gap={"dropped": 1, "reason": "not-accepted"})
    if when == "killed":
        made.start(BOB).recovery(BOB, ALICE, records=22).end(BOB)
    elif when != "running":
        made.end(ALICE)
    return made.leaves


def silent(*, heartbeat: int, gone: float, **kwargs: bool) -> list[bytes]:
    """Return a log in which one writer stops, and the other goes on."""
    made = Book().start(ALICE, heartbeat).start(BOB).call(ALICE, 3)
    made.wait(gone).call(BOB, 3)
    if kwargs.get("recovered"):
        made.recovery(BOB, ALICE, records=4)
    return made.end(BOB).leaves


def quiet(*, gone: float, jump: float | None = None) -> list[bytes]:
    """Return a log whose writer wrote nothing for a while."""
    made = Book().start(ALICE, 60).call(ALICE, 12).wait(gone).call(ALICE)
    if jump is not None:
        made.leaf(ALICE, "clock", clock={"jump_us": int(jump * 1e6)})
    return made.call(ALICE, 3).end(ALICE).leaves


def busy(*, latency: float, last: float) -> list[bytes]:
    """Return a log of a writer whose calls take long, and of one that only lives."""
    made = Book().start(ALICE, 60).start(BOB, 60)
    for _ in range(20):
        made.wait(50).beat(BOB)
        began = format_time(made.at - timedelta(seconds=latency))
        made.call(ALICE, time=began, latency_us=int(latency * 1e6))
    return made.wait(last).beat(BOB).end(BOB).leaves


def with_record(kind: str, **body: JSON) -> Callable[[], list[bytes]]:
    """Return a log with one record of a kind."""

    def make() -> list[bytes]:
        made = book()
        made.leaf(ALICE, kind, **body)
        return made.end(ALICE).leaves

    return make


def heartbeat(lie: int) -> Callable[[], list[bytes]]:
    """Return a log with two heartbeats after a wrong, or a true, count."""

    def make() -> list[bytes]:
        made = book()
        made.leaf(ALICE, "heartbeat", heartbeat={"records": 22 + lie})
        made.call(ALICE)
        made.leaf(ALICE, "heartbeat", heartbeat={"records": 24 + lie})
        made.leaf(ALICE, "end", end={"records": 25 + lie})
        return made.leaves

    return make


def moved(leaves: list[bytes], old: int, new: int) -> list[bytes]:
    """Move one leaf."""
    found = leaves.copy()
    found.insert(new, found.pop(old))
    return found


FINISHED = book().end(ALICE).leaves

FOUND: list[tuple[str, Callable[[], list[bytes]], list[str]]] = [
    ("clean", lambda: FINISHED, []),
    ("a leaf is missing", cut(5), ["sequence-gap", "end-count"]),
    ("the first is missing", cut(0), ["sequence-gap", "end-count"]),
    ("the end is missing", cut(21), []),
    (
        "a leaf twice",
        lambda: [*FINISHED[:9], FINISHED[8], *FINISHED[9:]],
        ["duplicate", "*id", "end-count"],
    ),
    ("a leaf late", lambda: moved(FINISHED, 5, 9), ["sequence-gap", "late"]),
    ("after the end", lambda: book().end(ALICE).call(ALICE).leaves, ["after-end"]),
    ("no record", lambda: [*FINISHED, b"foreign"], ["not-a-record"]),
    ("no start", lambda: Book().call(ALICE, 2).leaves, ["misplaced-start"]),
    ("a second start", lambda: book().start(ALICE).leaves, ["misplaced-start"]),
    ("a short end", with_record("end", end={"records": 20}), ["end-count", "after-end"]),
    ("a true heartbeat", heartbeat(0), []),
    ("a false heartbeat, once", heartbeat(3), ["heartbeat-count"]),
    ("a gap", with_record("gap", gap={"dropped": 3, "reason": "full"}), ["gap"]),
    ("no room", with_record("disk-full", disk_full={"refused": 3}), ["disk-full"]),
    ("another clock", with_record("clock", clock={"jump_us": -5}), []),
    ("a type of later", with_record("of-later", future={"a": [1]}), []),
    ("an outcome", lambda: answered(when="answered"), []),
    ("still running", lambda: answered(when="running"), []),
    ("no outcome", lambda: answered(when="ended"), ["intent-without-outcome"]),
    ("its outcome dropped", lambda: answered(when="dropped"), ["outcome-dropped", "gap"]),
    ("killed in a call", lambda: answered(when="killed"), ["killed-writer", "cut-short"]),
    ("two outcomes", lambda: answered(when="twice"), ["unknown-intent"]),
    ("silence", lambda: silent(heartbeat=60, gone=121), ["silent-writer"]),
    ("two periods", lambda: silent(heartbeat=60, gone=120), []),
    ("no promise", lambda: silent(heartbeat=0, gone=9e5), []),
    ("accounted", lambda: silent(heartbeat=60, gone=900, recovered=True), ["killed-writer"]),
    ("quiet, then back", lambda: quiet(gone=121), ["silence"]),
    ("quiet for two periods", lambda: quiet(gone=120), []),
    ("calls that take long", lambda: busy(latency=900, last=50), []),
    (
        "long calls, then nothing",
        lambda: busy(latency=900, last=121),
        ["silent-writer", "silence"],
    ),
    ("the clock jumped", lambda: quiet(gone=9000, jump=8990), []),
    ("the clock jumped less", lambda: quiet(gone=9000, jump=10), ["silence"]),
    (
        "corrupt",
        lambda: book().start(BOB).recovery(BOB, ALICE, "corrupt").end(BOB).leaves,
        ["killed-writer", "recovery-corrupt"],
    ),
    (
        "a hole in what was left",
        lambda: book().start(BOB).recovery(BOB, ALICE, "gap").end(BOB).leaves,
        ["killed-writer", "recovery-gap"],
    ),
    (
        "a verdict of later",
        lambda: book().start(BOB).recovery(BOB, ALICE, "odd").end(BOB).leaves,
        ["killed-writer", "unknown-verdict"],
    ),
    (
        "taken over, and not there",
        lambda: book().start(BOB).recovery(BOB, ALICE, "torn", 22).end(BOB).leaves,
        ["killed-writer", "recovery-count"],
    ),
    (
        "a writer nobody saw",
        lambda: book().end(ALICE).start(BOB).recovery(BOB, CAROL, "clean", 1).end(BOB).leaves,
        ["recovery-count"],
    ),
    (
        "a writer that left nothing",
        lambda: book().end(ALICE).start(BOB).recovery(BOB, CAROL).end(BOB).leaves,
        [],
    ),
    (
        "recovered, and ended all the same",
        lambda: book().end(ALICE).start(BOB).recovery(BOB, ALICE).end(BOB).leaves,
        [],
    ),
]


@pytest.mark.parametrize(("make", "expected"), [f[1:] for f in FOUND], ids=[f[0] for f in FOUND])
def test_each_finding_has_its_log(make: Callable[[], list[bytes]], expected: list[str]) -> None:
    """A log that breaks a rule shows its code, and one that keeps it shows nothing."""
    names = {"*id": "duplicate-id"}

    assert [names.get(code, code) for code in expected] == codes(make())


def test_every_code_is_shown() -> None:
    """There is no code without a log that shows it."""
    shown = set(itertools.chain.from_iterable(f[2] for f in FOUND))
    elsewhere = {"duplicate-id", "profile", "prune-under-hold"}

    assert set(_notes.CODES) == (shown | elsewhere) - {"*id"}


def test_warnings_pass_unless_strict() -> None:
    """What the log accounts for does not stop an auditor, but a strict one."""
    report = survey_records(silent(heartbeat=60, gone=900, recovered=True))

    report.enforce()
    assert report.ok
    assert (1, 0) == (len(report.warnings), len(report.errors))
    assert (ALICE,) == report.recovered
    assert () == report.unfinished
    with pytest.raises(VerificationError, match="1 finding"):
        report.enforce(strict=True)


def test_an_error_is_not_hidden_by_many_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors and warnings are kept apart, and what is not kept is counted."""
    monkeypatch.setattr(_notes, "_KEPT", 3)
    made = book()
    for _ in range(5):
        made.leaf(ALICE, "gap", gap={"dropped": 1, "reason": "full"})
    report = survey_records([*made.leaves, *[b"foreign"] * 7])

    assert {"gap": 5, "not-a-record": 7} == report.found
    assert (3, 3) == (len(report.errors), len(report.warnings))
    with pytest.raises(VerificationError, match="7 findings"):
        report.enforce()
    with pytest.raises(VerificationError, match="12 findings"):
        report.enforce(strict=True)


def test_findings_stand_in_the_order_of_leaves() -> None:
    """What only the end of the log shows stands at its place too."""
    leaves = [*answered(when="ended"), b"foreign"]
    found = survey_records(leaves).findings

    assert [21, 23] == [one.index for one in found]
    assert ["intent-without-outcome", "not-a-record"] == [one.code for one in found]
    assert {
        "code": "not-a-record",
        "severity": ERROR,
        "place": "leaf 23",
        "index": 23,
        "what": found[1].what,
    } == found[1].to_dict()


def test_the_clock_of_the_auditor() -> None:
    """The last writer's silence shows against a clock from outside."""
    leaves = Book().start(ALICE, 60).call(ALICE, 3).leaves

    assert [] == codes(leaves)
    assert [] == codes(leaves, now=BEGIN + timedelta(seconds=120))
    assert ["silent-writer"] == codes(leaves, now=BEGIN + timedelta(seconds=121))
    assert [] == codes(leaves, now=BEGIN - timedelta(days=1))
    with pytest.raises(ValueError, match="time zone"):
        survey_records(leaves, now=BEGIN.replace(tzinfo=None))


def test_numbers_alone() -> None:
    """At the level of the sequence, what is missing shows, and nothing else is read."""
    leaves = [*FINISHED[:5], FINISHED[5][:PREFIX_SIZE] + b"junk", *FINISHED[6:]]
    report = survey_records(leaves, level="sequence")

    assert () == report.findings
    assert (22, {ALICE: 22}, "sequence") == (report.count, report.writers, report.level)
    assert ["sequence-gap"] == codes(leaves[:3] + leaves[4:], level="sequence")
    assert ["sequence-gap"] == codes(leaves[1:], level="sequence")
    assert ["duplicate"] == codes([*leaves, leaves[4]], level="sequence")
    assert ["not-a-record"] == codes([*leaves, b"foreign"], level="sequence")
    with pytest.raises(ValueError, match="no record is read"):
        survey_records(leaves, level="sequence", records=True)
    with pytest.raises(ValueError, match="no record is read"):
        survey_records(leaves, level="sequence", profile="pci-10.2.2")
    with pytest.raises(ValueError, match="level is"):
        survey_records(leaves, level="all")  # type: ignore[arg-type]


def test_a_late_record_is_not_a_copy() -> None:
    """A number that was missing and comes is late, once; then it is a copy."""
    leaves = moved(moved(FINISHED, 5, 12), 7, 14)

    assert ["late", "late"] == [c for c in codes(leaves) if c in {"late", "duplicate"}]
    assert "duplicate" in codes([*leaves, FINISHED[5]])


def test_a_log_that_was_pruned() -> None:
    """Where the first leaves are gone on purpose, what is left of a writer is whole."""
    made = book().start(BOB).call(BOB, 3)
    intent = made.leaf(ALICE, "intent", **CALL)
    made.call(ALICE, 2).call(ALICE, intent=intent).beat(ALICE).end(ALICE).end(BOB)
    for first in (1, 7, 22, 26, 27):
        survey = _survey.Survey()
        survey.feed(first, made.leaves[first:])
        survey.close(None, None)

        assert () == survey.notes.findings(), first


PLACE_A, PLACE_B = "place a", "place b"
UNDER_HOLD: list[tuple[str, list[str], set[int], list[int]]] = [
    ("gone under a hold", [PLACE_A, "prune 512"], {1}, [1]),
    ("gone from the first on", [PLACE_A, "prune 512"], {0, 1}, [1]),
    ("a hold about some", ["place-some a", "prune 512"], {1}, [1]),
    ("nothing gone: it waits", [PLACE_A, "prune 512"], set(), []),
    ("pruned before the hold", ["prune 512", PLACE_A], {1}, []),
    ("the same again, under a hold", ["prune 512", PLACE_A, "prune 512"], {1}, []),
    ("more of it, under a hold", ["prune 256", PLACE_A, "prune 768"], {0, 1, 2}, [2]),
    ("more of it, and that waits", ["prune 512", PLACE_A, "prune 768"], {0, 1}, []),
    ("less of it, under a hold", ["prune 512", PLACE_A, "prune 256"], {0, 1}, []),
    ("released before", [PLACE_A, "release a", "prune 512"], {1}, []),
    ("released since: it may have waited", [PLACE_A, "prune 512", "release a"], {1}, []),
    ("and placed again", [PLACE_A, "prune 512", "release a", PLACE_A], {1}, []),
    ("another one released", [PLACE_A, "prune 512", "release b"], {1}, [1]),
    ("one of two released", [PLACE_A, PLACE_B, "prune 512", "release a"], {1}, [2]),
    ("one after the other", [PLACE_A, "prune 512", PLACE_B, "release a"], {1}, [1]),
    ("placed twice, released once", [PLACE_A, PLACE_A, "release a", "prune 512"], {1}, []),
    ("two steps", [PLACE_A, "prune 256", "prune 512"], {0, 1}, [1, 2]),
    ("beyond its own leaf", [PLACE_A, "prune 9984"], {1}, []),
    ("in no form", [PLACE_A, "prune x", "prune 512"], {1}, [2]),
]


@pytest.mark.parametrize(
    ("events", "gone", "expected"), [f[1:] for f in UNDER_HOLD], ids=[f[0] for f in UNDER_HOLD]
)
def test_what_was_pruned_under_a_hold(
    events: list[str], gone: set[int], expected: list[int]
) -> None:
    """A removal is named where it cannot have waited for a moment without a hold, else never."""
    made = Book().start(ALICE).call(ALICE, 767)
    for event in events:
        what, said = event.split()
        if what == "prune":
            minimum: JSON = int(said) if said.isdigit() else said
            made.leaf(ALICE, "prune", prune={"minimum": minimum, "writers": {ALICE: 768}})
        else:
            more: dict[str, JSON] = {"subjects": ["f" * 32]} if "some" in what else {}
            state = "released" if what == "release" else "placed"
            made.leaf(ALICE, "hold", hold={"name": said, "state": state, **more})
    survey = _survey.Survey()
    for number in {0, 1, 2, 3} - gone:
        survey.feed(256 * number, made.leaves[256 * number : 256 * (number + 1)])
    survey.close(None, None)
    found = [one for one in survey.notes.findings() if one.code != "sequence-gap"]

    assert [768 + one for one in expected] == [one.index for one in found]
    assert {("prune-under-hold", WARNING)} >= {(one.code, one.severity) for one in found}


def test_a_pruning_under_a_hold_says_how_much() -> None:
    """The finding names the holds and the entries that this record alone let go."""
    made = Book().start(ALICE).call(ALICE, 767)
    for name in ("b", "a"):
        made.leaf(ALICE, "hold", hold={"name": name, "state": "placed"})
    made.leaf(ALICE, "prune", prune={"minimum": 512, "writers": {ALICE: 512}})
    survey = _survey.Survey()
    survey.feed(0, made.leaves[:256])
    survey.feed(512, made.leaves[512:])
    survey.close(None, None)
    (found,) = survey.notes.findings()

    assert "below entry 512 under a legal hold, 'a', 'b': 256 entries are gone" in found.what


def test_ids_across_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records far apart that share an id are both named; from a stream, nearly."""
    monkeypatch.setattr(_ids, "_RUN", 512)
    monkeypatch.setattr(_ids, "_BLOCK", 16)
    made = Book().start(ALICE)
    for _ in range(3000):
        made.wait(0.001).call(ALICE)
    twin = made.leaf(ALICE, "call", **RAN)
    made.call(ALICE, 900)
    assert [] == codes(made.leaves)
    made.leaf(ALICE, "call", **RAN, id=twin)
    (found,) = survey_records(made.leaves).findings
    (streamed,) = survey_records(iter(made.leaves)).findings

    assert ("leaf 3902", "has the id of record 3001") == (found.place, found.what)
    assert "one of the leaves 3584 to 3902" == streamed.place
    assert "leaves 2560 to 3071" in streamed.what or "leaves 3000" in streamed.what


@pytest.mark.parametrize("order", ["sorted", "shuffled", "reversed", "late"])
def test_ids_are_compared_exactly(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """In whatever order ids come, exactly those that occur twice are found."""
    monkeypatch.setattr(_ids, "_RUN", 64)
    monkeypatch.setattr(_ids, "_BLOCK", 4)
    draw = random.Random(7)  # noqa: S311  a test's dice
    for size in (0, 1, 63, 64, 65, 500, 1000):
        values = sorted(draw.sample(range(10**6), size))
        values += draw.sample(values, min(3, size))
        if order == "shuffled":
            draw.shuffle(values)
        elif order == "reversed":
            values.reverse()
        elif order == "late" and size > 10:
            values = values[10:] + values[:10]
        texts = [f"{v:08x}-0000-7000-8000-{v:012x}" for v in values]
        ids = _ids.Ids()
        for first in range(0, len(texts), 10):
            ids.extend(first, texts[first : first + 10])
        across = ids.across()
        twice = {t for t in texts if texts.count(t) > 1} if size < 600 else set(texts[-3:])
        found = set(across) | {texts[index] for index, _ in ids.within}
        if size < 600:
            assert twice == found, (order, size)
        assert all(texts[a] == texts[b] for a, b in ids.within)
        for text, places in across.items():
            assert all(text in texts[low:high] for low, high in places)


def clean(draw: random.Random) -> list[bytes]:
    """Return a log as honest writers leave it, whatever happens to them."""
    made = Book()
    names = [f"{draw.getrandbits(128):032x}" for _ in range(draw.randint(1, 3))]
    beat = draw.choice([0, 30])
    open_intents: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        made.start(name, beat)
    for _ in range(draw.randint(0, 25)):
        name = draw.choice(names)
        made.wait(draw.choice([0, 0.001, 1, 20]))
        what = draw.randrange(6)
        if what == 0:
            open_intents[name].append(made.leaf(name, "intent", **CALL))
        elif what == 1 and open_intents[name]:
            made.call(name, intent=open_intents[name].pop(draw.randrange(len(open_intents[name]))))
        elif what == 2:
            made.leaf(name, "config", config={"name": "threshold"})
        else:
            made.call(name, outcome=draw.choice(["ok", "error", "denied"]))
        for each in names if beat else ():
            made.beat(each)
    for name in names:
        for intent in open_intents[name]:
            made.call(name, intent=intent)
        if draw.random() < 0.7:
            made.end(name)
    return made.leaves


def test_ten_thousand_clean_logs_raise_no_alarm() -> None:
    """Nothing is found in logs as honest writers leave them."""
    draw = random.Random(20261122)  # noqa: S311  a test's dice
    pool: list[tuple[list[bytes], AuditReport]] = []
    for _ in range(1_000):
        leaves = clean(draw)
        pool.append((leaves, survey_records(leaves)))
        assert () == pool[-1][1].findings
        assert () == survey_records(leaves, level="sequence").findings
    for number in range(9_000):
        # A log seen while it grew is clean as well: intents may be open, and writers.
        leaves = pool[number % 1_000][0]
        part = leaves[: draw.randint(0, len(leaves))]
        assert () == survey_records(part).findings


def changes(leaves: list[bytes], draw: random.Random) -> Iterator[tuple[str, list[bytes]]]:
    """Yield logs with one thing changed that a survey has to notice."""
    place = draw.randrange(1, len(leaves) - 2)
    other = draw.randrange(1, len(leaves) - 2)
    yield "delete", leaves[:place] + leaves[place + 1 :]
    yield "replay", [*leaves[:place], leaves[other], *leaves[place:]]
    if leaves[place][17:49] == leaves[other][17:49] and place != other:
        swapped = leaves.copy()
        swapped[place], swapped[other] = swapped[other], swapped[place]
        yield "swap", swapped
        yield "replace", [*leaves[:place], leaves[other], *leaves[place + 1 :]]
    yield "cut the head", leaves[place:]
    strange = b"d" * 32
    yield (
        "splice",
        [
            *leaves[:place],
            leaves[other].replace(leaves[other][17:49], strange, 1),
            *leaves[place:],
        ],
    )


def test_structural_changes_are_found() -> None:
    """A leaf deleted, replayed, swapped, replaced, cut off at the head or spliced in is found."""
    draw = random.Random(5)  # noqa: S311  a test's dice
    for _ in range(300):
        made = book().start(BOB)
        for _ in range(30):
            made.wait(1).call(draw.choice([ALICE, BOB]))
        leaves = made.end(ALICE).end(BOB).leaves
        for what, changed in changes(leaves, draw):
            assert not survey_records(changed).ok, what
            if what != "splice":
                assert not survey_records(changed, level="sequence").ok, what


def test_changed_bytes_never_pass_for_another_record() -> None:
    """Whatever bytes a leaf has, the survey judges it as the full reader does."""
    draw = random.Random(11)  # noqa: S311  a test's dice
    leaves = book().leaves
    for _ in range(3_000):
        leaf = bytearray(leaves[draw.randrange(15, len(leaves))])
        for _ in range(draw.randint(1, 2)):
            leaf[draw.randrange(PREFIX_SIZE, len(leaf))] = draw.choice(
                b'"{}:,\\0159afTZ- \x00\x7f\xff\xc3\xa9'
            )
        kept = survey_records([*leaves, bytes(leaf)])
        bad = [one for one in kept.findings if one.code == "not-a-record"]
        try:
            audit.Record.decode(bytes(leaf))
        except FormatError:
            assert 1 == len(bad)
        else:
            assert [] == bad


def test_a_profile_is_held_against_calls() -> None:
    """Calls that lack what a profile demands are findings; reviews may come later."""
    made = Book().start(ALICE)
    good: dict[str, JSON] = {
        "actor": {"id": "0" * 32, "type": "user"},
        "source": {"host": "h"},
        "target": {"type": "table", "id": "t"},
    }
    made.call(ALICE, 12, **good).call(ALICE, 2, actor=good["actor"])
    report = survey_records(made.leaves, profile="pci-10.2.2")

    assert {"profile": 4} == report.found
    assert "leaf 13 has no 'source'" in str(report.findings[0])
    with pytest.raises(ValueError, match="is no profile"):
        survey_records(made.leaves, profile="none")


def test_a_profile_waits_for_reviews() -> None:
    """A demand that a later record meets is judged at the end."""
    made = Book().start(ALICE)
    use: dict[str, JSON] = {
        "in": {"face": {"alg": "hmac-sha256", "commitment": "0" * 64}},
        "period": {"start": format_time(BEGIN), "end": format_time(BEGIN)},
        "refdb": {"name": "watch list"},
    }
    first = made.leaf(ALICE, "call", **RAN, **use)
    made.leaf(ALICE, "call", **RAN, **use)
    for reviewer in "12":
        made.leaf(
            ALICE,
            "human-review",
            review=first,
            oversight={"action": "approved", "reviewers": [reviewer * 32]},
        )
    report = survey_records(made.end(ALICE).leaves, profile="eu-ai-act-12-3")

    assert [2] == [one.index for one in report.findings]
    assert "two people" in report.findings[0].what


def test_severities_are_two() -> None:
    """Every code has one of the two severities."""
    assert {ERROR, WARNING} == set(_notes.CODES.values())


def test_ids_keep_their_place_across_a_hole() -> None:
    """What was pruned does not move the places of what is left."""
    made = Book().start(ALICE).call(ALICE, 3)
    twin = made.leaf(ALICE, "call", **RAN)
    made.call(ALICE, 2)
    made.leaf(ALICE, "call", **RAN, id=twin)
    survey = _survey.Survey()
    survey.feed(0, made.leaves[:5])
    survey.feed(512, made.leaves[5:])
    survey.close(None, None)
    (found,) = survey.notes.findings()

    assert ("duplicate-id", "one of the leaves 512 to 514") == (found.code, found.place)
    assert "leaves 0 to 4, leaves 512 to 514" in found.what


def test_an_id_is_found_at_its_own_place_only() -> None:
    """Bytes that look like an id, and lie across two, are none."""
    ids = bytes(range(32)) + bytes(range(32, 48))
    run = _ids._Run(0, 3, ids)

    assert run.holds(bytes(range(16, 32)))
    assert not run.holds(bytes(range(8, 24)))
    assert _ids._Run(0, 3, bytes(8) + bytes(range(1, 17)) + bytes(range(1, 17)) + b"x" * 8).holds(
        bytes(range(9, 17)) + bytes(range(1, 9))
    )
