"""
The adapter to skops: scikit-learn estimators as data, built from listed types only.

skops names every type that a file would build.  It trusts scikit-learn's
estimators, numpy arrays and ufuncs by itself; `TRUSTED` adds the internals
that common estimators are made of.  Each entry was read: building one runs no
code but its own, and none takes a callable to run.  Callables, `partial`,
bound methods and `operator` objects are never in the list.

Two things are done beyond skops.  Every type in the file's schema must come
from `_FAMILIES` or be allowed by name, so that a gap in skops' audit is not a
gap here.  And tree nodes are checked: scikit-learn follows their indices
without bounds, so a crafted tree could read outside of its memory.

Source: skops `io`; GHSA-m7f4-hrc6-fwg3 and GHSA-378x-6p4f-8jgm (audit gaps in
skops < 0.12); scikit-learn #34558 (tree indices).
"""

import io
import json
import warnings
import zipfile
from collections.abc import Collection, Iterator
from typing import Any

from secureml._extras import loaded, require
from secureml.errors import FormatError, UnsafeFormatError

__all__ = ["TRUSTED", "dump_estimator", "load_estimator"]

_LINK = "sklearn._loss.link."
_LOSS = "sklearn._loss.loss."
_CY = "sklearn._loss._loss."
_KERNELS = "sklearn.gaussian_process.kernels."

TRUSTED = frozenset(
    {
        *(f"{_LINK}{n}" for n in ("HalfLogitLink", "IdentityLink", "Interval", "LogLink")),
        *(f"{_LINK}{n}" for n in ("LogitLink", "MultinomialLogit")),
        *(f"{_LOSS}{n}" for n in ("AbsoluteError", "ExponentialLoss", "HalfBinomialLoss")),
        *(f"{_LOSS}{n}" for n in ("HalfGammaLoss", "HalfMultinomialLoss", "HalfPoissonLoss")),
        *(f"{_LOSS}{n}" for n in ("HalfSquaredError", "HalfTweedieLoss")),
        *(f"{_LOSS}{n}" for n in ("HalfTweedieLossIdentity", "HuberLoss", "PinballLoss")),
        *(f"{_CY}{n}" for n in ("CyAbsoluteError", "CyExponentialLoss", "CyHalfBinomialLoss")),
        *(f"{_CY}{n}" for n in ("CyHalfGammaLoss", "CyHalfMultinomialLoss", "CyHalfPoissonLoss")),
        *(f"{_CY}{n}" for n in ("CyHalfSquaredError", "CyHalfTweedieLoss", "CyHuberLoss")),
        *(f"{_CY}{n}" for n in ("CyHalfTweedieLossIdentity", "CyPinballLoss")),
        *(f"{_KERNELS}{n}" for n in ("ConstantKernel", "DotProduct", "ExpSineSquared")),
        *(f"{_KERNELS}{n}" for n in ("Exponentiation", "Hyperparameter", "Matern", "Product")),
        *(f"{_KERNELS}{n}" for n in ("RBF", "RationalQuadratic", "Sum", "WhiteKernel")),
        "collections.OrderedDict",
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)
"""Types that a skops file may build without being asked for; part of the public contract."""

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
    if unknown := _unknown_types(skops, data, allow_types):
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
        unknown = _unknown_types(skops, data, allow_types)
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
            value = skops.loads(data, trusted=sorted({*TRUSTED, *allow_types}))
        except Exception as error:
            raise _malformed(name, error) from error
    for problem in _bad_trees(value):
        raise UnsafeFormatError(
            f"{name!r} is not loaded: one of its trees is not a tree",
            why=f"{problem}; scikit-learn would follow it outside of the tree's memory",
            fix="do not use the file; train and save the model again",
        )
    return value


def _unknown_types(skops: Any, data: bytes, allow_types: Collection[str]) -> list[str]:  # noqa: ANN401  a module
    allowed = {*TRUSTED, *allow_types}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > _EXPANSION * len(data) + _FLOOR:
            msg = f"it would expand to {size:,} bytes"
            raise ValueError(msg)
        schema = json.loads(archive.read("schema.json"))
    strange = {
        name
        for name in _named(schema)
        if name not in allowed
        and name not in _BUILTINS
        and name.partition(".")[0] not in _FAMILIES
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        untrusted = set(skops.get_untrusted_types(data=data))
    return sorted(strange | (untrusted - allowed))


def _named(schema: object) -> Iterator[str]:
    """Yield ``module.class`` of each node of the schema, without recursion."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            # A JSON leaf is data, whatever it calls itself: nothing is built from its name.
            if "__class__" in node and node.get("__loader__") != "JsonNode":
                yield f"{node.get('__module__')}.{node.get('__class__')}"
            pending.extend(node.values())


def _bad_trees(value: object) -> Iterator[str]:
    """Yield what is wrong with each tree inside *value*."""
    numpy = loaded("numpy")
    if numpy is None:
        return
    seen: set[int] = set()
    pending: list[object] = [value]
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, str | bytes | int | float | type):
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)
        elif isinstance(item, numpy.ndarray):
            if item.dtype == object:
                pending.extend(item.ravel().tolist())
        else:
            kind = f"{type(item).__module__}.{type(item).__name__}"
            if kind == "sklearn.tree._tree.Tree":
                yield from _bad_tree(numpy, item)
            elif kind == "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor":
                yield from _bad_predictor(numpy, item)
            pending.extend(getattr(item, "__dict__", {}).values())


def _bad_tree(numpy: Any, tree: Any) -> Iterator[str]:  # noqa: ANN401  foreign objects
    count = tree.node_count
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    here = numpy.arange(count)
    inner = left != -1
    # A child stands behind its parent, which also leaves no cycle.
    if count == 0 or bool(((right != -1) != inner).any()):
        yield "a node has one child"
    elif bool(
        ((left[inner] <= here[inner]) | (left[inner] >= count)).any()
        or ((right[inner] <= here[inner]) | (right[inner] >= count)).any()
    ):
        yield "a child's index is out of range"
    elif bool(((feature[inner] < 0) | (feature[inner] >= tree.n_features)).any()):
        yield "a feature's index is out of range"


def _bad_predictor(numpy: Any, tree: Any) -> Iterator[str]:  # noqa: ANN401  foreign objects
    nodes = tree.nodes
    here, count = numpy.arange(len(nodes)), len(nodes)
    inner = nodes["is_leaf"] == 0
    left, right = nodes["left"][inner].astype("i8"), nodes["right"][inner].astype("i8")
    if count == 0 or bool(
        ((left <= here[inner]) | (left >= count)).any()
        or ((right <= here[inner]) | (right >= count)).any()
    ):
        yield "a child's index is out of range"
    elif bool((nodes["feature_idx"][inner].astype("i8") < 0).any()):
        yield "a feature's index is out of range"
    categorical = nodes["is_categorical"][inner].astype(bool)
    bitset = nodes["bitset_idx"][inner].astype("i8")[categorical]
    if bitset.size and int(bitset.max()) >= len(tree.raw_left_cat_bitsets):
        yield "a category's index is out of range"


def _malformed(name: str, error: Exception) -> FormatError:
    return FormatError(
        f"{name!r} is not a skops file that can be loaded",
        why=f"{type(error).__name__}: {str(error)[:300]}",
        fix="load it with the versions that the run's environment names, or save the model again",
    )
