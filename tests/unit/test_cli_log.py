"""The commands of the audit log: each says what it did, and exits as it means."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import secureml
from secureml import audit
from secureml.cli import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A served workspace, closed: three calls by two people, one of which failed."""
    with secureml.open(tmp_path / "ws", role="serve") as ws:

        @ws.audited(action="divide", user="user", capture=["row", "return"], subject="user")
        def divide(row: int, *, user: str) -> float:
            del user
            return 1 / row

        divide(1, user="ada")
        divide(2, user="bob")
        with pytest.raises(ZeroDivisionError):
            divide(0, user="ada")
    return tmp_path / "ws"


@pytest.fixture
def trust(directory: Path) -> str:
    """Path of the reviewed trust file."""
    return str(directory.with_name("ws.private") / "trust.toml")


def said(capsys: Captured) -> dict[str, object]:
    """Return the one JSON object that was printed."""
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def calls(directory: Path) -> list[audit.Record]:
    """Return the records of the calls."""
    log = secureml.open(directory, create=False).audit_log
    return [record for _, record in log.records() if record.type == "call"]


# -- verify --------------------------------------------------------------------


def test_verify_prints_what_was_found(directory: Path, capsys: Captured) -> None:
    """A good audit log is 0; outcomes, values and the undetected window are shown."""
    assert 0 == main(["log", "verify", str(directory)])
    told = capsys.readouterr().out

    assert "error 1, ok 2" in told
    assert "undetected window" in told
    assert "checked" in told
    assert "0 values open" in told
    assert "5 more are encrypted, unchanged, and were not opened" in told
    assert 0 == main(["log", "verify", str(directory), "--open"])
    told = capsys.readouterr().out
    assert "5 values open" in told
    assert "encrypted" not in told


def test_values_that_were_not_opened_are_counted(directory: Path, capsys: Captured) -> None:
    """A program is told how many values were opened, and how many are only unchanged."""
    for more, counted in ((), (0, 5)), (("--open",), (5, 0)):
        assert 0 == main(["log", "verify", str(directory), "--json", *more])
        (found,) = said(capsys)["logs"]  # type: ignore[misc]
        assert dict(zip(("values", "encrypted"), counted, strict=True)) == found["details"]


def test_a_log_that_lies_alone_is_verified(
    directory: Path, tmp_path: Path, trust: str, capsys: Captured
) -> None:
    """A copy of the log, without what lay beside it, is judged for what it is."""
    alone = shutil.copytree(directory / "audit", tmp_path / "elsewhere" / "copied")

    assert 1 == main(["log", "verify", str(alone)])
    assert 0 == main(["log", "verify", str(alone), "--trust", trust, "--json"])
    (found,) = said(capsys)["logs"]  # type: ignore[misc]
    assert "not checkable" == found["undetected_window"]["rollback"]
    assert 0 == main(["log", "verify", str(directory / "audit"), "--json"])
    (found,) = said(capsys)["logs"]  # type: ignore[misc]
    assert "checked" == found["undetected_window"]["rollback"]


def test_a_remembered_note_closes_the_window(
    directory: Path, tmp_path: Path, trust: str, capsys: Captured
) -> None:
    """A checkpoint kept elsewhere is compared; one of another log is refused."""
    note = tmp_path / "note"
    shutil.copy(directory / "audit" / "checkpoint", note)
    copy = shutil.copytree(directory, tmp_path / "copy")
    command = ["log", "verify", str(copy), "--trust", trust, "--remembered", str(note), "--json"]

    assert 0 == main(command)
    (found,) = said(capsys)["logs"]  # type: ignore[misc]
    assert 0 == found["undetected_window"]["size"]
    with secureml.open(tmp_path / "other", role="serve") as other:
        note.write_text(other.checkpoint(), encoding="utf-8")
    assert 1 == main(command)
    assert "SML206" == said(capsys)["code"]


def test_a_changed_entry_is_located(directory: Path, capsys: Captured) -> None:
    """One byte of one entry: refused, with the file."""
    (bundle,) = (directory / "audit" / "tile" / "entries").rglob("*.p/*")
    data = bytearray(bundle.read_bytes())
    data[300] ^= 1
    bundle.write_bytes(data)

    assert 1 == main(["log", "verify", str(directory), "--json"])
    found = said(capsys)
    assert not found["ok"]
    assert "tile/entries" in str(found["what"]) + str(found["why"])


def test_what_the_records_say_is_judged(directory: Path, capsys: Captured) -> None:
    """A profile that calls do not meet is 1, with each finding; a quick look reads no records."""
    assert 1 == main(["log", "verify", str(directory), "--profile", "pci-10.2.2", "--json"])
    (found,) = said(capsys)["logs"]  # type: ignore[misc]
    assert {"profile"} == {one["code"] for one in found["findings"]}
    assert 1 == main(["log", "verify", str(directory), "--profile", "pci-10.2.2"])
    assert "first bad entry" in capsys.readouterr().out
    assert 0 == main(["log", "verify", str(directory), "--level", "sequence"])
    assert 2 == main(["log", "verify", str(directory), "--profile", "nothing-of-the-kind"])


def test_strict_refuses_warnings(directory: Path, capsys: Captured) -> None:
    """A killed writer is accounted for: a warning, which only --strict refuses."""
    code = (
        "import os, secureml, sys\n"
        "ws = secureml.open(sys.argv[1], create=False, role='serve')\n"
        "ws.audited(action='x', durable=True)(len)([])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, directory], check=False)
    with secureml.open(directory, create=False, role="serve") as ws:
        ws.audited(action="x")(len)([])

    assert 0 == main(["log", "verify", str(directory)])
    assert "killed" in capsys.readouterr().out
    assert 1 == main(["log", "verify", str(directory), "--strict"])
    assert 0 == main(["verify", str(directory)])
    assert "died after this record" in capsys.readouterr().out


# -- for auditors --------------------------------------------------------------


def test_the_auditors_kit_is_complete(directory: Path, tmp_path: Path, capsys: Captured) -> None:
    """Verifier, key, proof and entry, all from commands; nothing of secureml verifies them."""
    record = calls(directory)[1].id
    assert 0 == main(["log", "verifier"])
    verifier = tmp_path / "verify_log.py"
    verifier.write_text(capsys.readouterr().out, encoding="utf-8")
    assert 0 == main(["log", "key", str(directory)])
    key = capsys.readouterr().out.strip()
    assert 0 == main(["log", "prove", str(directory), record, "--entry", str(tmp_path / "entry")])
    (tmp_path / "proof").write_text(capsys.readouterr().out, encoding="utf-8")

    def run(*args: object) -> int:
        command = [sys.executable, "-I", verifier, *args, "--key", key]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert 0 == run(directory / "audit")
    assert 0 == run("--proof", tmp_path / "proof", "--entry", tmp_path / "entry")
    (tmp_path / "entry").write_bytes((tmp_path / "entry").read_bytes() + b" ")
    assert 1 == run("--proof", tmp_path / "proof", "--entry", tmp_path / "entry")


def test_the_verifier_says_its_own_digest(capsys: Captured) -> None:
    """As JSON, with the SHA-256 that a colleague compares."""
    assert 0 == main(["log", "verifier", "--json"])
    found = said(capsys)

    assert hashlib.sha256(str(found["source"]).encode()).hexdigest() == found["sha256"]
    assert "verify_log.py" == found["name"]


def test_keys_come_from_the_trust_file(
    directory: Path, tmp_path: Path, trust: str, capsys: Captured
) -> None:
    """A directory's own claim is no key; neither is another's trust file."""
    copy = shutil.copytree(directory, tmp_path / "copy")

    assert 1 == main(["log", "key", str(copy)])
    assert 0 == main(["log", "key", str(copy), "--trust", trust, "--json"])
    (found,) = said(capsys)["keys"]  # type: ignore[misc]
    assert found["vkey"].startswith(found["origin"] + "+")
    secureml.open(tmp_path / "other", role="serve")
    assert 1 == main(
        ["log", "key", str(copy), "--trust", str(tmp_path / "other.private" / "trust.toml")]
    )


def test_anchors_without_receipts(directory: Path, capsys: Captured) -> None:
    """Nobody has seen it: the command says so."""
    assert 0 == main(["log", "anchors", str(directory), "--json"])
    (found,) = said(capsys)["logs"]  # type: ignore[misc]

    assert (0, []) == (found["anchored"], found["vouchers"])
    assert 2 == main(["log", "anchors", str(directory), "--authority", "no-path"])


# -- questions -----------------------------------------------------------------


def test_query(directory: Path, capsys: Captured) -> None:
    """Conditions, a person by name, SQL; each answer says that the log was verified."""
    command = ["log", "query", str(directory), "--json"]

    assert 0 == main([*command, "--type", "call", "--outcome", "error"])
    found = said(capsys)
    assert (True, 1) == (found["verified"], len(found["rows"]))  # type: ignore[arg-type]
    assert 0 == main([*command, "--user", "ada"])
    assert 2 == len(said(capsys)["rows"])  # type: ignore[arg-type]
    assert 0 == main([*command, "--sql", "SELECT count(*) AS n FROM records"])
    assert [{"n": 5}] == said(capsys)["rows"]
    assert 2 == main([*command, "--sql", "DELETE FROM records"])
    assert 2 == main([*command, "--sql", "SELECT 1", "--limit", "3"])
    capsys.readouterr()
    assert 0 == main(["log", "query", str(directory), "--type", "call", "--limit", "2"])
    assert 2 == len(capsys.readouterr().out.splitlines())


def test_an_unverified_query_has_an_index(directory: Path, capsys: Captured) -> None:
    """It is kept in the private half, and the answer says that nothing was verified."""
    for _ in range(2):
        assert 0 == main(["log", "query", str(directory), "--unverified", "--json"])
        found = said(capsys)
        assert (False, 5) == (found["verified"], len(found["rows"]))  # type: ignore[arg-type]

    assert [p.suffix for p in (directory.with_name("ws.private") / "index").iterdir()] == [
        ".sqlite"
    ]


def test_who_asked_is_recorded(directory: Path, tmp_path: Path, capsys: Captured) -> None:
    """--by leaves an access record, and the directory stays sealed."""
    assert 0 == main(["log", "query", str(directory), "--by", "auditor", "--json"])
    export = ["log", "export", str(directory), "--format", "jsonl", "--by", "auditor"]
    assert 0 == main([*export, "--out", str(tmp_path / "out")])
    capsys.readouterr()
    assert 0 == main(["log", "query", str(directory), "--type", "access", "--json"])
    found = said(capsys)

    assert ["audit.query", "audit.export"] == [row["action"] for row in found["rows"]]  # type: ignore[attr-defined]
    assert secureml.open(directory, create=False).verify().sealed


def test_export(
    directory: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """To a file, or to standard output: the same bytes; only the rest from --start on."""
    command = ["log", "export", str(directory), "--format", "ocsf"]
    assert 0 == main([*command, "--out", str(tmp_path / "out")])
    assert b"" == capsysbinary.readouterr().out
    assert 0 == main(command)
    written = capsysbinary.readouterr()

    assert written.out == (tmp_path / "out").read_bytes()
    assert b"--start 5" in written.err
    assert 0 == main([*command, "--start", "5"])
    assert b"" == capsysbinary.readouterr().out
    assert 2 == main([*command, "--json"])
    assert 1 == main(["log", "export", str(tmp_path), "--format", "cef", "--unverified"])


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An OTLP receiver on this machine, and the headers that it got."""
    seen: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(dict(self.headers.items()))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


def test_push(
    directory: Path,
    tmp_path: Path,
    receiver: tuple[str, list[dict[str, str]]],
    capsys: Captured,
) -> None:
    """Records arrive with the headers of a file, so that no token is in the command."""
    url, seen = receiver
    headers = tmp_path / "headers"
    headers.write_text("X-Token: secret\n\n", encoding="utf-8")

    assert 0 == main(["log", "push", str(directory), url, "--headers", str(headers), "--json"])
    assert 5 == said(capsys)["rows"]
    assert "secret" == seen[0]["X-Token"]
    headers.write_text("nonsense\n", encoding="utf-8")
    assert 2 == main(["log", "push", str(directory), url, "--headers", str(headers)])
    assert 2 == main(["log", "push", str(directory), "http://example.org"])


# -- keeping -------------------------------------------------------------------


def test_erase(directory: Path, capsys: Captured) -> None:
    """A person's key is destroyed, verification stays green, and it may be repeated."""
    command = ["log", "erase", str(directory), "ada", "--reason", "asked for it", "--json"]

    assert 0 == main(command)
    found = said(capsys)
    assert (1, 1) == (found["shredded"], len(found["keys"]))  # type: ignore[arg-type]
    assert 0 == main(["verify", str(directory)])
    assert 0 == main(["log", "verify", str(directory)])
    capsys.readouterr()
    assert 0 == main(command)
    assert 0 == said(capsys)["shredded"]
    assert 0 == main(["log", "erase", str(directory), "--complete"])
    assert 2 == main(["log", "erase", str(directory), "ada"])
    assert 2 == main(["log", "erase", str(directory), "--reason", "nobody is named"])
    details = directory / "details"
    ada, bob, _ = calls(directory)
    keys = secureml.sealing.SubjectKeys(directory.with_name("ws.private"))
    assert 2 == audit.open_value(bob, details, "row", keys=keys)
    with pytest.raises(LookupError):
        audit.open_value(ada, details, "row", keys=keys)


def test_holds_stop_erasures(directory: Path, capsys: Captured) -> None:
    """While a hold is placed nothing goes; it is released by its name."""
    erase = ["log", "erase", str(directory), "ada", "--reason", "asked for it"]

    assert 0 == main(["log", "hold", str(directory), "case-17", "--subject", "ada"])
    assert 1 == main(erase)
    assert "case-17" in capsys.readouterr().err
    assert 0 == main(["log", "erase", str(directory), "bob", "--reason", "asked for it"])
    assert 1 == main(["log", "release", str(directory), "case-18"])
    assert 0 == main(["log", "release", str(directory), "case-17"])
    assert 0 == main(erase)


def test_retention(directory: Path, capsys: Captured) -> None:
    """A policy is recorded and shown; what is shorter than a law asks for is warned of."""
    show = ["log", "retention", "show", str(directory), "--json"]
    assert 0 == main(show)
    assert said(capsys)["policy"] is None
    assert 1 == main(["log", "prune", str(directory)])
    capsys.readouterr()

    choose = ["log", "retention", "set", str(directory), "--default-days", "400"]
    assert 0 == main([*choose, "--preset", "pci", "--class", "short=3"])
    assert "short is kept for 3 days" in capsys.readouterr().out
    assert 0 == main(show)
    found = said(capsys)
    assert {"classes": {"pci": 366, "short": 3}, "default_days": 400} == found["policy"]
    assert 0 == main(["log", "retention", "show", str(directory)])
    assert 2 == main(["log", "retention", "set", str(directory), "--class", "short"])
    assert 2 == main(["log", "retention", "set", str(directory), "--preset", "none-such"])


def test_prune(tmp_path: Path, capsys: Captured) -> None:
    """Old records go in whole bundles; the directory and its proofs go on to verify."""
    from datetime import UTC, datetime, timedelta

    from secureml.workspace.layout import Layout
    from secureml.workspace.workspace import Workspace

    directory = tmp_path / "ws"
    with secureml.open(directory, role="serve"):
        pass
    then = datetime.now(UTC) - timedelta(days=30)
    ws = Workspace(Layout.of(directory), role="serve", now=lambda: then)
    key = tmp_path / "auditor.key"
    key.write_text(ws.begin_tail().hex(), encoding="ascii")
    double = ws.audited(action="double", capture=["row"])(lambda row: 2 * row)
    with audit.collect() as records:
        for row in range(600):
            double(row)
    ws.close()
    assert 0 == main(
        ["log", "retention", "set", str(directory), "--class", "none=1", "--default-days", "7"]
    )
    capsys.readouterr()

    assert 0 == main(["log", "prune", str(directory), "--dry-run", "--json"])
    assert 512 == said(capsys)["records"]
    assert 0 == main(["log", "prune", str(directory), "--json"])
    found = said(capsys)
    assert (512, 2, 600) == (found["minimum"], found["bundles"], found["lines"])
    assert 0 == main(["log", "prune", str(directory), "--complete"])
    assert 0 == main(["verify", str(directory)])
    assert "removed under its policy" in capsys.readouterr().out
    assert 0 == main(["log", "verify", str(directory), "--tail-key", str(key)])
    out = capsys.readouterr().out
    assert "below entry 512" in out
    assert "not cut or changed" in out
    assert 0 == main(["log", "prove", str(directory), records[-1].id])
    assert 1 == main(["log", "prove", str(directory), records[0].id])
    assert 1 == main(["trace", str(directory), records[-1].id])
    capsys.readouterr()
    assert 0 == main(["log", "query", str(directory), "--type", "call", "--json"])
    assert 600 - 512 + 1 == len(said(capsys)["rows"])  # type: ignore[arg-type]


def test_a_protected_key_asks_for_its_passphrase(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that write read the passphrase from standard input; a wrong one is 3."""
    import io

    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    path = directory.with_name("ws.private") / "keys" / "audit.pem"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open"))
    )
    command = ["log", "hold", str(directory), "case"]

    monkeypatch.setattr("sys.stdin", io.StringIO("shut\n"))
    assert 3 == main(command)
    monkeypatch.setattr("sys.stdin", io.StringIO("open\n"))
    assert 0 == main(command)


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    """A directory that is missing is not made by a command that would write there."""
    for command in (["hold", "case"], ["erase", "ada", "--reason", "r"], ["prune"]):
        name, *rest = command
        assert 3 == main(["log", name, str(tmp_path / "nowhere"), *rest])
    assert os.listdir(tmp_path) == []  # noqa: PTH208  names are wanted
