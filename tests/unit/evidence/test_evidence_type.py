"""Evidence is a type-state: only a verification makes it, and nothing remakes it."""

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest

from secureml.evidence.attest import attest
from secureml.evidence.notes import VerifiedCheckpoint, sign_checkpoint, verify_checkpoint
from secureml.evidence.rotation import Rotation, rotate, verify_rotation
from secureml.evidence.trust import Identity, Position, Trust
from secureml.evidence.verify import Evidence, verify
from secureml.keys import generate
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.statement import Statement, Subject

SIGNER, NEW = generate("ed25519", purposes={"statements", "log"}), generate()
TRUST = Trust(
    (Identity(name="a", verifier=SIGNER.verifier, roles=frozenset({"log"}), origin="log"),)
)
POSITION = Position("log", 0, "2026-01-01T00:00:00.000000Z")
STATEMENT = Statement((Subject("x", {"sha256": "00" * 32}),), "https://example.org/v1", {})
MADE = [
    verify(attest(STATEMENT, SIGNER), trust=TRUST, role="log"),
    verify_checkpoint(sign_checkpoint(Checkpoint("log", 1, bytes(32)), SIGNER), trust=TRUST),
    verify_rotation(
        rotate(SIGNER, NEW, {"log"}, name="b", origin="log"), trust=TRUST, position=POSITION
    ),
]
each = pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)


@pytest.mark.parametrize("kind", [Evidence, VerifiedCheckpoint, Rotation])
def test_there_is_no_constructor(kind: type) -> None:
    """Neither without arguments, nor with a token of one's own, nor by `__new__`."""
    for arguments in ((), (object(),), (None,)):
        with pytest.raises(TypeError, match="made by verification only"):
            kind(*arguments)
    with pytest.raises(TypeError, match="made by verification only"):
        kind.__new__(kind)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        kind(statement=STATEMENT)


@each
@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
        dataclasses.replace,
        lambda made: made.__replace__(role="model"),
        lambda made: made.__reduce__(),
        lambda made: type(made)(**{name: getattr(made, name) for name in made.__slots__}),
        lambda made: object.__reduce_ex__(made, 2) and made.__reduce_ex__(2),
    ],
)
def test_there_is_no_second_way(made: object, again: Callable[[object], object]) -> None:
    """Copy, deepcopy, pickle and replace raise TypeError."""
    with pytest.raises(TypeError):
        again(made)


@each
def test_it_is_frozen(made: object) -> None:
    """No attribute is set, deleted or added."""
    for name in (*made.__slots__, "extra"):  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="cannot be set"):
            setattr(made, name, None)
        with pytest.raises(TypeError, match="cannot be deleted"):
            delattr(made, name)
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("kind", [Evidence, VerifiedCheckpoint, Rotation])
def test_it_is_not_subclassed(kind: type) -> None:
    """A subclass could drop the checks, so there is none."""
    with pytest.raises(TypeError, match="not subclassed"):
        type("Forged", (kind,), {})


def test_the_predicate_is_read_only() -> None:
    """What was said cannot be edited through the evidence."""
    made = verify(attest(STATEMENT, SIGNER), trust=TRUST, role="log")

    with pytest.raises(TypeError):
        made.predicate["x"] = 1  # type: ignore[index]


@each
def test_it_reads_well(made: object) -> None:
    """Each shows itself as text and as a card."""
    assert repr(made).startswith(f"<{type(made).__name__} ")
    assert made._repr_html_().startswith('<div class="secureml"')  # type: ignore[attr-defined]
