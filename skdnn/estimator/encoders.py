"""Encoders of tables: their choice, fit and use, and checks of one of the user's own."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_array, has_fit_parameter, validate_data

from ..preprocessing import TabularEncoder
from ..preprocessing.categories import CONSTANT
from ..preprocessing.columns import is_frame, is_sparse_frame, name_levels, warn_of
from ..preprocessing.encoded_array import CONTINUOUS, FLAG, UNMARKED, read_marks
from ..preprocessing.scaling import SparseScaler
from ..utils import check_feature_names_in, count_samples

FLOATS = [np.float64, np.float32]


def unfreeze(encoder: Any) -> Any:
    """Return the encoder that a FrozenEstimator holds, or the encoder itself."""
    while isinstance(encoder, FrozenEstimator):
        encoder = encoder.estimator
    return encoder


def is_own(encoder: Any) -> bool:
    """Say whether an encoder is of the user's own, and reads tables by itself.

    A subclass of TabularEncoder is, if it has another `transform`.
    """
    encoder = unfreeze(encoder)
    if isinstance(encoder, TabularEncoder):
        return type(encoder).transform is not TabularEncoder.transform
    return not isinstance(encoder, str | SparseScaler | None)


class OwnEncoder(BaseEstimator):
    """A fitted encoder of the user's own, whose output is checked against that in `fit`.

    Parameters
    ----------
    encoder : transformer

    Attributes
    ----------
    n_continuous_, code_sizes_ : int and tuple of int
        As those of a TabularEncoder: columns that one has marked come in the order of its own.
    n_unknown_ : int
        Columns without a mark; they come after those that are continuous.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def transform(self, X: Any, *, reset: bool = False) -> Any:
        """Return the matrix of finite numbers that the encoder makes of a table.

        Raises
        ------
        ValueError
            If it is something else, or if its columns are not those of the last call with `reset`.
        """
        table = self.encoder.transform(X)
        matrix = self._read_matrix(table, count_samples(X))
        is_named = is_frame(table) and all(isinstance(name, str) for name in table.columns)
        try:
            validate_data(self, table if is_named else matrix, reset=reset, skip_check_array=True)
        except ValueError as error:
            raise ValueError(
                f"The encoder {self.encoder!r} must return the same columns as in fit. {error}"
            ) from error
        marks = self._read_marks(table if isinstance(table, np.ndarray) else matrix)
        if reset:
            order = np.argsort(np.minimum(marks, FLAG + 1), kind="stable")  # codes last
            self._marks, self._order = marks, None if (np.diff(order) == 1).all() else order
            self.n_continuous_ = int(np.count_nonzero(marks == CONTINUOUS))
            self.n_unknown_ = int(np.count_nonzero(marks == UNMARKED))
            self.code_sizes_ = tuple(marks[marks > FLAG].tolist())
        elif not np.array_equal(marks, self._marks):
            raise ValueError(
                f"The encoder {self.encoder!r} must return the same columns as in fit, but now "
                f"has other codes for levels: {marks.tolist()} and not {self._marks.tolist()}."
            )
        if self.code_sizes_:
            codes = matrix[:, marks > FLAG]
            if not ((codes >= 0) & (codes < self.code_sizes_) & (codes == np.floor(codes))).all():
                raise ValueError(
                    f"The encoder {self.encoder!r} returned numbers in place of the codes of its "
                    "TabularEncoder. Let no step compute with them."
                )
        return matrix if self._order is None else matrix[:, self._order]

    def name_columns(self) -> list[str]:
        """Return the names of the columns of the result; x0, x1, ... where the encoder has none."""
        if hasattr(self.encoder, "get_feature_names_out"):
            names = self.encoder.get_feature_names_out()
        else:
            names = check_feature_names_in(self)
        return list(names if self._order is None else names[self._order])

    def _read_matrix(self, table: Any, n_samples: int) -> Any:
        """Return the output as a matrix of finite floats, with a row for each of X."""
        categories = name_levels(table) if is_frame(table) else []
        if categories:
            raise ValueError(
                f"The encoder {self.encoder!r} must return numbers, but its columns {categories!r} "
                "are categories. Put it before the classifier in a pipeline, with encoder='auto', "
                "which reads them."
            )
        try:
            matrix = check_array(table, dtype=FLOATS, accept_sparse="csr")
        except ValueError as error:
            raise ValueError(
                f"The encoder {self.encoder!r} must return a table of finite numbers: {error} "
                "Let it make numbers of all values, for instance with SimpleImputer in a pipeline, "
                "or take encoder='auto'."
            ) from error
        if matrix.shape[0] != n_samples:
            raise ValueError(
                f"The encoder {self.encoder!r} must return a row for each of the {n_samples} rows "
                f"of X, but returned {matrix.shape[0]}."
            )
        return matrix

    def _read_marks(self, matrix: Any) -> np.ndarray:
        """Return what the columns are, by the marks of the encoders within.

        Raises
        ------
        ValueError
            If columns of codes were lost on the way, or taken for numbers.
        """
        marks = read_marks(matrix)
        n_codes = sum(len(encoder.code_sizes_) for encoder in _find_tabular(self.encoder))
        if n_codes > np.count_nonzero(marks > FLAG):
            raise ValueError(
                f"The encoder {self.encoder!r} holds a TabularEncoder whose codes are not among "
                "the columns that it returns. They are names of levels, with which no other step "
                "can compute. Let TabularEncoder be the last step, set sparse_threshold=0 in a "
                "ColumnTransformer, or make flags of all levels by a large max_one_hot."
            )
        return marks


def _find_tabular(part: Any) -> set[TabularEncoder]:
    """Return the fitted TabularEncoders within an encoder, or a list or dict of steps."""
    if isinstance(part, TabularEncoder):
        return {part} if hasattr(part, "code_sizes_") else set()
    part = vars(part) if isinstance(part, BaseEstimator) else part
    parts = list(part.values()) if isinstance(part, dict) else part
    return set().union(*map(_find_tabular, parts)) if isinstance(parts, list | tuple) else set()


Encoder = TabularEncoder | OwnEncoder | SparseScaler | None
"""What makes numbers of a table; None where it enters the network as it is."""

TAKES_NUMBERS = SparseScaler | None
"""Those for which a table must hold numbers, none missing."""


def choose_encoder(parameters: Any) -> Any:
    """Return what `encoder` says: "auto" is None for the parameters of MLPClassifier."""
    is_mlp = parameters.max_fun is not None
    return None if is_mlp and isinstance(parameters.encoder, str) else parameters.encoder


def make_encoder(encoder: Any, categorical_features: Any, X: Any) -> Any:
    """Return an encoder to fit, or None where the table enters the network as it is.

    "auto" only scales sparse tables: to shift their columns would make them dense.

    Raises
    ------
    ValueError
        If categories are named that no TabularEncoder would see.
    """
    is_automatic = isinstance(encoder, str)
    if is_automatic and not (issparse(X) or is_sparse_frame(X)):
        return TabularEncoder(categorical_features)
    is_named = categorical_features is not None and not isinstance(categorical_features, str)
    # An encoder from `resolved_params_` may have the same parameter.
    own = np.asarray(getattr(encoder, "categorical_features", None), object)
    if is_named and not np.array_equal(own, np.asarray(categorical_features, object)):
        what = "a sparse table" if is_automatic else f"encoder={encoder!r}"
        raise ValueError(
            f"categorical_features={categorical_features!r} are for encoder='auto' and dense "
            f"tables, and have no effect with {what}. Leave them at 'from_dtype'; an encoder of "
            "your own is told by its own parameters."
        )
    if is_automatic:
        return SparseScaler()
    # Frozen parts are copied too: refitting them changes no model.
    return None if encoder is None else deepcopy(clone(encoder))


def get_encoder(fitted: Encoder) -> Any:
    """Return the encoder that the user gave."""
    return fitted.encoder if isinstance(fitted, OwnEncoder) else fitted


def keep_encoder(fitted: Encoder, wanted: Any) -> Encoder:
    """Return the encoder that the network has learned with, if it is the one that is wanted.

    Raises
    ------
    ValueError
        If they are of different kinds or have different parameters.
    """
    known, wanted = get_encoder(fitted), unfreeze(wanted)
    is_auto = getattr(wanted, "min_frequency", None) == "auto"
    if is_auto and isinstance(known, TabularEncoder) and known.min_frequency == 2:
        wanted = clone(wanted).set_params(min_frequency=2)  # the default of release 0.1
    # Their text is compared, without addresses: objects in a clone have others.
    first, second = (re.sub(r" at 0x[0-9a-fA-F]+", "", repr(e)) for e in (known, wanted))
    is_unscaled = known is None and isinstance(wanted, SparseScaler)  # there was nothing to scale
    if first != second and not is_unscaled:
        raise ValueError(
            "Training can only go on with the same encoder: the network has learned with "
            f"{known!r}, but now it is {wanted!r}. Set it back, pass tables of the same kind, or "
            "train anew with warm_start=False."
        )
    return fitted


def fit_encoder(encoder: Any, X: Any, y: Any, sample_weight: Any, *, is_part: bool) -> Any:
    """Fit an encoder, with weights where it takes them; return what encodes."""
    if encoder is None:
        return None
    if sample_weight is not None and has_fit_parameter(encoder, "sample_weight"):
        encoder.fit(X, y, sample_weight=sample_weight)
    else:
        encoder.fit(X, y)
    if isinstance(encoder, SparseScaler):
        return encoder if np.isfinite(encoder.sizes_).any() else None
    if is_part and isinstance(encoder, TabularEncoder):  # later parts teach it nothing
        warn_of(CONSTANT, encoder._find_constant())
    encoder = unfreeze(encoder)
    if is_own(encoder):
        return OwnEncoder(encoder)
    encoder._summaries = None  # a model does not carry what only more parts would need
    return encoder


def encode(
    encoder: Encoder,
    X: Any,
    dtype: np.dtype | None = None,
    *,
    reset: bool = False,
) -> Any:
    """Return the matrix that an encoder makes of a table.

    A TabularEncoder alone writes it in `dtype`, unless that is None. With `reset` it compares the
    names of X with those of its own fit, and an encoder of the user's own stores what columns it
    makes; without, the names must have been compared before, and the columns are checked.
    """
    if encoder is None:
        return X
    if isinstance(encoder, TabularEncoder):
        matrix, matches = encoder._encode(encoder._open(X, reset=False if reset else None), dtype)
        encoder._warn_of_unknown([matches])
        return matrix
    if isinstance(encoder, OwnEncoder):
        return encoder.transform(X, reset=reset)
    return encoder.transform(X)
