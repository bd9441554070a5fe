"""
``log``: verify a log, prove an entry, and hand over what an auditor needs.

Nothing that lies in a directory is trusted because it lies there: keys come
from the trust file, and so does what ``log key`` prints.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secureml.cli._ask import add_questions
from secureml.cli._keep import add_keeping
from secureml.cli._places import Place
from secureml.cli._shared import Subparsers, command, say
from secureml.errors import ConsistencyError, UntrustedSignerError

if TYPE_CHECKING:
    from secureml.audit.verification import AuditVerification, Window
    from secureml.evidence.anchors import VerifiedReceipts
    from secureml.evidence.tail import Tail
    from secureml.evidence.trust import Trust

__all__ = ["add_log_commands"]


def add_log_commands(commands: Subparsers) -> None:
    """Add ``log`` and what belongs to it."""
    log = commands.add_parser("log", help="verify, ask, export, prune: everything about a log")
    logs = log.add_subparsers(dest="log_command", metavar="COMMAND", required=True)

    sub = command(logs, "verify", _verify, "rebuild the logs, check signatures and records")
    _directory(sub)
    sub.add_argument(
        "--remembered",
        metavar="NOTE",
        action="append",
        default=[],
        help="a checkpoint kept elsewhere",
    )
    sub.add_argument("--level", choices=["records", "sequence"], default="records")
    sub.add_argument("--profile", metavar="NAME", help="fields that each call has to have")
    sub.add_argument("--strict", action="store_true", help="refuse warnings, too")
    sub.add_argument("--live", action="store_true", help="it is written to: judge silence by now")
    sub.add_argument(
        "--open", action="store_true", help="open encrypted values, with the keys in DIR.private"
    )
    sub.add_argument("--no-details", action="store_true", help="a copy without captured values")
    sub.add_argument(
        "--tail-key",
        type=Path,
        metavar="FILE",
        help="the auditor's, on the machine that writes: was the end cut?",
    )
    sub = command(logs, "prove", _prove, "print a .tlog-proof of a prediction or statement")
    sub.add_argument("directory", metavar="DIR")
    sub.add_argument("id", metavar="ID", help="a prediction's id, or sha256:… of a statement")
    sub.add_argument("--entry", metavar="FILE", help="write the entry's bytes there")
    sub = command(logs, "key", _key, "print the keys of the logs, one line each, for auditors")
    _directory(sub)
    command(logs, "verifier", _verifier, "print the verifier that needs nothing but Python")
    sub = command(logs, "anchors", _anchors, "say who outside has seen the logs, and how far")
    _directory(sub)
    sub.add_argument(
        "--authority",
        metavar="NAME=ROOTS.pem",
        action="append",
        default=[],
        help="whose time stamps count",
    )
    add_questions(logs)
    add_keeping(logs)


def _directory(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("directory", metavar="DIR", help="an evidence directory, or a log in it")
    sub.add_argument("--trust", metavar="FILE", help="default: trust.toml in DIR.private")


# -- verify --------------------------------------------------------------------


def _verify(args: argparse.Namespace) -> dict[str, object]:
    places, trust = Place.trusted(args.directory, args.trust)
    given = [Path(name).read_text("utf-8") for name in args.remembered]
    _refuse_foreign(given, places)
    key = None if args.tail_key is None else _tail_key(args.tail_key)
    found: list[dict[str, object]] = []
    failed: list[AuditVerification] = []
    for place in places:
        notes = [*given, *place.layout.remembered()]
        mine = [note for note in notes if note.startswith(place.origin + "\n")]
        if place.role == "log":
            found.append(_verify_statements(args, place, trust, mine))
            continue
        # Read before the log is: what is published meanwhile is then not missed.
        tail = None if key is None else _tail(place)
        audit = _verify_audit(args, place, trust, mine)
        say(args, audit)
        ok = audit.ok and not (args.strict and audit.findings)
        found.append({**audit.to_dict(), "ok": ok})
        if not ok:
            failed.append(audit)
        elif key is not None and tail is not None:
            found[-1]["tail"] = _check_tail(args, place, audit, key, tail)
    if not args.json:
        for audit in failed:
            audit.enforce(strict=args.strict)
    return {"ok": not failed, "logs": found}


def _refuse_foreign(notes: Sequence[str], places: Sequence[Place]) -> None:
    origins = {place.origin for place in places}
    for note in notes:
        origin = note.split("\n", 1)[0]
        if origin not in origins:
            raise ConsistencyError(
                f"the checkpoint that was given is of the log {origin[:200]!r}",
                why="no log here has its name",
                fix="give the checkpoint of this log; if it is, its log is gone: restore it",
            )


def _tail_key(path: Path) -> bytes:
    from secureml.evidence.tail import KEY_SIZE

    try:
        key = bytes.fromhex(path.read_text("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        msg = f"{str(path)!r} is no key of a sealed tail, 64 hexadecimal digits"
        raise ValueError(msg)
    return key


def _tail(place: Place) -> "Tail":
    from secureml.evidence.keeping import read_tail

    return read_tail(place.path, place.layout.private, origin=place.origin)


def _check_tail(
    args: argparse.Namespace, place: Place, audit: "AuditVerification", key: bytes, tail: "Tail"
) -> dict[str, object]:
    from secureml.evidence.tail import check_tail

    steps = place.layout.tails / f"{place.path.name}.steps"
    checked = check_tail(key, audit.proven, tail, steps)
    say(args, f"its tail is sealed: {checked.size} entries were not cut or changed")
    return {"size": checked.size, "updates": checked.updates, "uncovered": checked.uncovered}


def _verify_statements(
    args: argparse.Namespace, place: Place, trust: "Trust", notes: Sequence[str]
) -> dict[str, object]:
    from secureml.evidence.checklog import verify_log
    from secureml.workspace.beside import judge_receipts, vouched

    log = verify_log(place.path, trust=trust, role="log", remembered=notes)
    covered = vouched(judge_receipts(place.path, log, trust=trust, role="log"), trust)
    say(
        args,
        f"verified {log.origin}: {log.size} entries, root {log.root.hex()}; "
        f"rollback: {log.rollback}" + (f"; others vouch for {covered} entries" if covered else ""),
    )
    return {
        "ok": True,
        "origin": log.origin,
        "size": log.size,
        "root": log.root.hex(),
        "rollback": log.rollback,
        "anchored": covered,
    }


def _verify_audit(
    args: argparse.Namespace, place: Place, trust: "Trust", notes: Sequence[str]
) -> "AuditVerification":
    from secureml.audit.verification import verify_audit
    from secureml.sealing import SubjectKeys
    from secureml.workspace.beside import judge_receipts, vouched

    beside = args.level == "records" and not args.no_details
    found = verify_audit(
        place.path,
        trust=trust,
        remembered=notes,
        level=args.level,
        profile=args.profile,
        details=place.details if beside else None,
        now=datetime.now(UTC) if args.live else None,
        epochs=place.epochs,
        keys=SubjectKeys(place.layout.private) if args.open else None,
    )
    receipts = judge_receipts(place.path, found.proven, trust=trust, role="audit")
    return replace(found, window=_narrowed(found, vouched(receipts, trust)))


def _narrowed(found: "AuditVerification", covered: int) -> "Window":
    """Return what is left of the window behind what others vouch for."""
    from secureml.audit.record import Record

    window = found.window
    if covered <= window.first:
        return window
    begins = None
    if covered < found.size:
        begins = Record.decode(found.proven.entries[_there(found, covered)]).time
    return replace(
        window,
        first=covered,
        size=found.size - covered,
        begins=begins,
        ends=window.ends if begins else None,
    )


def _there(found: "AuditVerification", index: int) -> int:
    """Return the first entry from *index* on that was not pruned."""
    from secureml.evidence.checkpruned import PrunedLog
    from secureml.wire.tiles import WIDTH

    gone = found.proven.gone if isinstance(found.proven, PrunedLog) else frozenset()
    while index // WIDTH in gone:
        index = (index // WIDTH + 1) * WIDTH
    return index


# -- for auditors --------------------------------------------------------------


def _prove(args: argparse.Namespace) -> dict[str, object]:
    from secureml.workspace.proving import prove_entry

    proof, entry = prove_entry(Path(args.directory), args.id)
    if args.entry:
        Path(args.entry).write_bytes(entry)
    if not args.json:
        sys.stdout.write(proof)
    return {"id": args.id, "proof": proof, "entry": args.entry}


def _key(args: argparse.Namespace) -> dict[str, object]:
    places, trust = Place.trusted(args.directory, args.trust)
    found = [row for place in places for row in _vkeys(place, trust)]
    if not found:
        raise UntrustedSignerError(
            f"the trust file names no key for the logs of {args.directory!r}",
            why="no identity in it has the origin " + ", ".join(p.origin[:200] for p in places),
            fix="give the trust file of this directory: --trust trust.toml",
        )
    for row in found:
        say(args, row["vkey"])
    return {"keys": found}


def _vkeys(place: Place, trust: "Trust") -> Iterator[dict[str, Any]]:
    from secureml.wire.note import ED25519, MLDSA44, VKey

    kinds = {"ed25519": ED25519, "mldsa-44": MLDSA44}
    for identity in trust.logs(place.role).get(place.origin, ()):
        kind = kinds.get(identity.verifier.scheme)
        if kind is None:
            continue  # It signs the log's statements, and no checkpoints.
        yield {
            "origin": place.origin,
            "vkey": VKey(place.origin, kind, identity.verifier.raw).encode(),
            "name": identity.name,
            "fingerprint": identity.fingerprint,
            "development": identity.development,
            "epochs": identity.epochs,
            "retired": place.origin in identity.retired,
        }


def _verifier(args: argparse.Namespace) -> dict[str, object]:
    from hashlib import sha256

    from secureml.evidence.standalone import NAME, source

    text = source()
    if not args.json:
        sys.stdout.write(text)
    return {"name": NAME, "sha256": sha256(text.encode()).hexdigest(), "source": text}


def _anchors(args: argparse.Namespace) -> dict[str, object]:
    from secureml.evidence.anchors import Authority
    from secureml.workspace.beside import judge_receipts

    places, trust = Place.trusted(args.directory, args.trust)
    authorities = []
    for given in args.authority:
        name, equals, path = given.partition("=")
        if not equals:
            msg = f"--authority is NAME=ROOTS.pem, not {given!r}"
            raise ValueError(msg)
        authorities.append(Authority(name=name, roots=Path(path).read_text("ascii")))
    rows = []
    for place in places:
        head = _head(place, trust)
        receipts = judge_receipts(
            place.path, head, trust=trust, role=place.role, authorities=authorities
        )
        rows.append(_receipts(args, receipts, trust))
    return {"logs": rows}


def _head(place: Place, trust: "Trust") -> Any:  # noqa: ANN401  one of two
    from secureml.audit.verification import verify_audit
    from secureml.evidence.checklog import verify_log

    if place.role == "log":
        return verify_log(place.path, trust=trust, role="log")
    return verify_audit(place.path, trust=trust, level="sequence", epochs=place.epochs).proven


def _receipts(
    args: argparse.Namespace, receipts: "VerifiedReceipts", trust: "Trust"
) -> dict[str, object]:
    from secureml.clock import format_time
    from secureml.workspace.beside import vouched

    covered = vouched(receipts, trust)
    say(args, f"{receipts.origin}: {receipts.log_size} entries, others vouch for {covered}")
    last = {(one.kind, one.by): one for one in receipts.anchored}
    rows = []
    for (kind, by), one in last.items():
        at = None if one.at is None else format_time(one.at)
        say(args, f"  {kind} {by}: {one.size} entries" + (f", not later than {at}" if at else ""))
        rows.append({"kind": kind, "by": by, "size": one.size, "at": at, "anchor": one.anchor})
    if receipts.unvouched:
        say(args, f"  {receipts.unvouched} receipts by others than the trust and --authority name")
    for problem in receipts.problems:
        say(args, f"  line {problem.line} of {problem.anchor}: {problem.error.what}")
    return {
        "origin": receipts.origin,
        "size": receipts.log_size,
        "anchored": covered,
        "vouchers": rows,
        "unvouched": receipts.unvouched,
        "problems": [
            {
                "anchor": one.anchor,
                "line": one.line,
                "code": one.error.code,
                "what": one.error.what,
            }
            for one in receipts.problems
        ],
    }
