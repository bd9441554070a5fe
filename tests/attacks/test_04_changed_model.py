"""Attack 4: one byte changed in the model."""

from collections.abc import Callable

import pytest

from secureml.demo.attacks import Outcome, Stage
from secureml.errors import FormatError, VerificationError


def test_the_demos_row(row: Callable[[int], Outcome]) -> None:
    """A changed model is not loaded."""
    outcome = row(4)

    assert outcome.found == "refused SML201"
    assert outcome.what
    assert outcome.why


@pytest.mark.parametrize("name", ["model.skops", "features.json", "model.sig", "claims.jsonl"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.999])
def test_any_file_of_it(stage: Stage, name: str, part: float) -> None:
    """A bit flipped anywhere in the directory is refused, signature and claims included."""
    path = stage.model() / name
    data = bytearray(path.read_bytes())
    data[int(len(data) * part)] ^= 1
    path.write_bytes(data)

    with pytest.raises((VerificationError, FormatError)):
        stage.load(path.parent)
