"""
The command: ``python -m secureml.audit.daemon``.

Exits with 0 when it was told to stop and all is published, 1 when the log does
not hold, 2 for a wrong command line, 3 when something could not be read,
written or opened.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from secureml.audit._epochs import chained
from secureml.audit.daemon import _privileges as privileges
from secureml.audit.daemon.server import Allowed, Daemon, Limits
from secureml.audit.sink import AuditLog
from secureml.errors import KeyUnavailableError, SecureMLError, VerificationError
from secureml.evidence.log import Log
from secureml.keys.files import load, load_public

__all__ = ["main"]

_PURPOSE = "audit"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m secureml.audit.daemon",
        description="Hold the key of an audit log, and take records from other users.",
    )
    add = parser.add_argument
    add("--audit", type=Path, required=True, metavar="DIR", help="the log")
    add("--private", type=Path, required=True, metavar="DIR", help="keys and spools: 0700")
    add("--socket", type=Path, required=True, metavar="PATH", help="where applications connect")
    add("--details", type=Path, metavar="DIR", help="captured values; beside the log by default")
    add("--key", type=Path, metavar="FILE", help="PRIVATE/keys/audit.pem by default")
    add("--passphrase-file", type=Path, metavar="FILE", help="its first line opens the key")
    add("--previous", type=Path, action="append", default=[], metavar="FILE",
        help="public key that signed before; may be repeated")  # fmt: skip
    add("--create", metavar="ORIGIN", help="begin a log of this name where there is none")
    add("--allow-user", type=privileges.user_id, action="append", default=[], metavar="USER",
        help="may hand in records; may be repeated")  # fmt: skip
    add("--allow-group", type=privileges.group_id, action="append", default=[], metavar="GROUP",
        help="whoever is in it may; may be repeated")  # fmt: skip
    add("--user", type=privileges.user_id, metavar="USER", help="whom root becomes")
    add("--group", type=privileges.group_id, metavar="GROUP", help="and of which group")
    add("--socket-group", type=privileges.group_id, metavar="GROUP",
        help="the only one that may open the socket; by default a lone --allow-group")  # fmt: skip
    add("--umask", type=lambda text: int(text, 8), default=0o077, metavar="OCTAL",
        help="027 lets the daemon's group read the log; 077 by default")  # fmt: skip
    add("--rate", type=float, default=0.0, metavar="N", help="records a second of one user")
    limits = Limits()
    add("--clients", type=int, default=limits.clients, metavar="N", help="connections")
    add("--grace", type=float, default=limits.grace, metavar="SECONDS",
        help="that a writer may be away before it is declared dead")  # fmt: skip
    add("--heartbeat", type=float, default=60.0, metavar="SECONDS", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; return the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.allow_user and not args.allow_group:
        parser.error("nobody may hand in records: name them with --allow-user or --allow-group")
    try:
        _run(args)
    except VerificationError as error:
        _say(str(error))
        return 1
    except SecureMLError as error:
        _say(str(error))
        return 3
    return 0


def _run(args: argparse.Namespace) -> None:
    door = args.socket_group
    if door is None and len(args.allow_group) == 1 and not args.allow_user:
        door = args.allow_group[0]
    privileges.warm_up()
    privileges.forget_cores()
    privileges.become(args.user, args.group, door)
    os.umask(args.umask | 0o022)
    if os.geteuid() in args.allow_user:
        _say("warning: the daemon's own user may hand in records, and can read the key as well")
    privileges.check_private(args.private)
    passphrase = _passphrase(args.passphrase_file)
    keeping = chained(args.audit, args.private, passphrase=passphrase)
    signer = None
    if keeping is None:
        path = args.key or args.private / "keys" / "audit.pem"
        signer = load(path, passphrase=passphrase, purposes={_PURPOSE})
    log = Log.open(
        args.audit,
        private=args.private,
        origin=args.create,
        signer=signer,
        purpose=_PURPOSE,
        keeping=keeping,
        create=args.create is not None,
        previous=[load_public(path) for path in args.previous],
    )
    audit = AuditLog(
        log,
        details=args.details or log.directory.with_name("details"),
        private=args.private,
        heartbeat=args.heartbeat,
    )
    listener = privileges.bind(args.socket, door)
    try:
        daemon = Daemon(
            audit,
            listener,
            allowed=Allowed(frozenset(args.allow_user), frozenset(args.allow_group)),
            limits=Limits(
                clients=args.clients,
                clients_of_user=max(1, args.clients // 2),
                rate=args.rate,
                grace=args.grace,
            ),
            say=_say,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: daemon.stop())
        daemon.run()
    finally:
        listener.close()
        args.socket.unlink(missing_ok=True)


def _passphrase(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnavailableError(
            f"the passphrase in {str(path)!r} cannot be read",
            why=str(error),
            fix="check the file and its mode; systemd puts credentials in $CREDENTIALS_DIRECTORY",
        ) from None


def _say(text: str) -> None:
    """Say what happened, on standard error."""
    print("secureml audit daemon:", text, file=sys.stderr, flush=True)  # noqa: T201  a command prints


if __name__ == "__main__":
    sys.exit(main())
