# ruff: noqa: ANN401  fixtures and hostile values are of any type

"""Datasets: what is registered is what is handed out, or nothing is."""

import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from secureml.data import Dataset, DatasetClaim, checks, dataset, schema_from_statement
from secureml.errors import (
    DigestMismatchError,
    FormatError,
    StoreError,
    UnexpectedFileError,
)
from secureml.evidence.attest import attest
from secureml.evidence.observe import observing
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.verify import verify
from secureml.hashing import hash_file, manifest, table_digest
from secureml.keys import generate
from secureml.wire.statement import DATASET, Statement

CLAIMS = {"source": "a study", "licence": "CC0-1.0"}


# --- registering -------------------------------------------------------------------------------


def test_a_table_has_two_digests(train: Dataset, table: pa.Table) -> None:
    """The bytes, and the logical content, on which statements join."""
    assert train.digests == {
        "sha256": hash_file(train.path).hex,
        "tableDigest1": table_digest(table).root.hex,
    }
    assert train.digest == table_digest(table).root
    assert (train.kind, train.rows, train.name) == ("table", 4, "train")
    assert [column.type for column in train.schema] == ["int64", "float64", "string", "bool"]
    assert train.files == ()


def test_a_tree_has_its_manifest(images: Dataset) -> None:
    """Names bound to contents."""
    assert images.digest == manifest(images.path).digest
    assert images.digests == images.digest.as_set()
    assert (images.kind, images.rows, images.name) == ("tree", None, "images")
    assert images.files == ("a.png", "sub/b.PNG")
    assert images.schema == ()


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".ipc"])
def test_arrow_files_are_tables(tmp_path: Path, table: pa.Table, suffix: str) -> None:
    """Arrow IPC files, which Feather version 2 files are."""
    path = tmp_path / f"train{suffix}"
    pa.feather.write_feather(table, path)

    assert dataset(path, **CLAIMS).digest == table_digest(table).root


def test_the_content_says_the_format(tmp_path: Path, table: pa.Table) -> None:
    """A Parquet file is one without its ending too; a wrong ending is refused."""
    for name in ("train", "train.pq", "train.data", "train.PARQUET"):
        pq.write_table(table, tmp_path / name)
        assert dataset(tmp_path / name, **CLAIMS).claim.format == "parquet"
    for name in ("train.csv", "train.arrow"):
        pq.write_table(table, tmp_path / name)
        with pytest.raises(FormatError, match="its bytes are parquet"):
            dataset(tmp_path / name, **CLAIMS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", "empty"),
        ("a.csv", b"", "empty"),
        ("a.txt", b"hello", "neither Parquet nor Arrow"),
        ("a.jpg", b"\xff\xd8\xff", "neither Parquet nor Arrow"),
        ("a.parquet", b"x,y\n1,2\n", "neither Parquet nor Arrow"),
        ("a.parquet", b"PAR1junkjunkjunkPAR1", "cannot be read"),
        ("a.arrow", b"ARROW1\0\0junk", "cannot be read"),
        ("a.feather", b"FEA1junk", "Feather version 1"),
        ("a.csv", b"\n\n", "cannot be read"),
        ("a.csv", b"a,b\n1,2,3\n", "cannot be read"),
        ("a.csv", b"a,b\n1\n", "cannot be read"),
        ("a.csv", b"a,a\n1,2\n", "names a column twice"),
        ("a.csv", b"a,b\n\xff\xfe,2\n", "not UTF-8"),
        ("a.csv", b"\xff\xfea\n1\n", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_a_format_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Each says what was found and what to do."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(FormatError, match=message):
        dataset(tmp_path / name, **CLAIMS)


def test_an_error_about_a_csv_quotes_no_values(tmp_path: Path) -> None:
    """A row of patient data does not reach an error text."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"name,age\nJane Roe,41\nJane Roe,41,x\n")
    with pytest.raises(FormatError) as caught:
        dataset(path, **CLAIMS)
    assert "Jane" not in str(caught.value)

    path.write_bytes(b"name,age\nx,Jane Roe\n")
    with pytest.raises(FormatError) as caught:
        dataset(path, **CLAIMS, schema={"name": "string", "age": "int64"})
    assert "Jane" not in str(caught.value)
    assert "int64" in str(caught.value)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    """A dataset of nothing would pass for anything."""
    with pytest.raises(FormatError, match="no files"):
        dataset(tmp_path, **CLAIMS)


def test_a_table_without_columns_is_refused(tmp_path: Path) -> None:
    """A table of nothing would pass for anything."""
    pq.write_table(pa.table({}), tmp_path / "a.parquet")

    with pytest.raises(FormatError, match="no columns"):
        dataset(tmp_path / "a.parquet", **CLAIMS)


def test_a_missing_file_is_a_store_error(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(StoreError, match=r"there is no data at '.*nowhere\.csv'"):
        dataset(tmp_path / "nowhere.csv", **CLAIMS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")
def test_a_special_file_is_refused(tmp_path: Path) -> None:
    """A pipe has no bytes of its own."""
    os.mkfifo(tmp_path / "a.csv")

    with pytest.raises((FormatError, StoreError)):
        dataset(tmp_path / "a.csv", **CLAIMS)


def test_a_link_to_a_table_is_followed(tmp_path: Path, train: Dataset) -> None:
    """The user named it; what it leads to is what is verified."""
    link = tmp_path / "link.parquet"
    link.symlink_to(train.path)

    assert dataset(link, **CLAIMS).digest == train.digest


def test_a_remote_address_is_not_read_yet() -> None:
    """The error says the way out."""
    for address in ("s3://bucket/train.parquet", "https://example.com/a.csv"):
        with pytest.raises(ValueError, match="copy the data"):
            dataset(address, **CLAIMS)


def test_a_frame_is_no_path(table: pa.Table) -> None:
    """The error says to write it to a file first."""
    pandas = pytest.importorskip("pandas")
    for frame in (pandas.DataFrame({"a": [1]}), table):
        with pytest.raises(TypeError, match="to_parquet"):
            dataset(frame, **CLAIMS)
    for other in (3, None, b"a.csv", [1]):
        with pytest.raises(TypeError):
            dataset(other, **CLAIMS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"source": ""}, ValueError),
        ({"source": "  "}, ValueError),
        ({"source": None}, TypeError),
        ({"licence": ""}, ValueError),
        ({"licence": 3}, TypeError),
        ({"name": ""}, ValueError),
        ({"name": "a\nb"}, ValueError),
        ({"collector": 3}, TypeError),
        ({"collected_at": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001  a time without a zone is the point
        ({"collected_at": "yesterday"}, ValueError),
        ({"collected_at": 3}, TypeError),
        ({"schema": {"a": "int64"}}, ValueError),
    ],
)
def test_claims_say_something(
    train: Dataset, claims: dict[str, Any], error: type[Exception]
) -> None:
    """An empty claim is a bug of the caller."""
    with pytest.raises(error):
        dataset(train.path, **{**CLAIMS, **claims})


def test_a_schema_is_for_csv_files(images: Dataset) -> None:
    """Other formats carry their types."""
    with pytest.raises(ValueError, match="CSV"):
        dataset(images.path, **CLAIMS, schema={"a": "int64"})


# --- the statement -----------------------------------------------------------------------------


def test_the_same_data_and_claims_are_the_same_statement(train: Dataset, tmp_path: Path) -> None:
    """Neither the time nor the place of registering is in it."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    copy = other / "train.parquet"
    copy.write_bytes(train.path.read_bytes())

    again = dataset(copy, **CLAIMS)
    assert again.statement().encode() == train.statement().encode()
    assert str(tmp_path).encode() not in again.statement().encode()
    assert again != train
    assert dataset(train.path, **CLAIMS) == train


def test_a_statement_is_read_again(tmp_path: Path, train: Dataset, images: Dataset) -> None:
    """Every kind of dataset, with and without the optional claims."""
    csv = tmp_path / "a.csv"
    csv.write_bytes(b"a,b\n1,x\n")
    full = dataset(
        csv,
        **CLAIMS,
        collector="a nurse",
        collected_at=datetime(2026, 1, 1, tzinfo=UTC),
        name="patients",
    )
    for handle in (train, images, full):
        statement = Statement.decode(handle.statement().encode())
        claim = DatasetClaim.from_statement(statement)
        assert statement.predicate_type == DATASET
        assert claim == handle.claim
        assert claim.describe() in repr(handle)
    assert full.claim.collected_at == "2026-01-01T00:00:00.000000Z"
    assert full.name == "patients"


# --- CSV ---------------------------------------------------------------------------------------


def test_the_types_of_a_csv_are_inferred_over_the_whole_file(tmp_path: Path) -> None:
    """A value in the last row decides like one in the first."""
    path = tmp_path / "a.csv"
    rows = b"".join(b"%d,1,true,2020-01-01,\n" % i for i in range(400_000))
    path.write_bytes(b"id,x,flag,day,empty\n" + rows + b"1,0.5,false,2020-01-02,\n")

    claim = dataset(path, **CLAIMS).claim
    assert [(column.name, column.type) for column in claim.csv] == [
        ("id", "int64"),
        ("x", "double"),
        ("flag", "bool"),
        ("day", "date32[day]"),
        ("empty", "null"),
    ]


def test_a_csv_is_read_again_with_the_recorded_types(tmp_path: Path) -> None:
    """A text that became a number by inference alone does not change the old reading."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"code\n007\nx\n")
    first = dataset(path, **CLAIMS)
    types = schema_from_statement(first.statement())
    path.write_bytes(b"code\n007\n008\n")
    second = dataset(path, **CLAIMS, schema=types)

    assert types == {"code": "string"}
    assert second.to_arrow()["code"].to_pylist() == ["007", "008"]
    assert dataset(path, **CLAIMS).to_arrow()["code"].to_pylist() == [7, 8]
    with pytest.raises(DigestMismatchError):
        first.to_arrow()


def test_a_csv_schema_may_be_given(tmp_path: Path) -> None:
    """As a mapping or as a pyarrow schema, with parameters."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,t,d\n1,2020-01-01T00:00:00Z,1.25\n")
    mapping = {"a": "int8", "t": "timestamp[us, tz=UTC]", "d": "decimal128(5, 2)"}
    schema = pa.schema(
        [("a", pa.int8()), ("t", pa.timestamp("us", "UTC")), ("d", pa.decimal128(5, 2))]
    )

    first, second = dataset(path, **CLAIMS, schema=mapping), dataset(path, **CLAIMS, schema=schema)
    assert first.statement() == second.statement()
    assert first.to_arrow().schema.types == schema.types
    assert dataset(path, **CLAIMS, schema=schema_from_statement(first.statement())) == first


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        ({"a": "int64"}, FormatError),
        ({"b": "int64", "a": "int64"}, FormatError),
        ({"a": "int64", "c": "int64"}, FormatError),
        ({"a": "int64", "b": "int64", "c": "int64"}, FormatError),
        ({"a": "int64", "b": "integer!"}, ValueError),
        ({"a": "int64", "b": "list<int64>"}, ValueError),
        ({}, ValueError),
        ("int64", TypeError),
        ([("a", "int64")], TypeError),
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), ValueError),
    ],
)
def test_a_csv_schema_that_does_not_fit_is_refused(
    tmp_path: Path, schema: Any, error: type[Exception]
) -> None:
    """The columns are those of the header, in its order."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n")

    with pytest.raises(error):
        dataset(path, **CLAIMS, schema=schema)


def test_an_empty_cell_is_null_and_a_quoted_one_is_text(tmp_path: Path) -> None:
    """So an empty cell does not pass for a text."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\nx,1\n,2\n"",3\nNA,4\n"two\nlines",5\n')
    handle = dataset(path, **CLAIMS)

    assert handle.to_arrow()["a"].to_pylist() == ["x", None, "", "NA", "two\nlines"]
    assert not handle.measure([checks.not_null("a")])[0].passed


def test_a_csv_with_a_header_alone_is_a_table_that_no_gate_passes(tmp_path: Path) -> None:
    """It can be registered, for the record."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n")
    handle = dataset(path, **CLAIMS)

    assert handle.rows == 0
    assert not any(
        f.passed
        for f in handle.measure([checks.not_null("a"), checks.row_count(1), checks.unique("a")])
    )


def test_a_statement_without_a_csv_has_no_csv_schema(train: Dataset) -> None:
    """Parquet carries its own types."""
    with pytest.raises(FormatError, match="no CSV schema"):
        schema_from_statement(train.statement())


# --- handing out -------------------------------------------------------------------------------


def test_a_table_is_handed_out_in_canonical_form(train: Dataset, table: pa.Table) -> None:
    """Verified, without metadata or dictionaries."""
    handed = train.to_arrow()

    assert handed.schema.metadata is None
    assert handed["kind"].to_pylist() == table["kind"].to_pylist()
    assert table_digest(handed).root == train.digest


def test_a_flipped_label_is_refused(train: Dataset, table: pa.Table) -> None:
    """The error names the column, and nothing is handed out."""
    flipped = table.set_column(3, "label", pa.array([True, True, True, False]))
    pq.write_table(flipped, train.path)

    for read in (train.to_arrow, train.to_pandas, lambda: train.measure([])):
        with pytest.raises(DigestMismatchError, match="'label'"):
            read()


def test_the_same_data_written_otherwise_is_accepted(train: Dataset, table: pa.Table) -> None:
    """Other row groups, compression, metadata and dictionaries: the same frame."""
    before = train.to_pandas()
    other = table.set_column(2, "kind", pa.array(["a", "b", "a", None])).replace_schema_metadata(
        {"pandas": '{"index_columns": ["id"]}'}
    )
    pq.write_table(other, train.path, row_group_size=1, compression="zstd", use_dictionary=False)
    after = train.to_pandas()

    assert hash_file(train.path).hex != train.digests["sha256"]
    assert train.measure([checks.row_count(4)])[0].passed
    pandas = pytest.importorskip("pandas")
    pandas.testing.assert_frame_equal(before, after)
    assert list(after.columns) == ["id", "radius", "kind", "label"]
    assert isinstance(after.index, pandas.RangeIndex)


def test_a_file_that_became_unreadable_is_not_what_was_registered(train: Dataset) -> None:
    """It is a verification error, since it could be read then."""
    data = train.path.read_bytes()
    for broken in (data[:-20], b"", data[:4] + b"\0" * (len(data) - 8) + data[-4:], b"text"):
        train.path.write_bytes(broken)
        with pytest.raises(DigestMismatchError, match="not what was registered"):
            train.to_arrow()


def test_a_file_that_is_gone_is_an_unexpected_absence(train: Dataset, images: Dataset) -> None:
    """The error names it."""
    train.path.unlink()
    for read in (train.to_arrow, lambda: train.measure([])):
        with pytest.raises(UnexpectedFileError, match="gone"):
            read()
    (images.path / "a.png").unlink()
    with pytest.raises(UnexpectedFileError, match="gone"):
        images.read("a.png")
    with pytest.raises(UnexpectedFileError):
        images.measure([])


def test_files_of_a_tree_are_verified_one_by_one(images: Dataset) -> None:
    """A changed file is refused, the others are still handed out."""
    assert images.read("a.png") == b"a"
    assert images.open("sub/b.PNG").read() == b"b"
    (images.path / "a.png").write_bytes(b"x")

    for read in (images.read, images.open):
        with pytest.raises(DigestMismatchError, match=r"'a\.png'"):
            read("a.png")
    assert images.read("sub/b.PNG") == b"b"
    with pytest.raises(DigestMismatchError):
        images.measure([checks.file_count(1)])


def test_a_file_that_was_added_is_found(images: Dataset) -> None:
    """A gate measures the whole tree."""
    (images.path / "c.png").write_bytes(b"c")

    with pytest.raises(UnexpectedFileError, match=r"c\.png"):
        images.measure([checks.file_count(1)])


@pytest.mark.parametrize("name", ["nowhere", "../a.png", "/etc/passwd", "sub", "a.png/"])
def test_a_tree_hands_out_its_own_files_only(images: Dataset, name: str) -> None:
    """Another name is a bug of the caller."""
    with pytest.raises(ValueError, match="no file"):
        images.read(name)


def test_a_link_in_place_of_a_file_is_refused(images: Dataset, tmp_path: Path) -> None:
    """Even one that leads to the same bytes."""
    (tmp_path / "same").write_bytes(b"a")
    (images.path / "a.png").unlink()
    (images.path / "a.png").symlink_to(tmp_path / "same")

    with pytest.raises(DigestMismatchError):
        images.read("a.png")


def test_tables_and_trees_are_told_apart(train: Dataset, images: Dataset) -> None:
    """The wrong way to read names the right one."""
    for read in (images.to_arrow, images.to_pandas):
        with pytest.raises(TypeError, match="tree"):
            read()
    for open_ in (train.read, train.open):
        with pytest.raises(TypeError, match="to_arrow"):
            open_("a")


def test_what_is_handed_out_is_observed(train: Dataset, images: Dataset) -> None:
    """Reads inside a run are observed; measuring and refusals are not."""
    seen: list[Any] = []
    with observing(seen.append):
        train.to_arrow()
        images.read("a.png")
        train.measure([checks.row_count(1)])
        (images.path / "a.png").write_bytes(b"x")
        with pytest.raises(DigestMismatchError):
            images.read("a.png")
    train.to_arrow()

    assert seen == [train, images]


def test_a_handle_pickles_and_verifies_in_a_worker(train: Dataset, images: Dataset) -> None:
    """It is small, and needs nothing but the path."""
    for handle in (train, images):
        again = pickle.loads(pickle.dumps(handle))  # noqa: S301  our own bytes
        assert again == handle
        assert hash(again) == hash(handle)
        assert again.evidence is None
    handed = pickle.loads(pickle.dumps(train)).to_arrow()  # noqa: S301  our own bytes
    assert table_digest(handed).root == train.digest
    assert pickle.loads(pickle.dumps(images)).read("a.png") == b"a"  # noqa: S301  our own bytes


def test_a_handle_serves_a_torch_loader(images: Dataset) -> None:
    """A torch dataset reads verified bytes, in a loader's worker."""
    data = pytest.importorskip("torch.utils.data")

    class Images(data.Dataset):  # type: ignore[misc,name-defined]
        def __len__(self) -> int:
            return len(images.files)

        def __getitem__(self, i: int) -> int:
            return images.read(images.files[i])[0]

    loader = data.DataLoader(Images(), batch_size=2)
    assert [batch.tolist() for batch in loader] == [[97, 98]]


def test_a_handle_shows_itself(train: Dataset) -> None:
    """Claims are text of somebody else's: they are escaped."""
    handle = dataset(train.path, source="<script>", licence="&", name="<b>")

    assert "4 rows" in repr(train)
    assert "<script>" not in handle._repr_html_()
    assert "&lt;script&gt;" in handle._repr_html_()
    assert "declared" in handle._repr_html_()
    assert train != "train"


def test_a_handle_takes_evidence_about_its_own_data_only(train: Dataset, images: Dataset) -> None:
    """The evidence is kept, and does not leave the process."""
    signer = generate()
    trust = Trust(
        identities=(Identity(name="me", verifier=signer.verifier, roles=frozenset({"dataset"})),)
    )
    evidence = verify(attest(train.statement(), signer), trust=trust, role="dataset")

    handle = train.with_evidence(evidence)
    assert handle.evidence is evidence
    assert handle == train
    assert pickle.loads(pickle.dumps(handle)).evidence is None  # noqa: S301  our own bytes
    with pytest.raises(DigestMismatchError, match="not about 'images'"):
        images.with_evidence(evidence)


def test_the_schema_of_the_data_is_bound_by_the_digest(train: Dataset, table: pa.Table) -> None:
    """An integer column that became a float column is other data."""
    pq.write_table(table.set_column(0, "id", table["id"].cast(pa.float64())), train.path)

    with pytest.raises(DigestMismatchError, match="float64 instead of int64"):
        train.to_arrow()


def test_a_file_that_changes_while_it_is_registered_is_refused(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both digests are of one file, or there are none."""
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    real = hash_file

    def slow(place: Path, **_: Any) -> Any:
        found = real(place)
        pq.write_table(table.slice(1), path)
        return found

    monkeypatch.setattr("secureml.hashing.hash_file", slow)
    with pytest.raises(DigestMismatchError, match="changed while"):
        dataset(path, **CLAIMS)
