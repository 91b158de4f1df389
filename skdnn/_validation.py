"""What a user hands in, checked before training; every error names the parameter and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ._compat import HasMethods, Interval, Options, StrOptions, check_sample_weight
from ._rows import Rows
from .activations import ACTIVATIONS
from .initializers import INITIALIZERS
from .optimizers import SOLVERS
from .schedules import SCHEDULES

SMALL_TABLE = 2_000
"""A float64 table of up to this many rows is trained in float64: the cost would not be felt."""

FLOAT32_ROUNDING = 1e-3
"""Largest error of rounding a column to float32, in standard deviations of the column."""


PARAMETER_CONSTRAINTS: dict[str, list] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [
        StrOptions(set(ACTIVATIONS)),
        "array-like",
        HasMethods(["value", "derivative"]),
    ],
    "initialization": [StrOptions({"auto", *INITIALIZERS})],
    "n_members": [Interval(Integral, 1, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left"), None],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "solver": [StrOptions(set(SOLVERS))],
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
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "dtype": [StrOptions({"auto", "float32", "float64"})],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def check_rows(
    X: np.ndarray,
    y: np.ndarray,
    sample_weight: Any,
    *,
    class_weight: Any,
    classes: np.ndarray | None,
    dtype: np.dtype,
    is_part: bool,
) -> tuple[Rows, np.ndarray]:
    """Return rows ready for training, and the two classes.

    `classes` are the classes if they are known already. A part of a table may lack one of them, and
    may have no weight at all.
    """
    weights = check_weights(sample_weight, X, may_vanish=is_part)
    classes, codes = encode_labels(y, classes)
    if not is_part:
        totals = np.bincount(codes.astype(np.intp), weights=weights, minlength=2)
        if not totals.all():
            raise ValueError(
                f"y needs rows of two classes with a sample_weight above 0; class "
                f"{classes[int(totals[1] == 0)]!r} has none."
            )
    weights = apply_class_weight(class_weight, classes, codes, weights)
    with np.errstate(over="ignore"):
        X = np.ascontiguousarray(X, dtype)
    if not np.isfinite(X).all():
        column = int(np.flatnonzero(~np.isfinite(X).all(axis=0))[0])
        raise ValueError(
            f"Column {column} of X has values too large for {dtype}. Scale it, or pass "
            "dtype='float64'."
        )
    rows = Rows(X, codes.astype(dtype), None if weights is None else weights.astype(dtype))
    return (rows if is_part else rows.drop_weightless()), classes


def encode_labels(y: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the two classes and y as 0.0 / 1.0.

    Raises
    ------
    ValueError
        If y is not a set of class labels, or has other than two classes.
    """
    if y.dtype == object and any(label is None or label != label for label in y):
        raise ValueError("y contains missing labels (None or NaN); leave out their rows.")
    check_classification_targets(y)
    found = np.unique(y)
    if classes is None:
        classes = found
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}: "
                f"y has {len(found)} classes."
            )
    if len(classes) != 2:
        raise ValueError(
            f"DeepBinaryClassifier needs two classes, got {len(classes)} class: {classes!r}."
        )
    unknown = np.setdiff1d(found, classes)
    if len(unknown):
        raise ValueError(f"y has labels {unknown!r} that are not among the classes {classes!r}.")
    return classes, (y == classes[1]).astype(np.float64)


def check_weights(sample_weight: Any, X: np.ndarray, *, may_vanish: bool) -> np.ndarray | None:
    """Return the weights as an array, or None; they must be non-negative, and not all be zero."""
    if sample_weight is None:
        return None
    weights = check_sample_weight(sample_weight, X, may_vanish=may_vanish)
    if (weights < 0).any():
        raise ValueError(
            f"Negative values in data passed to `sample_weight`: the smallest is {weights.min()}. "
            "Weights must be at least 0."
        )
    if not may_vanish and not weights.any():
        raise ValueError("sample_weight is zero in every row; at least one must be above zero.")
    return weights


def apply_class_weight(
    class_weight: Any, classes: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None
) -> np.ndarray | None:
    """Multiply the weight of each row by that of its class.

    "balanced" gives class c the weight ``total / (2 * total of c)``, with totals of
    `sample_weight`.
    """
    if class_weight is None:
        return sample_weight
    if isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in list(classes)]
        if unknown:
            raise ValueError(
                f"class_weight={class_weight!r} has labels {unknown!r} that are not among the "
                f"classes {classes!r}."
            )
        given = [class_weight.get(label, 1.0) for label in classes.tolist()]
        if not all(isinstance(w, Real) and 0.0 <= float(w) < np.inf for w in given) or not any(
            given
        ):
            raise ValueError(
                f"class_weight={class_weight!r} must have weights of at least 0, all of them "
                "finite and one above it."
            )
        factors = np.array(given, dtype=np.float64)
    else:
        totals = np.bincount(y.astype(np.intp), weights=sample_weight, minlength=2)
        factors = totals.sum() / (2.0 * totals)
    weights = factors[y.astype(np.intp)]
    return weights if sample_weight is None else weights * sample_weight


def check_hidden_layer_sizes(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the widths as a tuple; an integer is one layer, an empty sequence none."""
    sizes = (
        (hidden_layer_sizes,)
        if isinstance(hidden_layer_sizes, Integral)
        else tuple(hidden_layer_sizes)
    )
    if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must be positive integers, one for each hidden layer, got "
            f"{hidden_layer_sizes!r}."
        )
    return tuple(int(size) for size in sizes)


def check_activation(activation: Any, n_layers: int) -> tuple[Any, ...]:
    """Return one activation function, a name or an object, for each hidden layer."""
    functions = _per_layer("activation", activation, n_layers)
    for function in functions:
        is_named = isinstance(function, str) and function in ACTIVATIONS
        if not is_named and not (hasattr(function, "value") and hasattr(function, "derivative")):
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)} or an object with the methods "
                f"value and derivative, got {function!r}."
            )
    return functions


def check_dropout(dropout: Any, n_layers: int) -> tuple[float, ...]:
    """Return one dropout rate for each hidden layer."""
    rates = _per_layer("dropout", dropout, n_layers)
    if not all(isinstance(rate, Real) and 0.0 <= float(rate) < 1.0 for rate in rates):
        raise ValueError(
            "dropout must be a probability in [0, 1), or one for each hidden layer, got "
            f"{dropout!r}."
        )
    return tuple(float(rate) for rate in rates)


def _per_layer(name: str, value: Any, n_layers: int) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return (value,) * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {n_layers} hidden layers, got "
            f"{len(value)}: {value!r}."
        )
    return tuple(value)


def choose_dtype(dtype: str, X: np.ndarray) -> np.dtype:
    """Return the dtype to train in; "auto" means float32 wherever nothing is lost by it.

    Float32 tables stay float32. A float64 table stays float64 if it is small, or if float32 would
    round a column by more than a thousandth of its spread (timestamps, for instance).
    """
    if dtype != "auto":
        return np.dtype(dtype)
    if X.dtype == np.float32:
        return np.dtype(np.float32)
    if len(X) <= SMALL_TABLE:
        return np.dtype(np.float64)
    rounding = np.abs(X).max(axis=0) * np.finfo(np.float32).eps
    fits = rounding <= FLOAT32_ROUNDING * X.std(axis=0)
    is_constant = X.min(axis=0) == X.max(axis=0)
    is_in_range = np.abs(X).max() < np.finfo(np.float32).max
    return np.dtype(np.float32 if is_in_range and (fits | is_constant).all() else np.float64)
