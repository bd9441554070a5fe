# ruff: noqa: ANN401  the rig is loaded from a file
"""
After an erasure: what is left for somebody who has every file.

Each attack is made by reading the public and the private directory, as they
are after the keys were shredded, and with the public directory as it was
before: a backup.
"""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secureml.audit.checkdetails import captured, survey_details
from secureml.audit.details import Detail, Encrypted
from secureml.audit.erasing import erase
from secureml.audit.retention import RetentionPolicy, prune, set_policy
from secureml.audit.value import commit, encode
from secureml.sealing import SubjectKeys

_spec = spec_from_file_location(
    "sealed_rig", Path(__file__).parents[1] / "unit/audit/sealed_rig.py"
)
if _spec is None or _spec.loader is None:
    raise ImportError(name="sealed_rig")
rigs = module_from_spec(_spec)
_spec.loader.exec_module(rigs)

ANSWER = "diagnosis: HIV positive"


def forms(text: str) -> list[bytes]:
    """Return how *text* may be spelled in a file."""
    raw = text.encode()
    shifted = [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, raw.hex().encode(), text.encode("utf-16-le"), *shifted]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Any]:
    """Return an audit log with one answer about alice, encrypted, and one of bob."""
    made = rigs.Rig(tmp_path / "evidence")
    made.call("alice", ANSWER)
    made.call("bob", "nothing")
    made.publish()
    yield made
    made.close()


def key_bytes(rig: Any, user: str) -> bytes:
    """Return the key of a person, as it stands in its file."""
    person = rig.pseudonyms.of(user)
    return bytes((rig.keys.directory / person[:2] / person).read_bytes()[45:77])


def test_the_value_is_nowhere_in_the_clear(rig: Any) -> None:
    """CAUGHT BY DESIGN. No file holds the value, before or after its erasure."""
    for _ in range(2):
        everything = rig.all_bytes()
        assert [form for form in forms(ANSWER) if form in everything] == []
        erase(rig, "alice", reason="request", keys=rig.keys)


def test_a_shredded_key_is_in_no_file(rig: Any) -> None:
    """CAUGHT. After the erasure no file holds the key, and every byte string in them fails."""
    key = key_bytes(rig, "alice")
    assert key in rig.all_bytes()

    erase(rig, "alice", reason="request", keys=rig.keys)

    everything = rig.all_bytes()
    assert key not in everything
    record = rig.records()[1]
    (path,) = rig.details.iterdir()
    box = Detail.decode(path.read_bytes().splitlines(keepends=True)[0]).encrypted["prompt"]
    aad = f"secureml-sealed-value/1\n{record.id}{box.key}prompt".encode()
    for at in range(len(everything) - 32):
        with pytest.raises(InvalidTag):
            AESGCM(everything[at : at + 32]).decrypt(box.ciphertext[:12], box.ciphertext[12:], aad)


def test_a_commitment_cannot_be_guessed(rig: Any) -> None:
    """CAUGHT. Who knows that it is one of two values cannot tell which: the salt is gone too."""
    erase(rig, "alice", reason="request", keys=rig.keys)
    commitment = captured(rig.records()[1])["prompt"].commitment
    everything = rig.all_bytes()
    likely = encode(ANSWER)

    salts = {everything[at : at + 32] for at in range(len(everything) - 32)}
    salts |= {bytes.fromhex(m.decode()) for m in re.findall(rb"[0-9a-f]{64}", everything)}

    assert commitment not in {commit(salt, likely).hex() for salt in salts}


def test_a_backup_of_the_public_directory_opens_nothing(rig: Any, tmp_path: Path) -> None:
    """CAUGHT. The ciphertext in a backup stays closed, for its key is in no backup of DIR."""
    shutil.copytree(rig.root, tmp_path / "backup")
    erase(rig, "alice", reason="request", keys=rig.keys)

    report = survey_details(rig.records(), tmp_path / "backup" / "details", keys=rig.keys)

    assert (report.findings, report.values, report.erased) == ((), 1, 1)


def test_a_backup_of_the_private_directory_opens_it(rig: Any, tmp_path: Path) -> None:
    """NOT CAUGHT. Who kept a copy of the keys can open what was erased: the docs say so."""
    shutil.copytree(rig.private, tmp_path / "copy")
    erase(rig, "alice", reason="request", keys=rig.keys)
    (path,) = rig.details.iterdir()
    line = Detail.decode(path.read_bytes().splitlines(keepends=True)[0])

    found = SubjectKeys(tmp_path / "copy").decrypt(
        line.encrypted["prompt"], record=line.id, path="prompt"
    )

    assert ANSWER.encode() in found


def test_with_a_master_key_elsewhere_it_does_not(tmp_path: Path) -> None:
    """CAUGHT. A stolen private directory shows nothing without the master key."""
    rig = rigs.Rig(tmp_path / "evidence", master=os.urandom(32))
    rig.call("alice", ANSWER)
    (path,) = rig.details.iterdir()
    line = Detail.decode(path.read_bytes())
    everything = rig.all_bytes()
    box = line.encrypted["prompt"]
    aad = f"secureml-sealed-value/1\n{line.id}{box.key}prompt".encode()

    for at in range(len(everything) - 32):
        with pytest.raises(InvalidTag):
            AESGCM(everything[at : at + 32]).decrypt(box.ciphertext[:12], box.ciphertext[12:], aad)
    rig.close()


def test_a_ciphertext_under_the_name_of_another_is_found(rig: Any) -> None:
    """CAUGHT. A value cannot be moved under the key, the record or the path of another."""
    (path,) = rig.details.iterdir()
    one, two = (Detail.decode(line) for line in path.read_bytes().splitlines(keepends=True))
    moved = Encrypted(two.encrypted["prompt"].key, one.encrypted["prompt"].ciphertext)

    for change in (one.encrypted["prompt"], moved):
        path.write_bytes(one.encode() + Detail(two.id, {}, {"prompt": change}).encode())
        (finding,) = rig.report(keys=rig.keys).findings
        assert "was changed" in str(finding)


def test_a_key_destroyed_on_the_quiet_is_found(rig: Any) -> None:
    """CAUGHT, with the private directory. NOT CAUGHT without: the ciphertext is as recorded."""
    rig.keys.shred(rig.keys.ids(rig.pseudonyms.of("alice")))

    assert rig.report().findings == ()
    (finding,) = rig.report(keys=rig.keys).findings
    assert "no erasure is recorded" in str(finding)


def test_an_erasure_that_names_a_key_and_does_nothing_is_seen(rig: Any) -> None:
    """SEEN, with the private directory. An erasure that was not carried out is counted."""
    (key,) = rig.keys.ids(rig.pseudonyms.of("alice"))
    rig.append({"type": "erasure", "erasure": {"records": [], "keys": [key]}})

    assert rig.report(keys=rig.keys).unfinished == 1
    assert rig.report().unfinished == 0


def test_what_was_pruned_is_in_no_file(tmp_path: Path) -> None:
    """CAUGHT. Leaves and values below the minimum index are gone, for all but their hashes."""
    rig = rigs.Rig(tmp_path / "evidence")
    ids = [rig.call("alice", ANSWER, sealed=False) for _ in range(300)]
    set_policy(rig, RetentionPolicy())
    rig.publish()
    rig.pass_days(400)

    prune(rig, now=rig.now)

    everything = rig.all_bytes()
    assert [name for name in ids[:255] if name.encode() in everything] == []
    assert all(name.encode() in everything for name in ids[255:])
    rig.close()
