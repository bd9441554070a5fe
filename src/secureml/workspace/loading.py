"""
Verify, judge, load: the same bytes from the first check to the last.

Each file of the model is opened once.  Its signature, the chain it rests on
and the value that comes out all follow from those bytes, so a file that is
swapped in between is either not seen or refused.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from secureml import models
from secureml.errors import ChainError
from secureml.evidence.trust import ModelRule, Trust
from secureml.evidence.verify import Evidence
from secureml.hashing import open_regular
from secureml.training.predicates import Provenance
from secureml.wire import statement as st
from secureml.wire.bundle import Bundle
from secureml.workspace.chain import judge
from secureml.workspace.claims import CLAIMS_NAME, MAX_CLAIMS, Claims, open_claims

__all__ = ["load_model", "load_with_claims"]


def load_model(
    path: str | os.PathLike[str],
    *,
    trust: Trust | str | os.PathLike[str],
    name: str | None = None,
    allow_types: Sequence[str] = (),
) -> models.LoadedModel:
    """
    Verify the model at *path* against the rule of *trust*, and load those very bytes.

    Needs no workspace and records nothing; a server uses `Workspace.load_model`,
    which also logs the load.

    Args:
        path: The model directory, with ``model.sig`` and ``claims.jsonl``.
        trust: The reviewed trust file.
        name: The model that is expected; any that the trust has a rule for when None.
        allow_types: Types beyond our fixed list that a skops file may make.

    Raises:
        VerificationError: The files, a signature or a link of the chain do not hold.
        FormatError: The signature or the claims cannot be read.
        UnsafeFormatError: Loading it would run code.
    """
    judged = trust if isinstance(trust, Trust) else Trust.load(trust)
    model, _ = load_with_claims(Path(path), trust=judged, name=name, allow_types=allow_types)
    return model


def load_with_claims(
    path: Path, *, trust: Trust, name: str | None, allow_types: Sequence[str]
) -> tuple[models.LoadedModel, bytes]:
    """Verify and load the model at *path*; return it with the bytes of its claims."""
    data = _claims_bytes(path)
    claims = None if data is None else open_claims(data, trust=trust)
    rule = _only_rule(claims, trust)
    ignored = () if rule is None else rule.allow_ignored
    logged = None if claims is None else _signature_in(claims, models.read_signature(path))
    if logged is None:
        files = models.open_model(path, trust=trust, allow_ignored=ignored)
    else:
        files = models.open_model(path, evidence=logged, allow_ignored=ignored)
    if claims is None or data is None:
        raise ChainError(
            f"model {str(path)!r} comes without its claims",
            why=f"there is no {CLAIMS_NAME} beside it: the signature says who signed these files, "
            "not which run made them, on which data, past which gates",
            fix="sign it in the workspace that trained it, ws.sign_model(…, require=[gate]), and "
            "copy the whole directory",
        )
    chain = judge(files.model.digest, claims.evidence, trust.rules, name=name)
    chain.enforce()
    rule = trust.rule(chain.model)
    model = models.load_verified(
        files,
        name=chain.model,
        evidence=claims.evidence,
        allow_types=(*allow_types, *(() if rule is None else rule.allow_types)),
    )
    return model, data


def _signature_in(claims: Claims, signature: Bundle) -> Evidence | None:
    """Return the claim that is the very envelope of *signature*, if it is there."""
    wanted = signature.envelope
    return next((item for item in claims.evidence if item.envelope == wanted), None)


def _claims_bytes(path: Path) -> bytes | None:
    file = (path if path.is_dir() else path.parent) / CLAIMS_NAME
    if not file.exists():
        return None
    with os.fdopen(open_regular(file), "rb") as stream:
        return stream.read(MAX_CLAIMS + 1)


def _only_rule(claims: Claims | None, trust: Trust) -> ModelRule | None:
    """Return the rule for the model that the claims speak of, when there is only one."""
    if claims is None:
        return None
    names = {name for item in claims.evidence if (name := _name(item)) is not None}
    return trust.rule(names.pop()) if len(names) == 1 else None


def _name(item: Evidence) -> str | None:
    if item.statement.predicate_type != st.PROVENANCE:
        return None
    return Provenance.from_statement(item.statement).name
