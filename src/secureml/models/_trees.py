"""
Trees that are trees: indices that lead outside are found before they are followed.

scikit-learn walks its decision trees, histogram trees and neighbour trees by
the indices that they store, without bounds.  A file can store any number
there, and the first prediction would read foreign memory.  So the nodes of
every tree in a loaded value are checked: each child lies behind its parent
and inside the tree (which leaves no cycle), each feature inside the width of
the estimator that owns the tree.

It is a check of the indices, not of the model: a tree that passes can still
predict nonsense.

Source: scikit-learn pull request 34558.
"""

from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from secureml._extras import require

__all__ = ["bad_trees"]

_PLAIN = (
    *(str, bytes, bytearray, bool, int, float, complex, type, type(None)),
    # Code is not part of a model, and from a module everything can be reached.
    *(ModuleType, FunctionType, BuiltinFunctionType),
)


def bad_trees(value: object) -> Iterator[str]:
    """Yield what is wrong with each tree inside *value*."""
    numpy = require("numpy", purpose="to load a scikit-learn model")
    seen: set[int] = set()
    pending: list[tuple[object, int | None]] = [(value, None)]
    while pending:
        item, width = pending.pop()
        # The type itself: an object may answer `isinstance` with whatever it likes.
        kind = type(item)
        if issubclass(kind, _PLAIN) or id(item) in seen:
            continue
        seen.add(id(item))
        inside: Any = item
        if issubclass(kind, dict):
            pending += [(part, width) for part in inside.values()]
        elif issubclass(kind, list | tuple | set | frozenset):
            pending += [(part, width) for part in inside]
        elif issubclass(kind, numpy.ndarray):
            if inside.dtype == object:
                pending += [(part, width) for part in inside.ravel().tolist()]
        else:
            check = _CHECKS.get(f"{kind.__module__}.{kind.__name__}")
            if check is not None:
                yield from check(numpy, item, width)
            attributes = getattr(item, "__dict__", {})
            own = attributes.get("n_features_in_")
            width = own if isinstance(own, int) else width
            pending += [(part, width) for part in attributes.values()]


def _tree(numpy: Any, tree: Any, width: int | None) -> Iterator[str]:  # noqa: ANN401  foreign objects
    left, right = tree.children_left, tree.children_right
    inner = left != -1
    if len(left) == 0 or bool(((right != -1) != inner).any()):
        yield "a node has one child"
    elif _outside(numpy, left, inner) or _outside(numpy, right, inner):
        yield "a child's index is out of range"
    elif _beyond(tree.feature[inner], tree.n_features if width is None else width):
        yield "a feature's index is out of range"


def _predictor(numpy: Any, tree: Any, width: int | None) -> Iterator[str]:  # noqa: ANN401  foreign objects
    nodes = tree.nodes
    inner = nodes["is_leaf"] == 0
    left, right = nodes["left"].astype("i8"), nodes["right"].astype("i8")
    categorical = inner & (nodes["is_categorical"] != 0)
    sets = min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets))
    if len(nodes) == 0 or _outside(numpy, left, inner) or _outside(numpy, right, inner):
        yield "a child's index is out of range"
    elif _beyond(nodes["feature_idx"][inner].astype("i8"), width):
        yield "a feature's index is out of range"
    elif _beyond(nodes["bitset_idx"][categorical].astype("i8"), sets):
        yield "a category's index is out of range"


def _neighbours(numpy: Any, tree: Any, _: int | None) -> Iterator[str]:  # noqa: ANN401  foreign objects
    state = tree.__getstate__()
    data, order, nodes, bounds = state[:4]
    levels, count = state[5], state[6]
    if (
        len(nodes) != count
        or count != 2**levels - 1
        or bounds.shape[1:]
        != (
            count,
            data.shape[1],
        )
    ):
        yield "its nodes are not as many as it says"
    elif len(order) != len(data) or _beyond(order, len(data)):
        yield "a point's index is out of range"
    elif (
        _beyond(nodes["idx_start"], len(data) + 1)
        or _beyond(nodes["idx_end"], len(data) + 1)
        or bool((nodes["idx_start"] > nodes["idx_end"]).any())
    ):
        yield "a node's points are out of range"
    elif not bool(nodes["is_leaf"][numpy.arange(count) >= count // 2].all()):
        yield "a node has children beyond the last"


_CHECKS = {
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": _predictor,
    "sklearn.neighbors._ball_tree.BallTree": _neighbours,
    "sklearn.neighbors._kd_tree.KDTree": _neighbours,
    "sklearn.tree._tree.Tree": _tree,
}


def _outside(numpy: Any, child: Any, inner: Any) -> bool:  # noqa: ANN401  foreign objects
    """Whether a child of an inner node does not lie behind it, or beyond the last."""
    here = numpy.arange(len(child))
    return bool(((child <= here) | (child >= len(child)))[inner].any())


def _beyond(index: Any, end: int | None) -> bool:  # noqa: ANN401  foreign objects
    """Whether an index is negative, or not below *end*."""
    return bool((index < 0).any() or (end is not None and (index >= end).any()))
