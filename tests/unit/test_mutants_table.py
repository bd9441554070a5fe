"""The table of mutants fits the sources, so that none of them silently stops applying."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent / "mutants" / "run.py"
_spec = spec_from_file_location("mutants_run", HERE)
assert _spec
assert _spec.loader
run = module_from_spec(_spec)
sys.modules["mutants_run"] = run
_spec.loader.exec_module(run)


@pytest.mark.parametrize("mutant", run.read(), ids=lambda m: m.name)
def test_each_mutant_applies(mutant: "run.Mutant") -> None:  # type: ignore[name-defined]
    """Its text occurs exactly once, it changes something, and its tests exist."""
    assert run.problems(mutant) == []
