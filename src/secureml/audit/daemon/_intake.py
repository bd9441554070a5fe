"""
What the daemon takes from an application, record by record.

The log must stay one that verifies, whatever one application hands in.  So a
record that is none is not written, and not left out in silence either: a gap
record takes its number.  What would make the writer's own sequence wrong, ends
the writer.

Edge: a record is judged by its form.  Whether it is true, nobody here can know.

Source: docs/spec/daemon.md, section "What is taken".
"""

from typing import Final, cast

from secureml.audit._events import event
from secureml.audit._merge import segment_name
from secureml.audit._shapes import Shapes
from secureml.audit.daemon.messages import malformed
from secureml.audit.details import line_id
from secureml.audit.record import MAX_LEAF, PREFIX_SIZE, Record, prefix
from secureml.clock import Clock
from secureml.errors import FormatError
from secureml.evidence._drain import Batch
from secureml.wire.canonical import JSON

__all__ = ["RESERVED", "Inspector"]

RESERVED: Final = frozenset({"epoch", "erasure", "hold", "prune", "recovery", "retention", "seal"})
"""Types that speak about more than their writer: whoever is the log's owner writes them."""

_DETAILS: Final = b'"details":{'


class Inspector:
    """
    Reads the records of one writer before they are written.

    Args:
        writer: 16 bytes.
        shapes: What is known of records that come often; shared by all writers.
        clock: Tells the time.
        ended: Whether its last record was its end.

    Attributes:
        ended: Whether the last record was an end.
        replaced: Records that a gap took the place of.
    """

    def __init__(self, writer: bytes, shapes: Shapes, clock: Clock, *, ended: bool) -> None:
        self.ended = ended
        self.replaced = 0
        self._writer = writer
        self._shapes = shapes
        self._clock = clock

    def inspect(self, batch: Batch) -> tuple[list[bytes], list[bytes]]:
        """
        Return bodies and lines as they are to be written.

        Raises:
            FormatError: The writer breaks its own sequence, and must be refused.
        """
        member = b'"details":{"segment":"%s"}' % segment_name(self._writer, batch.details).encode()
        head = prefix(self._writer.hex(), 0)[: PREFIX_SIZE - 17]
        bodies: list[bytes] = []
        lines: list[bytes] = []
        for number, (body, line) in enumerate(
            zip(batch.bodies, batch.lines, strict=True), batch.first
        ):
            if self.ended:
                raise malformed("a record after the writer's end")
            quick = None
            if number and (not line or member in body):
                quick = self._shapes.read(b"%s%016x\n%s" % (head, number, body))
            if quick is not None:
                why = "" if _fits(line, quick[1].group("id"), _DETAILS in body) else "malformed"
            else:
                why = self._read(number, body, line, member)
            if why:
                self.replaced += 1
                gap: dict[str, JSON] = {"gap": {"dropped": 1, "reason": why}}
                body, line = event("gap", gap, self._clock), b""  # noqa: PLW2901  as it is written
            bodies.append(body)
            lines.append(line)
        return bodies, lines

    def _read(self, number: int, body: bytes, line: bytes, member: bytes) -> str:
        """Return why a record is not written; empty when it is."""
        if len(body) > MAX_LEAF - PREFIX_SIZE:
            raise malformed("a record that is larger than a leaf")
        try:
            record = Record.decode(prefix(self._writer.hex(), number) + body)
        except FormatError:
            if not number:
                raise malformed("the first record of a writer is none") from None
            return "malformed"
        kind = record.type
        if (kind == "start") != (number == 0):
            if not number:
                raise malformed("the first record of a writer is its start")
            return "malformed"
        if kind in RESERVED:
            return "reserved"
        if not _fits(line, record.id, record.segment is not None) or (line and member not in body):
            return "malformed"
        if kind in {"end", "heartbeat"}:
            counted = cast("dict[str, JSON]", record.body[kind])["records"]
            if counted != number + 1:
                return "malformed"
            self.ended = kind == "end"
        self._shapes.learn(record)
        return ""


def _fits(line: bytes, record: str, named: bool) -> bool:  # noqa: FBT001  one fact of three
    """Return whether *line* is one line, and the one of the record."""
    if not line:
        return not named
    return named and line.find(b"\n") == len(line) - 1 and line_id(line) == record
