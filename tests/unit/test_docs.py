"""The pages say what is so: links lead somewhere, commands agree, examples run."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md"))]
RUN = [*sorted((DOCS / "tutorial").glob("*.md")), *sorted((DOCS / "how-to").glob("*.md"))]
README_TESTS = "python3 -m venv .venv && .venv/bin/pip install -q nox && .venv/bin/nox -s tests"
README_DEMO = (
    "python3 -m venv .venv && .venv/bin/pip install -q '.[demo]' && "
    ".venv/bin/python -m secureml demo"
)
README_LIMIT = 150


def name(path: Path) -> str:
    """Return the name of a page in test ids."""
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced code of *language* in *text*."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page, made of its headings as GitHub and MyST make them."""
    text = prose(path)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link of a page leads to a file that is there, and to a heading in it."""
    text = prose(path)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_python_in_pages_is_python(path: Path) -> None:
    """Each block that says it is Python can be parsed."""
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        ast.parse(block)


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_toml_and_json_in_pages_parse(path: Path) -> None:
    """Each block that says it is TOML can be parsed."""
    for block in blocks(path.read_text(encoding="utf-8"), "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_no_page_installs_the_other_project(path: Path) -> None:
    """No command line in any page installs the distribution of the same import name."""
    for block in blocks(path.read_text(encoding="utf-8"), r"\w*"):
        assert not re.search(r"pip install[^\n&|;]*\ssecureml(\s|$|\[|=|>)", block)


@pytest.mark.parametrize("path", RUN, ids=name)
def test_pages_run(path: Path, package: Path, tmp_path: Path) -> None:
    """The Python of a page runs from top to bottom, in an empty directory."""
    for extra in ("pyarrow", "pandas", "sklearn", "skops"):
        pytest.importorskip(extra)
    text = path.read_text(encoding="utf-8")
    code = [
        *re.findall(r"^<!-- before\n(.*?)^-->", text, re.MULTILINE | re.DOTALL),
        *blocks(text, "python"),
    ]
    script = tmp_path / "page.py"
    script.write_text("\n".join(code), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr


def test_every_page_is_reached() -> None:
    """Each page stands in the table of contents of the index."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    patterns = [line for b in blocks(index, r"\{toctree\}") for line in b.splitlines()]
    reached = {
        page
        for pattern in patterns
        if pattern and not pattern.startswith(":")
        for page in DOCS.glob(f"{pattern}.md")
    }

    assert set(PAGES) - reached == {DOCS / "index.md"}


def test_the_readme_has_the_two_commands() -> None:
    """The README shows the demo's command and the tests' command, each on one line."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert README_DEMO in (line.strip() for line in lines)
    assert README_TESTS in (line.strip() for line in lines)
    assert len(lines) <= README_LIMIT


def test_ci_runs_the_command_of_the_readme() -> None:
    """What checks every change is the README's own command, word for word, and it comes last."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert README_TESTS in (line.strip() for line in script.splitlines())
    assert script.rindex("nox") == script.rindex("nox > Session")
    assert script.index(README_TESTS) > script.index("-s lint types docs bare")


def test_adrs_are_numbered_without_gaps() -> None:
    """Decisions are numbered from 1, and each says what was refused."""
    pages = sorted((DOCS / "adr").glob("*.md"))

    assert [int(p.name[:4]) for p in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert {"Context", "Decision", "Refused", "Consequences"} <= set(
            re.findall(r"^## (\w+)", text, re.MULTILINE)
        )


def test_every_error_page_link_is_a_code() -> None:
    """Every code that any page mentions exists."""
    known = set(re.findall(r"^## (SML\d{3})", (DOCS / "errors.md").read_text(), re.MULTILINE))
    for page in TEXTS:
        mentioned = set(re.findall(r"SML\d{3}", page.read_text(encoding="utf-8")))
        assert mentioned <= known, name(page)
