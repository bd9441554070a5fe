"""A record is witnessed when somebody elsewhere vouches for it, and waits for nobody else."""

import asyncio
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.audit._anchoring import ANCHORED, WANTED, Anchoring
from secureml.audit.verification import epoch_of
from secureml.errors import StoreError
from secureml.evidence._files import Files
from secureml.evidence.anchors import (
    Anchors,
    CopyAnchor,
    Folder,
    receipts_directory,
    verify_receipts,
)
from secureml.evidence.keeping import Epochs, Keeping, create_epochs
from secureml.evidence.log import Log, verify_log
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.keys import KeySigner, Verifier, files, generate
from secureml.wire.checkpoint import Checkpoint

RIG = Path(__file__).parents[1] / "evidence" / "anchors" / "conftest.py"
_spec = spec_from_file_location("anchors_rig", RIG)
if _spec is None or _spec.loader is None:
    raise ImportError(name="anchors_rig")
rigs = module_from_spec(_spec)
sys.modules["anchors_rig"] = rigs
_spec.loader.exec_module(rigs)

ORIGIN = "log.example/seen"
BODY: dict[str, Any] = {
    "action": "act",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}


class Mortal(rigs.LoopbackWitness):  # type: ignore[misc, name-defined]
    """A witness that may be dead."""

    dead = False

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Answer, or fail."""
        if self.dead:
            return 500, "text/plain", b"dead\n"
        answer: tuple[int, str, bytes] = super().answer(path, body)
        return answer


class Scene:
    """A log, its key, and a witness on this machine."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        """Make a key and start the witness."""
        self.root, self._stack = root, stack
        self.key: KeySigner = files.create(
            root / "key.pem", scheme="ed25519", purposes=frozenset({"audit"}), passphrase=None
        )
        self.witness = Mortal(Trust((self._identity("log", self.key.verifier, "log"),)))
        self.witness.server = rigs.Server(self.witness.answer)
        stack.callback(self.witness.server.close)
        self.anchor = rigs.WitnessAnchor(
            name="w1", url=self.witness.server.url, witness=self.witness.witness, timeout=2.0
        )
        self.trust = Trust(
            (self._identity("log", self.key.verifier, "audit"),),
            witnesses=(self.witness.witness,),
            quorum=1,
        )

    def _identity(self, name: str, verifier: Verifier, role: str) -> Identity:
        return Identity(name=name, verifier=verifier, roles=frozenset({role}), origin=ORIGIN)

    def covered(self) -> int:
        """Return how many entries the witness vouches for, by the receipts that were kept."""
        log = verify_log(self.root / "audit", trust=self.trust, role="audit")
        found = verify_receipts(
            receipts_directory(self.root / "audit"), log, trust=self.trust, role="audit"
        )
        return max((one.size for one in found.anchored), default=0)

    def open(self, anchors: Anchors | None = None) -> audit.AuditLog:
        """Open the audit log as a writer."""
        log = Log.open(
            self.root / "audit",
            private=self.root / "private",
            origin=ORIGIN,
            signer=self.key,
            purpose="audit",
            create=True,
            files=Files(),
        )
        made = audit.AuditLog(
            log, details=self.root / "details", private=self.root / "private", anchors=anchors
        )
        self._stack.callback(made.close)
        return made

    @property
    def spools(self) -> Path:
        """Where the spools are."""
        return self.root / "private" / "spool" / "audit"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Return a log and a witness."""
    with ExitStack() as stack:
        yield Scene(tmp_path, stack)


def test_a_record_is_witnessed(scene: Scene) -> None:
    """The call returns when a witness has cosigned a checkpoint that covers the record."""
    log = scene.open(Anchors(required=[scene.anchor]))

    tickets = [log.append(BODY, ack="witnessed") for _ in range(2)]

    assert tickets[-1].index is not None
    assert scene.witness.size > tickets[-1].index
    assert scene.covered() > tickets[-1].index


def test_an_event_loop_waits_for_a_witness(scene: Scene) -> None:
    """Many calls wait together, and the loop goes on meanwhile."""
    log = scene.open(Anchors(required=[scene.anchor]))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    async def work() -> list[audit.Appended]:
        turning = asyncio.ensure_future(turn())
        tickets = [log.append(BODY) for _ in range(20)]
        await asyncio.gather(*(ticket.reached("witnessed", timeout=20) for ticket in tickets))
        turning.cancel()
        return tickets

    tickets = asyncio.run(work())

    assert turns > 3
    assert all(ticket.index is not None for ticket in tickets)
    assert scene.witness.size >= 21


def test_a_dead_witness_delays_nobody_else(scene: Scene) -> None:
    """Who waits for it is told in time; others record on; and when it lives it catches up."""
    scene.witness.dead = True
    anchors = Anchors(required=[scene.anchor])
    log = scene.open(anchors)

    first = log.append(BODY, ack="checkpointed")
    with pytest.raises(StoreError, match="no anchor vouches"):
        first.wait("witnessed", timeout=0.5)
    with pytest.raises(TimeoutError):
        asyncio.run(first.reached("witnessed", timeout=0.5))
    began = time.monotonic()
    log.append(BODY, ack="checkpointed")
    assert time.monotonic() - began < 5
    assert anchors.status().anchors[0].error is not None
    scene.witness.dead = False

    log.append(BODY).wait("witnessed", timeout=25)

    assert scene.covered() >= 4


@pytest.mark.parametrize("anchored", [False, True])
def test_witnessed_needs_an_anchor_that_is_required(scene: Scene, *, anchored: bool) -> None:
    """Without one nothing would ever come of it: it is refused before the record is accepted."""
    log = scene.open(Anchors(optional=[scene.anchor]) if anchored else None)

    with pytest.raises(ValueError, match="needs an anchor that is required"):
        log.append(BODY, ack="witnessed")
    assert not (scene.root / "audit").exists()

    async def work() -> None:
        await log.submit_async("r", b"{}", ack="witnessed")

    with pytest.raises(ValueError, match="needs an anchor"):
        asyncio.run(work())
    with pytest.raises(ValueError, match="needs an anchor"):
        audit.audited(log, action="act", ack="witnessed")
    with pytest.raises(ValueError, match="ack is one of"):
        log.append(BODY, ack="seen")
    ticket = log.append(BODY)
    with pytest.raises(ValueError, match="needs an anchor"):
        ticket.wait("witnessed")
    with pytest.raises(ValueError, match="needs an anchor"):
        asyncio.run(ticket.reached("witnessed"))
    assert [record.type for _, record in log.records()] == ["start", "call"]


def test_a_decorated_call_may_wait_for_a_witness(scene: Scene) -> None:
    """`audited(ack="witnessed")` returns the result once the record is vouched for."""
    log = scene.open(Anchors(required=[scene.anchor]))

    @audit.audited(log, action="act", ack="witnessed")
    def double(n: int) -> int:
        return 2 * n

    assert double(4) == 8
    assert scene.witness.size >= 2


FOLLOWER = """
import sys
from pathlib import Path
from secureml import audit
from secureml.evidence.anchors import Anchors, CopyAnchor, Folder
from secureml.evidence.log import Log
from secureml.keys.files import load
root = Path(sys.argv[1])
key = load(root / "key.pem", purposes=frozenset({"audit"}))
log = Log.open(root / "audit", private=root / "private", origin="log.example/seen",
               signer=key, purpose="audit", create=True)
# It never leads: its own anchor would not do anything.
anchors = Anchors(required=[CopyAnchor(name="w1", store=Folder(root / "never"))])
made = audit.AuditLog(log, details=root / "details", private=root / "private", anchors=anchors)
body = {"action": "act", "call": {"kind": "function", "name": "f"}, "latency_us": 1,
        "outcome": "ok", "type": "call"}
for _ in range(2):
    print(made.append(body, ack="witnessed").index, flush=True)
made.close()
"""


def test_every_process_may_wait_for_the_leader_s_witness(scene: Scene) -> None:
    """A process that does not sequence asks the one that does, through the spools."""
    log = scene.open(Anchors(required=[scene.anchor]))
    log.append(BODY, ack="checkpointed")

    done = subprocess.run(
        [sys.executable, "-c", FOLLOWER, str(scene.root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert scene.witness.size > max(map(int, done.stdout.split()))
    assert not (scene.root / "never").exists()


def test_a_fork_waits_for_its_parent_s_witness(scene: Scene) -> None:
    """A child made by fork is a writer of its own, and its records are witnessed."""
    log = scene.open(Anchors(required=[scene.anchor]))
    log.append(BODY, ack="witnessed")
    child = os.fork()
    if child == 0:  # pragma: no cover  in the child
        status = 1
        try:
            log.append(BODY, ack="witnessed")
            status = 0
        finally:
            os._exit(status)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0


def test_a_checkpoint_that_is_not_ours_is_shown_to_nobody(scene: Scene) -> None:
    """What somebody puts in the checkpoint's place reaches no witness: ours does."""
    log = scene.open(Anchors(required=[scene.anchor], interval=1.0))
    log.append(BODY, ack="witnessed")
    asked = len(scene.witness.server.requests)
    path = scene.root / "audit" / "checkpoint"
    own = path.read_text()
    other = generate("ed25519", purposes={"audit"})
    path.write_text(sign_checkpoint(Checkpoint(ORIGIN, 3, b"x" * 32), other, purpose="audit"))
    time.sleep(2.5)
    path.write_text(own)

    assert all(b"eHh4" not in body for _, body in scene.witness.server.requests[asked:])


def test_what_lies_in_the_spools_is_no_evidence(scene: Scene, tmp_path: Path) -> None:
    """A file that is damaged, or says more than there is, counts for nothing and is told anew."""
    log = scene.open(Anchors(required=[scene.anchor]))
    log.append(BODY, ack="witnessed")
    anchoring = Anchoring(scene.spools, Anchors(required=[scene.anchor]), Files(), lambda: 50)
    told = (scene.spools / ANCHORED).read_bytes()
    assert anchoring.reached() == 2
    for wrong in (b"", told[:-1], told + b"x", b"\0" * 12, bytes([told[0] ^ 1]) + told[1:]):
        (scene.spools / ANCHORED).write_bytes(wrong)
        assert anchoring.reached() == 0
    data = (51).to_bytes(8)
    (scene.spools / ANCHORED).write_bytes(data + zlib.crc32(data).to_bytes(4))
    assert anchoring.reached() == 0
    (scene.spools / WANTED).unlink(missing_ok=True)
    (scene.spools / WANTED).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        anchoring.covers(7)
    (scene.spools / WANTED).unlink()

    log.append(BODY, ack="witnessed")

    assert anchoring.reached() == 3


def test_a_log_whose_keys_change_is_copied_as_it_grows(scene: Scene) -> None:
    """Anchors see checkpoints of each epoch's key; witnessed means the copy is made."""
    place = scene.root / "kept"
    place.mkdir()
    origin = "log.example/copied"
    first = create_epochs(place / "audit", place / "private", origin=origin)
    log = Log.open(
        place / "audit",
        private=place / "private",
        origin=origin,
        purpose="audit",
        create=True,
        keeping=Keeping(epochs=Epochs(leaves=5), epoch_of=epoch_of),
    )
    anchors = Anchors(required=[CopyAnchor(name="copy", store=Folder(scene.root / "worm"))])
    with audit.AuditLog(
        log, details=place / "details", private=place / "private", anchors=anchors
    ) as made:
        for _ in range(4):
            made.append(BODY, ack="witnessed")
            made.append(BODY)
    trust = Trust(
        (
            Identity(
                name="log",
                verifier=first,
                roles=frozenset({"audit"}),
                origin=origin,
                epochs=True,
            ),
        )
    )
    notes = place / "epochs" / "audit.notes"
    whole = audit.verify_audit(place / "audit", trust=trust, epochs=notes)

    assert whole.log is not None
    assert whole.log.chain is not None
    found = verify_receipts(
        receipts_directory(place / "audit"),
        whole.log,
        trust=trust,
        role="audit",
        check=whole.log.chain.verify,
    )
    assert not found.problems
    assert found.unvouched >= 3


def test_anchors_that_were_closed_keep_nobody_from_recording(scene: Scene) -> None:
    """What goes wrong on the way to the anchors is noted, and the log goes on."""
    anchors = Anchors(required=[scene.anchor])
    log = scene.open(anchors)
    log.append(BODY, ack="checkpointed")
    anchors.close()

    ticket = log.append(BODY, ack="checkpointed")
    time.sleep(1.5)

    with pytest.raises(StoreError, match="no anchor vouches"):
        ticket.wait("witnessed", timeout=0.3)
    assert isinstance(log._anchoring, Anchoring)
    assert isinstance(log._anchoring.error, ValueError)


def test_an_anchor_that_cannot_be_asked_for(scene: Scene) -> None:
    """Where the request cannot be written, who waits is told so at once."""
    log = scene.open(Anchors(required=[scene.anchor]))
    log.append(BODY, ack="checkpointed")
    (scene.spools / WANTED).unlink(missing_ok=True)
    (scene.spools / WANTED).mkdir()
    ticket = log.append(BODY, ack="checkpointed")

    with pytest.raises(StoreError, match="could not be asked"):
        ticket.wait("witnessed", timeout=5)
    with pytest.raises(StoreError, match="could not be asked"):
        asyncio.run(ticket.reached("witnessed", timeout=5))
    (scene.spools / WANTED).rmdir()
