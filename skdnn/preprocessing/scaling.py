"""Scaling of numeric columns to numbers around 0, by their quartiles.

Columns of sparse tables are scaled without centring, and only those of large numbers: word counts,
frequencies and flags enter a network as they are. Larger numbers, such as incomes that a
`ColumnTransformer` has made sparse, are scaled.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.sparse import csc_array, issparse
from sklearn.base import BaseEstimator, TransformerMixin

from ..utils import ROUNDING, find_stack_level
from .categories import CONTINUOUS, FLAG
from .summaries import NumberSummary

QUARTILES = np.array([0.25, 0.5, 0.75])

SATURATION = 3.0
"""Where the smooth clipping of a number levels off."""

REST, GAP, BREADTH = 0.1, 3.5, 0.5
"""When a column is a spike and a broad rest.

The rest has at least the share `REST` of the weight; three quarters of it are farther from the
center than `GAP` times the distance at which the spike's scale saturates; and the quartiles of its
distances differ by at least `BREADTH` times their median, which excludes a single value with a
meaning of its own. The tail of a distribution, even Cauchy's or a lognormal one, is no such rest:
it begins where the middle ends.
"""

ENDLESS = 1e100
"""Numbers are cut here before smooth clipping: larger ones give the same, and would overflow."""

HUGE = 2.0**960
"""Numbers above this are scaled down, since differences and sums of two could overflow."""


LARGE = 16.0
"""Columns whose numbers are all within this are not scaled."""

FULL = 0.5
"""Share of rows with a number above which a column is dense."""

LARGEST_RATIO = 4.0
"""Largest ratio of median and size of a column with numbers in most rows: without centring, one
farther from 0 is like a constant."""


class NumberScale(NamedTuple):
    """The scaling of one numeric column: ``u = (x * scale - center) / spread``.

    The scale is 1 but for columns of huge numbers. The spread of a constant column is infinite, of
    an empty one NaN. A step, which has two values, goes from ``u = 0`` to ``u = 1``; it becomes a
    flag.
    """

    scale: float
    center: float
    spread: float
    is_step: bool
    mean: float  # of u, for a step
    missing: float  # share of the weight

    @property
    def is_empty(self) -> bool:
        """Whether the column had no value in `fit`."""
        return bool(np.isnan(self.spread))

    @property
    def is_constant(self) -> bool:
        """Whether the column had a single value in `fit`."""
        return bool(np.isinf(self.spread))

    @property
    def outputs(self) -> list[tuple[int, str]]:
        """The mark of each column that this one becomes, and the end of its name."""
        value = (FLAG if self.is_step else CONTINUOUS, "")
        return [value, (FLAG, "_missing")] if self.missing and not self.is_empty else [value]


class Scaling:
    """The scales of all numeric columns, as arrays of shape (n_numeric,)."""

    def __init__(self, columns: Sequence[NumberScale]) -> None:
        values = np.array(columns, dtype=np.float64).reshape(-1, len(NumberScale._fields))
        self.scale, self.center, self.spread, is_step, self.mean, self.missing = values.T.copy()
        self.is_step, self.has_missing = is_step > 0.0, self.missing > 0.0

    def encode(self, x: np.ndarray, is_missing: np.ndarray) -> np.ndarray:
        """Clip u smoothly, or make it a flag of mean 0; (n_samples, n_numeric) -> the same."""
        u, is_step = self._standardize(x), self.is_step
        encoded = clip_smoothly(u, SATURATION)
        encoded[:, is_step] = 2.0 * (np.clip(u[:, is_step], 0.0, 1.0) - self.mean[is_step])
        encoded[is_missing] = 0.0
        return encoded

    def slopes(self, x: np.ndarray, is_missing: np.ndarray) -> np.ndarray:
        """Return the derivative of `encode` with respect to x, of the same shape."""
        u = self._standardize(x)
        with np.errstate(over="ignore"):  # the spread may be next to nothing
            rise = np.minimum(self.scale / self.spread, np.finfo(np.float64).max / 2)
        slopes = rise * find_slopes(u, SATURATION)
        # At the ends, where the training rows are, the slope is that of the way between them.
        is_between = (u >= 0.0) & (u <= 1.0)
        slopes = np.where(self.is_step, 2.0 * rise * is_between, slopes)
        slopes[is_missing] = 0.0
        return slopes

    def _standardize(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # infinity is clipped like any large number
            return (np.multiply(x, self.scale, dtype=np.float64) - self.center) / self.spread


def clip_smoothly(u: np.ndarray, limit: float) -> np.ndarray:
    """Return ``u / sqrt(1 + (u / limit)^2)``."""
    u = np.clip(u, -ENDLESS, ENDLESS)
    return u / np.sqrt(1.0 + (u * (1.0 / limit)) ** 2)


def find_slopes(u: np.ndarray, limit: float) -> np.ndarray:
    """Return the derivative of `clip_smoothly` at u."""
    return (1.0 + (np.clip(u, -ENDLESS, ENDLESS) / limit) ** 2) ** -1.5


def fit_number(summary: NumberSummary) -> NumberScale:
    """Choose shift and scale of a numeric column."""
    x, weights = summary.values()
    total = weights.sum()
    missing = float(summary.missing / (total + summary.missing))
    if len(x) < 2:
        return NumberScale(1.0, 0.0, np.inf if len(x) else np.nan, False, 0.0, missing)
    q25, median, q75 = find_quartiles(x, weights)
    is_step = len(x) == 2
    has_quartiles = q25 < q75 and not is_step
    ends = (q25, q75) if has_quartiles else (x[0], x[-1])
    scale = 2.0**-60 if max(np.abs(ends)) > HUGE else 1.0
    if is_step:
        low, high = (x * scale).tolist()
        return NumberScale(scale, low, high - low, True, float(weights[1] / total), missing)
    x = x if scale == 1.0 else x * scale
    center = float(median * scale)
    if has_quartiles:
        spread = float(q75 * scale - q25 * scale)
    else:
        distances, of_others = _find_distances(x, weights, center, 0.0)
        spread = float(find_quartiles(distances, of_others)[1])
    spread = _look_beyond_spike(x, weights, center, spread)
    return NumberScale(scale, center, spread, False, 0.0, missing)


def _look_beyond_spike(x: np.ndarray, weights: np.ndarray, center: float, spread: float) -> float:
    """Return the spread, or the usual distance of a broad rest that it would clip."""
    while True:
        end = SATURATION * spread
        distances, of_rest = _find_distances(x, weights, center, end)
        if of_rest.sum() < REST * (1.0 - ROUNDING) * weights.sum():
            return spread
        near, usual, far = find_quartiles(distances, of_rest).tolist()
        if near < GAP * end or far - near < BREADTH * usual:
            return spread
        spread = usual


def _find_distances(
    x: np.ndarray, weights: np.ndarray, center: float, end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return, sorted, the distances from the center that are greater than some, and weights."""
    is_far = np.ones(len(x), dtype=bool)
    is_far[np.searchsorted(x, center - end) : np.searchsorted(x, center + end, "right")] = False
    distances = np.abs(x[is_far] - center)
    order = np.argsort(distances, kind="stable")
    return distances[order], weights[is_far][order]


def find_quartiles(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the smallest values that at least 25%, 50% and 75% of the weight do not exceed."""
    totals = np.cumsum(weights)
    return x[np.searchsorted(totals, QUARTILES * (1.0 - ROUNDING) * totals[-1])]


def order_rows(
    weights: np.ndarray | None,
) -> tuple[np.ndarray | None, np.ndarray | None, float]:
    """Return the rows of weight above 0 in ascending order of weights, these, and their unit.

    An order of None stands for all rows as they are, and weights of None for as many ones. The unit
    is the weight that all rows have, or else the power of two that is next to the largest weight:
    in this unit no sum overflows or vanishes. A weight that becomes 0 by that is too small beside
    the largest to change any sum.
    """
    if weights is None:
        return None, None, 1.0
    exponent = np.frexp(weights.max())[1] - 1
    weights = np.ldexp(weights, -exponent)
    order = np.argsort(weights, kind="stable")  # so that no sum depends on the order of the rows
    order = order[np.count_nonzero(weights == 0.0) :]
    weights = weights[order]
    if weights[0] == weights[-1]:
        return order, None, float(np.ldexp(weights[0], exponent))
    return order, weights, float(np.ldexp(1.0, exponent))


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
            weights = np.ones(len(rows)) if sample_weight is None else sample_weight[rows[order]]
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

    def transform(self, X: Any) -> Any:
        """Scale the columns found; a sparse table shares its structure with the result."""
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
