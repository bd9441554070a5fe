"""A notebook: cells run again, objects show themselves, nothing leaks into the page."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import secureml
from secureml.workspace import Report, SignedModel, Trace

GATE = secureml.Gate("train-data@1", [secureml.data.checks.not_null("x")])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small table."""
    path = tmp_path / "train.parquet"
    pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [0, 0, 1, 1]}).to_parquet(path)
    return path


def notebook(root: Path, table: Path, source: str = "a form") -> tuple[object, ...]:
    """Run the whole notebook once; return what its cells show."""
    ws = secureml.open(root / "ws")
    train = ws.dataset(table, source=source, licence="CC0")
    decision = ws.run_gate(GATE, train)
    with ws.training_run("demo", inputs=[train], seed=1) as run:
        frame = train.to_pandas()
        run.save(LogisticRegression().fit(frame[["x"]].to_numpy(), frame["y"]), root / "model")
    signed = ws.sign_model(root / "model", require=[GATE])
    ws.pin(ws.write_trust(root / "trust.toml", models={"demo": [GATE]}))
    model = ws.load_model(root / "model")

    @ws.audited(action="predict", model=model, capture=["row"])
    def predict(row: list[float]) -> int:
        return int(model.value.predict([row])[0])

    with secureml.audit.collect() as records:
        predict([2.5])
    trace = ws.trace(records[0].id, input=[2.5])
    trace.enforce()
    return ws, train, decision, signed, model, trace, ws.verify()


def test_running_it_again_adds_only_a_new_run(tmp_path: Path, table: Path) -> None:
    """The dataset and the decision are found; one run and one signature are new."""
    first = notebook(tmp_path, table)
    second = notebook(tmp_path, table)
    before, after = first[-1], second[-1]
    assert isinstance(before, Report)
    assert isinstance(after, Report)
    grown = {
        name: count - before.statements.get(name, 0) for name, count in after.statements.items()
    }

    assert {
        secureml.wire.statement.RUN_START: 1,
        secureml.wire.statement.PROVENANCE: 1,
        secureml.wire.statement.OMS: 1,
    } == {name: count for name, count in grown.items() if count}


def test_everything_shows_itself(tmp_path: Path, table: Path) -> None:
    """Datasets, decisions, models, traces and reports are readable HTML without script."""
    for shown in notebook(tmp_path, table)[1:]:
        page = shown._repr_html_()  # type: ignore[attr-defined]

        assert page.startswith("<div")
        assert "<script" not in page
        assert len(page) < 20_000


def test_text_from_elsewhere_is_escaped(tmp_path: Path, table: Path) -> None:
    """A source that is HTML stays text, in each object that shows it."""
    evil = "<img src=x onerror=alert(1)>"
    shown = notebook(tmp_path, table, source=evil)
    dataset, trace = shown[1], shown[-2]
    assert isinstance(trace, Trace)
    pages = dataset._repr_html_() + trace._repr_html_()  # type: ignore[attr-defined]

    assert "&lt;img" in pages
    assert evil not in pages
    assert isinstance(shown[3], SignedModel)


def test_it_says_nothing_the_second_time(
    tmp_path: Path, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Making a workspace says so in one line; opening it again is silent."""
    notebook(tmp_path, table)
    first = capfd.readouterr()
    notebook(tmp_path, table)
    second = capfd.readouterr()

    assert 1 == len(first.err.strip().splitlines())
    assert "created workspace" in first.err
    assert "sha256:" in first.err
    assert ("", "") == (second.out, second.err)
