# ruff: noqa: ANN401  the rig is loaded from a file
"""Encrypted values lie in lines of their own version, and are checked with keys or without."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from secureml import audit
from secureml.audit.checkdetails import captured
from secureml.audit.details import (
    Detail,
    Encrypted,
    Sealed,
    line_id,
    read_details,
    read_segment,
    segments,
    strangers,
)
from secureml.errors import DigestMismatchError, FormatError, VerificationError
from secureml.sealing import SubjectKey, SubjectKeys

_spec = spec_from_file_location("sealed_rig", Path(__file__).with_name("sealed_rig.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(name="sealed_rig")
rigs = module_from_spec(_spec)
_spec.loader.exec_module(rigs)

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors/sealed-values/lines.json").read_text(encoding="utf-8")
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Any]:
    """Return a log of six calls: three of alice, two of bob, one of carol in the clear."""
    made = rigs.Rig(tmp_path / "evidence")
    for number in range(3):
        made.call("alice", f"alice {number}", more={"n": number})
    made.call("bob", "bob 0")
    made.call("bob", "bob 1", more={"n": 1})
    made.call("carol", "in the clear", sealed=False)
    yield made
    made.close()


def lines_of(rig: Any) -> tuple[Path, list[bytes]]:
    """Return the only segment, and its lines."""
    (path,) = rig.details.iterdir()
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda c: c["why"])
def test_lines_of_the_specification_are_read(case: dict[str, Any]) -> None:
    """Each line is read as the specification says, and is its own spelling."""
    assert VECTORS["source"]
    line = case["line"].encode()

    detail = Detail.decode(line)

    expect = case["expect"]
    assert detail.encode() == line
    assert detail.id == line_id(line) == expect["id"]
    assert {p: e.ciphertext.hex() for p, e in detail.encrypted.items()} == {
        p: e["ciphertext"] for p, e in expect["encrypted"].items()
    }
    assert {p: v.encoded.hex() for p, v in detail.values.items()} == {
        p: v["value"] for p, v in expect["values"].items()
    }


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda c: c["why"])
def test_other_lines_are_refused(case: dict[str, Any]) -> None:
    """What is not in the one form is malformed, whatever it is."""
    with pytest.raises(FormatError) as caught:
        Detail.decode(case["line"].encode())

    assert caught.value.code == case["expect"]


def test_the_leaf_of_the_specification_opens() -> None:
    """Ciphertext, key and commitment of the vectors belong together."""
    leaf = VECTORS["leaf"]
    line = Detail.decode(VECTORS["good"][0]["line"].encode())
    box = line.encrypted[leaf["path"]]

    plaintext = SubjectKey(box.key, bytes.fromhex(leaf["key"])).decrypt(
        box, record=leaf["record"], path=leaf["path"]
    )

    sealed = Sealed.of_plaintext(plaintext)
    assert (sealed.commitment, box.ref) == (leaf["entry"]["commitment"], leaf["entry"]["ref"])
    assert sealed.encoded[9:].decode() == leaf["expect"]


def test_a_line_without_ciphertext_is_as_before() -> None:
    """Nothing changes, byte for byte, where nothing is encrypted."""
    sealed = Sealed(bytes(32), b"x")
    name = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"

    line = Detail(name, {"a": sealed}).encode()

    assert line == (
        b'{"id":"019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21","v":1,"values":{"a":{"salt":"'
        + b"00" * 32
        + b'","value":"eA=="}}}\n'
    )


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'{"id":"x', b'},"id":"', b"\xff" * 99])
def test_a_malformed_line_has_no_id(line: bytes) -> None:
    """The id of a line that is malformed is the id of no record, and nothing raises."""
    assert len(line_id(line)) < 99


def test_a_path_that_looks_like_an_id_is_none() -> None:
    """A path may hold any text: the id is read from where it stands."""
    name = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"
    box = Encrypted("ab" * 16, b"x" * 28)

    for path in ('},"id":"00000000', "id", '"', "\\", '"}},"id":"'):
        line = Detail(name, {}, {path: box}).encode()
        assert line_id(line) == Detail.decode(line).id == name


def test_segments_have_names_of_writers(tmp_path: Path) -> None:
    """Old numbers and new names stand side by side, each sequence in its order."""
    writer, other = "0a" * 16, "fe" * 16
    names = ["000000", "000009", "1000000", f"{writer}-2", f"{writer}-10", f"{other}-0", writer]
    for name in names:
        (tmp_path / f"{name}.jsonl").touch()
    for name in (".x.jsonl", "A.jsonl", "a" * 64 + ".jsonl", "x.json", "-a.jsonl"):
        (tmp_path / name).touch()

    assert set(segments(tmp_path)) == set(names)
    assert [n for n in segments(tmp_path) if n != writer] == [n for n in names if n != writer]
    assert len(strangers(tmp_path)) == 5


def test_ciphertexts_are_checked_without_keys(rig: Any) -> None:
    """Everybody can check that a ciphertext is the one recorded, and no more."""
    report = rig.report()

    assert report.findings == ()
    assert (report.values, report.encrypted, report.erased) == (5, 5, 0)
    assert "encrypted, not opened" in report._repr_html_()


def test_values_are_opened_with_keys(rig: Any) -> None:
    """Who has the keys opens every commitment."""
    report = rig.report(keys=rig.keys)

    assert report.findings == ()
    assert (report.values, report.encrypted, report.erased) == (10, 0, 0)
    assert b"alice 1" not in rig.all_bytes()
    assert base64.b64encode(b"alice 1")[:8] not in rig.all_bytes()


def flip(line: bytes, path: str = "prompt") -> bytes:
    """Flip a bit of a ciphertext."""
    detail = Detail.decode(line)
    box = detail.encrypted[path]
    changed = bytearray(box.ciphertext)
    changed[20] ^= 1
    return Detail(
        detail.id, detail.values, {**detail.encrypted, path: Encrypted(box.key, bytes(changed))}
    ).encode()


def with_(line: bytes, **change: Any) -> bytes:
    """Return the line with other fields."""
    detail = Detail.decode(line)
    fields = {"id": detail.id, "values": detail.values, "encrypted": detail.encrypted, **change}
    return Detail(**fields).encode()


def other_key(line: bytes) -> bytes:
    """Name another key."""
    box = Detail.decode(line).encrypted["prompt"]
    return with_(line, encrypted={"prompt": Encrypted("00" * 16, box.ciphertext)})


ATTACKS: list[tuple[Callable[[list[bytes]], list[bytes]], str]] = [
    (lambda x: [flip(x[0]), *x[1:]], "the value of 'prompt' was changed"),
    (lambda x: [other_key(x[0]), *x[1:]], "the value of 'prompt' was changed"),
    (
        lambda x: [
            with_(x[0], encrypted=Detail.decode(x[1]).encrypted),
            with_(x[1], encrypted=Detail.decode(x[0]).encrypted),
            *x[2:],
        ],
        "the value of 'prompt' was changed",
    ),
    (lambda x: [with_(x[0], encrypted={}), *x[1:]], "is missing, or is not encrypted"),
    (
        lambda x: [with_(x[0], encrypted={}, values={"prompt": Sealed(bytes(32), b"x")}), *x[1:]],
        "is missing, or is not encrypted",
    ),
    (
        lambda x: [
            *x[:5],
            with_(x[5], encrypted={"more": Encrypted("00" * 16, b"x" * 28)}),
        ],
        "the details have a value for 'more'",
    ),
    (lambda x: x[1:], "its details are missing, and no erasure is recorded"),
    (lambda x: [*x, x[0]], "line 7 .* belongs to no record, or is a copy"),
    (lambda x: [*x, x[0][:-9]], "line 7 .* is malformed"),
]


@pytest.mark.parametrize(("attack", "expected"), ATTACKS)
def test_changed_ciphertexts_are_found(
    rig: Any, attack: Callable[[list[bytes]], list[bytes]], expected: str
) -> None:
    """A ciphertext that was edited, moved, added or removed is a finding, keys or none."""
    path, lines = lines_of(rig)
    path.write_bytes(b"".join(attack(lines)))

    for keys in (None, rig.keys):
        records = rig.records()
        with pytest.raises(VerificationError, match=expected):
            audit.check_details(records, rig.details, keys=keys)


def test_every_byte_of_an_encrypted_line_counts(rig: Any) -> None:
    """A bit flipped anywhere in the details is found without any key."""
    path, lines = lines_of(rig)
    records = rig.records()
    data = b"".join(lines)

    for place in range(0, len(data), 11):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert audit.survey_details(records, rig.details).findings, place


def test_a_key_that_vanished_is_a_finding(rig: Any) -> None:
    """A key destroyed without an erasure in the log is found by who looks for the keys."""
    person = rig.pseudonyms.of("bob")
    rig.keys.shred(rig.keys.ids(person))

    assert rig.report().findings == ()
    report = rig.report(keys=rig.keys)

    assert [str(f)[44:] for f in report.findings] == [
        f"the value of 'prompt' cannot be opened: its key {key[:8]}… is gone, and no erasure is "
        "recorded"
        for record in rig.records()
        if record.actor == person
        for key in [captured(record)["prompt"].key]
    ]


def test_a_false_commitment_is_found_with_keys(rig: Any) -> None:
    """A writer that encrypted something else than it committed to is found by who has the keys."""
    person = rig.pseudonyms.of("dora")
    name = "019d1c3a-7b1e-7c44-9a53-0d1f4b7e9c21"
    said, put = Sealed.of(b"N" + bytes(8)), Sealed.of(b"T" + bytes(8))
    for plaintext, expected in [
        (put.plaintext, "was changed"),
        (b"short", "cannot be opened: an encrypted value begins with a salt"),
    ]:
        made = rigs.Rig(rig.root.with_name(f"other{len(plaintext)}"))
        box = made.keys.encrypt(person, plaintext, record=name, path="p")
        entry = {"alg": "hmac-sha256", "commitment": said.commitment}
        made.append(
            {
                "type": "call",
                "action": "a",
                "call": {"kind": "function", "name": "f"},
                "latency_us": 0,
                "outcome": "ok",
                "in": {"p": {**entry, "key": box.key, "ref": box.ref}},
                "details": {"segment": "x"},
                "record": {"id": name},
            }
        )
        (made.details / "x.jsonl").write_bytes(Detail(name, {}, {"p": box}).encode())

        assert made.report().encrypted == 1
        (finding,) = made.report(keys=made.keys).findings
        assert expected in str(finding)
        made.close()


def test_values_are_shown_with_keys(rig: Any) -> None:
    """An encrypted value is opened and compared as any other, by who has the keys."""
    record = next(r for r in rig.records() if r.type == "call")

    assert audit.open_value(record, rig.details, "prompt", keys=rig.keys) == "alice 0"
    assert audit.open_value(record, rig.details, "n") == 0
    assert audit.matches_input(record, rig.details, "prompt", "alice 0", keys=rig.keys)
    assert not audit.matches_input(record, rig.details, "prompt", "alice 1", keys=rig.keys)
    assert audit.matching_path(record, rig.details, "alice 0", keys=rig.keys) == "prompt"
    assert audit.matching_path(record, rig.details, 0) == "n"
    assert audit.matching_path(record, rig.details, "alice 0") is None
    with pytest.raises(LookupError, match="is encrypted: give the subject keys"):
        audit.open_value(record, rig.details, "prompt")
    with pytest.raises(LookupError, match="did not capture 'x': it captured 'n', 'prompt'"):
        audit.open_value(record, rig.details, "x", keys=rig.keys)
    rig.keys.shred(rig.keys.ids(record.actor))
    with pytest.raises(LookupError, match="destroyed"):
        audit.open_value(record, rig.details, "prompt", keys=rig.keys)


def test_a_changed_value_is_not_shown(rig: Any) -> None:
    """A ciphertext that is not the recorded one is not even decrypted."""
    path, lines = lines_of(rig)
    record = next(r for r in rig.records() if r.type == "call")
    path.write_bytes(b"".join([flip(lines[0]), *lines[1:]]))

    with pytest.raises(DigestMismatchError, match="beside the log is not the one"):
        audit.open_value(record, rig.details, "prompt", keys=rig.keys)
    path.write_bytes(b"".join([with_(lines[0], encrypted={}), *lines[1:]]))
    with pytest.raises(LookupError, match="it was erased"):
        audit.open_value(record, rig.details, "prompt", keys=rig.keys)


def test_lines_ahead_of_each_writer_are_passed_over(rig: Any) -> None:
    """Beside writers at work, each one's last lines may be ahead of the log; no other may."""
    first, lines = lines_of(rig)
    rig.begin()
    rig.call("alice", "of another writer")
    records = rig.records()
    for path in rig.details.iterdir():
        with path.open("ab") as file:
            file.write(b"the next li")

    assert audit.check_details(records, rig.details, open_end=True).encrypted == 6
    assert len(audit.survey_details(records, rig.details).findings) == 2
    first.write_bytes(b"".join([lines[0], b"stray\n", *lines[1:]]))
    with pytest.raises(VerificationError, match=r"line 2 .* is malformed"):
        audit.check_details(records, rig.details, open_end=True)


def test_one_encrypted_record_alone(rig: Any) -> None:
    """A record's line is found among others of both versions."""
    records = [r for r in rig.records() if r.type == "call"]
    path, _ = lines_of(rig)

    for record in records:
        detail = read_details(rig.details, path.stem, record.id)
        assert detail is not None
        assert detail.id == record.id
        found = audit.check_details([record], rig.details, partial=True, keys=rig.keys)
        assert found.values == len(captured(record))
    assert len(list(read_segment(rig.details, path.stem))) == 6


def test_a_wrong_master_key_is_said(rig: Any) -> None:
    """Keys that cannot be read are findings with their reason, not a crash of the verifier."""
    other = SubjectKeys(rig.private, master=os.urandom(32))

    report = rig.report(keys=other)

    assert len(report.findings) == 5
    assert "it is not wrapped, and a master key was given" in str(report.findings[0])
