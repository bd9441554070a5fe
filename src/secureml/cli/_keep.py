"""
What is done to a log with its key: ``erase``, ``retention``, ``hold``, ``prune``, ``begin-…``.

What stays and what must not is said by a record that each of them writes; a
passphrase that protects the key is asked for.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secureml.cli._shared import Subparsers, command, say, serving
from secureml.clock import now
from secureml.errors import GateDeniedError

if TYPE_CHECKING:
    from secureml.audit.erasing import Erasure

__all__ = ["add_keeping"]


def add_keeping(logs: Subparsers) -> None:
    """Add the commands that erase, keep and prune."""
    sub = command(logs, "erase", _erase, "erase what was captured about a person")
    _directory(sub)
    sub.add_argument("user", metavar="USER", nargs="?", help="the person, as text")
    sub.add_argument("--pseudonym", metavar="HEX", help="or the person's name in the log")
    sub.add_argument("--record", metavar="ID", action="append", default=[], help="and records")
    sub.add_argument("--reason", metavar="TEXT", help="stands in the log: no personal data")
    sub.add_argument("--authority", metavar="TEXT", help="who decided")
    sub.add_argument("--complete", action="store_true", help="finish what was left undone")
    retention = logs.add_parser("retention", help="how long records are kept")
    kept = retention.add_subparsers(dest="retention_command", metavar="COMMAND", required=True)
    sub = command(kept, "show", _show, "print the policy, the holds, and what may go")
    _directory(sub)
    sub = command(kept, "set", _set, "record a policy, in force from here on")
    _directory(sub)
    sub.add_argument("--default-days", type=int, metavar="N", help="for records without a class")
    sub.add_argument("--preset", metavar="NAME", action="append", default=[], help="such as pci")
    sub.add_argument(
        "--class", dest="classes", metavar="NAME=DAYS", action="append", default=[], help="a class"
    )
    sub = command(logs, "hold", _hold, "place a legal hold")
    _directory(sub)
    sub.add_argument("name", metavar="NAME", help="stands in the log: no personal data")
    sub.add_argument("--subject", metavar="USER", action="append", default=[], help="only these")
    sub = command(logs, "release", _release, "release a legal hold")
    _directory(sub)
    sub.add_argument("name", metavar="NAME")
    sub = command(logs, "prune", _prune, "remove the records that the policy no longer keeps")
    _directory(sub)
    sub.add_argument("--dry-run", action="store_true", help="only say what would go")
    sub.add_argument("--complete", action="store_true", help="finish what was left undone")
    sub = command(logs, "begin-epochs", _begin_epochs, "let its keys follow each other, for ever")
    _directory(sub)
    sub = command(logs, "begin-tail", _begin_tail, "seal its end, for an auditor who has the key")
    _directory(sub)
    sub.add_argument(
        "--key-out", type=Path, metavar="FILE", required=True, help="for the auditor: a new file"
    )


def _directory(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("directory", metavar="DIR")


def _layout(args: argparse.Namespace) -> Any:  # noqa: ANN401  a Layout, imported late
    from secureml.workspace.layout import Layout

    return Layout.of(args.directory)


def _erase(args: argparse.Namespace) -> dict[str, object]:
    if not args.complete and not args.reason:
        msg = "an erasure has a reason, which stands in the log: --reason TEXT"
        raise ValueError(msg)
    with serving(_layout(args)) as ws:
        if args.complete:
            done, _ = ws.audit_log.complete()
        else:
            done = ws.audit_log.erase(
                args.user,
                reason=args.reason,
                pseudonym=args.pseudonym,
                records=args.record,
                authority=args.authority,
            )
    return _erased(args, done)


def _erased(args: argparse.Namespace, done: "Erasure") -> dict[str, object]:
    say(
        args,
        f"erased: {len(done.records)} records and {len(done.keys)} keys were named; "
        f"{done.shredded} keys destroyed, {done.lines} lines removed",
    )
    return {
        "records": list(done.records),
        "keys": list(done.keys),
        "shredded": done.shredded,
        "lines": done.lines,
    }


def _show(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.retention import due, holds, retention_policy
    from secureml.evidence.log import Log

    log = Log.open(_layout(args).audit)
    policy, held, gone = retention_policy(log), holds(log), due(log, now())
    if policy is None:
        say(args, "no policy: nothing is pruned")
    else:
        say(args, f"{'without a class':<24}  {policy.default_days:>6} days")
        for name, days in sorted(policy.classes.items()):
            say(args, f"{name:<24}  {days:>6} days")
        for warning in policy.warnings():
            say(args, f"warning: {warning}")
    for name in held:
        say(args, f"hold: {name}")
    say(args, f"{gone.records} records may go, and the values of {len(gone.values)} more")
    return {
        "policy": None if policy is None else policy.to_json(),
        "holds": list(held),
        "due": {"minimum": gone.minimum, "records": gone.records, "values": len(gone.values)},
    }


def _set(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.policies import FLOOR_DAYS, RetentionPolicy

    default = FLOOR_DAYS if args.default_days is None else args.default_days
    classes = dict(RetentionPolicy.preset(*args.preset, default_days=default).classes)
    for given in args.classes:
        name, _, days = given.partition("=")
        if not days.isdecimal():
            msg = f"--class is NAME=DAYS, not {given!r}"
            raise ValueError(msg)
        classes[name] = int(days)
    policy = RetentionPolicy(default_days=default, classes=classes)
    with serving(_layout(args)) as ws:
        warnings = ws.audit_log.set_retention(policy)
    for warning in warnings:
        say(args, f"warning: {warning}")
    say(args, "the policy is recorded")
    return {"policy": policy.to_json(), "warnings": list(warnings)}


def _hold(args: argparse.Namespace) -> dict[str, object]:
    with serving(_layout(args)) as ws:
        subjects = [ws.audit_log.pseudonyms.of(user) for user in args.subject]
        ws.audit_log.hold(args.name, subjects=subjects)
    say(args, f"hold {args.name!r} is placed")
    return {"hold": args.name, "state": "placed", "subjects": subjects}


def _release(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.retention import holds

    with serving(_layout(args)) as ws:
        ws.audit_log.publish()
        if args.name not in holds(ws.audit_log.log):
            msg = f"no hold {args.name!r} is placed"
            raise LookupError(msg)
        ws.audit_log.release(args.name)
    say(args, f"hold {args.name!r} is released")
    return {"hold": args.name, "state": "released"}


def _prune(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.retention import due
    from secureml.evidence.log import Log

    layout = _layout(args)
    if args.dry_run:
        gone = due(Log.open(layout.audit), now())
        say(args, f"{gone.records} records would go, and the values of {len(gone.values)} more")
        return {"minimum": gone.minimum, "records": gone.records, "values": len(gone.values)}
    with serving(layout) as ws:
        log = ws.audit_log
        done = log.complete()[1] if args.complete else log.prune()
        if done is None:
            raise GateDeniedError(
                "nothing is pruned: a legal hold is placed",
                why="the records that a pruning names stay until it is released",
                fix="release the hold when the matter is closed: log release DIR NAME",
                reasons=("legal hold",),
            )
        lines = done.lines
        # What is too new to go as a bundle loses its values all the same.
        if not args.complete and (values := log.due().values):
            lines += log.erase(records=values, reason="retention").lines
    say(
        args, f"pruned below entry {done.minimum}: {done.bundles} bundles, {lines} lines of values"
    )
    return {"minimum": done.minimum, "bundles": done.bundles, "lines": lines}


def _begin_epochs(args: argparse.Namespace) -> dict[str, object]:
    layout = _layout(args)
    with serving(layout) as ws:
        first = ws.begin_epochs()
    say(args, f"the keys of the audit log follow each other; the first one is {first}")
    say(args, f"give {layout.trust} to whoever verifies: it says epochs = true")
    return {"first": first, "trust": str(layout.trust)}


def _begin_tail(args: argparse.Namespace) -> dict[str, object]:
    # Made first: a key that cannot be handed out must not be in use.
    fd = os.open(args.key_out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        try:
            with serving(_layout(args)) as ws:
                file.write(ws.begin_tail().hex() + "\n")
        except BaseException:
            args.key_out.unlink()
            raise
    say(args, f"the tail is sealed; give {args.key_out} to the auditor, and keep no copy")
    return {"key": str(args.key_out)}
