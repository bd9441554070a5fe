# ruff: noqa: ANN401  fixtures and hostile values are of any type
# ruff: noqa: D102, ARG002  a stand-in has the members of its protocol

"""One pass: every check gets its finding, whatever happens to the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from secureml.data import Dataset, Rows, checks, dataset
from secureml.gates import Finding, check_name


@dataclass(frozen=True)
class Broken:
    """A check that raises in one of its steps."""

    where: str
    id: ClassVar[str] = "broken@1"

    @property
    def params(self) -> Mapping[str, Any]:
        return {"where": self.where}

    @property
    def needs(self) -> frozenset[str]:
        if self.where == "needs":
            raise KeyError(self.where)
        return frozenset()

    def start(self) -> "Broken":
        self._maybe("start")
        return self

    def update(self, part: Any, /) -> None:
        self._maybe("update")

    def merge(self, other: "Broken", /) -> None:
        self._maybe("merge")

    def finish(self) -> Any:
        self._maybe("finish")
        if self.where == "nothing":
            return None
        name = "other@1 {}" if self.where == "other" else check_name(self)
        return Finding(name, passed=True, message="")

    def _maybe(self, step: str) -> None:
        if self.where == step:
            raise RuntimeError("Jane Roe")


@pytest.mark.parametrize("where", ["start", "needs", "update", "finish", "nothing", "other"])
def test_a_broken_check_does_not_stop_the_others(
    train: Dataset, images: Dataset, where: str
) -> None:
    """It did not pass, its exception's text is not kept, and its neighbours are measured."""
    found = train.measure([checks.row_count(4), Broken(where), checks.not_null("id")])
    assert [f.passed for f in found] == [True, False, True]
    assert found[1].check == check_name(Broken(where))
    assert "Jane" not in found[1].message
    assert ("Jane" in found[1].detail) is (where in {"start", "update", "finish"})
    found = images.measure([Broken(where), checks.file_count(2)])
    assert [f.passed for f in found] == [False, True]


def test_an_exception_without_a_text_is_an_exception(train: Dataset) -> None:
    """Even one whose own text raises."""

    class Mute(Exception):  # noqa: N818  its name is not the point
        def __str__(self) -> str:
            raise RuntimeError

    class Raising(Broken):
        def start(self) -> Broken:
            raise Mute

    found = train.measure([Raising("")])[0]
    assert not found.passed
    assert found.message == "could not be made: Mute was raised"


def test_a_check_of_anybody_is_measured(train: Dataset) -> None:
    """The protocol is enough."""
    assert train.measure([Broken("")])[0].passed


def test_a_check_that_always_says_yes_fails_on_nothing(tmp_path: Any) -> None:
    """Also a foreign check cannot pass data without rows."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n")
    handle = dataset(path, source="s", licence="l")

    found = handle.measure([Broken("")])[0]
    assert not found.passed
    assert "no data" in found.message


def test_a_check_of_trees_does_not_pass_on_a_table(train: Dataset, images: Dataset) -> None:
    """And the other way round."""
    for handle, check in ((train, checks.file_count(1)), (images, checks.row_count(1))):
        found = handle.measure([check])[0]
        assert not found.passed
        assert "could not be made" in found.message


def test_a_column_that_a_check_needs_is_looked_for(train: Dataset) -> None:
    """The finding names the column."""
    found = train.measure([checks.not_null("nowhere"), checks.not_null("id")])

    assert [f.passed for f in found] == [False, True]
    assert "'nowhere'" in found[0].message


def test_what_is_no_check_is_a_type_error(train: Dataset) -> None:
    """Before anything is read."""
    train.path.unlink()
    with pytest.raises(TypeError, match=r"secureml\.data\.checks"):
        train.measure(["not_null"])  # type: ignore[list-item]


def test_no_checks_leave_no_findings(train: Dataset) -> None:
    """The data is verified all the same."""
    assert train.measure([]) == []


def test_rows_know_their_place(train: Dataset) -> None:
    """A part has a start, a length and named columns."""
    batch = train.to_arrow().to_batches()[0]
    part = Rows(7, batch)

    assert len(part) == 4
    assert part.names == ("id", "radius", "kind", "label")
    assert part.column("id").to_pylist() == [1, 2, 3, 4]
    assert part.column("nowhere") is None
