"""Opening, losing, sharing and closing a workspace."""

import multiprocessing
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="a workspace registers tables")

import pyarrow as pa
import pyarrow.parquet as pq

import secureml
from secureml.errors import (
    ChainError,
    ConsistencyError,
    GateDeniedError,
    KeyUnavailableError,
    StoreBusyError,
    StoreError,
    UnexpectedFileError,
)
from secureml.evidence.trust import Trust
from secureml.wire import statement as st
from secureml.workspace import Workspace

CHECK = secureml.data.checks
GATE = secureml.Gate("train@1", [CHECK.not_null("x")])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small table."""
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"x": [1, 2, 3], "y": [0, 1, 1]}), path)
    return path


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A new workspace."""
    return secureml.open(tmp_path / "ws")


def trained(ws: Workspace, table: Path, model: Path, *, name: str = "demo") -> None:
    """Gate, train and save a model of arrays."""
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("safetensors")
    data = ws.dataset(table, source="s", licence="l")
    ws.run_gate(GATE, data).enforce()
    with ws.training_run(name, inputs=[data], seed=1) as run:
        data.to_arrow()
        run.save({"w": numpy.zeros(2)}, model)


def test_opening_writes_nothing(tmp_path: Path, ws: Workspace) -> None:
    """Opening a workspace that exists changes no file and takes no lock."""
    ws.close()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}

    secureml.open(tmp_path / "ws")
    secureml.open(tmp_path / "ws", create=False, role="serve")

    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}


def test_keys_are_private(tmp_path: Path, ws: Workspace) -> None:
    """The private directory is 0700, its keys 0600, and git ignores all of it."""
    private = tmp_path / "ws.private"

    assert 0o700 == private.stat().st_mode & 0o777
    assert {0o600} == {p.stat().st_mode & 0o777 for p in (private / "keys").glob("*.pem")}
    assert "*\n" == (private / ".gitignore").read_text("utf-8")
    assert [] == [p for p in ws.path.rglob("*") if p.is_file() and b"PRIVATE" in p.read_bytes()]


def test_a_lost_volume_is_no_new_log(tmp_path: Path, ws: Workspace) -> None:
    """create=False refuses; and create=True refuses where the private half remembers one."""
    ws.close()
    shutil.rmtree(ws.path)

    with pytest.raises(StoreError, match="no workspace"):
        secureml.open(ws.path, create=False)
    with pytest.raises(StoreError, match="is gone"):
        secureml.open(ws.path)
    with pytest.raises(StoreError, match="no workspace"):
        secureml.open(tmp_path / "elsewhere", create=False)


def test_it_is_not_made_among_other_files(table: Path) -> None:
    """A directory with other things in it does not become evidence."""
    with pytest.raises(StoreError, match="neither empty nor a workspace"):
        secureml.open(table.parent)


def test_roles_are_two(tmp_path: Path) -> None:
    """A role that does not exist is a caller's bug."""
    with pytest.raises(ValueError, match=r"train.*serve"):
        secureml.open(tmp_path / "x", role="admin")


def test_a_server_holds_the_audit_key_only(tmp_path: Path, table: Path) -> None:
    """A serving workspace makes one key, and cannot sign statements."""
    server = secureml.open(tmp_path / "server", role="serve")

    assert ["audit.pem"] == [p.name for p in (tmp_path / "server.private/keys").glob("*.pem")]
    with pytest.raises((KeyUnavailableError, StoreError)):
        server.dataset(table, source="s", licence="l")


def test_one_process_writes(ws: Workspace, table: Path) -> None:
    """A second process is told so at its first append; it can still read and verify."""
    ws.dataset(table, source="s", licence="l")
    code = (
        "import sys, secureml; ws = secureml.open(sys.argv[1], create=False); ws.verify()\n"
        "try: ws.dataset(sys.argv[2], source='other', licence='l')\n"
        "except secureml.errors.StoreBusyError as e: print(e.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ws.path, table], capture_output=True, text=True, check=True
    )

    assert "SML401" == done.stdout.strip()


def _append_in_child(ws: Workspace, table: Path, queue: "multiprocessing.Queue[str]") -> None:
    try:
        ws.dataset(table, source="child", licence="l")
        queue.put("written")
    except StoreBusyError as error:
        queue.put(error.code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_write(ws: Workspace, table: Path) -> None:
    """The child of a writer is refused; the parent goes on."""
    ws.dataset(table, source="s", licence="l")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_append_in_child, args=(ws, table, queue))
    child.start()
    found = queue.get(timeout=30)
    child.join()

    assert "SML401" == found
    ws.dataset(table, source="parent", licence="l")
    ws.close()
    assert secureml.open(ws.path).verify().sealed


def test_the_same_data_and_claims_are_the_same_evidence(ws: Workspace, table: Path) -> None:
    """Registering again returns what exists; another claim is another statement."""
    first = ws.dataset(table, source="s", licence="l")
    again = ws.dataset(table, source="s", licence="l")
    other = ws.dataset(table, source="s", licence="another")

    assert first.evidence.position == again.evidence.position
    assert first.evidence.position != other.evidence.position


def test_closing_seals_and_a_closed_one_refuses(ws: Workspace, table: Path) -> None:
    """After close every file is named by the seal, and nothing more is written."""
    ws.dataset(table, source="s", licence="l")
    ws.close()
    ws.close()

    assert secureml.open(ws.path).verify().sealed
    with pytest.raises(StoreError, match="closed"):
        ws.dataset(table, source="s", licence="l")


def test_closing_without_writing_adds_nothing(ws: Workspace, table: Path) -> None:
    """A workspace that was only read gets no second seal."""
    ws.dataset(table, source="s", licence="l")
    ws.close()
    before = secureml.open(ws.path).verify().logs
    with secureml.open(ws.path) as again:
        again.verify()

    assert before == secureml.open(ws.path).verify().logs


def test_a_stray_file_is_found_and_a_seal_accepts_it(ws: Workspace, table: Path) -> None:
    """What nobody named is refused; closing the workspace names it."""
    ws.dataset(table, source="s", licence="l")
    ws.close()
    (ws.path / "note.txt").write_text("hello", encoding="utf-8")

    with pytest.raises(UnexpectedFileError, match=r"note\.txt"):
        secureml.open(ws.path).verify()
    with secureml.open(ws.path) as again:
        again.dataset(table, source="s", licence="another")
    assert secureml.open(ws.path).verify().sealed


def test_a_removed_log_is_missed(ws: Workspace, table: Path) -> None:
    """Deleting the statement log whole is found by what this machine remembers."""
    ws.dataset(table, source="s", licence="l")
    ws.close()
    for name in ("log", "blobs"):
        shutil.rmtree(ws.path / name)

    with pytest.raises((ConsistencyError, UnexpectedFileError)):
        secureml.open(ws.path).verify()


def test_a_checkpoint_kept_elsewhere_finds_a_rollback(
    ws: Workspace, table: Path, tmp_path: Path
) -> None:
    """An older copy verifies alone, with the warning, and not against a newer note."""
    ws.dataset(table, source="s", licence="l")
    ws.checkpoint()
    old = Path(shutil.copytree(ws.path, tmp_path / "old"))
    trust = ws.trust
    ws.dataset(table, source="s", licence="another")
    note = ws.checkpoint()
    verify = secureml.workspace.verify_directory

    assert "not checkable" == verify(old, trust=trust).rollback
    with pytest.raises(ConsistencyError, match="cut or rolled back"):
        verify(old, trust=trust, checkpoints=[note])
    assert "checked" == verify(ws.path, trust=trust, checkpoints=[note]).rollback


def test_a_required_gate_guards_the_signature(ws: Workspace, table: Path, tmp_path: Path) -> None:
    """Nothing is signed when a required gate was not passed before the run."""
    trained(ws, table, tmp_path / "model")
    strict = secureml.Gate("strict@1", [CHECK.row_count(1_000)])

    with pytest.raises(GateDeniedError, match="strict@1"):
        ws.sign_model(tmp_path / "model", require=[strict])
    assert not (tmp_path / "model" / "model.sig").exists()
    ws.sign_model(tmp_path / "model", require=[GATE])
    assert (tmp_path / "model" / "claims.jsonl").exists()


def test_a_model_from_elsewhere_is_not_signed(ws: Workspace, tmp_path: Path) -> None:
    """Files that no run of this workspace made are refused, with the way out."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.json").write_text("{}", encoding="utf-8")

    with pytest.raises(ChainError, match="was not made by a run of this workspace"):
        ws.sign_model(tmp_path / "model")


def test_a_failed_run_is_on_record(ws: Workspace, table: Path) -> None:
    """A run that leaves by exception logs the failure and signs no output."""
    data = ws.dataset(table, source="s", licence="l")
    with pytest.raises(ZeroDivisionError), ws.training_run("demo", inputs=[data]):
        1 / 0  # noqa: B018  the point

    statements = ws.verify().statements
    assert 1 == statements[st.RUN_FAILURE]
    assert st.PROVENANCE not in statements


@pytest.mark.parametrize("purposes", [["statements"], ["log"], ["audit"], ["statements", "log"]])
def test_rotation_keeps_everything_valid(
    ws: Workspace, table: Path, tmp_path: Path, purposes: list[str]
) -> None:
    """After a rotation old statements verify, new ones are signed by the new key."""
    trained(ws, table, tmp_path / "model")
    ws.sign_model(tmp_path / "model", require=[GATE])
    ws.pin(ws.write_trust(tmp_path / "trust.toml", models={"demo": [GATE]}))
    ws.load_model(tmp_path / "model")
    passphrase = secrets.token_urlsafe()
    fingerprints = [ws.rotate(passphrase=passphrase, purpose=p) for p in purposes]
    ws.close()
    with secureml.open(ws.path, create=False, passphrase=passphrase) as again:
        data = again.dataset(table, source="after", licence="l")
        again.load_model(tmp_path / "model")
    report = secureml.open(ws.path, create=False).verify()

    assert report.sealed
    assert 1 == len(report.models)
    if "statements" in purposes:
        assert fingerprints[0] == data.evidence.signer.verifier.fingerprint
        assert "ws statements 1" not in report.development


def test_a_protected_key_needs_its_passphrase(ws: Workspace, table: Path) -> None:
    """Without, or with a wrong, passphrase nothing is signed; reading works."""
    ws.dataset(table, source="s", licence="l")
    ws.rotate(passphrase=secrets.token_urlsafe())
    ws.close()
    for passphrase in (None, "wrong"):
        locked = secureml.open(ws.path, create=False, passphrase=passphrase)

        assert locked.verify().sealed
        with pytest.raises(KeyUnavailableError, match="passphrase"):
            locked.dataset(table, source="x", licence="l")


def test_a_shipped_directory_needs_a_trust_file(
    ws: Workspace, table: Path, tmp_path: Path
) -> None:
    """Without its private half a directory is judged under a given trust, or not at all."""
    ws.dataset(table, source="s", licence="l")
    ws.close()
    shipped = Path(shutil.copytree(ws.path, tmp_path / "shipped"))
    ws.write_trust(tmp_path / "trust.toml", models={})

    assert secureml.open(shipped, create=False, trust=tmp_path / "trust.toml").verify().sealed
    with pytest.raises(KeyUnavailableError, match="no trust"):
        secureml.open(shipped, create=False).verify()


def test_two_servers_of_one_name_are_pinned_apart(ws: Workspace, tmp_path: Path) -> None:
    """Names are for people: a second key with a name that is taken gets another one."""
    other = secureml.open(tmp_path / "other" / "ws")
    theirs = {identity.fingerprint for identity in other.trust.identities}
    ws.pin(other.write_trust(tmp_path / "other.toml", models={}))
    names = [identity.name for identity in ws.trust.identities]

    assert len(names) == len(set(names))
    assert theirs <= {identity.fingerprint for identity in ws.trust.identities}


def test_own_keys_stay_trusted_beside_a_reviewed_file(tmp_path: Path) -> None:
    """A server is trusted for its own audit log, and takes nothing else from its own file."""
    trainer = secureml.open(tmp_path / "trainer")
    reviewed = trainer.write_trust(tmp_path / "trust.toml", models={"demo": [GATE]})
    secureml.open(tmp_path / "server", role="serve", trust=reviewed)
    empty = tmp_path / "empty.toml"
    empty.write_text(Trust().to_toml(), encoding="utf-8")
    server = secureml.open(tmp_path / "server", create=False, role="serve", trust=empty)

    assert ["server audit"] == [identity.name for identity in server.trust.identities]
    assert () == server.trust.rules


def test_mistakes_are_named_before_any_work(ws: Workspace, table: Path, tmp_path: Path) -> None:
    """A path for a dataset, a gate for a list: the error says what to write instead."""
    data = ws.dataset(table, source="s", licence="l")
    before = ws.verify().logs
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("measured|dataset", lambda: ws.run_gate(GATE, str(table))),  # type: ignore[arg-type]
        ("takes a Gate", lambda: ws.run_gate("train@1", data)),  # type: ignore[arg-type]
        (r"inputs=\[train\]", lambda: ws.training_run("m", inputs=data)),  # type: ignore[arg-type]
        (r"require=\[gate\]", lambda: ws.sign_model(tmp_path, require=["g"])),  # type: ignore[list-item]
        (r"\[gate\]", lambda: ws.write_trust(tmp_path / "t", models={"m": GATE})),  # type: ignore[dict-item]
    ]
    for message, mistake in wrong:
        with pytest.raises(TypeError, match=message):
            mistake()

    assert before == ws.verify().logs
    with pytest.raises(StoreError, match="not a directory"):
        secureml.open(table)
