"""The README keeps its word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")

PREPARE = """
import pandas, pathlib
from sklearn.linear_model import LogisticRegression
frame = pandas.DataFrame({"radius": [1.0, 2.0, 8.0, 9.0] * 20, "label": ["b", "b", "m", "m"] * 20})
frame.to_parquet("train.parquet")
def fit(frame):
    return LogisticRegression().fit(frame[["radius"]].to_numpy(), frame["label"])
"""


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_example_runs_and_its_trace_holds(tmp_path: Path) -> None:
    """The fifteen lines run as they stand, and print a trace in which every link holds."""
    example = blocks("python")[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREPARE + example],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert 8 == done.stdout.count("✓")
    assert "✗" not in done.stdout
    assert "gate decision    train-data@1 on train" in done.stdout


def test_it_is_short() -> None:
    """The README has at most 150 lines, the example fifteen that do something."""
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]

    assert len(README.splitlines()) <= 150
    assert len(lines) <= 18


def test_its_two_commands_are_one_line_each() -> None:
    """The first two commands are self-contained: a demo, and the tests."""
    demo, tests = blocks("sh")[0].splitlines()

    assert demo.startswith("python3 -m venv")
    assert demo.endswith("-m secureml demo")
    assert tests.startswith("python3 -m venv")
    assert tests.endswith("nox -s tests")


def test_ci_calls_its_test_command() -> None:
    """What runs on each change is the README's own test command."""
    assert blocks("sh")[0].splitlines()[1] in (ROOT / ".ci" / "run").read_text("utf-8")


def test_it_says_whose_the_other_name_is() -> None:
    """The README warns that the registry's secureml is another project."""
    assert "`pip install secureml` is **somebody else's project**" in README


@pytest.mark.parametrize(
    "target", re.findall(r"\]\(([^)#:]+)\)|^\[.+\]: (docs/\S+)$", README, re.MULTILINE)
)
def test_its_links_lead_somewhere(target: tuple[str, str]) -> None:
    """Each relative link names a file or a directory of the project."""
    assert (ROOT / (target[0] or target[1])).exists()
