"""Edges of epochs and tails: the last leaf of a key, the first of the next, and what fails."""

import errno
from datetime import timedelta
from pathlib import Path

import pytest

from secureml import keys
from secureml.errors import ConsistencyError, ExpiredError, StoreError
from secureml.evidence._files import Files
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.epochs import Epoch, EpochLeaf, chain_of, epoch_body
from secureml.evidence.log import Log, VerifiedLog, verify_log
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.sealedtail import SealedTail
from secureml.evidence.tail import check_tail
from secureml.evidence.trust import Identity, Trust
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import root

ORIGIN = "log.example/edges"
FIRST, SECOND, THIRD = (keys.generate("ed25519", purposes={"audit"}) for _ in range(3))
IDENTITY = Identity(
    name="log",
    verifier=FIRST.verifier,
    roles=frozenset({"audit"}),
    origin=ORIGIN,
    epochs=True,
)
TRUST = Trust((IDENTITY,))


class Memory(Files):
    """A disk that is never late, and refuses to write when it is told to."""

    full = False

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, unless the disk is full."""
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        return super().write(fd, data)


@pytest.mark.parametrize(
    ("above", "upto", "good"),
    [(-1, 5, range(6)), (5, 10, range(6, 11)), (10, None, range(11, 20))],
)
def test_an_epoch_covers_its_own_sizes(above: int, upto: int | None, good: range) -> None:
    """A boundary is the last size of its epoch, and not one of the next."""
    epoch = Epoch(number=0, identity=IDENTITY, above=above, upto=upto)

    assert [size for size in range(20) if epoch.covers(size)] == list(good)


def boundary(size: int, signer: keys.KeySigner) -> str:
    """Sign a checkpoint of so many leaves; roots are not compared here."""
    return sign_checkpoint(Checkpoint(ORIGIN, size, root([])), signer, purpose="audit")


@pytest.mark.parametrize("size", [3, 5])
def test_a_boundary_note_follows_the_one_before(size: int) -> None:
    """A key that signs a boundary of its predecessor's leaves signs beyond its epoch."""
    leaves = {
        1: EpochLeaf(2, epoch_body(1, ORIGIN, SECOND.verifier)),
        2: EpochLeaf(7, epoch_body(2, ORIGIN, THIRD.verifier)),
    }

    def find(number: int, low: int, high: int) -> EpochLeaf | None:
        del low, high
        return leaves[number]

    good = [boundary(5, FIRST), boundary(9, SECOND)]
    chain = chain_of(IDENTITY, trust=TRUST, notes=good, leaf=find)
    assert [epoch.upto for epoch in chain.epochs] == [5, 9, None]
    with pytest.raises(ExpiredError, match="epoch 1 signed a checkpoint"):
        chain_of(IDENTITY, trust=TRUST, notes=[good[0], boundary(size, SECOND)], leaf=find)


def test_a_key_is_done_after_its_leaves(tmp_path: Path) -> None:
    """An epoch ends with its last leaf, or with its time, whichever is first."""
    made = EpochKeys.create(
        tmp_path / "keys",
        tmp_path / "epochs/log.notes",
        origin=ORIGIN,
        files=Memory(),
        period=timedelta(hours=1),
        leaves=10,
    )
    now = made._began

    assert [size for size in range(20) if made.due(now, size)] == list(range(10, 20))
    assert not made.due(now + timedelta(minutes=59), 9)
    assert made.due(now + timedelta(hours=1), 0)
    assert made.due(now - timedelta(hours=1), 0)


class Sealed:
    """A log of five entries with a tail."""

    def __init__(self, base: Path) -> None:
        self.base, self.files = base, Memory()
        self.tail, self.key = SealedTail.create(
            base / "private/tail", base / "tails/log.steps", origin=ORIGIN, files=self.files
        )
        with Log.open(
            base / "log",
            private=base / "private",
            origin=ORIGIN,
            signer=FIRST,
            purpose="audit",
            create=True,
            files=self.files,
        ) as log:
            for n in range(5):
                log.append(b"%d" % n, sync=False)
        checkpoint = self.log().root
        self.tail.update(5, checkpoint)

    def log(self) -> VerifiedLog:
        """Verify the log."""
        plain = Identity(
            name="log", verifier=FIRST.verifier, roles=frozenset({"audit"}), origin=ORIGIN
        )
        return verify_log(self.base / "log", trust=Trust((plain,)), role="audit")


def test_steps_that_lead_beyond_the_log(tmp_path: Path) -> None:
    """Steps of more leaves than the log has are not followed."""
    made = Sealed(tmp_path)
    log, tail = made.log(), made.tail.tail
    assert check_tail(made.key, log, tail, b"\5").size == 5

    for steps in (b"\6", b"\xff\x7f", b"\4"):
        with pytest.raises(ConsistencyError, match="the steps"):
            check_tail(made.key, log, tail, steps)


def test_a_tail_that_could_not_be_updated_is_opened_anew(tmp_path: Path) -> None:
    """After a failure nothing is sealed before what is on the disk was read again."""
    made = Sealed(tmp_path)
    before = made.tail.tail
    made.files.full = True
    with pytest.raises(StoreError, match="could not update"):
        made.tail.update(6, bytes(32))
    made.files.full = False

    with pytest.raises(StoreError, match="takes no more updates"):
        made.tail.update(6, bytes(32))
    again = SealedTail.open(
        tmp_path / "private/tail", tmp_path / "tails/log.steps", origin=ORIGIN, files=made.files
    )
    assert again.tail == before
    again.update(6, bytes(32))
    assert (again.tail.updates, again.tail.size) == (2, 6)
