"""
Load a model from bytes that were verified, without running anything they bring along.

Which file is the value?  Files in a format that is loaded (skops, safetensors,
npz, npy) are; when there is one, it is the value, when there are several, the
value is a dict from file name to value.  Without any, a lone JSON file is.
Every other file is kept as bytes in `LoadedModel.files`, and never run.

A single file that needs pickle refuses the whole model, also when the value
would not come from it: somebody downstream would load it.
"""

import io
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, final

from secureml._extras import require
from secureml._html import card
from secureml.errors import FormatError
from secureml.evidence.verify import Evidence
from secureml.models._safetensors import load_tensors
from secureml.models._skops import load_estimator
from secureml.models._state import TOKEN, Made
from secureml.models.sniffing import check_inert
from secureml.models.verifying import VerifiedFiles, VerifiedModel
from secureml.wire import canonical
from secureml.wire.digest import Digest
from secureml.wire.manifest import Manifest

__all__ = ["LoadedModel", "load_value", "load_verified"]


@final
class LoadedModel(Made):
    """
    A model whose bytes were verified, and the value that those bytes make.

    Only `load_verified` makes one, from verified files.  It is frozen, and is
    neither copied nor pickled.

    Attributes:
        value: The estimator, the dict of tensors or arrays, …
        name: The name of the model: of its training run, where the chain of
            custody was judged, else the label in its signature.
        digest: ``dirHash`` of its files.
        evidence: What it rests on, the signature among it; empty for a bare key.
        files: The files that are not part of `value`, as bytes.
        manifest: All signed files.
    """

    __slots__ = ("digest", "evidence", "files", "manifest", "name", "value")
    value: Any
    name: str
    digest: Digest
    evidence: tuple[Evidence, ...]
    files: Mapping[str, bytes]
    manifest: Manifest

    @property
    def digests(self) -> Mapping[str, str]:
        """Every digest that names the model, algorithm → hex."""
        return self.digest.as_set()

    def __repr__(self) -> str:
        return f"<LoadedModel {self.name!r} {self.digest.short} {type(self.value).__name__}>"

    def _repr_html_(self) -> str:
        return card(
            f"Model {self.name}",
            [
                ("digest", self.digest),
                ("value", type(self.value).__name__),
                ("rests on", f"{len(self.evidence)} statements"),
                ("files", ", ".join(entry.name for entry in self.manifest)),
            ],
        )


def load_verified(
    files: VerifiedFiles,
    *,
    name: str | None = None,
    evidence: Iterable[Evidence] | None = None,
    allow_types: Collection[str] = (),
) -> LoadedModel:
    """
    Load the model from *files*, the very bytes that were verified.

    Args:
        files: What `open_model` returned.
        name: Of the model; the label in its signature when None.
        evidence: Everything it rests on; the signature alone when None.
        allow_types: Types beyond the fixed list that a skops file may build.

    Raises:
        UnsafeFormatError: A file needs pickle, or builds a type that is not listed.
        FormatError: No file can be loaded, or one is malformed.
        MissingExtraError: The library for a format is not installed.
        TypeError: *files* is not what `open_model` returns.
    """
    model = _verified_model(files)
    if evidence is None:
        evidence = () if model.evidence is None else (model.evidence,)
    value, rest = _split(files, allow_types)
    return LoadedModel(
        TOKEN,
        value=value,
        name=model.name if name is None else name,
        digest=model.digest,
        evidence=tuple(evidence),
        files=MappingProxyType(rest),
        manifest=model.manifest,
    )


def _verified_model(files: object) -> VerifiedModel:
    if not isinstance(files, VerifiedFiles):
        msg = f"files come from open_model, which verifies them; got a {type(files).__name__}"
        raise TypeError(msg)
    return files.model


def load_value(files: Mapping[str, bytes], *, allow_types: Collection[str] = ()) -> Any:  # noqa: ANN401  any model
    """
    Return the value that *files* make, by the rule of this module.

    Raises:
        UnsafeFormatError: A file needs pickle, or builds a type that is not listed.
        FormatError: No file can be loaded, or one is malformed.
        MissingExtraError: The library for a format is not installed.
    """
    return _split(files, allow_types)[0]


def _split(
    files: Mapping[str, bytes], allow_types: Collection[str]
) -> tuple[object, dict[str, bytes]]:
    for name, data in files.items():
        check_inert(name, data)
    names = [name for name in files if _suffix(name) in _LOADERS]
    if not names:
        texts = [name for name in files if _suffix(name) == ".json"]
        if len(texts) != 1:
            raise FormatError(
                "the model holds no file that can be loaded",
                why=f"known are {', '.join(_LOADERS)} and a lone .json; it has "
                f"{', '.join(repr(name) for name in sorted(files)[:5]) or 'nothing'}",
                fix="load it yourself from the bytes that open_model returns: they are verified",
            )
        value: object = canonical.parse(files[texts[0]], what=texts[0])
        return value, {n: d for n, d in files.items() if n != texts[0]}
    values = {
        name: _LOADERS[_suffix(name)](name, files[name], allow_types) for name in sorted(names)
    }
    rest = {name: data for name, data in files.items() if name not in values}
    return (next(iter(values.values())) if len(values) == 1 else values), rest


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _skops(name: str, data: bytes, allow_types: Collection[str]) -> object:
    return load_estimator(name, data, allow_types=allow_types)


def _safetensors(name: str, data: bytes, _: Collection[str]) -> object:
    return load_tensors(name, data)


def _npz(name: str, data: bytes, _: Collection[str]) -> object:
    numpy = require("numpy", purpose="to load arrays")
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            msg = "it is not a ZIP of arrays"
            raise ValueError(msg)  # noqa: TRY301  one place makes the error
        with numpy.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:
        raise _malformed(name, error) from error


def _npy(name: str, data: bytes, _: Collection[str]) -> object:
    numpy = require("numpy", purpose="to load arrays")
    try:
        return numpy.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise _malformed(name, error) from error


_LOADERS: dict[str, Callable[[str, bytes, Collection[str]], object]] = {
    ".skops": _skops,
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".npy": _npy,
}


def _malformed(name: str, error: Exception) -> FormatError:
    return FormatError(
        f"{name!r} is not a file of arrays that can be loaded",
        why=f"{type(error).__name__}: {str(error)[:300]}",
        fix="get the file again, or save the model again with run.save(…)",
    )
