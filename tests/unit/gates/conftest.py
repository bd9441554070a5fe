# ruff: noqa: D101, D102  a stand-in has the members of its protocol

"""What the tests of gates share: a subject that measures itself, and signed statements."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from secureml.evidence.attest import attest
from secureml.gates.check import Check, Finding, check_name
from secureml.keys import KeySigner, generate
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope
from secureml.wire.statement import Statement


@dataclass(frozen=True)
class Even:
    """A check of numbers: all are even."""

    label: str = "x"
    id: str = "even@1"

    @property
    def params(self) -> Mapping[str, JSON]:
        return {"label": self.label}

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def start(self) -> "EvenState":
        return EvenState(self)


@dataclass
class EvenState:
    check: Even
    seen: int = 0
    odd: int = 0

    def update(self, part: int, /) -> None:
        self.seen += 1
        self.odd += part % 2

    def merge(self, other: "EvenState", /) -> None:
        self.seen += other.seen
        self.odd += other.odd

    def finish(self) -> Finding:
        return Finding(
            check_name(self.check),
            passed=self.seen > 0 and not self.odd,
            message=f"{self.odd} of {self.seen} odd",
            counts={"odd": self.odd},
        )


@dataclass(frozen=True)
class Numbers:
    """A subject: a list of numbers."""

    values: tuple[int, ...] = (2, 4)
    name: str = "numbers"

    @property
    def digest(self) -> Digest:
        return Digest("dirHash", Digest.sha256(repr(self.values).encode()).value)

    @property
    def digests(self) -> Mapping[str, str]:
        return self.digest.as_set()

    def measure(self, checks: Sequence[Check], /) -> list[Finding]:
        findings = []
        for check in checks:
            state = check.start()
            for value in self.values:
                state.update(value)
            findings.append(state.finish())
        return findings


@dataclass(frozen=True)
class Line:
    """A statement in the ledger."""

    index: int
    envelope: Envelope


@dataclass
class Ledger:
    """Signed statements in order: what a log is to a gate."""

    signer: KeySigner
    lines: list[Line] = field(default_factory=list)

    def record(self, statement: Statement) -> Line:
        line = Line(len(self.lines), attest(statement, self.signer))
        self.lines.append(line)
        return line

    def history(self) -> Iterator[tuple[int, Statement]]:
        for line in self.lines:
            yield line.index, line.envelope.statement()

    @property
    def statements(self) -> list[Statement]:
        return [line.envelope.statement() for line in self.lines]


@pytest.fixture(scope="session")
def signer() -> KeySigner:
    """Return a fresh key for statements."""
    return generate()


@pytest.fixture
def ledger(signer: KeySigner) -> Ledger:
    """Return an empty ledger."""
    return Ledger(signer)


@pytest.fixture
def tick() -> Callable[[], datetime]:
    """Return a clock that moves on by one second at each look."""
    start = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    seconds = iter(range(1000))
    return lambda: start + timedelta(seconds=next(seconds))


@pytest.fixture(scope="session")
def even() -> type[Even]:
    """Return the check."""
    return Even


@pytest.fixture(scope="session")
def numbers() -> type[Numbers]:
    """Return the subject."""
    return Numbers
