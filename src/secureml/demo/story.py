"""
A diagnostic-support model, from its data to a prediction and back.

The data is the Wisconsin breast cancer set that scikit-learn ships: 569 real
patients.  A model is trained behind a gate and signed; a second workspace with
a key of its own gets only the model directory and a reviewed trust file, serves
200 audited predictions, and one of them is walked back.  Then the demo attacks
itself (`secureml.demo.attacks`), through the calls a user makes.

Everything here is the public face; the demo knows nothing that a reader of the
README does not.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import secureml
from secureml import audit
from secureml._extras import require
from secureml.errors import StoreError
from secureml.evidence.trust import Trust
from secureml.gates import Check, Gate

__all__ = ["MODEL", "Story", "fit", "run", "tell", "train_gate", "write_data"]

MODEL = "diagnosis"
SERVED = 200
SEED = 7

Say = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """
    What the story leaves behind, for the attacks.

    Attributes:
        directory: The evidence directory, sealed.
        trust: The trust file that the serving machine was given.
        prediction: The id of the prediction that was traced.
        early: A copy of the serving evidence, taken after half the predictions.
        checkpoint: The serving log's last checkpoint, as somebody outside kept it.
        scratch: Where the attacks may write.
    """

    directory: Path
    trust: Path
    prediction: str
    early: Path
    checkpoint: str
    scratch: Path


def run(directory: Path, *, say: Say = print) -> dict[str, object]:
    """
    Run the demo in *directory*, which must be new or empty.

    Args:
        directory: Becomes an evidence directory; its private half lies beside it.
        say: Prints a line.

    Returns:
        The attacks' outcomes and the time taken, as plain values; ``ok`` is
        True when each attack ended as the table says it must.

    Raises:
        StoreError: The directory is not empty.
        MissingExtraError: An extra of ``secureml-sdk[demo]`` is missing.
    """
    from secureml.demo.attacks import attack_all

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="secureml-demo-") as scratch:
        story = tell(directory, scratch=Path(scratch), say=say)
        say()
        say("Now the demo attacks itself, through the calls a user makes.")
        outcomes = attack_all(story, say=say)
    took = time.monotonic() - began
    good = sum(outcome.as_expected for outcome in outcomes)
    say()
    say(f"{good} of {len(outcomes)} attacks ended as they must; {took:.1f} s")
    say()
    say("Try it yourself:")
    for line in commands(directory, story.prediction):
        say(f"  {line}")
    return {
        "ok": good == len(outcomes),
        "directory": str(directory),
        "prediction": story.prediction,
        "seconds": round(took, 1),
        "attacks": [outcome.to_dict() for outcome in outcomes],
    }


def commands(directory: Path, prediction: str) -> tuple[str, str, str]:
    """Return the three commands that the demo ends with, for the Python that runs it."""
    program = f"{_python()} -m secureml"
    return (
        f"{program} verify {directory}",
        f"{program} trace {directory} {prediction}",
        (
            f"printf X | dd of={directory}/model/model.skops bs=1 seek=100 conv=notrunc "
            f"&& {program} verify {directory}"
        ),
    )


def _python() -> str:
    """Return how a shell here finds this Python: by its path below here, else by its name."""
    here, path = f"{Path.cwd()}{os.sep}", sys.executable
    return path.removeprefix(here) if path.startswith(here) else "python"


def tell(directory: Path, *, scratch: Path, say: Say) -> Story:
    """Build the chain in *directory*, and print its trace."""
    _refuse_used(directory)
    with secureml.open(directory) as ws:
        say(f"1  workspace {directory} (evidence), {directory}.private (keys)")
        table = write_data(directory / "data" / "wdbc.parquet")
        patients = ws.dataset(
            table,
            source="UCI Wisconsin Diagnostic Breast Cancer, as shipped by scikit-learn",
            licence="CC-BY-4.0",
            collector="University of Wisconsin Hospitals, Madison",
        )
        say(f"2  dataset   {patients.name}: {patients.rows} patients, {patients.digest.short}")
        gate = train_gate()
        decision = ws.run_gate(gate, patients)
        decision.enforce()
        say(
            f"3  gate      {gate.name}: PASSED, {len(decision.findings)} checks, plan logged first"
        )
        with ws.training_run(
            MODEL, inputs=[patients], seed=SEED, parameters={"held_out": SERVED}
        ) as run_:
            frame = patients.to_pandas()
            estimator = fit(frame.iloc[:-SERVED], seed=run_.seed)
            run_.save(estimator, directory / "model")
            (directory / "model" / "features.json").write_bytes(_features(frame))
            run_.add_output(directory / "model")
        signed = ws.sign_model(directory / "model", require=[gate])
        say(f"4  model     {signed.digest.short} trained, saved as skops, signed (OMS v1.0)")
        trust = ws.write_trust(
            Path(f"{directory}.private") / "for-serving.toml", models={MODEL: [gate]}
        )
        ws.pin(trust)
        say(f"5  trust     {trust}: reviewed text, given to the serving machine")

        held_out = frame.iloc[-SERVED:].drop(columns="diagnosis")
        prediction, early, note = _serve(directory, trust, held_out, scratch, say)
        ws.pin(Trust.load(Path(f"{directory}.private") / "serving" / "trust.toml"))
    say("7  closed    every file sealed; the serving machine's evidence collected inside")
    say()
    with secureml.open(directory, create=False) as ws:
        trace = ws.trace(prediction)
        say(trace)
        trace.enforce()
        say()
        say(ws.verify())
    return Story(
        directory=directory,
        trust=trust,
        prediction=prediction,
        early=early,
        checkpoint=note,
        scratch=scratch,
    )


def _serve(
    directory: Path, trust: Path, held_out: object, scratch: Path, say: Say
) -> tuple[str, Path, str]:
    """Serve predictions from a second workspace that was given only a model and a trust file."""
    pandas = require("pandas", purpose="to serve the held-out patients")
    rows = pandas.DataFrame(held_out)
    received = scratch / "received" / "model"
    shutil.copytree(directory / "model", received)
    with secureml.open(directory / "serving", role="serve", trust=trust) as serving:
        model = serving.load_model(received, name=MODEL)

        @serving.audited(
            action="diagnose", model=model, user="user", capture=["row", "return.score"]
        )
        def diagnose(row: dict[str, float], *, user: str) -> dict[str, object]:  # noqa: ARG001  recorded
            """Return the diagnosis and its score."""
            x = pandas.DataFrame([row])
            score = float(model.value.predict_proba(x)[0, 1])
            return {"diagnosis": str(model.value.predict(x)[0]), "score": score}

        early = scratch / "early"
        with audit.collect() as records:
            for number, row in enumerate(rows.to_dict("records")):
                diagnose(row, user=f"dr-{number % 3}@clinic.example")
                if number == SERVED // 2:
                    serving.checkpoint()
                    shutil.copytree(serving.path, early)
        picked = records[SERVED * 3 // 4]
        note = serving.checkpoint()
    say(f"6  serving   {len(records)} audited predictions in a second workspace, with its own key")
    (scratch / "row.json").write_text(
        json.dumps(rows.iloc[SERVED * 3 // 4].to_dict()), encoding="utf-8"
    )
    return picked.id, early, note


def train_gate(*, weak: bool = False) -> Gate:
    """Return the gate that the training data must pass; *weak* asks for less, same name."""
    check = secureml.data.checks
    asked: list[Check] = [check.row_count(500), check.not_null("mean radius")]
    if weak:
        return Gate("train-data@1", asked)
    return Gate(
        "train-data@1",
        [
            *asked,
            check.between("mean radius", 0, 50),
            check.in_set("diagnosis", ["malignant", "benign"]),
            check.no_conflicting_labels("diagnosis"),
        ],
    )


def write_data(path: Path) -> Path:
    """Write the data as scikit-learn ships it, as Parquet."""
    datasets = require("sklearn.datasets", purpose="for the demo's data")
    pyarrow = require("pyarrow", purpose="to write the demo's data")
    parquet = require("pyarrow.parquet", purpose="to write the demo's data")
    bunch = datasets.load_breast_cancer(as_frame=True)
    frame = bunch.data.assign(diagnosis=[str(bunch.target_names[t]) for t in bunch.target])
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), path)
    return path


def fit(frame: object, *, seed: int) -> object:
    """Train the model: a scaled logistic regression."""
    pandas = require("pandas", purpose="to train the demo's model")
    linear = require("sklearn.linear_model", purpose="to train the demo's model")
    pipeline = require("sklearn.pipeline", purpose="to train the demo's model")
    scaling = require("sklearn.preprocessing", purpose="to train the demo's model")
    data = pandas.DataFrame(frame)
    estimator = pipeline.make_pipeline(
        scaling.StandardScaler(), linear.LogisticRegression(max_iter=1_000, random_state=seed)
    )
    return estimator.fit(data.drop(columns="diagnosis"), data["diagnosis"])


def _features(frame: object) -> bytes:
    pandas = require("pandas", purpose="to train the demo's model")
    names = [c for c in pandas.DataFrame(frame).columns if c != "diagnosis"]
    return json.dumps(names, indent=1).encode() + b"\n"


def _refuse_used(directory: Path) -> None:
    for path in (directory, Path(f"{directory}.private")):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StoreError(
                f"{str(path)!r} is not empty",
                why="the demo writes into a new directory only",
                fix=f"remove it (rm -r {directory} {directory}.private) or name another: "
                "python -m secureml demo DIR",
            )
