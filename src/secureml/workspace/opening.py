"""Opening a workspace: found or made, cheaply, and never in place of a lost one."""

import os
import sys
from pathlib import Path

from secureml import keys
from secureml.errors import StoreError
from secureml.evidence.anchors.policy import Anchors
from secureml.evidence.log import Log
from secureml.evidence.trust import Trust
from secureml.keys import Signer
from secureml.workspace import setup
from secureml.workspace.layout import Layout, is_workspace
from secureml.workspace.workspace import Workspace

__all__ = ["open_workspace"]


def open_workspace(
    path: str | os.PathLike[str],
    *,
    create: bool = True,
    role: str = "train",
    trust: str | os.PathLike[str] | Trust | None = None,
    key: str | os.PathLike[str] | Signer | None = None,
    passphrase: str | bytes | None = None,
    anchors: Anchors | None = None,
    also: Signer | None = None,
) -> Workspace:
    """
    Open the workspace at *path*; make it first when it is not there.

    Opening is cheap: no lock, no thread and no write before the first append.
    Making one says so in one line, with the fingerprints of its keys.

    Args:
        path: The evidence directory; its private half is ``PATH.private``.
        create: Whether to make it when it is missing. A server says False, so
            that a lost volume never becomes a new empty log.
        role: ``"train"`` opens all keys, ``"serve"`` the audit key alone.
        trust: The reviewed trust file of this machine, a path or a `Trust`;
            the workspace's own private one when None.
        key: Signs statements, in place of the workspace's own key.
        passphrase: Opens protected keys.
        anchors: Who outside is shown the audit log's checkpoints; the same in
            every process that serves the directory.
        also: An ML-DSA-44 key that signs the audit log's checkpoints beside its own
            key; the same in every process.

    Raises:
        ValueError: *role* is neither ``train`` nor ``serve``.
        StoreError: It is missing and *create* is False, or was lost, or the
            directory holds other things.
        FormatError: The trust file cannot be read.
        KeyUnavailableError: *key* cannot be opened.
    """
    if role not in setup.PURPOSES:
        msg = f"role is 'train' or 'serve', got {role!r}"
        raise ValueError(msg)
    layout = Layout.of(path)
    reviewed = trust if trust is None or isinstance(trust, Trust) else Trust.load(trust)
    signer = key if key is None or not isinstance(key, str | os.PathLike) else None
    if isinstance(key, str | os.PathLike):
        signer = keys.load(Path(key), passphrase=passphrase)
    if not is_workspace(layout.root):
        if not create:
            raise StoreError(
                f"there is no workspace at {str(layout.root)!r}",
                why="create=False: a missing log is not replaced by an empty one",
                fix="check the path and that its volume is mounted; to make a new one once, open "
                "it with create=True",
            )

        def open_log(name: str, log_signer: Signer, origin: str) -> None:
            with Log.open(
                layout.root / name,
                private=layout.private,
                origin=origin,
                signer=log_signer,
                purpose=name,
                create=True,
            ) as log:
                log.publish()

        line = setup.create(layout, role=role, reviewed=reviewed, key=signer, open_log=open_log)
        if line:
            print(line, file=sys.stderr)  # noqa: T201  the one line that creating says
    return Workspace(
        layout,
        role=role,
        reviewed=reviewed,
        signer=signer,
        passphrase=passphrase,
        anchors=anchors,
        also=also,
    )
