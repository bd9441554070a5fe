"""
Our checkpoints, cosigned by an independent witness: aics-witness, from the registry.

It needs Python 3.12 and is no dependency of ours, so the test runs where
``SECUREML_PY312`` names an interpreter that can import it::

    python3.12 -m venv /tmp/py312 && /tmp/py312/bin/pip install aics-witness
    SECUREML_PY312=/tmp/py312/bin/python pytest tests/interop/test_anchor_witness.py
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import ConsistencyError, StoreError, UntrustedSignerError
from secureml.evidence.anchors import Anchors, Head, WitnessAnchor, verify_receipts
from secureml.evidence.anchors._http import post
from secureml.evidence.anchors.witness import add_checkpoint_body
from secureml.evidence.checklog import verify_log
from secureml.evidence.log import Log
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.witness import Witness, verify_cosignatures
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/interop"
PYTHON = os.environ.get("SECUREML_PY312", "")


def can_import() -> bool:
    """Return whether the interpreter that is named can import aics-witness."""
    return (
        bool(PYTHON)
        and not subprocess.run(
            [PYTHON, "-c", "import aics_witness"], capture_output=True, check=False
        ).returncode
    )


pytestmark = pytest.mark.skipif(
    not can_import(), reason="SECUREML_PY312 names no Python with aics-witness"
)


@dataclass
class Running:
    """The witness, and a log that it knows."""

    anchor: WitnessAnchor
    log: Log
    signer: keys.KeySigner
    trust: Trust


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Start the witness as its operator would, and a log of five entries."""
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    config = ["--config", str(tmp_path / "witness.json")]
    command = [PYTHON, "-m", "aics_witness"]
    key = VKey(ORIGIN, ED25519, signer.verifier.raw).encode()
    made = subprocess.run(
        [*command, "init", *config, "--name", "witness.example/w1", "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(
        [*command, "add-log", *config, "--origin", ORIGIN, "--vkey", key],
        capture_output=True,
        check=True,
    )
    vkey = re.search(r"^(witness\.example/w1\+\S+)", made.stdout + made.stderr, re.MULTILINE)
    assert vkey
    witness = Witness("w1", VKey.decode(vkey[1]))
    server = subprocess.Popen([*command, "serve", *config], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr
        url = None
        for line in server.stderr:
            if found := re.search(r"listening on (http://\S+)", line):
                url = found[1]
                break
        assert url
        identity = Identity(
            name="log", verifier=signer.verifier, roles=frozenset({"log"}), origin=ORIGIN
        )
        with Log.open(tmp_path / "log", origin=ORIGIN, signer=signer, create=True) as log:
            grow(log, 5)
            anchor = WitnessAnchor(name="w1", url=url, witness=witness)
            yield Running(anchor, log, signer, Trust((identity,), (), "", (witness,), 1))
    finally:
        server.terminate()
        server.communicate(timeout=20)


def grow(log: Log, entries: int, text: str = "entry") -> None:
    """Append entries, and publish."""
    for n in range(entries):
        log.append(f"{text} {n}".encode(), sync=False)
    log.publish()


def test_it_cosigns_a_log_as_it_grows(running: Running) -> None:
    """HTTP 200 with a cosignature that holds, from a proof over one bundle and more."""
    for entries in (0, 1, 250, 300):
        grow(running.log, entries)

        receipt = running.anchor.submit(Head.read(running.log))

        found = verify_cosignatures(receipt.note, [running.anchor.witness], 1)
        assert running.log.size == found.size


def test_receipts_of_it_are_judged_offline(running: Running) -> None:
    """What the policy kept says who has seen the log, and by when."""
    Anchors(required=[running.anchor]).anchor(running.log).enforce()
    grow(running.log, 3)
    directory = running.log.directory
    verified = verify_log(directory, trust=running.trust)

    found = verify_receipts(directory.parent / "anchors" / "log", verified, trust=running.trust)

    assert (found.size(), found.log_size) == (5, 8)
    assert found.latest is not None


def test_it_refuses_a_stale_checkpoint(running: Running) -> None:
    """HTTP 409 with its size, for a checkpoint that it has left behind."""
    old = running.log.checkpoint_note()
    grow(running.log, 4)
    running.anchor.submit(Head.read(running.log))

    reply = post(
        f"{running.anchor.url}/add-checkpoint",
        add_checkpoint_body(0, (), old),
        kind="text/plain",
        accept="*/*",
        timeout=10,
        limit=1 << 16,
    )

    assert (409, "text/x.tlog.size", b"9\n") == (reply.status, reply.kind, reply.body)


def test_it_refuses_a_log_that_was_rolled_back(running: Running, tmp_path: Path) -> None:
    """An older copy of the whole log, put back, is an alarm."""
    shutil.copytree(running.log.directory, tmp_path / "older")
    grow(running.log, 4)
    running.anchor.submit(Head.read(running.log))

    with pytest.raises(ConsistencyError, match="another history"):
        running.anchor.submit(Head.read(Log.open(tmp_path / "older")))


@pytest.mark.parametrize("entries", [5, 12])
def test_it_refuses_a_fork(running: Running, tmp_path: Path, entries: int) -> None:
    """A second history under the same key is an alarm, of the same size or longer."""
    running.anchor.submit(Head.read(running.log))
    with Log.open(tmp_path / "fork", origin=ORIGIN, signer=running.signer, create=True) as fork:
        grow(fork, entries, "another")

        with pytest.raises(ConsistencyError, match="another history"):
            running.anchor.submit(Head.read(fork))


def test_it_refuses_an_edited_checkpoint(running: Running) -> None:
    """HTTP 403 for a note whose text its signature does not cover."""
    path = running.log.directory / "checkpoint"
    note = path.read_text()
    path.write_text(note.replace(f"{ORIGIN}\n5\n", f"{ORIGIN}\n4\n"))

    with pytest.raises(UntrustedSignerError, match="does not accept the key"):
        running.anchor.submit(Head.read(Log.open(running.log.directory)))

    path.write_text(note)


def test_it_does_not_know_another_log(running: Running, tmp_path: Path) -> None:
    """HTTP 404 for an origin that its operator did not add."""
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    with Log.open(tmp_path / "other", origin="other.example", signer=signer, create=True) as other:
        grow(other, 1)

        with pytest.raises(StoreError, match="does not know the log"):
            running.anchor.submit(Head.read(other))
