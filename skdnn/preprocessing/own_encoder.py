"""An encoder of the user's own: copied, fitted, and its output checked as X is."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_array, validate_data

from ..utils import count_samples
from .columns import is_frame, name_levels
from .encoded_array import CONTINUOUS, FLAG, UNKNOWN, read_marks
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
        matrix = self._check_numbers(table)
        n_samples = count_samples(X)
        if matrix.shape[0] != n_samples:
            raise ValueError(
                f"The encoder {self.encoder!r} must return a row for each of the {n_samples} rows "
                f"of X, but returned {matrix.shape[0]}."
            )
        try:
            is_named = is_frame(table) and all(isinstance(name, str) for name in table.columns)
            named = table if is_named else matrix
            validate_data(self, named, reset=reset, skip_check_array=True)
        except ValueError as error:
            raise ValueError(
                f"The encoder {self.encoder!r} must return the same columns as in fit. {error}"
            ) from error
        marks = self._read_marks(table, matrix)
        if reset:
            self._arrange(marks)
        elif not np.array_equal(marks, self._marks):
            raise ValueError(
                f"The encoder {self.encoder!r} must return the same columns as in fit, but now "
                f"has other codes for levels: {marks.tolist()} and not {self._marks.tolist()}."
            )
        self._check_codes(matrix)
        return matrix if self._order is None else matrix[:, self._order]

    def _check_numbers(self, table: Any) -> Any:
        """Return the output as a matrix of finite floats."""
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
        values = matrix.data if issparse(matrix) else matrix
        if not np.isfinite(values).all():
            raise ValueError(
                f"The encoder {self.encoder!r} must return finite numbers, but returned NaN or "
                "infinity. Let it fill missing values, for instance with SimpleImputer in a "
                "pipeline, or take encoder='auto'."
            )
        return matrix

    def _read_marks(self, table: Any, matrix: Any) -> np.ndarray:
        """Return what the columns are, by the marks of the encoders within.

        Raises
        ------
        ValueError
            If columns of codes were lost on the way, or taken for numbers.
        """
        marks = read_marks(table if isinstance(table, np.ndarray) else matrix)
        if isinstance(self.encoder, TabularEncoder) and len(self.encoder._marks) == len(marks):
            return self.encoder._marks  # a subclass that returns an array of its own
        within = {id(encoder): encoder for encoder in _find_tabular(self.encoder)}.values()
        if sum(len(encoder.code_sizes_) for encoder in within) > np.count_nonzero(marks > FLAG):
            raise ValueError(
                f"The encoder {self.encoder!r} holds a TabularEncoder whose codes are not among "
                "the columns that it returns. They are names of levels, with which no other step "
                "can compute. Let TabularEncoder be the last step, set sparse_threshold=0 in a "
                "ColumnTransformer, or make flags of all levels by a large max_one_hot."
            )
        return marks

    def _arrange(self, marks: np.ndarray) -> None:
        """Put numbers to embed first, and codes last."""
        self._marks, is_code = marks, marks > FLAG
        order = np.argsort(np.minimum(marks, FLAG + 1), kind="stable")
        self._order = None if (np.diff(order) == 1).all() else order
        self.n_continuous_ = int(np.count_nonzero(marks == CONTINUOUS))
        self.n_unknown_ = int(np.count_nonzero(marks == UNKNOWN))
        self.code_sizes_ = tuple(marks[is_code].tolist())

    def _check_codes(self, matrix: Any) -> None:
        """Refuse codes that there cannot be, as by a step that computes with them."""
        if not self.code_sizes_:
            return
        sizes = self._marks[self._marks > FLAG]
        codes = matrix[:, self._marks > FLAG]
        if not ((codes >= 0) & (codes < sizes) & (codes == np.floor(codes))).all():
            raise ValueError(
                f"The encoder {self.encoder!r} returned numbers in place of the codes of its "
                "TabularEncoder. Let no step compute with them."
            )


def _find_tabular(part: Any) -> Iterator[TabularEncoder]:
    """Yield the fitted TabularEncoders within an encoder, or a list of steps."""
    if isinstance(part, TabularEncoder):
        if hasattr(part, "code_sizes_"):
            yield part
    elif isinstance(part, BaseEstimator):
        yield from _find_tabular(list(vars(part).values()))
    elif isinstance(part, list | tuple):
        for item in part:
            yield from _find_tabular(item)
    elif isinstance(part, dict):
        yield from _find_tabular(list(part.values()))
