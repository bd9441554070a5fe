"""
``log query``, ``log export``, ``log push``: what an audit log answers, and who asked.

The log is verified first, unless ``--unverified`` says that its owner asks,
who wants an answer soon and has an index for it.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secureml.cli._places import Place, places_of
from secureml.cli._shared import Subparsers, command, say, serving
from secureml.errors import FormatError

if TYPE_CHECKING:
    from secureml.audit.query import AuditIndex

__all__ = ["add_questions"]

_SHOWN = ("index", "time", "type", "action", "outcome", "actor", "model_name", "id")


def add_questions(logs: Subparsers) -> None:
    """Add the commands that read an audit log."""
    sub = command(logs, "query", _query, "ask the audit log")
    _source(sub)
    _conditions(sub)
    sub.add_argument("--limit", type=int, metavar="N", help="at most so many rows")
    sub.add_argument("--sql", metavar="SELECT", help="one SELECT over the view records, instead")
    sub = command(logs, "export", _export, "write the audit log for other tools")
    _source(sub)
    _conditions(sub)
    sub.add_argument(
        "--format", required=True, choices=["jsonl", "parquet", "ocsf", "ecs", "cef", "otlp"]
    )
    sub.add_argument("--out", default="-", metavar="FILE", help="- for standard output (default)")
    sub.add_argument("--start", type=int, default=0, metavar="N", help="entries from this one on")
    sub = command(logs, "push", _push, "send the audit log to an OTLP/HTTP receiver")
    _source(sub)
    sub.add_argument("url", metavar="URL")
    _conditions(sub)
    sub.add_argument("--start", type=int, default=0, metavar="N", help="entries from this one on")
    sub.add_argument("--headers", metavar="FILE", help="lines of NAME: VALUE to send along")
    sub.add_argument("--insecure", action="store_true", help="allow http to another machine")


def _source(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("directory", metavar="DIR", help="an evidence directory, or its audit log")
    sub.add_argument("--trust", metavar="FILE", help="default: trust.toml in DIR.private")
    sub.add_argument("--unverified", action="store_true", help="believe the log, and be quick")
    sub.add_argument(
        "--by", metavar="WHO", help="record who asked, in the log (its key is needed)"
    )


def _conditions(sub: argparse.ArgumentParser) -> None:
    for name, text in (
        ("type", "such as call"),
        ("outcome", "such as error"),
        ("actor", "a pseudonym"),
        ("model", "a name or a digest"),
    ):
        sub.add_argument(
            f"--{name}", action="append", metavar="WORD", help=f"{text}; may come again"
        )
    sub.add_argument("--user", metavar="WHO", help="a person by name: needs the private half")
    sub.add_argument("--since", metavar="TIME", help="RFC 3339, or a date")
    sub.add_argument("--until", metavar="TIME", help="before this time")


def _wanted(args: argparse.Namespace, place: Place) -> dict[str, Any]:
    actors = list(args.actor or ())
    if args.user is not None:
        from secureml.audit.pseudonyms import Pseudonyms

        actors.append(Pseudonyms(place.layout.private).of(args.user))
    conditions = {
        "types": args.type,
        "outcome": args.outcome,
        "actor": actors or None,
        "model": args.model,
        "since": args.since,
        "until": args.until,
    }
    return {name: value for name, value in conditions.items() if value is not None}


def _audit(args: argparse.Namespace) -> tuple[Place, Any]:
    """Return where the audit log is, and what is asked: its verification, or the directory."""
    from secureml.audit.verification import verify_audit

    if args.unverified:
        place = _only(places_of(args.directory))
        return place, place.path
    places, trust = Place.trusted(args.directory, args.trust)
    place = _only(places)
    return place, verify_audit(place.path, trust=trust, level="sequence", epochs=place.epochs)


def _only(places: list[Place]) -> Place:
    found = next((place for place in places if place.role == "audit"), None)
    if found is None:
        raise FormatError(
            f"{str(places[0].path)!r} is no audit log",
            why="its entries are statements, and only records are asked for",
            fix="give an evidence directory with an audit log",
        )
    return found


def _record_access(args: argparse.Namespace, place: Place, action: str, **said: Any) -> None:  # noqa: ANN401  of the record
    if args.by is None:
        return
    from secureml.audit.query import access_body

    with serving(place.layout) as ws:
        log = ws.audit_log
        body = access_body(action, actor=log.pseudonyms.of(args.by), origin=log.log.origin, **said)
        log.append(body, durable=True)


def _query(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.query import open_index

    place, log = _audit(args)
    wanted = _wanted(args, place)
    kept = args.unverified and place.layout.private.is_dir()
    with open_index(log, cache=place.layout.private / "index" if kept else None) as index:
        rows = _answer(args, index, wanted)
        found: dict[str, object] = {
            "ok": True,
            "origin": index.origin,
            "size": index.size,
            "root": index.root.hex(),
            "verified": index.verified,
            "rows": rows,
        }
    _record_access(args, place, "audit.query", rows=len(rows))
    return found


def _answer(
    args: argparse.Namespace, index: "AuditIndex", wanted: dict[str, Any]
) -> list[dict[str, object]]:
    from secureml.workspace.tracing import one_line

    if args.sql is not None:
        if wanted or args.limit is not None:
            msg = "--sql says all of it: conditions go into the SELECT"
            raise ValueError(msg)
        names, found = index.sql(args.sql)
        rows = [dict(zip(names, row, strict=True)) for row in found]
        shown: tuple[str, ...] = tuple(names)
    else:
        rows = [dict(row) for row in index.rows(limit=args.limit, **wanted)]
        shown = _SHOWN
    for row in rows:
        values = ("-" if row[name] is None else one_line(str(row[name])) for name in shown)
        say(args, "  ".join(values))
    how = "verified" if index.verified else "not verified"
    if not args.json:
        sys.stderr.write(f"{len(rows)} rows of {index.origin}, {index.size} entries, {how}\n")
    return rows


def _export(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.export import export

    if args.out == "-" and args.json:
        msg = "--json prints one JSON object: write the export to a file, --out FILE"
        raise ValueError(msg)
    place, log = _audit(args)
    out = sys.stdout.buffer if args.out == "-" else args.out
    done = export(log, args.format, out, start=args.start, **_wanted(args, place))
    _record_access(
        args, place, "audit.export", rows=done.rows, format=done.format, digest=done.digest
    )
    if not args.json:
        sys.stderr.write(
            f"exported {done.rows} records of {done.origin} as {done.format}, {done.digest}; "
            f"go on with --start {done.size}\n"
        )
    return {
        "format": done.format,
        "rows": done.rows,
        "digest": done.digest,
        "origin": done.origin,
        "size": done.size,
        "root": done.root.hex(),
        "verified": done.verified,
        "out": args.out,
    }


def _push(args: argparse.Namespace) -> dict[str, object]:
    from secureml.audit.export.push import push_otlp

    headers = dict(_headers(Path(args.headers))) if args.headers else None
    place, log = _audit(args)
    done = push_otlp(
        log,
        args.url,
        start=args.start,
        headers=headers,
        insecure=args.insecure,
        **_wanted(args, place),
    )
    _record_access(args, place, "audit.export", rows=done.rows, format="otlp")
    say(args, f"sent {done.rows} records in {done.requests} requests; go on with {done.size}")
    return {
        "rows": done.rows,
        "requests": done.requests,
        "origin": done.origin,
        "size": done.size,
    }


def _headers(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text("utf-8").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()
        elif line.strip():
            msg = f"a line of {str(path)!r} is not NAME: VALUE"
            raise ValueError(msg)
