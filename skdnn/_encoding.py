"""From a table as a user has it to the matrix that enters the network: the encoder around it."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_array, has_fit_parameter

from ._architecture import InputColumns
from ._encoder import TabularEncoder
from ._sparse import is_sparse

FLOATS = [np.float64, np.float32]


def make_encoder(encoder: Any, categorical_features: Any, X: Any) -> Any:
    """Return an encoder to fit, or None where the table enters as it is.

    "auto" leaves sparse tables as they are: to shift their columns would make them dense.

    Raises
    ------
    ValueError
        If categories are named that no TabularEncoder would see.
    """
    is_automatic = isinstance(encoder, str)
    is_named = categorical_features is not None and not isinstance(categorical_features, str)
    if is_automatic and not is_sparse(X):
        return TabularEncoder(categorical_features)
    if is_named:
        what = "a sparse table" if is_automatic else f"encoder={encoder!r}"
        raise ValueError(
            f"categorical_features={categorical_features!r} are for encoder='auto' and dense "
            f"tables, and have no effect with {what}. Leave them at 'from_dtype'; an encoder of "
            "your own is told by its own parameters."
        )
    return None if is_automatic or encoder is None else clone(encoder)


def check_same_encoder(fitted: Any, wanted: Any) -> None:
    """Refuse to go on with another encoder than the one that the network has learned with.

    Raises
    ------
    ValueError
        If they are of different kinds or have different parameters.
    """
    if repr(fitted) != repr(wanted):
        raise ValueError(
            "Training can only go on with the same encoder: the network has learned with "
            f"{fitted!r}, but now it is {wanted!r}. Set it back, pass tables of the same kind, or "
            "train anew with warm_start=False."
        )


def fit_encoder(encoder: Any, X: Any, y: Any, sample_weight: Any) -> None:
    """Fit an encoder, with weights where it takes them."""
    if sample_weight is not None and has_fit_parameter(encoder, "sample_weight"):
        encoder.fit(X, y, sample_weight=sample_weight)
    else:
        encoder.fit(X, y)


def encode(encoder: Any, X: Any, dtype: np.typing.DTypeLike | None = None) -> Any:
    """Return the matrix that an encoder makes of a table.

    A TabularEncoder writes it straight in `dtype`, if that is narrower than its own choice.

    Raises
    ------
    ValueError
        If it is not made of finite numbers.
    """
    if type(encoder) is TabularEncoder:
        return encoder._transform(X, dtype)
    matrix = encoder.transform(X)
    if isinstance(encoder, TabularEncoder):
        return np.asarray(matrix)
    matrix = check_array(matrix, dtype=FLOATS, accept_sparse="csr", ensure_all_finite=False)
    values = matrix.data if is_sparse(matrix) else matrix
    if not np.isfinite(values).all():
        raise ValueError(
            f"The encoder {encoder!r} must return finite numbers, but returned NaN or infinity. "
            "Let it fill missing values, for instance with SimpleImputer in a pipeline, or take "
            "encoder='auto'."
        )
    return matrix


def describe_columns(
    encoder: Any, matrix: Any, numeric_embedding: str | None, n_members: int
) -> InputColumns:
    """Say which columns of the matrix are embedded, and how.

    "auto" embeds the numbers that a TabularEncoder has put on one scale, and no others: a single
    network by waves, and of several every other one by ramps.
    """
    n_columns, is_encoded = matrix.shape[1], isinstance(encoder, TabularEncoder)
    code_sizes = tuple(encoder.code_sizes_) if is_encoded else ()
    if numeric_embedding is None or (numeric_embedding == "auto" and not is_encoded):
        return InputColumns(n_columns, code_sizes=code_sizes)
    if numeric_embedding == "auto":
        numeric_embedding = "mixed" if n_members > 1 else "periodic"
    if is_encoded:
        n_embedded = encoder.n_continuous_
        embedding = numeric_embedding if n_embedded else None
        return InputColumns(n_columns, n_embedded, code_sizes, embedding)
    if is_sparse(matrix):
        raise ValueError(
            f"numeric_embedding={numeric_embedding!r} needs a dense table, since what it makes of "
            "0 is not 0. Leave it at 'auto', or make X dense."
        )
    return InputColumns(n_columns, n_columns, embedding=numeric_embedding)


def read_numbers(encoder: Any, X: Any) -> tuple[np.ndarray, Any]:
    """Return a table of numbers as an array, and the encoder for arrays, which have no names.

    Raises
    ------
    ValueError
        If the encoder has no slopes, or the table has categories, along which there are none.
    """
    if not isinstance(encoder, TabularEncoder):
        raise ValueError(
            f"input_gradients cannot see through the encoder {encoder!r}. Put it before the "
            "classifier in a pipeline, and ask for gradients at the encoded rows."
        )
    encoder.input_slopes(X[:1])  # refuses categories by their names
    nameless = copy(encoder)
    nameless.__dict__.pop("feature_names_in_", None)
    return check_array(X, dtype=FLOATS, ensure_all_finite="allow-nan"), nameless
