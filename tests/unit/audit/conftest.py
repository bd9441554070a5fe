"""An audit log in a temporary directory, with a key made for the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from secureml import audit
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.keys import files
from secureml.keys.files import KeySigner


class QuickFiles(Files):
    """The operating system, without waiting for the disk."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Bench:
    """A directory with an audit log; opens it, closes it and reads it back."""

    def __init__(self, root: Path, key: KeySigner) -> None:
        self.root = root
        self.key = key
        self.details = root / "details"
        self.private = root / "private"
        self._stack = ExitStack()
        self.log = self.open()

    def open(self, *, files: Files | None = None) -> audit.AuditLog:
        """Open the audit log as a writer."""
        log = Log.open(
            self.root / "audit",
            private=self.private,
            origin="bench.example/audit",
            signer=self.key,
            purpose="audit",
            create=True,
            files=files or QuickFiles(),
        )
        return audit.AuditLog(log, details=self.details, private=self.private)

    def reopen(self) -> audit.AuditLog:
        """Close the log and open it again."""
        self.log.close()
        self.log = self.open()
        return self.log

    def leaves(self) -> list[bytes]:
        """Publish, and return every leaf."""
        self.log.publish()
        return list(Log.open(self.root / "audit").entries())

    def records(self) -> tuple[audit.Record, ...]:
        """Publish, and return every record, checked, details included."""
        records = audit.check_records(self.leaves())
        audit.check_details(records, self.details)
        return records

    def calls(self) -> list[audit.Record]:
        """Return the records of calls."""
        return [record for record in self.records() if record.type == "call"]

    def value(self, record: audit.Record, path: str) -> object:
        """Return a captured value."""
        return audit.open_value(record, self.details, path)


@pytest.fixture(scope="session")
def key() -> KeySigner:
    """Return the key that signs the audit log's checkpoints."""
    return files.generate("ed25519", purposes=frozenset({"audit"}))


@pytest.fixture
def bench(tmp_path: Path, key: KeySigner) -> Iterator[Bench]:
    """Return an audit log that is open and empty."""
    made = Bench(tmp_path, key)
    yield made
    made.log.close()


@pytest.fixture
def audited(bench: Bench) -> Callable[..., Callable[..., Callable[..., object]]]:
    """Return `audited` for the open log, with an action filled in."""

    def decorate(**options: object) -> Callable[..., Callable[..., object]]:
        return audit.audited(bench.log, **{"action": "act", **options})  # type: ignore[arg-type]

    return decorate
