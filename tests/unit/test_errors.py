"""L9: errors pickle, their codes are unique, and each is documented."""

import copy
import importlib
import pickle
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import secureml
from secureml import errors
from secureml.errors import GateDeniedError, SecureMLError, StoreBusyError, StoreError

EXTRA_FIELDS: dict[type[SecureMLError], dict[str, object]] = {
    GateDeniedError: {"reasons": ("no decision", "too late"), "decision": "sha256:" + "ab" * 32},
    StoreError: {"retryable": True},
    StoreBusyError: {"retryable": True},
}
PUBLIC = [getattr(errors, name) for name in errors.__all__]


def kinds(root: type[SecureMLError]) -> Iterator[type[SecureMLError]]:
    """Yield *root* and every class below it, wherever it is defined."""
    yield root
    for child in root.__subclasses__():
        yield from kinds(child)


def everything() -> list[type[SecureMLError]]:
    """Return every error class of the package, after every module was imported."""
    for module in pkgutil.walk_packages(secureml.__path__, prefix="secureml."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return [kind for kind in kinds(SecureMLError) if kind.__module__.startswith("secureml.")]


def make(kind: type[SecureMLError]) -> SecureMLError:
    """Return an instance of *kind* with every field set."""
    return kind("what", why="why", fix="fix", **EXTRA_FIELDS.get(kind, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda k: k.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_pickles_with_its_fields(kind: type[SecureMLError], protocol: int) -> None:
    """An error that crossed a process says, carries and is the same."""
    error = make(kind)
    error.add_note("seen on worker 3")

    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  our own bytes

    assert type(again) is kind
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda k: k.__name__)
def test_every_error_copies(kind: type[SecureMLError]) -> None:
    """``copy`` and ``deepcopy`` keep the fields, as ``concurrent.futures`` needs."""
    error = make(kind)

    for again in (copy.copy(error), copy.deepcopy(error)):
        assert (type(again), again.args, vars(again)) == (kind, error.args, vars(error))


@given(st.text(), st.text(), st.text())
def test_any_text_survives(what: str, why: str, fix: str) -> None:
    """What an error says is kept whatever the text is."""
    error = SecureMLError(what, why=why, fix=fix)

    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes

    assert (again.what, again.why, again.fix) == (what, why, fix)


def test_an_error_says_what_why_and_fix() -> None:
    """The text shows the code and the three sentences, each on its own line."""
    error = errors.DigestMismatchError("'w.bin' changed", why="it was edited", fix="get it again")

    assert str(error) == "'w.bin' changed [SML201]\n  why: it was edited\n  fix: get it again"


def test_all_errors_are_in_one_module() -> None:
    """Every error class of the package lives in ``errors`` and is public there."""
    assert {kind.__name__ for kind in everything()} == set(errors.__all__)


def test_codes_are_unique_and_well_formed() -> None:
    """Two errors never share a code, and a code is SML and three digits."""
    codes = [kind.code for kind in everything()]

    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"SML\d{3}", code) for code in codes)


def test_a_code_says_its_group() -> None:
    """The first digit of a code is that of the group the error belongs to."""
    groups = [kind for kind in SecureMLError.__subclasses__() if kind.code.endswith("00")]

    for group in groups:
        assert {kind.code[:4] for kind in kinds(group)} == {group.code[:4]}


def test_every_code_is_documented(project: Path) -> None:
    """The headings of docs/errors.md are exactly the codes, each with its class."""
    page = (project / "docs" / "errors.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (SML\d{3}) · `(\w+)`$", page, re.MULTILINE)

    assert sorted(headings) == sorted((kind.code, kind.__name__) for kind in everything())


def test_every_entry_says_cause_and_cure(project: Path) -> None:
    """Each entry of docs/errors.md says what it is, what causes it and what to do."""
    page = (project / "docs" / "errors.md").read_text(encoding="utf-8")
    entries = re.split(r"^#+ (?=SML\d{3})", page, flags=re.MULTILINE)[1:]

    for entry in entries:
        assert "**Cause.**" in entry, entry[:40]
        assert "**What to do.**" in entry, entry[:40]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The drawing at the top of ``errors`` names every class, each once."""
    drawn = re.findall(r"[├└]── (\w+Error)\b(?!,)", errors.__doc__ or "")

    assert sorted(drawn) == sorted(errors.__all__)
