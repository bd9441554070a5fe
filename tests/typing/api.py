"""
What the types promise; checked by mypy, never run.

Each ``type: ignore`` here is a promise that the line is an error: mypy warns
about one that is not needed.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, assert_type

from secureml import audit
from secureml.audit.context import carry, context, wrap_executor
from secureml.audit.options import AuditOptions, Constant
from secureml.evidence.attest import attest
from secureml.evidence.notes import VerifiedCheckpoint, sign_checkpoint, verify_checkpoint
from secureml.evidence.subject import SubjectLike, VerifiedSubject
from secureml.evidence.trust import Trust
from secureml.evidence.verify import Evidence, verify, verify_bundle
from secureml.keys import KeySigner, Signer, Verifier, generate
from secureml.wire.bundle import Bundle
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.dsse import Envelope
from secureml.wire.statement import Statement
from secureml.workspace import Workspace


def relies_on(evidence: Evidence) -> None:
    """Stand for any function that takes what was verified."""


def relies_on_checkpoint(checkpoint: VerifiedCheckpoint) -> None:
    """Stand for any function that takes a verified checkpoint."""


def a_claim_is_not_evidence(envelope: Envelope, bundle: Bundle, statement: Statement) -> None:
    """Neither an envelope, nor a bundle, nor a statement passes for evidence."""
    relies_on(envelope)  # type: ignore[arg-type]
    relies_on(bundle)  # type: ignore[arg-type]
    relies_on(statement)  # type: ignore[arg-type]


def verification_makes_evidence(envelope: Envelope, bundle: Bundle, trust: Trust) -> None:
    """The two verbs return evidence, and trust has no default."""
    assert_type(verify(envelope, trust=trust, role="run"), Evidence)
    assert_type(verify_bundle(bundle, trust=trust, role="run"), Evidence)
    verify(envelope, role="run")  # type: ignore[call-arg]
    verify(envelope, trust=trust)  # type: ignore[call-arg]
    verify(bundle, trust=trust, role="run")  # type: ignore[arg-type]


def a_note_is_not_a_verified_checkpoint(checkpoint: Checkpoint, trust: Trust) -> None:
    """What a log says is told apart from what was verified."""
    note = sign_checkpoint(checkpoint, generate("ed25519", purposes={"log"}))
    relies_on_checkpoint(note)  # type: ignore[arg-type]
    relies_on_checkpoint(checkpoint)  # type: ignore[arg-type]
    relies_on_checkpoint(verify_checkpoint(note, trust=trust))


def a_key_signer_is_a_signer(signer: KeySigner, statement: Statement) -> None:
    """The class meets the protocol, and a verifier does not sign."""
    anything: Signer = signer
    assert_type(attest(statement, anything), Envelope)
    attest(statement, signer.verifier)  # type: ignore[arg-type]
    assert_type(signer.verifier, Verifier)


def a_subject_is_not_verified(subject: SubjectLike, verified: VerifiedSubject) -> None:
    """A verified subject is a subject; the other way round it is not."""
    one: SubjectLike = verified
    other: VerifiedSubject = subject  # type: ignore[assignment]
    relies_on(other.evidence)
    relies_on(one)  # type: ignore[arg-type]


def an_audited_function_has_its_own_type(log: audit.AuditLog) -> None:
    """Parameters, results and kinds stay as they were; so do wrong calls."""

    @audit.audited(log, action="a")
    def plain(a: int, *, b: str = "") -> float:
        return a * len(b)

    @audit.audited(log, action="a", require="before", ack="checkpointed", on_failure="block")
    async def waits(a: int) -> str:
        return str(a)

    @audit.audited(log, action="a", capture=["yield"], hold=True)
    def stream(a: int) -> Generator[int, str, bytes]:
        got = yield a
        return got.encode()

    @audit.audited(log, action="a", require=None)
    async def later(a: int) -> AsyncGenerator[int, str]:
        yield a

    assert_type(plain(1, b=""), float)
    plain("")  # type: ignore[arg-type]
    plain(1, c=2)  # type: ignore[call-arg]
    _: Coroutine[Any, Any, str] = assert_type(waits(1), Coroutine[Any, Any, str])
    assert_type(stream(1), Generator[int, str, bytes])
    assert_type(later(1), AsyncGenerator[int, str])

    async def inside() -> str:
        async for chunk in later(1):
            assert_type(chunk, int)
        return await waits(2)

    _ = inside()


def audited_methods_are_methods(log: audit.AuditLog) -> None:
    """Methods bind, and class and static methods stay what they are."""

    class Service:
        """Something with audited methods of every kind."""

        @audit.audited(log, action="a")
        def method(self, a: int) -> str:
            """Return a text."""
            return str(a)

        @audit.audited(log, action="a")
        @classmethod
        def above(cls, a: int) -> str:
            """Return a text."""
            return str(a)

        @classmethod
        @audit.audited(log, action="a")
        def below(cls, a: int) -> Iterator[str]:
            """Yield a text."""
            yield str(a)

        @audit.audited(log, action="a")
        @staticmethod
        async def static(a: int) -> AsyncIterator[str]:
            """Yield a text, later."""
            yield str(a)

    service = Service()
    assert_type(service.method(1), str)
    assert_type(Service.above(1), str)
    assert_type(service.below(1), Iterator[str])
    assert_type(Service.static(1), AsyncIterator[str])
    service.method("")  # type: ignore[arg-type]


def choices_are_words(log: audit.AuditLog) -> None:
    """A choice that does not exist is a type error; options can be passed on."""
    audit.audited(log, action="a", require="never")  # type: ignore[arg-type]
    audit.audited(log, action="a", ack="soon")  # type: ignore[arg-type]
    audit.audited(log, action="a", on_failure="ignore")  # type: ignore[arg-type]
    options: AuditOptions = {"user": "user.id", "tenant": Constant("north"), "durable": True}
    audit.audited(log, action="a", **options)


def a_workspace_audits_alike(ws: Workspace) -> None:
    """Every option of the decorator is there, with its type; the function keeps its own."""

    @ws.audited(
        action="a", user="user", session=Constant("s"), require="before", ack="durable", hold=True
    )
    async def waits(a: int, *, user: str) -> bytes:
        return (user * a).encode()

    _: Coroutine[Any, Any, bytes] = assert_type(waits(1, user=""), Coroutine[Any, Any, bytes])
    _ = waits("", user="")  # type: ignore[arg-type]
    ws.audited(action="a", ack="soon")  # type: ignore[arg-type]
    ws.audited(action="a", nothing=1)  # type: ignore[call-arg]
    assert_type(ws.erase("ann", reason="r"), audit.Erasure)
    assert_type(ws.export("jsonl", "out", by="ann"), audit.Exported)


def contexts_carry(function: Callable[[int], str]) -> None:
    """A carried function has its own type; a context is for both kinds of with."""
    assert_type(carry(function)(1), str)
    with context(user="ann", request=5):
        pass
    context(trace=5)  # type: ignore[arg-type]
    wrap_executor(5)  # type: ignore[arg-type]
