# ruff: noqa: ANN401  the rig is loaded from a file
"""Holds come before everything, and a clock that went back makes no record older."""

from collections.abc import Iterator
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.audit.policies import RetentionPolicy
from secureml.audit.retention import due, place_hold, prune, release_hold, set_policy
from secureml.audit.verification import verify_audit
from secureml.errors import ConsistencyError, GateDeniedError
from secureml.evidence.notes import sign_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.wire.checkpoint import Checkpoint

_spec = spec_from_file_location("sealed_rig", Path(__file__).with_name("sealed_rig.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="sealed_rig")
rigs = module_from_spec(_spec)
_spec.loader.exec_module(rigs)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Any]:
    """Return an audit log with a policy of thirty days."""
    made = rigs.Rig(tmp_path / "evidence")
    set_policy(made, RetentionPolicy(default_days=30))
    yield made
    made.close()


def types(rig: Any) -> list[str]:
    """Return the types of all records."""
    return [record.type for record in rig.records()]


def test_under_a_hold_nothing_is_even_announced(rig: Any) -> None:
    """A pruning that a hold forbids leaves no record that says it happened."""
    for number in range(300):
        rig.call("user", number)
    rig.publish()
    rig.pass_days(31)
    place_hold(rig, "a matter")

    for _ in range(2):
        with pytest.raises(GateDeniedError, match="legal hold"):
            prune(rig, now=rig.now)
    assert "prune" not in types(rig)
    release_hold(rig, "a matter")
    assert prune(rig, now=rig.now).bundles == 0  # the policy's leaf keeps the first one
    assert types(rig).count("prune") == 1


def test_a_clock_that_went_back_ages_nothing(rig: Any) -> None:
    """A record's age counts from the latest time before it: a wrong clock deletes nothing."""
    rig.call("user", 1)
    rig.now -= timedelta(days=300)
    late = rig.call("user", 2)
    rig.now += timedelta(days=320)
    assert due(rig.log, rig.now).values == ()
    rig.publish()
    rig.pass_days(11)

    assert late in due(rig.log, rig.now).values


def test_a_pruned_log_is_held_against_what_was_remembered(rig: Any) -> None:
    """A log that was pruned may not have been cut, nor written anew."""
    for number in range(600):
        rig.call("user", number)
    early = rig.publish()
    rig.pass_days(31)
    assert prune(rig, now=rig.now).bundles == 1
    trust = Trust(
        (
            Identity(
                name="audit",
                roles=frozenset({"audit"}),
                verifier=rig.signer.verifier,
                origin=rigs.ORIGIN,
            ),
        )
    )
    directory = rig.root / "audit"
    assert verify_audit(directory, trust=trust, remembered=[early]).minimum == 512

    for size in (300, 601, 5000):
        note = sign_checkpoint(
            Checkpoint(rigs.ORIGIN, size, bytes(32)), rig.signer, purpose="audit"
        )
        with pytest.raises(ConsistencyError):
            verify_audit(directory, trust=trust, remembered=[note])
