"""Whoever takes over reads little, and takes each record once all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from secureml import audit
from secureml.errors import DigestMismatchError
from secureml.evidence._prefix import Prefix
from secureml.evidence.log import Log
from secureml.evidence.trust import Identity, Trust
from secureml.keys import KeySigner, files

ORIGIN = "log.example/takeover"

WRITER = """
import os, sys
from pathlib import Path
from secureml import audit
from secureml.evidence import sequencer
from secureml.evidence.log import Log
from secureml.keys.files import load
sequencer.NOTED = 0.0
root = Path(sys.argv[1])
key = load(root / "key.pem", purposes=frozenset({"audit"}))
log = Log.open(root / "audit", private=root / "private", origin="log.example/takeover",
               signer=key, purpose="audit", create=True)
made = audit.AuditLog(log, details=root / "details", private=root / "private")
body = {"action": "act", "call": {"kind": "function", "name": "f"}, "latency_us": 1,
        "outcome": "ok", "type": "call"}
while True:
    tickets = [made.append(body) for _ in range(40)]
    tickets[-1].wait("durable")
    os.write(1, "".join(one.id + "\\n" for one in tickets).encode())
"""


class Scene:
    """A log that several processes write, and are killed while they do."""

    def __init__(self, root: Path) -> None:
        """Make the key."""
        self.root = root
        self.note = root / "private" / "prefixes" / "audit"
        self.key: KeySigner = files.create(
            root / "key.pem", scheme="ed25519", purposes=frozenset({"audit"}), passphrase=None
        )
        identity = Identity(
            name="log", verifier=self.key.verifier, roles=frozenset({"audit"}), origin=ORIGIN
        )
        self.trust = Trust((identity,))

    def killed(self, processes: int, lines: int) -> list[str]:
        """Run writers beside each other, kill them, and return what they acknowledged."""
        started = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(self.root)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(processes)
        ]
        seen: list[str] = []
        for process in started:
            assert process.stdout is not None
            seen += [process.stdout.readline().strip() for _ in range(lines)]
        for process in started:
            process.kill()
        for process in started:
            assert process.stdout is not None
            seen += [line.strip() for line in process.stdout if line.endswith("\n")]
            process.stdout.close()
            process.wait()
        return seen

    def open(self, *, recheck: bool = False) -> audit.AuditLog:
        """Open the log as a writer."""
        log = Log.open(
            self.root / "audit",
            private=self.root / "private",
            origin=ORIGIN,
            signer=self.key,
            purpose="audit",
            create=True,
            recheck=recheck,
        )
        return audit.AuditLog(log, details=self.root / "details", private=self.root / "private")

    def finish(self, seen: list[str]) -> None:
        """Take over once more, and check that every acknowledged record is there, once."""
        with self.open() as log:
            log.begin()
        found = audit.verify_audit(self.root / "audit", trust=self.trust)
        found.enforce()
        assert found.log is not None
        records = audit.check_records(found.log.entries)
        ids = [record.id for record in records if record.type == "call"]
        assert len(ids) == len(set(ids))
        assert not set(seen) - set(ids)
        assert not (self.root / "private" / "spool" / "audit" / "aside").exists()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Return an empty directory with a key."""
    return Scene(tmp_path)


def test_killed_leaders_that_noted_what_they_knew(scene: Scene) -> None:
    """Kill after kill, each next leader begins at the note, and no record is lost or doubled."""
    seen: list[str] = []
    for _ in range(3):
        seen += scene.killed(2, 200)
        assert Prefix.read(scene.note) is not None

    scene.finish(seen)


@pytest.mark.parametrize("what", ["stale", "corrupt", "missing", "of another log"])
def test_killed_leaders_and_a_note_that_is_wrong(
    scene: Scene, tmp_path_factory: pytest.TempPathFactory, what: str
) -> None:
    """A note that is old, damaged, gone or of another log changes nothing."""
    seen = scene.killed(1, 300)
    old = scene.note.read_bytes()
    seen += scene.killed(2, 200)
    if what == "stale":
        scene.note.write_bytes(old)
    elif what == "corrupt":
        scene.note.write_bytes(old[:60] + b"x" + old[61:])
    elif what == "missing":
        scene.note.unlink()
    else:
        other = Scene(tmp_path_factory.mktemp("other"))
        other.killed(1, 300)
        scene.note.write_bytes(other.note.read_bytes())
    seen += scene.killed(1, 100)

    scene.finish(seen)


def test_a_changed_entry_is_found_by_who_verifies(scene: Scene) -> None:
    """The next writer may pass over a change below the note; no verification does."""
    scene.finish(scene.killed(1, 600))
    path = scene.root / "audit" / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(b'"action":"act"', b'"action":"axt"', 1))

    with scene.open() as log:
        log.begin()
    with pytest.raises(DigestMismatchError):
        audit.verify_audit(scene.root / "audit", trust=scene.trust)
    with pytest.raises(DigestMismatchError), scene.open(recheck=True) as log:
        log.begin()
