"""What vouches for a checkpoint, one fault at a time: everything else about it is right."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from secureml.errors import FormatError, SecureMLError, SignatureError, UntrustedSignerError
from secureml.evidence.anchors import (
    Authority,
    CopyAnchor,
    Folder,
    Head,
    Receipt,
    RekorLog,
    compare_copy,
    verify_receipts,
)
from secureml.evidence.anchors.keeping import append_receipt
from secureml.evidence.anchors.rekor import check_rekor, rekor_holds
from secureml.evidence.anchors.timestamp import stamp_of, stamped_at
from secureml.evidence.log import verify_log
from secureml.evidence.notes import sign_checkpoint
from secureml.keys import generate
from secureml.wire import canonical
from secureml.wire.base64 import b64encode
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import leaf_hash
from secureml.wire.note import Note, NoteSignature
from secureml.wire.tlogproof import TlogProof

NOTE = sign_checkpoint(
    Checkpoint("log.example/edges", 0, sha256(b"").digest()),
    generate("ed25519", purposes={"log"}),
)
REKOR = generate("ed25519", purposes={"log"})
KNOWN = RekorLog(origin="rekor.example", verifier=REKOR.verifier)


def entry(note: str = NOTE, *, kind: str = "hashedrekord", version: str = "0.0.2") -> bytes:
    """Return an entry about a note."""
    data = {"algorithm": "SHA2_256", "digest": b64encode(sha256(note.encode()).digest())}
    body: dict[str, object] = {
        "apiVersion": version,
        "kind": kind,
        "spec": {"hashedRekordV002": {"data": data, "signature": {}}},
    }
    return canonical.encode(body)  # type: ignore[arg-type]


def proof(body: bytes, *, origin: str = "rekor.example") -> TlogProof:
    """Prove that an entry is the only one of a log."""
    checkpoint = Checkpoint(origin, 1, leaf_hash(body))
    return TlogProof(0, (), sign_checkpoint(checkpoint, REKOR))


def test_an_entry_that_is_right_holds() -> None:
    """The entry of these tests is one that counts, until something of it is changed."""
    check_rekor(entry(), proof(entry()), NOTE, KNOWN)


@pytest.mark.parametrize(
    "other", [{"kind": "dsse"}, {"version": "0.0.1"}, {"kind": "other", "version": "0.0.1"}]
)
def test_another_kind_of_entry_names_no_digest(other: dict[str, str]) -> None:
    """What another kind says at the same place is another thing."""
    body = entry(**other)  # type: ignore[arg-type]

    with pytest.raises(FormatError, match="hashedrekord"):
        check_rekor(body, proof(body), NOTE, KNOWN)


def test_the_checkpoint_of_rekor_is_verified() -> None:
    """Name and id of the right key, and somebody else's signature."""
    good = proof(entry())
    note = Note.decode(good.checkpoint)
    [line] = note.signatures
    bad = bytes([line.signature[0] ^ 1]) + line.signature[1:]
    forged = Note(note.text, (NoteSignature(line.name, line.key_id, bad),)).encode()

    with pytest.raises(SignatureError):
        check_rekor(entry(), TlogProof(0, (), forged), NOTE, KNOWN)


def test_the_checkpoint_is_that_of_the_log() -> None:
    """A key of two logs proves for each what is in it, and not what is in the other."""
    other = Checkpoint("other.example", 1, leaf_hash(entry()))
    text = other.encode()
    line = NoteSignature("rekor.example", KNOWN.key_id, REKOR.sign(text.encode(), purpose="log"))
    note = Note(text, (line,)).encode()

    with pytest.raises(UntrustedSignerError, match=r"other\.example"):
        check_rekor(entry(), TlogProof(0, (), note), NOTE, KNOWN)


def test_what_is_not_in_its_log_does_not_count() -> None:
    """A checkpoint of another entry proves nothing about this one."""
    with pytest.raises(SecureMLError):
        check_rekor(entry(), proof(entry("another note")), NOTE, KNOWN)


def test_extra_bytes_in_a_proof_are_refused() -> None:
    """Nothing authenticates them."""
    made = proof(entry())
    values = {"body": b64encode(entry()), "proof": made.encode()}
    rekor_holds(Receipt("rekor", NOTE, values), KNOWN)
    values["proof"] = TlogProof(0, (), made.checkpoint, extra=b"more").encode()

    with pytest.raises(FormatError, match="extra"):
        rekor_holds(Receipt("rekor", NOTE, values), KNOWN)


SHA256_ID, SHA3_ID = (bytes.fromhex(f"06096086480165030402{n}") for n in ("01", "08"))


def test_a_stamp_names_the_hash_that_was_stamped(make_authority: Callable) -> None:
    """A stamp on 32 bytes that are called another hash is no stamp on this SHA-256."""
    client = pytest.importorskip("rfc3161_client")
    one = make_authority()
    config = one.where / "tsa.cnf"
    config.write_text(config.read_text().replace("sha384", "sha3-256"))
    request = (
        client.TimestampRequestBuilder()
        .data(NOTE.encode())
        .hash_algorithm(client.base.HashAlgorithm.SHA256)
        .build()
        .as_bytes()
    )
    assert stamped_at(one.reply(request), NOTE, one.authority)
    token = one.reply(request.replace(SHA256_ID, SHA3_ID))
    assert SHA3_ID in token

    with pytest.raises(FormatError, match="imprint"):
        stamped_at(token, NOTE, one.authority)


def test_an_old_receipt_takes_nothing_back(
    make_log: Callable, make_witness: Callable, tmp_path: Path
) -> None:
    """The order of the lines in a file says nothing: what was anchored stays anchored."""
    log = make_log(3)
    one = make_witness(log.trust)
    first = one.anchor.submit(Head.read(log.log))
    log.grow(4)
    second = one.anchor.submit(Head.read(log.log))
    for receipt in (second, first):
        append_receipt(tmp_path / "r", "w1", receipt)
    trust = replace(log.trust, witnesses=(one.witness,), quorum=1)
    found = verify_receipts(
        tmp_path / "r", verify_log(log.directory, trust=log.trust), trust=trust
    )

    assert [one.size for one in found.anchored] == [7, 3]
    assert (found.size(), found.witnessed_size) == (7, 7)


def test_an_authority_may_have_several_roots(make_log: Callable, make_authority: Callable) -> None:
    """While it changes its root, stamps under either count."""
    log = make_log(1)
    old, new = make_authority("old"), make_authority("new")
    both = Authority(name="tsa", roots=old.authority.roots + new.authority.roots)

    for one in (old, new):
        receipt = one.anchor.submit(Head.read(log.log))
        assert stamp_of(receipt, both)


def test_a_bundle_above_the_minimum_may_not_be_missing(make_log: Callable, tmp_path: Path) -> None:
    """A log that was pruned may lack what was pruned, and nothing behind it."""
    log = make_log(600)
    store = Folder(tmp_path / "share")
    CopyAnchor(name="copy", store=store).submit(Head.read(log.log))
    for name in ("000", "001"):
        (log.directory / "tile" / "entries" / name).unlink()
    report = compare_copy(log.directory, store, trust=log.trust, minimum=256)

    assert [(one.name, "001" in one.what) for one in report.findings] == [("cut", True)]
