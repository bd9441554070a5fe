"""Attack 1: a label flipped in the training file after the gate."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import secureml
from secureml.demo.attacks import Outcome, Stage
from secureml.errors import DigestMismatchError
from secureml.wire.statement import PROVENANCE, RUN_FAILURE


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """Data that changed after the gate is not handed out."""
    outcome = row(1)

    assert outcome.found == "refused SML201"
    assert outcome.what
    assert outcome.why


def flip_label(path: Path) -> None:
    """Write the table again with its first label flipped."""
    table = parquet.read_table(path)
    place = table.schema.get_field_index("diagnosis")
    labels = table["diagnosis"].to_pylist()
    labels[0] = "benign" if labels[0] == "malignant" else "malignant"
    parquet.write_table(table.set_column(place, "diagnosis", pa.array(labels)), path)


def test_a_run_that_reads_it_is_logged_as_failed(stage: Stage) -> None:
    """Training on the changed data raises, is on record as a failure, and signs nothing."""
    root = stage.workshop()
    table = root / "data" / "wdbc.parquet"
    with secureml.open(root, create=False) as ws:
        patients = ws.dataset(table, source="x", licence="x")
        flip_label(table)
        with (
            pytest.raises(DigestMismatchError, match="diagnosis"),
            ws.training_run("diagnosis", inputs=[patients]),
        ):
            patients.to_pandas()
    with secureml.open(root, create=False) as ws:
        statements = ws.verify().statements

    assert 1 == statements[RUN_FAILURE]
    assert 1 == statements[PROVENANCE], "the demo's own run, and no other"
