"""The environment: what this process says of itself."""

import platform
from importlib.metadata import PackageNotFoundError, version

import pytest

from secureml.training import current_environment, environment
from secureml.wire import canonical


def test_environment_names_interpreter_and_packages() -> None:
    """Python, platform and every installed distribution are there, sorted, each once."""
    found = current_environment()
    packages = found["packages"]

    assert platform.python_version() == found["python"]
    assert isinstance(packages, list)
    assert f"pytest=={version('pytest')}" in packages
    assert packages == sorted(packages, key=lambda item: str(item).partition("==")[0])
    names = [str(item).partition("==")[0] for item in packages]
    assert len(set(names)) == len(names)


def test_environment_can_be_recorded() -> None:
    """It is JSON of one spelling."""
    assert current_environment() == canonical.decode(canonical.encode(current_environment()))


def test_library_that_is_not_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from its source tree, the library does not invent a version."""

    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(environment, "version", missing)
    assert environment.own_version() == "unknown"
