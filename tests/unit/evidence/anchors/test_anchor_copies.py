"""Copies where nothing can be changed: a folder, and S3 under Object Lock."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secureml.errors import (
    ConsistencyError,
    DigestMismatchError,
    FormatError,
    StoreError,
    UnexpectedFileError,
)
from secureml.evidence.anchors import (
    CopyAnchor,
    Folder,
    Head,
    ObjectLock,
    WormStore,
    compare_copy,
)
from secureml.evidence.anchors.stores import Version
from secureml.evidence.checklog import verify_log
from secureml.evidence.trust import Trust

PLACES = ["folder", "s3"]


@pytest.fixture(params=PLACES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> WormStore:
    """Return a place for a copy."""
    if request.param == "folder":
        return Folder(tmp_path / "share")
    client, name = request.getfixturevalue("bucket")
    return ObjectLock(bucket=name, prefix="copy", retain=timedelta(days=1), client=client)


@pytest.fixture
def locked(bucket: tuple[Any, str]) -> ObjectLock:
    """Return a place in S3."""
    client, name = bucket
    return ObjectLock(bucket=name, prefix="copy", retain=timedelta(days=1), client=client)


def restore(store: WormStore, where: Path) -> None:
    """Write the newest state that the copy has, as a log directory."""
    from secureml.evidence._tree import layout

    newest = max(store.versions("checkpoints/"), key=lambda one: one.name)
    note = store.read(newest, limit=1 << 20)
    size = int(note.split(b"\n")[1])
    wanted = layout(size)
    for version in store.versions("tile/"):
        if version.name in wanted:
            path = where / version.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.read(version, limit=1 << 25))
    (where / "checkpoint").write_bytes(note)


def names(report: Any) -> list[str]:  # noqa: ANN401
    """Return the names of the findings."""
    return sorted({finding.name for finding in report.findings})


def test_a_copy_restores_the_log(make_log: Callable, store: WormStore, tmp_path: Path) -> None:
    """What was copied while the log grew is a whole log that verifies."""
    log = make_log(5)
    anchor = CopyAnchor(name="copy", store=store)
    for entries in (0, 3, 251, 40):
        log.grow(entries) if entries else None

        receipt = anchor.submit(Head.read(log.log))

        assert log.log.checkpoint_note() == receipt.note
    restore(store, tmp_path / "restored")
    assert verify_log(tmp_path / "restored", trust=log.trust).size == 299
    report = compare_copy(log.directory, store, trust=log.trust).enforce()
    assert (report.size, report.log_size, report.notes) == (299, 299, 4)
    assert report.files == 5


def test_another_process_goes_on_with_a_copy(make_log: Callable, store: WormStore) -> None:
    """A new process copies what is missing, and finds what is there."""
    log = make_log(300)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    log.grow(300)

    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))

    assert compare_copy(log.directory, store, trust=log.trust).enforce().notes == 2


def test_a_copy_that_was_interrupted_is_completed(make_log: Callable, tmp_path: Path) -> None:
    """Tiles without their note, and half a file, are what a crash leaves; both are completed."""
    log = make_log(300)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    shutil.rmtree(tmp_path / "share" / "checkpoints")
    half = tmp_path / "share" / "tile" / "entries" / "001.p" / "44"
    half.write_bytes(half.read_bytes()[:100])

    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))

    compare_copy(log.directory, store, trust=log.trust).enforce()


def test_without_partial_tiles_a_change_is_still_found(
    make_log: Callable, store: WormStore
) -> None:
    """A copy of full tiles only finds an edit behind them by the root in its note."""
    log = make_log(300)
    CopyAnchor(name="copy", store=store, partial=False).submit(Head.read(log.log))
    assert not [one for one in store.names("tile/") if ".p/" in one]
    compare_copy(log.directory, store, trust=log.trust).enforce()
    path = log.directory / "tile" / "entries" / "001.p" / "44"
    path.write_bytes(path.read_bytes().replace(b"entry 299", b"entry 298"))

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["edited"] == names(report)
    assert "entry 299" in report.findings[0].what


def test_an_edited_log_is_found(make_log: Callable, store: WormStore) -> None:
    """An edited entry is named, an edited tile too."""
    log = make_log(300)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    path = log.directory / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(b"entry 17", b"entry 71"))

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["edited"] == names(report)
    assert any("entry 17, " in one.what for one in report.findings)
    with pytest.raises(DigestMismatchError):
        report.enforce()


def test_an_edited_tile_is_found(make_log: Callable, store: WormStore) -> None:
    """A changed hash is named by tile and place."""
    log = make_log(300)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    path = log.directory / "tile" / "0" / "000"
    data = bytearray(path.read_bytes())
    data[32 * 9] ^= 1
    path.write_bytes(data)

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["edited"] == names(report)
    assert any("at hash 9" in one.what for one in report.findings)


def test_a_log_that_was_cut_is_found(make_log: Callable, store: WormStore) -> None:
    """A file that is gone is named."""
    log = make_log(300)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (log.directory / "tile" / "entries" / "000").unlink()

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["cut"] == names(report)
    with pytest.raises(ConsistencyError):
        report.enforce()


def test_a_partial_tile_that_is_gone_is_found(make_log: Callable, store: WormStore) -> None:
    """The last bundle is missed like any other."""
    log = make_log(10)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (log.directory / "tile" / "entries" / "000.p" / "10").unlink()

    assert ["cut"] == names(compare_copy(log.directory, store, trust=log.trust))


def test_a_log_that_was_rolled_back_is_found(
    make_log: Callable, store: WormStore, tmp_path: Path
) -> None:
    """A consistent older copy of the whole directory, put back, is found."""
    log = make_log(30)
    shutil.copytree(log.directory, tmp_path / "older")
    log.grow(9)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))

    report = compare_copy(tmp_path / "older", store, trust=log.trust)

    assert ["rolled-back"] == names(report)
    assert "to 30 entries" in report.findings[0].what
    with pytest.raises(ConsistencyError):
        report.enforce()


@pytest.mark.parametrize("entries", [30, 31])
def test_a_log_that_was_written_anew_is_found(
    make_log: Callable, store: WormStore, entries: int
) -> None:
    """Another history under the same key is a fork, whatever its size."""
    log = make_log(30)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    other = make_log(entries, name="other", signer=log.signer, begin=1)

    report = compare_copy(other.directory, store, trust=log.trust)

    assert "forked" in names(report)
    with pytest.raises(ConsistencyError):
        report.enforce()


def test_a_log_that_is_gone_is_found(make_log: Callable, store: WormStore, tmp_path: Path) -> None:
    """An empty place where the log was is the worst finding, not an error of the tool."""
    log = make_log(3)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))

    report = compare_copy(tmp_path / "nothing", store, trust=log.trust)

    assert ["gone"] == names(report)
    assert report.log_size is None


def test_a_checkpoint_of_somebody_else_is_no_checkpoint(
    make_log: Callable, store: WormStore
) -> None:
    """A log whose checkpoint another key signed is edited."""
    log = make_log(3)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    other = make_log(3, name="other")

    assert ["edited"] == names(compare_copy(other.directory, store, trust=log.trust))
    (other.directory / "checkpoint").write_bytes(b"\xff")
    assert ["edited"] == names(compare_copy(other.directory, store, trust=log.trust))


def test_two_logs_have_two_places(make_log: Callable, store: WormStore) -> None:
    """A place that holds the copy of another log is not written to."""
    log = make_log(3)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    other = make_log(3, name="other", origin="other.example")

    with pytest.raises(StoreError, match="of another log"):
        CopyAnchor(name="copy", store=store).submit(Head.read(other.log))


def test_a_copy_never_takes_other_bytes(make_log: Callable, store: WormStore) -> None:
    """A log that was forked cannot write over its copy: the difference is an alarm."""
    log = make_log(300)
    CopyAnchor(name="copy", store=store, partial=True).submit(Head.read(log.log))
    other = make_log(300, name="other", signer=log.signer, begin=1)

    with pytest.raises(ConsistencyError, match="other bytes"):
        CopyAnchor(name="copy", store=store).submit(Head.read(other.log))

    compare_copy(log.directory, store, trust=log.trust).enforce()


def test_junk_in_a_copy_is_shown_and_not_believed(make_log: Callable, store: WormStore) -> None:
    """What is no checkpoint of the log, and no tile, is a finding about the copy."""
    log = make_log(3)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    other = make_log(9, name="other")
    store.put_new("checkpoints/junk", b"\xff")
    store.put_new(f"checkpoints/{9:020}-0000000000000000", other.log.checkpoint_note().encode())
    store.put_new(f"checkpoints/{3:020}-0000000000000000", log.log.checkpoint_note().encode())
    store.put_new("tile/junk", b"")

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["copy-foreign"] == names(report)
    assert len(report.findings) == 4
    with pytest.raises(UnexpectedFileError):
        report.enforce()


def test_a_copy_without_a_checkpoint_shows_nothing(make_log: Callable, store: WormStore) -> None:
    """An empty place is an error, never a report without findings."""
    log = make_log(3)

    with pytest.raises(StoreError, match="no checkpoint"):
        compare_copy(log.directory, store, trust=log.trust)


def test_a_comparison_needs_a_trust(make_log: Callable, store: WormStore) -> None:
    """There is no default for whose log it is."""
    with pytest.raises(ValueError, match="trust"):
        compare_copy(make_log(1).directory, store)


def test_a_log_that_is_written_meanwhile_compares(make_log: Callable, store: WormStore) -> None:
    """Partial tiles that a writer replaces between two reads are no findings."""
    log = make_log(3)
    anchor = CopyAnchor(name="copy", store=store)
    old = Head.read(log.log)
    log.grow(4)
    anchor.submit(old)
    anchor.submit(Head.read(log.log))
    log.grow(300)
    anchor.submit(old)

    assert compare_copy(log.directory, store, trust=log.trust).enforce().log_size == 307


def test_a_tile_that_is_gone_from_the_log_is_not_copied(
    make_log: Callable, store: WormStore
) -> None:
    """A log that lacks a file of its own is an error, not a shorter copy."""
    log = make_log(300)
    (log.directory / "tile" / "entries" / "000").unlink()

    with pytest.raises(UnexpectedFileError):
        CopyAnchor(name="copy", store=store).submit(Head.read(log.log))

    assert not list(store.names("checkpoints/"))


def test_pruned_entries_may_be_missing(make_log: Callable, store: WormStore) -> None:
    """Below the minimum that the policy recorded a bundle may be gone; above it may not."""
    log = make_log(600)
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (log.directory / "tile" / "entries" / "000").unlink()

    assert ["cut"] == names(compare_copy(log.directory, store, trust=log.trust))
    report = compare_copy(log.directory, store, trust=log.trust, minimum=256)
    assert [] == names(report)
    other = make_log(600, name="other", signer=log.signer, begin=1)
    assert "forked" in names(compare_copy(other.directory, store, trust=log.trust, minimum=256))


# A folder


def test_a_folder_is_created_in_and_never_changed(tmp_path: Path) -> None:
    """The same bytes are fine, other bytes are refused, and a link is not written through."""
    store = Folder(tmp_path / "share")
    store.put_new("a/b", b"12345")
    store.put_new("a/b", b"12345")

    with pytest.raises(ConsistencyError, match="from byte 4"):
        store.put_new("a/b", b"1234x")
    with pytest.raises(ConsistencyError):
        store.put_new("a/b", b"1234")
    (tmp_path / "share" / "link").symlink_to(tmp_path / "target")
    with pytest.raises(UnexpectedFileError):
        store.put_new("link", b"x")
    assert not (tmp_path / "target").exists()
    assert ["a/b", "link"] == sorted(store.names(""))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file where the directory should be is a store's error."""
    (tmp_path / "share").write_text("")

    with pytest.raises(StoreError):
        Folder(tmp_path / "share").put_new("a", b"1")
    with pytest.raises(StoreError, match="gone"):
        Folder(tmp_path / "none").read(Version("a", "", hidden=False), limit=1)
    assert [] == list(Folder(tmp_path / "none").names("tile/"))


# S3


def test_an_object_is_locked(make_log: Callable, locked: ObjectLock) -> None:
    """Every object has a retention in COMPLIANCE mode; deleting its version is refused."""
    log = make_log(300)

    receipt = CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))

    assert receipt.values["version"]
    assert receipt.values["until"] > datetime.now(UTC).isoformat()
    for version in locked.versions(""):
        assert locked.until(version) is not None
        with pytest.raises(Exception, match="AccessDenied"):
            locked.client.delete_object(
                Bucket=locked.bucket,
                Key=locked.prefix + version.name,
                VersionId=version.version,
                BypassGovernanceRetention=True,
            )


def test_a_delete_marker_hides_nothing(make_log: Callable, locked: ObjectLock) -> None:
    """A key that looks deleted is read by its version, and the marker is a finding."""
    log = make_log(300)
    CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))
    for name in ("tile/entries/000", next(locked.names("checkpoints/"))):
        locked.client.delete_object(Bucket=locked.bucket, Key=locked.prefix + name)

    report = compare_copy(log.directory, locked, trust=log.trust)

    assert ["copy-hidden"] == names(report)
    assert len(report.findings) == 2
    with pytest.raises(UnexpectedFileError):
        report.enforce()


def test_a_second_version_covers_nothing(make_log: Callable, locked: ObjectLock) -> None:
    """Other bytes put over an object are a finding; the oldest version is compared."""
    log = make_log(300)
    CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))
    locked.client.put_object(
        Bucket=locked.bucket, Key=f"{locked.prefix}tile/entries/000", Body=b"other"
    )

    report = compare_copy(log.directory, locked, trust=log.trust)

    assert ["copy-overwritten"] == names(report)


def test_a_key_that_was_hidden_is_written_again(make_log: Callable, locked: ObjectLock) -> None:
    """Over a delete marker a second version of the same bytes is no finding."""
    log = make_log(300)
    CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))
    key = f"{locked.prefix}tile/entries/000"
    locked.client.delete_object(Bucket=locked.bucket, Key=key)

    CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))

    compare_copy(log.directory, locked, trust=log.trust).enforce()


def test_an_object_that_nobody_locked_is_a_finding(make_log: Callable, locked: ObjectLock) -> None:
    """A checkpoint in the copy that can be deleted is said."""
    log = make_log(3)
    CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))
    log.grow(2)
    from secureml.evidence.anchors.worm import note_name

    note = log.log.checkpoint_note()
    locked.client.put_object(
        Bucket=locked.bucket, Key=locked.prefix + note_name(5, note), Body=note.encode()
    )

    assert "copy-unlocked" in names(compare_copy(log.directory, locked, trust=log.trust))
    with pytest.raises(StoreError, match="not locked"):
        CopyAnchor(name="copy", store=locked).submit(Head.read(log.log))


def test_a_bucket_without_object_lock_takes_nothing(
    make_log: Callable, bucket: tuple[Any, str]
) -> None:
    """A bucket that cannot lock is refused before anybody relies on it."""
    client, name = bucket
    client.create_bucket(Bucket=f"{name}-plain")
    store = ObjectLock(bucket=f"{name}-plain", prefix="", retain=timedelta(days=1), client=client)

    with pytest.raises(StoreError):
        CopyAnchor(name="copy", store=store).submit(Head.read(make_log(3).log))


def test_an_s3_that_is_not_there_is_a_store_s_error(
    make_log: Callable, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that does not exist is not retryable; an address without a server is."""
    assert s3
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-no-account")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-no-account")
    head = Head.read(make_log(3).log)
    for url, again in ((s3, False), ("http://127.0.0.1:1", True)):
        store = ObjectLock(
            bucket="no-such-bucket-here",
            prefix="x",
            retain=timedelta(days=1),
            endpoint_url=url,
            region="us-east-1",
        )
        with pytest.raises(StoreError) as caught:
            CopyAnchor(name="copy", store=store).submit(head)
        assert again is caught.value.retryable
        with pytest.raises(StoreError):
            list(store.versions(""))
        store.client.close()


def test_more_than_a_page_of_objects(make_log: Callable, locked: ObjectLock) -> None:
    """Lists of S3 come in pages of a thousand; all of them are read."""
    for number in range(1_005):
        locked.client.put_object(
            Bucket=locked.bucket, Key=f"{locked.prefix}tile/{number:05}", Body=b""
        )

    assert len(list(locked.names("tile/"))) == 1_005
    assert len({one.name for one in locked.versions("tile/")}) == 1_005
    assert make_log


def test_an_object_is_not_read_without_end(locked: ObjectLock) -> None:
    """An object that is longer than its format allows is refused."""
    locked.put_new("a", b"12345")
    (version,) = locked.versions("a")

    with pytest.raises(FormatError, match="longer"):
        locked.read(version, limit=4)


def test_what_a_place_in_s3_is(bucket: tuple[Any, str]) -> None:
    """A retention below a second, a slash in front and no bucket are the caller's bugs."""
    client, name = bucket
    day = timedelta(days=1)
    for values in (
        {"bucket": name, "prefix": "x", "retain": timedelta(0)},
        {"bucket": name, "prefix": "/x", "retain": day},
        {"bucket": "", "prefix": "x", "retain": day},
    ):
        with pytest.raises(ValueError, match=r"kept|bucket"):
            ObjectLock(client=client, **values)
    assert ObjectLock(bucket=name, prefix="", retain=day, client=client).place == f"s3://{name}/"


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Take the right to write for a while."""
    path.chmod(0o500)
    try:
        yield
    finally:
        path.chmod(0o700)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    """A place that refuses is a store's error."""
    (tmp_path / "share").mkdir()

    with read_only(tmp_path / "share"), pytest.raises(StoreError):
        Folder(tmp_path / "share").put_new("a", b"1")


# Findings, one by one


def test_an_object_that_is_gone_from_the_copy_is_said(make_log: Callable, tmp_path: Path) -> None:
    """A full tile that a checkpoint in the copy covers is missed."""
    log = make_log(300)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (tmp_path / "share" / "tile" / "entries" / "000").unlink()

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["copy-missing"] == names(report)
    with pytest.raises(UnexpectedFileError, match="lacks 'tile/entries/000'"):
        report.enforce()


def test_tiles_that_came_before_their_checkpoint_are_no_finding(
    make_log: Callable, tmp_path: Path
) -> None:
    """A copy that stopped between the tiles and the note compares up to the last note."""
    log = make_log(200)
    store = Folder(tmp_path / "share")
    anchor = CopyAnchor(name="copy", store=store)
    anchor.submit(Head.read(log.log))
    log.grow(300)
    receipt = anchor.submit(Head.read(log.log))
    (tmp_path / "share" / receipt.values["place"].removeprefix(f"{store.place}/")).unlink()

    report = compare_copy(log.directory, store, trust=log.trust).enforce()

    assert (report.size, report.log_size) == (200, 500)


def test_the_copy_of_another_log_is_a_fork(make_log: Callable, tmp_path: Path) -> None:
    """A log that has another name than its copy is not compared further."""
    log, other = make_log(3), make_log(3, name="other", origin="other.example")
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (identity,) = other.trust.identities
    both = Trust((*log.trust.identities, replace(identity, name="other")))

    assert ["forked"] == names(compare_copy(other.directory, store, trust=both))


@pytest.mark.parametrize(
    ("name", "data", "finding"),
    [
        ("tile/0/000", b"short", "edited"),
        ("tile/entries/000", b"\xff\xff", "edited"),
        ("tile/entries/000", None, "edited"),
        ("tile/0/001.p/44", b"", "edited"),
        ("tile/entries/001.p/44", b"\0", "edited"),
    ],
)
def test_a_file_that_is_none_is_edited(
    make_log: Callable, tmp_path: Path, name: str, data: bytes | None, finding: str
) -> None:
    """A file of another length, another format or another kind is named."""
    log = make_log(300)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    path = log.directory / name
    path.unlink()
    if data is None:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(data)

    report = compare_copy(log.directory, store, trust=log.trust)

    assert [finding] == names(report)
    assert any(name in one.what for one in report.findings)


def test_an_edited_tile_of_a_pruned_log_is_no_fork(make_log: Callable, tmp_path: Path) -> None:
    """Tiles that do not lead to the log's own root were edited, pruned or not."""
    log = make_log(600)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    path = log.directory / "tile" / "0" / "001"
    path.write_bytes(bytes(32) + path.read_bytes()[32:])

    report = compare_copy(log.directory, store, trust=log.trust, minimum=256)

    assert ["edited"] == names(report)


def test_an_entry_that_a_hold_kept_is_compared(make_log: Callable, tmp_path: Path) -> None:
    """Below the minimum a bundle may be gone; one that is there is compared like any other."""
    log = make_log(600)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    path = log.directory / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(b"entry 17", b"entry 71"))

    report = compare_copy(log.directory, store, trust=log.trust, minimum=256)

    assert ["edited"] == names(report)
    assert "entry 17, " in report.findings[0].what


def test_a_bundle_in_the_copy_that_is_none_is_foreign(make_log: Callable, tmp_path: Path) -> None:
    """Garbage under the name of a bundle is a finding about the copy."""
    log = make_log(3)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (tmp_path / "share" / "tile" / "entries" / "000.p" / "3").write_bytes(b"\xff")

    assert ["copy-foreign"] == names(compare_copy(log.directory, store, trust=log.trust))


def test_a_checkpoint_that_is_a_directory_is_cut(make_log: Callable, tmp_path: Path) -> None:
    """Something else where the checkpoint was is reported, not followed."""
    log = make_log(3)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    (log.directory / "checkpoint").unlink()
    (log.directory / "checkpoint").mkdir()

    report = compare_copy(log.directory, store, trust=log.trust)

    assert ["cut"] == names(report)
    assert report.log_size is None
