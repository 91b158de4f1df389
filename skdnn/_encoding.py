"""From a table as a user has it to the matrix that enters the network: the encoder around it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, has_fit_parameter

from ._architecture import InputColumns
from ._sparse import is_sparse
from .preprocessing import TabularEncoder
from .preprocessing.columns import is_sparse_frame
from .preprocessing.containers import take_table
from .preprocessing.own_encoder import FLOATS, OwnEncoder, copy_encoder, is_tabular, unfreeze
from .preprocessing.sparse_scaling import SparseScaler


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
