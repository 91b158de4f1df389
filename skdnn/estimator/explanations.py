"""From the members' logits to the estimator's, and what moves it: gradients at the input."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ..utils import fill_masked


def integrate_gradients(
    gradient: Callable[[np.ndarray], np.ndarray], X: np.ndarray, baseline: Any, steps: Any
) -> np.ndarray:
    """Return the mean gradient on the way from a baseline to each row, times the way.

    ``(x - x') * mean_k gradient(x' + (k + 1/2) / steps (x - x'))``: the midpoint rule.
    """
    if not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}.")
    baseline = np.zeros(X.shape[1]) if baseline is None else fill_masked(baseline)
    start = np.asarray(baseline, dtype=np.float64)
    if start.shape != X.shape[1:] or not np.isfinite(start).all():
        raise ValueError(
            f"baseline must be one finite number for each of the {X.shape[1]} features, got an "
            f"array of shape {start.shape}."
        )
    is_missing = np.isnan(X).any(axis=0)
    if is_missing.any():
        raise ValueError(
            f"method='integrated' needs rows without missing values, but there are some in the "
            f"columns {np.flatnonzero(is_missing).tolist()}. Fill them, leave these rows out, or "
            "take method='gradient'."
        )
    way = X - start.astype(X.dtype)
    n_steps, total = int(steps), np.zeros(X.shape)
    for k in range(n_steps):
        total += gradient(X - way * ((n_steps - k - 0.5) / n_steps))
    return (way * (total / n_steps)).astype(X.dtype)


def sum_by_source(grads: np.ndarray, sources: np.ndarray, n_features: int) -> np.ndarray:
    """Add up the columns that come from the same feature.

    Parameters
    ----------
    grads : ndarray of shape (n_samples, n_columns)
    sources : ndarray of int of shape (n_columns,)
        The feature that each column comes from.
    n_features : int

    Returns
    -------
    sums : ndarray of shape (n_samples, n_features)
    """
    places = np.arange(len(sources)), sources
    return grads @ csr_array((np.ones(len(sources)), places), (len(sources), n_features))
