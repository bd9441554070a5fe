"""The vectors of ``docs/spec/dataset.md``."""

import json
from pathlib import Path

import pytest

from secureml.data import DatasetClaim
from secureml.errors import FormatError
from secureml.wire.statement import Statement


def test_claims_are_read_and_written_to_the_same_bytes(project: Path) -> None:
    """A claim has one spelling."""
    vector = json.loads((project / "vectors/dataset/accepted.json").read_text())

    assert vector["source"]
    for text in vector["statements"]:
        claim = DatasetClaim.from_statement(Statement.decode(text.encode()))
        assert claim.statement().encode().decode() == text


def test_claims_that_the_specification_refuses_are_refused(project: Path) -> None:
    """Each with a format error."""
    vector = json.loads((project / "vectors/dataset/refused.json").read_text())

    assert vector["source"]
    for what, text in vector["statements"].items():
        with pytest.raises(FormatError) as caught:
            DatasetClaim.from_statement(Statement.decode(text.encode()))
        assert caught.value.code == vector["expect"], what
