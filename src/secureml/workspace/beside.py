"""
What lies beside the logs and proves itself: receipts, boundary notes, steps of sealed tails.

They grow after a directory was sealed, so no seal names them.  A receipt holds
a checkpoint that the log's own key signed; boundary notes are signed by one
key of the log for the next; the steps of a tail are sizes, which an auditor
with the first key folds again.  Any other file among them is refused.

Edge: that a receipt was removed shows nowhere.  Receipts only add.

Source: ``docs/spec/seal.md``, ``anchors.md``, ``epochs.md``, ``sealed-tail.md``.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from secureml.errors import ConsistencyError, UnexpectedFileError
from secureml.evidence.anchors.keeping import receipts_directory
from secureml.evidence.anchors.timestamp import Authority
from secureml.evidence.anchors.verifying import VerifiedReceipts, verify_receipts
from secureml.evidence.tail import read_steps, whole_sizes
from secureml.evidence.trust import Trust
from secureml.workspace.auditing import Head, is_chained
from secureml.workspace.layout import Layout

__all__ = ["check_beside", "judge_receipts", "vouched"]


def check_beside(
    layout: Layout, heads: Mapping[str, Head], *, trust: Trust
) -> tuple[int, dict[str, VerifiedReceipts]]:
    """
    Account for every file beside the logs; return how many, and what the receipts show.

    Args:
        layout: The directory.
        heads: The verified logs by the names of their directories.
        trust: What they were verified under.

    Raises:
        ConsistencyError: A checkpoint in a receipt, or a step of a tail, is of no
            beginning of its log.
        UnexpectedFileError: A file is there that belongs to no log.
        FormatError: A file is not in its format.
        StoreError: A file cannot be read.
    """
    files = 0
    receipts: dict[str, VerifiedReceipts] = {}
    for path in _entries(layout.anchors):
        head = heads.get(path.name)
        if head is None or not stat.S_ISDIR(path.lstat().st_mode):
            raise _stranger(layout, path, "receipts lie in a directory named after their log")
        receipts[path.name] = judge_receipts(
            layout.root / path.name, head, trust=trust, role=path.name
        )
        files += sum(1 for _ in _entries(path))
    for path in _entries(layout.epochs):
        name = path.name.removesuffix(".notes")
        head = heads.get(name)
        if (
            head is None
            or not path.name.endswith(".notes")
            or not is_chained(trust, name, head.origin)
        ):
            raise _stranger(layout, path, "the trust names no chain of keys for such a log")
        files += 1  # The verification of the log read it.
    for path in _entries(layout.tails):
        head = heads.get(path.name.removesuffix(".steps"))
        if head is None or not path.name.endswith(".steps"):
            raise _stranger(layout, path, "there is no such log")
        sizes, _ = whole_sizes(read_steps(path))
        if sizes and sizes[-1] > head.size:
            raise ConsistencyError(
                f"the log {head.origin!r} was cut, or its sealed tail is another log's",
                why=f"the steps of the tail lead to {sizes[-1]} entries; it has {head.size}",
                fix="do not use it as complete: look for a newer copy, and keep both",
            )
        files += 1
    return files, receipts


def judge_receipts(
    log: Path,
    head: Head,
    *,
    trust: Trust,
    role: str,
    authorities: Sequence[Authority] = (),
) -> VerifiedReceipts:
    """
    Judge the receipts of the log in directory *log*; see `verify_receipts`.

    Checkpoints in them were signed by whichever key of the log was good then.

    Args:
        log: The log.
        head: What its verification returned.
        trust: What it was verified under.
        role: Under which role.
        authorities: Whose time stamps count.

    Raises:
        ConsistencyError, UnexpectedFileError, StoreError, MissingExtraError: As there.
    """
    return verify_receipts(
        receipts_directory(log),
        head,
        trust=trust,
        role=role,
        authorities=authorities,
        check=None if head.chain is None else head.chain.verify,
    )


def vouched(receipts: VerifiedReceipts, trust: Trust) -> int:
    """Return how many entries others vouch for: a quorum of witnesses, or anybody else trusted."""
    others = (one.size for one in receipts.anchored if one.kind != "witness")
    return max(receipts.witnessed_size, *others, 0) if trust.quorum else max(others, default=0)


def _entries(directory: Path) -> Iterator[Path]:
    if not os.path.lexists(directory):
        return
    yield from sorted(directory.iterdir())


def _stranger(layout: Layout, path: Path, why: str) -> UnexpectedFileError:
    return UnexpectedFileError(
        f"{path.relative_to(layout.root).as_posix()[:200]!r} is in the evidence directory, and "
        "belongs to none of its logs",
        why=why,
        fix="remove it, after you know who put it there",
    )
