"""
Save a trained value in a format that loading does not execute.

A scikit-learn estimator becomes ``model.skops``; a torch module, or a state
dict, ``model.safetensors``; a dict of numpy arrays, ``model.safetensors``.
Anything else is refused: pickle would save it, and loading it would run it.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from secureml._durable import sync_directory, write_beside
from secureml._extras import loaded
from secureml.models._safetensors import dump_arrays, dump_state, is_tensors
from secureml.models._skops import dump_estimator
from secureml.models.oms import OWN_IGNORED
from secureml.wire.manifest import Manifest

__all__ = ["save"]

_SKOPS = "model.skops"
_SAFETENSORS = "model.safetensors"
_OURS = frozenset({_SKOPS, _SAFETENSORS, *OWN_IGNORED})


def save(
    value: object, directory: str | os.PathLike[str], *, allow_types: Collection[str] = ()
) -> Manifest:
    """
    Write *value* into *directory* as a model, and return the model's manifest.

    The directory is made when it is missing.  A model that was saved there
    before is replaced, and its signature and claims are removed: they are
    about other bytes.

    Args:
        value: An estimator, a torch module or state dict, or a dict of arrays.
        directory: It may hold nothing but what `save` and signing write.
        allow_types: Types beyond the fixed list that an estimator may be made of.

    Raises:
        TypeError: A value of another kind, or one that its format cannot hold.
        ValueError: The directory holds other files, or there is nothing to save.
        MissingExtraError: The library for the format is not installed.
    """
    target = Path(directory)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        msg = f"{str(target)!r} is not a directory: name one for the model, it will be made"
        raise ValueError(msg)
    present = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    if other := sorted(present - _OURS):
        msg = (
            f"{str(target)!r} holds {other[0]!r}, which a model directory would then contain: "
            "name an empty directory, or use run.add_output for one that you fill yourself"
        )
        raise ValueError(msg)
    name, data = _encoded(value, allow_types)
    target.mkdir(parents=True, exist_ok=True)
    for stale in sorted((_OURS - {name}) & present):
        (target / stale).unlink()
    sync_directory(target)
    write_beside(target / name, data)
    return Manifest.of([(name, hashlib.sha256(data).digest())])


def _encoded(value: object, allow_types: Collection[str]) -> tuple[str, bytes]:
    sklearn, torch, numpy = loaded("sklearn.base"), loaded("torch"), loaded("numpy")
    if sklearn is not None and isinstance(value, sklearn.BaseEstimator):
        return _SKOPS, dump_estimator(value, allow_types=allow_types)
    if torch is not None and isinstance(value, torch.nn.Module):
        return _SAFETENSORS, dump_state(value.state_dict())
    if isinstance(value, Mapping):
        if is_tensors(value):
            return _SAFETENSORS, dump_state(value)
        if numpy is not None and any(isinstance(v, numpy.ndarray) for v in value.values()):
            return _SAFETENSORS, dump_arrays(value)
    msg = (
        f"a value of type {type(value).__module__}.{type(value).__qualname__} is not saved: "
        "what can be saved without pickle is a scikit-learn estimator (skops), a torch module "
        "or state dict (safetensors), and a dict of numpy arrays (safetensors)"
    )
    raise TypeError(msg)
