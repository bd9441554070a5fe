"""
The adapter to skops: scikit-learn estimators as data, built from listed types only.

skops names every type that a file would build; what is beyond its own trust
and ours (`secureml.models.trusted_types`) is refused before anything is built.

Two things are done beyond skops.  Every name in the file's schema must come
from `_FAMILIES` or be allowed, so that a gap in skops' audit is not a gap
here.  And trees are checked (`secureml.models._trees`) before anybody uses them.

Source: skops `io`; GHSA-m7f4-hrc6-fwg3 and GHSA-378x-6p4f-8jgm (audit gaps in
skops < 0.12); scikit-learn #34558 (tree indices).
"""

import io
import json
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from secureml._extras import require
from secureml.errors import FormatError, UnsafeFormatError
from secureml.models._trees import bad_trees
from secureml.models.trusted_types import PARTIAL_OF, TRUSTED

__all__ = ["dump_estimator", "load_estimator"]

_FAMILIES = frozenset({"numpy", "scipy", "sklearn"})
_BUILTINS = frozenset(
    {
        "builtins.bool",
        "builtins.bytearray",
        "builtins.bytes",
        "builtins.complex",
        "builtins.dict",
        "builtins.float",
        "builtins.frozenset",
        "builtins.int",
        "builtins.list",
        "builtins.set",
        "builtins.slice",
        "builtins.str",
        "builtins.tuple",
        "builtins.NoneType",
        "builtins.ellipsis",
        "collections.OrderedDict",
        "collections.defaultdict",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "datetime.timezone",
    }
)
_Node = tuple[str, dict[str, Any]]
_EXPANSION = 64
_FLOOR = 64 * 2**20


def dump_estimator(value: object, *, allow_types: Collection[str] = ()) -> bytes:
    """
    Return *value* as skops bytes that `load_estimator` will load.

    Raises:
        TypeError: skops cannot store it, or it needs types beyond `TRUSTED`
            and *allow_types*; the message names them.
        MissingExtraError: skops is not installed.
    """
    skops = require("skops.io", purpose="to save a scikit-learn model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of numpy and scikit-learn, about their own renamings.
        try:
            data: bytes = skops.dumps(value)
        except Exception as error:
            msg = f"{type(value).__name__} cannot be saved as skops: {error}"
            raise TypeError(msg) from error
    _, unknown = _types(skops, data, allow_types)
    if unknown:
        msg = (
            f"{type(value).__name__} is made of types that are not loaded unasked: "
            f"{', '.join(unknown)}. If you know them to be harmless, pass "
            f"allow_types={unknown!r}, and list the same in allow_types of the trust "
            "file's rule for the model"
        )
        raise TypeError(msg)
    return data


def load_estimator(name: str, data: bytes, *, allow_types: Collection[str] = ()) -> Any:  # noqa: ANN401  any estimator
    """
    Build the estimator in the skops file *name*.

    Args:
        name: For error texts.
        data: The file's bytes, verified.
        allow_types: Types beyond `TRUSTED` that may be built.

    Raises:
        UnsafeFormatError: It would build a type that is not listed, or its
            trees point outside of themselves.
        FormatError: It is not a skops file that this version reads.
        MissingExtraError: skops is not installed.
    """
    skops = require("skops.io", purpose="to load a scikit-learn model")
    try:
        allowed, unknown = _types(skops, data, allow_types)
    except Exception as error:
        raise _malformed(name, error) from error
    if unknown:
        raise UnsafeFormatError(
            f"{name!r} is not loaded: it would build types that are not listed",
            why=f"not in secureml's fixed list: {', '.join(unknown)}",
            fix="if you have read these types and know them to be harmless, name them in "
            f"allow_types, or in the trust file's rule: allow_types = {json.dumps(unknown)}",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Another scikit-learn version: see the run's environment.
        try:
            value = skops.loads(data, trusted=sorted(allowed))
        except Exception as error:
            raise _malformed(name, error) from error
    for problem in bad_trees(value):
        raise UnsafeFormatError(
            f"{name!r} is not loaded: one of its trees is not a tree",
            why=f"{problem}; scikit-learn would follow it outside of the tree's memory",
            fix="do not use the file; train and save the model again",
        )
    return value


def _types(
    skops: Any,  # noqa: ANN401  a module
    data: bytes,
    allow_types: Collection[str],
) -> tuple[set[str], list[str]]:
    """Return what may be built from *data*, and what it would build beyond that."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > _EXPANSION * len(data) + _FLOOR:
            msg = f"it would expand to {size:,} bytes"
            raise ValueError(msg)
        nodes = list(_nodes(json.loads(archive.read("schema.json"))))
    allowed = {*_trusted(nodes), *allow_types}
    strange = {
        name
        for name, _ in nodes
        if name not in allowed
        and name not in _BUILTINS
        and name.partition(".")[0] not in _FAMILIES
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        untrusted = set(skops.get_untrusted_types(data=data))
    return allowed, sorted(strange | (untrusted - allowed))


def _trusted(nodes: Sequence[_Node]) -> frozenset[str]:
    """Return the fixed list, with `partial` in it when every one is of a listed function."""
    partials = [node for name, node in nodes if name == "functools.partial"]
    for node in partials:
        content = node.get("content")
        inner = content.get("func") if isinstance(content, dict) else None
        if not isinstance(inner, dict) or _name(inner) not in PARTIAL_OF:
            return TRUSTED
    return TRUSTED | {"functools.partial"} if partials else TRUSTED


def _nodes(schema: object) -> Iterator[_Node]:
    """Yield name and content of each node that would build something, without recursion."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            # A JSON leaf is data, whatever it calls itself: nothing is built from its name.
            if "__class__" in node and node.get("__loader__") != "JsonNode":
                yield _name(node), node
            pending.extend(node.values())


def _name(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _malformed(name: str, error: Exception) -> FormatError:
    return FormatError(
        f"{name!r} is not a skops file that can be loaded",
        why=f"{type(error).__name__}: {str(error)[:300]}",
        fix="load it with the versions that the run's environment names, or save the model again",
    )
