"""Laws of signed notes: second signatures, cosignatures, chains of keys, sealed tails."""

import hashlib
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from secureml import keys
from secureml.errors import FormatError, SecureMLError, ThresholdError, VerificationError
from secureml.evidence.epochs import (
    EpochLeaf,
    epoch_body,
    join_notes,
    split_notes,
    verify_epochs,
)
from secureml.evidence.notes import add_signatures, sign_checkpoint, verify_checkpoint
from secureml.evidence.tail import Tail, fold_tail, sizes_of
from secureml.evidence.trust import Identity, Trust
from secureml.evidence.witness import Witness, sign_cosignature, verify_cosignatures
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.cosignature import join_timestamp, split_timestamp
from secureml.wire.note import COSIGNATURE, MLDSA44, VKey

LOG = "log.example/laws"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIRST = keys.generate("ed25519", purposes={"audit"})
SECOND = keys.generate("mldsa-44", purposes={"audit"})
EPOCHS = [keys.generate("ed25519", purposes={"audit"}) for _ in range(6)]
SCHEMES = {"ed25519": COSIGNATURE, "mldsa-44": MLDSA44}
SIGNERS = [
    keys.generate(scheme, purposes={"witness"})
    for scheme in ("ed25519", "ed25519", "mldsa-44", "ed25519")
]
WITNESSES = [
    Witness(f"w{n}", VKey(f"w{n}.example", SCHEMES[one.verifier.scheme], one.verifier.raw))
    for n, one in enumerate(SIGNERS)
]
roots = st.binary(min_size=32, max_size=32)
sizes = st.integers(0, (1 << 63) - 1)


def identity(signer: keys.KeySigner, name: str, *, epochs: bool = False) -> Identity:
    """Make the identity of a log's key."""
    return Identity(
        name=name,
        verifier=signer.verifier,
        roles=frozenset({"audit"}),
        origin=LOG,
        epochs=epochs,
    )


BOTH = Trust((identity(FIRST, "first"), identity(SECOND, "second")))
NOTE = sign_checkpoint(Checkpoint(LOG, 7, bytes(32)), FIRST, purpose="audit", also=[SECOND])
COSIGNED = add_signatures(
    NOTE,
    [sign_cosignature(NOTE, one, name=f"w{n}.example", at=NOON) for n, one in enumerate(SIGNERS)],
)


def root_of(size: int) -> bytes:
    """Return what stands for the root of a log of that size."""
    return hashlib.sha256(b"%d" % size).digest()


@given(sizes, roots)
def test_what_both_sign_both_verify(size: int, root: bytes) -> None:
    """Every checkpoint that two keys sign verifies, strictly, with both."""
    note = sign_checkpoint(Checkpoint(LOG, size, root), FIRST, purpose="audit", also=[SECOND])

    found = verify_checkpoint(note, trust=BOTH, role="audit", strict=True)
    assert (size, root, 1) == (found.size, found.root, len(found.also))


@given(st.integers(0, len(COSIGNED.encode()) * 8 - 1))
def test_a_flipped_bit_never_verifies_as_it_was(bit: int) -> None:
    """One bit of a note: refused, or it was in a line of a witness that then does not count."""
    data = bytearray(COSIGNED.encode())
    data[bit // 8] ^= 1 << bit % 8
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    own = len(NOTE.encode()) * 8
    try:
        verify_checkpoint(text, trust=BOTH, role="audit")
        assert bit >= own, "the log's own part"
    except (FormatError, VerificationError):
        pass
    try:
        found = verify_cosignatures(text, WITNESSES, 1, at=NOON)
        names = set(found.names)
    except (FormatError, VerificationError):
        return
    assert names < {"w0", "w1", "w2", "w3"} or bit >= len(NOTE.split("\n\n")[0]) * 8


@given(st.sets(st.integers(0, 3)), st.integers(1, 4), st.permutations(range(4)))
def test_a_quorum_counts_witnesses(signed: set[int], quorum: int, order: list[int]) -> None:
    """So many witnesses as signed are counted, in whatever order their lines stand."""
    lines = [
        sign_cosignature(NOTE, SIGNERS[n], name=f"w{n}.example", at=NOON)
        for n in order
        if n in signed
    ]
    note = add_signatures(NOTE, lines)
    try:
        found = verify_cosignatures(note, WITNESSES, quorum, at=NOON)
    except ThresholdError:
        assert len(signed) < quorum
    else:
        assert [f"w{n}" for n in sorted(signed)] == list(found.names)
        assert len(signed) >= quorum


@given(st.integers(-100_000, 100_000))
def test_the_future_is_five_minutes_away(seconds: int) -> None:
    """A cosignature counts if and only if its time is not more than that ahead."""
    line = sign_cosignature(
        NOTE, SIGNERS[0], name="w0.example", at=NOON + timedelta(seconds=seconds)
    )
    note = add_signatures(NOTE, [line])
    try:
        verify_cosignatures(note, WITNESSES[:1], 1, at=NOON)
    except ThresholdError:
        assert seconds > 300
    else:
        assert seconds <= 300


@given(st.binary(max_size=90))
def test_a_time_and_a_signature_have_one_form(data: bytes) -> None:
    """What is accepted is written back as it was."""
    try:
        timestamp, signature = split_timestamp(data)
    except FormatError:
        return
    assert data == join_timestamp(timestamp, signature)


@given(st.lists(st.integers(2, 40), max_size=5), st.integers(1, 40), st.data())
def test_each_size_has_one_key(lengths: list[int], rest: int, data: st.DataObject) -> None:
    """In a chain of any epochs, a checkpoint is good by one key and by no other."""
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    head = (ends[-1] if ends else 0) + rest
    notes, leaves = [], []
    for number, end in enumerate(ends):
        checkpoint = Checkpoint(LOG, end, root_of(end))
        notes.append(sign_checkpoint(checkpoint, EPOCHS[number], purpose="audit"))
        low = ends[number - 1] if number else 0
        index = data.draw(st.integers(low, end - 1))
        body = epoch_body(number + 1, LOG, EPOCHS[number + 1].verifier)
        leaves.append(EpochLeaf(index, body))
    first = identity(EPOCHS[0], "log", epochs=True)
    last = sign_checkpoint(
        Checkpoint(LOG, head, root_of(head)), EPOCHS[len(ends)], purpose="audit"
    )

    chain, verified = verify_epochs(
        first, trust=Trust((first,)), leaves=leaves, notes=notes, head=last, roots=root_of
    )

    assert head == verified.size
    size = data.draw(st.integers(0, head + 10))
    good = sum(1 for end in ends if end < size)
    for number in range(len(ends) + 1):
        checkpoint = Checkpoint(LOG, size, root_of(size))
        note = sign_checkpoint(checkpoint, EPOCHS[number], purpose="audit")
        try:
            chain.verify(note)
        except VerificationError:
            assert number != good
        else:
            assert number == good


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=6), st.data())
def test_notes_are_a_prefix_code(counts: list[int], data: st.DataObject) -> None:
    """A file of notes that is cut anywhere yields the whole ones, and says what is left."""
    notes = [
        sign_checkpoint(Checkpoint(LOG, count, root_of(count)), FIRST, purpose="audit")
        for count in counts
    ]
    text = join_notes(notes)
    cut = data.draw(st.integers(0, len(text)))

    whole, left = split_notes(text[:cut])
    assert notes[: len(whole)] == whole
    assert text[:cut] == join_notes(whole) + left
    assert (not left) == (text[:cut] == join_notes(notes[: len(whole)]))


@given(st.text(alphabet="a\n\u2014 +0", max_size=80))
def test_other_text_is_no_notes(text: str) -> None:
    """Arbitrary text raises nothing but a FormatError."""
    try:
        notes, left = split_notes(text)
    except FormatError:
        return
    assert text == join_notes(notes) + left


@given(st.binary(max_size=40))
def test_steps_have_one_spelling(data: bytes) -> None:
    """What is read as steps grows, and no other bytes say the same."""
    try:
        found = sizes_of(data)
    except FormatError:
        return
    assert found == sorted(set(found))
    spelled = b""
    for old, new in zip([0, *found], found, strict=False):
        step = new - old
        while step > 127:
            spelled += bytes([step & 127 | 128])
            step >>= 7
        spelled += bytes([step])
    assert data == spelled


@given(st.binary(min_size=32, max_size=32), st.lists(st.tuples(sizes, roots), max_size=6))
def test_a_tag_is_of_all_its_checkpoints(key: bytes, all_of: list[tuple[int, bytes]]) -> None:
    """No beginning, no other order and no other key has the same tag."""
    tag = fold_tail(key, LOG, all_of)

    assert tag == fold_tail(key, LOG, all_of)
    for end in range(len(all_of)):
        assert tag != fold_tail(key, LOG, all_of[:end])
    if all_of != all_of[::-1]:
        assert tag != fold_tail(key, LOG, all_of[::-1])
    assert not all_of or tag != fold_tail(bytes(32 * [1]), LOG, all_of) or key == bytes(32 * [1])
    assert tag != fold_tail(key, LOG + "x", all_of)


@given(st.binary(max_size=120))
def test_other_bytes_are_no_tail(data: bytes) -> None:
    """Arbitrary bytes are refused, or are their own canonical form."""
    try:
        tail = Tail.decode(data)
    except SecureMLError:
        return
    assert data == tail.encode()
