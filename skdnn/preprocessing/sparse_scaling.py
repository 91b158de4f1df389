"""Scale columns of large numbers in sparse tables, without centring.

Word counts, frequencies and flags enter a network as they are. Larger numbers beside them, such as
incomes, which a `ColumnTransformer` makes sparse by accident, are scaled.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csc_array, issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..utils import find_stack_level
from .scaling import clip_smoothly, find_quartiles, find_slopes

LARGE = 16.0
"""Columns whose numbers are all within this enter as they are, be they frequent or rare."""

FULL = 0.5
"""The share of rows with a number above which a column is no sparse one."""

LARGEST_RATIO = 4.0
"""Largest ratio of median and size of a column with numbers in most rows: without centring, one
farther from 0 is like a constant."""


class SparseScaler(TransformerMixin, BaseEstimator):
    """Divide columns of large numbers by a usual one of theirs, and clip them smoothly.

    A column with a number beyond 16 becomes ``u / sqrt(1 + (u / 16)^2)`` with ``u = x / size``. The
    size is the weighted median of the absolute values that are not 0; where most rows have one,
    it is their quartile distance if that is less, but a quarter of the median at least, so that
    they differ. It is rounded to a power of two, and 1 at least: no column is made louder. Zeros
    stay zeros, and other columns as they are.

    Attributes
    ----------
    sizes_ : ndarray of shape (n_features_in_,)
        The size of each column that is scaled, and infinity for the others.
    """

    def fit(self, X, y=None, sample_weight=None):
        """Find columns of large numbers; `sample_weight` is an array or None."""
        X = csc_array(X)
        if sample_weight is not None and sample_weight.any():
            X, sample_weight = X[sample_weight > 0.0], sample_weight[sample_weight > 0.0]
        largest = abs(X).max(axis=0).toarray().ravel()
        self.sizes_ = np.full(X.shape[1], np.inf)
        full = []
        for j in np.flatnonzero(largest > LARGE).tolist():
            part = slice(X.indptr[j], X.indptr[j + 1])
            rows, values = X.indices[part], np.abs(X.data[part]).astype(np.float64)
            rows, values = rows[values > 0.0], values[values > 0.0]
            order = np.argsort(values, kind="stable")
            weights = None if sample_weight is None else sample_weight[rows[order]]
            q25, size, q75 = find_quartiles(values[order], weights)
            if len(rows) > FULL * X.shape[0]:
                full.append(j)
                size = min(max(q75 - q25, size / LARGEST_RATIO), size) if q25 < q75 else size
            self.sizes_[j] = max(2.0 ** np.round(np.log2(size)), 1.0)
        if full:
            warnings.warn(
                f"Columns {full} of the sparse table X have large numbers in most rows. They are "
                "brought to the scale of the others, but not centred, and have no embedding. A "
                "network learns more of a dense table: X.toarray(), or sparse_threshold=0 in a "
                "ColumnTransformer; or scale these columns before they are made sparse.",
                UserWarning,
                stacklevel=find_stack_level(),
            )
        return self

    def transform(self, X):
        """Scale the columns found; a sparse table shares its structure with the result."""
        check_is_fitted(self)
        if not self.is_needed:
            return X
        if not issparse(X):
            return self._scale(X, np.broadcast_to(self.sizes_, X.shape))
        X = X.tocsr()
        scaled = self._scale(X.data, self.sizes_[X.indices])
        return type(X)((scaled, X.indices, X.indptr), shape=X.shape)

    def _input_slopes(self, X: Any) -> np.ndarray:
        """Return the derivative of each number of the result with respect to that of a dense X."""
        slopes = find_slopes(X / self.sizes_, LARGE) / self.sizes_
        return np.where(np.isinf(self.sizes_), 1.0, slopes)

    @property
    def source_features_(self) -> np.ndarray:
        """For each column of the result, the column of X that it comes from: itself."""
        return np.arange(len(self.sizes_))

    @property
    def is_needed(self) -> bool:
        """Whether there are columns to scale."""
        return bool(np.isfinite(self.sizes_).any())

    def _scale(self, x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        is_large, scaled = np.isfinite(sizes), x.copy()
        scaled[is_large] = clip_smoothly(x[is_large] / sizes[is_large], LARGE)
        return scaled
