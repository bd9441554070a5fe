"""
A service in production, and its auditor.

Two processes answer, in streams; a third dies in the middle of a call; a
patient asks to be forgotten; somebody asks what happened, and somebody takes
the records away.  At the end an auditor, who has nothing of secureml, says
that it holds; and when one byte is changed, which one.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import secureml
from secureml import audit

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SERVICE = """
import asyncio, os, sys, time
import secureml
from secureml import audit

ws = secureml.open(sys.argv[1], create=False, role="serve")

@ws.audited(action="chat", user="patient", subject="patient", session="session",
            capture=["prompt", "yield"], redact=["email"])
def chat(prompt, *, patient, session):
    for word in prompt.split():
        yield word.upper()

@ws.audited(action="score", user="patient", subject="patient", capture=["row", "return"],
            durable=True)
async def score(row, *, patient):
    return sum(row)

@ws.audited(action="operate", user="patient", require="before")
def operate(*, patient):
    print("operating", flush=True)
    time.sleep(60)

def answer(number):
    patient = f"patient {number % 3}"
    stream = chat(f"call me at p{number}@example.com please", patient=patient,
                  session=f"s{number}")
    if number % 4 == 3:
        next(stream)
        stream.close()      # nobody reads to the end
    else:
        assert "".join(stream)
    asyncio.run(score([number, 1], patient=patient))

if sys.argv[2] == "die":
    answer(0)
    operate(patient="patient 0")
for number in range(int(sys.argv[2])):
    answer(number)
print("ready", flush=True)
sys.stdin.readline()
ws.close()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """What the service leaves: served, killed, erased, closed."""
    root = tmp_path_factory.mktemp("audit")
    directory = root / "clinic"
    secureml.open(directory, role="serve").close()

    def start(calls: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVICE, directory, str(calls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() in {"ready\n", "operating\n"}
        return process

    servers = [start(8), start(8)]
    victim = start("die")
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    done = command("log", "erase", directory, "patient 1", "--reason", "asked to be forgotten")
    assert 0 == done.returncode, done.stderr
    for server in servers:
        server.communicate("\n", timeout=60)
        assert 0 == server.returncode
    return directory


def run_json(command: Command, *args: object) -> dict[str, object]:
    """Run a command that has to succeed, and return what it printed."""
    done = command(*args, "--json")
    assert 0 == done.returncode, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_the_directory_holds_and_is_sealed(directory: Path, command: Command) -> None:
    """Whoever closed last sealed it; the killed worker is told of, and refuses nothing."""
    found = run_json(command, "verify", directory)

    assert found["sealed"]
    assert any("died after this record" in line for line in found["warnings"])  # type: ignore[attr-defined]


def test_every_call_left_one_outcome(directory: Path, command: Command) -> None:
    """Complete and abandoned streams, coroutines, and the call that a kill cut short."""
    rows = run_json(command, "log", "query", directory)["rows"]
    calls = [(row["action"], row["outcome"]) for row in rows if row["type"] == "call"]  # type: ignore[attr-defined]

    assert 17 == calls.count(("score", "ok"))
    assert (13, 4) == (calls.count(("chat", "ok")), calls.count(("chat", "abandoned")))
    assert 34 == len(calls)
    assert 1 == sum(row["type"] == "intent" for row in rows)  # type: ignore[attr-defined]


def test_the_log_says_what_happened(directory: Path, command: Command) -> None:
    """Verified with the values opened: no error, two warnings, for the one who died."""
    found = run_json(command, "log", "verify", directory, "--open")["logs"]
    (log,) = found  # type: ignore[misc]

    assert log["ok"]
    assert {"killed-writer", "cut-short"} == {one["code"] for one in log["findings"]}
    assert 1 == len(log["recovered"])
    assert 1 == command("log", "verify", directory, "--strict").returncode


def test_the_patient_is_forgotten_and_nobody_else(directory: Path) -> None:
    """What that patient said opens no more; what others said does, without their addresses."""
    with secureml.open(directory, create=False) as ws:
        log = ws.audit_log
        gone = log.pseudonyms.of("patient 1")
        found: dict[bool, set[str]] = {True: set(), False: set()}
        for _, record in log.records():
            if record.action != "chat" or record.type != "call":
                continue
            try:
                value = audit.open_value(record, ws.path / "details", "prompt", keys=log.subjects)
            except LookupError:
                value = None
            found[record.actor == gone].add(str(value))

    assert {True: {"None"}, False: {"call me at [email] please"}} == found


def test_it_is_exported(directory: Path, command: Command, tmp_path: Path) -> None:
    """Each row leads back to its leaf, and personal data is in none of them."""
    out = tmp_path / "audit.jsonl"
    done = run_json(command, "log", "export", directory, "--format", "jsonl", "--out", out)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]

    assert done["verified"]
    assert done["rows"] == len(rows)
    assert list(range(len(rows))) == [row["index"] for row in rows]
    assert "patient 1" not in out.read_text("utf-8")
    assert "example.com" not in out.read_text("utf-8")


@pytest.fixture(scope="module")
def auditor(
    directory: Path, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the auditor's file, alone, with the key that was handed over."""
    place = tmp_path_factory.mktemp("auditor")
    verifier = place / "verify_log.py"
    verifier.write_text(command("log", "verifier").stdout, encoding="utf-8")
    key = command("log", "key", directory).stdout.strip()

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", verifier, *args, "--key", key, "--json"],
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
            env={},
        )

    return run


def test_the_auditor_agrees(
    directory: Path,
    command: Command,
    auditor: Callable[..., "subprocess.CompletedProcess[str]"],
    tmp_path: Path,
) -> None:
    """On a copy, with one file and a key: the same size and root, and one record proven alone."""
    copy = shutil.copytree(directory, tmp_path / "copy")
    done = auditor(copy / "audit", "--audit")
    found = json.loads(done.stdout)
    (log,) = run_json(command, "log", "verify", directory)["logs"]  # type: ignore[misc]

    assert 0 == done.returncode, done.stdout
    assert (log["size"], log["root"]) == (found["size"], found["root"])
    rows = run_json(command, "log", "query", directory, "--outcome", "abandoned")["rows"]
    name = rows[0]["id"]  # type: ignore[index]
    proof = command("log", "prove", directory, name, "--entry", tmp_path / "entry").stdout
    (tmp_path / "proof").write_text(proof, encoding="utf-8")
    assert 0 == auditor("--proof", tmp_path / "proof", "--entry", tmp_path / "entry").returncode
    assert name.encode() in (tmp_path / "entry").read_bytes()


def test_one_byte_is_named(
    directory: Path,
    command: Command,
    auditor: Callable[..., "subprocess.CompletedProcess[str]"],
    tmp_path: Path,
) -> None:
    """An outcome edited on a copy: both verifiers refuse, and say where it is."""
    copy = shutil.copytree(directory, tmp_path / "copy")
    trust = directory.with_name("clinic.private") / "trust.toml"
    (bundle,) = (copy / "audit" / "tile" / "entries").rglob("*.p/*")
    data = bundle.read_bytes()
    at = data.index(b'"abandoned"')
    bundle.write_bytes(data[:at] + b'"abandonee"' + data[at + 11 :])
    rows = run_json(command, "log", "query", directory, "--outcome", "abandoned")["rows"]
    index = rows[0]["index"]  # type: ignore[index]

    refused = auditor(copy / "audit")
    assert 1 == refused.returncode
    assert index == json.loads(refused.stdout)["entry"]
    refused = command("log", "verify", copy, "--trust", trust, "--json")
    assert 1 == refused.returncode
    assert f"entry {index}" in refused.stdout
