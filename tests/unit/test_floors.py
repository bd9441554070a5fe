"""The floors of the house: what may import what, and how long a module may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import secureml

SRC = Path(secureml.__file__).parent
MODULES = sorted(SRC.rglob("*.py"))
MAX_LINES = 500
ONE_FILE = SRC / "evidence" / "standalone" / "verify_log.py"
"""Data that is shipped: one file that auditors take away, see ADR 12."""

FLOOR = {
    "errors": 0,
    "_extras": 1,
    "_html": 1,
    "_progress": 1,
    "_durable": 1,
    "clock": 1,
    "wire": 1,
    "detect": 2,
    "hashing": 2,
    "keys": 2,
    "sealing": 2,
    "evidence": 3,
    "gates": 4,
    "data": 5,
    "training": 5,
    "models": 5,
    "audit": 5,
    "workspace": 6,
    "__init__": 6,  # the face: a demo and a command may call what a user calls
    "demo": 7,
    "doctor": 7,
    "integrations": 7,
    "cli": 8,
    "__main__": 9,
    "testing": 9,
}


def place(path: Path) -> str:
    """Return the package (or the top-level module) that *path* belongs to."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """
    Yield the first name below ``secureml`` of everything that *tree* imports.

    Both forms, relative ones, ones inside functions and type-only ones: a
    cycle that only the type checker sees is still a cycle in the reader's head.

    Args:
        tree: The parsed module.
        package: The dotted name of the package that holds it, in parts.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                if top == "secureml":
                    yield rest.partition(".")[0] or "__init__"
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parts = (*base, *(node.module.split(".") if node.module else ()))
            if parts[:1] != ("secureml",):
                continue
            if len(parts) > 1:
                yield parts[1]
            else:
                yield from (alias.name for alias in node.names)


def package_of(path: Path) -> tuple[str, ...]:
    """Return the dotted name, in parts, of the package that holds the module at *path*."""
    return ("secureml", *path.relative_to(SRC).parts[:-1])


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    """A module imports only from its own package or from a floor below it."""
    if path == SRC / "__init__.py":
        pytest.skip("the face names everything and imports nothing: test_facade holds it")
    here = place(path)

    found = set(imported(ast.parse(path.read_text(encoding="utf-8")), package_of(path)))

    wrong = {t for t in found if t != here and not FLOOR.get(t, 99) < FLOOR[here]}
    assert wrong == set(), f"{here} (floor {FLOOR[here]}) -> {wrong}"


def test_every_module_has_a_floor() -> None:
    """A new package is put on a floor before it is imported by anything."""
    assert {place(p) for p in MODULES} <= set(FLOOR)


def test_stages_do_not_know_each_other() -> None:
    """No package of floor 5 imports another one of floor 5, so they share no floor number."""
    stages = {name for name, floor in FLOOR.items() if floor == 5}

    pairs = {
        (place(path), there)
        for path in MODULES
        if place(path) in stages
        for there in imported(ast.parse(path.read_text(encoding="utf-8")), package_of(path))
        if there in stages and there != place(path)
    }

    assert pairs == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import secureml.data.table", {"data"}),
        ("from secureml import data, wire", {"data", "wire"}),
        ("from secureml.data import table", {"data"}),
        ("from . import table", {"gates"}),
        ("from .. import data", {"data"}),
        ("from ..data.table import x", {"data"}),
        ("def f():\n    from ..data import x", {"data"}),
        ("if TYPE_CHECKING:\n    from secureml.data import x", {"data"}),
        ("import secureml", {"__init__"}),
        ("import os, json", set()),
        ("from secureml_other import data", set()),
    ],
)
def test_every_form_of_import_is_seen(source: str, expected: set[str]) -> None:
    """The floor test sees relative, late and type-only imports, and no others."""
    assert expected == set(imported(ast.parse(source), ("secureml", "gates")))


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p != ONE_FILE], ids=lambda p: str(p.relative_to(SRC))
)
def test_modules_stay_short(path: Path) -> None:
    """No module is longer than 500 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_no_check_is_an_assert(path: Path) -> None:
    """No module relies on ``assert``, which ``python -O`` removes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_no_error_is_swallowed(path: Path) -> None:
    """No ``except`` that catches everything does nothing about it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = [
        handler.lineno
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or getattr(handler.type, "id", "") in BROAD)
        and all(isinstance(statement, ast.Pass) for statement in handler.body)
    ]

    assert silent == []


BROAD = {"Exception", "BaseException"}
