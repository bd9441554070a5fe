"""
Sixteen attacks on the demo's own chain, each through the calls a user makes.

An attack says how it must end: refused, with a code, or accepted, where that
is the truth.  `Outcome.as_expected` compares; nothing here decides.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import secureml
from secureml import keys, models
from secureml._extras import require
from secureml.demo.story import MODEL, SEED, SERVED, Say, Story, fit, train_gate
from secureml.errors import SecureMLError
from secureml.evidence.trust import Trust
from secureml.gates import Gate
from secureml.wire import tiles
from secureml.workspace.verifying import Report, verify_directory

__all__ = ["ATTACKS", "Outcome", "Stage", "attack_all", "run_attack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How an attack ended.

    Attributes:
        number: As in the table.
        title: What was done.
        expected: ``refused CODE``, or ``accepted``.
        found: The same, as it happened.
        what: The refusal's first line, or what was accepted.
        why: Why it was refused, or why it is right to accept.
        fix: What the error says to do next.
    """

    number: int
    title: str
    expected: str
    found: str
    what: str
    why: str
    fix: str = ""

    @property
    def as_expected(self) -> bool:
        """Whether it ended as it must."""
        return self.found == self.expected

    def to_dict(self) -> dict[str, object]:
        """Return plain values, for ``--json``."""
        return {
            "number": self.number,
            "title": self.title,
            "expected": self.expected,
            "found": self.found,
            "ok": self.as_expected,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        }


class Stage:
    """A fresh copy of the story's evidence for each attack; `note` is printed with its end."""

    def __init__(self, story: Story, number: int) -> None:
        self.story = story
        self.scratch = story.scratch / f"attack-{number}"
        self.scratch.mkdir()
        self.note = ""
        self.trust = Trust.load(self.private / "trust.toml")

    @property
    def private(self) -> Path:
        """The private half of the demo's workspace."""
        return self.story.directory.with_name(f"{self.story.directory.name}.private")

    def copy(self) -> Path:
        """Copy the sealed evidence directory."""
        return Path(shutil.copytree(self.story.directory, self.scratch / "evidence"))

    def workshop(self) -> Path:
        """Copy the workspace with its private half: an insider's machine."""
        shutil.copytree(self.private, self.scratch / "evidence.private")
        return self.copy()

    def model(self) -> Path:
        """Copy the signed model, as a serving machine receives it."""
        return Path(shutil.copytree(self.story.directory / "model", self.scratch / "model"))

    def load(self, path: Path, trust: Path | None = None) -> object:
        """Load a model as the serving machine does."""
        return secureml.load_model(path, trust=trust or self.story.trust, name=MODEL).value

    def verify(self, directory: Path, *notes: str) -> Report:
        """Verify an evidence directory under the auditor's trust."""
        return verify_directory(directory, trust=self.trust, checkpoints=notes)


def attack_all(story: Story, *, say: Say) -> list[Outcome]:
    """Run every attack, print each as it ends, and return the outcomes."""
    outcomes: list[Outcome] = []
    say()
    for number, (title, expected, attack) in enumerate(ATTACKS, 1):
        stage = Stage(story, number)
        outcome = run_attack(number, title, expected, attack, stage)
        outcomes.append(outcome)
        mark = " " if outcome.as_expected else "!"
        say(f"{mark}{number:>2}  {title}")
        say(f"      {outcome.found}: {outcome.what}")
        say(f"      why: {outcome.why}")
        if outcome.fix:
            say(f"      fix: {outcome.fix}")
        if stage.note:
            say(f"      and: {stage.note}")
    say()
    say(f"{'#':>3}  {'attack':<64} {'expected':<16} found")
    for outcome in outcomes:
        say(
            f"{outcome.number:>3}  {outcome.title:<64} {outcome.expected:<16} {outcome.found}"
            f"{'' if outcome.as_expected else '   <-- not as it must be'}"
        )
    return outcomes


def run_attack(number: int, title: str, expected: str, attack: "Attack", stage: Stage) -> Outcome:
    """Run one attack, and say how it ended."""
    try:
        what, why = attack(stage)
    except SecureMLError as error:
        return Outcome(
            number=number,
            title=title,
            expected=expected,
            found=f"refused {error.code}",
            what=error.what,
            why=error.why,
            fix=error.fix,
        )
    return Outcome(
        number=number, title=title, expected=expected, found="accepted", what=what, why=why
    )


Attack = Callable[[Stage], tuple[str, str]]
"""Raises what refused it, or returns what was accepted and why that is right."""


# -- data ----------------------------------------------------------------------


def flip_a_label(stage: Stage) -> tuple[str, str]:
    """Flip one label in the training file after the gate has passed."""
    root = stage.workshop()
    with secureml.open(root, create=False) as ws:
        patients = _patients(ws, root)
        table = _read(root / "data" / "wdbc.parquet")
        labels = table["diagnosis"].to_pylist()
        labels[0] = "benign" if labels[0] == "malignant" else "malignant"
        _write(table, root / "data" / "wdbc.parquet", diagnosis=labels)
        patients.to_pandas()
    return "the flipped label was handed out", "it must not be"


def re_encode(stage: Stage) -> tuple[str, str]:
    """Write the same table with other row groups and compression, inside the evidence."""
    parquet = require("pyarrow.parquet", purpose="for the demo's attacks")
    root = stage.copy()
    path = root / "data" / "wdbc.parquet"
    before = secureml.data.dataset(path, source="demo", licence="demo")
    parquet.write_table(_read(path), path, row_group_size=100, compression="zstd")
    after = secureml.data.dataset(path, source="demo", licence="demo")
    if before.digest != after.digest or not before.to_arrow().equals(after.to_arrow()):
        return "the logical digest changed", "it must not"
    stage.note = f"as a dataset it is accepted, it is the same data: {after.digest.short}"
    stage.verify(root)
    return "the changed file was accepted inside the evidence", "it must not be"


def re_encode_elsewhere(stage: Stage) -> tuple[str, str]:
    """Edit pandas' metadata and reorder a dictionary: the same data, other bytes."""
    pyarrow = require("pyarrow", purpose="for the demo's attacks")
    parquet = require("pyarrow.parquet", purpose="for the demo's attacks")
    path = stage.story.directory / "data" / "wdbc.parquet"
    before = secureml.data.dataset(path, source="demo", licence="demo")
    table = _read(path)
    place = table.schema.get_field_index("diagnosis")
    values = pyarrow.array(["never used", "malignant", "benign"])
    where = {"malignant": 1, "benign": 2}
    codes = pyarrow.array([where[v] for v in table["diagnosis"].to_pylist()], pyarrow.int8())
    column = pyarrow.DictionaryArray.from_arrays(codes, values)
    table = table.set_column(place, "diagnosis", column)
    table = table.replace_schema_metadata({b"pandas": b'{"index_columns": ["mean area"]}'})
    parquet.write_table(table, stage.scratch / "edited.parquet")
    after = secureml.data.dataset(stage.scratch / "edited.parquet", source="demo", licence="demo")
    if before.digest != after.digest or not before.to_pandas().equals(after.to_pandas()):
        return "the frame that is handed out changed", "it must not"
    why = (
        "what a dataset hands out follows from its logical content alone; the frames are equal, "
        "types included"
    )
    return f"the same data: {after.digest.short}", why


# -- the model -----------------------------------------------------------------


def change_a_byte(stage: Stage) -> tuple[str, str]:
    """Change one byte of the model."""
    path = stage.model() / "model.skops"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    stage.load(path.parent)
    return "the changed model was loaded", "it must not be"


def add_a_file(stage: Stage) -> tuple[str, str]:
    """Add a file to the model directory."""
    path = stage.model()
    (path / "sitecustomize.py").write_text("print('hello')\n", encoding="utf-8")
    stage.load(path)
    return "the model was loaded beside an unsigned file", "it must not be"


def swap_files(stage: Stage) -> tuple[str, str]:
    """Swap two files of the model by name."""
    path = stage.model()
    (path / "model.skops").rename(path / "tmp")
    (path / "features.json").rename(path / "model.skops")
    (path / "tmp").rename(path / "features.json")
    stage.load(path)
    return "the swapped files were loaded", "they must not be"


def offer_a_pickle(stage: Stage) -> tuple[str, str]:
    """Offer a pickle that would run code, properly signed and gated, as the model."""
    canary = stage.scratch / "code-was-run"
    root = stage.workshop()
    with secureml.open(root, create=False) as ws:
        patients = _patients(ws, root)
        with ws.training_run(MODEL, inputs=[patients], seed=SEED) as run:
            folder = root / "pickled"
            folder.mkdir()
            command = f"touch {canary}"
            (folder / "model.pkl").write_bytes(
                b"cos\nsystem\n(S'" + os.fsencode(command) + b"'\ntR."
            )
            run.add_output(folder)
        ws.sign_model(folder, require=[train_gate()])
        stage.load(folder)
    return f"the pickle was loaded (code run: {canary.exists()})", "it must not be"


def strange_key(stage: Stage) -> tuple[str, str]:
    """Sign the model with a key that nobody trusts."""
    path = stage.model()
    models.sign_model(path, key=keys.generate())
    stage.load(path)
    return "a stranger's signature was accepted", "it must not be"


def no_decision(stage: Stage) -> tuple[str, str]:
    """Sign other files with the trusted key, through the plain function."""
    path = stage.model()
    (path / "claims.jsonl").unlink()
    (path / "features.json").write_text("[]\n", encoding="utf-8")
    secureml.sign_model(path, key=keys.load(stage.private / "keys" / "statements.pem"))
    stage.load(path)
    return "a model without a gate decision was loaded", "it must not be"


# -- the gate ------------------------------------------------------------------


def weaken_the_gate(stage: Stage) -> tuple[str, str]:
    """Train on impossible values, past a weaker gate under the same name."""
    root = stage.workshop()
    weak = train_gate(weak=True)
    with secureml.open(root, create=False) as ws:
        poisoned = _damaged(ws, root, "poisoned", radius=999.0)
        ws.run_gate(weak, poisoned).enforce()
        _train_again(ws, root, poisoned, weak)
    stage.load(root / "again")
    return "a weaker gate was accepted", "it must not be"


def until_green(stage: Stage) -> tuple[str, str]:
    """Change the data until the gate turns green, under a rule that allows one attempt."""
    root = stage.workshop()
    with secureml.open(root, create=False) as ws:
        for attempt, radius in enumerate((999.0, 51.0, 49.0)):
            tried = _damaged(ws, root, f"attempt-{attempt}", radius=radius)
            result = ws.run_gate(train_gate(), tried)
        result.enforce()
        _train_again(ws, root, tried, train_gate())
    stage.load(root / "again")
    stage.note = f"without max_attempts it is accepted, shown as attempt {result.attempts}"
    rule = stage.scratch / "one-attempt.toml"
    text = stage.story.trust.read_text(encoding="utf-8")
    head = f'[models."{MODEL}"]\n'
    rule.write_text(text.replace(head, head + "max_attempts = 1\n"), encoding="utf-8")
    stage.load(root / "again", rule)
    return "the fourth attempt was accepted", "the rule allows one"


# -- the logs ------------------------------------------------------------------


def edit_a_record(stage: Stage) -> tuple[str, str]:
    """Edit one audit record."""
    root = stage.copy()
    bundle = _entries(root / "serving" / "audit")
    data = bundle.read_bytes()
    place = data.index(b'"outcome":"ok"')
    bundle.write_bytes(data[:place] + b'"outcome":"no"' + data[place + 14 :])
    stage.verify(root)
    return "the edited record was accepted", "it must not be"


def cut_the_tail(stage: Stage) -> tuple[str, str]:
    """Cut the last ten records off the log, entries only."""
    root = stage.copy()
    bundle = _entries(root / "serving" / "audit")
    entries = tiles.decode_bundle(bundle.read_bytes(), int(bundle.name))
    bundle.unlink()
    cut = bundle.with_name(str(len(entries) - 10))
    cut.write_bytes(tiles.encode_bundle(entries[:-10]))
    stage.verify(root)
    return "the cut log was accepted", "it must not be"


def roll_back(stage: Stage) -> tuple[str, str]:
    """Put back an older copy of the log, tail and checkpoint together."""
    report = stage.verify(stage.story.early)
    warning = next((w for w in report.warnings if w.startswith("rollback")), None)
    if warning is None:
        return "an older copy passed without a warning", "it must not"
    stage.note = f"without a remembered checkpoint it is accepted, with the warning: {warning}"
    stage.verify(stage.story.early, stage.story.checkpoint)
    return "an older copy was accepted against a newer checkpoint", "it must not be"


def forge_everything(stage: Stage) -> tuple[str, str]:
    """Forge the whole directory again, consistently, under another key."""
    root = stage.scratch / "forged"
    with secureml.open(root) as ws:
        table = shutil.copy(stage.story.directory / "data" / "wdbc.parquet", root / "wdbc.parquet")
        patients = ws.dataset(table, source="forged", licence="CC-BY-4.0")
        ws.run_gate(train_gate(), patients).enforce()
    with secureml.open(root, create=False) as ws:
        ws.verify()  # under its own trust it is flawless
    stage.verify(root)
    return "the forged directory was accepted", "it must not be"


def back_date(stage: Stage) -> tuple[str, str]:
    """Sign a statement with a key that was retired, and date it back."""
    root = stage.workshop()
    old = keys.load(stage.scratch / "evidence.private" / "keys" / "statements.pem")
    with secureml.open(root, create=False) as ws:
        statement = _patients(ws, root).statement()
        ws.rotate(passphrase=secrets.token_urlsafe())
        trust = ws.trust
        envelope = secureml.attest(statement, old)
        secureml.verify(envelope, trust=trust, role="dataset")
    return "a statement by the retired key was accepted", "it must not be"


ATTACKS: tuple[tuple[str, str, Attack], ...] = (
    ("a label flipped in the training file after the gate", "refused SML201", flip_a_label),
    ("the table re-encoded: same data, but a changed evidence file", "refused SML201", re_encode),
    ("pandas metadata edited, a dictionary reordered", "accepted", re_encode_elsewhere),
    ("one byte changed in the model", "refused SML201", change_a_byte),
    ("a file added to the model directory", "refused SML209", add_a_file),
    ("two model files swapped by name", "refused SML201", swap_files),
    ("a pickle that would run code, offered as the model", "refused SML210", offer_a_pickle),
    ("a model signed by a key that is not trusted", "refused SML203", strange_key),
    ("a model signed by the trusted key, without a gate decision", "refused SML208", no_decision),
    ("the gate weakened under the same name", "refused SML208", weaken_the_gate),
    ("a gate run again until green, max_attempts = 1", "refused SML208", until_green),
    ("an audit record edited", "refused SML201", edit_a_record),
    ("the log's tail cut (entries only)", "refused SML209", cut_the_tail),
    ("tail and checkpoint rolled back, a checkpoint remembered", "refused SML206", roll_back),
    ("the whole directory forged again under another key", "refused SML203", forge_everything),
    ("a statement back-dated with a retired key", "refused SML207", back_date),
)
"""Title, how it must end, and the attack."""


# -- what they share -----------------------------------------------------------


def _patients(ws: secureml.Workspace, root: Path) -> secureml.data.Dataset:
    return ws.dataset(
        root / "data" / "wdbc.parquet",
        source="UCI Wisconsin Diagnostic Breast Cancer, as shipped by scikit-learn",
        licence="CC-BY-4.0",
        collector="University of Wisconsin Hospitals, Madison",
    )


def _damaged(
    ws: secureml.Workspace, root: Path, name: str, *, radius: float
) -> secureml.data.Dataset:
    """Register the demo's data with one mean radius changed."""
    path = root / "data" / f"{name}.parquet"
    table = _read(root / "data" / "wdbc.parquet")
    values = table["mean radius"].to_pylist()
    values[0] = radius
    _write(table, path, **{"mean radius": values})
    return ws.dataset(path, source="an insider", licence="CC-BY-4.0")


def _train_again(
    ws: secureml.Workspace, root: Path, data: secureml.data.Dataset, required: Gate
) -> None:
    """Train and sign into ``again/``, as an insider would."""
    with ws.training_run(MODEL, inputs=[data], seed=SEED + 1) as run:
        frame = data.to_pandas()
        run.save(fit(frame.iloc[:-SERVED], seed=run.seed), root / "again")
    ws.sign_model(root / "again", require=[required])


def _read(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202  a pyarrow.Table
    return require("pyarrow.parquet", purpose="for the demo's attacks").read_table(path)


def _write(table, path: Path, **columns: list[object]) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    pyarrow = require("pyarrow", purpose="for the demo's attacks")
    parquet = require("pyarrow.parquet", purpose="for the demo's attacks")
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pyarrow.array(values))
    parquet.write_table(table, path)


def _entries(log: Path) -> Path:
    """Return the first entry bundle of a log."""
    return next(p for p in sorted((log / "tile" / "entries").rglob("*")) if p.is_file())
