"""A training run: the start is on record first, and then success or failure, never nothing."""

import hashlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from secureml.errors import DigestMismatchError, StoreError
from secureml.evidence.attest import attest
from secureml.evidence.observe import observed
from secureml.evidence.subject import SubjectLike
from secureml.hashing.tree import manifest
from secureml.keys import KeySigner, generate
from secureml.models import OWN_IGNORED
from secureml.training import Code, DecisionRef, Provenance, RunFailure, RunStart, TrainingRun
from secureml.training.run import BESIDE
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.manifest import Manifest
from secureml.wire.statement import PROVENANCE, RUN_FAILURE, RUN_START, Statement

Start = Callable[..., TrainingRun]
DECISION = Digest.sha256(b"decision")


@dataclass(frozen=True)
class Data:
    """A dataset, as far as a run knows one."""

    name: str
    digest: Digest

    @property
    def digests(self) -> Mapping[str, str]:
        """Return the join digest and the one of the file."""
        return {**self.digest.as_set(), "sha256": "11" * 32}


@dataclass(frozen=True)
class Entry:
    """A statement that was signed."""

    envelope: Envelope


@dataclass
class Ledger:
    """Signs statements and keeps them in order."""

    key: KeySigner
    entries: list[Entry] = field(default_factory=list)
    broken: bool = False

    def record(self, statement: Statement) -> Entry:
        """Sign *statement* and keep it; fail when told to."""
        if self.broken:
            raise OSError(28, "No space left on device")
        entry = Entry(attest(statement, self.key))
        self.entries.append(entry)
        return entry

    @property
    def statements(self) -> list[Statement]:
        """Return what was signed, read back from its bytes."""
        return [entry.envelope.statement() for entry in self.entries]


def dataset(name: str) -> Data:
    """Return a table called *name*."""
    return Data(name, Digest("tableDigest1", hashlib.sha256(name.encode()).digest()))


@pytest.fixture(scope="session")
def key() -> KeySigner:
    """Return a key that signs statements."""
    return generate("ecdsa-p256")


@pytest.fixture
def ledger(key: KeySigner) -> Ledger:
    """Return an empty ledger."""
    return Ledger(key)


@pytest.fixture
def train() -> Data:
    """Return a dataset."""
    return dataset("train")


@pytest.fixture
def other() -> Data:
    """Return another dataset."""
    return dataset("other")


def write(value: object, path: Path, /, *, allow_types: Collection[str] = ()) -> Manifest:
    """Save text as a model: what `secureml.models.save` does for values."""
    assert not allow_types
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.txt").write_text(str(value))
    return manifest(path)


def within(run: TrainingRun, *steps: Callable[[], object]) -> None:
    """Take *steps* inside the block of *run*."""
    with run:
        for step in steps:
            step()


def throw(error: BaseException) -> None:
    """Raise *error*."""
    raise error


def ticks() -> Iterator[datetime]:
    """Yield times, one second apart."""
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    while True:
        yield time
        time += timedelta(seconds=1)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return where a run saves."""
    return tmp_path / "model"


@pytest.fixture
def start(ledger: Ledger, train: Data) -> Callable[..., TrainingRun]:
    """Return a function that makes a run; its arguments replace the usual ones."""

    def make(**changes: object) -> TrainingRun:
        times = ticks()
        arguments: dict[str, object] = {
            "inputs": [train],
            "record": ledger.record,
            "save": write,
            "clock": lambda: next(times),
            "code": Code(source="unknown"),
        }
        return TrainingRun("diagnosis", **(arguments | changes))  # type: ignore[arg-type]

    return make


def test_start_is_recorded_before_the_block(
    out: Path, ledger: Ledger, train: Data, start: Start
) -> None:
    """The first line of the block finds the start on record, with inputs, seed and parameters."""
    with start(seed=7, parameters={"depth": 3, "rate": 0.1}) as run:
        assert [s.predicate_type for s in ledger.statements] == [RUN_START]
        said = RunStart.from_statement(ledger.statements[0])
        run.save("x", out)

    assert (
        said.name,
        said.seed,
        said.parameters,
    ) == ("diagnosis", 7, {"depth": 3, "rate": "0.1"})
    assert [source.name for source in said.inputs] == ["train"]
    assert train.digests == said.inputs[0].digests
    assert said.started_on == "2026-01-02T03:04:05.000000Z"


def test_success_is_slsa_provenance(
    out: Path, ledger: Ledger, train: Data, other: Data, start: Start
) -> None:
    """A block that ends well signs the outputs by dirHash, with all that went in."""
    with start(inputs=[train, other], decisions=[("gate@1", DECISION)], seed=7) as run:
        observed(train)
        run.save("weights", out)

    assert run.state == "done"
    assert [s.predicate_type for s in ledger.statements] == [RUN_START, PROVENANCE]
    said = Provenance.from_statement(ledger.statements[1])
    assert [output.name for output in said.outputs] == ["model"]
    assert manifest(out).digest == said.outputs[0].digest
    assert [(source.name, source.strength, source.undeclared) for source in said.inputs] == [
        ("train", "observed", False),
        ("other", "declared", False),
    ]
    assert (DecisionRef(gate="gate@1", digest=DECISION),) == said.decisions
    assert ledger.entries[0].envelope.digest == said.run_start
    assert RunStart.from_statement(ledger.statements[0]).invocation_id == said.invocation_id
    assert said.started_on < said.finished_on
    assert run.provenance is ledger.entries[1]
    assert {"python", "packages", "secureml"} <= set(said.environment)
    assert said.seed == 7


def test_data_that_was_not_declared_counts_as_an_input(
    out: Path, ledger: Ledger, other: Data, start: Start
) -> None:
    """What was handed out inside the block is an input, and is marked as undeclared."""
    asked: list[list[str]] = []

    def decisions(subjects: list[SubjectLike]) -> list[DecisionRef]:
        asked.append([subject.name for subject in subjects])
        return [DecisionRef(gate="gate@1", digest=DECISION)]

    with start(decisions=decisions) as run:
        observed(other)
        observed(other)
        run.save("weights", out)

    said = Provenance.from_statement(ledger.statements[1])
    assert [(source.name, source.strength, source.undeclared) for source in said.inputs] == [
        ("train", "declared", False),
        ("other", "observed", True),
    ]
    assert asked == [["train", "other"]]
    assert len(said.decisions) == 1


def test_only_what_is_handed_out_inside_is_observed(
    out: Path, ledger: Ledger, train: Data, start: Start
) -> None:
    """Before, after and in another thread is not inside."""
    observed(train)
    with start() as run:
        thread = Thread(target=observed, args=(train,))
        thread.start()
        thread.join()
        run.save("weights", out)
    observed(train)

    assert Provenance.from_statement(ledger.statements[1]).inputs[0].strength == "declared"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_is_recorded_and_passes_on(
    out: Path, ledger: Ledger, start: Start, kind: type[BaseException]
) -> None:
    """A block that raises signs no output, logs the type, and raises the same error."""
    error = kind("patient 4711 has a password: hunter2")
    run = start()
    with pytest.raises(kind) as caught:
        within(run, lambda: run.save("weights", out), lambda: throw(error))

    assert error is caught.value
    assert run.state == "failed"
    assert run.provenance is None
    assert [s.predicate_type for s in ledger.statements] == [RUN_START, RUN_FAILURE]
    said = RunFailure.from_statement(ledger.statements[1])
    assert ("exception", kind.__name__) == (said.reason, said.error)
    assert ledger.entries[0].envelope.digest == said.run_start
    assert b"hunter2" not in ledger.entries[1].envelope.payload
    assert not getattr(error, "__notes__", [])


def test_failure_that_cannot_be_recorded_is_a_note(ledger: Ledger, start: Start) -> None:
    """The training error stays the news; that it is not on record is added to it."""

    def block() -> None:
        ledger.broken = True
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged") as caught:
        within(start(), block)

    assert "could not record" in caught.value.__notes__[0]


def test_success_that_cannot_be_recorded_raises(out: Path, ledger: Ledger, start: Start) -> None:
    """A run whose provenance is not on record is not done."""
    run = start()

    def block() -> None:
        run.save("weights", out)
        ledger.broken = True

    with pytest.raises(OSError, match="No space"):
        within(run, block)

    assert run.state == "failed"


def test_start_that_cannot_be_recorded_stops_the_block(ledger: Ledger, start: Start) -> None:
    """Without a start on record nothing is trained."""
    ledger.broken = True
    with pytest.raises(OSError, match="No space"), start():
        pytest.fail("the block ran")


def test_no_output_is_a_failure_on_record(ledger: Ledger, start: Start) -> None:
    """A block that saves nothing leaves a failure and a warning: there is nothing to sign."""
    with pytest.warns(UserWarning, match="saved no output"), start() as run:
        pass

    assert run.state == "failed"
    assert RunFailure.from_statement(ledger.statements[1]).reason == "no-output"


@pytest.mark.parametrize(
    "change",
    [
        lambda p: (p / "model.txt").write_text("other"),
        lambda p: (p / "new.txt").write_text("x"),
        lambda p: (p / "model.txt").unlink(),
        lambda p: (p / "model.txt").rename(p / "b.txt"),
    ],
    ids=["changed", "added", "removed", "renamed"],
)
def test_output_that_changes_after_saving_is_refused(
    out: Path, ledger: Ledger, start: Start, change: Callable[[Path], object]
) -> None:
    """What is signed is what was saved: anything else is a failure on record."""
    run = start()
    with pytest.raises(DigestMismatchError, match="not what was saved"):
        within(run, lambda: run.save("weights", out), lambda: change(out))

    assert run.state == "failed"
    assert RunFailure.from_statement(ledger.statements[1]).reason == "output-changed"


def test_files_beside_an_output_are_no_part_of_it(out: Path, ledger: Ledger, start: Start) -> None:
    """A signature and claims of an earlier model do not count, by the names that signing uses."""
    assert OWN_IGNORED == BESIDE
    with start() as run:
        run.save("weights", out)
        (out / "model.sig").write_text("old")

    assert manifest(out, exclude=BESIDE).digest == (
        Provenance.from_statement(ledger.statements[1]).outputs[0].digest
    )


def test_directory_of_ones_own_is_an_output(
    out: Path, ledger: Ledger, start: Start, tmp_path: Path
) -> None:
    """A directory that the code filled itself can be named as an output."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "weights.onnx").write_bytes(b"onnx")
    with start() as run:
        assert manifest(own) == run.add_output(own)
        run.save("weights", out)
        assert {"own", "model"} == set(run.outputs)

    assert {"own", "model"} == {
        output.name for output in Provenance.from_statement(ledger.statements[1]).outputs
    }


def test_bad_outputs_are_refused(out: Path, start: Start, tmp_path: Path) -> None:
    """Empty directories, and two directories of one name, are the caller's mistake."""
    (tmp_path / "a" / "model").mkdir(parents=True)
    with start() as run:
        with pytest.raises(ValueError, match="no file"):
            run.add_output(tmp_path / "a" / "model")
        run.save("weights", out)
        with pytest.raises(ValueError, match="two outputs"):
            run.save("weights", tmp_path / "a" / "model")
        run.save("better weights", out)

    assert (out / "model.txt").read_text() == "better weights"


def test_saving_is_for_the_block_only(out: Path, start: Start) -> None:
    """Before and after the block there is nothing to save into."""
    run = start()
    with pytest.raises(RuntimeError, match="is new"):
        run.save("x", out)
    with run:
        run.save("x", out)
    with pytest.raises(RuntimeError, match="is done"):
        run.save("x", out)
    with pytest.raises(RuntimeError, match="entered once"), run:
        pass


def test_seed_is_recorded_and_touches_nothing(out: Path, ledger: Ledger, start: Start) -> None:
    """A drawn seed fits every library, is on record, and no global generator moves."""
    numpy_state = np.random.mtrand._rand.get_state
    before = random.getstate(), repr(numpy_state())
    with start() as run:
        run.save("x", out)

    assert before == (random.getstate(), repr(numpy_state()))
    assert 0 <= run.seed < 2**32
    assert run.seed == RunStart.from_statement(ledger.statements[0]).seed
    assert len({start().seed for _ in range(8)}) > 1
    np.random.mtrand.RandomState(run.seed)  # what scikit-learn makes of it


def test_decisions_that_cannot_be_found_are_a_failure_on_record(
    out: Path, ledger: Ledger, start: Start
) -> None:
    """Whatever goes wrong at the end, the run's outcome is on record."""

    def fail(_: object) -> list[DecisionRef]:
        raise LookupError("gone")

    with pytest.raises(LookupError), start(decisions=fail) as run:
        run.save("x", out)

    assert run.state == "failed"
    assert RunFailure.from_statement(ledger.statements[1]).error == "LookupError"


def test_types_are_allowed_by_the_saver(out: Path, start: Start) -> None:
    """What the caller allows reaches whoever saves."""
    seen: list[object] = []

    def save(value: object, path: Path, /, *, allow_types: Collection[str]) -> Manifest:
        seen.extend(allow_types)
        return write(value, path)

    with start(save=save) as run:
        run.save("x", out, allow_types=["mine.Type"])

    assert seen == ["mine.Type"]


def test_publish_comes_last(out: Path, ledger: Ledger, start: Start) -> None:
    """The log is published once the outcome is on record, whichever it is."""
    seen: list[int] = []
    with start(publish=lambda: seen.append(len(ledger.entries))) as run:
        run.save("x", out)
    with pytest.raises(ValueError, match="x"), start(publish=lambda: seen.append(-1)):
        raise ValueError("x")

    assert seen == [2, -1]


def test_publish_that_fails_does_not_hide_the_error(start: Start) -> None:
    """A log that cannot be published does not replace the training error."""

    def fail() -> None:
        raise StoreError("full", why="no space", fix="make space", retryable=True)

    with pytest.raises(ValueError, match="diverged") as caught, start(publish=fail):
        raise ValueError("diverged")
    assert "full" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"inputs": []}, ValueError),
        ({"inputs": ["train.parquet"]}, TypeError),
        ({"seed": -1}, ValueError),
        ({"seed": 2**53}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"seed": True}, TypeError),
        ({"parameters": {"a": float("nan")}}, ValueError),
        ({"parameters": {"a": object()}}, TypeError),
        ({"parameters": [1]}, TypeError),
    ],
)
def test_mistakes_are_found_before_any_work(
    ledger: Ledger, start: Start, changes: dict[str, object], error: type[Exception]
) -> None:
    """What cannot be recorded is refused when the run is made, not when it ends."""
    with pytest.raises(error):
        start(**changes)
    assert not ledger.entries


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), ("a\nb", ValueError), (7, TypeError)]
)
def test_bad_names_are_refused(
    ledger: Ledger, train: Data, name: str, error: type[Exception]
) -> None:
    """A run's name is one line of text."""
    with pytest.raises(error):
        TrainingRun(name, inputs=[train], record=ledger.record, save=lambda *_: None)  # type: ignore[arg-type]


def test_two_inputs_of_one_name_are_refused(train: Data, start: Start) -> None:
    """A name leads to one dataset."""
    with pytest.raises(ValueError, match="two inputs"):
        start(inputs=[train, train])


def test_run_shows_itself(start: Start) -> None:
    """The representation names run, state and seed; the parameters are those on record."""
    run = start(seed=7, parameters={"a": 0.5})

    assert repr(run) == "<TrainingRun 'diagnosis' new seed=7>"
    assert run.parameters == {"a": "0.5"}
    assert run.name == "diagnosis"


def test_numpy_seed_is_taken(start: Start) -> None:
    """A numpy integer is an integer."""
    assert start(seed=np.int64(5)).seed == 5
