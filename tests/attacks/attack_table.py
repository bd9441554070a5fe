"""
The table "attack, caught by, not caught" of ``docs/security-model.md``, as data.

Each row names the test that performs the attack and asserts that exactly these means catch it.
The page has the same rows; a test compares the two, so that neither can say more than is true.
"""

from dataclasses import dataclass
from typing import Final

FILES: Final = "files"
RECORDS: Final = "records"
WARNING: Final = "warning"
DETAILS: Final = "details"
CLOCK: Final = "clock"
EPOCHS: Final = "epochs"
CHECKPOINT: Final = "checkpoint"
RECEIPTS: Final = "receipts"
WITNESS: Final = "witness"
TAIL: Final = "tail"
WRITER: Final = "writer"
CALL: Final = "call"

MEANS: Final = {
    FILES: "every entry is hashed again, every tile compared, under the signed checkpoint",
    RECORDS: "an error in what the records say: numbers, counts, ids, recoveries",
    WARNING: "a warning: the log itself accounts for it (`strict=True` raises)",
    DETAILS: "the values beside the log, held against their commitments (`details=`)",
    CLOCK: "the auditor's clock: a writer that promised to speak and is silent (`now=`)",
    EPOCHS: "epoch keys: the boundary notes, signed by keys that are gone (`epochs=`)",
    CHECKPOINT: "a checkpoint that the auditor kept (`remembered=`)",
    RECEIPTS: "receipts of anchors that are still beside the log, read offline",
    WITNESS: "the witness itself, asked to cosign what is there now",
    TAIL: "the sealed tail, read on the machine, with the auditor's key",
    WRITER: "the machine itself, when it next writes: its own last checkpoint, its keys and tail",
    CALL: "the call is refused: it raises, and nothing is done",
}
"""Each means of an auditor, and what it does."""

ORDER: Final = tuple(MEANS)
HEAD: Final = "| attack | the attacker has | caught by | not caught | open for |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """
    One row.

    Attributes:
        test: The test that performs it, without ``test_``.
        what: The attack.
        has: What the attacker holds.
        caught: Every means that catches it; each does so alone, and no other does.
        missed: Where it is not caught.
        window: For how long it goes unseen, in words or seconds.
    """

    test: str
    what: str
    has: str
    caught: frozenset[str]
    missed: str
    window: str = "–"

    def line(self) -> str:
        """Return the row as the page has it."""
        caught = ", ".join(f"`{one}`" for one in ORDER if one in self.caught) or "nothing"
        return f"| {self.what} | {self.has} | {caught} | {self.missed} | {self.window} |"


def attack(test: str, what: str, has: str, *caught: str, missed: str, window: str = "–") -> Attack:
    """Return one row."""
    return Attack(
        test=test, what=what, has=has, caught=frozenset(caught), missed=missed, window=window
    )


_DIR = "the evidence directory"
_UID = "the same user"
_KEY = "the log's key"
_MACHINE = "the machine"

GROUPS: Final[dict[str, tuple[Attack, ...]]] = {
    "Changing what was logged": (
        attack("an_edited_entry", "an entry edited", _DIR, FILES, missed="–"),
        attack("a_deleted_entry", "an entry deleted", _DIR, FILES, missed="–"),
        attack("an_inserted_entry", "an entry inserted", _DIR, FILES, missed="–"),
        attack("reordered_entries", "entries reordered", _DIR, FILES, missed="–"),
        attack("a_duplicated_entry", "an entry there twice", _DIR, FILES, missed="–"),
        attack("a_replayed_entry", "an old entry appended again", _DIR, FILES, missed="–"),
        attack(
            "an_edited_tile",
            "a tile, a bundle or the checkpoint edited, added, removed, or another log's",
            _DIR,
            FILES,
            missed="–",
        ),
        attack(
            "rewritten_without_the_key",
            "the whole log written anew, under another key",
            _DIR,
            FILES,
            missed="a key that you pinned without comparing its fingerprint",
        ),
        attack(
            "an_edited_value",
            "a captured value edited, moved to another record, or its line deleted",
            _DIR,
            DETAILS,
            missed="a verification without `details=`",
        ),
        attack(
            "an_edited_receipt",
            "a receipt edited",
            _DIR,
            RECEIPTS,
            missed="a verification that reads no receipts",
        ),
        attack(
            "deleted_receipts",
            "receipts deleted",
            _DIR,
            missed="offline, always: nothing says how many there were; who vouched still knows",
            window="until the next receipt",
        ),
        attack(
            "hostile_input",
            "links, FIFOs, devices, huge files, unknown files in the directory",
            _DIR,
            FILES,
            missed="–",
        ),
        attack(
            "bundles_removed_without_a_policy",
            "the beginning removed, and no record says so",
            _DIR,
            FILES,
            missed="–",
        ),
    ),
    "With the log's key": (
        attack(
            "rewritten_with_the_key",
            "the whole log written anew, below the checkpoint that was kept",
            _KEY,
            CHECKPOINT,
            RECEIPTS,
            WITNESS,
            TAIL,
            WRITER,
            missed="a log with one key, and nothing kept elsewhere",
            window="for ever, without anchors",
        ),
        attack(
            "rewritten_in_the_window",
            "what came after the last anchored and kept checkpoint written anew",
            _KEY,
            TAIL,
            WRITER,
            missed="no sealed tail, and no machine that goes on writing",
            window="anchor interval, 60 s",
        ),
        attack(
            "rewritten_by_who_owns_the_machine",
            "the same, with the machine's own memory and the tail made anew",
            "the log's key and the machine",
            CHECKPOINT,
            RECEIPTS,
            WITNESS,
            TAIL,
            missed="no auditor with the tail's first key, and nothing kept elsewhere",
            window="for ever, without anchors",
        ),
        attack(
            "rewritten_below_a_boundary",
            "entries of an earlier epoch written anew, with the present key",
            "the key of the present epoch",
            EPOCHS,
            missed="a log with one key",
        ),
        attack(
            "rewritten_in_the_epoch",
            "entries of the present epoch written anew, below the checkpoint that was kept",
            "the key of the present epoch",
            CHECKPOINT,
            RECEIPTS,
            WITNESS,
            TAIL,
            WRITER,
            missed="without these: everything since the last boundary",
            window="an hour or 65,536 entries",
        ),
        attack(
            "a_key_outside_its_epoch",
            "a longer log, signed by the key of an earlier epoch",
            "a key that should have been destroyed",
            EPOCHS,
            missed="–",
        ),
        attack(
            "a_copy_of_a_destroyed_key",
            "boundary notes cut off, and the log goes on in an earlier epoch",
            "a key that should have been destroyed",
            CHECKPOINT,
            RECEIPTS,
            WITNESS,
            TAIL,
            WRITER,
            missed="without these: the chain of keys is whole, and shorter",
            window="since that epoch",
        ),
        attack(
            "receipts_deleted_to_hide_it",
            "the log written anew, and the receipts deleted",
            "the log's key and the directory",
            CHECKPOINT,
            WITNESS,
            TAIL,
            WRITER,
            missed="offline, without a kept checkpoint or the tail",
        ),
        attack(
            "a_split_view",
            "two auditors shown two logs of one size",
            _KEY,
            CHECKPOINT,
            WITNESS,
            missed="two auditors who never compare, and no witness",
            window="until they compare",
        ),
        attack(
            "split_in_the_window",
            "two auditors shown two ends, behind the last anchored checkpoint",
            _KEY,
            missed="until a checkpoint behind it is anchored, or the two compare",
            window="anchor interval, 60 s",
        ),
        attack(
            "stolen_and_used_honestly",
            "well-formed records appended by the thief",
            _KEY,
            missed="always: only retiring the key in the trust file ends it",
            window="until it is retired",
        ),
    ),
    "Cutting and rolling back": (
        attack(
            "a_cut_tail",
            "the log cut to an older checkpoint of its own",
            _DIR,
            CLOCK,
            CHECKPOINT,
            RECEIPTS,
            WITNESS,
            TAIL,
            WRITER,
            missed="without these: an older state is a valid state",
        ),
        attack(
            "a_cut_in_the_window",
            "the log cut, but not below the kept and anchored checkpoint",
            _DIR,
            CLOCK,
            TAIL,
            WRITER,
            missed="without these: what nobody has seen is not missed",
            window="anchor interval, 60 s",
        ),
        attack(
            "a_cut_after_an_end",
            "the log cut where a writer had ended, receipts cut as well",
            _DIR,
            CHECKPOINT,
            WITNESS,
            TAIL,
            WRITER,
            missed="without these: no writer is missing",
        ),
        attack(
            "a_snapshot_put_back",
            "an older state of the whole machine put back",
            "snapshots of the machine",
            CHECKPOINT,
            WITNESS,
            missed="without memory outside the machine: tail and receipts roll back with it",
            window="for ever",
        ),
        attack(
            "a_snapshot_that_goes_on",
            "an older state put back, and the machine goes on",
            "snapshots of the machine",
            WARNING,
            CHECKPOINT,
            WITNESS,
            missed="as above; the writer that was at work then counts as killed",
            window="for ever",
        ),
        attack(
            "a_tail_destroyed",
            "the tail's key and tag destroyed",
            _MACHINE,
            TAIL,
            WRITER,
            missed="that it is gone is all that is shown: treat it as an attack",
        ),
    ),
    "Between the call and the log": (
        attack(
            "never_audited",
            "the application never calls the audited function",
            "the application",
            missed="always",
        ),
        attack(
            "a_false_statement",
            "the function is given, or returns, something false",
            "the application",
            missed="always: integrity is attested, not truth",
        ),
        attack(
            "an_intent_without_an_outcome",
            'killed in the middle of a call, `require="before"`',
            _UID,
            WARNING,
            missed="how the call ended; without an intent, that there was one",
        ),
        attack(
            "a_kill_with_queued_records",
            "killed right after a call returned, acknowledgement `queued`",
            _UID,
            WARNING,
            missed="which calls, and how many: only that the writer was killed",
            window="50 ms; 0 with `durable`",
        ),
        attack(
            "a_frame_removed_in_the_middle",
            "a record removed from the middle of a spool, before sequencing",
            _UID,
            RECORDS,
            WARNING,
            missed="–",
            window="about 1 s",
        ),
        attack(
            "a_frame_removed_at_the_end",
            "the last records of a killed writer removed from its spool",
            _UID,
            WARNING,
            missed="how many: only that the writer was killed",
            window="about 1 s",
        ),
        attack(
            "a_spool_deleted",
            "the whole spool deleted, with the log still at work",
            _UID,
            CLOCK,
            CALL,
            missed="which records: only that the writer is silent",
            window="two heartbeats, 120 s",
        ),
        attack(
            "a_spool_deleted_and_the_log_went_on",
            "the same, seen once others wrote for two heartbeats",
            _UID,
            RECORDS,
            CALL,
            missed="which records",
            window="two heartbeats, 120 s",
        ),
        attack(
            "a_frame_replaced",
            "a record replaced in the spool, its checksum made good",
            _UID,
            missed="before a checkpoint covers it, always",
            window="about 1 s; milliseconds with `checkpointed`",
        ),
        attack(
            "a_forged_end",
            "the last records replaced by an `end` that counts without them",
            _UID,
            missed="before a checkpoint covers them, always",
            window="about 1 s; milliseconds with `checkpointed`",
        ),
        attack(
            "a_forged_acknowledgement",
            "the writer told that a checkpoint covers its record",
            _UID,
            missed="by the call; the record is merged all the same",
            window="about 1 s",
        ),
        attack(
            "a_writer_of_its_own",
            "records by a program of the same user, as a writer of its own",
            _UID,
            missed="always: who may write, may write",
        ),
        attack(
            "a_spool_that_names_another",
            "a spool whose head names another writer than its file",
            _UID,
            RECORDS,
            missed="–",
        ),
        attack(
            "a_prefix_inside_a_body",
            "a record that pretends to be another writer's",
            _UID,
            RECORDS,
            missed="–",
        ),
        attack(
            "records_after_an_end",
            "a spool under the name of a writer that has ended",
            _UID,
            RECORDS,
            CLOCK,
            missed="–",
        ),
        attack(
            "a_huge_number",
            "a spool that begins with a huge number, to poison the marks",
            _UID,
            RECORDS,
            missed="–",
        ),
        attack(
            "records_that_are_none",
            "a spool with records that are no records, or too long",
            _UID,
            RECORDS,
            missed="–",
        ),
        attack(
            "an_old_spool_replayed",
            "a spool put back after it was merged",
            _UID,
            missed="there is nothing to catch: each number counts once",
        ),
        attack(
            "a_fork_storm",
            "a process that forks in the middle of everything",
            "the application",
            missed="there is nothing to catch: no gap, no duplicate",
        ),
    ),
    "Time": (
        attack(
            "back_dated",
            "a record that says it is older than it is",
            _MACHINE,
            RECEIPTS,
            missed="unless the auditor compares its time with the receipts'; inside one anchor "
            "interval; without anchors, any time",
            window="anchor interval, 60 s",
        ),
        attack(
            "a_clock_set_back",
            "the machine's clock set back while a writer is at work",
            _MACHINE,
            missed="as a finding; a `clock` record in the log says by how much",
        ),
    ),
    "Personal data and retention": (
        attack(
            "a_stolen_private_directory",
            "the private directory copied",
            _MACHINE,
            missed="always; a master key kept elsewhere keeps the values closed",
        ),
        attack(
            "an_erased_value_restored_in_the_details",
            "an erased line put back among the values",
            "a backup of the directory",
            DETAILS,
            missed="a verification without `details=`",
        ),
        attack(
            "an_erased_key_restored",
            "an erased person's key put back, and the values opened",
            "a backup of the private directory",
            missed="in a copy elsewhere, always; in place, by counting with the subject keys",
        ),
        attack(
            "pruned_without_a_policy", "pruning without a policy", "the library", CALL, missed="–"
        ),
        attack(
            "pruned_under_a_hold",
            "pruning or erasing under a legal hold",
            "the library",
            CALL,
            missed="–",
        ),
        attack(
            "a_false_prune_record",
            "entries removed under a `prune` record that no policy justifies",
            "the log's key and the directory",
            missed="what they said, and how old they were; the record, their number and their "
            "hashes stay",
        ),
        attack(
            "a_prune_record_under_a_hold",
            "the same under a legal hold, by other software than ours",
            "the log's key and the directory",
            WARNING,
            missed="once no hold is placed any more: a removal may wait for that; the records of "
            "hold, pruning and release stay",
            window="until the hold is released",
        ),
    ),
}
"""The table, in the order of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """
    One change to the order or number of a log's entries.

    Attributes:
        name: What the test calls it.
        what: The change.
        signed: What catches it by the log alone, where the log was signed anew with its key.
        numbered: The same, where writers' numbers and counts were made to fit as well.
    """

    name: str
    what: str
    signed: frozenset[str]
    numbered: frozenset[str]

    def line(self) -> str:
        """Return the row as the page has it."""
        cells = [
            ", ".join(f"`{one}`" for one in ORDER if one in means) or "nothing"
            for means in (self.signed, self.numbered)
        ]
        return f"| {self.what} | {cells[0]} | {cells[1]} | `{CHECKPOINT}` |"


def mutation(name: str, what: str, signed: str = "", numbered: str = "") -> Mutation:
    """Return one row."""
    return Mutation(
        name=name,
        what=what,
        signed=frozenset(signed.split()),
        numbered=frozenset(numbered.split()),
    )


MUTATIONS: Final = (
    mutation("delete", "an entry deleted", RECORDS),
    mutation("delete_writer", "every entry of a writer deleted"),
    mutation("insert", "an entry inserted", RECORDS),
    mutation("swap", "two entries of one writer swapped", RECORDS),
    mutation("swap_writers", "entries of two writers swapped"),
    mutation("duplicate", "an entry there twice", RECORDS, RECORDS),
    mutation("replay", "an old entry again, later", f"{RECORDS} {CLOCK}", f"{RECORDS} {CLOCK}"),
    mutation("cut_head", "the head cut, in the middle of a writer", RECORDS, RECORDS),
    mutation("cut_head_writer", "the head cut, between two writers"),
    mutation("cut_tail", "the tail cut, in the middle of a writer", CLOCK, CLOCK),
    mutation("cut_tail_writer", "the tail cut, between two writers"),
    mutation("splice", "head of this log, tail of another by the same key"),
    mutation("roll_back", "an older state of the log put back"),
)
"""Structural changes by who has the log's key; without it, `files` catches all but the last."""

ATTACKS: Final = {row.test: row for rows in GROUPS.values() for row in rows}


def structure() -> str:
    """Return the table of structural changes as the page has it."""
    head = "| change | signed anew | and renumbered | with a kept checkpoint |"
    return "\n".join([head, "|---|---|---|---|", *(row.line() for row in MUTATIONS), ""])


def means() -> str:
    """Return the list of means as the page has it."""
    rows = [f"| `{name}` | {what} |" for name, what in MEANS.items()]
    return "\n".join(["| means | what it is |", "|---|---|", *rows, ""])


def markdown() -> str:
    """Return the table as the page has it."""
    lines: list[str] = []
    for title, rows in GROUPS.items():
        lines += [f"### {title}", "", HEAD, "|---|---|---|---|---|"]
        lines += [row.line() for row in rows]
        lines.append("")
    return "\n".join(lines)
