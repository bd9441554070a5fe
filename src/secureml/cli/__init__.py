"""
The command line: thin over the functions that a program calls.

Exit codes: 0 ok · 1 refused · 2 usage · 3 could not tell (a file, a key or an
extra is missing).  A pipeline treats only 0 as yes.  Each command takes
``--json``; what it prints then is one JSON object, errors included.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from secureml.cli._log import add_log_commands
from secureml.cli._shared import command, passphrase_of, root_of_trust, say
from secureml.errors import FormatError, GateDeniedError, SecureMLError, VerificationError

# ruff: noqa: T201  a command prints

__all__ = ["main"]

OK, REFUSED, USAGE, UNKNOWN = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names, and return its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], dict[str, object] | None] | None = args.run
    if run is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        result = run(args)
    except SecureMLError as error:
        _print_error(args, error.code, error.what, error.why, error.fix)
        refused = isinstance(error, VerificationError | FormatError | GateDeniedError)
        return REFUSED if refused else UNKNOWN
    except LookupError as error:
        _print_error(args, "", str(error.args[0]), "", "")
        return REFUSED
    except ValueError as error:
        _print_error(args, "", str(error), "", "")
        return USAGE
    except BrokenPipeError:
        # Whoever read our output has seen enough; the null device takes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNKNOWN
    except OSError as error:
        _print_error(args, "", f"{error.filename or args.command}: {error.strerror}", "", "")
        return UNKNOWN
    if result is None:
        return OK
    if args.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    return OK if result.get("ok", True) else REFUSED


def _print_error(args: argparse.Namespace, code: str, what: str, why: str, fix: str) -> None:
    if args.json:
        print(json.dumps({"ok": False, "code": code, "what": what, "why": why, "fix": fix}))
        return
    from secureml.workspace.tracing import one_line

    print(one_line(f"{what} [{code}]" if code else what), file=sys.stderr)
    for name, text in (("why", why), ("fix", fix)):
        if text:
            print(f"  {name}: {one_line(text)}", file=sys.stderr)


# -- commands ------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> dict[str, object]:
    from secureml.demo import run

    return run(Path(args.directory), say=lambda text="": say(args, text))


def _hash(args: argparse.Namespace) -> dict[str, object]:
    from secureml import hashing

    path = Path(args.path)
    if path.is_dir():
        manifest = hashing.manifest(path)
        say(args, manifest.digest)
        return {"path": args.path, "files": len(manifest), "digest": str(manifest.digest)}
    found: dict[str, object] = {"path": args.path, "digest": str(hashing.hash_file(path))}
    say(args, found["digest"])
    if path.suffix.lower() in {".parquet", ".csv", ".arrow", ".feather", ".ipc"}:
        from secureml import data

        table = data.dataset(path, source="-", licence="-")
        found |= {"logical": str(table.digest), "rows": table.rows}
        say(args, f"{table.digest}  (logical content, {table.rows} rows)")
    return found


def _keygen(args: argparse.Namespace) -> dict[str, object]:
    from getpass import getpass

    from secureml import keys
    from secureml.evidence.trust import Identity, identity_block

    path = Path(args.file)
    passphrase: str | None = None
    if not args.no_passphrase:
        if not sys.stdin.isatty():
            passphrase = sys.stdin.readline().rstrip("\n")
        else:
            passphrase = getpass("passphrase for the new key: ")
            if getpass("once more: ") != passphrase:
                msg = "the two passphrases differ: nothing was written"
                raise ValueError(msg)
        if not passphrase:
            msg = "an empty passphrase protects nothing; say --no-passphrase if you mean it"
            raise ValueError(msg)
    signer = keys.create(path, scheme=args.scheme, passphrase=passphrase)
    identity = Identity(
        name=args.name or path.stem,
        verifier=signer.verifier,
        roles=frozenset(args.roles.split(",")),
    )
    block = identity_block(identity)
    say(args, block)
    return {"file": args.file, "fingerprint": signer.verifier.fingerprint, "identity": block}


def _sign_model(args: argparse.Namespace) -> dict[str, object]:
    from secureml import keys, models

    key = keys.load(Path(args.key), passphrase=passphrase_of(args.key))
    models.sign_model(args.path, key=key, signature=args.signature)
    say(args, f"signed {args.path} with {key.verifier.fingerprint}")
    return {"path": args.path, "signature": args.signature, "key": key.verifier.fingerprint}


def _verify_model(args: argparse.Namespace) -> dict[str, object]:
    from secureml import keys, models
    from secureml.evidence.trust import Trust

    if args.key:
        found = models.verify_model(
            args.path, signature=args.signature, key=keys.load_public(Path(args.key))
        )
    else:
        found = models.verify_model(
            args.path, signature=args.signature, trust=Trust.load(args.trust)
        )
    say(args, f"verified {args.path}: {found.digest} ({found.strength})")
    return {
        "ok": True,
        "path": args.path,
        "digest": str(found.digest),
        "signer": found.signer,
        "fingerprint": found.fingerprint,
        "strength": found.strength,
    }


def _verify(args: argparse.Namespace) -> dict[str, object]:
    from secureml.workspace.layout import Layout
    from secureml.workspace.verifying import verify_directory

    layout = Layout.of(args.directory)
    trust = root_of_trust(args.directory, args.trust)
    notes = [Path(name).read_text("utf-8") for name in args.checkpoint or ()]
    report = verify_directory(layout.root, trust=trust, checkpoints=(*layout.remembered(), *notes))
    say(args, report)
    say(args, f"under the trust file {args.trust or layout.trust}")
    return report.to_dict()


def _trace(args: argparse.Namespace) -> dict[str, object]:
    from secureml.workspace.layout import Layout
    from secureml.workspace.tracing import NOTHING, trace_prediction

    value: object = NOTHING
    if args.input:
        value = json.loads(Path(args.input).read_text("utf-8"))
    trace = trace_prediction(
        Layout.of(args.directory).root,
        args.id,
        trust=root_of_trust(args.directory, args.trust),
        value=value,
    )
    say(args, trace)
    return trace.to_dict()


def _doctor(args: argparse.Namespace) -> dict[str, object]:
    from secureml.doctor import diagnose

    report = diagnose(args.directory)
    say(args, report)
    return report.to_dict()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m secureml",
        description="Walk back from any prediction, by cryptographic proof.",
        epilog="exit codes: 0 ok, 1 refused, 2 usage, 3 could not tell",
    )
    parser.set_defaults(run=None, json=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    sub = command(commands, "demo", _demo, "build a real chain, trace it, and attack it")
    sub.add_argument("directory", nargs="?", default="secureml-demo", metavar="DIR")
    sub = command(commands, "hash", _hash, "print the digest of a file, a tree or a table")
    sub.add_argument("path", metavar="PATH")
    sub = command(commands, "keygen", _keygen, "make a key, print the block for a trust file")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--name", help="name of the identity; the file's stem by default")
    sub.add_argument(
        "--scheme",
        default="ecdsa-p256",
        choices=["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519"],
    )
    sub.add_argument("--roles", default="model", help="comma-separated (default: model)")
    sub.add_argument("--no-passphrase", action="store_true", help="write the key unprotected")
    sub = command(commands, "sign-model", _sign_model, "sign a model (OpenSSF Model Signing v1.0)")
    sub.add_argument("path", metavar="PATH")
    sub.add_argument("--key", required=True, metavar="FILE")
    sub.add_argument("--signature", required=True, metavar="FILE")
    sub = command(commands, "verify-model", _verify_model, "verify a model's signature and files")
    sub.add_argument("path", metavar="PATH")
    sub.add_argument("--signature", required=True, metavar="FILE")
    root = sub.add_mutually_exclusive_group(required=True)
    root.add_argument("--key", metavar="PUB.pem", help="one public key: signature only")
    root.add_argument("--trust", metavar="FILE", help="a reviewed trust file")
    sub = command(commands, "verify", _verify, "verify a whole evidence directory")
    sub.add_argument("directory", metavar="DIR")
    sub.add_argument("--trust", metavar="FILE", help="default: trust.toml in DIR.private")
    sub.add_argument("--checkpoint", metavar="FILE", action="append", help="a note seen earlier")
    sub = command(commands, "trace", _trace, "walk back from a prediction")
    sub.add_argument("directory", metavar="DIR")
    sub.add_argument("id", metavar="ID")
    sub.add_argument("--trust", metavar="FILE", help="default: trust.toml in DIR.private")
    sub.add_argument("--input", metavar="FILE", help="JSON to compare with the recorded input")
    add_log_commands(commands)
    sub = command(commands, "doctor", _doctor, "look for what would go wrong, with fixes")
    sub.add_argument("directory", nargs="?", metavar="DIR")
    return parser
