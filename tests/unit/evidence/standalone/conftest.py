"""Logs to verify: written by the library, checked by the file that shares nothing with it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secureml import keys
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.evidence.standalone import verify_log
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/auditor"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
VKEY = VKey(ORIGIN, ED25519, SIGNER.verifier.raw).encode()
A, B = "a" * 32, "b" * 32


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@dataclass
class Made:
    """A log, its key, and the checkpoints that it had."""

    path: Path
    notes: list[str]
    vkey: str = VKEY

    def remember(self, which: int = 0) -> str:
        """Put a checkpoint aside; returns the path of the file."""
        kept = self.path.with_name(f"{self.path.name}.kept-{which}")
        kept.write_text(self.notes[which], encoding="utf-8")
        return str(kept)

    def verify(self, *more: str) -> dict[str, object]:
        """Run the command; returns its report."""
        return verify_log.command([str(self.path), "--key", self.vkey, *more])[0]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Return a function that writes a log of some entries, published after each of *cuts*."""

    def write(
        entries: Iterable[bytes],
        *,
        cuts: tuple[int, ...] = (),
        name: str = "log",
        signer: keys.Signer = SIGNER,
    ) -> Made:
        notes = []
        with Log.open(
            tmp_path / name,
            private=tmp_path / f"{name}.private",
            origin=ORIGIN,
            signer=signer,
            create=True,
            files=Memory(),
        ) as log:
            notes.append(log.publish())
            for size, entry in enumerate(entries, 1):
                log.append(entry, sync=False)
                if size in cuts:
                    notes.append(log.publish())
            notes.append(log.publish())
        vkey = VKey(ORIGIN, ED25519, signer.verifier.raw).encode()
        return Made(tmp_path / name, notes, vkey)

    return write


@dataclass
class Recorder:
    """Makes the leaves of audit records, each with an id and a time of its own."""

    made: int = 0
    seconds: int = 0
    next: dict[str, int] = field(default_factory=dict)

    def __call__(
        self, kind: str, writer: str = A, seq: int | None = None, **fields: object
    ) -> bytes:
        """Return a leaf; *seq* is the writer's next unless it is given."""
        self.made += 1
        self.seconds += 1
        number = self.next.get(writer, 0) if seq is None else seq
        self.next[writer] = number + 1
        body = {
            "record": {"id": self.identity(self.made)},
            "time": self.time(self.seconds),
            "type": kind,
            **_usual(kind),
            **fields,
        }
        return b"secureml-audit/1 %s %016x\n" % (writer.encode(), number) + json.dumps(
            {k: v for k, v in body.items() if v is not None},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode("utf-8", "surrogatepass")

    @staticmethod
    def identity(number: int) -> str:
        """Return the id of the record that was made as this number."""
        return f"019d1c3a-7b1e-7c44-9a53-{number:012x}"

    @staticmethod
    def time(seconds: int) -> str:
        """Return a time, so many seconds after eight o'clock."""
        minutes, rest = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"2026-11-22T{8 + hours:02}:{minutes:02}:{rest:02}.000000Z"


def _usual(kind: str) -> dict[str, object]:
    call = {"action": "a", "call": {"kind": "function", "name": "f"}, "monotonic_us": 1}
    return {
        "start": {"monotonic_us": 0, "start": {}},
        "call": {**call, "latency_us": 1, "outcome": "ok"},
        "intent": call,
        "heartbeat": {"heartbeat": {"records": 2}},
    }.get(kind, {})


@pytest.fixture
def record() -> Recorder:
    """Return a maker of audit leaves."""
    return Recorder()
