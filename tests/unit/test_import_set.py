"""L10, the import set: what is loaded by what, asked of a fresh interpreter."""

import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = {
    "boto3",
    "botocore",
    "duckdb",
    "great_expectations",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "rfc3161_client",
    "safetensors",
    "scipy",
    "sigstore",
    "skops",
    "sklearn",
    "torch",
    "tqdm",
}
BUDGET_MS = 30

Bare = Callable[[str], str]


def added(bare: Bare, *imports: str) -> set[str]:
    """Return the modules that importing *imports* adds to a fresh interpreter."""
    lines = "\n".join(f"import {name}" for name in imports)
    code = f"before = set(sys.modules)\n{lines}\nprint(*(set(sys.modules) - before))"
    return set(bare("\n" + code).split())


def all_modules(package: Path) -> list[str]:
    """Return the name of every module of the package, the ``__main__`` ones left out."""
    found = pkgutil.walk_packages([str(package)], prefix="secureml.", onerror=lambda _: None)
    return ["secureml", *(m.name for m in found if not m.name.endswith("__main__"))]


def test_import_is_light(bare: Bare) -> None:
    """``import secureml`` loads its own module and nothing else."""
    assert added(bare, "secureml") == {"secureml"}


def test_import_is_quick(bare: Bare) -> None:
    """``import secureml`` takes less than 30 ms of CPU: the best of seven fresh interpreters."""
    code = (
        "import time; start = time.process_time(); import secureml; "
        "print(time.process_time() - start)"
    )

    best = min(float(bare(code)) for _ in range(7))

    assert best * 1000 < BUDGET_MS


@pytest.mark.parametrize("name", ["secureml.audit", "secureml.wire", "secureml.evidence.log"])
def test_hot_paths_load_no_pydantic(bare: Bare, name: str) -> None:
    """What runs inside a serving process never loads pydantic."""
    tops = {module.partition(".")[0] for module in added(bare, name)}

    assert not tops & {"pydantic", "pydantic_core"}


def test_every_wire_module_is_light(bare: Bare, package: Path) -> None:
    """Nothing in ``wire`` loads pydantic, cryptography or a socket."""
    names = [name for name in all_modules(package) if name.startswith("secureml.wire")]

    tops = {module.partition(".")[0] for module in added(bare, *names)}

    assert not tops & {"pydantic", "pydantic_core", "cryptography", "socket", "ssl"}


def test_no_module_loads_an_extra(bare: Bare, package: Path) -> None:
    """Importing every module of secureml loads no optional library."""
    names = all_modules(package)
    code = (
        "\nimport importlib, json\nguilty = {}\n"
        f"for name in {names!r}:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        f"    tops = {{m.partition('.')[0] for m in set(sys.modules) - before}} & {HEAVY!r}\n"
        "    if tops:\n        guilty[name] = sorted(tops)\n"
        "print(json.dumps(guilty))"
    )

    assert json.loads(bare(code)) == {}


def test_nothing_is_printed_or_started_by_an_import(bare: Bare, package: Path) -> None:
    """Importing every module prints nothing and starts no thread."""
    names = all_modules(package)
    code = (
        "\nimport importlib, threading\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\n"
        "print(threading.active_count())"
    )

    assert bare(code) == "1\n"
