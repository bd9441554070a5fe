"""
External anchors: others who have seen a log's checkpoint, and keep it.

A log under one key can be cut or written anew by who holds that key.  An
anchor in other hands makes that visible: a witness, a time stamp authority,
another log, a copy that cannot be changed::

    anchors = Anchors(
        required=[WitnessAnchor(name="w1", url="https://witness.example", witness=witness)],
        optional=[CopyAnchor(name="share", store=Folder("/mnt/worm/diagnosis"))],
    )
    anchors.anchor(log).enforce()        # now, or anchors.step(log) in the background

Later, and elsewhere, `verify_receipts` says who has seen the log, how far and
by when, and `compare_copy` finds what was changed since it was copied.
"""

from secureml.evidence.anchors.comparing import CopyFinding, CopyReport, compare_copy
from secureml.evidence.anchors.keeping import receipts_directory
from secureml.evidence.anchors.policy import Anchors
from secureml.evidence.anchors.receipt import Anchor, Head, Receipt
from secureml.evidence.anchors.rekor import RekorAnchor, RekorLog
from secureml.evidence.anchors.s3 import ObjectLock
from secureml.evidence.anchors.status import AnchorStatus, Receipts, Status
from secureml.evidence.anchors.stores import Folder, WormStore
from secureml.evidence.anchors.timestamp import Authority, TimeStampAnchor
from secureml.evidence.anchors.verifying import (
    Anchored,
    Problem,
    VerifiedReceipts,
    verify_receipts,
)
from secureml.evidence.anchors.witness import WitnessAnchor, cosigned_checkpoint
from secureml.evidence.anchors.worm import CopyAnchor

__all__ = [
    "Anchor",
    "AnchorStatus",
    "Anchored",
    "Anchors",
    "Authority",
    "CopyAnchor",
    "CopyFinding",
    "CopyReport",
    "Folder",
    "Head",
    "ObjectLock",
    "Problem",
    "Receipt",
    "Receipts",
    "RekorAnchor",
    "RekorLog",
    "Status",
    "TimeStampAnchor",
    "VerifiedReceipts",
    "WitnessAnchor",
    "WormStore",
    "compare_copy",
    "cosigned_checkpoint",
    "receipts_directory",
    "verify_receipts",
]
