"""Receipts: their one spelling, how they are kept, and how they are judged."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.errors import (
    ConsistencyError,
    FormatError,
    SecureMLError,
    SignatureError,
    StoreError,
    ThresholdError,
    UnexpectedFileError,
    VerificationError,
)
from secureml.evidence._files import Files
from secureml.evidence.anchors import (
    Authority,
    CopyAnchor,
    Folder,
    Head,
    Receipt,
    RekorLog,
    VerifiedReceipts,
    receipts_directory,
    verify_receipts,
)
from secureml.evidence.anchors.keeping import append_receipt, receipt_files, receipt_lines
from secureml.evidence.anchors.receipt import MAX_LINE
from secureml.evidence.checklog import verify_log
from secureml.evidence.notes import verify_checkpoint
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.witness import Witness, sign_cosignature
from secureml.keys import Verifier, generate
from secureml.wire.note import Note, NoteSignature, VKey

VECTORS = Path(__file__).resolve().parents[4] / "vectors" / "anchor-receipt"
NOTE = "log.example/a\n1\nQhQ0Zsb2RvbJ3sJ4Tl1mtyjvB7F1KQwMk/YkRyzZ3aE=\n\n\u2014 l aaaaaaaa\n"


def entries(directory: Path) -> list[tuple[str, int]]:
    """Return each line of a directory of receipts."""
    return [
        (name, number)
        for name, path in receipt_files(directory)
        for number, _ in receipt_lines(path)
    ]


# One spelling


@given(
    st.sampled_from(
        [
            ("witness", ()),
            ("rfc3161", ("token",)),
            ("rekor", ("body", "proof")),
            ("copy", ("place", "until", "version")),
        ]
    ),
    st.text(max_size=20),
)
def test_a_receipt_survives_its_line(kind: tuple[str, tuple[str, ...]], value: str) -> None:
    """Decoding what was encoded gives the receipt."""
    receipt = Receipt(kind[0], NOTE, dict.fromkeys(kind[1], value.encode().hex()))

    line = receipt.encode()

    assert line.endswith(b"\n")
    assert receipt == Receipt.decode(line[:-1])


@given(st.binary(max_size=200))
def test_bytes_are_refused_or_have_one_spelling(data: bytes) -> None:
    """Arbitrary bytes are refused with a format's error."""
    with pytest.raises(FormatError):
        Receipt.decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": True},
        {"v": "1"},
        {"kind": "oracle"},
        {"kind": 1},
        {"kind": "rfc3161"},
        {"note": "x"},
        {"note": 1},
        {"note": NOTE.replace("1\n", "01\n", 1)},
        {"more": ""},
    ],
    ids=repr,
)
def test_another_line_is_no_receipt(change: dict[str, object]) -> None:
    """Each rule of the format, broken once, is refused."""
    from secureml.wire import canonical

    line = json.loads(Receipt("witness", NOTE, {}).encode())
    with pytest.raises(FormatError):
        Receipt.decode(canonical.encode({**line, **change}))
    with pytest.raises(FormatError):
        Receipt.decode(json.dumps(line).encode())


def test_a_receipt_has_the_members_of_its_kind() -> None:
    """A kind that is none, other members and too many bytes are the caller's bugs."""
    for kind, values in (("oracle", {}), ("witness", {"token": ""}), ("rfc3161", {})):
        with pytest.raises(ValueError, match="kind"):
            Receipt(kind, NOTE, values)
    with pytest.raises(ValueError, match="bytes"):
        Receipt("rfc3161", NOTE, {"token": "x" * MAX_LINE}).encode()
    with pytest.raises(FormatError):
        Receipt.decode(b"x" * MAX_LINE)


# Kept


def test_receipts_are_appended(tmp_path: Path) -> None:
    """A line is added for each receipt, in a file for each anchor."""
    place = receipts_directory(tmp_path / "audit")
    for name in ("a", "b", "a"):
        append_receipt(place, name, Receipt("witness", NOTE, {}))

    assert tmp_path / "anchors" / "audit" == place
    assert [("a", 1), ("a", 2), ("b", 1)] == entries(place)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_torn_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    """What a crash left of a line is no receipt to a reader, and gone after the next append."""
    place = tmp_path / "anchors"
    path = append_receipt(place, "a", Receipt("witness", NOTE, {}))
    line = path.read_bytes()
    with path.open("ab") as file:
        file.write(line[: len(line) * cut // 12] or b"{")
    assert [("a", 1)] == entries(place)

    append_receipt(place, "a", Receipt("witness", NOTE, {}))

    assert line * 2 == path.read_bytes()


def test_a_file_of_one_torn_line_is_begun_anew(tmp_path: Path) -> None:
    """A file without any newline holds no receipt."""
    (tmp_path / "a.jsonl").write_bytes(b"x" * 200_000)

    append_receipt(tmp_path, "a", Receipt("witness", NOTE, {}))

    assert [("a", 1)] == entries(tmp_path)


class Full(Files):
    """A disk that takes a few bytes of what it is offered, and then none."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Take what there is room for."""
        if self.room == 0:
            raise OSError(28, "No space left on device")
        some = bytes(data[: self.room])
        self.room -= len(some)
        return os.write(fd, some)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A receipt that cannot be kept is an error, and no half of it stays."""
    path = append_receipt(tmp_path, "a", Receipt("witness", NOTE, {}))
    before = path.read_bytes()

    with pytest.raises(StoreError):
        append_receipt(tmp_path, "a", Receipt("witness", NOTE, {}), files=Full(20))

    assert before == path.read_bytes()


def test_a_file_of_receipts_is_a_file(tmp_path: Path) -> None:
    """A link, a directory and a name that no anchor has are refused."""
    (tmp_path / "real").write_text("")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").symlink_to(tmp_path / "real")
    with pytest.raises(UnexpectedFileError):
        append_receipt(tmp_path / "d", "a", Receipt("witness", NOTE, {}))
    with pytest.raises(UnexpectedFileError):
        receipt_files(tmp_path / "d")
    with pytest.raises(UnexpectedFileError):
        list(receipt_lines(tmp_path / "d" / "a.jsonl"))
    with pytest.raises(UnexpectedFileError, match="no file of receipts"):
        receipt_files(_with(tmp_path / "e", "notes.txt"))
    with pytest.raises(UnexpectedFileError, match="no file of receipts"):
        receipt_files(_with(tmp_path / "f", "UPPER.jsonl"))
    with pytest.raises(StoreError):
        list(receipt_lines(tmp_path / "none.jsonl"))
    with pytest.raises(StoreError):
        receipt_files(tmp_path / "real")
    with pytest.raises(StoreError):
        append_receipt(tmp_path / "real", "a", Receipt("witness", NOTE, {}))
    with pytest.raises(ValueError, match="name of an anchor"):
        append_receipt(tmp_path, "../a", Receipt("witness", NOTE, {}))


def _with(directory: Path, name: str) -> Path:
    directory.mkdir()
    (directory / name).write_text("")
    return directory


def test_a_line_without_end_is_one_bad_line(tmp_path: Path) -> None:
    """A line of megabytes is given as bad, and the next one is read."""
    good = Receipt("witness", NOTE, {}).encode()
    (tmp_path / "a.jsonl").write_bytes(b"x" * (3 * MAX_LINE) + b"\n" + good)

    lines = dict(receipt_lines(tmp_path / "a.jsonl"))

    assert {1: None, 2: good[:-1]} == lines


# Judged


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda p: p.stem)
def test_receipts_are_judged_as_in_the_vectors(path: Path) -> None:
    """Receipts by tools that are not ours are judged the same way everywhere."""
    vector = json.loads(path.read_text())
    assert vector["source"]
    given = vector["trust"]
    trust = _trust(given)
    if any(r["kind"] == "rfc3161" for r in map(json.loads, vector["lines"].values())):
        pytest.importorskip("rfc3161_client")

    for name, line in vector["lines"].items():
        expect = vector["expect"][name]
        try:
            receipt = Receipt.decode(line.encode())
            verify_checkpoint(receipt.note, trust=trust)
            found = _judge(receipt, trust, given)
        except SecureMLError as error:
            found = [error.code]
        assert expect == found, name


def _trust(given: dict[str, object]) -> Trust:
    key = VKey.decode(str(given["log"]))
    identity = Identity(
        name="log",
        verifier=Verifier.from_raw("ed25519", key.public),
        roles=frozenset({"log"}),
        origin=key.name,
    )
    named = [VKey.decode(one) for one in given["witnesses"]]  # type: ignore[attr-defined]
    witnesses = tuple(Witness(f"w{number}", one) for number, one in enumerate(named))
    return Trust((identity,), (), "", witnesses, len(witnesses))


def _judge(receipt: Receipt, trust: Trust, given: dict[str, object]) -> list[str]:
    from secureml.evidence.anchors.verifying import _Judge

    authorities = [Authority(name="tsa", roots=str(one)) for one in given["authorities"]]  # type: ignore[attr-defined]
    rekor = []
    for one in given["rekor"]:  # type: ignore[attr-defined]
        key = VKey.decode(one)
        rekor.append(RekorLog(origin=key.name, verifier=Verifier.from_raw("ed25519", key.public)))
    judge = _Judge(None, trust.witnesses, authorities, rekor, None, lambda _: None)  # type: ignore[arg-type, return-value]
    return [
        f"{by} {'' if at is None else at.isoformat()}".strip()
        for by, at in judge.vouchers(receipt)
    ]


def trusting(trust: Trust, *witnesses: Witness) -> Trust:
    """Return a trust with witnesses."""
    return replace(trust, witnesses=witnesses, quorum=1)


def test_receipts_show_who_has_seen_the_log(
    make_log: Callable,
    make_witness: Callable,
    make_rekor: Callable,
    make_authority: Callable,
    tmp_path: Path,
) -> None:
    """Witness, clock, other log and copy: each is judged by its own keys, offline."""
    log = make_log(3)
    first, second = make_witness(log.trust, "w1"), make_witness(log.trust, "w2")
    clock, rekor = make_authority(), make_rekor()
    copy = CopyAnchor(name="copy", store=Folder(tmp_path / "share"))
    for anchor in (first.anchor, second.anchor, clock.anchor, rekor.anchor, copy):
        append_receipt(tmp_path / "r", anchor.name, anchor.submit(Head.read(log.log)))
    log.grow(300)
    append_receipt(tmp_path / "r", "w1", first.anchor.submit(Head.read(log.log)))
    log.grow(5)
    verified = verify_log(log.directory, trust=log.trust)

    found = verify_receipts(
        tmp_path / "r",
        verified,
        trust=trusting(log.trust, first.witness),
        authorities=[clock.authority],
        rekor=[rekor.known],
    )

    assert [(one.by, one.kind, one.size) for one in found.anchored] == [
        ("rekor.example", "rekor", 3),
        ("tsa", "rfc3161", 3),
        ("witness.example/w1", "witness", 3),
        ("witness.example/w1", "witness", 303),
    ]
    assert (found.size(), found.size(2), found.size(3), found.size(4)) == (303, 3, 3, 0)
    assert (found.unvouched, found.witnessed_size) == (2, 303)
    assert not found.problems
    now = datetime.now(UTC)
    assert now - timedelta(minutes=1) < found.not_later_than(0) < now + timedelta(seconds=3)
    assert found.not_later_than(0) <= found.not_later_than(302) <= found.latest
    assert found.not_later_than(303) is None
    assert "303 of 308" in repr(found)
    assert "w1" in found._repr_html_()
    with pytest.raises(ValueError, match="quorum"):
        found.size(0)


@pytest.mark.parametrize("kind", ["a witness", "an entry in Rekor"])
def test_a_bit_flipped_in_a_receipt_gives_nobody_another_say(kind: str) -> None:
    """A changed byte is refused with one of our errors, or says what was said before."""
    vector = json.loads((VECTORS / "kinds.json").read_text())
    given, line = vector["trust"], vector["lines"][kind].encode()
    trust = _trust(given)
    for at in range(len(line)):
        changed = bytearray(line)
        changed[at] ^= 1 << at % 7
        try:
            receipt = Receipt.decode(bytes(changed))
            verify_checkpoint(receipt.note, trust=trust)
            found = _judge(receipt, trust, given)
        except (FormatError, VerificationError):
            continue
        assert found in ([], vector["expect"][kind]), at
        assert receipt.head.size == 5


def test_no_receipts_show_nothing(make_log: Callable, tmp_path: Path) -> None:
    """A directory that is missing anchors nothing."""
    log = make_log(3)

    found = verify_receipts(
        tmp_path / "none", verify_log(log.directory, trust=log.trust), trust=log.trust
    )

    assert (found.size(), found.latest, found.unvouched) == (0, None, 0)


@pytest.mark.parametrize("entries", [2, 3, 4])
def test_a_receipt_proves_a_fork(
    make_log: Callable, make_witness: Callable, tmp_path: Path, entries: int
) -> None:
    """A log that does not continue what its own key signed is refused, whoever vouches."""
    log = make_log(3)
    one = make_witness(log.trust)
    append_receipt(tmp_path / "r", "w1", one.anchor.submit(Head.read(log.log)))
    other = make_log(entries, name="other", signer=log.signer, begin=1)
    verified = verify_log(other.directory, trust=log.trust)

    with pytest.raises(ConsistencyError, match=r"rolled back|forked"):
        verify_receipts(tmp_path / "r", verified, trust=log.trust)


def test_a_bad_receipt_counts_for_nothing(
    make_log: Callable, make_witness: Callable, tmp_path: Path
) -> None:
    """What does not parse, or is not signed as it says, is a problem; strict raises it."""
    log = make_log(3)
    one = make_witness(log.trust)
    good = one.anchor.submit(Head.read(log.log))
    note = log.log.checkpoint_note()
    vkey = one.witness.vkey
    forged = Note.decode(note)
    forged = replace(
        forged,
        signatures=(*forged.signatures, NoteSignature(vkey.name, vkey.key_id, bytes(72))),
    )
    stranger = make_log(3, name="other")
    foreign = make_log(3, name="third", origin="third.example")
    (third,) = foreign.trust.identities
    both = Trust((*log.trust.identities, replace(third, name="third")))
    lines = {
        1: (b"{}", FormatError),
        2: (Receipt("witness", forged.encode(), {}).encode()[:-1], SignatureError),
        3: (
            Receipt("witness", stranger.log.checkpoint_note(), {}).encode()[:-1],
            VerificationError,
        ),
        4: (
            Receipt("witness", foreign.log.checkpoint_note(), {}).encode()[:-1],
            VerificationError,
        ),
        5: (b"x" * (2 * MAX_LINE), FormatError),
    }
    (tmp_path / "r").mkdir()
    path = tmp_path / "r" / "w1.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line, _ in lines.values()) + good.encode())
    verified = verify_log(log.directory, trust=log.trust)

    found = verify_receipts(tmp_path / "r", verified, trust=trusting(both, one.witness))

    assert list(lines) == [p.line for p in found.problems]
    assert all(isinstance(p.error, lines[p.line][1]) for p in found.problems)
    assert found.size() == 3
    with pytest.raises(FormatError):
        verify_receipts(tmp_path / "r", verified, trust=trusting(both, one.witness), strict=True)


def test_a_time_in_the_future_does_not_count(
    make_log: Callable, make_witness: Callable, tmp_path: Path
) -> None:
    """A cosignature from next year is a problem, not a bound."""
    log = make_log(3)
    one = make_witness(log.trust)
    note = log.log.checkpoint_note()
    line = sign_cosignature(
        note, one.signer, name=one.name, at=datetime.now(UTC) + timedelta(days=365)
    )
    opened = Note.decode(note)
    cosigned = Note(opened.text, (*opened.signatures, line)).encode()
    append_receipt(tmp_path / "r", "w1", Receipt("witness", cosigned, {}))

    found = verify_receipts(
        tmp_path / "r",
        verify_log(log.directory, trust=log.trust),
        trust=trusting(log.trust, one.witness),
    )

    assert not found.anchored
    assert isinstance(found.problems[0].error, ThresholdError)


def test_several_authorities_may_be_trusted(
    make_log: Callable, make_authority: Callable, tmp_path: Path
) -> None:
    """The authority whose roots fit vouches, wherever it is in the list."""
    log = make_log(3)
    one, two = make_authority("one"), make_authority("two")
    append_receipt(tmp_path / "r", "two", two.anchor.submit(Head.read(log.log)))
    verified = verify_log(log.directory, trust=log.trust)

    both = [one.authority, two.authority]
    found = verify_receipts(tmp_path / "r", verified, trust=log.trust, authorities=both)
    wrong = verify_receipts(tmp_path / "r", verified, trust=log.trust, authorities=both[:1])

    assert ["two"] == [one.by for one in found.anchored]
    assert isinstance(wrong.problems[0].error, SignatureError)


def test_verified_receipts_are_made_by_a_verification_only() -> None:
    """There is no constructor."""
    with pytest.raises(TypeError, match="verification only"):
        VerifiedReceipts()


def test_a_check_of_the_caller_s_judges_notes(
    make_log: Callable, make_witness: Callable, tmp_path: Path
) -> None:
    """Where keys follow each other in another way, the caller says whose a note is."""
    log = make_log(3)
    one = make_witness(log.trust)
    append_receipt(tmp_path / "r", "w1", one.anchor.submit(Head.read(log.log)))
    verified = verify_log(log.directory, trust=log.trust)
    seen: list[str] = []

    def check(note: str) -> object:
        seen.append(note)
        return verify_checkpoint(note, trust=log.trust)

    stranger = generate("ed25519", purposes={"log"}).verifier
    empty = Trust(
        (Identity(name="x", verifier=stranger, roles=frozenset({"log"}), origin="x.example"),)
    )
    found = verify_receipts(
        tmp_path / "r", verified, trust=trusting(empty, one.witness), check=check
    )

    assert found.size() == 3
    assert len(seen) == 1
