"""
Observation: what is handed out inside a block of code, as seen by whoever opened it.

A training run opens the block, a dataset reports what it hands out, and
neither knows the other.  The block is a context variable, so it holds in the
tasks that are started inside it, and does not leak into other threads: what
another thread reads is not observed, and counts as declared.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from secureml.evidence.subject import SubjectLike

__all__ = ["observed", "observing"]

_callbacks: ContextVar[tuple[Callable[[SubjectLike], None], ...]] = ContextVar(
    "secureml.observe", default=()
)


@contextmanager
def observing(callback: Callable[[SubjectLike], None]) -> Iterator[None]:
    """Call *callback* with each subject that is handed out inside this block; blocks nest."""
    token = _callbacks.set((*_callbacks.get(), callback))
    try:
        yield
    finally:
        _callbacks.reset(token)


def observed(subject: SubjectLike) -> None:
    """Report that verified bytes of *subject* are being handed out, here and now."""
    for callback in _callbacks.get():
        callback(subject)
