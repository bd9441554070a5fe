"""What the journeys share: the command line as a user runs it, a demo directory, small data."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the journeys train a model")
pytest.importorskip("skops", reason="the journeys save a model")

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run ``python -m secureml`` in a process of its own."""

    def run(
        *args: object, cwd: Path | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "secureml", *map(str, args)],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            input=stdin,
            env={**os.environ, "PYTHONWARNINGS": "error"},
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A demo directory, as the command leaves it; ``said.txt`` beside it is what it printed."""
    root = tmp_path_factory.mktemp("demo")
    done = command("demo", "secureml-demo", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "said.txt").write_text(done.stdout, encoding="utf-8")
    return root / "secureml-demo"
