"""What importing costs, in CPU time of fresh interpreters, against what it builds on."""

import subprocess
import sys
from pathlib import Path

import secureml

__all__ = ["rows"]

TURNS = 9
MORE = 30.0
"""Milliseconds of CPU that the import may take over a bare interpreter."""
WHERE = str(Path(secureml.__file__).parent.parent)


def rows(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure, and return one row per import."""
    del quick  # It takes seconds.
    bare = _row("import secureml", "import secureml", "pass", "over a bare interpreter")
    bare["limits"] = [("ours", "<=", float(str(bare["peer"])) + MORE)]
    return [
        bare,
        _row(
            "from secureml import manifest",
            "from secureml import manifest",
            "import hashlib, concurrent.futures, json",
            "against the standard library it uses",
        ),
        _row(
            "from secureml import verify",
            "from secureml import verify",
            "from cryptography.hazmat.primitives.asymmetric import ec, ed25519; "
            "from cryptography.hazmat.primitives import serialization",
            "against the part of cryptography it uses",
        ),
        _row(
            "from secureml import audited",
            "from secureml import audited",
            "from cryptography.hazmat.primitives.asymmetric import ed25519; import json, logging",
            "what a serving process adds",
        ),
    ]


def _row(name: str, ours: str, peer: str, note: str) -> dict[str, object]:
    mine, theirs = _cpu(ours), _cpu(peer)
    return {
        "name": name,
        "ours": mine,
        "peer": theirs,
        "ratio": mine / max(theirs, 1e-9),
        "unit": "ms",
        "note": note,
    }


def _cpu(statement: str) -> float:
    """Return the least CPU time, in ms, that an interpreter takes in all to run *statement*."""
    code = (
        f"import sys; sys.path.append({WHERE!r})\n{statement}\n"
        "import time; print(time.process_time() * 1000)"
    )
    times = []
    for _ in range(TURNS):
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout))
    return min(times)
