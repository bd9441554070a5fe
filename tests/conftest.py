"""
What every test gets: no network, a Hypothesis profile, a bare interpreter to ask.

The network is closed by an audit hook, not by patching `socket`: a hook sees
what C code connects too, and no test can forget to ask for it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import secureml

settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    max_examples=5_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("SECUREML_HYPOTHESIS", "ci"))

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost", "", None})


class NetworkRefusedError(RuntimeError):
    """A test tried to leave the machine."""


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    if event in {"socket.connect", "socket.sendto"}:
        address = args[1]
        if not isinstance(address, tuple) or address[0] in LOOPBACK:
            return  # AF_UNIX, or this machine
        where = address[0]
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        if args[0] in LOOPBACK or args[0] in {b"localhost", b"127.0.0.1"}:
            return
        where = args[0]
    else:
        return
    raise NetworkRefusedError(f"{event} to {where!r}: tests have no network")


sys.addaudithook(_refuse_network)


@pytest.fixture(scope="session")
def project() -> Path:
    """Return the root of the checkout, where pyproject.toml lies."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def package() -> Path:
    """Return the directory of the package under test: the installed one, if it is installed."""
    return Path(secureml.__file__).parent


@pytest.fixture(scope="session")
def bare(package: Path) -> Callable[[str], str]:
    """Return a function that runs code in a fresh isolated interpreter and gives its output."""

    def run(code: str) -> str:
        prelude = f"import sys; sys.path.append({str(package.parent)!r}); "
        done = subprocess.run(
            [sys.executable, "-I", "-c", prelude + code],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
