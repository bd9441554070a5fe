"""Many processes serve one directory: what each leaves, who seals, what a verifier says."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="a workspace imports what registers tables")

import secureml
from secureml import audit
from secureml.errors import GateDeniedError
from secureml.workspace import sealing
from secureml.workspace.layout import Layout

SERVER = """
import secureml, sys
ws = secureml.open(sys.argv[1], create=False, role="serve")

@ws.audited(action="double", user="user", capture=["row"])
def double(row, *, user):
    return 2 * row

for row in range(int(sys.argv[2])):
    double(row, user=f"user {row % 3}")
ws.audit_log.publish()
print("ready", flush=True)
sys.stdin.readline()
ws.close()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A new served workspace."""
    secureml.open(tmp_path / "ws", role="serve").close()
    return tmp_path / "ws"


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Start a server, and return when it has recorded."""
    started: list[subprocess.Popen[str]] = []

    def begin(calls: int = 20) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SERVER, str(directory), str(calls)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def stop(process: "subprocess.Popen[str]") -> None:
    """Let a server close."""
    process.communicate("\n", timeout=60)
    assert 0 == process.returncode


def test_the_last_one_seals(directory: Path, start: Start) -> None:
    """While another process records, closing seals nothing; the directory verifies all along."""
    first, second = start(), start()

    assert not secureml.open(directory, create=False).verify().sealed
    stop(first)
    assert not secureml.open(directory, create=False).verify().sealed
    stop(second)
    report = secureml.open(directory, create=False).verify()
    assert report.sealed
    assert () == report.noted
    assert 2 * (1 + 20) + 2 == report.records


def test_a_directory_is_made_once(tmp_path: Path) -> None:
    """Processes that begin together on a new directory serve one log under one key."""
    code = SERVER.replace("create=False, ", "")
    command = [sys.executable, "-c", code, str(tmp_path / "new"), "2"]
    servers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    told = [server.communicate("\n", timeout=60)[1] for server in servers]
    report = secureml.open(tmp_path / "new", create=False).verify()

    assert [0] * 4 == [server.returncode for server in servers], told
    assert 1 == sum("created workspace" in text for text in told)
    assert report.sealed
    assert 1 == len(report.logs)


def test_those_who_close_together_leave_one_seal(directory: Path, start: Start) -> None:
    """Whoever comes last to the lock finds nobody, and seals."""
    servers = [start(5) for _ in range(3)]
    for server in servers:
        assert server.stdin is not None
        server.stdin.write("\n")
        server.stdin.flush()
    for server in servers:
        assert 0 == server.wait(60)
    with secureml.open(directory, create=False) as ws:
        seals = [r for _, r in ws.audit_log.records() if r.type == "seal"]

        assert ws.verify().sealed
        assert 1 == len(seals)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_server_is_accounted_for(directory: Path, start: Start) -> None:
    """Its records are taken over, the next one seals, and the report says that it died."""
    killed, other = start(), start()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    stop(other)
    report = secureml.open(directory, create=False).verify()

    assert report.sealed
    assert 1 == len(report.noted)
    assert "died after this record" in report.noted[0]
    assert report.noted[0] in report.warnings
    assert 20 * 2 == sum(
        r.type == "call" for _, r in secureml.open(directory, create=False).audit_log.records()
    )


def test_a_trainer_and_a_server_share_a_directory(tmp_path: Path) -> None:
    """The statement log has one writer; beside it any process records, and the seals agree."""
    trainer = secureml.open(tmp_path / "ws")
    trainer.checkpoint()
    with secureml.open(tmp_path / "ws", create=False, role="serve") as server:
        server.audited(action="count", capture=["obj"], durable=True)(_count)([1])
        trainer.close()
        server.audited(action="count", capture=["obj"])(_count)([1, 2])
        server.audit_log.publish()
        assert not secureml.open(tmp_path / "ws", create=False).verify().sealed
    report = secureml.open(tmp_path / "ws", create=False).verify()

    assert report.sealed
    assert 2 == len(report.logs)


def _count(obj: list[int]) -> int:
    return len(obj)


def test_what_comes_before_the_seal_makes_another(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that begins to record while files are measured leaves no false seal."""
    make_seal = sealing.make_seal
    late: list[subprocess.CompletedProcess[str]] = []

    def measure(root: Path, blobs: object) -> sealing.Seal:
        seal = make_seal(root, blobs)  # type: ignore[arg-type]
        if not late:
            command = [sys.executable, "-c", SERVER, str(directory), "3"]
            late.append(
                subprocess.run(command, input="", capture_output=True, text=True, check=False)
            )
        return seal

    # The late process would wait for the one that seals: it only records.
    monkeypatch.setitem(globals(), "SERVER", SERVER.replace("ws.close()", "ws.audit_log.close()"))
    monkeypatch.setattr(sealing, "make_seal", measure)
    with secureml.open(directory, create=False, role="serve") as ws:
        ws.audited(action="count")(_count)([1])
    report = secureml.open(directory, create=False).verify()

    assert late[0].returncode == 0, late[0].stderr
    assert report.sealed
    seals = [
        r
        for _, r in secureml.open(directory, create=False).audit_log.records()
        if r.type == "seal"
    ]
    assert 2 == len(seals)


def test_every_option_of_the_decorator_is_there(directory: Path) -> None:
    """`Workspace.audited` passes on what `audited` takes, and refuses what it refuses."""
    with secureml.open(directory, create=False, role="serve") as ws:

        @ws.audited(
            action="answer",
            user="user",
            session="session",
            tenant=audit.Constant("north"),
            capture=["prompt"],
            redact=["email"],
            subject="user",
            require="before",
            ack="checkpointed",
            on_failure="block",
            retention_class="pci",
        )
        def answer(prompt: str, *, user: str, session: str) -> str:
            del user, session
            return prompt

        with audit.collect() as records:
            answer("write to ann@example.com", user="ann", session="s1")
        _, record = ws.audit_log.read(records[0].id)
        types = [r.type for _, r in ws.audit_log.records()]
        with pytest.raises(ValueError, match="require"):
            ws.audited(action="x", require="never")  # type: ignore[typeddict-item]
        with pytest.raises(TypeError, match="nothing"):
            ws.audited(action="x", nothing=1)  # type: ignore[call-arg]
        value = audit.open_value(record, ws.path / "details", "prompt", keys=ws.audit_log.subjects)

    assert ("s1", "north", "pci") == (
        record.body["session"],
        record.body["tenant"],
        record.body["retention_class"],
    )
    assert "intent" in types
    assert "write to [email]" == value


def test_questions_are_recorded(directory: Path, tmp_path: Path) -> None:
    """Who asked and who exported stands in the log; what was asked is answered."""
    with secureml.open(directory, create=False, role="serve") as ws:
        ws.audited(action="count", user="obj")(_named)("ann")
        table = ws.query(by="auditor", types="call", columns=["action", "actor"])
        done = ws.export("jsonl", tmp_path / "out.jsonl", by="auditor")
        accesses = [r for _, r in ws.audit_log.records() if r.type == "access"]
        auditor = ws.audit_log.pseudonyms.of("auditor")

    assert ["count"] == table["action"].to_pylist()
    assert done.rows == len((tmp_path / "out.jsonl").read_text("utf-8").splitlines())
    assert ["audit.query", "audit.export"] == [r.action for r in accesses]
    assert {auditor} == {r.actor for r in accesses}


def _named(obj: str) -> str:
    return obj


def test_people_are_erased_and_reviews_recorded(directory: Path) -> None:
    """A person's values are gone, a hold forbids it, and every proof holds."""
    with secureml.open(directory, create=False, role="serve") as ws:
        with audit.collect() as records:
            ws.audited(action="name", user="obj", subject="obj", capture=["obj"])(_named)("ann")
        ws.review(records[0].id, action="approved", reviewers=["bob", "cyd"])
        ws.audit_log.hold("case-1")
        with pytest.raises(GateDeniedError):
            ws.erase("ann", reason="asked for it")
        ws.audit_log.release("case-1")
        done = ws.erase("ann", reason="asked for it", authority="officer")
        _, record = ws.audit_log.read(records[0].id)
        with pytest.raises(LookupError):
            audit.open_value(record, ws.path / "details", "obj", keys=ws.audit_log.subjects)
        types = [r.type for _, r in ws.audit_log.records()]

    assert 1 == done.shredded
    assert ["human-review", "hold", "hold", "erasure"] == [
        name for name in types if name in {"human-review", "hold", "erasure"}
    ]
    assert secureml.open(directory, create=False).verify().sealed


def test_an_encrypted_input_is_compared(directory: Path) -> None:
    """A trace on the machine that has the keys compares the given input with the encrypted one."""
    with secureml.open(directory, create=False, role="serve") as ws:
        with audit.collect() as records:
            ws.audited(action="name", user="obj", subject="obj", capture=["obj"])(_named)("ann")
        same = ws.trace(records[0].id, input="ann")
        other = ws.trace(records[0].id, input="bob")

    assert [True, False] == [
        link.ok for trace in (same, other) for link in trace.links if link.name == "input"
    ]


def test_the_private_half_is_never_in_the_evidence(directory: Path, start: Start) -> None:
    """What servers keep for themselves stays in the private directory."""
    stop(start())

    assert {"audit", "blobs", "details", "trust.toml"} == {p.name for p in directory.iterdir()}
    assert Layout.of(directory).private == directory.with_name("ws.private")
