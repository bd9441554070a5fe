"""
Our log directory, verified by an independent tool: aics-tlog, from the registry.

It needs Python 3.12 and is no dependency of ours, so the test runs where
``SECUREML_PY312`` names an interpreter that can import it::

    python3.12 -m venv /tmp/py312 && /tmp/py312/bin/pip install aics-tlog
    SECUREML_PY312=/tmp/py312/bin/python pytest tests/interop/test_log_aics.py
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from secureml import keys
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.evidence.standalone import verify_log as standalone
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/interop"
SIZES = [0, 1, 2, 255, 256, 257, 511, 513, 1_000, 65_535, 65_536, 65_537]
PYTHON = os.environ.get("SECUREML_PY312", "")

THEIRS = """
import json, sys
from pathlib import Path
from aics_tlog import (FileSystemTileReader, audit_tiles, parse_checkpoint, parse_note,
                       parse_vkey, verify_checkpoint, verify_consistency, verify_leaf_inclusion,
                       consistency_proof_from_tiles, inclusion_proof_from_tiles)
asked = json.load(sys.stdin)
note = parse_note(Path(asked["log"], "checkpoint").read_text())
judged = verify_checkpoint(note, parse_vkey(asked["vkey"]), expected_origin=asked["origin"])
assert judged.ok, judged
head = parse_checkpoint(note.text)
reader = FileSystemTileReader(asked["log"])
root = head.root
report = audit_tiles(reader, head.size, root)
for index, path, entry in asked["proofs"]:
    path = [bytes.fromhex(one) for one in path]
    assert verify_leaf_inclusion(entry.encode(), index, head.size, path, root), index
    assert path == inclusion_proof_from_tiles(reader, index, head.size), index
for old, old_root, path in asked["older"]:
    path = [bytes.fromhex(one) for one in path]
    assert verify_consistency(old, head.size, bytes.fromhex(old_root), root, path), old
    assert path == consistency_proof_from_tiles(reader, old, head.size), old
print(json.dumps({"size": head.size, "tiles": report.tiles, "bundles": report.bundles}))
"""


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def can_import() -> bool:
    """Return whether the interpreter that is named can import aics-tlog."""
    return (
        bool(PYTHON)
        and not subprocess.run(
            [PYTHON, "-c", "import aics_tlog"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.skipif(not can_import(), reason="SECUREML_PY312 names no Python with aics-tlog")
@pytest.mark.parametrize("size", SIZES)
def test_an_independent_tool_verifies_our_directory(tmp_path: Path, size: int) -> None:
    """Signature, every tile, every entry, inclusion and consistency hold in aics-tlog."""
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    older: list[tuple[int, str]] = []
    with Log.open(
        tmp_path / "log", origin=ORIGIN, signer=signer, create=True, files=Memory()
    ) as log:
        log.publish()
        for n in range(size):
            log.append(b"entry %d" % n, sync=False)
            if n in {0, 2, 99, 255, 256, 700}:
                log.publish()
                older.append((log.size, log.prove(0).head.root.hex()))
        log.publish()
        places = sorted({0, size // 2, size - 1} & set(range(size)))
        asked = {
            "log": str(tmp_path / "log"),
            "origin": ORIGIN,
            "vkey": VKey(ORIGIN, ED25519, signer.verifier.raw).encode(),
            "proofs": [
                (n, [one.hex() for one in log.prove(n).path], f"entry {n}") for n in places
            ],
            "older": [
                (old, root, [one.hex() for one in log.consistency(old).path])
                for old, root in older
            ],
        }

    done = subprocess.run(
        [PYTHON, "-c", THEIRS],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert size == found["size"]
    assert (size + 255) // 256 == found["bundles"]


COSIGN = """
import base64, json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from aics_tlog import cosignature_vkey, format_vkey, parse_checkpoint, parse_note, sign_cosignature
asked = json.load(sys.stdin)
head = parse_checkpoint(parse_note(asked["note"]).text)
key = Ed25519PrivateKey.generate()
seen = (head.origin, head.size, head.root)
_, line = sign_cosignature(key, "witness.example/w", asked["at"], *seen)
data = base64.b64encode(line.key_id + line.signature).decode()
vkey = format_vkey(cosignature_vkey("witness.example/w", key.public_key()))
print(json.dumps({"vkey": vkey, "line": f"\u2014 {line.name} {data}"}))
"""


@pytest.mark.skipif(not can_import(), reason="SECUREML_PY312 names no Python with aics-tlog")
def test_the_single_file_reads_the_cosignature_of_an_independent_witness(tmp_path: Path) -> None:
    """A checkpoint that aics-tlog cosigned shows auditors when it was seen, and by whom."""
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    with Log.open(
        tmp_path / "log", origin=ORIGIN, signer=signer, create=True, files=Memory()
    ) as log:
        log.append(b"entry", sync=False)
        note = log.publish()
    done = subprocess.run(
        [PYTHON, "-c", COSIGN],
        input=json.dumps({"note": note, "at": 1_795_336_200}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    (tmp_path / "kept").write_text(f"{note}{made['line']}\n", encoding="utf-8")
    vkey = VKey(ORIGIN, ED25519, signer.verifier.raw).encode()
    arguments = [str(tmp_path / "log"), "--remembered", str(tmp_path / "kept"), "--key", vkey]

    known, _ = standalone.command([*arguments, "--key", made["vkey"]])
    unknown, _ = standalone.command(arguments)

    assert (known["verdict"], known["rollback"]) == ("ok", "checked")
    assert known["witnessed"] == "2026-11-22T08:30:00Z by witness.example/w"
    assert unknown["not_checked"] == ["witness.example/w (unknown key)"]
