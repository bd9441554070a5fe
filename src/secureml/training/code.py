"""
Which code ran: as far as it can be told, and said plainly where it cannot.

In a git repository that is the commit and, when the tree differs from it, a
digest of the difference.  Beside that, or without git, it is the main file,
and the cells that a notebook has executed.  Where none of these is there, the
answer is ``unknown``, and a trace shows it.

git is asked with a time limit, with its hooks and helpers off, and never fails
a run.  Remote addresses are not recorded: they can hold credentials.

The difference covers tracked files whole, and of the untracked ones those that
are source text (`SOURCE`) and smaller than 1 MiB; data and models that lie
about are not code.

Source: git-diff(1), git-ls-files(1); in-toto DigestSet ``gitCommit``.
"""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from secureml._extras import loaded
from secureml.errors import FormatError, SecureMLError
from secureml.hashing.files import hash_file
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest

__all__ = ["SOURCE", "Code", "current_code"]

SOURCE = frozenset(
    {
        ".cfg",
        ".ini",
        ".ipynb",
        ".py",
        ".pyi",
        ".pyx",
        ".r",
        ".sh",
        ".sql",
        ".toml",
        ".yaml",
        ".yml",
    }
)
"""Suffixes of untracked files that the difference covers."""

_SECONDS = 10
_MOST_FILES = 2_000
_LARGEST = 1 << 20
_KINDS = ("git", "notebook", "file", "unknown")
_GIT = (
    "git",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.untrackedCache=false",
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.quotePath=false",
    "--no-optional-locks",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """
    What is known about the code of a run.

    Attributes:
        source: ``git``, ``notebook``, ``file`` or ``unknown``: the strongest that is known.
        commit: The git commit, hex; empty without git.
        diff: What differs from the commit; None when nothing does, or without git.
        main: Base name of the main file; empty when there is none.
        main_digest: SHA-256 of the main file; None when there is none.
        cells: SHA-256 over the executed cells of a notebook; None outside one.
    """

    source: str
    commit: str = ""
    diff: Digest | None = None
    main: str = ""
    main_digest: Digest | None = None
    cells: Digest | None = None

    def __str__(self) -> str:
        if self.source == "git":
            dirty = f" with changes {self.diff.short}" if self.diff else ""
            return f"git {self.commit[:12]}{dirty}"
        if self.source == "notebook" and self.cells:
            return f"notebook cells {self.cells.short}"
        if self.source == "file" and self.main_digest:
            return f"file {self.main} {self.main_digest.short}"
        return "unknown"

    def to_json(self) -> dict[str, JSON]:
        """Return the code as a record holds it; what is not known is left out."""
        found: dict[str, JSON] = {"source": self.source}
        if self.commit:
            found["commit"] = self.commit
        if self.main:
            found["main"] = self.main
        for name, digest in (
            ("cells", self.cells),
            ("diff", self.diff),
            ("mainDigest", self.main_digest),
        ):
            if digest is not None:
                found[name] = digest.as_set()
        return found

    @classmethod
    def from_json(cls, value: object) -> "Code":
        """
        Read what `to_json` writes.

        Raises:
            FormatError: It is something else.
        """
        if not isinstance(value, Mapping):
            raise _bad("it is not an object")
        texts: dict[str, str] = {}
        for name in ("source", "commit", "main"):
            text = value.get(name, "")
            if not isinstance(text, str):
                raise _bad(f"{name!r} is not text")
            texts[name] = text
        if texts["source"] not in _KINDS:
            raise _bad(f"its source is {texts['source'][:40]!r}, known are {', '.join(_KINDS)}")
        if bool(texts["commit"]) != (texts["source"] == "git"):
            raise _bad("a commit and the source 'git' come together")
        digests: dict[str, Digest | None] = {}
        for name in ("diff", "mainDigest", "cells"):
            found = value.get(name)
            if found is not None and not isinstance(found, Mapping):
                raise _bad(f"{name!r} is not a digest set")
            digests[name] = None if found is None else Digest.from_set(found, "sha256")
        return cls(
            source=texts["source"],
            commit=texts["commit"],
            main=texts["main"],
            diff=digests["diff"],
            main_digest=digests["mainDigest"],
            cells=digests["cells"],
        )


def current_code() -> Code:
    """Say which code this process runs, as far as it can be told; never raises."""
    main = _main_file()
    cells = _cells()
    digest = _file_digest(main)
    commit, diff = _git(main.parent if main is not None else Path.cwd())
    if commit:
        source = "git"
    elif cells is not None:
        source = "notebook"
    else:
        source = "file" if digest is not None else "unknown"
    return Code(
        source=source,
        commit=commit,
        diff=diff,
        main=main.name if main is not None and digest is not None else "",
        main_digest=digest,
        cells=cells,
    )


def _main_file() -> Path | None:
    """Return the script that was started; a tool that is installed (pytest) is not one."""
    name = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(name, str):
        return None
    path = Path(name).absolute()
    places = (sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib", "scripts"))
    if any(place and path.is_relative_to(Path(place).absolute()) for place in places):
        return None
    return path


def _file_digest(path: Path | None) -> Digest | None:
    try:
        return None if path is None else hash_file(path.resolve())
    except (SecureMLError, OSError):
        return None


def _cells() -> Digest | None:
    """Digest the executed cells, in order, as a JSON list of their texts."""
    ipython = loaded("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return None
    history = getattr(shell, "user_ns", {}).get("In")
    if not isinstance(history, list):
        return None
    cells = [cell for cell in history if isinstance(cell, str)]
    return Digest.sha256(json.dumps(cells, separators=(",", ":")).encode())


def _git(place: Path) -> tuple[str, Digest | None]:
    """Return commit and difference; nothing when this is no repository, or git fails."""
    try:
        top = _ask(place, "rev-parse", "--show-toplevel").decode().rstrip("\n")
        commit = _ask(place, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
        root = Path(top)
        diff = _ask(
            root,
            "diff",
            "--binary",
            "--no-color",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
            "--full-index",
            "HEAD",
            "--",
        )
        untracked = _ask(root, "ls-files", "--others", "--exclude-standard", "-z")
        others = _untracked(root, untracked)
    except (OSError, subprocess.SubprocessError, UnicodeError, SecureMLError):
        return "", None
    if len(commit) not in (40, 64) or set(commit) - set("0123456789abcdef"):
        return "", None
    if not diff and not others:
        return commit, None
    total = hashlib.sha256(hashlib.sha256(diff).digest())
    for name, digest in others:
        total.update(len(name).to_bytes(8, "big") + name + digest)
    return commit, Digest("sha256", total.digest())


def _untracked(root: Path, listing: bytes) -> list[tuple[bytes, bytes]]:
    """Return (name, SHA-256) of the untracked source files, sorted by name."""
    found = []
    for name in sorted(part for part in listing.split(b"\0") if part)[:_MOST_FILES]:
        path = root / os.fsdecode(name)
        if path.suffix.lower() not in SOURCE or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size <= _LARGEST:
            found.append((name, hash_file(path).value))
    return found


def _ask(place: Path, *arguments: str) -> bytes:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("GIT_") or key in {"GIT_CEILING_DIRECTORIES", "GIT_EXEC_PATH"}
    }
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_PAGER": "cat"}
    done = subprocess.run(
        [*_GIT, *arguments],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SECONDS,
        check=True,
    )
    return done.stdout


def _bad(why: str) -> FormatError:
    return FormatError(
        "the code of a run cannot be read",
        why=why,
        fix="check the record that holds it: it was edited, or written by something else",
    )
