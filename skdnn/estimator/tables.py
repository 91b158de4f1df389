"""Read the tables of an estimator: check them, encode them, and add labels, weights and groups.

Fitting goes through `read_training_tables`, predicting through `read_table`, or block by block
through `open_table`. Errors name the parameter and its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ..preprocessing import TabularEncoder
from ..preprocessing.columns import (
    Table,
    is_frame,
    is_missing,
    is_sparse_frame,
    make_dense,
    name_categories,
    take_table,
)
from ..preprocessing.encoded_array import find_codes
from ..training.prediction import Take
from ..training.rows import Rows
from ..utils import check_labels, check_weights, fill_masked, is_checked, is_masked
from .encoders import (
    FLOATS,
    TAKES_NUMBERS,
    Encoder,
    choose_encoder,
    encode,
    fit_encoder,
    is_own,
    keep_encoder,
    make_encoder,
)
from .parameters import Parameters, choose_batch_size

SMALL_TABLE = 2_000
"""Rows up to which a float64 table is trained in float64: the cost is small."""

FLOAT32_ROUNDING = 1e-3
"""Largest error of rounding a column to float32, in standard deviations of the column."""

LABEL_TYPES = (bool, Integral, Real, str, bytes)
"""Types of labels. All labels must have one of them; a number may be whole or a boolean."""


class Given(NamedTuple):
    """What `fit` or `partial_fit` is given."""

    X: Any
    y: Any
    sample_weight: Any = None
    validation: tuple[Any, Any, Any] | None = None  # X, y and weights of rows to validate on
    groups: Any = None
    classes: np.ndarray | None = None  # those that are known before
    is_part: bool = False  # of a table: it may lack a class, and may have no weight at all


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


def read_training_tables(
    estimator: Any, parameters: Parameters, given: Given, *, continues: bool
) -> tuple[Rows, Rows | None, Encoder, np.ndarray]:
    """Return rows to train on, rows to validate on if given, the encoder and the classes.

    Where training `continues`, the encoder and the classes are those of the estimator.
    """
    is_part, wanted = given.is_part, choose_encoder(parameters)
    X, y = _convert_table(given.X, wanted), read_labels(given.y)
    weights = check_weights(given.sample_weight, X, may_vanish=is_part)  # an encoder needs them
    encoder = make_encoder(wanted, parameters.categorical_features, X)
    encoder = keep_encoder(estimator._encoder, encoder) if continues else encoder
    if isinstance(encoder, TAKES_NUMBERS):
        X, y = _check_numbers(estimator, X, y, reset=not continues)
    else:
        _check_features(estimator, X, y, reset=not continues)
        y = check_labels(y)
    encoder = encoder if continues else fit_encoder(encoder, X, y, weights, is_part=is_part)
    dtype = np.dtype("float32" if parameters.dtype == "auto" else parameters.dtype)
    dtype = estimator.params_.dtype if continues else dtype
    matrix = encode(encoder, X, dtype, reset=not continues)
    check_consistent_length(matrix, y)
    if not (continues or isinstance(encoder, TabularEncoder)):  # which never needs float64
        dtype = choose_dtype(parameters.dtype, matrix)
    classes, codes = encode_labels(y, estimator.classes_ if continues else given.classes)
    totals = np.bincount(codes.astype(np.intp), weights=weights, minlength=2)
    if not is_part and not totals.all():
        raise ValueError(
            f"y needs rows of two classes with a sample_weight above 0; class "
            f"{classes.tolist()[int(totals[1] == 0)]!r} has none."
        )
    rows = make_rows(matrix, codes, weights, dtype)
    rows = rows if is_part else rows.drop_weightless()
    if given.groups is not None:
        rows = rows.with_groups(number_groups(given.groups, given.X))
    if not is_part and len(rows) <= choose_batch_size(parameters, len(rows)):
        rows = rows.merge_copies()
    rows = multiply_weights(rows, parameters.class_weight, classes, totals)
    validation = None
    if given.validation is not None:
        validation = _read_validation(estimator, encoder, given.validation, classes, dtype)
        with name_in_errors("sample_weight_val"):
            validation = multiply_weights(validation, parameters.class_weight, classes, totals)
    return rows, validation, encoder, classes


def _read_validation(
    estimator: Any, encoder: Encoder, given: tuple[Any, Any, Any], classes: np.ndarray, dtype: Any
) -> Rows:
    """Return rows to validate on; they may be of one class."""
    X_val, y_val, sample_weight_val = given
    with name_in_errors("X_val or y_val"):
        matrix = read_table(estimator, X_val, encoder)
        labels = check_labels(read_labels(y_val, "y_val"))
        check_consistent_length(matrix, labels)
    with name_in_errors("sample_weight_val"):
        weights = check_weights(
            sample_weight_val, matrix, may_vanish=False, name="sample_weight_val"
        )
    _, codes = encode_labels(labels, classes, name="y_val")
    with name_in_errors("X_val"):
        return make_rows(matrix, codes, weights, dtype).drop_weightless()


def read_table(estimator: Any, X: Any, encoder: Encoder, *, accept_sparse: Any = "csr") -> Any:
    """Check a table against that of `fit`, and return the matrix that enters the network."""
    X = _convert_table(X, encoder)
    if not isinstance(encoder, TAKES_NUMBERS):
        _check_features(estimator, X)
    elif not (is_checked(estimator, X) and _is_finite(X)):
        X = _check_numbers(estimator, X, accept_sparse=accept_sparse)
    return encode(encoder, X)


def open_table(estimator: Any, X: Any) -> tuple[Take, tuple[int, int], Callable[[], None]]:
    """Check a table against that of `fit`; return functions that read it, and its shape.

    ``take(rows, dtype)`` returns rows of the matrix that enters the network. Tables are encoded
    block by block where the encoder is known to encode each row independently. The last function is
    to be called at the end: it warns of levels that are unknown in all rows.
    """
    encoder = estimator._encoder
    if isinstance(encoder, TabularEncoder):
        X = _convert_table(X, encoder)
        _check_features(estimator, X)
        table, blocks = encoder._open(X), list[Any]()

        def take(rows: slice, dtype: np.dtype) -> np.ndarray:
            encoded, matches = encoder._encode(table[rows], dtype)
            blocks.append(matches)
            return encoded

        shape = (len(table), len(encoder.source_features_))
        return take, shape, lambda: encoder._warn_of_unknown(blocks)
    matrix = read_table(estimator, X, encoder)
    return take_from(matrix), matrix.shape, lambda: None


def take_from(matrix: Any) -> Take:
    """Return a function that reads rows of a matrix."""
    return lambda rows, dtype: matrix[rows].astype(dtype, copy=False)


def _convert_table(X: Any, encoder: Any) -> Any:
    """Return a table with missing values for masked ones; sparse columns of pandas are made dense.

    An encoder of the user's own takes any rows as they are, and where no other reads them, columns
    that are all sparse become a sparse matrix.
    """
    has_any_rows = is_own(encoder)
    X = take_table(X, has_any_rows=has_any_rows)
    is_matrix = isinstance(encoder, str | TAKES_NUMBERS) and is_sparse_frame(X)
    return X if has_any_rows or is_matrix else make_dense(X)


def _check_numbers(
    estimator: Any, X: Any, *y: Any, accept_sparse: Any = "csr", reset: bool = False
) -> Any:
    """Check a table that enters the network as it is, and labels if there are any.

    Raises
    ------
    ValueError
        As by `validate_data`; of a table with categories or times it says which columns these are.
    """
    _refuse_categories(find_codes(X))
    is_of_times = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "mM"
    if is_of_times or is_frame(X):
        Table(X)  # which refuses times
    try:
        return validate_data(
            estimator, X, *y, dtype=FLOATS, accept_sparse=accept_sparse, reset=reset
        )
    except (TypeError, ValueError) as error:
        # "could not convert string to float", "Cannot cast str dtype", "float() argument must be"
        is_about_values = any(word in str(error) for word in ("convert", "cast", "float()"))
        _refuse_categories(name_categories(X) if is_about_values and is_frame(X) else [])
        raise


def _refuse_categories(names: list[Any]) -> None:
    if names:
        raise ValueError(
            f"Without an encoder X must be numbers, but its columns {names!r} are categories. Take "
            "encoder='auto', which reads them where max_fun is None, or encode them before."
        )


def _check_features(estimator: Any, X: Any, *y: Any, reset: bool = False) -> None:
    """Check names and number of the features; for other shapes the encoder's error is clearer."""
    n_axes = 2 if is_frame(X) else getattr(X, "ndim", None) or np.asarray(X).ndim
    if reset or (n_axes == 2 and not is_checked(estimator, X)):
        validate_data(estimator, X, *y, skip_check_array=True, reset=reset)


def _is_finite(X: np.ndarray) -> bool:
    """Say whether all numbers are finite; of huge ones, whose sum is not, it may say no."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


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


def weigh_classes(class_weight: Any, classes: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return what the weights of the rows of each class are multiplied by.

    "balanced" gives class c the weight ``total / (2 * total of c)``, with totals of
    `sample_weight`.
    """
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


def multiply_weights(
    rows: Rows, class_weight: Any, classes: np.ndarray, totals: np.ndarray
) -> Rows:
    """Multiply weights of rows by those of their classes; none may vanish or overflow."""
    if class_weight is None:
        return rows
    factors = weigh_classes(class_weight, classes, totals)
    with np.errstate(over="ignore", under="ignore"):
        product = rows.weights * factors[rows.y.astype(np.intp)]
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
