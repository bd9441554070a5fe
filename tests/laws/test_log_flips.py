"""
A bit of an audit log flipped anywhere: refused by `verify_audit`, and located.

Every bit of the public files of a log of 40 entries that real writers wrote: checkpoint,
tiles, bundles and details.  A sample of 20,000 of those of a log of 600; all of them where the
environment says ``SECUREML_ALL_BITS``.  Nothing is copied for a bit: it is flipped in its
place, and flipped back.

Records are read in the pass that hashes them, so for a sample they are read: whatever stands
in a leaf that is not the signed one, only two kinds of error come out.  For the rest the level
is ``sequence``, which costs half.
"""

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secureml import keys
from secureml.audit import AuditLog, audited
from secureml.audit._survey import Level
from secureml.audit.details import Detail
from secureml.audit.verification import AuditVerification, verify_audit
from secureml.errors import FormatError, VerificationError
from secureml.evidence._files import Files
from secureml.evidence.log import Log
from secureml.evidence.trust import Identity, Trust
from secureml.wire import tiles

ORIGIN = "log.example/flips"
SAMPLED = None if os.environ.get("SECUREML_ALL_BITS") else 20_000
PARTS = 6
_PLACE = re.compile(r"\b(?:entry|leaf) ([0-9]+)\b")


class Quick(Files):
    """A disk that is never late."""

    def sync(self, fd: int) -> None:
        """Return at once."""

    def sync_directory(self, path: Path) -> None:
        """Return at once."""


@dataclass(slots=True)
class Place:
    """A log with its details, the trust that names its key, and where each byte belongs."""

    root: Path
    trust: Trust
    spans: dict[str, list[int]] = field(default_factory=dict)
    lines: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def verify(self, name: str, level: Level = "records") -> AuditVerification:
        """Verify what *name* is a file of: the log, or the log and its details."""
        log = self.root / "audit"
        if name.startswith("details"):
            found = verify_audit(log, trust=self.trust, details=self.root / "details")
        else:
            found = verify_audit(log, trust=self.trust, level=level)
        found.enforce(strict=True)
        return found

    def files(self) -> list[str]:
        """Return the public files."""
        tops = (self.root / "audit", self.root / "details")
        found = [path for top in tops for path in sorted(top.rglob("*")) if path.is_file()]
        return [path.relative_to(self.root).as_posix() for path in found]

    def bits(self, *tops: str) -> list[tuple[str, int]]:
        """Return each bit of each public file, or of those that are named."""
        names = [name for name in self.files() if not tops or name.startswith(tops)]
        return [
            (name, bit) for name in names for bit in range(8 * (self.root / name).stat().st_size)
        ]

    def read(self) -> None:
        """Learn which entry or line each byte belongs to."""
        for name in self.files():
            data = (self.root / name).read_bytes()
            if "/entries/" in name:
                at, ends = 0, []
                while at < len(data):
                    at += 2 + int.from_bytes(data[at : at + 2])
                    ends.append(at)
                self.spans[name] = ends
            elif name.startswith("details"):
                at, found = 0, []
                for line in data.splitlines(keepends=True):
                    at += len(line)
                    found.append((at, Detail.decode(line).id))
                self.lines[name] = found

    def entry(self, name: str, byte: int) -> int:
        """Return the entry that a byte of a bundle belongs to, its length counted in."""
        first = 256 * tiles.parse_path(name.removeprefix("audit/")).number
        return first + next(n for n, end in enumerate(self.spans[name]) if byte < end)

    def located(self, name: str, byte: int, text: str) -> bool:
        """Tell whether an error names the place of a byte: entry or line, or one beside."""
        if name in self.spans:
            entry = self.entry(name, byte)
            return any(abs(int(n) - entry) <= 1 for n in _PLACE.findall(text))
        if name in self.lines:
            ends = self.lines[name]
            at = next(n for n, (end, _) in enumerate(ends) if byte < end)
            near = range(max(0, at - 1), min(len(ends), at + 2))
            file = name.removeprefix("details/")
            return any(
                f"line {n + 1} of details/{file}" in text or ends[n][1] in text for n in near
            )
        # Of the checkpoint it is said what is wrong with it, not where it lies.
        return name == "audit/checkpoint" or name.removeprefix("audit/") in text


def write(root: Path, calls: int, settings: int, *, writers: int = 1) -> Place:
    """Write a log of real writers: start, calls with and without values, an intent, end."""
    signer = keys.generate("ed25519", purposes=frozenset({"audit"}))
    trust = Trust(
        (
            Identity(
                name="server", verifier=signer.verifier, roles=frozenset({"audit"}), origin=ORIGIN
            ),
        )
    )
    for _ in range(writers):
        log = Log.open(
            root / "audit",
            private=root / "private",
            origin=ORIGIN,
            signer=signer,
            purpose="audit",
            create=True,
            files=Quick(),
        )
        sink = AuditLog(log, details=root / "details", private=root / "private")
        functions = [
            audited(sink, action="a", capture=["n"])(_answer),
            audited(sink, action="b", require="before")(_answer),
            audited(sink, action="c")(_answer),
        ]
        for n in range(calls):
            functions[min(n // 2, 2)](n)
        for _ in range(settings):
            sink.append({"type": "config", "config": {"name": "c"}})
        sink.close()
    place = Place(root, trust)
    place.read()
    return place


def _answer(n: int) -> int:
    return n


def wrong(place: Place, bits: list[tuple[str, int]], level: Level = "records") -> Iterator[str]:
    """Flip each bit, verify, and flip it back; yields what is wrong with the answers."""
    opened: dict[str, tuple[int, bytes]] = {}
    try:
        for name, bit in bits:
            if name not in opened:
                data = (place.root / name).read_bytes()
                opened[name] = os.open(place.root / name, os.O_WRONLY), data
            fd, data = opened[name]
            at = bit // 8
            os.pwrite(fd, bytes([data[at] ^ 1 << bit % 8]), at)
            try:
                place.verify(name, level)
            except (FormatError, VerificationError) as error:
                if not place.located(name, at, str(error)):
                    yield f"{name} bit {bit} is not located: {error}"
            except Exception as error:  # noqa: BLE001  any other is what this looks for
                yield f"{name} bit {bit}: {type(error).__name__}: {error}"
            else:
                yield f"{name} bit {bit} is accepted"
            os.pwrite(fd, data[at : at + 1], at)
    finally:
        for fd, _ in opened.values():
            os.close(fd)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Place]:
    """Return a function that writes a log, once for each size."""
    made: dict[int, Place] = {}

    def once(calls: int, captured: int, *, writers: int = 1) -> Place:
        if calls not in made:
            made[calls] = write(tmp_path_factory.mktemp("flips"), calls, captured, writers=writers)
        return made[calls]

    return once


def small(make: Callable[..., Place]) -> Place:
    """Return a log of 40 entries: a start, 14 calls, two of them announced, settings, an end."""
    place = make(14, 22)
    found = place.verify("details")

    assert found.size == 40
    assert found.details is not None
    assert found.details.values == 2
    return place


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_bit_of_a_log_counts(make: Callable[..., Place], part: int) -> None:
    """Each bit of checkpoint, tiles and bundles is noticed, with its entry or its file."""
    place = small(make)

    assert list(wrong(place, place.bits("audit")[part::PARTS], "sequence")) == []
    assert place.verify("details").ok


def test_every_bit_of_the_details_counts(make: Callable[..., Place]) -> None:
    """Each bit of the captured values is noticed, with its line or its record."""
    place = small(make)

    assert list(wrong(place, place.bits("details"))) == []
    assert place.verify("details").ok


def test_some_bits_of_a_log_count(make: Callable[..., Place]) -> None:
    """The same as for every bit, for a few thousand, and with the records read."""
    place = small(make)
    drawn = random.Random(7).sample(place.bits(), 2_500)  # noqa: S311  no secret

    assert list(wrong(place, drawn)) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_sampled_bits_of_a_larger_log_count(make: Callable[..., Place], part: int) -> None:
    """The same for a log of 600 entries by three writers, with full tiles and a second level."""
    place = make(96, 100, writers=3)
    assert place.verify("audit").size == 600
    every = place.bits()
    drawn = every if SAMPLED is None else random.Random(20).sample(every, SAMPLED)  # noqa: S311

    assert list(wrong(place, drawn[part::PARTS], "sequence" if SAMPLED else "records")) == []
