"""Logs whose key changes: the single file follows the keys from the first, or refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.evidence._files import Files
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.epochs import split_notes
from secureml.evidence.log import Log
from secureml.evidence.standalone import verify_log
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/epochs"


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


class Machine:
    """A log, the notes of its boundaries, and its first key."""

    def __init__(self, base: Path, record: Any) -> None:  # noqa: ANN401
        self.base, self.record, self.notes = base, record, base / "epochs/log.notes"
        self.keys = EpochKeys.create(base / "keys", self.notes, origin=ORIGIN, files=Memory())
        self.first = VKey(ORIGIN, ED25519, self.keys.verifier.raw).encode()
        self.log = Log.open(
            base / "log",
            private=base / "private",
            origin=ORIGIN,
            signer=self.keys.signer,
            purpose="audit",
            create=True,
            files=Memory(),
        )
        self.keys.recover(None, [])
        self.log.append(record("start"), sync=False)

    def add(self, count: int) -> str:
        """Append so many calls, and publish."""
        for _ in range(count):
            self.log.append(self.record("call"), sync=False)
        return self.publish()

    def publish(self) -> str:
        """Publish, and hand over where that is the boundary."""
        note = self.log.publish()
        self.keys.published(note)
        return note

    def hand_over(self, after: int = 0) -> None:
        """Go to the next epoch, so many entries after the leaf that announces it."""
        self.announce()
        self.add(after)

    def announce(self) -> None:
        """Append the leaf that announces the next key."""
        body = self.keys.next()
        self.keys.announce(self.log.append(self.record("epoch", epoch=body), sync=True))

    def verify(self, *more: str, key: str = "") -> dict[str, Any]:
        """Run the command with the first key and the notes."""
        arguments = ["--key", key or self.first, "--epochs", str(self.notes), *more]
        return verify_log.command([str(self.base / "log"), *arguments])[0]

    def keep(self, note: str) -> str:
        """Put a note aside; returns where."""
        path = self.base / "kept"
        path.write_text(note, encoding="utf-8")
        return str(path)


@pytest.fixture
def machine(tmp_path: Path, record: Any, monkeypatch: pytest.MonkeyPatch) -> Machine:  # noqa: ANN401
    """Return a log of three epochs, with a boundary inside a bundle and one behind others."""
    monkeypatch.setattr(verify_log, "WAIT", 0.0)
    made = Machine(tmp_path, record)
    made.notes.parent.mkdir(exist_ok=True)
    made.add(9)
    made.hand_over()
    made.add(500)
    made.hand_over(after=300)
    made.add(5)
    return made


def test_the_keys_are_followed_from_the_first(machine: Machine) -> None:
    """Who holds the first key verifies what the third one signed."""
    for mode in ((), ("--quick",)):
        report = machine.verify(*mode)
        assert report["verdict"] == "ok", report
        assert report["epochs"] == "3 keys followed"
        assert report["signer"] != report["origin"]
        assert report["not_checked"] == []
    machine.announce()
    machine.log.publish()  # the boundary whose note is not written yet
    assert machine.verify()["verdict"] == "ok"


def test_a_log_in_its_first_epoch(tmp_path: Path, record: Any) -> None:  # noqa: ANN401
    """No boundary yet: the first key is the only one."""
    made = Machine(tmp_path, record)
    made.add(3)
    made.notes.parent.mkdir(exist_ok=True)
    made.notes.touch()

    assert made.verify()["epochs"] == "1 keys followed"


def test_a_log_whose_keys_are_not_followed(machine: Machine) -> None:
    """With the present key alone the log holds, and the report says what was not looked at."""
    key = VKey(ORIGIN, ED25519, machine.keys.verifier.raw).encode()
    report, _ = verify_log.command([str(machine.base / "log"), "--key", key])

    assert (report["verdict"], report["epochs"]) == ("ok", "not followed")
    assert report["not_checked"] == ["the chain of epoch keys: give --epochs"]
    report, _ = verify_log.command([str(machine.base / "log"), "--key", machine.first])
    assert report["verdict"] == "refused"


def test_checkpoints_of_each_epoch(machine: Machine) -> None:
    """A remembered checkpoint is judged by the key of its size."""
    notes, rest = split_notes(machine.notes.read_text("utf-8"))
    assert (len(notes), rest) == (2, "")
    for note in notes:
        assert machine.verify("--remembered", machine.keep(note))["rollback"] == "checked"
    late = machine.add(1)
    assert machine.verify("--remembered", machine.keep(late))["verdict"] == "ok"


def resigned(note: str, signer: keys.Signer) -> str:
    """Return the checkpoint of *note* signed by another key."""
    text = note.partition("\n\n")[0] + "\n"
    identity = verify_log.Key(VKey(ORIGIN, ED25519, signer.verifier.raw).encode()).id
    data = identity + signer.sign(text.encode(), purpose="audit")
    return f"{text}\n\u2014 {ORIGIN} {verify_log.binascii.b2a_base64(data).decode()}"


def test_a_key_outside_of_its_epoch(machine: Machine) -> None:
    """A stolen key of today cannot sign another past, nor one of the past today."""
    early = machine.notes.read_text("utf-8")
    forged = resigned(early, machine.keys.signer)

    report = machine.verify("--remembered", machine.keep(forged))
    assert report["error"].endswith("outside of that key's epoch")
    machine.keep(machine.log.checkpoint_note())
    assert (
        machine.verify(key=VKey(ORIGIN, ED25519, machine.keys.verifier.raw).encode())["verdict"]
        == "refused"
    )


Change = Callable[[str], str]
NOTES: dict[str, Change] = {
    "the first is missing": lambda text: text[text.index("\n\n", text.index("\n\n") + 2) + 2 :],
    "the last is missing": lambda text: text[: text.index("\n\n", text.index("\n\n") + 2) + 2],
    "all are missing": lambda _: "",
    "one is torn": lambda text: text[:-1],
    "one is cut off": lambda text: text[: -len(text) // 4],
    "one is there twice": lambda text: text + text,
    "something stands behind them": lambda text: text + "x",
    "one was changed": lambda text: text.replace("\n10\n", "\n11\n").replace("\n11\n", "\n12\n"),
}


@pytest.mark.parametrize("name", NOTES)
def test_notes_that_are_not_those_of_the_log(machine: Machine, name: str) -> None:
    """A boundary note that is missing, torn, repeated or changed breaks the chain."""
    good = machine.notes.read_text("utf-8")
    machine.notes.write_text(NOTES[name](good), encoding="utf-8")
    report = machine.verify()

    assert report["verdict"] == "refused", report


def test_a_log_that_was_cut_below_a_boundary(tmp_path: Path, record: Any) -> None:  # noqa: ANN401
    """A boundary note above the log's size shows that the log was cut."""
    made = Machine(tmp_path, record)
    made.notes.parent.mkdir(exist_ok=True)
    note = made.add(3)
    made.hand_over()
    notes = made.notes.read_bytes()
    path = tmp_path / "log/tile/entries/000.p/5"
    data = verify_log.split(path.read_bytes(), 4)
    short = tmp_path / "short"
    (short / "tile/entries/000.p").mkdir(parents=True)
    (short / "tile/0/000.p").mkdir(parents=True)
    (short / "checkpoint").write_text(note, encoding="utf-8")
    (short / "tile/entries/000.p/4").write_bytes(path.read_bytes()[: data[1][4]])
    (short / "tile/0/000.p/4").write_bytes((tmp_path / "log/tile/0/000.p/5").read_bytes()[:128])
    (tmp_path / "notes").write_bytes(notes)

    alone, _ = verify_log.command([str(short), "--key", made.first])
    cut, _ = verify_log.command(
        [str(short), "--key", made.first, "--epochs", str(tmp_path / "notes")]
    )
    assert alone["verdict"] == "ok"
    assert cut["verdict"] == "refused"


def test_leaves_that_the_notes_do_not_know(tmp_path: Path, record: Any) -> None:  # noqa: ANN401
    """An epoch announced twice, left out or by a wrong name is refused, and is no chain."""
    for number, body in enumerate(
        (
            {"number": 1, "vkey": "x"},
            {"number": 2, "vkey": "x"},
            {"number": "1"},
            {},
        )
    ):
        made = Machine(tmp_path / str(number), record.__class__())
        made.notes.parent.mkdir(exist_ok=True)
        made.log.append(made.record("epoch", epoch=body), sync=False)
        made.announce()
        made.log.append(b'secureml-audit/1 "type":"epoch"}', sync=False)
        made.add(1)
        assert made.verify()["verdict"] == "refused"


@pytest.mark.parametrize("name", ["001", "0??.p/*"])
def test_a_boundary_whose_entries_are_missing(machine: Machine, name: str) -> None:
    """Where the leaf under a boundary is gone the chain is broken."""
    (path,) = (machine.base / "log/tile/entries").glob(name)
    path.unlink()

    assert machine.verify()["verdict"] == "refused"


def test_a_key_by_another_name(tmp_path: Path, record: Any) -> None:  # noqa: ANN401
    """A leaf announces a key of this log, or none."""
    made = Machine(tmp_path, record)
    made.notes.parent.mkdir(exist_ok=True)
    other = VKey("log.example/other", ED25519, keys.generate("ed25519").verifier.raw).encode()
    made.log.append(made.record("epoch", epoch={"number": 1, "vkey": other}), sync=False)
    made.notes.write_text(made.log.publish() + "\n", encoding="utf-8")

    assert made.verify()["error"].startswith("no entry under boundary note 1")


def test_one_key_to_begin_with(machine: Machine) -> None:
    """The chain has one beginning."""
    assert machine.verify("--key", machine.first)["verdict"] == "usage"
