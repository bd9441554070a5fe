# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""The claim about a dataset, and its strict reader."""

import copy
from typing import Any

import pytest

from secureml.data import Dataset, DatasetClaim, dataset
from secureml.errors import FormatError
from secureml.wire.statement import Statement, Subject

ODD: list[Any] = [None, True, 3, -1, "", [], ["x"], {}, {"a": 1}, 1.5]


def paths(node: Any, path: tuple[Any, ...] = ()) -> Any:
    """Yield the way to every value in a JSON value."""
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from paths(child, (*path, key))


@pytest.fixture(params=["table", "tree", "csv"])
def handle(request: Any, train: Dataset, images: Dataset, tmp_path: Any) -> Dataset:
    """Return a dataset of each kind."""
    if request.param == "csv":
        (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n")
        return dataset(
            tmp_path / "a.csv",
            source="s",
            licence="l",
            collector="c",
            collected_at="2026-01-01T00:00:00.000000Z",
        )
    return train if request.param == "table" else images


@pytest.mark.parametrize("value", ODD)
def test_every_field_is_read_strictly(handle: Dataset, value: object) -> None:
    """A value of another type in any place is a `FormatError`."""
    statement = handle.statement()
    for path in paths(statement.predicate):
        predicate = copy.deepcopy(dict(statement.predicate))
        target: Any = predicate
        for step in path[:-1]:
            target = target[step]
        old = target[path[-1]]
        if type(old) is type(value) and value not in ("", -1, [], ["x"], {}, {"a": 1}):
            continue
        if value == "" and path[-1] == "name":
            continue  # a column may have no name
        target[path[-1]] = value
        with pytest.raises(FormatError):
            DatasetClaim.from_statement(
                Statement(statement.subject, statement.predicate_type, predicate)
            )


def test_every_field_is_needed_and_no_other_is_taken(handle: Dataset) -> None:
    """Only the optional claims may be missing."""
    statement = handle.statement()
    for key in statement.predicate:
        less = {k: v for k, v in statement.predicate.items() if k != key}
        changed = Statement(statement.subject, statement.predicate_type, less)
        if key in {"collector", "collectedAt"}:
            DatasetClaim.from_statement(changed)
        else:
            with pytest.raises(FormatError):
                DatasetClaim.from_statement(changed)
    more = {**statement.predicate, "more": 1}
    with pytest.raises(FormatError, match="more"):
        DatasetClaim.from_statement(Statement(statement.subject, statement.predicate_type, more))


def test_the_subject_has_the_digests_of_its_kind(handle: Dataset) -> None:
    """No more, no fewer, no shorter."""
    statement = handle.statement()
    good = dict(statement.subject[0].digest)
    wrong: list[dict[str, str]] = [
        {**good, "md5": "00" * 16},
        {next(iter(good)): "00"},
        {k: v.upper() for k, v in good.items()} | {"sha256": "AB" * 32},
        {"sha512": "00" * 64},
    ]
    for digests in wrong:
        changed = Statement(
            (Subject("x", digests),), statement.predicate_type, statement.predicate
        )
        with pytest.raises(FormatError):
            DatasetClaim.from_statement(changed)
    for subjects in ((Subject("", good),), (Subject("x", good), Subject("y", good))):
        with pytest.raises(FormatError):
            DatasetClaim.from_statement(
                Statement(subjects, statement.predicate_type, statement.predicate)
            )


def test_another_type_is_refused(handle: Dataset) -> None:
    """A statement of another type is no claim."""
    statement = handle.statement()
    with pytest.raises(FormatError, match="expected"):
        DatasetClaim.from_statement(
            Statement(statement.subject, "https://example.com/x", statement.predicate)
        )


def test_kind_media_type_and_format_agree(handle: Dataset) -> None:
    """None of them contradicts another."""
    statement = handle.statement()
    for changes in ({"kind": "frame"}, {"mediaType": "text/plain"}, {"format": "xlsx"}):
        predicate = {**statement.predicate, **changes}
        with pytest.raises(FormatError):
            DatasetClaim.from_statement(
                Statement(statement.subject, statement.predicate_type, predicate)
            )
