"""A log whose key is another in each epoch: what verifies, and every way in which it does not."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secureml import keys
from secureml.errors import (
    ConsistencyError,
    ExpiredError,
    FormatError,
    SecureMLError,
    SignatureError,
    ThresholdError,
    UntrustedSignerError,
    VerificationError,
)
from secureml.evidence import checklog
from secureml.evidence._files import Files
from secureml.evidence.epochkeys import EpochKeys
from secureml.evidence.epochs import (
    EpochChain,
    EpochLeaf,
    epoch_body,
    join_notes,
    read_epoch,
    read_notes,
    split_notes,
    verify_epochs,
)
from secureml.evidence.log import Log, VerifiedLog, verify_log
from secureml.evidence.notes import VerifiedCheckpoint, sign_checkpoint, verify_checkpoint
from secureml.evidence.rotation import rotate, verify_rotation
from secureml.evidence.trust import Identity, Position, Trust
from secureml.wire import canonical
from secureml.wire.checkpoint import Checkpoint
from secureml.wire.merkle import leaf_hash, root
from secureml.wire.note import Note, NoteSignature, VKey

ORIGIN = "log.example/epochs"


class Memory(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


def epoch_of(entry: bytes) -> object | None:
    """Return what an entry of these tests says of the next key."""
    return canonical.decode(entry[1:]) if entry.startswith(b"E") else None


def leaf(body: object) -> bytes:
    """Return the entry that says so."""
    return b"E" + canonical.encode(body)  # type: ignore[arg-type]


class World:
    """A log that handed over after some of its entries."""

    def __init__(self, base: Path, *, also: keys.KeySigner | None = None) -> None:
        """Make the first key, and pin it."""
        self.base, self.log_path, self.notes = base, base / "log", base / "epochs/log.notes"
        self.keys = EpochKeys.create(base / "keys", self.notes, origin=ORIGIN, files=Memory())
        first = Identity(
            name="log",
            verifier=self.keys.verifier,
            roles=frozenset({"audit"}),
            origin=ORIGIN,
            epochs=True,
        )
        self.trust = Trust((first,))
        self.also = also
        self.signers: list[keys.KeySigner] = []
        self.entries: list[bytes] = []
        self.kept: list[str] = []
        self.keys.recover(None, [])

    def write(self, *, epochs: int = 2, between: int = 3, last: int = 3) -> None:
        """Write a log of so many handings over, with entries between them, and behind the last."""
        for number in range(epochs):
            self.remember()
            self.add([b"entry %d.%d" % (number, n) for n in range(between)])
            body = self.keys.next()
            self.keys.announce(len(self.entries))
            self.add([leaf(body), b"rides along"])
            assert self.keys.published(self.kept[-1])
        self.remember()
        if last:
            self.add([b"last %d" % n for n in range(last)])

    def remember(self) -> None:
        """Be the thief of the key of this epoch."""
        key = keys.load(self.base / "keys" / f"{self.keys.number:06}.pem", purposes={"audit"})
        self.signers.append(key)

    def add(self, entries: list[bytes]) -> None:
        """Append and publish."""
        with Log.open(
            self.log_path,
            private=self.base / "private",
            origin=ORIGIN,
            signer=self.keys.signer,
            purpose="audit",
            create=True,
            previous=self.keys.previous,
            files=Memory(),
        ) as log:
            for entry in entries:
                log.append(entry, sync=False)
            self.kept.append(log.publish())
        self.entries += entries

    def checkpoint(self, size: int) -> Checkpoint:
        """Return what the log was at a size."""
        return Checkpoint(ORIGIN, size, root(list(map(leaf_hash, self.entries[:size]))))

    def forge(self, number: int, size: int) -> str:
        """Sign a true checkpoint with the key of an epoch."""
        return sign_checkpoint(self.checkpoint(size), self.signers[number], purpose="audit")

    def rewrite(self, entries: list[bytes], signer: keys.KeySigner) -> None:
        """Write the log anew from these entries, with a stolen key."""
        shutil.rmtree(self.log_path)
        private = self.base / "thief"
        shutil.rmtree(private, ignore_errors=True)
        with Log.open(
            self.log_path,
            private=private,
            origin=ORIGIN,
            signer=signer,
            purpose="audit",
            create=True,
            files=Memory(),
        ) as log:
            for entry in entries:
                log.append(entry, sync=False)
        self.entries = entries

    def head(self, note: str) -> None:
        """Put another checkpoint into the directory."""
        (self.log_path / "checkpoint").write_text(note)

    def verify(self, **values: object) -> VerifiedLog:
        """Verify as a stranger who pinned the first key."""
        defaults: dict[str, object] = {
            "trust": self.trust,
            "role": "audit",
            "epochs": self.notes,
            "epoch_of": epoch_of,
        }
        return verify_log(self.log_path, **{**defaults, **values})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for writers that are not there."""
    monkeypatch.setattr(checklog, "_WAIT", 0.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a log of three epochs, the third of which is the present."""
    made = World(tmp_path)
    made.write()
    return made


def test_the_first_key_leads_to_the_last(world: World) -> None:
    """A trust that names the first key verifies a checkpoint that the third one signed."""
    found = world.verify()

    assert (len(world.entries), "log, epoch 2") == (found.size, found.signer.name)
    assert world.entries == list(found.entries)
    chain = found.chain
    assert chain is not None
    assert [(0, -1, 5), (1, 5, 10), (2, 10, None)] == [
        (epoch.number, epoch.above, epoch.upto) for epoch in chain.epochs
    ]
    assert read_notes(world.notes) == [boundary.note for boundary in chain.boundaries]
    assert [signer.verifier for signer in world.signers] == [
        epoch.identity.verifier for epoch in chain.epochs
    ]
    assert "epoch 2" in repr(chain)
    assert world.trust.digest == chain.trust_digest


@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    """None, one or many: the notes may be given as a file or as text."""
    world = World(tmp_path)
    world.write(epochs=epochs)

    found = world.verify()
    assert found.chain is not None
    assert epochs + 1 == len(found.chain.epochs)
    assert found.root == world.verify(epochs=read_notes(world.notes)).root


def test_bundles_between_boundaries(tmp_path: Path) -> None:
    """An epoch of several bundles of entries is searched from its end."""
    world = World(tmp_path)
    world.write(epochs=2, between=700, last=300)

    assert world.verify().size == len(world.entries) == 1_704


def test_a_boundary_may_be_the_last_word(tmp_path: Path) -> None:
    """A log that ends at its boundary is signed by the old key; the note may not be there yet."""
    world = World(tmp_path)
    world.write(last=0)

    for notes in (read_notes(world.notes), read_notes(world.notes)[:-1]):
        found = world.verify(epochs=notes)
        assert found.signer.name == "log, epoch 1"
        assert found.chain is not None
        assert [0, 1, 2] == [epoch.number for epoch in found.chain.epochs]
        assert (10, None) == (found.chain.epochs[-1].above, found.chain.epochs[-1].upto)


def test_every_old_checkpoint_is_good_in_its_epoch(world: World) -> None:
    """Checkpoints kept elsewhere are judged by the key of their own epoch."""
    found = world.verify(remembered=world.kept, anchors=world.kept)

    assert ("checked", 13) == (found.rollback, found.remembered_size)
    chain = found.chain
    assert chain is not None
    for note in world.kept:
        size = chain.verify(note, strict=True).size
        assert size <= 13


# Attacks


def test_an_old_key_is_good_up_to_its_boundary(world: World) -> None:
    """A key that was kept or stolen signs nothing beyond its epoch, nor a later one before it."""
    chain = world.verify().chain
    assert chain is not None
    for number, size in ((0, 6), (0, 13), (1, 11), (1, 5), (1, 3), (2, 10), (2, 5), (2, 0)):
        note = world.forge(number, size)
        with pytest.raises(
            ExpiredError, match=f"key of epoch {number} signed .* of {size} leaves"
        ):
            chain.verify(note)
        with pytest.raises(ExpiredError):
            world.verify(remembered=[note])
    for number in (0, 1):
        world.head(world.forge(number, 13))
        with pytest.raises(ExpiredError, match=f"epoch {number} signed a checkpoint of 13"):
            world.verify()


def test_a_key_that_no_leaf_announces_is_nobody(world: World) -> None:
    """A key of the thief's own is refused, in the directory and among remembered checkpoints."""
    stranger = keys.generate("ed25519", purposes={"audit"})
    note = sign_checkpoint(world.checkpoint(13), stranger, purpose="audit")

    with pytest.raises(UntrustedSignerError, match="no key of this log's chain"):
        world.verify(remembered=[note])
    world.head(note)
    with pytest.raises(UntrustedSignerError, match="no leaf announced"):
        world.verify()


def test_the_present_key_cannot_change_the_past(world: World) -> None:
    """A log written anew with the present key contradicts the boundary of an epoch before."""
    entries = [b"forged", *world.entries[1:]]
    world.rewrite(entries, world.signers[2])

    with pytest.raises(ConsistencyError, match="forked or written anew"):
        world.verify()


def test_the_present_key_cannot_begin_the_chain(world: World) -> None:
    """Without the leaves, the present key is nobody's."""
    world.rewrite([b"forged"] * 3, world.signers[2])

    for notes in ([], read_notes(world.notes)):
        with pytest.raises(VerificationError):
            world.verify(epochs=notes)


def test_a_boundary_note_is_not_left_out(world: World) -> None:
    """Whichever is missing, the log is refused, and the missing one named where it is the last."""
    notes = read_notes(world.notes)

    with pytest.raises(ConsistencyError, match=r"boundary note that ends epoch 1 .* is missing"):
        world.verify(epochs=notes[:1])
    with pytest.raises((UntrustedSignerError, ConsistencyError)):
        world.verify(epochs=[])
    with pytest.raises(VerificationError):
        world.verify(epochs=notes[1:])


def test_a_boundary_note_is_not_replayed(world: World) -> None:
    """Repeated, swapped, of another log or altered: refused."""
    first, second = read_notes(world.notes)
    other = sign_checkpoint(
        Checkpoint("log.example/other", 5, bytes(32)), world.signers[0], purpose="audit"
    )
    altered = second.replace("\n10\n", "\n11\n")

    for notes, kind in (
        ([first, first], ConsistencyError),
        ([first, second, second], ConsistencyError),
        ([second, first], UntrustedSignerError),
        ([first, first, second], ConsistencyError),
        ([other, second], UntrustedSignerError),
        ([first, altered], SignatureError),
        ([first, "nonsense"], FormatError),
    ):
        with pytest.raises(kind):
            world.verify(epochs=notes)


def test_a_boundary_above_the_log_shows_the_cut(world: World) -> None:
    """A log that was cut below a boundary is named as such, at any place."""
    entries = world.entries
    for size in (9, 6, 5):
        world.rewrite(entries[:size], world.signers[0 if size <= 5 else 1])
        with pytest.raises(ConsistencyError, match=f"cut or rolled back(?s:.*)it has {size}"):
            world.verify()


def test_an_epoch_is_announced_once(world: World) -> None:
    """A second leaf with one number is named, and so are one left out and a key used again."""
    again = epoch_body(2, ORIGIN, keys.generate("ed25519").verifier)
    entries = world.entries
    far = epoch_body(4, ORIGIN, keys.generate("ed25519").verifier)
    old = epoch_body(3, ORIGIN, world.signers[0].verifier)
    for body, match in (
        (again, "epoch 2 .* is announced twice"),
        (far, "epoch 3 .* was left out"),
        (old, "announces the key of epoch 0 again"),
    ):
        world.rewrite([*entries, leaf(body)], world.signers[2])
        with pytest.raises(ConsistencyError, match=match):
            world.verify()


@pytest.mark.parametrize("other", ["left out", "used again"])
def test_the_leaf_under_a_boundary_is_the_next(world: World, other: str) -> None:
    """A boundary whose leaf leaves a number out, or names a key that is over, leads nowhere."""
    stranger = keys.generate("ed25519", purposes={"audit"})
    if other == "left out":
        body = epoch_body(4, ORIGIN, stranger.verifier)
    else:
        body = epoch_body(3, ORIGIN, world.signers[0].verifier)
    entries = [*world.entries, leaf(body)]
    world.rewrite(entries, world.signers[2])
    notes = [*read_notes(world.notes), world.forge(2, len(entries))]
    world.rewrite([*entries, b"more"], world.signers[0 if other == "used again" else 2])

    with pytest.raises(ConsistencyError, match=r"was left out|key of epoch 0 again"):
        world.verify(epochs=notes)


def test_an_announcement_is_for_its_log(world: World) -> None:
    """A leaf with a key by another name, of another type or in another form is malformed."""
    key = keys.generate("ed25519").verifier
    vkey = VKey(ORIGIN, 1, key.raw).encode()
    bodies: list[object] = [
        epoch_body(3, "log.example/other", key),
        {"number": 3, "vkey": VKey(ORIGIN, 4, key.raw).encode()},
        {"number": 3, "vkey": vkey + "x"},
        {"number": "3", "vkey": vkey},
        {"number": True, "vkey": vkey},
        {"number": 0, "vkey": vkey},
        {"number": 3},
        {"vkey": vkey},
        "text",
    ]
    for body in bodies:
        with pytest.raises(FormatError):
            read_epoch(body, origin=ORIGIN)
    entries = world.entries
    world.rewrite([*entries, leaf(bodies[0])], world.signers[2])
    with pytest.raises(FormatError, match="malformed"):
        world.verify()
    assert (3, key) == read_epoch({"number": 3, "vkey": vkey, "more": 1}, origin=ORIGIN)


def test_an_epoch_that_began_ends_in_a_note(world: World) -> None:
    """A leaf for the next epoch under a checkpoint that the next key signed, without its note."""
    body = world.keys.next()
    world.keys.announce(len(world.entries))
    world.add([leaf(body), b"rides along"])
    thief = keys.load(world.base / "keys/000003.pem", purposes={"audit"})
    world.keys.published(world.kept[-1])
    world.add([b"more"])
    assert world.verify().signer.verifier == thief.verifier

    with pytest.raises(ConsistencyError, match=r"ends epoch 2 .* is missing"):
        world.verify(epochs=read_notes(world.notes)[:2])


def test_two_epochs_do_not_share_a_boundary(world: World) -> None:
    """Two leaves under one checkpoint: the note between them is missing."""
    third, fourth = (keys.generate("ed25519", purposes={"audit"}) for _ in range(2))
    bodies = [epoch_body(3, ORIGIN, third.verifier), epoch_body(4, ORIGIN, fourth.verifier)]
    world.rewrite([*world.entries, *map(leaf, bodies)], world.signers[2])

    with pytest.raises(ConsistencyError, match=r"ends epoch 2 .* is missing"):
        world.verify()


def test_a_huge_size_costs_nothing(world: World) -> None:
    """A checkpoint that nobody signed is refused before anything of its size is believed."""
    good = Note.decode(world.kept[-1])
    size = 1 << 60
    text = good.text.replace("\n13\n", f"\n{size}\n")
    world.head(Note(text, good.signatures).encode())

    with pytest.raises(VerificationError):
        world.verify()
    world.head(Note(text, (NoteSignature(ORIGIN, b"abcd", bytes(64)),)).encode())
    with pytest.raises(VerificationError):
        world.verify()


def test_only_the_trust_begins_a_chain(world: World) -> None:
    """Without the mark in the trust file, or another first key, notes and leaves lead nowhere."""
    first = world.trust.identities[0]
    plain = Trust(
        (Identity(name="log", verifier=first.verifier, roles=first.roles, origin=ORIGIN),)
    )
    other = Trust(
        (
            Identity(
                name="log",
                verifier=keys.generate("ed25519").verifier,
                roles=first.roles,
                origin=ORIGIN,
                epochs=True,
            ),
        )
    )

    for trust in (plain, other, Trust()):
        with pytest.raises(UntrustedSignerError):
            world.verify(trust=trust)


def test_without_notes_a_chain_is_not_judged(world: World) -> None:
    """Neither the log nor a checkpoint is accepted where only the whole chain could tell."""
    first = world.kept[0]
    for attempt in (
        lambda: world.verify(epochs=None, epoch_of=None),
        lambda: verify_checkpoint(first, trust=world.trust, role="audit"),
    ):
        with pytest.raises(UntrustedSignerError):
            attempt()
    with pytest.raises(UntrustedSignerError, match="first epoch key"):
        verify_checkpoint(first, trust=world.trust, role="audit")
    with pytest.raises(TypeError, match="epoch_of"):
        world.verify(epoch_of=None)


def test_the_mark_is_not_handed_over(world: World) -> None:
    """A rotation does not take the role audit from the first key of a chain."""
    new = keys.generate("ed25519", purposes={"audit"})
    envelope = rotate(world.signers[0], new, ["audit"], name="new", origin=ORIGIN)
    position = Position(ORIGIN, 3, "2026-11-22T08:30:00.000000Z")

    with pytest.raises(UntrustedSignerError, match="chain of epoch keys"):
        verify_rotation(envelope, trust=world.trust, position=position)


def test_other_logs_are_told_apart(world: World) -> None:
    """A checkpoint of another log is not judged by this chain."""
    chain = world.verify().chain
    assert chain is not None
    other = Checkpoint("log.example/other", 1, bytes(32))
    note = sign_checkpoint(other, world.signers[0], purpose="audit")

    with pytest.raises(UntrustedSignerError, match=r"log\.example/other"):
        chain.verify(note)


def test_files_are_missed(world: World) -> None:
    """An entry bundle that the chain leads through, and that is gone, is named."""
    shutil.rmtree(world.log_path / "tile/entries")

    with pytest.raises(SecureMLError, match="tile/entries"):
        world.verify()


def test_a_writer_at_work_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note that is half written, or ahead of the checkpoint, may be a writer's: look again."""
    whole = world.notes.read_bytes()
    looks: list[int] = []
    look = checklog._look

    def patient(*values: object, **named: object) -> object:
        looks.append(len(looks))
        world.notes.write_bytes(whole[: -7 if len(looks) < 3 else None])
        return look(*values, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(checklog, "_look", patient)

    assert world.verify().size == 13
    assert len(looks) == 3


# With a second signature


def test_the_second_signature_goes_through_all_epochs(tmp_path: Path) -> None:
    """An ML-DSA-44 key stays; where the trust names it, each boundary has both lines."""
    second = keys.generate("mldsa-44", purposes={"audit"})
    world = World(tmp_path)
    named = Identity(
        name="second", verifier=second.verifier, roles=frozenset({"audit"}), origin=ORIGIN
    )
    world.write()
    both = Trust((*world.trust.identities, named))

    with pytest.raises(ThresholdError):
        world.verify(trust=both)
    signers = world.signers
    sizes = [Checkpoint.decode(Note.decode(note).text).size for note in read_notes(world.notes)]
    notes = [
        sign_checkpoint(world.checkpoint(size), signer, purpose="audit", also=[second])
        for size, signer in zip(sizes, signers, strict=False)
    ]
    with pytest.raises(ThresholdError):
        world.verify(trust=both, epochs=notes)
    world.head(sign_checkpoint(world.checkpoint(13), signers[2], purpose="audit", also=[second]))
    assert world.verify(trust=both, epochs=notes).size == 13
    with pytest.raises(FormatError):
        world.verify(epochs=notes)


# The file of notes


def test_notes_are_taken_apart_as_they_were_put_together(world: World) -> None:
    """A file of notes has one spelling, and every cut of it leaves whole notes and a rest."""
    notes = read_notes(world.notes)
    text = join_notes(notes)

    assert text == world.notes.read_text()
    assert (notes, "") == split_notes(text)
    for cut in range(len(text)):
        whole, rest = split_notes(text[:cut])
        assert whole == notes[: len(whole)]
        assert text[:cut] == join_notes(whole) + rest
        assert len(whole) == (cut >= len(join_notes(notes[:1]))) + (cut >= len(text))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data + b"\n",
        lambda data: b"\n" + data,
        lambda data: data.replace(b"\n\n", b"\n"),
        lambda data: data[:30] + b"\xff" + data[30:],
        lambda data: data[:30] + b"\0" + data[30:],
        lambda data: data[:-30] + b"\0" + data[-30:],
    ],
)
def test_a_file_of_something_else_is_refused(
    world: World, spoil: Callable[[bytes], bytes]
) -> None:
    """Torn, longer, or with other bytes in it: FormatError."""
    world.notes.write_bytes(spoil(world.notes.read_bytes()))

    with pytest.raises(FormatError):
        read_notes(world.notes)
    with pytest.raises(FormatError):
        world.verify()


def test_no_file_is_no_notes(tmp_path: Path) -> None:
    """A log in its first epoch has none yet."""
    assert [] == read_notes(tmp_path / "none")


@pytest.mark.parametrize(
    ("number", "scheme", "match"), [(0, "ed25519", "epoch 1 and on"), (1, "ecdsa-p256", "ed25519")]
)
def test_what_is_announced_is_checked(number: int, scheme: str, match: str) -> None:
    """The first epoch is not announced, and its keys are Ed25519."""
    with pytest.raises(ValueError, match=match):
        epoch_body(number, ORIGIN, keys.generate(scheme).verifier)


def test_due_by_time_and_by_leaves(tmp_path: Path) -> None:
    """An hour or 65,536 leaves after the boundary, and not while one is announced."""
    world = World(tmp_path)
    now = datetime.now(UTC)
    due = world.keys.due

    assert (False, False, True) == (
        due(now, 0),
        due(now + timedelta(minutes=59), 0),
        due(now + timedelta(minutes=61), 0),
    )
    assert due(now - timedelta(hours=2), 0), "a clock that went back ends an epoch early"
    assert (False, True) == (due(now, 65_535), due(now, 65_536))
    world.write(epochs=1, last=0)
    assert (False, True) == (due(now, 65_540), due(now, 65_541))
    world.keys.next()
    world.keys.announce(5)
    assert not due(now, 1 << 20)


def test_leaves_are_values() -> None:
    """An epoch leaf is its place and what it says."""
    assert EpochLeaf(3, {"number": 1}) == EpochLeaf(3, {"number": 1})


VECTOR = json.loads((Path(__file__).parents[3] / "vectors/epochs/three-epochs.json").read_text())


def judged(**other: object) -> tuple[EpochChain, VerifiedCheckpoint]:
    """Verify the chain of the vector, with some of it replaced."""
    vector: dict[str, Any] = {**VECTOR, **other}
    roots = {**VECTOR["roots"], **vector["roots"]}
    first = Identity(
        name="log",
        verifier=keys.Verifier.from_pem(vector["first"]),
        roles=frozenset({"audit"}),
        origin=vector["origin"],
        epochs=True,
    )
    return verify_epochs(
        first,
        trust=Trust((first,)),
        leaves=[EpochLeaf(one["index"], one["epoch"]) for one in vector["leaves"]],
        notes=vector["notes"],
        head=vector["head"],
        roots=lambda size: bytes.fromhex(roots[str(size)]),
    )


def test_the_chain_of_the_vector() -> None:
    """Each key is good for its own checkpoints, and for no other."""
    chain, head = judged()
    expect = VECTOR["expect"]

    assert VECTOR["source"]
    assert 13 == head.size
    assert expect["epochs"] == [
        {"number": one.number, "above": one.above, "upto": one.upto} for one in chain.epochs
    ]
    assert expect["file"] == join_notes(VECTOR["notes"])
    for note in expect["good"]:
        assert chain.verify(note).note == note
    for note in expect["expired"].values():
        with pytest.raises(ExpiredError):
            chain.verify(note)
    for note in expect["unknown"]:
        with pytest.raises(UntrustedSignerError):
            chain.verify(note)


@pytest.mark.parametrize("name", VECTOR["refused"])
def test_the_vector_refused(name: str) -> None:
    """Each thing that may be wrong with a chain has its code."""
    case = dict(VECTOR["refused"][name])
    code = case.pop("expect")

    with pytest.raises(SecureMLError) as caught:
        judged(**case)
    assert code == caught.value.code, caught.value
