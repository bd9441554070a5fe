"""What the commands share: how they speak, whom they trust, how they ask for a passphrase."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from secureml.errors import SecureMLError, StoreError, UntrustedSignerError

if TYPE_CHECKING:
    from secureml.evidence.trust import Trust
    from secureml.workspace.layout import Layout
    from secureml.workspace.workspace import Workspace

__all__ = ["Subparsers", "command", "passphrase_of", "root_of_trust", "say", "serving"]

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  its type

Run = Callable[[argparse.Namespace], dict[str, object] | None]


def command(to: Subparsers, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """Add a command; every one takes ``--json``."""
    sub = to.add_parser(name, help=text, description=text)
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub.set_defaults(run=run)
    return sub


def say(args: argparse.Namespace, text: object) -> None:
    """Print *text*, unless the answer is to be one JSON object."""
    if not args.json:
        print(text)  # noqa: T201  a command prints


def root_of_trust(directory: str, given: str | None) -> "Trust":
    """
    Return the trust from ``--trust``, else from the private half beside the directory.

    Raises:
        StoreError: There is no such directory.
        UntrustedSignerError: There is no trust; the error shows the way.
        FormatError: The trust file cannot be read.
    """
    from secureml.evidence.trust import Trust
    from secureml.workspace.layout import Layout

    layout = Layout.of(directory)
    if not layout.root.is_dir():
        raise StoreError(
            f"there is no directory {directory!r}",
            why="nothing was found at this path",
            fix="check the path; the demo makes ./secureml-demo",
        )
    if given:
        return Trust.load(given)
    if layout.trust.is_file():
        return Trust.load(layout.trust)
    prints = _claimed_fingerprints(layout.published_trust)
    raise UntrustedSignerError(
        f"there is nothing to trust {directory!r} under",
        why=f"no --trust was given, and there is no {layout.trust}; the directory itself claims "
        + (", ".join(prints) if prints else "no keys"),
        fix="compare these fingerprints with their owner over another channel, write them into a "
        "trust file, review it, and pass it: --trust trust.toml",
    )


def _claimed_fingerprints(path: Path) -> list[str]:
    from secureml.evidence.trust import Trust

    if not path.is_file():
        return []
    try:
        return [f"{i.name}: {i.fingerprint}" for i in Trust.load(path).identities]
    except SecureMLError:
        return ["keys in a trust.toml that cannot be read"]


def passphrase_of(path: str) -> str | None:
    """Ask for the passphrase of a key file; None where it has none."""
    from secureml import keys

    if not keys.is_encrypted(Path(path)):
        return None
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    from getpass import getpass

    return getpass(f"passphrase of {path}: ")


@contextmanager
def serving(layout: "Layout") -> "Iterator[Workspace]":
    """
    Open a directory with the key of its audit log, and seal it again.

    Raises:
        StoreError: There is no such directory, or it cannot be written.
        KeyUnavailableError: The key is not here, or its passphrase is another.
    """
    from secureml.evidence.keeping import Places
    from secureml.workspace.opening import open_workspace
    from secureml.workspace.setup import key_file

    chain = Places.of(layout.audit, layout.private).keys
    path = max(chain.glob("*.pem"), default=key_file(layout, "audit"))
    passphrase = passphrase_of(str(path)) if path.exists() else None
    with open_workspace(layout.root, create=False, role="serve", passphrase=passphrase) as ws:
        yield ws
