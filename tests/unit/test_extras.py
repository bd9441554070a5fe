"""Optional libraries: seen when loaded, demanded with the exact install line."""

import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from secureml._extras import EXTRAS, loaded, require
from secureml.errors import MissingExtraError


def test_loaded_does_not_import() -> None:
    """`loaded` answers None for what nobody imported, and imports nothing."""
    assert loaded("antigravity") is None
    assert "antigravity" not in sys.modules


def test_loaded_returns_what_is_there() -> None:
    """`loaded` returns the module that is already imported."""
    assert loaded("pytest") is pytest


def test_require_imports() -> None:
    """`require` returns the module, sub-modules included."""
    module = require("xml.dom", purpose="to be tested")

    assert isinstance(module, ModuleType)
    assert module.__name__ == "xml.dom"


@pytest.mark.parametrize(("name", "extra"), sorted(EXTRAS.items()))
def test_a_missing_extra_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the library, the purpose and the exact install line."""
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MissingExtraError) as caught:
        require(name, purpose="to read a table")

    assert caught.value.what == f"{name!r} is needed to read a table"
    assert f"pip install 'secureml-sdk[{extra}]'" in caught.value.fix
    assert f"pip install '.[{extra}]'" in caught.value.fix
    assert caught.value.code == "SML600"


def test_a_missing_part_of_a_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sub-module that is missing is answered with the extra of its library."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtraError, match=r"secureml-sdk\[data\]"):
        require("pyarrow.parquet", purpose="to read Parquet")


def test_an_unknown_library_is_still_named() -> None:
    """A library that no extra installs is named by its own name."""
    with pytest.raises(MissingExtraError, match="no_such_library_here"):
        require("no_such_library_here", purpose="to be tested")


def test_every_extra_exists(project: Path) -> None:
    """Each extra that an error tells people to install is in pyproject.toml."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))

    assert set(EXTRAS.values()) <= set(document["project"]["optional-dependencies"])


def test_a_broken_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is there but cannot be loaded is answered in the same way."""
    (tmp_path / "broken_library_here.py").write_text("raise ImportError('DLL load failed')\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(MissingExtraError, match="DLL load failed"):
        require("broken_library_here", purpose="to be tested")
