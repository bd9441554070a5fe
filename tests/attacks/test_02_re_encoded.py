"""Attack 2: the same table, other bytes, inside the sealed evidence."""

from collections.abc import Callable

import pytest

import secureml
from secureml.demo.attacks import Outcome, Stage, re_encode
from secureml.errors import DigestMismatchError


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A re-encoded table is the same data, and still a changed file of the evidence."""
    outcome = row(2)

    assert outcome.found == "refused SML201"
    assert outcome.what
    assert outcome.why


def test_it_is_the_same_data(stage: Stage) -> None:
    """The logical digest of the re-encoded table is the one that was gated."""
    path = stage.story.directory / "data" / "wdbc.parquet"
    before = secureml.data.dataset(path, source="x", licence="x")

    with pytest.raises(DigestMismatchError, match=r"wdbc\.parquet"):
        re_encode(stage)
    changed = stage.scratch / "evidence" / "data" / "wdbc.parquet"

    assert path.read_bytes() != changed.read_bytes()
    assert before.digest == secureml.data.dataset(changed, source="x", licence="x").digest
