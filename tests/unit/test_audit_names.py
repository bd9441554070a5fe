"""The names of `secureml.audit`: all there, and what they cost."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from secureml import audit

EAGER = {"collect", "context"}
"""Functions that have the name of their module, which would take their place."""


@pytest.mark.parametrize("name", audit.__all__)
def test_each_name_is_there(name: str) -> None:
    """Every promised name is found, and stays what it is."""
    assert getattr(audit, name) is getattr(audit, name)
    assert name in dir(audit)


def test_the_lists_agree() -> None:
    """What is promised is what has a home."""
    assert {*audit._HOME, *EAGER} == set(audit.__all__)
    assert set(audit._ELSEWHERE) <= set(audit._HOME)


def test_the_type_checker_sees_the_same_names(package: Path) -> None:
    """The imports for type checkers are the names, each from the module that defines it."""
    tree = ast.parse((package / "audit" / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname
    }

    expected = {
        name: (f"secureml.audit.{home}", audit._ELSEWHERE.get(name, name))
        for name, home in audit._HOME.items()
    }
    assert seen == expected | {name: ("secureml.audit", name) for name in audit._MODULES}


@pytest.mark.parametrize("name", sorted(audit._MODULES))
def test_modules_are_reached_by_attribute(name: str) -> None:
    """A module is itself, whether it was imported before or not."""
    assert getattr(audit, name) is importlib.import_module(f"secureml.audit.{name}")


def test_functions_keep_their_names(bare: Callable[[str], str]) -> None:
    """`collect` and `context` are functions, whatever was imported before them."""
    code = (
        "import secureml.audit.sink, secureml.audit.context, secureml.audit.collect; "
        "from secureml import audit; "
        "print(audit.collect.__name__, audit.context.__name__, callable(audit.collect))"
    )

    assert bare(code) == "collect context True\n"


def test_another_name_is_an_attribute_error() -> None:
    """A misspelt name is an error, not a module."""
    with pytest.raises(AttributeError, match="has no attribute 'questions'"):
        _ = audit.questions


def test_a_name_loads_what_it_needs(bare: Callable[[str], str]) -> None:
    """A process that records loads neither the query, nor exports, nor verification."""
    code = (
        "from secureml.audit import AuditLog, audited; "
        "print(*sorted({'sqlite3', 'pydantic', 'secureml.audit.query', 'secureml.audit.export', "
        "'secureml.audit.verification', 'urllib.request'} & set(sys.modules)))"
    )

    assert bare(code).split() == []
