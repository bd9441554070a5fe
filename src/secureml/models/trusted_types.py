"""
The fixed list: types that a skops file may build without being asked for.

skops trusts scikit-learn's public estimators, numpy's arrays and ufuncs by
itself.  These are the internals that common estimators are made of beyond
that.  Each was read.  A class is here when building one runs no code but its
own; a function, when it computes on arrays and calls nothing it is given.

Never here: `functools.partial` (but see `PARTIAL_OF`), bound methods,
`operator` objects, anything of ``builtins``, ``os`` or ``importlib``, and
metrics that call a function (``PyFuncDistance``).

A type that is missing can be allowed by name, for one model, in the trust
file; a type leaves this list only with a note in the changelog.
"""

from itertools import product
from typing import Final

__all__ = ["PARTIAL_OF", "TRUSTED"]

PARTIAL_OF: Final = frozenset({"sklearn.utils.validation.check_array"})
"""A `functools.partial` of one of these, and of nothing else, may be built."""

_LINKS = {
    f"sklearn._loss.link.{name}"
    for name in (
        "HalfLogitLink",
        "IdentityLink",
        "Interval",
        "LogLink",
        "LogitLink",
        "MultinomialLogit",
    )
}
_KINDS = (
    "AbsoluteError",
    "ExponentialLoss",
    "HalfBinomialLoss",
    "HalfGammaLoss",
    "HalfMultinomialLoss",
    "HalfPoissonLoss",
    "HalfSquaredError",
    "HalfTweedieLoss",
    "HalfTweedieLossIdentity",
    "HuberLoss",
    "PinballLoss",
)
_LOSSES = {f"sklearn._loss.loss.{name}" for name in _KINDS} | {
    f"sklearn._loss._loss.Cy{name}" for name in _KINDS
}
_KERNELS = {
    f"sklearn.gaussian_process.kernels.{name}"
    for name in (
        "CompoundKernel",
        "ConstantKernel",
        "DotProduct",
        "ExpSineSquared",
        "Exponentiation",
        "Hyperparameter",
        "Matern",
        "Product",
        "RBF",
        "RationalQuadratic",
        "Sum",
        "WhiteKernel",
    )
}
_DISTANCES = {
    f"sklearn.metrics._dist_metrics.{name}Distance{bits}"
    for name, bits in product(("Chebyshev", "Euclidean", "Manhattan", "Minkowski"), (32, 64))
}
_SPLITS = {
    f"sklearn.model_selection._split.{name}"
    for name in (
        "GroupKFold",
        "GroupShuffleSplit",
        "KFold",
        "LeaveOneGroupOut",
        "LeaveOneOut",
        "RepeatedKFold",
        "RepeatedStratifiedKFold",
        "ShuffleSplit",
        "StratifiedGroupKFold",
        "StratifiedKFold",
        "StratifiedShuffleSplit",
        "TimeSeriesSplit",
    )
}
_METRICS = {
    *(
        f"sklearn.metrics._classification.{name}"
        for name in (
            "accuracy_score",
            "balanced_accuracy_score",
            "brier_score_loss",
            "f1_score",
            "jaccard_score",
            "log_loss",
            "matthews_corrcoef",
            "precision_score",
            "recall_score",
        )
    ),
    *(
        f"sklearn.metrics._ranking.{name}"
        for name in ("average_precision_score", "roc_auc_score", "top_k_accuracy_score")
    ),
    *(
        f"sklearn.metrics._regression.{name}"
        for name in (
            "explained_variance_score",
            "max_error",
            "mean_absolute_error",
            "mean_absolute_percentage_error",
            "mean_squared_error",
            "median_absolute_error",
            "r2_score",
            "root_mean_squared_error",
        )
    ),
}
_SELECTION = {
    *(
        f"sklearn.feature_selection._univariate_selection.{name}"
        for name in ("chi2", "f_classif", "f_oneway", "f_regression", "r_regression")
    ),
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
}

TRUSTED: Final = frozenset(
    {
        *_DISTANCES,
        *_KERNELS,
        *_LINKS,
        *_LOSSES,
        *_METRICS,
        *_SELECTION,
        *_SPLITS,
        *PARTIAL_OF,
        "numpy.dtype",
        "numpy.mean",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.interpolate._bsplines._BSpline",
        "scipy.sparse._csc.csc_array",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.compose._column_transformer._RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)
"""Part of the public contract: a model made of these loads wherever this library is."""
