"""
Which model answered: bound to evidence, or said to be unverified.

A handle counts as verified when it carries `Evidence`, which only a
verification makes, and that evidence is about exactly the digest the handle
has.  Anything else, a version string for example, is recorded as
``unverified``: a name proves nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, cast

from secureml._extras import loaded
from secureml.errors import FormatError
from secureml.wire.canonical import JSON
from secureml.wire.digest import DIR_HASH, Digest
from secureml.wire.manifest import Manifest
from secureml.wire.statement import OMS, VSA

__all__ = ["gates_of", "load_body", "model_field", "provider", "same"]

_PROVIDERS: Final = (FunctionType, MethodType, BuiltinFunctionType, partial)
_MAX_NAME: Final = 512
_MAX_VERSION: Final = 128
_MAX_GATES: Final = 32


def provider(model: object) -> Callable[[], object] | None:
    """Return *model* if it is a function that returns the handle of each call, else None."""
    return cast("Callable[[], object]", model) if isinstance(model, _PROVIDERS) else None


def model_field(model: object) -> Mapping[str, JSON]:
    """Return the ``model`` object of a record for this handle."""
    proofs = _evidence(model)
    digest = getattr(model, "digest", None)
    name = _name(model)
    if isinstance(digest, Digest) and any(_is_about(proof, digest) for proof in proofs):
        found: dict[str, JSON] = {"digest": str(digest), "status": "verified"}
    else:
        found = {"status": "unverified"}
    if name:
        found["name"] = name
    version = _text(getattr(model, "version", None), _MAX_VERSION)
    if version:
        found["version"] = version
    return found


def gates_of(model: object) -> list[dict[str, JSON]]:
    """
    Return the gates that a verified model rests on, by name; empty where none is known.

    They are the decisions (VSA) among its evidence, each with its digest.
    """
    if model_field(model)["status"] != "verified":
        return []
    found: dict[str, dict[str, JSON]] = {}
    for proof in _evidence(model):
        if proof.statement.predicate_type != VSA:
            continue
        match proof.statement.predicate:
            case {"policy": {"name": str(name)}, "verificationResult": str(result)}:
                if 0 < len(name) <= _MAX_NAME and result in {"PASSED", "FAILED"}:
                    found[name] = {
                        "decision": str(proof.digest),
                        "name": name,
                        "result": result.lower(),
                    }
    return [found[name] for name in sorted(found)][:_MAX_GATES]


def same(model: object) -> tuple[object, ...]:
    """Return what `model_field` and `gates_of` depend on, to be compared by identity."""
    return (
        model,
        getattr(model, "digest", None),
        getattr(model, "evidence", None),
        getattr(model, "name", None),
        getattr(model, "version", None),
    )


def load_body(model: object, claims: Digest | None) -> Mapping[str, JSON]:
    """
    Return the body of a ``model-load`` record.

    Raises:
        TypeError: *model* is no verified handle.
    """
    field = dict(model_field(model))
    if field["status"] != "verified":
        msg = (
            f"{type(model).__name__!r} is no verified model: pass what load_model returned, "
            "unchanged"
        )
        raise TypeError(msg)
    proofs = _evidence(model)
    field["evidence"] = sorted({str(proof.digest) for proof in proofs})
    trusts = {str(proof.trust_digest) for proof in proofs}
    if len(trusts) == 1:
        field["trust"] = trusts.pop()
    if claims is not None:
        field["claims"] = str(claims)
    return {"model": field, "outcome": "ok", "type": "model-load"}


def _name(model: object) -> str:
    return _text(model if isinstance(model, str) else getattr(model, "name", None), _MAX_NAME)


def _text(text: object, limit: int) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= limit:
        return ""
    try:
        text.encode()
    except UnicodeEncodeError:
        return ""
    return str.__str__(text)


def _evidence(model: object) -> tuple[Any, ...]:
    # No module, no instance: where nothing was verified, nothing is imported.
    module = loaded("secureml.evidence.verify")
    if module is None:
        return ()
    held = getattr(model, "evidence", None)
    proofs = held if isinstance(held, tuple | list) else (held,)
    return tuple(proofs) if all(isinstance(p, module.Evidence) for p in proofs) else ()


def _is_about(proof: Any, digest: Digest) -> bool:  # noqa: ANN401  Evidence, which is not imported
    if proof.statement.predicate_type == OMS and digest.algorithm == DIR_HASH:
        return _oms_digest(proof.statement.predicate) == digest
    return any(
        subject.digest.get(digest.algorithm) == digest.hex for subject in proof.statement.subject
    )


def _oms_digest(predicate: Mapping[str, JSON]) -> Digest | None:
    """Return the dirHash of the files that an OMS signature lists."""
    try:
        return Manifest.of(_resources(predicate)).digest
    except (FormatError, ValueError):
        return None


def _resources(predicate: Mapping[str, JSON]) -> Iterator[tuple[str, bytes]]:
    resources = predicate.get("resources")
    for resource in resources if isinstance(resources, list) else ():
        match resource:
            case {"algorithm": "sha256", "digest": str(text), "name": str(name)}:
                yield name, bytes.fromhex(text)
            case _:
                msg = "another algorithm"
                raise ValueError(msg)
