# ruff: noqa: ANN401  tables and arrays have no types here
"""Redaction rules: what each does, where it applies, and what is refused."""

import dataclasses
import datetime as dt
import enum
import hashlib
import hmac
import json
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from secureml import detect
from secureml.audit import redaction as redact
from secureml.audit.redaction import Redaction, Redactor
from secureml.audit.value import MAX_DEPTH, Array, Object, Table, encode

EMAIL = "bob@example.com"
CARD = 4111111111111111
KEY = bytes(range(32))
VECTORS = Path(__file__).resolve().parents[3] / "vectors" / "detect"


@dataclasses.dataclass
class User:
    """A user as an application has one."""

    id: str
    email: str
    address: object = None


def one(result: tuple[object, tuple[Redaction, ...]]) -> object:
    """Return the value of a result."""
    return result[0]


def test_the_vectors_of_the_specification() -> None:
    """The example of the specification gives what it says, to the byte of the audit value."""
    document = json.loads((VECTORS / "redaction.json").read_text(encoding="utf-8"))
    assert document["source"]
    rules = [
        redact.drop("row.address"),
        redact.mask("row.notes"),
        redact.token("row.id", key=bytes.fromhex(document["key"])),
        "personal",
        "secrets",
    ]
    value, redactions = Redactor.of(rules).apply("row", document["value"])

    assert document["expect"]["value"] == value
    assert document["expect"]["redactions"] == [dataclasses.asdict(r) for r in redactions]
    assert document["expect"]["sha256"] == hashlib.sha256(encode(value)).hexdigest()


def test_drop_mask_and_token() -> None:
    """A dropped value is a marker, a masked one keeps its shape, a token is a keyed pseudonym."""
    row = {"a": [1, "x"], "m": {"t": "x", "n": 7, "l": [True, None, 2.5]}, "id": EMAIL}
    redactor = Redactor(
        [redact.drop("row.a"), redact.mask("row.m"), redact.token("row.id", key=KEY)]
    )
    value, redactions = redactor.apply("row", row)

    digest = hmac.digest(KEY, b"secureml-redaction-token/1\n" + encode(EMAIL), "sha256")
    assert value == {
        "a": "[dropped]",
        "m": {"t": "[masked]", "n": 0, "l": [False, None, 0.0]},
        "id": f"[token:{digest[:16].hex()}]",
    }
    assert redactions == (
        Redaction("row.a", "drop", 1),
        Redaction("row.id", "token", 1),
        Redaction("row.m", "mask", 4),
    )
    assert [1, "x"] == row["a"]


def test_masks_of_every_type() -> None:
    """Numbers become zero, bytes a marker, whatever else is one value a marker of text."""
    values = {
        "a": b"x",
        "b": Decimal("1.5"),
        "c": 2 + 3j,
        "d": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "e": UUID(int=5),
        "f": (User("1", EMAIL),),
        "g": Object("m.T", {"x": 1}),
        "h": object(),
        "i": {1, 2},
    }
    masked, redactions = Redactor([redact.mask("row")]).apply("row", values)

    assert masked == {
        "a": b"[masked]",
        "b": Decimal(0),
        "c": 0j,
        "d": "[masked]",
        "e": "[masked]",
        "f": (
            Object(f"{__name__}.User", {"id": "[masked]", "email": "[masked]", "address": None}),
        ),
        "g": Object("m.T", {"x": 0}),
        "h": "[masked]",
        "i": "[masked]",
    }
    assert redactions == (Redaction("row", "mask", 10),)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "user",
            User("1", EMAIL, "x"),
            Object(f"{__name__}.User", {"id": "1", "email": EMAIL, "address": "[dropped]"}),
        ),
        ("user", {"address": "x", "id": "1"}, {"address": "[dropped]", "id": "1"}),
        ("user.address", "x", "[dropped]"),
        ("user.address.street", ["x"], "[dropped]"),
        ("user.address", None, None),
        ("user", None, None),
        ("user.id", "x", "x"),
        ("other", User("1", EMAIL), User("1", EMAIL)),
    ],
)
def test_a_rule_reaches_through_the_capture_path(
    path: str, value: object, expected: object
) -> None:
    """A rule's path may go further than the capture path, or the capture path further than it."""
    assert expected == one(Redactor([redact.drop("user.address")]).apply(path, value))


def test_stars_and_numbers() -> None:
    """A star is any item or key, a number one item."""
    messages = [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]

    every = Redactor([redact.drop("messages.*.content")])
    first = Redactor([redact.drop("messages.0.content", optional=True)])
    assert one(every.apply("messages", messages)) == [
        {"role": "user", "content": "[dropped]"},
        {"role": "bot", "content": "[dropped]"},
    ]
    assert every.apply("messages", messages)[1] == (Redaction("messages.*.content", "drop", 2),)
    assert one(first.apply("messages", messages)) == [
        {"role": "user", "content": "[dropped]"},
        messages[1],
    ]
    assert one(every.apply("messages", [])) == []
    assert one(Redactor([redact.drop("row.*")]).apply("row", {"a": 1, "b": None})) == {
        "a": "[dropped]",
        "b": None,
    }
    assert one(Redactor([redact.drop("row.*")]).apply("row", {1})) == {"[dropped]"}


@pytest.mark.parametrize(
    "value",
    [{"x": 1}, [{"address": 1}], "text", 5, User, {1}, Object("m.T", {}), Array("|b1", (0,), b"")],
)
def test_a_path_that_is_not_there_is_an_error(value: object) -> None:
    """A misspelt rule fails the call; an optional one does not."""
    strict = Redactor([redact.drop("user.address")])
    lenient = Redactor([redact.drop("user.address", optional=True)], opaque="keep")

    with pytest.raises((ValueError, TypeError), match="user"):
        strict.apply("user", value)
    assert one(lenient.apply("user", value)) == value


def test_detectors_below_a_path_only() -> None:
    """A rule by detector can be kept to a path, and says which."""
    redactor = Redactor.of([*redact.detected("email", paths=["row.*.note"], optional=True)])
    value, redactions = redactor.apply("row", [{"note": [EMAIL], "mail": EMAIL}])

    assert value == [{"note": ["[email]"], "mail": EMAIL}]
    assert redactions == (Redaction("row.*.note", "email", 1),)
    assert one(redactor.apply("row.0", {"note": EMAIL})) == {"note": "[email]"}
    assert one(redactor.apply("row.0.note", EMAIL)) == "[email]"
    assert one(redactor.apply("other", EMAIL)) == EMAIL


def test_detectors_of_two_rules_work_together() -> None:
    """Rules by detector for all and for a path are searched in one pass, each counted once."""
    redactor = Redactor([redact.detected("email"), redact.detected("card", paths=["row.card"])])
    row = {"card": f"{CARD} {EMAIL}", "x": str(CARD)}

    assert redactor.apply("row", row) == (
        {"card": "[card] [email]", "x": str(CARD)},
        (Redaction("row", "email", 1), Redaction("row.card", "card", 1)),
    )


class Colour(enum.Enum):
    """A constant of the program's, not of a user's."""

    MAIL = EMAIL


class Loud(str):
    """Text that says something else of itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "quiet"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"to {EMAIL}, {EMAIL}", "to [email], [email]"),
        (f"to {EMAIL}".encode(), b"to [email]"),
        (bytearray(EMAIL.encode()), b"[email]"),
        (memoryview(EMAIL.encode()), b"[email]"),
        (EMAIL.encode("utf-16-le"), b"[email]\x00"),
        ([EMAIL, (EMAIL, 1)], ["[email]", ("[email]", 1)]),
        ({EMAIL}, {"[email]"}),
        (frozenset({EMAIL}), frozenset({"[email]"})),
        ({EMAIL: 1, "al@example.org": 2}, {"[email]": 1, "[email]#2": 2}),
        ({"[email]": 0, EMAIL: 1}, {"[email]": 0, "[email]#2": 1}),
        (CARD, "[card]"),
        (float(CARD), "[card]"),
        (Decimal(CARD), "[card]"),
        ({"ssn": 123456789}, {"ssn": "[us-ssn]"}),
        ({"password": "open sesame"}, {"password": "[password]"}),
        ({"pwd": 1234}, {"pwd": "[password]"}),
        ({"phone": ["2125550142"]}, {"phone": ["[phone]"]}),
        (Object("m.T", {"x": EMAIL}), Object("m.T", {"x": "[email]"})),
        (
            User("1", EMAIL),
            Object(f"{__name__}.User", {"id": "1", "email": "[email]", "address": None}),
        ),
        (Colour.MAIL, Colour.MAIL),
        (Loud(EMAIL), "[email]"),
        (10**400, 10**400),
        (-CARD, "-[card]"),
        (float("inf"), float("inf")),
        (True, True),
        (2.5, 2.5),
        (b"\xff" * 0, b""),
        (Table("tableDigest1:0", 0, ()), Table("tableDigest1:0", 0, ())),
        (dt.date(1980, 3, 12), dt.date(1980, 3, 12)),
        (UUID(int=CARD), UUID(int=CARD)),
    ],
)
def test_detectors_look_into_every_type(value: object, expected: object) -> None:
    """Text is found in text, bytes, keys, numbers, fields and collections of all kinds."""
    assert expected == one(Redactor.of(["personal", "secrets"]).apply("row", value))


def test_a_date_of_birth_by_its_name() -> None:
    """A date under a name of birth is taken out when that detector is asked for."""
    row = {"date_of_birth": dt.date(1980, 3, 12), "seen": dt.date(2026, 3, 12)}

    assert one(Redactor.of(["birth-date"]).apply("row", row)) == {
        "date_of_birth": "[birth-date]",
        "seen": dt.date(2026, 3, 12),
    }


def test_attrs_and_pydantic_objects() -> None:
    """Objects of attrs and pydantic become what they are committed to as, extras included."""
    attrs = pytest.importorskip("attrs")
    import pydantic

    made = attrs.make_class("Made", ["x"])

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        x: str

    redactor = Redactor.of(["email"])
    for value in (
        made(EMAIL),
        Model(x=EMAIL),
        Model(x="1", **{EMAIL: EMAIL}),
    ):
        result = one(redactor.apply("row", value))
        assert isinstance(result, Object)
        assert "[email]" in result.fields.values()
        assert EMAIL not in repr(result)
        assert encode(value)[:80].split(b"S")[1] == encode(result)[:80].split(b"S")[1]


def test_numpy_arrays() -> None:
    """Arrays of text, bytes and objects are looked into, arrays of numbers are kept."""
    np = pytest.importorskip("numpy")
    redactor = Redactor.of(["email"])

    def put(value: object) -> Any:
        return one(redactor.apply("row", value))

    words = put(np.array([["a", EMAIL]]))
    assert [["a", "[email]"]] == words.tolist()
    assert "U" == words.dtype.kind
    assert [b"[email]"] == put(np.array([EMAIL.encode()])).tolist()
    assert ["[email]", 1] == put(np.array([EMAIL, 1], dtype=object))
    assert encode(np.arange(3)) == encode(put(np.arange(3)))
    assert 5 == put(np.int64(5))
    assert "[card]" == one(Redactor.of(["card"]).apply("row", np.int64(CARD)))
    assert "[email]" == put(np.str_(EMAIL))
    with pytest.raises(TypeError, match="'row' cannot be read"):
        put(np.ma.array([1]))


def test_frames_and_tables() -> None:
    """Columns of text are looked into, whatever their type; others keep their digest."""
    pa = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    redactor = Redactor.of(["email"])

    def put(value: object) -> Any:
        return one(redactor.apply("row", value))

    columns = {
        "text": pa.array(["x", EMAIL, None]),
        "large": pa.array([EMAIL] * 3, pa.large_string()),
        "coded": pa.array([EMAIL, "x", EMAIL]).dictionary_encode(),
        "bytes": pa.array([EMAIL.encode()] * 3),
        "list": pa.array([[EMAIL], None, []]),
        "struct": pa.array([{"a": EMAIL, "n": 1}] * 3),
        "number": pa.array([1, 2, 3]),
        EMAIL: pa.array([1.5, None, 2.5]),
    }
    table = pa.table(columns)
    result = put(table)

    assert EMAIL not in repr(result.to_pydict())
    assert ["x", "[email]", None] == result["text"].to_pylist()
    assert [*list(columns)[:-1], "[email]"] == result.column_names
    assert table.schema.field("struct").type == result.schema.field("struct").type
    assert encode(put(table.to_batches()[0])) == encode(result)

    frame = pd.DataFrame({"text": ["x", EMAIL], "n": [1, 2]}, index=["k", EMAIL])
    assert EMAIL not in repr(put(frame).to_pydict())
    assert EMAIL in repr(frame)
    plain = pd.DataFrame({"text": ["x", "y"], "n": [1, 2], "c": pd.Categorical(["a", "b"])})
    assert encode(plain) == encode(put(plain))
    assert {"mail": "[email]"} == put(pd.Series({"mail": EMAIL}))
    assert ["[email]"] == put(pd.Series([EMAIL]))
    assert ["[email]", None] == put(pa.array([EMAIL, None]))
    assert "[email]" == put(pa.scalar(EMAIL))


def test_rules_by_path_reach_columns() -> None:
    """A column is named as a step, whatever its type; an unknown one is an error."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"name": ["x", None], "age": [5, 6], "note": ["a", "b"]})
    redactor = Redactor(
        [redact.drop("row.name"), redact.mask("row.age"), redact.token("row.note", key=KEY)]
    )
    value, redactions = redactor.apply("row", table)

    assert ["[dropped]", None] == value["name"].to_pylist()  # type: ignore[index]
    assert [0, 0] == value["age"].to_pylist()  # type: ignore[index]
    assert [2, 1, 2] == [r.count for r in redactions]
    dropped = one(Redactor([redact.drop("row.age")]).apply("row", table))
    assert ["[dropped]"] * 2 == dropped["age"].to_pylist()  # type: ignore[index]
    with pytest.raises(ValueError, match="has no 'named'"):
        Redactor([redact.drop("row.named")]).apply("row", table)


def test_polars_frames() -> None:
    """A polars frame is read as the Arrow table that it is."""
    pl = pytest.importorskip("polars")

    value: Any = one(Redactor.of(["email"]).apply("row", pl.DataFrame({"a": [EMAIL]})))

    assert ["[email]"] == value["a"].to_pylist()
    assert ["[email]"] == one(Redactor.of(["email"]).apply("row", pl.Series([EMAIL])))


@pytest.mark.parametrize("value", [object(), [object()], {"a": object()}, b"\xff\xfe", [b"\xff"]])
def test_what_cannot_be_looked_into_is_refused(value: object) -> None:
    """A type that redaction does not know fails the call, unless it is told to keep it."""
    with pytest.raises(TypeError, match=r"'row' holds .* cannot look into"):
        Redactor.of(["email"]).apply("row", value)

    assert value == one(Redactor(redact.detected("email"), opaque="keep").apply("row", value))
    assert value == one(Redactor.of([redact.drop("other")]).apply("row", value))


def test_values_without_end_are_refused() -> None:
    """A cycle, deep nesting and too much text are errors, and never an endless walk."""
    loop: list[object] = []
    loop.append(loop)
    deep: object = "x"
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    redactor = Redactor.of(["email"])

    for value in (loop, deep):
        with pytest.raises(ValueError, match="nested deeper than 64"):
            redactor.apply("row", value)
        assert one(Redactor([redact.mask("row")]).apply("row", value)) != value
    with pytest.raises(ValueError, match="more than 16777216 characters"):
        redactor.apply("row", ["x" * 2**23] * 3)


def test_a_detector_that_finds_markers_ends() -> None:
    """A pattern that finds its own marker leaves the marker, and nothing of the text."""
    word = detect.pattern("word@1", r"\w+")

    assert one(Redactor(redact.detected(word)).apply("row", "a b c")) == "[word]"


def test_chunks_of_a_stream() -> None:
    """What lies across chunks is found; the marker stands where it began, the rest is empty."""
    redactor = Redactor.of(["personal"])
    chunks = [
        "mail bo",
        "b@exam",
        "ple.com",
        None,
        " and 41",
        "11 1111 1111 1111!",
        5,
        {"m": EMAIL},
    ]
    value, redactions = redactor.apply_chunks("yield", chunks)

    assert value == ["mail [email]", "", "", None, " and [card]", "!", 5, {"m": "[email]"}]
    assert redactions == (Redaction("yield", "card", 1), Redaction("yield", "email", 2))
    assert Redactor(()).apply_chunks("yield", chunks) == (chunks, ())
    assert Redactor([redact.drop("yield")]).apply_chunks("yield", ["a", None]) == (
        ["[dropped]", None],
        (Redaction("yield", "drop", 1),),
    )
    assert redactor.apply_chunks("yield", []) == ([], ())


def test_specifications_of_the_decorator() -> None:
    """What ``redact=`` takes: nothing, a redactor, a rule, or a list of rules and names."""
    redactor = Redactor.of(["email", "iban@1", redact.drop("user.name"), detect.SECRETS[0]])

    assert redactor is Redactor.of(redactor)
    assert Redactor.of(None).rules == ()
    assert not Redactor.of(None)
    assert Redactor.of([redact.detected("email")])
    assert Redactor.of(redact.drop("x")).rules == (redact.drop("x"),)
    assert {d.kind for rule in redactor.rules for d in rule.detectors} == {
        "email",
        "iban",
        "private-key",
    }
    for wrong in ("email", 5, [5], [None]):
        with pytest.raises(TypeError):
            Redactor.of(wrong)
    with pytest.raises(ValueError, match="did you mean"):
        Redactor.of(["emial"])


@pytest.mark.parametrize(
    ("paths", "fits"),
    [
        (["user"], True),
        (["user.address"], True),
        (["user.address.street"], True),
        (["row", "user"], True),
        (["row"], False),
        (["user.name"], False),
        (["usher"], False),
        ([], False),
    ],
)
def test_a_rule_that_reaches_nothing_is_an_error(paths: list[str], fits: bool) -> None:  # noqa: FBT001
    """A rule whose path no capture path meets is found when the function is decorated."""
    redactor = Redactor.of([redact.drop("user.address"), "email"])

    if fits:
        redactor.for_paths(paths)
    else:
        with pytest.raises(ValueError, match=r"'user\.address' leads to nothing"):
            redactor.for_paths(paths)
    Redactor.of(["email"]).for_paths(paths)


def test_stars_meet_capture_paths() -> None:
    """A star in a rule meets any name of a capture path."""
    Redactor([redact.drop("row.*.x")]).for_paths(["row.a"])
    with pytest.raises(ValueError, match="leads to nothing"):
        Redactor([redact.drop("row.*.x")]).for_paths(["row.a.y"])


@pytest.mark.parametrize(
    "path", ["", ".", "a..b", "1a", "*", "a\n", "a." + "b" * 300, "a.\x7f", "row[0]"]
)
def test_bad_paths_are_refused(path: str) -> None:
    """A path that is none is found when the rule is made."""
    for make in (redact.drop, redact.mask):
        with pytest.raises(ValueError, match="not a redaction path"):
            make(path)


def test_a_callers_bugs() -> None:
    """Wrong types and short keys are errors before anything is captured."""
    with pytest.raises(TypeError, match="path is text"):
        redact.drop(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key is bytes"):
        redact.token("x", key="k" * 32)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 16"):
        redact.token("x", key=b"k" * 15)
    with pytest.raises(ValueError, match="name what"):
        redact.detected()
    with pytest.raises(TypeError, match="list of paths"):
        redact.detected("email", paths="row")
    with pytest.raises(TypeError, match="a detector or its name"):
        redact.detected(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a rule is made by"):
        Redactor([5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="opaque is"):
        Redactor([], opaque="drop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="may not be called 'token'"):
        Redactor([redact.detected(detect.pattern("token@1", "x"))])


def test_redactions_fit_the_record() -> None:
    """What a redactor says has the form that a record demands."""
    import re

    for detector in detect.ALL:
        assert re.fullmatch("[a-z][a-z0-9-]{0,31}", detector.kind)
    said = Redaction("row", "email", 2)
    assert said == pickle.loads(pickle.dumps(said))  # noqa: S301  our own bytes
    assert not hasattr(said, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        said.count = 3  # type: ignore[misc]
