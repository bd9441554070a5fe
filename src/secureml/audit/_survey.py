"""
What a verifier must report about the records of a log, as they go by.

Memory holds what each writer is at, the ids, and what was found: nothing
else, whatever the length of the log.

Source: docs/spec/audit-record.md, section "Types".
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, cast

from secureml.audit._held import Held
from secureml.audit._ids import Ids
from secureml.audit._notes import Notes
from secureml.audit._shapes import Shapes
from secureml.audit._writers import Writer, moment_of, take_number
from secureml.audit.record import PREFIX_SIZE, Record, checked_record, read_prefix
from secureml.clock import format_time
from secureml.errors import FormatError
from secureml.wire.canonical import JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from secureml.audit._profiled import Profiled

__all__ = ["Level", "Survey"]

Level = Literal["records", "sequence"]
"""``records``: each is read and checked.  ``sequence``: writer and number only."""

_RANGES: Final = 4_096
"""Ranges of missing numbers that are remembered for each writer."""
_SHORT: Final = 6
"""Digits of a latency below a second, which does not count as silence."""
_PRUNE: Final = b'"type":"prune"}'
_FINAL: Final = frozenset({"end", "seal"})
_EXPLAINED: Final = frozenset({"clean", "torn"})


class Survey:
    """The state of a verifier of records; `feed` it every leaf, in order."""

    def __init__(
        self, *, level: Level = "records", keep: bool = False, profile: str | None = None
    ) -> None:
        self.level = level
        self.profile = None if profile is None else _profiled(profile)
        self.records: list[Record] | None = [] if keep else None
        self.leaves = 0
        self.count = 0
        self.holes = 0
        self.writers: dict[str, Writer] = {}
        self.types: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.notes = Notes()
        self.add = self.notes.add
        self.ids = Ids()
        self.held = Held()
        self._shapes = Shapes()
        self._bodies = keep or profile is not None
        self._recovered: dict[str, tuple[int, str, int]] = {}
        self._joined: dict[str, tuple[int, int]] = {}
        self._prune: tuple[int, Mapping[str, JSON]] | None = None

    # -- leaves ------------------------------------------------------------------

    def feed(self, first: int, leaves: Sequence[bytes]) -> None:
        """
        Take the next leaves.

        Args:
            first: Position of the first of them in the log.  Where it is not
                where the last call ended, what is between was pruned.
            leaves: Leaves, in order.
        """
        if first != self.leaves:
            self.holes += 1
            self.held.gone.append((self.leaves, first))
        self.leaves = first + len(leaves)
        if self.level == "sequence":
            self._feed_prefixes(first, leaves)
        else:
            self._feed_records(first, leaves)

    def _feed_prefixes(self, first: int, leaves: Sequence[bytes]) -> None:
        writers, holes = self.writers, self.holes
        for index, leaf in enumerate(leaves, first):
            try:
                name, seq = read_prefix(leaf)
                if holes and leaf.endswith(_PRUNE):
                    self._pruned(Record.decode(leaf))
            except FormatError as error:
                self.add("not-a-record", index, f"is no audit record: {error.why}")
                continue
            writer = writers.get(name)
            if writer is None or seq != writer.next or writer.hole != holes:
                self._step(index, name, seq)
                continue
            writer.next = seq + 1
            writer.count += 1
            writer.last = index
            self.count += 1

    def _feed_records(self, first: int, leaves: Sequence[bytes]) -> None:
        read, outcomes, types = self._shapes.read, self.outcomes, self.types
        writers, holes = self.writers, self.holes
        ids: list[str] = []
        for index, leaf in enumerate(leaves, first):
            quick = read(leaf)
            if quick is None:
                ids.append(self._slowly(index, leaf))
                continue
            (_, kind, announced), found = quick
            name, number, identity, time = found.group("writer", "seq", "id", "time")
            seq = int(number, 16)
            writer = writers.get(name)
            if (
                writer is None
                or seq != writer.next
                or seq == 0
                or writer.ended
                or writer.hole != holes
            ):
                writer = self._step(index, name, seq)
                self._begin(index, name, kind, seq)
            else:
                writer.next = seq + 1
                writer.count += 1
                writer.last = index
                self.count += 1
            writer.finished = False
            if time > writer.time:  # noqa: PLR1730  the call would cost as much as the rest here
                writer.time = time
            ids.append(identity)
            types[kind] += 1
            latency = "0"
            if kind == "call":
                outcome, latency = found.group("outcome", "latency")
                outcomes[outcome] += 1
                if announced:
                    self._answered(index, name, writer, found["intent"])
            else:
                writer.intents[identity] = index
            if writer.heartbeat and (time[:19] != writer.second or len(latency) > _SHORT):
                self._wrote(index, name, writer, time, int(latency))
            if self._bodies:
                self._keep(
                    index, checked_record(name, seq, json.loads(found.string[PREFIX_SIZE:]))
                )
        self.ids.extend(first, ids)

    def _slowly(self, index: int, leaf: bytes) -> str:
        """Read one record in full; return its id, or nothing where it is none."""
        try:
            record = Record.decode(leaf)
        except FormatError as error:
            self.add("not-a-record", index, f"is no audit record: {error.why}")
            return ""
        self._shapes.learn(record)
        name, kind, body = record.writer, record.type, record.body
        writer = self._step(index, name, record.seq)
        self._begin(index, name, kind, record.seq)
        writer.finished = kind in _FINAL
        if kind == "clock":
            self._clock(writer, record)
        else:
            writer.time = max(writer.time, record.time)
            if writer.heartbeat:
                latency = (record.latency_us or 0) if kind == "call" else 0
                self._wrote(index, name, writer, record.time, latency)
        self.types[kind] += 1
        if kind == "call":
            self.outcomes[str(body["outcome"])] += 1
            if "intent" in body:
                self._answered(index, name, writer, cast("str", body["intent"]))
        elif kind == "intent":
            writer.intents[record.id] = index
        else:
            self._event(index, name, writer, record)
        if self._bodies:
            self._keep(index, record)
        return record.id

    def _keep(self, index: int, record: Record) -> None:
        if self.records is not None:
            self.records.append(record)
        if self.profile is not None:
            for what in self.profile.take(index, record):
                self.add("profile", index, what)

    # -- writers -----------------------------------------------------------------

    def _step(self, index: int, name: str, seq: int) -> Writer:
        """Compare one record's number with what its writer is at."""
        writer = self.writers.get(name)
        if writer is None:
            writer = self.writers[name] = Writer()
        if writer.hole != self.holes:
            writer.hole = self.holes
            if seq > writer.next:
                # What is between was pruned, if the leaf that says so agrees; see `close`.
                self._joined[name] = index, seq
                writer.base += seq - writer.next
                writer.next = seq
                writer.wrote, writer.second = 0.0, ""
        short = f"writer {name[:8]}…"
        if writer.ended:
            self.add("after-end", index, f"{short} goes on after its end")
        if seq < writer.next:
            if take_number(writer.missing, seq):
                self.add("late", index, f"{short} has number {seq} late, after {writer.next - 1}")
            else:
                self.add("duplicate", index, f"{short} has number {seq} a second time")
        elif seq > writer.next:
            missing = seq - writer.next
            self.add(
                "sequence-gap",
                index,
                f"{short} goes from number {writer.next - 1} to {seq}: "
                f"{missing} record{'s' if missing > 1 else ''} missing",
            )
            if len(writer.missing) < _RANGES:
                writer.missing.append((writer.next, seq))
        writer.next = max(writer.next, seq + 1)
        writer.count += 1
        writer.last = index
        self.count += 1
        return writer

    def _begin(self, index: int, name: str, kind: str, seq: int) -> None:
        if (kind == "start") != (seq == 0):
            self.add(
                "misplaced-start", index, f"writer {name[:8]}… has a {kind!r} as number {seq}"
            )

    def _answered(self, index: int, name: str, writer: Writer, intent: str) -> None:
        if writer.intents.pop(intent, None) is None and not self.holes:
            self.add(
                "unknown-intent",
                index,
                f"names {intent} as its intent, and writer {name[:8]}… has none such open",
            )

    def _wrote(self, index: int, name: str, writer: Writer, time: str, latency: int) -> None:
        """Take note of when a record was written: a call's time is when it began."""
        writer.second = time[:19]
        moment = moment_of(time) + latency / 1e6
        if moment <= writer.wrote:
            return
        seconds, writer.wrote = moment - (writer.wrote or moment), moment
        if seconds > 2 * writer.heartbeat:
            finding = self.add(
                "silence",
                index,
                f"writer {name[:8]}… wrote nothing for {seconds:,.0f} s before this, by its own "
                f"clock; it had promised a record every {writer.heartbeat} s",
            )
            writer.silence = seconds, finding

    def _clock(self, writer: Writer, record: Record) -> None:
        """Take a silence back that a jump of the clock explains."""
        jump = cast("int", _part(record, "clock")["jump_us"]) / 1e6
        if writer.silence is not None and abs(writer.silence[0] - jump) <= 2 * writer.heartbeat:
            self.notes.take_back("silence", writer.silence[1])
        writer.silence = None
        writer.time = record.time
        writer.wrote = moment_of(record.time)

    # -- what is not a call --------------------------------------------------------

    def _event(self, index: int, name: str, writer: Writer, record: Record) -> None:
        kind = record.type
        short = f"writer {name[:8]}…"
        if kind == "start":
            writer.heartbeat = cast("int", _part(record, "start").get("heartbeat_s", 0))
            writer.wrote = moment_of(record.time)
        elif kind == "end":
            writer.ended = True
            said = cast("int", _part(record, "end")["records"])
            there = writer.count + writer.base
            if said != there + writer.skew:
                self.add(
                    "end-count", index, f"{short} ends with {said} records, there are {there}"
                )
        elif kind == "heartbeat":
            said = cast("int", _part(record, "heartbeat")["records"])
            there = writer.count + writer.base
            if said != there + writer.skew:
                self.add(
                    "heartbeat-count",
                    index,
                    f"{short} counts {said} records in a heartbeat, there are {there}",
                )
            writer.skew = said - there
        elif kind == "gap":
            gap = _part(record, "gap")
            writer.dropped += cast("int", gap["dropped"])
            self.add(
                "gap",
                index,
                f"{short} says that {gap['dropped']} records were not accepted: {gap['reason']}",
            )
        elif kind == "disk-full":
            refused = _part(record, "disk_full")["refused"]
            self.add("disk-full", index, f"{short} had no room, and refused {refused} records")
        elif kind == "recovery":
            self._recovery(index, record)
        elif kind == "hold":
            self.held.hold(_part(record, "hold"))
        elif kind == "prune":
            self._pruned(record)
            self.held.prune(index, _part(record, "prune").get("minimum"))

    def _pruned(self, record: Record) -> None:
        prune = _part(record, "prune")
        minimum, writers = prune.get("minimum"), prune.get("writers")
        if type(minimum) is int and isinstance(writers, dict):
            self._prune = minimum, writers

    def _recovery(self, index: int, record: Record) -> None:
        recovery = _part(record, "recovery")
        dead, verdict = cast("str", recovery["writer"]), cast("str", recovery["verdict"])
        self._recovered[dead] = index, verdict, cast("int", recovery["records"])
        if verdict in _EXPLAINED:
            return
        code = {"corrupt": "recovery-corrupt", "gap": "recovery-gap"}.get(verdict)
        what = f"what writer {dead[:8]}… had left was set aside: {verdict}"
        self.add(code or "unknown-verdict", index, what)

    # -- the end -------------------------------------------------------------------

    def close(self, again: Iterable[bytes] | None, now: datetime | None) -> None:
        """
        Judge what only the end of the log shows.

        Args:
            again: The same leaves once more, to name those that share an id.
            now: The auditor's clock, for a log that is still written to.
        """
        self._twice(again)
        for index, what in () if self.profile is None else self.profile.close():
            self.add("profile", index, what)
        if now is None:
            end = max(
                (max(w.wrote, moment_of(w.time)) for w in self.writers.values()), default=0.0
            )
        else:
            end = moment_of(format_time(now))
        for name, writer in self.writers.items():
            recovery = writer.recovery = self._recovered.pop(name, None)
            silent = False
            if writer.finished:
                pass
            elif recovery is not None:
                self._killed(name, writer, recovery)
            elif writer.heartbeat:
                silent = self._silent(name, writer, end)
            if writer.finished or recovery is not None or silent:
                self._unanswered(name, writer)
        for name, (index, seq) in self._joined.items():
            self._compare_joined(index, name, seq)
        for index, what in self.held.removals:
            self.add("prune-under-hold", index, what)
        for name, (index, verdict, records) in self._recovered.items():
            if records and verdict in _EXPLAINED and not self.holes:
                self._miscounted(index, name, records, 0)

    def _compare_joined(self, index: int, name: str, seq: int) -> None:
        """Compare where a writer goes on above a hole with what the last ``prune`` says."""
        if self._prune is None or index < self._prune[0]:
            return
        said = self._prune[1].get(name, 0)
        if said != seq:
            self.add(
                "sequence-gap",
                index,
                f"writer {name[:8]}… goes on at number {seq} above what was pruned; the record "
                f"that says so has {said}",
            )

    def _silent(self, name: str, writer: Writer, end: float) -> bool:
        seconds = end - writer.wrote
        if seconds <= 2 * writer.heartbeat:
            return False
        self.add(
            "silent-writer",
            writer.last,
            f"writer {name[:8]}… promised a record every {writer.heartbeat} s, and wrote none "
            f"after this one for {seconds:,.0f} s: no heartbeat, no end, no recovery",
        )
        return True

    def _unanswered(self, name: str, writer: Writer) -> None:
        code, why = "intent-without-outcome", "went on past it and ended"
        if not writer.finished:
            code, why = "cut-short", "died, and nobody knows how the call ended"
        elif len(writer.intents) <= writer.dropped:
            code, why = "outcome-dropped", "says that it dropped as many records or more"
        for identity, index in writer.intents.items():
            what = f"announces call {identity}, which has no outcome: writer {name[:8]}… {why}"
            self.add(code, index, what)

    def _miscounted(self, index: int, name: str, records: int, there: int) -> None:
        self.add(
            "recovery-count",
            index,
            f"says that {records} records of writer {name[:8]}… were taken over, "
            f"there are {there}",
        )

    def _killed(self, name: str, writer: Writer, recovery: tuple[int, str, int]) -> None:
        index, verdict, records = recovery
        there = writer.count + writer.base
        if verdict in _EXPLAINED and records > there:
            self._miscounted(index, name, records, there)
        self.add(
            "killed-writer",
            writer.last,
            f"writer {name[:8]}… died after this record; leaf {index} accounts for what it "
            f"had left: {verdict}",
        )

    def _twice(self, again: Iterable[bytes] | None) -> None:
        across = self.ids.across()
        for index, earlier in self.ids.within:
            self.add("duplicate-id", index, f"has the id of record {earlier}")
        if not across:
            return
        if again is None:
            for identity, places in across.items():
                low, high = places[-1]
                among = ", ".join(f"leaves {a} to {b - 1}" for a, b in places[:4])
                self.add(
                    "duplicate-id",
                    low,
                    f"have the id {identity} that others have too: {among}",
                    place=f"one of the leaves {low} to {high - 1}",
                )
            return
        seen: dict[str, int] = {}
        known = set(self.ids.within)
        for index, leaf in enumerate(again):
            try:
                identity = Record.decode(leaf).id
            except FormatError:
                continue
            if identity in across:
                earlier = seen.setdefault(identity, index)
                if earlier != index and (index, earlier) not in known:
                    self.add("duplicate-id", index, f"has the id of record {earlier}")


def _profiled(name: str) -> "Profiled":
    # Profiles are the smaller part of what is asked for: they are loaded when they are.
    from secureml.audit._profiled import Profiled

    return Profiled(name)


def _part(record: Record, name: str) -> Mapping[str, JSON]:
    return cast("Mapping[str, JSON]", record.body[name])
