# ruff: noqa: ANN401  the fixtures of an audit log are of no named type
"""An export is streamed, whole or not there, and every row leads back to the log."""

import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secureml.audit import query
from secureml.audit.export import FIELDS, FORMATS, export, mapping_table
from secureml.audit.record import prefix
from secureml.errors import ConsistencyError, DigestMismatchError, StoreError
from secureml.evidence.log import Log, verify_log
from secureml.evidence.pruning import Prune, remove_bundles
from secureml.evidence.trust import Identity, Trust
from secureml.keys import files
from secureml.keys.files import KeySigner
from secureml.wire import canonical
from secureml.wire.digest import Digest
from secureml.wire.merkle import leaf_hash

WRITER = "6f1ed002ab5595859014ebf0951522d9"
ORIGIN = "export.example/audit"


@pytest.fixture(scope="module")
def signer() -> KeySigner:
    """Return the key that signs the log's checkpoints."""
    return files.generate("ed25519", purposes=frozenset({"audit"}))


def leaf(number: int, **fields: object) -> bytes:
    """Return a leaf of a call."""
    body = {
        "action": "act",
        "call": {"kind": "function", "name": "f"},
        "latency_us": number,
        "monotonic_us": number,
        "outcome": "ok" if number % 3 else "error",
        "record": {"id": f"019d1c3a-7b1e-7c44-9a53-{number:012x}"},
        "time": f"2026-11-22T08:{number // 60 % 60:02}:{number % 60:02}.000001Z",
        "type": "call",
        **fields,
    }
    return prefix(WRITER, number) + canonical.encode(body)  # type: ignore[arg-type]


def write(where: Path, signer: KeySigner, leaves: Iterator[bytes] | list[bytes]) -> Log:
    """Append *leaves* to a new log, and publish."""
    log = Log.open(where, origin=ORIGIN, signer=signer, purpose="audit", create=True)
    for one in leaves:
        log.append(one, sync=False)
    log.publish()
    return log


@pytest.fixture
def log(tmp_path: Path, signer: KeySigner) -> Log:
    """Return a log of 300 calls and one leaf that is no record."""
    return write(tmp_path / "log", signer, [*(leaf(n) for n in range(300)), b"no record"])


def index_of(form: str, line: dict[str, Any] | str) -> tuple[str, int, str]:
    """Return origin, index and leaf hash that a row carries."""
    if isinstance(line, str):
        pairs = dict(part.split("=", 1) for part in line.split(" ") if "=" in part)
        return pairs["deviceExternalId"].split("|")[-1], int(pairs["cn1"]), pairs["cs1"]
    if form == "jsonl":
        return line["origin"], line["index"], line["leaf_hash"]
    if form == "ocsf":
        (said,) = line["attestation_list"]
        return said["chain_uid"], int(said["uid"]), said["fingerprint"]["value"]
    if form == "ecs":
        place = line["secureml"]["log"]
        return place["origin"], place["index"], line["event"]["hash"]
    found = {one["key"]: one["value"] for one in line["attributes"]}
    return (
        found["secureml.log.origin"]["stringValue"],
        int(found["secureml.log.index"]["intValue"]),
        found["secureml.log.leaf_hash"]["stringValue"],
    )


def rows_of(form: str, path: Path) -> list[Any]:
    """Return the rows of an export of lines."""
    lines = path.read_bytes().split(b"\n")
    assert b"" == lines.pop()
    if form == "cef":
        # The header's last bar ends it; no value here has one.
        return [line.decode().rsplit("|", 1)[1] for line in lines]
    if form == "otlp":
        return [
            record
            for line in lines
            for record in json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        ]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("form", [one for one in FORMATS if one != "parquet"])
def test_every_row_leads_back_to_its_leaf(log: Log, tmp_path: Path, form: str) -> None:
    """Each row of each format has the origin, the index and the leaf hash."""
    done = export(log, form, tmp_path / "out")
    rows = rows_of(form, tmp_path / "out")

    expected = [(ORIGIN, n, leaf_hash(one).hex()) for n, one in enumerate(log.entries())]
    assert expected == [index_of(form, row) for row in rows]
    assert (301, ORIGIN, 301, False) == (done.rows, done.origin, done.size, done.verified)
    assert done.digest == str(Digest.sha256((tmp_path / "out").read_bytes()))
    assert "301" in done._repr_html_()


def test_parquet_is_what_a_query_returns(log: Log, tmp_path: Path) -> None:
    """The file has the columns and rows of `query`, and says what it is about."""
    parquet = pytest.importorskip("pyarrow.parquet")
    done = export(log, "parquet", tmp_path / "out.parquet")

    table = parquet.read_table(tmp_path / "out.parquet")
    asked = query.query(log)

    assert asked.equals(table)
    assert ORIGIN.encode() == table.schema.metadata[b"secureml.origin"]
    assert b"301" == table.schema.metadata[b"secureml.size"]
    assert done.digest == str(Digest.sha256((tmp_path / "out.parquet").read_bytes()))
    assert (
        "ZSTD"
        == parquet.ParquetFile(tmp_path / "out.parquet")
        .metadata.row_group(0)
        .column(0)
        .compression
    )


def test_json_lines_hold_the_record_as_it_is(log: Log, tmp_path: Path) -> None:
    """Prefix and record of a line make the leaf again, byte for byte."""
    export(log, "jsonl", tmp_path / "out")
    lines = (tmp_path / "out").read_bytes().splitlines()

    for line, one in zip(lines[:300], log.entries(), strict=False):
        row = json.loads(line)
        raw = line[line.index(b'"record":') + 9 : line.rindex(b',"seq":')]
        assert one == prefix(row["writer"], row["seq"]) + raw
        assert json.loads(one[67:]) == row["record"]
    last = json.loads(lines[300])
    assert "bm8gcmVjb3Jk" == last["leaf_base64"]
    assert "secureml-audit/1" in last["malformed"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_without_records_is_well_formed(log: Log, tmp_path: Path, form: str) -> None:
    """Nothing found is an empty file, or a table without rows."""
    pytest.importorskip("pyarrow")
    done = export(log, form, tmp_path / "out", types="denied")

    assert 0 == done.rows
    if form != "parquet":
        assert b"" == (tmp_path / "out").read_bytes()


def test_conditions_are_those_of_a_query(log: Log, tmp_path: Path) -> None:
    """What a query finds is what an export writes."""
    for conditions in (
        {"outcome": "error"},
        {"since": "2026-11-22T08:01:00Z", "until": "2026-11-22T08:02:00Z"},
        {"where": {"seq": [1, 2, 500]}, "types": ["call", "end"]},
        {"where": {"actor": None}},
        {"actor": "a" * 32},
        {"model": "m"},
    ):
        done = export(log, "jsonl", tmp_path / "out", **conditions)  # type: ignore[arg-type]
        asked = query.query_rows(log, **conditions)  # type: ignore[arg-type]

        assert [row["index"] for row in asked] == [
            row["index"] for row in rows_of("jsonl", tmp_path / "out")
        ]
        assert len(asked) == done.rows


def test_an_export_goes_on_where_another_ended(log: Log, tmp_path: Path) -> None:
    """With the size of the last one as start, the next export has what came after."""
    before = export(log, "jsonl", tmp_path / "before")
    log.append(leaf(300), sync=False)
    log.publish()

    after = export(log, "jsonl", tmp_path / "after", start=before.size)

    assert 1 == after.rows
    assert [301] == [row["index"] for row in rows_of("jsonl", tmp_path / "after")]


def test_a_file_is_whole_or_not_there(log: Log, tmp_path: Path) -> None:
    """When the export fails, an older file stays, and nothing is left beside it."""
    out = tmp_path / "here" / "out"
    out.parent.mkdir()
    out.write_text("older")
    bundle = log.directory / "tile/entries/001.p/45"
    bundle.write_bytes(bundle.read_bytes()[:-5])

    with pytest.raises(Exception, match="tile/entries"):
        export(Log.open(log.directory), "jsonl", out)

    assert "older" == out.read_text()
    assert [out] == list(out.parent.iterdir())


def test_a_file_is_nobody_elses(log: Log, tmp_path: Path) -> None:
    """An export names pseudonyms, so only its owner reads it, unless told otherwise."""
    export(log, "jsonl", tmp_path / "mine")
    export(log, "jsonl", tmp_path / "ours", mode=0o644)

    assert 0o600 == (tmp_path / "mine").stat().st_mode & 0o777
    assert 0o044 & (tmp_path / "ours").stat().st_mode


def test_a_stream_is_written_as_it_comes(log: Log) -> None:
    """Something that takes bytes, such as standard output, is not renamed or closed."""
    out = io.BytesIO()

    done = export(log, "cef", out)

    assert 301 == out.getvalue().count(b"\n")
    assert done.digest == str(Digest.sha256(out.getvalue()))
    pytest.importorskip("pyarrow")
    table = io.BytesIO()
    export(log, "parquet", table)
    assert table.getvalue().startswith(b"PAR1")


def test_what_cannot_be_done_is_refused(log: Log, tmp_path: Path) -> None:
    """A format, a place or a log that is not there raises."""
    with pytest.raises(ValueError, match="jsonl, parquet, ocsf"):
        export(log, "xml", tmp_path / "out")
    with pytest.raises(ValueError, match="from 0"):
        export(log, "jsonl", tmp_path / "out", start=-1)
    with pytest.raises(StoreError, match="could not write"):
        export(log, "jsonl", tmp_path / "nowhere" / "out")
    with pytest.raises(TypeError):
        export(3, "jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_verified_log_is_exported_as_verified(
    log: Log, signer: KeySigner, tmp_path: Path
) -> None:
    """The result says so; an entry that changes after that is found."""
    trust = Trust(
        (
            Identity(
                name="audit", verifier=signer.verifier, roles=frozenset({"audit"}), origin=ORIGIN
            ),
        )
    )

    assert export(log.directory, "jsonl", tmp_path / "out", trust=trust).verified
    verified = verify_log(log.directory, trust=trust, role="audit")
    bundle = log.directory / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"act"', b'"cat"', 1))
    with pytest.raises(DigestMismatchError):
        export(verified, "jsonl", tmp_path / "out")


def test_entries_that_do_not_lead_to_the_checkpoint_are_no_export(
    log: Log, tmp_path: Path
) -> None:
    """Also a log that was not verified is held to its own root, before the file appears."""
    bundle = log.directory / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"act"', b'"cat"', 1))

    with pytest.raises(ConsistencyError, match="checkpoint"):
        export(Log.open(log.directory), "jsonl", tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_what_was_pruned_is_not_exported(log: Log, tmp_path: Path) -> None:
    """What is left of a log is exported, in every format."""
    pytest.importorskip("pyarrow")
    remove_bundles(log.directory, Prune(minimum=256))

    for form in FORMATS:
        done = export(Log.open(log.directory), form, tmp_path / form)

        assert (45, 301) == (done.rows, done.size)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_memory_does_not_grow_with_the_log(signer: KeySigner, tmp_path: Path, form: str) -> None:
    """Four times the records take no more memory."""
    pytest.importorskip("pyarrow")
    peaks = []
    for size in (5_000, 20_000):
        log = write(tmp_path / str(size), signer, (leaf(n) for n in range(size)))
        export(log, form, tmp_path / "warm", where={"seq": [1]})
        tracemalloc.start()
        # The row group of Parquet is larger than the small log: it is bounded, not flat.
        export(log, form, tmp_path / "out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 64 << 20
    assert form == "parquet" or peaks[1] < peaks[0] * 1.5


def test_a_real_audit_log_is_exported(
    bench: Any, audited: Callable[..., Callable[..., Callable[..., object]]], tmp_path: Path
) -> None:
    """Calls of audited functions arrive in every format."""
    pytest.importorskip("pyarrow")
    audited(user="user", capture=["return"])(lambda *, user: len(user))(user="ada")
    size = len(bench.leaves())

    for form in FORMATS:
        done = export(bench.log, form, tmp_path / form, types="call")

        assert 1 == done.rows
        assert size == done.size


def test_the_table_of_names_is_in_the_documentation(project: Path) -> None:
    """The page shows the mapping that the code has."""
    page = (project / "docs" / "reference" / "audit-export.md").read_text(encoding="utf-8")

    assert mapping_table() in page
    for names in zip(*(field[2:] for field in FIELDS), strict=True):
        assert len(FIELDS) == len(set(names))
