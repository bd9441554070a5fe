"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    """It ends well, with warnings as errors, and prints a trace that holds."""
    done = subprocess.run(
        [sys.executable, "-W", "error", path, tmp_path / "new"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "✓" in done.stdout
    assert "✗" not in done.stdout


def test_there_are_some() -> None:
    """The directory is not empty."""
    assert EXAMPLES
