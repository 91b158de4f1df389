"""Read the tables of an estimator: check them, encode them, and add labels and weights.

Fitting goes through `read_training_rows`, which leaves on the estimator what it has learned of the
table. Predicting goes through `read_table`, or block by block through `open_table`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import validate_data

from ._encoding import check_same_encoder, encode, fit_encoder, get_encoder, make_encoder
from ._labels import read_labels
from ._validation import check_rows, check_validation_rows, choose_dtype, is_finite, name_in_errors
from .preprocessing import TabularEncoder
from .preprocessing.column_warnings import CONSTANT, warn_of
from .preprocessing.columns import is_frame, name_categories
from .preprocessing.containers import take_table
from .preprocessing.encoded_array import find_codes
from .preprocessing.own_encoder import FLOATS, OwnEncoder, is_own
from .preprocessing.sparse_scaling import SparseScaler
from .training.rows import Rows
from .utils import check_labels, check_weights, is_checked


def choose_encoder(estimator: Any) -> Any:
    """Return what `encoder` says: "auto" is None for the parameters of MLPClassifier."""
    is_mlp = estimator.max_fun is not None
    return None if is_mlp and isinstance(estimator.encoder, str) else estimator.encoder


def enters_as_it_is(encoder: Any) -> bool:
    """Say whether a table must be of numbers, none missing: what is large may be scaled."""
    return encoder is None or isinstance(encoder, SparseScaler)


def read_training_rows(
    estimator: Any, X, y, sample_weight, given, classes, *, continues: bool, is_part: bool
) -> tuple[Rows, Rows | None]:
    """Return rows to train on and, where they are `given`, to validate on.

    The estimator gets its encoder, its `classes_`, and number and names of its features; where
    training `continues`, it has them already.
    """
    has_any_rows = is_own(choose_encoder(estimator))
    X, y = take_table(X, has_any_rows=has_any_rows), read_labels(y)
    if sample_weight is not None:  # before an encoder meets them
        sample_weight = check_weights(sample_weight, X, may_vanish=is_part)
    matrix, y = _read_training_table(
        estimator, X, y, sample_weight, continues=continues, is_part=is_part
    )
    dtype = _choose_dtype(estimator, matrix, continues=continues)
    rows, estimator.classes_, class_factors = check_rows(
        matrix,
        y,
        sample_weight,
        class_weight=estimator.class_weight,
        classes=estimator.classes_ if continues else classes,
        dtype=dtype,
        is_part=is_part,
    )
    if given is None:
        return rows, None
    with name_in_errors("X_val or y_val"):
        X_val = read_table(estimator, given[0])
        y_val = check_labels(read_labels(given[1], "y_val"))
        check_consistent_length(X_val, y_val)
    return rows, check_validation_rows(
        X_val,
        y_val,
        given[2],
        classes=estimator.classes_,
        class_factors=class_factors,
        dtype=dtype,
    )


def _read_training_table(
    estimator: Any, X, y, sample_weight, *, continues: bool, is_part: bool
) -> tuple[Any, np.ndarray]:
    """Return the matrix that enters the network, and the labels; fit the encoder before."""
    encoder = make_encoder(choose_encoder(estimator), estimator.categorical_features, X)
    if continues:
        check_same_encoder(estimator._encoder, encoder)
        encoder = estimator._encoder
    if enters_as_it_is(encoder):
        X, y = _check_numbers(estimator, X, y, reset=not continues)
        if isinstance(encoder, SparseScaler) and not continues:
            encoder.fit(X, sample_weight=sample_weight)
            encoder = encoder if encoder.is_needed else None
        X = X if encoder is None else encode(encoder, X)
    else:
        if continues:
            _check_features(estimator, X)
        else:
            validate_data(estimator, X, y, skip_check_array=True)
        y = check_labels(y)
        if not continues:
            wanted = encoder
            encoder = fit_encoder(wanted, X, y, sample_weight)
            if is_part and isinstance(wanted, TabularEncoder):
                warn_of(CONSTANT, encoder._find_constant(), stacklevel=8)
        is_scaled = isinstance(encoder, TabularEncoder)
        dtype = _choose_dtype(estimator, None, continues=continues) if is_scaled else None
        if is_part and continues and isinstance(encoder, TabularEncoder):
            X = encoder._transform_part(X, dtype)
        else:
            X = encode(encoder, X, dtype, reset=not continues)
        check_consistent_length(X, y)
    estimator._encoder = encoder
    return X, y


def _check_numbers(estimator: Any, X, *y, accept_sparse: Any = "csr", reset: bool = False) -> Any:
    """Check a table that enters the network as it is, and labels if there are any.

    Raises
    ------
    ValueError
        As by `validate_data`; of a table with categories it says which columns these are.
    """
    _refuse_categories(find_codes(X))
    try:
        return validate_data(
            estimator, X, *y, dtype=FLOATS, accept_sparse=accept_sparse, reset=reset
        )
    except ValueError as error:
        # pandas and NumPy: "could not convert string to float" or "Cannot cast str dtype"
        is_about_values = "convert" in str(error) or "cast" in str(error)
        _refuse_categories(name_categories(X) if is_about_values and is_frame(X) else [])
        raise


def _refuse_categories(names: list) -> None:
    if names:
        raise ValueError(
            f"Without an encoder X must be numbers, but its columns {names!r} are categories. Take "
            "encoder='auto', which reads them where max_fun is None, or encode them before."
        )


def _choose_dtype(estimator: Any, matrix, *, continues: bool) -> np.dtype:
    """Return the dtype to train in; without a matrix, for what a TabularEncoder returns."""
    if continues:
        return estimator.params_.dtype
    is_scaled = matrix is None or isinstance(estimator._encoder, TabularEncoder)
    return choose_dtype(estimator.dtype, matrix, is_scaled=is_scaled)


def read_table(estimator: Any, X, *, accept_sparse: Any = "csr"):
    """Check a table against that of `fit`, and return the matrix that enters the network."""
    encoder = estimator._encoder
    X = take_table(X, has_any_rows=is_own(encoder))
    if not enters_as_it_is(encoder):
        _check_features(estimator, X)
    elif not (is_checked(estimator, X) and is_finite(X)):
        X = _check_numbers(estimator, X, accept_sparse=accept_sparse)
    return X if encoder is None else encode(encoder, X)


def open_table(
    estimator: Any, X
) -> tuple[Callable[[slice, np.dtype], Any], tuple[int, int], Callable[[], None]]:
    """Check a table as that of `fit`; return what takes rows of its matrix, and its shape.

    ``take(rows, dtype)`` is what takes them. Tables are encoded block by block where the encoder is
    known to treat each row by itself. The last function returned is to be called at the end: it
    warns of what all rows tell together.
    """
    encoder = estimator._encoder
    X = take_table(X, has_any_rows=is_own(encoder))
    is_array = isinstance(X, np.ndarray) and X.ndim == 2
    if isinstance(encoder, TabularEncoder) and (is_array or is_frame(X)) and len(X):
        _check_features(estimator, X)
        index = X.__getitem__ if is_array else partial(_safe_indexing, X)
        shape = (len(X), len(encoder.source_features_))
        blocks: list = []

        def take(rows: slice, dtype: np.dtype) -> np.ndarray:
            encoded, encounters = encoder._encode(index(rows), dtype)
            blocks.append(encounters)
            return encoded

        return take, shape, lambda: encoder._warn_of_unknown(blocks)
    matrix = read_table(estimator, X)
    return (
        lambda rows, dtype: matrix[rows].astype(dtype, copy=False),
        matrix.shape,
        lambda: None,
    )


def _check_features(estimator: Any, X) -> None:
    """Check names and number of the features; of other shapes the encoder has better words."""
    own = get_encoder(estimator._encoder) if isinstance(estimator._encoder, OwnEncoder) else None
    # An encoder of scikit-learn warns by itself where only one of the tables has names.
    is_told = is_frame(X) != hasattr(estimator, "feature_names_in_") and hasattr(
        own, "n_features_in_"
    )
    if _count_axes(X) == 2 and not is_told and not is_checked(estimator, X):
        validate_data(estimator, X, skip_check_array=True, reset=False)


def _count_axes(X: Any) -> int:
    """Return the number of dimensions of a table, without making an array of a list of rows."""
    if isinstance(X, list | tuple) and X:
        return np.ndim(X[0]) + 1
    return 2 if is_frame(X) else getattr(X, "ndim", None) or np.asarray(X).ndim
