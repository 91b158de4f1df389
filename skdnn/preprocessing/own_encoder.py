"""An encoder of the user's own: copied, fitted, and its output checked as X is."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_array, validate_data

from ..utils import count_samples
from .columns import is_frame, name_levels
from .encoded_array import CONTINUOUS, FLAG, UNMARKED, read_marks
from .encoder import TabularEncoder
from .sparse_scaling import SparseScaler

FLOATS = [np.float64, np.float32]


def copy_encoder(encoder: Any) -> Any:
    """Return a clone to fit. Frozen parts are copied too: refitting them changes no model."""
    return deepcopy(clone(encoder))


def unfreeze(encoder: Any) -> Any:
    """Return the encoder that a FrozenEstimator holds, or the encoder itself."""
    while isinstance(encoder, FrozenEstimator):
        encoder = encoder.estimator
    return encoder


def is_tabular(encoder: Any) -> bool:
    """Say whether an encoder is a TabularEncoder, or a subclass with the same `transform`."""
    return (
        isinstance(encoder, TabularEncoder) and type(encoder).transform is TabularEncoder.transform
    )


def is_own(encoder: Any) -> bool:
    """Say whether an encoder is of the user's own, and reads tables by itself."""
    is_ours = encoder is None or isinstance(encoder, str | SparseScaler)
    return not is_ours and not is_tabular(unfreeze(encoder))


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
        Columns that nobody has marked; they come after those that are continuous.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def transform(self, X: Any, *, reset: bool = False) -> Any:
        """Return the matrix of finite numbers that the encoder makes of a table.

        Raises
        ------
        ValueError
            If it is something else, or if its columns are not those of the first call, which has
            to `reset` what is known of them.
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
            matrix = check_array(table, dtype=FLOATS, accept_sparse="csr", ensure_all_finite=False)
        except ValueError as error:
            raise ValueError(
                f"The encoder {self.encoder!r} must return a table of numbers: {error}"
            ) from error
        if not np.isfinite(matrix.data if issparse(matrix) else matrix).all():
            raise ValueError(
                f"The encoder {self.encoder!r} must return finite numbers, but returned NaN or "
                "infinity. Let it fill missing values, for instance with SimpleImputer in a "
                "pipeline, or take encoder='auto'."
            )
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
