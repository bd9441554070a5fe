"""
L6: checkpoints are consistent; fork, rollback and truncation are found by who remembers.

And without a remembered checkpoint nothing claims that they were looked for.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureml import keys
from secureml.errors import ConsistencyError, FormatError, VerificationError
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence.log import Log, verify_log
from secureml.evidence.trust import Identity, Trust, identity_block
from secureml.wire import merkle
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.note import Note

ORIGIN = "log.example/laws"
SIGNER = keys.generate("ed25519", purposes=frozenset({"log"}))
TRUST = Trust.from_toml(
    "version = 1\n\n"
    + identity_block(
        Identity(name="log", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin=ORIGIN)
    )
)

entries = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=40)


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@contextmanager
def somewhere() -> Iterator[Path]:
    """Give a directory, removed afterwards."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def write(base: Path, records: list[bytes], cuts: set[int]) -> list[str]:
    """Write a log, published at *cuts* and at the end; returns the checkpoints."""
    notes = []
    with Log.open(base / "log", origin=ORIGIN, signer=SIGNER, create=True, files=Memory()) as log:
        for size, record in enumerate(records, 1):
            log.append(record, sync=False)
            if size in cuts:
                notes.append(log.publish())
        notes.append(log.publish())
    return notes


def head(note: str) -> Checkpoint:
    """Read a checkpoint that this test just made."""
    return Checkpoint.decode(Note.decode(note).text)


@settings(max_examples=30)
@given(entries, st.sets(st.integers(1, 40), max_size=6))
def test_checkpoints_are_consistent(records: list[bytes], cuts: set[int]) -> None:
    """Every checkpoint of a log is proven to continue every earlier one."""
    with somewhere() as base:
        heads = [head(note) for note in write(base, records, cuts)]
        log = Log.open(base / "log")
        for old, new in pairwise(heads):
            log.consistency(old.size, new.size).verify(
                old_size=old.size, old_root=old.root, size=new.size, root=new.root
            )
            assert merkle.root([merkle.leaf_hash(one) for one in records[: old.size]]) == old.root


@settings(max_examples=30)
@given(entries, st.sets(st.integers(1, 40), max_size=6))
def test_what_was_written_verifies(records: list[bytes], cuts: set[int]) -> None:
    """A log verifies against all of its own checkpoints, and holds what was appended."""
    with somewhere() as base:
        notes = write(base, records, cuts)
        found = verify_log(base / "log", trust=TRUST, remembered=notes)

        assert records == list(found.entries)
        assert found.rollback == "checked"
        assert verify_log(base / "log", trust=TRUST).rollback == "not checkable"


@settings(max_examples=30)
@given(entries, st.data())
def test_rollback_and_fork_are_found(records: list[bytes], data: st.DataObject) -> None:
    """Whoever holds a checkpoint finds a log that was cut below it or told otherwise."""
    with somewhere() as base:
        notes = write(base, records, set())
        shutil.rmtree(base / "log")
        shutil.rmtree(base / "log.private")
        kept = data.draw(st.integers(0, len(records) - 1))
        other = data.draw(entries)
        story = records[:kept] + other
        write(base, story, set())
        found = verify_log(base / "log", trust=TRUST)

        assert found.rollback == "not checkable"
        if story[: len(records)] == records:
            verify_log(base / "log", trust=TRUST, remembered=notes)
        else:
            with pytest.raises(ConsistencyError):
                verify_log(base / "log", trust=TRUST, remembered=notes)


@settings(max_examples=30)
@given(entries, st.data())
def test_any_changed_bytes_are_refused(records: list[bytes], data: st.DataObject) -> None:
    """Any file of a log that holds other bytes is refused, and with no other error."""
    with somewhere() as base, pytest.MonkeyPatch.context() as patch:
        patch.setattr(checklog, "_WAIT", 0.0)
        write(base, records, set())
        files = sorted(path for path in (base / "log").rglob("*") if path.is_file())
        path = data.draw(st.sampled_from(files))
        good = path.read_bytes()
        start = data.draw(st.integers(0, len(good)))
        stop = data.draw(st.integers(start, len(good)))
        bad = good[:start] + data.draw(st.binary(max_size=20)) + good[stop:]
        path.write_bytes(bad)
        if bad == good:
            verify_log(base / "log", trust=TRUST)
        else:
            with pytest.raises((FormatError, VerificationError)):
                verify_log(base / "log", trust=TRUST)
