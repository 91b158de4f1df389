"""Scaling of numeric columns to numbers around 0, by their quartiles.

Quartiles are those of the distinct values of a column, by their weights. So an encoder that learns
from part after part of a table keeps these, or a sketch of them if there are many.

Columns of sparse tables are scaled without centring, and only those of large numbers: word counts,
frequencies and flags enter a network as they are. Larger numbers, such as incomes that a
`ColumnTransformer` has made sparse, are scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from scipy.sparse import csc_array, issparse
from sklearn.base import BaseEstimator, TransformerMixin

from ..utils import ROUNDING
from .columns import warn_of

QUARTILES = np.array([0.25, 0.5, 0.75])

SATURATION = 3.0
"""Where the smooth clipping of a number levels off."""

ENDLESS = 1e100
"""Numbers are cut here before smooth clipping: larger ones give the same, and would overflow."""

LARGEST = float(np.finfo(np.float64).max)
"""A spread is no larger: an infinite one is that of a constant column."""

SKETCH_SIZE = 4096
"""Distinct numbers that are kept of a part, or of several parts that were merged."""

LARGE = 16.0
"""Columns of sparse tables whose numbers are all within this are not scaled."""

FULL = 0.5
"""Share of rows with a number above which a column of a sparse table is dense."""

NOT_SPARSE = (
    "Columns {} of the sparse table X have large numbers in most rows. They are brought to the "
    "scale of the others, but not centred, and have no embedding. A network learns more of a dense "
    "table: X.toarray(), or sparse_threshold=0 in a ColumnTransformer; or scale these columns "
    "before they are made sparse."
)

Sketch: TypeAlias = tuple[int, np.ndarray, np.ndarray]
"""Its rank, values in ascending order, and their weights; see `merge_sketches`."""

NumberSummary: TypeAlias = tuple[float, Sequence[Sketch]]
"""What is kept of the rows of a numeric column: the weight of missing values, and sketches."""


Scale: TypeAlias = tuple[float, float, bool, float, float]
"""The scaling of a numeric column: a row of `Scaling`."""

SCALE_LENGTH = 5
"""Length of such a row."""


class Scaling:
    """The scaling of numeric columns: ``u = (x - center) / spread``.

    The spread of a constant column is infinite, of an empty one NaN. A step, which has two values,
    goes from ``u = 0`` to ``u = 1``, with a mean of u; it becomes a flag. `missing` is a share of
    the weight.

    Parameters
    ----------
    columns : ndarray of shape (n_numeric, 5)
        Their center, spread, whether it is a step, mean and missing; attributes of shape
        (n_numeric,).
    """

    def __init__(self, columns: np.ndarray) -> None:
        self.center, self.spread, is_step, self.mean, self.missing = columns.T.copy()
        self.is_step, self.has_missing = is_step > 0.0, self.missing > 0.0

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers, clipped smoothly or as flags of mean 0, and the flags of missing ones.

        Shapes: (n_samples, n_numeric) -> the same, and (n_samples, n_has_missing).
        """
        is_missing, is_step = np.isnan(x), self.is_step
        with np.errstate(over="ignore"):  # infinity is clipped like any large number
            u = (x - self.center) / self.spread
        encoded = clip_smoothly(u, SATURATION)
        encoded[:, is_step] = 2.0 * (np.clip(u[:, is_step], 0.0, 1.0) - self.mean[is_step])
        encoded[is_missing] = 0.0
        return encoded, is_missing[:, self.has_missing] - self.missing[self.has_missing]

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """Return the derivative of the numbers of `encode` with respect to x."""
        with np.errstate(over="ignore"):  # the spread may be next to nothing
            u = (x - self.center) / self.spread
            rise = np.minimum(1.0 / self.spread, LARGEST / 2)
        slopes = rise * find_slopes(u, SATURATION)
        # At the ends, where the training rows are, the slope is that of the way between them.
        is_between = (u >= 0.0) & (u <= 1.0)
        slopes = np.where(self.is_step, 2.0 * rise * is_between, slopes)
        slopes[np.isnan(x)] = 0.0
        return slopes


def clip_smoothly(u: np.ndarray, limit: float) -> np.ndarray:
    """Return ``u / sqrt(1 + (u / limit)^2)``."""
    u = np.clip(u, -ENDLESS, ENDLESS)
    return u / np.sqrt(1.0 + (u * (1.0 / limit)) ** 2)


def find_slopes(u: np.ndarray, limit: float) -> np.ndarray:
    """Return the derivative of `clip_smoothly` at u."""
    return (1.0 + (np.clip(u, -ENDLESS, ENDLESS) / limit) ** 2) ** -1.5


def fit_number(
    before: NumberSummary | None, x: np.ndarray, weights: np.ndarray | None
) -> tuple[NumberSummary, Scale]:
    """Learn from more rows of a numeric column; NaN are missing.

    Weights are above 0, and 1 if None. Of a first part the distinct values are exact.
    """
    missing, sketches = before or (0.0, ())
    x, weights = collect(x, weights)
    n_values = len(x) - int(np.isnan(x[-1]))  # NaN comes last
    missing += float(weights[n_values:].sum())
    x, weights = x[:n_values], weights[:n_values]
    merged = merge_sketches(sketches, x, weights)
    if sketches:
        _, parts, of_parts = zip(*merged, strict=True)
        x, weights = collect(np.concatenate(parts), np.concatenate(of_parts))
    return (missing, merged), choose_scale(x, weights, missing)


def merge_sketches(sketches: Sequence[Sketch], x: np.ndarray, weights: np.ndarray) -> list[Sketch]:
    """Return sketches, in descending order of ranks, with distinct values and weights added.

    Sketches of the same rank are merged. One of more than `SKETCH_SIZE` values is cut down to so
    many, of equal weight, and has a rank more; of the sketches that are kept, none has the rank of
    another. So each row goes through ``2 + log2(n_parts)`` cuts at most, each of which moves no
    quantile by more than ``1 / (2 * SKETCH_SIZE)`` of the weight that is in it.
    """
    merged, rank = [*sketches], 0
    while True:
        if len(x) > SKETCH_SIZE:
            rank, (x, weights) = rank + 1, cut_down(x, weights)
        if not merged or merged[-1][0] > rank:
            return [*merged, (rank, x, weights)]
        _, others, of_others = merged.pop()
        x, weights = collect(np.append(others, x), np.append(of_others, weights))


def cut_down(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of `SKETCH_SIZE` slices of equal weight, and the weights of these."""
    totals = np.cumsum(weights)
    middles = (np.arange(SKETCH_SIZE) + 0.5) * (totals[-1] / SKETCH_SIZE)
    places, counts = np.unique(np.searchsorted(totals, middles), return_counts=True)
    return x[places], counts * (totals[-1] / SKETCH_SIZE)


def collect(x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of x in ascending order, and the sums of their weights."""
    if weights is None:
        return np.unique(x, return_counts=True)
    values, places = np.unique(x, return_inverse=True)
    return values, np.bincount(places, weights)


def choose_scale(x: np.ndarray, weights: np.ndarray, missing: float) -> Scale:
    """Choose shift and scale by the distinct values of a column, and the weight of missing ones."""
    total = weights.sum()
    missing = float(missing / (total + missing))
    if len(x) < 2:
        return 0.0, np.inf if len(x) else np.nan, False, 0.0, missing
    if len(x) == 2:
        low, high = x.tolist()
        return low, min(high - low, LARGEST), True, float(weights[1] / total), missing
    q25, median, q75 = find_quartiles(x, weights).tolist()
    spread = q75 - q25
    if spread == 0.0:
        with np.errstate(over="ignore"):
            distances = np.abs(x - median)
        order = np.argsort(distances)[1:]  # without that of the median itself
        spread = float(find_quartiles(distances[order], weights[order])[1])
    return median, min(spread, LARGEST), False, 0.0, missing


def find_quartiles(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the smallest values that at least 25%, 50% and 75% of the weight do not exceed."""
    totals = np.cumsum(weights, dtype=np.float64)
    return x[np.searchsorted(totals, QUARTILES * (1.0 - ROUNDING) * totals[-1])]


class SparseScaler(TransformerMixin, BaseEstimator):
    """Divide columns of large numbers by a usual one of theirs, and clip them smoothly.

    A column with a number beyond 16 becomes ``u / sqrt(1 + (u / 16)^2)`` with ``u = x / size``. The
    size is the weighted median of the absolute values that are not 0; where most rows have one,
    it is their quartile distance if that is less, but a quarter of the median at least, so that
    they differ. It is rounded to a power of two, and 1 at least: no column is scaled up. Zeros
    stay zeros, and other columns as they are.

    Attributes
    ----------
    sizes_ : ndarray of shape (n_features_in_,)
        The size of each column that is scaled, and infinity for the others.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: np.ndarray | None = None) -> Self:
        """Find columns of large numbers; `sample_weight` is an array or None."""
        X = abs(csc_array(X))
        X.eliminate_zeros()
        if sample_weight is not None and sample_weight.any():
            X, sample_weight = X[sample_weight > 0.0], sample_weight[sample_weight > 0.0]
        largest = X.max(axis=0).toarray().ravel()
        self.sizes_ = np.full(X.shape[1], np.inf)
        full = []
        for j in np.flatnonzero(largest > LARGE).tolist():
            part = slice(X.indptr[j], X.indptr[j + 1])
            rows = X.indices[part]
            weights = None if sample_weight is None else sample_weight[rows]
            q25, size, q75 = find_quartiles(*collect(X.data[part], weights))
            if len(rows) > FULL * X.shape[0]:
                full.append(j)
                size = min(size, max(q75 - q25, size / 4.0))
            self.sizes_[j] = max(2.0 ** np.round(np.log2(size)), 1.0)
        warn_of(NOT_SPARSE, full)
        return self

    def transform(self, X: Any) -> Any:
        """Scale the columns found; a sparse table shares its structure with the result."""
        if not issparse(X):
            return self._scale(X, self.sizes_)
        X = X.tocsr()
        scaled = self._scale(X.data, self.sizes_[X.indices])
        return type(X)((scaled, X.indices, X.indptr), shape=X.shape)

    def _input_slopes(self, X: Any) -> np.ndarray:
        """Return the derivative of each number of the result with respect to that of a dense X."""
        slopes = find_slopes(X / self.sizes_, LARGE) / self.sizes_
        return np.where(np.isinf(self.sizes_), 1.0, slopes)

    def _scale(self, x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        scaled = np.where(np.isinf(sizes), x, clip_smoothly(x / sizes, LARGE))
        return scaled.astype(x.dtype, copy=False)
