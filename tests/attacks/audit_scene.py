# ruff: noqa: ANN401  peers and tables are loaded from files, and have no type here
"""
An audit log that real writers wrote, what an auditor keeps of it, and what attackers do to it.

A scene has everything that the table in ``docs/security-model.md`` speaks of: the log, the
values beside it, a sealed tail, receipts of a witness, epoch keys or a single one, and older
states of the whole machine.  `Scene.caught` asks each means of an auditor by itself, so that a
test can state exactly which of them catch an attack, and which do not.
"""

import copy
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from secureml import keys
from secureml.audit import AuditLog, audited
from secureml.audit.record import PREFIX_SIZE, Record, prefix, read_prefix
from secureml.audit.verification import AuditVerification, epoch_of, verify_audit
from secureml.errors import (
    FormatError,
    KeyUnavailableError,
    SecureMLError,
    StoreError,
    VerificationError,
)
from secureml.evidence._files import Files
from secureml.evidence.anchors import WitnessAnchor, verify_receipts
from secureml.evidence.anchors.keeping import append_receipt
from secureml.evidence.anchors.receipt import Head
from secureml.evidence.keeping import Epochs, Keeping, Places, create_epochs, create_tail
from secureml.evidence.log import Log
from secureml.evidence.sealedtail import SealedTail
from secureml.evidence.tail import check_tail
from secureml.evidence.trust import Identity, Trust
from secureml.keys.files import load
from secureml.keys.signer import Signer
from secureml.keys.verifier import Verifier
from secureml.wire import canonical
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note


def beside(name: str) -> ModuleType:
    """Import a file of the tests: they are no package."""
    path = Path(__file__).parents[1] / name
    found = sys.modules.get(f"_scene_{path.stem}")
    if found is not None:
        return found
    spec = spec_from_file_location(f"_scene_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(name=name)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


table = beside("attacks/attack_table.py")
peers = beside("unit/evidence/anchors/conftest.py")

ORIGIN: Final = "clinic.example/audit"
LATER: Final = timedelta(hours=1)


class Quick(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def answer(n: object) -> object:
    """Return what came in: what is audited in a scene."""
    return n


def identity(key: Verifier, role: str = "audit", **more: Any) -> Identity:
    """Return a key of the log as a trust file names it."""
    return Identity(
        name=f"log {key.fingerprint[-8:]}",
        verifier=key,
        roles=frozenset({role}),
        origin=ORIGIN,
        **more,
    )


@dataclass
class Scene:
    """
    A machine and its auditor.

    Attributes:
        base: Where the machine's files are.
        trust: What the auditor pinned.
        epochs: Whether the log changes its key.
        saved: A checkpoint that the auditor kept; empty for none.
        witness: What a witness in other hands has seen; None for none.
        tail_key: The auditor's key of the sealed tail; empty for none.
        states: Where copies of the machine's disk are, made by `keep`.
    """

    base: Path
    trust: Trust
    epochs: bool = False
    saved: str = ""
    witness: Any = None
    tail_key: bytes = b""
    states: Path = Path()

    @property
    def evidence(self) -> Path:
        """What is public."""
        return self.base / "evidence"

    @property
    def private(self) -> Path:
        """What is the machine's own."""
        return self.base / "evidence.private"

    @property
    def log(self) -> Path:
        """The log."""
        return self.evidence / "audit"

    @property
    def details(self) -> Path:
        """The values."""
        return self.evidence / "details"

    @property
    def receipts(self) -> Path:
        """The receipts."""
        return self.evidence / "anchors/audit"

    @property
    def at(self) -> Places:
        """Where keys, notes, tail and steps are."""
        return Places.of(self.log, self.private)

    @property
    def spools(self) -> Path:
        """Where records are on their way."""
        return self.private / "spool/audit"

    # The machine

    def signer(self) -> Signer:
        """Return the key that is on the machine now, as its thief has it."""
        path = self.private / "key.pem"
        if self.epochs:
            path = max(self.at.keys.glob("*.pem"))
        return load(path, purposes=frozenset({"audit"}))

    def sink(self, **options: Any) -> AuditLog:
        """Open the log as a writer."""
        log = Log.open(
            self.log,
            private=self.private,
            origin=ORIGIN,
            signer=None if self.epochs else self.signer(),
            purpose="audit",
            create=True,
            files=Quick(),
            keeping=Keeping(epochs=Epochs(), epoch_of=epoch_of) if self.epochs else None,
        )
        return AuditLog(log, details=self.details, private=self.private, **options)

    def note(self) -> str:
        """Return the checkpoint."""
        return Log.open(self.log).checkpoint_note()

    def size(self) -> int:
        """Return how many entries are published."""
        return Checkpoint.decode(Note.decode(self.note()).text).size

    def leaves(self) -> list[bytes]:
        """Return the leaves."""
        return list(Log.open(self.log).entries())

    def records(self) -> list[Record]:
        """Return the records."""
        return [Record.decode(leaf) for leaf in self.leaves()]

    def keep(self, name: str) -> None:
        """Make a copy of the machine's files, as a snapshot of its disk does."""
        for top in (self.evidence, self.private):
            shutil.copytree(top, self.states / name / top.name)

    def state(self, name: str, *parts: str) -> Path:
        """Return a file of an older state."""
        return self.states.joinpath(name, *parts)

    def put_back(self, name: str, *tops: str) -> None:
        """Put an older state back, or parts of it."""
        for top in tops or ("evidence", "evidence.private"):
            target = self.base / top
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(self.state(name, top), target)

    # Attackers with a key

    def rewrite(self, leaves: Iterable[bytes], signer: Signer | None = None) -> None:
        """Write the log anew, with other leaves, and sign it."""
        aside = self.base / "forged"
        with Log.open(
            aside / "audit",
            private=aside / "private",
            origin=ORIGIN,
            signer=signer or self.signer(),
            purpose="audit",
            create=True,
            files=Quick(),
        ) as log:
            for leaf in leaves:
                log.append(leaf, sync=False)
            log.publish()
        shutil.rmtree(self.log)
        (aside / "audit").rename(self.log)
        shutil.rmtree(aside)

    # The auditor

    def verify(self, **options: Any) -> AuditVerification:
        """Verify the log by itself, and with what *options* say."""
        epochs = self.at.notes if self.epochs else None
        return verify_audit(self.log, trust=self.trust, epochs=epochs, **options)

    def caught(self) -> set[str]:
        """
        Return every means that catches what was done, each asked without the others.

        Where the log's own files do not hold, nothing else can be asked.
        """
        try:
            seen = self.verify()
        except (FormatError, VerificationError):
            return {table.EPOCHS if self.epochs else table.FILES}
        found = set()
        if seen.report.errors:
            found.add(table.RECORDS)
        if seen.report.warnings:
            found.add(table.WARNING)
        beside = self.verify(details=self.details).details
        if beside is not None and beside.findings:
            found.add(table.DETAILS)
        late = self.verify(now=datetime.now(UTC) + LATER)
        if len(late.report.errors) > len(seen.report.errors):
            found.add(table.CLOCK)
        if self.saved and not self._holds(lambda: self.verify(remembered=[self.saved])):
            found.add(table.CHECKPOINT)
        if not self._holds(lambda: self.judge(seen)):
            found.add(table.RECEIPTS)
        if self.witness is not None and not self._holds(self.ask):
            found.add(table.WITNESS)
        if self.tail_key and not self._holds(lambda: self.check_tail(seen)):
            found.add(table.TAIL)
        # Last, for it changes what is there.
        if self.tail_key and not self._holds(self.go_on):
            found.add(table.WRITER)
        return found

    @staticmethod
    def _holds(check: Callable[[], object]) -> bool:
        try:
            check()
        except (FormatError, VerificationError):
            return False
        return True

    def judge(self, seen: AuditVerification) -> Any:
        """Judge the receipts beside the log."""
        if seen.log is None:
            return None
        chain = seen.log.chain
        return verify_receipts(
            self.receipts,
            seen.log,
            trust=self.trust,
            role="audit",
            check=chain.verify if chain else None,
            strict=True,
        )

    def ask(self) -> None:
        """Show the witness the checkpoint that is there now."""
        self.anchor().submit(Head.read(Log.open(self.log)))

    def anchor(self) -> WitnessAnchor:
        """Return the witness as an anchor."""
        return WitnessAnchor(
            name="w1", url=self.witness.server.url, witness=self.witness.witness, timeout=10.0
        )

    def check_tail(self, seen: AuditVerification) -> None:
        """Read the tail on the machine, and compare."""
        at = self.at
        try:
            tail = SealedTail.open(at.tail, at.steps, origin=ORIGIN, files=Quick()).tail
        except StoreError as error:
            raise gone(error) from error
        if seen.log is None:
            return
        found = check_tail(self.tail_key, seen.log, tail, at.steps)
        if found.uncovered:
            # A tail that was begun anew covers nothing, and says so: an auditor has to look.
            what = f"{found.uncovered} leaves are not covered"
            raise VerificationError(what, why="the log is at rest", fix="find out")

    def go_on(self) -> None:
        """Let the machine write one more record."""
        try:
            with self.sink() as sink:
                calls(sink, 1)
        except (StoreError, KeyUnavailableError) as error:
            raise gone(error) from error

    def copy(self, base: Path) -> "Scene":
        """Return another machine in the same state, with an auditor who knows the same."""
        shutil.copytree(self.base, base)
        witness = copy.copy(self.witness)
        made = replace(self, base=base, witness=witness)
        if witness is not None:
            witness.server.answer = witness.answer
        return made


def gone(error: SecureMLError) -> VerificationError:
    """Return as a finding what is an error of the system to everybody else."""
    return VerificationError(error.what, why=error.why, fix=error.fix)


def build(base: Path, server: Any, *, epochs: bool) -> Scene:
    """
    Let three writers write a log, with all that the auditor's means need.

    States: ``ended``, after the first writer's end; ``early``, while the last one writes;
    ``saved``, at the checkpoint that auditor and witness have.  Behind that come more calls,
    and an end.  Where the log has epoch keys, the second begins when the first writer has ended.
    """
    scene = Scene(base, Trust(()), epochs=epochs, states=base.with_name(f"{base.name}-states"))
    scene.private.mkdir(parents=True, mode=0o700)
    if epochs:
        first = create_epochs(scene.log, scene.private, origin=ORIGIN, files=Quick())
    else:
        path = scene.private / "key.pem"
        kinds = {"scheme": "ed25519", "purposes": frozenset({"audit"}), "passphrase": None}
        first = keys.create(path, **kinds).verifier
    scene.tail_key = create_tail(scene.log, scene.private, origin=ORIGIN, files=Quick())
    with scene.sink() as sink:
        calls(sink, 4)
    scene.keep("ended")
    with scene.sink(epochs=Epochs(leaves=6) if epochs else False) as sink:
        calls(sink, 1)
    sink = scene.sink()
    calls(sink, 2)
    sink.publish()
    scene.keep("early")
    calls(sink, 3)
    scene.saved = sink.publish()
    known = {first, scene.signer().verifier}
    named = tuple(identity(key, "log") for key in known)
    scene.witness = peers.LoopbackWitness(Trust(named), name="witness.example/w1")
    scene.witness.server = server
    server.answer = scene.witness.answer
    whom = identity(first, epochs=epochs)
    scene.trust = Trust((whom,), witnesses=(scene.witness.witness,), quorum=1)
    append_receipt(
        scene.receipts, "w1", scene.anchor().submit(Head.read(Log.open(scene.log))), files=Quick()
    )
    scene.keep("saved")
    calls(sink, 3)
    sink.close()
    return scene


def calls(sink: AuditLog, count: int) -> None:
    """Let an audited function be called, its argument captured."""
    function = audited(sink, action="diagnose", capture=["n"])(answer)
    for n in range(count):
        function(n)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Scene]]:
    """Return the scenes ``plain``, a log with one key, and ``chained``, one with epoch keys."""
    made: dict[str, Scene] = {}
    server = peers.Server(lambda *_: (404, "text/plain", b""))

    def once(name: str) -> Scene:
        if name not in made:
            where = tmp_path_factory.mktemp("scene") / name
            made[name] = build(where, server, epochs=name == "chained")
        return made[name]

    yield once
    server.close()


@pytest.fixture
def plain(built: Callable[[str], Scene], tmp_path: Path) -> Scene:
    """Return a machine whose log has one key, to be attacked."""
    return built("plain").copy(tmp_path / "machine")


@pytest.fixture
def chained(built: Callable[[str], Scene], tmp_path: Path) -> Scene:
    """Return a machine whose log has epoch keys, to be attacked."""
    return built("chained").copy(tmp_path / "chained")


@pytest.fixture
def machine(tmp_path: Path) -> Scene:
    """Return a machine with a key and no log yet, whose auditor has a trust file and no more."""
    base = tmp_path / "machine"
    (base / "evidence.private").mkdir(parents=True, mode=0o700)
    signer = keys.create(
        base / "evidence.private/key.pem",
        scheme="ed25519",
        purposes=frozenset({"audit"}),
        passphrase=None,
    )
    return Scene(base, Trust((identity(signer.verifier),)))


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Callable[..., None]:
    """
    Return what asserts that exactly those means catch it that the test's row names.

    With *also*, means that the test has seen at work by itself.
    """
    row = table.ATTACKS[request.node.originalname.removeprefix("test_")]

    def check(scene: Scene, *also: str) -> None:
        found = sorted(scene.caught() | {*also})

        assert sorted(row.caught) == found

    return check


# Leaves


def edited(leaf: bytes) -> bytes:
    """Return a leaf that says another action, and is a record all the same."""
    return leaf.replace(b'"action":"diagnose"', b'"action":"discharge"')


def renumbered(leaves: Iterable[bytes]) -> list[bytes]:
    """Return leaves whose numbers and counts hold, as who has the key can make them."""
    count: dict[str, int] = {}
    found = []
    for leaf in leaves:
        writer, _ = read_prefix(leaf)
        number = count.get(writer, 0)
        count[writer] = number + 1
        body = leaf[PREFIX_SIZE:]
        if b'"type":"end"' in body:
            said = canonical.decode(body)
            if not isinstance(said, dict):
                raise TypeError(said)
            body = canonical.encode({**said, "end": {"records": number + 1}})
        found.append(prefix(writer, number) + body)
    return found


def new_id(leaf: bytes) -> bytes:
    """Return a leaf with another id."""
    old = Record.decode(leaf).id
    digits = hashlib.sha256(leaf + os.urandom(8)).hexdigest()[:12]
    return leaf.replace(old.encode(), f"{old[:-12]}{digits}".encode())


# A process of its own

CHILD = """
import os, signal, sys, time
from pathlib import Path
from secureml import audit
from secureml.evidence import sequencer
from secureml.evidence.log import Log
from secureml.keys.files import load
base = Path(sys.argv[1])
private = base / "evidence.private"
log = Log.open(base / "evidence/audit", private=private, origin="clinic.example/audit",
               signer=load(private / "key.pem", purposes=frozenset({"audit"})),
               purpose="audit", create=True)
sink = audit.AuditLog(log, details=base / "evidence/details", private=private)

def say(text):
    os.write(1, (str(text) + "\\n").encode())

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def wait():
    say("ready")
    while True:
        time.sleep(1)

# What is on its way stays there until the test has looked at it.
sequencer.INTERVAL = 3600.0
"""


def child(scene: Scene, code: str) -> "subprocess.Popen[str]":
    """Run *code* in a process that writes to the log of *scene*."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, str(scene.base)], stdout=subprocess.PIPE, text=True
    )


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """Wait for the process to end, or kill it once it waits; return what it said."""
    said: list[str] = []
    if process.stdout is None:
        raise TypeError(process)
    for line in process.stdout:
        if line == "ready\n":
            process.kill()
        else:
            said.append(line.rstrip("\n"))
    process.stdout.close()
    process.wait(timeout=60)
    return said
