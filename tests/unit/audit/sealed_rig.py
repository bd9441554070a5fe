# ruff: noqa: ANN401  system calls are wrapped, whatever they take
"""
A writer of audit logs with sealed values, spelled from the specification.

The tests of erasure and retention write records of any age, of any person,
with values in the clear or encrypted, and stop between any two steps.
"""

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from secureml.audit.checkdetails import DetailsReport, survey_details
from secureml.audit.details import Detail, Sealed
from secureml.audit.pseudonyms import Pseudonyms
from secureml.audit.record import Record, prefix
from secureml.audit.value import encode
from secureml.clock import format_time
from secureml.evidence._files import Files
from secureml.evidence._reader import LogDirectory
from secureml.evidence.log import Log
from secureml.evidence.pruning import first_entry
from secureml.keys import files
from secureml.keys.files import KeySigner
from secureml.sealing import SubjectKeys
from secureml.wire import canonical

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
ORIGIN = "rig.example/audit"


class QuickFiles(Files):
    """The operating system, without waiting for the disk."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Rig:
    """An audit log with one writer, its details, and its private directory beside it."""

    def __init__(
        self,
        root: Path,
        *,
        master: bytes | None = None,
        signer: KeySigner | None = None,
        writing: bool = True,
    ) -> None:
        self.root = root
        self.private = root.with_name(root.name + ".private")
        root.mkdir(exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)
        self.signer = signer or files.generate("ed25519", purposes=frozenset({"audit"}))
        self.writing = writing
        self.die_after: tuple[int, int] | None = None
        if writing:
            self.log = Log.open(
                root / "audit",
                private=self.private,
                origin=ORIGIN,
                signer=self.signer,
                purpose="audit",
                create=True,
                files=QuickFiles(),
            )
        else:
            self.log = Log.open(root / "audit")
        self.details = root / "details"
        self.details.mkdir(exist_ok=True)
        self.pseudonyms = Pseudonyms(self.private)
        self.keys = SubjectKeys(self.private, master=master)
        self.now = NOW
        self.writer, self.seq, self.segment = "", 0, 0
        if writing:
            self.begin()

    def begin(self) -> None:
        """Begin as another writer."""
        self.writer, self.seq = os.urandom(16).hex(), 0
        self.append({"type": "start", "start": {}, "monotonic_us": 0})

    def append(self, body: Mapping[str, Any], *, durable: bool = False) -> str:
        """Append a record."""
        del durable
        record = {
            "record": {"id": str(uuid.UUID(int=uuid.uuid4().int & ~(0xF << 76) | 7 << 76))},
            "time": format_time(self.now),
            "monotonic_us": 0,
            **body,
        }
        self.log.append(prefix(self.writer, self.seq) + canonical.encode(record), sync=False)
        self.seq += 1
        return record["record"]["id"]

    def publish(self) -> str:
        """Publish; die soon after, when `die_after` says so."""
        note = self.log.publish() if self.writing else ""
        if self.die_after is not None:
            publishes, step = self.die_after
            self.die_after = (publishes - 1, step)
            if publishes == 1:
                die_before(step)
        return note

    def call(
        self,
        user: object,
        value: object = "secret",
        *,
        sealed: bool = True,
        retention_class: str | None = None,
        more: Mapping[str, object] | None = None,
    ) -> str:
        """Append a call that captured *value*, encrypted or not, and *more* in the clear."""
        person = self.pseudonyms.of(user)
        record = str(uuid.UUID(int=uuid.uuid4().int & ~(0xF << 76) | 7 << 76))
        entries: dict[str, Any] = {}
        values: dict[str, Sealed] = {}
        encrypted = {}
        for path, one in {"prompt": value, **(more or {})}.items():
            made = Sealed.of(encode(one))
            entries[path] = {"alg": "hmac-sha256", "commitment": made.commitment}
            if sealed and path == "prompt":
                box = self.keys.encrypt(person, made.plaintext, record=record, path=path)
                entries[path] |= {"key": box.key, "ref": box.ref}
                encrypted[path] = box
            else:
                values[path] = made
        segment = f"{self.writer}-{self.segment}"
        with (self.details / f"{segment}.jsonl").open("ab") as file:
            file.write(Detail(record, values, encrypted).encode())
        body: dict[str, Any] = {
            "action": "act",
            "actor": {"id": person, "type": "user"},
            "call": {"kind": "function", "name": "f"},
            "details": {"segment": segment},
            "in": entries,
            "latency_us": 1,
            "outcome": "ok",
            "record": {"id": record},
            "type": "call",
        }
        if retention_class is not None:
            body["retention_class"] = retention_class
        return self.append(body)

    def pass_days(self, days: float) -> None:
        """Let time pass."""
        self.now += timedelta(days=days)

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """Publish, and yield (index, leaf) of what is left."""
        self.publish()
        directory = LogDirectory(self.root / "audit")
        size = directory.require().checkpoint.size
        start = first_entry(self.root / "audit", size)
        yield from enumerate(Log.open(self.root / "audit").entries(start), start)

    def records(self) -> list[Record]:
        """Return every record that is left."""
        return [Record.decode(leaf) for _, leaf in self.leaves()]

    def report(self, *, keys: SubjectKeys | None = None) -> DetailsReport:
        """Return what a verifier finds in the details."""
        found = list(self.leaves())
        return survey_details(
            [Record.decode(leaf) for _, leaf in found],
            self.details,
            keys=keys,
            first=found[0][0],
        )

    def all_bytes(self) -> bytes:
        """Return every byte of every file, public and private."""
        return b"\n".join(
            path.read_bytes()
            for top in (self.root, self.private)
            for path in sorted(top.rglob("*"))
            if path.is_file()
        )

    def close(self) -> None:
        """Close the log."""
        self.log.close()


STEPS = ("link", "rename", "replace", "rmdir", "unlink", "write", "fsync")
"""What changes files: a process that dies dies before one of these."""


def die_before(step: int) -> None:
    """Make this process end before the step with this number, without a word."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count > step:
                os._exit(77)
            return real(*args, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def crashes(
    work: Callable[[Rig], object], rig: Rig, place: Path, *, published: int = 0
) -> Iterator[tuple[int, Rig]]:
    """
    Yield (step, what a crash left there), until *work* runs to its end.

    Each is a copy of *rig*, which is closed; the last one is whole.  With *published*
    it dies only after so many publishings, and what is left is opened for reading.
    """
    for step in range(10_000):
        here = place / str(step)
        here.mkdir(parents=True)
        public = here / rig.root.name
        shutil.copytree(rig.root, public)
        shutil.copytree(rig.private, here / rig.private.name)
        child = os.fork()
        if child == 0:
            try:
                own = Rig(public, signer=rig.signer)
                own.now = rig.now
                if published:
                    own.die_after = (published, step)
                else:
                    die_before(step)
                work(own)
            except BaseException as error:  # noqa: BLE001  a child reports by its exit status
                sys.stderr.write(f"step {step}: {error!r}\n")
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in {0, 77}:
            msg = f"the process ended with {status} at step {step}"
            raise RuntimeError(msg)
        left = Rig(public, signer=rig.signer, writing=not published)
        left.now = rig.now
        yield step, left
        left.close()
        shutil.rmtree(here)
        if status == 0:
            return
