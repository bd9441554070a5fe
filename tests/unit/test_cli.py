"""The command line: thin, with one JSON object and an honest exit code."""

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the commands register a table")

import pyarrow as pa
import pyarrow.parquet as pq

import secureml
from secureml import keys
from secureml.cli import main
from secureml.evidence.trust import Identity, Trust

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed workspace with one statement."""
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), table)
    with secureml.open(tmp_path / "ws") as ws:
        ws.dataset(table, source="s", licence="l")
    return tmp_path / "ws"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights.json").write_text("[1, 2]", encoding="utf-8")
    return path


def said(capsys: Captured) -> dict[str, object]:
    """Return the one JSON object that was printed."""
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_nothing_to_do_is_usage(capsys: Captured) -> None:
    """Without a command the help is shown, and the exit code is 2."""
    assert 2 == main([])
    assert "verify" in capsys.readouterr().err


def test_verify_and_log_verify(directory: Path, capsys: Captured) -> None:
    """A good directory is 0, and says what was verified."""
    assert 0 == main(["verify", str(directory)])
    assert "rollback" in capsys.readouterr().out
    assert 0 == main(["log", "verify", str(directory)])
    assert "rollback: checked" in capsys.readouterr().out
    assert 0 == main(["log", "verify", str(directory), "--json"])
    assert 2 == len(said(capsys)["logs"])  # type: ignore[arg-type]


def test_both_logs_have_a_key_and_anchors(directory: Path, capsys: Captured) -> None:
    """One line for each key that signs checkpoints; nobody else has seen them yet."""
    assert 0 == main(["log", "key", str(directory)])
    keys_of = [line.split("+")[0] for line in capsys.readouterr().out.splitlines()]
    assert ["/log", "/audit"] == ["/" + origin.rpartition("/")[2] for origin in keys_of]
    assert 0 == main(["log", "key", str(directory / "log")])
    assert 1 == len(capsys.readouterr().out.splitlines())
    assert 0 == main(["log", "anchors", str(directory), "--json"])
    assert 2 == len(said(capsys)["logs"])  # type: ignore[arg-type]
    assert 0 == main(["log", "verify", str(directory / "log")])
    assert 1 == main(["log", "query", str(directory / "log")])


def test_a_changed_file_is_one(directory: Path, capsys: Captured) -> None:
    """What is refused is 1, with code, what, why and fix in the JSON."""
    (directory / "trust.toml").write_text("version = 1\n", encoding="utf-8")

    assert 1 == main(["verify", str(directory), "--json"])
    found = said(capsys)
    assert ("SML201", False) == (found["code"], found["ok"])
    assert found["what"]
    assert found["why"]
    assert found["fix"]


def test_without_a_root_it_prints_fingerprints(
    directory: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Nothing in the directory is trusted because it lies there; the way out is shown."""
    shipped = shutil.copytree(directory, tmp_path / "shipped")

    assert 1 == main(["verify", str(shipped)])
    told = capsys.readouterr().err
    assert "ws statements: sha256:" in told
    assert "--trust trust.toml" in told
    trust = directory.with_name("ws.private") / "trust.toml"
    assert 0 == main(["verify", str(shipped), "--trust", str(trust)])


def test_what_cannot_be_told_is_three(tmp_path: Path, capsys: Captured) -> None:
    """A missing directory, file or key is neither yes nor no."""
    trust = tmp_path / "trust.toml"
    trust.write_text(Trust().to_toml(), encoding="utf-8")

    assert 3 == main(["verify", str(tmp_path / "nowhere")])
    assert 3 == main(["verify", str(tmp_path / "nowhere"), "--trust", str(trust)])
    assert 3 == main(["hash", str(tmp_path / "nothing")])
    assert 3 == main(
        ["sign-model", str(tmp_path), "--key", str(tmp_path / "no.pem"), "--signature", "s"]
    )
    assert "fix:" in capsys.readouterr().err


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    """A directory without logs is no evidence."""
    trust = tmp_path / "trust.toml"
    trust.write_text(Trust().to_toml(), encoding="utf-8")
    (tmp_path / "empty").mkdir()

    for command in (["verify"], ["log", "verify"]):
        assert 1 == main([*command, str(tmp_path / "empty"), "--trust", str(trust)])


def test_a_checkpoint_file_is_checked(directory: Path, tmp_path: Path, capsys: Captured) -> None:
    """A note seen earlier is compared; a note of another log is refused."""
    note = tmp_path / "note"
    note.write_text((directory / "log" / "checkpoint").read_text("utf-8"), encoding="utf-8")
    trust = directory.with_name("ws.private") / "trust.toml"
    shipped = shutil.copytree(directory, tmp_path / "shipped")
    args = ["verify", str(shipped), "--trust", str(trust), "--checkpoint", str(note), "--json"]

    assert 0 == main(args)
    assert "checked" == said(capsys)["rollback"]
    with secureml.open(tmp_path / "other") as other:
        note.write_text(other.checkpoint(), encoding="utf-8")
    assert 1 == main(args)


def test_hash_names_trees_files_and_tables(directory: Path, capsys: Captured) -> None:
    """A tree has a dirHash, a table a byte digest and a logical one."""
    assert 0 == main(["hash", str(directory)])
    assert capsys.readouterr().out.startswith("dirHash:")
    assert 0 == main(["hash", str(directory.parent / "t.parquet"), "--json"])
    found = said(capsys)
    assert str(found["digest"]).startswith("sha256:")
    assert str(found["logical"]).startswith("tableDigest1:")


def test_keygen_prints_a_block_that_a_trust_file_takes(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is 0600 and protected; the block reads back as the identity."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("a passphrase\n"))
    assert 0 == main(
        ["keygen", str(tmp_path / "k.pem"), "--name", "alice", "--roles", "model,run"]
    )
    trust = Trust.from_toml("version = 1\n" + capsys.readouterr().out)

    assert ["alice"] == [identity.name for identity in trust.identities]
    assert keys.is_encrypted(tmp_path / "k.pem")
    assert 0o600 == (tmp_path / "k.pem").stat().st_mode & 0o777
    assert 3 == main(["keygen", str(tmp_path / "k.pem"), "--no-passphrase"])
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert 2 == main(["keygen", str(tmp_path / "other.pem")])
    assert not (tmp_path / "other.pem").exists()


def test_sign_and_verify_a_model(model: Path, tmp_path: Path, capsys: Captured) -> None:
    """With --key it says that only the signature was checked; with --trust, who signed."""
    key = keys.create(tmp_path / "k.pem")
    public, trust = tmp_path / "k.pub", tmp_path / "trust.toml"
    public.write_text(key.verifier.pem, encoding="utf-8")
    identity = Identity(name="alice", verifier=key.verifier, roles=frozenset({"model"}))
    trust.write_text(Trust((identity,)).to_toml(), encoding="utf-8")
    signature = str(tmp_path / "m.sig")

    assert 0 == main(
        ["sign-model", str(model), "--key", str(tmp_path / "k.pem"), "--signature", signature]
    )
    capsys.readouterr()
    verify = ["verify-model", str(model), "--signature", signature]
    assert 0 == main([*verify, "--key", str(public)])
    assert "signature only" in capsys.readouterr().out
    assert 0 == main([*verify, "--trust", str(trust), "--json"])
    assert "alice" == said(capsys)["signer"]
    (model / "weights.json").write_text("[1, 3]", encoding="utf-8")
    assert 1 == main([*verify, "--key", str(public)])


def test_trace_and_prove(tmp_path: Path, capsys: Captured) -> None:
    """An unknown id is refused; a record and a statement are proven."""
    with secureml.open(tmp_path / "ws") as ws:
        table = tmp_path / "t.parquet"
        pq.write_table(pa.table({"x": [1, 2]}), table)
        data = ws.dataset(table, source="s", licence="l")

        @ws.audited(action="predict", model="v1", capture=["row"])
        def predict(row: list[int]) -> int:
            return row[0]

        with secureml.audit.collect() as records:
            predict([1, 2])
    given = tmp_path / "row.json"
    given.write_text("[1, 2]", encoding="utf-8")
    directory, record = str(tmp_path / "ws"), records[0].id

    assert 1 == main(["trace", directory, "no-such-id"])
    assert "no prediction" in capsys.readouterr().err
    assert 1 == main(["trace", directory, record, "--input", str(given), "--json"])
    links = said(capsys)["links"]
    assert [("prediction", True), ("input", True), ("model", False)] == [
        (link["name"], link["ok"])
        for link in links  # type: ignore[attr-defined]
    ]
    for name in (record, str(data.evidence.digest)):
        assert 0 == main(["log", "prove", directory, name])
        assert capsys.readouterr().out.startswith("c2sp.org/tlog-proof@v1\n")
    assert 1 == main(["log", "prove", directory, "no-such-id"])


def test_doctor(directory: Path, capsys: Captured) -> None:
    """Each finding has its fix; a key that others can read is one."""
    assert 0 == main(["doctor", str(directory)])
    capsys.readouterr()
    os.chmod(directory.with_name("ws.private") / "keys" / "log.pem", 0o644)  # noqa: PTH101
    assert 1 == main(["doctor", str(directory), "--json"])
    assert not said(capsys)["ok"]
