"""The demo, as a new user runs it."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_table_has_sixteen_rows_and_each_is_as_it_must_be(demo: Path) -> None:
    """Each attack ends as the table says, and nothing is marked as wrong."""
    said = (demo.parent / "said.txt").read_text("utf-8")
    table = said[said.index("expected         found") :]
    rows = re.findall(
        r"^ +(\d+)  .*?(refused SML\d+|accepted) +(refused SML\d+|accepted)$", table, re.MULTILINE
    )

    assert list(map(str, range(1, 17))) == [number for number, _, _ in rows]
    assert all(expected == found for _, expected, found in rows)
    assert "16 of 16 attacks ended as they must" in said


def test_each_refusal_says_what_why_and_fix(demo: Path) -> None:
    """Each attack shows its end, the reason and, when refused, what to do."""
    said = (demo.parent / "said.txt").read_text("utf-8")

    assert 16 == len(re.findall(r"^      why: .+$", said, re.MULTILINE))
    assert 15 == len(re.findall(r"^      fix: .+$", said, re.MULTILINE))


def test_its_three_commands_do_what_it_says(demo: Path, command: Command) -> None:
    """Verify and trace succeed; after one byte was changed, verify names the file."""
    said = (demo.parent / "said.txt").read_text("utf-8")
    verify, trace, change = (
        line.strip() for line in said[said.index("Try it yourself:") :].splitlines()[1:4]
    )
    cwd = demo.parent

    assert 0 == command(*verify.split()[3:], cwd=cwd).returncode
    traced = command(*trace.split()[3:], cwd=cwd)
    assert 0 == traced.returncode, traced.stderr
    assert 8 == traced.stdout.count("✓")
    assert "printf X | dd of=secureml-demo/model/model.skops" in change
    model = demo / "model" / "model.skops"
    untouched = model.read_bytes()
    try:
        model.write_bytes(untouched[:100] + b"X" + untouched[101:])
        refused = command("verify", "secureml-demo", cwd=cwd)
    finally:
        model.write_bytes(untouched)
    assert 1 == refused.returncode
    assert "'model/model.skops' was changed" in refused.stderr


def test_it_refuses_a_directory_that_is_not_empty(demo: Path, command: Command) -> None:
    """A second run says so, and touches nothing."""
    again = command("demo", "secureml-demo", cwd=demo.parent)

    assert 3 == again.returncode
    assert "is not empty" in again.stderr


def test_json_is_one_object(tmp_path: Path, command: Command) -> None:
    """With --json the whole outcome is one JSON object."""
    done = command("demo", tmp_path / "d", "--json")
    found = json.loads(done.stdout)

    assert 0 == done.returncode
    assert found["ok"]
    assert 16 == len(found["attacks"])
