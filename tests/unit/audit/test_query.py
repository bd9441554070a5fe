# ruff: noqa: ANN401  the fixtures of an audit log are of no named type
"""Questions to an audit log: rows, tables, SQL, and an index that is disposable."""

import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secureml.audit import query
from secureml.audit._columns import COLUMNS, read_leaf
from secureml.audit.record import Record, prefix
from secureml.errors import ConsistencyError, MissingExtraError, StoreError, UntrustedSignerError
from secureml.evidence.log import Log, verify_log
from secureml.evidence.pruning import Prune, remove_bundles
from secureml.evidence.trust import Identity, Trust
from secureml.keys.files import KeySigner
from secureml.wire import canonical
from secureml.wire.merkle import InclusionProof, leaf_hash

WRITER = "6f1ed002ab5595859014ebf0951522d9"
ORIGIN = "bench.example/audit"


def leaf(number: int, **fields: object) -> bytes:
    """Return a leaf of a call."""
    body = {
        "action": "act",
        "call": {"kind": "function", "name": "f"},
        "latency_us": number,
        "monotonic_us": number,
        "outcome": "ok",
        "record": {"id": f"019d1c3a-7b1e-7c44-9a53-{number:012x}"},
        "time": f"2026-11-22T08:{number // 60 % 60:02}:{number % 60:02}.000000Z",
        "type": "call",
        **fields,
    }
    return prefix(WRITER, number) + canonical.encode(body)  # type: ignore[arg-type]


def write(where: Path, key: KeySigner, leaves: list[bytes]) -> Log:
    """Append *leaves* to the log in *where*, and publish."""
    log = Log.open(where, origin=ORIGIN, signer=key, purpose="audit", create=True)
    for one in leaves:
        log.append(one, sync=False)
    log.publish()
    return log


def trust(key: KeySigner) -> Trust:
    """Return a trust that names the log's key."""
    identity = Identity(
        name="audit", verifier=key.verifier, roles=frozenset({"audit"}), origin=ORIGIN
    )
    return Trust((identity,))


@pytest.fixture
def log(tmp_path: Path, key: KeySigner) -> Log:
    """Return a log of 600 calls, every third of which failed."""
    return write(
        tmp_path / "log",
        key,
        [
            leaf(
                n, **({"outcome": "error", "error": {"type": "ValueError"}} if n % 3 == 0 else {})
            )
            for n in range(600)
        ],
    )


# What a row is


def test_every_record_of_an_audit_log_is_a_row(
    bench: Any, audited: Callable[..., Callable[..., Callable[..., object]]]
) -> None:
    """Rows are the leaves, in their order, each with its place and hash."""
    act = audited(user="user", capture=["return"])(lambda *, user: len(user))
    for name in ("ada", "grace", "ada"):
        act(user=name)
    leaves = bench.leaves()

    rows = query.query_rows(bench.log)

    assert [leaf_hash(one).hex() for one in leaves] == [row["leaf_hash"] for row in rows]
    assert list(range(len(leaves))) == [row["index"] for row in rows]
    assert {"bench.example/audit"} == {row["origin"] for row in rows}
    assert [Record.decode(one).id for one in leaves] == [row["id"] for row in rows]
    assert [one[67:].decode() for one in leaves] == [row["body"] for row in rows]
    calls = [row for row in rows if row["type"] == "call"]
    assert 3 == len(calls)
    assert calls[0]["actor"] == calls[2]["actor"] != calls[1]["actor"]
    assert [None] * len(rows) == [row["malformed"] for row in rows]


def test_every_column_comes_from_its_field() -> None:
    """Each column holds the field that it is named after."""
    names = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"
    one = leaf(
        7,
        actor={"id": "a" * 32, "type": "user"},
        error={"type": "KeyError"},
        intent=names,
        model={
            "status": "verified",
            "name": "m",
            "digest": "sha256:" + "b" * 64,
            "version": "3",
        },
        parent=names,
        request="r",
        retention_class="c",
        session="s",
        stream={"chunks": 4, "complete": True, "ttft_us": 5},
        tenant="t",
        trace={"trace_id": "c" * 32, "span_id": "d" * 16},
    )

    row = dict(zip(COLUMNS, read_leaf(one).values, strict=True))

    assert {
        "writer": WRITER,
        "seq": 7,
        "id": "019d1c3a-7b1e-7c44-9a53-000000000007",
        "time": "2026-11-22T08:00:07.000000Z",
        "type": "call",
        "action": "act",
        "actor": "a" * 32,
        "outcome": "ok",
        "latency_us": 7,
        "model_name": "m",
        "model_digest": "sha256:" + "b" * 64,
        "model_version": "3",
        "model_status": "verified",
        "session": "s",
        "request": "r",
        "tenant": "t",
        "trace_id": "c" * 32,
        "span_id": "d" * 16,
        "retention_class": "c",
        "error_type": "KeyError",
        "chunks": 4,
        "ttft_us": 5,
        "parent": names,
        "intent": names,
        "body": one[67:].decode(),
        "malformed": None,
    } == row


@pytest.mark.parametrize(
    "bad",
    [
        b"no record",
        prefix(WRITER, 1) + b'{"a":1}',
        prefix(WRITER, 1) + b"\xff",
        prefix(WRITER, 1) + b"[" * 5_000,
        leaf(1) + b" ",
        leaf(1).replace(b'"latency_us":1', b'"latency_us":1.5'),
        leaf(1).replace(b'"latency_us":1', b'"latency_us":' + b"9" * 40),
        leaf(1).replace(b"2026-11", b"2026-13"),
        leaf(1, model={"status": 3}),
        leaf(1, stream=[]),
        leaf(1, record={}),
    ],
)
def test_a_leaf_that_is_no_record_is_a_row_that_says_why(
    tmp_path: Path, key: KeySigner, bad: bytes
) -> None:
    """One bad leaf hides none of the others."""
    made = write(tmp_path / "log", key, [leaf(0), bad, leaf(2)])

    rows = query.query_rows(made)

    assert [False, True, False] == [row["malformed"] is not None for row in rows]
    assert leaf_hash(bad).hex() == rows[1]["leaf_hash"]
    assert None is rows[1]["type"]


def test_a_row_leads_to_a_proof(log: Log, key: KeySigner) -> None:
    """Index and leaf hash of a row are what an inclusion proof is about."""
    verified = verify_log(log.directory, trust=trust(key), role="audit")
    (row,) = query.query_rows(verified, where={"id": "019d1c3a-7b1e-7c44-9a53-000000000111"})

    proof = verified.prove(int(row["index"] or 0))

    InclusionProof(index=proof.index, path=proof.path).verify_hash(
        bytes.fromhex(str(row["leaf_hash"])), size=verified.size, root=verified.root
    )


# Conditions


def test_conditions_hold_together(log: Log) -> None:
    """Each condition narrows the answer; several values mean any of them."""
    assert 200 == len(query.query_rows(log, outcome="error"))
    assert 600 == len(query.query_rows(log, outcome=["error", "ok"], types="call"))
    assert 0 == len(query.query_rows(log, outcome="error", types=["end", "start"]))
    assert [3] == [
        r["seq"] for r in query.query_rows(log, where={"seq": [3, 4], "error_type": "ValueError"})
    ]
    assert 400 == len(query.query_rows(log, where={"error_type": None}))
    assert 0 == len(query.query_rows(log, where={"seq": []}))
    assert 0 == len(query.query_rows(log, actor="a" * 32))
    assert 2 == len(query.query_rows(log, limit=2))
    assert 0 == len(query.query_rows(log, limit=0))


def test_a_model_is_found_by_name_or_digest(tmp_path: Path, key: KeySigner) -> None:
    """The condition on a model takes either."""
    digest = "sha256:" + "b" * 64
    made = write(
        tmp_path / "log",
        key,
        [leaf(0), leaf(1, model={"status": "verified", "name": "m", "digest": digest})],
    )

    for model in ("m", digest, ["x", digest]):
        assert [1] == [row["seq"] for row in query.query_rows(made, model=model)]


def test_since_is_included_and_until_is_not(log: Log) -> None:
    """A span of time is half open, so neighbouring spans share no record."""
    edge = datetime(2026, 11, 22, 8, 5, tzinfo=UTC)

    before = query.query_rows(log, until=edge)
    after = query.query_rows(log, since=edge)

    assert 300 == len(before)
    assert "2026-11-22T08:05:00.000000Z" == after[0]["time"]
    assert 600 == len(before) + len(after)
    assert 600 == len(query.query_rows(log, since="2026-11-22", until="2026-11-23"))
    assert 1 == len(
        query.query_rows(log, since="2026-11-22T08:05:00Z", until=edge + timedelta(seconds=1))
    )


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({"since": "yesterday"}, ValueError),
        ({"since": datetime(2026, 11, 22)}, ValueError),  # noqa: DTZ001  that is the point
        ({"where": {"nothing": 1}}, ValueError),
        ({"where": {"seq": "1"}}, TypeError),
        ({"where": {"seq": True}}, TypeError),
        ({"where": {"action": [1]}}, TypeError),
        ({"where": {"action": 1.5}}, TypeError),
        ({"columns": ["nothing"]}, ValueError),
        ({"columns": "seq"}, TypeError),
        ({"limit": -1}, ValueError),
    ],
)
def test_a_wrong_question_is_refused(
    log: Log, conditions: dict[str, Any], error: type[Exception]
) -> None:
    """A caller's mistake raises, and says which."""
    with pytest.raises(error):
        query.query_rows(log, **conditions)


# Tables


def test_a_table_says_what_it_is_an_answer_about(log: Log, key: KeySigner) -> None:
    """The schema's metadata has the log, its size and root, and whether it was verified."""
    pytest.importorskip("pyarrow")
    plain = query.query(log, columns=["time", "latency_us"], limit=3)
    checked = query.query(log.directory, trust=trust(key))

    assert ["origin", "index", "leaf_hash", "time", "latency_us"] == plain.column_names
    assert datetime(2026, 11, 22, 8, 0, 2, tzinfo=UTC) == plain["time"][2].as_py()
    metadata = {k.decode(): v.decode() for k, v in plain.schema.metadata.items()}
    verified = verify_log(log.directory, trust=trust(key), role="audit")
    assert {
        "secureml.origin": ORIGIN,
        "secureml.size": "600",
        "secureml.root": verified.root.hex(),
        "secureml.verified": "no",
        "secureml.index": "fresh",
    } == metadata
    assert b"yes" == checked.schema.metadata[b"secureml.verified"]
    assert 600 == checked.num_rows
    assert query.query(verified).equals(checked)


def test_a_table_without_rows_has_its_columns(log: Log) -> None:
    """Nothing found is an empty table of the same schema."""
    pytest.importorskip("pyarrow")
    empty = query.query(log, outcome="denied")

    assert 0 == empty.num_rows
    assert query.query(log).schema.equals(empty.schema)


def test_a_table_goes_to_pandas_and_duckdb(log: Log) -> None:
    """Other people's tools read the table."""
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    table = query.query(log)

    counted = query.to_duckdb(table).execute(
        "SELECT outcome, count(*) FROM records GROUP BY outcome ORDER BY outcome"
    )

    assert [("error", 200), ("ok", 400)] == counted.fetchall()
    with duckdb.connect() as connection:
        query.to_duckdb(table, connection=connection, name="audit")
        assert (600,) == connection.execute("SELECT count(*) FROM audit").fetchone()
    assert 600 == len(table.to_pandas())
    assert pandas is not None


def test_without_pyarrow_there_are_rows(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, with the install line; rows need nothing."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtraError, match="pyarrow"):
        query.query(log)
    assert 600 == len(query.query_rows(log))


# SQL


def test_sql_reads_the_view(log: Log) -> None:
    """A SELECT sees every column, and JSON inside the body."""
    pytest.importorskip("pyarrow")
    table = query.query(
        log,
        sql="SELECT \"index\", leaf_hash, json_extract(body, '$.call.name') AS name "
        'FROM records WHERE outcome = ? ORDER BY "index" DESC LIMIT 2',
        parameters=("error",),
    )

    assert [597, 594] == table["index"].to_pylist()
    assert ["f", "f"] == table["name"].to_pylist()
    assert leaf_hash(log.entry(597)).hex() == table["leaf_hash"][0].as_py()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM records",
        "INSERT INTO entry VALUES (1)",
        "WITH x AS (SELECT 1) DELETE FROM main.entry",
        "WITH x AS (SELECT 1) UPDATE main.entry SET action = 'x'",
        "SELECT 1; DELETE FROM main.entry",
        "ATTACH '/tmp/x' AS x",
        "VACUUM INTO '/tmp/x'",
        "PRAGMA query_only = OFF",
        "SELECT * FROM pragma_database_list",
        "/* */ -- \n DROP VIEW records",
        "CREATE TABLE x (y)",
        "SELECT load_extension('x')",
        "BEGIN",
        "EXPLAIN SELECT 1",
        "SELECT nothing FROM records",
        "",
    ],
)
def test_sql_does_nothing_but_read(log: Log, statement: str) -> None:
    """Whatever is no SELECT, or reads something else, is refused."""
    with query.open_index(log) as index:
        with pytest.raises(ValueError, match="query"):
            index.sql(statement)

        assert [(600,)] == index.sql("SELECT count(*) FROM records")[1]


def test_sql_has_limits(log: Log) -> None:
    """A SELECT that goes on for ever, or returns too much, is stopped."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT {} FROM n"
    with query.open_index(log) as index:
        with pytest.raises(StoreError, match="stopped"):
            index.sql(endless.format("max(x)"), seconds=0.2)
        with pytest.raises(StoreError, match="stopped"):
            index.sql(endless.format("x"), limit=1_000)
        with pytest.raises(ValueError, match="too big"):
            index.sql("SELECT zeroblob(500000000)")

        assert 600 == len(list(index.rows()))


def test_sql_and_conditions_do_not_mix(log: Log) -> None:
    """What a SELECT says is not narrowed by something else unseen."""
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="SELECT"):
        query.query(log, sql="SELECT 1", outcome="ok")


# The index


def test_the_index_goes_on_where_it_was(tmp_path: Path, key: KeySigner) -> None:
    """What was indexed is kept; only new entries are read."""
    log = write(tmp_path / "log", key, [leaf(n) for n in range(300)])
    cache = tmp_path / "cache"
    assert 300 == len(query.query_rows(log, cache=cache))
    for n in range(300, 700):
        log.append(leaf(n), sync=False)
    log.publish()
    read: list[int] = []
    with query.open_index(log, cache=cache) as index:
        assert 700 == index.size
        source = index._index.source
        object.__setattr__(source, "entries", lambda a, b: read.append(b - a) or log.entries(a, b))
        index._index.update(source)
        assert 700 == len(list(index.rows()))
        log.append(leaf(700), sync=False)
        log.publish()
        assert 700 == len(list(index.rows()))
        index.refresh()
        assert 701 == len(list(index.rows()))
        assert "701" in repr(index)

    assert [] == read
    (file,) = cache.glob("*.sqlite")
    assert 0o600 == file.stat().st_mode & 0o777
    assert 0o700 == cache.stat().st_mode & 0o777


def test_another_log_of_the_same_name_is_indexed_anew(tmp_path: Path, key: KeySigner) -> None:
    """An index that the log's tree does not continue is no answer."""
    cache = tmp_path / "cache"
    first = write(tmp_path / "a", key, [leaf(n) for n in range(300)])
    other = write(tmp_path / "b", key, [leaf(n, action="other") for n in range(400)])
    shorter = write(tmp_path / "c", key, [leaf(n, action="short") for n in range(20)])
    for log, action, size in ((first, "act", 300), (other, "other", 400), (shorter, "short", 20)):
        rows = query.query_rows(log, cache=cache)

        assert [action] * size == [row["action"] for row in rows]


def test_an_older_view_of_the_log_shares_the_index(tmp_path: Path, key: KeySigner) -> None:
    """A log that was verified before it grew is answered for as it was."""
    cache = tmp_path / "cache"
    log = write(tmp_path / "log", key, [leaf(n) for n in range(300)])
    before = verify_log(log.directory, trust=trust(key), role="audit")
    for n in range(300, 500):
        log.append(leaf(n), sync=False)
    log.publish()
    query.query_rows(log, cache=cache)
    (file,) = cache.glob("*.sqlite")
    made = file.stat().st_ino

    assert 300 == len(query.query_rows(before, cache=cache, check=False))
    with query.open_index(before, cache=cache) as index:
        assert [(300,)] == index.sql("SELECT count(*) FROM records")[1]
    assert made == file.stat().st_ino


def test_every_damage_to_the_file_is_survived(tmp_path: Path, key: KeySigner) -> None:
    """With bytes changed anywhere in it, the answer for a verified log stays the same."""
    log = write(tmp_path / "log", key, [leaf(n) for n in range(40)])
    verified = verify_log(log.directory, trust=trust(key), role="audit")
    cache = tmp_path / "cache"
    right = query.query_rows(verified, cache=cache)
    (file,) = cache.glob("*.sqlite")
    good = file.read_bytes()

    for at in range(0, len(good), 211):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])

        assert right == query.query_rows(verified, cache=cache), at
    for bad in (b"", b"x", good[:5_000], b"\0" * len(good), good + good[:100], good[::-1]):
        file.write_bytes(bad)

        assert right == query.query_rows(verified, cache=cache)
        assert right == query.query_rows(log, cache=cache)


def test_a_changed_row_is_found_on_request(log: Log, tmp_path: Path) -> None:
    """Rows that are held against their leaves are right, whoever wrote to the file."""
    cache = tmp_path / "cache"
    right = query.query_rows(log, cache=cache)
    (file,) = cache.glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entry SET outcome = 'ok' WHERE \"index\" = 3")
    connection.close()

    assert right != query.query_rows(log, cache=cache)
    assert right == query.query_rows(log, cache=cache, check=True)
    assert right == query.query_rows(log, cache=cache)


def test_an_index_of_another_version_is_made_anew(log: Log, tmp_path: Path) -> None:
    """A file of a later or foreign kind is replaced, not misread."""
    cache = tmp_path / "cache"
    right = query.query_rows(log, cache=cache)
    (file,) = cache.glob("*.sqlite")
    for change in (
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 5",
        'DELETE FROM entry WHERE "index" = 5',
        "DROP TABLE state",
        "DROP TABLE entry",
        "UPDATE state SET value = '[]'",
        'UPDATE state SET value = \'{"origin": 1, "size": "x", "peaks": []}\'',
        "UPDATE state SET value = replace(value, '600', '599')",
    ):
        with sqlite3.connect(file) as connection:
            connection.execute(change)
        connection.close()

        assert right == query.query_rows(log, cache=cache), change


def test_a_place_that_cannot_be_written_is_done_without(log: Log, tmp_path: Path) -> None:
    """Where no file can be kept, the answer comes from a temporary one."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "elsewhere").write_text("x")
    linked = tmp_path / "linked"
    query.query_rows(log, cache=linked)
    (file,) = linked.glob("*.sqlite")
    file.unlink()
    file.mkdir()

    assert 600 == len(query.query_rows(log, cache=tmp_path / "file"))
    assert 600 == len(query.query_rows(log, cache=linked))
    assert "x" == (tmp_path / "file").read_text()


def test_a_link_is_not_followed(log: Log, tmp_path: Path) -> None:
    """An index is never written through a link that somebody put there."""
    cache = tmp_path / "cache"
    query.query_rows(log, cache=cache)
    (file,) = cache.glob("*.sqlite")
    target = tmp_path / "target"
    target.write_text("precious")
    file.unlink()
    file.symlink_to(target)

    assert 600 == len(query.query_rows(log, cache=cache))
    assert "precious" == target.read_text()


def test_a_busy_index_is_left_to_its_user(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the file locked for long goes on without it, and does not remove it."""
    monkeypatch.setattr("secureml.audit._index._BUSY_SECONDS", 0.1)
    cache = tmp_path / "cache"
    query.query_rows(log, cache=cache)
    (file,) = cache.glob("*.sqlite")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    assert 600 == len(query.query_rows(log, cache=cache))
    assert file.exists()
    holder.close()


def pruned(log: Log) -> Prune:
    """Say in the log that its first two bundles are gone, but for the second; remove the first."""
    policy = {"classes": {}, "default_days": 184}
    said = {"kept": [1], "minimum": 512, "policy": policy, "writers": {WRITER: 512}}
    log.append(leaf(log.size, type="prune", prune=said), sync=False)
    log.publish()
    return Prune(minimum=512, kept=frozenset({1}))


def test_what_was_pruned_is_forgotten(log: Log, key: KeySigner, tmp_path: Path) -> None:
    """An index is a copy: what leaves the log under its policy leaves the file as well."""
    cache = tmp_path / "cache"
    before = query.query_rows(log, cache=cache)
    remove_bundles(log.directory, pruned(log))
    again = Log.open(log.directory)

    for rows in (
        query.query_rows(again, cache=cache),
        query.query_rows(again, cache=cache, check=True),
        query.query_rows(again),
        query.query_rows(again.directory, trust=trust(key)),
        query.query_rows(again.directory, trust=trust(key), cache=cache),
    ):
        assert before[256:] == rows[:-1]
        assert "prune" == rows[-1]["type"]
        assert 600 == rows[-1]["index"]
    with query.open_index(again, cache=cache) as index:
        assert [(345, 256)] == index.sql('SELECT count(*), min("index") FROM records')[1]
        assert 601 == index.size
    (file,) = cache.glob("*.sqlite")
    held = file.read_bytes()
    assert str(before[300]["id"]).encode() in held
    for row in before[:256]:
        assert str(row["id"]).encode() not in held


def test_what_is_there_again_is_found_again(log: Log, tmp_path: Path) -> None:
    """A row that somebody marked as pruned, whose entry is there, is handed out."""
    cache = tmp_path / "cache"
    right = query.query_rows(log, cache=cache)
    (file,) = cache.glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entry SET malformed = 'pruned' WHERE \"index\" = 3")
    connection.close()

    assert right == query.query_rows(log, cache=cache)


def test_a_tile_that_was_changed_is_not_taken_for_pruned_entries(log: Log) -> None:
    """The hashes that stand in for pruned entries have to lead to the root."""
    remove_bundles(log.directory, pruned(log))
    tile = log.directory / "tile/0/000"
    good = tile.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-32], b""):
        tile.write_bytes(bad)

        with pytest.raises(ConsistencyError):
            query.query_rows(Log.open(log.directory))


def test_entries_that_do_not_lead_to_the_checkpoint_are_refused(log: Log) -> None:
    """Also a log that was not verified is held to its own root."""
    bundle = log.directory / "tile/entries/000"
    data = bundle.read_bytes()
    bundle.write_bytes(data.replace(b'"outcome":"ok"', b'"outcome":"no"', 1))

    with pytest.raises(ConsistencyError, match="checkpoint"):
        query.query_rows(Log.open(log.directory))


def test_a_directory_is_verified_with_a_trust(log: Log, key: KeySigner) -> None:
    """With a trust a directory is verified before it is asked."""
    assert 600 == len(query.query_rows(log.directory, trust=trust(key)))
    with pytest.raises(UntrustedSignerError):
        query.query_rows(log.directory, trust=Trust(()))
    with pytest.raises(TypeError):
        query.query_rows(log, trust=trust(key))
    with pytest.raises(TypeError):
        query.query_rows(3)
    with pytest.raises(StoreError):
        query.query_rows(log.directory / "nothing")


def test_threads_and_writers_share_an_index(tmp_path: Path, key: KeySigner) -> None:
    """Questions from many threads beside a writer see whole prefixes of the log."""
    log = write(tmp_path / "log", key, [leaf(n) for n in range(50)])
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(8):
            try:
                rows = query.query_rows(Log.open(log.directory), cache=tmp_path / "cache")
            except Exception as error:  # noqa: BLE001  any error is a finding
                wrong.append(error)
                continue
            if [row["seq"] for row in rows] != list(range(len(rows))):
                wrong.append(len(rows))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(50, 350):
        log.append(leaf(n), sync=False)
        if n % 10 == 0:
            log.publish()
    for thread in threads:
        thread.join()
    log.publish()

    assert [] == wrong
    assert 350 == len(query.query_rows(log, cache=tmp_path / "cache"))


def test_the_card_shows_what_is_there(log: Log) -> None:
    """A notebook shows the log, its size, and how many records there are of each type."""
    with query.open_index(log) as index:
        shown = index._repr_html_()

    for text in (ORIGIN, "600", "call", "verified"):
        assert text in shown


def test_reading_the_log_makes_a_record(bench: Any) -> None:
    """The body for an ``access`` record is one, and names who, how much and what."""
    body = query.access_body(
        "audit.export",
        actor="a" * 32,
        rows=7,
        format="ocsf",
        digest="sha256:" + "b" * 64,
        origin=ORIGIN,
    )

    bench.log.append(body)
    bench.log.publish()

    (row,) = query.query_rows(bench.log, types="access")
    assert ("audit.export", "a" * 32, "ok") == (row["action"], row["actor"], row["outcome"])
    assert {"rows": 7, "format": "ocsf", "digest": "sha256:" + "b" * 64} == json.loads(
        str(row["body"])
    )["access"]
