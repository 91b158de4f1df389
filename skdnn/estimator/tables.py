"""Read the tables of an estimator: check them, encode them, and add labels and weights.

Fitting goes through `read_training_tables`, predicting through `read_table`, or block by block
through `open_table`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import validate_data

from ..preprocessing import TabularEncoder
from ..preprocessing.columns import (
    Table,
    is_frame,
    is_sparse_frame,
    make_dense,
    name_categories,
    take_table,
)
from ..preprocessing.encoded_array import find_codes
from ..preprocessing.scaling import SparseScaler
from ..training.prediction import Take
from ..training.rows import Rows
from ..utils import check_labels, check_weights, is_checked
from .checks import (
    choose_dtype,
    encode_labels,
    make_rows,
    multiply_weights,
    name_in_errors,
    number_groups,
    read_labels,
    weigh_classes,
)
from .encoders import (
    FLOATS,
    Encoder,
    choose_encoded_dtype,
    choose_encoder,
    encode,
    fit_encoder,
    is_own,
    keep_encoder,
    make_encoder,
)
from .parameters import Parameters, choose_batch_size


class Given(NamedTuple):
    """What `fit` or `partial_fit` is given."""

    X: Any
    y: Any
    sample_weight: Any = None
    validation: tuple[Any, Any, Any] | None = None  # X, y and weights of rows to validate on
    groups: Any = None
    classes: np.ndarray | None = None  # those that are known before
    is_part: bool = False  # of a table: it may lack a class, and may have no weight at all


def read_training_tables(
    estimator: Any, parameters: Parameters, given: Given, *, continues: bool
) -> tuple[Rows, Rows | None, Encoder, np.ndarray]:
    """Return rows to train on, rows to validate on if given, the encoder and the classes.

    Where training `continues`, the encoder and the classes are those of the estimator.
    """
    is_part, wanted = given.is_part, choose_encoder(parameters)
    X, y = take_table(given.X, has_any_rows=is_own(wanted)), read_labels(given.y)
    weights = check_weights(given.sample_weight, X, may_vanish=is_part)  # an encoder needs them
    encoder = make_encoder(wanted, parameters.categorical_features, X)
    X = _make_dense(X, encoder)
    if continues:
        encoder = keep_encoder(estimator._encoder, encoder)
    if enters_as_it_is(encoder):
        X, y = _check_numbers(estimator, X, y, reset=not continues)
    else:
        _check_features(estimator, X, y, reset=not continues)
        y = check_labels(y)
    if continues:
        dtype = estimator.params_.dtype
    else:
        encoder = fit_encoder(encoder, X, y, weights, is_part=is_part)
        dtype = choose_encoded_dtype(parameters.dtype, encoder)
    matrix = encode(encoder, X, dtype, reset=not continues)
    check_consistent_length(matrix, y)
    dtype = dtype or choose_dtype(parameters.dtype, matrix)
    classes, codes = encode_labels(y, estimator.classes_ if continues else given.classes)
    totals = np.bincount(codes.astype(np.intp), weights=weights, minlength=2)
    if not is_part and not totals.all():
        raise ValueError(
            f"y needs rows of two classes with a sample_weight above 0; class "
            f"{classes.tolist()[int(totals[1] == 0)]!r} has none."
        )
    class_factors = weigh_classes(parameters.class_weight, classes, totals)
    rows = make_rows(matrix, codes, weights, dtype)
    rows = rows if is_part else rows.drop_weightless()
    if given.groups is not None:
        rows = rows.with_groups(number_groups(given.groups, given.X))
    if not is_part and len(rows) <= choose_batch_size(parameters, len(rows)):
        rows = rows.merge_copies()
    rows = multiply_weights(rows, class_factors)
    validation = _read_validation(estimator, encoder, given, classes, class_factors, dtype)
    return rows, validation, encoder, classes


def _read_validation(
    estimator: Any,
    encoder: Encoder,
    given: Given,
    classes: np.ndarray,
    class_factors: np.ndarray | None,
    dtype: np.dtype,
) -> Rows | None:
    """Return rows to validate on, weighted as those to train on; they may be of one class."""
    if given.validation is None:
        return None
    X_val, y_val, sample_weight_val = given.validation
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
        rows = make_rows(matrix, codes, weights, dtype).drop_weightless()
        return multiply_weights(rows, class_factors)


def read_table(estimator: Any, X: Any, encoder: Encoder, *, accept_sparse: Any = "csr") -> Any:
    """Check a table against that of `fit`, and return the matrix that enters the network."""
    X = _make_dense(take_table(X, has_any_rows=is_own(encoder)), encoder)
    if not enters_as_it_is(encoder):
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
        X = make_dense(take_table(X))
        is_array = isinstance(X, np.ndarray) and X.ndim == 2
        if (is_array or is_frame(X)) and len(X):
            _check_features(estimator, X)
            X = X if is_array else nw.from_native(X)  # which would take 30 us of a row
            blocks: list[Any] = []

            def take(rows: slice, dtype: np.dtype) -> np.ndarray:
                encoded, encounters = encoder._encode(encoder._open(X[rows]), dtype)
                blocks.append(encounters)
                return encoded

            shape = (len(X), len(encoder.source_features_))
            return take, shape, lambda: encoder._warn_of_unknown(blocks)
    matrix = read_table(estimator, X, encoder)
    return take_from(matrix), matrix.shape, lambda: None


def take_from(matrix: Any) -> Take:
    """Return a function that reads rows of a matrix."""
    return lambda rows, dtype: matrix[rows].astype(dtype, copy=False)


def enters_as_it_is(encoder: Any) -> bool:
    """Say whether a table must hold numbers, none missing; a SparseScaler may scale large ones."""
    return encoder is None or isinstance(encoder, SparseScaler)


def _make_dense(X: Any, encoder: Any) -> Any:
    """Make sparse columns of pandas dense, unless the encoder takes them as they are."""
    is_matrix = enters_as_it_is(encoder) and is_sparse_frame(X)
    return X if is_matrix or is_own(encoder) else make_dense(X)


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
