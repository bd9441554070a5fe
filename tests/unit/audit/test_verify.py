# ruff: noqa: ANN401, ARG001  fixtures and hostile values are of any type, and some are not read
"""Whatever is done to records or details is found, and named with its place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.audit.details import Detail, Sealed, read_segment
from secureml.audit.record import PREFIX_SIZE, Record, prefix
from secureml.audit.value import encode
from secureml.errors import DigestMismatchError, FormatError, StoreError, VerificationError


@pytest.fixture
def leaves(bench: Any, audited: Any) -> list[bytes]:
    """Return the leaves of a log of five calls, closed."""

    @audited(action="predict", capture=["row", "flag", "return"])
    def predict(row: dict[str, Any], flag: bool) -> float:  # noqa: FBT001  a test's value
        return row["a"] * 2.0

    for n in range(5):
        predict({"a": n}, flag=True)
    bench.log.close()
    found = list(bench.open().log.entries())
    assert len(found) == 7
    return found


def segment(bench: Any) -> Path:
    """Return the one details file."""
    (found,) = bench.details.glob("*.jsonl")
    return Path(found)


def findings(leaves: list[bytes]) -> list[str]:
    """Return what is wrong with these leaves."""
    report = audit.survey_records(leaves, records=True)
    found = [str(finding) for finding in report.findings]
    if found:
        with pytest.raises(VerificationError) as caught:
            audit.check_records(leaves)
        assert found[0] in caught.value.why
    else:
        assert report.records == audit.check_records(leaves)
    return found


def test_an_untouched_log_has_no_finding(leaves: list[bytes]) -> None:
    """Nothing is said about a log that is as it was written."""
    report = audit.survey_records(leaves)

    assert findings(leaves) == []
    assert (report.outcomes, report.unfinished, report.count) == ({"ok": 5}, (), 7)
    assert report.records is None
    assert "outcome ok" in report._repr_html_()


def test_a_log_that_was_cut_is_unfinished(leaves: list[bytes]) -> None:
    """Without an end a writer was killed, or the tail is gone: that is shown, and no finding."""
    report = audit.survey_records(leaves[:-1])

    assert report.findings == ()
    assert len(report.unfinished) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x[:3] + x[4:], "leaf 3 writer .* goes from number 2 to 4: 1 record missing"),
        (lambda x: x[:2] + x[4:], "leaf 2 writer .*: 2 records missing"),
        (lambda x: x[1:], "leaf 0 writer .* has a 'call' as number 1|goes from number -1 to 1"),
        (lambda x: [*x[:3], x[2], *x[3:]], "leaf 3 writer .* has number 2 a second time"),
        (lambda x: [x[0], x[2], x[1], *x[3:]], "leaf 1 writer .* 1 record missing"),
        (lambda x: [*x, x[3]], "leaf 7 writer .* goes on after its end"),
        (lambda x: [*x[:3], b"foreign", *x[3:]], "leaf 3 is no audit record"),
        (lambda x: [*x[:3], x[3][:-1], *x[4:]], "leaf 3 is no audit record"),
        (lambda x: [*x[:5], x[6]], "ends with 7 records, there are 6"),
        (lambda x: [*x, b"secureml-audit/1 " + b"0" * 32 + x[3][49:]], "leaf 7 has the id of"),
    ],
)
def test_changes_are_found(
    leaves: list[bytes], change: Callable[[list[bytes]], list[bytes]], expected: str
) -> None:
    """A leaf that is missing, doubled, moved, foreign or damaged is a finding at its place."""
    import re

    found = findings(change(leaves))

    assert any(re.search(expected, line) for line in found), found


def test_many_findings_are_cut_short(leaves: list[bytes]) -> None:
    """An error names twenty findings, and counts the rest."""
    with pytest.raises(VerificationError, match=r"30 findings") as caught:
        audit.check_records([b"x"] * 30)

    assert "and 10 more" in caught.value.why


def edit(bench: Any, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the details as parsed JSON."""
    path = segment(bench)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines = change(lines) or lines
    path.write_bytes(
        b"".join(
            json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n"
            for line in lines
        )
    )


def swap_salts(lines: list[dict[str, Any]]) -> None:
    """Exchange the salts of two values of one record."""
    row, flag = lines[1]["values"]["row"], lines[1]["values"]["flag"]
    row["salt"], flag["salt"] = flag["salt"], row["salt"]


def swap_equal(lines: list[dict[str, Any]]) -> None:
    """Exchange two values that are equal, salts included, between two records."""
    a, b = lines[1]["values"], lines[2]["values"]
    assert a["flag"]["value"] == b["flag"]["value"]
    a["flag"], b["flag"] = b["flag"], a["flag"]


def swap_ids(lines: list[dict[str, Any]]) -> None:
    """Exchange the ids of two lines."""
    lines[1]["id"], lines[2]["id"] = lines[2]["id"], lines[1]["id"]


def other_value(lines: list[dict[str, Any]]) -> None:
    """Write another value under the same salt."""
    lines[1]["values"]["row"]["value"] = lines[2]["values"]["row"]["value"]


ATTACKS: list[tuple[Callable[[list[dict[str, Any]]], object], str]] = [
    (swap_salts, "the value of 'row' was changed"),
    (swap_equal, "the value of 'flag' was changed"),
    (swap_ids, "was changed"),
    (other_value, "the value of 'row' was changed"),
    (lambda x: x[:1] + x[2:], "its details are missing, and no erasure is recorded"),
    (lambda x: x[1]["values"].pop("row") and None, "the value of 'row' is missing"),
    (lambda x: x[1]["values"].update(more=x[1]["values"]["row"]), "have a value for 'more'"),
    (lambda x: [*x, x[1]], "line 6 of details/.*0.jsonl belongs to no record, or is a copy"),
    (lambda x: x[1].update(id="019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"), "line 2 .* to no record"),
    (lambda x: x[1].update(v=2), "line 2 of details/.*0.jsonl is malformed"),
]


@pytest.mark.parametrize(("attack", "expected"), ATTACKS)
def test_changed_details_are_found(
    bench: Any,
    leaves: list[bytes],
    attack: Callable[[list[dict[str, Any]]], object],
    expected: str,
) -> None:
    """A value that was edited, moved, added or removed is a finding."""
    records = audit.check_records(leaves)
    assert audit.check_details(records, bench.details).values == 15

    edit(bench, attack)

    with pytest.raises(VerificationError, match=expected):
        audit.check_details(records, bench.details)


def test_lines_of_a_writer_at_work(bench: Any, leaves: list[bytes]) -> None:
    """Beside a writer, lines at the very end may be ahead of the published records."""
    records = audit.check_records(leaves)
    path = segment(bench)
    lines = path.read_bytes().splitlines(keepends=True)
    path.with_name(path.name.replace("0.jsonl", "1.jsonl")).write_bytes(b"next segm")

    assert 9 == audit.check_details(records[:4], bench.details, open_end=True).values
    assert 3 == len(audit.survey_details(records[:4], bench.details).findings)
    path.write_bytes(b"".join([lines[0], b"stray\n", *lines[1:]]))
    with pytest.raises(VerificationError, match=r"line 2 of details/.*0\.jsonl is malformed"):
        audit.check_details(records[:4], bench.details, open_end=True)


def test_every_byte_of_the_details_counts(bench: Any, leaves: list[bytes]) -> None:
    """A bit flipped anywhere in the details is found."""
    records = audit.check_records(leaves)
    path = segment(bench)
    data = path.read_bytes()

    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert audit.survey_details(records, bench.details).findings, place


def test_a_segment_that_no_record_names(bench: Any, leaves: list[bytes]) -> None:
    """A details file that nothing names is a finding; a missing directory is many."""
    records = audit.check_records(leaves)
    path = segment(bench)
    path.with_name(path.name.replace("0.jsonl", "7.jsonl")).write_bytes(path.read_bytes())

    assert len(audit.survey_details(records, bench.details).findings) == 5
    assert len(audit.survey_details(records, bench.root / "nowhere").findings) == 5
    with pytest.raises(StoreError, match="cannot read"):
        audit.survey_details(records, path)


def test_a_file_that_is_no_details_file(bench: Any, leaves: list[bytes]) -> None:
    """Anything else in the directory is a finding."""
    (bench.details / "notes.txt").touch()

    with pytest.raises(VerificationError, match=r"details/notes\.txt is no details file"):
        audit.check_details(audit.check_records(leaves), bench.details)


def test_some_records_alone(bench: Any, leaves: list[bytes]) -> None:
    """One record's values are checked without the rest; what is wrong elsewhere is passed over."""
    records = audit.check_records(leaves)
    edit(bench, other_value)

    assert audit.check_details([records[1]], bench.details, partial=True).values == 3
    with pytest.raises(VerificationError, match="'row' was changed"):
        audit.check_details([records[2]], bench.details, partial=True)
    edit(bench, lambda lines: lines[:1])
    with pytest.raises(VerificationError, match="missing"):
        audit.check_details([records[3]], bench.details, partial=True)
    report = audit.check_details([records[0]], bench.details, partial=True)
    assert (report.values, report.erased) == (0, 0)
    assert "values that open" in report._repr_html_()


def test_an_erasure_explains_a_missing_line(bench: Any, leaves: list[bytes]) -> None:
    """Details that an erasure leaf names may be gone, and must be."""
    records = audit.check_records(leaves)
    bench.log = bench.open()
    bench.log.append(
        {"erasure": {"reason": "request", "records": [records[2].id]}, "type": "erasure"}
    )
    bench.log.close()
    records = audit.check_records(bench.open().log.entries())

    with pytest.raises(VerificationError, match=r"were erased, and are there"):
        audit.check_details(records, bench.details)
    edit(bench, lambda lines: lines[:1] + lines[2:])
    report = audit.check_details(records, bench.details)

    assert (report.values, report.erased) == (12, 3)
    with pytest.raises(LookupError, match="it was erased"):
        audit.open_value(records[2], bench.details, "row")
    assert audit.matching_path(records[2], bench.details, {"a": 1}) is None


def test_values_are_opened_and_compared(bench: Any, leaves: list[bytes]) -> None:
    """A value is shown after it opened its commitment, and compared by content."""
    records = audit.check_records(leaves)
    record = records[3]

    assert audit.open_value(record, bench.details, "row") == {"a": 2}
    assert audit.matches_input(record, bench.details, "row", {"a": 2})
    assert not audit.matches_input(record, bench.details, "row", {"a": 3})
    assert audit.matching_path(record, bench.details, {"a": 2}) == "row"
    assert audit.matching_path(record, bench.details, 4.0) is None
    with pytest.raises(LookupError, match="did not capture 'column': it captured 'flag', 'row'"):
        audit.open_value(record, bench.details, "column")
    edit(bench, other_value)
    with pytest.raises(DigestMismatchError, match="beside the log is not the one"):
        audit.open_value(records[2], bench.details, "row")


def test_a_value_that_came_by_way_of_json(bench: Any, audited: Any) -> None:
    """Arrays and objects are recognised in what a JSON file holds."""
    np = pytest.importorskip("numpy")
    from dataclasses import dataclass

    @dataclass
    class Row:
        a: float
        b: tuple[int, ...]

    @audited(capture=["row", "array"])
    def predict(row: Row, array: object) -> None: ...

    predict(Row(0.5, (1, 2)), np.array([[1.5, 2.5]]))
    (record,) = bench.calls()

    given = json.loads('{"row": {"b": [1, 2], "a": 0.5}, "array": [[1.5, 2.5]]}')
    assert audit.matching_path(record, bench.details, given["row"]) == "row"
    assert audit.matching_path(record, bench.details, given["array"]) == "array"
    assert audit.matching_path(record, bench.details, {"a": 0.5, "b": [1, 3]}) is None


def test_a_value_that_opens_and_is_malformed(bench: Any) -> None:
    """Bytes that were committed to and are no audit value are a finding."""
    sealed = Sealed.of(b"junk")
    body = {
        "action": "a",
        "call": {"kind": "function", "name": "f"},
        "in": {"row": {"alg": "hmac-sha256", "commitment": sealed.commitment}},
        "latency_us": 0,
        "outcome": "ok",
        "type": "call",
    }
    bench.log.append(body, {"row": sealed})
    bench.log.publish()
    records = audit.check_records(bench.log.log.entries())

    with pytest.raises(VerificationError, match="'row' is malformed"):
        audit.check_details(records, bench.details)
    with pytest.raises(FormatError):
        audit.open_value(records[1], bench.details, "row")


def test_a_record_that_names_no_details(leaves: list[bytes], bench: Any) -> None:
    """Commitments without a details file to open them are a finding."""
    record = audit.check_records(leaves)[1]
    body = {name: item for name, item in record.body.items() if name != "details"}

    with pytest.raises(VerificationError, match="names no details"):
        audit.check_details([Record(record.writer, 1, body)], bench.details, partial=True)


def test_what_this_version_cannot_check_is_not_counted(bench: Any, leaves: list[bytes]) -> None:
    """Commitments of another algorithm, or to another place, are left to later readers."""
    record = audit.check_records(leaves)[1]
    place = {**record.body["in"]["row"], "ref": "sha256:" + "ab" * 32}
    body = {
        **{name: item for name, item in record.body.items() if name not in {"out", "details"}},
        "in": {"row": place, "flag": {"alg": "later", "digest": "x"}},
    }

    assert Record(record.writer, 1, body).commitments == {}


def test_details_that_are_a_link_are_refused(bench: Any, leaves: list[bytes]) -> None:
    """A symbolic link in the place of a details file is not followed."""
    path = segment(bench)
    path.rename(bench.root / "elsewhere")
    path.symlink_to(bench.root / "elsewhere")

    with pytest.raises(StoreError, match="cannot read"):
        audit.check_details(audit.check_records(leaves), bench.details)


def test_a_details_path_that_is_a_directory(tmp_path: Path) -> None:
    """A directory in the place of a details file is refused."""
    (tmp_path / "000000.jsonl").mkdir()

    with pytest.raises(StoreError, match="cannot read"):
        list(read_segment(tmp_path, "000000"))


def test_a_detail_is_one_line() -> None:
    """Encoding and decoding a line are inverse."""
    detail = Detail("019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21", {"row": Sealed.of(encode(1))})

    assert detail == Detail.decode(detail.encode())
    assert detail.encode().count(b"\n") == 1


def test_a_forged_writer_is_found(leaves: list[bytes]) -> None:
    """Leaves moved to a writer of their own do not begin as a writer begins."""
    forged = prefix("0" * 32, 0) + leaves[3][PREFIX_SIZE:]

    found = findings([*leaves[:3], forged, *leaves[4:]])

    assert any("has a 'call' as number 0" in line for line in found)
    assert any("1 record missing" in line for line in found)
