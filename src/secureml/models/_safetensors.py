"""
The adapter to safetensors: arrays by name, and nothing that could run.

With two or more metadata keys the file's bytes would depend on chance, so
there is exactly one, ``secureml``, which holds canonical JSON.

Source: safetensors format; safetensors issue 584 (order of metadata).
"""

from collections.abc import Mapping
from typing import Any

from secureml._extras import loaded, require
from secureml.errors import FormatError
from secureml.wire import canonical

__all__ = ["dump_arrays", "dump_state", "is_tensors", "load_tensors"]

_KEY = "secureml"
_PREFIX = 8
_HEADER_LIMIT = 100_000_000


def dump_arrays(arrays: Mapping[str, object]) -> bytes:
    """
    Return numpy *arrays* as safetensors bytes.

    Raises:
        TypeError: A key is not text, or a value not a plain numeric array.
        ValueError: There are no arrays.
        MissingExtraError: safetensors is not installed.
    """
    numpy = require("numpy", purpose="to save arrays")
    library = require("safetensors.numpy", purpose="to save arrays")
    ready = {}
    for name, array in arrays.items():
        _check_key(name)
        if not isinstance(array, numpy.ndarray | numpy.generic) or array.dtype.kind not in "biuf":
            kind = f"{type(array).__name__} of {getattr(array, 'dtype', 'no dtype')}"
            msg = f"{name!r} is a {kind}: save real numbers and booleans as numpy arrays"
            raise TypeError(msg)
        # One order of bytes and of axes; unlike ascontiguousarray, a scalar keeps its shape.
        ready[name] = numpy.array(array, dtype=array.dtype.newbyteorder("<"), order="C")
    if not ready:
        msg = "there are no arrays to save"
        raise ValueError(msg)
    try:
        data: bytes = library.save(ready, metadata=_metadata({"framework": "numpy"}))
    except Exception as error:
        msg = f"the arrays cannot be saved as safetensors: {error}"
        raise TypeError(msg) from error
    return data


def dump_state(state: Mapping[str, object]) -> bytes:
    """
    Return a torch state dict as safetensors bytes.

    A tensor under two names (tied weights) is stored once, and the file says
    which names share it; parts of one storage are stored apart.

    Raises:
        TypeError: A key is not text, or a value not a dense tensor.
        ValueError: There are no tensors.
        MissingExtraError: safetensors or torch is not installed.
    """
    torch = require("torch", purpose="to save a state dict")
    library = require("safetensors.torch", purpose="to save a state dict")
    first: dict[tuple[object, ...], str] = {}
    ready: dict[str, Any] = {}
    aliases: dict[str, canonical.JSON] = {}
    for name in sorted(state, key=_check_key):
        tensor: Any = state[name]
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            msg = f"{name!r} of the state dict is not a dense tensor: leave it out"
            raise TypeError(msg)
        where = (
            tensor.device,
            tensor.data_ptr(),
            tensor.dtype,
            tuple(tensor.shape),
            tensor.stride(),
        )
        if tensor.numel() and where in first:
            aliases[name] = first[where]
            continue
        first[where] = name
        ready[name] = tensor.detach().to("cpu", copy=True).contiguous()
    if not ready:
        msg = "the state dict has no tensors to save"
        raise ValueError(msg)
    about: dict[str, canonical.JSON] = {"framework": "torch"}
    if aliases:
        about["aliases"] = aliases
    try:
        data: bytes = library.save(ready, metadata=_metadata(about))
    except Exception as error:
        msg = f"the state dict cannot be saved as safetensors: {error}"
        raise TypeError(msg) from error
    return data


def load_tensors(name: str, data: bytes) -> dict[str, Any]:
    """
    Return the tensors of the safetensors file *name*.

    They are torch tensors when the file says that torch wrote it, and numpy
    arrays otherwise.

    Raises:
        FormatError: It is not such a file.
        MissingExtraError: safetensors, or the library that wrote it, is missing.
    """
    try:
        about = _about(data, name)
    except (ValueError, FormatError) as error:
        raise _malformed(name, error) from error
    torch = about.get("framework") == "torch"
    library = require(
        "safetensors.torch" if torch else "safetensors.numpy", purpose="to load a model"
    )
    try:
        tensors: dict[str, Any] = library.load(data)
        aliases = about.get("aliases", {})
        if isinstance(aliases, Mapping):
            for alias, target in aliases.items():
                if alias in tensors:
                    msg = f"{alias!r} is stored and an alias at once"
                    raise ValueError(msg)  # noqa: TRY301  one place makes the error
                tensors[alias] = tensors[str(target)]
    except Exception as error:
        raise _malformed(name, error) from error
    return dict(sorted(tensors.items()))


def is_tensors(value: Mapping[object, object]) -> bool:
    """Whether every value of *value* is a torch tensor."""
    torch = loaded("torch")
    return (
        torch is not None
        and bool(value)
        and all(isinstance(item, torch.Tensor) for item in value.values())
    )


def _about(data: bytes, name: str) -> Mapping[str, canonical.JSON]:
    """Read our one metadata key; a peer's ``format: pt`` says the same about torch."""
    size = int.from_bytes(data[:_PREFIX], "little")
    if len(data) < _PREFIX or size > min(len(data) - _PREFIX, _HEADER_LIMIT):
        msg = "its header is longer than the file"
        raise ValueError(msg)
    header = canonical.parse(data[_PREFIX : _PREFIX + size], what=name)
    metadata = header.get("__metadata__", {}) if isinstance(header, Mapping) else {}
    if not isinstance(metadata, Mapping):
        msg = "its metadata is not an object"
        raise ValueError(msg)  # noqa: TRY004  it is about bytes
    own = metadata.get(_KEY)
    if own is None:
        return {"framework": "torch" if metadata.get("format") == "pt" else "numpy"}
    about = canonical.decode(str(own).encode())
    if not isinstance(about, Mapping):
        msg = "its metadata is not an object"
        raise ValueError(msg)  # noqa: TRY004  it is about bytes
    return about


def _metadata(about: Mapping[str, canonical.JSON]) -> dict[str, str]:
    return {_KEY: canonical.encode(dict(about)).decode()}


def _check_key(name: object) -> str:
    if not isinstance(name, str) or name == "__metadata__":
        msg = f"the name of an array is text other than '__metadata__', got {name!r}"
        raise TypeError(msg)
    return name


def _malformed(name: str, error: Exception) -> FormatError:
    return FormatError(
        f"{name!r} is not a safetensors file that can be loaded",
        why=f"{type(error).__name__}: {str(error)[:300]}",
        fix="get the file again, or save the model again with run.save(…)",
    )
