"""
Rotation: one key hands over to another, in a leaf that both of them sign.

The old key's signature says that its holder wanted this; the new key's says
that somebody holds it.  The leaf's place in the log says when: the old key is
retired at that very leaf.  Everything before it stays valid, nothing after
it is, whatever time it claims, and the leaf itself is the one exception.

A rotation passes on roles that the old key has, never more.  It changes no
trust file by itself: `Rotation.apply` gives the trust that a person, or a
workspace for its own keys, then writes down.

Source: ``docs/spec/trust-file.md``, section "Rotation".
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, final

from secureml._html import card
from secureml.errors import FormatError, SignatureError, UntrustedSignerError
from secureml.evidence._names import check_name, check_origin
from secureml.evidence._typestate import TOKEN, TypeState
from secureml.evidence.trust import (
    LOG_ROLES,
    ROLES,
    Identity,
    Position,
    Trust,
    check_roles,
    check_trust,
)
from secureml.evidence.verify import check_type, check_validity
from secureml.keys import Signer, Verifier
from secureml.wire.canonical import JSON
from secureml.wire.digest import Digest
from secureml.wire.dsse import Envelope, Signature, pae
from secureml.wire.statement import KEY_ROTATION, PAYLOAD_TYPE, Statement, Subject

__all__ = ["Rotation", "apply_rotation", "rotate", "rotation_statement", "verify_rotation"]

_KEYS: Final = frozenset({"name", "new", "old", "origin", "roles"})


@final
class Rotation(TypeState):
    """
    A verified handing over.

    Only `verify_rotation` makes one.

    Attributes:
        old: The identity that hands over.
        new: The key that takes over.
        name: The name of the new identity.
        roles: What is handed over.
        position: The leaf that says so.
        digest: SHA-256 of the statement's payload.
    """

    __slots__ = ("digest", "name", "new", "old", "position", "roles")
    old: Identity
    new: Verifier
    name: str
    roles: frozenset[str]
    position: Position
    digest: Digest

    def apply(self, trust: Trust, *, development: bool = False) -> Trust:
        """
        Return *trust* with the old identity retired at the leaf, and the new one after it.

        Where the new key is known already, its block stays as it is.

        Raises:
            ValueError: The name of the new identity is taken by another key.
            KeyError: *trust* does not name the old key.
        """
        if trust.find(fingerprint=self.old.fingerprint) is None:
            raise KeyError(self.old.fingerprint)
        identities = []
        for identity in trust.identities:
            if identity.fingerprint != self.old.fingerprint:
                identities.append(identity)
                continue
            origin, index = self.position.origin, self.position.index
            limit = min(index, identity.retired.get(origin, index))
            identities.append(replace(identity, retired={**identity.retired, origin: limit}))
        if trust.find(fingerprint=self.new.fingerprint) is None:
            signs_log = not self.roles.isdisjoint(LOG_ROLES)
            identities.append(
                Identity(
                    name=self.name,
                    verifier=self.new,
                    roles=self.roles,
                    development=development,
                    origin=self.old.origin if signs_log else None,
                    since=self.position.index + 1 if self.new.scheme == "mldsa-44" else 0,
                )
            )
        return replace(trust, identities=tuple(identities), text="")

    def __repr__(self) -> str:
        return (
            f"<Rotation of {self.old.name!r} to {self.name!r} at leaf {self.position.index} of "
            f"{self.position.origin}: {', '.join(sorted(self.roles))}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("from", f"{self.old.name} {self.old.fingerprint}"),
            ("to", f"{self.name} {self.new.fingerprint}"),
            ("roles", ", ".join(sorted(self.roles))),
            ("at", f"leaf {self.position.index} of {self.position.origin}"),
        ]
        return card("Key rotation", rows)


def rotation_statement(
    old: Verifier, new: Verifier, roles: Iterable[str], *, name: str, origin: str
) -> Statement:
    """
    Say that *new* takes over *roles* from *old*, in the log *origin*.

    Args:
        old: The key that hands over.
        new: The key that takes over.
        roles: What is handed over, out of `ROLES`.
        name: The name of the new identity, unique in the trust file.
        origin: The log that the statement is for; it means nothing in another.

    Raises:
        ValueError: The keys are the same, or a name, role or origin is none.
    """
    if old == new:
        msg = "a key does not hand over to itself"
        raise ValueError(msg)
    if (old.scheme == "mldsa-44") != (new.scheme == "mldsa-44"):
        msg = "an mldsa-44 key stands beside another key, and hands over to an mldsa-44 key only"
        raise ValueError(msg)
    ordered = sorted(check_roles(roles), key=ROLES.index)
    check_name(name)
    check_origin(origin)
    predicate: dict[str, JSON] = {
        "name": name,
        "new": new.pem,
        "old": old.fingerprint,
        "origin": origin,
        "roles": list[JSON](ordered),
    }
    subject = Subject(name, {"sha256": new.fingerprint.removeprefix("sha256:")})
    return Statement((subject,), KEY_ROTATION, predicate)


def rotate(old: Signer, new: Signer, roles: Iterable[str], *, name: str, origin: str) -> Envelope:
    """
    Make the envelope that both keys sign: *old* first, then *new*.

    Each signs with the first of its purposes in alphabetical order: a rotation
    belongs to every purpose.  Append it to the log *origin*.

    Raises:
        ValueError: As `rotation_statement`.
        KeyUnavailableError: One of the keys cannot sign now.
    """
    statement = rotation_statement(old.verifier, new.verifier, roles, name=name, origin=origin)
    payload = statement.encode()
    message = pae(PAYLOAD_TYPE, payload)
    signatures = tuple(
        Signature(signer.verifier.hint, signer.sign(message, purpose=min(signer.purposes)))
        for signer in (old, new)
    )
    return Envelope(PAYLOAD_TYPE, payload, signatures)


def verify_rotation(envelope: Envelope, *, trust: Trust, position: Position) -> Rotation:
    """
    Check that a trusted key hands over, that the new key agrees, and where.

    The old identity has to be valid at *position*, or be retired at exactly
    that leaf, which is what applying the rotation does.

    Args:
        envelope: What the leaf holds.
        trust: The reviewed root.  The old key has to be in it; the new need not.
        position: The leaf, in a log that was verified.

    Raises:
        UntrustedSignerError: The old key is not trusted, or hands over roles it does not have.
        SignatureError: There are not exactly two signatures, old then new, both good.
        ExpiredError: The old key was retired before.
        FormatError: Not a rotation, or one for another log.
    """
    check_type(envelope, Envelope, "verify_rotation")
    check_trust(trust)
    if len(envelope.signatures) != 2:  # noqa: PLR2004  the old key and the new one
        raise SignatureError(
            "a rotation is signed by two keys, the old and the new",
            why=f"the envelope has {len(envelope.signatures)} signatures",
            fix="have both keys sign it: secureml.evidence.rotate(...)",
        )
    by_old, by_new = envelope.signatures
    old = trust.find(hint=by_old.keyid)
    if old is None:
        raise UntrustedSignerError(
            "a rotation by a key that the trust file does not name",
            why=f"the key that hands over has the hint {by_old.keyid or '(none)'}",
            fix="only a trusted key can hand over; if this one should be, add its [[identity]]",
        )
    message = envelope.signed_bytes()
    old.verifier.verify(by_old.sig, message)
    statement = envelope.statement()
    name, new, roles = _read(envelope, statement, old, position)
    if new.hint != by_new.keyid:
        raise SignatureError(
            "the second signature of the rotation is not by the new key",
            why=f"it names the key {by_new.keyid[:16]}…, the statement {new.hint[:16]}…",
            fix="have the new key sign it too: secureml.evidence.rotate(...)",
        )
    new.verify(by_new.sig, message)
    if missing := sorted(roles - old.roles):
        raise UntrustedSignerError(
            f"{old.name!r} hands over a role that it does not have: {', '.join(missing)}",
            why=f"the trust file gives it {old.listed_roles}",
            fix="hand over these only; further roles are given in the trust file, by a person",
        )
    if old.epochs and "audit" in roles:
        raise UntrustedSignerError(
            f"{old.name!r} hands over the role audit, and is the first of a chain of epoch keys",
            why="the log itself hands over from epoch to epoch (docs/spec/epochs.md)",
            fix="begin a new audit log for another chain; rotate other roles as they are",
        )
    retired = dict(old.retired)
    if retired.get(position.origin) == position.index:
        del retired[position.origin]
    check_validity(replace(old, retired=retired), position=position)
    return Rotation(
        TOKEN,
        old=old,
        new=new,
        name=name,
        roles=roles,
        position=position,
        digest=envelope.digest,
    )


def apply_rotation(envelope: Envelope, *, trust: Trust, position: Position) -> Trust:
    """
    Verify the rotation in the leaf at *position*, and return *trust* as it is after that leaf.

    Raises:
        UntrustedSignerError, SignatureError, ExpiredError, FormatError: As `verify_rotation`;
            a name that is taken by another key is a FormatError.
    """
    rotation = verify_rotation(envelope, trust=trust, position=position)
    try:
        return rotation.apply(trust)
    except ValueError as error:
        raise _bad(str(error)) from error


def _read(
    envelope: Envelope, statement: Statement, old: Identity, position: Position
) -> tuple[str, Verifier, frozenset[str]]:
    if statement.predicate_type != KEY_ROTATION:
        raise _bad(f"it is a statement of type {statement.predicate_type}")
    predicate: Mapping[str, JSON] = statement.predicate
    if predicate.keys() != _KEYS:
        raise _bad(f"its predicate has the keys {sorted(predicate)}, not {sorted(_KEYS)}")
    name, pem, roles = predicate["name"], predicate["new"], predicate["roles"]
    if not (isinstance(name, str) and isinstance(pem, str) and isinstance(roles, list)):
        raise _bad("name and new are text, roles is a list")
    if predicate["old"] != old.fingerprint:
        raise _bad("it names another old key than the one that signed it")
    if predicate["origin"] != position.origin:
        raise _bad(f"it is for another log than {position.origin}")
    new = Verifier.from_pem(pem)
    wanted = frozenset(str(role) for role in roles)
    try:
        expected = rotation_statement(old.verifier, new, wanted, name=name, origin=position.origin)
    except ValueError as error:
        raise _bad(str(error)) from error
    if expected.encode() != envelope.payload:
        raise _bad("it is not spelled as docs/spec/trust-file.md says")
    return name, new, wanted


def _bad(why: str) -> FormatError:
    return FormatError(
        "this is not a key rotation",
        why=why,
        fix="make it with secureml.evidence.rotate(...); see docs/spec/trust-file.md",
    )
