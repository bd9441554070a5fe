"""Observation: who opened the block sees what is handed out inside it, and nothing else."""

import asyncio
import contextvars
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from secureml.evidence.observe import observed, observing
from secureml.evidence.subject import SubjectLike, VerifiedSubject
from secureml.wire.digest import Digest


@dataclass(frozen=True)
class Thing:
    """The smallest subject."""

    name: str

    @property
    def digest(self) -> Digest:
        """Its digest."""
        return Digest.sha256(self.name.encode())

    @property
    def digests(self) -> Mapping[str, str]:
        """Its digests."""
        return self.digest.as_set()


A, B = Thing("a"), Thing("b")


def test_a_block_sees_what_is_handed_out_inside() -> None:
    """Before and after the block, and after an error in it, nothing is seen."""
    seen: list[SubjectLike] = []

    def fails() -> None:
        with observing(seen.append):
            observed(B)
            raise ZeroDivisionError

    observed(A)
    with pytest.raises(ZeroDivisionError):
        fails()
    observed(A)

    assert seen == [B]


def test_blocks_nest() -> None:
    """An inner block does not hide what happens from the outer one."""
    outer: list[SubjectLike] = []
    inner: list[SubjectLike] = []

    with observing(outer.append):
        with observing(inner.append):
            observed(A)
        observed(B)

    assert (outer, inner) == ([A, B], [A])


def test_tasks_inside_are_seen() -> None:
    """A task that is started inside a block belongs to it."""
    seen: list[SubjectLike] = []

    async def hand_out() -> None:
        async def task() -> None:
            observed(A)

        with observing(seen.append):
            await asyncio.create_task(task())

    asyncio.run(hand_out())

    assert seen == [A]


def test_a_thread_of_its_own_context_is_not_seen() -> None:
    """What runs in another context is not observed, so it counts as declared."""
    seen: list[SubjectLike] = []

    with observing(seen.append):
        thread = threading.Thread(target=contextvars.Context().run, args=(observed, B))
        thread.start()
        thread.join()

    assert seen == []


def test_a_subject_is_told_by_its_shape() -> None:
    """What has name and digests is a subject; without evidence it is not a verified one."""
    assert isinstance(A, SubjectLike)
    assert not isinstance(A, VerifiedSubject)
    assert not isinstance("a", SubjectLike)
