"""Read the tables of an estimator: check them, encode them, and add labels and weights.

Fitting goes through `read_training_rows`, which leaves on the estimator what it has learned of the
table. Predicting goes through `read_table`, or block by block through `open_table`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils.validation import check_array, has_fit_parameter, validate_data

from .._sparse import is_sparse
from ..preprocessing import TabularEncoder
from ..preprocessing.column_warnings import CONSTANT, warn_of
from ..preprocessing.columns import is_frame, is_sparse_frame, name_categories
from ..preprocessing.containers import take_table
from ..preprocessing.encoded_array import find_codes
from ..preprocessing.own_encoder import (
    FLOATS,
    OwnEncoder,
    copy_encoder,
    is_own,
    is_tabular,
    unfreeze,
)
from ..preprocessing.sparse_scaling import SparseScaler
from ..training.rows import Rows
from ..utils import check_labels, check_weights, is_checked
from .architecture import InputColumns
from .checks import (
    check_rows,
    check_validation_rows,
    choose_dtype,
    is_finite,
    name_in_errors,
    read_labels,
)


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


def make_encoder(encoder: Any, categorical_features: Any, X: Any) -> Any:
    """Return an encoder to fit, or None where the table enters as it is.

    "auto" only scales sparse tables: to shift their columns would make them dense.

    Raises
    ------
    ValueError
        If categories are named that no TabularEncoder would see.
    """
    is_automatic = isinstance(encoder, str)
    is_named = categorical_features is not None and not isinstance(categorical_features, str)
    is_sparse_table = is_sparse(X) or is_sparse_frame(X)
    if is_automatic and not is_sparse_table:
        return TabularEncoder(categorical_features)
    if is_named and not _says_the_same(encoder, categorical_features):
        what = "a sparse table" if is_automatic else f"encoder={encoder!r}"
        raise ValueError(
            f"categorical_features={categorical_features!r} are for encoder='auto' and dense "
            f"tables, and have no effect with {what}. Leave them at 'from_dtype'; an encoder of "
            "your own is told by its own parameters."
        )
    if is_automatic:
        return SparseScaler()
    return None if encoder is None else copy_encoder(encoder)


def _says_the_same(encoder: Any, categorical_features: Any) -> bool:
    """Say whether an encoder is told of the same categories, as one in `resolved_params_`."""
    own = getattr(encoder, "categorical_features", None)
    return np.array_equal(np.asarray(own, object), np.asarray(categorical_features, object))


def get_encoder(fitted: TabularEncoder | OwnEncoder | None) -> Any:
    """Return the encoder as its user knows it."""
    return fitted.encoder if isinstance(fitted, OwnEncoder) else fitted


def check_same_encoder(fitted: Any, wanted: Any) -> None:
    """Refuse to go on with another encoder than the one that the network has learned with.

    Raises
    ------
    ValueError
        If they are of different kinds or have different parameters.
    """
    fitted, wanted = get_encoder(fitted), unfreeze(wanted)
    if fitted is None and isinstance(wanted, SparseScaler):
        return  # there was nothing to scale
    if _describe(fitted) != _describe(wanted):
        raise ValueError(
            "Training can only go on with the same encoder: the network has learned with "
            f"{fitted!r}, but now it is {wanted!r}. Set it back, pass tables of the same kind, or "
            "train anew with warm_start=False."
        )


def _describe(encoder: Any) -> str:
    """Return the parameters as text, without addresses: objects in a clone have others."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(encoder))


def fit_encoder(encoder: Any, X: Any, y: Any, sample_weight: Any) -> TabularEncoder | OwnEncoder:
    """Fit an encoder, with weights where it takes them; return what encodes."""
    if sample_weight is not None and has_fit_parameter(encoder, "sample_weight"):
        encoder.fit(X, y, sample_weight=sample_weight)
    else:
        encoder.fit(X, y)
    encoder = unfreeze(encoder)
    return encoder if is_tabular(encoder) else OwnEncoder(encoder)


def encode(
    encoder: TabularEncoder | OwnEncoder,
    X: Any,
    dtype: np.typing.DTypeLike | None = None,
    *,
    reset: bool = False,
) -> Any:
    """Return the matrix that an encoder makes of a table.

    A TabularEncoder writes it straight in `dtype`, if that is narrower than its own choice. Of
    another one the columns are learnt, to `reset` what is known, or checked. Names of those of X
    are compared by a `reset`, for an encoder that was fitted before; else they must have been.
    """
    if isinstance(encoder, OwnEncoder):
        return encoder.transform(X, reset=reset)
    if isinstance(encoder, SparseScaler):
        return encoder.transform(X)
    return encoder._transform(X, dtype, reset=False if reset else None)


def describe_columns(
    encoder: Any, matrix: Any, numeric_embedding: str | None, n_members: int
) -> InputColumns:
    """Say which columns of the matrix are embedded, and how.

    "auto" embeds the numbers that a TabularEncoder has put on one scale, and no others: a single
    network by waves, and of several every other one by ramps.
    """
    n_columns = matrix.shape[1]
    n_embedded = getattr(encoder, "n_continuous_", 0)
    code_sizes = getattr(encoder, "code_sizes_", ())
    if numeric_embedding == "auto":
        numeric_embedding = "mixed" if n_members > 1 else "periodic"
    elif numeric_embedding is not None and not isinstance(encoder, TabularEncoder):
        if is_sparse(matrix):
            raise ValueError(
                f"numeric_embedding={numeric_embedding!r} needs a dense table, since what it makes "
                "of 0 is not 0. Leave it at 'auto', or make X dense."
            )
        n_embedded += getattr(encoder, "n_unknown_", n_columns)
    if numeric_embedding is None or n_embedded == 0:
        return InputColumns(n_columns, code_sizes=code_sizes)
    return InputColumns(n_columns, n_embedded, code_sizes, numeric_embedding)


def read_numbers(encoder: Any, X: Any) -> np.ndarray:
    """Return a table of numbers as an array.

    Raises
    ------
    ValueError
        If the encoder has no slopes, or the table has categories, along which there are none.
    """
    if isinstance(encoder, OwnEncoder):
        raise ValueError(
            f"input_gradients cannot see through the encoder {encoder.encoder!r}. Put it before "
            "the classifier in a pipeline, and ask for gradients at the encoded rows."
        )
    X = take_table(X)
    if isinstance(encoder, TabularEncoder):
        encoder._input_slopes(X[:1])  # refuses categories by their names
    return check_array(X, dtype=FLOATS, ensure_all_finite="allow-nan")
