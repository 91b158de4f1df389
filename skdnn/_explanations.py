"""From the members' logits to the estimator's, and what moves it: gradients at the input."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_expit

from .utils import fill_masked


def average_logits(logits: np.ndarray) -> np.ndarray:
    """Return the logit of the members' mean probability: (n_samples,) of float64."""
    logits = logits.astype(np.float64, copy=False)
    if len(logits) == 1:
        return logits[0]
    return _log_sum(log_expit(logits)) - _log_sum(log_expit(-logits))


def join_logits(
    numbers: np.ndarray, logits: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each number once, in ascending order, and the logit of its mean probability.

    Parameters
    ----------
    numbers : ndarray of int of shape (n_samples,)
        Of whom each logit is.
    logits : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,)
        Of each in the mean, above zero.
    """
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    z, log_weight = logits[order].astype(np.float64), np.log(weight[order], dtype=np.float64)
    of_first, of_second = (
        np.logaddexp.reduceat(log_weight + log_expit(sign * z), starts) for sign in (-1.0, 1.0)
    )
    return found, of_second - of_first


def average_gradients(logits: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Return the gradient of the averaged logit: (n_samples, n_features).

    With p the mean of the members' probabilities p_m, and s_m = p_m (1 - p_m) the slope of each,
    ``d logit(p) / dx = mean_m(s_m dz_m/dx) / (p (1 - p))``. As ``1 - p`` is a mean of its own and
    s_m = sigmoid(z_m) sigmoid(-z_m), no difference of nearly equal numbers is taken.

    Parameters
    ----------
    logits : ndarray of shape (n_members, n_samples)
    grads : ndarray of shape (n_members, n_samples, n_features)
        Of each member's logit.
    """
    if len(logits) == 1:
        return grads[0]
    log_slope = log_expit(logits) + log_expit(-logits)
    log_total = _log_sum(log_expit(logits)) + _log_sum(log_expit(-logits))
    shares = len(logits) * np.exp(log_slope - log_total)
    return np.einsum("mi,mij->ij", shares, grads)


def _log_sum(logarithms: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum over members; for one row SciPy's logsumexp is slow."""
    return np.logaddexp.reduce(logarithms, axis=0)


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
