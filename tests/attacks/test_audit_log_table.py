"""The table of attacks on the page is the one that the tests execute, row by row."""

import ast
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from secureml.audit import _recorder, sink
from secureml.evidence import epochkeys, sequencer
from secureml.evidence.anchors import policy

HERE = Path(__file__).parent
_spec = spec_from_file_location("attack_table", HERE / "attack_table.py")
if _spec is None or _spec.loader is None:
    raise ImportError(name="attack_table")
table = module_from_spec(_spec)
_spec.loader.exec_module(table)


@pytest.fixture
def page(project: Path) -> str:
    """Return the page."""
    return (project / "docs/security-model.md").read_text("utf-8")


@pytest.mark.parametrize("part", ["means", "markdown", "structure"])
def test_the_page_has_the_table(page: str, part: str) -> None:
    """Each table of the page is the data that the attacks are held against."""
    assert getattr(table, part)() in page


def attacks() -> dict[str, ast.FunctionDef]:
    """Return the tests that are held against a row, by the row's name."""
    return {
        node.name.removeprefix("test_"): node
        for path in HERE.glob("test_audit_log_*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and any(argument.arg == "case" for argument in node.args.args)
    }


def test_every_row_is_executed() -> None:
    """A row has a test of its name that asserts exactly what it says, and no test has none."""
    found = attacks()

    assert set(table.ATTACKS) == found.keys()
    for name, node in found.items():
        called = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
        assert any(isinstance(one, ast.Name) and one.id == "case" for one in called), name


def test_every_means_catches_something_and_misses_something() -> None:
    """No means is there for nothing, and none is enough."""
    for means in table.MEANS:
        caught = [row.test for row in table.ATTACKS.values() if means in row.caught]
        assert 0 < len(caught) < len(table.ATTACKS), means


def test_what_is_not_caught_says_so() -> None:
    """A row that nothing catches says when it would be, or that it never is."""
    for row in table.ATTACKS.values():
        assert row.caught or row.missed != "–", row.test


def test_the_windows_are_those_of_the_code(page: str) -> None:
    """Seconds on the page are the defaults."""
    assert _recorder.FLUSH <= 0.05
    assert sequencer.INTERVAL == 1.0
    assert sink.HEARTBEAT == 60.0
    assert policy.INTERVAL == 60.0
    assert (epochkeys.EPOCH_PERIOD, epochkeys.EPOCH_LEAVES) == (timedelta(hours=1), 65_536)
    for words in ("50 ms", "about a second", "60 s", "120 s", "an hour or 65,536"):
        assert words in page, words
