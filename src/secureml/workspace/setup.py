"""
Making a workspace: directories, development keys by role, a first trust file.

The keys are made for the first hour of use and say so: each is marked
``development`` in the trust file, and every report names them until a key
protected by a passphrase replaces them (`Workspace.rotate`).

What happens if the process dies here: the published trust file is written
last, so a half-made workspace is not a workspace yet, and the next `open`
completes it with the keys that are already there.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from secureml import keys
from secureml._durable import write_beside
from secureml.errors import FormatError, KeyUnavailableError, StoreError
from secureml.evidence.rotation import rotate as rotation_envelope
from secureml.evidence.rotation import verify_rotation
from secureml.evidence.statements import Logged, StatementLog
from secureml.evidence.trust import Identity, ModelRule, Position, Trust
from secureml.gates import Gate
from secureml.keys import Signer, Verifier
from secureml.wire.statement import KEY_ROTATION
from secureml.workspace.layout import LOGS, Layout, is_workspace
from secureml.workspace.sealing import alone

__all__ = [
    "PURPOSES",
    "chain_keys",
    "complete_rotation",
    "create",
    "effective_trust",
    "key_file",
    "own_identities",
    "pin",
    "previous_keys",
    "publish_trust",
    "rotate",
    "write_trust",
]

PURPOSES = {"train": ("statements", "log", "audit"), "serve": ("audit",)}
"""The keys that each role opens."""

_LOG_OF = {"statements": "log", "log": "log", "audit": "audit"}

_SCHEMES = {"statements": "ecdsa-p256", "log": "ed25519", "audit": "ed25519"}
_ROLES = {
    "statements": frozenset({"dataset", "gate", "run", "model", "log"}),
    "log": frozenset({"log"}),
    "audit": frozenset({"audit"}),
}


def create(
    layout: Layout,
    *,
    role: str,
    reviewed: Trust | None,
    key: Signer | None,
    open_log: Callable[[str, Signer, str], None],
) -> str:
    """
    Make the workspace of *layout*, and return the one line that says so.

    Where another process makes it at the same time, one of them does, and the
    other waits and returns an empty line.

    Args:
        layout: Where.
        role: ``train`` or ``serve``.
        reviewed: The trust file that this machine starts from, if any.
        key: A signer for statements, in place of a development key.
        open_log: Opens a new log: its name, its signer, its origin.

    Raises:
        StoreError: The directory is not empty, or evidence has been lost.
    """
    _refuse_others(layout)
    layout.keys.mkdir(parents=True, exist_ok=True)
    for folder in (layout.private, layout.keys):
        folder.chmod(0o700)
    with alone(layout.private / "making"):
        if is_workspace(layout.root):
            return ""
        _refuse_loss(layout)
        return _make(layout, role=role, reviewed=reviewed, key=key, open_log=open_log)


def _make(
    layout: Layout,
    *,
    role: str,
    reviewed: Trust | None,
    key: Signer | None,
    open_log: Callable[[str, Signer, str], None],
) -> str:
    _write(layout.private / ".gitignore", b"*\n")
    name = layout.root.name
    stem = f"secureml.local/{_slug(name)}-{secrets.token_hex(4)}"
    identities: list[Identity] = []
    signers: dict[str, Signer] = {}
    for purpose in PURPOSES[role]:
        signer = key if key is not None and purpose == "statements" else _key(layout, purpose)
        signers[purpose] = signer
        _write(layout.keys / f"{purpose}.pub", signer.verifier.pem.encode())
        identities.append(
            Identity(
                name=f"{name} {purpose}",
                verifier=signer.verifier,
                roles=_ROLES[purpose],
                development=signer is not key,
                origin=f"{stem}/{_LOG_OF[purpose]}",
            )
        )
    own = Trust(identities=tuple(identities))
    trust = own if reviewed is None else reviewed.merged(_named_apart(own, reviewed))
    text = trust.to_toml().encode()
    _write(layout.trust, text)
    layout.root.mkdir(parents=True, exist_ok=True)
    for purpose in PURPOSES[role]:
        if purpose in LOGS:
            open_log(purpose, signers[purpose], f"{stem}/{purpose}")
    _write(layout.published_trust, text, private=False)
    prints = ", ".join(f"{p} {s.verifier.fingerprint[:23]}…" for p, s in signers.items())
    return (
        f"secureml: created workspace {str(layout.root)!r} with development keys ({prints}) in "
        f"{str(layout.private)!r}"
    )


def effective_trust(layout: Layout, reviewed: Trust | None) -> Trust:
    """
    Return the trust that a workspace judges under.

    It is the reviewed trust that was given, plus the identities of the
    workspace's own keys; or, where none was given, the private trust file.

    Raises:
        KeyUnavailableError: There is neither.
    """
    own = Trust.load(layout.trust) if layout.trust.exists() else None
    if reviewed is not None:
        if own is None:
            return reviewed
        return reviewed.merged(_named_apart(own_identities(layout, own), reviewed))
    if own is None:
        raise KeyUnavailableError(
            f"there is no trust to judge {str(layout.root)!r} under",
            why=f"{str(layout.trust)!r} does not exist, and a key is never trusted because it "
            "lies in the evidence",
            fix="open it with trust='reviewed-trust.toml'",
        )
    return own


def _named_apart(own: Trust, reviewed: Trust) -> Trust:
    """
    Return *own*, with other names where *reviewed* has given them to other keys.

    A name is a label, and two servers may lie in directories of one name.
    """
    theirs = {identity.name: identity.fingerprint for identity in reviewed.identities}
    return Trust(
        tuple(
            i
            if theirs.get(i.name, i.fingerprint) == i.fingerprint
            else replace(i, name=f"{i.name} {_mark(i.verifier)}")
            for i in own.identities
        )
    )


def _mark(verifier: Verifier) -> str:
    """Return eight digits that tell keys of one name apart."""
    return verifier.fingerprint.removeprefix("sha256:")[:8]


def own_identities(layout: Layout, trust: Trust) -> Trust:
    """Return the identities of *trust* whose keys this workspace has made."""
    mine: set[str] = set()
    if layout.keys.is_dir():
        for path in sorted(layout.keys.rglob("*.pub")):
            mine.add(keys.load_public(path).fingerprint)
    kept = [i for i in trust.identities if i.verifier.fingerprint in mine]
    return replace(trust, identities=tuple(kept), rules=(), text="")


def pin(layout: Layout, other: Trust) -> None:
    """
    Add the identities and rules of *other* to the reviewed trust file of this machine.

    A rule for a model that has one already replaces it; a key whose name is
    taken by another one, as two servers of the same directory name have it, is
    named apart.  The published copy follows when the directory is sealed
    again: until then it is as sealed.
    """
    mine = Trust.load(layout.trust)
    known = {identity.fingerprint for identity in mine.identities}
    fresh = Trust(tuple(i for i in other.identities if i.fingerprint not in known))
    rules = {rule.name: rule for rule in (*mine.rules, *other.rules)}
    joined = replace(
        mine,
        identities=(*mine.identities, *_named_apart(fresh, mine).identities),
        rules=tuple(rules.values()),
        text="",
    )
    _write(layout.trust, joined.to_toml().encode())


def chain_keys(layout: Layout, first: Verifier) -> None:
    """Say in the trust file of this machine that other keys follow *first*."""
    mine = Trust.load(layout.trust)
    if mine.find(fingerprint=first.fingerprint) is None:
        raise _not_ours(layout, first)
    identities = tuple(replace(i, epochs=i.epochs or i.verifier == first) for i in mine.identities)
    _write(layout.trust, replace(mine, identities=identities, text="").to_toml().encode())


def write_trust(
    path: Path,
    *,
    trust: Trust,
    models: Mapping[str, Sequence[Gate]],
    max_attempts: int | None,
) -> Path:
    """See `Workspace.write_trust`."""
    for name, required in models.items():
        if isinstance(required, Gate):
            msg = f"models maps a name to a list of gates: write {{{name!r}: [gate]}}"
            raise TypeError(msg)
    rules = tuple(
        ModelRule(
            name=name,
            require={gate.name: gate.digest for gate in required},
            max_attempts=max_attempts,
        )
        for name, required in models.items()
    )
    _write(path, replace(trust, rules=rules, text="").to_toml().encode(), private=False)
    return path


def rotate(
    layout: Layout,
    purpose: str,
    *,
    old: Signer,
    passphrase: str | bytes,
    ledger: StatementLog,
    trust: Trust,
    audited: int,
) -> Signer:
    """
    Replace the key for *purpose* by a protected one, and return the new one.

    What happens if the process dies here: the new key is on the disk before
    the leaf that hands over to it.  Without the leaf, the old key goes on being
    the workspace's; with it, `complete_rotation` writes down the rest.
    """
    identity = trust.find(fingerprint=old.verifier.fingerprint)
    if identity is None:
        raise _not_ours(layout, old.verifier)
    number = sum(1 for _ in layout.keys.glob(f"{purpose}*.pem"))
    fresh = layout.keys / f"{purpose}-{number}.pem"
    new = keys.create(
        fresh, scheme=old.verifier.scheme, passphrase=passphrase, purposes=old.purposes
    )
    name = f"{layout.root.name} {purpose} {number}"
    if any(name == other.name for other in trust.identities):
        name = f"{layout.root.name} {_mark(new.verifier)} {purpose} {number}"
    envelope = rotation_envelope(old, new, name=name, roles=identity.roles, origin=ledger.origin)
    logged = ledger.append(envelope)
    ledger.publish()
    _hand_over(layout, purpose, fresh, logged, ledger=ledger, trust=trust, audited=audited)
    return new


def _not_ours(layout: Layout, key: Verifier) -> FormatError:
    return FormatError(
        "the key that hands over is not in the trust file of this workspace",
        why=f"{key.fingerprint} is not among its identities",
        fix=f"add its [[identity]] to {str(layout.trust)!r}, after review",
    )


def complete_rotation(
    layout: Layout, *, ledger: StatementLog, trust: Trust, audited: Callable[[], int]
) -> bool:
    """
    Write down a rotation that a crash cut off after its leaf; tell whether there was one.

    A key without its public half beside it was never taken into use.  Where
    the log says that it took over, the old one is retired already: what that
    signs from there on, nobody accepts.

    Args:
        layout: Where.
        ledger: The statement log.
        trust: What the workspace judges under.
        audited: Returns how many leaves the audit log has.
    """
    fresh = [
        (purpose, path)
        for purpose in PURPOSES["train"]
        for path in sorted(layout.keys.glob(f"{purpose}-*.pem"))
        if not path.with_suffix(".pub").exists()
    ]
    if not fresh:
        return False
    ledger.log.acquire()  # What a crash left is read, too.
    done = False
    for logged in ledger:
        statement = logged.envelope.statement()
        if statement.predicate_type != KEY_ROTATION:
            continue
        number = str(statement.predicate.get("name")).rpartition(" ")[2]
        for purpose, path in fresh:
            now = keys.load_public(key_file(layout, purpose).with_suffix(".pub")).fingerprint
            if path.stem == f"{purpose}-{number}" and statement.predicate.get("old") == now:
                size = audited() if purpose == "audit" else 0
                _hand_over(layout, purpose, path, logged, ledger=ledger, trust=trust, audited=size)
                done = True
    return done


def _hand_over(
    layout: Layout,
    purpose: str,
    fresh: Path,
    logged: Logged,
    *,
    ledger: StatementLog,
    trust: Trust,
    audited: int,
) -> None:
    """Write down what the leaf *logged* says: first in the trust file, then beside the key."""
    position = Position(ledger.origin, logged.index, logged.at)
    rotation = verify_rotation(logged.envelope, trust=trust, position=position)
    after = rotation.apply(Trust.load(layout.trust))
    if purpose in LOGS and rotation.old.origin is not None:
        # A checkpoint has no leaf of its own: the old key is good for trees up
        # to the one it signed last, which holds the rotation itself.
        last = logged.index + 1 if purpose == "log" else audited
        after = _retire(after, rotation.old.fingerprint, {rotation.old.origin: last})
    _write(layout.trust, after.to_toml().encode())
    _write(fresh.with_suffix(".pub"), rotation.new.pem.encode())
    publish_trust(layout)


def _retire(trust: Trust, fingerprint: str, limits: Mapping[str, int]) -> Trust:
    identities = tuple(
        replace(i, retired={**i.retired, **limits}) if i.fingerprint == fingerprint else i
        for i in trust.identities
    )
    return replace(trust, identities=identities, text="")


def publish_trust(layout: Layout) -> None:
    """Bring the published copy of the trust file up to date; it is a claim, never a root."""
    text = layout.trust.read_bytes()
    if not layout.published_trust.is_file() or layout.published_trust.read_bytes() != text:
        _write(layout.published_trust, text, private=False)


def previous_keys(layout: Layout, trust: Trust, name: str) -> list[Verifier]:
    """Return the keys of this workspace that signed checkpoints of the log *name* before."""
    own = own_identities(layout, trust)
    return [i.verifier for i in own.with_role(name) if i.verifier.scheme == "ed25519"]


def key_file(layout: Layout, purpose: str) -> Path:
    """Return the file of the key that signs for *purpose* now: the last one made."""
    rotated = [p for p in layout.keys.glob(f"{purpose}-*.pem") if p.with_suffix(".pub").exists()]
    return max(
        rotated,
        key=lambda path: int(path.stem.rpartition("-")[2]),
        default=layout.keys / f"{purpose}.pem",
    )


def _key(layout: Layout, purpose: str) -> Signer:
    path = layout.keys / f"{purpose}.pem"
    purposes = frozenset({purpose})
    if path.exists():
        return keys.load(path, purposes=purposes)
    return keys.create(path, scheme=_SCHEMES[purpose], purposes=purposes)


def _write(path: Path, data: bytes, *, private: bool = True) -> None:
    """Write *data* beside *path*, sync it, and give it its name."""
    try:
        write_beside(path, data, mode=0o600 if private else 0o666)
    except OSError as error:
        raise StoreError(
            f"could not write {str(path)!r}",
            why=error.strerror or str(error),
            fix="check the path, its permissions and the disk, then try again",
        ) from error


def _refuse_loss(layout: Layout) -> None:
    remembered = layout.private / "checkpoints"
    if remembered.is_dir() and any(remembered.iterdir()):
        raise StoreError(
            f"the evidence of workspace {str(layout.root)!r} is gone",
            why=f"{str(layout.private)!r} remembers checkpoints of it, so it existed",
            fix="restore the evidence directory from a copy; to start anew, move the private "
            "directory away by hand",
        )


def _refuse_others(layout: Layout) -> None:
    if layout.root.exists() and not layout.root.is_dir():
        raise StoreError(
            f"{str(layout.root)!r} is not a directory",
            why="a workspace is a directory of evidence",
            fix="give the path of a new directory",
        )
    if layout.root.is_dir() and any(layout.root.iterdir()) and not layout.trust.exists():
        raise StoreError(
            f"{str(layout.root)!r} is neither empty nor a workspace",
            why="a workspace directory holds evidence only, and every file in it is sealed",
            fix="give the path of a new directory",
        )


def _slug(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name)
    return kept.strip("-.") or "workspace"
