# ruff: noqa: ANN401  hostile values are of any type
"""L8 for redaction: nothing of what was found is in the result, an error, a trace or a repr."""

import base64
import contextlib
import copy
import dataclasses
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import secureml
from secureml import audit
from secureml.audit import redaction as redact
from secureml.audit.value import encode
from secureml.evidence.log import Log
from secureml.keys import files

SRC = str(Path(secureml.__file__).parent)
CANARY = "canary.bird@cage.example"
REDACTOR = redact.Redactor.of(["personal", "secrets"])


@dataclasses.dataclass(frozen=True)
class Person:
    """A dataclass with text in it."""

    name: object
    more: object = None


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.binary(max_size=8).filter(lambda b: b.isascii())
)
texts = st.builds(
    "{}{}{}".format, st.text(max_size=6), st.just(f" {CANARY} "), st.text(max_size=6)
)
leaves = scalars | texts | texts.map(str.encode).filter(lambda b: b"\x00" not in b)
keys = st.text(max_size=6) | texts


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return containers of all kinds that a value may have."""
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(Person, inner, inner)
        | st.frozensets(texts | st.text(max_size=5), max_size=3)
    )


values = st.recursive(leaves, containers, max_leaves=8)
harmless = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-999, 999)
    | st.floats(-9999, 9999)
    | st.text("abc xyz", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("abc", max_size=4), inner, max_size=3)
        | st.builds(Person, inner, inner)
    ),
    max_leaves=8,
)


@given(values)
def test_a_canary_leaves_nothing_behind(value: Any) -> None:
    """Whatever holds the canary, the result and what is said of it do not."""
    before = copy.deepcopy(value)
    result, redactions = REDACTOR.apply("row", value)

    assert CANARY not in repr(result)
    assert CANARY.encode() not in encode(result)
    assert CANARY not in repr(redactions)
    assert (CANARY in repr(value)) <= bool(redactions)
    assert before == value


@given(values)
def test_what_is_redacted_stays_as_it_is(value: Any) -> None:
    """Redacting twice is redacting once: no marker is found again."""
    once, _ = REDACTOR.apply("row", value)
    twice, redactions = REDACTOR.apply("row", once)

    assert () == redactions
    assert encode(once) == encode(twice)


@given(harmless)
def test_what_holds_nothing_keeps_its_bytes(value: Any) -> None:
    """A value in which nothing is found commits to the bytes that it has without redaction."""
    result, redactions = REDACTOR.apply("row", value)

    assert () == redactions
    assert encode(value) == encode(result)


def shape(value: Any) -> Any:
    """Return the containers of a value and their lengths."""
    if isinstance(value, list | tuple):
        return (type(value), [shape(item) for item in value])
    if isinstance(value, Mapping):
        return (dict, [shape(item) for item in value.values()])
    if isinstance(value, Person):
        return ("object", shape(value.name), shape(value.more))
    if hasattr(value, "fields"):
        return ("object", *map(shape, value.fields.values()))
    return "leaf"


@given(values)
def test_structure_is_kept(value: Any) -> None:
    """Lists keep their lengths, mappings their number of keys, objects their fields."""
    result, _ = REDACTOR.apply("row", value)

    assert shape(value) == shape(result)


@given(st.lists(st.text(max_size=5), max_size=6), st.integers(0, 6), st.data())
def test_chunks_are_searched_together(around: list[str], place: int, data: st.DataObject) -> None:
    """A canary in any number of pieces is taken out, and the chunks keep their number."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(CANARY) - 1), max_size=5)))
    pieces = [CANARY[a:b] for a, b in zip([0, *cuts], [*cuts, len(CANARY)], strict=True)]
    chunks = [*around[:place], " ", *pieces, " ", *around[place:]]
    result, redactions = REDACTOR.apply_chunks("yield", chunks)

    assert len(chunks) == len(result)
    assert CANARY not in "".join(map(str, result))
    assert any(r.rule == "email" for r in redactions)
    assert REDACTOR.apply_chunks("yield", result) == (result, ())


def explosive() -> Iterator[object]:
    """Yield values that cannot be read, each with the secret inside."""

    @dataclasses.dataclass
    class Lazy:
        secret: str

        def __getattribute__(self, name: str) -> Any:
            if name == "secret":
                raise OSError(CANARY)
            return object.__getattribute__(self, name)

    class Items(dict[str, str]):
        def items(self) -> Any:
            raise ValueError(CANARY)

    class Unreadable:
        def __repr__(self) -> str:
            return CANARY

    loop: list[object] = [CANARY]
    loop.append(loop)
    yield Lazy(CANARY)
    yield Items(key=CANARY)
    yield [CANARY, Unreadable()]
    yield {CANARY: Unreadable()}
    yield type(CANARY, (), {})()
    yield loop
    yield CANARY.encode("utf-16")
    yield [CANARY] * 2 + [b"\xff"]
    yield (CANARY + " ") * 700_000


def frames(trace: TracebackType | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the file and the local variables of each frame of a traceback."""
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_frame.f_locals
        trace = trace.tb_next


@pytest.mark.parametrize("number", range(len(list(explosive()))))
@pytest.mark.parametrize("how", ["apply", "apply_chunks"])
def test_no_error_tells(number: int, how: str) -> None:
    """No error, no chained error and no frame of the library's holds what could not be read."""
    value = list(explosive())[number]
    try:
        if how == "apply":
            REDACTOR.apply("row", value)
        else:
            REDACTOR.apply_chunks("row", [value])
    except (TypeError, ValueError) as error:
        caught: BaseException = error
    else:
        pytest.fail("it was not refused")

    assert CANARY not in "".join(traceback.format_exception_only(caught))
    assert caught.__cause__ is None
    assert caught.__context__ is None
    for file, names in frames(caught.__traceback__):
        if file.startswith(SRC):
            assert CANARY not in "".join(map(repr, names.values()))
            assert all(value is not held for held in names.values())


@pytest.mark.parametrize(
    "rule",
    [redact.drop("user.name"), redact.mask("user.name"), redact.token("user.name", key=b"k" * 32)],
)
def test_rules_by_path_leave_nothing(rule: redact.Rule) -> None:
    """Each action takes out all of the value, and the key of a token is not shown."""
    redactor = redact.Redactor([rule])
    result, redactions = redactor.apply("user", {"name": [CANARY], "id": 7})

    assert CANARY not in repr((result, redactions))
    assert "kkkk" not in repr((redactor, rule, redactions))


def test_the_traceback_of_a_missing_step_tells_nothing() -> None:
    """A path that a value does not have is named; the value's keys are not."""
    redactor = redact.Redactor([redact.drop("user.name")])
    with pytest.raises(ValueError, match="has no 'name'") as refused:
        redactor.apply("user", {CANARY: 1})

    assert CANARY not in str(refused.value)
    trace = sys.exc_info()[2] or refused.tb
    for file, names in frames(trace):
        if file.startswith(SRC):
            assert CANARY not in "".join(map(repr, names.values()))


def test_a_canary_reaches_no_file_of_an_audit_log(tmp_path: Path) -> None:
    """What a function is given and hands out is in no file, whole, in pieces or in an error."""
    log = Log.open(
        tmp_path / "audit",
        private=tmp_path / "private",
        origin="law.example/audit",
        signer=files.generate("ed25519", purposes=frozenset({"audit"})),
        purpose="audit",
        create=True,
    )
    sink = audit.AuditLog(log, details=tmp_path / "details", private=tmp_path / "private")
    rules = ["personal", "secrets", redact.drop("row.address")]

    @audit.audited(sink, action="law", capture=["row", "return"], redact=rules)
    def answer(row: dict[str, object]) -> object:
        if row["fails"]:
            raise LookupError(CANARY)
        return [CANARY, {CANARY: row}]

    @audit.audited(sink, action="law", capture=["yield"], redact=["personal"])
    def stream() -> Iterator[str]:
        yield from f"write to {CANARY}, soon"

    for fails in (False, True):
        with contextlib.suppress(LookupError):
            answer({"fails": fails, "address": CANARY, "note": f"ask {CANARY}"})
    assert CANARY in "".join(stream())
    sink.close()

    told: dict[tuple[object, object], object] = {}
    for record in audit.check_records(Log.open(tmp_path / "audit").entries()):
        for one in cast("list[dict[str, object]]", record.body.get("redactions", [])):
            told[one["path"], one["rule"]] = one["count"]
    assert {
        ("row", "email"),
        ("row.address", "drop"),
        ("return", "email"),
        ("yield", "email"),
    } == (told.keys())
    for file in tmp_path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            lines = data.splitlines() if file.suffix == ".jsonl" else []
            values = [v["value"] for line in lines for v in json.loads(line)["values"].values()]
            data += b"".join(base64.b64decode(value) for value in values)
            assert CANARY.encode() not in data, file
