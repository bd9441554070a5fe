"""
The environment of a run: interpreter, platform, and every installed distribution.

It is what the run's own process reports about itself: declared, like the code.
"""

import platform
from email.message import Message
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import cast

from secureml.wire.canonical import JSON

__all__ = ["current_environment", "own_version"]

_DISTRIBUTION = "secureml-sdk"


def current_environment() -> dict[str, JSON]:
    """Return the environment of this process; packages as sorted ``name==version``."""
    return {
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "packages": _packages(),
        "platform": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "secureml": own_version(),
    }


def own_version() -> str:
    """Return the version of this library, or ``unknown`` when it runs uninstalled."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def _packages() -> list[JSON]:
    found: dict[str, str] = {}
    for distribution in distributions():
        # Broken metadata of somebody else's package has no name, or no version.
        metadata = cast("Message | None", distribution.metadata)
        name = metadata.get("Name") if metadata is not None else None
        if metadata is None or not name:
            continue
        # The first on the path is the one that an import finds.
        found.setdefault(name.lower().replace("_", "-"), metadata.get("Version") or "unknown")
    return [f"{name}=={found[name]}" for name in sorted(found)]
