"""Laws of sealed values: what was sealed opens, in its place, and nothing near it does."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureml.audit.details import Detail, Sealed, line_id
from secureml.errors import FormatError, SecureMLError, VerificationError
from secureml.sealing import Encrypted, SubjectKey, SubjectKeys

ids = st.uuids(version=4).map(lambda u: f"{str(u)[:14]}7{str(u)[15:]}")
paths = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
hex32 = st.binary(min_size=16, max_size=16).map(bytes.hex)
KEY = SubjectKey("ab" * 16, os.urandom(32))


@pytest.fixture(scope="module")
def keys() -> Iterator[SubjectKeys]:
    """Return the keys of a directory."""
    with tempfile.TemporaryDirectory() as name:
        yield SubjectKeys(Path(name))


@given(st.binary(max_size=300), ids, paths)
def test_open_undoes_seal(plaintext: bytes, record: str, path: str) -> None:
    """What was sealed for a place opens there, whatever it is."""
    made = KEY.encrypt(plaintext, record=record, path=path)

    assert KEY.decrypt(made, record=record, path=path) == plaintext


@given(st.binary(max_size=40), ids, paths, st.data())
def test_a_flipped_bit_does_not_open(
    plaintext: bytes, record: str, path: str, data: st.DataObject
) -> None:
    """A bit flipped anywhere in nonce, ciphertext or tag is refused, and nothing else raises."""
    made = KEY.encrypt(plaintext, record=record, path=path)
    at = data.draw(st.integers(0, 8 * len(made.ciphertext) - 1))
    changed = bytearray(made.ciphertext)
    changed[at // 8] ^= 1 << at % 8

    with pytest.raises(VerificationError):
        KEY.decrypt(Encrypted(made.key, bytes(changed)), record=record, path=path)


@given(st.tuples(ids, paths), st.tuples(ids, paths))
def test_another_place_does_not_open(one: tuple[str, str], other: tuple[str, str]) -> None:
    """A ciphertext opens at its own record and path only."""
    made = KEY.encrypt(b"x", record=one[0], path=one[1])

    if one == other:
        assert KEY.decrypt(made, record=other[0], path=other[1]) == b"x"
    else:
        with pytest.raises(VerificationError):
            KEY.decrypt(made, record=other[0], path=other[1])


@given(st.binary(max_size=60))
def test_arbitrary_bytes_do_not_open(blob: bytes) -> None:
    """What nobody sealed raises one of our errors."""
    with pytest.raises(SecureMLError):
        KEY.decrypt(Encrypted(KEY.id, blob), record="0" * 36, path="p")


@given(st.lists(hex32, min_size=1, max_size=6), st.binary(max_size=20))
def test_subjects_share_nothing(keys: SubjectKeys, subjects: list[str], data: bytes) -> None:
    """Each subject has one key, and shredding some leaves the values of the others."""
    made = [(s, keys.encrypt(s, data, record="0" * 36, path="p")) for s in subjects]
    assert len({value.key for _, value in made}) == len(set(subjects))
    gone = {s for n, s in enumerate(subjects) if n % 2}

    for subject in gone:
        keys.shred(keys.ids(subject), subject=subject)

    for subject, value in made:
        if subject in gone:
            with pytest.raises(LookupError):
                keys.decrypt(value, record="0" * 36, path="p")
        else:
            assert keys.decrypt(value, record="0" * 36, path="p") == data


sealed = st.builds(Sealed, st.binary(min_size=32, max_size=32), st.binary(max_size=40))
boxes = st.builds(Encrypted, hex32, st.binary(max_size=60))


@given(ids, st.dictionaries(paths, sealed | boxes, max_size=5))
def test_a_line_has_one_spelling(record: str, found: dict[str, Sealed | Encrypted]) -> None:
    """Decoding undoes encoding, for both versions, and a line says whose it is."""
    detail = Detail(
        record,
        {path: one for path, one in found.items() if isinstance(one, Sealed)},
        {path: one for path, one in found.items() if isinstance(one, Encrypted)},
    )

    line = detail.encode()

    assert Detail.decode(line) == detail
    assert line_id(line) == record
    assert (b'"v":2' in line) == bool(detail.encrypted)


@given(ids, st.dictionaries(paths, boxes, min_size=1, max_size=2), st.data())
def test_no_other_line_is_accepted(
    record: str, found: dict[str, Encrypted], data: st.DataObject
) -> None:
    """A line with a byte changed is refused, or is another line in its one spelling."""
    line = bytearray(Detail(record, {}, found).encode())
    line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))

    with contextlib.suppress(FormatError):
        assert Detail.decode(bytes(line)).encode() == line
