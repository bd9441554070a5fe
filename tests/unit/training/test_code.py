"""Which code ran: git first, then main file or cells, else a plain unknown."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from secureml.errors import FormatError
from secureml.training import Code, current_code
from secureml.training import code as module
from secureml.wire.digest import Digest

D = Digest.sha256(b"x")


def git(path: Path, *arguments: str) -> str:
    """Run git in *path*, apart from this machine's settings."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        cwd=path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def no_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as if no script had been started."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with one commit, which is the working directory."""
    path = tmp_path / "repo"
    path.mkdir()
    git(path, "init", "-q")
    (path / "train.py").write_text("print(1)\n")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "first")
    monkeypatch.chdir(path)
    return path


def test_clean_tree_is_the_commit(repository: Path) -> None:
    """A clean tree is named by its commit alone."""
    found = current_code()

    assert ("git", git(repository, "rev-parse", "HEAD"), None) == (
        found.source,
        found.commit,
        found.diff,
    )
    assert f"git {found.commit[:12]}" == str(found)


def test_every_change_has_another_digest(repository: Path) -> None:
    """A changed file, a staged one and a new source file change the difference, and undo it."""
    seen = set()
    (repository / "train.py").write_text("print(2)\n")
    seen.add(current_code().diff)
    (repository / "train.py").write_text("print(3)\n")
    seen.add(current_code().diff)
    git(repository, "add", ".")
    seen.add(current_code().diff)
    (repository / "helper.py").write_text("x = 1\n")
    seen.add(current_code().diff)
    (repository / "helper.py").write_text("x = 2\n")
    seen.add(current_code().diff)
    (repository / "helper.py").rename(repository / "helper2.py")
    seen.add(current_code().diff)

    assert len(seen) == 5  # staging alone changes nothing
    assert None not in seen
    assert "with changes" in str(current_code())
    git(repository, "reset", "-q", "--hard")
    (repository / "helper2.py").unlink()
    assert current_code().diff is None


def test_data_that_lies_about_is_not_code(repository: Path) -> None:
    """An untracked model or table does not make the code dirty."""
    (repository / "train.parquet").write_bytes(b"PAR1")
    (repository / "huge.py").write_bytes(b"#" * (1 << 21))

    assert current_code().diff is None


def test_hooks_and_helpers_are_not_run(repository: Path) -> None:
    """A repository's configuration does not run programs of its choice."""
    (repository / "train.py").write_text("print(2)\n")
    marker = repository.parent / "ran"
    script = repository.parent / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(script))
    git(repository, "config", "diff.external", str(script))
    git(repository, "config", "core.pager", str(script))
    (repository / ".gitattributes").write_text("*.py diff=evil\n")
    git(repository, "config", "diff.evil.textconv", str(script))
    git(repository, "config", "diff.evil.command", str(script))

    assert current_code().diff is not None
    assert not marker.exists()


def test_inherited_git_variables_do_not_mislead(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIT_DIR of a surrounding hook does not name another repository's commit."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    assert git(repository, "rev-parse", "HEAD") == current_code().commit


def test_repository_without_a_commit_is_no_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first commit there is no name for the tree."""
    git(tmp_path, "init", "-q")
    monkeypatch.chdir(tmp_path)

    assert Code(source="unknown") == current_code()


@pytest.mark.usefixtures("repository")
def test_git_that_hangs_or_is_missing_never_fails_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A git that takes too long, or is not installed, is as good as none."""
    for error in (subprocess.TimeoutExpired("git", 1), FileNotFoundError("git")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(subprocess, "run", fail)
        assert current_code().source == "unknown"


def test_main_file_is_named_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git the script that was started is named by its bytes."""
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(module, "_git", lambda _: ("", None))
    found = current_code()

    assert (found.source, found.main) == ("file", "train.py")
    assert Digest.sha256(b"print(1)\n") == found.main_digest
    assert str(found).startswith("file train.py sha256:")
    script.unlink()
    assert Code(source="unknown") == current_code()


def test_installed_tool_is_not_the_main_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest, or a console script, is not the code of a run."""
    main = types.ModuleType("__main__")
    main.__file__ = pytest.__file__
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(module, "_git", lambda _: ("", None))

    assert Code(source="unknown") == current_code()


def test_executed_cells_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the cells that ran are named, in their order."""
    shell = types.SimpleNamespace(user_ns={"In": ["", "x = 1", "train()"]})
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(module, "_git", lambda _: ("", None))
    found = current_code()

    assert found.source == "notebook"
    assert Digest.sha256(b'["","x = 1","train()"]') == found.cells
    assert str(found).startswith("notebook cells sha256:")
    shell.user_ns["In"].append("more()")
    assert found.cells != current_code().cells
    shell.user_ns.clear()
    assert Code(source="unknown") == current_code()


@pytest.mark.parametrize(
    "code",
    [
        Code(source="unknown"),
        Code(source="git", commit="a" * 40),
        Code(source="git", commit="a" * 40, diff=D, main="t.py", main_digest=D, cells=D),
        Code(source="file", main="t.py", main_digest=D),
        Code(source="notebook", cells=D),
    ],
)
def test_record_comes_back(code: Code) -> None:
    """What a record says about the code is read back as it was."""
    assert code == Code.from_json(code.to_json())


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"source": "svn"},
        {"source": "git"},
        {"source": "file", "commit": "a" * 40},
        {"source": "file", "main": 7},
        {"source": "unknown", "diff": "sha256:00"},
        {"source": "unknown", "diff": {"sha256": "00"}},
        {"source": "unknown", "cells": {"md5": "00" * 16}},
    ],
)
def test_other_records_are_refused(value: object) -> None:
    """A malformed record is a FormatError."""
    with pytest.raises(FormatError):
        Code.from_json(value)
