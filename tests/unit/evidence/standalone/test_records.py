"""What the single file says about the completeness of an audit log: each rule, kept and broken."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from secureml.audit import profiles
from secureml.audit.record import Record
from secureml.audit.verify import survey_records
from secureml.errors import FormatError
from secureml.evidence.standalone import verify_log
from secureml.evidence.standalone.verify_log import EU, PCI, read_body

VECTORS = Path(__file__).parents[4] / "vectors/audit-record"
LEAVES = json.loads((VECTORS / "leaves.json").read_text("utf-8"))["leaves"]
REFUSED = json.loads((VECTORS / "refused.json").read_text("utf-8"))["inputs"]
A, B = "a" * 32, "b" * 32
PERIOD = {"start": "2026-11-22T08:30:00.000000Z", "end": "2026-11-22T08:31:00.000000Z"}
COMMITTED = {"x": {"alg": "hmac-sha256", "commitment": "00" * 32}}


def nested(depth: int, inside: str = "") -> str:
    """Return an object that holds so many lists within lists."""
    return '{"x":' + "[" * depth + inside + "]" * depth + "}"


def found(report: dict[str, Any]) -> list[str]:
    """Return the findings of a report, one line each."""
    return [f"{one['entry']}: {one['what']}" for one in report["findings"]]


def accepted(leaf: bytes) -> bool:
    """Return whether the single file takes a leaf for an audit record."""
    try:
        read_body(leaf[67:])
    except ValueError:
        return False
    return verify_log.PREFIX.match(leaf) is not None


@pytest.mark.parametrize("name", LEAVES)
def test_good_leaves_are_records(name: str) -> None:
    """The vectors of good leaves are records to both readers."""
    leaf = LEAVES[name].encode()

    assert accepted(leaf)
    assert read_body(leaf[67:]) == dict(Record.decode(leaf).body)


@pytest.mark.parametrize("name", REFUSED)
def test_bad_leaves_are_none(name: str) -> None:
    """The vectors of broken leaves are records to neither."""
    leaf = REFUSED[name].encode("utf-8", "surrogatepass")

    assert not accepted(leaf)
    with pytest.raises(FormatError):
        Record.decode(leaf)


@pytest.mark.parametrize(
    "body",
    [
        nested(63),
        nested(64),
        nested(63, "1"),
        nested(30_000),
        '{"x":9007199254740991}',
        '{"x":9007199254740992}',
        '{"x":-9007199254740991}',
        '{"x":-9007199254740992}',
        '{"x":' + "9" * 5_000 + "}",
        '{"x":1.0}',
        '{"x":NaN}',
        '{"x":"\ufb33"}',
        '{"x":{"\U0001f600":1,"\ufb33":2}}',
        '{"x":{"\ufb33":2,"\U0001f600":1}}',
        '{"x":"\\ud800"}',
        '{"x":1,"x":1}',
        '{"X":1}',
        '{"time":"2026-02-30T00:00:00.000000Z"}',
        '{"time":"2024-02-29T23:59:60.000000Z"}',
        '{"time":"2024-02-29T23:59:59.000000Z"}',
        '{"time":"0000-01-01T00:00:00.000000Z"}',
        '{"x":"\u0085"}',
        '{"action":"' + "\U0001f600" * 128 + '"}',
        '{"action":"' + "a" * 129 + '"}',
        '{"in":{"":{"alg":"x"}}}',
        '{"in":{"a":{"alg":"x"}}}',
        '{"in":{"a\x7f":{"alg":"x"}}}',
        '{"in":{"a":{"alg":"hmac-sha256"}}}',
        "[]",
        "",
        "\ufeff{}",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_both_readers_agree(body: str) -> None:
    """Nesting, numbers, order of keys, times and lengths: what one refuses the other refuses."""
    rest = {"record": {"id": "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c22"}, "type": "other"}
    given = json.loads(body) if body.startswith('{"time"') else {}
    if body.startswith("{") and len(body) < 20_000:
        rest["time"] = cast("Any", given.get("time", "2026-11-22T08:30:00.000000Z"))
        extra = "" if given else body[1:-1] + ","
        lines = sorted(f'"{k}":{json.dumps(v, separators=(",", ":"))}' for k, v in rest.items())
        joined = sorted([*lines, extra[:-1]] if extra else lines)
        body = "{" + ",".join(joined) + "}"
    data = body.encode("utf-8", "surrogatepass")
    leaf = b"secureml-audit/1 %s %016x\n" % (A.encode(), 0) + data

    try:
        Record.decode(leaf)
    except FormatError:
        expected = False
    else:
        expected = True

    assert accepted(leaf) == expected


def test_a_complete_log(make: Callable[..., Any], record: Any) -> None:  # noqa: ANN401
    """Two writers that begin, go on and end: complete, with what no checkpoint covers."""
    entries = [
        record("start"),
        record("start", writer=B),
        record("intent"),
        record("call", intent=record.identity(3)),
        record("heartbeat", heartbeat={"records": 4}),
        record("call", writer=B),
        record("end", end={"records": 5}),
        record("end", writer=B, end={"records": 3}),
    ]
    made = make(entries, cuts=(4,))
    report = made.verify("--audit")

    assert (report["verdict"], report["records"]) == ("ok", "complete; 2 writers")
    assert (report["rollback"], report["undetected"]) == ("not checkable", "whole log")
    later = made.verify("--remembered", made.remember(1))
    assert later["rollback"] == "checked"
    assert later["undetected"] == "entries 4 to 7, 4 s from 2026-11-22T08:00:04.000000Z"
    everything = made.verify("--remembered", made.remember(-1))
    assert everything["undetected"] == "none"
    assert made.verify("--quick")["records"] == "not looked at; 2 writers"
    assert survey_records(entries).findings == ()


Make = Callable[..., Any]
Maker = Callable[[Any], tuple[list[bytes], list[str]]]
BROKEN: dict[str, Maker] = {
    "missing": lambda r: (
        [r("start"), r("call", seq=2)],
        ["1: writer aaaaaaaa goes from 0 to 2: 1 missing"],
    ),
    "twice": lambda r: (
        [r("start"), r("call"), r("call", seq=1)],
        ["2: writer aaaaaaaa goes from 1 to 1: twice, or late"],
    ),
    "late": lambda r: (
        [r("start"), r("call", seq=2), r("call", seq=1)],
        [
            "1: writer aaaaaaaa goes from 0 to 2: 1 missing",
            "2: writer aaaaaaaa goes from 2 to 1: twice, or late",
        ],
    ),
    "no start": lambda r: ([r("call")], ["0: writer aaaaaaaa has a call as number 0"]),
    "start again": lambda r: (
        [r("start"), r("start")],
        ["1: writer aaaaaaaa has a start as number 1"],
    ),
    "after the end": lambda r: (
        [r("start"), r("end", end={"records": 2}), r("call")],
        ["2: writer aaaaaaaa goes on after its end"],
    ),
    "wrong end": lambda r: (
        [r("start"), r("end", end={"records": 3})],
        ["1: writer aaaaaaaa counts 3 records, not 2"],
    ),
    "wrong heartbeat": lambda r: (
        [r("start"), r("heartbeat", heartbeat={"records": 1})],
        ["1: writer aaaaaaaa counts 1 records, not 2"],
    ),
    "an id twice": lambda r: (
        [r("start"), r("call", record={"id": r.identity(1)})],
        ["1: has the id of entry 0"],
    ),
    "more taken over than there is": lambda r: (
        [
            r("start"),
            r("start", writer=B),
            r("recovery", recovery={"records": 2, "verdict": "torn", "writer": B}),
        ],
        ["2: took over 2 records, not 1"],
    ),
    "taken over from nobody": lambda r: (
        [r("start"), r("recovery", recovery={"records": 1, "verdict": "clean", "writer": B})],
        ["1: took over 1 records, and there are none"],
    ),
    "corrupt remains": lambda r: (
        [
            r("start"),
            r("recovery", recovery={"records": 3, "verdict": "corrupt", "writer": B}),
        ],
        ["1: writer bbbbbbbb left its records corrupt"],
    ),
    "an intent without a call": lambda r: (
        [r("start"), r("intent"), r("end", end={"records": 3})],
        ["1: writer aaaaaaaa announced a call, and never said how it ended"],
    ),
    "silence": lambda r: (
        [
            r("start", start={"heartbeat_s": 1}),
            r("start", writer=B),
            r("call", writer=B),
            r("call", writer=B),
        ],
        ["0: writer aaaaaaaa fell silent for 3 s, without an end"],
    ),
    "no record at all": lambda r: (
        [r("start"), b"secureml-audit/1 nonsense"],
        ["1: is no audit record: it does not begin as one"],
    ),
    "no record inside": lambda r: (
        [r("start"), r("call", outcome="fine")],
        ["1: is no audit record: the field 'outcome' is not in its form"],
    ),
    "a field missing": lambda r: (
        [r("start"), r("call", latency_us=None)],
        ["1: is no audit record: a record of type 'call' has no field 'latency_us'"],
    ),
    "no time": lambda r: (
        [r("start"), r("call", time=None)],
        ["1: is no audit record: it has no field 'time'"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_broken(make: Callable[..., Any], record: Any, name: str) -> None:  # noqa: ANN401
    """What a verifier must report is reported, at its entry, and the log is refused."""
    entries, expected = BROKEN[name](record)
    report = make(entries).verify()

    assert found(report) == expected
    assert report["verdict"] == "refused"
    assert not survey_records(entries).ok


ACCOUNTED: dict[str, Maker] = {
    "gap": lambda r: (
        [r("start"), r("gap", gap={"dropped": 7, "reason": "full"})],
        ["1: writer aaaaaaaa refused 7 records: full"],
    ),
    "disk full": lambda r: (
        [r("start"), r("disk-full", disk_full={"refused": 7})],
        ["1: writer aaaaaaaa had no room for 7 records"],
    ),
    "killed": lambda r: (
        [
            r("start", writer=B),
            r("intent", writer=B),
            r("start"),
            r("recovery", recovery={"records": 2, "verdict": "torn", "writer": B}),
        ],
        [
            "1: writer bbbbbbbb announced a call, and never said how it ended",
            "1: writer bbbbbbbb died after this; entry 3 took over",
        ],
    ),
    "dropped after it was announced": lambda r: (
        [
            r("start"),
            r("intent"),
            r("gap", gap={"dropped": 1, "reason": "full"}),
            r("end", end={"records": 4}),
        ],
        [
            "1: writer aaaaaaaa announced a call, and never said how it ended",
            "2: writer aaaaaaaa refused 1 records: full",
        ],
    ),
    "a verdict of later": lambda r: (
        [r("start"), r("recovery", recovery={"records": 2, "verdict": "odd", "writer": B})],
        ["1: writer bbbbbbbb left its records odd"],
    ),
    "an intent that is none": lambda r: (
        [r("start"), r("call", intent=r.identity(9))],
        ["1: names an intent that writer aaaaaaaa has not announced, or twice"],
    ),
}


@pytest.mark.parametrize("name", ACCOUNTED)
def test_what_a_log_accounts_for_is_a_warning(make: Make, record: Any, name: str) -> None:  # noqa: ANN401
    """What the log says itself about what it lacks is shown, and does not make it unfit."""
    entries, expected = ACCOUNTED[name](record)
    report = make(entries).verify()

    assert [f"{one['entry']}: {one['what']}" for one in report["warnings"]] == expected
    assert (report["verdict"], found(report)) == ("ok", [])
    assert survey_records(entries).ok


def test_not_all_warnings_are_kept(
    make: Make,
    record: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No number of warnings hides a finding."""
    monkeypatch.setattr(verify_log, "KEPT", 2)
    gaps = [record("gap", gap={"dropped": 1, "reason": "full"}, seq=n) for n in range(1, 9)]
    report = make([record("start", seq=0), *gaps, b"x"]).verify()

    assert len(report["warnings"]) == 2
    assert len(found(report)) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "recovery", "recovery": {"records": 1, "verdict": "torn", "writer": A}},
        {"kind": "seal", "writer": A, "seal": {}},
        {"kind": "call", "writer": A},
    ],
    ids=["recovered", "sealed", "not silent yet"],
)
def test_silence_that_is_none(make: Callable[..., Any], record: Any, more: dict[str, Any]) -> None:  # noqa: ANN401
    """A writer that was taken over, has sealed, or spoke a moment ago is no finding."""
    kind = more.pop("kind")
    writer = more.pop("writer", B)
    entries = [
        record("start", start={"heartbeat_s": 1}),
        record("start", writer=B),
        record("call", writer=B),
        record(kind, writer=writer, **more),
        record("call", writer=B),
    ]

    assert found(make(entries).verify()) == []


def test_a_clock_that_was_set_back(make: Make, record: Any) -> None:  # noqa: ANN401
    """After a jump of its clock a writer is judged by the new time."""
    entries = [
        record("start", start={"heartbeat_s": 1}),
        record("call", time=record.time(9_000)),
        record("clock", clock={"jump_us": -9_000_000_000}),
        record("start", writer=B),
    ]

    assert found(make(entries).verify()) == []


def test_an_intent_of_a_writer_at_work_is_open(make: Callable[..., Any], record: Any) -> None:  # noqa: ANN401
    """An intent may wait for its call as long as its writer has not ended."""
    assert found(make([record("start"), record("intent"), record("call")]).verify()) == []


def test_records_behind_something_else(make: Callable[..., Any], record: Any) -> None:  # noqa: ANN401
    """Whoever puts another entry first does not switch the checks off."""
    entries = [b"x"] * 256 + [record("start"), b"x"]

    assert found(make(entries).verify()) == [
        "0: and all before entry 256 are no audit records",
        "257: is no audit record: it does not begin as one",
    ]
    assert found(make([b"x", record("start", seq=0)], name="two").verify()) == [
        "0: is no audit record: it does not begin as one"
    ]


def test_no_audit_log(make: Callable[..., Any]) -> None:
    """Other entries are opaque, unless --audit or a profile asks for records."""
    made = make([b"one", b"two"])

    assert made.verify()["records"] == "no audit log"
    assert len(found(made.verify("--audit"))) == 2
    assert len(found(made.verify("--profile", PCI))) == 2


def test_not_all_findings_are_kept(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All findings are counted, the first ones are shown."""
    monkeypatch.setattr(verify_log, "KEPT", 3)
    report = make([b"x"] * 10).verify("--audit")

    assert report["records"] == "10 findings; 0 writers"
    assert [one.partition(":")[0] for one in found(report)] == ["0", "1", "2"]


def test_many_ids_and_two_that_are_the_same(make: Callable[..., Any], record: Any) -> None:  # noqa: ANN401
    """Two records with one id are named also when they are bundles apart."""
    entries = [record("start"), *(record("call") for _ in range(600))]
    entries[599] = record("call", seq=599, record={"id": record.identity(12)})
    entries[300] = b"secureml-audit/1 %s %016x\n{}" % (A.encode(), 300)

    assert found(make(entries).verify()) == [
        "300: is no audit record: it has no field 'record'",
        "599: has the id of entry 11",
    ]


def eu(record: Any, **more: object) -> bytes:  # noqa: ANN401
    """Return a call with what Article 12 (3) asks for, but for what is None."""
    fields = {"in": COMMITTED, "period": PERIOD, "refdb": {"name": "watch-list"}, **more}
    return cast("bytes", record("call", **fields))


def test_the_profile_of_the_ai_act(make: Callable[..., Any], record: Any) -> None:  # noqa: ANN401
    """Article 12 (3): period, reference database, input, and two people who looked at it."""
    two = {"reviewers": [A, B]}
    entries = [
        record("start"),
        eu(record, oversight=two),
        eu(record, oversight={"reviewers": [A]}),
        record("human-review", review=record.identity(3), oversight={"reviewers": [B]}),
        record("human-review", review=record.identity(99), oversight=two),
        eu(record, oversight={"reviewers": [A, A]}),
        eu(record, outcome="error"),
        eu(record, oversight=two, period=None, refdb=None, **{"in": None}),
        eu(record, oversight=two, period={"start": PERIOD["start"]}),
    ]
    made = make(entries)

    assert found(made.verify("--profile", EU)) == [
        f"5: lacks two reviewers ({EU})",
        f"6: lacks two reviewers ({EU})",
        f"7: lacks in ({EU})",
        f"7: lacks period ({EU})",
        f"7: lacks refdb ({EU})",
        f"8: lacks period ({EU})",
    ]
    assert found(made.verify()) == []


def test_the_profile_of_pci(make: Callable[..., Any], record: Any) -> None:  # noqa: ANN401
    """PCI DSS 10.2.2: who, what, when, whether it worked, from where, and what was affected."""
    good = {
        "actor": {"id": A, "type": "user"},
        "source": {"host": "till-4"},
        "target": {"type": "account", "id": "4711"},
    }
    entries = [
        record("start"),
        record("call", **good),
        record("access", action="read", actor=good["actor"]),
        record("call", **{**good, "source": {}, "target": {"type": "account"}, "actor": None}),
    ]
    made = make(entries)

    assert found(made.verify("--profile", PCI)) == [
        f"3: lacks actor ({PCI})",
        f"3: lacks source ({PCI})",
        f"3: lacks target ({PCI})",
    ]
    assert len(found(made.verify("--profile", PCI, "--profile", EU))) == 3 + 2 * 4


@pytest.mark.parametrize("name", [EU, PCI])
def test_the_library_asks_for_the_same(record: Any, name: str) -> None:  # noqa: ANN401
    """What a call lacks is the same to both, whatever it has."""
    parts: dict[str, list[object]] = {
        "actor": [None, {"id": A, "type": "user"}],
        "in": [None, {}, COMMITTED],
        "oversight": [None, {"reviewers": [A, B]}],
        "period": [None, {"start": PERIOD["start"]}, {"end": PERIOD["end"]}, PERIOD],
        "refdb": [None, {"digest": "sha256:" + "0" * 64}, {"name": "x"}],
        "source": [None, {}, {"address": "10.0.0.1"}, {"host": "x"}],
        "target": [None, {"type": "x"}, {"name": "x"}, {"id": "x"}],
    }
    for values in itertools.product(*parts.values()):
        body = read_body(record("call", **dict(zip(parts, values, strict=True)))[67:])
        theirs = {one.field for one in profiles.check(body, name)} - {"oversight"}

        assert theirs == set(verify_log.lacks(name, body))


# --- What was pruned


def pruned(make: Make, record: Any, **said: object) -> Any:  # noqa: ANN401
    """Return a log of 600 records whose second bundle was removed, and which says so."""
    entries = [record("start"), record("start", writer=B)]
    entries += [record("call", writer=(A, B)[n % 2]) for n in range(600)]
    entries.append(
        record(
            "prune",
            prune={"kept": [0], "minimum": 512, "writers": {A: 256, B: 256}, **said},
        )
    )
    entries += [record("end", end={"records": 303}), record("end", writer=B, end={"records": 302})]
    made = make(entries, cuts=(100, 300, 520))
    (made.path / "tile/entries/001").unlink()
    return made


def test_a_pruned_log(make: Make, record: Any) -> None:  # noqa: ANN401
    """Where a record says that a bundle was removed, its hashes stand in for it."""
    made = pruned(make, record)
    report = made.verify()

    assert (report["verdict"], found(report)) == ("ok", [])
    assert report["tree"].endswith("; 1 bundles pruned")
    assert made.verify("--quick")["verdict"] == "ok"
    for which in range(len(made.notes)):
        assert made.verify("--remembered", made.remember(which))["verdict"] == "ok"


@pytest.mark.parametrize(
    "said",
    [
        {"kept": [0, 1]},
        {"minimum": 256},
        {"minimum": 768},
        {"minimum": "512"},
    ],
    ids=str,
)
def test_a_bundle_that_nobody_pruned(make: Make, record: Any, said: dict[str, Any]) -> None:  # noqa: ANN401
    """A bundle that is missing without a record that says so is missing."""
    report = pruned(make, record, **said).verify()

    assert (
        report["error"] == "'tile/entries/001' is missing, and no record says that it was pruned"
    )
    assert report["file"] == "tile/entries/001"


def test_records_removed_beyond_what_the_pruning_says(make: Make, record: Any) -> None:  # noqa: ANN401
    """Each writer goes on where the record that says so has it."""
    made = pruned(make, record, writers={A: 255, B: 256})

    for mode in ((), ("--quick",)):
        assert found(made.verify(*mode)) == [
            "512: writer aaaaaaaa goes on at 256, the pruning says 255"
        ]


UNDER_HOLD = [
    (["placed h", "prune"], True, "'h'"),
    (["placed h", "placed a", "prune"], True, "'a', 'h'"),
    (["placed h", "prune", "placed a", "released h"], True, "'h'"),
    (["placed h", "prune", "prune"], True, "'h'"),
    (["placed h", "prune 256", "prune"], True, "'h'"),
    (["placed h", "prune 9984", "prune"], True, "'h'"),
    (["placed h", "prune"], False, ""),
    (["prune", "placed h"], True, ""),
    (["prune", "placed h", "prune"], True, ""),
    (["placed h", "released h", "prune"], True, ""),
    (["placed h", "prune", "released h"], True, ""),
    (["placed h", "prune", "released h", "placed h"], True, ""),
]


@pytest.mark.parametrize(("events", "gone", "holds"), UNDER_HOLD, ids=str)
def test_what_was_pruned_under_a_hold(
    make: Make,
    record: Any,  # noqa: ANN401
    events: list[str],
    gone: bool,  # noqa: FBT001
    holds: str,
) -> None:
    """A removal is named where it cannot have waited for a moment without a hold, else never."""
    entries = [record("start"), *(record("call") for _ in range(599))]
    for event in events:
        what, said = [*event.split(), "512"][:2]
        if what == "prune":
            told = {"kept": [0], "minimum": int(said), "writers": {A: 512}}
            entries.append(record("prune", prune=told))
        else:
            entries.append(record("hold", hold={"name": said, "state": what}))
    made = make(entries)
    if gone:
        (made.path / "tile/entries/001").unlink()
    report = made.verify()
    first = next((n for n, e in enumerate(events, 600) if e in {"prune", "prune 512"}), None)

    assert (report["verdict"], found(report)) == ("ok", [])
    what = f"prunes below 512 under a legal hold, {holds}: 256 entries are gone, and since then "
    named = [{"entry": first, "what": what + "there was no time without one"}] if holds else []
    assert report["warnings"] == named


def test_a_pruning_in_two_steps(make: Make, record: Any) -> None:  # noqa: ANN401
    """Each record is named for what it alone let go; a stretch may be shared."""
    entries = [record("start"), *(record("call") for _ in range(767))]
    entries.append(record("hold", hold={"name": "h", "state": "placed"}))
    entries += [record("prune", prune={"minimum": m, "writers": {A: 512}}) for m in (256, 512)]
    made = make(entries)
    for number in ("000", "001"):
        (made.path / "tile/entries" / number).unlink()

    assert [one["entry"] for one in made.verify()["warnings"]] == [769, 770]
    assert made.verify("--quick")["warnings"] == []


def test_a_tile_in_place_of_its_entries(make: Make, record: Any) -> None:  # noqa: ANN401
    """The hashes that stand in for what was pruned are those of the signed root."""
    made = pruned(make, record)
    path = made.path / "tile/0/001"
    path.write_bytes(bytes(32) + path.read_bytes()[32:])

    assert made.verify()["verdict"] == "refused"
    path.unlink()
    assert made.verify()["file"] == "tile/0/001"
