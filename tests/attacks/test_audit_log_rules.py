# ruff: noqa: ANN401  the scene is loaded from a file, and has no type here
"""Attacks on times, on personal data and on keys beside an audit log, misses included."""

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml.audit import audited
from secureml.audit.checkdetails import open_value, survey_details
from secureml.clock import format_time, parse_time
from secureml.errors import SecureMLError
from secureml.evidence.anchors.keeping import append_receipt
from secureml.evidence.anchors.receipt import Head
from secureml.evidence.log import Log
from secureml.sealing import SubjectKeys

_spec = spec_from_file_location("audit_scene", Path(__file__).with_name("audit_scene.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="audit_scene")
scenes = module_from_spec(_spec)
_spec.loader.exec_module(scenes)
built, plain = scenes.built, scenes.plain
machine, case = scenes.machine, scenes.case
table = scenes.table

Case = Callable[..., None]
CALL = {
    "action": "diagnose",
    "call": {"kind": "function", "name": "f"},
    "latency_us": 1,
    "outcome": "ok",
    "type": "call",
}


# Time


def back_dated(scene: Any) -> list[int]:
    """
    Return the entries that claim to be older than they can be.

    An entry that a receipt does not cover was not in the log when the receipt was given.
    """
    seen = scene.verify()
    times = [parse_time(record.time) for record in scene.records()]
    return sorted(
        {
            index
            for one in scene.judge(seen).anchored
            for index in range(one.size, seen.size)
            if one.at is not None and times[index] < one.at
        }
    )


@pytest.mark.parametrize("by", [timedelta(days=1), timedelta(0)])
def test_back_dated(plain: Any, case: Case, by: timedelta) -> None:
    """A record behind an anchored checkpoint cannot be older than that; in between it can."""
    assert back_dated(plain) == []
    (before,) = [one.at for one in plain.judge(plain.verify()).anchored]
    with plain.sink() as sink:
        sink.append({**CALL, "time": format_time(before - by)})
    append_receipt(plain.receipts, "w1", plain.anchor().submit(Head.read(Log.open(plain.log))))
    found = back_dated(plain)
    plain.tail_key = b""

    if by:
        case(plain, table.RECEIPTS)
    assert found == ([plain.size() - 2] if by else [])
    limit = plain.judge(plain.verify()).not_later_than(plain.size() - 1)
    assert limit is not None
    assert limit <= datetime.now(UTC)


def test_a_clock_set_back(machine: Any, case: Case) -> None:
    """NOT CAUGHT as an error: a record of the log says by how much the clock moved."""
    behind = [timedelta()]
    with machine.sink(clock=lambda: datetime.now(UTC) - behind[0]) as sink:
        sink.append(CALL, durable=True)
        time.sleep(0.1)
        behind[0] = timedelta(minutes=1)
        time.sleep(1.3)
        sink.append(CALL, durable=True)

    case(machine)

    (jump,) = [r.body["clock"]["jump_us"] for r in machine.records() if r.type == "clock"]
    assert round(jump / 1e6) == -60


# Personal data


@pytest.fixture
def ward(machine: Any) -> Any:
    """Return a machine whose log holds a value about alice, encrypted, and one in the clear."""
    with machine.sink() as sink:
        options = {"action": "diagnose", "capture": ["n"], "user": "who"}
        audited(sink, subject="who", **options)(_answer)("positive", "alice")
        audited(sink, **options)(_answer)("negative", "bob")
    return machine


def _answer(n: object, who: str) -> object:
    return n, who


def opens(scene: Any, private: Path) -> list[object]:
    """Return what a holder of *private* reads of the values."""
    keys = SubjectKeys(private)
    found: list[object] = []
    for record in scene.records():
        if record.type == "call":
            try:
                found.append(open_value(record, scene.details, "n", keys=keys))
            except (LookupError, SecureMLError):
                found.append(None)
    return found


def test_a_stolen_private_directory(ward: Any, case: Case, tmp_path: Path) -> None:
    """NOT CAUGHT: nothing changes. Who has the subject keys reads; with a master key, nobody."""
    shutil.copytree(ward.private, tmp_path / "copy")

    case(ward)

    assert opens(ward, tmp_path / "copy") == ["positive", "negative"]
    wrapped = SubjectKeys(tmp_path / "wrapped", master=os.urandom(32))
    box = wrapped.encrypt("0" * 32, b"x" * 40, record=ward.records()[1].id, path="n")
    with pytest.raises((LookupError, SecureMLError)):
        SubjectKeys(tmp_path / "wrapped").decrypt(box, record=ward.records()[1].id, path="n")


def test_an_erased_value_restored_in_the_details(ward: Any, case: Case, tmp_path: Path) -> None:
    """A line that an erasure names may not be there."""
    shutil.copytree(ward.details, tmp_path / "backup")
    with ward.sink() as sink:
        erased = [r.id for r in ward.records() if r.type == "call"][1]
        sink.erase(records=[erased], reason="request")
    assert set() == ward.caught()
    shutil.rmtree(ward.details)
    shutil.copytree(tmp_path / "backup", ward.details)

    case(ward)


def test_an_erased_key_restored(ward: Any, case: Case, tmp_path: Path) -> None:
    """NOT CAUGHT by who verifies; who has the private directory counts the key that is back."""
    shutil.copytree(ward.private / "subjects", tmp_path / "copy/subjects")
    with ward.sink() as sink:
        sink.erase("alice", reason="request")
    assert opens(ward, ward.private)[0] is None
    keys = SubjectKeys(ward.private)
    assert survey_details(ward.records(), ward.details, keys=keys).unfinished == 0
    assert opens(ward, tmp_path / "copy")[0] == "positive"
    shutil.rmtree(ward.private / "subjects")
    shutil.copytree(tmp_path / "copy/subjects", ward.private / "subjects")

    case(ward)

    again = SubjectKeys(ward.private)
    assert survey_details(ward.records(), ward.details, keys=again).unfinished == 1
