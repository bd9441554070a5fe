"""The names of `secureml.evidence`: all there, none loaded before it is used."""

import subprocess
import sys

import pytest

from secureml import evidence


@pytest.mark.parametrize("name", evidence.__all__)
def test_each_name_is_there(name: str) -> None:
    """Every promised name is found, and is what it says."""
    assert getattr(evidence, name) is getattr(evidence, name)
    assert name in dir(evidence)


def test_the_two_lists_agree() -> None:
    """What is promised is what has a home."""
    assert sorted(evidence._HOME) == sorted(evidence.__all__)


def test_another_name_is_an_attribute_error() -> None:
    """A misspelt name is an error, not a module."""
    with pytest.raises(AttributeError, match="has no attribute 'Lgo'"):
        _ = evidence.Lgo


def test_trust_is_light() -> None:
    """Importing what a writer or an audited process needs loads no pydantic."""
    code = (
        "import sys, secureml.evidence.trust, secureml.evidence.verify, secureml.evidence.attest, "
        "secureml.evidence.notes, secureml.evidence.rotation, secureml.evidence.observe; "
        "print(*sorted({'pydantic', 'asyncio', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
