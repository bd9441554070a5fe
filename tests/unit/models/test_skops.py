"""Estimators as data: common ones load unasked, nothing that runs code ever does."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from secureml.errors import FormatError, UnsafeFormatError
from secureml.models._skops import dump_estimator, load_estimator
from secureml.models.trusted_types import TRUSTED

RNG = np.random.default_rng(7)
X = np.abs(RNG.normal(size=(60, 4)))
Y = (X[:, 0] + X[:, 1] > 1.5).astype(int)

ESTIMATORS: list[Any] = [
    AdaBoostClassifier(n_estimators=3),
    CalibratedClassifierCV(LinearSVC(), cv=2),
    CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2),
    DecisionTreeClassifier(),
    ExtraTreesClassifier(3),
    GaussianNB(),
    GaussianProcessClassifier(),
    GradientBoostingClassifier(n_estimators=3),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    HistGradientBoostingClassifier(max_iter=3),
    HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]),
    IsolationForest(n_estimators=3),
    KMeans(2, n_init=1),
    KNeighborsClassifier(),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, scoring="roc_auc"),
    KNeighborsClassifier(algorithm="brute"),
    KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
    make_pipeline(SelectKBest(f_classif, k=2), GaussianNB()),
    make_pipeline(SelectKBest(mutual_info_classif, k=2), GaussianNB()),
    LinearRegression(),
    LogisticRegression(),
    MLPClassifier(max_iter=20),
    MLPClassifier(max_iter=20, solver="sgd"),
    RandomForestClassifier(3),
    Ridge(),
    SGDClassifier(),
    SGDClassifier(loss="modified_huber"),
    SVC(),
    SVC(kernel="linear", probability=False),
    StackingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], cv=2),
    TweedieRegressor(),
    VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())]),
    make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
    make_pipeline(KBinsDiscretizer(3), LogisticRegression()),
    make_pipeline(PCA(2), StandardScaler(), SVC()),
    make_pipeline(SplineTransformer(), LogisticRegression()),
    Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [0, 1]),
                        ("classes", OneHotEncoder(handle_unknown="ignore"), [3]),
                    ],
                    remainder="passthrough",
                ),
            ),
            ("forest", RandomForestClassifier(3)),
        ]
    ),
]


def data() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the rows, the last column with four classes."""
    rows = X.copy()
    rows[:, 3] = np.digitize(rows[:, 3], [0.3, 0.7, 1.2])
    return rows


@pytest.mark.parametrize(
    "place", range(len(ESTIMATORS)), ids=lambda i: f"{type(ESTIMATORS[i]).__name__}-{i}"
)
def test_common_estimators_come_back_unasked(place: int) -> None:
    """Estimators that people use are saved and loaded unasked, and predict alike."""
    estimator = ESTIMATORS[place]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(data(), Y)
    loaded = load_estimator("model.skops", dump_estimator(estimator))

    np.testing.assert_array_equal(estimator.predict(data()), loaded.predict(data()))


def test_no_trusted_type_is_a_door() -> None:
    """The list holds nothing that calls what it is given."""
    doors = ("builtins", "os", "sys", "subprocess", "importlib", "operator", "functools", "pickle")

    assert not {name for name in TRUSTED if name.partition(".")[0] in doors}
    assert all("partial" not in name and "joblib" not in name for name in TRUSTED)


class Local(BaseEstimator):  # type: ignore[misc]
    """An estimator that somebody wrote."""


def test_unlisted_type_is_refused_by_name_and_can_be_allowed() -> None:
    """A class of the user's own is named in the error; allowed by name, it loads."""
    name = f"{Local.__module__}.Local"
    made = dump_estimator(Local(), allow_types=[name])
    with pytest.raises(UnsafeFormatError) as caught:
        load_estimator("model.skops", made)

    assert name in caught.value.why
    assert "allow_types" in caught.value.fix
    assert isinstance(load_estimator("model.skops", made, allow_types=[name]), Local)


def respelled(change: Callable[[dict[str, Any]], object], estimator: object) -> bytes:
    """Return the skops file of *estimator* with *change* made to its schema."""
    made = dump_estimator(estimator)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            new.writestr(name, content)
    return buffer.getvalue()


def node(loader: str, module: str, name: str, **more: object) -> dict[str, object]:
    """Return a node of a skops schema."""
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


TEXT = node("JsonNode", "builtins", "str", content='"touch /tmp/never"', is_json=True)
ARGS = node("TupleNode", "builtins", "tuple", content=[TEXT])
DICT = node(
    "DictNode",
    "builtins",
    "dict",
    key_types=node("ListNode", "builtins", "list", content=[]),
    content={},
)


@pytest.mark.parametrize(
    "evil",
    [
        node("FunctionNode", "os", "system"),
        node("TypeNode", "subprocess", "Popen"),
        node("TypeNode", "builtins", "exec"),
        node("ObjectNode", "subprocess", "Popen", content=DICT),
        node("ConstructorFromReduceNode", "os", "system", content=ARGS),
        node("ConstructorFromReduceNode", "subprocess", "Popen", content=ARGS),
        node("OperatorFuncNode", "operator", "methodcaller", attrs=ARGS),
        node(
            "PartialNode",
            "functools",
            "partial",
            content={
                "func": node("FunctionNode", "os", "system"),
                "args": ARGS,
                "kwds": DICT,
                "namespace": TEXT,
            },
        ),
        node("ListNode", "os", "system", content=[TEXT]),
        node("SetNode", "subprocess", "Popen", content=[TEXT]),
        node("JsonNode2", "os", "system", content="1"),
        node("ReduceNode", "os", "system"),
    ],
    ids=lambda e: f"{e['__loader__']}-{e['__module__']}.{e['__class__']}",
)
def test_callable_inside_an_estimator_is_refused(
    evil: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a crafted file would call is refused before anything is built."""
    import os
    import subprocess

    def never(*_: object, **__: object) -> None:
        pytest.fail("the file ran code")

    monkeypatch.setattr(os, "system", never)
    monkeypatch.setattr(subprocess, "Popen", never)

    def change(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["C"] = evil

    with pytest.raises((UnsafeFormatError, FormatError)) as caught:
        load_estimator("model.skops", respelled(change, LogisticRegression()))
    assert "is not" in caught.value.what


@pytest.mark.parametrize(
    "break_it",
    [
        lambda n: n["left_child"].__setitem__(0, 10_000),
        lambda n: n["right_child"].__setitem__(0, -7),
        lambda n: n["left_child"].__setitem__(0, 0),
        lambda n: n["feature"].__setitem__(0, 99),
        lambda n: n["feature"].__setitem__(0, -1),
        lambda n: n["right_child"].__setitem__(0, -1),
    ],
    ids=["beyond", "before", "cycle", "feature", "negative feature", "one child"],
)
def test_tree_that_points_outside_is_refused(break_it: Callable[[Any], object]) -> None:
    """scikit-learn follows a tree's indices without bounds; a crafted one is refused."""
    made = dump_estimator(DecisionTreeClassifier().fit(X, Y))
    buffer = io.BytesIO()
    broken = 0
    with zipfile.ZipFile(io.BytesIO(made)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(content))
                if array.dtype.names and "left_child" in array.dtype.names:
                    break_it(array)
                    broken += 1
                    out = io.BytesIO()
                    np.save(out, array)
                    content = out.getvalue()
            new.writestr(name, content)

    assert broken == 1
    with pytest.raises(UnsafeFormatError, match="not a tree"):
        load_estimator("model.skops", buffer.getvalue())


@pytest.mark.parametrize(
    "break_it",
    [
        lambda n: n["left"].__setitem__(0, 10_000),
        lambda n: n["right"].__setitem__(0, 0),
        lambda n: n["feature_idx"].__setitem__(0, -1),
        lambda n: (n["is_categorical"].__setitem__(0, 1), n["bitset_idx"].__setitem__(0, 9)),
    ],
    ids=["beyond", "cycle", "negative feature", "bitset"],
)
def test_boosted_tree_that_points_outside_is_refused(break_it: Callable[[Any], object]) -> None:
    """The trees of histogram boosting have indices of their own, checked as well."""
    estimator = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=5).fit(X, Y)
    break_it(estimator._predictors[0][0].nodes)

    with pytest.raises(UnsafeFormatError, match="not a tree"):
        load_estimator("model.skops", dump_estimator(estimator))


def test_garbage_is_a_format_error() -> None:
    """What is not a skops file is a FormatError and nothing else."""
    with pytest.raises(FormatError, match="not a skops file"):
        load_estimator("model.skops", b"garbage")
    with pytest.raises(FormatError, match="not a skops file"):
        load_estimator("model.skops", respelled(lambda s: s.clear(), LogisticRegression()))


def test_listed_types_that_do_not_fit_are_a_format_error() -> None:
    """A file of harmless types that cannot be put together is malformed, not unsafe."""

    def change(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["C"] = node(
            "NdArrayNode", "numpy", "ndarray", type="numpy", file="schema.json"
        )

    with pytest.raises(FormatError, match="not a skops file"):
        load_estimator("model.skops", respelled(change, LogisticRegression()))


def test_bomb_is_refused_before_it_unfolds() -> None:
    """A file that would grow a thousandfold is refused from its directory alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("schema.json", b" " * (200 << 20))

    with pytest.raises(FormatError, match="not a skops file") as caught:
        load_estimator("model.skops", buffer.getvalue())
    assert "would expand" in caught.value.why


def test_what_skops_cannot_store_is_a_type_error() -> None:
    """An estimator that skops does not know is the caller's to change."""
    with pytest.raises(TypeError, match="cannot be saved as skops"):
        dump_estimator(Birch())


@pytest.mark.parametrize(
    "break_it",
    [
        lambda s: s[1].__setitem__(0, 10_000),
        lambda s: s[1].__setitem__(0, -1),
        lambda s: s[2]["idx_end"].__setitem__(0, 10_000),
        lambda s: s[2]["is_leaf"].__setitem__(-1, 0),
        lambda s: s.__setitem__(6, 1),
    ],
    ids=["point", "negative", "node", "leaf", "count"],
)
def test_neighbour_tree_that_points_outside_is_refused(break_it: Callable[[Any], object]) -> None:
    """The trees that find neighbours are checked as well."""
    estimator = KNeighborsClassifier(algorithm="kd_tree", leaf_size=10).fit(X, Y)
    state = [
        part.copy() if hasattr(part, "copy") else part for part in estimator._tree.__getstate__()
    ]
    break_it(state)
    estimator._tree.__setstate__(tuple(state))

    with pytest.raises(UnsafeFormatError, match="not a tree"):
        load_estimator("model.skops", dump_estimator(estimator))


def test_tree_wider_than_its_estimator_is_refused() -> None:
    """A tree must not look at features that its estimator does not check for."""
    estimator = DecisionTreeClassifier().fit(X, Y)
    estimator.n_features_in_ = 1
    estimator.tree_ = DecisionTreeClassifier().fit(X[:, ::-1], Y).tree_

    with pytest.raises(UnsafeFormatError, match="not a tree"):
        load_estimator("model.skops", dump_estimator(estimator))


def test_partial_of_anything_else_is_refused() -> None:
    """One `partial` of scikit-learn's own is let in; not one of another function."""
    from functools import partial

    with pytest.raises(TypeError, match=r"functools\.partial"):
        dump_estimator(FunctionTransformer(partial(np.log1p)))
