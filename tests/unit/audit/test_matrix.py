"""Four kinds of calls × seven ends × three kinds of processes: one outcome, and the same call."""

import importlib.util
import json
import multiprocessing
import runpy
import threading
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.keys import files

HERE = Path(__file__).parent / "matrix_cells.py"
SPEC = importlib.util.spec_from_file_location("matrix_cells", HERE)
assert SPEC is not None
assert SPEC.loader is not None
cells = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cells)

WHERE = ["thread", *(w for w in ("fork", "spawn") if w in multiprocessing.get_all_start_methods())]
OUTCOMES = {
    "ok": "ok",
    "raise": "error",
    "cancel": "cancelled",
    "timeout": "timeout",
    "close": "abandoned",
    "gc": "abandoned",
    "abandon": "abandoned",
}
SEEN = dict[str, tuple[list[Any], list[Any]]]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> tuple[SEEN, dict[str, list[audit.Record]]]:
    """Run every cell in a thread, a forked and a spawned process; return what each left."""
    root = tmp_path_factory.mktemp("matrix")
    files.create(
        root / "key.pem", scheme="ed25519", purposes=frozenset({"audit"}), passphrase=None
    )
    seen: SEEN = {}
    log = cells.opened(root)
    log.begin()
    thread = threading.Thread(target=lambda: seen.update(cells.run(log, "thread")))
    thread.start()
    thread.join()
    for where in WHERE[1:]:
        context = multiprocessing.get_context(where)
        if where == "fork":
            process = context.Process(target=cells.child, args=(root, "fork", log))
        else:
            process = context.Process(
                target=runpy.run_path,
                args=(str(HERE), {"ROOT": root}, "spawned"),
            )
        process.start()
        process.join(120)
        assert process.exitcode == 0
        seen.update(json.loads((root / f"{where}.json").read_text()))
    log.close()

    left: dict[str, list[audit.Record]] = {}
    with cells.opened(root) as again:
        for _, record in again.records():
            if record.type == "call":
                left.setdefault(str(record.action), []).append(record)
    return seen, left


@pytest.mark.parametrize("ack", ["queued", "durable"])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("kind", "end"), cells.CELLS)
def test_a_cell(
    matrix: tuple[SEEN, dict[str, list[audit.Record]]], kind: str, end: str, where: str, ack: str
) -> None:
    """The call is what it was without, and exactly one record says how it ended."""
    seen, left = matrix
    name = f"{where} {kind} {end} {ack}"

    bare, made = json.loads(json.dumps(seen[name]))

    assert bare == made
    assert [OUTCOMES[end]] == [record.outcome for record in left[name]]
    stream = left[name][0].body.get("stream")
    if kind in {"gen", "agen"}:
        assert stream is not None
        assert stream["chunks"] == 3  # type: ignore[index, call-overload]
        assert stream["complete"] is (end == "ok")  # type: ignore[index, call-overload]


def test_what_cannot_be() -> None:
    """Three cells of the table do not exist: a plain call has no half-way to be left at."""
    assert len(cells.KINDS) * len(cells.ENDS) == len(cells.CELLS) + len(cells.NOT)
    assert {kind for kind, _ in cells.NOT} == {"sync"}
