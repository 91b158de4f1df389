"""Labels, weights, groups and dtype, checked before training; errors name parameter and value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets

from ..preprocessing.columns import is_missing
from ..training.rows import Rows
from ..utils import fill_masked, is_masked

SMALL_TABLE = 2_000
"""Rows up to which a float64 table is trained in float64: the cost is small."""

FLOAT32_ROUNDING = 1e-3
"""Largest error of rounding a column to float32, in standard deviations of the column."""

LABEL_TYPES = (bool, Integral, Real, str, bytes)
"""Types of labels. All labels must have one of them; a number may be whole or a boolean."""


@contextmanager
def name_in_errors(name: str) -> Iterator[None]:
    """Put the name of a parameter before messages that do not contain it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if name in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be used: {error}") from error


def check_validation(
    X_val: Any, y_val: Any, sample_weight_val: Any, *, early_stopping: Any
) -> tuple[Any, Any, Any] | None:
    """Return validation rows if some are given; rows and labels belong together."""
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val is provided, but X_val and y_val were not.")
        return None
    for name, value, other in (("X_val", X_val, "y_val"), ("y_val", y_val, "X_val")):
        if value is None:
            raise ValueError(f"{other} is provided, but {name} was not provided.")
    if early_stopping is False:
        raise ValueError(
            "X_val and y_val are for early stopping, which early_stopping=False turns off. Set "
            "it to 'auto' or True."
        )
    return X_val, y_val, sample_weight_val


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
        labels = labels.astype(object)
    if y is None or labels.ndim == 0:
        return y
    if labels.dtype != object:
        return labels
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
    """Return the two classes, those of y if they are not known, and y as 0.0 / 1.0.

    Raises
    ------
    ValueError
        If y is not a set of class labels, or has other than two classes.
    """
    check_classification_targets(y)
    found = np.unique(y)
    if classes is None and len(found) > 2:
        raise ValueError(
            "Only binary classification is supported. The type of the target is multiclass: "
            f"{name} has {len(found)} classes."
        )
    classes = found if classes is None else classes
    if len(classes) != 2:
        raise ValueError(
            f"DeepBinaryClassifier needs two classes, got {len(classes)} class: {classes!r}."
        )
    unknown = np.setdiff1d(found, classes)
    if len(unknown):
        raise ValueError(
            f"{name} has labels {unknown!r} that are not among the classes {classes!r}."
        )
    return classes, (y == classes[1]).astype(np.float64)


def weigh_classes(class_weight: Any, classes: np.ndarray, totals: np.ndarray) -> np.ndarray | None:
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
    return totals.sum() / (2.0 * totals)


def make_rows(X: Any, codes: np.ndarray, weights: np.ndarray | None, dtype: np.dtype) -> Rows:
    """Bring a table into the dtype of training."""
    with np.errstate(over="ignore"):
        X = X.astype(dtype, copy=False) if issparse(X) else np.ascontiguousarray(X, dtype)
    values = X.data if issparse(X) else X
    if np.isinf([values.max(initial=0.0), values.min(initial=0.0)]).any():
        raise ValueError(f"X has values too large for {dtype}. Scale it, or pass dtype='float64'.")
    return Rows(X, codes.astype(dtype), weights)


def multiply_weights(rows: Rows, class_factors: np.ndarray | None) -> Rows:
    """Multiply weights of rows by those of their classes; none may vanish or overflow."""
    if class_factors is None:
        return rows
    with np.errstate(over="ignore", under="ignore"):
        product = rows.weights * class_factors[rows.y.astype(np.intp)]
        total = product.sum()
    if not np.isfinite(total) or np.count_nonzero(product) < np.count_nonzero(rows.weights):
        raise ValueError(
            "sample_weight times class_weight is beyond the range of numbers. Bring both nearer to "
            "1: only their ratios matter."
        )
    return replace(rows, sample_weight=product)


def check_weights_of_part(rows: Rows) -> None:
    """Refuse weights that are too large to be used as they are, as `partial_fit` does."""
    dtype, largest = rows.y.dtype, rows.weights.max(initial=0.0)
    limit = np.sqrt(np.finfo(dtype).max)
    if largest > limit:
        raise ValueError(
            f"partial_fit takes sample_weight as it is, up to {limit:.0e} in {dtype}, but the "
            f"largest is {largest}. Divide the weights of all parts by the same number."
        )


def number_groups(groups: Any, X: Any) -> np.ndarray:
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
    of_row: list[int] = []
    for i, label in enumerate(labels.tolist()):
        if is_missing(label):
            raise ValueError(
                f"groups contains missing labels, the first in row {i}. Give each row a group: one "
                "of its own if it is alone."
            )
        of_row.append(numbers.setdefault(label, len(numbers)))
    return np.array(of_row, np.intp)


def choose_dtype(dtype: str, X: Any) -> np.dtype:
    """Return the dtype to train in; "auto" means float32 wherever nothing is lost by it.

    Float32 tables stay float32. A float64 table stays float64 if it is small, or if float32 would
    round a column by more than a thousandth of its spread (timestamps, for instance). A sparse
    table, whose values are measured from zero, becomes float32 unless they are beyond its range.
    """
    if dtype != "auto":
        return np.dtype(dtype)
    if X.dtype == np.float32:
        return np.dtype(np.float32)
    if X.shape[0] <= SMALL_TABLE:
        return np.dtype(np.float64)
    is_precise = np.abs(X.data if issparse(X) else X).max(initial=0.0) < np.finfo(np.float32).max
    if not issparse(X):
        rounding = np.abs(X).max(axis=0) * np.finfo(np.float32).eps
        fits = rounding <= FLOAT32_ROUNDING * X.std(axis=0)
        is_constant = X.min(axis=0) == X.max(axis=0)
        is_precise = is_precise and (fits | is_constant).all()
    return np.dtype(np.float32 if is_precise else np.float64)
