"""The face: every name is there, is what it says, and costs nothing until it is used."""

import ast
import importlib
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import secureml

NAMES = sorted(secureml._HOME)
NAMESPACES = sorted(secureml._NAMESPACES)
LIMIT = 25


def test_all_is_what_the_tables_say() -> None:
    """``__all__`` names each entry of the tables and the version, sorted, and no more."""
    assert sorted(secureml.__all__) == secureml.__all__
    assert set(secureml.__all__) == {*NAMES, *NAMESPACES, "__version__"}
    assert set(NAMES) & set(NAMESPACES) == set()


def test_the_face_is_small() -> None:
    """There are at most 25 names beside the namespaces."""
    assert len(NAMES) <= LIMIT


def test_the_type_checker_sees_the_same_names(package: Path) -> None:
    """The imports for type checkers are the names, each from the module that defines it."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("secureml")
        for alias in node.names
    }

    expected = {
        name: (f"secureml.{secureml._HOME[name]}", secureml._ELSEWHERE.get(name, name))
        for name in NAMES
    }
    assert seen == expected | {name: ("secureml", name) for name in NAMESPACES}


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there(name: str) -> None:
    """Each name is the object that its module defines, and documented."""
    home = importlib.import_module(f"secureml.{secureml._HOME[name]}")

    value = getattr(secureml, name)

    assert value is getattr(home, secureml._ELSEWHERE.get(name, name))
    assert value.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_alone_enough(name: str, bare: Callable[[str], str]) -> None:
    """Each name works as the first thing that a process asks for."""
    assert bare(f"from secureml import {name}; print({name} is not None)") == "True\n"


@pytest.mark.parametrize("name", NAMESPACES)
def test_each_namespace_is_there(name: str, bare: Callable[[str], str]) -> None:
    """Each namespace is reached by attribute, without importing it first."""
    out = bare(f"import secureml; print(secureml.{name}.__name__, bool(secureml.{name}.__doc__))")

    assert out == f"secureml.{name} True\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist is refused as in any module."""
    with pytest.raises(AttributeError, match="module 'secureml' has no attribute 'opne'"):
        _ = secureml.opne  # type: ignore[attr-defined]
    assert not hasattr(secureml, "_nothing")


def test_dir_lists_the_names(bare: Callable[[str], str]) -> None:
    """``dir`` shows the public names without loading them."""
    code = "import secureml; print(*dir(secureml)); print('secureml.errors' in sys.modules)"
    shown, loaded = bare(code).splitlines()

    assert shown.split() == sorted(secureml.__all__)
    assert loaded == "False"


def test_a_name_is_looked_up_once() -> None:
    """The second use of a name is a plain attribute."""
    assert secureml.Digest is vars(secureml)["Digest"]


def test_the_version_is_that_of_our_distribution() -> None:
    """The version is that of ``secureml-sdk``; nobody else's distribution is asked."""
    try:
        installed = version("secureml-sdk")
    except PackageNotFoundError:
        pytest.skip("secureml runs from its sources here: no distribution is installed")

    assert secureml.__version__ == installed
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", installed)
