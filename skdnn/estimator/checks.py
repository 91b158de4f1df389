"""What a user hands in, checked before training; every error names the parameter and value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from .._sparse import is_sparse
from ..activations import ACTIVATIONS
from ..initializers import INITIALIZER_NAMES
from ..losses import LOSSES
from ..optimizers import SOLVERS
from ..preprocessing.categories import is_missing
from ..schedules import SCHEDULES
from ..training.rows import Rows
from ..utils import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    check_weights,
    cut_rows,
    fill_masked,
    is_masked,
)

SMALL_TABLE = 2_000
"""A float64 table of up to this many rows is trained in float64: the cost would not be felt."""

FLOAT32_ROUNDING = 1e-3
"""Largest error of rounding a column to float32, in standard deviations of the column."""


PARAMETER_CONSTRAINTS: dict[str, list] = {
    "encoder": [StrOptions({"auto"}), HasMethods(["fit", "transform"]), None],
    "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    "numeric_embedding": [StrOptions({"auto", "mixed", "periodic", "piecewise"}), None],
    "hidden_layer_sizes": [
        StrOptions({"auto"}),
        "array-like",
        Interval(Integral, 1, None, closed="left"),
    ],
    "activation": [
        StrOptions({"auto", *ACTIVATIONS}),
        "array-like",
        HasMethods(["value", "derivative"]),
    ],
    "initialization": [StrOptions(set(INITIALIZER_NAMES))],
    "normalization": [StrOptions({"batch", "layer"}), None],
    "residual": ["boolean"],
    "n_members": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left"), "array-like"],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left"), None],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "loss": [StrOptions(set(LOSSES))],
    "focal_gamma": [Interval(Real, 0, None, closed="left")],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "solver": [StrOptions({*SOLVERS, "lbfgs"})],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions(set(SCHEDULES))],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "nesterovs_momentum": ["boolean"],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    "ema_decay": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"}), None],
    "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "max_fun": [Interval(Integral, 1, None, closed="left"), None],
    "max_time": [Interval(Real, 0, None, closed="neither"), None],
    "shuffle": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "n_iter_no_change": [
        StrOptions({"auto"}),
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
    "calibration": [StrOptions({"temperature"}), None],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "n_jobs": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Integral, None, -1, closed="right"),
        None,
    ],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def read_parameters(estimator: Any) -> dict[str, Any]:
    """Return all parameters, also of a subclass whose `__init__` takes only some of them."""
    return {name: getattr(estimator, name) for name in PARAMETER_CONSTRAINTS}


def check_rows(
    X: Any,
    y: np.ndarray,
    weights: np.ndarray | None,
    *,
    class_weight: Any,
    classes: np.ndarray | None,
    dtype: np.dtype,
    is_part: bool,
) -> tuple[Rows, np.ndarray, np.ndarray | None]:
    """Return rows ready for training, the two classes, and their weights if they have any.

    The weights of the rows are checked before. `classes` are the classes if they are known already.
    A part of a table may lack one of them, and may have no weight at all.
    """
    classes, codes = encode_labels(y, classes)
    if not is_part:
        totals = np.bincount(codes.astype(np.intp), weights=weights, minlength=2)
        if not totals.all():
            raise ValueError(
                f"y needs rows of two classes with a sample_weight above 0; class "
                f"{classes.tolist()[int(totals[1] == 0)]!r} has none."
            )
    class_factors = weigh_classes(class_weight, classes, codes, weights)
    rows = _make_rows(X, codes, weights, class_factors, dtype)
    if is_part and rows.sample_weight is not None:
        _check_range(rows.sample_weight, dtype)
    return (rows if is_part else rows.drop_weightless()), classes, class_factors


def check_validation_rows(
    X: Any,
    y: np.ndarray,
    sample_weight: Any,
    *,
    classes: np.ndarray,
    class_factors: np.ndarray | None,
    dtype: np.dtype,
) -> Rows:
    """Return rows to validate on, weighted as those to train on; they may be of one class."""
    with name_in_errors("sample_weight_val"):
        weights = check_weights(sample_weight, X, may_vanish=False, name="sample_weight_val")
    _, codes = encode_labels(y, classes, name="y_val")
    with name_in_errors("X_val"):
        return _make_rows(X, codes, weights, class_factors, dtype).drop_weightless()


def _multiply(weights: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply weights of rows by those of their classes; none may vanish or overflow."""
    with np.errstate(over="ignore", under="ignore"):
        product = weights * factors
        total = product.sum()
    if not np.isfinite(total) or np.count_nonzero(product) < np.count_nonzero(weights):
        raise ValueError(
            "sample_weight times class_weight is beyond the range of numbers. Bring both nearer to "
            "1: only their ratios matter."
        )
    return product


def _check_range(weights: np.ndarray, dtype: np.dtype) -> None:
    """Refuse weights that are used as they are, and are too large for that."""
    largest, limit = weights.max(initial=0.0), np.sqrt(np.finfo(dtype).max)
    if largest > limit:
        raise ValueError(
            f"partial_fit takes sample_weight as it is, up to {limit:.0e} in {dtype}, but the "
            f"largest is {largest}. Divide the weights of all parts by the same number."
        )


@contextmanager
def name_in_errors(name: str) -> Iterator[None]:
    """Put the user's name of a parameter before messages of checks that do not know it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if name in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be used: {error}") from error


def _make_rows(
    X: Any,
    codes: np.ndarray,
    weights: np.ndarray | None,
    class_factors: np.ndarray | None,
    dtype: np.dtype,
) -> Rows:
    """Bring a table into the dtype of training, and multiply the weights of rows and classes."""
    if class_factors is not None:
        factors = class_factors[codes.astype(np.intp)]
        weights = factors if weights is None else _multiply(weights, factors)
    with np.errstate(over="ignore"):
        X = X.astype(dtype, copy=False) if is_sparse(X) else np.ascontiguousarray(X, dtype)
    values = X.data if is_sparse(X) else X
    for block in cut_rows(len(values), values[:1].size):
        is_finite = np.isfinite(values[block])
        if not is_finite.all():
            i, *j = (int(axis[0]) for axis in np.nonzero(~is_finite))
            column = j[0] if j else X.indices[block.start + i]
            raise ValueError(
                f"Column {column} of X has values too large for {dtype}. Scale it, or pass "
                "dtype='float64'."
            )
    return Rows(X, codes.astype(dtype), weights)


def check_groups(groups: Any, X: Any) -> np.ndarray:
    """Return the number of each row's group, from 0 in the order in which they come.

    Raises
    ------
    ValueError
        If there is not one label for each row, or one is missing.
    """
    labels = np.asarray(fill_masked(groups), dtype=object)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise ValueError(
            f"groups must be one label for each row, got an array of shape {labels.shape}."
        )
    with name_in_errors("groups"):
        check_consistent_length(X, labels)
    numbers: dict[Any, int] = {}
    codes = np.empty(len(labels), np.intp)
    for i, label in enumerate(labels.tolist()):
        if is_missing(label):
            raise ValueError(
                f"groups contains missing labels, the first in row {i}. Give each row a group: one "
                "of its own if it is alone."
            )
        codes[i] = numbers.setdefault(label, len(numbers))
    return codes


def weigh_classes(
    class_weight: Any, classes: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """Return what the weights of the rows of each class are multiplied by, or None.

    "balanced" gives class c the weight ``total / (2 * total of c)``, with totals of
    `sample_weight`.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in list(classes)]
        if unknown:
            raise ValueError(
                f"class_weight={class_weight!r} has labels {unknown!r} that are not among the "
                f"classes {classes!r}."
            )
        given = [class_weight.get(label, 1.0) for label in classes.tolist()]
        if not all(isinstance(w, Real) and 0.0 < float(w) < np.inf for w in given):
            raise ValueError(
                f"class_weight={class_weight!r} must have finite weights above 0: a class without "
                "weight cannot be told from the other."
            )
        return np.array(given, dtype=np.float64)
    totals = np.bincount(y.astype(np.intp), weights=sample_weight, minlength=2)
    return totals.sum() / (2.0 * totals)


def check_lbfgs(parameters: dict[str, Any]) -> None:
    """Refuse what has no meaning where SciPy minimises the cost itself."""
    rates = parameters["dropout"]
    if np.any(rates):
        raise ValueError(
            f"dropout={rates!r} makes the cost random, which solver='lbfgs' cannot minimise. Set "
            "dropout=0, or take another solver."
        )
    for name in ("weight_decay", "max_grad_norm", "ema_decay"):
        if parameters[name]:
            raise ValueError(
                f"{name}={parameters[name]!r} acts on the steps of an optimizer, and has no effect "
                f"on solver='lbfgs'. Leave it at None, or take another solver."
            )


def check_given_together(X_val: Any, y_val: Any, sample_weight_val: Any) -> bool:
    """Say whether validation rows are given; rows and labels belong together."""
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val is provided, but X_val and y_val were not.")
        return False
    for name, value, other in (("X_val", X_val, "y_val"), ("y_val", y_val, "X_val")):
        if value is None:
            raise ValueError(f"{other} is provided, but {name} was not provided.")
    return True


def choose_dtype(dtype: str, X: Any, *, is_scaled: bool = False) -> np.dtype:
    """Return the dtype to train in; "auto" means float32 wherever nothing is lost by it.

    Scaled tables, as TabularEncoder makes them, are never too fine for it, and float32 tables stay
    float32. A float64 table stays float64 if it is small, or if float32 would round a column by
    more than a thousandth of its spread (timestamps, for instance). A sparse table, whose values
    are measured from zero, becomes float32 unless they are beyond its range.
    """
    if dtype != "auto":
        return np.dtype(dtype)
    if is_scaled or X.dtype == np.float32:
        return np.dtype(np.float32)
    if X.shape[0] <= SMALL_TABLE:
        return np.dtype(np.float64)
    if is_sparse(X):
        return np.dtype(np.float32 if _is_in_range(X.data) else np.float64)
    rounding = np.abs(X).max(axis=0) * np.finfo(np.float32).eps
    fits = rounding <= FLOAT32_ROUNDING * X.std(axis=0)
    is_constant = X.min(axis=0) == X.max(axis=0)
    is_precise = _is_in_range(X) and (fits | is_constant).all()
    return np.dtype(np.float32 if is_precise else np.float64)


def _is_in_range(X: np.ndarray) -> bool:
    return bool(np.abs(X).max(initial=0.0) < np.finfo(np.float32).max)


def is_finite(X: np.ndarray) -> bool:
    """Say whether all numbers are finite; of huge ones, whose sum is not, it may say no."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


LABEL_TYPES = (bool, Integral, Real, str, bytes)
"""Types of labels. All labels must have one of them; a number may be whole or a boolean."""


def read_labels(y: Any, name: str = "y") -> Any:
    """Return labels; those in an array of objects get the dtype of their values.

    Raises
    ------
    ValueError
        If labels are missing, or of several types.
    """
    if is_masked(y):
        raise ValueError(f"{name} has masked, that is missing, labels; leave out their rows.")
    labels = np.asarray(y)
    if labels.dtype.kind == "T":  # NumPy's strings of any length
        y = labels = labels.astype(object)
    if labels.dtype != object or y is None or labels.ndim == 0:
        return y
    values = [v.item() if isinstance(v, np.generic) else v for v in labels.ravel().tolist()]
    if any(is_missing(value) for value in values):
        raise ValueError(
            f"{name} contains NaN, None or other missing labels; leave out their rows."
        )
    for accepted in LABEL_TYPES:
        if all(isinstance(value, accepted) for value in values):
            dtype = object if accepted in (str, bytes) else None
            return np.array(values, dtype).reshape(labels.shape)
    types = sorted({type(value).__name__ for value in values})
    raise ValueError(
        f"{name} must have labels of one type, numbers, booleans or strings, got {types!r}. Make "
        "strings of all of them, for instance."
    )


def encode_labels(
    y: np.ndarray, classes: np.ndarray | None, name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two classes and y as 0.0 / 1.0.

    Raises
    ------
    ValueError
        If y is not a set of class labels, or has other than two classes.
    """
    if classes is None or not _are_known(y, classes):
        classes = _check_classes(y, classes, name)
    return classes, (y == classes[1]).astype(np.float64)


def _check_classes(y: np.ndarray, classes: np.ndarray | None, name: str) -> np.ndarray:
    """Return the two classes, which are those of y if they are not known."""
    kind = type_of_target(y, input_name=name, raise_unknown=True)
    if kind not in ("binary", "multiclass"):
        check_classification_targets(y)
    found = np.unique(y)
    if classes is None:
        classes = found
        if kind != "binary":
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}: "
                f"{name} has {len(found)} classes."
            )
    if len(classes) != 2:
        raise ValueError(
            f"DeepBinaryClassifier needs two classes, got {len(classes)} class: {classes!r}."
        )
    unknown = np.setdiff1d(found, classes)
    if len(unknown):
        raise ValueError(
            f"{name} has labels {unknown!r} that are not among the classes {classes!r}."
        )
    return classes


def _are_known(y: np.ndarray, classes: np.ndarray) -> bool:
    """Say without sorting whether all labels are among two classes of the same kind."""
    is_same_kind = y.dtype.kind == classes.dtype.kind and len(classes) == 2
    return is_same_kind and bool(((y == classes[0]) | (y == classes[1])).all())
