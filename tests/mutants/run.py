"""
Hand-made mutants: faults that a test has to notice, each put into a copy of the sources.

A mutant that survives is a gap in the tests, or code that does nothing.  The
table `mutants.toml` holds, for each one::

    [[mutant]]
    file = "wire/base64.py"       # below src/secureml
    old = "..."                   # occurs exactly once in the file
    new = "..."
    tests = ["tests/unit/wire"]   # what has to fail; pytest's arguments
    why = "what an attacker could do if nothing noticed"

Usage::

    python tests/mutants/run.py [--only WORD] [--jobs N]

``--only`` takes the mutants whose file or reason contains WORD.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = Path(__file__).with_name("mutants.toml")
PASSED, FAILED = 0, 1
TIMEOUT = 600


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: where, what becomes what, who has to notice, and why it matters."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.file}: {self.why}"

    def apply(self, package: Path) -> None:
        """Put the fault into the copy at *package*."""
        path = package / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def read(table: Path = TABLE) -> list[Mutant]:
    """Return the mutants of *table*."""
    document = tomllib.loads(table.read_text(encoding="utf-8"))
    return [
        Mutant(m["file"], m["old"], m["new"], tuple(m["tests"]), m["why"])
        for m in document["mutant"]
    ]


def problems(mutant: Mutant, root: Path = ROOT) -> list[str]:
    """Return what is wrong with the entry itself, before anything runs."""
    path = root / "src" / "secureml" / mutant.file
    if not path.is_file():
        return ["there is no such file"]
    count = path.read_text(encoding="utf-8").count(mutant.old)
    found = [] if count == 1 else [f"its old text occurs {count} times, not once"]
    if mutant.old == mutant.new:
        found.append("it changes nothing")
    found += [
        f"there is no {test}"
        for test in mutant.tests
        if not test.startswith("-") and not (root / test.partition("::")[0]).exists()
    ]
    return found


def copy(root: Path, to: Path) -> Path:
    """Copy what a test run needs to *to*, and return the package in it."""
    shutil.copytree(
        root / "src", to / "src", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    for name in ("tests", "vectors", "docs", "pyproject.toml", "README.md", "noxfile.py"):
        if (root / name).exists():
            (to / name).symlink_to(root / name)
    return to / "src" / "secureml"


def pytest(directory: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run *tests* on the copy in *directory*; return pytest's exit code and its output."""
    environment = os.environ | {
        "PYTHONPATH": str(directory / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return FAILED, "it did not end"  # a fault that hangs is noticed
    return done.returncode, done.stdout + done.stderr


def judge(mutant: Mutant) -> str:
    """Return ``""`` when a test noticed *mutant*, else what happened instead."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        mutant.apply(copy(ROOT, Path(directory)))
        code, output = pytest(Path(directory), mutant.tests)
    if code == FAILED:
        return ""
    if code == PASSED:
        return "SURVIVED: every test passes"
    tail = "\n    ".join(output.strip().splitlines()[-5:])
    return f"INVALID: pytest ended with {code}, so no test judged it\n    {tail}"


def main() -> int:
    """Run all mutants; return 0 when every one was noticed."""
    parser = argparse.ArgumentParser(description="Put faults in, and see whether tests notice.")
    parser.add_argument("--only", default="", help="mutants whose file or reason contains this")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()

    mutants = [m for m in read() if options.only in m.name]
    wrong = [f"{m.name}: {problem}" for m in mutants for problem in problems(m)]
    if wrong or not mutants:
        print("\n".join(wrong) or "no mutant matches")
        return 2

    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy(ROOT, Path(directory))
        everything = sorted({test for m in mutants for test in m.tests})
        code, output = pytest(Path(directory), everything)
    if code != PASSED:
        print(output, "\nwithout any fault the tests have to pass; they do not")
        return 2

    survivors = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, verdict in zip(mutants, pool.map(judge, mutants), strict=True):
            survivors += bool(verdict)
            print(f"{verdict or 'noticed '} {mutant.name}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
